//! `pulse replay --dead`: dead letters tried again.
//!
//! Where they are read: the `dead_letters` table, and then the dead topic for what the table does not have. The table keeps
//! letters of every log this store ever had for 90 days, one of each, and can be asked for one reason; the topic keeps them
//! for 30 days of one log, each as often as it was written. But a letter is in the topic first, and only there while the table
//! is away or the roles are stopped. Promises: nothing is written but events into the raw topic, and a letter gives the same
//! ones each time, so a redrive may be interrupted, repeated, and run beside live roles without storing anything twice.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use anyhow::{Context, Result};
use serde::Serialize;

use super::parts::{Control, LogAndStore};
use crate::clickhouse::ClickHouse;
use crate::event::dead_letter::{DeadLetterRecord, LogPosition};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::failpoint;
use crate::ingest::Redrive;
use crate::log::{Log, ReadRequest, Topic};
use crate::outcome::DeadReason;
use crate::store::tables::dead_letters::{self, LetterKey, OwnedLetter};

/// Letters after which a portion ends.
const MOST_OF_PORTION: u64 = 2_000;
/// No letter stands there.
const BEFORE_ALL: LogPosition = LogPosition { epoch: LogEpoch(0), partition: 0, offset: i64::MIN, index: 0 };
/// Bytes of the dead topic read at a time.
const READ_BYTES: usize = 1 << 20;

/// Which letters, and whether for good.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Only letters of this reason.
    pub reason: Option<DeadReason>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// How a redrive ended. In letters, but for `events`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Letters tried.
    pub read: u64,
    /// Letters that gave events.
    pub redriven: u64,
    /// Those events, now in the raw topic; a record that could not be read holds many.
    pub events: u64,
    /// Letters that stay what they are, by reason.
    pub unchanged: BTreeMap<&'static str, u64>,
    /// Set if it was asked to stop before the end.
    pub interrupted: bool,
}

/// Tries letters again. In letters, as far as they are known.
pub async fn run<L: Log>(
    parts: &LogAndStore<L>,
    request: Request,
    redrive: Redrive<L>,
    control: Control<impl Fn(u64, u64)>,
) -> Result<Summary> {
    let Control { stop, progress } = control;
    let mut letters = Letters::open(&parts.log, &parts.store, request.reason).await?;
    let mut work = Work { redrive, request, summary: Summary::default() };
    loop {
        if stop.is_cancelled() {
            work.summary.interrupted = true;
            break;
        }
        let Some(page) = letters.next().await? else { break };
        for letter in &page {
            work.attempt(letter).await?;
        }
        work.publish().await?;
        progress(work.summary.read, work.summary.read + letters.ahead());
    }
    Ok(work.summary)
}

/// Letters of one project that are tried in one go.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// Whose letters.
    pub project: ProjectId,
    /// Which of them, and whether for good.
    pub request: Request,
    /// The last one tried before; from the first on without it.
    pub after: Option<LogPosition>,
}

/// Tries the next letters of a project that the table has, up to [`MOST_OF_PORTION`] and a page; returns how that went, and behind which
/// letter it goes on. What is only in the topic yet is left.
pub async fn portion<L: Log>(store: &ClickHouse, redrive: Redrive<L>, portion: Portion) -> Result<(Summary, Option<LogPosition>)> {
    let Portion { project, request, after } = portion;
    let mut after = after.unwrap_or(BEFORE_ALL);
    let mut work = Work { redrive, request, summary: Summary::default() };
    while work.summary.read < MOST_OF_PORTION {
        let page =
            dead_letters::page(store, request.reason, LetterKey { project, position: after }).await.context("reading dead letters")?;
        // Behind a project's letters are those of the next one.
        let of_project = page.iter().take_while(|letter| letter.project == project);
        let mut tried = 0;
        for letter in of_project {
            work.attempt(letter).await?;
            (after, tried) = (letter.position, tried + 1);
        }
        work.publish().await?;
        if tried < page.len() || page.is_empty() {
            return Ok((work.summary, None));
        }
    }
    Ok((work.summary, Some(after)))
}

/// The letters tried so far.
struct Work<L: Log> {
    redrive: Redrive<L>,
    request: Request,
    summary: Summary,
}

impl<L: Log> Work<L> {
    async fn attempt(&mut self, letter: &OwnedLetter) -> Result<()> {
        let events = self.redrive.attempt(&letter.borrow());
        self.summary.read += 1;
        self.summary.events += u64::from(events);
        match events {
            0 => *self.summary.unchanged.entry(letter.reason.as_str()).or_default() += 1,
            _ => self.summary.redriven += 1,
        }
        if self.redrive.is_full() { self.publish().await } else { Ok(()) }
    }

    async fn publish(&mut self) -> Result<()> {
        if self.request.dry_run {
            self.redrive.forget();
            return Ok(());
        }
        self.redrive.publish().await.context("the log refuses; run again, nothing is counted twice")?;
        failpoint::point("redrive.published");
        Ok(())
    }
}

/// Reads all letters once: the table's in the order of its key, then those of the topic that were not among them.
struct Letters<'s, L> {
    log: &'s L,
    store: &'s ClickHouse,
    reason: Option<DeadReason>,
    /// Letters of the table not yet read.
    in_table: u64,
    /// Project and position of the last one read; `None` at the table's end.
    after: Option<LetterKey>,
    /// Records of the topic not yet read.
    in_topic: Range<i64>,
    /// About 40 bytes a letter.
    seen: HashSet<LogPosition>,
}

impl<'s, L: Log> Letters<'s, L> {
    async fn open(log: &'s L, store: &'s ClickHouse, reason: Option<DeadReason>) -> Result<Self> {
        let after = Some(LetterKey { project: ProjectId::BOOKS, position: BEFORE_ALL });
        let mut letters = Self { log, store, reason, in_table: 0, after, in_topic: 0..0, seen: HashSet::new() };
        letters.in_table = dead_letters::count(store, reason).await.context("reading dead letters")?;
        letters.in_topic = log.bounds(Topic::Dead, 0).await?;
        Ok(letters)
    }

    /// Letters that may still come.
    fn ahead(&self) -> u64 {
        match self.after {
            Some(_) => self.in_table,
            None => u64::try_from(self.in_topic.end - self.in_topic.start).unwrap_or(0),
        }
    }

    /// The next letters; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<OwnedLetter>>> {
        if let Some(after) = self.after {
            let page = dead_letters::page(self.store, self.reason, after).await.context("reading dead letters")?;
            self.after = page.last().map(|last| LetterKey { project: last.project, position: last.position });
            self.in_table = self.in_table.saturating_sub(page.len() as u64);
            self.seen.extend(page.iter().map(|letter| letter.position));
            if self.after.is_some() {
                return Ok(Some(page));
            }
            // What was stored meanwhile is in the topic as well: read afterwards, none can slip through between the two.
            self.in_topic = self.log.bounds(Topic::Dead, 0).await?;
        }
        self.of_topic().await
    }

    async fn of_topic(&mut self) -> Result<Option<Vec<OwnedLetter>>> {
        if self.in_topic.is_empty() {
            return Ok(None);
        }
        let records =
            self.log.read(ReadRequest::new(Topic::Dead, 0, self.in_topic.start, READ_BYTES)).await.context("reading the dead topic")?;
        let Some(last) = records.last() else {
            self.in_topic.start = self.in_topic.end;
            return Ok(None);
        };
        self.in_topic.start = last.offset + 1;
        let read: Vec<DeadLetterRecord> = records.iter().filter_map(|record| DeadLetterRecord::decode(&record.payload).ok()).collect();
        let letters = read.iter().flat_map(DeadLetterRecord::letters);
        let asked = letters.filter(|letter| self.reason.is_none_or(|reason| reason == letter.reason));
        Ok(Some(asked.filter(|letter| self.seen.insert(letter.position)).map(|letter| OwnedLetter::of(&letter)).collect()))
    }
}
