//! What a funnel reads of the store: which events, what of each, and in how many passes.
//!
//! A pass holds the events of some people until they are folded. Where events stand in the log is not read at first: it tells in the outcome
//! of those alone who have two different events in one millisecond. They are left over, and theirs are read once more.

use std::sync::Arc;

use super::outcomes::{Attribution, Counting, Outcomes, Unfolded};
use super::packed::Clock;
use super::rows::{self, Columns, Full, PARTS, Parts, Rows};
use super::steps::{self, Step};
use super::{Count, Funnel, Order, lines};
use crate::query::ask::breakdown::hash;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Expr, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{OutOfMemory, StatementRunner};
use crate::store::revisions::SESSION;

/// The events are read so many times at most, each time of other persons.
const MOST_PASSES: usize = 64;

impl Funnel {
    /// What is read of events, but for their places in the log.
    pub(super) fn columns(&self) -> Columns {
        let (held, group, person) = (self.hold.is_some(), self.breakdown.by.is_some(), self.count == Count::Sessions);
        Columns { held, group, person, place: false }
    }

    /// Whether the order of events of one millisecond can tell in an answer.
    pub(super) fn places_matter(&self) -> bool {
        let group = self.breakdown.by.is_some();
        // Where no event fits two steps, all orders within a millisecond make chains of the same times.
        group || self.order == Order::Strict || self.count == Count::Totals || !steps::are_disjoint(&self.steps)
    }

    /// The events of a scope that are looked at.
    fn events(&self, scope: Scope) -> Selection {
        let events = Selection::of(scope).filters(&self.filters);
        let exclusions = self.exclusions.iter().map(|exclusion| &exclusion.events);
        let types = steps::types(self.steps.iter().map(|step| &step.events).chain(exclusions));
        match types.filter(|_| self.order != Order::Strict) {
            Some(types) => events.and(Expr::from("type IN ").then(Expr::texts(types))),
            None => events,
        }
    }

    /// The events of `scope` that fit a step.
    pub(super) fn step_events(&self, scope: Scope) -> Selection {
        self.events_of(scope, &self.steps)
    }

    /// The events of `scope` that can say in which line their chain counts.
    pub(super) fn attributed_events(&self, scope: Scope) -> Selection {
        self.events_of(scope, self.attributed_step().and_then(|step| self.steps.get(step..=step)).unwrap_or(&self.steps))
    }

    /// The events of `scope` that fit one of these steps.
    fn events_of(&self, scope: Scope, steps: &[Step]) -> Selection {
        let events = || steps.iter().map(|step| &step.events);
        let types = steps::types(events()).filter(|_| events().all(steps::Events::is_types_alone));
        match types {
            Some(types) => Selection::of(scope).filters(&self.filters).and(Expr::from("type IN ").then(Expr::texts(types))),
            None => self.events(scope).and(steps::bits(events(), scope, 0).grouped().then(" != 0")),
        }
    }

    /// The step whose event says in which line a chain counts; none if it can be any.
    fn attributed_step(&self) -> Option<usize> {
        match self.attribution {
            // Steps as they come begin with any of them.
            Attribution::First => (self.order != Order::Unordered).then_some(0),
            Attribution::Step(step) => Some(step),
            Attribution::Last => None,
        }
    }

    /// Reads events: key, time, bits, and what [`Columns`] names.
    fn statement(&self, scope: Scope, reading: &Reading, parts: &Parts) -> Expr {
        let steps = steps::bits(self.steps.iter().map(|step| &step.events), scope, 0);
        let steps = match &self.hold {
            Some(hold) => {
                let is_missing = Expr::any(hold.fields.iter().map(|field| field.is_missing().grouped()));
                Expr::call("if", [is_missing, "0".into(), steps])
            }
            None => steps,
        };
        let excluded = steps::bits(self.exclusions.iter().map(|exclusion| &exclusion.events), scope, super::fold::MOST_STEPS);
        let bits = if self.exclusions.is_empty() { steps } else { Expr::list(" + ", [steps, excluded]) };
        let key = if self.count == Count::Sessions { hash(SESSION.into()) } else { PERSON.into() };
        let mut columns = Select::default()
            .named(lines::plain(key, "UInt64"), " AS key")
            .column("toUnixTimestamp64Milli(timestamp)")
            .named(lines::plain(bits, "UInt32"), " AS bits");
        if let Some(hold) = &self.hold {
            columns = columns.column(lines::plain(hash(hold.key()), "UInt64"));
        }
        if let Some(by) = &self.breakdown.by {
            columns = columns.column(self.attributed(lines::number(by)));
        }
        if reading.columns.person {
            columns = columns.column(lines::plain(PERSON.into(), "UInt64"));
        }
        if reading.columns.place {
            columns = columns.column("log_epoch").column("log_partition").column("log_offset * 65536 + log_index");
        }
        let events = self.events(scope);
        let events = if self.order == Order::Strict || self.are_types_alone() { events } else { events.and("bits != 0") };
        let events = if parts.len() == PARTS { events } else { events.and(rows::is_of(parts)) };
        columns.from(match &reading.keys {
            Some(keys) => events.and(Expr::from("key IN ").then(Expr::uints(keys.iter().copied()))),
            None => events,
        })
    }

    /// The number of a value of the breakdown, where an event can be the one that says in which line its chain counts.
    fn attributed(&self, number: Expr) -> Expr {
        let Some(step) = self.attributed_step() else { return number };
        let is_of_step = Expr::from("bitTest(bits, ").then(Expr::uint(step as u64)).then(")");
        Expr::call("if", [is_of_step, number, "toUInt64(0)".into()])
    }

    /// Whether the types of events alone say that they fit a step or an exclusion.
    pub(super) fn are_types_alone(&self) -> bool {
        let exclusions = self.exclusions.iter().map(|exclusion| &exclusion.events);
        self.hold.is_none() && self.steps.iter().map(|step| &step.events).chain(exclusions).all(steps::Events::is_types_alone)
    }
}

/// What is read of events, and whose: those of all, or those of these keys.
pub(super) struct Reading {
    pub(super) columns: Columns,
    pub(super) keys: Option<Vec<u64>>,
}

/// Reads events and folds them, in as many passes as memory needs, each of the people of some parts.
pub(super) struct Passes<'f> {
    pub(super) funnel: &'f Funnel,
    /// Until when events are looked at.
    pub(super) seen: Range,
    pub(super) counting: Arc<Counting>,
    /// What has come of them.
    pub(super) outcomes: &'f mut Outcomes,
    /// Whether others hold what it may hold as well: then it may be answered alone where there is no room for it.
    pub(super) shares_memory: bool,
}

impl Passes<'_> {
    /// Reads what `reading` says and folds it; `scanned` is all of it where it was read already.
    ///
    /// # Errors
    /// 422 where it is too much whatever the number of passes; [`QueryError::no_room`] where there is none beside others; and those of the store.
    pub(super) async fn run(
        &mut self,
        runner: &mut StatementRunner<'_>,
        mut reading: Reading,
        mut scanned: Option<Rows>,
    ) -> Result<(), QueryError> {
        let (scope, clock) = (runner.scope(&self.seen), Clock::of(self.seen.from_ms, self.seen.until_ms));
        let (mut from, mut most) = (0, PARTS);
        for _ in 0..MOST_PASSES {
            // As many of each pass, for what is let go of was moved for nothing.
            let passes = (PARTS - from).div_ceil(most);
            let parts = from..from + (PARTS - from).div_ceil(passes);
            let rows = match scanned.take() {
                Some(rows) => rows,
                None => {
                    let mut rows = Rows::new(reading.columns, clock, parts.clone(), runner.memory());
                    runner.blocks(self.funnel.statement(scope, &reading, &parts).into(), |block| rows.take(block)).await?;
                    rows
                }
            };
            let until = rows.until().map_err(|full| self.refusal(full))?;
            most = until - from;
            match runner.within_deadline(Outcomes::of(rows.taken(), Arc::clone(&self.counting))).await? {
                Ok(of_parts) if self.outcomes.can_name_ties_of(&of_parts) => {
                    let united = self.outcomes.unite(of_parts);
                    united.map_err(|why| self.refusal(Full::Memory(why)))?;
                    from = until;
                }
                Ok(_) | Err(Unfolded::Tied) => reading.columns.place = true,
                // What came of them did not fit beside them.
                Err(Unfolded::Full(_)) if most > 1 && !self.shares_memory => most = most.div_ceil(4),
                Err(Unfolded::Full(why)) => return Err(self.refusal(Full::Memory(why))),
                Err(Unfolded::Failed(problem)) => return Err(problem),
            }
            if from == PARTS {
                return Ok(());
            }
        }
        Err(self.refusal(Full::Memory(OutOfMemory::Question)))
    }

    /// Why it is refused.
    fn refusal(&self, full: Full) -> QueryError {
        match full {
            Full::Memory(_) if self.shares_memory => QueryError::no_room(),
            full => too_many(full),
        }
    }
}

/// Why a funnel is refused whose events are more than memory may hold, however few are looked at at once.
fn too_many(full: Full) -> QueryError {
    match full {
        Full::Memory(OutOfMemory::All) => QueryError::out_of_memory(),
        Full::Memory(OutOfMemory::Question) => QueryError::too_expensive(
            "the funnel has more events, people or attempts than memory may hold: ask for a shorter range or window, or for steps with fewer \
             events",
        ),
        Full::Kinds => QueryError::too_expensive(
            "the events fit the steps, and differ in the breakdown, in too many ways: ask for a shorter range, fewer steps, or another breakdown",
        ),
    }
}
