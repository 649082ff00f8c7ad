//! The address of the client, behind proxies or not.
//!
//! Promises: a header says who the client is only where every hop behind it is a proxy that the operator named.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::HeaderMap;
use ipnet::IpNet;

use crate::event::address;

/// A proxy or a network of them, as the operator writes it: `10.0.0.0/8`, `fd00::/8`, or a single address.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Who is at the other end of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    proxies: Arc<[IpNet]>,
}

impl Peer {
    pub(super) fn new(address: IpAddr, proxies: Arc<[IpNet]>) -> Self {
        Self { address: address.to_canonical(), proxies }
    }

    /// The client's address: the peer's own, or behind trusted proxies the nearest hop of `x-forwarded-for` that is none of
    /// them. A hop that is no address is a reason to believe nothing: the peer's own again.
    pub fn client_ip(&self, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(self.address) {
            return self.address;
        }
        let values = headers.get_all("x-forwarded-for");
        let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        let mut nearest = self.address;
        for hop in hops {
            let Some(address) = address::parse(hop) else { return self.address };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }

    /// Whether the client speaks https with the outermost proxy, where a trusted one says so.
    pub fn is_https(&self, headers: &HeaderMap) -> bool {
        let said = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()?.split(',').next());
        self.is_proxy() && said.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }

    /// Whether it is a proxy, whose connections are those of many clients.
    pub(super) fn is_proxy(&self) -> bool {
        self.trusts(self.address)
    }

    /// Somebody at another address, in front of the same proxies.
    pub fn with(&self, address: IpAddr) -> Self {
        Self::new(address, Arc::clone(&self.proxies))
    }

    /// Whether a proxy that the operator named has this address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, proxies: &[&str], forwarded: &[&str]) -> String {
        let proxies = proxies.iter().map(|text| parse_network(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        Peer::new(peer.parse().unwrap(), proxies).client_ip(&headers).to_string()
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
            Peer::new(peer.parse().unwrap(), [parse_network("10.0.0.0/8").unwrap()].into()).is_https(&headers)
        };
        assert!(is_https("10.1.2.3", "https") && is_https("10.1.2.3", "HTTPS, http"));
        assert!(!is_https("10.1.2.3", "http") && !is_https("10.1.2.3", "") && !is_https("192.0.2.9", "https"));
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
