//! Who loads a partition changes in the middle of everything: owners that freeze and thaw, a store that dies while it commits.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::clickhouse::Cluster;
use crate::harness::fleet::instance;
use crate::harness::kafka::Kafka;
use crate::harness::load::{rounds, under_load_on};
use crate::harness::{Pulse, signal};

/// Longer than the session of a group member in the tests, and than it takes the others to take over.
const PAST_THE_SESSION: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_frozen_past_its_session_and_thawed_in_the_middle_of_an_insert_loses_and_doubles_nothing() {
    let kafka = Kafka::start(1).await;
    let cluster = Cluster::start(1).await;
    let first = instance(&kafka, &cluster, "ingest,process,load,query", None).await;
    let second = instance(&kafka, &cluster, "process,load", Some(&first)).await;
    let mut round = 0;
    under_load_on(first, (21, rounds(4)), async |first, _, moments| {
        // Long enough for both to own partitions and to be loading.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let frozen = second.pid();
        round += 1;
        if round % 2 == 0 {
            // The insert arrives, the store stands still with it, its sender freezes, and the store goes on alone.
            cluster.freeze(0);
            tokio::time::sleep(Duration::from_millis(300)).await;
            signal(frozen, Signal::STOP);
            cluster.thaw(0);
        } else {
            signal(frozen, Signal::STOP);
        }
        tokio::time::sleep(PAST_THE_SESSION + moments.next(1_000)).await;
        signal(frozen, Signal::CONT);
        assert_eq!(first.child.try_wait().unwrap(), None);
    })
    .await;
    assert!(second.http.counter("pulse_blocks_stored_total").await > 0, "the second instance was assigned no partition");
    let said = std::fs::read_to_string(second.data_dir().join("test.log")).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    assert!(second.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_killed_at_the_rename_that_commits_a_part_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(1).await;
    let pulse = Pulse::start_with(&cluster.environment()).await;
    under_load_on(pulse, (22, rounds(4)), async |_, _, moments| {
        let renames = 1 + moments.next(40).as_millis();
        cluster.restart_to_die_at_rename(0, renames).await;
        cluster.restart(0).await;
    })
    .await;
}
