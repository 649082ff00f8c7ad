//! ClickHouse for as long as a command runs: a server's address, or the embedded engine and who keeps it running.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::holes;
use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{Engine, EngineError, EngineState, Soundness};
use crate::config::Settings;
use crate::lifecycle::spawn_apart;
use crate::log::Log;

/// The way to ClickHouse. Whoever opens it closes it, last: the roles drain into it.
pub(super) struct Storage {
    pub(super) store: ClickHouse,
    engine: Option<RunningEngine>,
}

struct RunningEngine {
    state: watch::Receiver<EngineState>,
    soundness: Soundness,
    keeper: JoinHandle<Result<(), EngineError>>,
    /// Also ends the engine if this is dropped instead of closed.
    stop: DropGuard,
}

impl Storage {
    /// Connects, or starts the engine and keeps it running from now on.
    pub(super) async fn open(settings: &Settings) -> Result<Self> {
        let clickhouse = settings.clickhouse.clone();
        if !clickhouse.url.is_empty() {
            return Ok(Self { store: ClickHouse::new(&clickhouse), engine: None });
        }
        let executable = own_executable()?;
        let engine = Engine::start(&settings.config.clickhouse.engine, clickhouse, &settings.config.data_dir, executable).await?;
        let store = ClickHouse::new(engine.settings());
        let (state, soundness) = (engine.state(), engine.soundness());
        let stop = CancellationToken::new();
        let keeper = spawn_apart(engine.supervise(stop.clone()));
        Ok(Self { store, engine: Some(RunningEngine { state, soundness, keeper, stop: stop.drop_guard() }) })
    }

    /// Whether the embedded engine answers; `None` if there is none.
    pub(super) fn engine_state(&self) -> Option<watch::Receiver<EngineState>> {
        self.engine.as_ref().map(|engine| engine.state.clone())
    }

    /// Makes good what the embedded engine has lost if it was not ended by pulse the last time. Nothing may load yet.
    pub(super) async fn mend<L: Log>(&self, log: &L) -> Result<()> {
        match &self.engine {
            Some(engine) if !engine.soundness.is_sound() => {
                holes::reopen(log, &self.store).await?;
                engine.soundness.assert();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the engine, if there is one.
    pub(super) async fn close(self) -> Result<()> {
        // The engine waits for connections that are kept open.
        drop(self.store);
        let Some(engine) = self.engine else { return Ok(()) };
        drop(engine.stop);
        engine.keeper.await.context("embedded engine")?.context("embedded engine")
    }
}

/// The running program, by the name that still works when its file has been replaced under it.
fn own_executable() -> Result<PathBuf> {
    let by_link = PathBuf::from("/proc/self/exe");
    if by_link.exists() { Ok(by_link) } else { std::env::current_exe().context("finding the own executable") }
}
