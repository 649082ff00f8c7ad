//! ClickHouse for as long as a command runs: a server's address, or the embedded engine and who keeps it running.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::mend::Mender;
use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{Engine, EngineError, EngineState};
use crate::config::Settings;
use crate::lifecycle::spawn_apart;

/// The way to ClickHouse. The one who opens it closes it, last: the roles drain into it.
pub(super) struct Storage {
    pub(super) store: ClickHouse,
    engine: Option<RunningEngine>,
}

struct RunningEngine {
    state: watch::Receiver<EngineState>,
    mender: Mender,
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
        let (state, mender) = (engine.state(), Mender::new(store.clone(), engine.soundness(), engine.restarter()));
        let stop = CancellationToken::new();
        let keeper = spawn_apart(engine.supervise(stop.clone()));
        Ok(Self { store, engine: Some(RunningEngine { state, mender, keeper, stop: stop.drop_guard() }) })
    }

    /// Whether the embedded engine answers; `None` if there is none.
    pub(super) fn engine_state(&self) -> Option<watch::Receiver<EngineState>> {
        self.engine.as_ref().map(|engine| engine.state.clone())
    }

    /// Who mends the embedded engine's table; `None` if there is none.
    pub(super) fn mender(&self) -> Option<&Mender> {
        self.engine.as_ref().map(|engine| &engine.mender)
    }

    /// Ends the engine, if there is one.
    pub(super) async fn close(self) -> Result<()> {
        let Some(RunningEngine { mender, stop, keeper, .. }) = self.engine else { return Ok(()) };
        // The engine waits for connections that are kept open.
        drop((self.store, mender));
        drop(stop);
        keeper.await.context("embedded engine")?.context("embedded engine")
    }
}

/// The running program, by the name that still works when its file has been replaced under it.
fn own_executable() -> Result<PathBuf> {
    let by_link = PathBuf::from("/proc/self/exe");
    if by_link.exists() { Ok(by_link) } else { std::env::current_exe().context("finding the own executable") }
}
