//! ClickHouse for as long as a command runs: a server's address, or the embedded engine and who keeps it running.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::holes::{self, HoleError};
use crate::clickhouse::engine::{Engine, EngineError, EngineState, Soundness};
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::config::Settings;
use crate::lifecycle::spawn_apart;
use crate::log::Log;
use crate::store::tables::{self, LackingProjection};

/// The way to ClickHouse. The one who opens it closes it, last: the roles drain into it.
pub(super) struct Storage {
    pub(super) store: ClickHouse,
    engine: Option<RunningEngine>,
}

struct RunningEngine {
    state: watch::Receiver<EngineState>,
    soundness: Soundness,
    /// What is made good, one after the other: each lets questions through once its own is done.
    mending: Arc<Mutex<()>>,
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
        Ok(Self {
            store,
            engine: Some(RunningEngine { state, soundness, mending: Arc::default(), restarter, keeper, stop: stop.drop_guard() }),
        })
    }

    /// Whether the embedded engine answers; `None` if there is none.
    pub(super) fn engine_state(&self) -> Option<watch::Receiver<EngineState>> {
        self.engine.as_ref().map(|engine| engine.state.clone())
    }

    /// Makes good what the embedded engine has lost. Nothing may load yet.
    pub(super) async fn mend<L: Log>(&self, log: &L) -> Result<()> {
        match &self.engine {
            Some(engine) => mend(log, &self.store, &engine.soundness).await.context("mending the embedded engine's table"),
            None => Ok(()),
        }
    }

    /// The same where that takes a moment; returns whether all is done. What is left is for [`Self::mended`]: until then nothing may load, and
    /// nothing is asked, since rows may be missing, and parts without a projection read as if they had none.
    pub(super) async fn mend_quickly<L: Log>(&self, log: &L) -> Result<bool, ClickHouseError> {
        let Some(engine) = &self.engine else { return Ok(true) };
        if tables::lacking_projections(&self.store).await?.is_empty() {
            match mend(log, &self.store, &engine.soundness).await {
                Ok(()) => return Ok(true),
                Err(problem) => tracing::error!(%problem, "mending the embedded engine's table"),
            }
        }
        self.store.breaker.hold();
        tracing::warn!("the embedded engine's table is being mended: events are taken, and loaded once that is done");
        Ok(false)
    }

    /// Makes good what [`Self::mend_quickly`] has left, again and again until that succeeds. Returns whether it did before the end was asked for.
    pub(super) fn mended<L: Log>(&self, log: L, stop: CancellationToken) -> impl Future<Output = bool> + use<L> {
        let store = self.store.clone();
        let engine = self.engine.as_ref().map(|engine| (engine.soundness.clone(), Arc::clone(&engine.mending)));
        async move {
            let Some((soundness, turn)) = engine else { return true };
            let mending = async {
                loop {
                    let of_one = turn.lock().await;
                    let Err(problem) = mend(&log, &store, &soundness).await else { break };
                    drop(of_one);
                    tracing::error!(%problem, "mending the embedded engine's table: nothing is loaded before that is done");
                    tokio::time::sleep(LATER).await;
                }
                tracing::info!("the embedded engine's table is whole again");
            };
            stop.run_until_cancelled(mending).await.is_some()
        }
    }

    /// Mends the embedded engine's table whenever it says that a part is damaged, until asked to stop; `None` without an engine.
    pub(super) fn watch_damage<L: Log>(
        &self,
        log: L,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = Result<(), Infallible>> + use<L>> {
        let engine = self.engine.as_ref()?;
        let (restarter, turn) = (engine.restarter.clone(), Arc::clone(&engine.mending));
        let store = self.store.clone();
        Some(async move {
            let mut damage = store.breaker.damage();
            let mending = async {
                while let Ok(message) = damage.wait_for(Option::is_some).await.map(|message| message.clone().unwrap_or_default()) {
                    store.breaker.hold();
                    let _turn = turn.lock().await;
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

/// Between two attempts to mend before anything loads: each may make much anew.
const LATER: Duration = Duration::from_secs(10);
/// Most damaged parts that are set aside in one of these.
const MOST_DAMAGED: usize = 100;

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

/// Makes the projections of the embedded engine whole, by which nearly everything here is looked up (also where pulse ended it the last time: what
/// the kernel had not written by then may be gone since), and then makes the table one that is behind, if rows may be missing.
async fn mend<L: Log>(log: &L, store: &ClickHouse, soundness: &Soundness) -> Result<(), HoleError> {
    for _ in 0..MOST_DAMAGED {
        let Err(problem) = rebuild_projections(store).await else {
            if !soundness.is_sound() {
                holes::reopen(log, store).await?;
                soundness.assert();
            }
            store.breaker.release();
            return Ok(());
        };
        // What a part held that is set aside is missing until it is loaded again.
        let was_sound = soundness.is_sound();
        soundness.doubt();
        store.breaker.hold();
        if !holes::set_aside(store, &problem.to_string()).await? {
            if was_sound {
                soundness.assert();
            }
            return Err(problem.into());
        }
    }
    Err(HoleError::Stuck("more parts are damaged than are set aside in one go".to_owned()))
}

/// Makes projections anew that parts lack.
async fn rebuild_projections(store: &ClickHouse) -> Result<(), ClickHouseError> {
    for lacking in tables::lacking_projections(store).await? {
        let LackingProjection { table, projection, partition, parts } = &lacking;
        let (table, projection) = (&**table, &**projection);
        tracing::warn!(table, projection, partition, parts, "parts lack their projection, as after a power cut: it is made anew");
        tables::materialize(store, &lacking).await?;
    }
    Ok(())
}

/// The running program, by the name that still works when its file has been replaced under it.
fn own_executable() -> Result<PathBuf> {
    let by_link = PathBuf::from("/proc/self/exe");
    if by_link.exists() { Ok(by_link) } else { std::env::current_exe().context("finding the own executable") }
}
