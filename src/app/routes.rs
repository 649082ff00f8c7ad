//! Which role answers which path on the listener.

use std::sync::Arc;

use hyper::{Method, Response, StatusCode};
use tokio::sync::watch;

use crate::clickhouse::ClickHouse;
use crate::clickhouse::engine::{EngineState, cache_dir};
use crate::config::Settings;
use crate::http::keys::Keys;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::ingest::{Geo, Ingest};
use crate::load::LoadStats;
use crate::log::embedded::EmbeddedLog;
use crate::role::Role;

/// What the routes are made of.
pub(super) struct Parts {
    pub(super) log: EmbeddedLog,
    pub(super) keys: Keys,
    pub(super) store: ClickHouse,
    pub(super) stats: Arc<LoadStats>,
    pub(super) engine_state: Option<watch::Receiver<EngineState>>,
}

/// All routes of the instance. Cheap to clone.
#[derive(Clone)]
pub(super) struct Routes {
    log: EmbeddedLog,
    engine_state: Option<watch::Receiver<EngineState>>,
    ingest: Option<Ingest<EmbeddedLog>>,
}

impl Routes {
    pub(super) fn new(settings: &Settings, parts: Parts) -> Result<Self, String> {
        let Parts { log, keys, store: _, stats: _, engine_state } = parts;
        let ingest = if settings.roles.contains(&Role::Ingest) {
            let geo = Geo::open(&settings.config.geo, cache_dir().map(|cache| cache.join("geo")).as_deref())?;
            if !geo.is_open() {
                tracing::warn!("no geo database: events get no country; `make run` fetches one, or set geo.database");
            }
            Some(Ingest::new(log.clone(), settings.ingest.clone(), (geo, keys), settings.config.http.body_timeout))
        } else {
            None
        };
        Ok(Self { log, engine_state, ingest })
    }

    /// Answers a request.
    pub(super) async fn answer(self, call: Call) -> Response<Body> {
        let call = match &self.ingest {
            Some(ingest) => match ingest.answer(call).await {
                Ok(response) => return response,
                Err(call) => call,
            },
            None => call,
        };
        self.answer_health(&call)
    }

    fn answer_health(&self, call: &Call) -> Response<Body> {
        let path = call.request.uri().path();
        if !matches!(path, "/healthz" | "/readyz") {
            let message = format!("there is nothing at `{}`", path.chars().take(200).collect::<String>());
            return ApiError::new(StatusCode::NOT_FOUND, "not_found", message).into_response(&call.request_id);
        }
        if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD", &call.request_id);
        }
        match self.why_not_ready() {
            Some(why) if path == "/readyz" => ApiError::unavailable("not_ready", why, 1).into_response(&call.request_id),
            _ => json_response(StatusCode::OK, br#"{"status":"ok"}"#.to_vec()),
        }
    }

    /// What keeps this instance from doing its job durably, if anything does.
    fn why_not_ready(&self) -> Option<&'static str> {
        if !self.log.is_writable() {
            return Some("the log cannot be written");
        }
        let is_down = self.engine_state.as_ref().is_some_and(|state| *state.borrow() == EngineState::Down);
        // Without ClickHouse events are still taken; only an instance that does nothing else is not ready.
        (is_down && self.ingest.is_none()).then_some("the embedded engine is starting")
    }
}
