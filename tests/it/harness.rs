//! Starts pulse as a user would and talks to it as a client would.

pub(crate) mod alertmanager;
pub(crate) mod cgroup;
pub(crate) mod clickhouse;
pub(crate) mod clock;
pub(crate) mod engine;
pub(crate) mod fault;
pub(crate) mod fleet;
pub(crate) mod kafka;
pub(crate) mod kafka_log;
pub(crate) mod load;
pub(crate) mod mmdb;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod openapi;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod redis;
pub(crate) mod report;
pub(crate) mod s3;
mod topics;
pub(crate) mod volume;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use self::openapi::Exchange;

/// How long anything that must happen may take; a machine that builds beside the tests is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// Longest time that a program may run which ends by itself.
const LONGEST_RUN: Duration = Duration::from_secs(60 * 60);

/// A running pulse.
pub(crate) struct Pulse {
    pub(crate) child: Child,
    pub(crate) http: Http,
    dir: TempDir,
    environment: Vec<(String, String)>,
}

/// A client of one pulse. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) address: String,
    pub(crate) write_key: String,
    pub(crate) read_key: String,
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer: status and JSON body.
pub(crate) type Answer = (StatusCode, Value);

/// The program under test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pulse"))
}

impl Pulse {
    /// Starts pulse on an empty data directory.
    pub(crate) async fn start() -> Self {
        Self::start_with::<&str>(&[]).await
    }

    /// The same, with settings from the environment.
    pub(crate) async fn start_with<V: AsRef<str>>(environment: &[(&str, V)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), environment).await
    }

    /// Another instance of the fleet of `first`: a data directory of its own, the same keys.
    pub(crate) async fn start_beside<V: AsRef<str>>(first: &Self, environment: &[(&str, V)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(first.data_dir().join("keys.json"), dir.path().join("keys.json")).unwrap();
        Self::start_in(dir, environment).await
    }

    /// Starts pulse on a data directory, with settings from the environment.
    pub(crate) async fn start_in<V: AsRef<str>>(dir: TempDir, environment: &[(&str, V)]) -> Self {
        let environment = owned(environment);
        let (child, address) = spawn(&program(), dir.path(), &environment).await;
        let log = || std::fs::read_to_string(dir.path().join("test.log")).unwrap();
        let address = address.unwrap_or_else(|| panic!("pulse ended before it was ready: {}", log()));
        let keys = std::fs::read_to_string(dir.path().join("keys.json")).unwrap();
        let keys: Value = serde_json::from_str(&keys).unwrap();
        let key = |name: &str| keys[0][name].as_str().unwrap().to_owned();
        let client = client();
        Self { child, http: Http { address, write_key: key("write_key"), read_key: key("read_key"), client }, dir, environment }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends pulse at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts pulse again on its data directory; it listens elsewhere afterwards.
    pub(crate) async fn restart(&mut self) {
        let is_ready = self.restart_with::<&str>(&[]).await;
        assert!(is_ready, "pulse ended before it was ready");
    }

    /// The same, with more settings this once. `false` if it ended before it was ready.
    pub(crate) async fn restart_with<V: AsRef<str>>(&mut self, more: &[(&str, V)]) -> bool {
        let environment = [self.environment.clone(), owned(more)].concat();
        self.restart_of(&program(), &environment).await
    }

    /// Starts pulse again, but the program of another release.
    pub(crate) async fn restart_as(&mut self, release: &Path) {
        let environment = self.environment.clone();
        assert!(self.restart_of(release, &environment).await, "pulse ended before it was ready");
    }

    async fn restart_of(&mut self, program: &Path, environment: &[(String, String)]) -> bool {
        let (child, address) = spawn(program, self.dir.path(), environment).await;
        self.child = child;
        let is_ready = address.is_some();
        self.http.address = address.unwrap_or(std::mem::take(&mut self.http.address));
        is_ready
    }

    /// Asks pulse to end and returns whether it ended well.
    pub(crate) async fn stop(mut self) -> bool {
        self.drain().await
    }

    /// Asks pulse to end, which must end well; it can be started again.
    pub(crate) async fn end(&mut self) {
        assert!(self.drain().await);
    }

    async fn drain(&mut self) -> bool {
        signal(self.pid(), rustix::process::Signal::TERM);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("pulse did not drain").unwrap();
        if !ended.success() {
            let log = std::fs::read_to_string(self.data_dir().join("test.log")).unwrap();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            println!("pulse: {ended}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        ended.success()
    }

    /// Runs a statement in the embedded engine as the one who changes the schema, and returns what it answers.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let (user, password) = self.engine_login("pulse_migrator");
        let answer = self.ask_engine("/", &["--fail-with-body", "-H", &user, "-H", &password, "-d", statement]);
        answer.unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// What names a user of the embedded engine in a request, and what proves it.
    pub(crate) fn engine_login(&self, user: &str) -> (String, String) {
        let password = between(&self.engine_file("users.xml"), &format!("<{user}><password>"), "<");
        (format!("X-ClickHouse-User: {user}"), format!("X-ClickHouse-Key: {password}"))
    }

    /// Sends a request to the port of the embedded engine with these arguments of curl.
    pub(crate) fn ask_engine(&self, path: &str, arguments: &[&str]) -> Result<String, String> {
        let url = format!("http://127.0.0.1:{}{path}", self.engine_port());
        let output = std::process::Command::new("curl").args(["-sS", &url]).args(arguments).output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(answer) } else { Err(answer) }
    }

    pub(crate) fn engine_port(&self) -> u16 {
        between(&self.engine_file("config.xml"), "<http_port>", "<").parse().unwrap()
    }

    fn engine_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.data_dir().join("clickhouse").join(name)).unwrap()
    }

    /// The process of the embedded engine.
    pub(crate) fn engine_pid(&self) -> u32 {
        let own = self.pid();
        let children = std::fs::read_dir(format!("/proc/{own}/task")).unwrap().flat_map(|task| {
            let list = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        });
        children.into_iter().next().expect("pulse has no engine")
    }
}

fn between(text: &str, left: &str, right: &str) -> String {
    text.split(left).nth(1).unwrap().split(right).next().unwrap().to_owned()
}

/// What a program has said that ran to its end. One that has none is killed, and fails its test instead of holding up all others.
pub(crate) async fn output(command: &mut Command) -> Output {
    let ended = tokio::time::timeout(LONGEST_RUN, command.kill_on_drop(true).output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{command:?} does not end"));
    ended.unwrap_or_else(|problem| panic!("{command:?} does not run: {problem}"))
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn owned<V: AsRef<str>>(environment: &[(&str, V)]) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), value.as_ref().to_owned())).collect()
}

async fn spawn(program: &Path, dir: &Path, environment: &[(String, String)]) -> (Child, Option<String>) {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("test.log")).unwrap();
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .env("NO_COLOR", "1")
        // Tests ask the same again and again, and expect the newest.
        .env("PULSE__QUERY__MAX_CORES_PER_QUESTION", "1")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(address) = line.strip_prefix("pulse is ready at ") {
                return Some(address.to_owned());
            }
        }
        None
    };
    let address = tokio::time::timeout(PATIENCE, ready).await.expect("pulse was not ready in time");
    (child, address)
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("test.log")).unwrap_or_default();
            eprintln!("pulse ended: {:?}; its log:\n{log}", self.child.try_wait());
        }
    }
}

impl Http {
    /// The same, on connections of its own.
    pub(crate) fn fresh(&self) -> Self {
        Self { client: client(), ..self.clone() }
    }

    /// Where it listens, as `http://address`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request and reads the answer; an error if the connection broke.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let (method, uri, sent) = (request.method().clone(), request.uri().clone(), body_of(&request).await);
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|problem| format!("{problem}: {:?}", std::error::Error::source(&problem)))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|problem| problem.to_string())?.to_bytes();
            let answer = serde_json::from_slice(&body).unwrap_or(Value::Null);
            openapi::check(&Exchange { method: &method, path: uri.path(), sent: &sent, status, answer: &answer });
            Ok((status, answer))
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "timed out".to_owned())?
    }

    /// Sends a request and reads the answer with its headers.
    pub(crate) async fn respond(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let exchange = async {
            let (head, body) = self.client.request(request).await.unwrap().into_parts();
            Response::from_parts(head, body.collect().await.unwrap().to_bytes())
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("timed out")
    }

    /// A request without a key.
    pub(crate) fn keyless(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::builder().method(method).uri(format!("{}{path}", self.address)).body(Full::new(body.into())).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str, key: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("authorization", format!("Bearer {key}"))
            .body(Full::new(body.into()))
            .unwrap()
    }

    /// Sends events; an error if the connection broke.
    pub(crate) async fn try_capture(&self, body: &Value) -> Result<Answer, String> {
        self.send(self.request(Method::POST, "/v1/events", &self.write_key, body.to_string())).await
    }

    pub(crate) async fn capture(&self, body: &Value) -> Answer {
        self.try_capture(body).await.unwrap()
    }

    pub(crate) async fn query(&self, report: &str, body: &Value) -> Answer {
        let path = format!("/v1/query/{report}");
        self.send(self.request(Method::POST, &path, &self.read_key, body.to_string())).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, &self.read_key, "")).await.unwrap()
    }

    /// The body of an answer that is no JSON.
    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.client.request(self.request(Method::GET, path, &self.read_key, "")).await.unwrap();
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// A counter of the instance since its start.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.exported(name).await
    }

    /// A metric without labels.
    pub(crate) async fn exported<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> T {
        let metrics = self.text("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not exported")).parse().unwrap()
    }

    /// The ledger's totals once nothing waits.
    pub(crate) async fn settled(&self) -> Value {
        let settle = async {
            loop {
                let request = self.request(Method::GET, "/v1/ledger", &self.read_key, "");
                if let Ok((StatusCode::OK, ledger)) = self.send(request).await {
                    assert_conserved(&ledger["total"]);
                    if ledger["total"]["waiting"] == 0 {
                        return ledger["total"].clone();
                    }
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, settle).await.expect("events still wait")
    }

    /// All events stored, those of bots too, newest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let mut body = json!({"limit": 10_000, "include_bots": true});
            if !cursor.is_null() {
                body["cursor"] = cursor;
            }
            let (status, answer) = self.query("events", &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            events.extend(answer["result"]["events"].as_array().unwrap().iter().cloned());
            cursor = answer["result"]["next"].clone();
            if cursor.is_null() {
                return events;
            }
        }
    }
}

/// The body of a request as JSON; null if it is none, or encoded.
async fn body_of(request: &Request<Full<Bytes>>) -> Value {
    if request.headers().contains_key("content-encoding") {
        return Value::Null;
    }
    let body = request.body().clone().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

/// Leaves connections before pulse may close them for being idle (`http.header_timeout`): a request on one that is just closed fails.
fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(5)).build_http()
}

/// Asks until the answer is as expected: who is who is read a moment after what ties it.
pub(crate) async fn eventually<T: PartialEq + std::fmt::Debug>(ask: impl AsyncFn() -> T, expected: T) {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut found = ask().await;
    while found != expected && tokio::time::Instant::now() < until {
        tokio::time::sleep(POLL).await;
        found = ask().await;
    }
    assert_eq!(found, expected);
}

/// The law of conservation, at this very instant.
pub(crate) fn assert_conserved(total: &Value) {
    let of = |name: &str| total[name].as_u64().unwrap();
    let ended = of("stored") + of("duplicate") + of("filtered") + of("dead") + of("waiting");
    assert_eq!(of("received"), ended, "{total}");
}
