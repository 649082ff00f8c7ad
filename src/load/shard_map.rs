//! The shard map: which shard of the cluster holds the rows of a log partition.
//!
//! Promises: all rows of a partition of one log are in one shard, and stay there when shards are added, also while instances
//! disagree for a moment about how many shards there are. An instance that takes a partition writes its fence first and only then
//! looks at all shards again, so of two that begin in different shards at least one sees the other; that one takes the other's fence
//! too before it looks for rows. A server that restarts has forgotten its fences and refuses every holder: they look again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::store::books::PartitionKey;

/// What one shard has of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShardEvidence {
    /// Rows of this log.
    pub(super) has_rows: bool,
    /// A fence that was taken, or rows of any log: the visitors of the partition have their earlier events there.
    pub(super) has_begun: bool,
}

/// The shards whose fences must be taken, in order, given what each shard has. The shard with rows is the only candidate. Without
/// rows it is every shard where an instance has begun, or else the one that the partition number selects.
pub(super) fn candidates(partition: u16, evidence: &[ShardEvidence]) -> Vec<usize> {
    if let Some(shard) = evidence.iter().position(|evidence| evidence.has_rows) {
        return vec![shard];
    }
    let begun: Vec<usize> = evidence.iter().enumerate().filter(|(_, evidence)| evidence.has_begun).map(|(shard, _)| shard).collect();
    if begun.is_empty() { vec![usize::from(partition) % evidence.len().max(1)] } else { begun }
}

/// Where partitions are, as far as this instance has learnt it.
#[derive(Debug, Default)]
pub(super) struct ShardMap(Mutex<HashMap<PartitionKey, Placement>>);

#[derive(Clone, Copy, Debug)]
struct Placement {
    shard: usize,
    /// Whether the shard has rows: then every instance finds the partition there, and it never moves.
    is_pinned: bool,
}

impl ShardMap {
    /// Shard of a partition as of the last fence taken; the first shard if none was.
    pub(super) fn shard(&self, key: PartitionKey) -> usize {
        self.lock().get(&key).map_or(0, |placement| placement.shard)
    }

    /// Shard that has rows of the partition, if that is known.
    pub(super) fn pinned(&self, key: PartitionKey) -> Option<usize> {
        self.lock().get(&key).filter(|placement| placement.is_pinned).map(|placement| placement.shard)
    }

    /// Notes that the fence of a partition was taken in `shard`.
    pub(super) fn set(&self, key: PartitionKey, shard: usize, has_rows: bool) {
        self.lock().insert(key, Placement { shard, is_pinned: has_rows });
    }

    /// Notes that a block was stored: from now on the partition stays in its shard.
    pub(super) fn pin(&self, key: PartitionKey) {
        if let Some(placement) = self.lock().get_mut(&key) {
            placement.is_pinned = true;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PartitionKey, Placement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::LogEpoch;

    const NOTHING: ShardEvidence = ShardEvidence { has_rows: false, has_begun: false };
    const BEGUN: ShardEvidence = ShardEvidence { has_rows: false, has_begun: true };
    const ROWS: ShardEvidence = ShardEvidence { has_rows: true, has_begun: true };

    #[test]
    fn a_new_partition_goes_where_its_number_says() {
        assert_eq!(candidates(5, &[NOTHING; 3]), [2]);
    }

    #[test]
    fn a_partition_stays_where_its_rows_are_when_shards_are_added() {
        assert_eq!(candidates(1, &[ROWS, NOTHING]), [0]);
        assert_eq!(candidates(1, &[NOTHING, NOTHING, ROWS]), [2]);
    }

    #[test]
    fn a_partition_without_rows_stays_where_it_has_begun() {
        assert_eq!(candidates(1, &[BEGUN, NOTHING]), [0]);
    }

    #[test]
    fn of_two_beginnings_without_rows_both_are_fenced() {
        assert_eq!(candidates(0, &[BEGUN, NOTHING, BEGUN]), [0, 2]);
    }

    #[test]
    fn rows_beat_a_fence_that_was_left_behind() {
        assert_eq!(candidates(0, &[BEGUN, ROWS]), [1]);
    }

    #[test]
    fn a_partition_is_pinned_only_once_its_shard_has_rows() {
        let (shard_map, key) = (ShardMap::default(), PartitionKey { epoch: LogEpoch(7), partition: 3 });
        shard_map.set(key, 1, false);
        assert_eq!((shard_map.shard(key), shard_map.pinned(key)), (1, None));
        shard_map.pin(key);
        assert_eq!(shard_map.pinned(key), Some(1));
    }
}
