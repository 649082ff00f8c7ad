//! The session of every event that is stored, whatever the order of arrival.
//!
//! Owns what one partition remembers of its visitors: of each the latest session, and how far around it nothing else is. Promise: the
//! sessions in the table are those of its project's [`SessionRules`] over the set of its events. An event that goes on with what is
//! remembered, or is of a visitor of whom all is known, gets its session at once; any other waits until the block is sealed, when the table
//! is asked for the visitor's events around it ([`resolve`]). Of some visitors an earlier session is remembered too, so that what a device
//! did while it was offline is asked about once at most. Where an event that is stored belongs to another session from then on (a late one
//! came before it, bridged two, or moved a cut), a row beside the events says so: a [`Revision`], in the same block.
//! Memory is bounded: beyond it visitors are forgotten, which costs look-ups and nothing else.
//!
//! Cost: an event in order 20-40 ns; one that is looked up a row of the visitor's hour in each part of the table that may have it, 0.1 to
//! 1 ms of the server; a revision one row. May go wrong: of a visitor with more events around a late one than [`MOST_VISITS`] only the
//! first are looked at, so that a machine that sends without end makes no statement dear; its sessions then depend on the order.

mod resolve;
mod slot;

use std::collections::{BTreeMap, HashMap as StdHashMap};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::event::session::{Campaign, LONGEST_SESSION_MS, Moment, SessionId, SessionRules, Span, Visitor};
use crate::project::Projects;
use resolve::{Found, Resolved, resolve};
use slot::{Doubt, FOREVER, Placed, Slot, UNKNOWN, minutes};

/// Before all times that an event can have: the horizon of an empty table.
pub(crate) const NOBODY_MS: i64 = i64::MIN / 4;
/// Events of one visitor that are looked at around those that are new.
pub(crate) const MOST_VISITS: usize = 20_000;

/// An event of the table that is in a session by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) moment: Moment,
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

impl Revision {
    /// As [`crate::store::revisions::LENGTH`] has it.
    pub(crate) fn length(&self) -> u32 {
        u32::try_from(self.to_ms.saturating_sub(self.from_ms)).unwrap_or(u32::MAX - 1).saturating_add(1)
    }
}

/// What is asked of the table: the visitor's events in a span of time, and the revisions that hold for any moment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) visitor: Visitor,
    /// No revision that begins before this holds for any moment of the span.
    pub(crate) revised_from_ms: i64,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// Which stored events get their sessions anew, whatever the table says of them.
    pub(crate) anew: Option<Anew>,
}

/// Events from a moment on and before another, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anew {
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
}

impl Question {
    /// Asks for what decides in which sessions the visitor's events from `first_ms` to `last_ms` are.
    fn around(rules: &SessionRules, visitor: Visitor, first_ms: i64, last_ms: i64) -> Self {
        let SessionRules { idle_gap_ms: gap_ms, longest_ms, cuts_at_campaign, .. } = *rules;
        // A session tells when it began; which campaign it began with its first event must tell.
        let back_ms = if cuts_at_campaign { gap_ms.saturating_add(longest_ms) } else { gap_ms };
        let from_ms = first_ms.saturating_sub(back_ms);
        let (revised_from_ms, to_ms) = (from_ms.saturating_sub(longest_ms), last_ms.saturating_add(gap_ms));
        Self { visitor, revised_from_ms, from_ms, to_ms, anew: None }
    }

    fn is_anew(&self, at_ms: i64) -> bool {
        self.anew.is_some_and(|anew| (anew.from_ms..anew.until_ms).contains(&at_ms))
    }
}

/// What to ask the table before [`recut`], so that a visitor's events of a time get their sessions anew.
pub(crate) fn recut_question(rules: &SessionRules, visitor: Visitor, anew: Anew) -> Question {
    let question = Question::around(rules, visitor, anew.from_ms, anew.until_ms);
    // Sessions of the past may be longer than any is now.
    let revised_from_ms = question.from_ms.saturating_sub(LONGEST_SESSION_MS);
    Question { revised_from_ms, anew: Some(anew), ..question }
}

/// What the rules say of stored events.
#[derive(Debug)]
pub(crate) enum Recut {
    /// The table must be asked for more.
    Needs(Question),
    /// This is to be said beside what the table says.
    Done(Vec<Revision>),
}

/// Gives stored events their sessions anew, as [`recut_question`] says; `past` is what the table has.
pub(crate) fn recut(rules: &SessionRules, question: &Question, past: &Past) -> Recut {
    match resolve(rules, question, past, &[]) {
        Resolved::Needs { to_ms } => Recut::Needs(Question { to_ms, ..*question }),
        Resolved::Done(found) => Recut::Done(found.revisions),
    }
}

/// What the table has of a visitor in the span of a [`Question`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) visits: Vec<Visit>,
    pub(crate) revisions: Vec<Revision>,
}

/// What the table has of the visitors that were asked for.
pub(crate) type Pasts = StdHashMap<Visitor, Past>;

/// An event that waits for the end of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) visitor: Visitor,
    pub(crate) moment: Moment,
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
    projects: Projects,
    max_visitors: usize,
    recent: HashMap<Visitor, Slot, foldhash::fast::RandomState>,
    older: HashMap<Visitor, Slot, foldhash::fast::RandomState>,
    /// Nobody who is not remembered has an event after this.
    horizon_ms: i64,
    turned_ms: i64,
    block: u32,
    /// Visitors whose events wait for the end of the block, and what was known of them before.
    waiting: HashMap<Visitor, Option<Slot>, foldhash::fast::RandomState>,
    /// Of some visitors a session before the latest: what a device did while it was offline comes at once.
    before: HashMap<Visitor, Slot, foldhash::fast::RandomState>,
    moved: Moved,
}

/// Sessions that began earlier than was known.
#[derive(Debug, Default)]
struct Moved {
    /// What they are called since.
    renamed: HashMap<SessionId, SessionId, foldhash::fast::RandomState>,
    /// What that means for events of earlier blocks.
    revisions: Vec<Revision>,
}

/// An event that is to get its session.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    visitor: Visitor,
    moment: Moment,
    block: u32,
}

impl Moved {
    /// The session of an event that goes on with that of `slot`, or follows on it.
    fn take(&mut self, slot: &mut Slot, placed: Placed, arrival: Arrival) -> SessionId {
        let Arrival { visitor, moment, block } = arrival;
        match placed {
            Placed::Latest => *slot = slot.followed_by(moment, block),
            Placed::Earlier => self.begin_earlier(slot, arrival),
            _ => slot.extend(moment.at_ms),
        }
        SessionId::beginning_at(visitor, slot.start_ms())
    }

    /// As [`Self::take`], of a session that is not the latest; the event may come before it, alone.
    fn take_before(&mut self, slot: &mut Slot, placed: Placed, arrival: Arrival) -> SessionId {
        if matches!(placed, Placed::Alone) {
            slot.preceded_by(arrival.moment, arrival.block);
            return SessionId::beginning_at(arrival.visitor, arrival.moment.at_ms);
        }
        self.take(slot, placed, arrival)
    }

    fn begin_earlier(&mut self, slot: &mut Slot, arrival: Arrival) {
        let Arrival { visitor, moment, block } = arrival;
        let (old, new) = (SessionId::beginning_at(visitor, slot.start_ms()), SessionId::beginning_at(visitor, moment.at_ms));
        if slot.born != block {
            (slot.born, slot.version) = (block, slot.version + 1);
            let version = slot.version.into();
            self.revisions.push(Revision { visitor, from_ms: slot.start_ms(), to_ms: slot.last_ms(), session: new, version });
        }
        slot.begin_earlier(moment);
        self.renamed.insert(old, new);
    }
}

impl Sessions {
    /// Nobody remembered; nobody has an event after `horizon_ms`. Visitors are remembered in two generations of `max_visitors`.
    pub(crate) fn new(projects: Projects, max_visitors: usize, horizon_ms: i64) -> Self {
        Self {
            projects,
            max_visitors,
            recent: HashMap::default(),
            older: HashMap::default(),
            horizon_ms,
            turned_ms: i64::MIN,
            block: 0,
            waiting: HashMap::default(),
            before: HashMap::default(),
            moved: Moved::default(),
        }
    }

    /// Remembers a visitor whose latest event in the table is at `last_ms`, in `session` unless that is in doubt. All that the table
    /// has of it after the horizon must be told.
    pub(crate) fn recall(&mut self, visitor: Visitor, last_ms: i64, session: Option<SessionId>) {
        // The campaign of its first event may lie before what is recalled.
        let session = session.filter(|_| !self.projects.of(visitor.project).sessions.cuts_at_campaign);
        let start_ms = session.and_then(SessionId::start_ms).filter(|start_ms| *start_ms <= last_ms);
        let length_ms = start_ms.and_then(|start_ms| u32::try_from(last_ms - start_ms).ok());
        let (start_ms, length_ms, doubt) = match (start_ms, length_ms) {
            (Some(start_ms), Some(length_ms)) => (start_ms, length_ms, Doubt::None),
            _ => (last_ms, 0, Doubt::Start),
        };
        let slot = Slot::of(Moment { at_ms: start_ms, campaign: Campaign::NONE });
        self.recent.insert(visitor, Slot { length_ms, born: self.block.wrapping_sub(1), version: UNKNOWN, doubt, ..slot });
    }

    /// The session of the next event in the order of the log, or `None` if it waits for the end of the block.
    pub(crate) fn assign(&mut self, visitor: Visitor, moment: Moment) -> Option<SessionId> {
        let (rules, block) = (&self.projects.of(visitor.project).sessions, self.block);
        let at_ms = moment.at_ms;
        let moment = Moment { campaign: rules.seen(moment.campaign), ..moment };
        let older = &mut self.older;
        let latest = match self.recent.entry(visitor) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(free) => match older.remove(&visitor) {
                Some(slot) => free.insert(slot),
                None => {
                    let is_known = at_ms.saturating_sub(rules.idle_gap_ms) > self.horizon_ms;
                    let free_before = minutes(self.horizon_ms, at_ms);
                    let doubt = if is_known { Doubt::None } else { Doubt::All };
                    let version = if is_known { 0 } else { UNKNOWN };
                    free.insert(Slot { born: block, free_before, version, doubt, ..Slot::of(moment) });
                    if !is_known {
                        self.before.remove(&visitor);
                        self.waiting.insert(visitor, None);
                        return None;
                    }
                    return Some(SessionId::beginning_at(visitor, at_ms));
                }
            },
        };
        let arrival = Arrival { visitor, moment, block };
        match latest.place(moment, rules, block) {
            Placed::Unsure => {
                if let Some(before) = self.before.get_mut(&visitor).filter(|_| latest.doubt == Doubt::None && at_ms < latest.start_ms()) {
                    before.free_up_to(latest.start_ms());
                    let placed = before.place(moment, rules, block);
                    if !matches!(placed, Placed::Unsure) {
                        let session = self.moved.take_before(before, placed, arrival);
                        latest.free_since(before.last_ms());
                        return Some(session);
                    }
                }
                let before = (latest.doubt != Doubt::All).then_some(*latest);
                latest.doubt = Doubt::All;
                self.before.remove(&visitor);
                self.waiting.entry(visitor).or_insert(before);
                None
            }
            Placed::Alone => {
                let alone = latest.preceded_by(moment, block);
                if self.before.len() >= self.max_visitors / 8 {
                    self.before.clear();
                }
                self.before.insert(visitor, alone);
                Some(SessionId::beginning_at(visitor, at_ms))
            }
            placed => {
                if matches!(placed, Placed::Earlier)
                    && let Some(before) = self.before.get_mut(&visitor)
                {
                    before.free_up_to(at_ms);
                }
                Some(self.moved.take(latest, placed, arrival))
            }
        }
    }

    /// Whether events wait for the table.
    pub(crate) fn is_waiting(&self, visitor: Visitor) -> bool {
        self.waiting.contains_key(&visitor)
    }

    /// Whether rows of this block are to get another session than they were given.
    pub(crate) fn has_open(&self) -> bool {
        !self.waiting.is_empty() || !self.moved.renamed.is_empty()
    }

    /// What a session is called that began earlier than was known when its first rows were written.
    pub(crate) fn renamed(&self, mut session: SessionId) -> Option<SessionId> {
        let mut renamed = None;
        while let Some(next) = self.moved.renamed.get(&session) {
            (renamed, session) = (Some(*next), *next);
        }
        renamed
    }

    /// What the block gets without asking the table: revisions of sessions that began earlier than was known. Of visitors who wait the
    /// table will tell all.
    pub(crate) fn begin_settling(&mut self) -> Settled {
        let moved = std::mem::take(&mut self.moved.revisions).into_iter().filter(|revision| !self.is_waiting(revision.visitor));
        let revisions =
            moved.map(|revision| Revision { session: self.renamed(revision.session).unwrap_or(revision.session), ..revision }).collect();
        Settled { revisions, ..Settled::default() }
    }

    /// What to ask the table before [`Self::settle`], for all rows of waiting visitors.
    pub(crate) fn questions(&self, rows: &[Row]) -> Vec<Question> {
        let mut spans: BTreeMap<Visitor, (i64, i64)> = BTreeMap::new();
        for Row { visitor, moment: Moment { at_ms, .. }, .. } in rows {
            let (first_ms, last_ms) = spans.entry(*visitor).or_insert((*at_ms, *at_ms));
            (*first_ms, *last_ms) = ((*first_ms).min(*at_ms), (*last_ms).max(*at_ms));
        }
        let rules = |visitor: Visitor| &self.projects.of(visitor.project).sessions;
        spans.into_iter().map(|(visitor, (first_ms, last_ms))| Question::around(rules(visitor), visitor, first_ms, last_ms)).collect()
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
            match resolve(&self.projects.of(question.visitor.project).sessions, question, past, rows) {
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
            Some(before) if before.start_ms() > question.to_ms => {
                Slot { free_before: minutes(before.free_from().max(question.to_ms), before.start_ms()), ..before }
            }
            before => {
                let last_ms = before.map_or(found.span.last_ms, |before| before.last_ms().max(found.span.last_ms));
                let free_after = match before {
                    Some(before) if before.free_after == FOREVER => FOREVER,
                    Some(before) => minutes(last_ms, before.free_until().max(question.to_ms)),
                    // Of a visitor who was not remembered nothing is after the horizon but what this block has.
                    None if question.to_ms >= self.horizon_ms => FOREVER,
                    None => minutes(last_ms, question.to_ms),
                };
                let Span { start_ms, campaign, .. } = found.span;
                let length_ms = u32::try_from(last_ms - start_ms).unwrap_or(u32::MAX);
                let slot = Slot::of(Moment { at_ms: start_ms, campaign });
                Slot { length_ms, born: self.block.wrapping_sub(1), free_after, version: UNKNOWN, ..slot }
            }
        };
        self.recent.insert(visitor, slot);
    }

    /// The block is sealed: its rows are the table's from now on. Visitors who were not seen for long are forgotten; `received_ms` says
    /// how far the log has come.
    pub(crate) fn end_block(&mut self, received_ms: i64) {
        debug_assert!(self.waiting.is_empty(), "all sessions of a block are settled before it is sealed");
        self.moved.renamed.clear();
        self.moved.revisions.clear();
        self.block = self.block.wrapping_add(1);
        let gap_ms = self.projects.longest_gap_ms();
        let is_over = received_ms.saturating_sub(self.turned_ms) > gap_ms || received_ms < self.turned_ms;
        if !is_over && self.recent.len() < self.max_visitors {
            return;
        }
        self.turned_ms = received_ms;
        let forgotten = std::mem::replace(&mut self.older, std::mem::take(&mut self.recent));
        // Those whose clock is ahead are kept while there is room: forgotten they would put everyone else's events in doubt.
        let soon_ms = received_ms.saturating_sub(gap_ms);
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
