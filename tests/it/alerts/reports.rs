//! Every report that a rule may ask fires and resolves, live; and the lag, where nothing is loaded.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask, changes, many};
use crate::harness::receiver::Received;

const DAY_S: i64 = 86_400;

/// A rule by the day about a report.
fn daily(report: &str, question: Value, more: Value) -> Value {
    let mut rule = json!({"report": report, "question": question, "interval": "day", "channels": ["hook"], "evaluation_delay": "0s"});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

/// Lets the clock go on to noon, so that no midnight comes by itself.
pub(super) fn pass_to_noon(world: &mut World) {
    let noon_ms = (DAY_S / 2) * 1_000;
    world.pass((noon_ms - world.now_ms()).rem_euclid(DAY_S * 1_000) / 1_000);
}

#[tokio::test]
async fn a_report_that_is_due_for_the_first_time_while_pulse_is_away_is_told_when_it_is_back() {
    let mut world = World::start("", &[]).await;
    pass_to_noon(&mut world);
    let told_at = |time: &str| daily("trends", json!({"series": [{"event": "signup"}]}), json!({"report_at": time}));
    world.put("next", &told_at("13:00")).await;
    world.put("tomorrow", &told_at("11:00")).await;
    for id in ["next", "tomorrow"] {
        world.until(id, |rule| rule["judged_through"].is_string()).await;
    }
    // Nobody may have seen this one before pulse ends.
    world.put("last", &told_at("13:00")).await;
    world.pulse.kill().await;
    world.pass(2 * 3_600);
    world.pulse.restart().await;
    world.receiver.wait("/hook", 2).await;
    for (id, told) in [("next", vec!["report"]), ("last", vec!["report"]), ("tomorrow", vec![])] {
        world.until(id, |rule| rule["judged_through"].is_string()).await;
        assert_eq!(world.told(id).await, told, "{id}");
    }

    // Away until two in the night after the next day: the reports of today were due, those of tomorrow are so hours later.
    let today_s = (world.now_ms() / 1_000).div_euclid(DAY_S) * DAY_S;
    world.pulse.kill().await;
    world.pass(36 * 3_600);
    world.pulse.restart().await;
    world.receiver.wait("/hook", 5).await;
    world.put("night", &many("none", &[])).await;
    world.judged("night").await;
    world.leap(12 * 3_600).await;
    world.receiver.wait("/hook", 8).await;
    for id in ["next", "last", "tomorrow"] {
        let told = world.hooks().into_iter().filter(|told| told.body["pulse"]["rule"] == id);
        let slots: Vec<Value> = told.map(|told| told.body["pulse"]["slot"].clone()).collect();
        let days = [today_s, today_s + DAY_S].map(|at| json!(jiff::Timestamp::from_second(at).unwrap().to_string()));
        assert!(slots.ends_with(&days) && slots.len() == if id == "tomorrow" { 2 } else { 3 }, "{id}: {slots:?}");
    }
}

#[tokio::test]
async fn what_a_day_or_an_hour_was_that_is_judged_while_nobody_may_be_told_is_told_once_somebody_may_be() {
    let mut world = World::start("", &[]).await;
    pass_to_noon(&mut world);
    let question = || json!({"series": [{"event": "signup"}]});
    let office = json!({"condition": {"above": 2}, "active": {"from": "09:00", "to": "17:00"}});
    let short = json!({"interval": "hour", "condition": {"below": 1}, "active": {"from": "09:30", "to": "11:30"}});
    let rules = [
        ("day", daily("trends", question(), office)),
        ("silenced", daily("trends", question(), json!({"condition": {"above": 2}}))),
        ("hour", daily("trends", question(), short)),
    ];
    for (id, rule) in &rules {
        world.put(id, rule).await;
        world.until(id, |rule| rule["judged_through"].is_string()).await;
    }
    let silence = async |world: &World, until: &str| {
        let asked = ask(world.http(), Method::POST, "/v1/alerts/silenced/silence", &json!({"until": until})).await;
        assert_eq!(asked.0, StatusCode::OK, "{}", asked.1);
    };
    silence(&world, "2040-01-01").await;
    world.until_read().await;
    world.send("signup", 3).await;
    // At five past midnight nobody is told.
    world.leap(12 * 3_600 + 300).await;
    for id in ["day", "silenced"] {
        world.until(id, |rule| rule["state"] == "firing").await;
    }
    let midnight_s = (world.now_ms() / 1_000).div_euclid(DAY_S) * DAY_S;
    let through = |at_s: i64| jiff::Timestamp::from_second(at_s).unwrap().to_string();
    world.until("hour", |rule| rule["judged_through"].as_str() >= Some(&through(midnight_s))).await;
    world.until_read().await;
    assert!(world.hooks().is_empty(), "{:#?}", world.hooks());
    // Hours later the silence is over, with no day of that rule being judged.
    silence(&world, "2020-01-01").await;
    world.receiver.wait("/hook", 1).await;
    assert_eq!(world.told("silenced").await, ["firing"]);
    assert!(world.told("day").await.is_empty());
    // From nine on the day before is told, and from half past nine the hour before nine: each once.
    world.leap(9 * 3_600).await;
    world.receiver.wait("/hook", 2).await;
    world.until("hour", |rule| rule["judged_through"].as_str() >= Some(&through(midnight_s + 9 * 3_600))).await;
    assert!(world.told("hour").await.is_empty());
    world.pass(1_800);
    world.receiver.wait("/hook", 3).await;
    world.until_read().await;
    let day_s = midnight_s - DAY_S;
    for (id, slot_s, value) in [("day", day_s, 3.0), ("silenced", day_s, 3.0), ("hour", midnight_s + 8 * 3_600, 0.0)] {
        assert_eq!(world.told(id).await, ["firing"], "{id}");
        let told = world.hooks().into_iter().find(|told| told.body["pulse"]["rule"] == id).unwrap();
        assert_eq!(told.body["pulse"]["slot"], json!(through(slot_s)), "{told:#?}");
        assert_eq!((&told.body["status"], &told.body["pulse"]["lines"][0]["value"]), (&json!("firing"), &json!(value)));
    }
}

#[tokio::test]
async fn every_report_fires_and_resolves() {
    let mut world = World::start("", &[("PULSE__ROLES", "ingest,process,query,alert,load".to_owned())]).await;
    pass_to_noon(&mut world);
    let buying = json!({"window": "1h", "steps": [{"event": "signup"}, {"event": "order"}]});
    let rules = [
        ("funnel", daily("funnel", buying, json!({"condition": {"below": 0.5}})), 0.0, 1.0),
        ("sessions", daily("sessions", json!({}), json!({"condition": {"above": 3}})), 4.0, 1.0),
        ("lifecycle", daily("lifecycle", json!({}), json!({"line": "new", "condition": {"above": 3}})), 4.0, 1.0),
        ("ledger", daily("ledger", json!({"outcome": "rejected"}), json!({"condition": {"above": 1}})), 2.0, 0.0),
        // A day later: of those who came on the first day nobody is back, of those of the second one all are.
        ("retention", daily("retention", json!({}), json!({"at": 1, "condition": {"below": 0.5}})), 0.0, 1.0),
    ];
    for (id, rule, ..) in &rules {
        world.put(id, rule).await;
    }
    for (id, ..) in &rules {
        world.until(id, |rule| rule["judged_through"].is_string()).await;
    }
    let days: [&[(&str, &[&str])]; 3] = [
        &[("ada", &["signup"]), ("bob", &["signup"]), ("cyd", &["signup"]), ("dan", &["signup"])],
        &[("eve", &["signup", "order"])],
        &[("eve", &["signup", "order"])],
    ];
    for (day, persons) in days.iter().enumerate() {
        let events = persons.iter().flat_map(|(who, kinds)| kinds.iter().map(move |kind| json!({"type": kind, "anonymousId": who})));
        let events: Vec<Value> = events.collect();
        assert_eq!(world.http().capture(&json!({"batch": events})).await.0, StatusCode::OK);
        if day == 0 {
            for _ in 0..2 {
                assert_eq!(world.http().capture(&json!({"type": "", "anonymousId": "x"})).await.0, StatusCode::BAD_REQUEST);
            }
        }
        world.http().settled().await;
        world.leap(DAY_S).await;
        let midnight = (world.now_ms() / 1_000).div_euclid(DAY_S) * DAY_S;
        let through = jiff::Timestamp::from_second(midnight).unwrap().to_string();
        for (id, ..) in &rules {
            world.until(id, |rule| rule["judged_through"].as_str() >= Some(&through)).await;
        }
    }
    for (id, _, wrong, right) in &rules {
        assert_eq!(world.told(id).await, ["firing", "resolved"], "{id}");
        let told: Vec<Received> = world.hooks().into_iter().filter(|told| told.body["pulse"]["rule"] == *id).collect();
        let values: Vec<&Value> = told.iter().map(|told| &told.body["pulse"]["lines"][0]["value"]).collect();
        assert_eq!(values, [&json!(wrong), &json!(right)], "{id}: {told:#?}");
        assert_eq!(changes(&world.history(id).await), ["fired", "resolved"], "{id}");
    }

    // Nothing is loaded now: the lag says so, while what needs the data waits for it.
    let lag = json!({"report": "lag", "interval": "minute", "condition": {"above": 150}, "channels": ["hook"], "evaluation_delay": "0s"});
    world.put("lag", &lag).await;
    world.until("lag", |rule| rule["state"] == "ok").await;
    world.pulse.end().await;
    assert!(world.pulse.restart_with(&[("PULSE__ROLES", "ingest,process,query,alert")]).await);
    assert_eq!(world.http().capture(&json!({"batch": [{"type": "signup", "anonymousId": "ada"}]})).await.0, StatusCode::OK);
    world.pass(300);
    world.until("lag", |rule| rule["state"] == "firing").await;
    world.pulse.end().await;
    world.pulse.restart().await;
    world.http().settled().await;
    world.pass(60);
    world.until("lag", |rule| rule["state"] == "ok").await;
    assert_eq!(world.told("lag").await, ["firing", "resolved"]);
    let told: Vec<Received> = world.hooks().into_iter().filter(|told| told.body["pulse"]["rule"] == "lag").collect();
    assert!(told[0].body["pulse"]["lines"][0]["value"].as_f64().unwrap() > 150.0, "{told:#?}");
    let text: String = world.hooks().iter().map(|told| format!("{} ", told.kind())).collect();
    assert!(!text.contains("delayed"), "{text}");
}

#[tokio::test]
async fn a_report_that_nobody_would_be_told_is_refused_when_it_is_saved() {
    let pager = "[channels.pager]\nkind = 'pagerduty'\nurl = '{url}/pager'\nrouting_key = 'env:HOOK_SECRET'\n";
    let world = World::start(pager, &[]).await;
    let report = |more: Value| {
        let mut rule = daily("trends", json!({"series": [{"event": "signup"}]}), json!({"report_at": "09:00"}));
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let of_day = |from: &str| json!({"active": {"from": from, "to": "18:00"}});
    for (more, said) in [
        (of_day("10:00"), ["active: from `10:00` to `18:00`", "`report_at` `09:00`"]),
        (json!({"channels": ["hook", "pager"]}), ["channels: `pager` is of the kind `pagerduty`", "`report_at` `09:00`"]),
    ] {
        let (status, answer) = ask(world.http(), Method::PUT, "/v1/alerts/morning", &report(more)).await;
        let message = answer["message"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && said.iter().all(|said| message.contains(said)), "{answer}");
    }
    world.put("morning", &report(of_day("09:00"))).await;
}
