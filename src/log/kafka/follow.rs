//! Following a topic without a group.
//!
//! A thread of its own polls a consumer that is assigned every partition, and hands batches over a bounded channel; beyond that only
//! librdkafka's own queue is in memory. While no batch is taken the thread waits, and Kafka goes on deleting. May go wrong:
//! Kafka deletes records before they were read ([`Followed::Overtaken`]); it does not answer (the follower waits); it
//! loses acknowledged records ([`LogError::Corrupt`]).

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::KafkaLog;
use super::client::{self, Quiet};
use crate::log::{Followed, Log, LogError, Record, Topic, TopicFollower};
use crate::outage::{Outage, Over};

/// Batches that wait to be taken. Beyond them the thread stops polling.
const MAX_BATCHES: usize = 8;
/// Bytes of records in a batch.
const BATCH_BYTES: usize = 1 << 20;
/// How long the thread polls at a time; it notices an end this late.
const POLL: Duration = Duration::from_millis(100);
/// Pause before partitions are assigned again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row a partition must end before what was read of it to count as truncated: a replica that has just ceased to lead
/// answers as if it still did.
const SHORT_ENDS: u32 = 5;

type Batch = Result<Followed, LogError>;

/// A follower of a topic of a [`KafkaLog`].
#[derive(Debug)]
pub struct KafkaFollower {
    log: KafkaLog,
    /// The thread ends when this is dropped.
    batches: mpsc::Receiver<Batch>,
}

impl KafkaFollower {
    pub(super) async fn start(log: KafkaLog, topic: Topic) -> Result<Self, LogError> {
        let bounds = try_join_all((0..log.partitions(topic)).map(|partition| log.bounds(topic, partition))).await?;
        let made = BaseConsumer::from_config_and_context(&log.limits().follower(), Quiet);
        let consumer = made.map_err(|problem| client::unavailable("following a topic", &problem))?;
        let (sender, batches) = mpsc::channel(MAX_BATCHES);
        let tail = TopicTail {
            name: log.topic_name(topic),
            log: log.clone(),
            topic,
            consumer,
            positions: bounds.into_iter().map(|held| Position { next_offset: held.end, is_fresh: true, short_ends: 0 }).collect(),
            batches: sender,
            runtime: Handle::current(),
            outage: Outage::default(),
        };
        let thread = std::thread::Builder::new().name("kafka-follow".to_owned()).spawn(move || tail.run());
        thread.map_err(|problem| LogError::Unavailable(problem.to_string()))?;
        Ok(Self { log, batches })
    }
}

impl TopicFollower for KafkaFollower {
    async fn next(&mut self) -> Batch {
        tokio::select! {
            why = self.log.ended() => Err(why),
            batch = self.batches.recv() => batch.unwrap_or(Err(LogError::Closed)),
        }
    }
}

/// How far a partition was read.
#[derive(Debug)]
struct Position {
    next_offset: i64,
    /// Nothing was read since the partition was assigned: the first record may lie behind `next_offset`, if Kafka holds none before.
    is_fresh: bool,
    /// How often in a row the partition ended before `next_offset`.
    short_ends: u32,
}

/// What the thread works with.
struct TopicTail {
    log: KafkaLog,
    topic: Topic,
    name: String,
    consumer: BaseConsumer<Quiet>,
    positions: Vec<Position>,
    batches: mpsc::Sender<Batch>,
    runtime: Handle,
    outage: Outage,
}

/// Records of one partition that were not sent yet.
#[derive(Default)]
struct OpenBatch {
    partition: u16,
    records: Vec<Record>,
    bytes: usize,
}

/// Why polling stopped.
enum Stop {
    /// The follower was dropped, or the log has ended.
    Over,
    /// A record is missing, or a fetch failed: the partitions are to be assigned again.
    Reassign,
}

impl TopicTail {
    fn run(mut self) {
        loop {
            let stop = match self.assign() {
                Ok(()) => self.poll(),
                Err(problem) => {
                    tracing::debug!(topic = self.name, %problem, "partitions not assigned to a follower");
                    Stop::Reassign
                }
            };
            match stop {
                Stop::Reassign if !self.is_over() => {}
                Stop::Reassign | Stop::Over => return,
            }
            if let Err(why) = self.check_positions() {
                self.send(Err(why));
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.batches.is_closed() || self.log.has_ended()
    }

    /// Waits for room. `false` if the follower is gone or the log has ended.
    fn send(&self, batch: Batch) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.log.ended() => false,
                sent = self.batches.send(batch) => sent.is_ok(),
            }
        })
    }

    fn flush(&self, open: &mut OpenBatch) -> bool {
        let OpenBatch { partition, records, .. } = std::mem::take(open);
        records.is_empty() || self.send(Ok(Followed::Records { partition, records }))
    }

    fn assign(&mut self) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        for (number, position) in (0..).zip(&mut self.positions) {
            assignment.add_partition_offset(&self.name, number, Offset::Offset(position.next_offset))?;
            position.is_fresh = true;
        }
        self.consumer.assign(&assignment)
    }

    /// Reads on until there is a reason to stop.
    fn poll(&mut self) -> Stop {
        let mut open = OpenBatch::default();
        loop {
            // What is there is taken at once; an open batch is not held back for more.
            let wait = if open.records.is_empty() { POLL } else { Duration::ZERO };
            let polled = self.consumer.poll(wait).map(|polled| {
                let message = polled?;
                let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
                Ok((u16::try_from(message.partition()).unwrap_or(u16::MAX), Record { offset: message.offset(), payload }))
            });
            let stop = match polled {
                None if self.is_over() || !self.flush(&mut open) => Some(Stop::Over),
                None => None,
                Some(Ok((partition, record))) => self.take(&mut open, partition, record),
                Some(Err(problem)) => self.failed(&problem, &mut open),
            };
            if let Some(stop) = stop {
                return if self.flush(&mut open) { stop } else { Stop::Over };
            }
        }
    }

    fn take(&mut self, open: &mut OpenBatch, partition: u16, record: Record) -> Option<Stop> {
        let position = self.positions.get_mut(usize::from(partition))?;
        let expected = position.next_offset;
        if record.offset < expected {
            return None;
        }
        if record.offset > expected && !position.is_fresh {
            return Some(Stop::Reassign);
        }
        (position.next_offset, position.is_fresh, position.short_ends) = (record.offset + 1, false, 0);
        self.report_recovery();
        if (partition != open.partition || open.bytes >= BATCH_BYTES) && !self.flush(open) {
            return Some(Stop::Over);
        }
        if record.offset > expected && !self.overtaken(partition, expected..record.offset) {
            return Some(Stop::Over);
        }
        open.partition = partition;
        open.bytes += record.payload.len();
        open.records.push(record);
        None
    }

    fn overtaken(&self, partition: u16, lost: Range<i64>) -> bool {
        tracing::debug!(topic = self.name, partition, ?lost, "a follower was overtaken by retention");
        self.send(Ok(Followed::Overtaken { partition, lost }))
    }

    fn failed(&mut self, problem: &KafkaError, open: &mut OpenBatch) -> Option<Stop> {
        if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) {
            let why = LogError::Corrupt(format!("{}: {problem}", self.name));
            let is_sent = self.flush(open) && self.send(Err(why));
            tracing::debug!(is_sent, "a follower ends");
            return Some(Stop::Over);
        }
        if client::stops_fetching(problem) {
            self.report_outage(&client::unavailable("following a topic", problem));
            return Some(Stop::Reassign);
        }
        // librdkafka goes on by itself.
        tracing::debug!(topic = self.name, %problem, "a follower's consumer");
        None
    }

    /// Goes on behind what Kafka has deleted. Errors: a partition lost records that were read.
    fn check_positions(&mut self) -> Result<(), LogError> {
        std::thread::sleep(RETRY_PAUSE);
        for number in 0..self.positions.len() {
            let partition = u16::try_from(number).unwrap_or(u16::MAX);
            let held = match self.log.bounds_blocking(self.topic, partition) {
                Ok(held) => held,
                Err(why) => {
                    self.report_outage(&why);
                    continue;
                }
            };
            let Some(position) = self.positions.get_mut(number) else { continue };
            let next_offset = position.next_offset;
            if next_offset < held.start {
                position.next_offset = held.start;
                self.overtaken(partition, next_offset..held.start);
                continue;
            }
            position.short_ends = if next_offset > held.end { position.short_ends + 1 } else { 0 };
            if position.short_ends >= SHORT_ENDS {
                return Err(LogError::lost_end(&self.name, partition, held.end, next_offset));
            }
        }
        Ok(())
    }

    fn report_outage(&mut self, why: &LogError) {
        if self.outage.begins() {
            tracing::warn!(topic = self.name, %why, "cannot follow a topic");
        }
    }

    fn report_recovery(&mut self) {
        if let Some(Over { failures, lasted }) = self.outage.ends() {
            tracing::info!(topic = self.name, failures, ?lasted, "the topic is followed again");
        }
    }
}
