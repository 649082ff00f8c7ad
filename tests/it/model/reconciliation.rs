//! What always holds between the numbers of different reports about the same events, whatever they are.

mod charts;
mod people;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{BREAKDOWNS, Event};
use crate::report::{Asker, Case, instant};

/// The case with sessions of one person each, as sessions are.
pub(crate) fn with_own_sessions(case: Case) -> Case {
    let mut people: Vec<u64> = case.events.iter().map(|event| event.person).collect();
    people.sort_unstable();
    people.dedup();
    let number = |person: u64| people.iter().position(|other| *other == person).unwrap() as u64;
    let own = |event: Event| Event { session: number(event.person) * 10 + event.session, ..event };
    Case { events: case.events.into_iter().map(own).collect(), ..case }
}

/// Compares the reports with each other.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let reports = Reports { asker, case };
    reports.people_have_sessions_and_sessions_have_events()?;
    reports.lines_of_a_breakdown_sum_to_the_whole()?;
    reports.what_is_left_out_and_what_is_not_is_all()?;
    reports.people_did_something_or_did_not()?;
    reports.a_list_is_as_long_as_its_count()?;
    reports.a_property_is_of_no_more_events_than_there_are()?;
    people::check(&reports)?;
    charts::check(&reports)
}

struct Reports<'a> {
    asker: Asker<'a>,
    case: &'a Case,
}

impl Reports<'_> {
    /// A chart of all events of the case's range that pass its filters.
    fn chart(&self, more: Value) -> Value {
        let show = |at_ms| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let range = self.case.range;
        let mut chart = json!({
            "from": show(range.from), "to": show(range.until), "timezone": self.case.zone, "interval": self.case.interval,
            "filters": self.case.filters_request(), "include_bots": self.case.include_bots, "series": [{"event": null}],
        });
        chart.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chart
    }

    fn total(&self, more: Value) -> f64 {
        total(&self.asker.ask("trends", &self.chart(more))["series"][0])
    }

    fn people_have_sessions_and_sessions_have_events(&self) -> Result<(), TestCaseError> {
        let maths = ["unique_users", "unique_sessions", "total"].map(|math| json!({"event": null, "math": math}));
        let chart = self.asker.ask("trends", &self.chart(json!({"series": maths})));
        let [users, sessions, events] = [0, 1, 2].map(|index| numbers(&chart["series"][index]));
        for ((users, sessions), events) in users.iter().zip(&sessions).zip(&events) {
            prop_assert!(users <= sessions && sessions <= events, "{users} people, {sessions} sessions, {events} events");
        }
        Ok(())
    }

    fn lines_of_a_breakdown_sum_to_the_whole(&self) -> Result<(), TestCaseError> {
        let whole = numbers(&self.asker.ask("trends", &self.chart(json!({})))["series"][0]);
        for breakdown in BREAKDOWNS {
            let chart = self.chart(json!({"breakdown": breakdown.request(), "limit": self.case.limit}));
            let answer = self.asker.ask("trends", &chart);
            let mut sums = vec![0.0; whole.len()];
            for line in answer["series"].as_array().unwrap() {
                sums.iter_mut().zip(numbers(line)).for_each(|(sum, number)| *sum += number);
                self.a_bar_is_its_people(&chart, line)?;
            }
            prop_assert_eq!(&sums, &whole, "{}", chart);
        }
        Ok(())
    }

    /// The people of a line, their events together, are the events of the line.
    fn a_bar_is_its_people(&self, chart: &Value, line: &Value) -> Result<(), TestCaseError> {
        let mut of = chart.clone();
        of["report"] = json!("trends");
        if !line["kind"].is_null() {
            of["breakdown_value"] = line["breakdown"].clone();
            of["breakdown_kind"] = line["kind"].clone();
        }
        let people = self.asker.ask("users", &json!({"of": of, "limit": 10_000}));
        let events: f64 = people["users"].as_array().unwrap().iter().map(|user| user["events"].as_f64().unwrap()).sum();
        prop_assert_eq!(events, total(line), "{}", of);
        Ok(())
    }

    fn what_is_left_out_and_what_is_not_is_all(&self) -> Result<(), TestCaseError> {
        // What a person did is another thing when bots are looked at.
        let filters = json!([{"any": [{"field": "country", "op": "exists"}, {"field": "properties.amount", "op": "gte", "value": 2}]}]);
        let with = |include: bool| self.chart(json!({"filters": filters, "include_bots": include}));
        let people = self.asker.answer("trends", &with(false));
        let all = self.asker.answer("trends", &with(true));
        let excluded = people["meta"]["excluded_bots"].as_f64().unwrap();
        prop_assert_eq!(total(&people["result"]["series"][0]) + excluded, total(&all["result"]["series"][0]));
        prop_assert_eq!(&all["meta"]["excluded_bots"], &json!(0));
        Ok(())
    }

    fn people_did_something_or_did_not(&self) -> Result<(), TestCaseError> {
        let filters = self.case.filters_request();
        let own = filters.as_array().unwrap().iter().filter(|filter| !filter.to_string().contains("\"did\"")).cloned();
        let own: Vec<Value> = own.collect();
        let and = |more: Value| Value::from_iter(own.iter().cloned().chain([more]));
        let did = |times: Value, negated: bool| json!({"did": {"event": "buy", "times": times}, "not": negated});
        let whole = self.total(json!({"filters": own}));
        for times in [json!({"gte": 1}), json!({"eq": 0}), json!({"gt": 1, "lte": 3}), json!({"lt": 2})] {
            let (those, others) = (json!({"filters": and(did(times.clone(), false))}), json!({"filters": and(did(times, true))}));
            prop_assert_eq!(self.total(those) + self.total(others), whole);
        }
        let never = [did(json!({"eq": 0}), false), did(json!({"gte": 1}), true)].map(|filter| self.total(json!({"filters": and(filter)})));
        prop_assert_eq!(never[0], never[1]);
        Ok(())
    }

    fn a_list_is_as_long_as_its_count(&self) -> Result<(), TestCaseError> {
        let mut list = self.chart(json!({"limit": 10_000}));
        for key in ["series", "interval"] {
            list.as_object_mut().unwrap().remove(key);
        }
        let events = self.asker.ask("events", &list)["events"].as_array().unwrap().clone();
        let inside = |event: &Value| (self.case.range.from..self.case.range.until).contains(&instant(event["timestamp"].as_str().unwrap()));
        prop_assert!(events.iter().all(inside));
        prop_assert_eq!(events.len() as f64, self.total(json!({})));
        Ok(())
    }

    fn a_property_is_of_no_more_events_than_there_are(&self) -> Result<(), TestCaseError> {
        let mut asked = self.chart(json!({"values": 100}));
        for key in ["series", "interval"] {
            asked.as_object_mut().unwrap().remove(key);
        }
        let events = self.total(json!({}));
        for property in self.asker.ask("properties", &asked)["properties"].as_array().unwrap() {
            let values: f64 = property["values"].as_array().unwrap().iter().map(|value| value["events"].as_f64().unwrap()).sum();
            let of_property = property["events"].as_f64().unwrap();
            prop_assert!(values == of_property && of_property <= events, "{property} of {events} events");
        }
        Ok(())
    }
}

/// The numbers of a line, and its total behind them.
fn numbers(line: &Value) -> Vec<f64> {
    line["values"].as_array().unwrap().iter().chain([&line["total"]]).map(|number| number.as_f64().unwrap()).collect()
}

fn total(line: &Value) -> f64 {
    line["total"].as_f64().unwrap()
}
