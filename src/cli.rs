//! The command line: one file a command, each thin.

mod alerts;
mod apply;
mod bench;
mod bucket;
mod check_config;
mod config_files;
mod dead;
mod demo;
mod export;
mod export_config;
mod import;
mod instance;
mod keys;
mod migrate;
mod printable;
mod remote;
mod replay;
mod serve;
mod sessions;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use self::printable::printable_lines;
use crate::config::{Config, ConfigError, Settings};
use crate::failpoint;

/// Realtime product analytics in one binary: every event counted exactly once.
#[derive(Debug, Parser)]
#[command(name = "pulse", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the roles of this instance
    Serve(serve::ServeArgs),
    /// Bring the database schema up to date
    Migrate(migrate::MigrateArgs),
    /// Work through the raw log again, into the events table or one beside it, or try dead letters again
    Replay(replay::ReplayArgs),
    /// Compute the sessions of the past again
    Sessions(sessions::SessionsArgs),
    /// Measure this machine with a realistic stream of events
    Bench(bench::BenchArgs),
    /// Print, create, limit, rotate or revoke keys, and say who did
    Keys(keys::KeysArgs),
    /// Bring in history from files
    Import(import::ImportArgs),
    /// Write all events into a file
    Export(export::ExportArgs),
    /// Show what could not be read, and why
    Dead(dead::DeadArgs),
    /// Fill a project of its own with two months of a tea shop, to look at
    Demo(demo::DemoArgs),
    /// Check rules of alerts in files, and try them on the past
    Alerts(alerts::AlertsArgs),
    /// Bring boards, cohorts, alerts, channels and notes to what files say
    Apply(apply::ApplyArgs),
    /// Write boards, cohorts, alerts, channels and notes as files
    ExportConfig(export_config::ExportConfigArgs),
    /// Say whether the configuration is sound, and with what values
    CheckConfig(check_config::CheckConfigArgs),
    /// The embedded engine, started by pulse itself
    #[command(hide = true)]
    Engine {
        /// Path of the library
        library: PathBuf,
        /// The engine's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Options that every command with a configuration takes.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Configuration file
    #[arg(long, short, env = "PULSE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the log, the engine and the keys live [default: ./pulse-data]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// The configuration, with `flags` over it.
    fn load(&self, mut flags: Vec<(&str, String)>) -> Result<Settings, ConfigError> {
        if let Some(dir) = &self.data_dir {
            flags.push(("data_dir", dir.display().to_string()));
        }
        // The environment is read here and nowhere else.
        #[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(self.config.as_deref(), environment, &flags)?.check()
    }
}

/// Ends quietly once nobody reads on, as in `pulse keys | head`, where the standard library panics.
fn end_with_the_reader() {
    let panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(FAILED.into());
        }
        panic(info);
    }));
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOTHING_STORED: u8 = 3;
const WOULD_CHANGE: u8 = 4;

/// Runs the command that was typed. Exit code 0: done; 1: failed; 2: usage or configuration; 3: an import of
/// which nothing could be read; 4: a plan that is not empty.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Events, keys and passwords of all projects: whatever pulse and its engine write is for their own user only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if !matches!(cli.command, Command::Serve(_)) {
        end_with_the_reader();
    }
    let _armed = failpoint::arm();
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Dead(args) => dead::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::ExportConfig(args) => export_config::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Engine { library, arguments } => crate::clickhouse::engine::run_child(&library, &arguments).map_err(anyhow::Error::msg),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody may be listening any more.
            let _ = writeln!(std::io::stderr(), "pulse: {}", printable_lines(&format!("{problem:#}")));
            ExitCode::from(code_of(&problem))
        }
    }
}

/// The exit code of a problem.
fn code_of(problem: &anyhow::Error) -> u8 {
    if problem.is::<ConfigError>() {
        USAGE
    } else if problem.is::<import::NothingStored>() {
        NOTHING_STORED
    } else if problem.is::<apply::WouldChange>() {
        WOULD_CHANGE
    } else {
        FAILED
    }
}

/// Logs on standard error what `RUST_LOG` asks for, else from `level` on. A file that takes no more, on a full volume, costs the
/// lines and nothing else.
fn start_logging(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    logs.log_internal_errors(false).init();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
