//! Trends: numbers by time, split by one field if asked.
//!
//! A breakdown takes two statements a series: the largest values first, then the numbers with everything beyond them as
//! `$other`, so that unique users of `$other` are still unique. `$none` (field missing) stands beside the limit, never in
//! `$other`. With a formula only its series is answered, and the first series decides which values are the largest.
//! Percentiles interpolate linearly between the two nearest values. Where nothing was measured every math is 0, and so is a
//! formula whose series are all 0 there; one that divides by zero elsewhere is null.

mod bar;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) use self::bar::Bar;
use super::error::{QueryError, nearest};
use super::field::Field;
use super::filter::{self, Filter};
use super::formula::Formula;
use super::request::{Fields, shortened};
use super::run::{Row, Run, Session, number};
use super::sql::{Scope, Statement};
use super::time::{Buckets, Interval, Range};
use crate::event::ids::ProjectId;

/// Series are lettered A to Z in formulas.
const MAX_SERIES: usize = 26;
/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

pub(crate) const KEYS: [&str; 10] = ["from", "to", "timezone", "interval", "filters", "breakdown", "limit", "series", "formula", "compare"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Math {
    Total,
    UniqueUsers,
    UniqueSessions,
    Sum,
    Avg,
    Min,
    Max,
    P50,
    P90,
    P95,
    P99,
}

const MATHS: [(&str, Math); 11] = [
    ("total", Math::Total),
    ("unique_users", Math::UniqueUsers),
    ("unique_sessions", Math::UniqueSessions),
    ("sum", Math::Sum),
    ("avg", Math::Avg),
    ("min", Math::Min),
    ("max", Math::Max),
    ("p50", Math::P50),
    ("p90", Math::P90),
    ("p95", Math::P95),
    ("p99", Math::P99),
];

#[derive(Clone, Debug)]
pub(crate) struct Series {
    name: String,
    pub(crate) event: Option<String>,
    math: Math,
    property: Option<Field>,
    pub(crate) filters: Vec<Filter>,
}

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    project: ProjectId,
    pub(crate) range: Range,
    pub(crate) interval: Interval,
    pub(crate) series: Vec<Series>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) breakdown: Option<Field>,
    limit: u64,
    formula: Option<(String, Formula)>,
    compare: Option<Range>,
}

/// Values of one line of the chart.
struct Line {
    values: Vec<Option<f64>>,
    total: Option<f64>,
}

impl Line {
    fn empty(buckets: usize) -> Self {
        Self { values: vec![Some(0.0); buckets], total: Some(0.0) }
    }
}

/// Lines by breakdown key; without a breakdown the one key is empty.
type Lines = BTreeMap<String, Line>;

const OTHER: &str = "r";
const NONE: &str = "z";

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
            Some(text) => Some((text.to_owned(), Formula::parse(text, series.len())?)),
            None => None,
        };
        let compare = match fields.value("compare") {
            None => None,
            Some(Value::String(word)) if word == "previous" => Some(range.previous()?),
            Some(value @ Value::Object(_)) => {
                let other = Fields::open(value, &["from", "to"])?;
                let mut parsed = Range::parse(other, now_ms)?;
                parsed.zone = range.zone.clone();
                Some(parsed)
            }
            Some(_) => return Err(QueryError::invalid("invalid_compare", "`compare` is \"previous\" or {\"from\",\"to\"}")),
        };
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
        let buckets = Buckets::of(&plan.range, plan.interval)?;
        let lines = plan.series.len() as u64 * if plan.breakdown.is_some() { plan.limit + 2 } else { 1 };
        if buckets.len() as u64 * lines > MAX_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MAX_CELLS} numbers")));
        }
        Ok(plan)
    }

    fn scope(&self, range: &Range) -> Scope {
        range.scope(self.project)
    }

    /// Appends scope and conditions of one series.
    pub(crate) fn conditions(&self, to: Statement, series: &Series, range: &Range) -> Statement {
        let to = to.scope(&self.scope(range));
        let to = match &series.event {
            Some(event) => to.sql(" AND type = ").string(event),
            None => to,
        };
        filter::and_all(filter::and_all(to, &self.filters), &series.filters)
    }

    /// The largest values of the breakdown.
    fn top(&self, series: &Series, field: &Field) -> Statement {
        let to = field.key(Statement::default().sql("SELECT ")).sql(" AS key, ");
        let to = self.conditions(series.aggregate(to).sql(" AS size"), series, &self.range);
        to.sql(" AND key != 'z' GROUP BY key ORDER BY size DESC NULLS LAST, key LIMIT ").uint(self.limit)
    }

    /// Appends the key of a row: itself if it is among `top` or missing, else `r`.
    pub(crate) fn line_key(&self, to: Statement, field: &Field, top: &[String]) -> Statement {
        let keep = top.iter().map(String::as_str).chain([NONE]);
        let to = field.key(to.sql("if((")).sql(" AS full_key) IN ").strings(keep);
        to.sql(", full_key, 'r')")
    }

    /// The numbers of one series: bucket, key, whether the row is the total, value, number of measured values.
    fn numbers(&self, series: &Series, range: &Range, top: &[String]) -> Result<Statement, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let to = buckets.index(Statement::default().sql("SELECT ")).sql(" AS bucket, ");
        let to = match &self.breakdown {
            Some(field) => self.line_key(to, field, top),
            None => to.sql("''"),
        };
        let to = series.aggregate(to.sql(" AS key, grouping(bucket) AS whole, ")).sql(" AS value, ");
        let to = series.measured(to).sql(" AS n");
        Ok(self.conditions(to, series, range).sql(" GROUP BY GROUPING SETS ((bucket, key), (key))"))
    }

    /// The largest values by series, as keys.
    pub(crate) async fn tops<R: Run>(&self, session: &mut Session<'_, R>) -> Result<Vec<Vec<String>>, QueryError> {
        let Some(field) = &self.breakdown else { return Ok(vec![Vec::new(); self.series.len()]) };
        let mut tops: Vec<Vec<String>> = Vec::new();
        for series in &self.series {
            let known = tops.first().filter(|_| self.formula.is_some()).cloned();
            tops.push(match known {
                Some(top) => top,
                None => session.rows(self.top(series, field)).await?.iter().map(|row| row.text(0).to_owned()).collect(),
            });
        }
        Ok(tops)
    }

    async fn chart<R: Run>(&self, session: &mut Session<'_, R>, range: &Range, tops: &[Vec<String>]) -> Result<Value, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let whole = [String::new()];
        let mut lines = Vec::new();
        for (series, top) in self.series.iter().zip(tops) {
            let rows = session.rows(self.numbers(series, range, top)?).await?;
            let always = if self.breakdown.is_some() { top.as_slice() } else { &whole };
            lines.push(series.fold(&rows, buckets.len(), always));
        }
        let starts: Vec<String> = buckets.starts().iter().map(|start| range.show(*start)).collect();
        let shown = match &self.formula {
            Some((text, formula)) => self.computed(text, formula, (&lines, tops), buckets.len()),
            None => {
                self.series.iter().zip(lines.into_iter().zip(tops)).flat_map(|(series, (lines, top))| series.show(lines, top)).collect()
            }
        };
        Ok(json!({"buckets": starts, "series": shown}))
    }

    fn computed(&self, text: &str, formula: &Formula, (lines, tops): (&[Lines], &[Vec<String>]), buckets: usize) -> Vec<Value> {
        let empty = Line::empty(buckets);
        let value = |values: &[Option<f64>]| {
            // 0 / 0 has no value, but a bucket without anything is 0.
            let nothing = values.iter().all(|value| *value == Some(0.0));
            formula.value(values).or(nothing.then_some(0.0))
        };
        let mut result = Lines::new();
        for key in lines.iter().flat_map(Lines::keys) {
            let parts: Vec<&Line> = lines.iter().map(|lines| lines.get(key).unwrap_or(&empty)).collect();
            let at = |index: usize| {
                let values: Vec<Option<f64>> = parts.iter().map(|line| line.values.get(index).copied().flatten()).collect();
                value(&values)
            };
            let totals: Vec<Option<f64>> = parts.iter().map(|line| line.total).collect();
            result.insert(key.clone(), Line { values: (0..buckets).map(at).collect(), total: value(&totals) });
        }
        let top = tops.first().map_or(&[][..], Vec::as_slice);
        show_lines(result, top, &json!({"name": text, "event": null, "math": "formula"}))
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, session: &mut Session<'_, R>) -> Result<Value, QueryError> {
    let tops = plan.tops(session).await?;
    let mut result = plan.chart(session, &plan.range, &tops).await?;
    if let Some(range) = &plan.compare {
        let compare = plan.chart(session, range, &tops).await?;
        if let Value::Object(object) = &mut result {
            object.insert("compare".to_owned(), compare);
        }
    }
    Ok(result)
}

impl Series {
    fn parse(value: &Value) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["event", "math", "property", "filters", "name"])?;
        let event = fields.text("event", "invalid_event")?.map(str::to_owned);
        let word = fields.text("math", "invalid_math")?.unwrap_or("total");
        let Some((_, math)) = MATHS.iter().find(|(name, _)| *name == word) else {
            let hint = nearest(word, MATHS.iter().map(|(name, _)| *name));
            return Err(QueryError::invalid("invalid_math", format!("unknown math `{}`, did you mean `{hint}`?", shortened(word))));
        };
        let property = fields.text("property", "invalid_property")?.map(Field::measured).transpose()?;
        if property.is_none() && !math.counts() {
            return Err(QueryError::invalid("invalid_property", format!("math `{word}` needs a `property`")));
        }
        let name = fields.text("name", "invalid_series")?.or(event.as_deref()).unwrap_or("any event").to_owned();
        Ok(Self { name, event, math: *math, property, filters: filter::parse_all(fields)? })
    }

    /// Appends the aggregate of the math.
    fn aggregate(&self, to: Statement) -> Statement {
        let (Some(property), false) = (&self.property, self.math.counts()) else { return to.sql(self.math.sql()) };
        let to = property.number(to.sql(self.math.sql())).sql(", ");
        property.has_number(to).sql(")")
    }

    /// Appends how many values the aggregate saw.
    fn measured(&self, to: Statement) -> Statement {
        match (&self.property, self.math.counts()) {
            (Some(property), false) => property.has_number(to.sql("countIf(")).sql(")"),
            _ => to.sql("count()"),
        }
    }

    /// The lines of `rows`; those of the keys `always` are there even where nothing happened.
    fn fold(&self, rows: &[Row], buckets: usize, always: &[String]) -> Lines {
        let mut lines: Lines = always.iter().map(|key| (key.clone(), Line::empty(buckets))).collect();
        for row in rows {
            let line = lines.entry(row.text(1).to_owned()).or_insert_with(|| Line::empty(buckets));
            let value = if row.uint(4) == 0 { Some(0.0) } else { row.float(3) };
            if row.uint(2) == 1 {
                line.total = value;
            } else if let Some(cell) = usize::try_from(row.int(0)).ok().and_then(|index| line.values.get_mut(index)) {
                *cell = value;
            }
        }
        lines
    }

    fn show(&self, lines: Lines, top: &[String]) -> Vec<Value> {
        let math = MATHS.iter().find(|(_, math)| *math == self.math).map_or("", |(name, _)| *name);
        show_lines(lines, top, &json!({"name": self.name, "event": self.event, "math": math}))
    }
}

/// The lines in the order of `top`, then `$other`, then `$none`.
fn show_lines(lines: Lines, top: &[String], head: &Value) -> Vec<Value> {
    let rank = |key: &str| match key {
        OTHER => top.len(),
        NONE => top.len() + 1,
        key => top.iter().position(|known| known == key).unwrap_or(top.len()),
    };
    let mut ordered: Vec<(String, Line)> = lines.into_iter().collect();
    ordered.sort_by_cached_key(|(key, _)| rank(key));
    let show = |value: Option<f64>| value.map_or(Value::Null, number);
    ordered
        .into_iter()
        .map(|(key, line)| {
            let mut shown = head.clone();
            if let Value::Object(object) = &mut shown {
                object.insert("breakdown".to_owned(), shown_key(&key));
                object.insert("values".to_owned(), line.values.into_iter().map(show).collect());
                object.insert("total".to_owned(), show(line.total));
            }
            shown
        })
        .collect()
}

/// A breakdown key as the wire shows it.
fn shown_key(key: &str) -> Value {
    let mut characters = key.chars();
    match (characters.next(), characters.as_str()) {
        (Some('s'), text) => Value::from(text),
        (Some('n'), text) => text.parse().map_or(Value::Null, number),
        (Some('o'), text) => serde_json::from_str(text).unwrap_or(Value::Null),
        (Some('r'), _) => Value::from("$other"),
        (Some('z'), _) => Value::from("$none"),
        _ => Value::Null,
    }
}

impl Math {
    /// Whether it counts events and so needs no property.
    const fn counts(self) -> bool {
        matches!(self, Self::Total | Self::UniqueUsers | Self::UniqueSessions)
    }

    /// The aggregate, or its beginning where it takes a property.
    const fn sql(self) -> &'static str {
        match self {
            Self::Total => "count()",
            Self::UniqueUsers => "uniqExact(person_id)",
            Self::UniqueSessions => "uniqExact(session_id)",
            Self::Sum => "sumIf(",
            Self::Avg => "avgIf(",
            Self::Min => "minIf(",
            Self::Max => "maxIf(",
            Self::P50 => "quantileExactInclusiveIf(0.5)(",
            Self::P90 => "quantileExactInclusiveIf(0.9)(",
            Self::P95 => "quantileExactInclusiveIf(0.95)(",
            Self::P99 => "quantileExactInclusiveIf(0.99)(",
        }
    }
}
