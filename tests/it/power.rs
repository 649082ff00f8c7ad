//! Power cuts: all that was not on the disk is gone, for the log and the embedded engine alike.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::load::{Moments, restart, rounds_of, under_load_on};
use crate::harness::volume::Volume;
use crate::harness::{PATIENCE, POLL, Pulse, program, signal};

/// Cuts in a run: a few with every test run, hundreds with `make faults`.
fn cuts() -> u32 {
    rounds_of(4)
}

/// Ends pulse and its engine, whose files are gone from under them.
async fn end(pulse: &mut Pulse, engine: Option<u32>) {
    // It may have ended by itself.
    let _ = pulse.child.start_kill();
    pulse.child.wait().await.unwrap();
    while engine.is_some_and(|engine| PathBuf::from(format!("/proc/{engine}/fd")).exists()) {
        tokio::time::sleep(POLL).await;
    }
}

/// The folders of the parts of the events table.
fn parts(pulse: &Pulse) -> Vec<PathBuf> {
    let is_part = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("20"));
    folders(&pulse.data_dir().join("clickhouse/data/store"))
        .flat_map(|some| folders(&some))
        .flat_map(|table| folders(&table))
        .filter(is_part)
        .collect()
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    // The engine makes and removes folders meanwhile.
    std::fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Writes some parts to the disk, as the kernel does whenever it likes, in whatever order.
fn write_back_some(pulse: &Pulse, moments: &mut Moments) {
    for part in parts(pulse) {
        if moments.below(2) == 0 {
            continue;
        }
        for file in std::fs::read_dir(part).into_iter().flatten().flatten() {
            // It may be gone by now.
            let _ = File::open(file.path()).and_then(|file| file.sync_all());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_under_load_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::of_files(dir.path(), 1_500, 200_000);
    let pulse = Pulse::start_in::<&str>(dir, &[]).await;
    under_load_on(pulse, (91, cuts()), async |pulse, place, moments| {
        tokio::time::sleep(moments.next(1_500)).await;
        let engine = pulse.engine_pid();
        write_back_some(pulse, moments);
        volume.cut_power();
        end(pulse, Some(engine)).await;
        volume.restore_power();
        restart(pulse, place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_that_are_emptied_are_made_anew_so_copies_and_visits_of_before_are_found() {
    let mut pulse = Pulse::start().await;
    let minutes_ago = |minutes: i64| jiff::Timestamp::now().as_millisecond() - minutes * 60_000;
    let event = |id: u32, at_ms: i64| json!({"eventId": format!("e{id}"), "type": "view", "anonymousId": "ada", "timestamp": at_ms});
    let early = [event(1, minutes_ago(300)), event(2, minutes_ago(280))];
    // Those that are merged without a projection are not broken any more: they have none.
    for (number, merges) in [(3, false), (4, true)] {
        assert_eq!(pulse.http.capture(&json!(early)).await.0, 200);
        assert_eq!(pulse.http.capture(&event(10 * number, minutes_ago(1))).await.0, 200);
        let books = pulse.http.settled().await;
        // Pulse ends well, and what the kernel has not written by then is gone.
        pulse.end().await;
        // A table that may take the place of the other one has projections too.
        make_beside(&pulse);
        empty_projections(&parts(&pulse));
        if merges {
            assert!(pulse.restart_with(&[("PULSE__ROLES", "query"), ("PULSE__LOG__KIND", "embedded")]).await);
            pulse.sql("OPTIMIZE TABLE pulse.events FINAL");
            assert_eq!(pulse.sql("SELECT count() FROM system.parts WHERE table = 'events' AND active AND has(projections, 'ids')"), "0");
            pulse.end().await;
        }
        pulse.restart().await;
        assert_eq!(pulse.http.capture(&json!(early)).await.0, 200);
        assert_eq!(pulse.http.capture(&event(10 * number + 1, minutes_ago(290))).await.0, 200);
        let after = pulse.http.settled().await;
        assert_eq!(after["stored"].as_u64(), books["stored"].as_u64().map(|stored| stored + 1), "copies are found");
        let at = |sql: &str| pulse.sql(sql).parse::<u64>().unwrap();
        for table in ["events", "beside"] {
            let of_projection = at(&format!("SELECT count() FROM mergeTreeProjection(pulse, {table}, ids)"));
            assert_eq!(of_projection, at(&format!("SELECT count() FROM pulse.{table}")), "{table}");
        }
    }
    let ask = json!({"from": "-1d", "to": "now", "series": [{"event": "view", "math": "unique_sessions"}], "refresh": true});
    assert_eq!(pulse.http.query("trends", &ask).await.1["result"]["series"][0]["total"], 2, "what came late joins what was there");
    assert!(pulse.stop().await);
}

/// Makes the events anew in a table beside.
fn make_beside(pulse: &Pulse) {
    let beside = ["replay", "--to-table", "beside", "--data-dir"];
    assert!(Command::new(program()).args(beside).arg(pulse.data_dir()).output().unwrap().status.success());
}

/// Sends so many batches of two events, each into a block of its own.
async fn of_blocks(blocks: u32) -> (Pulse, Value) {
    of_blocks_with(blocks, &[]).await
}

/// The same, with more settings.
async fn of_blocks_with(blocks: u32, more: &[(&str, &str)]) -> (Pulse, Value) {
    let pulse = Pulse::start_with(&[&[("PULSE__LOAD__MAX_AGE", "5ms")], more].concat()).await;
    pulse.sql("SYSTEM STOP MERGES pulse.events");
    let mut books = Value::Null;
    for block in 0..blocks {
        let event = |n: u32| json!({"type": "view", "anonymousId": format!("visitor-{n}"), "properties": {"block": block}});
        assert_eq!(pulse.http.capture(&json!([event(1), event(2)])).await.0, 200);
        books = pulse.http.settled().await;
    }
    assert_eq!(books["stored"], 2 * blocks);
    (pulse, books)
}

/// Cuts a file off where it begins.
fn truncate(part: &Path, file: &str) {
    std::fs::OpenOptions::new().write(true).open(part.join(file)).unwrap().set_len(0).unwrap();
}

/// Cuts off all files of the projections of parts.
fn empty_projections(parts: &[PathBuf]) {
    let is_projection = |folder: &PathBuf| folder.extension().is_some_and(|extension| extension == "proj");
    for projection in parts.iter().flat_map(|part| folders(part)).filter(is_projection) {
        for file in std::fs::read_dir(&projection).unwrap().flatten() {
            truncate(&projection, &file.file_name().to_string_lossy());
        }
    }
}

/// Flips a bit in each block of a part. Nothing is shorter than it was: the engine does not find it as it starts.
fn flip_bits(part: &Path) {
    let file = part.join("data.bin");
    let mut bytes = std::fs::read(&file).unwrap();
    let mut block = 0;
    while block < bytes.len() {
        bytes[block] ^= 1;
        // A checksum of 16 bytes, then the method and the length of what follows the checksum.
        block += 16 + u32::from_le_bytes(bytes[block + 17..block + 21].try_into().unwrap()) as usize;
    }
    std::fs::write(&file, bytes).unwrap();
}

/// Asks questions that read damaged parts until pulse says something.
async fn asked_until(pulse: &Pulse, words: &str) {
    let said = async {
        while !std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap().contains(words) {
            // Any question that reads them.
            pulse.http.get("/v1/ledger").await;
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("the damage is not noticed");
}

/// The parts of blocks, oldest first.
fn parts_in_order(pulse: &Pulse) -> Vec<PathBuf> {
    let mut parts = parts(pulse);
    let number = |part: &PathBuf| part.file_name().unwrap().to_string_lossy().split('_').nth(1).unwrap().parse::<u64>().unwrap();
    parts.sort_by_key(number);
    parts
}

/// Pulse must have what it had, and take more.
async fn is_whole_again(pulse: Pulse, books: Value) {
    let event = json!({"type": "view", "anonymousId": "ada"});
    assert_eq!(pulse.http.capture(&event).await.0, 200);
    let total = pulse.http.settled().await;
    assert_eq!(total["stored"].as_u64(), books["stored"].as_u64().map(|stored| stored + 1));
    assert_eq!(pulse.http.events().await.len() as u64, total["stored"].as_u64().unwrap());
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_damaged_below_whole_ones_are_loaded_again() {
    let (mut pulse, books) = of_blocks(12).await;
    pulse.kill().await;
    let parts = parts_in_order(&pulse);
    assert!(parts.len() >= 6, "{parts:?}");
    truncate(&parts[0], "data.bin");
    truncate(&parts[3], "data.cmrk3");
    truncate(&parts[parts.len() - 2], "checksums.txt");
    pulse.restart().await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_which_more_parts_are_damaged_than_the_engine_takes_for_granted_is_filled_again() {
    let (mut pulse, books) = of_blocks(110).await;
    pulse.kill().await;
    let parts = parts_in_order(&pulse);
    assert!(parts.len() > 101, "{}", parts.len());
    for part in &parts[1..] {
        truncate(part, "data.bin");
    }
    pulse.restart().await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_is_found_damaged_while_pulse_runs_is_made_anew() {
    let (pulse, _) = of_blocks(2).await;
    let event = json!({"eventId": "again", "type": "view", "anonymousId": "ada"});
    assert_eq!(pulse.http.capture(&event).await.0, 200);
    let books = pulse.http.settled().await;
    // A bit that has flipped: nothing is shorter than it was.
    let file = parts_in_order(&pulse).last().unwrap().join("ids.proj/data.bin");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // Whether it is a copy only the projection tells.
    assert_eq!(pulse.http.capture(&event).await.0, 200);
    let after = pulse.http.settled().await;
    assert_eq!((&after["stored"], &after["duplicate"]), (&books["stored"], &json!(1)));
    assert!(std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap().contains("a damaged projection is taken away"));
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_found_damaged_while_pulse_runs_is_set_aside_and_loaded_again() {
    let (pulse, books) = of_blocks(8).await;
    let parts = parts_in_order(&pulse);
    truncate(&parts[2], "data.bin");
    asked_until(&pulse, "the damage is mended").await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_which_one_is_found_damaged_when_another_is_mended_are_all_set_aside_and_loaded_again() {
    let (pulse, books) = of_blocks(8).await;
    let parts = parts_in_order(&pulse);
    let damaged = [parts[1].clone(), parts[3].clone()];
    empty_projections(&damaged);
    damaged.iter().for_each(|part| flip_bits(part));
    asked_until(&pulse, "the damage is mended").await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_mending_leaves_no_hole() {
    let (mut pulse, books) = of_blocks_with(8, &[("FAILPOINTS", "mend.set_aside=sleep(5000)"), ("PULSE__QUERY__SQL", "true")]).await;
    flip_bits(&parts_in_order(&pulse)[2]);
    asked_until(&pulse, "a damaged part is set aside").await;
    // Rows are missing.
    for (report, question) in [("sql", json!({"sql": "SELECT count() FROM events"})), ("events", json!({}))] {
        let (status, answer) = pulse.http.query(report, &question).await;
        assert_eq!((status.as_u16(), &answer["error"]), (503, &json!("store_unavailable")), "{report}: {answer}");
    }
    pulse.end().await;
    pulse.restart().await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_found_damaged_when_the_engine_is_started_again_is_loaded_again() {
    let (pulse, books) = of_blocks(8).await;
    let before = pulse.engine_pid();
    truncate(&parts_in_order(&pulse)[2], "checksums.txt");
    signal(before, Signal::KILL);
    asked_until(&pulse, "the damage is mended").await;
    assert_ne!(pulse.engine_pid(), before);
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_damaged_while_nothing_runs_is_loaded_again() {
    let (mut pulse, books) = of_blocks(8).await;
    pulse.end().await;
    truncate(&parts_in_order(&pulse)[2], "data.bin");
    pulse.restart().await;
    is_whole_again(pulse, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_is_refused_also_where_projections_are_lost() {
    let (mut pulse, _) = of_blocks(2).await;
    pulse.end().await;
    let (log, aside) = (pulse.data_dir().join("log"), tempfile::tempdir().unwrap());
    let copy = |from: &Path, to: &Path| assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    copy(&log, &aside.path().join("log"));
    pulse.restart().await;
    assert_eq!(pulse.http.capture(&json!({"type": "view", "anonymousId": "ada"})).await.0, 200);
    pulse.http.settled().await;
    pulse.end().await;
    std::fs::remove_dir_all(&log).unwrap();
    copy(&aside.path().join("log"), &log);
    empty_projections(&parts(&pulse));
    assert!(!pulse.restart_with::<&str>(&[]).await, "records would be given the offsets of those that are lost");
    assert!(std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap().contains("the log lost records"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_beside_that_is_damaged_keeps_nothing_from_being_loaded() {
    let (mut pulse, books) = of_blocks(3).await;
    pulse.end().await;
    let tables: BTreeSet<PathBuf> = parts(&pulse).into_iter().filter_map(|part| part.parent().map(Path::to_owned)).collect();
    make_beside(&pulse);
    let is_beside = |part: &PathBuf| part.join("ids.proj").exists() && !tables.contains(part.parent().unwrap());
    let beside: Vec<PathBuf> = parts(&pulse).into_iter().filter(is_beside).collect();
    assert!(!beside.is_empty());
    empty_projections(&beside);
    beside.iter().for_each(|part| flip_bits(part));
    pulse.restart().await;
    is_whole_again(pulse, books).await;
}
