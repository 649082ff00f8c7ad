use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use indicatif::ProgressBar;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cli::import::lines::Lines;

const ID: Uuid = Uuid::from_u128(7);
const PLAIN: &str = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 203023 "http://a.example/" "Mozilla/5.0""#;

fn addresses() -> AddressHasher {
    AddressHasher::new(&[7; 32])
}

fn parse(line: impl AsRef<[u8]>) -> Result<Value, Malformed> {
    event(line.as_ref(), ID, &Site { addresses: addresses(), host: None }).map(|event| serde_json::from_slice(&event).unwrap())
}

#[test]
fn a_log_of_a_known_host_has_addresses_of_pages() {
    let of = |request: &str| {
        let site = Site { addresses: addresses(), host: Some("www.shop.example".to_owned()) };
        let line = PLAIN.replace("GET /a?b=1 HTTP/1.1", request);
        let event: Value = serde_json::from_slice(&event(line.as_bytes(), ID, &site).unwrap()).unwrap();
        event["context"]["page"]["url"].clone()
    };
    assert_eq!(of("GET /a?b=1 HTTP/1.1"), "https://www.shop.example/a?b=1");
    assert_eq!(of("GET nonsense HTTP/1.1"), Value::Null);
}

fn with_request(request: &str) -> Value {
    let event = parse(PLAIN.replace("GET /a?b=1 HTTP/1.1", request)).unwrap();
    json!([event["properties"]["method"], event["properties"]["path"], event["context"]["page"]["search"]])
}

#[test]
fn a_line_says_what_it_says() {
    assert_eq!(
        parse(PLAIN).unwrap(),
        json!({
            "eventId": ID.to_string(), "type": "http_request", "timestamp": "2015-05-17T10:05:03Z",
            "anonymousId": addresses().name(b"192.0.2.1"),
            "context": {
                "ip": "192.0.2.1", "userAgent": "Mozilla/5.0",
                "page": {"path": "/a", "search": "?b=1", "referrer": "http://a.example/"},
            },
            "properties": {"method": "GET", "path": "/a", "status": 200, "bytes": 203_023},
        })
    );
}

#[test]
fn what_is_not_there_is_left_out() {
    let event = parse(r#"::1 - bob smith [17/May/2015:10:05:03 +0200] "-" 408 - "-" "-" 0.004 "more""#).unwrap();
    assert_eq!(event["timestamp"], "2015-05-17T08:05:03Z");
    assert_eq!(event["context"], json!({"ip": "::1", "page": {}}));
    assert_eq!(event["properties"], json!({"status": 408}));
}

#[test]
fn odd_requests_are_requests() {
    assert_eq!(with_request("GET /a b.html?c d HTTP/1.0"), json!(["GET", "/a b.html", "?c d"]));
    assert_eq!(with_request("GET /old"), json!(["GET", "/old", null]));
    assert_eq!(with_request("GET http://a.example?x#y HTTP/1.1"), json!(["GET", null, "?x"]));
    assert_eq!(with_request("GET http://a.example/b#y HTTP/1.1"), json!(["GET", "/b", null]));
    assert_eq!(with_request("OPTIONS * HTTP/1.0"), json!(["OPTIONS", "*", null]));
    assert_eq!(with_request("\\x16\\x03\\x01"), json!([null, "\u{16}\u{3}\u{1}", null]));
    assert_eq!(with_request(""), json!([null, null, null]));
    assert_eq!(with_request(" "), json!([null, " ", null]));
}

#[test]
fn escapes_are_undone_and_bytes_that_are_no_text_replaced() {
    let agent = |agent: &str| parse(PLAIN.replace("Mozilla/5.0", agent)).unwrap()["context"]["userAgent"].clone();
    assert_eq!(agent(r#"a \"b\" \\ \xc3\xa9 \t \q \x4"#), json!("a \"b\" \\ é \t \\q \\x4"));
    assert_eq!(agent(r"\xff"), json!("\u{FFFD}"));
    assert_eq!(agent(r"ends in \\"), json!(r"ends in \"));
    let raw = PLAIN.replace("Mozilla/5.0", "?").into_bytes().into_iter().map(|byte| if byte == b'?' { 0xFF } else { byte });
    assert_eq!(parse(raw.collect::<Vec<_>>()).unwrap()["context"]["userAgent"], json!("\u{FFFD}"));
}

#[test]
fn a_line_that_is_not_whole_is_a_defect() {
    for end in 0..PLAIN.len() {
        assert!(parse(&PLAIN[..end]).is_err(), "{}", &PLAIN[..end]);
    }
    for (was, is) in [("17/May", "32/May"), ("200", "2OO"), ("203023", "-1"), ("+0000", "UTC"), (" - - ", " - "), ("200", "99999")] {
        assert!(parse(PLAIN.replace(was, is)).is_err(), "{is}");
    }
    assert_eq!(parse(PLAIN.trim_end_matches('"')).unwrap_err().0, "the quote of the user agent is not closed");
    assert!(parse(format!("{PLAIN}x")).is_err());
}

#[test]
fn of_the_real_log_every_line_is_an_event_but_the_one_that_breaks_off() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_access_combined.log.gz"));
    let mut lines = Lines::open(path, &ProgressBar::hidden()).unwrap();
    let (mut days, mut names, mut hosts, mut defects) = (BTreeMap::new(), HashSet::new(), HashSet::new(), Vec::new());
    while let Some(line) = lines.next(|_| false).unwrap() {
        match parse(line.bytes) {
            Ok(event) => {
                *days.entry(event["timestamp"].as_str().unwrap()[..10].to_owned()).or_insert(0) += 1;
                names.insert(event["anonymousId"].as_str().unwrap().to_owned());
                hosts.insert(line.bytes.split(|byte| *byte == b' ').next().unwrap().to_vec());
                assert!(event["properties"]["status"].is_u64());
            }
            Err(Malformed(message)) => defects.push((line.number, message)),
        }
    }
    assert_eq!(defects, [(8_899, "the quote of the user agent is not closed".to_owned())]);
    let days: Vec<_> = days.iter().map(|(day, count)| (day.as_str(), *count)).collect();
    assert_eq!(days, [("2015-05-17", 1_632), ("2015-05-18", 2_893), ("2015-05-19", 2_896), ("2015-05-20", 2_578)]);
    assert_eq!(names.len(), hosts.len());
    assert!(names.iter().all(|name| name.len() == 32));
}

/// Writes a field as Apache does.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(byte)),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            0x20..0x7F => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
}

proptest! {
    #[test]
    fn what_a_server_writes_is_read_back(
        (path, search, agent) in ("/[^? #]{0,12}", "[^#\0]{1,12}", "\\PC{0,12}[\n\t\"\\\\é]{0,4}"),
        (second, offset) in (0i64..4_000_000_000, -23i8..=23),
        (status, bytes) in (100u16..600, proptest::option::of(any::<u32>())),
    ) {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(offset));
        let time = Timestamp::from_second(second).unwrap();
        let shown = bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        let written = time.to_zoned_datetime(zone).strftime(TIME).to_string();
        let line = format!(r#"192.0.2.1 - - [{written}] "{}" {status} {shown} "-" "{}""#, escaped(&format!("POST {path}?{search} HTTP/1.1")), escaped(&agent));
        let event = parse(line).unwrap();
        prop_assert_eq!(&event["timestamp"], &json!(time.to_string()));
        prop_assert_eq!(&event["properties"], &match bytes {
            Some(bytes) => json!({"method": "POST", "path": path, "status": status, "bytes": bytes}),
            None => json!({"method": "POST", "path": path, "status": status}),
        });
        prop_assert_eq!(&event["context"]["page"]["search"], &json!(format!("?{search}")));
        prop_assert_eq!(event["context"]["userAgent"].as_str().unwrap_or_default(), if agent == "-" { "" } else { &agent });
    }

    #[test]
    fn arbitrary_bytes_give_an_object_or_a_defect(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(line));
    }

    #[test]
    fn a_damaged_line_gives_an_object_or_a_defect(at in 0..PLAIN.len(), byte in any::<u8>()) {
        let mut line = PLAIN.as_bytes().to_vec();
        line[at] = byte;
        if let Ok(event) = parse(line) {
            prop_assert!(event.is_object());
        }
    }
}
