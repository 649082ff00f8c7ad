//! Words of access logs, and what they mean.

use std::net::IpAddr;

use crate::cli::import::malformed::Malformed;
use crate::event::address;

/// The host of a page, if `text` is a name that one can be called by; with its port unless that is the usual one.
pub(super) fn host_name(text: &str) -> Option<String> {
    let (name, port) = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((text, ""));
    let is_name = name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let is_address = address::parse(name).is_some();
    (is_name && !is_address).then(|| match port {
        "" | "80" | "443" => name.to_ascii_lowercase(),
        port => format!("{}:{port}", name.to_ascii_lowercase()),
    })
}

/// `None` for what servers write in place of nothing.
pub(super) fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !matches!(*text, "" | "-"))
}

/// A status as servers write it.
pub(super) fn status(text: &str) -> Result<u16, Malformed> {
    let number = digits(text).and_then(|status| u16::try_from(status).ok()).filter(|status| (100..1_000).contains(status));
    number.ok_or_else(|| Malformed::new("status_unreadable", format!("status `{text}` is not 100 to 999")))
}

pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether an address is of the kind that proxies have and visitors from outside have not.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}
