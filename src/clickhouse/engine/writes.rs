//! Writes that fail, of which the engine's library says nothing.
//!
//! The library takes a `write` that fails for one that is done (its source has the exception commented out): on a volume that is full or
//! breaks it answers inserts and ends merges whose files are empty, and then removes what was merged. So the program has a `write` of its
//! own, which the loader finds before that of the C library, and in the process of the engine a file that could not be written takes no
//! more bytes and cannot be synced, which the library does heed. It syncs no projections and nothing that a question puts aside: a part that
//! is not in use yet goes as a whole, so that it cannot be put into use, and what was put aside goes before it is read again.

use std::borrow::Cow;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags};

/// Whether this process is the engine.
static IS_ENGINE: AtomicBool = AtomicBool::new(false);

/// What is written from now on is the engine's. Errors: the library would write by another `write` than ours.
pub(super) fn heed_failures() -> Result<(), String> {
    // SAFETY: the name is a text that ends with a zero, and nothing is called.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"write".as_ptr()) };
    if !std::ptr::eq(found, write as *const c_void) {
        return Err("failed writes of the engine would not be noticed: `write` is not among the symbols of the program".to_owned());
    }
    IS_ENGINE.store(true, Ordering::Relaxed);
    Ok(())
}

/// `write(2)`.
///
/// # Safety
///
/// `bytes` points to `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, count: libc::size_t) -> libc::ssize_t {
    // SAFETY: that is what the caller promises.
    let written = unsafe { libc::syscall(libc::SYS_write, descriptor, bytes, count) };
    if written < 0 && IS_ENGINE.load(Ordering::Relaxed) {
        let why = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
        if ![libc::EINTR, libc::EAGAIN].contains(&why) && !is_spoilt(descriptor) {
            // A crash loses nothing, what follows might.
            std::process::abort();
        }
        // SAFETY: the place of this thread's error, which is ours to set.
        unsafe { *libc::__errno_location() = why };
    }
    written as libc::ssize_t
}

/// Makes a file useless that could not be written; whether it is. Connections are as they were, and so is the engine's log.
fn is_spoilt(descriptor: c_int) -> bool {
    if descriptor < 0 {
        // No file: the library writes traces of large allocations into a pipe that it may not have.
        return true;
    }
    // SAFETY: it is used for this call alone, which says so where nothing is open under that number.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if !rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        return true;
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{descriptor}")) else { return false };
    if name(&path).starts_with("engine.") {
        return true;
    }
    let is_aside = path.parent().is_some_and(|folder| name(folder) == "tmp");
    let is_gone = match unfinished(&path) {
        Some(part) => removed(part),
        None if is_aside => std::fs::remove_file(&path),
        None => Ok(()),
    };
    // Another file of the same may have failed before.
    let is_useless = is_gone.is_ok() || !path.exists();
    let full = rustix::fs::open("/dev/full", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    // SAFETY: the one that is given is open, and the other is replaced, not closed: it belongs to the same as before.
    let takes_nothing = full.is_ok_and(|full| unsafe { libc::dup3(full.as_raw_fd(), descriptor, libc::O_CLOEXEC) } >= 0);
    is_useless && takes_nothing
}

/// The unfinished part, or other entry of a table's folder, that a file is in: its name begins with `tmp_`.
fn unfinished(file: &Path) -> Option<&Path> {
    let entry = file.ancestors().find(|path| path.parent().is_some_and(is_table))?;
    let name = name(entry);
    (name.starts_with("tmp_") && !name.starts_with(REMOVED)).then_some(entry)
}

/// Whether a folder is that of a table: `…/store/e72/e72b17cd-a11f-4150-a335-7f0c0bb26a85`. What lies elsewhere is not the engine's to remove.
fn is_table(folder: &Path) -> bool {
    let uuid = name(folder);
    let [prefix, store] = [1, 2].map(|above| folder.ancestors().nth(above).map(name).unwrap_or_default());
    uuid.len() == 36 && uuid::Uuid::try_parse(&uuid).is_ok() && uuid.starts_with(&*prefix) && prefix.len() == 3 && store == "store"
}

fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Begins the name of what goes.
const REMOVED: &str = "tmp_unwritten_";

/// Takes what is unfinished away, all of it at once: the engine goes on to write into it.
fn removed(part: &Path) -> std::io::Result<()> {
    static REMOVALS: AtomicU64 = AtomicU64::new(0);
    let number = REMOVALS.fetch_add(1, Ordering::Relaxed);
    let going = part.with_file_name(format!("{REMOVED}{}_{number}_{}", std::process::id(), name(part)));
    std::fs::rename(part, &going)?;
    // What stays of it the engine removes when it starts.
    let _ = if going.is_dir() { std::fs::remove_dir_all(&going) } else { std::fs::remove_file(&going) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_unfinished_is_a_tables_and_called_so() {
        let table = "/tmp_x/clickhouse/data/store/e72/e72b17cd-a11f-4150-a335-7f0c0bb26a85";
        for (file, part) in [
            ("tmp_insert_all_1_1_0/ids.proj/data.bin", Some("tmp_insert_all_1_1_0")),
            ("tmp_merge_all_1_2_1/count.txt", Some("tmp_merge_all_1_2_1")),
            ("tmp_mutation_3.txt", Some("tmp_mutation_3.txt")),
            ("all_1_1_0/data.bin", None),
            ("events.sql.tmp", None),
            ("tmp_unwritten_7_0_tmp_insert_all_1_1_0/data.bin", None),
        ] {
            let found = unfinished(Path::new(table).join(file).as_path()).map(|path| path.strip_prefix(table).unwrap().to_owned());
            assert_eq!(found, part.map(PathBuf::from), "{file}");
        }
        assert_eq!(unfinished(Path::new("/tmp_x/clickhouse/data/tmp/tmp863d698a")), None);
        assert_eq!(unfinished(Path::new("tmp_x")), None);
        let elsewhere = "/x/e72b17cd-a11f-4150-a335-7f0c0bb26a85/tmp_run/clickhouse/data/tmp/tmp863d698a";
        assert_eq!(unfinished(Path::new(elsewhere)), None, "a folder of somebody else's");
    }

    #[test]
    fn what_is_no_open_file_is_no_file_that_could_not_be_written() {
        assert!(is_spoilt(-1) && is_spoilt(c_int::MAX), "the engine goes on");
    }

    #[test]
    fn what_is_unfinished_goes_at_once() {
        let table = tempfile::tempdir().unwrap();
        let part = table.path().join("tmp_insert_all_1_1_0");
        std::fs::create_dir_all(part.join("ids.proj")).unwrap();
        std::fs::write(part.join("ids.proj/data.bin"), "x").unwrap();
        removed(&part).unwrap();
        assert_eq!(std::fs::read_dir(table.path()).unwrap().count(), 0);
        assert!(removed(&part).is_err(), "it is gone");
    }
}
