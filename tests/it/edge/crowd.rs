//! Many hostile clients at once, within a limit for the memory of pulse.
//!
//! With `PULSE_TEST_LONG` ten thousand encrypted connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::memory::{begun, connect, gzip, status, warm};
use super::{Dice, hostile, statuses};
use crate::harness::cgroup::MemoryCgroup;
use crate::harness::clickhouse::Cluster;
use crate::harness::fault::is_long;
use crate::harness::ports::free_port;
use crate::harness::{Http, PATIENCE, Pulse};

/// What pulse may have, without its engine.
const LIMIT: u64 = 512 << 20;
/// As many as there may be by default; pulse may have a few more here, for others.
const CONNECTIONS: usize = 10_000;
const MOST_CONNECTIONS: &str = "10100";
/// Most that one of them takes where it is encrypted, KiB: what a plain one takes three times.
const MOST_ENCRYPTED: u64 = 64;
/// Large bodies at once.
const AT_ONCE: usize = 32;

/// Pulse within [`LIMIT`].
struct Limited {
    pulse: Pulse,
    cgroup: MemoryCgroup,
}

/// Files and connections that pulse has open.
fn files(pulse: &Pulse) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", pulse.pid())).unwrap().count()
}

/// What pulse has at a moment.
fn has(pulse: &Pulse) -> String {
    format!("{} MiB, {} files", status(pulse.pid(), "VmRSS") >> 10, files(pulse))
}

/// Returns once pulse has noticed that a crowd has left, and has no more files than so many.
async fn is_gone(pulse: &Pulse, most: usize) {
    let gone = async {
        while files(pulse) > most {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("connections stay when their clients are gone");
}

impl Limited {
    /// Lets `crowd` do its worst, during which pulse must answer and after which it must take an event, and tells what it had before, meanwhile and afterwards.
    async fn survives<T>(&self, name: &str, crowd: impl Future<Output = T>) {
        let before = has(&self.pulse);
        let held = crowd.await;
        // Where they take all that bodies may have, others are told so.
        let event = json!({"type": "good", "anonymousId": "ada"});
        let (status, answer) = self.pulse.http.fresh().capture(&event).await;
        assert!(matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE), "{name}: {status} {answer}");
        let with = has(&self.pulse);
        drop(held);
        is_gone(&self.pulse, 100).await;
        super::good(&self.pulse.http).await;
        let (most, killed) = (self.cgroup.most() >> 20, self.cgroup.killed());
        println!("{name}: {before} before, {with} with them, {} after; at most {most} MiB so far", has(&self.pulse));
        assert_eq!(killed, 0, "{name}: killed for want of memory");
    }

    /// So many connections, each with the same beginning of a request.
    async fn begun(&self, connections: usize, beginning: &[u8]) -> Vec<TcpStream> {
        begun(&self.pulse, connections, beginning).await
    }

    /// So many connections that have been answered and stay.
    async fn answered(&self, connections: usize, request: &[u8]) -> Vec<TcpStream> {
        let mut held = self.begun(connections, request).await;
        for stream in &mut held {
            let mut answer = [0; 256];
            assert!(stream.read(&mut answer).await.unwrap() > 0);
        }
        held
    }
}

fn post(path: &str, key: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

/// Bodies that inflate to something else than events.
fn bombs() -> Vec<Vec<u8>> {
    let size = 8 << 20;
    let texts = [
        format!("[1{}", ",1".repeat(size / 2 - 2)),
        "[".repeat(size),
        "x\n".repeat(size / 2),
        format!("[{{}}{}]", ",{}".repeat(size / 3 - 2)),
    ];
    let spaces = std::iter::once(" ".repeat(64 << 20));
    texts.into_iter().chain(spaces).map(|text| gzip(text.as_bytes())).collect()
}

/// Sends each body from many connections at once, and reads the answers.
async fn at_once(http: &Http, path: &'static str, bodies: &[Vec<u8>], encoding: &'static str) -> Vec<StatusCode> {
    let mut sending = JoinSet::new();
    for number in 0..AT_ONCE {
        let (http, body) = (http.fresh(), bodies[number % bodies.len()].clone());
        sending.spawn(async move {
            let key = if path == "/v1/events" { &http.write_key } else { &http.read_key };
            let mut request = http.request(Method::POST, path, key, body);
            request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
            http.send(request).await.map_or(StatusCode::IM_A_TEAPOT, |(status, _)| status)
        });
    }
    sending.join_all().await
}

/// A batch of a thousand events, as large as one may be.
fn large_batch() -> Vec<u8> {
    let properties: serde_json::Map<_, _> = (0..20).map(|n| (format!("key_{n}"), json!("v".repeat(20)))).collect();
    let event =
        |n: u32| json!({"eventId": uuid::Uuid::new_v4(), "type": "large", "anonymousId": format!("v{n}"), "properties": properties});
    json!((0..1_000).map(event).collect::<Vec<_>>()).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowds_of_hostile_clients_stay_within_512_mib() {
    let cluster = Cluster::start(1).await;
    let timeouts = ["HEADER", "BODY", "WRITE"].map(|name| (format!("PULSE__HTTP__{name}_TIMEOUT"), "10m".to_owned()));
    let proxies = ("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1".to_owned());
    let connections = ("PULSE__HTTP__MAX_CONNECTIONS", MOST_CONNECTIONS.to_owned());
    let timeouts = timeouts.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let environment: Vec<_> = cluster.environment().into_iter().chain([proxies, connections]).chain(timeouts).collect();
    let mut pulse = Pulse::start_with(&environment).await;
    let cgroup = MemoryCgroup::new();
    let within = cgroup.pulse_in(pulse.data_dir());
    cgroup.limit(LIMIT);
    pulse.end().await;
    pulse.restart_as(&within).await;
    warm(&pulse).await;
    let limited = Limited { pulse, cgroup };
    let http = limited.pulse.http.clone();

    limited.survives("10,000 that say nothing", limited.begun(CONNECTIONS, b"")).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    limited.survives("10,000 that were answered and stay", limited.answered(CONNECTIONS, request)).await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(31_000)).into_bytes();
    limited.survives("10,000 heads of 31 KB that never end", limited.begun(CONNECTIONS, &head)).await;
    let body = [post("/v1/events", "", 64 << 10), vec![b'x'; (64 << 10) - 1]].concat();
    limited.survives("10,000 bodies without a key", limited.begun(CONNECTIONS, &body)).await;
    let body = [post("/v1/events", &http.write_key, 64 << 10), vec![b'x'; (64 << 10) - 1]].concat();
    limited.survives("10,000 bodies that never end", limited.begun(CONNECTIONS, &body)).await;
    let import = [post("/v1/import?run=1", &http.read_key, 8 << 20), vec![b'x'; (8 << 20) - 1]].concat();
    limited.survives("40 imports that never end", limited.begun(40, &import)).await;
    let questions = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(300);
    limited.survives("1,000 that ask 300 times and take no answer", limited.begun(1_000, &questions)).await;
    let bombs = bombs();
    for path in ["/v1/events", "/v1/import?run=2"] {
        limited.survives(&format!("{AT_ONCE} bombs at once to {path}"), at_once(&http, path, &bombs, "gzip")).await;
    }
    let batches = [large_batch()];
    for path in ["/v1/events", "/v1/import?run=3"] {
        limited
            .survives(
                &format!("{AT_ONCE} batches at once of {} KiB to {path}", batches[0].len() >> 10),
                at_once(&http, path, &batches, "identity"),
            )
            .await;
    }
    limited.survives("10,000 requests in one write", pipelined(&limited.pulse)).await;
    limited.survives("requests by seed", seeds(&http)).await;
    let log = std::fs::read_to_string(limited.pulse.data_dir().join("test.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(limited.pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_connections_are_held_by_the_thousand() {
    let connections = if is_long() { CONNECTIONS } else { 2_000 };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = [("certificate.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())].map(|(name, text)| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let address = format!("127.0.0.1:{}", free_port());
    let environment = [
        ("PULSE__HTTP__TLS__LISTEN", address.as_str()),
        ("PULSE__HTTP__TLS__CERTIFICATE", &certificate),
        ("PULSE__HTTP__TLS__KEY", &key),
        ("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"),
        ("PULSE__HTTP__MAX_CONNECTIONS", MOST_CONNECTIONS),
        ("PULSE__HTTP__HEADER_TIMEOUT", "10m"),
    ];
    let pulse = Pulse::start_with(&environment).await;
    warm(&pulse).await;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let connector = TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
    let (files_before, before) = (files(&pulse), status(pulse.pid(), "VmRSS"));
    let mut held = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(&address).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 256];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
        held.push(stream);
    }
    super::good(&pulse.http).await;
    let (open, with) = (files(&pulse), status(pulse.pid(), "VmRSS"));
    let each = with.saturating_sub(before) / connections as u64;
    println!(
        "{connections} encrypted ones that were answered and stay: {} MiB before, {} with them, {each} KiB each",
        before >> 10,
        with >> 10
    );
    assert!(open >= connections, "{open} files");
    assert!(each < MOST_ENCRYPTED, "{each} KiB each");
    drop(held);
    is_gone(&pulse, files_before + 100).await;
    super::good(&pulse.http).await;
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(pulse.stop().await);
}

/// Ten thousand requests in one write, and their answers.
async fn pipelined(pulse: &Pulse) {
    let event = json!({"type": "pipelined", "anonymousId": "ada"}).to_string();
    let request = [post("/v1/events", &pulse.http.write_key, event.len()), event.into_bytes()].concat();
    let (mut reads, mut writes) = connect(pulse).await.into_split();
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        writes.write_all(&request.repeat(10_000)).await.unwrap();
        writes
    });
    const LINE: &[u8] = b"HTTP/1.1 200 ";
    let (mut answers, mut text) = (0, Vec::new());
    while answers < 10_000 {
        assert!(reads.read_buf(&mut text).await.unwrap() > 0, "{answers} answers");
        answers += text.windows(LINE.len()).filter(|window| *window == LINE).count();
        // Less than a line, of which the rest may come.
        text.drain(..text.len().saturating_sub(LINE.len() - 1));
    }
}

/// Requests of all kinds from many at once.
async fn seeds(http: &Http) {
    let mut clients = JoinSet::new();
    for client in 100..132 {
        let http = http.clone();
        clients.spawn(async move {
            let mut dice = Dice(client);
            for _ in 0..20 {
                statuses(http.address(), &hostile(&mut dice, &http)).await;
            }
        });
    }
    clients.join_all().await;
}
