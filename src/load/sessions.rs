//! The session of every event that is stored, whatever the order of arrival.
//!
//! Owns what one partition remembers of its visitors: of each the latest session, and how far around it nothing else is. Promise: the
//! sessions in the table are those of [`SessionRules`] over the set of its events. An event that goes on with what is remembered, or
//! is of a visitor of whom all is known, gets its session at once; any other waits until the block is sealed, when the table is asked for
//! the visitor's events around it ([`resolve`]). Where an event that is stored belongs to another session from then on (a late one
//! came before it, bridged two, or moved a cut), a row beside the events says so: a [`Revision`], in the same block.
//! Memory is bounded: beyond it visitors are forgotten, which costs look-ups and nothing else.
//!
//! Cost: an event in order 20-40 ns; one that is looked up a row of the visitor's hour in each part of the table that may have it, 0.1 to
//! 1 ms of the server; a revision one row. May go wrong: of a visitor with more events around a late one than [`MOST_VISITS`] only the
//! first are looked at, so that a machine that sends without end makes no statement dear; its sessions then depend on the order.

mod resolve;

use std::collections::{BTreeMap, HashMap as StdHashMap};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::event::session::{SessionId, SessionRules, Visitor};
use resolve::{Found, Resolved, resolve};

/// Before all times that an event can have: the horizon of an empty table.
pub(crate) const NOBODY_MS: i64 = i64::MIN / 4;
/// Events of one visitor that are looked at around those that are new.
pub(crate) const MOST_VISITS: usize = 20_000;

/// An event of the table that is in a session by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) at_ms: i64,
    pub(crate) session: SessionId,
}

/// Says of all events of a visitor in a span of time to which session they belong, whatever their rows say. Of several that hold for one
/// event the one of the highest version counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) visitor: Visitor,
    /// The first and last event meant.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) session: SessionId,
    pub(crate) version: u32,
}

/// What is asked of the table: the visitor's events in a span of time, and the revisions that hold for any moment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) visitor: Visitor,
    /// No revision that begins before this holds for any moment of the span.
    pub(crate) revised_from_ms: i64,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

/// What the table has of a visitor in the span of a [`Question`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) visits: Vec<Visit>,
    pub(crate) revisions: Vec<Revision>,
}

/// What the table has of the visitors that were asked for.
pub(crate) type Pasts = StdHashMap<Visitor, Past>;

/// The latest session of a visitor, and what is known around it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start_ms: i64,
    /// From the start to the last event.
    length_ms: u32,
    /// The block in which it began.
    born: u32,
    /// Seconds before the start in which nothing is.
    free_before: u16,
    /// Seconds after the last event in which nothing is.
    free_after: u16,
    /// Of the revisions that hold for its events the highest version, 0 if there is none; [`UNKNOWN`] of a session that the table had.
    version: u16,
    doubt: Doubt,
}

/// Which revisions hold for a session must be looked up.
const UNKNOWN: u16 = u16::MAX;

/// Nothing is after it, however long.
const FOREVER: u16 = u16::MAX;

/// What of a slot must be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// Only the last event is known: what is not an idle gap after it.
    Start,
    /// Everything: events of this visitor wait for the end of the block.
    All,
}

/// What is known of an event's session from a slot.
enum Placed {
    /// It goes on with the slot's session.
    Same,
    /// It comes first in the slot's session.
    Earlier,
    /// It begins one, with nothing near it.
    Alone,
    /// It begins one, and is the visitor's latest.
    Latest,
    /// The table must be asked.
    Unsure,
}

impl Slot {
    fn last_ms(&self) -> i64 {
        self.start_ms.saturating_add(i64::from(self.length_ms))
    }

    /// Nothing is between this and the start.
    fn free_from(&self) -> i64 {
        self.start_ms.saturating_sub(1_000 * i64::from(self.free_before))
    }

    /// Nothing is between the last event and this.
    fn free_until(&self) -> i64 {
        match self.free_after {
            FOREVER => i64::MAX,
            seconds => self.last_ms().saturating_add(1_000 * i64::from(seconds)),
        }
    }

    fn place(&self, at_ms: i64, rules: &SessionRules, block: u32) -> Placed {
        let (start_ms, last_ms) = (self.start_ms, self.last_ms());
        let is_after = at_ms > last_ms;
        let touches = |a: i64, b: i64| b.saturating_sub(a) <= rules.idle_gap_ms;
        match self.doubt {
            Doubt::All => return Placed::Unsure,
            Doubt::Start if !is_after || touches(last_ms, at_ms) => return Placed::Unsure,
            _ => {}
        }
        if is_after {
            if at_ms >= self.free_until() || touches(at_ms, self.free_until()) {
                return Placed::Unsure;
            }
            return if rules.continues(start_ms, last_ms, at_ms) { Placed::Same } else { Placed::Latest };
        }
        // Between two events of one session the same revisions hold as for both: a new one among them needs no look.
        if at_ms >= start_ms {
            return Placed::Same;
        }
        if touches(self.free_from(), at_ms) {
            return Placed::Unsure;
        }
        if !touches(at_ms, start_ms) {
            return Placed::Alone;
        }
        let fits = last_ms.saturating_sub(at_ms) <= rules.longest_ms;
        let is_known = self.born == block || self.version + 1 < UNKNOWN;
        if fits && is_known { Placed::Earlier } else { Placed::Unsure }
    }
}

/// Seconds between two times that are certainly free.
fn seconds(from_ms: i64, to_ms: i64) -> u16 {
    let whole = to_ms.saturating_sub(from_ms).max(0) / 1_000;
    u16::try_from(whole).unwrap_or(FOREVER).min(FOREVER - 1)
}

/// An event that waits for the end of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) visitor: Visitor,
    pub(crate) at_ms: i64,
    /// Its row in the block.
    pub(crate) row: usize,
}

/// What the sealed block gets.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Rows whose session was open, or has changed.
    pub(crate) rows: Vec<(usize, SessionId)>,
    pub(crate) revisions: Vec<Revision>,
}

/// What one partition remembers of its visitors' sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    rules: SessionRules,
    max_visitors: usize,
    recent: HashMap<Visitor, Slot, foldhash::fast::RandomState>,
    older: HashMap<Visitor, Slot, foldhash::fast::RandomState>,
    /// Nobody who is not remembered has an event after this.
    horizon_ms: i64,
    turned_ms: i64,
    block: u32,
    /// Visitors whose events wait for the end of the block, and what was known of them before.
    waiting: HashMap<Visitor, Option<Slot>, foldhash::fast::RandomState>,
    /// Sessions that began earlier than was known, and what they are called since.
    renamed: HashMap<SessionId, SessionId, foldhash::fast::RandomState>,
    /// What that means for events of earlier blocks.
    moved: Vec<Revision>,
}

impl Sessions {
    /// Nobody remembered; nobody has an event after `horizon_ms`. Visitors are remembered in two generations of `max_visitors`.
    pub(crate) fn new(rules: SessionRules, max_visitors: usize, horizon_ms: i64) -> Self {
        Self {
            rules,
            max_visitors,
            recent: HashMap::default(),
            older: HashMap::default(),
            horizon_ms,
            turned_ms: i64::MIN,
            block: 0,
            waiting: HashMap::default(),
            renamed: HashMap::default(),
            moved: Vec::new(),
        }
    }

    /// Remembers a visitor whose latest event in the table is at `last_ms`, in `session` unless that is in doubt. All that the table
    /// has of it after the horizon must be told.
    pub(crate) fn recall(&mut self, visitor: Visitor, last_ms: i64, session: Option<SessionId>) {
        let start_ms = session.and_then(SessionId::start_ms).filter(|start_ms| *start_ms <= last_ms);
        let length_ms = start_ms.and_then(|start_ms| u32::try_from(last_ms - start_ms).ok());
        let (start_ms, length_ms, doubt) = match (start_ms, length_ms) {
            (Some(start_ms), Some(length_ms)) => (start_ms, length_ms, Doubt::None),
            _ => (last_ms, 0, Doubt::Start),
        };
        let born = self.block.wrapping_sub(1);
        self.recent.insert(visitor, Slot { start_ms, length_ms, born, free_before: 0, free_after: FOREVER, version: UNKNOWN, doubt });
    }

    /// The session of an event in `row`, or `None` if it waits for the end of the block.
    pub(crate) fn assign(&mut self, visitor: Visitor, at_ms: i64) -> Option<SessionId> {
        let (rules, block) = (self.rules, self.block);
        let older = &mut self.older;
        let slot = match self.recent.entry(visitor) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(free) => match older.remove(&visitor) {
                Some(slot) => free.insert(slot),
                None => {
                    let is_known = at_ms.saturating_sub(rules.idle_gap_ms) > self.horizon_ms;
                    let free_before = seconds(self.horizon_ms, at_ms);
                    let doubt = if is_known { Doubt::None } else { Doubt::All };
                    let version = if is_known { 0 } else { UNKNOWN };
                    free.insert(Slot { start_ms: at_ms, length_ms: 0, born: block, free_before, free_after: FOREVER, version, doubt });
                    if !is_known {
                        self.waiting.insert(visitor, None);
                        return None;
                    }
                    return Some(SessionId::beginning_at(visitor, at_ms));
                }
            },
        };
        match slot.place(at_ms, &rules, block) {
            Placed::Same => {
                let more_ms = u32::try_from(at_ms.saturating_sub(slot.start_ms)).unwrap_or(u32::MAX);
                if more_ms > slot.length_ms {
                    if slot.free_after != FOREVER {
                        slot.free_after = seconds(at_ms, slot.free_until());
                    }
                    slot.length_ms = more_ms;
                }
                Some(SessionId::beginning_at(visitor, slot.start_ms))
            }
            Placed::Latest => {
                let free_after = if slot.free_after == FOREVER { FOREVER } else { seconds(at_ms, slot.free_until()) };
                let free_before = seconds(slot.last_ms(), at_ms);
                *slot = Slot { start_ms: at_ms, length_ms: 0, born: block, free_before, free_after, version: 0, doubt: Doubt::None };
                Some(SessionId::beginning_at(visitor, at_ms))
            }
            Placed::Alone => {
                slot.free_before = seconds(at_ms, slot.start_ms);
                Some(SessionId::beginning_at(visitor, at_ms))
            }
            Placed::Earlier => {
                let (old, new) = (SessionId::beginning_at(visitor, slot.start_ms), SessionId::beginning_at(visitor, at_ms));
                if slot.born != block {
                    (slot.born, slot.version) = (block, slot.version + 1);
                    let version = slot.version.into();
                    self.moved.push(Revision { visitor, from_ms: slot.start_ms, to_ms: slot.last_ms(), session: new, version });
                }
                slot.free_before = seconds(slot.free_from(), at_ms);
                slot.length_ms += u32::try_from(slot.start_ms - at_ms).unwrap_or(0);
                slot.start_ms = at_ms;
                self.renamed.insert(old, new);
                Some(new)
            }
            Placed::Unsure => {
                let before = (slot.doubt != Doubt::All).then_some(*slot);
                slot.doubt = Doubt::All;
                self.waiting.entry(visitor).or_insert(before);
                None
            }
        }
    }

    /// Whether events wait for the table.
    pub(crate) fn is_waiting(&self, visitor: Visitor) -> bool {
        self.waiting.contains_key(&visitor)
    }

    /// Whether rows of this block are to get another session than they were given.
    pub(crate) fn has_open(&self) -> bool {
        !self.waiting.is_empty() || !self.renamed.is_empty()
    }

    /// What a session is called that began earlier than was known when its first rows were written.
    pub(crate) fn renamed(&self, mut session: SessionId) -> Option<SessionId> {
        let mut renamed = None;
        while let Some(next) = self.renamed.get(&session) {
            (renamed, session) = (Some(*next), *next);
        }
        renamed
    }

    /// What is to be said of stored events without asking the table: their sessions began earlier than was known. Of visitors who wait
    /// the table will tell all.
    pub(crate) fn moved(&mut self) -> Vec<Revision> {
        let moved = std::mem::take(&mut self.moved).into_iter().filter(|revision| !self.is_waiting(revision.visitor));
        moved.map(|revision| Revision { session: self.renamed(revision.session).unwrap_or(revision.session), ..revision }).collect()
    }

    /// What to ask the table before [`Self::settle`], for all rows of waiting visitors.
    pub(crate) fn questions(&self, rows: &[Row]) -> Vec<Question> {
        let mut spans: BTreeMap<Visitor, (i64, i64)> = BTreeMap::new();
        for Row { visitor, at_ms, .. } in rows {
            let (first_ms, last_ms) = spans.entry(*visitor).or_insert((*at_ms, *at_ms));
            (*first_ms, *last_ms) = ((*first_ms).min(*at_ms), (*last_ms).max(*at_ms));
        }
        let SessionRules { idle_gap_ms: gap_ms, longest_ms } = self.rules;
        let question = |(visitor, (first_ms, last_ms)): (Visitor, (i64, i64))| Question {
            visitor,
            revised_from_ms: first_ms.saturating_sub(gap_ms).saturating_sub(longest_ms),
            from_ms: first_ms.saturating_sub(gap_ms),
            to_ms: last_ms.saturating_add(gap_ms),
        };
        spans.into_iter().map(question).collect()
    }

    /// Ends the waiting of those visitors of whom enough is known; returns what must be asked of the others. `rows` are all of the block
    /// that waiting visitors have; `pasts` is what the table has in the spans of `questions`.
    pub(crate) fn settle(&mut self, rows: &[Row], questions: &[Question], pasts: &Pasts, settled: &mut Settled) -> Vec<Question> {
        let mut further = Vec::new();
        let mut by_visitor: BTreeMap<Visitor, Vec<Row>> = BTreeMap::new();
        for row in rows {
            by_visitor.entry(row.visitor).or_default().push(*row);
        }
        let nothing = Past::default();
        for question in questions {
            let Some(rows) = by_visitor.get(&question.visitor) else { continue };
            let past = pasts.get(&question.visitor).unwrap_or(&nothing);
            match resolve(&self.rules, question, past, rows) {
                Resolved::Needs { to_ms } => further.push(Question { to_ms, ..*question }),
                Resolved::Done(found) => {
                    self.learn(question, &found);
                    settled.rows.extend(found.rows);
                    settled.revisions.extend(found.revisions);
                }
            }
        }
        further
    }

    /// Remembers what was found of a visitor.
    fn learn(&mut self, question: &Question, found: &Found) {
        let visitor = question.visitor;
        let before = self.waiting.remove(&visitor).flatten();
        let slot = match before {
            // What was found is before what is known: that stays the latest.
            Some(before) if before.start_ms > question.to_ms => {
                Slot { free_before: seconds(before.free_from().max(question.to_ms), before.start_ms), ..before }
            }
            before => {
                let last_ms = before.map_or(found.last_ms, |before| before.last_ms().max(found.last_ms));
                let free_after = match before {
                    Some(before) if before.free_after == FOREVER => FOREVER,
                    Some(before) => seconds(last_ms, before.free_until().max(question.to_ms)),
                    // Of a visitor who was not remembered nothing is after the horizon but what this block has.
                    None if question.to_ms >= self.horizon_ms => FOREVER,
                    None => seconds(last_ms, question.to_ms),
                };
                let length_ms = u32::try_from(last_ms - found.start_ms).unwrap_or(u32::MAX);
                Slot {
                    start_ms: found.start_ms,
                    length_ms,
                    born: self.block.wrapping_sub(1),
                    free_before: 0,
                    free_after,
                    version: UNKNOWN,
                    doubt: Doubt::None,
                }
            }
        };
        self.recent.insert(visitor, slot);
    }

    /// The block is sealed: its rows are the table's from now on. Visitors who were not seen for long are forgotten; `received_ms` says
    /// how far the log has come.
    pub(crate) fn end_block(&mut self, received_ms: i64) {
        debug_assert!(self.waiting.is_empty(), "all sessions of a block are settled before it is sealed");
        self.renamed.clear();
        self.moved.clear();
        self.block = self.block.wrapping_add(1);
        let is_over = received_ms.saturating_sub(self.turned_ms) > self.rules.idle_gap_ms || received_ms < self.turned_ms;
        if !is_over && self.recent.len() < self.max_visitors {
            return;
        }
        self.turned_ms = received_ms;
        let forgotten = std::mem::replace(&mut self.older, std::mem::take(&mut self.recent));
        // Those whose clock is ahead are kept while there is room: forgotten they would put everyone else's events in doubt.
        let soon_ms = received_ms.saturating_sub(self.rules.idle_gap_ms);
        for (visitor, slot) in forgotten {
            if slot.last_ms() > soon_ms && self.recent.len() < self.max_visitors / 4 {
                self.recent.insert(visitor, slot);
            } else {
                self.horizon_ms = self.horizon_ms.max(slot.last_ms());
            }
        }
    }
}

#[cfg(test)]
mod tests;
