//! Golden requests: what each dialect is sent and what it answers, byte by byte.
//!
//! A change of a snapshot is a change of what clients see.

pub(super) mod cases;
pub(super) mod clients;

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::cases::{Case, DISABLED, IMPORT, READ, WRITE};
use super::fake_log::{FakeLog, Mood};
use crate::auth::Keys;
use crate::auth::keys::{KeyEntry, KeysConfig, write};
use crate::http::HttpConfig;
use crate::http::respond::json_response;
use crate::http::server::{Call, Server};
use crate::ingest::{Geo, Ingest, IngestConfig, IngestParts};

/// Events of the last fifty years are taken, so that the answers do not depend on the day of the test.
pub(super) fn config() -> IngestConfig {
    IngestConfig { max_event_age: std::time::Duration::from_secs(50 * 365 * 86_400), ..IngestConfig::default() }
}

/// A listener with nothing but the routes of the role.
pub(super) struct Edge {
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Edge {
    #[allow(clippy::disallowed_methods, reason = "tests own their tasks")]
    pub(super) async fn start(log: FakeLog, config: IngestConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let entry = |project: &str, [write_key, read_key, import_key]: [&str; 3], disabled| KeyEntry {
            admin_key: String::new(),
            origins: Vec::new(),
            project: project.to_owned(),
            write_key: write_key.to_owned(),
            read_key: read_key.to_owned(),
            import_key: import_key.to_owned(),
            disabled,
            demo: false,
        };
        let entries = [entry("shop", [WRITE, READ, IMPORT], false), entry("closed", [DISABLED, "", ""], true)];
        write(&dir.path().join("keys.json"), &entries).unwrap();
        let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
        let http = HttpConfig { listen: "127.0.0.1:0".to_owned(), ..HttpConfig::default() };
        let parts = IngestParts { limits: config.check().unwrap(), geo: Geo::default(), keys, body_timeout: http.body_timeout };
        let ingest = Ingest::new(log, parts);
        let server = Server::bind(&http).await.unwrap();
        let address = server.address().unwrap().to_string();
        let stop = CancellationToken::new();
        let ingest = Arc::new(ingest);
        let routes = move |call: Call| {
            let ingest = Arc::clone(&ingest);
            async move { ingest.answer(call).await.unwrap_or_else(|_| json_response(StatusCode::NOT_FOUND, b"not ingest's".to_vec())) }
        };
        tokio::spawn(server.serve(routes, stop.clone()));
        Self { address, client: Client::builder(TokioExecutor::new()).build_http(), stop, _dir: dir }
    }

    async fn send(&self, case: &Case) -> String {
        written(self.answer(case).await).await
    }

    /// The answer to a request: its status, its body as JSON, its headers.
    pub(super) async fn respond(&self, case: &Case) -> (u16, Value, HeaderMap) {
        let (head, body) = self.answer(case).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default(), head.headers)
    }

    async fn answer(&self, case: &Case) -> Response<hyper::body::Incoming> {
        self.client.request(request(case, &format!("http://{}{}", self.address, case.path))).await.unwrap()
    }

    /// A connection of one's own.
    #[allow(clippy::disallowed_methods, reason = "tests own their tasks")]
    pub(super) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection { sender }
    }
}

/// A connection to the listener.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// The answer to a request, as [`Edge::respond`]; none if the server has closed.
    pub(super) async fn respond(&mut self, case: &Case) -> Option<(u16, Value)> {
        self.sender.ready().await.ok()?;
        let mut request = request(case, &case.path);
        request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("pulse.example"));
        let (head, body) = self.sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Some((head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn request(case: &Case, uri: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(case.method).uri(uri);
    for (name, value) in &case.headers {
        request = request.header(*name, value.as_str());
    }
    request.body(Full::new(Bytes::from(case.body.clone()))).unwrap()
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An answer without what is different each time.
async fn written(response: Response<hyper::body::Incoming>) -> String {
    let mut text = format!("=> {}\n", response.status());
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in response.headers() {
        if !matches!(name.as_str(), "date" | "x-request-id") {
            headers.push(format!("{name}: {}\n", value.to_str().unwrap()));
        }
    }
    headers.sort();
    text += &headers.concat();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    text + &printable(&without_id(&String::from_utf8_lossy(&body)))
}

/// The id of a request is another each time.
fn without_id(body: &str) -> String {
    let Some((before, after)) = body.split_once(r#""requestId":""#) else { return body.to_owned() };
    let (_, after) = after.split_once('"').unwrap();
    format!(r#"{before}"requestId":"…"{after}"#)
}

/// On one line, and of what is long the beginning and its hash.
fn printable(text: &str) -> String {
    const MAX: usize = 4_000;
    let escaped: String = text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect();
    match escaped.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}… {} bytes {:x}\n", &escaped[..end], text.len(), xxhash_rust::xxh3::xxh3_64(text.as_bytes())),
        None => escaped + "\n",
    }
}

async fn transcript(edge: &Edge, cases: Vec<Case>) -> String {
    let mut text = String::new();
    for case in cases {
        writeln!(text, "--- {}\n{} {}", case.name, case.method, case.path).unwrap();
        for (name, value) in &case.headers {
            writeln!(text, "{name}: {value}").unwrap();
        }
        let body = String::from_utf8_lossy(&case.body);
        let shown = if body.len() > 600 {
            format!("{} bytes {:x}\n", body.len(), xxhash_rust::xxh3::xxh3_64(&case.body))
        } else {
            printable(&body)
        };
        text += &shown;
        text += &edge.send(&case).await;
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn events_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("events", transcript(&edge, cases::events()).await);
}

#[tokio::test]
async fn imports_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("import", transcript(&edge, cases::import()).await);
}

#[tokio::test]
async fn pixels_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("pixel", transcript(&edge, cases::pixel()).await);
}

#[tokio::test]
async fn segments_calls_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("segment", transcript(&edge, cases::segment()).await);
}

#[tokio::test]
async fn settings_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("settings", transcript(&edge, clients::settings()).await);
}

#[tokio::test]
async fn posthogs_events_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    insta::assert_snapshot!("posthog", transcript(&edge, clients::posthog()).await);
}

#[tokio::test]
async fn other_clients_are_answered_as_ever() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    for (name, cases) in [
        ("amplitude", clients::amplitude()),
        ("mixpanel", clients::mixpanel()),
        ("snowplow", clients::snowplow()),
        ("trackers", clients::trackers()),
        ("otlp", clients::otlp()),
    ] {
        insta::assert_snapshot!(name, transcript(&edge, cases).await);
    }
}

#[tokio::test]
async fn overload_is_answered_as_ever() {
    let each = || cases::one_of_each().into_iter().chain(clients::otlp().into_iter().take(2)).collect();
    let mut text = String::new();
    for mood in [Mood::Full, Mood::Failing] {
        let edge = Edge::start(FakeLog::new(mood), config()).await;
        text += &transcript(&edge, each()).await;
    }
    let config = IngestConfig { max_rate: 1, max_import_rate: 1, ..config() };
    let edge = Edge::start(FakeLog::new(Mood::Willing), config).await;
    text += &transcript(&edge, each()).await;
    text += &transcript(&edge, each()).await;
    insta::assert_snapshot!("overload", text);
}

#[tokio::test]
async fn segments_batches_are_taken_where_its_sdks_for_ruby_and_java_send_them() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    let batch = r#"{"sentAt":"2026-01-01T00:00:00.000Z","batch":[{"type":"track","event":"Order","userId":"ada","messageId":"m-1"}]}"#;
    let send = async |path: &str, key: &str| {
        let (status, answer, _) = edge.respond(&Case::post("batch", path, key, batch)).await;
        (status, answer["accepted"].as_u64(), answer["code"].as_str().map(str::to_owned))
    };
    for path in ["/v1/import", "/v1/import/"] {
        assert_eq!(send(path, WRITE).await, (200, Some(1), None), "{path}");
    }
    let refused = |status: u16, code: &str| (status, None, Some(code.to_owned()));
    // Who imports says so, and needs another key.
    assert_eq!(send("/v1/import?run=7", WRITE).await, refused(403, "wrong_key_kind"));
    assert_eq!(send("/v1/import", IMPORT).await, refused(400, "invalid_run"));
    assert_eq!(send("/v1/import", READ).await, refused(400, "invalid_run"));
    assert_eq!(send("/v1/import", "pulse_wk_other").await, refused(401, "invalid_key"));
}

#[tokio::test]
async fn importers_of_mixpanel_send_lines_and_are_told_what_failed() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), config()).await;
    let line = |more: &str| format!(r#"{{"event":"order","properties":{{"distinct_id":"ada","$insert_id":"i-1"{more}}}}}"#);
    let send = async |path: &str, body: String| {
        let (status, answer, _) = edge.respond(&Case::post("lines", path, WRITE, body).with("content-type", "application/x-ndjson")).await;
        (status, answer)
    };
    let good = format!("{}\n{}\n", line(""), line(""));
    let (status, answer) = send("/import?strict=1", good.clone()).await;
    assert_eq!((status, answer["status"].as_str(), answer["num_records_imported"].as_u64()), (200, Some("OK"), Some(2)));
    let bad = good + &line(r#","time":"now""#);
    let (status, answer) = send("/import?strict=1", bad.clone()).await;
    assert_eq!((status, answer["status"].as_str(), answer["num_records_imported"].as_u64()), (400, Some("Bad Request"), Some(2)));
    let failed = &answer["failed_records"];
    assert_eq!(failed.as_array().map(Vec::len), Some(1));
    assert_eq!((failed[0]["index"].as_u64(), failed[0]["insert_id"].as_str()), (Some(2), Some("i-1")));
    assert!(failed[0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{failed}");
    // Who does not ask for it is told that the rest is there.
    assert_eq!(send("/import", bad).await.0, 200);
}

/// What goes into the log is the same bytes, too.
#[test]
fn events_are_packed_as_ever() {
    let mut text = String::new();
    for case in cases::events().into_iter().filter(|case| case.has_fixed_events()) {
        let packed = super::packed(&case.body, case.is_lines());
        let packed: Vec<String> =
            packed.iter().map(|(events, bytes)| format!("{events} {:016x}", xxhash_rust::xxh3::xxh3_64(bytes))).collect();
        writeln!(text, "{}: {}", case.name, packed.join(", ")).unwrap();
    }
    insta::assert_snapshot!("packed", text);
}
