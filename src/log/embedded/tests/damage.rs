//! Files that were cut, flipped or lost.

use super::*;

/// A closed log with `count` raw records of `len` bytes, each synced on its own, and its segment files.
async fn written(dir: &Path, count: u64, len: usize) -> Vec<PathBuf> {
    let log = open(dir);
    append_many(&log, Topic::Raw, count, len).await;
    log.close().await;
    segments(dir, Topic::Raw)
}

fn reopen(dir: &Path) -> Result<EmbeddedLog, OpenError> {
    EmbeddedLog::open(dir, limits(small()))
}

fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[track_caller]
fn assert_refused(result: Result<EmbeddedLog, OpenError>, file: &Path, at: u64) {
    match result {
        Err(OpenError::Corrupt { path, position, .. }) => assert_eq!((path.as_path(), position), (file, at)),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn tail_torn_at_any_byte_of_the_last_frames_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 4, 60).await;
    // As after a crash within the first second: nothing else knows how far the file was synced.
    std::fs::remove_file(dir.path().join("offsets")).unwrap();
    let whole = std::fs::read(&files[0]).unwrap();
    let frame = frame::FRAME_HEADER + 60;
    for kept in whole.len() - 2 * frame..whole.len() {
        std::fs::write(&files[0], &whole[..kept]).unwrap();

        let log = reopen(dir.path()).unwrap();

        let records = (kept - frame::SEGMENT_HEADER) / frame;
        assert_eq!(read_all(&log, Topic::Raw, 0).await, (0..records as u64).map(|seed| payload(seed, 60)).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(&files[0]).unwrap().len(), (frame::SEGMENT_HEADER + records * frame) as u64);
        assert_eq!(log.truncated_bytes(), ((kept - frame::SEGMENT_HEADER) % frame) as u64);
        drop(log);
        std::fs::remove_file(dir.path().join("offsets")).unwrap_or_default();
    }
}

#[tokio::test]
async fn cut_below_the_checkpoint_is_refused() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 4, 60).await;
    let whole = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &whole[..whole.len() - 1]).unwrap();
    assert_refused(reopen(dir.path()), &files[0], (frame::SEGMENT_HEADER + 3 * (frame::FRAME_HEADER + 60)) as u64);
}

#[tokio::test]
async fn flipped_bit_before_synced_records_is_refused_with_file_and_position() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 4, 60).await;
    std::fs::remove_file(dir.path().join("offsets")).unwrap();
    let frame = frame::FRAME_HEADER + 60;
    let first = frame::SEGMENT_HEADER + frame;
    for byte in first..first + frame {
        flip(&files[0], byte);
        assert_refused(reopen(dir.path()), &files[0], first as u64);
        flip(&files[0], byte);
    }
    reopen(dir.path()).unwrap();
}

#[tokio::test]
async fn flipped_bit_anywhere_is_refused_after_an_orderly_stop() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 2, 30).await;
    for byte in 0..std::fs::metadata(&files[0]).unwrap().len() as usize {
        flip(&files[0], byte);
        assert!(matches!(reopen(dir.path()), Err(OpenError::Corrupt { .. })), "byte {byte}");
        flip(&files[0], byte);
    }
}

#[tokio::test]
async fn flipped_bit_in_a_sealed_segment_is_found_when_it_is_read() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 40, 500).await;
    let second_frame = frame::SEGMENT_HEADER + frame::FRAME_HEADER + 500;
    for inside in [0, 5, 9, 13, 17, frame::FRAME_HEADER, frame::FRAME_HEADER + 499] {
        flip(&files[0], second_frame + inside);

        let log = reopen(dir.path()).unwrap();

        assert_eq!(log.read(ReadRequest::new(Topic::Raw, 0, 0, 100_000)).await.unwrap().len(), 1, "what comes before is readable");
        let error = log.read(ReadRequest::new(Topic::Raw, 0, 1, 100_000)).await.unwrap_err();
        let LogError::Corrupt(message) = error else { panic!("{error}") };
        assert!(message.contains(&format!("{} at position {second_frame}:", files[0].display())), "{message}");
        assert!(!log.read(ReadRequest::new(Topic::Raw, 0, 20, 100_000)).await.unwrap().is_empty(), "what comes later is readable");
        drop(log);
        flip(&files[0], second_frame + inside);
    }
}

#[tokio::test]
async fn refused_records_left_in_a_sealed_segment_are_not_read() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 40, 500).await;
    let second = files[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    // As after a failed sync whose cut never reached the disk: a valid frame under an offset given to another record since.
    let log = reopen(dir.path()).unwrap();
    let refused = payload(99, 500);
    let header = frame::FrameHeader::encode(frame::Checksum::new(log.epoch()), second, 0, &refused);
    log.close().await;
    let whole = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], [&whole[..], &header, &refused].concat()).unwrap();

    let log = reopen(dir.path()).unwrap();

    assert_eq!(read_all(&log, Topic::Raw, 0).await, (0..40).map(|seed| payload(seed, 500)).collect::<Vec<_>>());
    assert_eq!(log.read(ReadRequest::new(Topic::Raw, 0, second - 1, 10_000).prefix(10)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn lost_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let files = written(dir.path(), 40, 500).await;
    let last = files.last().unwrap();
    std::fs::remove_file(last).unwrap();
    assert_refused(reopen(dir.path()), last, 0);
}

#[tokio::test]
async fn segment_of_another_log_is_refused() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (files, others) = (written(dir.path(), 3, 60).await, written(other.path(), 3, 60).await);
    std::fs::copy(&others[0], &files[0]).unwrap();
    assert_refused(reopen(dir.path()), &files[0], 0);
}

#[tokio::test]
async fn damaged_meta_is_refused_and_damaged_offsets_mean_reading_again() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append(&log, Topic::Raw, payload(0, 10)).await;
    let (member, mut process) = reader(&log, ConsumerGroup::Process).await;
    process.commit(1).await.unwrap();
    drop((member, process));
    log.close().await;
    flip(&dir.path().join("offsets"), 40);
    let log = open(dir.path());
    let (_member, mut process) = reader(&log, ConsumerGroup::Process).await;
    assert_eq!(process.committed(), None);
    assert_eq!(process.next(100).await.unwrap().len(), 1);
    log.close().await;
    flip(&dir.path().join("meta"), 20);
    assert_refused(reopen(dir.path()), &dir.path().join("meta"), 0);
}

#[tokio::test]
async fn frame_of_another_log_inside_a_payload_is_no_witness() {
    let dir = TempDir::new().unwrap();
    // What a client can make: a well-formed frame, sealed with an epoch that is not this log's.
    let body = payload(9, 20);
    let foreign = frame::FrameHeader::encode(frame::Checksum::new(LogEpoch(1)), 7, 3000, &body);
    let log = open(dir.path());
    append(&log, Topic::Raw, payload(0, 60)).await;
    append(&log, Topic::Raw, [&foreign[..], &body, &payload(1, 40)].concat().into()).await;
    log.close().await;
    std::fs::remove_file(dir.path().join("offsets")).unwrap();
    let file = &segments(dir.path(), Topic::Raw)[0];
    let whole = std::fs::read(file).unwrap();
    std::fs::write(file, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(read_all(&reopen(dir.path()).unwrap(), Topic::Raw, 0).await.len(), 1);
}
