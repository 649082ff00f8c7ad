//! The listener: accepts, serves, drains.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::client_ip::Proxies;
use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::respond::{ApiError, Body, open_to_pages};
use super::stream::Stream;
use super::tls::Tls;
use super::wire::{Flow, LargeReads, Wire};
use super::{HttpConfig, Peer, proxy_protocol};
use crate::outage::Outage;

/// Buffer a connection reads into: a batch of 100 events in one or two frames.
const READ_BUFFER: usize = 256 << 10;
const MAX_HEADERS: usize = 64;
/// Pause after the system refuses to accept (too many open files): it cures itself or it does not, but spinning never helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection with a spare permit may take for its one request.
const SPARE_TIME: Duration = Duration::from_secs(2);

/// The part of a body that the routes did not read is drained up to this size: an answer in the middle of a body ends the connection,
/// and a client that is still sending would find it reset and never see why it was refused. Beyond this size the reset is the answer.
const DRAIN_BYTES: usize = 4 << 20;
/// And no longer than this.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The body of a request, still on the wire. What is left of it when it is dropped goes back to the connection.
#[derive(Debug)]
pub struct RequestBody {
    rest: Option<Incoming>,
    unread: Unread,
    flow: Arc<Flow>,
    budget: Budget,
    /// Whether it is read in small pieces: its client has shown no key.
    is_small: bool,
}

/// Where a dropped [`RequestBody`] leaves its rest.
type Unread = Arc<Mutex<Option<Incoming>>>;

impl RequestBody {
    /// What bodies of the process may hold together.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// From now on reads small pieces.
    pub(super) fn read_small(&mut self) {
        self.is_small = true;
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx));
        self.flow.waits_for_body(polled.is_pending(), !self.is_small);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.flow.waits_for_body(false, false);
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = self.rest.take();
    }
}

/// One request as routes see it.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request<RequestBody>,
    /// Who sent it.
    pub peer: Peer,
    /// Names it in answers and logs.
    pub request_id: String,
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    encrypted: Option<Encrypted>,
    config: Arc<HttpConfig>,
    proxies: Arc<Proxies>,
}

/// A listener beside the other one, whose limits it shares.
#[derive(Debug)]
struct Encrypted {
    listener: TcpListener,
    tls: Tls,
}

/// A connection as it is accepted.
struct Accepted {
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<Tls>,
}

impl Server {
    /// Binds the listener. Errors: the address is taken or not ours; names it.
    pub async fn bind(config: &HttpConfig) -> Result<Self, String> {
        let (address, proxies) = (config.address()?, config.proxies()?);
        let listener = TcpListener::bind(address).await.map_err(|problem| format!("{}: `{address}`: {problem}", config.key()))?;
        let encrypted = match config.tls_address()? {
            Some(address) => {
                let tls = Tls::open(&config.tls)?;
                let listener = TcpListener::bind(address).await.map_err(|problem| format!("http.tls.listen: `{address}`: {problem}"))?;
                Some(Encrypted { listener, tls })
            }
            None => None,
        };
        Ok(Self { listener, encrypted, config: Arc::new(config.clone()), proxies })
    }

    /// Where it listens for encrypted connections, if it does.
    pub fn tls_address(&self) -> Option<std::io::Result<SocketAddr>> {
        self.encrypted.as_ref().map(|encrypted| encrypted.listener.local_addr())
    }

    /// The next connection of either listener.
    ///
    /// # Cancel safety
    /// No connection is lost.
    async fn accept(&self) -> std::io::Result<Accepted> {
        let encrypted = async {
            match &self.encrypted {
                Some(Encrypted { listener, tls }) => listener.accept().await.map(|accepted| (accepted, tls.clone())),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            plain = self.listener.accept() => plain.map(|(stream, from)| Accepted { stream, from, tls: None }),
            accepted = encrypted => accepted.map(|((stream, from), tls)| Accepted { stream, from, tls: Some(tls) }),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until asked to stop; then accepts nothing more and lets requests that were read be answered. Each connection, and each request,
    /// holds `routes`: a small thing.
    pub async fn serve<F, R>(self, routes: F, stop: CancellationToken) -> Result<(), std::io::Error>
    where
        F: Fn(Call) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let limit = ConnectionLimit::new(self.config.max_connections, self.config.max_connections_per_client);
        let (large_reads, budget) = (LargeReads::default(), Budget::new(self.config.max_body_memory));
        let (mut connections, mut outage) = (JoinSet::new(), Outage::default());
        if let Some(Encrypted { tls, .. }) = &self.encrypted {
            connections.spawn(tls.clone().watch(stop.clone()));
        }
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(), if limit.has_room() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(Accepted { stream, from, tls }) => {
                    let peer = Peer::new(from.ip(), Arc::clone(&self.proxies));
                    let client = (!peer.is_proxy()).then_some(from.ip());
                    let Some(permit) = limit.take(client) else { continue };
                    let flow = Flow::new(large_reads.clone());
                    let connection = Connection { peer, flow, permit, budget: budget.clone(), config: Arc::clone(&self.config) };
                    connections.spawn(connection.serve(Arriving { stream, tls }, routes.clone(), stop.clone()));
                }
                Err(problem) => {
                    // One succeeds now and then meanwhile: only a while without a failure ends this.
                    if outage.begins() {
                        tracing::warn!(%problem, "cannot accept");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self.listener, self.encrypted));
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// One connection: who it is, what it may take, and how far it has come.
struct Connection {
    peer: Peer,
    flow: Arc<Flow>,
    permit: ConnectionPermit,
    budget: Budget,
    config: Arc<HttpConfig>,
}

/// A connection of which nothing was read yet.
struct Arriving {
    stream: TcpStream,
    tls: Option<Tls>,
}

impl Connection {
    /// Serves it until it ends, or until it holds up a drain.
    async fn serve<F, R>(mut self, arriving: Arriving, routes: F, stop: CancellationToken)
    where
        F: Fn(Call) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let longest = self.permit.is_spare.then_some(SPARE_TIME);
        let begins = tokio::time::timeout(longest.unwrap_or(self.config.header_timeout), self.begin(arriving));
        let Some(Ok(Some(stream))) = stop.run_until_cancelled(begins).await else { return };
        // Until a client has sent something it costs neither buffers nor the room for what becomes of a request.
        let serving = Box::pin(self.run(stream, routes, stop));
        match longest {
            Some(longest) => drop(tokio::time::timeout(longest, serving).await),
            None => serving.await,
        }
    }

    /// Waits for the first byte of a connection, which may say first who it is of, and may be encrypted.
    async fn begin(&mut self, Arriving { stream, tls }: Arriving) -> Option<Stream> {
        // Not `readable`: a new stream is taken for it until it was read from once.
        let mut first = [0; 1];
        if !matches!(stream.peek(&mut first).await, Ok(1)) || stream.set_nodelay(true).is_err() {
            return None;
        }
        let stream = if self.config.proxy_protocol && self.peer.is_proxy() { self.introduced(stream).await? } else { stream };
        let Some(tls) = tls else { return Some(Stream::Plain(stream)) };
        self.peer = self.peer.clone().over_tls();
        // Boxed, so that connections that are not encrypted do not hold the room for a handshake.
        Box::pin(tls.accept(stream, &self.budget)).await
    }

    /// Reads who is behind a proxy.
    async fn introduced(&mut self, mut stream: TcpStream) -> Option<TcpStream> {
        match proxy_protocol::read(&mut stream).await {
            Ok(Some(client)) if self.permit.belongs_to(client) => self.peer = self.peer.with(client),
            Ok(Some(_)) => return None,
            Ok(None) => {}
            Err(problem) => {
                tracing::debug!(%problem, "connection of a proxy closed");
                return None;
            }
        }
        Some(stream)
    }

    async fn run<F, R>(self, stream: Stream, routes: F, stop: CancellationToken)
    where
        F: Fn(Call) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let (header_timeout, is_spare) = (self.config.header_timeout, self.permit.is_spare);
        let wire = Wire::new(stream, Arc::clone(&self.flow), self.budget.clone(), self.config.write_timeout);
        let (flow, connection) = (Arc::clone(&self.flow), Arc::new(self));
        let service = service_fn(move |request| {
            // Not in the answer itself: what is polled before it reads on.
            connection.flow.begins_answer();
            Arc::clone(&connection).answer(routes.clone(), request)
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // No `pipeline_flush`: it holds an answer back while unread bytes wait, so the refusal of a malformed request, whose bytes
        // are never read, would not be sent at all.
        builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_headers(MAX_HEADERS).max_buf_size(READ_BUFFER);
        // Boxed, so that it is held once and not also where it was made.
        let mut connection = Box::pin(builder.keep_alive(!is_spare).serve_connection(TokioIo::new(wire), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection.as_mut() => log_end(ended),
            () = flow.is_held_up() => tracing::debug!("connection closed: its client holds up the end"),
        }
    }

    /// Runs a request; a panic in it is its own 500.
    async fn answer<F, R>(self: Arc<Self>, routes: F, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible>
    where
        F: Fn(Call) -> R,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let request_id = super::request_id();
        let id = request_id.clone();
        let mut response = match self.refusal(&request) {
            Some((error, then)) => {
                let mut response = error.into_response(&id);
                response.headers_mut().extend(then);
                open_to_pages(&mut response, None);
                response
            }
            None => self.routed(routes, request, request_id).await,
        };
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        // RFC 9110, 15.5.2: whatever the dialect, a client is told how it may show who it is.
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().entry(header::WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer"));
        }
        self.flow.ends_answer();
        Ok(response)
    }

    /// Why a request is answered without a look at its path, and the headers that go with it.
    fn refusal(&self, request: &Request<Incoming>) -> Option<(ApiError, Option<(HeaderName, HeaderValue)>)> {
        if let Some(error) = why_improper(request) {
            // The next proxy may see the end of this request elsewhere.
            return Some((error, Some((header::CONNECTION, HeaderValue::from_static("close")))));
        }
        if request.method() == Method::CONNECT {
            let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use GET, POST, OPTIONS");
            return Some((error, Some((header::ALLOW, HeaderValue::from_static("GET, POST, OPTIONS")))));
        }
        let is_crowded = self.permit.is_spare && !matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
        is_crowded.then(|| (ApiError::unavailable("overloaded", "too many connections; try again", self.budget.retry_after()), None))
    }

    async fn routed<F, R>(&self, routes: F, mut request: Request<Incoming>, request_id: String) -> Response<Body>
    where
        F: Fn(Call) -> R,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let id = request_id.clone();
        // RFC 9112, 3.2.2: where the target names a host, the header counts for nothing.
        let host = request.uri().authority().and_then(|target| HeaderValue::from_str(target.as_str().rsplit('@').next()?).ok());
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        let expects_continue = request.headers().contains_key(header::EXPECT);
        let unread = Unread::default();
        let (flow, budget, peer) = (Arc::clone(&self.flow), self.budget.clone(), self.peer.clone());
        let request = request.map(|rest| RequestBody { rest: Some(rest), unread: Arc::clone(&unread), flow, budget, is_small: false });
        let call = Call { request, peer, request_id };
        // Boxed, so that a connection that waits for its next request does not hold the room for what becomes of one.
        let response = AssertUnwindSafe(Box::pin(routes(call))).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(request = id, "request panicked");
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong; nothing more is known");
            let mut response = error.into_response(&id);
            open_to_pages(&mut response, None);
            response
        });
        let rest = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rest) = rest
            && response.status() != StatusCode::REQUEST_TIMEOUT
            // Reading would make hyper send `100 Continue`, which asks the client to send after all.
            && !expects_continue
        {
            self.flow.waits_for_rest();
            drain_body(rest).await;
        }
        response
    }
}

/// What keeps a request from being one, where the parser lets it pass.
fn why_improper(request: &Request<Incoming>) -> Option<ApiError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version() >= Version::HTTP_11 {
        return Some(ApiError::bad_request("invalid_host", format!("a request has one `host` header, this one has {hosts}")));
    }
    if request.headers().get(header::HOST).is_some_and(|host| !is_host(host)) {
        return Some(ApiError::bad_request("invalid_host", "the `host` header must be a name or an address, with or without a port"));
    }
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let is_known = codings.next().is_none_or(is_chunked) && codings.next().is_none();
    let message = "the only transfer coding is `chunked`; compress with content-encoding";
    (!is_known).then(|| ApiError::new(StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_encoding", message))
}

/// Whether a value is a host, with or without a port, or none, as where the address has no host.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(host) = value.to_str() else { return false };
    // Behind an address in brackets, whose colons are its own.
    let port = host.rsplit(']').next().and_then(|rest| rest.split_once(':')).map_or("", |(_, port)| port);
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    host.is_empty() || is_port && !host.contains('@') && host.parse::<Authority>().is_ok()
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(problem) = ended {
        tracing::debug!(%problem, "connection ended");
    }
}

/// Reads what is left of a body and forgets it, within bounds.
async fn drain_body(rest: Incoming) {
    if rest.size_hint().lower() > DRAIN_BYTES as u64 {
        return;
    }
    let mut rest = Limited::new(rest, DRAIN_BYTES);
    let read = async { while let Some(Ok(_)) = rest.frame().await {} };
    // Too slow is as good as too large.
    drop(tokio::time::timeout(DRAIN_TIME, read).await);
}

#[cfg(test)]
mod tests;
