//! What the loader asks of the raw topic: which offsets there are. By it the first record that the table takes of a partition is
//! known to be the first, and a log that lost its end is known from one that is behind.

use super::home::PartitionKey;
use crate::log::{self, Log, LogError, Topic};

/// The raw topic as the loader sees it.
pub(super) trait RawLog: Send + Sync + 'static {
    /// First raw offset held of a partition of which the table has all below `next_offset`. An error if the log ends before that.
    fn first_held(&self, place: PartitionKey, next_offset: i64) -> impl Future<Output = Result<i64, LogError>> + Send;
}

impl<L: Log> RawLog for L {
    async fn first_held(&self, PartitionKey { epoch, partition }: PartitionKey, next_offset: i64) -> Result<i64, LogError> {
        if epoch != self.epoch() {
            // Of a log that is gone the enriched topic has all that there will ever be.
            return Ok(i64::MAX);
        }
        log::check_end(self, Topic::Raw, partition, next_offset).await?;
        Ok(self.bounds(Topic::Raw, partition).await?.start)
    }
}

/// A part of the raw topic that begins at an offset; where it ends is for others to know.
pub(super) struct Part {
    pub(super) start: i64,
}

impl RawLog for Part {
    async fn first_held(&self, _: PartitionKey, _: i64) -> Result<i64, LogError> {
        Ok(self.start)
    }
}
