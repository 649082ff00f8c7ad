//! What is not replayed, as the log no longer holds it, is copied from the events table into the one that is to take its place.
//!
//! Promises: each step may be cut and run again, and nothing is left beside the table. May go wrong: the copy of a day was cut in the moment in which its rows move; it
//! is found by its number of rows, and the table must be made anew.

use std::ops::Range;
use std::time::Duration;

use crate::clickhouse::{ClickHouse, ClickHouseError, Identifier, Node, Statement, TableName, Whole};
use crate::event::ids::LogEpoch;
use crate::failpoint;
use crate::store::books::IS_EVENT;
use crate::store::fence;
use crate::store::revisions::{FROM, IS_REVISION, PROJECT};
use crate::store::tables::EVENTS;

/// Longest time that copying one day may take.
const COPY_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

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

    /// Of how many visitors the `old` table says something of sessions that began before what was replayed, and the `new` one nothing: what
    /// `pulse sessions rebuild` has said stands where the old rows ended then, and no event that is replayed makes it again.
    pub async fn visitors_left(&self, store: &ClickHouse, old: &Identifier, new: &Identifier) -> Result<u64, CopyError> {
        let (old, new) = (store.table(old.clone()), store.table(new.clone()));
        let mut visitors = 0;
        for shard in store.shards.iter() {
            let to = Statement::of("SELECT uniqExact(").sql(PROJECT).sql(", visitor_id) FROM ").table(&old);
            let to = self.filter(to.sql(" WHERE ").sql(IS_REVISION).sql(" AND NOT (")).sql(") AND ").sql(FROM);
            let to = to.sql(" < (SELECT min(received_at) FROM ").table(&old).sql(" WHERE ").sql(IS_EVENT).sql(" AND NOT (");
            let to = self.filter(to).sql(")) AND (").sql(PROJECT).sql(", visitor_id) NOT IN (SELECT ").sql(PROJECT);
            let to = to.sql(", visitor_id FROM ").table(&new).sql(" WHERE ").sql(IS_REVISION).sql(")");
            let rows: Vec<(Whole<u64>,)> = shard.first().migrator.with_timeout(COPY_LIMIT).rows(&to).await?;
            visitors += rows.into_iter().map(|(count,)| count.0).sum::<u64>();
        }
        Ok(visitors)
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
