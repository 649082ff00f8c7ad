//! Disks that fail: what is not on disk is never acknowledged, and the log comes back by itself.
#![allow(clippy::disallowed_methods, reason = "tells the child of a test what to do")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};

use rustix::io::Errno;

use super::*;

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    Fails,
}

/// A disk whose writes and syncs do as they are told.
#[derive(Default)]
pub(super) struct RiggedDisk {
    state: Mutex<Rigged>,
    changed: Condvar,
}

#[derive(Default)]
struct Rigged {
    /// Syncs wait for a permit.
    held: bool,
    permits: usize,
    waiting: usize,
    /// The next syncs, then all work.
    syncs: VecDeque<Fate>,
    broken: bool,
    /// Bytes the next write takes before it fails.
    short: Option<usize>,
    /// So many of the next syncs of a folder fail.
    folders_fail: usize,
    /// The next write panics.
    panics: bool,
}

impl RiggedDisk {
    /// From now on syncs wait.
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    /// Lets waiting and later syncs go on.
    pub(super) fn release(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Lets one sync go on.
    pub(super) fn permit(&self) {
        self.state.lock().unwrap().permits += 1;
        self.changed.notify_all();
    }

    /// Returns once a sync waits that has no permit.
    pub(super) fn await_waiting(&self) {
        let mut state = self.state.lock().unwrap();
        while state.waiting == 0 || state.permits > 0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn fail_next_sync(&self) {
        self.state.lock().unwrap().syncs.push_back(Fate::Fails);
    }

    fn break_syncs(&self, broken: bool) {
        self.state.lock().unwrap().broken = broken;
    }

    fn cut_next_write(&self, after: usize) {
        self.state.lock().unwrap().short = Some(after);
    }
}

impl Disk for RiggedDisk {
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = state.folders_fail.checked_sub(1) {
            state.folders_fail = left;
            return Err(Errno::MFILE.into());
        }
        RealDisk.sync_folder(path)
    }

    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let panics = self.state.lock().unwrap().panics;
        assert!(!panics, "a fault of our own");
        let short = self.state.lock().unwrap().short;
        match short {
            Some(0) => {
                self.state.lock().unwrap().short = None;
                Err(Errno::IO.into())
            }
            Some(bytes) => {
                self.state.lock().unwrap().short = Some(0);
                let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                RealDisk.write(file, &[IoSlice::new(&all[..bytes.min(all.len())])], at)
            }
            None => RealDisk.write(file, slices, at),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        while state.held && state.permits == 0 {
            state = self.changed.wait(state).unwrap();
        }
        state.permits = state.permits.saturating_sub(1);
        state.waiting -= 1;
        self.changed.notify_all();
        let fate = if state.broken { Fate::Fails } else { state.syncs.pop_front().unwrap_or(Fate::Works) };
        drop(state);
        if fate == Fate::Fails { Err(Errno::IO.into()) } else { RealDisk.sync(file) }
    }
}

pub(super) fn rigged(dir: &Path) -> (Arc<RiggedDisk>, EmbeddedLog) {
    let disk = Arc::new(RiggedDisk::default());
    let log = EmbeddedLog::open_on(disk.clone(), dir, limits(small())).unwrap();
    (disk, log)
}

async fn writable(log: &EmbeddedLog) {
    while !log.is_writable() {
        tokio::task::yield_now().await;
    }
}

/// Whether the future is done, without waiting.
async fn is_resolved(ack: &mut Ack) -> bool {
    tokio::select! {
        biased;
        _ = ack => true,
        () = ready(()) => false,
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_or_readable_before_the_sync() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    disk.hold();
    let mut ack = log.append(Topic::Raw, 0, payload(0, 100)).unwrap();
    disk.await_waiting();
    assert!(std::fs::metadata(&segments(dir.path(), Topic::Raw)[0]).unwrap().len() > 100, "written");
    assert!(!is_resolved(&mut ack).await);
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..0);

    disk.release();

    assert_eq!(ack.await.unwrap(), 0);
    assert_eq!(log.bounds(Topic::Raw, 0).await.unwrap(), 0..1);
}

#[tokio::test]
async fn full_queue_refuses_until_the_disk_catches_up() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    disk.hold();
    let mut acks = Vec::new();
    let refusal = loop {
        match log.append(Topic::Raw, 0, payload(0, 60_000)) {
            Ok(ack) => acks.push(ack),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, LogError::Full(_)));
    assert_eq!(acks.len(), 512 * 1024 / 8 * 6 / 60_000 + 1);
    disk.release();
    for ack in acks {
        ack.await.unwrap();
    }
    assert_eq!(log.store().usage.queued.load(Ordering::Relaxed), 0);
    append(&log, Topic::Raw, payload(1, 10)).await;
}

#[tokio::test]
async fn failed_sync_is_never_acknowledged_and_its_records_are_gone() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    append(&log, Topic::Raw, payload(0, 100)).await;
    let durable = std::fs::metadata(&segments(dir.path(), Topic::Raw)[0]).unwrap().len();
    disk.hold();
    let failing = log.append(Topic::Raw, 0, payload(1, 100)).unwrap();
    disk.await_waiting();
    let behind = log.append(Topic::Raw, 0, payload(2, 100)).unwrap();
    disk.fail_next_sync();
    disk.release();

    assert!(matches!(failing.await, Err(LogError::Unavailable(_))));
    assert!(matches!(behind.await, Err(LogError::Unavailable(_))), "a record never overtakes one before it");

    writable(&log).await;
    assert_eq!(append(&log, Topic::Raw, payload(3, 100)).await, 1);
    let files = segments(dir.path(), Topic::Raw);
    assert_eq!(files.len(), 2, "the file that failed is not appended to");
    assert_eq!(std::fs::metadata(&files[0]).unwrap().len(), durable);
    log.close().await;
    assert_eq!(read_all(&open(dir.path()), Topic::Raw, 0).await, [payload(0, 100), payload(3, 100)]);
}

#[tokio::test]
async fn broken_disk_refuses_at_once_and_is_used_again_when_it_works() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    append(&log, Topic::Raw, payload(0, 100)).await;
    disk.break_syncs(true);
    log.append(Topic::Raw, 0, payload(1, 100)).unwrap().await.unwrap_err();
    assert!(!log.is_writable());
    assert!(matches!(log.append(Topic::Raw, 0, payload(2, 100)), Err(LogError::Unavailable(_))));
    assert_eq!(read_all(&log, Topic::Raw, 0).await, [payload(0, 100)], "what is stored stays readable");

    disk.break_syncs(false);
    writable(&log).await;

    assert_eq!(append(&log, Topic::Raw, payload(3, 100)).await, 1);
}

#[tokio::test]
async fn short_write_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    for cut in [1, frame::FRAME_HEADER, frame::FRAME_HEADER + 50] {
        let (disk, log) = rigged(dir.path());
        let before = read_all(&log, Topic::Raw, 0).await;
        disk.cut_next_write(cut);
        log.append(Topic::Raw, 0, payload(1, 100)).unwrap().await.unwrap_err();
        writable(&log).await;
        append(&log, Topic::Raw, payload(2, 100)).await;
        log.close().await;
        let after = read_all(&open(dir.path()), Topic::Raw, 0).await;
        assert_eq!(after[..before.len()], before);
        assert_eq!(after[before.len()..], [payload(2, 100)]);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_synced_once_stops_no_retention() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    for partition in 0..2 {
        for seed in 0..40 {
            log.append(Topic::Raw, partition, payload(seed, 500)).unwrap().await.unwrap();
        }
        log.store().offsets.commit(ConsumerGroup::Process, partition, 40);
    }
    let later = crate::clock::now_ms() + 73 * HOUR_MS;
    disk.state.lock().unwrap().folders_fail = 1;

    assert!(log.store().retain(later).is_err(), "it is told");
    let held = log.bounds(Topic::Raw, 0).await.unwrap();
    let first = segments(dir.path(), Topic::Raw)[0].clone();
    assert!(first.ends_with(segment::file_name(held.start)), "what the log says it holds is there: {held:?}, {first:?}");
    assert!(log.bounds(Topic::Raw, 1).await.unwrap().start > 30, "the other partition is not kept from it");

    log.store().retain(later).unwrap();
    assert!(log.bounds(Topic::Raw, 0).await.unwrap().start > 30);
    let on_disk: u64 = [0, 1].iter().map(|partition| log.store().partition(Topic::Raw, *partition).unwrap().stored_bytes()).sum();
    let others: u64 = log.store().partitions().filter(|(topic, _)| *topic != Topic::Raw).map(|(_, other)| other.stored_bytes()).sum();
    assert_eq!(log.store().usage.stored.load(Ordering::Relaxed), on_disk + others, "and its bytes are free");
}

#[tokio::test]
async fn a_segment_deleted_by_hand_stops_neither_retention_nor_readers_behind_it() {
    let dir = TempDir::new().unwrap();
    open(dir.path()).close().await;
    let log = open(dir.path());
    append_many(&log, Topic::Raw, 120, 500).await;
    let files = segments(dir.path(), Topic::Raw);
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::remove_file(&files[3]).unwrap();

    let first = log.read(ReadRequest::new(Topic::Raw, 0, 0, 1)).await;
    let Err(LogError::OutOfRange { held, .. }) = first else { panic!("{first:?}") };
    assert!(held.start > 0 && log.read(ReadRequest::new(Topic::Raw, 0, held.start, 1)).await.is_ok(), "reading goes on behind it");
    let fourth: i64 = files[3].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let hole = log.read(ReadRequest::new(Topic::Raw, 0, fourth, 1)).await;
    assert!(matches!(hole, Err(LogError::Corrupt(_))), "a hole is not read over: {hole:?}");

    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(120).await.unwrap();
    log.store().retain(crate::clock::now_ms() + 73 * HOUR_MS).unwrap();
    assert!(log.bounds(Topic::Raw, 0).await.unwrap().start > 100, "what is gone already is no reason to keep the rest");
}

#[tokio::test]
async fn a_writer_that_dies_ends_the_log_instead_of_refusing_for_ever() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    append(&log, Topic::Raw, payload(0, 100)).await;
    disk.state.lock().unwrap().panics = true;
    log.append(Topic::Raw, 0, payload(1, 100)).unwrap().await.unwrap_err();
    assert!(matches!(log.broken().await, LogError::Unavailable(_)));
    assert!(!log.is_writable());
    log.close().await;
    assert_eq!(read_all(&open(dir.path()), Topic::Raw, 0).await, [payload(0, 100)]);
}

#[tokio::test]
async fn failed_write_of_a_first_record_starts_the_same_segment_anew() {
    let dir = TempDir::new().unwrap();
    let (disk, log) = rigged(dir.path());
    disk.fail_next_sync();
    log.append(Topic::Raw, 0, payload(0, 100)).unwrap().await.unwrap_err();
    writable(&log).await;
    assert_eq!(append(&log, Topic::Raw, payload(1, 100)).await, 0);
    assert_eq!(segments(dir.path(), Topic::Raw).len(), 1);
    assert_eq!(read_all(&log, Topic::Raw, 0).await, [payload(1, 100)]);
}

/// Appends for ever, record by record known from its offset, and prints the offsets that were acknowledged.
async fn append_until_killed(dir: &Path) {
    let log = EmbeddedLog::open(dir, limits(EmbeddedLogConfig { max_bytes: 1 << 30, ..small() })).unwrap();
    for first in (log.bounds(Topic::Raw, 0).await.unwrap().end..).step_by(8) {
        let acks: Vec<_> = (first..first + 8).map(|offset| log.append(Topic::Raw, 0, payload(offset as u64, 700)).unwrap()).collect();
        for ack in acks {
            println!("\nacknowledged {}", ack.await.unwrap());
        }
    }
}

#[tokio::test]
async fn killed_process_keeps_everything_it_acknowledged() {
    if let Some(dir) = std::env::var_os("PULSE_TEST_KILLED") {
        return append_until_killed(Path::new(&dir)).await;
    }
    let dir = TempDir::new().unwrap();
    for kill_after in [3, 100, 41] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::embedded::tests::faults::killed_process_keeps_everything_it_acknowledged", "--nocapture"])
            .env("PULSE_TEST_KILLED", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged = lines.by_ref().filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
        let last = acknowledged.nth(kill_after).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        let log = open(dir.path());

        let records = read_all(&log, Topic::Raw, 0).await;
        assert!(records.len() as i64 > last);
        assert!((0..).zip(&records).all(|(offset, record)| *record == payload(offset, 700)));
        log.close().await;
    }
}

/// Runs this test again in a mount namespace of its own, where a file system of any size can be made and vanishes with
/// the process. Panics where the system forbids that: the promise would go unproven.
fn in_own_mounts(test: &str) {
    let dir = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    command.args(if rustix::process::geteuid().is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
    command.args(["sh", "-c", "mount -t tmpfs -o size=4m tmpfs \"$PULSE_TEST_TMPFS\" && exec \"$0\" --exact \"$1\" --nocapture"]);
    command.arg(std::env::current_exe().unwrap()).arg(test).env("PULSE_TEST_TMPFS", dir.path());
    let output = command.output().expect("this test needs unshare (util-linux)");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "needs root or user namespaces to mount a tmpfs:\n{said}");
}

#[tokio::test]
async fn full_disk_refuses_keeps_what_it_has_and_resumes_when_space_is_back() {
    let Some(dir) = std::env::var_os("PULSE_TEST_TMPFS").map(PathBuf::from) else {
        return in_own_mounts(concat!(
            "log::embedded::tests::faults::",
            "full_disk_refuses_keeps_what_it_has_and_resumes_when_space_is_back"
        ));
    };
    let filler = dir.join("filler");
    std::fs::write(&filler, vec![0; 2 * 1024 * 1024]).unwrap();
    let log_dir = dir.join("log");
    let config = EmbeddedLogConfig { segment_bytes: 256 * 1024, max_bytes: 1 << 30, ..small() };
    let log = EmbeddedLog::open(&log_dir, limits(config.clone())).unwrap();
    let mut stored = Vec::new();
    for seed in 0.. {
        match log.append(Topic::Raw, 0, payload(seed, 30_000)).unwrap().await {
            Ok(_) => stored.push(payload(seed, 30_000)),
            Err(LogError::Unavailable(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!log.is_writable());
    assert!(matches!(log.append(Topic::Raw, 0, payload(0, 10)), Err(LogError::Unavailable(_))));
    assert_eq!(read_all(&log, Topic::Raw, 0).await, stored);

    std::fs::remove_file(filler).unwrap();
    writable(&log).await;

    stored.push(payload(7, 1000));
    assert_eq!(append(&log, Topic::Raw, payload(7, 1000)).await, stored.len() as i64 - 1);
    log.close().await;
    let log = EmbeddedLog::open(&log_dir, limits(config)).unwrap();
    assert_eq!(read_all(&log, Topic::Raw, 0).await, stored);
    assert_eq!(log.truncated_bytes(), 0);
}
