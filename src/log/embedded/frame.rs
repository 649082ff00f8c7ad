//! How records stand in a file. All numbers are little endian.
//!
//! A segment begins with 40 bytes: `PULSESEG`, epoch (u64), first offset (i64), time it was made (i64, ms), format (u32),
//! crc32c of those (u32). Frames follow without gaps, 24 bytes of header each and then the payload:
//!
//! | at | what |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 4 | crc32c (u32) of everything below, seeded with the epoch |
//! | 8 | length of the payload in bytes (u32) |
//! | 12 | how many bytes of this file were known to be on disk when the frame was written (u32) |
//! | 16 | offset (i64) |
//!
//! The seed makes a frame of another log, or one that a client built into its payload, invalid here: the
//! epoch is not known outside.

use crate::event::ids::LogEpoch;
use crate::wire;

/// Neither UTF-8 nor JSON can contain these bytes, so payloads give the search for frames next to no false trail.
pub(super) const MAGIC: [u8; 4] = [0xFF, 0x00, b'P', 0xFE];
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER: usize = 24;
/// Bytes of a segment before its first frame.
pub(super) const SEGMENT_HEADER: usize = 40;

const SEGMENT_MAGIC: [u8; 8] = *b"PULSESEG";
const FORMAT: u32 = 1;

/// Checksums of one log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum {
    epoch: LogEpoch,
    seed: u32,
}

impl Checksum {
    pub(super) fn new(epoch: LogEpoch) -> Self {
        Self { epoch, seed: crc32c::crc32c(&epoch.0.to_le_bytes()) }
    }

    /// Of a frame: `covered` is its header from the length on.
    fn of_frame(self, covered: &[u8], payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.seed, covered), payload)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    crc: u32,
    /// Length of the payload in bytes.
    pub(super) len: u32,
    /// Position below which the file was known to be on disk.
    pub(super) synced: u32,
    /// Offset of the record.
    pub(super) offset: i64,
}

impl FrameHeader {
    /// The header for `payload`, ready to be written.
    pub(super) fn encode(checksum: Checksum, offset: i64, synced: u32, payload: &[u8]) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        // Payloads are at most 64 MiB: `EmbeddedLogConfig::check`.
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..16].copy_from_slice(&synced.to_le_bytes());
        bytes[16..24].copy_from_slice(&offset.to_le_bytes());
        let crc = checksum.of_frame(&bytes[8..], payload);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` if there is none at the start of `bytes`. Proves nothing about the payload.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<FRAME_HEADER>()?;
        let rest = &mut header.as_slice();
        if wire::take_array(rest)? != MAGIC {
            return None;
        }
        Some(Self { crc: wire::take_u32(rest)?, len: wire::take_u32(rest)?, synced: wire::take_u32(rest)?, offset: wire::take_i64(rest)? })
    }

    /// Whether header and payload are as they were written.
    pub(super) fn is_intact(&self, checksum: Checksum, payload: &[u8]) -> bool {
        let mut covered = [0; FRAME_HEADER - 8];
        covered[..4].copy_from_slice(&self.len.to_le_bytes());
        covered[4..8].copy_from_slice(&self.synced.to_le_bytes());
        covered[8..].copy_from_slice(&self.offset.to_le_bytes());
        checksum.of_frame(&covered, payload) == self.crc
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.len)
    }
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Offset of its first record.
    pub(super) base: i64,
    /// When it was made, which is when the one before was sealed.
    pub(super) created_ms: i64,
}

impl SegmentHeader {
    /// The header as bytes.
    pub(super) fn encode(&self, checksum: Checksum) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..16].copy_from_slice(&checksum.epoch.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[32..36].copy_from_slice(&FORMAT.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; the error says in what way it is none of this log.
    pub(super) fn decode(bytes: &[u8], checksum: Checksum) -> Result<Self, String> {
        let damaged = || "the header of the segment is damaged".to_owned();
        let fields = Self::fields(bytes).ok_or_else(damaged)?;
        if fields.format != FORMAT {
            return Err("the segment was written by another version of pulse".to_owned());
        }
        if fields.epoch != checksum.epoch {
            return Err("the segment belongs to another log".to_owned());
        }
        Ok(fields.header)
    }

    /// All fields of a header whose checksum matches.
    fn fields(bytes: &[u8]) -> Option<SegmentFields> {
        let (header, _) = bytes.split_first_chunk::<SEGMENT_HEADER>()?;
        let rest = &mut header.as_slice();
        let is_segment = wire::take_array(rest)? == SEGMENT_MAGIC;
        let epoch = LogEpoch(wire::take_u64(rest)?);
        let header_fields = Self { base: wire::take_i64(rest)?, created_ms: wire::take_i64(rest)? };
        let format = wire::take_u32(rest)?;
        let is_intact = wire::take_u32(rest)? == crc32c::crc32c(&header[..36]);
        (is_segment && is_intact).then_some(SegmentFields { epoch, header: header_fields, format })
    }
}

/// What stands in the header of a segment.
struct SegmentFields {
    epoch: LogEpoch,
    header: SegmentHeader,
    format: u32,
}
