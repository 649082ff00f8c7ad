//! Which role answers which path on the listener.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::{Grant, KeyKind, Keys};
use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{EngineState, cache_dir};
use crate::clock;
use crate::config::Settings;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed, typed_response};
use crate::http::server::Call;
use crate::ingest::{Geo, Ingest};
use crate::load::LoadStats;
use crate::log::RunningLog;
use crate::metrics::Counter;
use crate::query::dead_letters::DeadLetters;
use crate::query::ledger::pending::LogPending;
use crate::query::ledger::{LedgerScope, ledger};
use crate::query::store::Reader;
use crate::query::{LoadedBy, Queries, QueryError, SharedCache, Sources, limits};
use crate::redis::Redis;
use crate::role::Role;

/// Largest body of a question.
const MAX_QUESTION: usize = 1 << 20;

/// How soon a server that does not answer is asked again for its limits.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

/// What the routes are made of.
pub(super) struct Parts<L> {
    pub(super) log: L,
    pub(super) keys: Keys,
    pub(super) store: Option<ClickHouse>,
    pub(super) stats: Arc<LoadStats>,
    pub(super) engine_state: Option<watch::Receiver<EngineState>>,
    pub(super) metrics: PrometheusHandle,
}

/// All routes of the instance. Cheap to clone.
#[derive(Clone)]
pub(super) struct Routes<L: RunningLog> {
    log: L,
    engine_state: Option<watch::Receiver<EngineState>>,
    metrics: PrometheusHandle,
    only_queries: bool,
    ingest: Option<Ingest<L>>,
    query: Option<Arc<QueryApi<L>>>,
    redis: Option<Redis>,
}

/// What answers questions.
struct QueryApi<L: RunningLog> {
    queries: Queries<Reader>,
    store: ClickHouse,
    pending: LogPending<L>,
    keys: Keys,
    stats: Arc<LoadStats>,
    body: BodyLimits,
}

impl<L: RunningLog> Routes<L> {
    pub(super) fn new(settings: &Settings, parts: Parts<L>) -> Result<Self, String> {
        let Parts { log, keys, store, stats, engine_state, metrics } = parts;
        let timeout = settings.config.http.body_timeout;
        let ingest = match settings.roles.contains(&Role::Ingest) {
            true => Some(Ingest::new(log.clone(), settings.ingest.clone(), (geo(settings)?, keys.clone()), timeout)),
            false => None,
        };
        let redis = Redis::open(&settings.config.redis)?;
        let query = store.filter(|_| settings.roles.contains(&Role::Query)).map(|store| {
            let sources =
                Sources { loaded_by: loaded_by(settings, &store, redis.clone()), pending: Some(Arc::new(LogPending(log.clone()))) };
            let queries = Queries::new(Reader::new(&store), settings.query, sources);
            let body = BodyLimits { max_wire: MAX_QUESTION, max_inflated: MAX_QUESTION, timeout, claim: Claim::Live };
            Arc::new(QueryApi { queries, pending: LogPending(log.clone()), store, keys, stats, body })
        });
        let only_queries = settings.roles.iter().all(|role| *role == Role::Query);
        Ok(Self { log, engine_state, metrics, only_queries, ingest, query, redis })
    }

    /// Refreshes what is asked most until asked to stop.
    pub(super) fn keep_fresh(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.query.as_ref().map(|query| query.queries.clone().keep_fresh(clock::now_ms, stop))
    }

    /// Warns of what the reader of a server of one's own may do that it should not, once that server has said so; until asked to stop.
    pub(super) fn check_reader(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        let reader = Reader::new(&self.query.as_ref()?.store);
        let checking = async move {
            loop {
                match limits::missing(&reader).await {
                    Ok(missing) if missing.is_empty() => return,
                    Ok(missing) => {
                        let missing = missing.join(", ");
                        return tracing::warn!(%missing, "nothing limits the questions: give clickhouse.reader_user a profile with these");
                    }
                    Err(problem) => tracing::debug!(%problem, "the limits of the reader are not known yet"),
                }
                tokio::time::sleep(CHECK_AGAIN).await;
            }
        };
        Some(async move {
            stop.run_until_cancelled(checking).await;
            stop.cancelled().await;
            Ok(())
        })
    }

    /// Shares what projects send with other instances until asked to stop.
    pub(super) fn share_rate(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.ingest.as_ref()?.share_rate(self.redis.clone()?, stop)
    }

    /// Answers a request.
    pub(super) async fn answer(self, mut call: Call) -> Response<Body> {
        if let Some(ingest) = &self.ingest {
            match ingest.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
        }
        let id = call.request_id.clone();
        let path = call.request.uri().path();
        match &self.query {
            Some(query) if path.starts_with("/v1/query/") => match *call.request.method() {
                Method::POST => query.query(call).await.unwrap_or_else(|error| error.into_response(&id)),
                _ => method_not_allowed("POST", &id),
            },
            Some(query) if path == "/v1/ledger" => match *call.request.method() {
                Method::GET => query.ledger(&call).await.unwrap_or_else(|error| error.into_response(&id)),
                _ => method_not_allowed("GET", &id),
            },
            Some(query) if path == "/v1/dead-letters" => match *call.request.method() {
                Method::GET => query.dead_letters(&call).await.unwrap_or_else(|error| error.into_response(&id)),
                _ => method_not_allowed("GET", &id),
            },
            _ => self.health(&call),
        }
    }

    fn health(&self, call: &Call) -> Response<Body> {
        let path = call.request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let message = format!("there is nothing at `{}`", path.chars().take(200).collect::<String>());
            return ApiError::new(StatusCode::NOT_FOUND, "not_found", message).into_response(&call.request_id);
        }
        if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD", &call.request_id);
        }
        if path == "/metrics" {
            let text = HeaderValue::from_static("text/plain; version=0.0.4");
            return typed_response(StatusCode::OK, text, crate::metrics::with_histograms(self.metrics.render()).into());
        }
        match self.why_not_ready() {
            Some(why) if path == "/readyz" => ApiError::unavailable("not_ready", why, 1).into_response(&call.request_id),
            _ => json_response(StatusCode::OK, br#"{"status":"ok"}"#.to_vec()),
        }
    }

    /// What keeps this instance from doing its job durably, if anything does.
    fn why_not_ready(&self) -> Option<&'static str> {
        // An instance that only answers queries needs the log for the ledger alone.
        if !self.only_queries && !self.log.is_writable() {
            return Some("the log cannot be written");
        }
        let is_down = self.engine_state.as_ref().is_some_and(|state| *state.borrow() == EngineState::Down);
        // Without ClickHouse events are still taken; only an instance that does nothing else is not ready.
        (is_down && self.ingest.is_none()).then_some("the embedded engine is starting")
    }
}

/// Whether every block passes through this process: only then is what it noted all there is.
fn loaded_by(settings: &Settings, store: &ClickHouse, redis: Option<Redis>) -> LoadedBy {
    let arrivals = Arc::clone(&store.arrivals);
    match settings.roles.contains(&Role::Load) && settings.config.log.kind == "embedded" {
        true => LoadedBy::ThisProcess(arrivals),
        false => LoadedBy::Fleet(arrivals, redis.map(|redis| Arc::new(redis) as Arc<dyn SharedCache>)),
    }
}

pub(super) fn geo(settings: &Settings) -> Result<Geo, String> {
    let geo = Geo::open(&settings.config.geo, cache_dir().map(|cache| cache.join("geo")).as_deref())?;
    if !geo.is_open() {
        tracing::warn!("no geo database: events get no country; `make run` fetches one, or set geo.database");
    }
    Ok(geo)
}

impl<L: RunningLog> QueryApi<L> {
    async fn query(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let report = call.request.uri().path().trim_start_matches("/v1/query/").to_owned();
        let bytes = body::read(call.request, self.body).await?;
        let answer = self.queries.answer(grant.project, &report, &bytes, clock::now_ms()).await;
        let counter = if answer.is_ok() { Counter::QueriesAnswered } else { Counter::QueriesRefused };
        counter.add(1);
        let answer = answer.map_err(of_query)?;
        Ok(json_response(StatusCode::OK, answer))
    }

    async fn dead_letters(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let query = call.request.uri().query().unwrap_or_default();
        let asked = DeadLetters::parse(grant.project, query, clock::now_ms()).map_err(of_query)?;
        let answer = self.queries.dead_letters(&asked).await.map_err(of_query)?;
        Ok(json_response(StatusCode::OK, answer))
    }

    async fn ledger(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let scope = ledger_scope(&grant, call.request.uri().query().unwrap_or_default(), clock::now_ms())?;
        let latency = serde_json::to_value(self.stats.latency(grant.project)).unwrap_or_default();
        let answer = ledger(&self.store, &self.pending, scope, (grant.name, latency)).await.map_err(of_query)?;
        Ok(json_response(StatusCode::OK, answer))
    }
}

fn of_query(error: QueryError) -> ApiError {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ApiError { status, code: error.code, message: error.message, retry_after: error.retry_after }
}

fn ledger_scope(grant: &Grant, query: &str, now_ms: i64) -> Result<LedgerScope, ApiError> {
    let mut scope = LedgerScope { project: grant.project, from_ms: 0, to_ms: i64::MAX / 2, source: None, now_ms };
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let invalid = || ApiError::bad_request("invalid_range", format!("`{key}` is `{value}`, which cannot be read"));
        match &*key {
            "from" => scope.from_ms = crate::query::instant(&value, now_ms).ok_or_else(invalid)?,
            "to" => scope.to_ms = crate::query::instant(&value, now_ms).ok_or_else(invalid)?,
            "run" => scope.source = Some(value.parse().map_err(|_| invalid())?),
            _ => return Err(ApiError::bad_request("invalid_parameter", format!("unknown parameter `{key}`: from, to and run are known"))),
        }
    }
    Ok(scope)
}
