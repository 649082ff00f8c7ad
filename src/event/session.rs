//! What a session is: a run of events of one visitor, cut by the rules.
//!
//! The sessions of a visitor follow from the set of its events and from nothing else: sorted by time, an event goes on with the session
//! of the one before it, or begins one. The id of a session follows from the visitor and the time of its first event, so the same session
//! always has the same id. A session that the client names is that of its own events, and of no others.

use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::ids::{ProjectId, VisitorKey};

/// A visitor whose sessions are told apart from others'. The project is compared, although it is in the key's hash too: a client of one
/// project can make up a visitor whose hash is that of another project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Visitor {
    /// The project.
    pub project: ProjectId,
    /// The visitor in it.
    pub key: VisitorKey,
}

impl Visitor {
    fn to_bytes(self) -> [u8; 16] {
        let both = (u128::from(self.project.0) << 64) | u128::from(self.key.0);
        both.to_le_bytes()
    }
}

/// The session of an event, as the table keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The session that a visitor's client calls `name`: a UUID (version 8) made from both. Names are often unique within a visitor only:
    /// a second of the clock, a count.
    pub fn of_client(visitor: Visitor, name: &str) -> Self {
        let hash = xxh3_128_with_seed(name.as_bytes(), xxh3_64(&visitor.to_bytes()));
        Self(Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid().into_bytes())
    }

    /// The session of a visitor whose first event is of `start_ms`: a UUID (version 7) of that time.
    pub fn beginning_at(visitor: Visitor, start_ms: i64) -> Self {
        // What a UUID cannot say of a time before 1970 the rest of it still tells apart.
        let [random @ .., _, _, _, _, _, _] = xxh3_128_with_seed(&visitor.to_bytes(), start_ms as u64).to_le_bytes();
        Self(Builder::from_unix_timestamp_millis(start_ms as u64 & MOST_MS, &random).into_uuid().into_bytes())
    }

    /// When its first event was, milliseconds since 1970; `None` for a session that a client named.
    pub fn start_ms(self) -> Option<i64> {
        let id = Uuid::from_bytes(self.0);
        if id.get_version_num() != 7 {
            return None;
        }
        let millis = (id.as_u128() >> 80) as u64;
        // 48 bits with a sign: events may be older than 1970.
        Some(((millis << 16) as i64) >> 16)
    }
}

/// The bits of a time that a UUID (version 7) has.
const MOST_MS: u64 = (1 << 48) - 1;

/// What cuts a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// A visitor who does nothing for longer than this begins a new session, milliseconds.
    pub idle_gap_ms: i64,
    /// An event later than this after a session's first begins a new one, milliseconds.
    pub longest_ms: i64,
}

impl SessionRules {
    /// Whether an event at `at_ms` goes on with a session that began at `start_ms` and whose last event before it was at `last_ms`.
    pub fn continues(&self, start_ms: i64, last_ms: i64, at_ms: i64) -> bool {
        at_ms.saturating_sub(last_ms) <= self.idle_gap_ms && at_ms.saturating_sub(start_ms) <= self.longest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_session_began_also_before_1970() {
        let visitor = Visitor { project: ProjectId(1), key: VisitorKey(2) };
        for start_ms in [0, 1, -1, 1_790_000_000_123, -2_208_988_800_000, 10_413_791_999_999] {
            assert_eq!(SessionId::beginning_at(visitor, start_ms).start_ms(), Some(start_ms));
        }
        assert_eq!(SessionId::of_client(visitor, "7").start_ms(), None);
    }
}
