//! A sample of the events of a question that asks for one, and how far its counts may be off.
//!
//! Events are stored by type and time, so those of a few [`slices`] of the time are found without reading the others: what a sample costs
//! does not grow with what is stored. As many slices are looked at whether the events are spread over the time or not. Where a
//! question is about events of any type, types that are rare are looked at as a whole, as long as all of them together are few. How many events of a kind
//! there are, and by how much more or less, says [`estimate`]. A question that is asked again finds the same events. Nothing is sampled
//! unless the question says so, and whatever its filters, few events of a type are all looked at.
//!
//! May go wrong: who has very many types that are all frequent reads a part of each for each slice. Events that all come at a few
//! moments, in none of the slices, are all looked at.

mod estimate;
mod slices;

use std::collections::VecDeque;

use self::estimate::{Part, Seen};
use self::slices::{Slices, Span};
use crate::query::ask::selection::{Selection, Traffic};
use crate::query::ask::{EventMatch, Expr, Scope, Select};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, StatementRunner};

/// Up to this many events all are looked at: half a second of work on two cores.
const WHOLE: u64 = 500_000;
/// About as many a sample has, and types that are looked at as a whole have no more together.
const EVENTS: u64 = 200_000;
/// Strata of the time of events of one type. More would be surer, and each of its slices is read with what is stored beside it.
const STRATA: u32 = 16;
/// The same of events of any type, which are read of each type.
const STRATA_OF_ANY: u32 = 8;
/// Where half of the slices of so many strata hold nothing, there are as many times more of them ...
const MORE_STRATA: u32 = 4;
/// ... up to so many: then one is of two or three days where no beginning was asked for.
const MOST_STRATA: u32 = 8_192;
/// Most types that a statement names.
const MOST_TYPES: u64 = 100;
/// How far ahead of now events may be.
const AHEAD_MS: i64 = 86_400_000;

/// What of events in slices is counted, by a key.
pub(super) const COUNTED_APART: &str = "stratum, count() AS some, sum(side) AS apart";
/// Collects it, to be read by [`Sample::count`].
pub(super) const PARTS: &str = "groupArray(tuple(stratum, some, apart)) AS parts";

/// Which events are looked at.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    is_asked: bool,
    /// None: all of them.
    sliced: Option<Sliced>,
}

/// Events of which slices are looked at.
#[derive(Clone, Debug)]
struct Sliced {
    slices: Slices,
    /// Their types; of any type, if none are said. Those of other types are looked at as a whole.
    types: Option<Vec<String>>,
    seen: Seen,
}

/// A count of events, and by how much more or less there may be, if that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) events: u64,
    pub(super) error: Option<u64>,
}

/// Of some events those that are looked at.
#[derive(Clone, Debug)]
pub(super) struct Sampled {
    events: Selection,
    /// The columns `stratum` and `side` of an event.
    marks: Option<Expr>,
}

impl Sampled {
    /// Of these events those that meet `condition`.
    pub(super) fn and(self, condition: impl Into<Expr>) -> Self {
        Self { events: self.events.and(condition), ..self }
    }

    /// These events behind `columns`; with `stratum` and `side` where they are in slices.
    pub(super) fn behind(self, columns: impl Into<Expr>) -> Expr {
        let columns = columns.into();
        self.events.behind(match self.marks {
            Some(marks) => columns.then(", ").then(marks),
            None => columns,
        })
    }
}

impl Sample {
    const fn all(is_asked: bool) -> Self {
        Self { is_asked, sliced: None }
    }

    /// All events of `matched`; if a sample `is_asked` for and there are more than [`WHOLE`], those of slices, which is noted in the answer.
    ///
    /// # Errors
    /// The events cannot be counted.
    pub(super) async fn of(
        is_asked: bool,
        matched: &EventMatch,
        scope: Scope,
        runner: &mut StatementRunner<'_>,
    ) -> Result<Self, QueryError> {
        if !is_asked {
            return Ok(Self::all(is_asked));
        }
        // What else the question asks of an event would have to be looked up in each; these counts are known from their order.
        let events = Selection::of(scope.with_traffic(Traffic::All)).event(matched.event.as_deref());
        let number = count(events.clone(), runner).await?;
        if number <= WHOLE {
            return Ok(Self::all(is_asked));
        }
        let share = u32::try_from(number.div_ceil(EVENTS)).unwrap_or(u32::MAX / 2);
        let (from_ms, until_ms) = scope.bounds_ms();
        let span = Span { from_ms, until_ms: until_ms.min(runner.now_ms().saturating_add(AHEAD_MS)) };
        let cuts = Cuts { span, strata: if matched.event.is_some() { STRATA } else { STRATA_OF_ANY }, share };
        let Some((slices, strata)) = cuts.slices(&events, runner).await? else { return Ok(Self::all(is_asked)) };
        let mut sliced = Sliced { slices, types: None, seen: Seen::new(number, strata) };
        if matched.event.is_none() {
            sliced = sliced.without_rare(events, number, runner).await?;
        }
        runner.mark_sampled();
        Ok(Self { is_asked, sliced: Some(sliced) })
    }

    /// Of these events those that are looked at.
    pub(super) fn select(&self, events: Selection) -> Sampled {
        match &self.sliced {
            None => Sampled { events, marks: None },
            Some(sliced) => Sampled { events: events.and(sliced.condition()), marks: Some(sliced.marks()) },
        }
    }

    /// How many events there are, by estimate: of rows that have counted what [`COUNTED_APART`] counts. None where all events are looked at.
    pub(super) fn estimate(&self) -> Option<Expr> {
        let factor = Expr::float(self.sliced.as_ref()?.seen.factor());
        Some(Expr::from("sum(some * if(stratum < 0, 1, ").then(factor).then("))"))
    }

    /// How many events there are of which these [`PARTS`] were found.
    pub(super) fn count(&self, parts: Cell<'_>) -> Count {
        let parts = parts.items().map(|part| {
            let mut numbers = part.items().map(Cell::int);
            let mut next = || numbers.next().unwrap_or_default();
            Part { stratum: next(), found: next().unsigned_abs(), difference: next() }
        });
        match &self.sliced {
            Some(sliced) => sliced.seen.count(parts),
            None => Count { events: parts.map(|part| part.found).sum(), error: self.is_asked.then_some(0) },
        }
    }
}

impl Sliced {
    /// The same with types whose events are looked at as a whole, as many as have few events together: those that no slice is of are
    /// among them. `events` are those of all types, and `number` is theirs.
    async fn without_rare(self, events: Selection, number: u64, runner: &mut StatementRunner<'_>) -> Result<Self, QueryError> {
        let found = Select::default().column("type").column("count()").from(events.clone().and(self.slices.condition()));
        let found = found.then(" GROUP BY type ORDER BY count() DESC, type LIMIT ").then(Expr::uint(MOST_TYPES));
        let (mut types, mut rarer, mut rest) = (Vec::new(), VecDeque::new(), number as f64);
        for row in runner.rows(found.into()).await? {
            let [name, found] = row.columns();
            match rest <= EVENTS as f64 / 2.0 {
                true => rarer.push_back(name.text().to_owned()),
                false => types.push(name.text().to_owned()),
            }
            rest -= found.uint() as f64 * self.seen.factor();
        }
        let others_than = |types: &[String]| events.clone().and(is_of(types).negated());
        let mut others = count(others_than(&types), runner).await?;
        // Slices may have more of a type than its part, so that those that are left are more than reckoned.
        while others > EVENTS
            && let Some(next) = rarer.pop_front()
        {
            types.push(next);
            others = count(others_than(&types), runner).await?;
        }
        // A type that is rare may have much in a slice.
        while let Some((_, fewer)) = types.split_last().filter(|_| others <= EVENTS) {
            let with_last = count(others_than(fewer), runner).await?;
            if with_last > EVENTS {
                break;
            }
            others = with_last;
            types.pop();
        }
        if others > EVENTS {
            return Ok(self);
        }
        let strata = counted(&self.slices, events.and(is_of(&types)), runner).await?;
        Ok(Self { seen: Seen::new(number.saturating_sub(others), strata), types: Some(types), ..self })
    }

    fn is_of_types(&self) -> Option<Expr> {
        self.types.as_deref().map(is_of)
    }

    /// The condition that an event is looked at.
    fn condition(&self) -> Expr {
        let is_in_slice = self.slices.condition();
        match self.is_of_types() {
            Some(is_of_types) => Expr::any([is_of_types.negated(), is_in_slice]).grouped(),
            None => is_in_slice,
        }
    }

    fn marks(&self) -> Expr {
        let stratum = match self.is_of_types() {
            Some(is_of_types) => Expr::call("if", [is_of_types, self.slices.stratum(), "-1".into()]),
            None => self.slices.stratum(),
        };
        stratum.then(" AS stratum, ").then(self.slices.side()).then(" AS side")
    }
}

/// The condition that an event is of one of these types.
fn is_of(types: &[String]) -> Expr {
    Expr::from("type IN ").then(Expr::texts(types.iter().cloned()))
}

async fn count(events: Selection, runner: &mut StatementRunner<'_>) -> Result<u64, QueryError> {
    let counted = Select::default().column("count()").from(events);
    Ok(runner.rows(counted.into()).await?.first().map_or(0, |row| row.cell(0).uint()))
}

/// Into what a time is cut.
struct Cuts {
    span: Span,
    /// As many strata as suffice where events are spread over the time.
    strata: u32,
    /// The slices are one in how many.
    share: u32,
}

impl Cuts {
    /// Slices of which at least as many as [`Self::strata`] hold events, if there are such, and how many are in the two of each stratum; none
    /// if no slices hold any.
    async fn slices(self, events: &Selection, runner: &mut StatementRunner<'_>) -> Result<Option<(Slices, Vec<[u64; 2]>)>, QueryError> {
        let mut strata = self.strata;
        loop {
            let slices = Slices::of(self.span, strata, self.share);
            let seen = counted(&slices, events.clone(), runner).await?;
            let held = seen.iter().flatten().filter(|events| **events > 0).count();
            if held >= self.strata as usize || strata >= MOST_STRATA {
                return Ok((held > 0).then_some((slices, seen)));
            }
            strata = (strata * MORE_STRATA).min(MOST_STRATA);
        }
    }
}

/// How many of `events` are in the two slices of each stratum.
async fn counted(slices: &Slices, events: Selection, runner: &mut StatementRunner<'_>) -> Result<Vec<[u64; 2]>, QueryError> {
    let by_slice = Select::default().named(slices.number(), " AS slice").column("count()").from(events.and(slices.condition()));
    let mut strata = vec![[0; 2]; slices.strata()];
    for row in runner.rows(by_slice.then(" GROUP BY slice").into()).await? {
        let [slice, events] = row.columns();
        let place = slices.place(slice.int());
        if let Some(counted) = place.and_then(|(stratum, side)| strata.get_mut(stratum)?.get_mut(side)) {
            *counted += events.uint();
        }
    }
    Ok(strata)
}
