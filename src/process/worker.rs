//! One partition of the raw topic: read, apply the pipeline, publish, remember.
//!
//! The raw offset is committed only behind a durable snapshot, and a snapshot is written only when everything before it is
//! durable in the enriched and dead topics. After a crash the records since the snapshot are worked through again with the
//! state they had the first time, so they come out the same, and the loader skips those it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ProcessLimits;
use super::enrich::agent::AgentParser;
use super::pipeline::{Applied, Pipeline};
use super::snapshot::{self, Snapshot};
use crate::event::record::RawOrigin;
use crate::log::{self, Ack, Log, LogError, PartitionReader, Record, Topic};
use crate::metrics::Counter;
use crate::{clock, crash};

/// Bytes read at a time: a few records, so that a backlog does not grow memory.
const READ_BYTES: usize = 1 << 20;
/// Appends that may be on their way to the disk: more would only wait in the log's own queue.
const MAX_UNACKED: usize = 64;
/// Pause before going on when the log refuses.
const RETRY: Duration = Duration::from_millis(200);

/// Reads one raw partition.
pub(super) struct Worker<L: Log, R> {
    log: L,
    limits: ProcessLimits,
    reader: R,
    pipeline: Pipeline,
    unacked: VecDeque<Ack>,
    next_offset: i64,
    saved_offset: i64,
}

impl<L: Log, R: PartitionReader> Worker<L, R> {
    pub(super) fn new(log: L, limits: ProcessLimits, agents: Arc<AgentParser>, reader: R) -> Self {
        let pipeline = Pipeline::new(limits.session_gap_ms, limits.max_visitors, agents);
        Self { log, limits, reader, pipeline, unacked: VecDeque::new(), next_offset: 0, saved_offset: 0 }
    }

    /// Works until asked to stop or the partition is taken away; ends with everything durable and a snapshot. When the log
    /// did not keep what was appended, goes back to the last snapshot and works on from there.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        loop {
            let partition = self.reader.partition();
            match self.run_from_snapshot(&stop).await {
                Err(LogError::Unavailable(why)) if stop.is_cancelled() => {
                    tracing::warn!(partition, why, "log refuses: ending without a snapshot, the next start goes on from the last one");
                    return Ok(());
                }
                Err(LogError::Unavailable(why)) => {
                    tracing::warn!(partition, why, "log refuses: going back to the last snapshot");
                    self.unacked.clear();
                    tokio::time::sleep(RETRY).await;
                }
                ended => return ended,
            }
        }
    }

    async fn run_from_snapshot(&mut self, stop: &CancellationToken) -> Result<(), LogError> {
        self.resume().await?;
        let revoked = self.reader.revoked();
        let mut save_at = Instant::now() + self.limits.snapshot_interval;
        loop {
            let records = tokio::select! {
                biased;
                () = stop.cancelled() => return self.save().await,
                () = revoked.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(save_at) => Vec::new(),
                // A failure is noticed at once, and not only when the next record or snapshot waits for its turn.
                acked = settle_oldest(&mut self.unacked), if !self.unacked.is_empty() => {
                    acked?;
                    continue;
                }
                records = self.reader.next(READ_BYTES) => records?,
            };
            for record in records {
                self.apply(record).await?;
            }
            if Instant::now() >= save_at {
                self.save().await?;
                save_at = Instant::now() + self.limits.snapshot_interval;
            }
        }
    }

    /// Goes back to the latest snapshot.
    async fn resume(&mut self) -> Result<(), LogError> {
        let partition = self.reader.partition();
        let held = self.reader.bounds().await?;
        let saved = snapshot::latest(&self.log, partition).await?;
        let restored = saved.and_then(|saved| self.pipeline.sessions.restore(&saved.state).map(|()| saved.next_offset));
        let next = restored.or_else(|| self.reader.committed()).unwrap_or(held.start);
        log::check_end(&self.log, Topic::Raw, partition, next).await?;
        let start = next.max(held.start);
        if restored.is_none() && start > 0 {
            tracing::warn!(partition, start, "no snapshot of the sessions: open ones begin anew");
        }
        // Where records were deleted unread, the first one left follows on what was read last: the log said how many are gone, and
        // whoever looks for a gap must not wait for them.
        (self.next_offset, self.saved_offset) = (next, next);
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
        let Applied { enriched, letters } = self.pipeline.apply(origin, &record.payload);
        Counter::RecordsProcessed.add(1);
        Counter::EventsDead.add(letters.len() as u64);
        for letter in letters {
            self.publish(Topic::Dead, 0, letter.into()).await?;
        }
        self.publish(Topic::Enriched, origin.partition, enriched.into()).await?;
        crash::point("process.published");
        self.next_offset = record.offset + 1;
        Ok(())
    }

    /// Appends behind what was appended before.
    async fn publish(&mut self, topic: Topic, partition: u16, payload: Bytes) -> Result<(), LogError> {
        while self.unacked.len() >= MAX_UNACKED {
            settle_oldest(&mut self.unacked).await?;
        }
        self.unacked.push_back(self.log.append(topic, partition, payload)?);
        Ok(())
    }

    /// Writes a snapshot once all before it is durable, and commits.
    async fn save(&mut self) -> Result<(), LogError> {
        while !self.unacked.is_empty() {
            settle_oldest(&mut self.unacked).await?;
        }
        if self.next_offset == self.saved_offset {
            return Ok(());
        }
        let mut state = Vec::new();
        self.pipeline.sessions.save(&mut state);
        let snapshot = Snapshot { epoch: self.log.epoch(), next_offset: self.next_offset, state };
        for part in snapshot::split(self.next_offset as u64, &snapshot) {
            self.publish(Topic::State, self.reader.partition(), part.into()).await?;
        }
        while !self.unacked.is_empty() {
            settle_oldest(&mut self.unacked).await?;
        }
        crash::point("process.saved");
        self.saved_offset = self.next_offset;
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
