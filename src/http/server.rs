//! The listener: accepts, serves, drains.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::peer::Network;
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

/// What nobody read of a larger body is read and thrown away up to this size, for the same reason: a client that is still
/// sending would find its connection reset and never see why it was refused. Beyond it the reset is the answer.
const READ_AWAY: u64 = 4 << 20;
/// And no longer than this.
const READ_AWAY_TIME: Duration = Duration::from_secs(2);

/// The body of a request: read already if it is small.
pub type RequestBody = Either<Full<Bytes>, LargeBody>;

/// A body still on the wire. What is left of it when it is dropped goes back to the connection.
#[derive(Debug)]
pub struct LargeBody {
    rest: Option<Incoming>,
    unread: Unread,
}

/// Where a dropped [`LargeBody`] leaves its rest.
type Unread = Arc<Mutex<Option<Incoming>>>;

impl HttpBody for LargeBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
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
    config: HttpConfig,
    proxies: Arc<[Network]>,
}

impl Server {
    /// Binds the listener. Errors: the address is taken or not ours; names it.
    pub async fn bind(config: &HttpConfig) -> Result<Self, String> {
        let (address, proxies) = (config.address()?, config.proxies()?);
        let listener = TcpListener::bind(address).await.map_err(|problem| format!("http.listen: `{address}`: {problem}"))?;
        Ok(Self { listener, config: config.clone(), proxies })
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
                    let peer = Peer::new(from.ip(), Arc::clone(&self.proxies));
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
    // No `pipeline_flush`: it holds an answer back while unread bytes wait, so the refusal of a malformed request, whose bytes
    // are never read, would not be sent at all.
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_headers(MAX_HEADERS).max_buf_size(READ_BUFFER);
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
    let unread = Unread::default();
    let waits_for_leave = request.headers().contains_key(header::EXPECT);
    let mut response = match read_first(request, body_timeout, &unread).await {
        Ok(request) => CatchPanic(Box::pin(routes(Call { request, peer, request_id }))).await.unwrap_or_else(|()| {
            tracing::error!(request = id, "request panicked");
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong; nothing more is known");
            error.into_response(&id)
        }),
        Err(error) => error.into_response(&id),
    };
    let rest = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(rest) = rest
        && response.status() != StatusCode::REQUEST_TIMEOUT
        // Reading would tell a client that waits for leave to send after all.
        && !waits_for_leave
    {
        read_away(rest).await;
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    Ok(response)
}

/// Reads what is left of a body and forgets it, within bounds.
async fn read_away(mut rest: Incoming) {
    if rest.size_hint().lower() > READ_AWAY {
        return;
    }
    let read = async {
        let mut size = 0;
        while let Some(Ok(frame)) = rest.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len) as u64;
            if size > READ_AWAY {
                return;
            }
        }
    };
    // Too slow is as good as too large.
    drop(tokio::time::timeout(READ_AWAY_TIME, read).await);
}

/// Reads a small body at once; a large one is left to whoever wants it.
async fn read_first(request: Request<Incoming>, timeout: Duration, unread: &Unread) -> Result<Request<RequestBody>, ApiError> {
    if request.body().size_hint().upper().is_none_or(|size| size > READ_FIRST) {
        return Ok(request.map(|body| Either::Right(LargeBody { rest: Some(body), unread: Arc::clone(unread) })));
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
struct CatchPanic<R>(Pin<Box<R>>);

impl<R: Future> Future for CatchPanic<R> {
    type Output = Result<R::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
mod tests;
