//! The composition root: builds adapters and roles, supervises, drains. The only place that knows everything.

pub mod check;
mod holes;
mod lag;
mod managed_keys;
mod mcp;
mod mend;
pub mod openapi;
mod redrive;
mod routes;
mod schema;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::auth::Keys;
use crate::auth::keys::{self, KeyEntry};
use crate::clickhouse::{ClickHouse, Held};
use crate::config::{LogSettings, Settings};
use crate::event::ids::ProjectId;
use crate::http::server::{Call, Server};
use crate::ingest::Redrive;
use crate::lifecycle::{Fault, Signals, Supervisor, raise_file_limit};
use crate::load::{self, LoadStats};
use crate::log::embedded::{EmbeddedLog, LockError, lock_data_dir};
use crate::log::kafka::KafkaLog;
use crate::log::{Log, LogError, RunningLog, Topic};
use crate::metrics;
use crate::process;
use crate::replay;
use crate::replay::parts::{Control, LogAndStore};
use crate::role::Role;
use crate::store::tables::EVENTS;
use storage::Storage;

/// File in the data directory that says where the running instance listens.
const ADDRESS_FILE: &str = "pulse.address";

/// How an instance is run, besides its settings.
#[derive(Debug, Default)]
pub struct Run {
    /// Told the address once the instance is ready.
    pub ready: Option<oneshot::Sender<SocketAddr>>,
    /// Ends the instance as a signal would.
    pub stop: CancellationToken,
    /// Whether address and keys are printed on standard output.
    pub greets: bool,
}

/// Runs the roles of `settings` until a signal, `run.stop` or a fault; then drains. Errors: what kept it from starting, or
/// what ended it before it was asked to.
pub async fn serve(settings: Settings, run: Run) -> Result<()> {
    raise_file_limit(settings.config.http.max_connections);
    let data_dir = settings.config.data_dir.clone();
    std::fs::create_dir_all(&data_dir).with_context(|| format!("data_dir: `{}`", data_dir.display()))?;
    // With Kafka too: address and keys are files of one instance.
    let _lock = lock_data_dir(&data_dir).context("data_dir")?;
    // Left behind by an instance that was killed: what listens there now is another program.
    drop(std::fs::remove_file(data_dir.join(ADDRESS_FILE)));
    match settings.log.clone() {
        LogSettings::Embedded(limits) => {
            let open = async { EmbeddedLog::open(&data_dir.join("log"), limits).context("opening the log") };
            serve_on(open, settings, run).await
        }
        LogSettings::Kafka(limits) => {
            let open = async { KafkaLog::open(*limits, settings.config.migrate_at_start).await.context("opening the log") };
            serve_on(open, settings.clone(), run).await
        }
    }
}

async fn serve_on<L: RunningLog>(open: impl Future<Output = Result<L>>, settings: Settings, run: Run) -> Result<()> {
    let data_dir = settings.config.data_dir.clone();
    let mut signals = Signals::install().context("taking over signals")?;
    let is_first = !keys::path(&settings.config.keys, &data_dir).exists();
    let keys = Keys::open(&settings.config.keys, &data_dir)?;
    warn_of_unknown_projects(&settings, &keys);
    let server = Server::bind(&settings.config.http).await.map_err(anyhow::Error::msg)?;
    let address = server.address().context("http.listen")?;
    let operations = match settings.config.http.operations() {
        Some(apart) => Some(Server::bind(&apart).await.map_err(anyhow::Error::msg)?),
        None => None,
    };
    let Some(log) = unless_ended(&mut signals, &run.stop, open).await else { return Ok(()) };
    let log = log?;
    let needs_storage = settings.roles.iter().any(|role| matches!(role, Role::Load | Role::Query | Role::Alert));
    let opening = async { if needs_storage { Storage::open(&settings).await.map(Some) } else { Ok(None) } };
    let storage = match unless_ended(&mut signals, &run.stop, opening).await {
        Some(storage) => storage?,
        None => {
            log.close().await;
            return Ok(());
        }
    };
    let instance = Instance { settings, log: log.clone(), keys, server, operations, address, is_first };
    let ended = instance.run(storage.as_ref(), &mut signals, run).await;
    let (mut faults, ended) = ended.map_or_else(|problem| (Vec::new(), Err(problem)), |faults| (faults, Ok(())));
    close(&log, &mut signals, &mut faults).await;
    let closed = match storage {
        Some(storage) => storage.close().await,
        None => Ok(()),
    };
    drop(std::fs::remove_file(data_dir.join(ADDRESS_FILE)));
    match faults.into_iter().next() {
        None => ended.and(closed),
        Some(fault) => bail!(fault),
    }
}

/// Settings under a name that no key is of have no effect.
fn warn_of_unknown_projects(settings: &Settings, keys: &Keys) {
    for project in settings.config.projects.0.keys().filter(|name| !keys.has_project(ProjectId::of_name(name))) {
        tracing::warn!(%project, "[projects] has settings of a project that no key is of");
    }
}

/// What `starting` gives, unless the end is asked for first: a start that waits for others is no reason to be killed.
async fn unless_ended<T>(signals: &mut Signals, stop: &CancellationToken, starting: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        started = starting => Some(started),
        signal = signals.next() => {
            tracing::info!(signal, "ended before it was ready");
            None
        }
        () = stop.cancelled() => None,
    }
}

/// All that an instance is made of, but for ClickHouse.
struct Instance<L> {
    settings: Settings,
    log: L,
    keys: Keys,
    server: Server,
    /// The listener of operations, if it is another one.
    operations: Option<Server>,
    address: SocketAddr,
    /// Whether the keys were made by this start.
    is_first: bool,
}

impl<L: RunningLog> Instance<L> {
    /// Starts the roles, says that they are ready, and runs them until they have drained. Returns what went wrong on the way.
    async fn run(self, storage: Option<&Storage>, signals: &mut Signals, run: Run) -> Result<Vec<Fault>> {
        let Self { settings, log, keys, server, operations, address, is_first } = self;
        let data_dir = settings.config.data_dir.clone();
        let mut supervisor = Supervisor::default();
        let mut held = None;
        if let Some(storage) = storage {
            let Some(checked) = unless_ended(signals, &run.stop, check_storage(&settings, &log, storage)).await else {
                return Ok(Vec::new());
            };
            let checked = checked?;
            held = checked.held;
            if !checked.is_complete && settings.config.migrate_at_start {
                supervisor.spawn("schema", schema::complete(storage.store.clone(), supervisor.stop_token()));
            }
        }
        let store = storage.map(|storage| storage.store.clone());
        let stats = Arc::new(LoadStats::default());
        let data_versions = Arc::default();
        let target =
            store.clone().map(|store| load::Target { store, data_versions: Arc::clone(&data_versions), stats: Arc::clone(&stats) });
        let mender = storage.filter(|_| settings.roles.contains(&Role::Load)).and_then(Storage::mender);
        let mended = match mender.zip(held) {
            Some((mender, held)) => mender.clone().mended(log.clone(), held, supervisor.stop_token()).boxed(),
            None => std::future::ready(true).boxed(),
        };
        start_roles(&settings, &mut supervisor, &log, target.map(|target| Loading { target, mended }));
        if let Some(mender) = mender {
            supervisor.spawn("mend", mender.clone().watch_damage(log.clone(), supervisor.stop_token()));
        }
        supervisor.spawn("log", watch_log(log.clone(), supervisor.stop_token()));
        supervisor.spawn("keys", keys.clone().watch(supervisor.stop_token()));
        // An instance that only takes events has no storage of its own; the configuration may name the server.
        let is_named = !settings.clickhouse.url.is_empty();
        if let Some(store) = store.clone().or_else(|| is_named.then(|| ClickHouse::new(&settings.clickhouse))) {
            supervisor.spawn("managed keys", managed_keys::watch(keys.clone(), store, supervisor.stop_token()));
        }
        let engine_state = storage.and_then(Storage::engine_state);
        let metrics = record_metrics()?;
        let parts = routes::Parts { log, keys, store, data_versions, stats, engine_state, metrics };
        let routes = routes::Routes::new(&settings, parts).map_err(anyhow::Error::msg)?;
        if let Some(refreshing) = routes.keep_fresh(supervisor.stop_token()) {
            supervisor.spawn("refresh", refreshing);
        }
        if let Some(following) = routes.follow_live(supervisor.stop_token()) {
            supervisor.spawn("live", following);
        }
        if let Some(checking) = routes.check_reader(supervisor.stop_token()) {
            supervisor.spawn("reader limits", checking);
        }
        if let Some(watching) = routes.watch_alerts(supervisor.stop_token()) {
            supervisor.spawn("alerts", watching);
        }
        if let Some(sharing) = routes.share_rate(supervisor.stop_token()) {
            supervisor.spawn("rate limit", sharing);
        }
        if let Some(encrypted) = server.tls_address() {
            tracing::info!(address = %format!("https://{}", encrypted.context("http.tls.listen")?), "encrypted");
        }
        // Shared: each connection and each request holds them.
        let routes = Arc::new(routes);
        if let Some(apart) = operations {
            tracing::info!(address = %format!("http://{}", apart.address().context("http.operations_listen")?), "operations");
            let routes = Arc::clone(&routes);
            let answer = move |call: Call| std::future::ready(routes.operations(&call));
            supervisor.spawn("operations", apart.serve(answer, supervisor.stop_token()));
        }
        supervisor.spawn("http", server.serve(move |call| Arc::clone(&routes).answer(call), supervisor.stop_token()));

        std::fs::write(data_dir.join(ADDRESS_FILE), address.to_string()).context("writing the address file")?;
        tracing::info!(address = %format!("http://{address}"), "ready");
        if run.greets {
            greet(address, &settings, &data_dir, is_first)?;
        }
        if let Some(ready) = run.ready {
            // The one who waits for it may have gone.
            let _ = ready.send(address);
        }
        Ok(supervisor.run(signals, run.stop, settings.config.drain_timeout).await)
    }
}

/// What is known of the storage before anything is written.
struct CheckedStorage {
    /// Whether every server has answered.
    is_complete: bool,
    /// There while the table is to be mended before anything is loaded or asked.
    held: Option<Held>,
}

/// Brings the schema up to date and looks whether table and log fit together, before anything is written. Errors: a person is needed.
async fn check_storage<L: Log>(settings: &Settings, log: &L, storage: &Storage) -> Result<CheckedStorage> {
    let loads = settings.roles.contains(&Role::Load);
    if let Some(mender) = storage.mender().filter(|_| loads) {
        schema::prepare_embedded(settings, &storage.store).await?;
        mender.check_end(log).await.context("looking at the log")?;
        return Ok(CheckedStorage { is_complete: true, held: mender.mend_quickly(log).await });
    }
    let is_complete = schema::is_complete(schema::prepare(settings, &storage.store).await)?;
    if loads {
        lag::check(log, &storage.store).await.context("looking at the log")?;
    }
    Ok(CheckedStorage { is_complete, held: None })
}

/// Makes and checks what the log needs before anything runs on it.
pub async fn prepare_log(settings: &Settings) -> Result<()> {
    if let LogSettings::Kafka(limits) = &settings.log {
        KafkaLog::open((**limits).clone(), true).await.context("preparing the log")?.close().await;
    }
    Ok(())
}

/// What `pulse replay` and `pulse sessions` can do with an open log and its store.
pub trait Rework {
    /// What it tells at the end.
    type Summary;

    /// Does it until asked to stop.
    fn run<L: Log>(
        &self,
        parts: LogAndStore<L>,
        settings: &Settings,
        control: Control<impl Fn(u64, u64)>,
    ) -> impl Future<Output = Result<Self::Summary>>;
}

impl Rework for replay::Request {
    type Summary = replay::Summary;

    async fn run<L: Log>(&self, parts: LogAndStore<L>, settings: &Settings, control: Control<impl Fn(u64, u64)>) -> Result<Self::Summary> {
        let limits = replay::Limits { process: settings.process, load: settings.load.clone() };
        replay::run(parts, self, limits, control).await
    }
}

impl Rework for replay::dead::Request {
    type Summary = replay::dead::Summary;

    async fn run<L: Log>(&self, parts: LogAndStore<L>, settings: &Settings, control: Control<impl Fn(u64, u64)>) -> Result<Self::Summary> {
        let geo = routes::geo(settings).map_err(anyhow::Error::msg)?;
        let redrive = Redrive::new(parts.log.clone(), settings.ingest.clone(), geo);
        replay::dead::run(&parts, *self, redrive, control).await
    }
}

impl Rework for load::RebuildRequest {
    type Summary = load::RebuildSummary;

    async fn run<L: Log>(&self, parts: LogAndStore<L>, settings: &Settings, control: Control<impl Fn(u64, u64)>) -> Result<Self::Summary> {
        let partitions = parts.log.partitions(Topic::Enriched);
        let rebuild = load::SessionRebuild::new(parts.store, &EVENTS.name(), partitions, settings.load.projects().clone());
        Ok(rebuild.run(self, control.stop, control.progress).await?)
    }
}

/// Replays the raw log, or tries dead letters again. With the embedded log no instance may use the data directory meanwhile.
pub async fn replay<R: Rework>(settings: &Settings, request: &R, progress: impl Fn(u64, u64)) -> Result<R::Summary> {
    let data_dir = &settings.config.data_dir;
    std::fs::create_dir_all(data_dir).with_context(|| format!("data_dir: `{}`", data_dir.display()))?;
    let uses_dir = matches!(settings.log, LogSettings::Embedded(_)) || settings.clickhouse.url.is_empty();
    let _lock = uses_dir.then(|| lock_data_dir(data_dir)).transpose().context("data_dir")?;
    match settings.log.clone() {
        LogSettings::Embedded(limits) => {
            let log = EmbeddedLog::open(&data_dir.join("log"), limits).context("opening the log")?;
            replay_on(log, settings, request, progress).await
        }
        LogSettings::Kafka(limits) => {
            let log = KafkaLog::open(*limits, false).await.context("opening the log")?;
            replay_on(log, settings, request, progress).await
        }
    }
}

async fn replay_on<L: RunningLog, R: Rework>(log: L, settings: &Settings, request: &R, progress: impl Fn(u64, u64)) -> Result<R::Summary> {
    let mut signals = Signals::install().context("taking over signals")?;
    let result = with_storage(settings, async |storage| {
        schema::prepare(settings, &storage.store).await?;
        if let Some(mender) = storage.mender() {
            mender.mend(&log).await.context("mending the embedded engine's table")?;
        }
        let stop = CancellationToken::new();
        let parts = LogAndStore { log: log.clone(), store: storage.store.clone() };
        let work = request.run(parts, settings, Control { stop: stop.clone(), progress });
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            _ = signals.next() => {
                stop.cancel();
                work.await
            }
        }
    })
    .await;
    log.close().await;
    result
}

/// Does `work` with ClickHouse, and ends the engine afterwards, however that went.
async fn with_storage<T>(settings: &Settings, work: impl AsyncFnOnce(&Storage) -> Result<T>) -> Result<T> {
    let storage = Storage::open(settings).await?;
    let result = work(&storage).await;
    let closed = storage.close().await;
    result.and_then(|result| closed.map(|()| result))
}

/// Where the instance that uses `data_dir` listens; `None` if none does, or none is ready. Errors: the lock cannot be looked at.
pub fn running_address(data_dir: &Path) -> Result<Option<SocketAddr>, LockError> {
    let said = std::fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let Some(address) = said else { return Ok(None) };
    match lock_data_dir(data_dir) {
        Err(LockError::Held { .. }) => Ok(Some(address)),
        // Left behind by an instance that was killed: what listens there now is another program.
        Ok(_) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Does `work` with ClickHouse alone: no role runs and no log is open.
pub async fn with_store<T, F>(settings: &Settings, work: impl FnOnce(ClickHouse) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    std::fs::create_dir_all(&settings.config.data_dir).context("data_dir")?;
    let _lock = settings.clickhouse.url.is_empty().then(|| lock_data_dir(&settings.config.data_dir)).transpose().context("data_dir")?;
    with_storage(settings, async |storage| {
        let result = work(storage.store.clone()).await?;
        schema::sync(settings)?;
        Ok(result)
    })
    .await
}

/// Ends the log; a second signal means now, also here: a log that does not answer is waited for as long as its deadlines say.
async fn close<L: RunningLog>(log: &L, signals: &mut Signals, faults: &mut Vec<Fault>) {
    if faults.iter().any(|fault| matches!(fault, Fault::Impatient)) {
        return;
    }
    tokio::select! {
        () = log.close() => {}
        _ = signals.next() => faults.push(Fault::Impatient),
    }
}

/// Ends the instance when its log has come to an end.
async fn watch_log<L: RunningLog>(log: L, stop: CancellationToken) -> Result<(), LogError> {
    tokio::select! {
        why = log.broken() => Err(why),
        () = stop.cancelled() => Ok(()),
    }
}

/// What loading needs beside the log.
struct Loading {
    target: load::Target,
    /// Whether the table may be loaded into, once that is known.
    mended: BoxFuture<'static, bool>,
}

/// Starts what works on the log. Loading waits until the table is mended, which takes minutes where much is to be made anew: that is no reason to
/// refuse events.
fn start_roles<L: RunningLog>(settings: &Settings, supervisor: &mut Supervisor, log: &L, loading: Option<Loading>) {
    if settings.roles.contains(&Role::Process) {
        supervisor.spawn("process", process::run(log.clone(), settings.process, supervisor.stop_token()));
    }
    if let Some(Loading { target, mended }) = loading.filter(|_| settings.roles.contains(&Role::Load)) {
        supervisor.spawn("lag", lag::watch(log.clone(), target.store.clone(), supervisor.stop_token()));
        let loading = load::run(log.clone(), settings.load.clone(), target, supervisor.stop_token());
        supervisor.spawn("load", async move { if mended.await { loading.await } else { Ok(()) } });
    }
}

/// The recorder of the process; a second instance in one process shares the first one's.
fn record_metrics() -> Result<PrometheusHandle> {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new().install_recorder().context("metrics")?;
    metrics::describe();
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// Prints where pulse is, and the first time also the keys. A closed standard output stops nothing.
fn greet(address: SocketAddr, settings: &Settings, data_dir: &Path, is_first: bool) -> Result<()> {
    let mut text = format!("pulse is ready at http://{address}\n");
    if is_first {
        for entry in keys::read(&keys::path(&settings.config.keys, data_dir))? {
            let KeyEntry { project, write_key, read_key, import_key, .. } = entry;
            let _ = writeln!(text, "project    {project}\nwrite key  {write_key}\nread key   {read_key}\nimport key {import_key}");
            if settings.roles.contains(&Role::Query) {
                // The part behind `#` is sent to no server and so is in nobody's log.
                let _ = writeln!(text, "dashboard  http://{address}/#key={read_key}");
            }
        }
    }
    if let Err(problem) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::debug!(%problem, "standard output is closed");
    }
    Ok(())
}
