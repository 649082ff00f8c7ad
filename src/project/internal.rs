//! Which traffic is a project's own: that of the networks, the browsers and the page addresses that it names.
//!
//! Decided where events arrive, because an address goes no further than that. What is its own is not dropped: the event carries the reason
//! in the field `bot`, in place of what its agent would tell, and reports leave it out as they leave out bots.

use std::net::IpAddr;

use ipnet::IpNet;
use url::form_urlencoded;

/// The rules of a project. Those of a project that names nothing hold of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InternalRules {
    networks: Vec<IpNet>,
    cookie: Option<Marker>,
    parameter: Option<Marker>,
    /// Whether traffic out of data centres is left out too.
    pub excludes_data_centres: bool,
}

/// A name, with a value that it must have if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Marker {
    name: String,
    value: Option<String>,
}

/// How the rules are written.
#[derive(Clone, Copy, Debug)]
pub struct WrittenRules<'a> {
    /// Addresses and networks.
    pub networks: &'a [String],
    /// A name, or name and value with `=` between.
    pub cookie: &'a str,
    /// The same.
    pub parameter: &'a str,
    /// As it is.
    pub excludes_data_centres: bool,
}

/// The reason of traffic out of a data centre.
pub const DATA_CENTRE: &str = "data-centre";

/// The reason of what is said of a group: nobody did it.
pub const GROUP: &str = "group";

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        (!name.is_empty()).then(|| Self { name: name.to_owned(), value })
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.name == name && self.value.as_deref().is_none_or(|expected| expected == value)
    }
}

impl InternalRules {
    /// Checks rules that stand in `section`.
    ///
    /// # Errors
    /// The key and the value that makes no sense.
    pub fn check(section: &str, written: WrittenRules<'_>) -> Result<Self, String> {
        let WrittenRules { networks, cookie, parameter, excludes_data_centres } = written;
        let network = |text: &String| {
            let parsed = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            parsed.ok_or_else(|| format!("{section}.internal_networks: `{text}` is no address or network such as 192.0.2.0/24"))
        };
        // `unlike` are letters that end the name where it is looked for.
        let marker = |key: &str, text: &str, unlike: &str| match Marker::parse(text) {
            None if !text.is_empty() => Err(format!("{section}.{key}: `{text}` has no name")),
            Some(marker) if marker.name.contains(|letter: char| unlike.contains(letter)) => {
                Err(format!("{section}.{key}: `{text}`: no name has any of `{unlike}`"))
            }
            marker => Ok(marker),
        };
        Ok(Self {
            networks: networks.iter().map(network).collect::<Result<_, _>>()?,
            cookie: marker("internal_cookie", cookie, " ;,")?,
            parameter: marker("internal_parameter", parameter, "?&#")?,
            excludes_data_centres,
        })
    }

    /// What its traffic is known by, as the keys that name it end.
    pub fn known_by(&self) -> impl Iterator<Item = &'static str> {
        let named = [(!self.networks.is_empty(), "networks"), (self.cookie.is_some(), "cookie"), (self.parameter.is_some(), "parameter")];
        named.into_iter().filter_map(|(is_named, what)| is_named.then_some(what))
    }

    /// Whether the page's address is looked at.
    pub fn reads_page(&self) -> bool {
        self.parameter.is_some()
    }

    /// The reason why a request is the project's own: by the address of its client, or the header `cookie`.
    pub fn of_client(&self, address: Option<IpAddr>, cookies: &str) -> Option<&'static str> {
        if address.is_some_and(|address| self.networks.iter().any(|network| network.contains(&address.to_canonical()))) {
            return Some("internal:network");
        }
        let cookie = self.cookie.as_ref()?;
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| cookie.is(name, value.trim_matches('"'))).then_some("internal:cookie")
    }

    /// The same by the address of a page, or by the part of it that begins with `?`.
    pub fn of_page(&self, page: &str) -> Option<&'static str> {
        let parameter = self.parameter.as_ref()?;
        let query = page.split_once('?')?.1.split('#').next().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).any(|(name, value)| parameter.is(&name, &value)).then_some("internal:parameter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(networks: &[&str], cookie: &str, parameter: &str) -> Result<InternalRules, String> {
        let networks: Vec<String> = networks.iter().map(|text| (*text).to_owned()).collect();
        InternalRules::check("projects.shop", WrittenRules { networks: &networks, cookie, parameter, excludes_data_centres: false })
    }

    #[test]
    fn a_client_is_known_by_its_network_or_its_cookie() {
        let rules = rules(&["192.0.2.0/24", "2001:db8::7"], "staff", "").unwrap();
        let of = |address: &str, cookies: &str| rules.of_client(address.parse().ok(), cookies);
        assert_eq!(of("192.0.2.9", ""), Some("internal:network"));
        assert_eq!(of("::ffff:192.0.2.9", ""), Some("internal:network"), "written as one of the other kind");
        assert_eq!(of("2001:db8::7", ""), Some("internal:network"));
        assert_eq!(of("192.0.3.9", "a=b; staff=1"), Some("internal:cookie"));
        assert_eq!(of("192.0.3.9", "a=staff; staffed=1"), None);
        assert_eq!(of("", "staff=0"), Some("internal:cookie"));
        assert_eq!(InternalRules::default().of_client("192.0.2.9".parse().ok(), "staff=1"), None);
    }

    #[test]
    fn a_marker_with_a_value_is_no_other_value() {
        let rules = rules(&[], "staff=yes", "preview=a b").unwrap();
        assert_eq!(rules.of_client(None, "staff=no"), None);
        assert_eq!(rules.of_client(None, "staff=\"yes\""), Some("internal:cookie"));
        assert_eq!(rules.of_page("https://shop.example/?x=1&preview=a+b#top"), Some("internal:parameter"));
        assert_eq!(rules.of_page("?preview=a%20b"), Some("internal:parameter"));
        for page in ["?preview=b", "https://shop.example/preview=a", "https://shop.example/#?preview", ""] {
            assert_eq!(rules.of_page(page), None, "{page}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_key_and_value() {
        let problem = rules(&["192.0.2.0/33"], "", "").unwrap_err();
        assert!(problem.contains("projects.shop.internal_networks") && problem.contains("192.0.2.0/33"), "{problem}");
        assert!(rules(&[], "=1", "").unwrap_err().contains("projects.shop.internal_cookie"));
        assert!(rules(&[], "", "=1").unwrap_err().contains("projects.shop.internal_parameter"));
        assert!(rules(&[], "a b", "").unwrap_err().contains("projects.shop.internal_cookie: `a b`"));
        assert!(rules(&[], "", "?preview").unwrap_err().contains("projects.shop.internal_parameter: `?preview`"));
    }
}
