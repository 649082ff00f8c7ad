//! What trends should answer, computed event by event.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Every zone here changes its clocks, and begins its hours, at a multiple of this.
pub(crate) const HALF_HOUR_MS: i64 = 1_800_000;
pub(crate) const MATHS: [&str; 11] = ["total", "unique_users", "unique_sessions", "sum", "avg", "min", "max", "p50", "p90", "p95", "p99"];
pub(crate) const INTERVALS: [&str; 4] = ["hour", "day", "week", "month"];
pub(crate) const BREAKDOWNS: [Option<&str>; 4] = [None, Some("properties.plan"), Some("properties.amount"), Some("country")];
pub(crate) const FILTERS: usize = 8;

/// A stored event, as far as these reports see it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) at_ms: i64,
    pub(crate) person: u64,
    pub(crate) session: u64,
    pub(crate) plan: Option<Value>,
    pub(crate) amount: Option<i64>,
    pub(crate) country: &'static str,
}

/// `from` included, `until` excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    breakdown: Value,
    values: Vec<Option<f64>>,
    total: Option<f64>,
}

impl Event {
    /// As a row of the table; `index` makes its id.
    pub(crate) fn row(&self, project: u64, index: usize) -> Value {
        let at = format!("{}.{:03}", self.at_ms / 1_000, self.at_ms % 1_000);
        let mut row = json!({
            "project_id": project, "type": self.kind, "timestamp": at, "received_day": "2100-01-01",
            // Keys over the whole range of the type, the highest bit included.
            "person_id": self.person * 0x2AAA_AAAA_AAAA_AAAB, "user_id": format!("user {}", self.person),
            "event_id": id(index), "session_id": format!("00000000-0000-0000-0000-{:012}", self.session), "country": self.country,
            "strings": {}, "numbers": {}, "others": {},
        });
        match &self.plan {
            Some(Value::String(text)) => row["strings"]["plan"] = json!(text),
            Some(Value::Number(number)) => row["numbers"]["plan"] = json!(number),
            Some(other) => row["others"]["plan"] = json!(other.to_string()),
            None => {}
        }
        if let Some(amount) = self.amount {
            row["numbers"]["amount"] = json!(amount);
        }
        row
    }

    /// The value of a breakdown as a key that sorts as the ranking does.
    fn key(&self, breakdown: Option<&str>) -> String {
        match breakdown {
            None => String::new(),
            Some("country") if self.country.is_empty() => "z".to_owned(),
            Some("country") => format!("s{}", self.country),
            Some("properties.amount") => self.amount.map_or_else(|| "z".to_owned(), |amount| format!("n{amount}")),
            _ => match &self.plan {
                None => "z".to_owned(),
                Some(Value::String(text)) => format!("s{text}"),
                Some(Value::Number(number)) => format!("n{number}"),
                Some(other) => format!("o{other}"),
            },
        }
    }
}

/// The id of the event that was inserted as number `index`.
pub(crate) fn id(index: usize) -> String {
    format!("00000000-0000-4000-8000-{index:012}")
}

pub(crate) fn filter_request(filter: usize) -> Value {
    match filter {
        1 => json!([{"field": "country", "op": "eq", "value": "DE"}]),
        2 => json!([{"field": "properties.plan", "op": "neq", "value": "pro"}]),
        3 => json!([{"field": "properties.amount", "op": "gt", "value": 1}]),
        4 => json!([{"field": "properties.plan", "op": "exists"}]),
        5 => json!([{"field": "properties.plan", "op": "in", "value": ["", "it's \\ \"x\"\n\tü{p0:String}", 7, true]}]),
        6 => json!([{"field": "properties.plan", "op": "contains", "value": "\\ \"x"}]),
        7 => json!([{"field": "country", "op": "regex", "value": "^[DF]"}, {"field": "properties.amount", "op": "lte", "value": 3}]),
        _ => json!([]),
    }
}

pub(crate) fn passes(filter: usize, event: &Event) -> bool {
    let text = event.plan.as_ref().and_then(Value::as_str);
    match filter {
        1 => event.country == "DE",
        2 => text != Some("pro"),
        3 => event.amount.is_some_and(|amount| amount > 1),
        4 => event.plan.is_some(),
        5 => event.plan.as_ref().is_some_and(|plan| *plan != json!("pro") && !plan.is_array()),
        6 => text.is_some_and(|text| text.contains("\\ \"x")),
        7 => ["DE", "FR"].contains(&event.country) && event.amount.is_some_and(|amount| amount <= 3),
        _ => true,
    }
}

/// The starts of the buckets: wherever the wall clock's label changes.
pub(crate) fn buckets(range: Range, interval: &str, zone: &str) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let label = |at_ms: i64| {
        let at = jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone());
        match interval {
            "hour" => format!("{} {} {}", at.date(), at.hour(), at.offset()),
            "day" => at.date().to_string(),
            "week" => format!("{:?}", (at.date().iso_week_date().year(), at.date().iso_week_date().week())),
            _ => format!("{} {}", at.year(), at.month()),
        }
    };
    let mut start = range.from;
    while label(start - HALF_HOUR_MS) == label(range.from) {
        start -= HALF_HOUR_MS;
    }
    let mut starts = vec![start];
    let mut at = range.from + HALF_HOUR_MS;
    while at < range.until {
        if label(at) != label(at - HALF_HOUR_MS) {
            starts.push(at);
        }
        at += HALF_HOUR_MS;
    }
    starts
}

/// The value of `math` over `events`; none where nothing was measured.
fn measure(events: &[&Event], math: &str) -> Option<f64> {
    let mut amounts: Vec<i64> = events.iter().filter_map(|event| event.amount).collect();
    amounts.sort_unstable();
    let quantile = |level: f64| {
        let at = level * (amounts.len() as f64 - 1.0);
        let (below, above) = (*amounts.get(at as usize)? as f64, amounts.get(at as usize + 1).or(amounts.last()).copied()? as f64);
        Some(below + (at - at.floor()) * (above - below))
    };
    match math {
        "total" => Some(events.len() as f64),
        "unique_users" => Some(events.iter().map(|event| event.person).collect::<BTreeSet<_>>().len() as f64),
        "unique_sessions" => Some(events.iter().map(|event| event.session).collect::<BTreeSet<_>>().len() as f64),
        "sum" => Some(amounts.iter().sum::<i64>() as f64),
        "avg" if amounts.is_empty() => None,
        "avg" => Some(amounts.iter().sum::<i64>() as f64 / amounts.len() as f64),
        "min" => Some(amounts.first().copied().unwrap_or(0) as f64),
        "max" => Some(amounts.last().copied().unwrap_or(0) as f64),
        "p50" => quantile(0.5),
        "p90" => quantile(0.9),
        "p95" => quantile(0.95),
        _ => quantile(0.99),
    }
}

/// The keys of the largest values, largest first.
pub(crate) fn top(events: &[&Event], range: Range, (math, breakdown): (&str, Option<&str>), limit: usize) -> Vec<String> {
    if breakdown.is_none() {
        return vec![String::new()];
    }
    let mut groups: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| (range.from..range.until).contains(&event.at_ms)) {
        groups.entry(event.key(breakdown)).or_default().push(event);
    }
    groups.remove("z");
    let mut sizes: Vec<(f64, String)> =
        groups.into_iter().map(|(key, events)| (measure(&events, math).unwrap_or(f64::NEG_INFINITY), key)).collect();
    sizes.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    sizes.into_iter().take(limit).map(|(_, key)| key).collect()
}

/// The lines of one series: those of `top`, then `$other` and `$none` where there are any.
pub(crate) fn lines(
    events: &[&Event],
    (range, buckets): (Range, &[i64]),
    (math, breakdown): (&str, Option<&str>),
    top: &[String],
) -> Vec<Line> {
    let inside = |event: &&&Event| (range.from..range.until).contains(&event.at_ms);
    let line = |shown: Value, is_in: &dyn Fn(&str) -> bool| {
        let events: Vec<&Event> = events.iter().filter(inside).filter(|event| is_in(&event.key(breakdown))).copied().collect();
        let value = |index: usize, start: i64| {
            let end = buckets.get(index + 1).copied().unwrap_or(i64::MAX);
            let events: Vec<&Event> = events.iter().filter(|event| (start..end).contains(&event.at_ms)).copied().collect();
            Some(measure(&events, math).unwrap_or(0.0))
        };
        let values = buckets.iter().enumerate().map(|(index, start)| value(index, *start)).collect();
        (!events.is_empty(), Line { breakdown: shown, values, total: Some(measure(&events, math).unwrap_or(0.0)) })
    };
    let mut lines: Vec<Line> = top.iter().map(|key| line(shown(key), &|other| other == key).1).collect();
    let rest = [line(json!("$other"), &|key| key != "z" && !top.iter().any(|known| known == key)), line(json!("$none"), &|key| key == "z")];
    lines.extend(rest.into_iter().filter(|(is_there, _)| *is_there).map(|(_, line)| line));
    lines
}

fn shown(key: &str) -> Value {
    match key.split_at_checked(1) {
        Some(("s", text)) => json!(text),
        Some((_, text)) => serde_json::from_str(text).unwrap(),
        None => Value::Null,
    }
}

/// `A/B`, line by line; the lines of `top` are in both.
pub(crate) fn quotients(left: &[Line], right: &[Line], top: &[String]) -> Vec<Line> {
    let quotient = |(left, right): (Option<f64>, Option<f64>)| match (left?, right?) {
        (0.0, 0.0) => Some(0.0),
        (_, 0.0) => None,
        (left, right) => Some(left / right),
    };
    let zero = |like: &Line| Line { breakdown: like.breakdown.clone(), values: vec![Some(0.0); like.values.len()], total: Some(0.0) };
    let rest = |name: &str| left.iter().chain(right).skip(top.len()).find(|line| line.breakdown == json!(name));
    let heads = left.iter().take(top.len()).chain(rest("$other")).chain(rest("$none"));
    let find =
        |lines: &[Line], head: &Line| lines.iter().find(|line| line.breakdown == head.breakdown).cloned().unwrap_or_else(|| zero(head));
    heads
        .map(|head| {
            let (left, right) = (find(left, head), find(right, head));
            let values = left.values.iter().copied().zip(right.values.iter().copied()).map(quotient).collect();
            Line { breakdown: head.breakdown.clone(), values, total: quotient((left.total, right.total)) }
        })
        .collect()
}

impl Line {
    /// A line of an answer.
    pub(crate) fn read(series: &Value) -> Self {
        let values = series["values"].as_array().unwrap().iter().map(Value::as_f64).collect();
        Self { breakdown: series["breakdown"].clone(), values, total: series["total"].as_f64() }
    }
}

/// Whether two charts are the same up to rounding.
pub(crate) fn agree(left: &[Line], right: &[Line]) -> bool {
    let close = |left: Option<f64>, right: Option<f64>| match (left, right) {
        (Some(left), Some(right)) => (left - right).abs() < 1e-9,
        (left, right) => left.is_none() && right.is_none(),
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            left.breakdown == right.breakdown
                && close(left.total, right.total)
                && left.values.len() == right.values.len()
                && left.values.iter().zip(&right.values).all(|(left, right)| close(*left, *right))
        })
}

/// What `properties` should answer about `events`, with at most `limit` values a name.
pub(crate) fn properties(events: &[&Event], limit: usize) -> Value {
    let mut counts: BTreeMap<(&str, &str), BTreeMap<String, u64>> = BTreeMap::new();
    for event in events {
        let amount = event.amount.map(|amount| ("amount", json!(amount)));
        for (name, value) in event.plan.clone().map(|plan| ("plan", plan)).into_iter().chain(amount) {
            let kind = match value {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "array",
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            *counts.entry((name, kind)).or_default().entry(text).or_default() += 1;
        }
    }
    let mut properties: Vec<_> = counts.into_iter().map(|(head, values)| (values.values().sum::<u64>(), head, values)).collect();
    properties.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
    properties
        .into_iter()
        .map(|(events, (name, kind), values)| {
            let mut values: Vec<(String, u64)> = values.into_iter().collect();
            // Texts are in order already, and this keeps it among equals.
            values.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
            let show = |text: String| if kind == "string" { json!(text) } else { serde_json::from_str(&text).unwrap() };
            let values: Vec<Value> =
                values.into_iter().take(limit).map(|(text, events)| json!({"value": show(text), "events": events})).collect();
            json!({"name": name, "type": kind, "events": events, "values": values})
        })
        .collect()
}
