//! Rules about each value of a breakdown that has more of them than are watched.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask, many};
use crate::harness::{PATIENCE, POLL};

/// So many events of a plan, of an amount each.
fn of_plan(plan: &str, number: usize, amount: u32) -> Vec<Value> {
    let event = |who: usize| json!({"type": "buy", "anonymousId": format!("v{who}"), "properties": {"plan": plan, "amount": amount}});
    (0..number).map(event).collect()
}

async fn send(world: &World, events: Vec<Value>) {
    assert_eq!(world.http().capture(&json!({"batch": events})).await.0, StatusCode::OK);
    world.http().settled().await;
}

#[tokio::test]
async fn verdicts_are_not_revised_where_no_event_came_late_whatever_is_the_largest_of_all_slots() {
    let mut world = World::start("", &[]).await;
    let mut rule = many("buy", &["hook"]);
    rule["question"]["breakdown"] = json!("properties.plan");
    (rule["max_groups"], rule["notify_revisions"]) = (json!(1), json!(true));
    world.put("plans", &rule).await;
    world.judged("plans").await;
    for (plan, number) in [("a", 3), ("b", 10)] {
        send(&world, of_plan(plan, number, 1)).await;
        world.pass(60);
        world.judged("plans").await;
    }
    assert_eq!(world.told("plans").await, ["firing", "firing"]);
    // The next owner looks at all that was judged.
    world.pulse.end().await;
    world.pulse.restart().await;
    let revised = async {
        while world.http().counter("pulse_alert_evaluations_total{outcome=\"revised\"}").await == 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, revised).await.expect("nothing was looked at again");
    // What comes of it is written before what comes of the next minute.
    world.pass(60);
    world.judged("plans").await;
    let history = world.history("plans").await;
    assert!(history["history"].as_array().unwrap().iter().all(|entry| entry["event"] != "revision"), "{history:#}");
    let of_a = |slot: &Value| slot["seen"]["\"a\""]["value"] == 3.0;
    assert!(history["slots"].as_array().unwrap().iter().any(of_a), "{history:#}");
    assert!(!world.told("plans").await.contains(&"revision".to_owned()));
}

#[tokio::test]
async fn what_is_behind_the_highest_averages_is_counted_though_others_come_more_often() {
    let mut world = World::start("", &[]).await;
    send(&world, [of_plan("few", 6, 100), of_plan("many", 20, 10), of_plan("most", 30, 20)].concat()).await;
    world.pass(60);
    let average = json!({"event": "buy", "math": "avg", "property": "properties.amount"});
    let rule = json!({
        "report": "trends", "question": {"series": [average], "breakdown": "properties.plan"}, "interval": "minute",
        "condition": {"above": 50}, "max_groups": 2, "min_count": 5, "evaluation_delay": "0s",
    });
    let fired = async |rule: &Value| {
        let (status, tested) = ask(world.http(), Method::POST, "/v1/alerts/any/test", &json!({"from": "-1h", "rule": rule})).await;
        assert_eq!(status, StatusCode::OK, "{tested}");
        let changes = tested["changes"].as_array().unwrap().iter().filter(|change| change["change"] == "fired");
        changes.map(|change| (change["line"].clone(), change["value"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(fired(&rule).await, [(json!("\"few\""), json!(100.0))]);
    let mut of_more = rule.clone();
    of_more["min_count"] = json!(7);
    assert!(fired(&of_more).await.is_empty(), "six are behind it");
    // The lines of a formula are the largest of its first series, what is behind them is counted of its divisor.
    let mut ratio = rule.clone();
    ratio["question"] = json!({"series": [average, {"event": "buy"}], "formula": "A/B", "breakdown": "properties.plan"});
    ratio["condition"] = json!({"above": 10});
    assert_eq!(fired(&ratio).await.iter().map(|(line, _)| line).collect::<Vec<_>>(), ["\"few\""]);
}

/// With a rule `plans`, of each plan that is bought more than so often in a minute.
async fn with_a_rule_of_plans(above: u64, max_groups: usize) -> World {
    let world = World::start("", &[]).await;
    let mut rule = many("buy", &[]);
    rule["question"]["breakdown"] = json!("properties.plan");
    (rule["condition"], rule["max_groups"]) = (json!({"above": above}), json!(max_groups));
    world.put("plans", &rule).await;
    world.judged("plans").await;
    world
}

#[tokio::test]
async fn the_history_of_a_wide_rule_is_read_page_by_page_and_each_is_bounded() {
    const MINUTES: usize = 10;
    let mut world = with_a_rule_of_plans(2, 500).await;
    let long = |plan: usize| format!("{plan}{}", "x".repeat(800));
    for first in (0..500).step_by(100) {
        send(&world, (first..first + 100).flat_map(|plan| of_plan(&long(plan), 1, 1)).collect()).await;
    }
    world.pass(60);
    world.judged("plans").await;
    world.pass(60 * MINUTES as i64);
    world.judged("plans").await;
    let page = async |before: &str| {
        let path = format!("/v1/alerts/plans/history?limit=1000&before={before}");
        let text = world.http().text(&path).await;
        assert!(text.len() < 5 << 20, "{} bytes", text.len());
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let (mut seen, mut pages, mut before) = (Vec::new(), 0, "now".to_owned());
    loop {
        let history = page(&before).await;
        seen.extend(history["slots"].as_array().unwrap().iter().map(|slot| slot["slot"].as_str().unwrap().to_owned()));
        pages += 1;
        match history["next"]["slots"].as_str() {
            Some(next) => before = next.to_owned(),
            None => break,
        }
    }
    assert!(pages > 1 && seen.len() > MINUTES, "{} slots on {pages} pages", seen.len());
    assert!(seen.is_sorted_by(|newer, older| newer > older), "each once, the newest first: {seen:?}");
}

#[tokio::test]
async fn a_slot_with_more_changes_than_a_page_is_read_to_its_end() {
    const LINES: usize = 250;
    let mut world = with_a_rule_of_plans(0, 2 * LINES).await;
    send(&world, (0..LINES).flat_map(|plan| of_plan(&format!("{plan:03}"), 1, 1)).collect()).await;
    world.pass(60);
    world.until("plans", |rule| rule["firing"] == LINES).await;
    let (mut fired, mut pages, mut before) = (Vec::new(), 0, "now".to_owned());
    loop {
        let (status, history) = world.http().get(&format!("/v1/alerts/plans/history?before={before}")).await;
        assert_eq!(status, StatusCode::OK, "{history}");
        let of_page = history["history"].as_array().unwrap().iter().filter(|entry| entry["change"] == "fired");
        fired.extend(of_page.map(|entry| entry["line"].as_str().unwrap().to_owned()));
        pages += 1;
        match history["next"]["history"].as_str() {
            Some(next) => before = next.to_owned(),
            None => break,
        }
    }
    assert!(pages > 2, "{pages} pages");
    let lines = fired.iter().collect::<BTreeSet<_>>();
    assert_eq!((fired.len(), lines.len()), (LINES, LINES), "each once");
}
