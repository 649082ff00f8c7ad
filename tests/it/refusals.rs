//! A ClickHouse that refuses what it is given: nothing is lost, nothing good becomes a dead letter, and loading resumes by itself
//! once the cause is gone.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::harness::clickhouse::{Cluster, PASSWORD};
use crate::harness::{PATIENCE, Pulse};

/// Why the server refuses.
enum Refusal {
    /// Statements that break something, and those that mend it.
    Sql(&'static [&'static str], &'static [&'static str]),
    /// Another password for the user who inserts.
    Password,
}

/// Each with what pulse says of it: whether it expects time or a person to mend it.
const REFUSALS: [(&str, Refusal, &str); 6] = [
    (
        "too many parts",
        Refusal::Sql(
            &[
                "SYSTEM STOP MERGES pulse.events",
                "ALTER TABLE pulse.events MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1",
            ],
            &["ALTER TABLE pulse.events RESET SETTING parts_to_throw_insert, parts_to_delay_insert", "SYSTEM START MERGES pulse.events"],
        ),
        "clickhouse refuses for now",
    ),
    (
        "a table that is read-only",
        Refusal::Sql(
            &["ALTER TABLE pulse.events MODIFY SETTING table_readonly = 1"],
            &["ALTER TABLE pulse.events MODIFY SETTING table_readonly = 0"],
        ),
        "clickhouse refuses for now",
    ),
    (
        "a column of another type",
        Refusal::Sql(
            &["ALTER TABLE pulse.events RENAME COLUMN page_title TO kept", "ALTER TABLE pulse.events ADD COLUMN page_title Array(UInt8)"],
            &["ALTER TABLE pulse.events DROP COLUMN page_title", "ALTER TABLE pulse.events RENAME COLUMN kept TO page_title"],
        ),
        "loading stopped until this is mended",
    ),
    (
        "a column that is gone",
        Refusal::Sql(
            &["ALTER TABLE pulse.events RENAME COLUMN page_title TO kept"],
            &["ALTER TABLE pulse.events RENAME COLUMN kept TO page_title"],
        ),
        "loading stopped until this is mended",
    ),
    (
        "a table that is gone",
        Refusal::Sql(&["DETACH TABLE pulse.events"], &["ATTACH TABLE pulse.events"]),
        "loading stopped until this is mended",
    ),
    ("a wrong password", Refusal::Password, "loading stopped until this is mended"),
];

async fn send(pulse: &Pulse) {
    for _ in 0..4 {
        let event = |at| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "click", "anonymousId": format!("v{}", at % 9)});
        let events: Vec<Value> = (0..50).map(event).collect();
        assert_eq!(pulse.http.capture(&json!(events)).await.0, StatusCode::OK, "no answer depends on the store");
    }
}

async fn execute(cluster: &Cluster, statements: &[&str]) {
    for statement in statements {
        cluster.execute(0, statement).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_waited_out_without_a_loss() {
    let mut cluster = Cluster::start(1).await;
    let pulse = Pulse::start_with(&cluster.environment_of_one()).await;
    send(&pulse).await;
    pulse.http.settled().await;

    for ((name, refusal, said), round) in REFUSALS.iter().zip(2..) {
        match refusal {
            Refusal::Sql(breaks, _) => execute(&cluster, breaks).await,
            Refusal::Password => cluster.restart_with_password(0, "another").await,
        }
        let log = || std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
        let before = log().len();
        send(&pulse).await;
        let tried = async {
            while !log()[before..].contains(said) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let is_told = tokio::time::timeout(PATIENCE, tried).await.is_ok();
        assert!(is_told, "{name}: pulse does not say `{said}`");
        match refusal {
            Refusal::Sql(_, mends) => execute(&cluster, mends).await,
            Refusal::Password => cluster.restart_with_password(0, PASSWORD).await,
        }
        let began = std::time::Instant::now();
        let total = pulse.http.settled().await;
        assert_eq!((&total["stored"], &total["dead"], &total["duplicate"]), (&json!(round * 200), &json!(0), &json!(0)), "{name}: {total}");
        println!("{name}: all there {:?} after it was mended", began.elapsed());
    }
    let rows: Vec<(u32, u32)> =
        cluster.rows(0, "SELECT toUInt32(count()), toUInt32(uniqExact(event_id)) FROM pulse.events WHERE project_id != 0").await;
    assert_eq!(rows, [(1_400, 1_400)]);
    assert_eq!(cluster.rows::<(u32,)>(0, "SELECT toUInt32(count()) FROM pulse.dead_letters").await, [(0,)]);
}
