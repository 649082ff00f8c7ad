//! What a run works with, and who watches it.

use tokio_util::sync::CancellationToken;

use crate::clickhouse::ClickHouse;

/// The log that is read again, and the store that the work goes to.
#[derive(Clone)]
pub struct LogAndStore<L> {
    /// The log.
    pub log: L,
    /// The store.
    pub store: ClickHouse,
}

/// Ends a run early, and is told how far it is.
#[derive(Clone)]
pub struct Control<P> {
    /// Cancelled when the run is to end.
    pub stop: CancellationToken,
    /// Is told how much is done, and how much there is in all.
    pub progress: P,
}
