//! How a request shows its key.

use base64::Engine;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::http::respond::ApiError;

/// The key in a request's headers: `Authorization: Bearer`, the user name of `Basic`, or `X-Write-Key`.
pub fn in_headers(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let malformed = || ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "the authorization header cannot be read");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let key = headers.get("x-write-key").and_then(|value| value.to_str().ok()).map(str::trim);
        return Ok(key.filter(|key| !key.is_empty()).map(str::to_owned));
    };
    if values.next().is_some() {
        return Err(ApiError::bad_request("invalid_key", "more than one authorization header"));
    }
    let (scheme, rest) = value.to_str().map_err(|_| malformed())?.trim().split_once(' ').ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let user = text.split(':').next().unwrap_or_default();
    if user.is_empty() { Err(malformed()) } else { Ok(Some(user.to_owned())) }
}
