//! The cookie of the dashboard: a read key in a place that no script of a page can read.
//!
//! The cookie holds the key itself. A keys file may hold hashes alone, and whatever could be made of a hash would turn each such file into
//! keys; so nothing is stored, every instance knows every cookie, and one is worth nothing once its key is. Ingest never looks at it.
//! Promises: a key in a header wins, whatever the cookie is. A cookie counts only for a request of a page of this origin: a browser
//! says where a request comes from (`Sec-Fetch-Site`, `Origin`), and one that changes something must say so. A request that says for which
//! project it is (`X-Pulse-Project`) is answered for no other.
//! May go wrong: two instances on one host have one cookie, because cookies know no ports.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;

use super::{AuthError, Grant, KeyKind, Keys, credential};
use crate::http::server::Call;

const NAME: &str = "pulse_session";
/// Over https the name alone keeps neighbours of the host from setting it.
const SECURE_NAME: &str = "__Host-pulse_session";
/// The name, percent-encoded, of the project that a page shows. A browser has one cookie for all its tabs: one that has signed in to another
/// project makes the others ask, and write, elsewhere than they say.
const PROJECT_HEADER: HeaderName = HeaderName::from_static("x-pulse-project");
/// How long a browser keeps it after it was given last: a month.
const MAX_AGE_SECONDS: u32 = 30 * 86_400;

/// What of a request says who has sent it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    is_https: bool,
}

impl<'a> Sender<'a> {
    /// The sender of `call`.
    pub fn of(call: &'a Call) -> Self {
        let headers = call.request.headers();
        Self { method: call.request.method(), headers, is_https: call.peer.is_https(headers) }
    }

    /// The key that the request shows: that of its headers, else that of its cookie.
    ///
    /// # Errors
    /// As [`credential::in_headers`]; [`AuthError::CrossOrigin`] where a cookie does not count.
    pub fn key(self) -> Result<Option<String>, AuthError> {
        if let Some(key) = credential::in_headers(self.headers)? {
            return Ok(Some(key));
        }
        match self.cookie() {
            Some(_) if !self.is_of_this_origin() => Err(AuthError::CrossOrigin),
            cookie => Ok(cookie),
        }
    }

    /// Whether a cookie came with it.
    pub fn shows_cookie(self) -> bool {
        self.cookie().is_some()
    }

    /// The key of its cookie; empty if that cannot be read.
    fn cookie(self) -> Option<String> {
        let texts = self.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == self.cookie_name())?;
        let key = URL_SAFE_NO_PAD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Some(key.unwrap_or_default())
    }

    const fn cookie_name(self) -> &'static str {
        if self.is_https { SECURE_NAME } else { NAME }
    }

    /// Whether a page of this origin sends it. What changes nothing may also come from no page at all.
    fn is_of_this_origin(self) -> bool {
        let text = |name: HeaderName| self.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let is_safe = matches!(*self.method, Method::GET | Method::HEAD);
        match (text(HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
            (Some(site), _) => site == "same-origin" || site == "none" && is_safe,
            (None, Some(origin)) => {
                let Some((scheme, origin)) = origin.split_once("://") else { return false };
                // A page of https may come to a listener without it: a proxy ends TLS.
                let is_scheme = scheme.eq_ignore_ascii_case("https") || !self.is_https;
                is_scheme && text(header::HOST).is_some_and(|host| origin.eq_ignore_ascii_case(host))
            }
            (None, None) => is_safe,
        }
    }

    /// Whether it is meant for the project of this name: it says so, or does not say for which one.
    fn means(self, project: &str) -> bool {
        let Some(named) = self.headers.get(PROJECT_HEADER) else { return true };
        percent_decode(named.as_bytes()).eq(project.bytes())
    }

    /// Makes its browser show `key` from now on.
    pub fn give(self, key: &str) -> Option<HeaderValue> {
        self.set(&URL_SAFE_NO_PAD.encode(key), MAX_AGE_SECONDS)
    }

    /// Makes its browser forget the key.
    pub fn forget(self) -> Option<HeaderValue> {
        self.set("", 0)
    }

    fn set(self, value: &str, seconds: u32) -> Option<HeaderValue> {
        let secure = if self.is_https { "; Secure" } else { "" };
        let name = self.cookie_name();
        HeaderValue::try_from(format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")).ok()
    }
}

impl Keys {
    /// The grant of who sends a request, by key or by cookie, if it opens what a key of the `wanted` kind is for, in the project that is meant.
    pub fn caller(&self, call: &Call, wanted: KeyKind) -> Result<Grant, AuthError> {
        let sender = Sender::of(call);
        let grant = self.grant(sender.key()?.as_deref(), wanted)?;
        grant.admits(call.request.uri().path(), call.request.headers())?;
        if sender.means(&grant.name) { Ok(grant) } else { Err(AuthError::OtherProject) }
    }

    /// The same, and whether the request would still be admitted: an answer that goes on for long asks again and again.
    pub fn lasting_caller(&self, call: &Call, wanted: KeyKind) -> Result<(Grant, impl Fn() -> bool + Send + use<>), AuthError> {
        let (grant, key) = (self.caller(call, wanted)?, Sender::of(call).key()?);
        let (keys, path, headers) = (self.clone(), call.request.uri().path().to_owned(), call.request.headers().clone());
        let is_admitted = move || keys.grant(key.as_deref(), wanted).and_then(|grant| grant.admits(&path, &headers)).is_ok();
        Ok((grant, is_admitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn key(method: &Method, pairs: &[(&'static str, &str)]) -> Result<Option<String>, AuthError> {
        Sender { method, headers: &headers(pairs), is_https: false }.key()
    }

    const COOKIE: (&str, &str) = ("cookie", "a=b; pulse_session=c2VjcmV0; c=d");
    const HOST: (&str, &str) = ("host", "pulse.example:8080");

    #[test]
    fn a_cookie_is_its_key_and_a_header_wins_over_it() {
        let secret = || Ok(Some("secret".to_owned()));
        assert_eq!(key(&Method::GET, &[COOKIE]), secret());
        assert_eq!(key(&Method::GET, &[("cookie", "x=1"), COOKIE]), secret(), "two headers");
        assert_eq!(key(&Method::GET, &[COOKIE, ("authorization", "Bearer other")]), Ok(Some("other".to_owned())));
        assert_eq!(key(&Method::GET, &[COOKIE, ("authorization", "Bearer")]), Err(AuthError::Unreadable), "no way past a broken header");
        assert_eq!(key(&Method::GET, &[("cookie", "pulse_session=%%%")]), Ok(Some(String::new())));
        assert_eq!(key(&Method::GET, &[("cookie", "xpulse_session=c2VjcmV0")]), Ok(None));
        assert_eq!(key(&Method::GET, &[]), Ok(None));
    }

    #[test]
    fn a_cookie_counts_for_pages_of_its_origin_alone() {
        let own = ("origin", "http://Pulse.example:8080");
        let foreign = ("origin", "https://evil.example");
        let site = |site: &'static str| ("sec-fetch-site", site);
        let counts = |method: &Method, pairs: &[(&'static str, &str)]| {
            let with_cookie: Vec<_> = [COOKIE, HOST].into_iter().chain(pairs.iter().copied()).collect();
            key(method, &with_cookie) != Err(AuthError::CrossOrigin)
        };
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert!(counts(&method, &[own]) && counts(&method, &[site("same-origin")]));
            assert!(counts(&method, &[site("same-origin"), foreign]), "a proxy in front changed the host");
            assert!(!counts(&method, &[]) && !counts(&method, &[site("none")]), "a page of this origin says so");
        }
        assert!(counts(&Method::GET, &[]) && counts(&Method::GET, &[site("none")]) && counts(&Method::GET, &[own]));
        let hostile: [&[(&str, &str)]; 7] = [
            &[foreign],
            &[site("cross-site")],
            &[site("same-site"), own],
            &[("origin", "null")],
            &[("origin", "http://pulse.example:8081")],
            &[("origin", "http://pulse.example:8080.evil.example")],
            &[("origin", "http://evil.example/pulse.example:8080")],
        ];
        for pairs in hostile {
            assert!(!counts(&Method::GET, pairs) && !counts(&Method::POST, pairs), "{pairs:?}");
        }
    }

    #[test]
    fn a_request_may_say_for_which_project_it_is() {
        let means =
            |pairs: &[(&'static str, &str)]| Sender { method: &Method::PUT, headers: &headers(pairs), is_https: false }.means("a+b & ä=c");
        assert!(means(&[]) && means(&[("x-pulse-project", "a%2Bb%20%26%20%C3%A4%3Dc")]));
        for other in ["", "a+b", "a%2Bb%20%26%20%C3%A4%3Dc&x", "a%2Bb%20%26%20%C3%A4%3Dc=x"] {
            assert!(!means(&[("x-pulse-project", other)]), "{other}");
        }
        assert!(means(&[("x-pulse-project", "a+b%20%26%20%C3%A4%3Dc")]));
    }

    #[test]
    fn over_https_the_cookie_has_another_name_and_goes_nowhere_else() {
        let none = HeaderMap::new();
        let sender = |is_https| Sender { method: &Method::POST, headers: &none, is_https };
        let given = sender(true).give("secret").unwrap();
        assert_eq!(given, "__Host-pulse_session=c2VjcmV0; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(sender(false).forget().unwrap(), "pulse_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
        let of_page = |origin: &'static str| {
            let sent = headers(&[("cookie", "__Host-pulse_session=c2VjcmV0"), HOST, ("origin", origin)]);
            Sender { method: &Method::POST, headers: &sent, is_https: true }.key()
        };
        assert_eq!(of_page("https://pulse.example:8080"), Ok(Some("secret".to_owned())));
        assert_eq!(of_page("http://pulse.example:8080"), Err(AuthError::CrossOrigin), "that page may be anybody's");
        let planted = headers(&[COOKIE]);
        assert_eq!(Sender { method: &Method::GET, headers: &planted, is_https: true }.key(), Ok(None), "planted over http");
    }
}
