//! When somebody had events, so that their rows are read and not those of everybody.
//!
//! The rows of a visitor stand beside each other in the projection of visits, which has neither types nor properties: it tells in which days
//! of receipt and at which times somebody had events, and the rows of those times are read of the table itself. Promise: no event of
//! theirs is at another time. Every event is of a visitor who is its person, or whom a tie has said to be, undone or not, or of the
//! one of all devices that stand for nobody.
//! Cost: a few thousand narrow rows for each visitor, and of the table some granules for each type and span, however large it is. A person
//! who has events all the time, as a machine does, is looked for everywhere.

use std::collections::BTreeSet;

use crate::query::ask::{Expr, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;

/// Events are looked at together that are of the same ten minutes.
const SLOT: &str = "intDiv(toUnixTimestamp64Milli(timestamp), 600000)";
const SLOT_MS: i64 = 600_000;
/// Most slots that are looked at: who has more has events all the time.
const MOST_SLOTS: usize = 10_000;
/// What a statement asks for: spans of time, and days.
const MOST_SPANS: usize = 64;
const MOST_DAYS: usize = 200;

/// Events whose times are asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) range: &'a Range,
    /// Only those of this time or before it, and beside those of it `enough` of them; milliseconds since 1970.
    pub(crate) until_ms: Option<i64>,
    /// As many of the newest do; all without it.
    pub(crate) enough: Option<u64>,
}

/// Days of receipt and spans of time, both ends included, milliseconds since 1970.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    days: BTreeSet<u64>,
    spans: Vec<(i64, i64)>,
}

/// Events of one day of receipt and ten minutes.
struct Slot {
    day: u64,
    first_ms: i64,
    last_ms: i64,
    events: u64,
}

impl Times {
    /// The times of the events that meet `condition`, all of which are of `visitors`; none if they are too many to tell.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn read(
        runner: &mut StatementRunner<'_>,
        visitors: &[u64],
        condition: Expr,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Self>, QueryError> {
        let Wanted { range, until_ms, enough } = *wanted;
        let is_theirs = Expr::from("visitor_id IN ").then(Expr::uints(visitors.iter().copied()));
        let events = Selection::of(runner.scope(range)).and(is_theirs).and(condition);
        let moment = |ms| Expr::call("fromUnixTimestamp64Milli", [Expr::int(ms)]);
        let (counted, events) = match until_ms {
            Some(ms) => {
                (Expr::from("countIf(timestamp < ").then(moment(ms)).then(")"), events.and(Expr::from("timestamp <= ").then(moment(ms))))
            }
            None => ("count()".into(), events),
        };
        let slots = Select::default()
            .column("toUInt16(received_day) AS day")
            .column("min(toUnixTimestamp64Milli(timestamp))")
            .column("max(toUnixTimestamp64Milli(timestamp)) AS last")
            .column(counted)
            .from(events)
            .then(" GROUP BY day, ")
            .then(SLOT)
            .then(" ORDER BY last DESC LIMIT ")
            .then(Expr::uint(MOST_SLOTS as u64 + 1));
        let rows = runner.rows(slots.into()).await?;
        let slots = rows.iter().map(|row| {
            let [day, first, last, events] = row.columns();
            Slot { day: day.uint(), first_ms: first.int(), last_ms: last.int(), events: events.uint() }
        });
        Ok(Self::of(slots, enough))
    }

    /// Those of slots, the newest first.
    fn of(slots: impl Iterator<Item = Slot>, enough: Option<u64>) -> Option<Self> {
        let (mut times, mut found, mut oldest_ms) = (Self::default(), 0, i64::MAX);
        for (number, slot) in slots.enumerate() {
            // Of events received on several days a slot is there for each: all that reach up to where it is enough are needed.
            if enough.is_some_and(|enough| found >= enough) && slot.last_ms < oldest_ms {
                break;
            }
            if number >= MOST_SLOTS {
                return None;
            }
            found += slot.events;
            oldest_ms = oldest_ms.min(slot.first_ms);
            times.days.insert(slot.day);
            times.spans.push((slot.first_ms, slot.last_ms));
        }
        times.spans = joined(times.spans);
        Some(times)
    }

    /// The condition that an event is of these times.
    pub(crate) fn condition(&self) -> Expr {
        let (Some(first), Some(last)) = (self.days.first(), self.days.last()) else { return "0".into() };
        let day = |day: u64| Expr::from("toDate(").then(Expr::uint(day)).then(")");
        let days = if self.days.len() > MOST_DAYS {
            Expr::all([Expr::from("received_day >= ").then(day(*first)), Expr::from("received_day <= ").then(day(*last))])
        } else {
            Expr::from("received_day IN (").then(Expr::list(", ", self.days.iter().copied().map(day))).then(")")
        };
        let moment = |ms| Expr::call("fromUnixTimestamp64Milli", [Expr::int(ms)]);
        let span = |(first, last): &(i64, i64)| {
            Expr::all([Expr::from("timestamp >= ").then(moment(*first)), Expr::from("timestamp <= ").then(moment(*last))]).grouped()
        };
        Expr::all([days, Expr::any(self.spans.iter().map(span)).grouped()])
    }
}

/// At most [`MOST_SPANS`] that cover all of these, in order: those that are nearest to each other become one.
fn joined(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let apart = |spans: Vec<(i64, i64)>, by_ms: i64| {
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (first, last) in spans {
            match joined.last_mut() {
                Some(span) if first.saturating_sub(span.1) <= by_ms => span.1 = span.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        joined
    };
    let spans = apart(spans, SLOT_MS);
    let mut gaps: Vec<i64> = spans.iter().zip(spans.iter().skip(1)).map(|(before, after)| after.0 - before.1).collect();
    gaps.sort_unstable_by(|left, right| right.cmp(left));
    match gaps.get(MOST_SPANS - 1) {
        Some(gap_ms) => apart(spans, *gap_ms),
        None => spans,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(day: u64, first_ms: i64, last_ms: i64, events: u64) -> Slot {
        Slot { day, first_ms, last_ms, events }
    }

    #[test]
    fn the_newest_times_that_have_enough_events_are_looked_at() {
        let slots = || [slot(9, 9_000_000, 9_000_500, 2), slot(8, 7_000_000, 9_000_400, 2), slot(7, 100, 200, 2)].into_iter();
        let newest = Times::of(slots(), Some(2)).unwrap();
        // The second slot has events between those of the first.
        assert_eq!((newest.days, newest.spans), (BTreeSet::from([8, 9]), vec![(7_000_000, 9_000_500)]));
        let all = Times::of(slots(), None).unwrap();
        assert_eq!((all.days, all.spans), (BTreeSet::from([7, 8, 9]), vec![(100, 200), (7_000_000, 9_000_500)]));
        assert_eq!(Times::of(std::iter::empty(), None), Some(Times::default()));
    }

    #[test]
    fn a_person_with_events_all_the_time_is_looked_for_everywhere() {
        let all_day = |slots: i64| (0..slots).rev().map(|number| slot(1, number * SLOT_MS, number * SLOT_MS, 1));
        assert_eq!(Times::of(all_day(MOST_SLOTS as i64 + 1), None), None);
        assert!(Times::of(all_day(MOST_SLOTS as i64), None).is_some());
        assert_eq!(Times::of(all_day(MOST_SLOTS as i64 + 1), Some(3)).unwrap().spans.len(), 1);
    }

    proptest! {
        #[test]
        fn few_spans_cover_all_times(times in proptest::collection::vec((0..100_000_000_i64, 0..2_000_000_i64), 0..300)) {
            let times: Vec<(i64, i64)> = times.into_iter().map(|(first, length)| (first * 100, first * 100 + length)).collect();
            let spans = joined(times.clone());
            prop_assert!(spans.len() <= MOST_SPANS);
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (first, last) in times {
                prop_assert!(spans.iter().any(|span| span.0 <= first && last <= span.1));
            }
        }
    }
}
