//! The query role: reports over the event table.
//!
//! A request goes through [`http`] to its `report`, which is made of typed pieces (`ask`), answered through the `reader` and kept by the
//! `cache`. Promises: whatever comes in, the SQL text consists of constants and every value is a server-side parameter; every
//! statement passes the guard of the `reader` and is limited to one project; no answer holds a host, and none but that of `explain` SQL; a question has one
//! deadline, however many statements it takes.
//! May go wrong: the request is refused (4xx), the store is away or too busy (503), the query is too expensive (422, 504).

mod ask;
mod batch;
pub(crate) mod board_tiles;
mod boards;
mod cache;
mod cohorts;
mod compute;
mod csv;
mod data_through;
mod error;
mod excluded;
mod freshness;
pub mod http;
mod keys;
mod links;
mod live;
pub(crate) mod notes;
pub(crate) mod output;
pub mod pending;
mod people;
mod progress;
mod question;
mod raw_sql;
mod reader;
mod reply;
mod report;
mod saved;
pub mod screen;
mod shared_scan;
mod shares;
mod sources;
pub mod sql;
mod trace;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::ask::fields::{check_once, check_size, with_keys_once};
use self::ask::filter::names_cohort;
pub(crate) use self::ask::interval::Interval;
use self::ask::selection::Traffic;
use self::ask::{Context, fields};
use self::cache::{Cache, CacheRequest, Key, Served};
pub use self::cache::{SharedCache, SharedValue};
use self::cohorts::SavedCohorts;
use self::compute::Computation;
use self::data_through::DataThrough;
pub use self::error::{ErrorClass, QueryError};
use self::freshness::FreshnessWatcher;
#[cfg(test)]
pub(crate) use self::live::probe as live_probe;
use self::people::People;
use self::progress::{Progress, Watch};
use self::question::{Question, Request};
pub use self::reader::{Answer, QueryConfig, QueryLimits, Run, RunningStatement, StoreReader, TakePiece, missing_limits};
use self::reader::{Guard, Reader};
pub use self::reply::Reply;
use self::reply::{Asked, ResultBudget};
use self::report::events::Events;
use self::report::export::{Export, ExportFile};
pub(crate) use self::report::funnel::window_of as funnel_window_of;
pub(crate) use self::report::trends::value_of_formula;
use self::report::{Ask, REPORTS, Report, Route};
use self::saved::SavedThings;
pub(crate) use self::saved::{dry_run, of_file};
use self::shared_scan::Seat;
use self::shares::Shares;
pub use self::sources::{LoadLatency, LoadedBy, Sources};
pub use self::sql::Statement;
use crate::clickhouse::ClickHouse;
use crate::event::ids::ProjectId;
use crate::metrics::Counter;
use crate::project::ProjectSettings;
use crate::store::data_version::{DataVersions, Quarter, Span, Version};

/// How often the most asked answers are refreshed before they expire, and how many at a time: one after the other, so that they never
/// take more than one permit.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_QUESTIONS: usize = 16;
/// Answers that clients have not taken yet may take this part of `query.max_memory`, beside what `query.cache_bytes` keeps.
const RESULTS_SHARE: u64 = 4;
/// Part of the identity of a question: another release may answer it otherwise, and so may another build of it.
const RELEASE: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("PULSE_SOURCES"));

/// Answers the reports of every project. Cheap to clone. The second are the permits that questions take where they are not those of all
/// (`apart`).
#[derive(Clone)]
pub struct Queries(Arc<Inner>, Option<Arc<Guard>>);

struct Inner {
    reader: Reader,
    arrivals: Arc<DataVersions>,
    cache: Arc<Cache>,
    /// What answers take that are kept, or on their way out.
    results: ResultBudget,
    data_through: DataThrough,
    progress: Progress,
    /// Where single events are looked up.
    store: Option<ClickHouse>,
    /// Whether statements that somebody wrote are answered.
    answers_sql: bool,
    saved: SavedThings,
    shares: Shares,
    cohorts: SavedCohorts,
    people: Option<People>,
    freshness: Option<FreshnessWatcher>,
    shared_cache: Option<Arc<dyn SharedCache>>,
}

/// A question that is asked with `GET`.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// Whose events.
    pub project: ProjectId,
    /// The name of that project, for answers that show it.
    pub project_name: &'a str,
    /// The name of the report.
    pub report: &'a str,
    /// The part of the address behind `?`.
    pub query: &'a str,
}

impl Queries {
    /// Reads `store` within `limits`; a kept answer is given as long as `sources` know of nothing newer.
    pub fn new(store: impl Run, limits: QueryLimits, sources: impl Into<Sources>) -> Self {
        let Sources { loaded_by, pending, latency, saved, identities, projects } = sources.into();
        let (arrivals, freshness, shared_cache) = match loaded_by {
            LoadedBy::ThisProcess(arrivals) => (arrivals, None, None),
            LoadedBy::Fleet(arrivals, shared) => (Arc::clone(&arrivals), Some(FreshnessWatcher::new(arrivals)), shared),
        };
        let people = identities.map(|store| People::new(store, Arc::clone(&arrivals), freshness.is_some()));
        let answers_sql = limits.sql;
        let cache = Arc::new(Cache::new(limits.cache_bytes, limits.cores_per_question, Arc::clone(&arrivals)));
        let results = ResultBudget::new(limits.cache_bytes.saturating_add(limits.memory / RESULTS_SHARE));
        let data_through = DataThrough::new(pending.clone());
        let reader = Reader::new(store, limits).beside(pending, latency).with_projects(projects);
        let store = saved.clone();
        let saved = SavedThings::new(saved);
        let cohorts = SavedCohorts::new(saved.clone());
        let shares = Shares::new(saved.clone());
        let inner = Arc::new(Inner {
            reader,
            arrivals,
            cache,
            results,
            data_through,
            progress: Progress::default(),
            store,
            answers_sql,
            saved,
            shares,
            cohorts,
            people,
            freshness,
            shared_cache,
        });
        Self(inner, None)
    }

    /// The same, with the same cache and `most` permits of its own: who asks through it waits for nobody else, and nobody else for them.
    pub(crate) fn apart(&self, most: usize) -> Self {
        Self(Arc::clone(&self.0), Some(Arc::new(self.0.reader.permits_apart(most))))
    }

    /// Answers `report` for `project` at `now_ms` (milliseconds since 1970): `body` is the JSON request, the result the JSON answer
    /// with `result` and `meta`. A member `"refresh": true` of any request computes the answer anew.
    ///
    /// # Errors
    /// As [`QueryError`] describes; 404 `unknown_report` for a report that is not there.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the running statement and gives its permit back, unless others wait for the same answer.
    pub async fn answer(&self, project: ProjectId, report: &str, body: &[u8], now_ms: i64) -> Result<Reply, QueryError> {
        self.reply(project, Request::of(report, body, now_ms), None).await
    }

    /// The same, as the request is to be answered; with a seat it may share a scan.
    async fn reply(&self, project: ProjectId, request: Request<'_>, seat: Option<Seat>) -> Result<Reply, QueryError> {
        let began = Instant::now();
        let served = counted(self.served(project, request, seat).await)?;
        Ok(Reply::new(&served, Asked { now_ms: request.now_ms, took: began.elapsed(), is_guest: request.is_guest }))
    }

    /// By which statements a question is answered, as JSON: `{"statements": [{"sql", "params"}], "rows_read"}`. It is asked anew for that,
    /// whatever is kept.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) async fn explain(&self, project: ProjectId, report: &str, body: &[u8], now_ms: i64) -> Result<Bytes, QueryError> {
        let Question { plan, common, .. } = self.question(project, Request::of(report, body, now_ms)).await?;
        let computation = Computation { project, plan, common, now_ms, shared: None, permits: self.1.clone(), key: None, seat: None };
        let mut runner = self.0.begin(&computation).await?;
        self.0.show(&computation, &mut runner).await?;
        runner.note_statements();
        computation.plan.answer(&mut runner).await?;
        self.count(json!({"statements": runner.noted(), "rows_read": runner.rows_read()}).to_string())
    }

    /// A result that is kept nowhere, counted among all that clients have not taken yet.
    ///
    /// # Errors
    /// 503: as many wait as may.
    pub(crate) fn count(&self, result: impl Into<Bytes>) -> Result<Bytes, QueryError> {
        self.0.results.count(result)
    }

    /// The answer as it is kept.
    async fn served(&self, project: ProjectId, request: Request<'_>, seat: Option<Seat>) -> Result<Served, QueryError> {
        let Request { report, body, now_ms, watch, .. } = request;
        let question = self.question(project, request).await?;
        let (plan_key, reach) = (question.fingerprint(), question.reach(now_ms, self.0.reader.longest_session_ms(project)));
        let Question { kind, plan, common, .. } = question;
        if let Some(freshness) = &self.0.freshness {
            freshness.poll(&self.0.reader, now_ms).await;
        }
        let people = self.0.known_people(project).await;
        let (key, refresh) = (Key { project, plan: plan_key }, common.refresh);
        if let Some(watch) = watch {
            watch.set(key);
        }
        let request = CacheRequest { key, reach, report, body, refresh, keep: kind.is_kept };
        let shared = self.0.shared_slot(&request, people.as_ref());
        let (inner, seat) = (Arc::clone(&self.0), seat.filter(|seat| seat.is_of(plan_key)));
        let computation = Computation { project, plan, common, now_ms, shared, permits: self.1.clone(), key: Some(key), seat };
        self.0.cache.answer(request, || inner.compute(computation)).await
    }

    /// Finds out how far the questions are that are being answered.
    async fn poll_progress(&self) {
        self.0.progress.poll(&self.0.reader).await;
    }

    /// How many rows a question had read by then; none of one that is not being answered, or of which that is not known.
    fn rows_read(&self, watch: &Watch) -> Option<u64> {
        self.0.progress.rows_read(watch)
    }

    /// Up to when answers to statements that run from here on are complete; `None` while that is not known.
    pub async fn data_through(&self, now_ms: i64) -> Option<i64> {
        self.0.data_through.at(&self.0.reader, now_ms).await
    }

    /// Now, in the order of all that arrives.
    pub fn arrivals(&self) -> Version {
        self.0.arrivals.now()
    }

    /// The quarters of an hour of `span` in which events of `project` have arrived since `seen`: the first and the last of them. In a fleet as
    /// far as the questions of this process have noticed.
    pub fn arrived_since(&self, project: ProjectId, span: Span, seen: Version) -> Option<Span> {
        let has_news = |quarter: &Quarter| self.0.arrivals.any_since(project, &[*quarter..=*quarter], seen);
        if !self.0.arrivals.any_since(project, std::slice::from_ref(&span), seen) {
            return None;
        }
        Some(span.clone().find(has_news)?..=span.rev().find(has_news)?)
    }

    /// Refreshes the most asked answers in the background, until asked to stop.
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

    /// A request of `project`, checked with the cohorts that it names.
    async fn question(&self, project: ProjectId, request: Request<'_>) -> Result<Question, QueryError> {
        let body = fields::parse(request.body)?;
        let cohorts = if names_cohort(&body) { self.0.cohorts.of(project).await? } else { Arc::default() };
        Question::parse(request, body, cohorts)
    }

    async fn renew(&self, question: &cache::Question, now_ms: i64) {
        let project = question.key.project;
        let renewed = async {
            let asked = self.question(project, Request::of(&question.report, &question.body, now_ms)).await?;
            let (key, reach) = (Key { project, plan: asked.fingerprint() }, asked.reach(now_ms, self.0.reader.longest_session_ms(project)));
            let request = CacheRequest { key, reach, report: &question.report, body: &question.body, refresh: true, keep: true };
            let inner = Arc::clone(&self.0);
            let (plan, common, permits) = (asked.plan, asked.common, self.1.clone());
            let computation = Computation { project, plan, common, now_ms, shared: None, permits, key: Some(key), seat: None };
            self.0.cache.answer(request, || inner.compute(computation)).await
        };
        if let Err(problem) = renewed.await {
            tracing::debug!(%problem, "background refresh");
        }
    }

    /// Answers a report that is asked for with `GET`: the result alone, as JSON.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn get(&self, asked: Get<'_>, now_ms: i64) -> Result<Bytes, QueryError> {
        counted(self.result(asked, now_ms).await)
    }

    async fn result(&self, asked: Get<'_>, now_ms: i64) -> Result<Bytes, QueryError> {
        let Get { project, project_name, report, query } = asked;
        let kind = REPORTS.iter().find(|kind| kind.route != Route::Query && kind.name == report).ok_or_else(|| unknown_report(report))?;
        if matches!(kind.route, Route::Kept(_)) {
            let body = page_of(query).to_string();
            return Ok(self.served(project, Request::of(report, body.as_bytes(), now_ms), None).await?.entry.result.clone());
        }
        let (body, context) = (parameters(query), Context::new(now_ms));
        let plan = (kind.parse)(Ask { project_name, body: &body, now_ms, context: &context })?;
        let mut runner = self.0.reader.begin_with(self.1.as_deref(), project, now_ms).await?;
        if kind.needs_data_through {
            let through_ms = runner.within_deadline(self.data_through(now_ms)).await?;
            runner.set_data_through(through_ms);
        }
        self.count(plan.answer(&mut runner).await?)
    }

    /// Answers a page of an export as a file, if it is asked for as one; `None` if as JSON, which [`Self::get`] answers.
    ///
    /// # Errors
    /// As [`Self::answer`].
    async fn export_file(&self, asked: Get<'_>, now_ms: i64) -> Result<Option<ExportFile>, QueryError> {
        match self.file(asked, now_ms).await {
            Ok(None) => Ok(None),
            answered => counted(answered),
        }
    }

    async fn file(&self, asked: Get<'_>, now_ms: i64) -> Result<Option<ExportFile>, QueryError> {
        let Get { project, project_name, query, .. } = asked;
        let (body, context) = (parameters(query), Context::new(now_ms));
        let export = Export::parse(Ask { project_name, body: &body, now_ms, context: &context })?;
        if !export.is_file() {
            return Ok(None);
        }
        let mut runner = self.0.reader.begin_with(self.1.as_deref(), project, now_ms).await?;
        let through_ms = runner.within_deadline(self.data_through(now_ms)).await?;
        runner.set_data_through(through_ms);
        let file = export.file(&mut runner).await.map_err(|problem| problem.advising(Export::CHEAPER))?;
        Ok(Some(ExportFile { body: self.count(file.body)?, ..file }))
    }
}

/// Checks a request as far as that can be said without a store: the cohorts that it names may be there.
///
/// # Errors
/// As [`Queries::answer`].
pub(crate) fn check_question(report: &str, body: Value, now_ms: i64) -> Result<(), QueryError> {
    match Question::parse(Request::of(report, &[], now_ms), body, Arc::default()) {
        Err(problem) if problem.code != "unknown_cohort" => Err(problem),
        _ => Ok(()),
    }
}

/// The parameters of an address, as an object of texts.
fn parameters(query: &str) -> Value {
    let parameters = url::form_urlencoded::parse(query.as_bytes());
    Value::Object(parameters.map(|(key, value)| (key.into_owned(), Value::from(value))).collect())
}

impl Queries {
    /// The settings of `project`.
    fn settings(&self, project: ProjectId) -> &ProjectSettings {
        self.0.reader.settings(project)
    }

    /// Answers a request about one person at `now_ms`.
    async fn person(&self, project: ProjectId, asked: AskedPerson<'_>, now_ms: i64) -> Result<Bytes, QueryError> {
        self.count(self.of_person(project, asked, now_ms).await?)
    }

    async fn of_person(&self, project: ProjectId, asked: AskedPerson<'_>, now_ms: i64) -> Result<Vec<u8>, QueryError> {
        let known = || QueryError::not_found("unknown_person", "this instance does not know who is who");
        let people = self.0.people.as_ref().ok_or_else(known)?;
        match asked {
            AskedPerson::Merge(body) => return people.merge(project, &fields::parse(body)?, now_ms).await,
            AskedPerson::Unmerge(body) => return people.unmerge(project, &fields::parse(body)?, now_ms).await,
            AskedPerson::Show { query, .. } => {
                if let Some((key, _)) = url::form_urlencoded::parse(query.as_bytes()).next() {
                    let message = format!("unknown parameter `{}`: there is none", fields::shortened(&key));
                    return Err(QueryError::invalid("invalid_parameter", message));
                }
            }
            AskedPerson::Events { .. } => {}
        }
        let mut runner = self.0.reader.begin(project, now_ms).await?;
        runner.look_at(Traffic::All);
        let map = runner.within_deadline(people.map(project)).await??;
        runner.set_people(map);
        match asked {
            AskedPerson::Events { id, query } => {
                let context = Context::new(now_ms);
                let body = page_of(query);
                let events = <Events as Report>::parse(Ask { project_name: "", body: &body, now_ms, context: &context })?;
                let somebody = runner.within_deadline(people.somebody(id, &runner)).await??;
                let events = somebody.events(events, &mut runner).await?;
                Report::answer(&events, &mut runner).await
            }
            AskedPerson::Show { id, .. } => people.show(id, &mut runner).await,
            AskedPerson::Merge(_) | AskedPerson::Unmerge(_) => Err(QueryError::internal("a ruling is no question")),
        }
    }
}

/// What is asked of one person, or ruled.
#[derive(Clone, Copy, Debug)]
enum AskedPerson<'a> {
    /// What is known of the one called this; there are no parameters.
    Show { id: &'a str, query: &'a str },
    /// Their events, newest first; the parameters of the page.
    Events { id: &'a str, query: &'a str },
    /// That two ids are tied.
    Merge(&'a [u8]),
    /// That they are not.
    Unmerge(&'a [u8]),
}

/// Parameters as the body of a request: a limit is a number, and what is true or false no text.
fn page_of(query: &str) -> Value {
    let parameters = url::form_urlencoded::parse(query.as_bytes());
    let value = |key: &str, text: &str| match text.parse::<u64>() {
        Ok(limit) if key == "limit" => Value::from(limit),
        _ if matches!(key, "refresh" | "include_bots" | "sample") && matches!(text, "true" | "false") => Value::from(text == "true"),
        _ => Value::from(text),
    };
    Value::Object(parameters.map(|(key, text)| (key.to_string(), value(&key, &text))).collect())
}

/// The same, counted as answered or refused.
fn counted<T>(answer: Result<T, QueryError>) -> Result<T, QueryError> {
    let counter = if answer.is_ok() { Counter::QueriesAnswered } else { Counter::QueriesRefused };
    counter.add(1);
    answer
}

fn unknown_report(report: &str) -> QueryError {
    QueryError::not_found("unknown_report", format!("there is no report `{}`", fields::shortened(report)))
}

/// The names of all reports.
pub fn reports() -> impl Iterator<Item = &'static str> {
    REPORTS.iter().map(|report| report.name)
}

/// The names of those that are asked for with a body.
pub fn questions() -> impl Iterator<Item = &'static str> {
    REPORTS.iter().filter(|report| report.route.takes_body()).map(|report| report.name)
}

/// A time as requests write it, RFC 3339 or relative, in milliseconds since 1970; `None` if it cannot be read.
pub fn instant(text: &str, now_ms: i64) -> Option<i64> {
    ask::range::instant_in_utc(text, now_ms)
}

#[cfg(test)]
mod tests;
