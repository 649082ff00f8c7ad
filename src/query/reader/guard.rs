//! How much may run at once, over all and by project, so that the dashboards of one project do not starve the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::memory::{Held, Memory};
use crate::byte_size::written;
use crate::event::ids::ProjectId;
use crate::query::error::QueryError;

/// Least [`QueryConfig::max_memory`].
const LEAST_MEMORY: u64 = 16 << 20;

/// `[query]` as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Queries that may run at once.
    pub max_running: usize,
    /// Queries of one project that may run at once.
    pub max_running_per_project: usize,
    /// How long a query waits for its turn before it is refused.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// Longest time of one question, its turn and all its statements together.
    #[serde(with = "humantime_serde")]
    pub max_time: Duration,
    /// How long after its receipt an event may still be on its way into the log: an export ends that long before `data_through`.
    #[serde(with = "humantime_serde")]
    pub export_delay: Duration,
    /// Bytes that questions may hold in this process at once, one of them half of it.
    #[serde(with = "crate::byte_size")]
    pub max_memory: u64,
    /// Cores that one question may keep busy over a minute while events stream in; heavier ones are computed less often.
    pub max_cores_per_question: f64,
    /// Bytes of answers kept; 0 keeps none.
    #[serde(with = "crate::byte_size")]
    pub cache_bytes: u64,
    /// Whether `POST /mcp` answers agents.
    pub mcp: bool,
    /// Whether `POST /v1/query/sql` answers statements that somebody wrote; with a server of one's own it needs `clickhouse.sql_user`.
    pub sql: bool,
}

impl Default for QueryConfig {
    fn default() -> Self {
        // Each query uses several threads of the store; 16 at once keep it busy without queueing inside it.
        Self {
            max_running: 16,
            max_running_per_project: 8,
            max_wait: Duration::from_secs(5),
            max_time: Duration::from_secs(30),
            export_delay: Duration::from_secs(60),
            max_memory: 1 << 30,
            max_cores_per_question: 0.05,
            cache_bytes: 64 << 20,
            mcp: false,
            sql: false,
        }
    }
}

/// The checked form of [`QueryConfig`].
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    running: usize,
    running_per_project: usize,
    wait: Duration,
    pub(crate) time: Duration,
    pub(crate) export_delay: Duration,
    pub(crate) memory: u64,
    pub(crate) cores_per_question: f64,
    pub(crate) cache_bytes: u64,
    pub(crate) sql: bool,
}

impl Default for QueryLimits {
    fn default() -> Self {
        QueryConfig::default().unchecked()
    }
}

impl QueryConfig {
    /// Checks the section.
    ///
    /// # Errors
    /// The key and value that make no sense.
    pub fn check(self) -> Result<QueryLimits, String> {
        for (key, value) in [("max_running", self.max_running), ("max_running_per_project", self.max_running_per_project)] {
            if !(1..=10_000).contains(&value) {
                return Err(format!("query.{key} = {value}: must be from 1 to 10000"));
            }
        }
        if self.max_time.is_zero() {
            return Err("query.max_time = 0s: no question could be answered".to_owned());
        }
        if self.max_memory < LEAST_MEMORY {
            let memory = written(self.max_memory);
            return Err(format!("query.max_memory = {memory}: must be at least 16MiB, or no funnel could be folded"));
        }
        if !(0.001..=100.0).contains(&self.max_cores_per_question) {
            return Err(format!("query.max_cores_per_question = {}: must be from 0.001 to 100", self.max_cores_per_question));
        }
        Ok(self.unchecked())
    }

    fn unchecked(self) -> QueryLimits {
        QueryLimits {
            running: self.max_running,
            running_per_project: self.max_running_per_project,
            wait: self.max_wait,
            time: self.max_time,
            export_delay: self.export_delay,
            memory: self.max_memory,
            cores_per_question: self.max_cores_per_question,
            cache_bytes: self.cache_bytes,
            sql: self.sql,
        }
    }
}

/// Hands out permits and memory.
pub(crate) struct Guard {
    limits: QueryLimits,
    memory: Memory,
    all: Arc<Semaphore>,
    // One entry a project that ever asked: projects come from keys, so there are as few as those.
    projects: Mutex<HashMap<ProjectId, Arc<Semaphore>>>,
}

/// The right to be one of the running queries, given back when dropped.
pub(crate) struct QueryPermit {
    _all: OwnedSemaphorePermit,
    _project: OwnedSemaphorePermit,
}

impl Guard {
    pub(crate) fn new(limits: QueryLimits) -> Self {
        Self { limits, memory: Memory::new(limits.memory), all: Arc::new(Semaphore::new(limits.running)), projects: Mutex::default() }
    }

    /// Memory of a new question.
    pub(crate) fn memory(&self) -> Held {
        self.memory.question()
    }

    /// One beside this, of `most` permits, which any project may have.
    pub(crate) fn apart(&self, most: usize) -> Self {
        Self::new(QueryLimits { running: most, running_per_project: most, ..self.limits })
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// 429 `too_many_queries` (this project), 503 `overloaded` (all).
    pub(crate) async fn enter(&self, project: ProjectId) -> Result<QueryPermit, QueryError> {
        let own = {
            let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(projects.entry(project).or_insert_with(|| Arc::new(Semaphore::new(self.limits.running_per_project))))
        };
        let project = self.permit(own).await.ok_or_else(QueryError::too_many)?;
        let all = self.permit(Arc::clone(&self.all)).await;
        let all = all.ok_or_else(|| QueryError::unavailable("overloaded", "too many queries are running"))?;
        Ok(QueryPermit { _all: all, _project: project })
    }

    async fn permit(&self, semaphore: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(self.limits.wait, semaphore.acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_permits_apart_takes_none_of_the_others_and_leaves_none_to_them() {
        let guard = Guard::new(QueryConfig { max_running: 2, ..QueryConfig::default() }.unchecked());
        let (apart, project) = (guard.apart(1), ProjectId(1));
        let people = [guard.enter(project).await, guard.enter(project).await];
        assert!(people.iter().all(Result::is_ok));
        let rule = apart.enter(project).await;
        assert!(rule.is_ok(), "people have all of theirs");
        assert!(guard.enter(project).await.is_err_and(|problem| problem.is_overload()));
        assert!(apart.enter(ProjectId(2)).await.is_err_and(|problem| problem.is_overload()));
        drop(people);
        assert!(guard.enter(project).await.is_ok(), "while the rule still has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_told_to_come_back_once_it_has_waited_and_takes_the_place_of_no_other_project() {
        let guard = Guard::new(QueryConfig::default().unchecked());
        let crowd = |projects: u64, each: u64| {
            let asked = (0..projects * each).map(|number| guard.enter(ProjectId(1 + number % projects)));
            futures_util::future::join_all(asked)
        };
        let of = |entered: &[Result<QueryPermit, QueryError>], code: &str| {
            entered
                .iter()
                .filter(|entered| entered.as_ref().is_err_and(|problem| problem.code == code && problem.retry_after == Some(1)))
                .count()
        };
        let began = tokio::time::Instant::now();
        let one = crowd(1, 100).await;
        assert_eq!((of(&one, "too_many_queries"), began.elapsed()), (92, Duration::from_secs(5)));
        // What the crowd has is not all there is.
        assert!(guard.enter(ProjectId(2)).await.is_ok());
        drop(one);
        let many = crowd(250, 4).await;
        assert_eq!((of(&many, "overloaded"), of(&many, "too_many_queries")), (984, 0));
        assert_eq!(many.iter().filter(|entered| entered.is_ok()).count(), 16);
    }
}
