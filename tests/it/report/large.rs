//! Questions and events as large as the documented limits allow, and bad input: answered or refused by name, never a 500.

use pulse::clickhouse::Statement;
use pulse::event::ids::ProjectId;
use pulse::query::ErrorClass;
use serde_json::{Value, json};

use super::NOW_MS;
use super::store::Store;

const PROJECT: u64 = 7;
/// As in the module of events.
const PAGE_BYTES: usize = 8 << 20;

async fn insert(store: &Store, rows: impl Iterator<Item = Value>) {
    let rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    let insert = format!("INSERT INTO pulse.events SETTINGS async_insert = 0 FORMAT JSONEachRow {}", rows.join("\n"));
    store.store.shards[0].first().writer.execute(&Statement::raw(insert)).await.unwrap();
}

fn row(number: usize, more: Value) -> Value {
    let mut row = json!({
        "project_id": PROJECT, "type": "view", "timestamp": format!("{}.000", NOW_MS / 1_000 - 1 - number as i64), "received_day": "2100-01-01",
        "person_id": number, "event_id": format!("00000000-0000-4000-8000-{number:012}"),
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// Whether there is an answer, else why not.
async fn asked(store: &Store, report: &str, request: &Value) -> Result<(), (ErrorClass, &'static str)> {
    match store.queries.answer(ProjectId(PROJECT), report, request.to_string().as_bytes(), NOW_MS).await {
        Ok(_) => Ok(()),
        Err(refused) => Err((refused.class, refused.code)),
    }
}

fn filtered(filters: Value) -> Value {
    json!({"from": "-1d", "series": [{"event": "view"}], "filters": filters})
}

/// Every kind of value, in as many filters as there may be.
fn mixed(prefix: &str) -> Value {
    let filter = |index: usize| {
        let values = json!([format!("{prefix}{index}"), "", index, true, 9_007_199_254_740_993_i64 + 2 * index as i64]);
        json!({"field": format!("properties.{prefix}{index}"), "op": "in", "value": values})
    };
    (0..100).map(filter).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_within_the_limits_is_answered_or_refused_by_name() {
    let store = Store::start().await;
    let stack = |number: usize| json!({"strings": {"stack": format!("{}{number:04}", "at ü\t'\\".repeat(900))}});
    for from in [0, 300, 600, 900] {
        insert(&store, (from..from + 300).map(|number| row(number, stack(number)))).await;
    }
    let many = |text: &str, count: usize| -> Vec<String> { (0..count).map(|number| format!("{text}{number}")).collect() };
    let uuids: Vec<String> = (0..10_000).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    let exact: Vec<i64> = (0..10_000).map(|number| 9_007_199_254_740_993 + 2 * number).collect();
    let long = "at ü\t'\\".repeat(10_000);
    let answered = [
        json!({"from": "1970-01-02", "to": "2298-12-31", "series": [{"event": "view"}], "interval": "month"}),
        json!({"from": "1990-01-01", "series": [{}], "interval": "day", "timezone": "Australia/Lord_Howe"}),
        json!({"from": "-13d", "series": [{}], "interval": "minute", "timezone": "America/New_York"}),
        json!({"from": "-2y", "series": [{}], "interval": "hour", "timezone": "Australia/Lord_Howe"}),
        filtered(json!([{"field": "eventId", "op": "in", "value": uuids}])),
        filtered(json!([{"field": "country", "op": "not_in", "value": uuids}])),
        filtered(json!([{"field": "properties.a", "op": "in", "value": exact}])),
        filtered(json!([{"field": "properties.a", "op": "in", "value": many("'\\\\'", 10_000)}])),
        filtered(json!([{"field": "properties.a", "op": "in", "value": []}, {"field": "properties.a", "op": "not_in", "value": []}])),
        filtered(json!([{"field": "properties.a", "op": "eq", "value": long}, {"field": "country", "op": "in", "value": [long, "DE"]}])),
        filtered(json!([{"field": "properties.a", "op": "contains", "value": long}])),
        filtered(json!([{"field": format!("properties.{}", "\\'\u{0}".repeat(170)), "op": "exists"}])),
        filtered(json!([{"field": "properties.a", "op": "gt", "value": 1.7e308}, {"field": "properties.a", "op": "lt", "value": -1e-300}])),
        json!({"from": "-1d", "series": [{"event": long}, {"event": "view", "name": long}]}),
        json!({"from": "-1d", "series": [{"event": "view"}], "breakdown": "properties.stack"}),
        json!({"from": "-1d", "series": [{"event": "view", "math": "unique_users"}], "breakdown": "properties.stack", "limit": 1_000, "compare": "year"}),
        json!({"from": "-1d", "series": vec![json!({"event": "view", "filters": mixed("b")}); 2], "formula": "A/B"}),
    ];
    for request in &answered {
        let shown: String = request.to_string().chars().take(200).collect();
        assert_eq!(asked(&store, "trends", request).await, Ok(()), "{shown}");
    }
    let others = json!({"report": "trends", "from": "-1d", "series": [{"event": "view"}], "breakdown": "properties.stack", "limit": 1_000, "breakdown_kind": "other"});
    assert_eq!(asked(&store, "users", &json!({"of": others})).await, Ok(()));
    let total = store.ask(PROJECT, "users", &json!({"of": others})).await["total"].clone();
    assert_eq!(total, 200, "1,200 values, 1,000 of them on the chart");
    let names = (0..1_000).map(|number| (format!("{number}{}", "é".repeat(200)), json!("x"))).collect::<serde_json::Map<_, _>>();
    insert(&store, std::iter::once(row(5_000, json!({"type": "wide", "strings": names})))).await;
    assert_eq!(asked(&store, "properties", &json!({"event": "wide", "limit": 1_000})).await, Ok(()));

    // A million names.
    let names = format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, received_day, person_id, event_id, strings) SELECT {PROJECT}, 'names', \
         fromUnixTimestamp64Milli({}), '2100-01-01', number, generateUUIDv4(), \
         mapFromArrays(arrayMap(name -> concat('n', toString(number * 250 + name)), range(250)), arrayMap(name -> 'x', range(250))) \
         FROM numbers(4000) SETTINGS async_insert = 0",
        NOW_MS - 1
    );
    store.store.shards[0].first().writer.execute(&Statement::raw(names)).await.unwrap();
    let listed = store.ask(PROJECT, "properties", &json!({"event": "names", "limit": 1_000, "values": 1})).await;
    assert_eq!(listed["properties"].as_array().unwrap().len(), 1_000);

    let mut most = filtered(mixed("a"));
    most["series"][0]["filters"] = mixed("b");
    most["breakdown"] = json!("properties.stack");
    let refused = [
        (filtered(json!([{"field": "properties.a", "op": "regex", "value": "(".repeat(100_000)}])), "invalid_regex"),
        (filtered(json!([{"field": "properties.a", "op": "regex", "value": "a{1000}{1000}"}])), "invalid_regex"),
        (filtered(json!([{"field": "properties.a", "op": "in", "value": vec![0; 10_001]}])), "too_many_values"),
        (filtered(json!(vec![json!({"field": "country", "op": "exists"}); 101])), "filter_too_complex"),
        (json!({"from": "-1d", "series": [{}], "breakdown": format!("properties.{}", "x".repeat(513))}), "invalid_property"),
        (json!({"from": "1970-01-01", "series": [{}], "interval": "hour"}), "too_many_buckets"),
    ];
    for (request, code) in &refused {
        assert_eq!(asked(&store, "trends", request).await, Err((ErrorClass::Invalid, *code)));
    }
    let outcome = asked(&store, "trends", &most).await;
    assert!([Ok(()), Err((ErrorClass::Invalid, "filter_too_complex"))].contains(&outcome), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name_or_number_of_anything_matches_nothing_and_breaks_nothing() {
    let store = Store::start().await;
    insert(&store, std::iter::once(row(1, json!({"strings": {"plan": "pro"}})))).await;
    let names = [
        "x'); DROP TABLE events; --",
        "`plan`",
        "pl\\an",
        "\\'",
        "plan\u{0}",
        "plan\n",
        "{p:Identifier}",
        "{{",
        "?",
        "%s",
        "a.b",
        "a[0]",
        "$.plan",
        "key",
        "line",
        "__proto__",
    ];
    for name in names {
        let field = format!("properties.{name}");
        for op in ["eq", "contains", "regex"] {
            let outcome = asked(&store, "trends", &filtered(json!([{"field": field, "op": op, "value": name}]))).await;
            assert!(outcome == Ok(()) || outcome == Err((ErrorClass::Invalid, "invalid_regex")), "{name} {op}: {outcome:?}");
        }
        let request = json!({"from": "-1d", "series": [{"event": "view", "math": "avg", "property": name}], "breakdown": field});
        let answer = store.ask(PROJECT, "trends", &request).await;
        assert_eq!((&answer["series"][0]["kind"], &answer["series"][0]["total"]), (&json!("none"), &Value::Null), "{name}");
        let of = json!({"report": "trends", "from": "-1d", "series": [{"event": "view"}], "breakdown": field, "breakdown_value": name});
        assert_eq!(store.ask(PROJECT, "users", &json!({"of": of})).await["total"], 0);
    }
    assert_eq!(store.ask(PROJECT, "events", &json!({})).await["events"].as_array().unwrap().len(), 1, "the table is alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_events_ends_early_and_the_next_one_goes_on() {
    let store = Store::start().await;
    let large = |number: usize| json!({"strings": {"text": format!("{number}{}", "\"x".repeat(30_000))}});
    for from in [0, 100, 200] {
        insert(&store, (from..from + 100).map(|number| row(number, large(number)))).await;
    }
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let request = json!({"limit": 10_000, "cursor": cursor}).to_string();
        let page = store.queries.answer(ProjectId(PROJECT), "events", request.as_bytes(), NOW_MS).await.unwrap();
        assert!(page.result().len() < PAGE_BYTES + 200_000, "{}", page.result().len());
        let page: Value = serde_json::from_slice(&page.to_json()).unwrap();
        seen.extend(page["result"]["events"].as_array().unwrap().iter().map(|event| event["eventId"].as_str().unwrap().to_owned()));
        pages += 1;
        cursor = page["result"]["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let expected: Vec<String> = (0..300).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    assert_eq!((seen, pages > 2), (expected, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_refused_and_is_nobodys_overload() {
    let store = Store::start().await;
    let long = |number: usize| json!({"strings": {"text": format!("{number:05}{}", "x".repeat(50_000))}});
    for from in (0..1_000).step_by(100) {
        insert(&store, (from..from + 100).map(|number| row(number, long(number)))).await;
    }
    let request = json!({"from": "-1d", "series": [{"event": "view"}], "breakdown": "properties.text", "limit": 1_000});
    for _ in 0..10 {
        assert_eq!(asked(&store, "trends", &request).await, Err((ErrorClass::TooExpensive, "answer_too_large")));
    }
    assert_eq!(asked(&store, "trends", &filtered(json!([]))).await, Ok(()), "the store is not left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_percentile_of_more_values_than_a_question_holds_is_found_by_how_often_each_comes() {
    const VALUES: u64 = 6_000_000;
    // All values once for the day and once for the whole are twice as much.
    let store = Store::holding(VALUES * 8).await;
    let values = format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, received_day, person_id, event_id, country, numbers) SELECT {PROJECT}, \
         'view', fromUnixTimestamp64Milli({}), '2100-01-01', number, generateUUIDv4(), 'DE', map('price', toFloat64(number % 1000), 'own', \
         toFloat64(number)) FROM numbers({VALUES}) SETTINGS async_insert = 0",
        NOW_MS - 1
    );
    store.store.shards[0].first().writer.execute(&Statement::raw(values)).await.unwrap();
    let p90 = |property: &str| json!({"from": "-1d", "series": [{"math": "p90", "property": property}]});
    let whole = store.ask(PROJECT, "trends", &p90("price")).await;
    // Rank 5,399,999.1 of the values in order, each of which comes 6,000 times.
    assert!((whole["series"][0]["total"].as_f64().unwrap() - 899.1).abs() < 1e-6, "{whole}");
    for shape in [json!({"breakdown": "country"}), json!({"cumulative": true})] {
        let mut asked = p90("price");
        asked.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
        assert_eq!(store.ask(PROJECT, "trends", &asked).await["series"][0]["total"], whole["series"][0]["total"], "{shape}");
    }
    assert_eq!(asked(&store, "trends", &p90("own")).await, Err((ErrorClass::TooExpensive, "query_too_expensive")));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_people_than_a_question_holds_are_counted_by_groups() {
    const PEOPLE: u64 = 4_400_000;
    const OF_TODAY: u64 = 1_600_000;
    // A set of them takes more, and twice as much while it grows.
    let store = Store::holding(200 << 20).await;
    // Now is the beginning of a day: of the two that are asked about the last moments.
    let (today, yesterday) = (NOW_MS - 1, NOW_MS - 86_400_001);
    let events = format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, received_day, person_id, event_id, country) SELECT {PROJECT}, 'view', \
         fromUnixTimestamp64Milli(if(number < {PEOPLE}, {yesterday}, {today})), '2100-01-01', intHash64(number % {PEOPLE}), \
         generateUUIDv4(), ['DE', 'FR', 'DE', 'DE'][1 + number % 4] FROM numbers({}) SETTINGS async_insert = 0",
        PEOPLE + OF_TODAY
    );
    store.store.shards[0].first().writer.execute(&Statement::raw(events)).await.unwrap();
    let ask = |math: &str, more: Value| {
        let mut request = json!({"from": "-2d", "interval": "day", "series": [{"math": math}]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let each = (PEOPLE + OF_TODAY) as f64 / PEOPLE as f64;
    for (math, more, values, total) in [
        ("unique_users", json!({}), json!([PEOPLE, OF_TODAY]), json!(PEOPLE)),
        ("unique_users", json!({"cumulative": true}), json!([PEOPLE, PEOPLE]), json!(PEOPLE)),
        ("per_user", json!({}), json!([1, 1]), json!(each)),
    ] {
        let answer = store.ask(PROJECT, "trends", &ask(math, more.clone())).await;
        assert_eq!((&answer["series"][0]["values"], &answer["series"][0]["total"]), (&values, &total), "{math} {more}");
    }
    let by_country = store.ask(PROJECT, "trends", &ask("unique_users", json!({"breakdown": "country"}))).await;
    let lines: Vec<_> = by_country["series"].as_array().unwrap().iter().map(|line| (&line["breakdown"], &line["total"])).collect();
    assert_eq!(lines, [(&json!("DE"), &json!(PEOPLE / 4 * 3)), (&json!("FR"), &json!(PEOPLE / 4))]);
    // A group has no room for so many buckets.
    let by_hour = ask("unique_users", json!({"from": "-4d", "interval": "hour"}));
    assert_eq!(asked(&store, "trends", &by_hour).await, Err((ErrorClass::TooExpensive, "query_too_expensive")));
}
