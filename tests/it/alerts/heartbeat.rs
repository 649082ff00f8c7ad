//! The heartbeat of a channel, for a dead man's switch: it comes while alerts are judged, and stops where they are not.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::{World, many};
use crate::harness::{PATIENCE, signal};

const BEAT: &str = "[channels.beat]\nkind = 'webhook'\nurl = '{url}/beat'\nheartbeat = '1s'\n";
/// As long as several heartbeats would take: where none comes in it they have stopped.
const SILENCE: Duration = Duration::from_secs(5);

/// Waits until more of them come.
async fn until_heard(world: &World) {
    let told = world.receiver.wait("/beat", world.receiver.at("/beat").len() + 2).await;
    assert!(told.iter().all(|told| told.kind() == "heartbeat" && told.body["pulse"]["text"] == "Alerts are judged."), "{told:#?}");
}

/// Waits until none comes any more.
async fn until_silent(world: &World) {
    let silent = async {
        loop {
            let before = world.receiver.at("/beat").len();
            tokio::time::sleep(SILENCE).await;
            if world.receiver.at("/beat").len() == before {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, silent).await.expect("the heartbeat goes on");
}

#[tokio::test]
async fn the_heartbeat_stops_where_pulse_dies_or_hangs_or_nobody_has_the_role() {
    let mut world = World::start(BEAT, &[]).await;
    until_heard(&world).await;
    signal(world.pulse.pid(), rustix::process::Signal::STOP);
    until_silent(&world).await;
    signal(world.pulse.pid(), rustix::process::Signal::CONT);
    until_heard(&world).await;
    world.pulse.kill().await;
    until_silent(&world).await;
    // All goes on but what judges.
    assert!(world.pulse.restart_with(&[("PULSE__ROLES", "ingest,process,load,query")]).await);
    world.send("visit", 1).await;
    until_silent(&world).await;
    world.pulse.end().await;
    world.pulse.restart().await;
    until_heard(&world).await;
}

#[tokio::test]
async fn the_heartbeat_stops_where_the_store_is_away() {
    let world = World::start(BEAT, &[("PULSE__CLICKHOUSE__ENGINE__MAX_SILENCE", "1h".to_owned())]).await;
    until_heard(&world).await;
    let engine = world.pulse.engine_pid();
    signal(engine, rustix::process::Signal::STOP);
    until_silent(&world).await;
    signal(engine, rustix::process::Signal::CONT);
    until_heard(&world).await;
}

#[tokio::test]
async fn the_heartbeat_stops_where_what_comes_in_is_not_loaded() {
    let mut world = World::start(BEAT, &[("PULSE__ROLES", "ingest,process,query,alert,load".to_owned())]).await;
    world.put("visits", &many("visit", &[])).await;
    world.judged("visits").await;
    world.pulse.end().await;
    assert!(world.pulse.restart_with(&[("PULSE__ROLES", "ingest,process,query,alert")]).await);
    let visit = async |world: &World| {
        assert_eq!(world.http().capture(&json!({"batch": [{"type": "visit", "anonymousId": "ada"}]})).await.0, StatusCode::OK);
    };
    visit(&world).await;
    // A slot that waits for some minutes is no dead man.
    world.pass(300);
    world.until("visits", |rule| rule["state"] == "delayed").await;
    until_heard(&world).await;
    world.pass(600);
    visit(&world).await;
    until_silent(&world).await;
    world.pulse.end().await;
    world.pulse.restart().await;
    world.http().settled().await;
    world.judged("visits").await;
    until_heard(&world).await;
}
