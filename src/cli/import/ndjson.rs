//! Lines that are events already: JSON objects in pulse's own form.
//!
//! A line passes as it is; only an id is put into one that has none. Whether it is an event is for pulse to say.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Malformed;
use crate::event::letter::DEAD_LINE_MARK;

#[derive(Deserialize)]
struct Object<'l> {
    /// As written; `null` counts, so that it can be replaced.
    #[serde(borrow, rename = "eventId", default, deserialize_with = "raw")]
    event_id: Option<&'l RawValue>,
}

fn raw<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// One line as the JSON of an event: its own id kept, or `id` put in.
pub(super) fn event(line: &[u8], id: Uuid) -> Result<Vec<u8>, Malformed> {
    let text = std::str::from_utf8(line).map_err(|problem| format!("not UTF-8 from byte {}", problem.valid_up_to() + 1))?.trim();
    // The parser would take an array for an object as well.
    let members = text.strip_prefix('{').ok_or("not a JSON object")?;
    let object: Object<'_> = serde_json::from_str(text).map_err(|problem| format!("not a JSON object: {problem}"))?;
    let out = match object.event_id {
        Some(own) if own.get() != "null" => text.to_owned(),
        Some(null) => with_id_for(null.get(), text, id),
        None if members.trim_start().starts_with('}') => format!("{{\"eventId\":\"{id}\"}}"),
        None => format!("{{\"eventId\":\"{id}\",{members}"),
    };
    // A member of that name means something else at the start of a line.
    Ok(if out.as_bytes().starts_with(DEAD_LINE_MARK) { format!(" {out}") } else { out }.into_bytes())
}

/// `text` with an id in the place of `null`, which is a part of it.
fn with_id_for(null: &str, text: &str, id: Uuid) -> String {
    let at = (null.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    format!("{before}\"{id}\"{}", after.get(null.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn value(line: &str) -> Value {
        serde_json::from_slice(&event(line.as_bytes(), ID).unwrap()).unwrap()
    }

    #[test]
    fn an_object_keeps_its_own_id_and_bytes() {
        let line = r#"{"type":"a","n":1.50,"eventId":"0b7a6b3e-0000-4000-8000-000000000001"}"#;
        assert_eq!(event(line.as_bytes(), ID).unwrap(), line.as_bytes());
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
            assert!(event(line.as_bytes(), ID).is_err(), "{line}");
        }
        assert!(event(b"{\"a\":\"\xFF\"}", ID).unwrap_err().0.contains("byte 7"));
    }

    #[test]
    fn no_object_passes_for_a_dead_line() {
        let own = r#"{"$dead":{"reason":"x"},"eventId":"y"}"#;
        assert_eq!(event(own.as_bytes(), ID).unwrap(), format!(" {own}").into_bytes());
        assert!(!event(br#"{"$dead":1}"#, ID).unwrap().starts_with(DEAD_LINE_MARK));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_an_object_or_a_defect(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(event) = event(&line, ID) {
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
