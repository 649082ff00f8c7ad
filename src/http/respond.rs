//! Answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

/// The body of every answer: whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request that is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable word for programs.
    pub code: &'static str,
    /// Sentence for people; names field and value.
    pub message: String,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// A refusal that trying again does not cure.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 400.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 503: nothing was done; the same request may succeed after `seconds`.
    pub fn unavailable(code: &'static str, message: impl Into<String>, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// The body of the answer.
    pub fn to_json(&self, request_id: &str) -> String {
        let body = json!({
            "code": self.code, "message": self.message, "requestId": request_id, "error": self.code, "detail": self.message,
        });
        body.to_string()
    }

    /// The answer.
    pub fn into_response(self, request_id: &str) -> Response<Body> {
        retry_later(json_response(self.status, self.to_json(request_id).into_bytes()), self.retry_after)
    }
}

/// An answer that says after how many seconds the same request may succeed, if there is such a time.
pub fn retry_later(mut response: Response<Body>, seconds: Option<u32>) -> Response<Body> {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An answer that is JSON.
pub fn json_response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    typed_response(status, HeaderValue::from_static("application/json"), body.into())
}

/// An answer of any type. Never to be sniffed: event names may look like HTML.
pub fn typed_response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer that is JSON, in pieces that others may hold too.
pub fn json_pieces(status: StatusCode, pieces: impl IntoIterator<Item = Bytes>) -> Response<Body> {
    let mut response = json_response(status, Vec::new());
    *response.body_mut() = Pieces(pieces.into_iter().collect()).boxed_unsync();
    response
}

/// A body whose length is known.
struct Pieces(VecDeque<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// An answer that comes in pieces; dropped when the client leaves.
pub fn streamed(content_type: HeaderValue, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = typed_response(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
    response
}

/// 405 with the methods that are allowed.
pub fn method_not_allowed(allowed: &str, request_id: &str) -> Response<Body> {
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("use {allowed}"));
    let mut response = error.into_response(request_id);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// Lets a page of any origin read an answer, and after how long it may try again. Nothing here goes by cookies; a client that sends
/// them all the same needs its `origin` named.
pub fn open_to_pages(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    if origin.is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.unwrap_or(HeaderValue::from_static("*")));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
}
