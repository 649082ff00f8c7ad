//! Several real ClickHouse servers as one store: killed, frozen, emptied and added.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use hyper::StatusCode;
use pulse::clickhouse::{ClickHouse, ClickHouseError, ClickHouseSettings, Identifier, Statement};
use pulse::event::ids::LogEpoch;
use pulse::store::books::{self, PartitionKey};
use pulse::store::migrate;
use pulse::store::swap::Kept;
use pulse::store::tables::EVENTS;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::clickhouse::Cluster;
use crate::harness::fault::is_long;
use crate::harness::kafka::Kafka;
use crate::harness::load::{restart, under_load_on};
use crate::harness::proxy::{Fault, Proxy};
use crate::harness::{PATIENCE, Pulse, program, signal};

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
    Pulse::start_in(dir, &cluster.environment()).await
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

/// The tables of pulse on one server.
async fn tables(cluster: &Cluster, shard: usize) -> String {
    let sql = "SELECT database || '.' || name FROM system.tables WHERE database IN ('pulse', 'pulse_all') ORDER BY 1";
    let names: Vec<String> = cluster.rows::<(String,)>(shard, sql).await.into_iter().map(|(name,)| name).collect();
    names.join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_gets_the_schema_and_one_that_lost_it_gets_it_again() {
    let mut cluster = Cluster::start(2).await;
    let dir = tempfile::tempdir().unwrap();
    const ALL: &str = "pulse.alert_states pulse.dead_letters pulse.events pulse.fence pulse.identities pulse.saved \
                       pulse.schema_migrations pulse_all.alert_states pulse_all.dead_letters pulse_all.events pulse_all.identities \
                       pulse_all.saved";

    let before = done(&cluster, &dir, &["migrate", "--status"]);
    assert!(before.contains("missing  0002_events.sql") && !before.contains("present"), "{before}");
    assert!(done(&cluster, &dir, &["migrate"]).contains("applied  distributed tables"));
    assert_eq!((tables(&cluster, 0).await.as_str(), tables(&cluster, 1).await.as_str()), (ALL, ALL));
    let again = done(&cluster, &dir, &["migrate"]);
    assert!(!again.contains("applied") && !again.contains("missing"), "{again}");

    // Everything, or one table although it is noted.
    for (lost, missing) in
        [(&["DATABASE pulse_all", "DATABASE pulse"][..], 11), (&["TABLE pulse.events"], 3), (&["TABLE pulse_all.events"], 1)]
    {
        for what in lost {
            cluster.execute(1, &format!("DROP {what} SYNC")).await;
        }
        let status = done(&cluster, &dir, &["migrate", "--status"]);
        assert_eq!(status.matches(&format!("behind: {}", cluster.name(1))).count(), missing, "{status}");
        assert!(!status.contains(&cluster.name(0)), "{status}");
        let mended = done(&cluster, &dir, &["migrate"]);
        assert!(mended.matches("applied").count() == missing && !mended.contains("missing"), "{mended}");
        assert_eq!(tables(&cluster, 1).await, ALL);
    }

    // One that is away is named, and keeps nothing from the other.
    cluster.execute(1, "DROP TABLE pulse.events SYNC").await;
    cluster.kill(0);
    let without = run(&cluster, &dir, &["migrate"]);
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && said.contains(&cluster.name(0)), "{said}");
    assert_eq!(tables(&cluster, 1).await, ALL);
}

/// The columns of a table with their types, in order.
async fn columns(cluster: &Cluster, table: &str) -> Vec<(String, String)> {
    let sql = format!("SELECT name, type FROM system.columns WHERE database = 'pulse' AND table = '{table}' ORDER BY position");
    cluster.rows(0, &sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_made_anew_has_all_its_changes_wherever_the_run_is_cut() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    done(&cluster, &dir, &["migrate"]);
    let whole = columns(&cluster, "events").await;
    assert!(whole.iter().any(|(name, _)| name == "language"), "{whole:?}");
    for passed in 0.. {
        cluster.execute(0, "DROP TABLE pulse.events SYNC").await;
        let mut command = Command::new(program());
        command.args(["migrate", "--data-dir"]).arg(dir.path()).envs(cluster.environment());
        let cut = command.env("FAILPOINTS", format!("migrate.executed={passed}*off->return")).output().unwrap();
        done(&cluster, &dir, &["migrate"]);
        assert_eq!(columns(&cluster, "events").await, whole, "cut behind {passed} statements");
        if cut.status.success() {
            assert!(passed > 2, "the point was never reached");
            break;
        }
    }
    // A table beside has them too, and is as it must be to take the place of the other.
    done(&cluster, &dir, &["keys", "create", "shop"]);
    done(&cluster, &dir, &["replay", "--to-table", "again"]);
    assert_eq!(columns(&cluster, "again").await, whole);
}

/// What is killed or frozen next.
enum Turn {
    Pulse,
    Server(usize),
    /// A server, and pulse, which then starts without it.
    Both(usize),
    Frozen(usize),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_pulse_and_of_each_server_lose_and_double_nothing() {
    let mut cluster = Cluster::start(2).await;
    let pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    let mut turns =
        [Turn::Pulse, Turn::Server(0), Turn::Server(1), Turn::Both(1), Turn::Frozen(0), Turn::Both(0), Turn::Frozen(1)].into_iter();
    under_load_on(pulse, (21, 7), async |pulse, place, moments| {
        match turns.next().unwrap() {
            Turn::Pulse => {
                pulse.kill().await;
                restart(pulse, place).await;
            }
            Turn::Server(shard) => {
                cluster.kill(shard);
                tokio::time::sleep(moments.next(500)).await;
                cluster.restart(shard).await;
            }
            Turn::Both(shard) => {
                cluster.kill(shard);
                pulse.kill().await;
                restart(pulse, place).await;
                cluster.restart(shard).await;
            }
            Turn::Frozen(shard) => {
                // Longer than a request may take: what it then writes comes from an insert that was given up.
                cluster.freeze(shard);
                tokio::time::sleep(Duration::from_secs(3) + moments.next(1_000)).await;
                cluster.thaw(shard);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    assert_eq!(homes(&cluster, 2).await, BTreeMap::from([(0, 0), (1, 1), (2, 0), (3, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_arrives_when_it_was_given_up_is_refused_and_one_whose_answer_is_lost_is_found() {
    let cluster = Cluster::start(2).await;
    let proxies = [Proxy::start(cluster.name(0)).await, Proxy::start(cluster.name(1)).await];
    let shards = proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
    let mut environment = cluster.environment();
    environment.push(("PULSE__CLICKHOUSE__SHARDS", shards));
    let pulse = Pulse::start_with(&environment).await;
    let mut turn = 0..;
    under_load_on(pulse, (23, 6), async |_, _, _| {
        let turn = turn.next().unwrap();
        let proxy = &proxies[turn / 2 % 2];
        if turn % 2 == 0 {
            let answer = proxy.strike(Fault::LoseAnswer).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        } else {
            // Longer than a request may take.
            let answer = proxy.strike(Fault::Stall(2 * cluster.config().request_timeout)).await;
            assert!(answer.contains("Constraint `fenced`"), "{answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_shard_is_added_partitions_stay_where_they_are_and_others_use_it() {
    let mut cluster = Cluster::start(1).await;
    let mut pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    // Visitors of two partitions, one with an even number and one with an odd one, so that both could begin in the new shard.
    send(&pulse, 4, &MANY[..2]).await;
    assert_eq!(pulse.http.settled().await["stored"], 200);
    let before = partitions(&cluster, 0).await;
    assert!((1..4).contains(&before.len()), "{before:?}");
    pulse.kill().await;

    cluster.grow_to(2).await;
    let environment = cluster.environment();
    pulse.restart_with(&environment).await;
    send(&pulse, 20, &MANY).await;
    assert_eq!(pulse.http.settled().await["stored"], 1_200);
    let homes = homes(&cluster, 2).await;
    let expected = (0..4).map(|partition| (partition, if before.contains_key(&partition) { 0 } else { usize::from(partition) % 2 }));
    assert_eq!(homes, expected.collect());
    assert!(homes.values().any(|shard| *shard == 1), "{homes:?}");
    assert_eq!(pulse.http.events().await.len(), 1_200, "queries see both");
    pulse.kill().await;
    pulse.restart_with(&environment).await;
    send(&pulse, 4, &MANY).await;
    assert_eq!(pulse.http.settled().await["stored"], 1_400);
    assert_eq!(self::homes(&cluster, 2).await, homes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_server_hangs_events_are_accepted_and_the_other_shard_loads() {
    let mut cluster = Cluster::start(2).await;
    let pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    send(&pulse, 4, &MANY).await;
    pulse.http.settled().await;
    let before: u64 = partitions(&cluster, 0).await.values().sum();

    let lag = async || {
        let text = pulse.http.text("/metrics").await;
        let records = text.lines().filter_map(|line| line.strip_prefix("pulse_lag_records{")?.split(' ').nth(1)?.parse::<f64>().ok());
        records.reduce(|left, right| left + right)
    };
    soon("the lag is known", async || lag().await == Some(0.0)).await;

    cluster.freeze(1);
    send(&pulse, 24, &MANY).await;
    // Every request is alike, so shard 0 gets six times of each what it got of the first four.
    let has_its_own = async || partitions(&cluster, 0).await.values().sum::<u64>() == 7 * before;
    soon("the other shard has what is its own", has_its_own).await;
    let ask = async |from: &str| pulse.http.query("trends", &json!({"from": from, "series": [{"event": "click"}]})).await;
    let (status, answer) = ask("-1d").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "half of the answer is none: {answer}");
    soon("the lag grows", async || lag().await > Some(0.0)).await;
    cluster.thaw(1);
    assert_eq!(pulse.http.settled().await["stored"], 28 * 50);
    assert_eq!(pulse.http.events().await.len(), 28 * 50);

    cluster.kill(1);
    let (status, answer) = ask("-2d").await;
    assert_eq!((status, &answer["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("store_unavailable")), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_beside_is_swapped_in_on_every_server() {
    let cluster = Cluster::start(2).await;
    let mut pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    send(&pulse, 20, &MANY).await;
    let books = pulse.http.settled().await;
    let events = sorted(pulse.http.events().await);
    let homes_before = homes(&cluster, 2).await;
    signal(pulse.pid(), Signal::TERM);
    assert!(pulse.child.wait().await.unwrap().success());

    let replay = |arguments: &[&str]| {
        let arguments = [&["replay", "--json", "--from-offset", "0"], arguments].concat();
        let mut command = Command::new(program());
        command.args(arguments).arg("--data-dir").arg(pulse.data_dir()).envs(cluster.environment());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        (summary["read"].clone(), summary["stored"].clone(), summary["skipped"].clone())
    };
    assert_eq!(replay(&[]), (json!(1_000), json!(0), json!(1_000)));
    assert_eq!(replay(&["--to-table", "rebuilt", "--swap"]), (json!(1_000), json!(1_000), json!(0)));

    pulse.restart().await;
    assert_eq!(pulse.http.settled().await, books);
    assert_eq!(sorted(pulse.http.events().await), events);
    assert_eq!(homes(&cluster, 2).await, homes_before);
    send(&pulse, 2, &MANY).await;
    assert_eq!(pulse.http.settled().await["stored"], 1_100, "loading goes on in the swapped tables");
}

/// After each statement of a swap, one server is a step ahead of the other: what live roles take meanwhile goes to no wrong table.
/// With `PULSE_TEST_LONG` after every statement, else after every third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_that_is_cut_between_two_servers_is_ended_by_the_next_and_loses_and_doubles_nothing() {
    let cluster = Cluster::start(2).await;
    let mut pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    send(&pulse, 6, &MANY).await;
    pulse.http.settled().await;
    let (homes_before, dir) = (homes(&cluster, 2).await, pulse.data_dir().to_owned());
    for passed in (0..).step_by(if is_long() { 1 } else { 3 }) {
        let (books, events) = (pulse.http.settled().await, sorted(pulse.http.events().await));
        pulse.end().await;
        let name = format!("rebuilt_{passed}");
        let swap = |points: &str| {
            let mut command = Command::new(program());
            command.args(["replay", "--json", "--to-table", &name, "--swap", "--data-dir"]).arg(&dir);
            command.envs(cluster.environment()).env("FAILPOINTS", points).output().unwrap()
        };
        let is_whole = swap(&format!("swap.executed={passed}*off->return")).status.success();

        pulse.restart().await;
        // Accepted in any case; where it cannot be stored yet it waits in the log.
        send(&pulse, 1, &MANY).await;
        pulse.kill().await;
        let ended = swap("");
        let said = String::from_utf8_lossy(&ended.stderr);
        // Cut behind its last statement it was whole, and is not done a second time.
        assert!(ended.status.success() || said.contains("before an earlier swap"), "after {passed} statements: {said}");

        pulse.restart().await;
        let after = pulse.http.settled().await;
        let stored = |books: &Value| books["stored"].as_u64().unwrap();
        assert_eq!(stored(&after), stored(&books) + 50, "after {passed} statements: {after}");
        let found = sorted(pulse.http.events().await);
        assert_eq!(found.len() as u64, stored(&after), "after {passed} statements");
        assert!(events.iter().all(|event| found.binary_search(event).is_ok()), "after {passed} statements an event is gone");
        assert_eq!(homes(&cluster, 2).await, homes_before, "after {passed} statements");
        if is_whole {
            assert!(passed > 8, "the point was never reached");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replay_copies_and_counts_may_take_longer_than_a_request() {
    let cluster = Cluster::start(1).await;
    let pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    send(&pulse, 4, &MANY).await;
    assert_eq!(pulse.http.settled().await["stored"], 200);
    assert!(pulse.stop().await);

    let settings = cluster.config().check().unwrap();
    let name = Identifier::parse("kept").unwrap();
    migrate::create_beside(&ClickHouse::new(&settings), &name).await.unwrap();
    let hurried = ClickHouse::new(&ClickHouseSettings { request_timeout: Duration::ZERO, ..settings });
    let asked = hurried.migrator.rows::<(u8,)>(&Statement::of("SELECT 1")).await;
    assert!(matches!(asked, Err(ClickHouseError::TimedOut(_))), "{asked:?}");

    let rows =
        cluster.rows::<(String, u16)>(0, "SELECT toString(log_epoch), min(log_partition) FROM pulse.events GROUP BY log_epoch").await;
    let [(epoch, partition)] = rows.as_slice() else { panic!("{rows:?}") };
    let key = PartitionKey { epoch: LogEpoch(epoch.parse().unwrap()), partition: *partition };
    let outcomes = books::outcomes(&hurried, &hurried.table(EVENTS.name()), key.epoch).await.unwrap();
    assert_eq!((outcomes.stored, outcomes.duplicate, outcomes.dead), (200, 0, 0));
    assert!(books::end_of_block(&hurried, key, i64::MAX).await.unwrap().is_some());
    assert!(books::block_that_ends_from(&hurried, key, 0).await.unwrap().is_some());

    // Of each partition all but the first record would be replayed: a part of a day is copied.
    let replayed: Vec<(u16, std::ops::Range<i64>)> = (0..4).map(|partition| (partition, 1..2)).collect();
    Kept::new(key.epoch, &replayed).copy(&hurried, &name).await.unwrap();
    let count = async |sql: &str| cluster.rows::<(u32,)>(0, sql).await[0].0;
    let (all, kept) = (count("SELECT toUInt32(count()) FROM pulse.events").await, count("SELECT toUInt32(count()) FROM pulse.kept").await);
    assert_eq!(kept, count("SELECT toUInt32(count()) FROM pulse.events WHERE log_offset < 1").await);
    assert!(0 < kept && kept < all, "{kept} of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_whose_last_insert_fails_does_it_again_before_it_ends() {
    let cluster = Cluster::start(1).await;
    let mut pulse = pulse_on(&cluster, tempfile::tempdir().unwrap()).await;
    send(&pulse, 2, &["ada"]).await;
    assert_eq!(pulse.http.settled().await["stored"], 100);
    pulse.end().await;
    let partition = match cluster.rows::<(u16,)>(0, "SELECT DISTINCT log_partition FROM pulse.events").await.as_slice() {
        [(partition,)] => partition.to_string(),
        several => panic!("one visitor is in {several:?}"),
    };
    let proxy = Proxy::start(cluster.name(0)).await;
    let longer = 2 * cluster.config().request_timeout;
    // All there is goes into one block: its insert is the first and the last. Only what has `events` in its name the proxy strikes.
    for (table, fault) in [("events_stalled", Fault::Stall(longer)), ("events_unanswered", Fault::LoseAnswer)] {
        let mut command = tokio::process::Command::new(program());
        command.args(["replay", "--json", "--partition", &partition, "--to-table", table, "--data-dir"]).arg(pulse.data_dir());
        command.envs(cluster.environment()).env("PULSE__CLICKHOUSE__SHARDS", proxy.url());
        // What is answered to a stalled insert comes when the replay is long over.
        let strike = async {
            proxy.strike(fault).await;
            std::future::pending().await
        };
        let output = tokio::select! {
            output = command.output() => output.unwrap(),
            output = strike => output,
        };
        assert!(proxy.has_struck(), "{fault:?}: no insert came");
        assert!(output.status.success(), "{fault:?}: {}", String::from_utf8_lossy(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["stored"], json!(100), "{fault:?}: {summary}");
        let count = format!("SELECT toUInt32(count()) FROM pulse.{table} WHERE project_id != 0");
        assert_eq!(cluster.rows::<(u32,)>(0, &count).await, [(100,)], "{fault:?}");
    }
}

fn sorted(events: Vec<Value>) -> Vec<String> {
    let mut events: Vec<String> = events.iter().map(Value::to_string).collect();
    events.sort();
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_move_between_instances_stay_in_their_shard_and_nothing_is_lost_or_doubled() {
    let (kafka, mut cluster) = (Kafka::start(1).await, Cluster::start(2).await);
    let mut environment = [kafka.environment("shards"), cluster.environment()].concat();
    let first = Pulse::start_with(&environment).await;
    environment.push(("PULSE__ROLES", "process,load".to_owned()));
    let mut second = Pulse::start_beside(&first, &environment).await;

    let mut round = 0..;
    under_load_on(first, (22, 4), async |pulse, place, moments| {
        match round.next().unwrap() {
            0 => {
                second.kill().await;
                second.restart().await;
            }
            1 => {
                pulse.kill().await;
                restart(pulse, place).await;
            }
            2 => {
                cluster.kill(1);
                second.kill().await;
                second.restart().await;
                cluster.restart(1).await;
            }
            _ => {
                // It is taken for dead, and goes on with what it holds when it wakes.
                signal(second.pid(), Signal::STOP);
                tokio::time::sleep(Duration::from_secs(4) + moments.next(500)).await;
                signal(second.pid(), Signal::CONT);
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    })
    .await;
    assert_eq!(homes(&cluster, 2).await, BTreeMap::from([(0, 0), (1, 1), (2, 0), (3, 1)]));
    let said = std::fs::read_to_string(second.data_dir().join("test.log")).unwrap();
    assert!(said.contains(" loading partition="), "the second loaded nothing: {said}");
    assert!(second.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_there_but_says_nothing_delays_no_start() {
    let cluster = Cluster::start(2).await;
    cluster.freeze(1);
    // Whoever waited for as long as a statement may take would not be ready within this test.
    let environment = [cluster.environment(), vec![("PULSE__CLICKHOUSE__REQUEST_TIMEOUT", "10m".to_owned())]].concat();
    let pulse = Pulse::start_with(&environment).await;
    let event = json!({"type": "view", "anonymousId": "ada"});
    assert_eq!(pulse.http.capture(&event).await.0, StatusCode::OK);
    cluster.thaw(1);
    assert_eq!(pulse.http.settled().await["stored"], 1);
    assert!(pulse.stop().await);
}
