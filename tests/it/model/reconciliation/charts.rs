//! What always holds between charts: of persons, of sessions, and of what a period is to a person.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{Reports, numbers, total};
use crate::model::BREAKDOWNS;

/// All events of all cases are in it.
const EVER: [(&str, &str); 3] = [("from", "2024-01-01"), ("to", "2028-01-01"), ("interval", "month")];
/// Maths that count persons.
const OF_PERSONS: [&str; 5] = ["unique_users", "dau", "wau", "mau", "first_time_users"];

pub(super) fn check(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    windows_of_days_hold_each_other(reports)?;
    numbers_add_up(reports)?;
    a_number_is_its_people(reports)?;
    values_are_lines(reports)?;
    a_lifecycle_is_of_all_who_were_there(reports)?;
    sessions_are_sessions(reports)
}

fn series(reports: &Reports<'_>, maths: &[&str], more: Value) -> Vec<Vec<f64>> {
    let mut more = more;
    more["series"] = maths.iter().map(|math| json!({"event": null, "math": math})).collect();
    let chart = reports.asker.ask("trends", &reports.chart(more));
    chart["series"].as_array().unwrap().iter().map(numbers).collect()
}

fn windows_of_days_hold_each_other(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    let mut more = json!({"interval": "day", "series": OF_PERSONS.map(|math| json!({"event": null, "math": math}))});
    let chart = reports.asker.ask("trends", &reports.chart(more.clone()));
    let of = |index: usize| numbers(&chart["series"][index]);
    let [persons, days, weeks, months, first] = [0, 1, 2, 3, 4].map(of);
    for at in 0..persons.len() {
        prop_assert!(persons[at] <= days[at] || at + 1 == persons.len(), "{} persons, {} of a day", persons[at], days[at]);
        prop_assert!(days[at] <= weeks[at] && weeks[at] <= months[at], "{} {} {}", days[at], weeks[at], months[at]);
        prop_assert!(first[at] <= persons[at], "{} came first of {}", first[at], persons[at]);
    }
    // Between the first day and the last, which the range may cut, the days are whole.
    let whole = 1..persons.len().saturating_sub(2);
    prop_assert_eq!(whole.clone().map(|at| days[at]).collect::<Vec<_>>(), whole.map(|at| persons[at]).collect::<Vec<_>>());
    more["moving_average"] = json!(1);
    prop_assert_eq!(&reports.asker.ask("trends", &reports.chart(more)), &chart, "a mean of one is that one");
    Ok(())
}

fn numbers_add_up(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    let maths = ["total", "unique_users", "unique_sessions", "unique:country", "first_time_users"];
    let plain = series(reports, &maths, json!({}));
    let so_far = series(reports, &maths, json!({"cumulative": true}));
    for (plain, so_far) in plain.iter().zip(&so_far) {
        let [.., last, total] = so_far.as_slice() else { continue };
        prop_assert_eq!((last, total), (total, plain.last().unwrap()), "the last is all");
        prop_assert!(so_far.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", so_far);
    }
    for at in [0, 4] {
        let mut sum = 0.0;
        let sums: Vec<f64> = plain[at]
            .iter()
            .take(plain[at].len() - 1)
            .map(|number| {
                sum += number;
                sum
            })
            .collect();
        prop_assert_eq!(&so_far[at][..sums.len()], sums.as_slice());
    }
    Ok(())
}

/// Every bar of a chart of persons is as many people as it says.
fn a_number_is_its_people(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    let math = OF_PERSONS[reports.case.events.len() % OF_PERSONS.len()];
    let is_cumulative = reports.case.limit == 1 && ["unique_users", "first_time_users"].contains(&math);
    let more = json!({"series": [{"event": null, "math": math}], "interval": "week", "cumulative": is_cumulative});
    let mut of = reports.chart(more);
    let chart = reports.asker.ask("trends", &of);
    of["report"] = json!("trends");
    let buckets = chart["buckets"].as_array().unwrap().iter().chain([&Value::Null]);
    for (bucket, number) in buckets.zip(numbers(&chart["series"][0])) {
        of["bucket"] = bucket.clone();
        let people = reports.asker.ask("users", &json!({"of": of, "limit": 1_000}));
        prop_assert_eq!(people["total"].as_f64(), Some(number), "{}", of);
        prop_assert_eq!(people["users"].as_array().unwrap().len() as f64, number, "{}", of);
    }
    Ok(())
}

/// There are as many values of a field as a breakdown by it has lines, and as many events of a person as there are.
fn values_are_lines(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    for field in ["country", "person.amount", "session.pages"] {
        // By months: a thousand lines by the hours of months would be more numbers than an answer may have.
        let chart = |more: Value| {
            let mut chart = reports.chart(more);
            chart["interval"] = json!("month");
            reports.asker.ask("trends", &chart)
        };
        let values = total(&chart(json!({"series": [{"math": format!("unique:{field}")}]}))["series"][0]);
        let chart = chart(json!({"breakdown": field, "limit": 1_000}));
        let lines = chart["series"].as_array().unwrap().iter().filter(|line| line["kind"] == "value").count();
        prop_assert_eq!(values, lines as f64, "{}", field);
    }
    let series = json!([{"math": "per_user"}, {"math": "unique_users"}]);
    let whole = reports.asker.ask("trends", &reports.chart(json!({"series": series, "formula": "A*B"})));
    let events = reports.total(json!({}));
    prop_assert!((whole["series"][0]["total"].as_f64().unwrap_or_default() - events).abs() < 1e-9 * events.max(1.0));
    Ok(())
}

/// The active persons of a period are its unique users, and the new ones those who came for the first time.
fn a_lifecycle_is_of_all_who_were_there(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    let interval = reports.case.options.period;
    let mut asked = reports.chart(json!({"interval": interval}));
    asked.as_object_mut().unwrap().remove("series");
    let chart = reports.asker.ask("lifecycle", &asked);
    let of = |status: &str| -> Vec<f64> {
        let line = chart["series"].as_array().unwrap().iter().find(|line| line["name"] == status).unwrap();
        line["values"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let [new, returning, resurrected] = ["new", "returning", "resurrected"].map(of);
    let of_trends = series(reports, &["unique_users", "first_time_users"], json!({"interval": interval}));
    for at in 0..new.len() {
        prop_assert_eq!(new[at] + returning[at] + resurrected[at], of_trends[0][at], "{}", asked);
        // In a period that the range cuts at its beginning who came just before is new, too.
        prop_assert!(at == 0 || new[at] == of_trends[1][at], "{}", asked);
    }
    Ok(())
}

/// Where every event is in the range, sessions and their visitors are those of the events, line by line.
fn sessions_are_sessions(reports: &Reports<'_>) -> Result<(), TestCaseError> {
    let fields = |fields: &&[&str]| fields.iter().all(|field| field.starts_with("session.") || field.starts_with("person."));
    let breakdowns: Vec<_> = BREAKDOWNS.iter().filter(|breakdown| fields(&breakdown.fields)).collect();
    for breakdown in &breakdowns {
        let mut asked = reports.chart(json!({"breakdown": breakdown.request(), "limit": 1_000}));
        EVER.iter().for_each(|(key, at)| asked[key] = json!(at));
        let totals = |report: &str, maths: [&str; 2]| {
            let mut asked = asked.clone();
            asked["series"] = maths.iter().map(|math| json!({"math": math})).collect();
            let chart = reports.asker.ask(report, &asked);
            let of = |line: &Value| (line["kind"].to_string(), line["breakdown"].to_string(), line["total"].to_string());
            let mut lines: Vec<_> = chart["series"].as_array().unwrap().iter().map(of).collect();
            lines.sort();
            lines
        };
        let of_events = totals("trends", ["unique_sessions", "unique_users"]);
        prop_assert_eq!(totals("sessions", ["sessions", "visitors"]), of_events, "{}", asked);
    }
    // Some of the lines as `$other`: by one breakdown, for questions take their time.
    let breakdown = breakdowns[reports.case.events.len() % breakdowns.len()].request();
    let in_all = |more: Value| -> f64 {
        let mut asked = reports.chart(more);
        asked["series"] = json!([{"math": "sessions"}]);
        reports.asker.ask("sessions", &asked)["series"].as_array().unwrap().iter().map(total).sum()
    };
    let of_lines = in_all(json!({"breakdown": breakdown, "limit": reports.case.limit}));
    prop_assert_eq!(of_lines, in_all(json!({})), "{} of {:?}", breakdown, reports.case.limit);
    Ok(())
}
