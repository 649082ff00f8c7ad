//! Claims about the event contract, and decode against a naive decoder over `serde_json::Value`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::event::field::flag;
use crate::event::packed::{Entry, EventView};
use crate::ingest::protocol::pulse::ENVELOPE;
use crate::ingest::tests::read::country_of;
use crate::ingest::tests::{NOW, body, lines};
use crate::ingest::verdict::Decoded;
use crate::ingest::{envelope, json_bounds};
use crate::outcome::Defect;

fn decode(text: &str) -> Decoded {
    body(text.as_bytes()).unwrap()
}

fn event(more: &str) -> String {
    format!(r#"{{"eventId":"0190f7a4-0000-7000-8000-000000000001","type":"view","anonymousId":"ada"{more}}}"#)
}

/// The one fault of a body of one event.
fn fault(text: &str) -> &'static str {
    let decoded = body(text.as_bytes()).unwrap();
    assert_eq!((decoded.verdicts.accepted, decoded.verdicts.rejected.len()), (0, 1), "{text}: {:?}", decoded.verdicts.rejected);
    decoded.verdicts.rejected[0].defect.as_str()
}

/// What is said about a body whose events are all taken: codes and fields.
fn warnings(text: &str) -> Vec<(&'static str, String)> {
    let decoded = decode(text);
    assert_eq!(decoded.verdicts.rejected, [], "{text}");
    decoded.verdicts.warnings.list().map(|warning| (warning.code, warning.field)).collect()
}

/// The properties of the one event of a body, and what is said about it.
fn properties(json: &str) -> (BTreeMap<String, Flat>, Vec<(&'static str, String)>) {
    let text = event(&format!(r#","properties":{json}"#));
    let decoded = decode(&text);
    assert_eq!(decoded.verdicts.accepted, 1, "{json}: {:?}", decoded.verdicts.rejected);
    (packed_properties(&events(&decoded)[0]), warnings(&text))
}

#[test]
fn a_property_that_cannot_be_kept_costs_itself() {
    let long = "k".repeat(129);
    let forms = [
        (r#"{"a.b":1,"a":{"b":2},"c":3}"#.to_owned(), "duplicate_key", "properties.a.b", "a.b,c"),
        (r#"{"a":{"b":{}},"a.b":1,"c":3}"#.to_owned(), "duplicate_key", "properties.a.b", "a.b,c"),
        (r#"{"x":1,"x":2}"#.to_owned(), "duplicate_key", "properties.x", "x"),
        (r#"{"":1,"plan":"pro"}"#.to_owned(), "property_key_invalid", "properties.", "plan"),
        (r#"{"a":{"":{"b":1},"c":2}}"#.to_owned(), "property_key_invalid", "properties.a.", "a.c"),
        (format!(r#"{{"{long}":1,"a":2}}"#), "property_key_invalid", &format!("properties.{long}"), "a"),
        (format!(r#"{{"x.{long}":1,"a":2}}"#), "property_key_invalid", &format!("properties.x.{long}"), "a"),
        (r#"{"plan\u0000":"pro","a":[]}"#.to_owned(), "invalid_character", "properties.plan\0", "a"),
        (r#"{"a":"x\u0000y"}"#.to_owned(), "character_removed", "properties.a", "a"),
    ];
    for (json, code, field, kept) in forms {
        let (properties, warnings) = properties(&json);
        assert_eq!(properties.into_keys().collect::<Vec<_>>().join(","), kept, "{json}");
        assert_eq!(warnings, [(code, field.to_owned())], "{json}");
    }
    let (kept, warnings) = properties(&format!(r#"{{" plan ":"pro","text":"{}"}}"#, "x".repeat(9_000)));
    assert_eq!(kept[" plan "], Flat::Text("pro".to_owned()));
    assert_eq!((kept["text"].clone(), warnings), (Flat::Text("x".repeat(8_192)), vec![("value_truncated", "properties.text".to_owned())]));
}

#[test]
fn an_empty_array_is_an_empty_object_and_null_is_nothing() {
    for nothing in ["[]", "{}", "null", r#"{"a":null}"#, r#"{"a":{"b":null}}"#] {
        assert_eq!(properties(nothing), (BTreeMap::new(), vec![]), "{nothing}");
    }
    assert_eq!(properties(r#"{"a":null,"a":1}"#).1, []);
    assert_eq!(fault(&event(r#","properties":[1]"#)), "properties_invalid");
    for nothing in ["[]", "{}", "null", r#"{"page":[],"app":null,"ip":null}"#] {
        assert_eq!(warnings(&event(&format!(r#","context":{nothing}"#))), [], "{nothing}");
    }
}

#[test]
fn a_number_that_no_float_holds_is_kept_as_it_is() {
    let two_to_53 = 1_i64 << 53;
    for number in [0, -1, two_to_53 - 1, two_to_53, -two_to_53, two_to_53 + 2, 1 << 62, i64::MIN] {
        assert_eq!(properties(&format!(r#"{{"n":{number}}}"#)).0["n"], Flat::Number(number as f64), "{number}");
    }
    for number in ["9007199254740993", "-9007199254740993", "7203685477580776123", "9223372036854775807", "18446744073709551615"] {
        let expected = Flat::Other(serde_json::from_str(number).unwrap());
        assert_eq!(properties(&format!(r#"{{"n":{number}}}"#)).0["n"], expected, "{number}");
    }
}

#[test]
fn what_the_contract_does_not_know_is_passed_over_and_counted() {
    let one = event(r#","mood":"good","context":{"library":{"name":"x"},"page":{"url":"/","depth":2},"screen":{"width":1,"colors":2}}"#);
    let two = event(r#","mood":1"#).replace("000001\"", "000002\"");
    let decoded = decode(&format!("[{one},{two},17]"));
    let told: Vec<_> =
        decoded.verdicts.warnings.list().map(|warning| (warning.code, warning.field, warning.count, warning.index)).collect();
    let unknown = |field: &str, count| ("unknown_field", field.to_owned(), count, 0);
    let expected =
        [unknown("mood", 2), unknown("context.library", 1), unknown("context.page.depth", 1), unknown("context.screen.colors", 1)];
    assert_eq!(told, expected);
    assert_eq!(
        decode(&event(r#","mood":1,"type":"again""#)).verdicts.warnings.list().count(),
        0,
        "a refused event has a fault, no warnings"
    );
}

#[test]
fn a_value_that_cannot_be_read_stands_for_nothing() {
    let forms = [
        (r#","context":"x""#, "context"),
        (r#","context":[1]"#, "context"),
        (r#","context":{"page":"x"}"#, "context.page"),
        (r#","context":{"page":{"url":true}}"#, "context.page.url"),
        (r#","context":{"locale":{}}"#, "context.locale"),
        (r#","context":{"ip":"999.1.1.1"}"#, "context.ip"),
        (r#","context":{"screen":{"width":-1}}"#, "context.screen.width"),
        (r#","context":{"screen":{"density":"big"}}"#, "context.screen.density"),
        (r#","sessionId":true"#, "sessionId"),
        (r#","sessionId":["s"]"#, "sessionId"),
        (r#","sessionId":"undefined""#, "sessionId"),
        (r#","sentAt":"yesterday""#, "sentAt"),
    ];
    for (more, field) in forms {
        assert_eq!(warnings(&event(more)), [("value_unreadable", field.to_owned())], "{more}");
        let text = event(more);
        assert_eq!(events(&decode(&text))[0].entries().count(), 2, "{more}");
    }
    assert_eq!(warnings(&event(&format!(r#","sessionId":"{}""#, "s".repeat(201)))), [("value_unreadable", "sessionId".to_owned())]);
}

#[test]
fn an_address_that_cannot_be_read_puts_nobody_into_the_country_of_the_sender() {
    let country = |more: &str| country_of(|intake| envelope::json(event(more).as_bytes(), &ENVELOPE, intake));
    assert_eq!(country(""), "DE", "the sender itself");
    assert_eq!(country(r#","context":{"ip":"203.0.113.7"}"#), "DE");
    for unreadable in [r#""no""#, r#""999.1.1.1""#, r#""203.0.113""#, r#""203.0.113.7.8""#, "5", "true", "[]", r#"{"v4":"203.0.113.7"}"#] {
        assert_eq!(country(&format!(r#","context":{{"ip":{unreadable}}}"#)), "", "{unreadable}");
    }
}

/// The text of a field of the one event of a body.
fn field(text: &str, field: crate::event::field::Field) -> String {
    let decoded = decode(text);
    crate::event::packed::Fields::of(&events(&decoded)[0]).unwrap().text(field).to_owned()
}

#[test]
fn a_session_or_a_version_may_be_a_number() {
    use crate::event::field::Field;
    for (given, expected) in
        [("1717171717123", "1717171717123"), ("-1", "-1"), ("1.5", "1.5"), (r#"" s-1 ""#, "s-1"), ("null", ""), (r#""""#, "")]
    {
        assert_eq!(field(&event(&format!(r#","sessionId":{given}"#)), Field::ClientSession), expected, "{given}");
    }
    assert_eq!(field(&event(r#","context":{"app":{"build":142}}"#), Field::AppBuild), "142");
    assert_eq!(field(&event(r#","context":{"os":{"version":10.0}}"#), Field::OsVersion), "10.0");
    assert_eq!(field(&event(r#","context":{"app":{"version":1e300}}"#), Field::AppVersion), "1e300");
}

#[test]
fn any_text_is_an_id_and_names_the_same_event_again() {
    let id = |text: &str| {
        let body = format!(r#"{{"eventId":{},"type":"view","anonymousId":"ada"}}"#, json!(text));
        events(&decode(&body))[0].header.event_id
    };
    for text in ["1001", "ajs-next-1718-4f", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "../x", "\u{1f389}", &"x".repeat(200)] {
        assert_eq!(id(text), id(text));
        let last = text.chars().next_back().unwrap();
        assert_ne!(id(text), id(&text.replace(last, "~")));
    }
    let text = "0190f7a4-0000-7000-8000-000000000001";
    assert_eq!(id(&text.to_uppercase()), id(&text.replace('-', "")));
    for bad in [r#""""#, r#"" ""#, "5", "true", "[]", r#""00000000-0000-0000-0000-000000000000""#, r#""a\u0001""#, r#""undefined""#] {
        assert_eq!(fault(&format!(r#"{{"eventId":{bad},"type":"view","anonymousId":"ada"}}"#)), "event_id_invalid", "{bad}");
    }
    let long = format!(r#"{{"eventId":"{}","type":"view","anonymousId":"ada"}}"#, "x".repeat(201));
    assert_eq!(fault(&long), "event_id_invalid");
}

#[test]
fn times_are_read_in_the_unit_in_which_they_make_sense() {
    for given in [
        "1789999999",
        "1789999999000",
        "1789999999000000",
        "1789999999000000000",
        "1789999999.0",
        r#""1789999999""#,
        r#""2026-09-21T14:13:19Z""#,
    ] {
        let decoded = decode(&event(&format!(r#","timestamp":{given}"#)));
        assert_eq!(events(&decoded)[0].header.at_ms, NOW - 1_000, "{given}");
    }
    for bad in ["0", "-1", "20260131", "true", r#""now""#, r#""""#, r#""2026-01-31""#] {
        assert_eq!(fault(&event(&format!(r#","timestamp":{bad}"#))), "timestamp_invalid", "{bad}");
    }
    assert_eq!(warnings(&event(&format!(r#","timestamp":{}"#, NOW + 25 * 3_600_000))), [("timestamp_clamped", "timestamp".to_owned())]);
    let ignored = event(&format!(r#","timestamp":{NOW},"sentAt":"9999-01-01T00:00:00Z""#));
    assert_eq!(warnings(&ignored), [("sent_at_ignored", "sentAt".to_owned())]);
    assert_eq!(events(&decode(&ignored))[0].header.at_ms, NOW);
}

#[test]
fn a_bad_byte_costs_only_its_own_event() {
    let with = |id: u8, name: &[u8]| {
        [format!(r#"{{"eventId":"e{id}","type":"a","anonymousId":"x","properties":{{"name":""#).as_bytes(), name, b"\"}}"].concat()
    };
    let bad: [(&[u8], &str); 8] = [
        (b"M\xfcller", "invalid_unicode"),
        (b"M\xc3", "invalid_unicode"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "invalid_unicode"),
        (b"a\nb", "invalid_character"),
        (b"a\tb", "invalid_character"),
        (b"C:\\Users", "invalid_json"),
        (b"\\u12", "invalid_json"),
        (b"\\ud800", "invalid_unicode"),
    ];
    for (text, code) in bad {
        let list = [b"[".as_slice(), &with(1, b"ok"), b",", &with(2, text), b",", &with(3, "\u{e4}".as_bytes()), b"]"].concat();
        let envelope = [b"{\"sentAt\":null,\"batch\":".as_slice(), &list, b"}"].concat();
        for bytes in [list, envelope] {
            let decoded = body(&bytes).unwrap();
            let rejected: Vec<_> = decoded.verdicts.rejected.iter().map(|event| (event.index, event.defect.as_str())).collect();
            assert_eq!((decoded.verdicts.accepted, rejected), (2, vec![(1, code)]), "{:?}", String::from_utf8_lossy(text));
        }
    }
    for wrong in [b"[{}, \xff]".as_slice(), b"[{\"a\":1\x01}]", b"[{} \\n]"] {
        let refused = body(wrong).unwrap_err();
        assert_eq!(refused.code(), "invalid_json");
    }
}

#[test]
fn a_key_given_as_null_and_again_is_given_twice() {
    assert_eq!(fault(&event(r#","userId":null,"userId":"bob""#)), "duplicate_key");
    assert_eq!(fault(&event(r#","userId":"bob","userId":null"#)), "duplicate_key");
}

#[test]
fn an_integer_beyond_64_bits_is_the_nearest_float() {
    // What JavaScript prints for 1e20.
    let decoded = decode(&event(r#","properties":{"n":100000000000000000000}"#));
    assert_eq!(decoded.verdicts.accepted, 1, "{:?}", decoded.verdicts.rejected);
}

#[test]
fn a_device_that_stands_for_nobody_is_no_visitor_of_its_users() {
    let of = |anonymous: &str, user: &str| {
        let event = format!(r#"{{"type":"view","anonymousId":"{anonymous}","userId":"{user}"}}"#);
        events(&decode(&event))[0].header.visitor
    };
    assert_eq!(of("guest", "ada"), of("ada", ""), "it is the user's own");
    assert_ne!(of("guest", "ada"), of("guest", "bob"));
    assert_eq!(of("d1", "ada"), of("d1", ""));
}

#[test]
fn a_placeholder_in_blanks_stands_for_nobody_too() {
    assert_eq!(fault(r#"{"type":"view","userId":" null "}"#), "user_id_illegal");
}

#[test]
fn an_envelope_that_names_its_batch_twice_is_refused_however_it_parses() {
    for bad in [event(""), event(r#","properties":{"n":1e400}"#)] {
        let text = format!(r#"{{"batch":[{bad}],"batch":[{bad}]}}"#);
        let refused = body(text.as_bytes()).unwrap_err();
        assert_eq!(refused.code(), "invalid_body");
        let text = format!(r#"{{"batch":null,"x":[{bad}]}}"#);
        let refused = body(text.as_bytes()).unwrap_err();
        assert_eq!(refused.code(), "invalid_body");
    }
}

#[test]
fn an_integer_that_no_float_holds_is_out_of_range() {
    assert_eq!(fault(&event(&format!(r#","properties":{{"n":1{}}}"#, "0".repeat(400)))), "number_out_of_range");
    assert_eq!(fault(&event(r#","properties":{"n":[-1e999]}"#)), "number_out_of_range");
}

#[test]
fn a_kind_of_device_has_one_word() {
    use crate::event::field::Field;
    use crate::ingest::tests::read::events_of;

    let told = |said: &str| {
        let decoded = decode(&event(&format!(r#","context":{{"device":{{"type":"{said}"}}}}"#)));
        let packed = decoded.partitions.iter().find(|packed| packed.events == 1).unwrap();
        events_of(&packed.bytes)[0].text(Field::DeviceType)
    };
    let words = ["android", "Android", "iOS", "tvOS", "iPadOS", "Desktop", "mobile", "watchOS"].map(told);
    assert_eq!(words, ["mobile", "mobile", "mobile", "tv", "tablet", "desktop", "mobile", "watchOS"]);
}

#[test]
fn what_the_server_owns_cannot_be_supplied() {
    let decoded = decode(&event(r#","receivedAt":5,"project_id":9,"ip":"1.2.3.4","geo":{"country":"XX"},"flags":1"#));
    let header = events(&decoded)[0].header;
    assert_eq!((header.received_ms, header.project, header.flags), (NOW, 0, flag::SERVER_TIME));
    assert_eq!(events(&decoded)[0].entries().count(), 2);
}

#[test]
fn no_address_is_kept() {
    let decoded = decode(&event(r#","context":{"ip":"203.0.113.77"},"properties":{"a":"b"}"#));
    let kept = decoded.partitions.iter().flat_map(|packed| packed.bytes.windows(12)).any(|window| window == b"203.0.113.77");
    assert!(!kept);
}

fn events(decoded: &Decoded) -> Vec<EventView<'_>> {
    let mut events = Vec::new();
    for packed in &decoded.partitions {
        let mut rest = packed.bytes.as_slice();
        while !rest.is_empty() {
            events.push(EventView::take(&mut rest).unwrap());
        }
    }
    events
}

/// A property as the naive decoder sees it.
#[derive(Clone, Debug, PartialEq)]
enum Flat {
    Text(String),
    Number(f64),
    Other(Value),
}

/// Flattens as the contract says: of two that have one key the first stays. Returns how many were dropped.
fn flatten(prefix: &str, members: &serde_json::Map<String, Value>, into: &mut BTreeMap<String, Flat>) -> u32 {
    let mut dropped = 0;
    for (key, value) in members {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let flat = match value {
            Value::Null => continue,
            Value::Object(inner) if !inner.is_empty() => {
                dropped += flatten(&key, inner, into);
                continue;
            }
            Value::String(text) => Flat::Text(text.replace('\0', "")),
            // Written out, a float shows whether it is the number.
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() || format!("{float:.0}") == number.to_string() => Flat::Number(float),
                _ => Flat::Other(value.clone()),
            },
            other => Flat::Other(other.clone()),
        };
        match into.entry(key) {
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(flat)),
            std::collections::btree_map::Entry::Occupied(_) => dropped += 1,
        }
    }
    dropped
}

fn packed_properties(event: &EventView<'_>) -> BTreeMap<String, Flat> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let flat = |entry| match entry {
        Entry::String(key, value) => Some((text(key), Flat::Text(text(value)))),
        Entry::Number(key, value) => Some((text(key), Flat::Number(value))),
        Entry::Other(key, value) => Some((text(key), Flat::Other(serde_json::from_slice(value).unwrap()))),
        Entry::Field(..) => None,
        Entry::Damaged => panic!("damaged"),
    };
    event.entries().filter_map(flat).collect()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i16>().prop_map(|number| json!(f64::from(number) / 4.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab.]{1,3}", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn properties_are_what_a_naive_decoder_finds(members in prop::collection::vec(("[ab.]{1,3}", any_value()), 0..6)) {
        let members: serde_json::Map<String, Value> = members.into_iter().collect();
        let mut expected = BTreeMap::new();
        let dropped = flatten("", &members, &mut expected);
        let text = json!({"type": "view", "anonymousId": "ada", "properties": members}).to_string();
        let decoded = decode(&text);
        prop_assert_eq!(decoded.verdicts.accepted, 1, "{}: {:?}", text, decoded.verdicts.rejected);
        prop_assert_eq!(packed_properties(&events(&decoded)[0]), expected);
        let twice = decoded.verdicts.warnings.list().filter(|warning| warning.code == "duplicate_key");
        prop_assert_eq!(twice.map(|warning| warning.count).sum::<u32>(), dropped);
    }

    #[test]
    fn a_float_is_kept_to_the_last_bit(number in any::<f64>().prop_filter("JSON has no others", |number| number.is_finite())) {
        let decoded = decode(&event(&format!(r#","properties":{{"n":{}}}"#, json!(number))));
        prop_assert_eq!(packed_properties(&events(&decoded)[0])["n"].clone(), Flat::Number(number));
    }

    /// One broken event makes the whole body unreadable at once; the others must fare as they would without it.
    #[test]
    fn events_fare_the_same_whole_and_apart(members in prop::collection::vec(("[ab.]{1,3}", any_value()), 0..5)) {
        let members: serde_json::Map<String, Value> = members.into_iter().collect();
        let good = json!({"eventId": "0190f7a4-0000-7000-8000-000000000001", "type": "view", "anonymousId": "ada", "properties": members});
        let whole = decode(&format!("[{good}]"));
        let apart = decode(&format!(r#"[{good},{{"type":"\ud800"}}]"#));
        prop_assert_eq!(apart.verdicts.accepted, whole.verdicts.accepted);
        prop_assert_eq!(apart.verdicts.rejected.last().map(|event| event.defect), Some(Defect::InvalidUnicode));
        let bytes = |decoded: &Decoded| decoded.partitions.iter().map(|packed| packed.bytes.clone()).collect::<Vec<_>>();
        prop_assert_eq!(bytes(&apart), bytes(&whole));
    }

    #[test]
    fn no_bytes_panic_and_every_event_of_a_readable_body_has_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let _ = body(&bytes).map(|_| ());
        let mut text = event(r#","properties":{"a":[1,"\u00e9",{"b":null}]},"context":{"page":{"url":"x"}}"#).into_bytes();
        if let (Some(byte), Some(noise)) = (text.get_mut(cut), bytes.first()) {
            *byte = *noise;
        }
        if let Ok(decoded) = body(&text) {
            prop_assert_eq!(decoded.verdicts.accepted as usize + decoded.verdicts.rejected.len(), 1);
        }
    }
}

/// Bodies that compress to nothing and would be trees of millions of values.
fn costly() -> [String; 6] {
    let many = 4 * json_bounds::MAX_NODES;
    [
        format!("[1{}", ",1".repeat(many)),
        format!("[1{}]", ",1".repeat(many)),
        "[".repeat(2 * json_bounds::MAX_DEPTH),
        format!("{}{}", "[".repeat(2 * json_bounds::MAX_DEPTH), "]".repeat(2 * json_bounds::MAX_DEPTH)),
        format!("{{\"batch\":[]{}}}", ",\"batch\":[]".repeat(many / 4)),
        format!("{{\"batch\":[{{}}{}]}}", ",{}".repeat(many)),
    ]
}

#[test]
fn what_would_be_a_huge_tree_is_refused_without_one() {
    for text in costly() {
        let refused = body(text.as_bytes()).unwrap_err();
        assert!(["invalid_json", "invalid_body", "batch_too_many"].contains(&refused.code()), "{:.20}: {refused:?}", text);
        let decoded = lines(text.as_bytes()).unwrap();
        assert_eq!((decoded.verdicts.accepted, decoded.verdicts.rejected.len()), (0, 1), "{text:.20}");
        assert_eq!(decoded.verdicts.rejected[0].defect, Defect::EventTooLarge, "{text:.20}");
    }
}

#[test]
fn an_event_too_large_to_look_into_costs_only_itself() {
    let good = event("");
    let huge = event(&format!(r#","properties":{{"x":[1{}]}}"#, ",1".repeat(2 * json_bounds::MAX_NODES)));
    for text in [format!("[{good},{huge}]"), format!(r#"{{"batch":[{good},{huge}],"sentAt":1}}"#)] {
        let decoded = decode(&text);
        assert_eq!(decoded.verdicts.accepted, 1);
        assert_eq!((decoded.verdicts.rejected[0].index, decoded.verdicts.rejected[0].defect), (1, Defect::EventTooLarge));
    }
}

#[test]
fn no_place_is_kept_of_those_who_ask_not_to_be_tracked() {
    use crate::event::field::Field;
    use crate::ingest::contract::RequestFacts;
    use crate::ingest::geo::RequestGeo;
    use crate::ingest::intake::{Intake, Sender};
    use crate::ingest::protocol::pulse::ENVELOPE;
    use crate::ingest::tests::read::events_of;
    use crate::ingest::tests::{SHOP, facts, limits};
    use crate::ingest::{Geo, envelope};

    let (geo, limits) = (Geo::default(), limits());
    let client = std::net::Ipv4Addr::new(203, 0, 113, 7).into();
    let geo = RequestGeo::knowing(&geo, client, "DE");
    for (flags, country) in [(0, "DE"), (flag::PRIVACY, "")] {
        let request = RequestFacts { partitions: 1, flags, client, ..facts(&geo) };
        let mut intake = Intake::new(Sender::Known(SHOP), request, &limits);
        envelope::json(event("").as_bytes(), &ENVELOPE, &mut intake).unwrap();
        let decoded = intake.finish().unwrap();
        let stored = &events_of(&decoded.partitions[0].bytes)[0];
        assert_eq!((stored.text(Field::Country).as_str(), stored.flags & flag::PRIVACY), (country, flags));
    }
}
