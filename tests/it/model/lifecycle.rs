//! Lifecycle: every number of every line, person by person, and the people behind.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::lines::{self, Line, check_bar, is_in};
use super::trends::compared;
use super::{Event, HALF_HOUR_MS, Range, edges};
use crate::report::{Asker, Case, NOW_MS, instant};

const STATUSES: [&str; 4] = ["new", "returning", "resurrected", "dormant"];

/// Compares the chart, and the one that it is compared with.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let mut request = lines::request(case, &case.options.events[0]);
    request["interval"] = json!(case.options.period);
    let events = case.options.events[0].of(case);
    let first = edges(case.range, case.options.period, case.zone)[0];
    let whole = Range { from: edges(Range { from: first - HALF_HOUR_MS, until: first }, case.options.period, case.zone)[0], ..case.range };
    let lines = lines::lines_in(whole, case, &events);
    let chart = asker.ask("lifecycle", &request);
    let others = compared(case.range, &case.compare, case.zone);
    for (chart, range, is_compared) in [(&chart, case.range, false), (&chart["compare"], others, true)] {
        let check = Check { asker, case, request: &request, range, is_compared };
        check.chart(chart, &events, &lines)?;
    }
    Ok(())
}

struct Check<'a> {
    asker: Asker<'a>,
    case: &'a Case,
    request: &'a Value,
    range: Range,
    is_compared: bool,
}

impl Check<'_> {
    fn chart(&self, chart: &Value, events: &[&Event], lines: &[Line]) -> Result<(), TestCaseError> {
        let edges = edges(self.range, self.case.options.period, self.case.zone);
        let starts: Vec<i64> = chart["buckets"].as_array().unwrap().iter().map(|start| instant(start.as_str().unwrap())).collect();
        prop_assert_eq!(&starts, &edges[..edges.len() - 1]);
        let is_partial = |edges: &[i64]| edges[0] < self.range.from || edges[1] > self.range.until || edges[1] > NOW_MS;
        prop_assert_eq!(&chart["partial"], &edges.windows(2).map(is_partial).collect::<Value>());
        let mut answered = chart["series"].as_array().unwrap().iter();
        for (number, line) in lines.iter().enumerate() {
            let of_line: Vec<&Event> = events.iter().copied().filter(|event| line.has(event, self.case)).collect();
            let cells = self.cells(&of_line, &edges);
            if !line.is_own && cells.iter().flatten().all(|count| *count == 0) {
                continue;
            }
            for (place, (status, values)) in STATUSES.iter().zip(&cells).enumerate() {
                let found = answered.next().unwrap();
                prop_assert_eq!((&found["name"], &found["breakdown"], &found["kind"]), (&json!(status), &line.shown, &line.kind));
                prop_assert_eq!(&found["values"], &json!(values), "{} {} of {}", status, line.shown, self.request);
                // Of each line those behind one status: questions take their time.
                if (place + number + events.len()).is_multiple_of(4) {
                    self.people(line, (status, values), &starts)?;
                }
            }
        }
        prop_assert!(answered.next().is_none(), "{}", chart);
        Ok(())
    }

    /// Of each status the number of persons in each period.
    fn cells(&self, events: &[&Event], edges: &[i64]) -> [Vec<i64>; 4] {
        let persons = |range: Range| {
            let inside = events.iter().filter(move |event| is_in(range, event.at_ms));
            inside.map(|event| event.person).collect::<BTreeSet<u64>>()
        };
        let period = self.case.options.period;
        let before = Range { from: edges[0] - HALF_HOUR_MS, until: edges[0] };
        let mut start_before = super::edges(before, period, self.case.zone)[0];
        let mut cells: [Vec<i64>; 4] = Default::default();
        for edges in edges.windows(2) {
            let until = edges[1].min(self.range.until);
            let active = persons(Range { from: edges[0].max(self.range.from), until });
            let last = persons(Range { from: start_before, until: edges[0] });
            let ever = persons(Range { from: i64::MIN, until: edges[0] });
            let new = active.difference(&ever).count();
            let returning = active.intersection(&last).count();
            let dormant = last.difference(&active).count() as i64;
            let numbers = [new as i64, returning as i64, (active.len() - new - returning) as i64, -dormant];
            cells.iter_mut().zip(numbers).for_each(|(cells, number)| cells.push(number));
            start_before = edges[0];
        }
        cells
    }

    /// Of a line the last bar with people.
    fn people(&self, line: &Line, (status, values): (&str, &[i64]), starts: &[i64]) -> Result<(), TestCaseError> {
        if let Some(at) = values.iter().rposition(|count| *count != 0) {
            let mut of = self.request.clone();
            of["report"] = json!("lifecycle");
            of["status"] = json!(status);
            of["bucket"] = json!(jiff::Timestamp::from_millisecond(starts[at]).unwrap().to_string());
            line.name(&mut of);
            check_bar(self.asker, &of, self.is_compared, values[at].unsigned_abs() as usize)?;
        }
        Ok(())
    }
}
