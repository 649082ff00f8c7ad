//! Consumer groups: which partitions this instance reads.
//!
//! Each [`KafkaMember`] has a thread of its own that keeps the membership alive, opens and closes partitions
//! ([`super::assigned`]), and commits finished offsets once in a while.
//!
//! A committed offset carries the id of its topic: one of a topic that was deleted since counts as none. May go wrong: Kafka
//! no longer holds what follows the committed offset. Reading then starts at the first record held, and the number of records
//! lost is logged and counted ([`crate::metrics::Counter::LogOffsetsLost`]).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::KafkaLog;
use super::assigned::{Assignment, GroupConsumer, Membership};
use super::client;
use super::reader::KafkaReader;
use crate::log::{ConsumerGroup, GroupMember, LogError};

/// How long the thread polls at a time.
const POLL: Duration = Duration::from_millis(50);
/// How often finished offsets are committed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time a member waits until the group has revoked its partitions.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Assignments that wait to be asked for: more than any topic has partitions.
const MAX_ASSIGNMENTS: usize = 1024;

/// The member of a consumer group of a [`KafkaLog`].
#[derive(Debug)]
pub struct KafkaMember {
    log: KafkaLog,
    assignments: mpsc::Receiver<Assignment>,
    /// The thread leaves the group when this is dropped.
    _stay: SyncSender<()>,
}

impl KafkaMember {
    /// Asks to become a member; partitions come once the group has agreed.
    pub(super) fn join(log: KafkaLog, group: ConsumerGroup) -> Result<Self, LogError> {
        let (sender, assignments) = mpsc::channel(MAX_ASSIGNMENTS);
        let membership = Membership::new(log.clone(), group.topic(), sender);
        let failed = |problem: KafkaError| client::unavailable("joining a consumer group", &problem);
        let consumer = BaseConsumer::from_config_and_context(&log.limits().member(group), membership).map_err(failed)?;
        let consumer = Arc::new(consumer);
        consumer.subscribe(&[consumer.context().topic_name()]).map_err(failed)?;
        let (stay, left) = sync_channel(0);
        let thread = std::thread::Builder::new().name(format!("kafka-{}", group.as_str()));
        let runtime = Handle::current();
        let thread = thread.spawn(move || poll_loop(&consumer, &runtime, &left));
        log.join_on_close(thread.map_err(|problem| LogError::Unavailable(problem.to_string()))?);
        Ok(Self { log, assignments, _stay: stay })
    }
}

impl GroupMember for KafkaMember {
    type Reader = KafkaReader;

    async fn assigned(&mut self) -> Result<KafkaReader, LogError> {
        loop {
            let Assignment { start, partition } = tokio::select! {
                why = self.log.ended() => return Err(why),
                assignment = self.assignments.recv() => assignment.ok_or(LogError::Closed)?,
            };
            // It may have been revoked before it was asked for.
            if !partition.revoked.is_cancelled() {
                return Ok(KafkaReader::new(self.log.clone(), start, partition));
            }
        }
    }
}

/// Keeps a member in its group until it is dropped or the log ends.
fn poll_loop(consumer: &Arc<GroupConsumer>, runtime: &Handle, left: &Receiver<()>) {
    let membership = Arc::clone(consumer.context());
    let mut commit_at = Instant::now() + COMMIT_INTERVAL;
    while left.try_recv() == Err(TryRecvError::Empty) && !membership.log_has_ended() {
        poll_once(consumer);
        if Instant::now() >= commit_at {
            membership.commit(consumer, |_| true);
            commit_at = Instant::now() + COMMIT_INTERVAL;
        }
        membership.park_unreadable(consumer);
        membership.open_pending(consumer, runtime);
    }
    leave_group(consumer);
    membership.close(consumer, |_| true);
}

fn poll_once(consumer: &GroupConsumer) {
    match consumer.poll(POLL) {
        None => {}
        // Every partition has a queue of its own; its reader finds the gap and fetches the record again.
        Some(Ok(message)) => tracing::error!(offset = message.offset(), "record outside the queue of its partition"),
        Some(Err(problem)) => tracing::debug!(%problem, "consumer group"),
    }
}

fn leave_group(consumer: &GroupConsumer) {
    consumer.unsubscribe();
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    while !consumer.context().is_idle() && Instant::now() < deadline {
        poll_once(consumer);
    }
}
