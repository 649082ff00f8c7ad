//! How many rows a question has read so far, for those who wait for its answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of one question. Shared by the one that runs it and those who look at it.
#[derive(Debug, Default)]
pub(crate) struct RowsRead(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Rows that its statements have read which are over.
    by_those_over: u64,
    /// The id of the statement that runs; empty where none does.
    running: String,
    /// Rows that this one has read, as far as the store has said so.
    by_running: u64,
}

impl RowsRead {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next statement begins.
    pub(super) fn begin(&self, id: String) {
        let mut known = self.lock();
        (known.running, known.by_running) = (id, 0);
    }

    /// The statement is over: so many rows have been read by now.
    pub(super) fn end(&self, rows_read: u64) {
        *self.lock() = Known { by_those_over: rows_read, ..Known::default() };
    }

    /// Notes what the store says of the statements that run, by their ids.
    pub(crate) fn note(&self, running: &HashMap<&str, u64>) {
        let mut known = self.lock();
        if let Some(rows) = running.get(&*known.running) {
            known.by_running = *rows;
        }
    }

    /// Rows read so far.
    pub(crate) fn so_far(&self) -> u64 {
        let known = self.lock();
        known.by_those_over + known.by_running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_are_the_statements_that_are_over_and_what_the_store_says_of_the_one_that_runs() {
        let rows = RowsRead::default();
        rows.begin("a".to_owned());
        rows.note(&HashMap::from([("a", 10), ("b", 1_000)]));
        assert_eq!(rows.so_far(), 10);
        rows.note(&HashMap::from([("b", 1_000)]));
        assert_eq!(rows.so_far(), 10, "what was said last stays where the store says nothing more");
        rows.end(25);
        rows.begin("b".to_owned());
        assert_eq!(rows.so_far(), 25);
        rows.note(&HashMap::from([("a", 10), ("b", 5)]));
        assert_eq!(rows.so_far(), 30);
    }
}
