//! Receivers that fail a few times or for a day, or answer more than anybody wants to hear.

use std::collections::BTreeSet;

use serde_json::json;

use super::{World, largest};
use crate::harness::eventually;
use crate::harness::receiver::{Reaction, Receiver};

/// The 64 KiB that are read of an answer, and what lies in the buffers of both ends of a connection that nobody reads on.
const FEW_BYTES: usize = 1 << 20;

#[tokio::test]
async fn a_notice_that_is_answered_500_three_times_is_taken_the_fourth_time_with_a_body_without_an_end_and_past_every_proxy() {
    let proxy = Receiver::start().await;
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let mut world = World::start("", &names.map(|name| (name, proxy.url("")))).await;
    world.put("orders", &largest("order", &["hook"])).await;
    world.judged("orders").await;
    let fails = Reaction::Status(500, "");
    world.receiver.react([fails.clone(), fails.clone(), fails, Reaction::Endless]);
    world.order(9).await;
    world.pass(60);
    let ended = world.entry("orders", |entry| entry["outcome"] == "delivered").await;
    assert_eq!(ended["attempts"], 4, "{ended:#}");
    let tried = world.hooks();
    let ids: BTreeSet<&str> = tried.iter().map(|tried| tried.header("webhook-id")).collect();
    assert_eq!((tried.len(), ids.len()), (4, 1), "{tried:#?}");
    assert!(tried.iter().all(|again| again.text == tried[0].text), "{tried:#?}");
    println!("of an answer without an end {} bytes left the receiver", world.receiver.endless_bytes());
    assert!(world.receiver.endless_bytes() < FEW_BYTES, "{}", world.receiver.endless_bytes());
    assert_eq!(proxy.connections(), 0, "a proxy of the environment was asked");
    assert_eq!(world.http().get("/v1/channels/hook").await.1["waiting"], json!(0));
}

#[tokio::test]
async fn a_notice_that_is_not_taken_for_a_day_is_given_up_and_stands_beside_its_channel() {
    let mut world = World::start("", &[]).await;
    world.put("orders", &largest("order", &["hook"])).await;
    world.judged("orders").await;
    world.receiver.react(std::iter::repeat_n(Reaction::Status(503, ""), 1_000));
    world.order(9).await;
    world.pass(60);
    world.receiver.wait("/hook", 1).await;
    let channel = async || {
        let channel = world.http().get("/v1/channels/hook").await.1;
        (channel["failed"]["outcome"].clone(), channel["failed"]["why"].clone(), channel["waiting"].clone())
    };
    let why = json!("the receiver answers 503");
    eventually(&channel, (json!("retried"), why.clone(), json!(1))).await;
    world.clock.set_ahead(world.ahead_s + 25 * 3_600);
    eventually(&channel, (json!("given_up"), why, json!(0))).await;
    let tried = world.hooks();
    let ids: BTreeSet<&str> = tried.iter().map(|tried| tried.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "{tried:#?}");
}
