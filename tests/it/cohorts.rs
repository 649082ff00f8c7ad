//! Saved cohorts: what a question names is what was saved last, and of those who write at once one wins.

use hyper::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Http, Pulse};

const BUYERS: &str = "/v1/cohorts/buyers";

/// Sends a request about a cohort, with a condition if there is one.
async fn send(http: &Http, method: Method, path: &str, (body, condition): (&Value, Option<(HeaderName, &str)>)) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = http.request(method, path, &http.read_key, body);
    if let Some((name, value)) = condition {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    http.send(request).await.unwrap()
}

async fn put(http: &Http, body: &Value, condition: Option<(HeaderName, &str)>) -> (StatusCode, Value) {
    send(http, Method::PUT, BUYERS, (body, condition)).await
}

fn who_did(event: &str) -> Value {
    json!({"filters": [{"did": {"event": event}}]})
}

/// How many events people of the cohort made.
async fn events_of(http: &Http, filter: Value) -> (StatusCode, Value) {
    let (status, answer) = http.query("trends", &json!({"from": "-1d", "series": [{"event": null}], "filters": [filter]})).await;
    if status == StatusCode::OK { (status, answer["result"]["series"][0]["total"].clone()) } else { (status, answer["code"].clone()) }
}

#[tokio::test]
async fn a_question_that_names_a_cohort_follows_each_change_of_it() {
    let mut pulse = Pulse::start().await;
    let event = |who: &str, kind: &str| json!({"type": kind, "anonymousId": who});
    let events = [event("ada", "buy"), event("ada", "view"), event("bob", "view"), event("cy", "view"), event("cy", "leave")];
    assert_eq!(pulse.http.capture(&json!({"batch": events})).await.0, StatusCode::OK);
    pulse.http.settled().await;
    let http = &pulse.http;
    let named = || json!({"cohort": "buyers"});

    assert_eq!(events_of(http, named()).await, (StatusCode::BAD_REQUEST, json!("unknown_cohort")));
    assert_eq!(put(http, &who_did("buy"), None).await, (StatusCode::OK, json!({"name": "buyers", "version": 1})));
    assert_eq!(events_of(http, named()).await, (StatusCode::OK, json!(2)));
    assert_eq!(events_of(http, json!({"cohort": "buyers", "not": true})).await, (StatusCode::OK, json!(3)));
    assert_eq!(put(http, &who_did("view"), Some((IF_MATCH, "\"1\""))).await.0, StatusCode::OK);
    assert_eq!(events_of(http, named()).await, (StatusCode::OK, json!(5)), "the answer that was kept is of the cohort as it was");

    let (status, stale) = put(http, &who_did("leave"), Some((IF_MATCH, "\"1\""))).await;
    assert_eq!((status, &stale["code"]), (StatusCode::PRECONDITION_FAILED, &json!("version_mismatch")));
    assert_eq!(put(http, &who_did("leave"), Some((IF_NONE_MATCH, "*"))).await.0, StatusCode::PRECONDITION_FAILED);
    let by = http.get("/v1/session").await.1["key"]["name"].clone();
    let filters = json!([{"did": {"event": "view"}}]);
    assert_eq!(http.get(BUYERS).await.1, json!({"name": "buyers", "version": 2, "filters": filters, "file": null, "by": by}));

    pulse.end().await;
    pulse.restart().await;
    let http = &pulse.http;
    assert_eq!(events_of(http, named()).await, (StatusCode::OK, json!(5)), "it survives");
    assert_eq!(http.get("/v1/cohorts").await.1, json!({"cohorts": [{"name": "buyers", "version": 2, "file": null, "by": by}]}));
    assert_eq!(send(http, Method::DELETE, BUYERS, (&Value::Null, None)).await.0, StatusCode::OK);
    assert_eq!(events_of(http, named()).await, (StatusCode::BAD_REQUEST, json!("unknown_cohort")));
    assert_eq!(send(http, Method::DELETE, BUYERS, (&Value::Null, None)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(http.get(BUYERS).await.0, StatusCode::NOT_FOUND);
    assert_eq!(put(http, &who_did("leave"), Some((IF_NONE_MATCH, "*"))).await.1["version"], 4, "versions go on");
    assert_eq!(events_of(http, named()).await, (StatusCode::OK, json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_write_a_version_at_once_one_wins() {
    let pulse = Pulse::start().await;
    for version in 0..5_u64 {
        let condition = if version == 0 { (IF_NONE_MATCH, "*".to_owned()) } else { (IF_MATCH, version.to_string()) };
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (http, (name, value)) = (pulse.http.clone(), condition.clone());
            writers.spawn(async move { (number, put(&http, &who_did(&format!("event {number}")), Some((name, &value))).await.0) });
        }
        let ended = writers.join_all().await;
        let won: Vec<i32> = ended.iter().filter(|(_, status)| *status == StatusCode::OK).map(|(number, _)| *number).collect();
        assert_eq!(won.len(), 1, "{ended:?}");
        assert!(ended.iter().all(|(_, status)| [StatusCode::OK, StatusCode::PRECONDITION_FAILED].contains(status)), "{ended:?}");
        let saved = pulse.http.get(BUYERS).await.1;
        assert_eq!((&saved["version"], &saved["filters"]), (&json!(version + 1), &who_did(&format!("event {}", won[0]))["filters"]));
    }
}

#[tokio::test]
async fn what_is_no_cohort_is_refused_by_name() {
    let pulse = Pulse::start().await;
    let http = &pulse.http;
    let refused = async |method: Method, path: &str, body: Value| {
        let (status, answer) = send(http, method, path, (&body, None)).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(Method::PUT, BUYERS, json!({"filters": [{"field": "contry", "value": 1}]})).await, code(400, "invalid_field"));
    assert_eq!(refused(Method::PUT, BUYERS, json!({"filters": [{"cohort": "others"}]})).await, code(400, "invalid_filter"));
    assert_eq!(refused(Method::PUT, BUYERS, json!({"filters": []})).await, code(400, "invalid_filter"));
    assert_eq!(refused(Method::PUT, "/v1/cohorts/a%20b", who_did("buy")).await, code(400, "invalid_cohort"));
    assert_eq!(refused(Method::PUT, "/v1/cohorts", who_did("buy")).await, code(405, "method_not_allowed"));
    assert_eq!(refused(Method::POST, BUYERS, who_did("buy")).await, code(405, "method_not_allowed"));
    assert_eq!(refused(Method::PUT, BUYERS, who_did(&"x".repeat(20_000))).await.0, 413);
    let with_write_key = http.request(Method::GET, BUYERS, &http.write_key, "");
    assert_eq!(http.send(with_write_key).await.unwrap().0, StatusCode::FORBIDDEN);
    let wrong = put(http, &who_did("buy"), Some((IF_MATCH, "latest"))).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_condition")));
    assert_eq!(http.get("/v1/cohorts").await.1, json!({"cohorts": []}), "nothing was saved");
}
