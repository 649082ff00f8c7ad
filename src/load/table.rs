//! What the loader asks of the table.
//!
//! Promise: nothing of it costs more because the table is large. What is asked of all days is answered by a projection of it.

mod past;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::block::{Sealed, Suspect};
use super::convoy::{Lane, Passenger};
use super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::home::{self, Homes, PartitionKey, Trace};
use super::row;
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, Retry, Statement, retry};
use crate::event::ids::LogEpoch;
use past::Past;

/// Why the table did not do it.
#[derive(Clone, Debug)]
pub(super) enum TableError {
    /// Time decides.
    Later(String),
    /// Time decides, and it is certain that nothing of the block will be stored any more.
    Refused(String),
    /// Another owner has the partition.
    Fenced,
    /// A person decides.
    Stop(String),
}

impl TableError {
    /// Whether the insert has ended for certain, without anything stored by it later.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<ClickHouseError> for TableError {
    fn from(error: ClickHouseError) -> Self {
        match retry(&error) {
            Retry::Fenced => Self::Fenced,
            Retry::Later if is_over(&error) => Self::Refused(error.to_string()),
            Retry::Later => Self::Later(error.to_string()),
            Retry::Stop => Self::Stop(error.to_string()),
        }
    }
}

/// Whether a server has ended the insert before it stored anything, and will not come back to it. Of other answers that is not known:
/// something between may have asked twice, or the server may have failed after it had stored.
fn is_over(error: &ClickHouseError) -> bool {
    // TOO_MANY_PARTS, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE, TABLE_IS_READ_ONLY, TOO_MANY_SIMULTANEOUS_QUERIES.
    matches!(error, ClickHouseError::LeftAlone(_) | ClickHouseError::Server { code: 252 | 241 | 243 | 242 | 202, .. })
}

/// The table of events as the loader sees it.
pub(super) trait Table: Clone + Send + Sync + 'static {
    /// Takes a partition: afterwards no insert of an earlier generation can succeed. Returns the new generation and the
    /// highest raw offset that the table has.
    fn take_fence(&self, place: PartitionKey) -> impl Future<Output = Result<(u64, Option<i64>), TableError>> + Send;

    /// The highest raw offset that the table has of a partition whose fence was taken, by the one who has it now.
    fn highest(&self, place: PartitionKey) -> impl Future<Output = Result<Option<i64>, TableError>> + Send;

    /// A memory of the recent past of a partition whose fence was taken, within `bytes`.
    fn recall(&self, place: PartitionKey, bytes: usize) -> impl Future<Output = Result<Dedupe, TableError>> + Send;

    /// Which of the suspects of a partition the table has.
    fn find(
        &self,
        place: PartitionKey,
        suspects: &[Suspect],
    ) -> impl Future<Output = Result<HashMap<EventKey, Fingerprint>, TableError>> + Send;

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

/// What a server has of a partition of a log.
struct Held {
    place: PartitionKey,
    /// The highest raw offset.
    highest: i64,
    /// The latest receipt.
    newest_ms: i64,
}

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
    fn writer(&self, place: PartitionKey) -> Result<&Client, TableError> {
        self.writer_of(self.homes.shard(place), place)
    }

    fn writer_of(&self, shard: usize, place: PartitionKey) -> Result<&Client, TableError> {
        let shard = self.store.shards.get(shard).ok_or_else(|| TableError::Stop(format!("clickhouse.shards has no shard {shard}")))?;
        Ok(&shard.replica_of(place.partition).writer)
    }

    /// What each shard has of a partition. All must answer, unless one has its rows: then nobody is waited for.
    async fn traces(&self, place: PartitionKey) -> Result<Vec<Trace>, TableError> {
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

    /// Of the events table, also for one beside it, which is to take its place.
    async fn trace(&self, shard: usize, place: PartitionKey) -> Result<Trace, TableError> {
        let writer = self.writer_of(shard, place)?;
        let sql = format!("SELECT joinGet('{}.fence', 'generation', {{partition:UInt16}}) != 0", self.store.database);
        let fence: Vec<(u8,)> = writer.rows(&Statement::of(sql).bind("partition", place.partition)).await?;
        let held = held(writer, &format!("{}.{EVENTS}", self.store.database)).await?;
        let has_fence = fence.iter().any(|(is_taken,)| *is_taken != 0);
        Ok(Trace {
            has_rows: held.iter().any(|held| held.place == place),
            has_begun: has_fence || held.iter().any(|held| held.place.partition == place.partition),
        })
    }

    async fn highest_in(&self, server: &Client, place: PartitionKey) -> Result<Option<i64>, TableError> {
        Ok(held(server, &self.events).await?.iter().find(|held| held.place == place).map(|held| held.highest))
    }

    /// Takes the fence of a partition in one shard and returns the highest raw offset that the shard has.
    async fn take_fence_in(&self, shard: usize, place: PartitionKey, generation: u64) -> Result<Option<i64>, TableError> {
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
        self.highest_in(writer, place).await
    }

    /// Waits until no insert of another generation of this partition is running. The fence refuses those that write their
    /// block after it was taken; one that passed its check before must be seen to end.
    async fn wait_for_others(&self, writer: &Client, place: PartitionKey, generation: u64) -> Result<(), TableError> {
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

    fn past<'a>(&'a self, server: &'a Client, place: PartitionKey) -> Past<'a> {
        Past { server, events: &self.events, place, partitions: self.partitions }
    }

    /// Inserts blocks as one part, or as one a day of receipt.
    async fn send(&self, writer: &Client, passengers: Vec<Passenger>) -> Result<(), TableError> {
        let names: String = passengers.iter().map(|passenger| block_name(passenger.place, passenger.generation)).collect();
        let query_id = format!("{}{names}{:016x}", self.query_id_prefix(), random());
        let into = format!("{} ({})", self.events, row::column_names());
        Ok(writer.insert(&into, row::encode(&passengers), &query_id).await?)
    }
}

/// A number as ClickHouse writes it in JSON: 64-bit ones may be quoted.
fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// What a server has, partition by partition: a few rows of each part, however large it is (the projection `places`).
async fn held(server: &Client, table: &str) -> Result<Vec<Held>, TableError> {
    let sql = format!(
        "SELECT toString(log_epoch), log_partition, toString(max(log_offset)), toString(toUnixTimestamp64Milli(max(received_at))) \
         FROM {table} GROUP BY log_epoch, log_partition"
    );
    let rows: Vec<(String, u16, String, String)> = server.rows(&Statement::of(sql)).await?;
    let held = rows.iter().map(|(epoch, partition, highest, newest_ms)| {
        let place = PartitionKey { epoch: LogEpoch(epoch.parse().ok()?), partition: *partition };
        Some(Held { place, highest: highest.parse().ok()?, newest_ms: newest_ms.parse().ok()? })
    });
    held.collect::<Option<_>>().ok_or_else(|| TableError::Later("clickhouse answered with numbers that are none".to_owned()))
}

/// Names a block in the id of the insert that it travels with.
fn block_name(place: PartitionKey, generation: u64) -> String {
    format!("{}{generation:016x}/", block_prefix(place))
}

/// Begins the names of all blocks of a partition.
fn block_prefix(place: PartitionKey) -> String {
    format!("/{:016x}-{}:", place.epoch.0, place.partition)
}

impl Table for EventTable {
    async fn take_fence(&self, place: PartitionKey) -> Result<(u64, Option<i64>), TableError> {
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

    async fn highest(&self, place: PartitionKey) -> Result<Option<i64>, TableError> {
        self.highest_in(self.writer(place)?, place).await
    }

    async fn recall(&self, place: PartitionKey, bytes: usize) -> Result<Dedupe, TableError> {
        let server = self.writer(place)?;
        let held = held(server, &self.events).await?;
        self.past(server, place).recall(&held, bytes).await
    }

    async fn find(&self, place: PartitionKey, suspects: &[Suspect]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        self.past(self.writer(place)?, place).find(suspects).await
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
