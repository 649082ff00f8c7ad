//! Records that Kafka deletes before they were read, and records that it loses although it had acknowledged them: pulse says so.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::fleet::{environment, instance};
use crate::harness::kafka::{Kafka, Setup};
use crate::harness::{PATIENCE, Pulse, program};

const PARTITIONS: i32 = 4;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Sends batches of 25 events and returns their ids.
async fn send(pulse: &Pulse, batches: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for _ in 0..batches {
        let fresh: Vec<String> = (0..25).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        let events: Vec<Value> =
            (0..).zip(&fresh).map(|(at, id)| json!({"eventId": id, "type": "click", "anonymousId": format!("v{at}")})).collect();
        assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK);
        ids.extend(fresh);
    }
    ids
}

async fn stored(pulse: &Pulse) -> HashSet<String> {
    let events = pulse.http.events().await;
    let ids: HashSet<String> = events.iter().map(|event| event["eventId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), events.len(), "events were doubled");
    ids
}

fn log_of(pulse: &Pulse) -> String {
    std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap()
}

async fn says(pulse: &Pulse, what: &str) {
    let said = async {
        while !log_of(pulse).contains(what) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("pulse does not say `{what}`: {}", log_of(pulse)));
}

async fn offsets_lost(pulse: &Pulse) -> i64 {
    let metrics = pulse.http.text("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("pulse_log_offsets_lost_total "));
    line.expect("the metric is missing").parse().unwrap()
}

/// Deletes all but the last `keeps` records of each partition of a topic, and returns how many that were.
async fn delete(kafka: &Kafka, topic: &str, keeps: i64, read: &[i64]) -> i64 {
    let mut deleted = 0;
    for (partition, read) in (0..).zip(read) {
        let (_, end) = kafka.bounds(topic, partition).await;
        let below = (end - keeps).max(*read);
        kafka.delete_records(topic, partition, below).await;
        deleted += below - read;
    }
    deleted
}

async fn ends(kafka: &Kafka, topic: &str) -> Vec<i64> {
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        ends.push(kafka.bounds(topic, partition).await.1);
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_before_they_were_read_are_counted_and_loading_goes_on_behind_them() {
    let (kafka, cluster) = (Kafka::start(1).await, Cluster::start(1).await);
    let front = instance(&kafka, &cluster, "ingest,query", None).await;
    let mut worker = instance(&kafka, &cluster, "process,load", Some(&front)).await;
    let first = send(&front, 20).await;
    front.http.settled().await;
    worker.end().await;
    let read = ends(&kafka, "owners-raw").await;
    let second = send(&front, 20).await;
    let deleted = delete(&kafka, "owners-raw", 3, &read).await;
    assert!(deleted > 0);

    worker.restart().await;
    says(&worker, "kafka deleted records that were not read").await;
    let third = send(&front, 2).await;
    let total = front.http.settled().await;
    let stored = stored(&front).await;
    assert!(first.is_subset(&stored) && third.is_subset(&stored), "what was not deleted is stored");
    assert_eq!(total["stored"], json!(stored.len()), "the ledger counts what is there");
    assert_eq!(total["received"], total["stored"], "and does not pretend");
    assert_eq!(offsets_lost(&worker).await, deleted);
    let lost = second.difference(&stored).count();
    println!("{deleted} raw records deleted unread, {lost} events: counted {deleted}, {} stored", stored.len());
    assert!(worker.stop().await && front.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enriched_records_deleted_before_they_were_loaded_stop_loading_until_a_replay_brings_them() {
    let (kafka, cluster) = (Kafka::start(1).await, Cluster::start(1).await);
    let front = instance(&kafka, &cluster, "ingest,query", None).await;
    let mut loader = instance(&kafka, &cluster, "load", Some(&front)).await;
    let helper = instance(&kafka, &cluster, "process", Some(&front)).await;
    let mut sent = send(&front, 10).await;
    front.http.settled().await;
    loader.end().await;
    sent.extend(send(&front, 20).await);
    let processed = async {
        while ends(&kafka, "owners-enriched").await != ends(&kafka, "owners-raw").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("processing", processed).await;
    delete(&kafka, "owners-enriched", 1, &[0; PARTITIONS as usize]).await;

    loader.restart().await;
    says(&loader, "`pulse replay` loads them from the raw one").await;
    assert!(offsets_lost(&loader).await > 0);
    sent.extend(send(&front, 2).await);
    let (_, ledger) = front.http.get("/v1/ledger").await;
    assert!(ledger["total"]["waiting"].as_u64().unwrap() > 0, "what is not loaded waits: {ledger}");

    let dir = tempfile::tempdir().unwrap();
    let mut replay = Command::new(program());
    replay.args(["replay", "--data-dir"]).arg(dir.path()).envs(environment(&kafka, &cluster, "load"));
    let output = tokio::task::spawn_blocking(move || replay.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let total = front.http.settled().await;
    assert_eq!((&total["stored"], &total["duplicate"]), (&json!(sent.len()), &json!(0)), "{total}");
    assert_eq!(stored(&front).await, sent);
    assert!(loader.stop().await && helper.stop().await && front.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_that_an_unclean_election_loses_end_pulse_and_keep_it_from_starting() {
    let setup = Setup { properties: "unclean.leader.election.interval.ms=1000".to_owned(), ..Setup::of(3) };
    let (mut kafka, cluster) = (Kafka::start_with(setup).await, Cluster::start(1).await);
    let mut environment = environment(&kafka, &cluster, "ingest,process,load,query");
    // Two copies, of which one is enough; the third broker keeps the controllers' majority.
    environment.extend([("PULSE__LOG__KAFKA__REPLICATION", "2".to_owned()), ("PULSE__LOG__KAFKA__PARTITIONS", "1".to_owned())]);
    let mut pulse = Pulse::start_with(&environment).await;
    for topic in ["raw", "enriched", "dead"] {
        kafka.alter(&format!("owners-{topic}"), "unclean.leader.election.enable", "true").await;
    }
    send(&pulse, 5).await;
    pulse.http.settled().await;
    let leader = kafka.leader_of("owners-raw", 0).await;
    let follower = kafka.in_sync_of("owners-raw", 0).await.into_iter().find(|broker| *broker != leader).unwrap();
    let (_, before) = kafka.bounds("owners-raw", 0).await;

    kafka.kill(follower);
    let missed = async {
        while kafka.in_sync_of("owners-raw", 0).await != [leader] {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon("the loss of a copy", missed).await;
    let accepted = send(&pulse, 40).await;
    pulse.http.settled().await;
    let (_, after) = kafka.bounds("owners-raw", 0).await;
    kafka.kill(leader);
    kafka.start_again(follower);

    let ended = soon("the end of pulse", pulse.child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(1));
    assert!(log_of(&pulse).contains("the log lost records that it had acknowledged"), "{}", log_of(&pulse));
    let (_, now) = kafka.bounds("owners-raw", 0).await;
    println!(
        "{} raw records and {} events were lost by kafka: the log ended at {after}, then at {now} (at {before} when they came)",
        after - now,
        accepted.len()
    );

    // It stays so at the next start, also when what the groups had committed is lost as well.
    let told = log_of(&pulse).len();
    let is_ready = pulse.restart_with::<&str>(&[]).await;
    assert!(!is_ready || soon("the end of pulse", pulse.child.wait()).await.unwrap().code() == Some(1));
    assert!(log_of(&pulse)[told..].contains("the log lost records that it had acknowledged"), "{}", log_of(&pulse));
}
