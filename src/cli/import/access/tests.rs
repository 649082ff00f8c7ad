use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use indicatif::ProgressBar;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cli::import::input;
use crate::cli::import::lines::Lines;
use crate::cli::import::times::Times;
use crate::http::HttpConfig;

const ID: Uuid = Uuid::from_u128(7);
const PLAIN: &str = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 203023 "http://a.example/" "Mozilla/5.0""#;

fn site() -> Site {
    let proxies = HttpConfig::default().peer([0, 0, 0, 0].into()).unwrap();
    Site { host: None, client_field: None, proxies, times: Times::default() }
}

fn parse_at(line: impl AsRef<[u8]>, site: &Site) -> Result<(Value, Remarks), Malformed> {
    let line = Line { number: 1, bytes: line.as_ref(), is_cut: false, end: b"\n" };
    event(line, ID, site).map(|(event, remarks)| (serde_json::from_slice(&event).unwrap(), remarks))
}

fn parse(line: impl AsRef<[u8]>) -> Result<Value, Malformed> {
    parse_at(line, &site()).map(|(event, _)| event)
}

fn reason(line: impl AsRef<[u8]>) -> &'static str {
    parse(line).unwrap_err().reason
}

#[test]
fn a_log_of_a_known_host_has_addresses_of_pages() {
    let of = |request: &str| {
        let site = Site { host: Some("www.shop.example".to_owned()), ..site() };
        let line = PLAIN.replace("GET /a?b=1 HTTP/1.1", request);
        parse_at(line, &site).unwrap().0["context"]["page"]["url"].clone()
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
    let common = PLAIN.find(" \"http://a").unwrap();
    for end in (0..PLAIN.len()).filter(|end| !(common - 5..=common + 1).contains(end)) {
        assert!(parse(&PLAIN[..end]).is_err(), "{}", &PLAIN[..end]);
    }
    // Which ends where a common line ends.
    assert!(!parse_at(&PLAIN[..common], &site()).unwrap().1.is_combined && parse_at(PLAIN, &site()).unwrap().1.is_combined);
    for (was, is) in [("17/May", "32/May"), ("200", "2OO"), ("203023", "-1"), ("+0000", "Mars"), (" - - ", " - "), ("200", "99999")] {
        assert!(parse(PLAIN.replace(was, is)).is_err(), "{is}");
    }
    assert_eq!(parse(PLAIN.trim_end_matches('"')).unwrap_err().message, "the quote of the user agent is not closed");
    assert!(parse(format!("{PLAIN}x")).is_err());
}

#[test]
fn of_the_real_log_every_line_is_an_event_but_the_one_that_breaks_off() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_access_combined.log.gz"));
    let mut lines = Lines::new(input::open(path, None, &ProgressBar::hidden()).unwrap());
    let (mut days, mut names, mut hosts, mut defects) = (BTreeMap::new(), HashSet::new(), HashSet::new(), Vec::new());
    while let Some(line) = lines.next().unwrap() {
        match parse(line.bytes) {
            Ok(event) => {
                *days.entry(event["timestamp"].as_str().unwrap()[..10].to_owned()).or_insert(0) += 1;
                names.insert(event["context"]["ip"].as_str().unwrap().to_owned());
                hosts.insert(line.bytes.split(|byte| *byte == b' ').next().unwrap().to_vec());
                assert!(event["properties"]["status"].is_u64());
            }
            Err(malformed) => defects.push((line.number, malformed.message)),
        }
    }
    assert_eq!(defects, [(8_899, "the quote of the user agent is not closed".to_owned())]);
    let days: Vec<_> = days.iter().map(|(day, count)| (day.as_str(), *count)).collect();
    assert_eq!(days, [("2015-05-17", 1_632), ("2015-05-18", 2_893), ("2015-05-19", 2_896), ("2015-05-20", 2_578)]);
    assert_eq!(names.len(), hosts.len());
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

#[test]
fn close_relatives_of_the_format_are_read() {
    let agent = "Mozilla/5.0 (X11)";
    let start = "203.0.113.7 - - [10/Oct/2024:13:55:36 +0000]";
    let request = "\"GET /a HTTP/1.1\" 200 512";
    for line in [
        format!("{start} {request} \"-\" \"{agent}\""),
        format!("{start} {request} \"-\" \"{agent}\" 12 \"app@docker\" \"http://172.18.0.2:80\" 3ms"),
        format!("{start} {request} \"-\" \"{agent}\" \"-\""),
        format!("{start} {request} \"-\" \"{agent}\" 530 4100"),
        format!("{start} \"GET /a HTTP/1.1\" \"200\" 512 \"-\" \"{agent}\""),
        format!("{start} \"GET /a HTTP/1.1\" 200 \"512\" \"-\" \"{agent}\""),
        format!("{start} HIT {request} \"-\" \"{agent}\""),
        format!("{start} GET /a HTTP/1.1 \"200\" 512 \"-\" \"{agent}\""),
        format!("{start} {request} \"-\"\"{agent}\""),
        format!("203.0.113.7 - - [2024-10-10T13:55:36+00:00] {request} \"-\" \"{agent}\""),
        format!("203.0.113.7 - - [10/Oct/2024:15:55:36.000 +0200] {request} \"-\" \"{agent}\""),
        format!("203.0.113.7 - - [10/Oct/2024:13:55:36] {request} \"-\" \"{agent}\""),
        format!("203.0.113.7 - jo [x] doe [10/Oct/2024:13:55:36 +0000] {request} \"-\" \"{agent}\""),
        format!("\0\0\0{start} {request} \"-\" \"{agent}\""),
    ] {
        let event = parse(&line).unwrap_or_else(|malformed| panic!("{line}: {malformed:?}"));
        assert_eq!(event["properties"], json!({"method": "GET", "path": "/a", "status": 200, "bytes": 512}), "{line}");
        assert_eq!((&event["timestamp"], &event["context"]["userAgent"]), (&json!("2024-10-10T13:55:36Z"), &json!(agent)), "{line}");
    }
    let common = parse(format!("{start} {request}")).unwrap();
    assert_eq!((&common["context"]["userAgent"], &common["properties"]["bytes"]), (&Value::Null, &json!(512)));
    assert!(parse_at(format!("203.0.113.7 - - [10/Oct/2024:13:55:36] {request}"), &site()).unwrap().1.is_zone_assumed);
    let berlin = Times { zone: Some(crate::cli::import::times::zone_named("Europe/Berlin").unwrap()), format: None };
    let (event, remarks) =
        parse_at(format!("203.0.113.7 - - [10/Oct/2024:13:55:36] {request}"), &Site { times: berlin, ..site() }).unwrap();
    assert_eq!((&event["timestamp"], remarks.is_zone_assumed), (&json!("2024-10-10T11:55:36Z"), false));
}

#[test]
fn quotes_that_were_not_escaped_stay_in_their_field() {
    let event = parse(r#"203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] "GET /a"b" HTTP/1.1" 200 512 "-" "Mozilla "quoted" x""#).unwrap();
    assert_eq!(event["properties"]["path"], "/a\"b\"");
    assert_eq!(event["context"]["userAgent"], "Mozilla \"quoted\" x");
    assert_eq!(reason(r#"203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] "GET / HTTP/1.1" 200 512 "http://a/"b" "x""#), "quote_open");
}

#[test]
fn a_virtual_host_is_where_its_pages_are() {
    let url = |line: &str, host: Option<&str>| {
        let site = Site { host: host.map(str::to_owned), ..site() };
        parse_at(line, &site).unwrap().0["context"]["page"]["url"].clone()
    };
    assert_eq!(url(&format!("Shop.example:443 {PLAIN}"), Some("www.example")), "https://shop.example/a?b=1");
    assert_eq!(url(&format!("shop.example:8443 {PLAIN}"), None), "https://shop.example:8443/a?b=1");
    for no_name in ["_", "localhost", "192.0.2.9:443"] {
        assert_eq!(url(&format!("{no_name} {PLAIN}"), Some("www.example")), "https://www.example/a?b=1", "{no_name}");
    }
}

#[test]
fn behind_a_proxy_the_client_is_the_field_that_was_named_or_whom_trusted_proxies_name() {
    let line = |forwarded: &str| format!("{} \"{forwarded}\"", PLAIN.replace("192.0.2.1", "10.0.0.1"));
    let who = |line: &str, site: &Site| {
        parse_at(line, site).map(|(event, _)| event["context"]["ip"].as_str().unwrap().to_owned()).map_err(|no| no.reason)
    };
    let by_field = |field: i32| Site { client_field: Some(ClientField::Position(field)), ..site() };
    for (forwarded, client) in
        [("8.8.8.8", "8.8.8.8"), ("1.1.1.1, 10.0.0.3", "1.1.1.1"), ("2001:4860:4860::8888", "2001:4860:4860::8888"), ("-", "10.0.0.1")]
    {
        assert_eq!(who(&line(forwarded), &by_field(-1)).unwrap(), client);
        assert_eq!(who(&line(forwarded), &by_field(10)).unwrap(), client);
    }
    assert_eq!(who(&line("unknown"), &by_field(-1)), Err("no_address"));
    assert_eq!(who(&line("8.8.8.8"), &by_field(40)), Err("no_address"));
    assert_eq!(who(&line("8.8.8.8"), &Site { client_field: Some(ClientField::Key("x".to_owned())), ..site() }), Err("no_address"));
    // A list in front is one field, and the client may stand beside the address.
    let beside = PLAIN.replace("192.0.2.1 - -", "10.0.0.1 (8.8.8.8) - -");
    assert_eq!(reason(&beside), "ambiguous_address");
    let trusting = HttpConfig { trusted_proxies: vec!["10.0.0.0/8".to_owned()], ..HttpConfig::default() };
    let trusting = Site { proxies: trusting.peer([0, 0, 0, 0].into()).unwrap(), ..site() };
    assert_eq!(who(&line("6.6.6.6, 8.8.8.8, 10.9.9.9"), &trusting).unwrap(), "8.8.8.8");
    assert_eq!(who(&format!("{PLAIN} \"6.6.6.6\""), &trusting).unwrap(), "192.0.2.1");
    assert!(parse_at(line("8.8.8.8"), &site()).unwrap().1.has_unused_forward);
    assert!(
        !parse_at(line("-"), &site()).unwrap().1.has_unused_forward && !parse_at(line("8.8.8.8"), &trusting).unwrap().1.has_unused_forward
    );
}

#[test]
fn one_address_in_two_spellings_is_one_visitor() {
    let name = |address: &str| parse(PLAIN.replace("192.0.2.1", address)).unwrap()["context"]["ip"].clone();
    // Pulse names them by it.
    assert!(parse(PLAIN).unwrap().get("anonymousId").is_none());
    for spelling in ["::ffff:192.0.2.1", "192.0.2.1:51008", "192.0.2.1, 10.0.0.1"] {
        assert_eq!(name(spelling), name("192.0.2.1"), "{spelling}");
    }
    assert_eq!(name("2001:DB8:0::5"), name("[2001:db8::5]:443"));
    assert_ne!(name("2001:db8::5"), name("2001:db8::6"));
}

#[test]
fn what_a_line_lacks_is_its_reason() {
    for (line, expected) in [
        (PLAIN.replace("192.0.2.1", "p5b.dip0.example"), "no_address"),
        (PLAIN.replace("192.0.2.1", "-"), "no_address"),
        (PLAIN.replace("17/May", "17/Mai"), "timestamp_invalid"),
        (PLAIN.replace(['[', ']'], ""), "no_time"),
        (PLAIN.replace(" 200 ", " OK "), "status_unreadable"),
        ("10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 \"GET / HTTP/1.1\"".to_owned(), "other_format"),
        ("nonsense".to_owned(), "no_time"),
        ("{\"a\":1}".to_owned(), "no_request"),
        ("{".to_owned(), "invalid_json"),
    ] {
        assert_eq!(reason(&line), expected, "{line}");
    }
}

#[test]
fn json_logs_of_several_servers_are_read() {
    let lines = [
        // Caddy
        r#"{"level":"info","ts":1728568536.5,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"10.0.0.1","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET","host":"shop.example","uri":"/a?b=1","headers":{"User-Agent":["UA/1"],"Referer":["https://r.example/"]}},"size":512,"status":200}"#,
        // Traefik
        r#"{"ClientAddr":"203.0.113.7:5000","ClientHost":"203.0.113.7","DownstreamContentSize":512,"DownstreamStatus":200,"RequestHost":"shop.example","RequestMethod":"GET","RequestPath":"/a?b=1","StartUTC":"2024-10-10T13:55:36.5Z","request_User-Agent":"UA/1","request_Referer":"https://r.example/","time":"2024-10-10T13:55:37Z"}"#,
        // nginx, with a format of one's own
        r#"{"time_iso8601":"2024-10-10T15:55:36.5+02:00","remote_addr":"203.0.113.7","request":"GET /a?b=1 HTTP/1.1","status":"200","body_bytes_sent":"512","http_referer":"https://r.example/","http_user_agent":"UA/1","http_host":"shop.example"}"#,
        r#"{"msec":"1728568536.500","remote_addr":"203.0.113.7","request_method":"GET","uri":"/a","args":"b=1","status":200,"bytes_sent":512,"http_referer":"https://r.example/","http_user_agent":"UA/1","server_name":"shop.example"}"#,
        // Elastic's names
        r#"{"@timestamp":"2024-10-10T13:55:36.500Z","source":{"address":"203.0.113.7"},"http":{"request":{"method":"GET","referrer":"https://r.example/"},"response":{"status_code":200,"body":{"bytes":512}}},"url":{"original":"/a?b=1","domain":"shop.example"},"user_agent":{"original":"UA/1"}}"#,
        // Google's load balancer
        r#"{"timestamp":"2024-10-10T13:55:36.5Z","httpRequest":{"requestMethod":"GET","requestUrl":"https://shop.example/a?b=1","status":200,"responseSize":"512","userAgent":"UA/1","remoteIp":"203.0.113.7","referer":"https://r.example/"},"host":"shop.example"}"#,
        // Cloudflare
        r#"{"ClientIP":"203.0.113.7","ClientRequestHost":"shop.example","ClientRequestMethod":"GET","ClientRequestURI":"/a?b=1","EdgeResponseStatus":200,"EdgeResponseBytes":512,"ClientRequestUserAgent":"UA/1","ClientRequestReferer":"https://r.example/","EdgeStartTimestamp":1728568536500000000}"#,
    ];
    for line in lines {
        let event = parse(line).unwrap_or_else(|malformed| panic!("{line}: {malformed:?}"));
        assert_eq!(
            event["context"],
            json!({"ip": "203.0.113.7", "userAgent": "UA/1", "page": {
                "url": "https://shop.example/a?b=1", "path": "/a", "search": "?b=1", "referrer": "https://r.example/",
            }}),
            "{line}"
        );
        assert_eq!(event["properties"], json!({"method": "GET", "path": "/a", "status": 200, "bytes": 512}), "{line}");
        assert_eq!(event["timestamp"], "2024-10-10T13:55:36.5Z", "{line}");
    }
    let behind = r#"{"ts":1728568536,"remote_addr":"10.0.0.1","request":"GET / HTTP/1.1","status":200,"x_forwarded_for":"8.8.8.8, 10.0.0.2","own":{"ip":"9.9.9.9"}}"#;
    let who = |key: &str| {
        parse_at(behind, &Site { client_field: Some(ClientField::Key(key.to_owned())), ..site() }).unwrap().0["context"]["ip"].clone()
    };
    assert_eq!((who("x_forwarded_for"), who("own.ip"), who("none")), (json!("8.8.8.8"), json!("9.9.9.9"), json!("10.0.0.1")));
    assert!(parse_at(behind, &site()).unwrap().1.has_unused_forward);
}

#[test]
fn lines_wrapped_by_containers_and_journals_are_read() {
    for wrapped in [
        json!({"log": format!("{PLAIN}\n"), "stream": "stdout", "time": "2024-10-10T13:55:36Z"}),
        json!({"MESSAGE": PLAIN, "_HOSTNAME": "web1", "__REALTIME_TIMESTAMP": "1"}),
        json!({"log": json!({"log": "x"}).to_string().replace("log", "no"), "stream": "stdout"}),
    ] {
        match parse(wrapped.to_string()) {
            Ok(event) => assert_eq!(event, parse(PLAIN).unwrap()),
            Err(malformed) => assert_eq!(malformed.reason, "no_request", "{wrapped}"),
        }
    }
    let caddy = r#"{"ts":1728568536,"request":{"remote_ip":"192.0.2.1","method":"GET","uri":"/"},"status":200}"#;
    assert!(parse(json!({"log": caddy, "stream": "stderr"}).to_string()).is_ok());
    // Before 2.5 it wrote the port beside the address.
    let old = caddy.replace(r#""remote_ip":"192.0.2.1""#, r#""remote_addr":"192.0.2.1:5100""#);
    assert_eq!(parse(old).unwrap(), parse(caddy).unwrap());
}

proptest! {
    #[test]
    fn what_a_server_writes_is_read_back(
        (path, search, agent) in ("/[^? #]{0,12}", "[^#\0]{1,12}", "\\PC{0,12}[\n\t\"\\\\é]{0,4}"),
        (second, offset) in (0i64..4_000_000_000, -18i8..=18),
        (status, bytes) in (100u16..600, proptest::option::of(any::<u32>())),
    ) {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(offset));
        let time = Timestamp::from_second(second).unwrap();
        let shown = bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        let written = time.to_zoned_datetime(zone).strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
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
