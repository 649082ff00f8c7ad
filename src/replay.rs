//! Working through the raw log again: enrich, dedupe and load from an offset on, into the events table or one beside it.
//!
//! Owns the reading side ([`RawAgain`]); the rest is what the roles do, with the same fence and the same watermark, so a
//! replay may be interrupted, repeated and run beside the live roles without counting anything twice. Into the events table
//! it stores what lies above what the table has; a table beside takes everything, and may then be swapped in. May go wrong:
//! the log no longer holds the offset asked for, or the table lacks events before it, which would leave a hole.

pub mod dead;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, Statement, migrate};
use crate::event::record::{self, HEADER_PREFIX, RawOrigin};
use crate::load::{self, BlockLimits};
use crate::log::{Ack, Log, LogError, PartitionReader, Record, Topic};
use crate::outcome::Count;
use crate::process::enrich::agent::AgentParser;
use crate::process::{Enricher, ProcessLimits};

/// Name of the table that reports read.
const EVENTS: &str = "events";
/// Raw bytes enriched at a time.
const READ_BYTES: usize = 1 << 20;

/// What is to be replayed, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where each partition begins.
    pub from: From,
    /// Only this partition.
    pub partition: Option<u16>,
    /// A table beside the events table.
    pub to_table: Option<String>,
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
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of process.
    pub process: ProcessLimits,
    /// Of load.
    pub load: BlockLimits,
}

/// Replays; `progress` is told the events read so far and those in all.
pub async fn run<L: Log>(
    (log, store): (L, ClickHouse),
    request: &Request,
    limits: Limits,
    (stop, progress): (CancellationToken, impl Fn(u64, u64)),
) -> Result<Summary> {
    let table = request.to_table.as_deref().unwrap_or(EVENTS);
    let partitions = log.partitions(Topic::Raw);
    if let Some(partition) = request.partition.filter(|partition| *partition >= partitions) {
        bail!("--partition {partition}: the log has partitions 0 to {}", partitions - 1);
    }
    let is_beside = request.to_table.is_some();
    if is_beside && !request.dry_run {
        migrate::create_beside(&store, table).await.with_context(|| format!("making table {table}"))?;
    }
    let (mut ranges, mut afters) = (Vec::new(), Vec::new());
    for partition in (0..partitions).filter(|number| request.partition.is_none_or(|only| only == *number)) {
        let (range, loaded) = range(&log, &store, request, partition).await?;
        afters.push(loaded.map_or(range.start, |loaded| range.start.min(loaded + 1)) - 1);
        ranges.push((partition, range));
    }
    let mut all = 0;
    for (partition, range) in &ranges {
        all += count(&log, *partition, range.clone()).await?;
    }
    if request.dry_run {
        return Ok(Summary { read: all, ..Summary::default() });
    }
    let before = outcomes(&store, table, log.epoch()).await?;
    let agents = Arc::new(AgentParser::new());
    let read = Arc::new(AtomicU64::new(0));
    for ((partition, range), after) in ranges.iter().zip(afters) {
        let done = stop.child_token();
        let reader = RawAgain {
            enricher: Enricher::new(limits.process, Arc::clone(&agents), log.max_record_bytes()),
            log: log.clone(),
            partition: *partition,
            next: warm_up(&log, *partition, range.start, limits.process.session_gap_ms()).await?,
            range: range.clone(),
            after,
            done: done.clone(),
            read: Arc::clone(&read),
            ready: Vec::new(),
            unacked: VecDeque::new(),
        };
        let loading = load::load_partition((store.clone(), table), reader, (limits.load, partitions), done);
        tokio::pin!(loading);
        loop {
            tokio::select! {
                ended = &mut loading => break ended.with_context(|| format!("partition {partition}"))?,
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => progress(read.load(Ordering::Relaxed), all),
            }
        }
    }
    let interrupted = stop.is_cancelled();
    if request.swap && !interrupted {
        take_over(&store, table, (log.epoch().0, &ranges)).await.context("copying what the log no longer holds")?;
        migrate::swap(&store, table, partitions).await.with_context(|| format!("swapping {table} and {EVENTS}"))?;
    }
    let counted = if request.swap && !interrupted { EVENTS } else { table };
    let after = outcomes(&store, counted, log.epoch()).await?;
    let [stored, duplicate, dead] = std::array::from_fn(|index| after[index].saturating_sub(before[index]));
    let read = read.load(Ordering::Relaxed);
    Ok(Summary { read, stored, duplicate, dead, skipped: read.saturating_sub(stored + duplicate + dead), interrupted })
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
    let loaded = watermark(store, EVENTS, (log.epoch().0, partition), i64::MAX).await?;
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
    if request.swap && start > held.start {
        // What is before it is copied from the old table, which has whole blocks only.
        start = watermark(store, EVENTS, (log.epoch().0, partition), start).await?.map_or(held.start, |last| last + 1);
        if start < held.start {
            bail!("--swap: the log holds partition {partition} from offset {}; begin there or later", held.start);
        }
    }
    Ok((start..held.end, loaded))
}

/// The highest raw offset below `below` at which a block of the table ends.
async fn watermark(store: &ClickHouse, table: &str, (epoch, partition): (u64, u16), below: i64) -> Result<Option<i64>> {
    let sql = format!(
        "SELECT toString(count()), toString(max(log_offset)) FROM {}.{table} WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}} \
         AND log_partition = {{partition:UInt16}} AND log_offset < {{below:Int64}}",
        store.database
    );
    let statement = Statement::of(sql).bind("epoch", epoch).bind("partition", partition).bind("below", below);
    let rows: Vec<(String, String)> = store.rows_of_shards(&statement).await.context("reading how far the table is")?;
    Ok(rows.iter().filter(|(count, _)| count != "0").filter_map(|(_, offset)| offset.parse().ok()).max())
}

/// Events stored, duplicate and dead according to the books of a table.
async fn outcomes(store: &ClickHouse, table: &str, epoch: crate::event::ids::LogEpoch) -> Result<[u64; 3]> {
    let sql = format!(
        "SELECT toString(sum(numbers['stored'])), toString(sum(numbers['duplicate'])), \
         toString(sum(arraySum(mapValues(mapFilter((name, number) -> startsWith(name, 'dead'), numbers))))) \
         FROM {}.{table} WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}}",
        store.database
    );
    let rows: Vec<[String; 3]> = store.rows_of_shards(&Statement::of(sql).bind("epoch", epoch.0)).await.context("counting")?;
    let number = |text: &String| text.parse::<f64>().map_or(0, |number| number as u64);
    Ok(std::array::from_fn(|outcome| rows.iter().filter_map(|row| row.get(outcome)).map(number).sum()))
}

/// Copies into `table` what the events table has of other logs, and of this one from before the replay.
async fn take_over(store: &ClickHouse, table: &str, (epoch, ranges): (u64, &[(u16, Range<i64>)])) -> Result<()> {
    let replayed: Vec<String> =
        ranges.iter().map(|(partition, range)| format!("(log_partition = {partition} AND log_offset >= {})", range.start)).collect();
    let filter = format!("NOT (log_epoch = {epoch} AND ({}))", replayed.join(" OR "));
    let database = &store.database;
    let copied = format!("SELECT toString(count()) FROM {database}.{table} WHERE {filter}");
    let rows: Vec<(String,)> = store.rows_of_shards(&Statement::of(copied)).await?;
    if rows.iter().any(|(count,)| count != "0") {
        bail!("table {table} already holds rows that are not of this replay; drop it and begin again");
    }
    let unguarded = format!("ALTER TABLE {database}.{table} DROP CONSTRAINT IF EXISTS fenced");
    let copy = format!("INSERT INTO {database}.{table} SELECT * FROM {database}.{EVENTS} WHERE {filter}");
    let fence = format!("joinGet('{database}.{table}_fence', 'generation', log_partition)");
    let guarded = format!("ALTER TABLE {database}.{table} ADD CONSTRAINT IF NOT EXISTS fenced CHECK fence = {fence}");
    for shard in store.shards.iter() {
        // Its own fence would refuse rows of other generations.
        for statement in [&unguarded, &copy, &guarded] {
            shard.first().migrator.execute(statement).await?;
        }
    }
    Ok(())
}

/// The first offset whose record was received at `at_ms` or later. Receipt only grows within a partition, nearly: records
/// that ingest had open at once may be swapped by their linger, so it begins a little early.
async fn first_at<L: Log>(log: &L, partition: u16, held: Range<i64>, at_ms: i64) -> Result<i64> {
    const LINGER_MS: i64 = 1_000;
    let Range { start: mut low, end: mut high } = held;
    while low < high {
        let middle = low + (high - low) / 2;
        let records = log.read(Topic::Raw, partition, middle, 1, Some(HEADER_PREFIX)).await?;
        let received =
            records.first().and_then(|record| record::header(&record.payload).ok()).map_or(i64::MIN, |header| header.received_ms);
        if received < at_ms - LINGER_MS { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// Where reading begins so that sessions open at `start` are known: one idle gap earlier.
async fn warm_up<L: Log>(log: &L, partition: u16, start: i64, gap_ms: i64) -> Result<i64> {
    let held = log.bounds(Topic::Raw, partition).await?;
    if start <= held.start || start >= held.end {
        return Ok(start);
    }
    let records = log.read(Topic::Raw, partition, start, 1, Some(HEADER_PREFIX)).await?;
    match records.first().and_then(|record| record::header(&record.payload).ok()) {
        Some(header) => first_at(log, partition, held.start..start, header.received_ms - gap_ms).await,
        None => Ok(start),
    }
}

/// Events received in the records of a range.
async fn count<L: Log>(log: &L, partition: u16, range: Range<i64>) -> Result<u64> {
    let (mut next, mut events) = (range.start, 0);
    while next < range.end {
        let records = log.read(Topic::Raw, partition, next, READ_BYTES, Some(HEADER_PREFIX)).await?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        events += records.iter().filter(|record| record.offset < range.end).map(|record| received(&record.payload)).sum::<u64>();
    }
    Ok(events)
}

/// Events received in a record; one that cannot be read counts as one, as it does in the books.
fn received(payload: &[u8]) -> u64 {
    let Ok(header) = record::header(payload) else { return 1 };
    header.tallies.0.iter().map(|tally| u64::from(tally.count(Count::Received))).sum()
}

/// Reads raw records and yields them enriched, as if the enriched topic had just got them; their offsets are the raw ones.
/// Once everything is read it asks for the end.
struct RawAgain<L> {
    log: L,
    partition: u16,
    /// Reading begins before the range: those records only open sessions.
    next: i64,
    range: Range<i64>,
    /// What the first record of the range follows on.
    after: i64,
    enricher: Enricher,
    done: CancellationToken,
    read: Arc<AtomicU64>,
    /// Enriched and not yet handed out: kept here, so that a dropped `next` loses nothing.
    ready: Vec<Record>,
    /// Dead letters on their way.
    unacked: VecDeque<Ack>,
}

impl<L: Log> RawAgain<L> {
    fn enrich(&mut self, record: Record) -> Result<(), LogError> {
        let origin = RawOrigin {
            epoch: self.log.epoch(),
            partition: self.partition,
            offset: record.offset,
            previous: if record.offset == self.range.start { self.after } else { self.next - 1 },
        };
        let (payload, letters) = self.enricher.enrich(origin, &record.payload);
        self.next = record.offset + 1;
        if record.offset < self.range.start {
            return Ok(());
        }
        for letter in letters {
            // The same letter as the first time, so the table of letters keeps one.
            self.unacked.push_back(self.log.append(Topic::Dead, 0, letter.into())?);
        }
        self.read.fetch_add(received(&record.payload), Ordering::Relaxed);
        self.ready.push(Record { offset: record.offset, payload: payload.into() });
        Ok(())
    }
}

impl<L: Log> PartitionReader for RawAgain<L> {
    fn partition(&self) -> u16 {
        self.partition
    }

    fn committed(&self) -> Option<i64> {
        None
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        Ok(self.range.clone())
    }

    fn seek(&mut self, _next_offset: i64) {
        // The loader begins where the range does, and reading is there or before it.
    }

    async fn next(&mut self, _max_bytes: usize) -> Result<Vec<Record>, LogError> {
        while self.ready.is_empty() && self.next < self.range.end {
            let raw = self.log.read(Topic::Raw, self.partition, self.next, READ_BYTES, None).await?;
            let end = self.range.end;
            for record in raw.into_iter().filter(|record| record.offset < end) {
                self.enrich(record)?;
            }
        }
        // Letters are durable before the block that counts them.
        while let Some(ack) = self.unacked.front_mut() {
            ack.await?;
            self.unacked.pop_front();
        }
        if self.ready.is_empty() {
            self.done.cancel();
            std::future::pending::<()>().await;
        }
        Ok(std::mem::take(&mut self.ready))
    }

    async fn commit(&mut self, _next_offset: i64) -> Result<(), LogError> {
        // The positions of the live roles stay as they are.
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// A table name that needs no quoting, other than those pulse has.
pub fn check_table(name: &str) -> Result<(), String> {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_taken = matches!(name, "events" | "fence" | "dead_letters" | "schema_migrations");
    match is_word && !is_taken && name.len() <= 100 {
        true => Ok(()),
        false => Err(format!("--to-table {name:?}: a new name of letters, digits and _ is needed")),
    }
}
