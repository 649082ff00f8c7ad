//! The partitions that a consumer group has assigned to this instance, from assignment to revocation.
//!
//! [`Membership`] is the context of the group's consumer: librdkafka calls it on a rebalance, the thread of the member between
//! two polls. Each partition has a fetch queue of its own ([`AssignedPartition`]), so that an unread one holds up no other.
//! May go wrong: a partition cannot be read, at once or later. It is then opened again by itself; the others are read on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::KafkaLog;
use super::client;
use super::start_offsets::{StartOffsets, StartPosition, StartQuery};
use crate::log::{Record, Topic};
use crate::outage::{Outage, Over};

/// Longest time a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// The consumer of a group.
pub(super) type GroupConsumer = BaseConsumer<Membership>;

/// A partition to be read, and from where on.
pub(super) struct Assignment {
    pub(super) start: StartPosition,
    pub(super) partition: Arc<AssignedPartition>,
}

/// The queue of an assigned partition, shared by its reader and the member. Closed on revocation; the same partition assigned
/// again gets another one, so that an old reader takes nothing from a new one.
pub(super) struct AssignedPartition {
    pub(super) topic: Topic,
    pub(super) topic_name: String,
    pub(super) number: i32,
    pub(super) nonempty: Arc<Notify>,
    pub(super) revoked: CancellationToken,
    fetch: Mutex<Option<Fetch>>,
    finished: Mutex<Finished>,
}

/// Up to where a partition is finished, by offsets.
#[derive(Debug, Default)]
struct Finished {
    /// What is to be committed.
    next_offset: Option<i64>,
    /// What was to be committed last.
    sent: Option<i64>,
}

impl Finished {
    /// What is to be committed, once.
    fn take(&mut self) -> Option<i64> {
        let next_offset = self.next_offset.take()?;
        self.sent = Some(next_offset);
        Some(next_offset)
    }

    /// Keeps what could not be committed for another try, unless more was finished since: a topic that is quiet from now on would else stay
    /// behind for good.
    fn give_back(&mut self, next_offset: i64) {
        if self.sent == Some(next_offset) {
            self.next_offset.get_or_insert(next_offset);
        }
    }
}

/// Where records come from, as long as the partition is assigned.
struct Fetch {
    queue: PartitionQueue<Membership>,
    consumer: Arc<GroupConsumer>,
}

/// What a poll of the queue gave.
pub(super) enum PollResult {
    Records(Vec<Record>),
    Empty,
    /// The next record is not the one expected.
    Gap,
    Failed(KafkaError),
}

/// What a poll asks for.
pub(super) struct Poll {
    pub(super) next_offset: i64,
    /// Nothing was read since the last seek: the first record may lie behind `next_offset`, if Kafka holds none before.
    pub(super) is_fresh: bool,
    pub(super) max_bytes: usize,
}

impl AssignedPartition {
    /// Gives the partition a queue of its own; to be called before fetching starts.
    fn open(consumer: &Arc<GroupConsumer>, number: i32) -> KafkaResult<Arc<Self>> {
        let (topic, name) = (consumer.context().topic, consumer.context().name.clone());
        let missing = || KafkaError::Subscription(format!("partition {number} has no queue"));
        let mut queue = consumer.split_partition_queue(&name, number).ok_or_else(missing)?;
        let nonempty = Arc::new(Notify::new());
        let notify = Arc::clone(&nonempty);
        queue.set_nonempty_callback(move || notify.notify_one());
        Ok(Arc::new(Self {
            topic,
            topic_name: name,
            number,
            nonempty,
            revoked: CancellationToken::new(),
            fetch: Mutex::new(Some(Fetch { queue, consumer: Arc::clone(consumer) })),
            finished: Mutex::default(),
        }))
    }

    fn close(&self) {
        self.revoked.cancel();
        self.fetch().take();
    }

    fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything below `next_offset` is finished; committed soon.
    pub(super) fn finish(&self, next_offset: i64) {
        self.finished().next_offset = Some(next_offset);
    }

    fn fetch(&self) -> MutexGuard<'_, Option<Fetch>> {
        self.fetch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the records that were fetched. Never waits.
    pub(super) fn poll(&self, Poll { mut next_offset, is_fresh, max_bytes }: Poll) -> PollResult {
        let fetch = self.fetch();
        let Some(Fetch { queue, .. }) = &*fetch else { return PollResult::Empty };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes {
            let message = match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => message,
                // The records before it are returned first; the seek that follows meets the error again.
                Some(Err(_)) if !records.is_empty() => break,
                Some(Err(problem)) => return PollResult::Failed(problem),
            };
            let offset = message.offset();
            if offset < next_offset {
                continue;
            }
            if offset > next_offset && !(is_fresh && records.is_empty()) {
                return if records.is_empty() { PollResult::Gap } else { PollResult::Records(records) };
            }
            let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
            bytes += payload.len();
            next_offset = offset + 1;
            records.push(Record { offset, payload });
        }
        if records.is_empty() { PollResult::Empty } else { PollResult::Records(records) }
    }

    /// Continues fetching at `offset`. Blocks.
    pub(super) fn seek(&self, offset: i64) -> KafkaResult<()> {
        // Not under the lock: it takes a while.
        let Some(consumer) = self.fetch().as_ref().map(|fetch| Arc::clone(&fetch.consumer)) else { return Ok(()) };
        consumer.seek(&self.topic_name, self.number, Offset::Offset(offset), SEEK_TIMEOUT)
    }

    /// Has the member close this partition, which cannot be read on, and open it again.
    pub(super) fn request_reopen(&self) {
        if let Some(fetch) = &*self.fetch() {
            fetch.consumer.context().unreadable().insert(self.number);
        }
    }
}

/// What the group has assigned to a member.
pub(super) struct Membership {
    log: KafkaLog,
    topic: Topic,
    name: String,
    assignments: mpsc::Sender<Assignment>,
    open: Mutex<HashMap<i32, Arc<AssignedPartition>>>,
    /// Assigned, but not read yet.
    start_offsets: Mutex<StartOffsets>,
    /// Open, but their readers cannot go on.
    unreadable: Mutex<BTreeSet<i32>>,
    commits: Mutex<Outage>,
}

impl Membership {
    pub(super) fn new(log: KafkaLog, topic: Topic, assignments: mpsc::Sender<Assignment>) -> Self {
        Self {
            name: log.topic_name(topic),
            log,
            topic,
            assignments,
            open: Mutex::default(),
            start_offsets: Mutex::default(),
            unreadable: Mutex::default(),
            commits: Mutex::default(),
        }
    }

    pub(super) fn topic_name(&self) -> &str {
        &self.name
    }

    pub(super) fn log_has_ended(&self) -> bool {
        self.log.has_ended()
    }

    /// Whether no partition is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open().is_empty()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i32, Arc<AssignedPartition>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_offsets(&self) -> MutexGuard<'_, StartOffsets> {
        self.start_offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the partitions that cannot be read on, and lets them be opened again.
    pub(super) fn park_unreadable(&self, consumer: &GroupConsumer) {
        let unreadable = std::mem::take(&mut *self.unreadable());
        let parked = self.close(consumer, |partition| unreadable.contains(&partition));
        if parked.count() == 0 {
            return;
        }
        if let Err(problem) = consumer.incremental_unassign(&parked) {
            tracing::warn!(topic = self.name, %problem, "unreadable partitions not unassigned");
        }
        parked.elements().iter().for_each(|element| self.start_offsets().add(element.partition()));
    }

    /// Opens the partitions whose start is known by now, and asks for the start of the others.
    pub(super) fn open_pending(&self, consumer: &Arc<GroupConsumer>, runtime: &Handle) {
        let found = self.start_offsets().found(&self.log, &self.name);
        for (partition, start) in found {
            if let Err(problem) = self.start_fetching(consumer, partition, start) {
                tracing::warn!(topic = self.name, partition, %problem, "partition not opened");
                self.start_offsets().add(partition);
            }
        }
        let (consumer, log, runtime) = (Arc::clone(consumer), self.log.clone(), runtime.clone());
        self.start_offsets().ask(StartQuery { consumer, log, topic: self.topic, runtime });
    }

    fn start_fetching(&self, consumer: &Arc<GroupConsumer>, number: i32, start: StartPosition) -> KafkaResult<()> {
        let partition = AssignedPartition::open(consumer, number)?;
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(&self.name, number, Offset::Offset(start.start))?;
        consumer.incremental_assign(&positions)?;
        self.open().insert(number, Arc::clone(&partition));
        if self.assignments.try_send(Assignment { start, partition }).is_err() {
            tracing::debug!(topic = self.name, "the member is gone, this partition is not read");
        }
        Ok(())
    }

    /// Ends the readers of partitions, commits what they had finished, and returns those that were open.
    pub(super) fn close(&self, consumer: &GroupConsumer, which: impl Fn(i32) -> bool) -> TopicPartitionList {
        if !consumer.assignment_lost() {
            self.commit(consumer, &which);
        }
        let mut closed = TopicPartitionList::new();
        self.open().retain(|number, partition| {
            let goes = which(*number);
            if goes {
                partition.close();
                closed.add_partition(&self.name, *number);
            }
            !goes
        });
        closed
    }

    /// Commits what readers have finished since the last time.
    pub(super) fn commit(&self, consumer: &GroupConsumer, which: impl Fn(i32) -> bool) {
        let mut finished = TopicPartitionList::new();
        for (number, partition) in self.open().iter().filter(|(number, _)| which(**number)) {
            let Some(next_offset) = partition.finished().take() else { continue };
            let mut element = finished.add_partition(&self.name, *number);
            element.set_metadata(self.log.topic_tag(self.topic));
            if let Err(problem) = element.set_offset(Offset::Offset(next_offset)) {
                tracing::error!(%problem, next_offset, "offset cannot be committed");
            }
        }
        if finished.count() > 0
            && let Err(problem) = consumer.commit(&finished, CommitMode::Async)
        {
            self.not_committed(&finished, &problem);
        }
    }

    fn not_committed(&self, finished: &TopicPartitionList, problem: &KafkaError) {
        let open = self.open();
        for element in finished.elements() {
            if let (Some(partition), Offset::Offset(next_offset)) = (open.get(&element.partition()), element.offset()) {
                partition.finished().give_back(next_offset);
            }
        }
        drop(open);
        self.report_commit(Err(problem));
    }

    fn report_commit(&self, committed: Result<(), &KafkaError>) {
        let mut outage = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            Ok(()) => {
                if let Some(Over { failures, lasted }) = outage.ends() {
                    tracing::info!(topic = self.name, failures, ?lasted, "offsets are committed again");
                }
            }
            Err(problem) if outage.begins() => tracing::warn!(topic = self.name, %problem, "offsets not committed"),
            Err(_) => {}
        }
    }

    fn on_assign(&self, consumer: &GroupConsumer, numbers: Vec<i32>) -> KafkaResult<()> {
        if !numbers.is_empty() {
            tracing::info!(topic = self.name, partitions = ?numbers, "partitions assigned");
        }
        // A topic that has grown has more partitions than are used: see `admin`.
        let used = i32::from(self.log.limits().partitions(self.topic));
        numbers.into_iter().filter(|number| *number < used).for_each(|number| self.start_offsets().add(number));
        // Each is assigned to the client once it is known where it begins.
        consumer.incremental_assign(&TopicPartitionList::new())
    }

    fn on_revoke(&self, consumer: &GroupConsumer, numbers: &[i32]) -> KafkaResult<()> {
        tracing::info!(topic = self.name, partitions = ?numbers, "partitions revoked");
        numbers.iter().for_each(|number| self.start_offsets().remove(*number));
        let closed = self.close(consumer, |partition| numbers.contains(&partition));
        consumer.incremental_unassign(&closed)
    }
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
            self.on_assign(consumer, numbers)
        } else {
            self.on_revoke(consumer, &numbers)
        };
        if let Err(problem) = done {
            tracing::warn!(topic = self.name, %problem, "rebalance not confirmed to the group");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, finished: &TopicPartitionList) {
        match result {
            Ok(()) => self.report_commit(Ok(())),
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(problem) => self.not_committed(finished, &problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_committed_is_tried_again_unless_more_is_finished() {
        let mut finished = Finished { next_offset: Some(7), sent: None };
        assert_eq!((finished.take(), finished.take()), (Some(7), None));
        finished.give_back(7);
        assert_eq!((finished.take(), finished.take()), (Some(7), None));
        finished.next_offset = Some(9);
        finished.give_back(7);
        assert_eq!(finished.take(), Some(9));
        // Answered late: behind it is what was sent since.
        finished.give_back(7);
        assert_eq!(finished.take(), None);
    }
}
