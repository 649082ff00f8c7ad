//! Lines that are JSON objects: Caddy, Traefik, Cloudflare, Google's load balancers, nginx and Apache with a format of one's own, and
//! the wrappers that container runtimes and journals put around a line of text.
//!
//! There is no standard for names: each field is looked for under those in use, the most specific first; case, `_`, `-` and `@` make no
//! difference (`@timestamp`, `remote_addr`, `RemoteAddr`), and a path leads into objects.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::times;
use super::hit::{ClientField, Hit, Remarks, Site};
use super::text;
use super::words::{host_name, is_private, said, status};
use crate::cli::import::malformed::Malformed;
use crate::event::{address, time};

/// How deep members are looked for.
const DEPTH: usize = 4;
const CLIENT: [&str; 14] = [
    "request.clientip",
    "request.remoteip",
    "request.remoteaddr",
    "clienthost",
    "clientaddr",
    "clientip",
    "client.ip",
    "client.address",
    "source.ip",
    "source.address",
    "httprequest.remoteip",
    "remoteaddr",
    "remoteip",
    "ip",
];
const FORWARDED: [&str; 5] =
    ["httpxforwardedfor", "xforwardedfor", "request.headers.xforwardedfor", "requestxforwardedfor", "forwardedfor"];
const TIME: [&str; 10] =
    ["startutc", "timeiso8601", "timelocal", "ts", "msec", "edgestarttimestamp", "timestamp", "time", "datetime", "startlocal"];
const METHOD: [&str; 7] =
    ["requestmethod", "method", "request.method", "http.request.method", "httprequest.requestmethod", "clientrequestmethod", "verb"];
const TARGET: [&str; 10] = [
    "requesturi",
    "request.uri",
    "requestpath",
    "clientrequesturi",
    "httprequest.requesturl",
    "url.original",
    "uri",
    "url.path",
    "url",
    "path",
];
const QUERY: [&str; 3] = ["args", "querystring", "url.query"];
const STATUS: [&str; 7] =
    ["status", "downstreamstatus", "http.response.statuscode", "httprequest.status", "edgeresponsestatus", "statuscode", "responsecode"];
const BYTES: [&str; 9] = [
    "bodybytessent",
    "downstreamcontentsize",
    "http.response.body.bytes",
    "httprequest.responsesize",
    "edgeresponsebytes",
    "bytessent",
    "responsesize",
    "size",
    "bytes",
];
const REFERRER: [&str; 8] = [
    "httpreferer",
    "httpreferrer",
    "request.headers.referer",
    "requestreferer",
    "http.request.referrer",
    "httprequest.referer",
    "clientrequestreferer",
    "referer",
];
const AGENT: [&str; 7] = [
    "httpuseragent",
    "request.headers.useragent",
    "requestuseragent",
    "useragent.original",
    "httprequest.useragent",
    "clientrequestuseragent",
    "useragent",
];
const HOST: [&str; 8] = ["request.host", "requesthost", "httphost", "clientrequesthost", "url.domain", "servername", "virtualhost", "host"];
/// Members that hold a line of text as its program wrote it.
const WRAPPED: [&str; 2] = ["log", "message"];

/// Reads a line.
pub(super) fn hit<'l>(line: &str, site: &Site) -> Result<Hit<'l>, Malformed> {
    let value: Map<String, Value> =
        serde_json::from_str(line).map_err(|problem| Malformed::new("invalid_json", format!("not a JSON object: {problem}")))?;
    let mut members = Members(HashMap::new());
    members.add("", &value, DEPTH);
    let has_status = members.find(&STATUS).is_some();
    if let Some(inner) = members.text(&WRAPPED).filter(|_| !has_status) {
        return wrapped(inner.trim(), site);
    }
    let mut hit = members.hit(site)?;
    hit.host = members.text(&HOST).and_then(host_name).map(Cow::Owned);
    Ok(hit)
}

fn wrapped<'l>(inner: &str, site: &Site) -> Result<Hit<'l>, Malformed> {
    match inner.starts_with('{') {
        // Only once: no known log is wrapped twice.
        true if !inner.contains("\"log\"") => hit(inner, site),
        true => Err(Malformed::new("no_request", "an object in an object; not an access log")),
        false => text::hit(inner, site).map(Hit::into_owned),
    }
}

/// The members of an object by their path, spelled in one way.
struct Members<'v>(HashMap<String, &'v Value>);

impl<'v> Members<'v> {
    fn add(&mut self, prefix: &str, object: &'v Map<String, Value>, depth: usize) {
        for (name, value) in object {
            let path = format!("{prefix}{}", spelled(name));
            match value {
                Value::Object(inner) if depth > 1 => self.add(&format!("{path}."), inner, depth - 1),
                // Headers are lists in some logs.
                Value::Array(values) if values.first().is_some_and(Value::is_string) => {
                    values.first().into_iter().for_each(|first| {
                        self.0.entry(path.clone()).or_insert(first);
                    });
                }
                value => {
                    self.0.entry(path).or_insert(value);
                }
            }
        }
    }

    fn find(&self, names: &[&str]) -> Option<&'v Value> {
        names.iter().filter_map(|name| self.0.get(*name)).find(|value| !value.is_null()).copied()
    }

    fn text(&self, names: &[&str]) -> Option<&'v str> {
        names.iter().filter_map(|name| self.0.get(*name)?.as_str()).find_map(said)
    }

    fn hit<'l>(&self, site: &Site) -> Result<Hit<'l>, Malformed> {
        let (method, target) = (self.text(&METHOD), self.text(&TARGET));
        // Some write the request line as it came.
        let line = self.text(&["request"]).or_else(|| self.text(&["requestline"]));
        let request = match (line, target) {
            (_, Some(target)) if method.is_some() => self.whole_target(target),
            (Some(line), _) => line.to_owned(),
            (None, Some(target)) => self.whole_target(target),
            (None, None) => {
                return Err(Malformed::new("no_request", "an object without a request: not an access log, or its names are not known"));
            }
        };
        let method = target.and(method).map(|method| Cow::Owned(method.to_owned()));
        let (client, has_unused_forward) = self.client(site)?;
        let (at, is_zone_assumed) = self.time(site)?;
        let code = self.find(&STATUS).map(written).ok_or_else(|| Malformed::new("status_unreadable", "no status"))?;
        let owned = |text: Option<&str>| text.map(|text| Cow::Owned(text.to_owned()));
        Ok(Hit {
            client,
            at,
            request: Cow::Owned(request),
            method,
            status: status(&code)?,
            bytes: self.find(&BYTES).and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())),
            referrer: owned(self.text(&REFERRER)),
            agent: owned(self.text(&AGENT)),
            host: None,
            remarks: Remarks { is_zone_assumed, has_unused_forward, is_combined: false },
        })
    }

    fn whole_target(&self, target: &str) -> String {
        match self.text(&QUERY).filter(|_| !target.contains('?')) {
            Some(query) => format!("{target}?{}", query.trim_start_matches('?')),
            None => target.to_owned(),
        }
    }

    /// The client, and whether another member may name it.
    fn client(&self, site: &Site) -> Result<(std::net::IpAddr, bool), Malformed> {
        let remote = self.text(&CLIENT).and_then(address::parse_forwarded);
        let forwarded = self.text(&FORWARDED);
        match &site.client_field {
            Some(ClientField::Key(key)) => {
                let path: Vec<String> = key.split('.').map(spelled).collect();
                let value = self.text(&[path.join(".").as_str()]).unwrap_or_default();
                Ok((site.named_client(value, remote)?, false))
            }
            Some(ClientField::Position(position)) => {
                Err(Malformed::new("no_address", format!("an object has members by name, none by number {position}")))
            }
            None => {
                let remote =
                    remote.ok_or_else(|| Malformed::new("no_address", "no member holds a client's address; --client-field names one"))?;
                let client = site.client(remote, forwarded);
                Ok((client, client == remote && is_private(client) && forwarded.and_then(address::parse_forwarded).is_some()))
            }
        }
    }

    fn time(&self, site: &Site) -> Result<(jiff::Timestamp, bool), Malformed> {
        let value = self.find(&TIME).ok_or_else(|| Malformed::new("no_time", "no member holds a time"))?;
        let text = written(value);
        let epoch = value.as_f64().and_then(|number| match value.as_u64() {
            Some(whole) => time::of_epoch(whole),
            None => time::of_epoch_float(number),
        });
        let read = match epoch {
            Some(at_ms) => jiff::Timestamp::from_millisecond(at_ms).ok().map(times::Read::At),
            None => times::in_bracket(&text),
        };
        let read = read.ok_or_else(|| Malformed::new("timestamp_invalid", format!("time `{text}` cannot be read")))?;
        site.times.of_log(read, &text)
    }
}

/// A value as it would stand in a text.
fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name without what makes spellings differ.
fn spelled(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '@' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}
