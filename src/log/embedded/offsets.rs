//! The offsets that consumer groups committed, in memory. [`super::store::Store`] writes them down about once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sidecar::Committed;
use crate::log::{ConsumerGroup, Topic};

type Key = (ConsumerGroup, u16);

/// The committed offsets of all groups.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: Mutex<BTreeMap<Key, i64>>,
    /// Of groups that only another release knows: kept for it.
    unknown: Vec<Committed>,
    joined: Mutex<BTreeSet<ConsumerGroup>>,
}

impl Offsets {
    /// Continues from a checkpoint.
    pub(super) fn restore(checkpoint: &[Committed]) -> Self {
        let (mut committed, mut unknown) = (BTreeMap::new(), Vec::new());
        for entry in checkpoint {
            let is_group = |group: &ConsumerGroup| (group.as_str(), group.topic().as_str()) == (&entry.group, &entry.topic);
            match ConsumerGroup::ALL.into_iter().find(is_group) {
                Some(group) => drop(committed.insert((group, entry.partition), entry.next_offset)),
                None => unknown.push(entry.clone()),
            }
        }
        Self { committed: Mutex::new(committed), unknown, joined: Mutex::default() }
    }

    pub(super) fn commit(&self, group: ConsumerGroup, partition: u16, next_offset: i64) {
        self.lock().insert((group, partition), next_offset);
    }

    pub(super) fn committed(&self, group: ConsumerGroup, partition: u16) -> Option<i64> {
        self.lock().get(&(group, partition)).copied()
    }

    /// Below which offset every group of `topic` is finished; 0 while one of them has not committed anything.
    pub(super) fn finished(&self, topic: Topic, partition: u16) -> i64 {
        ConsumerGroup::of(topic).map(|group| self.committed(group, partition).unwrap_or(0)).min().unwrap_or(i64::MAX)
    }

    pub(super) fn all(&self) -> Vec<Committed> {
        let entry = |((group, partition), next_offset): (&Key, &i64)| Committed {
            group: group.as_str().to_owned(),
            topic: group.topic().as_str().to_owned(),
            partition: *partition,
            next_offset: *next_offset,
        };
        self.lock().iter().map(entry).chain(self.unknown.iter().cloned()).collect()
    }

    /// Whether `group` has no member yet; it has one then.
    pub(super) fn join(&self, group: ConsumerGroup) -> bool {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).insert(group)
    }

    pub(super) fn leave(&self, group: ConsumerGroup) {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, i64>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_group_that_only_another_release_knows_are_kept_and_hold_up_nothing() {
        let entry = |group: &str, next_offset| Committed { group: group.to_owned(), topic: "raw".to_owned(), partition: 0, next_offset };
        let offsets = Offsets::restore(&[entry("process", 7), entry("identify", 3)]);
        assert_eq!(offsets.finished(Topic::Raw, 0), 7);
        offsets.commit(ConsumerGroup::Process, 0, 9);
        assert_eq!(offsets.all(), [entry("process", 9), entry("identify", 3)]);
    }
}
