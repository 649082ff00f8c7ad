//! How far each person, session or attempt came, of all that a question is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fold::{Budget, Event, Funnel, Journey, TooMuchWork};
use super::rows::{Part, Row, Rows};
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

    /// These and what `rows` add, computed beside the tasks of the runtime. Dropping the future ends it soon.
    ///
    /// # Errors
    /// 422: it is too much work; or memory is full.
    pub(super) async fn with(mut self, rows: Rows, counting: Arc<Counting>) -> Result<Self, Unfolded> {
        let abandoned = Abandoned::default();
        let mut shares: Vec<Vec<Part>> = (0..threads()).map(|_| Vec::new()).collect();
        let number = shares.len();
        let (parts, held) = rows.into_parts();
        let held = Arc::new(held);
        for (index, part) in parts.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(index % number) {
                share.push(part);
            }
        }
        let folded: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let (counting, is_abandoned) = (Arc::clone(&counting), Arc::clone(&abandoned.0));
                let (all, of_parts) = (Self::new(held.another()), Arc::clone(&held));
                tokio::task::spawn_blocking(move || {
                    let folded = all.and(share, &counting, &is_abandoned);
                    drop(of_parts);
                    folded
                })
            })
            .collect();
        for folded in folded {
            let folded = folded.await.unwrap_or_else(|_| Err(QueryError::internal("the events could not be folded").into()));
            self.unite(folded?)?;
        }
        Ok(self)
    }

    /// These and what `parts` add.
    fn and(mut self, parts: Vec<Part>, counting: &Counting, is_abandoned: &Arc<AtomicBool>) -> Result<Self, Unfolded> {
        let (mut events, mut budget) = (Vec::new(), Budget::of(self.held.another(), Arc::clone(is_abandoned)));
        for mut part in parts {
            for of_key in part.by_key() {
                if is_abandoned.load(Ordering::Relaxed) {
                    return Err(QueryError::too_slow().into());
                }
                let rows = part.rows(of_key);
                events.clear();
                events.extend(rows.iter().map(|row| event(&part, *row)));
                let journeys = counting.journeys(&events, &mut budget);
                let journeys = journeys.map_err(|TooMuchWork| budget.full().map_or_else(|| too_much_work().into(), Unfolded::Full))?;
                self.add(&part, rows, &journeys, counting);
            }
            self.hold()?;
        }
        Ok(self)
    }

    fn unite(&mut self, other: Self) -> Result<(), Unfolded> {
        let before = self.passed.len() as u32;
        self.outcomes.extend(other.outcomes.into_iter().map(|outcome| Outcome { first: outcome.first + before, ..outcome }));
        self.passed.extend(other.passed);
        drop(other.held);
        self.hold()
    }

    fn hold(&mut self) -> Result<(), Unfolded> {
        let bytes = self.outcomes.capacity() * size_of::<Outcome>() + self.passed.capacity() * size_of::<Passed>();
        self.held.set(bytes).map_err(Unfolded::Full)
    }

    fn add(&mut self, part: &Part, rows: &[Row], journeys: &[Journey], counting: &Counting) {
        for journey in journeys {
            let (Some(first), Some(last)) = (journey.shown.first(), journey.shown.last()) else { continue };
            let attributed = match counting.attribution {
                Attribution::First => Some(first),
                Attribution::Last => Some(last),
                Attribution::Step(step) => journey.shown.iter().find(|link| link.step == step),
            };
            let row = |event: usize| rows.get(event).copied();
            let group = attributed.and_then(|link| row(link.event)).map_or(0, |row| part.group(row));
            let person = row(first.event).map_or(0, |row| part.person(row));
            let at_ms = |event: usize| row(event).map_or(0, |row| row.at_ms);
            let (begin, length) = (self.passed.len() as u32, journey.shown.len() as u32);
            self.passed.extend(journey.shown.iter().map(|link| Passed { step: link.step, at_ms: at_ms(link.event) }));
            self.outcomes.push(Outcome { person, group, reached: journey.reached, first: begin, length });
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

/// The bits of steps are the lowest, those of exclusions stand above them.
fn event(part: &Part, row: Row) -> Event {
    let steps = row.bits & ((1 << super::fold::MOST_STEPS) - 1);
    let excluded = (row.bits >> super::fold::MOST_STEPS) & ((1 << MOST_EXCLUSIONS) - 1);
    Event { at_ms: row.at_ms, steps, excluded, held: part.held(row) }
}
