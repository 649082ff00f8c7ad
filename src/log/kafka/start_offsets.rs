//! Where newly assigned partitions begin.
//!
//! Committed offset and bounds of each are asked for on a thread of its own, so that the member stays in its group meanwhile, and
//! again until they are known. A partition that does not answer holds up no other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::KafkaLog;
use super::client;
use crate::log::{Log, LogError, Topic};
use crate::outage::{Outage, Over};

/// Longest wait for committed offsets.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a query that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row a partition must end before its committed offset to count as truncated: a replica that has just ceased to lead
/// answers as if it still did.
const SHORT_ENDS: u32 = 4;
/// Answers that wait to be taken: more than any topic has partitions.
const MAX_ANSWERS: usize = 1024;

/// Where a partition is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StartPosition {
    pub(super) committed: Option<i64>,
    pub(super) start: i64,
}

/// An assigned partition whose start is not known yet.
#[derive(Debug, Default)]
struct PendingPartition {
    /// Tells this assignment of it from earlier ones.
    assignment: u64,
    /// How often it ended before its committed offset.
    short_ends: u32,
    outage: Outage,
}

/// Committed offset and bounds of a partition.
struct StartAnswer {
    partition: i32,
    assignment: u64,
    found: Result<(Option<i64>, Range<i64>), LogError>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    At(StartPosition),
    /// The partition ends before its committed offset: ask again.
    Short,
    /// It did so often enough: it lost records.
    Lost,
}

/// The partitions whose start is not known yet, and the query under way.
#[derive(Default)]
pub(super) struct StartOffsets {
    pending: BTreeMap<i32, PendingPartition>,
    count: u64,
    asked: Option<Receiver<StartAnswer>>,
    retry_at: Option<Instant>,
}

impl StartOffsets {
    /// The group has assigned a partition.
    pub(super) fn add(&mut self, partition: i32) {
        self.count += 1;
        self.pending.insert(partition, PendingPartition { assignment: self.count, ..PendingPartition::default() });
    }

    /// The group has revoked it.
    pub(super) fn remove(&mut self, partition: i32) {
        self.pending.remove(&partition);
    }

    /// Starts a query about all that are pending, unless one is under way.
    pub(super) fn ask<C: ConsumerContext + 'static>(&mut self, query: StartQuery<C>) {
        if self.pending.is_empty() || self.asked.is_some() || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let (sender, answers) = sync_channel(MAX_ANSWERS);
        let partitions = self.pending.iter().map(|(partition, pending)| (*partition, pending.assignment)).collect();
        let asking = std::thread::Builder::new().name("kafka-start".to_owned()).spawn(move || query.run(partitions, &sender));
        match asking {
            Ok(_) => self.asked = Some(answers),
            Err(problem) => {
                tracing::warn!(%problem, "no thread to open partitions");
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
            }
        }
    }

    /// Takes the partitions whose start is known by now.
    pub(super) fn found(&mut self, log: &KafkaLog, topic: &str) -> Vec<(i32, StartPosition)> {
        let mut found = Vec::new();
        while let Some(answers) = &self.asked {
            match answers.try_recv() {
                Ok(answer) => found.extend(self.take(answer, log, topic)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.asked = None;
                    self.retry_at = (!self.pending.is_empty()).then(|| Instant::now() + RETRY_PAUSE);
                }
            }
        }
        found
    }

    fn take(
        &mut self,
        StartAnswer { partition, assignment, found }: StartAnswer,
        log: &KafkaLog,
        topic: &str,
    ) -> Option<(i32, StartPosition)> {
        let pending = self.pending.get_mut(&partition).filter(|pending| pending.assignment == assignment)?;
        let (committed, held) = match found {
            Ok(found) => found,
            Err(why) => {
                if pending.outage.begins() {
                    tracing::warn!(topic, partition, %why, "partition cannot be read yet");
                }
                return None;
            }
        };
        match pending.resolve(committed, &held) {
            Start::Short => None,
            Start::Lost => {
                let read = committed.unwrap_or(held.end);
                log.fail(LogError::lost_end(topic, u16::try_from(partition).unwrap_or(u16::MAX), held.end, read));
                None
            }
            Start::At(position) => {
                if let Some(lost) = committed.filter(|committed| *committed < held.start).map(|committed| committed..held.start) {
                    client::report_lost_offsets(topic, partition, lost);
                }
                if let Some(Over { failures, lasted }) = pending.outage.ends() {
                    tracing::info!(topic, partition, failures, ?lasted, "partition can be read");
                }
                self.pending.remove(&partition);
                Some((partition, position))
            }
        }
    }
}

impl PendingPartition {
    /// Where to begin. A partition that ends before its committed offset would give those offsets a second time.
    fn resolve(&mut self, committed: Option<i64>, held: &Range<i64>) -> Start {
        if committed.is_some_and(|committed| committed > held.end) {
            self.short_ends += 1;
            return if self.short_ends < SHORT_ENDS { Start::Short } else { Start::Lost };
        }
        let start = committed.map_or(held.start, |committed| committed.max(held.start));
        Start::At(StartPosition { committed, start })
    }
}

/// Asks for committed offsets and bounds.
pub(super) struct StartQuery<C: ConsumerContext + 'static> {
    pub(super) consumer: Arc<BaseConsumer<C>>,
    pub(super) log: KafkaLog,
    pub(super) topic: Topic,
    pub(super) runtime: Handle,
}

impl<C: ConsumerContext + 'static> StartQuery<C> {
    /// Sends an answer about each partition, as it comes.
    fn run(self, partitions: Vec<(i32, u64)>, answers: &SyncSender<StartAnswer>) {
        // The member may be gone.
        let send = |(partition, assignment), found| drop(answers.send(StartAnswer { partition, assignment, found }));
        let committed = match self.committed(&partitions) {
            Ok(committed) => committed,
            Err(why) => return partitions.into_iter().for_each(|asked| send(asked, Err(why.clone()))),
        };
        let bounds = async |asked: (i32, u64)| (asked, self.log.bounds(self.topic, u16::try_from(asked.0).unwrap_or(u16::MAX)).await);
        let mut bounds: FuturesUnordered<_> = partitions.into_iter().map(bounds).collect();
        self.runtime.block_on(async {
            while let Some((asked, held)) = bounds.next().await {
                send(asked, held.map(|held| (committed.get(&asked.0).copied(), held)));
            }
        });
    }

    /// The offsets that the group committed, without those of a deleted topic of the same name.
    fn committed(&self, partitions: &[(i32, u64)]) -> Result<BTreeMap<i32, i64>, LogError> {
        // A topic that was created again must not be read under the old identity: it would begin at 0 and look like old records.
        if !self.log.is_unchanged() {
            return Err(LogError::Unavailable("the topics are not those this instance knows, or do not answer".to_owned()));
        }
        let name = self.log.topic_name(self.topic);
        let mut asked = TopicPartitionList::new();
        for (partition, _) in partitions {
            asked.add_partition(&name, *partition);
        }
        let failed = |problem| client::unavailable("asking for what was committed", &problem);
        let committed = self.consumer.committed_offsets(asked, TIMEOUT).map_err(failed)?;
        let mut trusted = BTreeMap::new();
        for element in committed.elements_for_topic(&name) {
            element.error().map_err(failed)?;
            let Offset::Offset(offset) = element.offset() else { continue };
            let (tag, partition) = (element.metadata(), element.partition());
            // One without a tag was set by an operator.
            if tag.is_empty() || tag == self.log.topic_tag(self.topic) {
                trusted.insert(partition, offset);
            } else {
                let topic = &name;
                tracing::error!(
                    topic,
                    partition,
                    offset,
                    "the committed offset is of a topic that was deleted: reading from the first held"
                );
            }
        }
        Ok(trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_ends_before_what_was_read_is_lost_whatever_its_neighbours_are() {
        let mut starts = StartOffsets::default();
        (0..3).for_each(|partition| starts.add(partition));
        let mut found = Vec::new();
        for _ in 0..SHORT_ENDS {
            for (partition, held) in [(0, 0..50), (1, 0..10), (2, 0..50)] {
                found.push((partition, starts.pending.get_mut(&partition).unwrap().resolve(Some(20), &held)));
            }
        }
        assert_eq!(found.iter().filter(|(partition, start)| *partition == 1 && *start == Start::Short).count(), 3);
        assert_eq!(found.iter().filter(|(_, start)| *start == Start::Lost).count(), 1);
        assert!(found.contains(&(0, Start::At(StartPosition { committed: Some(20), start: 20 }))));
    }

    #[test]
    fn a_partition_begins_where_it_was_committed_or_behind_what_was_deleted() {
        let mut pending = PendingPartition::default();
        assert_eq!(pending.resolve(None, &(3..9)), Start::At(StartPosition { committed: None, start: 3 }));
        assert_eq!(pending.resolve(Some(5), &(3..9)), Start::At(StartPosition { committed: Some(5), start: 5 }));
        assert_eq!(pending.resolve(Some(9), &(3..9)), Start::At(StartPosition { committed: Some(9), start: 9 }));
        assert_eq!(pending.resolve(Some(1), &(3..9)), Start::At(StartPosition { committed: Some(1), start: 3 }));
    }
}
