//! What the loader asks of the raw topic: which offsets it holds. With that the loader recognizes the first record of a partition
//! as the first, and tells a log that has lost its end from one that is behind.

use crate::log::{self, Log, LogError, Topic};
use crate::store::books::PartitionKey;

/// The raw topic as the loader sees it.
pub(super) trait RawBounds: Send + Sync + 'static {
    /// First raw offset held of a partition of which the table has all below `next_offset`. An error if the log ends before that.
    fn first_held(&self, key: PartitionKey, next_offset: i64) -> impl Future<Output = Result<i64, LogError>> + Send;
}

impl<L: Log> RawBounds for L {
    async fn first_held(&self, PartitionKey { epoch, partition }: PartitionKey, next_offset: i64) -> Result<i64, LogError> {
        if epoch != self.epoch() {
            // Of a log that is gone the enriched topic has all that there will ever be.
            return Ok(i64::MAX);
        }
        log::check_end(self, Topic::Raw, partition, next_offset).await?;
        Ok(self.bounds(Topic::Raw, partition).await?.start)
    }
}

/// A part of the raw topic that begins at an offset and whose end does not matter.
pub(super) struct StartsAt {
    pub(super) start: i64,
}

impl RawBounds for StartsAt {
    async fn first_held(&self, _: PartitionKey, _: i64) -> Result<i64, LogError> {
        Ok(self.start)
    }
}
