//! How far each person, session or attempt came, of all that a question is about.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fold::{Budget, Event, Funnel, Journey, Link, MOST_STEPS, TooMuchWork};
use super::packed::Clock;
use super::part::Part;
use super::rows::Taken;
use super::steps::MOST_EXCLUSIONS;
use crate::query::error::QueryError;
use crate::query::reader::{Held, OutOfMemory};

/// Most threads that fold one question.
const MOST_THREADS: usize = 4;
/// Most whose events are read once more with their places in the log: a statement names each of them.
const MOST_TIED: usize = 100_000;

/// Which event of a chain says in which line it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribution {
    First,
    Last,
    /// The one at this step, numbered from 0.
    Step(usize),
}

/// How chains are counted.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    pub(super) funnel: Funnel,
    pub(super) attribution: Attribution,
    /// Whether each beginning counts by itself.
    pub(super) each_attempt: bool,
    /// Whether it matters in which order events of one millisecond stand in the log.
    pub(super) places_matter: bool,
}

/// A step of the chain that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) step: usize,
    pub(super) at_ms: i64,
}

/// How far one came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) person: u64,
    /// The number of the value that it counts for; 0 where there is none.
    pub(super) group: u64,
    /// A bit for each bar.
    reached: u32,
    first: u32,
    length: u32,
}

impl Outcome {
    /// Whether a bar, numbered from 0, counts it.
    pub(super) fn reaches(&self, bar: usize) -> bool {
        self.reached & (1 << bar) != 0
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Outcomes {
    outcomes: Vec<Outcome>,
    passed: Vec<Passed>,
    /// The keys of those who have no outcome yet: it depends on places in the log that were not read.
    tied: Vec<u64>,
    held: Held,
}

/// What the parts hold that are not folded yet.
#[derive(Debug)]
struct Waiting(Mutex<Held>);

impl Waiting {
    /// Gives back what a part held that is folded.
    fn release(&self, bytes: usize) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.bytes().saturating_sub(bytes);
        // Giving back always succeeds.
        let _ = held.set(left);
    }
}

/// How events are folded, the same for all parts of a question.
#[derive(Clone, Debug)]
struct Folding {
    counting: Arc<Counting>,
    clock: Clock,
    /// Whether those are left out whose outcome depends on places in the log.
    leaves_ties: bool,
    waiting: Arc<Waiting>,
    is_abandoned: Arc<AtomicBool>,
}

/// Set when nobody waits for a fold any more.
#[derive(Debug, Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many threads fold one question: as many as there are cores, up to a few.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

fn too_much_work() -> QueryError {
    QueryError::too_expensive(
        "the histories of some people are too large for this funnel: ask for fewer steps, a shorter window, or without `exclusions` where \
         the order is `unordered`",
    )
}

/// Why events were not folded.
#[derive(Debug)]
pub(super) enum Unfolded {
    /// What came of them is more than memory may hold beside them.
    Full(OutOfMemory),
    /// Too many depend on places in the log that were not read.
    Tied,
    Failed(QueryError),
}

impl From<QueryError> for Unfolded {
    fn from(problem: QueryError) -> Self {
        Self::Failed(problem)
    }
}

impl Outcomes {
    /// None yet; `held` is what they hold.
    pub(super) fn new(held: Held) -> Self {
        Self { outcomes: Vec::new(), passed: Vec::new(), tied: Vec::new(), held }
    }

    pub(super) fn all(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The keys of those who have no outcome yet, once.
    pub(super) fn take_tied(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.tied)
    }

    /// The chain that is shown of an outcome.
    pub(super) fn chain(&self, outcome: &Outcome) -> &[Passed] {
        let first = outcome.first as usize;
        self.passed.get(first..first + outcome.length as usize).unwrap_or_default()
    }

    /// When an outcome's chain begins.
    pub(super) fn entry_ms(&self, outcome: &Outcome) -> i64 {
        self.chain(outcome).first().map_or(0, |first| first.at_ms)
    }

    /// What `taken` come to, computed beside the tasks of the runtime. Dropping the future ends it soon.
    ///
    /// # Errors
    /// 422: it is too much work; or memory is full; or too many depend on places in the log that were not read.
    pub(super) async fn of(taken: Taken, counting: Arc<Counting>) -> Result<Self, Unfolded> {
        let abandoned = Abandoned::default();
        let mut shares: Vec<Vec<Part>> = (0..threads()).map(|_| Vec::new()).collect();
        let number = shares.len();
        let Taken { parts, columns, clock, held } = taken;
        let mut all = Self::new(held.another());
        for (index, part) in parts.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(index % number) {
                share.push(part);
            }
        }
        let leaves_ties = counting.places_matter && !columns.place;
        let of_shares: Vec<Self> = shares.iter().map(|_| Self::new(held.another())).collect();
        let waiting = Arc::new(Waiting(Mutex::new(held)));
        let folding = Folding { counting, clock, leaves_ties, waiting, is_abandoned: Arc::clone(&abandoned.0) };
        let folded: Vec<_> = shares
            .into_iter()
            .zip(of_shares)
            .map(|(share, of_share)| {
                let folding = folding.clone();
                tokio::task::spawn_blocking(move || of_share.and(share, &folding))
            })
            .collect();
        drop(folding);
        for folded in folded {
            let folded = folded.await.unwrap_or_else(|_| Err(QueryError::internal("the events could not be folded").into()));
            let folded = folded?;
            if !all.can_name_ties_of(&folded) {
                return Err(Unfolded::Tied);
            }
            all.unite(folded).map_err(Unfolded::Full)?;
        }
        Ok(all)
    }

    /// These and what `parts` add.
    fn and(mut self, parts: Vec<Part>, folding: &Folding) -> Result<Self, Unfolded> {
        let mut budget = Budget::of(self.held.another(), Arc::clone(&folding.is_abandoned));
        for mut part in parts {
            let (bytes, mut order) = (part.bytes(), self.held.another());
            order.set(part.order_bytes()).map_err(Unfolded::Full)?;
            let by_key = part.by_key(folding.clock);
            // What was unpacked stays beside.
            order.set(part.bytes().saturating_sub(bytes)).map_err(Unfolded::Full)?;
            self.add_part(&part, by_key, folding, &mut budget)?;
            drop(part);
            folding.waiting.release(bytes);
            self.hold().map_err(Unfolded::Full)?;
        }
        Ok(self)
    }

    fn add_part(&mut self, part: &Part, by_key: Vec<Range<usize>>, folding: &Folding, budget: &mut Budget) -> Result<(), Unfolded> {
        let (clock, counting, mut events) = (folding.clock, &folding.counting, Vec::new());
        for of_key in by_key {
            if folding.is_abandoned.load(Ordering::Relaxed) {
                return Err(QueryError::too_slow().into());
            }
            if folding.leaves_ties && part.is_tied(clock, of_key.clone()) {
                self.leave(part.key(of_key.start))?;
                continue;
            }
            events.clear();
            events.extend(of_key.clone().map(|number| event(part, clock, number)));
            let of = Histories { part, clock, of_key };
            let added = counting.each(&events, budget, |journey| self.add(&of, journey, counting));
            added.map_err(|TooMuchWork| budget.full().map_or_else(|| too_much_work().into(), Unfolded::Full))?;
        }
        Ok(())
    }

    /// Leaves out the one of that key.
    fn leave(&mut self, key: u64) -> Result<(), Unfolded> {
        if self.tied.len() == MOST_TIED {
            return Err(Unfolded::Tied);
        }
        self.tied.push(key);
        Ok(())
    }

    /// Whether one statement can name all that these and others leave out.
    pub(super) fn can_name_ties_of(&self, other: &Self) -> bool {
        self.tied.len() + other.tied.len() <= MOST_TIED
    }

    /// Takes others beside these.
    ///
    /// # Errors
    /// Both are more than memory may hold.
    pub(super) fn unite(&mut self, other: Self) -> Result<(), OutOfMemory> {
        let before = self.passed.len() as u32;
        self.outcomes.extend(other.outcomes.into_iter().map(|outcome| Outcome { first: outcome.first + before, ..outcome }));
        self.passed.extend(other.passed);
        self.tied.extend(other.tied);
        drop(other.held);
        self.hold()
    }

    fn hold(&mut self) -> Result<(), OutOfMemory> {
        let bytes = self.outcomes.capacity() * size_of::<Outcome>() + self.passed.capacity() * size_of::<Passed>();
        self.held.set(bytes + self.tied.capacity() * size_of::<u64>())
    }

    /// Adds what came of the events of one key, or of some of them.
    fn add(&mut self, of: &Histories<'_>, journey: &Journey, counting: &Counting) {
        let Histories { part, clock, of_key } = of;
        let (Some(begin), Some(end)) = (journey.shown.first(), journey.shown.last()) else { return };
        let attributed = match counting.attribution {
            Attribution::First => Some(begin),
            Attribution::Last => Some(end),
            Attribution::Step(step) => journey.shown.iter().find(|link| link.step == step),
        };
        let group = attributed.map_or(0, |link| part.kind(*clock, of_key.start + link.event).group);
        let person = part.person(of_key.start + begin.event);
        let (first, length) = (self.passed.len() as u32, journey.shown.len() as u32);
        let passed = |link: &Link| Passed { step: link.step, at_ms: part.at_ms(*clock, of_key.start + link.event) };
        self.passed.extend(journey.shown.iter().map(passed));
        self.outcomes.push(Outcome { person, group, reached: journey.reached, first, length });
    }
}

/// Where the events of one key are among those of their part.
struct Histories<'p> {
    part: &'p Part,
    clock: Clock,
    of_key: Range<usize>,
}

/// An event of a part as the fold sees it.
fn event(part: &Part, clock: Clock, number: usize) -> Event {
    let kind = part.kind(clock, number);
    // The bits of steps are the lowest, those of exclusions stand above them.
    let steps = kind.bits & ((1 << MOST_STEPS) - 1);
    let excluded = (kind.bits >> MOST_STEPS) & ((1 << MOST_EXCLUSIONS) - 1);
    Event { at_ms: part.at_ms(clock, number), steps, excluded, held: kind.held }
}

impl Counting {
    /// Hands on what these events of one key count as.
    fn each(&self, events: &[Event], budget: &mut Budget, add: impl FnMut(&Journey)) -> Result<(), TooMuchWork> {
        match self.each_attempt {
            true => self.funnel.attempts(events, budget)?.iter().for_each(add),
            false => self.funnel.journey(events, budget)?.iter().for_each(add),
        }
        Ok(())
    }
}
