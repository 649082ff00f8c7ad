//! A session for every event: the client's own where it names one, else one kept here by visitor.
//!
//! Owns the open sessions of one partition. Everything is decided by the events and their order in the log: the same
//! records from the same snapshot give the same sessions, so a crash or a replay changes no session. Memory is bounded:
//! visitors live in two generations, and the older one is forgotten when the log has moved on by an idle gap, or when the
//! newer one is full (a flood of visitors then splits sessions rather than exhausting memory).

use hashbrown::HashMap;
use uuid::Builder;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::event::ids::{ProjectId, VisitorKey};
use crate::wire;

/// Whose sessions are told apart. The project is compared, although it is in the key's hash too: a client that may write to one project
/// can make up a visitor whose hash is that of another project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The session that a visitor's event at `at_ms` opens: a UUID (version 7) of that time.
    fn opened_by(visitor: Visitor, at_ms: i64) -> Self {
        let millis = u64::try_from(at_ms).unwrap_or(0);
        let [random @ .., _, _, _, _, _, _] = xxh3_128_with_seed(&visitor.to_bytes(), millis).to_le_bytes();
        Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid().into_bytes())
    }
}

/// An open session. Its id follows from the event that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    opened_ms: i64,
    first_ms: i64,
    last_ms: i64,
}

/// The open sessions of one partition.
#[derive(Debug)]
pub struct Sessionizer {
    idle_gap_ms: i64,
    max_visitors: usize,
    recent: HashMap<Visitor, Open, foldhash::fast::RandomState>,
    older: HashMap<Visitor, Open, foldhash::fast::RandomState>,
    turned_ms: i64,
    /// Receipt of the first of a run of records that are further ahead than a log comes at once; 0 if there is none.
    ahead_ms: i64,
}

/// Further than this a log does not come from one record to the next, but the clock of its receiver was wrong, or the log
/// was quiet for long.
const LEAP_MS: i64 = 86_400_000;

impl Sessionizer {
    /// Bytes that a visitor takes in a snapshot.
    pub const VISITOR_BYTES: u64 = 40;

    /// No sessions yet. A gap of more than `idle_gap_ms` ends a session; at most twice `max_visitors` are remembered.
    pub fn new(idle_gap_ms: i64, max_visitors: usize) -> Self {
        Self { idle_gap_ms, max_visitors, recent: HashMap::default(), older: HashMap::default(), turned_ms: 0, ahead_ms: 0 }
    }

    /// Tells how far the log has come, so that visitors unseen for an idle gap can be forgotten. A clock that is wrong forgets
    /// nobody: a leap ahead counts once all records of an idle gap have made it, and a leap back sets the clock and no more.
    pub fn advance(&mut self, received_ms: i64) {
        let ahead = received_ms.saturating_sub(self.turned_ms);
        let leap = LEAP_MS.max(self.idle_gap_ms.saturating_mul(2));
        let leaps_ahead = self.turned_ms != 0 && ahead > leap;
        if ahead < -leap {
            self.turned_ms = received_ms;
        }
        if !leaps_ahead {
            self.ahead_ms = 0;
        }
        let is_over = if leaps_ahead { self.is_confirmed(received_ms) } else { ahead > self.idle_gap_ms };
        if is_over {
            self.turn(received_ms);
        } else if self.recent.len() >= self.max_visitors {
            self.turn(if leaps_ahead { self.turned_ms } else { received_ms });
        }
    }

    /// Whether the log has stayed ahead for an idle gap.
    fn is_confirmed(&mut self, received_ms: i64) -> bool {
        if self.ahead_ms == 0 || received_ms < self.ahead_ms {
            self.ahead_ms = received_ms;
        }
        received_ms.saturating_sub(self.ahead_ms) > self.idle_gap_ms
    }

    fn turn(&mut self, now_ms: i64) {
        (self.turned_ms, self.ahead_ms) = (now_ms, 0);
        self.older = std::mem::take(&mut self.recent);
    }

    /// Returns the session of an event at `at_ms`: the open one if within an idle gap of it, else a new one. A late event
    /// may stretch a session backwards; one too late for it gets a session of its own.
    pub fn assign(&mut self, visitor: Visitor, at_ms: i64) -> SessionId {
        let fresh = Open { opened_ms: at_ms, first_ms: at_ms, last_ms: at_ms };
        let older = &mut self.older;
        let open = self.recent.entry(visitor).or_insert_with(|| older.remove(&visitor).unwrap_or(fresh));
        let gap_ms = self.idle_gap_ms;
        if at_ms >= open.first_ms.saturating_sub(gap_ms) && at_ms <= open.last_ms.saturating_add(gap_ms) {
            open.first_ms = open.first_ms.min(at_ms);
            open.last_ms = open.last_ms.max(at_ms);
            return SessionId::opened_by(visitor, open.opened_ms);
        }
        if at_ms > open.last_ms {
            *open = fresh;
        }
        SessionId::opened_by(visitor, at_ms)
    }

    /// Number of visitors remembered.
    #[cfg(test)]
    fn visitors(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    /// Appends everything remembered to `out`.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.turned_ms.to_le_bytes());
        out.extend_from_slice(&self.ahead_ms.to_le_bytes());
        for generation in [&self.recent, &self.older] {
            out.extend_from_slice(&(generation.len() as u64).to_le_bytes());
            for (visitor, open) in generation {
                out.extend_from_slice(&visitor.to_bytes());
                for time in [open.opened_ms, open.first_ms, open.last_ms] {
                    out.extend_from_slice(&time.to_le_bytes());
                }
            }
        }
    }

    /// Remembers what [`Self::save`] wrote; `None` if it is damaged, and then nothing has changed.
    pub fn restore(&mut self, mut saved: &[u8]) -> Option<()> {
        let (turned_ms, ahead_ms) = (wire::take_i64(&mut saved)?, wire::take_i64(&mut saved)?);
        let recent = take_generation(&mut saved)?;
        let older = take_generation(&mut saved)?;
        (self.turned_ms, self.ahead_ms, self.recent, self.older) = (turned_ms, ahead_ms, recent, older);
        Some(())
    }
}

fn take_generation(input: &mut &[u8]) -> Option<HashMap<Visitor, Open, foldhash::fast::RandomState>> {
    let length = usize::try_from(wire::take_u64(input)?).ok()?;
    // A visitor takes 40 bytes: a length beyond the input is damage, not a reason to allocate.
    let mut generation = HashMap::with_capacity_and_hasher(length.min(input.len() / 40), foldhash::fast::RandomState::default());
    for _ in 0..length {
        let key = VisitorKey(wire::take_u64(input)?);
        let visitor = Visitor { project: ProjectId(wire::take_u64(input)?), key };
        generation
            .insert(visitor, Open { opened_ms: wire::take_i64(input)?, first_ms: wire::take_i64(input)?, last_ms: wire::take_i64(input)? });
    }
    Some(generation)
}

#[cfg(test)]
mod tests;
