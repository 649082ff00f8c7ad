//! Boards that are told by the clock.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask, many};

#[tokio::test]
async fn a_board_is_told_each_day_and_a_holiday_is_what_no_day_is_held_against() {
    let mut world = World::start("[channels.slack]\nkind = 'slack'\nurl = '{url}/slack'\n", &[]).await;
    // Noon of a zone whose days begin at no hour of UTC.
    let local_s = world.now_ms().div_euclid(1_000) + 20_700;
    world.pass((43_200 - local_s).rem_euclid(86_400));
    let of_week = |more: Value| {
        let mut question = json!({"from": "-7d", "to": "now"});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        question
    };
    let board = json!({"title": "Shop", "tiles": [
        {"title": "Signups", "report": "trends", "question": of_week(json!({"interval": "hour", "series": [{"event": "signup"}]}))},
        {"title": "Regulars", "report": "stickiness", "question": of_week(json!({"event": "signup"}))},
        {"title": "Ways", "report": "paths", "question": of_week(json!({}))},
        {"title": "Buying", "report": "funnel", "question": of_week(json!({"window": "1h", "steps": [{"event": "signup"}, {"event": "order"}]}))},
        {"title": "Newest", "report": "events", "question": {}},
    ]});
    assert_eq!(ask(world.http(), Method::PUT, "/v1/boards/shop", &board).await.0, StatusCode::OK);
    let daily = |board: &str| {
        let zone = json!({"interval": "day", "report_at": "09:00", "timezone": "Asia/Kathmandu", "evaluation_delay": "0s"});
        let mut rule = json!({"report": "board", "question": {"board": board}, "channels": ["hook", "slack"]});
        rule.as_object_mut().unwrap().extend(zone.as_object().unwrap().clone());
        rule
    };
    for (rule, problem) in [(daily("none"), "there is no board `none`"), (daily(""), "`board` must be")] {
        let (status, answer) = ask(world.http(), Method::PUT, "/v1/alerts/daily", &rule).await;
        assert!(status == StatusCode::BAD_REQUEST && answer["message"].as_str().unwrap().contains(problem), "{answer}");
    }
    world.put("daily", &daily("shop")).await;
    world.until("daily", |rule| rule["judged_through"].is_string()).await;
    world.send("signup", 4).await;
    // Two minutes before nine of the next morning the day is over and judged by others, and nobody is told.
    world.leap(21 * 3_600 - 120).await;
    world.put("early", &many("none", &[])).await;
    world.judged("early").await;
    assert!(world.hooks().is_empty() && world.receiver.at("/slack").is_empty(), "{:#?}", world.hooks());
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/alerts/early", &Value::Null).await.0, StatusCode::OK);
    let told = async |world: &mut World, seconds: i64, count: usize| {
        world.leap(seconds).await;
        let told = world.receiver.wait("/hook", count).await;
        told.last().unwrap().text.clone()
    };
    let first = told(&mut world, 240, 1).await;
    let slack = world.receiver.wait("/slack", 1).await;
    assert!(slack[0].text.contains("Signups: 4 (new)"), "{slack:#?}");
    for line in [
        "Signups: 4 (new)",
        "Regulars: 4 (new)",
        "Ways: 4 (new)",
        "Buying: 0 (as before)",
        "Newest: nothing (cannot be told: `events` has no numbers)",
    ] {
        assert!(first.contains(line), "{line}: {first}");
    }
    world.send("signup", 3).await;
    let second = told(&mut world, 86_400, 2).await;
    for line in ["Signups: 3 (-25.0 %, before 4)", "Regulars: 3 (-25.0 %, before 4)", "Ways: 3 (-25.0 %, before 4)"] {
        assert!(second.contains(line), "{line}: {second}");
    }

    // Seven weeks of hours, one day of them with less.
    let hour = |back: i64| world.now_ms().div_euclid(3_600_000) * 3_600_000 - back * 3_600_000;
    let day = |at: i64| jiff::Timestamp::from_millisecond(at).unwrap().to_string()[..10].to_owned();
    let holiday = day(hour(48));
    for hours in (1..=49 * 24).collect::<Vec<i64>>().chunks(500) {
        let sale = |back: &i64| {
            let amount = if day(hour(*back)) == holiday { 400 } else { 1_000 };
            json!({"type": "sale", "anonymousId": "shop", "timestamp": hour(*back) + 1, "properties": {"amount": amount}})
        };
        let batch: Vec<Value> = hours.iter().map(sale).collect();
        assert_eq!(world.http().capture(&json!({"batch": batch})).await.0, StatusCode::OK);
    }
    world.http().settled().await;
    let question = json!({"series": [{"event": "sale", "math": "sum", "property": "properties.amount"}]});
    let rule = json!({"report": "trends", "question": question, "interval": "hour", "reduce": "anomaly"});
    let fired = async || {
        let (status, tested) = ask(world.http(), Method::POST, "/v1/alerts/sales/test", &json!({"rule": rule, "from": "-80h"})).await;
        assert_eq!(status, StatusCode::OK, "{tested}");
        tested["fired"].as_u64().unwrap()
    };
    assert!(fired().await > 1, "the day after is too much beside the holiday");
    let note = json!({"at": holiday, "text": "Closed", "kind": "holiday"});
    assert_eq!(ask(world.http(), Method::POST, "/v1/notes", &note).await.0, StatusCode::CREATED);
    assert_eq!(fired().await, 1, "the holiday itself");
}
