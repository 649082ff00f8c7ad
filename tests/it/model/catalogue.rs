//! The catalogue: types, fields and values, counted event by event.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::Event;
use crate::report::{Asker, Case};

/// Parts of names and values, in another case than theirs.
const SEARCHES: [&str; 4] = ["", "IEW", "P", "%"];
const FIELDS: [&str; 6] = ["properties.plan", "properties.amount", "country", "person.plan", "session.pages", "session.is_bounce"];

fn request(case: &Case) -> Value {
    let show = |at_ms| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    json!({"from": show(case.range.from), "to": show(case.range.until), "include_bots": case.include_bots})
}

fn seen(case: &Case) -> Vec<&Event> {
    let is_inside = |event: &&Event| (case.range.from..case.range.until).contains(&event.at_ms);
    case.events.iter().filter(is_inside).filter(|event| case.is_seen(event)).collect()
}

/// The most frequent first, and of equals the first.
fn ranked<K: Ord + Clone>(counts: BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut ranked: Vec<(K, u64)> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
    ranked
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

fn has(text: &str, search: &str) -> bool {
    text.to_lowercase().contains(&search.to_lowercase())
}

/// The types of events.
pub(crate) fn events(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let search = SEARCHES[case.events.len() % SEARCHES.len()];
    let mut request = request(case);
    request["search"] = json!(search);
    request["limit"] = json!(case.limit);
    let names = seen(case).into_iter().map(|event| event.kind).filter(|kind| has(kind, search));
    let expected: Vec<Value> =
        ranked(counted(names)).into_iter().take(case.limit).map(|(name, events)| json!({"name": name, "events": events})).collect();
    prop_assert_eq!(&asker.ask("catalogue-events", &request)["events"], &json!(expected), "search {}", search);
    let parameters = request.as_object().unwrap().iter().map(|(key, value)| (key, value.to_string().trim_matches('"').to_owned()));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    prop_assert_eq!(asker.get("catalogue-events", &query), json!({"events": expected}));
    Ok(())
}

/// The fields.
pub(crate) fn fields(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let mut request = request(case);
    request["event"] = json!("buy");
    let answer = asker.ask("catalogue-fields", &request);
    let shown = answer["fields"].as_array().unwrap();
    let of = |prefix: &str| -> Vec<&Value> { shown.iter().filter(|field| field["name"].as_str().unwrap().starts_with(prefix)).collect() };
    let said = case.events.iter().filter(|event| event.kind == "identify");
    let expected = expected_fields("person.", said);
    prop_assert_eq!(of("person."), expected.iter().collect::<Vec<_>>());
    let expected = expected_fields("properties.", seen(case).into_iter().filter(|event| event.kind == "buy"));
    prop_assert_eq!(of("properties."), expected.iter().collect::<Vec<_>>());
    for known in [json!({"name": "country", "kind": "string"}), json!({"name": "session.pages", "kind": "number"})] {
        prop_assert!(shown.contains(&known), "{}", known);
    }
    Ok(())
}

/// The properties of events, each name once, as the kind that it comes as most often.
fn expected_fields<'e>(prefix: &str, events: impl Iterator<Item = &'e Event>) -> Vec<Value> {
    let kind = |value: &Value| match value {
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        _ => "array",
    };
    let of_event = |event: &'e Event| {
        let plan = event.plan.as_ref().filter(|plan| !plan.is_null()).map(|plan| ("plan", kind(plan)));
        plan.into_iter().chain(event.amount.map(|_| ("amount", "number")))
    };
    let mut seen = BTreeSet::new();
    let ranked = ranked(counted(events.flat_map(of_event))).into_iter();
    let first = ranked.filter(|((name, _), _)| seen.insert(*name));
    first.map(|((name, kind), _)| json!({"name": format!("{prefix}{name}"), "kind": kind})).collect()
}

/// The values of fields.
pub(crate) fn values(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    // Two of the fields, others in the next case.
    for at in 0..2 {
        let (field, search) = (FIELDS[(case.events.len() + at) % FIELDS.len()], SEARCHES[(case.events.len() / 2 + at) % SEARCHES.len()]);
        let mut request = request(case);
        request["field"] = json!(field);
        request["search"] = json!(search);
        request["limit"] = json!(case.limit);
        let keys = seen(case).into_iter().map(|event| event.value_of(field));
        let keys = keys.filter(|key| key != "z" && has(&key[1..], search));
        let expected: Vec<Value> = ranked(counted(keys))
            .into_iter()
            .take(case.limit)
            .map(|(key, events)| json!({"value": value(&key), "events": events}))
            .collect();
        prop_assert_eq!(&asker.ask("catalogue-values", &request)["values"], &json!(expected), "{} {}", field, search);
    }
    Ok(())
}

fn value(key: &str) -> Value {
    if let Some(text) = key.strip_prefix('s') { json!(text) } else { serde_json::from_str(&key[1..]).unwrap() }
}
