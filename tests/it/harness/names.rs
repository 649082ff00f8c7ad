//! What names resolve to in one process, in place of the name servers.

use std::process::Command;

use tempfile::TempDir;

/// Names with their addresses. Must live as long as the process that asks.
pub(crate) struct Names {
    dir: TempDir,
}

impl Names {
    /// Each line is a name and the addresses, divided by commas, that the next question for it is answered with; the last one of a name stays.
    pub(crate) fn new(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/names.c");
        let library = dir.path().join("names.so");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).status();
        assert!(made.expect("a C compiler is missing").success());
        std::fs::write(dir.path().join("names"), lines).unwrap();
        Self { dir }
    }

    /// What makes a process resolve them so.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        vec![("LD_PRELOAD", path("names.so")), ("TEST_NAMES", path("names"))]
    }
}
