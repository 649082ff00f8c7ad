use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Noon of 2026-01-02.
const NOW_MS: i64 = 1_767_355_200_000;
const PROJECT: ProjectId = ProjectId(7);

/// A store that answers nothing and remembers what it was asked.
#[derive(Default)]
struct Recorder(Mutex<Vec<Statement>>);

impl Run for Recorder {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        self.0.lock().unwrap().push(statement);
        // A count, a key and a name at once: enough for every report to go on to its next statement.
        Ok(Answer { body: Bytes::from_static(b"[\"string\",\"n\",1]\n"), read_rows: 1 })
    }
}

/// The statements that a request makes.
fn statements(report: &str, request: &Value) -> Result<Vec<Statement>, QueryError> {
    let queries = Queries::new(Recorder::default(), QueryConfig::default().check().unwrap(), Loads::Here(Arc::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let body = request.to_string();
    runtime.block_on(queries.answer(PROJECT, report, body.as_bytes(), Asked { now_ms: NOW_MS, data_through_ms: NOW_MS }))?;
    Ok(std::mem::take(&mut *queries.0.run.0.lock().unwrap()))
}

fn refused(report: &str, request: &Value) -> &'static str {
    statements(report, request).expect_err(&request.to_string()).code
}

fn trends(more: Value) -> Value {
    let mut request = json!({"from": "-7d", "series": [{"event": "view"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn of(more: Value) -> Value {
    let mut of = trends(more);
    of["report"] = json!("trends");
    json!({"of": of})
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (report, request, code) in [
        ("trend", json!({}), "unknown_report"),
        ("trends", json!([]), "invalid_request"),
        ("trends", json!({"series": [{}]}), "invalid_range"),
        ("trends", json!({"from": "-7d"}), "invalid_series"),
        ("trends", trends(json!({"project": "other"})), "unknown_key"),
        ("trends", trends(json!({"to": "-8d"})), "invalid_range"),
        ("trends", trends(json!({"timezone": "Mars/Base"})), "invalid_timezone"),
        ("trends", trends(json!({"interval": "fortnight"})), "invalid_interval"),
        ("trends", trends(json!({"from": "-50y", "interval": "minute"})), "too_many_buckets"),
        ("trends", trends(json!({"limit": 0})), "invalid_limit"),
        ("trends", trends(json!({"formula": "A/B"})), "invalid_formula"),
        ("trends", trends(json!({"compare": "next"})), "invalid_compare"),
        ("trends", trends(json!({"breakdown": "contry"})), "invalid_field"),
        ("trends", trends(json!({"series": [{"math": "sum"}]})), "invalid_property"),
        ("trends", trends(json!({"series": [{"math": "mean"}]})), "invalid_math"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "like", "value": "D"}]})), "invalid_operator"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "eq", "value": 1}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"op": "eq", "value": 1}]})), "invalid_field"),
        ("trends", trends(json!({"filters": [{"field": "properties.", "value": 1}]})), "invalid_property"),
        ("trends", trends(json!({"filters": [{"field": "properties.a", "op": "in", "value": vec![0; 10_001]}]})), "too_many_values"),
        ("events", json!({"cursor": "1.2.3"}), "invalid_cursor"),
        ("events", json!({"limit": 10_001}), "invalid_limit"),
        ("users", json!({"cursor": "12"}), "invalid_cursor"),
        ("users", json!({"cursor": "+23456789abcdef0"}), "invalid_cursor"),
        ("users", json!({"of": "trends"}), "invalid_of"),
        ("users", json!({"of": {"report": "events"}}), "invalid_of"),
        ("users", json!({"of": {"report": "trends", "from": "-7d"}}), "invalid_series"),
        ("users", of(json!({"series_index": 1})), "invalid_of"),
        ("users", of(json!({"bucket": "2026-01-01T00:00:01Z"})), "invalid_of"),
        ("users", of(json!({"breakdown_value": "pro"})), "invalid_of"),
        ("properties", json!({"values": 101}), "invalid_limit"),
        ("trends", trends(json!({"refresh": "yes"})), "invalid_refresh"),
    ] {
        assert_eq!(refused(report, &request), code, "{report} {request}");
    }
}

#[test]
fn a_user_page_without_a_bar_asks_for_everyone_after_the_cursor() {
    let asked = statements("users", &json!({"event": "view", "cursor": "00000000000000ff", "limit": 3})).unwrap();

    let page = asked.last().unwrap();
    assert!(page.text().ends_with(
        "WHERE project_id = {p0:UInt64} AND timestamp >= fromUnixTimestamp64Milli({p1:Int64}) \
         AND timestamp < fromUnixTimestamp64Milli({p2:Int64}) \
         AND toDate(timestamp) >= toDate({p3:UInt16}) AND toDate(timestamp) <= toDate({p4:UInt16}) \
         AND type = {p5:String} AND person_id > {p6:UInt64} GROUP BY person_id ORDER BY person_id LIMIT {p7:UInt64}"
    ));
    let values: Vec<&str> = page.params().map(|(_, value)| value).skip(3).collect();
    assert_eq!(values, ["0", "65535", "view", "255", "4"]);
}

#[test]
fn the_people_of_the_rest_are_asked_for_after_the_largest_values() {
    let request = of(json!({"breakdown": "country", "breakdown_value": "$other", "bucket": "2026-01-02T00:00:00Z"}));

    let asked = statements("users", &request).unwrap();

    assert_eq!(asked.len(), 3);
    assert!(asked[0].text().contains("ORDER BY size DESC"));
    assert!(asked[2].text().contains("concat('s', country)) NOT IN {p6:Array(String)}"), "{}", asked[2].text());
}

/// The question that a request asks.
fn question(report: &str, request: &Value, now_ms: i64) -> u128 {
    Report::parse(PROJECT, report, request, now_ms).unwrap().fingerprint()
}

#[test]
fn one_question_spelled_in_many_ways_is_one_question_also_a_moment_later() {
    let plain = json!({"from": "-7d", "series": [{"event": "view"}]});
    let spelled = [
        json!({"to": "now", "from": "-7d", "series": [{"math": "total", "event": "view", "name": null}]}),
        json!({"from": "-168h", "interval": "day", "limit": 25, "timezone": "UTC", "filters": [], "series": [{"event": "view"}]}),
        json!({"from": "-1w", "compare": null, "breakdown": null, "series": [{"name": "view", "event": "view"}]}),
    ];
    for request in spelled {
        assert_eq!(question("trends", &request, NOW_MS + 12_345), question("trends", &plain, NOW_MS), "{request}");
    }
    let by = |field: &str| question("users", &json!({"filters": [{"field": field, "value": "ada"}]}), NOW_MS);
    assert_eq!(by("userId"), by("user_id"));
    let compared = trends(json!({"compare": "previous"}));
    assert_eq!(question("trends", &compared, NOW_MS), question("trends", &compared, NOW_MS + 1));
}

#[test]
fn different_questions_are_different() {
    let requests = [
        trends(json!({})),
        trends(json!({"from": "2025-12-26T12:00:00Z"})),
        trends(json!({"to": "2026-01-02T12:00:00Z"})),
        trends(json!({"from": "-25h"})),
        trends(json!({"from": "-30h"})),
        trends(json!({"timezone": "Europe/Berlin"})),
        trends(json!({"interval": "hour"})),
        trends(json!({"limit": 24})),
        trends(json!({"compare": "previous"})),
        trends(json!({"compare": {"from": "-14d", "to": "-7d"}})),
        trends(json!({"breakdown": "country"})),
        trends(json!({"breakdown": "properties.country"})),
        trends(json!({"filters": [{"field": "properties.a", "value": 1}]})),
        trends(json!({"filters": [{"field": "properties.a", "value": "1"}]})),
        trends(json!({"filters": [{"field": "properties.a", "op": "neq", "value": "1"}]})),
        trends(json!({"formula": "A"})),
        trends(json!({"formula": "A+0"})),
        trends(json!({"series": [{"event": "view", "name": "seen"}]})),
        trends(json!({"series": [{"event": "view", "math": "unique_users"}]})),
        trends(json!({"series": [{"event": "view"}, {"event": "view"}]})),
    ];
    let mut seen: Vec<u128> = requests.iter().map(|request| question("trends", request, NOW_MS)).collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all);
    assert_ne!(question("users", &json!({}), NOW_MS), question("events", &json!({}), NOW_MS));
}

#[test]
fn what_an_answer_depends_on_reaches_all_days_to_come_only_if_it_follows_now() {
    let reach = |request: Value| {
        let plan = Report::parse(PROJECT, "trends", &trends(request), NOW_MS).unwrap();
        format!("{:?}", Reach::of(&plan.ranges(), NOW_MS))
    };
    assert_eq!(reach(json!({})), "Reach { days: 20448..=65535, is_closed: false }");
    assert_eq!(reach(json!({"compare": "previous"})), "Reach { days: 20441..=65535, is_closed: false }");
    let closed = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    assert_eq!(reach(closed), "Reach { days: 20454..=20454, is_closed: true }");
    let to_come = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"});
    assert_eq!(reach(to_come), "Reach { days: 20454..=20455, is_closed: false }");
}

/// A request of any report with `text` wherever a text may stand.
fn with_text(text: &str) -> [(&'static str, Value); 4] {
    let name = format!("properties.{text}");
    let filters = json!([{"field": name, "op": "in", "value": [text, true]}, {"field": "country", "op": "regex", "value": text}]);
    let series = json!([{"event": text, "math": "p90", "property": name, "filters": filters, "name": text}]);
    let chart = json!({"from": "-7d", "series": series, "breakdown": name, "filters": filters});
    let mut of = chart.clone();
    of["report"] = json!("trends");
    of["breakdown_value"] = json!(text);
    [
        ("trends", chart),
        ("events", json!({"event": text, "filters": filters})),
        ("users", json!({"of": of})),
        ("properties", json!({"event": text, "filters": filters})),
    ]
}

proptest! {
    #[test]
    fn the_sql_is_the_same_whatever_is_asked_for(text in "[a-z'\"\\\\{}();\n\t -]{1,20}") {
        let plain = with_text("a");
        for ((report, request), (_, plain)) in with_text(&text).into_iter().zip(plain) {
            let texts = |request: &Value| -> Vec<String> {
                statements(report, request).unwrap().iter().map(|statement| statement.text().to_owned()).collect()
            };
            prop_assert_eq!(texts(&request), texts(&plain));
        }
    }

    #[test]
    fn every_statement_is_of_one_project_and_one_range(text in ".{1,20}") {
        for (report, request) in with_text(&text) {
            for statement in statements(report, &request).unwrap() {
                let (_, after) = statement.text().split_once(" FROM events WHERE project_id = {p").unwrap();
                prop_assert!(!after.contains("events WHERE"));
                let index: usize = after.split_once(':').unwrap().0.parse().unwrap();
                let value = statement.params().nth(index).unwrap().1.to_owned();
                prop_assert_eq!(value, "7");
                prop_assert!(after.contains("AND timestamp >= ") && after.contains("AND timestamp < "));
            }
        }
    }
}
