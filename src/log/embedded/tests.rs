//! The embedded log from outside, on real files. `model` compares it with a vector, `damage` breaks files, `faults` disks,
//! `follow` reads without a group.
#![allow(clippy::disallowed_methods, reason = "a test owns its tasks")]

mod damage;
mod faults;
mod follow;
mod model;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::log::{ConsumerGroup, GroupMember, PartitionReader, ReadRequest};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Limits with segments of 4 KiB, so that a few records fill one.
fn small() -> EmbeddedLogConfig {
    EmbeddedLogConfig {
        partitions: 2,
        segment_bytes: 4096,
        max_record_bytes: 64 * 1024,
        queue_bytes: 512 * 1024,
        max_bytes: 1024 * 1024,
        // Less than tests write, so that they read from memory and from files.
        tail_bytes: 32 * 1024,
        ..EmbeddedLogConfig::default()
    }
}

fn limits(config: EmbeddedLogConfig) -> EmbeddedLimits {
    config.check().unwrap()
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, limits(small())).unwrap()
}

/// A payload of `len` bytes that no other `seed` has.
fn payload(seed: u64, len: usize) -> Bytes {
    (0..len as u64).map(|at| (seed.wrapping_mul(31).wrapping_add(at) % 251) as u8).collect()
}

async fn append(log: &EmbeddedLog, topic: Topic, payload: Bytes) -> i64 {
    log.append(topic, 0, payload).unwrap().await.unwrap()
}

async fn append_many(log: &EmbeddedLog, topic: Topic, count: u64, len: usize) {
    for seed in 0..count {
        append(log, topic, payload(seed, len)).await;
    }
}

async fn read_all(log: &EmbeddedLog, topic: Topic, partition: u16) -> Vec<Bytes> {
    let held = log.bounds(topic, partition).await.unwrap();
    let (mut payloads, mut from) = (Vec::new(), held.start);
    while from < held.end {
        let records = log.read(ReadRequest::new(topic, partition, from, 1000)).await.unwrap();
        assert_eq!(records[0].offset, from);
        from += records.len() as i64;
        payloads.extend(records.into_iter().map(|record| record.payload));
    }
    payloads
}

async fn reader(log: &EmbeddedLog, group: ConsumerGroup) -> (EmbeddedMember, EmbeddedReader) {
    let mut member = log.join(group).await.unwrap();
    let reader = member.assigned().await.unwrap();
    (member, reader)
}

fn segments(dir: &Path, topic: Topic) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir.join(topic.as_str()).join("0")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn records_and_epoch_survive_a_close_and_reopen() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append_many(&log, Topic::Raw, 40, 500).await;
    let (epoch, before) = (log.epoch(), read_all(&log, Topic::Raw, 0).await);
    log.close().await;

    let log = open(dir.path());

    assert_eq!(log.epoch(), epoch);
    assert_eq!(read_all(&log, Topic::Raw, 0).await, before);
    assert_eq!(before, (0..40).map(|seed| payload(seed, 500)).collect::<Vec<_>>());
    assert!(segments(dir.path(), Topic::Raw).len() > 4);
    assert_eq!(append(&log, Topic::Raw, payload(40, 10)).await, 40);
}

#[tokio::test]
async fn appends_queued_before_close_are_durable_and_later_ones_are_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let acks: Vec<_> = (0..100).map(|seed| log.append(Topic::Raw, 1, payload(seed, 100)).unwrap()).collect();

    log.close().await;

    for (offset, ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.await.unwrap(), offset as i64);
    }
    assert!(matches!(log.append(Topic::Raw, 1, Bytes::new()), Err(LogError::Closed)));
    assert_eq!(read_all(&open(dir.path()), Topic::Raw, 1).await.len(), 100);
}

#[tokio::test]
async fn prefix_reads_return_only_the_start_from_memory_and_from_disk() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append_many(&log, Topic::Raw, 20, 300).await;
    let from_memory = log.read(ReadRequest::new(Topic::Raw, 0, 3, 10_000).prefix(7)).await.unwrap();
    log.close().await;

    let from_disk = open(dir.path()).read(ReadRequest::new(Topic::Raw, 0, 3, 10_000).prefix(7)).await.unwrap();

    assert_eq!(from_memory.len(), 17);
    assert!(from_memory.iter().all(|record| record.payload == payload(record.offset as u64, 7)));
    // A file ends earlier than memory does; what there is must be the same.
    assert!(!from_disk.is_empty());
    assert_eq!(from_disk, from_memory[..from_disk.len()]);
}

#[tokio::test]
async fn reader_waits_for_records_and_resumes_at_the_committed_offset() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    assert_eq!(process.committed(), None);
    let (records, offset) = tokio::join!(process.next(1000), append(&log, Topic::Raw, payload(1, 10)));
    assert_eq!((records.unwrap()[0].payload.clone(), offset), (payload(1, 10), 0));
    process.commit(1).await.unwrap();
    append(&log, Topic::Raw, payload(2, 10)).await;
    log.close().await;
    assert!(process.revoked().is_cancelled());
    assert!(matches!(process.next(1000).await, Err(LogError::Closed)));

    let log = open(dir.path());
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;

    assert_eq!(process.committed(), Some(1));
    assert_eq!(process.next(1000).await.unwrap(), [Record { offset: 1, payload: payload(2, 10) }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appenders_get_offsets_in_their_order_and_a_reader_sees_all() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let appender = |appender: u64| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut placed = Vec::new();
            for round in 0..20 {
                let seeds = (0..5).map(|at| appender * 1000 + round * 5 + at);
                let acks: Vec<_> = seeds.map(|seed| (seed, log.append(Topic::Raw, 0, payload(seed, 200)).unwrap())).collect();
                for (seed, ack) in acks {
                    placed.push((ack.await.unwrap(), payload(seed, 200)));
                }
            }
            assert!(placed.is_sorted_by_key(|(offset, _)| *offset));
            placed
        })
    };
    let appenders: Vec<_> = (0..4).map(appender).collect();
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    let mut seen = Vec::new();
    while seen.len() < 400 {
        seen.extend(process.next(1500).await.unwrap().into_iter().map(|record| (record.offset, record.payload)));
    }
    let mut placed = Vec::new();
    for appender in appenders {
        placed.extend(appender.await.unwrap());
    }
    placed.sort_by_key(|(offset, _)| *offset);
    assert_eq!(seen, placed);
    assert!(placed.iter().map(|(offset, _)| *offset).eq(0..400));
}

#[tokio::test]
async fn commit_beyond_the_end_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    assert!(matches!(process.commit(1).await, Err(LogError::OutOfRange { asked: 1, .. })));
}

#[tokio::test]
async fn a_group_has_one_member_at_a_time() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let first = log.join(ConsumerGroup::Load).await.unwrap();
    assert!(matches!(log.join(ConsumerGroup::Load).await, Err(LogError::Unavailable(_))));
    drop(first);
    assert!(log.join(ConsumerGroup::Load).await.is_ok());
}

#[tokio::test]
async fn offsets_that_are_not_held_are_out_of_range() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append(&log, Topic::Raw, payload(0, 10)).await;
    assert_eq!(log.read(ReadRequest::new(Topic::Raw, 0, 1, 100)).await.unwrap(), []);
    assert!(matches!(log.read(ReadRequest::new(Topic::Raw, 0, 2, 100)).await, Err(LogError::OutOfRange { asked: 2, .. })));
    assert!(matches!(log.read(ReadRequest::new(Topic::Raw, 0, -1, 100)).await, Err(LogError::OutOfRange { .. })));
}

#[tokio::test]
async fn records_over_the_limit_are_too_large() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    assert!(matches!(log.append(Topic::Raw, 0, payload(0, 64 * 1024 + 1)), Err(LogError::TooLarge { .. })));
    assert_eq!(append(&log, Topic::Raw, payload(0, 64 * 1024)).await, 0);
}

#[tokio::test]
async fn full_log_refuses_raw_before_enriched_before_dead() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let mut stored = 0;
    while let Ok(ack) = log.append(Topic::Raw, 0, payload(stored, 4096)) {
        ack.await.unwrap();
        stored += 1;
    }
    assert!(!log.is_writable());
    let mut enriched = 0;
    while let Ok(ack) = log.append(Topic::Enriched, 0, payload(enriched, 4096)) {
        ack.await.unwrap();
        enriched += 1;
    }
    assert!(enriched > 10);
    append(&log, Topic::Dead, payload(0, 100)).await;
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..stored as i64);
}

#[test]
fn second_lock_names_directory_and_holder() {
    let dir = TempDir::new().unwrap();
    let held = lock_data_dir(dir.path()).unwrap();
    let message = lock_data_dir(dir.path()).unwrap_err().to_string();
    assert!(message.contains(&dir.path().display().to_string()), "{message}");
    assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
    drop(held);
    lock_data_dir(dir.path()).unwrap();
}

#[tokio::test]
async fn other_partition_count_and_format_are_refused() {
    let dir = TempDir::new().unwrap();
    open(dir.path()).close().await;
    let three = EmbeddedLogConfig { partitions: 3, ..small() };
    assert!(matches!(EmbeddedLog::open(dir.path(), limits(three)), Err(OpenError::Partitions { stored: 2, asked: 3, .. })));
    sidecar::store(&dir.path().join("meta"), &sidecar::Meta { format: 9, epoch: 1, partitions: 2 }).unwrap();
    assert!(matches!(EmbeddedLog::open(dir.path(), limits(small())), Err(OpenError::Format { found: 9, .. })));
    std::fs::remove_file(dir.path().join("meta")).unwrap();
    assert!(matches!(EmbeddedLog::open(dir.path(), limits(small())), Err(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn retention_waits_for_the_consumer_and_for_the_age() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append_many(&log, Topic::Raw, 40, 500).await;
    let later = crate::clock::now_ms() + 73 * HOUR_MS;

    log.store().retain(later).unwrap();
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..40, "nothing is finished");

    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(20).await.unwrap();
    log.store().retain(crate::clock::now_ms()).unwrap();
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..40, "nothing is old");

    log.store().retain(later).unwrap();
    let held = log.bounds(Topic::Raw, 0).await.unwrap();
    assert!(held.start > 0 && held.start <= 20, "{held:?}");
    assert!(matches!(log.read(ReadRequest::new(Topic::Raw, 0, 0, 100)).await, Err(LogError::OutOfRange { .. })));
    log.close().await;
    assert_eq!(open(dir.path()).bounds(Topic::Raw, 0).await.unwrap(), held);
}

#[tokio::test]
async fn records_of_a_quiet_topic_do_not_outlive_their_time_in_an_open_segment() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append(&log, Topic::Raw, payload(0, 10)).await;
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(1).await.unwrap();
    let later = crate::clock::now_ms() + 73 * HOUR_MS;

    log.store().retain(later).unwrap();
    while segments(dir.path(), Topic::Raw).len() < 2 || log.store().partition(Topic::Raw, 0).unwrap().sealed().is_empty() {
        tokio::task::yield_now().await;
    }
    log.store().retain(later).unwrap();

    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 1..1);
    log.close().await;
    assert_eq!(append(&open(dir.path()), Topic::Raw, payload(1, 10)).await, 1, "offsets go on");
}

#[tokio::test]
async fn finished_records_go_early_when_the_log_is_nearly_full() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let mut stored = 0;
    while let Ok(ack) = log.append(Topic::Raw, 0, payload(stored, 4096)) {
        ack.await.unwrap();
        stored += 1;
    }
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(stored as i64).await.unwrap();

    log.store().retain(crate::clock::now_ms()).unwrap();

    assert!(log.is_writable());
    let held = log.bounds(Topic::Raw, 0).await.unwrap();
    assert!(held.start > 0 && held.start < stored as i64 / 2, "only what makes room: {held:?}");
}

#[tokio::test]
async fn finished_records_of_an_open_segment_go_as_well_when_the_log_is_nearly_full() {
    let dir = TempDir::new().unwrap();
    // Few records fill no segment, and all of them the log.
    let config = EmbeddedLogConfig { partitions: 64, max_bytes: 8 << 20, segment_bytes: 16 << 10, ..small() };
    let log = EmbeddedLog::open(dir.path(), limits(config)).unwrap();
    log.store().usage.stored.fetch_add(6 << 20, Ordering::Relaxed);
    append(&log, Topic::Enriched, payload(0, 8_000)).await;
    log.store().offsets.commit(ConsumerGroup::Load, 0, 1);
    log.store().retain(crate::clock::now_ms()).unwrap();
    while log.store().partition(Topic::Enriched, 0).unwrap().sealed().is_empty() {
        tokio::task::yield_now().await;
    }
    log.store().retain(crate::clock::now_ms()).unwrap();
    assert_eq!(log.bounds(Topic::Enriched, 0).await.unwrap(), 1..1);
    log.store().usage.stored.fetch_sub(6 << 20, Ordering::Relaxed);
}

#[test]
fn written_defaults_are_valid_and_bad_values_name_their_key() {
    EmbeddedLogConfig::default().check().unwrap();
    let zero = EmbeddedLogConfig { partitions: 0, ..EmbeddedLogConfig::default() };
    assert_eq!(zero.check().unwrap_err(), "log.embedded.partitions = 0: must be between 1 and 64");
    let many = EmbeddedLogConfig { partitions: 12, max_bytes: 1 << 30, ..EmbeddedLogConfig::default() };
    let problem = many.check().unwrap_err();
    assert!(problem.starts_with("log.embedded.max_bytes = 1073741824: 12 partitions of segments of"), "{problem}");
    let open = EmbeddedLogConfig { partitions: 64, max_bytes: 16 << 20, segment_bytes: 1 << 20, ..small() };
    assert!(open.check().unwrap_err().starts_with("log.embedded.max_bytes = 16777216"), "open segments alone would fill it");
    let parsed: EmbeddedLogConfig = toml::from_str("raw_retention = \"2days\"").unwrap();
    assert_eq!(parsed.raw_retention, Duration::from_secs(2 * 86_400));
    assert!(toml::from_str::<EmbeddedLogConfig>("partition = 3").is_err());
}
