//! Stickiness: every bar of every line, person by person, and the people behind.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::lines::{self, check_bar, is_in};
use super::trends::compared;
use super::{Event, Range, edges};
use crate::report::{Asker, Case, NOW_MS, instant};

/// Compares the chart, and the one that it is compared with.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let (asked, period) = (&case.options.events[0], case.options.period);
    let mut request = lines::request(case, asked);
    request["interval"] = json!(period);
    request["cumulative"] = json!(true);
    let events = asked.of(case);
    let lines = lines::lines(case, &events);
    let chart = asker.ask("stickiness", &request);
    let others = compared(case.range, &case.compare, case.zone);
    for (chart, range, is_compared) in [(&chart, case.range, false), (&chart["compare"], others, true)] {
        let edges = edges(range, period, case.zone);
        prop_assert_eq!(&chart["times"], &json!((1..edges.len()).collect::<Vec<_>>()));
        let is_partial = |edges: &[i64]| edges[0] < range.from || edges[1] > range.until || edges[1] > NOW_MS;
        prop_assert_eq!(&chart["partial"], &edges.windows(2).map(is_partial).collect::<Value>());
        let starts: Vec<i64> = chart["buckets"].as_array().unwrap().iter().map(|start| instant(start.as_str().unwrap())).collect();
        prop_assert_eq!(&starts, &edges[..edges.len() - 1]);
        let mut answered = chart["series"].as_array().unwrap().iter();
        for line in &lines {
            let of_line: Vec<&Event> = events.iter().copied().filter(|event| line.has(event, case)).collect();
            let persons = persons(&of_line, range, &edges);
            if !line.is_own && persons.is_empty() {
                continue;
            }
            let found = answered.next().unwrap();
            let exactly = |times: usize| persons.values().filter(|own| **own == times).count();
            let at_least = |times: usize| persons.values().filter(|own| **own >= times).count();
            prop_assert_eq!((&found["breakdown"], &found["kind"]), (&line.shown, &line.kind));
            prop_assert_eq!(&found["total"], &json!(persons.len()));
            prop_assert_eq!(&found["values"], &(1..edges.len()).map(exactly).collect::<Value>(), "{}", request);
            prop_assert_eq!(&found["at_least"], &(1..edges.len()).map(at_least).collect::<Value>());
            let Some(most) = persons.values().max() else { continue };
            let mut of = request.clone();
            of["report"] = json!("stickiness");
            line.name(&mut of);
            match events.len() % 3 {
                0 => check_bar(asker, &of, is_compared, persons.len())?,
                1 => check_bar(asker, &with(&of, "times", *most), is_compared, exactly(*most))?,
                _ => check_bar(asker, &with(&of, "at_least", 1.max(most - 1)), is_compared, at_least(1.max(most - 1)))?,
            }
        }
        prop_assert!(answered.next().is_none(), "{}", chart);
    }
    Ok(())
}

fn with(of: &Value, key: &str, times: usize) -> Value {
    let mut of = of.clone();
    of[key] = json!(times);
    of
}

/// In how many periods each person has an event.
fn persons(events: &[&Event], range: Range, edges: &[i64]) -> BTreeMap<u64, usize> {
    let mut persons: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for event in events.iter().filter(|event| is_in(range, event.at_ms)) {
        let period = edges.iter().rposition(|edge| *edge <= event.at_ms).unwrap();
        persons.entry(event.person).or_default().insert(period);
    }
    persons.into_iter().map(|(person, periods)| (person, periods.len())).collect()
}
