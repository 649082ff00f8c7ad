//! What the address of a page says about the page.

/// Host, path and query of a page, each borrowed from its address; empty where the address does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page<'a> {
    /// Host as written, without user and port.
    pub host: &'a str,
    /// Path from its first slash on; `/` for an address that ends with its host.
    pub path: &'a str,
    /// Query with its question mark; empty for a lone one.
    pub search: &'a str,
}

/// Longest host name that there is, bytes.
const MAX_HOST: usize = 255;

impl<'a> Page<'a> {
    /// Reads an address: whole (`https://shop.example/a?b#c`), without its scheme (`//shop.example/a`) or without its host (`/a?b`).
    /// Of any other (`mailto:`, `data:`, `about:blank`, `a/b`) only the query is read.
    pub fn of(address: &'a str) -> Self {
        let address = address.trim_ascii();
        let address = address.split_once('#').map_or(address, |(address, _)| address);
        let (place, search) = address.split_at(address.find('?').unwrap_or(address.len()));
        let search = if search.len() > 1 { search } else { "" };
        if place.starts_with('/') && !place.starts_with("//") {
            return Self { host: "", path: place, search };
        }
        let Some((scheme, rest)) = place.split_once("//") else { return Self { search, ..Self::default() } };
        if !is_scheme(scheme) {
            return Self { search, ..Self::default() };
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self { host: host(authority), path: if path.is_empty() { "/" } else { path }, search }
    }
}

/// `https:`, or nothing.
fn is_scheme(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.is_empty() || text.strip_suffix(':').is_some_and(|name| !name.is_empty() && name.bytes().all(is_letter))
}

/// The host of `user@host:port`, as [`Page::host`]; empty if it is none.
pub fn host(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((before, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_host = host.len() <= MAX_HOST && !host.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '\\');
    if is_host { host } else { "" }
}

/// What an address begins with that a browser does not open but runs.
const CODE: &str = "javascript:";

/// Whether to follow an address is to run it. As browsers read it: blanks and control characters are no part of it.
pub fn is_code(address: &str) -> bool {
    address.bytes().filter(|byte| *byte > b' ').map(|byte| byte.to_ascii_lowercase()).take(CODE.len()).eq(CODE.bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_that_a_browser_would_run_is_told_from_others() {
        for code in ["javascript:alert(1)", " \u{1}JavaScript:x", "java\nscript:x"] {
            assert!(is_code(code), "{code:?}");
        }
        for page in ["", "javascript", "https://a.example/?javascript:", "javascripts://a.example", "/javascript:"] {
            assert!(!is_code(page), "{page:?}");
        }
    }

    #[test]
    fn the_table_of_addresses() {
        let table = [
            ("https://shop.example/pricing?plan=pro&utm_source=x#faq", ("shop.example", "/pricing", "?plan=pro&utm_source=x")),
            ("https://shop.example", ("shop.example", "/", "")),
            ("https://shop.example?a=1", ("shop.example", "/", "?a=1")),
            ("https://shop.example#a?b", ("shop.example", "/", "")),
            ("https://shop.example/?", ("shop.example", "/", "")),
            ("https://shop.example/a//b?c?d=/e", ("shop.example", "/a//b", "?c?d=/e")),
            ("http://user:secret@shop.example:8080/a", ("shop.example", "/a", "")),
            ("http://[2001:db8::1]:8080/a", ("[2001:db8::1]", "/a", "")),
            ("http://[2001:db8::1]/a", ("[2001:db8::1]", "/a", "")),
            ("https://shop.example./a", ("shop.example", "/a", "")),
            ("//cdn.example/a?b", ("cdn.example", "/a", "?b")),
            ("/pricing?plan=pro#faq", ("", "/pricing", "?plan=pro")),
            ("?plan=pro", ("", "", "?plan=pro")),
            ("pricing?plan=pro", ("", "", "?plan=pro")),
            ("file:///C:/a.html", ("", "/C:/a.html", "")),
            ("android-app://com.example.app/home", ("com.example.app", "/home", "")),
            ("mailto:ada@example.com", ("", "", "")),
            ("about:blank", ("", "", "")),
            ("data:text/html,//x/y", ("", "", "")),
            ("https://evil host/a", ("", "/a", "")),
            ("#top", ("", "", "")),
            ("", ("", "", "")),
        ];
        for (address, (host, path, search)) in table {
            assert_eq!(Page::of(address), Page { host, path, search }, "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_whole_address_is_read_as_the_url_crate_reads_it(
            host in "[a-z]{1,8}(\\.[a-z]{2,5}){1,2}", port in prop::option::of(1024_u16..), path in "(/[a-z0-9~-]{1,6}){0,4}", query in "(\\?[a-z=&/?]{0,9})?", rest in "(#[a-z?/#]{0,6})?",
        ) {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let address = format!("https://{host}{port}{path}{query}{rest}");
            let url = url::Url::parse(&address).unwrap();
            let page = Page::of(&address);
            prop_assert_eq!(Some(page.host), url.host_str());
            prop_assert_eq!(page.path, url.path());
            prop_assert_eq!(page.search.strip_prefix('?').unwrap_or_default(), url.query().unwrap_or_default());
        }

        #[test]
        fn arbitrary_addresses_never_panic(address in ".{0,200}", near in "[a-z:/?#@\\[\\].0-9]{0,40}") {
            let _ = (Page::of(&address), Page::of(&near));
        }
    }
}
