//! A worker on a log in memory that is small, slow, or deletes what is about to be read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::event::field::Field;
use crate::event::ids::{LogEpoch, PersonKey, ProjectId, VisitorKey};
use crate::event::packed::{EventHeader, EventWriter};
use crate::event::record::{self, Header, Tallies, day_of};
use crate::lifecycle::spawn_apart;
use crate::log::{ConsumerGroup, GroupMember, ReadRequest};
use crate::process::ProcessConfig;

const NOW: i64 = 1_790_000_000_000;

/// Records of each topic from some offset on, and those that wait to become durable, one a millisecond.
#[derive(Clone)]
struct SmallLog(Arc<Mutex<State>>);

/// Tells that a record is durable, and where it stands.
type AckSender = tokio::sync::oneshot::Sender<Result<i64, LogError>>;

struct State {
    held: HashMap<Topic, (i64, Vec<Bytes>)>,
    waiting: VecDeque<(Topic, Bytes, AckSender)>,
    queued: usize,
    queue: usize,
    max_record: usize,
    /// Most bytes that ever waited.
    most_queued: usize,
    /// How often an append found no room.
    refused: usize,
    committed: Option<i64>,
    /// Says nothing of what it holds.
    is_silent: bool,
}

impl SmallLog {
    fn new(queue: usize, max_record: usize) -> Self {
        let log = Self(Arc::new(Mutex::new(State {
            held: HashMap::new(),
            waiting: VecDeque::new(),
            queued: 0,
            queue,
            max_record,
            most_queued: 0,
            refused: 0,
            committed: None,
            is_silent: false,
        })));
        let disk = log.clone();
        drop(spawn_apart(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                disk.write_one();
            }
        }));
        log
    }

    fn write_one(&self) {
        let mut state = self.0.lock().unwrap();
        let Some((topic, payload, ack)) = state.waiting.pop_front() else { return };
        state.queued -= payload.len();
        let offset = state.put(topic, payload);
        drop(ack.send(Ok(offset)));
    }

    fn put(&self, topic: Topic, payload: Vec<u8>) {
        self.0.lock().unwrap().put(topic, payload.into());
    }

    fn records(&self, topic: Topic) -> Vec<Bytes> {
        self.0.lock().unwrap().held.get(&topic).map_or_else(Vec::new, |(_, records)| records.clone())
    }

    /// Waits until raw records were committed up to `next_offset`.
    async fn committed(&self, next_offset: i64) {
        while self.0.lock().unwrap().committed != Some(next_offset) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl State {
    fn put(&mut self, topic: Topic, payload: Bytes) -> i64 {
        let (start, records) = self.held.entry(topic).or_default();
        records.push(payload);
        *start + records.len() as i64 - 1
    }

    fn bounds(&self, topic: Topic) -> Range<i64> {
        self.held.get(&topic).map_or(0..0, |(start, records)| *start..*start + records.len() as i64)
    }

    fn delete(&mut self, topic: Topic, count: i64) {
        if let Some((start, records)) = self.held.get_mut(&topic) {
            let count = count.min(records.len() as i64);
            records.drain(..count as usize);
            *start += count;
        }
    }
}

impl Log for SmallLog {
    type Member = SmallReader;
    type Follower = std::convert::Infallible;

    fn epoch(&self) -> LogEpoch {
        LogEpoch(3)
    }

    fn partitions(&self, _: Topic) -> u16 {
        1
    }

    fn max_record_bytes(&self) -> usize {
        self.0.lock().unwrap().max_record
    }

    fn append(&self, topic: Topic, _: u16, payload: Bytes) -> Result<Ack, LogError> {
        let mut state = self.0.lock().unwrap();
        if payload.len() > state.max_record {
            return Err(LogError::TooLarge { size: payload.len(), limit: state.max_record });
        }
        if state.queued >= state.queue {
            state.refused += 1;
            return Err(LogError::Full("the queue".to_owned()));
        }
        state.queued += payload.len();
        state.most_queued = state.most_queued.max(state.queued);
        let (sender, ack) = Ack::pair();
        state.waiting.push_back((topic, payload, sender));
        Ok(ack)
    }

    async fn bounds(&self, topic: Topic, _: u16) -> Result<Range<i64>, LogError> {
        Ok(self.0.lock().unwrap().bounds(topic))
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<Record>, LogError> {
        let ReadRequest { topic, partition, from, .. } = request;
        let state = self.0.lock().unwrap();
        let held = state.bounds(topic);
        if !(held.start..=held.end).contains(&from) {
            return Err(LogError::OutOfRange { topic: topic.as_str(), partition, asked: from, held });
        }
        let record = state.held.get(&topic).and_then(|(start, records)| records.get((from - start) as usize));
        Ok(record.map(|payload| Record { offset: from, payload: payload.clone() }).into_iter().collect())
    }

    async fn join(&self, _: ConsumerGroup) -> Result<SmallReader, LogError> {
        Ok(self.reader())
    }

    async fn follow(&self, _: Topic) -> Result<Self::Follower, LogError> {
        Err(LogError::Closed)
    }
}

impl SmallLog {
    fn reader(&self) -> SmallReader {
        let committed = self.0.lock().unwrap().committed;
        SmallReader { log: self.clone(), next_offset: committed.unwrap_or(0), committed, revoked: CancellationToken::new() }
    }
}

struct SmallReader {
    log: SmallLog,
    next_offset: i64,
    committed: Option<i64>,
    revoked: CancellationToken,
}

impl GroupMember for SmallReader {
    type Reader = Self;

    async fn assigned(&mut self) -> Result<Self, LogError> {
        std::future::pending().await
    }
}

impl PartitionReader for SmallReader {
    fn partition(&self) -> u16 {
        0
    }

    fn committed(&self) -> Option<i64> {
        self.committed
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        let is_silent = self.log.0.lock().unwrap().is_silent;
        if is_silent {
            return std::future::pending().await;
        }
        self.log.bounds(Topic::Raw, 0).await
    }

    fn seek(&mut self, next_offset: i64) {
        self.next_offset = next_offset;
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let records = self.log.read(ReadRequest::new(Topic::Raw, 0, self.next_offset, max_bytes)).await?;
            if let Some(last) = records.last() {
                self.next_offset = last.offset + 1;
                return Ok(records);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn commit(&mut self, next_offset: i64) -> Result<(), LogError> {
        self.committed = Some(next_offset);
        self.log.0.lock().unwrap().committed = Some(next_offset);
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }
}

fn event(body: &mut Vec<u8>, visitor: u64) {
    let mut writer = EventWriter::begin(body);
    writer.field(Field::Type, b"view");
    writer.finish(&EventHeader {
        event_id: [visitor as u8; 16],
        visitor: VisitorKey(visitor),
        person: PersonKey(visitor),
        at_ms: NOW,
        original_ms: NOW,
        sent_ms: 0,
        received_ms: NOW,
        flags: 0,
        project: 0,
    });
}

/// A raw record with an event of each of these visitors.
fn raw(visitors: Range<u64>) -> Vec<u8> {
    let mut body = Vec::new();
    let events = (visitors.end - visitors.start) as u32;
    visitors.for_each(|visitor| event(&mut body, visitor));
    let projects = vec![ProjectId(9)];
    let tallies = Tallies::default();
    record::encode(&Header { source: 0, day: day_of(NOW), events, received_ms: NOW, projects, tallies, letters: 0, origin: None }, &body)
}

type Running = tokio::task::JoinHandle<Result<(), LogError>>;

fn start(log: &SmallLog, stop: &CancellationToken) -> Running {
    let limits = ProcessConfig { commit_interval: Duration::from_millis(100) }.check().unwrap();
    spawn_apart(Worker::new(log.clone(), limits, Arc::new(AgentParser::new()), log.reader()).run(stop.clone()))
}

/// Raw offsets of the enriched records, in the order of the topic.
fn enriched(log: &SmallLog) -> Vec<i64> {
    let offset = |payload: &Bytes| record::header(payload).unwrap().origin.unwrap().offset;
    log.records(Topic::Enriched).iter().map(offset).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_and_nothing_is_worked_through_twice() {
    let log = SmallLog::new(4_000, 1 << 20);
    (0..200).for_each(|number| log.put(Topic::Raw, raw(number..number + 10)));
    let stop = CancellationToken::new();
    let worker = start(&log, &stop);
    log.committed(200).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(enriched(&log), (0..200).collect::<Vec<_>>());
    assert!(log.0.lock().unwrap().refused > 0, "the queue was never full: the test shows nothing");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_to_stop_does_not_wait_for_ever_for_room() {
    let log = SmallLog::new(0, 1 << 20);
    log.put(Topic::Raw, raw(0..3));
    let stop = CancellationToken::new();
    let worker = start(&log, &stop);
    while log.0.lock().unwrap().refused == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(log.0.lock().unwrap().committed, None, "what was not published is not committed");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_partition_is_taken_away_before_the_log_says_anything_ends() {
    let log = SmallLog::new(1 << 20, 1 << 20);
    log.0.lock().unwrap().is_silent = true;
    log.put(Topic::Raw, raw(0..3));
    let limits = ProcessConfig { commit_interval: Duration::from_millis(100) }.check().unwrap();
    let reader = log.reader();
    let revoked = reader.revoked.clone();
    let worker = spawn_apart(Worker::new(log.clone(), limits, Arc::new(AgentParser::new()), reader).run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!worker.is_finished());
    revoked.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!((enriched(&log), log.0.lock().unwrap().committed), (Vec::new(), None));
}

#[tokio::test(start_paused = true)]
async fn what_retention_deletes_under_a_reader_ends_no_worker() {
    let log = SmallLog::new(1 << 20, 64 << 10);
    log.0.lock().unwrap().committed = Some(2);
    // The raw records below what was committed and beyond it are gone before the first read.
    (0..6).for_each(|number| log.put(Topic::Raw, raw(number..number + 1)));
    let stop = CancellationToken::new();
    let worker = start(&log, &stop);
    log.0.lock().unwrap().delete(Topic::Raw, 4);
    log.committed(6).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(enriched(&log), [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_the_log_takes_once_enriched_costs_itself_and_not_its_neighbours() {
    let log = SmallLog::new(1 << 20, 64 << 10);
    log.put(Topic::Raw, raw(0..3));
    log.put(Topic::Raw, (0..64_u32 << 10).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    log.put(Topic::Raw, raw(3..6));
    let stop = CancellationToken::new();
    let worker = start(&log, &stop);
    log.committed(3).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    let events = |payload: &Bytes| record::header(payload).unwrap().events;
    assert_eq!(log.records(Topic::Enriched).iter().map(events).collect::<Vec<_>>(), [3, 0, 3]);
    assert_eq!(log.records(Topic::Dead).len(), 1);
}
