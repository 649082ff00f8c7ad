//! Whether the topics are still the same, and whether they can be written: every broker is asked, again and again.
//!
//! Each broker says what it believes, and one that was cut off or has just come back believes what was. So what most of those say
//! that answer is taken. A partition can be written while its leader answers and enough of its copies are at brokers that do: who is
//! dead or cut off is counted long after, where those that would have to notice are gone as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::OpenError;
use super::admin::{Admin, Prepared, TopicIds, surplus};
use super::identity::{Described, TopicDescriptions};
use crate::log::Topic;

/// What was seen of the topics.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TopicCheck {
    /// They are the same; which raw partitions can be written, as far as can be seen.
    Same(Vec<bool>),
    /// One is not the same any more.
    Changed(String),
}

/// Looks at the topics.
pub(super) struct Watch {
    admin: Arc<Admin>,
    prepared: Prepared,
    /// The partitions of each topic when they were last spoken of.
    reported: [AtomicUsize; Topic::ALL.len()],
}

impl Watch {
    pub(super) fn new(admin: Arc<Admin>, prepared: Prepared) -> Self {
        let reported = Topic::ALL.map(|topic| AtomicUsize::new(usize::from(admin.limits().partitions(topic))));
        Self { admin, prepared, reported }
    }

    pub(super) fn ids(&self) -> &TopicIds {
        &self.prepared.ids
    }

    /// Asks every broker. An error if none answers. Blocks.
    pub(super) fn check(&self) -> Result<TopicCheck, OpenError> {
        let answers = self.admin.ask_all()?;
        if let Some(at) = self.changed(&answers) {
            return Ok(TopicCheck::Changed(at));
        }
        self.report_growth(&answers);
        let limits = self.admin.limits();
        let used = usize::from(limits.partitions(Topic::Raw));
        Ok(TopicCheck::Same((0..used).map(|partition| can_be_written(&answers, partition, self.prepared.required)).collect()))
    }

    /// Whether the topics are still the same, as the first broker says that answers, or else most of them. Blocks.
    pub(super) fn is_same(&self) -> Result<TopicCheck, OpenError> {
        let answers = self.admin.ask()?;
        match self.changed(&answers) {
            None => Ok(TopicCheck::Same(Vec::new())),
            Some(_) => self.check(),
        }
    }

    fn changed(&self, answers: &[(i32, TopicDescriptions)]) -> Option<String> {
        let at = changed(answers, &self.prepared.ids)?;
        let name = self.admin.limits().topic_name(*Topic::ALL.get(at)?);
        let is_there = answers.iter().any(|(_, said)| said.get(at).is_some_and(Option::is_some));
        Some(if is_there { format!("topic {name} was deleted and created again") } else { format!("topic {name} was deleted") })
    }

    fn report_growth(&self, answers: &[(i32, TopicDescriptions)]) {
        for ((at, topic), reported) in Topic::ALL.into_iter().enumerate().zip(&self.reported) {
            let found =
                answers.iter().filter_map(|(_, said)| said.get(at)?.as_ref()).map(|found| found.partitions.len()).max().unwrap_or(0);
            if found > reported.fetch_max(found, Ordering::Relaxed) {
                let limits = self.admin.limits();
                tracing::error!("{}", surplus(&limits.topic_name(topic), found, usize::from(limits.partitions(topic))));
            }
        }
    }
}

/// The first topic that is another one, as more brokers say than not.
fn changed(answers: &[(i32, TopicDescriptions)], ids: &TopicIds) -> Option<usize> {
    ids.iter().enumerate().find_map(|(at, id)| {
        let same = answers.iter().filter(|(_, said)| said.get(at).is_some_and(|said| said.as_ref().is_some_and(|said| said.id == *id)));
        (2 * same.count() < answers.len()).then_some(at)
    })
}

/// Whether a raw partition can be written, as more brokers say than not.
fn can_be_written(answers: &[(i32, TopicDescriptions)], partition: usize, required: usize) -> bool {
    let answers_now = |broker: &i32| answers.iter().any(|(answered, _)| answered == broker);
    let believes = |raw: &Described| {
        raw.partitions.get(partition).is_some_and(|found| {
            found.leader.as_ref().is_some_and(answers_now) && found.in_sync.iter().filter(|broker| answers_now(broker)).count() >= required
        })
    };
    let believers = answers.iter().filter(|(_, said)| said.get(Topic::Raw as usize).is_some_and(|raw| raw.as_ref().is_some_and(believes)));
    2 * believers.count() > answers.len()
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Partition, TopicId};
    use super::*;

    fn ids() -> TopicIds {
        [1, 2, 3].map(TopicId::of)
    }

    /// What a broker says whose raw topic has the id and the partition.
    fn said(raw: Option<u128>, leader: i32, in_sync: &[i32]) -> TopicDescriptions {
        let partition = Partition { leader: Some(leader), in_sync: in_sync.to_vec() };
        let others = [2, 3].map(|id| Some(Described { id: TopicId::of(id), partitions: Vec::new() }));
        let raw = raw.map(|id| Described { id: TopicId::of(id), partitions: vec![partition] });
        std::iter::once(raw).chain(others).collect()
    }

    #[test]
    fn a_topic_is_another_one_when_most_brokers_say_so() {
        let (same, gone, other) = (said(Some(1), 1, &[1]), said(None, 1, &[1]), said(Some(9), 1, &[1]));
        let of = |said: &[&TopicDescriptions]| changed(&said.iter().map(|said| (0, (*said).clone())).collect::<Vec<_>>(), &ids());
        assert_eq!(of(&[&same]), None);
        assert_eq!(of(&[&gone]), Some(0));
        assert_eq!(of(&[&same, &gone]), None, "one may lag behind");
        assert_eq!(of(&[&same, &gone, &other]), Some(0));
        assert_eq!(of(&[&same, &gone, &same]), None);
    }

    #[test]
    fn a_partition_can_be_written_while_its_leader_and_enough_of_its_copies_answer() {
        let all = said(Some(1), 1, &[1, 2, 3]);
        let of = |brokers: &[i32], said: &TopicDescriptions| {
            can_be_written(&brokers.iter().map(|broker| (*broker, said.clone())).collect::<Vec<_>>(), 0, 2)
        };
        assert!(of(&[1, 2, 3], &all));
        assert!(of(&[1, 3], &all));
        assert!(!of(&[2, 3], &all), "the leader is gone, and no other is chosen yet");
        assert!(!of(&[1], &all), "nobody is left to notice that the others are gone");
        assert!(!of(&[1, 2, 3], &said(Some(1), 1, &[1])), "the others are behind");
        assert!(!of(&[1, 2, 3], &said(Some(1), -1, &[1, 2])));
    }
}
