//! Reading anywhere in the log, without a group: for the ledger and for replays.
//!
//! A few consumers on blocking threads. One that stopped in the middle of a partition stays there, because the next request nearly
//! always goes on there. One whose request failed is dropped, and a fresh one tries again: librdkafka caches the metadata of a topic
//! for minutes, also that a partition has no leader or a dead one, and refreshes it only for a topic that is being consumed.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::{self, Quiet};
use super::config::KafkaLimits;
use crate::log::{LogError, ReadRequest, Record, Topic};

/// Consumers at a time: each has threads and connections of its own.
const MAX_CONSUMERS: usize = 4;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of a consumer before another is tried: the first time, and twice as long each time after.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before another is tried.
const TRY_PAUSE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(100);

/// Consumers that read at any position.
pub(super) struct Pool {
    limits: KafkaLimits,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<PooledConsumer>>,
}

struct PooledConsumer {
    consumer: BaseConsumer<Quiet>,
    /// Where it stopped, if it can go on there.
    at: Option<(Topic, u16, i64)>,
}

impl Pool {
    pub(super) fn new(limits: KafkaLimits) -> Self {
        Self { limits, permits: Arc::new(Semaphore::new(MAX_CONSUMERS)), idle: Mutex::default() }
    }

    /// Waits for one of a few permits, to be held until the work is done.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, LogError> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LogError::Closed)
    }

    /// First offset held and the one the next record gets. Blocks.
    pub(super) fn bounds(&self, topic: Topic, partition: u16) -> Result<Range<i64>, LogError> {
        let name = self.limits.topic_name(topic);
        self.with_consumer(None, |pooled, timeout| pooled.bounds(&name, partition, timeout))
    }

    /// See [`crate::log::Log::read`]. Blocks.
    pub(super) fn read(&self, request: ReadRequest) -> Result<Vec<Record>, LogError> {
        self.with_consumer(Some((request.topic, request.partition, request.from)), |pooled, timeout| self.read_by(pooled, request, timeout))
    }

    /// Tries one consumer after the other until one has an answer or the time is over.
    fn with_consumer<T>(
        &self,
        at: Option<(Topic, u16, i64)>,
        mut work: impl FnMut(&mut PooledConsumer, Duration) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let (deadline, mut timeout) = (Instant::now() + TIMEOUT, FIRST_TIMEOUT);
        let mut idle = self.take(at);
        loop {
            let mut pooled = idle.take().map_or_else(|| self.fresh(), Ok)?;
            match work(&mut pooled, timeout.min(deadline.saturating_duration_since(Instant::now()))) {
                Err(LogError::Unavailable(why)) if Instant::now() + TRY_PAUSE >= deadline => return Err(LogError::Unavailable(why)),
                Err(LogError::Unavailable(why)) => {
                    tracing::debug!(why, "trying another consumer");
                    drop(pooled);
                    std::thread::sleep(TRY_PAUSE);
                    timeout *= 2;
                }
                done => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(pooled);
                    return done;
                }
            }
        }
    }

    fn fresh(&self) -> Result<PooledConsumer, LogError> {
        let made = BaseConsumer::from_config_and_context(&self.limits.positioned_reader(), Quiet);
        Ok(PooledConsumer { consumer: made.map_err(|problem| client::unavailable("making a consumer", &problem))?, at: None })
    }

    /// The idle one that stopped there, else one without a partition, else any.
    fn take(&self, at: Option<(Topic, u16, i64)>) -> Option<PooledConsumer> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let there = idle.iter().position(|pooled| at.is_some() && pooled.at == at);
        let best = there.or_else(|| idle.iter().position(|pooled| pooled.at.is_none())).or_else(|| idle.len().checked_sub(1))?;
        Some(idle.swap_remove(best))
    }

    fn read_by(&self, pooled: &mut PooledConsumer, request: ReadRequest, timeout: Duration) -> Result<Vec<Record>, LogError> {
        let mut is_continued = pooled.at.take() == Some((request.topic, request.partition, request.from));
        if !is_continued {
            pooled.assign(&self.limits.topic_name(request.topic), request)?;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut next = request.from;
        let mut deadline = Instant::now() + timeout;
        while bytes < request.max_bytes {
            match pooled.consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() < request.from => {}
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    // All of it was fetched, whatever the prefix.
                    bytes += payload.len();
                    let payload = request.prefix.and_then(|prefix| payload.get(..prefix)).unwrap_or(payload);
                    next = message.offset() + 1;
                    deadline = Instant::now() + timeout;
                    records.push(Record { offset: message.offset(), payload: Bytes::copy_from_slice(payload) });
                }
                // The end may be of the time when the last request stopped here, and is not said again for what came since.
                Some(Err(KafkaError::PartitionEOF(_))) if is_continued && records.is_empty() => {
                    is_continued = false;
                    pooled.assign(&self.limits.topic_name(request.topic), request)?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(problem)) if client::stops_fetching(&problem) => {
                    let held = pooled.bounds(&self.limits.topic_name(request.topic), request.partition, timeout);
                    return Err(self.explain(request, &problem, held));
                }
                Some(Err(problem)) => tracing::debug!(%problem, "reading goes on"),
                None => {}
            }
            if Instant::now() >= deadline && !records.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!("kafka: reading {} timed out", self.limits.topic_name(request.topic))));
            }
        }
        // A single record was looked up: nobody goes on there, and a consumer with a partition fetches on and on.
        if bytes >= request.max_bytes && records.len() > 1 {
            pooled.at = Some((request.topic, request.partition, next));
        } else if let Err(problem) = pooled.consumer.unassign() {
            tracing::debug!(%problem, "a consumer keeps its partition");
        }
        Ok(records)
    }

    /// The error of a fetch that failed, with what is held of the partition.
    fn explain(&self, request: ReadRequest, problem: &KafkaError, held: Result<Range<i64>, LogError>) -> LogError {
        let ReadRequest { topic, partition, from, .. } = request;
        if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) {
            return LogError::Corrupt(format!("{}/{partition} from {from}: {problem}", self.limits.topic_name(topic)));
        }
        match held {
            Ok(held) if (held.start..=held.end).contains(&from) => client::unavailable("reading", problem),
            Ok(held) => LogError::OutOfRange { topic: topic.as_str(), partition, asked: from, held },
            Err(why) => why,
        }
    }
}

impl PooledConsumer {
    fn bounds(&self, topic: &str, partition: u16, timeout: Duration) -> Result<Range<i64>, LogError> {
        let asked = self.consumer.fetch_watermarks(topic, i32::from(partition), timeout);
        asked.map(|(first, end)| first..end).map_err(|problem| client::unavailable("asking for offsets", &problem))
    }

    fn assign(&self, topic: &str, request: ReadRequest) -> Result<(), LogError> {
        let mut position = TopicPartitionList::new();
        let placed = position.add_partition_offset(topic, i32::from(request.partition), Offset::Offset(request.from));
        placed.and_then(|()| self.consumer.assign(&position)).map_err(|problem| client::unavailable("reading", &problem))
    }
}
