//! Trends: numbers by time, split by one field if asked.
//!
//! A breakdown takes two statements a series: the largest values first ([`tops`]), then the numbers with everything beyond them as
//! `$other`, so that unique users of `$other` are still unique. `$none` (field missing or null) stands beside the limit, never in
//! `$other`; `kind` tells both from texts that read like them. With a formula only its series is answered, and the first series
//! decides which values are the largest. Percentiles interpolate linearly between the two nearest values. Where there are no events
//! counts, sums and unique numbers are 0, and averages, minima, maxima and percentiles null, as is what divides by zero.
//! What is compared has buckets of its own, paired with those of the chart from the start.

mod bar;
mod chart;
mod series;
mod tops;

use std::hash::{Hash, Hasher};

use serde_json::Value;

pub(crate) use self::bar::{Bar, BarRequest, KEYS as BAR_KEYS};
use self::chart::{Chart, Lines};
pub(crate) use self::series::Series;
pub(crate) use self::tops::Tops;
use super::error::QueryError;
use super::field::Field;
use super::filter::{self, Filter};
use super::formula::Formula;
use super::request::Fields;
use super::run::{Run, StatementRunner, to_json};
use super::sql::Statement;
use super::time::{Buckets, Interval, Range};
use crate::event::ids::ProjectId;

/// Series are lettered A to Z in formulas.
const MAX_SERIES: usize = 26;
/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

pub(crate) const KEYS: [&str; 10] = ["from", "to", "timezone", "interval", "filters", "breakdown", "limit", "series", "formula", "compare"];

/// A checked request.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Plan {
    project: ProjectId,
    pub(crate) range: Range,
    pub(crate) interval: Interval,
    pub(crate) series: Vec<Series>,
    filters: Vec<Filter>,
    pub(crate) breakdown: Option<Field>,
    limit: u64,
    formula: Option<Computed>,
    pub(crate) compare: Option<Compared>,
}

/// A formula, as it was written and as it was read.
#[derive(Clone, Debug)]
struct Computed {
    text: String,
    formula: Formula,
}

impl Hash for Computed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What the chart is compared with.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Compared {
    with: With,
    pub(crate) range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum With {
    Previous,
    Year,
    Range,
}

impl Compared {
    /// Reads `compare` of a chart of `range`.
    fn parse(value: &Value, range: &Range, now_ms: i64) -> Result<Self, QueryError> {
        match value {
            Value::String(word) if word == "previous" => Ok(Self { with: With::Previous, range: range.previous()? }),
            Value::String(word) if word == "year" => Ok(Self { with: With::Year, range: range.year_before()? }),
            Value::Object(_) => {
                let other = Fields::open(value, &["from", "to"])?;
                Ok(Self { with: With::Range, range: Range::parse_in(other, now_ms, range.zone.clone())? })
            }
            _ => Err(QueryError::invalid("invalid_compare", "`compare` is \"previous\", \"year\" or {\"from\",\"to\"}")),
        }
    }
}

impl Plan {
    /// Checks a request.
    pub(crate) fn parse(project: ProjectId, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &KEYS)?;
        let range = Range::parse(fields, now_ms)?;
        let series = fields.list("series", "invalid_series")?.iter().map(Series::parse).collect::<Result<Vec<_>, _>>()?;
        if series.is_empty() || series.len() > MAX_SERIES {
            return Err(QueryError::invalid("invalid_series", format!("`series` must have 1 to {MAX_SERIES} entries")));
        }
        let formula = match fields.text("formula", "invalid_formula")? {
            Some(text) => Some(Computed { text: text.to_owned(), formula: Formula::parse(text, series.len())? }),
            None => None,
        };
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, now_ms)).transpose()?;
        let breakdown = fields.text("breakdown", "invalid_breakdown")?.map(Field::parse).transpose()?;
        let plan = Self {
            project,
            range,
            interval: Interval::parse(fields)?,
            series,
            filters: filter::parse_all(fields)?,
            breakdown,
            limit: fields.limit("limit", 25, 1_000)?,
            formula,
            compare,
        };
        plan.check_size()?;
        Ok(plan)
    }

    fn check_size(&self) -> Result<(), QueryError> {
        let mut buckets = 0;
        for range in self.ranges() {
            buckets += Buckets::of(range, self.interval)?.len() as u64;
        }
        let lines = self.series.len() as u64 * if self.breakdown.is_some() { self.limit + 2 } else { 1 };
        if buckets * lines > MAX_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MAX_CELLS} numbers")));
        }
        Ok(())
    }

    /// The range of the chart, then the one it is compared with.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range> {
        std::iter::once(&self.range).chain(self.compare.as_ref().map(|compared| &compared.range))
    }

    /// Appends scope and conditions of one series.
    fn conditions(&self, to: Statement, series: &Series, range: &Range) -> Statement {
        let to = to.scope(&range.scope(self.project));
        let to = match &series.event {
            Some(event) => to.sql(" AND type = ").string(event),
            None => to,
        };
        filter::and_all(filter::and_all(to, &self.filters), &series.filters)
    }

    /// The largest values of the breakdown by series; none without one.
    pub(crate) async fn tops<R: Run>(&self, runner: &mut StatementRunner<'_, R>) -> Result<Vec<Tops>, QueryError> {
        let Some(field) = &self.breakdown else { return Ok(vec![Tops::default(); self.series.len()]) };
        let mut tops: Vec<Tops> = Vec::new();
        for series in &self.series {
            let known = tops.first().filter(|_| self.formula.is_some()).cloned();
            tops.push(match known {
                Some(top) => top,
                None => Tops::read(&runner.rows(self.top(series, field)).await?),
            });
        }
        Ok(tops)
    }

    fn top(&self, series: &Series, field: &Field) -> Statement {
        let to = field.key(Statement::default().sql("SELECT ")).sql(" AS key, ");
        let to = series.aggregate(tops::hash(to, |to| to.sql("key")).sql(" AS hash, ")).sql(" AS size");
        let to = self.conditions(to, series, &self.range);
        to.sql(" AND key != 'z' GROUP BY key ORDER BY size DESC NULLS LAST, key LIMIT ").uint(self.limit)
    }

    /// The numbers of one series: start of the bucket, line, whether the row is the total, value.
    fn numbers(&self, series: &Series, (range, buckets): (&Range, &Buckets), tops: &Tops) -> Statement {
        let to = buckets.start(Statement::default().sql("SELECT ")).sql(" AS bucket, ");
        let to = match &self.breakdown {
            Some(field) => tops.line(to, field),
            None => to.sql("toInt64(0)"),
        };
        let to = series.aggregate(to.sql(" AS line, grouping(bucket) AS whole, ")).sql(" AS value");
        self.conditions(to, series, range).sql(" GROUP BY GROUPING SETS ((bucket, line), (line))")
    }

    async fn chart<R: Run>(&self, runner: &mut StatementRunner<'_, R>, range: &Range, tops: &[Tops]) -> Result<Chart, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let mut lines: Vec<Lines> = Vec::new();
        for (series, top) in self.series.iter().zip(tops) {
            let own = if self.breakdown.is_some() { top.len() } else { 1 };
            let mut of_series = Lines::new(&buckets, own, series.of_nothing());
            runner.each(self.numbers(series, (range, &buckets), top), |row| of_series.add(&row, &buckets)).await?;
            lines.push(of_series);
        }
        let mut chart = Chart::new(range, &buckets, runner.now_ms());
        match &self.formula {
            Some(computed) => {
                let series = Series::of_formula(&computed.text);
                let top = tops.first().cloned().unwrap_or_default();
                chart.add(&series, self.breakdown.as_ref().map(|_| &top), Lines::computed(&computed.formula, &lines));
            }
            None => {
                for ((series, top), lines) in self.series.iter().zip(tops).zip(lines) {
                    chart.add(series, self.breakdown.as_ref().map(|_| top), lines);
                }
            }
        }
        Ok(chart)
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, runner: &mut StatementRunner<'_, R>) -> Result<Vec<u8>, QueryError> {
    let tops = plan.tops(runner).await?;
    let mut chart = plan.chart(runner, &plan.range, &tops).await?;
    if let Some(compared) = &plan.compare {
        chart.compare = Some(Box::new(plan.chart(runner, &compared.range, &tops).await?));
    }
    to_json(&chart)
}
