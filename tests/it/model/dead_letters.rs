//! Dead letters: those in a range of receipt and of one reason, newest first, each on one page.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::ledger::{seconds, time};
use super::{Event, received_ms, received_range};
use crate::report::{Asker, Case, instant};

const REASONS: [&str; 3] = ["event_invalid", "line_malformed", "record_failed"];

/// A dead letter as it is stored.
pub(crate) struct Letter {
    pub(crate) received_ms: i64,
    pub(crate) reason: &'static str,
    pub(crate) is_copy: bool,
    line: usize,
}

/// The letters of a case: one for every other event.
pub(crate) fn letters(events: &[Event]) -> impl Iterator<Item = Letter> {
    let events = events.iter().enumerate().filter(|(index, _)| index % 2 == 0);
    events.map(|(line, event)| Letter {
        received_ms: received_ms(event.at_ms),
        reason: REASONS[event.person as usize % REASONS.len()],
        is_copy: event.session == 1,
        line,
    })
}

/// Rows of the letters.
pub(crate) fn rows(project: u64, events: &[Event]) -> Vec<Value> {
    let row = |Letter { received_ms, reason, is_copy, line }: Letter| {
        json!({
            "project_id": project, "received_at": seconds(received_ms), "reason": reason, "message": format!("code_{reason}: no good"),
            "source": "a.log", "line": line, "original": format!("line {line} of 203.0.113.7"), "log_epoch": 1, "log_partition": line % 3,
            "log_offset": line, "log_index": 0, "letter_id": line, "is_copy": u8::from(is_copy),
        })
    };
    letters(events).map(row).collect()
}

/// Reads all pages of a range, and of one reason.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let (from, to) = received_range(case.range);
    let reason = REASONS[case.limit % REASONS.len()];
    let of_reason = format!("from={}&to={}&reason={reason}", time(from), time(to));
    for (query, from, to, reason) in [("source=a.log".to_owned(), i64::MIN, i64::MAX, None), (of_reason, from, to, Some(reason))] {
        let is_asked = |letter: &Letter| (from..to).contains(&letter.received_ms) && reason.is_none_or(|reason| reason == letter.reason);
        let mut expected: Vec<Letter> = letters(&case.events).filter(is_asked).collect();
        expected.sort_by_key(|letter| std::cmp::Reverse((letter.received_ms, letter.line % 3, letter.line)));
        let (found, reasons) = all_letters(asker, &query);
        let shown = |letter: &Letter| {
            let original = format!("line {} of [address]", letter.line);
            // Lines are counted from 1: what says 0 is of none.
            let line = Some(letter.line).filter(|line| *line > 0);
            json!([letter.received_ms, letter.reason, letter.is_copy, line, original])
        };
        prop_assert_eq!(found, expected.iter().map(shown).collect::<Vec<_>>(), "{}", query);
        let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for letter in &expected {
            let [letters, copies] = counts.entry(letter.reason).or_default();
            *letters += 1;
            *copies += u64::from(letter.is_copy);
        }
        let counts = counts.iter().map(|(reason, counts)| ((*reason).to_owned(), *counts)).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(reasons, counts, "{}", query);
    }
    Ok(())
}

/// All letters, page by page, and the counts by reason of the last page.
fn all_letters(asker: Asker<'_>, query: &str) -> (Vec<Value>, BTreeMap<String, [u64; 2]>) {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = asker.get("dead-letters", &format!("{query}&limit=3{cursor}"));
        let read = |letter: &Value| {
            let received_ms = instant(letter["receivedAt"].as_str().unwrap());
            json!([received_ms, letter["reason"], letter["isCopy"], letter["line"], letter["original"]])
        };
        found.extend(page["letters"].as_array().unwrap().iter().map(read));
        let Some(next) = page["next"].as_str() else {
            let reasons = page["reasons"].as_array().unwrap().iter().map(|reason| {
                assert_eq!(reason["code"], json!(format!("code_{}", reason["reason"].as_str().unwrap())));
                let count = |name: &str| reason[name].as_u64().unwrap();
                (reason["reason"].as_str().unwrap().to_owned(), [count("letters"), count("copies")])
            });
            return (found, reasons.collect());
        };
        cursor = format!("&cursor={next}");
    }
}
