//! The process of the engine, seen from both sides.

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::process::{Child, ChildStdin, Command};

use super::{EngineError, io, writes};

/// How long it may take to end after its pipe was closed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How the child is started.
#[derive(Debug)]
pub(super) struct EngineCommand {
    pub(super) executable: PathBuf,
    pub(super) library: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
}

/// The child, and the pipe that keeps it alive: kept apart, because waiting for a child closes the pipe that it owns.
#[derive(Debug)]
pub(super) struct EngineChild {
    pub(super) process: Child,
    lifeline: Option<ChildStdin>,
}

impl EngineChild {
    /// Closes the pipe, on which the engine ends by itself, and waits for that; kills it if it takes too long. Returns whether it
    /// ended by itself.
    pub(super) async fn stop(mut self) -> Result<bool, EngineError> {
        drop(self.lifeline.take());
        if tokio::time::timeout(STOP_LIMIT, self.process.wait()).await.is_ok() {
            return Ok(true);
        }
        tracing::warn!("embedded engine did not end by itself: killed");
        self.process.kill().await.map_err(io("kill the engine"))?;
        Ok(false)
    }
}

impl EngineCommand {
    pub(super) fn spawn(&self) -> Result<EngineChild, EngineError> {
        let log = std::fs::File::create(self.folder.join("engine.out")).map_err(io("create engine.out"))?;
        let copy = log.try_clone().map_err(io("create engine.out"))?;
        let mut command = std::process::Command::new(&self.executable);
        // The working directory of pulse may be gone, and an engine without one does not start.
        command.current_dir(&self.folder);
        command.arg("engine").arg(&self.library).arg("--config-file").arg(self.folder.join("config.xml"));
        command.arg("--path").arg(self.folder.join("data"));
        // The level in the configuration file does not count for this kind of server; without this it logs every step.
        command.args(["--log-level", "warning"]);
        command.args(["--listen_host", "127.0.0.1", "--http_port", &self.port.to_string()]);
        command.args(["--query", "SYSTEM START LISTEN HTTP; SELECT * FROM file('/dev/stdin', LineAsString)"]);
        command.stdin(Stdio::piped()).stdout(log).stderr(copy);
        // A process group of its own: Ctrl-C is for pulse, which drains before it ends the engine.
        command.process_group(0);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let mut process = command.spawn().map_err(io("start the child"))?;
        let lifeline = process.stdin.take();
        Ok(EngineChild { process, lifeline })
    }
}

/// Whether the parent was gone before its death could be a signal. It would be minutes until the engine notices on a machine that is
/// busy; meanwhile it would take the data from the engine of the next pulse.
fn is_orphan() -> rustix::io::Result<bool> {
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// Runs the engine inside this process until its standard input closes: the hidden subcommand. Arguments are the engine's
/// own. Errors: the library cannot be loaded.
pub fn run_child(library: &Path, arguments: &[OsString]) -> Result<(), String> {
    // Whatever ends the parent ends us, also when it is killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|problem| problem.to_string())?;
    if is_orphan().map_err(|problem| problem.to_string())? {
        return Ok(());
    }
    // What pulse has switched off for itself is not meant for the engine.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    let strings: Vec<CString> = std::iter::once(OsStr::new("engine"))
        .chain(arguments.iter().map(OsString::as_os_str))
        .map(|argument| CString::new(argument.as_bytes()).map_err(|problem| problem.to_string()))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*mut c_char> = strings.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).map_err(|problem| problem.to_string())?;
    writes::heed_failures()?;
    let refused = |problem: libloading::Error| format!("{}: {problem}", library.display());
    // SAFETY: the library is the engine that the configuration names; loading it runs its initializers, and the entry point
    // has this signature in the pinned release. The strings outlive the call.
    unsafe {
        let library = libloading::Library::new(library).map_err(refused)?;
        let entry: libloading::Symbol<'_, unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void> =
            library.get(b"query_stable_v2\0").map_err(refused)?;
        entry(count, pointers.as_mut_ptr());
        // Its threads may still run: leave without unloading.
        std::mem::forget(library);
    }
    Ok(())
}
