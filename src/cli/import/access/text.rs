//! Lines of text: `address identity user [time] "request" status bytes "referrer" "agent"`, whatever follows; the last two may be
//! missing (common), and the order is what makes the layout: a line that says something else at one of these places is refused.

use std::borrow::Cow;

use super::super::times::{self, Read};
use super::foreign;
use super::head::{self, Head};
use super::hit::{ClientField, Hit, Remarks, Site};
use super::request::unescaped;
use super::words::{digits, host_name, is_private, said, status};
use crate::cli::import::malformed::Malformed;
use crate::event::address;

/// Methods of requests that stand without quotes.
const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
/// Fields that may stand between time and request, such as a cache's answer.
const BETWEEN: usize = 3;

/// Reads a line.
pub(super) fn hit<'l>(line: &'l str, site: &Site) -> Result<Hit<'l>, Malformed> {
    read(line, site).map_err(|malformed| foreign::line(line).map_or(malformed, |name| Malformed::new("other_format", name)))
}

fn read<'l>(line: &'l str, site: &Site) -> Result<Hit<'l>, Malformed> {
    let Timed { head, time, read, rest } = timed(line)?;
    let head = head::without_prefix(head);
    let (at, is_zone_assumed) = site.times.of_log(read, time)?;
    let Head { remote, host } = head::read(head, site.client_field.is_some())?;
    let Asked { request, status, bytes, rest } = asked(rest)?;
    let tail = tail(rest)?;
    let referrer = tail.first().filter(|field| field.is_text).map(|field| field.text.clone());
    let agent = tail.get(1).filter(|field| field.is_text).map(|field| field.text.clone());
    if referrer.is_some() && agent.is_none() {
        return Err(Malformed::new("line_cut", "no user agent in quotes"));
    }
    // Behind the agent servers write what a proxy said.
    let forwarded = tail.iter().skip(2).map(|field| field.text.as_ref()).find(|text| address::parse_forwarded(text).is_some());
    let client = match &site.client_field {
        None => remote.map(|remote| site.client(remote, forwarded)).ok_or_else(|| Malformed::new("no_address", "no address")),
        Some(ClientField::Position(position)) => {
            let fields = AllFields { head, time, asked: [&request, status.0, bytes.0], tail: &tail };
            let value = fields.at(*position);
            let value = value.ok_or_else(|| Malformed::new("no_address", format!("the line has no field {position}")))?;
            site.named_client(&value, remote)
        }
        Some(ClientField::Key(key)) => {
            Err(Malformed::new("no_address", format!("a line of text has fields by number, none called `{key}`")))
        }
    }?;
    let has_unused_forward = site.client_field.is_none() && remote == Some(client) && is_private(client) && forwarded.is_some();
    let remarks = Remarks { is_zone_assumed, has_unused_forward, is_combined: agent.is_some() };
    let kept = |text: Option<Cow<'l, str>>| text.filter(|text| said(text).is_some());
    Ok(Hit {
        client,
        at,
        request,
        method: None,
        status: status.1,
        bytes: bytes.1,
        referrer: kept(referrer),
        agent: kept(agent),
        host: host.and_then(host_name).map(Cow::Owned),
        remarks,
    })
}

/// A line around its time.
struct Timed<'l> {
    head: &'l str,
    time: &'l str,
    read: Read,
    rest: &'l str,
}

/// The first bracket that holds a time; a user's name may hold brackets as well, and so may what syslog puts in front.
fn timed(line: &str) -> Result<Timed<'_>, Malformed> {
    let mut first = None;
    for (at, _) in line.match_indices('[').filter(|(at, _)| *at == 0 || line.as_bytes().get(at - 1) == Some(&b' ')) {
        let (head, inner) = (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
        let Some((time, rest)) = inner.split_once(']') else { continue };
        if let Some(read) = times::in_bracket(time) {
            return Ok(Timed { head, time, read, rest: rest.trim_start() });
        }
        first = first.or(Some(time));
    }
    Err(match first {
        Some(time) => Malformed::new("timestamp_invalid", format!("time `{time}` cannot be read")),
        None if line.contains('[') => Malformed::new("line_cut", "the bracket of the time is not closed"),
        None => Malformed::new("no_time", "no time in brackets"),
    })
}

/// Request, status and bytes, each as written and as read.
struct Asked<'l> {
    request: Cow<'l, str>,
    status: (&'l str, u16),
    bytes: (&'l str, Option<u64>),
    rest: &'l str,
}

fn asked(rest: &str) -> Result<Asked<'_>, Malformed> {
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted_request(quoted);
    }
    let first = rest.split(' ').next().unwrap_or_default();
    if METHODS.contains(&first) {
        return bare_request(rest);
    }
    let request = rest.find('"').and_then(|at| rest.split_at_checked(at));
    match request {
        Some((between, request)) if between.split_whitespace().count() <= BETWEEN && between.ends_with(' ') => {
            quoted_request(request.strip_prefix('"').unwrap_or(request))
        }
        _ => Err(Malformed::new("request_unreadable", "no request in quotes")),
    }
}

/// A request may hold quotes that were not escaped: it ends where a status and a number of bytes follow.
fn quoted_request(text: &str) -> Result<Asked<'_>, Malformed> {
    let mut first = None;
    for end in quotes(text) {
        let (Some(request), Some(rest)) = (text.get(..end), text.get(end + 1..)) else { continue };
        match answered(rest) {
            Ok((status, bytes, rest)) => return Ok(Asked { request: unescaped(request), status, bytes, rest }),
            Err(problem) => first = first.or(Some(problem)),
        }
    }
    Err(first.unwrap_or_else(|| Malformed::new("quote_open", "the quote of the request is not closed")))
}

/// `GET / HTTP/1.1 200 512`.
fn bare_request(text: &str) -> Result<Asked<'_>, Malformed> {
    let version = text.find(" HTTP/").map(|at| at + 1).ok_or_else(|| Malformed::new("request_unreadable", "no request in quotes"))?;
    let end = text.get(version..).and_then(|rest| rest.find(' ')).map_or(text.len(), |length| version + length);
    let (request, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let (status, bytes, rest) = answered(rest)?;
    Ok(Asked { request: Cow::Borrowed(request), status, bytes, rest })
}

type Answered<'l> = ((&'l str, u16), (&'l str, Option<u64>), &'l str);

/// Status and bytes, quoted or not.
fn answered(rest: &str) -> Result<Answered<'_>, Malformed> {
    let (code, rest) = word(rest).ok_or_else(|| Malformed::new("line_cut", "no status"))?;
    let status = status(code)?;
    let (size, rest) = word(rest).ok_or_else(|| Malformed::new("line_cut", "no bytes"))?;
    let bytes = match size {
        "-" => None,
        size => {
            Some(digits(size).ok_or_else(|| Malformed::new("bytes_unreadable", format!("bytes `{size}` are neither a number nor `-`")))?)
        }
    };
    Ok(((code, status), (size, bytes), rest))
}

/// The next word, without the quotes that some put around numbers.
fn word(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix(' ')?;
    let end = rest.find(' ').unwrap_or(rest.len());
    let (word, rest) = rest.split_at_checked(end)?;
    let plain = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    (!plain.is_empty()).then_some((plain, rest))
}

/// A field behind the bytes.
struct Field<'l> {
    text: Cow<'l, str>,
    /// In quotes, or `-`: what a referrer and an agent are.
    is_text: bool,
}

fn tail(mut rest: &str) -> Result<Vec<Field<'_>>, Malformed> {
    let mut fields = Vec::new();
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let Some(inner) = rest.strip_prefix('"') else {
            let end = rest.find(' ').unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            fields.push(Field { is_text: word == "-", text: Cow::Borrowed(word) });
            rest = after;
            continue;
        };
        let name = ["referrer", "user agent"].get(fields.len()).copied().unwrap_or("field behind the user agent");
        let end = quotes(inner).next().ok_or_else(|| Malformed::new("quote_open", format!("the quote of the {name} is not closed")))?;
        let after = inner.get(end + 1..).unwrap_or_default();
        let (text, after) = match after.chars().next() {
            None | Some(' ' | '"') => (inner.get(..end).unwrap_or_default(), after),
            // An agent that holds quotes itself ends with the line, if the line ends with a quote.
            Some(_) if fields.len() == 1 && inner.ends_with('"') => (inner.get(..inner.len() - 1).unwrap_or_default(), ""),
            Some(_) => return Err(Malformed::new("quote_open", format!("no space after the {name}"))),
        };
        fields.push(Field { text: unescaped(text), is_text: true });
        rest = after;
    }
    Ok(fields)
}

/// Where unescaped quotes stand.
fn quotes(text: &str) -> impl Iterator<Item = usize> {
    let mut is_escaped = false;
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        let is_quote = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_quote.then_some(at)
    })
}

/// Everything in a line.
struct AllFields<'f, 'l> {
    head: &'f str,
    time: &'f str,
    /// Request, status and bytes.
    asked: [&'f str; 3],
    tail: &'f [Field<'l>],
}

impl<'f> AllFields<'f, '_> {
    /// A field by its position: from 1, or from the end with -1. A quoted field, the time and a list of addresses are one each.
    fn at(&self, position: i32) -> Option<Cow<'f, str>> {
        let mut fields: Vec<Cow<'f, str>> = Vec::new();
        let mut goes_on = false;
        for word in self.head.split_whitespace() {
            match fields.last_mut().filter(|_| goes_on) {
                Some(list) => *list = Cow::Owned(format!("{list} {word}")),
                None => fields.push(Cow::Borrowed(word)),
            }
            goes_on = word.ends_with(',');
        }
        fields.push(Cow::Borrowed(self.time));
        fields.extend(self.asked.map(Cow::Borrowed));
        fields.extend(self.tail.iter().map(|field| Cow::Borrowed(field.text.as_ref())));
        let from = usize::try_from(position.unsigned_abs()).ok()?;
        let at = if position > 0 { from.checked_sub(1)? } else { fields.len().checked_sub(from)? };
        fields.into_iter().nth(at)
    }
}
