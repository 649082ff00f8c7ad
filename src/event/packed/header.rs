//! The header of an event in bytes: its id, six words of eight bytes, flags and project, little-endian.

use crate::event::ids::{PersonKey, VisitorKey};
use crate::wire;

/// Where the words of a header begin, its flags, and its project.
const WORDS_AT: usize = 16;
const FLAGS_AT: usize = WORDS_AT + 6 * 8;
pub(super) const PROJECT_AT: usize = FLAGS_AT + 4;
pub(super) const HEADER_LEN: usize = PROJECT_AT + 2;

/// The part of an event that every event has. Times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub struct EventHeader {
    /// The client's id of the event, or the server's where there was none.
    pub event_id: [u8; 16],
    /// Whose event it is; decides partition, session and deduplication.
    pub visitor: VisitorKey,
    /// Whom `unique_users` counts.
    pub person: PersonKey,
    /// When it happened, corrected for the client's clock.
    pub at_ms: i64,
    /// When it happened by the client's clock; 0 if the client gave no time.
    pub original_ms: i64,
    /// When the client sent it, by its clock; 0 if unknown.
    pub sent_ms: i64,
    /// When the server received it.
    pub received_ms: i64,
    /// Bits of [`crate::event::field::flag`].
    pub flags: u32,
    /// Index into the project table of the record.
    pub project: u16,
}

impl EventHeader {
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [at_ms, original_ms, sent_ms, received_ms] =
            [self.at_ms, self.original_ms, self.sent_ms, self.received_ms].map(i64::cast_unsigned);
        let words = [self.visitor.0, self.person.0, at_ms, original_ms, sent_ms, received_ms].map(u64::to_le_bytes);
        let mut bytes = [0; HEADER_LEN];
        bytes[..WORDS_AT].copy_from_slice(&self.event_id);
        bytes[WORDS_AT..FLAGS_AT].as_chunks_mut().0.iter_mut().zip(words).for_each(|(place, word)| *place = word);
        bytes[FLAGS_AT..PROJECT_AT].copy_from_slice(&self.flags.to_le_bytes());
        bytes[PROJECT_AT..].copy_from_slice(&self.project.to_le_bytes());
        bytes
    }

    pub(super) fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            event_id: wire::take_array(input)?,
            visitor: VisitorKey(wire::take_u64(input)?),
            person: PersonKey(wire::take_u64(input)?),
            at_ms: wire::take_i64(input)?,
            original_ms: wire::take_i64(input)?,
            sent_ms: wire::take_i64(input)?,
            received_ms: wire::take_i64(input)?,
            flags: wire::take_u32(input)?,
            project: wire::take_u16(input)?,
        })
    }
}
