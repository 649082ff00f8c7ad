//! `meta.data_through`: up to when an answer is complete.
//!
//! **The promise**: every event that was acknowledged before `data_through` is in the answer.
//!
//! **How it is known.** Before the statements of an answer run, the table's watermarks (the highest raw offset of each log partition,
//! from the books that travel with every block) are read, and then the log is asked for the first record above each. What is at or
//! below a watermark is in the table, so every later statement sees it. What is above was appended after that first record, so it
//! was acknowledged after that record was received: the oldest receipt among the first records, over all partitions, is what can be
//! promised. Only where no partition has any record above its watermark is it the clock, read before the log was asked.
//! It needs nothing from the loaders, so it holds on instances that only query, too; their clocks are assumed to agree.
//!
//! **What it costs.** A poll is shared by all questions of [`POLL`]; an older promise stays true. All places are read once, by a
//! projection, then only the books of the last [`RECENT_WINDOW`], which the sort order of the table makes cheap, and every
//! [`POLL_HISTORY`] those of [`HISTORY_WINDOW`], for events received long before they were loaded. A loader further behind than that
//! makes the promise an older one than could be given.
//!
//! May go wrong: the log or the books cannot be read in time: then the last promise is repeated, and there is none before the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::QueryError;
use super::pending::{PendingEvents, Watermark};
use super::reader::{PLACES, Reader};
use super::sql::Statement;
use crate::event::ids::LogEpoch;
use crate::store::books::IS_BOOKS;
use crate::store::places::Places;

const POLL: Duration = Duration::from_millis(500);
/// An answer does not wait for longer to know how complete it is.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than any lag that is not a backlog.
const RECENT_WINDOW: Duration = Duration::from_secs(600);
const POLL_HISTORY: Duration = Duration::from_secs(60);
/// As long as the log keeps what is not loaded, by default.
const HISTORY_WINDOW: Duration = Duration::from_secs(3 * 86_400);

/// Knows up to when answers are complete.
pub(super) struct DataThrough {
    pending: Option<Arc<dyn PendingEvents>>,
    promise: Mutex<Promise>,
    /// Held during a poll; the others wait for its result.
    stored: tokio::sync::Mutex<Stored>,
}

/// The last promise, and when it was made.
#[derive(Clone, Debug, Default)]
struct Promise {
    polled: Option<Instant>,
    through: Through,
}

/// What is known of the statements that run from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct Through {
    /// Up to when they see all events, milliseconds since 1970.
    pub(super) at_ms: Option<i64>,
    /// Up to which places of the log they see all events; `None` while not all of them are known.
    pub(super) places: Option<Arc<Places>>,
}

/// What a question sees of the events.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Up to when all of them, milliseconds since 1970; `None` while that is not known.
    pub(super) data_through_ms: Option<i64>,
    /// By what name other questions see the same.
    pub(super) as_of: Option<String>,
}

/// The watermarks, which only rise.
#[derive(Debug, Default)]
struct Stored {
    highest: HashMap<(LogEpoch, u16), i64>,
    /// When all places were asked for last; again every [`POLL_HISTORY`] until they were read.
    asked_for_all: Option<Instant>,
    has_all: bool,
    history_polled: Option<Instant>,
}

impl DataThrough {
    pub(super) fn new(pending: Option<Arc<dyn PendingEvents>>) -> Self {
        Self { pending, promise: Mutex::default(), stored: tokio::sync::Mutex::default() }
    }

    /// What can be promised of statements that run from here on, for a question asked at `now_ms`.
    pub(super) async fn at(&self, reader: &Reader, now_ms: i64) -> Option<i64> {
        self.through(reader, now_ms).await.at_ms
    }

    /// The same, with the places of the log.
    pub(super) async fn through(&self, reader: &Reader, now_ms: i64) -> Through {
        let Some(pending) = &self.pending else { return Through { at_ms: Some(now_ms), places: None } };
        if let Some(promise) = self.fresh() {
            return promise.through;
        }
        let mut stored = self.stored.lock().await;
        if let Some(promise) = self.fresh() {
            return promise.through;
        }
        let polling = async {
            stored.read(reader, now_ms).await.map_err(|problem| problem.to_string())?;
            pending.oldest(&stored.watermarks()).await.map_err(|problem| problem.to_string())
        };
        let polled = tokio::time::timeout(POLL_TIMEOUT, polling).await.unwrap_or_else(|_| Err("it takes too long".to_owned()));
        let mut promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner);
        promise.polled = Some(Instant::now());
        match polled {
            Ok(oldest) => {
                promise.through = Through { at_ms: Some(oldest.map_or(now_ms, |oldest| oldest.min(now_ms))), places: stored.places() };
            }
            Err(problem) => tracing::debug!(%problem, "not known up to when answers are complete"),
        }
        promise.through.clone()
    }

    fn fresh(&self) -> Option<Promise> {
        let promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner);
        promise.polled.is_some_and(|polled| polled.elapsed() < POLL).then(|| promise.clone())
    }
}

impl Stored {
    async fn read(&mut self, reader: &Reader, now_ms: i64) -> Result<(), QueryError> {
        let began = Instant::now();
        let is_due = !self.has_all && self.asked_for_all.is_none_or(|asked| began - asked >= POLL_HISTORY);
        let back = if is_due {
            self.asked_for_all = Some(began);
            None
        } else {
            let is_history_due = self.history_polled.is_none_or(|polled| began - polled >= POLL_HISTORY);
            Some(if is_history_due { HISTORY_WINDOW } else { RECENT_WINDOW })
        };
        for row in reader.watch(now_ms, POLL_TIMEOUT).rows(books(now_ms, back)).await? {
            let [epoch, partition, offset] = row.columns();
            let Ok(partition) = u16::try_from(partition.uint()) else { continue };
            let highest = self.highest.entry((LogEpoch(epoch.uint()), partition)).or_insert(i64::MIN);
            *highest = offset.int().max(*highest);
        }
        if back != Some(RECENT_WINDOW) {
            self.history_polled = Some(began);
        }
        self.has_all |= back.is_none();
        Ok(())
    }

    fn places(&self) -> Option<Arc<Places>> {
        let places = || self.highest.iter().map(|((epoch, partition), offset)| (*epoch, *partition, *offset)).collect();
        self.has_all.then(|| Arc::new(places()))
    }

    fn watermarks(&self) -> Vec<Watermark> {
        self.highest
            .iter()
            .map(|((epoch, partition), offset)| Watermark { epoch: *epoch, partition: *partition, offset: *offset })
            .collect()
    }
}

/// The highest offsets in the books of what was received no longer ago than `back`; of all rows ever, among which the books are.
fn books(now_ms: i64, back: Option<Duration>) -> Statement {
    let Some(back) = back else { return Statement::default().sql(PLACES) };
    let since_ms = now_ms - i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
    let to = Statement::default().sql("SELECT log_epoch, log_partition, max(log_offset) FROM events WHERE ").sql(IS_BOOKS);
    to.sql(" AND timestamp >= fromUnixTimestamp64Milli(").int(since_ms).sql(") GROUP BY log_epoch, log_partition")
}

#[cfg(test)]
mod tests;
