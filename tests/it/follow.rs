//! Following a topic of a real Kafka without a group.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use pulse::log::kafka::{KafkaFollower, KafkaLog, KafkaLogConfig};
use pulse::log::{Followed, Log, LogError, RunningLog, Topic, TopicFollower};

use crate::harness::PATIENCE;
use crate::harness::kafka::Kafka;
use crate::harness::kafka_log::{config, open};

/// What a follower read of each partition, and what it missed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    offsets: [Vec<i64>; 4],
    lost: Vec<(u16, Range<i64>)>,
}

impl Seen {
    /// Reads until each of the partitions was read up to its end.
    async fn until(&mut self, follower: &mut KafkaFollower, ends: &[(usize, i64)]) {
        while !ends.iter().all(|(at, end)| self.offsets[*at].last().is_some_and(|last| last + 1 == *end)) {
            let followed = tokio::time::timeout(PATIENCE, follower.next()).await;
            match followed.expect("the follower got stuck").unwrap() {
                Followed::Records { partition, records } => {
                    self.offsets[usize::from(partition)].extend(records.iter().map(|record| record.offset));
                }
                Followed::Overtaken { partition, lost } => self.lost.push((partition, lost)),
            }
        }
    }
}

/// Appends records of `size` bytes and returns the end of the partition.
async fn append(log: &KafkaLog, partition: u16, count: usize, size: usize) -> i64 {
    let payload = Bytes::from(vec![7; size]);
    let mut end = 0;
    for _ in 0..count {
        end = log.append(Topic::Raw, partition, payload.clone()).unwrap().await.unwrap() + 1;
    }
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_reads_each_partition_from_where_it_began_also_across_a_restart_of_the_broker() {
    let mut kafka = Kafka::start(1).await;
    let log = open(config(&kafka, "tail")).await;
    append(&log, 0, 3, 100).await;
    let mut early = log.follow(Topic::Raw).await.unwrap();
    append(&log, 0, 5, 100).await;
    append(&log, 3, 4, 100).await;
    let mut late = log.follow(Topic::Raw).await.unwrap();
    append(&log, 0, 2, 100).await;

    let (mut of_early, mut of_late) = (Seen::default(), Seen::default());
    of_early.until(&mut early, &[(0, 10), (3, 4)]).await;
    of_late.until(&mut late, &[(0, 10)]).await;
    assert_eq!(of_late.offsets[0], [8, 9]);

    kafka.kill(0);
    let waits = tokio::time::timeout(Duration::from_secs(2), early.next()).await;
    assert!(waits.is_err(), "a broker that is down is waited for: {waits:?}");
    kafka.restart(0).await;
    let append_again = async {
        loop {
            match log.append(Topic::Raw, 0, Bytes::from_static(b"after")) {
                Ok(ack) => match ack.await {
                    Ok(offset) => break offset + 1,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let end = tokio::time::timeout(PATIENCE, append_again).await.expect("nothing can be appended");
    of_early.until(&mut early, &[(0, end)]).await;
    of_late.until(&mut late, &[(0, end)]).await;
    assert_eq!(of_early, Seen { offsets: [(3..end).collect(), vec![], vec![], (0..4).collect()], lost: Vec::new() });
    assert_eq!(of_late, Seen { offsets: [(8..end).collect(), vec![], vec![], vec![]], lost: Vec::new() });
    log.close().await;
    assert!(matches!(early.next().await, Err(LogError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_holds_a_bounded_part_of_the_topic_and_is_told_what_it_missed() {
    const SIZE: usize = 1 << 20;
    let kafka = Kafka::start(1).await;
    let log = open(KafkaLogConfig { queue_bytes: 64 << 20, ..config(&kafka, "trimmed") }).await;
    let mut follower = log.follow(Topic::Raw).await.unwrap();
    // More than its batches and what librdkafka fetches ahead.
    let end = append(&log, 0, 64, SIZE).await;
    kafka.delete_records("trimmed-raw", 0, end - 2).await;
    let end = append(&log, 0, 1, SIZE).await;

    let mut seen = Seen::default();
    seen.until(&mut follower, &[(0, end)]).await;
    let [(0, lost)] = seen.lost.as_slice() else { panic!("{seen:?}") };
    assert_eq!(lost.end, end - 3, "reading goes on at the first record held");
    assert!((lost.start as usize) < 40, "no more than {} MiB were held", lost.start);
    let expected: Vec<i64> = (0..lost.start).chain(lost.end..end).collect();
    assert_eq!(seen.offsets[0], expected, "everything else was read once and in order");
}
