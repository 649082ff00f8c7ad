//! Volumes that are full, out of files or broken, memory that is short, and logs that are long.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use pulse::clickhouse::Statement;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::cgroup::MemoryCgroup;
use crate::harness::clickhouse::Cluster;
use crate::harness::engine::alone_in;
use crate::harness::fault::{absence, is_long, odd_event, something_is_accepted};
use crate::harness::load::{SharedHttp, restart, under_load_on};
use crate::harness::report::most_memory;
use crate::harness::volume::Volume;
use crate::harness::{Http, PATIENCE, Pulse};

/// Room for the embedded engine, and for what clients send in a few seconds.
const MIB: u32 = 600;

async fn on(dir: TempDir) -> Pulse {
    Pulse::start_in::<&str>(dir, &[]).await
}

async fn until_nothing_is_accepted(http: &Http) {
    let refused = async {
        while http.capture(&odd_event()).await.0 != StatusCode::SERVICE_UNAVAILABLE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("events are still accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_volume_nothing_is_accepted_and_what_was_is_there_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::in_memory(dir.path(), MIB);
    under_load_on(on(dir).await, (61, 1), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let until = Instant::now() + absence(3, 60);
        while Instant::now() < until {
            // What the engine gives back meanwhile is taken again.
            volume.fill();
            until_nothing_is_accepted(&pulse.http).await;
        }
        assert_eq!(pulse.http.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        let (status, answer) = pulse.http.query("events", &json!({"limit": 1})).await;
        assert_eq!(status, StatusCode::OK, "what is there can be read: {answer}");
        // What the engine does not keep in memory it writes to its disk first: all of it is answered, or an error.
        let there = pulse.sql("SELECT least(count(), 10000) FROM pulse.events WHERE project_id != 0").parse::<usize>().unwrap();
        volume.fill();
        match pulse.http.query("events", &json!({"limit": 10_000})).await {
            (StatusCode::OK, answer) => assert!(answer["result"]["events"].as_array().unwrap().len() >= there),
            (status, answer) => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}"),
        }
        volume.free();
        let began = Instant::now();
        something_is_accepted(&pulse.http).await;
        println!("events are accepted {:?} after there is space", began.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_could_not_write_is_an_error_and_no_part_without_bytes() {
    const ROWS: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::in_memory(dir.path(), 256);
    let (engine, store) = alone_in(dir.path()).await;
    let run = async |sql: &str| store.migrator.execute(&Statement::raw(sql)).await.map_err(|problem| problem.to_string());
    let all = async || {
        let rows = store.migrator.rows::<(u64, u64)>(&Statement::of("SELECT count(), sum(cityHash64(n, text)) FROM pulse.made")).await;
        rows.expect("what is there can be read").remove(0)
    };
    // Runs a statement, and takes all space once it writes: the engine had promised it room by then.
    let run_into_the_full = async |sql: &str, prefix: &str| {
        volume.fill_but(60);
        let is_running = AtomicBool::new(true);
        let running = async {
            let ended = run(sql).await;
            is_running.store(false, Ordering::Relaxed);
            ended
        };
        let filling = async {
            while is_running.load(Ordering::Relaxed) && parts(dir.path(), prefix).next().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            volume.fill();
        };
        let (ended, ()) = tokio::join!(running, filling);
        volume.free();
        ended
    };
    run("CREATE TABLE pulse.made (n UInt64, text String, PROJECTION by_text (SELECT * ORDER BY text)) ENGINE = MergeTree ORDER BY n")
        .await
        .unwrap();
    let insert = &format!("INSERT INTO pulse.made SELECT arrayJoin(range({ROWS})) AS n, repeat(hex(sipHash128(n)), 3)");
    run(insert).await.unwrap();
    let (rows, sum) = all().await;
    assert_eq!(rows, ROWS);
    let times = |blocks: u64| (blocks * rows, blocks.wrapping_mul(sum));

    for (statement, prefix, before, after) in [(&**insert, "tmp_insert_", 1, 2), ("OPTIMIZE TABLE pulse.made FINAL", "tmp_merge_", 2, 2)] {
        for attempt in 0.. {
            assert!(attempt < 50, "{statement} was never caught in the middle");
            run("TRUNCATE TABLE pulse.made SYNC").await.unwrap();
            for _ in 0..before {
                run(insert).await.unwrap();
            }
            let ended = run_into_the_full(statement, prefix).await;
            assert_eq!(all().await, times(if ended.is_ok() { after } else { before }), "{statement}: {ended:?}");
            let empty: Vec<PathBuf> = written(dir.path()).filter(|file| file.metadata().is_ok_and(|file| file.len() == 0)).collect();
            assert!(empty.is_empty(), "{statement}: {ended:?}: {empty:?}");
            // Not for want of the room that is promised before.
            if ended.is_err_and(|refused| !refused.contains("Cannot reserve")) {
                break;
            }
        }
    }
    drop(engine);
}

fn below(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// The parts of all tables that begin with `prefix`.
fn parts(folder: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> {
    let parts = below(folder.join("clickhouse/data/store")).flat_map(below).flat_map(below);
    parts.filter(move |path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
}

/// What is in use of the table: the rows of its parts and of their projections.
fn written(folder: &Path) -> impl Iterator<Item = PathBuf> {
    parts(folder, "all_").flat_map(|part| [part.join("data.bin"), part.join("by_text.proj/data.bin")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_volume_of_the_store_alone_is_not_noticed_by_those_who_send() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("clickhouse")).unwrap();
    let volume = Volume::in_memory(&dir.path().join("clickhouse"), MIB);
    under_load_on(on(dir).await, (62, 1), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refusals = || std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap().matches("clickhouse refuses for now").count();
        let (began, before) = (Instant::now(), refusals());
        while began.elapsed() < absence(3, 60) || refusals() == before {
            assert!(began.elapsed() < absence(3, 60) + PATIENCE, "the store refuses nothing");
            volume.fill();
            assert_eq!(pulse.http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST, "ingest does not depend on the store");
        }
        volume.free();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_without_files_left_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::of_files(dir.path(), MIB, 2_000);
    under_load_on(on(dir).await, (63, 1), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        volume.crowd();
        tokio::time::sleep(absence(5, 60)).await;
        let (status, answer) = pulse.http.capture(&odd_event()).await;
        assert!([StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{answer}");
        volume.free();
        something_is_accepted(&pulse.http).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_volume_that_turns_read_only_nothing_is_accepted_and_what_was_is_there_once_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::of_files(dir.path(), MIB, 20_000);
    under_load_on(on(dir).await, (64, 1), async |pulse, place, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let engine = pulse.engine_pid();
        volume.damage();
        let began = Instant::now();
        // It may end by itself: then connections are refused.
        while pulse.http.try_capture(&odd_event()).await.is_ok_and(|(status, _)| status != StatusCode::SERVICE_UNAVAILABLE) {}
        println!("the last event was accepted at most {:?} after the volume turned read-only", began.elapsed());
        let until = Instant::now() + absence(2, 30);
        while Instant::now() < until {
            let answered = pulse.http.try_capture(&odd_event()).await;
            assert!(!matches!(answered, Ok((status, _)) if status != StatusCode::SERVICE_UNAVAILABLE), "{answered:?}");
        }
        // It may have ended.
        let _ = pulse.child.start_kill();
        pulse.child.wait().await.unwrap();
        while PathBuf::from(format!("/proc/{engine}/fd")).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        volume.mend();
        restart(pulse, place).await;
    })
    .await;
}

/// Sends requests of a thousand events each from many connections, each until it is accepted; returns how many events that were.
async fn flood(place: &SharedHttp, requests: u32) -> u64 {
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let place = Arc::clone(place);
        senders.spawn(async move {
            for _ in 0..requests / 8 {
                let event = |number: u32| {
                    let page = "https://shop.example/a/rather/long/address/of/a/page?with=parameters&of=all&kinds=there-are";
                    let (id, visitor) = (uuid::Uuid::new_v4().to_string(), format!("visitor-{sender}-{}", number % 89));
                    json!({"eventId": id, "type": "view", "anonymousId": visitor, "context": {"page": {"url": page}}})
                };
                let batch = json!((0..1_000).map(event).collect::<Vec<_>>());
                loop {
                    let http = place.lock().unwrap().clone();
                    match http.try_capture(&batch).await {
                        Ok((StatusCode::OK, _)) => break,
                        Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                        Ok(other) => panic!("{other:?}"),
                    }
                }
            }
        });
    }
    senders.join_all().await;
    u64::from(requests / 8 * 8) * 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_while_the_store_is_away_and_a_kill_for_want_of_it_loses_and_doubles_nothing() {
    const CAP: u64 = 256 << 20;
    let mut cluster = Cluster::start(1).await;
    let mut pulse = Pulse::start_with(&cluster.environment()).await;
    let place = Arc::new(Mutex::new(pulse.http.clone()));
    let cgroup = MemoryCgroup::new();
    let within = cgroup.pulse_in(pulse.data_dir());
    cgroup.limit(CAP);
    pulse.end().await;
    pulse.restart_as(&within).await;
    *place.lock().unwrap() = pulse.http.clone();
    cluster.kill(0);
    let mut accepted = flood(&place, if is_long() { 4_000 } else { 400 }).await;
    let memory = most_memory(pulse.pid());
    println!("{accepted} events accepted without a store; at most {memory} MiB of memory of {}", CAP >> 20);
    assert_eq!(cgroup.killed(), 0);

    // With room for hardly more than it has before anyone sends.
    pulse.kill().await;
    pulse.restart_as(&within).await;
    *place.lock().unwrap() = pulse.http.clone();
    cgroup.limit((most_memory(pulse.pid()) + 8) << 20);
    let (mut sending, way) = (JoinSet::new(), Arc::clone(&place));
    sending.spawn(async move { flood(&way, 400).await });
    let ended = tokio::time::timeout(PATIENCE, pulse.child.wait()).await.expect("memory did not run short").unwrap();
    assert_eq!((ended.signal(), cgroup.killed()), (Some(Signal::KILL.as_raw()), 1));
    restart(&mut pulse, &place).await;
    accepted += sending.join_next().await.unwrap().unwrap();
    cluster.restart(0).await;
    assert_eq!(pulse.http.settled().await["stored"], accepted);
    let rows: Vec<(u32, u32)> =
        cluster.rows(0, "SELECT toUInt32(count()), toUInt32(uniqExact(event_id)) FROM pulse.events WHERE project_id != 0").await;
    assert_eq!(rows.iter().map(|(rows, ids)| (u64::from(*rows), u64::from(*ids))).collect::<Vec<_>>(), [(accepted, accepted)]);
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_loaded_in_bounded_memory() {
    let mut pulse = Pulse::start_with(&[("PULSE__ROLES", "ingest")]).await;
    let accepted = flood(&Arc::new(Mutex::new(pulse.http.clone())), if is_long() { 5_000 } else { 304 }).await;
    pulse.end().await;
    let began = Instant::now();
    assert!(pulse.restart_with(&[("PULSE__ROLES", "ingest,process,load,query")]).await);
    let ready = began.elapsed();
    assert_eq!(pulse.http.settled().await["stored"], accepted);
    let rate = accepted as f64 / began.elapsed().as_secs_f64();
    println!(
        "{accepted} events were waiting: ready after {ready:?}, then {rate:.0} events/s, at most {} MiB of memory",
        most_memory(pulse.pid())
    );
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn that_the_system_allows_too_few_open_files_is_said() {
    let pulse = Pulse::start_with(&[("PULSE__ROLES", "ingest"), ("PULSE__HTTP__MAX_CONNECTIONS", "1000000000")]).await;
    let said = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(said.contains("fewer open files than `http.max_connections` may need"), "{said}");
}
