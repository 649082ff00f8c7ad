//! `POST /v1/dead-letters/redrive`: what `pulse replay --dead` does, for the letters of one project and in the running process.
//!
//! There where events are taken and the table can be read. Promises: the project follows from the key; a letter gives the same events
//! each time, so a request whose answer was lost may be sent again; one at a time an instance, and bounded. May go wrong: letters that are
//! in the dead topic alone, seconds old, are left for the next time.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::auth::{KeyKind, Keys};
use crate::clickhouse::ClickHouse;
use crate::clock;
use crate::event::dead_letter::LogPosition;
use crate::event::ids::LogEpoch;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::ingest::{Geo, IngestLimits, Redrive, checked_clock};
use crate::log::Log;
use crate::outcome::DeadReason;
use crate::query::with_keys_once;
use crate::replay::dead::{self, Portion};

/// Where it is.
pub(super) const PATH: &str = "/v1/dead-letters/redrive";
const MAX_BODY: usize = 4 << 10;

/// The path, for the holders of keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct RedriveApi<L> {
    parts: Arc<Parts<L>>,
    body: BodyLimits,
}

/// What letters are read from, and how events are made of them.
pub(super) struct Parts<L> {
    pub(super) log: L,
    pub(super) store: ClickHouse,
    pub(super) keys: Keys,
    pub(super) limits: IngestLimits,
    pub(super) geo: Geo,
    pub(super) one: Semaphore,
}

/// The body.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// Only letters of this reason.
    reason: Option<String>,
    /// Only say what would be done.
    dry_run: bool,
    /// The `next` of the answer before.
    cursor: Option<String>,
}

impl<L: Log> RedriveApi<L> {
    pub(super) fn new(parts: Parts<L>, body_timeout: Duration) -> Self {
        let body = BodyLimits { max_wire: MAX_BODY, max_inflated: MAX_BODY, timeout: body_timeout, claim: Claim::Live, finds_gzip: false };
        Self { parts: Arc::new(parts), body }
    }

    /// Answers a request if its path is this one.
    pub(super) async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        if call.request.uri().path() != PATH {
            return Err(call);
        }
        let id = call.request_id.clone();
        if call.request.method() != Method::POST {
            return Ok(method_not_allowed("POST", &id));
        }
        Ok(self.redrive(call).await.unwrap_or_else(|error| error.into_response(&id)))
    }

    async fn redrive(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let Parts { log, store, keys, limits, geo, one } = &*self.parts;
        // It brings events, as an import does.
        let project = keys.caller(&call, KeyKind::Import)?.project;
        checked_clock(clock::now_ms())?;
        let asked = Asked::read(&body::read(call.request, self.body).await?)?;
        let request = dead::Request { reason: asked.reason()?, dry_run: asked.dry_run };
        let portion = Portion { project, request, after: asked.after()? };
        let busy = |_| ApiError::new(StatusCode::TOO_MANY_REQUESTS, "redrive_running", "dead letters are being read again here already");
        let _permit = one.try_acquire().map_err(busy)?;
        let redrive = Redrive::new(log.clone(), limits.clone(), geo.clone());
        let tried = dead::portion(store, redrive, portion).await;
        let (summary, next) = tried.map_err(|problem| ApiError::unavailable("redrive_failed", format!("{problem:#}"), 1))?;
        let dead::Summary { read, redriven, events, unchanged, .. } = summary;
        let answer = json!({
            "read": read, "redriven": redriven, "events": events, "unchanged": unchanged, "dry_run": asked.dry_run, "next": next.map(|at| cursor(&at)),
        });
        Ok(json_response(StatusCode::OK, answer.to_string().into_bytes()))
    }
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let invalid =
            |problem: serde_json::Error| ApiError::bad_request("invalid_body", format!("the body must be a JSON object: {problem}"));
        // A struct would be read from a list too.
        let object: Map<String, Value> = with_keys_once(body).and_then(serde_json::from_value).map_err(invalid)?;
        serde_json::from_value(Value::Object(object)).map_err(invalid)
    }

    fn reason(&self) -> Result<Option<DeadReason>, ApiError> {
        let Some(name) = &self.reason else { return Ok(None) };
        let unknown = || ApiError::bad_request("invalid_reason", format!("`reason` is `{}`, no reason of dead letters", short(name)));
        DeadReason::named(name).map(Some).ok_or_else(unknown)
    }

    fn after(&self) -> Result<Option<LogPosition>, ApiError> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let invalid = || ApiError::bad_request("invalid_cursor", format!("`cursor` is `{}`, not the `next` of an answer", short(text)));
        position(text).map(Some).ok_or_else(invalid)
    }
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A place as an answer says it.
fn cursor(position: &LogPosition) -> String {
    let LogPosition { epoch, partition, offset, index } = position;
    format!("{:x}.{partition}.{offset}.{index}", epoch.0)
}

fn position(text: &str) -> Option<LogPosition> {
    let mut parts = text.split('.');
    let epoch = LogEpoch(u64::from_str_radix(parts.next()?, 16).ok()?);
    let (partition, offset, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(LogPosition { epoch, partition, offset, index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_said_and_nothing_else_is_one() {
        let place = LogPosition { epoch: LogEpoch(0xfeed), partition: 3, offset: 17, index: 2 };
        assert_eq!(position(&cursor(&place)), Some(place));
        for wrong in ["", "feed.3.17", "feed.3.17.2.1", "x.3.17.2", "feed.-3.17.2"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        let code = |body: &str| {
            let asked = Asked::read(body.as_bytes())?;
            asked.reason()?;
            asked.after().map(drop)
        };
        let code = |body: &str| code(body).err().map(|error: ApiError| error.code);
        assert_eq!(code(""), None);
        assert_eq!(code(r#"{"reason": "event_invalid", "dry_run": true}"#), None);
        assert_eq!(code(r#"{"reason": "sad"}"#), Some("invalid_reason"));
        assert_eq!(code(r#"{"cursor": "here"}"#), Some("invalid_cursor"));
        assert_eq!(code(r#"{"project": 7}"#), Some("invalid_body"));
        assert_eq!(code("[]"), Some("invalid_body"));
    }
}
