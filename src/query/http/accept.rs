//! What a client takes for an answer, as its `Accept` says.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::http::respond::ApiError;

/// Whether a client takes an answer of this type. One that says nothing, or nothing that can be read, takes any.
pub(super) fn takes(headers: &HeaderMap, content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, _) = essence.split_once('/').unwrap_or((essence, ""));
    let mut names_any = false;
    let is_taken =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let Some((of_kind, of_form)) = parts.next().and_then(|named| named.split_once('/')) else { return false };
            names_any = true;
            let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|weight| weight.parse::<f32>().ok());
            let is_kind = of_kind == "*" || of_kind.eq_ignore_ascii_case(kind);
            weight != Some(0.0) && is_kind && (of_form == "*" || format!("{of_kind}/{of_form}").eq_ignore_ascii_case(essence))
        });
    is_taken || !names_any
}

/// Refuses a client that takes none of these types.
///
/// # Errors
/// 406 `not_acceptable`.
pub(super) fn check(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    if types.iter().any(|content_type| takes(headers, content_type)) {
        return Ok(());
    }
    let message = format!("the answer is {}, which `Accept` does not name", types.join(" or "));
    Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn named(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))])
    }

    #[test]
    fn a_client_gets_what_it_takes_or_is_refused() {
        for taken in [
            "*/*",
            "application/*",
            "Application/JSON",
            "text/html, application/xml;q=0.9, */*;q=0.8",
            "application/json; charset=utf-8",
            "",
            "junk",
        ] {
            assert!(takes(&named(taken), "application/json"), "{taken}");
        }
        for other in ["application/xml", "text/csv", "application/json;q=0", "text/*, image/png", "application/json2"] {
            assert!(!takes(&named(other), "application/json"), "{other}");
        }
        assert!(takes(&HeaderMap::new(), "application/json"));
        assert!(takes(&named("text/csv"), "text/csv; charset=utf-8; header=present"));
        assert_eq!(check(&named("application/xml"), &["application/json"]).unwrap_err().status, StatusCode::NOT_ACCEPTABLE);
    }
}
