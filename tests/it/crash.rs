//! Crashes at random moments: nothing lost, nothing doubled, the ledger exact.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::fault::odd_event;
use crate::harness::load::{kills, restart, under_load, under_load_on};
use crate::harness::{PATIENCE, Pulse, program, signal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_pulse_under_load_lose_and_double_nothing() {
    under_load(1, async |pulse, place, _| {
        pulse.kill().await;
        restart(pulse, place).await;
    })
    .await;
}

/// Every step of the path at which a crash could lose or double: see where `failpoint::point` is called.
const STEPS: [&str; 9] = [
    "log.written",
    "log.synced",
    "ingest.durable",
    "process.published",
    "process.durable",
    "load.fenced",
    "load.sealed",
    "load.stored",
    "load.committed",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_at_each_step_lose_and_double_nothing() {
    let steps_and_rounds = u32::try_from(STEPS.len()).unwrap() * kills().div_ceil(12);
    let mut steps = STEPS.iter().cycle();
    under_load_on(Pulse::start().await, (4, steps_and_rounds), async |pulse, place, moments| {
        let step = steps.next().unwrap();
        // These come once in a life and every few seconds.
        let is_rare = matches!(*step, "load.fenced" | "process.durable");
        let passed = if is_rare { 0 } else { moments.next(6).as_millis() };
        pulse.kill().await;
        if pulse.restart_with(&[("FAILPOINTS", &format!("{step}={passed}*off->return"))]).await {
            *place.lock().unwrap() = pulse.http.clone();
        }
        let ended = tokio::time::timeout(PATIENCE, pulse.child.wait()).await.unwrap_or_else(|_| panic!("{step} was not reached"));
        assert_eq!(ended.unwrap().signal(), Some(Signal::ABORT.as_raw()), "{step}");
        restart(pulse, place).await;
    })
    .await;
}

#[test]
fn a_migration_that_crashes_after_any_statement_is_completed_by_the_next() {
    for passed in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let migrate = |points: &str| {
            Command::new(program()).args(["migrate", "--data-dir"]).arg(dir.path()).env("FAILPOINTS", points).output().unwrap()
        };
        let crashed = migrate(&format!("migrate.executed={passed}*off->return"));
        if crashed.status.success() {
            assert!(passed > 2, "the point was never reached");
            return;
        }
        assert_eq!(crashed.status.signal(), Some(Signal::ABORT.as_raw()), "{}", String::from_utf8_lossy(&crashed.stderr));
        let completed = migrate("");
        assert!(completed.status.success(), "after {passed} statements: {}", String::from_utf8_lossy(&completed.stderr));
        let status = Command::new(program()).args(["migrate", "--status", "--data-dir"]).arg(dir.path()).output().unwrap();
        let said = String::from_utf8(status.stdout).unwrap();
        assert!(said.contains("present") && !said.contains("missing"), "after {passed} statements: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_recovery_lose_and_double_nothing() {
    under_load(2, async |pulse, place, moments| {
        pulse.kill().await;
        for _ in 0..2 {
            // Killed again before it is ready, or just after.
            let mut child = Command::new(program())
                .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
                .arg(pulse.data_dir())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(moments.next(600)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        restart(pulse, place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_engine_alone_lose_and_double_nothing_and_stop_no_ingest() {
    under_load(3, async |pulse, _, moments| {
        let sent = [Signal::KILL, Signal::SEGV][usize::from(moments.next(2) == Duration::from_millis(1))];
        signal(pulse.engine_pid(), sent);
        // Refused for its own fault, durably noted: ingest works without the engine.
        assert_eq!(pulse.http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST);
        while pulse.http.query("events", &json!({"limit": 1})).await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_directory_is_refused() {
    let pulse = Pulse::start().await;
    let second = Command::new(program()).args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(pulse.data_dir()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("is in use") && said.contains(&pulse.data_dir().display().to_string()), "{said}");
}

#[test]
fn a_bad_configuration_is_refused_with_its_key() {
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("PULSE__HTTP__LISTN", "x")], "did you mean `http.listen`"),
        (&[("PULSE__HTTP__LISTEN", "nowhere")], "http.listen"),
        (&[("PULSE__LOAD__MAX_AGE", "soon")], "max_age"),
        (&[("PULSE__LOG__KIND", "paper")], "log.kind"),
        (&[("PULSE__ROLES", "ingest,cook")], "cook"),
        (&[("PULSE__CLICKHOUSE__DATABASE", "a b")], "clickhouse.database"),
    ];
    for command in ["serve", "check-config"] {
        for (environment, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let refused =
                Command::new(program()).args([command, "--data-dir"]).arg(dir.path()).envs(environment.iter().copied()).output().unwrap();
            let said = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(2), "{command} {environment:?}: {said}");
            assert!(said.contains(expected), "{command}: {said}");
        }
    }
}

#[test]
fn a_relative_data_directory_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let migrated = Command::new(program()).current_dir(dir.path()).args(["migrate", "--data-dir", "./here"]).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    assert!(dir.path().join("here/clickhouse").is_dir());
}
