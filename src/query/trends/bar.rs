//! One number of a chart, as conditions on the events behind it.

use serde_json::Value;

use super::tops::{OTHER, Tops};
use super::{Plan, Series};
use crate::query::error::QueryError;
use crate::query::number::Number;
use crate::query::request::{self, Fields, shortened};
use crate::query::sql::Statement;
use crate::query::time::{self, Buckets, Range};

/// Keys that say which bar of a chart.
pub(crate) const KEYS: [&str; 4] = ["series_index", "bucket", "breakdown_value", "breakdown_kind"];

/// Where a number stands in the chart of a plan.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Bar {
    /// The series of those that were asked for.
    series: usize,
    /// The part of the range that the bucket covers.
    range: Range,
    line: Line,
}

/// The value of the breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Line {
    /// There is no breakdown.
    Whole,
    Text(String),
    Number(Number),
    Bool(bool),
    /// An array or object, as JSON text with its keys in order.
    Json(String),
    None,
    Other,
}

/// Which chart, and which bar of it.
#[derive(Clone, Copy)]
pub(crate) struct BarRequest<'a> {
    pub(crate) plan: &'a Plan,
    /// The one that the chart is compared with.
    pub(crate) is_compared: bool,
    /// [`KEYS`].
    pub(crate) fields: Fields<'a>,
}

impl Bar {
    /// Reads `series_index` (0 by default), `bucket` (a start; the whole range without one), `breakdown_value` and
    /// `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(crate) fn parse(request: BarRequest<'_>, now_ms: i64) -> Result<Self, QueryError> {
        let BarRequest { plan, is_compared, fields } = request;
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        let index = fields.value("series_index").map_or(Some(0), Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let series = index
            .filter(|index| *index < plan.series.len())
            .ok_or_else(|| invalid(format!("`series_index` must be a whole number below {}", plan.series.len())))?;
        let compared =
            || plan.compare.as_ref().map(|compared| &compared.range).ok_or_else(|| invalid("the chart has no `compare`".to_owned()));
        let chart = if is_compared { compared()? } else { &plan.range };
        let range = match fields.text("bucket", "invalid_of")? {
            None => chart.clone(),
            Some(text) => {
                let start = time::instant(text, now_ms, &chart.zone)?;
                let found = Buckets::of(chart, plan.interval)?.part(chart, start);
                found.ok_or_else(|| invalid(format!("no bucket of the chart starts at `{}`", shortened(text))))?
            }
        };
        let line = match &plan.breakdown {
            Some(_) => Line::parse(fields)?,
            None if fields.value("breakdown_value").or(fields.value("breakdown_kind")).is_none() => Line::Whole,
            None => return Err(invalid("the chart has no `breakdown`, so no `breakdown_value`".to_owned())),
        };
        Ok(Self { series, range, line })
    }

    /// The part of the range that it covers.
    pub(crate) fn range(&self) -> &Range {
        &self.range
    }

    /// Whether the largest values decide what belongs to its line.
    pub(crate) fn needs_tops(&self) -> bool {
        matches!(self.line, Line::Other | Line::Json(_))
    }
}

impl Line {
    fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        let invalid = |message: &str| QueryError::invalid("invalid_of", message);
        let value = fields.value("breakdown_value");
        match (fields.text("breakdown_kind", "invalid_of")?, value) {
            (Some("none"), _) => Ok(Self::None),
            (Some("other"), _) => Ok(Self::Other),
            (None, Some(Value::String(word))) if word == "$none" => Ok(Self::None),
            (None, Some(Value::String(word))) if word == "$other" => Ok(Self::Other),
            (None | Some("value"), Some(value)) => Ok(Self::of(value)),
            (None | Some("value"), None) => Err(invalid("a bar of a chart with a `breakdown` needs its `breakdown_value`")),
            (Some(_), _) => Err(invalid("`breakdown_kind` is value, none or other")),
        }
    }

    fn of(value: &Value) -> Self {
        if let Some(number) = Number::of(value) {
            return Self::Number(number);
        }
        match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Bool(claim) => Self::Bool(*claim),
            other => Self::Json(other.to_string()),
        }
    }
}

impl Plan {
    /// Appends scope and conditions of the events behind `bar`; `tops` are those of the chart, where the bar needs them.
    pub(crate) fn bar(&self, to: Statement, bar: &Bar, tops: &[Tops]) -> Result<Statement, QueryError> {
        let of_another_chart = || QueryError::internal("the bar is of another chart");
        let series: &Series = self.series.get(bar.series).ok_or_else(of_another_chart)?;
        let to = series.and_measured(self.conditions(to, series, &bar.range));
        let Some(field) = &self.breakdown else { return Ok(to) };
        let to = to.sql(" AND ");
        let key = |to: Statement| field.key(to);
        Ok(match &bar.line {
            Line::Whole => to.sql("1"),
            Line::None => field.is_missing(to.sql("(")).sql(")"),
            Line::Text(text) => key(to).sql(" = concat('s', ").string(text).sql(")"),
            Line::Number(Number { exact: Some(exact), .. }) => key(to).sql(" = concat('o', ").string(&exact.to_string()).sql(")"),
            Line::Number(number) => key(to).sql(" = concat('n', toString(").float(number.float).sql("))"),
            Line::Bool(claim) => key(to).sql(if *claim { " = 'otrue'" } else { " = 'ofalse'" }),
            Line::Other => tops.get(bar.series).ok_or_else(of_another_chart)?.line(to, field).sql(" = ").int(OTHER),
            Line::Json(json) => {
                let top = tops.get(bar.series).ok_or_else(of_another_chart)?;
                match request::parse(json.as_bytes()).ok().and_then(|json| top.find(&json)) {
                    Some(line) => top.line(to, field).sql(" = ").int(line),
                    None => key(to).sql(" = concat('o', ").string(json).sql(")"),
                }
            }
        })
    }
}
