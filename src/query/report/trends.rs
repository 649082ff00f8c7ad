//! Trends: numbers by time, split by up to three fields if asked.
//!
//! A breakdown takes two statements a series: the largest values first ([`Tops`]), then the numbers with everything beyond them as
//! `$other`, so that unique users of `$other` are still unique. `$none` (field missing or null) stands beside the limit, never in
//! `$other`; `kind` tells both from texts that read like them. With a formula only its series is answered, and the first series
//! decides which values are the largest. Percentiles interpolate linearly between the two nearest values. Where there are no events
//! counts, sums and unique numbers are 0, and averages, minima, maxima and percentiles null, as is a division by zero.
//! What is compared has buckets of its own, paired with those of the chart from the start.

mod bar;
pub(super) mod chart;
mod formula;
mod series;

use self::bar::{ChartBar, KEYS as BAR_KEYS};
use self::chart::{Chart, Head, Lines};
use self::formula::Formula;
use self::series::Series;
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Fields, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};

/// Series are lettered A to Z in formulas.
const MAX_SERIES: usize = 26;
/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

const KEYS: [&str; 10] = ["from", "to", "timezone", "interval", "filters", "breakdown", "limit", "series", "formula", "compare"];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Trends {
    range: Range,
    interval: Interval,
    series: Vec<Series>,
    filters: Vec<Filter>,
    breakdown: Breakdown,
    formula: Option<WrittenFormula>,
    compare: Option<Compared>,
}

/// A formula, as it was written and as it was read.
#[derive(Clone, Debug)]
struct WrittenFormula {
    text: String,
    formula: Formula,
}

impl Canonical for Trends {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, interval, series, filters, breakdown, formula, compare } = self;
        to.field("range", range).field("interval", interval).field("series", series).set("filters", filters);
        to.field("breakdown", breakdown).field("formula", &formula.as_ref().map(|written| &written.text)).field("compare", compare);
    }
}

impl Report for Trends {
    const NAME: &'static str = "trends";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let range = Range::parse(fields, ask.now_ms)?;
        let series = fields.list("series", "invalid_series")?.iter().enumerate();
        let series =
            series.map(|(index, series)| Series::parse(series, ask.context).map_err(|problem| problem.within(&format!("series[{index}]"))));
        let series = series.collect::<Result<Vec<_>, _>>()?;
        if series.is_empty() || series.len() > MAX_SERIES {
            return Err(QueryError::invalid("invalid_series", format!("`series` must have 1 to {MAX_SERIES} entries")));
        }
        let formula = match fields.text("formula", "invalid_formula")? {
            Some(text) => Some(WrittenFormula { text: text.to_owned(), formula: Formula::parse(text, series.len())? }),
            None => None,
        };
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, ask.now_ms)).transpose()?;
        let breakdown = Breakdown::parse(fields)?;
        let (interval, filters) = (Interval::parse(fields)?, filter::parse_all(fields, ask.context)?);
        let trends = Self { range, interval, series, filters, breakdown, formula, compare };
        trends.check_size()?;
        Ok(trends)
    }

    /// The range of the chart, then the one it is compared with.
    fn ranges(&self) -> Vec<&Range> {
        std::iter::once(&self.range).chain(self.compare.as_ref().map(|compared| &compared.range)).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.ranges().into_iter().flat_map(|range| self.series.iter().map(move |series| self.event_set(range, series))).collect()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let tops = self.tops(runner).await?;
        let mut chart = self.chart(runner, &self.range, &tops).await?;
        if let Some(compared) = &self.compare {
            chart.compare = Some(Box::new(self.chart(runner, &compared.range, &tops).await?));
        }
        to_json(&chart)
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(ChartBar::parse(self, bar)?))
    }
}

impl Trends {
    fn check_size(&self) -> Result<(), QueryError> {
        let mut buckets = 0;
        for range in self.ranges() {
            buckets += Buckets::of(range, self.interval)?.len() as u64;
        }
        if buckets * self.series.len() as u64 * self.breakdown.most_lines() > MAX_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MAX_CELLS} numbers")));
        }
        Ok(())
    }

    /// The events of one series in `range`.
    fn event_set<'a>(&'a self, range: &'a Range, series: &'a Series) -> EventSet<'a> {
        EventSet { range, event: series.event(), filters: vec![&self.filters, series.filters()] }
    }

    /// The events of one series.
    fn events(&self, scope: Scope, series: &Series) -> Selection {
        Selection::of(scope).event(series.event()).filters(&self.filters).filters(series.filters())
    }

    /// The largest values of the breakdown by series; none without one.
    async fn tops(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<Tops>, QueryError> {
        let Some(by) = &self.breakdown.by else { return Ok(vec![Tops::default(); self.series.len()]) };
        let scope = runner.scope(&self.range);
        let mut tops: Vec<Tops> = Vec::new();
        for series in &self.series {
            let known = tops.first().filter(|_| self.formula.is_some()).cloned();
            tops.push(match known {
                Some(top) => top,
                None => Tops::read(&runner.rows(self.top(scope, series, by).into()).await?, by),
            });
        }
        Ok(tops)
    }

    fn top(&self, scope: Scope, series: &Series, by: &Dimensions) -> Expr {
        let events = self.events(scope, series).and(Breakdown::is_ranked(by));
        Breakdown::ranking(by, series.aggregate()).from(events).then(self.breakdown.largest())
    }

    /// The numbers of one series: start of the bucket, line, whether the row is the total, value.
    fn numbers(&self, events: Selection, series: &Series, buckets: &Buckets, tops: &Tops) -> Expr {
        let line = self.breakdown.by.as_ref().map_or("toInt64(0)".into(), |by| tops.line(by));
        let columns = Select::default()
            .named(buckets.start(), " AS bucket")
            .named(line, " AS line")
            .named("grouping(bucket)", " AS whole")
            .named(series.aggregate(), " AS value");
        columns.from(events).then(" GROUP BY GROUPING SETS ((bucket, line), (line))")
    }

    async fn chart(&self, runner: &mut StatementRunner<'_>, range: &Range, tops: &[Tops]) -> Result<Chart, QueryError> {
        let (scope, buckets) = (runner.scope(range), Buckets::of(range, self.interval)?);
        let with_breakdown = self.breakdown.by.is_some();
        let mut lines: Vec<Lines> = Vec::new();
        for (series, top) in self.series.iter().zip(tops) {
            let own = if with_breakdown { top.len() } else { 1 };
            let mut of_series = Lines::new(&buckets, own, series.of_nothing());
            let numbers = self.numbers(self.events(scope, series), series, &buckets, top);
            runner.each(numbers.into(), |row| of_series.add(&row, 3, &buckets)).await?;
            lines.push(of_series);
        }
        let mut chart = Chart::new(range, &buckets, runner.now_ms());
        match &self.formula {
            Some(written) => {
                let series = Series::of_formula(&written.text);
                let top = tops.first().cloned().unwrap_or_default();
                chart.add(Head::of(&series), with_breakdown.then_some(&top), Lines::computed(&written.formula, &lines));
            }
            None => {
                for ((series, top), lines) in self.series.iter().zip(tops).zip(lines) {
                    chart.add(Head::of(series), with_breakdown.then_some(top), lines);
                }
            }
        }
        Ok(chart)
    }
}
