//! One partition of the raw topic: read, apply the pipeline, publish, commit.
//!
//! The raw offset is committed only when everything before it is durable in the enriched and dead topics. Nothing else is remembered: what
//! a record becomes follows from the record alone, so after a crash the records since the last commit come out the same, and the
//! loader skips those it has.
//!
//! A log that is full is waited for: what is on its way is not in doubt. A log that fails is read again from what was committed, because
//! something that was appended may be missing. Neither ends the worker, nor does anything that a record holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ProcessLimits;
use super::enrich::agent::AgentParser;
use super::pipeline::{Applied, Pipeline};
use crate::event::record::RawOrigin;
use crate::log::{self, Ack, Log, LogError, PartitionReader, Record, Topic};
use crate::metrics::Counter;
use crate::outage::{Outage, Over};
use crate::{clock, failpoint};

/// Bytes read at a time: a few records, so that a backlog does not grow memory.
const READ_BYTES: usize = 1 << 20;
/// Appends that may be on their way to the disk: more would only wait in the log's own queue.
const MAX_UNACKED: usize = 64;
/// Pause before going on when the log refuses.
const RETRY: Duration = Duration::from_millis(200);
/// Pause before a full log is asked again, where nothing of this worker fills it.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How often it is asked again by a worker that is to stop.
const LAST_TRIES: u32 = 40;
/// Reads one raw partition.
pub(super) struct Worker<L: Log, R> {
    log: L,
    limits: ProcessLimits,
    reader: R,
    stop: CancellationToken,
    pipeline: Pipeline,
    unacked: VecDeque<Ack>,
    next_offset: i64,
    /// Where this worker goes back to.
    committed: Option<i64>,
    /// While the log refuses.
    outage: Outage,
}

impl<L: Log, R: PartitionReader> Worker<L, R> {
    pub(super) fn new(log: L, limits: ProcessLimits, agents: Arc<AgentParser>, reader: R) -> Self {
        let pipeline = Pipeline::new(agents, log.max_record_bytes());
        let stop = CancellationToken::new();
        let (unacked, outage) = (VecDeque::new(), Outage::default());
        Self { log, limits, reader, stop, pipeline, unacked, next_offset: 0, committed: None, outage }
    }

    /// Works until asked to stop or the partition is taken away; ends with everything durable and committed. When the log
    /// did not keep what was appended, goes back to what was committed and works on from there. Errors: the log is damaged or closed.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        self.stop = stop;
        let (partition, revoked) = (self.reader.partition(), self.reader.revoked());
        while !revoked.is_cancelled() {
            let why = match self.run_from_commit().await {
                Err(why) if !matches!(why, LogError::Corrupt(_) | LogError::Closed) => why,
                ended => return ended,
            };
            if self.stop.is_cancelled() {
                tracing::warn!(partition, %why, "log refuses: ending without a commit, the next start goes on from the last one");
                return Ok(());
            }
            self.look_back_after(&why);
            self.unacked.clear();
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    fn look_back_after(&mut self, why: &LogError) {
        let partition = self.reader.partition();
        let is_first = self.outage.begins();
        match why {
            // The log's own limit was lowered below what is configured; once it is raised again nothing is lost.
            LogError::TooLarge { .. } if is_first => {
                tracing::error!(partition, %why, "the log takes less than is configured: waiting until it does")
            }
            LogError::OutOfRange { asked, held, .. } => {
                let finished = self.reader.committed().unwrap_or(0).max(*asked);
                let lost = u64::try_from(held.start - finished).unwrap_or(0);
                Counter::LogOffsetsLost.add(lost);
                tracing::warn!(partition, %why, lost, "the log deleted what was to be read: going on behind it");
            }
            _ if is_first => tracing::warn!(partition, %why, "log refuses: going back to what was committed"),
            _ => {}
        }
    }

    async fn run_from_commit(&mut self) -> Result<(), LogError> {
        let (stop, revoked) = (self.stop.clone(), self.reader.revoked());
        tokio::select! {
            () = revoked.cancelled() => return Ok(()),
            resumed = self.resume() => resumed?,
        }
        let mut commit_at = Instant::now() + self.limits.commit_interval;
        loop {
            let records = tokio::select! {
                biased;
                () = stop.cancelled() => return self.commit().await,
                () = revoked.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(commit_at) => Vec::new(),
                // A failure is noticed at once, and not only when the next record or commit waits for its turn.
                acked = settle_oldest(&mut self.unacked), if !self.unacked.is_empty() => {
                    acked?;
                    continue;
                }
                records = self.reader.next(READ_BYTES) => records?,
            };
            for record in records {
                self.apply(record).await?;
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + self.limits.commit_interval;
                self.commit().await?;
            }
        }
    }

    /// Goes back to what was committed.
    async fn resume(&mut self) -> Result<(), LogError> {
        let partition = self.reader.partition();
        let held = self.reader.bounds().await?;
        let next = self.committed.or_else(|| self.reader.committed()).unwrap_or(held.start);
        log::check_end(&self.log, Topic::Raw, partition, next).await?;
        let start = next.max(held.start);
        // Where records were deleted unread, the first one left follows the last one read: the log reported how many are gone, and
        // a check for gaps must not wait for them.
        (self.next_offset, self.committed) = (next, Some(next));
        self.pipeline.starts_at(clock::now_ms());
        self.reader.seek(start);
        tracing::info!(partition, start, behind = held.end - start, "processing");
        Ok(())
    }

    async fn apply(&mut self, record: Record) -> Result<(), LogError> {
        let origin = RawOrigin {
            epoch: self.log.epoch(),
            partition: self.reader.partition(),
            offset: record.offset,
            previous: self.next_offset - 1,
        };
        let Applied { enriched, dead, letters, fault } = self.pipeline.apply(origin, &record.payload);
        if let Some(fault) = fault {
            Counter::RecordsFailed.add(1);
            tracing::error!(partition = origin.partition, offset = origin.offset, fault, "a record is put aside: a fault of pulse itself");
        }
        Counter::RecordsProcessed.add(1);
        Counter::EventsDead.add(letters);
        for record in dead {
            self.publish(Topic::Dead, 0, record.into()).await?;
        }
        self.publish(Topic::Enriched, origin.partition, enriched.into()).await?;
        failpoint::point("process.published");
        self.next_offset = record.offset + 1;
        Ok(())
    }

    /// Appends behind what was appended before; waits for room.
    async fn publish(&mut self, topic: Topic, partition: u16, payload: Bytes) -> Result<(), LogError> {
        while self.unacked.len() >= MAX_UNACKED {
            settle_oldest(&mut self.unacked).await?;
        }
        for tried in 1.. {
            match self.log.append(topic, partition, payload.clone()) {
                Ok(ack) => {
                    self.unacked.push_back(ack);
                    break;
                }
                Err(LogError::Full(_)) if !self.unacked.is_empty() => settle_oldest(&mut self.unacked).await?,
                Err(full @ LogError::Full(_)) => self.wait_for_room(tried, full).await?,
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    }

    /// A moment, while others fill the log. Errors: the worker must end before there is room.
    async fn wait_for_room(&mut self, tried: u32, full: LogError) -> Result<(), LogError> {
        if self.reader.revoked().is_cancelled() || (self.stop.is_cancelled() && tried >= LAST_TRIES) {
            return Err(full);
        }
        if tried == 1 {
            tracing::info!(partition = self.reader.partition(), why = %full, "waiting for room in the log");
        }
        tokio::time::sleep(ROOM_PAUSE).await;
        Ok(())
    }

    /// Commits once all before it is durable.
    async fn commit(&mut self) -> Result<(), LogError> {
        while !self.unacked.is_empty() {
            settle_oldest(&mut self.unacked).await?;
        }
        if let Some(Over { failures, lasted }) = self.outage.ends() {
            tracing::info!(partition = self.reader.partition(), failures, ?lasted, "the log is well again");
        }
        if self.committed == Some(self.next_offset) {
            return Ok(());
        }
        failpoint::point("process.durable");
        self.committed = Some(self.next_offset);
        self.reader.commit(self.next_offset).await
    }
}

/// Waits for the oldest; may be dropped and called again.
async fn settle_oldest(unacked: &mut VecDeque<Ack>) -> Result<(), LogError> {
    let Some(oldest) = unacked.front_mut() else { return Ok(()) };
    let acked = oldest.await;
    unacked.pop_front();
    acked.map(drop)
}

#[cfg(test)]
mod tests;
