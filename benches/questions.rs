//! The questions of product analytics over a table of thirty days, each the fastest of three runs and never from the cache, with the rows it
//! reads, beside what ClickHouse takes to read the same columns once (type, person and time of all rows: the *scan*).
//!
//! `cargo bench --bench questions [-- EVENTS [NAME]]`, 5,000,000 by default; with NAME only questions whose name has it, and with
//! `reconcile` for one no question, but what the answers of different reports must have in common ([`reconcile`]). A person has twenty-five
//! events, of ten types of which the first are frequent, with eight properties; the rows are merged before the first question. With
//! `PULSE_BENCH_FOLDER` the table is kept there, and used again where it has as many rows.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

#[path = "questions/reconcile.rs"]
mod reconcile;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, Client, Format, Statement};
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, Sources, StoreReader};
use pulse::store::migrate;
use serde_json::{Value, json};

/// 2 January 2026; the thirty days before it are asked about.
const NOW_MS: i64 = 1_767_312_000_000;
const DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
const RUNS: usize = 3;
/// Events of a person.
const PER_PERSON: u64 = 25;
/// From one session of a person to the next one.
const DAYS_BETWEEN: u64 = 15;
const SESSION_MS: i64 = 1_800_000;

/// The events of a day, received on one that is not kept too long yet: one session of half an hour of each person of that day; half of them
/// are views, a quarter carts, a twentieth orders.
fn events(day: i64, of_day: u64, people: u64) -> Statement {
    let from = NOW_MS - (DAYS - day) * DAY_MS;
    let of_a_day = (people / DAYS_BETWEEN).max(1);
    Statement::raw(format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, person_id, visitor_id, event_id, anonymous_id, received_day, received_at,
             session_id, country, browser, os, device_type, page_host, page_path, channel, campaign_source, strings, numbers)
         WITH rand(1) % 100 AS kind, rand64(3) % {of_a_day} * {DAYS_BETWEEN} + {day} % {DAYS_BETWEEN} AS who, intHash64(who) AS person,
             {from} + intHash64(person + {day}) % ({DAY_MS} - {SESSION_MS}) + rand64(2) % {SESSION_MS} AS at_ms,
             fromUnixTimestamp64Milli(toInt64(at_ms), 'UTC') AS at
         SELECT 1, multiIf(kind < 50, 'view', kind < 75, 'cart', kind < 80, 'order', concat('other_', toString(kind % 7))),
             at, person, person, generateUUIDv4(), toString(who), toDate('2100-01-01') + {day}, at,
             reinterpret(concat(reinterpretAsString(person), reinterpretAsString(toUInt64({day} + 1))), 'UUID'),
             ['DE', 'FR', 'GB', 'US', 'JP', 'BR', 'IN', 'ES'][1 + who % 8], ['Chrome', 'Safari', 'Firefox', 'Edge'][1 + who % 4],
             ['Windows', 'macOS', 'iOS', 'Android'][1 + who % 4], ['desktop', 'mobile'][1 + who % 2],
             'shop.example', concat('/p/', toString(rand(4) % 500)), ['direct', 'search', 'social', 'email', 'paid'][1 + person % 5],
             ['', 'news', 'ads'][1 + person % 3],
             map('plan', ['free', 'pro', 'team'][1 + who % 3], 'sku', concat('sku-', toString(rand(5) % 2000)),
                 'category', concat('c', toString(rand(6) % 40)), 'currency', 'EUR', 'variant', concat('v', toString(rand(7) % 5))),
             map('total', (rand(8) % 20000) / 100., 'quantity', toFloat64(rand(9) % 5), 'position', toFloat64(rand(10) % 50))
         FROM numbers({of_day}) SETTINGS async_insert = 0, max_insert_threads = 1"
    ))
}

/// What is asked: a name, the report, and the question without its times.
fn questions() -> Vec<(&'static str, &'static str, Value)> {
    let steps = json!([{"event": "view"}, {"event": "cart"}, {"event": "order"}]);
    vec![
        ("total of one type by day", "trends", json!({"interval": "day", "series": [{"event": "cart"}]})),
        ("total of any type by day", "trends", json!({"interval": "day", "series": [{}]})),
        ("unique users of one type by day", "trends", json!({"interval": "day", "series": [{"event": "cart", "math": "unique_users"}]})),
        ("unique users of any type by day", "trends", json!({"interval": "day", "series": [{"math": "unique_users"}]})),
        ("by a column", "trends", json!({"interval": "day", "series": [{"event": "view"}], "breakdown": "country"})),
        ("by a property", "trends", json!({"interval": "day", "series": [{"event": "view"}], "breakdown": "properties.category"})),
        (
            "filter by a property",
            "trends",
            json!({"interval": "day", "series": [{"event": "view"}], "filters": [{"field": "properties.plan", "op": "eq", "value": "pro"}]}),
        ),
        ("p90 of a property, any type", "trends", json!({"interval": "day", "series": [{"math": "p90", "property": "properties.total"}]})),
        (
            "five series of one type each",
            "trends",
            json!({"interval": "day", "series": [
            {"event": "view"}, {"event": "cart"}, {"event": "order"}, {"event": "other_1"}, {"event": "other_2"}]}),
        ),
        ("newest 100 events", "events", json!({"limit": 100})),
        ("newest 100 events of a type that nobody has", "events", json!({"limit": 100, "event": "nothing_of_the_kind"})),
        ("properties of a type", "properties", json!({"event": "view"})),
        ("users, the most active 100", "users", json!({"event": "order", "limit": 100})),
        ("funnel of three steps", "funnel", json!({"window": "7d", "steps": steps})),
        ("funnel by a column", "funnel", json!({"window": "7d", "steps": steps, "breakdown": "country"})),
        (
            "retention, four weeks",
            "retention",
            json!({"period": "week", "cohort_event": {"event": "view"}, "return_event": {"event": "order"}}),
        ),
        ("paths of five steps", "paths", json!({"start": "view", "steps": 5})),
        ("lifecycle by day", "lifecycle", json!({"interval": "day", "event": "order"})),
        ("stickiness", "stickiness", json!({"event": "cart"})),
        ("sessions by channel", "sessions", json!({"interval": "day", "breakdown": "session.channel"})),
    ]
}

fn scan() -> Statement {
    Statement::raw("SELECT sum(cityHash64(type, person_id, timestamp)) FROM pulse.events WHERE project_id = 1")
}

/// The fastest of the runs, in seconds, and the last answer.
async fn fastest<T>(run: impl AsyncFn() -> Result<T>) -> Result<(f64, T)> {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..RUNS {
        let began = Instant::now();
        last = Some(run().await?);
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok((best, last.context("nothing was run")?))
}

async fn fill(writer: &Client, migrator: &Client, number: u64) -> Result<()> {
    for day in 0..DAYS {
        writer.execute(&events(day, number / DAYS as u64, number / PER_PERSON)).await?;
    }
    migrator.execute(&Statement::raw("OPTIMIZE TABLE pulse.events FINAL")).await?;
    Ok(())
}

async fn held(writer: &Client) -> Result<u64> {
    let rows: Vec<(u64,)> = writer.rows(&Statement::raw("SELECT toUInt32(count()) FROM pulse.events")).await?;
    Ok(rows.first().map_or(0, |(rows,)| *rows))
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number: u64 = arguments.first().and_then(|argument| argument.parse().ok()).unwrap_or(5_000_000);
    let only = arguments.get(1).map_or("", String::as_str);
    let made = tempfile::tempdir()?;
    let folder = std::env::var_os("PULSE_BENCH_FOLDER").map_or_else(|| made.path().to_owned(), PathBuf::from);
    let base = ClickHouseConfig::default().check().map_err(anyhow::Error::msg)?;
    let engine_config = EngineConfig { max_query_time: Duration::from_secs(600), ..EngineConfig::default() };
    let engine = Engine::start(&engine_config, base, &folder, PathBuf::from(env!("CARGO_BIN_EXE_pulse"))).await?;
    let store = ClickHouse::new(engine.settings());
    migrate::run(&store).await?;
    let writer = store.writer.with_timeout(Duration::from_secs(1_800));
    let rows = held(&writer).await?;
    if rows != 0 && rows != number / DAYS as u64 * DAYS as u64 {
        bail!("{} holds {rows} events: name another folder", folder.display());
    }
    if rows == 0 {
        let migrator = store.migrator.with_timeout(Duration::from_secs(1_800));
        fill(&writer, &migrator, number).await?;
    }
    let limits = QueryConfig { max_time: Duration::from_secs(600), ..QueryConfig::default() }.check().map_err(anyhow::Error::msg)?;
    let queries = Queries::new(StoreReader::new(&store), limits, Sources::from(LoadedBy::ThisProcess(Default::default())));
    if only == "reconcile" {
        return reconcile::run(&queries, DAYS, NOW_MS).await;
    }
    let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_string());
    let (scanned, _) = fastest(async || Ok(writer.query(&scan(), Format::Json).await?)).await?;
    println!("{number} events; a scan of type, person and time {scanned:.3} s\n");
    println!("| question | s | of a scan | rows read |\n|---|---|---|---|");
    for (name, report, mut question) in questions() {
        if !name.contains(only) {
            continue;
        }
        question["from"] = json!(show(NOW_MS - DAYS * DAY_MS)?);
        question["to"] = json!(show(NOW_MS)?);
        question["refresh"] = json!(true);
        let body = serde_json::to_vec(&question)?;
        let asked = fastest(async || Ok(queries.answer(ProjectId(1), report, &body, NOW_MS).await)).await?;
        match asked {
            (seconds, Ok(answer)) => {
                let answer: Value = serde_json::from_slice(&answer.to_json())?;
                let rows = &answer["meta"]["rows_read"];
                println!("| {name} | {seconds:.3} | {:.1} | {rows} |", seconds / scanned);
            }
            (_, Err(problem)) => println!("| {name} | {problem} | | |"),
        }
    }
    Ok(())
}
