//! Bad input, row by row: what is sent, and the status and code of the answer. `tests/README.md` says which row is shown where.

mod rows;

use self::rows::{GOOD, Rows};
use super::golden::Edge;
use super::golden::cases::{Case, DISABLED, IMPORT, READ, WRITE, gzip};
use super::read::events_of;
use crate::event::field::flag;
use crate::ingest::tests::fake_log::{FakeLog, Mood};

/// A member said a hundred thousand times is counted, not looked up for each.
#[tokio::test]
async fn what_is_said_a_hundred_thousand_times_is_not_read() {
    let mut rows = Rows::default();
    let many = |member: &str| vec![member; 125_000].join(",");
    let url = many(r#""[Amplitude] Page URL":1"#);
    let amplitude = format!(r#"{{"api_key":"{WRITE}","events":[{{"event_type":"a","user_id":"u","event_properties":{{{url}}}}}]}}"#);
    rows.add(Case::post("amplitude", "/2/httpapi", WRITE, gzip(&amplitude)), 400, "too_many_properties");
    let posthog = format!(r#"{{"api_key":"{WRITE}","batch":[{{"event":"a","distinct_id":"u","properties":{{{url}}}}}]}}"#);
    rows.add(Case::post("posthog", "/batch/", WRITE, gzip(&posthog)), 400, "too_many_properties");
    let (urls, others) = (many(r#""url":1"#), many(r#""x":1"#));
    let page = format!(r#"{{"type":"page","userId":"a","properties":{{{urls}}},"context":{{"page":{{{others}}}}}}}"#);
    rows.add(Case::post("segment", "/v1/page", WRITE, gzip(&page)).with("content-encoding", "gzip"), 400, "event_too_large");
    rows.hold().await;
}

fn good() -> Case {
    Case::post("", "/v1/events", WRITE, GOOD)
}

fn named(name: &str, case: Case) -> Case {
    Case { name: name.to_owned(), ..case }
}

fn at(path: &str) -> Case {
    Case { name: path.to_owned(), path: path.to_owned(), ..good() }
}

#[tokio::test]
async fn methods_and_paths() {
    let mut rows = Rows::default();
    for method in ["GET", "PUT", "DELETE", "TRACE", "PATCH"] {
        rows.add(named(method, good().method(method)), 405, "method_not_allowed");
    }
    // Snowplow's trackers have an event in the address only of their image.
    let snowplow = "/com.snowplowanalytics.snowplow/tp2";
    rows.add(at(snowplow).method("GET"), 405, "method_not_allowed");
    rows.add(Case { body: Vec::new(), ..at(snowplow).method("HEAD") }, 405, "");
    rows.add(at("/i"), 405, "method_not_allowed");
    rows.add(named("preflight", good().method("OPTIONS").with("origin", "https://a.example")), 204, "");
    for path in [
        "/v1/event",
        "/v1/../v1/events",
        "//v1/events",
        "/v1/events/",
        "/%2e%2e/",
        "/v1/%65vents",
        "/static/../../config.toml",
        "/.git",
        "/v1/events%00",
    ] {
        rows.add(at(path), 404, "");
    }
    rows.add(at("/v1/events?debug=1"), 200, "");
    // As GET, but no event.
    for path in ["/v1/pixel.gif", "/i", "/array/k/config", "/v1/projects/k/settings", "/track"] {
        rows.add(Case { body: Vec::new(), ..at(path).method("HEAD") }, 200, "");
    }
    rows.add(named("HEAD", Case { body: Vec::new(), ..good().method("HEAD") }), 405, "");
    rows.add(named("upgrade", good().with("upgrade", "websocket").with("connection", "upgrade")), 200, "");
    rows.hold().await;
}

#[tokio::test]
async fn encodings_and_types() {
    let mut rows = Rows::default();
    let packed = gzip(GOOD);
    let encoded = |name: &str, encoding: &str, body: Vec<u8>| named(name, Case { body, ..good() }.with("content-encoding", encoding));
    rows.add(encoded("gzip", "gzip", packed.clone()), 200, "");
    rows.add(encoded("cut short", "gzip", packed[..packed.len() - 1].to_vec()), 400, "invalid_encoding");
    let mut bad = packed.clone();
    let crc = bad.len() - 8;
    bad[crc] ^= 1;
    rows.add(encoded("bad CRC", "gzip", bad), 400, "invalid_encoding");
    rows.add(encoded("bad header", "gzip", [b"\x1f\x8c".as_slice(), &packed[2..]].concat()), 400, "invalid_encoding");
    rows.add(encoded("plain as gzip", "gzip", GOOD.into()), 400, "invalid_encoding");
    // As pages send it, which set no header.
    rows.body("gzip that does not say so", packed.clone(), 200, "");
    for encoding in ["gzip, gzip", "gzip, gzip, gzip, gzip, gzip", "foo", "compress", "br, gzip"] {
        rows.add(encoded(encoding, encoding, packed.clone()), 415, "unsupported_encoding");
    }
    rows.add(
        encoded("twice gzip, said once", "gzip", {
            use std::io::Write;
            let mut again = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            again.write_all(&packed).unwrap();
            again.finish().unwrap()
        }),
        400,
        "invalid_json",
    );
    rows.add(encoded("empty", "", GOOD.into()), 200, "");
    rows.add(encoded("identity", "identity", GOOD.into()), 200, "");
    rows.add(encoded("bomb", "gzip", gzip(&" ".repeat(64 << 20))), 413, "body_too_large");
    rows.add(encoded("zstd bomb", "zstd", zstd::encode_all([b' '; 1 << 20].repeat(64).as_slice(), 1).unwrap()), 413, "body_too_large");
    for (kind, status, code) in [
        ("text/plain", 200, ""),
        ("text/plain;charset=UTF-8", 200, ""),
        ("application/json; charset=utf8", 200, ""),
        ("application/json", 200, ""),
        ("application/json; charset=utf-16", 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=x", 415, "unsupported_media_type"),
        ("text/html", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 200, ""),
    ] {
        rows.add(named(kind, good().with("content-type", kind)), status, code);
    }
    rows.body("a mark before", [b"\xef\xbb\xbf".as_slice(), GOOD.as_bytes()].concat(), 200, "");
    rows.body("UTF-16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), 400, "invalid_json");
    rows.body("UTF-32", GOOD.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<u8>>(), 400, "invalid_json");
    rows.body("base64", "eyJ0eXBlIjoidmlldyJ9", 400, "invalid_json");
    rows.body("urlencoded", "type=view&anonymousId=ada", 400, "invalid_json");
    rows.body("lines where an array is expected", format!("{GOOD}\n{GOOD}"), 400, "invalid_json");
    rows.hold().await;
}

#[tokio::test]
async fn shapes_of_json() {
    let mut rows = Rows::default();
    rows.body("nothing", "", 400, "empty_body");
    rows.body("blanks", " \n ", 400, "empty_body");
    for body in ["null", "\"\"", "1", "true", "{\"batch\":{}}", "{\"batch\":\"x\"}", "{\"batch\":null}"] {
        rows.body(body, body, 400, "invalid_body");
    }
    for body in ["[]", "{\"batch\":[]}"] {
        rows.body(body, body, 400, "batch_empty");
    }
    let events = |number: usize| format!("[{}]", vec![GOOD; number].join(","));
    rows.body("1000 events", events(1_000), 200, "");
    rows.body("1001 events", events(1_001), 413, "batch_too_many");
    for element in ["null", "7", "\"x\"", "[]"] {
        rows.body(&format!("an element {element}"), format!("[{element},{GOOD}]"), 200, "event_not_object");
        rows.body(&format!("only an element {element}"), format!("[{element}]"), 400, "event_not_object");
    }
    let broken = [
        "{\"type\":\"a\"",
        "{\"type\":\"a\",}",
        "{/**/\"type\":\"a\"}",
        "{'type':'a'}",
        "{} x",
        "{}{}",
        "[{}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":01}",
        "{\"a\":0x10}",
        "{\"a\"}",
        "{\"a\":}",
        "{1:2}",
        "{\"a\":tru}",
        "\u{1}",
    ];
    for body in broken {
        rows.body(body, body, 400, "invalid_json");
    }
    rows.body("100,000 deep", "[".repeat(100_000), 400, "invalid_json");
    rows.body("100,000 objects deep", "{\"a\":".repeat(100_000), 400, "invalid_json");
    rows.properties("{\"a\":-0}", 200, "");
    rows.stored("view", &["a=0"]);
    rows.properties(&format!("{{\"a\":{}{}}}", "[".repeat(8), "]".repeat(8)), 200, "");
    rows.stored("view", &["a=[[[[[[[[]]]]]]]]"]);
    rows.properties(&format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(7), "}".repeat(7)), 200, "");
    rows.stored("view", &["a.a.a.a.a.a.a.a=1"]);
    rows.properties(&format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(8), "}".repeat(8)), 400, "nesting_too_deep");
    for depth in [9, 128, 100_000] {
        rows.properties(&format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)), 400, "nesting_too_deep");
        rows.properties(&format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth)), 400, "nesting_too_deep");
    }
    rows.event(r#","eventId":"a","eventId":"b""#, 400, "duplicate_key");
    rows.properties(r#"{"a":1,"a":2}"#, 200, "");
    rows.stored("view", &["a=1"]);
    rows.warned(&["duplicate_key properties.a"]);
    rows.event(r#","mood":"good","context":{"mood":1}"#, 200, "");
    rows.warned(&["unknown_field mood", "unknown_field context.mood"]);
    rows.event(r#","EventId":"x","eventId ":"y""#, 200, "");
    rows.warned(&["unknown_field EventId", "unknown_field eventId "]);
    rows.body("type by another case", r#"{"Type":"view","anonymousId":"ada"}"#, 400, "event_name_required");
    for number in ["1e400", "-1e400"] {
        rows.properties(&format!("{{\"a\":{number}}}"), 400, "number_out_of_range");
    }
    // The nearest number that there is.
    rows.properties(r#"{"a":1e-400,"b":0.10000000000000000555,"c":123456789.12345678901,"d":9007199254740993}"#, 200, "");
    rows.stored("view", &["a=0", "b=0.1", "c=123456789.12345679", "d=9007199254740993"]);
    for text in [r"\ud800", r"\udc00", r"\udc00\ud800", r"\ud800x"] {
        rows.properties(&format!("{{\"a\":\"{text}\"}}"), 400, "invalid_unicode");
        rows.properties(&format!("{{\"{text}\":1}}"), 400, "invalid_unicode");
        rows.event(&format!(r#","eventId":"{text}""#), 400, "invalid_unicode");
        rows.event(&format!(r#","userId":"{text}""#), 400, "invalid_unicode");
    }
    rows.properties("{\"a\":\"x\u{1}\"}", 400, "invalid_character");
    rows.event(r#","eventId":"a\u0000""#, 400, "event_id_invalid");
    rows.body("NUL in the name", r#"{"type":"a\u0000","anonymousId":"ada"}"#, 400, "invalid_character");
    rows.properties(r#"{"a":"x\u0000y"}"#, 200, "");
    rows.stored("view", &["a=xy"]);
    rows.warned(&["character_removed properties.a"]);
    let marks = format!("e{}", "\u{301}".repeat(4_000));
    rows.properties(&format!("{{\"a\":\"{marks}\"}}"), 200, "");
    rows.stored("view", &[&format!("a={marks}")]);
    let many = |number: usize| format!("{{{}}}", (0..number).map(|number| format!("\"k{number}\":1")).collect::<Vec<_>>().join(","));
    rows.properties(&many(256), 200, "");
    rows.properties(&many(257), 400, "too_many_properties");
    rows.properties(&many(15_000), 400, "too_many_properties");
    // More than is read of one event, however it would be read.
    rows.properties(&many(100_000), 400, "too_many_properties");
    rows.properties(&format!("{{\"a\":[{}]}}", vec!["1"; 100_000].join(",")), 400, "event_too_large");
    for key in ["", "k", &"k".repeat(129), &"k".repeat(1 << 20)] {
        rows.properties(&format!("{{\"{key}\":1}}"), 200, "");
    }
    rows.properties(&format!("{{\"a\":\"{}\"}}", "x".repeat((8 << 10) + 1)), 200, "");
    rows.stored("view", &[&format!("a={}", "x".repeat(8 << 10))]);
    rows.warned(&["value_truncated properties.a"]);
    rows.properties(&format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)), 200, "");
    for value in ["\"1\"", "1", "true", "[]", "{}", "null"] {
        rows.properties(&format!("{{\"mixed\":{value}}}"), 200, "");
    }
    rows.hold().await;
}

#[tokio::test]
async fn values_of_fields() {
    let mut rows = Rows::default();
    rows.event("", 200, "");
    for id in ["\"\"", "\"  \"", "7", "null", "\"00000000-0000-0000-0000-000000000000\"", "{}", "true"] {
        let (status, code) = if id == "null" { (200, "") } else { (400, "event_id_invalid") };
        rows.event(&format!(r#","eventId":{id}"#), status, code);
    }
    rows.event(&format!(r#","eventId":"{}""#, "x".repeat(1 << 20)), 400, "event_id_invalid");
    for id in ["../x", "\u{1f600}", "' OR 1=1 --"] {
        rows.event(&format!(r#","eventId":"{id}""#), 200, "");
    }
    let of_type = |name: &str| format!(r#"{{"type":{name},"anonymousId":"ada"}}"#);
    for (name, code) in [
        ("null", "event_name_required"),
        ("\"\"", "event_name_required"),
        ("\"  \"", "event_name_required"),
        ("7", "event_name_invalid"),
        ("\"$view\"", "event_name_reserved"),
        ("\"pulse_view\"", "event_name_reserved"),
    ] {
        rows.body(name, of_type(name), 400, code);
    }
    rows.body("name of 201 bytes", of_type(&format!("\"{}\"", "n".repeat(201))), 400, "event_name_too_long");
    let names = [
        "constructor",
        "__proto__",
        "toString",
        "hasOwnProperty",
        "'",
        "`",
        "\\\"",
        "\\\\",
        ";--",
        "{p:String}",
        "%",
        "_",
        "*",
        "$",
        "?",
        "<script>",
        "\\\"><img onerror>",
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "\\u001b[31m",
        "a\\r\\nb",
        "\u{202e}abc",
        "a\u{200b}b",
        "\u{e9}",
        "e\u{301}",
    ];
    for name in names {
        let is_plain = name != "$";
        rows.body(
            name,
            of_type(&format!("\"{name}\"")),
            if is_plain { 200 } else { 400 },
            if is_plain { "" } else { "event_name_reserved" },
        );
        if is_plain {
            rows.stored(&serde_json::from_str::<String>(&format!("\"{name}\"")).unwrap(), &[]);
        }
    }
    rows.body("nobody", r#"{"type":"view"}"#, 400, "user_required");
    for user in ["null", "undefined", "NaN", "[object Object]", " none "] {
        rows.body(user, format!(r#"{{"type":"view","userId":"{user}"}}"#), 400, "user_id_illegal");
    }
    // Somebody, but nobody in particular.
    for user in ["0", "anonymous", "00000000-0000-0000-0000-000000000000"] {
        rows.body(user, format!(r#"{{"type":"view","userId":"{user}"}}"#), 200, "");
        rows.warned(&["user_id_illegal userId"]);
        rows.event(&format!(r#","userId":"{user}""#), 200, "");
        rows.warned(&["user_id_illegal userId"]);
    }
    for user in ["7", "true", "{}", "[]", &format!("\"{}\"", "u".repeat(201))] {
        rows.body(user, format!(r#"{{"type":"view","userId":{user}}}"#), 400, "user_id_invalid");
    }
    for (time, code) in [
        ("\"2026-01-01T12:00:00Z\"", ""),
        ("\"2026-01-01T12:00:00+14:00\"", ""),
        ("1767268800", ""),
        ("1767268800000", ""),
        ("1767268800000000", ""),
        ("1767268800000000000", ""),
        ("1767268800.5", ""),
        ("\"1767268800\"", ""),
        ("null", ""),
        ("\"\"", "timestamp_invalid"),
        ("\"now\"", "timestamp_invalid"),
        ("\"2026-01-01T24:01:00Z\"", "timestamp_invalid"),
        ("\"2026-13-01T00:00:00Z\"", "timestamp_invalid"),
        ("{}", "timestamp_invalid"),
        ("true", "timestamp_invalid"),
        ("-1", "timestamp_invalid"),
        ("\"9999-01-01T00:00:00Z\"", "timestamp_out_of_range"),
        ("\"1969-01-01T00:00:00Z\"", "timestamp_invalid"),
    ] {
        rows.event(&format!(r#","timestamp":{time}"#), if code.is_empty() { 200 } else { 400 }, code);
    }
    let odd: [(&str, &[&str]); 9] = [
        (r#","sentAt":"9999-01-01T00:00:00Z""#, &[]),
        (r#","sentAt":{}"#, &["value_unreadable sentAt"]),
        (r#","sentAt":-1e300"#, &["value_unreadable sentAt"]),
        (
            r#","context":{"ip":"999.1.1.1","locale":{},"screen":{"width":-1},"page":{"url":7,"title":[]}}"#,
            &[
                "value_unreadable context.locale",
                "value_unreadable context.screen.width",
                "value_unreadable context.page.title",
                "value_unreadable context.ip",
            ],
        ),
        (r#","sessionId":{}"#, &["value_unreadable sessionId"]),
        (r#","context":7"#, &["value_unreadable context"]),
        (r#","context":{"page":{"url":"javascript:alert(1)"}}"#, &["value_unreadable context.page.url"]),
        (r#","context":{"page":{"referrer":" JavaScript:x"}}"#, &["value_unreadable context.page.referrer"]),
        (
            r#","project_id":"other","received_at":0,"ip":"1.1.1.1","geo":"DE","is_bot":false"#,
            &["unknown_field project_id", "unknown_field received_at", "unknown_field ip", "unknown_field geo", "unknown_field is_bot"],
        ),
    ];
    for (more, warnings) in odd {
        rows.event(more, 200, "");
        rows.warned(warnings);
    }
    rows.event(&format!(r#","context":{{"userAgent":"{}","locale":"{}"}}"#, "u".repeat(1 << 20), "l".repeat(10_000)), 200, "");
    rows.warned(&["value_truncated context.userAgent", "value_truncated context.locale"]);
    rows.hold().await;
}

#[tokio::test]
async fn keys() {
    let mut rows = Rows::default();
    let keyed = |name: &str, headers: &[(&'static str, &str)]| {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Case { headers, ..named(name, good()) }
    };
    rows.add(keyed("none", &[]), 401, "missing_write_key");
    let long = format!("Bearer {}", "k".repeat(20_000));
    for (name, value) in [
        ("unknown", "Bearer pulse_wk_x"),
        ("right beginning", "Bearer pulse_wk_golde"),
        ("longer", "Bearer pulse_wk_goldenn"),
        ("long", long.as_str()),
        ("other letters", "Bearer \u{fc}"),
        ("empty", "Bearer "),
        ("no scheme", "pulse_wk_golden"),
        ("malformed basic", "Basic ???"),
    ] {
        rows.add(keyed(name, &[("authorization", value)]), 401, "invalid_key");
    }
    rows.add(keyed("two", &[("authorization", "Bearer pulse_wk_golden"), ("authorization", "Bearer pulse_wk_golden")]), 400, "invalid_key");
    rows.add(keyed("disabled", &[("authorization", &format!("Bearer {DISABLED}"))]), 403, "key_disabled");
    for key in [READ, IMPORT] {
        rows.add(keyed(key, &[("authorization", &format!("Bearer {key}"))]), 403, "wrong_key_kind");
    }
    rows.add(Case { headers: Vec::new(), ..at(&format!("/v1/events?key={WRITE}")) }, 200, "");
    rows.add(Case { headers: Vec::new(), ..at("/v1/events?key=nonsense") }, 401, "invalid_key");
    // Of Segment's paths only the beacon's has it in the address.
    for (path, status, code) in
        [("/beacon/v1/batch", 200, ""), ("/v1/track", 401, "missing_write_key"), ("/v1/batch", 401, "missing_write_key")]
    {
        let body = br#"{"batch":[{"type":"track","event":"a","userId":"u"}]}"#.to_vec();
        rows.add(Case { headers: Vec::new(), body, ..at(&format!("{path}?writeKey={WRITE}")) }, status, code);
    }
    let of = |key: &str| format!(r#"{{"event":"a","distinct_id":"u","properties":{{"token":"{key}"}}}}"#);
    let several = format!("[{},{}]", of(WRITE), of("other"));
    rows.add(Case { headers: Vec::new(), body: several.into(), ..at("/e/") }, 400, "several_keys");
    let hops = vec!["1.1.1.1"; 1_000].join(",");
    for value in [hops.as_str(), "garbage", "10.0.0.1", "fe80::1%eth0", ",,,"] {
        rows.add(named(&value[..3], good().with("x-forwarded-for", value).with("forwarded", "for=1.1.1.1")), 200, "");
    }
    rows.hold().await;
}

#[tokio::test]
async fn who_asks_not_to_be_tracked_is_flagged() {
    let log = FakeLog::new(Mood::Willing);
    let edge = Edge::start(log.clone(), super::golden::config()).await;
    for (case, expected) in [
        (good(), 0),
        (good().with("dnt", "1"), flag::PRIVACY),
        (good().with("sec-gpc", "1"), flag::PRIVACY),
        (good().with("dnt", "0").with("sec-gpc", "?"), 0),
        // The flag is a browser's: what is said in an event stays what it is.
        (Case { body: br#"{"type":"view","anonymousId":"ada","dnt":1}"#.to_vec(), ..good() }, 0),
    ] {
        assert_eq!(edge.respond(&case).await.0, 200);
        assert_eq!(events_of(&log.last().unwrap().body)[0].flags & flag::PRIVACY, expected, "{:?}", case.headers);
    }
}

/// PostHog's SDK for Python sends up to 5 MiB that are not compressed, and drops what is refused.
#[tokio::test]
async fn bodies_as_large_as_clients_are_told_are_taken_where_they_are_told_so() {
    let edge = Edge::start(FakeLog::new(Mood::Willing), super::golden::config()).await;
    let long = "x".repeat(8_000);
    let event = format!(r#"{{"event":"view","distinct_id":"ada","properties":{{"a":"{long}","b":"{long}","c":"{long}"}}}}"#);
    let body = format!(r#"{{"api_key":"{WRITE}","batch":[{}]}}"#, vec![event; 210].join(","));
    assert!(body.len() > 5_000_000);
    let (status, answer, _) = edge.respond(&Case::post("", "/batch/", WRITE, body.clone())).await;
    assert_eq!((status, &answer["accepted"]), (200, &210.into()), "{answer}");
    let (status, answer, _) = edge.respond(&Case::post("", "/v1/events", WRITE, body)).await;
    assert_eq!((status, &answer["code"]), (413, &"body_too_large".into()));
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_answered_with_503_and_when_to_try_again() {
    for mood in [Mood::Full, Mood::Failing] {
        let edge = Edge::start(FakeLog::new(mood), super::golden::config()).await;
        let (status, answer, headers) = edge.respond(&good()).await;
        assert_eq!((status, &answer["code"]), (503, &serde_json::json!("log_unavailable")));
        assert!(headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    }
}
