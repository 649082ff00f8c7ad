//! The routes of the role.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::decode::{self, Decoded};
use super::publish::{Contribution, Publisher};
use super::rate::{self, RateLimit};
use super::warning::Warning;
use super::{Geo, IngestLimits, Request, import};
use crate::auth::{Grant, KeyKind, Keys};
use crate::clock;
use crate::event::field::flag;
use crate::event::ids::ProjectId;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed, open_to_pages, typed_response};
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
    import_rate: Option<RateLimit>,
    runs: import::Runs,
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
        let body = BodyLimits { max_wire: limits.max_body, max_inflated: limits.max_inflated, timeout: body_timeout, claim: Claim::Live };
        let publisher = Publisher::new(log, &limits);
        let rate = RateLimit::new("rate", limits.max_rate, limits.max_events);
        let import_rate = RateLimit::new("import-rate", limits.max_import_rate, import::MAX_LINES);
        Self { shared: Arc::new(Shared { publisher, limits, body, geo, keys, rate, import_rate, runs: import::Runs::default() }) }
    }

    /// Shares what projects send with other instances until asked to stop; `None` if there is no limit.
    pub fn share_rate(
        &self,
        redis: Redis,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        let limits: Vec<RateLimit> = [&self.shared.rate, &self.shared.import_rate].into_iter().flatten().cloned().collect();
        (!limits.is_empty()).then(|| rate::exchange(limits, redis, stop))
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let path = call.request.uri().path();
        if !matches!(path, "/v1/events" | "/v1/import") {
            return Err(call);
        }
        let is_import = path == "/v1/import";
        let id = call.request_id.clone();
        let mut response = match *call.request.method() {
            // Not for pages: without CORS headers a browser does not show them the answer, and sends no request with a key at all.
            Method::POST if is_import => return Ok(self.import(call).await.unwrap_or_else(|error| error.into_response(&id))),
            _ if is_import => return Ok(method_not_allowed("POST", &id)),
            Method::POST => self.events(call).await.unwrap_or_else(|error| error.into_response(&id)),
            Method::OPTIONS => preflight(call.request.headers()),
            _ => method_not_allowed("POST, OPTIONS", &id),
        };
        open_to_pages(&mut response);
        Ok(response)
    }

    async fn events(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.shared.keys.authorize(call.request.headers(), KeyKind::Write)?;
        let rate = self.shared.rate.as_ref();
        admit(rate, grant.project)?;
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
        let answer = Verdicts::of(&decoded);
        // The log may take its time; what was read from is not needed meanwhile.
        drop(bytes);
        let contribution = Contribution { project: grant.project, received_ms, decoded };
        charged(rate, (grant.project, answer.accepted), self.shared.publisher.publish(contribution)).await?;
        Counter::EventsAccepted.add(u64::from(answer.accepted));
        Counter::EventsRejected.add(answer.rejected.len() as u64);
        Ok(answer.into_response(&call.request_id))
    }

    async fn import(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.shared.keys.authorize(call.request.headers(), KeyKind::Import)?;
        let (run, source_name) = import::query(call.request.uri().query().unwrap_or_default())?;
        self.shared.runs.admit(grant.project, run, clock::now_ms())?;
        let rate = self.shared.import_rate.as_ref();
        admit(rate, grant.project)?;
        let limits = BodyLimits { max_wire: import::MAX_BODY, max_inflated: import::MAX_BODY, claim: Claim::Import, ..self.shared.body };
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
        drop(bytes);
        let contribution = Contribution { project: grant.project, received_ms, decoded };
        charged(rate, (grant.project, accepted + dead), self.shared.publisher.publish_import(contribution, record)).await?;
        Counter::EventsAccepted.add(u64::from(accepted));
        Ok(json_response(StatusCode::OK, json!({"accepted": accepted, "dead": dead, "reasons": refused}).to_string().into_bytes()))
    }

    /// Reads the body; what else the request said stays.
    async fn read(&self, call: Call, limits: BodyLimits) -> Result<(Head, bytes::Bytes), ApiError> {
        let Call { request, peer, request_id } = call;
        let head = Head { client: peer.client_ip(request.headers()), headers: request.headers().clone(), request_id };
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
        // What curl sends with any data by default: the body decides.
        "application/x-www-form-urlencoded" => Ok(Layout::Json),
        other => Err(unsupported(format!("content-type `{other}` is neither JSON nor NDJSON"))),
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

/// Refuses a project that sends too fast before its request is read.
fn admit(rate: Option<&RateLimit>, project: ProjectId) -> Result<(), ApiError> {
    rate.map_or(Ok(()), |rate| rate.admits(project).map_err(|seconds| too_fast(rate, seconds)))
}

/// Publishes what a project may send; what the log refuses costs it nothing.
async fn charged(
    rate: Option<&RateLimit>,
    (project, events): (ProjectId, u32),
    publish: impl Future<Output = Result<(), LogError>>,
) -> Result<(), ApiError> {
    if let Some(rate) = rate {
        rate.charge(project, events).map_err(|seconds| too_fast(rate, seconds))?;
    }
    publish.await.map_err(|refused| {
        if let Some(rate) = rate {
            rate.give_back(project, events);
        }
        refusal(&refused)
    })
}

fn too_fast(rate: &RateLimit, seconds: u32) -> ApiError {
    Counter::RequestsLimited.add(1);
    let most = rate.per_second();
    let message = format!("the project sends more than {most} events a second; nothing was accepted, try again in {seconds} s");
    ApiError { retry_after: Some(seconds), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message) }
}

fn refusal(refused: &LogError) -> ApiError {
    match refused {
        LogError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the events are larger than the log takes in one piece")
        }
        _ => {
            // The log itself has warned once; clients try again and again.
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
        let listed = decoded.warnings.list();
        let listed =
            listed.map(|Warning { code, field, count, index }| json!({"index": index, "code": code, "field": field, "count": count}));
        Self { accepted: decoded.accepted(), rejected: rejected.collect(), warnings: without_id.chain(listed).collect() }
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
