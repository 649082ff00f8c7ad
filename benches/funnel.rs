//! A funnel of three steps, and the same by a column: pulse's own fold over a stream of events beside ClickHouse's `windowFunnel` over the same
//! table, in one run.
//!
//! `cargo bench --bench funnel [-- EVENTS]`, 5,000,000 by default, of thirty days and of one person for 25 events. Both give the same counts where no
//! two events of a person are of one millisecond; the run prints both.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, Format, Statement};
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, Sources, StoreReader};
use pulse::store::migrate;
use serde_json::{Value, json};

/// 2 January 2026; the thirty days before it are asked about.
const NOW_MS: i64 = 1_767_312_000_000;
const DAYS_MS: i64 = 30 * 86_400_000;
const WINDOW_MS: i64 = 7 * 86_400_000;
const RUNS: usize = 3;

/// Random events: half of them views, a quarter carts, a twentieth orders. Somebody is always in one country.
fn events(number: u64) -> Statement {
    let from = NOW_MS - DAYS_MS;
    let (people, per_insert) = (number / 25, 1_000_000.min(number));
    Statement::raw(format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, person_id, visitor_id, event_id, anonymous_id, received_day, country)
         SELECT 1, multiIf(rand(1) % 100 < 50, 'view', rand(1) % 100 < 75, 'cart', rand(1) % 100 < 80, 'order', 'other'),
                fromUnixTimestamp64Milli(toInt64({from} + rand64(2) % {DAYS_MS})), intHash64(rand64(3) % {people}) AS person, person,
                generateUUIDv4(), toString(person), toDate('2100-01-01'),
                ['DE', 'FR', 'GB', 'US', 'JP', 'BR', 'IN', 'ES'][1 + person % 8]
         FROM numbers({per_insert}) SETTINGS async_insert = 0, max_insert_threads = 1"
    ))
}

/// How many came how far, in all or by their first country.
fn window_funnel(by_country: bool) -> Statement {
    let from = NOW_MS - DAYS_MS;
    let (line, first, lines) =
        if by_country { ("line, ", ", argMin(country, timestamp) AS line", " GROUP BY line ORDER BY line") } else { ("", "", "") };
    Statement::raw(format!(
        "SELECT {line}countIf(depth >= 1), countIf(depth >= 2), countIf(depth >= 3) FROM
           (SELECT windowFunnel({WINDOW_MS})(toUInt64(toUnixTimestamp64Milli(timestamp)), type = 'view', type = 'cart', type = 'order') AS depth{first}
            FROM events WHERE project_id = 1 AND type IN ('view', 'cart', 'order')
              AND timestamp >= fromUnixTimestamp64Milli({from}) AND timestamp < fromUnixTimestamp64Milli({NOW_MS}) AND bot = ''
            GROUP BY person_id){lines}"
    ))
}

fn plain_scan() -> Statement {
    Statement::raw(
        "SELECT sum(cityHash64(type, person_id, timestamp)) FROM events WHERE project_id = 1 AND type IN ('view', 'cart', 'order')",
    )
}

async fn seconds<T>(run: impl AsyncFn() -> Result<T>) -> Result<(f64, T)> {
    let mut best = f64::INFINITY;
    let mut last = run().await?;
    for _ in 0..RUNS {
        let began = Instant::now();
        last = run().await?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok((best, last))
}

#[tokio::main]
async fn main() -> Result<()> {
    let number: u64 = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(5_000_000);
    let folder = tempfile::tempdir()?;
    let base = ClickHouseConfig::default().check().map_err(anyhow::Error::msg)?;
    let engine = Engine::start(&EngineConfig::default(), base, folder.path(), PathBuf::from(env!("CARGO_BIN_EXE_pulse"))).await?;
    let store = ClickHouse::new(engine.settings());
    migrate::run(&store).await?;
    let writer = store.writer.with_timeout(Duration::from_secs(600));
    for _ in 0..number.div_ceil(1_000_000.min(number)) {
        writer.execute(&events(number)).await?;
    }
    let limits = QueryConfig { max_time: Duration::from_secs(600), ..QueryConfig::default() }.check().map_err(anyhow::Error::msg)?;
    let queries = Queries::new(StoreReader::new(&store), limits, Sources::from(LoadedBy::ThisProcess(Default::default())));
    let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_string());
    let request = json!({
        "from": show(NOW_MS - DAYS_MS)?, "to": show(NOW_MS)?, "window": "7d", "refresh": true,
        "steps": [{"event": "view"}, {"event": "cart"}, {"event": "order"}],
    });
    let (scan, _) = seconds(async || Ok(writer.query(&plain_scan(), Format::Json).await?)).await?;
    println!("{number} events; plain scan {scan:.2} s");
    for by_country in [false, true] {
        let mut asked = request.clone();
        if by_country {
            asked["breakdown"] = json!("country");
        }
        let body = serde_json::to_vec(&asked)?;
        let (server, counted) = seconds(async || Ok(writer.query(&window_funnel(by_country), Format::Json).await?)).await?;
        let (own, answer) = seconds(async || Ok(queries.answer(ProjectId(1), "funnel", &body, NOW_MS).await?)).await?;
        let answer: Value = serde_json::from_slice(&answer.to_json())?;
        let what = if by_country { "by country" } else { "in all" };
        println!("{what}: windowFunnel {server:.2} s, pulse {own:.2} s: {:.1} times as fast, {:.1} scans", server / own, own / scan);
        println!("windowFunnel counts {}", String::from_utf8_lossy(&counted.body).trim().replace('\n', " "));
        println!("pulse counts        {}", shown(&answer).context("no groups")?);
    }
    Ok(())
}

/// The counts of each line of an answer.
fn shown(answer: &Value) -> Option<String> {
    let lines = answer["result"]["groups"].as_array()?.iter();
    let lines: Option<Vec<String>> = lines.map(|group| Some(format!("{} {:?}", group["breakdown"], counts(group)?))).collect();
    Some(lines?.join(" "))
}

fn counts(group: &Value) -> Option<Vec<&Value>> {
    Some(group["steps"].as_array()?.iter().map(|step| &step["count"]).collect())
}
