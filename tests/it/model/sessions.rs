//! Sessions: every number of every line session by session, the people behind, and the list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::trends::compared;
use super::{Breakdown, Event, Key, Range, edges};
use crate::report::{Asker, Case, instant};

const MATHS: [&str; 7] =
    ["sessions", "visitors", "bounce_rate", "avg_duration_ms", "median_duration_ms", "pages_per_session", "events_per_session"];

/// Compares chart, the one that it is compared with, list and people, and the number of sessions with that of `unique_sessions`.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let sessions = sessions(case);
    let request = request(case);
    let chart = asker.ask("sessions", &request);
    check_chart(case, &chart, &sessions, case.range)?;
    check_chart(case, &chart["compare"], &sessions, compared(case.range, &case.compare, case.zone))?;
    check_people(asker, &request, &chart)?;
    check_list(asker, case, &sessions)?;
    check_unique(asker, case, &sessions)
}

/// The sessions of which an event passes the filters, each as one of its events.
fn sessions(case: &Case) -> Vec<&Event> {
    let mut sessions: BTreeMap<(u64, u64, i64), &Event> = BTreeMap::new();
    for event in case.events.iter().filter(|event| case.passes(event)) {
        sessions.insert(event.session_key(), event);
    }
    sessions.into_values().collect()
}

/// What the chart is broken down by.
fn breakdown(case: &Case) -> Breakdown {
    let nothing = Breakdown { fields: &[], is_list: false };
    if case.breakdown.fields.iter().all(|field| field.starts_with("session.") || field.starts_with("person.")) {
        case.breakdown
    } else {
        nothing
    }
}

fn request(case: &Case) -> Value {
    let mut request = case.request();
    let object = request.as_object_mut().unwrap();
    ["formula", "breakdown"].iter().for_each(|key| drop(object.remove(*key)));
    object.insert("series".to_owned(), MATHS.iter().map(|math| json!({"math": math})).collect());
    object.insert("breakdown".to_owned(), breakdown(case).request());
    request
}

fn begins_in(range: Range) -> impl Fn(&&&Event) -> bool {
    move |event| (range.from..range.until).contains(&event.of_session.start_ms)
}

/// The values with lines of their own, the largest first.
fn top(case: &Case, sessions: &[&Event]) -> Vec<Key> {
    let breakdown = breakdown(case);
    if breakdown.fields.is_empty() {
        return vec![Key::new()];
    }
    let mut sizes: BTreeMap<Key, usize> = BTreeMap::new();
    for session in sessions.iter().filter(begins_in(case.range)) {
        *sizes.entry(session.key_of_session(breakdown)).or_default() += 1;
    }
    sizes.remove(&breakdown.none());
    let mut sizes: Vec<(Key, usize)> = sizes.into_iter().collect();
    sizes.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    sizes.into_iter().take(case.limit).map(|(key, _)| key).collect()
}

/// The number of `math` over sessions.
fn measure(sessions: &[&Event], math: &str) -> Option<f64> {
    let average = |value: &dyn Fn(&Event) -> f64| {
        (!sessions.is_empty()).then(|| sessions.iter().map(|session| value(session)).sum::<f64>() / sessions.len() as f64)
    };
    match math {
        "sessions" => Some(sessions.len() as f64),
        "visitors" => Some(sessions.iter().map(|session| session.of_session.person).collect::<BTreeSet<_>>().len() as f64),
        "bounce_rate" => average(&|session| f64::from(u8::from(session.of_session.is_bounce()))),
        "avg_duration_ms" => average(&|session| session.of_session.duration_ms as f64),
        "pages_per_session" => average(&|session| session.of_session.pages as f64),
        "events_per_session" => average(&|session| session.of_session.events as f64),
        _ => {
            let mut durations: Vec<i64> = sessions.iter().map(|session| session.of_session.duration_ms).collect();
            durations.sort_unstable();
            let middle = [durations.get(durations.len().checked_sub(1)? / 2)?, durations.get(durations.len() / 2)?];
            Some(middle.into_iter().sum::<i64>() as f64 / 2.0)
        }
    }
}

fn check_chart(case: &Case, chart: &Value, sessions: &[&Event], range: Range) -> Result<(), TestCaseError> {
    let edges = edges(range, case.interval, case.zone);
    let tops = top(case, sessions);
    let breakdown = breakdown(case);
    let none = breakdown.none();
    let inside: Vec<&Event> = sessions.iter().filter(begins_in(range)).copied().collect();
    let of = |is_in: &dyn Fn(&Key) -> bool| {
        inside.iter().copied().filter(|session| is_in(&session.key_of_session(breakdown))).collect::<Vec<_>>()
    };
    let kind = |key: &Key, word: &str| match (key.as_slice(), breakdown.is_list) {
        ([], _) => Value::Null,
        (_, false) => json!(word),
        (parts, true) => parts.iter().map(|part| json!(if part == "z" && word == "value" { "none" } else { word })).collect(),
    };
    let mut lines: Vec<(Value, Vec<&Event>)> = tops.iter().map(|key| (kind(key, "value"), of(&|other| other == key))).collect();
    let others = of(&|key| *key != none && !tops.contains(key));
    let missing = of(&|key| !key.is_empty() && *key == none);
    lines.extend(
        [("other", others), ("none", missing)].into_iter().filter(|(_, of)| !of.is_empty()).map(|(word, of)| (kind(&none, word), of)),
    );
    let mut answered = chart["series"].as_array().unwrap().iter();
    for math in MATHS {
        for (kind, sessions) in &lines {
            let line = answered.next().unwrap();
            prop_assert_eq!((&line["math"], &line["kind"]), (&json!(math), kind), "{}", chart);
            let bucket = |edges: &[i64]| {
                let of_bucket: Vec<&Event> =
                    sessions.iter().copied().filter(|session| (edges[0]..edges[1]).contains(&session.of_session.start_ms)).collect();
                measure(&of_bucket, math)
            };
            let expected: Vec<Option<f64>> = edges.windows(2).map(bucket).chain([measure(sessions, math)]).collect();
            let values = line["values"].as_array().unwrap().iter().chain([&line["total"]]).map(Value::as_f64);
            for (value, expected) in values.zip(expected) {
                let is_close =
                    value.zip(expected).is_some_and(|(value, expected)| (value - expected).abs() <= 1e-9 * expected.abs().max(1.0));
                prop_assert!(is_close || value == expected, "{math} {kind}: {value:?} for {expected:?} in {chart}");
            }
        }
    }
    prop_assert!(answered.next().is_none());
    Ok(())
}

/// As many people are behind a bar as it says visitors.
fn check_people(asker: Asker<'_>, request: &Value, chart: &Value) -> Result<(), TestCaseError> {
    let visitors = chart["series"].as_array().unwrap().iter().filter(|line| line["math"] == "visitors");
    for line in visitors {
        let values = line["values"].as_array().unwrap();
        let bars = chart["buckets"].as_array().unwrap().iter().zip(values).filter(|(_, value)| **value != json!(0)).take(1);
        for (bucket, value) in std::iter::once((&Value::Null, &line["total"])).chain(bars) {
            let mut of = request.clone();
            of["report"] = json!("sessions");
            of["bucket"] = bucket.clone();
            if line["kind"] != Value::Null {
                of["breakdown_value"] = line["breakdown"].clone();
                of["breakdown_kind"] = line["kind"].clone();
            }
            let users = asker.ask("users", &json!({"of": of}));
            prop_assert_eq!(&users["total"], value, "{}", of);
            prop_assert_eq!(&json!(users["users"].as_array().unwrap().len()), value, "{}", of);
        }
    }
    Ok(())
}

/// Every session once, newest first, page by page.
fn check_list(asker: Asker<'_>, case: &Case, sessions: &[&Event]) -> Result<(), TestCaseError> {
    let full = request(case);
    let (mut found, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut request = json!({"list": true, "limit": 3, "cursor": cursor});
        for key in ["from", "to", "timezone", "filters", "include_bots"] {
            request[key] = full[key].clone();
        }
        let page = asker.ask("sessions", &request);
        found.extend(page["sessions"].as_array().unwrap().iter().cloned());
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let mut expected: Vec<&Event> = sessions.iter().filter(begins_in(case.range)).copied().collect();
    // The server orders ids by their second half first.
    let key = |session: &&Event| {
        let id = session.session_id();
        std::cmp::Reverse((session.of_session.start_ms, id[19..].to_owned(), id[..19].to_owned()))
    };
    expected.sort_by_key(key);
    prop_assert_eq!(found.len(), expected.len());
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    for (found, session) in found.iter().zip(expected) {
        let of = &session.of_session;
        let times = [instant(found["start"].as_str().unwrap()), instant(found["end"].as_str().unwrap())];
        prop_assert_eq!(&found["id"], &json!(session.session_id()));
        prop_assert_eq!(times, [of.start_ms, of.start_ms + of.duration_ms]);
        let numbers = json!([of.duration_ms, of.events, of.pages, of.is_bounce()]);
        prop_assert_eq!(json!([found["duration_ms"], found["events"], found["pages"], found["is_bounce"]]), numbers);
        let texts = json!([text(of.entry_page), text(of.exit_page), text(of.country), of.called]);
        prop_assert_eq!(json!([found["entry_page"], found["exit_page"], found["country"], found["person"]]), texts);
    }
    Ok(())
}

/// Over a range that all events are in there are as many sessions as trends counts.
fn check_unique(asker: Asker<'_>, case: &Case, sessions: &[&Event]) -> Result<(), TestCaseError> {
    let mut request = request(case);
    for (key, at) in [("from", "2024-01-01"), ("to", "2028-01-01"), ("interval", "month")] {
        request[key] = json!(at);
    }
    ["breakdown", "compare"].iter().for_each(|key| drop(request.as_object_mut().unwrap().remove(*key)));
    let total = asker.ask("sessions", &request)["series"][0]["total"].clone();
    request["series"] = json!([{"math": "unique_sessions"}]);
    let unique = asker.ask("trends", &request)["series"][0]["total"].clone();
    prop_assert_eq!((&total, &unique), (&json!(sessions.len()), &json!(sessions.len())));
    Ok(())
}
