//! The records of one partition that are not on disk yet.
//!
//! Bounded in bytes over all partitions together; a full queue refuses. After a failed write everything queued behind it fails
//! too: a record never overtakes one that was appended before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::log::{Ack, LogError};

/// Most bytes written before one sync, so that a long queue gets its acknowledgements in steps.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Pause between two attempts to write again after a failure.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Bytes in use, over all partitions.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// In segment files.
    pub(super) stored: AtomicU64,
    /// Waiting to be written.
    pub(super) queued: AtomicU64,
}

/// A record that is not durable yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) payload: Bytes,
    pub(super) ack: oneshot::Sender<Result<i64, LogError>>,
    reservation: QueuedBytes,
}

impl Pending {
    /// Resolves its [`Ack`], if that is still there.
    pub(super) fn resolve(self, result: Result<i64, LogError>) {
        // The bytes are free before the acknowledgement is out: its receiver can append again at once.
        drop(self.reservation);
        let _ = self.ack.send(result);
    }
}

/// Bytes counted in [`Usage::queued`] until this is dropped.
#[derive(Debug)]
struct QueuedBytes {
    usage: Arc<Usage>,
    bytes: u64,
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.usage.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Task {
    /// Write these.
    Write(VecDeque<Pending>),
    /// Begin a new segment if this one holds anything.
    Roll,
    /// Try to become writable again.
    Recover,
    /// End.
    Stop,
}

#[derive(Debug, Clone)]
enum Mode {
    Open,
    /// Refuses, with the reason.
    Broken(String),
    Closed,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Pending>,
    mode: Mode,
    roll: bool,
}

/// The queue between appenders and the writer of one partition.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    usage: Arc<Usage>,
}

impl Queue {
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), mode: Mode::Open, roll: false }), wake: Condvar::new(), usage }
    }

    /// Appends, if fewer than `limit` bytes wait. The record that crosses the limit is taken, so any size gets its turn.
    pub(super) fn push(&self, payload: Bytes, limit: u64) -> Result<Ack, LogError> {
        let mut state = self.lock();
        match &state.mode {
            Mode::Open => {}
            Mode::Broken(reason) => return Err(LogError::Unavailable(reason.clone())),
            Mode::Closed => return Err(LogError::Closed),
        }
        if self.usage.queued.load(Ordering::Relaxed) >= limit {
            return Err(LogError::Full(format!("{limit} bytes wait for the disk already")));
        }
        let bytes = payload.len() as u64;
        self.usage.queued.fetch_add(bytes, Ordering::Relaxed);
        let (ack, receiver) = Ack::pair();
        state.waiting.push_back(Pending { payload, ack, reservation: QueuedBytes { usage: self.usage.clone(), bytes } });
        drop(state);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// The writer's next task; waits for one.
    pub(super) fn next(&self) -> Task {
        let mut state = self.lock();
        loop {
            match state.mode {
                Mode::Closed if state.waiting.is_empty() => return Task::Stop,
                Mode::Broken(_) => {
                    let (woken, timeout) = self.wake.wait_timeout(state, RETRY_EVERY).unwrap_or_else(PoisonError::into_inner);
                    state = woken;
                    if timeout.timed_out() {
                        return Task::Recover;
                    }
                    continue;
                }
                Mode::Open | Mode::Closed => {}
            }
            if !state.waiting.is_empty() {
                return Task::Write(first_bytes(&mut state.waiting));
            }
            if std::mem::take(&mut state.roll) {
                return Task::Roll;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses what is queued, and everything from now on.
    pub(super) fn fail(&self, reason: &str) {
        let mut state = self.lock();
        if !matches!(state.mode, Mode::Closed) {
            state.mode = Mode::Broken(reason.to_owned());
        }
        for pending in std::mem::take(&mut state.waiting) {
            pending.resolve(Err(LogError::Unavailable(reason.to_owned())));
        }
    }

    /// Takes records again.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        if let Mode::Broken(_) = state.mode {
            state.mode = Mode::Open;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.lock().mode, Mode::Open)
    }

    /// Asks the writer for a new segment.
    pub(super) fn roll(&self) {
        self.lock().roll = true;
        self.wake.notify_one();
    }

    /// Takes no more records. What is queued is still written, unless `abandon`.
    pub(super) fn close(&self, abandon: bool) {
        let mut state = self.lock();
        state.mode = Mode::Closed;
        if abandon {
            state.waiting.clear();
        }
        drop(state);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what one write may hold, at least one record.
fn first_bytes(waiting: &mut VecDeque<Pending>) -> VecDeque<Pending> {
    let mut bytes = 0;
    let count = waiting
        .iter()
        .take_while(|pending| {
            let fits = bytes < MAX_BATCH_BYTES;
            bytes += pending.payload.len();
            fits
        })
        .count();
    if count == waiting.len() {
        return std::mem::take(waiting);
    }
    waiting.drain(..count).collect()
}
