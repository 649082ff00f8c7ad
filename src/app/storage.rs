//! ClickHouse for as long as a command runs: a server's address, or the embedded engine and who keeps it running.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::holes::{self, HoleError};
use crate::clickhouse::engine::{Engine, EngineError, EngineState, Soundness};
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::config::Settings;
use crate::lifecycle::spawn_apart;
use crate::log::Log;
use crate::store::tables;

/// The way to ClickHouse. The one who opens it closes it, last: the roles drain into it.
pub(super) struct Storage {
    pub(super) store: ClickHouse,
    engine: Option<RunningEngine>,
}

struct RunningEngine {
    state: watch::Receiver<EngineState>,
    soundness: Soundness,
    restarter: mpsc::Sender<oneshot::Sender<()>>,
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
        let (state, soundness, restarter) = (engine.state(), engine.soundness(), engine.restarter());
        let stop = CancellationToken::new();
        let keeper = spawn_apart(engine.supervise(stop.clone()));
        Ok(Self { store, engine: Some(RunningEngine { state, soundness, restarter, keeper, stop: stop.drop_guard() }) })
    }

    /// Whether the embedded engine answers; `None` if there is none.
    pub(super) fn engine_state(&self) -> Option<watch::Receiver<EngineState>> {
        self.engine.as_ref().map(|engine| engine.state.clone())
    }

    /// Makes the projections of the embedded engine whole, by which nearly everything here is looked up. Also where pulse ended it the last
    /// time: what the kernel had not written by then may be gone since.
    pub(super) async fn rebuild_projections(&self) -> Result<()> {
        match &self.engine {
            Some(_) => rebuild_projections(&self.store).await.context("making projections of the embedded engine anew"),
            None => Ok(()),
        }
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

    /// Mends the embedded engine's table whenever it says that a part is damaged, until asked to stop; `None` without an engine.
    pub(super) fn watch_damage<L: Log>(
        &self,
        log: L,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = Result<(), Infallible>> + use<L>> {
        let restarter = self.engine.as_ref()?.restarter.clone();
        let store = self.store.clone();
        Some(async move {
            let mut damage = store.breaker.damage();
            let mending = async {
                while let Ok(message) = damage.wait_for(Option::is_some).await.map(|message| message.clone().unwrap_or_default()) {
                    store.breaker.hold();
                    tracing::error!(
                        message,
                        "a part of the embedded engine, or a projection, is damaged: nothing is asked until that is mended"
                    );
                    while let Err(problem) = mend_damage(&log, &store, &restarter, &message).await {
                        tracing::error!(%problem, "mending the embedded engine's table");
                        tokio::time::sleep(AGAIN).await;
                    }
                    store.breaker.forget_damage();
                    store.breaker.release();
                    tracing::info!(
                        "the damage is mended: a part that was set aside is loaded again with the next record of its partition, a projection is made anew"
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            };
            stop.run_until_cancelled(mending).await;
            stop.cancelled().await;
            Ok(())
        })
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

/// Between two attempts to mend, whether or not the last one did.
const AGAIN: Duration = Duration::from_secs(2);

/// Starts the engine anew, which ends all inserts and looks at every part, sets aside the part named in a message if that did not find it
/// out, and makes the table one that is behind.
async fn mend_damage<L: Log>(
    log: &L,
    store: &ClickHouse,
    restarter: &mpsc::Sender<oneshot::Sender<()>>,
    message: &str,
) -> Result<(), HoleError> {
    let (asked, back) = oneshot::channel();
    if restarter.send(asked).await.is_ok() {
        // An error: the engine is being ended.
        let _ = back.await;
    }
    holes::set_aside(store, message).await?;
    rebuild_projections(store).await?;
    holes::reopen(log, store).await
}

async fn rebuild_projections(store: &ClickHouse) -> Result<(), ClickHouseError> {
    for (table, projection, parts) in tables::rebuild_projections(store).await? {
        tracing::warn!(table, projection, parts, "parts without their projection, as after a power cut: it is made anew");
    }
    Ok(())
}

/// The running program, by the name that still works when its file has been replaced under it.
fn own_executable() -> Result<PathBuf> {
    let by_link = PathBuf::from("/proc/self/exe");
    if by_link.exists() { Ok(by_link) } else { std::env::current_exe().context("finding the own executable") }
}
