//! Requests and answers as documented.

use std::collections::BTreeSet;

use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Pulse;

fn id(number: u64) -> String {
    format!("0190f7a4-0000-7000-8000-{number:012x}")
}

#[tokio::test]
async fn a_first_event_is_in_the_trend_that_asks_for_it() {
    let pulse = Pulse::start().await;
    let event = json!({
        "eventId": id(1), "type": "signup", "anonymousId": "ada", "sessionId": "s-1",
        "context": {"page": {"url": "https://shop.example/?utm_source=news&utm_medium=email"}, "screen": {"width": 1280, "height": 800}},
        "properties": {"plan": "pro", "price": 12.5, "trial": false, "tags": ["a", 1], "address": {"town": "Ulm"}},
    });
    assert_eq!(pulse.http.capture(&event).await, (StatusCode::OK, json!({"accepted": 1, "rejected": []})));
    pulse.http.settled().await;

    let (status, answer) = pulse.http.query("trends", &json!({"from": "-1d", "to": "now", "series": [{"event": "signup"}]})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["series"][0]["total"], 1);
    let meta: Vec<&str> = answer["meta"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        meta,
        [
            "age_ms",
            "as_of",
            "cached",
            "computed_at",
            "data_through",
            "excluded_bots",
            "late",
            "query_ms",
            "refresh_after_ms",
            "rows_read",
            "sampled"
        ]
    );

    let stored = &pulse.http.events().await[0];
    assert_eq!(stored["eventId"], id(1));
    assert_eq!(stored["sessionId"], "s-1");
    let page = json!({"url": "https://shop.example/?utm_source=news&utm_medium=email", "host": "shop.example", "path": "/",
        "search": "?utm_source=news&utm_medium=email"});
    assert_eq!(stored["context"]["page"], page);
    assert_eq!(stored["properties"], json!({"plan": "pro", "price": 12.5, "trial": false, "tags": ["a", 1], "address.town": "Ulm"}));
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn each_event_of_a_request_has_its_verdict_and_the_ledger_has_them_all() {
    let pulse = Pulse::start().await;
    let event = |number: u64| json!({"eventId": id(number), "type": "view", "anonymousId": "ada"});
    let with = |number: u64, key: &str, value: Value| {
        let mut event = event(number);
        event[key] = value;
        event
    };
    let batch = json!([
        event(1),
        with(2, "type", json!("")),
        with(3, "eventId", json!(["nonsense"])),
        with(4, "timestamp", json!("yesterday")),
        with(5, "type", json!("$reserved")),
        with(6, "anonymousId", json!(7)),
        with(7, "properties", json!([1])),
        json!(17),
        event(1),
        with(8, "type", json!("x".repeat(201))),
        with(9, "timestamp", json!("2001-01-01T00:00:00Z")),
    ]);
    let (status, answer) = pulse.http.capture(&json!({"batch": batch, "sentAt": null})).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(2)));
    let rejected: Vec<(u64, &str)> =
        answer["rejected"].as_array().unwrap().iter().map(|one| (one["index"].as_u64().unwrap(), one["code"].as_str().unwrap())).collect();
    let expected = [
        (1, "event_name_required"),
        (2, "event_id_invalid"),
        (3, "timestamp_invalid"),
        (4, "event_name_reserved"),
        (5, "user_id_invalid"),
        (6, "properties_invalid"),
        (7, "event_not_object"),
        (9, "event_name_too_long"),
        (10, "timestamp_out_of_range"),
    ];
    assert_eq!(rejected, expected);
    let total = pulse.http.settled().await;
    assert_eq!([&total["received"], &total["stored"], &total["duplicate"], &total["rejected"]], [2, 1, 1, 9]);
    assert_eq!(total["rejected_by_reason"]["event_id_invalid"], 1);
}

#[tokio::test]
async fn one_bad_event_costs_only_itself_even_if_the_body_does_not_parse() {
    let pulse = Pulse::start().await;
    let send =
        async |body: String| pulse.http.send(pulse.http.request(Method::POST, "/v1/events", &pulse.http.write_key, body)).await.unwrap();
    let good = json!({"eventId": id(1), "type": "view", "anonymousId": "ada"});
    for (number, (bad, code)) in [
        (r#"{"type":"a","anonymousId":"b","properties":{"x":"\ud800"}}"#.to_owned(), "invalid_unicode"),
        (r#"{"type":"a","anonymousId":"b","properties":{"x":1e400}}"#.to_owned(), "number_out_of_range"),
        (
            format!(r#"{{"type":"a","anonymousId":"b","properties":{}{}}}"#, r#"{"x":"#.repeat(9), "1".to_owned() + &"}".repeat(9)),
            "nesting_too_deep",
        ),
        (
            format!(r#"{{"type":"a","anonymousId":"b","properties":{{"x":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            "nesting_too_deep",
        ),
        (r#"{"type":"a","anonymousId":"b","anonymousId":"c"}"#.to_owned(), "duplicate_key"),
        (r#"{"type":"a","anonymousId":"b","properties":{"x":"C:\Users"}}"#.to_owned(), "invalid_json"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut good = good.clone();
        good["eventId"] = json!(id(number as u64 + 1));
        let (status, answer) = send(format!("[{bad},{good}]")).await;
        assert_eq!(status, StatusCode::OK, "{code}: {answer}");
        assert_eq!((&answer["accepted"], &answer["rejected"][0]["code"]), (&json!(1), &json!(code)));
    }
    for (body, code) in [
        ("", "empty_body"),
        ("  ", "empty_body"),
        ("null", "invalid_body"),
        ("1", "invalid_body"),
        ("[]", "batch_empty"),
        (r#"{"batch":[]}"#, "batch_empty"),
        (r#"{"batch":{}}"#, "invalid_body"),
        (r#"[{"type":"a""#, "invalid_json"),
        (r#"[{"type":"a"},]"#, "invalid_json"),
        ("{'type':'a'}", "invalid_json"),
        ("{\"type\":\"a\"}\n{\"type\":\"b\"}", "invalid_json"),
        (r#"{"type":"a","n":NaN}"#, "invalid_json"),
    ] {
        let (status, answer) = send(body.to_owned()).await;
        assert_eq!((status, answer["code"].as_str()), (StatusCode::BAD_REQUEST, Some(code)), "{body}: {answer}");
    }
    let many = json!(vec![json!({"type": "a", "anonymousId": "b"}); 1_001]);
    let (status, answer) = pulse.http.capture(&many).await;
    assert_eq!((status, answer["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("batch_too_many")));
    assert_eq!(pulse.http.settled().await["stored"], 6);
}

#[tokio::test]
async fn what_is_read_otherwise_than_it_was_sent_is_said_and_an_id_of_ones_own_finds_its_event() {
    let pulse = Pulse::start().await;
    let order = json!({"eventId": "order-1001", "type": "order", "anonymousId": "ada", "sessionId": 1, "mood": "good",
        "properties": {"total.net": 8.5, "total": {"net": 9.5}, "coupon": null}});
    let batch = json!([order, order, {"eventId": "1002", "type": "order", "anonymousId": "bob", "sessionId": 1, "properties": []}]);
    let (status, answer) = pulse.http.capture(&batch).await;
    let warning = |code: &str, field: &str| json!({"index": 0, "code": code, "field": field, "count": 2});
    let warnings = [warning("unknown_field", "mood"), warning("duplicate_key", "properties.total.net")];
    assert_eq!((status, answer), (StatusCode::OK, json!({"accepted": 3, "rejected": [], "warnings": warnings})));
    let total = pulse.http.settled().await;
    assert_eq!([&total["received"], &total["stored"], &total["duplicate"]], [3, 2, 1]);

    let series = json!({"from": "-1d", "to": "now", "series": [{"event": "order", "math": "unique_sessions"}]});
    let (_, answer) = pulse.http.query("trends", &series).await;
    assert_eq!(answer["result"]["series"][0]["total"], 2, "one number under two visitors is two sessions");
    for (op, value) in [("eq", json!("order-1001")), ("in", json!(["order-1001", "no such order"])), ("neq", json!("1002"))] {
        let found = json!({"from": "-1d", "to": "now", "filters": [{"field": "eventId", "op": op, "value": value}]});
        let (status, answer) = pulse.http.query("events", &found).await;
        assert_eq!((status, answer["result"]["events"].as_array().unwrap().len()), (StatusCode::OK, 1), "{op}: {answer}");
        // `json!` sorts its keys: the nested one comes first.
        assert_eq!(answer["result"]["events"][0]["properties"], json!({"total.net": 9.5}));
    }
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn every_shape_and_encoding_of_a_body_is_read() {
    use std::io::Write;
    let pulse = Pulse::start().await;
    let event = |number: u64| json!({"eventId": id(number), "type": "view", "anonymousId": "ada"}).to_string();
    let gzip = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let deflate = |text: String| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let bodies: [(&str, &str, Vec<u8>, u64); 7] = [
        ("application/json", "", event(1).into_bytes(), 1),
        ("text/plain", "", format!("[{},{}]", event(2), event(3)).into_bytes(), 2),
        ("application/json; charset=utf-8", "", format!(r#"{{"batch":[{}],"sentAt":"2026-01-01T00:00:00Z"}}"#, event(4)).into_bytes(), 1),
        ("application/x-ndjson", "", format!("{}\n\n{}\n", event(5), event(6)).into_bytes(), 2),
        ("application/json", "gzip", gzip(event(7)), 1),
        ("application/json", "deflate", deflate(event(8)), 1),
        ("application/json", "zstd", zstd::encode_all(event(9).as_bytes(), 1).unwrap(), 1),
    ];
    for (content_type, encoding, body, accepted) in bodies {
        let mut request = pulse.http.request(Method::POST, "/v1/events", &pulse.http.write_key, body);
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        if !encoding.is_empty() {
            request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        }
        let (status, answer) = pulse.http.send(request).await.unwrap();
        assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(accepted)), "{content_type} {encoding}: {answer}");
    }
    assert_eq!(pulse.http.settled().await["stored"], 9);
}

#[tokio::test]
async fn keys_open_what_they_are_for_and_nothing_else() {
    let pulse = Pulse::start().await;
    let (write, read) = (pulse.http.write_key.clone(), pulse.http.read_key.clone());
    let ask = async |method: Method, path: &str, key: &str| {
        let (status, answer) = pulse.http.send(pulse.http.request(method, path, key, "{}")).await.unwrap();
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(Method::POST, "/v1/events", "wrong").await, (401, "invalid_key".to_owned()));
    assert_eq!(ask(Method::POST, "/v1/events", &read).await, (403, "wrong_key_kind".to_owned()));
    assert_eq!(ask(Method::POST, "/v1/query/trends", &write).await, (403, "wrong_key_kind".to_owned()));
    assert_eq!(ask(Method::GET, "/v1/ledger", &write).await, (403, "wrong_key_kind".to_owned()));
    assert_eq!(ask(Method::GET, "/v1/events", &write).await, (405, "method_not_allowed".to_owned()));
    assert_eq!(ask(Method::POST, "/v1/nothing", &write).await, (404, "not_found".to_owned()));
    for unknown in ["//v1/events", "//", "//v1/query/trends"] {
        assert_eq!(ask(Method::POST, unknown, &write).await, (404, "not_found".to_owned()), "{unknown}");
    }
    assert_eq!(ask(Method::POST, "/v1/query/nothing", &read).await, (404, "unknown_report".to_owned()));
    assert_eq!(ask(Method::GET, "/v1/query/trends", &read).await, (405, "method_not_allowed".to_owned()), "with a body or without");
    // What a body is said to be does not matter, nor what method else is meant.
    for (path, name, value, status) in [
        ("/v1/query/users", "content-type", "application/xml", 200),
        ("/v1/query/users", "x-http-method-override", "DELETE", 200),
        ("/v1/query/users", "accept", "application/json, text/plain;q=0.5", 200),
        ("/v1/query/users", "accept", "application/xml", 406),
        ("/v1/query/users", "accept", "text/csv", 406),
        ("/v1/query", "accept", "application/x-ndjson", 400),
    ] {
        let mut request = pulse.http.request(Method::POST, path, &read, "{}");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(pulse.http.send(request).await.unwrap().0.as_u16(), status, "{path} {name}: {value}");
    }
    for path in ["/v1/ledger?project_id=1&project_id=2", "/v1/catalogue/events?project_id=1", "/v1/people/ada/events?project=1"] {
        assert_eq!(ask(Method::GET, path, &read).await.0, 400, "{path}");
    }
    assert_eq!(pulse.http.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(pulse.http.get("/metrics").await.0, StatusCode::OK);
    assert_eq!(pulse.http.get("/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn questions_of_one_request_are_answered_each_as_if_alone() {
    let pulse = Pulse::start_with(&[("PULSE__QUERY__MCP", "true")]).await;
    for number in 1..=3 {
        pulse.http.capture(&json!({"eventId": id(number), "type": "view", "anonymousId": format!("user {number}")})).await;
    }
    pulse.http.settled().await;
    let trend = json!({"report": "trends", "from": "-1d", "to": "2099-01-01", "interval": "month", "series": [{"event": "view"}]});
    let named = |id: &str| {
        let mut question = trend.clone();
        question["id"] = json!(id);
        question
    };
    let mut queries: Vec<Value> = (0..20).map(|number| named(&format!("q{number}"))).collect();
    queries.extend([json!({"report": "nothing", "id": 7}), json!({"report": "trends", "from": "never"}), json!(1)]);
    queries.push(json!({"report": "users", "from": "-1d", "to": "2099-01-01"}));
    let request = |key: &str, body: &Value| pulse.http.request(Method::POST, "/v1/query", key, body.to_string());
    let response = pulse.http.client.request(request(&pulse.http.read_key, &json!({"queries": queries}))).await.unwrap();
    assert_eq!((response.status(), response.headers()["content-type"].as_bytes()), (StatusCode::OK, &b"application/x-ndjson"[..]));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut answers: Vec<Value> = body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    answers.sort_by_key(|answer| answer["index"].as_u64());
    assert_eq!(answers.len(), queries.len());
    for (number, answer) in answers[..20].iter().enumerate() {
        assert_eq!((&answer["id"], &answer["status"]), (&json!(format!("q{number}")), &json!(200)));
        assert_eq!((&answer["result"]["series"][0]["total"], answer["meta"].is_object()), (&json!(3), true));
    }
    assert_eq!(
        (&answers[20]["id"], &answers[20]["status"], &answers[20]["error"]["code"]),
        (&json!(7), &json!(404), &json!("unknown_report"))
    );
    assert_eq!([&answers[21]["status"], &answers[22]["status"]], [400, 400]);
    assert_eq!(answers[22]["error"]["message"], "queries[22] must be an object");
    assert_eq!(answers[23]["result"]["total"], 3);
    for (key, body, status) in [
        (&pulse.http.write_key, json!({"queries": [trend]}), StatusCode::FORBIDDEN),
        (&pulse.http.read_key, json!({"queries": []}), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(pulse.http.send(request(key, &body)).await.unwrap().0, status);
    }
    agents_ask_the_same(&pulse).await;
}

/// The same question as a tool of `POST /mcp`, with a read key and nothing else.
async fn agents_ask_the_same(pulse: &Pulse) {
    let send = async |key: &str, message: Value| {
        pulse.http.send(pulse.http.request(Method::POST, "/mcp", key, message.to_string())).await.unwrap()
    };
    let call = async |method: &str, params: Value| {
        let (status, answer) = send(&pulse.http.read_key, json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await;
        assert_eq!((status, &answer["jsonrpc"], &answer["id"]), (StatusCode::OK, &json!("2.0"), &json!(7)), "{answer}");
        answer
    };
    let welcome = call("initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!((&welcome["result"]["protocolVersion"], &welcome["result"]["serverInfo"]["name"]), (&json!("2025-11-25"), &json!("pulse")));
    let listed = call("tools/list", json!({})).await;
    let listed = listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
    // Each with a question, and a place of its answer where the three events of the project show.
    let days = json!({"from": "-1d", "to": "2099-01-01"});
    let with = |more: Value| {
        let mut asked = days.clone();
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    };
    let trends = with(json!({"interval": "month", "series": [{"event": "view"}]}));
    let mut bar = trends.clone();
    bar["report"] = json!("trends");
    let called = [
        ("list_events", json!({"limit": 5}), "/events/0/name", json!("view")),
        ("list_fields", json!({}), "/fields/0/kind", json!("string")),
        ("list_values", json!({"field": "type"}), "/values/0/value", json!("view")),
        ("ledger", json!({}), "/total/stored", json!(3)),
        ("trends", trends.clone(), "/result/series/0/total", json!(3)),
        ("funnel", with(json!({"steps": [{"event": "view"}, {"event": "buy"}]})), "/result/groups/0/steps/0/count", json!(3)),
        ("sessions", with(json!({"interval": "month", "series": [{"math": "sessions"}]})), "/result/series/0/total", json!(3)),
        ("lifecycle", json!({"from": "-1d/d"}), "/result/series/0/name", json!("new")),
        ("stickiness", json!({"from": "-1d/d"}), "/result/series/0/total", json!(3)),
        ("retention", json!({"from": "-1d/d", "period": "day", "periods": 1}), "/result/cohorts/0/kind", Value::Null),
        ("paths", days.clone(), "/result/nodes/0/sessions", json!(3)),
        ("users", json!({"of": bar}), "/result/total", json!(3)),
        ("events", json!({"limit": 3}), "/result/events/2/type", json!("view")),
        ("properties", days.clone(), "/result/properties", json!([])),
    ];
    let names = called.iter().map(|(name, ..)| *name).chain(["explain"]);
    assert_eq!(listed.collect::<BTreeSet<_>>(), names.map(str::to_owned).collect());
    let tool = async |name: &str, arguments: Value| {
        let answer = call("tools/call", json!({"name": name, "arguments": arguments})).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(answer["result"]["isError"], false, "{name}: {text}");
        serde_json::from_str::<Value>(text).unwrap()
    };
    for (name, arguments, place, expected) in called {
        let answer = tool(name, arguments).await;
        assert_eq!(answer.pointer(place), Some(&expected), "{name}: {answer}");
    }
    let explained = tool("explain", json!({"report": "trends", "question": trends})).await;
    let (status, over_http) = pulse.http.query("trends/explain", &trends).await;
    assert_eq!(status, StatusCode::OK, "{over_http}");
    for explained in [explained, over_http] {
        let statement = &explained["statements"][0];
        assert!(statement["sql"].as_str().unwrap().contains("SELECT"), "{explained}");
        assert!(!statement["params"].as_object().unwrap().is_empty(), "{explained}");
        assert!(explained["rows_read"].as_u64().unwrap() > 0, "{explained}");
    }
    let refused = call("tools/call", json!({"name": "trends", "arguments": {"from": "never"}})).await;
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert_eq!(call("tools/call", json!({"name": "drop"})).await["error"]["code"], -32_602);
    assert_eq!(call("resources/list", json!({})).await["error"]["code"], -32_601);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let found = call("server/discover", json!({"_meta": meta})).await;
    assert_eq!((&found["result"]["supportedVersions"][0], &found["result"]["resultType"]), (&json!("2026-07-28"), &json!("complete")));
    let unknown = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}}});
    let (status, unknown) = send(&pulse.http.read_key, unknown).await;
    assert_eq!((status, &unknown["error"]["code"], &unknown["id"]), (StatusCode::BAD_REQUEST, &json!(-32_022), &json!(8)));
    let told = send(&pulse.http.read_key, json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.0;
    assert_eq!((told, send(&pulse.http.write_key, json!({})).await.0), (StatusCode::ACCEPTED, StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn a_result_that_is_known_is_not_sent_again() {
    let pulse = Pulse::start().await;
    pulse.http.capture(&json!({"eventId": id(1), "type": "view", "anonymousId": "ada"})).await;
    pulse.http.settled().await;
    let trend = json!({"from": "-1d", "to": "2099-01-01", "interval": "month", "series": [{"event": "view"}], "refresh": true});
    let ask = async |known: &str| {
        let mut request = pulse.http.request(Method::POST, "/v1/query/trends", &pulse.http.read_key, trend.to_string());
        request.headers_mut().insert("if-none-match", known.parse().unwrap());
        let response = pulse.http.client.request(request).await.unwrap();
        let (status, tag) = (response.status(), response.headers()["etag"].to_str().unwrap().to_owned());
        (status, tag, response.into_body().collect().await.unwrap().to_bytes().is_empty())
    };
    let (status, tag, is_empty) = ask("W/\"other\"").await;
    assert_eq!((status, is_empty), (StatusCode::OK, false));
    assert_eq!(ask(&tag).await, (StatusCode::NOT_MODIFIED, tag.clone(), true));
    assert_eq!(ask(&format!("\"a\", {tag}")).await, (StatusCode::NOT_MODIFIED, tag.clone(), true));
    pulse.http.capture(&json!({"eventId": id(2), "type": "view", "anonymousId": "ada"})).await;
    pulse.http.settled().await;
    let (status, other, _) = ask(&tag).await;
    assert_eq!((status, other == tag), (StatusCode::OK, false));
}
