//! Export: every event once, by receipt, page after page.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::ledger::time;
use super::{Event, Range, id};
use crate::report::{Asker, Case, NOW_MS, instant};

/// As `query.export_delay` says by default.
const DELAY_MS: i64 = 60_000;

/// Takes all events of the project, and those of the range alone.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let Range { from, until } = case.range;
    let bounds = format!("from={}&to={}", time(from), time(until));
    for (query, from, until) in [(String::new(), i64::MIN, i64::MAX), (bounds, from, until)] {
        let is_given = |event: &Event| (from..until.min(NOW_MS - DELAY_MS)).contains(&event.at_ms);
        let given = case.events.iter().enumerate().filter(|(_, event)| is_given(event));
        let mut expected: Vec<(i64, String)> = given.map(|(index, event)| (event.at_ms, id(index))).collect();
        expected.sort();
        let expected: Vec<Value> = expected.into_iter().map(|(at_ms, id)| json!([at_ms, id])).collect();
        prop_assert_eq!(all_events(asker, &query)?, expected, "{}", query);
    }
    Ok(())
}

/// Receipt and id of every event, and nothing more at the end.
fn all_events(asker: Asker<'_>, query: &str) -> Result<Vec<Value>, TestCaseError> {
    let (mut events, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = asker.get("export", format!("{query}&limit=5{cursor}").trim_start_matches('&'));
        let given = page["events"].as_array().unwrap();
        prop_assert!(given.len() <= 5 && (page["complete"] == true || !given.is_empty()));
        events.extend(given.iter().map(|event| json!([instant(event["receivedAt"].as_str().unwrap()), event["eventId"]])));
        if page["complete"] == true && given.is_empty() {
            return Ok(events);
        }
        cursor = format!("&cursor={}", page["next"].as_str().unwrap());
    }
}
