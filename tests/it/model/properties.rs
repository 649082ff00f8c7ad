//! Properties: names, kinds and values, counted event by event.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::trends::series_events;
use super::{Event, number_key, stored};
use crate::report::{Asker, Case};

/// Counts the properties of one type of event.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let from = jiff::Timestamp::from_millisecond(case.range.from).unwrap().to_string();
    let until = jiff::Timestamp::from_millisecond(case.range.until).unwrap().to_string();
    let request = json!({"from": from, "to": until, "event": "buy", "filters": case.filters_request(), "values": 2,
        "include_bots": case.include_bots});
    let answer = asker.answer("properties", &request);
    let inside = |event: &&Event| (case.range.from..case.range.until).contains(&event.at_ms);
    let events: Vec<&Event> = series_events(case, 1).into_iter().filter(inside).collect();
    prop_assert_eq!(&answer["result"]["properties"], &properties(&events, 2));
    // All of them are a sample, too, which is never off.
    let mut sample = request.clone();
    sample["sample"] = json!(true);
    let mut expected = properties(&events, 2);
    for property in expected.as_array_mut().unwrap() {
        property["error"] = json!(0);
        property["values"].as_array_mut().unwrap().iter_mut().for_each(|value| value["error"] = json!(0));
    }
    prop_assert_eq!(&asker.ask("properties", &sample)["properties"], &expected);
    let excluded = case.excluded(|event| event.kind == "buy" && inside(&event));
    prop_assert_eq!(&answer["meta"]["excluded_bots"], &json!(excluded));
    Ok(())
}

/// What `properties` should answer about `events`, with at most `limit` values a name.
fn properties(events: &[&Event], limit: usize) -> Value {
    let mut counts: BTreeMap<(&str, &str), BTreeMap<String, u64>> = BTreeMap::new();
    for event in events {
        let amount = event.amount.map(|amount| ("amount", json!(amount)));
        for (name, value) in event.plan.clone().map(|plan| ("plan", plan)).into_iter().chain(amount).filter(|(_, value)| !value.is_null()) {
            let kind = match value {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "array",
            };
            let text = match &value {
                Value::String(text) => text.clone(),
                number @ Value::Number(_) => number_key(number)[1..].to_owned(),
                other => stored(other),
            };
            *counts.entry((name, kind)).or_default().entry(text).or_default() += 1;
        }
    }
    let mut properties: Vec<_> = counts.into_iter().map(|(head, values)| (values.values().sum::<u64>(), head, values)).collect();
    properties.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
    properties
        .into_iter()
        .map(|(events, (name, kind), values)| {
            let mut values: Vec<(String, u64)> = values.into_iter().collect();
            // Texts are in order already, and this keeps it among equals.
            values.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
            let show = |text: String| if kind == "string" { json!(text) } else { serde_json::from_str(&text).unwrap() };
            let values: Vec<Value> =
                values.into_iter().take(limit).map(|(text, events)| json!({"value": show(text), "events": events})).collect();
            json!({"name": name, "type": kind, "events": events, "values": values})
        })
        .collect()
}
