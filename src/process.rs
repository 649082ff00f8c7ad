//! From the raw topic to the enriched topic: agent, referrer, campaign, channel, bot.
//!
//! Owns one [`worker`] a partition, each with its own [`pipeline`]. Promises: every raw record makes one enriched record
//! with its origin, in order of raw offsets, at least once; what cannot be read goes to the dead topic and is counted, and
//! never holds up its neighbours; the same record gives the same result, whatever came before it. May go wrong: the log refuses
//! (the worker waits and goes on).

pub mod enrich;
mod pipeline;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::event::record::RawOrigin;
use crate::lifecycle::TaskError;
use crate::log::workers::run_partitions;
use crate::log::{ConsumerGroup, Log, LogError};
pub(crate) use enrich::agent::AgentParser;

/// `[process]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// How often a partition commits how far it is: what a restart has to work through again.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self { commit_interval: Duration::from_secs(5) }
    }
}

/// The checked form of [`ProcessConfig`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessLimits {
    commit_interval: Duration,
}

impl ProcessConfig {
    /// The only way to make [`ProcessLimits`].
    pub fn check(&self) -> Result<ProcessLimits, String> {
        if self.commit_interval < Duration::from_millis(100) {
            return Err(format!("process.commit_interval: {:?} is below 100ms", self.commit_interval));
        }
        Ok(ProcessLimits { commit_interval: self.commit_interval })
    }
}

/// Takes raw records of one partition to their enriched form outside the role: for a replay.
pub struct Enricher(pipeline::Pipeline);

impl Enricher {
    /// One for records of which none may become larger than `max_record_bytes`.
    pub fn new(agents: Arc<AgentParser>, max_record_bytes: usize) -> Self {
        Self(pipeline::Pipeline::new(agents, max_record_bytes))
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
    let worker = |reader| worker::Worker::new(log.clone(), limits, Arc::clone(&agents), reader).run(stop.clone());
    run_partitions("process: worker", member, worker, stop.clone()).await
}
