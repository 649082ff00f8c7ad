//! What other processes have loaded, as the arrivals in the table say.
//!
//! Every block that has events of a project carries a row that says of which times they are, and under which offset of the log it stands
//! ([`crate::store::books`]). While questions come, the watcher polls every [`POLL`], for all projects at once: one statement finds
//! which parts of the log went on within the last [`RECENT_WINDOW`], and where some did another one reads what arrived. So an event is
//! missed for at most that long, answers of times of which nothing came are kept, and it is known how much came late. What has been
//! sealed long before it could be read, because the store was away, shows in a wider poll every [`POLL_HISTORY`]; then all of the project
//! counts as changed, by an unknown number. What this process has loaded it notes by itself. Where only this process loads none of this
//! is needed: it knows every block.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::error::QueryError;
use super::reader::{Reader, Row, StatementRunner};
use super::sql::Statement;
use crate::event::ids::ProjectId;
use crate::store::books::{INSTANCE, IS_ARRIVALS, instance};
use crate::store::data_version::{DataVersions, Quarter};

const POLL: Duration = Duration::from_millis(500);
const POLL_HISTORY: Duration = Duration::from_secs(60);
/// A poll that takes longer counts as failed: cached answers must not wait for a slow store.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than any insert that goes well takes, clocks that differ included.
const INSERT_WINDOW: Duration = Duration::from_secs(30);
/// Longer than any lag that is not a backlog.
const RECENT_WINDOW: Duration = Duration::from_secs(600);
/// Longer than a store is away while blocks wait for it.
const HISTORY_WINDOW: Duration = Duration::from_secs(3 * 86_400);

/// A project's part of a log partition: project, epoch and partition, as the store writes them.
type PartitionKey = (ProjectId, u64, u64);

/// Where a block stands: its last offset, and when it was sealed, milliseconds since 1970. What is said of sessions without a new event stands
/// at the offset of the block before.
type Mark = (i64, i64);

/// Watches the arrivals.
pub(super) struct FreshnessWatcher {
    arrivals: Arc<DataVersions>,
    polled: Mutex<Option<Instant>>,
    /// Held during a poll; the others wait for its result.
    known: tokio::sync::Mutex<Known>,
    versions: Mutex<HashMap<ProjectId, u64>>,
}

#[derive(Default)]
struct Known {
    /// The last block of each part.
    marks: HashMap<PartitionKey, Mark>,
    /// When the table was last read, and its history.
    polled_ms: Option<i64>,
    history_polled: Option<Instant>,
    is_certain: bool,
}

impl FreshnessWatcher {
    pub(super) fn new(arrivals: Arc<DataVersions>) -> Self {
        Self { arrivals, polled: Mutex::default(), known: tokio::sync::Mutex::default(), versions: Mutex::default() }
    }

    /// Notes what has arrived, unless the last poll was a moment ago. If that cannot be read everything counts as changed.
    pub(super) async fn poll(&self, reader: &Reader, now_ms: i64) {
        if self.is_known() {
            return;
        }
        let mut known = self.known.lock().await;
        if self.is_known() {
            return;
        }
        let began = Instant::now();
        let was_certain = std::mem::replace(&mut known.is_certain, false);
        match self.read(reader, &mut known, now_ms).await {
            Ok(()) => known.is_certain = true,
            Err(problem) => tracing::debug!(%problem, "arrivals cannot be read"),
        }
        if !was_certain || !known.is_certain {
            self.arrivals.note_everything();
        }
        // A slow poll counts from its end, so that slow polls do not follow each other without a pause.
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = Some(if known.is_certain { began } else { Instant::now() });
    }

    /// The version of a project's recent arrivals, the same in every process that sees the same.
    pub(super) fn version(&self, project: ProjectId) -> u64 {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&project).copied().unwrap_or(0)
    }

    fn is_known(&self) -> bool {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < POLL)
    }

    async fn read(&self, reader: &Reader, known: &mut Known, now_ms: i64) -> Result<(), QueryError> {
        let mut runner = reader.watch(now_ms, POLL_TIMEOUT);
        let mut marks = read_marks(&mut runner, marks_since(now_ms - millis(RECENT_WINDOW))).await?;
        marks.sort_unstable();
        let mut versions: HashMap<ProjectId, u64> = HashMap::new();
        for (partition, mark) in &marks {
            let version = versions.entry(partition.0).or_default();
            *version = xxh3_64(format!("{version} {partition:?} {mark:?}").as_bytes());
        }
        let risen: HashMap<PartitionKey, Mark> = marks.into_iter().filter(|(partition, mark)| known.is_new(*partition, *mark)).collect();
        if let Some(polled_ms) = known.polled_ms.filter(|_| !risen.is_empty()) {
            let since_ms = polled_ms.saturating_sub(millis(INSERT_WINDOW)).max(now_ms.saturating_sub(millis(RECENT_WINDOW)));
            self.note_arrivals(&mut runner, known, &risen, since_ms).await?;
        }
        known.marks.extend(risen);
        if known.history_polled.is_none_or(|at| at.elapsed() >= POLL_HISTORY) {
            for (partition, mark) in read_marks(&mut runner, marks_since(now_ms - millis(HISTORY_WINDOW))).await? {
                if known.is_new(partition, mark) {
                    self.arrivals.note_all(partition.0);
                    known.marks.insert(partition, mark);
                }
            }
            known.history_polled = Some(Instant::now());
        }
        known.polled_ms = Some(now_ms);
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
        Ok(())
    }

    /// Notes what stands behind the known blocks of the parts that went on, as far as it was sealed at `since_ms` or later.
    async fn note_arrivals(
        &self,
        runner: &mut StatementRunner<'_>,
        known: &Known,
        risen: &HashMap<PartitionKey, Mark>,
        since_ms: i64,
    ) -> Result<(), QueryError> {
        let mut reached: HashMap<PartitionKey, Mark> = HashMap::new();
        let mut arrived: Vec<((ProjectId, Quarter), u64)> = Vec::new();
        for row in runner.rows(arrivals_since(since_ms)).await? {
            let block = Block::of(&row);
            if risen.contains_key(&block.partition) && known.is_new(block.partition, block.mark) {
                let highest = reached.entry(block.partition).or_insert(block.mark);
                *highest = block.mark.max(*highest);
                if block.instance != Some(instance()) {
                    arrived.extend(block.quarters(&row));
                }
            }
        }
        self.arrivals.note(arrived);
        for (partition, mark) in risen {
            if reached.get(partition) != Some(mark) {
                self.arrivals.note_all(partition.0);
            }
        }
        Ok(())
    }
}

impl Known {
    fn is_new(&self, partition: PartitionKey, mark: Mark) -> bool {
        self.marks.get(&partition).is_none_or(|known| mark > *known)
    }
}

/// What a row of arrivals says of its block.
struct Block {
    partition: PartitionKey,
    mark: Mark,
    /// Who has loaded it.
    instance: Option<Uuid>,
}

impl Block {
    fn of(row: &Row) -> Self {
        let [project, epoch, partition, offset, sealed, instance] = row.columns();
        let partition = (ProjectId(project.uint()), epoch.uint(), partition.uint());
        Self { partition, mark: (offset.int(), sealed.int()), instance: instance.text().parse().ok() }
    }

    fn quarters(&self, row: &Row) -> impl Iterator<Item = ((ProjectId, Quarter), u64)> {
        let [quarters, events] = [6, 7].map(|column| row.cell(column).items());
        let quarters = quarters.zip(events).filter_map(|(quarter, events)| Some((quarter.text().parse().ok()?, events.float()? as u64)));
        quarters.map(|(quarter, events)| ((self.partition.0, quarter), events))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

async fn read_marks(runner: &mut StatementRunner<'_>, statement: Statement) -> Result<Vec<(PartitionKey, Mark)>, QueryError> {
    let marks = runner.rows(statement).await?;
    Ok(marks.iter().map(Block::of).map(|block| (block.partition, block.mark)).collect())
}

/// The last block of each part, of those sealed at `since_ms` or later.
fn marks_since(since_ms: i64) -> Statement {
    let last = "max((log_offset, toUnixTimestamp64Milli(timestamp))) AS last";
    let to = Statement::default().sql("SELECT visitor_id, log_epoch, log_partition, last.1, last.2 FROM (SELECT visitor_id, log_epoch, ");
    let to = to.sql("log_partition, ").sql(last).sql(" FROM events");
    sealed_since(to, since_ms).sql(" GROUP BY visitor_id, log_epoch, log_partition)")
}

/// What arrived, block by block.
fn arrivals_since(since_ms: i64) -> Statement {
    let to = Statement::default().sql("SELECT visitor_id, log_epoch, log_partition, log_offset, toUnixTimestamp64Milli(timestamp), ");
    sealed_since(to.sql(INSTANCE).sql(", mapKeys(numbers), mapValues(numbers) FROM events"), since_ms)
}

fn sealed_since(to: Statement, since_ms: i64) -> Statement {
    to.sql(" WHERE ").sql(IS_ARRIVALS).sql(" AND timestamp >= fromUnixTimestamp64Milli(").int(since_ms).sql(")")
}

#[cfg(test)]
mod tests;
