//! From requests to records: many requests share one, and each waits until its record is durable.
//!
//! A partition has one open record. It is sealed when it is large enough, when its linger is over, or when the day of
//! receipt changes; sealing compresses it and appends it to the log. While the log is behind with earlier records of the partition
//! it stays open longer: a busy log gets fewer and larger records, not more. Bounded: a request larger than a record is spread over
//! several, so none exceeds twice the seal size, and what is sealed waits in the log's own bounded queue, which refuses when
//! full.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::IngestLimits;
use super::verdict::{LetterBatch, Packed, Rejected};
use crate::event::ids::ProjectId;
use crate::event::packed;
use crate::event::record::{self, Header, Raw, Tallies, day_of};
use crate::failpoint;
use crate::lifecycle::spawn_short;
use crate::log::{Log, LogError, Topic};
use crate::outcome::Count;

/// Whether a record is durable: the answer to every request in it.
type Published = Result<(), LogError>;

/// Packs requests into records and appends them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher<L: Log> {
    log: L,
    linger: Duration,
    seal_size: usize,
    open: Arc<[Mutex<OpenRecord>]>,
}

/// A piece from this size on does not share a record. Should the log refuse the record as too large, no other request is refused with
/// it, and the client learns that its own events are the cause.
const OWN_RECORD: usize = 64 << 10;

/// A record whose linger is over waits for more events while the log has not acknowledged as many before it.
const MOST_UNACKED: u32 = 2;

/// The open record of one partition.
#[derive(Default)]
struct OpenRecord {
    number: u64,
    /// Sealed records of the partition that are not acknowledged.
    unacked: u32,
    /// Whether its linger is over.
    is_due: bool,
    day: u16,
    received_ms: i64,
    events: u32,
    projects: Vec<ProjectId>,
    tallies: Tallies,
    raw: Raw,
    waiters: Vec<oneshot::Sender<Published>>,
}

/// Whose events a request has, and when it was received.
#[derive(Clone, Copy)]
pub(super) struct Receipt {
    pub(super) project: ProjectId,
    pub(super) received_ms: i64,
}

/// What one request brings.
pub(super) struct Contribution {
    pub(super) receipt: Receipt,
    /// By partition: packed events.
    pub(super) partitions: Vec<Packed>,
}

/// An import's events, with the letters of the lines that are none.
pub(super) struct ImportRecord {
    pub(super) source: u64,
    /// Letters by record: each is appended as one.
    pub(super) letters: Vec<LetterBatch>,
}

/// Some packed events of one partition that go into one record.
#[derive(Clone, Copy, Default)]
struct Piece<'p> {
    bytes: &'p [u8],
    events: u32,
}

impl Packed {
    /// The events in pieces of at most `max` bytes, or of one event. Nearly always that is one piece, and nothing has to be split.
    fn pieces(&self, max: usize) -> impl Iterator<Item = Piece<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (bytes, events, after) = if self.bytes.len() <= max { (rest, self.events, &[] as &[u8]) } else { packed::split(rest, max) };
            rest = if events == 0 { &[] } else { after };
            Some(Piece { bytes, events })
        })
    }
}

impl<L: Log> Publisher<L> {
    pub(super) fn new(log: L, limits: &IngestLimits) -> Self {
        let open = (0..log.partitions(Topic::Raw)).map(|_| Mutex::default()).collect();
        Self { log, linger: limits.linger, seal_size: limits.seal_size, open }
    }

    /// Number of partitions.
    pub(super) fn partitions(&self) -> u16 {
        self.log.partitions(Topic::Raw)
    }

    /// Appends a request's events, and its rejections to the books; returns once all of it is durable. On an error nothing
    /// may be answered as accepted; some of it may be in the log all the same, and a retry finds it there as a copy.
    pub(super) async fn publish(&self, request: Contribution, rejected: &[Rejected]) -> Published {
        let Contribution { receipt, partitions } = request;
        let Receipt { project, received_ms } = receipt;
        let mut waiting = Vec::new();
        let mut books: Option<Tallies> = (!rejected.is_empty()).then(Tallies::default);
        if let Some(tallies) = &mut books {
            rejected.iter().for_each(|event| tallies.add(project, received_ms, Count::Rejected(event.defect), 1));
        }
        for (partition, packed) in (0_u16..).zip(&partitions) {
            for piece in packed.pieces(self.seal_size) {
                waiting.push(self.add(partition, receipt, piece, books.take().as_ref())?);
            }
        }
        if let Some(books) = books {
            waiting.push(self.add(0, receipt, Piece::default(), Some(&books))?);
        }
        // Copied into the records: nothing of it is needed while they are written.
        drop(partitions);
        for result in waiting {
            result.await.unwrap_or(Err(LogError::Closed))?;
        }
        failpoint::point("ingest.durable");
        Ok(())
    }

    /// Adds to the open record of a partition.
    fn add(
        &self,
        partition: u16,
        receipt: Receipt,
        piece: Piece<'_>,
        books: Option<&Tallies>,
    ) -> Result<oneshot::Receiver<Published>, LogError> {
        let Receipt { project, received_ms } = receipt;
        let (sender, receiver) = oneshot::channel();
        let mut open = self.open(partition)?;
        let has_own_record = piece.bytes.len() >= OWN_RECORD;
        if !open.is_empty() && (has_own_record || open.day != day_of(received_ms)) {
            self.seal(partition, &mut open);
        }
        if open.is_empty() {
            open.day = day_of(received_ms);
            self.seal_later(partition, open.number);
        }
        open.received_ms = open.received_ms.max(received_ms);
        open.take(project, piece);
        open.tallies.add(project, received_ms, Count::Received, piece.events);
        if let Some(books) = books {
            open.tallies.merge(books);
        }
        open.waiters.push(sender);
        if has_own_record || open.size() >= self.seal_size {
            self.seal(partition, &mut open);
        }
        Ok(receiver)
    }

    fn open(&self, partition: u16) -> Result<MutexGuard<'_, OpenRecord>, LogError> {
        let open = self.open.get(usize::from(partition)).ok_or(LogError::Closed)?;
        Ok(open.lock().unwrap_or_else(|poisoned| {
            // A panic may have left half an event. The record is dropped, and so are its waiters: they answer 503.
            open.clear_poison();
            let mut guard = poisoned.into_inner();
            *guard = OpenRecord { number: guard.number + 1, unacked: guard.unacked, ..OpenRecord::default() };
            guard
        }))
    }

    /// Seals the record once its linger is over, unless it was sealed before.
    fn seal_later(&self, partition: u16, number: u64) {
        let publisher = self.clone();
        spawn_short(async move {
            tokio::time::sleep(publisher.linger).await;
            if let Ok(mut open) = publisher.open(partition)
                && open.number == number
            {
                open.is_due = true;
                publisher.seal_if_due(partition, &mut open);
            }
        });
    }

    fn seal_if_due(&self, partition: u16, open: &mut OpenRecord) {
        if open.is_due && open.unacked < MOST_UNACKED {
            self.seal(partition, open);
        }
    }

    /// A record of a partition is durable, or failed.
    fn acknowledged(&self, partition: u16) {
        if let Ok(mut open) = self.open(partition) {
            open.unacked = open.unacked.saturating_sub(1);
            self.seal_if_due(partition, &mut open);
        }
    }

    /// Appends the open record and begins the next one.
    fn seal(&self, partition: u16, open: &mut OpenRecord) {
        let next = OpenRecord { number: open.number + 1, unacked: open.unacked, ..OpenRecord::default() };
        let mut sealed = std::mem::replace(open, next);
        let waiters = std::mem::take(&mut sealed.waiters);
        let record = sealed.encode(0, 0);
        open.reuse(sealed.raw);
        match self.log.append(Topic::Raw, partition, record.into()) {
            Ok(ack) => {
                open.unacked += 1;
                let publisher = self.clone();
                spawn_short(async move {
                    let result = ack.await.map(drop);
                    notify(waiters, &result);
                    publisher.acknowledged(partition);
                });
            }
            Err(refused) => notify(waiters, &Err(refused)),
        }
    }

    /// Appends an import's events and letters, in records of their own so that their books are their own; returns once
    /// durable.
    pub(super) async fn publish_import(&self, request: Contribution, import: ImportRecord) -> Published {
        let Contribution { receipt: Receipt { project, received_ms }, partitions } = request;
        let record = |events: u32| {
            let mut record = OpenRecord { day: day_of(received_ms), received_ms, ..OpenRecord::default() };
            record.tallies.add(project, received_ms, Count::Received, events);
            record
        };
        let mut acks = Vec::new();
        for (partition, packed) in (0_u16..).zip(&partitions) {
            for piece in packed.pieces(self.seal_size) {
                let mut record = record(piece.events);
                record.take(project, piece);
                acks.push(self.log.append(Topic::Raw, partition, record.encode(import.source, 0).into())?);
            }
        }
        for LetterBatch { bytes, count } in import.letters {
            let mut record = record(count);
            record.raw.body = bytes;
            acks.push(self.log.append(Topic::Raw, 0, record.encode(import.source, count).into())?);
        }
        drop(partitions);
        for ack in acks {
            ack.await?;
        }
        Ok(())
    }
}

impl OpenRecord {
    fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Bytes of its events.
    fn size(&self) -> usize {
        self.raw.body.len() + self.raw.agents.len()
    }

    fn take(&mut self, project: ProjectId, piece: Piece<'_>) {
        let known = self.projects.iter().position(|known| *known == project);
        let index = known.unwrap_or_else(|| {
            self.projects.push(project);
            self.projects.len() - 1
        });
        let Raw { body, agents } = &mut self.raw;
        packed::put_apart(piece.bytes, index as u16, body, agents);
        self.events += piece.events;
    }

    fn encode(&self, source: u64, letters: u32) -> Vec<u8> {
        let header = Header {
            source,
            day: self.day,
            events: self.events,
            received_ms: self.received_ms,
            projects: self.projects.clone(),
            tallies: self.tallies.clone(),
            letters,
            origin: None,
        };
        record::encode_raw(&header, &self.raw)
    }

    /// Keeps the buffers of a sealed record for the next one.
    fn reuse(&mut self, Raw { mut body, mut agents }: Raw) {
        body.clear();
        agents.clear();
        self.raw = Raw { body, agents };
    }
}

fn notify(waiters: Vec<oneshot::Sender<Published>>, result: &Published) {
    let result = match result {
        // Too large together: alone each may be small enough.
        Err(LogError::TooLarge { .. }) if waiters.len() > 1 => &Err(LogError::Unavailable("a record was too large".to_owned())),
        result => result,
    };
    for waiter in waiters {
        // The client may have gone away.
        drop(waiter.send(result.clone()));
    }
}

#[cfg(test)]
mod tests;
