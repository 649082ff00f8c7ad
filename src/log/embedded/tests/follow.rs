//! Followers of a topic: each reads everything from where it began, or is told what it missed.

use super::*;
use crate::log::{Followed, TopicFollower};

/// What a follower read of each partition, and what it missed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    offsets: [Vec<i64>; 2],
    lost: Vec<(u16, Range<i64>)>,
}

impl Seen {
    fn take(&mut self, followed: Followed) {
        match followed {
            Followed::Records { partition, records } => {
                self.offsets[usize::from(partition)].extend(records.iter().map(|record| record.offset));
            }
            Followed::Overtaken { partition, lost } => self.lost.push((partition, lost)),
        }
    }

    /// Reads until both partitions were read up to `ends`.
    async fn until(&mut self, follower: &mut EmbeddedFollower, ends: [i64; 2]) {
        let is_there = |seen: &Self| (0..2).all(|at| seen.offsets[at].last().is_some_and(|last| last + 1 == ends[at]));
        while !is_there(self) {
            let followed = tokio::time::timeout(Duration::from_secs(60), follower.next()).await;
            self.take(followed.expect("the follower got stuck").unwrap());
        }
    }
}

async fn append_to(log: &EmbeddedLog, partition: u16, count: u64) {
    for seed in 0..count {
        log.append(Topic::Raw, partition, payload(seed, 500)).unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn every_follower_reads_each_partition_from_where_it_began_beside_any_group() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append_to(&log, 0, 3).await;
    let mut early = log.follow(Topic::Raw).await.unwrap();
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    assert_eq!(process.next(1 << 20).await.unwrap().len(), 3);
    append_to(&log, 0, 5).await;
    append_to(&log, 1, 4).await;
    let mut late = log.follow(Topic::Raw).await.unwrap();
    append_to(&log, 0, 2).await;
    append_to(&log, 1, 1).await;

    let (mut of_early, mut of_late) = (Seen::default(), Seen::default());
    of_early.until(&mut early, [10, 5]).await;
    of_late.until(&mut late, [10, 5]).await;
    assert_eq!(of_early, Seen { offsets: [(3..10).collect(), (0..5).collect()], lost: Vec::new() });
    assert_eq!(of_late, Seen { offsets: [vec![8, 9], vec![4]], lost: Vec::new() });
    assert_eq!(process.next(1 << 20).await.unwrap()[0].offset, 3, "the group reads on by itself");
}

#[tokio::test]
async fn a_follower_waits_for_records_and_losing_a_race_against_it_loses_none() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let mut follower = log.follow(Topic::Raw).await.unwrap();
    let writer = log.clone();
    let writes = tokio::spawn(async move {
        for _ in 0..50 {
            append_to(&writer, 0, 1).await;
            append_to(&writer, 1, 1).await;
            tokio::task::yield_now().await;
        }
    });
    let mut seen = Seen::default();
    while seen.offsets.iter().any(|offsets| offsets.len() < 50) {
        tokio::select! {
            biased;
            followed = follower.next() => seen.take(followed.unwrap()),
            () = tokio::time::sleep(Duration::from_micros(50)) => {}
        }
    }
    writes.await.unwrap();
    assert_eq!(seen, Seen { offsets: [(0..50).collect(), (0..50).collect()], lost: Vec::new() });
    log.close().await;
    assert!(matches!(follower.next().await, Err(LogError::Closed)));
}

#[tokio::test]
async fn a_slow_follower_holds_up_no_retention_and_is_told_what_it_missed() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let mut follower = log.follow(Topic::Raw).await.unwrap();
    append_to(&log, 0, 120).await;
    append_to(&log, 1, 2).await;
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(120).await.unwrap();
    log.store().retain(crate::clock::now_ms() + 73 * HOUR_MS).unwrap();
    let held = log.bounds(Topic::Raw, 0).await.unwrap();
    assert!(held.start > 100, "{held:?}");

    let mut seen = Seen::default();
    seen.until(&mut follower, [120, 2]).await;
    assert_eq!(seen, Seen { offsets: [(held.start..120).collect(), vec![0, 1]], lost: vec![(0, 0..held.start)] });
}
