//! How far each person, session or attempt came, of all that a question is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fold::{Budget, Event, Funnel, Journey, TooMuchWork};
use super::rows::{Masks, Part, Taken};
use super::steps::MOST_EXCLUSIONS;
use crate::query::error::QueryError;
use crate::query::reader::{Held, OutOfMemory};

/// Most threads that fold one question.
const MOST_THREADS: usize = 4;

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
    held: Held,
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
        Self { outcomes: Vec::new(), passed: Vec::new(), held }
    }

    pub(super) fn all(&self) -> &[Outcome] {
        &self.outcomes
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
    /// 422: it is too much work; or memory is full.
    pub(super) async fn of(taken: Taken, counting: Arc<Counting>) -> Result<Self, Unfolded> {
        let abandoned = Abandoned::default();
        let mut shares: Vec<Vec<Part>> = (0..threads()).map(|_| Vec::new()).collect();
        let number = shares.len();
        let Taken { parts, masks, held } = taken;
        let mut all = Self::new(held.another());
        let (held, masks) = (Arc::new(held), Arc::new(masks));
        for (index, part) in parts.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(index % number) {
                share.push(part);
            }
        }
        let folded: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let (counting, is_abandoned) = (Arc::clone(&counting), Arc::clone(&abandoned.0));
                let (of_share, of_parts, masks) = (Self::new(held.another()), Arc::clone(&held), Arc::clone(&masks));
                tokio::task::spawn_blocking(move || {
                    let folded = of_share.and(share, &masks, &counting, &is_abandoned);
                    drop(of_parts);
                    folded
                })
            })
            .collect();
        drop(held);
        for folded in folded {
            let folded = folded.await.unwrap_or_else(|_| Err(QueryError::internal("the events could not be folded").into()));
            all.unite(folded?).map_err(Unfolded::Full)?;
        }
        Ok(all)
    }

    /// These and what `parts` add.
    fn and(mut self, parts: Vec<Part>, masks: &Masks, counting: &Counting, is_abandoned: &Arc<AtomicBool>) -> Result<Self, Unfolded> {
        let (mut events, mut budget) = (Vec::new(), Budget::of(self.held.another(), Arc::clone(is_abandoned)));
        for mut part in parts {
            let mut order = self.held.another();
            order.set(part.order_bytes()).map_err(Unfolded::Full)?;
            let by_key = part.by_key();
            drop(order);
            for of_key in by_key {
                if is_abandoned.load(Ordering::Relaxed) {
                    return Err(QueryError::too_slow().into());
                }
                events.clear();
                events.extend(of_key.clone().zip(part.rows(of_key.clone())).map(|(number, row)| {
                    let bits = masks.of(*row);
                    // The bits of steps are the lowest, those of exclusions stand above them.
                    let steps = bits & ((1 << super::fold::MOST_STEPS) - 1);
                    let excluded = (bits >> super::fold::MOST_STEPS) & ((1 << MOST_EXCLUSIONS) - 1);
                    Event { at_ms: row.at_ms(), steps, excluded, held: part.held(number) }
                }));
                let journeys = counting.journeys(&events, &mut budget);
                let journeys = journeys.map_err(|TooMuchWork| budget.full().map_or_else(|| too_much_work().into(), Unfolded::Full))?;
                self.add(&part, of_key.start, &journeys, counting);
            }
            self.hold().map_err(Unfolded::Full)?;
        }
        Ok(self)
    }

    /// Takes others beside these.
    ///
    /// # Errors
    /// Both are more than memory may hold.
    pub(super) fn unite(&mut self, other: Self) -> Result<(), OutOfMemory> {
        let before = self.passed.len() as u32;
        self.outcomes.extend(other.outcomes.into_iter().map(|outcome| Outcome { first: outcome.first + before, ..outcome }));
        self.passed.extend(other.passed);
        drop(other.held);
        self.hold()
    }

    fn hold(&mut self) -> Result<(), OutOfMemory> {
        let bytes = self.outcomes.capacity() * size_of::<Outcome>() + self.passed.capacity() * size_of::<Passed>();
        self.held.set(bytes)
    }

    /// Adds those of one whose events begin at the number `first` of the part.
    fn add(&mut self, part: &Part, first: usize, journeys: &[Journey], counting: &Counting) {
        for journey in journeys {
            let (Some(begin), Some(end)) = (journey.shown.first(), journey.shown.last()) else { continue };
            let attributed = match counting.attribution {
                Attribution::First => Some(begin),
                Attribution::Last => Some(end),
                Attribution::Step(step) => journey.shown.iter().find(|link| link.step == step),
            };
            let group = attributed.map_or(0, |link| part.group(first + link.event));
            let person = part.person(first + begin.event);
            let at_ms = |event: usize| part.rows(first + event..first + event + 1).first().map_or(0, |row| row.at_ms());
            let (from, length) = (self.passed.len() as u32, journey.shown.len() as u32);
            self.passed.extend(journey.shown.iter().map(|link| Passed { step: link.step, at_ms: at_ms(link.event) }));
            self.outcomes.push(Outcome { person, group, reached: journey.reached, first: from, length });
        }
    }
}

impl Counting {
    fn journeys(&self, events: &[Event], budget: &mut Budget) -> Result<Vec<Journey>, TooMuchWork> {
        match self.each_attempt {
            true => self.funnel.attempts(events, budget),
            false => Ok(self.funnel.journey(events, budget)?.into_iter().collect()),
        }
    }
}
