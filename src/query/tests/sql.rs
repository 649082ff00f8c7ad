//! The SQL of the reports, pinned: requests that together use every piece of it.

use std::fmt::Write as _;

use super::*;

fn filtered(field: &str, op: &str, value: Value) -> (&'static str, Value) {
    ("events", json!({"filters": [{"field": field, "op": op, "value": value}]}))
}

fn values_of_all_kinds() -> Value {
    json!(["a", "", 1, 2.5, true, false, null, 9_007_199_254_740_993_u64])
}

pub(super) fn filters() -> Vec<(&'static str, Value)> {
    let exact = json!(9_007_199_254_740_993_u64);
    let values = values_of_all_kinds();
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
    let traits = json!([{"field": "person.plan", "op": "in", "value": values_of_all_kinds()}, {"field": "person.age", "op": "gte", "value": 18},
        {"any": [{"field": "person.plan", "op": "contains", "value": "x"}, {"field": "person.email", "op": "not_exists"}]}]);
    asked.push(("events", json!({"filters": traits})));
    for op in ["gt", "gte", "lt", "lte"] {
        asked.extend([json!(1), json!(2.5), json!(1e300), exact.clone()].map(|value| filtered("properties.a", op, value)));
    }
    asked
}

pub(super) fn charts() -> Vec<(&'static str, Value)> {
    let math = |math: &str, property: &str| ("trends", trends(json!({"series": [{"math": math, "property": property}]})));
    let by = |field: &str, zone: &str, interval: &str| {
        ("trends", trends(json!({"breakdown": field, "timezone": zone, "interval": interval, "from": "2025-10-01", "compare": "previous"})))
    };
    let mut asked: Vec<_> = ["sum", "avg", "min", "max", "p50", "p90", "p95", "p99"].map(|word| math(word, "properties.price")).into();
    for word in ["per_user", "dau", "mau", "first_time_users", "unique:country", "unique:properties.plan"] {
        asked.push(math(word, "price"));
    }
    let shaped = |word: &str, more: Value| {
        let mut chart = trends(json!({"series": [{"event": "view", "math": word, "property": "price"}], "breakdown": "country"}));
        chart.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("trends", chart)
    };
    asked.extend(["p90", "per_user", "unique:os", "first_time_users"].map(|word| shaped(word, json!({"cumulative": true}))));
    asked.extend([
        shaped("wau", json!({"moving_average": 7})),
        math("unique_users", "price"),
        math("unique_sessions", "price"),
        math("sum", "screen_width"),
        by("country", "UTC", "day"),
        by("person.plan", "UTC", "day"),
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

pub(super) fn people() -> Vec<(&'static str, Value)> {
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
    for word in ["wau", "first_time_users"] {
        let chart = json!({"series": [{"event": "view", "math": word}], "bucket": "2025-12-31", "breakdown": "os", "breakdown_value": "x"});
        asked.push(("users", of(chart)));
    }
    asked.extend([
        ("users", of(json!({}))),
        ("users", json!({"event": "view", "filters": [{"field": "country", "value": "DE"}], "from": "-7d"})),
        ("users", json!({"cursor": "00000000000000ff", "limit": 3})),
        ("events", json!({"cursor": "1767355200000.7.2.30.4.0190f7a4-0000-7000-8000-000000000001.5", "event": "view", "limit": 3})),
        ("properties", json!({"event": "view", "filters": [{"field": "properties.a", "value": 1}], "limit": 5})),
        ("catalogue-events", json!({"search": "a%_\\'", "limit": 5})),
        ("catalogue-fields", json!({"event": "view"})),
        ("catalogue-values", json!({"field": "properties.plan", "event": "view", "search": "x", "limit": 5})),
        ("catalogue-values", json!({"field": "country"})),
        ("properties", json!({"sample": true})),
        ("catalogue-fields", json!({"sample": true})),
        ("catalogue-values", json!({"field": "properties.plan", "search": "x", "sample": true})),
    ]);
    asked
}

pub(super) fn sessions() -> Vec<(&'static str, Value)> {
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
        ("sessions", ask(json!({"breakdown": "person.plan"}))),
        ("sessions", ask(json!({"list": true, "limit": 3, "cursor": "1767355200000.0190f7a4-0000-7000-8000-000000000001"}))),
        ("users", json!({"of": bar})),
    ]
}

/// The parameters that are the secret of the process, which keys its hashes.
fn secrets(statement: &Statement) -> Vec<String> {
    let keys = statement.text().split("sipHash64Keyed((").skip(1).filter_map(|rest| rest.split_once(')'));
    keys.flat_map(|(keys, _)| keys.split(", ").map(|key| key.trim_matches(['{', '}']).replace(":UInt64", "")).collect::<Vec<_>>()).collect()
}

/// The statements of requests, with their values.
fn recorded(requests: impl IntoIterator<Item = (&'static str, Value)>) -> String {
    let mut recorded = String::new();
    for (report, request) in requests {
        writeln!(recorded, "# {report} {request}").unwrap();
        for statement in statements(report, &request).unwrap() {
            writeln!(recorded, "{}", statement.text()).unwrap();
            for (name, value) in statement.params() {
                let shown = if secrets(&statement).contains(&name) { "secret" } else { value };
                writeln!(recorded, "  {name} = {shown}").unwrap();
            }
        }
    }
    recorded
}

#[test]
fn the_sql_of_the_reports_is_as_recorded() {
    insta::assert_snapshot!(recorded(filters().into_iter().chain(charts()).chain(people()).chain(sessions())));
}

/// A request of a week, and the same as that of a bar.
fn of_a_week(report: &str, more: &Value, bar: Option<&Value>) -> Value {
    let mut request = json!({"from": "2025-12-22T06:00:00Z", "to": "2025-12-29", "timezone": "Europe/Berlin"});
    let object = request.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    let Some(bar) = bar else { return request };
    object.extend(bar.as_object().unwrap().clone());
    object.insert("report".to_owned(), json!(report));
    json!({"of": request})
}

#[test]
fn the_sql_of_lifecycles_is_as_recorded() {
    let filtered = json!({"event": "buy", "filters": [{"field": "country", "value": "DE"}], "breakdown": "os", "compare": "previous"});
    let of_day = |status: &str| json!({"status": status, "bucket": "2025-12-23", "breakdown_value": "$other"});
    insta::assert_snapshot!(recorded([
        ("lifecycle", of_a_week("lifecycle", &json!({}), None)),
        ("lifecycle", of_a_week("lifecycle", &filtered, None)),
        ("lifecycle", json!({"from": "2023-01-01", "interval": "month"})),
        ("users", of_a_week("lifecycle", &filtered, Some(&of_day("resurrected")))),
        ("users", of_a_week("lifecycle", &filtered, Some(&of_day("dormant")))),
    ]));
}

#[test]
fn the_sql_of_funnels_is_as_recorded() {
    let buy = json!({"event": "buy", "filters": [{"field": "properties.price", "op": "gt", "value": 5}]});
    let steps = json!([{"event": "view"}, {"event": ["cart", "basket"], "optional": true}, buy]);
    let full = json!({"steps": steps, "exclusions": [{"event": "help", "from_step": 1, "to_step": 3}], "hold": ["country", "properties.sku"],
        "breakdown": "os", "count": "sessions", "window": "30m", "filters": [{"field": "session.pages", "op": "gt", "value": 1}]});
    let bar = json!({"step": 2, "converted": false});
    let two =
        json!({"steps": [{"event": "view"}, {"event": null}], "order": "strict", "compare": "previous", "complete_windows_only": true});
    insta::assert_snapshot!(recorded([
        ("funnel", of_a_week("funnel", &json!({"steps": [{"event": "view"}, {"event": "buy"}]}), None)),
        ("funnel", of_a_week("funnel", &full, None)),
        ("funnel", of_a_week("funnel", &two, None)),
        ("users", of_a_week("funnel", &full, Some(&json!({"step": 1, "breakdown_value": "Linux"})))),
        ("users", of_a_week("funnel", &two, Some(&bar))),
    ]));
}

#[test]
fn the_sql_of_stickiness_is_as_recorded() {
    let filtered = json!({"event": "buy", "interval": "week", "breakdown": "os", "compare": "previous"});
    let bar = |bar: Value| ("users", of_a_week("stickiness", &json!({"filters": [{"field": "country", "value": "DE"}]}), Some(&bar)));
    insta::assert_snapshot!(recorded([
        ("stickiness", of_a_week("stickiness", &json!({}), None)),
        ("stickiness", of_a_week("stickiness", &filtered, None)),
        bar(json!({"times": 2})),
        bar(json!({"at_least": 2})),
    ]));
}

#[test]
fn the_sql_of_retentions_is_as_recorded() {
    let events =
        json!({"cohort_event": {"event": "signup"}, "return_event": {"event": "buy", "filters": [{"field": "country", "value": "DE"}]}});
    let with = |more: Value| {
        let mut request = events.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let table = |more: Value| ("retention", of_a_week("retention", &with(more), None));
    let bar = |more: Value, bar: Value| ("users", of_a_week("retention", &with(more), Some(&bar)));
    insta::assert_snapshot!(recorded([
        table(json!({})),
        table(json!({"type": "recurring", "mode": "on_or_after", "breakdown": "os", "filters": [{"field": "browser", "value": "x"}]})),
        table(json!({"rolling": true, "period": "week", "value": {"sum": "properties.price"}, "compare": "previous"})),
        table(json!({"rolling": true, "mode": "on_or_after", "period": "month"})),
        bar(json!({}), json!({"cohort_start": "2025-12-23"})),
        bar(json!({"breakdown": "os"}), json!({"cohort_start": "2025-12-23", "index": 2, "returned": false, "breakdown_value": "$other"})),
    ]));
}

#[test]
fn the_sql_of_paths_is_as_recorded() {
    let pages = json!({"node": "page_path", "end": "/thanks", "steps": 3, "collapse": false, "filters": [{"field": "page_path", "op": "exists"},
        {"did": {"event": "buy"}}, {"field": "session.pages", "op": "gt", "value": 1}]});
    let bar = |bar: Value| ("users", of_a_week("paths", &json!({"steps": 2, "start": "string"}), Some(&bar)));
    insta::assert_snapshot!(recorded([
        ("paths", of_a_week("paths", &json!({}), None)),
        ("paths", of_a_week("paths", &pages, None)),
        bar(json!({"step": 1, "name": "$other"})),
        bar(json!({"step": 1, "name": "tring", "next": "$other"})),
        bar(json!({"step": 1, "name": "$other", "dropped": true})),
    ]));
}
