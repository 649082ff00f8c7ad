//! A sample of the events of a question that asks for one, and how far its counts may be off.
//!
//! Events are chosen one by one, by a hash of their id: a question that is asked again finds the same ones, and how many of a kind are among them
//! varies as it does by chance. Nothing is sampled unless the question says so.

use crate::query::ask::selection::Selection;
use crate::query::ask::{Expr, Select};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;

/// Up to this many events all are looked at: about a second of work on one core.
const EVENTS: u64 = 2_000_000;
/// As many standard deviations hold 95 of 100 samples.
const DEVIATIONS: f64 = 1.96;

/// Which events are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    is_asked: bool,
    /// One event in how many.
    share: u64,
}

/// A count of events, and by how much more or less there may be, if that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) events: u64,
    pub(super) error: Option<u64>,
}

impl Sample {
    /// All events; if a sample `is_asked` for, a share of them that has about [`EVENTS`], which is noted in the answer.
    ///
    /// # Errors
    /// The events cannot be counted.
    pub(super) async fn of(is_asked: bool, events: Selection, runner: &mut StatementRunner<'_>) -> Result<Self, QueryError> {
        if !is_asked {
            return Ok(Self { is_asked, share: 1 });
        }
        let count = Select::default().column("count()").from(events);
        let events = runner.rows(count.into()).await?.first().map_or(0, |row| row.cell(0).uint());
        let share = events.div_ceil(EVENTS).max(1);
        if share > 1 {
            runner.mark_sampled();
        }
        Ok(Self { is_asked, share })
    }

    /// Whether the question takes an estimate for an answer.
    pub(super) fn is_asked(self) -> bool {
        self.is_asked
    }

    /// Of these events those that are looked at.
    pub(super) fn select(self, events: Selection) -> Selection {
        match self.share {
            1 => events,
            share => events.and(Expr::from("event_hash <= ").then(Expr::uint(u64::from(u32::MAX) / share))),
        }
    }

    /// How many events there are where this many were found, of which up to `more` may not have been seen.
    pub(super) fn count(self, found: u64, more: u64) -> Count {
        let share = self.share as f64;
        let by_chance = DEVIATIONS * share * (found as f64 * (1.0 - 1.0 / share)).sqrt();
        Count { events: found * self.share, error: self.is_asked.then_some(by_chance.ceil() as u64 + more * self.share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::ProjectId;
    use crate::query::ask::{Range, Scope};
    use crate::query::sql::Statement;

    fn text(sample: Sample) -> Statement {
        let events = Selection::of(Scope::new(ProjectId(7), &Range::everything()));
        Select::default().column("count()").from(sample.select(events)).into()
    }

    #[test]
    fn all_events_are_looked_at_unless_there_are_many_and_a_sample_is_asked_for() {
        assert!(!text(Sample { is_asked: false, share: 1 }).text().contains("event_hash"));
        let sampled = text(Sample { is_asked: true, share: 4 });
        assert!(sampled.text().contains(" AND event_hash <= {p"), "{}", sampled.text());
        assert!(sampled.params().any(|(_, value)| value == (u32::MAX / 4).to_string()));
    }

    #[test]
    fn a_count_of_a_sample_says_how_far_it_may_be_off() {
        assert_eq!(Sample { is_asked: false, share: 1 }.count(7, 0), Count { events: 7, error: None });
        assert_eq!(Sample { is_asked: true, share: 1 }.count(7, 0), Count { events: 7, error: Some(0) });
        // Of 40,000 events about 10,000 are found, give or take 1.96 times the root of 10,000 * 3/4, each for four.
        assert_eq!(Sample { is_asked: true, share: 4 }.count(10_000, 0), Count { events: 40_000, error: Some(679) });
        assert_eq!(Sample { is_asked: true, share: 4 }.count(10_000, 5), Count { events: 40_000, error: Some(699) });
    }
}
