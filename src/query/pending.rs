//! Events in the raw topic that the table does not show yet: what the log adds to the ledger, and to `data_through` of an answer.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::event::ids::{LogEpoch, ProjectId};
use crate::event::packed::EventView;
use crate::event::record::{self, HEADER_PREFIX, Header, Tally};
use crate::log::headers::header_of;
use crate::log::{Log, LogError, ReadRequest, Topic};
use crate::outcome::Count;

/// Header bytes read at a time.
const READ_BYTES: usize = 4 << 20;
/// Most reads of a partition where each fetches whole records. What lies behind them is estimated: a question must not cost as much
/// as the backlog.
const MOST_READS: usize = 16;
/// Partitions asked at a time.
const AT_ONCE: usize = 4;

/// How far the table is in one partition of the raw topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Identity of the log.
    pub epoch: LogEpoch,
    /// Raw partition.
    pub partition: u16,
    /// Highest raw offset in the table.
    pub offset: i64,
}

/// Knows what the log holds above the table's watermarks. A partition without a watermark counts from its start.
pub trait PendingEvents: Send + Sync + 'static {
    /// What lies above `watermarks`.
    fn above<'a>(&'a self, watermarks: &'a [Watermark]) -> BoxFuture<'a, Result<Backlog, LogError>>;

    /// When the oldest of the first records above `watermarks` was received, over all partitions, milliseconds since 1970; none if
    /// there is no such record.
    fn oldest<'a>(&'a self, watermarks: &'a [Watermark]) -> BoxFuture<'a, Result<Option<i64>, LogError>>;
}

/// What lies above the watermarks.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// By project, minute of receipt and import run.
    pub tallies: Vec<PendingTally>,
    /// By partition.
    pub lags: Vec<Lag>,
}

/// Events above a watermark, of one project and minute of receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingTally {
    /// The project.
    pub project: ProjectId,
    /// Minute of receipt, milliseconds since 1970.
    pub minute_ms: i64,
    /// When their record was received, milliseconds since 1970; 0 if that is not known.
    pub received_ms: i64,
    /// Import run; 0 for live events.
    pub source: u64,
    /// Events received and not yet in the table.
    pub events: u64,
    /// Events refused whose books are not yet in the table.
    pub rejected: u64,
}

/// How far one partition is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records above the watermark.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Whether there are too many records to read each: then `events` is extrapolated from the first of them.
    pub is_estimated: bool,
}

/// Counts what a log holds above the watermarks, from the headers of its records alone.
#[derive(Clone)]
pub struct LogPending<L: Log>(pub L);

impl<L: Log> PendingEvents for LogPending<L> {
    fn above<'a>(&'a self, watermarks: &'a [Watermark]) -> BoxFuture<'a, Result<Backlog, LogError>> {
        let counting = async move {
            let mut backlog = Backlog::default();
            for partition in 0..self.0.partitions(Topic::Raw) {
                let after = self.after(watermarks, partition);
                let lag = self.partition(partition, after, &mut backlog.tallies).await?;
                backlog.lags.push(lag);
            }
            Ok(backlog)
        };
        counting.boxed()
    }

    fn oldest<'a>(&'a self, watermarks: &'a [Watermark]) -> BoxFuture<'a, Result<Option<i64>, LogError>> {
        let oldest = move |partition| async move { self.first_receipt(partition, self.after(watermarks, partition)).await };
        let all = stream::iter(0..self.0.partitions(Topic::Raw)).map(oldest).buffer_unordered(AT_ONCE);
        all.try_fold(None, |oldest: Option<i64>, one| async move { Ok(oldest.into_iter().chain(one).min()) }).boxed()
    }
}

impl<L: Log> LogPending<L> {
    /// The first offset above the watermark of a partition.
    fn after(&self, watermarks: &[Watermark], partition: u16) -> i64 {
        let stored = watermarks.iter().find(|mark| mark.epoch == self.0.epoch() && mark.partition == partition);
        stored.map_or(0, |mark| mark.offset + 1)
    }

    /// When the first record at or behind `after` was received; none if there is no such record.
    async fn first_receipt(&self, partition: u16, after: i64) -> Result<Option<i64>, LogError> {
        let held = self.0.bounds(Topic::Raw, partition).await?;
        let from = after.max(held.start);
        if from >= held.end {
            return Ok(None);
        }
        let records = self.0.read(ReadRequest::new(Topic::Raw, partition, from, 1)).await?;
        let first = records.iter().find_map(|record| oldest_event(&record.payload));
        let unreadable = || LogError::Corrupt(format!("raw/{partition} at {from}: no time of receipt"));
        first.map(Some).ok_or_else(unreadable)
    }

    async fn partition(&self, partition: u16, after: i64, tallies: &mut Vec<PendingTally>) -> Result<Lag, LogError> {
        let held = self.0.bounds(Topic::Raw, partition).await?;
        let mut next = after.max(held.start);
        let mut lag = Lag::default();
        let mut sums = Sums::default();
        let mut reads_left = if self.0.reads_prefixes_alone() { usize::MAX } else { MOST_READS };
        while next < held.end && reads_left > 0 {
            reads_left -= 1;
            let records = self.0.read(ReadRequest::new(Topic::Raw, partition, next, READ_BYTES).prefix(HEADER_PREFIX)).await?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.iter().filter(|record| record.offset < held.end) {
                let header = header_of(&self.0, partition, record).await?;
                sums.add(header, &mut lag);
            }
        }
        let read: Vec<PendingTally> = sums.0.into_values().collect();
        if reads_left == 0 {
            tallies.extend(estimate(u64::try_from(held.end - next).unwrap_or(0), &mut lag, &read));
        }
        tallies.extend(read);
        Ok(lag)
    }
}

/// What `unread` records hold if they are like those that were read, whose events are in `tallies`. Their events are of the last minute that was read.
fn estimate(unread: u64, lag: &mut Lag, tallies: &[PendingTally]) -> Vec<PendingTally> {
    let Some(minute_ms) = tallies.iter().map(|tally| tally.minute_ms).max().filter(|_| unread > 0) else { return Vec::new() };
    let mut estimated = Vec::new();
    let mut read = BTreeMap::<(ProjectId, u64), (u64, u64)>::new();
    for tally in tallies {
        let sums = read.entry((tally.project, tally.source)).or_default();
        *sums = (sums.0 + tally.events, sums.1 + tally.rejected);
    }
    let records = lag.records;
    let of_unread = |number: u64| u64::try_from(u128::from(number) * u128::from(unread) / u128::from(records.max(1))).unwrap_or(u64::MAX);
    for ((project, source), (events, rejected)) in read {
        let events = of_unread(events);
        lag.events += events;
        estimated.push(PendingTally { project, minute_ms, received_ms: 0, source, events, rejected: of_unread(rejected) });
    }
    lag.records += unread;
    lag.is_estimated = true;
    estimated
}

/// What was read of a partition, by project, minute and import run: a backlog of days has millions of records.
#[derive(Debug, Default)]
struct Sums(BTreeMap<(ProjectId, i64, u64), PendingTally>);

impl Sums {
    /// Adds a record; one that is not ours has no header.
    fn add(&mut self, header: Option<Header>, lag: &mut Lag) {
        lag.records += 1;
        let Some(header) = header else {
            // Process will count it as one dead event of no project.
            lag.events += 1;
            return self.add_tally(PendingTally {
                project: ProjectId::BOOKS,
                minute_ms: 0,
                received_ms: 0,
                source: 0,
                events: 1,
                rejected: 0,
            });
        };
        for tally in &header.tallies.0 {
            let events = u64::from(tally.count(Count::Received));
            lag.events += events;
            self.add_tally(PendingTally {
                project: tally.project,
                minute_ms: i64::from(tally.minute) * 60_000,
                received_ms: header.received_ms,
                source: header.source,
                events,
                rejected: rejected(tally),
            });
        }
    }

    fn add_tally(&mut self, tally: PendingTally) {
        let PendingTally { project, minute_ms, source, .. } = tally;
        let sum = self.0.entry((project, minute_ms, source)).or_insert(PendingTally { events: 0, rejected: 0, ..tally });
        // The oldest of those with events.
        sum.received_ms = match (sum.events, tally.events) {
            (_, 0) => sum.received_ms,
            (0, _) => tally.received_ms,
            _ => sum.received_ms.min(tally.received_ms),
        };
        sum.events += tally.events;
        sum.rejected += tally.rejected;
    }
}

/// When the oldest event of a record was received; of one without events, when it was made.
fn oldest_event(payload: &[u8]) -> Option<i64> {
    let mut body = Vec::new();
    let header = record::decode(payload, &mut body).or_else(|_| record::header(payload)).ok()?;
    let mut rest = body.as_slice();
    let events = std::iter::from_fn(|| EventView::take(&mut rest)).map(|event| event.header.received_ms);
    Some(events.chain([header.received_ms]).min().unwrap_or(header.received_ms))
}

fn rejected(tally: &Tally) -> u64 {
    tally.counts.iter().filter(|(count, _)| count.is_rejected()).map(|(_, number)| u64::from(*number)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_minute_are_one_tally_with_the_time_of_the_oldest_that_has_events() {
        let mut sums = Sums::default();
        for (minute_ms, received_ms, events, rejected) in [(0, 5, 0, 1), (0, 9, 2, 0), (0, 7, 3, 0), (0, 1, 0, 4), (60_000, 70_000, 1, 0)] {
            sums.add_tally(PendingTally { project: ProjectId(1), minute_ms, received_ms, source: 0, events, rejected });
        }
        let sums: Vec<_> = sums.0.into_values().map(|sum| (sum.minute_ms, sum.received_ms, sum.events, sum.rejected)).collect();
        assert_eq!(sums, [(0, 7, 5, 5), (60_000, 70_000, 1, 0)]);
    }

    #[test]
    fn what_is_not_read_is_taken_to_be_like_what_was_read() {
        let tally = |project, minute_ms, events, rejected| PendingTally {
            project: ProjectId(project),
            minute_ms,
            received_ms: 0,
            source: 0,
            events,
            rejected,
        };
        let of_another_partition = tally(1, 0, 1_000, 0);
        let mut tallies = vec![of_another_partition, tally(1, 60_000, 30, 0), tally(2, 60_000, 5, 1), tally(1, 120_000, 10, 0)];
        let mut lag = Lag { records: 4, events: 45, ..Lag::default() };
        tallies.extend(estimate(8, &mut lag, &tallies.clone()[1..]));
        assert_eq!(tallies[4..], [tally(1, 120_000, 80, 0), tally(2, 120_000, 10, 2)]);
        assert_eq!((lag.records, lag.events, lag.is_estimated), (12, 135, true));
        let known = tallies.len();
        tallies.extend(estimate(0, &mut lag, &tallies.clone()));
        assert_eq!((tallies.len(), lag.records), (known, 12));
    }
}
