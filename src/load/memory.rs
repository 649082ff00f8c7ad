//! What a partition remembers of what it has loaded, and how much that may be.

use super::dedupe::Dedupe;
use super::sessions::{NOBODY_MS, Sessions};
use crate::project::Projects;

/// What a partition may remember, and the rules of its sessions.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLimits {
    /// For telling new events from copies.
    pub(crate) dedupe_bytes: usize,
    pub(crate) max_visitors: usize,
    /// The rules of sessions, project by project.
    pub(crate) projects: Projects,
}

impl MemoryLimits {
    /// The share of one of `partitions`.
    pub(super) fn share(&self, partitions: u16) -> Self {
        let share = |whole: usize| whole.div_ceil(usize::from(partitions));
        Self { dedupe_bytes: share(self.dedupe_bytes), max_visitors: share(self.max_visitors), ..self.clone() }
    }

    /// Nothing remembered, of an empty table; nothing known of copies received before `reach_ms`.
    pub(super) fn nothing(&self, reach_ms: i64) -> Memory {
        let sessions = Sessions::new(self.projects.clone(), self.max_visitors, NOBODY_MS);
        Memory { dedupe: Dedupe::new(64, reach_ms), sessions }
    }
}

/// What a partition remembers of what it has loaded.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) dedupe: Dedupe,
    pub(super) sessions: Sessions,
}
