//! Reading one assigned partition.
//!
//! librdkafka fetches ahead into the queue of the partition, a few megabytes at most; [`KafkaReader::next`] takes from
//! there. Records come without gaps: one that is missing is fetched again, and only if Kafka no longer has it reading goes
//! on behind it, which is logged and counted.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::KafkaLog;
use super::assigned::{AssignedPartition, Poll, PollResult};
use super::client;
use super::start_offsets::StartPosition;
use crate::log::{Log, LogError, PartitionReader, Record};

/// Pause before a seek that failed is tried again.
const SEEK_PAUSE: Duration = Duration::from_millis(50);
/// How often an empty queue is polled without a notification: one that is lost must not stop a partition.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// A seek that is under way.
struct Seek {
    to: i64,
    task: JoinHandle<KafkaResult<()>>,
}

/// Reads one partition of a [`KafkaLog`] for a group.
pub struct KafkaReader {
    log: KafkaLog,
    number: u16,
    committed: Option<i64>,
    next_offset: i64,
    /// Where librdkafka goes on, if that is known.
    fetch_offset: Option<i64>,
    /// Nothing was read since the last seek.
    is_fresh: bool,
    /// Kafka holds no record at `next_offset`.
    is_out_of_range: bool,
    seeking: Option<Seek>,
    partition: Arc<AssignedPartition>,
}

impl KafkaReader {
    pub(super) fn new(log: KafkaLog, StartPosition { committed, start }: StartPosition, partition: Arc<AssignedPartition>) -> Self {
        Self {
            log,
            number: u16::try_from(partition.number).unwrap_or(u16::MAX),
            committed,
            next_offset: start,
            fetch_offset: Some(start),
            is_fresh: true,
            is_out_of_range: false,
            seeking: None,
            partition,
        }
    }

    /// Finishes the seek under way, or begins one that is due. `false` if there is nothing to do. Cancel safe.
    async fn seek_if_due(&mut self) -> bool {
        if let Some(Seek { to, task }) = &mut self.seeking {
            let (to, ended) = (*to, task.await);
            self.seeking = None;
            match ended {
                Ok(Ok(())) => (self.fetch_offset, self.is_fresh) = (Some(to), true),
                // The partition is just being started, or stopped.
                _ => tokio::time::sleep(SEEK_PAUSE).await,
            }
            return true;
        }
        if self.fetch_offset == Some(self.next_offset) {
            return false;
        }
        let (partition, to) = (Arc::clone(&self.partition), self.next_offset);
        self.seeking = Some(Seek { to, task: tokio::task::spawn_blocking(move || partition.seek(to)) });
        true
    }

    /// After an offset was out of range. Before the first record held, reading soon begins there. Behind the last one, Kafka lost
    /// acknowledged records: the log ends, because new records would be taken for them. Cancel safe.
    async fn check_truncation(&mut self) {
        if !self.is_out_of_range {
            return;
        }
        // Where Kafka does not answer, the partition is opened again, and its end is checked then.
        if let Ok(held) = self.bounds().await
            && self.next_offset >= held.start
        {
            self.log.fail(LogError::lost_end(&self.partition.topic_name, self.number, held.end, self.next_offset));
        }
        self.is_out_of_range = false;
    }

    fn poll(&mut self, max_bytes: usize) -> Result<Option<Vec<Record>>, LogError> {
        let topic = &self.partition.topic_name;
        match self.partition.poll(Poll { next_offset: self.next_offset, is_fresh: self.is_fresh, max_bytes }) {
            PollResult::Empty => {}
            PollResult::Gap => self.fetch_offset = None,
            PollResult::Records(records) => {
                if let Some(first) = records.first().filter(|first| first.offset > self.next_offset) {
                    client::report_lost_offsets(topic, self.partition.number, self.next_offset..first.offset);
                }
                self.next_offset = records.last().map_or(self.next_offset, |last| last.offset + 1);
                (self.fetch_offset, self.is_fresh) = (Some(self.next_offset), false);
                return Ok(Some(records));
            }
            PollResult::Failed(problem) if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) => {
                return Err(LogError::Corrupt(format!("{topic}/{} at {}: {problem}", self.number, self.next_offset)));
            }
            PollResult::Failed(problem) => {
                self.is_out_of_range = is_out_of_range(&problem);
                tracing::warn!(topic, partition = self.number, next_offset = self.next_offset, %problem, "cannot read on");
                self.partition.request_reopen();
            }
        }
        Ok(None)
    }
}

/// Whether the leader has no record at the offset that was asked for.
fn is_out_of_range(problem: &KafkaError) -> bool {
    let codes = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::LogTruncation, RDKafkaErrorCode::OffsetOutOfRange];
    problem.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

impl PartitionReader for KafkaReader {
    fn partition(&self) -> u16 {
        self.number
    }

    fn committed(&self) -> Option<i64> {
        self.committed
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        self.log.bounds(self.partition.topic, self.number).await
    }

    fn seek(&mut self, next_offset: i64) {
        self.next_offset = next_offset;
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let (revoked, nonempty) = (self.partition.revoked.clone(), Arc::clone(&self.partition.nonempty));
        loop {
            if revoked.is_cancelled() {
                // The caller learns of the revocation by `revoked`; until the log ends there is nothing to return.
                return Err(self.log.ended().await);
            }
            if self.seek_if_due().await {
                continue;
            }
            if let Some(records) = self.poll(max_bytes)? {
                return Ok(records);
            }
            if self.fetch_offset.is_none() {
                continue;
            }
            self.check_truncation().await;
            tokio::select! {
                why = self.log.ended() => return Err(why),
                () = nonempty.notified() => {}
                () = revoked.cancelled() => {}
                () = tokio::time::sleep(IDLE_POLL) => {}
            }
        }
    }

    async fn commit(&mut self, next_offset: i64) -> Result<(), LogError> {
        self.partition.finish(next_offset);
        self.committed = Some(next_offset);
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        self.partition.revoked.clone()
    }
}
