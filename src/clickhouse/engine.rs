//! The embedded ClickHouse: a real server in a child process of ours.
//!
//! Owns the child's configuration, its life and its passwords. The library is loaded at run time by the same binary under a
//! hidden subcommand ([`run_child`]), so that a crash of the engine is a restart and not ours, and pulse runs without the
//! library when a server is configured. It listens on loopback only and lives exactly as long as the pipe to its standard
//! input: whatever ends pulse ends it too. May go wrong: the library is missing or will not load (said with its path).

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ClickHouse, ClickHouseSettings, Format, Login, Statement};

/// `[clickhouse.engine]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Path of `libchdb.so`. Empty: beside the executable, in `../lib`, or in the cache that `make run` fills.
    pub library: String,
    /// Most memory the engine may use, bytes.
    pub max_memory: u64,
    /// Most memory one query may use, bytes.
    pub max_query_memory: u64,
    /// Longest time one query may take.
    #[serde(with = "humantime_serde")]
    pub max_query_time: Duration,
    /// Most rows one query may read.
    pub max_rows_to_read: u64,
    /// Threads that merge parts.
    pub merge_threads: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            library: String::new(),
            max_memory: 3 << 30,
            max_query_memory: 2 << 30,
            max_query_time: Duration::from_secs(20),
            max_rows_to_read: 2_000_000_000,
            merge_threads: 2,
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
        what: String,
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

/// A running engine. Dropping it ends the child.
#[derive(Debug)]
pub struct Engine {
    settings: ClickHouseSettings,
    command: EngineCommand,
    child: EngineChild,
    state: watch::Sender<EngineState>,
}

/// The child, and the pipe that keeps it alive: kept apart, because waiting for a child closes the pipe that it owns.
#[derive(Debug)]
struct EngineChild {
    process: Child,
    lifeline: Option<ChildStdin>,
}

#[derive(Debug)]
struct EngineCommand {
    executable: PathBuf,
    library: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// Longest time a start may take: a cold library is 560 MB to read.
const START_LIMIT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Starts the engine with its data under `data_dir/clickhouse` and waits until it answers. `executable` is pulse.
    pub async fn start(config: &EngineConfig, base: ClickHouseSettings, data_dir: &Path, executable: PathBuf) -> Result<Self, EngineError> {
        let library = find_library(config)?;
        // The engine reads a relative path as relative to its configuration's folder.
        let folder = std::path::absolute(data_dir).map_err(io("find the data directory"))?.join("clickhouse");
        let passwords = [(); 3].map(|()| uuid::Uuid::new_v4().simple().to_string());
        let port = free_port().map_err(|source| EngineError::Io { what: "no free port on loopback".to_owned(), source })?;
        write_config(config, &folder, port, &passwords)?;
        let [writer, reader, migrator] = passwords;
        let login = |user: &str, password: String| Login { user: user.to_owned(), password: password.into() };
        let settings = ClickHouseSettings {
            url: format!("http://127.0.0.1:{port}").into(),
            writer: login("pulse_writer", writer),
            reader: login("pulse_reader", reader),
            migrator: login("pulse_migrator", migrator),
            ..base
        };
        let command = EngineCommand { executable, library, folder, port };
        let mut child = command.spawn()?;
        wait_until_ready(&settings, &mut child.process).await?;
        Ok(Self { settings, command, child, state: watch::Sender::new(EngineState::Ready) })
    }

    /// How to reach it. Stays the same through restarts.
    pub fn settings(&self) -> &ClickHouseSettings {
        &self.settings
    }

    /// Process id of the child, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.process.id()
    }

    /// Whether it answers, now and later.
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// Keeps it running until asked to stop, then ends it cleanly.
    pub async fn supervise(mut self, stop: CancellationToken) -> Result<(), EngineError> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => return self.stop().await,
                ended = self.child.process.wait() => ended,
            };
            self.state.send_replace(EngineState::Down);
            if started.elapsed() > LONGEST_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            tracing::error!(status = ?ended.ok(), restart_in = ?backoff, "embedded engine ended: starting it again");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            match self.restart().await {
                Ok(()) => {
                    tracing::info!("embedded engine is back");
                    self.state.send_replace(EngineState::Ready);
                }
                // Such as a disk that is full or read-only: tried again, for it may come back.
                Err(problem) => tracing::error!(%problem, "embedded engine"),
            }
        }
    }

    async fn restart(&mut self) -> Result<(), EngineError> {
        self.child = self.command.spawn()?;
        wait_until_ready(&self.settings, &mut self.child.process).await
    }

    /// Closes the pipe, on which the engine ends by itself, and waits for that; kills it if it takes too long.
    async fn stop(mut self) -> Result<(), EngineError> {
        drop(self.child.lifeline.take());
        if tokio::time::timeout(STOP_LIMIT, self.child.process.wait()).await.is_err() {
            tracing::warn!("embedded engine did not end by itself: killed");
            self.child.process.kill().await.map_err(|source| EngineError::Io { what: "kill".to_owned(), source })?;
        }
        Ok(())
    }
}

impl EngineCommand {
    fn spawn(&self) -> Result<EngineChild, EngineError> {
        let log = std::fs::File::create(self.folder.join("engine.out")).map_err(io("create engine.out"))?;
        let copy = log.try_clone().map_err(io("create engine.out"))?;
        let mut command = std::process::Command::new(&self.executable);
        command.arg("engine").arg(&self.library).arg("--config-file").arg(self.folder.join("config.xml"));
        command.arg("--path").arg(self.folder.join("data"));
        // The level in the configuration file does not count for this kind of server; without this it logs every step.
        command.args(["--log-level", "warning"]);
        command.args(["--listen_host", "127.0.0.1", "--http_port", &self.port.to_string()]);
        command.args(["--query", "SYSTEM START LISTEN HTTP; SELECT * FROM file('/dev/stdin', LineAsString)"]);
        command.stdin(Stdio::piped()).stdout(log).stderr(copy);
        // A process group of its own: Ctrl-C is for pulse, which drains before it ends the engine.
        command.process_group(0);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let mut process = command.spawn().map_err(io("start the child"))?;
        let lifeline = process.stdin.take();
        Ok(EngineChild { process, lifeline })
    }
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> EngineError {
    let what = what.to_owned();
    |source| EngineError::Io { what, source }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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

fn write_config(config: &EngineConfig, folder: &Path, port: u16, passwords: &[String; 3]) -> Result<(), EngineError> {
    std::fs::create_dir_all(folder.join("data")).map_err(io("create the engine's folder"))?;
    let users = folder.join("users.xml");
    write_private(&users, &users_xml(config, passwords))?;
    write_private(&folder.join("config.xml"), &config_xml(config, folder, &users, port))
}

fn write_private(path: &Path, text: &str) -> Result<(), EngineError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(io("write the engine's configuration"))
}

/// Text inside an XML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn config_xml(config: &EngineConfig, folder: &Path, users: &Path, port: u16) -> String {
    let users = escaped(&users.display().to_string());
    let log = escaped(&folder.join("engine.log").display().to_string());
    let merge_threads = config.merge_threads.max(1);
    format!(
        "<clickhouse>\n\
         <users_config>{users}</users_config>\n\
         <http_port>{port}</http_port>\n\
         <logger><log>{log}</log><size>10M</size><count>1</count></logger>\n\
         <max_server_memory_usage>{}</max_server_memory_usage>\n\
         <mark_cache_size>67108864</mark_cache_size>\n\
         <index_mark_cache_size>16777216</index_mark_cache_size>\n\
         <uncompressed_cache_size>0</uncompressed_cache_size>\n\
         <background_pool_size>{merge_threads}</background_pool_size>\n\
         <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>\n\
         <merge_tree>\n\
         <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>\n\
         <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>\n\
         <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>\n\
         </merge_tree>\n\
         <background_schedule_pool_size>4</background_schedule_pool_size>\n\
         <asynchronous_metrics_update_period_s>60</asynchronous_metrics_update_period_s>\n\
         </clickhouse>\n",
        config.max_memory
    )
}

/// The default user starts the listener and nothing else: it can read no table. Everyone else has a password made for this
/// start.
fn users_xml(config: &EngineConfig, [writer, reader, migrator]: &[String; 3]) -> String {
    let user = |name: &str, password: &str, profile: &str| {
        format!(
            "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>{profile}</profile>\
             <quota>default</quota></{name}>\n"
        )
    };
    format!(
        "<clickhouse>\n<profiles>\n<default></default>\n\
         <pulse_reader><max_execution_time>{}</max_execution_time><max_memory_usage>{}</max_memory_usage>\
         <max_rows_to_read>{}</max_rows_to_read><max_result_rows>1000000</max_result_rows>\
         <cancel_http_readonly_queries_on_client_close>1</cancel_http_readonly_queries_on_client_close>\
         <optimize_aggregation_in_order>1</optimize_aggregation_in_order>\
         <readonly>1</readonly></pulse_reader>\n\
         </profiles>\n<quotas><default/></quotas>\n<users>\n\
         <default><no_password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>\
         <grants><query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT READ ON FILE</query>\
         <query>GRANT CREATE TEMPORARY TABLE ON *.*</query></grants></default>\n\
         {}{}{}</users>\n</clickhouse>\n",
        config.max_query_time.as_secs().max(1),
        config.max_query_memory,
        config.max_rows_to_read,
        user("pulse_writer", writer, "default"),
        user("pulse_reader", reader, "pulse_reader"),
        user("pulse_migrator", migrator, "default"),
    )
}

/// Runs the engine inside this process until its standard input closes: the hidden subcommand. Arguments are the engine's
/// own. Errors: the library cannot be loaded.
pub fn run_child(library: &Path, arguments: &[OsString]) -> Result<(), String> {
    // Whatever ends the parent ends us, also when it is killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|problem| problem.to_string())?;
    // What pulse has switched off for itself is not meant for the engine.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    let strings: Vec<CString> = std::iter::once(OsStr::new("engine"))
        .chain(arguments.iter().map(OsString::as_os_str))
        .map(|argument| CString::new(argument.as_bytes()).map_err(|problem| problem.to_string()))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*mut c_char> = strings.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).map_err(|problem| problem.to_string())?;
    let refused = |problem: libloading::Error| format!("{}: {problem}", library.display());
    // SAFETY: the library is the engine that the configuration names; loading it runs its initializers, and the entry point
    // has this signature in the pinned release. The strings outlive the call.
    unsafe {
        let library = libloading::Library::new(library).map_err(refused)?;
        let entry: libloading::Symbol<'_, unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void> =
            library.get(b"query_stable_v2\0").map_err(refused)?;
        entry(count, pointers.as_mut_ptr());
        // Its threads may still run: leave without unloading.
        std::mem::forget(library);
    }
    Ok(())
}
