//! `pulse replay --dead`: dead letters tried again.
//!
//! Where they are read: the `dead_letters` table, and then the dead topic for what the table does not have. The table keeps
//! letters of every log this store ever had for 90 days, one of each, and can be asked for one reason; the topic keeps them
//! for 30 days of one log, each as often as it was written. But a letter is in the topic first, and only there while the table
//! is away or the roles are stopped. Promises: nothing is written but events into the raw topic, and a letter gives the same
//! ones each time, so a redrive may be interrupted, repeated, and run beside live roles without storing anything twice.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use strum::VariantArray as _;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, Shard, Statement};
use crate::event::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, LogPosition};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::failpoint;
use crate::ingest::Redrive;
use crate::log::{Log, ReadRequest, Topic};
use crate::outcome::DeadReason;

/// Letters asked of the table at a time.
const PAGE: u32 = 1_000;
/// Bytes of originals after which a page ends: letters hold up to a whole record.
const PAGE_BYTES: usize = 8 << 20;
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

/// Tries letters again; `progress` is told the letters tried so far and those in all, as far as they are known.
pub async fn run<L: Log>(
    (log, store): (&L, &ClickHouse),
    request: Request,
    redrive: Redrive<L>,
    (stop, progress): (CancellationToken, impl Fn(u64, u64)),
) -> Result<Summary> {
    let mut letters = Letters::open(log, store, request.reason).await?;
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

/// A letter, with what it takes to try it again.
struct OwnedLetter {
    project: ProjectId,
    received_ms: i64,
    reason: DeadReason,
    message: String,
    original: Vec<u8>,
    position: LogPosition,
}

impl OwnedLetter {
    fn of(letter: &DeadLetter<'_>) -> Self {
        let DeadLetter { project, received_ms, reason, message, original, position, .. } = *letter;
        Self { project, received_ms, reason, message: message.to_owned(), original: original.to_owned(), position }
    }

    fn borrow(&self) -> DeadLetter<'_> {
        let Self { project, received_ms, reason, message, original, position } = self;
        DeadLetter {
            project: *project,
            received_ms: *received_ms,
            reason: *reason,
            message,
            source: "",
            line: 0,
            original,
            id: DeadLetterId::NONE,
            position: *position,
        }
    }
}

/// A letter as the table tells it: project, receipt, reason, message, original in base64, and its position.
type Row = (String, String, String, String, String, String, u16, String, u32);

/// Reads all letters once: the table's in the order of its key, then those of the topic that were not among them.
struct Letters<'s, L> {
    log: &'s L,
    store: &'s ClickHouse,
    reason: Option<DeadReason>,
    /// Letters of the table not yet read.
    in_table: u64,
    /// Project and position of the last one read; `None` at the table's end.
    after: Option<(ProjectId, LogPosition)>,
    /// Records of the topic not yet read.
    in_topic: Range<i64>,
    /// About 40 bytes a letter.
    seen: HashSet<LogPosition>,
}

impl<'s, L: Log> Letters<'s, L> {
    async fn open(log: &'s L, store: &'s ClickHouse, reason: Option<DeadReason>) -> Result<Self> {
        let first = LogPosition { epoch: LogEpoch(0), partition: 0, offset: i64::MIN, index: 0 };
        let after = Some((ProjectId::BOOKS, first));
        let mut letters = Self { log, store, reason, in_table: 0, after, in_topic: 0..0, seen: HashSet::new() };
        let count =
            format!("SELECT toString(count()) FROM {}.dead_letters FINAL WHERE reason IN {{reasons:Array(String)}}", store.database);
        let count: Vec<(String,)> = letters.rows(&letters.asking(count)).await?;
        letters.in_table = count.first().and_then(|(count,)| count.parse().ok()).unwrap_or(0);
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
            let page = self.of_table(after).await?;
            self.after = page.last().map(|last| (last.project, last.position));
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

    async fn of_table(&self, (project, position): (ProjectId, LogPosition)) -> Result<Vec<OwnedLetter>> {
        let sql = format!(
            "SELECT toString(project_id), toString(toUnixTimestamp64Milli(received_at)), reason, message, base64Encode(original), \
             toString(log_epoch), log_partition, toString(log_offset), log_index FROM (\
             SELECT *, sum(length(original)) OVER (ORDER BY project_id, log_epoch, log_partition, log_offset, log_index \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - length(original) AS before FROM (\
             SELECT * FROM {}.dead_letters FINAL WHERE reason IN {{reasons:Array(String)}} \
             AND (project_id, log_epoch, log_partition, log_offset, log_index) > \
             ({{project:UInt64}}, {{epoch:UInt64}}, {{partition:UInt16}}, {{offset:Int64}}, {{index:UInt32}}) \
             ORDER BY project_id, log_epoch, log_partition, log_offset, log_index LIMIT {PAGE})) \
             WHERE before < {PAGE_BYTES} ORDER BY project_id, log_epoch, log_partition, log_offset, log_index",
            self.store.database
        );
        let statement = self
            .asking(sql)
            .bind("project", project.0)
            .bind("epoch", position.epoch.0)
            .bind("partition", position.partition)
            .bind("offset", position.offset)
            .bind("index", position.index);
        let rows: Vec<Row> = self.rows(&statement).await?;
        rows.into_iter().map(letter).collect()
    }

    /// A statement about letters of the reasons asked for; those of a later release are left for it.
    fn asking(&self, sql: String) -> Statement {
        let asked = DeadReason::VARIANTS.iter().filter(|reason| self.reason.is_none_or(|only| only == **reason));
        let names: Vec<String> = asked.map(|reason| format!("'{}'", reason.as_str())).collect();
        Statement::of(sql).bind("reasons", format!("[{}]", names.join(",")))
    }

    /// All letters are in the first shard, whose replicas stand in for each other.
    async fn rows<T: serde::de::DeserializeOwned>(&self, statement: &Statement) -> Result<Vec<T>> {
        let mut answer = Ok(Vec::new());
        for replica in self.store.shards.iter().take(1).flat_map(Shard::replicas) {
            answer = replica.writer.rows(statement).await;
            if answer.is_ok() {
                break;
            }
        }
        answer.context("reading dead letters")
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

fn letter((project, received_ms, reason, message, original, epoch, partition, offset, index): Row) -> Result<OwnedLetter> {
    let Some(reason) = DeadReason::named(&reason) else { bail!("dead_letters: reason `{reason}` is not known to this release") };
    Ok(OwnedLetter {
        project: ProjectId(project.parse()?),
        received_ms: received_ms.parse()?,
        reason,
        message,
        original: STANDARD.decode(original).context("dead_letters")?,
        position: LogPosition { epoch: LogEpoch(epoch.parse()?), partition, offset: offset.parse()?, index },
    })
}
