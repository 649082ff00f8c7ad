//! What a client takes for an answer, as its `Accept` says.

use hyper::header::{self, HeaderMap};

use crate::http::respond::ApiError;
use crate::query::error::QueryError;

/// The weight of what a client wants most, and of what it names without one.
const WHOLE: u16 = 1_000;

/// How much a client wants an answer of this type, in thousandths; 0: it does not take it. Of what it names the narrowest counts: the type, those of
/// its kind, any. One that says nothing, or nothing that can be read, takes any.
pub(super) fn weight(headers: &HeaderMap, content_type: &str) -> u16 {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, form) = essence.split_once('/').unwrap_or((essence, ""));
    let named = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let (mut names_any, mut found) = (false, None);
    for range in named {
        let mut parts = range.split(';').map(str::trim);
        let Some((of_kind, of_form)) = parts.next().and_then(|named| named.split_once('/')) else { continue };
        names_any = true;
        let narrowness = match (of_kind, of_form) {
            ("*", "*") => 0,
            (of_kind, "*") if of_kind.eq_ignore_ascii_case(kind) => 1,
            _ if of_kind.eq_ignore_ascii_case(kind) && of_form.eq_ignore_ascii_case(form) => 2,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.and_then(|weight| weight.parse::<f32>().ok()).map_or(WHOLE, |weight| (weight * f32::from(WHOLE)) as u16);
        // Named twice it is wanted as much as the larger weight says.
        found = found.max(Some((narrowness, weight.min(WHOLE))));
    }
    match found {
        Some((_, weight)) => weight,
        None if names_any => 0,
        None => WHOLE,
    }
}

/// Refuses a client that takes none of these types.
///
/// # Errors
/// 406 `not_acceptable`.
pub(super) fn check(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    if types.iter().any(|content_type| weight(headers, content_type) > 0) {
        return Ok(());
    }
    let message = format!("the answer is {}, which `Accept` does not name", types.join(" or "));
    Err(QueryError::not_acceptable(message).into())
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
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
            assert!(weight(&named(taken), "application/json") > 0, "{taken}");
        }
        for other in ["application/xml", "text/csv", "application/json;q=0", "text/*, image/png", "application/json2"] {
            assert_eq!(weight(&named(other), "application/json"), 0, "{other}");
        }
        assert_eq!(weight(&HeaderMap::new(), "application/json"), WHOLE);
        assert_eq!(weight(&named("text/csv"), "text/csv; charset=utf-8; header=present"), WHOLE);
        assert_eq!(check(&named("application/xml"), &["application/json"]).unwrap_err().status, StatusCode::NOT_ACCEPTABLE);
    }
    #[test]
    fn the_narrowest_of_what_is_named_says_how_much_a_type_is_wanted() {
        let weights = |accept| ["application/json", "text/csv", "text/plain"].map(|content_type| weight(&named(accept), content_type));
        assert_eq!(weights("text/csv, */*;q=0.1"), [100, 1_000, 100]);
        assert_eq!(weights("application/json;q=0, */*"), [0, 1_000, 1_000]);
        assert_eq!(weights("*/*;q=0.5, text/*;q=0, text/csv;Q=0.25"), [500, 250, 0]);
        assert_eq!(weights("text/csv;q=0.2, text/csv;q=0.7"), [0, 700, 0]);
        assert_eq!(weights("application/json;q=-1, text/csv;q=9, text/plain;q=x"), [0, 1_000, 1_000]);
    }
}
