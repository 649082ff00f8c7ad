//! How far the table is behind the log, as gauges of the instances that load.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, ClickHouseError, Shard};
use crate::log::headers::header_at;
use crate::log::{self, Log, LogError, Topic};
use crate::store::books::{self, Held};
use crate::store::tables::EVENTS;
use crate::{clock, metrics};

/// Between two looks: alerts work in minutes.
const INTERVAL: Duration = Duration::from_secs(5);

/// Longest time that a shard is waited for at a start.
const CHECK_LIMIT: Duration = Duration::from_secs(4);

/// Measures every few seconds until asked to stop. A shard that does not answer keeps its last watermarks, so its lag grows; without
/// any its lag is not shown. Errors: the log ends before what the table has of it.
pub(super) async fn watch<L: Log>(log: L, store: ClickHouse, stop: CancellationToken) -> Result<(), LogError> {
    let mut stored = Stored::new();
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let all_said = stop.run_until_cancelled(ask(&log, &store, &mut stored, Duration::MAX)).await.unwrap_or(false);
        match show(&log, &stored, all_said).await {
            Err(lost @ LogError::Corrupt(_)) => return Err(lost),
            Err(problem) => tracing::debug!(%problem, "lag not known"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Checks once that the log has what the table has of it, before anything is written behind an end that was lost. A shard that does
/// not answer is checked by [`watch`] once it does.
pub(super) async fn check<L: Log>(log: &L, store: &ClickHouse) -> Result<(), LogError> {
    let mut stored = Stored::new();
    ask(log, store, &mut stored, CHECK_LIMIT).await;
    for (partition, highest) in stored {
        refuse_lost(log, partition, highest).await?;
    }
    Ok(())
}

/// Refuses a log that ends before what a table holds of it.
pub(super) async fn refuse_lost_ends<L: Log>(log: &L, held: Vec<Held>) -> Result<(), LogError> {
    for held in held.into_iter().filter(|held| held.key.epoch == log.epoch()) {
        refuse_lost(log, held.key.partition, held.highest).await?;
    }
    Ok(())
}

async fn refuse_lost<L: Log>(log: &L, partition: u16, highest: i64) -> Result<(), LogError> {
    match log::check_end(log, Topic::Raw, partition, highest + 1).await {
        Err(lost @ LogError::Corrupt(_)) => Err(lost),
        _ => Ok(()),
    }
}

/// The highest raw offset that is in the table, by partition.
type Stored = HashMap<u16, i64>;

/// Asks all shards, each for as long as `limit`. Returns whether all have answered.
async fn ask<L: Log>(log: &L, store: &ClickHouse, stored: &mut Stored, limit: Duration) -> bool {
    let of_shard = |shard: &Shard| {
        let (writer, table) = (shard.first().writer.clone(), store.table(EVENTS.name()));
        async move { tokio::time::timeout(limit, books::held(&writer, &table)).await.unwrap_or(Err(ClickHouseError::TimedOut(limit))) }
    };
    let answers = join_all(store.shards.iter().map(of_shard)).await;
    let mut all_said = true;
    for answer in answers {
        match answer {
            Ok(held) => {
                let ours = held.into_iter().filter(|held| held.key.epoch == log.epoch());
                stored.extend(ours.map(|held| (held.key.partition, held.highest)));
            }
            Err(problem) => {
                tracing::debug!(%problem, "a shard does not say how far it is");
                all_said = false;
            }
        }
    }
    all_said
}

async fn show<L: Log>(log: &L, stored: &Stored, all_said: bool) -> Result<(), LogError> {
    for partition in 0..log.partitions(Topic::Raw) {
        let highest = stored.get(&partition);
        if highest.is_none() && !all_said {
            continue;
        }
        if let Some(highest) = highest {
            refuse_lost(log, partition, *highest).await?;
        }
        let held = log.bounds(Topic::Raw, partition).await?;
        let next = highest.map_or(held.start, |offset| offset + 1).max(held.start);
        let age_ms = if next < held.end { age_ms(log, partition, next).await? } else { 0 };
        metrics::set_lag(partition, (held.end - next).max(0) as f64, age_ms as f64 / 1_000.0);
    }
    Ok(())
}

async fn age_ms<L: Log>(log: &L, partition: u16, offset: i64) -> Result<i64, LogError> {
    let header = header_at(log, partition, offset).await?;
    Ok(header.map_or(0, |header| clock::now_ms() - header.received_ms))
}
