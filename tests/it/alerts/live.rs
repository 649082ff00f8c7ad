//! What the engine does live over hours and minutes, held against what is counted by hand and against the back-test.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::channels::{SECRET, signature};
use super::{MINUTE_MS, World, ask, changes, many};
use crate::harness::load::{Moments, seed};
use crate::harness::receiver::Received;

const HOUR_S: i64 = 3_600;

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The start of the hour, day or minute of a zone after that of `slot`, told by the calendar alone.
fn next_slot(interval: &str, zone: &str, slot: i64) -> i64 {
    let at = jiff::Timestamp::from_millisecond(slot).unwrap().to_zoned_datetime(jiff::tz::TimeZone::get(zone).unwrap());
    let next = match interval {
        "day" => at.tomorrow().unwrap().start_of_day().unwrap(),
        _ => at.checked_add(jiff::Span::new().hours(1)).unwrap(),
    };
    next.timestamp().as_millisecond()
}

/// When a zone moves its clocks next after `after`: ahead, or back.
fn moved(zone: &str, is_ahead: bool, after: jiff::Timestamp) -> jiff::Timestamp {
    let zone = jiff::tz::TimeZone::get(zone).unwrap();
    zone.following(after).find(|moved| moved.dst().is_dst() == is_ahead).unwrap().timestamp()
}

#[tokio::test]
async fn hours_and_days_of_nights_in_which_clocks_are_moved_are_each_judged_once_with_all_that_came_in_them() {
    let mut world = World::start("", &[]).await;
    let to = async |world: &mut World, at_ms: i64| world.leap(((at_ms - world.now_ms()) / 1_000).max(0)).await;
    // Berlin moves its clocks ahead at the end of March, Sydney back a week later; Kathmandu is 5:45 ahead all the time.
    let berlin = moved("Europe/Berlin", true, jiff::Timestamp::now());
    let nights = [berlin, moved("Australia/Sydney", false, berlin)].map(|moved| moved.as_millisecond() - 9 * HOUR_S * 500);
    to(&mut world, nights[0]).await;
    let rules = [
        ("hour", "Europe/Berlin"),
        ("day", "Europe/Berlin"),
        ("hour", "Asia/Kathmandu"),
        ("day", "Asia/Kathmandu"),
        ("hour", "Australia/Sydney"),
        ("day", "Australia/Sydney"),
    ];
    let id = |(interval, zone): (&str, &str)| format!("{interval}-{}", zone.replace('/', "-"));
    for rule in rules {
        let mut body = many("night", &[]);
        (body["interval"], body["timezone"], body["condition"]) = (json!(rule.0), json!(rule.1), json!({"above": 0}));
        world.put(&id(rule), &body).await;
    }
    for rule in rules {
        world.until(&id(rule), |rule| rule["judged_through"].is_string()).await;
    }
    let began_ms = world.now_ms();
    let mut sent = Vec::new();
    for night in nights {
        to(&mut world, night).await;
        for _ in 0..8 {
            world.send("night", 1).await;
            sent.push(world.now_ms());
            world.leap(HOUR_S).await;
            // Some hours are judged by themselves and some together with others, as it happens.
            if sent.len() % 3 > 0 {
                let hour_ms = world.now_ms().div_euclid(HOUR_S * 1_000) * HOUR_S * 1_000;
                let through = jiff::Timestamp::from_millisecond(hour_ms).unwrap().to_string();
                world.until("hour-Europe-Berlin", |rule| rule["judged_through"].as_str() >= Some(&through)).await;
            }
        }
    }
    world.leap(2 * 24 * HOUR_S).await;
    let mut days = BTreeSet::new();
    for rule in rules {
        let (interval, zone) = rule;
        let slots_since = |history: &Value| {
            let slots = history["slots"].as_array().unwrap().iter().rev();
            slots.map(|slot| (ms(slot["slot"].as_str().unwrap()), slot["seen"][""]["value"].as_f64().unwrap())).collect::<Vec<_>>()
        };
        let through = jiff::Timestamp::from_millisecond(world.now_ms() - 25 * HOUR_S * 1_000).unwrap().to_string();
        world.until(&id(rule), |rule| rule["judged_through"].as_str() >= Some(&through)).await;
        let slots = slots_since(&world.history(&id(rule)).await);
        let starts: Vec<i64> = slots.iter().map(|(slot, _)| *slot).collect();
        let expected = std::iter::successors(starts.first().copied(), |slot| Some(next_slot(interval, zone, *slot)));
        assert_eq!(starts, expected.take(starts.len()).collect::<Vec<_>>(), "{rule:?}");
        assert!(starts[0] < began_ms);
        for (slot, value) in &slots {
            let next = next_slot(interval, zone, *slot);
            let counted = sent.iter().filter(|at| (*slot..next).contains(*at)).count();
            assert_eq!(*value, counted as f64, "{rule:?} {}", jiff::Timestamp::from_millisecond(*slot).unwrap());
            if interval == "day" {
                days.insert((zone, (next - slot) / 3_600_000));
            }
        }
        let values: f64 = slots.iter().map(|(_, value)| value).sum();
        assert_eq!(values, sent.len() as f64, "{rule:?}");
    }
    assert!(days.contains(&("Europe/Berlin", 23)) && days.contains(&("Australia/Sydney", 25)), "{days:?}");
}

/// A rule about what came in a minute, with whatever else is said of it.
fn random_rule(series: Value, more: Value) -> Value {
    let mut rule = json!({"report": "trends", "question": {"series": [series]}, "interval": "minute", "evaluation_delay": "0s"});
    for (key, value) in more.as_object().unwrap() {
        match key.as_str() {
            "breakdown" => rule["question"]["breakdown"] = value.clone(),
            _ => rule[key] = value.clone(),
        }
    }
    rule
}

#[tokio::test]
async fn what_is_said_once_or_kept_back_or_named_in_part_is_so_through_to_receivers_and_back_tests_say_what_was_done() {
    const MINUTES: i64 = 14;
    const PLANS: [&str; 4] = ["free", "pro", "team", "gone"];
    let channels = "[channels.flap]\nkind = 'webhook'\nurl = '{url}/flap'\n[channels.slack]\nkind = 'slack'\nurl = '{url}/slack'\n\
        [channels.broken]\nkind = 'webhook'\nurl = '{url}/broken'\n[channels.manager]\nkind = 'alertmanager'\nurl = '{url}/manager'\n\
        [channels.two]\nkind = 'webhook'\nurl = '{url}/two'\nsecret = 'env:HOOK_SECRET'\nnext_secret = 'env:NEXT_SECRET'\n";
    let mut world = World::start(channels, &[("NEXT_SECRET", "whsec_bmV3".to_owned())]).await;

    // A cohort that goes while a rule asks about it, and comes back once its channel is told that nothing can be judged.
    let cohort = json!({"filters": [{"did": {"event": "flap"}}]});
    assert_eq!(ask(world.http(), Method::PUT, "/v1/cohorts/going", &cohort).await.0, StatusCode::OK);
    let mut broken = many("flap", &["broken"]);
    (broken["question"]["filters"], broken["condition"]) = (json!([{"cohort": "going"}]), json!({"above": 99}));
    world.put("broken", &broken).await;
    world.judged("broken").await;
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/cohorts/going", &Value::Null).await.0, StatusCode::OK);
    world.put("flapping", &many("flap", &["flap"])).await;
    let mut reminded = many("remind", &["two"]);
    reminded["remind_every"] = json!(3);
    world.put("reminded", &reminded).await;
    let clock = |minutes: i64| {
        let at = jiff::Timestamp::from_millisecond(world.now_ms() + minutes * MINUTE_MS).unwrap();
        at.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%H:%M").to_string()
    };
    let mut hours = many("remind", &["hook"]);
    hours["active"] = json!({"from": clock(6), "to": clock(120)});
    world.put("hours", &hours).await;
    let quiet = json!({"event": "steady", "math": "max", "property": "properties.amount"});
    world
        .put("silent", &random_rule(quiet, json!({"condition": {"above": 1e9}, "no_data": "alert", "for": 2, "channels": ["hook"]})))
        .await;
    let mut each = many("signed", &["hook", "slack", "manager"]);
    (each["question"]["breakdown"], each["max_groups"]) = (json!("properties.plan"), json!(1_000));
    each["condition"] = json!({"above": 0});
    world.put("each", &each).await;

    let count = || json!({"event": "random"});
    let amount = |math: &str| json!({"event": "random", "math": math, "property": "properties.amount"});
    let random = [
        ("last", random_rule(count(), json!({"condition": {"above": 4}, "resolve": 2, "for": 2, "keep_firing_for": 1}))),
        ("sum", random_rule(count(), json!({"condition": {"above": 9}, "reduce": {"sum": 3}}))),
        ("average", random_rule(count(), json!({"condition": {"outside": [2, 5]}, "reduce": {"average": 2}}))),
        ("least", random_rule(count(), json!({"condition": {"above": 1}, "reduce": {"least": 2}}))),
        ("most", random_rule(count(), json!({"condition": {"above": 5}, "reduce": {"most": 2}}))),
        ("change", random_rule(count(), json!({"condition": {"below": -0.3}, "reduce": {"change": "previous"}}))),
        ("largest", random_rule(amount("max"), json!({"condition": {"above": 60}, "no_data": "ok"}))),
        ("mean", random_rule(amount("avg"), json!({"condition": {"below": 50}, "no_data": "alert", "min_count": 2}))),
        ("plans", random_rule(count(), json!({"condition": {"above": 1}, "for": 2, "breakdown": "properties.plan"}))),
    ];
    for (id, rule) in &random {
        world.put(id, rule).await;
    }
    let all: Vec<&str> = ["flapping", "reminded", "hours", "silent", "each"].into_iter().chain(random.iter().map(|(id, _)| *id)).collect();
    let judged = async |world: &World| {
        for id in &all {
            world.judged(id).await;
        }
    };
    judged(&world).await;
    let seed = seed();
    println!("PROPTEST_RNG_SEED={seed}");
    let (mut moments, mut is_back) = (Moments::new(seed.wrapping_add(28)), false);
    for minute in 0..MINUTES {
        let mut batch = Vec::new();
        let mut add = |kind: &str, number: usize| {
            batch.extend((0..number).map(|who| json!({"type": kind, "anonymousId": format!("v{who}")})));
        };
        add("flap", if minute < 6 && minute % 2 == 0 { 3 } else { 1 });
        add("remind", if (1..10).contains(&minute) { 3 } else { 0 });
        let number = if moments.below(4) == 0 { 0 } else { moments.below(8) };
        batch.extend((0..number).map(|who| {
            let (plan, amount) = (PLANS[moments.below(PLANS.len())], moments.below(100));
            json!({"type": "random", "anonymousId": format!("v{who}"), "properties": {"plan": plan, "amount": amount}})
        }));
        if !(3..=6).contains(&minute) {
            batch.push(json!({"type": "steady", "anonymousId": "x", "properties": {"amount": 1}}));
        }
        if minute == 2 {
            batch.extend(
                (0..1_000 - batch.len())
                    .map(|plan| json!({"type": "signed", "anonymousId": "x", "properties": {"plan": format!("plan-{plan}")}})),
            );
        }
        assert_eq!(world.http().capture(&json!({"batch": batch})).await.0, StatusCode::OK);
        world.http().settled().await;
        if !is_back && !world.receiver.at("/broken").is_empty() {
            assert_eq!(ask(world.http(), Method::PUT, "/v1/cohorts/going", &cohort).await.0, StatusCode::OK);
            is_back = true;
        }
        world.begin_minute();
        judged(&world).await;
    }
    world.leap(15 * 60).await;
    judged(&world).await;

    let kinds = |path: &str, rule: &str| -> Vec<String> {
        let told = world.receiver.at(path).into_iter().filter(|told| told.body["pulse"]["rule"] == rule);
        told.map(|told| told.kind().to_owned()).collect()
    };
    for id in &all[..4] {
        println!("{id}: told {:?}", world.told(id).await);
    }
    // Told of the first changes, then that it flaps, and once of the end.
    assert_eq!(kinds("/flap", "flapping"), ["firing", "resolved", "firing", "resolved", "flapping", "resolved"]);
    assert_eq!(kinds("/two", "reminded"), ["firing", "reminder", "reminder", "resolved"]);
    for told in world.receiver.at("/two") {
        let signatures: BTreeSet<&str> = told.header("webhook-signature").split(' ').collect();
        assert_eq!(signatures, BTreeSet::from([SECRET, "bmV3"].map(|secret| signature(&told, secret)).each_ref().map(String::as_str)));
    }
    // Outside of its hours nobody is told; within them of what still holds.
    let of_hours: Vec<Received> = world.hooks().into_iter().filter(|told| told.body["pulse"]["rule"] == "hours").collect();
    assert_eq!(of_hours.iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved"]);
    assert!(of_hours[0].body["pulse"]["slot"].as_str() > of_hours[0].body["pulse"]["lines"][0]["since"].as_str(), "{of_hours:#?}");
    assert_eq!(kinds("/hook", "silent"), ["no_data", "resolved", "no_data"]);

    // Nearly a thousand lines that fire at once and end at once: one notice for all of them, each time, at each receiver.
    let told: Vec<Received> = world.hooks().into_iter().filter(|told| told.body["pulse"]["rule"] == "each").collect();
    assert_eq!(told.iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved"]);
    let lines = told[0].body["pulse"]["firing"].as_u64().unwrap();
    assert!(lines > 900 && told[0].body["alerts"].as_array().unwrap().len() == 100, "{lines}");
    assert_eq!(told[0].body["truncatedAlerts"].as_u64(), Some(lines - 100));
    let slack = world.receiver.at("/slack");
    assert_eq!(slack.len(), 2);
    for message in &slack {
        let blocks = message.body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50 && message.text.len() < 50_000 && message.text.contains("more"), "{}", message.text);
        assert!(blocks.iter().all(|block| block["text"]["text"].as_str().unwrap_or_default().chars().count() <= 3_000));
    }
    let manager = world.receiver.at("/manager");
    assert!(manager.len() >= 2 && manager.iter().all(|told| told.body.as_array().unwrap().len() <= 100), "{}", manager.len());
    let all = world.receiver.at("/hook");
    assert!(all.iter().chain(&slack).chain(&manager).all(|told| told.text.len() < 100_000), "a notice is too large");
    println!(
        "{lines} lines at once: {} bytes as a webhook, {} to Slack, {} to Alertmanager",
        told[0].text.len(),
        slack[0].text.len(),
        manager[0].text.len()
    );

    // Once that it cannot be judged, and once that it can.
    let told = world.receiver.wait("/broken", 1).await;
    assert!(told[0].kind() == "failed" && told[0].body["pulse"]["text"].as_str().unwrap().contains("going"), "{told:#?}");
    if !is_back {
        assert_eq!(world.until("broken", |rule| rule["state"] == "error").await["state"], "error");
        assert_eq!(ask(world.http(), Method::PUT, "/v1/cohorts/going", &cohort).await.0, StatusCode::OK);
    }
    world.receiver.wait("/broken", 2).await;
    world.judged("broken").await;
    assert_eq!(kinds("/broken", "broken"), ["failed", "judging"]);

    // The back-test of each rule over the same events says what was done.
    let mut seen = 0;
    for (id, _) in &random {
        let history = world.history(id).await;
        let from = &history["slots"].as_array().unwrap().last().unwrap()["slot"];
        let (status, tested) = ask(world.http(), Method::POST, &format!("/v1/alerts/{id}/test"), &json!({"from": from})).await;
        assert_eq!(status, StatusCode::OK, "{tested}");
        let would: Vec<(&Value, &Value, &Value)> =
            tested["changes"].as_array().unwrap().iter().map(|change| (&change["slot"], &change["line"], &change["change"])).collect();
        let entries = history["history"].as_array().unwrap().iter().rev().filter(|entry| entry["event"] == "change");
        let mut did: Vec<(&Value, &Value, &Value)> = entries.map(|entry| (&entry["slot"], &entry["line"], &entry["change"])).collect();
        let mut would = would;
        let by = |change: &(&Value, &Value, &Value)| (change.0.to_string(), change.1.to_string());
        did.sort_by_key(by);
        would.sort_by_key(by);
        assert_eq!(did, would, "{id}: {:#}", history["slots"]);
        // Of other seeds some rule may see nothing wrong in so few minutes.
        assert!(seed != 1 || !changes(&history).is_empty(), "{id} never changed: nothing is shown by it");
        seen += did.len();
    }
    println!("{} random rules over {MINUTES} minutes: {seen} changes, all as the back-test has them", random.len());
}
