//! Crashes, a loader that is behind, events that come late, a store that is away.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{MINUTE_MS, World, amounting, changes, largest, many};
use crate::harness::receiver::{Reaction, Received};
use crate::harness::{PATIENCE, POLL, signal};

#[tokio::test]
async fn a_notice_survives_kills_between_transition_sending_and_mark() {
    let mut world = World::start("", &[]).await;
    world.put("orders", &largest("order", &["hook"])).await;
    world.judged("orders").await;
    let order = async |world: &mut World, amount: u32| {
        assert_eq!(world.http().capture(&amounting("order", amount)).await.0, StatusCode::OK);
        world.pass(60);
    };
    let ids = |told: &[Received]| told.iter().map(|told| told.header("webhook-id").to_owned()).collect::<BTreeSet<_>>();
    // The receiver takes it and does not say so.
    world.receiver.react([Reaction::Silence]);
    order(&mut world, 9).await;
    world.receiver.wait("/hook", 1).await;
    world.pulse.kill().await;
    // Where it is not even reached.
    world.receiver.react([Reaction::Reset]);
    world.pulse.restart().await;
    let told = world.receiver.wait("/hook", 3).await;
    assert_eq!(ids(&told).len(), 1, "{told:#?}");
    assert_eq!(world.told("orders").await, ["firing"]);

    let crash = async |world: &mut World, point: &str, amount: u32| {
        world.pulse.kill().await;
        assert!(world.pulse.restart_with(&[("FAILPOINTS", format!("{point}=return"))]).await);
        order(world, amount).await;
        let ended = tokio::time::timeout(PATIENCE, world.pulse.child.wait()).await.expect("nothing was told");
        assert_eq!(ended.unwrap().signal(), Some(rustix::process::Signal::ABORT.as_raw()), "{point}");
    };
    // Written, and not sent.
    crash(&mut world, "alert.written", 1).await;
    assert_eq!(world.hooks().len(), 3, "nothing is sent before it is written");
    world.pulse.restart().await;
    world.receiver.wait("/hook", 4).await;
    assert_eq!(world.told("orders").await, ["firing", "resolved"]);
    // Answered, and not marked.
    crash(&mut world, "alert.answered", 9).await;
    assert_eq!(world.hooks().len(), 5);
    world.pulse.restart().await;
    let told = world.receiver.wait("/hook", 6).await;
    assert_eq!(ids(&told[4..]).len(), 1, "{told:#?}");
    assert_eq!(world.told("orders").await, ["firing", "resolved", "firing"]);
    assert_eq!((ids(&told).len(), changes(&world.history("orders").await)), (3, vec!["fired", "resolved", "fired"]));
    assert_eq!(world.hooks().len(), 6);
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
                None => tokio::time::sleep(POLL).await,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("nobody is told that it is over");
    let of_filed = |told: &&Received| told.body["pulse"]["rule"] == "filed";
    assert_eq!(ended.body["groupKey"], fired.iter().find(of_filed).unwrap().body["groupKey"]);
}

#[tokio::test]
async fn what_files_say_is_changed_nowhere_else_also_while_one_of_them_cannot_be_read() {
    let rule = "[alerts.filed]\nreport = 'trends'\ninterval = 'minute'\nquestion = {series = [{event = 'signup'}]}\n\
        condition = {above = 2}\nchannels = ['hook']\nevaluation_delay = '0s'\n";
    let mut world = World::start(rule, &[]).await;
    world.judged("filed").await;
    // What was saved before a file said it can be cleared away.
    let spare = json!({"kind": "webhook", "url": "https://93.184.216.34/spare"});
    assert_eq!(super::ask(world.http(), Method::PUT, "/v1/channels/spare", &spare).await.0, StatusCode::OK);
    let spare_file = world.files.path().join("spare.toml");
    std::fs::write(&spare_file, "[channels.spare]\nkind = 'webhook'\nurl = 'https://93.184.216.34/'\n").unwrap();
    for (method, status) in [(Method::PUT, 412), (Method::DELETE, 200), (Method::DELETE, 412)] {
        assert_eq!(super::ask(world.http(), method.clone(), "/v1/channels/spare", &spare).await.0.as_u16(), status, "{method}");
    }
    std::fs::remove_file(spare_file).unwrap();
    for is_broken in [false, true] {
        if is_broken {
            std::fs::write(world.files.path().join("half.toml"), "[alerts.second").unwrap();
        }
        let (http, elsewhere) = (world.http(), json!({"kind": "webhook", "url": "https://elsewhere.invalid/"}));
        for (method, path, body) in [
            (Method::PUT, "/v1/alerts/filed", many("signup", &[])),
            (Method::DELETE, "/v1/alerts/filed", Value::Null),
            (Method::PUT, "/v1/channels/hook", elsewhere),
            (Method::DELETE, "/v1/channels/hook", Value::Null),
        ] {
            let (status, answer) = super::ask(http, method.clone(), path, &body).await;
            assert_eq!((status.as_u16(), &answer["code"]), (412, &json!("owned_by_file")), "{method} {path}: {answer}");
        }
        let shown = [http.get("/v1/alerts").await.1["alerts"].clone(), http.get("/v1/channels").await.1["channels"].clone()];
        let files: Vec<(usize, &Value)> = shown.iter().map(|all| (all.as_array().unwrap().len(), &all[0]["file"])).collect();
        assert_eq!(files, [(1, &json!("test.toml")); 2], "{shown:?}");
    }
    let silence = json!({"until": "2020-01-01T00:00:00Z"});
    assert_eq!(super::ask(world.http(), Method::POST, "/v1/alerts/filed/silence", &silence).await.0, StatusCode::OK);
    world.send("signup", 3).await;
    world.pass(60);
    world.receiver.wait("/hook", 1).await;
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
    // Ten minutes are due and the first of them for nine; what is exported says so.
    let oldest = async {
        while world.http().exported::<f64>("pulse_alerts_oldest_slot_seconds").await < 480.0 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, oldest).await.expect("the oldest slot is not exported");
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
    let channels = "[channels.pager]\nkind = 'pagerduty'\nurl = '{url}/pager'\nrouting_key = 'env:HOOK_SECRET'\n\
        [channels.manager]\nkind = 'alertmanager'\nurl = '{url}/manager'\n";
    let mut world = World::start(channels, &[]).await;
    world.put("signups", &many("signup", &["hook"])).await;
    // Who wants to hear of it by channels that have no word for it is told so.
    let mut asked = many("signup", &["pager", "manager"]);
    asked["notify_revisions"] = json!(true);
    world.put("asked", &asked).await;
    world.judged("signups").await;
    world.judged("asked").await;
    world.send("signup", 2).await;
    let slot = world.now_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
    world.pass(120);
    world.judged("signups").await;
    world.judged("asked").await;
    let at = jiff::Timestamp::from_millisecond(slot + 1_000).unwrap().to_string();
    let late = json!({"batch": [{"type": "signup", "anonymousId": "late", "timestamp": at}]});
    assert_eq!(world.http().capture(&late).await.0, StatusCode::OK);
    world.http().settled().await;
    // Quarters of an hour are looked at once they are over; that it arrived is seen before, and must not be forgotten.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    world.pass(900);
    let revision = world.entry("signups", |entry| entry["event"] == "revision").await;
    assert_eq!((&revision["was"]["value"], &revision["is"]["value"]), (&json!(2.0), &json!(3.0)), "{revision}");
    assert_eq!((&revision["was"]["verdict"], &revision["is"]["verdict"]), (&json!("right"), &json!("wrong")));
    assert!(world.hooks().is_empty(), "{:#?}", world.hooks());
    assert!(changes(&world.history("signups").await).is_empty());
    let skipped = world.entries("asked", 2, |entry| entry["outcome"] == "skipped" && entry["kind"] == "revision").await;
    let channels: BTreeSet<&str> = skipped.iter().map(|entry| entry["channel"].as_str().unwrap()).collect();
    assert_eq!((channels.len(), skipped.len()), (2, 2), "{skipped:#?}");
    assert!(world.receiver.at("/pager").is_empty() && world.receiver.at("/manager").is_empty());
    for id in ["pager", "manager"] {
        let channel = world.http().get(&format!("/v1/channels/{id}")).await.1;
        assert_eq!((&channel["failed"], &channel["waiting"]), (&Value::Null, &json!(0)), "nobody need look after it: {channel}");
    }
}

#[tokio::test]
async fn a_step_of_a_funnel_that_comes_late_revises_the_slot_in_which_it_was_entered() {
    let mut world = World::start("", &[]).await;
    let steps = json!([{"event": "signup"}, {"event": "order"}]);
    let rule = json!({
        "report": "funnel", "question": {"steps": steps, "window": "30m"}, "interval": "minute", "condition": {"below": 0.5},
        "evaluation_delay": "0s",
    });
    world.put("orders", &rule).await;
    world.until("orders", |rule| rule["judged_through"].is_string()).await;
    world.send("signup", 1).await;
    let slot = world.now_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
    let time = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let over = async |world: &mut World, minutes: i64| {
        world.leap(minutes * 60).await;
        // It is judged once its window is over.
        let through = time((world.now_ms() - 30 * MINUTE_MS).div_euclid(MINUTE_MS) * MINUTE_MS);
        world.until("orders", |rule| rule["judged_through"].as_str() >= Some(&through)).await;
        // What was going on is looked at again, since it is over now.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    };
    over(&mut world, 31).await;
    over(&mut world, 15).await;
    assert_eq!(changes(&world.history("orders").await)[0], "fired");
    let late = json!({"batch": [{"type": "order", "anonymousId": "v0", "timestamp": time(slot + 20 * MINUTE_MS)}]});
    assert_eq!(world.http().capture(&late).await.0, StatusCode::OK);
    world.http().settled().await;
    over(&mut world, 15).await;
    let revision = world.entry("orders", |entry| entry["event"] == "revision").await;
    assert_eq!((&revision["slot"], &revision["was"]["value"], &revision["is"]["value"]), (&json!(time(slot)), &json!(0.0), &json!(1.0)));
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
    let slots: Vec<&str> = history["slots"].as_array().unwrap().iter().map(|slot| slot["slot"].as_str().unwrap()).collect();
    let mut sorted = slots.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!(slots, sorted, "a slot was judged twice");
    // What is to be told follows from which slots were judged in one go, which is nobody's to choose.
    let mut goes: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for slot in history["slots"].as_array().unwrap().iter().rev() {
        goes.entry(slot["at"].as_str().unwrap()).or_default().push(slot["seen"][""]["verdict"] == "wrong");
    }
    let mut is_known = false;
    let to_be_told = goes.values().filter_map(|slots| {
        let (was_known, is_wrong) = (is_known, *slots.last()?);
        is_known = is_wrong;
        match (was_known, is_wrong) {
            (false, true) => Some("firing"),
            (true, false) => Some("resolved"),
            (false, false) if slots.contains(&true) => Some("summary"),
            _ => None,
        }
    });
    let to_be_told: Vec<&str> = to_be_told.collect();
    assert!(!to_be_told.is_empty());
    // A minute in which nothing is wrong, after which nothing more is to come.
    world.pass(60);
    world.judged("signups").await;
    assert_eq!(world.told("signups").await, to_be_told);
    let told = world.hooks();
    assert_eq!(told.iter().map(Received::kind).collect::<Vec<_>>(), to_be_told, "{told:#?}");
    assert!(told.iter().all(|told| told.kind() == "resolved" || told.body["pulse"]["late"] == true), "{told:#?}");
    let ids: BTreeSet<&str> = told.iter().map(|told| told.header("webhook-id")).collect();
    assert_eq!(ids.len(), told.len(), "{told:#?}");
}

#[tokio::test]
async fn a_twentieth_of_the_events_that_comes_two_hours_late_revises_verdicts_and_pages_nobody_again() {
    const MINUTES: [usize; 6] = [200, 40, 40, 40, 40, 40];
    let mut world = World::start("[channels.late]\nkind = 'webhook'\nurl = '{url}/late'\n", &[]).await;
    let mut rule = many("signup", &["hook"]);
    rule["condition"] = json!({"above": 39});
    world.put("signups", &rule).await;
    (rule["channels"], rule["notify_revisions"]) = (json!(["late"]), json!(true));
    world.put("revised", &rule).await;
    world.judged("signups").await;
    world.judged("revised").await;
    let mut held_back = Vec::new();
    for number in MINUTES {
        world.send("signup", number - number / 20).await;
        let at = jiff::Timestamp::from_millisecond(world.now_ms()).unwrap().to_string();
        held_back.extend((0..number / 20).map(|who| json!({"type": "signup", "anonymousId": format!("late{who}"), "timestamp": at})));
        world.begin_minute();
        world.judged("signups").await;
        world.judged("revised").await;
    }
    for id in ["signups", "revised"] {
        assert_eq!(world.told(id).await, ["firing", "resolved"]);
    }
    world.pass(7_200);
    world.judged("signups").await;
    world.judged("revised").await;
    assert_eq!(held_back.len(), MINUTES.iter().sum::<usize>() / 20);
    assert_eq!(world.http().capture(&json!({"batch": held_back})).await.0, StatusCode::OK);
    world.http().settled().await;
    let revisions = |history: &Value| {
        let entries = history["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "revision");
        entries.map(|entry| (entry["was"]["value"].clone(), entry["is"]["value"].clone())).collect::<Vec<_>>()
    };
    for id in ["signups", "revised"] {
        let revised = async {
            while revisions(&world.history(id).await).len() < MINUTES.len() - 1 {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, revised).await.expect("not all is revised");
    }
    // The first minute was wrong as it was; the others are by what came late. That is no alert any more, and nobody is paged.
    world.pass(60);
    world.judged("signups").await;
    let history = world.history("signups").await;
    assert_eq!(revisions(&history), vec![(json!(38.0), json!(40.0)); MINUTES.len() - 1], "{history:#}");
    assert_eq!(changes(&history), ["fired", "resolved"]);
    assert_eq!(world.told("signups").await, ["firing", "resolved"]);
    assert_eq!(world.hooks().iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved"]);
    // Who has asked for it is told of the revisions, and of them alone.
    let told = world.receiver.wait("/late", 3).await;
    let kinds: Vec<&str> = told.iter().map(Received::kind).collect();
    assert_eq!((&kinds[..2], kinds[2..].iter().all(|kind| *kind == "revision")), (&["firing", "resolved"][..], true), "{kinds:?}");
    let (late, all) = (held_back.len(), MINUTES.iter().sum::<usize>());
    println!("{late} of {all} events came 2 h late: {} revisions, {} pages as before", MINUTES.len() - 1, world.hooks().len());
}

/// A rule `loud` that was judged by a clock two hours ahead, which is right again; and up to where it was.
async fn judged_ahead() -> (World, Value) {
    let mut world = World::start("", &[]).await;
    world.put("loud", &many("loud", &["hook"])).await;
    world.judged("loud").await;
    world.leap(7_200).await;
    let ahead = world.judged("loud").await["judged_through"].clone();
    world.pass(-7_200);
    world.until("loud", |rule| rule["judged_through"].as_str() < ahead.as_str()).await;
    (world, ahead)
}

#[tokio::test]
async fn a_rule_is_judged_on_where_the_clock_was_ahead_for_a_while() {
    let (mut world, ahead) = judged_ahead().await;
    world.begin_minute();
    world.send("loud", 3).await;
    world.begin_minute();
    let fires = world.until("loud", |rule| rule["state"] == "firing").await;
    assert!(fires["judged_through"].as_str() < ahead.as_str(), "{fires:#}");
    world.begin_minute();
    world.until("loud", |rule| rule["state"] == "ok").await;
    assert_eq!(world.told("loud").await, ["firing", "resolved"]);
    let history = world.history("loud").await;
    let set_back: Vec<&Value> = history["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "clock").collect();
    assert!(set_back.len() == 1 && set_back[0]["judged_through"].as_str() >= ahead.as_str(), "{history:#}");
}

#[tokio::test]
async fn an_outage_after_a_clock_that_was_ahead_leaves_out_no_slot() {
    let (mut world, _) = judged_ahead().await;
    world.begin_minute();
    let minute = world.now_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
    world.send("loud", 3).await;
    // Away until after what the clock said when it was ahead.
    world.pulse.kill().await;
    world.pass(3 * 3_600);
    let back_ms = world.now_ms();
    world.pulse.restart().await;
    world.judged("loud").await;
    let history = world.history("loud").await;
    assert_eq!(changes(&history), ["fired", "resolved"], "{history:#}");
    let ms = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let slots: Vec<&Value> = history["slots"].as_array().unwrap().iter().rev().filter(|slot| ms(&slot["slot"]) >= minute).collect();
    let starts: Vec<i64> = slots.iter().map(|slot| ms(&slot["slot"])).collect();
    let expected: Vec<i64> = (0..starts.len() as i64).map(|number| minute + number * MINUTE_MS).collect();
    assert!(starts == expected && starts.len() >= 180, "{starts:?}");
    assert!(slots.iter().all(|slot| ms(&slot["at"]) >= back_ms), "some stay as the clock that was ahead had them judged: {history:#}");
    assert_eq!(slots[0]["seen"][""]["value"], 3.0);
    // Once for all of them, but where it is judged before all that is due is known to be there.
    let told = world.told("loud").await;
    assert!(told == ["summary"] || told == ["firing", "resolved"], "{told:?}");
}
