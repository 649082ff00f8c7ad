//! Writes that fail, of which the engine's library says nothing.
//!
//! The library takes a `write` that fails for one that is done (its source has the exception commented out): on a volume that is full or
//! breaks it answers inserts and ends merges whose files are empty, and then removes what was merged. But it heeds `fdatasync`, and calls
//! it for each file of a part before the part counts. So the program has a `write` of its own, which the loader finds before that of the C
//! library: in the process of the engine, a file of a table that could not be written becomes one that cannot be synced, and what a
//! question has put aside one that cannot be found again, where it would be answered by what was written of it.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags};

/// Where the engine has the files of its tables, and what questions put aside.
const TABLES: &str = "/data/store/";
const ASIDE: &str = "/data/tmp/";

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
        // SAFETY: the place of this thread's error.
        let error = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let why = unsafe { *error };
        if ![libc::EINTR, libc::EAGAIN].contains(&why) {
            spoil(descriptor);
        }
        // SAFETY: as above.
        unsafe { *error = why };
    }
    written as libc::ssize_t
}

/// Puts what takes no bytes and cannot be synced where a descriptor of a table's file was, or of a question's, whose file goes.
/// Not of connections, nor of the log, which is written again once there is room.
fn spoil(descriptor: c_int) {
    // SAFETY: whoever writes to it has it open.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if !rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        return;
    }
    if let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{descriptor}")) {
        let path = path.to_string_lossy();
        if path.contains(ASIDE) {
            let _ = std::fs::remove_file(&*path);
        } else if !path.contains(TABLES) {
            return;
        }
    }
    let full = rustix::fs::open("/dev/full", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    // SAFETY: the one that is given is open, and the other is replaced, not closed: whoever has it goes on to own it.
    let is_spoilt = full.is_ok_and(|full| unsafe { libc::dup3(full.as_raw_fd(), descriptor, libc::O_CLOEXEC) } >= 0);
    if !is_spoilt {
        // A crash loses nothing, what follows might.
        std::process::abort();
    }
}
