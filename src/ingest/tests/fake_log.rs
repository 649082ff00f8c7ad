//! A log in memory that acknowledges, refuses or hesitates as the test says.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::event::ids::LogEpoch;
use crate::event::record::{self, Header};
use crate::log::{Ack, ConsumerGroup, GroupMember, Log, LogError, PartitionReader, ReadRequest, Record, Topic};

/// What the log does with the next records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Durable at once.
    Willing,
    /// Refuses when asked.
    Full,
    /// Takes them, then fails to make them durable.
    Failing,
    /// Takes them and says nothing until [`FakeLog::settle`].
    Slow,
}

#[derive(Clone)]
pub(crate) struct FakeLog {
    state: Arc<Mutex<State>>,
    appended: Arc<Notify>,
}

struct State {
    mood: Mood,
    records: Vec<(u16, Bytes)>,
    unsettled: Vec<oneshot::Sender<Result<i64, LogError>>>,
}

/// A record as appended, opened.
pub(crate) struct Opened {
    pub(crate) partition: u16,
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl FakeLog {
    pub(crate) fn new(mood: Mood) -> Self {
        let state = State { mood, records: Vec::new(), unsettled: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), appended: Arc::default() }
    }

    /// Waits until a record was appended since the last time this was awaited.
    pub(crate) async fn appended(&self) {
        self.appended.notified().await;
    }

    /// Makes everything taken so far durable.
    pub(crate) fn settle(&self) {
        for sender in self.state.lock().unwrap().unsettled.drain(..) {
            drop(sender.send(Ok(0)));
        }
    }

    /// Everything taken so far.
    pub(crate) fn records(&self) -> Vec<Opened> {
        self.state.lock().unwrap().records.iter().map(open).collect()
    }

    /// What was taken last.
    pub(crate) fn last(&self) -> Option<Opened> {
        self.state.lock().unwrap().records.last().map(open)
    }
}

fn open((partition, bytes): &(u16, Bytes)) -> Opened {
    let mut body = Vec::new();
    let header = record::decode(bytes, &mut body).unwrap();
    Opened { partition: *partition, header, body }
}

impl Log for FakeLog {
    type Member = Nobody;
    type Follower = std::convert::Infallible;

    fn epoch(&self) -> LogEpoch {
        LogEpoch(1)
    }

    fn partitions(&self, _: Topic) -> u16 {
        4
    }

    fn max_record_bytes(&self) -> usize {
        16 << 20
    }

    fn append(&self, topic: Topic, partition: u16, payload: Bytes) -> Result<Ack, LogError> {
        assert_eq!(topic, Topic::Raw);
        let mut state = self.state.lock().unwrap();
        if state.mood == Mood::Full {
            return Err(LogError::Full("full".to_owned()));
        }
        let (sender, ack) = Ack::pair();
        match state.mood {
            Mood::Failing => drop(sender.send(Err(LogError::Unavailable("no space left".to_owned())))),
            Mood::Slow => state.unsettled.push(sender),
            _ => drop(sender.send(Ok(0))),
        }
        state.records.push((partition, payload));
        self.appended.notify_one();
        Ok(ack)
    }

    async fn bounds(&self, _: Topic, _: u16) -> Result<Range<i64>, LogError> {
        Ok(0..0)
    }

    async fn read(&self, _: ReadRequest) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    async fn join(&self, _: ConsumerGroup) -> Result<Nobody, LogError> {
        Err(LogError::Closed)
    }

    async fn follow(&self, _: Topic) -> Result<Self::Follower, LogError> {
        Err(LogError::Closed)
    }
}

/// Ingest reads nothing, so no member ever joins.
pub(crate) enum Nobody {}

impl GroupMember for Nobody {
    type Reader = Self;

    async fn assigned(&mut self) -> Result<Self, LogError> {
        match *self {}
    }
}

impl PartitionReader for Nobody {
    fn partition(&self) -> u16 {
        match *self {}
    }

    fn committed(&self) -> Option<i64> {
        match *self {}
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        match *self {}
    }

    fn seek(&mut self, _: i64) {
        match *self {}
    }

    async fn next(&mut self, _: usize) -> Result<Vec<Record>, LogError> {
        match *self {}
    }

    async fn commit(&mut self, _: i64) -> Result<(), LogError> {
        match *self {}
    }

    fn revoked(&self) -> CancellationToken {
        match *self {}
    }
}
