//! What stands before the time of a line: the client, behind what a logging system put in front.
//!
//! A prefix is known by its form, never guessed at: what does not fit one of these forms is no address, and no visitor either.
//! ```text
//! 203.0.113.7 - -                               combined
//! 203.0.113.7, 10.0.0.1 - -                     a list of forwarded addresses
//! shop.example:443 203.0.113.7 - -              a virtual host (also `shop.example`, `shop.example:443:203.0.113.7`)
//! web_1  | 203.0.113.7 - -                      docker compose
//! Oct 10 13:55:36 web1 nginx[811]: 203… - -     syslog, RFC 3164; also with <190> in front, without time, or with an ISO time
//! <190>1 2024-10-10T13:55:36Z web1 nginx 811 - - 203… - -   syslog, RFC 5424
//! 2024-10-10T13:55:36.1Z stdout F 203… - -      containers of Kubernetes
//! ```

use std::net::IpAddr;

use crate::cli::import::malformed::Malformed;
use crate::event::address;

/// Who asked, and which host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'l> {
    /// The address in front; `None` if it was not looked for and is none.
    pub(super) remote: Option<IpAddr>,
    pub(super) host: Option<&'l str>,
}

/// Layers of prefixes that are taken off: a container's behind syslog's.
const LAYERS: usize = 3;

/// `head` without what logging systems put in front of lines.
pub(super) fn without_prefix(head: &str) -> &str {
    let mut rest = head.trim_start();
    for _ in 0..LAYERS {
        let Some(after) = compose(rest).or_else(|| syslog(rest)).or_else(|| container(rest)).or_else(|| tagged(rest)) else { break };
        rest = after.trim_start_matches('\u{FEFF}').trim_start();
    }
    rest
}

/// Reads what [`without_prefix`] leaves. `is_named`: another field says who the client is, so that this one may be anything.
pub(super) fn read(head: &str, is_named: bool) -> Result<Head<'_>, Malformed> {
    let (first, rest) = list(head.trim());
    if first.is_empty() {
        return Err(no_address("the line begins with its time"));
    }
    let (found, names) = match address::parse_forwarded(first) {
        Some(_) if is_host_with_port(first) && address_in_front(rest).is_some() => hosted(first, rest)?,
        Some(remote) => (Head { remote: Some(remote), host: None }, rest),
        None => match joined(first) {
            Some((host, remote)) => (Head { remote: Some(remote), host: Some(host) }, rest),
            None => hosted(first, rest)
                .or_else(|refused| if is_named { Ok((Head { remote: None, host: None }, rest)) } else { Err(refused) })?,
        },
    };
    let mut words = names.split_whitespace();
    if let Some(other) = words.clone().find(|word| address::parse(word.trim_matches(['(', ')', ','])).is_some()).filter(|_| !is_named) {
        let message = format!("two addresses before the time, `{first}` and `{other}`: --client-field says which is the client");
        return Err(Malformed::new("ambiguous_address", message));
    }
    if words.next().is_none() || words.next().is_none() {
        return Err(Malformed::new("line_cut", "no identity and user between address and time"));
    }
    Ok(found)
}

fn no_address(message: impl Into<String>) -> Malformed {
    Malformed::new("no_address", message)
}

/// The first word, with those that follow it in a list, and the rest.
fn list(text: &str) -> (&str, &str) {
    let mut end = 0;
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let word = rest.len() - rest.trim_start().len();
        let length = rest.trim_start().find(char::is_whitespace).unwrap_or(rest.trim_start().len());
        end += word + length;
        let goes_on = text.get(..end).is_some_and(|list| list.ends_with(',')) && end < text.len();
        if !goes_on {
            return (text.get(..end).unwrap_or(text).trim(), text.get(end..).unwrap_or_default().trim_start());
        }
    }
}

fn address_in_front(text: &str) -> Option<IpAddr> {
    address::parse_forwarded(list(text).0)
}

/// A virtual host, then the address.
fn hosted<'l>(host: &'l str, rest: &'l str) -> Result<(Head<'l>, &'l str), Malformed> {
    let (second, names) = list(rest);
    let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'*' | b'[' | b']'));
    match address::parse_forwarded(second) {
        Some(remote) if is_host && host != "-" => Ok((Head { remote: Some(remote), host: Some(host) }, names)),
        // Not which one: a name that stands for an address says as much as the address.
        _ if host.contains(char::is_alphabetic) => Err(no_address("where the client's address should be stands a name")),
        _ => Err(no_address("where the client's address should be stands none")),
    }
}

fn is_host_with_port(text: &str) -> bool {
    text.contains(':') && (text.contains("]:") || text.matches(':').count() == 1)
}

/// `shop.example:443:203.0.113.7`, as `%v:%p:%h` writes it.
fn joined(text: &str) -> Option<(&str, IpAddr)> {
    let (host, rest) = text.split_once(':')?;
    let (port, address) = rest.split_once(':')?;
    let is_host = host.contains(char::is_alphabetic) && port.parse::<u16>().is_ok();
    let address = address::parse(address).filter(|_| is_host)?;
    Some((text.get(..host.len() + 1 + port.len())?, address))
}

/// `name  | `, as docker compose writes it, with or without colours.
fn compose(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once('|')?;
    let is_prefix = name.ends_with(' ') && name.split_whitespace().count() == 1;
    is_prefix.then_some(rest).map(|rest| rest.strip_prefix("\u{1B}[0m").unwrap_or(rest))
}

/// Syslog, of either RFC, with its priority or without.
fn syslog(text: &str) -> Option<&str> {
    if let Some((number, rest)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>'))
        && number.parse::<u16>().is_ok()
    {
        return rest.strip_prefix("1 ").and_then(structured).or_else(|| dated(rest)).or_else(|| tagged(rest)).or(Some(rest));
    }
    text.strip_prefix("1 ").and_then(structured).or_else(|| dated(text))
}

/// What follows `1 ` in RFC 5424: time, host, program, process, message, data.
fn structured(text: &str) -> Option<&str> {
    let mut words = text.splitn(6, ' ');
    let time = words.next()?;
    if time != "-" && !is_iso(time) {
        return None;
    }
    let rest = words.nth(4)?;
    let mut rest = rest.strip_prefix("- ").unwrap_or(rest);
    while rest.starts_with('[') {
        let end = rest.find("] ").or_else(|| rest.find("][")).map(|at| at + 1)?;
        rest = rest.get(end..)?.trim_start();
    }
    Some(rest)
}

/// `Oct 10 13:55:36 web1 nginx[811]: `, or the same with an ISO time.
fn dated(text: &str) -> Option<&str> {
    let (time, rest) = text.split_once(' ')?;
    if is_iso(time) {
        return tagged(rest);
    }
    if !MONTHS.contains(&time) {
        return None;
    }
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (mut clock, mut rest) = rest.trim_start().split_once(' ')?;
    // Some write the year, too.
    if clock.len() == 4 && clock.parse::<u16>().is_ok() {
        (clock, rest) = rest.split_once(' ')?;
    }
    let is_time = day.parse::<u8>().is_ok() && clock.matches(':').count() == 2;
    is_time.then(|| tagged(rest)).flatten()
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `web1 nginx[811]: ` or `nginx: `: a host, which may be an address of its own, and the program with its colon.
fn tagged(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(' ')?;
    if is_tag(first) {
        return Some(rest);
    }
    let (second, rest) = rest.split_once(' ')?;
    is_tag(second).then_some(rest)
}

fn is_tag(word: &str) -> bool {
    let Some(name) = word.strip_suffix(':') else { return false };
    let name = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((name, process)) if process.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) => return false,
        None => name,
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'@'));
    is_name && name.contains(char::is_alphabetic) && address::parse(word).is_none()
}

/// `2024-10-10T13:55:36.1Z stdout F `, or the time alone as `docker logs -t` writes it.
fn container(text: &str) -> Option<&str> {
    let (time, rest) = text.split_once(' ')?;
    if !is_iso(time) {
        return None;
    }
    let stream = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr "));
    Some(stream.map_or(rest, |rest| rest.strip_prefix("F ").or_else(|| rest.strip_prefix("P ")).unwrap_or(rest)))
}

fn is_iso(word: &str) -> bool {
    word.as_bytes().get(10).is_some_and(|byte| *byte == b'T') && crate::event::time::parse(word.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<(String, Option<&str>), &'static str> {
        let found = read(without_prefix(text), false).map_err(|refused| refused.reason)?;
        Ok((found.remote.unwrap().to_string(), found.host))
    }

    #[test]
    fn the_client_is_found_behind_every_known_prefix() {
        for address in ["203.0.113.7", "2001:db8::5"] {
            for (prefix, host) in [
                ("", None),
                ("shop.example:443 ", Some("shop.example:443")),
                ("shop.example ", Some("shop.example")),
                ("_ ", Some("_")),
                ("192.0.2.1:443 ", Some("192.0.2.1:443")),
                ("web_1  | ", None),
                ("web-1 | ", None),
                ("Oct 10 13:55:36 web1 nginx: ", None),
                ("Oct  1 13:55:36 10.0.0.5 nginx[811]: ", None),
                ("Oct 10 2024 13:55:36 web1 nginx: ", None),
                ("<190>Oct 10 13:55:36 web1 nginx: ", None),
                ("<190>nginx: ", None),
                ("<190>1 2024-10-10T13:55:36.123Z web1 nginx 811 - - ", None),
                ("<190>1 2024-10-10T13:55:36.123Z web1 nginx 811 - [x@1 iut=\"3\"][y@1] \u{FEFF}", None),
                ("2024-10-10T13:55:36.123456+00:00 web1 nginx: ", None),
                ("2024-10-10T13:55:36+0000 web1 nginx[811]: ", None),
                ("2024-10-10T13:55:36.123456789Z stdout F ", None),
                ("2024-10-10T13:55:36.123456789Z ", None),
                ("web1 nginx[811]: ", None),
                ("nginx[811]: ", None),
                ("nginx: web_1 | shop.example ", Some("shop.example")),
            ] {
                assert_eq!(head(&format!("{prefix}{address} - -")), Ok((address.to_owned(), host)), "{prefix}");
            }
            assert_eq!(head(&format!("shop.example:443:{address} - -")), Ok((address.to_owned(), Some("shop.example:443"))));
        }
    }

    #[test]
    fn an_address_is_read_in_every_spelling() {
        for (text, address) in [
            ("8.8.8.8 - bob smith", "8.8.8.8"),
            ("8.8.8.8, 10.183.0.1 - -", "8.8.8.8"),
            ("8.8.8.8,10.183.0.1,10.0.0.9 - -", "8.8.8.8"),
            ("8.8.8.8:51008 - -", "8.8.8.8"),
            ("[2001:db8::5]:443 - -", "2001:db8::5"),
            ("::ffff:8.8.8.8 - -", "8.8.8.8"),
            ("shop.example 8.8.8.8, 10.0.0.1 - -", "8.8.8.8"),
        ] {
            assert_eq!(head(text).unwrap().0, address, "{text}");
        }
    }

    #[test]
    fn what_holds_no_address_is_nobody() {
        for text in [
            "- - -",
            "unknown, 8.8.8.8 - -",
            "crawl-66-249-66-1.googlebot.com - -",
            "unix: - -",
            "shop.example - - -",
            "localhost - -",
            "Oct - -",
            "",
        ] {
            assert_eq!(head(text), Err("no_address"), "{text}");
        }
    }

    #[test]
    fn of_two_addresses_none_is_guessed() {
        for text in
            ["10.0.0.1 (203.0.113.7) - -", "203.0.113.7 10.0.0.1 - -", "203.0.113.7 - 10.0.0.1 - -", "10.0.0.5 nginx 203.0.113.7 - -"]
        {
            assert_eq!(head(text), Err("ambiguous_address"), "{text}");
        }
        assert_eq!(head("8.8.8.8 -"), Err("line_cut"));
        assert_eq!(read("10.0.0.1 (203.0.113.7) - -", true).unwrap().remote, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(read("unix: - -", true).unwrap().remote, None);
    }
}
