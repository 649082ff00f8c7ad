//! The turn of a question among all that run, and that of several which share what they read.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::guard::QueryPermit;
use super::{Guard, Held, Reader, RowsRead, StatementRunner};
use crate::event::ids::ProjectId;
use crate::query::ask::selection::Traffic;
use crate::query::error::QueryError;
use crate::query::people::map::PersonMap;

/// The time of a question is so many times that of a scan which questions share: where that is too long each reads alone, after it.
const TIMES_OF_SCAN: u32 = 2;

/// The right to run, which questions have one after the other that share a scan.
#[derive(Clone)]
pub(crate) struct Permit {
    _held: Arc<QueryPermit>,
}

impl Permit {
    pub(super) fn of(permit: QueryPermit) -> Self {
        Self { _held: Arc::new(permit) }
    }
}

/// Where questions go on that share what one runner has read: they see the same people.
#[derive(Clone)]
pub(crate) struct Turn {
    permit: Permit,
    project: ProjectId,
    now_ms: i64,
    traffic: Traffic,
    people: Arc<PersonMap>,
    counts_people: bool,
    rows_read: u64,
}

impl Reader {
    /// When a question that begins now must be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// When a scan must be over that questions share.
    pub(crate) fn deadline_of_scan(&self) -> Instant {
        Instant::now() + self.deadline / TIMES_OF_SCAN
    }

    /// Begins a question as [`Self::begin`], by a permit of `guard`, or of all without one.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(crate) async fn begin_with(
        &self,
        guard: Option<&Guard>,
        project: ProjectId,
        now_ms: i64,
    ) -> Result<StatementRunner<'_>, QueryError> {
        let deadline = self.deadline();
        let turn = timeout_at(deadline, guard.unwrap_or(&self.guard).enter(project)).await;
        let permit = turn.unwrap_or_else(|_| Err(QueryError::too_slow()))?;
        Ok(StatementRunner { permit: Some(Permit::of(permit)), ..self.runner(project, now_ms, deadline) })
    }

    /// Begins a question by a permit that is there.
    pub(crate) fn begin_by(&self, permit: Permit, project: ProjectId, now_ms: i64) -> StatementRunner<'_> {
        StatementRunner { permit: Some(permit), ..self.runner(project, now_ms, self.deadline()) }
    }

    /// Goes on with what was read in `turn`, and with the memory of all who share that.
    pub(crate) fn go_on(&self, turn: Turn, memory: Held) -> StatementRunner<'_> {
        let Turn { permit, project, now_ms, traffic, people, counts_people, rows_read } = turn;
        let runner = self.begin_by(permit, project, now_ms);
        let mut runner = StatementRunner { traffic, people, counts_people, memory, ..runner };
        runner.add_rows_read(rows_read);
        runner
    }
}

impl StatementRunner<'_> {
    /// Its permit, for others who run after it; none of a watcher.
    pub(crate) fn permit(&self) -> Option<Permit> {
        self.permit.clone()
    }

    /// Where those go on who share what was read.
    pub(crate) fn turn(&self, permit: Permit) -> Turn {
        Turn {
            permit,
            project: self.project,
            now_ms: self.now_ms,
            traffic: self.traffic,
            people: Arc::clone(&self.people),
            counts_people: self.counts_people,
            rows_read: self.rows_read,
        }
    }

    /// Ends its statements sooner than it has to.
    pub(crate) fn end_by(&mut self, deadline: Instant) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Counts the rows that it reads there.
    pub(crate) fn count_rows_in(&mut self, known: Arc<RowsRead>) {
        self.known_rows_read = known;
    }
}
