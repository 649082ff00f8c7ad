//! Notices that a file has changed, and reads it again.
//!
//! May go wrong: the file cannot be read. That is logged once and tried again at every look, for the cause may pass without a change
//! of the file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::keys::KeysError;

/// A file, and its state when it was last read.
#[derive(Clone, Debug)]
pub(super) struct FileWatcher {
    path: PathBuf,
    last_read: Option<FileState>,
    /// The problem that was logged since.
    pub(super) logged: Option<String>,
}

impl FileWatcher {
    /// Watches a file that is about to be read: a change after this call is a change.
    pub(super) fn new(path: PathBuf) -> Self {
        let last_read = FileState::of(&path);
        Self { path, last_read, logged: None }
    }

    /// What is in the file, if it has changed since it was last read and can be read.
    pub(super) fn changed<T>(&mut self, read: impl FnOnce(&Path) -> Result<T, KeysError>) -> Option<T> {
        // Taken before the file is read: what changes meanwhile is another change.
        let now = FileState::of(&self.path);
        if now == self.last_read {
            return None;
        }
        match read(&self.path) {
            Ok(fresh) => {
                (self.last_read, self.logged) = (now, None);
                Some(fresh)
            }
            Err(problem) => {
                if self.logged.as_ref() != Some(&problem.problem) {
                    tracing::error!(%problem, "keys stay as they were");
                    self.logged = Some(problem.problem);
                }
                None
            }
        }
    }
}

/// Distinguishes two states of a file. A copy may keep the time of its original, and a mounted file is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    file: (u64, u64),
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size: meta.size(),
            file: (meta.dev(), meta.ino()),
        })
    }
}
