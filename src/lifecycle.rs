//! Start, supervise, drain.
//!
//! Owns the one place that spawns long-lived tasks, and the order of an end: a signal or the first task that ends asks all
//! to stop; they drain under one deadline; a second signal means now.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a supervised run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A task gave up.
    #[error("{task}: {problem}")]
    Failed {
        /// Which task.
        task: &'static str,
        /// What it said.
        problem: String,
    },
    /// A task ended although nobody had asked it to.
    #[error("{0} ended unasked")]
    Early(&'static str),
    /// The drain took longer than allowed; what was not yet durable was never acknowledged.
    #[error("not drained within {0:?}")]
    DrainTimeout(Duration),
    /// A second signal arrived during the drain.
    #[error("stopped by a second signal before the drain was done")]
    Impatient,
}

/// How one task ended.
type Exit = (&'static str, Result<(), String>);

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
        self.tasks.spawn(async move { (name, task.await.map_err(|problem| problem.to_string())) });
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
                Ok((task, Err(problem))) => Fault::Failed { task, problem },
                Err(panic) => Fault::Failed { task: "task", problem: panic.to_string() },
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

async fn drain(tasks: &mut JoinSet<Exit>) -> Vec<Fault> {
    let mut faults = Vec::new();
    while let Some(exit) = tasks.join_next().await {
        match exit {
            Ok((_, Ok(()))) => {}
            Ok((task, Err(problem))) => faults.push(Fault::Failed { task, problem }),
            Err(panic) => faults.push(Fault::Failed { task: "task", problem: panic.to_string() }),
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
