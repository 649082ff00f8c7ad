//! The address of the client, behind proxies or not.
//!
//! Promises: a header says who the client is only where every hop behind it is a proxy that the operator named.

mod forwarded;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::event::address;

/// A proxy or a network of them, as the operator writes it: `10.0.0.0/8`, `fd00::/8`, or a single address.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Longest name of somebody who is signed in, bytes.
const MOST_USER: usize = 200;

/// The proxies that the operator named, and how they say who is behind them.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    pub(super) networks: Vec<IpNet>,
    pub(super) header: ForwardedHeader,
    /// The header in which they say who is signed in with them.
    pub(super) user: Option<HeaderName>,
}

/// The header in which proxies say who is behind them. Only one is read: a proxy that writes one lets clients write the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ForwardedHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ForwardedHeader {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::XForwardedFor, Self::Forwarded].into_iter().find(|header| header.as_str() == text)
    }
}

/// Who is at the other end of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    proxies: Arc<Proxies>,
    /// Whether the connection is encrypted.
    is_tls: bool,
}

impl Peer {
    pub(super) fn new(address: IpAddr, proxies: Arc<Proxies>) -> Self {
        Self { address: address.to_canonical(), proxies, is_tls: false }
    }

    /// The same over an encrypted connection.
    pub(super) fn over_tls(self) -> Self {
        Self { is_tls: true, ..self }
    }

    /// The client's address: the peer's own, or behind trusted proxies the nearest hop of their header that is none of them. A hop that is
    /// no address is a reason to believe nothing: the peer's own again.
    pub fn client_ip(&self, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy() {
            return self.address;
        }
        let values = headers.get_all(self.proxies.header.as_str()).iter().rev().map(|value| value.to_str().unwrap_or("?"));
        match self.proxies.header {
            ForwardedHeader::XForwardedFor => self.nearest(values.flat_map(|value| value.rsplit(',')).map(address::parse)),
            ForwardedHeader::Forwarded => self.nearest(values.flat_map(forwarded::hops).map(|hop| address::parse(&hop.parameter("for")?))),
        }
    }

    /// The nearest of `hops`, which begin with the nearest, that is no proxy.
    fn nearest(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut nearest = self.address;
        for hop in hops {
            let Some(address) = hop else { return self.address };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }

    /// Whether the client speaks https: with this instance, or with the outermost proxy, where a trusted one says so.
    pub fn is_https(&self, headers: &HeaderMap) -> bool {
        if !self.is_proxy() {
            return self.is_tls;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let said = match self.proxies.header {
            ForwardedHeader::XForwardedFor => text("x-forwarded-proto").and_then(|value| value.split(',').next()).map(str::to_owned),
            ForwardedHeader::Forwarded => text("forwarded").and_then(|value| forwarded::hops(value).last()?.parameter("proto")),
        };
        said.map_or(self.is_tls, |scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }

    /// Who is signed in with the proxy that sends this, where a trusted one says so, and says it once: what is there twice may be of anybody.
    pub fn user(&self, headers: &HeaderMap) -> Option<String> {
        let mut values = headers.get_all(self.proxies.user.as_ref().filter(|_| self.is_proxy())?).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let name = std::str::from_utf8(value.as_bytes()).ok()?.trim();
        let is_name = !name.is_empty() && name.len() <= MOST_USER && !name.chars().any(char::is_control);
        is_name.then(|| name.to_owned())
    }

    /// Whether it is a proxy, whose connections are those of many clients.
    pub(super) fn is_proxy(&self) -> bool {
        self.trusts(self.address)
    }

    /// Somebody at another address, in front of the same proxies.
    pub fn with(&self, address: IpAddr) -> Self {
        Self { address: address.to_canonical(), ..self.clone() }
    }

    /// Whether a proxy that the operator named has this address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, proxies: &[&str], forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        behind(peer, proxies, ForwardedHeader::XForwardedFor).client_ip(&headers).to_string()
    }

    fn behind(peer: &str, proxies: &[&str], header: ForwardedHeader) -> Peer {
        let networks = proxies.iter().map(|text| parse_network(text).unwrap()).collect();
        Peer::new(peer.parse().unwrap(), Arc::new(Proxies { networks, header, user: Some(HeaderName::from_static("x-forwarded-user")) }))
    }

    #[test]
    fn only_the_header_that_the_proxies_write_is_read() {
        let client = |peer: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
            for value in values {
                headers.append("forwarded", value.parse().unwrap());
            }
            behind(peer, &["10.0.0.0/8"], ForwardedHeader::Forwarded).client_ip(&headers).to_string()
        };
        assert_eq!(client("10.1.2.3", &["for=203.0.113.1;proto=https"]), "203.0.113.1");
        assert_eq!(client("10.1.2.3", &["for=6.6.6.6, For=\"203.0.113.1:47\";by=x", "for=10.9.9.9"]), "203.0.113.1");
        assert_eq!(client("10.1.2.3", &["for=\"[2001:db8::7]:4711\""]), "2001:db8::7");
        assert_eq!(client("10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(client("192.0.2.9", &["for=203.0.113.1"]), "192.0.2.9", "a stranger");
        for garbage in
            ["for=unknown", "for=_hidden", "proto=https", "", "for=\"203.0.113.1", "for=203.0.113.1,,", "for=1.1.1.1;for=2.2.2.2"]
        {
            assert_eq!(client("10.1.2.3", &[garbage]), "10.1.2.3", "{garbage}");
        }
        // A client opens quotes, and its proxy appends to them.
        for open in ["for=6.6.6.6;x=\", for=203.0.113.1", "for=6.6.6.6;x=\"\\, for=\"[2001:db8::7]\""] {
            assert_eq!(client("10.1.2.3", &[open]), "10.1.2.3", "{open}");
        }
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client("192.0.2.9", &[], &["203.0.113.1"]), "192.0.2.9");
        assert_eq!(client("192.0.2.9", &["10.0.0.0/8"], &["203.0.113.1"]), "192.0.2.9");
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_no_proxy_of_ours() {
        let ours = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("10.1.2.3", &ours, &["203.0.113.1"]), "203.0.113.1");
        assert_eq!(client("10.1.2.3", &ours, &["6.6.6.6, 203.0.113.1, 10.9.9.9"]), "203.0.113.1");
        assert_eq!(client("10.1.2.3", &ours, &["6.6.6.6", "203.0.113.1:4711"]), "203.0.113.1");
        assert_eq!(client("fd00::1", &ours, &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client("fd00::1", &ours, &["[2001:db8::7], [fd00::2]:443"]), "2001:db8::7");
        assert_eq!(client("::ffff:10.1.2.3", &ours, &["203.0.113.1"]), "203.0.113.1");
        assert_eq!(client("10.1.2.3", &ours, &["10.0.0.1, 10.0.0.2"]), "10.0.0.1");
    }

    #[test]
    fn garbage_and_nothing_leave_the_peer() {
        for garbage in ["", "unknown", "999.1.1.1", "203.0.113.1,,"] {
            assert_eq!(client("10.1.2.3", &["10.1.2.3"], &[garbage]), "10.1.2.3", "{garbage}");
        }
        assert_eq!(client("10.1.2.3", &["10.1.2.3"], &[]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["10.1.2.3"], &[&vec!["1.1.1.1"; 1_000].join(",")]), "1.1.1.1");
    }

    #[test]
    fn a_proxy_alone_says_that_the_client_speaks_https() {
        let is_https = |peer: &str, scheme: &str| {
            let headers = [("x-forwarded-proto".parse().unwrap(), scheme.parse().unwrap())].into_iter().collect();
            behind(peer, &["10.0.0.0/8"], ForwardedHeader::XForwardedFor).is_https(&headers)
        };
        let none = HeaderMap::new();
        assert!(behind("192.0.2.9", &[], ForwardedHeader::Forwarded).over_tls().is_https(&none));
        let forwarded =
            [("forwarded".parse().unwrap(), "for=192.0.2.1;proto=https, for=10.1.1.1;proto=http".parse().unwrap())].into_iter().collect();
        assert!(behind("10.1.2.3", &["10.0.0.0/8"], ForwardedHeader::Forwarded).is_https(&forwarded));
        assert!(is_https("10.1.2.3", "https") && is_https("10.1.2.3", "HTTPS, http"));
        assert!(!is_https("10.1.2.3", "http") && !is_https("10.1.2.3", "") && !is_https("192.0.2.9", "https"));
    }

    #[test]
    fn a_proxy_alone_says_who_is_signed_in_and_says_it_once() {
        let user = |peer: &str, names: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append("x-forwarded-user", (*name).try_into().unwrap());
            }
            behind(peer, &["10.0.0.0/8"], ForwardedHeader::XForwardedFor).user(&headers)
        };
        assert_eq!(user("10.1.2.3", &["zoë ".as_bytes()]).as_deref(), Some("zoë"));
        assert_eq!(user("192.0.2.9", &[b"eve"]), None, "a stranger");
        let long = [b'a'; 201];
        let none: [&[&[u8]]; 5] = [&[], &[b""], &[b"eve", b"ada"], &[b"\xff"], &[&long]];
        for no in none {
            assert_eq!(user("10.1.2.3", no), None, "{no:?}");
        }
    }

    proptest! {
        #[test]
        fn fuzz_of_what_clients_say_to_proxies(said in "([ -~]{0,60}|(for=|proto=|[0-9.:\\[\\],;\"\\\\= ]){0,30})", forwarded: bool, is_v6: bool) {
            let header = if forwarded { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
            let client = if is_v6 { "2001:db8::7" } else { "203.0.113.1" };
            let appended = match (forwarded, is_v6) {
                (true, true) => format!("{said}, for=\"[{client}]:4711\";proto=https"),
                (true, false) => format!("{said}, for={client}"),
                (false, _) => format!("{said}, {client}"),
            };
            let headers: HeaderMap = [(HeaderName::from_static(header.as_str()), appended.parse().unwrap())].into_iter().collect();
            let peer = behind("10.1.2.3", &["10.0.0.0/8"], header);
            let found = peer.client_ip(&headers).to_string();
            // Never what the client says of itself.
            prop_assert!(found == client || forwarded && found == "10.1.2.3", "{found} of {appended}");
            peer.is_https(&headers);
            prop_assert_eq!(behind("192.0.2.9", &["10.0.0.0/8"], header).client_ip(&headers).to_string(), "192.0.2.9");
        }
    }

    #[test]
    fn prefixes_cover_what_they_say() {
        let contains = |network: &str, address: &str| parse_network(network).unwrap().contains(&address.parse::<IpAddr>().unwrap());
        assert!(contains("0.0.0.0/0", "255.1.2.3") && contains("::/0", "fe80::1") && contains("10.2.0.0/15", "10.3.255.255"));
        assert!(!contains("10.2.0.0/15", "10.4.0.0") && !contains("10.0.0.1", "10.0.0.2") && !contains("0.0.0.0/0", "::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "10.0.0.0/-1", "name"] {
            assert!(parse_network(bad).is_none(), "{bad}");
        }
    }
}
