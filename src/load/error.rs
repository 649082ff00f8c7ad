//! Why the event table did not do what the loader asked.

use crate::clickhouse::{ClickHouseError, Retry};

/// Why the table did not do it.
#[derive(Clone, Debug)]
pub(super) enum TableError {
    /// The same may succeed later.
    Later(String),
    /// The same may succeed later, and it is certain that nothing of the block will be stored by this attempt.
    Refused(String),
    /// As [`Self::Refused`], for want of memory: what is smaller may succeed at once.
    TooLarge(String),
    /// Another owner has the partition.
    Fenced,
    /// An operator must act.
    Stop(String),
}

impl TableError {
    /// Whether the insert has ended for certain, without anything stored by it later.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::TooLarge(_))
    }
}

impl From<ClickHouseError> for TableError {
    fn from(error: ClickHouseError) -> Self {
        let class = error.class();
        match class.retry() {
            Retry::Fenced => Self::Fenced,
            Retry::Later if class.is_of_memory() => Self::TooLarge(error.to_string()),
            Retry::Later if class.is_nothing_stored() => Self::Refused(error.to_string()),
            Retry::Later => Self::Later(error.to_string()),
            Retry::Stop => Self::Stop(error.to_string()),
        }
    }
}
