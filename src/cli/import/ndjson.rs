//! Lines that are events already: JSON objects in pulse's own form.
//!
//! A line passes as it is; only an id is put into one that has none, and a zone to a time that names none. Whether it is an event is
//! for pulse to say.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::malformed::Malformed;
use super::times::{Read, Timed, Times, of_text};
use crate::event::dead_letter::DEAD_LINE_MARK;

#[derive(Deserialize)]
struct Object<'l> {
    /// As written; `null` counts, so that it can be replaced.
    #[serde(borrow, rename = "eventId", default, deserialize_with = "raw")]
    event_id: Option<&'l RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    timestamp: Option<&'l RawValue>,
}

fn raw<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// One line as an event: its own id kept, or `id` put in.
pub(super) fn event(line: &[u8], id: Uuid, times: &Times) -> Result<Timed, Malformed> {
    let text = std::str::from_utf8(line).map_err(Malformed::not_utf_8)?.trim();
    // The parser would take an array for an object as well.
    let members = text.strip_prefix('{').ok_or_else(|| Malformed::new("invalid_json", "not a JSON object"))?;
    let object: Object<'_> =
        serde_json::from_str(text).map_err(|problem| Malformed::new("invalid_json", format!("not a JSON object: {problem}")))?;
    let out = match object.event_id {
        Some(own) if own.get() != "null" => text.to_owned(),
        Some(null) => with(&format!("\"{id}\""), null.get(), text),
        None if members.trim_start().starts_with('}') => format!("{{\"eventId\":\"{id}\"}}"),
        None => format!("{{\"eventId\":\"{id}\",{members}"),
    };
    let out = match object.timestamp.map(|time| zoned(time, times)).transpose()?.flatten() {
        // The same place in what may have become longer in front or behind.
        Some((written, zoned)) => replace_member(&out, written, &zoned),
        None => out,
    };
    // A member of that name means something else at the start of a line.
    let out = if out.as_bytes().starts_with(DEAD_LINE_MARK) { format!(" {out}") } else { out };
    Ok(Timed { line: out.into_bytes(), has_time: object.timestamp.is_some_and(|time| time.get() != "null") })
}

/// A time that names no zone, as written, and with the zone that was given for such.
fn zoned<'l>(time: &'l RawValue, times: &Times) -> Result<Option<(&'l str, String)>, Malformed> {
    if times.zone.is_none() {
        return Ok(None);
    }
    let Ok(text) = serde_json::from_str::<String>(time.get()) else { return Ok(None) };
    match of_text(&text) {
        Some(Read::Zoneless(_)) => Ok(Some((time.get(), format!("\"{}\"", times.of_cell(&text)?)))),
        _ => Ok(None),
    }
}

/// `text`, whose `timestamp` is `written`, with another one.
fn replace_member(text: &str, written: &str, value: &str) -> String {
    let object: Result<Object<'_>, _> = serde_json::from_str(text);
    match object.ok().and_then(|object| object.timestamp).filter(|time| time.get() == written) {
        Some(time) => with(value, time.get(), text),
        None => text.to_owned(),
    }
}

/// `text` with `value` in the place of `part`, which is a part of it.
fn with(value: &str, part: &str, text: &str) -> String {
    let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    format!("{before}{value}{}", after.get(part.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn event(line: &[u8], id: Uuid, times: &Times) -> Result<Vec<u8>, Malformed> {
        super::event(line, id, times).map(|event| event.line)
    }

    #[test]
    fn a_line_says_when_it_happened_or_does_not() {
        for (line, has_time) in [
            (r#"{"type":"a"}"#, false),
            (r#"{"timestamp":null}"#, false),
            (r#"{"timestamp":5}"#, true),
            (r#"{"a":{"timestamp":5}}"#, false),
        ] {
            assert_eq!(super::event(line.as_bytes(), ID, &Times::default()).unwrap().has_time, has_time, "{line}");
        }
    }

    fn value(line: &str) -> Value {
        serde_json::from_slice(&event(line.as_bytes(), ID, &Times::default()).unwrap()).unwrap()
    }

    #[test]
    fn an_object_keeps_its_own_id_and_bytes() {
        let line = r#"{"type":"a","n":1.50,"eventId":"0b7a6b3e-0000-4000-8000-000000000001"}"#;
        assert_eq!(event(line.as_bytes(), ID, &Times::default()).unwrap(), line.as_bytes());
    }

    #[test]
    fn an_object_without_an_id_gets_one_and_nothing_else_changes() {
        let id = ID.to_string();
        assert_eq!(value(r#"{"type":"a","n":{"eventId":"x"}}"#), json!({"type": "a", "n": {"eventId": "x"}, "eventId": id}));
        assert_eq!(value("{}"), json!({"eventId": id}));
        assert_eq!(value(" { } "), json!({"eventId": id}));
        assert_eq!(value(r#"{"type":null, "eventId" : null ,"a":"null"}"#), json!({"type": null, "eventId": id, "a": "null"}));
    }

    #[test]
    fn what_is_no_object_is_a_defect() {
        for line in ["", "[]", "[\"x\"]", "1", "{", "{}}", "{\"a\":}", "{\"eventId\":1,\"eventId\":2}", "nul"] {
            assert!(event(line.as_bytes(), ID, &Times::default()).is_err(), "{line}");
        }
        assert!(event(b"{\"a\":\"\xFF\"}", ID, &Times::default()).unwrap_err().message.contains("byte 7"));
    }

    #[test]
    fn a_time_without_a_zone_gets_the_one_that_was_given() {
        let times = Times { zone: Some(crate::cli::import::times::zone_named("Europe/Berlin").unwrap()), format: None };
        let of = |line: &str| String::from_utf8(event(line.as_bytes(), ID, &times).unwrap()).unwrap();
        assert_eq!(
            of(r#"{"eventId":"a", "timestamp" : "2024-03-30 09:30:00","x":1.50}"#),
            r#"{"eventId":"a", "timestamp" : "2024-03-30T08:30:00Z","x":1.50}"#
        );
        assert!(of(r#"{"timestamp":"2024-03-30"}"#).contains(r#""timestamp":"2024-03-29T23:00:00Z""#));
        for same in [
            r#"{"eventId":"a","timestamp":"2024-03-30T09:30:00Z"}"#,
            r#"{"eventId":"a","timestamp":5}"#,
            r#"{"eventId":"a","timestamp":"soon"}"#,
        ] {
            assert_eq!(of(same), same);
        }
    }

    #[test]
    fn no_object_passes_for_a_dead_line() {
        let own = r#"{"$dead":{"reason":"x"},"eventId":"y"}"#;
        assert_eq!(event(own.as_bytes(), ID, &Times::default()).unwrap(), format!(" {own}").into_bytes());
        assert!(!event(br#"{"$dead":1}"#, ID, &Times::default()).unwrap().starts_with(DEAD_LINE_MARK));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_an_object_or_a_defect(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(event) = event(&line, ID, &Times::default()) {
                prop_assert!(serde_json::from_slice::<Value>(&event).unwrap().is_object());
            }
        }

        #[test]
        fn an_object_comes_out_with_all_its_members(members in proptest::collection::btree_map("[a-z$\"]{0,6}", "\\PC{0,8}", 0..6)) {
            let mut expected = json!(members);
            expected["eventId"] = json!(ID.to_string());
            prop_assert_eq!(value(&json!(members).to_string()), expected);
        }
    }
}
