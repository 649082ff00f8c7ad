//! Rows of numbers folded into the table that the wire shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Asked;
use super::people::{SIZE, Span};
use crate::query::ask::breakdown::Tops;
use crate::query::reader::{Row, number};

/// As the wire shows it.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    cohorts: Vec<Cohort>,
    average: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compare: Option<Box<Self>>,
}

#[derive(Debug, Serialize)]
struct Cohort {
    start: String,
    breakdown: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    size: u64,
    values: Vec<Value>,
    open: Vec<bool>,
}

/// The numbers of a row.
#[derive(Clone, Debug)]
struct Numbers {
    size: u64,
    cells: Vec<f64>,
}

/// The rows of each line, by its number.
pub(super) struct Lines<'a> {
    asked: &'a Asked,
    span: &'a Span,
    tops: &'a Tops,
    rows: BTreeMap<i64, Vec<Numbers>>,
}

/// What is known of a cell at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotBegun,
    Open,
    Closed,
}

/// The rows of a line in which there is nothing.
fn nothing(periods: usize, cohorts: usize) -> Vec<Numbers> {
    vec![Numbers { size: 0, cells: vec![0.0; periods] }; cohorts]
}

impl<'a> Lines<'a> {
    pub(super) fn new(asked: &'a Asked, span: &'a Span, tops: &'a Tops) -> Self {
        let mut lines = Self { asked, span, tops, rows: BTreeMap::new() };
        for line in 0..asked.breakdown.own_lines(tops) {
            lines.rows.insert(line, nothing(asked.periods, span.cohorts));
        }
        lines
    }

    fn row(&mut self, cohort: u64, line: i64) -> Option<&mut Numbers> {
        let (periods, cohorts) = (self.asked.periods, self.span.cohorts);
        // Not before it is needed: a table of nothing for each row of an answer would take longer than all else.
        self.rows.entry(line).or_insert_with(|| nothing(periods, cohorts)).get_mut(cohort as usize)
    }

    /// Takes a row of `people::users`.
    pub(super) fn add_users(&mut self, row: &Row) {
        let [cohort, line, cell, persons] = row.columns();
        let (cell, persons) = (cell.uint(), persons.uint());
        let Some(numbers) = self.row(cohort.uint(), line.int()) else { return };
        if cell == SIZE {
            numbers.size = persons;
        } else if let Some(number) = numbers.cells.get_mut(cell as usize) {
            *number = persons as f64;
        }
    }

    /// Takes a row of `people::sums`.
    pub(super) fn add_sums(&mut self, row: &Row) {
        let [cohort, line, persons, _, cells, sums] = row.columns();
        let is_or_after = self.asked.is_or_after;
        let Some(numbers) = self.row(cohort.uint(), line.int()) else { return };
        numbers.size = persons.uint();
        let (Value::Array(cells), Value::Array(sums)) = (cells.json(), sums.json()) else { return };
        for (cell, sum) in cells.iter().zip(sums) {
            let cell = cell.as_u64().or_else(|| cell.as_str()?.parse().ok()).unwrap_or(SIZE);
            if let Some(number) = numbers.cells.get_mut(cell as usize) {
                // What is no number is beyond what a float holds.
                *number = sum.as_f64().unwrap_or(f64::NAN);
            }
        }
        if is_or_after {
            // What was in a later period counts in each before it.
            numbers.cells.iter_mut().rev().fold(0.0, |later, number| {
                *number += later;
                *number
            });
        }
    }

    fn state(&self, cohort: usize, index: usize, now_ms: i64) -> State {
        match self.span.cell(self.asked, cohort, index) {
            Some((_, end)) if end <= now_ms => State::Closed,
            Some((start, _)) if start <= now_ms => State::Open,
            _ => State::NotBegun,
        }
    }

    /// The table at a time.
    pub(super) fn table(self, now_ms: i64) -> Table {
        let mut ordered: Vec<(&i64, &Vec<Numbers>)> = self.rows.iter().collect();
        ordered.sort_by_key(|(line, _)| self.tops.place(**line));
        let mut cohorts = Vec::new();
        for (line, rows) in ordered {
            for (cohort, numbers) in rows.iter().enumerate() {
                let states: Vec<State> = (0..self.asked.periods).map(|index| self.state(cohort, index, now_ms)).collect();
                let values = numbers.cells.iter().zip(&states);
                let values = values.map(|(value, state)| if *state == State::NotBegun { Value::Null } else { number(*value) });
                let (breakdown, kind) = self.asked.breakdown.shown(self.tops, *line).map(|shown| (shown.value, shown.kind)).unzip();
                cohorts.push(Cohort {
                    start: self.span.range.show(self.span.periods.starts().get(cohort).copied().unwrap_or_default()),
                    breakdown,
                    kind,
                    size: numbers.size,
                    values: values.collect(),
                    open: states.iter().map(|state| *state == State::Open).collect(),
                });
            }
        }
        Table { cohorts, average: (0..self.asked.periods).map(|index| self.average(index, now_ms)).collect(), compare: None }
    }

    /// Of each person in a row whose cell is closed.
    fn average(&self, index: usize, now_ms: i64) -> Value {
        let (mut sum, mut persons) = (0.0, 0);
        for (cohort, numbers) in self.rows.values().flat_map(|rows| rows.iter().enumerate()) {
            if self.state(cohort, index, now_ms) == State::Closed {
                sum += numbers.cells.get(index).copied().unwrap_or_default();
                persons += numbers.size;
            }
        }
        if persons == 0 { Value::Null } else { number(sum / persons as f64) }
    }
}
