//! Rows of the fault catalogue on real brokers and servers: what is away for a while, who comes and goes, what comes twice.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::clock::Clock;
use crate::harness::fault::{absence, nothing_is_accepted, nothing_is_ready, something_is_accepted};
use crate::harness::fleet::instance;
use crate::harness::kafka::Kafka;
use crate::harness::load::{Moments, check_visits, rounds, under_load_on};
use crate::harness::report::acks;
use crate::harness::{Http, PATIENCE, Pulse, program};

async fn on_kafka(kafka: &Kafka) -> Pulse {
    Pulse::start_with(&kafka.environment("faults")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_brokers_of_three_away_nothing_is_accepted_or_ready_and_with_all_three_killed_nothing_is_lost() {
    let mut kafka = Kafka::start(3).await;
    let mut round = 0;
    under_load_on(on_kafka(&kafka).await, (31, rounds(2)), async |pulse, _, moments| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        round += 1;
        if round % 2 == 1 {
            let alive = moments.below(3);
            (0..3).filter(|broker| *broker != alive).for_each(|broker| kafka.kill(broker));
        } else {
            (0..3).for_each(|broker| kafka.kill(broker));
        }
        // What was on its way is still answered; after that nothing can be.
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::join!(nothing_is_accepted(&pulse.http, absence(8, 60)), nothing_is_ready(&pulse.http, absence(4, 40)));
        let first = moments.below(3);
        kafka.restart_missing(first).await;
        something_is_accepted(&pulse.http).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_freezes_and_comes_back_late_loses_and_doubles_nothing() {
    let kafka = Kafka::start(3).await;
    let mut broker = 0;
    under_load_on(on_kafka(&kafka).await, (32, rounds(2)), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        kafka.freeze(broker);
        tokio::time::sleep(absence(8, 45)).await;
        something_is_accepted(&pulse.http).await;
        kafka.thaw(broker);
        kafka.ready().await;
        broker = (broker + 1) % 3;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_come_and_go_lose_and_double_nothing() {
    let kafka = Kafka::start(1).await;
    let cluster = Cluster::start(1).await;
    let stays = instance(&kafka, &cluster, "ingest,query", None).await;
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(instance(&kafka, &cluster, "process,load", Some(&stays)).await);
    }
    under_load_on(stays, (33, rounds(4)), async |_, _, moments| {
        tokio::time::sleep(Duration::from_secs(2) + moments.next(2_000)).await;
        let goes = &mut fleet[moments.below(3)];
        goes.kill().await;
        tokio::time::sleep(moments.next(1_500)).await;
        goes.restart().await;
    })
    .await;
    for pulse in fleet {
        let said = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
        assert!(said.contains("loading partition") && !said.contains("panicked"), "{said}");
        assert!(pulse.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_for_long_is_not_noticed_by_those_who_send() {
    let mut cluster = Cluster::start(1).await;
    let pulse = Pulse::start_with(&cluster.environment()).await;
    under_load_on(pulse, (34, 1), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = acks(&pulse.http).await;
        cluster.kill(0);
        tokio::time::sleep(absence(10, 600)).await;
        let during = acks(&pulse.http).await;
        cluster.restart(0).await;
        let (back, stored) = (Instant::now(), stored(&pulse.http).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let rate = (self::stored(&pulse.http).await - stored) as f64 / back.elapsed().as_secs_f64();
        println!("ack p50 and p99, ms: {before:?} before, {during:?} while the store was away; then {rate:.0} events/s were stored");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulse_stops_and_starts_without_its_store_and_stores_everything_once_that_is_there() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    let mut pulse = Pulse::start_with(&cluster.environment()).await;
    let event = |number: u32| json!({"eventId": format!("{number:08x}-0000-4000-8000-000000000036"), "type": "x", "anonymousId": "ada"});
    assert_eq!(pulse.http.capture(&event(1)).await.0, StatusCode::OK);
    // Its schema is made once it is there.
    cluster.restart(0).await;
    assert_eq!(pulse.http.settled().await["stored"], 1);
    cluster.kill(0);
    for number in 2..100 {
        assert_eq!(pulse.http.capture(&event(number)).await.0, StatusCode::OK);
    }
    // By now the loader waits for the store.
    tokio::time::sleep(Duration::from_secs(1)).await;
    pulse.end().await;
    pulse.restart().await;
    assert_eq!(pulse.http.capture(&event(100)).await.0, StatusCode::OK);
    cluster.restart(0).await;
    assert_eq!(pulse.http.settled().await["stored"], 100);
    assert_eq!(pulse.http.events().await.len(), 100);
    assert!(pulse.stop().await);
}

/// Events that the books show as stored, once the store answers.
async fn stored(http: &Http) -> u64 {
    let answered = async {
        loop {
            if let (StatusCode::OK, ledger) = http.get("/v1/ledger").await {
                return ledger["total"]["stored"].as_u64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the ledger does not answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_come_again_and_again_late_and_in_any_order_are_stored_once_in_the_sessions_of_the_sorted_ones() {
    const EVENTS: u64 = 2_000;
    const DAY_MS: u64 = 86_400_000;
    /// When copies come, and by how many seconds the clock is ahead by then. In the first round each event comes twice.
    const ROUNDS: [(&str, u64); 5] =
        [("in the same request", 0), ("in another", 0), ("after a kill", 0), ("an hour later", 4_000), ("ten days later", 10 * 86_400)];
    let clock = Clock::new();
    let mut pulse = Pulse::start_with(&clock.environment()).await;
    let now_ms = u64::try_from(pulse::clock::now_ms()).unwrap();
    let mut moments = Moments::new(35);
    let mut events: Vec<Value> = (0..EVENTS)
        .map(|number| {
            // Six visits in a month, each of some three events within three hours: a pause is sometimes a session's end.
            let at_ms = now_ms - moments.below(6) as u64 * 29 * DAY_MS / 5 - moments.below(3 * 3_600_000) as u64;
            let id = format!("{number:08x}-0000-4000-8000-000000000035");
            json!({"eventId": id, "type": "late", "anonymousId": format!("visitor-{}", number % 97), "timestamp": at_ms})
        })
        .collect();
    let mut copies = 0;
    for (round, (when, ahead_s)) in ROUNDS.into_iter().enumerate() {
        clock.set_ahead(ahead_s.cast_signed());
        events.iter_mut().for_each(|event| event["sentAt"] = json!(now_ms + ahead_s * 1_000));
        for at in (1..events.len()).rev() {
            events.swap(at, moments.below(at + 1));
        }
        // Each round on connections of its own.
        let http = pulse.http.fresh();
        for batch in events.chunks(100) {
            let sent: Vec<&Value> = if round == 0 { batch.iter().chain(batch).collect() } else { batch.iter().collect() };
            assert_eq!(http.capture(&json!(sent)).await.0, StatusCode::OK);
        }
        copies += EVENTS;
        let total = http.settled().await;
        assert_eq!((&total["stored"], &total["duplicate"]), (&json!(EVENTS), &json!(copies)), "{when}: {total}");
        if round == 1 {
            pulse.kill().await;
            pulse.restart().await;
        }
    }
    let shown = pulse.http.events().await;
    let ids: std::collections::HashSet<String> = shown.iter().map(|event| event["eventId"].to_string()).collect();
    assert_eq!((shown.len() as u64, ids.len() as u64), (EVENTS, EVENTS));
    let sessions = check_visits(&pulse.http, "late", &shown, 35).await;
    println!("{EVENTS} events of {sessions} sessions, {copies} copies, 0 lost, 0 doubled, no session differs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_migrations_at_once_leave_one_schema() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let migrate = |number: usize, arguments: &[&str]| {
        let mut command = tokio::process::Command::new(program());
        let dir = dir.path().join(number.to_string());
        command.arg("migrate").args(arguments).arg("--data-dir").arg(dir).envs(cluster.environment());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.output()
    };
    let ended = futures_util::future::join_all((0..5).map(|number| migrate(number, &[]))).await;
    for output in ended {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8(migrate(0, &["--status"]).await.unwrap().stdout).unwrap();
    assert!(said.contains("present") && !said.contains("missing"), "{said}");
}
