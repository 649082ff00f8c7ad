//! One number of a chart, as conditions on the events behind it.

use serde_json::Value;

use super::{NONE, Plan, Series};
use crate::query::error::QueryError;
use crate::query::request::{Fields, shortened};
use crate::query::sql::Statement;
use crate::query::time::{self, Buckets, Range};

/// Where a number stands in the chart of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Which of the series that were asked for.
    series: usize,
    /// The part of the range that the bucket covers.
    range: Range,
    line: Line,
}

/// The value of the breakdown.
#[derive(Clone, Debug, PartialEq)]
enum Line {
    /// There is no breakdown.
    Whole,
    Text(String),
    Number(f64),
    /// Booleans, null and arrays, as JSON text.
    Json(String),
    None,
    Other,
}

impl Bar {
    /// Reads `series_index` (0 by default), `bucket` (a start; the whole range without one) and `breakdown_value`.
    ///
    /// # Errors
    /// 400 `invalid_of` where the chart of `plan` has no such number.
    pub(crate) fn parse(plan: &Plan, fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        let index = fields.value("series_index").map_or(Some(0), Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let series = index
            .filter(|index| *index < plan.series.len())
            .ok_or_else(|| invalid(format!("`series_index` must be a whole number below {}", plan.series.len())))?;
        let range = match fields.text("bucket", "invalid_of")? {
            None => plan.range.clone(),
            Some(text) => {
                let start = time::instant(text, now_ms, &plan.range.zone)?;
                let found = plan.ranges().find_map(|range| Buckets::of(range, plan.interval).ok()?.part(range, start));
                found.ok_or_else(|| invalid(format!("no bucket of the chart starts at `{}`", shortened(text))))?
            }
        };
        let line = match (&plan.breakdown, fields.value("breakdown_value")) {
            (None, None) => Line::Whole,
            (None, Some(_)) => return Err(invalid("the chart has no `breakdown`, so no `breakdown_value`".to_owned())),
            (Some(_), value) => Line::of(value),
        };
        Ok(Self { series, range, line })
    }

    /// Whether its line is made of what the largest values leave over.
    pub(crate) fn needs_tops(&self) -> bool {
        self.line == Line::Other
    }
}

impl Line {
    fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Json("null".to_owned()),
            Some(Value::String(text)) if text == "$none" => Self::None,
            Some(Value::String(text)) if text == "$other" => Self::Other,
            Some(Value::String(text)) => Self::Text(text.clone()),
            Some(Value::Number(number)) => Self::Number(number.as_f64().unwrap_or(0.0)),
            Some(other) => Self::Json(other.to_string()),
        }
    }
}

impl Plan {
    /// Appends scope and conditions of the events behind `bar`; `tops` are those of the chart, where the bar needs them.
    pub(crate) fn bar(&self, to: Statement, bar: &Bar, tops: &[Vec<String>]) -> Result<Statement, QueryError> {
        let series = self.series.get(bar.series).ok_or_else(|| QueryError::internal("the bar is of another chart"))?;
        let to = series.and_measured(self.conditions(to, series, &bar.range));
        let Some(field) = &self.breakdown else { return Ok(to) };
        let to = field.key(to.sql(" AND "));
        Ok(match &bar.line {
            Line::Whole => to.sql(" != ''"),
            Line::None => to.sql(" = ").string(NONE),
            Line::Text(text) => to.sql(" = concat('s', ").string(text).sql(")"),
            Line::Number(number) => to.sql(" = concat('n', toString(").float(*number).sql("))"),
            Line::Json(json) => to.sql(" = concat('o', ").string(json).sql(")"),
            Line::Other => {
                let top = tops.get(bar.series).map_or(&[][..], Vec::as_slice);
                to.sql(" NOT IN ").strings(top.iter().map(String::as_str).chain([NONE]))
            }
        })
    }

    /// The range of the chart, then the one it is compared with.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range> {
        std::iter::once(&self.range).chain(&self.compare)
    }
}

impl Series {
    /// Appends the condition that an event has the number that the math works on, if it works on one.
    fn and_measured(&self, to: Statement) -> Statement {
        match (&self.property, self.math.counts()) {
            (Some(property), false) => property.has_number(to.sql(" AND ")),
            _ => to,
        }
    }
}
