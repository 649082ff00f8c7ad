//! How far the table is behind the log, as gauges: for those who load, whose lag it is.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, Statement};
use crate::event::record::{self, HEADER_PREFIX};
use crate::log::{Log, Topic};
use crate::{clock, metrics};

/// Between two looks: alerts work in minutes.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks every few seconds until asked to stop. What cannot be learnt now keeps its level.
pub(super) async fn watch<L: Log>(log: L, store: ClickHouse, stop: CancellationToken) -> Result<(), Infallible> {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        if let Err(problem) = look(&log, &store).await {
            tracing::debug!(problem, "lag not known");
        }
    }
    Ok(())
}

async fn look<L: Log>(log: &L, store: &ClickHouse) -> Result<(), String> {
    let sql = "SELECT log_partition, toString(max(log_offset)) FROM events WHERE project_id = 0 AND log_epoch = {epoch:UInt64} \
               GROUP BY log_partition";
    let statement = Statement::of(sql).bind("epoch", log.epoch().0);
    let stored: Vec<(u16, String)> = store.reader.rows(&statement).await.map_err(|problem| problem.to_string())?;
    for partition in 0..log.partitions(Topic::Raw) {
        let highest = stored.iter().find(|(number, _)| *number == partition).and_then(|(_, offset)| offset.parse::<i64>().ok());
        let held = log.bounds(Topic::Raw, partition).await.map_err(|problem| problem.to_string())?;
        let next = highest.map_or(held.start, |offset| offset + 1).max(held.start);
        let age_ms = match next < held.end {
            true => age_ms(log, partition, next).await?,
            false => 0,
        };
        metrics::set_lag(partition, (held.end - next).max(0) as f64, age_ms as f64 / 1_000.0);
    }
    Ok(())
}

async fn age_ms<L: Log>(log: &L, partition: u16, offset: i64) -> Result<i64, String> {
    let records = log.read(Topic::Raw, partition, offset, 1, Some(HEADER_PREFIX)).await.map_err(|problem| problem.to_string())?;
    let header = records.first().and_then(|record| record::header(&record.payload).ok());
    Ok(header.map_or(0, |header| clock::now_ms() - header.received_ms))
}
