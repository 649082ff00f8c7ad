//! Raw records, read again and enriched as if the enriched topic had just got them; their offsets are the raw ones.
//!
//! Promises: every record of the range is yielded in order, again from the first one whenever the loader begins anew, and its dead
//! letters are durable before it is yielded. A log that refuses for now is asked again; what it can never give ends the replay
//! ([`RawAgain::problem`]), and nothing behind it is passed on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::received;
use crate::event::record::RawOrigin;
use crate::log::{Ack, Log, LogError, PartitionReader, ReadRequest, Record, Topic};
use crate::process::Enricher;
use crate::process::enrich::agent::AgentParser;

/// Raw bytes enriched at a time.
const READ_BYTES: usize = 1 << 20;
/// Between two tries of what the log refuses for now.
const PAUSE: Duration = Duration::from_millis(200);

/// What is read again of one partition.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// The partition.
    pub(super) partition: u16,
    /// The records to be loaded.
    pub(super) range: Range<i64>,
    /// What the first record of the range follows on.
    pub(super) after: i64,
}

/// How records are enriched.
#[derive(Clone)]
pub(super) struct Enriching {
    /// Shared by all partitions.
    pub(super) agents: Arc<AgentParser>,
    /// What the log takes.
    pub(super) max_record_bytes: usize,
}

/// A dead letter on its way: appended again should the log not keep it.
struct Letter {
    bytes: Bytes,
    ack: Option<Ack>,
}

/// Reads one partition. Once everything is read it asks for the end.
pub(super) struct RawAgain<L> {
    log: L,
    work: Work,
    enriching: Enriching,
    enricher: Enricher,
    next: i64,
    /// Records below were counted as read.
    counted: i64,
    read: Arc<AtomicU64>,
    done: CancellationToken,
    problem: Arc<OnceLock<LogError>>,
    /// Enriched and not yet handed out: kept here, so that a dropped `next` loses nothing.
    ready: Vec<Record>,
    letters: VecDeque<Letter>,
    has_warned: bool,
}

/// How far a reader is.
pub(super) struct Counting {
    /// Events read.
    pub(super) read: Arc<AtomicU64>,
    /// Cancelled at the end.
    pub(super) done: CancellationToken,
}

impl<L: Log> RawAgain<L> {
    /// A reader of `work`.
    pub(super) fn new(log: L, work: Work, enriching: Enriching, counting: Counting) -> Self {
        let Counting { read, done } = counting;
        Self {
            log,
            enricher: enriching.enricher(),
            next: work.range.start,
            counted: work.range.start,
            read,
            done,
            problem: Arc::default(),
            ready: Vec::new(),
            letters: VecDeque::new(),
            has_warned: false,
            work,
            enriching,
        }
    }

    /// What ended the reading before its end, once something has.
    pub(super) fn problem(&self) -> Arc<OnceLock<LogError>> {
        Arc::clone(&self.problem)
    }

    fn enrich(&mut self, record: &Record) {
        let Work { partition, range, after, .. } = &self.work;
        let previous = if record.offset == range.start { *after } else { self.next - 1 };
        let origin = RawOrigin { epoch: self.log.epoch(), partition: *partition, offset: record.offset, previous };
        let (payload, letters) = self.enricher.enrich(origin, &record.payload);
        self.next = record.offset + 1;
        // The same letters as the first time, so the table of letters keeps one of each.
        self.letters.extend(letters.into_iter().map(|bytes| Letter { bytes: bytes.into(), ack: None }));
        if record.offset >= self.counted {
            self.counted = record.offset + 1;
            self.read.fetch_add(received(&record.payload), Ordering::Relaxed);
        }
        self.ready.push(Record { offset: record.offset, payload: payload.into() });
    }

    /// Reads and enriches until something is ready or the range is at its end.
    async fn fill(&mut self) -> Result<(), LogError> {
        while self.ready.is_empty() && self.next < self.work.range.end {
            let read = self.log.read(ReadRequest::new(Topic::Raw, self.work.partition, self.next, READ_BYTES)).await;
            let Some(records) = self.unless_refused(read)? else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if records.is_empty() {
                // The range ends where the log did; a log that has less now shows it in its bounds.
                tokio::time::sleep(PAUSE).await;
            }
            let end = self.work.range.end;
            records.iter().filter(|record| record.offset < end).for_each(|record| self.enrich(record));
        }
        Ok(())
    }

    /// Makes the letters durable, in order.
    async fn settle_letters(&mut self) -> Result<(), LogError> {
        while !self.letters.is_empty() {
            self.append_letters()?;
            let Some(Letter { ack: Some(ack), .. }) = self.letters.front_mut() else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let acked = ack.await;
            match self.unless_refused(acked)? {
                Some(_) => drop(self.letters.pop_front()),
                None => {
                    self.letters.iter_mut().take(1).for_each(|letter| letter.ack = None);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    fn append_letters(&mut self) -> Result<(), LogError> {
        for index in 0..self.letters.len() {
            let Some(Letter { bytes, ack: None }) = self.letters.get(index) else { continue };
            let appended = self.log.append(Topic::Dead, 0, bytes.clone());
            let Some(ack) = self.unless_refused(appended)? else { return Ok(()) };
            if let Some(letter) = self.letters.get_mut(index) {
                letter.ack = Some(ack);
            }
        }
        Ok(())
    }

    /// `None` if time decides; an error if nothing does.
    fn unless_refused<T>(&mut self, result: Result<T, LogError>) -> Result<Option<T>, LogError> {
        match result {
            Ok(value) => {
                self.has_warned = false;
                Ok(Some(value))
            }
            Err(problem @ (LogError::Unavailable(_) | LogError::Full(_))) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(partition = self.work.partition, %problem, "log refuses: trying again");
                }
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }

    async fn records(&mut self) -> Result<Vec<Record>, LogError> {
        self.fill().await?;
        self.settle_letters().await?;
        Ok(std::mem::take(&mut self.ready))
    }
}

impl Enriching {
    fn enricher(&self) -> Enricher {
        Enricher::new(Arc::clone(&self.agents), self.max_record_bytes)
    }
}

impl<L: Log> PartitionReader for RawAgain<L> {
    fn partition(&self) -> u16 {
        self.work.partition
    }

    fn committed(&self) -> Option<i64> {
        None
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        Ok(self.work.range.clone())
    }

    fn seek(&mut self, _next_offset: i64) {
        // Whatever was handed out before may be lost to the loader: it skips what the table has.
        self.next = self.work.range.start;
        self.enricher = self.enriching.enricher();
        self.ready.clear();
    }

    async fn next(&mut self, _max_bytes: usize) -> Result<Vec<Record>, LogError> {
        match self.records().await {
            Ok(records) if !records.is_empty() => return Ok(records),
            Ok(_) => {}
            // It would be the same the next time: the loader must not go on asking.
            Err(problem) => drop(self.problem.set(problem)),
        }
        self.done.cancel();
        std::future::pending().await
    }

    async fn commit(&mut self, _next_offset: i64) -> Result<(), LogError> {
        // The positions of the live roles stay as they are.
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

#[cfg(test)]
mod tests;
