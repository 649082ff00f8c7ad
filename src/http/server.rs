//! The listener: accepts, serves, drains.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::respond::{ApiError, Body};
use super::{HttpConfig, Peer};

/// Buffer a connection reads into: a batch of 100 events in one or two frames.
const READ_BUFFER: usize = 256 << 10;
const MAX_HEADERS: usize = 64;
/// Pause after the system refuses to accept (too many open files): it cures itself or it does not, but spinning never helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A body up to this size is read before the request is answered, whatever the answer: an answer in the middle of a body
/// ends the connection, and a client that sends its next request on it would see that as a failure.
const READ_FIRST: u64 = 64 << 10;

/// The body of a request: read already if it is small.
pub type RequestBody = Either<Full<Bytes>, Incoming>;

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
    config: HttpConfig,
}

impl Server {
    /// Binds the listener. Errors: the address is taken or not ours; names it.
    pub async fn bind(config: &HttpConfig) -> Result<Self, String> {
        let address = config.address()?;
        let listener = TcpListener::bind(address).await.map_err(|problem| format!("http.listen: `{address}`: {problem}"))?;
        Ok(Self { listener, config: config.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until asked to stop; then accepts nothing more and lets requests that were read be answered.
    pub async fn serve<F, R>(self, routes: F, stop: CancellationToken) -> Result<(), std::io::Error>
    where
        F: Fn(Call) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.config.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, from)) => {
                    let peer = Peer::new(from.ip(), &self.config);
                    let connection = connection(stream, peer, (routes.clone(), self.config.clone()), stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(problem) => {
                    tracing::warn!(%problem, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

async fn connection<F, R>(stream: TcpStream, peer: Peer, (routes, config): (F, HttpConfig), stop: CancellationToken)
where
    F: Fn(Call) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (header_timeout, body_timeout) = (config.header_timeout, config.body_timeout);
    let service = service_fn(move |request| answer(routes.clone(), request, (peer.clone(), body_timeout)));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(READ_BUFFER)
        .pipeline_flush(true);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    log_end(connection.await);
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(problem) = ended {
        tracing::debug!(%problem, "connection ended");
    }
}

fn request_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Runs a request; a panic in it is its own 500.
async fn answer<F, R>(
    routes: F,
    request: Request<Incoming>,
    (peer, body_timeout): (Peer, Duration),
) -> Result<Response<Body>, std::convert::Infallible>
where
    F: Fn(Call) -> R,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let request_id = request_id();
    let id = request_id.clone();
    let mut response = match read_first(request, body_timeout).await {
        Ok(request) => CatchPanic(Box::pin(routes(Call { request, peer, request_id }))).await.unwrap_or_else(|()| {
            tracing::error!(request = id, "request panicked");
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong; nothing more is known");
            error.into_response(&id)
        }),
        Err(error) => error.into_response(&id),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    Ok(response)
}

/// Reads a small body at once; a large one is left to whoever wants it.
async fn read_first(request: Request<Incoming>, timeout: Duration) -> Result<Request<RequestBody>, ApiError> {
    if request.body().size_hint().upper().is_none_or(|size| size > READ_FIRST) {
        return Ok(request.map(Either::Right));
    }
    let (head, body) = request.into_parts();
    let bytes = match tokio::time::timeout(timeout, body.collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => return Err(ApiError::bad_request("body_incomplete", "the body ended before its length")),
        Err(_) => {
            let message = format!("the body was not complete within {timeout:?}");
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message));
        }
    };
    Ok(Request::from_parts(head, Either::Left(Full::new(bytes))))
}

/// Turns a panic of a future into an error.
struct CatchPanic<R>(std::pin::Pin<Box<R>>);

impl<R: Future> Future for CatchPanic<R> {
    type Output = Result<R::Output, ()>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(())),
        }
    }
}
