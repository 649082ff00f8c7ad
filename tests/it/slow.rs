//! Stores that answer, but late, or only some of what they are asked.

use std::time::Duration;

use hyper::StatusCode;
use pulse::clickhouse::Statement;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::clickhouse::Cluster;
use crate::harness::fault::absence;
use crate::harness::load::under_load_on;
use crate::harness::report::{acks, most_memory};
use crate::harness::wire::{Pace, Wire};
use crate::harness::{Http, PATIENCE, Pulse};

/// How far loading is behind, records of all partitions; `None` while nobody knows.
async fn lag(http: &Http) -> Option<f64> {
    let text = http.text("/metrics").await;
    text.lines()
        .filter_map(|line| line.strip_prefix("pulse_lag_records{")?.split(' ').nth(1)?.parse().ok())
        .reduce(|left: f64, right| left + right)
}

async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_is_not_noticed_by_those_who_send_and_its_lag_is_told() {
    let cluster = Cluster::start(1).await;
    let wire = Wire::start(cluster.name(0)).await;
    let mut environment = cluster.environment_of_one();
    environment.push(("PULSE__CLICKHOUSE__URL", format!("http://{}", wire.address())));
    let pulse = Pulse::start_with(&environment).await;
    under_load_on(pulse, (41, 1), async |pulse, _, _| {
        soon("the lag is known", async || lag(&pulse.http).await.is_some()).await;
        let before = acks(&pulse.http).await;
        wire.set(Pace { delay: Duration::from_secs(2), bytes_per_s: 10_000 });
        tokio::time::sleep(absence(10, 300)).await;
        let during = acks(&pulse.http).await;
        let behind = lag(&pulse.http).await;
        assert!(behind > Some(100.0), "{behind:?}: four clients send without a pause");
        wire.set(Pace::default());
        let memory = most_memory(pulse.pid());
        println!("ack p50 and p99, ms: {before:?} before, {during:?} meanwhile; {behind:?} records behind, at most {memory} MiB of memory");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_memory_refuses_questions_and_loses_no_insert() {
    let cluster = Cluster::start(1).await;
    let pulse = Pulse::start_with(&cluster.environment_of_one()).await;
    under_load_on(pulse, (42, 1), async |pulse, _, _| {
        let stop = CancellationToken::new();
        let mut hungry = JoinSet::new();
        for _ in 0..3 {
            let (server, stop) = (cluster.administrator(0), stop.clone());
            hungry.spawn(async move {
                let mut refused = 0;
                while !stop.is_cancelled() {
                    // Takes all that the server may have, and is refused more.
                    let all = "SELECT length(groupArray(number)) FROM numbers(1000000000) SETTINGS max_memory_usage = 0";
                    refused += u32::from(server.execute(&Statement::of(all)).await.is_err());
                }
                refused
            });
        }
        let mut answers = std::collections::BTreeMap::new();
        for number in 0..40 {
            let question = json!({"from": format!("-{}d", number + 1), "series": [{"event": "click", "math": "unique_users"}]});
            let (status, answer) = pulse.http.query("trends", &question).await;
            let is_told = status == StatusCode::OK || answer["code"].is_string();
            assert!(is_told && status != StatusCode::INTERNAL_SERVER_ERROR, "{status}: {answer}");
            *answers.entry(status.as_u16()).or_insert(0) += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.cancel();
        let refused: u32 = hungry.join_all().await.iter().sum();
        assert!(refused > 0, "the server has memory for everything");
        let retries = pulse.http.text("/metrics").await;
        let retries = retries.lines().find(|line| line.starts_with("pulse_load_retries_total")).unwrap_or("no retries").to_owned();
        println!("answers by status: {answers:?}; {refused} hungry statements refused; {retries}");
    })
    .await;
}
