//! The dead topic into the `dead_letters` table. At least once; the table's key makes one letter that is written twice disappear,
//! which works within a shard: all letters go to the first one, whose replicas stand in for each other.
//!
//! A letter about a line that has one already (a file imported again, a batch sent again) is marked as a copy. The topic has one
//! partition and one reader, so who was first is never in doubt.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clickhouse::native::{self, Column, DictionaryColumn, FixedColumn, StringColumn};
use crate::clickhouse::{ClickHouse, ClickHouseError, Shard, Statement};
use crate::event::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, LogPosition};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::log::{LogError, PartitionReader, Record};

const READ_BYTES: usize = 1 << 20;
/// Bytes of letters after which a block is sent: they are much smaller in the log.
const BLOCK_BYTES: usize = 8 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const COLUMNS: &str = "project_id, received_at, reason, message, source, line, original, log_epoch, log_partition, log_offset, log_index, \
                       letter_id, is_copy";
/// Ids looked up at a time: 20 KB of a statement's values.
const IDS: usize = 500;

/// Loads letters until asked to stop.
pub(super) async fn run<R: PartitionReader>(store: ClickHouse, mut reader: R, stop: CancellationToken) -> Result<(), LogError> {
    let revoked = reader.revoked();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let records = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = revoked.cancelled() => return Ok(()),
            records = reader.next(READ_BYTES) => records,
        };
        let records = match records {
            Ok(records) => records,
            Err(ended @ (LogError::Corrupt(_) | LogError::Closed)) => return Err(ended),
            Err(problem) => {
                tracing::warn!(%problem, "dead letters cannot be read: waiting");
                tokio::time::sleep(backoff.next_pause()).await;
                let start = reader.bounds().await.map_or(0, |held| held.start);
                reader.seek(reader.committed().unwrap_or(start).max(start));
                continue;
            }
        };
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (read, next_offset) = next_letters(&mut records);
            let letters: Vec<DeadLetter<'_>> = read.iter().flat_map(DeadLetterRecord::letters).collect();
            while let Err(problem) = store_letters(&store, &letters).await {
                tracing::error!(%problem, "dead letters not stored: waiting");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.next_pause()) => {}
                }
            }
            backoff.reset();
            reader.commit(next_offset).await?;
        }
    }
}

async fn store_letters(store: &ClickHouse, letters: &[DeadLetter<'_>]) -> Result<(), ClickHouseError> {
    let first = first_positions(store, letters).await?;
    insert(store, &encode(letters, &first)).await
}

/// What a letter is about.
type Subject = (ProjectId, DeadLetterId);

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

/// A first letter as the table tells it: project, id and position.
type Row = (String, String, String, u16, String, u32);

/// The first letters about the same lines in the table.
async fn known(store: &ClickHouse, letters: &[&DeadLetter<'_>]) -> Result<Vec<(Subject, LogPosition)>, ClickHouseError> {
    let sql = format!(
        "SELECT toString(project_id), toString(letter_id), toString(log_epoch), log_partition, toString(log_offset), log_index \
         FROM {}.dead_letters WHERE project_id IN {{projects:Array(UInt64)}} AND is_copy = 0 AND letter_id IN {{ids:Array(UInt128)}}",
        store.database
    );
    let list = |texts: Vec<String>| format!("[{}]", texts.join(","));
    let mut projects: Vec<String> = letters.iter().map(|letter| letter.project.0.to_string()).collect();
    projects.dedup();
    let ids = letters.iter().map(|letter| u128::from_le_bytes(letter.id.0).to_string()).collect();
    let statement = Statement::of(sql).bind("projects", list(projects)).bind("ids", list(ids));
    let mut rows: Result<Vec<Row>, _> = Ok(Vec::new());
    for replica in store.shards.iter().take(1).flat_map(Shard::replicas) {
        rows = replica.writer.rows(&statement).await;
        if rows.is_ok() {
            break;
        }
    }
    Ok(rows?.into_iter().filter_map(first_position).collect())
}

fn first_position((project, id, epoch, partition, offset, index): Row) -> Option<(Subject, LogPosition)> {
    let id = DeadLetterId(id.parse::<u128>().ok()?.to_le_bytes());
    let position = LogPosition { epoch: LogEpoch(epoch.parse().ok()?), partition, offset: offset.parse().ok()?, index };
    Some(((ProjectId(project.parse().ok()?), id), position))
}

async fn insert(store: &ClickHouse, block: &Bytes) -> Result<(), ClickHouseError> {
    let query_id = format!("pulse-dead-{}", uuid::Uuid::new_v4());
    let into = format!("{}.dead_letters ({COLUMNS})", store.database);
    let mut ended = Ok(());
    for replica in store.shards.iter().take(1).flat_map(Shard::replicas) {
        ended = replica.writer.insert(&into, [block.clone()], &query_id).await;
        if ended.is_ok() {
            break;
        }
    }
    ended
}

/// The letters of some records, and where reading goes on behind them.
fn next_letters(records: &mut impl Iterator<Item = Record>) -> (Vec<DeadLetterRecord>, i64) {
    let (mut read, mut size, mut next_offset) = (Vec::new(), 0, 0);
    for record in records {
        next_offset = record.offset + 1;
        match DeadLetterRecord::decode(&record.payload) {
            Ok(letters) => {
                size += letters.size();
                read.push(letters);
            }
            Err(problem) => tracing::error!(offset = record.offset, %problem, "a record of the dead topic is unreadable"),
        }
        if size >= BLOCK_BYTES {
            break;
        }
    }
    (read, next_offset)
}

fn encode(letters: &[DeadLetter<'_>], first: &HashMap<Subject, LogPosition>) -> Bytes {
    let is_copy = |letter: &DeadLetter<'_>| first.get(&(letter.project, letter.id)).is_some_and(|position| *position != letter.position);
    let mut out = Vec::new();
    native::begin_block(&mut out, COLUMNS.split(", ").count(), letters.len());
    numbers("project_id", "UInt64", letters.iter().map(|letter| letter.project.0.to_le_bytes()), &mut out);
    numbers("received_at", "DateTime64(3, 'UTC')", letters.iter().map(|letter| letter.received_ms.to_le_bytes()), &mut out);
    let mut reasons = DictionaryColumn::default();
    letters.iter().for_each(|letter| reasons.push(letter.reason.as_str().as_bytes()));
    DictionaryColumn::put(std::iter::once(&reasons), "reason", &mut out);
    strings("message", letters.iter().map(|letter| letter.message.as_bytes()), &mut out);
    strings("source", letters.iter().map(|letter| letter.source.as_bytes()), &mut out);
    numbers("line", "UInt64", letters.iter().map(|letter| letter.line.to_le_bytes()), &mut out);
    strings("original", letters.iter().map(|letter| letter.original), &mut out);
    numbers("log_epoch", "UInt64", letters.iter().map(|letter| letter.position.epoch.0.to_le_bytes()), &mut out);
    numbers("log_partition", "UInt16", letters.iter().map(|letter| letter.position.partition.to_le_bytes()), &mut out);
    numbers("log_offset", "Int64", letters.iter().map(|letter| letter.position.offset.to_le_bytes()), &mut out);
    numbers("log_index", "UInt32", letters.iter().map(|letter| letter.position.index.to_le_bytes()), &mut out);
    numbers("letter_id", "UInt128", letters.iter().map(|letter| letter.id.0), &mut out);
    numbers("is_copy", "UInt8", letters.iter().map(|letter| [u8::from(is_copy(letter))]), &mut out);
    out.into()
}

fn numbers<const W: usize>(name: &str, type_name: &'static str, values: impl Iterator<Item = [u8; W]>, out: &mut Vec<u8>) {
    let mut column = FixedColumn::new(type_name);
    values.for_each(|value| column.push(value));
    FixedColumn::put(std::iter::once(&column), name, out);
}

fn strings<'a>(name: &str, values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut column = StringColumn::default();
    values.for_each(|value| column.push(value));
    StringColumn::put(std::iter::once(&column), name, out);
}
