//! Makes good what the embedded engine has lost, at a start and while pulse runs: parts and projections that a power cut or a bad disk has
//! damaged.
//!
//! Promises: nothing is loaded and, but for what mends it, nothing asked before that is done: rows may be missing, and parts without a
//! projection read as if they had none. Where it is cut short the next start looks again. May go wrong: it fails again and again; that is
//! said, the breaker stays held, and events are taken.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::holes::{self, HoleError};
use super::lag;
use crate::backoff::Backoff;
use crate::clickhouse::engine::Soundness;
use crate::clickhouse::{ClickHouse, ClickHouseError, Held};
use crate::failpoint;
use crate::log::Log;
use crate::store::books;
use crate::store::tables::{self, EVENTS, LackingProjection};

/// How long a start mends before it takes events: it is to be ready within ten seconds.
const QUICK: Duration = Duration::from_secs(5);
/// Between two attempts, and at least between two damages.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest pause that is added where damage is named again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Most damaged parts that are set aside in one attempt.
const MOST_DAMAGED: usize = 100;
/// Longest time to read how far the table is from all of its rows.
const READ_LIMIT: Duration = Duration::from_secs(600);

/// Mends the table of the embedded engine.
#[derive(Clone)]
pub(super) struct Mender {
    store: ClickHouse,
    soundness: Soundness,
    restarter: mpsc::Sender<oneshot::Sender<()>>,
    /// One mends at a time.
    turn: Arc<Mutex<()>>,
}

impl Mender {
    pub(super) fn new(store: ClickHouse, soundness: Soundness, restarter: mpsc::Sender<oneshot::Sender<()>>) -> Self {
        Self { store, soundness, restarter, turn: Arc::default() }
    }

    /// Refuses a log that ends before what the table has of it; waits until the engine answers. Of days on which parts lack the projection
    /// `places` all rows are read: by it such parts have none.
    pub(super) async fn check_end<L: Log>(&self, log: &L) -> Result<()> {
        let (server, table) = (self.store.migrator.with_timeout(READ_LIMIT), self.store.table(EVENTS.name()));
        let ask = || async {
            let lacking = tables::lacking_projections(&self.store).await?.into_iter();
            let lacking = lacking.filter(|lacking| lacking.table == EVENTS.name() && &*lacking.projection == "places");
            let days: Vec<String> = lacking.map(|lacking| lacking.partition).collect();
            match days.is_empty() {
                true => Ok(books::held(&server, &table).await?),
                false => Ok(books::held_without_places(&server, &table, &days).await?),
            }
        };
        let held = loop {
            match self.without_damage(ask).await {
                Err(HoleError::Store(problem)) if !problem.is_answer() => {
                    tracing::warn!(%problem, "the embedded engine does not answer yet: it is waited for");
                    tokio::time::sleep(AGAIN).await;
                }
                answered => break answered?,
            }
        };
        Ok(lag::refuse_lost_ends(log, held).await?)
    }

    /// Mends all. Nothing may load yet.
    pub(super) async fn mend<L: Log>(&self, log: &L) -> Result<(), HoleError> {
        let mend = || async {
            // First: nearly everything is looked up by projections, here too. Also where pulse ended the engine the last time: what the
            // kernel had not written by then may be gone since.
            rebuild_projections(&self.store).await.map_err(HoleError::Projections)?;
            if self.soundness.is_sound() { Ok(()) } else { holes::reopen(log, &self.store).await }
        };
        self.without_damage(mend).await?;
        self.soundness.assert();
        Ok(())
    }

    /// The same where that takes a moment. What is left is for [`Self::mended`], which is to be given the answer.
    pub(super) async fn mend_quickly<L: Log>(&self, log: &L) -> Option<Held> {
        match tokio::time::timeout(QUICK, self.mend(log)).await {
            Ok(Ok(())) => return None,
            Ok(Err(problem)) => tracing::error!(%problem, "mending the embedded engine's table"),
            // What it has begun goes on by itself, and is waited for when it is mended again.
            Err(_) => {}
        }
        tracing::warn!("the embedded engine's table is being mended: events are taken, and loaded once that is done");
        Some(self.store.breaker.hold())
    }

    /// Mends what [`Self::mend_quickly`] has left, again and again until that succeeds. Returns whether it did before the end was asked
    /// for.
    pub(super) async fn mended<L: Log>(self, log: L, held: Held, stop: CancellationToken) -> bool {
        let mending = async {
            loop {
                let turn = self.turn.lock().await;
                let Err(problem) = self.mend(&log).await else { break };
                drop(turn);
                tracing::error!(%problem, "mending the embedded engine's table: nothing is loaded before that is done");
                tokio::time::sleep(AGAIN).await;
            }
        };
        if stop.run_until_cancelled(mending).await.is_none() {
            return false;
        }
        held.release();
        tracing::info!("the embedded engine's table is whole again");
        true
    }

    /// Mends the table whenever the engine says that a part is damaged, until asked to stop.
    pub(super) async fn watch_damage<L: Log>(self, log: L, stop: CancellationToken) -> Result<(), Infallible> {
        let mut damage = self.store.breaker.damage();
        let mending = async {
            let (mut pauses, mut ended) = (Backoff::new(AGAIN, LONGEST_PAUSE), Instant::now());
            loop {
                let said = tokio::select! {
                    said = damage.wait_for(Option::is_some) => said.ok().and_then(|said| said.clone()),
                    // It has set parts aside when it was started again.
                    () = self.soundness.doubted() => None,
                };
                let held = self.store.breaker.hold();
                let turn = self.turn.lock().await;
                let message = said.unwrap_or_default();
                if message.is_empty() && self.soundness.is_sound() {
                    // Somebody else has mended it.
                    drop(turn);
                    held.release();
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                tracing::error!(
                    message,
                    "a part of the embedded engine, or a projection, is damaged: nothing is asked until that is mended"
                );
                if !message.is_empty() {
                    self.restart_engine().await;
                }
                while let Err(problem) = self.mend_damage(&log, &message).await {
                    tracing::error!(%problem, "mending the embedded engine's table");
                    tokio::time::sleep(AGAIN).await;
                }
                self.store.breaker.forget_damage();
                drop(turn);
                held.release();
                tracing::info!(
                    "the damage is mended: a part that was set aside is loaded again with the next record of its partition, a projection is made anew"
                );
                if ended.elapsed() > LONGEST_PAUSE {
                    pauses.reset();
                }
                // What is named again and again although nothing can be mended must not keep the engine from all else.
                tokio::time::sleep(AGAIN + pauses.next_pause()).await;
                ended = Instant::now();
            }
        };
        stop.run_until_cancelled(mending).await;
        stop.cancelled().await;
        Ok(())
    }

    /// Starts the engine anew, which ends all inserts and looks at every part. What it sets aside is missing from then on.
    async fn restart_engine(&self) {
        self.soundness.doubt();
        let (asked, back) = oneshot::channel();
        if self.restarter.send(asked).await.is_ok() {
            // An error: the engine is being ended.
            let _ = back.await;
        }
    }

    /// Sets aside what a message names, if the engine did not find that out, and mends the rest.
    async fn mend_damage<L: Log>(&self, log: &L, message: &str) -> Result<(), HoleError> {
        holes::set_aside(&self.store, message).await?;
        failpoint::point("mend.set_aside");
        self.mend(log).await
    }

    /// Does what damage may keep from being done: sets aside what an error names, and does it again.
    async fn without_damage<T, F>(&self, work: impl Fn() -> F) -> Result<T, HoleError>
    where
        F: Future<Output = Result<T, HoleError>>,
    {
        for _ in 0..MOST_DAMAGED {
            let problem = match work().await {
                Ok(done) => return Ok(done),
                Err(problem) => problem,
            };
            // What a part held that is set aside is missing until it is loaded again.
            let was_sound = self.soundness.is_sound();
            self.soundness.doubt();
            if !holes::set_aside(&self.store, &problem.to_string()).await? {
                if was_sound {
                    self.soundness.assert();
                }
                return Err(problem);
            }
        }
        Err(HoleError::TooMany(MOST_DAMAGED))
    }
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
