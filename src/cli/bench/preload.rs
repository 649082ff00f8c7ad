//! Rows of the past, made by the embedded engine itself, so that a run shows what a table costs that is not new.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clickhouse::{ClickHouse, ClickHouseConfig, Client, Statement};

/// The rows are those of so many days up to now.
const DAYS: u64 = 30;
const AT_A_TIME: u64 = 10_000_000;

/// Adds rows of another log to the events table.
pub(super) async fn run(data_dir: &Path, database: &str, rows: u64) -> Result<()> {
    let engine = connect(&data_dir.join("clickhouse"), database)?;
    for first in (0..rows).step_by(AT_A_TIME as usize) {
        let number = AT_A_TIME.min(rows - first);
        engine.execute(&Statement::raw(insert(first, number, rows))).await.context("making rows of the past")?;
        eprintln!("{} of {rows} rows of the past are there", first + number);
    }
    Ok(())
}

/// The user that inserts, in the engine of this data directory.
fn connect(dir: &Path, database: &str) -> Result<Client> {
    let between = |file: &str, left: &str| -> Result<String> {
        let text = std::fs::read_to_string(dir.join(file))?;
        let found = text.split_once(left).and_then(|(_, rest)| rest.split_once('<')).context("the engine's files look different")?;
        Ok(found.0.to_owned())
    };
    let config = ClickHouseConfig {
        url: format!("http://127.0.0.1:{}", between("config.xml", "<http_port>")?).into(),
        user: "pulse_writer".to_owned(),
        database: database.to_owned(),
        password: between("users.xml", "<pulse_writer><password>")?.into(),
        request_timeout: Duration::from_secs(3_600),
        ..ClickHouseConfig::default()
    };
    Ok(ClickHouse::new(&config.check().map_err(anyhow::Error::msg)?).writer)
}

/// Narrow rows of a project that nobody asks for, a thousand in a row of one person; nobody has the fence of their partition.
fn insert(first: u64, number: u64, rows: u64) -> String {
    format!(
        "INSERT INTO events (project_id, type, timestamp, person_id, visitor_id, event_id, received_day, received_at, original_timestamp, \
         log_epoch, log_partition, log_offset) \
         SELECT 999, concat('past_', toString(number % 20)), at, cityHash64(intDiv(number, 1000)), cityHash64(intDiv(number, 1000)), \
         generateUUIDv4(), toDate(at), at, at, 1, 65000, number FROM ( \
         SELECT number, fromUnixTimestamp64Milli(toInt64({now} - {span} + number * {span} / {rows}), 'UTC') AS at \
         FROM numbers({first}, {number})) \
         SETTINGS max_partitions_per_insert_block = 1000, async_insert = 0, min_insert_block_size_rows = 2000000, min_insert_block_size_bytes = 0",
        now = crate::clock::now_ms(),
        span = DAYS * 86_400_000,
    )
}
