//! One request of the role, from its head to its answer: [`Ingest::accept`] is the list of steps.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Arc, Once};
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use matchit::Router;
use tokio_util::sync::CancellationToken;

use super::contract::{MAX_AGENT, RequestFacts};
use super::geo::RequestGeo;
use super::import_runs::{self, ImportRuns};
use super::intake::{Intake, Sender};
use super::protocol::{Delivery, Head, LARGEST_BATCH, PROTOCOLS, Protocol, Received};
use super::publish::{Contribution, ImportRecord, Publisher, Receipt};
use super::rate::single::{Single, SingleRates};
use super::rate::{self, RateLimit};
use super::refusal::Refusal;
use super::verdict::{Decoded, Verdicts};
use super::{Geo, IngestLimits};
use crate::auth::{AuthError, KeyKind, Keys};
use crate::clock;
use crate::event::field::flag;
use crate::event::ids::ProjectId;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::overload::Overload;
use crate::http::respond::{ApiError, Body, method_not_allowed, open_to_pages, typed_response};
use crate::http::server::{Call, RequestBody};
use crate::log::{Log, LogError};
use crate::metrics::Counter;
use crate::redis::Redis;

/// Longest time for the body of a client that has shown no key.
const UNAUTHORIZED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long browsers may remember that a page may send events.
const PREFLIGHT_AGE: &str = "86400";

/// The role: what its routes share. Cheap to clone.
#[derive(Clone)]
pub struct Ingest<L: Log> {
    shared: Arc<Shared<L>>,
}

/// What the role is made of.
pub struct IngestParts {
    /// The checked configuration.
    pub limits: IngestLimits,
    /// Places of addresses.
    pub geo: Geo,
    /// Who may send.
    pub keys: Keys,
    /// Longest time for a body, as the listener's.
    pub body_timeout: Duration,
}

struct Shared<L: Log> {
    routes: Router<&'static dyn Protocol>,
    keys: Keys,
    live: RequestLimits,
    import: RequestLimits,
    singles: SingleRates,
    runs: ImportRuns,
    limits: IngestLimits,
    geo: Geo,
    publisher: Publisher<L>,
    /// Since when the log refuses.
    overload: Overload,
}

/// Who sends.
#[derive(Clone, Copy)]
struct Caller {
    project: ProjectId,
    single: Single,
}

/// The events of a request, whose they are, and when they came.
struct Taken {
    caller: Caller,
    received_ms: i64,
    decoded: Decoded,
}

/// What a request of one kind may cost.
struct RequestLimits {
    body: BodyLimits,
    rate: Option<RateLimit>,
}

impl<L: Log> Ingest<L> {
    /// The role over a log.
    pub fn new(log: L, parts: IngestParts) -> Self {
        let IngestParts { limits, geo, keys, body_timeout } = parts;
        let body = BodyLimits {
            max_wire: limits.max_body,
            max_inflated: limits.max_inflated,
            timeout: body_timeout,
            claim: Claim::Live,
            finds_gzip: false,
        };
        let live = RequestLimits { body, rate: RateLimit::new("rate", limits.max_rate, limits.max_events.max(LARGEST_BATCH.events)) };
        let (max_wire, max_inflated) = (import_runs::MAX_BODY, import_runs::MAX_BODY);
        let import = RequestLimits {
            body: BodyLimits { max_wire, max_inflated, claim: Claim::Import, ..body },
            rate: RateLimit::new("import-rate", limits.max_import_rate, import_runs::MAX_LINES),
        };
        let publisher = Publisher::new(log, &limits);
        let (routes, runs, singles) = (routes(), ImportRuns::default(), SingleRates::new(limits.max_rate_per_client));
        let overload = Overload::default();
        Self { shared: Arc::new(Shared { routes, keys, live, import, singles, runs, limits, geo, publisher, overload }) }
    }

    /// Shares what projects send with other instances until asked to stop; `None` if there is no limit.
    pub fn share_rate(
        &self,
        redis: Redis,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = Result<(), Infallible>> + Send + use<L>> {
        let limits: Vec<RateLimit> = [&self.shared.live.rate, &self.shared.import.rate].into_iter().flatten().cloned().collect();
        (!limits.is_empty()).then(|| rate::exchange(limits, redis, stop))
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let Ok(found) = self.shared.routes.at(call.request.uri().path()) else { return Err(call) };
        let protocol = self.spoken(*found.value, &call);
        let origin = call.request.headers().get(header::ORIGIN).filter(|_| protocol.has_cookies()).cloned();
        // What is not for pages has no CORS headers: a browser does not show them the answer, and sends no request with a key at all.
        let is_for_pages = protocol.key_kind() == KeyKind::Write;
        let mut is_for_page = is_for_pages;
        let mut response = match call.request.method() {
            method if protocol.methods().contains(method) => {
                let (head, body) = Head::of(call);
                self.accept(protocol, &head, body).await.unwrap_or_else(|error| {
                    self.charge_refusal(protocol, &head, &error);
                    is_for_page &= error.code != AuthError::ForbiddenOrigin.code();
                    protocol.refuse(error, &head)
                })
            }
            &Method::OPTIONS if is_for_pages => preflight(protocol.methods(), call.request.headers()),
            // Answered as a GET would be, but no event is taken and no key looked at: asking for the head of an image is not looking at it.
            &Method::HEAD if protocol.methods().contains(&Method::GET) => {
                let (head, _) = Head::of(call);
                protocol.settings(&head).unwrap_or_else(|| protocol.answer(&head, &Verdicts::default()))
            }
            _ => {
                let head = protocol.methods().contains(&Method::GET).then_some(&Method::HEAD);
                let preflight = is_for_pages.then_some(&Method::OPTIONS);
                method_not_allowed(&joined(protocol.methods().iter().chain(head).chain(preflight)), &call.request_id)
            }
        };
        if is_for_page {
            open_to_pages(&mut response, origin);
        }
        Ok(response)
    }

    /// The dialect of a request, where two share a path.
    fn spoken(&self, of_path: &'static dyn Protocol, call: &Call) -> &'static dyn Protocol {
        let other = of_path.with_write_key(call.request.uri());
        other.filter(|_| self.shared.keys.shows(call.request.headers(), KeyKind::Write)).unwrap_or(of_path)
    }

    /// Takes the events of a request: 200 means that they are durable.
    async fn accept(&self, protocol: &dyn Protocol, head: &Head, body: RequestBody) -> Result<Response<Body>, ApiError> {
        if let Some(settings) = protocol.settings(head) {
            return Ok(settings);
        }
        checked_clock(clock::now_ms())?;
        if protocol.key_kind() == KeyKind::Write {
            self.shared.singles.admits_client(head.client_ip)?;
        }
        let caller = self.sender(protocol, head)?;
        let delivery = protocol.check(head)?;
        let of_kind = self.limits_of(&delivery);
        if let Some(caller) = caller {
            self.admit(caller, &delivery)?;
        }
        let limits = BodyLimits { finds_gzip: protocol.finds_gzip(), ..of_kind.body_limits(caller.is_some(), head) };
        let limits = limits.of_at_least(protocol.batch_of_clients().bytes, &body);
        let body = body::read_parts(&head.headers, body, limits).await?;
        let received = Received { head, body: &body, delivery: &delivery };
        let received_ms = clock::now_ms();
        let (caller, decoded) = self.decode(protocol, &received, caller, received_ms)?;
        // The log may take its time; what was read from is not needed meanwhile.
        drop(body);
        let verdicts = self.publish(&delivery, Taken { caller, received_ms, decoded }).await?;
        Counter::EventsAccepted.add(u64::from(verdicts.accepted));
        Counter::EventsRejected.add(verdicts.rejected.len() as u64);
        Ok(protocol.answer(head, &verdicts))
    }

    /// The one whose key the head shows; `None` if the key may still come in the body.
    fn sender(&self, protocol: &dyn Protocol, head: &Head) -> Result<Option<Caller>, AuthError> {
        match protocol.credential(head)? {
            None if protocol.has_key_in_body() => Ok(None),
            key => self.caller(protocol, head, key.as_deref()).map(Some),
        }
    }

    /// The one whose key it is, if it is for such a request.
    fn caller(&self, protocol: &dyn Protocol, head: &Head, key: Option<&str>) -> Result<Caller, AuthError> {
        let grant = self.shared.keys.grant(key, protocol.key_kind())?;
        grant.admits(head.uri.path(), &head.headers)?;
        let client = (protocol.key_kind() == KeyKind::Write).then_some(head.client_ip);
        Ok(Caller { project: grant.project, single: Single { key: grant.rate_key(), rate: grant.rate(), client } })
    }

    fn limits_of(&self, delivery: &Delivery) -> &RequestLimits {
        match delivery {
            Delivery::Live => &self.shared.live,
            Delivery::Import(_) => &self.shared.import,
        }
    }

    /// Refuses one who sends too fast or in too many runs.
    fn admit(&self, caller: Caller, delivery: &Delivery) -> Result<(), ApiError> {
        if let Delivery::Import(run) = delivery {
            self.shared.runs.admit(caller.project, run.id, clock::now_ms())?;
        }
        Ok(self.admit_rate(caller, delivery)?)
    }

    fn admit_rate(&self, caller: Caller, delivery: &Delivery) -> Result<(), Refusal> {
        self.shared.singles.admits(caller.single)?;
        self.limits_of(delivery).admit(caller.project)
    }

    /// A request that is refused for what it is costs its address as much as an event: to find out took work too. What comes with another
    /// key than a page's has no limit by address. Where no address has a limit none needs one here: the key is in every page, and what is
    /// refused costs less than what is taken, no more memory than bodies of those who have shown no key may have together, and no more time
    /// than the connections of one client give it.
    fn charge_refusal(&self, protocol: &dyn Protocol, head: &Head, error: &ApiError) {
        let is_limited = protocol.key_kind() == KeyKind::Write;
        if is_limited && error.status.is_client_error() && error.status != StatusCode::TOO_MANY_REQUESTS {
            self.shared.singles.charge_client(head.client_ip, 1);
        }
    }

    /// Reads the body in the words of its dialect, checks each event and packs it.
    fn decode(
        &self,
        protocol: &dyn Protocol,
        received: &Received<'_>,
        caller: Option<Caller>,
        received_ms: i64,
    ) -> Result<(Caller, Decoded), Refusal> {
        let geo = RequestGeo::new(&self.shared.geo);
        let request = RequestFacts {
            partitions: self.shared.publisher.partitions(),
            is_import: matches!(received.delivery, Delivery::Import(_)),
            secrets: Some(&self.shared.keys),
            ..facts_of(protocol, received.head, received_ms, &geo)
        };
        let known = Cell::new(caller);
        let authorize = |key: Option<&str>| {
            let caller = self.caller(protocol, received.head, key)?;
            known.set(Some(caller));
            self.admit_rate(caller, received.delivery).map(|()| caller.project)
        };
        let sender = caller.map_or(Sender::InBody(&authorize), |caller| Sender::Known(caller.project));
        let intake = Intake::new(sender, request, &self.shared.limits).of_body(received.body.len());
        let mut intake = intake.of_at_least(protocol.batch_of_clients().events);
        protocol.events(received, &mut intake)?;
        let decoded = intake.finish()?;
        let caller = known.get().ok_or(AuthError::Missing(protocol.key_kind()))?;
        Ok((caller, decoded))
    }

    /// Appends what was accepted; returns once it is durable. What the log refuses costs the project nothing.
    async fn publish(&self, delivery: &Delivery, taken: Taken) -> Result<Verdicts, ApiError> {
        let of_kind = self.limits_of(delivery);
        let Taken { caller: Caller { project, single }, received_ms, decoded: Decoded { partitions, verdicts, letters } } = taken;
        let receipt = Receipt { project, received_ms };
        let events = verdicts.accepted + verdicts.dead;
        self.shared.singles.charge(single, events)?;
        if let (Some(client), false) = (single.client, verdicts.rejected.is_empty()) {
            self.shared.singles.charge_client(client, verdicts.rejected.len() as u32);
        }
        of_kind.charge(project, events).inspect_err(|_| self.shared.singles.give_back(single, events))?;
        let contribution = Contribution { receipt, partitions };
        let published = match delivery {
            Delivery::Live => self.shared.publisher.publish(contribution, &verdicts.rejected).await,
            Delivery::Import(run) => self.shared.publisher.publish_import(contribution, ImportRecord { source: run.id, letters }).await,
        };
        published.map(|()| verdicts).map_err(|refused| {
            of_kind.give_back(project, events);
            self.shared.singles.give_back(single, events);
            self.refusal(&refused)
        })
    }
}

impl<L: Log> Ingest<L> {
    fn refusal(&self, refused: &LogError) -> ApiError {
        match refused {
            LogError::TooLarge { .. } => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the events are larger than the log takes in one piece")
            }
            _ => {
                // The log itself has warned once; clients try again and again.
                tracing::debug!(problem = %refused, "log refuses");
                Counter::RequestsUnavailable.add(1);
                let message = "events cannot be made durable now; nothing was accepted, try again";
                ApiError::unavailable("log_unavailable", message, self.shared.overload.retry_after())
            }
        }
    }
}

/// Refuses what would be received by a clock that nobody has ever set.
///
/// # Errors
/// 503 `clock_not_set`.
pub(crate) fn checked_clock(now_ms: i64) -> Result<(), ApiError> {
    if !clock::is_set(now_ms) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| tracing::warn!(now_ms, "the clock of this machine is not set: no event is taken until it is"));
        return Err(ApiError::unavailable("clock_not_set", "the clock of the server is not set; nothing was accepted, try again", 5));
    }
    Ok(())
}

impl RequestLimits {
    /// How a body is read. A client that has shown no key gets less time, and memory of its own.
    fn body_limits(&self, has_key: bool, head: &Head) -> BodyLimits {
        match has_key {
            true => self.body,
            false => {
                let timeout = self.body.timeout.min(UNAUTHORIZED_TIMEOUT);
                BodyLimits { claim: Claim::Unauthorized(head.client_ip), timeout, ..self.body }
            }
        }
    }

    fn admit(&self, project: ProjectId) -> Result<(), Refusal> {
        self.ask(|rate| rate.admits(project))
    }

    fn charge(&self, project: ProjectId, events: u32) -> Result<(), Refusal> {
        self.ask(|rate| rate.charge(project, events))
    }

    fn ask(&self, ask: impl FnOnce(&RateLimit) -> Result<(), u32>) -> Result<(), Refusal> {
        let Some(rate) = &self.rate else { return Ok(()) };
        ask(rate).map_err(|seconds| Refusal::TooFast { whose: "project", per_second: rate.per_second(), seconds })
    }

    fn give_back(&self, project: ProjectId, events: u32) {
        if let Some(rate) = &self.rate {
            rate.give_back(project, events);
        }
    }
}

/// What a head says of all events of its request, with defaults for what the caller knows better.
pub(super) fn facts_of<'r>(protocol: &dyn Protocol, head: &'r Head, received_ms: i64, geo: &'r RequestGeo<'r>) -> RequestFacts<'r> {
    let headers = &head.headers;
    let says = |name: &str| headers.get(name).is_some_and(|value| value == "1");
    RequestFacts {
        partitions: 1,
        received_ms,
        sent_ms: None,
        fallback_id: None,
        flags: if says("dnt") || says("sec-gpc") { flag::PRIVACY } else { 0 },
        user_agent: agent(head.agent(), protocol.has_agent_of_visitor(head)),
        cookies: headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default(),
        client: head.client_ip,
        is_of_server: protocol.is_of_server(head),
        geo,
        is_import: false,
        secrets: None,
    }
}

/// The table of paths. One that cannot be put in it (two dialects want it) is left out and logged; a test looks for that.
pub(super) fn routes() -> Router<&'static dyn Protocol> {
    let mut routes = Router::new();
    for protocol in PROTOCOLS {
        for path in protocol.paths() {
            if let Err(problem) = routes.insert(*path, *protocol) {
                tracing::error!(path, %problem, "path left out");
            }
        }
    }
    routes
}

/// An agent if it is the visitor's: one that is known to be, else a browser's. A server's SDK names itself in the same place.
fn agent(agent: &str, is_of_visitor: bool) -> &str {
    let is_browser = || ["Mozilla/", "Opera/"].iter().any(|browser| agent.starts_with(browser));
    if (is_of_visitor || is_browser()) && agent.len() <= MAX_AGENT { agent } else { "" }
}

fn joined<'m>(methods: impl Iterator<Item = &'m Method>) -> String {
    methods.map(Method::as_str).collect::<Vec<_>>().join(", ")
}

fn preflight(methods: &[Method], headers: &HeaderMap) -> Response<Body> {
    let mut response = typed_response(StatusCode::NO_CONTENT, HeaderValue::from_static("text/plain"), bytes::Bytes::new());
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let out = response.headers_mut();
    if let Ok(methods) = HeaderValue::try_from(joined(methods.iter())) {
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
    if let Some(asked) = asked {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    response
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, retry_after) = match refusal {
            Refusal::Key(error) => return error.into(),
            Refusal::TooFast { seconds, .. } => {
                Counter::RequestsLimited.add(1);
                (StatusCode::TOO_MANY_REQUESTS, Some(seconds))
            }
            Refusal::TooManyEvents(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            _ => (StatusCode::BAD_REQUEST, None),
        };
        Self { retry_after, ..Self::new(status, refusal.code(), refusal.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_browsers_or_known_to_be_the_visitors() {
        for browser in ["Mozilla/5.0 (X11; Linux x86_64)", "Opera/9.80 (Android; Opera Mini/36.2) Presto/2.12"] {
            assert_eq!([agent(browser, false), agent(browser, true)], [browser; 2]);
        }
        for other in ["curl/8.5.0", "Googlebot/2.1", "analytics-python/2.3"] {
            assert_eq!([agent(other, false), agent(other, true)], ["", other]);
        }
        assert_eq!(agent(&"a".repeat(MAX_AGENT + 1), true), "");
    }

    #[test]
    fn nothing_is_received_by_a_clock_that_was_never_set() {
        let set = 1_735_689_600_000;
        assert!(checked_clock(set).is_ok());
        for never in [0, 10_000, set - 1] {
            assert_eq!(checked_clock(never).unwrap_err().code, "clock_not_set");
        }
    }

    #[test]
    fn every_path_of_every_dialect_leads_to_it() {
        let routes = routes();
        for protocol in PROTOCOLS {
            for path in protocol.paths() {
                let found: &dyn Protocol = *routes.at(path).unwrap().value;
                assert_eq!(found.paths(), protocol.paths(), "{path}");
            }
        }
    }
}
