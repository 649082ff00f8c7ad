//! What other processes have loaded, as the books in the table say.
//!
//! Every block carries its books, so the highest offset in the books of a project rises whenever any of its events was stored.
//! While questions come, the watcher polls every [`POLL`], by one statement that reads the books of the last [`RECENT_WINDOW`] only,
//! for all projects at once: an event is missed for at most that long. The books do not name the days of the events. So for ranges
//! that end before today, for imports, and for events received long before they were loaded, a wider poll every [`POLL_HISTORY`]
//! marks all days of a project as changed if it had any event. Where only this process loads none of this is needed: it knows every
//! block.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::error::QueryError;
use super::reader::{Reader, StatementRunner};
use super::sql::Statement;
use crate::event::ids::ProjectId;
use crate::store::data_version::DataVersions;

const POLL: Duration = Duration::from_millis(500);
const POLL_HISTORY: Duration = Duration::from_secs(60);
/// A poll that takes longer counts as failed: cached answers must not wait for a slow store.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than any lag that is not a backlog.
const RECENT_WINDOW: Duration = Duration::from_secs(600);
/// Longer than the log keeps what is not loaded.
const HISTORY_WINDOW: Duration = Duration::from_secs(3 * 86_400);

/// A project's part of a log partition: project, epoch and partition, as the store writes them.
type PartitionKey = (ProjectId, u64, u64);

/// Watches the books.
pub(super) struct FreshnessWatcher {
    arrivals: Arc<DataVersions>,
    polled: Mutex<Option<Instant>>,
    /// Held during a poll; the others wait for its result.
    known: tokio::sync::Mutex<Watermarks>,
    versions: Mutex<HashMap<ProjectId, u64>>,
}

#[derive(Default)]
struct Watermarks {
    recent: HashMap<PartitionKey, i64>,
    history: HashMap<PartitionKey, i64>,
    history_polled: Option<Instant>,
    is_certain: bool,
}

impl FreshnessWatcher {
    pub(super) fn new(arrivals: Arc<DataVersions>) -> Self {
        Self { arrivals, polled: Mutex::default(), known: tokio::sync::Mutex::default(), versions: Mutex::default() }
    }

    /// Notes what has arrived, unless the last poll was a moment ago. If the books cannot be read everything counts as changed.
    pub(super) async fn poll(&self, reader: &Reader, now_ms: i64) {
        if self.is_known() {
            return;
        }
        let mut known = self.known.lock().await;
        if self.is_known() {
            return;
        }
        let began = Instant::now();
        let is_first = !std::mem::replace(&mut known.is_certain, false);
        let with_history = known.history_polled.is_none_or(|at| began - at >= POLL_HISTORY);
        match self.read(reader, &mut known, with_history, now_ms).await {
            Ok(()) => {
                known.is_certain = true;
                if with_history {
                    known.history_polled = Some(began);
                }
            }
            Err(problem) => tracing::debug!(%problem, "the books cannot be read"),
        }
        if is_first || !known.is_certain {
            self.arrivals.note_everything();
        }
        // A slow poll counts from its end, so that slow polls do not follow each other without a pause.
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = Some(if known.is_certain { began } else { Instant::now() });
    }

    /// The version of a project's recent books, the same in every process that sees the same books.
    pub(super) fn version(&self, project: ProjectId) -> u64 {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&project).copied().unwrap_or(0)
    }

    fn is_known(&self) -> bool {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < POLL)
    }

    async fn read(&self, reader: &Reader, known: &mut Watermarks, with_history: bool, now_ms: i64) -> Result<(), QueryError> {
        let mut runner = reader.watch(now_ms, POLL_TIMEOUT);
        if with_history {
            for (partition, offset) in read(&mut runner, watermarks(now_ms, HISTORY_WINDOW)).await? {
                if rises(&mut known.history, partition, offset) {
                    self.arrivals.note_all(partition.0);
                }
            }
        }
        let today = DataVersions::day(now_ms);
        let mut rows = read(&mut runner, live_only(watermarks(now_ms, RECENT_WINDOW), now_ms)).await?;
        rows.sort_unstable();
        let mut versions: HashMap<ProjectId, u64> = HashMap::new();
        for (partition, offset) in rows {
            let version = versions.entry(partition.0).or_default();
            *version = xxh3_64(format!("{version} {partition:?} {offset}").as_bytes());
            if rises(&mut known.recent, partition, offset) {
                self.arrivals.note_days([(partition.0, today)]);
            }
        }
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
        Ok(())
    }
}

/// Remembers the offset; whether it is higher than what was known.
fn rises(known: &mut HashMap<PartitionKey, i64>, partition: PartitionKey, offset: i64) -> bool {
    let highest = known.entry(partition).or_insert(i64::MIN);
    let is_higher = offset > *highest;
    *highest = offset.max(*highest);
    is_higher
}

async fn read(runner: &mut StatementRunner<'_>, statement: Statement) -> Result<Vec<(PartitionKey, i64)>, QueryError> {
    let statement = statement.sql(" GROUP BY visitor_id, log_epoch, log_partition");
    let rows = runner.rows(statement).await?;
    let watermarks = rows.iter().map(|row| {
        let [project, epoch, partition, offset] = row.columns();
        ((ProjectId(project.uint()), epoch.uint(), partition.uint()), offset.int())
    });
    Ok(watermarks.collect())
}

/// The highest offsets in the books of what was received no longer ago than `back`.
fn watermarks(now_ms: i64, back: Duration) -> Statement {
    let since_ms = now_ms - i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
    Statement::default()
        .sql("SELECT visitor_id, log_epoch, log_partition, max(log_offset) FROM events WHERE project_id = 0 AND type = '$books'")
        .sql(" AND toDate(timestamp) >= toDate(")
        .uint(u64::from(DataVersions::day(since_ms)))
        .sql(")")
}

/// Only live events, only recent ones: what the table is sorted by, so few rows are read.
fn live_only(to: Statement, now_ms: i64) -> Statement {
    let since_ms = now_ms - i64::try_from(RECENT_WINDOW.as_millis()).unwrap_or(i64::MAX);
    to.sql(" AND person_id = 0 AND timestamp >= fromUnixTimestamp64Milli(").int(since_ms).sql(")")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::query::reader::{Answer, QueryLimits, Run};
    use crate::store::data_version::{Day, Version};

    const PROJECT: ProjectId = ProjectId(7);
    const NOW_MS: i64 = 1_767_355_200_000;

    /// Books whose highest offset is set by hand.
    #[derive(Default)]
    struct Books {
        asked: AtomicU32,
        recent: AtomicU32,
        back: AtomicU32,
        is_away: std::sync::atomic::AtomicBool,
    }

    impl Run for Books {
        async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.is_away.load(Ordering::SeqCst) {
                return Err(QueryError::unavailable("store_unavailable", "away"));
            }
            let is_recent = statement.text().contains("person_id = 0");
            let offset = if is_recent { &self.recent } else { &self.back }.load(Ordering::SeqCst);
            Ok(Answer { body: Bytes::from(format!("[\"7\",\"1\",0,{offset}]\n")), read_rows: 1 })
        }
    }

    struct Watch {
        freshness: FreshnessWatcher,
        books: Arc<Books>,
        reader: Reader,
        arrivals: Arc<DataVersions>,
    }

    impl Watch {
        async fn begin() -> Self {
            let arrivals = Arc::<DataVersions>::default();
            let books = Arc::<Books>::default();
            let reader = Reader::new(Arc::clone(&books), QueryLimits::default());
            let watch = Self { freshness: FreshnessWatcher::new(Arc::clone(&arrivals)), books, reader, arrivals };
            watch.poll().await;
            watch
        }

        async fn poll(&self) {
            self.freshness.poll(&self.reader, NOW_MS).await;
        }

        fn has_news(&self, days: std::ops::RangeInclusive<Day>, seen: Version) -> bool {
            let quarters = DataVersions::quarter(i64::from(*days.start()) * 86_400_000)
                ..=DataVersions::quarter((i64::from(*days.end()) + 1) * 86_400_000 - 1);
            self.arrivals.any_since(PROJECT, &[quarters], seen)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_often_makes_the_books_be_read_twice_a_second() {
        let watch = Watch::begin().await;
        let first = watch.books.asked.load(Ordering::SeqCst);
        for _ in 0..1_000 {
            watch.poll().await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(watch.books.asked.load(Ordering::SeqCst) - first, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_loaded_overtakes_today_at_once_and_earlier_days_within_a_minute() {
        let watch = Watch::begin().await;
        let (seen, today) = (watch.arrivals.now(), DataVersions::day(NOW_MS));
        let version = watch.freshness.version(PROJECT);
        tokio::time::advance(POLL).await;
        watch.poll().await;
        assert!(!watch.has_news(0..=Day::MAX, seen), "nothing came");

        watch.books.recent.store(5, Ordering::SeqCst);
        watch.books.back.store(5, Ordering::SeqCst);
        tokio::time::advance(POLL).await;
        watch.poll().await;
        assert!(watch.has_news(today..=Day::MAX, seen));
        assert!(!watch.has_news(0..=today - 1, seen));
        assert_ne!(watch.freshness.version(PROJECT), version);

        tokio::time::advance(POLL_HISTORY).await;
        watch.poll().await;
        assert!(watch.has_news(0..=today - 1, seen));
    }

    #[tokio::test(start_paused = true)]
    async fn books_that_cannot_be_read_overtake_everything() {
        let watch = Watch::begin().await;
        let seen = watch.arrivals.now();
        watch.books.is_away.store(true, Ordering::SeqCst);
        tokio::time::advance(POLL).await;
        watch.poll().await;
        assert!(watch.has_news(0..=0, seen));
    }
}
