//! From the enriched and dead topics into ClickHouse: every event once.
//!
//! Owns one [`worker`] a partition. The table is the truth, the log's committed offset a hint: a worker takes the
//! partition's fence, reads back how far the table is, skips what it has, drops copies ([`dedupe`]) and inserts whole
//! records as one block, which is one atomic part and carries its own books ([`row`]). Before it goes what its events say of who is
//! who ([`ties`]). In a cluster all of that happens in the
//! one shard that holds the partition ([`shard_map`]). After any answer that is not a clean
//! success it takes the fence again and looks before it inserts again. May go wrong: the table refuses for a reason that
//! only an operator can mend (the log says an error ([`refusals`]), the worker keeps trying and loses nothing); a raw offset is missing between two
//! records (a gap: nothing behind it is loaded until it is filled); or the raw topic ends before what the table has of it (it
//! lost records, and their offsets come a second time: the role ends).

mod block;
mod dead_letters;
pub(crate) mod dedupe;
mod error;
mod flush_schedule;
mod group_insert;
mod insert;
mod memory;
#[cfg(test)]
pub(crate) mod probe;
mod raw_bounds;
mod rebuild;
mod refusals;
mod row;
pub(crate) mod sessions;
mod shard_map;
mod stats;
mod table;
mod ties;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, Identifier};
use crate::event::session::SessionRules;
use crate::lifecycle::TaskError;
use crate::log::workers::run_partitions;
use crate::log::{ConsumerGroup, Log, LogError, PartitionReader, Topic};
use crate::project::{Projects, ProjectsConfig};
use crate::store::data_version::DataVersions;
use crate::store::tables::EVENTS;
use flush_schedule::FlushSchedule;
use memory::MemoryLimits;
pub use rebuild::{RebuildError, RebuildRequest, RebuildSummary, SessionRebuild};
pub use stats::{Latency, LoadStats};
use table::EventTable;
use worker::Shared;

/// Events of blocks that fill at one time, in bytes: 1 KiB an event at the default of `max_rows`, which is more than most have. While one
/// insert is running as much again is filled, and the server needs several times as much to take it.
const MAX_BYTES: usize = 64 << 20;

/// `[load]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadConfig {
    /// Rows after which blocks are inserted without waiting for more, or fewer that are 64 MiB; those of all partitions of an instance
    /// go together.
    pub max_rows: usize,
    /// Longest time a row waits for more rows; all partitions flush at the same moments, this far apart.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Memory of all partitions together for telling new events from copies.
    #[serde(with = "crate::byte_size")]
    pub dedupe_memory: usize,
    /// A visitor who does nothing for longer than this begins a new session.
    #[serde(with = "humantime_serde")]
    pub session_gap: Duration,
    /// An event later than this after the first of a session begins another.
    #[serde(with = "humantime_serde")]
    pub longest_session: Duration,
    /// Visitors whose sessions all partitions remember together; of others the table is asked.
    pub max_visitors: usize,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            max_rows: 65_536,
            max_age: Duration::from_millis(200),
            dedupe_memory: 64 << 20,
            session_gap: Duration::from_secs(30 * 60),
            longest_session: Duration::from_secs(24 * 60 * 60),
            max_visitors: 1_000_000,
        }
    }
}

/// The checked form of [`LoadConfig`].
#[derive(Clone, Debug)]
pub struct BlockLimits {
    pub(crate) max_rows: usize,
    /// Of encoded events: what blocks that fill at one time may hold together, whatever the size of events.
    pub(crate) max_bytes: usize,
    pub(crate) max_age: Duration,
    pub(crate) memory: MemoryLimits,
}

impl BlockLimits {
    /// The settings of every project.
    pub fn projects(&self) -> &Projects {
        &self.memory.projects
    }
}

impl LoadConfig {
    /// The only way to make [`BlockLimits`]; `projects` may set for one what is set here for all.
    pub fn check(&self, projects: &ProjectsConfig) -> Result<BlockLimits, String> {
        let Self { max_rows, max_age, dedupe_memory, session_gap, longest_session, max_visitors } = *self;
        if max_rows == 0 || max_rows > 1_000_000 {
            return Err(format!("load.max_rows: {max_rows} is outside 1..=1000000"));
        }
        if max_age > Duration::from_secs(60) {
            return Err(format!("load.max_age: {max_age:?} is above 60s"));
        }
        if dedupe_memory < 1 << 20 {
            return Err(format!("load.dedupe_memory: {dedupe_memory} is below 1 MiB"));
        }
        // No machine has more, and what cannot be counted cannot be taken.
        if dedupe_memory > 1 << 40 {
            return Err(format!("load.dedupe_memory: {dedupe_memory} is above 1 TiB"));
        }
        let sessions = SessionRules::of_times("load", session_gap, longest_session)?;
        if max_visitors == 0 {
            return Err("load.max_visitors: 0 is below 1".to_owned());
        }
        let projects = projects.check(sessions)?;
        let memory = MemoryLimits { dedupe_bytes: dedupe_memory, max_visitors, projects };
        Ok(BlockLimits { max_rows, max_bytes: MAX_BYTES, max_age, memory })
    }
}

/// Where blocks go, and what is noted of them.
#[derive(Clone)]
pub struct Target {
    /// The store.
    pub store: ClickHouse,
    /// For the query cache of this process.
    pub data_versions: Arc<DataVersions>,
    /// How long events took.
    pub stats: Arc<LoadStats>,
}

/// What a rebuild loads into a table beside the events table, or again into that one.
#[derive(Clone, Debug)]
pub struct RebuildTarget {
    /// The table, whose own fence is taken.
    pub table: Identifier,
    /// Number of the log's partitions.
    pub partitions: u16,
    /// As for the role.
    pub limits: BlockLimits,
}

/// Loads what `reader` yields, whose offsets are raw ones, until asked to stop; what was read by then is stored. Errors: the log is
/// damaged or closed.
pub async fn load_partition<R: PartitionReader>(
    store: ClickHouse,
    target: RebuildTarget,
    reader: R,
    stop: CancellationToken,
) -> Result<(), LogError> {
    let RebuildTarget { table, partitions, limits } = target;
    let table = EventTable::new(store, Arc::default(), partitions, &table);
    let raw = raw_bounds::StartsAt { start: reader.bounds().await?.start };
    let shared = Shared {
        table,
        raw,
        memory: limits.memory.share(partitions),
        stats: Arc::default(),
        flush_schedule: Arc::new(FlushSchedule::new(&limits)),
        refusals: Arc::default(),
    };
    worker::Worker::new(shared, reader).run(stop).await
}

/// Runs the role until asked to stop. Errors: the log is damaged or closed, or a worker panicked.
pub async fn run<L: Log>(log: L, limits: BlockLimits, target: Target, stop: CancellationToken) -> Result<(), TaskError<LogError>> {
    let Target { store, data_versions, stats } = target;
    let partitions = log.partitions(Topic::Enriched);
    let table = EventTable::new(store.clone(), data_versions, partitions, &EVENTS.name());
    let shared = Shared {
        table,
        raw: log.clone(),
        memory: limits.memory.share(partitions),
        stats,
        flush_schedule: Arc::new(FlushSchedule::new(&limits)),
        refusals: Arc::default(),
    };
    let events = log.join(ConsumerGroup::Load).await?;
    let dead = log.join(ConsumerGroup::LoadDeadLetters).await?;
    let load_events = |reader| worker::Worker::new(shared.clone(), reader).run(stop.clone());
    let load_dead = |reader| dead_letters::run(store.clone(), reader, stop.clone());
    tokio::try_join!(
        run_partitions("load: worker", events, load_events, stop.clone()),
        run_partitions("load: dead letters", dead, load_dead, stop.clone()),
    )?;
    Ok(())
}
