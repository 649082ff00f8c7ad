//! A limit for the memory of processes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::program;

/// A memory cgroup of its own. Removed when it is dropped.
pub(crate) struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pulse-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from("/sys/fs/cgroup/memory").join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn limit(&self, bytes: u64) {
        std::fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
    }

    /// A program that is pulse and has lived in here from its beginning.
    pub(crate) fn pulse_in(&self, dir: &Path) -> PathBuf {
        let script = dir.join("pulse-within-limits");
        let text = format!("#!/bin/sh\necho $$ > {}\nexec {} \"$@\"\n", self.0.join("cgroup.procs").display(), program().display());
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        script
    }

    /// The most memory that was in use at a time, files that the system keeps for its processes included, bytes.
    pub(crate) fn most(&self) -> u64 {
        std::fs::read_to_string(self.0.join("memory.max_usage_in_bytes")).unwrap().trim().parse().unwrap()
    }

    /// Processes that were killed for want of memory.
    pub(crate) fn killed(&self) -> u32 {
        let text = std::fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
