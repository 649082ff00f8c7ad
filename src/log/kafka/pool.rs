//! Reading anywhere in the log, without a group: for the ledger and for whoever picks up what it wrote.
//!
//! A few consumers on blocking threads. One that stopped in the middle of a partition stays there, because what comes next
//! is nearly always asked for next. One whose request failed is given up, and the request tried again by a fresh one: librdkafka
//! believes what it last heard of a topic for minutes, also that a partition has no leader or has one that is dead, and only who
//! follows a topic hears more.

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
use crate::log::{LogError, Record, Topic};

/// Consumers at a time: each has threads and connections of its own.
const SEEKERS: usize = 4;
/// Longest wait for anything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of a consumer before another is tried: the first time, and twice as long each time after.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before another is tried, where the one before it was refused at once.
const TRY_PAUSE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(100);

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) topic: Topic,
    pub(super) partition: u16,
    pub(super) from: i64,
    pub(super) max_bytes: usize,
    pub(super) prefix: Option<usize>,
}

/// Consumers that read where they are told.
pub(super) struct Pool {
    limits: KafkaLimits,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Seeker>>,
}

struct Seeker {
    consumer: BaseConsumer<Quiet>,
    /// Where it stopped, if it may go on there.
    at: Option<(Topic, u16, i64)>,
}

impl Pool {
    pub(super) fn new(limits: KafkaLimits) -> Self {
        Self { limits, turns: Arc::new(Semaphore::new(SEEKERS)), idle: Mutex::default() }
    }

    /// Waits for one of a few turns. It is over when the work is done, whether anyone still waits for that or not.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, LogError> {
        Arc::clone(&self.turns).acquire_owned().await.map_err(|_| LogError::Closed)
    }

    /// First offset held and the one the next record gets. Blocks.
    pub(super) fn bounds(&self, topic: Topic, partition: u16) -> Result<Range<i64>, LogError> {
        self.with_seeker(None, |seeker, timeout| self.bounds_by(seeker, (topic, partition), timeout))
    }

    fn bounds_by(&self, seeker: &Seeker, (topic, partition): (Topic, u16), timeout: Duration) -> Result<Range<i64>, LogError> {
        let asked = seeker.consumer.fetch_watermarks(&self.limits.topic_name(topic), i32::from(partition), timeout);
        asked.map(|(first, end)| first..end).map_err(|problem| client::unavailable("asking for offsets", &problem))
    }

    /// See [`crate::log::Log::read`]. Blocks.
    pub(super) fn read(&self, want: Want) -> Result<Vec<Record>, LogError> {
        self.with_seeker(Some((want.topic, want.partition, want.from)), |seeker, timeout| self.read_by(seeker, want, timeout))
    }

    /// Tries one consumer after the other until one has an answer or the time is over.
    fn with_seeker<T>(
        &self,
        at: Option<(Topic, u16, i64)>,
        mut work: impl FnMut(&mut Seeker, Duration) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let (deadline, mut timeout) = (Instant::now() + TIMEOUT, FIRST_TIMEOUT);
        let mut idle = self.take(at);
        loop {
            let mut seeker = idle.take().map_or_else(|| self.fresh(), Ok)?;
            match work(&mut seeker, timeout.min(deadline.saturating_duration_since(Instant::now()))) {
                Err(LogError::Unavailable(why)) if Instant::now() + TRY_PAUSE >= deadline => return Err(LogError::Unavailable(why)),
                Err(LogError::Unavailable(why)) => {
                    tracing::debug!(why, "trying another consumer");
                    drop(seeker);
                    std::thread::sleep(TRY_PAUSE);
                    timeout *= 2;
                }
                done => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(seeker);
                    return done;
                }
            }
        }
    }

    fn fresh(&self) -> Result<Seeker, LogError> {
        let made = BaseConsumer::from_config_and_context(&self.limits.seeker(), Quiet);
        Ok(Seeker { consumer: made.map_err(|problem| client::unavailable("making a consumer", &problem))?, at: None })
    }

    /// The one that stands there, else one that stands nowhere, else any.
    fn take(&self, at: Option<(Topic, u16, i64)>) -> Option<Seeker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let there = idle.iter().position(|seeker| at.is_some() && seeker.at == at);
        let best = there.or_else(|| idle.iter().position(|seeker| seeker.at.is_none())).or_else(|| idle.len().checked_sub(1))?;
        Some(idle.swap_remove(best))
    }

    fn read_by(&self, seeker: &mut Seeker, want: Want, timeout: Duration) -> Result<Vec<Record>, LogError> {
        if seeker.at.take() != Some((want.topic, want.partition, want.from)) {
            seeker.assign(&self.limits.topic_name(want.topic), want).map_err(|problem| client::unavailable("reading", &problem))?;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut next = want.from;
        let mut deadline = Instant::now() + timeout;
        while bytes < want.max_bytes {
            match seeker.consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() < want.from => {}
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    // All of it was fetched, whatever is wanted of it.
                    bytes += payload.len();
                    let payload = want.prefix.and_then(|prefix| payload.get(..prefix)).unwrap_or(payload);
                    next = message.offset() + 1;
                    deadline = Instant::now() + timeout;
                    records.push(Record { offset: message.offset(), payload: Bytes::copy_from_slice(payload) });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(problem)) if is_fatal(&problem) => return self.explain(seeker, want, (&problem, timeout)),
                Some(Err(problem)) => tracing::debug!(%problem, "reading goes on"),
                None => {}
            }
            if Instant::now() >= deadline && !records.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!("kafka: reading {} timed out", self.limits.topic_name(want.topic))));
            }
        }
        if bytes >= want.max_bytes {
            seeker.at = Some((want.topic, want.partition, next));
        } else if let Err(problem) = seeker.consumer.unassign() {
            tracing::debug!(%problem, "a consumer keeps its partition");
        }
        Ok(records)
    }

    fn explain(&self, seeker: &Seeker, want: Want, (problem, timeout): (&KafkaError, Duration)) -> Result<Vec<Record>, LogError> {
        let Want { topic, partition, from, .. } = want;
        if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) {
            return Err(LogError::Corrupt(format!("{}/{partition} from {from}: {problem}", self.limits.topic_name(topic))));
        }
        let held = self.bounds_by(seeker, (topic, partition), timeout)?;
        if (held.start..=held.end).contains(&from) {
            return Err(client::unavailable("reading", problem));
        }
        Err(LogError::OutOfRange { topic: topic.as_str(), partition, asked: from, held })
    }
}

/// Whether nothing more comes from this assignment.
fn is_fatal(problem: &KafkaError) -> bool {
    matches!(
        problem.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::BadMessage
        )
    )
}

impl Seeker {
    fn assign(&self, topic: &str, want: Want) -> Result<(), KafkaError> {
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(topic, i32::from(want.partition), Offset::Offset(want.from))?;
        self.consumer.assign(&place)
    }
}
