//! Hostile clients: whatever they send costs at most themselves.

mod cardinality;
mod crowd;
mod memory;
mod proxies;
mod slow_clients;

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Http, PATIENCE, Pulse};

/// Requests of each client, and clients.
const REQUESTS: u64 = 30;
const CLIENTS: u64 = 6;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most) + 1;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Text that is nearly JSON, or nests, or is large, or means something else than it says.
fn shape(dice: &mut Dice) -> Vec<u8> {
    let event = r#"{"type":"hostile","anonymousId":"ada","properties":{"n":1}}"#;
    let number = dice.below(40_000) + 1;
    let piece = dice.one(&["[", "{\"a\":", "1,", "\"", "\\ud800", "{}", "\u{1}", "nul", "[[],", "-", "\"\\", "\u{feff}", "9", ",,", "\n"]);
    match dice.below(9) {
        0 => piece.repeat(number).into_bytes(),
        1 => format!("[{event},{}]", piece.repeat(number)).into_bytes(),
        2 => format!("{{\"batch\":[{event}],\"sentAt\":{piece}}}").into_bytes(),
        3 => format!(r#"{{"type":"hostile","anonymousId":"ada","properties":{{"x":{}}}}}"#, piece.repeat(number)).into_bytes(),
        4 => format!("{event}\n").repeat(dice.below(2_000)).into_bytes(),
        5 => format!(r#"{{"$dead":{{"message":"{piece}","original_base64":"{}"}}}}"#, "A".repeat(number)).into_bytes(),
        6 => format!("[1{}", ",1".repeat(number * 10)).into_bytes(),
        7 => dice.bytes(5_000),
        _ => {
            let mut text = format!("[{event},{event}]").into_bytes();
            for _ in 0..=dice.below(4) {
                let at = dice.below(text.len());
                text[at] = dice.next() as u8;
            }
            text
        }
    }
}

fn encoded(dice: &mut Dice, body: Vec<u8>) -> (&'static str, Vec<u8>) {
    use std::io::Write;
    let (name, mut bytes) = match dice.below(6) {
        0 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&body).unwrap();
            // A bomb now and then.
            let zeros = if dice.below(4) == 0 { 20 << 20 } else { 0 };
            encoder.write_all(&vec![b' '; zeros]).unwrap();
            ("gzip", encoder.finish().unwrap())
        }
        1 => ("zstd", zstd::encode_all(body.as_slice(), 1).unwrap()),
        2 => (dice.one(&["deflate", "br", "gzip", "gzip, gzip", "foo", "", "zstd"]), body),
        _ => ("identity", body),
    };
    if dice.below(4) == 0 {
        bytes.truncate(dice.below(bytes.len() + 1));
    }
    (name, bytes)
}

/// A request that parses, more or less, with a body that need not.
fn request(dice: &mut Dice, http: &Http) -> Vec<u8> {
    let run = dice.below(3);
    let import = format!("/v1/import?run={run}&source={}", "s".repeat(dice.below(400)));
    let paths = [
        "/v1/events".to_owned(),
        "/v1/events".to_owned(),
        "/v1/batch".to_owned(),
        import,
        "/v1/query/trends".to_owned(),
        "/v1/ledger?from=x".to_owned(),
    ];
    let path = dice.one(&[paths.as_slice(), &["/%ff/../v1/events".to_owned(), "*".to_owned(), "http://[::/".to_owned()]].concat());
    let method = dice.one(&["POST", "POST", "POST", "GET", "PUT", "TRACE", "CONNECT", "OPTIONS", "post", "P\u{0}"]);
    let key = dice.one(&[http.write_key.as_str(), http.write_key.as_str(), http.read_key.as_str(), "x", "\u{e9}"]);
    let body = shape(dice);
    let (encoding, body) = encoded(dice, body);
    let length = body.len();
    let framing = match dice.below(8) {
        0 => format!("content-length: {}\r\n", length + 5),
        1 => format!("content-length: {length}\r\ncontent-length: {}\r\n", dice.below(9)),
        2 => format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        3 => format!("transfer-encoding: {}\r\n", dice.one(&["chunked", "gzip, chunked", "x", "chunked, identity"])),
        4 => "content-length: 99999999999999999999\r\n".to_owned(),
        _ => format!("content-length: {length}\r\n"),
    };
    let odd = match dice.below(8) {
        0 => format!("x: {}\r\n", "a".repeat(dice.below(300_000))),
        1 => "y: 1\r\n".repeat(dice.below(200)),
        2 => " folded\r\n".to_owned(),
        3 => "x-forwarded-for: 1.1.1.1,,;\"\r\nexpect: 100-continue\r\n".to_owned(),
        4 => "x: a\rb\nc\u{0}\r\n".to_owned(),
        _ => String::new(),
    };
    let kind =
        dice.one(&["application/json", "application/x-ndjson", "text/plain", "multipart/form-data", "application/json; charset=utf-16"]);
    let host = dice.one(&["host: a\r\n", "host: a\r\n", "host: a\r\n", "", "host: a\r\nhost: b\r\n"]);
    let version = dice.one(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTQ"]);
    let head = format!(
        "{method} {path} {version}\r\n{host}authorization: Bearer {key}\r\ncontent-type: {kind}\r\ncontent-encoding: {encoding}\r\n{framing}{odd}\r\n"
    );
    [head.into_bytes(), body].concat()
}

fn hostile(dice: &mut Dice, http: &Http) -> Vec<u8> {
    match dice.below(10) {
        0 => dice.bytes(3_000),
        1 => {
            let mut bytes = request(dice, http);
            let at = dice.below(bytes.len().min(400));
            bytes[at] = dice.next() as u8;
            bytes
        }
        2 => request(dice, http).repeat(dice.below(3) + 1),
        3 => {
            let bytes = request(dice, http);
            bytes[..dice.below(bytes.len())].to_vec()
        }
        _ => request(dice, http),
    }
}

/// Sends bytes and returns the status lines of what comes back in a moment; one that answers nothing is left.
async fn statuses(address: &str, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let mut answers = Vec::new();
    let exchange = async {
        // The server may close in the middle.
        drop(stream.write_all(bytes).await);
        while let Ok(read) = stream.read_buf(&mut answers).await
            && read > 0
        {}
    };
    drop(tokio::time::timeout(Duration::from_millis(600), exchange).await);
    let text = String::from_utf8_lossy(&answers);
    text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

async fn good(http: &Http) {
    let event = json!({"type": "good", "anonymousId": "ada", "eventId": uuid::Uuid::new_v4().to_string()});
    let request = http.request(hyper::Method::POST, "/v1/events", &http.write_key, event.to_string());
    // Another connection than any before.
    assert_eq!(http.fresh().send(request).await.unwrap().0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_the_next_request_is_answered_and_no_event_is_lost() {
    let environment = [("PULSE__HTTP__HEADER_TIMEOUT", "300ms"), ("PULSE__HTTP__BODY_TIMEOUT", "300ms")];
    let pulse = Pulse::start_with(&environment).await;
    memory::warm(&pulse).await;
    let attack = async |round: u64| {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let http = pulse.http.clone();
            clients.spawn(async move {
                let mut dice = Dice(round * CLIENTS + client);
                for request in 0..REQUESTS {
                    let bytes = hostile(&mut dice, &http);
                    let statuses = statuses(http.address(), &bytes).await;
                    let is_refused = statuses.iter().all(|status| *status < 500 || [501, 503].contains(status));
                    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]);
                    assert!(is_refused, "client {client}, request {request}: {statuses:?} for {beginning}");
                    good(&http).await;
                }
            });
        }
        clients.join_all().await;
        pulse.http.settled().await;
        memory::status(pulse.pid(), "VmRSS")
    };
    // The first ones show what the largest of them needs, which the allocator keeps: what is lost is lost again with the next.
    let before = attack(0).await;
    let grown = attack(1).await.saturating_sub(before) >> 10;
    assert_eq!(pulse.http.get("/healthz").await.0, StatusCode::OK);
    println!("{} hostile requests: {grown} MiB more than after as many", CLIENTS * REQUESTS);
    assert!(grown < 8, "{grown} MiB more than after as many");
    let ask = json!({"from": "-1d", "to": "now", "series": [{"event": "good"}]});
    let count = async {
        // Another client's question may have been cached a moment before the last event.
        loop {
            let (_, answer) = pulse.http.query("trends", &ask).await;
            if answer["result"]["series"][0]["total"] == json!(2 * CLIENTS * REQUESTS + memory::WARM) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, count).await.expect("events are missing");
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains('\u{1b}'), "what was sent commands the terminal that shows the log");
    assert!(![&pulse.http.write_key, &pulse.http.read_key].iter().any(|key| log.contains(key.as_str())), "a key stands in the log");
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn history_is_not_for_pages_nor_for_their_key() {
    let pulse = Pulse::start().await;
    let keys: Value = serde_json::from_str(&std::fs::read_to_string(pulse.data_dir().join("keys.json")).unwrap()).unwrap();
    let import = async |key: &str, query: &str| {
        let line = json!({"type": "view", "anonymousId": "ada", "timestamp": "1971-01-01T00:00:00Z"}).to_string();
        let request = pulse.http.request(hyper::Method::POST, &format!("/v1/import?{query}"), key, line);
        let (status, answer) = pulse.http.send(request).await.unwrap();
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(import(&pulse.http.write_key, "run=1").await, (403, "wrong_key_kind".to_owned()));
    assert_eq!(import(keys[0]["import_key"].as_str().unwrap(), "run=1").await.0, 200);
    assert_eq!(import(&pulse.http.read_key, "run=1").await.0, 200);
    let long = format!("run=1&source={}", "s".repeat(256));
    assert_eq!(import(&pulse.http.read_key, &long).await, (400, "invalid_source".to_owned()));
    let page = "OPTIONS /v1/import HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\nconnection: close\r\n\r\n";
    assert_eq!(statuses(pulse.http.address(), page.as_bytes()).await, [405]);
}
