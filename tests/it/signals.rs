//! Instances that are asked to end, one way or another, and fleets that are replaced one instance at a time.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use pulse::lifecycle::spawn_apart;
use rustix::process::Signal;

use crate::harness::clickhouse::Cluster;
use crate::harness::fault::odd_event;
use crate::harness::fleet::instance;
use crate::harness::kafka::Kafka;
use crate::harness::load::{restart, rounds, under_load_on};
use crate::harness::{PATIENCE, Pulse, program, signal};

/// How an instance is ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Asked(Signal),
    /// Asked, and killed within a second.
    AskedAndKilled,
    /// Asked twice: at once, whatever is not yet done.
    AskedTwice,
}

async fn ended(pulse: &mut Pulse) -> ExitStatus {
    tokio::time::timeout(PATIENCE, pulse.child.wait()).await.expect("pulse did not end").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_are_asked_to_end_under_load_lose_and_double_nothing() {
    let ends = [End::Asked(Signal::TERM), End::AskedAndKilled, End::AskedTwice, End::Asked(Signal::INT)];
    let mut turns = ends.into_iter().cycle();
    let faults = rounds(ends.len() as u32);
    under_load_on(Pulse::start().await, (51, faults), async |pulse, place, moments| {
        // A terminal that goes away ends nothing.
        signal(pulse.pid(), Signal::HUP);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(pulse.http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST);

        let (end, began) = (turns.next().unwrap(), Instant::now());
        match end {
            End::Asked(asked) => {
                signal(pulse.pid(), asked);
                assert!(ended(pulse).await.success(), "{asked:?}");
            }
            End::AskedAndKilled => {
                signal(pulse.pid(), Signal::TERM);
                tokio::time::sleep(moments.next(1_000)).await;
                // It may have ended by itself.
                let _ = pulse.child.start_kill();
                ended(pulse).await;
            }
            End::AskedTwice => {
                signal(pulse.pid(), Signal::TERM);
                signal(pulse.pid(), Signal::TERM);
                ended(pulse).await;
            }
        }
        println!("{end:?}: ended after {:?}", began.elapsed());
        restart(pulse, place).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_asked_to_end_while_its_store_says_nothing_ends_well() {
    let (dir, silent) = (tempfile::tempdir().unwrap(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut command = tokio::process::Command::new(program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path()).kill_on_drop(true);
    command.env("PULSE__CLICKHOUSE__URL", format!("http://{}", silent.local_addr().unwrap()));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let pulse = command.spawn().unwrap();
    // It starts with a question.
    let asked = tokio::time::timeout(PATIENCE, silent.accept()).await.expect("it asks nothing").unwrap();
    signal(pulse.id().unwrap(), Signal::TERM);
    let ended = tokio::time::timeout(PATIENCE, pulse.wait_with_output()).await.expect("pulse did not end").unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    drop(asked);
}

/// The program of another release, to be mixed with this one.
#[allow(clippy::disallowed_methods, reason = "which release is for whoever runs it")]
fn another_release() -> PathBuf {
    std::env::var_os("PULSE_TEST_OTHER_RELEASE").map_or_else(program, PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_replaced_one_instance_at_a_time_and_back_accepts_all_the_while() {
    let (kafka, cluster) = (Kafka::start(1).await, Cluster::start(1).await);
    let first = instance(&kafka, &cluster, "ingest,query", None).await;
    let mut second = instance(&kafka, &cluster, "ingest,query", Some(&first)).await;
    let mut loaders =
        [instance(&kafka, &cluster, "process,load", Some(&first)).await, instance(&kafka, &cluster, "process,load", Some(&first)).await];
    let mut releases = [another_release(), program()].into_iter().cycle();
    under_load_on(first, (52, rounds(2)), async |first, place, _| {
        let release = releases.next().unwrap();
        for loader in &mut loaders {
            loader.end().await;
            loader.restart_as(&release).await;
            // Both releases side by side.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for _ in 0..2 {
            // Clients are sent to the other instance before this one ends, as a load balancer does.
            *place.lock().unwrap() = second.http.clone();
            tokio::time::sleep(Duration::from_millis(200)).await;
            first.end().await;
            first.restart_as(&release).await;
            std::mem::swap(first, &mut second);
        }
        *place.lock().unwrap() = first.http.clone();
        assert_eq!(first.http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST);
    })
    .await;
    for pulse in loaders.into_iter().chain([second]) {
        let said = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        assert!(pulse.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_asked_twice_waits_for_no_broker() {
    /// Longer than anything else that may keep it.
    const LONGER: &str = "240s";
    let kafka = Kafka::start(1).await;
    let more = [("PULSE__LOG__KAFKA__DELIVERY_TIMEOUT", LONGER), ("PULSE__DRAIN_TIMEOUT", LONGER), ("PULSE__ROLES", "ingest")];
    let more = more.map(|(name, value)| (name, value.to_owned()));
    let mut pulse = Pulse::start_with(&[kafka.environment("twice"), more.to_vec()].concat()).await;
    assert_eq!(pulse.http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST);
    kafka.freeze(0);
    // What waits for the broker keeps both the drain and the log from ending.
    let http = pulse.http.clone();
    let sending = spawn_apart(async move { http.try_capture(&odd_event()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..2 {
        signal(pulse.pid(), Signal::TERM);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ended(&mut pulse).await;
    assert!(!matches!(sending.await.unwrap(), Ok((StatusCode::OK | StatusCode::BAD_REQUEST, _))), "nobody can have noted it");
    kafka.thaw(0);
}
