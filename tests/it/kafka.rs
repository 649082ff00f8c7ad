//! The log on a real Kafka: its promises one by one, then whole pulses on it.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use pulse::log::kafka::{KafkaLog, KafkaLogConfig, KafkaReader};
use pulse::log::{ConsumerGroup, GroupMember, Log, LogError, PartitionReader, ReadRequest, RunningLog, Topic};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use serde_json::json;

use crate::harness::fault::{nothing_is_accepted, something_is_accepted};
use crate::harness::kafka::Kafka;
use crate::harness::kafka_log::{config, open, reader_of_0};
use crate::harness::load::{restart, under_load_on};
use crate::harness::{Pulse, program};

const PATIENCE: Duration = Duration::from_secs(60);

fn payload(number: usize) -> Bytes {
    Bytes::from(format!("record {number} {}", "x".repeat(number % 97)))
}

async fn append(log: &KafkaLog, topic: Topic, count: usize) -> Vec<i64> {
    let acks: Vec<_> = (0..count).map(|number| log.append(topic, 0, payload(number)).unwrap()).collect();
    let mut offsets = Vec::new();
    for ack in acks {
        offsets.push(ack.await.unwrap());
    }
    offsets
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Reads until `count` records have come.
async fn take(reader: &mut KafkaReader, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        offsets.extend(soon("a record", reader.next(1 << 20)).await.unwrap().iter().map(|record| record.offset));
    }
    offsets
}

async fn delete_topic(kafka: &Kafka, name: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka.addresses()).create().unwrap();
    admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_as_they_were_appended_anywhere_in_the_log() {
    let kafka = Kafka::start(1).await;
    let log = open(config(&kafka, "read")).await;
    assert_eq!(append(&log, Topic::Raw, 500).await, (0..500).collect::<Vec<i64>>());
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..500);
    assert_eq!(log.bounds(Topic::Raw, 1).await.unwrap(), 0..0);

    let (mut next, mut seen) = (0, 0);
    loop {
        let records = log.read(ReadRequest::new(Topic::Raw, 0, next, 2_000)).await.unwrap();
        let Some(last) = records.last() else { break };
        for record in &records {
            assert_eq!((record.offset, &record.payload), (seen as i64, &payload(seen)));
            seen += 1;
        }
        next = last.offset + 1;
    }
    assert_eq!(seen, 500);
    assert_eq!(log.read(ReadRequest::new(Topic::Raw, 0, 499, 1)).await.unwrap().len(), 1, "the last record, however small the budget");
    assert_eq!(log.read(ReadRequest::new(Topic::Raw, 0, 7, 1).prefix(6)).await.unwrap()[0].payload, "record");
    assert!(log.read(ReadRequest::new(Topic::Raw, 0, 500, 1 << 20)).await.unwrap().is_empty(), "none at the end");
    let refused = log.read(ReadRequest::new(Topic::Raw, 0, 900, 1 << 20)).await;
    assert!(matches!(refused, Err(LogError::OutOfRange { ref held, .. }) if *held == (0..500)), "{refused:?}");

    // Where one request stopped at the end, the next one finds what came since.
    for number in 0..20 {
        for _ in 0..2 {
            log.append(Topic::Raw, 2, payload(3)).unwrap().await.unwrap();
        }
        let both = log.read(ReadRequest::new(Topic::Raw, 2, 2 * number, payload(3).len() + 1)).await.unwrap();
        assert_eq!(both.len(), 2, "after {number}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    log.close().await;
    assert!(matches!(log.append(Topic::Raw, 0, payload(0)), Err(LogError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_resumes_where_it_had_committed_and_a_reader_goes_where_it_is_sent() {
    let kafka = Kafka::start(1).await;
    let log = open(config(&kafka, "resume")).await;
    append(&log, Topic::Raw, 100).await;
    let mut member = log.join(ConsumerGroup::Process).await.unwrap();
    let mut reader = reader_of_0(&mut member).await;
    assert_eq!(reader.committed(), None);
    assert_eq!(take(&mut reader, 100).await, (0..100).collect::<Vec<i64>>());
    reader.seek(30);
    assert_eq!(take(&mut reader, 70).await, (30..100).collect::<Vec<i64>>());
    // Losing a race loses no record, in the middle of a move either.
    reader.seek(90);
    for _ in 0..50 {
        let _ = tokio::time::timeout(Duration::from_micros(100), reader.next(1)).await.map(|records| {
            let next = records.unwrap().last().unwrap().offset + 1;
            reader.seek(next - 1);
        });
    }
    let at = take(&mut reader, 1).await[0];
    assert!((90..100).contains(&at), "{at}");
    reader.commit(60).await.unwrap();
    drop((reader, member));

    let mut member = log.join(ConsumerGroup::Process).await.unwrap();
    let mut reader = reader_of_0(&mut member).await;
    assert_eq!(reader.committed(), Some(60));
    assert_eq!(take(&mut reader, 40).await, (60..100).collect::<Vec<i64>>());
    log.close().await;
    assert!(matches!(reader.next(1).await, Err(LogError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_to_a_second_member_and_back() {
    let kafka = Kafka::start(1).await;
    let (one, two) = (open(config(&kafka, "move")).await, open(config(&kafka, "move")).await);
    assert_eq!(one.epoch(), two.epoch());
    let mut first = one.join(ConsumerGroup::Process).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(soon("an assignment", first.assigned()).await.unwrap());
    }
    let mut second = two.join(ConsumerGroup::Process).await.unwrap();
    let mut moved = vec![soon("an assignment", second.assigned()).await.unwrap()];
    moved.push(soon("an assignment", second.assigned()).await.unwrap());
    let revoked: Vec<u16> = held.iter().filter(|reader| reader.revoked().is_cancelled()).map(PartitionReader::partition).collect();
    assert_eq!(revoked.len(), 2, "the others are read on without a pause");
    assert!(moved.iter().all(|reader| revoked.contains(&reader.partition())));
    drop((second, moved));
    for _ in 0..2 {
        let back = soon("an assignment", first.assigned()).await.unwrap();
        assert!(revoked.contains(&back.partition()));
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_ends_the_log_and_gets_another_epoch() {
    let kafka = Kafka::start(1).await;
    let log = open(config(&kafka, "again")).await;
    append(&log, Topic::Raw, 50).await;
    let mut member = log.join(ConsumerGroup::Process).await.unwrap();
    let mut reader = reader_of_0(&mut member).await;
    take(&mut reader, 50).await;
    reader.commit(50).await.unwrap();
    drop((reader, member));
    tokio::time::sleep(Duration::from_secs(1)).await;

    delete_topic(&kafka, "again-raw").await;
    assert!(matches!(soon("the end", log.broken()).await, LogError::Corrupt(_)));
    assert!(matches!(log.append(Topic::Raw, 0, payload(0)), Err(LogError::Corrupt(_))));
    let before = log.epoch();
    log.close().await;

    let log = open(config(&kafka, "again")).await;
    assert_ne!(log.epoch(), before);
    append(&log, Topic::Raw, 80).await;
    let mut member = log.join(ConsumerGroup::Process).await.unwrap();
    let mut reader = reader_of_0(&mut member).await;
    assert_eq!(reader.committed(), None, "what was committed is of another topic");
    assert_eq!(take(&mut reader, 80).await, (0..80).collect::<Vec<i64>>());
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_at_once_and_what_fails_fails_with_all_behind_it() {
    let mut kafka = Kafka::start(1).await;
    let config = KafkaLogConfig { queue_bytes: 8 << 20, delivery_timeout: Duration::from_secs(3), ..config(&kafka, "full") };
    let log = open(config).await;
    let large = log.append(Topic::Raw, 0, vec![0; (8 << 20) + 1].into());
    assert!(matches!(large, Err(LogError::TooLarge { .. })));
    // The largest record does fit.
    log.append(Topic::Dead, 0, vec![7; 8 << 20].into()).unwrap().await.unwrap();
    assert_eq!(log.read(ReadRequest::new(Topic::Dead, 0, 0, 1)).await.unwrap()[0].payload.len(), 8 << 20);

    kafka.kill(0);
    let mut acks = Vec::new();
    let refused = loop {
        match log.append(Topic::Raw, 0, vec![1; 1 << 20].into()) {
            Ok(ack) => acks.push(ack),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, LogError::Full(_)), "{refused}");
    assert_eq!(acks.len(), 6, "three quarters of the queue are for raw records");
    log.append(Topic::Enriched, 0, vec![1; 1 << 20].into()).expect("what is downstream has room of its own");
    for ack in acks {
        assert!(matches!(soon("a failure", ack).await, Err(LogError::Unavailable(_))));
    }
    assert!(!log.is_writable());
    kafka.restart(0).await;
    soon("an acknowledgement", async {
        loop {
            if let Ok(ack) = log.append(Topic::Raw, 0, payload(0))
                && ack.await.is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(log.is_writable());
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_do_not_fit_are_refused_with_what_is_wrong() {
    let kafka = Kafka::start(1).await;
    let missing = KafkaLog::open(config(&kafka, "unfit").check().unwrap(), false).await.unwrap_err();
    assert_eq!(missing.to_string(), "topic unfit-raw does not exist: run `pulse migrate`");
    let copies = KafkaLogConfig { replication: 3, ..config(&kafka, "unfit") };
    let refused = KafkaLog::open(copies.check().unwrap(), true).await.unwrap_err().to_string();
    assert!(refused.contains("log.kafka.replication = 3"), "{refused}");
    open(config(&kafka, "unfit")).await.close().await;
    let more = KafkaLogConfig { partitions: 5, ..config(&kafka, "unfit") };
    let refused = KafkaLog::open(more.check().unwrap(), true).await.unwrap_err().to_string();
    assert!(refused.contains("topic unfit-raw: 4 partitions instead of 5"), "{refused}");
    let larger = KafkaLogConfig { max_record_bytes: 16 << 20, ..config(&kafka, "unfit") };
    let refused = KafkaLog::open(larger.check().unwrap(), true).await.unwrap_err().to_string();
    assert!(refused.contains("max.message.bytes"), "{refused}");
}

async fn pulse_on(kafka: &Kafka, prefix: &str, more: &[(&'static str, &str)]) -> Pulse {
    Pulse::start_with(&environment(kafka, prefix, more)).await
}

/// Another instance of the same fleet: a data directory of its own, the same keys and storage.
async fn pulse_beside(first: &Pulse, kafka: &Kafka, prefix: &str, roles: &str) -> Pulse {
    Pulse::start_beside(first, &environment(kafka, prefix, &[("PULSE__ROLES", roles)])).await
}

fn environment(kafka: &Kafka, prefix: &str, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut environment = kafka.environment(prefix);
    environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    environment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_pulse_on_kafka_lose_and_double_nothing() {
    let kafka = Kafka::start(1).await;
    under_load_on(pulse_on(&kafka, "kills", &[]).await, (11, 4), async |pulse, place, _| {
        pulse.kill().await;
        restart(pulse, place).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_broker_lose_and_double_nothing_and_nothing_is_accepted_meanwhile() {
    let mut kafka = Kafka::start(1).await;
    under_load_on(pulse_on(&kafka, "broker", &[]).await, (12, 2), async |pulse, _, moments| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        kafka.kill(0);
        nothing_is_accepted(&pulse.http, Duration::from_secs(4) + moments.next(6_000)).await;
        kafka.restart(0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_different_roles_share_the_work_and_take_over_from_each_other() {
    let kafka = Kafka::start(1).await;
    // One stores and answers, one takes events, one helps.
    let mut whole = pulse_on(&kafka, "fleet", &[("PULSE__ROLES", "process,load,query")]).await;
    let ingest = pulse_beside(&whole, &kafka, "fleet", "ingest").await;
    let mut helper = pulse_beside(&whole, &kafka, "fleet", "process").await;

    let mut sent = 0;
    for round in 0..4 {
        for batch in 0..20 {
            let events: Vec<_> = (0..25)
                .map(|event| {
                    let id = format!("{round:08x}-0000-4000-8000-{:012x}", batch * 25 + event);
                    json!({"eventId": id, "type": "click", "anonymousId": format!("visitor-{event}-{}", batch % 5)})
                })
                .collect();
            assert_eq!(ingest.http.capture(&json!(events)).await.0, StatusCode::OK);
            sent += 25;
        }
        match round {
            1 => helper.kill().await,
            2 => {
                helper.restart().await;
                whole.kill().await;
                whole.restart().await;
            }
            _ => {}
        }
    }
    let total = whole.http.settled().await;
    assert_eq!((&total["received"], &total["stored"]), (&json!(sent), &json!(sent)), "{total}");
    let ids: HashSet<String> = whole.http.events().await.iter().map(|event| event["eventId"].to_string()).collect();
    assert_eq!(ids.len(), sent);
    let helped = std::fs::read_to_string(helper.data_dir().join("test.log")).unwrap();
    assert!(helped.contains("processing"), "the helper was given no partition: {helped}");
    for pulse in [ingest, helper, whole] {
        assert!(pulse.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_one_broker_of_three_loses_and_doubles_nothing_and_stops_nothing() {
    let mut kafka = Kafka::start(3).await;
    let pulse = pulse_on(&kafka, "three", &[("PULSE__LOG__KAFKA__DELIVERY_TIMEOUT", "20s")]).await;
    let mut broker = 0;
    under_load_on(pulse, (13, 3), async |pulse, _, moments| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Frozen, it keeps its connections and says nothing; killed, it takes what it had in memory with it.
        kafka.freeze(broker);
        tokio::time::sleep(moments.next(2_000)).await;
        kafka.thaw(broker);
        kafka.kill(broker);
        // The two brokers that are left suffice.
        something_is_accepted(&pulse.http).await;
        kafka.restart(broker).await;
        broker = (broker + 1) % 3;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulse_migrate_makes_the_topics_and_pulse_ends_when_one_is_deleted() {
    let kafka = Kafka::start(1).await;
    let environment = kafka.environment("ends");
    let run = |command: &str, migrates: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut program = tokio::process::Command::new(program());
        program.args([command, "--data-dir"]).arg(dir.path()).envs(environment.clone());
        program.env("PULSE__MIGRATE_AT_START", migrates).env("PULSE__HTTP__LISTEN", "127.0.0.1:0");
        async move {
            let output = soon("an end", program.output()).await.unwrap();
            drop(dir);
            (output.status.success(), String::from_utf8(output.stderr).unwrap())
        }
    };
    let (started, said) = run("serve", "false").await;
    assert!(!started && said.contains("topic ends-raw does not exist: run `pulse migrate`"), "{said}");
    let (migrated, said) = run("migrate", "false").await;
    assert!(migrated, "{said}");

    let mut pulse = pulse_on(&kafka, "ends", &[]).await;
    assert_eq!(pulse.http.capture(&json!({"type": "click", "anonymousId": "ada"})).await.0, StatusCode::OK);
    delete_topic(&kafka, "ends-raw").await;
    let ended = soon("an end", pulse.child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(1));
    let said = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(said.contains("topic ends-raw was deleted"), "{said}");
}
