//! How far consumer groups came, in memory. [`super::store::Store`] writes it down about once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sidecar::Committed;
use crate::log::Topic;

type Key = (Topic, u16, String);

/// The committed offsets of all groups.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: Mutex<BTreeMap<Key, i64>>,
    joined: Mutex<BTreeSet<(Topic, &'static str)>>,
}

impl Offsets {
    /// Continues from a checkpoint. Topics it does not know are left out.
    pub(super) fn restore(committed: &[Committed]) -> Self {
        let known = committed.iter().filter_map(|entry| {
            let topic = Topic::ALL.into_iter().find(|topic| topic.as_str() == entry.topic)?;
            Some(((topic, entry.partition, entry.group.clone()), entry.next_offset))
        });
        Self { committed: Mutex::new(known.collect()), joined: Mutex::default() }
    }

    pub(super) fn commit(&self, topic: Topic, partition: u16, group: &str, next_offset: i64) {
        self.lock().insert((topic, partition, group.to_owned()), next_offset);
    }

    pub(super) fn committed(&self, topic: Topic, partition: u16, group: &str) -> Option<i64> {
        self.lock().get(&(topic, partition, group.to_owned())).copied()
    }

    /// Below which offset every one of `groups` is finished; 0 while one of them has not committed anything.
    pub(super) fn finished(&self, topic: Topic, partition: u16, groups: &[&str]) -> i64 {
        groups.iter().map(|group| self.committed(topic, partition, group).unwrap_or(0)).min().unwrap_or(i64::MAX)
    }

    pub(super) fn all(&self) -> Vec<Committed> {
        let entry = |((topic, partition, group), next_offset): (&Key, &i64)| Committed {
            group: group.clone(),
            topic: topic.as_str().to_owned(),
            partition: *partition,
            next_offset: *next_offset,
        };
        self.lock().iter().map(entry).collect()
    }

    /// Whether `group` has no member on `topic` yet; it has one then.
    pub(super) fn join(&self, topic: Topic, group: &'static str) -> bool {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).insert((topic, group))
    }

    pub(super) fn leave(&self, topic: Topic, group: &'static str) {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).remove(&(topic, group));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, i64>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
