//! `pulse bench` beside what is in use.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::{Pulse, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_into_the_server_of_a_running_instance_changes_nothing_of_it_and_leaves_no_file() {
    let cluster = Cluster::start(1).await;
    let environment = cluster.environment_of_one();
    let pulse = Pulse::start_with(&environment).await;
    let events: Vec<Value> =
        (0..50).map(|n| json!({"eventId": uuid::Uuid::new_v4(), "type": "order", "anonymousId": format!("v{n}")})).collect();
    pulse.http.capture(&json!(events)).await;
    let before = pulse.http.settled().await;

    let (temporary, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Nothing that reads them starts.
    std::fs::write(rules.path().join("of-production.toml"), "no rule").unwrap();
    let mut command = Command::new(program());
    command.args(["bench", "--json", "--rate", "200", "--duration", "2s", "--batch", "10", "--connections", "2"]);
    // Somebody who may make a database: those of the instance may not.
    let own = environment.into_iter().filter(|(name, _)| !name.ends_with("_USER") && !name.ends_with("PASSWORD"));
    command.envs(own).env("PULSE__CLICKHOUSE__USER", "default").env("TMPDIR", temporary.path());
    command.env("PULSE__ALERTS__FILES", rules.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["lost"], &said["duplicated"]), (&json!(0), &json!(0)), "{said}");
    assert!(said["stored"].as_u64().unwrap() > 0, "{said}");

    assert_eq!(pulse.http.settled().await, before);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    // It still loads: nobody has taken the fence.
    pulse.http.capture(&json!([{"eventId": uuid::Uuid::new_v4(), "type": "order", "anonymousId": "late"}])).await;
    assert_eq!(pulse.http.settled().await["stored"], 51);

    // Nor after a bench that fails.
    let mut failing = Command::new(program());
    failing.args(["bench", "--duration", "1s"]).env("TMPDIR", temporary.path()).env("PULSE__CLICKHOUSE__URL", "nonsense");
    assert!(!failing.output().unwrap().status.success());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
