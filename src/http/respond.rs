//! Answers.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

/// The body of every answer: whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

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
    pub(super) fn to_json(&self, request_id: &str) -> String {
        let body = json!({
            "code": self.code, "message": self.message, "requestId": request_id, "error": self.code, "detail": self.message,
        });
        body.to_string()
    }

    /// The answer.
    pub fn into_response(self, request_id: &str) -> Response<Body> {
        let mut response = json_response(self.status, self.to_json(request_id).into_bytes());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
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

/// 405 with the methods that are allowed.
pub fn method_not_allowed(allowed: &str, request_id: &str) -> Response<Body> {
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("use {allowed}"));
    let mut response = error.into_response(request_id);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// Lets a page of any origin read an answer, and after how long it may try again. Nothing here goes by cookies.
pub fn open_to_pages(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
}
