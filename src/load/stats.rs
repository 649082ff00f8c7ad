//! How long events take from receipt until they can be queried, measured on every row loaded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::event::ids::ProjectId;
use crate::metrics;

/// Event-to-queryable latency, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of the events were faster.
    pub p50: u64,
    /// 99 of 100 events were faster.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}

/// What the loader measures, shared with those who show it.
#[derive(Debug, Default)]
pub struct LoadStats {
    // One entry a project that loads: projects come from keys, so there are as few as those.
    latency: Mutex<HashMap<ProjectId, Histogram<u64>>>,
}

/// Latencies beyond an hour are a backlog, not a latency; they count as an hour.
const MAX_MS: u64 = 3_600_000;

impl LoadStats {
    /// Counts events of `project` that became queryable `ms` after their receipt.
    pub(crate) fn record(&self, project: ProjectId, ms: u64, events: u32) {
        metrics::count_queryable(ms, u64::from(events));
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.entry(project).or_insert_with(histogram).saturating_record_n(ms.clamp(1, MAX_MS), u64::from(events));
    }

    /// The latency of a project's events since the start.
    pub fn latency(&self, project: ProjectId) -> Latency {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(histogram) = latency.get(&project) else { return Latency::default() };
        Latency { p50: histogram.value_at_quantile(0.5), p99: histogram.value_at_quantile(0.99), max: histogram.max() }
    }
}

/// Two digits (some 20 KB a project), 1 ms to an hour: always within what the histogram can do.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_MS, 2).unwrap_or_else(|_| unreachable!("bounds are constants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_sees_the_latency_of_its_own_events_and_no_other() {
        let (stats, [slow, fast, new]) = (LoadStats::default(), [1, 2, 3].map(ProjectId));
        for _ in 0..99 {
            stats.record(fast, 20, 10);
        }
        stats.record(fast, 100, 9);
        stats.record(slow, 2 * MAX_MS, 1);
        assert_eq!(stats.latency(fast), Latency { p50: 20, p99: 20, max: 100 });
        let slow = stats.latency(slow);
        assert!(slow.p50 >= MAX_MS && slow.max >= MAX_MS, "a backlog counts as an hour: {slow:?}");
        assert_eq!(stats.latency(new), Latency::default());
    }
}
