//! Users: as many people behind a bar as the bar says, each on one page.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::report::{Asker, Case};

/// Counts the people behind the bars of a chart of persons, and of the one that it is compared with.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let maths = ["dau", "wau", "mau", "first_time_users"].into_iter().filter(|math| case.maths.contains(math));
    let mut maths: Vec<&'static str> = maths.take(1).collect();
    maths.push("unique_users");
    let case = Case { formula: false, moving_average: None, maths, ..case.clone() };
    let request = case.shaped_request();
    let chart = asker.ask("trends", &request);
    check_people(asker, &request, &chart, false)?;
    check_people(asker, &request, &chart["compare"], true)
}

/// Every total, and two bars of every line.
fn check_people(asker: Asker<'_>, request: &Value, chart: &Value, is_compared: bool) -> Result<(), TestCaseError> {
    for line in chart["series"].as_array().unwrap() {
        let index = request["series"].as_array().unwrap().iter().position(|series| series["math"] == line["math"]);
        let values = line["values"].as_array().unwrap();
        let bars = chart["buckets"].as_array().unwrap().iter().zip(values).filter(|(_, value)| **value != json!(0)).take(2);
        for (bucket, value) in std::iter::once((&Value::Null, &line["total"])).chain(bars) {
            let mut of = request.clone();
            of["report"] = json!("trends");
            of["bucket"] = bucket.clone();
            of["series_index"] = json!(index);
            if line["kind"] != Value::Null {
                of["breakdown_value"] = line["breakdown"].clone();
                of["breakdown_kind"] = line["kind"].clone();
            }
            let asked = json!({"of": of, "compare": is_compared});
            let (users, total) = all_users(asker, &asked);
            let distinct: BTreeSet<&String> = users.iter().collect();
            prop_assert_eq!((&json!(users.len()), &total), (value, value), "{}", asked);
            prop_assert_eq!(distinct.len(), users.len());
        }
    }
    Ok(())
}

/// Everyone behind a bar, page by page, and the total of the last page.
fn all_users(asker: Asker<'_>, asked: &Value) -> (Vec<String>, Value) {
    let mut users = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut request = asked.clone();
        request["limit"] = json!(2);
        request["cursor"] = cursor;
        let page = asker.ask("users", &request);
        users.extend(page["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
        if cursor.is_null() {
            return (users, page["total"].clone());
        }
    }
}
