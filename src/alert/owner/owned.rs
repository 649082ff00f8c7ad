//! A rule as its owner has it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::alert::catalogue::KnownRule;
use crate::alert::judge::RuleState;
use crate::store::data_version::Version;

/// A rule with its state.
pub(super) struct Owned {
    pub(super) known: Arc<KnownRule>,
    pub(super) state: RuleState,
    /// Whether it is asked about, or what came of that is not written yet.
    pub(super) is_busy: bool,
    /// Since when it waits for others that are asked about before it.
    pub(super) queued: Option<Instant>,
    /// Not before this it is asked again.
    pub(super) not_before: Instant,
    /// What its question was refused for, if that was no fault of it: too much else goes on, or the store is away.
    pub(super) held_up: Option<String>,
    /// Times in a row that this was so.
    pub(super) refusals: u32,
    /// When slots were last judged again, and what had arrived by then; nothing is known of what arrived before somebody owned it.
    pub(super) revised: Instant,
    pub(super) arrived: Option<Version>,
    /// The first quarter of an hour that was passed over then, since it was going on.
    pub(super) left_for_later: Option<u32>,
    pub(super) repeated: Instant,
    /// Since when this instance knows of it.
    pub(super) since_ms: i64,
    /// Whether the clock was set forward since it was last held against it.
    pub(super) has_leapt: bool,
}

impl Owned {
    pub(super) fn new(known: Arc<KnownRule>, state: RuleState, since_ms: i64) -> Self {
        let now = Instant::now();
        Self {
            since_ms,
            known,
            state,
            is_busy: false,
            queued: None,
            not_before: now,
            held_up: None,
            refusals: 0,
            revised: now,
            arrived: None,
            left_for_later: None,
            repeated: now,
            has_leapt: false,
        }
    }
}
