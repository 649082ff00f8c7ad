//! One event of a parsed body: checked, and packed into the partition of its visitor.

use std::io::Write as _;

use simd_json::{Node, StaticNode};
use uuid::Uuid;

use super::context::{Address, members};
use super::decode::{Decoded, Packed, Rejected, next, time};
use super::properties::{self, Properties};
use super::warning::{SENT_AT_IGNORED, TIMESTAMP_CLAMPED, UNKNOWN_FIELD, VALUE_UNREADABLE, Warnings};
use super::{IngestLimits, Request, context};
use crate::event::field::{Field, flag};
use crate::event::ids::{PersonKey, VisitorKey, event_id_of, is_placeholder};
use crate::event::packed::{EventWriter, Fixed};
use crate::event::time::{Clock, Corrected, Stated, correct};
use crate::outcome::Defect;

const MAX_NAME: usize = 200;
const MAX_ID: usize = 200;
/// Prefixes of event names that pulse keeps for itself.
const RESERVED: [&str; 2] = ["$", "pulse_"];

/// Where an event stands in a parsed body.
#[derive(Clone, Copy)]
pub(super) struct EventInput<'t, 'i> {
    pub(super) nodes: &'t [Node<'i>],
    pub(super) at: usize,
    pub(super) index: usize,
}

/// Where an event goes, and what is to be said about it.
pub(super) struct Out<'o, 'b> {
    pub(super) writer: &'o mut EventWriter<'b>,
    pub(super) warnings: &'o mut Warnings,
}

/// What is wrong, with which field, in words.
pub(super) struct Fault {
    pub(super) defect: Defect,
    pub(super) field: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(defect: Defect, field: &str, message: impl Into<String>) -> Self {
        Self { defect, field: field.to_owned(), message: message.into() }
    }
}

/// An event and all that it is read by.
#[derive(Clone, Copy)]
struct Given<'g, 't, 'i> {
    input: EventInput<'t, 'i>,
    request: &'g Request<'g>,
    limits: &'g IngestLimits,
}

/// Checks an event and packs it; a fault takes back whatever was packed of it.
pub(super) fn pack(input: EventInput<'_, '_>, request: &Request<'_>, limits: &IngestLimits, decoded: &mut Decoded) {
    let given = Given { input, request, limits };
    match packed(given, &mut decoded.partitions, &mut decoded.warnings) {
        Ok(true) => decoded.without_id.push(input.index),
        Ok(false) => {}
        Err(Fault { defect, field, message }) => {
            decoded.warnings.retract();
            let event_id = event_id_text(input).filter(|id| id.len() <= MAX_ID).map(str::to_owned);
            decoded.rejected.push(Rejected { index: input.index, event_id, defect, field, message });
        }
    }
}

/// Packs an event; `true` if it has no id of its own.
fn packed(given: Given<'_, '_, '_>, partitions: &mut [Packed], warnings: &mut Warnings) -> Result<bool, Fault> {
    warnings.begin(given.input.index);
    let keys = Keys::of(given.input, warnings)?;
    let head = Head::of(&keys, given, warnings)?;
    let target = partitions.get_mut(usize::from(head.fixed.visitor.partition(given.request.partitions)));
    if let Some(target) = target {
        let start = target.bytes.len();
        if let Err(fault) = write((&keys, &head), given, &mut target.bytes, warnings) {
            target.bytes.truncate(start);
            return Err(fault);
        }
        target.events += 1;
    }
    Ok(head.fixed.flags & flag::SERVER_ID != 0)
}

/// What a refused event calls itself.
fn event_id_text<'i>(EventInput { nodes, at, .. }: EventInput<'_, 'i>) -> Option<&'i str> {
    let mut found = None;
    members(nodes, at, |key, value| {
        if key == "eventId" {
            found = found.or_else(|| text(nodes, value));
        }
    });
    found
}

/// Where in the tape the values of the event's own keys stand.
#[derive(Default)]
struct Keys {
    event_id: Option<usize>,
    name: Option<usize>,
    user_id: Option<usize>,
    anonymous_id: Option<usize>,
    session_id: Option<usize>,
    timestamp: Option<usize>,
    sent_at: Option<usize>,
    context: Option<usize>,
    properties: Option<usize>,
}

impl Keys {
    fn of(EventInput { nodes, at, .. }: EventInput<'_, '_>, warnings: &mut Warnings) -> Result<Self, Fault> {
        let Some(Node::Object { len, .. }) = nodes.get(at) else {
            return Err(Fault::new(Defect::EventNotObject, "", "the event is not a JSON object"));
        };
        let mut keys = Self::default();
        let mut at = at + 1;
        let mut seen = 0_u16;
        for _ in 0..*len {
            let value = at + 1;
            let Some(Node::String(key)) = nodes.get(at) else { break };
            if let Some((bit, slot)) = keys.slot(key) {
                if seen & bit != 0 {
                    return Err(Fault::new(Defect::DuplicateKey, key, format!("`{key}` is given twice")));
                }
                seen |= bit;
                // `null` says the same as nothing.
                let is_null = matches!(nodes.get(value), Some(Node::Static(StaticNode::Null)));
                *slot = (!is_null).then_some(value);
            } else {
                warnings.add(UNKNOWN_FIELD, &[key]);
            }
            at = next(nodes, value);
        }
        Ok(keys)
    }

    /// The place of a known key, and its bit among them.
    fn slot(&mut self, key: &str) -> Option<(u16, &mut Option<usize>)> {
        Some(match key {
            "eventId" => (1 << 0, &mut self.event_id),
            "type" => (1 << 1, &mut self.name),
            "userId" => (1 << 2, &mut self.user_id),
            "anonymousId" => (1 << 3, &mut self.anonymous_id),
            "sessionId" => (1 << 4, &mut self.session_id),
            "timestamp" => (1 << 5, &mut self.timestamp),
            "sentAt" => (1 << 6, &mut self.sent_at),
            "context" => (1 << 7, &mut self.context),
            "properties" => (1 << 8, &mut self.properties),
            // Unknown keys are passed over: clients of other versions send them.
            _ => return None,
        })
    }
}

fn text<'i>(nodes: &[Node<'i>], at: usize) -> Option<&'i str> {
    match nodes.get(at) {
        Some(Node::String(text)) => Some(text),
        _ => None,
    }
}

/// What must be known before the event can be written.
struct Head<'i> {
    fixed: Fixed,
    name: &'i str,
    user_id: &'i str,
    anonymous_id: &'i str,
}

impl<'i> Head<'i> {
    fn of(keys: &Keys, given: Given<'_, '_, 'i>, warnings: &mut Warnings) -> Result<Self, Fault> {
        let (nodes, request) = (given.input.nodes, given.request);
        let name = name(nodes, keys.name)?;
        let user_id = id(nodes, keys.user_id, "userId")?;
        let anonymous_id = id(nodes, keys.anonymous_id, "anonymousId")?;
        if user_id.is_empty() && anonymous_id.is_empty() {
            return Err(Fault::new(Defect::UserRequired, "anonymousId", "neither `anonymousId` nor `userId` is given"));
        }
        let mut flags = request.flags;
        let event_id = match keys.event_id {
            Some(at) => event_id(nodes, at)?,
            None => request.fallback_id.unwrap_or_else(|| {
                flags |= flag::SERVER_ID;
                Uuid::now_v7().into_bytes()
            }),
        };
        let (stated, at) = stated(keys, given, warnings)?;
        flags |= if at.is_clamped { flag::CLAMPED } else { 0 };
        flags |= if stated.at_ms.is_none() { flag::SERVER_TIME } else { 0 };
        let visitor = if anonymous_id.is_empty() { user_id } else { anonymous_id };
        let person = if user_id.is_empty() { anonymous_id } else { user_id };
        let fixed = Fixed {
            event_id,
            visitor: VisitorKey::of(request.project, visitor),
            person: PersonKey::of(request.project, person),
            at_ms: at.at_ms,
            original_ms: stated.at_ms.unwrap_or(0),
            sent_ms: stated.sent_ms.unwrap_or(0),
            received_ms: request.received_ms,
            flags,
            project: 0,
        };
        Ok(Self { fixed, name, user_id, anonymous_id })
    }
}

fn name<'i>(nodes: &[Node<'i>], at: Option<usize>) -> Result<&'i str, Fault> {
    let fault = |defect, message: String| Err(Fault::new(defect, "type", message));
    let Some(at) = at else { return fault(Defect::EventNameRequired, "`type` is missing".to_owned()) };
    let Some(name) = text(nodes, at) else { return fault(Defect::EventNameInvalid, "`type` is not a string".to_owned()) };
    if name.trim().is_empty() {
        return fault(Defect::EventNameRequired, "`type` is empty".to_owned());
    }
    if name.len() > MAX_NAME {
        return fault(Defect::EventNameTooLong, format!("`type` has {} bytes, more than {MAX_NAME}", name.len()));
    }
    if name.contains('\0') {
        return fault(Defect::InvalidCharacter, "`type` holds a NUL".to_owned());
    }
    if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
        return fault(Defect::EventNameReserved, format!("`type` `{name}` starts with a reserved prefix"));
    }
    Ok(name)
}

fn id<'i>(nodes: &[Node<'i>], at: Option<usize>, field: &str) -> Result<&'i str, Fault> {
    let Some(at) = at else { return Ok("") };
    let Some(id) = text(nodes, at) else { return Err(Fault::new(Defect::UserIdInvalid, field, format!("`{field}` is not a string"))) };
    if id.len() > MAX_ID {
        return Err(Fault::new(Defect::UserIdInvalid, field, format!("`{field}` has {} bytes, more than {MAX_ID}", id.len())));
    }
    if id.contains('\0') {
        return Err(Fault::new(Defect::InvalidCharacter, field, format!("`{field}` holds a NUL")));
    }
    let id = id.trim();
    if is_placeholder(id) {
        return Err(Fault::new(Defect::UserIdIllegal, field, format!("`{field}` is `{id}`, which stands for nobody")));
    }
    Ok(id)
}

fn event_id(nodes: &[Node<'_>], at: usize) -> Result<[u8; 16], Fault> {
    let invalid = |message: String| Fault::new(Defect::EventIdInvalid, "eventId", message);
    let id = text(nodes, at).ok_or_else(|| invalid("`eventId` is not a string".to_owned()))?;
    event_id_of(id).ok_or_else(|| invalid(format!("`eventId` `{}` names no event: 1 to {MAX_ID} bytes of text, or a UUID", clip(id, 60))))
}

fn stated(keys: &Keys, given: Given<'_, '_, '_>, warnings: &mut Warnings) -> Result<(Stated, Corrected), Fault> {
    let Given { input: EventInput { nodes, .. }, request, limits } = given;
    let at_ms = match keys.timestamp {
        None => None,
        Some(at) => {
            let message = "`timestamp` is neither ISO 8601 with an offset nor a number of milliseconds since 1970";
            Some(time(nodes.get(at)).ok_or_else(|| Fault::new(Defect::TimestampInvalid, "timestamp", message))?)
        }
    };
    // A `sentAt` that cannot be read corrects nothing.
    let own_sent_ms = keys.sent_at.and_then(|at| time(nodes.get(at)));
    if keys.sent_at.is_some() && own_sent_ms.is_none() {
        warnings.add(VALUE_UNREADABLE, &["sentAt"]);
    }
    let stated = Stated { at_ms, sent_ms: own_sent_ms.or(request.sent_ms) };
    let earliest_ms = if request.is_import { 0 } else { request.received_ms - limits.max_event_age_ms };
    let clock = Clock { received_ms: request.received_ms, earliest_ms, min_skew_ms: limits.min_clock_skew_ms };
    let corrected =
        correct(stated, clock).map_err(|defect| Fault::new(defect, "timestamp", "`timestamp` lies too far in the future or the past"))?;
    if corrected.is_clamped {
        warnings.add(TIMESTAMP_CLAMPED, &["timestamp"]);
    }
    if corrected.is_sent_ignored {
        warnings.add(SENT_AT_IGNORED, &["sentAt"]);
    }
    Ok((stated, corrected))
}

/// Writes the session that the client names, if it names one: text or a number.
fn session(nodes: &[Node<'_>], at: usize, out: &mut Out<'_, '_>) {
    let is_written = nodes.get(at).is_some_and(|node| {
        with_text(node, |id| {
            let id = id.trim();
            let is_name = id.len() <= MAX_ID && !id.bytes().any(|byte| byte.is_ascii_control()) && !is_placeholder(id);
            if is_name {
                out.writer.field(Field::ClientSession, id.as_bytes());
            }
            is_name
        })
        .unwrap_or(false)
    });
    if !is_written {
        out.warnings.add(VALUE_UNREADABLE, &["sessionId"]);
    }
}

fn write(
    (keys, head): (&Keys, &Head<'_>),
    Given { input, request, limits }: Given<'_, '_, '_>,
    bytes: &mut Vec<u8>,
    warnings: &mut Warnings,
) -> Result<(), Fault> {
    let mut fixed = head.fixed;
    let mut writer = EventWriter::begin(bytes);
    writer.field(Field::Type, head.name.as_bytes());
    writer.field(Field::UserId, head.user_id.as_bytes());
    writer.field(Field::AnonymousId, head.anonymous_id.as_bytes());
    if let Some(at) = keys.session_id {
        session(input.nodes, at, &mut Out { writer: &mut writer, warnings });
    }
    let said = keys.context.map(|at| context::write(input.nodes, at, &mut Out { writer: &mut writer, warnings })).unwrap_or_default();
    if !said.has_agent {
        writer.field(Field::UserAgent, request.user_agent.as_bytes());
    }
    if fixed.flags & flag::PRIVACY == 0 {
        let address = match said.address {
            Address::Known(address) => Some(address),
            Address::Unreadable => None,
            // An import's own address says nothing about where its events happened.
            Address::Missing => (!request.is_import).then_some(request.client),
        };
        if let Some(address) = address {
            request.geo.place(address).write(&mut writer);
        }
    }
    if let Some(at) = keys.properties {
        let mut properties = Properties::new(limits, &mut writer, warnings);
        properties.object(input.nodes, at)?;
        fixed.flags |= if properties.is_truncated() { flag::TRUNCATED } else { 0 };
    }
    let size = writer.written();
    if size > limits.max_event_size {
        return Err(Fault::new(Defect::EventTooLarge, "", format!("the event has {size} bytes, more than {}", limits.max_event_size)));
    }
    writer.finish(&fixed);
    Ok(())
}

/// The text of a value that is text, or of a number as it is written.
pub(super) fn with_text<T>(node: &Node<'_>, take: impl FnOnce(&str) -> T) -> Option<T> {
    match node {
        Node::String(text) => Some(take(text)),
        Node::Static(StaticNode::I64(number)) => with_digits(format_args!("{number}"), take),
        Node::Static(StaticNode::U64(number)) => with_digits(format_args!("{number}"), take),
        Node::Static(StaticNode::F64(number)) => with_digits(format_args!("{number:?}"), take),
        _ => None,
    }
}

/// Writes a number without memory of its own; the longest float has some 330 characters, and no version or id.
pub(super) fn with_digits<T>(number: std::fmt::Arguments<'_>, take: impl FnOnce(&str) -> T) -> Option<T> {
    let mut digits = [0; 40];
    let mut rest = digits.as_mut_slice();
    rest.write_fmt(number).ok()?;
    let length = 40 - rest.len();
    std::str::from_utf8(digits.get(..length)?).ok().map(take)
}

pub(super) use properties::clip;
