//! What stands still for one rule stands still for all: no storm while it lasts, and none when it is over.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask, many};
use crate::harness::receiver::Received;
use crate::harness::{PATIENCE, POLL};

/// Rules that tell a channel, as many as somebody has who watches everything, and never fire.
fn rules(number: usize, channel: &str) -> String {
    let rule = |number: usize| {
        format!(
            "[alerts.r{number}]\nreport = 'trends'\ninterval = 'minute'\nquestion = {{series = [{{event = 'e{number}'}}]}}\n\
             condition = {{above = 9}}\nevaluation_delay = '0s'\nmissed_after = '3m'\nchannels = ['{channel}']\n\
             labels = {{team = 'shop', number = '{number}'}}\n"
        )
    };
    (0..number).map(rule).collect()
}

async fn silence(world: &World, id: &str, until: &str) {
    let (status, answer) = ask(world.http(), Method::POST, &format!("/v1/alerts/{id}/silence"), &json!({"until": until})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

async fn visit(world: &World) {
    assert_eq!(world.http().capture(&json!({"batch": [{"type": "visit", "anonymousId": "ada"}]})).await.0, StatusCode::OK);
}

fn kinds(told: &[Received]) -> Vec<&str> {
    told.iter().map(Received::kind).collect()
}

#[tokio::test]
async fn rules_that_wait_are_one_notice_a_channel_and_a_silence_holds_for_it_too() {
    let more = format!("{}[channels.quiet]\nkind = 'webhook'\nurl = '{{url}}/quiet'\n", rules(50, "hook"));
    let mut world = World::start(&more, &[("PULSE__ROLES", "ingest,process,query,alert,load".to_owned())]).await;
    let rule = json!({
        "report": "trends", "question": {"series": [{"event": "visit"}]}, "interval": "minute", "condition": {"above": 9},
        "channels": ["quiet"], "evaluation_delay": "0s", "missed_after": "3m",
    });
    world.put("silent", &rule).await;
    silence(&world, "silent", "2040-01-01").await;
    world.pass(60);
    visit(&world).await;
    world.judged("silent").await;
    world.judged("r49").await;
    world.pulse.end().await;
    assert!(world.pulse.restart_with(&[("PULSE__ROLES", "ingest,process,query,alert")]).await);
    visit(&world).await;
    for id in ["r0", "r49", "silent"] {
        world.pass(120);
        visit(&world).await;
        world.until(id, |rule| rule["state"] == "delayed").await;
    }
    world.pass(240);
    let told = world.receiver.wait("/hook", 1).await;
    let text = told[0].body["pulse"]["text"].as_str().unwrap();
    assert!(text.contains("events are on their way") && text.contains("r0, r1, ") && text.contains(" and 30 more"), "{text}");
    let labels = &told[0].body["commonLabels"];
    assert_eq!((&labels["team"], &labels["number"], &labels["alertname"]), (&json!("shop"), &Value::Null, &json!("50 rules")));
    assert!(world.receiver.at("/quiet").is_empty(), "it is silenced");
    // What still holds when the silence is over is told then.
    silence(&world, "silent", "2020-01-01").await;
    assert_eq!(kinds(&world.receiver.wait("/quiet", 1).await), ["delayed"]);

    world.pulse.end().await;
    world.pulse.restart().await;
    world.http().settled().await;
    let told = world.receiver.wait("/hook", 2).await;
    world.receiver.wait("/quiet", 2).await;
    for id in ["r0", "r25", "r49", "silent"] {
        world.judged(id).await;
        let history = world.history(id).await;
        let events: Vec<&Value> = history["history"].as_array().unwrap().iter().map(|entry| &entry["event"]).collect();
        assert!(events.contains(&&json!("delayed")) && events.contains(&&json!("judging")), "{history:#}");
        let said = history["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "told").count();
        assert_eq!(said, 2, "{history:#}");
    }
    assert_eq!(told[0].body["groupKey"], told[1].body["groupKey"]);
    assert_eq!(kinds(&world.hooks()), ["delayed", "judging"], "{:#?}", world.hooks());
    assert_eq!(kinds(&world.receiver.at("/quiet")), ["delayed", "judging"], "{:#?}", world.receiver.at("/quiet"));
    tokio::time::timeout(PATIENCE, world.pulse.end()).await.unwrap();
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_no_failure_of_its_rule() {
    let more = format!("{}[channels.other]\nkind = 'webhook'\nurl = '{{url}}/other'\n", rules(3, "hook"));
    let mut world = World::start(&more, &[]).await;
    let mut other = many("none", &["other"]);
    other["missed_after"] = json!("3m");
    world.put("other", &other).await;
    world.pass(60);
    for id in ["r0", "r1", "r2", "other"] {
        world.judged(id).await;
    }
    world.pulse.end().await;
    // No question is answered in so short a time.
    assert!(world.pulse.restart_with(&[("PULSE__QUERY__MAX_TIME", "1us")]).await);
    world.pass(180);
    for id in ["r0", "r1", "r2", "other"] {
        world.until(id, |rule| rule["state"] == "delayed").await;
    }
    world.pass(240);
    let told = world.receiver.wait("/hook", 1).await;
    let text = told[0].body["pulse"]["text"].as_str().unwrap();
    assert!(text.contains("longer than allowed, so these cannot be judged: r0, r1, r2"), "{text}");
    // Of a rule that is gone nobody hears that it is judged again, but that it is over.
    assert_eq!(kinds(&world.receiver.wait("/other", 1).await), ["delayed"]);
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/alerts/other", &Value::Null).await.0, StatusCode::OK);
    let told = world.receiver.wait("/other", 2).await;
    let ends = [&told[1].body["status"], &told[1].body["pulse"]["text"]];
    assert_eq!(ends, [&json!("resolved"), &json!("none of these waits any more: 1 gone, or tell this channel no more")]);
    assert_eq!(told[0].body["groupKey"], told[1].body["groupKey"]);
    assert!(world.http().counter("pulse_alert_evaluations_total{outcome=\"overloaded\"}").await > 0);
    assert_eq!(world.http().counter("pulse_alert_evaluations_total{outcome=\"failed\"}").await, 0);
    let delivered = "pulse_alert_notices_total{kind=\"delayed\",channel=\"hook\",outcome=\"delivered\"}";
    let counted = async {
        while !world.http().text("/metrics").await.contains(delivered) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the delivery is not counted");
    world.pulse.end().await;
    world.pulse.restart().await;
    world.receiver.wait("/hook", 2).await;
    assert_eq!(kinds(&world.hooks()), ["delayed", "judging"], "{:#?}", world.hooks());
}
