//! Access logs: what a web server says of a request, as an event.
//!
//! One reader for all layouts ([`text`]: common and combined, with or without a virtual host, behind syslog or a container's prefix;
//! [`json`]: Caddy, Traefik, nginx and others), recognised line by line. Owns what a line says as an event. Promises: the address
//! leaves here only as the context's `ip`, which resolves to a place and is dropped, and as a keyed hash; a line in which no address
//! of a client can be found is refused, never stored as somebody; one address in two spellings is one visitor.

mod foreign;
mod head;
mod json;
mod request;
mod text;

use std::borrow::Cow;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use self::request::Request;
use super::Malformed;
use super::ids::AddressHasher;
use super::lines::Line;
use super::times::Times;
use crate::event::address;
use crate::http::Peer;

pub(super) use self::foreign::whole_file;

/// Name of the events.
const EVENT: &str = "http_request";

/// What the lines do not say.
pub(super) struct Site {
    /// Names for addresses.
    pub(super) addresses: AddressHasher,
    /// The host whose log it is, if known: its own pages are then no referrers.
    pub(super) host: Option<String>,
    /// Where the client's address stands, if not in front.
    pub(super) client_field: Option<ClientField>,
    /// Which proxies are believed.
    pub(super) proxies: Peer,
    /// How times are read.
    pub(super) times: Times,
}

/// Where a line says who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientField {
    /// Which of a text's fields, counted from 1, or from the end with -1.
    Position(i32),
    /// Which member of a JSON object, as a path.
    Key(String),
}

impl FromStr for ClientField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i32>() {
            Ok(0) => Err("fields are counted from 1, or from the end with -1".to_owned()),
            Ok(position) => Ok(Self::Position(position)),
            Err(_) if text.trim().is_empty() => Err("neither a number nor the name of a member".to_owned()),
            Err(_) => Ok(Self::Key(text.to_owned())),
        }
    }
}

/// What a line says of a request.
#[derive(Debug)]
pub(super) struct Hit<'l> {
    /// Who asked.
    client: IpAddr,
    at: Timestamp,
    /// The request line, or the target alone where `method` is known.
    request: Cow<'l, str>,
    method: Option<Cow<'l, str>>,
    status: u16,
    bytes: Option<u64>,
    referrer: Option<Cow<'l, str>>,
    agent: Option<Cow<'l, str>>,
    /// Which of the server's hosts was asked.
    host: Option<Cow<'l, str>>,
    remarks: Remarks,
}

/// What the user should know about a line that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remarks {
    /// Its time names no zone and was taken for one of UTC.
    pub(super) is_zone_assumed: bool,
    /// Its client has an address of a private network, and another field holds addresses that were not looked at.
    pub(super) has_unused_forward: bool,
    /// It has a referrer and an agent.
    pub(super) is_combined: bool,
}

/// One line as the JSON of an event.
pub(super) fn event(line: Line<'_>, id: Uuid, site: &Site) -> Result<(Vec<u8>, Remarks), Malformed> {
    let text = String::from_utf8_lossy(line.bytes);
    // Where a log was truncated while its server went on writing there is a hole of zeros.
    let text = text.trim_start_matches('\0').trim();
    let hit = match text.starts_with('{') {
        true => json::hit(text, site)?,
        false => text::hit(text, site)?,
    };
    let remarks = hit.remarks;
    Ok((hit.into_event(id, site)?, remarks))
}

impl Site {
    /// The client's address: `remote`, or behind proxies that are believed the one in `forwarded`.
    fn client(&self, remote: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let Some(value) = forwarded.and_then(|forwarded| HeaderValue::from_str(forwarded).ok()) else { return remote };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", value);
        self.proxies.with(remote).client_ip(&headers)
    }

    /// Who asked, by the field that `client_field` names; `remote` where it says nothing.
    fn named_client(&self, value: &str, remote: Option<IpAddr>) -> Result<IpAddr, Malformed> {
        if matches!(value.trim(), "" | "-") {
            return remote
                .ok_or_else(|| Malformed::new("no_address", "neither the client's field nor the line's beginning holds an address"));
        }
        let first = address::parse_forwarded(value);
        let first =
            first.ok_or_else(|| Malformed::new("no_address", format!("the client's field holds `{value}`, which is no address")))?;
        // Some proxies put themselves behind what the client claims; those that are believed say who it was.
        let last = value.rsplit(',').next().and_then(address::parse);
        Ok(match last {
            Some(last) if value.contains(',') && self.proxies.trusts(last) => self.client(last, Some(value)),
            _ => first,
        })
    }
}

impl Hit<'_> {
    /// Apart from the text that it was read from.
    fn into_owned<'o>(self) -> Hit<'o> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let Hit { client, at, request, method, status, bytes, referrer, agent, host, remarks } = self;
        let (method, referrer, agent, host) = (owned(method), owned(referrer), owned(agent), owned(host));
        Hit { client, at, request: Cow::Owned(request.into_owned()), method, status, bytes, referrer, agent, host, remarks }
    }

    fn into_event(self, id: Uuid, site: &Site) -> Result<Vec<u8>, Malformed> {
        let request = match &self.method {
            Some(method) => Request { method: Some(method.as_ref()), ..Request::of_target(&self.request) },
            None => Request::of(&self.request),
        };
        let Request { method, path, search } = request;
        let rooted = path.filter(|path| path.starts_with('/'));
        let host = self.host.as_deref().or(site.host.as_deref());
        let url = host.zip(rooted).map(|(host, path)| format!("https://{host}{path}{}", search.unwrap_or_default()));
        let client = self.client.to_string();
        let event = Event {
            event_id: id,
            name: EVENT,
            timestamp: self.at.to_string(),
            anonymous_id: site.addresses.name(client.as_bytes()),
            context: Context {
                ip: &client,
                user_agent: self.agent.as_deref(),
                page: Page { url, path, search, referrer: self.referrer.as_deref() },
            },
            properties: Properties { method, path, status: self.status, bytes: self.bytes },
        };
        serde_json::to_vec(&event).map_err(|problem| Malformed::new("unwritable", problem.to_string()))
    }
}

/// The host of a page, if `text` is a name that one can be called by; with its port unless that is the usual one.
fn host_name(text: &str) -> Option<String> {
    let (name, port) = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((text, ""));
    let is_name = name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let is_address = address::parse(name).is_some();
    (is_name && !is_address).then(|| match port {
        "" | "80" | "443" => name.to_ascii_lowercase(),
        port => format!("{}:{port}", name.to_ascii_lowercase()),
    })
}

/// `None` for what servers write in place of nothing.
fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !matches!(*text, "" | "-"))
}

/// A status as servers write it.
fn status(text: &str) -> Result<u16, Malformed> {
    let number = digits(text).and_then(|status| u16::try_from(status).ok()).filter(|status| (100..1_000).contains(status));
    number.ok_or_else(|| Malformed::new("status_unreadable", format!("status `{text}` is not 100 to 999")))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether an address is of the kind that proxies have and visitors from outside have not.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'l> {
    event_id: Uuid,
    #[serde(rename = "type")]
    name: &'static str,
    timestamp: String,
    anonymous_id: String,
    context: Context<'l>,
    properties: Properties<'l>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'l> {
    ip: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'l str>,
    page: Page<'l>,
}

#[derive(Serialize)]
struct Page<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<&'l str>,
}

#[derive(Serialize)]
struct Properties<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'l str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[cfg(test)]
mod tests;
