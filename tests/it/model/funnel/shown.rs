//! What a funnel shows of those who are counted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::trends;
use super::{Asked, Counted};
use crate::model::{Key, Range, edges};
use crate::report::Case;

/// The keys with lines of their own, largest first.
pub(super) fn lines(counted: &[Counted], case: &Case) -> Vec<Key> {
    if case.breakdown.fields.is_empty() {
        return vec![Key::new()];
    }
    let mut sizes: BTreeMap<&Key, usize> = BTreeMap::new();
    counted.iter().filter(|one| one.key != case.breakdown.none()).for_each(|one| *sizes.entry(&one.key).or_default() += 1);
    let mut sizes: Vec<(&Key, usize)> = sizes.into_iter().collect();
    sizes.sort_by_key(|(key, size)| (std::cmp::Reverse(*size), *key));
    sizes.into_iter().take(case.limit).map(|(key, _)| key.clone()).collect()
}

/// A line and those who are counted in it.
pub(super) struct Group<'c> {
    breakdown: Value,
    kind: Value,
    pub(super) counted: Vec<&'c Counted>,
}

pub(super) fn groups<'c>(counted: &'c [Counted], lines: &[Key], case: &Case) -> Vec<Group<'c>> {
    let none = case.breakdown.none();
    let group = |(breakdown, kind): (Value, Value), is_in: &dyn Fn(&Key) -> bool| Group {
        breakdown,
        kind,
        counted: counted.iter().filter(|one| is_in(&one.key)).collect(),
    };
    let mut groups: Vec<Group<'_>> = lines.iter().map(|key| group(trends::shown(key, case.breakdown), &|other| other == key)).collect();
    if case.breakdown.fields.is_empty() {
        return groups;
    }
    let same = |value: &str| if case.breakdown.is_list { json!(vec![value; case.breakdown.fields.len()]) } else { json!(value) };
    let other = group((same("$other"), same("other")), &|key| *key != none && !lines.contains(key));
    let none = group((same("$none"), same("none")), &|key| *key == none);
    groups.extend([other, none].into_iter().filter(|group| !group.counted.is_empty()));
    groups
}

pub(super) fn expected(group: &Group<'_>, (case, asked, range): (&Case, &Asked, Range), view: &str) -> Value {
    let mut shown = match view {
        "steps" => json!({"steps": (0..asked.steps.len()).map(|step| bar(group, asked, step)).collect::<Vec<_>>()}),
        "time_to_convert" => times(group, asked),
        _ => trend(group, asked, &edges(range, case.interval, case.zone)),
    };
    shown["breakdown"] = group.breakdown.clone();
    shown["kind"] = group.kind.clone();
    shown
}

fn ratio(part: usize, whole: usize) -> Value {
    if whole == 0 { Value::Null } else { json!(part as f64 / whole as f64) }
}

fn quantile(mut times: Vec<i64>, level: f64) -> Value {
    times.sort_unstable();
    let at = level * (times.len() as f64 - 1.0);
    let Some(below) = times.get(at as usize) else { return Value::Null };
    let above = times.get(at as usize + 1).unwrap_or(below);
    json!(*below as f64 + (at - at.floor()) * (above - below) as f64)
}

fn bar(group: &Group<'_>, asked: &Asked, step: usize) -> Value {
    let count = |bar: usize| group.counted.iter().filter(|one| one.bars.contains(&bar)).count();
    let dropped = group.counted.iter().filter(|one| step > 0 && one.bars.contains(&(step - 1)) && !one.bars.contains(&step)).count();
    let took = |one: &&Counted| {
        let at = if asked.order == "unordered" { Some(step) } else { one.shown.iter().position(|(own, _)| *own == step) };
        let at = at.filter(|at| (1..one.shown.len()).contains(at))?;
        Some(one.shown[at].1 - one.shown[at - 1].1)
    };
    let times: Vec<i64> = group.counted.iter().filter_map(took).collect();
    let event = asked.steps[step].0.request()["event"].clone();
    let name = match asked.steps[step].0.kinds.as_slice() {
        [] => "any event".to_owned(),
        kinds => kinds.join(" or "),
    };
    json!({
        "name": name, "event": event, "count": count(step), "dropped": dropped, "from_start": ratio(count(step), count(0)),
        "from_previous": if step == 0 { Value::Null } else { ratio(count(step - 1) - dropped, count(step - 1)) },
        "median_ms": quantile(times.clone(), 0.5), "p90_ms": quantile(times, 0.9),
    })
}

fn converted<'c>(group: &Group<'c>, asked: &Asked) -> Vec<&'c Counted> {
    group.counted.iter().filter(|one| one.bars.contains(&(asked.steps.len() - 1))).copied().collect()
}

fn times(group: &Group<'_>, asked: &Asked) -> Value {
    let mut times: Vec<i64> = converted(group, asked).iter().map(|one| one.shown[one.shown.len() - 1].1 - one.shown[0].1).collect();
    times.sort_unstable();
    let bins = match (times.first(), times.last()) {
        (Some(least), Some(most)) => {
            let bins = if least == most { 1 } else { asked.bins };
            let edge = |bin: usize| *least as f64 + (most - least) as f64 * bin as f64 / bins as f64;
            let is_in = |time: i64, bin: usize| {
                let scaled = (time - least) * bins as i64;
                let (low, high) = (bin as i64 * (most - least), (bin as i64 + 1) * (most - least));
                scaled >= low && (scaled < high || bin == bins - 1)
            };
            let bin = |bin: usize| {
                let count = times.iter().filter(|time| is_in(**time, bin)).count();
                json!({"from_ms": edge(bin), "to_ms": edge(bin + 1), "count": count})
            };
            (0..bins).map(bin).collect()
        }
        _ => json!([]),
    };
    let average = times.iter().sum::<i64>() as f64 / times.len() as f64;
    let average = if times.is_empty() { Value::Null } else { json!(average) };
    json!({
        "converted": times.len(), "median_ms": quantile(times.clone(), 0.5), "p90_ms": quantile(times, 0.9), "avg_ms": average, "bins": bins,
    })
}

fn trend(group: &Group<'_>, asked: &Asked, edges: &[i64]) -> Value {
    let (mut entered, mut done, mut rate) = (Vec::new(), Vec::new(), Vec::new());
    for bucket in edges.windows(2) {
        let is_in = |one: &&&Counted| (bucket[0]..bucket[1]).contains(&one.shown[0].1);
        entered.push(group.counted.iter().filter(is_in).count());
        done.push(converted(group, asked).iter().filter(is_in).count());
        rate.push(ratio(done[done.len() - 1], entered[entered.len() - 1]));
    }
    json!({"entered": entered, "converted": done, "rate": rate})
}
