//! What is told of something that channels know of already: of a slot after the rule or its channels were changed, and of an alert that somebody
//! has acknowledged when it is more lines than it was.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::reports::pass_to_noon;
use super::{World, ask, many};
use crate::harness::receiver::Received;
use crate::harness::{PATIENCE, POLL};

#[tokio::test]
async fn what_is_told_anew_of_the_same_slot_has_an_id_of_its_own() {
    let mut world = World::start("", &[]).await;
    // By the day, so that nothing but this changes.
    pass_to_noon(&mut world);
    let mut daily = many("none", &["hook"]);
    (daily["interval"], daily["condition"]) = (json!("day"), json!({"below": 1}));
    let change = async |world: &World, key: &str, value: Value| {
        let mut rule = daily.clone();
        rule[key] = value;
        world.put("daily", &rule).await;
    };
    world.put("daily", &daily).await;
    world.receiver.wait("/hook", 1).await;
    // Switched off and on again, and the channel taken away and given back, each twice.
    for (told, key, value, back) in [
        (2, "disabled", json!(true), json!(false)),
        (4, "disabled", json!(true), json!(false)),
        (6, "channels", json!([]), json!(["hook"])),
        (8, "channels", json!([]), json!(["hook"])),
    ] {
        change(&world, key, value).await;
        world.receiver.wait("/hook", told).await;
        change(&world, key, back).await;
        world.receiver.wait("/hook", told + 1).await;
    }
    let told = world.hooks();
    let kinds: Vec<&str> = told.iter().map(Received::kind).collect();
    let again = ["resolved", "firing", "resolved", "firing", "resolved", "reminder", "resolved", "reminder"];
    assert_eq!((kinds[0], &kinds[1..]), ("firing", &again[..]), "{told:#?}");
    let of = |what: &dyn Fn(&Received) -> String| told.iter().map(what).collect::<BTreeSet<_>>().len();
    assert_eq!(of(&|told| told.body["pulse"]["slot"].to_string()), 1, "{told:#?}");
    assert_eq!(of(&|told| told.header("webhook-id").to_owned()), told.len(), "{told:#?}");
}

/// Three events of each of these lines, then one more minute that is judged.
async fn pass_minute(world: &mut World, lines: &[&str]) {
    let of = |line: &&str| vec![json!({"type": "order", "anonymousId": "ada", "properties": {"line": line}}); 3];
    let mut batch: Vec<Value> = lines.iter().flat_map(of).collect();
    batch.push(json!({"type": "order", "anonymousId": "ada", "properties": {"line": "other"}}));
    assert_eq!(world.http().capture(&json!({"batch": batch})).await.0, StatusCode::OK);
    world.http().settled().await;
    world.begin_minute();
    world.judged("lines").await;
}

#[tokio::test]
async fn a_line_that_fires_after_others_were_acknowledged_is_an_incident_of_its_own_and_is_reminded_of() {
    let pager = "[channels.pager]\nkind = 'pagerduty'\nurl = '{url}/pager'\nrouting_key = 'env:HOOK_SECRET'\n";
    let mut world = World::start(pager, &[]).await;
    let mut rule = many("order", &["hook", "pager"]);
    (rule["question"]["breakdown"], rule["remind_every"]) = (json!("properties.line"), json!(2));
    world.put("lines", &rule).await;
    world.judged("lines").await;
    pass_minute(&mut world, &["A"]).await;
    world.receiver.wait("/pager", 1).await;
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/lines/ack", &json!({"by": "ada"})).await.0, StatusCode::OK);
    world.until("lines", |rule| rule["ack"]["by"] == "ada" && rule["unacknowledged"] == 0).await;
    world.until_read().await;
    pass_minute(&mut world, &["A", "B"]).await;
    world.until("lines", |rule| rule["ack"]["by"] == "ada" && rule["unacknowledged"] == 1 && rule["firing"] == 2).await;
    pass_minute(&mut world, &["A", "B"]).await;
    pass_minute(&mut world, &["A", "B"]).await;
    pass_minute(&mut world, &[]).await;
    let told = world.receiver.wait("/hook", 4).await;
    let kinds: Vec<&str> = told.iter().map(Received::kind).collect();
    assert_eq!(kinds, ["firing", "firing", "reminder", "resolved"], "{told:#?}");
    let reminded: Vec<&Value> = told[2].body["pulse"]["lines"].as_array().unwrap().iter().map(|line| &line["breakdown"]).collect();
    assert_eq!(reminded, [&told[1].body["pulse"]["lines"][0]["breakdown"]], "of the one that nobody is at");
    let called = world.receiver.wait("/pager", 5).await;
    let actions: Vec<&Value> = called.iter().map(|event| &event.body["event_action"]).collect();
    assert_eq!(actions, ["trigger", "trigger", "trigger", "resolve", "resolve"], "{called:#?}");
    let keys: Vec<&Value> = called.iter().map(|event| &event.body["dedup_key"]).collect();
    assert_eq!((keys[0], keys[1]), (keys[3], keys[2]), "{called:#?}");
    assert!(keys[0] != keys[1] && keys[4] == keys[1], "{called:#?}");
}

/// The lines of which was told at a path that they fire, as often as it was.
fn firing(world: &World, path: &str) -> Vec<String> {
    let told = world.receiver.at(path);
    let lines = told.iter().flat_map(|told| told.body["pulse"]["lines"].as_array().unwrap());
    let mut firing: Vec<String> =
        lines.filter(|line| line["firing"] == true).map(|line| line["breakdown"].as_str().unwrap().to_owned()).collect();
    firing.sort_unstable();
    firing
}

#[tokio::test]
async fn a_channel_that_joins_during_a_silence_hears_of_each_line_once_when_it_is_over() {
    let mut world = World::start("[channels.other]\nkind = 'webhook'\nurl = '{url}/other'\n", &[]).await;
    let mut rule = many("order", &["hook"]);
    rule["question"]["breakdown"] = json!("properties.line");
    world.put("lines", &rule).await;
    world.judged("lines").await;
    pass_minute(&mut world, &["A"]).await;
    world.receiver.wait("/hook", 1).await;
    // Until some seconds after the next minute began: with the silence ends no slot.
    let until = jiff::Timestamp::from_millisecond(world.now_ms() + 80_000).unwrap().to_string();
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/lines/silence", &json!({"until": until})).await.0, StatusCode::OK);
    rule["channels"] = json!(["hook", "other"]);
    world.put("lines", &rule).await;
    world.until_read().await;
    pass_minute(&mut world, &["A", "B"]).await;
    world.until("lines", |rule| rule["firing"] == 2).await;
    world.pass(30);
    let heard = async {
        while firing(&world, "/other").len() < 2 || firing(&world, "/hook").len() < 2 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("not of each line");
    let both = firing(&world, "/hook");
    pass_minute(&mut world, &[]).await;
    let over = async |path: &str| {
        while !world.receiver.at(path).iter().any(|told| told.kind() == "resolved") {
            tokio::time::sleep(POLL).await;
        }
    };
    for path in ["/hook", "/other"] {
        tokio::time::timeout(PATIENCE, over(path)).await.expect("it is not told to be over");
        let told = firing(&world, path);
        assert!(told.len() == 2 && told[0] != told[1] && told == both, "{path}: {told:?} {:#?}", world.receiver.at(path));
    }
}

#[tokio::test]
async fn an_acknowledgement_is_none_of_what_the_rule_asks_next_within_the_same_slot() {
    let mut world = World::start("", &[]).await;
    // By the day, so that no other slot comes.
    pass_to_noon(&mut world);
    let daily = |kind: &str| {
        let mut rule = many(kind, &["hook"]);
        (rule["interval"], rule["condition"]) = (json!("day"), json!({"below": 1}));
        rule
    };
    world.put("loud", &daily("none")).await;
    world.receiver.wait("/hook", 1).await;
    let first = world.until("loud", |rule| rule["state"] == "firing").await;
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/loud/ack", &json!({"by": "ada"})).await.0, StatusCode::OK);
    world.until("loud", |rule| rule["ack"]["by"] == "ada" && rule["unacknowledged"] == 0).await;
    world.put("loud", &daily("neither")).await;
    world.receiver.wait("/hook", 3).await;
    let second = world.until("loud", |rule| rule["state"] == "firing").await;
    assert_eq!((&second["ack"], &second["unacknowledged"]), (&Value::Null, &json!(1)), "{first:#} {second:#}");
    assert_eq!(second["episode"], first["episode"], "of the same slot");
}

#[tokio::test]
async fn what_is_told_to_flap_can_be_acknowledged_while_it_is_right() {
    let mut world = World::start("", &[]).await;
    world.put("loud", &many("loud", &["hook"])).await;
    world.judged("loud").await;
    let acknowledge = async |world: &World| ask(world.http(), Method::POST, "/v1/alerts/loud/ack", &json!({"by": "ada"})).await.0;
    for number in [3, 1, 3, 1, 3, 1] {
        world.send("loud", number).await;
        world.begin_minute();
        world.judged("loud").await;
    }
    assert_eq!(world.told("loud").await, ["firing", "resolved", "firing", "resolved", "flapping"]);
    let right = world.until("loud", |rule| rule["state"] == "ok").await;
    assert!(right["flapping"] == true && right["episode"].is_string(), "{right:#}");
    assert_eq!(acknowledge(&world).await, StatusCode::OK);
    world.send("loud", 3).await;
    world.begin_minute();
    let wrong = world.until("loud", |rule| rule["state"] == "firing").await;
    assert_eq!((&wrong["ack"]["by"], &wrong["unacknowledged"]), (&json!("ada"), &json!(0)), "{wrong:#}");
}
