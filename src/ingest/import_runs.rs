//! How much an import may bring, in one request and in runs.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;

use crate::event::ids::ProjectId;
use crate::http::respond::ApiError;

/// Largest body, on the wire and inflated, bytes: the batches of `pulse import` and the longest line behind one.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Most lines in one request.
pub(super) const MAX_LINES: usize = 10_000;
/// Most runs of a project that begin or go on in an hour.
const MAX_RUNS: usize = 1_000;
const HOUR_MS: i64 = 3_600_000;

/// The runs of the last hour. Each has books of its own in every block, which are kept as long as the events and read by every ledger:
/// one that is made up for each request would cost more than its events.
#[derive(Default)]
pub(super) struct ImportRuns {
    by_project: Mutex<HashMap<ProjectId, (i64, HashSet<u64>)>>,
}

impl ImportRuns {
    /// Refuses a run that is one too many in the hour of `now_ms`.
    pub(super) fn admit(&self, project: ProjectId, run: u64, now_ms: i64) -> Result<(), ApiError> {
        let hour = now_ms.div_euclid(HOUR_MS);
        let mut by_project = self.by_project.lock().unwrap_or_else(PoisonError::into_inner);
        let (of_hour, runs) = by_project.entry(project).or_default();
        if *of_hour != hour {
            (*of_hour, *runs) = (hour, HashSet::new());
        }
        if runs.len() < MAX_RUNS || runs.contains(&run) {
            runs.insert(run);
            return Ok(());
        }
        let seconds = ((hour + 1) * HOUR_MS - now_ms) / 1_000 + 1;
        let message = format!("more than {MAX_RUNS} runs in an hour; give the batches of an import the same `run`");
        let retry_after = Some(u32::try_from(seconds).unwrap_or(1));
        Err(ApiError { retry_after, ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_runs", message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_so_many_runs_in_an_hour_and_those_go_on() {
        let (runs, project, hour) = (ImportRuns::default(), ProjectId(1), 1_000 * HOUR_MS);
        for run in 0..MAX_RUNS as u64 {
            assert_eq!(runs.admit(project, run, hour), Ok(()));
        }
        let refused = runs.admit(project, u64::MAX, hour + HOUR_MS - 1_500).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(2)));
        assert_eq!(runs.admit(project, 5, hour), Ok(()));
        assert_eq!(runs.admit(ProjectId(2), u64::MAX, hour), Ok(()), "another project");
        assert_eq!(runs.admit(project, u64::MAX, hour + HOUR_MS), Ok(()));
    }
}
