//! Origins of the pages that may use a key.

use hyper::header::{self, HeaderMap};

/// Whether a request is of a page of one of the `allowed` origins, as [`normal_origin`] writes them. One that is of no page passes unless
/// `requires_origin`. With an empty list everything does.
pub(super) fn admits(allowed: &[String], requires_origin: bool, headers: &HeaderMap) -> bool {
    if allowed.is_empty() {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => !requires_origin,
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| is_one_of(allowed, origin)),
        (Some(_), Some(_)) => false,
    }
}

fn is_one_of(allowed: &[String], origin: &str) -> bool {
    // As browsers write it; anything else is compared as it should have been written.
    let Some(origin) = normal_origin(origin).filter(|origin| !origin.contains('*')) else { return false };
    allowed.iter().any(|allowed| match allowed.split_once("*.") {
        None => *allowed == origin,
        Some((scheme, rest)) => {
            let host = origin.strip_prefix(scheme);
            host.and_then(|host| host.strip_suffix(rest)).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
        }
    })
}

/// An origin as browsers write it: scheme, host in small letters, a port that is not the usual one; `*.` may stand before the host.
/// `None` if it is none.
pub fn normal_origin(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let (wild, host) = host.strip_prefix("*.").map_or(("", host), |rest| ("*.", rest));
    let url = url::Url::parse(&format!("{scheme}://{host}")).ok()?;
    let is_bare = url.path() == "/" && !host.ends_with('/') && url.query().is_none() && url.fragment().is_none();
    let is_known = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    let is_host = !url.host_str()?.contains('*');
    if !(is_bare && is_known && is_host) {
        return None;
    }
    let plain = url.origin().ascii_serialization();
    let (scheme, host) = plain.split_once("://")?;
    Some(format!("{scheme}://{wild}{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_form() {
        assert_eq!(normal_origin("HTTPS://*.Ex\u{e4}mple.com:443").as_deref(), Some("https://*.xn--exmple-cua.com"));
        for none in ["*", "https://*", "https://a.*.com", "https://", "ftp://a", "https://a/b", "a.com", "https://a b", "https://**.a.com"]
        {
            assert_eq!(normal_origin(none), None, "{none}");
        }
    }
}
