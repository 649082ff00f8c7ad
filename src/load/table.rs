//! What the loader asks of the table.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::block::{Sealed, Suspect, fingerprint};
use super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::row::{self, Rows};
use crate::clickhouse::{ClickHouse, ClickHouseError, Retry, Statement, retry};
use crate::event::ids::{LogEpoch, ProjectId, VisitorKey};

/// Why the table did not do it.
#[derive(Debug)]
pub(super) enum TableError {
    /// Time decides.
    Later(String),
    /// Another owner has the partition.
    Fenced,
    /// A person decides.
    Stop(String),
}

impl From<ClickHouseError> for TableError {
    fn from(error: ClickHouseError) -> Self {
        match retry(&error) {
            Retry::Fenced => Self::Fenced,
            Retry::Later => Self::Later(error.to_string()),
            Retry::Stop => Self::Stop(error.to_string()),
        }
    }
}

/// The table of events as the loader sees it.
pub(super) trait Table: Clone + Send + Sync + 'static {
    /// Takes a partition: afterwards no insert of an earlier generation can succeed. Returns the new generation and the
    /// highest raw offset that the table has.
    fn take_fence(&self, epoch: LogEpoch, partition: u16) -> impl Future<Output = Result<(u64, Option<i64>), TableError>> + Send;

    /// A memory of the recent past of a partition, within `bytes`.
    fn recall(&self, partition: u16, bytes: usize) -> impl Future<Output = Result<Dedupe, TableError>> + Send;

    /// Which of the suspects the table has.
    fn find(&self, suspects: &[Suspect]) -> impl Future<Output = Result<HashMap<EventKey, Fingerprint>, TableError>> + Send;

    /// Inserts a block, whole or not at all.
    fn insert(&self, block: &Sealed, generation: u64) -> impl Future<Output = Result<(), TableError>> + Send;

    /// Tells those who keep answers that the block can be read.
    fn announce(&self, block: &Sealed);
}

/// The table that reports read.
pub(super) const EVENTS: &str = "events";

/// The table in ClickHouse.
#[derive(Clone)]
pub(super) struct EventTable {
    store: ClickHouse,
    partitions: u16,
    /// The table, and the fence in front of it, with the database.
    events: String,
    fence: String,
}

/// How often running inserts of an earlier generation are looked for.
const FENCE_POLL: Duration = Duration::from_millis(20);
/// Ids asked for in one statement: the server takes form fields of up to 128 KiB, and an id takes 39 bytes.
const IDS_PER_STATEMENT: usize = 2_500;
/// Events recalled when a partition is taken: more would make the start slow, fewer make more look-ups.
const RECALLED_EVENTS: u64 = 2_000_000;

impl EventTable {
    /// The table `name`, whose fence is `name_fence`, except that the fence of `events` is `fence`.
    pub(super) fn new(store: ClickHouse, partitions: u16, name: &str) -> Self {
        let database = &store.database;
        let events = format!("{database}.{name}");
        let fence = if name == EVENTS { format!("{database}.fence") } else { format!("{events}_fence") };
        Self { store, partitions, events, fence }
    }

    /// Waits until no insert of another generation of this partition is running. The fence refuses those that write their
    /// block after it was taken; one that passed its check before must be seen to end.
    async fn wait_for_others(&self, prefix: &str, own: &str) -> Result<(), TableError> {
        let sql =
            "SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String}) AND NOT startsWith(query_id, {own:String})";
        let statement = Statement::of(sql).bind("prefix", prefix).bind("own", own);
        loop {
            let running: Vec<(serde_json::Value,)> = self.store.writer.rows(&statement).await?;
            if running.first().is_none_or(|(count,)| number(count) == Some(0)) {
                return Ok(());
            }
            tokio::time::sleep(FENCE_POLL).await;
        }
    }

    /// The earliest receipt time such that the table holds no more than can be recalled since then; `None` if it holds
    /// nothing older at all.
    async fn recall_since(&self, limit: u64) -> Result<Option<i64>, TableError> {
        let sql = format!(
            "SELECT toInt64(toUnixTimestamp(toStartOfMinute(received_at))) * 1000 AS minute, count() FROM {} \
             WHERE project_id != 0 GROUP BY minute ORDER BY minute DESC LIMIT 2000",
            self.events
        );
        let minutes: Vec<(serde_json::Value, serde_json::Value)> = self.store.writer.rows(&Statement::of(sql)).await?;
        let mut events = 0;
        let mut since = None;
        for (minute, count) in &minutes {
            events += number(count).unwrap_or(0) as u64;
            if events > limit {
                return Ok(Some(since.unwrap_or(i64::MAX)));
            }
            since = number(minute);
        }
        Ok(if minutes.len() < 2000 { None } else { since })
    }
}

/// A number as ClickHouse writes it in JSON: 64-bit ones may be quoted.
fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Begins the ids of all inserts behind one fence.
fn query_id_prefix(fence: &str, epoch: LogEpoch, partition: u16) -> String {
    format!("pulse-load-{fence}-{:016x}-{partition}-", epoch.0)
}

impl Table for EventTable {
    async fn take_fence(&self, epoch: LogEpoch, partition: u16) -> Result<(u64, Option<i64>), TableError> {
        let generation = random();
        let sql = format!("INSERT INTO {} VALUES ({partition}, {generation})", self.fence);
        self.store.writer.execute(&sql).await?;
        let prefix = query_id_prefix(&self.fence, epoch, partition);
        self.wait_for_others(&prefix, &format!("{prefix}{generation:016x}")).await?;
        let sql = format!(
            "SELECT count(), max(log_offset) FROM {} WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}} AND log_partition = {{partition:UInt16}}",
            self.events
        );
        let statement = Statement::of(sql).bind("epoch", epoch.0).bind("partition", partition);
        let rows: Vec<(serde_json::Value, serde_json::Value)> = self.store.writer.rows(&statement).await?;
        let highest = rows.first().filter(|(count, _)| number(count) != Some(0)).and_then(|(_, offset)| number(offset));
        Ok((generation, highest))
    }

    async fn recall(&self, partition: u16, bytes: usize) -> Result<Dedupe, TableError> {
        let capacity = (bytes as u64 / 2 * 8 / 12).min(RECALLED_EVENTS);
        let since = self.recall_since(capacity * u64::from(self.partitions)).await?;
        let mut dedupe = Dedupe::new(bytes, since.unwrap_or(i64::MIN));
        let sql = format!(
            "SELECT event_id, visitor_id, toInt64(toUnixTimestamp64Milli(received_at)) FROM {} \
             WHERE project_id != 0 AND received_at >= fromUnixTimestamp64Milli({{since:Int64}}) \
             AND bitShiftRight(bitShiftRight(visitor_id, 32) * {{partitions:UInt64}}, 32) = {{partition:UInt64}}",
            self.events
        );
        let statement =
            Statement::of(sql).bind("since", since.unwrap_or(0)).bind("partitions", self.partitions).bind("partition", partition);
        let answer = self.store.writer.query(&statement, "RowBinary").await?;
        for row in answer.body.chunks_exact(32) {
            let (id, rest) = row.split_at(16);
            let (visitor, received) = rest.split_at(8);
            let event_id = crate::clickhouse::native::uuid_bytes(id.try_into().unwrap_or_default());
            let visitor = VisitorKey(u64::from_le_bytes(visitor.try_into().unwrap_or_default()));
            dedupe.recall(EventKey { event_id, visitor }, i64::from_le_bytes(received.try_into().unwrap_or_default()));
        }
        Ok(dedupe)
    }

    async fn find(&self, suspects: &[Suspect]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        let mut found = HashMap::new();
        for chunk in suspects.chunks(IDS_PER_STATEMENT) {
            let mut projects: Vec<ProjectId> = chunk.iter().map(|suspect| suspect.project).collect();
            projects.sort_unstable();
            projects.dedup();
            let sql = format!(
                "SELECT toString(event_id), toString(visitor_id), type, toString(toUnixTimestamp64Milli(original_timestamp)) \
                 FROM {} WHERE project_id IN {{projects:Array(UInt64)}} AND event_id IN {{ids:Array(UUID)}} \
                 AND visitor_id IN {{visitors:Array(UInt64)}}",
                self.events
            );
            let list = |items: Vec<String>| format!("[{}]", items.join(","));
            let statement = Statement::of(sql)
                .bind("projects", list(projects.iter().map(|project| project.0.to_string()).collect()))
                .bind("ids", list(chunk.iter().map(|suspect| format!("'{}'", uuid::Uuid::from_bytes(suspect.key.event_id))).collect()))
                .bind("visitors", list(chunk.iter().map(|suspect| suspect.key.visitor.0.to_string()).collect()));
            let rows: Vec<(uuid::Uuid, String, String, String)> = self.store.writer.rows(&statement).await?;
            for (id, visitor, event_type, original) in rows {
                let key = EventKey { event_id: id.into_bytes(), visitor: VisitorKey(visitor.parse().unwrap_or(0)) };
                found.insert(key, fingerprint(event_type.as_bytes(), original.parse().unwrap_or(0)));
            }
        }
        Ok(found)
    }

    async fn insert(&self, block: &Sealed, generation: u64) -> Result<(), TableError> {
        let query_id = format!("{}{generation:016x}-{}", query_id_prefix(&self.fence, block.epoch, block.partition), random());
        let fence = Rows::fence_column(generation, block.rows);
        Ok(self
            .store
            .writer
            .insert(&format!("{} ({})", self.events, row::column_names()), &[block.columns.clone(), Bytes::from(fence)], &query_id)
            .await?)
    }

    fn announce(&self, block: &Sealed) {
        self.store.arrivals.note(block.touched.iter().copied());
    }
}

/// A number nobody else draws; never 0, which is what the fence answers for a partition that nobody took.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 | 1
}
