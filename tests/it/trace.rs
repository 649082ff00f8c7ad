//! What became of an event: stored once however often it came, dead with its bytes, or not there.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, POLL, Pulse};

#[tokio::test]
async fn an_event_is_traced_from_its_id_to_where_it_is() {
    let pulse = Pulse::start().await;
    let http = &pulse.http;
    let at = jiff::Timestamp::now().to_string();
    let event = |visitor: &str, user: Value| {
        json!({"eventId": "order 1001/ü?", "type": "it's <b>", "anonymousId": visitor, "userId": user, "timestamp": at,
            "properties": {"exact": 9_007_199_254_740_993_u64}})
    };
    for _ in 0..3 {
        http.capture(&event("ada", json!("ada@shop"))).await;
    }
    http.capture(&event("bob", Value::Null)).await;
    // An import may bring what no request may: it is dead, with its reason and its bytes.
    let refused = json!({"eventId": "0190f7a4-0000-7000-8000-000000000666", "type": "", "anonymousId": "eve"}).to_string();
    let import = http.request(Method::POST, "/v1/import?run=7&source=file", &http.read_key, refused.clone());
    assert_eq!(http.send(import).await.unwrap().0, StatusCode::OK);
    let total = http.settled().await;
    assert_eq!((&total["stored"], &total["duplicate"], &total["dead"]), (&json!(2), &json!(2), &json!(1)));

    let trace = async |path: &str| http.get(&format!("/v1/trace/{path}")).await.1;
    let both = trace("order%201001%2F%C3%BC%3F").await;
    assert_eq!((&both["eventId"], &both["status"]), (&json!("order 1001/ü?"), &json!("stored")), "{both}");
    assert_eq!(both["stored"].as_array().unwrap().len(), 2, "one of each visitor, copies are none: {both}");
    let of_ada = trace("order%201001%2F%C3%BC%3F?visitor=ada").await;
    let stored = of_ada["stored"].as_array().unwrap();
    assert_eq!(stored.len(), 1);
    let events = http.events().await;
    let shown = events.iter().find(|event| event["anonymousId"] == "ada").unwrap();
    assert_eq!(&stored[0]["event"], shown, "as it is in the list of events, its session too");
    let person = http.get("/v1/people/ada").await.1;
    assert_eq!(stored[0]["person"], person["person"]);
    assert_eq!((&stored[0]["receivedAt"], &stored[0]["shard"]), (&shown["receivedAt"], &json!(1)));
    let row = pulse.sql("SELECT log_partition, log_offset, log_epoch FROM pulse.events WHERE anonymous_id = 'ada' FORMAT TSV");
    let log = &stored[0]["log"];
    let epoch = u64::from_str_radix(log["epoch"].as_str().unwrap(), 16).unwrap();
    assert_eq!(format!("{}\t{}\t{epoch}", log["partition"], log["offset"]), row);

    let dead = trace("0190F7A4000070008000000000000666").await;
    assert_eq!((&dead["status"], &dead["stored"]), (&json!("dead"), &json!([])), "{dead}");
    let letter = &dead["dead"][0];
    assert_eq!((&letter["reason"], &letter["original"]), (&json!("event_invalid"), &json!(refused)));
    assert!(letter["log"]["offset"].is_number() && letter["message"].as_str().unwrap().contains("event_name_required"), "{letter}");

    // On a busy machine the first answers cannot yet say up to when they are complete.
    let told = async {
        loop {
            let unknown = trace("order-1002").await;
            if !unknown["data_through"].is_null() {
                return unknown;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let unknown = tokio::time::timeout(PATIENCE, told).await.expect("no answer says up to when it is complete");
    assert_eq!((&unknown["status"], &unknown["stored"], &unknown["dead"]), (&json!("unknown"), &json!([]), &json!([])));
    assert!(unknown["data_through"].is_string());
    assert_eq!(trace("order%201001%2F%C3%BC%3F?visitor=cy").await["status"], "unknown");
    for (path, code) in [("undefined", "invalid_event_id"), ("a%00b", "invalid_event_id"), ("x?project=7", "invalid_parameter")] {
        assert_eq!(trace(path).await["code"], code, "{path}");
    }
    let with_write_key = http.request(Method::GET, "/v1/trace/order-1002", &http.write_key, "");
    assert_eq!(http.send(with_write_key).await.unwrap().0, StatusCode::FORBIDDEN);
    // What another project has is not there.
    pulse.sql(
        "INSERT INTO pulse.events (project_id, type, timestamp, event_id, received_day, received_at, log_partition) \
         SELECT 999, 'x', now64(3), toUUID('5bd16e10-7d9c-4d0e-9f3a-000000000001'), today(), now64(3), 65000",
    );
    assert_eq!(trace("5bd16e10-7d9c-4d0e-9f3a-000000000001").await["status"], "unknown");
}
