//! What was seen in the slots of a rule and what happened to it, page by page.
//!
//! Promise: what is shown goes through unread, and is bounded by its bytes ([`alert_states::newest`]): a slot of a wide rule is as long as
//! a thousand of a narrow one.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Asking;
use crate::alert::observe::instant;
use crate::alert::rule::short;
use crate::query::{QueryError, check_once};
use crate::store::tables::alert_states::{self, Before, Newest, Page, Stored, kind};

/// How many rows of each kind are shown where nobody says how many.
const SHOWN: u64 = 100;

/// The answer.
#[derive(Serialize)]
struct History {
    history: Vec<BTreeMap<String, Box<RawValue>>>,
    slots: Vec<Slot>,
    next: Next,
}

/// What was seen in a slot.
#[derive(Serialize)]
struct Slot {
    slot: String,
    at: String,
    seen: Box<RawValue>,
}

/// Before what the next of each is to be asked for; none where there is no more.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Next {
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<String>,
}

impl Next {
    fn of(history: &Page, slots: &Page) -> Self {
        let last = |page: &Page, show: fn(&Stored) -> String| page.rows.last().filter(|_| page.is_cut).map(show);
        // Of a slot there is one row of what was seen, and any number of what happened.
        let history = last(history, |row| format!("{}/{}", instant(row.slot), row.version));
        Self { history, slots: last(slots, |row| instant(row.slot)) }
    }
}

/// Before what rows are asked for: a time, or what [`Next`] says.
fn before_of(text: &str, now_ms: i64) -> Option<Before> {
    let (at, version) = text.split_once('/').unwrap_or((text, "0"));
    Some(Before { slot: crate::query::instant(at, now_ms)?, version: version.parse().ok()? })
}

impl Asking<'_> {
    /// The newest of a rule, as JSON.
    pub(super) async fn history(&self, id: &str, query: &str) -> Result<Vec<u8>, QueryError> {
        check_once(query, None)?;
        let known = self.known(id).await?.0;
        let (mut limit, mut before) = (SHOWN, Before { slot: i64::MAX / 1_000_000, version: 0 });
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let wrong = || QueryError::invalid("invalid_parameter", format!("`{key}` is `{}`", short(&value)));
            match &*key {
                "limit" => limit = value.parse().map_err(|_| wrong())?,
                "before" => before = before_of(&value, (self.parts.now_ms)()).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        let page = async |kind| {
            let of = Newest { kind, project: known.key.project, rule: &known.key.id, before, limit };
            alert_states::newest(&self.parts.store, of).await.map_err(|problem| QueryError::of_store(problem.class()))
        };
        let (history, slots) = (page(kind::HISTORY).await?, page(kind::SLOT).await?);
        let next = Next::of(&history, &slots);
        let shown =
            History { history: history.rows.iter().map(happened).collect(), slots: slots.rows.into_iter().map(seen).collect(), next };
        serde_json::to_vec(&shown).map_err(|_| QueryError::internal("the history cannot be shown"))
    }
}

fn happened(row: &Stored) -> BTreeMap<String, Box<RawValue>> {
    let mut shown: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&row.body).unwrap_or_default();
    for (key, at_ms) in [("slot", row.slot), ("at", row.at)] {
        shown.extend(to_raw_value(&instant(at_ms)).ok().map(|at| (key.to_owned(), at)));
    }
    shown
}

fn seen(row: Stored) -> Slot {
    let seen = RawValue::from_string(row.body).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Slot { slot: instant(row.slot), at: instant(row.at), seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(slot: i64, body: &str) -> Stored {
        let kind = kind::HISTORY.to_owned();
        Stored { kind, project: 1, rule: "a".to_owned(), entry: String::new(), slot, at: slot + 1, body: body.to_owned(), version: 5 }
    }

    #[test]
    fn the_next_page_begins_where_this_one_was_cut() {
        let page = |slots: &[i64], is_cut| Page { rows: slots.iter().map(|slot| row(*slot, "{}")).collect(), is_cut };
        let (at, within) = (|slot: i64| Some(instant(slot)), |slot: i64| Some(format!("{}/5", instant(slot))));
        assert_eq!(Next::of(&page(&[9, 8], false), &page(&[9, 8], false)), Next::default());
        assert_eq!(Next::of(&page(&[9, 8], true), &page(&[9, 7], true)), Next { history: within(8), slots: at(7) });
        assert_eq!(Next::of(&page(&[9, 9], true), &page(&[], true)), Next { history: within(9), slots: None });
        assert_eq!(before_of(&within(9).unwrap(), 0), Some(Before { slot: 9, version: 5 }), "it is asked for as it was said");
        assert_eq!(before_of(&at(9).unwrap(), 0), Some(Before { slot: 9, version: 0 }), "without what happened in that slot");
        for wrong in ["", "/5", "1970-01-01/", "1970-01-01/-1", "1970-01-01/5/5"] {
            assert_eq!(before_of(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_written_is_shown_as_it_was_with_its_times() {
        let shown = happened(&row(0, r#"{"event":"change","slot":0,"value":1.50}"#));
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(text, r#"{"at":"1970-01-01T00:00:00.001Z","event":"change","slot":"1970-01-01T00:00:00Z","value":1.50}"#);
        assert_eq!(serde_json::to_string(&seen(row(0, "{\"\":{}}"))).unwrap().split("\"seen\":").nth(1), Some("{\"\":{}}}"));
        assert_eq!(seen(row(0, "")).seen.get(), "null");
    }
}
