//! The end of a rebuild: what the log no longer holds is copied from the events table, the tables are exchanged, and what live
//! roles stored in the old one meanwhile is loaded once more.
//!
//! Promises: each step may be cut and run again. May go wrong: the copy of a day was cut in the moment in which its rows move; it
//! is found by its number of rows, and the table must be made anew.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::EVENTS;
use crate::clickhouse::{ClickHouse, Node, Statement};

/// Longest time that copying one day may take.
const COPY_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
/// Between two looks whether inserts into the old table are still running.
const POLL: Duration = Duration::from_millis(100);

/// Rows of the events table that a replay cannot make again: those of other logs, and of this one from before the ranges.
pub(super) struct Kept {
    filter: String,
}

/// What a day has: all rows, and those that are to be copied.
type Day = (String, u64, u64);

impl Kept {
    pub(super) fn new(epoch: u64, ranges: &[(u16, Range<i64>)]) -> Self {
        let replayed: Vec<String> =
            ranges.iter().map(|(partition, range)| format!("(log_partition = {partition} AND log_offset >= {})", range.start)).collect();
        Self { filter: format!("NOT (log_epoch = {epoch} AND ({}))", replayed.join(" OR ")) }
    }

    /// Copies them into `table`, day by day; a day that is there is left as it is.
    pub(super) async fn copy(&self, store: &ClickHouse, table: &str) -> Result<()> {
        for shard in store.shards.iter() {
            let node = shard.first();
            let copying = Copying { database: &store.database, table, filter: &self.filter, node };
            for day in copying.days(EVENTS).await? {
                copying.day(&day).await.with_context(|| format!("day {}", day.0))?;
            }
        }
        Ok(())
    }
}

/// Copies into the table of one server.
struct Copying<'a> {
    database: &'a str,
    table: &'a str,
    filter: &'a str,
    node: &'a Node,
}

impl Copying<'_> {
    /// The days of receipt with rows to be copied.
    async fn days(&self, of: &str) -> Result<Vec<Day>> {
        let Self { database, filter, .. } = self;
        let sql = format!(
            "SELECT toString(received_day) AS day, toString(count()), toString(countIf({filter}) AS kept) FROM {database}.{of} \
             GROUP BY received_day HAVING kept > 0 ORDER BY day"
        );
        let days: Vec<(String, String, String)> = self.node.migrator.with_timeout(COPY_LIMIT).rows(&Statement::of(sql)).await?;
        days.into_iter().map(|(day, all, kept)| Ok((day, all.parse()?, kept.parse()?))).collect()
    }

    async fn day(&self, (day, all, kept): &Day) -> Result<()> {
        let Self { database, table, filter, .. } = self;
        let found = self.days(table).await?.into_iter().find(|(known, ..)| known == day).map_or(0, |(.., found)| found);
        if found == *kept {
            return Ok(());
        }
        if found != 0 {
            bail!("table {table} already has {found} rows that are not of this replay instead of {kept}; drop it and begin again");
        }
        if all == kept {
            // Links the parts: no row is read.
            return self.execute(&format!("ALTER TABLE {database}.{table} ATTACH PARTITION '{day}' FROM {database}.{EVENTS}")).await;
        }
        // Beside first: what was cut leaves nothing in the table.
        let aside = format!("{database}.{table}_copy");
        self.execute(&format!("DROP TABLE IF EXISTS {aside} SYNC")).await?;
        self.execute(&format!("CREATE TABLE {aside} AS {database}.{table}")).await?;
        // The fence would refuse rows of other generations.
        self.execute(&format!("ALTER TABLE {aside} DROP CONSTRAINT IF EXISTS fenced")).await?;
        let rows = format!("SELECT * FROM {database}.{EVENTS} WHERE received_day = '{day}' AND {filter}");
        self.execute(&format!("INSERT INTO {aside} {rows}")).await?;
        self.execute(&format!("ALTER TABLE {database}.{table} ATTACH PARTITION '{day}' FROM {aside}")).await?;
        self.execute(&format!("DROP TABLE IF EXISTS {aside} SYNC")).await
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.node.migrator.with_timeout(COPY_LIMIT).execute(sql).await?)
    }
}

/// Waits until no insert is running that began before now: it may still end in the table that was replaced.
pub(super) async fn wait_for_inserts(store: &ClickHouse) -> Result<()> {
    let began = tokio::time::Instant::now();
    for node in store.nodes() {
        loop {
            let sql = format!(
                "SELECT toString(count()) FROM system.processes WHERE startsWith(query_id, 'pulse-load-') AND elapsed > {}",
                began.elapsed().as_secs_f64()
            );
            let running: Vec<(String,)> = node.writer.rows(&Statement::of(sql)).await?;
            if running.first().is_none_or(|(count,)| count == "0") {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}
