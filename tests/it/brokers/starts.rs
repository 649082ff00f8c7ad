//! What starts while one of several brokers is dead, and what is asked while brokers say nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pulse::log::kafka::KafkaLogConfig;
use pulse::log::{Log, RunningLog, Topic};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::clickhouse::Cluster;
use crate::harness::fault::is_long;
use crate::harness::kafka::Kafka;
use crate::harness::kafka_log::{config, open};
use crate::harness::load::{Moments, rounds};
use crate::harness::{PATIENCE, Pulse, program};

/// What is started: arguments, roles, and whether it ends by itself.
const STARTS: [(&[&str], &str, bool); 6] = [
    (&["serve", "--listen", "127.0.0.1:0"], "ingest", false),
    (&["serve", "--listen", "127.0.0.1:0"], "process", false),
    (&["serve", "--listen", "127.0.0.1:0"], "load", false),
    (&["serve", "--listen", "127.0.0.1:0"], "query", false),
    (&["migrate"], "ingest", true),
    (&["replay", "--dry-run"], "ingest", true),
];

/// Starts it and returns how long that took: until it is ready, or until it has ended well.
async fn start((arguments, roles, ends): (&[&str], &str, bool), environment: &[(&'static str, String)]) -> Duration {
    let (dir, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let log = std::fs::File::create(dir.path().join("test.log")).unwrap();
    let mut command = tokio::process::Command::new(program());
    command.args(arguments).arg("--data-dir").arg(dir.path()).envs(environment.iter().cloned()).env("PULSE__ROLES", roles);
    let mut child = command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn().unwrap();
    let said = || std::fs::read_to_string(dir.path().join("test.log")).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        if ends {
            return child.wait().await.unwrap().success();
        }
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("pulse is ready at ") {
                return true;
            }
        }
        false
    };
    let is_ready = tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("{arguments:?} {roles}: {}", said()));
    assert!(is_ready, "{arguments:?} {roles}: {}", said());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_starts_while_any_broker_of_three_is_dead() {
    let mut kafka = Kafka::start(3).await;
    let cluster = Cluster::start(1).await;
    let environment = [kafka.environment("starts"), cluster.environment()].concat();
    assert!(Pulse::start_with(&environment).await.stop().await);
    let (mut moments, mut times) = (Moments::new(47), Vec::new());
    for round in 0..usize::try_from(rounds(3)).unwrap() {
        let broker = round % 3;
        kafka.kill(broker);
        tokio::time::sleep(moments.next(if is_long() { 30_000 } else { 2_000 })).await;
        times.extend(join_all(STARTS.iter().map(|what| start(*what, &environment))).await);
        kafka.restart(broker).await;
    }
    times.sort_unstable();
    println!(
        "{} starts with a broker dead: half within {:?}, all within {:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().filter(|task| name_of(task.as_ref().unwrap().path()).starts_with("rdk:")).count()
}

fn name_of(task: std::path::PathBuf) -> String {
    std::fs::read_to_string(task.join("comm")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_nobody_waits_for_any_more_leave_no_client_behind() {
    let kafka = Kafka::start(1).await;
    let log = open(KafkaLogConfig { replication: 1, ..config(&kafka, "asked") }).await;
    join_all((0..16).map(|_| log.bounds(Topic::Raw, 0))).await.into_iter().for_each(|held| assert_eq!(held.unwrap(), 0..0));
    let before = threads();
    kafka.freeze(0);
    for _ in 0..60 {
        let _ = tokio::time::timeout(Duration::from_millis(20), log.bounds(Topic::Raw, 0)).await;
    }
    let meanwhile = threads();
    kafka.thaw(0);
    let answered = tokio::time::timeout(PATIENCE, async { while log.bounds(Topic::Raw, 0).await.is_err() {} }).await;
    assert!(answered.is_ok(), "nothing is answered any more");
    println!("threads of clients: {before} before, {meanwhile} while nobody answered, {} after", threads());
    // Other tests of this process may have clients of their own; each of the sixty would have had three threads and more.
    assert!(meanwhile < before + 60, "{before} threads, then {meanwhile}");
    log.close().await;
}
