//! The small files beside the segments: `meta` says what log this is, `offsets` how far everyone came.
//!
//! Each is a line with the crc32c of the rest in hexadecimal, then JSON, so a person can read it. They are replaced as a
//! whole, so a crash leaves the old or the new one; a checksum that does not match is damage.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::{RealDisk, create_whole};

/// The layout this code writes.
pub(super) const FORMAT: u32 = 1;

/// `meta`: identity and shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    pub(super) epoch: u64,
    pub(super) partitions: u16,
}

/// `offsets`: about a second old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// How far consumer groups came.
    pub(super) committed: Vec<Committed>,
    /// How far files were known to be on disk.
    pub(super) synced: Vec<Synced>,
}

/// How far a group came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: u16,
    pub(super) next_offset: i64,
}

/// That the segment beginning at `base` is on disk up to `position`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Synced {
    pub(super) topic: String,
    pub(super) partition: u16,
    pub(super) base: i64,
    pub(super) position: u64,
}

/// Why such a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SidecarError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: the checksum does not match", path.display())]
    Damaged { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Shape { path: PathBuf, source: serde_json::Error },
}

/// Reads one; `None` if it is not there.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SidecarError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SidecarError::Io { path: path.to_owned(), source }),
    };
    let damaged = || SidecarError::Damaged { path: path.to_owned() };
    let (sum, body) = bytes.split_at_checked(9).ok_or_else(damaged)?;
    if sum != seal(body).as_bytes() {
        return Err(damaged());
    }
    serde_json::from_slice(body).map(Some).map_err(|source| SidecarError::Shape { path: path.to_owned(), source })
}

/// Writes one durably.
pub(super) fn store<T: Serialize>(path: &Path, content: &T) -> io::Result<()> {
    let body = serde_json::to_vec_pretty(content)?;
    let mut bytes = seal(&body).into_bytes();
    bytes.extend_from_slice(&body);
    create_whole(&RealDisk, path, &bytes).map(drop)
}

fn seal(body: &[u8]) -> String {
    format!("{:08x}\n", crc32c::crc32c(body))
}
