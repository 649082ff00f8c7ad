//! History imported from files, through the same pipeline as live events.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Pulse, program};

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_access_combined.log.gz");

fn import(pulse: &Pulse, arguments: &[&str]) -> Value {
    let output = Command::new(program()).args(["import", "--json", "--data-dir"]).arg(pulse.data_dir()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines of the log that are whole, by eye of a very simple reader: address, day and nothing else.
fn lines() -> Vec<(String, String)> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(LOG).unwrap()).read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .filter(|line| line.matches('"').count() >= 6)
        .map(|line| {
            let address = line.split(' ').next().unwrap().to_owned();
            let day = line.split('[').nth(1).unwrap()[..2].to_owned();
            (address, format!("2015-05-{day}T00:00:00Z"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_access_log_is_stored_once_however_often_it_is_imported() {
    let pulse = Pulse::start().await;
    let first = import(&pulse, &["--format", "combined", LOG]);
    assert_eq!(first, json!({"read": 10_000, "stored": 9_999, "duplicate": 0, "filtered": 0, "rejected": 0, "dead": 1}));

    let lines = lines();
    let mut by_day: BTreeMap<&str, u64> = BTreeMap::new();
    lines.iter().for_each(|(_, day)| *by_day.entry(day).or_default() += 1);
    let ask = json!({
        "from": "2015-05-17T00:00:00Z", "to": "2015-05-21T00:00:00Z", "interval": "day", "timezone": "UTC",
        "series": [{"event": "http_request"}, {"event": "http_request", "math": "unique_users"}],
    });
    let (_, trends) = pulse.http.query("trends", &ask).await;
    assert_eq!(trends["result"]["buckets"], json!(by_day.keys().collect::<Vec<_>>()));
    assert_eq!(trends["result"]["series"][0]["values"], json!(by_day.values().collect::<Vec<_>>()));
    assert_eq!(trends["result"]["series"][0]["total"], 9_999);
    let addresses: HashSet<&String> = lines.iter().map(|(address, _)| address).collect();
    assert_eq!(trends["result"]["series"][1]["total"], addresses.len());

    let second = import(&pulse, &["--format", "combined", LOG]);
    assert_eq!(second, json!({"read": 10_000, "stored": 0, "duplicate": 9_999, "filtered": 0, "rejected": 0, "dead": 1}));
    assert_eq!(pulse.http.settled().await["stored"], 9_999);
    let events = pulse.http.events().await;
    let text = serde_json::to_string(&events).unwrap();
    assert!(!lines.iter().any(|(address, _)| memchr::memmem::find(text.as_bytes(), address.as_bytes()).is_some()), "an address was kept");
}

/// Lines that no format takes, each with an address of a client in one spelling or another.
const ADDRESSES: [&str; 5] = ["203.0.113.77", "198.51.100.88", "2001:db8::77:5", "203.0.113.99", "2001:db8::99"];

fn broken_files(dir: &std::path::Path) -> Vec<(&'static str, std::path::PathBuf)> {
    let files = [
        (
            "combined",
            format!(
                "{0} - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 000 5 \"-\" \"-\"\n{1} - - [17/May/1969:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n{2} - - [\n",
                ADDRESSES[0], ADDRESSES[1], ADDRESSES[2]
            ),
        ),
        ("csv", format!("type,anonymousId,context.ip\nview,a,{},{}\n,b,{}\n", ADDRESSES[0], ADDRESSES[3], ADDRESSES[4])),
        (
            "ndjson",
            format!(
                "{{\"type\":\"view\",\"context\":{{\"ip\":\"{}\"}}\n{{\"type\":\"\",\"anonymousId\":\"a\",\"context\":{{\"ip\":\"{}\"}}}}\n",
                ADDRESSES[3], ADDRESSES[1]
            ),
        ),
    ];
    files
        .map(|(format, text)| (format, dir.join(format!("broken.{format}")), text))
        .map(|(format, path, text)| {
            std::fs::write(&path, text).unwrap();
            (format, path)
        })
        .to_vec()
}

/// Whether a file below `folder` holds `text`, as it is.
fn holds(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, text),
            false => std::fs::read(&path).is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_of_a_line_that_cannot_be_read_is_written_and_a_line_is_dead_once() {
    let mut pulse = Pulse::start().await;
    let dir = tempfile::tempdir().unwrap();
    let files = broken_files(dir.path());
    for round in 1..=2 {
        for (format, path) in &files {
            let mut command = Command::new(program());
            command.args(["import", "--data-dir"]).arg(pulse.data_dir()).args(["--format", format]).arg(path);
            command.output().unwrap();
        }
        assert_eq!(counted(&pulse, 7 * round).await, [7 * round, 7, 7 * (round - 1)], "round {round}");
    }
    // A batch whose answer was lost is sent again.
    let line = json!({"$dead": {"message": "no", "line": 1, "id": "order-1", "original_base64": "bm8="}}).to_string();
    let refused = json!({"type": "", "eventId": "order-2", "anonymousId": "a"}).to_string();
    for _ in 0..2 {
        let request = pulse.http.request(Method::POST, "/v1/import?run=3", &pulse.http.read_key, format!("{line}\n{refused}\n"));
        assert_eq!(pulse.http.send(request).await.unwrap().0, StatusCode::OK);
    }
    assert_eq!(counted(&pulse, 18).await, [18, 9, 9]);
    let kept = pulse.sql("SELECT arrayStringConcat(groupArray(concat(message, original))) FROM pulse.dead_letters");
    assert!(kept.contains("[address") && kept.contains("GET /"), "{kept}");
    for address in ADDRESSES {
        assert!(!kept.contains(address), "{address} is in {kept}");
    }
    pulse.end().await;
    for address in ADDRESSES {
        assert!(!holds(pulse.data_dir(), address), "{address} is in the data directory");
    }
}

/// Received, dead and duplicate once `letters` are in the table.
async fn counted(pulse: &Pulse, letters: u64) -> [u64; 3] {
    let total = pulse.http.settled().await;
    let arrive = async {
        while pulse.sql("SELECT count() FROM pulse.dead_letters FINAL") != letters.to_string() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrive).await.unwrap_or_else(|_| panic!("letters are missing: {total}"));
    let total = pulse.http.settled().await;
    ["received", "dead", "duplicate"].map(|name| total[name].as_u64().unwrap())
}
