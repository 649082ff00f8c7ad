//! Trends: numbers by time, split by up to three fields if asked.
//!
//! A breakdown takes two statements a series: the largest values first ([`Tops`]), then the numbers with everything beyond them as
//! `$other`, so that unique users of `$other` are still unique; totals of few values take one ([`Totals`]). `$none` (field missing or null)
//! stands beside the limit, never in `$other`; `kind` tells both from texts that read like them. With a formula only its series is
//! answered, and the first series decides which values are the largest. Percentiles interpolate linearly between the two nearest values.
//! Where there are no events counts, sums and unique numbers are 0, and averages, minima, maxima and percentiles null, as is a division by
//! zero. What is compared has buckets of its own, paired with those of the chart from the start.
//!
//! `cumulative`: each number is the math of all events from the beginning of the range to the end of the bucket, so persons and values
//! are counted once and averages are of all so far; the total is as without. What counts trailing days cannot be cumulative.
//! `moving_average: n`: each number becomes the mean of those of the bucket and the `n - 1` before it that are in the chart: of fewer at the
//! beginning, null left out, a partial bucket taken as it is. It comes last, behind `cumulative` and `formula`; totals and the people
//! behind a bar are as without.

mod bar;
pub(super) mod chart;
mod counting;
mod formula;
mod series;
mod totals;

use self::bar::{ChartBar, KEYS as BAR_KEYS};
use self::chart::{Chart, Head, Lines};
use self::counting::{Counting, FirstTimes, MOST_BITS, Windows};
use self::formula::Formula;
use self::series::Series;
use self::totals::{Totalled, Totals};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Fields, Range, Scope, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Held, OutOfMemory, StatementRunner, to_json};

/// Series are lettered A to Z in formulas.
const MAX_SERIES: usize = 26;
/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

/// Most numbers that one of a moving average is made of.
const MAX_AVERAGED: u64 = 366;

const KEYS: [&str; 12] =
    ["from", "to", "timezone", "interval", "filters", "breakdown", "limit", "series", "formula", "compare", "cumulative", "moving_average"];

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
    shape: Shape,
    /// The times before its ranges that decide it, too.
    lookbacks: Vec<Range>,
}

/// What is made of the numbers of buckets.
#[derive(Clone, Copy, Debug)]
struct Shape {
    is_cumulative: bool,
    /// How many numbers are averaged.
    averaged: Option<usize>,
}

/// A formula, as it was written and as it was read.
#[derive(Clone, Debug)]
struct WrittenFormula {
    text: String,
    formula: Formula,
}

impl Canonical for Trends {
    fn canonical(&self, to: &mut CanonicalForm) {
        // How far it looks back follows from the rest.
        let Self { range, interval, series, filters, breakdown, formula, compare, shape, lookbacks: _ } = self;
        let Shape { is_cumulative, averaged } = shape;
        to.field("cumulative", is_cumulative).field("moving_average", &averaged.map(|averaged| averaged as u64));
        to.field("range", range).field("interval", interval).field("series", series).set("filters", filters);
        to.field("breakdown", breakdown).field("formula", &formula.as_ref().map(|written| &written.text)).field("compare", compare);
    }
}

/// What a formula gives where its series have `values`; none where it is no formula of theirs.
pub(crate) fn value_of_formula(text: &str, values: &[Option<f64>]) -> Option<f64> {
    Formula::parse(text, values.len()).ok()?.value(values)
}

impl Report for Trends {
    const NAME: &'static str = "trends";
    const CHEAPER: &'static str = "a shorter range, a longer `interval`, fewer `series` or a `breakdown` of fewer values";
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
        let shape = Shape::parse(fields, &series)?;
        let mut trends = Self { range, interval, series, filters, breakdown, formula, compare, shape, lookbacks: Vec::new() };
        trends.check_size()?;
        trends.lookbacks = trends.lookbacks()?;
        Ok(trends)
    }

    /// The range of the chart, then the one it is compared with, and the times before them that decide it.
    fn ranges(&self) -> Vec<&Range> {
        self.charts().chain(&self.lookbacks).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.charts().flat_map(|range| self.series.iter().map(move |series| self.event_set(range, series))).collect()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let mut held = runner.memory();
        let totals = self.totals(runner).await?;
        let (known, lines) = totals.into_iter().map(|of| of.map(|Totalled { tops, lines }| (tops, lines)).unzip()).unzip();
        let tops = self.tops(runner, &mut held, known).await?;
        let mut chart = self.chart(runner, &self.range, &tops, lines).await?;
        if let Some(compared) = &self.compare {
            chart.compare = Some(Box::new(self.chart(runner, &compared.range, &tops, Vec::new()).await?));
        }
        to_json(&chart)
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(ChartBar::parse(self, bar)?))
    }
}

impl Shape {
    /// Reads `cumulative` and `moving_average` of a chart of `series`.
    fn parse(fields: Fields<'_>, series: &[Series]) -> Result<Self, QueryError> {
        let is_cumulative = fields.flag("cumulative", "invalid_cumulative")?;
        if let Some(trailing) = series.iter().find(|series| is_cumulative && series.trailing_days().is_some()) {
            let message = format!("math `{}` counts trailing days and cannot be cumulative", trailing.math());
            return Err(QueryError::invalid("invalid_cumulative", message));
        }
        let averaged = match fields.value("moving_average") {
            None => None,
            Some(value) => {
                let number = value.as_u64().filter(|number| (1..=MAX_AVERAGED).contains(number));
                let invalid = || {
                    let message = format!("`moving_average` is a whole number of buckets from 1 to {MAX_AVERAGED}");
                    QueryError::invalid("invalid_moving_average", message)
                };
                Some(number.ok_or_else(invalid)? as usize)
            }
        };
        Ok(Self { is_cumulative, averaged })
    }
}

/// How `series` is counted instead, where what it came to is that it takes too much.
fn sparing<T>(series: &Series, came_to: &Result<T, QueryError>) -> Option<Series> {
    series.sparing().filter(|_| came_to.as_ref().is_err_and(QueryError::takes_too_much))
}

impl Trends {
    /// The ranges that have buckets: its own, then the one it is compared with.
    fn charts(&self) -> impl Iterator<Item = &Range> {
        std::iter::once(&self.range).chain(self.compare.as_ref().map(|compared| &compared.range))
    }

    fn lookbacks(&self) -> Result<Vec<Range>, QueryError> {
        let mut lookbacks = Vec::new();
        for range in self.charts() {
            for series in &self.series {
                let looked_at = self.looked_at(range, series)?;
                lookbacks.extend(Some(looked_at).filter(|looked_at| looked_at.from_ms < range.from_ms));
            }
        }
        Ok(lookbacks)
    }

    /// The time whose events decide the numbers of `series` in a chart of `range`.
    fn looked_at(&self, range: &Range, series: &Series) -> Result<Range, QueryError> {
        let from_ms = match series.trailing_days() {
            _ if series.counts_first_times() => 0,
            Some(days) => {
                let buckets = Buckets::of(range, self.interval)?;
                range.days_before(Windows::end(range, &buckets, buckets.first_end(range))?, days)?
            }
            None => range.from_ms,
        };
        Ok(range.beginning_at(from_ms))
    }

    /// The time whose events `series` counts in the bucket `part` of a chart of `range`, or in all of it: for that number.
    fn counted_in(&self, range: &Range, part: &Range, series: &Series) -> Result<Range, QueryError> {
        match series.trailing_days() {
            Some(days) => {
                let end = Windows::end(range, &Buckets::of(range, self.interval)?, part.until_ms)?;
                Ok(part.beginning_at(range.days_before(end, days)?))
            }
            None if self.shape.is_cumulative => Ok(part.beginning_at(range.from_ms)),
            None => Ok(part.clone()),
        }
    }

    fn check_size(&self) -> Result<(), QueryError> {
        let mut buckets = 0;
        for range in self.charts() {
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
    /// `held` counts them, for their values may be long; `known` are those of the series of which they are there already.
    async fn tops(&self, runner: &mut StatementRunner<'_>, held: &mut Held, known: Vec<Option<Tops>>) -> Result<Vec<Tops>, QueryError> {
        let Some(by) = &self.breakdown.by else { return Ok(vec![Tops::default(); self.series.len()]) };
        let (mut tops, mut known): (Vec<Tops>, _) = (Vec::new(), known.into_iter());
        for series in &self.series {
            let of_first = tops.first().filter(|_| self.formula.is_some()).cloned();
            let known = known.next().flatten();
            tops.push(match of_first.or(known) {
                Some(top) => top,
                None => {
                    let ranked = runner.rows(self.ranking(runner, series, by)?.into()).await;
                    let rows = match sparing(series, &ranked) {
                        Some(series) => runner.rows(self.ranking(runner, &series, by)?.into()).await?,
                        None => ranked?,
                    };
                    Tops::read(&rows, by)
                }
            });
            held.set(tops.iter().map(Tops::bytes).sum()).map_err(OutOfMemory::refusal)?;
        }
        Ok(tops)
    }

    /// The largest values of `series`, by what it counts in the range as a whole; of trailing days, by the persons of all its windows: one
    /// that is quiet at the end is no smaller for it.
    fn ranking(&self, runner: &StatementRunner<'_>, series: &Series, by: &Dimensions) -> Result<Expr, QueryError> {
        if series.counts_first_times() {
            let events = self.events(runner.scope(&self.looked_at(&self.range, series)?), series);
            let first = FirstTimes { events, value: by.key(), from_ms: self.range.from_ms };
            return Ok(first.ranking(by).then(self.breakdown.largest()));
        }
        let events = self.events(runner.scope(&self.looked_at(&self.range, series)?), series);
        if let Some(unit) = series.unit().filter(|_| series.is_grouped()) {
            let size = if series.ratio_of().is_some() { "sum(events) / sum(is_there)" } else { "sum(is_there)" };
            return Ok(self.breakdown.largest_of_groups(by, size, [unit.key, unit.is_there], events));
        }
        Ok(Breakdown::ranking(by, series.aggregate()).from(events.and(Breakdown::is_ranked(by))).then(self.breakdown.largest()))
    }

    /// The numbers of one series in `range`: start of the bucket, line, whether the row is the total, value.
    fn numbers(&self, events: Selection, series: &Series, range: &Range, counting: Counting<'_>) -> Result<Expr, QueryError> {
        Ok(match series.trailing_days() {
            Some(days) => {
                let windows = Windows::of(range, counting.buckets, days)?;
                counting.trailing(events, &windows)
            }
            None if series.counts_first_times() => counting.first_times(events, range.from_ms),
            None => match (series.unit().filter(|_| series.is_grouped()), self.shape.is_cumulative) {
                (Some(unit), true) => counting.grouped_so_far(events, unit),
                (Some(unit), false) => counting.grouped(events, unit),
                (None, true) => counting.cumulative(events, series),
                (None, false) => counting.plain(events, series),
            },
        })
    }

    /// The lines of one series in `range`: those of `tops`, and what else there is.
    async fn lines(&self, runner: &mut StatementRunner<'_>, range: &Range, series: &Series, tops: &Tops) -> Result<Lines, QueryError> {
        let lines = self.counted(runner, range, series, tops).await;
        let Some(spared) = sparing(series, &lines) else { return lines };
        // A group has a bit for each bucket.
        let fits = self.shape.is_cumulative || series.trailing_days().is_none() && Buckets::of(range, self.interval)?.len() <= MOST_BITS;
        if spared.is_grouped() && !fits {
            return lines;
        }
        match spared.ratio_of() {
            Some([events, persons]) => {
                let events = self.counted(runner, range, &events, tops).await?;
                let persons = self.counted(runner, range, &persons, tops).await?;
                Ok(Lines::computed(&Formula::ratio(), &[events, persons]))
            }
            None => self.counted(runner, range, &spared, tops).await,
        }
    }

    /// The same, as `series` is counted.
    async fn counted(&self, runner: &mut StatementRunner<'_>, range: &Range, series: &Series, tops: &Tops) -> Result<Lines, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let line = self.breakdown.by.as_ref().map_or("toInt64(0)".into(), |by| tops.line(by));
        let events = self.events(runner.scope(&self.looked_at(range, series)?), series);
        let numbers = self.numbers(events, series, range, Counting { buckets: &buckets, line })?;
        let own = if self.breakdown.by.is_some() { tops.len() } else { 1 };
        let is_summed = series.trailing_days().is_some() || series.counts_first_times() && self.shape.is_cumulative;
        let is_carried = self.shape.is_cumulative && !is_summed;
        let mut lines = Lines::new(&buckets, own, series.of_nothing().filter(|_| !is_carried));
        runner.each(numbers.into(), |row| lines.add(&row, 3, &buckets)).await?;
        Ok(match (is_summed, is_carried) {
            (true, _) => lines.summed(),
            (_, true) => lines.carried(series.of_nothing()),
            _ => lines,
        })
    }

    /// Of each series its largest values and its lines, where one look at the events gives both.
    async fn totals(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<Option<Totalled>>, QueryError> {
        let Some(by) = self.breakdown.by.as_ref().filter(|_| self.formula.is_none() && !self.shape.is_cumulative) else {
            return Ok(Vec::new());
        };
        let buckets = Buckets::of(&self.range, self.interval)?;
        let totals = Totals { breakdown: &self.breakdown, by, buckets: &buckets };
        let mut all = Vec::new();
        for series in &self.series {
            all.push(match series.is_total() {
                true => totals.read(runner, self.events(runner.scope(&self.range), series)).await?,
                false => None,
            });
        }
        Ok(all)
    }

    /// The chart of `range`; `known` are the lines of series that are there already.
    async fn chart(
        &self,
        runner: &mut StatementRunner<'_>,
        range: &Range,
        tops: &[Tops],
        known: Vec<Option<Lines>>,
    ) -> Result<Chart, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let with_breakdown = self.breakdown.by.is_some();
        let (mut lines, mut known) = (Vec::new(), known.into_iter());
        for (series, top) in self.series.iter().zip(tops) {
            lines.push(match known.next().flatten() {
                Some(lines) => lines,
                None => self.lines(runner, range, series, top).await?,
            });
        }
        let mut chart = Chart::new(range, &buckets, runner.now_ms());
        match &self.formula {
            Some(written) => {
                let series = Series::of_formula(&written.text);
                let top = tops.first().cloned().unwrap_or_default();
                let lines = Lines::computed(&written.formula, &lines).averaged(self.shape.averaged);
                chart.add(Head::of(&series), with_breakdown.then_some(&top), lines);
            }
            None => {
                for ((series, top), lines) in self.series.iter().zip(tops).zip(lines) {
                    chart.add(Head::of(series), with_breakdown.then_some(top), lines.averaged(self.shape.averaged));
                }
            }
        }
        Ok(chart)
    }
}
