//! Working through the raw log again: enrich, dedupe and load from an offset on, into the events table or one beside it.
//!
//! Owns the reading side ([`reader`]) and the order of a rebuild ([`swap`]); the rest is what the roles do, with the same fence and the
//! same watermark, so a replay may be interrupted, repeated and run beside the live roles without counting anything twice. Into the events
//! table it stores what lies above what the table has; a table beside takes everything, and may then be swapped in. May go wrong: the log
//! no longer holds the offset asked for, or the table lacks events before it, which would leave a hole.

pub mod dead;
pub mod parts;
mod reader;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::parts::{Control, LogAndStore};
use self::reader::{Counting, Enriching, RawAgain, Work};
use crate::clickhouse::{ClickHouse, Identifier};
use crate::event::record::{self, HEADER_PREFIX, Header};
use crate::load::{self, BlockLimits, RebuildSummary, RebuildTarget, SessionRebuild};
use crate::log::headers::{header_at, header_of};
use crate::log::{Log, ReadRequest, Topic};
use crate::outcome::Count;
use crate::process::ProcessLimits;
use crate::process::enrich::agent::AgentParser;
use crate::store::books::{self, Covering, Outcomes, PartitionKey};
use crate::store::swap::{self, Kept};
use crate::store::tables::EVENTS;
use crate::store::{fence, migrate};

/// Name of the table that reports read.
const EVENTS_NAME: Identifier = EVENTS.name();
/// Raw bytes enriched at a time.
const READ_BYTES: usize = 1 << 20;
/// Between two checks whether inserts into the old table are still running.
const INSERT_POLL: std::time::Duration = std::time::Duration::from_millis(100);
/// How often the table may come no further before a replay gives up, and how far apart.
const TRIES: u32 = 5;
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// What is to be replayed, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where each partition begins.
    pub from: From,
    /// Only this partition.
    pub partition: Option<u16>,
    /// A table beside the events table.
    pub to_table: Option<Identifier>,
    /// Put it in the place of the events table afterwards.
    pub swap: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// At this raw offset, or the first held where `None`.
    Offset(Option<i64>),
    /// At the first record with an event received at this time or later, milliseconds since 1970.
    Time(i64),
}

/// How a replay ended, by outcome. In events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Events in the records that were read.
    pub read: u64,
    /// Events now in the table that were not there before.
    pub stored: u64,
    /// Copies.
    pub duplicate: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that the table already had by their place in the log.
    pub skipped: u64,
    /// Set if it was asked to stop before the end.
    pub interrupted: bool,
}

/// The limits of the roles whose work is done again.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of process.
    pub process: ProcessLimits,
    /// Of load.
    pub load: BlockLimits,
}

/// Replays; `progress` sees how many events were read, of how many.
pub async fn run<L: Log>(parts: LogAndStore<L>, request: &Request, limits: Limits, control: Control<impl Fn(u64, u64)>) -> Result<Summary> {
    let LogAndStore { log, store } = parts;
    let Control { stop, progress } = control;
    let table = request.to_table.clone().unwrap_or(EVENTS.name());
    let partitions = log.partitions(Topic::Raw);
    if let Some(partition) = request.partition.filter(|partition| *partition >= partitions) {
        bail!("--partition {partition}: the log has partitions 0 to {}", partitions - 1);
    }
    let replay = Replay::new(log, store, limits, stop);
    if !request.dry_run {
        let begun = swap::begun(&replay.store).await.context("looking for a swap that was cut")?;
        if let Some(name) = &begun {
            tracing::warn!(table = %name, "a swap was cut: ending it first");
            // A server whose tables are not exchanged yet has not seen migrations of since.
            migrate::create_beside(&replay.store, name).await.with_context(|| format!("making table {name}"))?;
            replay.swap(name).await?;
        }
        if request.swap && begun == request.to_table {
            return Ok(replay.summary(Outcomes::default()));
        }
    }
    if let Some(name) = request.to_table.as_ref().filter(|_| !request.dry_run) {
        if swap::is_replaced(&replay.store, name).await.with_context(|| format!("looking at table {name}"))? {
            bail!("--to-table {name}: it has the rows of before an earlier swap; drop it, or give another name");
        }
        migrate::create_beside(&replay.store, name).await.with_context(|| format!("making table {name}"))?;
    }
    let mut works = Vec::new();
    for partition in (0..partitions).filter(|number| request.partition.is_none_or(|only| only == *number)) {
        works.push(replay.work(request, partition).await?);
    }
    let mut all = 0;
    for work in &works {
        all += count(&replay.log, work.partition, work.range.clone()).await?;
    }
    if request.dry_run {
        return Ok(Summary { read: all, ..Summary::default() });
    }
    let ranges: Vec<(u16, Range<i64>)> = works.iter().map(|work| (work.partition, work.range.clone())).collect();
    let kept = Kept::new(replay.log.epoch(), &ranges);
    if request.swap {
        // First, so that what is loaded behind it finds its copies, and the sessions that it goes on with.
        kept.copy(&replay.store, &table).await.context("copying what is not replayed")?;
    }
    let before = replay.outcomes(&table).await?;
    for work in works {
        replay.load(&table, work, |read| progress(read, all)).await?;
    }
    if request.swap && !replay.stop.is_cancelled() {
        replay.say_again(&kept, &table).await.context("computing sessions again that were rebuilt before")?;
    }
    let is_swapped = request.swap && !replay.stop.is_cancelled();
    if is_swapped {
        swap::mark(&replay.store, &table).await.with_context(|| format!("marking table {table}"))?;
        replay.swap(&table).await?;
    }
    let after = replay.outcomes(&if is_swapped { EVENTS_NAME } else { table }).await?;
    Ok(replay.summary(after.since(before)))
}

/// What one run has in its hands.
struct Replay<L> {
    log: L,
    store: ClickHouse,
    limits: Limits,
    stop: CancellationToken,
    agents: Arc<AgentParser>,
    /// Events read.
    read: Arc<AtomicU64>,
}

impl<L: Log> Replay<L> {
    fn new(log: L, store: ClickHouse, limits: Limits, stop: CancellationToken) -> Self {
        Self { log, store, limits, stop, agents: Arc::new(AgentParser::new()), read: Arc::default() }
    }

    async fn outcomes(&self, table: &Identifier) -> Result<Outcomes> {
        books::outcomes(&self.store, &self.store.table(table.clone()), self.log.epoch()).await.context("counting")
    }

    fn key(&self, partition: u16) -> PartitionKey {
        PartitionKey { epoch: self.log.epoch(), partition }
    }

    fn summary(&self, outcomes: Outcomes) -> Summary {
        let Outcomes { stored, duplicate, dead } = outcomes;
        let read = self.read.load(Ordering::Relaxed);
        let skipped = read.saturating_sub(stored + duplicate + dead);
        Summary { read, stored, duplicate, dead, skipped, interrupted: self.stop.is_cancelled() }
    }

    /// What is to be read of a partition.
    async fn work(&self, request: &Request, partition: u16) -> Result<Work> {
        let (range, loaded) = range(&self.log, &self.store, request, partition).await?;
        let after = loaded.map_or(range.start, |loaded| range.start.min(loaded + 1)) - 1;
        Ok(Work { partition, range, after })
    }

    /// Loads until the table has everything, or asked to stop. Errors: the log cannot give what is to be read, or the table does not
    /// come further.
    async fn load(&self, table: &Identifier, work: Work, progress: impl Fn(u64)) -> Result<()> {
        let (partition, last) = (work.partition, work.range.end - 1);
        let mut reached = watermark(&self.store, table, self.key(partition)).await?;
        let mut tries = 0;
        loop {
            self.load_once(table, work.clone(), &progress).await.with_context(|| format!("partition {partition}"))?;
            if self.stop.is_cancelled() || work.range.is_empty() {
                return Ok(());
            }
            // The end of the reading is not the end of the loading: a last insert that failed is given up as for a stop.
            let now = watermark(&self.store, table, self.key(partition)).await?;
            if now >= Some(last) {
                return Ok(());
            }
            tries = if now > reached { 0 } else { tries + 1 };
            reached = now;
            if tries == TRIES {
                let reached = reached.map_or("none".to_owned(), |offset| offset.to_string());
                bail!(
                    "partition {partition}: {table} has raw offsets up to {reached} and comes no further, {last} are to be loaded; run again, it goes on there"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn load_once(&self, table: &Identifier, work: Work, progress: &impl Fn(u64)) -> Result<()> {
        let done = self.stop.child_token();
        let max_record_bytes = self.log.max_record_bytes();
        let enriching = Enriching { agents: Arc::clone(&self.agents), max_record_bytes };
        let reader = RawAgain::new(self.log.clone(), work, enriching, Counting { read: Arc::clone(&self.read), done: done.clone() });
        let problem = reader.problem();
        let target = RebuildTarget { table: table.clone(), partitions: self.log.partitions(Topic::Raw), limits: self.limits.load.clone() };
        let loading = load::load_partition(self.store.clone(), target, reader, done);
        tokio::pin!(loading);
        loop {
            tokio::select! {
                ended = &mut loading => {
                    ended?;
                    return problem.get().cloned().map_or(Ok(()), |problem| Err(problem.into()));
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => progress(self.read.load(Ordering::Relaxed)),
            }
        }
    }

    /// What was said of the sessions of kept events behind them is said again in `table`, by the rules that what is replayed has, too.
    async fn say_again(&self, kept: &Kept, table: &Identifier) -> Result<()> {
        let revised = kept.revised(&self.store).await?;
        let (partitions, projects) = (self.log.partitions(Topic::Enriched), self.limits.load.projects().clone());
        let rebuild = SessionRebuild::new(self.store.clone(), table, partitions, projects);
        let RebuildSummary { changed, skipped, .. } = rebuild.run_of(&revised, self.stop.clone()).await?;
        if changed > 0 {
            tracing::info!(visitors = changed, "sessions from before what was replayed are as `pulse sessions rebuild` made them");
        }
        if skipped > 0 {
            tracing::warn!(visitors = skipped, "visitors with too many events a day have the sessions of before `pulse sessions rebuild`");
        }
        Ok(())
    }

    /// Puts the marked table `name` in the place of the events table, with everything that live roles have stored in that meanwhile.
    async fn swap(&self, name: &Identifier) -> Result<()> {
        swap::exchange(&self.store, name).await.with_context(|| format!("swapping {name} and {EVENTS_NAME}"))?;
        self.wait_for_inserts().await.context("waiting for inserts into the old table")?;
        for partition in 0..self.log.partitions(Topic::Raw) {
            self.catch_up(name, partition).await?;
        }
        if !self.stop.is_cancelled() {
            swap::close(&self.store, name).await.with_context(|| format!("ending the swap of {name} and {EVENTS_NAME}"))?;
        }
        Ok(())
    }

    /// Waits until no insert is running that began before now: it may still end in the table that was replaced.
    async fn wait_for_inserts(&self) -> Result<()> {
        let began = tokio::time::Instant::now();
        for node in self.store.nodes() {
            while fence::has_inserts_older_than(node, began.elapsed().as_secs_f64()).await? {
                tokio::time::sleep(INSERT_POLL).await;
            }
        }
        Ok(())
    }

    /// Loads what the old rows, now in `name`, have of a partition beyond the new ones. A live loader does it too once the partition
    /// gets its next record, and only then.
    async fn catch_up(&self, name: &Identifier, partition: u16) -> Result<()> {
        let old = watermark(&self.store, name, self.key(partition)).await?;
        let new = watermark(&self.store, &EVENTS_NAME, self.key(partition)).await?;
        let Some(old) = old.filter(|old| new.is_none_or(|new| new < *old)) else { return Ok(()) };
        let held = self.log.bounds(Topic::Raw, partition).await?;
        let start = new.map_or(held.start, |new| new + 1);
        if start < held.start {
            bail!(
                "partition {partition}: the raw offsets {start} to {} are only in table {name}: the log no longer holds them",
                held.start - 1
            );
        }
        let work = Work { partition, range: start..old + 1, after: start - 1 };
        self.load(&EVENTS_NAME, work, |_| ()).await
    }
}

/// The raw offsets of a partition that are to be replayed, and the highest that the table has.
async fn range<L: Log>(log: &L, store: &ClickHouse, request: &Request, partition: u16) -> Result<(Range<i64>, Option<i64>)> {
    let held = log.bounds(Topic::Raw, partition).await?;
    let mut start = match request.from {
        From::Offset(None) => held.start,
        From::Offset(Some(offset)) if held.contains(&offset) || offset == held.end => offset,
        From::Offset(Some(offset)) => {
            bail!("--from-offset {offset}: partition {partition} holds raw offsets {} to {}", held.start, held.end - 1)
        }
        From::Time(at_ms) => first_at(log, partition, held.clone(), at_ms).await?,
    };
    let key = PartitionKey { epoch: log.epoch(), partition };
    let loaded = watermark(store, &EVENTS_NAME, key).await?;
    if let Some(loaded) = loaded.filter(|loaded| loaded + 1 < held.start) {
        let count = held.start - loaded - 1;
        tracing::error!(partition, from = loaded + 1, to = held.start, count, "raw records are gone that the table does not have");
    }
    if request.to_table.is_none() && start > held.start && start > loaded.map_or(held.start, |loaded| loaded + 1) {
        bail!(
            "--from-offset {start}: of partition {partition} the table has raw offsets up to {}, so a replay from there would leave a hole",
            loaded.map_or("none".to_owned(), |loaded| loaded.to_string())
        );
    }
    if request.swap {
        let before = books::end_of_block(store, key, start).await.context("reading where a block ends")?;
        let cut = books::block_that_ends_from(store, key, held.start).await.context("reading where a block ends")?;
        let asked = start;
        start = first_of_swap(held.clone(), before, cut);
        if start > asked {
            tracing::warn!(
                partition,
                first = held.start,
                start,
                "the log holds a part of a block only: the block is kept as it is, and replayed is what follows on it"
            );
        }
    }
    Ok((start..held.end, loaded))
}

/// Where a replay with a swap begins that was to begin behind the block that ends at `before`, if there is one. What is below it is copied
/// from the old table, which has whole blocks only: its books and what it says of sessions stand at the end of a block, so one of which
/// the log has lost a part must be copied whole. `cut` is the first block that ends at the first record held or later.
fn first_of_swap(held: Range<i64>, before: Option<i64>, cut: Option<Covering>) -> i64 {
    let is_cut = |block: &Covering| block.previous + 1 < held.start;
    let whole = cut.filter(is_cut).map_or(held.start, |block| block.last + 1);
    before.map_or(held.start, |last| last + 1).max(whole).min(held.end)
}

async fn watermark(store: &ClickHouse, table: &Identifier, key: PartitionKey) -> Result<Option<i64>> {
    books::watermark(store, &store.table(table.clone()), key).await.context("reading how far the table is")
}

/// The first offset whose record was received at `at_ms` or later. Receipt only grows within a partition, nearly: records
/// that ingest had open at once may be swapped by their linger, so it begins a little early.
async fn first_at<L: Log>(log: &L, partition: u16, held: Range<i64>, at_ms: i64) -> Result<i64> {
    const LINGER_MS: i64 = 1_000;
    let Range { start: mut low, end: mut high } = held;
    while low < high {
        let middle = low + (high - low) / 2;
        let received = header_at(log, partition, middle).await?.map_or(i64::MIN, |header| header.received_ms);
        if received < at_ms - LINGER_MS { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// Events received in the records of a range.
async fn count<L: Log>(log: &L, partition: u16, range: Range<i64>) -> Result<u64> {
    let (mut next, mut events) = (range.start, 0);
    while next < range.end {
        let records = log.read(ReadRequest::new(Topic::Raw, partition, next, READ_BYTES).prefix(HEADER_PREFIX)).await?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records.iter().filter(|record| record.offset < range.end) {
            events += header_of(log, partition, record).await?.map_or(1, |header| received_by(&header));
        }
    }
    Ok(events)
}

/// Events received in a record; one that cannot be read counts as one, as it does in the books.
fn received(payload: &[u8]) -> u64 {
    record::header(payload).map_or(1, |header| received_by(&header))
}

fn received_by(header: &Header) -> u64 {
    header.tallies.0.iter().map(|tally| u64::from(tally.count(Count::Received))).sum()
}

#[cfg(test)]
mod tests;
