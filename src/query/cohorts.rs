//! Saved cohorts: filters under a name, which filters of questions use as `{"cohort":"name"}`.
//!
//! A cohort is part of each question that names it, as if its filters were written there: a question about a cohort that has changed is
//! another question. Times in it are read in the zone of the question. A cohort cannot name another one.
//! **How fresh it is.** What was saved here is used by the next question here, and elsewhere within [`KEPT`].
//! **What it costs.** A question that names one makes the cohorts of its project be read at most once in [`KEPT`]; others cost nothing.
//! Bounds: those of [`COHORT`], and [`MOST_BYTES`] each.
//! May go wrong: the store is away; then what was read last is used, else the question is refused (503).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::ask::filter::check_cohort;
use super::ask::{Cohorts, fields};
use super::error::QueryError;
use super::saved::{Kind, SavedThings, Write};
use crate::event::ids::ProjectId;
use crate::store::tables::saved::Saved;

/// How long what was read is used.
const KEPT: Duration = Duration::from_secs(1);
/// Filters under a name.
const COHORT: Kind = Kind {
    word: "cohort",
    invalid: "invalid_cohort",
    unknown: "unknown_cohort",
    too_many: "too_many_cohorts",
    most: 200,
    most_names: 2_000,
};
/// Longest definition.
pub(super) const MOST_BYTES: usize = 16 << 10;

/// The cohorts of all projects.
pub(super) struct SavedCohorts {
    saved: SavedThings,
    // One entry a project that ever named a cohort: projects come from keys, so there are as few as those.
    projects: Mutex<HashMap<ProjectId, Slot>>,
}

/// What is known of a project; held while it is read, so that those who come meanwhile wait for the same.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Known>>>>;

/// What was read of a project.
struct Known {
    at: Instant,
    /// By name, what is deleted too.
    saved: BTreeMap<String, Saved>,
    cohorts: Arc<Cohorts>,
}

impl SavedCohorts {
    pub(super) fn new(saved: SavedThings) -> Self {
        Self { saved, projects: Mutex::default() }
    }

    /// The cohorts that the questions of `project` may name.
    pub(super) async fn of(&self, project: ProjectId) -> Result<Arc<Cohorts>, QueryError> {
        Ok(Arc::clone(&self.known(project, KEPT).await?.cohorts))
    }

    /// Names and versions of all cohorts of `project`.
    pub(super) async fn list(&self, project: ProjectId) -> Result<Value, QueryError> {
        let known = self.known(project, Duration::ZERO).await?;
        let live = known.saved.values().filter(|saved| !saved.body.is_empty());
        let listed = live.map(|saved| json!({"name": saved.name, "version": saved.version, "file": saved.file(), "by": saved.writer()}));
        Ok(json!({"cohorts": listed.collect::<Vec<_>>()}))
    }

    /// The version and the filters of a cohort.
    pub(super) async fn get(&self, project: ProjectId, name: &str) -> Result<(u64, Value), QueryError> {
        let known = self.known(project, Duration::ZERO).await?;
        match (known.saved.get(name), known.cohorts.get(name)) {
            (Some(saved), Some(filters)) => {
                let Saved { version, .. } = saved;
                Ok((*version, json!({"name": name, "version": version, "filters": filters, "file": saved.file(), "by": saved.writer()})))
            }
            _ => Err(COHORT.unknown(name)),
        }
    }

    /// Saves a cohort, or deletes it if there is no `body`; its version then.
    pub(super) async fn put(&self, project: ProjectId, write: Write<'_>, now_ms: i64) -> Result<u64, QueryError> {
        if let Some(body) = write.body {
            check_cohort(&fields::parse(body.as_bytes())?, now_ms)?;
        }
        let version = self.saved.put(&COHORT, project, write).await?;
        self.forget(project).await;
        Ok(version)
    }

    fn slot(&self, project: ProjectId) -> Slot {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(projects.entry(project).or_default())
    }

    async fn forget(&self, project: ProjectId) {
        *self.slot(project).lock().await = None;
    }

    /// What is saved, read no longer ago than `within`.
    async fn known(&self, project: ProjectId, within: Duration) -> Result<Arc<Known>, QueryError> {
        let slot = self.slot(project);
        let mut slot = slot.lock().await;
        if let Some(known) = slot.as_ref().filter(|known| known.at.elapsed() < within) {
            return Ok(Arc::clone(known));
        }
        let read = self.saved.all(&COHORT, project).await;
        match (read, slot.as_ref()) {
            (Ok(saved), _) => Ok(Arc::clone(slot.insert(Arc::new(Known::of(saved))))),
            // A question may do with what was read before, as it may with an older answer.
            (Err(_), Some(known)) if !within.is_zero() => Ok(Arc::clone(known)),
            (Err(problem), _) => Err(problem),
        }
    }
}

impl Known {
    fn of(saved: Vec<Saved>) -> Self {
        let filters = |saved: &Saved| Some((saved.name.clone(), fields::parse(saved.body.as_bytes()).ok()?.get("filters")?.clone()));
        let cohorts = saved.iter().filter_map(filters).collect();
        let saved = saved.into_iter().map(|saved| (saved.name.clone(), saved)).collect();
        Self { at: Instant::now(), saved, cohorts: Arc::new(cohorts) }
    }
}
