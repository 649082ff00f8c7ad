//! The query role: reports over the event table.
//!
//! A request goes through `request` (wire) → plan (checked) → `sql` (bound values) → `run` (guarded) → fold → answer; one
//! file a report. Promises: whatever comes in, the SQL text consists of constants and every value is a server-side
//! parameter; every statement of events is limited to one project and one time range; no answer holds SQL or a host; a question
//! has one deadline, however many statements it takes.
//! May go wrong: the request is refused (4xx), the store is away or too busy (503), the query is too dear (422, 504).

mod cache;
mod data_through;
pub mod dead_letters;
pub mod error;
mod event_id;
mod events;
mod field;
mod filter;
mod formula;
mod freshness;
pub mod guard;
pub mod ledger;
pub mod limits;
mod meta;
mod number;
mod properties;
mod request;
pub mod run;
pub mod sql;
pub mod store;
mod time;
mod trends;
mod users;

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3Default;

pub use self::cache::SharedCache;
use self::cache::SharedSlot;
use self::cache::{Cache, CacheRequest, Computed, Key, Reach};
use self::data_through::DataThrough;
pub use self::error::QueryError;
use self::freshness::FreshnessWatcher;
use self::guard::Guard;
pub use self::guard::{QueryConfig, QueryLimits};
use self::ledger::pending::PendingEvents;
use self::run::StatementRunner;
pub use self::run::{Answer, Run};
pub use self::sql::Statement;
use self::time::Range;
use crate::clickhouse::Arrivals;
use crate::event::ids::ProjectId;

/// How often questions are looked for whose answers are refreshed before somebody waits for them, and how many at a time: one
/// after the other, so that they never take more than one place.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_QUESTIONS: usize = 16;
/// What a question is told apart by, besides itself: another release may answer it otherwise.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Answers the reports of every project. Cheap to clone.
pub struct Queries<R>(Arc<Inner<R>>);

impl<R> Clone for Queries<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<R> {
    run: R,
    deadline: Duration,
    guard: Guard,
    cache: Arc<Cache>,
    data_through: DataThrough,
    freshness: Option<FreshnessWatcher>,
    shared_cache: Option<Arc<dyn SharedCache>>,
}

/// Which processes load the events that the reports read.
pub enum LoadedBy {
    /// This process alone: it knows of every block.
    ThisProcess(Arc<Arrivals>),
    /// Other processes too: the books are watched. Answers may be shared with them through a cache.
    Fleet(Arc<Arrivals>, Option<Arc<dyn SharedCache>>),
}

/// What is known of the events that are read.
pub struct Sources {
    /// Which processes load them.
    pub loaded_by: LoadedBy,
    /// What the log holds that is not loaded yet; without it nothing ever waits.
    pub pending: Option<Arc<dyn PendingEvents>>,
}

impl From<LoadedBy> for Sources {
    fn from(loaded_by: LoadedBy) -> Self {
        Self { loaded_by, pending: None }
    }
}

impl<R: Run> Queries<R> {
    /// Answers through `run`, within `limits`; what is kept is given as long as `sources` know of nothing newer.
    pub fn new(run: R, limits: QueryLimits, sources: impl Into<Sources>) -> Self {
        let Sources { loaded_by, pending } = sources.into();
        let (arrivals, freshness, shared_cache) = match loaded_by {
            LoadedBy::ThisProcess(arrivals) => (arrivals, None, None),
            LoadedBy::Fleet(arrivals, shared) => (Arc::clone(&arrivals), Some(FreshnessWatcher::new(arrivals)), shared),
        };
        let cache = Arc::new(Cache::new(limits.cache_bytes, arrivals));
        let (deadline, data_through) = (limits.time, DataThrough::new(pending));
        Self(Arc::new(Inner { run, deadline, guard: Guard::new(limits), cache, data_through, freshness, shared_cache }))
    }

    /// Answers `report` for `project` at `now_ms` (milliseconds since 1970): `body` is the JSON request, the result the JSON answer
    /// with `result` and `meta`. A member `"refresh": true` of any request computes the answer anew.
    ///
    /// # Errors
    /// As [`QueryError`] describes; 404 `unknown_report` for a report that is not there.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the running statement and gives its place back, unless others wait for the same answer.
    pub async fn answer(&self, project: ProjectId, report: &str, body: &[u8], now_ms: i64) -> Result<Vec<u8>, QueryError> {
        let began = Instant::now();
        let mut question = request::parse(body)?;
        let refresh = request::take_refresh(&mut question)?;
        let plan = Report::parse(project, report, &question, now_ms)?;
        if let Some(freshness) = &self.0.freshness {
            freshness.poll(&self.0.run, now_ms).await;
        }
        let request = CacheRequest {
            key: Key { project, plan: plan.fingerprint(RELEASE) },
            reach: Reach::of(&plan.ranges(), now_ms),
            report,
            body,
            refresh,
            keep: plan.is_kept(),
        };
        let shared = self.0.shared_slot(&request);
        let inner = Arc::clone(&self.0);
        let computation = Computation { project, plan, now_ms, shared };
        let served = self.0.cache.answer(request, || inner.compute(computation)).await?;
        Ok(meta::write(&served, now_ms, began.elapsed()))
    }

    /// Refreshes what is asked most, so that nobody waits for it; until asked to stop.
    pub async fn keep_fresh(self, now_ms: impl Fn() -> i64, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(SWEEP) => {}
            }
            for question in self.0.cache.popular(SWEEP, SWEEP_QUESTIONS) {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = self.renew(&question, now_ms()) => {}
                }
            }
        }
    }

    async fn renew(&self, question: &cache::Question, now_ms: i64) {
        let project = question.key.project;
        let renewed = async {
            let mut body = request::parse(&question.body)?;
            request::take_refresh(&mut body)?;
            let plan = Report::parse(project, &question.report, &body, now_ms)?;
            let (key, reach) = (Key { project, plan: plan.fingerprint(RELEASE) }, Reach::of(&plan.ranges(), now_ms));
            let request = CacheRequest { key, reach, report: &question.report, body: &question.body, refresh: true, keep: true };
            let inner = Arc::clone(&self.0);
            let computation = Computation { project, plan, now_ms, shared: None };
            self.0.cache.answer(request, || inner.compute(computation)).await
        };
        if let Err(problem) = renewed.await {
            tracing::debug!(%problem, "background refresh");
        }
    }
}

/// A question that is not answered from what is kept.
struct Computation {
    project: ProjectId,
    plan: Report,
    now_ms: i64,
    shared: Option<SharedSlot>,
}

impl<R: Run> Inner<R> {
    /// The slot of the answer to `request` in the shared cache, if there is one.
    fn shared_slot(&self, request: &CacheRequest<'_>) -> Option<SharedSlot> {
        let (Some(cache), Some(freshness), true) = (&self.shared_cache, &self.freshness, request.keep) else { return None };
        let project = request.key.project;
        let key = format!("answer:{:x}:{:x}:{:x}", project.0, request.key.plan, freshness.version(project));
        Some(SharedSlot { cache: Arc::clone(cache), key, refresh: request.refresh })
    }

    async fn compute(self: Arc<Self>, asked: Computation) -> Result<Computed, QueryError> {
        if let Some(computed) = SharedSlot::find(asked.shared.as_ref(), asked.now_ms).await {
            return Ok(computed);
        }
        // One deadline for all that the question takes, its turn included.
        let computed = tokio::time::timeout(self.deadline, self.run(&asked)).await.unwrap_or_else(|_| Err(QueryError::too_slow()))?;
        if let Some(shared) = asked.shared {
            shared.put(&computed);
        }
        Ok(computed)
    }

    async fn run(&self, asked: &Computation) -> Result<Computed, QueryError> {
        let _permit = self.guard.enter(asked.project).await?;
        // Before the first statement: whatever was loaded by then, they all see.
        let data_through_ms = self.data_through.at(&self.run, asked.now_ms).await;
        let mut runner = StatementRunner::new(&self.run, asked.now_ms);
        let result = Bytes::from(asked.plan.answer(&mut runner).await?);
        let (rows_read, is_sampled) = (runner.rows_read(), runner.is_sampled());
        Ok(Computed { result, computed_ms: asked.now_ms, data_through_ms, rows_read, is_sampled, shared_for: None })
    }
}

/// A checked request of any report. Its hash is the question: what is the same there has the same answer, at any time.
#[derive(Debug, Hash)]
enum Report {
    Trends(trends::Plan),
    Events(events::Plan),
    Users(users::Plan),
    Properties(properties::Plan),
}

impl Report {
    fn parse(project: ProjectId, report: &str, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        match report {
            "trends" => trends::Plan::parse(project, body, now_ms).map(Self::Trends),
            "events" => events::Plan::parse(project, body, now_ms).map(Self::Events),
            "users" => users::Plan::parse(project, body, now_ms).map(Self::Users),
            "properties" => properties::Plan::parse(project, body, now_ms).map(Self::Properties),
            other => Err(QueryError {
                status: 404,
                code: "unknown_report",
                message: format!("there is no report `{}`", request::shortened(other)),
                retry_after: None,
            }),
        }
    }

    /// What tells the question apart from all others of its project, in this and every other process of `release`.
    fn fingerprint(&self, release: &str) -> u128 {
        let mut hash = QuestionHash(Xxh3Default::new());
        (release, self).hash(&mut hash);
        hash.0.digest128()
    }

    /// The ranges that the answer depends on.
    fn ranges(&self) -> Vec<&Range> {
        match self {
            Self::Trends(plan) => plan.ranges().collect(),
            Self::Events(plan) => vec![&plan.range],
            Self::Users(plan) => plan.ranges(),
            Self::Properties(plan) => vec![&plan.range],
        }
    }

    /// Whether its answers are kept: the newest events never are, whoever looks for one wants to see it come.
    const fn is_kept(&self) -> bool {
        !matches!(self, Self::Events(_))
    }

    async fn answer<R: Run>(&self, runner: &mut StatementRunner<'_, R>) -> Result<Vec<u8>, QueryError> {
        match self {
            Self::Trends(plan) => trends::answer(plan, runner).await,
            Self::Events(plan) => events::answer(plan, runner).await,
            Self::Users(plan) => users::answer(plan, runner).await,
            Self::Properties(plan) => properties::answer(plan, runner).await,
        }
    }
}

/// A hash of 128 bits.
struct QuestionHash(Xxh3Default);

impl Hasher for QuestionHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// A time as requests write it, RFC 3339 or relative, in milliseconds since 1970; `None` if it cannot be read.
pub fn instant(text: &str, now_ms: i64) -> Option<i64> {
    time::instant(text, now_ms, &jiff::tz::TimeZone::UTC).ok()
}

#[cfg(test)]
mod tests;
