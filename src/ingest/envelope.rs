//! Bodies, taken apart into events.
//!
//! A body is parsed once, as a whole. One that does not parse as a whole is taken apart and its events parsed one by one, so that a
//! lone surrogate, a number out of range or a nest too deep costs only its own event. Promises: every event of a readable body has a
//! verdict; a text that would become a huge tree is never parsed. May go wrong: the body holds no events, and the request is refused.

mod unread;

use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

pub(super) use self::unread::each_element;
use self::unread::{Around, MAX_MEMBERS, Members, elements, members};
use super::draft::ReadEvent;
use super::intake::Intake;
use super::protocol::LARGEST_BATCH;
use super::refusal::Refusal;
use super::sanitize::sanitize;
use super::tape::{Value, with_tape};
use super::verdict::Rejection;
use super::{json_bounds, unreadable};
use crate::outcome::Defect;

/// How a dialect writes events as JSON: one by itself, an array of them, or an object with the array and what is said of all.
pub(super) struct Envelope {
    /// The member that holds the array. An object without it is an event.
    pub(super) batch: Option<&'static str>,
    /// The member that says when the client sent it.
    pub(super) sent_at: Option<&'static str>,
    /// The member that is said of each event of the batch which says none itself.
    pub(super) context: Option<&'static str>,
    /// The members that may hold the key, beside the array or in an event by itself.
    pub(super) keys: &'static [&'static str],
    /// Finds the key in an event, where clients put it there.
    pub(super) key_of: Option<KeyOf>,
    pub(super) read: ReadEvent,
}

/// Largest member beside a batch whose dialect says there what is true of each of its events.
const MAX_AROUND: usize = 16 << 10;

/// Finds the key that an event holds.
pub(super) type KeyOf = for<'t> fn(Value<'t>) -> Option<&'t str>;

impl Envelope {
    /// One without anything but a batch: no key, no time.
    pub(super) const fn of(batch: &'static str, read: ReadEvent) -> Self {
        Self { batch: Some(batch), ..Self::bare(read) }
    }

    /// The same whose batch is a bare array.
    pub(super) const fn bare(read: ReadEvent) -> Self {
        Self { batch: None, sent_at: None, context: None, keys: &[], key_of: None, read }
    }

    /// The name of the member that holds the array, for people.
    fn batch_name(&self) -> &'static str {
        self.batch.unwrap_or_default()
    }
}

/// Takes the events of a JSON text.
pub(super) fn json(bytes: &[u8], envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let bytes = without_bom(bytes)?;
    let show = |root: Value<'_>| whole(root, envelope, intake);
    match json_bounds::is_bounded(bytes).then(|| with_tape(bytes, show)).flatten() {
        Some(result) => result,
        None => apart(bytes, envelope, intake),
    }
}

/// Takes newline-delimited JSON: every line an event of its own, which may hold the key.
pub(super) fn lines(bytes: &[u8], envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let bytes = without_bom(bytes)?;
    let mut shown: Option<String> = None;
    if envelope.key_of.is_some() {
        // No line is parsed of more than are taken.
        intake.admit_count(filled_lines(bytes).take(intake.max_events() + 1).count())?;
        for other in filled_lines(bytes).filter_map(|(_, line)| key_in(line, envelope)) {
            same_key(shown.as_deref(), Some(&other))?;
            shown.get_or_insert(other);
        }
    }
    intake.begin(None, shown.as_deref())?;
    let mut count = 0;
    for (index, line) in filled_lines(bytes) {
        intake.admit_count(index + 1)?;
        alone(line, index, envelope.read, intake);
        count += 1;
    }
    if count == 0 { Err(Refusal::NoEvent) } else { Ok(()) }
}

/// The lines that are not blank, counted.
pub(super) fn filled_lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).enumerate()
}

/// Takes one event that is a text by itself, with what stands around it.
fn alone_within(Part { event, around }: Part<'_>, index: usize, read: ReadEvent, intake: &mut Intake<'_>) {
    let both = around.map(|around| [b"[", event, b",", around.as_bytes(), b"]"].concat());
    let show = |both: Value<'_>| {
        let mut parts = both.elements();
        if let Some(event) = parts.next() {
            intake.event_within(index, event, parts.next(), read);
        }
    };
    match both.filter(|both| json_bounds::is_bounded(both)).and_then(|both| with_tape(&both, show)) {
        Some(()) => {}
        // The event does not parse, or says itself what cannot be read around it.
        None => alone(event, index, read, intake),
    }
}

/// Takes one event that is a text by itself.
pub(super) fn alone(bytes: &[u8], index: usize, read: ReadEvent, intake: &mut Intake<'_>) {
    let show = |event: Value<'_>| intake.event(index, event, read);
    let (defect, message) = match json_bounds::is_bounded(bytes) {
        true if with_tape(bytes, show).is_some() => return,
        true => unreadable::why(bytes),
        false => (Defect::EventTooLarge, format!("the event has more than {} values", json_bounds::MAX_NODES)),
    };
    intake.reject(index, None, Rejection::new(defect, "", message));
}

/// The text without the byte order mark that some editors put in front.
pub(super) fn strip_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

fn without_bom(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let bytes = strip_bom(bytes);
    if bytes.trim_ascii().is_empty() { Err(Refusal::Empty) } else { Ok(bytes) }
}

/// A body that parses.
fn whole(root: Value<'_>, envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    if root.array_len().is_some() {
        intake.begin(None, key_of_all(root.elements(), None, envelope)?)?;
        return batch(root, None, envelope, intake);
    }
    if !root.is_object() {
        return Err(Refusal::NotEvents);
    }
    let (mut list, mut sent_ms, mut shown, mut around) = (None, None, None, None);
    for (key, value) in root.members() {
        if envelope.batch == Some(key) {
            if list.is_some() {
                return Err(Refusal::BatchTwice(envelope.batch_name()));
            }
            if value.array_len().is_none() {
                return Err(Refusal::BatchNotArray(envelope.batch_name()));
            }
            list = Some(value);
        } else if envelope.sent_at == Some(key) {
            sent_ms = value.time();
        } else if envelope.keys.contains(&key) {
            shown = same_key(shown, value.text())?;
        } else if envelope.context == Some(key) {
            around = value.given();
        }
    }
    let Some(list) = list else {
        // It says by itself when it was sent.
        intake.begin(None, key_of_all([root].into_iter(), shown, envelope)?)?;
        intake.event(0, root, envelope.read);
        return Ok(());
    };
    intake.begin(sent_ms, key_of_all(list.elements(), shown, envelope)?)?;
    admit_around(around.map_or(0, Value::size), list.array_len().unwrap_or(0), envelope)?;
    batch(list, around, envelope, intake)
}

/// Refuses what is said of all events if it is too much to be written to each: all together it may be as much as could have been sent.
fn admit_around(size: usize, events: usize, envelope: &Envelope) -> Result<(), Refusal> {
    let max = MAX_AROUND.min(LARGEST_BATCH.bytes / events.max(1));
    if size > max { Err(Refusal::MemberTooLarge { name: envelope.context.unwrap_or_default().to_owned(), max }) } else { Ok(()) }
}

/// The key of a request, where each of its events may hold it.
fn key_of_all<'t>(
    mut events: impl Iterator<Item = Value<'t>>,
    shown: Option<&'t str>,
    envelope: &Envelope,
) -> Result<Option<&'t str>, Refusal> {
    match envelope.key_of {
        // A property that is called like a key is none where the key is elsewhere.
        Some(key_of) if shown.is_none() => events.try_fold(None, |shown, event| same_key(shown, key_of(event))),
        _ => Ok(shown),
    }
}

/// The one key that is shown in two places. Errors: there are two.
fn same_key<'t>(one: Option<&'t str>, other: Option<&'t str>) -> Result<Option<&'t str>, Refusal> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(Refusal::SeveralKeys),
        _ => Ok(one.or(other)),
    }
}

fn batch<'t>(list: Value<'t>, around: Option<Value<'t>>, envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let count = list.array_len().unwrap_or(0);
    if count == 0 {
        return Err(Refusal::EmptyBatch);
    }
    intake.admit_count(count)?;
    for (index, event) in list.elements().enumerate() {
        intake.event_within(index, event, around, envelope.read);
    }
    Ok(())
}

/// A body that does not parse as a whole, or is too much to be: its events are parsed one by one, or it is not JSON at all.
fn apart(bytes: &[u8], envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    each(bytes, envelope, intake, |index, part, intake| alone_within(part, index, envelope.read, intake))
}

/// An event that is a text by itself, and what stands around it.
#[derive(Clone, Copy)]
struct Part<'b> {
    event: &'b [u8],
    around: Option<&'b str>,
}

/// Takes a body apart and each of its events, a text by itself, to `take`.
fn each<'r>(
    bytes: &[u8],
    envelope: &Envelope,
    intake: &mut Intake<'r>,
    take: impl Fn(usize, Part<'_>, &mut Intake<'r>),
) -> Result<(), Refusal> {
    if !json_bounds::is_shallow(bytes) {
        return Err(Refusal::TooDeep(json_bounds::MAX_DEPTH));
    }
    let sanitized = sanitize(bytes);
    let text = sanitized.as_ref();
    let found = events_of(text, envelope, intake.max_events())?;
    begin(&found, envelope, intake)?;
    admit_around(found.around.map_or(0, str::len), found.events.len(), envelope)?;
    let unreadable_around = found.around.map(str::as_bytes).filter(|around| with_tape(around, |_| ()).is_none()).map(unreadable::why);
    for (index, event) in found.events.iter().enumerate() {
        if let Some((defect, message)) = unreadable_around.as_ref().filter(|_| needs_around(event.get().as_bytes(), envelope)) {
            // As if the event itself said it.
            intake.reject(index, None, Rejection::new(*defect, envelope.context.unwrap_or_default(), message.clone()));
            continue;
        }
        // As it came: it is this event that a byte which is none costs.
        let start = (event.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let event = bytes.get(start..start + event.get().len()).unwrap_or_default();
        take(index, Part { event, around: found.around }, intake);
    }
    Ok(())
}

/// Whether an event says nothing itself of what is said around it; one that cannot be read has a defect of its own.
fn needs_around(event: &[u8], envelope: &Envelope) -> bool {
    let says = |event: Value<'_>| envelope.context.and_then(|name| event.member(name)).is_some_and(|said| !said.is_null());
    json_bounds::is_bounded(event) && with_tape(event, says) == Some(false)
}

/// Takes the events of a JSON text whose dialect needs more than names changed: each is written anew in pulse's own, then read as
/// `envelope` says.
pub(super) fn translated(
    bytes: &[u8],
    envelope: &Envelope,
    translate: impl Fn(&Map<String, Json>) -> Json,
    intake: &mut Intake<'_>,
) -> Result<(), Refusal> {
    let bytes = without_bom(bytes)?;
    let take = |index: usize, Part { event, .. }: Part<'_>, intake: &mut Intake<'_>| {
        // What is too much to be an event is said by who reads it.
        let own = json_bounds::is_bounded(event).then(|| object(event).map(|event| translate(&event).to_string()));
        match own {
            Some(Ok(own)) => alone(own.as_bytes(), index, envelope.read, intake),
            Some(Err(rejection)) => intake.reject(index, None, rejection),
            None => alone(event, index, envelope.read, intake),
        }
    };
    each(bytes, envelope, intake, take)
}

/// What stands around the events of a batch, each member of at most [`MAX_AROUND`] bytes: what is said of all is written to each.
pub(super) fn around(bytes: &[u8], envelope: &Envelope) -> Result<Map<String, Json>, Refusal> {
    let bytes = without_bom(bytes)?;
    if !json_bounds::is_shallow(bytes) {
        return Err(Refusal::TooDeep(json_bounds::MAX_DEPTH));
    }
    let not_json = |problem: serde_json::Error| Refusal::NotJson(problem.to_string());
    let Around(members) = serde_json::from_slice(bytes).map_err(not_json)?;
    if members.len() > MAX_MEMBERS {
        return Err(Refusal::TooManyMembers(MAX_MEMBERS));
    }
    let mut others = Map::new();
    for (key, value) in members.into_iter().filter(|(key, _)| envelope.batch != Some(key.as_str())) {
        if value.get().len() > MAX_AROUND {
            return Err(Refusal::MemberTooLarge { name: key.chars().take(64).collect(), max: MAX_AROUND });
        }
        if let Ok(value) = serde_json::from_str(value.get()) {
            others.insert(key, value);
        }
    }
    Ok(others)
}

/// Reads an event that is to be translated.
fn object(event: &[u8]) -> Result<Map<String, Json>, Rejection> {
    match serde_json::from_slice(event) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(_) => Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object")),
        Err(_) => {
            let (defect, message) = unreadable::why(event);
            Err(Rejection::new(defect, "", message))
        }
    }
}

/// Begins with what an envelope says of its events, and with the key that they hold.
fn begin(of: &Events<'_>, envelope: &Envelope, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let in_events = || of.events.iter().filter_map(|event| key_in(event.get().as_bytes(), envelope)).collect();
    let shown: Vec<String> = of.key.clone().map_or_else(in_events, |key| vec![key]);
    let key = shown.iter().try_fold(None, |one, other| same_key(one, Some(other)))?;
    intake.begin(of.sent_ms, key)
}

/// The key that an event holds which is a text by itself.
fn key_in(event: &[u8], envelope: &Envelope) -> Option<String> {
    let key_of = envelope.key_of.filter(|_| json_bounds::is_bounded(event))?;
    with_tape(event, |event| key_of(event).map(str::to_owned)).flatten()
}

/// The texts of the events of a body, unread.
struct Events<'a> {
    events: Vec<&'a RawValue>,
    sent_ms: Option<i64>,
    key: Option<String>,
    /// What the batch says of each of them.
    around: Option<&'a str>,
}

fn events_of<'a>(text: &'a str, envelope: &Envelope, max: usize) -> Result<Events<'a>, Refusal> {
    let not_json = |problem: serde_json::Error| Refusal::NotJson(problem.to_string());
    match text.trim_start().as_bytes().first() {
        Some(b'[') => Ok(Events { events: elements(text, max, not_json)?, sent_ms: None, key: None, around: None }),
        Some(b'{') => {
            let event: &RawValue = serde_json::from_str(text).map_err(not_json)?;
            let Members { batches, sent_at, key, context } = members(text, envelope);
            let key = key.and_then(|key| serde_json::from_str(key.get()).ok());
            match batches.as_slice() {
                [] => Ok(Events { events: vec![event], sent_ms: None, key, around: None }),
                [batch] => {
                    let events = elements(batch.get(), max, |_| Refusal::BatchNotArray(envelope.batch_name()))?;
                    Ok(Events {
                        events,
                        sent_ms: sent_at.and_then(|sent| with_tape(sent.get().as_bytes(), |sent| sent.time()).flatten()),
                        key,
                        around: context.map(RawValue::get).filter(|context| *context != "null"),
                    })
                }
                _ => Err(Refusal::BatchTwice(envelope.batch_name())),
            }
        }
        _ => Err(serde_json::from_str::<&RawValue>(text).map_or_else(not_json, |_| Refusal::NotEvents)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::protocol::pulse;
    use crate::ingest::tests::{SHOP, decoded_as};

    #[test]
    fn a_member_without_a_name_is_nothing_that_a_dialect_does_not_have() {
        let accepted = |envelope: &Envelope, body: &str| {
            decoded_as(SHOP, |_| {}, |intake| json(body.as_bytes(), envelope, intake)).map(|decoded| decoded.verdicts.accepted)
        };
        let event = r#"{"type":"order","userId":"ada"}"#;
        let around = format!(r#"{{"":"{}","batch":[{event}]}}"#, "x".repeat(MAX_AROUND));
        assert_eq!(accepted(&pulse::ENVELOPE, &around), Ok(1));
        // The same where events are parsed one by one.
        let apart = around.replace(event, &format!(r#"{event},{{"type":"order","userId":"\ud800"}}"#));
        assert!(with_tape(apart.as_bytes(), |_| ()).is_none());
        assert_eq!(accepted(&pulse::ENVELOPE, &apart), Ok(1));
        // Nor is it a batch.
        let own = Envelope::bare(pulse::event);
        assert_eq!(accepted(&own, r#"{"":1,"type":"order","userId":"ada"}"#), Ok(1));
    }
}
