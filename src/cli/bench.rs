//! `pulse bench`: a load generator and a probe against a pulse of its own.

mod audience;
mod events;
mod load;
mod preload;
mod rules;
mod usage;

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::auth::keys;
use audience::{Audience, Seen};
use load::{Load, Sent};
use rules::Receiver;
use usage::Usage;

#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: pulse bench --rate 50000 --duration 60s")]
pub(super) struct BenchArgs {
    /// Events a second
    #[arg(long, default_value_t = 10_000, conflicts_with = "max", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// As many as will go
    #[arg(long)]
    max: bool,
    /// How long events are sent
    #[arg(long, default_value = "30s", value_parser = span)]
    duration: Duration,
    /// Events in a request
    #[arg(long, default_value = "100")]
    batch: NonZeroUsize,
    /// Connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// How late the events are that are late, at most
    #[arg(long, default_value = "3d", value_parser = humantime_duration)]
    lateness: Duration,
    /// Rows of the last 30 days that the table has before; pulse is started anew on them
    #[arg(long, default_value_t = 0, conflicts_with = "ingest_only")]
    preload: u64,
    /// Tabs of dashboards that are open meanwhile: three a customer, each asks for five funnels every 30 s
    #[arg(long, default_value_t = 0, conflicts_with = "ingest_only")]
    tabs: u64,
    /// Answers of the tabs are computed each time
    #[arg(long)]
    uncached: bool,
    /// Readers of the live stream
    #[arg(long, default_value_t = 0, conflicts_with = "ingest_only")]
    readers: u64,
    /// Rules by the minute that are judged meanwhile and tell a receiver each minute; worth it for some minutes
    #[arg(long, default_value_t = 0, conflicts_with = "ingest_only")]
    rules: u64,
    /// No event of its own is asked for meanwhile: ClickHouse's time is that of loading alone, and nothing tells when an event can be queried
    #[arg(long)]
    no_probe: bool,
    /// Only HTTP to the durable log: no ClickHouse, no queries
    #[arg(long)]
    ingest_only: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    humantime_duration(text).and_then(|span| if span.is_zero() { Err("it is no time at all".to_owned()) } else { Ok(span) })
}

fn humantime_duration(text: &str) -> Result<Duration, String> {
    let value = serde_json::Value::String(text.to_owned());
    humantime_serde::deserialize(value).map_err(|problem: serde_json::Error| problem.to_string())
}

const BLOCKS: &str = "pulse_blocks_stored_total";
const STATEMENTS: &str = "pulse_statements_total";
const SLOTS: &str = "pulse_alert_slots_total";
const OLDEST_SLOT: &str = "pulse_alerts_oldest_slot_seconds";
const ROWS_READ: &str = "pulse_load_rows_read_total";
/// Lines of the log of the pulse under test that are shown where it failed.
const LAST_LINES: usize = 20;
/// The type of the events by which it is measured when one can be queried.
const PROBE: &str = "bench_probe";
/// Each look costs the store some milliseconds, so they are few.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
const PROBE_POLL: Duration = Duration::from_millis(25);
/// An engine that takes less of a core than this for so many seconds merges nothing.
const IDLE: f64 = 0.05;
const RESTED: u32 = 5;
const SETTLE_POLL: Duration = Duration::from_millis(100);
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    super::runtime()?.block_on(bench(args))
}

/// The pulse under test.
struct Target {
    child: Child,
    address: String,
    write_key: String,
    read_key: String,
    client: Client<HttpConnector, Full<Bytes>>,
    started: Instant,
}

async fn bench(args: &BenchArgs) -> Result<()> {
    // For its owner only, under a name that nobody can guess; it goes away whatever happens.
    let dir = tempfile::Builder::new().prefix("pulse-bench-").tempdir().context("a directory for the bench")?;
    // Ended by the user, too, it leaves nothing behind.
    let result = tokio::select! {
        result = run_in(dir.path(), args) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // Its last words are in the directory.
    let result = result.with_context(|| format!("the pulse under test said:\n{}", last_words(dir.path())))?;
    if args.json {
        println!("{}", result.to_json())
    } else {
        result.print()
    }
    Ok(())
}

/// Starts a pulse in a directory, and measures it.
async fn run_in(dir: &Path, args: &BenchArgs) -> Result<Outcome> {
    // All its own: topics, database and project. What others wrote must not be counted, and nothing is written to what is theirs.
    let name = format!("pulse_bench_{}", uuid::Uuid::new_v4().simple());
    keys::write(&dir.join("keys.json"), &[keys::new_entry(&name)])?;
    let receiver = if args.rules > 0 { Some(Receiver::open(dir, &name, args.rules).await?) } else { None };
    let mut target = Target::start(dir, &name, args.ingest_only).await?;
    if !args.ingest_only {
        target.check_is_empty().await?;
    }
    if args.preload > 0 {
        preload::run(dir, &name, args.preload).await?;
        target.rests().await?;
        target.stop().await?;
        target = Target::start(dir, &name, false).await?;
    }
    let outcome = target.measure(args, dir, receiver).await;
    target.stop().await?;
    outcome
}

/// The end of what the pulse under test logged.
fn last_words(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("bench.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}

impl Target {
    /// Sends, and asks until everything is counted.
    async fn measure(&self, args: &BenchArgs, dir: &Path, receiver: Option<Receiver>) -> Result<Outcome> {
        let first_event = if args.ingest_only { None } else { Some(self.first_event().await?) };
        if args.preload > 0 {
            self.rests().await?;
        }
        let (blocks, rows_read) = (self.metric(BLOCKS).await?, self.metric(ROWS_READ).await?);
        let pid = self.child.id().context("pulse ended")?;
        let before = Usage::of(pid);
        let stop = CancellationToken::new();
        // However it ends, probe and watch end too.
        let _ended = stop.clone().drop_guard();
        let probe =
            crate::lifecycle::spawn_apart(probe(self.client.clone(), self.urls(), !args.ingest_only && !args.no_probe, stop.clone()));
        let rss = crate::lifecycle::spawn_apart(usage::watch(pid, stop.clone()));
        let audience = Audience { tabs: args.tabs, is_uncached: args.uncached, readers: args.readers };
        let watched = receiver.map(|receiver| {
            let oldest = oldest_slot(self.client.clone(), self.urls(), stop.clone());
            crate::lifecycle::spawn_apart({
                let stop = stop.clone();
                async move { tokio::join!(receiver.listen(stop), oldest) }
            })
        });
        let slots = self.metric(SLOTS).await?;
        let statements = self.metric(STATEMENTS).await?;
        let leave = stop.child_token();
        let audience = crate::lifecycle::spawn_apart(audience.look(self.client.clone(), self.urls(), leave.clone()));
        let load = Load {
            address: self.address.clone(),
            key: self.write_key.clone(),
            rate: (!args.max).then_some(args.rate),
            duration: args.duration,
            batch: args.batch.get(),
            connections: args.connections,
            lateness: args.lateness,
            keeps_accepted: args.rules > 0,
        };
        let started = Instant::now();
        let sent = load.run().await?;
        let elapsed = started.elapsed();
        let statements = self.metric(STATEMENTS).await? - statements;
        // An audience that stays would have the last count refused, too, where the store has more to do than it can.
        leave.cancel();
        let audience = (args.tabs + args.readers > 0).then_some(Watched { seen: audience.await??, statements });
        let ledger = if args.ingest_only { Value::Null } else { self.settled().await? };
        let settled = started.elapsed();
        stop.cancel();
        let (queryable, rss) = (probe.await?, rss.await?);
        let slots = self.metric(SLOTS).await? - slots;
        let alerts = match watched {
            Some(watched) => {
                let (told, oldest_s) = watched.await?;
                Some(told.shown(&rules::Judged { rules: args.rules, slots, oldest_s, accepted: &sent.accepted }))
            }
            None => None,
        };
        let used = Usage::of(pid).since(&before);
        let read = Read {
            first_event,
            at_start: rows_read,
            blocks: self.metric(BLOCKS).await? - blocks,
            later: self.metric(ROWS_READ).await? - rows_read,
        };
        let disk = usage::folder_bytes(&dir.join("clickhouse/data/store"));
        Ok(Outcome { sent, elapsed, settled, ledger, queryable, used, rss, disk, read, audience, alerts })
    }

    /// What others stored would be counted as doubled, and what is stored here would be counted as theirs.
    async fn check_is_empty(&self) -> Result<()> {
        let ledger = ask(&self.client, &self.urls(), "GET", "/v1/ledger", "").await?;
        let received = &ledger["total"]["received"];
        ensure!(received == 0, "the store holds {received} events of others; the bench measures only into an empty one");
        Ok(())
    }

    async fn start(dir: &Path, name: &str, ingest_only: bool) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir).current_dir(dir);
        command.env("PULSE__LOG__KAFKA__TOPIC_PREFIX", name).env("PULSE__CLICKHOUSE__DATABASE", name);
        command.env("PULSE__KEYS__FILE", "").env("PULSE__REDIS__URL", "").env("PULSE__HTTP__MAX_CONNECTIONS_PER_CLIENT", "10000");
        // Real rules would be judged on what the bench stores, and real channels told.
        let rules = dir.join(rules::FOLDER);
        command.env("PULSE__ALERTS__FILES", if rules.exists() { rules.as_os_str() } else { OsStr::new("") });
        if ingest_only {
            command.args(["--roles", "ingest"]);
        }
        let log = std::fs::File::create(dir.join("bench.log"))?;
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let address = loop {
            let Some(line) = lines.next_line().await? else { bail!("it ended before it was ready") };
            if let Some(address) = line.strip_prefix("pulse is ready at http://") {
                break address.to_owned();
            }
        };
        let entries = keys::read(&dir.join("keys.json"))?;
        let entry = entries.into_iter().next().context("no keys")?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { child, address, write_key: entry.write_key, read_key: entry.read_key, client, started })
    }

    fn urls(&self) -> Urls {
        Urls { address: self.address.clone(), write_key: self.write_key.clone(), read_key: self.read_key.clone() }
    }

    /// How long after the start of pulse an event could be queried.
    async fn first_event(&self) -> Result<Duration> {
        show_one(&self.client, &self.urls(), &CancellationToken::new()).await.context("no event can be queried")?;
        Ok(self.started.elapsed())
    }

    /// Waits until the engine does nothing: what it merges of rows of the past is not to be measured.
    async fn rests(&self) -> Result<()> {
        let pid = self.child.id().context("pulse ended")?;
        let mut seconds = 0;
        while seconds < RESTED {
            let before = Usage::of(pid);
            tokio::time::sleep(Duration::from_secs(1)).await;
            seconds = if Usage::of(pid).since(&before).clickhouse < IDLE { seconds + 1 } else { 0 };
        }
        Ok(())
    }

    /// The value of a metric, of all its labels together.
    async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.client, &self.address, name).await
    }

    /// The ledger's totals once nothing waits.
    async fn settled(&self) -> Result<Value> {
        let limit = Instant::now() + SETTLE_LIMIT;
        while Instant::now() < limit {
            let ledger = ask(&self.client, &self.urls(), "GET", "/v1/ledger", "").await?;
            if ledger["total"]["waiting"] == 0 {
                // But those of the probe: one may be on its way.
                let sent = json!([{"field": "type", "op": "neq", "value": PROBE}]);
                let trend = json!({"from": "-30d", "to": "now", "series": [{"event": null}], "filters": sent, "include_bots": true});
                let trend = trend.to_string();
                let counted = ask(&self.client, &self.urls(), "POST", "/v1/query/trends", &trend).await?;
                let mut total = ledger["total"].clone();
                total["counted"] = counted["result"]["series"][0]["total"].clone();
                total["latency_ms"] = ledger["latency_ms"].clone();
                return Ok(total);
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
        bail!("events still wait after {SETTLE_LIMIT:?}")
    }

    async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.child.wait().await?;
        Ok(())
    }
}

/// Where to ask, and with which keys.
struct Urls {
    address: String,
    write_key: String,
    read_key: String,
}

async fn ask(client: &Client<HttpConnector, Full<Bytes>>, urls: &Urls, method: &str, path: &str, body: &str) -> Result<Value> {
    let key = if path == "/v1/events" { &urls.write_key } else { &urls.read_key };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", urls.address))
        .header("authorization", format!("Bearer {key}"))
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let response = client.request(request).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

async fn metric(client: &Client<HttpConnector, Full<Bytes>>, address: &str, name: &str) -> Result<f64> {
    let request = Request::get(format!("http://{address}/metrics")).body(Full::default())?;
    let body = client.request(request).await?.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}

/// For how long the oldest slot that was due had waited at most, seconds.
async fn oldest_slot(client: Client<HttpConnector, Full<Bytes>>, urls: Urls, stop: CancellationToken) -> f64 {
    let mut most: f64 = 0.0;
    while stop.run_until_cancelled(tokio::time::sleep(PROBE_PAUSE)).await.is_some() {
        most = most.max(metric(&client, &urls.address, OLDEST_SLOT).await.unwrap_or_default());
    }
    most
}

/// Sends an event of its own now and then, and asks until the query side shows it. Milliseconds, in order.
async fn probe(client: Client<HttpConnector, Full<Bytes>>, urls: Urls, is_on: bool, stop: CancellationToken) -> Vec<u64> {
    let mut seen = Vec::new();
    while is_on && !stop.is_cancelled() {
        let started = Instant::now();
        if show_one(&client, &urls, &stop).await.is_some() {
            seen.push(started.elapsed().as_millis() as u64);
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    seen.sort_unstable();
    seen
}

/// Sends an event and asks until it can be queried. `None` if it was not accepted, or it is to stop.
async fn show_one(client: &Client<HttpConnector, Full<Bytes>>, urls: &Urls, stop: &CancellationToken) -> Option<()> {
    let id = uuid::Uuid::now_v7().to_string();
    let event = json!({"eventId": id, "type": PROBE, "anonymousId": id, "timestamp": crate::clock::now_ms()}).to_string();
    let filters = json!([{"field": "type", "op": "eq", "value": PROBE}, {"field": "anonymousId", "op": "eq", "value": id}]);
    let question = json!({"limit": 1, "filters": filters, "from": "-1h", "to": "now", "refresh": true}).to_string();
    ask(client, urls, "POST", "/v1/events", &event).await.ok()?;
    while !stop.is_cancelled() {
        let answer = ask(client, urls, "POST", "/v1/query/events", &question).await.unwrap_or_default();
        if answer["result"]["events"].as_array().is_some_and(|events| !events.is_empty()) {
            return Some(());
        }
        tokio::time::sleep(PROBE_POLL).await;
    }
    None
}

/// What a run showed.
struct Outcome {
    sent: Sent,
    elapsed: Duration,
    settled: Duration,
    ledger: Value,
    queryable: Vec<u64>,
    used: Usage,
    rss: Usage,
    disk: u64,
    read: Read,
    audience: Option<Watched>,
    /// What came of the rules.
    alerts: Option<Value>,
}

/// What those saw who looked meanwhile, and how many statements the store was sent, those of the probe included.
struct Watched {
    seen: Seen,
    statements: f64,
}

/// What the loader read of the table.
struct Read {
    /// From the start of pulse until its first event could be queried.
    first_event: Option<Duration>,
    at_start: f64,
    blocks: f64,
    later: f64,
}

impl Outcome {
    fn quantile(&self, share: f64) -> u64 {
        let at = (self.queryable.len().saturating_sub(1) as f64 * share).round() as usize;
        self.queryable.get(at).copied().unwrap_or(0)
    }

    fn to_json(&self) -> Value {
        let acked = self.sent.acked;
        let stored = self.ledger["counted"].as_u64().unwrap_or(0);
        let per_event = |seconds: f64| (seconds * 1e6 / acked.max(1) as f64 * 100.0).round() / 100.0;
        let is_whole = !self.ledger.is_null();
        json!({
            "sent": self.sent.sent,
            "acked": acked,
            "stored": stored,
            "lost": if is_whole { self.sent.distinct.saturating_sub(stored) } else { 0 },
            "duplicated": if is_whole { stored.saturating_sub(self.sent.distinct) } else { 0 },
            "events_per_s": (acked as f64 / self.elapsed.as_secs_f64()).round(),
            "ack_ms": {"p50": self.sent.ack_ms(0.5), "p99": self.sent.ack_ms(0.99)},
            "queryable_ms": {"p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": self.quantile(1.0)},
            "cpu_us_per_event": {
                "pulse": per_event(self.used.pulse), "clickhouse": per_event(self.used.clickhouse), "kafka": null, "generator": per_event(self.used.own),
            },
            "cpu_share": {"pulse": self.used.pulse / self.settled.as_secs_f64(), "clickhouse": self.used.clickhouse / self.settled.as_secs_f64()},
            "rss_mb": {"pulse": self.rss.pulse.round(), "clickhouse": self.rss.clickhouse.round()},
            "disk_bytes_per_event": self.disk / stored.max(1),
            "first_event_ms": self.read.first_event.map(|time| time.as_millis() as u64),
            "rows_read": {"at_start": self.read.at_start, "per_block": (self.read.later / self.read.blocks.max(1.0)).round()},
            "audience": self.audience.as_ref().map(|Watched { seen, statements }| seen.shown(*statements, self.elapsed)),
            "alerts": self.alerts,
            "settled_s": self.settled.as_secs_f64(),
            "row_latency_ms": self.ledger["latency_ms"],
        })
    }

    fn print(&self) {
        let json = self.to_json();
        for (name, value) in json.as_object().into_iter().flatten() {
            println!("{name:22} {value}");
        }
    }
}
