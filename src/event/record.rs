//! A record: what one append to the log holds, many events of one partition.
//!
//! Header and body are apart so that books, watermarks and offsets can be read without touching the events: the header is
//! plain, the body is LZ4 (packed events shrink to a third, and 64 KiB of them compress in less time than a disk or a
//! broker takes for the difference). All events of a record were received on one UTC day, because a block of the loader
//! must stay within one partition of the table.
//!
//! An enriched record is the raw one as it was, compressed body and all, with a header of its own and what process adds to each
//! event in a second compressed part: compressing every event once more was a sixth of what process and load cost together. In that
//! place the raw record has the user agents of its events, which so leave no trace in the enriched one. Raw records of earlier releases
//! have none there, but in the events themselves.

use std::cell::RefCell;

use super::ids::{LogEpoch, ProjectId};
use crate::outcome::Count;
use crate::wire;

const MAGIC: [u8; 2] = *b"PR";
const VERSION: u8 = 1;
/// No record of ours inflates beyond this; a length above it is damage, not a reason to allocate.
pub(super) const MAX_BODY: usize = 64 << 20;
/// Bytes that hold the header of nearly every record: what to ask of the log for a look at the books alone.
pub const HEADER_PREFIX: usize = 4096;

/// Magic number, version, and the lengths: of the header, of the body and of its compressed form, and of what stands beside it.
const FRAME_LEN: usize = 2 + 2 + 4 * 4;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// What happened in one minute of receipt to events of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The project.
    pub project: ProjectId,
    /// Minutes since 1970, of receipt.
    pub minute: u32,
    /// How many of what; each kind once.
    pub counts: Vec<(Count, u32)>,
}

impl Tally {
    /// How many of `count`.
    pub fn count(&self, count: Count) -> u32 {
        self.counts.iter().find(|(kind, _)| *kind == count).map_or(0, |(_, number)| *number)
    }

    /// Adds `number` of `count`.
    pub fn add(&mut self, count: Count, number: u32) {
        match self.counts.iter_mut().find(|(kind, _)| *kind == count) {
            Some((_, sum)) => *sum = sum.saturating_add(number),
            None if number > 0 => self.counts.push((count, number)),
            None => {}
        }
    }
}

/// The tallies of a batch, one a project and minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies(pub Vec<Tally>);

impl Tallies {
    /// Adds `number` of `count` in the minute of `received_ms`.
    pub fn add(&mut self, project: ProjectId, received_ms: i64, count: Count, number: u32) {
        self.at(project, minute_of(received_ms)).add(count, number);
    }

    /// The tally of a project and minute.
    pub fn at(&mut self, project: ProjectId, minute: u32) -> &mut Tally {
        let found = self.0.iter().rposition(|tally| tally.project == project && tally.minute == minute);
        let index = found.unwrap_or_else(|| {
            self.0.push(Tally { project, minute, counts: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &Self) {
        for tally in &other.0 {
            let mine = self.at(tally.project, tally.minute);
            for (count, number) in &tally.counts {
                mine.add(*count, *number);
            }
        }
    }
}

/// The minute of a time in milliseconds.
pub fn minute_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.div_euclid(MINUTE_MS)).unwrap_or(0)
}

/// The UTC day of a time in milliseconds, days since 1970.
pub fn day_of(at_ms: i64) -> u16 {
    u16::try_from(at_ms.div_euclid(DAY_MS)).unwrap_or(0)
}

/// Where in the raw topic an enriched record comes from: one raw record makes one enriched record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOrigin {
    /// Identity of the raw topic.
    pub epoch: LogEpoch,
    /// Partition of the raw topic.
    pub partition: u16,
    /// Offset of the raw record.
    pub offset: i64,
    /// Offset of the raw record before it; -1 before the first.
    pub previous: i64,
}

/// What a record says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The import run its events come from; 0 for live events.
    pub source: u64,
    /// UTC day of receipt of all its events, days since 1970.
    pub day: u16,
    /// Number of events in the body.
    pub events: u32,
    /// When the last of them was received, milliseconds since 1970.
    pub received_ms: i64,
    /// Projects by the index that the events carry.
    pub projects: Vec<ProjectId>,
    /// What happened to the events so far.
    pub tallies: Tallies,
    /// Dead letters that follow the events in the body.
    pub letters: u32,
    /// Set in the enriched topic.
    pub origin: Option<RawOrigin>,
}

/// A record that is not ours, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("undecodable record: {0}")]
pub struct RecordError(pub &'static str);

/// Encodes a record with nothing beside its `body`: the events and then the letters.
pub fn encode(header: &Header, body: &[u8]) -> Vec<u8> {
    packed(body, |packed| join(header, Packed { bytes: packed, len: body.len() }, Packed { bytes: &[], len: 0 }))
}

/// What a raw record holds, inflated.
#[derive(Debug, Default)]
pub struct Raw {
    /// The events, and then the letters.
    pub body: Vec<u8>,
    /// The user agents of the events ([`super::packed::RawEvents`]).
    pub agents: Vec<u8>,
}

/// Encodes a raw record of events whose agents stand apart.
pub fn encode_raw(header: &Header, raw: &Raw) -> Vec<u8> {
    let agents = packed(&raw.agents, <[u8]>::to_vec);
    let agents = Packed { bytes: &agents, len: raw.agents.len() };
    packed(&raw.body, |packed| join(header, Packed { bytes: packed, len: raw.body.len() }, agents))
}

/// Reads a raw record into `raw`, replacing what it held.
pub fn decode_raw(bytes: &[u8], raw: &mut Raw) -> Result<Header, RecordError> {
    decode_parts(bytes, &mut raw.body, &mut raw.agents)
}

/// Encodes an enriched record: the raw one without its agents under another header, with the `enrichments` to its events
/// ([`super::packed::Enrichment`]). Errors: the raw one is damaged.
pub fn enrich(header: &Header, raw: &[u8], enrichments: &[u8]) -> Result<Vec<u8>, RecordError> {
    let raw = split(raw)?;
    Ok(packed(enrichments, |packed| join(header, raw.body, Packed { bytes: packed, len: enrichments.len() })))
}

/// Compressed bytes, and the length of what they hold.
#[derive(Clone, Copy)]
struct Packed<'a> {
    bytes: &'a [u8],
    len: usize,
}

fn join(header: &Header, body: Packed<'_>, beside: Packed<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(128);
    header.put(&mut head);
    let mut out = Vec::with_capacity(FRAME_LEN + head.len() + body.bytes.len() + beside.bytes.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(0);
    for length in [head.len(), body.len, body.bytes.len(), beside.len] {
        out.extend_from_slice(&(length as u32).to_le_bytes());
    }
    out.extend_from_slice(&head);
    out.extend_from_slice(body.bytes);
    out.extend_from_slice(beside.bytes);
    out
}

/// Compresses `bytes` for `take`.
fn packed<T>(bytes: &[u8], take: impl FnOnce(&[u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let most = lz4_flex::block::get_maximum_output_size(bytes.len());
        if scratch.len() < most {
            scratch.resize(most, 0);
        }
        // The target has the size that compression asks for, so it cannot fail.
        let written = lz4_flex::block::compress_into(bytes, scratch).unwrap_or(0);
        take(scratch.get(..written).unwrap_or_default())
    })
}

thread_local! {
    /// Where bodies are compressed: it must have room for one that does not shrink, and records that wait to be written must not.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads the header; `bytes` may end after it.
pub fn header(bytes: &[u8]) -> Result<Header, RecordError> {
    split_head(bytes)?.header()
}

/// Reads the header and inflates the body into `body`, replacing what it held.
pub fn decode(bytes: &[u8], body: &mut Vec<u8>) -> Result<Header, RecordError> {
    let split = split(bytes)?;
    let header = split.head.header()?;
    inflate(split.body, body)?;
    Ok(header)
}

/// What an enriched record holds, inflated.
#[derive(Debug, Default)]
pub struct Enriched {
    /// The body of the raw record.
    pub events: Vec<u8>,
    /// What is added to its events, one [`super::packed::Enrichment`] each.
    pub enrichments: Vec<u8>,
}

/// Reads an enriched record into `enriched`, replacing what it held.
pub fn decode_enriched(bytes: &[u8], enriched: &mut Enriched) -> Result<Header, RecordError> {
    decode_parts(bytes, &mut enriched.events, &mut enriched.enrichments)
}

fn decode_parts(bytes: &[u8], body: &mut Vec<u8>, beside: &mut Vec<u8>) -> Result<Header, RecordError> {
    let split = split(bytes)?;
    let header = split.head.header()?;
    inflate(split.body, body)?;
    inflate(split.beside, beside)?;
    Ok(header)
}

fn inflate(packed: Packed<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Packed { bytes, len: length } = packed;
    // What it held is overwritten: only what is new of it is made zero.
    out.resize(length, 0);
    if length == 0 {
        return Ok(());
    }
    let inflated = lz4_flex::block::decompress_into(bytes, out).map_err(|_| RecordError("body does not inflate"))?;
    if inflated == length { Ok(()) } else { Err(RecordError("body shorter than stated")) }
}

/// The head of a record, and what follows on it, which may be cut short.
struct Head<'a> {
    head: &'a [u8],
    rest: &'a [u8],
    body_len: usize,
    packed_len: usize,
    beside_len: usize,
}

impl Head<'_> {
    fn header(&self) -> Result<Header, RecordError> {
        Header::take(&mut { self.head }).ok_or(RecordError("header unreadable"))
    }
}

/// A whole record.
struct Split<'a> {
    head: Head<'a>,
    body: Packed<'a>,
    beside: Packed<'a>,
}

fn split_head(bytes: &[u8]) -> Result<Head<'_>, RecordError> {
    let mut rest = bytes;
    let frame: Option<([u8; 2], [u8; 2], [usize; 4])> = (|| {
        let magic = wire::take_array(&mut rest)?;
        let version = wire::take_array(&mut rest)?;
        let mut lengths = [0; 4];
        for length in &mut lengths {
            *length = wire::take_u32(&mut rest)? as usize;
        }
        Some((magic, version, lengths))
    })();
    let Some((magic, [version, _], [head_len, body_len, packed_len, beside_len])) = frame else {
        return Err(RecordError("too short"));
    };
    if magic != MAGIC {
        return Err(RecordError("not a pulse record"));
    }
    if version != VERSION {
        return Err(RecordError("record version is not known to this release"));
    }
    if body_len > MAX_BODY || beside_len > MAX_BODY {
        return Err(RecordError("body length out of range"));
    }
    let Some((head, rest)) = rest.split_at_checked(head_len) else { return Err(RecordError("header cut short")) };
    Ok(Head { head, rest, body_len, packed_len, beside_len })
}

fn split(bytes: &[u8]) -> Result<Split<'_>, RecordError> {
    let head = split_head(bytes)?;
    let Some((body, beside)) = head.rest.split_at_checked(head.packed_len) else { return Err(RecordError("body cut short")) };
    let body = Packed { bytes: body, len: head.body_len };
    let beside = Packed { bytes: beside, len: head.beside_len };
    Ok(Split { body, beside, head })
}

impl Header {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        wire::put_varint(out, u64::from(self.day));
        wire::put_varint(out, u64::from(self.events));
        wire::put_varint(out, u64::from(self.letters));
        match &self.origin {
            None => out.push(0),
            Some(origin) => {
                out.push(1);
                out.extend_from_slice(&origin.epoch.0.to_le_bytes());
                out.extend_from_slice(&origin.partition.to_le_bytes());
                out.extend_from_slice(&origin.offset.to_le_bytes());
                out.extend_from_slice(&origin.previous.to_le_bytes());
            }
        }
        wire::put_varint(out, self.projects.len() as u64);
        for project in &self.projects {
            out.extend_from_slice(&project.0.to_le_bytes());
        }
        wire::put_varint(out, self.tallies.0.len() as u64);
        for tally in &self.tallies.0 {
            out.extend_from_slice(&tally.project.0.to_le_bytes());
            wire::put_varint(out, u64::from(tally.minute));
            wire::put_varint(out, tally.counts.len() as u64);
            for (count, number) in &tally.counts {
                out.push(count.code());
                wire::put_varint(out, u64::from(*number));
            }
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let source = wire::take_u64(input)?;
        let received_ms = wire::take_i64(input)?;
        let day = u16::try_from(wire::take_varint(input)?).ok()?;
        let events = u32::try_from(wire::take_varint(input)?).ok()?;
        let letters = u32::try_from(wire::take_varint(input)?).ok()?;
        let origin = take_origin(input)?;
        let mut projects = Vec::new();
        for _ in 0..wire::take_varint(input)? {
            projects.push(ProjectId(wire::take_u64(input)?));
        }
        let mut tallies = Tallies::default();
        for _ in 0..wire::take_varint(input)? {
            tallies.0.push(take_tally(input)?);
        }
        Some(Self { source, day, events, received_ms, projects, tallies, letters, origin })
    }
}

fn take_origin(input: &mut &[u8]) -> Option<Option<RawOrigin>> {
    match wire::take_array(input)? {
        [0] => Some(None),
        [1] => Some(Some(RawOrigin {
            epoch: LogEpoch(wire::take_u64(input)?),
            partition: wire::take_u16(input)?,
            offset: wire::take_i64(input)?,
            previous: wire::take_i64(input)?,
        })),
        _ => None,
    }
}

fn take_tally(input: &mut &[u8]) -> Option<Tally> {
    let project = ProjectId(wire::take_u64(input)?);
    let minute = u32::try_from(wire::take_varint(input)?).ok()?;
    let mut counts = Vec::new();
    for _ in 0..wire::take_varint(input)? {
        let code = wire::take_u8(input)?;
        counts.push((Count::of_code(code), u32::try_from(wire::take_varint(input)?).ok()?));
    }
    Some(Tally { project, minute, counts })
}

#[cfg(test)]
mod tests;
