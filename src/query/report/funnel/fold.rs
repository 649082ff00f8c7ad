//! What the events of one person (or of one session) make of a funnel. Pure: no engine, no clock.
//!
//! A chain is decided by existence, never by what a greedy walk happens to find: the answer is that of trying all chains, which the tests
//! do. [`ordered`] keeps, for each step, the one chain that is the latest in every step at once: of two chains to the same event the later
//! one in each step is a chain too, for neither order, window nor exclusions mind a later beginning. The chain that is shown is found by the
//! same reasoning from the end. Within a millisecond, where events have no order and each fills one step, steps are matched to events.
//!
//! Most histories have no ties and most funnels nothing but steps: [`plain`] is enough for them, and what the questions of every day cost.
//!
//! Cost: n events and k steps take n·log n for the order and n·k² at most, whatever the history looks like; where many events of one
//! millisecond fit several steps each, or a question combines `unordered` or `strict` with what multiplies their chains, work is counted
//! and the question refused beyond [`MOST_WORK`].

mod attempts;
mod matching;
mod ordered;
mod plain;
mod shown;
mod strict;
mod unordered;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::query::reader::{Held, OutOfMemory};

/// Most steps of a funnel.
pub(super) const MOST_STEPS: usize = 20;
/// Most units of work on a question, of some nanoseconds each: twenty times what the most events that are held take in a plain funnel.
const MOST_WORK: u64 = 3_000_000_000;
/// After so much work it is looked whether anybody still waits.
const LOOKS: u64 = 1 << 16;
/// Memory is counted in pieces of this, bytes.
const HELD_AT_ONCE: usize = 64 << 10;

/// In which order steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other.
    Ordered,
    /// The same, and nothing in between.
    Strict,
    /// As it comes.
    Unordered,
}

/// Events that must not happen strictly between two steps, which are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Between {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// An exclusion and its number.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    number: usize,
    from: usize,
    to: usize,
}

/// A funnel as far as the fold sees it.
#[derive(Clone, Debug)]
pub(super) struct Funnel {
    pub(super) steps: usize,
    /// A bit for each step that may be left out; never the first.
    pub(super) optional: u32,
    pub(super) order: Order,
    pub(super) window_ms: i64,
    /// By number; an event says in [`Event::excluded`] which of them it matches.
    pub(super) exclusions: Vec<Between>,
    /// When a chain may begin, milliseconds since 1970.
    pub(super) entries: Range<i64>,
}

/// An event of one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at_ms: i64,
    /// A bit for each step that it matches.
    pub(super) steps: u32,
    /// A bit for each exclusion that it matches.
    pub(super) excluded: u32,
    /// What it holds of the fields that a chain must hold; the same number is the same values.
    pub(super) held: u64,
}

/// An event in its place in a chain: the step, and the number of the event among all that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) step: usize,
    pub(super) event: usize,
}

/// How far somebody came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Journey {
    /// A bit for each bar that counts it.
    pub(super) reached: u32,
    /// The chain that is shown, from its first event on.
    pub(super) shown: Vec<Link>,
}

/// The question takes more work, or more memory for a single history, than it may, or nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuchWork;

/// What is left to a question, of work and of memory.
#[derive(Debug)]
pub(super) struct Budget {
    work: u64,
    /// What the history that is folded keeps beside its events, bytes.
    kept: usize,
    /// What of it is counted among what questions hold.
    held: Held,
    /// Why it may keep no more, once that is for what others hold.
    full: Option<OutOfMemory>,
    is_abandoned: Arc<AtomicBool>,
}

impl Budget {
    /// That of a question which has not begun: it holds of `held` what it needs, and ends soon once it is abandoned.
    pub(super) fn of(held: Held, is_abandoned: Arc<AtomicBool>) -> Self {
        Self { work: MOST_WORK, kept: 0, held, full: None, is_abandoned }
    }

    fn spend(&mut self, units: u64) -> Result<(), TooMuchWork> {
        let before = self.work / LOOKS;
        self.work = self.work.checked_sub(units).ok_or(TooMuchWork)?;
        if self.work / LOOKS != before && self.is_abandoned.load(Ordering::Relaxed) {
            return Err(TooMuchWork);
        }
        Ok(())
    }

    /// Keeps so many bytes more, until the history is done or they are released.
    fn keep(&mut self, bytes: usize) -> Result<(), TooMuchWork> {
        self.kept += bytes;
        if self.kept > self.held.bytes() {
            let needed = self.kept.next_multiple_of(HELD_AT_ONCE);
            if needed > self.held.limit() {
                // However little is held beside it.
                return Err(TooMuchWork);
            }
            self.held.set(needed).map_err(|full| {
                self.full = Some(full);
                TooMuchWork
            })?;
        }
        Ok(())
    }

    /// Why a history was refused, if that is for what is held beside it.
    pub(super) fn full(&self) -> Option<OutOfMemory> {
        self.full
    }

    fn release(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_sub(bytes);
    }

    /// A history is done, and with it all that it kept.
    fn release_all(&mut self) {
        self.kept = 0;
        // Giving back always succeeds.
        let _ = self.held.set(0);
    }
}

impl Funnel {
    /// The journey of those whose events these are, in order; none if they never enter.
    ///
    /// # Errors
    /// It takes too much work.
    pub(super) fn journey(&self, events: &[Event], budget: &mut Budget) -> Result<Option<Journey>, TooMuchWork> {
        if plain::is_plain(self, events) {
            budget.spend(events.len() as u64)?;
            return Ok(plain::journey(self, events));
        }
        let journey = self.searched(events, budget);
        budget.release_all();
        journey
    }

    /// The journey, whatever the history looks like.
    fn searched(&self, events: &[Event], budget: &mut Budget) -> Result<Option<Journey>, TooMuchWork> {
        budget.keep(events.len() * (2 * size_of::<Candidate>() + self.exclusions.len() * size_of::<i64>()))?;
        let excluded = ExcludedTimes::of(self, events);
        if self.order == Order::Strict {
            return strict::journey(self, events, &excluded, budget);
        }
        let mut best: Option<Journey> = None;
        for of_held in by_held(events) {
            let history = History { funnel: self, events: &of_held, excluded: &excluded };
            let journey = match self.order {
                Order::Unordered => unordered::journey(history, budget)?,
                _ => ordered::journey(history, budget)?,
            };
            best = [best, journey].into_iter().flatten().reduce(|left, right| left.united(right, self.order));
        }
        Ok(best)
    }

    /// Each time that somebody whose events these are, in order, begins: an attempt, which no other shares events with.
    ///
    /// # Errors
    /// It takes too much work, or memory.
    pub(super) fn attempts(&self, events: &[Event], budget: &mut Budget) -> Result<Vec<Journey>, TooMuchWork> {
        let attempts = attempts::attempts(self, events, budget);
        budget.release_all();
        attempts
    }

    /// The exclusions, each with its number.
    fn numbered(&self) -> impl Iterator<Item = Numbered> {
        self.exclusions.iter().enumerate().map(|(number, Between { from, to })| Numbered { number, from: *from, to: *to })
    }

    /// Whether a step may be left out.
    fn is_optional(&self, step: usize) -> bool {
        self.optional & (1 << step) != 0
    }

    /// The last step before this one that no chain leaves out.
    fn needed_before(&self, step: usize) -> usize {
        (0..step).rev().find(|before| !self.is_optional(*before)).unwrap_or(0)
    }
}

impl Journey {
    /// That of one who made both: each bar that counts either, and the better one of both chains.
    fn united(self, other: Self, order: Order) -> Self {
        let reached = self.reached | other.reached;
        let shown = if other.is_shown_before(&self, order) { other.shown } else { self.shown };
        Self { reached, shown }
    }

    /// Whether its chain is the one to show of two: the deeper; of two as deep the one that starts first; of those the one with the
    /// earlier event at the first step in which they differ. One that leaves the step out is behind one that does not.
    fn is_shown_before(&self, other: &Self, order: Order) -> bool {
        let depth = |journey: &Self| match order {
            Order::Unordered => journey.shown.len(),
            _ => journey.shown.last().map_or(0, |link| link.step + 1),
        };
        let start = |journey: &Self| journey.shown.first().map(|link| link.event);
        let at = |journey: &Self, step| journey.shown.iter().find(|link| link.step == step).map_or(usize::MAX, |link| link.event);
        let by_step = || (0..MOST_STEPS).map(|step| at(self, step).cmp(&at(other, step))).find(|order| order.is_ne());
        let order = depth(other).cmp(&depth(self)).then_with(|| start(self).cmp(&start(other)));
        order.then_with(|| by_step().unwrap_or(std::cmp::Ordering::Equal)).is_lt()
    }
}

/// When each exclusion's events happened, in order.
struct ExcludedTimes(Vec<Vec<i64>>);

impl ExcludedTimes {
    fn of(funnel: &Funnel, events: &[Event]) -> Self {
        let times =
            |exclusion: usize| events.iter().filter(|event| event.excluded & (1 << exclusion) != 0).map(|event| event.at_ms).collect();
        Self((0..funnel.exclusions.len()).map(times).collect())
    }

    /// Whether one of the exclusion's events lies strictly between two times, the first of which is not the later one.
    fn is_between(&self, exclusion: usize, from_ms: i64, until_ms: i64) -> bool {
        self.after(exclusion, from_ms) < until_ms
    }

    /// The first of the exclusion's events after a time.
    fn after(&self, exclusion: usize, at_ms: i64) -> i64 {
        let times = self.0.get(exclusion).map_or(&[][..], Vec::as_slice);
        times.get(times.partition_point(|time| *time <= at_ms)).copied().unwrap_or(i64::MAX)
    }
}

/// An event that fits a step.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Its number among all events.
    event: usize,
    at_ms: i64,
    steps: u32,
}

/// Events of which chains are made: in order, and all of them hold the same.
#[derive(Clone, Copy)]
struct History<'h> {
    funnel: &'h Funnel,
    events: &'h [Candidate],
    excluded: &'h ExcludedTimes,
}

impl<'h> History<'h> {
    /// Those of each millisecond, in order.
    fn moments(self) -> impl DoubleEndedIterator<Item = &'h [Candidate]> {
        self.events.chunk_by(|left, right| left.at_ms == right.at_ms)
    }
}

/// The events that fit steps, by what they hold.
fn by_held(events: &[Event]) -> Vec<Vec<Candidate>> {
    let fits = events.iter().enumerate().filter(|(_, event)| event.steps != 0);
    let mut held: Vec<(u64, Candidate)> =
        fits.map(|(number, event)| (event.held, Candidate { event: number, at_ms: event.at_ms, steps: event.steps })).collect();
    // Stable: what holds the same stays in order.
    held.sort_by_key(|(held, _)| *held);
    held.chunk_by(|left, right| left.0 == right.0).map(|run| run.iter().map(|(_, candidate)| *candidate).collect()).collect()
}

/// The steps whose bits are set, from the last to the first.
fn steps_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let step = left.checked_ilog2()?;
        left ^= 1 << step;
        Some(step as usize)
    })
}

#[cfg(test)]
mod tests;
