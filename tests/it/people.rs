//! Who is who, from outside: what events and rulings tie belongs to one person in every report, whatever happens to pulse meanwhile.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::fleet::instance;
use crate::harness::kafka::Kafka;
use crate::harness::{Answer, Http, PATIENCE, POLL, Pulse, eventually, program};

/// An event so many minutes ago; an id that is empty is not sent.
fn event(anonymous: &str, user: &str, minutes_ago: i64) -> Value {
    let at_ms = jiff::Timestamp::now().as_millisecond() - minutes_ago * 60_000;
    let mut event = json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "view", "timestamp": at_ms});
    for (key, id) in [("anonymousId", anonymous), ("userId", user)] {
        if !id.is_empty() {
            event[key] = json!(id);
        }
    }
    event
}

async fn send(http: &Http, events: Vec<Value>) {
    let (status, answer) = http.capture(&json!(events)).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(events.len())), "{answer}");
    http.settled().await;
}

/// How many people there are, by two reports. What has just arrived is in answers that are computed anew; what was ruled is in all.
async fn people(http: &Http, refresh: bool) -> u64 {
    let (_, users) = http.query("users", &json!({"from": "-2d", "refresh": refresh})).await;
    let chart = json!({"from": "-2d", "series": [{"math": "unique_users"}], "refresh": refresh});
    let (_, chart) = http.query("trends", &chart).await;
    let total = users["result"]["total"].as_u64().unwrap();
    assert_eq!(chart["result"]["series"][0]["total"], json!(total), "{users} {chart}");
    total
}

/// A chart as it is now, with what names what it saw, and its result.
async fn chart_of_now(http: &Http) -> (Value, Value) {
    let series = json!([{"math": "unique_users"}, {"math": "total"}]);
    let chart = json!({"from": "-2d", "interval": "hour", "series": series});
    let asked = async {
        loop {
            let mut now = chart.clone();
            now["refresh"] = json!(true);
            let (_, answer) = http.query("trends", &now).await;
            let mut as_it_was = chart.clone();
            as_it_was["as_of"] = answer["meta"]["as_of"].clone();
            let (status, again) = http.query("trends", &as_it_was).await;
            assert_eq!(status, StatusCode::OK, "{again}");
            // How far the table is was read a moment before.
            if as_it_was["as_of"].is_string() && again["result"] == answer["result"] {
                return (as_it_was, again["result"].clone());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("no answer names what was there")
}

/// Whatever came since, the chart is what it was, and its bars are their people.
async fn is_as_it_was(http: &Http, (chart, result): &(Value, Value)) {
    let (_, again) = http.query("trends", chart).await;
    assert_eq!((&again["result"], &again["meta"]["as_of"]), (result, &chart["as_of"]));
    let buckets = result["buckets"].as_array().unwrap().iter().zip(result["series"][0]["values"].as_array().unwrap());
    let bars = std::iter::once((&Value::Null, &result["series"][0]["total"])).chain(buckets.filter(|(_, people)| **people != json!(0)));
    for (bucket, people) in bars {
        let mut of = chart.clone();
        (of["report"], of["bucket"]) = (json!("trends"), bucket.clone());
        let (_, users) = http.query("users", &json!({"of": of})).await;
        assert_eq!((&users["result"]["total"], &users["meta"]["as_of"]), (people, &chart["as_of"]), "{of} {users}");
    }
}

async fn rule(http: &Http, verb: &str, body: Value) -> Answer {
    let path = format!("/v1/identities/{verb}");
    http.send(http.request(Method::POST, &path, &http.read_key, body.to_string())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_login_belongs_to_the_one_who_logged_in_until_that_is_undone() {
    let mut pulse = Pulse::start().await;
    send(&pulse.http, vec![event("a 1", "", 60), event("a 1", "", 50)]).await;
    assert_eq!(people(&pulse.http, true).await, 1);
    let before = chart_of_now(&pulse.http).await;
    assert_eq!(before.1["series"][1]["total"], json!(2));
    let mut login = event("a 1", "ada", 40);
    (login["type"], login["traits"]) = (json!("identify"), json!({"plan": "free", "seats": 3}));
    let mut later = event("", "ada", 30);
    (later["type"], later["traits"]) = (json!("identify"), json!({"plan": "pro", "tags": ["x"]}));
    // The later one first: the order of arrival says nothing.
    send(&pulse.http, vec![later]).await;
    assert_eq!(people(&pulse.http, true).await, 2);
    send(&pulse.http, vec![login.clone(), event("a 2", "", 20)]).await;
    assert_eq!(people(&pulse.http, true).await, 2);
    is_as_it_was(&pulse.http, &before).await;
    // Two devices and a user are two people since one has logged in; before the next one does, too.
    let between = chart_of_now(&pulse.http).await;
    assert_eq!((&between.1["series"][0]["total"], &between.1["series"][1]["total"]), (&json!(2), &json!(5)));
    for made_up in ["", "1", "2.1.1.1.", "1.1.1.1.7_0-1'"] {
        let asked = json!({"from": "-2d", "series": [{}], "as_of": made_up});
        assert_eq!(pulse.http.query("trends", &asked).await.1["code"], "invalid_as_of", "{made_up}");
    }

    let (status, ada) = pulse.http.get("/v1/people/ada").await;
    assert_eq!((status, &ada["events"]), (StatusCode::OK, &json!(4)), "{ada}");
    assert_eq!(ada["traits"], json!({"plan": "pro", "seats": 3, "tags": ["x"]}));
    assert_eq!(ada["ids"], json!([{"id": "ada", "kind": "user"}, {"id": "a 1", "kind": "anonymous"}]));
    assert_eq!((&ada["ties"][0]["event"]["eventId"], &ada["ties"][0]["undone_at"]), (&login["eventId"], &Value::Null), "{ada}");
    assert_eq!(pulse.http.get("/v1/people/a%201").await.1, ada);
    let (_, page) = pulse.http.get("/v1/people/ada/events?limit=3").await;
    let next = format!("/v1/people/ada/events?limit=3&cursor={}", page["next"].as_str().unwrap());
    let (_, rest) = pulse.http.get(&next).await;
    assert_eq!((page["events"].as_array().unwrap().len(), rest["events"].as_array().unwrap().len()), (3, 1));
    assert_eq!((&rest["events"][0]["anonymousId"], &rest["next"]), (&json!("a 1"), &Value::Null));
    assert_eq!(pulse.http.get("/v1/people/nobody").await.0, StatusCode::NOT_FOUND);
    for (path, named) in
        [("/v1/people/nobody?x=1", "unknown parameter `x`"), ("/v1/people/ada/events?limit=1&limit=2", "`limit` is given twice")]
    {
        let (status, refused) = pulse.http.get(path).await;
        assert_eq!((status, &refused["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_parameter")), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(named), "{refused}");
    }

    let (status, undone) = rule(&pulse.http, "unmerge", json!({"userId": "ada"})).await;
    assert_eq!((status, undone["changed"].as_array().unwrap().len()), (StatusCode::OK, 1), "{undone}");
    assert_eq!(people(&pulse.http, false).await, 3);
    assert_eq!(rule(&pulse.http, "unmerge", json!({"anonymousId": "a 1", "userId": "ada"})).await.1, json!({"changed": []}));
    // It stays undone, whatever comes and whoever asks.
    send(&pulse.http, vec![event("a 1", "ada", 10)]).await;
    pulse.kill().await;
    pulse.restart().await;
    assert_eq!(people(&pulse.http, true).await, 3);
    pulse.end().await;
    let replayed = Command::new(program()).args(["replay", "--to-table", "rebuilt", "--swap", "--data-dir"]).arg(pulse.data_dir()).output();
    assert!(replayed.unwrap().status.success());
    pulse.restart().await;
    assert_eq!(people(&pulse.http, true).await, 3);
    assert!(!pulse.http.get("/v1/people/ada").await.1["ties"][0]["undone_at"].is_null());

    let (status, merged) = rule(&pulse.http, "merge", json!({"anonymousId": "a 1", "userId": "ada"})).await;
    assert_eq!((status, &merged["changed"][0]["userId"]), (StatusCode::OK, &json!("ada")), "{merged}");
    assert_eq!(people(&pulse.http, false).await, 2);
    assert_eq!(rule(&pulse.http, "merge", json!({"anonymousId": "a 2", "userId": "ada"})).await.0, StatusCode::OK);
    assert_eq!(people(&pulse.http, false).await, 1);
    // A tie that was made by hand says when, also once it is undone; one of an event says which.
    for device in ["a 1", "a 2"] {
        let (status, undone) = rule(&pulse.http, "unmerge", json!({"anonymousId": device})).await;
        let tie = &undone["changed"][0];
        assert_eq!(
            (status, tie["event"].is_null(), tie["merged_at"].is_null()),
            (StatusCode::OK, device == "a 2", device == "a 1"),
            "{tie}"
        );
        assert!(!tie["undone_at"].is_null(), "{tie}");
    }
    let (_, ada) = pulse.http.get("/v1/people/ada").await;
    let by_hand = ada["ties"].as_array().unwrap().iter().find(|tie| tie["anonymousId"] == "a 2").unwrap();
    assert!(by_hand["merged_at"].as_str().is_some_and(|made| Some(made) <= by_hand["undone_at"].as_str()), "{ada}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_device_belongs_to_each_in_turn_and_an_alias_makes_two_users_one() {
    let pulse = Pulse::start().await;
    let visits = [("d", "", 60), ("d", "ada", 50), ("d", "", 40), ("d", "bob", 30), ("d", "", 20), ("d", "guest", 10)];
    let mut events: Vec<Value> = visits.iter().map(|(device, user, ago)| event(device, user, *ago)).collect();
    events.reverse();
    send(&pulse.http, events).await;
    assert_eq!(people(&pulse.http, true).await, 2);
    let before = chart_of_now(&pulse.http).await;
    let events_of = async |id: &str| pulse.http.get(&format!("/v1/people/{id}")).await.1["events"].clone();
    assert_eq!((events_of("ada").await, events_of("bob").await), (json!(3), json!(3)));
    // Everywhere by the name of the one they are, who is never called `guest` or by their device.
    let last = pulse.http.query("users", &json!({"from": "-15m", "refresh": true})).await.1;
    assert_eq!(last["result"]["users"][0]["user"], json!("bob"), "{last}");
    let sessions = pulse.http.query("sessions", &json!({"from": "-2d", "list": true, "refresh": true})).await.1;
    let called = sessions["result"]["sessions"].as_array().unwrap().iter().map(|session| session["person"].as_str().unwrap());
    assert_eq!(called.collect::<BTreeSet<_>>(), BTreeSet::from(["ada"]), "the person of the first event: {sessions}");
    let (status, refused) = rule(&pulse.http, "merge", json!({"anonymousId": "ada", "userId": "bob"})).await;
    assert_eq!((status, &refused["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_id")), "{refused}");

    send(&pulse.http, vec![event("", "ada@new.example", 5)]).await;
    assert_eq!(people(&pulse.http, true).await, 3);
    let alias = json!({"userId": "ada@new.example", "previousId": "ada", "messageId": "alias-1"});
    let call = pulse.http.request(Method::POST, "/v1/alias", &pulse.http.write_key, alias.to_string());
    assert_eq!(pulse.http.send(call).await.unwrap().0, StatusCode::OK);
    pulse.http.settled().await;
    assert_eq!(people(&pulse.http, true).await, 2);
    is_as_it_was(&pulse.http, &before).await;
    assert_eq!((events_of("ada").await, events_of("ada%40new.example").await), (json!(5), json!(5)));
    assert_eq!(rule(&pulse.http, "unmerge", json!({"previousId": "ada"})).await.0, StatusCode::OK);
    assert_eq!(people(&pulse.http, false).await, 3);

    // Two sign up on one device, each with an alias: they stay two.
    for (user, ago, page) in [("eve", 8, 9), ("finn", 4, 2)] {
        let mut sign_up = event("", user, ago);
        (sign_up["type"], sign_up["previousId"]) = (json!("alias"), json!("kiosk"));
        send(&pulse.http, vec![event("kiosk", "", page), sign_up, event("kiosk", user, ago), event("kiosk", "", ago - 1)]).await;
    }
    // A device that is shared from now on has changed hands a moment before that is read.
    eventually(async || people(&pulse.http, true).await, 5).await;
    assert_eq!((events_of("eve").await, events_of("finn").await), (json!(4), json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_moment_are_in_the_order_in_which_they_were_sent() {
    let pulse = Pulse::start().await;
    let sent = (0..20).flat_map(|visitor| ["look", "click"].map(|name| (format!("v{visitor}"), name)));
    let at_ms = jiff::Timestamp::now().as_millisecond() - 60_000;
    let of = |(visitor, name): (String, &str)| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": name, "anonymousId": visitor, "timestamp": at_ms});
    send(&pulse.http, sent.map(of).collect()).await;
    for order in ["strict", "ordered"] {
        for (steps, counts) in [(["look", "click"], [20, 20]), (["click", "look"], [20, if order == "strict" { 0 } else { 20 }])] {
            let steps = steps.map(|step| json!({"event": step}));
            let funnel = json!({"from": "-1h", "window": "1h", "order": order, "steps": steps});
            let answer = pulse.http.query("funnel", &funnel).await.1;
            let counted = [0, 1].map(|step| answer["result"]["groups"][0]["steps"][step]["count"].as_u64().unwrap());
            assert_eq!(counted, counts, "{answer}");
        }
    }
    let paths = pulse.http.query("paths", &json!({"from": "-1h", "start": "look", "steps": 2})).await.1;
    assert!(paths.to_string().contains("\"click\""), "{paths}");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_undone_says_nothing_also_where_an_alias_of_both_ids_stands() {
    let pulse = Pulse::start().await;
    let mut alias = event("", "bob", 20);
    (alias["type"], alias["previousId"]) = (json!("alias"), json!("d"));
    send(&pulse.http, vec![event("d", "ada", 50), event("d", "bob", 40), event("d", "", 30), alias]).await;
    let events_of = async |id: &str| pulse.http.get(&format!("/v1/people/{id}")).await.1["events"].clone();
    let both = async || json!([events_of("ada").await, events_of("bob").await]);
    eventually(&both, json!([1, 3])).await;
    let login = json!({"anonymousId": "d", "userId": "bob"});
    assert_eq!(rule(&pulse.http, "unmerge", login.clone()).await.0, StatusCode::OK);
    eventually(&both, json!([2, 2])).await;
    let (status, made) = rule(&pulse.http, "merge", login).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    eventually(&both, json!([1, 3])).await;
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_shown_by_name_in_each_step_in_which_it_is() {
    let pulse = Pulse::start().await;
    let at_ms = jiff::Timestamp::now().as_millisecond() - 60_000;
    let ways = [("ada", ["home", "list", "home"]), ("bob", ["list", "home", "list"])];
    let events = ways.iter().flat_map(|(visitor, nodes)| {
        (0..).zip(nodes).map(move |(step, name)| {
            json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": name, "anonymousId": visitor, "timestamp": at_ms + step})
        })
    });
    send(&pulse.http, events.collect()).await;
    let chart = pulse.http.query("paths", &json!({"from": "-1h", "steps": 3})).await.1["result"].clone();
    let nodes =
        chart["nodes"].as_array().unwrap().iter().map(|node| (node["step"].as_u64(), node["name"].as_str(), node["sessions"].as_u64()));
    let expected = [1, 2, 3].iter().flat_map(|step| ["home", "list"].map(|name| (Some(*step), Some(name), Some(1))));
    assert_eq!(nodes.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{chart}");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_one_moment_have_a_device_in_the_order_in_which_they_came() {
    let pulse = Pulse::start().await;
    let at_ms = jiff::Timestamp::now().as_millisecond() - 60_000;
    let of = |kiosk: usize, name: &str, user: &str, later_ms: i64| {
        json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": name,
        "anonymousId": format!("kiosk {kiosk}"), "userId": (!user.is_empty()).then_some(user), "timestamp": at_ms + later_ms})
    };
    // As exports with whole seconds have them: which of two users has the greater key is chance.
    let mut events = Vec::new();
    for kiosk in 0..20 {
        let [first, second] = ["first", "second"].map(|user| format!("{user} {kiosk}"));
        events.push(of(kiosk, "look", "", -1_000));
        events.push(of(kiosk, "identify", &first, 0));
        events.push(of(kiosk, "enter", &second, 0));
        events.push(of(kiosk, "order", "", 0));
    }
    send(&pulse.http, events).await;
    let counts = async |from: &str, to: &str| {
        let steps = [json!({"event": from}), json!({"event": to})];
        let answer = pulse.http.query("funnel", &json!({"from": "-1h", "window": "1h", "steps": steps, "refresh": true})).await.1;
        [0, 1].map(|step| answer["result"]["groups"][0]["steps"][step]["count"].as_u64().unwrap())
    };
    assert_eq!([counts("enter", "order").await, counts("look", "identify").await], [[20, 20]; 2]);
    assert_eq!(counts("identify", "order").await, [20, 0]);
    // Lists are in the same order, newest first.
    let listed = pulse.http.get("/v1/people/second%200/events").await.1;
    let names: Vec<&str> = listed["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["order", "enter"], "{listed}");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_ties_nobody_is_refused() {
    let pulse = Pulse::start().await;
    let refused = [
        ("merge", json!({"userId": "ada"}), "invalid_id"),
        ("merge", json!({"anonymousId": "a", "userId": "undefined"}), "invalid_id"),
        ("merge", json!({"anonymousId": "a", "previousId": "b", "userId": "ada"}), "invalid_id"),
        ("merge", json!({"anonymousId": "a", "userId": "a"}), "invalid_id"),
        ("merge", json!({"anonymousId": 5, "userId": "a"}), "invalid_id"),
        ("merge", json!({"anonymousID": "a", "userId": "a"}), "unknown_key"),
        ("merge", json!([]), "invalid_request"),
        ("unmerge", json!({}), "invalid_id"),
        ("unmerge", json!({"userId": "ada"}), "unknown_tie"),
    ];
    for (verb, body, code) in refused {
        let (status, answer) = rule(&pulse.http, verb, body.clone()).await;
        assert!(status.is_client_error() && answer["code"] == code, "{verb} {body}: {status} {answer}");
    }
    let unnamed = pulse.http.request(Method::POST, "/v1/identities/merge", &pulse.http.write_key, "{}");
    assert_eq!(pulse.http.send(unnamed).await.unwrap().0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_a_tie_and_its_event_loses_and_doubles_neither() {
    let mut pulse = Pulse::start().await;
    send(&pulse.http, vec![event("a", "", 60)]).await;
    pulse.kill().await;
    assert!(pulse.restart_with(&[("FAILPOINTS", "load.tied=return")]).await);
    let (status, _) = pulse.http.capture(&json!([event("a", "ada", 50), event("", "ada", 40)])).await;
    assert_eq!(status, StatusCode::OK);
    let ended = tokio::time::timeout(PATIENCE, pulse.child.wait()).await.expect("the tie was not written").unwrap();
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
    pulse.restart().await;
    assert_eq!(pulse.http.settled().await["stored"], 3);
    assert_eq!(people(&pulse.http, true).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_undone_stays_undone_though_another_instance_loads_the_tie_again_and_is_killed() {
    const PAIRS: u64 = 20;
    let (kafka, cluster) = (Kafka::start(1).await, Cluster::start(1).await);
    let first = instance(&kafka, &cluster, "ingest,process,load,query", None).await;
    let mut second = instance(&kafka, &cluster, "process,load", Some(&first)).await;
    let ids = |pair: u64| (format!("device {pair}"), format!("user {pair}"));
    let events = |pair: u64| [event(&ids(pair).0, "", 60), event(&ids(pair).0, &ids(pair).1, 50)];
    let log_in = async || {
        let sent: Vec<Value> = (0..PAIRS).flat_map(events).collect();
        assert_eq!(first.http.capture(&json!(sent)).await.0, StatusCode::OK);
    };
    // By one report: another instance's ties may become known between two.
    let found = async || {
        let chart = json!({"from": "-2d", "series": [{"math": "unique_users"}], "refresh": true});
        first.http.query("trends", &chart).await.1["result"]["series"][0]["total"].clone()
    };
    let second_loads = async || {
        log_in().await;
        second.http.counter("pulse_blocks_stored_total").await > 0
    };
    eventually(second_loads, true).await;
    first.http.settled().await;
    eventually(&found, json!(PAIRS)).await;
    for round in 0..2 {
        let undo = async {
            for (device, user) in (0..PAIRS).filter(|pair| pair % 2 == round).map(ids) {
                let (status, undone) = rule(&first.http, "unmerge", json!({"anonymousId": device, "userId": user})).await;
                assert_eq!((status, undone["changed"].as_array().unwrap().len()), (StatusCode::OK, 1), "{undone}");
            }
        };
        let load = async {
            for _ in 0..10 {
                log_in().await;
            }
        };
        tokio::join!(undo, load);
        second.kill().await;
        log_in().await;
        second.restart().await;
    }
    first.http.settled().await;
    eventually(&found, json!(2 * PAIRS)).await;
    for pulse in [first, second] {
        assert!(pulse.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_makes_up_a_hundred_thousand_users_for_one_device_ties_none() {
    let pulse = Pulse::start().await;
    send(&pulse.http, vec![event("d", "", 60), event("a", "", 50), event("a", "ada", 40)]).await;
    for batch in 0..100 {
        let events: Vec<Value> = (0..1_000).map(|user| event("d", &format!("user {batch} {user}"), 30)).collect();
        assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK);
    }
    assert_eq!(pulse.http.settled().await["stored"], 100_003);
    assert_eq!(people(&pulse.http, true).await, 100_002);
    assert_eq!(pulse.http.get("/v1/people/d").await.1["events"], json!(1));
    assert_eq!(pulse.http.get("/v1/people/ada").await.1["events"], json!(2));
}
