//! Where a request shows its key.

use base64::Engine;
use hyper::header::{self, HeaderMap};

use super::AuthError;

/// The key in a request's headers: `Authorization: Bearer`, the user name of `Basic`, or `X-Write-Key`.
pub fn in_headers(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let key = headers.get("x-write-key").and_then(|value| value.to_str().ok()).map(str::trim);
        return Ok(key.filter(|key| !key.is_empty()).map(str::to_owned));
    };
    if values.next().is_some() {
        return Err(AuthError::Several);
    }
    let (scheme, rest) = value.to_str().map_err(|_| AuthError::Unreadable)?.trim().split_once(' ').ok_or(AuthError::Unreadable)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(AuthError::Unreadable);
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).map_err(|_| AuthError::Unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| AuthError::Unreadable)?;
    let user = text.split(':').next().unwrap_or_default();
    if user.is_empty() { Err(AuthError::Unreadable) } else { Ok(Some(user.to_owned())) }
}

/// The key in the parameter `name` of an address.
pub fn in_query(query: &str, name: &str) -> Option<String> {
    let value = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    value.filter(|value| !value.is_empty()).map(|value| value.into_owned())
}
