use std::sync::Mutex;

use super::*;
use crate::event::ids::{LogEpoch, ProjectId};
use crate::event::record::{self, HEADER_PREFIX, Header, Tallies};
use crate::log::ConsumerGroup;
use crate::log::embedded::EmbeddedLog;
use crate::outcome::Count;
use crate::replay::{count, first_at};

/// What becomes of the next letters that are appended.
#[derive(Clone, Copy)]
enum Fate {
    Refused,
    Failed,
}

/// Raw records, reads that fail and letters that are not kept, each in the order given; afterwards all is well.
#[derive(Clone, Default)]
struct FlakyLog {
    raw: Arc<Vec<Bytes>>,
    reads: Arc<Mutex<VecDeque<Option<LogError>>>>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    kept: Arc<Mutex<Vec<Bytes>>>,
}

impl Log for FlakyLog {
    type Member = <EmbeddedLog as Log>::Member;
    type Follower = std::convert::Infallible;

    fn epoch(&self) -> LogEpoch {
        LogEpoch(1)
    }

    fn partitions(&self, _: Topic) -> u16 {
        1
    }

    fn max_record_bytes(&self) -> usize {
        1 << 20
    }

    fn append(&self, topic: Topic, _: u16, payload: Bytes) -> Result<Ack, LogError> {
        assert_eq!(topic, Topic::Dead);
        let (sender, ack) = Ack::pair();
        match self.fates.lock().unwrap().pop_front() {
            Some(Fate::Refused) => return Err(LogError::Full("no room".to_owned())),
            Some(Fate::Failed) => drop(sender.send(Err(LogError::Unavailable("gone".to_owned())))),
            None => {
                self.kept.lock().unwrap().push(payload);
                drop(sender.send(Ok(0)));
            }
        }
        Ok(ack)
    }

    async fn bounds(&self, _: Topic, _: u16) -> Result<Range<i64>, LogError> {
        Ok(0..self.raw.len() as i64)
    }

    /// One record a read.
    async fn read(&self, ReadRequest { from, prefix, .. }: ReadRequest) -> Result<Vec<Record>, LogError> {
        if let Some(Some(problem)) = self.reads.lock().unwrap().pop_front() {
            return Err(problem);
        }
        let payload = self.raw.get(from as usize).map(|payload| payload.slice(..payload.len().min(prefix.unwrap_or(usize::MAX))));
        Ok(payload.into_iter().map(|payload| Record { offset: from, payload }).collect())
    }

    async fn join(&self, _: ConsumerGroup) -> Result<Self::Member, LogError> {
        Err(LogError::Closed)
    }

    async fn follow(&self, _: Topic) -> Result<Self::Follower, LogError> {
        Err(LogError::Closed)
    }
}

/// A record that can be read, and holds nothing.
fn sound() -> Bytes {
    let header = Header {
        source: 0,
        day: 20_000,
        events: 0,
        received_ms: 1_728_000_000_000,
        projects: Vec::new(),
        tallies: Tallies::default(),
        letters: 0,
        origin: None,
    };
    record::encode(&header, &[]).into()
}

/// One of so many projects that its header is longer than what is read of most.
fn of_many_projects(received_ms: i64) -> Bytes {
    let projects: Vec<ProjectId> = (1..1_000).map(ProjectId).collect();
    let mut tallies = Tallies::default();
    projects.iter().for_each(|project| tallies.add(*project, received_ms, Count::Received, 2));
    let header = Header { source: 0, day: 20_000, events: 0, received_ms, projects, tallies, letters: 0, origin: None };
    let record = record::encode(&header, &[]);
    assert!(record::header(&record[..HEADER_PREFIX]).is_err());
    record.into()
}

#[tokio::test]
async fn a_replay_from_a_time_finds_it_among_records_of_many_projects() {
    let begin_ms = 1_728_000_000_000;
    let raw: Vec<Bytes> = (0..40).map(|number| of_many_projects(begin_ms + number * 10_000)).collect();
    let log = FlakyLog { raw: Arc::new(raw), ..FlakyLog::default() };
    for number in [0, 1, 17, 39] {
        assert_eq!(first_at(&log, 0, 0..40, begin_ms + number * 10_000).await.unwrap(), number);
    }
    assert_eq!(count(&log, 0, 0..3).await.unwrap(), 3 * 999 * 2);
}

/// One that cannot: it becomes a letter.
fn broken() -> Bytes {
    Bytes::from_static(b"no record")
}

fn reader(log: &FlakyLog) -> RawAgain<FlakyLog> {
    let end = log.raw.len() as i64;
    let work = Work { partition: 0, range: 0..end, after: -1 };
    let enriching = Enriching { agents: Arc::new(AgentParser::new()), max_record_bytes: 1 << 20 };
    RawAgain::new(log.clone(), work, enriching, Counting { read: Arc::default(), done: CancellationToken::new() })
}

/// The offsets that are yielded until the reader asks for the end.
async fn rest(reader: &mut RawAgain<FlakyLog>) -> Vec<i64> {
    let done = reader.done.clone();
    let mut offsets = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = done.cancelled() => return offsets,
            records = reader.next(1 << 20) => offsets.extend(records.unwrap().iter().map(|record| record.offset)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_for_now_leaves_nothing_out() {
    let log = FlakyLog { raw: Arc::new(vec![sound(); 4]), ..FlakyLog::default() };
    let fails = || Some(LogError::Unavailable("unknown partition".to_owned()));
    log.reads.lock().unwrap().extend([None, fails(), fails(), None, fails()]);
    let mut reader = reader(&log);
    assert_eq!(rest(&mut reader).await, [0, 1, 2, 3]);
    assert!(reader.problem().get().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_begins_anew_gets_everything_again() {
    let log = FlakyLog { raw: Arc::new(vec![sound(); 3]), ..FlakyLog::default() };
    let mut reader = reader(&log);
    for offset in 0..2 {
        assert_eq!(reader.next(1).await.unwrap()[0].offset, offset);
    }
    reader.seek(0);
    assert_eq!(rest(&mut reader).await, [0, 1, 2]);
    assert_eq!(reader.read.load(Ordering::Relaxed), 0, "the records hold no event");
}

#[tokio::test(start_paused = true)]
async fn every_letter_is_kept_whatever_the_log_does_first() {
    let log = FlakyLog { raw: Arc::new(vec![broken(), sound(), broken()]), ..FlakyLog::default() };
    log.fates.lock().unwrap().extend([Fate::Refused, Fate::Failed, Fate::Failed, Fate::Refused]);
    let mut reader = reader(&log);
    assert_eq!(rest(&mut reader).await, [0, 1, 2]);
    assert_eq!(log.kept.lock().unwrap().len(), 2);
    assert_eq!(reader.read.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn events_read_twice_count_once() {
    let log = FlakyLog { raw: Arc::new(vec![broken(); 3]), ..FlakyLog::default() };
    let mut reader = reader(&log);
    reader.next(1).await.unwrap();
    reader.seek(0);
    assert_eq!(rest(&mut reader).await, [0, 1, 2]);
    assert_eq!(reader.read.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_can_never_give_ends_the_reading_and_is_told() {
    let log = FlakyLog { raw: Arc::new(vec![sound(); 3]), ..FlakyLog::default() };
    let gone = LogError::OutOfRange { topic: "raw", partition: 0, asked: 1, held: 2..3 };
    log.reads.lock().unwrap().extend([None, Some(gone)]);
    let mut reader = reader(&log);
    assert_eq!(rest(&mut reader).await, [0], "nothing behind what is missing");
    assert!(matches!(reader.problem().get(), Some(LogError::OutOfRange { asked: 1, .. })));
}
