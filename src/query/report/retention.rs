//! Retention: of the persons who begin in a period, how many come back in the periods after it.
//!
//! A person's entry is their first `cohort_event` ever, also before `from` (`first_time`), or their first one in each period
//! (`recurring`), and counts where it lies in the range. The row of a period has as its `size` the persons with an entry in it, and
//! in `values` those of them with a `return_event` in it and in each period after it (`on`), or in that or any later period that has
//! begun (`on_or_after`); in the first period only events count that are not before the entry, which counts itself where it matches. A
//! `rolling` period is one of 24 hours, 7 or 30 days from the person's entry. The line of a breakdown is decided by the entry: the first
//! by time, then by place in the log; the largest are those of most entries. `filters` hold of the events of both kinds.
//!
//! A cell whose period has not begun is null, one whose period is not over is flagged in `open`: of rolling periods the first that
//! begins and the last that ends of all that a person of the row may have. The average is that of all rows by size, of cells that are closed.
//!
//! Cost: one statement, which reads the entries (of all time where the first ever is asked for) and the returns once each, holds a row for
//! each entry, and a word of 64 bits; one more, of the entries, for the largest values of a breakdown. May go wrong: too many people for
//! a statement's memory; then it is refused as too expensive.

mod bar;
mod people;
mod shown;

use serde_json::Value;

use self::bar::{KEYS as BAR_KEYS, RetentionBar};
use self::people::Span;
use self::shown::Table;
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::field::Field;
use crate::query::ask::fields::shortened;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::interval::Interval;
use crate::query::ask::{Canonical, CanonicalForm, Context, EventMatch, EventSet, Fields, Range};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};

/// Most periods of a row: each is a bit of a word.
const MOST_PERIODS: u64 = 60;
/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

const KEYS: [&str; 15] = [
    "from",
    "to",
    "timezone",
    "filters",
    "cohort_event",
    "return_event",
    "period",
    "periods",
    "type",
    "mode",
    "rolling",
    "breakdown",
    "limit",
    "value",
    "compare",
];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    asked: Asked,
    own: Span,
    compare: Option<Compared>,
    /// That of `compare`.
    compared: Option<Span>,
}

/// What is asked of a range.
#[derive(Clone, Debug)]
struct Asked {
    filters: Vec<Filter>,
    cohort_event: EventMatch,
    return_event: EventMatch,
    period: Interval,
    /// How many of a row.
    periods: usize,
    /// Whether an entry is the first ever.
    is_first_time: bool,
    /// Whether a person counts in a period who comes back in a later one.
    is_or_after: bool,
    is_rolling: bool,
    breakdown: Breakdown,
    value: Measure,
}

/// What a cell shows.
#[derive(Clone, Debug)]
enum Measure {
    /// How many persons return.
    Users,
    /// A sum over the events with which they do.
    Sum(Field),
}

impl Canonical for Retention {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { asked, own, compare, compared: _ } = self;
        to.field("asked", asked).field("range", &own.range).field("compare", compare);
    }
}

impl Canonical for Asked {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { filters, cohort_event, return_event, period, periods, is_first_time, is_or_after, is_rolling, breakdown, value } = self;
        to.set("filters", filters).field("cohort_event", cohort_event).field("return_event", return_event);
        to.field("period", period).field("periods", periods).field("is_first_time", is_first_time);
        to.field("is_or_after", is_or_after).field("is_rolling", is_rolling).field("breakdown", breakdown).field("value", value);
    }
}

impl Canonical for Measure {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Users => to.word("users"),
            Self::Sum(field) => drop(to.field("sum", field)),
        }
    }
}

impl Report for Retention {
    const NAME: &'static str = "retention";
    const CHEAPER: &'static str = "a shorter range, fewer `periods`, or a `cohort_event` of fewer people";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let range = Range::parse(fields, ask.now_ms)?;
        let asked = Asked::parse(fields, ask.context)?;
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, ask.now_ms)).transpose()?;
        let compared = compare.as_ref().map(|compared| Span::of(compared.range.clone(), &asked)).transpose()?;
        let retention = Self { own: Span::of(range, &asked)?, asked, compare, compared };
        retention.check_size()?;
        Ok(retention)
    }

    fn ranges(&self) -> Vec<&Range> {
        self.spans().flat_map(Span::ranges).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.spans().flat_map(|span| self.asked.event_sets(span)).collect()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let tops = self.tops(runner).await?;
        let mut table = self.table(runner, &self.own, &tops).await?;
        if let Some(compared) = &self.compared {
            table.compare = Some(Box::new(self.table(runner, compared, &tops).await?));
        }
        to_json(&table)
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(RetentionBar::parse(self, bar)?))
    }
}

impl Asked {
    fn parse(fields: Fields<'_>, context: &Context) -> Result<Self, QueryError> {
        let periods = fields.limit("periods", 8, MOST_PERIODS)?;
        Ok(Self {
            filters: filter::parse_all(fields, context)?,
            cohort_event: event(fields, "cohort_event", context)?,
            return_event: event(fields, "return_event", context)?,
            period: Interval::parse_period(fields, "period")?,
            periods: periods as usize,
            is_first_time: is_first_of(fields, "type", ["first_time", "recurring"])?,
            is_or_after: !is_first_of(fields, "mode", ["on", "on_or_after"])?,
            is_rolling: fields.flag("rolling", "invalid_rolling")?,
            breakdown: Breakdown::parse(fields)?,
            value: Measure::parse(fields.value("value"))?,
        })
    }

    fn event_sets<'a>(&'a self, span: &'a Span) -> [EventSet<'a>; 2] {
        let set =
            |range, event: &'a EventMatch| EventSet { range, event: event.event.as_deref(), filters: vec![&self.filters, &event.filters] };
        [set(&span.range, &self.cohort_event), set(&span.returns, &self.return_event)]
    }

    /// Milliseconds of a rolling period.
    fn rolling_ms(&self) -> i64 {
        const DAY_MS: i64 = 86_400_000;
        match self.period {
            Interval::Month => 30 * DAY_MS,
            Interval::Week => 7 * DAY_MS,
            _ => DAY_MS,
        }
    }
}

/// The event under `key`; any without one.
fn event(fields: Fields<'_>, key: &'static str, context: &Context) -> Result<EventMatch, QueryError> {
    let Some(value) = fields.value(key) else { return Ok(EventMatch { event: None, filters: Vec::new() }) };
    let read = |value| EventMatch::parse(Fields::open(value, &["event", "filters"])?, context);
    read(value).map_err(|problem| problem.within(key))
}

/// Whether `key` is the first of two words, which it is where it is absent.
fn is_first_of(fields: Fields<'_>, key: &str, [first, second]: [&str; 2]) -> Result<bool, QueryError> {
    let code = "invalid_retention";
    match fields.text(key, code)? {
        None => Ok(true),
        Some(word) if word == first || word == second => Ok(word == first),
        Some(other) => {
            let message = format!("`{key}` cannot be `{}`: expected {first} or {second}", shortened(other));
            Err(QueryError::invalid(code, message))
        }
    }
}

impl Measure {
    fn parse(value: Option<&Value>) -> Result<Self, QueryError> {
        let invalid = || QueryError::invalid("invalid_value", "`value` is \"users\" or {\"sum\": a property or numeric column}");
        match value {
            None => Ok(Self::Users),
            Some(Value::String(word)) if word == "users" => Ok(Self::Users),
            Some(value @ Value::Object(_)) => {
                let name = Fields::open(value, &["sum"])?.text("sum", "invalid_value")?.ok_or_else(invalid)?;
                Field::measured(name).map(Self::Sum).map_err(|problem| problem.within("value.sum"))
            }
            Some(_) => Err(invalid()),
        }
    }
}

impl Retention {
    /// That of the table, then that of the one it is compared with.
    fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.own).chain(&self.compared)
    }

    fn check_size(&self) -> Result<(), QueryError> {
        let rows: usize = self.spans().map(|span| span.cohorts).sum();
        if rows as u64 * self.asked.periods as u64 * self.asked.breakdown.most_lines() > MAX_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MAX_CELLS} numbers")));
        }
        Ok(())
    }

    /// The values of most entries of the table.
    async fn tops(&self, runner: &mut StatementRunner<'_>) -> Result<Tops, QueryError> {
        let Some(by) = &self.asked.breakdown.by else { return Ok(Tops::default()) };
        let entries = self.own.entries(&self.asked, runner.scope(&self.own.history), by.key());
        Ok(Tops::read(&runner.rows(self.asked.breakdown.largest_lines(by, entries).into()).await?, by))
    }

    async fn table(&self, runner: &mut StatementRunner<'_>, span: &Span, tops: &Tops) -> Result<Table, QueryError> {
        let entries = span.entries(&self.asked, runner.scope(&span.history), self.asked.breakdown.line(tops));
        let joined = span.joined(&self.asked, runner, entries);
        let mut lines = shown::Lines::new(&self.asked, span, tops);
        match self.asked.value {
            Measure::Users => runner.each(people::users(&self.asked, joined).into(), |row| lines.add_users(&row)).await?,
            Measure::Sum(_) => runner.each(people::sums(joined).into(), |row| lines.add_sums(&row)).await?,
        }
        Ok(lines.table(runner.now_ms()))
    }
}
