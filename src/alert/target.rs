//! Where notices are sent over HTTP, and the guard in front of it.
//!
//! Promises: a name is resolved once and every address is checked; the connection goes to a checked address, the next one where nobody is
//! at the first, under the name that was resolved. No redirect is followed, no proxy is used, at most 64 KiB of an answer are read, and as
//! much of what comes before it (its head, and any number of `100 Continue`); nothing of it is shown. Only `https` on the usual ports, unless the one who wrote the channel may say otherwise ([`Trust::Operator`]).
//! Pulse's own address is refused where it is not a public one, and not where it is: who may save a channel may ask it anything anyway, and a
//! notice carries no key.
//! May go wrong: a name resolves to an address that is not to be reached: nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::ConfigBuilderExt;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

/// Most addresses of a name that are tried, one after the other.
const MOST_TRIED: usize = 4;
/// Longest time to resolve, and to connect, whatever the number of addresses; and for all of it.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(10);
/// How long the rest of an answer is read once its status is known.
const REST: Duration = Duration::from_secs(1);
/// Most of an answer that is read, and of its head with what may come before it.
const MAX_ANSWER: usize = 64 << 10;
const MAX_HEAD: usize = 64 << 10;
/// Ports that channels saved over HTTP may reach: others are of services that may take a request for a command.
const PORTS: [u16; 2] = [443, 8443];
/// Longest pause that a receiver may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How far the one who wrote the address is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They operate this pulse: any address, and `http`.
    Operator,
    /// They have a key, and reach no further than this.
    Key(Arc<Reach>),
}

/// How far somebody with a key reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Networks beside public addresses.
    pub(crate) networks: Vec<IpNet>,
    /// The hosts alone that may be named; any where there are none.
    pub(crate) hosts: Vec<HostPattern>,
}

/// A host, or all below a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// This one, as addresses write it.
    Is(String),
    /// Whatever ends in this, which begins with a dot.
    Below(String),
}

impl HostPattern {
    /// Reads `hooks.example.com`, `*.example.com` or an address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (is_below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        // Written as addresses are: in small letters, of other alphabets in their ASCII form.
        let host = Host::parse(name).or_else(|_| Host::parse(&format!("[{name}]"))).ok()?;
        match host {
            Host::Domain(name) if name.contains('*') => None,
            Host::Domain(name) if is_below => Some(Self::Below(format!(".{name}"))),
            host => (!is_below).then(|| Self::Is(host.to_string())),
        }
    }

    fn holds(&self, host: &str) -> bool {
        match self {
            Self::Is(name) => name == host,
            Self::Below(end) => host.ends_with(end),
        }
    }
}

/// A checked address.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    url: Url,
    trust: Trust,
}

/// How sending went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is there.
    Done,
    /// It is there, but not with all who were to have it, and why.
    Partly(String),
    /// The receiver has no word for it, so nothing was sent, and why.
    Skipped(String),
    /// It may go better later; after what time if the receiver said so.
    Later { why: String, pause: Option<Duration> },
    /// The receiver does not want any more.
    Gone,
    /// It will never go.
    Never(String),
}

impl Sent {
    /// Whether the receiver has it.
    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self, Self::Done | Self::Partly(_))
    }
}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// JSON.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { headers, body: value.to_string().into() }
    }
}

impl Target {
    /// Checks an address as far as that is possible without resolving it.
    ///
    /// # Errors
    /// What is wrong with it, without the address: it may hold a secret.
    pub(crate) fn new(text: &str, trust: Trust) -> Result<Self, String> {
        if text.len() > 2_000 || text.contains(['\\', '\t', '\n', '\r']) || text.chars().any(char::is_control) {
            return Err("the address has characters that it must not have".to_owned());
        }
        let url = Url::parse(text).map_err(|_| "the address cannot be read".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("the address must have no user and no fragment".to_owned());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let is_public = matches!(trust, Trust::Key(_));
        match url.scheme() {
            "https" => {}
            "http" if !is_public => {}
            _ => return Err("the address must begin with https://".to_owned()),
        }
        if is_public && !PORTS.contains(&port) {
            return Err(format!("port {port} is not allowed: 443 and 8443 are"));
        }
        let target = Self { url, trust };
        if !target.may_be_named() {
            return Err(format!("the host {} is none of alerts.allow_hosts", target.host()));
        }
        match target.url.host() {
            None => Err("the address has no host".to_owned()),
            Some(Host::Ipv4(ip)) => target.check(IpAddr::V4(ip)).map(|()| target.clone()),
            Some(Host::Ipv6(ip)) => target.check(IpAddr::V6(ip)).map(|()| target.clone()),
            Some(Host::Domain(name)) if !target.may_be_local() && is_local_name(name) => {
                Err("the address is that of this network".to_owned())
            }
            Some(Host::Domain(_)) => Ok(target),
        }
    }

    /// Its host, for logs.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Whether its host is among those that may be.
    fn may_be_named(&self) -> bool {
        let host = self.host().trim_end_matches('.');
        match &self.trust {
            Trust::Operator => true,
            Trust::Key(reach) => reach.hosts.is_empty() || reach.hosts.iter().any(|pattern| pattern.holds(host)),
        }
    }

    /// Whether names of this network may be meant; what they resolve to is checked either way.
    fn may_be_local(&self) -> bool {
        match &self.trust {
            Trust::Operator => true,
            Trust::Key(reach) => !reach.networks.is_empty(),
        }
    }

    fn check(&self, ip: IpAddr) -> Result<(), String> {
        match &self.trust {
            Trust::Operator => Ok(()),
            Trust::Key(reach) if is_public(ip) || reach.networks.iter().any(|net| net.contains(&ip)) => Ok(()),
            Trust::Key(_) => Err("the address is not a public one".to_owned()),
        }
    }

    /// Sends, once.
    pub(crate) async fn post(&self, outgoing: Outgoing) -> Sent {
        let later = |why: &str| Sent::Later { why: why.to_owned(), pause: None };
        tokio::time::timeout(TOTAL, self.try_post(outgoing)).await.unwrap_or_else(|_| later("it takes too long"))
    }

    async fn try_post(&self, outgoing: Outgoing) -> Sent {
        let later = |why: String| Sent::Later { why, pause: None };
        let addresses = match self.resolve().await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(refused)) => return Sent::Never(refused),
            Err(problem) => return later(problem),
        };
        let stream = match connected(&addresses).await {
            Ok(stream) => stream,
            Err(problem) => return later(problem),
        };
        let Some(request) = self.request(outgoing) else { return Sent::Never("the request cannot be made".to_owned()) };
        if self.url.scheme() == "http" {
            return exchange(stream, request).await;
        }
        let name = self.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (Some(tls), Ok(name)) = (tls(), ServerName::try_from(name)) else {
            return later("the certificates of this machine cannot be read".to_owned());
        };
        match TlsConnector::from(tls).connect(name, stream).await {
            Ok(stream) => exchange(stream, request).await,
            Err(_) => later("the connection cannot be encrypted".to_owned()),
        }
    }

    fn request(&self, outgoing: Outgoing) -> Option<Request<Full<Bytes>>> {
        let path = format!("{}{}", self.url.path(), self.url.query().map(|query| format!("?{query}")).unwrap_or_default());
        let host = match self.url.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        };
        let mut request = Request::post(path).header(HOST, host).body(Full::new(outgoing.body)).ok()?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("pulse/", env!("CARGO_PKG_VERSION"))));
        request.headers_mut().extend(outgoing.headers);
        Some(request)
    }

    /// The addresses of the name, all of which may be reached, in the order in which they are to be tried; `Ok(Err)` if one may not.
    async fn resolve(&self) -> Result<Result<Vec<SocketAddr>, String>, String> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let mut addresses: Vec<SocketAddr> = match self.url.host() {
            Some(Host::Ipv4(ip)) => vec![SocketAddr::new(IpAddr::V4(ip), port)],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::new(IpAddr::V6(ip), port)],
            Some(Host::Domain(name)) => {
                let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((name, port))).await;
                found
                    .map_err(|_| "the name is not resolved in time".to_owned())?
                    .map_err(|_| "the name cannot be resolved".to_owned())?
                    .collect()
            }
            None => Vec::new(),
        };
        if let Some(refused) = addresses.iter().find_map(|address| self.check(address.ip()).err()) {
            return Ok(Err(refused));
        }
        // IPv4 first: where there is no way for IPv6 that is seen only when connecting.
        addresses.sort_by_key(|address| !address.is_ipv4());
        if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(Ok(addresses)) }
    }
}

/// Connects to the first of these that is there.
///
/// # Errors
/// Why it is not the last of them.
async fn connected(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let tried = addresses.len().min(MOST_TRIED);
    let patience = CONNECT / u32::try_from(tried.max(1)).unwrap_or(1);
    let mut last = String::new();
    for address in addresses.iter().take(tried) {
        last = match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(problem)) => format!("cannot connect: {}", problem.kind()),
            Err(_) => "cannot connect in time".to_owned(),
        };
    }
    Err(last)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Sent
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let later = |why: &str| Sent::Later { why: why.to_owned(), pause: None };
    // There is one answer on a connection. Without this, interim ones would be read as long as they come.
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(read.take((MAX_HEAD + MAX_ANSWER) as u64), write);
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return later("the receiver speaks no HTTP");
    };
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|_| ())?;
        let (head, body) = answer.into_parts();
        // The status is all that counts: whether the rest comes, and ever ends, changes nothing.
        let _ = tokio::time::timeout(REST, Limited::new(body, MAX_ANSWER).collect()).await;
        Ok::<_, ()>(head)
    };
    tokio::pin!(connection, answering);
    let head = tokio::select! {
        head = &mut answering => head,
        _ = &mut connection => answering.await,
    };
    match head {
        Ok(head) => verdict(head.status, &head.headers),
        Err(()) => later("the connection broke"),
    }
}

/// What a status means.
fn verdict(status: StatusCode, headers: &HeaderMap) -> Sent {
    let code = status.as_u16();
    match code {
        200..=299 => Sent::Done,
        410 => Sent::Gone,
        408 | 425 | 429 | 500..=599 => {
            let pause = headers.get(RETRY_AFTER).and_then(|value| pause_of(value.to_str().ok()?.trim(), Timestamp::now()));
            Sent::Later { why: format!("the receiver answers {code}"), pause }
        }
        _ => Sent::Never(format!("the receiver answers {code}")),
    }
}

/// How long a receiver wants to be left in peace: so many seconds, or until a date (RFC 9110, 10.2.3).
fn pause_of(text: &str, now: Timestamp) -> Option<Duration> {
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().duration_since(now)).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// Made once: reading the certificates of the machine takes milliseconds.
fn tls() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    made_once(&CONFIG, || {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        Some(Arc::new(builder.with_native_roots().ok()?.with_no_client_auth()))
    })
}

/// What is in `place`, or is made and kept there. What cannot be made is tried again the next time: a file may be there then.
fn made_once<T: Clone>(place: &OnceLock<T>, make: impl FnOnce() -> Option<T>) -> Option<T> {
    place.get().cloned().or_else(|| make().map(|made| place.get_or_init(|| made).clone()))
}

/// Names that mean this machine or its network.
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let endings = [".localhost", ".local", ".internal", ".localdomain", ".home.arpa"];
    name == "localhost" || !name.contains('.') || endings.iter().any(|ending| name.ends_with(ending))
}

/// Whether an address is one of the public internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    if let Some(v4) = ip.to_ipv4_mapped().or_else(|| ip.to_ipv4()) {
        return is_public_v4(v4);
    }
    let is_documentation = (a, b) == (0x2001, 0xdb8);
    let is_tunnel = a == 0x2002 || (a, b) == (0x2001, 0);
    // 2000::/3 is all that is given out; so 64:ff9b::/96, which is reached as IPv4, is not.
    (a & 0xe000) == 0x2000 && !is_documentation && !is_tunnel
}

#[cfg(test)]
mod tests;
