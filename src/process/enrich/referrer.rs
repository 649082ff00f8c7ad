//! Referrers: whose page a visitor came from, and what kind of place that is.

use std::borrow::Cow;

use super::place::{self, Kind};

/// Where a visitor came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer<'a> {
    /// Host in small letters, without `www.`; empty for none and for the same site.
    pub domain: Cow<'a, str>,
    /// What kind of place it is.
    pub kind: Kind,
}

const NOWHERE: Referrer<'static> = Referrer { domain: Cow::Borrowed(""), kind: Kind::None };

/// Tells where `url` of a referring page stands towards the page it led to.
pub fn of<'a>(url: &'a str, page_url: &str) -> Referrer<'a> {
    let domain = folded(host(url));
    if domain.is_empty() {
        return NOWHERE;
    }
    if is_same_site(&domain, &folded(host(page_url))) {
        return Referrer { domain: Cow::Borrowed(""), kind: Kind::Internal };
    }
    let kind = place::of_host(&domain);
    Referrer { domain, kind }
}

/// The host of a web address, without user, port and `www.`; empty if it has none.
fn host(url: &str) -> &str {
    let Some((scheme, rest)) = url.split_once("://") else { return "" };
    if !matches!(scheme, "http" | "https" | "android-app") {
        return "";
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
    let is_clean = !host.is_empty() && host.len() <= 253 && host.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let is_www = host.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www."));
    match host {
        _ if !is_clean => "",
        _ if is_www => host.get(4..).unwrap_or_default(),
        _ => host,
    }
}

/// Small letters; browsers send nothing else.
fn folded(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

/// Whether two hosts are of one site: the same, or under one registered domain (the Public Suffix List says
/// which part that is: `a.github.io` and `b.github.io` are strangers).
fn is_same_site(a: &str, b: &str) -> bool {
    a == b || matches!((psl::domain_str(a), psl::domain_str(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "https://www.shop.example/cart";

    #[test]
    fn places_are_told_by_their_host() {
        let table = [
            ("", "", Kind::None),
            ("about:blank", "", Kind::None),
            ("https://shop.example/", "", Kind::Internal),
            ("https://blog.shop.example/a", "", Kind::Internal),
            ("https://www.google.co.uk/search?q=x", "google.co.uk", Kind::Search),
            ("https://account.shop.example/a", "", Kind::Internal),
            ("https://WWW.Bing.COM/search", "bing.com", Kind::Search),
            ("https://ask.example/", "ask.example", Kind::Other),
            ("https://google.com.evil.example/", "google.com.evil.example", Kind::Other),
            ("https://google.com.evil/", "google.com.evil", Kind::Other),
            ("https://news.google.com/", "news.google.com", Kind::Search),
            ("https://mail.google.com/", "mail.google.com", Kind::Email),
            ("https://gemini.google.com/app", "gemini.google.com", Kind::Ai),
            ("https://t.co/abc", "t.co", Kind::Social),
            ("https://m.youtube.com/watch", "m.youtube.com", Kind::Video),
            ("https://notgoogle.example/", "notgoogle.example", Kind::Other),
            ("https://evilfacebook.com/", "evilfacebook.com", Kind::Other),
            ("https://user:pw@duckduckgo.com:443/?q", "duckduckgo.com", Kind::Search),
            ("android-app://com.google.android.gm/", "com.google.android.gm", Kind::Email),
            ("android-app://com.google.android.googlequicksearchbox/", "com.google.android.googlequicksearchbox", Kind::Search),
        ];
        for (url, domain, kind) in table {
            assert_eq!(of(url, PAGE), Referrer { domain: domain.into(), kind }, "{url}");
        }
    }

    proptest! {
        #[test]
        fn hosts_are_those_of_the_url_crate(host in "[a-z]{1,8}(\\.[a-z]{2,6}){1,3}", path in "[a-z/]{0,10}", port in prop::option::of(1024_u16..)) {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let address = format!("https://{host}{port}/{path}?a=b");
            let expected = url::Url::parse(&address).unwrap().host_str().unwrap().trim_start_matches("www.").to_owned();
            prop_assert_eq!(super::host(&address), expected);
        }

        #[test]
        fn arbitrary_addresses_never_panic(url in ".{0,200}", page in ".{0,200}") {
            let _ = of(&url, &page);
        }
    }
}
