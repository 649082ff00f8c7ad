//! Partitions that the group has given to a member and that are not read yet: where each is to begin is asked on a thread of its own,
//! so that the member goes on in its group meanwhile, and again until it is known. One that cannot be asked holds up no other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::KafkaLog;
use super::client;
use super::consumer::{Membership, tell_lost};
use crate::log::outage::{Outage, Over};
use crate::log::{Log, LogError, Topic};

/// Longest wait for what the group had committed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before what could not be asked is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a partition may end before what was read of it until that is believed: a replica that has just ceased to lead answers as
/// if it still did.
const SHORT_LOOKS: u32 = 4;
/// Answers that wait to be taken: more than any topic has partitions.
const ANSWERS: usize = 1024;

/// Where a partition is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StartPosition {
    pub(super) committed: Option<i64>,
    pub(super) start: i64,
}

/// A partition that waits.
#[derive(Debug, Default)]
struct Waiting {
    /// Tells this assignment of it from earlier ones.
    number: u64,
    /// How often it ended before what was read of it.
    short_looks: u32,
    outage: Outage,
}

/// An answer about a partition: what was committed of it, and what is held.
struct Answer {
    partition: i32,
    number: u64,
    found: Result<(Option<i64>, Range<i64>), LogError>,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Begin(StartPosition),
    /// It ends before what was read of it.
    Short,
    /// The same, so often that it must be so.
    Lost,
}

/// The partitions that wait, and the question that is under way.
#[derive(Default)]
pub(super) struct Opening {
    waiting: BTreeMap<i32, Waiting>,
    count: u64,
    asked: Option<Receiver<Answer>>,
    not_before: Option<Instant>,
}

impl Opening {
    /// The group has given a partition to this member.
    pub(super) fn add(&mut self, partition: i32) {
        self.count += 1;
        self.waiting.insert(partition, Waiting { number: self.count, ..Waiting::default() });
    }

    /// The group has taken it away.
    pub(super) fn remove(&mut self, partition: i32) {
        self.waiting.remove(&partition);
    }

    /// Asks about all that wait, unless that is being done.
    pub(super) fn ask(&mut self, question: Question) {
        if self.waiting.is_empty() || self.asked.is_some() || self.not_before.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let (sender, answers) = sync_channel(ANSWERS);
        let partitions = self.waiting.iter().map(|(partition, waiting)| (*partition, waiting.number)).collect();
        let asking = std::thread::Builder::new().name("kafka-open".to_owned()).spawn(move || question.ask(partitions, &sender));
        match asking {
            Ok(_) => self.asked = Some(answers),
            Err(problem) => {
                tracing::warn!(%problem, "no thread to open partitions");
                self.not_before = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// The partitions of which it is known by now where they begin; they wait no longer.
    pub(super) fn found(&mut self, log: &KafkaLog, topic: &str) -> Vec<(i32, StartPosition)> {
        let mut found = Vec::new();
        while let Some(answers) = &self.asked {
            match answers.try_recv() {
                Ok(answer) => found.extend(self.take(answer, log, topic)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.asked = None;
                    self.not_before = (!self.waiting.is_empty()).then(|| Instant::now() + PAUSE);
                }
            }
        }
        found
    }

    fn take(&mut self, Answer { partition, number, found }: Answer, log: &KafkaLog, topic: &str) -> Option<(i32, StartPosition)> {
        let waiting = self.waiting.get_mut(&partition).filter(|waiting| waiting.number == number)?;
        let (committed, held) = match found {
            Ok(found) => found,
            Err(why) => {
                if waiting.outage.begins() {
                    tracing::warn!(topic, partition, %why, "partition cannot be read yet");
                }
                return None;
            }
        };
        match waiting.judge(committed, &held) {
            Verdict::Short => None,
            Verdict::Lost => {
                let read = committed.unwrap_or(held.end);
                log.fail(LogError::lost_end(topic, u16::try_from(partition).unwrap_or(u16::MAX), (held.end, read)));
                None
            }
            Verdict::Begin(place) => {
                if let Some(lost) = committed.filter(|committed| *committed < held.start).map(|committed| committed..held.start) {
                    tell_lost(topic, partition, lost);
                }
                if let Some(Over { failures, lasted }) = waiting.outage.ends() {
                    tracing::info!(topic, partition, failures, ?lasted, "partition can be read");
                }
                self.waiting.remove(&partition);
                Some((partition, place))
            }
        }
    }
}

impl Waiting {
    /// Where to begin. A partition that ends before what was read of it would give those offsets a second time.
    fn judge(&mut self, committed: Option<i64>, held: &Range<i64>) -> Verdict {
        if committed.is_some_and(|committed| committed > held.end) {
            self.short_looks += 1;
            return if self.short_looks < SHORT_LOOKS { Verdict::Short } else { Verdict::Lost };
        }
        let start = committed.map_or(held.start, |committed| committed.max(held.start));
        Verdict::Begin(StartPosition { committed, start })
    }
}

/// Who asks, and for which topic.
pub(super) struct Question {
    pub(super) consumer: Arc<BaseConsumer<Membership>>,
    pub(super) log: KafkaLog,
    pub(super) topic: Topic,
    pub(super) runtime: Handle,
}

impl Question {
    /// Sends an answer about each partition, as it comes.
    fn ask(self, partitions: Vec<(i32, u64)>, answers: &SyncSender<Answer>) {
        // Nobody may be waiting any more.
        let send = |(partition, number), found| drop(answers.send(Answer { partition, number, found }));
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

    /// What the group had committed of this very topic.
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
        let mut opening = Opening::default();
        (0..3).for_each(|partition| opening.add(partition));
        let mut verdicts = Vec::new();
        for _ in 0..SHORT_LOOKS {
            for (partition, held) in [(0, 0..50), (1, 0..10), (2, 0..50)] {
                verdicts.push((partition, opening.waiting.get_mut(&partition).unwrap().judge(Some(20), &held)));
            }
        }
        assert_eq!(verdicts.iter().filter(|(partition, verdict)| *partition == 1 && *verdict == Verdict::Short).count(), 3);
        assert_eq!(verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Lost).count(), 1);
        assert!(verdicts.contains(&(0, Verdict::Begin(StartPosition { committed: Some(20), start: 20 }))));
    }

    #[test]
    fn a_partition_begins_where_it_was_committed_or_behind_what_was_deleted() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.judge(None, &(3..9)), Verdict::Begin(StartPosition { committed: None, start: 3 }));
        assert_eq!(waiting.judge(Some(5), &(3..9)), Verdict::Begin(StartPosition { committed: Some(5), start: 5 }));
        assert_eq!(waiting.judge(Some(9), &(3..9)), Verdict::Begin(StartPosition { committed: Some(9), start: 9 }));
        assert_eq!(waiting.judge(Some(1), &(3..9)), Verdict::Begin(StartPosition { committed: Some(1), start: 3 }));
    }
}
