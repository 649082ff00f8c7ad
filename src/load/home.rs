//! In which shard a log partition lives.
//!
//! Promises: all rows of a partition of one log are in one shard, and stay there when shards are added, also while instances
//! disagree for a moment about how many shards there are. Whoever takes a partition first writes its fence and only then looks
//! at all shards again, so of two who begin in different shards at least one sees the other; that one takes the other's fence
//! too before it looks for rows. A server forgets its fences when it starts anew, and then refuses those who took them: they look again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::event::ids::LogEpoch;

/// A partition of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartitionKey {
    pub(super) epoch: LogEpoch,
    pub(super) partition: u16,
}

/// What one shard has of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// Rows of this log.
    pub(super) has_rows: bool,
    /// A fence that was taken, or rows of whatever log: the visitors of the partition have their earlier events there.
    pub(super) has_begun: bool,
}

/// The shards whose fences must be taken, in order, given what each shard has. Rows say where home is; without any, every
/// shard where somebody has begun, or the one that the number of the partition says.
pub(super) fn claims(partition: u16, traces: &[Trace]) -> Vec<usize> {
    if let Some(home) = traces.iter().position(|trace| trace.has_rows) {
        return vec![home];
    }
    let begun: Vec<usize> = traces.iter().enumerate().filter(|(_, trace)| trace.has_begun).map(|(shard, _)| shard).collect();
    if begun.is_empty() { vec![usize::from(partition) % traces.len().max(1)] } else { begun }
}

/// The homes that are known.
#[derive(Debug, Default)]
pub(super) struct Homes(Mutex<HashMap<PartitionKey, Home>>);

#[derive(Clone, Copy, Debug)]
struct Home {
    shard: usize,
    /// Whether it has rows, so that it is home for everyone and for good.
    is_settled: bool,
}

impl Homes {
    /// Where a partition lives as of the last fence taken; the first shard if none was.
    pub(super) fn shard(&self, place: PartitionKey) -> usize {
        self.lock().get(&place).map_or(0, |home| home.shard)
    }

    /// Where it lives for good.
    pub(super) fn settled(&self, place: PartitionKey) -> Option<usize> {
        self.lock().get(&place).filter(|home| home.is_settled).map(|home| home.shard)
    }

    /// A fence was taken.
    pub(super) fn set(&self, place: PartitionKey, shard: usize, has_rows: bool) {
        self.lock().insert(place, Home { shard, is_settled: has_rows });
    }

    /// A block was stored.
    pub(super) fn settle(&self, place: PartitionKey) {
        if let Some(home) = self.lock().get_mut(&place) {
            home.is_settled = true;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PartitionKey, Home>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Trace = Trace { has_rows: false, has_begun: false };
    const BEGUN: Trace = Trace { has_rows: false, has_begun: true };
    const ROWS: Trace = Trace { has_rows: true, has_begun: true };

    #[test]
    fn a_new_partition_goes_where_its_number_says() {
        assert_eq!(claims(5, &[NOTHING; 3]), [2]);
    }

    #[test]
    fn a_partition_stays_where_its_rows_are_when_shards_are_added() {
        assert_eq!(claims(1, &[ROWS, NOTHING]), [0]);
        assert_eq!(claims(1, &[NOTHING, NOTHING, ROWS]), [2]);
    }

    #[test]
    fn a_partition_without_rows_stays_where_it_has_begun() {
        assert_eq!(claims(1, &[BEGUN, NOTHING]), [0]);
    }

    #[test]
    fn of_two_beginnings_without_rows_both_are_fenced() {
        assert_eq!(claims(0, &[BEGUN, NOTHING, BEGUN]), [0, 2]);
    }

    #[test]
    fn rows_beat_a_fence_that_was_left_behind() {
        assert_eq!(claims(0, &[BEGUN, ROWS]), [1]);
    }

    #[test]
    fn a_home_is_for_good_only_once_it_has_rows() {
        let (homes, place) = (Homes::default(), PartitionKey { epoch: LogEpoch(7), partition: 3 });
        homes.set(place, 1, false);
        assert_eq!((homes.shard(place), homes.settled(place)), (1, None));
        homes.settle(place);
        assert_eq!(homes.settled(place), Some(1));
    }
}
