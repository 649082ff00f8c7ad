//! What a partition remembers, written to the state topic so that a restart goes on as if nothing had happened.
//!
//! A snapshot is several records, each a part: `u64` id, `u32` part, `u32` parts, `i64` raw offset to resume at, `u64` epoch
//! of the log that offset is of, bytes. The
//! latest of which all parts are there counts; one cut short by a crash is passed over.

use crate::event::ids::LogEpoch;
use crate::log::{Log, LogError, Topic};

/// Part of a snapshot in one record: well below the largest record the log takes.
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

/// Splits a snapshot into the records that hold it.
pub(super) fn split(id: u64, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let parts = snapshot.state.len().div_ceil(PART_BYTES).max(1);
    (0..parts)
        .map(|part| {
            let from = part * PART_BYTES;
            let bytes = snapshot.state.get(from..snapshot.state.len().min(from + PART_BYTES)).unwrap_or_default();
            let mut record = Vec::with_capacity(HEAD_BYTES + bytes.len());
            record.extend_from_slice(&id.to_le_bytes());
            record.extend_from_slice(&(part as u32).to_le_bytes());
            record.extend_from_slice(&(parts as u32).to_le_bytes());
            record.extend_from_slice(&snapshot.next_offset.to_le_bytes());
            record.extend_from_slice(&snapshot.epoch.0.to_le_bytes());
            record.extend_from_slice(bytes);
            record
        })
        .collect()
}

/// Puts snapshots together again from their records, in log order.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    id: u64,
    next_part: u32,
    open: Vec<u8>,
    /// The latest complete one.
    pub(super) latest: Option<Snapshot>,
}

impl Joiner {
    /// Takes the next record; one that is not a part of a snapshot breaks the open one and is passed over.
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
        if self.next_part == parts {
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
    fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
        let (bytes, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(*bytes)
    }
    let id = u64::from_le_bytes(take(&mut record)?);
    let part = u32::from_le_bytes(take(&mut record)?);
    let parts = u32::from_le_bytes(take(&mut record)?);
    let next_offset = i64::from_le_bytes(take(&mut record)?);
    let epoch = LogEpoch(u64::from_le_bytes(take(&mut record)?));
    Some(Part { id, part, parts, next_offset, epoch, bytes: record })
}

/// The latest complete snapshot of a partition, if there is one. One of another log, whose raw topic was deleted since, is
/// none: its offset means something else here.
pub(super) async fn latest<L: Log>(log: &L, partition: u16) -> Result<Option<Snapshot>, LogError> {
    let held = log.bounds(Topic::State, partition).await?;
    let mut joiner = Joiner::default();
    let mut next = held.start;
    while next < held.end {
        let records = log.read(Topic::State, partition, next, READ_BYTES, None).await?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        records.iter().for_each(|record| joiner.push(&record.payload));
    }
    Ok(joiner.latest.filter(|snapshot| snapshot.epoch == log.epoch()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(next_offset: i64, size: usize) -> Snapshot {
        Snapshot { epoch: LogEpoch(3), next_offset, state: (0..size).map(|at| (at % 251) as u8).collect() }
    }

    #[test]
    fn a_large_snapshot_is_put_together_from_its_parts() {
        let written = snapshot(7, PART_BYTES * 2 + 5);
        let mut joiner = Joiner::default();
        let records = split(1, &written);
        assert_eq!(records.len(), 3);
        records.iter().for_each(|record| joiner.push(record));
        assert_eq!(joiner.latest, Some(written));
    }

    #[test]
    fn a_snapshot_cut_short_leaves_the_one_before_it() {
        let mut joiner = Joiner::default();
        split(1, &snapshot(7, 10)).iter().for_each(|record| joiner.push(record));
        split(2, &snapshot(9, PART_BYTES + 1)).iter().take(1).for_each(|record| joiner.push(record));
        split(3, &snapshot(8, 0)).iter().for_each(|record| joiner.push(record));
        assert_eq!(joiner.latest, Some(snapshot(8, 0)));
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..10)) {
            let mut joiner = Joiner::default();
            records.iter().for_each(|record| joiner.push(record));
        }
    }
}
