//! Events: all of them, newest first, each on one page.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::id;
use crate::report::{Asker, Case, instant};

/// Reads all pages of all events that pass the filter.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let filters = case.filters_request();
    let (mut found, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let request = json!({"filters": filters, "limit": 3, "cursor": cursor, "include_bots": case.include_bots});
        let page = asker.ask("events", &request);
        let read = |event: &Value| (instant(event["timestamp"].as_str().unwrap()), event["eventId"].as_str().unwrap().to_owned());
        found.extend(page["events"].as_array().unwrap().iter().map(read));
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let inserted = case.events.iter().enumerate().filter(|(_, event)| case.passes(event));
    let mut expected: Vec<(i64, String)> = inserted.map(|(index, event)| (event.at_ms, id(index))).collect();
    expected.sort_by(|left, right| right.cmp(left));
    prop_assert_eq!(found, expected);
    Ok(())
}
