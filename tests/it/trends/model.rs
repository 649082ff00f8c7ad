//! What trends should answer, computed event by event.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Every zone here changes its clocks, and begins its hours, at a multiple of this.
pub(crate) const HALF_HOUR_MS: i64 = 1_800_000;
pub(crate) const MATHS: [&str; 11] = ["total", "unique_users", "unique_sessions", "sum", "avg", "min", "max", "p50", "p90", "p95", "p99"];
pub(crate) const INTERVALS: [&str; 4] = ["hour", "day", "week", "month"];
pub(crate) const BREAKDOWNS: [Option<&str>; 4] = [None, Some("properties.plan"), Some("properties.amount"), Some("country")];
pub(crate) const FILTERS: usize = 16;
/// A number that no float stands for.
pub(crate) const BIG: i64 = 9_007_199_254_740_993;

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
    kind: Value,
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
            Some(Value::Number(number)) if *number != json!(BIG).as_number().unwrap().clone() => row["numbers"]["plan"] = json!(number),
            Some(other) => row["others"]["plan"] = json!(stored(other)),
            None => {}
        }
        match self.amount {
            Some(BIG) => row["others"]["amount"] = json!(BIG.to_string()),
            Some(amount) => row["numbers"]["amount"] = json!(amount),
            None => {}
        }
        row
    }

    /// The value of a breakdown as a key that sorts as the ranking does.
    fn key(&self, breakdown: Option<&str>) -> String {
        match breakdown {
            None => String::new(),
            Some("country") if self.country.is_empty() => "z".to_owned(),
            Some("country") => format!("s{}", self.country),
            Some("properties.amount") => self.amount.map_or_else(|| "z".to_owned(), |amount| number_key(&json!(amount))),
            _ => match &self.plan {
                None | Some(Value::Null) => "z".to_owned(),
                Some(Value::String(text)) => format!("s{text}"),
                Some(number @ Value::Number(_)) => number_key(number),
                Some(other) => format!("o{}", stored(other)),
            },
        }
    }
}

/// JSON as it was sent and stored: with the keys of objects in another order than the one in which they are read back.
fn stored(value: &Value) -> String {
    if *value == plan_with_an_object() { r#"[{"sku":"x","qty":1}]"#.to_owned() } else { value.to_string() }
}

pub(crate) fn plan_with_an_object() -> Value {
    json!([{"qty": 1, "sku": "x"}])
}

fn number_key(number: &Value) -> String {
    match number.as_f64() {
        _ if *number == json!(BIG) => format!("o{number}"),
        Some(0.0) => "n0".to_owned(),
        _ => format!("n{number}"),
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
        8 => json!([{"field": "properties.plan", "op": "not_exists"}]),
        9 => json!([{"field": "properties.plan", "op": "neq", "value": null}]),
        10 => json!([{"field": "properties.amount", "op": "in", "value": [BIG, 2, 3.5]}]),
        11 => json!([{"field": "properties.amount", "op": "gt", "value": BIG - 1}]),
        12 => json!([{"field": "properties.amount", "op": "lt", "value": BIG}]),
        13 => json!([{"field": "properties.amount", "op": "lte", "value": BIG}, {"field": "properties.amount", "op": "gte", "value": 1.5}]),
        14 => json!([{"field": "properties.plan", "op": "eq", "value": BIG - 2}]),
        15 => json!([{"field": "properties.plan", "op": "in", "value": [0, "$none", null, BIG]}]),
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
        4 | 9 => event.plan.as_ref().is_some_and(|plan| !plan.is_null()),
        8 => event.plan.as_ref().is_none_or(Value::is_null),
        10 => event.amount.is_some_and(|amount| [BIG, 2].contains(&amount)),
        11 => event.amount == Some(BIG),
        12 => event.amount.is_some_and(|amount| amount < BIG),
        13 => event.amount.is_some_and(|amount| amount >= 2),
        14 => false,
        15 => event
            .plan
            .as_ref()
            .is_none_or(|plan| plan.is_null() || *plan == json!(BIG) || *plan == json!("$none") || plan.as_f64() == Some(0.0)),
        5 => event.plan.as_ref().is_some_and(|plan| {
            let texts = ["", "it's \\ \"x\"\n\tü{p0:String}"];
            text.is_some_and(|text| texts.contains(&text)) || *plan == json!(7) || *plan == json!(true)
        }),
        6 => text.is_some_and(|text| text.contains("\\ \"x")),
        7 => ["DE", "FR"].contains(&event.country) && event.amount.is_some_and(|amount| amount <= 3),
        _ => true,
    }
}

/// The starts of the buckets and the end of the last one: wherever the wall clock shows the beginning of one.
pub(crate) fn edges(range: Range, interval: &str, zone: &str) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let at = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone());
    let label = |at_ms: i64| match interval {
        "day" => at(at_ms).date().to_string(),
        "week" => format!("{:?}", (at(at_ms).date().iso_week_date().year(), at(at_ms).date().iso_week_date().week())),
        _ => format!("{} {}", at(at_ms).year(), at(at_ms).month()),
    };
    let is_edge = |at_ms: i64| match interval {
        "hour" => at(at_ms).minute() == 0,
        _ => label(at_ms) != label(at_ms - HALF_HOUR_MS),
    };
    let mut start = range.from;
    while !is_edge(start) {
        start -= HALF_HOUR_MS;
    }
    let mut edges = vec![start];
    let mut next = start + HALF_HOUR_MS;
    loop {
        if is_edge(next) {
            edges.push(next);
            if next >= range.until {
                return edges;
            }
        }
        next += HALF_HOUR_MS;
    }
}

/// The range that `range` is compared with.
pub(crate) fn compared(range: Range, with: &Value, zone: &str) -> Range {
    let zone = TimeZone::get(zone).unwrap();
    let at = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone());
    let ms = |date: jiff::civil::Date| date.to_zoned_datetime(zone.clone()).unwrap().timestamp().as_millisecond();
    if let Some(from) = with["from"].as_str() {
        let read = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        return Range { from: read(from), until: read(with["to"].as_str().unwrap()) };
    }
    let (from, until) = (at(range.from), at(range.until));
    let is_midnight = |at_ms: i64| at(at_ms).date() != at(at_ms - 1).date();
    let both_midnight = is_midnight(range.from) && is_midnight(range.until);
    // One day after the other, and one month after the other.
    let days = (1..1_000).find(|days| from.date() + days.days() == until.date());
    let months = (1..100).find(|months| from.date() + months.months() == until.date());
    let back = |span: jiff::Span| match is_midnight(range.from) {
        true => ms(from.date() - span),
        false => (from.clone() - span).timestamp().as_millisecond(),
    };
    match (months, days) {
        (Some(months), _) if both_midnight && from.day() == 1 && until.day() == 1 => {
            Range { from: back(months.months()), until: range.from }
        }
        (_, Some(days)) if both_midnight || from.time() == until.time() => Range { from: back(days.days()), until: range.from },
        _ => Range { from: 2 * range.from - range.until, until: range.from },
    }
}

/// The value of `math` over `events`: none where an average, a minimum, a maximum or a percentile has nothing to be of.
fn measure(events: &[&Event], math: &str) -> Option<f64> {
    let mut amounts: Vec<f64> = events.iter().filter_map(|event| event.amount).map(|amount| amount as f64).collect();
    amounts.sort_by(f64::total_cmp);
    let quantile = |level: f64| {
        let at = level * (amounts.len() as f64 - 1.0);
        let (below, above) = (*amounts.get(at as usize)?, amounts.get(at as usize + 1).or(amounts.last()).copied()?);
        Some(below + (at - at.floor()) * (above - below))
    };
    match math {
        "total" => Some(events.len() as f64),
        "unique_users" => Some(events.iter().map(|event| event.person).collect::<BTreeSet<_>>().len() as f64),
        "unique_sessions" => Some(events.iter().map(|event| event.session).collect::<BTreeSet<_>>().len() as f64),
        "sum" => Some(amounts.iter().sum::<f64>()),
        "avg" if amounts.is_empty() => None,
        "avg" => Some(amounts.iter().sum::<f64>() / amounts.len() as f64),
        "min" => amounts.first().copied(),
        "max" => amounts.last().copied(),
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
    (range, edges): (Range, &[i64]),
    (math, breakdown): (&str, Option<&str>),
    top: &[String],
) -> Vec<Line> {
    let inside = |event: &&&Event| (range.from..range.until).contains(&event.at_ms);
    let line = |(shown, kind): (Value, Value), is_in: &dyn Fn(&str) -> bool| {
        let events: Vec<&Event> = events.iter().filter(inside).filter(|event| is_in(&event.key(breakdown))).copied().collect();
        let value = |index: usize, start: i64| {
            let end = edges.get(index + 1).copied().unwrap_or(i64::MAX);
            let events: Vec<&Event> = events.iter().filter(|event| (start..end).contains(&event.at_ms)).copied().collect();
            measure(&events, math)
        };
        let values = edges.iter().take(edges.len() - 1).enumerate().map(|(index, start)| value(index, *start)).collect();
        (!events.is_empty(), Line { breakdown: shown, kind, values, total: measure(&events, math) })
    };
    let mut lines: Vec<Line> = top.iter().map(|key| line(shown(key), &|other| other == key).1).collect();
    let is_rest = |key: &str| key != "z" && !top.iter().any(|known| known == key);
    let rest = [line((json!("$other"), json!("other")), &is_rest), line((json!("$none"), json!("none")), &|key| key == "z")];
    lines.extend(rest.into_iter().filter(|(is_there, _)| *is_there).map(|(_, line)| line));
    lines
}

fn shown(key: &str) -> (Value, Value) {
    match key.split_at_checked(1) {
        Some(("s", text)) => (json!(text), json!("value")),
        Some((_, text)) => (serde_json::from_str(text).unwrap(), json!("value")),
        None => (Value::Null, Value::Null),
    }
}

/// `A/B`, line by line; the lines of `top` are in both, and a line that is missing has the number `nothing` of each.
pub(crate) fn quotients(left: &[Line], right: &[Line], (top, nothing): (&[String], [Option<f64>; 2])) -> Vec<Line> {
    let quotient = |(left, right): (Option<f64>, Option<f64>)| match (left?, right?) {
        (_, 0.0) => None,
        (left, right) => Some(left / right),
    };
    let rest = |kind: &str| left.iter().chain(right).skip(top.len()).find(|line| line.kind == json!(kind));
    let heads = left.iter().take(top.len()).chain(rest("other")).chain(rest("none"));
    let find = |lines: &[Line], head: &Line, nothing: Option<f64>| {
        let is_same = |line: &&Line| line.breakdown == head.breakdown && line.kind == head.kind;
        let empty = || Line { values: vec![nothing; head.values.len()], total: nothing, ..head.clone() };
        lines.iter().find(is_same).cloned().unwrap_or_else(empty)
    };
    heads
        .map(|head| {
            let (left, right) = (find(left, head, nothing[0]), find(right, head, nothing[1]));
            let values = left.values.iter().copied().zip(right.values.iter().copied()).map(quotient).collect();
            Line { values, total: quotient((left.total, right.total)), ..head.clone() }
        })
        .collect()
}

/// The number of a series without events.
pub(crate) fn nothing(math: &str) -> Option<f64> {
    measure(&[], math)
}

impl Line {
    /// A line of an answer.
    pub(crate) fn read(series: &Value) -> Self {
        let values = series["values"].as_array().unwrap().iter().map(Value::as_f64).collect();
        Self { breakdown: series["breakdown"].clone(), kind: series["kind"].clone(), values, total: series["total"].as_f64() }
    }
}

/// Whether two charts are the same up to rounding.
pub(crate) fn agree(left: &[Line], right: &[Line]) -> bool {
    let close = |left: Option<f64>, right: Option<f64>| match (left, right) {
        (Some(left), Some(right)) => (left - right).abs() <= 1e-9 * left.abs().max(1.0),
        (left, right) => left.is_none() && right.is_none(),
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            left.breakdown == right.breakdown
                && left.kind == right.kind
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
        for (name, value) in event.plan.clone().map(|plan| ("plan", plan)).into_iter().chain(amount).filter(|(_, value)| !value.is_null()) {
            let kind = match value {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "array",
            };
            let text = match &value {
                Value::String(text) => text.clone(),
                number @ Value::Number(_) => number_key(number)[1..].to_owned(),
                other => stored(other),
            };
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
