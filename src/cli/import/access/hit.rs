//! What a line of an access log says of a request, and the event that it becomes.

use std::borrow::Cow;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::request::Request;
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::event::address;
use crate::http::Peer;

/// Name of the events.
const EVENT: &str = "http_request";

/// What the lines do not say.
pub(in crate::cli::import) struct Site {
    /// The host whose log it is, if known: its own pages are then no referrers.
    pub(in crate::cli::import) host: Option<String>,
    /// Where the client's address stands, if not in front.
    pub(in crate::cli::import) client_field: Option<ClientField>,
    /// Which proxies are believed.
    pub(in crate::cli::import) proxies: Peer,
    /// How times are read.
    pub(in crate::cli::import) times: Times,
}

/// Where a line says who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::import) enum ClientField {
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
pub(in crate::cli::import) struct Hit<'l> {
    /// Who asked.
    pub(super) client: IpAddr,
    pub(super) at: Timestamp,
    /// The request line, or the target alone where `method` is known.
    pub(super) request: Cow<'l, str>,
    pub(super) method: Option<Cow<'l, str>>,
    pub(super) status: u16,
    pub(super) bytes: Option<u64>,
    pub(super) referrer: Option<Cow<'l, str>>,
    pub(super) agent: Option<Cow<'l, str>>,
    /// Which of the server's hosts was asked.
    pub(super) host: Option<Cow<'l, str>>,
    pub(super) remarks: Remarks,
}

/// What the user should know about a line that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::import) struct Remarks {
    /// Its time names no zone and was taken for one of UTC.
    pub(in crate::cli::import) is_zone_assumed: bool,
    /// Its client has an address of a private network, and another field holds addresses that were not looked at.
    pub(in crate::cli::import) has_unused_forward: bool,
    /// It has a referrer and an agent.
    pub(in crate::cli::import) is_combined: bool,
}

impl Site {
    /// The client's address: `remote`, or behind proxies that are believed the one in `forwarded`.
    pub(super) fn client(&self, remote: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let Some(value) = forwarded.and_then(|forwarded| HeaderValue::from_str(forwarded).ok()) else { return remote };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", value);
        self.proxies.with(remote).client_ip(&headers)
    }

    /// Who asked, by the field that `client_field` names; `remote` where it says nothing.
    pub(super) fn named_client(&self, value: &str, remote: Option<IpAddr>) -> Result<IpAddr, Malformed> {
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
    pub(super) fn into_owned<'o>(self) -> Hit<'o> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let Hit { client, at, request, method, status, bytes, referrer, agent, host, remarks } = self;
        let (method, referrer, agent, host) = (owned(method), owned(referrer), owned(agent), owned(host));
        Hit { client, at, request: Cow::Owned(request.into_owned()), method, status, bytes, referrer, agent, host, remarks }
    }

    pub(super) fn into_event(self, id: Uuid, site: &Site) -> Result<Vec<u8>, Malformed> {
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'l> {
    event_id: Uuid,
    #[serde(rename = "type")]
    name: &'static str,
    timestamp: String,
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
