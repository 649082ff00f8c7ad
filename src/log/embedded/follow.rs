//! Following a topic without a group: records are read from memory or from files as by any reader, so a follower holds nothing of
//! its own and retention does not wait for it.

use tokio::sync::watch;

use super::EmbeddedLog;
use crate::log::{Followed, Log, LogError, ReadRequest, Topic, TopicFollower};

/// Bytes of records that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// A follower of a topic of an [`EmbeddedLog`].
#[derive(Debug)]
pub struct EmbeddedFollower {
    log: EmbeddedLog,
    topic: Topic,
    tails: Vec<Tail>,
    /// The partition whose turn it is: no busy one keeps the others waiting.
    turn: usize,
}

/// How far one partition was read.
#[derive(Debug)]
struct Tail {
    partition: u16,
    next_offset: i64,
    end: watch::Receiver<i64>,
}

impl EmbeddedFollower {
    pub(super) fn new(log: EmbeddedLog, topic: Topic) -> Self {
        let of_topic = log.store().partitions().filter(|(of, _)| *of == topic);
        let tails = of_topic.map(|(_, partition)| {
            let end = partition.watch_end();
            let next_offset = *end.borrow();
            Tail { partition: partition.location.partition, next_offset, end }
        });
        let tails = tails.collect();
        Self { log, topic, tails, turn: 0 }
    }

    /// The next partition that has records not read yet. Marks the ends that it looked at as seen.
    fn with_records(&mut self) -> Option<usize> {
        let count = self.tails.len();
        let at = (0..count).map(|step| (self.turn + step) % count).find(|at| {
            let tail = self.tails.get_mut(*at);
            tail.is_some_and(|tail| tail.next_offset < *tail.end.borrow_and_update())
        })?;
        self.turn = at + 1;
        Some(at)
    }

    /// Waits until a partition has grown.
    async fn grown(&mut self) {
        let changes = self.tails.iter_mut().map(|tail| Box::pin(tail.end.changed()));
        // The log keeps the sending sides, so `changed` cannot fail here.
        let _ = futures_util::future::select_all(changes).await;
    }
}

impl Tail {
    async fn read(&mut self, log: &EmbeddedLog, topic: Topic) -> Result<Option<Followed>, LogError> {
        let partition = self.partition;
        match log.read(ReadRequest::new(topic, partition, self.next_offset, READ_BYTES)).await {
            Ok(records) => {
                let Some(last) = records.last() else { return Ok(None) };
                self.next_offset = last.offset + 1;
                Ok(Some(Followed::Records { partition, records }))
            }
            Err(LogError::OutOfRange { held, .. }) if self.next_offset < held.start => {
                let lost = self.next_offset..held.start;
                self.next_offset = held.start;
                Ok(Some(Followed::Overtaken { partition, lost }))
            }
            Err(why) => Err(why),
        }
    }
}

impl TopicFollower for EmbeddedFollower {
    async fn next(&mut self) -> Result<Followed, LogError> {
        let closed = self.log.closed();
        loop {
            if closed.is_cancelled() {
                return Err(LogError::Closed);
            }
            if let Some(tail) = self.with_records().and_then(|at| self.tails.get_mut(at)) {
                match tail.read(&self.log, self.topic).await? {
                    Some(followed) => return Ok(followed),
                    None => continue,
                }
            }
            tokio::select! {
                () = self.grown() => {}
                () = closed.cancelled() => {}
            }
        }
    }
}
