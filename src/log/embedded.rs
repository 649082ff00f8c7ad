//! The log on the local disk of a single instance.
//!
//! ```text
//! <dir>/meta                                     format, epoch, number of partitions
//! <dir>/offsets                                  committed offsets and synced positions, about a second old
//! <dir>/<topic>/<partition>/<first offset>.seg   the records
//! ```
//!
//! An append joins the queue of its partition. The partition's thread writes and syncs what is queued as one group, makes it
//! visible to readers and acknowledges it (`writer`). Readers that keep up are served from memory (`partition`); others read
//! the files on the blocking pool, because a cold disk may take its time.
//!
//! Promises: those of [`crate::log`]; records that a group has not finished are never deleted to make room (`retention`); after a crash
//! everything acknowledged is there, and damage is reported with file and position instead of being read over
//! (`recover`). A record that was refused may still be found after a crash: its write had got through and the cut that
//! followed had not. May go wrong: the disk is full or fails, then appends are refused until it is back.

mod config;
mod disk;
mod follow;
mod frame;
mod group;
mod lock;
mod offsets;
mod partition;
mod queue;
mod recover;
mod retention;
mod segment;
mod sidecar;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use self::config::{EmbeddedLimits, EmbeddedLogConfig};
pub use self::follow::EmbeddedFollower;
pub use self::group::{EmbeddedMember, EmbeddedReader};
pub use self::lock::{DirLock, LockError, lock_data_dir};
pub use self::recover::OpenError;

use self::disk::{Disk, RealDisk};
use self::partition::{Located, Partition};
use self::store::Store;
use self::writer::Writer;
use crate::event::ids::LogEpoch;
use crate::log::{Ack, ConsumerGroup, Log, LogError, ReadRequest, Record, RunningLog, Topic};

/// The embedded log. Clones share it. End it with [`RunningLog::close`]. When the last clone is dropped without, queued records are
/// dropped and their [`Ack`]s resolve to [`LogError::Closed`]; the drop itself waits for writes under way.
#[derive(Clone)]
pub struct EmbeddedLog {
    running: Arc<Running>,
}

struct Running {
    store: Arc<Store>,
    closed: CancellationToken,
    /// Cancelled when a writer has died.
    broken: CancellationToken,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// The maintenance ends when this is dropped.
    maintenance: Option<SyncSender<()>>,
}

impl EmbeddedLog {
    /// Recovers the log in `dir` or makes an empty one. Blocks on the disk. The caller holds the lock of the data
    /// directory ([`lock_data_dir`]).
    pub fn open(dir: &Path, limits: EmbeddedLimits) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), dir, limits)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, limits: EmbeddedLimits) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(dir, limits, disk)?);
        // Made first: if a thread cannot be started, dropping it ends those that were.
        let log = Self {
            running: Arc::new(Running {
                store,
                closed: CancellationToken::new(),
                broken: CancellationToken::new(),
                threads: Mutex::default(),
            }),
        };
        log.start().map_err(OpenError::io(dir))?;
        Ok(log)
    }

    fn start(&self) -> io::Result<()> {
        let store = self.store();
        let mut threads = self.running.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, partition) in store.partitions() {
            let writer = Writer::new(partition.clone(), store.disk.clone(), store.limits.segment_bytes(), self.running.broken.clone());
            let name = format!("log-{}-{}", topic.as_str(), partition.location.partition);
            threads.handles.push(std::thread::Builder::new().name(name).spawn(|| writer.run())?);
        }
        let (maintenance, stop) = sync_channel(0);
        let store = store.clone();
        threads.handles.push(std::thread::Builder::new().name("log-maintenance".to_owned()).spawn(move || store.maintain(&stop))?);
        threads.maintenance = Some(maintenance);
        Ok(())
    }

    /// Bytes of an unfinished write that were cut off when the log was opened.
    pub fn truncated_bytes(&self) -> u64 {
        self.store().truncated
    }

    fn store(&self) -> &Arc<Store> {
        &self.running.store
    }

    fn closed(&self) -> CancellationToken {
        self.running.closed.clone()
    }

    fn partition(&self, topic: Topic, partition: u16) -> Result<&Arc<Partition>, LogError> {
        let missing = || LogError::Unavailable(format!("topic {} has no partition {partition}", topic.as_str()));
        self.store().partition(topic, partition).ok_or_else(missing)
    }
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("dir", &self.store().dir).finish_non_exhaustive()
    }
}

impl Running {
    /// Ends the threads and waits for them.
    fn stop(&self, abandon: bool) {
        for (_, partition) in self.store.partitions() {
            partition.queue.close(abandon);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        drop(threads.maintenance);
        for thread in threads.handles {
            // A writer that died has refused what waited for it; there is nothing to add.
            let _ = thread.join();
        }
        self.closed.cancel();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(true);
    }
}

impl Log for EmbeddedLog {
    type Member = EmbeddedMember;
    type Follower = EmbeddedFollower;

    fn epoch(&self) -> LogEpoch {
        self.store().epoch
    }

    fn partitions(&self, topic: Topic) -> u16 {
        self.store().limits.partitions(topic)
    }

    fn max_record_bytes(&self) -> usize {
        self.store().limits.max_record_bytes()
    }

    fn append(&self, topic: Topic, partition: u16, payload: Bytes) -> Result<Ack, LogError> {
        let (store, limit) = (self.store(), self.store().limits.max_record_bytes());
        if payload.len() > limit {
            return Err(LogError::TooLarge { size: payload.len(), limit });
        }
        if !store.has_room(topic) {
            return Err(LogError::Full(format!("log.embedded.max_bytes leaves topic {} no room", topic.as_str())));
        }
        self.partition(topic, partition)?.queue.push(payload, store.limits.queued_limit(topic))
    }

    fn bounds(&self, topic: Topic, partition: u16) -> impl Future<Output = Result<Range<i64>, LogError>> + Send {
        ready(self.partition(topic, partition).map(|partition| partition.bounds()))
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<Record>, LogError> {
        let partition = self.partition(request.topic, request.partition)?.clone();
        let file = match partition.locate(request)? {
            Located::Memory(records) => return Ok(records),
            Located::File(file) => file,
        };
        let read = tokio::task::spawn_blocking(move || partition.read_file(file, request));
        read.await.unwrap_or_else(|error| Err(LogError::Unavailable(format!("reading was interrupted: {error}"))))
    }

    fn join(&self, group: ConsumerGroup) -> impl Future<Output = Result<EmbeddedMember, LogError>> + Send {
        ready(EmbeddedMember::join(self.clone(), group))
    }

    fn follow(&self, topic: Topic) -> impl Future<Output = Result<EmbeddedFollower, LogError>> + Send {
        ready(Ok(EmbeddedFollower::new(self.clone(), topic)))
    }
}

impl RunningLog for EmbeddedLog {
    /// Every partition can be written and there is room.
    fn is_writable(&self) -> bool {
        let store = self.store();
        store.has_room(Topic::Raw) && store.partitions().all(|(_, partition)| partition.queue.is_open())
    }

    /// When a writer has died: what it had made durable is on disk, and the next start goes on from there.
    async fn broken(&self) -> LogError {
        self.running.broken.cancelled().await;
        LogError::Unavailable("the thread that writes a partition has died".to_owned())
    }

    /// Writes down the committed offsets as well; `revoked` of every reader fires.
    async fn close(&self) {
        let running = self.running.clone();
        let drained = tokio::task::spawn_blocking(move || {
            running.stop(false);
            running.store.write_checkpoint()
        });
        if let Ok(Err(error)) = drained.await {
            tracing::warn!(dir = %self.store().dir.display(), %error, "cannot write consumer offsets");
        }
    }
}
