//! Saved cohorts: filters under a name, which filters of questions use as `{"cohort":"name"}`.
//!
//! A cohort is part of each question that names it, as if its filters were written there: a question about a cohort that has changed is
//! another question. Times in it are read in the zone of the question. A cohort cannot name another one.
//! **How fresh it is.** What was saved here is used by the next question here, and elsewhere within [`KEPT`].
//! **What it costs.** A question that names one makes the cohorts of its project be read at most once in [`KEPT`]; others cost nothing.
//! Bounds: [`MOST`] cohorts a project, [`MOST_NAMES`] names ever, [`MOST_BYTES`] each.
//! May go wrong: the store is away; then what was read last is used, else the question is refused (503).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::ask::filter::check_cohort;
use super::ask::{Cohorts, fields};
use super::error::QueryError;
use crate::clickhouse::ClickHouse;
use crate::event::ids::ProjectId;
use crate::store::tables::saved::{self, Saved, Shelf};

/// How long what was read is used.
const KEPT: Duration = Duration::from_secs(1);
/// Most cohorts of a project, and most names that it ever had.
const MOST: usize = 200;
const MOST_NAMES: usize = 2_000;
/// Longest definition.
pub(super) const MOST_BYTES: usize = 16 << 10;
/// Longest name.
const MOST_NAME: usize = 64;
/// How often a write without a condition is tried again when others write at the same moment.
const TRIES: usize = 5;

/// The cohorts of all projects.
pub(super) struct SavedCohorts {
    store: Option<ClickHouse>,
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

/// What must be so for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Anything.
    Anything,
    /// There is a cohort of this version.
    Version(u64),
    /// There is one.
    Some,
    /// There is none.
    None,
}

impl Expected {
    /// Whether it is so where there is `version`.
    fn is_met(self, version: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Version(expected) => version == Some(expected),
            Self::Some => version.is_some(),
            Self::None => version.is_none(),
        }
    }
}

impl SavedCohorts {
    pub(super) fn new(store: Option<ClickHouse>) -> Self {
        Self { store, projects: Mutex::default() }
    }

    /// The cohorts that the questions of `project` may name.
    pub(super) async fn of(&self, project: ProjectId) -> Result<Arc<Cohorts>, QueryError> {
        Ok(Arc::clone(&self.known(project, KEPT).await?.cohorts))
    }

    /// Names and versions of all cohorts of `project`.
    pub(super) async fn list(&self, project: ProjectId) -> Result<Value, QueryError> {
        let known = self.known(project, Duration::ZERO).await?;
        let live = known.saved.values().filter(|saved| !saved.body.is_empty());
        Ok(json!({"cohorts": live.map(|saved| json!({"name": saved.name, "version": saved.version})).collect::<Vec<_>>()}))
    }

    /// The version and the filters of a cohort.
    pub(super) async fn get(&self, project: ProjectId, name: &str) -> Result<(u64, Value), QueryError> {
        let known = self.known(project, Duration::ZERO).await?;
        match (known.saved.get(name), known.cohorts.get(name)) {
            (Some(saved), Some(filters)) => Ok((saved.version, json!({"name": name, "version": saved.version, "filters": filters}))),
            _ => Err(unknown(name)),
        }
    }

    /// Saves a cohort, or deletes it if there is no `body`; its version then.
    pub(super) async fn put(&self, project: ProjectId, write: Write<'_>, now_ms: i64) -> Result<u64, QueryError> {
        let Write { name, body, expected } = write;
        check_name(name)?;
        let body = body.map(|body| check(body, now_ms)).transpose()?.unwrap_or_default();
        for _ in 0..TRIES {
            let known = self.known(project, Duration::ZERO).await?;
            let (all, last) = (&known.saved, known.saved.get(name));
            let live = last.filter(|saved| !saved.body.is_empty());
            if !expected.is_met(live.map(|saved| saved.version)) {
                return Err(changed(live));
            }
            if body.is_empty() && live.is_none() {
                return Err(unknown(name));
            }
            let are_full =
                all.values().filter(|saved| !saved.body.is_empty()).count() >= MOST || (last.is_none() && all.len() >= MOST_NAMES);
            if live.is_none() && are_full {
                return Err(QueryError::invalid(
                    "too_many_cohorts",
                    format!("a project has at most {MOST} cohorts, and {MOST_NAMES} names ever"),
                ));
            }
            let saved = Saved { name: name.to_owned(), version: last.map_or(0, |saved| saved.version) + 1, body: body.clone() };
            if saved::put(self.store()?, shelf(project), &saved).await.map_err(|problem| QueryError::of_store(problem.class()))? {
                self.forget(project).await;
                return Ok(saved.version);
            }
        }
        Err(QueryError::unavailable("overloaded", "others write the same cohort at the same moment"))
    }

    fn store(&self) -> Result<&ClickHouse, QueryError> {
        self.store.as_ref().ok_or_else(|| QueryError::unavailable("store_unavailable", "nothing can be saved here"))
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
        let read = saved::all(self.store()?, shelf(project)).await.map_err(|problem| QueryError::of_store(problem.class()));
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

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) name: &'a str,
    /// The definition; none deletes it.
    pub(super) body: Option<&'a [u8]>,
    pub(super) expected: Expected,
}

fn shelf(project: ProjectId) -> Shelf {
    Shelf { project, kind: "cohort" }
}

fn unknown(name: &str) -> QueryError {
    QueryError::not_found("unknown_cohort", format!("there is no cohort `{}`", fields::shortened(name)))
}

fn changed(live: Option<&Saved>) -> QueryError {
    let is = live.map_or_else(|| "it does not exist".to_owned(), |saved| format!("its version is {}", saved.version));
    QueryError::conflict("version_mismatch", format!("the cohort is not what the request expects: {is}"))
}

/// Letters, digits, `.`, `_` and `-`: a name stands in paths.
fn check_name(name: &str) -> Result<(), QueryError> {
    let is_name = (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let message =
        || format!("a cohort's name has 1 to {MOST_NAME} letters, digits, `.`, `_` and `-`, and is not `{}`", fields::shortened(name));
    if is_name { Ok(()) } else { Err(QueryError::invalid("invalid_cohort", message())) }
}

/// The definition as it is saved.
fn check(body: &[u8], now_ms: i64) -> Result<String, QueryError> {
    let body = fields::parse(body)?;
    check_cohort(&body, now_ms)?;
    Ok(body.to_string())
}
