//! Several ClickHouse servers as one store, and what one server may refuse: real servers, broken and mended.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::{restart, under_load_on};
use crate::harness::clickhouse::Cluster;
use crate::harness::{PATIENCE, Pulse, program};

/// Runs a command of pulse beside the cluster.
fn run(cluster: &Cluster, dir: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).arg("--data-dir").arg(dir.path()).envs(cluster.environment());
    command.output().unwrap()
}

/// The same, and what it printed; it must end well.
fn done(cluster: &Cluster, dir: &TempDir, arguments: &[&str]) -> String {
    let output = run(cluster, dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn pulse_on(cluster: &Cluster, dir: TempDir) -> Pulse {
    let environment = cluster.environment();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Pulse::start_in(dir, &environment).await
}

/// Sends `requests` requests of 50 events of `visitors`.
async fn send(pulse: &Pulse, requests: usize, visitors: &[&str]) {
    for _ in 0..requests {
        let event =
            |at: usize| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "click", "anonymousId": visitors[at % visitors.len()]});
        let events: Vec<Value> = (0..50).map(event).collect();
        assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK);
    }
}

const MANY: [&str; 12] = ["ada", "bob", "cyd", "dan", "eva", "fay", "gus", "hal", "ida", "joe", "kim", "leo"];

/// Events of each log partition in one shard.
async fn partitions(cluster: &Cluster, shard: usize) -> BTreeMap<u16, u64> {
    let sql = "SELECT log_partition, toUInt32(count()) FROM pulse.events WHERE project_id != 0 GROUP BY log_partition";
    cluster.rows::<(u16, u64)>(shard, sql).await.into_iter().collect()
}

/// Checks that every partition of the log is in one shard, and returns in which.
async fn homes(cluster: &Cluster, shards: usize) -> BTreeMap<u16, usize> {
    let mut homes = BTreeMap::new();
    for shard in 0..shards {
        let sql = "SELECT DISTINCT log_partition FROM pulse.events";
        for (partition,) in cluster.rows::<(u16,)>(shard, sql).await {
            assert_eq!(homes.insert(partition, shard), None, "partition {partition} is in two shards");
        }
    }
    homes
}

async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_gets_the_schema_and_one_that_lost_it_gets_it_again() {
    let cluster = Cluster::start(2).await;
    let dir = tempfile::tempdir().unwrap();
    let tables = async |shard| {
        let sql = "SELECT database || '.' || name FROM system.tables WHERE database IN ('pulse', 'pulse_all') ORDER BY 1";
        cluster.rows::<(String,)>(shard, sql).await.into_iter().map(|(name,)| name).collect::<Vec<_>>().join(" ")
    };
    const ALL: &str = "pulse.dead_letters pulse.events pulse.fence pulse.schema_migrations pulse_all.dead_letters pulse_all.events";

    let before = done(&cluster, &dir, &["migrate", "--status"]);
    assert!(before.contains("missing  0002_events.sql") && !before.contains("present"), "{before}");
    assert!(done(&cluster, &dir, &["migrate"]).contains("applied  distributed tables"));
    assert_eq!((tables(0).await.as_str(), tables(1).await.as_str()), (ALL, ALL));
    let again = done(&cluster, &dir, &["migrate"]);
    assert!(!again.contains("applied") && !again.contains("missing"), "{again}");

    cluster.execute(1, "DROP DATABASE pulse_all").await;
    cluster.execute(1, "DROP DATABASE pulse").await;
    let lost = done(&cluster, &dir, &["migrate", "--status"]);
    assert_eq!(lost.matches(&format!("behind: {}", cluster.name(1))).count(), 4, "{lost}");
    assert!(!lost.contains(&cluster.name(0)), "{lost}");
    let mended = done(&cluster, &dir, &["migrate"]);
    assert!(mended.contains("applied  0001_fence.sql") && !mended.contains("missing"), "{mended}");
    assert_eq!(tables(1).await, ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_pulse_and_of_each_server_lose_and_double_nothing() {
    let mut cluster = Cluster::start(2).await;
    let pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    let mut rounds = 0..;
    under_load_on(pulse, (21, 6), async |pulse, place, moments| {
        match rounds.next().unwrap() % 3 {
            0 => {
                pulse.kill().await;
                restart(pulse, place).await;
            }
            turn => {
                cluster.kill(turn - 1);
                tokio::time::sleep(moments.next(500)).await;
                cluster.restart(turn - 1).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    assert_eq!(homes(&cluster, 2).await, BTreeMap::from([(0, 0), (1, 1), (2, 0), (3, 1)]));
}
