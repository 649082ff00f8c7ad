//! Lines and numbers out of what reports answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::Series;

/// The lines of a chart: of the series called `line`, or of the first one.
pub(super) fn of_chart(result: &Value, line: Option<&str>) -> BTreeMap<String, Series> {
    let buckets = starts(result.get("buckets"));
    let series: Vec<&Value> = result.get("series").and_then(Value::as_array).into_iter().flatten().collect();
    let name = |series: &Value| series.get("name").and_then(Value::as_str).map(str::to_owned);
    let wanted = line.map(str::to_owned).or_else(|| series.first().and_then(|series| name(series)));
    let of_line = series.into_iter().filter(|series| name(series) == wanted && is_line(series));
    let mut lines = BTreeMap::new();
    for shown in of_line {
        // Two series of one name: the first one is meant.
        lines.entry(name_of(shown)).or_insert_with(|| Series { values: paired(&buckets, shown.get("values")), ..Series::default() });
    }
    lines
}

/// Every line of a chart, under the name of its series.
pub(super) fn of_all(result: &Value) -> BTreeMap<String, Series> {
    let buckets = starts(result.get("buckets"));
    let series = result.get("series").and_then(Value::as_array).into_iter().flatten();
    let line = |shown: &Value| {
        let name = shown.get("name").and_then(Value::as_str).unwrap_or_default();
        let name = format!("{name} {}", name_of(shown)).trim().to_owned();
        (name, Series { values: paired(&buckets, shown.get("values")), ..Series::default() })
    };
    series.map(line).collect()
}

/// Whether one of these lines is what is beyond the limit.
pub(super) fn has_other(lines: Option<&Value>) -> bool {
    lines.and_then(Value::as_array).is_some_and(|lines| !lines.iter().all(is_line))
}

/// Whether it is a line of its own, and not what is beyond the limit.
pub(super) fn is_line(shown: &Value) -> bool {
    shown.get("kind").and_then(Value::as_str) != Some("other")
}

pub(super) fn name_of(shown: &Value) -> String {
    match shown.get("breakdown") {
        None | Some(Value::Null) => String::new(),
        Some(value) => value.to_string(),
    }
}

pub(super) fn starts(buckets: Option<&Value>) -> Vec<Option<i64>> {
    buckets.and_then(Value::as_array).into_iter().flatten().map(start_of).collect()
}

pub(super) fn start_of(text: &Value) -> Option<i64> {
    let text = text.as_str()?;
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

pub(super) fn paired(buckets: &[Option<i64>], values: Option<&Value>) -> BTreeMap<i64, f64> {
    let values = values.and_then(Value::as_array).into_iter().flatten();
    buckets.iter().zip(values).filter_map(|(start, value)| Some(((*start)?, value.as_f64()?))).collect()
}
