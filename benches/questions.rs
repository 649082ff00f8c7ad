//! The questions of product analytics over a table of thirty days: *cold*, with nothing of the files in memory; *warm*, the fastest of three
//! runs, never from the cache; from the cache; and beside them a *plain* statement that answers the like of it, warm too, and what ClickHouse
//! takes to read type, person and time of all rows once (the *scan*). Then the rows and bytes that are read, and the most memory of the engine
//! and of this process.
//!
//! `cargo bench --bench questions [-- EVENTS [NAME]]`, 5,000,000 by default; with NAME only questions whose name has it, and with
//! `reconcile` for one no question, but what the answers of different reports must have in common ([`reconcile`]). A person has twenty-five
//! events, of ten types of which the first are frequent, with eight properties; the rows are merged before the first question. With
//! `PULSE_BENCH_FOLDER` the table is kept there, and used again where it has as many rows.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

#[path = "questions/asked.rs"]
mod asked;
#[path = "questions/cost.rs"]
mod cost;
#[path = "questions/reconcile.rs"]
mod reconcile;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, Client, Format, Statement};
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, QueryError, Sources, StoreReader};
use pulse::store::migrate;
use serde_json::{Value, json};

use self::asked::Asked;
use self::cost::{Cost, Used};

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
    let (scanned, _) = fastest(async || Ok(writer.query(&scan(), Format::Json).await?)).await?;
    println!("{number} events; a scan of type, person and time {scanned:.3} s\n");
    println!(
        "| question | cold s | warm s | of a scan | cached ms | plain s | rows | MB read | engine MB | pulse MB |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    let cost = Cost::of_child().context("the engine is no child of this process")?;
    for asked in asked::all().into_iter().filter(|asked| asked.name.contains(only)) {
        let row = Measured { queries: &queries, writer: &writer, cost: &cost, scanned, asked }.row().await?;
        println!("{row}");
    }
    Ok(())
}

/// A question, and what it is asked with.
struct Measured<'a> {
    queries: &'a Queries,
    writer: &'a Client,
    cost: &'a Cost,
    /// Seconds of a scan.
    scanned: f64,
    asked: Asked,
}

impl Measured<'_> {
    /// Its row of the table.
    async fn row(&self) -> Result<String> {
        let name = self.asked.name;
        let cold = if cost::drop_page_cache() { format!("{:.3}", self.once(true).await?.0) } else { "-".to_owned() };
        let begun = self.cost.begin();
        let first = self.once(true).await?;
        let used = begun.end();
        let (mut warm, answer) = (first.0, first.1);
        for _ in 1..RUNS {
            warm = warm.min(self.once(true).await?.0);
        }
        drop(self.once(false).await?);
        let cached_ms = self.once(false).await?.0 * 1e3;
        let plain = match fastest(async || Ok(self.writer.query(&plain(self.asked.plain), Format::Json).await)).await? {
            (seconds, Ok(_)) => format!("{seconds:.3}"),
            (_, Err(problem)) => format!("{problem}").chars().take(60).collect(),
        };
        let of_scan = warm / self.scanned;
        let Used { read_mb, engine_mb, own_mb } = used;
        Ok(match answer {
            Ok(rows) => format!(
                "| {name} | {cold} | {warm:.3} | {of_scan:.1} | {cached_ms:.2} | {plain} | {rows} | {read_mb:.0} | {engine_mb:.0} | {own_mb:.0} |"
            ),
            Err(problem) => format!("| {name} | {problem} | | | | {plain} | | | {engine_mb:.0} | {own_mb:.0} |"),
        })
    }

    /// Seconds, and the rows that were read or why there is no answer.
    async fn once(&self, refresh: bool) -> Result<(f64, Result<u64, QueryError>)> {
        let mut question = self.asked.question.clone();
        question["from"] = json!(instant(NOW_MS - DAYS * DAY_MS)?);
        question["to"] = json!(instant(NOW_MS)?);
        if refresh {
            question["refresh"] = json!(true);
        }
        let body = serde_json::to_vec(&question)?;
        let began = Instant::now();
        let answer = self.queries.answer(ProjectId(1), self.asked.report, &body, NOW_MS).await;
        let seconds = began.elapsed().as_secs_f64();
        let rows = match answer {
            Ok(answer) => {
                let answer: Value = serde_json::from_slice(&answer.to_json())?;
                Ok(answer["meta"]["rows_read"].as_u64().unwrap_or(0))
            }
            Err(problem) => Err(problem),
        };
        Ok((seconds, rows))
    }
}

fn plain(statement: &str) -> Statement {
    let from = NOW_MS - DAYS * DAY_MS;
    let when = format!(
        "project_id = 1 AND bot = '' AND timestamp >= fromUnixTimestamp64Milli({from}) AND timestamp < fromUnixTimestamp64Milli({NOW_MS})"
    );
    Statement::raw(format!("{} SETTINGS max_execution_time = 600", statement.replace("{when}", &when)))
}

fn instant(at_ms: i64) -> Result<String> {
    Ok(jiff::Timestamp::from_millisecond(at_ms)?.to_string())
}
