//! A dead letter: what could not be read, kept with its reason and its original bytes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_128;

use super::ids::{LogEpoch, ProjectId};
use super::varint;
use crate::outcome::{Count, DeadReason};

/// Message of a letter that holds what is left of a record from the first event on whose end cannot be found. Its project is
/// the record's first one; the others are not known to it.
pub const REST_UNREADABLE: &str = "rest of the record unreadable";

/// A dead letter inside a raw record (where only its position is missing) or in the dead topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// Whose it is; [`ProjectId::BOOKS`] where nobody knows.
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
    pub id: LetterId,
    /// Where it stands in the raw topic.
    pub place: Place,
}

/// Which line a letter is about, however often it is sent and whatever file holds it: a letter whose id was there before is a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LetterId(pub [u8; 16]);

impl LetterId {
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
pub struct Place {
    /// Identity of the raw topic.
    pub epoch: LogEpoch,
    /// Raw partition.
    pub partition: u16,
    /// Raw offset.
    pub offset: i64,
    /// Which of the letters of that record.
    pub index: u32,
}

impl Place {
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

impl<'a> Letter<'a> {
    /// Appends the letter.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.project.0.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.push(Count::Dead(self.reason).code());
        varint::put_bytes(out, self.message.as_bytes());
        varint::put_bytes(out, self.source.as_bytes());
        varint::put(out, self.line);
        varint::put_bytes(out, self.original);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.place.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.place.partition.to_le_bytes());
        out.extend_from_slice(&self.place.offset.to_le_bytes());
        out.extend_from_slice(&self.place.index.to_le_bytes());
    }

    /// Takes a letter off the front of `input`; `None` if it is damaged.
    pub fn take(input: &mut &'a [u8]) -> Option<Self> {
        let project = ProjectId(u64::from_le_bytes(varint::take_array(input)?));
        let received_ms = i64::from_le_bytes(varint::take_array(input)?);
        let [code] = varint::take_array(input)?;
        let Some(Count::Dead(reason)) = Count::of_code(code) else { return None };
        Some(Self {
            project,
            received_ms,
            reason,
            message: std::str::from_utf8(varint::take_bytes(input)?).ok()?,
            source: std::str::from_utf8(varint::take_bytes(input)?).ok()?,
            line: varint::take(input)?,
            original: varint::take_bytes(input)?,
            id: LetterId(varint::take_array(input)?),
            place: Place {
                epoch: LogEpoch(u64::from_le_bytes(varint::take_array(input)?)),
                partition: u16::from_le_bytes(varint::take_array(input)?),
                offset: i64::from_le_bytes(varint::take_array(input)?),
                index: u32::from_le_bytes(varint::take_array(input)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn letters_read_back_equal(message in ".{0,40}", original in prop::collection::vec(any::<u8>(), 0..100), line: u64, offset: i64) {
            let letter = Letter {
                project: ProjectId(4),
                received_ms: 12,
                reason: DeadReason::LineMalformed,
                message: &message,
                source: "access.log",
                line,
                original: &original,
                id: LetterId::of("1001"),
                place: Place { epoch: LogEpoch(1), partition: 2, offset, index: 3 },
            };
            let mut out = Vec::new();
            letter.put(&mut out);
            let mut input = out.as_slice();
            prop_assert_eq!(Letter::take(&mut input), Some(letter));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn an_id_is_the_same_in_every_spelling_of_a_uuid(bytes: [u8; 16], text in "[^0-9a-fA-F{u]\\PC{0,20}") {
            let uuid = Uuid::from_bytes(bytes);
            for spelling in [uuid.to_string(), uuid.simple().to_string(), uuid.to_string().to_uppercase()] {
                prop_assert_eq!(LetterId::of(&spelling), LetterId(bytes));
            }
            let event = serde_json::json!({"type": "", "eventId": text}).to_string();
            prop_assert_eq!(LetterId::of_event(event.as_bytes()), LetterId::of(&text));
            prop_assert_eq!(LetterId::of_event(b"{\"eventId\":null}"), LetterId::NONE);
        }

        #[test]
        fn every_place_and_event_has_an_id_of_its_own(one: (u64, u16, i64, u32, u32), other: (u64, u16, i64, u32, u32)) {
            let id = |(epoch, partition, offset, index, nth)| Place { epoch: LogEpoch(epoch), partition, offset, index }.event_id(nth);
            prop_assert_eq!(one == other, id(one) == id(other));
            prop_assert_eq!(uuid::Uuid::from_bytes(id(one)).get_version_num(), 8);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Letter::take(&mut bytes.as_slice());
        }
    }
}
