use std::io::{Cursor, Write};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cli::import::input;
use crate::cli::import::times::zone_named;
use crate::ingest::{Spoken, translate};

const ALL: [Format; 7] =
    [Format::Posthog, Format::Mixpanel, Format::Amplitude, Format::Segment, Format::Umami, Format::Ga4, Format::Plausible];
const ID: Uuid = Uuid::from_u128(7);

fn times(zone: Option<&str>) -> Times {
    Times { zone: zone.map(|name| zone_named(name).unwrap()), format: None }
}

/// What a file becomes, record by record.
fn read(format: Format, text: &[u8], zone: Option<&str>) -> Result<Vec<Result<Vec<Value>, Malformed>>, String> {
    let export = export_of(format).unwrap();
    let (times, mut users) = (times(zone), Users::default());
    let mut records = Records::open(input::text(Cursor::new(text.to_vec()), None).map_err(|problem| problem.to_string())?, export)?;
    let mut out = Vec::new();
    while let Some(Raw { record, .. }) = records.next().unwrap() {
        let events = record.and_then(|record| export.event(record, &times)).and_then(|event| lines(event, ID, &mut users));
        out.push(events.map(|events| events.iter().map(|event| serde_json::from_slice(event).unwrap()).collect()));
    }
    Ok(out)
}

/// The events of a file of which every record is one.
fn events(format: Format, text: &str) -> Vec<Value> {
    read(format, text.as_bytes(), None).unwrap().into_iter().flat_map(Result::unwrap).collect()
}

/// The sample of a product, as its documents show it.
fn sample(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/exports/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn lists_of_plausible_are_read_from_tables_too() {
    let table = |keys: &str, values: &str| {
        format!("name,timestamp,user_id,meta.key,meta.value\npageview,2024-05-01 09:00:00,1,\"{keys}\",\"{values}\"\n")
    };
    let properties = events(Format::Plausible, &table("['plan','note','who']", r"['pro','a,b','it\'s\\me']"))[0]["properties"].clone();
    assert_eq!(properties, serde_json::json!({"plan": "pro", "note": "a,b", "who": "it's\\me"}));
    assert_eq!(events(Format::Plausible, &table("[]", "[]"))[0]["properties"], serde_json::json!({}));
    let broken = read(Format::Plausible, table("['plan", "['pro']").as_bytes(), None).unwrap();
    assert_eq!(broken[0].as_ref().unwrap_err().reason, "invalid_json");
}

#[test]
fn rows_of_plausible_say_how_far_a_page_was_read_and_which_one_behind_a_hash() {
    let event = |name: &str, depth: u8| {
        let row = format!(
            r#"{{"name":"{name}","timestamp":"2024-05-01 09:00:00","user_id":1,"hostname":"a.example","pathname":"/#/app","scroll_depth":{depth}}}"#
        );
        events(Format::Plausible, &row).remove(0)
    };
    assert_eq!(event("engagement", 40)["properties"], json!({"scroll_depth": 40.0}));
    for none in [event("engagement", 255), event("pageview", 0)] {
        assert_eq!((&none["properties"], &none["context"]["page"]["path"]), (&json!({}), &json!("/#/app")));
    }
}

#[test]
fn a_campaign_of_which_google_knows_nothing_is_none() {
    let parameter = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"string_value":"{value}"}}}}"#);
    let told = [("source", "(direct)"), ("medium", "(none)"), ("campaign", "(not set)"), ("term", "(not provided)"), ("content", "a")];
    let parameters = told.map(|(key, value)| parameter(key, value)).join(",");
    let row = format!(
        r#"{{"event_name":"page_view","event_timestamp":"1714554000123456","user_pseudo_id":"1.2","event_params":[{parameters}],
           "collected_traffic_source":{{"manual_source":"(not set)"}}}}"#
    );
    let events = events(Format::Ga4, &row.replace('\n', " "));
    assert_eq!(events[0]["context"]["campaign"], serde_json::json!({"content": "a"}));
}

#[test]
fn samples_of_every_product_become_these_events() {
    for (format, name) in [
        (Format::Posthog, "posthog.jsonl"),
        (Format::Posthog, "posthog-events.csv"),
        (Format::Posthog, "posthog-api.json"),
        (Format::Mixpanel, "mixpanel.jsonl"),
        (Format::Amplitude, "amplitude.json"),
        (Format::Segment, "segment.jsonl"),
        (Format::Umami, "umami-website_event.csv"),
        (Format::Ga4, "ga4.jsonl"),
        (Format::Plausible, "plausible-events_v2.jsonl"),
    ] {
        let events = events(format, &sample(name));
        let lines: Vec<String> = events.iter().map(|event| serde_json::to_string_pretty(event).unwrap()).collect();
        insta::assert_snapshot!(name.replace('.', "_"), lines.join("\n"));
    }
}

#[test]
fn sums_by_day_are_refused_with_what_to_do_instead() {
    let sums = "\"date\",\"visitors\",\"pageviews\",\"bounces\",\"visits\",\"visit_duration\"\n2024-01-01,5,9,1,6,300\n";
    let refused = read(Format::Plausible, sums.as_bytes(), None).unwrap_err();
    assert!(refused.contains("sums by day") && refused.contains("events_v2"), "{refused}");
    let data = "website_id,session_id,website_event_id,data_key,string_value\na,b,c,d,e\n";
    assert!(read(Format::Umami, data.as_bytes(), None).unwrap_err().contains("website_event"));
    for format in ALL {
        assert!(read(format, b"<html><body>Sign in</body></html>\n", None).is_err(), "{format:?}");
    }
}

#[test]
fn a_time_of_mixpanel_is_of_utc_or_of_the_projects_clocks() {
    let at = |time: &str, zone| {
        let line = format!(r#"{{"event":"a","properties":{{"distinct_id":"ada","time":{time}}}}}"#);
        read(Format::Mixpanel, line.as_bytes(), zone).unwrap().remove(0).map(|events| events[0]["timestamp"].clone())
    };
    assert_eq!(at("1602611311", None), Ok(json!(1_602_611_311_000_i64)));
    assert_eq!(at("1602611311250", None), Ok(json!(1_602_611_311_250_i64)));
    // Ten to nine in the morning in Los Angeles is ten to four in the afternoon, in summer.
    assert_eq!(at("1602611311", Some("America/Los_Angeles")), Ok(json!(1_602_611_311_000_i64 + 7 * 3_600_000)));
    assert_eq!(at("1580000000.5", Some("America/Los_Angeles")), Ok(json!(1_580_000_000_500_i64 + 8 * 3_600_000)));
    assert_eq!(at("\"soon\"", None).unwrap_err().reason, "timestamp_invalid");
    assert_eq!(at("null", None).unwrap_err().reason, "no_time");
}

#[test]
fn a_time_that_names_no_zone_is_of_utc_unless_the_caller_says_otherwise() {
    let line = r#"{"event_type":"a","user_id":"ada","event_time":"2024-03-30 09:30:00.123456"}"#;
    let at = |zone| read(Format::Amplitude, line.as_bytes(), zone).unwrap().remove(0).unwrap()[0]["timestamp"].clone();
    assert_eq!(at(None), "2024-03-30T09:30:00.123456Z");
    assert_eq!(at(Some("Europe/Berlin")), "2024-03-30T08:30:00.123456Z");
}

#[test]
fn ids_are_the_products_own_where_they_are_unique() {
    let id = |format, line: &str| events(format, line)[0]["eventId"].clone();
    let uuid = "0195f1a0-0000-7000-8000-000000000001";
    let amplitude = |insert_id: &str| {
        format!(r#"{{"event_type":"a","user_id":"ada","event_time":"2024-03-30 09:30:00","$insert_id":{insert_id},"uuid":"{uuid}"}}"#)
    };
    assert_eq!(id(Format::Amplitude, &amplitude("\"Drop Purchased:2\"")), uuid);
    let own = "1e6da68c-718b-4af1-97cc-a9f9e9758342";
    assert_eq!(id(Format::Amplitude, &amplitude(&format!("\"{own}\""))), own);
    let mixpanel = |event: &str, insert_id: &str| {
        format!(r#"{{"event":"{event}","properties":{{"distinct_id":"ada","time":1602611311,"$insert_id":{insert_id}}}}}"#)
    };
    let random = "\"hpuDqcvpltpCjBsebtxwadtEBDnFAdycabFb1\"";
    assert_eq!(id(Format::Mixpanel, &mixpanel("a", random)).to_string(), random);
    // Mixpanel takes two events of one order for two.
    assert_ne!(id(Format::Mixpanel, &mixpanel("a", "\"order-1\"")), id(Format::Mixpanel, &mixpanel("b", "\"order-1\"")));
    assert_eq!(id(Format::Mixpanel, &mixpanel("a", "\"order-1\"")), id(Format::Mixpanel, &mixpanel("a", "\"order-1\"")));
    for insert_id in ["\"order-1\"", "1042", random] {
        let live = translate(Spoken::Mixpanel, &serde_json::from_str(&mixpanel("a", insert_id)).unwrap()).unwrap();
        let [own, live] = [&events(Format::Mixpanel, &mixpanel("a", insert_id))[0], &Value::Object(live.event)];
        let ids = |event: &Value| [event["eventId"].clone(), event["properties"]["$insert_id"].clone()];
        assert_eq!(ids(own), ids(live), "{insert_id}");
    }
    for nothing in ["null", "\"\""] {
        assert_eq!(id(Format::Mixpanel, &mixpanel("a", nothing)), ID.to_string(), "{nothing}");
    }
    for junk in ["\"undefined\"", "\"\\u0000\"", "7", "[]"] {
        let line = format!(r#"{{"type":"track","event":"a","userId":"ada","timestamp":"2024-03-30T09:30:00Z","messageId":{junk}}}"#);
        assert_eq!(id(Format::Segment, &line), ID.to_string(), "{junk}");
    }
}

#[test]
fn what_is_said_of_a_user_with_every_event_is_said_when_it_changes() {
    let line = |nth: u32, plan: &str| {
        format!(
            r#"{{"event_type":"a","user_id":"ada","event_time":"2024-03-30 09:30:0{nth}","uuid":"0195f1a0-0000-7000-8000-00000000000{nth}","user_properties":{{"plan":"{plan}"}}}}"#
        )
    };
    let text = [line(1, "free"), line(2, "free"), line(3, "pro"), line(4, "pro")].join("\n");
    let events = events(Format::Amplitude, &text);
    let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "identify", "a", "a", "identify", "a"]);
    assert_eq!((&events[4]["properties"]["plan"], &events[4]["timestamp"]), (&json!("pro"), &events[3]["timestamp"]));
    assert_ne!(events[1]["eventId"], events[0]["eventId"]);
}

#[test]
fn an_array_is_read_element_by_element() {
    let event = |id: u32| format!(r#"{{"event":"a, ] }} \" [{id}","distinct_id":"ada","timestamp":"2024-03-30T09:30:00Z"}}"#);
    let (one, two) = (event(1), event(2));
    for text in [
        format!("[{one},{two}]"),
        format!("[\n  {one},\n  {two}\n]\n"),
        format!(" [ {one} {two}"),
        format!(r#"{{"next":"https://a.example/?a=[\"1]","results":[{one},{two}]}}"#),
        format!("{{\n  \"results\": [\n    {one},\n    {two}\n  ],\n  \"next\": null\n}}\n"),
        // Pages put behind each other are read to the end, and so are lines that speak of results.
        format!("[{one}]\n[]\n[{two}]"),
        format!(r#"{{"next":"x","results":[{one}]}}{{"next":null,"results":[{two}]}}"#),
        format!("{}\n{two}", one.replacen('{', r#"{"a":1,"results":[[1]],"#, 1)),
    ] {
        assert_eq!(events(Format::Posthog, &text).len(), 2, "{text}");
    }
    let mixed = format!("[{one}, 5, \"x\", [1,[2]], {two}, {{\"event\":");
    let kinds: Vec<bool> = read(Format::Posthog, mixed.as_bytes(), None).unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(kinds, [true, false, false, false, true, false]);
    let huge = format!("[{one},{{\"x\":\"{}\"}},{two}]", "x".repeat(3 << 20));
    let read = read(Format::Posthog, huge.as_bytes(), None).unwrap();
    assert_eq!((read.len(), read[1].as_ref().unwrap_err().reason), (3, "too_long"));
}

/// An archive of files by name.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn archive(bytes: &[u8]) -> std::io::Result<Archive> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Ok(Archive::open(file.path())?.unwrap())
}

#[test]
fn an_archive_gives_its_files_and_nothing_else() {
    let mut read = archive(&zip(&[("a/b.json", b"{}"), ("__MACOSX/a/._b.json", b"x"), ("../../c.json", b"[]")])).unwrap();
    let names: Vec<Option<String>> = (0..read.len()).map(|index| read.name(index)).collect();
    // Nothing is written under such a name: a file is read in place.
    assert_eq!(names, [Some("a/b.json".to_owned()), None, Some("../../c.json".to_owned())]);
    assert_eq!([0, 2].map(|index| std::io::read_to_string(read.text(index, None).unwrap()).unwrap()), ["{}", "[]"]);
    assert!(Archive::open(tempfile::NamedTempFile::new().unwrap().path()).unwrap().is_none());
    // Cut in the middle, it has no list of its files.
    let whole = zip(&[("a.json", &[b'x'; 1000])]);
    assert!(archive(&whole[..whole.len() / 2]).is_err());
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_archive_that_inflates_beyond_measure_is_not_read_on() {
    let zeros = vec![b'0'; 20 << 20];
    let of_one = zip(&[("a.json", &zeros), ("b.json", &zeros)]);
    let of_two = zip(&[("a.json.gz", &gzipped(&zeros)), ("b.json.gz", &gzipped(&zeros))]);
    for bomb in [of_one, of_two] {
        let mut read = archive(&bomb).unwrap();
        let texts = (0..2).map(|index| read.text(index, None).and_then(|mut text| std::io::copy(&mut text, &mut std::io::sink())));
        let problems: Vec<String> = texts.filter_map(Result::err).map(|problem| problem.to_string()).collect();
        assert!(problems.iter().any(|problem| problem.contains("times its size")), "{}: {problems:?}", bomb.len());
    }
    // One in another is not opened.
    let mut nested = archive(&zip(&[("a.json", &zip(&[("b.json", b"{}")]))])).unwrap();
    assert!(nested.text(0, None).err().is_some_and(|problem| problem.to_string().contains("zip archive")));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(name(), inner, 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Names that some product knows, and others.
fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "event",
        "properties",
        "time",
        "timestamp",
        "distinct_id",
        "$set",
        "$device_id",
        "uuid",
        "$insert_id",
        "event_type",
        "user_id",
        "device_id",
        "event_time",
        "user_properties",
        "type",
        "messageId",
        "context",
        "page",
        "traits",
        "created_at",
        "url_path",
        "screen",
        "event_name",
        "event_params",
        "key",
        "value",
        "string_value",
        "event_timestamp",
        "device",
        "web_info",
        "geo",
        "country",
        "name",
        "meta.key",
        "meta.value",
        "hostname",
        "referrer",
        "$distinct_ids",
        "$distinct_id_before_identity",
        "items",
        "ecommerce",
        "platform",
    ];
    prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_record_ends_an_import(records in prop::collection::vec(prop::collection::hash_map(name(), json_value(), 0..12), 1..5)) {
        let text = records.iter().map(|record| json!(record).to_string()).collect::<Vec<_>>().join("\n");
        for format in ALL {
            let read = read(format, text.as_bytes(), None).unwrap();
            prop_assert_eq!(read.len(), records.len());
            for event in read.into_iter().flatten().flatten() {
                prop_assert!(event["eventId"].as_str().is_some_and(|id| event_id_of(id).is_some()) && event["timestamp"] != Value::Null);
            }
        }
    }

    #[test]
    fn no_line_ends_an_import(bytes in prop::collection::vec(any::<u8>(), 0..300), begin in prop::sample::select(vec!["{", "[", "{\"event\":", "event,distinct_id,timestamp\n", ""])) {
        let text = [begin.as_bytes(), &bytes].concat();
        for format in ALL {
            // A file that is no text is refused by name.
            drop(read(format, &text, Some("Europe/Berlin")));
        }
    }
}
