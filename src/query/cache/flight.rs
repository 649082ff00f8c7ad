//! Executions under way, shared by their waiters.
//!
//! An execution lives in the futures of its waiters, so it ends with the last of them; the map only holds weak references.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Entry, Key};
use crate::query::error::QueryError;
use crate::store::data_version::Version;

type Execution = BoxFuture<'static, Result<Arc<Entry>, QueryError>>;
/// An execution as a waiter holds it.
pub(super) type Flight = Shared<Execution>;

/// Most executions of one question at once: one that arrivals have overtaken, and one that includes them.
const AT_ONCE: usize = 2;

/// All executions under way.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    running: HashMap<Key, Vec<Running>>,
    last_id: u64,
}

struct Running {
    id: u64,
    seen: Version,
    flight: WeakShared<Execution>,
}

/// A slot in the map. Freed when dropped.
pub(super) struct Slot {
    flights: Flights,
    key: Key,
    id: u64,
    seen: Version,
}

impl Slot {
    /// What had arrived when the execution began.
    pub(super) fn seen(&self) -> Version {
        self.seen
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.flights.lock();
        if let Some(list) = table.running.get_mut(&self.key) {
            list.retain(|running| running.id != self.id);
            if list.is_empty() {
                table.running.remove(&self.key);
            }
        }
    }
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest execution of `key`; if arrivals have overtaken it, a new one that `start` makes. `now` is the state of the arrivals.
    pub(super) fn join(
        &self,
        key: Key,
        now: Version,
        is_overtaken: impl Fn(Version) -> bool,
        start: impl FnOnce(Slot) -> Flight,
    ) -> Flight {
        // Declared before the lock and so dropped after it: the last holder of an execution drops its slot, which locks.
        let mut alive: Vec<(Version, Flight)> = Vec::new();
        let mut table = self.lock();
        if let Some(list) = table.running.get(&key) {
            alive.extend(list.iter().filter_map(|running| Some((running.seen, running.flight.upgrade()?))));
        }
        if let Some((seen, flight)) = alive.last()
            && (alive.len() >= AT_ONCE || !is_overtaken(*seen))
        {
            return flight.clone();
        }
        table.last_id += 1;
        let id = table.last_id;
        let flight = start(Slot { flights: self.clone(), key, id, seen: now });
        if let Some(weak) = flight.downgrade() {
            table.running.entry(key).or_default().push(Running { id, seen: now, flight: weak });
        }
        flight
    }

    /// Whether an execution of `key` is under way.
    pub(super) fn is_running(&self, key: &Key) -> bool {
        self.lock().running.contains_key(key)
    }
}
