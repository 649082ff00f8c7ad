//! Tells new events from copies: at any distance in time, in bounded memory.
//!
//! Two things are remembered. Exactly: the ids of everything taken up that the table may not show yet. Roughly: the ids of
//! the recent past, in a filter that answers "certainly new" or "maybe seen". An event that happened well within the filter's
//! reach can only have an earlier copy within it too, so "certainly new" settles it; everything else is a candidate, to be
//! looked up in the table. Promise: no copy is ever called new; calling a new event a candidate costs a look-up, nothing else.
//! The one limit: a client clock ahead by more than half of the filter's reach when the copy is received (after a start that is half an
//! hour, or half of what the last million events of the partition took, and grows from there), and not so far that `sentAt` corrects it.
//! And where the client gives no time at all, copies are known for 30 days.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::event::field::flag;
use crate::event::ids::{ProjectId, VisitorKey};
use crate::event::packed::EventHeader;
use crate::event::time::MAX_FUTURE_MS;

/// What makes an event the same. The project is compared, although it is in the visitor's hash too: a client of one project can
/// make up a visitor whose hash is that of another project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EventKey {
    pub(crate) project: ProjectId,
    pub(crate) event_id: [u8; 16],
    pub(crate) visitor: VisitorKey,
}

impl EventKey {
    pub(crate) fn of(project: ProjectId, header: &EventHeader) -> Self {
        Self { project, event_id: header.event_id, visitor: header.visitor }
    }

    fn hash(&self) -> u64 {
        xxh3_64_with_seed(&self.event_id, self.visitor.0 ^ self.project.0)
    }
}

/// What tells two payloads of one id apart: the event's name and the time the client gave it.
pub(crate) type Fingerprint = u32;

/// What is known about an event when it is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No copy of it was ever taken up.
    New,
    /// A copy was taken up and is on its way to the table; `conflict` if that one differs.
    Copy { conflict: bool },
    /// Only the table can tell.
    Candidate,
}

/// The memory of one partition.
#[derive(Debug)]
pub(crate) struct Dedupe {
    waiting: HashMap<EventKey, Fingerprint, foldhash::fast::RandomState>,
    inserting: HashMap<EventKey, Fingerprint, foldhash::fast::RandomState>,
    recent: Filter,
    older: Filter,
    /// Whatever was received since then is in the filters.
    reach_ms: i64,
}

impl Dedupe {
    /// Nothing remembered yet, and nothing known about what was received before `reach_ms`. The filters take about `bytes` in all.
    pub(crate) fn new(bytes: usize, reach_ms: i64) -> Self {
        Self {
            waiting: HashMap::default(),
            inserting: HashMap::default(),
            recent: Filter::new(bytes / 2),
            older: Filter::new(64),
            reach_ms,
        }
    }

    /// How many events a memory of `bytes` remembers at least, once that many were taken up.
    pub(crate) fn capacity(bytes: usize) -> u64 {
        Filter::events(bytes / 2) as u64
    }

    /// Takes up an event of `project`, received at `header.received_ms`.
    pub(crate) fn admit(&mut self, project: ProjectId, header: &EventHeader, fingerprint: Fingerprint) -> Verdict {
        if header.flags & flag::SERVER_ID != 0 {
            // The id was made for this very event: there is no other copy of it.
            return Verdict::New;
        }
        let key = EventKey::of(project, header);
        if let Some(earlier) = self.inserting.get(&key) {
            return Verdict::Copy { conflict: *earlier != fingerprint };
        }
        match self.waiting.entry(key) {
            Entry::Occupied(earlier) => return Verdict::Copy { conflict: *earlier.get() != fingerprint },
            Entry::Vacant(place) => place.insert(fingerprint),
        };
        let hash = key.hash();
        let maybe_seen = self.recent.contains(hash) || self.older.contains(hash);
        self.remember(hash, header.received_ms);
        if maybe_seen || self.may_have_been_before(header) { Verdict::Candidate } else { Verdict::New }
    }

    /// Whether an earlier copy can have been received before the reach. By a clock that is ahead an event happened later than it was
    /// first received; half of the reach is left for that, which costs nothing where events are received soon after they happened.
    fn may_have_been_before(&self, header: &EventHeader) -> bool {
        // Half of what is further back than any time is nothing to go by: then everything is in the filters.
        let ahead_ms = header.received_ms.saturating_sub(self.reach_ms).max(0) / 2;
        self.reach_ms != i64::MIN && own_time_ms(header) < self.reach_ms.saturating_add(ahead_ms)
    }

    /// Remembers an event that the table has, when a partition is taken over: received at the reach or later, and by `newest_ms`. In
    /// whatever order they come, they do not move the reach.
    pub(crate) fn recall(&mut self, key: EventKey, newest_ms: i64) {
        self.remember(key.hash(), newest_ms);
    }

    fn remember(&mut self, hash: u64, received_ms: i64) {
        if self.recent.is_full() {
            let next = Filter::new(self.recent.bytes());
            let forgotten = std::mem::replace(&mut self.older, std::mem::replace(&mut self.recent, next));
            // Receipts are of several clocks and not in order: the latest of those forgotten decides.
            self.reach_ms = self.reach_ms.max(forgotten.newest_ms.saturating_add(1));
        }
        self.recent.insert(hash, received_ms);
    }

    /// The block is on its way: from now on new events belong to the next one.
    pub(crate) fn begin_insert(&mut self) {
        debug_assert!(self.inserting.is_empty(), "one insert at a time");
        std::mem::swap(&mut self.waiting, &mut self.inserting);
    }

    /// The block is in the table.
    pub(crate) fn end_insert(&mut self) {
        self.inserting.clear();
    }
}

/// The earliest time at which a copy of the event can have been received: when it happened, by the clock that says
/// earlier. The server's own time stands in where the client gave none or one in the future; a resend would get another
/// one, so it proves nothing.
pub(crate) fn own_time_ms(header: &EventHeader) -> i64 {
    let own_ms = header.at_ms.min(header.original_ms);
    if header.flags & (flag::CLAMPED | flag::SERVER_TIME) != 0 || own_ms > header.received_ms { i64::MIN } else { own_ms }
}

/// How far back an event without a time of its own is looked for: nothing says how old it is. A copy that comes later is stored again.
const TIMELESS_MS: i64 = 30 * DAY_MS;
const DAY_MS: i64 = 86_400_000;

/// From when on an earlier copy of a candidate is to be looked for: it was received then or later, or up to a day before by a clock that
/// was ahead. That of an event of the future was no further ahead than is taken.
pub(crate) fn earliest_receipt_ms(header: &EventHeader) -> i64 {
    match own_time_ms(header) {
        i64::MIN if header.flags & flag::SERVER_TIME != 0 => header.received_ms.saturating_sub(TIMELESS_MS),
        i64::MIN => header.original_ms.min(header.received_ms.saturating_add(MAX_FUTURE_MS)).saturating_sub(MAX_FUTURE_MS),
        own_ms => own_ms,
    }
}

/// A blocked Bloom filter: one cache line a key, 12 bits an event, 6 probes; about 0.7 % of new keys are "maybe seen".
#[derive(Debug)]
struct Filter {
    lines: Vec<[u64; 8]>,
    free: usize,
    /// The latest receipt in it.
    newest_ms: i64,
}

const BITS_PER_EVENT: usize = 12;
const PROBES: u32 = 6;

impl Filter {
    fn new(bytes: usize) -> Self {
        let lines = (bytes / 64).max(1);
        // Zeroed pages are taken from the system only when written: an idle partition costs nothing.
        Self { lines: vec![[0; 8]; lines], free: Self::events(bytes), newest_ms: i64::MIN }
    }

    fn events(bytes: usize) -> usize {
        (bytes / 64).max(1) * 512 / BITS_PER_EVENT
    }

    fn bytes(&self) -> usize {
        self.lines.len() * 64
    }

    fn is_full(&self) -> bool {
        self.free == 0
    }

    fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
        let mut bits = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..PROBES).map(move |_| {
            let at = (bits >> 55) as usize;
            bits = bits.wrapping_shl(9);
            (at / 64, 1 << (at % 64))
        })
    }

    fn line(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    fn insert(&mut self, hash: u64, received_ms: i64) {
        self.newest_ms = self.newest_ms.max(received_ms);
        self.free = self.free.saturating_sub(1);
        let at = self.line(hash);
        if let Some(line) = self.lines.get_mut(at) {
            for (word, bit) in Self::probes(hash) {
                line[word] |= bit;
            }
        }
    }

    fn contains(&self, hash: u64) -> bool {
        let line = self.lines.get(self.line(hash));
        line.is_some_and(|line| Self::probes(hash).all(|(word, bit)| line[word] & bit != 0))
    }
}

#[cfg(test)]
mod tests;
