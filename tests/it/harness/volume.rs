//! Volumes of their own for what pulse writes: small ones, with few files, or ones that break.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted volume. Unmounted when it is dropped.
pub(crate) struct Volume {
    at: PathBuf,
    /// Holds the image of a volume that is a file.
    image: Option<TempDir>,
}

impl Volume {
    /// One in memory, of so many MiB.
    pub(crate) fn in_memory(at: &Path, mib: u32) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", text(at)]);
        Self { at: at.to_owned(), image: None }
    }

    /// One with a file system of so many MiB and files, which turns read-only when it finds itself damaged.
    pub(crate) fn of_files(at: &Path, mib: u32, files: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-N", &files.to_string(), "-e", "remount-ro", text(&image)]);
        let volume = Self { at: at.to_owned(), image: Some(dir) };
        volume.mount();
        volume
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", text(&self.image()), text(&self.at)]);
    }

    fn image(&self) -> PathBuf {
        self.image.as_ref().expect("a volume in memory has no image").path().join("image")
    }

    /// Makes the file system find itself damaged: nothing can be written any more.
    pub(crate) fn damage(&self) {
        let device = run("findmnt", &["-n", "-o", "SOURCE", text(&self.at)]);
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }

    /// Cuts its power: nothing reaches the disk from now on, and what has not yet is lost.
    #[allow(unsafe_code, reason = "there is no other way to ask for it")]
    pub(crate) fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN without a flush of the journal, as xfstests does it.
        const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
        const WITHOUT_FLUSH: u32 = 2;
        let root = std::fs::File::open(&self.at).unwrap();
        // SAFETY: the call reads a u32 and touches no other memory.
        unsafe { rustix::ioctl::ioctl(root, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSH)) }.unwrap();
    }

    /// Mounts it again after a power cut, which replays the journal. Nobody may use it.
    pub(crate) fn restore_power(&self) {
        run("umount", &[text(&self.at)]);
        let image = self.image();
        // Whoever has made a namespace of mounts meanwhile still has this one, and it would be given back as it was left.
        if !run("losetup", &["-j", text(&image)]).is_empty() {
            let copy = image.with_extension("copy");
            run("cp", &["--sparse=always", text(&image), text(&copy)]);
            std::fs::rename(copy, image).unwrap();
        }
        self.mount();
    }

    /// Has it checked and mounted again. Nobody may use it.
    pub(crate) fn mend(&self) {
        run("umount", &[text(&self.at)]);
        let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(self.image()).output().unwrap();
        assert!(checked.status.code().is_some_and(|code| code < 4), "{checked:?}");
        self.mount();
    }

    /// Takes all space that is left.
    pub(crate) fn fill(&self) {
        let block = vec![0; 1 << 20];
        let mut filler = std::fs::OpenOptions::new().create(true).append(true).open(self.at.join("filler")).unwrap();
        for size in [1 << 20, 1 << 12] {
            while std::io::Write::write_all(&mut filler, &block[..size]).is_ok() {}
        }
    }

    /// Takes all space but so many MiB.
    pub(crate) fn fill_but(&self, mib: u64) {
        self.fill();
        let filler = std::fs::OpenOptions::new().write(true).open(self.at.join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - (mib << 20)).unwrap();
    }

    /// Takes all files that are left.
    pub(crate) fn crowd(&self) {
        let crowd = self.at.join("crowd");
        std::fs::create_dir(&crowd).unwrap();
        for number in 0.. {
            if std::fs::File::create(crowd.join(format!("{number}"))).is_err() {
                return;
            }
        }
    }

    /// Gives back what [`Self::fill`] and [`Self::crowd`] took.
    pub(crate) fn free(&self) {
        // Only one of them is there.
        let _ = std::fs::remove_file(self.at.join("filler"));
        let _ = std::fs::remove_dir_all(self.at.join("crowd"));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Whoever still uses it keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|problem| panic!("{program}: {problem}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
