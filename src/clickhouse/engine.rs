//! The embedded ClickHouse: a real server in a child process of ours.
//!
//! Owns the child's configuration, its life and its passwords. The library is loaded at run time by the same binary under a
//! hidden subcommand ([`run_child`]), so that a crash of the engine is a restart and not ours, and pulse runs without the
//! library when a server is configured. It listens on loopback only, answers to pulse's own users alone, and lives exactly as long as
//! the pipe to its standard input: whatever ends pulse ends it too. What it has answered as stored is on the disk. May go wrong: the
//! library is missing or will not load (said with its path).

mod child;
mod config;
mod writes;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ClickHouse, ClickHouseError, ClickHouseSettings, Format, Login, SqlLogin, Statement};
use crate::backoff::Backoff;
pub use child::run_child;
use child::{EngineChild, EngineCommand};
use config::{Access, Passwords};

/// `[clickhouse.engine]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Path of `libchdb.so`. Empty: beside the executable, in `../lib`, or in the cache that `make run` fills.
    pub library: String,
    /// Most memory the engine may use, bytes.
    #[serde(with = "crate::byte_size")]
    pub max_memory: u64,
    /// Most memory one query may use, bytes.
    #[serde(with = "crate::byte_size")]
    pub max_query_memory: u64,
    /// Longest time one query may take.
    #[serde(with = "humantime_serde")]
    pub max_query_time: Duration,
    /// Most rows one query may read.
    pub max_rows_to_read: u64,
    /// Threads that merge parts.
    pub merge_threads: u32,
    /// Longest time it may answer nothing before it is ended and started again.
    #[serde(with = "humantime_serde")]
    pub max_silence: Duration,
}

impl EngineConfig {
    /// Most memory that a query is given, bytes: no more than there is.
    pub(crate) fn query_memory(&self) -> u64 {
        self.max_query_memory.min(self.max_memory)
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            library: String::new(),
            max_memory: 3 << 30,
            max_query_memory: 1 << 30,
            max_query_time: Duration::from_secs(20),
            max_rows_to_read: 2_000_000_000,
            merge_threads: 2,
            max_silence: Duration::from_secs(60),
        }
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library is nowhere.
    #[error(
        "the embedded engine's library libchdb.so was not found (looked in {0}): run `make run` once, set clickhouse.engine.library, or set clickhouse.url"
    )]
    NoLibrary(String),
    /// The data directory or the process could not be used.
    #[error("embedded engine: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended or did not answer during its first start.
    #[error("the embedded engine did not start: {0}")]
    Start(String),
}

/// Whether the engine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It answers.
    Ready,
    /// It is being started again.
    Down,
}

/// Finds the library.
pub fn find_library(config: &EngineConfig) -> Result<PathBuf, EngineError> {
    if !config.library.is_empty() {
        let path = PathBuf::from(&config.library);
        return if path.is_file() { Ok(path) } else { Err(EngineError::NoLibrary(config.library.clone())) };
    }
    let mut places = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)) {
        places.push(folder.join("libchdb.so"));
        places.push(folder.join("../lib/libchdb.so"));
    }
    places.extend(cache_dir().map(|cache| cache.join("engine/libchdb.so")));
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::NoLibrary(places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))),
    }
}

/// Where `make run` puts what it fetches.
#[allow(clippy::disallowed_methods, reason = "the cache is the user's, not a setting of pulse")]
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PULSE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("pulse")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/pulse")))
}

/// Whether what is on the disk is what was written: known after an end by pulse, or once somebody has looked.
#[derive(Clone, Debug)]
pub struct Soundness(Arc<watch::Sender<bool>>);

impl Soundness {
    /// Notes in the folder that the engine runs. A note that is there already is of one that was cut short.
    fn begin(folder: &Path) -> std::io::Result<Self> {
        let note = folder.join(RUNNING);
        let was_ended = !note.exists();
        if was_ended {
            File::create(note)?;
            // Before the first byte of the engine's: the note must be there whenever anything else may be torn.
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(Arc::new(watch::Sender::new(was_ended))))
    }

    /// Whether the data needs no look.
    pub fn is_sound(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the data needs a look.
    pub async fn doubted(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|is_sound| !is_sound).await;
    }

    /// Says that somebody has looked, and mended what was damaged.
    pub fn assert(&self) {
        self.0.send_replace(true);
    }

    /// Says that something may be damaged: the next start looks, whatever ends this one.
    pub fn doubt(&self) {
        self.0.send_replace(false);
    }

    /// After a clean end. A note that stays costs a look at the next start.
    fn end(&self, folder: &Path) {
        if self.is_sound() {
            let _ = std::fs::remove_file(folder.join(RUNNING));
        }
    }
}

/// A running engine. Dropping it ends the child.
#[derive(Debug)]
pub struct Engine {
    settings: ClickHouseSettings,
    command: EngineCommand,
    child: EngineChild,
    state: watch::Sender<EngineState>,
    max_silence: Duration,
    soundness: Soundness,
    restarts: mpsc::Receiver<oneshot::Sender<()>>,
    asks_restart: mpsc::Sender<oneshot::Sender<()>>,
    /// Bound, but never listening: keeps the port from others while the engine is away.
    _port: TcpSocket,
}

/// Longest time a start may take: a cold library is 560 MB to read, and a large store is looked through.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Longest time for the last engine to go, with all its memory.
const LEAVING_LIMIT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Between two looks whether it still answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// In the engine's folder while it runs: there at a start, it was not ended by us.
const RUNNING: &str = "running";

impl Engine {
    /// Starts the engine with its data under `data_dir/clickhouse` and waits until it answers. `executable` is pulse.
    pub async fn start(config: &EngineConfig, base: ClickHouseSettings, data_dir: &Path, executable: PathBuf) -> Result<Self, EngineError> {
        // The engine is started in its own folder.
        let library = std::path::absolute(find_library(config)?).map_err(io("find the engine's library"))?;
        // The engine reads a relative path as relative to its configuration's folder.
        let folder = std::path::absolute(data_dir).map_err(io("find the data directory"))?.join("clickhouse");
        let (socket, port) = reserve_port().map_err(io("find a free port on loopback"))?;
        let passwords = Passwords::new();
        config::write(config, &Access { folder: &folder, port, database: &base.database, passwords: &passwords })?;
        let login = |user: &str, password: String| Login { user: user.to_owned(), password: password.into() };
        let settings = ClickHouseSettings {
            url: format!("http://127.0.0.1:{port}").into(),
            writer: login(config::WRITER, passwords.writer),
            reader: login(config::READER, passwords.reader),
            migrator: login(config::MIGRATOR, passwords.migrator),
            sql: Some(SqlLogin::new(&config::SQL, passwords.sql.into())),
            ..base
        };
        let soundness = Soundness::begin(&folder).map_err(io("write into the engine's folder"))?;
        until_left(&folder.join("data/status")).await.map_err(io("wait for the last engine to end"))?;
        let command = EngineCommand { executable, library, folder, port };
        let child = begin(&command, &settings, &soundness).await?;
        let state = watch::Sender::new(EngineState::Ready);
        let (asks_restart, restarts) = mpsc::channel(1);
        Ok(Self { settings, command, child, state, max_silence: config.max_silence, soundness, restarts, asks_restart, _port: socket })
    }

    /// How to reach it. Stays the same through restarts.
    pub fn settings(&self) -> &ClickHouseSettings {
        &self.settings
    }

    /// Whether its data needs a look.
    pub fn soundness(&self) -> Soundness {
        self.soundness.clone()
    }

    /// Takes requests to start it again; each is answered once it is back.
    pub fn restarter(&self) -> mpsc::Sender<oneshot::Sender<()>> {
        self.asks_restart.clone()
    }

    /// Whether it answers, now and later.
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// Keeps it running until asked to stop, then ends it cleanly. One that ends, or answers nothing for too long, is started again.
    pub async fn supervise(mut self, stop: CancellationToken) -> Result<(), EngineError> {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        let mut asked = None;
        loop {
            let started = Instant::now();
            let why = tokio::select! {
                () = stop.cancelled() => return self.stop().await,
                ended = self.child.process.wait() => format!("it ended: {ended:?}"),
                Some(who) = self.restarts.recv() => {
                    asked = Some(who);
                    "it was asked for".to_owned()
                }
                () = silence(&self.settings, self.max_silence) => format!("it has not answered for {:?}", self.max_silence),
            };
            self.state.send_replace(EngineState::Down);
            if started.elapsed() > LONGEST_BACKOFF {
                backoff.reset();
            }
            let pause = backoff.next_pause();
            tracing::error!(why, restart_in = ?pause, "embedded engine is started again");
            // One that has ended cannot be killed, and need not be.
            let _ = self.child.process.kill().await;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            let restarted = tokio::select! {
                // What it may have set aside nobody has looked at: the note stays, and the next start looks.
                () = stop.cancelled() => return Ok(()),
                restarted = begin(&self.command, &self.settings, &self.soundness) => restarted,
            };
            match restarted {
                Ok(child) => {
                    self.child = child;
                    tracing::info!("embedded engine is back");
                    self.state.send_replace(EngineState::Ready);
                    if let Some(asked) = asked.take() {
                        // Nobody may be waiting any more.
                        let _ = asked.send(());
                    }
                }
                // Such as a disk that is full or read-only: tried again, for it may come back.
                Err(problem) => tracing::error!(%problem, "embedded engine"),
            }
        }
    }

    async fn stop(self) -> Result<(), EngineError> {
        if self.child.stop().await? {
            self.soundness.end(&self.command.folder);
        }
        Ok(())
    }
}

/// Starts the engine and waits until it answers. Parts that it sets aside are missing: somebody must look.
async fn begin(command: &EngineCommand, settings: &ClickHouseSettings, soundness: &Soundness) -> Result<EngineChild, EngineError> {
    let tables = command.folder.join("data/store");
    let before = parts_set_aside(&tables);
    let mut child = command.spawn()?;
    let ready = wait_until_ready(settings, &mut child.process).await;
    // Also of a start that fails: the next one finds them there before it.
    if parts_set_aside(&tables) != before {
        soundness.doubt();
    }
    if let Err(problem) = ready {
        // Waited for: the next one needs its lock.
        let _ = child.process.kill().await;
        return Err(problem);
    }
    Ok(child)
}

/// The parts that the engine could not load, when it started or earlier: in `detached` of each table's folder.
fn parts_set_aside(tables: &Path) -> BTreeSet<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let tables = entries(tables.to_owned()).flat_map(entries);
    let detached = tables.flat_map(|table| entries(table.join("detached")));
    detached.filter(|part| part.file_name().is_some_and(|name| name.to_string_lossy().contains("broken"))).collect()
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Io { what, source }
}

/// A free port that stays ours: the engine may bind it beside the socket, nobody of another user can.
fn reserve_port() -> std::io::Result<(TcpSocket, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Waits until no engine holds its data any more: one whose pulse was killed takes a moment to follow it, and a second one on the same
/// data ends at once. What does not go in time is left to the new one to complain of.
async fn until_left(status: &Path) -> std::io::Result<()> {
    let Ok(file) = File::open(status) else { return Ok(()) };
    let limit = Instant::now() + LEAVING_LIMIT;
    while Instant::now() < limit {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(START_POLL).await,
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

async fn wait_until_ready(settings: &ClickHouseSettings, child: &mut Child) -> Result<(), EngineError> {
    let store = ClickHouse::new(settings);
    let limit = Instant::now() + START_LIMIT;
    while Instant::now() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(EngineError::Start(format!("it ended with {status}; see clickhouse/engine.out in the data directory")));
        }
        if store.migrator.query(&Statement::of("SELECT 1"), Format::Json).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(START_POLL).await;
    }
    Err(EngineError::Start(format!("no answer within {START_LIMIT:?}")))
}

/// Ends once the engine has answered nothing for `limit`. Time in which pulse itself stood still does not count.
async fn silence(settings: &ClickHouseSettings, limit: Duration) {
    let patience = (limit / 4).max(PROBE_INTERVAL);
    let store = ClickHouse::new(&ClickHouseSettings { request_timeout: patience, ..settings.clone() });
    let mut silent = Duration::ZERO;
    while silent < limit {
        let began = Instant::now();
        tokio::time::sleep(PROBE_INTERVAL).await;
        silent = match store.migrator.query(&Statement::of("SELECT 1"), Format::Json).await {
            // A refusal is an answer.
            Ok(_) | Err(ClickHouseError::Server { .. }) => Duration::ZERO,
            Err(_) => silent + began.elapsed().min(PROBE_INTERVAL + patience),
        };
    }
}
