//! One partition as its readers see it: which segments it has, the newest records in memory, where it ends.
//!
//! Only records that are on disk are ever visible. A record is first published here, then acknowledged.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::disk::Disk;
use super::frame::{Checksum, FRAME_HEADER};
use super::queue::{Queue, Usage};
use super::recover::Recovered;
use super::retention::SegmentAge;
use super::segment::{Extent, ReadError, SegmentFile};
use super::sidecar::Synced;
use crate::log::{LogError, ReadRequest, Record, Topic};

/// Sealed segments that stay open with their index after a read: as many as readers are likely to be at.
const OPEN_SEGMENTS: usize = 4;

/// Which partition, and where.
#[derive(Clone, Debug)]
pub(super) struct PartitionDir {
    pub(super) topic: Topic,
    pub(super) partition: u16,
    pub(super) dir: PathBuf,
    pub(super) checksum: Checksum,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) location: PartitionDir,
    pub(super) queue: Queue,
    usage: Arc<Usage>,
    held: Mutex<Held>,
    end: watch::Sender<i64>,
}

/// A segment as the partition remembers it.
#[derive(Debug)]
struct Segment {
    base: i64,
    path: PathBuf,
    /// Bytes on disk; for the last one, those known to be.
    len: u64,
    created_ms: i64,
}

#[derive(Debug)]
struct Held {
    /// Never empty; the last one is written to.
    segments: VecDeque<Segment>,
    active: Arc<SegmentFile>,
    opened: VecDeque<Arc<SegmentFile>>,
    tail: Tail,
    /// A segment whose deletion may not survive a power cut yet.
    deleted: Option<PathBuf>,
}

/// The newest records, without a gap up to the end of the partition.
#[derive(Debug)]
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    fn push(&mut self, record: Record) {
        self.bytes += record.payload.len() + FRAME_HEADER;
        self.records.push_back(record);
        while self.bytes > self.limit {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.payload.len() + FRAME_HEADER;
        }
    }

    /// As [`SegmentFile::read`], or `None` if `request` begins before the tail.
    fn read(&self, request: ReadRequest) -> Option<Vec<Record>> {
        let skip = usize::try_from(request.from - self.records.front()?.offset).ok()?;
        let (mut records, mut left) = (Vec::new(), request.max_bytes);
        for record in self.records.range(skip.min(self.records.len())..) {
            let size = request.prefix.map_or(record.payload.len(), |prefix| prefix.min(record.payload.len()));
            if !records.is_empty() && size + FRAME_HEADER > left {
                break;
            }
            left = left.saturating_sub(size + FRAME_HEADER);
            records.push(Record { offset: record.offset, payload: record.payload.slice(..size) });
        }
        Some(records)
    }
}

/// What a write made durable.
pub(super) struct Published {
    /// Position in the last segment up to which it is on disk now.
    pub(super) len: u64,
    /// The payloads, and at which position the frame of each begins.
    pub(super) records: Vec<(Bytes, u64)>,
}

/// A read that needs a file: which, and how much of it may be read.
pub(super) struct FileRead {
    source: Source,
    extent: Extent,
}

enum Source {
    Open(Arc<SegmentFile>),
    Path(PathBuf),
}

/// Where the records of a request are.
pub(super) enum Located {
    /// In memory (or there are none yet).
    Memory(Vec<Record>),
    /// In a file; [`Partition::read_file`] gets them and may wait for the disk.
    File(FileRead),
}

impl Partition {
    pub(super) fn new(location: PartitionDir, found: Recovered, usage: Arc<Usage>, tail_bytes: usize) -> Self {
        let segments: VecDeque<Segment> = found
            .segments
            .into_iter()
            .map(|found| Segment { base: found.base, path: found.path, len: found.len, created_ms: found.created_ms })
            .collect();
        usage.stored.fetch_add(segments.iter().map(|segment| segment.len).sum(), Ordering::Relaxed);
        let tail = Tail { records: VecDeque::new(), bytes: 0, limit: tail_bytes };
        let held = Held { segments, active: Arc::new(found.last), opened: VecDeque::new(), tail, deleted: None };
        let (end, _) = watch::channel(found.next_offset);
        Self { location, queue: Queue::new(usage.clone()), usage, held: Mutex::new(held), end }
    }

    /// The segment written to, and the position known to be on disk.
    pub(super) fn active(&self) -> (Arc<SegmentFile>, u64) {
        let held = self.lock();
        (held.active.clone(), held.segments.back().map_or(0, |last| last.len))
    }

    /// The offset after the last durable record.
    pub(super) fn end(&self) -> i64 {
        *self.end.borrow()
    }

    pub(super) fn watch_end(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// First offset held and the one the next durable record gets.
    pub(super) fn bounds(&self) -> Range<i64> {
        let held = self.lock();
        held.start()..self.end()
    }

    #[cfg(test)]
    pub(super) fn stored_bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.len).sum()
    }

    /// How far the last segment is known to be on disk, for the checkpoint.
    pub(super) fn synced(&self) -> Synced {
        let held = self.lock();
        let (base, position) = held.segments.back().map_or((0, 0), |last| (last.base, last.len));
        Synced { topic: self.location.topic.as_str().to_owned(), partition: self.location.partition, base, position }
    }

    /// Makes durable records visible.
    pub(super) fn publish(&self, published: Published) {
        let mut held = self.lock();
        let mut offset = self.end();
        for (payload, position) in published.records {
            held.active.note(offset, position);
            held.tail.push(Record { offset, payload });
            offset += 1;
        }
        if let Some(last) = held.segments.back_mut() {
            self.usage.stored.fetch_add(published.len.saturating_sub(last.len), Ordering::Relaxed);
            last.len = published.len;
        }
        // Still under the lock: the tail and the end are seen together.
        self.end.send_replace(offset);
    }

    /// From now on `file` is written to. It takes the place of a last segment that has no record.
    pub(super) fn begin_segment(&self, file: Arc<SegmentFile>, len: u64, created_ms: i64) {
        let mut held = self.lock();
        if let Some(empty) = held.segments.pop_back_if(|last| last.base == file.base) {
            self.usage.stored.fetch_sub(empty.len, Ordering::Relaxed);
        }
        self.usage.stored.fetch_add(len, Ordering::Relaxed);
        held.segments.push_back(Segment { base: file.base, path: file.path.clone(), len, created_ms });
        held.active = file;
    }

    /// Finds what `request` asks for; empty at the end.
    pub(super) fn locate(&self, request: ReadRequest) -> Result<Located, LogError> {
        let held = self.lock();
        let bounds = held.start()..self.end();
        if request.from == bounds.end {
            return Ok(Located::Memory(Vec::new()));
        }
        if !bounds.contains(&request.from) {
            return Err(self.out_of_range(request.from, bounds));
        }
        if let Some(records) = held.tail.read(request) {
            return Ok(Located::Memory(records));
        }
        let after = held.segments.partition_point(|segment| segment.base <= request.from);
        let Some(segment) = after.checked_sub(1).and_then(|at| held.segments.get(at)) else {
            return Err(self.out_of_range(request.from, bounds));
        };
        // What stands in a sealed file after the next one's first offset was never acknowledged.
        let until = held.segments.get(after).map_or(bounds.end, |next| next.base);
        let open = std::iter::once(&held.active).chain(&held.opened).find(|open| open.base == segment.base);
        let source = open.map_or_else(|| Source::Path(segment.path.clone()), |open| Source::Open(open.clone()));
        Ok(Located::File(FileRead { source, extent: Extent { until, len: segment.len } }))
    }

    /// Reads from a file. Blocks on the disk.
    pub(super) fn read_file(&self, read: FileRead, request: ReadRequest) -> Result<Vec<Record>, LogError> {
        let segment = match read.source {
            Source::Open(segment) => segment,
            Source::Path(path) => match self.open_sealed(path.clone(), read.extent) {
                Ok(segment) => segment,
                Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(&path, request.from)),
                Err(error) => return Err(error.in_file(&path)),
            },
        };
        segment.read(read.extent, request).map_err(|error| error.in_file(&segment.path))
    }

    fn open_sealed(&self, path: PathBuf, extent: Extent) -> Result<Arc<SegmentFile>, ReadError> {
        let file = File::open(&path).map_err(ReadError::Io)?;
        let (segment, _) = SegmentFile::open(&path, file, self.location.checksum)?;
        segment.build_index(extent).map_err(ReadError::Io)?;
        let segment = Arc::new(segment);
        let mut held = self.lock();
        held.opened.push_back(segment.clone());
        if held.opened.len() > OPEN_SEGMENTS {
            held.opened.pop_front();
        }
        Ok(segment)
    }

    /// What retention looks at: every sealed segment, oldest first.
    pub(super) fn sealed(&self) -> Vec<SegmentAge> {
        let held = self.lock();
        let next = held.segments.iter().skip(1);
        held.segments
            .iter()
            .zip(next)
            .map(|(segment, next)| SegmentAge { next_offset: next.base, bytes: segment.len, sealed_ms: next.created_ms })
            .collect()
    }

    /// When the last segment was begun, if it holds anything.
    pub(super) fn active_since_ms(&self) -> Option<i64> {
        let held = self.lock();
        held.segments.back().filter(|last| last.base < self.end()).map(|last| last.created_ms)
    }

    /// The error for a read from `asked` on that did not find its file: deleted by retention, or by another process.
    fn missing(&self, path: &Path, asked: i64) -> LogError {
        let mut held = self.lock();
        if held.segments.front().is_some_and(|first| first.path == path)
            && let Some(oldest) = held.pop_oldest()
        {
            // What is left begins behind it. Further on a hole would be read over.
            tracing::error!(path = %path.display(), "a segment of the log is gone, and not by retention");
            self.usage.stored.fetch_sub(oldest.len, Ordering::Relaxed);
        }
        let bounds = held.start()..self.end();
        if asked < bounds.start {
            return self.out_of_range(asked, bounds);
        }
        LogError::Corrupt(format!("{} is gone", path.display()))
    }

    /// Deletes the `count` oldest sealed segments. Returns how many bytes that freed. Errors: one of them stays for now, or its
    /// deletion may not survive a power cut, which the next call retries first.
    pub(super) fn delete_oldest(&self, count: usize, disk: &dyn Disk) -> io::Result<u64> {
        let mut freed = 0;
        for _ in 0..count {
            // One by one, so that no crash brings back an older one without a younger one.
            self.sync_deletion(disk)?;
            let Some(oldest) = self.lock().pop_oldest() else { break };
            // Not under the lock: to delete a large file takes its time.
            match std::fs::remove_file(&oldest.path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(path = %oldest.path.display(), "this segment of the log was deleted by another process");
                }
                Err(error) => {
                    self.lock().segments.push_front(oldest);
                    return Err(error);
                }
            }
            freed += oldest.len;
            self.usage.stored.fetch_sub(oldest.len, Ordering::Relaxed);
            self.lock().deleted = Some(oldest.path);
        }
        self.sync_deletion(disk)?;
        Ok(freed)
    }

    fn sync_deletion(&self, disk: &dyn Disk) -> io::Result<()> {
        let Some(deleted) = self.lock().deleted.clone() else { return Ok(()) };
        disk.sync_folder(&deleted)?;
        self.lock().deleted = None;
        Ok(())
    }

    /// The error for an offset that is not in `held`.
    pub(super) fn out_of_range(&self, asked: i64, held: Range<i64>) -> LogError {
        LogError::OutOfRange { topic: self.location.topic.as_str(), partition: self.location.partition, asked, held }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The oldest segment, if it is sealed.
    fn pop_oldest(&mut self) -> Option<Segment> {
        if self.segments.len() < 2 {
            return None;
        }
        let oldest = self.segments.pop_front()?;
        self.opened.retain(|open| open.base != oldest.base);
        Some(oldest)
    }

    fn start(&self) -> i64 {
        self.segments.front().map_or(0, |first| first.base)
    }
}
