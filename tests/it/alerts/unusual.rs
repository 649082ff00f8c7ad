//! What is unusual, over weeks of hours.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_conversion_that_stops_is_found_and_fewer_people_who_buy_as_ever_are_no_alarm() {
    let world = World::start("", &[]).await;
    let hour = |back: i64| (world.now_ms().div_euclid(HOUR_MS) - back) * HOUR_MS;
    // Ten checkouts and five orders an hour; for a night less than half of both, and in the last twelve hours no order.
    let of_hour = |back: i64| {
        let (checkouts, orders) = match back {
            1..=12 => (10, 0),
            30..=40 => (4, 2),
            _ => (10, 5),
        };
        let event = move |kind: &'static str| move |at: i64| json!({"type": kind, "anonymousId": "shop", "timestamp": hour(back) + at});
        let checkouts: Vec<Value> = (1..=checkouts).map(event("checkout")).collect();
        let orders: Vec<Value> = (101..101 + orders).map(event("order")).collect();
        [checkouts, orders].concat()
    };
    for hours in (1..=45 * 24).collect::<Vec<i64>>().chunks(30) {
        let batch: Vec<Value> = hours.iter().flat_map(|back| of_hour(*back)).collect();
        assert_eq!(world.http().capture(&json!({"batch": batch})).await.0, StatusCode::OK);
    }
    world.http().settled().await;
    let tested = async |series: Value, formula: Option<&str>| {
        let question = json!({"series": series, "formula": formula});
        let rule = json!({"report": "trends", "question": question, "interval": "hour", "reduce": "anomaly"});
        ask(world.http(), Method::POST, "/v1/alerts/buying/test", &json!({"rule": rule, "from": "-60h"})).await
    };
    let (status, ratio) = tested(json!([{"event": "order"}, {"event": "checkout"}]), Some("A/B")).await;
    assert_eq!((status, &ratio["fired"]), (StatusCode::OK, &json!(1)), "{ratio:#}");
    let changes = ratio["changes"].as_array().unwrap();
    let fired = changes.iter().find(|change| change["change"] == "fired").unwrap();
    let stopped = jiff::Timestamp::from_millisecond(hour(12)).unwrap().to_string();
    assert!(fired["slot"].as_str() >= Some(stopped.as_str()), "{fired}");
    assert!(fired["reason"].as_str().unwrap().contains(" hours, expected 0."), "{fired}");
    let average = json!([{"event": "order", "math": "avg", "property": "properties.amount"}]);
    let (status, refused) = tested(average, None).await;
    assert_eq!((status, &refused["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_alert")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("`avg`"), "{refused}");
}
