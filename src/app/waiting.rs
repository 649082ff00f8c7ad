//! Events in the raw topic that the table does not show yet: the part of the ledger that the log answers.

use crate::event::ids::ProjectId;
use crate::event::record::{self, HEADER_PREFIX, Header, Tally};
use crate::log::{Log, LogError, Record, Topic};
use crate::outcome::Count;
use crate::query::ledger::{Lag, Waiting, WaitingTally, Watermark};

/// Header bytes read at a time.
const READ_BYTES: usize = 4 << 20;

/// Counts what lies above the watermarks, from the records' headers alone.
#[derive(Clone)]
pub(super) struct LogWaiting<L: Log>(pub(super) L);

impl<L: Log> Waiting for LogWaiting<L> {
    async fn above(&self, watermarks: &[Watermark]) -> Result<(Vec<WaitingTally>, Vec<Lag>), String> {
        let mut tallies = Vec::new();
        let mut lags = Vec::new();
        for partition in 0..self.0.partitions(Topic::Raw) {
            let stored = watermarks.iter().find(|mark| mark.epoch == self.0.epoch() && mark.partition == partition);
            let after = stored.map_or(0, |mark| mark.offset + 1);
            lags.push(self.partition(partition, after, &mut tallies).await.map_err(|problem| problem.to_string())?);
        }
        Ok((tallies, lags))
    }
}

impl<L: Log> LogWaiting<L> {
    async fn partition(&self, partition: u16, after: i64, tallies: &mut Vec<WaitingTally>) -> Result<Lag, LogError> {
        let held = self.0.bounds(Topic::Raw, partition).await?;
        let mut next = after.max(held.start);
        let mut lag = Lag { partition, ..Lag::default() };
        while next < held.end {
            let records = self.0.read(Topic::Raw, partition, next, READ_BYTES, Some(HEADER_PREFIX)).await?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.iter().filter(|record| record.offset < held.end) {
                let header = self.header(partition, record).await?;
                add(header, &mut lag, tallies);
            }
        }
        Ok(lag)
    }

    /// The header of a record; `None` for one that is not ours.
    async fn header(&self, partition: u16, record: &Record) -> Result<Option<Header>, LogError> {
        match record::header(&record.payload) {
            // Rarely a header is longer than what was asked for: many projects in one record.
            Err(_) if record.payload.len() >= HEADER_PREFIX => {
                let whole = self.0.read(Topic::Raw, partition, record.offset, 1, None).await?;
                Ok(whole.first().and_then(|record| record::header(&record.payload).ok()))
            }
            header => Ok(header.ok()),
        }
    }
}

fn add(header: Option<Header>, lag: &mut Lag, tallies: &mut Vec<WaitingTally>) {
    lag.records += 1;
    let Some(header) = header else {
        // Process will count it as one event of nobody's, dead.
        lag.events += 1;
        tallies.push(WaitingTally { project: ProjectId::BOOKS, minute_ms: 0, source: 0, events: 1, rejected: 0 });
        return;
    };
    if lag.oldest_ms == 0 {
        lag.oldest_ms = header.received_ms;
    }
    for tally in &header.tallies.0 {
        let events = u64::from(tally.count(Count::Received));
        lag.events += events;
        tallies.push(WaitingTally {
            project: tally.project,
            minute_ms: i64::from(tally.minute) * 60_000,
            source: header.source,
            events,
            rejected: rejected(tally),
        });
    }
}

fn rejected(tally: &Tally) -> u64 {
    tally.counts.iter().filter(|(count, _)| matches!(count, Count::Rejected(_))).map(|(_, number)| u64::from(*number)).sum()
}
