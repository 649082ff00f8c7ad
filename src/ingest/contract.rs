//! The event contract: what an event must hold, and how much it may hold.
//!
//! Whatever dialect an event came in, it is checked here, and the limits of an event stand nowhere else ([`Properties`] keeps those of
//! its properties). Promises: what is packed is valid UTF-8, finite and bounded; of a refused event nothing stays.
//!
//! **Names.** How many different names there are, of events, properties or anything else, is not limited. A limit would drop or rename what good clients send
//! from the day on which a project has grown, and nothing here grows by names: they are values of rows, no key of any map that lives longer than
//! a batch (agents are cached, and the cache is bounded), and no label of a metric; the store keeps them as values of columns and maps, whose
//! dictionaries end at 8,192 entries a part; lists of names and lines of charts are cut to the most frequent and say how many there are beside
//! them. What a name costs is its rows, which rates limit. `tests/it/edge/cardinality.rs` sends a million of each kind.

mod context;
mod device_types;

use std::borrow::Cow;
use std::net::IpAddr;

use uuid::Uuid;

pub(super) use self::context::MAX_AGENT;
use self::context::context;
use super::daily_visitor::{self, Unnamed, lasting_name};
use super::draft::{Draft, Fact, FactKind};
use super::properties::Properties;
use super::tape::Value;
use super::verdict::{Packed, Rejection};
use super::warning::{ID_ILLEGAL, SENT_AT_IGNORED, TIMESTAMP_CLAMPED, VALUE_UNREADABLE};
use super::{IngestLimits, geo};
use crate::auth::Keys;
use crate::event::address::parse_forwarded;
use crate::event::field::{Field, flag};
use crate::event::ids::{PersonKey, ProjectId, VisitorKey, event_id_of, is_placeholder, other_event_id, stands_for_nobody};
use crate::event::packed::{EventHeader, EventWriter};
use crate::event::text::{clip, has_nul, trim};
use crate::event::time::{Clock, Corrected, Stated, correct};
use crate::outcome::Defect;
use crate::project::internal::{DATA_CENTRE, GROUP};

/// Longest name of an event or a property, bytes. How many there may be: see the head of this file.
const MAX_NAME: usize = 200;
pub(super) const MAX_ID: usize = 200;
/// Prefixes of event names that pulse keeps for itself.
const RESERVED: [&str; 2] = ["$", "pulse_"];

/// What the events of one request have in common.
#[derive(Clone, Copy)]
pub(super) struct RequestFacts<'r> {
    pub(super) partitions: u16,
    pub(super) received_ms: i64,
    /// When the client sent the request, if its envelope says so.
    pub(super) sent_ms: Option<i64>,
    /// The id of an event that has none, where it must be the same each time; else the event gets a fresh one, of which
    /// there is no copy.
    pub(super) fallback_id: Option<[u8; 16]>,
    /// Flags of every event in it.
    pub(super) flags: u32,
    /// The browser's agent, where the client does not name one; empty otherwise.
    pub(super) user_agent: &'r str,
    /// The cookies that came with it; nothing of them is kept.
    pub(super) cookies: &'r str,
    pub(super) client: IpAddr,
    /// Whether a server sends it, which says so: its address is no visitor's.
    pub(super) is_of_server: bool,
    pub(super) geo: &'r geo::RequestGeo<'r>,
    pub(super) is_import: bool,
    /// With what visitors are named whom nobody names.
    pub(super) secrets: Option<&'r Keys>,
}

/// What the events of a request are checked by.
#[derive(Clone, Copy)]
pub(super) struct Rules<'r, 'f> {
    pub(super) project: ProjectId,
    pub(super) request: &'r RequestFacts<'f>,
    pub(super) limits: &'r IngestLimits,
    /// For how many bytes a partition gets room with its first event.
    pub(super) room: usize,
}

/// Packs an event into the partition of its visitor; `true` if it has an id of its own.
pub(super) fn pack(draft: &mut Draft<'_, '_>, rules: Rules<'_, '_>, partitions: &mut [Packed]) -> Result<bool, Rejection> {
    let head = Head::of(draft, rules)?;
    let target = partitions.get_mut(usize::from(head.header.visitor.partition(rules.request.partitions)));
    if let Some(target) = target {
        let start = target.bytes.len();
        if start == 0 {
            target.bytes.reserve(rules.room);
        }
        if let Err(rejection) = write(&head, draft, rules, &mut target.bytes) {
            target.bytes.truncate(start);
            return Err(rejection);
        }
        target.events += 1;
    }
    Ok(head.header.flags & flag::SERVER_ID == 0)
}

/// What must be known before the event can be written.
struct Head<'t> {
    header: EventHeader,
    name: &'t str,
    user_id: Cow<'t, str>,
    anonymous_id: Cow<'t, str>,
}

impl<'t> Head<'t> {
    fn of(draft: &mut Draft<'t, '_>, rules: Rules<'_, '_>) -> Result<Self, Rejection> {
        let request = rules.request;
        let name = name(draft)?;
        let (user_id, anonymous_id) = ids(draft)?;
        let anonymous_id = if draft.is_named_by_address && user_id.is_empty() && anonymous_id.is_empty() {
            let secret = request.secrets.and_then(|keys| keys.secret_of(rules.project));
            let (address, agent) = (address(draft, request), agent(draft).unwrap_or(request.user_agent));
            // Without an address it is nobody's event, and history without a secret: an agent alone is everybody's.
            let named = match (address, secret) {
                (None, _) => String::new(),
                (Some(address), secret) if request.is_import => secret.map_or(String::new(), |secret| lasting_name(&secret, address)),
                (Some(address), secret) => daily_visitor::name(&Unnamed { secret, received_ms: request.received_ms, address, agent }),
            };
            Cow::Owned(named)
        } else {
            anonymous_id
        };
        if user_id.is_empty() && anonymous_id.is_empty() {
            return Err(Rejection::new(Defect::UserRequired, "anonymousId", "neither `anonymousId` nor `userId` is given"));
        }
        let mut flags = request.flags;
        let event_id = match (draft.made_id, draft.event_id) {
            (Some(id), _) => Some(id),
            (None, Some(value)) => Some(event_id(value)?),
            (None, None) => draft.fallback_id.or(request.fallback_id),
        };
        let event_id = match event_id {
            Some(id) if draft.is_other => other_event_id(id),
            Some(id) => id,
            None => {
                flags |= flag::SERVER_ID;
                Uuid::now_v7().into_bytes()
            }
        };
        let (stated, at) = times(draft, rules)?;
        flags |= if at.is_clamped { flag::CLAMPED } else { 0 };
        flags |= if stated.at_ms.is_none() { flag::SERVER_TIME } else { 0 };
        let is_nobody = !user_id.is_empty() && stands_for_nobody(&user_id);
        if is_nobody {
            draft.warnings.add(ID_ILLEGAL, &["userId"]);
        }
        // A user who stands for nobody is kept as it was sent, but the event is the visitor's.
        let is_anonymous = user_id.is_empty() || !anonymous_id.is_empty() && is_nobody;
        let person: &str = if is_anonymous { &anonymous_id } else { &user_id };
        let visitor = match &*anonymous_id {
            "" => VisitorKey::of(rules.project, &user_id),
            // It is everybody's, and would be one visit of all of them.
            nobody if !is_anonymous && stands_for_nobody(nobody) => VisitorKey::of(rules.project, &user_id),
            device => VisitorKey::of(rules.project, device),
        };
        let header = EventHeader {
            event_id,
            visitor,
            person: PersonKey::of(rules.project, person),
            at_ms: at.at_ms,
            original_ms: stated.at_ms.unwrap_or(0),
            sent_ms: stated.sent_ms.unwrap_or(0),
            received_ms: request.received_ms,
            flags,
            project: 0,
        };
        Ok(Self { header, name, user_id, anonymous_id })
    }
}

fn name<'t>(draft: &Draft<'t, '_>) -> Result<&'t str, Rejection> {
    let refuse = |defect, message: String| Err(Rejection::new(defect, "type", message));
    let name = match (draft.called, draft.name) {
        (Some(name), _) => name,
        (None, None) => return refuse(Defect::EventNameRequired, "`type` is missing".to_owned()),
        (None, Some(value)) => match value.text() {
            Some(name) => name,
            None => return refuse(Defect::EventNameInvalid, "`type` is not a string".to_owned()),
        },
    };
    if trim(name).is_empty() {
        return refuse(Defect::EventNameRequired, "`type` is empty".to_owned());
    }
    if name.len() > MAX_NAME {
        return refuse(Defect::EventNameTooLong, format!("`type` has {} bytes, more than {MAX_NAME}", name.len()));
    }
    if has_nul(name) {
        return refuse(Defect::InvalidCharacter, "`type` holds a NUL".to_owned());
    }
    if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
        return refuse(Defect::EventNameReserved, format!("`type` `{name}` starts with a reserved prefix"));
    }
    Ok(name)
}

/// The ids of the user and of the visitor. One that stands for nobody costs only itself where the other one is somebody's.
fn ids<'t>(draft: &mut Draft<'t, '_>) -> Result<(Cow<'t, str>, Cow<'t, str>), Rejection> {
    let user_id = id(draft, draft.user_id, "userId");
    let anonymous_id = id(draft, draft.anonymous_id, "anonymousId");
    let is_somebody = |id: &Result<Cow<'_, str>, Rejection>| id.as_ref().is_ok_and(|id| !id.is_empty());
    let is_nobody = |id: &Result<Cow<'_, str>, Rejection>| id.as_ref().is_err_and(|refused| refused.defect == Defect::UserIdIllegal);
    let nobody = Cow::Borrowed("");
    if is_nobody(&user_id) && is_somebody(&anonymous_id) {
        draft.warnings.add(ID_ILLEGAL, &["userId"]);
        return Ok((nobody, anonymous_id?));
    }
    if is_nobody(&anonymous_id) && is_somebody(&user_id) {
        draft.warnings.add(ID_ILLEGAL, &["anonymousId"]);
        return Ok((user_id?, nobody));
    }
    Ok((user_id?, anonymous_id?))
}

fn id<'t>(draft: &Draft<'t, '_>, value: Option<Value<'t>>, field: &str) -> Result<Cow<'t, str>, Rejection> {
    let Some(value) = value else { return Ok(Cow::Borrowed("")) };
    let refuse = |defect, message: String| Err(Rejection::new(defect, field, message));
    let Some(id) = value.text() else {
        let number = draft.has_numeric_ids.then(|| value.with_text(str::to_owned)).flatten();
        return number.map_or_else(|| refuse(Defect::UserIdInvalid, format!("`{field}` is not a string")), |number| Ok(Cow::Owned(number)));
    };
    if id.len() > MAX_ID {
        return refuse(Defect::UserIdInvalid, format!("`{field}` has {} bytes, more than {MAX_ID}", id.len()));
    }
    if has_nul(id) {
        return refuse(Defect::InvalidCharacter, format!("`{field}` holds a NUL"));
    }
    let id = trim(id);
    let id = id.strip_prefix(draft.id_prefix).unwrap_or(id);
    if is_placeholder(id) {
        return refuse(Defect::UserIdIllegal, format!("`{field}` is `{id}`, which stands for nobody"));
    }
    Ok(Cow::Borrowed(id))
}

fn event_id(value: Value<'_>) -> Result<[u8; 16], Rejection> {
    let invalid = |message: String| Rejection::new(Defect::EventIdInvalid, "eventId", message);
    let id = value.text().ok_or_else(|| invalid("`eventId` is not a string".to_owned()))?;
    event_id_of(id).ok_or_else(|| invalid(format!("`eventId` `{}` names no event: 1 to {MAX_ID} bytes of text, or a UUID", clip(id, 60))))
}

/// When an event happened, as its client says and as the client's clock is corrected.
fn times(draft: &mut Draft<'_, '_>, rules: Rules<'_, '_>) -> Result<(Stated, Corrected), Rejection> {
    let Rules { request, limits, .. } = rules;
    let at_ms = match draft.timestamp {
        None => draft.age.and_then(|age| before(request.received_ms, age)),
        Some(value) => {
            let message = "`timestamp` is neither ISO 8601 with an offset nor a number of milliseconds since 1970";
            Some(value.time().ok_or_else(|| Rejection::new(Defect::TimestampInvalid, "timestamp", message))?)
        }
    };
    // A `sentAt` that cannot be read corrects nothing.
    let own_sent_ms = draft.sent_at.and_then(Value::time);
    if draft.sent_at.is_some() && own_sent_ms.is_none() {
        draft.warnings.add(VALUE_UNREADABLE, &["sentAt"]);
    }
    let stated = Stated { at_ms, sent_ms: own_sent_ms.or(request.sent_ms) };
    let earliest_ms = if request.is_import { 0 } else { request.received_ms - limits.max_event_age_ms };
    let clock = Clock { received_ms: request.received_ms, earliest_ms, min_skew_ms: limits.min_clock_skew_ms };
    let out_of_range = |defect| Rejection::new(defect, "timestamp", "`timestamp` lies too far in the future or the past");
    let corrected = correct(stated, clock).map_err(out_of_range)?;
    if corrected.is_clamped {
        draft.warnings.add(TIMESTAMP_CLAMPED, &["timestamp"]);
    }
    if corrected.is_sent_ignored {
        draft.warnings.add(SENT_AT_IGNORED, &["sentAt"]);
    }
    Ok((stated, corrected))
}

/// The time that lies this long before `received_ms`; `None` if it is not said in a way that makes sense.
fn before(received_ms: i64, age: Value<'_>) -> Option<i64> {
    let age_ms = age.number().filter(|age_ms| (0.0..received_ms as f64).contains(age_ms))?;
    Some(received_ms - age_ms as i64)
}

fn write(head: &Head<'_>, draft: &mut Draft<'_, '_>, rules: Rules<'_, '_>, bytes: &mut Vec<u8>) -> Result<(), Rejection> {
    let Rules { request, limits, .. } = rules;
    let mut header = head.header;
    let mut writer = EventWriter::begin(bytes);
    writer.field(Field::Type, head.name.as_bytes());
    writer.field(Field::UserId, head.user_id.as_bytes());
    writer.field(Field::AnonymousId, head.anonymous_id.as_bytes());
    if let Some(value) = draft.session_id
        && !session(value, &mut writer)
    {
        draft.warnings.add(VALUE_UNREADABLE, &["sessionId"]);
    }
    let said = context(draft, &mut writer, request.is_import);
    if !said.has_agent {
        writer.field(Field::UserAgent, request.user_agent.as_bytes());
    }
    let address = address(draft, request);
    if let Some(reason) = not_of_a_person(draft, rules, address).filter(|_| !said.is_bot) {
        writer.field(Field::Bot, reason.as_bytes());
    }
    if let Some(address) = address.filter(|_| header.flags & flag::PRIVACY == 0) {
        let place = request.geo.place(address);
        // An import says where the client was at the time; the address may be elsewhere by now.
        if !said.has_place {
            place.write_place(&mut writer);
        }
        if !said.has_network {
            place.write_network(&mut writer);
        }
    }
    if let Some(value) = draft.previous_id
        && !previous_id(value, draft.id_prefix, &mut writer)
    {
        draft.warnings.add(VALUE_UNREADABLE, &["previousId"]);
    }
    if properties(draft, limits, &mut writer)? {
        header.flags |= flag::TRUNCATED;
    }
    let size = writer.written();
    if size > limits.max_event_size {
        return Err(Rejection::new(Defect::EventTooLarge, "", format!("the event has {size} bytes, more than {}", limits.max_event_size)));
    }
    writer.finish(&header);
    Ok(())
}

/// Writes the properties: those of the object, and what the dialect noted beside them. Whether a value was cut.
fn properties(draft: &mut Draft<'_, '_>, limits: &IngestLimits, writer: &mut EventWriter<'_>) -> Result<bool, Rejection> {
    let (object, leaves_out) = (draft.properties.or(draft.traits), draft.leaves_out);
    let traits = draft.properties.and(draft.traits);
    let (facts, warnings) = draft.facts();
    let mut properties = Properties::new(limits, writer, warnings);
    if let Some(object) = object {
        properties.object(object, leaves_out)?;
    }
    // Who sends all calls by one function sends both with each, of which one is empty mostly.
    if let Some(traits) = traits {
        properties.also(traits, leaves_out)?;
    }
    for (fact, value) in facts {
        if let FactKind::Property(name) = fact.kind {
            properties.member(name, value)?;
        }
    }
    Ok(properties.is_truncated())
}

/// The agent that the client names.
fn agent<'t>(draft: &mut Draft<'t, '_>) -> Option<&'t str> {
    let mut agents = draft.facts().0.filter(|(fact, _)| fact.kind == FactKind::Of(Field::UserAgent));
    agents.find_map(|(_, value)| value.text())
}

/// Why an event is no person's: it says what a group is, is the project's own, or comes out of a data centre where that counts.
fn not_of_a_person(draft: &mut Draft<'_, '_>, rules: Rules<'_, '_>, address: Option<IpAddr>) -> Option<&'static str> {
    let Rules { project, request, limits, .. } = rules;
    if draft.is_of_group {
        return Some(GROUP);
    }
    let internal = &limits.projects.of(project).internal;
    let of_page = |draft: &mut Draft<'_, '_>| {
        let is_page = |fact: &Fact| matches!(fact.kind, FactKind::Of(Field::PageUrl | Field::PageSearch));
        let mut pages = draft.facts().0.filter(|(fact, _)| is_page(fact));
        pages.find_map(|(_, page)| internal.of_page(page.text()?))
    };
    // What cookies an import's own request carries says nothing of its events.
    let cookies = if request.is_import { "" } else { request.cookies };
    let own = internal.of_client(address, cookies).or_else(|| if internal.reads_page() { of_page(draft) } else { None });
    // Nothing is looked up of an address whose owner asked not to be tracked.
    let is_looked_up = internal.excludes_data_centres && request.flags & flag::PRIVACY == 0;
    let is_data_centre = || is_looked_up && address.is_some_and(|address| request.geo.is_data_centre(address));
    own.or_else(|| is_data_centre().then_some(DATA_CENTRE))
}

/// Writes the session that the client names, text or a number; `false` if it names none.
fn session(value: Value<'_>, writer: &mut EventWriter<'_>) -> bool {
    let write = |id: &str| {
        let id = trim(id);
        let is_name = id.len() <= MAX_ID && !id.bytes().any(|byte| byte.is_ascii_control()) && !is_placeholder(id);
        if is_name {
            writer.field(Field::ClientSession, id.as_bytes());
        }
        is_name
    };
    value.with_text(write).unwrap_or(false)
}

/// Writes the other id of an alias as a property, by which it is found; `false` if it names nobody.
fn previous_id(value: Value<'_>, prefix: &str, writer: &mut EventWriter<'_>) -> bool {
    let id = trim(value.text().unwrap_or_default());
    let id = id.strip_prefix(prefix).unwrap_or(id);
    let is_id = id.len() <= MAX_ID && !has_nul(id) && !stands_for_nobody(id);
    if is_id {
        writer.string(b"previousId", id.as_bytes());
    }
    is_id
}

/// The address of the client: the one that is given, else the peer's. One that cannot be read is not the peer's: the peer is then a
/// server that sends for a client which it does not know.
fn address(draft: &mut Draft<'_, '_>, request: &RequestFacts<'_>) -> Option<IpAddr> {
    let Some(value) = draft.address else {
        // The address of an import or of a server says nothing about where its events happened.
        return (!request.is_import && !draft.is_of_server).then_some(request.client);
    };
    let address = parse_forwarded(value.text().unwrap_or_default());
    if address.is_none() {
        draft.warnings.add(VALUE_UNREADABLE, &["context.ip"]);
    }
    address
}

#[cfg(test)]
mod tests;
