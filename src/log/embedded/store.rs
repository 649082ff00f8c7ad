//! All partitions of a log, and their maintenance about once a second: writing down committed offsets, deleting what is finished,
//! sealing what is old.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::config::EmbeddedLimits;
use super::disk::{self, Disk};
use super::frame::{Checksum, SEGMENT_HEADER, SegmentHeader};
use super::offsets::Offsets;
use super::partition::{Partition, PartitionDir};
use super::queue::Usage;
use super::recover::{Found, OpenError, Recovered, recover};
use super::retention::{Rule, deletable};
use super::segment::{SegmentFile, file_name};
use super::sidecar::{self, Checkpoint, Meta, SidecarError};
use crate::clock::now_ms;
use crate::event::ids::LogEpoch;
use crate::log::Topic;

/// Time between two rounds of maintenance.
const ROUND: Duration = Duration::from_secs(1);

/// A segment is sealed when it is this part of the retention old, so that a quiet topic does not keep records for long
/// beyond their time.
const SEAL_AGE_DIVISOR: u32 = 8;

/// The partitions of every topic.
type Topics = Vec<(Topic, Vec<Arc<Partition>>)>;

/// Everything that a log consists of, without the threads that work on it.
pub(super) struct Store {
    pub(super) dir: PathBuf,
    pub(super) limits: EmbeddedLimits,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) epoch: LogEpoch,
    pub(super) usage: Arc<Usage>,
    pub(super) offsets: Offsets,
    /// Bytes that were cut off on opening.
    pub(super) truncated: u64,
    topics: Topics,
    written: Mutex<Checkpoint>,
}

impl Store {
    /// Recovers the log in `dir`, or makes an empty one.
    pub(super) fn open(dir: &Path, limits: EmbeddedLimits, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        disk::create_dir(dir).map_err(OpenError::io(dir))?;
        let meta = open_meta(dir, limits.raw_partitions())?;
        let checkpoint = open_checkpoint(dir)?;
        let usage = Arc::new(Usage::default());
        let opening = Opening { dir, limits: &limits, disk: &*disk, epoch: LogEpoch(meta.epoch), checkpoint: &checkpoint, usage: &usage };
        let (topics, truncated) = opening.topics()?;
        let offsets = Offsets::restore(&checkpoint.committed);
        let dir = dir.to_owned();
        Ok(Self { dir, limits, disk, epoch: LogEpoch(meta.epoch), usage, offsets, truncated, topics, written: Mutex::new(checkpoint) })
    }

    pub(super) fn partition(&self, topic: Topic, partition: u16) -> Option<&Arc<Partition>> {
        let (_, partitions) = self.topics.iter().find(|(candidate, _)| *candidate == topic)?;
        partitions.get(usize::from(partition))
    }

    /// Every partition with its topic.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (Topic, &Arc<Partition>)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, partition)))
    }

    /// Whether the disk limit has room for records of `topic`.
    pub(super) fn has_room(&self, topic: Topic) -> bool {
        self.usage.stored.load(Ordering::Relaxed) < self.limits.stored_limit(topic)
    }

    /// Maintains the log until `stop` is disconnected.
    pub(super) fn maintain(&self, stop: &Receiver<()>) {
        let mut failing = false;
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(ROUND) {
            // Retention first: on a full disk it is what makes room for the checkpoint.
            let result = self.retain(now_ms()).and(self.write_checkpoint());
            // Once, not every second that a disk stays full.
            if let Err(error) = &result
                && !failing
            {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot maintain the log");
            }
            failing = result.is_err();
        }
    }

    /// Writes down committed offsets and synced positions, if they changed.
    pub(super) fn write_checkpoint(&self) -> io::Result<()> {
        let current =
            Checkpoint { committed: self.offsets.all(), synced: self.partitions().map(|(_, partition)| partition.synced()).collect() };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written != current {
            sidecar::store(&self.dir.join("offsets"), &current)?;
            *written = current;
        }
        Ok(())
    }

    /// Deletes what is finished and old; when the log is nearly full also what is finished and young, the enriched topic
    /// first because it can be made again from the raw one. What cannot be deleted keeps nothing else from it; the first error is
    /// returned.
    pub(super) fn retain(&self, now_ms: i64) -> io::Result<()> {
        let mut ended = Ok(());
        for topic in [Topic::Enriched, Topic::Raw, Topic::Dead] {
            for (_, partition) in self.partitions().filter(|(candidate, _)| *candidate == topic) {
                let count = deletable(&partition.sealed(), self.rule(topic, partition, now_ms));
                match partition.delete_oldest(count, &*self.disk) {
                    Ok(0) => {}
                    Ok(freed) => {
                        tracing::info!(
                            topic = topic.as_str(),
                            partition = partition.location.partition,
                            segments = count,
                            freed,
                            "log retention"
                        );
                    }
                    Err(problem) => ended = ended.and(Err(problem)),
                }
                self.seal_if_due(topic, partition, now_ms);
            }
        }
        ended
    }

    fn rule(&self, topic: Topic, partition: &Partition, now_ms: i64) -> Rule {
        Rule {
            finished: self.offsets.finished(topic, partition.location.partition),
            before_ms: now_ms.saturating_sub(millis(self.limits.retention(topic))),
            excess: self.usage.stored.load(Ordering::Relaxed).saturating_sub(self.limits.pressure()),
        }
    }

    /// Seals a segment that is old, and one that is finished while the log is nearly full: only sealed ones can be deleted.
    fn seal_if_due(&self, topic: Topic, partition: &Partition, now_ms: i64) {
        let old = now_ms.saturating_sub(millis(self.limits.retention(topic) / SEAL_AGE_DIVISOR));
        let finished = self.offsets.finished(topic, partition.location.partition);
        let is_in_the_way = self.usage.stored.load(Ordering::Relaxed) > self.limits.pressure() && finished >= partition.end();
        if partition.active_since_ms().is_some_and(|since| since < old || is_in_the_way) {
            partition.queue.roll();
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What is needed to open the partitions.
struct Opening<'a> {
    dir: &'a Path,
    limits: &'a EmbeddedLimits,
    disk: &'a dyn Disk,
    epoch: LogEpoch,
    checkpoint: &'a Checkpoint,
    usage: &'a Arc<Usage>,
}

impl Opening<'_> {
    /// All partitions, at the same time: each may have a segment to read. Also how many bytes were cut off.
    fn topics(&self) -> Result<(Topics, u64), OpenError> {
        let mut truncated = 0;
        let mut topics = Vec::new();
        for topic in Topic::ALL {
            let opened: Result<Vec<_>, OpenError> = std::thread::scope(|scope| {
                let spawn = |partition| std::thread::Builder::new().spawn_scoped(scope, move || self.partition(topic, partition));
                let threads: Result<Vec<_>, _> = (0..self.limits.partitions(topic)).map(spawn).collect();
                let died = |_| OpenError::Io { path: self.dir.to_owned(), source: io::Error::other("a recovering thread died") };
                threads.map_err(OpenError::io(self.dir))?.into_iter().map(|thread| thread.join().map_err(died)?).collect()
            });
            let opened = opened?;
            truncated += opened.iter().map(|(_, truncated)| truncated).sum::<u64>();
            topics.push((topic, opened.into_iter().map(|(partition, _)| Arc::new(partition)).collect()));
        }
        Ok((topics, truncated))
    }

    fn partition(&self, topic: Topic, partition: u16) -> Result<(Partition, u64), OpenError> {
        let dir = self.dir.join(topic.as_str()).join(partition.to_string());
        disk::create_dir(&dir).map_err(OpenError::io(&dir))?;
        let location = PartitionDir { topic, partition, dir, checksum: Checksum::new(self.epoch) };
        let synced = self.checkpoint.synced.iter().find(|mark| mark.topic == topic.as_str() && mark.partition == partition);
        let found = match recover(&location.dir, location.checksum, synced, self.disk)? {
            Some(found) => found,
            None => first_segment(&location, self.disk)?,
        };
        self.check_committed(topic, partition, found.next_offset)?;
        let truncated = found.truncated;
        if truncated > 0 {
            let dir = location.dir.display();
            tracing::warn!(%dir, bytes = truncated, "cut off an unfinished write at the end of the log");
        }
        Ok((Partition::new(location, found, self.usage.clone(), self.limits.tail_bytes(topic)), truncated))
    }

    /// Offsets that were finished once must not be given to other records: their group would skip these.
    fn check_committed(&self, topic: Topic, partition: u16, end: i64) -> Result<(), OpenError> {
        let ahead = |entry: &&sidecar::Committed| entry.topic == topic.as_str() && entry.partition == partition && entry.next_offset > end;
        let Some(entry) = self.checkpoint.committed.iter().find(ahead) else { return Ok(()) };
        let what = format!(
            "group {} has finished {} of {}/{partition}, which ends at {end}: records are gone",
            entry.group,
            entry.next_offset,
            topic.as_str()
        );
        Err(OpenError::corrupt(&self.dir.join("offsets"), 0, what))
    }
}

fn first_segment(location: &PartitionDir, disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let path = location.dir.join(file_name(0));
    let header = SegmentHeader { base: 0, created_ms: now_ms() };
    let file = disk::create_whole(disk, &path, &header.encode(location.checksum)).map_err(OpenError::io(&path))?;
    let found = Found { base: 0, path: path.clone(), len: SEGMENT_HEADER as u64, created_ms: header.created_ms };
    Ok(Recovered { segments: [found].into(), last: SegmentFile::fresh(path, file, 0, location.checksum), next_offset: 0, truncated: 0 })
}

/// Reads what log this is, or makes it one with an identity of its own.
fn open_meta(dir: &Path, partitions: u16) -> Result<Meta, OpenError> {
    let path = dir.join("meta");
    let found: Option<Meta> = sidecar::load(&path).map_err(|error| match error {
        SidecarError::Io { path, source } => OpenError::Io { path, source },
        damaged => OpenError::corrupt(&path, 0, damaged.to_string()),
    })?;
    let Some(meta) = found else {
        if Topic::ALL.iter().any(|topic| dir.join(topic.as_str()).exists()) {
            return Err(OpenError::corrupt(&path, 0, "the file is gone, but there are topics beside it"));
        }
        let epoch = getrandom::u64().map_err(|error| OpenError::Io { path: path.clone(), source: io::Error::other(error.to_string()) })?;
        let meta = Meta { format: sidecar::FORMAT, epoch, partitions };
        sidecar::store(&path, &meta).map_err(OpenError::io(&path))?;
        return Ok(meta);
    };
    if meta.format != sidecar::FORMAT {
        return Err(OpenError::Format { dir: dir.to_owned(), found: meta.format, known: sidecar::FORMAT });
    }
    if meta.partitions != partitions {
        return Err(OpenError::Partitions { dir: dir.to_owned(), stored: meta.partitions, asked: partitions });
    }
    Ok(meta)
}

/// A damaged checkpoint is no reason to stop: committed offsets are a hint, and without them everything is read again.
fn open_checkpoint(dir: &Path) -> Result<Checkpoint, OpenError> {
    match sidecar::load(&dir.join("offsets")) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(SidecarError::Io { path, source }) => Err(OpenError::Io { path, source }),
        Err(error) => {
            tracing::warn!(%error, "consumer offsets are lost: what the log holds is read again from the start");
            Ok(Checkpoint::default())
        }
    }
}
