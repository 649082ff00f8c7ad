//! A real S3 of the test's own: moto's server, with one bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pulse::clickhouse::engine::cache_dir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::ports::free_port;
use super::{PATIENCE, POLL};

/// The name of its bucket.
pub(crate) const BUCKET: &str = "events";
/// What says to it that a request is one for S3; it checks no signature.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A running store; ends with the test.
pub(crate) struct S3Server {
    _child: Child,
    port: u16,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let port = free_port();
        let child = Command::new("python3")
            .args(["-S", "-m", "moto.server", "-p", &port.to_string()])
            .env("PYTHONPATH", packages())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|problem| panic!("python3 does not run: {problem}"));
        let server = Self { _child: child, port, client: Client::builder(TokioExecutor::new()).build_http() };
        let answers = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("S3 does not answer: `make fetch-test` brings moto");
        server.ask(Method::PUT, &format!("/{BUCKET}")).await;
        server
    }

    /// What lets a program in.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "test".to_owned()), ("AWS_SECRET_ACCESS_KEY", "test".to_owned())]
    }

    /// The objects below a prefix, by name: one page of a list.
    pub(crate) async fn objects(&self, prefix: &str) -> BTreeMap<String, Bytes> {
        let list = self.ask(Method::GET, &format!("/{BUCKET}?list-type=2&prefix={prefix}/")).await;
        let list = String::from_utf8(list.to_vec()).unwrap();
        let mut objects = BTreeMap::new();
        for key in list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap()) {
            let object = self.ask(Method::GET, &format!("/{BUCKET}/{key}")).await;
            objects.insert(key.rsplit('/').next().unwrap().to_owned(), object);
        }
        objects
    }

    async fn ask(&self, method: Method, path: &str) -> Bytes {
        let request = Request::builder().method(method).uri(format!("http://127.0.0.1:{}{path}", self.port));
        let request = request.header("authorization", SIGNATURE).body(Full::default()).unwrap();
        let answer = self.client.request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.into_body().collect().await.unwrap().to_bytes()
    }
}

/// The packages of `tests/s3/requirements.txt`.
fn packages() -> PathBuf {
    let packages = cache_dir().expect("no cache directory").join("s3");
    assert!(packages.join("moto/server.py").exists(), "the server of S3 is not there: `make fetch-test` brings it");
    packages
}
