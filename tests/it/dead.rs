//! Dead letters: what cannot be read stops nothing, is kept as it came, and is stored once when it can be read.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use pulse::event::field::{Field, flag};
use pulse::event::ids::{PersonKey, ProjectId, VisitorKey};
use pulse::event::packed::{EventHeader, EventWriter};
use pulse::event::record::{self, Header, Tallies, day_of};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::kafka::Kafka;
use crate::harness::{PATIENCE, Pulse, program};

/// Too large while the limit is [`SMALL`], and valid by default.
const LARGE: usize = 1_200;
/// Valid under any limit.
const GOOD: usize = 300;
/// Never valid.
const NAMELESS: usize = 20;
/// No JSON.
const NOISE: usize = 15;
const SMALL: (&str, &str) = ("PULSE__INGEST__MAX_EVENT_SIZE", "400");

/// Runs `pulse replay --dead` on the data directory of `pulse`.
fn dead<V: AsRef<std::ffi::OsStr>>(pulse: &Pulse, arguments: &[&str], environment: &[(&str, V)]) -> Output {
    let mut command = Command::new(program());
    command.args(["replay", "--dead", "--json", "--data-dir"]).arg(pulse.data_dir()).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap()
}

fn redriven(pulse: &Pulse, arguments: &[&str]) -> Value {
    let output = dead::<&str>(pulse, arguments, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn summary(read: usize, redriven: usize, unchanged: Value) -> Value {
    json!({"read": read, "redriven": redriven, "events": redriven, "unchanged": unchanged, "interrupted": false})
}

fn line(name: &str, visitor: usize, padding: usize) -> String {
    json!({"type": name, "anonymousId": format!("v{}", visitor % 50), "timestamp": "2020-02-02T00:00:00Z",
        "properties": {"number": visitor, "padding": "x".repeat(padding)}})
    .to_string()
}

/// A file with lines of every kind among each other.
fn file(dir: &std::path::Path) -> std::path::PathBuf {
    let mut lines: Vec<String> = (0..LARGE).map(|number| line("large", number, 600)).collect();
    for (kind, count) in [("good", GOOD), ("", NAMELESS), ("noise", NOISE)] {
        for number in 0..count {
            let at = number * lines.len() / count;
            lines.insert(at, if kind == "noise" { format!("{number} is no object") } else { line(kind, number, 1) });
        }
    }
    let path = dir.join("history.ndjson");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn import(pulse: &Pulse) -> Value {
    let mut command = Command::new(program());
    command.args(["import", "--format", "ndjson", "--json", "--data-dir"]).arg(pulse.data_dir());
    let output = command.arg(file(pulse.data_dir())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sends lines as an importer does; they have no ids of their own.
async fn send_lines(pulse: &Pulse, run: u64, lines: &[String]) {
    let path = format!("/v1/import?run={run}&source=direct");
    let request = pulse.http.request(Method::POST, &path, &pulse.http.read_key, lines.join("\n"));
    assert_eq!(pulse.http.send(request).await.unwrap().0, StatusCode::OK);
}

/// Of the ledger: received, stored, duplicate and dead.
async fn ledger(pulse: &Pulse) -> [u64; 4] {
    let total = pulse.http.settled().await;
    ["received", "stored", "duplicate", "dead"].map(|name| total[name].as_u64().unwrap())
}

/// A record with an event of its own for each of `visitors`, as ingest makes them.
fn record_of(visitors: &[&str]) -> Vec<u8> {
    let project = ProjectId::of_name("default");
    let received_ms = 1_580_601_600_000;
    let mut body = Vec::new();
    for (index, visitor) in visitors.iter().enumerate() {
        let mut writer = EventWriter::begin(&mut body);
        writer.field(Field::Type, b"recovered");
        writer.field(Field::AnonymousId, visitor.as_bytes());
        writer.finish(&EventHeader {
            event_id: [index as u8 + 1; 16],
            visitor: VisitorKey::of(project, visitor),
            person: PersonKey::of(project, visitor),
            at_ms: received_ms,
            original_ms: received_ms,
            sent_ms: 0,
            received_ms,
            flags: flag::SERVER_ID,
            project: 0,
        });
    }
    let (day, tallies) = (day_of(received_ms), Tallies::default());
    let events = visitors.len() as u32;
    record::encode(&Header { source: 0, day, events, received_ms, projects: vec![project], tallies, letters: 0, origin: None }, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_can_be_read_are_stored_once_however_often_they_are_redriven() {
    let mut pulse = Pulse::start_with(&[SMALL]).await;
    let imported = import(&pulse);
    let (all, dead_of_file) = (LARGE + GOOD + NAMELESS + NOISE, LARGE + NAMELESS + NOISE);
    assert_eq!((&imported["read"], &imported["stored"], &imported["dead"]), (&json!(all), &json!(GOOD), &json!(dead_of_file)));
    // Without ids, without times, and twice the very same line: two events.
    let twin = json!({"type": "twin", "anonymousId": "ada", "properties": {"padding": "x".repeat(600)}}).to_string();
    send_lines(&pulse, 5, &[twin.clone(), twin]).await;
    let (large, letters) = (LARGE + 2, dead_of_file + 2);
    let before = ledger(&pulse).await;
    assert_eq!(before, [all + 2, GOOD, 0, letters].map(|number| number as u64));
    pulse.end().await;

    let unchanged = json!({"event_invalid": NAMELESS, "line_malformed": NOISE});
    assert_eq!(redriven(&pulse, &["--dry-run"]), summary(letters, large, unchanged.clone()));
    let of_lines = redriven(&pulse, &["--reason", "line_malformed"]);
    assert_eq!(of_lines, summary(NOISE, 0, json!({"line_malformed": NOISE})));
    let mut still_small = dead(&pulse, &[], &[SMALL]).stdout;
    still_small = serde_json::from_slice::<Value>(&still_small).unwrap()["redriven"].to_string().into_bytes();
    assert_eq!(still_small, b"0", "nothing changes while the cause is there");
    pulse.restart().await;
    assert_eq!(ledger(&pulse).await, before, "none of this wrote anything");
    pulse.end().await;

    // Ended in the middle, after the first thousand letters.
    let crashed = dead(&pulse, &[], &[("FAILPOINTS", "redrive.published=return")]);
    assert_eq!(crashed.status.signal(), Some(rustix::process::Signal::ABORT.as_raw()));
    assert_eq!(redriven(&pulse, &[]), summary(letters, large, unchanged.clone()));
    pulse.restart().await;
    let [received, stored, duplicate, dead] = ledger(&pulse).await;
    assert_eq!((stored, dead), ((GOOD + large) as u64, before[3]), "each is stored once, and its letter stays");
    assert!((900..=1_000).contains(&duplicate), "copies are of what was redriven before the crash: {duplicate}");
    assert_eq!(received, before[0] + large as u64 + duplicate);
    let twins = pulse.http.events().await.into_iter().filter(|event| event["type"] == "twin").count();
    assert_eq!(twins, 2);
    let letters_kept = pulse.sql("SELECT count() FROM pulse.dead_letters FINAL");
    assert_eq!(letters_kept, letters.to_string(), "and no new one is written");

    // The topic alone knows the letters, then the table alone: of another log's.
    pulse.sql("CREATE TABLE pulse.kept AS pulse.dead_letters");
    pulse.sql("INSERT INTO pulse.kept SELECT * FROM pulse.dead_letters");
    pulse.sql("TRUNCATE TABLE pulse.dead_letters");
    pulse.end().await;
    assert_eq!(redriven(&pulse, &[]), summary(letters, large, unchanged.clone()));
    pulse.restart().await;
    let again = ledger(&pulse).await;
    assert_eq!(again, [received + large as u64, stored, duplicate + large as u64, dead]);
    pulse.sql("INSERT INTO pulse.dead_letters SELECT * FROM pulse.kept");
    let recovered = STANDARD.encode(record_of(&["grace", "ada", "linus"]));
    pulse.sql(&format!(
        "INSERT INTO pulse.dead_letters SELECT 0, now64(3), 'record_undecodable', 'of a later release', '', 0, \
         base64Decode('{recovered}'), 9, 0, 7, 0, 0, 0"
    ));
    pulse.end().await;
    std::fs::remove_dir_all(pulse.data_dir().join("log")).unwrap();
    let expected = json!({"read": letters + 1, "redriven": large + 1, "events": large + 3, "unchanged": unchanged, "interrupted": false});
    for _ in 0..2 {
        assert_eq!(redriven(&pulse, &[]), expected);
    }
    pulse.restart_with(&[("PULSE__INGEST__MAX_EVENT_SIZE", "65536")]).await;
    let last = ledger(&pulse).await;
    let copies = 2 * large as u64 + 3;
    assert_eq!(last, [again[0] + copies + 3, stored + 3, again[2] + copies, dead]);

    // While it runs: what is the project's own, in the table.
    let path = "/v1/dead-letters/redrive";
    let asked =
        async |key: &str, body: Value| pulse.http.send(pulse.http.request(Method::POST, path, key, body.to_string())).await.unwrap();
    let answer = |is_dry: bool| {
        let unchanged = json!({"event_invalid": NAMELESS, "line_malformed": NOISE});
        json!({"read": letters, "redriven": large, "events": large, "unchanged": unchanged, "dry_run": is_dry, "next": null})
    };
    assert_eq!(asked(&pulse.http.read_key, json!({"dry_run": true})).await, (StatusCode::OK, answer(true)));
    let noise = asked(&pulse.http.read_key, json!({"reason": "line_malformed"})).await.1;
    assert_eq!((&noise["read"], &noise["redriven"]), (&json!(NOISE), &json!(0)), "{noise}");
    assert_eq!(ledger(&pulse).await, last, "none of this wrote anything");
    assert_eq!(asked(&pulse.http.read_key, json!({})).await, (StatusCode::OK, answer(false)));
    assert_eq!(ledger(&pulse).await, [last[0] + large as u64, last[1], last[2] + large as u64, dead]);
    for (key, body, status) in [
        (&pulse.http.write_key, json!({}), StatusCode::FORBIDDEN),
        (&pulse.http.read_key, json!({"reason": "bad_luck"}), StatusCode::BAD_REQUEST),
        (&pulse.http.read_key, json!({"cursor": "nowhere"}), StatusCode::BAD_REQUEST),
        (&pulse.http.read_key, json!({"project": 7}), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(asked(key, body.clone()).await.0, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_arguments_of_a_redrive_are_named() {
    let pulse = Pulse::start().await;
    for (arguments, part) in [
        (&["--reason", "bad_luck"][..], "line_malformed, event_invalid, record_undecodable, event_undecodable"),
        (&["--from-offset", "0"][..], "--from-offset"),
        (&["--to-table", "again"][..], "--to-table"),
        (&["--partition", "0"][..], "--partition"),
        (&[][..], "data_dir"),
    ] {
        let output = dead::<&str>(&pulse, arguments, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{arguments:?}: {said}");
    }
    let alone = Command::new(program()).args(["replay", "--reason", "event_invalid"]).output().unwrap();
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--dead"));
}

async fn capture(pulse: &Pulse, round: usize) {
    let event = |number| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "click", "anonymousId": format!("v{number} {round}")});
    let events: Vec<Value> = (0..40).map(event).collect();
    assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK);
}

/// Letters in the table: reason, place and original.
type Kept = (String, u16, String, String);

async fn kept(cluster: &Cluster, count: usize) -> Vec<Kept> {
    let sql = "SELECT reason, log_partition, toString(log_offset), hex(original) FROM pulse.dead_letters FINAL ORDER BY ALL";
    let arrive = async {
        loop {
            let letters = cluster.rows(0, sql).await;
            if letters.len() >= count {
                return letters;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrive).await.expect("letters are missing")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_in_the_raw_topic_becomes_letters_and_stops_none_of_its_neighbours() {
    let kafka = Kafka::start(1).await;
    let cluster = Cluster::start(1).await;
    let plain = [kafka.environment("poison"), cluster.environment_of_one()].concat();
    let environment = [plain.clone(), vec![(SMALL.0, SMALL.1.to_owned())]].concat();
    let pulse = Pulse::start_with(&environment).await;
    capture(&pulse, 0).await;
    pulse.http.settled().await;

    let whole = record_of(&["grace", "ada"]);
    let version = |number: u8| whole.iter().enumerate().map(|(at, byte)| if at == 2 { number } else { *byte }).collect();
    let cut = |length: usize| whole[..length].to_vec();
    let poisons: [Vec<u8>; 7] =
        [b"garbage".to_vec(), Vec::new(), vec![0xFF; 10_000], cut(whole.len() - 1), cut(20), version(0), version(2)];
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", kafka.addresses()).create().unwrap();
    let mut expected: Vec<Kept> = Vec::new();
    let mut slowest = Duration::ZERO;
    for (round, poison) in poisons.iter().enumerate() {
        for partition in 0..4_u16 {
            let record = FutureRecord::<(), _>::to("poison-raw").partition(i32::from(partition)).payload(poison);
            let place = producer.send(record, PATIENCE).await.unwrap();
            let original = poison.iter().map(|byte| format!("{byte:02X}")).collect();
            expected.push(("record_undecodable".to_owned(), partition, place.offset.to_string(), original));
        }
        let began = Instant::now();
        capture(&pulse, round + 1).await;
        let total = pulse.http.settled().await;
        slowest = slowest.max(began.elapsed());
        assert_eq!((&total["stored"], &total["dead"]), (&json!(40 * (round + 2)), &json!(0)));
    }
    println!("neighbours of {} poisonous records stored after {slowest:?} at most", expected.len());
    expected.sort();
    let mut letters = kept(&cluster, expected.len()).await;
    letters.sort();
    assert_eq!(letters, expected);
    // They are of nobody's project, whose books balance as well.
    let books = "SELECT toString(sum(numbers['received'])), toString(sum(numbers['dead:record_undecodable'])) FROM pulse.events \
                 WHERE project_id = 0 AND visitor_id = 0";
    assert_eq!(cluster.rows::<(String, String)>(0, books).await, [("28".to_owned(), "28".to_owned())]);

    // Beside the running instance: poison stays poison, and a line that was too large is stored.
    send_lines(&pulse, 9, &[line("large", 1, 600)]).await;
    pulse.http.settled().await;
    kept(&cluster, 29).await;
    let elsewhere = tempfile::tempdir().unwrap();
    for copies in 0..2_u64 {
        let mut command = Command::new(program());
        command.args(["replay", "--dead", "--json", "--data-dir"]).arg(elsewhere.path()).envs(plain.clone());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said, summary(29, 1, json!({"record_undecodable": 28})));
        assert_eq!(ledger(&pulse).await, [40 * 8 + 2 + copies, 40 * 8 + 1, copies, 1]);
    }
    assert_eq!(kept(&cluster, 29).await.len(), 29);
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_wait_for_their_table_and_stop_nothing_else() {
    let cluster = Cluster::start(1).await;
    let roomy = cluster.environment_of_one();
    let environment = [roomy.clone(), vec![(SMALL.0, SMALL.1.to_owned())]].concat();
    let mut pulse = Pulse::start_with(&environment).await;
    let send = async |pulse: &Pulse, round: usize| {
        capture(pulse, round).await;
        send_lines(pulse, 9, &(0..30).map(|number| line("large", 100 * round + number, 600)).collect::<Vec<_>>()).await;
        assert_eq!(ledger(pulse).await, [70, 40, 0, 30].map(|number| number * (round as u64 + 1)), "good events go on");
    };
    send(&pulse, 0).await;
    kept(&cluster, 30).await;

    cluster.execute(0, "RENAME TABLE pulse.dead_letters TO pulse.away").await;
    send(&pulse, 1).await;
    let said = || std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    let tried = async {
        while !said().contains("dead letters not stored: waiting") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("pulse does not say that letters wait");
    cluster.execute(0, "RENAME TABLE pulse.away TO pulse.dead_letters").await;
    let began = Instant::now();
    assert_eq!(kept(&cluster, 60).await.len(), 60);
    println!("letters there {:?} after their table was", began.elapsed());

    // Dropped, with a crash while letters wait: the start makes it again, and they arrive.
    cluster.execute(0, "DROP TABLE pulse.dead_letters SYNC").await;
    send(&pulse, 2).await;
    pulse.kill().await;
    pulse.restart().await;
    assert!(kept(&cluster, 30).await.len() >= 30);
    assert_eq!(ledger(&pulse).await, [210, 120, 0, 90]);
    pulse.end().await;
    // What the table lost with it is in the topic.
    let output = dead(&pulse, &[], &roomy);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), summary(90, 90, json!({})));
    pulse.restart().await;
    assert_eq!(ledger(&pulse).await, [300, 210, 0, 90]);
}
