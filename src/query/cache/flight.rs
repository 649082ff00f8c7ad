//! Executions under way, shared by all who wait for them.
//!
//! An execution lives in the futures of those who wait for it, so it ends with the last of them; the map only knows where to
//! find it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Entry, Key};
use crate::clickhouse::Moment;
use crate::query::error::QueryError;

type Execution = BoxFuture<'static, Result<Arc<Entry>, QueryError>>;
/// An execution as one who waits holds it.
pub(super) type Flight = Shared<Execution>;

/// Of one question no more run at once: one that arrivals have overtaken, and one that knows of them.
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
    seen: Moment,
    flight: WeakShared<Execution>,
}

/// A place in the map. Left when dropped.
pub(super) struct Slot {
    flights: Flights,
    key: Key,
    id: u64,
    seen: Moment,
}

impl Slot {
    /// What had arrived when the execution began.
    pub(super) fn seen(&self) -> Moment {
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

    /// The newest execution of `key`, unless arrivals have overtaken it; then the one that `start` makes.
    pub(super) fn join(
        &self,
        key: Key,
        (is_overtaken, now): (impl Fn(Moment) -> bool, Moment),
        start: impl FnOnce(Slot) -> Flight,
    ) -> Flight {
        // Declared before the lock and so dropped after it: the last holder of an execution drops its slot, which locks.
        let mut alive: Vec<(Moment, Flight)> = Vec::new();
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
