//! The books: rows of the event table that say how the events of a block ended, and how far the table is.
//!
//! They are stored in one part with the rows of their block. They belong to project 0, which has no key, so no project's query sees
//! them; three of their columns hold other things than in the row of an event: see [`PROJECT`], [`SOURCE`] and [`REACH`]. Beside them
//! stand the arrivals: for each project of the block how many events it has by quarter of an hour of the event (0 where something else is
//! said of events of that time), by which other instances know which answers are outdated. Their `timestamp` is when the block was
//! sealed.
//! Promise: what is read here costs no more because the table is large: books are a prefix of its order, and watermarks are in the
//! projection `places`, a few rows a part; but for [`held_without_places`], which reads the days it is for, and for what replays look
//! through, which is a row for each block that ever was ([`LOOK_LIMIT`]).

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use uuid::Uuid;

use super::tables::EVENTS;
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, Statement, TableName, Whole};
use crate::event::ids::LogEpoch;

/// The `type` of the books; no event can have it, `$` is reserved.
pub const BOOKS_TYPE: &str = "$books";
/// The condition that a row is of the books.
pub const IS_BOOKS: &str = "project_id = 0 AND type = '$books'";
/// The `type` of arrivals: rows of project 0 that say how many events of which times a block has, of one project each.
pub const ARRIVALS_TYPE: &str = "$arrivals";
/// The condition that a row is of arrivals.
pub const IS_ARRIVALS: &str = "project_id = 0 AND type = '$arrivals'";
/// Column of arrivals that holds the instance that has written them ([`instance`]).
pub const INSTANCE: &str = "event_id";
/// The condition that a row is an event.
pub const IS_EVENT: &str = "project_id != 0";
/// Column of the books that holds the project whose events they count.
pub const PROJECT: &str = "visitor_id";
/// Column of the books that holds the import run whose events they count; 0 for live events.
pub const SOURCE: &str = "person_id";
/// Column of the books that holds how many raw offsets their block covers.
pub const REACH: &str = "flags";

/// Longest time that looking through all books of a table may take: there is a row for each block, project and minute that ever was, and
/// only replays look through them.
const LOOK_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Identity of this instance, from its start to its end.
pub fn instance() -> Uuid {
    static INSTANCE: OnceLock<Uuid> = OnceLock::new();
    *INSTANCE.get_or_init(Uuid::new_v4)
}

/// A partition of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// Identity of the log.
    pub epoch: LogEpoch,
    /// Number of the partition.
    pub partition: u16,
}

/// What a server has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The partition.
    pub key: PartitionKey,
    /// Highest raw offset.
    pub highest: i64,
    /// Latest receipt, milliseconds since 1970.
    pub newest_ms: i64,
}

/// What a server's table has, partition by partition.
pub async fn held(server: &Client, table: &TableName) -> Result<Vec<Held>, ClickHouseError> {
    answered_held(server, &asked_held(table).sql(BY_PARTITION)).await
}

/// The same where parts of some days, named by the ids of their partitions, lack the projection `places`: all rows of these are read.
pub async fn held_without_places(server: &Client, table: &TableName, days: &[String]) -> Result<Vec<Held>, ClickHouseError> {
    let these = asked_held(table).sql(" WHERE _partition_id IN ").strings(days.iter().map(String::as_str)).sql(BY_PARTITION);
    let mut held: HashMap<PartitionKey, Held> = HashMap::new();
    // By the projection parts that lack it add nothing.
    for asked in [asked_held(table).sql(BY_PARTITION), these.sql(" SETTINGS optimize_use_projections = 0")] {
        for one in answered_held(server, &asked).await? {
            let known = held.entry(one.key).or_insert(one);
            *known = Held { highest: known.highest.max(one.highest), newest_ms: known.newest_ms.max(one.newest_ms), ..one };
        }
    }
    Ok(held.into_values().collect())
}

fn asked_held(table: &TableName) -> Statement {
    Statement::of("SELECT log_epoch, log_partition, max(log_offset), toUnixTimestamp64Milli(max(received_at)) FROM ").table(table)
}

const BY_PARTITION: &str = " GROUP BY log_epoch, log_partition";

async fn answered_held(server: &Client, to: &Statement) -> Result<Vec<Held>, ClickHouseError> {
    /// Epoch, partition, offset and receipt.
    type Row = (Whole<u64>, u16, Whole<i64>, Whole<i64>);
    let rows: Vec<Row> = server.rows(to).await?;
    let held = rows.into_iter().map(|(epoch, partition, highest, newest_ms)| Held {
        key: PartitionKey { epoch: LogEpoch(epoch.0), partition },
        highest: highest.0,
        newest_ms: newest_ms.0,
    });
    Ok(held.collect())
}

/// The highest raw offset that a table of the store has of a partition, in whichever shard it is.
pub async fn watermark(store: &ClickHouse, table: &TableName, key: PartitionKey) -> Result<Option<i64>, ClickHouseError> {
    let mut highest = None;
    for shard in store.shards.iter() {
        // Where its blocks are inserted: the other replicas may be behind.
        let held = held(&shard.replica_of(key.partition).writer, table).await?;
        highest = highest.max(held.into_iter().filter(|held| held.key == key).map(|held| held.highest).max());
    }
    Ok(highest)
}

/// The highest raw offset below `below` at which a block of the events table ends.
pub async fn end_of_block(store: &ClickHouse, key: PartitionKey, below: i64) -> Result<Option<i64>, ClickHouseError> {
    let to = Statement::of("SELECT max(log_offset) FROM ").table(&store.table(EVENTS.name()));
    let to = of_partition(to.sql(" WHERE ").sql(IS_BOOKS), key);
    let to = to.sql(" AND log_offset < ").int(below).sql(" HAVING count() > 0");
    let rows: Vec<(Whole<i64>,)> = store.rows_of_shards(&to, LOOK_LIMIT).await?;
    Ok(rows.into_iter().map(|(offset,)| offset.0).max())
}

/// The raw offsets that a block covers: those behind `previous`, up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covering {
    /// The raw offset before them.
    pub previous: i64,
    /// The last of them.
    pub last: i64,
}

/// The first block of the events table that ends at `from` or later.
pub async fn block_that_ends_from(store: &ClickHouse, key: PartitionKey, from: i64) -> Result<Option<Covering>, ClickHouseError> {
    let to = Statement::of("SELECT min(log_offset), argMin(toUInt64(").sql(REACH).sql("), log_offset) FROM ");
    let to = of_partition(to.table(&store.table(EVENTS.name())).sql(" WHERE ").sql(IS_BOOKS), key);
    let to = to.sql(" AND log_offset >= ").int(from).sql(" HAVING count() > 0");
    let rows: Vec<(Whole<i64>, Whole<u64>)> = store.rows_of_shards(&to, LOOK_LIMIT).await?;
    let blocks = rows.into_iter().map(|(last, reach)| Covering { previous: last.0.saturating_sub_unsigned(reach.0), last: last.0 });
    Ok(blocks.min_by_key(|block| block.last))
}

fn of_partition(to: Statement, key: PartitionKey) -> Statement {
    to.sql(" AND log_epoch = ").uint(key.epoch.0).sql(" AND log_partition = ").uint16(key.partition)
}

/// How many events ended in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// In the table.
    pub stored: u64,
    /// Copies.
    pub duplicate: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Outcomes {
    /// What has been added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            stored: self.stored.saturating_sub(before.stored),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            dead: self.dead.saturating_sub(before.dead),
        }
    }
}

/// How the events of a log ended, according to the books of a table.
pub async fn outcomes(store: &ClickHouse, table: &TableName, epoch: LogEpoch) -> Result<Outcomes, ClickHouseError> {
    let to = Statement::of("SELECT toUInt64(sum(numbers['stored'])), toUInt64(sum(numbers['duplicate'])), ");
    let to = to.sql("toUInt64(sum(arraySum(mapValues(mapFilter((name, number) -> startsWith(name, 'dead'), numbers))))) FROM ");
    let to = to.table(table).sql(" WHERE ").sql(IS_BOOKS).sql(" AND log_epoch = ").uint(epoch.0);
    let rows: Vec<[Whole<u64>; 3]> = store.rows_of_shards(&to, LOOK_LIMIT).await?;
    let sum = Outcomes::default();
    Ok(rows.into_iter().fold(sum, |sum, [stored, duplicate, dead]| Outcomes {
        stored: sum.stored + stored.0,
        duplicate: sum.duplicate + duplicate.0,
        dead: sum.dead + dead.0,
    }))
}

/// Events stored in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// Minute of receipt, milliseconds since 1970.
    pub at_ms: i64,
    /// Events.
    pub events: u64,
}

/// How many events were stored by minute of receipt since `since_ms`, newest first, in one table of a server. `first_day` is the first
/// on which their blocks can be; `partition` limits them to one of the log.
pub async fn minutes(server: &Client, table: &TableName, since: Since, partition: Option<u16>) -> Result<Vec<Minute>, ClickHouseError> {
    let to = Statement::of("SELECT toUnixTimestamp64Milli(received_at), toUInt64(sum(numbers['stored'])) FROM ").table(table);
    let to = to.sql(" WHERE ").sql(IS_BOOKS).sql(" AND received_day >= toDate(").uint16(since.first_day);
    let to = to.sql(") AND timestamp >= fromUnixTimestamp64Milli(").int(since.at_ms).sql(")");
    let to = match partition {
        Some(partition) => to.sql(" AND log_partition = ").uint16(partition),
        None => to,
    };
    let rows: Vec<(Whole<i64>, Whole<u64>)> = server.rows(&to.sql(" GROUP BY received_at ORDER BY received_at DESC")).await?;
    Ok(rows.into_iter().map(|(at_ms, events)| Minute { at_ms: at_ms.0, events: events.0 }).collect())
}

/// A time of receipt, and the first day on which a block with what was received then can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Days since 1970.
    pub first_day: u16,
}

/// Where the log still holds records of a partition from.
#[derive(Clone, Copy, Debug)]
pub struct HeldByLog {
    /// The partition.
    pub key: PartitionKey,
    /// The raw offset before the first one held.
    pub previous: i64,
    /// Day of receipt of the first record, days since 1970.
    pub day: u16,
}

/// The highest raw offset below the first hole in what the log can fill again; `None` if there is no hole. Each block's books say how
/// far it reaches back, so one that is missing shows between its neighbours.
pub async fn last_before_hole(store: &ClickHouse, log: HeldByLog) -> Result<Option<i64>, ClickHouseError> {
    let to = Statement::of("SELECT min(before) FROM (SELECT previous, lagInFrame(last, 1, ").int(log.previous);
    let to = to.sql(") OVER (ORDER BY last ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before ");
    let to = to.sql("FROM (SELECT DISTINCT log_offset AS last, log_offset - ").sql(REACH).sql(" AS previous FROM ");
    let to = of_partition(to.table(&store.table(EVENTS.name())).sql(" WHERE ").sql(IS_BOOKS), log.key);
    // Receipt days follow the clocks of those who ingest: a day of grace.
    let to = to.sql(" AND log_offset > ").int(log.previous).sql(" AND received_day + 1 >= toDate(").uint16(log.day);
    let rows: Vec<(Whole<i64>,)> = store.migrator.rows(&to.sql("))) WHERE before < previous HAVING count() > 0")).await?;
    Ok(rows.first().map(|(last,)| last.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::ProjectId;

    #[test]
    fn the_condition_of_the_books_is_that_of_their_rows() {
        assert_eq!(IS_BOOKS, format!("project_id = {} AND type = '{BOOKS_TYPE}'", ProjectId::BOOKS.0));
        assert_eq!(IS_ARRIVALS, format!("project_id = {} AND type = '{ARRIVALS_TYPE}'", ProjectId::BOOKS.0));
        assert_eq!(IS_EVENT, format!("project_id != {}", ProjectId::BOOKS.0));
    }
}
