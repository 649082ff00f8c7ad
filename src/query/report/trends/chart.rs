//! Rows of numbers folded into lines, and lines as the wire shows them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::formula::Formula;
use super::series::Series;
use crate::query::ask::Range;
use crate::query::ask::breakdown::{OTHER, Tops};
use crate::query::ask::interval::Buckets;
use crate::query::reader::{Row, number};

/// A chart as the wire shows it.
#[derive(Debug, Serialize)]
pub(in crate::query::report) struct Chart {
    buckets: Vec<String>,
    partial: Vec<bool>,
    series: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::query::report) compare: Option<Box<Chart>>,
}

/// What stands above the lines of a series.
#[derive(Clone, Debug)]
pub(in crate::query::report) struct Head {
    pub(in crate::query::report) name: String,
    pub(in crate::query::report) event: Option<String>,
    pub(in crate::query::report) math: String,
}

impl Head {
    /// That of a series of events.
    pub(super) fn of(series: &Series) -> Self {
        Self { name: series.name.clone(), event: series.event().map(str::to_owned), math: series.math().to_owned() }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    event: Option<String>,
    math: String,
    breakdown: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    #[serde(serialize_with = "numbers")]
    values: Vec<Option<f64>>,
    #[serde(serialize_with = "one_number")]
    total: Option<f64>,
}

/// Values of one line of the chart.
#[derive(Clone, Debug)]
struct Line {
    values: Vec<Option<f64>>,
    total: Option<f64>,
}

/// The lines of one series, by number.
#[derive(Debug)]
pub(in crate::query::report) struct Lines {
    lines: BTreeMap<i64, Line>,
    /// A line of nothing.
    empty: Line,
}

impl Chart {
    /// A chart without series.
    pub(in crate::query::report) fn new(range: &Range, buckets: &Buckets, now_ms: i64) -> Self {
        let starts = buckets.starts().iter().map(|start| range.show(*start)).collect();
        Self { buckets: starts, partial: buckets.partial(range, now_ms), series: Vec::new(), compare: None }
    }

    /// Adds the lines of a series: those of `tops` in their order, then `$other`, then `$none`; without a breakdown the one.
    pub(in crate::query::report) fn add(&mut self, head: Head, tops: Option<&Tops>, lines: Lines) {
        let none = tops.map_or(0, Tops::none);
        let mut ordered: Vec<(i64, Line)> = lines.lines.into_iter().collect();
        ordered.sort_by_key(|(line, _)| if *line == OTHER { (none, 0) } else { (*line, 1) });
        for (number, line) in ordered {
            let (breakdown, kind) = tops.map(|tops| tops.shown(number)).map(|shown| (shown.value, shown.kind)).unzip();
            let Head { name, event, math } = head.clone();
            self.series.push(Shown { name, event, math, breakdown, kind, values: line.values, total: line.total });
        }
    }
}

impl Lines {
    /// The first `own` lines, which are there even where nothing happened; `of_nothing` is their number then.
    pub(in crate::query::report) fn new(buckets: &Buckets, own: usize, of_nothing: Option<f64>) -> Self {
        let empty = Line { values: vec![of_nothing; buckets.len()], total: of_nothing };
        Self { lines: (0..own as i64).map(|line| (line, empty.clone())).collect(), empty }
    }

    /// Takes a row: start of a bucket, line, whether it is the total, and in the column `at` the value.
    pub(in crate::query::report) fn add(&mut self, row: &Row, at: usize, buckets: &Buckets) {
        let [bucket, line, is_total] = [row.cell(0), row.cell(1), row.cell(2)];
        // Where nothing would be 0, what is there and no number is beyond what a float holds.
        let beyond = self.empty.total.and(Some(f64::NAN));
        let line = self.lines.entry(line.int()).or_insert_with(|| self.empty.clone());
        let value = row.cell(at).float().or(beyond);
        if is_total.uint() == 1 {
            line.total = value;
        } else if let Some(cell) = buckets.index(bucket.int()).and_then(|index| line.values.get_mut(index)) {
            *cell = value;
        }
    }

    /// Adds `number` to a line, in one of the buckets.
    pub(super) fn count(&mut self, line: i64, bucket: Option<usize>, number: u64) {
        let line = self.lines.entry(line).or_insert_with(|| self.empty.clone());
        let in_bucket = bucket.and_then(|bucket| line.values.get_mut(bucket));
        for sum in in_bucket.into_iter().chain([&mut line.total]) {
            *sum = Some(sum.unwrap_or_default() + number as f64);
        }
    }

    /// With the number of the bucket before, or that of nothing, where a bucket has none.
    pub(super) fn carried(mut self, of_nothing: Option<f64>) -> Self {
        for line in self.lines.values_mut() {
            let mut last = of_nothing;
            for value in &mut line.values {
                last = value.or(last);
                *value = last;
            }
            line.total = line.total.or(of_nothing);
        }
        self.empty = Line { values: vec![of_nothing; self.empty.values.len()], total: of_nothing };
        self
    }

    /// With the sum of all numbers up to each; the total is the last of them.
    pub(super) fn summed(mut self) -> Self {
        for line in self.lines.values_mut() {
            let mut sum = 0.0;
            for value in &mut line.values {
                sum += value.unwrap_or_default();
                *value = Some(sum);
            }
            line.total = Some(sum);
        }
        self
    }

    /// With the mean of each number and those before it, `of` of them together.
    pub(super) fn averaged(mut self, of: Option<usize>) -> Self {
        let Some(of) = of else { return self };
        for line in self.lines.values_mut() {
            line.values = means(&line.values, of);
        }
        self
    }

    /// The lines that `formula` makes of `series`.
    pub(in crate::query::report) fn computed(formula: &Formula, series: &[Self]) -> Self {
        let buckets = series.first().map_or(0, |lines| lines.empty.values.len());
        let empty = Line { values: vec![None; buckets], total: None };
        let lines = series.iter().flat_map(|lines| lines.lines.keys()).map(|number| {
            let parts: Vec<&Line> = series.iter().map(|lines| lines.lines.get(number).unwrap_or(&lines.empty)).collect();
            let at = |index: usize| {
                let values: Vec<Option<f64>> = parts.iter().map(|line| line.values.get(index).copied().flatten()).collect();
                formula.value(&values)
            };
            let totals: Vec<Option<f64>> = parts.iter().map(|line| line.total).collect();
            (*number, Line { values: (0..buckets).map(at).collect(), total: formula.value(&totals) })
        });
        Self { lines: lines.collect(), empty }
    }
}

/// Numbers that are put together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sum: f64,
    count: usize,
}

impl Sum {
    fn and(self, value: Option<f64>) -> Self {
        value.map_or(self, |value| Self { sum: self.sum + value, count: self.count + 1 })
    }

    fn with(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, count: self.count + other.count }
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The mean of each number and those before it, `of` of them together, in a time that does not grow with `of`: blocks of as many are summed up
/// from both ends, so that a window is the end of one and the beginning of the next, and no number is taken away again.
fn means(values: &[Option<f64>], of: usize) -> Vec<Option<f64>> {
    let mut ends = vec![Sum::default(); values.len()];
    let mut end = Sum::default();
    for (at, value) in values.iter().enumerate().rev() {
        let is_last_of_block = (at + 1).is_multiple_of(of);
        end = if is_last_of_block { Sum::default() } else { end }.and(*value);
        if let Some(kept) = ends.get_mut(at) {
            *kept = end;
        }
    }
    let mut means = Vec::with_capacity(values.len());
    let mut begun = Sum::default();
    for (at, value) in values.iter().enumerate() {
        begun = if at.is_multiple_of(of) { Sum::default() } else { begun }.and(*value);
        let first = (at + 1).saturating_sub(of);
        let before = if first.is_multiple_of(of) { None } else { ends.get(first) };
        means.push(begun.with(before.copied().unwrap_or_default()).mean());
    }
    means
}

fn numbers<S: Serializer>(values: &[Option<f64>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|value| value.map(number)))
}

fn one_number<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    value.map(number).serialize(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::means;

    proptest! {
        #[test]
        fn a_mean_is_that_of_its_window(values in prop::collection::vec(prop::option::of(-50_i32..50), 0..60), of in 2_usize..70) {
            let values: Vec<Option<f64>> = values.into_iter().map(|value| value.map(f64::from)).collect();
            let naive = (0..values.len()).map(|index| {
                let window: Vec<f64> = values[(index + 1).saturating_sub(of)..=index].iter().copied().flatten().collect();
                (!window.is_empty()).then(|| window.iter().sum::<f64>() / window.len() as f64)
            });
            prop_assert_eq!(means(&values, of), naive.collect::<Vec<_>>());
        }
    }
}
