//! Two instances on Kafka, a ClickHouse of their own and Redis: one owner at a time, and one verdict and one notice whoever that is.

use hyper::{Method, StatusCode};
use pulse::clickhouse::{ErrorClass, Statement};

use super::{MINUTE_MS, amounting, ask, largest, write};
use crate::harness::clickhouse::Cluster;
use crate::harness::clock::Clock;
use crate::harness::kafka::Kafka;
use crate::harness::receiver::{Received, Receiver};
use crate::harness::redis::RedisServer;
use crate::harness::{PATIENCE, POLL, Pulse, signal};

pub(super) async fn owns(pulse: &Pulse) -> bool {
    pulse.http.counter("pulse_alerts_owner").await == 1
}

pub(super) async fn until_owned_by(pulse: &Pulse) {
    let waiting = async {
        while !owns(pulse).await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("nobody owns the alerts");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_frozen_past_its_lease_and_thawed_writes_and_tells_nothing_any_more() {
    let (kafka, cluster, redis) = (Kafka::start(1).await, Cluster::start(1).await, RedisServer::start(&[]).await);
    let (clock, receiver, files) = (Clock::new(), Receiver::start().await, tempfile::tempdir().unwrap());
    let channel = |id: &str| format!("[channels.{id}]\nkind = 'webhook'\nurl = '{}'\n", receiver.url(&format!("/{id}")));
    write(files.path(), &format!("{}{}heartbeat = '1s'\n", channel("hook"), channel("beat")));
    let mut environment = kafka.environment("alerts");
    environment.extend(cluster.environment_of_one());
    environment.extend(clock.environment());
    environment.push(("PULSE__REDIS__URL", redis.url()));
    environment.push(("PULSE__ALERTS__FILES", files.path().display().to_string()));
    let first = Pulse::start_with(&environment).await;
    until_owned_by(&first).await;
    let second = Pulse::start_beside(&first, &environment).await;
    let (status, answer) = ask(&second.http, Method::PUT, "/v1/alerts/signups", &largest("signup", &["hook"])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let mut ahead_s = 0;
    let mut pass = |seconds: i64| {
        ahead_s += seconds;
        clock.set_ahead(ahead_s);
        (pulse::clock::now_ms() + ahead_s * 1_000).div_euclid(MINUTE_MS) * MINUTE_MS
    };
    let judged = async |pulse: &Pulse, minute: i64| {
        let through = jiff::Timestamp::from_millisecond(minute).unwrap().to_string();
        let waiting = async {
            while pulse.http.get("/v1/alerts/signups").await.1["judged_through"].as_str() < Some(&through) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it is not judged");
    };
    let send = async |pulse: &Pulse, amount: u32| {
        assert_eq!(pulse.http.capture(&amounting("signup", amount)).await.0, StatusCode::OK);
    };
    let minute = pass(60);
    judged(&second, minute).await;
    send(&first, 9).await;
    // Frozen with a verdict to be made: whoever makes it, it is made once.
    signal(first.pid(), rustix::process::Signal::STOP);
    let minute = pass(60);
    until_owned_by(&second).await;
    // Who listens for the heartbeat need not know which of them it is.
    receiver.wait("/beat", receiver.at("/beat").len() + 2).await;
    signal(first.pid(), rustix::process::Signal::CONT);
    judged(&second, minute).await;
    // Each time the clock goes ahead a lease of before is over: what was on its way then may be told again, under its id.
    receiver.wait_for_ids("/hook", 1).await;
    send(&second, 1).await;
    let minute = pass(60);
    judged(&first, minute).await;
    receiver.wait_for_ids("/hook", 2).await;
    let twice: Vec<(String,)> =
        cluster.rows(0, "SELECT toString(slot) FROM pulse.alert_states WHERE kind = 'slot' GROUP BY rule, slot HAVING count() > 1").await;
    assert!(twice.is_empty(), "{twice:?}");
    // Whether the first one has tried it or not: the table takes no row of another generation.
    let again = "INSERT INTO pulse.alert_states (kind, project_id, rule, entry, slot, version, generation, at, body) \
        SELECT kind, project_id, rule, entry, slot, version, 1, at, body FROM pulse.alert_states LIMIT 1";
    let refused = cluster.administrator(0).execute(&Statement::raw(again)).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Fenced, "{refused}");

    // Without Redis nothing changes: the lease is in the store.
    drop(redis);
    send(&first, 9).await;
    let minute = pass(60);
    judged(&first, minute).await;
    let told = receiver.wait_for_ids("/hook", 3).await;
    assert_eq!(told.iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved", "firing"]);
}
