//! Trends: every number of every line, event by event.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{Breakdown, Event, Key, Range, edges};
use crate::report::{Asker, Case, NOW_MS, instant};

/// Compares the chart, and the one that it is compared with.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let answer = asker.answer("trends", &case.shaped_request());
    let (chart, compared) = (&answer["result"], compared(case.range, &case.compare, case.zone));
    check_chart(case, chart, case.range)?;
    check_chart(case, &chart["compare"], compared)?;
    // The first series is of events of any type.
    let is_in = |range: Range, event: &Event| (range.from..range.until).contains(&event.at_ms);
    let excluded = case.excluded(|event| is_in(case.range, event) || is_in(compared, event));
    prop_assert_eq!(&answer["meta"]["excluded_bots"], &json!(excluded));
    Ok(())
}

fn check_chart(case: &Case, chart: &Value, range: Range) -> Result<(), TestCaseError> {
    let starts: Vec<i64> = chart["buckets"].as_array().unwrap().iter().map(|start| instant(start.as_str().unwrap())).collect();
    let edges = edges(range, case.interval, case.zone);
    prop_assert_eq!(&starts, &edges[..edges.len() - 1]);
    let is_partial = |edges: &[i64]| edges[0] < range.from || edges[1] > range.until || edges[1] > NOW_MS;
    prop_assert_eq!(&chart["partial"], &edges.windows(2).map(is_partial).collect::<Value>());
    let lines: Vec<Line> = chart["series"].as_array().unwrap().iter().map(Line::read).collect();
    let expected = expected(case, range);
    prop_assert!(agree(&lines, &expected), "answered {lines:#?}\nexpected {expected:#?}");
    Ok(())
}

/// The events that one series is about.
pub(crate) fn series_events(case: &Case, index: usize) -> Vec<&Event> {
    let of_type = |event: &&Event| index == 0 || event.kind == "buy";
    case.events.iter().filter(of_type).filter(|event| case.passes(event)).collect()
}

/// Those of them that the math counts: where persons count once, the first of each.
fn counted_events<'a>(case: &'a Case, index: usize, math: &str) -> Vec<&'a Event> {
    let events = series_events(case, index);
    if math != "first_time_users" {
        return events;
    }
    let mut first: BTreeMap<u64, &Event> = BTreeMap::new();
    for event in events {
        // Those of one moment in their order in the list.
        if first.get(&event.person).is_none_or(|first| event.at_ms < first.at_ms) {
            first.insert(event.person, event);
        }
    }
    first.into_values().collect()
}

/// A chart, as far as its numbers depend on it.
#[derive(Clone, Copy)]
struct Chart<'a> {
    case: &'a Case,
    range: Range,
    edges: &'a [i64],
}

impl Chart<'_> {
    /// The time whose events count for the bucket of `start` to `end`.
    fn window(&self, math: &str, start: i64, end: i64) -> Range {
        let until = end.min(self.range.until);
        let from = match trailing_days(math) {
            // It ends with the bucket, or with the day in which the range ends.
            Some(days) => days_before(end.min(end_of_day(self.range.until, self.case.zone)), days, self.case.zone),
            None if self.case.cumulative => self.range.from,
            None => start.max(self.range.from),
        };
        Range { from, until }
    }

    /// The time whose events count for any of them.
    fn looked_at(&self, math: &str) -> Range {
        Range { from: self.window(math, self.edges[0], self.edges[1]).from, until: self.range.until }
    }
}

fn trailing_days(math: &str) -> Option<i64> {
    [("dau", 1), ("wau", 7), ("mau", 30)].into_iter().find(|(name, _)| *name == math).map(|(_, days)| days)
}

/// The end of the day in which what ends at `until` ends.
fn end_of_day(until: i64, zone: &str) -> i64 {
    let zone = TimeZone::get(zone).unwrap();
    let last = jiff::Timestamp::from_millisecond(until - 1).unwrap().to_zoned_datetime(zone.clone()).date();
    last.tomorrow().unwrap().to_zoned_datetime(zone).unwrap().timestamp().as_millisecond()
}

/// The same time of the day, or the same beginning of one, so many days before.
fn days_before(at_ms: i64, days: i64, zone: &str) -> i64 {
    let zone = TimeZone::get(zone).unwrap();
    let at = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone());
    let before = match at(at_ms).date() != at(at_ms - 1).date() {
        true => (at(at_ms).date() - days.days()).to_zoned_datetime(zone.clone()).unwrap(),
        false => at(at_ms) - days.days(),
    };
    before.timestamp().as_millisecond()
}

/// Series after series, the lines of the chart of `range`.
fn expected(case: &Case, range: Range) -> Vec<Line> {
    let edges = edges(range, case.interval, case.zone);
    let tops: Vec<Vec<Key>> = (0..case.maths.len())
        .map(|index| {
            let leader = if case.formula { 0 } else { index };
            let math = case.maths[leader];
            let whole = Chart { case, range: case.range, edges: &self::edges(case.range, case.interval, case.zone) }.looked_at(math);
            top(&counted_events(case, leader, math), whole, (math, case.breakdown), case.limit)
        })
        .collect();
    let charts: Vec<Vec<Line>> =
        (0..case.maths.len()).map(|index| lines(Chart { case, range, edges: &edges }, index, &tops[index])).collect();
    let charts = match case.formula {
        false => charts.concat(),
        true => {
            let nothing = [0, 1].map(|index| nothing(case.maths[index]));
            quotients(&charts[0], &charts[1], (&tops[0], nothing))
        }
    };
    charts.into_iter().map(|line| averaged(line, case.moving_average)).collect()
}

fn averaged(line: Line, of: Option<usize>) -> Line {
    let Some(of) = of else { return line };
    let mean = |index: usize| {
        let numbers: Vec<f64> = (0..=index).rev().take(of).filter_map(|index| line.values[index]).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
    };
    Line { values: (0..line.values.len()).map(mean).collect(), ..line }
}

/// A line of a chart.
#[derive(Clone, Debug)]
struct Line {
    breakdown: Value,
    kind: Value,
    values: Vec<Option<f64>>,
    total: Option<f64>,
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
    let earlier = |at_ms: i64, span: jiff::Span| match is_midnight(at_ms) {
        true => ms(at(at_ms).date() - span),
        false => (at(at_ms) - span).timestamp().as_millisecond(),
    };
    if with == "weekdays" {
        let span = (1_i64..).map(|weeks| (7 * weeks).days()).find(|span| earlier(range.until, *span) <= range.from).unwrap();
        let (start, end) = (earlier(range.from, span), earlier(range.until, span));
        return Range { from: start, until: if end > start { end } else { start + range.until - range.from } };
    }
    if with == "year" {
        let year = 1.year();
        let before = |at_ms: i64| earlier(at_ms, year);
        // What ends with a day ends with that day of the year before.
        let end = match is_midnight(range.until) {
            true => ms((until.date().yesterday().unwrap() - year).tomorrow().unwrap()),
            false => before(range.until),
        };
        let start = before(range.from);
        return Range { from: start, until: if end > start { end } else { start + range.until - range.from } };
    }
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
    let persons = || events.iter().map(|event| event.person).collect::<BTreeSet<_>>().len() as f64;
    match math {
        "total" => Some(events.len() as f64),
        "unique_users" | "dau" | "wau" | "mau" | "first_time_users" => Some(persons()),
        "per_user" if events.is_empty() => None,
        "per_user" => Some(events.len() as f64 / persons()),
        unique if unique.starts_with("unique:") => {
            let values: BTreeSet<String> = events.iter().map(|event| event.value_of(&unique["unique:".len()..])).collect();
            Some(values.into_iter().filter(|value| value != "z").count() as f64)
        }
        "unique_sessions" => Some(events.iter().map(|event| event.session_key()).collect::<BTreeSet<_>>().len() as f64),
        "sum" => Some(amounts.iter().sum::<f64>() + 0.0),
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
pub(crate) fn top(events: &[&Event], range: Range, (math, breakdown): (&str, Breakdown), limit: usize) -> Vec<Key> {
    if breakdown.fields.is_empty() {
        return vec![Key::new()];
    }
    let mut groups: BTreeMap<Key, Vec<&Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| (range.from..range.until).contains(&event.at_ms)) {
        groups.entry(event.key(breakdown)).or_default().push(event);
    }
    groups.remove(&breakdown.none());
    let mut sizes: Vec<(f64, Key)> =
        groups.into_iter().map(|(key, events)| (measure(&events, math).unwrap_or(f64::NEG_INFINITY), key)).collect();
    sizes.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    sizes.into_iter().take(limit).map(|(_, key)| key).collect()
}

/// The lines of one series: those of `top`, then `$other` and `$none` where there are any.
fn lines(chart: Chart<'_>, index: usize, top: &[Key]) -> Vec<Line> {
    let (math, breakdown) = (chart.case.maths[index], chart.case.breakdown);
    let events = counted_events(chart.case, index, math);
    let is_in = |range: Range, event: &Event| (range.from..range.until).contains(&event.at_ms);
    let line = |(shown, kind): (Value, Value), is_of: &dyn Fn(&Key) -> bool| {
        let of_line = |range: Range| -> Vec<&Event> {
            events.iter().filter(|event| is_in(range, event) && is_of(&event.key(breakdown))).copied().collect()
        };
        let value = |edges: &[i64]| measure(&of_line(chart.window(math, edges[0], edges[1])), math);
        let values: Vec<Option<f64>> = chart.edges.windows(2).map(value).collect();
        let total = if trailing_days(math).is_some() { *values.last().unwrap() } else { measure(&of_line(chart.range), math) };
        (!of_line(chart.looked_at(math)).is_empty(), Line { breakdown: shown, kind, values, total })
    };
    let mut lines: Vec<Line> = top.iter().map(|key| line(shown(key, breakdown), &|other| other == key).1).collect();
    let none = breakdown.none();
    let is_rest = |key: &Key| *key != none && !top.contains(key);
    let same = |value: &str| if breakdown.is_list { json!(vec![value; breakdown.fields.len()]) } else { json!(value) };
    let is_none = |key: &Key| !key.is_empty() && *key == none;
    let rest = [line((same("$other"), same("other")), &is_rest), line((same("$none"), same("none")), &is_none)];
    lines.extend(rest.into_iter().filter(|(is_there, _)| *is_there).map(|(_, line)| line));
    lines
}

/// What a line of `key` shows, and its kind.
pub(crate) fn shown(key: &Key, breakdown: Breakdown) -> (Value, Value) {
    let value = |key: &String| match key.split_at(1) {
        ("z", _) => (json!("$none"), json!("none")),
        ("s", text) => (json!(text), json!("value")),
        (_, text) => (serde_json::from_str(text).unwrap(), json!("value")),
    };
    let (values, kinds): (Vec<Value>, Vec<Value>) = key.iter().map(value).unzip();
    match breakdown {
        Breakdown { fields: [], .. } => (Value::Null, Value::Null),
        Breakdown { is_list: true, .. } => (json!(values), json!(kinds)),
        _ => (values[0].clone(), kinds[0].clone()),
    }
}

/// `A/B`, line by line; the lines of `top` are in both, and a line that is missing has the number `nothing` of each.
fn quotients(left: &[Line], right: &[Line], (top, nothing): (&[Key], [Option<f64>; 2])) -> Vec<Line> {
    let quotient = |(left, right): (Option<f64>, Option<f64>)| match (left?, right?) {
        (_, 0.0) => None,
        (left, right) => Some(left / right),
    };
    let is_all = |line: &Line, kind: &str| line.kind.as_array().map_or(line.kind == kind, |kinds| kinds.iter().all(|own| own == kind));
    let rest = |kind: &'static str| left.iter().chain(right).skip(top.len()).find(move |line| is_all(line, kind));
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
fn nothing(math: &str) -> Option<f64> {
    measure(&[], math)
}

impl Line {
    /// A line of an answer.
    fn read(series: &Value) -> Self {
        let values = series["values"].as_array().unwrap().iter().map(Value::as_f64).collect();
        Self { breakdown: series["breakdown"].clone(), kind: series["kind"].clone(), values, total: series["total"].as_f64() }
    }
}

/// Whether two charts are the same up to rounding.
fn agree(left: &[Line], right: &[Line]) -> bool {
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
