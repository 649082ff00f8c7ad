//! Lifecycle: how many persons of each period are new, came back, or stayed away.
//!
//! A person is active in a period with an event in it that lies in the range, so a period's `new`, `returning` and `resurrected` are
//! together its unique users. The events are those of the `event` and `filters` asked for, also those of the past: `new` is a person
//! whose first such event ever, also before `from`, lies in the period; `returning` had one in the period before, which is a whole one
//! also before `from`; `resurrected` had one earlier, but not then. `dormant` had one in the period before and is not active in this
//! one; it is shown as a negative number. Nothing at or after `to` is looked at. A line of a breakdown is the lifecycle of its own
//! events: as if the question had asked for that value by a filter.
//!
//! Cost: one statement, which reads the columns of the question of all days before `to` and holds two bits a period of each person;
//! one more for the largest values of a breakdown. May go wrong: too many people for a statement's memory; then it is refused as too
//! expensive.

mod bar;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use self::bar::{KEYS as BAR_KEYS, LifecycleBar};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::interval::Interval;
use crate::query::ask::periods::{self, Periods};
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner, to_json};

const KEYS: [&str; 9] = ["from", "to", "timezone", "interval", "event", "filters", "breakdown", "limit", "compare"];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Lifecycle {
    own: Span,
    interval: Interval,
    events: EventMatch,
    breakdown: Breakdown,
    compare: Option<Compared>,
    /// That of `compare`.
    compared: Option<Span>,
}

/// What a chart is about.
#[derive(Clone, Debug)]
struct Span {
    range: Range,
    /// The range and all that was before.
    history: Range,
    /// Its periods, behind the one before them.
    periods: Periods,
}

/// What a person is in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    New,
    Returning,
    Resurrected,
    Dormant,
}

/// In the order of the answer.
const STATUSES: [(&str, Status); 4] =
    [("new", Status::New), ("returning", Status::Returning), ("resurrected", Status::Resurrected), ("dormant", Status::Dormant)];

impl Canonical for Lifecycle {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { own: Span { range, history: _, periods: _ }, interval, events, breakdown, compare, compared: _ } = self;
        to.field("range", range).field("interval", interval).field("events", events).field("breakdown", breakdown);
        to.field("compare", compare);
    }
}

impl Canonical for Status {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.word(self.name());
    }
}

impl Report for Lifecycle {
    const NAME: &'static str = "lifecycle";
    const CHEAPER: &'static str = "a shorter range, or one `event`";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let range = Range::parse(fields, ask.now_ms)?;
        let interval = Interval::parse_period(fields, "interval")?;
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, ask.now_ms)).transpose()?;
        let compared = compare.as_ref().map(|compared| Span::of(compared.range.clone(), interval)).transpose()?;
        let (events, breakdown) = (EventMatch::parse(fields, ask.context)?, Breakdown::parse(fields)?);
        Ok(Self { own: Span::of(range, interval)?, interval, events, breakdown, compare, compared })
    }

    fn ranges(&self) -> Vec<&Range> {
        self.spans().map(|span| &span.history).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.spans().map(|span| self.events.set(&span.range)).collect()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let tops = self.tops(runner).await?;
        let mut chart = self.chart(runner, &self.own, &tops).await?;
        if let Some(compared) = &self.compared {
            chart.compare = Some(Box::new(self.chart(runner, compared, &tops).await?));
        }
        to_json(&chart)
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(LifecycleBar::parse(self, bar)?))
    }
}

impl Span {
    fn of(range: Range, interval: Interval) -> Result<Self, QueryError> {
        Ok(Self { periods: Periods::of(&range, interval, [1, 0])?, history: range.with_all_before(), range })
    }

    /// One row a line and person of `events`, which are of the whole history: `active`, the periods with an event in the range; `seen`,
    /// those with any event; and `first_at` and `first_period`, when the first one was.
    fn people(&self, events: Selection, line: Expr) -> Expr {
        let columns = Select::default()
            .named(PERSON, " AS person")
            .named(line, " AS line")
            .named(self.periods.with_event(self.range.from_ms), " AS active")
            .named(self.periods.with_event(0), " AS seen")
            .named(Expr::call("min", [periods::AT.into()]), " AS first_at")
            .named(self.periods.number_of("first_at"), " AS first_period");
        columns.from(events).then(" GROUP BY person, line")
    }

    /// The word of the periods in which a person of [`Self::people`] is of `status`.
    fn word(&self, status: Status, word: usize) -> Expr {
        let call = |function, left, right| Expr::call(function, [left, right]);
        let (active, seen) = (periods::word_of("active", word), |word| periods::word_of("seen", word));
        let moved = call("bitShiftLeft", seen(word), "1".into());
        let before = match word {
            0 => moved,
            _ => call("bitOr", moved, call("bitShiftRight", seen(word - 1), "63".into())),
        };
        let first = self.periods.bit_in_word("first_at", "first_period", word);
        let none_of = |bits| Expr::call("bitNot", [bits]);
        match status {
            Status::New => call("bitAnd", active, first),
            Status::Returning => call("bitAnd", active, before),
            Status::Resurrected => call("bitAnd", active, none_of(call("bitOr", before, first))),
            Status::Dormant => call("bitAnd", call("bitAnd", before, none_of(active)), Expr::uint(self.periods.mask(word, 1))),
        }
    }

    /// How many persons of `people` there are: line, place of the status, number of the period, persons.
    fn counts(&self, people: Expr) -> Expr {
        let cells = STATUSES.iter().enumerate().map(|(place, (_, status))| {
            let numbers = Expr::call("arrayConcat", self.periods.words().map(|word| periods::numbers_in(self.word(*status, word), word)));
            let with_status = Expr::from("number -> (").then(Expr::uint(place as u64)).then(", number)");
            Expr::call("arrayMap", [with_status, numbers])
        });
        let cell = Expr::call("arrayJoin", [Expr::call("arrayConcat", cells)]);
        let cells = Expr::from("SELECT line, ").then(cell).then(" AS cell FROM ").then(people.enclosed());
        let counted = Expr::from("SELECT line, cell.1 AS status, cell.2 AS period, count() FROM ").then(cells.enclosed());
        counted.then(" GROUP BY line, status, period")
    }
}

impl Lifecycle {
    /// That of the chart, then that of the one it is compared with.
    fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.own).chain(&self.compared)
    }

    /// By the persons of the range and of the period before it: those who have left since are in the chart, too.
    async fn tops(&self, runner: &mut StatementRunner<'_>) -> Result<Tops, QueryError> {
        let Span { range, periods, .. } = &self.own;
        let from_ms = periods.starts().first().map_or(range.from_ms, |start| range.from_ms.min(*start));
        let events = self.events.select(runner.scope(&range.beginning_at(from_ms)));
        self.breakdown.tops_by_people(runner, events).await
    }

    async fn chart(&self, runner: &mut StatementRunner<'_>, span: &Span, tops: &Tops) -> Result<Chart, QueryError> {
        let people = span.people(self.events.select(runner.scope(&span.history)), self.breakdown.line(tops));
        let nothing = || STATUSES.map(|_| vec![0_i64; span.periods.len()]);
        let mut lines: BTreeMap<i64, [Vec<i64>; 4]> = (0..self.breakdown.own_lines(tops)).map(|line| (line, nothing())).collect();
        let add = |row: Row| {
            let [line, status, period, persons] = row.columns();
            let line = lines.entry(line.int()).or_insert_with(nothing);
            let place = status.uint() as usize;
            let sign = if matches!(STATUSES.get(place), Some((_, Status::Dormant))) { -1 } else { 1 };
            if let Some(cell) = line.get_mut(place).and_then(|values| values.get_mut(period.uint() as usize)) {
                *cell = sign * persons.int();
            }
        };
        runner.each(span.counts(people).into(), add).await?;
        let partial = span.periods.partial(&span.range, runner.now_ms()).split_off(1);
        Ok(Chart { partial, ..self.shown(span, lines, tops) })
    }

    fn shown(&self, span: &Span, lines: BTreeMap<i64, [Vec<i64>; 4]>, tops: &Tops) -> Chart {
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(line, _)| tops.place(*line));
        let mut series = Vec::new();
        for (line, of_status) in lines {
            for ((name, _), values) in STATUSES.iter().zip(of_status) {
                let (breakdown, kind) = self.breakdown.shown(tops, line).map(|shown| (shown.value, shown.kind)).unzip();
                let values = values.get(1..).unwrap_or_default().to_vec();
                series.push(Series { name, event: self.events.event.clone(), breakdown, kind, values });
            }
        }
        let buckets = span.periods.starts().iter().skip(1).map(|start| span.range.show(*start)).collect();
        Chart { buckets, partial: Vec::new(), series, compare: None }
    }
}

impl Status {
    fn name(self) -> &'static str {
        STATUSES.iter().find(|(_, status)| *status == self).map_or("", |(name, _)| name)
    }
}

/// As the wire shows it.
#[derive(Debug, Serialize)]
struct Chart {
    buckets: Vec<String>,
    partial: Vec<bool>,
    series: Vec<Series>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<Box<Self>>,
}

#[derive(Debug, Serialize)]
struct Series {
    name: &'static str,
    event: Option<String>,
    breakdown: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    values: Vec<i64>,
}
