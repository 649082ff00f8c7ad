//! The exports of other products, through the whole pipeline: cut in the middle, run again, and counted by other means.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Pulse, program};

/// Records of each export: more than two batches of 1,000, so that there is a middle.
const RECORDS: usize = 2_400;
const USERS: usize = 37;

/// An export, and how it is counted without pulse.
struct Export {
    format: &'static str,
    /// A record of the user with this number.
    record: fn(usize) -> String,
    header: &'static str,
    /// How a record says what happened and whose event it is.
    count: fn(&str) -> (String, String),
    /// Files as they are imported at last.
    pack: fn(&Path, &str),
}

/// A member of a record of JSON, by its path.
fn text(record: &str, path: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    record.pointer(path).unwrap().as_str().unwrap().to_owned()
}

fn uuid(format: u32, nth: usize) -> String {
    format!("{format:08x}-0000-7000-8000-{nth:012x}")
}

fn second(nth: usize) -> String {
    format!("{:02}:{:02}", nth / 60 % 60, nth % 60)
}

fn name(nth: usize, page: &'static str) -> &'static str {
    if nth.is_multiple_of(3) { page } else { "order" }
}

fn plain(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn gzip(path: &Path, text: &str) {
    std::fs::write(path, gzipped(text)).unwrap();
}

/// Two compressed files in an archive, the later first.
fn zipped(path: &Path, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, lines) in [("1/1_b.json.gz", second), ("1/1_a.json.gz", first)] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&gzipped(&lines.join("\n"))).unwrap();
    }
    writer.finish().unwrap();
}

const EXPORTS: [Export; 7] = [
    Export {
        format: "posthog",
        record: |nth| {
            json!({
                "uuid": uuid(1, nth), "event": name(nth, "$pageview"), "distinct_id": format!("posthog-{}", nth % USERS),
                "timestamp": format!("2024-05-01T09:{}.123000+00:00", second(nth)),
                "properties": {"$current_url": "https://shop.example/", "$geoip_country_code": "DE", "$browser": "Chrome", "$set": {"$os": "iOS"}},
            })
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/event").replace("$pageview", "page"), text(record, "/distinct_id")),
        pack: plain,
    },
    Export {
        format: "mixpanel",
        record: |nth| {
            json!({"event": name(nth, "$mp_web_page_view"), "properties": {
                "time": 1_714_554_000 + nth, "distinct_id": format!("mixpanel-{}", nth % USERS), "$insert_id": format!("order-{nth}"), "mp_lib": "web",
                "mp_country_code": "DE", "$browser": "Chrome", "$current_url": "https://shop.example/",
            }})
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/event").replace("$mp_web_page_view", "page"), text(record, "/properties/distinct_id")),
        pack: plain,
    },
    Export {
        format: "amplitude",
        record: |nth| {
            json!({
                "event_type": name(nth, "[Amplitude] Page Viewed"), "user_id": format!("amplitude-{}", nth % USERS), "uuid": uuid(3, nth),
                "event_time": format!("2024-05-01 09:{}.123000", second(nth)), "$insert_id": null, "platform": "Web", "os_name": "Chrome",
                "country": "Germany", "event_properties": {"[Amplitude] Page URL": "https://shop.example/"}, "user_properties": {},
            })
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/event_type").replace("[Amplitude] Page Viewed", "page"), text(record, "/user_id")),
        pack: zipped,
    },
    Export {
        format: "segment",
        record: |nth| {
            let kind = if nth.is_multiple_of(3) { "page" } else { "track" };
            json!({
                "type": kind, "event": "order", "messageId": format!("node-{nth}"), "userId": format!("segment-{}", nth % USERS),
                "timestamp": format!("2024-05-01T09:{}.123Z", second(nth)), "sentAt": "2024-05-01T01:00:00Z",
                "context": {"page": {"url": "https://shop.example/"}},
            })
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/type").replace("track", "order"), text(record, "/userId")),
        pack: gzip,
    },
    Export {
        format: "umami",
        record: |nth| {
            let (kind, name) = if nth.is_multiple_of(3) { (1, "") } else { (2, "order") };
            let (at, user) = (second(nth), nth % USERS);
            format!("{},umami-{user},visit-{user},2024-05-01 09:{at}.123+00,shop.example,/,{kind},{name},chrome,DE", uuid(5, nth))
        },
        header: "event_id,session_id,visit_id,created_at,hostname,url_path,event_type,event_name,browser,country\n",
        count: |record| {
            let cells: Vec<&str> = record.split(',').collect();
            (if cells[6] == "1" { "page".to_owned() } else { cells[7].to_owned() }, cells[1].to_owned())
        },
        pack: plain,
    },
    Export {
        format: "ga4",
        record: |nth| {
            json!({
                "event_name": name(nth, "page_view"), "event_timestamp": (1_714_554_000_123_456 + nth * 1_000_000).to_string(),
                "user_pseudo_id": format!("ga4-{}", nth % USERS), "geo": {"country": "Germany"}, "device": {"web_info": {"browser": "Chrome"}},
                "event_params": [{"key": "page_location", "value": {"string_value": "https://shop.example/", "int_value": null}}],
            })
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/event_name").replace("page_view", "page"), text(record, "/user_pseudo_id")),
        pack: gzip,
    },
    Export {
        format: "plausible",
        record: |nth| {
            json!({
                "name": name(nth, "pageview"), "timestamp": format!("2024-05-01 09:{}", second(nth)), "user_id": format!("plausible-{}", nth % USERS),
                "hostname": "shop.example", "pathname": "/", "country_code": "DE", "browser": "Chrome", "meta.key": ["nth"], "meta.value": [nth.to_string()],
            })
            .to_string()
        },
        header: "",
        count: |record| (text(record, "/name").replace("pageview", "page"), text(record, "/user_id")),
        pack: plain,
    },
];

/// An import whose input comes by and by.
fn begin(pulse: &Pulse, format: &str, part: &str) -> (std::process::Child, std::process::ChildStdin) {
    let mut command = Command::new(program());
    command.args(["import", "--json", "--format", format, "--data-dir"]).arg(pulse.data_dir()).arg("-");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(part.as_bytes()).unwrap();
    (child, input)
}

fn import(pulse: &Pulse, format: &str, file: &Path) -> Value {
    serde_json::from_str(&import_with(pulse, &["--json", "--format", format], file)).unwrap()
}

/// What an import with these options prints.
fn import_with(pulse: &Pulse, options: &[&str], file: &Path) -> String {
    let mut command = Command::new(program());
    let output = command.arg("import").args(options).arg("--data-dir").arg(pulse.data_dir()).arg(file).output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn received(pulse: &Pulse, at_least: u64) {
    let arrive = async {
        while pulse.http.get("/v1/ledger").await.1["total"]["received"].as_u64().unwrap() < at_least {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrive).await.expect("the first batch was not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_is_stored_once_and_counts_as_it_did_where_it_came_from() {
    let pulse = Pulse::start().await;
    let folder = tempfile::tempdir().unwrap();
    for Export { format, record, header, count, pack } in EXPORTS {
        let records: Vec<String> = (0..RECORDS).map(record).collect();
        let mut expected: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
        for (name, person) in records.iter().map(|record| count(record)) {
            let (events, persons) = expected.entry(name).or_default();
            *events += 1;
            persons.insert(person);
        }
        // Cut in the middle: more than a batch has come, and the end of a line has not.
        let before = pulse.http.settled().await["received"].as_u64().unwrap();
        let body = format!("{header}{}\n", records.join("\n"));
        let (mut child, input) = begin(&pulse, format, &body[..body.len() / 2]);
        received(&pulse, before + 1_000).await;
        child.kill().unwrap();
        child.wait().unwrap();
        drop(input);
        // Again, with lines that are none and, where events have ids, some that are there twice.
        let broken = if header.is_empty() { "{\"broken\":\n[]\n" } else { "a,\"b\n" };
        let repeated = if matches!(format, "ga4" | "plausible") { 0 } else { 5 };
        let again: String = records.iter().take(repeated).map(|record| format!("{record}\n")).collect();
        let file = folder.path().join(format);
        pack(&file, &format!("{body}{again}{broken}"));
        let summary = import(&pulse, format, &file);
        let of = |name: &str| summary[name].as_u64().unwrap();
        let dead = broken.lines().count() as u64;
        assert_eq!([of("read"), of("dead")], [(RECORDS + repeated) as u64 + dead, dead], "{format}: {summary}");
        assert_eq!(of("stored") + of("duplicate"), (RECORDS + repeated) as u64, "{format}: {summary}");
        assert!(of("duplicate") >= 1_000, "{format}: nothing was cut: {summary}");
        pulse.http.settled().await;
        let of_format = format!("FROM pulse.events WHERE concat(anonymous_id, user_id) LIKE '{format}-%'");
        let stored = pulse.sql(&format!("SELECT type, count(), uniqExact(person_id) {of_format} GROUP BY type ORDER BY type FORMAT TSV"));
        let counted: Vec<String> =
            expected.iter().map(|(name, (events, persons))| format!("{name}\t{events}\t{}", persons.len())).collect();
        assert_eq!(stored.trim(), counted.join("\n"), "{format}");
        let ids = pulse.sql(&format!(
            "SELECT count(), uniqExact(event_id), uniqExact(timestamp), toString(min(timestamp), 'UTC') {of_format} FORMAT TSV"
        ));
        let fraction = if matches!(format, "mixpanel" | "plausible") { "000" } else { "123" };
        assert_eq!(ids.trim(), format!("{RECORDS}\t{RECORDS}\t{RECORDS}\t2024-05-01 09:00:00.{fraction}"), "{format}");
        let place = pulse.sql(&format!("SELECT DISTINCT country, lower(browser) {of_format} FORMAT TSV"));
        assert_eq!(place.trim(), if format == "segment" { "" } else { "DE\tchrome" }, "{format}");
        // A third time nothing is new.
        let summary = import(&pulse, format, &file);
        assert_eq!((summary["stored"].as_u64(), summary["duplicate"].as_u64()), (Some(0), Some((RECORDS + repeated) as u64)), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_files_have_stands_beside_what_the_project_has_of_each_type_and_day() {
    let pulse = Pulse::start().await;
    let folder = tempfile::tempdir().unwrap();
    let record = |nth: usize, event: &str, at: &str| {
        json!({"uuid": uuid(9, nth), "event": event, "distinct_id": "ada", "timestamp": at, "properties": {}}).to_string()
    };
    // What is there before: two of a day, and one of a type that the files do not have.
    let earlier = folder.path().join("earlier.jsonl");
    let [order, refund] = ["order", "refund"];
    let before =
        [record(1, order, "2024-05-02T08:00:00Z"), record(2, order, "2024-05-02T09:00:00Z"), record(3, refund, "2024-05-02T09:00:00Z")];
    std::fs::write(&earlier, before.join("\n")).unwrap();
    import(&pulse, "posthog", &earlier);
    let file = folder.path().join("export.jsonl");
    let lines = [
        record(10, "$pageview", "2024-05-01T09:00:00Z"),
        record(11, "$pageview", "2024-05-01T23:59:59Z"),
        record(12, order, "2024-05-02T00:00:00Z"),
        record(13, "signup", "2024-05-03T00:00:00Z"),
        // The same again, one that pulse does not take, and two that are no events.
        record(13, "signup", "2024-05-03T00:00:00Z"),
        record(14, &"x".repeat(201), "2024-05-03T00:00:00Z"),
        record(15, order, ""),
        "{\"broken\":".to_owned(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let summary: Value = serde_json::from_str(&import_with(&pulse, &["--json", "--compare", "--format", "posthog"], &file)).unwrap();
    let of = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!([of("read"), of("stored"), of("duplicate"), of("dead")], [8, 4, 1, 3], "{summary}");
    let row = |day: &str, kind: &str, [files, project]: [u64; 2]| json!({"day": day, "type": kind, "files": files, "project": project});
    let expected = json!([
        row("2024-05-01", "page", [2, 2]),
        row("2024-05-02", "order", [1, 3]),
        row("2024-05-03", "signup", [2, 1]),
        row("2024-05-03", &"x".repeat(201), [1, 0]),
    ]);
    assert_eq!(summary["compared"], expected, "{summary}");
    // For people, and once more: the files have what they had, and so has the project.
    let printed = import_with(&pulse, &["--compare", "--format", "posthog"], &file);
    let rows: Vec<Vec<&str>> =
        printed.lines().skip_while(|line| !line.starts_with("day")).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["day", "(UTC)", "files", "project", "difference", "type"], "{printed}");
    assert_eq!(
        rows[1..4],
        [vec!["2024-05-01", "2", "2", "page"], vec!["2024-05-02", "1", "3", "+2", "order"], vec!["2024-05-03", "2", "1", "-1", "signup"]]
    );
    assert!(!import_with(&pulse, &["--format", "posthog"], &file).contains("2024-05"), "nobody has asked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_refused_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.zip");
    let mut writer = zip::ZipWriter::new(std::fs::File::create(&file).unwrap());
    writer.start_file("imported_visitors_20240101_20240131.csv", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"\"date\",\"visitors\",\"pageviews\",\"bounces\",\"visits\",\"visit_duration\"\n2024-01-01,5,9,1,6,300\n").unwrap();
    writer.finish().unwrap();
    let pulse = Pulse::start().await;
    let mut command = Command::new(program());
    let output = command.args(["import", "--format", "plausible", "--data-dir"]).arg(pulse.data_dir()).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("sums by day") && said.contains("imported_visitors"), "{said}");
}
