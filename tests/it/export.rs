//! Exports in pages of every format, into a bucket, and back out of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::boards::other_project;
use crate::harness::s3::{BUCKET, S3Server};
use crate::harness::{PATIENCE, Pulse, program};
use crate::import::{counts, events_of, exported};

/// Sends events number `from` to `until` of two devices and waits for their outcome.
async fn send(pulse: &Pulse, from: u64, until: u64) {
    let event =
        |n: u64| json!({"type": format!("t{}", n % 2), "anonymousId": format!("a{}", n % 2), "properties": {"n": n, "text": "ü\n"}});
    let (status, answer) = pulse.http.capture(&Value::from((from..until).map(event).collect::<Vec<_>>())).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    pulse.http.settled().await;
}

/// `pulse` with a command and arguments about a pulse and a bucket.
fn command(pulse: &Pulse, s3: &S3Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).arg("--data-dir").arg(pulse.data_dir()).envs(s3.environment());
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Exports into a file until all events are there, which are then all settled.
async fn exported_until(pulse: &Pulse, project: &str, file: &Path, events: usize) -> BTreeMap<String, Value> {
    let all = async {
        loop {
            let arguments = ["export", "--project", project, "--output"];
            let output = Command::new(program()).args(arguments).arg(file).arg("--data-dir").arg(pulse.data_dir()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let exported = exported(file);
            if exported.len() == events {
                return exported;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("not all events are exported")
}

/// The events of objects, in the order of their names.
async fn events_in(s3: &S3Server, prefix: &str) -> Vec<BTreeMap<String, Value>> {
    let text = |object: &[u8]| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(object).read_to_string(&mut text).unwrap();
        text
    };
    s3.objects(prefix).await.values().map(|object| events_of(&text(object))).collect()
}

/// The events of all objects; each is in one only.
fn all_of(objects: &[BTreeMap<String, Value>]) -> BTreeMap<String, Value> {
    let all: BTreeMap<String, Value> = objects.iter().flatten().map(|(id, event)| (id.clone(), event.clone())).collect();
    assert_eq!(all.len(), objects.iter().map(BTreeMap::len).sum::<usize>(), "an event is in two objects");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_into_a_bucket_is_cut_and_gone_on_with_and_is_imported_as_it_was() {
    let (pulse, s3) = (Pulse::start_with(&[("PULSE__QUERY__EXPORT_DELAY", "0s")]).await, S3Server::start().await);
    other_project(&pulse).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, again) = (folder.path().join("events.ndjson"), folder.path().join("again.ndjson"));
    let [cut, twice] = ["cut", "twice"].map(|prefix| format!("s3://{BUCKET}/{prefix}"));
    send(&pulse, 0, 50).await;
    let events = exported_until(&pulse, "default", &file, 50).await;

    // Ends at once behind its third object, and then behind each one.
    let into_cut = ["export", "--object-events", "8", "--output", &cut];
    for (point, objects) in [("2*off->return", 3), ("return", 4), ("return", 5)] {
        let killed = command(&pulse, &s3, &into_cut).env("FAILPOINTS", format!("export.created={point}")).output().unwrap();
        assert!(!killed.status.success());
        assert_eq!(s3.objects("cut").await.len(), objects);
    }
    for _ in 0..2 {
        run(&mut command(&pulse, &s3, &into_cut));
        let objects = events_in(&s3, "cut").await;
        assert_eq!(objects.iter().map(BTreeMap::len).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 2]);
        assert_eq!(all_of(&objects), events);
    }
    send(&pulse, 50, 55).await;
    let events = exported_until(&pulse, "default", &file, 55).await;
    run(&mut command(&pulse, &s3, &into_cut));
    let objects = events_in(&s3, "cut").await;
    assert_eq!((objects.len(), all_of(&objects)), (8, events.clone()));
    assert_eq!(s3.objects("cut").await.keys().next_back().unwrap(), "0000000008.ndjson.gz");

    // Two at once: what both write is there once, or one of them says so.
    let mut both = [0; 2].map(|_| command(&pulse, &s3, &["export", "--object-events", "8", "--output", &twice]).spawn().unwrap());
    let done = both.each_mut().map(|child| child.wait().unwrap().success());
    assert!(done.contains(&true));
    assert_eq!(all_of(&events_in(&s3, "twice").await), events);

    // As tables, cut as well.
    let tables = format!("s3://{BUCKET}/tables");
    let into_tables = ["export", "--format", "parquet", "--object-events", "20", "--output", &tables];
    let killed = command(&pulse, &s3, &into_tables).env("FAILPOINTS", "export.created=return").output().unwrap();
    assert!(!killed.status.success());
    run(&mut command(&pulse, &s3, &into_tables));
    let objects = s3.objects("tables").await;
    assert!(objects.values().all(|object| object.starts_with(b"PAR1") && object.ends_with(b"PAR1")));
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["0000000001.parquet", "0000000002.parquet", "0000000003.parquet"]);

    // Into another project, twice.
    for outcome in [[55, 55, 0, 0, 0, 0], [55, 0, 55, 0, 0, 0]] {
        let imported = run(&mut command(&pulse, &s3, &["import", "--json", "--project", "other", "--format", "ndjson", &cut]));
        assert_eq!(counts(&serde_json::from_slice(&imported.stdout).unwrap()), outcome);
    }
    assert_eq!(exported_until(&pulse, "other", &again, 55).await, events);

    // What cannot be is said before anything is read.
    let refused = |mut command: Command, words: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{words}: {said}");
    };
    refused(command(&pulse, &s3, &["export", "--project", "other", "--output", &cut]), "an export of another project or range");
    refused(command(&pulse, &s3, &["export", "--output", "s3://none/a"]), "s3://none/a");
    refused(command(&pulse, &s3, &["import", "--format", "ndjson", &format!("s3://{BUCKET}/none")]), "there is no object of that name");
    let mut elsewhere = command(&pulse, &s3, &["export", "--output", &cut]);
    elsewhere.env("AWS_ENDPOINT_URL", "http://s3.example");
    refused(elsewhere, "AWS_ENDPOINT_URL: `http://s3.example` would send events over the network as they are");
}

/// What the headers of a page say: whether nothing is left, and the parameter that leads on.
fn place(headers: &HeaderMap) -> (bool, String) {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    (header("pulse-complete") == Some("true"), header("pulse-next").map(|next| format!("&cursor={next}")).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_names_the_sessions_that_clients_have_named_and_no_others() {
    let pulse = Pulse::start_with(&[("PULSE__QUERY__EXPORT_DELAY", "0s")]).await;
    let events = json!([{"type": "a", "anonymousId": "ada"}, {"type": "a", "anonymousId": "bob", "sessionId": "mine"}]);
    assert_eq!(pulse.http.capture(&events).await.0, StatusCode::OK);
    pulse.http.settled().await;
    let folder = tempfile::tempdir().unwrap();
    let events = exported_until(&pulse, "default", &folder.path().join("events.ndjson"), 2).await;
    let mut sessions: Vec<Option<&str>> = events.values().map(|event| event[5].as_str()).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [None, Some("mine")]);
    // Of a list each event has one.
    let listed = pulse.http.query("events", &json!({})).await.1;
    assert!(listed["result"]["events"].as_array().unwrap().iter().all(|event| event["sessionId"].is_string()), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_every_format_have_every_event_once() {
    let pulse = Pulse::start_with(&[("PULSE__QUERY__EXPORT_DELAY", "0s")]).await;
    let http = &pulse.http;
    send(&pulse, 0, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let events = exported_until(&pulse, "default", &folder.path().join("events.ndjson"), 50).await;

    pulse.sql("CREATE TABLE pulse.back (type String, anonymous_id String, numbers Map(String, Float64)) ENGINE = Memory");
    for (format, content_type, of_server) in [
        ("ndjson", "application/x-ndjson", None),
        ("csv", "text/csv; charset=utf-8; header=present", Some("CSVWithNames")),
        ("parquet", "application/vnd.apache.parquet", Some("Parquet")),
        ("arrow", "application/vnd.apache.arrow.stream", Some("ArrowStream")),
    ] {
        let (mut cursor, mut pages, mut lines) = (String::new(), 0, String::new());
        loop {
            let path = format!("/v1/export?format={format}&limit=20{cursor}");
            let page = http.respond(http.request(Method::GET, &path, &http.read_key, "")).await;
            assert_eq!((page.status(), page.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, content_type));
            let is_complete;
            (is_complete, cursor) = place(page.headers());
            pages += 1;
            // The engine reads back what it has written.
            match of_server {
                None => lines.push_str(std::str::from_utf8(page.body()).unwrap()),
                Some(name) => {
                    let file = folder.path().join(format!("{pages}.{format}"));
                    std::fs::write(&file, page.body()).unwrap();
                    let insert = format!("/?input_format_skip_unknown_fields=1&query=INSERT%20INTO%20pulse.back%20FORMAT%20{name}");
                    let (user, password) = pulse.engine_login("pulse_migrator");
                    let data = format!("@{}", file.display());
                    pulse.ask_engine(&insert, &["--fail-with-body", "-H", &user, "-H", &password, "--data-binary", &data]).unwrap();
                }
            }
            if is_complete {
                break;
            }
        }
        assert_eq!(pages, 3, "{format}");
        if of_server.is_none() {
            assert_eq!(events_of(&lines), events);
        } else {
            let back =
                pulse.sql("SELECT count(), uniqExact(numbers['n']), uniqExact(type), uniqExact(anonymous_id) FROM pulse.back FORMAT TSV");
            assert_eq!(back, "50\t50\t2\t2", "{format}");
            pulse.sql("TRUNCATE TABLE pulse.back");
        }
        // Nothing more: an empty file, and the same place.
        let page = http.respond(http.request(Method::GET, &format!("/v1/export?format={format}{cursor}"), &http.read_key, "")).await;
        assert_eq!((page.status(), place(page.headers())), (StatusCode::OK, (true, cursor)), "{format}");
    }
    http.capture(&json!([{"type": "=1+1", "anonymousId": "d"}])).await;
    exported_until(&pulse, "default", &folder.path().join("events.ndjson"), 51).await;
    let table = http.respond(http.request(Method::GET, "/v1/export?format=csv", &http.read_key, "")).await;
    assert!(String::from_utf8_lossy(table.body()).contains("\"'=1+1\""), "a sheet would compute it");
    let no = http.send(http.request(Method::GET, "/v1/export?format=xml", &http.read_key, "")).await.unwrap();
    assert_eq!((no.0, &no.1["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_format")));
    assert!(pulse.stop().await);
}
