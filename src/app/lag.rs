//! How far the table is behind the log, as gauges of the instances that load.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::{ClickHouse, ClickHouseError, Shard};
use crate::event::ids::LogEpoch;
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
    let mut stored = Stored::default();
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
    let mut stored = Stored::default();
    ask(log, store, &mut stored, CHECK_LIMIT).await;
    for (partition, highest) in stored.0.into_values().flatten() {
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

/// The highest raw offsets that are in the table, by partition, as each shard has said last.
#[derive(Debug, Default)]
struct Stored(HashMap<usize, HashMap<u16, i64>>);

impl Stored {
    /// Takes in all that a shard has of a log. What it had and has no more, since it is deleted or made anew, is forgotten.
    fn say(&mut self, shard: usize, held: Vec<Held>, epoch: LogEpoch) {
        let ours = held.into_iter().filter(|held| held.key.epoch == epoch);
        self.0.insert(shard, ours.map(|held| (held.key.partition, held.highest)).collect());
    }

    /// The highest of a partition, in whichever shard: one that was loaded elsewhere before has rows there still.
    fn highest(&self, partition: u16) -> Option<i64> {
        self.0.values().filter_map(|held| held.get(&partition).copied()).max()
    }
}

/// Asks all shards, each for as long as `limit`. Returns whether all have answered.
async fn ask<L: Log>(log: &L, store: &ClickHouse, stored: &mut Stored, limit: Duration) -> bool {
    let of_shard = |shard: &Shard| {
        let (writer, table) = (shard.first().writer.clone(), store.table(EVENTS.name()));
        async move { tokio::time::timeout(limit, books::held(&writer, &table)).await.unwrap_or(Err(ClickHouseError::TimedOut(limit))) }
    };
    let answers = join_all(store.shards.iter().map(of_shard)).await;
    let mut all_said = true;
    for (shard, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(held) => stored.say(shard, held, log.epoch()),
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
        let highest = stored.highest(partition);
        if highest.is_none() && !all_said {
            continue;
        }
        if let Some(highest) = highest {
            refuse_lost(log, partition, highest).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::books::PartitionKey;

    const OURS: LogEpoch = LogEpoch(7);

    fn held(partition: u16, highest: i64) -> Held {
        Held { key: PartitionKey { epoch: OURS, partition }, highest, newest_ms: 0 }
    }

    #[test]
    fn a_partition_that_the_table_has_no_more_is_forgotten_and_a_shard_that_is_silent_keeps_its_own() {
        let mut stored = Stored::default();
        stored.say(0, vec![held(0, 10), held(1, 20)], OURS);
        stored.say(1, vec![held(2, 30)], OURS);
        stored.say(0, vec![held(1, 21)], OURS);
        assert_eq!([0, 1, 2].map(|partition| stored.highest(partition)), [None, Some(21), Some(30)]);
    }

    #[test]
    fn of_a_partition_in_two_shards_and_of_two_logs_the_highest_offset_of_ours_counts() {
        let mut stored = Stored::default();
        let other = Held { key: PartitionKey { epoch: LogEpoch(8), partition: 0 }, ..held(0, 99) };
        stored.say(0, vec![held(0, 20), other], OURS);
        stored.say(1, vec![held(0, 10)], OURS);
        assert_eq!(stored.highest(0), Some(20));
    }
}
