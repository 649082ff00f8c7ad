//! Start, supervise, drain.
//!
//! Owns the one place that spawns long-lived tasks, and the order of an end: a signal or the first task that ends asks all
//! to stop; they drain under one deadline; a second signal means now.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// More open files than this no instance needs.
const MOST_FILES: u64 = 1 << 20;
/// Files that an instance opens beside its connections, at most: segments of the log, connections to what it works with.
const OTHER_FILES: u64 = 1_000;

/// Why a supervised run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A task gave up.
    #[error("{task}: {problem}")]
    Failed {
        /// Which task.
        task: &'static str,
        /// Its error.
        problem: String,
    },
    /// A task panicked: a fault of pulse itself.
    #[error("{task} panicked: {message}")]
    Panicked {
        /// Which task.
        task: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// A task ended without being asked to.
    #[error("{0} ended unasked")]
    Early(&'static str),
    /// The drain took longer than allowed; what was not yet durable was never acknowledged.
    #[error("not drained within {0:?}")]
    DrainTimeout(Duration),
    /// A second signal arrived during the drain.
    #[error("stopped by a second signal before the drain was done")]
    Impatient,
}

/// How one task ended: well, or with a fault.
type Exit = (&'static str, Result<(), Fault>);

/// Why a task of a [`TaskSet`] did not end well.
#[derive(Debug, thiserror::Error)]
pub enum TaskError<E> {
    /// It gave up.
    #[error(transparent)]
    Failed(#[from] E),
    /// It panicked: a fault of pulse itself, and of nothing that it works with.
    #[error("{task} panicked: {message}")]
    Panicked {
        /// Which task.
        task: String,
        /// The message of the panic.
        message: String,
    },
}

/// The tasks of one role, such as one a partition.
#[derive(Debug)]
pub struct TaskSet<E>(JoinSet<Result<(), TaskError<E>>>);

impl<E> Default for TaskSet<E> {
    fn default() -> Self {
        Self(JoinSet::new())
    }
}

impl<E: Send + 'static> TaskSet<E> {
    /// Runs a task. Dropping the set ends it.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn(&mut self, name: String, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.0.spawn(async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(ended) => ended.map_err(TaskError::Failed),
                Err(panic) => Err(TaskError::Panicked { task: name, message: panic_message(&*panic).to_owned() }),
            }
        });
    }

    /// How the next task ends; `None` if there is none. Cancel safe.
    pub async fn ended(&mut self) -> Option<Result<(), TaskError<E>>> {
        let ended = self.0.join_next().await?;
        // Only a runtime that is shut down cancels a task of this set.
        Some(ended.unwrap_or_else(|error| Err(TaskError::Panicked { task: "a task".to_owned(), message: error.to_string() })))
    }
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Long-lived tasks that live and end together.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Exit>,
    stop: CancellationToken,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new() }
    }
}

impl Supervisor {
    /// Cancelled when everything must drain and end.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task; its end, good or bad, ends all.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<E: std::fmt::Display>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.tasks.spawn(async move {
            let ended = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(ended) => ended.map_err(|problem| Fault::Failed { task: name, problem: problem.to_string() }),
                Err(panic) => Err(Fault::Panicked { task: name, message: panic_message(&*panic).to_owned() }),
            };
            (name, ended)
        });
    }

    /// Runs until `signals` says to end, the caller has `asked` for it or the first task ends, then drains the rest within `grace`. No faults means a
    /// clean stop.
    pub async fn run(mut self, signals: &mut Signals, asked: CancellationToken, grace: Duration) -> Vec<Fault> {
        let mut faults = Vec::new();
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "draining"),
            () = asked.cancelled() => tracing::info!("draining"),
            Some(exit) = self.tasks.join_next() => faults.push(match exit {
                Ok((task, Ok(()))) => Fault::Early(task),
                Ok((_, Err(fault))) => fault,
                Err(cancelled) => Fault::of(&cancelled),
            }),
        }
        self.stop.cancel();
        tokio::select! {
            drained = tokio::time::timeout(grace, drain(&mut self.tasks)) => match drained {
                Ok(late) => faults.extend(late),
                Err(_) => faults.push(Fault::DrainTimeout(grace)),
            },
            _ = signals.next() => faults.push(Fault::Impatient),
        }
        faults
    }
}

impl Fault {
    /// Of a task that was not allowed to end, which only the end of the runtime does.
    fn of(cancelled: &tokio::task::JoinError) -> Self {
        Self::Failed { task: "a task", problem: cancelled.to_string() }
    }
}

async fn drain(tasks: &mut JoinSet<Exit>) -> Vec<Fault> {
    let mut faults = Vec::new();
    while let Some(exit) = tasks.join_next().await {
        match exit {
            Ok((_, Ok(()))) => {}
            Ok((_, Err(fault))) => faults.push(fault),
            Err(cancelled) => faults.push(Fault::of(&cancelled)),
        }
    }
    faults
}

/// The signals that ask pulse to end: TERM and INT. HUP is taken and ignored: a closed terminal stops nothing.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    _hangup: Signal,
}

impl Signals {
    /// Takes over the signals of the process.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that asks for an end.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "TERM",
            _ = self.interrupt.recv() => "INT",
        }
    }
}

/// Lets the process open as many files as the system allows it: what it is given at the start is often a thousand, and each
/// connection is one. Says so where that is less than `connections` need: what fails then says another reason.
pub fn raise_file_limit(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        if let Err(problem) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%problem, "the limit of open files stays as it is");
        }
    }
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|current| *current < needed) {
        tracing::warn!(limit, needed, "the system allows fewer open files than `http.max_connections` may need: raise `ulimit -n`");
    }
}

/// Runs a short task beside the caller, such as waiting for one acknowledgement. It must end by itself.
#[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn_short(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// Runs a long-lived task whose end the caller decides and waits for by itself, apart from the [`Supervisor`].
#[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn_apart<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_the_name_of_its_task_and_not_as_an_error_of_what_it_works_with() {
        let mut tasks = TaskSet::<String>::default();
        tasks.spawn("process partition 7".to_owned(), async { panic!("index {} of 3", 9) });
        let ended = tasks.ended().await.unwrap().unwrap_err();
        assert!(matches!(ended, TaskError::Panicked { .. }));
        assert_eq!(ended.to_string(), "process partition 7 panicked: index 9 of 3");
        tasks.spawn("process partition 8".to_owned(), async { Err("log closed".to_owned()) });
        assert_eq!(tasks.ended().await.unwrap().unwrap_err().to_string(), "log closed");
        assert!(tasks.ended().await.is_none());
    }

    #[test]
    fn the_limit_of_open_files_is_as_high_as_it_may_be() {
        raise_file_limit(1);
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
        assert!(limit.current.is_none_or(|current| current >= most), "{limit:?}");
    }

    #[tokio::test]
    async fn a_supervised_task_that_panics_ends_the_run_under_its_own_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("keys", async {
            if true {
                panic!("poisoned")
            }
            Ok::<_, String>(())
        });
        let stop = supervisor.stop_token();
        supervisor.spawn("log", async move {
            stop.cancelled().await;
            Ok::<_, String>(())
        });
        let mut signals = Signals::install().unwrap();
        let faults = supervisor.run(&mut signals, CancellationToken::new(), Duration::from_secs(60)).await;
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), ["keys panicked: poisoned"]);
    }
}
