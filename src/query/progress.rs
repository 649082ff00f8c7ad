//! How far the questions are that are being answered: how many rows they have read, for those who wait.
//!
//! What runs in the store it is asked for all questions of this process at once, and no more often than each [`POLL`], however many wait.
//! Promises: looking takes no permit and delays no answer. May go wrong: the store does not say, or the address of the store stands for
//! several servers and another one is asked than the one that runs the statement. Then only statements that are over count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::Key;
use super::reader::{Reader, RowsRead};

/// The store is asked no more often than this, and for no longer than that.
const POLL: Duration = Duration::from_millis(500);
const WITHIN: Duration = Duration::from_secs(1);

/// The questions that are being answered.
#[derive(Default)]
pub(super) struct Progress {
    /// The newest execution of each.
    running: Mutex<HashMap<Key, Arc<RowsRead>>>,
    /// When the store was asked last. Held during a poll; the others wait for its result.
    polled: tokio::sync::Mutex<Option<Instant>>,
}

/// By this a question is found that somebody waits for, once it is known which one it is.
#[derive(Debug, Default)]
pub(super) struct Watch(OnceLock<Key>);

impl Watch {
    /// It is this one.
    pub(super) fn set(&self, key: Key) {
        // It is one question, and stays it.
        let _ = self.0.set(key);
    }
}

/// An execution among those that run; it is none of them any more once it is dropped.
pub(super) struct Running<'p> {
    progress: &'p Progress,
    key: Key,
    rows: Arc<RowsRead>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.progress.lock();
        if running.get(&self.key).is_some_and(|rows| Arc::ptr_eq(rows, &self.rows)) {
            running.remove(&self.key);
        }
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<RowsRead>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An execution of the question begins, which counts its `rows`.
    pub(super) fn begin(&self, key: Key, rows: Arc<RowsRead>) -> Running<'_> {
        self.lock().insert(key, Arc::clone(&rows));
        Running { progress: self, key, rows }
    }

    /// Asks the store what its statements have read, unless that is known.
    pub(super) async fn poll(&self, reader: &Reader) {
        let mut polled = self.polled.lock().await;
        if polled.is_some_and(|polled| polled.elapsed() < POLL) || self.lock().is_empty() {
            return;
        }
        // Before it answers: who is answered meanwhile leaves.
        *polled = Some(Instant::now());
        match reader.running(WITHIN).await {
            Ok(running) => {
                let rows = running.iter().map(|statement| (&*statement.id, statement.rows_read)).collect();
                self.lock().values().for_each(|question| question.note(&rows));
            }
            Err(problem) => tracing::debug!(%problem, "not known how far questions are"),
        }
    }

    /// The rows that a question has read so far; none of one that is not being answered, or of which nothing is known yet.
    pub(super) fn rows_read(&self, watch: &Watch) -> Option<u64> {
        let rows = Arc::clone(self.lock().get(watch.0.get()?)?);
        Some(rows.so_far()).filter(|rows| *rows > 0)
    }
}
