//! The routes of the role.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::decode::{self, Decoded};
use super::notice::Notice;
use super::publish::{Contribution, Publisher};
use super::rate::RateLimit;
use super::{Geo, IngestLimits, Request, import};
use crate::clock;
use crate::event::field::flag;
use crate::http::body::{self, BodyLimits};
use crate::http::keys::{Grant, KeyKind, Keys};
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed, typed_response};
use crate::http::server::Call;
use crate::log::{Log, LogError};
use crate::metrics::Counter;
use crate::redis::Redis;

use super::geo::RequestGeo;

/// Seconds after which a client may try again when the log refuses.
const RETRY_AFTER: u32 = 1;
const MAX_AGENT: usize = 1_024;
/// How long browsers may remember that a page may send events.
const PREFLIGHT_AGE: &str = "86400";

/// The role: what its routes share. Cheap to clone.
#[derive(Clone)]
pub struct Ingest<L: Log> {
    shared: Arc<Shared<L>>,
}

struct Shared<L: Log> {
    publisher: Publisher<L>,
    limits: IngestLimits,
    body: BodyLimits,
    geo: Geo,
    keys: Keys,
    rate: Option<RateLimit>,
}

/// How a body is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Json,
    Lines,
}

impl<L: Log> Ingest<L> {
    /// The role over a log. `body_timeout` is the listener's.
    pub fn new(log: L, limits: IngestLimits, (geo, keys): (Geo, Keys), body_timeout: std::time::Duration) -> Self {
        let body = BodyLimits { max_wire: limits.max_body, max_inflated: limits.max_inflated, timeout: body_timeout };
        let publisher = Publisher::new(log, &limits);
        let rate = RateLimit::new(limits.max_rate);
        Self { shared: Arc::new(Shared { publisher, limits, body, geo, keys, rate }) }
    }

    /// Shares what projects send with other instances until asked to stop; `None` if there is no limit.
    pub fn share_rate(
        &self,
        redis: Redis,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        self.shared.rate.clone().map(|rate| rate.exchange(redis, stop))
    }

    /// Seals what is open, so that requests that wait for company need not wait longer.
    pub fn seal_all(&self) {
        self.shared.publisher.seal_all();
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let path = call.request.uri().path();
        if !matches!(path, "/v1/events" | "/v1/import") {
            return Err(call);
        }
        let is_import = path == "/v1/import";
        let origin = call.request.headers().get(header::ORIGIN).cloned();
        let mut response = match *call.request.method() {
            Method::POST => {
                let id = call.request_id.clone();
                let answered = if is_import { self.import(call).await } else { self.events(call).await };
                answered.unwrap_or_else(|error| error.into_response(&id))
            }
            Method::OPTIONS => preflight(call.request.headers()),
            _ => method_not_allowed("POST, OPTIONS", &call.request_id),
        };
        if let Some(origin) = origin {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
        }
        Ok(response)
    }

    async fn events(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.shared.keys.authorize(call.request.headers(), KeyKind::Write)?;
        if let Some(rate) = &self.shared.rate {
            rate.admits(grant.project).map_err(|seconds| too_fast(self.shared.limits.max_rate, seconds))?;
        }
        let layout = layout(call.request.headers())?;
        let (call, bytes) = self.read(call, self.shared.body).await?;
        let received_ms = clock::now_ms();
        let decoded = {
            let geo = RequestGeo::new(&self.shared.geo);
            let request = self.request(&call, &grant, (received_ms, &geo), false);
            match layout {
                Layout::Json => decode::body(&bytes, &request, &self.shared.limits)?,
                Layout::Lines => decode::lines(&bytes, &request, &self.shared.limits)?,
            }
        };
        if let Some(rate) = &self.shared.rate {
            rate.take(grant.project, decoded.accepted());
        }
        let answer = Verdicts::of(&decoded);
        let contribution = Contribution { project: grant.project, received_ms, decoded };
        self.shared.publisher.publish(contribution).await.map_err(|refused| refusal(&refused))?;
        Counter::EventsAccepted.add(u64::from(answer.accepted));
        Counter::EventsRejected.add(answer.rejected.len() as u64);
        Ok(answer.into_response(&call.request_id))
    }

    async fn import(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.shared.keys.authorize(call.request.headers(), KeyKind::Write)?;
        let (run, source_name) = import_query(call.request.uri().query().unwrap_or_default())?;
        let limits = BodyLimits { max_wire: 32 << 20, max_inflated: 64 << 20, ..self.shared.body };
        let (call, bytes) = self.read(call, limits).await?;
        let received_ms = clock::now_ms();
        let (decoded, letters) = {
            let geo = RequestGeo::new(&self.shared.geo);
            let request = self.request(&call, &grant, (received_ms, &geo), true);
            let mut letters = import::Letters::new(request, &source_name);
            let decoded = import::lines(&bytes, &mut letters, &self.shared.limits)?;
            let told = (letters.count(), letters.refused());
            (decoded, (letters.into_record(run), told))
        };
        let (record, (dead, refused)) = letters;
        let accepted = decoded.accepted();
        let contribution = Contribution { project: grant.project, received_ms, decoded };
        self.shared.publisher.publish_import(contribution, record).await.map_err(|refused| refusal(&refused))?;
        Counter::EventsAccepted.add(u64::from(accepted));
        Ok(json_response(StatusCode::OK, json!({"accepted": accepted, "dead": dead, "reasons": refused}).to_string().into_bytes()))
    }

    /// Reads the body; what else the request said stays.
    async fn read(&self, call: Call, limits: BodyLimits) -> Result<(Head, bytes::Bytes), ApiError> {
        let Call { request, peer, request_id } = call;
        let head = Head { client: peer.client(request.headers()), headers: request.headers().clone(), request_id };
        Ok((head, body::read(request, limits).await?))
    }

    fn request<'r>(&self, head: &'r Head, grant: &Grant, (received_ms, geo): (i64, &'r RequestGeo<'r>), is_import: bool) -> Request<'r> {
        let says = |name: &str| head.headers.get(name).is_some_and(|value| value == "1");
        let agent = head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A server's SDK names itself here, not the visitor's browser.
        let user_agent = if agent.starts_with("Mozilla/") && agent.len() <= MAX_AGENT { agent } else { "" };
        Request {
            project: grant.project,
            partitions: self.shared.publisher.partitions(),
            received_ms,
            sent_ms: None,
            fallback_id: None,
            flags: if says("dnt") || says("sec-gpc") { flag::PRIVACY } else { 0 },
            user_agent,
            client: head.client,
            geo,
            is_import,
        }
    }
}

/// A request whose body has been read.
struct Head {
    client: std::net::IpAddr,
    headers: HeaderMap,
    request_id: String,
}

fn layout(headers: &HeaderMap) -> Result<Layout, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Layout::Json) };
    let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let unsupported = |message: String| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let charset = parameters.split(';').filter_map(|parameter| parameter.trim().strip_prefix("charset=")).next();
    if let Some(charset) = charset.map(|charset| charset.trim_matches('"'))
        && charset != "utf-8"
        && charset != "us-ascii"
    {
        return Err(unsupported(format!("charset `{charset}` is not utf-8")));
    }
    match kind.trim() {
        // `text/plain` is what a page may send without asking first (`sendBeacon`).
        "" | "application/json" | "text/plain" => Ok(Layout::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonlines" | "application/x-jsonlines" => Ok(Layout::Lines),
        // What curl says of any data unless told otherwise: the body decides.
        "application/x-www-form-urlencoded" => Ok(Layout::Json),
        other => Err(unsupported(format!("content-type `{other}` is neither JSON nor NDJSON"))),
    }
}

fn import_query(query: &str) -> Result<(u64, String), ApiError> {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let find = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let run = find("run");
    match run.parse() {
        Ok(run) if run > 0 => Ok((run, find("source"))),
        _ => Err(ApiError::bad_request("invalid_run", format!("`run` is `{run}`, not a positive number"))),
    }
}

fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = typed_response(StatusCode::NO_CONTENT, HeaderValue::from_static("text/plain"), bytes::Bytes::new());
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
    if let Some(asked) = asked {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    response
}

fn too_fast(max_rate: u64, seconds: u32) -> ApiError {
    Counter::RequestsLimited.add(1);
    let message = format!("the project sends more than {max_rate} events a second; nothing was accepted, try again in {seconds} s");
    ApiError { retry_after: Some(seconds), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message) }
}

fn refusal(refused: &LogError) -> ApiError {
    match refused {
        LogError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the events are larger than the log takes in one piece")
        }
        _ => {
            // The log has said so once; whoever sends asks again and again.
            tracing::debug!(problem = %refused, "log refuses");
            Counter::RequestsUnavailable.add(1);
            ApiError::unavailable("log_unavailable", "events cannot be made durable now; nothing was accepted, try again", RETRY_AFTER)
        }
    }
}

/// What the answer says about each event.
struct Verdicts {
    accepted: u32,
    rejected: Vec<Value>,
    warnings: Vec<Value>,
}

impl Verdicts {
    fn of(decoded: &Decoded) -> Self {
        let rejected = decoded.rejected.iter().map(|event| {
            json!({
                "index": event.index, "eventId": event.event_id, "code": event.defect.as_str(), "field": event.field, "message": event.message,
            })
        });
        let without_id = decoded.without_id.iter().map(|index| json!({"index": index, "code": "event_id_missing"}));
        let told = decoded.notices.told();
        let told = told.map(|Notice { code, field, count, index }| json!({"index": index, "code": code, "field": field, "count": count}));
        Self { accepted: decoded.accepted(), rejected: rejected.collect(), warnings: without_id.chain(told).collect() }
    }

    /// 200 if anything was accepted, else 400 with the first event's fault as the request's own.
    fn into_response(self, request_id: &str) -> Response<Body> {
        let is_refused = self.accepted == 0;
        let mut answer = json!({"accepted": self.accepted, "rejected": self.rejected});
        if !self.warnings.is_empty() {
            answer["warnings"] = Value::Array(self.warnings);
        }
        if is_refused {
            for key in ["code", "message"] {
                answer[key] = self.rejected.first().map_or(Value::Null, |first| first[key].clone());
            }
            answer["requestId"] = request_id.into();
        }
        let status = if is_refused { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        json_response(status, answer.to_string().into_bytes())
    }
}
