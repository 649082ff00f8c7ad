//! Our own SDK for pages, at `/sdk/`: `pulse.js` for a script tag and `pulse.mjs` to be imported, built from `sdk/js`.
//!
//! Promises: pages of any origin may load it, without a key. Its address does not change with what is in it, so browsers keep it for
//! [`KEPT`] and then ask whether it is still the same.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response};

use crate::http::file::File;
use crate::http::respond::{Body, method_not_allowed, open_to_pages};
use crate::http::server::Call;

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// An hour; in the day after it the page need not wait for the answer.
const KEPT: &str = "public, max-age=3600, stale-while-revalidate=86400";

/// Answers a request if its path is that of a file of the SDK.
pub fn answer(call: &Call) -> Option<Response<Body>> {
    let path = call.request.uri().path();
    let file = FILES.iter().find(|file| path.strip_prefix('/') == Some(file.path))?;
    if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
        return Some(method_not_allowed("GET, HEAD", &call.request_id));
    }
    let mut response = file.answer(call.request.headers());
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::CACHE_CONTROL, KEPT),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A page that isolates itself loads only what says that it may.
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (HeaderName::from_static("timing-allow-origin"), "*"),
    ];
    response.headers_mut().extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    open_to_pages(&mut response, None);
    Some(response)
}
