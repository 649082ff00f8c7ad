//! The query role: reports over the event table.
//!
//! A request goes through `request` (wire) → plan (checked) → `sql` (bound values) → `run` (guarded) → fold → answer; one
//! file a report. Promises: whatever comes in, the SQL text consists of constants and every value is a server-side
//! parameter; every statement of events is limited to one project and one time range; no answer holds SQL or a host; a question
//! has one deadline, however many statements it takes.
//! May go wrong: the request is refused (4xx), the store is away or too busy (503), the query is too dear (422, 504).

mod cache;
pub mod data_through;
pub mod dead_letters;
mod elsewhere;
pub mod error;
mod event_id;
mod events;
mod field;
mod filter;
mod formula;
pub mod guard;
pub mod ledger;
pub mod limits;
mod meta;
mod number;
mod properties;
mod request;
pub mod run;
mod second;
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

use self::cache::{Ask, Cache, Computed, Key, Reach};
use self::data_through::{DataThrough, Pending};
use self::elsewhere::Elsewhere;
pub use self::error::QueryError;
use self::guard::Guard;
pub use self::guard::{QueryConfig, QueryLimits};
use self::run::Session;
pub use self::run::{Answer, Run};
pub use self::second::SecondLevel;
use self::second::Shared;
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
    elsewhere: Option<Elsewhere>,
    second: Option<Arc<dyn SecondLevel>>,
}

/// Who loads what the reports read.
pub enum Loads {
    /// This process alone: it knows of every block.
    Here(Arc<Arrivals>),
    /// Others, too: the books are watched. Their answers may be shared through a second level.
    Elsewhere(Arc<Arrivals>, Option<Arc<dyn SecondLevel>>),
}

/// What is known of the events that are read.
pub struct Sources {
    /// Who loads them.
    pub loads: Loads,
    /// What waits to be loaded; without it nothing ever does.
    pub pending: Option<Arc<dyn Pending>>,
}

impl From<Loads> for Sources {
    fn from(loads: Loads) -> Self {
        Self { loads, pending: None }
    }
}

impl<R: Run> Queries<R> {
    /// Answers through `run`, within `limits`; what is kept is given as long as `sources` know of nothing newer.
    pub fn new(run: R, limits: QueryLimits, sources: impl Into<Sources>) -> Self {
        let Sources { loads, pending } = sources.into();
        let (arrivals, elsewhere, second) = match loads {
            Loads::Here(arrivals) => (arrivals, None, None),
            Loads::Elsewhere(arrivals, second) => (Arc::clone(&arrivals), Some(Elsewhere::new(arrivals)), second),
        };
        let cache = Arc::new(Cache::new(limits.cache_bytes, arrivals));
        let (deadline, data_through) = (limits.time, DataThrough::new(pending));
        Self(Arc::new(Inner { run, deadline, guard: Guard::new(limits), cache, data_through, elsewhere, second }))
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
        let mut request = request::parse(body)?;
        let refresh = request::take_refresh(&mut request)?;
        let plan = Report::parse(project, report, &request, now_ms)?;
        if let Some(elsewhere) = &self.0.elsewhere {
            elsewhere.look(&self.0.run, now_ms).await;
        }
        let ask = Ask {
            key: Key { project, plan: plan.fingerprint(RELEASE) },
            reach: Reach::of(&plan.ranges(), now_ms),
            report,
            body,
            refresh,
            keep: plan.is_kept(),
        };
        let shared = Shared::of(&ask, &self.0);
        let inner = Arc::clone(&self.0);
        let computation = Computation { project, plan, now_ms, shared };
        let served = self.0.cache.ask(ask, || inner.compute(computation)).await?;
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
            let mut request = request::parse(&question.body)?;
            request::take_refresh(&mut request)?;
            let plan = Report::parse(project, &question.report, &request, now_ms)?;
            let (key, reach) = (Key { project, plan: plan.fingerprint(RELEASE) }, Reach::of(&plan.ranges(), now_ms));
            let ask = Ask { key, reach, report: &question.report, body: &question.body, refresh: true, keep: true };
            let inner = Arc::clone(&self.0);
            let computation = Computation { project, plan, now_ms, shared: None };
            self.0.cache.ask(ask, || inner.compute(computation)).await
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
    shared: Option<Shared>,
}

impl<R: Run> Inner<R> {
    async fn compute(self: Arc<Self>, asked: Computation) -> Result<Computed, QueryError> {
        if let Some(computed) = Shared::find(asked.shared.as_ref(), asked.now_ms).await {
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
        let _place = self.guard.enter(asked.project).await?;
        // Before the first statement: whatever was loaded by then, they all see.
        let data_through_ms = self.data_through.look(&self.run, asked.now_ms).await;
        let mut session = Session::new(&self.run, asked.now_ms);
        let result = Bytes::from(asked.plan.answer(&mut session).await?);
        let (rows_read, is_sampled) = (session.rows_read(), session.is_sampled());
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

    async fn answer<R: Run>(&self, session: &mut Session<'_, R>) -> Result<Vec<u8>, QueryError> {
        match self {
            Self::Trends(plan) => trends::answer(plan, session).await,
            Self::Events(plan) => events::answer(plan, session).await,
            Self::Users(plan) => users::answer(plan, session).await,
            Self::Properties(plan) => properties::answer(plan, session).await,
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
