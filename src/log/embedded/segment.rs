//! Reading one file of a partition. Everything that is returned whole was checked against its checksum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::frame::{Checksum, FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader};
use crate::log::{LogError, ReadRequest, Record};

/// Distance in bytes between two entries of an index: one read of this size finds any record from the entry before it.
const INDEX_STEP: u64 = 64 * 1024;

/// The file name of the segment whose first record is `base`.
pub(super) fn file_name(base: i64) -> String {
    format!("{base:020}.seg")
}

/// A segment file open for reading.
#[derive(Debug)]
pub(super) struct SegmentFile {
    /// Offset of its first record.
    pub(super) base: i64,
    pub(super) path: PathBuf,
    pub(super) file: File,
    checksum: Checksum,
    index: Mutex<Index>,
}

/// What of a segment may be read: below `until`, in the first `len` bytes of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Offset after the last record.
    pub(super) until: i64,
    /// Position after the last record, at least.
    pub(super) len: u64,
}

impl SegmentFile {
    /// A file just made, without records.
    pub(super) fn fresh(path: PathBuf, file: File, base: i64, checksum: Checksum) -> Self {
        Self { base, path, file, checksum, index: Mutex::default() }
    }

    /// Opens the file at `path` and checks its header. Returns it with the time it was made.
    pub(super) fn open(path: &Path, file: File, checksum: Checksum) -> Result<(Self, i64), ReadError> {
        let mut bytes = [0; SEGMENT_HEADER];
        let read = read_at_most(&file, &mut bytes, 0).map_err(ReadError::Io)?;
        let header =
            SegmentHeader::decode(bytes.get(..read).unwrap_or_default(), checksum).map_err(|what| ReadError::Damaged { at: 0, what })?;
        Ok((Self::fresh(path.to_owned(), file, header.base, checksum), header.created_ms))
    }

    /// Remembers where a record stands, unless one close before it is known.
    pub(super) fn note(&self, offset: i64, position: u64) {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).note(offset, position);
    }

    /// Walks over the headers of `extent`, for seeks to be cheap. Ends early where one is damaged: a read that comes that far fails,
    /// and the records before it stay readable.
    pub(super) fn build_index(&self, extent: Extent) -> io::Result<()> {
        let mut walk = Walk::new(&self.file, SEGMENT_HEADER as u64, self.base);
        while walk.offset < extent.until {
            self.note(walk.offset, walk.position);
            match walk.step(extent.len) {
                Ok(()) => {}
                Err(ReadError::Damaged { .. }) => break,
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The records that `request` asks for, as far as `extent` holds them; frame headers count as bytes. Damage is an error when it is the first thing read;
    /// after good records it is left to the next read.
    pub(super) fn read(&self, extent: Extent, request: ReadRequest) -> Result<Vec<Record>, ReadError> {
        let (offset, position) =
            self.index.lock().unwrap_or_else(PoisonError::into_inner).before(request.from).unwrap_or((self.base, SEGMENT_HEADER as u64));
        let mut walk = Walk::new(&self.file, position, offset);
        while walk.offset < request.from {
            walk.step(extent.len)?;
        }
        match request.prefix {
            Some(prefix) => Self::read_prefixes(walk, extent, request.max_bytes, prefix),
            None => self.read_whole(&mut walk, extent, request.max_bytes),
        }
    }

    /// One read for as many records as fit; they share its memory.
    fn read_whole(&self, walk: &mut Walk<'_>, extent: Extent, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let first = walk.peek(extent.len)?.frame_len();
        let size = first.max(max_bytes as u64).min(extent.len.saturating_sub(walk.position));
        let chunk = self.read_exactly(walk.position, size)?;
        let mut records = Vec::new();
        let (mut rest, mut offset) = (chunk, walk.offset);
        while offset < extent.until {
            // Nothing here may also mean that the chunk ends within the frame.
            let Some(header) = FrameHeader::decode(&rest) else { break };
            let Some(payload) = rest.get(FRAME_HEADER..FRAME_HEADER + header.len as usize) else { break };
            if header.offset != offset || !header.is_intact(self.checksum, payload) {
                break;
            }
            let frame = rest.split_to(FRAME_HEADER + payload.len());
            records.push(Record { offset, payload: frame.slice(FRAME_HEADER..) });
            offset += 1;
        }
        if records.is_empty() {
            return Err(ReadError::checksum(walk.position));
        }
        Ok(records)
    }

    /// Reads headers and the start of each payload only, so nothing can be checked against a checksum.
    fn read_prefixes(mut walk: Walk<'_>, extent: Extent, max_bytes: usize, prefix: usize) -> Result<Vec<Record>, ReadError> {
        let (mut records, mut left) = (Vec::new(), max_bytes);
        while walk.offset < extent.until {
            let header = match walk.peek(extent.len) {
                Err(ReadError::Damaged { .. }) if !records.is_empty() => break,
                header => header?,
            };
            let size = prefix.min(header.len as usize);
            if !records.is_empty() && size + FRAME_HEADER > left {
                break;
            }
            left = left.saturating_sub(size + FRAME_HEADER);
            let payload = Bytes::copy_from_slice(walk.payload(size)?);
            records.push(Record { offset: walk.offset, payload });
            walk.step(extent.len)?;
        }
        Ok(records)
    }

    fn read_exactly(&self, position: u64, size: u64) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, position).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                ReadError::Damaged { at: position, what: format!("the file ends within the next {size} bytes") }
            }
            _ => ReadError::Io(error),
        })?;
        Ok(bytes.into())
    }
}

/// Why a segment could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Damaged { at: u64, what: String },
}

impl ReadError {
    fn no_frame(at: u64) -> Self {
        Self::Damaged { at, what: "there is no record here".to_owned() }
    }

    pub(super) fn checksum(at: u64) -> Self {
        Self::Damaged { at, what: "the checksum of the record does not match".to_owned() }
    }

    /// As the log's callers see it.
    pub(super) fn in_file(self, path: &Path) -> LogError {
        match self {
            Self::Io(error) => LogError::Unavailable(format!("cannot read {}: {error}", path.display())),
            Self::Damaged { at, what } => LogError::Corrupt(format!("{} at position {at}: {what}", path.display())),
        }
    }
}

/// Some offsets and where they stand, both ascending.
#[derive(Debug, Default)]
struct Index(Vec<(i64, u64)>);

impl Index {
    fn note(&mut self, offset: i64, position: u64) {
        if self.0.last().is_none_or(|(_, last)| position >= last + INDEX_STEP) {
            self.0.push((offset, position));
        }
    }

    fn before(&self, offset: i64) -> Option<(i64, u64)> {
        let after = self.0.partition_point(|(known, _)| *known <= offset);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

/// Goes from header to header. Small records come many a read; payloads larger than the window are jumped over.
pub(super) struct Walk<'a> {
    file: &'a File,
    /// Where the next frame begins.
    pub(super) position: u64,
    /// The offset it must have.
    pub(super) offset: i64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a File, position: u64, offset: i64) -> Self {
        Self { file, position, offset, window: Vec::new(), window_at: 0 }
    }

    /// The header at the current position; the frame lies within the first `len` bytes of the file.
    pub(super) fn peek(&mut self, len: u64) -> Result<FrameHeader, ReadError> {
        let at = self.position;
        let header = FrameHeader::decode(self.bytes(at, FRAME_HEADER)?);
        header
            .filter(|header| header.offset == self.offset && header.frame_len() <= len.saturating_sub(at))
            .ok_or_else(|| ReadError::no_frame(at))
    }

    /// Goes to the next frame.
    pub(super) fn step(&mut self, len: u64) -> Result<(), ReadError> {
        let header = self.peek(len)?;
        self.position += header.frame_len();
        self.offset += 1;
        Ok(())
    }

    /// The first `size` bytes of the current payload.
    pub(super) fn payload(&mut self, size: usize) -> Result<&[u8], ReadError> {
        let at = self.position + FRAME_HEADER as u64;
        let bytes = self.bytes(at, size)?;
        if bytes.len() < size { Err(ReadError::no_frame(at)) } else { Ok(bytes) }
    }

    /// Up to `size` bytes at `at`; fewer at the end of the file.
    fn bytes(&mut self, at: u64, size: usize) -> Result<&[u8], ReadError> {
        let inside = at.checked_sub(self.window_at).and_then(|skip| usize::try_from(skip).ok());
        let start = match inside.filter(|start| start.saturating_add(size) <= self.window.len()) {
            Some(start) => start,
            None => {
                self.fill(at, size)?;
                0
            }
        };
        let end = self.window.len().min(start.saturating_add(size));
        Ok(self.window.get(start..end).unwrap_or_default())
    }

    fn fill(&mut self, at: u64, size: usize) -> Result<(), ReadError> {
        // The first window is one page: most seeks end within it, and large records need no more of each.
        let ahead = if self.window.is_empty() { 4 * 1024 } else { 16 * 1024 };
        self.window.resize(size.max(ahead), 0);
        self.window_at = at;
        let read = read_at_most(self.file, &mut self.window, at).map_err(ReadError::Io)?;
        self.window.truncate(read);
        Ok(())
    }
}

/// Fills `bytes` from `at` on, or as far as the file goes. Returns how many.
pub(super) fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
