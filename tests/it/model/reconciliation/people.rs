//! What always holds between the reports of what people do one event after the other and those that count: bars are people, lines sum to the
//! whole, and what two reports both count they count alike.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{Reports, total};
use crate::model::Range;
use crate::report::{Case, NOW_MS, is_of_many_cases};

/// A field that all events of a person have the same value of: nobody is in two of its lines.
const OF_PERSONS: &str = "person.plan";

/// Of a chart, and of a line of it, as many bars are looked at: questions take their time. Of many cases all are.
fn most_bars() -> usize {
    if is_of_many_cases() { usize::MAX } else { 2 }
}

pub(super) fn check(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    // A funnel knows nothing that happens after now, where trends count it.
    let range = reports.case.range;
    if range.from >= NOW_MS {
        return Ok(());
    }
    let case = Case { range: Range { until: range.until.min(NOW_MS), ..range }, ..reports.case.clone() };
    let until_now = Reports { asker: reports.asker, case: &case };
    let (reports, people) = (&until_now, People(&until_now));
    // Two reports or three of each case: questions take their time.
    if reports.case.events.len().is_multiple_of(2) {
        people.a_funnel_is_one_whatever_is_shown_of_it()?;
        people.lifecycles_are_people()
    } else {
        people.cohorts_are_those_who_came_first()?;
        people.days_are_of_all_who_were_there()?;
        people.paths_are_of_all_sessions()
    }
}

struct People<'a>(&'a Reports<'a>);

impl People<'_> {
    /// A request of the case's events without what only charts have.
    fn request(&self, more: &Value) -> Value {
        let mut request = self.0.chart(json!({}));
        let object = request.as_object_mut().unwrap();
        ["series", "interval"].iter().for_each(|key| drop(object.remove(*key)));
        object.extend(more.as_object().unwrap().clone());
        request
    }

    fn ask(&self, report: &str, request: &Value) -> Value {
        self.0.asker.ask(report, request)
    }

    /// The request with a line for each value of [`OF_PERSONS`].
    fn by_persons(&self, request: &Value) -> Value {
        let mut request = request.clone();
        request
            .as_object_mut()
            .unwrap()
            .extend([("breakdown".to_owned(), json!(OF_PERSONS)), ("limit".to_owned(), json!(self.0.case.limit))]);
        request
    }

    fn of_trends(&self, math: &str, event: Option<&str>) -> f64 {
        self.0.total(json!({"interval": "month", "series": [{"event": event, "math": math}]}))
    }

    /// How many people are behind a bar, which is also how many are listed.
    fn behind(&self, report: &str, request: &Value, bar: Value) -> Result<f64, TestCaseError> {
        let mut of = request.clone();
        of["report"] = json!(report);
        of.as_object_mut().unwrap().extend(bar.as_object().unwrap().clone());
        let people = self.ask("users", &json!({"of": of, "limit": 1_000}));
        prop_assert_eq!(people["users"].as_array().unwrap().len() as f64, people["total"].as_f64().unwrap(), "{}", of);
        Ok(people["total"].as_f64().unwrap())
    }

    fn a_funnel_is_one_whatever_is_shown_of_it(&self) -> Result<(), TestCaseError> {
        let funnel = json!({"steps": [{"event": "view"}, {"event": ["buy", "page_view"]}], "window": "1d"});
        let request = self.request(&funnel);
        let with = |more: Value| {
            let mut request = request.clone();
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            self.ask("funnel", &request)
        };
        let steps = |group: &Value, key: &str| -> [f64; 2] { [0, 1].map(|step| group["steps"][step][key].as_f64().unwrap()) };
        let whole = with(json!({}));
        let ([entered, converted], [_, dropped]) = (steps(&whole["groups"][0], "count"), steps(&whole["groups"][0], "dropped"));
        prop_assert_eq!(entered, self.of_trends("unique_users", Some("view")), "{}", request);
        prop_assert_eq!(entered - converted, dropped);

        let lines = with(json!({"breakdown": "country", "limit": self.0.case.limit}));
        for key in ["count", "dropped"] {
            let sums = lines["groups"].as_array().unwrap().iter().map(|group| steps(group, key));
            let sums = sums.fold([0.0; 2], |sum, line| [sum[0] + line[0], sum[1] + line[1]]);
            prop_assert_eq!(sums, steps(&whole["groups"][0], key), "{} {}", key, request);
        }
        for line in lines["groups"].as_array().unwrap().iter().take(most_bars()) {
            let bar = json!({"breakdown": "country", "limit": self.0.case.limit, "step": 1,
                "breakdown_value": line["breakdown"], "breakdown_kind": line["kind"]});
            prop_assert_eq!(self.behind("funnel", &request, bar)?, steps(line, "count")[0], "{} of {}", line, request);
        }
        let trend = with(json!({"view": "trend", "interval": "week"}));
        for (key, all) in [("entered", entered), ("converted", converted)] {
            prop_assert_eq!(sum(&trend["groups"][0][key]), all, "{} {}", key, request);
        }
        let times = with(json!({"view": "time_to_convert", "bins": 3}));
        let bins = times["groups"][0]["bins"].as_array().unwrap().iter().map(|bin| bin["count"].as_f64().unwrap()).sum::<f64>();
        prop_assert_eq!((times["groups"][0]["converted"].as_f64().unwrap(), bins), (converted, converted), "{}", request);

        for (bar, people) in
            [(json!({"step": 1}), entered), (json!({"step": 2}), converted), (json!({"step": 2, "converted": false}), dropped)]
        {
            prop_assert_eq!(self.behind("funnel", &request, bar)?, people, "{}", request);
        }
        Ok(())
    }

    fn cohorts_are_those_who_came_first(&self) -> Result<(), TestCaseError> {
        let request = self.request(&json!({"cohort_event": {"event": "view"}, "period": self.0.case.options.period, "periods": 3}));
        let table = self.ask("retention", &request);
        let rows = table["cohorts"].as_array().unwrap();
        let sizes: f64 = rows.iter().map(|row| row["size"].as_f64().unwrap()).sum();
        prop_assert_eq!(sizes, self.of_trends("first_time_users", Some("view")), "{}", request);
        let mut of_lines = request.clone();
        of_lines.as_object_mut().unwrap().extend(json!({"breakdown": "country", "limit": self.0.case.limit}).as_object().unwrap().clone());
        let lines = self.ask("retention", &of_lines);
        let values = |row: &Value| -> Vec<Option<f64>> { row["values"].as_array().unwrap().iter().map(Value::as_f64).collect() };
        for row in rows {
            prop_assert!(values(row)[0].is_none_or(|first| first <= row["size"].as_f64().unwrap()), "{row}");
            let own: Vec<&Value> = lines["cohorts"].as_array().unwrap().iter().filter(|line| line["start"] == row["start"]).collect();
            let size: f64 = own.iter().map(|line| line["size"].as_f64().unwrap()).sum();
            prop_assert_eq!(size, row["size"].as_f64().unwrap(), "{}", of_lines);
            for (at, value) in values(row).into_iter().enumerate() {
                let of_own: f64 = own.iter().filter_map(|line| values(line)[at]).sum();
                prop_assert_eq!(of_own, value.unwrap_or_default(), "{} of {}", at, of_lines);
            }
        }
        for row in rows.iter().filter(|row| row["size"] != 0).take(most_bars()) {
            let (start, size) = (&row["start"], row["size"].as_f64().unwrap());
            prop_assert_eq!(self.behind("retention", &request, json!({"cohort_start": start}))?, size);
            let known = values(row).into_iter().enumerate().filter_map(|(at, value)| Some((at, value?)));
            for (at, back) in known.rev().take(most_bars() / 2) {
                prop_assert_eq!(self.behind("retention", &request, json!({"cohort_start": start, "index": at}))?, back);
                prop_assert_eq!(
                    self.behind("retention", &request, json!({"cohort_start": start, "index": at, "returned": false}))?,
                    size - back
                );
            }
        }
        Ok(())
    }

    fn lifecycles_are_people(&self) -> Result<(), TestCaseError> {
        let request = self.request(&json!({"interval": self.0.case.options.period}));
        let chart = self.ask("lifecycle", &request);
        let lines = self.ask("lifecycle", &self.by_persons(&request));
        for line in chart["series"].as_array().unwrap() {
            let own = lines["series"].as_array().unwrap().iter().filter(|own| own["name"] == line["name"]);
            let sums = own.fold(vec![0.0; each(&line["values"]).count()], |sums, own| added(sums, &own["values"]));
            prop_assert_eq!(sums, each(&line["values"]).collect::<Vec<_>>(), "{} of {}", line["name"], request);
            let values = each(&line["values"]).map(f64::abs);
            let bars = chart["buckets"].as_array().unwrap().iter().zip(values);
            for (bucket, people) in bars.filter(|(_, people)| *people > 0.0).take(most_bars()) {
                let found = self.behind("lifecycle", &request, json!({"status": line["name"], "bucket": bucket}))?;
                prop_assert_eq!(found, people, "{} {} of {}", line["name"], bucket, request);
            }
        }
        Ok(())
    }

    fn days_are_of_all_who_were_there(&self) -> Result<(), TestCaseError> {
        let request = self.request(&json!({"interval": self.0.case.options.period, "cumulative": true}));
        let line = self.ask("stickiness", &request)["series"][0].take();
        let all = self.of_trends("unique_users", None);
        prop_assert_eq!((total(&line), sum(&line["values"])), (all, all), "{}", request);
        prop_assert_eq!(line["at_least"][0].as_f64().unwrap_or_default(), all);
        let lines = self.ask("stickiness", &self.by_persons(&request));
        for key in ["values", "at_least"] {
            let own = lines["series"].as_array().unwrap().iter();
            let sums = own.fold(vec![0.0; each(&line[key]).count()], |sums, own| added(sums, &own[key]));
            prop_assert_eq!(sums, each(&line[key]).collect::<Vec<_>>(), "{} of {}", key, request);
        }
        let bars = each(&line["values"]).enumerate();
        for (at, people) in bars.filter(|(_, people)| *people > 0.0).take(most_bars()) {
            prop_assert_eq!(self.behind("stickiness", &request, json!({"times": at + 1}))?, people, "{} of {}", at + 1, request);
        }
        Ok(())
    }

    fn paths_are_of_all_sessions(&self) -> Result<(), TestCaseError> {
        let request = self.request(&json!({"steps": 3, "limit": self.0.case.limit}));
        let chart = self.ask("paths", &request);
        let first: Vec<&Value> = chart["nodes"].as_array().unwrap().iter().filter(|node| node["step"] == 1).collect();
        let sessions: f64 = first.iter().map(|node| node["sessions"].as_f64().unwrap()).sum();
        let counted = self.ask("sessions", &self.request(&json!({"interval": "month", "series": [{"math": "sessions"}]})));
        prop_assert_eq!(sessions, total(&counted["series"][0]), "{}", request);
        for node in first.into_iter().take(most_bars()) {
            let people = self.behind("paths", &request, json!({"step": 1, "name": node["name"], "kind": node["kind"]}))?;
            prop_assert!(0.0 < people && people <= node["sessions"].as_f64().unwrap(), "{people} people of {node} of {request}");
        }
        Ok(())
    }
}

fn each(numbers: &Value) -> impl Iterator<Item = f64> {
    numbers.as_array().unwrap().iter().map(|number| number.as_f64().unwrap())
}

fn sum(numbers: &Value) -> f64 {
    each(numbers).sum()
}

/// Numbers and others, each with that of its place.
fn added(numbers: Vec<f64>, others: &Value) -> Vec<f64> {
    numbers.into_iter().zip(each(others)).map(|(number, other)| number + other).collect()
}
