//! Crashes, a loader that is behind, events that come late, a store that is away.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{MINUTE_MS, World, changes, many};
use crate::harness::receiver::{Reaction, Received};
use crate::harness::signal;

#[tokio::test]
async fn a_notice_survives_a_kill_before_it_is_sent_and_before_that_is_noted() {
    let mut world = World::start("", &[]).await;
    world.put("signups", &many("signup", &["hook"])).await;
    world.judged("signups").await;
    // The receiver takes it and does not say so.
    world.receiver.react([Reaction::Silence]);
    world.send("signup", 3).await;
    world.pass(60);
    world.receiver.wait("/hook", 1).await;
    world.pulse.kill().await;
    // Where it is not even reached.
    world.receiver.react([Reaction::Reset]);
    world.pulse.restart().await;
    let told = world.receiver.wait("/hook", 3).await;
    let ids: BTreeMap<&str, usize> = told.iter().fold(BTreeMap::new(), |mut ids, told| {
        *ids.entry(told.header("webhook-id")).or_default() += 1;
        ids
    });
    assert_eq!(ids.len(), 1, "{told:#?}");
    let history = world.history("signups").await;
    assert_eq!(changes(&history), ["fired"]);
}

#[tokio::test]
async fn the_end_of_a_rule_that_goes_while_nobody_owns_the_alerts_is_told() {
    let rule = "[alerts.filed]\nreport = 'trends'\ninterval = 'minute'\nquestion = {series = [{event = 'signup'}]}\n\
        condition = {above = 2}\nchannels = ['hook']\nevaluation_delay = '0s'\n";
    let mut world = World::start(rule, &[]).await;
    world.put("saved", &many("signup", &["hook"])).await;
    world.judged("filed").await;
    world.judged("saved").await;
    world.send("signup", 3).await;
    world.pass(60);
    let fired = world.receiver.wait("/hook", 2).await;
    world.pulse.kill().await;
    let text = std::fs::read_to_string(world.files.path().join("test.toml")).unwrap();
    super::write(world.files.path(), text.split("[alerts.filed]").next().unwrap());
    world.pulse.restart().await;
    // What was told just before the kill may come again first.
    let ended = async {
        loop {
            match world.hooks().into_iter().find(|told| told.kind() == "resolved") {
                Some(ended) => return ended,
                None => tokio::time::sleep(crate::harness::POLL).await,
            }
        }
    };
    let ended = tokio::time::timeout(crate::harness::PATIENCE, ended).await.expect("nobody is told that it is over");
    let of_filed = |told: &&Received| told.body["pulse"]["rule"] == "filed";
    assert_eq!(ended.body["groupKey"], fired.iter().find(of_filed).unwrap().body["groupKey"]);
}

#[tokio::test]
async fn a_loader_that_stands_still_makes_a_rule_delayed_and_never_a_false_drop() {
    let mut world = World::start("", &[("PULSE__ROLES", "ingest,process,query,alert,load".to_owned())]).await;
    let mut rule = many("visit", &["hook"]);
    rule["condition"] = json!({"below": 3});
    rule["missed_after"] = json!("3m");
    world.send("visit", 5).await;
    world.put("visits", &rule).await;
    world.pass(60);
    world.judged("visits").await;
    let before = world.hooks();
    // So that no minute is without visits, wherever the next one begins meanwhile.
    world.send("visit", 5).await;
    world.pulse.end().await;
    // Nothing is loaded now, and everything else goes on.
    assert!(world.pulse.restart_with(&[("PULSE__ROLES", "ingest,process,query,alert")]).await);
    let visits: Vec<Value> = (0..5).map(|who| json!({"type": "visit", "anonymousId": format!("w{who}")})).collect();
    assert_eq!(world.http().capture(&json!({"batch": visits})).await.0, StatusCode::OK);
    for _ in 0..10 {
        world.pass(60);
        assert_eq!(world.http().capture(&json!({"batch": visits})).await.0, StatusCode::OK);
    }
    world.until("visits", |rule| rule["state"] == "delayed").await;
    for _ in 0..4 {
        world.pass(60);
        assert_eq!(world.http().capture(&json!({"batch": visits})).await.0, StatusCode::OK);
    }
    let told = world.receiver.wait("/hook", before.len() + 1).await;
    assert_eq!(told.iter().skip(before.len()).map(Received::kind).collect::<Vec<_>>(), ["delayed"], "{told:#?}");
    world.begin_minute();
    assert_eq!(world.http().capture(&json!({"batch": visits})).await.0, StatusCode::OK);
    world.pulse.end().await;
    world.pulse.restart().await;
    world.http().settled().await;
    world.judged("visits").await;
    let told = world.receiver.wait("/hook", before.len() + 2).await;
    let kinds: Vec<&str> = told.iter().skip(before.len()).map(Received::kind).collect();
    assert!(!kinds.contains(&"firing") && kinds.contains(&"judging"), "{told:#?}");
    let history = world.history("visits").await;
    // The minutes in which pulse was restarted may have had no visits; what had them is judged as it was.
    let late = history["slots"].as_array().unwrap().iter().filter(|slot| slot["seen"][""]["verdict"] == "right").count();
    assert!(late >= 10, "{history:#}");
}

#[tokio::test]
async fn events_that_come_late_revise_a_verdict_and_tell_nobody() {
    let mut world = World::start("", &[]).await;
    world.put("signups", &many("signup", &["hook"])).await;
    world.judged("signups").await;
    world.send("signup", 2).await;
    let slot = world.now_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
    world.pass(120);
    world.judged("signups").await;
    let at = jiff::Timestamp::from_millisecond(slot + 1_000).unwrap().to_string();
    let late = json!({"batch": [{"type": "signup", "anonymousId": "late", "timestamp": at}]});
    assert_eq!(world.http().capture(&late).await.0, StatusCode::OK);
    world.http().settled().await;
    // Quarters of an hour are looked at once they are over; that it arrived is seen before, and must not be forgotten.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    world.pass(900);
    let revised = async {
        loop {
            let history = world.history("signups").await;
            let found = history["history"].as_array().unwrap().iter().find(|entry| entry["event"] == "revision").cloned();
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(crate::harness::POLL).await;
        }
    };
    let revision = tokio::time::timeout(crate::harness::PATIENCE, revised).await.expect("nothing was revised");
    assert_eq!((&revision["was"]["value"], &revision["is"]["value"]), (&json!(2.0), &json!(3.0)), "{revision}");
    assert_eq!((&revision["was"]["verdict"], &revision["is"]["verdict"]), (&json!("right"), &json!("wrong")));
    assert!(world.hooks().is_empty(), "{:#?}", world.hooks());
    assert!(changes(&world.history("signups").await).is_empty());
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_judged_and_then_all_in_order_and_told_once() {
    let mut world = World::start("", &[]).await;
    world.put("signups", &many("signup", &["hook"])).await;
    world.judged("signups").await;
    let engine = world.pulse.engine_pid();
    signal(engine, rustix::process::Signal::STOP);
    for number in [3, 1, 4, 1] {
        let events: Vec<Value> = (0..number).map(|who| json!({"type": "signup", "anonymousId": format!("v{who}")})).collect();
        assert_eq!(world.http().capture(&json!({"batch": events})).await.0, StatusCode::OK);
        world.pass(60);
    }
    signal(engine, rustix::process::Signal::CONT);
    world.http().settled().await;
    world.judged("signups").await;
    let history = world.history("signups").await;
    assert_eq!(changes(&history), ["fired", "resolved", "fired", "resolved"]);
    let told = world.receiver.wait("/hook", 1).await;
    assert!(told.iter().all(|told| told.kind() != "firing" || told.body["pulse"]["late"] == true), "{told:#?}");
    let slots: Vec<&str> = history["slots"].as_array().unwrap().iter().map(|slot| slot["slot"].as_str().unwrap()).collect();
    let mut sorted = slots.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!(slots, sorted, "a slot was judged twice");
}
