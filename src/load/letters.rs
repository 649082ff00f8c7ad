//! The dead topic into the `dead_letters` table. At least once; the table's key makes copies of a letter disappear, which works
//! within a shard: all letters go to the first one, whose replicas stand in for each other.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::native::{self, Column, DictionaryColumn, FixedColumn, StringColumn};
use crate::clickhouse::{ClickHouse, ClickHouseError, Shard};
use crate::event::letter::Letter;
use crate::log::{LogError, PartitionReader, Record};

const READ_BYTES: usize = 1 << 20;
const PAUSE: Duration = Duration::from_secs(1);
const COLUMNS: &str = "project_id, received_at, reason, message, source, line, original, log_epoch, log_partition, log_offset, log_index";

/// Loads letters until asked to stop.
pub(super) async fn run<R: PartitionReader>(store: ClickHouse, mut reader: R, stop: CancellationToken) -> Result<(), LogError> {
    let revoked = reader.revoked();
    loop {
        let records = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = revoked.cancelled() => return Ok(()),
            records = reader.next(READ_BYTES) => records?,
        };
        let Some(last) = records.last() else { continue };
        let (block, next_offset) = (encode(&records), last.offset + 1);
        while let Err(problem) = insert(&store, &block).await {
            tracing::error!(%problem, "dead letters not stored: waiting");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        reader.commit(next_offset).await?;
    }
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

fn encode(records: &[Record]) -> Bytes {
    let letters: Vec<Letter<'_>> = records.iter().filter_map(|record| Letter::take(&mut record.payload.as_ref())).collect();
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
    numbers("log_epoch", "UInt64", letters.iter().map(|letter| letter.place.epoch.0.to_le_bytes()), &mut out);
    numbers("log_partition", "UInt16", letters.iter().map(|letter| letter.place.partition.to_le_bytes()), &mut out);
    numbers("log_offset", "Int64", letters.iter().map(|letter| letter.place.offset.to_le_bytes()), &mut out);
    numbers("log_index", "UInt32", letters.iter().map(|letter| letter.place.index.to_le_bytes()), &mut out);
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
