//! History imported from files, through the same pipeline as live events.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Pulse, program};

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
    assert!(!lines.iter().any(|(address, _)| text.contains(address.as_str())), "an address was kept");
}
