use std::io::Write;

use bytes::Bytes;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use super::*;
use crate::cli::bucket::{Bucket, NewObject};
use crate::cli::import::ids::AddressHasher;
use crate::event::dead_letter::DEAD_LINE_MARK;
use crate::http::HttpConfig;
use crate::ingest::Geo;

fn recipe(format: Format) -> Recipe {
    let addresses = AddressHasher::new(&[7; 32]);
    let site =
        Site { host: None, client_field: None, proxies: HttpConfig::default().peer([0, 0, 0, 0].into()).unwrap(), times: Times::default() };
    Recipe {
        format,
        project: "shop".to_owned(),
        source: None,
        map: MapConfig::default(),
        dialect: None,
        encoding: None,
        site,
        masker: Masker { addresses, geo: Geo::default() },
        progress: ProgressBar::hidden(),
        compares: false,
    }
}

/// The batches of a file, what is told of it, and how reading ended.
fn read(recipe: &Recipe, content: &[u8]) -> (Vec<Batch>, Findings, Result<(), ReadError>) {
    let mut input = tempfile::NamedTempFile::new().unwrap();
    input.write_all(content).unwrap();
    let (sender, mut receiver) = mpsc::channel(100);
    let mut findings = Findings::default();
    let result = files(&[Given::File(input.path().to_owned())], recipe, &sender, &mut findings);
    (std::iter::from_fn(|| receiver.try_recv().ok()).collect(), findings, result)
}

fn batches(format: Format, text: &str) -> (Vec<Batch>, Result<(), ReadError>) {
    let (batches, _, result) = read(&recipe(format), text.as_bytes());
    (batches, result)
}

/// What is kept of the dead lines, and the ids of all.
fn kept(batches: &[Batch]) -> (Vec<String>, Vec<String>) {
    let lines = batches.iter().flat_map(|batch| batch.body.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let dead = lines.iter().filter(|line| line.get("$dead").is_some());
    let text = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
    let dead = dead.map(|line| format!("{} {}", line["$dead"]["message"].as_str().unwrap(), text(&line["$dead"]["original_base64"])));
    let id = |line: &Value| line.get("eventId").unwrap_or(&line["$dead"]["id"]).as_str().unwrap().to_owned();
    (dead.collect(), lines.iter().map(id).collect())
}

#[test]
fn every_line_is_an_event_or_a_dead_line_in_order() {
    let (batches, result) = batches(Format::Ndjson, "{\"type\":\"a\"}\n\nnonsense\n{\"type\":\"b\"}");
    result.unwrap();
    let [batch] = batches.as_slice() else { panic!("{batches:?}") };
    let lines: Vec<&[u8]> = batch.body.split(|byte| *byte == b'\n').collect();
    let [first, dead, last, b""] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(first.ends_with(b"\"type\":\"a\"}") && last.ends_with(b"\"type\":\"b\"}"));
    assert!(dead.starts_with(DEAD_LINE_MARK));
    let dead: Value = serde_json::from_slice(dead).unwrap();
    assert_eq!(
        dead,
        json!({"$dead": {
            "message": "invalid_json: not a JSON object", "line": 3,
            "id": EventIds::new("shop", "ndjson", None).next(b"nonsense").to_string(), "original_base64": STANDARD.encode("nonsense"),
        }})
    );
    assert_eq!((batch.numbers.as_slice(), batch.reasons.lines()), (&[1, 3, 4][..], 1));
}

#[test]
fn batches_are_bounded_by_lines_and_by_bytes() {
    let sizes = |batches: &[Batch]| batches.iter().map(|batch| batch.numbers.len()).collect::<Vec<_>>();
    let (by_lines, _) = batches(Format::Ndjson, &"{}\n".repeat(2_500));
    assert_eq!(sizes(&by_lines), [1_000, 1_000, 500]);
    let (by_bytes, _) = batches(Format::Ndjson, &format!("{}\n", "x".repeat(MAX_LINE)).repeat(7));
    assert_eq!(sizes(&by_bytes), [2, 2, 2, 1]);
}

#[test]
fn a_row_over_several_lines_is_one_event_and_the_next_line_number_is_right() {
    let (batches, result) = batches(Format::Csv, "type,userId,a\nbuy,u,\"x\ny\"\nbuy,u\n");
    result.unwrap();
    let body = String::from_utf8(batches[0].body.clone()).unwrap();
    assert!(body.contains("\"a\":\"x\\ny\"") && body.contains("\"line\":4"), "{body}");
    assert_eq!(batches[0].numbers, [2, 4]);
}

#[test]
fn a_file_of_another_kind_is_refused_by_name() {
    for (format, content, name) in [
        (Format::Csv, b"\n".as_slice(), "there is no header row"),
        (Format::Csv, b"kind;who\nbuy;a\n", "`kind`, `who`"),
        (Format::Combined, b"#Software: Microsoft Internet Information Services 10.0\n", "IIS"),
        (Format::Combined, b"PK\x03\x04", "zip"),
        (Format::Ndjson, b"PAR1", "Parquet"),
    ] {
        let (batches, _, result) = read(&recipe(format), content);
        let problem = result.unwrap_err().to_string();
        assert!(batches.is_empty() && problem.contains(name), "{problem}");
    }
}

#[test]
fn an_object_is_called_by_its_address() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let bucket = Arc::new(Bucket::in_memory(Arc::new(InMemory::new()), "a"));
    let table = NewObject { name: "1.csv", content_type: "text/csv", note: "" };
    runtime.block_on(bucket.create(table, Bytes::from_static(b"type,userId\nM\xfcller,ada\n"))).unwrap();
    let object = runtime.block_on(bucket.objects()).unwrap().remove(0);
    let ((sender, _batches), mut findings) = (mpsc::channel(100), Findings::default());
    files(&[Given::Object(bucket, object)], &recipe(Format::Csv), &sender, &mut findings).unwrap();
    assert_eq!(findings.recoded, ["s3://bucket/a/1.csv"]);
}

#[test]
fn tables_of_windows_are_read_and_said_to_be() {
    let name = |content: &[u8]| {
        let (batches, findings, result) = read(&recipe(Format::Csv), content);
        result.unwrap();
        let events = batches[0].body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let names: Vec<Value> = events.map(|line| serde_json::from_slice::<Value>(line).unwrap()["properties"]["na"].clone()).collect();
        (names, findings.recoded.len())
    };
    assert_eq!(name(b"type,userId,na\nbuy,l,M\xFCller\nbuy,l,\x80 5\n"), (vec![json!("M\u{fc}ller"), json!("\u{20ac} 5")], 1));
    assert_eq!(name("type,userId,na\nbuy,l,Müller\n".as_bytes()), (vec![json!("Müller")], 0));
    let utf_16: Vec<u8> = "\u{feff}type\tuserId\tna\nbuy\tl\tMüller\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(name(&utf_16), (vec![json!("Müller")], 0));
    // Of both: a broken line in UTF-8 costs itself.
    let mixed = [b"type,userId,na\nbuy,l,".as_slice(), "Müller".as_bytes(), b"\nbuy,l,M\xFCller\n"].concat();
    let (batches, _, _) = read(&recipe(Format::Csv), &mixed);
    assert_eq!((batches[0].numbers.len(), batches[0].reasons.lines()), (2, 1));
}

#[test]
fn of_a_dead_line_no_address_and_no_name_of_a_client_leaves() {
    let line =
        |client: &str, status: &str| format!("{client} - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" {status} 5 \"-\" \"-\"\n");
    let log = [
        line("203.0.113.77", "000"),
        line("2001:db8::77", "x"),
        line("ec2-203-0-113-77.compute.example", "200"),
        line("203.0.113.77 198.51.100.8", "200"),
    ];
    let (batches, findings, result) = read(&recipe(Format::Combined), log.concat().as_bytes());
    result.unwrap();
    assert_eq!(findings.notes(), Vec::<String>::new());
    let (dead, _) = kept(&batches);
    assert_eq!(dead.len(), 4);
    for text in dead.iter().chain([&format!("{:?}", batches[0].reasons)]) {
        for hidden in ["203.0.113.77", "2001:db8::77", "203-0-113-77", "198.51.100.8"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
    assert!(
        dead[0].starts_with("status_unreadable: ") && dead[0].contains("GET / HTTP/1.1") && dead[0].contains("[address "),
        "{}",
        dead[0]
    );
}

#[test]
fn equal_lines_are_two_events_of_two_servers_and_one_of_the_same() {
    let ids = |source: Option<&str>| {
        let recipe = Recipe { source: source.map(str::to_owned), ..recipe(Format::Ndjson) };
        let (batches, _, _) = read(&recipe, b"{\"type\":\"a\"}\nnonsense\n");
        (kept(&batches).1, batches[0].source.to_string())
    };
    let (one, name) = ids(Some("web1"));
    assert!(name.starts_with("web1/"));
    assert_eq!(one, ids(Some("web1")).0);
    assert!(one.iter().all(|id| !ids(Some("web2")).0.contains(id) && !ids(None).0.contains(id)));
}

#[test]
fn the_last_line_of_a_log_that_is_still_written_is_not_taken_for_a_common_one() {
    let whole = "192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 512";
    let log = |last: &str| {
        let text = format!("{whole} \"-\" \"x\"\n{whole}\n{whole}{last}");
        let (batches, _, _) = read(&recipe(Format::Combined), text.as_bytes());
        batches[0].reasons.lines()
    };
    assert_eq!((log(""), log("\n")), (1, 0));
}

#[test]
fn no_line_makes_a_batch_larger_than_is_taken() {
    // Its names for addresses are three times as long.
    let lines = ["x".repeat(MAX_LINE), "x".repeat(MAX_LINE), "x".repeat(MAX_LINE / 10 * 9), "1.1.1.1,".repeat(MAX_LINE / 8)];
    let (batches, result) = batches(Format::Ndjson, &lines.join("\n"));
    result.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.numbers.len()).sum::<usize>(), 4);
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.body.len()).collect();
    assert!(sizes.iter().all(|size| *size <= MAX_BYTES), "{sizes:?}");
    let (kept, _) = kept(&batches);
    assert!(kept[3].contains("[address ") && kept[3].len() < MAX_LINE + 100, "{}", kept[3].len());
}

#[test]
fn a_column_is_of_one_kind_in_all_tables_of_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let files_of = |tables: [&str; 2]| {
        let paths: Vec<PathBuf> = (0..2).map(|nth| dir.path().join(format!("{nth}.csv"))).collect();
        paths.iter().zip(tables).for_each(|(path, table)| std::fs::write(path, table).unwrap());
        let (sender, mut receiver) = mpsc::channel(100);
        let mut findings = Findings::default();
        let given: Vec<Given> = paths.iter().cloned().map(Given::File).collect();
        let result = files(&given, &recipe(Format::Csv), &sender, &mut findings);
        let bodies: Vec<u8> = std::iter::from_fn(|| receiver.try_recv().ok()).flat_map(|batch| batch.body).collect();
        result.map(|()| String::from_utf8(bodies).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>())
    };
    // In whatever order, and where the columns stand elsewhere.
    for tables in
        [["type,userId,zip\no,a,90210\n", "type,zip,userId\no,02134,a\n"], ["type,userId,zip\no,a,02134\n", "type,userId,zip\no,a,90210\n"]]
    {
        let events = files_of(tables).unwrap();
        assert!(events.len() == 2 && events.iter().all(|event| event["properties"]["zip"].is_string()), "{events:?}");
    }
    // One that cannot be read is told before anything is sent.
    let problem = files_of(["type,userId\no,a\n", "kind\nx\n"]).unwrap_err().to_string();
    assert!(problem.contains("1.csv: no column is `type`"), "{problem}");
}

#[test]
fn a_column_that_turns_out_to_be_of_another_kind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, mut survey) = (recipe(Format::Csv), Survey::default());
    for (name, table) in [("1.csv", "type,userId,zip,n\no,a,90210,1\n"), ("2.csv", "type,userId,zip,n\no,a,02134,2\n")] {
        let path = dir.path().join(name);
        std::fs::write(&path, table).unwrap();
        survey.open(&path, recipe.tables()).unwrap();
    }
    assert_eq!(survey.mixed().collect::<Vec<_>>(), ["zip"]);
}

#[test]
fn a_table_that_another_program_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(writer, "type,userId,zip\no,a,90210\n"));
    let (sender, mut receiver) = mpsc::channel(100);
    files(&[Given::File(pipe)], &recipe(Format::Csv), &sender, &mut Findings::default()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(receiver.try_recv().unwrap().numbers, [2]);
}

#[test]
fn lines_without_a_time_are_told() {
    let notes = |format, text: &str| read(&recipe(format), text.as_bytes()).1.notes().concat();
    let table = "type,userId,timestamp\no,a,\no,b,2024-03-30T09:30:00Z\n";
    assert!(notes(Format::Csv, table).starts_with("1 lines say no time: what is stored of them is"), "{}", notes(Format::Csv, table));
    // A table without a time is of the time of the import, and that is told.
    let table = "type,anonymousId,order,total\norder,a,1001,1.5\norder,b,1002,2.5\n";
    assert!(notes(Format::Csv, table).starts_with("2 lines say no time: what is stored of them is"), "{}", notes(Format::Csv, table));
    assert!(
        notes(Format::Ndjson, "{\"type\":\"a\"}\n{\"type\":\"b\",\"timestamp\":null}\n")
            .starts_with("2 lines say no time: what is stored of them is")
    );
    assert_eq!(notes(Format::Ndjson, "{\"type\":\"a\",\"timestamp\":\"2024-03-30T09:30:00Z\"}\n"), "");
}

#[test]
fn what_was_assumed_is_told() {
    let line = "10.0.0.1 - - [17/May/2015:10:05:03] \"GET / HTTP/1.1\" 200 512 \"-\" \"\u{1}\" \"8.8.8.8\"\n".replace('\u{1}', "x");
    let bytes: Vec<u8> = line.bytes().map(|byte| if byte == b'x' { 0xFF } else { byte }).collect();
    let (_, findings, _) = read(&recipe(Format::Combined), &bytes);
    assert_eq!([findings.zones_assumed, findings.unused_forwards, findings.replaced], [1; 3]);
    assert!(["--timezone", "--client-field", "--encoding"].iter().all(|option| findings.notes().concat().contains(option)));
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exports").join(name)
}

#[test]
fn what_stands_in_other_tables_is_of_the_events_that_it_names() {
    let mut writer = zip::ZipWriter::new(tempfile::NamedTempFile::new().unwrap());
    for name in ["website_event.csv", "event_data.csv", "session_data.jsonl"] {
        writer.start_file(format!("export/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&std::fs::read(sample(&format!("umami-{name}"))).unwrap()).unwrap();
    }
    let zip = writer.finish().unwrap();
    // In whatever order the tables are given, and in an archive.
    let plain = ["umami-website_event.csv", "umami-event_data.csv", "umami-session_data.jsonl"].map(sample);
    for paths in [plain.to_vec(), plain.iter().rev().cloned().collect(), vec![zip.path().to_owned()]] {
        let (sender, mut receiver) = mpsc::channel(100);
        let mut findings = Findings::default();
        let given: Vec<Given> = paths.iter().cloned().map(Given::File).collect();
        files(&given, &recipe(Format::Umami), &sender, &mut findings).unwrap();
        let batch = receiver.try_recv().unwrap();
        assert!(receiver.try_recv().is_err(), "{paths:?}");
        let lines: Vec<Value> = batch
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let said: Vec<[&Value; 4]> =
            lines.iter().map(|line| ["type", "anonymousId", "userId", "properties"].map(|name| &line[name])).collect();
        let (one, two, none) = (json!("22222222-0000-4000-8000-000000000001"), json!("22222222-0000-4000-8000-000000000002"), Value::Null);
        let traits = json!({"team": "blue", "age": 36});
        let signup = json!({
            "tag": "beta", "plan": "pro, yearly", "seats": 5, "cart.total": 12.5, "is_trial": true, "from": "2024-05-02T00:00:00.000Z",
            "tags": ["a", "b"],
        });
        let expected = [
            [&json!("page"), &one, &none, &json!({})],
            [&json!("identify"), &one, &none, &traits],
            [&json!("signup"), &one, &json!("ada"), &signup],
            [&json!("identify"), &one, &json!("ada"), &traits],
            [&json!("page"), &two, &none, &json!({})],
        ];
        assert_eq!(said, expected, "{paths:?}");
        let notes = findings.notes().join("\n");
        assert!(notes.contains("1 rows of `event_data` and `session_data` could not be read and were left out, the first: "), "{notes}");
        assert!(
            notes.contains(":3: `data_key` is empty") && notes.contains("1 rows of `event_data` and `session_data` belong to nothing"),
            "{notes}"
        );
    }
    let (_, findings, _) = read(&recipe(Format::Umami), &std::fs::read(sample("umami-website_event.csv")).unwrap());
    assert!(findings.notes().concat().contains("no rows of `event_data`"), "{:?}", findings.notes());
    let (_, _, alone) = read(&recipe(Format::Umami), &std::fs::read(sample("umami-event_data.csv")).unwrap());
    assert!(alone.unwrap_err().to_string().contains("website_event"));
}

#[test]
fn times_by_the_clocks_of_a_project_are_noticed() {
    let line = |nth: u64| {
        format!(
            r#"{{"event":"a","properties":{{"distinct_id":"ada","time":{},"$mp_api_timestamp_ms":{}}}}}"#,
            1_714_528_800 + nth,
            1_714_554_000_400 + 1_000 * nth
        )
    };
    let text = (0..5).map(line).collect::<Vec<_>>().join("\n");
    let (_, findings, _) = read(&recipe(Format::Mixpanel), text.as_bytes());
    assert!(findings.notes()[0].starts_with("5 events are -7 hours from when they were received"), "{:?}", findings.notes());
    let mut told = recipe(Format::Mixpanel);
    told.site.times.zone = Some(jiff::tz::TimeZone::UTC);
    assert_eq!(read(&told, text.as_bytes()).1.notes(), Vec::<String>::new());
}
