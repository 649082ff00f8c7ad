//! Retention: every cell of every row, person by person, and the people behind.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::lines::{self, Line, check_bar, is_in};
use super::trends::compared;
use super::{Event, Range, edges};
use crate::report::{Asker, Case, NOW_MS, instant};

const DAY_MS: i64 = 86_400_000;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    periods: usize,
    is_first_time: bool,
    is_or_after: bool,
    is_rolling: bool,
    is_sum: bool,
}

pub(crate) fn options() -> impl Strategy<Value = Retention> {
    (1_usize..12, any::<[bool; 3]>(), prop::bool::weighted(0.3)).prop_map(|(periods, [is_first_time, is_or_after, is_rolling], is_sum)| {
        Retention { periods, is_first_time, is_or_after, is_rolling, is_sum }
    })
}

/// Compares the table, and the one that it is compared with.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let asked = &case.options.retention;
    let request = request(case);
    let table = asker.ask("retention", &request);
    let lines = lines_of_entries(case);
    let others = compared(case.range, &case.compare, case.zone);
    for (table, range, is_compared) in [(&table, case.range, false), (&table["compare"], others, true)] {
        let own = edges(range, case.options.period, case.zone);
        let model = Model { case, asked, range, cohorts: own.len() - 1, edges: extended(own, asked.periods, case) };
        let mut answered = table["cohorts"].as_array().unwrap().iter();
        let mut sums = vec![(0.0, 0); asked.periods];
        // Questions take their time: the people of two rows are enough.
        let mut rows_with_people = 0;
        for (number, line) in lines.iter().enumerate() {
            let entries = model.entries(Some(line));
            if !line.is_own && entries.is_empty() {
                continue;
            }
            for cohort in 0..model.cohorts {
                let row = model.row(&entries, cohort);
                let found = answered.next().unwrap();
                prop_assert_eq!((&found["breakdown"], &found["kind"]), (&line.shown, &line.kind));
                prop_assert_eq!(instant(found["start"].as_str().unwrap()), model.edges[cohort]);
                row.is(found).map_err(|reason| TestCaseError::fail(format!("{reason} in {found} of {request}")))?;
                row.add_closed(&mut sums);
                if row.size > 0 && rows_with_people < 2 && (number + cohort + case.events.len()).is_multiple_of(3) {
                    rows_with_people += 1;
                    row.check_people(asker, bar(&request, line, found), is_compared)?;
                }
            }
        }
        prop_assert!(answered.next().is_none());
        let average = |(sum, size): &(f64, usize)| (*size > 0).then(|| sum / *size as f64);
        for (found, expected) in table["average"].as_array().unwrap().iter().zip(sums.iter().map(average)) {
            prop_assert!(is_close(found.as_f64(), expected), "average {found} for {expected:?} of {request}");
        }
    }
    Ok(())
}

fn request(case: &Case) -> Value {
    let asked = &case.options.retention;
    let mut request = case.request();
    let object = request.as_object_mut().unwrap();
    ["formula", "series", "interval"].iter().for_each(|key| drop(object.remove(*key)));
    let [cohort, back] = &case.options.events;
    let options = json!({
        "cohort_event": cohort.request(), "return_event": back.request(), "period": case.options.period, "periods": asked.periods,
        "type": if asked.is_first_time { "first_time" } else { "recurring" },
        "mode": if asked.is_or_after { "on_or_after" } else { "on" }, "rolling": asked.is_rolling,
        "value": if asked.is_sum { json!({"sum": "properties.amount"}) } else { json!("users") },
    });
    object.extend(options.as_object().unwrap().clone());
    request
}

fn bar(request: &Value, line: &Line, found: &Value) -> Value {
    let mut of = request.clone();
    of["report"] = json!("retention");
    of["cohort_start"] = found["start"].clone();
    line.name(&mut of);
    of
}

/// The edges with those of so many more periods at least, and of all that have begun.
fn extended(mut edges: Vec<i64>, more: usize, case: &Case) -> Vec<i64> {
    let zone = TimeZone::get(case.zone).unwrap();
    let least = edges.len() + more;
    while edges.len() < least || *edges.last().unwrap() <= NOW_MS {
        let last = jiff::Timestamp::from_millisecond(*edges.last().unwrap()).unwrap().to_zoned_datetime(zone.clone());
        let next = match case.options.period {
            "day" => last.date() + 1.days(),
            "week" => last.date() + 7.days(),
            _ => last.date() + 1.months(),
        };
        edges.push(next.to_zoned_datetime(zone.clone()).unwrap().timestamp().as_millisecond());
    }
    edges
}

/// The lines of most entries.
fn lines_of_entries(case: &Case) -> Vec<Line> {
    let edges = edges(case.range, case.options.period, case.zone);
    let model = Model { case, asked: &case.options.retention, range: case.range, cohorts: edges.len() - 1, edges };
    let entries: Vec<Event> = model
        .entries(None)
        .into_values()
        .enumerate()
        // Each entry counts, also the second one of a person.
        .map(|(number, event)| Event { person: number as u64, ..event.clone() })
        .collect();
    lines::lines(case, &entries.iter().collect::<Vec<_>>())
}

struct Model<'a> {
    case: &'a Case,
    asked: &'a Retention,
    range: Range,
    cohorts: usize,
    /// Those of the rows, and of the periods behind them.
    edges: Vec<i64>,
}

impl<'a> Model<'a> {
    fn period_of(&self, at_ms: i64) -> usize {
        self.edges.iter().rposition(|edge| *edge <= at_ms).unwrap()
    }

    /// The entries of a line, by person and row.
    fn entries(&self, line: Option<&Line>) -> BTreeMap<(u64, usize), &'a Event> {
        let mut first: BTreeMap<(u64, usize), &Event> = BTreeMap::new();
        // Those of one moment in the order of their ids, which is that of the list.
        for event in self.case.options.events[0].of(self.case) {
            let row = match self.asked.is_first_time {
                true => 0,
                false if is_in(self.range, event.at_ms) => self.period_of(event.at_ms),
                false => continue,
            };
            let known = first.entry((event.person, row)).or_insert(event);
            if event.at_ms < known.at_ms {
                *known = event;
            }
        }
        let inside = first.into_values().filter(|event| is_in(self.range, event.at_ms));
        let of_line = inside.filter(|event| line.is_none_or(|line| line.has(event, self.case)));
        of_line.map(|event| ((event.person, self.period_of(event.at_ms)), event)).collect()
    }

    fn row(&self, entries: &BTreeMap<(u64, usize), &Event>, cohort: usize) -> Row {
        let own: Vec<&&Event> = entries.iter().filter(|((_, row), _)| *row == cohort).map(|(_, event)| event).collect();
        let cells = (0..self.asked.periods).map(|index| {
            let of_person: Vec<Vec<&Event>> = own.iter().map(|entry| self.returns(entry, cohort, index)).collect();
            let persons = of_person.iter().filter(|returns| !returns.is_empty()).count();
            let sum = of_person.iter().flatten().filter_map(|event| event.amount).map(|amount| amount as f64).sum::<f64>();
            let (begins, ends) = self.bounds(cohort, index);
            Cell {
                value: if self.asked.is_sum { sum } else { persons as f64 },
                persons,
                has_begun: begins <= NOW_MS,
                is_open: begins <= NOW_MS && ends > NOW_MS,
            }
        });
        Row { size: own.len(), cells: cells.collect() }
    }

    /// When the cell begins, and ends.
    fn bounds(&self, cohort: usize, index: usize) -> (i64, i64) {
        if !self.asked.is_rolling {
            return (self.edges[cohort + index], self.edges[cohort + index + 1]);
        }
        let length = self.length();
        let (first, last) = (self.edges[cohort].max(self.range.from), self.edges[cohort + 1].min(self.range.until) - 1);
        (first + index as i64 * length, last + (index as i64 + 1) * length)
    }

    fn length(&self) -> i64 {
        match self.case.options.period {
            "day" => DAY_MS,
            "week" => 7 * DAY_MS,
            _ => 30 * DAY_MS,
        }
    }

    /// The returns of an entry that count in a cell.
    fn returns(&self, entry: &Event, cohort: usize, index: usize) -> Vec<&'a Event> {
        let period = |number: usize| match self.asked.is_rolling {
            true => {
                let begins = entry.at_ms + number as i64 * self.length();
                Range { from: begins, until: begins + self.length() }
            }
            false => {
                let edge = |at: usize| self.edges.get(at).copied().unwrap_or(i64::MAX);
                Range { from: edge(cohort + number), until: edge(cohort + number + 1) }
            }
        };
        let last = if self.asked.is_or_after { index + 800 } else { index };
        let periods: Vec<Range> = (index..=last).map(period).take_while(|period| period.from <= NOW_MS).collect();
        let is_return = |event: &&&Event| {
            event.person == entry.person && event.at_ms >= entry.at_ms && periods.iter().any(|period| is_in(*period, event.at_ms))
        };
        self.case.options.events[1].of(self.case).iter().filter(is_return).copied().collect()
    }
}

struct Row {
    size: usize,
    cells: Vec<Cell>,
}

struct Cell {
    value: f64,
    /// Who return.
    persons: usize,
    has_begun: bool,
    is_open: bool,
}

impl Row {
    fn is(&self, found: &Value) -> Result<(), String> {
        if found["size"] != json!(self.size) {
            return Err(format!("size {}", self.size));
        }
        for (index, cell) in self.cells.iter().enumerate() {
            let expected = cell.has_begun.then_some(cell.value);
            if !is_close(found["values"][index].as_f64(), expected) || found["open"][index] != json!(cell.is_open) {
                return Err(format!("{expected:?} ({}) in cell {index}", cell.is_open));
            }
        }
        if found["values"].as_array().map(Vec::len) == Some(self.cells.len()) { Ok(()) } else { Err("too many cells".to_owned()) }
    }

    fn add_closed(&self, sums: &mut [(f64, usize)]) {
        for (sum, cell) in sums.iter_mut().zip(&self.cells).filter(|(_, cell)| cell.has_begun && !cell.is_open) {
            sum.0 += cell.value;
            sum.1 += self.size;
        }
    }

    /// All of the row, those of a cell, and those who are not in it.
    fn check_people(&self, asker: Asker<'_>, mut of: Value, is_compared: bool) -> Result<(), TestCaseError> {
        check_bar(asker, &of, is_compared, self.size)?;
        if let Some(index) = self.cells.iter().rposition(|cell| cell.has_begun && (cell.persons > 0 || cell.is_open)) {
            of["index"] = json!(index);
            check_bar(asker, &of, is_compared, self.cells[index].persons)?;
            of["returned"] = json!(false);
            check_bar(asker, &of, is_compared, self.size - self.cells[index].persons)?;
        }
        Ok(())
    }
}

fn is_close(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        (found, expected) => found == expected,
    }
}
