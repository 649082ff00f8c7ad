//! How long events take from receipt until they can be queried, measured on every row loaded.

use std::sync::Mutex;

use hdrhistogram::Histogram;
use serde::Serialize;

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

/// What the loader measures, shared with whoever shows it.
#[derive(Debug)]
pub struct LoadStats {
    latency: Mutex<Histogram<u64>>,
}

/// Latencies beyond an hour are a backlog, not a latency; they count as an hour.
const MAX_MS: u64 = 3_600_000;

impl Default for LoadStats {
    fn default() -> Self {
        // Three digits, 1 ms to an hour: always within what the histogram can do.
        let histogram = Histogram::new_with_bounds(1, MAX_MS, 3).unwrap_or_else(|_| unreachable!("bounds are constants"));
        Self { latency: Mutex::new(histogram) }
    }
}

impl LoadStats {
    /// Counts events that became queryable `ms` after their receipt.
    pub(crate) fn record(&self, ms: u64, events: u32) {
        metrics::count_queryable(ms, u64::from(events));
        if let Ok(mut histogram) = self.latency.lock() {
            histogram.saturating_record_n(ms.clamp(1, MAX_MS), u64::from(events));
        }
    }

    /// The latency since the start.
    pub fn latency(&self) -> Latency {
        let Ok(histogram) = self.latency.lock() else { return Latency::default() };
        Latency { p50: histogram.value_at_quantile(0.5), p99: histogram.value_at_quantile(0.99), max: histogram.max() }
    }
}
