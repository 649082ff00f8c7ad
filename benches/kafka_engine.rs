//! From Kafka to the table: pulse's process and load roles beside ClickHouse's own Kafka engine, over the same events, on the same
//! broker and the same kind of server, one after the other in one run.
//!
//! `scripts/fetch.sh test && cargo bench --bench kafka_engine`. CPU by `/proc`, until everything is in the table and merged as far as
//! it wants to be.
//!
//! Pulse packs its topic itself, parses agents and referrers, makes sessions, drops copies and accounts for every event. The engine
//! reads one event a message, as producers write them, and a view takes it apart with one `JSONExtract`: no agents, no places, no
//! sessions, copies stay, at least once. It may take its time: its own defaults make a block every 7.5 s at the latest, where
//! pulse makes one every 200 ms. It is measured twice: into pulse's own table of 62 columns, leaving empty what it does not find out,
//! and into a table of the 27 columns that it fills.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

#[path = "../tests/it/harness/clickhouse.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod clickhouse;
#[path = "../src/cli/bench/events.rs"]
#[allow(dead_code, unused_imports, reason = "`pulse bench` uses all of it, and its tests run there")]
mod events;
#[path = "../tests/it/harness/kafka.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod kafka;
#[path = "../tests/it/harness/ports.rs"]
mod ports;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use clickhouse::Cluster;
use kafka::Kafka;

const EVENTS: usize = 2_000_000;
const BATCH: usize = 100;
/// How late the late events of the stream are at most, as `pulse bench` has them.
const LATENESS: Duration = Duration::from_secs(3 * 86_400);
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
const TOPIC: &str = "plain";

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pulse"))
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// CPU seconds of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// One way from Kafka to the table.
struct Way {
    name: &'static str,
    rows: u64,
    seconds: f64,
    /// CPU seconds of pulse and of ClickHouse.
    pulse: f64,
    clickhouse: f64,
    bytes: u64,
    /// How often a row was merged, and CPU seconds of it.
    merged_rows: u64,
    merging: f64,
}

impl Way {
    fn print(&self) {
        let of_one = |seconds: f64| seconds * 1e6 / EVENTS as f64;
        println!(
            "{:<26} {:>8} rows  {:>9.0} events/s  CPU us/event: pulse {:>5.2}, clickhouse {:>5.2}, together {:>5.2}; of it merging {:>5.2}, {:.1} times a row  {:>4} bytes/row",
            self.name,
            self.rows,
            EVENTS as f64 / self.seconds,
            of_one(self.pulse),
            of_one(self.clickhouse),
            of_one(self.pulse + self.clickhouse),
            of_one(self.merging),
            self.merged_rows as f64 / self.rows.max(1) as f64,
            self.bytes / self.rows.max(1),
        );
    }
}

struct Pulse {
    child: Child,
    address: String,
}

impl Pulse {
    async fn start(dir: &Path, roles: &str, environment: &[(&str, String)]) -> Result<Self> {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--roles", roles, "--data-dir"]).arg(dir);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let log = std::fs::File::create(dir.join("bench.log"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        loop {
            let line = lines.next_line().await?.context("pulse ended before it was ready")?;
            if let Some(address) = line.strip_prefix("pulse is ready at ") {
                return Ok(Self { child, address: address.to_owned() });
            }
        }
    }

    async fn stop(mut self) -> Result<()> {
        signal(self.child.id().context("pulse ended")?, rustix::process::Signal::TERM);
        self.child.wait().await?;
        Ok(())
    }
}

/// Sends all events to an ingest role; returns how many are no copies.
async fn ingest(pulse: &Pulse, key: &str, batches: &[Bytes]) -> Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    for some in batches.chunks(32) {
        let sent = some.iter().map(|batch| {
            let request = Request::post(format!("{}/v1/events", pulse.address)).header("authorization", format!("Bearer {key}"));
            let request = request.body(Full::new(batch.clone()));
            let client = &client;
            async move {
                let response = client.request(request?).await?;
                let status = response.status();
                response.into_body().collect().await?;
                anyhow::ensure!(status.is_success(), "refused: {status}");
                Ok(())
            }
        });
        futures_util::future::try_join_all(sent).await?;
    }
    Ok(())
}

async fn number(cluster: &Cluster, sql: &str) -> u64 {
    let rows: Vec<(Value,)> = cluster.rows(0, sql).await;
    let Some((value,)) = rows.first() else { return 0 };
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// Waits until a table has all its rows and nothing is merged any more.
async fn settled(cluster: &Cluster, table: &str, rows: u64) -> Result<f64> {
    let began = Instant::now();
    while number(cluster, &format!("SELECT count() FROM {table}")).await < rows {
        anyhow::ensure!(began.elapsed() < PATIENCE, "{table} is not full in time");
        tokio::time::sleep(POLL).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut quiet = 0;
    while quiet < 20 {
        quiet = if number(cluster, "SELECT count() FROM system.merges").await == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(POLL).await;
    }
    Ok(seconds)
}

/// What the server has counted since it started.
async fn event(cluster: &Cluster, name: &str) -> u64 {
    number(cluster, &format!("SELECT sum(value) FROM system.events WHERE event = '{name}'")).await
}

async fn bytes_of(cluster: &Cluster, database: &str, table: &str) -> u64 {
    let sql = format!("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{database}' AND table = '{table}'");
    number(cluster, &sql).await
}

/// Pulse: what an ingest role has put into Kafka, by the process and load roles.
async fn by_pulse(kafka: &Kafka, batches: &[Bytes], fresh: u64) -> Result<Way> {
    let cluster = Cluster::start(1).await;
    let dir = TempDir::new()?;
    let mut environment = [kafka.environment("bench"), cluster.environment()].concat();
    environment.push(("PULSE__CLICKHOUSE__REQUEST_TIMEOUT", "30s".to_owned()));
    let pulse = Pulse::start(dir.path(), "ingest", &environment).await?;
    let keys: Value = serde_json::from_slice(&std::fs::read(dir.path().join("keys.json"))?)?;
    let key = keys.pointer("/0/write_key").and_then(Value::as_str).context("no key")?;
    ingest(&pulse, key, batches).await?;
    pulse.stop().await?;

    let before = cpu_seconds(cluster.pid(0));
    let pulse = Pulse::start(dir.path(), "process,load", &environment).await?;
    let seconds = settled(&cluster, "(SELECT 1 FROM pulse.events WHERE project_id != 0)", fresh).await?;
    let way = Way {
        name: "pulse: process and load",
        rows: number(&cluster, "SELECT count() FROM pulse.events WHERE project_id != 0").await,
        seconds,
        pulse: pulse.child.id().map_or(0.0, cpu_seconds),
        clickhouse: cpu_seconds(cluster.pid(0)) - before,
        bytes: bytes_of(&cluster, "pulse", "events").await,
        merged_rows: event(&cluster, "MergedRows").await,
        merging: event(&cluster, "MergeExecuteMilliseconds").await as f64 / 1_000.0,
    };
    anyhow::ensure!(way.rows == fresh, "{} rows instead of {fresh}", way.rows);
    pulse.stop().await?;
    Ok(way)
}

/// What the view makes of an event, for a table of just these columns.
const NARROW: &str = "e.eventId AS event_id, e.type AS type, e.anonymousId AS anonymous_id, fromUnixTimestamp64Milli(e.timestamp) AS timestamp, \
    c.app.name AS app_name, c.app.version AS app_version, c.locale AS locale, c.timezone AS timezone, c.screen.width AS screen_width, \
    c.screen.height AS screen_height, c.screen.density AS screen_density, c.page.url AS page_url, c.page.path AS page_path, \
    c.page.title AS page_title, c.page.referrer AS referrer, c.ip AS ip, c.userAgent AS user_agent, p.product_id AS product_id, \
    p.category AS category, p.price AS price, p.quantity AS quantity, p.currency AS currency, p.in_stock AS in_stock, \
    p.position AS position, p.list AS list, p.experiment AS experiment, p.load_ms AS load_ms";
const NARROW_TABLE: &str = "CREATE TABLE bench.events (event_id UUID, type LowCardinality(String), anonymous_id String, \
    timestamp DateTime64(3, 'UTC'), app_name LowCardinality(String), app_version LowCardinality(String), locale LowCardinality(String), \
    timezone LowCardinality(String), screen_width UInt16, screen_height UInt16, screen_density Float32, page_url String, page_path String, \
    page_title String, referrer String, ip String, user_agent LowCardinality(String), product_id String, category String, price Float64, \
    quantity Float64, currency String, in_stock Bool, position Float64, list String, experiment String, load_ms Float64) \
    ENGINE = MergeTree ORDER BY (type, toDate(timestamp), anonymous_id, timestamp)";
/// The same for pulse's table: what pulse finds out by itself stays empty.
const WIDE: &str = "1 AS project_id, e.eventId AS event_id, e.type AS type, e.anonymousId AS anonymous_id, cityHash64(e.anonymousId) AS visitor_id, \
    visitor_id AS person_id, fromUnixTimestamp64Milli(e.timestamp) AS timestamp, timestamp AS original_timestamp, now64(3) AS received_at, \
    today() AS received_day, c.app.name AS app_name, c.app.version AS app_version, c.locale AS locale, c.timezone AS timezone, \
    c.screen.width AS screen_width, c.screen.height AS screen_height, c.screen.density AS screen_density, c.page.url AS page_url, \
    c.page.path AS page_path, c.page.title AS page_title, c.page.referrer AS referrer, \
    map('product_id', p.product_id, 'category', p.category, 'currency', p.currency, 'list', p.list, 'experiment', p.experiment) AS strings, \
    map('price', p.price, 'quantity', p.quantity, 'position', p.position, 'load_ms', p.load_ms) AS numbers, \
    map('in_stock', p.in_stock ? 'true' : 'false') AS others";

/// Pulse's own table, without the fence.
fn wide_table() -> String {
    let text = include_str!("../migrations/0002_events.sql").replace("${database}", "bench").replace("${MergeTree}", "MergeTree");
    let (before, after) = text.split_once(",\n    CONSTRAINT").unwrap_or_default();
    let (_, after) = after.split_once('\n').unwrap_or_default();
    format!("{before}\n{after}").trim().trim_end_matches(';').to_owned()
}

/// The engine: the same events, one a message, through a view into a table.
async fn by_engine(kafka: &Kafka, name: &'static str, (table, columns): (&str, &str)) -> Result<Way> {
    let cluster = Cluster::start(1).await;
    let fields = [
        ("eventId", "UUID"),
        ("type", "LowCardinality(String)"),
        ("anonymousId", "String"),
        ("timestamp", "Int64"),
        (
            "context",
            "Tuple(app Tuple(name LowCardinality(String), version LowCardinality(String)), locale LowCardinality(String), \
             timezone LowCardinality(String), screen Tuple(width UInt16, height UInt16, density Float32), \
             page Tuple(url String, path String, title String, referrer String), ip String, userAgent String)",
        ),
        (
            "properties",
            "Tuple(product_id String, category String, price Float64, quantity Float64, currency String, in_stock Bool, \
             position Float64, list String, experiment String, load_ms Float64)",
        ),
    ];
    let shape: Vec<String> = fields.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let statements = [
        "CREATE DATABASE bench".to_owned(),
        table.to_owned(),
        format!(
            "CREATE TABLE bench.queue (line String) ENGINE = Kafka SETTINGS kafka_broker_list = '{}', kafka_topic_list = '{TOPIC}', \
             kafka_group_name = 'bench-{}', kafka_format = 'LineAsString', kafka_num_consumers = 1, kafka_max_block_size = 65536",
            kafka.addresses(),
            columns.len(),
        ),
        format!(
            "CREATE MATERIALIZED VIEW bench.view TO bench.events AS \
             WITH JSONExtract(line, 'Tuple({})') AS e, e.context AS c, e.properties AS p SELECT {columns} FROM bench.queue",
            shape.join(", ")
        ),
    ];
    let before = cpu_seconds(cluster.pid(0));
    for statement in &statements {
        cluster.execute(0, statement).await;
    }
    let seconds = settled(&cluster, "bench.events", EVENTS as u64).await?;
    let way = Way {
        name,
        rows: number(&cluster, "SELECT count() FROM bench.events").await,
        seconds,
        pulse: 0.0,
        clickhouse: cpu_seconds(cluster.pid(0)) - before,
        bytes: bytes_of(&cluster, "bench", "events").await,
        merged_rows: event(&cluster, "MergedRows").await,
        merging: event(&cluster, "MergeExecuteMilliseconds").await as f64 / 1_000.0,
    };
    let taken = number(&cluster, "SELECT countIf(anonymous_id != '' AND page_url != '' AND screen_width > 0) FROM bench.events").await;
    anyhow::ensure!(taken == way.rows, "the view took the events apart wrongly: {taken}");
    Ok(way)
}

fn produce(kafka: &Kafka, batches: &[Bytes]) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.addresses())
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    for batch in batches {
        let events: Vec<&serde_json::value::RawValue> = serde_json::from_slice(batch)?;
        for event in events {
            let mut record = BaseRecord::<(), str>::to(TOPIC).payload(event.get());
            while let Err((_, back)) = producer.send(record) {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut stream = events::Events::new(1, LATENESS);
        let now_ms = pulse::clock::now_ms();
        let mut fresh = 0;
        let batches: Vec<Bytes> = (0..EVENTS / BATCH)
            .map(|_| {
                let mut batch = Vec::new();
                fresh += stream.batch(BATCH, now_ms, &mut batch).fresh;
                batch.into()
            })
            .collect();
        let kafka = Kafka::start(1).await;
        kafka.create_topic(TOPIC, 4).await;
        let pulse = by_pulse(&kafka, &batches, fresh).await?;
        pulse.print();
        produce(&kafka, &batches)?;
        let same = by_engine(&kafka, "engine, pulse's table", (&wide_table(), WIDE)).await?;
        same.print();
        let narrow = by_engine(&kafka, "engine, 27 columns", (NARROW_TABLE, NARROW)).await?;
        narrow.print();
        println!(
            "CPU of pulse: {:.2} of the engine's into the same table, {:.2} of the engine's into the columns it can fill; {EVENTS} events, {} copies",
            (pulse.pulse + pulse.clickhouse) / same.clickhouse,
            (pulse.pulse + pulse.clickhouse) / narrow.clickhouse,
            EVENTS as u64 - fresh
        );
        Ok(())
    })
}
