//! Where the events come from that questions are about, and what is known beside them.

use std::sync::Arc;

use serde_json::Value;

use super::cache::SharedCache;
use super::pending::PendingEvents;
use crate::clickhouse::ClickHouse;
use crate::event::ids::ProjectId;
use crate::project::Projects;
use crate::store::data_version::DataVersions;

/// The latencies that the loader of this process has measured of a project, as the ledger shows them.
pub type LoadLatency = Arc<dyn Fn(ProjectId) -> Value + Send + Sync>;

/// Which processes load the events that the reports read.
pub enum LoadedBy {
    /// This process alone: it knows of every block.
    ThisProcess(Arc<DataVersions>),
    /// Other processes too: the books are watched. Answers may be shared with them through a cache.
    Fleet(Arc<DataVersions>, Option<Arc<dyn SharedCache>>),
}

/// Where the events come from.
pub struct Sources {
    /// Which processes load them.
    pub loaded_by: LoadedBy,
    /// What the log holds that is not loaded yet; without it nothing ever waits.
    pub pending: Option<Arc<dyn PendingEvents>>,
    /// Shown by the ledger.
    pub latency: Option<LoadLatency>,
    /// Where cohorts and boards are saved and single events looked up; without it there are none.
    pub saved: Option<ClickHouse>,
    /// Where it stands which ids belong to one person; without it every id is a person.
    pub identities: Option<ClickHouse>,
    /// What is set for single projects.
    pub projects: Projects,
}

impl From<LoadedBy> for Sources {
    fn from(loaded_by: LoadedBy) -> Self {
        Self { loaded_by, pending: None, latency: None, saved: None, identities: None, projects: Projects::default() }
    }
}
