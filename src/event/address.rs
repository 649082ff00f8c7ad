//! Client addresses, in every spelling in which servers, proxies and frameworks write them.
//!
//! Promises: one address in two spellings is one address (`::ffff:8.8.8.8` is `8.8.8.8`), and text that names no address is
//! `None`, never somebody else's. Host names, networks (`8.8.8.0/24`) and `unknown` name no address.

use std::net::{IpAddr, Ipv6Addr};

/// Reads the client from what a server logged or a proxy handed on: one address, `a, b` (the client stands first, then the
/// proxies on the way), or RFC 7239's `for="[2001:db8::1]:4711";proto=https, for=10.0.0.1`. `None` if the client is not named:
/// then those behind it are proxies, and no stand-ins for it.
pub fn parse_forwarded(text: &str) -> Option<IpAddr> {
    // Nearly all are one address and nothing else.
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let client = text.split(',').next()?;
    if !client.contains('=') {
        // `a b` is a list too; an address holds no blank.
        return parse(client.split_whitespace().next()?);
    }
    let pairs = client.split(';').filter_map(|pair| pair.split_once('='));
    let (_, client) = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    parse(client)
}

/// Reads one address: with a port (`8.8.8.8:51008`, `[2001:db8::1]:443`) or without, in brackets, in quotes, with a zone
/// (`fe80::1%eth0`), IPv4 also as IPv6 writes it. Ports and zones are dropped.
pub fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let is_port = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
            IpAddr::V6(is_port.then(|| without_zone(address))?.parse().ok()?)
        }
        None => bare(text)?,
    };
    Some(address.to_canonical())
}

fn bare(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some((address, _)) = text.split_once('%') {
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    // What is left to drop is a port; behind a bare IPv6 address it can only be told where that ends in an IPv4 one.
    let (address, port) = text.rsplit_once(':')?;
    let address = address.parse().ok()?;
    is_port(port).then_some(address)
}

fn without_zone(address: &str) -> &str {
    address.split_once('%').map_or(address, |(address, _)| address)
}

fn is_port(text: &str) -> bool {
    // Digits only: a number's parser takes a sign as well.
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_of_spellings() {
        let table = [
            ("8.8.8.8", "8.8.8.8"),
            (" 8.8.8.8\t", "8.8.8.8"),
            ("8.8.8.8:51008", "8.8.8.8"),
            ("\"8.8.8.8\"", "8.8.8.8"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            ("::FFFF:808:808", "8.8.8.8"),
            ("::ffff:8.8.8.8:51008", "8.8.8.8"),
            ("[::ffff:8.8.8.8]:51008", "8.8.8.8"),
            ("2001:4860:4860::8888", "2001:4860:4860::8888"),
            ("2001:4860:4860:0000:0000:0000:0000:8888", "2001:4860:4860::8888"),
            ("[2001:4860:4860::8888]", "2001:4860:4860::8888"),
            ("[2001:4860:4860::8888]:443", "2001:4860:4860::8888"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("8.8.8.8, 10.0.0.1", "8.8.8.8"),
            ("8.8.8.8,10.0.0.1,10.0.0.2", "8.8.8.8"),
            ("8.8.8.8 10.0.0.1", "8.8.8.8"),
            ("8.8.8.8:4711, [2001:db8::1]:80", "8.8.8.8"),
            ("[2001:db8::1]:80, 8.8.8.8", "2001:db8::1"),
            ("for=192.0.2.43, for=198.51.100.17", "192.0.2.43"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=http; for=192.0.2.60;by=203.0.113.43", "192.0.2.60"),
        ];
        for (text, expected) in table {
            assert_eq!(parse_forwarded(text), Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_names_no_address_is_none() {
        let bad = [
            "",
            " ",
            "-",
            "unknown",
            "unknown, 8.8.8.8",
            ", 8.8.8.8",
            "localhost",
            "crawl-66-249-66-1.googlebot.com",
            "8.8.8.0/24",
            "999.1.1.1",
            "8.8.8",
            "8.8.8.8.8",
            "8.8.8.8:",
            "8.8.8.8:x",
            "8.8.8.8:99999",
            "8.8.8.8:+1",
            "8.8.8.8%eth0",
            "[8.8.8.8]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:",
            "[]",
            "[]:80",
            "unix:",
            "for=unknown",
            "for=_hidden",
            "by=8.8.8.8",
            "(null)",
            "1",
        ];
        for text in bad {
            assert_eq!(parse_forwarded(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_of_an_address_reads_as_that_address(address: IpAddr, port: u16, proxies in prop::collection::vec(any::<IpAddr>(), 0..3)) {
            let spellings = match address {
                IpAddr::V4(v4) => vec![v4.to_string(), format!("{v4}:{port}"), v4.to_ipv6_mapped().to_string(), format!("[{}]:{port}", v4.to_ipv6_mapped())],
                IpAddr::V6(v6) => vec![v6.to_string(), format!("[{v6}]"), format!("[{v6}]:{port}"), format!("{v6}%eth0"), v6.to_string().to_uppercase()],
            };
            for spelling in spellings {
                let list = proxies.iter().fold(spelling.clone(), |list, proxy| format!("{list}, {proxy}"));
                prop_assert_eq!(parse_forwarded(&list), Some(address.to_canonical()), "{}", list);
                let node = if spelling.starts_with('[') { format!("for=\"{spelling}\"") } else { format!("for={spelling};proto=https") };
                prop_assert_eq!(parse_forwarded(&node), Some(address.to_canonical()), "{}", node);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}", near in "[0-9a-f.:\\[\\]%,=\" ]{0,40}") {
            let _ = (parse_forwarded(&text), parse_forwarded(&near));
        }
    }
}
