//! The composition root: builds adapters and roles, supervises, drains. The only place that knows everything.

mod answers;
#[cfg(test)]
mod hostile;
mod lag;
mod routes;
mod schema;
mod waiting;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{Engine, EngineError};
use crate::config::{LogSettings, Settings};
use crate::http::keys::{self, KeyEntry, Keys};
use crate::http::server::Server;
use crate::ingest::Redrive;
use crate::lifecycle::{Fault, Signals, Supervisor, raise_file_limit, spawn_apart};
use crate::load::{self, LoadStats};
use crate::log::embedded::{EmbeddedLog, lock_data_dir};
use crate::log::kafka::KafkaLog;
use crate::log::{Log, LogError, RunningLog};
use crate::metrics;
use crate::process;
use crate::replay;
use crate::role::Role;

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

/// ClickHouse, and the engine if it is ours.
struct Storage {
    store: ClickHouse,
    engine: Option<Engine>,
}

/// Runs the roles of `settings` until a signal, `run.stop` or a fault; then drains. Errors: what kept it from starting, or
/// what ended it before it was asked to.
pub async fn serve(settings: Settings, run: Run) -> Result<()> {
    raise_file_limit();
    let data_dir = settings.config.data_dir.clone();
    std::fs::create_dir_all(&data_dir).with_context(|| format!("data_dir: `{}`", data_dir.display()))?;
    // With Kafka too: address and keys are files of one instance.
    let _lock = lock_data_dir(&data_dir).context("data_dir")?;
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
    let server = Server::bind(&settings.config.http).await.map_err(anyhow::Error::msg)?;
    let address = server.address().context("http.listen")?;
    let log = open.await?;
    let needs_storage = settings.roles.iter().any(|role| matches!(role, Role::Load | Role::Query));
    let mut supervisor = Supervisor::default();
    let (store, engine) = match needs_storage {
        true => {
            let storage = open_storage(&settings).await?;
            if !schema::is_complete(schema::prepare(&settings, &storage.store).await)? && settings.config.migrate_at_start {
                supervisor.spawn("schema", schema::complete(storage.store.clone(), supervisor.stop_token()));
            }
            (Some(storage.store), storage.engine)
        }
        false => (None, None),
    };

    if let Some(store) = store.as_ref().filter(|_| settings.roles.contains(&Role::Load)) {
        lag::check(&log, store).await.context("looking at the log")?;
    }

    let stats = Arc::new(LoadStats::default());
    start_roles(&settings, &mut supervisor, (&log, store.as_ref(), &stats));
    supervisor.spawn("log", watch_log(log.clone(), supervisor.stop_token()));
    supervisor.spawn("keys", keys.clone().watch(supervisor.stop_token()));
    let engine_state = engine.as_ref().map(Engine::state);
    let metrics = record_metrics()?;
    let parts = routes::Parts { log: log.clone(), keys, store, stats, engine_state, metrics };
    let routes = routes::Routes::new(&settings, parts).map_err(anyhow::Error::msg)?;
    if let Some(refreshing) = routes.keep_fresh(supervisor.stop_token()) {
        supervisor.spawn("refresh", refreshing);
    }
    if let Some(sharing) = routes.share_rate(supervisor.stop_token()) {
        supervisor.spawn("rate limit", sharing);
    }
    supervisor.spawn("http", server.serve(move |call| routes.clone().answer(call), supervisor.stop_token()));
    let (engine, engine_stop) = supervise_engine(engine);

    std::fs::write(data_dir.join(ADDRESS_FILE), address.to_string()).context("writing the address file")?;
    tracing::info!(address = %format!("http://{address}"), "ready");
    if run.greets {
        greet(address, &settings, &data_dir, is_first)?;
    }
    if let Some(ready) = run.ready {
        // Whoever started us may have gone.
        let _ = ready.send(address);
    }
    let mut faults = supervisor.run(&mut signals, run.stop, settings.config.drain_timeout).await;
    close(&log, &mut signals, &mut faults).await;
    engine_stop.cancel();
    if let Some(engine) = engine {
        engine.await.context("embedded engine")?.context("embedded engine")?;
    }
    drop(std::fs::remove_file(data_dir.join(ADDRESS_FILE)));
    match faults.into_iter().next() {
        None => Ok(()),
        Some(fault) => bail!(fault),
    }
}

/// Makes and checks what the log needs before anything runs on it.
pub async fn prepare_log(settings: &Settings) -> Result<()> {
    if let LogSettings::Kafka(limits) = &settings.log {
        KafkaLog::open((**limits).clone(), true).await.context("preparing the log")?.close().await;
    }
    Ok(())
}

/// What `pulse replay` can do with an open log and its store.
pub trait Rework {
    /// What it tells at the end.
    type Summary;

    /// Does it until asked to stop; `progress` is told how much is done, and how much there is in all.
    fn run<L: Log>(
        &self,
        parts: (&L, &ClickHouse),
        settings: &Settings,
        until: (CancellationToken, impl Fn(u64, u64)),
    ) -> impl Future<Output = Result<Self::Summary>>;
}

impl Rework for replay::Request {
    type Summary = replay::Summary;

    async fn run<L: Log>(
        &self,
        (log, store): (&L, &ClickHouse),
        settings: &Settings,
        until: (CancellationToken, impl Fn(u64, u64)),
    ) -> Result<Self::Summary> {
        let limits = replay::Limits { process: settings.process, load: settings.load };
        replay::run((log.clone(), store.clone()), self, limits, until).await
    }
}

impl Rework for replay::dead::Request {
    type Summary = replay::dead::Summary;

    async fn run<L: Log>(
        &self,
        parts: (&L, &ClickHouse),
        settings: &Settings,
        until: (CancellationToken, impl Fn(u64, u64)),
    ) -> Result<Self::Summary> {
        let geo = routes::geo(settings).map_err(anyhow::Error::msg)?;
        let redrive = Redrive::new(parts.0.clone(), settings.ingest.clone(), geo);
        replay::dead::run(parts, *self, redrive, until).await
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
    let storage = open_storage(settings).await?;
    schema::prepare(settings, &storage.store).await?;
    let stop = CancellationToken::new();
    let work = request.run((&log, &storage.store), settings, (stop.clone(), progress));
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        _ = signals.next() => {
            stop.cancel();
            work.await
        }
    };
    log.close().await;
    let (engine, engine_stop) = supervise_engine(storage.engine);
    engine_stop.cancel();
    if let Some(engine) = engine {
        engine.await.context("embedded engine")?.context("embedded engine")?;
    }
    result
}

/// Where the instance that uses `data_dir` listens, if one has said so.
pub fn running_address(data_dir: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok()?.trim().parse().ok()
}

/// Brings the schema up to date, or says what is missing, without running any role.
pub async fn with_store<T, F>(settings: &Settings, work: impl FnOnce(ClickHouse) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    std::fs::create_dir_all(&settings.config.data_dir).context("data_dir")?;
    let lock = settings.clickhouse.url.is_empty().then(|| lock_data_dir(&settings.config.data_dir)).transpose().context("data_dir")?;
    let storage = open_storage(settings).await?;
    let result = work(storage.store).await;
    let (engine, stop) = supervise_engine(storage.engine);
    stop.cancel();
    if let Some(engine) = engine {
        engine.await.context("embedded engine")?.context("embedded engine")?;
    }
    drop(lock);
    result
}

async fn open_storage(settings: &Settings) -> Result<Storage> {
    let clickhouse = settings.clickhouse.clone();
    if !clickhouse.url.is_empty() {
        return Ok(Storage { store: ClickHouse::new(&clickhouse), engine: None });
    }
    let executable = own_executable()?;
    let engine = Engine::start(&settings.config.clickhouse.engine, clickhouse, &settings.config.data_dir, executable).await?;
    Ok(Storage { store: ClickHouse::new(engine.settings()), engine: Some(engine) })
}

/// The running program, by the name that still works when its file has been replaced under it.
fn own_executable() -> Result<PathBuf> {
    let by_link = PathBuf::from("/proc/self/exe");
    if by_link.exists() { Ok(by_link) } else { std::env::current_exe().context("finding the own executable") }
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

fn start_roles<L: RunningLog>(
    settings: &Settings,
    supervisor: &mut Supervisor,
    (log, store, stats): (&L, Option<&ClickHouse>, &Arc<LoadStats>),
) {
    if settings.roles.contains(&Role::Process) {
        supervisor.spawn("process", process::run(log.clone(), settings.process, supervisor.stop_token()));
    }
    if let Some(store) = store.filter(|_| settings.roles.contains(&Role::Load)) {
        let parts = (store.clone(), Arc::clone(stats));
        supervisor.spawn("lag", lag::watch(log.clone(), store.clone(), supervisor.stop_token()));
        supervisor.spawn("load", load::run(log.clone(), settings.load, parts, supervisor.stop_token()));
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

type EngineTask = JoinHandle<Result<(), EngineError>>;

/// The engine outlives the roles: they drain into it.
fn supervise_engine(engine: Option<Engine>) -> (Option<EngineTask>, CancellationToken) {
    let stop = CancellationToken::new();
    (engine.map(|engine| spawn_apart(engine.supervise(stop.clone()))), stop)
}

/// Prints where pulse is, and the first time also the keys. Nobody may be reading: that stops nothing.
fn greet(address: SocketAddr, settings: &Settings, data_dir: &Path, is_first: bool) -> Result<()> {
    let mut text = format!("pulse is ready at http://{address}\n");
    if is_first {
        for entry in keys::read(&keys::path(&settings.config.keys, data_dir))? {
            let KeyEntry { project, write_key, read_key, import_key, .. } = entry;
            let _ = writeln!(text, "project    {project}\nwrite key  {write_key}\nread key   {read_key}\nimport key {import_key}");
        }
        let _ = writeln!(text, "dashboard  http://{address}/");
    }
    if let Err(problem) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::debug!(%problem, "standard output is closed");
    }
    Ok(())
}
