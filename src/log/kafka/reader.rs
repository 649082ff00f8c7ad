//! Reading one assigned partition.
//!
//! librdkafka fetches ahead into the queue of the partition, a few megabytes at most; [`KafkaReader::next`] takes from
//! there. Records come without gaps: one that is missing is fetched again, and only if Kafka no longer has it reading goes
//! on behind it, which is logged and counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::{BaseConsumer, PartitionQueue};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::KafkaLog;
use super::consumer::{Membership, tell_lost};
use crate::log::{Log, LogError, PartitionReader, Record, Topic};

/// Longest time a move to another offset may take, and the pause before it is tried again.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);
const MOVE_PAUSE: Duration = Duration::from_millis(50);
/// How often an empty queue is looked at without a call: one that is never made must not stop a partition.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The queue of an assigned partition, shared by its reader and the member. Closed when the partition is taken away; the
/// same partition assigned again gets another slot, so that an old reader can take nothing from a new one.
pub(super) struct Slot {
    name: String,
    partition: i32,
    source: Mutex<Option<Source>>,
    finished: Mutex<Option<i64>>,
    news: Arc<Notify>,
    revoked: CancellationToken,
}

/// Where records come from, as long as the partition is ours.
struct Source {
    queue: PartitionQueue<Membership>,
    consumer: Arc<BaseConsumer<Membership>>,
}

/// What a look into the queue brought.
enum Look {
    Records(Vec<Record>),
    Empty,
    /// The next record is not the one expected.
    Gap,
    Failed(KafkaError),
}

impl Slot {
    /// Gives the partition a queue of its own; to be called before fetching starts.
    pub(super) fn open(consumer: &Arc<BaseConsumer<Membership>>, name: &str, partition: i32) -> KafkaResult<Arc<Self>> {
        let missing = || KafkaError::Subscription(format!("partition {partition} has no queue"));
        let mut queue = consumer.split_partition_queue(name, partition).ok_or_else(missing)?;
        let news = Arc::new(Notify::new());
        let call = Arc::clone(&news);
        queue.set_nonempty_callback(move || call.notify_one());
        Ok(Arc::new(Self {
            name: name.to_owned(),
            partition,
            source: Mutex::new(Some(Source { queue, consumer: Arc::clone(consumer) })),
            finished: Mutex::default(),
            news,
            revoked: CancellationToken::new(),
        }))
    }

    pub(super) fn close(&self) {
        self.revoked.cancel();
        self.source().take();
    }

    /// The next_offset to commit, once.
    pub(super) fn take_finished(&self) -> Option<i64> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn finish(&self, next_offset: i64) {
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(next_offset);
    }

    fn source(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there from `next_offset` on. With `is_fresh` the first record may lie behind it: Kafka holds none
    /// before.
    fn look(&self, mut next_offset: i64, is_fresh: bool, max_bytes: usize) -> Look {
        let source = self.source();
        let Some(Source { queue, .. }) = &*source else { return Look::Empty };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes {
            let message = match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => message,
                // What came before it is told first; the move that follows finds the trouble again.
                Some(Err(_)) if !records.is_empty() => break,
                Some(Err(problem)) => return Look::Failed(problem),
            };
            let offset = message.offset();
            if offset < next_offset {
                continue;
            }
            if offset > next_offset && !(is_fresh && records.is_empty()) {
                return if records.is_empty() { Look::Gap } else { Look::Records(records) };
            }
            let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
            bytes += payload.len();
            next_offset = offset + 1;
            records.push(Record { offset, payload });
        }
        if records.is_empty() { Look::Empty } else { Look::Records(records) }
    }

    /// Continues fetching at `offset`. Blocks.
    fn go_to(&self, offset: i64) -> KafkaResult<()> {
        // Not under the lock: it takes a while.
        let Some(consumer) = self.source().as_ref().map(|source| Arc::clone(&source.consumer)) else { return Ok(()) };
        consumer.seek(&self.name, self.partition, Offset::Offset(offset), MOVE_TIMEOUT)
    }

    fn ask_again(&self) {
        if let Some(source) = &*self.source() {
            source.consumer.context().ask_again(self.partition);
        }
    }
}

/// A move to another offset that is under way.
struct Move {
    to: i64,
    task: JoinHandle<KafkaResult<()>>,
}

/// Reads one partition of a [`KafkaLog`] for a group.
pub struct KafkaReader {
    log: KafkaLog,
    topic: Topic,
    partition: u16,
    committed: Option<i64>,
    next_offset: i64,
    /// Where librdkafka goes on, if that is known.
    fetches_at: Option<i64>,
    /// Nothing was read since the last move.
    is_fresh: bool,
    /// Kafka had nothing at the place where reading goes on.
    is_off: bool,
    moving: Option<Move>,
    slot: Arc<Slot>,
}

impl KafkaReader {
    pub(super) fn new(log: KafkaLog, topic: Topic, (committed, start): (Option<i64>, i64), slot: Arc<Slot>) -> Self {
        let partition = u16::try_from(slot.partition).unwrap_or(u16::MAX);
        Self {
            log,
            topic,
            partition,
            committed,
            next_offset: start,
            fetches_at: Some(start),
            is_fresh: true,
            is_off: false,
            moving: None,
            slot,
        }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.slot.revoked.is_cancelled()
    }

    /// Ends a move that is under way, or begins one that is due. `false` if there is nothing to do. Cancel safe.
    async fn moves(&mut self) -> bool {
        if let Some(Move { to, task }) = &mut self.moving {
            let (to, ended) = (*to, task.await);
            self.moving = None;
            match ended {
                Ok(Ok(())) => (self.fetches_at, self.is_fresh) = (Some(to), true),
                // The partition is just being started, or stopped.
                _ => tokio::time::sleep(MOVE_PAUSE).await,
            }
            return true;
        }
        if self.fetches_at == Some(self.next_offset) {
            return false;
        }
        let (slot, to) = (Arc::clone(&self.slot), self.next_offset);
        self.moving = Some(Move { to, task: tokio::task::spawn_blocking(move || slot.go_to(to)) });
        true
    }

    /// After Kafka had nothing at the place where reading goes on: it is before what is held, and soon begins there, or it was
    /// behind it, and the log ends: others would be taken for the records that Kafka lost. Cancel safe.
    async fn check_place(&mut self) {
        if !self.is_off {
            return;
        }
        // Where it does not answer, the partition is given out again, and its end is looked at then.
        if let Ok(held) = self.log.bounds(self.topic, self.partition).await
            && self.next_offset >= held.start
        {
            self.log.fail(LogError::lost_end(&self.slot.name, self.partition, (held.end, self.next_offset)));
        }
        self.is_off = false;
    }

    fn look(&mut self, max_bytes: usize) -> Result<Option<Vec<Record>>, LogError> {
        match self.slot.look(self.next_offset, self.is_fresh, max_bytes) {
            Look::Empty => {}
            Look::Gap => self.fetches_at = None,
            Look::Records(records) => {
                if let Some(first) = records.first().filter(|first| first.offset > self.next_offset) {
                    tell_lost(&self.slot.name, self.slot.partition, self.next_offset..first.offset);
                }
                self.next_offset = records.last().map_or(self.next_offset, |last| last.offset + 1);
                (self.fetches_at, self.is_fresh) = (Some(self.next_offset), false);
                return Ok(Some(records));
            }
            Look::Failed(problem) if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) => {
                let Slot { name, partition, .. } = &*self.slot;
                return Err(LogError::Corrupt(format!("{name}/{partition} at {}: {problem}", self.next_offset)));
            }
            Look::Failed(problem) => {
                self.is_off = is_off(&problem);
                tracing::warn!(topic = self.slot.name, partition = self.partition, next_offset = self.next_offset, %problem, "cannot read on");
                self.slot.ask_again();
            }
        }
        Ok(None)
    }
}

/// Whether the leader has no record at the place that was asked for.
fn is_off(problem: &KafkaError) -> bool {
    let codes = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::LogTruncation, RDKafkaErrorCode::OffsetOutOfRange];
    problem.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

impl PartitionReader for KafkaReader {
    fn partition(&self) -> u16 {
        self.partition
    }

    fn committed(&self) -> Option<i64> {
        self.committed
    }

    async fn bounds(&self) -> Result<std::ops::Range<i64>, LogError> {
        self.log.bounds(self.topic, self.partition).await
    }

    fn seek(&mut self, next_offset: i64) {
        self.next_offset = next_offset;
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let (revoked, news) = (self.slot.revoked.clone(), Arc::clone(&self.slot.news));
        loop {
            if revoked.is_cancelled() {
                // Whoever reads learns it from the token; there is nothing more to say here.
                return Err(self.log.ended().await);
            }
            if self.moves().await {
                continue;
            }
            if let Some(records) = self.look(max_bytes)? {
                return Ok(records);
            }
            if self.fetches_at.is_none() {
                continue;
            }
            self.check_place().await;
            tokio::select! {
                why = self.log.ended() => return Err(why),
                () = news.notified() => {}
                () = revoked.cancelled() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn commit(&mut self, next_offset: i64) -> Result<(), LogError> {
        self.slot.finish(next_offset);
        self.committed = Some(next_offset);
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        self.slot.revoked.clone()
    }
}
