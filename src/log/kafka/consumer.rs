//! Consumer groups: which partitions this instance reads.
//!
//! Each [`KafkaMember`] has a thread of its own that keeps the group alive, takes and gives partitions, and commits once
//! in a while. The records of a partition go into a queue of that partition alone ([`super::reader`]), bounded by
//! librdkafka, so that one nobody reads holds up no other.
//!
//! A committed offset carries the id of its topic: one of a topic that was deleted since counts as none. May go wrong:
//! what was committed is no longer held. Then reading starts at what is, and the number of offsets lost is logged and
//! counted ([`Counter::LogOffsetsLost`]). A partition that cannot be read, when it is given to this member or later, is
//! tried again by itself ([`super::opening`]); the others are read on.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::KafkaLog;
use super::client;
use super::opening::{Opening, Question, StartPosition};
use super::reader::{KafkaReader, Slot};
use crate::log::outage::{Outage, Over};
use crate::log::{GroupMember, LogError, Topic};
use crate::metrics::Counter;

/// How long the thread waits for news at a time.
const POLL: Duration = Duration::from_millis(50);
/// How often finished offsets are committed.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Longest time a member waits until the group has taken its partitions back.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
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
            opening: Mutex::default(),
            unread: Mutex::default(),
            commits: Mutex::default(),
        };
        let failed = |problem: KafkaError| client::unavailable("joining a consumer group", &problem);
        let consumer = BaseConsumer::from_config_and_context(&log.limits().member(group), membership).map_err(failed)?;
        let consumer = Arc::new(consumer);
        consumer.subscribe(&[&consumer.context().name]).map_err(failed)?;
        let (stay, left) = sync_channel(0);
        let thread = std::thread::Builder::new().name(format!("kafka-{group}"));
        let runtime = Handle::current();
        let thread = thread.spawn(move || attend(&consumer, &runtime, &left));
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
fn attend(consumer: &Arc<GroupConsumer>, runtime: &Handle, left: &Receiver<()>) {
    let membership = Arc::clone(consumer.context());
    let mut commit_at = Instant::now() + COMMIT_PAUSE;
    while left.try_recv() == Err(TryRecvError::Empty) && !membership.log.has_ended() {
        turn(consumer);
        if Instant::now() >= commit_at {
            membership.commit(consumer, |_| true);
            commit_at = Instant::now() + COMMIT_PAUSE;
        }
        membership.put_back(consumer);
        membership.open(consumer, runtime);
    }
    leave(consumer);
    membership.give_back(consumer, |_| true);
}

fn turn(consumer: &GroupConsumer) {
    match consumer.poll(POLL) {
        None => {}
        // Every partition has a queue of its own; its reader finds the gap and goes back for it.
        Some(Ok(message)) => tracing::error!(offset = message.offset(), "record outside the queue of its partition"),
        Some(Err(problem)) => tracing::debug!(%problem, "consumer group"),
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
    /// Given to this member, but not read yet.
    opening: Mutex<Opening>,
    /// Held, but their readers cannot go on.
    unread: Mutex<BTreeSet<i32>>,
    commits: Mutex<Outage>,
}

impl Membership {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Arc<Slot>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unread(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition cannot be read on.
    pub(super) fn ask_again(&self, partition: i32) {
        self.unread().insert(partition);
    }

    /// Ends the readers that cannot go on, and lets their partitions be opened again.
    fn put_back(&self, consumer: &GroupConsumer) {
        let unread = std::mem::take(&mut *self.unread());
        let held = self.give_back(consumer, |partition| unread.contains(&partition));
        if held.count() == 0 {
            return;
        }
        if let Err(problem) = consumer.incremental_unassign(&held) {
            tracing::warn!(topic = self.name, %problem, "partitions not put back");
        }
        held.elements().iter().for_each(|element| self.opening().add(element.partition()));
    }

    /// Asks where partitions begin that wait, and begins to read those of which it is known.
    fn open(&self, consumer: &Arc<GroupConsumer>, runtime: &Handle) {
        let found = self.opening().found(&self.log, &self.name);
        for (partition, place) in found {
            if let Err(problem) = self.begin(consumer, partition, place) {
                tracing::warn!(topic = self.name, partition, %problem, "partition not opened");
                self.opening().add(partition);
            }
        }
        let (consumer, log, runtime) = (Arc::clone(consumer), self.log.clone(), runtime.clone());
        self.opening().ask(Question { consumer, log, topic: self.topic, runtime });
    }

    /// Gives a partition a queue of its own and starts fetching.
    fn begin(&self, consumer: &Arc<GroupConsumer>, partition: i32, StartPosition { committed, start }: StartPosition) -> KafkaResult<()> {
        let slot = Slot::open(consumer, &self.name, partition)?;
        let mut begins = TopicPartitionList::new();
        begins.add_partition_offset(&self.name, partition, Offset::Offset(start))?;
        consumer.incremental_assign(&begins)?;
        let reader = KafkaReader::new(self.log.clone(), self.topic, (committed, start), Arc::clone(&slot));
        self.lock().insert(partition, slot);
        if self.readers.try_send(reader).is_err() {
            tracing::debug!(topic = self.name, "nobody waits for partitions any more");
        }
        Ok(())
    }

    /// Ends the readers of partitions and forgets them; returns those that were held.
    fn give_back(&self, consumer: &GroupConsumer, which: impl Fn(i32) -> bool) -> TopicPartitionList {
        if !consumer.assignment_lost() {
            self.commit(consumer, &which);
        }
        let mut given = TopicPartitionList::new();
        self.lock().retain(|partition, slot| {
            let goes = which(*partition);
            if goes {
                slot.close();
                given.add_partition(&self.name, *partition);
            }
            !goes
        });
        given
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
            self.tell_commit(Err(&problem));
        }
    }

    fn tell_commit(&self, committed: Result<(), &KafkaError>) {
        let mut outage = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            Ok(()) => {
                if let Some(Over { failures, lasted }) = outage.ends() {
                    tracing::info!(topic = self.name, failures, ?lasted, "offsets are committed again");
                }
            }
            // The next one brings them again.
            Err(problem) if outage.begins() => tracing::warn!(topic = self.name, %problem, "offsets not committed"),
            Err(_) => {}
        }
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
        client::log_follower(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &GroupConsumer, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if !numbers.is_empty() {
                tracing::info!(topic = self.name, partitions = ?numbers, "partitions assigned");
            }
            // Beyond those that are used the topic has grown: see `admin`.
            let used = i32::from(self.log.limits().partitions(self.topic));
            numbers.into_iter().filter(|number| *number < used).for_each(|number| self.opening().add(number));
            // Each is assigned to the client once it is known where it begins.
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            tracing::info!(topic = self.name, partitions = ?numbers, "partitions revoked");
            numbers.iter().for_each(|number| self.opening().remove(*number));
            let held = self.give_back(consumer, |partition| numbers.contains(&partition));
            consumer.incremental_unassign(&held)
        };
        if let Err(problem) = done {
            tracing::warn!(topic = self.name, %problem, "the group was not answered");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) => self.tell_commit(Ok(())),
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(problem) => self.tell_commit(Err(&problem)),
        }
    }
}
