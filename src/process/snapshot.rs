//! What a partition remembers, written to the state topic so that a restart goes on as if nothing had happened.
//!
//! A snapshot is several records, each a part: `u64` id, `u32` part, `u32` parts, `i64` raw offset to resume at, `u64` epoch
//! of the log that offset is of, bytes. The latest of which all parts are there counts; one cut short by a crash is passed over,
//! and so are parts of two owners among each other: each snapshot has an id of its own.

use std::ops::Range;

use crate::clock;
use crate::event::ids::LogEpoch;
use crate::log::{Log, LogError, ReadRequest, Topic};
use crate::wire;

/// Part of a snapshot in one record, where the log takes as much.
const PART_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 8 << 20;
const HEAD_BYTES: usize = 32;

/// A complete snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Log that the offset is of.
    pub(super) epoch: LogEpoch,
    /// Raw offset to resume at.
    pub(super) next_offset: i64,
    /// What was remembered there.
    pub(super) state: Vec<u8>,
}

/// An id that no other snapshot has, of whichever owner of the partition.
pub(super) fn fresh_id() -> u64 {
    // Without randomness the clock still tells two owners apart.
    getrandom::u64().unwrap_or_else(|_| clock::now_ms() as u64)
}

/// The records that hold a snapshot, of at most `limit` bytes. Made one by one: together they are as large as the snapshot.
pub(super) fn split(id: u64, snapshot: &Snapshot, limit: usize) -> impl Iterator<Item = Vec<u8>> {
    let part_bytes = PART_BYTES.min(limit - HEAD_BYTES);
    let parts = snapshot.state.len().div_ceil(part_bytes).max(1);
    (0..parts).map(move |part| {
        let from = part * part_bytes;
        let bytes = snapshot.state.get(from..snapshot.state.len().min(from + part_bytes)).unwrap_or_default();
        let mut record = Vec::with_capacity(HEAD_BYTES + bytes.len());
        record.extend_from_slice(&id.to_le_bytes());
        record.extend_from_slice(&(part as u32).to_le_bytes());
        record.extend_from_slice(&(parts as u32).to_le_bytes());
        record.extend_from_slice(&snapshot.next_offset.to_le_bytes());
        record.extend_from_slice(&snapshot.epoch.0.to_le_bytes());
        record.extend_from_slice(bytes);
        record
    })
}

/// Puts snapshots of one log together again from their records, in their order.
#[derive(Debug)]
pub(super) struct Joiner {
    log: LogEpoch,
    id: u64,
    next_part: u32,
    open: Vec<u8>,
    /// The latest complete one.
    pub(super) latest: Option<Snapshot>,
}

impl Joiner {
    fn of(log: LogEpoch) -> Self {
        Self { log, id: 0, next_part: 0, open: Vec::new(), latest: None }
    }

    /// Takes the next record; one that is not a part of the open snapshot and does not begin another is passed over.
    pub(super) fn push(&mut self, record: &[u8]) {
        let Some(Part { id, part, parts, next_offset, epoch, bytes }) = read_part(record) else { return };
        if part == 0 {
            (self.id, self.next_part) = (id, 0);
            self.open.clear();
        }
        if id != self.id || part != self.next_part {
            return;
        }
        self.open.extend_from_slice(bytes);
        self.next_part += 1;
        if self.next_part == parts && epoch == self.log {
            self.latest = Some(Snapshot { epoch, next_offset, state: std::mem::take(&mut self.open) });
        }
    }
}

struct Part<'r> {
    id: u64,
    part: u32,
    parts: u32,
    next_offset: i64,
    epoch: LogEpoch,
    bytes: &'r [u8],
}

fn read_part(mut record: &[u8]) -> Option<Part<'_>> {
    let id = wire::take_u64(&mut record)?;
    let part = wire::take_u32(&mut record)?;
    let parts = wire::take_u32(&mut record)?;
    let next_offset = wire::take_i64(&mut record)?;
    let epoch = LogEpoch(wire::take_u64(&mut record)?);
    Some(Part { id, part, parts, next_offset, epoch, bytes: record })
}

/// The latest complete snapshot of a partition, if there is one. One of another log, whose raw topic was deleted since, is
/// none: its offset means something else here. Read from the end backwards: what the topic holds before is many times as large.
pub(super) async fn latest<L: Log>(log: &L, partition: u16) -> Result<Option<Snapshot>, LogError> {
    let mut held = log.bounds(Topic::State, partition).await?;
    let mut records = last_parts(log, partition, &held).await?;
    loop {
        let start = held.start.max(held.end.saturating_sub(records));
        match join(log, partition, start..held.end).await {
            Ok(Some(snapshot)) => return Ok(Some(snapshot)),
            Ok(None) if start == held.start => return Ok(None),
            Ok(None) => records = records.saturating_mul(4),
            // Retention was faster; what it deletes is older than what is looked for.
            Err(LogError::OutOfRange { held: now, .. }) if now.start > start => held.start = now.start,
            Err(problem) => return Err(problem),
        }
    }
}

/// Of how many records the last snapshot was, as far as its last record tells.
async fn last_parts<L: Log>(log: &L, partition: u16, held: &Range<i64>) -> Result<i64, LogError> {
    if held.is_empty() {
        return Ok(0);
    }
    let last = log.read(ReadRequest::new(Topic::State, partition, held.end - 1, 1).prefix(HEAD_BYTES)).await?;
    Ok(last.first().and_then(|record| read_part(&record.payload)).map_or(1, |part| i64::from(part.parts.max(1))))
}

/// The latest complete snapshot of this log in a range of records.
async fn join<L: Log>(log: &L, partition: u16, range: Range<i64>) -> Result<Option<Snapshot>, LogError> {
    let mut joiner = Joiner::of(log.epoch());
    let mut next = range.start;
    while next < range.end {
        let records = log.read(ReadRequest::new(Topic::State, partition, next, READ_BYTES)).await?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        records.iter().for_each(|record| joiner.push(&record.payload));
    }
    Ok(joiner.latest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 << 20;

    fn snapshot(next_offset: i64, size: usize) -> Snapshot {
        Snapshot { epoch: LogEpoch(3), next_offset, state: (0..size).map(|at| (at % 251) as u8).collect() }
    }

    #[test]
    fn a_large_snapshot_is_put_together_from_its_parts() {
        let written = snapshot(7, PART_BYTES * 2 + 5);
        let mut joiner = Joiner::of(LogEpoch(3));
        let records: Vec<_> = split(1, &written, LIMIT).collect();
        assert_eq!(records.len(), 3);
        records.iter().for_each(|record| joiner.push(record));
        assert_eq!(joiner.latest, Some(written));
    }

    #[test]
    fn a_snapshot_cut_short_leaves_the_one_before_it() {
        let mut joiner = Joiner::of(LogEpoch(3));
        split(1, &snapshot(7, 10), LIMIT).for_each(|record| joiner.push(&record));
        split(2, &snapshot(9, PART_BYTES + 1), LIMIT).take(1).for_each(|record| joiner.push(&record));
        split(3, &snapshot(8, 0), LIMIT).for_each(|record| joiner.push(&record));
        assert_eq!(joiner.latest, Some(snapshot(8, 0)));
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..10)) {
            let mut joiner = Joiner::of(LogEpoch(3));
            records.iter().for_each(|record| joiner.push(record));
        }
    }
}
