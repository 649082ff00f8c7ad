//! Claims about the event contract, and decode against a naive decoder over `serde_json::Value`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::field::flag;
use crate::event::packed::{Entry, EventView};
use crate::ingest::tests::{NOW, limits, with_request};

fn decode(text: &str) -> Decoded {
    with_request(|request| body(text.as_bytes(), request, &limits())).unwrap()
}

fn event(more: &str) -> String {
    format!(r#"{{"eventId":"0190f7a4-0000-7000-8000-000000000001","type":"view","anonymousId":"ada"{more}}}"#)
}

/// The one fault of a body of one event.
fn fault(text: &str) -> &'static str {
    let decoded = with_request(|request| body(text.as_bytes(), request, &limits())).unwrap();
    assert_eq!((decoded.accepted(), decoded.rejected.len()), (0, 1), "{text}: {:?}", decoded.rejected);
    decoded.rejected[0].defect.as_str()
}

#[test]
fn a_key_with_a_dot_is_held_to_the_same_length_as_one_without() {
    let long = "a".repeat(200);
    assert_eq!(fault(&event(&format!(r#","properties":{{"{long}":1}}"#))), "property_key_invalid");
    assert_eq!(fault(&event(&format!(r#","properties":{{"x.{long}":1}}"#))), "property_key_invalid");
    assert_eq!(fault(&event(r#","properties":{"x.\u0000":1}"#)), "invalid_character");
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
    assert_eq!(decoded.accepted(), 1, "{:?}", decoded.rejected);
}

#[test]
fn a_placeholder_in_blanks_stands_for_nobody_too() {
    assert_eq!(fault(r#"{"type":"view","userId":" null "}"#), "user_id_illegal");
}

#[test]
fn an_envelope_that_names_its_batch_twice_is_refused_however_it_parses() {
    for bad in [event(""), event(r#","properties":{"n":1e400}"#)] {
        let text = format!(r#"{{"batch":[{bad}],"batch":[{bad}]}}"#);
        let refused = with_request(|request| body(text.as_bytes(), request, &limits())).unwrap_err();
        assert_eq!(refused.code, "invalid_body");
        let text = format!(r#"{{"batch":null,"x":[{bad}]}}"#);
        let refused = with_request(|request| body(text.as_bytes(), request, &limits())).unwrap_err();
        assert_eq!(refused.code, "invalid_body");
    }
}

#[test]
fn an_integer_that_no_float_holds_is_out_of_range() {
    assert_eq!(fault(&event(&format!(r#","properties":{{"n":1{}}}"#, "0".repeat(400)))), "number_out_of_range");
    assert_eq!(fault(&event(r#","properties":{"n":[-1e999]}"#)), "number_out_of_range");
}

#[test]
fn a_huge_body_leaves_nothing_behind_in_the_thread() {
    let numbers = vec!["1"; 1 << 20].join(",");
    let refused = with_request(|request| body(format!("[{numbers}]").as_bytes(), request, &limits())).unwrap_err();
    assert_eq!(refused.code, "batch_too_many");
    SCRATCH.with_borrow(|scratch| assert_eq!((scratch.text.capacity(), scratch.tape.is_none()), (0, true)));
}

#[test]
fn what_the_server_owns_cannot_be_supplied() {
    let decoded = decode(&event(r#","receivedAt":5,"project_id":9,"ip":"1.2.3.4","geo":{"country":"XX"},"flags":1"#));
    let fixed = events(&decoded)[0].fixed;
    assert_eq!((fixed.received_ms, fixed.project, fixed.flags), (NOW, 0, flag::SERVER_TIME));
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

/// Flattens as the contract says; `None` if a key occurs twice.
fn flatten(prefix: &str, members: &serde_json::Map<String, Value>, into: &mut BTreeMap<String, Flat>) -> Option<()> {
    for (key, value) in members {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let flat = match value {
            Value::Object(inner) if !inner.is_empty() => {
                flatten(&key, inner, into)?;
                continue;
            }
            Value::String(text) => Flat::Text(text.replace('\0', "")),
            Value::Number(number) => Flat::Number(number.as_f64()?),
            other => Flat::Other(other.clone()),
        };
        if into.insert(key, flat).is_some() {
            return None;
        }
    }
    Some(())
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
        let is_good = flatten("", &members, &mut expected).is_some();
        let text = json!({"type": "view", "anonymousId": "ada", "properties": members}).to_string();
        let decoded = decode(&text);
        if is_good {
            prop_assert_eq!(decoded.accepted(), 1, "{}: {:?}", text, decoded.rejected);
            prop_assert_eq!(packed_properties(&events(&decoded)[0]), expected);
        } else {
            prop_assert_eq!(decoded.rejected[0].defect, Defect::DuplicateKey);
        }
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
        prop_assert_eq!(apart.accepted(), whole.accepted());
        prop_assert_eq!(apart.rejected.last().map(|event| event.defect), Some(Defect::InvalidUnicode));
        let bytes = |decoded: &Decoded| decoded.partitions.iter().map(|packed| packed.bytes.clone()).collect::<Vec<_>>();
        prop_assert_eq!(bytes(&apart), bytes(&whole));
    }

    #[test]
    fn no_bytes_panic_and_every_event_of_a_readable_body_has_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let _ = with_request(|request| body(&bytes, request, &limits()).map(|_| ()));
        let mut text = event(r#","properties":{"a":[1,"\u00e9",{"b":null}]},"context":{"page":{"url":"x"}}"#).into_bytes();
        if let (Some(byte), Some(noise)) = (text.get_mut(cut), bytes.first()) {
            *byte = *noise;
        }
        if let Ok(decoded) = with_request(|request| body(&text, request, &limits())) {
            prop_assert_eq!(decoded.accepted() as usize + decoded.rejected.len(), 1);
        }
    }
}
