//! A dead letter: what could not be read, kept with its reason and its original bytes.
//!
//! In the raw topic dead letters follow the events of a record. In the dead topic they are alone, several to a record ([`pack`]),
//! compressed, because what is dead by the million is mostly alike. A letter always fits: where it is too large, its original is
//! cut, and its message says so.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_128;

use super::ids::{LogEpoch, ProjectId};
use super::record::{self, Header, MAX_BODY, RecordError, Tallies, day_of};
use super::text::clip;
use crate::outcome::{Count, DeadReason};
use crate::wire;

/// Message of a letter that holds what is left of a record from the first event on whose end cannot be found. Its project is
/// the record's first one; the others are not known to it.
pub const REST_UNREADABLE: &str = "rest of the record unreadable";

/// Behind the message of a letter whose original is not whole.
const CUT: &str = " (original cut)";

/// What a letter may say and name, bytes; longer texts are cut.
const MAX_TEXT: usize = 1 << 10;

/// The longest line that is kept whole, bytes: an event is much smaller, and an importer cuts lines there. Of a record all is kept
/// that the log takes, for a later release to read.
const MAX_LINE: usize = 1 << 20;

/// A record of the dead topic takes no more letters once it is this large, bytes before compression.
const FULL: usize = 256 << 10;

/// A dead letter inside a raw record (where only its position is missing) or in the dead topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Its project; [`ProjectId::BOOKS`] where that is unknown.
    pub project: ProjectId,
    /// When it was received, milliseconds since 1970.
    pub received_ms: i64,
    /// Why.
    pub reason: DeadReason,
    /// The same for people, with the value at fault.
    pub message: &'a str,
    /// Name of the file it came from, if any.
    pub source: &'a str,
    /// Line in that file, counted from 1; 0 if none.
    pub line: u64,
    /// The bytes as they came.
    pub original: &'a [u8],
    /// What the line is, if it says so.
    pub id: DeadLetterId,
    /// Where it stands in the raw topic.
    pub position: LogPosition,
}

/// Which line a letter is about, however often it is sent and whatever file holds it: a letter whose id was there before is a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeadLetterId(pub [u8; 16]);

impl DeadLetterId {
    /// Of a letter that says nothing of the kind: every one counts.
    pub const NONE: Self = Self([0; 16]);

    /// Of a line that calls itself `id`.
    pub fn of(id: &str) -> Self {
        // Written in one way whatever the spelling, as events' ids are.
        if let Ok(uuid) = Uuid::try_parse(id) {
            return Self(uuid.into_bytes());
        }
        let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        Self(hash.first_chunk().copied().unwrap_or_default())
    }

    /// Of an event that was refused: its own id, if it can be read.
    pub fn of_event(event: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Named<'e> {
            #[serde(borrow, default)]
            event_id: Option<Cow<'e, str>>,
        }
        let named: Option<Named<'_>> = serde_json::from_slice(event).ok();
        named.and_then(|named| named.event_id).filter(|id| !id.is_empty()).map_or(Self::NONE, |id| Self::of(&id))
    }
}

/// How a line begins that stands for one that is no event.
pub const DEAD_LINE_MARK: &[u8] = b"{\"$dead\"";

/// A line of `POST /v1/import` that the importer could not make an event of, for the letter that it becomes.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLine<'a> {
    /// What it is about.
    #[serde(rename = "$dead", borrow)]
    pub dead: DeadText<'a>,
}

/// What a [`DeadLine`] says.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadText<'a> {
    /// What is wrong with it, for people.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Its number in the file.
    #[serde(default)]
    pub line: u64,
    /// Its id: the same each time.
    #[serde(borrow, default)]
    pub id: Cow<'a, str>,
    /// Its bytes, addresses masked.
    #[serde(borrow)]
    pub original_base64: Cow<'a, str>,
}

/// Where a dead letter stands: the same letter written twice has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// Identity of the raw topic.
    pub epoch: LogEpoch,
    /// Raw partition.
    pub partition: u16,
    /// Raw offset.
    pub offset: i64,
    /// Which of the letters of that record.
    pub index: u32,
}

impl LogPosition {
    /// Of a letter that is not yet in the log.
    pub const UNKNOWN: Self = Self { epoch: LogEpoch(0), partition: 0, offset: 0, index: 0 };

    /// A UUID (version 8) for the `nth` event of this letter that has none of its own: always the same.
    pub fn event_id(&self, nth: u32) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.partition.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&nth.to_le_bytes());
        Builder::from_custom_bytes(xxh3_128(&bytes).to_le_bytes()).into_uuid().into_bytes()
    }
}

impl<'a> DeadLetter<'a> {
    /// How much of its original is kept at most.
    fn most(&self) -> usize {
        match self.reason {
            DeadReason::LineMalformed | DeadReason::EventInvalid => MAX_LINE,
            _ => MAX_BODY / 2,
        }
    }

    /// Appends the letter with no more than `most` bytes of its original.
    fn put_cut(&self, most: usize, out: &mut Vec<u8>) {
        let original = self.original.get(..most).unwrap_or(self.original);
        let is_cut = original.len() < self.original.len();
        let message = [clip(self.message, MAX_TEXT), if is_cut { CUT } else { "" }].concat();
        DeadLetter { message: &message, source: clip(self.source, MAX_TEXT), original, ..*self }.put(out);
    }

    /// Whether it holds the rest of a record ([`REST_UNREADABLE`]).
    pub fn is_rest(&self) -> bool {
        self.message.strip_suffix(CUT).unwrap_or(self.message) == REST_UNREADABLE
    }

    /// Appends the letter.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.project.0.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.push(Count::Dead(self.reason).code());
        wire::put_bytes(out, self.message.as_bytes());
        wire::put_bytes(out, self.source.as_bytes());
        wire::put_varint(out, self.line);
        wire::put_bytes(out, self.original);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.position.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.position.partition.to_le_bytes());
        out.extend_from_slice(&self.position.offset.to_le_bytes());
        out.extend_from_slice(&self.position.index.to_le_bytes());
    }

    /// Takes a letter off the front of `input`; `None` if it is damaged.
    pub fn take(input: &mut &'a [u8]) -> Option<Self> {
        let project = ProjectId(wire::take_u64(input)?);
        let received_ms = wire::take_i64(input)?;
        let code = wire::take_u8(input)?;
        let reason = match Count::of_code(code) {
            Count::Dead(reason) => reason,
            count if count.is_dead() => DeadReason::OfLaterRelease,
            _ => return None,
        };
        Some(Self {
            project,
            received_ms,
            reason,
            message: std::str::from_utf8(wire::take_bytes(input)?).ok()?,
            source: std::str::from_utf8(wire::take_bytes(input)?).ok()?,
            line: wire::take_varint(input)?,
            original: wire::take_bytes(input)?,
            id: DeadLetterId(wire::take_array(input)?),
            position: LogPosition {
                epoch: LogEpoch(wire::take_u64(input)?),
                partition: wire::take_u16(input)?,
                offset: wire::take_i64(input)?,
                index: wire::take_u32(input)?,
            },
        })
    }
}

/// The records of the dead topic that hold `letters`, none larger than `limit` bytes.
pub fn pack<'l>(letters: impl IntoIterator<Item = DeadLetter<'l>>, limit: usize) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut open = Open::default();
    let full = FULL.min(limit / 2);
    for letter in letters {
        if open.count > 0 && open.body.len() + letter.original.len() + 3 * MAX_TEXT > full {
            records.push(std::mem::take(&mut open).encode());
        }
        open.put(&letter, limit);
    }
    if open.count > 0 {
        records.push(open.encode());
    }
    records
}

/// Letters that go into one record of the dead topic.
#[derive(Default)]
struct Open {
    body: Vec<u8>,
    count: u32,
    received_ms: i64,
}

impl Open {
    fn put(&mut self, letter: &DeadLetter<'_>, limit: usize) {
        self.received_ms = self.received_ms.max(letter.received_ms);
        let start = self.body.len();
        letter.put_cut(letter.most(), &mut self.body);
        self.count += 1;
        // Few letters are this large, and most of those are much smaller once they are compressed.
        if self.body.len() > limit / 2 && self.encode().len() > limit {
            self.body.truncate(start);
            letter.put_cut(limit / 2, &mut self.body);
        }
    }

    fn encode(&self) -> Vec<u8> {
        let Self { count, received_ms, .. } = *self;
        let day = day_of(received_ms);
        let (projects, tallies) = (Vec::new(), Tallies::default());
        let header = Header { source: 0, day, events: 0, received_ms, projects, tallies, letters: count, origin: None };
        record::encode(&header, &self.body)
    }
}

/// A record of the dead topic, read.
#[derive(Debug)]
pub struct DeadLetterRecord {
    body: Vec<u8>,
    count: u32,
}

impl DeadLetterRecord {
    /// Reads a record of the dead topic.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut body = Vec::new();
        let header = record::decode(bytes, &mut body)?;
        Ok(Self { body, count: header.letters })
    }

    /// Its letters, in order, up to the first that cannot be read.
    pub fn letters(&self) -> impl Iterator<Item = DeadLetter<'_>> {
        let mut rest = self.body.as_slice();
        (0..self.count).map_while(move |_| DeadLetter::take(&mut rest))
    }

    /// Bytes that they take in memory.
    pub fn size(&self) -> usize {
        self.body.len()
    }
}

#[cfg(test)]
mod tests;
