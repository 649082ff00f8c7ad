//! The SQL of the reports, pinned: requests that together use every piece of it.

use std::fmt::Write as _;

use super::*;

fn filtered(field: &str, op: &str, value: Value) -> (&'static str, Value) {
    ("events", json!({"filters": [{"field": field, "op": op, "value": value}]}))
}

fn filters() -> Vec<(&'static str, Value)> {
    let exact = json!(9_007_199_254_740_993_u64);
    let values = json!(["a", "", 1, 2.5, true, false, null, exact]);
    let mut asked = vec![
        filtered("country", "in", json!(["DE", null])),
        filtered("country", "not_in", json!(["DE"])),
        filtered("eventId", "eq", json!("order-1001")),
        filtered("sessionId", "contains", json!("s")),
        filtered("screen_width", "in", json!([1280, null])),
        filtered("screen_width", "gte", json!(1280)),
        filtered("screen_width", "exists", Value::Null),
        filtered("country", "regex", json!("^D")),
        filtered("country", "not_exists", Value::Null),
        filtered("properties.a", "in", values.clone()),
        filtered("properties.a", "not_in", values),
        filtered("properties.a", "contains", json!("x")),
        filtered("properties.a", "regex", json!("x")),
        filtered("properties.a", "exists", Value::Null),
        filtered("properties.a", "not_exists", Value::Null),
    ];
    let country = |name: &str| json!({"field": "country", "value": name});
    let did = |more: Value, negated: bool| {
        let mut did = json!({"event": "buy", "from": "-7d/d", "filters": [country("DE")]});
        did.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"did": did, "not": negated})
    };
    let trees = [
        json!([{"any": [country("DE"), {"all": [country("FR"), {"field": "os", "op": "exists"}]}]}, country("IT")]),
        json!([did(json!({}), false)]),
        json!([did(json!({"times": {"gte": 2, "lt": 5}}), true)]),
        json!([{"any": [did(json!({"times": {"lt": 3}}), false), did(json!({"times": {"eq": 0}, "to": "now"}), true)]}]),
    ];
    asked.extend(trees.map(|filters| ("events", json!({"filters": filters}))));
    for op in ["gt", "gte", "lt", "lte"] {
        asked.extend([json!(1), json!(2.5), json!(1e300), exact.clone()].map(|value| filtered("properties.a", op, value)));
    }
    asked
}

fn charts() -> Vec<(&'static str, Value)> {
    let math = |math: &str, property: &str| ("trends", trends(json!({"series": [{"math": math, "property": property}]})));
    let by = |field: &str, zone: &str, interval: &str| {
        ("trends", trends(json!({"breakdown": field, "timezone": zone, "interval": interval, "from": "2025-10-01", "compare": "previous"})))
    };
    let mut asked: Vec<_> = ["sum", "avg", "min", "max", "p50", "p90", "p95", "p99"].map(|word| math(word, "properties.price")).into();
    asked.extend([
        math("unique_users", "price"),
        math("unique_sessions", "price"),
        math("sum", "screen_width"),
        by("country", "UTC", "day"),
        by("screen_height", "Europe/Berlin", "week"),
        by("properties.plan", "Australia/Lord_Howe", "hour"),
        ("trends", trends(json!({"from": "2023-01-01", "interval": "month"}))),
        (
            "trends",
            trends(json!({"series": [{"event": "view"}, {"event": "buy", "filters": [{"field": "os", "value": "x"}]}], "formula": "A/B",
            "filters": [{"field": "country", "value": "DE"}], "breakdown": "properties.plan"})),
        ),
    ]);
    asked
}

fn people() -> Vec<(&'static str, Value)> {
    let bar = |more: Value| {
        let mut request = of(json!({"breakdown": "properties.plan", "bucket": "2025-12-31", "compare": "previous",
            "series": [{"event": "view", "math": "sum", "property": "price"}]}));
        request["of"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("users", request)
    };
    let kinds =
        [json!("pro"), json!(7), json!(9_007_199_254_740_993_u64), json!(true), json!([1, {"a": 2}]), json!("$none"), json!("$other")];
    let mut asked: Vec<_> = kinds.map(|value| bar(json!({"breakdown_value": value}))).into();
    let of_two = |value: Value| ("users", of(json!({"breakdown": ["country", "properties.plan"], "breakdown_value": value})));
    asked.extend([json!(["DE", "pro"]), json!(["$none", 7]), json!(["$none", "$none"]), json!(["$other", "$other"])].map(of_two));
    asked.extend([
        ("users", of(json!({}))),
        ("users", json!({"event": "view", "filters": [{"field": "country", "value": "DE"}], "from": "-7d"})),
        ("users", json!({"cursor": "00000000000000ff", "limit": 3})),
        ("events", json!({"cursor": "1767355200000.0190f7a4-0000-7000-8000-000000000001.5", "event": "view", "limit": 3})),
        ("properties", json!({"event": "view", "filters": [{"field": "properties.a", "value": 1}], "limit": 5})),
    ]);
    asked
}

fn sessions() -> Vec<(&'static str, Value)> {
    let ask = |more: Value| {
        let mut request = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let on_both = json!([{"field": "os", "value": "x"}, {"field": "session.pages", "op": "gte", "value": 2}]);
    let words = ["sessions", "visitors", "bounce_rate", "avg_duration_ms", "median_duration_ms", "pages_per_session", "events_per_session"];
    let bar = ask(json!({"report": "sessions", "filters": on_both, "breakdown": "session.channel", "breakdown_value": "direct"}));
    vec![
        ("trends", trends(json!({"breakdown": "session.is_bounce", "filters": [{"field": "session.duration", "op": "gt", "value": 5}]}))),
        ("trends", trends(json!({"series": [{"math": "avg", "property": "session.pages"}]}))),
        ("sessions", ask(json!({"series": words.map(|word| json!({"math": word})), "filters": on_both}))),
        ("sessions", ask(json!({"breakdown": "session.entry_page", "compare": "previous"}))),
        ("sessions", ask(json!({"list": true, "limit": 3, "cursor": "1767355200000.0190f7a4-0000-7000-8000-000000000001"}))),
        ("users", json!({"of": bar})),
    ]
}

/// The parameters that are the secret of the process, which keys its hashes.
fn secrets(statement: &Statement) -> Vec<String> {
    let keys = statement.text().split("sipHash64Keyed((").skip(1).filter_map(|rest| rest.split_once(')'));
    keys.flat_map(|(keys, _)| keys.split(", ").map(|key| key.trim_matches(['{', '}']).replace(":UInt64", "")).collect::<Vec<_>>()).collect()
}

#[test]
fn the_sql_of_the_reports_is_as_recorded() {
    let mut recorded = String::new();
    for (report, request) in filters().into_iter().chain(charts()).chain(people()).chain(sessions()) {
        writeln!(recorded, "# {report} {request}").unwrap();
        for statement in statements(report, &request).unwrap() {
            writeln!(recorded, "{}", statement.text()).unwrap();
            for (name, value) in statement.params() {
                let shown = if secrets(&statement).contains(&name) { "secret" } else { value };
                writeln!(recorded, "  {name} = {shown}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(recorded);
}
