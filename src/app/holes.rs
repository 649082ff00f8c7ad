//! Holes in the table of the embedded engine: rows that are gone below rows that are there.
//!
//! Looked for when the engine was not ended by pulse: parts that a power cut or a bad disk has damaged are set aside as it starts, and the
//! highest raw offset says nothing of what is missing below it. Every block's books say how far it reaches back, so a missing one
//! shows. Where the log still has its records, everything behind the hole is deleted: then the table is merely behind, and load fills it
//! again. Runs before anything loads. May go wrong: the log does not hold the records any more; that is said, and nothing is deleted.

use std::time::Duration;

use crate::clickhouse::{ClickHouse, ClickHouseError, Statement};
use crate::event::record;
use crate::log::{Log, LogError, Topic};

/// Between two looks whether rows are deleted.
const POLL: Duration = Duration::from_millis(50);
/// Deleting rewrites parts, and may be cut itself: what is found then is looked at again, a few times.
const MOST_ROUNDS: usize = 5;

/// Why it is not known whether the table is whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum HoleError {
    #[error("looking for holes in the table: {0}")]
    Store(#[from] ClickHouseError),
    #[error("looking for holes in the table: {0}")]
    Log(#[from] LogError),
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
            delete_above(log, store, (partition, last)).await?;
        }
    }
    Ok(())
}

async fn held<L: Log>(log: &L, partition: u16) -> Result<Option<Held>, LogError> {
    let bounds = log.bounds(Topic::Enriched, partition).await?;
    if bounds.is_empty() {
        return Ok(None);
    }
    let records = log.read(Topic::Enriched, partition, bounds.start, 1, None).await?;
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

async fn delete_above<L: Log>(log: &L, store: &ClickHouse, (partition, last): (u16, i64)) -> Result<(), ClickHouseError> {
    let sql = format!(
        "ALTER TABLE {}.events DELETE WHERE log_epoch = {} AND log_partition = {partition} AND log_offset > {last}",
        store.database,
        log.epoch().0
    );
    store.migrator.execute(&sql).await?;
    until_deleted(store).await
}

async fn until_deleted(store: &ClickHouse) -> Result<(), ClickHouseError> {
    let sql = "SELECT count() FROM system.mutations WHERE database = {database:String} AND table = 'events' AND NOT is_done";
    let statement = Statement::of(sql).bind("database", &store.database);
    loop {
        let rows: Vec<(serde_json::Value,)> = store.migrator.rows(&statement).await?;
        if rows.iter().all(|(count,)| count == 0 || count == "0") {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}
