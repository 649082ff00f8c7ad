//! A partitioned, replayable log with consumer offsets.
//!
//! One trait, [`Log`]; what carries it is chosen in the configuration. A record is opaque bytes here; roles pack many
//! events into one. Promises: an [`Ack`] that resolves to an offset means the record survives a crash of the process and
//! of the machine; records of a partition are read in the order in which [`Log::append`] was called; offsets of a
//! partition start at 0 and grow. May go wrong: the log is full ([`LogError::Full`]: nothing was stored, there is room again
//! once what waits is durable or finished), its disk refuses ([`LogError::Unavailable`]: nothing was stored, try later), or what
//! it holds is damaged ([`LogError::Corrupt`]: a person is needed).

pub mod embedded;
pub mod headers;
pub mod kafka;
pub mod workers;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::event::ids::LogEpoch;

/// The topics of pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What ingest accepted.
    Raw,
    /// What process made of it; the same partitions as `Raw`.
    Enriched,
    /// What could not be read, with reason and original bytes; one partition.
    Dead,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Enriched, Self::Dead];

    /// The name, also of its folder or of the Kafka topic.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Enriched => "enriched",
            Self::Dead => "dead",
        }
    }
}

/// The consumer groups of pulse. A record that its group has not finished is not deleted to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConsumerGroup {
    /// Turns raw records into enriched ones.
    Process,
    /// Loads enriched records into the events table.
    Load,
    /// Loads dead letters into their table.
    LoadDeadLetters,
}

impl ConsumerGroup {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::Process, Self::Load, Self::LoadDeadLetters];

    /// The name under which its offsets are committed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Load => "load",
            Self::LoadDeadLetters => "load-dead",
        }
    }

    /// What it reads.
    pub const fn topic(self) -> Topic {
        match self {
            Self::Process => Topic::Raw,
            Self::Load => Topic::Enriched,
            Self::LoadDeadLetters => Topic::Dead,
        }
    }

    /// The groups without which records of `topic` are not finished.
    pub fn of(topic: Topic) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |group| group.topic() == topic)
    }
}

/// Which records of a partition to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u16,
    /// First offset.
    pub from: i64,
    /// Bytes of records, about; the first one comes whatever its size.
    pub max_bytes: usize,
    /// Only so many first bytes of each payload.
    pub prefix: Option<usize>,
}

impl ReadRequest {
    /// For whole records.
    pub fn new(topic: Topic, partition: u16, from: i64, max_bytes: usize) -> Self {
        Self { topic, partition, from, max_bytes, prefix: None }
    }

    /// For the first `bytes` of each payload: a cheap look at record headers. They may come unchecked, so damage shows only when
    /// the whole is read.
    pub fn prefix(self, bytes: usize) -> Self {
        Self { prefix: Some(bytes), ..self }
    }
}

/// One record and where it stands in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the partition.
    pub offset: i64,
    /// What was appended.
    pub payload: Bytes,
}

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Nothing was stored, because the bounded queue or the room on disk is used up. The log itself is well: what was appended
    /// before is not in doubt, and the same call succeeds once something of it is durable or finished.
    #[error("log full: {0}")]
    Full(String),
    /// Nothing was stored; the same call may succeed later.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// The record is larger than the log takes; it never will.
    #[error("record of {size} bytes exceeds the log's limit of {limit}")]
    TooLarge {
        /// Size of the record in bytes.
        size: usize,
        /// Largest record in bytes.
        limit: usize,
    },
    /// What the log holds cannot be read; a person is needed.
    #[error("log damaged: {0}")]
    Corrupt(String),
    /// The offset asked for is gone (retention) or was never there.
    #[error("offset {asked} of {topic}/{partition} is outside {}..{}", .held.start, .held.end)]
    OutOfRange {
        /// Topic name.
        topic: &'static str,
        /// Partition number.
        partition: u16,
        /// The offset asked for.
        asked: i64,
        /// First offset held, and the one that the next record will get.
        held: Range<i64>,
    },
    /// The log is shutting down.
    #[error("log closed")]
    Closed,
}

/// How often, and how far apart, a partition must end before what was read of it to count as truncated: a replica that has just ceased
/// to lead answers as if it still did.
const SHORT_ENDS: u32 = 5;
const RECHECK_PAUSE: Duration = Duration::from_secs(1);

/// An error if a partition ends below `next_offset`, up to which it was read: it lost acknowledged records, and new ones would be
/// taken for those.
pub async fn check_end<L: Log>(log: &L, topic: Topic, partition: u16, next_offset: i64) -> Result<(), LogError> {
    for attempt in 1.. {
        let end = log.bounds(topic, partition).await?.end;
        if next_offset <= end {
            break;
        }
        if attempt == SHORT_ENDS {
            return Err(LogError::lost_end(topic.as_str(), partition, end, next_offset));
        }
        tokio::time::sleep(RECHECK_PAUSE).await;
    }
    Ok(())
}

impl LogError {
    /// Of a partition that ends before what was read of it.
    fn lost_end(topic: &str, partition: u16, end: i64, read: i64) -> Self {
        Self::Corrupt(format!(
            "{topic}/{partition} ends at {end} but was read up to {read}: the log lost records that it had acknowledged, and would give \
             their offsets a second time; begin an empty one (with Kafka delete the topics), what the table has stays"
        ))
    }
}

/// Resolves once a record is durable, to its offset. Dropping it does not take the record back.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<i64, LogError>>);

impl Ack {
    /// An acknowledgement and the end that resolves it.
    pub fn pair() -> (oneshot::Sender<Result<i64, LogError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl Future for Ack {
    type Output = Result<i64, LogError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(LogError::Closed)))
    }
}

/// The log. Cheap to clone; clones share the same log.
pub trait Log: Clone + Send + Sync + 'static {
    /// A member of a consumer group.
    type Member: GroupMember;

    /// A follower of a topic.
    type Follower: TopicFollower;

    /// Identity of the raw topic.
    fn epoch(&self) -> LogEpoch;

    /// Number of partitions of `topic`, at least 1.
    fn partitions(&self, topic: Topic) -> u16;

    /// Largest record that [`Log::append`] takes, bytes.
    fn max_record_bytes(&self) -> usize;

    /// Queues a record behind those appended before it and returns at once. Errors: [`LogError::Full`] when the bounded queue is
    /// full, [`LogError::Unavailable`] when the log has stopped taking records, [`LogError::TooLarge`], [`LogError::Closed`].
    ///
    /// Where a record fails, those queued behind it in its partition fail as well. One appended after that may succeed: for records
    /// without a gap, stop appending at the first failed [`Ack`].
    fn append(&self, topic: Topic, partition: u16, payload: Bytes) -> Result<Ack, LogError>;

    /// First offset held and the offset the next durable record will get.
    fn bounds(&self, topic: Topic, partition: u16) -> impl Future<Output = Result<Range<i64>, LogError>> + Send;

    /// The durable records that are asked for, at least one if there is any, none at the end.
    fn read(&self, request: ReadRequest) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;

    /// Whether a read of prefixes leaves the rest of each record where it is. Otherwise it costs as much as reading all.
    fn reads_prefixes_alone(&self) -> bool {
        true
    }

    /// Joins a consumer group.
    fn join(&self, group: ConsumerGroup) -> impl Future<Output = Result<Self::Member, LogError>> + Send;

    /// Follows `topic` from its present end on, without a group: any number of followers may, none holds up retention or the
    /// groups, and each may be overtaken by retention ([`Followed::Overtaken`]). Errors: the log does not answer.
    fn follow(&self, topic: Topic) -> impl Future<Output = Result<Self::Follower, LogError>> + Send;
}

/// A log as the process that opened it sees it, and closes it.
pub trait RunningLog: Log {
    /// Whether raw records are taken at present, for readiness.
    fn is_writable(&self) -> bool;

    /// Waits until only [`RunningLog::close`] is of use any more, and returns why. As a rule it waits for ever.
    fn broken(&self) -> impl Future<Output = LogError> + Send;

    /// Takes no more records and makes the queued ones durable. Readers get [`LogError::Closed`]. Calling it again does nothing.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What a follower reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The next records of a partition, at least one.
    Records {
        /// The partition.
        partition: u16,
        /// Without a gap behind those before.
        records: Vec<Record>,
    },
    /// The log deleted records before they were read. Reading goes on behind them.
    Overtaken {
        /// The partition.
        partition: u16,
        /// Offsets that were missed.
        lost: Range<i64>,
    },
}

/// Reads the tail of every partition of a topic, each in order. Holds a bounded number of bytes: a slow follower is overtaken, and
/// slows nothing down. Dropping it ends it.
pub trait TopicFollower: Send + 'static {
    /// What comes next in any partition, about 1 MiB at most; waits for it. Cancel safe. Errors: the log is closed or damaged;
    /// a log that does not answer for a while is waited for.
    fn next(&mut self) -> impl Future<Output = Result<Followed, LogError>> + Send;
}

/// The follower of a log that a test never follows.
#[cfg(test)]
impl TopicFollower for std::convert::Infallible {
    async fn next(&mut self) -> Result<Followed, LogError> {
        match *self {}
    }
}

/// A member of a consumer group: learns which partitions it reads. Dropping it leaves the group.
pub trait GroupMember: Send + 'static {
    /// Reads one assigned partition.
    type Reader: PartitionReader;

    /// The next partition assigned to this member. Waits when there is none. Cancel safe.
    fn assigned(&mut self) -> impl Future<Output = Result<Self::Reader, LogError>> + Send;
}

/// Reads one partition in order, and remembers how far its group came.
pub trait PartitionReader: Send + 'static {
    /// The partition.
    fn partition(&self) -> u16;

    /// The next_offset last committed by the group, if any.
    fn committed(&self) -> Option<i64>;

    /// First offset held and the offset the next durable record will get.
    fn bounds(&self) -> impl Future<Output = Result<Range<i64>, LogError>> + Send;

    /// Continues reading at `next_offset`. A reader starts at the committed one, else at the first held.
    fn seek(&mut self, next_offset: i64);

    /// The next records, at least one and about `max_bytes` at most; waits for them. Cancel safe: losing a race against
    /// this loses no record. After a revocation it waits for ever: see [`PartitionReader::revoked`].
    fn next(&mut self, max_bytes: usize) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;

    /// Remembers that everything below `next_offset` is finished. Durable soon, not at once: it is a hint, and does nothing
    /// after a revocation.
    fn commit(&mut self, next_offset: i64) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Cancelled when the partition is revoked from this member.
    fn revoked(&self) -> CancellationToken;
}
