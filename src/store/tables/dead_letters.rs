//! `dead_letters`: what could not be read, with its reason and its original bytes.
//!
//! Written at least once; the key makes one letter that is written twice disappear, which works within a shard: all letters go to the
//! first one, whose replicas stand in for each other. Read with FINAL. A letter about a line that has one already (a file imported
//! again, a batch sent again) is marked as a copy; who writes is alone, so which one was first is never in doubt.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use strum::VariantArray as _;

use super::first_shard::{self, rows};
use super::{Rebuild, Rows, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Statement, Whole, native};
use crate::event::dead_letter::{DeadLetter, DeadLetterId, LogPosition};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::outcome::DeadReason;

/// The table.
pub const DEAD_LETTERS: Table = Table { name: "dead_letters", rows: Rows::Sharded, rebuild: Rebuild::Keep, is_fenced: false };

/// The columns of a block, in order.
const COLUMNS: [&str; 13] = [
    "project_id",
    "received_at",
    "reason",
    "message",
    "source",
    "line",
    "original",
    "log_epoch",
    "log_partition",
    "log_offset",
    "log_index",
    "letter_id",
    "is_copy",
];
/// Ids looked up at a time: 20 KB of a statement's values.
const IDS: usize = 500;
/// Letters read at a time.
const PAGE: u64 = 1_000;
/// Bytes of originals after which a page ends: letters hold up to a whole record.
const PAGE_BYTES: u64 = 8 << 20;

/// What a letter is about.
type Subject = (ProjectId, DeadLetterId);

/// Stores letters.
pub async fn insert(store: &ClickHouse, letters: &[DeadLetter<'_>]) -> Result<(), ClickHouseError> {
    let block = encode(letters, &first_positions(store, letters).await?);
    let into = Statement::of("INSERT INTO ").table(&store.table(DEAD_LETTERS.name())).sql(" (");
    let into = COLUMNS.iter().enumerate().fold(into, |into, (at, column)| into.sql(if at > 0 { ", " } else { "" }).sql(column)).sql(")");
    first_shard::insert(store, &into, &block, "pulse-dead-").await
}

/// Where the first letter about each line stands: in the table, or among these.
async fn first_positions(store: &ClickHouse, letters: &[DeadLetter<'_>]) -> Result<HashMap<Subject, LogPosition>, ClickHouseError> {
    let named: Vec<&DeadLetter<'_>> = letters.iter().filter(|letter| letter.id != DeadLetterId::NONE).collect();
    let mut first = HashMap::new();
    for letters in named.chunks(IDS) {
        first.extend(known(store, letters).await?);
    }
    named.iter().for_each(|letter| {
        first.entry((letter.project, letter.id)).or_insert(letter.position);
    });
    Ok(first)
}

/// The first letters about the same lines in the table.
async fn known(store: &ClickHouse, letters: &[&DeadLetter<'_>]) -> Result<Vec<(Subject, LogPosition)>, ClickHouseError> {
    let mut projects: Vec<u64> = letters.iter().map(|letter| letter.project.0).collect();
    projects.dedup();
    let to = Statement::of("SELECT project_id, toString(letter_id), log_epoch, log_partition, log_offset, log_index FROM ");
    let to = to.table(&store.table(DEAD_LETTERS.name())).sql(" WHERE is_copy = 0 AND project_id IN ").uints(projects);
    let to = to.sql(" AND letter_id IN ").uints128(letters.iter().map(|letter| u128::from_le_bytes(letter.id.0)));
    /// Project, id and position.
    type Row = (Whole<u64>, String, Whole<u64>, u16, Whole<i64>, u32);
    let rows: Vec<Row> = rows(store, &to).await?;
    let first = |(project, id, epoch, partition, offset, index): Row| {
        let id = DeadLetterId(id.parse::<u128>().ok()?.to_le_bytes());
        let position = LogPosition { epoch: LogEpoch(epoch.0), partition, offset: offset.0, index };
        Some(((ProjectId(project.0), id), position))
    };
    Ok(rows.into_iter().filter_map(first).collect())
}

fn encode(letters: &[DeadLetter<'_>], first: &HashMap<Subject, LogPosition>) -> Bytes {
    let is_copy = |letter: &DeadLetter<'_>| first.get(&(letter.project, letter.id)).is_some_and(|position| *position != letter.position);
    let mut out = Vec::new();
    native::begin_block(&mut out, COLUMNS.len(), letters.len());
    native::put_values(letters.iter().map(|letter| letter.project.0.to_le_bytes()), "project_id", "UInt64", &mut out);
    native::put_values(letters.iter().map(|letter| letter.received_ms.to_le_bytes()), "received_at", "DateTime64(3, 'UTC')", &mut out);
    native::put_dictionary(letters.iter().map(|letter| letter.reason.as_str().as_bytes()), "reason", &mut out);
    native::put_strings(letters.iter().map(|letter| letter.message.as_bytes()), "message", &mut out);
    native::put_strings(letters.iter().map(|letter| letter.source.as_bytes()), "source", &mut out);
    native::put_values(letters.iter().map(|letter| letter.line.to_le_bytes()), "line", "UInt64", &mut out);
    native::put_strings(letters.iter().map(|letter| letter.original), "original", &mut out);
    native::put_values(letters.iter().map(|letter| letter.position.epoch.0.to_le_bytes()), "log_epoch", "UInt64", &mut out);
    native::put_values(letters.iter().map(|letter| letter.position.partition.to_le_bytes()), "log_partition", "UInt16", &mut out);
    native::put_values(letters.iter().map(|letter| letter.position.offset.to_le_bytes()), "log_offset", "Int64", &mut out);
    native::put_values(letters.iter().map(|letter| letter.position.index.to_le_bytes()), "log_index", "UInt32", &mut out);
    native::put_values(letters.iter().map(|letter| letter.id.0), "letter_id", "UInt128", &mut out);
    native::put_values(letters.iter().map(|letter| [u8::from(is_copy(letter))]), "is_copy", "UInt8", &mut out);
    out.into()
}

/// Why letters were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] ClickHouseError),
    /// A letter has a reason of a later release, or no original.
    #[error("dead_letters: a letter of reason `{0}` is unreadable")]
    Unreadable(String),
}

/// A letter, with what it takes to try it again.
#[derive(Debug)]
pub struct OwnedLetter {
    /// Whose it is.
    pub project: ProjectId,
    /// Receipt, milliseconds since 1970.
    pub received_ms: i64,
    /// Why it is dead.
    pub reason: DeadReason,
    /// What was wrong.
    pub message: String,
    /// What was received.
    pub original: Vec<u8>,
    /// Where it stood.
    pub position: LogPosition,
}

impl OwnedLetter {
    /// A copy of what is kept of `letter`.
    pub fn of(letter: &DeadLetter<'_>) -> Self {
        let DeadLetter { project, received_ms, reason, message, original, position, .. } = *letter;
        Self { project, received_ms, reason, message: message.to_owned(), original: original.to_owned(), position }
    }

    /// The letter.
    pub fn borrow(&self) -> DeadLetter<'_> {
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

/// How many letters there are of `reason`, or of all that this release knows.
pub async fn count(store: &ClickHouse, reason: Option<DeadReason>) -> Result<u64, ClickHouseError> {
    let to = of_reasons(Statement::of("SELECT count()"), store, reason);
    let rows: Vec<(Whole<u64>,)> = rows(store, &to).await?;
    Ok(rows.first().map_or(0, |(count,)| count.0))
}

/// Letters of those reasons; those of a later release are left for it.
fn of_reasons(to: Statement, store: &ClickHouse, reason: Option<DeadReason>) -> Statement {
    let asked = DeadReason::VARIANTS.iter().filter(|known| reason.is_none_or(|only| only == **known));
    let to = to.sql(" FROM ").table(&store.table(DEAD_LETTERS.name())).sql(" FINAL WHERE reason IN ");
    to.strings(asked.map(|reason| reason.as_str()))
}

/// Where a letter stands in the order of its table.
#[derive(Clone, Copy, Debug)]
pub struct LetterKey {
    /// Its project.
    pub project: ProjectId,
    /// Its place in the log.
    pub position: LogPosition,
}

/// The next letters behind a place; none at the end.
pub async fn page(store: &ClickHouse, reason: Option<DeadReason>, after: LetterKey) -> Result<Vec<OwnedLetter>, ReadError> {
    let LetterKey { project, position } = after;
    let to = Statement::of(
        "SELECT project_id, toUnixTimestamp64Milli(received_at), reason, message, base64Encode(original), \
         log_epoch, log_partition, log_offset, log_index FROM (\
         SELECT *, sum(length(original)) OVER (ORDER BY project_id, log_epoch, log_partition, log_offset, log_index \
         ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - length(original) AS before FROM (",
    );
    let to = of_reasons(to.sql("SELECT *"), store, reason);
    let to = to.sql(" AND (project_id, log_epoch, log_partition, log_offset, log_index) > (").uint(project.0);
    let to = to.sql(", ").uint(position.epoch.0).sql(", ").uint16(position.partition).sql(", ").int(position.offset).sql(", ");
    let to = to.uint(position.index.into()).sql(") ORDER BY project_id, log_epoch, log_partition, log_offset, log_index LIMIT ");
    let to = to.uint(PAGE).sql(")) WHERE before < ").uint(PAGE_BYTES);
    let rows = rows(store, &to.sql(" ORDER BY project_id, log_epoch, log_partition, log_offset, log_index")).await?;
    rows.into_iter().map(letter).collect()
}

/// A letter as the table has it.
#[derive(Debug, Deserialize)]
struct Row {
    project: Whole<u64>,
    received_ms: Whole<i64>,
    reason: String,
    message: String,
    /// In base64.
    original: String,
    epoch: Whole<u64>,
    partition: u16,
    offset: Whole<i64>,
    index: u32,
}

fn letter(row: Row) -> Result<OwnedLetter, ReadError> {
    let known = DeadReason::named(&row.reason).zip(STANDARD.decode(row.original).ok());
    let Some((reason, original)) = known else { return Err(ReadError::Unreadable(row.reason)) };
    Ok(OwnedLetter {
        project: ProjectId(row.project.0),
        received_ms: row.received_ms.0,
        reason,
        message: row.message,
        original,
        position: LogPosition { epoch: LogEpoch(row.epoch.0), partition: row.partition, offset: row.offset.0, index: row.index },
    })
}
