//! JSON to packed events.
//!
//! Owns the event contract. A body is parsed once, as a whole, into a tape that borrows from it, and packed from there:
//! nothing is allocated for an event that is accepted. A body that does not parse as a whole is taken apart and its events
//! parsed one by one, so that a lone surrogate, a number out of range or a nest too deep costs only its own event. Promises:
//! every event of a readable body has a verdict, and its bytes in the log are valid UTF-8, finite numbers and bounded.

use std::borrow::Cow;
use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use simd_json::{Buffers, Node, StaticNode, Tape};

use super::event::{EventInput, pack};
use super::sanitize::sanitize;
use super::warning::Warnings;
use super::{IngestLimits, Request, json_bounds};
use crate::event::time::{of_epoch, of_epoch_float};
use crate::http::respond::ApiError;
use crate::outcome::Defect;

/// Events packed by partition, and what was wrong with the others.
#[derive(Debug)]
pub(super) struct Decoded {
    /// By partition: packed events.
    pub(super) partitions: Vec<Packed>,
    /// Events that were not packed.
    pub(super) rejected: Vec<Rejected>,
    /// Indices of events that the server had to give an id.
    pub(super) without_id: Vec<usize>,
    /// What of the packed events was dropped, cut or passed over.
    pub(super) warnings: Warnings,
}

/// Packed events of one partition.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) events: u32,
}

/// One event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Position in the request.
    pub(super) index: usize,
    /// Its id, as far as it could be read.
    pub(super) event_id: Option<String>,
    /// What is wrong.
    pub(super) defect: Defect,
    /// Which field.
    pub(super) field: String,
    /// For people: field and value.
    pub(super) message: String,
}

impl Decoded {
    pub(super) fn new(partitions: u16) -> Self {
        let partitions = (0..partitions).map(|_| Packed::default()).collect();
        Self { partitions, rejected: Vec::new(), without_id: Vec::new(), warnings: Warnings::default() }
    }

    /// Number of events packed.
    pub(super) fn accepted(&self) -> u32 {
        self.partitions.iter().map(|packed| packed.events).sum()
    }
}

/// What the parser needs and a thread keeps: parsing never waits, so no two requests use it at once.
#[derive(Default)]
struct Scratch {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
    text: Vec<u8>,
}

/// Beyond this a thread gives the parser's memory back: one huge body must not be paid for ever after.
const KEEP_TEXT: usize = 1 << 20;
const KEEP_NODES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Decodes a body that is one event, an array of events or `{"batch":[…],"sentAt":…}`.
pub(super) fn body(bytes: &[u8], request: &Request<'_>, limits: &IngestLimits) -> Result<Decoded, ApiError> {
    let bytes = without_bom(bytes)?;
    let mut decoded = Decoded::new(request.partitions);
    let show = |nodes: &[Node<'_>]| whole(nodes, request, limits, &mut decoded);
    match json_bounds::is_bounded(bytes).then(|| with_tape(bytes, show)).flatten() {
        Some(result) => result.map(|()| decoded),
        None => apart(bytes, request, limits),
    }
}

/// Decodes newline-delimited JSON: every line an event of its own.
pub(super) fn lines(bytes: &[u8], request: &Request<'_>, limits: &IngestLimits) -> Result<Decoded, ApiError> {
    let bytes = without_bom(bytes)?;
    let mut decoded = Decoded::new(request.partitions);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    for (index, line) in lines.enumerate() {
        if index >= limits.max_events {
            return Err(too_many(limits.max_events));
        }
        alone(line, index, request, limits, &mut decoded);
    }
    if decoded.accepted() == 0 && decoded.rejected.is_empty() {
        return Err(ApiError::bad_request("empty_body", "the body holds no event"));
    }
    Ok(decoded)
}

fn without_bom(bytes: &[u8]) -> Result<&[u8], ApiError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(ApiError::bad_request("empty_body", "the body is empty"));
    }
    Ok(bytes)
}

pub(super) fn too_many(max: usize) -> ApiError {
    let message = format!("a request takes at most {max} events");
    ApiError::new(hyper::StatusCode::PAYLOAD_TOO_LARGE, "batch_too_many", message)
}

/// Parses `bytes` and shows the tape; `None` if they do not parse.
fn with_tape<T>(bytes: &[u8], show: impl FnOnce(&[Node<'_>]) -> T) -> Option<T> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { buffers, tape, text } = scratch;
        // The parser unescapes in place and reads beyond the end: it gets a copy with room behind it.
        text.clear();
        text.extend_from_slice(bytes);
        text.resize(bytes.len() + simd_json::INPUT_PADDING, 0);
        let mut open: Tape<'_> = tape.take().map_or_else(|| Tape(Vec::new()), Tape::reset);
        let shown = simd_json::fill_tape_padded(text, bytes.len(), buffers, &mut open).is_ok().then(|| show(&open.0));
        let nodes = open.0.capacity();
        *tape = Some(open.reset());
        if text.capacity() > KEEP_TEXT || nodes > KEEP_NODES {
            *scratch = Scratch::default();
        }
        shown
    })
}

/// A parsed body.
fn whole(nodes: &[Node<'_>], request: &Request<'_>, limits: &IngestLimits, decoded: &mut Decoded) -> Result<(), ApiError> {
    match nodes.first() {
        Some(Node::Array { len, .. }) => batch(nodes, (0, *len), request, limits, decoded),
        Some(Node::Object { len, .. }) => match envelope(nodes, *len)? {
            Envelope::Batch { at, len, sent_ms } => batch(nodes, (at, len), &Request { sent_ms, ..*request }, limits, decoded),
            Envelope::Event => {
                pack(EventInput { nodes, at: 0, index: 0 }, request, limits, decoded);
                Ok(())
            }
        },
        _ => Err(ApiError::bad_request("invalid_body", "the body is neither an event, an array of events nor a batch")),
    }
}

enum Envelope {
    Batch { at: usize, len: usize, sent_ms: Option<i64> },
    Event,
}

/// An object with `batch` is an envelope; any other is an event.
fn envelope(nodes: &[Node<'_>], len: usize) -> Result<Envelope, ApiError> {
    let mut found = None;
    let mut sent_ms = None;
    let mut at = 1;
    for _ in 0..len {
        let value = at + 1;
        match nodes.get(at) {
            Some(Node::String("batch")) if found.is_some() => return Err(batch_twice()),
            Some(Node::String("batch")) => match nodes.get(value) {
                Some(Node::Array { len, .. }) => found = Some((value, *len)),
                _ => return Err(batch_not_array()),
            },
            Some(Node::String("sentAt")) => sent_ms = time(nodes.get(value)),
            _ => {}
        }
        at = next(nodes, value);
    }
    Ok(found.map_or(Envelope::Event, |(at, len)| Envelope::Batch { at, len, sent_ms }))
}

fn batch(
    nodes: &[Node<'_>],
    (start, len): (usize, usize),
    request: &Request<'_>,
    limits: &IngestLimits,
    decoded: &mut Decoded,
) -> Result<(), ApiError> {
    if len == 0 {
        return Err(ApiError::bad_request("batch_empty", "the batch holds no event"));
    }
    if len > limits.max_events {
        return Err(too_many(limits.max_events));
    }
    let mut at = start + 1;
    for index in 0..len {
        pack(EventInput { nodes, at, index }, request, limits, decoded);
        at = next(nodes, at);
    }
    Ok(())
}

/// The node after the value at `at`.
pub(super) fn next(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes.get(at) {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + 1 + count,
        _ => at + 1,
    }
}

/// A time in any form the contract knows: ISO 8601 as text, or a number since 1970.
pub(super) fn time(node: Option<&Node<'_>>) -> Option<i64> {
    match node? {
        Node::String(text) => crate::event::time::parse(text.trim().as_bytes()),
        Node::Static(StaticNode::I64(number)) => of_epoch(u64::try_from(*number).ok()?),
        Node::Static(StaticNode::U64(number)) => of_epoch(*number),
        Node::Static(StaticNode::F64(number)) => of_epoch_float(*number),
        _ => None,
    }
}

fn batch_twice() -> ApiError {
    ApiError::bad_request("invalid_body", "`batch` is given twice")
}

fn batch_not_array() -> ApiError {
    ApiError::bad_request("invalid_body", "`batch` is not an array")
}

/// The keys of an envelope, their values unread.
#[derive(Default)]
struct RawEnvelope<'a> {
    batches: Vec<&'a RawValue>,
    sent_at: Option<&'a RawValue>,
}

impl<'de> serde::Deserialize<'de> for RawEnvelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawEnvelope::default())
    }
}

impl<'de> Visitor<'de> for RawEnvelope<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = members.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            match key.as_ref() {
                // Two are as wrong as many.
                "batch" if self.batches.len() < 2 => self.batches.push(value),
                "sentAt" => self.sent_at = Some(value),
                _ => {}
            }
        }
        Ok(self)
    }
}

/// The values of a list, up to one more than may be in it.
struct Elements<'v, 'a> {
    values: &'v mut Vec<&'a RawValue>,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element()? {
            self.values.push(value);
            if self.values.len() > self.max {
                return Err(A::Error::custom("too many"));
            }
        }
        Ok(())
    }
}

/// The events of a list that does not parse as a whole.
fn elements<'a>(
    text: &'a str,
    limits: &IngestLimits,
    refuse: impl FnOnce(serde_json::Error) -> ApiError,
) -> Result<Vec<&'a RawValue>, ApiError> {
    let mut values = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Elements { values: &mut values, max: limits.max_events }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match read {
        _ if values.len() > limits.max_events => Err(too_many(limits.max_events)),
        Ok(()) if values.is_empty() => Err(ApiError::bad_request("batch_empty", "the batch holds no event")),
        Ok(()) => Ok(values),
        Err(problem) => Err(refuse(problem)),
    }
}

/// A body that does not parse as a whole, or is too much to be: its events are parsed one by one, or it is not JSON at all.
fn apart(bytes: &[u8], request: &Request<'_>, limits: &IngestLimits) -> Result<Decoded, ApiError> {
    let invalid = |problem: serde_json::Error| ApiError::bad_request("invalid_json", format!("the body is not JSON: {problem}"));
    if !json_bounds::is_shallow(bytes) {
        return Err(ApiError::bad_request("invalid_json", format!("the body nests deeper than {}", json_bounds::MAX_DEPTH)));
    }
    let sanitized = sanitize(bytes);
    let text = sanitized.as_ref();
    let (events, sent_ms): (Vec<&RawValue>, Option<i64>) = match text.trim_start().as_bytes().first() {
        Some(b'[') => (elements(text, limits, invalid)?, None),
        Some(b'{') => {
            let whole: &RawValue = serde_json::from_str(text).map_err(invalid)?;
            // One whose keys cannot be read is an event that cannot be read.
            let RawEnvelope { batches, sent_at } = serde_json::from_str(text).unwrap_or_default();
            match batches.as_slice() {
                [] => (vec![whole], None),
                [batch] => (elements(batch.get(), limits, |_| batch_not_array())?, sent_at.and_then(|sent| sent_time(sent.get()))),
                _ => return Err(batch_twice()),
            }
        }
        _ => {
            return Err(serde_json::from_str::<&RawValue>(text).map_or_else(invalid, |_| {
                ApiError::bad_request("invalid_body", "the body is neither an event, an array of events nor a batch")
            }));
        }
    };
    let mut decoded = Decoded::new(request.partitions);
    let request = Request { sent_ms, ..*request };
    for (index, event) in events.iter().enumerate() {
        // As it came: it is this event that a byte which is none costs.
        let start = (event.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let event = bytes.get(start..start + event.get().len()).unwrap_or_default();
        alone(event, index, &request, limits, &mut decoded);
    }
    Ok(decoded)
}

fn sent_time(raw: &str) -> Option<i64> {
    with_tape(raw.as_bytes(), |nodes| time(nodes.first())).flatten()
}

/// One event by itself.
pub(super) fn alone(bytes: &[u8], index: usize, request: &Request<'_>, limits: &IngestLimits, decoded: &mut Decoded) {
    let show = |nodes: &[Node<'_>]| pack(EventInput { nodes, at: 0, index }, request, limits, decoded);
    let (defect, message) = match json_bounds::is_bounded(bytes) {
        true if with_tape(bytes, show).is_some() => return,
        true => why_unreadable(bytes),
        false => (Defect::EventTooLarge, format!("the event has more than {} values", json_bounds::MAX_NODES)),
    };
    decoded.rejected.push(Rejected { index, event_id: None, defect, field: String::new(), message });
}

/// What is wrong with an event that does not parse, by a second parser's word.
fn why_unreadable(bytes: &[u8]) -> (Defect, String) {
    let Err(problem) = serde_json::from_slice::<Readable>(bytes) else {
        // What one parser reads and the other does not is a number at the edge of a float's range.
        return (Defect::NumberOutOfRange, "a number is beyond a 64-bit float".to_owned());
    };
    let text = problem.to_string();
    let defect = match text.as_str() {
        text if text.contains("recursion limit") => Defect::NestingTooDeep,
        text if text.contains("number out of range") => Defect::NumberOutOfRange,
        text if text.contains("surrogate") || text.contains("unexpected end of hex escape") => Defect::InvalidUnicode,
        text if text.contains("unicode code point") => Defect::InvalidUnicode,
        text if text.contains("control character") => Defect::InvalidCharacter,
        _ => Defect::InvalidJson,
    };
    (defect, text)
}

/// A value of which nothing is kept. `IgnoredAny` would pass over numbers and escapes unread.
struct Readable;

impl<'de> serde::Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
