//! Stickiness: how many persons have the event in how many distinct days, weeks or months of the range.
//!
//! A period counts for a person with an event of the `event` and `filters` asked for in it and in the range: the first and the last
//! period may be cut by the range. The bars go from one period to all of the range, so that they sum to the persons with the event; with
//! `cumulative` there is beside each the number of persons with at least so many. A line of a breakdown is the stickiness of its own
//! events: as if the question had asked for that value by a filter.
//!
//! Cost: one statement, which reads the columns of the question of the range and holds a bit a period of each person; one more for the
//! largest values of a breakdown. May go wrong: too many people for a statement's memory; then it is refused as too expensive.

mod bar;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use self::bar::{KEYS as BAR_KEYS, StickinessBar};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::periods::Periods;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner, to_json};

const KEYS: [&str; 10] = ["from", "to", "timezone", "interval", "event", "filters", "breakdown", "limit", "compare", "cumulative"];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Stickiness {
    own: Span,
    interval: Interval,
    events: EventMatch,
    breakdown: Breakdown,
    is_cumulative: bool,
    compare: Option<Compared>,
    /// That of `compare`.
    compared: Option<Span>,
}

/// What a chart is about.
#[derive(Clone, Debug)]
struct Span {
    range: Range,
    periods: Periods,
}

impl Canonical for Stickiness {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { own: Span { range, periods: _ }, interval, events, breakdown, is_cumulative, compare, compared: _ } = self;
        to.field("range", range).field("interval", interval).field("events", events).field("breakdown", breakdown);
        to.field("is_cumulative", is_cumulative).field("compare", compare);
    }
}

impl Report for Stickiness {
    const NAME: &'static str = "stickiness";
    const CHEAPER: &'static str = "a shorter range, or one `event`";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let range = Range::parse(fields, ask.now_ms)?;
        let interval = Interval::parse_period(fields, "interval")?;
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, ask.now_ms)).transpose()?;
        let compared = compare.as_ref().map(|compared| Span::of(compared.range.clone(), interval)).transpose()?;
        let (events, breakdown) = (EventMatch::parse(fields, ask.context)?, Breakdown::parse(fields)?);
        let is_cumulative = fields.flag("cumulative", "invalid_cumulative")?;
        Ok(Self { own: Span::of(range, interval)?, interval, events, breakdown, is_cumulative, compare, compared })
    }

    fn ranges(&self) -> Vec<&Range> {
        self.spans().map(|span| &span.range).collect()
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
        Ok(Box::new(StickinessBar::parse(self, bar)?))
    }
}

impl Span {
    fn of(range: Range, interval: Interval) -> Result<Self, QueryError> {
        Ok(Self { periods: Periods::of(&range, interval, [0, 0])?, range })
    }

    /// One row a line and person of `events`: in how many periods there are any.
    fn people(&self, events: Selection, line: Expr) -> Expr {
        let columns = Select::default()
            .named(PERSON, " AS person")
            .named(line, " AS line")
            .named(Expr::call("arraySum", ["word -> bitCount(word)".into(), self.periods.with_event(0)]), " AS times");
        columns.from(events).then(" GROUP BY person, line")
    }
}

impl Stickiness {
    /// That of the chart, then that of the one it is compared with.
    fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.own).chain(&self.compared)
    }

    async fn tops(&self, runner: &mut StatementRunner<'_>) -> Result<Tops, QueryError> {
        let events = self.events.select(runner.scope(&self.own.range));
        self.breakdown.tops_by_people(runner, events).await
    }

    async fn chart(&self, runner: &mut StatementRunner<'_>, span: &Span, tops: &Tops) -> Result<Chart, QueryError> {
        let people = span.people(self.events.select(runner.scope(&span.range)), self.breakdown.line(tops));
        let counted = Expr::from("SELECT line, times, count() FROM ").then(people.enclosed()).then(" GROUP BY line, times");
        let nothing = || vec![0_u64; span.periods.len()];
        let mut lines: BTreeMap<i64, Vec<u64>> = (0..self.breakdown.own_lines(tops)).map(|line| (line, nothing())).collect();
        let add = |row: Row| {
            let [line, times, persons] = row.columns();
            let values = lines.entry(line.int()).or_insert_with(nothing);
            if let Some(value) = usize::try_from(times.int() - 1).ok().and_then(|place| values.get_mut(place)) {
                *value = persons.uint();
            }
        };
        runner.each(counted.into(), add).await?;
        let mut lines: Vec<(i64, Vec<u64>)> = lines.into_iter().collect();
        lines.sort_by_key(|(line, _)| tops.place(*line));
        let series = lines.into_iter().map(|(line, values)| self.series(tops, line, values)).collect();
        let buckets = Buckets::of(&span.range, self.interval)?;
        Ok(Chart {
            interval: self.interval,
            buckets: buckets.starts().iter().map(|start| span.range.show(*start)).collect(),
            partial: buckets.partial(&span.range, runner.now_ms()),
            times: (1..=span.periods.len()).collect(),
            series,
            compare: None,
        })
    }

    fn series(&self, tops: &Tops, line: i64, values: Vec<u64>) -> Series {
        let (breakdown, kind) = self.breakdown.shown(tops, line).map(|shown| (shown.value, shown.kind)).unzip();
        let at_least = self.is_cumulative.then(|| {
            let mut sums = values.clone();
            for place in (1..sums.len()).rev() {
                sums[place - 1] += sums[place];
            }
            sums
        });
        Series { event: self.events.event.clone(), breakdown, kind, total: values.iter().sum(), values, at_least }
    }
}

/// As the wire shows it.
#[derive(Debug, Serialize)]
struct Chart {
    #[serde(serialize_with = "name")]
    interval: Interval,
    /// The periods, of which the range cuts the partial ones, or they are not over yet.
    buckets: Vec<String>,
    partial: Vec<bool>,
    /// In how many periods: what the values beside it are of.
    times: Vec<usize>,
    series: Vec<Series>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<Box<Self>>,
}

fn name<S: serde::Serializer>(interval: &Interval, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(interval.name())
}

#[derive(Debug, Serialize)]
struct Series {
    event: Option<String>,
    breakdown: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    values: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<Vec<u64>>,
    /// All persons.
    total: u64,
}
