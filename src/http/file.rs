//! Files that are part of the program: what a client that accepts these encodings, and knows this file already, is answered.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use super::respond::{Body, typed_response};

/// A file, as `build.rs` writes it.
pub struct File {
    /// Below the root.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its `ETag`.
    pub tag: &'static str,
    /// By the name of the encoding, the smallest first.
    pub bodies: &'static [(&'static str, &'static [u8])],
}

impl File {
    /// The answer to a request with these headers: the file, or that it is the same as before.
    pub fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        let text = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_known = text(header::IF_NONE_MATCH).split(',').any(|known| known.trim().trim_start_matches("W/") == self.tag);
        let (encoding, body) = self.body(text(header::ACCEPT_ENCODING));
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let body = if is_known { Bytes::new() } else { Bytes::from_static(body) };
        let mut response = typed_response(status, HeaderValue::from_static(self.content_type), body);
        let headers = response.headers_mut();
        headers.insert(header::ETAG, HeaderValue::from_static(self.tag));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if encoding != "identity" {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }

    /// The smallest body among the encodings that are accepted; as it is where none of them is.
    fn body(&self, accepted: &str) -> (&'static str, &'static [u8]) {
        let is_accepted = |encoding: &str| {
            accepted.split(',').any(|one| {
                let (name, weight) = one.split_once(';').unwrap_or((one, ""));
                name.trim() == encoding && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
            })
        };
        let fitting = self.bodies.iter().find(|(encoding, _)| is_accepted(encoding));
        fitting.or(self.bodies.last()).copied().unwrap_or(("identity", b""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: File = File {
        path: "assets/a.js",
        content_type: "text/javascript",
        tag: "\"7\"",
        bodies: &[("br", b"b"), ("gzip", b"zz"), ("identity", b"plain")],
    };

    #[test]
    fn the_smallest_body_that_is_accepted_is_sent() {
        for (accepted, sent) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip;q=1.0, br;q=0", "gzip"),
            ("gzip", "gzip"),
            ("", "identity"),
            ("identity", "identity"),
            ("brotli", "identity"),
        ] {
            assert_eq!(FILE.body(accepted).0, sent, "{accepted}");
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let asked = |known: &'static str| HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(known))]);
        assert_eq!(FILE.answer(&asked("\"6\", W/\"7\"")).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(FILE.answer(&asked("\"6\"")).status(), StatusCode::OK);
    }
}
