//! What ties of ids cost a question that counts persons: unique users of a stream of events, asked by turns of two readers of one table, of which
//! one knows 200,000 ties and the other none, in one run.
//!
//! `cargo bench --bench ties [-- EVENTS]`, 5,000,000 by default, of thirty days and of one id for ten events. Two ids that are tied to one user
//! are one person; the run checks that as many are found as a join of the server finds.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, Statement, Whole};
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, Sources, StoreReader};
use pulse::store::migrate;
use serde_json::{Value, json};

/// 2 January 2026; the thirty days before it are asked about.
const NOW_MS: i64 = 1_767_312_000_000;
const DAYS_MS: i64 = 30 * 86_400_000;
const TIES: u64 = 200_000;
/// The first key of a user is that of this number: devices have the ones below.
const USERS: u64 = 1 << 40;
const RUNS: usize = 5;

/// Random events of so many devices.
fn events(number: u64, devices: u64) -> Statement {
    let from = NOW_MS - DAYS_MS;
    Statement::raw(format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, person_id, visitor_id, event_id, anonymous_id, received_day)
         SELECT 1, if(rand(1) % 2 = 0, 'view', 'cart'), fromUnixTimestamp64Milli(toInt64({from} + rand64(2) % {DAYS_MS})),
                intHash64(rand64(3) % {devices}) AS device, device, generateUUIDv4(), toString(device), toDate('2100-01-01')
         FROM numbers({number}) SETTINGS async_insert = 0, max_insert_threads = 1"
    ))
}

/// Ties each of the first devices to a user, every two to the same one.
fn ties(number: u64) -> Statement {
    Statement::raw(format!(
        "INSERT INTO pulse.identities (project_id, kind, from_key, to_key, from_id, to_id, first, ruling)
         SELECT 1, 1, intHash64(number), intHash64({USERS} + intDiv(number, 2)), toString(number), concat('user ', toString(intDiv(number, 2))),
                (toInt64(0), generateUUIDv4()), 0
         FROM numbers({number})"
    ))
}

/// Persons, and ids.
fn counted() -> Statement {
    Statement::raw(
        "SELECT uniqExact(if(to_key = 0, person_id, to_key)), uniqExact(person_id) FROM pulse.events
         LEFT ANY JOIN (SELECT from_key, to_key FROM pulse.identities) AS ties ON from_key = person_id WHERE project_id = 1",
    )
}

/// What is asked: a name, and by which interval.
const QUESTIONS: [(&str, &str); 2] = [("by day", "day"), ("of the month", "month")];

#[tokio::main]
async fn main() -> Result<()> {
    let number: u64 = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(5_000_000);
    let (devices, per_insert) = ((number / 10).max(1), 1_000_000.min(number));
    let folder = tempfile::tempdir()?;
    let base = ClickHouseConfig::default().check().map_err(anyhow::Error::msg)?;
    let engine_config = EngineConfig { max_query_time: Duration::from_secs(600), ..EngineConfig::default() };
    let engine = Engine::start(&engine_config, base, folder.path(), PathBuf::from(env!("CARGO_BIN_EXE_pulse"))).await?;
    let store = ClickHouse::new(engine.settings());
    migrate::run(&store).await?;
    let writer = store.writer.with_timeout(Duration::from_secs(600));
    for _ in 0..number.div_ceil(per_insert) {
        writer.execute(&events(per_insert, devices)).await?;
    }
    writer.execute(&ties(TIES.min(devices))).await?;
    let queries = |identities: Option<ClickHouse>| -> Result<Queries> {
        let limits = QueryConfig { max_time: Duration::from_secs(600), ..QueryConfig::default() }.check().map_err(anyhow::Error::msg)?;
        let sources = Sources { identities, ..LoadedBy::ThisProcess(Arc::default()).into() };
        Ok(Queries::new(StoreReader::new(&store), limits, sources))
    };
    let readers = [queries(None)?, queries(Some(store.clone()))?];
    let found: Vec<[Whole<u64>; 2]> = writer.rows(&counted()).await?;
    let [persons, ids] = found.first().context("nothing was counted")?.map(|count| count.0);
    println!("{number} events, {} ties; a join of the server finds {persons} persons of {ids} ids", TIES.min(devices));
    println!("| unique users | without s | with s | ratio |\n|---|---|---|---|");
    for (name, interval) in QUESTIONS {
        let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_string());
        let (from, to) = (show(NOW_MS - DAYS_MS)?, show(NOW_MS)?);
        let request = json!({"from": from, "to": to, "interval": interval, "series": [{"math": "unique_users"}], "refresh": true});
        let body = serde_json::to_vec(&request)?;
        let (mut best, mut totals) = ([f64::INFINITY; 2], [0; 2]);
        // The first time, which is not counted, ties are read and pages come into memory.
        for run in 0..=RUNS {
            for (reader, (best, total)) in readers.iter().zip(best.iter_mut().zip(&mut totals)) {
                let began = Instant::now();
                let answer = reader.answer(ProjectId(1), "trends", &body, NOW_MS).await?;
                *best = if run == 0 { *best } else { best.min(began.elapsed().as_secs_f64()) };
                let answer: Value = serde_json::from_slice(&answer.to_json())?;
                *total = answer["result"]["series"][0]["total"].as_u64().context("no total")?;
            }
        }
        let [without, with] = best;
        println!("| {name} | {without:.3} | {with:.3} | {:.2} |", with / without);
        ensure!(totals == [ids, persons], "pulse counts {totals:?}");
    }
    Ok(())
}
