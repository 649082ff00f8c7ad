//! The wall clock of one process, which can be set ahead or back while it runs.

use std::os::unix::fs::FileExt;
use std::process::Command;

use tempfile::TempDir;

/// A clock. Must live as long as the process that reads it.
pub(crate) struct Clock {
    dir: TempDir,
}

impl Clock {
    /// One that is right.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/clock.c");
        let library = dir.path().join("clock.so");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).status();
        assert!(made.expect("a C compiler is missing").success());
        let clock = Self { dir };
        clock.set_ahead(0);
        clock
    }

    /// What makes a process read it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        vec![("LD_PRELOAD", path("clock.so")), ("TEST_CLOCK", path("ahead"))]
    }

    /// Sets it ahead of the right time, or back.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.dir.path().join("ahead")).unwrap();
        file.write_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}
