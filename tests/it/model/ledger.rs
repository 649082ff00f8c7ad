//! The ledger: what the books say that was written with the events of a case, in a range of receipt, of all imports or one.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::dead_letters::{Letter, letters};
use super::{Event, received_ms, received_range};
use crate::report::{Asker, Case, instant};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// The import run that some events are of.
const RUN: u64 = 7;
/// In which ways events end, as the books name them.
const OUTCOMES: [&str; 6] = ["stored", "duplicate", "dead:event_invalid", "dead:line_malformed", "filtered:bot", "rejected:type_missing"];

/// An event that was received, and how it ended.
struct Entry {
    minute_ms: i64,
    run: u64,
    outcome: &'static str,
}

fn entries(events: &[Event]) -> impl Iterator<Item = Entry> {
    events.iter().enumerate().map(|(index, event)| {
        let at_ms = received_ms(event.at_ms);
        let outcome = OUTCOMES[(index + event.person as usize) % OUTCOMES.len()];
        Entry { minute_ms: at_ms - at_ms.rem_euclid(MINUTE_MS), run: if event.session == 0 { RUN } else { 0 }, outcome }
    })
}

/// Rows of the books, one for each event: what a block would sum up is summed up by whoever reads.
pub(crate) fn rows(project: u64, events: &[Event]) -> Vec<Value> {
    let row = |(index, Entry { minute_ms, run, outcome }): (usize, Entry)| {
        // What was rejected was never received.
        let received = u64::from(!outcome.starts_with("rejected"));
        json!({
            "project_id": 0, "type": "$books", "timestamp": seconds(minute_ms), "received_day": "2100-01-01", "visitor_id": project,
            "person_id": run, "numbers": {"received": received, outcome: 1, "conflict": index % 2}, "log_epoch": project,
            "log_partition": index % 3, "log_offset": index,
        })
    };
    entries(events).enumerate().map(row).collect()
}

/// A time as the store reads it.
pub(crate) fn seconds(at_ms: i64) -> String {
    format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000)
}

/// Sums of a minute or a range, by name.
type Sums = BTreeMap<String, u64>;

/// Asks for the range of the case, for everything, and for one import run.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let (from, to) = received_range(case.range);
    let minute: fn(i64) -> i64 = |at_ms| at_ms;
    let hour: fn(i64) -> i64 = |at_ms| at_ms - at_ms.rem_euclid(HOUR_MS);
    // A quarter of an hour after those of others.
    let hour_of_nepal: fn(i64) -> i64 = |at_ms| at_ms - (at_ms + HOUR_MS / 4 * 3).rem_euclid(HOUR_MS);
    for (query, from, to, run, start) in [
        (String::new(), i64::MIN, i64::MAX, None, minute),
        (format!("from={}&to={}", time(from), time(to)), from, to, None, minute),
        (format!("from={}&run={RUN}", time(from)), from, i64::MAX, Some(RUN), minute),
        (format!("from={}&to={}&interval=hour", time(from), time(to)), from, to, None, hour),
        (format!("from={}&interval=hour&timezone=Asia/Kathmandu", time(from)), from, i64::MAX, None, hour_of_nepal),
    ] {
        let answer = asker.get("ledger", &query);
        // Letters are set against what the store sums up: minutes, or quarters of an hour.
        let step_ms = if query.contains("interval") { HOUR_MS / 4 } else { MINUTE_MS };
        let expected = expected(case, from..to, run, step_ms);
        let total = expected.values().fold(Sums::new(), |mut total, sums| {
            sums.iter().for_each(|(name, number)| *total.entry(name.clone()).or_default() += number);
            total
        });
        prop_assert_eq!(&shown(&answer["total"]), &total, "{}", query);
        prop_assert_eq!(&shown(&answer["projects"][0]), &total, "{}", query);
        let minutes = answer["minutes"].as_array().unwrap().iter();
        let minutes: BTreeMap<i64, Sums> = minutes.map(|minute| (instant(minute["minute"].as_str().unwrap()), shown(minute))).collect();
        let mut starts: BTreeMap<i64, Sums> = BTreeMap::new();
        for (minute_ms, sums) in expected {
            let of_start = starts.entry(start(minute_ms)).or_default();
            sums.into_iter().for_each(|(name, number)| *of_start.entry(name).or_default() += number);
        }
        prop_assert_eq!(minutes, starts, "{}", query);
        prop_assert_eq!(&answer["lag"]["events"], &json!(0));
    }
    Ok(())
}

/// A time as a parameter of a request.
pub(crate) fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string()
}

/// What the answer should say of each minute, or of longer steps.
fn expected(case: &Case, range: Range<i64>, run: Option<u64>, step_ms: i64) -> BTreeMap<i64, Sums> {
    let is_asked = |entry: &Entry| range.contains(&entry.minute_ms) && run.is_none_or(|run| run == entry.run);
    let step = |at_ms: i64| at_ms - at_ms.rem_euclid(step_ms);
    let mut minutes: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut dead: BTreeMap<(i64, &str), u64> = BTreeMap::new();
    for entry in entries(&case.events).filter(is_asked) {
        let sums = minutes.entry(step(entry.minute_ms)).or_default();
        let (outcome, reason) = entry.outcome.split_once(':').unwrap_or((entry.outcome, ""));
        *sums.entry(outcome.to_owned()).or_default() += 1;
        *sums.entry("received".to_owned()).or_default() += u64::from(outcome != "rejected");
        if outcome == "dead" {
            *dead.entry((step(entry.minute_ms), reason)).or_default() += 1;
        }
    }
    // A letter about a line that had one already is a duplicate, however the books have it; of one run it stays what it is.
    let is_asked = |received_ms: i64| range.contains(&(received_ms - received_ms.rem_euclid(MINUTE_MS)));
    let letters = letters(&case.events).filter(|letter| letter.is_copy && run.is_none() && is_asked(letter.received_ms));
    for Letter { received_ms, reason, .. } in letters {
        let minute_ms = step(received_ms);
        if let Some(left) = dead.get_mut(&(minute_ms, reason)).filter(|left| **left > 0) {
            *left -= 1;
            let sums = minutes.get_mut(&minute_ms).unwrap();
            *sums.get_mut("dead").unwrap() -= 1;
            *sums.entry("duplicate".to_owned()).or_default() += 1;
        }
    }
    minutes.values_mut().for_each(|sums| sums.retain(|_, number| *number > 0));
    minutes
}

/// The sums of an answer that are not 0.
fn shown(sums: &Value) -> Sums {
    let names = ["received", "stored", "duplicate", "filtered", "rejected", "dead", "waiting"];
    let sums = names.into_iter().map(|name| (name.to_owned(), sums[name].as_u64().unwrap()));
    sums.filter(|(_, number)| *number > 0).collect()
}
