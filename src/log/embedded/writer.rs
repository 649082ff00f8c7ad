//! The thread that writes one partition.
//!
//! It takes everything queued, writes it with one call, syncs, publishes, acknowledges. What arrives meanwhile is the next write:
//! the slower the disk, the larger the groups, so no timer delays a record. Each partition has a
//! thread of its own because syncs of several files at once share one commit of the file system's journal, where one
//! thread would pay them one after the other.
//!
//! After an error of a write or sync nothing is known about the file beyond the last sync, and a sync that is tried again
//! may lie. So the file is never appended to again: it ends at the last durable record, what was queued is refused, and
//! writing goes on in a new segment, at once if it can be made and else tried each second.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::disk::{self, Disk};
use super::frame::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader};
use super::partition::{Partition, Published};
use super::queue::{Pending, Task};
use super::segment::{SegmentFile, file_name};
use crate::clock::now_ms;
use crate::failpoint;
use crate::log::LogError;

/// Bytes that a new segment must find after an error: without them a full disk would look recovered as soon as a header fits.
const RECOVERY_ROOM: u64 = 1024 * 1024;

/// Writes one partition.
pub(super) struct Writer {
    partition: Arc<Partition>,
    disk: Arc<dyn Disk>,
    segment: Arc<SegmentFile>,
    /// Position in the segment up to which everything is on disk.
    synced: u64,
    segment_bytes: u64,
    /// Cancelled when a writer ends unasked: nothing makes its partition take records again.
    broken: CancellationToken,
}

impl Writer {
    pub(super) fn new(partition: Arc<Partition>, disk: Arc<dyn Disk>, segment_bytes: u64, broken: CancellationToken) -> Self {
        let (segment, synced) = partition.active();
        Self { partition, disk, segment, synced, segment_bytes, broken }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        // However this thread ends, no acknowledgement may stay open.
        let _fail_on_exit = FailOnExit { partition: self.partition.clone(), broken: self.broken.clone() };
        loop {
            match self.partition.queue.next() {
                Task::Write(batch) => self.write(batch),
                Task::Roll => self.roll(),
                Task::Recover => self.recover(),
                Task::Stop => return,
            }
        }
    }

    fn write(&mut self, mut batch: VecDeque<Pending>) {
        while !batch.is_empty() {
            if let Err(error) = self.write_some(&mut batch) {
                return self.fail(batch, &error);
            }
        }
    }

    /// Makes as many records of `batch` durable as this segment still takes.
    fn write_some(&mut self, batch: &mut VecDeque<Pending>) -> io::Result<()> {
        if self.synced >= self.segment_bytes {
            self.begin_segment(0)?;
        }
        let first = self.partition.end();
        let mut headers = Vec::with_capacity(batch.len());
        let mut records = Vec::with_capacity(batch.len());
        let mut position = self.synced;
        // Below 1.1 GiB: `EmbeddedLogConfig::check`.
        let synced = u32::try_from(self.synced).unwrap_or(u32::MAX);
        for (offset, pending) in (first..).zip(batch.iter()) {
            if position >= self.segment_bytes {
                break;
            }
            headers.push(FrameHeader::encode(self.partition.location.checksum, offset, synced, &pending.payload));
            records.push((pending.payload.clone(), position));
            position += (FRAME_HEADER + pending.payload.len()) as u64;
        }
        let mut slices: Vec<IoSlice<'_>> =
            headers.iter().zip(&records).flat_map(|(header, (payload, _))| [IoSlice::new(header), IoSlice::new(payload)]).collect();
        disk::write_all(&*self.disk, &self.segment.file, &mut slices, self.synced)?;
        failpoint::point("log.written");
        self.disk.sync(&self.segment.file)?;
        failpoint::point("log.synced");

        self.synced = position;
        let durable: Vec<Pending> = batch.drain(..records.len()).collect();
        self.partition.publish(Published { len: position, records });
        for (offset, pending) in (first..).zip(durable) {
            pending.resolve(Ok(offset));
        }
        Ok(())
    }

    /// Seals the segment and begins the next one, which finds `room` bytes reserved.
    fn begin_segment(&mut self, room: u64) -> io::Result<()> {
        let location = &self.partition.location;
        let header = SegmentHeader { base: self.partition.end(), created_ms: now_ms() };
        let path = location.dir.join(file_name(header.base));
        let file = disk::create_whole(&*self.disk, &path, &header.encode(location.checksum))?;
        disk::reserve(&file, room)?;
        self.segment = Arc::new(SegmentFile::fresh(path, file, header.base, location.checksum));
        self.synced = SEGMENT_HEADER as u64;
        self.partition.begin_segment(self.segment.clone(), self.synced, header.created_ms);
        Ok(())
    }

    fn roll(&mut self) {
        if self.segment.base == self.partition.end() {
            return;
        }
        if let Err(error) = self.begin_segment(0) {
            self.fail(VecDeque::new(), &error);
        }
    }

    fn fail(&mut self, batch: VecDeque<Pending>, error: &io::Error) {
        let reason = format!("cannot write {}: {error}", self.segment.path.display());
        tracing::error!(topic = self.partition.location.topic.as_str(), partition = self.partition.location.partition, %error, "log stopped taking records");
        // Refused before the first acknowledgement is out: a record appended after the failure must not overtake those queued.
        self.partition.queue.fail(&reason);
        for pending in batch {
            pending.resolve(Err(LogError::Unavailable(reason.clone())));
        }
        // Gives the space back. If it cannot be done, readers stop at the next segment's first offset all the same.
        if let Err(error) = self.segment.file.set_len(self.synced) {
            tracing::warn!(path = %self.segment.path.display(), %error, "cannot cut off a failed write");
        }
        self.recover();
    }

    fn recover(&mut self) {
        match self.begin_segment(RECOVERY_ROOM) {
            Ok(()) => {
                self.partition.queue.reopen();
                tracing::warn!(
                    topic = self.partition.location.topic.as_str(),
                    partition = self.partition.location.partition,
                    "log takes records again"
                );
            }
            Err(error) => tracing::debug!(%error, "log still refuses records"),
        }
    }
}

/// Fails what is queued when the writer is gone.
struct FailOnExit {
    partition: Arc<Partition>,
    broken: CancellationToken,
}

impl Drop for FailOnExit {
    fn drop(&mut self) {
        self.partition.queue.fail("the writer of this partition has ended");
        if std::thread::panicking() {
            self.broken.cancel();
        }
    }
}
