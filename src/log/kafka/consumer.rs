//! Consumer groups: which partitions this instance reads.
//!
//! Each [`KafkaMember`] has a thread of its own that keeps the group alive, takes and gives partitions, and commits once
//! in a while. The records of a partition go into a queue of that partition alone ([`super::reader`]), bounded by
//! librdkafka, so that one nobody reads holds up no other.
//!
//! A committed offset carries the id of its topic: one of a topic that was deleted since counts as none. May go wrong:
//! what was committed is no longer held. Then reading starts at what is, and the number of offsets lost is logged and
//! counted ([`Counter::LogOffsetsLost`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

use super::KafkaLog;
use super::client;
use super::reader::{KafkaReader, Slot};
use crate::log::{GroupMember, LogError, Topic};
use crate::metrics::Counter;

/// How long the thread waits for news at a time.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait for an answer while partitions are taken over.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often finished offsets are committed.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Pause before a group is joined again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
/// Longest time a member waits until the group has taken its partitions back.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a partition may end before what was read of it until that is believed.
const SHORT_LOOKS: u32 = 3;
/// Readers that wait to be asked for: more than any topic has partitions.
const READERS: usize = 1024;

/// The member of a consumer group of a [`KafkaLog`].
#[derive(Debug)]
pub struct KafkaMember {
    log: KafkaLog,
    readers: mpsc::Receiver<KafkaReader>,
    /// The thread leaves the group when this is dropped.
    _stay: SyncSender<()>,
}

impl KafkaMember {
    /// Asks to become a member; partitions come once the group has agreed.
    pub(super) fn join(log: KafkaLog, group: &str, topic: Topic) -> Result<Self, LogError> {
        let (sender, readers) = mpsc::channel(READERS);
        let membership = Membership {
            log: log.clone(),
            topic,
            name: log.topic_name(topic),
            readers: sender,
            held: Mutex::default(),
            own: OnceLock::new(),
            rejoins: AtomicBool::default(),
            short_looks: AtomicU32::default(),
        };
        let failed = |problem: KafkaError| client::unavailable("joining a consumer group", &problem);
        let consumer = BaseConsumer::from_config_and_context(&log.limits().member(group), membership).map_err(failed)?;
        let consumer = Arc::new(consumer);
        let membership = consumer.context();
        // Set once, here.
        let _ = membership.own.set(Arc::downgrade(&consumer));
        consumer.subscribe(&[&membership.name]).map_err(failed)?;
        let (stay, left) = sync_channel(0);
        let thread = std::thread::Builder::new().name(format!("kafka-{group}"));
        let thread = thread.spawn(move || attend(consumer, &left));
        log.keep(thread.map_err(|problem| LogError::Unavailable(problem.to_string()))?);
        Ok(Self { log, readers, _stay: stay })
    }
}

impl GroupMember for KafkaMember {
    type Reader = KafkaReader;

    async fn assigned(&mut self) -> Result<KafkaReader, LogError> {
        loop {
            let reader = tokio::select! {
                why = self.log.ended() => return Err(why),
                reader = self.readers.recv() => reader.ok_or(LogError::Closed)?,
            };
            // It may have been taken away before anyone asked.
            if !reader.is_revoked() {
                return Ok(reader);
            }
        }
    }
}

type GroupConsumer = BaseConsumer<Membership>;

/// Keeps a member in its group until it is dropped or the log ends.
fn attend(consumer: Arc<GroupConsumer>, left: &Receiver<()>) {
    let membership = Arc::clone(consumer.context());
    let mut commit_at = Instant::now() + COMMIT_PAUSE;
    while left.try_recv() == Err(TryRecvError::Empty) && !membership.log.has_ended() {
        turn(&consumer);
        if Instant::now() >= commit_at {
            membership.commit(&consumer, |_| true);
            commit_at = Instant::now() + COMMIT_PAUSE;
        }
        if membership.rejoins.swap(false, Ordering::AcqRel) {
            rejoin(&consumer, &membership.name);
        }
    }
    leave(&consumer);
    membership.give_back(&consumer, |_| true);
}

fn turn(consumer: &GroupConsumer) {
    match consumer.poll(POLL) {
        None => {}
        // Every partition has a queue of its own; its reader finds the gap and goes back for it.
        Some(Ok(message)) => tracing::error!(offset = message.offset(), "record outside the queue of its partition"),
        Some(Err(problem)) => tracing::debug!(%problem, "consumer group"),
    }
}

/// Gives everything back and asks again: the way out of every state in which partitions cannot be read on.
fn rejoin(consumer: &GroupConsumer, topic: &str) {
    std::thread::sleep(REJOIN_PAUSE);
    tracing::warn!(topic, "joining the consumer group again");
    leave(consumer);
    if let Err(problem) = consumer.subscribe(&[topic]) {
        tracing::error!(topic, %problem, "consumer group not joined");
        consumer.context().rejoins.store(true, Ordering::Release);
    }
}

fn leave(consumer: &GroupConsumer) {
    consumer.unsubscribe();
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    while !consumer.context().lock().is_empty() && Instant::now() < deadline {
        turn(consumer);
    }
}

/// What a member holds. Called by librdkafka while its thread polls.
pub(super) struct Membership {
    log: KafkaLog,
    topic: Topic,
    name: String,
    readers: mpsc::Sender<KafkaReader>,
    held: Mutex<HashMap<i32, Arc<Slot>>>,
    own: OnceLock<Weak<GroupConsumer>>,
    rejoins: AtomicBool,
    /// Looks at ends that lay before what was read, since the last that did not.
    short_looks: AtomicU32,
}

impl Membership {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Arc<Slot>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition cannot be read on.
    pub(super) fn ask_again(&self) {
        self.rejoins.store(true, Ordering::Release);
    }

    /// Takes partitions over: finds where to start, gives each a queue of its own, starts fetching.
    fn take(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
        // None while the consumer is being dropped; then nobody reads.
        let Some(shared) = self.own.get().and_then(Weak::upgrade) else { return consumer.incremental_assign(partitions) };
        // A topic that was created again must not be read under the old identity: it would begin at 0 and look like old records.
        if !self.log.is_unchanged() {
            return Err(KafkaError::Subscription("the topics are not those this instance knows, or do not answer".to_owned()));
        }
        let mut readers = Vec::new();
        let (mut starts, mut unused) = (TopicPartitionList::new(), TopicPartitionList::new());
        let committed = consumer.committed_offsets(partitions.clone(), TIMEOUT)?;
        for element in committed.elements_for_topic(&self.name) {
            element.error()?;
            let partition = element.partition();
            if partition >= i32::from(self.log.limits().partitions(self.topic)) {
                // The topic has grown: see `admin`.
                unused.add_partition_offset(&self.name, partition, Offset::End)?;
                continue;
            }
            let (first, end) = consumer.fetch_watermarks(&self.name, partition, TIMEOUT)?;
            let committed = self.trusted(&element);
            let start = self.start(partition, committed, first..end)?;
            starts.add_partition_offset(&self.name, partition, Offset::Offset(start))?;
            let slot = Slot::open(&shared, &self.name, partition)?;
            readers.push(KafkaReader::new(self.log.clone(), self.topic, (committed, start), Arc::clone(&slot)));
            self.lock().insert(partition, slot);
        }
        consumer.incremental_assign(&starts)?;
        // A partition that was declined before is still paused.
        consumer.resume(&starts)?;
        if unused.count() > 0 {
            consumer.incremental_assign(&unused)?;
            consumer.pause(&unused)?;
        }
        for reader in readers {
            if self.readers.try_send(reader).is_err() {
                tracing::debug!(topic = self.name, "nobody waits for partitions any more");
            }
        }
        Ok(())
    }

    /// The offset committed, if it is one of this topic. One without a tag was set by an operator.
    fn trusted(&self, element: &TopicPartitionListElem<'_>) -> Option<i64> {
        let Offset::Offset(offset) = element.offset() else { return None };
        let tag = element.metadata();
        if tag.is_empty() || tag == self.log.topic_tag(self.topic) {
            return Some(offset);
        }
        let (topic, partition) = (&self.name, element.partition());
        tracing::error!(topic, partition, offset, "the committed offset is of a topic that was deleted: reading from the first held");
        None
    }

    /// Where reading starts. An error if the partition ends before what was read from it; if it does so again and again, the log
    /// ends: its offsets would come a second time.
    fn start(&self, partition: i32, committed: Option<i64>, held: Range<i64>) -> KafkaResult<i64> {
        let Some(committed) = committed else { return Ok(held.start) };
        if committed > held.end {
            let lost = LogError::lost_end(&self.name, u16::try_from(partition).unwrap_or(u16::MAX), (held.end, committed));
            let problem = KafkaError::Subscription(lost.to_string());
            // A replica that has just ceased to lead answers as if it still did.
            if self.short_looks.fetch_add(1, Ordering::AcqRel) + 1 >= SHORT_LOOKS {
                self.log.fail(lost);
            }
            return Err(problem);
        }
        self.short_looks.store(0, Ordering::Release);
        if committed < held.start {
            tell_lost(&self.name, partition, committed..held.start);
        }
        Ok(committed.max(held.start))
    }

    /// Ends the readers of partitions and forgets them.
    fn give_back(&self, consumer: &GroupConsumer, which: impl Fn(i32) -> bool) {
        if !consumer.assignment_lost() {
            self.commit(consumer, &which);
        }
        self.lock().retain(|partition, slot| {
            let goes = which(*partition);
            if goes {
                slot.close();
            }
            !goes
        });
    }

    /// Commits what readers have finished since the last time.
    fn commit(&self, consumer: &GroupConsumer, which: impl Fn(i32) -> bool) {
        let mut finished = TopicPartitionList::new();
        for (partition, slot) in self.lock().iter().filter(|(partition, _)| which(**partition)) {
            let Some(next_offset) = slot.take_finished() else { continue };
            let mut element = finished.add_partition(&self.name, *partition);
            element.set_metadata(self.log.topic_tag(self.topic));
            if let Err(problem) = element.set_offset(Offset::Offset(next_offset)) {
                tracing::error!(%problem, next_offset, "offset cannot be committed");
            }
        }
        if finished.count() > 0
            && let Err(problem) = consumer.commit(&finished, CommitMode::Async)
        {
            tracing::warn!(%problem, "offsets not committed");
        }
    }

    /// Answers the group although nothing can be read, so that it goes on; asks again later.
    fn decline(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
        self.give_back(consumer, |partition| partitions.find_partition(&self.name, partition).is_some());
        let mut unread = partitions.clone();
        unread.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(&unread)?;
        consumer.pause(&unread)?;
        self.ask_again();
        Ok(())
    }
}

/// Says that records are gone that the group had not read.
pub(super) fn tell_lost(topic: &str, partition: i32, lost: Range<i64>) {
    let count = u64::try_from(lost.end - lost.start).unwrap_or(0);
    Counter::LogOffsetsLost.add(count);
    tracing::error!(
        topic,
        partition,
        from = lost.start,
        to = lost.end,
        count,
        "kafka deleted records that were not read: reading on behind them"
    );
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &GroupConsumer, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(topic = self.name, partitions = ?numbers, "partitions assigned");
            self.take(consumer, partitions).or_else(|problem| {
                tracing::warn!(topic = self.name, %problem, "partitions cannot be read yet");
                self.decline(consumer, partitions)
            })
        } else {
            tracing::info!(topic = self.name, partitions = ?numbers, "partitions revoked");
            self.give_back(consumer, |partition| numbers.contains(&partition));
            consumer.incremental_unassign(partitions)
        };
        if let Err(problem) = done {
            tracing::warn!(topic = self.name, %problem, "the group was not answered");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // The next one brings them again.
            Err(problem) => tracing::warn!(%problem, "offsets not committed"),
        }
    }
}
