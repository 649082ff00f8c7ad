//! Access logs in the combined format, as Apache and nginx write it.
//!
//! `address identity user [time] "request" status bytes "referrer" "agent"`, whatever follows. Owns what a line says as an
//! event. Promises: the address leaves here only as the context's `ip`, which resolves to a place and is dropped, and as a
//! keyed hash. A request that makes no sense is an event all the same if its quoting is right; a line that is not whole is a
//! defect.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::Malformed;
use super::ids::AddressHasher;

/// Name of the events.
const EVENT: &str = "http_request";
const TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

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

/// What the lines do not say.
pub(super) struct Site {
    /// Names for addresses.
    pub(super) addresses: AddressHasher,
    /// The host whose log it is, if known: its own pages are then no referrers.
    pub(super) host: Option<String>,
}

/// One line as the JSON of an event.
pub(super) fn event(line: &[u8], id: Uuid, site: &Site) -> Result<Vec<u8>, Malformed> {
    let text = String::from_utf8_lossy(line);
    let (address, rest) = text.split_once(' ').filter(|(address, _)| !address.is_empty()).ok_or("no address")?;
    let (names, rest) = rest.split_once(" [").ok_or("no time in brackets")?;
    if !names.contains(' ') {
        return Err("no identity and user between address and time".into());
    }
    let (time, rest) = rest.split_once("] ").ok_or("the bracket of the time is not closed")?;
    let timestamp = Timestamp::strptime(TIME, time).map_err(|problem| format!("time `{time}`: {problem}"))?;
    let (request, rest) = quoted(rest, "request")?;
    let (status, rest) = field(rest, "status")?;
    let status =
        digits(status).filter(|status| (100..1_000).contains(status)).ok_or_else(|| format!("status `{status}` is not 100 to 999"))?;
    let (bytes, rest) = field(rest, "bytes")?;
    let bytes = match bytes {
        "-" => None,
        bytes => Some(digits(bytes).ok_or_else(|| format!("bytes `{bytes}` are neither a number nor `-`"))?),
    };
    let (referrer, rest) = quoted(rest, "referrer")?;
    let (agent, _) = quoted(rest, "user agent")?;
    let Request { method, path, search } = Request::of(&request);
    let rooted = path.filter(|path| path.starts_with('/'));
    let url = site.host.as_ref().zip(rooted).map(|(host, path)| format!("https://{host}{path}{}", search.unwrap_or_default()));
    let event = Event {
        event_id: id,
        name: EVENT,
        timestamp: timestamp.to_string(),
        anonymous_id: site.addresses.name(address.as_bytes()),
        context: Context { ip: address, user_agent: said(&agent), page: Page { url, path, search, referrer: said(&referrer) } },
        properties: Properties { method, path, status: u16::try_from(status).unwrap_or_default(), bytes },
    };
    serde_json::to_vec(&event).map_err(|problem| problem.to_string().into())
}

/// What a request line asks for, as far as it makes sense.
#[derive(Debug, PartialEq, Eq)]
struct Request<'l> {
    method: Option<&'l str>,
    path: Option<&'l str>,
    /// With its question mark.
    search: Option<&'l str>,
}

impl<'l> Request<'l> {
    fn of(line: &'l str) -> Self {
        let (method, target) = match line.split_once(' ') {
            Some((method, target)) if is_method(method) => (Some(method), target),
            // Not HTTP: whatever was said stands for the path.
            _ => (None, line),
        };
        let target = match target.rsplit_once(' ') {
            Some((target, version)) if version.starts_with("HTTP/") => target,
            _ => target,
        };
        let target = without_origin(target);
        let target = target.split_once('#').map_or(target, |(target, _)| target);
        let (path, search) = target.split_at(target.find('?').unwrap_or(target.len()));
        Self { method, path: said(path), search: said(search).filter(|search| *search != "?") }
    }
}

fn is_method(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// The path of a target that a proxy's client gives in full.
fn without_origin(target: &str) -> &str {
    let Some((scheme, rest)) = target.split_once("://") else { return target };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return target;
    }
    rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// `None` for what servers write in place of nothing.
fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !matches!(*text, "" | "-"))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The text up to the next space, and what follows it.
fn field<'l>(rest: &'l str, name: &str) -> Result<(&'l str, &'l str), Malformed> {
    rest.split_once(' ').filter(|(text, _)| !text.is_empty()).ok_or_else(|| format!("no {name}").into())
}

/// The text between quotes, unescaped, and what follows the space behind it.
fn quoted<'l>(rest: &'l str, name: &str) -> Result<(Cow<'l, str>, &'l str), Malformed> {
    let inner = rest.strip_prefix('"').ok_or_else(|| format!("no {name} in quotes"))?;
    let mut is_escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    let (text, rest) = end.and_then(|end| inner.split_at_checked(end)).ok_or_else(|| format!("the quote of the {name} is not closed"))?;
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    let rest = match rest.strip_prefix(' ') {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        None => return Err(format!("no space after the {name}").into()),
    };
    Ok((unescaped(text), rest))
}

/// Undoes what servers do to quotes, backslashes and bytes that do not print.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (plain, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) if let Some(byte) = hex(*high, *low) => (byte, after),
            (b'\\', [escape, after @ ..]) if let Some(byte) = escape_of(*escape) => (byte, after),
            _ => (*byte, after),
        };
        out.push(plain);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn escape_of(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        b'b' => 0x08,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0B,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
