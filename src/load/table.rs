//! What the loader asks of the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::block::{Sealed, Suspect, fingerprint};
use super::convoy::{Lane, Passenger};
use super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::home::{self, Homes, Place, Trace};
use super::row;
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, Format, Retry, Statement, retry};
use crate::event::ids::{ProjectId, VisitorKey};

/// Why the table did not do it.
#[derive(Clone, Debug)]
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
    fn take_fence(&self, place: Place) -> impl Future<Output = Result<(u64, Option<i64>), TableError>> + Send;

    /// A memory of the recent past of a partition whose fence was taken, within `bytes`.
    fn recall(&self, place: Place, bytes: usize) -> impl Future<Output = Result<Dedupe, TableError>> + Send;

    /// Which of the suspects of a partition the table has.
    fn find(&self, place: Place, suspects: &[Suspect]) -> impl Future<Output = Result<HashMap<EventKey, Fingerprint>, TableError>> + Send;

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
    homes: Arc<Homes>,
    /// One for each server, shard by shard.
    lanes: Arc<[Vec<Lane>]>,
}

/// How often running inserts of an earlier generation are looked for.
const FENCE_POLL: Duration = Duration::from_millis(20);
/// Ids asked for in one statement: the server takes form fields of up to 128 KiB, and an id takes 39 bytes.
const IDS_PER_STATEMENT: usize = 2_500;
/// Events recalled when a partition is taken: more would make the start slow, fewer make more look-ups.
const RECALLED_EVENTS: u64 = 2_000_000;
/// Of one of them: id, project, visitor, time.
const RECALLED_BYTES: usize = 40;

impl EventTable {
    /// The table `name`, whose fence is `name_fence`, except that the fence of `events` is `fence`.
    pub(super) fn new(store: ClickHouse, partitions: u16, name: &str) -> Self {
        let database = &store.database;
        let events = format!("{database}.{name}");
        let fence = if name == EVENTS { format!("{database}.fence") } else { format!("{events}_fence") };
        let lanes = store.shards.iter().map(|shard| shard.replicas().map(|_| Lane::default()).collect()).collect();
        Self { store, partitions, events, fence, homes: Arc::default(), lanes }
    }

    /// Who inserts into the home of a partition, and reads back from it.
    fn writer(&self, place: Place) -> Result<&Client, TableError> {
        self.writer_of(self.homes.shard(place), place)
    }

    fn writer_of(&self, shard: usize, place: Place) -> Result<&Client, TableError> {
        let shard = self.store.shards.get(shard).ok_or_else(|| TableError::Stop(format!("clickhouse.shards has no shard {shard}")))?;
        Ok(&shard.replica_of(place.partition).writer)
    }

    /// What each shard has of a partition. All must answer, unless one has its rows: then nobody is waited for.
    async fn traces(&self, place: Place) -> Result<Vec<Trace>, TableError> {
        let mut traces = vec![Trace::default(); self.store.shards.len()];
        let mut missing = None;
        let ask = |shard| async move { (shard, self.trace(shard, place).await) };
        let mut asked: FuturesUnordered<_> = (0..traces.len()).map(ask).collect();
        while let Some((shard, answer)) = asked.next().await {
            match (answer, traces.get_mut(shard)) {
                (Ok(trace), Some(known)) => *known = trace,
                (answer, _) => missing = answer.err().or(missing),
            }
            if traces.iter().any(|trace| trace.has_rows) {
                return Ok(traces);
            }
        }
        missing.map_or(Ok(traces), Err)
    }

    async fn trace(&self, shard: usize, place: Place) -> Result<Trace, TableError> {
        let sql = format!(
            "SELECT count() > 0, joinGet('{0}.fence', 'generation', {{partition:UInt16}}) != 0 FROM {0}.events \
             WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}} AND log_partition = {{partition:UInt16}}",
            self.store.database
        );
        let statement = Statement::of(sql).bind("epoch", place.epoch.0).bind("partition", place.partition);
        let rows: Vec<(u8, u8)> = self.writer_of(shard, place)?.rows(&statement).await?;
        Ok(rows.first().map_or_else(Trace::default, |(rows, fence)| Trace { has_rows: *rows != 0, has_fence: *fence != 0 }))
    }

    /// Takes the fence of a partition in one shard and returns the highest raw offset that the shard has.
    async fn take_fence_in(&self, shard: usize, place: Place, generation: u64) -> Result<Option<i64>, TableError> {
        let partition = place.partition;
        let writer = self.writer_of(shard, place)?;
        let replicas = || self.store.shards.get(shard).into_iter().flat_map(|shard| shard.replicas());
        let sql = format!("INSERT INTO {} VALUES ({partition}, {generation})", self.fence);
        // An insert is checked against the fence of the replica where it is made, and another owner may use another one.
        for replica in replicas() {
            replica.writer.execute(&sql).await?;
        }
        for replica in replicas() {
            self.wait_for_others(&replica.writer, place, generation).await?;
        }
        if self.store.fleet.as_ref().is_some_and(|fleet| fleet.replica_path.is_some()) {
            // What other replicas have accepted up to now, this one must have too before it says how far the table is.
            writer.execute(&format!("SYSTEM SYNC REPLICA {} LIGHTWEIGHT", self.events)).await?;
        }
        let sql = format!(
            "SELECT count(), max(log_offset) FROM {} WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}} AND log_partition = {{partition:UInt16}}",
            self.events
        );
        let statement = Statement::of(sql).bind("epoch", place.epoch.0).bind("partition", partition);
        let rows: Vec<(serde_json::Value, serde_json::Value)> = writer.rows(&statement).await?;
        Ok(rows.first().filter(|(count, _)| number(count) != Some(0)).and_then(|(_, offset)| number(offset)))
    }

    /// Waits until no insert of another generation of this partition is running. The fence refuses those that write their
    /// block after it was taken; one that passed its check before must be seen to end.
    async fn wait_for_others(&self, writer: &Client, place: Place, generation: u64) -> Result<(), TableError> {
        let sql = "SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String}) AND position(query_id, {any:String}) > 0 \
                   AND position(query_id, {own:String}) = 0";
        let statement = Statement::of(sql)
            .bind("prefix", format!("{}/", self.query_id_prefix()))
            .bind("any", block_prefix(place))
            .bind("own", block_name(place, generation));
        loop {
            let running: Vec<(serde_json::Value,)> = writer.rows(&statement).await?;
            if running.first().is_none_or(|(count,)| number(count) == Some(0)) {
                return Ok(());
            }
            tokio::time::sleep(FENCE_POLL).await;
        }
    }

    /// Begins the ids of all inserts behind this fence.
    fn query_id_prefix(&self) -> String {
        format!("pulse-load-{}", self.fence)
    }

    /// Inserts blocks as one part, or as one a day of receipt.
    async fn send(&self, writer: &Client, passengers: Vec<Passenger>) -> Result<(), TableError> {
        let names: String = passengers.iter().map(|passenger| block_name(passenger.place, passenger.generation)).collect();
        let query_id = format!("{}{names}{:016x}", self.query_id_prefix(), random());
        let into = format!("{} ({})", self.events, row::column_names());
        Ok(writer.insert(&into, row::encode(&passengers), &query_id).await?)
    }

    /// The earliest receipt time such that the table holds no more than can be recalled since then; `None` if it holds
    /// nothing older at all.
    async fn recall_since(&self, place: Place, limit: u64) -> Result<Option<i64>, TableError> {
        let sql = format!(
            "SELECT toInt64(toUnixTimestamp(toStartOfMinute(received_at))) * 1000 AS minute, count() FROM {} \
             WHERE project_id != 0 GROUP BY minute ORDER BY minute DESC LIMIT 2000",
            self.events
        );
        let minutes: Vec<(serde_json::Value, serde_json::Value)> = self.writer(place)?.rows(&Statement::of(sql)).await?;
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

/// Names a block in the id of the insert that it travels with.
fn block_name(place: Place, generation: u64) -> String {
    format!("{}{generation:016x}/", block_prefix(place))
}

/// Begins the names of all blocks of a partition.
fn block_prefix(place: Place) -> String {
    format!("/{:016x}-{}:", place.epoch.0, place.partition)
}

impl Table for EventTable {
    async fn take_fence(&self, place: Place) -> Result<(u64, Option<i64>), TableError> {
        let generation = random();
        let mut taken: BTreeMap<usize, Option<i64>> = BTreeMap::new();
        let only = if self.store.shards.len() == 1 { Some(0) } else { self.homes.settled(place) };
        loop {
            let claims = match only {
                Some(home) => vec![home],
                None => home::claims(place.partition, &self.traces(place).await?),
            };
            let open: Vec<usize> = claims.into_iter().filter(|shard| !taken.contains_key(shard)).collect();
            if open.is_empty() {
                break;
            }
            for shard in open {
                taken.insert(shard, self.take_fence_in(shard, place, generation).await?);
            }
        }
        let home = taken.iter().find(|(_, highest)| highest.is_some()).or_else(|| taken.iter().next());
        let (shard, highest) = home.map_or((0, None), |(shard, highest)| (*shard, *highest));
        self.homes.set(place, shard, highest.is_some());
        Ok((generation, highest))
    }

    async fn recall(&self, place: Place, bytes: usize) -> Result<Dedupe, TableError> {
        let capacity = (bytes as u64 / 2 * 8 / 12).min(RECALLED_EVENTS);
        // A shard has its share of the partitions.
        let sharing = u64::from(self.partitions).div_ceil(self.store.shards.len().max(1) as u64);
        let since = self.recall_since(place, capacity * sharing).await?;
        let mut dedupe = Dedupe::new(bytes, since.unwrap_or(i64::MIN));
        let sql = format!(
            "SELECT event_id, project_id, visitor_id, toInt64(toUnixTimestamp64Milli(received_at)) FROM {} \
             WHERE project_id != 0 AND received_at >= fromUnixTimestamp64Milli({{since:Int64}}) \
             AND bitShiftRight(bitShiftRight(visitor_id, 32) * {{partitions:UInt64}}, 32) = {{partition:UInt64}}",
            self.events
        );
        let statement =
            Statement::of(sql).bind("since", since.unwrap_or(0)).bind("partitions", self.partitions).bind("partition", place.partition);
        let answer = self.writer(place)?.query(&statement, Format::Fixed(RECALLED_BYTES)).await?;
        for row in answer.body.chunks_exact(RECALLED_BYTES) {
            let (id, rest) = row.split_at(16);
            let (project, rest) = rest.split_at(8);
            let (visitor, received) = rest.split_at(8);
            let event_id = crate::clickhouse::native::uuid_bytes(id.try_into().unwrap_or_default());
            let project = ProjectId(u64::from_le_bytes(project.try_into().unwrap_or_default()));
            let visitor = VisitorKey(u64::from_le_bytes(visitor.try_into().unwrap_or_default()));
            dedupe.recall(EventKey { project, event_id, visitor }, i64::from_le_bytes(received.try_into().unwrap_or_default()));
        }
        Ok(dedupe)
    }

    async fn find(&self, place: Place, suspects: &[Suspect]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        let mut found = HashMap::new();
        for chunk in suspects.chunks(IDS_PER_STATEMENT) {
            let mut projects: Vec<ProjectId> = chunk.iter().map(|suspect| suspect.key.project).collect();
            projects.sort_unstable();
            projects.dedup();
            let sql = format!(
                "SELECT toString(project_id), toString(event_id), toString(visitor_id), type, toString(toUnixTimestamp64Milli(original_timestamp)) \
                 FROM {} WHERE project_id IN {{projects:Array(UInt64)}} AND event_id IN {{ids:Array(UUID)}} \
                 AND visitor_id IN {{visitors:Array(UInt64)}}",
                self.events
            );
            let list = |items: Vec<String>| format!("[{}]", items.join(","));
            let statement = Statement::of(sql)
                .bind("projects", list(projects.iter().map(|project| project.0.to_string()).collect()))
                .bind("ids", list(chunk.iter().map(|suspect| format!("'{}'", uuid::Uuid::from_bytes(suspect.key.event_id))).collect()))
                .bind("visitors", list(chunk.iter().map(|suspect| suspect.key.visitor.0.to_string()).collect()));
            let rows: Vec<(String, uuid::Uuid, String, String, String)> = self.writer(place)?.rows(&statement).await?;
            for (project, id, visitor, event_type, original) in rows {
                let project = ProjectId(project.parse().unwrap_or(0));
                let key = EventKey { project, event_id: id.into_bytes(), visitor: VisitorKey(visitor.parse().unwrap_or(0)) };
                found.insert(key, fingerprint(event_type.as_bytes(), original.parse().unwrap_or(0)));
            }
        }
        Ok(found)
    }

    async fn insert(&self, block: &Sealed, generation: u64) -> Result<(), TableError> {
        let place = block.place();
        let shard = self.homes.shard(place);
        let writer = self.writer_of(shard, place)?;
        let lanes = self.lanes.get(shard).map(Vec::as_slice).unwrap_or_default();
        let Some(lane) = lanes.get(usize::from(place.partition) % lanes.len().max(1)) else {
            return Err(TableError::Stop(format!("clickhouse.shards has no shard {shard}")));
        };
        lane.insert(Passenger { place, generation, rows: Arc::clone(&block.rows) }, |passengers| self.send(writer, passengers)).await?;
        self.homes.settle(place);
        Ok(())
    }

    fn announce(&self, block: &Sealed) {
        self.store.arrivals.note(block.touched.iter().copied());
    }
}

/// A number nobody else draws; never 0, which is what the fence answers for a partition that nobody took.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 | 1
}
