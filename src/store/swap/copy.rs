//! What is not replayed, as the log no longer holds it, is copied from the events table into the one that is to take its place.
//!
//! Promises: each step may be cut and run again, and nothing is left beside the table. What rows that are not copied say of those that are
//! ([`Revised`]) is for the caller to say again. May go wrong: the copy of a day was cut in the moment in which its rows move; it is found
//! by its number of rows, and the table must be made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::clickhouse::{ClickHouse, ClickHouseError, Identifier, Node, Statement, TableName, Whole};
use crate::event::ids::{LogEpoch, ProjectId, VisitorKey};
use crate::event::session::LONGEST_SESSION_MS;
use crate::failpoint;
use crate::store::fence;
use crate::store::revisions::{FROM, IS_REVISION, PROJECT, UNTIL};
use crate::store::tables::EVENTS;

/// Longest time that copying one day may take.
const COPY_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// A kept event is at most so much later than the receipt of what is replayed.
const AHEAD_MS: i64 = 86_400_000;

/// Why rows were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] ClickHouseError),
    /// The table has other rows of a day than those to be copied.
    #[error("day {day}: table {table} already has {found} rows that are not of this replay instead of {expected}; drop it and begin again")]
    Foreign {
        /// The day.
        day: String,
        /// The table.
        table: Identifier,
        /// Rows it has.
        found: u64,
        /// Rows to be copied.
        expected: u64,
    },
}

/// Rows of the events table that a replay cannot make again: those of other logs, and of this one from before the ranges.
pub struct Kept {
    epoch: LogEpoch,
    /// First raw offset that is replayed, by partition.
    replayed: Vec<(u16, i64)>,
}

/// Sessions of before what is replayed of which rows speak that are replayed, or were to be: what `pulse sessions rebuild` has said stands
/// where the events table ended then, and no event that is replayed makes it again.
pub struct Revised<'a> {
    kept: &'a Kept,
    store: &'a ClickHouse,
    /// By partition, a day behind the receipt of the first event that is replayed, milliseconds since 1970.
    untils: BTreeMap<u16, i64>,
}

impl Revised<'_> {
    /// Partitions that may have such sessions, and until when these begin, milliseconds since 1970.
    pub fn partitions(&self) -> impl Iterator<Item = (u16, i64)> {
        self.untils.iter().map(|(partition, until_ms)| (*partition, *until_ms))
    }

    /// The days since 1970 on which such sessions of a partition lie, of those that begin until then.
    pub async fn days(&self, partition: u16, until_ms: i64) -> Result<BTreeSet<i64>, ClickHouseError> {
        let mut days = BTreeSet::new();
        for shard in self.store.shards.iter() {
            let server = shard.first().migrator.with_timeout(COPY_LIMIT);
            let rows: Vec<(u32,)> = server.rows(&self.asked_days(partition, until_ms)).await?;
            days.extend(rows.into_iter().map(|(day,)| i64::from(day)));
        }
        Ok(days)
    }

    fn asked_days(&self, partition: u16, until_ms: i64) -> Statement {
        let to = Statement::of("SELECT DISTINCT arrayJoin(range(toUInt32(intDiv(toUnixTimestamp64Milli(").sql(FROM);
        let to = to.sql("), 86400000)), toUInt32(intDiv(least(toUnixTimestamp64Milli(").sql(UNTIL).sql("), ").int(until_ms - 1);
        let to = to.sql("), 86400000) + 1))) AS day FROM ").table(&self.events());
        self.of(to, partition).sql(" AND ").sql(FROM).sql(" < fromUnixTimestamp64Milli(").int(until_ms).sql(")")
    }

    /// The visitors of a partition who have such a session in a part of the time.
    pub async fn visitors(&self, partition: u16, time: Range<i64>) -> Result<Vec<(ProjectId, VisitorKey)>, ClickHouseError> {
        let mut visitors = Vec::new();
        for shard in self.store.shards.iter() {
            let to = Statement::of("SELECT DISTINCT ").sql(PROJECT).sql(", visitor_id FROM ").table(&self.events());
            let to = self.of(to, partition).sql(" AND ").sql(FROM).sql(" < fromUnixTimestamp64Milli(").int(time.end);
            let to = to.sql(") AND ").sql(FROM).sql(" >= fromUnixTimestamp64Milli(").int(time.start.saturating_sub(LONGEST_SESSION_MS));
            let to = to.sql(") AND ").sql(UNTIL).sql(" >= fromUnixTimestamp64Milli(").int(time.start).sql(")");
            let rows: Vec<[Whole<u64>; 2]> = shard.first().migrator.with_timeout(COPY_LIMIT).rows(&to).await?;
            visitors.extend(rows.into_iter().map(|[project, visitor]| (ProjectId(project.0), VisitorKey(visitor.0))));
        }
        Ok(visitors)
    }

    fn events(&self) -> TableName {
        self.store.table(EVENTS.name())
    }

    /// Rows of a partition that are not kept, and say something of sessions.
    fn of(&self, to: Statement, partition: u16) -> Statement {
        let to = to.sql(" WHERE ").sql(IS_REVISION).sql(" AND log_partition = ").uint16(partition).sql(" AND NOT (");
        self.kept.filter(to).sql(")")
    }
}

/// A day of receipt.
#[derive(Debug)]
struct Day {
    day: String,
    rows: u64,
    /// Of them, those to be copied.
    kept: u64,
}

impl Kept {
    /// Of a replay of these raw offsets, by partition.
    pub fn new(epoch: LogEpoch, ranges: &[(u16, Range<i64>)]) -> Self {
        Self { epoch, replayed: ranges.iter().map(|(partition, range)| (*partition, range.start)).collect() }
    }

    /// Copies them into `table`, day by day, before anything is loaded into it; a day that is there is left as it is.
    pub async fn copy(&self, store: &ClickHouse, table: &Identifier) -> Result<(), CopyError> {
        for shard in store.shards.iter() {
            let copying = Copying { kept: self, store, table, node: shard.first() };
            copying.catch_up().await?;
            for day in copying.days(&store.table(EVENTS.name())).await? {
                copying.day(&day).await?;
            }
            copying.clear().await?;
        }
        Ok(())
    }

    /// What rows that are not kept say of events that are.
    pub async fn revised<'a>(&'a self, store: &'a ClickHouse) -> Result<Revised<'a>, ClickHouseError> {
        let mut revised = Revised { kept: self, store, untils: BTreeMap::new() };
        for shard in store.shards.iter() {
            let to = Statement::of("SELECT log_partition, toUnixTimestamp64Milli(min(received_at)) FROM ").table(&revised.events());
            let to = self.filter(to.sql(" WHERE NOT (").sql(IS_REVISION).sql(") AND NOT (")).sql(") GROUP BY log_partition");
            let replayed: Vec<(u16, Whole<i64>)> = shard.first().migrator.with_timeout(COPY_LIMIT).rows(&to).await?;
            for (partition, first_ms) in replayed {
                // Clocks may be ahead, and books are of whole minutes: to look at a visitor in vain costs little.
                let until_ms = first_ms.0.saturating_add(AHEAD_MS);
                let known = revised.untils.entry(partition).or_insert(until_ms);
                *known = until_ms.max(*known);
            }
        }
        Ok(revised)
    }

    fn filter(&self, to: Statement) -> Statement {
        let to = to.sql("NOT (log_epoch = ").digits(self.epoch.0).sql(" AND (0");
        let to = self.replayed.iter().fold(to, |to, (partition, start)| {
            to.sql(" OR (log_partition = ").digits(*partition).sql(" AND log_offset >= ").digits(*start).sql(")")
        });
        to.sql("))")
    }
}

/// Copies into the table of one server.
struct Copying<'a> {
    kept: &'a Kept,
    store: &'a ClickHouse,
    table: &'a Identifier,
    node: &'a Node,
}

impl Copying<'_> {
    /// Waits until the server has what other replicas have accepted up to now: what it lacks would be in no table afterwards.
    async fn catch_up(&self) -> Result<(), CopyError> {
        if self.store.fleet.as_ref().is_some_and(|fleet| fleet.replica_path.is_some()) {
            let to = Statement::of("SYSTEM SYNC REPLICA ").table(&self.store.table(EVENTS.name())).sql(" LIGHTWEIGHT");
            // The one who may do that for loading.
            self.node.writer.with_timeout(COPY_LIMIT).execute(&to).await?;
        }
        Ok(())
    }

    /// The days of receipt with rows to be copied.
    async fn days(&self, of: &TableName) -> Result<Vec<Day>, ClickHouseError> {
        let to =
            self.kept.filter(Statement::of("SELECT toString(received_day) AS day, count(), countIf(")).sql(") AS kept FROM ").table(of);
        let to = to.sql(" GROUP BY received_day HAVING kept > 0 ORDER BY day");
        let days: Vec<(String, Whole<u64>, Whole<u64>)> = self.node.migrator.with_timeout(COPY_LIMIT).rows(&to).await?;
        Ok(days.into_iter().map(|(day, rows, kept)| Day { day, rows: rows.0, kept: kept.0 }).collect())
    }

    async fn day(&self, Day { day, rows, kept }: &Day) -> Result<(), CopyError> {
        let (events, table) = (self.store.table(EVENTS.name()), self.store.table(self.table.clone()));
        let found = self.days(&table).await?.into_iter().find(|known| known.day == *day).map_or(0, |known| known.kept);
        if found == *kept {
            return Ok(());
        }
        if found != 0 {
            return Err(CopyError::Foreign { day: day.clone(), table: self.table.clone(), found, expected: *kept });
        }
        let attach =
            |from: &TableName| Statement::of("ALTER TABLE ").table(&table).sql(" ATTACH PARTITION ").quoted(day).sql(" FROM ").table(from);
        if rows == kept {
            // Links the parts: no row is read.
            return self.execute(&attach(&events)).await;
        }
        // Beside first: what was cut leaves nothing in the table.
        self.clear().await?;
        let aside = self.aside();
        // Of this server alone: a replicated table by the same statement would ask for the place in Keeper that the other one has.
        let to = Statement::of("CREATE TABLE ").table(&aside).sql(" AS ").table(&table);
        self.execute(&to.sql(" ENGINE = MergeTree PARTITION BY received_day ORDER BY (project_id, type, timestamp)")).await?;
        // The fence would refuse rows of other generations.
        self.execute(&fence::removed_from(&aside)).await?;
        let rows = Statement::of("INSERT INTO ").table(&aside).sql(" SELECT * FROM ").table(&events);
        self.execute(&self.kept.filter(rows.sql(" WHERE received_day = ").quoted(day).sql(" AND "))).await?;
        self.execute(&attach(&aside)).await
    }

    /// Holds the rows of a day of which some are copied.
    fn aside(&self) -> TableName {
        self.store.table(self.table.with("_copy"))
    }

    async fn clear(&self) -> Result<(), CopyError> {
        self.execute(&Statement::of("DROP TABLE IF EXISTS ").table(&self.aside()).sql(" SYNC")).await
    }

    async fn execute(&self, statement: &Statement) -> Result<(), CopyError> {
        self.node.migrator.with_timeout(COPY_LIMIT).execute(statement).await?;
        failpoint::point("swap.copied");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ClickHouseConfig;

    #[test]
    fn days_of_sessions_are_asked_for_at_once_however_far_they_are_apart() {
        let config = ClickHouseConfig { url: "http://localhost:1".into(), ..ClickHouseConfig::default() };
        let store = ClickHouse::new(&config.check().unwrap());
        let kept = Kept::new(LogEpoch(7), &[(0, 5..9)]);
        let asked = Revised { kept: &kept, store: &store, untils: BTreeMap::new() }.asked_days(0, 86_400_000);
        let expected = "SELECT DISTINCT arrayJoin(range(toUInt32(intDiv(toUnixTimestamp64Milli(timestamp), 86400000)), \
             toUInt32(intDiv(least(toUnixTimestamp64Milli(original_timestamp), {p0:Int64}), 86400000) + 1))) AS day FROM pulse.events \
             WHERE project_id = 0 AND type = '$session' AND log_partition = {p1:UInt16} \
             AND NOT (NOT (log_epoch = 7 AND (0 OR (log_partition = 0 AND log_offset >= 5)))) \
             AND timestamp < fromUnixTimestamp64Milli({p2:Int64})";
        assert_eq!(asked.text(), expected);
        assert_eq!(asked.params().map(|(_, value)| value.to_owned()).collect::<Vec<_>>(), ["86399999", "0", "86400000"]);
    }
}
