//! A real Alertmanager of the test's own, which tells a receiver what it is told.

use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pulse::clickhouse::engine::cache_dir;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::ports::free_port;
use super::{PATIENCE, POLL};

/// A running Alertmanager; ends with the test.
pub(crate) struct Alertmanager {
    _child: Child,
    port: u16,
    client: Client<HttpConnector, Full<Bytes>>,
    dir: TempDir,
}

impl Alertmanager {
    /// Starts one that tells `url` within a second what begins and what ends, each alert by itself.
    pub(crate) async fn start(url: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = json!({
            "route": {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1d"},
            "receivers": [{"name": "test", "webhook_configs": [{"url": url, "send_resolved": true}]}],
        });
        // JSON is YAML.
        std::fs::write(dir.path().join("config.yml"), config.to_string()).unwrap();
        let (program, folder) = program();
        let child = Command::new(&program)
            .arg(format!("--config.file={}", dir.path().join("config.yml").display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Alone: it looks for no others.
            .arg("--cluster.listen-address=")
            .current_dir(folder.as_deref().unwrap_or(dir.path()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|problem| panic!("{}, which `make fetch-test` brings: {problem}", program.display()));
        let manager = Self { _child: child, port, client: Client::builder(TokioExecutor::new()).build_http(), dir };
        let ready = async {
            while manager.get("/-/ready").await.is_none() {
                tokio::time::sleep(POLL).await;
            }
        };
        let log = || std::fs::read_to_string(manager.dir.path().join("log")).unwrap_or_default();
        tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("Alertmanager does not answer: {}", log()));
        manager
    }

    /// Where it is told of alerts.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v2/alerts", self.port)
    }

    /// The alerts that go on, as it knows them.
    pub(crate) async fn alerts(&self) -> Vec<Value> {
        let answer = self.get("/api/v2/alerts").await.expect("Alertmanager answers");
        serde_json::from_slice(&answer).unwrap()
    }

    /// What it answers, if that is 200.
    async fn get(&self, path: &str) -> Option<Bytes> {
        let request = Request::get(format!("http://127.0.0.1:{}{path}", self.port)).body(Full::default()).unwrap();
        let answer = self.client.request(request).await.ok()?;
        let is_well = answer.status() == StatusCode::OK;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        is_well.then_some(body)
    }
}

/// The one that was fetched, and the folder in which its templates are; else the machine's.
fn program() -> (PathBuf, Option<PathBuf>) {
    let fetched = cache_dir().map(|cache| cache.join("alertmanager")).filter(|folder| folder.join("alertmanager").exists());
    fetched.map_or_else(|| ("prometheus-alertmanager".into(), None), |folder| (folder.join("alertmanager"), Some(folder)))
}
