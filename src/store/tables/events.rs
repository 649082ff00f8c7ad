//! `events`: the one truth about what is stored, with the books of each block. Its columns are [`crate::store::schema`]'s.

use serde::Deserialize;
use xxhash_rust::xxh32::xxh32;

use super::{Rebuild, Rows, Table};
use crate::clickhouse::native;
use crate::clickhouse::{ClickHouse, ClickHouseError, Format, Shard, Statement, Whole};
use crate::event::ids::{ProjectId, VisitorKey};
use crate::store::books::PartitionKey;

/// The table.
pub const EVENTS: Table = Table { name: "events", rows: Rows::Sharded, rebuild: Rebuild::Swap(""), is_fenced: true };

/// Begins to delete what a partition has above a raw offset.
pub async fn delete_above(store: &ClickHouse, key: PartitionKey, offset: i64) -> Result<(), ClickHouseError> {
    let to = Statement::of("ALTER TABLE ").table(&store.table(EVENTS.name())).sql(" DELETE WHERE log_epoch = ").digits(key.epoch.0);
    let to = to.sql(" AND log_partition = ").digits(key.partition).sql(" AND log_offset > ").digits(offset);
    store.migrator.execute(&to).await
}

/// The deletions by [`delete_above`] that are not done, in this or an earlier life of the server: why each failed last, if it did.
pub async fn running_deletions(store: &ClickHouse) -> Result<Vec<Option<String>>, ClickHouseError> {
    let to = Statement::of("SELECT latest_fail_reason FROM system.mutations WHERE NOT is_done AND position(command, 'log_offset >') > 0 ");
    let to = to.sql("AND database = ").string(&store.database).sql(" AND table = ").string(EVENTS.name);
    let running: Vec<(String,)> = store.migrator.rows(&to).await?;
    Ok(running.into_iter().map(|(reason,)| Some(reason).filter(|reason| !reason.is_empty())).collect())
}

/// What the table's `event_hash` is of an id.
pub fn event_hash(id: [u8; 16]) -> u32 {
    xxh32(&native::uuid_bytes(id), 0)
}

/// Which events are looked for by id.
#[derive(Clone, Copy, Debug)]
pub struct EventQuery {
    /// Whose.
    pub project: ProjectId,
    /// Their id.
    pub id: [u8; 16],
    /// Of which visitor, if of one.
    pub visitor: Option<VisitorKey>,
    /// Most of a shard.
    pub limit: u64,
}

/// Where an event is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Which shard, counted from 0.
    pub shard: usize,
    /// Its visitor.
    pub visitor: VisitorKey,
    /// Its type.
    pub event_type: String,
    /// When it happened, milliseconds since 1970.
    pub at_ms: i64,
    /// When it was received, milliseconds since 1970.
    pub received_ms: i64,
    /// Day of receipt of its block, since 1970.
    pub day: u16,
    /// As it came; one of both may be empty.
    pub user_id: String,
    /// As it came.
    pub anonymous_id: String,
    /// Its record in the raw topic.
    pub log: RecordPlace,
}

/// Where a record stands in the raw topic.
#[derive(Clone, Copy, Debug)]
pub struct RecordPlace {
    /// Identity of the log.
    pub epoch: u64,
    /// Partition.
    pub partition: u16,
    /// Offset.
    pub offset: i64,
}

/// Events found by id.
#[derive(Debug)]
pub struct FoundEvents {
    /// Shard by shard.
    pub events: Vec<StoredEvent>,
    /// What was read to find them.
    pub rows_read: u64,
}

/// Visitor, type, time, receipt, day, user, anonymous id, epoch, partition and offset.
#[derive(Deserialize)]
struct Found(Whole<u64>, String, Whole<i64>, Whole<i64>, u16, String, String, Whole<u64>, u16, Whole<i64>);

/// The events of an id: the index of ids is asked, so it costs the same however large the table is.
pub async fn of_id(store: &ClickHouse, query: EventQuery) -> Result<FoundEvents, ClickHouseError> {
    let EventQuery { project, id, visitor, limit } = query;
    let to = Statement::of(
        "SELECT visitor_id, type, toUnixTimestamp64Milli(timestamp), toUnixTimestamp64Milli(received_at), toUInt16(received_day), \
         user_id, anonymous_id, log_epoch, log_partition, log_offset FROM ",
    );
    let to = to.table(&store.table(EVENTS.name())).sql(" WHERE project_id = ").uint(project.0);
    let to = to.sql(" AND event_hash IN ").uints32([event_hash(id)]).sql(" AND event_id IN ").uuids([id]);
    let to = match visitor {
        Some(visitor) => to.sql(" AND visitor_id = ").uint(visitor.0),
        None => to,
    };
    // As the loader asks for ids: the limits are for tables at hand.
    let to = to.sql(" ORDER BY timestamp, visitor_id LIMIT ").uint(limit);
    let to = to.sql(" SETTINGS min_table_rows_to_use_projection_index = 0, max_projection_rows_to_use_projection_index = 1000000000000");
    let mut found = FoundEvents { events: Vec::new(), rows_read: 0 };
    for (number, shard) in store.shards.iter().enumerate() {
        let (rows, rows_read) = rows_of(shard, &to).await?;
        found.rows_read += rows_read;
        found.events.extend(rows.into_iter().map(|row| stored(number, row)));
    }
    Ok(found)
}

/// Rows of a shard, of whichever replica answers, and how many were read.
async fn rows_of(shard: &Shard, statement: &Statement) -> Result<(Vec<Found>, u64), ClickHouseError> {
    let mut answer = shard.first().writer.query(statement, Format::Json).await;
    for replica in shard.replicas().skip(1) {
        if answer.is_err() {
            answer = replica.writer.query(statement, Format::Json).await;
        }
    }
    let answer = answer?;
    let rows = serde_json::Deserializer::from_slice(&answer.body).into_iter().collect::<Result<_, _>>();
    Ok((rows.map_err(|problem| ClickHouseError::Network(format!("unreadable answer: {problem}")))?, answer.read_rows))
}

fn stored(shard: usize, row: Found) -> StoredEvent {
    let Found(visitor, event_type, at_ms, received_ms, day, user_id, anonymous_id, epoch, partition, offset) = row;
    StoredEvent {
        shard,
        visitor: VisitorKey(visitor.0),
        event_type,
        at_ms: at_ms.0,
        received_ms: received_ms.0,
        day,
        user_id,
        anonymous_id,
        log: RecordPlace { epoch: epoch.0, partition, offset: offset.0 },
    }
}
