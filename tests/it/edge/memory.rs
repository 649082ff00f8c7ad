//! What a request may cost in memory.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Pulse;

/// What one request, and what any number of connections without a key may take, KiB.
const MOST: u64 = 16 << 10;

pub(super) fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// How far memory rises above what it is now until [`Self::most`] is asked, KiB.
struct Rise {
    pid: u32,
    before: u64,
}

impl Rise {
    fn of(pulse: &Pulse) -> Self {
        let rise = Self { pid: pulse.pid(), before: status(pulse.pid(), "VmRSS") };
        rise.begin_again();
        rise
    }

    /// Forgets the highest so far.
    fn begin_again(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
    }

    fn most(&self) -> u64 {
        status(self.pid, "VmHWM").saturating_sub(self.before)
    }
}

/// CPU time that a process has had, ms.
pub(super) fn cpu_ms(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold anything; a tick is a hundredth of a second.
    let numbers: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    [11, 12].map(|at: usize| numbers[at].parse::<u64>().unwrap() * 10).iter().sum()
}

const BOMB: &str = "2 GB of nothing";
/// CPU time that it may take, ms.
const BOMB_CPU: u64 = 200;

/// As many blanks as fit into a body of the largest size.
fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 16 << 20]).unwrap();
    let piece = encoder.finish().unwrap();
    piece.repeat((2 << 20) / piece.len())
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub(super) async fn connect(pulse: &Pulse) -> TcpStream {
    TcpStream::connect(pulse.http.address().trim_start_matches("http://")).await.unwrap()
}

/// Events after which an instance has what it needs for any.
pub(super) const WARM: u64 = 20;

pub(super) async fn warm(pulse: &Pulse) {
    for _ in 0..WARM {
        super::good(&pulse.http).await;
    }
    pulse.http.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_costs_no_more_than_itself_whatever_it_inflates_to() {
    let pulse = Pulse::start().await;
    warm(&pulse).await;
    let size = 8 << 20;
    let texts = [
        ("one long list, cut short", format!("[1{}", ",1".repeat(size / 2 - 2))),
        ("one long list", format!("[1{}]", ",1".repeat(size / 2 - 2))),
        ("twice as long", format!("[1{}", ",1".repeat(size - 2))),
        ("lists in lists", "[".repeat(size)),
        ("short lines", "x\n".repeat(size / 2)),
        ("a long line", "x".repeat(17 << 20)),
        ("nothing", " ".repeat(64 << 20)),
        ("objects", format!("[{{}}{}]", ",{}".repeat(size / 3 - 2))),
    ];
    let texts = texts.into_iter().map(|(name, text)| (name, gzip(text.as_bytes())));
    for (name, body) in texts.chain([(BOMB, bomb())]) {
        for (path, kind) in [("/v1/events", "application/json"), ("/v1/events", "application/x-ndjson"), ("/v1/import?run=1", "text/plain")]
        {
            let key = if path == "/v1/events" { &pulse.http.write_key } else { &pulse.http.read_key };
            let ask = || {
                let mut request = pulse.http.request(Method::POST, path, key, body.clone());
                request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
                request.headers_mut().insert("content-type", kind.parse().unwrap());
                request
            };
            let Cost { status, answer, rise, cpu } = cost(&pulse, ask).await;
            println!("{name} to {path} as {kind}: {status}, {} KiB, {rise} KiB of memory, {cpu} ms of CPU", body.len() >> 10);
            assert!(status.is_client_error() || path != "/v1/events", "{name}: {status} {answer}");
            assert!(rise < MOST, "{name} to {path} as {kind}: {rise} KiB");
            assert!(cpu < BOMB_CPU || name != BOMB, "{name} to {path} as {kind}: {cpu} ms");
        }
    }
    super::good(&pulse.http).await;
}

/// What a request is answered, and what it takes: KiB of memory and ms of CPU time.
struct Cost {
    status: StatusCode,
    answer: Value,
    rise: u64,
    cpu: u64,
}

/// What else the instance does meanwhile is not the request's: the least of some, all above what was there before the first.
async fn cost(pulse: &Pulse, ask: impl Fn() -> Request<Full<Bytes>>) -> Cost {
    let (before, mut rise, mut answered) = (Rise::of(pulse), u64::MAX, None);
    let cpu = cpu_ms(pulse.pid());
    for _ in 0..3 {
        before.begin_again();
        answered = Some(pulse.http.send(ask()).await.unwrap());
        rise = rise.min(before.most());
    }
    let (status, answer) = answered.unwrap();
    Cost { status, answer, rise, cpu: (cpu_ms(pulse.pid()) - cpu) / 3 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_any_dialect_and_any_question_costs_no_more_than_itself() {
    let pulse = Pulse::start().await;
    warm(&pulse).await;
    let size = 8 << 20;
    let keys: String = (0..600_000).map(|key| format!("\"k{key}\":0,")).collect();
    let texts = [
        ("one long list, cut short", format!("[1{}", ",1".repeat(size / 2 - 2))),
        ("a batch of nothing", format!("{{\"batch\":[{{}}{}]}}", ",{}".repeat(size / 3 - 20))),
        ("a wide object", format!("{{{keys}\"k\":0}}")),
        ("a list in an event", format!("{{\"batch\":[{{\"properties\":{{\"a\":[1{}]}}}}]}}", ",1".repeat(size / 2 - 40))),
    ];
    let dialects = [
        "/v1/batch",
        "/batch/",
        "/track",
        "/2/httpapi",
        "/api/event",
        "/api/send",
        "/api/s/track",
        "/mp/collect",
        "/openpanel/track",
        "/com.snowplowanalytics.snowplow/tp2",
        "/v1/logs",
    ];
    for (name, text) in &texts {
        let body = gzip(text.as_bytes());
        for path in dialects {
            let ask = || {
                let mut request = pulse.http.request(Method::POST, path, &pulse.http.write_key, body.clone());
                request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
                request.headers_mut().insert("content-type", "application/json".parse().unwrap());
                request
            };
            let Cost { status, rise, .. } = cost(&pulse, ask).await;
            println!("{name} to {path}: {status}, {rise} KiB of memory");
            assert!(!status.is_server_error() && rise < MOST, "{name} to {path}: {status}, {rise} KiB");
        }
        // As much of it as a question may have, as it is and in the place of a member.
        let part = &text[..text.len().min((1 << 20) - 100)];
        for body in [part.to_owned(), format!("{{\"from\":\"-1d\",\"series\":{part}")] {
            for path in ["/v1/query/trends", "/v1/query", "/mcp"] {
                let ask = || pulse.http.request(Method::POST, path, &pulse.http.read_key, body.clone());
                let Cost { status, rise, .. } = cost(&pulse, ask).await;
                println!("{name} to {path}: {status}, {rise} KiB of memory");
                assert!(!status.is_server_error() && rise < MOST, "{name} to {path}: {status}, {rise} KiB");
            }
        }
    }
    super::good(&pulse.http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_large_events_costs_some_pages_and_not_what_was_asked_for() {
    let pulse = Pulse::start().await;
    warm(&pulse).await;
    // The longest values, as many as an event takes.
    let properties: Value = (0..6).map(|number| (format!("text{number}"), json!("\"x".repeat(4_000)))).collect();
    for _ in 0..30 {
        let event =
            |_| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "large", "anonymousId": "ada", "properties": properties});
        let events: Vec<Value> = (0..20).map(event).collect();
        assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK);
    }
    pulse.http.settled().await;
    // Thirty megabytes as they are stored, and half as much again as JSON.
    let ask = || {
        let body = json!({"event": "large", "limit": 10_000, "refresh": true}).to_string();
        pulse.http.request(Method::POST, "/v1/query/events", &pulse.http.read_key, body)
    };
    let Cost { status, answer, rise, .. } = cost(&pulse, ask).await;
    let events = answer["result"]["events"].as_array().unwrap().len();
    println!("{events} of 600 large events: {rise} KiB of memory");
    assert!(status == StatusCode::OK && (1..600).contains(&events) && !answer["result"]["next"].is_null(), "{status}: {events} events");
    assert!(rise < 64 << 10, "{rise} KiB for a page");
}

/// Sends the same beginning on so many connections and leaves them open.
pub(super) async fn begun(pulse: &Pulse, connections: usize, beginning: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = connect(pulse).await;
        // It may be refused in the middle.
        drop(tokio::time::timeout(Duration::from_secs(5), stream.write_all(beginning)).await);
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cost_little_whether_they_idle_or_never_end() {
    let environment = [("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"), ("PULSE__HTTP__MAX_BODY_MEMORY", "33554432")];
    let pulse = Pulse::start_with(&environment).await;
    warm(&pulse).await;
    let post = |path: &str, more: &str, length: usize| format!("POST {path} HTTP/1.1\r\nhost: a\r\n{more}content-length: {length}\r\n\r\n");
    let import = post("/v1/import?run=1", &format!("authorization: Bearer {}\r\n", pulse.http.read_key), 8 << 20);
    let mut half = import.into_bytes();
    half.extend(vec![b'x'; (8 << 20) - 1]);
    let without_key = [post("/v1/events", "", 64 << 10).into_bytes(), vec![b'x'; (64 << 10) - 1]].concat();
    let headers = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(250_000)).into_bytes();
    let cases = [("idle", 400, &b""[..], MOST), ("bodies without a key", 200, &without_key, MOST), ("heads", 200, &headers, MOST)];
    // Half of what bodies may hold together, and buffers.
    for (name, connections, beginning, most) in cases.into_iter().chain([("unfinished imports", 40, half.as_slice(), 2 * MOST)]) {
        let rise = Rise::of(&pulse);
        let held = begun(&pulse, connections, beginning).await;
        super::good(&pulse.http).await;
        let rise = rise.most();
        println!("{connections} {name}: {rise} KiB of memory");
        assert!(rise < most, "{connections} {name}: {rise} KiB");
        for mut stream in held {
            stream.shutdown().await.unwrap_or_default();
            drop(tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 64])).await);
        }
    }
    super::good(&pulse.http).await;
}
