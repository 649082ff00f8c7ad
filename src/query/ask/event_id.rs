//! Events found by what their clients call them: the table holds the UUID that follows from any other text.

use serde_json::Value;
use uuid::Uuid;

use crate::event::ids::event_id_of;

/// A filter on the id of an event as the table can answer it; `None` for any other, and where a part of the id is asked for.
pub(super) fn filter(field: &str, filter: &Value) -> Option<Value> {
    let is_part = matches!(filter.get("op").and_then(Value::as_str), Some("contains" | "regex"));
    if is_part || !matches!(field, "eventId" | "event_id") {
        return None;
    }
    let mut filter = filter.clone();
    match filter.get_mut("value") {
        Some(Value::Array(ids)) => ids.iter_mut().for_each(stored),
        Some(id) => stored(id),
        None => {}
    }
    Some(filter)
}

fn stored(id: &mut Value) {
    if let Some(uuid) = id.as_str().and_then(event_id_of) {
        *id = Value::from(Uuid::from_bytes(uuid).to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_looked_for_under_the_id_that_follows_from_its_text() {
        let uuid = Uuid::from_bytes(event_id_of("order-1001").unwrap()).to_string();
        let given = |op: &str, value: Value| {
            filter("eventId", &json!({"field": "eventId", "op": op, "value": value})).map(|filter| filter["value"].clone())
        };
        assert_eq!(given("eq", json!("order-1001")), Some(json!(uuid)));
        assert_eq!(
            given("not_in", json!(["order-1001", "0190F7A4000070008000000000000001", 5])),
            Some(json!([uuid, "0190f7a4-0000-7000-8000-000000000001", 5]))
        );
        assert_eq!(given("contains", json!("order")), None);
        assert_eq!(given("exists", Value::Null), Some(Value::Null));
        assert_eq!(filter("userId", &json!({"field": "userId", "value": "order-1001"})), None);
    }
}
