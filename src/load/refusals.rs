//! What the log says of a table that refuses: when it begins, each kind of trouble as it comes, once a minute while it lasts, and when it
//! is over. All partitions of an instance share this, because what one of them meets the others mostly meet too.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::TableError;
use crate::outage::Over;

/// Until a kind of trouble that lasts is said again.
const SAID_FOR: Duration = Duration::from_secs(60);

/// Kinds that are told apart within [`SAID_FOR`].
const MOST_KINDS: usize = 16;

/// What kind of trouble it is: one that is said in the same words, whatever numbers, hosts and ids stand in them.
#[derive(Debug, PartialEq, Eq)]
struct Kind(Discriminant<TableError>, String);

impl Kind {
    fn of(problem: &TableError) -> Self {
        let (TableError::Later(why) | TableError::Refused(why) | TableError::TooLarge(why) | TableError::Stop(why)) = problem else {
            return Self(discriminant(problem), String::new());
        };
        let words = why.split(|letter: char| letter.is_whitespace()).filter(|word| word.chars().all(|letter| letter.is_alphabetic()));
        Self(discriminant(problem), words.take(12).collect::<Vec<_>>().join(" "))
    }
}

/// The partitions that are refused, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    partitions: BTreeSet<u16>,
    failures: u64,
    /// When the first of them was refused; none is if there is none.
    began: Option<Instant>,
    /// Kinds of trouble, and when each was said last: at most [`MOST_KINDS`].
    said: Vec<(Kind, Instant)>,
}

impl Refusals {
    /// Notes that a partition was refused, and logs it unless the same kind of trouble was logged a moment ago.
    pub(super) fn note(&self, problem: &TableError, partition: u16) {
        match problem {
            // Of this partition alone, and no trouble with the server.
            TableError::Fenced => tracing::warn!(partition, "insert refused by the fence"),
            _ if !self.is_to_be_said(problem, partition, Instant::now()) => {}
            TableError::Stop(why) => tracing::error!(partition, why, "loading stopped until this is mended; nothing is lost"),
            TableError::Later(why) | TableError::Refused(why) | TableError::TooLarge(why) => {
                tracing::warn!(partition, why, "clickhouse refuses for now")
            }
        }
    }

    /// Notes that the table took what a partition has, and logs it if that was the last one refused.
    pub(super) fn ends(&self, partition: u16) {
        if let Some(Over { failures, lasted }) = self.ends_at(partition, Instant::now()) {
            tracing::info!(failures, ?lasted, "clickhouse takes events again");
        }
    }

    /// Forgets a partition that is loaded no more by this instance, whatever the table says to its next owner.
    pub(super) fn forget(&self, partition: u16) {
        let _ = self.ends_at(partition, Instant::now());
    }

    fn is_to_be_said(&self, problem: &TableError, partition: u16, now: Instant) -> bool {
        let mut state = self.state();
        state.partitions.insert(partition);
        state.failures += 1;
        state.began.get_or_insert(now);
        let kind = Kind::of(problem);
        state.said.retain(|(_, at)| now.saturating_duration_since(*at) < SAID_FOR);
        if state.said.len() == MOST_KINDS || state.said.iter().any(|(said, _)| *said == kind) {
            return false;
        }
        state.said.push((kind, now));
        true
    }

    fn ends_at(&self, partition: u16, now: Instant) -> Option<Over> {
        let mut state = self.state();
        if !state.partitions.remove(&partition) || !state.partitions.is_empty() {
            return None;
        }
        let State { failures, began, .. } = std::mem::take(&mut *state);
        began.map(|began| Over { failures, lasted: now.saturating_duration_since(began) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later() -> TableError {
        TableError::Later("away".to_owned())
    }

    #[test]
    fn all_partitions_say_a_kind_of_trouble_once_a_minute() {
        let (start, refusals) = (Instant::now(), Refusals::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        let said = |seconds| (0..12).filter(|partition| refusals.is_to_be_said(&later(), *partition, after(seconds))).count();
        assert_eq!((0..150).map(said).sum::<usize>(), 3);
        let full = TableError::Stop("a column is gone".to_owned());
        assert!(refusals.is_to_be_said(&full, 3, after(150)) && !refusals.is_to_be_said(&full, 4, after(151)));
        let other = TableError::Stop("a table is gone".to_owned());
        assert!(refusals.is_to_be_said(&other, 4, after(152)) && !refusals.is_to_be_said(&full, 3, after(153)));
    }

    #[test]
    fn it_is_over_once_no_partition_is_refused_and_said_again_when_it_begins_again() {
        let (start, refusals) = (Instant::now(), Refusals::default());
        assert_eq!(refusals.ends_at(0, start), None);
        assert!(refusals.is_to_be_said(&later(), 0, start) && !refusals.is_to_be_said(&later(), 1, start));
        assert_eq!(refusals.ends_at(0, start), None);
        assert_eq!(refusals.ends_at(0, start), None);
        let lasted = Duration::from_secs(5);
        assert_eq!(refusals.ends_at(1, start + lasted), Some(Over { failures: 2, lasted }));
        assert!(refusals.is_to_be_said(&later(), 0, start + lasted));
    }
}
