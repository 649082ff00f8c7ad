//! The lock of a data directory: two instances on one directory would overwrite each other's files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("data directory {} is in use by another pulse{}", dir.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The lock file could not be made or locked.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Holds a data directory until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Takes the lock `<dir>/pulse.lock`, making the directory if it is missing. Never waits.
pub fn lock_data_dir(dir: &Path) -> Result<DirLock, LockError> {
    let path = dir.join("pulse.lock");
    let failed = |source| LockError::Io { path: path.clone(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    // Not truncated: until the lock is ours the content is the holder's.
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { dir: dir.to_owned(), pid: holder(&mut file) }),
        Err(errno) => return Err(failed(errno.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(DirLock { _file: file })
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    // A process id has at most 10 digits; whatever is longer is not one.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
