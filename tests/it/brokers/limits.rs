//! What a broker cannot take: its disk is full, a record is larger than its topic now allows, a topic has other partitions than pulse
//! was told.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::DELIVERY_TIMEOUT;
use crate::harness::fault::{absence, nothing_is_accepted, odd_event, something_is_accepted};
use crate::harness::kafka::{Kafka, Setup};
use crate::harness::load::{rounds, under_load_on};
use crate::harness::volume::Volume;
use crate::harness::{Http, PATIENCE, Pulse};

const MIB: u32 = 128;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_disk_is_full_accepts_nothing_and_goes_on_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::of_files(dir.path(), MIB, 2_000);
    let properties = "log.index.size.max.bytes=1048576".to_owned();
    let mut kafka = Kafka::start_with(Setup { data: Some(dir.path().join("data")), properties, ..Setup::of(1) }).await;
    let pulse = Pulse::start_with(&kafka.environment("disk")).await;
    under_load_on(pulse, (46, rounds(2)), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        volume.fill();
        refused(&pulse.http).await;
        nothing_is_accepted(&pulse.http, absence(3, 60)).await;
        let has_ended = kafka.has_ended(0);
        volume.free();
        let freed = Instant::now();
        if !has_ended {
            // Its only disk has failed: it ends by itself, soon.
            kafka.kill(0);
        }
        kafka.restart(0).await;
        let up = freed.elapsed();
        something_is_accepted(&pulse.http).await;
        println!(
            "broker ended by itself: {has_ended}; up {up:?} after there was space, the first event accepted {:?}",
            freed.elapsed() - up
        );
    })
    .await;
}

/// Waits until an event is refused.
async fn refused(http: &Http) {
    let answered = async { while http.capture(&odd_event()).await.0 != StatusCode::SERVICE_UNAVAILABLE {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("nothing is refused");
}

/// Events of one visitor that take 200 KB together, however they are compressed.
fn large() -> Value {
    let event = |_| {
        let noise: String = (0..170).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
        json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "large", "anonymousId": "large", "properties": {"noise": noise}})
    };
    (0..40).map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_topic_no_longer_takes_is_refused_and_keeps_nothing_up() {
    let kafka = Kafka::start(1).await;
    let pulse = Pulse::start_with(&kafka.environment("large")).await;
    under_load_on(pulse, (47, rounds(1)), async |pulse, _, _| {
        let before = kafka.max_message_bytes("large-raw").await;
        kafka.alter("large-raw", "max.message.bytes", "100000").await;
        let (began, mut slowest, mut answers) = (Instant::now(), Duration::ZERO, Vec::new());
        // Refused for now as long as it may have been too large only together with others; then for good.
        while !answers.ends_with(&[413; 5]) {
            assert!(began.elapsed() < PATIENCE, "{answers:?}");
            let asked = Instant::now();
            answers.push(pulse.http.capture(&large()).await.0.as_u16());
            slowest = slowest.max(asked.elapsed());
            something_is_accepted(&pulse.http).await;
        }
        println!("in {:?}: answers to what is too large {answers:?}, the slowest after {slowest:?}", began.elapsed());
        let for_good = answers.iter().position(|answer| *answer == 413).unwrap();
        assert!(answers[..for_good].iter().all(|answer| *answer == 503), "{answers:?}");
        assert!(slowest < 2 * DELIVERY_TIMEOUT + Duration::from_secs(5), "{slowest:?}");
        kafka.alter("large-raw", "max.message.bytes", &before).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_used_once_pulse_is_told() {
    let kafka = Kafka::start(1).await;
    let topics = ["grown-raw", "grown-enriched"];
    let mut pulse = Pulse::start_with(&kafka.environment("grown")).await;
    let send = async |pulse: &Pulse, visitors: std::ops::Range<usize>, copies: usize| {
        let event = |visitor| {
            let id = format!("{visitor:08x}-0000-4000-8000-000000000048");
            json!({"eventId": id, "type": "click", "anonymousId": format!("visitor-{visitor}")})
        };
        let events: Vec<Value> = visitors.map(event).collect();
        for batch in (0..copies).flat_map(|_| events.chunks(500)) {
            assert_eq!(pulse.http.capture(&json!(batch)).await.0, StatusCode::OK);
        }
    };
    send(&pulse, 0..500, 1).await;
    for topic in topics {
        kafka.grow(topic, 6).await;
    }
    let said = async {
        let told = |topic: &str| format!("topic {topic} has 6 partitions, of which 4 are used");
        let log = || std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
        while !topics.iter().all(|topic| log().contains(&told(topic))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("pulse does not say that there are more partitions");
    // It goes on with those it knows, and so it does when it is started again.
    send(&pulse, 250..750, 1).await;
    pulse.kill().await;
    pulse.restart().await;
    send(&pulse, 500..1_000, 1).await;
    assert_eq!(pulse.http.settled().await["stored"], json!(1_000));

    // Told of all, with nothing waiting: copies of what other partitions had are still known.
    pulse.end().await;
    assert!(pulse.restart_with(&[("PULSE__LOG__KAFKA__PARTITIONS", "6")]).await);
    send(&pulse, 0..1_500, 2).await;
    let total = pulse.http.settled().await;
    assert_eq!((&total["stored"], &total["duplicate"]), (&json!(1_500), &json!(500 + 1_000 + 1_500)), "{total}");
    for partition in 4..6 {
        assert!(kafka.bounds("grown-raw", partition).await.1 > 0, "partition {partition} is used");
    }
    pulse.end().await;
    // Not back again: what is in them would be left out.
    assert!(!pulse.restart_with::<&str>(&[]).await);
    let said = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(said.contains("has been written to: log.kafka.partitions = 4 leaves it out"), "{said}");
}
