//! Which role answers which path on the listener.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::mcp::McpApi;
use super::openapi;
use super::redrive::{self, RedriveApi};
use crate::alert::Alerts;
use crate::alert::http::AlertApi;
use crate::auth::Keys;
use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{EngineState, cache_dir};
use crate::clock;
use crate::config::Settings;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed, typed_response};
use crate::http::server::Call;
use crate::ingest::{Geo, Ingest, IngestParts, sdk};
use crate::load::LoadStats;
use crate::log::RunningLog;
use crate::query::http::{QueryApi, warn_of_missing_limits};
use crate::query::pending::LogPending;
use crate::query::{LoadedBy, Queries, SharedCache, Sources, StoreReader, screen};
use crate::redis::Redis;
use crate::role::Role;
use crate::store::data_version::DataVersions;

/// What every instance answers, whatever its roles are.
pub(super) const OWN_PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", DESCRIPTION];

/// The one of them that is for those who send and ask, not for those who operate.
const DESCRIPTION: &str = "/openapi.json";

/// What the routes are made of.
pub(super) struct Parts<L> {
    pub(super) log: L,
    pub(super) keys: Keys,
    pub(super) store: Option<ClickHouse>,
    pub(super) data_versions: Arc<DataVersions>,
    pub(super) stats: Arc<LoadStats>,
    pub(super) engine_state: Option<watch::Receiver<EngineState>>,
    pub(super) metrics: PrometheusHandle,
}

/// All routes of the instance.
pub(super) struct Routes<L: RunningLog> {
    log: L,
    engine_state: Option<watch::Receiver<EngineState>>,
    metrics: PrometheusHandle,
    only_queries: bool,
    /// Whether operations have a listener of their own.
    has_operations_apart: bool,
    ingest: Option<Ingest<L>>,
    redrive: Option<RedriveApi<L>>,
    query: Option<QueryApi>,
    mcp: Option<McpApi>,
    alerts: Option<Alerts>,
    alert_api: Option<AlertApi>,
    reader: Option<StoreReader>,
    redis: Option<Redis>,
}

impl<L: RunningLog> Routes<L> {
    pub(super) fn new(settings: &Settings, parts: Parts<L>) -> Result<Self, String> {
        let Parts { log, keys, store, data_versions, stats, engine_state, metrics } = parts;
        let timeout = settings.config.http.body_timeout;
        let (mut ingest, mut redrive) = (None, None);
        if settings.roles.contains(&Role::Ingest) {
            let (limits, geo) = (settings.ingest.clone(), geo(settings)?);
            redrive = store.clone().map(|store| {
                let (log, limits, geo) = (log.clone(), limits.clone(), geo.clone());
                RedriveApi::new(redrive::Parts { log, store, keys: keys.clone(), limits, geo, one: Semaphore::new(1) }, timeout)
            });
            ingest = Some(Ingest::new(log.clone(), IngestParts { limits, geo, keys: keys.clone(), body_timeout: timeout }));
        }
        let redis = Redis::open(&settings.config.redis)?;
        let is = |role| settings.roles.contains(&role);
        let store = store.filter(|_| is(Role::Query) || is(Role::Alert));
        let reader = store.as_ref().map(StoreReader::new);
        let queries = store.as_ref().map(|store| {
            let sources = Sources {
                loaded_by: loaded_by(settings, data_versions, redis.clone()),
                pending: Some(Arc::new(LogPending(log.clone()))),
                latency: Some(Arc::new(move |project| serde_json::to_value(stats.latency(project)).unwrap_or_default())),
                identities: Some(store.clone()),
                saved: Some(store.clone()),
                projects: settings.load.projects().clone(),
            };
            Queries::new(StoreReader::new(store), settings.query, sources)
        });
        let alerts = match (&queries, store) {
            (Some(queries), Some(store)) => Some(Alerts::new(
                queries.clone(),
                store,
                settings.alerts.clone().alone(settings.config.log.kind == "embedded"),
                clock::now_ms,
            )?),
            _ => None,
        };
        let alert_api = alerts.clone().map(|alerts| AlertApi::new(alerts, keys.clone(), timeout));
        let alerts = alerts.filter(|_| is(Role::Alert));
        let queries = queries.filter(|_| is(Role::Query));
        let mcp = queries.clone().filter(|_| settings.config.query.mcp).map(|queries| McpApi::new(queries, keys.clone(), timeout));
        let query = queries.map(|queries| QueryApi::new(queries, keys, timeout));
        let only_queries = settings.roles.iter().all(|role| matches!(role, Role::Query | Role::Alert));
        let has_operations_apart = settings.config.http.operations().is_some();
        Ok(Self {
            log,
            engine_state,
            metrics,
            only_queries,
            has_operations_apart,
            ingest,
            redrive,
            query,
            mcp,
            alerts,
            alert_api,
            reader,
            redis,
        })
    }

    /// Refreshes the most asked answers until asked to stop.
    pub(super) fn keep_fresh(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.query.as_ref().map(|query| query.keep_fresh(stop))
    }

    /// Follows the log for those who watch it live, until asked to stop.
    pub(super) fn follow_live(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.query.as_ref().map(|query| query.follow(self.log.clone(), stop))
    }

    /// Warns if nothing limits the questions on a server of one's own, until asked to stop.
    pub(super) fn check_reader(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.reader.clone().map(|reader| warn_of_missing_limits(reader, stop))
    }

    /// Judges rules and tells channels until asked to stop.
    pub(super) fn watch_alerts(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.alerts.clone().map(|alerts| alerts.run(stop))
    }

    /// Shares what projects send with other instances until asked to stop.
    pub(super) fn share_rate(&self, stop: CancellationToken) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.ingest.as_ref()?.share_rate(self.redis.clone()?, stop)
    }

    /// Answers a request.
    pub(super) async fn answer(self: Arc<Self>, mut call: Call) -> Response<Body> {
        if let Some(ingest) = &self.ingest {
            match ingest.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
            if let Some(response) = sdk::answer(&call) {
                return response;
            }
        }
        if let Some(redrive) = &self.redrive {
            match redrive.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
        }
        if let Some(query) = &self.query {
            match query.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
            let frames = query.frames(call.request.uri().path()).await;
            if let Some(response) = screen::answer(&call, &frames) {
                return response;
            }
        }
        if let Some(mcp) = &self.mcp {
            match mcp.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
        }
        if let Some(alerts) = &self.alert_api {
            match alerts.answer(call).await {
                Ok(response) => return response,
                Err(other) => call = other,
            }
        }
        if self.has_operations_apart && call.request.uri().path() != DESCRIPTION {
            return not_found(&call);
        }
        self.operations(&call)
    }

    /// Answers those who operate the instance.
    pub(super) fn operations(&self, call: &Call) -> Response<Body> {
        let path = call.request.uri().path();
        if !OWN_PATHS.contains(&path) {
            return not_found(call);
        }
        if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD", &call.request_id);
        }
        if path == "/metrics" {
            let text = HeaderValue::from_static("text/plain; version=0.0.4");
            return typed_response(StatusCode::OK, text, crate::metrics::with_histograms(self.metrics.render()).into());
        }
        if path == DESCRIPTION {
            return typed_response(StatusCode::OK, HeaderValue::from_static("application/json"), openapi::text());
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
        if self.ingest.is_some() && !clock::is_set(clock::now_ms()) {
            return Some("the clock of this machine is not set");
        }
        let is_down = self.engine_state.as_ref().is_some_and(|state| *state.borrow() == EngineState::Down);
        // Without ClickHouse events are still taken; only an instance that does nothing else is not ready.
        (is_down && self.ingest.is_none()).then_some("the embedded engine is starting")
    }
}

fn not_found(call: &Call) -> Response<Body> {
    let message = format!("there is nothing at `{}`", call.request.uri().path().chars().take(200).collect::<String>());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message).into_response(&call.request_id)
}

/// Whether every block passes through this process: only then is what it noted all there is.
fn loaded_by(settings: &Settings, data_versions: Arc<DataVersions>, redis: Option<Redis>) -> LoadedBy {
    if settings.roles.contains(&Role::Load) && settings.config.log.kind == "embedded" {
        LoadedBy::ThisProcess(data_versions)
    } else {
        LoadedBy::Fleet(data_versions, redis.map(|redis| Arc::new(redis) as Arc<dyn SharedCache>))
    }
}

pub(super) fn geo(settings: &Settings) -> Result<Geo, String> {
    let geo = Geo::open(&settings.config.geo, cache_dir().map(|cache| cache.join("geo")).as_deref())?;
    if !geo.is_open() {
        tracing::warn!("no geo database: events get no country; `make run` fetches one, or set geo.database");
    }
    Ok(geo)
}
