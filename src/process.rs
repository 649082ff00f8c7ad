//! From the raw topic to the enriched topic: agent, referrer, campaign, channel, bot, session.
//!
//! Owns one [`worker`] a partition, each with its own [`pipeline`]. Promises: every raw record makes one enriched record
//! with its origin, in order of raw offsets, at least once; what cannot be read goes to the dead topic and is counted, and
//! never holds up its neighbours; the same records from the same snapshot give the same result. May go wrong: the log
//! refuses (the worker waits and goes on), or a snapshot is gone (sessions then begin anew, said in the log).

pub mod enrich;
mod pipeline;
pub mod sessionize;
mod snapshot;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::event::record::RawOrigin;
use crate::lifecycle::TaskError;
use crate::log::workers::run_partitions;
use crate::log::{ConsumerGroup, Log, LogError};
use enrich::agent::AgentParser;
use sessionize::Sessionizer;

/// Beside the snapshots themselves: what is not yet whole, and visitors of one last record.
const STATE_SLACK: u64 = 8 << 20;

/// `[process]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// A visitor who does nothing for longer than this begins a new session.
    #[serde(with = "humantime_serde")]
    pub session_gap: Duration,
    /// Visitors remembered in each partition; beyond it the longest unseen are forgotten early. `state_bytes` of the log must hold
    /// two snapshots of them: 160 bytes a visitor.
    pub max_visitors: usize,
    /// How often a partition writes down its sessions: what a restart has to work through again.
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self { session_gap: Duration::from_secs(30 * 60), max_visitors: 1_000_000, snapshot_interval: Duration::from_secs(5) }
    }
}

/// The checked form of [`ProcessConfig`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessLimits {
    session_gap_ms: i64,
    max_visitors: usize,
    snapshot_interval: Duration,
}

impl ProcessLimits {
    /// A visitor who does nothing for longer than this begins a new session, in milliseconds.
    pub fn session_gap_ms(&self) -> i64 {
        self.session_gap_ms
    }

    /// Visitors remembered in each partition.
    pub fn max_visitors(&self) -> usize {
        self.max_visitors
    }

    /// Bytes of snapshots that the log must keep of a partition: while the next one is written, all of the one before it.
    pub fn least_state_bytes(&self) -> u64 {
        // Visitors are remembered in two generations, and a record may bring some more than fit.
        let largest = 2 * self.max_visitors as u64 * Sessionizer::VISITOR_BYTES;
        2 * largest + STATE_SLACK
    }

    fn sessions(&self) -> Sessionizer {
        Sessionizer::new(self.session_gap_ms, self.max_visitors)
    }
}

impl ProcessConfig {
    /// The only way to make [`ProcessLimits`].
    pub fn check(&self) -> Result<ProcessLimits, String> {
        let session_gap_ms = i64::try_from(self.session_gap.as_millis()).unwrap_or(0);
        if session_gap_ms < 1_000 {
            return Err(format!("process.session_gap: {:?} is outside 1s..", self.session_gap));
        }
        if self.max_visitors < 1_000 {
            return Err(format!("process.max_visitors: {} is below 1000", self.max_visitors));
        }
        if self.snapshot_interval < Duration::from_millis(100) {
            return Err(format!("process.snapshot_interval: {:?} is below 100ms", self.snapshot_interval));
        }
        Ok(ProcessLimits { session_gap_ms, max_visitors: self.max_visitors, snapshot_interval: self.snapshot_interval })
    }
}

/// Takes raw records of one partition to their enriched form outside the role: for a replay.
pub struct Enricher(pipeline::Pipeline);

impl Enricher {
    /// One that knows no session yet.
    pub fn new(limits: ProcessLimits, agents: Arc<AgentParser>, max_record_bytes: usize) -> Self {
        Self(pipeline::Pipeline::new(limits.sessions(), agents, max_record_bytes))
    }

    /// The enriched record of a raw record, and the records of the dead topic that hold what of it ends here. Records must come in
    /// the order of the log.
    pub fn enrich(&mut self, origin: RawOrigin, payload: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let pipeline::Applied { enriched, dead, .. } = self.0.apply(origin, payload);
        (enriched, dead)
    }
}

/// Runs the role until asked to stop. Errors: the log is damaged or closed, or a worker panicked.
pub async fn run<L: Log>(log: L, limits: ProcessLimits, stop: CancellationToken) -> Result<(), TaskError<LogError>> {
    let agents = Arc::new(AgentParser::new());
    let tables = Arc::clone(&agents);
    drop(tokio::task::spawn_blocking(move || tables.warm_up()));
    let member = log.join(ConsumerGroup::Process).await?;
    let shared = worker::Shared::new(agents);
    let worker = |reader| worker::Worker::new(log.clone(), limits, shared.clone(), reader).run(stop.clone());
    run_partitions("process: worker", member, worker, stop.clone()).await
}
