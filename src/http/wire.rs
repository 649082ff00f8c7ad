//! The bytes of one connection, and the time and memory they may cost.
//!
//! Promises: the head of a request is read up to [`MAX_HEAD`] bytes, large heads count among what bodies may hold together, and the
//! buffers of a client that has shown no key stay small; an answer that is not taken, or in crumbs, ends its connection; while the instance
//! drains, so does anything else that does not move.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::budget::{Budget, Claim, Share};
use super::respond::ApiError;
use super::stream::Stream;

/// Most bytes of a request's line and headers. Cookies and proxies make a few kilobytes.
const MAX_HEAD: usize = 32 << 10;
/// What is read at a time from a client that has shown no key: less than the smallest buffer there is, which is doubled once it is filled.
const SMALL_READ: usize = (8 << 10) - 1;
/// What a head takes that is larger than that: buffers grow by doubling.
const LARGE_HEAD: usize = 2 * MAX_HEAD;
/// Connections whose reads may be as large as the buffers: more gain nothing, for there are not as many cores.
const MAX_LARGE_READS: usize = 128;
/// Bytes a second that a client takes at least of what waits for it, over the time that a write may take. Slower is no line of today, and
/// who takes a few bytes just before each deadline would hold a connection for ever.
const LEAST_RATE: u64 = 1 << 10;
/// While the instance drains: how long a client may not move, and how long it may move without coming to an end.
const DRAIN_STILL: Duration = Duration::from_secs(2);
const DRAIN_LONGEST: Duration = Duration::from_secs(10);

/// What the connection waits for: the head of a request, its body, or the client taking the answer.
const OF_HEAD: u8 = 0;
const OF_BODY: u8 = 1;
const OF_ANSWER: u8 = 2;

/// Connections with large reads, of all connections together.
#[derive(Clone, Debug, Default)]
pub(super) struct LargeReads(Arc<AtomicUsize>);

/// The progress of a connection; shared by the stream and the service.
#[derive(Debug)]
pub(super) struct Flow {
    turn: AtomicU8,
    requests: AtomicU64,
    moved: AtomicU64,
    reads_large: AtomicBool,
    large_reads: LargeReads,
}

impl Flow {
    pub(super) fn new(large_reads: LargeReads) -> Arc<Self> {
        let (turn, reads_large) = (AtomicU8::new(OF_HEAD), AtomicBool::new(false));
        Arc::new(Self { turn, requests: AtomicU64::new(0), moved: AtomicU64::new(0), reads_large, large_reads })
    }

    /// The head of a request is read: an answer is being made.
    pub(super) fn begins_answer(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.turn.store(OF_ANSWER, Ordering::Relaxed);
    }

    /// The answer is made: what is left is to be taken by the client, and then the next head is its turn.
    pub(super) fn ends_answer(&self) {
        self.turn.store(OF_HEAD, Ordering::Relaxed);
    }

    /// The answer needs the body, or no longer; `may_be_large`: the client has shown a key.
    pub(super) fn waits_for_body(&self, waits: bool, may_be_large: bool) {
        self.turn.store(if waits { OF_BODY } else { OF_ANSWER }, Ordering::Relaxed);
        if waits && may_be_large && !self.reads_large.load(Ordering::Relaxed) {
            let take = |taken: usize| (taken < MAX_LARGE_READS).then_some(taken + 1);
            let is_taken = self.large_reads.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
            self.reads_large.store(is_taken, Ordering::Relaxed);
        }
    }

    /// The answer is made, but the client still sends the rest of its body.
    pub(super) fn waits_for_rest(&self) {
        self.turn.store(OF_BODY, Ordering::Relaxed);
    }

    /// Returns once the client holds up the end of a drain: it neither sends what it began nor takes what it is given.
    pub(super) async fn is_held_up(&self) {
        let began = Instant::now();
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            tokio::time::sleep(DRAIN_STILL).await;
            let is_still = self.moved.load(Ordering::Relaxed) == before || began.elapsed() >= DRAIN_LONGEST;
            if is_still && self.turn.load(Ordering::Relaxed) != OF_ANSWER {
                return;
            }
        }
    }

    fn moves(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.large_reads.0.fetch_sub(usize::from(*self.reads_large.get_mut()), Ordering::Relaxed);
    }
}

/// A connection within limits.
pub(super) struct Wire {
    stream: Stream,
    flow: Arc<Flow>,
    /// The request whose head is being read, and what was read of it.
    request: u64,
    head: usize,
    has_line: bool,
    budget: Budget,
    large_head: Option<Share>,
    patience: Patience,
}

/// How long is still waited for a client to take what is written. Waiting uses it up, and what is taken gives it back at [`LEAST_RATE`].
struct Patience {
    most: Duration,
    left: Duration,
    /// Runs while nothing is taken.
    stall: Option<Stall>,
}

struct Stall {
    since: Instant,
    ends: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(most: Duration) -> Self {
        Self { most, left: most, stall: None }
    }

    /// So many bytes were taken.
    fn renew(&mut self, bytes: usize) {
        if let Some(stall) = self.stall.take() {
            self.left = self.left.saturating_sub(stall.since.elapsed());
        }
        let earned = Duration::from_millis((bytes as u64).saturating_mul(1_000) / LEAST_RATE);
        self.left = self.left.saturating_add(earned).min(self.most);
    }

    /// Nothing is taken now; ready once that has lasted for too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let stall = self.stall.get_or_insert_with(|| Stall { since: Instant::now(), ends: Box::pin(tokio::time::sleep(left)) });
        stall.ends.as_mut().poll(cx)
    }
}

impl Wire {
    pub(super) fn new(stream: Stream, flow: Arc<Flow>, budget: Budget, write_timeout: Duration) -> Self {
        Self { stream, flow, request: 0, head: 0, has_line: false, budget, large_head: None, patience: Patience::new(write_timeout) }
    }

    /// Whether more of a head may be read; one that has become large needs its share.
    fn take_head(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.head >= MAX_HEAD {
            return Err(self.refuse_head(cx));
        }
        if self.head >= SMALL_READ && self.large_head.is_none() {
            // As imports, which leave half to bodies.
            let mut share = self.budget.share(Claim::Import);
            if let Err(error) = share.hold(LARGE_HEAD) {
                self.refuse(&error, cx);
                return Err(Error::new(ErrorKind::OutOfMemory, "too many large heads"));
            }
            self.large_head = Some(share);
        }
        Ok(())
    }

    /// Answers that the head is too large, if the client still reads.
    fn refuse_head(&mut self, cx: &mut Context<'_>) -> Error {
        let error = match self.has_line {
            true => ApiError::new(
                hyper::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                format!("more than {MAX_HEAD} bytes of headers"),
            ),
            false => ApiError::new(hyper::StatusCode::URI_TOO_LONG, "uri_too_long", format!("more than {MAX_HEAD} bytes of address")),
        };
        self.refuse(&error, cx);
        Error::new(ErrorKind::InvalidData, "head too large")
    }

    fn refuse(&mut self, error: &ApiError, cx: &mut Context<'_>) {
        let (status, body) = (error.status, error.to_json(&super::request_id()));
        let again = error.retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\naccess-control-allow-origin: *\r\nconnection: close\r\n{again}"
        );
        // A client that does not read now never will.
        let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.stream).poll_write(cx, answer.as_bytes()) {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }

    fn wrote(&mut self, polled: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if let Poll::Ready(written) = &polled {
            let bytes = written.as_ref().map_or(0, |bytes| *bytes);
            self.flow.moves(bytes);
            self.patience.renew(bytes);
        }
        self.in_time(polled, cx)
    }

    /// What became of a write, which fails once the client has taken nothing, or too little, for too long.
    fn in_time<T>(&mut self, polled: Poll<Result<T>>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if polled.is_ready() {
            self.patience.renew(0);
            return polled;
        }
        self.patience.poll_end(cx).map(|()| Err(Error::new(ErrorKind::TimedOut, "the answer is not taken")))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let request = this.flow.requests.load(Ordering::Relaxed);
        if this.request != request {
            // Its line may have come with the request before.
            (this.request, this.head, this.has_line, this.large_head) = (request, 0, true, None);
        }
        let is_head = this.flow.turn.load(Ordering::Relaxed) == OF_HEAD;
        match is_head {
            true => this.take_head(cx)?,
            false => this.large_head = None,
        }
        let before = buffer.filled().len();
        if this.flow.reads_large.load(Ordering::Relaxed) {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let room = if is_head { MAX_HEAD - this.head } else { SMALL_READ };
            let room = buffer.remaining().min(SMALL_READ).min(room);
            let mut few = ReadBuf::new(buffer.initialize_unfilled_to(room));
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut few))?;
            let read = few.filled().len();
            buffer.advance(read);
        }
        let read = buffer.filled().get(before..).unwrap_or_default();
        this.flow.moves(read.len());
        if is_head {
            this.head += read.len();
            this.has_line |= read.contains(&b'\n');
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled, cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Encrypted bytes may still be here.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a client takes `bytes` after each `pause` before it is given up; `None` if it is not.
    async fn taken(bytes: usize, pause: Duration) -> Option<usize> {
        let mut patience = Patience::new(Duration::from_secs(30));
        for times in 0..1_000 {
            let ends = std::future::poll_fn(|cx| patience.poll_end(cx));
            if tokio::time::timeout(pause, ends).await.is_ok() {
                return Some(times);
            }
            patience.renew(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_few_bytes_before_each_deadline_is_given_up_and_a_slow_one_is_not() {
        let (second, nearly) = (Duration::from_secs(1), Duration::from_secs(29));
        assert_eq!(taken(1 << 20, Duration::from_secs(31)).await, Some(0), "it takes nothing for too long");
        assert_eq!(taken(16, nearly).await, Some(1));
        assert!(taken(100, second).await.is_some_and(|times| (30..40).contains(&times)));
        assert_eq!(taken(2 << 10, second).await, None);
        assert_eq!(taken(64 << 10, nearly).await, None);
    }
}
