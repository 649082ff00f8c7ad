//! A time in which a worker owns its partition: from the fence it takes to the one that somebody else takes.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::event::ids::LogEpoch;
use crate::load::insert::Inserting;
use crate::load::memory::{Memory, MemoryLimits};
use crate::log::Record;

/// What a worker knows once it has taken the fence.
pub(super) struct Ownership {
    pub(super) epoch: Option<LogEpoch>,
    pub(super) generation: u64,
    /// Highest raw offset that is in the table or on its way.
    pub(super) highest: Option<i64>,
    /// First raw offset held: where a table begins that has nothing.
    pub(super) first_raw: i64,
    pub(super) memory: Memory,
    pub(super) inserting: Option<Inserting>,
    /// Records read but not yet in a block.
    pub(super) pending: VecDeque<Record>,
    pub(super) has_warned_of_gap: bool,
    /// When to check again whether the gap is still there.
    pub(super) gap_poll_at: Option<Instant>,
    /// Whether reading went back to the first record held, because the committed offset did not fit the table.
    pub(super) is_rewound: bool,
    /// Whether a record was taken.
    pub(super) has_taken: bool,
}

impl Ownership {
    /// Before the fence is taken.
    pub(super) fn new(limits: &MemoryLimits) -> Self {
        Self {
            epoch: None,
            generation: 0,
            highest: None,
            first_raw: 0,
            memory: limits.nothing(i64::MIN),
            inserting: None,
            pending: VecDeque::new(),
            has_warned_of_gap: false,
            gap_poll_at: None,
            is_rewound: false,
            has_taken: false,
        }
    }
}
