//! A disk of its own for a server, small enough to be filled.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system in a file. Unmounted at the end, whatever the test says.
pub(crate) struct SmallDisk {
    dir: TempDir,
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} (a disk can be mounted by root only): {said}");
}

impl SmallDisk {
    pub(crate) fn mount(bytes: u64) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        let image = disk.dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        // Nothing is kept back for root.
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), &image]);
        // The loop device goes as the file system does.
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &disk.path()]);
        disk
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves no block free.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    /// Frees what was filled.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that hangs must not keep it.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).output();
        if !unmounted.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("{} stays mounted: {unmounted:?}", self.path().display());
        }
    }
}
