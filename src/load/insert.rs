//! One insert of a block: tried until the table has it, or it is certain that another owner has loaded.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::block::Sealed;
use super::error::TableError;
use super::refusals::Refusals;
use super::table::Table;
use crate::backoff::Backoff;
use crate::metrics::Counter;
use crate::store::fence::NO_GENERATION;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a block is refused for want of memory before it is cut: what else the server is doing may soon be over.
const TRIES_WHOLE: u32 = 3;

/// How an insert ended.
pub(super) enum Inserted {
    /// The table has the block as its last one; `generation` holds the fence.
    Stored { sealed: Sealed, generation: u64 },
    /// Another owner has loaded meanwhile: all that is known must be read again.
    Overlap,
    /// The server has no memory for a block of several records again and again, and nothing of it is stored: the same records are to be
    /// read again, and to come in smaller blocks.
    TooLarge,
    /// In doubt: pulse is to stop and the table does not answer. The log has the rows, and the next owner looks at the table.
    Abandoned,
}

/// A running insert.
pub(super) type Inserting = Pin<Box<dyn Future<Output = Inserted> + Send>>;

/// A block that is to be inserted, where, and under which generation of the fence.
pub(super) struct Insertion<T> {
    pub(super) table: T,
    pub(super) sealed: Sealed,
    pub(super) generation: u64,
}

/// Inserts a block until the table has it. After any doubt: fence, look, and only then insert again. Where anyone else has taken the
/// fence, to load or to say something of sessions that are stored, what this worker remembers is out of date. Where it is certain that nothing
/// of the block is stored or still running ([`TableError::is_over`]), a look is enough.
pub(super) async fn insert<T: Table>(insertion: Insertion<T>, mut pause: Pause, stop: CancellationToken) -> Inserted {
    let Insertion { table, sealed, mut generation } = insertion;
    let mut too_large = 0;
    loop {
        let Err(mut problem) = table.insert(&sealed, generation).await else { return Inserted::Stored { sealed, generation } };
        let is_over = problem.is_over();
        too_large += u32::from(matches!(problem, TableError::TooLarge(_)));
        if too_large >= TRIES_WHOLE && sealed.first_offset < sealed.last_offset {
            tracing::warn!(partition = sealed.partition, ?problem, "a block is too large for the server's memory: loading in smaller ones");
            return Inserted::TooLarge;
        }
        loop {
            if stop.is_cancelled() {
                tracing::warn!(partition = sealed.partition, ?problem, "insert abandoned to stop: the log has its events");
                return Inserted::Abandoned;
            }
            pause.after(&problem, sealed.partition, stop.cancelled()).await;
            let looked = if is_over {
                table.highest(sealed.key()).await.map(|highest| (generation, highest))
            } else {
                match table.owner(sealed.key()).await {
                    Ok(owner) if owner != generation && owner != NO_GENERATION => return Inserted::Overlap,
                    // Another block of its group was refused. The fence is still ours and is not taken again, so that the table refuses
                    // the block if somebody takes it now.
                    Ok(owner) if owner == generation && matches!(problem, TableError::Fenced) => {
                        table.highest(sealed.key()).await.map(|highest| (generation, highest))
                    }
                    Ok(_) => table.take_fence(sealed.key()).await,
                    Err(problem) => Err(problem),
                }
            };
            match looked {
                Ok((taken, Some(highest))) if highest == sealed.last_offset => return Inserted::Stored { sealed, generation: taken },
                // Another owner got further, or cut the log into other blocks: what this worker remembers is out of date.
                Ok((_, Some(highest))) if highest >= sealed.first_offset => return Inserted::Overlap,
                // The table has lost or been given other rows meanwhile: this block would leave a hole before it.
                Ok((_, highest)) if highest.unwrap_or(-1) < sealed.previous => return Inserted::Overlap,
                Ok((taken, _)) => {
                    generation = taken;
                    break;
                }
                Err(again) => problem = again,
            }
        }
    }
}

/// Waits between attempts, longer each time, and has the log say what kind of trouble it is.
pub(super) struct Pause {
    backoff: Backoff,
    refusals: Arc<Refusals>,
}

impl Default for Pause {
    fn default() -> Self {
        Self::new(&Arc::default())
    }
}

impl Pause {
    pub(super) fn new(refusals: &Arc<Refusals>) -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), refusals: Arc::clone(refusals) }
    }

    /// Waits, or until `ends`: a worker that is to stop tries once more at once.
    pub(super) async fn after(&mut self, problem: &TableError, partition: u16, ends: impl Future<Output = ()>) {
        Counter::LoadRetries.add(1);
        self.refusals.note(problem, partition);
        let _ = tokio::time::timeout(self.backoff.next_pause(), ends).await;
    }
}

/// Waits for an insert; forever if there is none.
pub(super) async fn wait(inserting: &mut Option<Inserting>) -> Inserted {
    match inserting {
        Some(insert) => insert.await,
        None => std::future::pending().await,
    }
}
