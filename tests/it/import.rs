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

/// What becomes of lines: read, stored, duplicate, filtered, rejected, dead.
pub(crate) fn counts(summary: &Value) -> [u64; 6] {
    ["read", "stored", "duplicate", "filtered", "rejected", "dead"].map(|name| summary[name].as_u64().unwrap())
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
    assert_eq!(counts(&first), [10_000, 9_999, 0, 0, 0, 1]);
    assert_eq!((&first["reasons"][0]["reason"], &first["reasons"][0]["examples"][0]["line"]), (&json!("quote_open"), &json!(8_899)));

    let lines = lines();
    let mut by_day: BTreeMap<&str, u64> = BTreeMap::new();
    lines.iter().for_each(|(_, day)| *by_day.entry(day).or_default() += 1);
    let mut ask = json!({
        "include_bots": true, "from": "2015-05-17T00:00:00Z", "to": "2015-05-21T00:00:00Z", "interval": "day", "timezone": "UTC",
        "series": [{"event": "http_request"}, {"event": "http_request", "math": "unique_users"}],
    });
    let (_, trends) = pulse.http.query("trends", &ask).await;
    assert_eq!(trends["result"]["buckets"], json!(by_day.keys().collect::<Vec<_>>()));
    assert_eq!(trends["result"]["series"][0]["values"], json!(by_day.values().collect::<Vec<_>>()));
    assert_eq!(trends["result"]["series"][0]["total"], 9_999);
    let addresses: HashSet<&String> = lines.iter().map(|(address, _)| address).collect();
    assert_eq!(trends["result"]["series"][1]["total"], addresses.len());
    assert_eq!(trends["meta"]["excluded_bots"], 0);
    ask["include_bots"] = json!(false);
    let (_, of_people) = pulse.http.query("trends", &ask).await;
    let (people, bots) =
        (of_people["result"]["series"][0]["total"].as_u64().unwrap(), of_people["meta"]["excluded_bots"].as_u64().unwrap());
    assert_eq!((people + bots, bots > 1_000), (9_999, true), "{people} requests of people, {bots} of bots");

    // From another machine, which knows nothing but the keys.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.args(["import", "--json", "--format", "combined", "--data-dir"]).arg(elsewhere.path());
    command.args(["--url", pulse.http.address(), "--read-key", &pulse.http.read_key, LOG]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let second: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts(&second), [10_000, 0, 9_999, 0, 0, 1]);
    assert_eq!(pulse.http.settled().await["stored"], 9_999);
    let events = pulse.http.events().await;
    let text = serde_json::to_string(&events).unwrap();
    assert!(!addresses.iter().any(|address| memchr::memmem::find(text.as_bytes(), address.as_bytes()).is_some()), "an address was kept");
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
        ("csv", format!("type,anonymousId,timestamp,context.ip\nview,a,,{},{}\n,b,,{}\n", ADDRESSES[0], ADDRESSES[3], ADDRESSES[4])),
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
            let output = command.output().unwrap();
            // A script must see that nothing could be stored, each time.
            assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(&format!("broken.{format}:1: ")) || said.contains(&format!("broken.{format}:2: ")), "{said}");
            assert!(ADDRESSES.iter().all(|address| !said.contains(address)), "{said}");
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
    // Beside the running instance, over HTTP and by the command.
    let (status, page) = pulse.http.get("/v1/dead-letters?limit=10").await;
    assert_eq!((status, page["letters"].as_array().unwrap().len()), (StatusCode::OK, 10));
    let rest = format!("/v1/dead-letters?limit=10&cursor={}", page["next"].as_str().unwrap());
    let (_, rest) = pulse.http.get(&rest).await;
    assert_eq!((rest["letters"].as_array().unwrap().len(), &rest["next"]), (8, &Value::Null));
    let letters = |reason: &Value| (reason["letters"].as_u64().unwrap(), reason["copies"].as_u64().unwrap());
    let sum =
        page["reasons"].as_array().unwrap().iter().map(letters).fold((0, 0), |sum, (letters, copies)| (sum.0 + letters, sum.1 + copies));
    assert_eq!(sum, (18, 9), "{page}");
    let mut command = Command::new(program());
    let output = command.args(["dead", "--limit", "15", "--json", "--data-dir"]).arg(pulse.data_dir()).output().unwrap();
    let by_command: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((by_command["letters"].as_array().unwrap().len(), &by_command["reasons"]), (15, &page["reasons"]));
    let output = Command::new(program()).args(["dead", "--reason", "line_malformed", "--data-dir"]).arg(pulse.data_dir()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("status_unreadable") && said.contains("broken.combined:1"), "{said}");
    assert!(ADDRESSES.iter().all(|address| !format!("{page}{rest}{by_command}{said}").contains(address)));
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

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_with_equal_lines_are_two_and_orders_exported_again_are_the_same() {
    let pulse = Pulse::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let log = file("access.log", "203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n");
    for (source, stored) in [("web1", 1), ("web2", 1), ("web1", 0)] {
        let summary = import(&pulse, &["--format", "combined", "--source", source, &log]);
        assert_eq!(counts(&summary)[1], stored, "{source}");
    }
    let orders =
        file("orders.csv", "type;anonymousId;order;timestamp\norder;ada;1001;2024-05-01T09:00:00Z\norder;bob;1002;2024-05-01T09:00:00Z\n");
    let wider = file(
        "wider.csv",
        "type;anonymousId;order;timestamp;coupon\norder;ada;1001;2024-05-01T09:00:00Z;\norder;bob;1002;2024-05-01T09:00:00Z;x\n",
    );
    for (path, stored, duplicate) in [(&orders, 2, 0), (&orders, 0, 2), (&wider, 0, 2)] {
        let summary = import(&pulse, &["--format", "csv", "--id-column", "order", path]);
        assert_eq!((counts(&summary)[1], counts(&summary)[2]), (stored, duplicate), "{path}");
    }
    assert_eq!(pulse.http.settled().await["stored"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_killed_instance_left_behind_gets_no_keys() {
    let mut pulse = Pulse::start().await;
    let left = pulse.data_dir().join("pulse.address");
    let address = std::fs::read_to_string(&left).unwrap();
    pulse.kill().await;
    assert_eq!(std::fs::read_to_string(&left).unwrap(), address);
    // Somebody else listens there now, and sees whatever is sent.
    let listener = std::net::TcpListener::bind(address.trim()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let log = pulse.data_dir().join("access.log");
    std::fs::write(&log, "203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n").unwrap();
    let summary = import(&pulse, &["--format", "combined", log.to_str().unwrap()]);
    assert_eq!(counts(&summary)[1], 1);
    assert!(listener.accept().is_err(), "the import spoke to whoever took the address");
}

fn export(pulse: &Pulse, file: &std::path::Path) {
    let output = Command::new(program()).args(["export", "--data-dir"]).arg(pulse.data_dir()).arg("--output").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The events of an export: what was sent of them, by id.
pub(crate) fn exported(file: &std::path::Path) -> BTreeMap<String, Value> {
    events_of(&std::fs::read_to_string(file).unwrap())
}

/// The same of its lines.
pub(crate) fn events_of(text: &str) -> BTreeMap<String, Value> {
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sent = ["eventId", "type", "timestamp", "userId", "anonymousId", "sessionId", "properties", "context"];
    let of = |event: &Value| sent.map(|name| event[name].clone()).into_iter().collect::<Value>();
    let by_id: BTreeMap<String, Value> = events.iter().map(|event| (event["eventId"].as_str().unwrap().to_owned(), of(event))).collect();
    assert_eq!(by_id.len(), events.len(), "an event is there twice");
    by_id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_where_it_ended_and_is_imported_elsewhere_as_it_was() {
    let none = [("PULSE__QUERY__EXPORT_DELAY", "0s")];
    let (pulse, other) = (Pulse::start_with(&none).await, Pulse::start_with(&none).await);
    let folder = tempfile::tempdir().unwrap();
    let (file, again) = (folder.path().join("events.ndjson"), folder.path().join("again.ndjson"));
    let values = [json!("text"), json!(1.5), json!(9_007_199_254_740_993_i64), json!(true), json!(["a", {"b": null}]), json!({"c": "ü\n"})];
    let mut stored = 0;
    for part in 0..3 {
        let events: Vec<Value> = (0..40)
            .map(|n| {
                let value = &values[n % values.len()];
                let who = if n % 3 == 0 { json!({"userId": format!("u{n}")}) } else { json!({"anonymousId": format!("a{}", n % 7)}) };
                let mut event = json!({"type": format!("t{}", n % 2), "properties": {"part": part, "value": value}});
                event.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
                let agent = if n % 5 == 0 {
                    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
                } else {
                    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
                };
                let page = json!({"url": "https://shop.example/a?utm_source=news", "referrer": "https://www.google.com/"});
                event["context"] = json!({"userAgent": agent, "ip": "89.160.20.112", "page": page, "locale": "de-DE"});
                event
            })
            .collect();
        let (status, answer) = pulse.http.capture(&Value::from(events)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        pulse.http.settled().await;
        stored += 40;
        // Up to when everything is stored is asked twice a second at most.
        let all = async {
            loop {
                export(&pulse, &file);
                if exported(&file).len() == stored {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("not all events are exported");
    }
    let imported = import(&other, &["--format", "ndjson", file.to_str().unwrap()]);
    assert_eq!(counts(&imported), [120, 120, 0, 0, 0, 0]);
    let same = async {
        loop {
            export(&other, &again);
            if exported(&again).len() == stored {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, same).await.expect("not all events are exported again");
    assert_eq!(exported(&again), exported(&file));
    let shown = pulse.http.send(pulse.http.request(Method::GET, "/v1/export?limit=no", &pulse.http.read_key, "")).await.unwrap();
    assert_eq!((shown.0, &shown.1["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_limit")));
}
