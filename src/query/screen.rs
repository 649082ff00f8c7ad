//! The screen: the files of `web/`, which are part of the program, at `/`, at `/assets/` and at the paths of its pages.
//!
//! Promises: nobody's data is in them, so they need no key; nothing but the screen's own script and style runs in its page
//! ([`POLICY`]); a file whose name has its hash is fetched once. Without a screen in the program one page says how to build it.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::http::file::File;
use crate::http::respond::{Body, method_not_allowed, typed_response};
use crate::http::server::Call;

include!(concat!(env!("OUT_DIR"), "/screen.rs"));

/// Where the files are whose names change with what is in them.
const ASSETS: &str = "/assets/";
/// The first part of the paths of the pages: what is behind it is for the script to read.
const PAGES: [&str; 16] = [
    "",
    "trends",
    "funnel",
    "retention",
    "paths",
    "lifecycle",
    "stickiness",
    "sessions",
    "people",
    "events",
    "boards",
    "alerts",
    "shared",
    "embed",
    "health",
    "settings",
];
/// What a browser may load and run in a page of the screen; which pages may hold it in a frame comes last.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors";
/// The page of a program without a screen.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>pulse</title><h1>pulse is running</h1>\
    <p>This program was built without its screen. Run <code>make web</code> and build it again; <code>make run</code> does both.</p></html>";

/// The first parts of the paths of its pages.
pub fn pages() -> impl Iterator<Item = &'static str> {
    PAGES.into_iter()
}

/// Answers a request if its path is one of the screen's. Pages of the origins of `frames` may hold it in a frame, no others.
pub fn answer(call: &Call, frames: &[String]) -> Option<Response<Body>> {
    let path = call.request.uri().path();
    // The overview has no name, and nothing below it.
    let is_below_nothing = path.starts_with("//");
    let page = path.strip_prefix('/').and_then(|path| path.split('/').next());
    let page = page.filter(|page| PAGES.contains(page) && !is_below_nothing);
    let is_page = page.is_some();
    if !is_page && !path.starts_with(ASSETS) {
        return None;
    }
    let named = |name: &str| FILES.iter().find(|file| file.path == name);
    // The page that names what it needs itself, or else the one for all.
    let file = match page {
        Some(page) => named(&format!("{page}.html")).or_else(|| named("index.html")),
        None => named(&path[1..]),
    };
    if file.is_none() && !(is_page && FILES.is_empty()) {
        return None;
    }
    if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
        return Some(method_not_allowed("GET, HEAD", &call.request_id));
    }
    let mut response = match file {
        Some(file) => file.answer(call.request.headers()),
        None => {
            typed_response(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), Bytes::from_static(MISSING.as_bytes()))
        }
    };
    // A page is asked for again each time, for it names the others.
    let kept = match is_page {
        // Who may frame it may be another one next time.
        true if !frames.is_empty() => "no-store",
        true => "no-cache",
        false => "public, max-age=31536000, immutable",
    };
    let frames = if frames.is_empty() { "'none'".to_owned() } else { frames.join(" ") };
    let policy = HeaderValue::try_from(format!("{POLICY} {frames}"))
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &'static str); 3] =
        [(header::CACHE_CONTROL, kept), (header::REFERRER_POLICY, "no-referrer"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    response.headers_mut().extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Some(response)
}
