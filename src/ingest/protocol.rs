//! Dialects: how different clients send events.
//!
//! A dialect is one file below and one line in [`PROTOCOLS`]. It knows the paths that its clients call, where they put their key, how
//! their bodies are laid out, what they call the parts of an event and what they expect to be answered; everything else is the same for
//! all and stands in `accept` and `contract`.

mod amplitude;
mod data;
mod flat;
mod google;
mod import;
mod jitsu;
mod mixpanel;
mod openpanel;
mod otlp;
mod pixel;
mod plausible;
mod posthog;
pub(super) mod pulse;
mod segment;
mod snowplow;
pub(super) mod translate;
mod umami;

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};
use hyper::{Method, Response, Uri};

use super::intake::Intake;
use super::refusal::Refusal;
use super::verdict::Verdicts;
use crate::auth::{AuthError, KeyKind, credential};
use crate::http::respond::{ApiError, Body};
use crate::http::server::{Call, RequestBody};

/// A request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub(super) events: usize,
    /// On the wire, and inflated.
    pub(super) bytes: usize,
}

/// The most that any product tells its clients they may send in a request. Amplitude and Mixpanel: 2,000 events. Mixpanel: 10 MB; PostHog's
/// SDK for Python sends up to 5 MiB, RudderStack's 4 MB, neither compressed.
pub(super) const LARGEST_BATCH: Batch = Batch { events: 2_500, bytes: 10 << 20 };

/// Every dialect that is spoken here.
pub(super) const PROTOCOLS: &[&dyn Protocol] = &[
    &pulse::Pulse,
    &segment::Segment,
    &segment::Settings,
    &posthog::PostHog,
    &amplitude::Amplitude,
    &mixpanel::Mixpanel,
    &snowplow::Snowplow,
    &snowplow::Image,
    &jitsu::Jitsu,
    &umami::Umami,
    &plausible::Plausible,
    &openpanel::OpenPanel,
    &google::MeasurementProtocol,
    &otlp::OpenTelemetry,
    &pixel::Pixel,
    &import::Import,
];

/// A dialect.
pub(super) trait Protocol: Sync {
    /// The paths that its clients call, as `matchit` reads them. No two dialects share one.
    fn paths(&self) -> &'static [&'static str];

    /// The methods that they use.
    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::POST];
        METHODS
    }

    /// The kind of key that they need. One that only sends events may be used by pages of any origin; others are not for pages.
    fn key_kind(&self) -> KeyKind {
        KeyKind::Write
    }

    /// The key that the head of a request shows.
    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        credential::in_headers(&head.headers)
    }

    /// Whether the key may be in the body. Such a body is read from a client that has shown no key: a part of the memory for bodies
    /// and less time are all that it gets.
    fn has_key_in_body(&self) -> bool {
        false
    }

    /// The largest batch that its clients are told they may send; for others the setting alone counts. They would drop what is refused.
    fn batch_of_clients(&self) -> Batch {
        Batch::default()
    }

    /// Whether bodies may be gzip without a header that says so.
    fn finds_gzip(&self) -> bool {
        false
    }

    /// Whether its clients send cookies along, as browsers allow only if the answer names the page's origin.
    fn has_cookies(&self) -> bool {
        false
    }

    /// Whether a server sends a request, as far as its head says so: its address is then no visitor's.
    fn is_of_server(&self, _head: &Head) -> bool {
        false
    }

    /// Whether the agent that a request names is the visitor's: of a page, which names its origin. Elsewhere a server's SDK may
    /// name itself there.
    fn has_agent_of_visitor(&self, head: &Head) -> bool {
        head.headers.contains_key(header::ORIGIN)
    }

    /// The dialect of such a request if it shows a write key, where this one is for other keys: one path of two products.
    fn with_write_key(&self, _uri: &Uri) -> Option<&'static dyn Protocol> {
        None
    }

    /// The answer to a request that brings no events: clients ask how they are set before they send.
    fn settings(&self, _head: &Head) -> Option<Response<Body>> {
        None
    }

    /// Refuses a request by its head alone, before its body is read, or says what becomes of its events.
    fn check(&self, _head: &Head) -> Result<Delivery, ApiError> {
        Ok(Delivery::Live)
    }

    /// Reads the events of a request, each as a draft, into `intake`.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal>;

    /// The answer once all that was accepted is durable.
    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body>;

    /// The answer to a request that is refused as a whole.
    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        error.into_response(&head.request_id)
    }
}

/// A request without its body.
pub(super) struct Head {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) client_ip: IpAddr,
    /// Whether the client speaks https, to pulse or to the proxy before it.
    pub(super) is_https: bool,
    pub(super) request_id: String,
}

impl Head {
    /// Splits a request.
    pub(super) fn of(call: Call) -> (Self, RequestBody) {
        let Call { request, peer, request_id } = call;
        let (parts, body) = request.into_parts();
        let (client_ip, is_https) = (peer.client_ip(&parts.headers), peer.is_https(&parts.headers));
        (Self { uri: parts.uri, headers: parts.headers, client_ip, is_https, request_id }, body)
    }

    /// What the client calls itself; empty if it does not.
    pub(super) fn agent(&self) -> &str {
        self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
    }

    /// The query of the address; empty if there is none.
    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }
}

/// A request whose body has been read.
pub(super) struct Received<'r> {
    pub(super) head: &'r Head,
    /// Inflated.
    pub(super) body: &'r [u8],
    pub(super) delivery: &'r Delivery,
}

/// What becomes of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// They share records with those of other requests; what is refused is told to the client.
    Live,
    /// They are history, with books of their own; what is refused becomes a dead letter.
    Import(Run),
}

/// One run of an importer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: u64,
    /// The name of the file or server that the lines are from.
    pub(super) source: String,
    /// Whether those without an id are known by their address (`visitors=address`).
    pub(super) has_visitors_by_address: bool,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn head(path: &str, agent: &str) -> Head {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, header::HeaderValue::from_str(agent).unwrap())]);
        let uri = Uri::try_from(path).unwrap();
        Head { uri, headers, client_ip: Ipv4Addr::LOCALHOST.into(), is_https: false, request_id: String::new() }
    }

    #[test]
    fn a_server_is_known_by_what_it_calls_itself_or_calls() {
        const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0";
        let told: [(&dyn Protocol, &str, &str, bool); 15] = [
            (&pulse::Pulse, "/v1/events", "pulse-python/0.1.0", true),
            (&pulse::Pulse, "/v1/events", "node", true),
            (&pulse::Pulse, "/v1/events", BROWSER, false),
            (&pulse::Pulse, "/v1/events", "Shop/310 (iPhone; iOS 17.5; Scale/3.00)", false),
            (&jitsu::Jitsu, "/api/s/s2s/track", "node", true),
            (&jitsu::Jitsu, "/api/s/track", BROWSER, false),
            (&otlp::OpenTelemetry, "/v1/logs", "OTel-OTLP-Exporter-Python/1.45.2", true),
            (&otlp::OpenTelemetry, "/v1/logs", BROWSER, false),
            (&segment::Segment, "/v1/track", "node", false),
            (&openpanel::OpenPanel, "/openpanel/track", "node", true),
            (&openpanel::OpenPanel, "/openpanel/track", "python-requests/2.32.3", true),
            (&openpanel::OpenPanel, "/openpanel/track", "Faraday v2.9.0", true),
            (&openpanel::OpenPanel, "/openpanel/track", "", true),
            (&openpanel::OpenPanel, "/openpanel/track", BROWSER, false),
            (&openpanel::OpenPanel, "/openpanel/track", "OpenPanel/0.0.1 iOS/17.5", false),
        ];
        for (protocol, path, agent, expected) in told {
            assert_eq!(protocol.is_of_server(&head(path, agent)), expected, "{path} {agent}");
        }
    }
}
