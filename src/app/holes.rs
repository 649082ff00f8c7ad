//! Holes in the table of the embedded engine: rows that are gone below rows that are there.
//!
//! Looked for when the engine was not ended by pulse: parts that a power cut or a bad disk has damaged are set aside as it starts, and the
//! highest raw offset says nothing of what is missing below it. Every block's books say how far it reaches back, so a missing one
//! shows. Where the log still has its records, everything behind the hole is deleted: then the table is merely behind, and load fills it
//! again. Runs before anything loads. May go wrong: the log does not hold the records any more; that is said, and nothing is deleted.

use std::time::Duration;

use tokio::time::Instant;

use crate::clickhouse::{ClickHouse, ClickHouseError, Format, Statement, is_damage};
use crate::event::record;
use crate::log::{Log, LogError, ReadRequest, Topic};

/// Between two looks whether rows are deleted.
const POLL: Duration = Duration::from_millis(50);
/// How long deleting may fail: a disk may be full for a while.
const FAILING_LIMIT: Duration = Duration::from_secs(60);
/// Deleting rewrites parts, and may be cut itself: what is found then is looked at again, a few times.
const MOST_ROUNDS: usize = 5;

/// Why it is not known whether the table is whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum HoleError {
    #[error("looking for holes in the table: {0}")]
    Store(#[from] ClickHouseError),
    #[error("looking for holes in the table: {0}")]
    Log(#[from] LogError),
    #[error("deleting what lies above a hole in the table: {0}")]
    Stuck(String),
}

/// What the enriched topic holds of a partition.
#[derive(Clone, Copy, Debug)]
struct Held {
    partition: u16,
    /// The raw offset before the first one held.
    previous: i64,
    /// Day of receipt of the first record.
    day: u16,
}

/// Makes a table with holes one that is behind, in each partition from its first hole on.
pub(super) async fn reopen<L: Log>(log: &L, store: &ClickHouse) -> Result<(), HoleError> {
    // An earlier deletion that was cut short goes on by itself.
    until_deleted(store).await?;
    for partition in 0..log.partitions(Topic::Enriched) {
        for _ in 0..MOST_ROUNDS {
            let Some(held) = held(log, partition).await? else { break };
            let Some(last) = last_before_hole(log, store, held).await? else { break };
            tracing::error!(
                partition,
                last,
                "rows are missing behind this raw offset: those above are deleted and all are loaded again from the log"
            );
            delete_above(log, store, partition, last).await?;
        }
    }
    Ok(())
}

/// Takes the part that an error is about out of the table, if it is still there: the engine may have found nothing wrong with its files.
pub(super) async fn set_aside(store: &ClickHouse, message: &str) -> Result<(), HoleError> {
    let Some(part) = part_of(message) else { return Ok(()) };
    for table in ["events", "dead_letters"] {
        let there = Statement::of("SELECT count() FROM system.parts WHERE active AND database = {database:String} AND table = {table:String} AND name = {part:String}")
            .bind("database", &store.database)
            .bind("table", table)
            .bind("part", part);
        let rows: Vec<(serde_json::Value,)> = store.migrator.rows(&there).await?;
        let is_there = rows.iter().any(|(count,)| count != 0 && count != "0");
        // By its name alone it may be a part of the other table, which is whole.
        if is_there && reads(store, table, part).await.is_err_and(|problem| is_damage(&problem)) {
            store.migrator.execute(&format!("ALTER TABLE {}.{table} DETACH PART '{part}'", store.database)).await?;
            tracing::error!(table, part, "a damaged part is set aside");
        }
    }
    Ok(())
}

/// Reads all of a part. Errors: it cannot be read.
async fn reads(store: &ClickHouse, table: &str, part: &str) -> Result<(), ClickHouseError> {
    let sql = format!("SELECT count() FROM {}.{table} WHERE _part = {{part:String}} AND NOT ignore(*)", store.database);
    let statement = Statement::of(sql).bind("part", part);
    store.migrator.query(&statement, Format::Json).await.map(|_| ())
}

/// The name of the part in an error's text: `... (while reading from part /…/store/abc/abc…/20260101_5_5_0/ ...`.
fn part_of(message: &str) -> Option<&str> {
    let path = message.split_once("while reading from part ")?.1.split(|c: char| c.is_whitespace() || c == ')' || c == ',').next()?;
    let name = path.trim_end_matches(['/', ':']).rsplit('/').next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

async fn held<L: Log>(log: &L, partition: u16) -> Result<Option<Held>, LogError> {
    let bounds = log.bounds(Topic::Enriched, partition).await?;
    if bounds.is_empty() {
        return Ok(None);
    }
    let records = log.read(ReadRequest::new(Topic::Enriched, partition, bounds.start, 1)).await?;
    let header = records.first().and_then(|record| record::header(&record.payload).ok());
    Ok(header.and_then(|header| {
        let origin = header.origin.filter(|origin| origin.epoch == log.epoch())?;
        Some(Held { partition, previous: origin.previous, day: header.day })
    }))
}

/// The highest raw offset below the first hole in what the log can fill again; `None` if there is no hole.
async fn last_before_hole<L: Log>(log: &L, store: &ClickHouse, held: Held) -> Result<Option<i64>, ClickHouseError> {
    // Receipt days follow the clocks of those who ingest: a day of grace.
    let sql = format!(
        "SELECT toString(min(before)) FROM (\
         SELECT previous, lagInFrame(last, 1, {{held:Int64}}) OVER (ORDER BY last ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before \
         FROM (SELECT DISTINCT log_offset AS last, log_offset - flags AS previous FROM {}.events \
         WHERE project_id = 0 AND log_epoch = {{epoch:UInt64}} AND log_partition = {{partition:UInt16}} AND log_offset > {{held:Int64}} \
         AND received_day + 1 >= toDate({{day:UInt16}}))) WHERE before < previous HAVING count() > 0",
        store.database
    );
    let statement =
        Statement::of(sql).bind("held", held.previous).bind("epoch", log.epoch().0).bind("partition", held.partition).bind("day", held.day);
    let rows: Vec<(String,)> = store.migrator.rows(&statement).await?;
    Ok(rows.first().and_then(|(last,)| last.parse().ok()))
}

async fn delete_above<L: Log>(log: &L, store: &ClickHouse, partition: u16, last: i64) -> Result<(), HoleError> {
    let sql = format!(
        "ALTER TABLE {}.events DELETE WHERE log_epoch = {} AND log_partition = {partition} AND log_offset > {last}",
        store.database,
        log.epoch().0
    );
    store.migrator.execute(&sql).await?;
    until_deleted(store).await
}

/// Waits until what [`delete_above`] has begun, now or in an earlier life, is done. Errors: it fails again and again.
async fn until_deleted(store: &ClickHouse) -> Result<(), HoleError> {
    let sql = "SELECT latest_fail_reason FROM system.mutations WHERE database = {database:String} AND table = 'events' AND NOT is_done \
               AND position(command, 'log_offset >') > 0";
    let statement = Statement::of(sql).bind("database", &store.database);
    let mut failing_since = None;
    loop {
        let running: Vec<(String,)> = store.migrator.rows(&statement).await?;
        if running.is_empty() {
            return Ok(());
        }
        match running.into_iter().find(|(reason,)| !reason.is_empty()) {
            Some((reason,)) if failing_since.get_or_insert_with(Instant::now).elapsed() > FAILING_LIMIT => {
                return Err(HoleError::Stuck(reason));
            }
            Some(_) => {}
            None => failing_since = None,
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damaged_part_is_named_in_the_error() {
        let said = "Empty marks file '/d/20261128_18_18_0/data.cmrk4': 0, must be: 4656: (while reading from part \
                    /data/store/94d/94dbb173-d384/20261128_18_18_0/ in table pulse.events (94dbb173), from mark 0)";
        assert_eq!(part_of(said), Some("20261128_18_18_0"));
        for odd in ["", "while reading from part ", "while reading from part /a/it's/ in", "Code: 246 and nothing else"] {
            assert_eq!(part_of(odd), None, "{odd}");
        }
    }
}
