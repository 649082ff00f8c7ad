//! An answer that is kept, and for how long it may be given.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{CacheRequest, HEAVY, KEPT, KEPT_CLOSED, Key, RUNS, Reach, SPENT, WINDOW};
use crate::query::ask::range::show_ms;
use crate::store::data_version::{DataVersions, Version};

/// What entry, map and question cost besides their bytes.
const OVERHEAD: u64 = 512;

/// What a computation ends with.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    /// `result` as JSON.
    pub(crate) result: Bytes,
    /// The clock when it was asked for, milliseconds since 1970.
    pub(crate) computed_ms: i64,
    /// All events received before are in it, milliseconds since 1970; none if that is not known.
    pub(crate) data_through_ms: Option<i64>,
    /// Rows read.
    pub(crate) rows_read: u64,
    /// Whether it is scaled up from a part of the events.
    pub(crate) is_sampled: bool,
    /// Events left out because no person made them; none if they were not counted.
    pub(crate) excluded_bots: Option<u64>,
    /// Whether it depends on who is who.
    pub(crate) counts_people: bool,
    /// If another instance has computed it: how long ago.
    pub(crate) shared_for: Option<Duration>,
}

/// A question, the same over all its answers.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) key: Key,
    pub(crate) report: String,
    pub(crate) body: Bytes,
    /// Asked so often since the last sweep.
    pub(crate) asks: AtomicU32,
    spending: Mutex<Spending>,
}

/// What a question has cost in the window that began at `since`.
#[derive(Debug)]
struct Spending {
    since: Option<Instant>,
    runs: u32,
    spent: Duration,
}

/// When a computation began, and what had arrived by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) at: Instant,
    pub(crate) seen: Version,
    /// How many events of its own ranges, if that is counted.
    pub(crate) arrived: Option<u64>,
    /// How many of them since the answer before it was begun; none if there is no such answer, or that is not known.
    pub(crate) late: Option<u64>,
}

/// Whether an entry may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes.
    Fresh,
    /// Yes, but a refresh is due.
    Refresh,
    /// Only marked as stale: a newer one could not be computed often enough.
    Stale,
    /// No.
    Expired,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) question: Arc<Question>,
    pub(crate) result: Bytes,
    /// The same for equal results.
    pub(crate) tag: u64,
    pub(crate) computed_ms: i64,
    /// What of `meta` never changes, as JSON members.
    pub(crate) meta: String,
    /// Another instance has computed it.
    pub(crate) is_shared: bool,
    counts_people: bool,
    began: Instant,
    took: Duration,
    pub(super) seen: Version,
    pub(super) arrived: Option<u64>,
    pub(super) reach: Reach,
}

impl Question {
    pub(crate) fn new(request: &CacheRequest<'_>) -> Self {
        Self {
            key: request.key,
            report: request.report.to_owned(),
            body: Bytes::copy_from_slice(request.body),
            asks: AtomicU32::new(1),
            spending: Mutex::new(Spending { since: None, runs: 0, spent: Duration::ZERO }),
        }
    }

    /// Counts a computation that begins.
    pub(crate) fn begin(&self, now: Instant) {
        let mut spending = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        if spending.since.is_none_or(|since| now - since >= WINDOW) {
            *spending = Spending { since: Some(now), runs: 0, spent: Duration::ZERO };
        }
        spending.runs += 1;
    }

    /// Counts what a computation has cost.
    pub(crate) fn spend(&self, took: Duration) {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner).spent += took;
    }

    /// Whether it may be computed again so soon.
    fn may_run(&self, now: Instant) -> bool {
        let spending = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        spending.since.is_none_or(|since| now - since >= WINDOW) || spending.runs < RUNS || spending.spent < SPENT
    }
}

impl Entry {
    pub(crate) fn new(computed: Computed, started: Started, question: Arc<Question>, reach: Reach) -> Self {
        let Started { at: began, seen, arrived, late } = started;
        let Computed { result, computed_ms, data_through_ms, rows_read, is_sampled, excluded_bots, counts_people, shared_for } = computed;
        let data_through = data_through_ms.map_or_else(|| "null".to_owned(), |at_ms| format!("\"{}\"", show_ms(at_ms)));
        let shown = |events: Option<u64>| events.map_or_else(|| "null".to_owned(), |events| events.to_string());
        let (excluded_bots, late) = (shown(excluded_bots), shown(late.filter(|_| shared_for.is_none())));
        let meta = format!(
            r#""computed_at":"{}","data_through":{data_through},"rows_read":{rows_read},"sampled":{is_sampled},"excluded_bots":{excluded_bots},"late":{late}"#,
            show_ms(computed_ms),
        );
        let took = began.elapsed();
        let began = began.checked_sub(shared_for.unwrap_or_default()).unwrap_or(began);
        let tag = xxh3_64(&result);
        Self { question, result, tag, computed_ms, meta, is_shared: shared_for.is_some(), counts_people, began, took, seen, arrived, reach }
    }

    /// Whether it may answer at `now`.
    pub(crate) fn verdict(&self, arrivals: &DataVersions, now: Instant) -> Verdict {
        let age = now.saturating_duration_since(self.began);
        // Who has ruled who is who sees it in the next answer, whatever that costs.
        if self.counts_people && arrivals.ruled_since(self.question.key.project, self.seen) {
            return Verdict::Expired;
        }
        if !self.is_outdated(arrivals) {
            let kept = if self.reach.is_closed { KEPT_CLOSED } else { KEPT };
            return match age {
                // The arrivals of this instance do not show what the computing instance had read.
                age if self.is_shared && age >= KEPT => Verdict::Expired,
                age if age < kept => Verdict::Fresh,
                age if age < kept + KEPT => Verdict::Refresh,
                _ => Verdict::Expired,
            };
        }
        if self.took >= HEAVY {
            return match age {
                age if age < (self.took * 10).min(KEPT / 2) => Verdict::Fresh,
                age if age < KEPT => Verdict::Refresh,
                _ => Verdict::Expired,
            };
        }
        if self.question.may_run(now) {
            Verdict::Expired
        } else if age < WINDOW {
            Verdict::Fresh
        } else {
            // The computations that were to replace it have failed.
            Verdict::Stale
        }
    }

    fn is_outdated(&self, arrivals: &DataVersions) -> bool {
        let project = self.question.key.project;
        let has_other_people = self.counts_people && arrivals.people_since(project, self.seen);
        has_other_people || arrivals.any_since(project, &self.reach.spans, self.seen)
    }

    /// What it costs to keep.
    pub(crate) fn bytes(&self) -> u64 {
        (self.result.len() + self.question.body.len() + self.meta.len()) as u64 + OVERHEAD
    }
}
