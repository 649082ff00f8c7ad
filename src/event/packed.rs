//! One event in bytes, the same from the edge to the loader.
//!
//! `u32` length of the rest, the header, then entries: a tag byte, and for a field its bytes (varint length), for a
//! property its key and value. A later field of the same tag replaces an earlier one, so what a step learned about an event
//! stands apart from it, as an [`Enrichment`]. Entries of unknown tags are skipped. In a record of the raw topic the user agents stand apart
//! as well ([`put_apart`]): they stay there.

mod header;

pub use self::header::EventHeader;
use self::header::{HEADER_LEN, PROJECT_AT};
use super::field::Field;
use crate::wire;

/// Tags from here on are properties; all entries below are fields, and both are skipped by length if unknown.
const STRING: u8 = 0xF0;
const NUMBER: u8 = 0xF1;
const OTHER: u8 = 0xF2;

const LENGTH_LEN: usize = 4;

/// Writes one event behind whatever a buffer holds. Drop the bytes from [`Self::start`] on to take it back.
#[derive(Debug)]
pub struct EventWriter<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
}

impl<'b> EventWriter<'b> {
    /// Starts an event; the header may be set at the end, with [`Self::finish`].
    pub fn begin(out: &'b mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_LEN + HEADER_LEN]);
        Self { out, start }
    }

    /// Where in the buffer the event began.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Adds a field; an empty one says nothing and is left out.
    pub fn field(&mut self, field: Field, bytes: &[u8]) {
        put_field(self.out, field, bytes);
    }

    /// Adds a property that is a string.
    pub fn string(&mut self, key: &[u8], value: &[u8]) {
        self.property(STRING, key, value);
    }

    /// Adds a property that is a number.
    pub fn number(&mut self, key: &[u8], value: f64) {
        put_entry(self.out, NUMBER, key);
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.out.extend_from_slice(&[8, a, b, c, d, e, f, g, h]);
    }

    /// Adds a property that is neither: JSON text of a boolean, null or array.
    pub fn other(&mut self, key: &[u8], json: &[u8]) {
        self.property(OTHER, key, json);
    }

    fn property(&mut self, tag: u8, key: &[u8], value: &[u8]) {
        put_entry(self.out, tag, key);
        wire::put_bytes(self.out, value);
    }

    /// Bytes written for this event so far.
    pub fn written(&self) -> usize {
        self.out.len() - self.start
    }

    /// Ends the event.
    pub fn finish(self, header: &EventHeader) {
        put_length(self.out, self.start);
        let at = self.start + LENGTH_LEN;
        if let Some(place) = self.out.get_mut(at..at + HEADER_LEN) {
            place.copy_from_slice(&header.to_bytes());
        }
    }
}

/// Sets the length of what stands behind its place at `start`.
fn put_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - LENGTH_LEN) as u32;
    if let Some(place) = out.get_mut(start..start + LENGTH_LEN) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

fn put_field(out: &mut Vec<u8>, field: Field, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_entry(out, field as u8, bytes);
    }
}

/// Appends a tag and the bytes behind it. Inlined by order: calls of it, some thirty an event, would be a tenth of what writing entries costs.
#[inline(always)]
fn put_entry(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    match bytes.len() {
        // Nearly all: room for both is looked for once.
        length @ 0..0x80 => out.extend_from_slice(&[tag, length as u8]),
        length => {
            out.push(tag);
            wire::put_varint(out, length as u64);
        }
    }
    out.extend_from_slice(bytes);
}

/// Length of the enrichment of an event that is dropped.
const DROPPED: u32 = u32::MAX;

/// Writes what is added to one event, behind what is added to those before it: `u32` length of the rest, then fields, which replace
/// those of the event. Every event of a record has one, also one to which nothing is added.
#[derive(Debug)]
pub struct Enrichment<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
}

impl<'b> Enrichment<'b> {
    /// Starts the enrichment of the next event.
    pub fn begin(out: &'b mut Vec<u8>) -> Self {
        let start = out.len();
        out.resize(start + LENGTH_LEN, 0);
        Self { out, start }
    }

    /// Adds a field; an empty one says nothing and is left out.
    pub fn field(&mut self, field: Field, bytes: &[u8]) {
        put_field(self.out, field, bytes);
    }

    /// Ends it.
    pub fn finish(self) {
        let length = (self.out.len() - self.start - LENGTH_LEN) as u32;
        self.end(length);
    }

    /// Marks the event as dropped: readers pass over it.
    pub fn mark_dropped(self) {
        self.out.truncate(self.start + LENGTH_LEN);
        self.end(DROPPED);
    }

    fn end(self, length: u32) {
        if let Some(place) = self.out.get_mut(self.start..self.start + LENGTH_LEN) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Takes the events of an enriched record, each with what was added to it; passes over those dropped.
#[derive(Debug)]
pub struct EnrichedEvents<'a> {
    events: &'a [u8],
    enrichments: &'a [u8],
}

impl<'a> EnrichedEvents<'a> {
    /// Of inflated events and enrichments.
    pub fn new(events: &'a [u8], enrichments: &'a [u8]) -> Self {
        Self { events, enrichments }
    }
}

impl<'a> Iterator for EnrichedEvents<'a> {
    type Item = (EventView<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.enrichments.is_empty() {
            let event = EventView::take(&mut self.events)?;
            let length = wire::take_u32(&mut self.enrichments)?;
            if length == DROPPED {
                continue;
            }
            let (enrichment, rest) = self.enrichments.split_at_checked(length as usize)?;
            self.enrichments = rest;
            return Some((event, enrichment));
        }
        None
    }
}

/// Appends `event`, its agent among its fields, with another header.
pub fn put_as(event: &RawEvent<'_>, header: &EventHeader, out: &mut Vec<u8>) {
    let mut writer = EventWriter::begin(out);
    // Before the properties, where it is looked for.
    writer.field(Field::UserAgent, event.agent);
    writer.out.extend_from_slice(event.view.entries);
    writer.finish(header);
}

/// Appends packed events, of that project of their record, to `events` without their user agents, and these to `agents`: one each, empty
/// where an event has none.
pub fn put_apart(mut bytes: &[u8], project: u16, events: &mut Vec<u8>, agents: &mut Vec<u8>) {
    while let Some(Parts { header, entries }) = Parts::take(&mut bytes) {
        let start = events.len();
        events.extend_from_slice(&[0; LENGTH_LEN]);
        // Copied unread: of the header only the project is another one.
        events.extend_from_slice(&header[..PROJECT_AT]);
        events.extend_from_slice(&project.to_le_bytes());
        let (mut rest, mut uncopied, mut agent) = (entries, entries, &[] as &[u8]);
        // Properties come behind the fields, and are most of an event: they are not looked at.
        while rest.first().is_some_and(|tag| *tag < STRING) {
            let at = uncopied.len() - rest.len();
            match Entry::take(&mut rest) {
                Some(Entry::Field(tag, text)) if tag == Field::UserAgent as u8 => {
                    events.extend_from_slice(uncopied.get(..at).unwrap_or_default());
                    (uncopied, agent) = (rest, text);
                }
                Some(_) => {}
                None => break,
            }
        }
        events.extend_from_slice(uncopied);
        put_length(events, start);
        wire::put_bytes(agents, agent);
    }
    events.extend_from_slice(bytes);
}

/// An event of a raw record.
#[derive(Clone, Copy, Debug)]
pub struct RawEvent<'a> {
    /// The event, which may have its agent itself.
    pub view: EventView<'a>,
    /// The agent that stands apart from it, or nothing.
    pub agent: &'a [u8],
}

impl<'a> RawEvent<'a> {
    /// Its fields, its agent among them; `None` if it is damaged.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let mut fields = Fields::of(&self.view)?;
        if !self.agent.is_empty() {
            fields.set(Field::UserAgent as u8, self.agent);
        }
        Some(fields)
    }
}

/// Takes the events of a raw record, each with the agent that stands apart from it.
#[derive(Debug)]
pub struct RawEvents<'a> {
    /// What of the body is not taken yet.
    pub rest: &'a [u8],
    agents: &'a [u8],
}

impl<'a> RawEvents<'a> {
    /// Of an inflated body and the agents beside it, as [`put_apart`] made them; without agents each event has its own.
    pub fn new(body: &'a [u8], agents: &'a [u8]) -> Self {
        Self { rest: body, agents }
    }
}

impl<'a> Iterator for RawEvents<'a> {
    type Item = RawEvent<'a>;

    fn next(&mut self) -> Option<RawEvent<'a>> {
        let view = EventView::take(&mut self.rest)?;
        Some(RawEvent { view, agent: wire::take_bytes(&mut self.agents).unwrap_or_default() })
    }
}

/// Splits packed events before the one that would take the first piece beyond `max` bytes; at least one is in it. Returns
/// the piece, its number of events, and the rest.
pub fn split(bytes: &[u8], max: usize) -> (&[u8], u32, &[u8]) {
    let (mut at, mut events) = (0, 0);
    while let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk::<LENGTH_LEN>) {
        let end = at + LENGTH_LEN + u32::from_le_bytes(*length) as usize;
        if end > bytes.len() || (events > 0 && end > max) {
            break;
        }
        (at, events) = (end, events + 1);
    }
    let (piece, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    (piece, events, rest)
}

/// The bytes of one event.
struct Parts<'a> {
    header: &'a [u8; HEADER_LEN],
    entries: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes one event off the front of a record's body; `None` if it is damaged.
    fn take(body: &mut &'a [u8]) -> Option<Self> {
        let mut rest = *body;
        let length = wire::take_u32(&mut rest)? as usize;
        let (event, rest) = rest.split_at_checked(length)?;
        let (header, entries) = event.split_first_chunk::<HEADER_LEN>()?;
        *body = rest;
        Some(Self { header, entries })
    }
}

/// One event as it stands in a record. Borrows from it.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// The header.
    pub header: EventHeader,
    entries: &'a [u8],
    whole: &'a [u8],
}

impl<'a> EventView<'a> {
    /// Takes one event off the front of a record's body; `None` if it is damaged.
    pub fn take(body: &mut &'a [u8]) -> Option<Self> {
        let before = *body;
        let Parts { header, entries } = Parts::take(body)?;
        let whole = before.get(..before.len() - body.len())?;
        Some(Self { header: EventHeader::take(&mut header.as_slice())?, entries, whole })
    }

    /// Its fields and properties in order. Ends early with [`Entry::Damaged`] where they cannot be read.
    pub fn entries(&self) -> Entries<'a> {
        Entries(self.entries)
    }

    /// All its bytes, as [`Self::take`] found them.
    pub fn encoded(&self) -> &'a [u8] {
        self.whole
    }
}

/// One field or property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A field, by tag: [`Field`] lists those known.
    Field(u8, &'a [u8]),
    /// A property that is a string: key and value.
    String(&'a [u8], &'a [u8]),
    /// A property that is a number.
    Number(&'a [u8], f64),
    /// A property that is neither, as JSON text.
    Other(&'a [u8], &'a [u8]),
    /// The rest cannot be read.
    Damaged,
}

impl<'a> Entry<'a> {
    fn take(input: &mut &'a [u8]) -> Option<Self> {
        let tag = wire::take_u8(input)?;
        let first = wire::take_bytes(input)?;
        Some(match tag {
            STRING => Self::String(first, wire::take_bytes(input)?),
            NUMBER => Self::Number(first, f64::from_le_bytes(wire::take_bytes(input)?.try_into().ok()?)),
            OTHER => Self::Other(first, wire::take_bytes(input)?),
            _ => Self::Field(tag, first),
        })
    }
}

/// Iterates over the entries of an event.
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let entry = Entry::take(&mut self.0);
        if entry.is_none() {
            self.0 = &[];
        }
        Some(entry.unwrap_or(Entry::Damaged))
    }
}

/// The known fields of an event by tag; an absent one is empty.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    by_tag: [&'a [u8]; Field::SLOTS],
    /// From the first property to the last one.
    properties: &'a [u8],
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self { by_tag: [&[]; Field::SLOTS], properties: &[] }
    }
}

impl<'a> Fields<'a> {
    /// The fields of `event`; `None` if it is damaged.
    pub fn of(event: &EventView<'a>) -> Option<Self> {
        let mut fields = Self::default();
        let all = event.entries;
        let (mut rest, mut first_property) = (all, None);
        while !rest.is_empty() {
            let at = all.len() - rest.len();
            match Entry::take(&mut rest)? {
                Entry::Field(tag, bytes) => fields.set(tag, bytes),
                Entry::String(..) | Entry::Number(..) | Entry::Other(..) => {
                    let first = *first_property.get_or_insert(at);
                    fields.properties = all.get(first..all.len() - rest.len()).unwrap_or_default();
                }
                Entry::Damaged => return None,
            }
        }
        Some(fields)
    }

    /// The fields of `event` and of what was added to it; `None` if either is damaged.
    pub fn enriched(event: &EventView<'a>, enrichment: &'a [u8]) -> Option<Self> {
        let mut fields = Self::of(event)?;
        for entry in Entries(enrichment) {
            match entry {
                Entry::Field(tag, bytes) => fields.set(tag, bytes),
                _ => return None,
            }
        }
        Some(fields)
    }

    /// The properties in order; fields may stand between them.
    pub fn properties(&self) -> Entries<'a> {
        Entries(self.properties)
    }

    /// Remembers a field; a tag unknown to this version is passed over.
    pub fn set(&mut self, tag: u8, bytes: &'a [u8]) {
        if let Some(slot) = self.by_tag.get_mut(usize::from(tag)) {
            *slot = bytes;
        }
    }

    /// The bytes of a field, empty if absent.
    pub fn get(&self, field: Field) -> &'a [u8] {
        self.by_tag.get(field as usize).copied().unwrap_or_default()
    }

    /// The text of a field, empty if absent or not text.
    pub fn text(&self, field: Field) -> &'a str {
        std::str::from_utf8(self.get(field)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
