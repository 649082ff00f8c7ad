//! `X-Pulse-File`: who writes what is saved is a file that is applied.
//!
//! What was written for a file is changed by requests that say for which file they write, so nobody changes it elsewhere unseen: it keeps
//! from mistakes, not from malice, for who may write may say so. An empty value says that it is of no file from then on.

use hyper::header::{HeaderMap, HeaderName};

use super::respond::ApiError;

/// The header.
pub const FILE_HEADER: HeaderName = HeaderName::from_static("x-pulse-file");
/// Longest name, bytes.
const MOST_BYTES: usize = 200;

/// The file that a request writes for; none if it does not say.
///
/// # Errors
/// 400 `invalid_file`.
pub fn written_for(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(FILE_HEADER) else { return Ok(None) };
    let name = std::str::from_utf8(value.as_bytes()).ok().map(str::trim).filter(|name| name.len() <= MOST_BYTES);
    let invalid =
        || ApiError::bad_request("invalid_file", format!("`X-Pulse-File` must be the name of a file, at most {MOST_BYTES} bytes"));
    name.map(|name| Some(name.to_owned())).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_for_which_file_it_writes_or_for_none_or_nothing() {
        let said = |value: &[u8]| written_for(&HeaderMap::from_iter([(FILE_HEADER, value.try_into().unwrap())])).map_err(|_| ());
        assert_eq!(written_for(&HeaderMap::new()).map_err(|_| ()), Ok(None));
        assert_eq!(said("config/läden.toml".as_bytes()), Ok(Some("config/läden.toml".to_owned())));
        assert_eq!(said(b" "), Ok(Some(String::new())));
        assert_eq!((said(b"\xff"), said(&[b'a'; 201])), (Err(()), Err(())));
    }
}
