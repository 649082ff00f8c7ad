//! What is found on disk becomes a partition again.
//!
//! Only the last segment of a partition can have an unfinished end: a segment is begun once everything before it is on
//! disk. It is read in full. Where its frames stop making sense before the file ends, one of two things happened:
//!
//! * A crash or power cut left part of the last write, or a later part of it without an earlier one. None of it was
//!   acknowledged; the end is cut off and counted.
//! * What was once on disk is damaged. The log refuses to open, naming file and position.
//!
//! Three witnesses tell them apart, each of which proves that the bytes at the bad position had been on disk: a valid frame
//! further on that was written when the file was known to be on disk beyond it (every frame carries that position); the
//! checkpoint, about a second old, exact after an orderly stop; a later segment. What remains is damage to records of the
//! last second before a crash with nothing written after them: indistinguishable from an unfinished write, and cut.
//!
//! Sealed segments are checked when they are read, so start-up takes as long with one as with a thousand.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::disk::Disk;
use super::frame::{Checksum, FRAME_HEADER, FrameHeader, MAGIC, SEGMENT_HEADER};
use super::segment::{ReadError, SegmentFile, Walk};
use super::sidecar::Synced;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file could not be read or written.
    #[error("cannot open the log: {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Records that were durable are damaged or gone.
    #[error(
        "log damaged: {} at position {position}: {what}; restore the file, or move the log's folder away to begin an empty log (events \
         that were not loaded yet are lost then)",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log was made with another number of partitions.
    #[error("log.embedded.partitions = {asked}: the log in {} was made with {stored}, which cannot change", dir.display())]
    Partitions {
        /// The log's folder.
        dir: PathBuf,
        /// What the log has.
        stored: u16,
        /// What the configuration says.
        asked: u16,
    },
    /// The log was written by a version of pulse that this one cannot read.
    #[error("the log in {} has format {found}, this version of pulse reads format {known}", dir.display())]
    Format {
        /// The log's folder.
        dir: PathBuf,
        /// What the log has.
        found: u32,
        /// What this version reads.
        known: u32,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn corrupt(path: &Path, position: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), position, what: what.into() }
    }

    fn reading(path: &Path) -> impl Fn(ReadError) -> Self {
        move |error| match error {
            ReadError::Io(source) => Self::Io { path: path.to_owned(), source },
            ReadError::Damaged { at, what } => Self::corrupt(path, at, what),
        }
    }
}

/// One segment as found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) base: i64,
    pub(super) path: PathBuf,
    /// Bytes of the file, for the last segment after the cut.
    pub(super) len: u64,
    pub(super) created_ms: i64,
}

/// A partition as found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// All segments, the last one included; at least one.
    pub(super) segments: VecDeque<Found>,
    /// The last one.
    pub(super) last: SegmentFile,
    /// The offset the next record gets.
    pub(super) next_offset: i64,
    /// Bytes cut off its end.
    pub(super) truncated: u64,
}

/// Recovers the partition in `dir`; `None` if it never had a segment. `synced` is what the checkpoint says of it.
pub(super) fn recover(dir: &Path, checksum: Checksum, synced: Option<&Synced>, disk: &dyn Disk) -> Result<Option<Recovered>, OpenError> {
    let mut segments = VecDeque::new();
    let mut last = None;
    for path in list(dir)? {
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(OpenError::io(&path))?;
        let len = file.metadata().map_err(OpenError::io(&path))?.len();
        let (segment, created_ms) = SegmentFile::open(&path, file, checksum).map_err(OpenError::reading(&path))?;
        if path.file_name() != Some(super::segment::file_name(segment.base).as_ref()) {
            return Err(OpenError::corrupt(&path, 0, format!("by its header this is {}", super::segment::file_name(segment.base))));
        }
        segments.push_back(Found { base: segment.base, path, len, created_ms });
        last = Some(segment);
    }
    if let Some(mark) = synced.filter(|mark| last.as_ref().is_none_or(|last| last.base < mark.base)) {
        return Err(OpenError::corrupt(&dir.join(super::segment::file_name(mark.base)), 0, "the file is gone"));
    }
    let (Some(last), Some(found)) = (last, segments.back_mut()) else { return Ok(None) };
    let witnessed = synced.filter(|mark| mark.base == last.base).map_or(0, |mark| mark.position);
    let end = scan(&last, checksum, found.len, witnessed)?;
    last.file.set_len(end.position).map_err(OpenError::io(&last.path))?;
    // What a killed process had written but not synced becomes readable now, so it has to be on disk.
    disk.sync(&last.file).map_err(OpenError::io(&last.path))?;
    let truncated = found.len.saturating_sub(end.position);
    found.len = end.position;
    Ok(Some(Recovered { segments, last, next_offset: end.offset, truncated }))
}

/// The segment files in `dir`, oldest first. Drafts of unfinished ones are removed.
fn list(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(OpenError::io(dir))? {
        let path = entry.map_err(OpenError::io(dir))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("seg") => paths.push(path),
            Some("tmp") => std::fs::remove_file(&path).map_err(OpenError::io(&path))?,
            _ => {}
        }
    }
    // Names have the same length, so their order is that of the offsets.
    paths.sort_unstable();
    Ok(paths)
}

/// Where the valid frames of a segment end.
struct End {
    offset: i64,
    position: u64,
}

fn scan(segment: &SegmentFile, checksum: Checksum, len: u64, witnessed: u64) -> Result<End, OpenError> {
    let mut walk = Walk::new(&segment.file, SEGMENT_HEADER as u64, segment.base);
    let fault = loop {
        match check(&mut walk, checksum, len) {
            Ok(()) => {}
            Err(ReadError::Io(source)) => return Err(OpenError::Io { path: segment.path.clone(), source }),
            Err(ReadError::Damaged { what, .. }) => break what,
        }
        segment.note(walk.offset, walk.position);
        walk.step(len).map_err(OpenError::reading(&segment.path))?;
    };
    let end = End { offset: walk.offset, position: walk.position };
    let is_damage = end.position < witnessed || synced_beyond(&segment.file, &end, checksum).map_err(OpenError::io(&segment.path))?;
    if is_damage { Err(OpenError::corrupt(&segment.path, end.position, fault)) } else { Ok(end) }
}

fn check(walk: &mut Walk<'_>, checksum: Checksum, len: u64) -> Result<(), ReadError> {
    let header = walk.peek(len)?;
    if header.is_intact(checksum, walk.payload(header.len as usize)?) {
        return Ok(());
    }
    Err(ReadError::checksum(walk.position))
}

/// Whether a valid frame after `end` was written when the file was known to be on disk beyond it.
fn synced_beyond(file: &File, end: &End, checksum: Checksum) -> io::Result<bool> {
    let mut rest = Vec::new();
    let len = file.metadata()?.len();
    // At most a segment and a record: nothing is appended to a segment that is full.
    rest.resize(usize::try_from(len.saturating_sub(end.position)).unwrap_or(usize::MAX), 0);
    let read = super::segment::read_at_most(file, &mut rest, end.position)?;
    rest.truncate(read);
    let witness = memmem::find_iter(&rest, &MAGIC).any(|at| {
        let Some(bytes) = rest.get(at..) else { return false };
        let Some(header) = FrameHeader::decode(bytes) else { return false };
        let plausible = header.offset >= end.offset && u64::from(header.synced) > end.position;
        let payload = bytes.get(FRAME_HEADER..).and_then(|payload| payload.get(..header.len as usize));
        plausible && payload.is_some_and(|payload| header.is_intact(checksum, payload))
    });
    Ok(witness)
}
