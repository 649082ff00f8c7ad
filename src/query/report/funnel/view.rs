//! What a funnel shows of its outcomes: its steps, how long conversion takes, or how it goes over time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::lines::Lines;
use super::outcomes::{Outcome, Outcomes};
use super::steps::Step;
use crate::query::ask::interval::Buckets;
use crate::query::ask::{Canonical, CanonicalForm, Range};
use crate::query::reader::number;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Steps,
    /// In so many bins.
    TimeToConvert(usize),
    Trend,
}

impl Canonical for View {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Steps => to.word("steps"),
            Self::TimeToConvert(bins) => {
                to.field("time_to_convert", bins);
            }
            Self::Trend => to.word("trend"),
        }
    }
}

/// An answer as the wire shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<Vec<bool>>,
    groups: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compare: Option<Box<Shown>>,
}

/// A line of it.
#[derive(Debug, Serialize)]
struct Group {
    breakdown: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    #[serde(flatten)]
    numbers: BTreeMap<&'static str, Value>,
}

/// What is shown of which outcomes.
#[derive(Clone, Copy)]
pub(super) struct Picture<'p> {
    pub(super) steps: &'p [Step],
    pub(super) outcomes: &'p Outcomes,
    pub(super) lines: &'p Lines,
    /// Whether a bar counts how many steps are done, whichever they are.
    pub(super) by_number: bool,
}

impl Picture<'_> {
    /// The steps, line by line.
    pub(super) fn steps(self) -> Shown {
        self.shown(|outcomes| {
            let bars = (0..self.steps.len()).map(|bar| self.bar(bar, outcomes));
            BTreeMap::from([("steps", Value::from_iter(bars))])
        })
    }

    /// How long it takes to convert.
    pub(super) fn times(self, bins: usize) -> Shown {
        self.shown(|outcomes| {
            let converted = outcomes.iter().filter(|outcome| self.is_converted(outcome));
            let times = converted.filter_map(|outcome| {
                let chain = self.outcomes.chain(outcome);
                Some(chain.last()?.at_ms - chain.first()?.at_ms)
            });
            let mut times: Vec<i64> = times.collect();
            times.sort_unstable();
            let average = times.iter().map(|time| *time as f64).sum::<f64>() / times.len() as f64;
            BTreeMap::from([
                ("converted", json!(times.len())),
                ("median_ms", quantile(&times, 0.5)),
                ("p90_ms", quantile(&times, 0.9)),
                ("avg_ms", if times.is_empty() { Value::Null } else { number(average) }),
                ("bins", binned(&times, bins)),
            ])
        })
    }

    /// Entries and conversions by bucket of entry in `range`.
    pub(super) fn trend(self, range: &Range, buckets: &Buckets, now_ms: i64) -> Shown {
        let shown = self.shown(|outcomes| {
            let (mut entered, mut converted) = (vec![0_u64; buckets.len()], vec![0_u64; buckets.len()]);
            for outcome in outcomes {
                let bucket = buckets.starts().partition_point(|start| *start <= self.outcomes.entry_ms(outcome)).saturating_sub(1);
                let add = |counts: &mut Vec<u64>, one| counts.get_mut(bucket).into_iter().for_each(|count| *count += u64::from(one));
                add(&mut entered, true);
                add(&mut converted, self.is_converted(outcome));
            }
            let rate: Value = entered.iter().zip(&converted).map(|(entered, converted)| ratio(*converted, *entered)).collect();
            BTreeMap::from([("entered", json!(entered)), ("converted", json!(converted)), ("rate", rate)])
        });
        let starts = buckets.starts().iter().map(|start| range.show(*start)).collect();
        Shown { buckets: Some(starts), partial: Some(buckets.partial(range, now_ms)), ..shown }
    }

    fn shown(self, numbers: impl Fn(&[&Outcome]) -> BTreeMap<&'static str, Value>) -> Shown {
        let mut of_line: BTreeMap<i64, Vec<&Outcome>> = BTreeMap::new();
        for outcome in self.outcomes.all() {
            of_line.entry(self.lines.of(outcome.group)).or_default().push(outcome);
        }
        let present: BTreeSet<i64> = of_line.keys().copied().collect();
        let group = |line: i64| {
            let (breakdown, kind) = self.lines.shown(line);
            Group { breakdown, kind, numbers: numbers(of_line.get(&line).map_or(&[][..], Vec::as_slice)) }
        };
        let groups = self.lines.in_order(&present).into_iter().map(group).collect();
        Shown { buckets: None, partial: None, groups, compare: None }
    }

    fn is_converted(self, outcome: &Outcome) -> bool {
        outcome.reaches(self.steps.len() - 1)
    }

    fn bar(self, bar: usize, outcomes: &[&Outcome]) -> Value {
        let count = |bar: usize| outcomes.iter().filter(|outcome| outcome.reaches(bar)).count() as u64;
        let before = bar.checked_sub(1);
        let dropped =
            before.map_or(0, |before| outcomes.iter().filter(|outcome| outcome.reaches(before) && !outcome.reaches(bar)).count() as u64);
        let mut times: Vec<i64> = outcomes.iter().filter_map(|outcome| self.time_of(bar, outcome)).collect();
        times.sort_unstable();
        let (name, event) = self.steps.get(bar).map_or((Value::Null, Value::Null), |step| (json!(step.name), step.events.shown()));
        json!({
            "name": name,
            "event": event,
            "count": count(bar),
            "from_start": ratio(count(bar), count(0)),
            "from_previous": before.map(count).map_or(Value::Null, |before| ratio(before - dropped, before)),
            "dropped": dropped,
            "median_ms": quantile(&times, 0.5),
            "p90_ms": quantile(&times, 0.9),
        })
    }

    /// How long after the step before the chain of an outcome comes to a bar, if it does.
    fn time_of(self, bar: usize, outcome: &Outcome) -> Option<i64> {
        let chain = self.outcomes.chain(outcome);
        let at = if self.by_number { bar } else { chain.iter().position(|passed| passed.step == bar)? };
        Some(chain.get(at)?.at_ms - chain.get(at.checked_sub(1)?)?.at_ms)
    }
}

fn ratio(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Null } else { number(part as f64 / whole as f64) }
}

/// Of numbers in order, interpolated between the two nearest.
fn quantile(sorted: &[i64], level: f64) -> Value {
    let Some(last) = sorted.len().checked_sub(1) else { return Value::Null };
    let at = level * last as f64;
    let value = |index: f64| sorted.get((index as usize).min(last)).map_or(0.0, |value| *value as f64);
    let (below, above) = (value(at.floor()), value(at.floor() + 1.0));
    number(below + (at - at.floor()) * (above - below))
}

/// Numbers in order, in equal bins from the smallest to the largest; if all are equal there is one bin.
fn binned(sorted: &[i64], bins: usize) -> Value {
    let (Some(smallest), Some(largest)) = (sorted.first(), sorted.last()) else { return json!([]) };
    let width = (largest - smallest) as u128;
    let bins = if width == 0 { 1 } else { bins };
    let mut counts = vec![0_u64; bins];
    for value in sorted {
        let bin = ((value - smallest) as u128 * bins as u128).checked_div(width).unwrap_or(0) as usize;
        counts.get_mut(bin.min(bins - 1)).into_iter().for_each(|count| *count += 1);
    }
    let edge = |bin: usize| number(*smallest as f64 + width as f64 * bin as f64 / bins as f64);
    counts.iter().enumerate().map(|(bin, count)| json!({"from_ms": edge(bin), "to_ms": edge(bin + 1), "count": count})).collect()
}
