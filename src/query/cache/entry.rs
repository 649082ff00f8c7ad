//! An answer that is kept, and for how long it may be given.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{CacheRequest, HEAVY, KEPT, KEPT_CLOSED, Key, Reach, Since};
use crate::query::ask::range::show_ms;
use crate::query::people::map::LeftOut;
use crate::store::data_version::{DataVersions, Version};

/// What entry, map and question cost besides their bytes.
const OVERHEAD: u64 = 512;

/// So much earlier than it must does the computation begin that is to be over in time.
const SPARE: Duration = Duration::from_secs(1);

/// What a computation ends with.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    /// `result` as JSON.
    pub(crate) result: Bytes,
    /// The clock when it was asked for, milliseconds since 1970.
    pub(crate) computed_ms: i64,
    /// All events received before are in it, milliseconds since 1970; none if that is not known.
    pub(crate) data_through_ms: Option<i64>,
    /// What names the events that were there, for other questions; none if that is not known.
    pub(crate) as_of: Option<String>,
    /// Rows read.
    pub(crate) rows_read: u64,
    /// Whether it is scaled up from a part of the events.
    pub(crate) is_sampled: bool,
    /// Events left out because no person made them; none if they were not counted.
    pub(crate) excluded_bots: Option<u64>,
    /// Whether it depends on who is who.
    pub(crate) counts_people: bool,
    /// What of that is not looked at.
    pub(crate) left_out: LeftOut,
    /// If another instance has computed it: how long ago.
    pub(crate) shared_for: Option<Duration>,
    /// How long it took, without the wait for its turn; of one that shared a scan since that began.
    pub(crate) took: Duration,
    /// What of that it has not cost: others paid it, or it waited for them.
    pub(crate) saved: Duration,
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

/// What a question may cost: it earns a share of a core all the time, and neither saves nor owes more than it earns in [`KEPT`].
#[derive(Debug)]
struct Spending {
    cores: f64,
    /// What is left at `since`, seconds of a core.
    left_s: f64,
    since: Option<Instant>,
    /// Its last computation: when it began, how long it took, and whether it failed.
    began: Option<Instant>,
    took: Duration,
    has_failed: bool,
}

/// What a computation took, and what of that it has not cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) took: Duration,
    pub(crate) saved: Duration,
    pub(crate) has_failed: bool,
}

/// When a computation began, and what had arrived by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) at: Instant,
    pub(crate) seen: Version,
    /// How many events of its own ranges that were over, if that is counted.
    pub(crate) arrived: Option<u64>,
    /// How many came since the answer before it was begun for what was over by then; none if there is no such answer, or that is not known.
    pub(crate) late: Option<u64>,
}

/// Whether an entry may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes.
    Fresh,
    /// Yes, but a refresh is due.
    Refresh,
    /// Only marked as stale: computing a newer one has failed.
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
    /// What names the events that were there.
    pub(crate) as_of: Option<String>,
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
    /// It may keep that many cores busy.
    pub(crate) fn new(request: &CacheRequest<'_>, cores: f64) -> Self {
        let left_s = cores * KEPT.as_secs_f64();
        let spending = Spending { cores, left_s, since: None, began: None, took: Duration::ZERO, has_failed: false };
        Self {
            key: request.key,
            report: request.report.to_owned(),
            body: Bytes::copy_from_slice(request.body),
            asks: AtomicU32::new(1),
            spending: Mutex::new(spending),
        }
    }

    /// Notes a computation that begins.
    pub(crate) fn begin(&self, now: Instant) {
        self.spending().began = Some(now);
    }

    /// Counts what a computation has cost that ends now, or is given up; it took that and what it has `saved`.
    pub(crate) fn spend(&self, now: Instant, spent: Spent) {
        let Spent { took, saved, has_failed } = spent;
        let mut spending = self.spending();
        let most_s = spending.cores * KEPT.as_secs_f64();
        spending.left_s = (spending.left(now) - took.saturating_sub(saved).as_secs_f64()).max(-most_s);
        (spending.since, spending.took, spending.has_failed) = (Some(now), took, has_failed);
    }

    fn spending(&self) -> MutexGuard<'_, Spending> {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spending {
    /// What it may cost at `now`, seconds of a core.
    fn left(&self, now: Instant) -> f64 {
        let earned_s = self.since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64()) * self.cores;
        (self.left_s + earned_s).min(self.cores * KEPT.as_secs_f64())
    }

    /// Whether it may be computed again so soon: what it cost is earned, or its answer would be older than [`KEPT`] once there is a newer
    /// one, which may take a little longer than the last.
    fn may_run(&self, now: Instant) -> bool {
        let due = KEPT - (self.took + SPARE).min(KEPT / 2);
        self.left(now) > 0.0 || self.began.is_none_or(|began| now.saturating_duration_since(began) >= due)
    }
}

impl Entry {
    pub(crate) fn new(computed: Computed, started: Started, question: Arc<Question>, reach: Reach) -> Self {
        let Started { at: began, seen, arrived, late } = started;
        let Computed { result, computed_ms, data_through_ms, as_of, left_out, .. } = computed;
        let Computed { rows_read, is_sampled, excluded_bots, counts_people, shared_for, took, .. } = computed;
        let data_through = data_through_ms.map_or_else(|| "null".to_owned(), |at_ms| format!("\"{}\"", show_ms(at_ms)));
        let shown = |events: Option<u64>| events.map_or_else(|| "null".to_owned(), |events| events.to_string());
        let (excluded_bots, late) = (shown(excluded_bots), shown(late.filter(|_| shared_for.is_none())));
        let mut meta = format!(
            r#""computed_at":"{}","data_through":{data_through},"rows_read":{rows_read},"sampled":{is_sampled},"excluded_bots":{excluded_bots},"late":{late}"#,
            show_ms(computed_ms),
        );
        let warnings: Vec<&str> = left_out.warnings().collect();
        if !warnings.is_empty() {
            meta.push_str(&format!(r#","warnings":{}"#, serde_json::json!(warnings)));
        }
        let began = began.checked_sub(shared_for.unwrap_or_default()).unwrap_or(began);
        let tag = xxh3_64(&result);
        let is_shared = shared_for.is_some();
        Self { question, result, tag, computed_ms, meta, as_of, is_shared, counts_people, began, took, seen, arrived, reach }
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
                age if self.is_shared && !self.reach.looks_back() && age >= KEPT => Verdict::Expired,
                age if age < kept => Verdict::Fresh,
                age if age < kept + KEPT => Verdict::Refresh,
                _ => Verdict::Expired,
            };
        }
        let spending = self.question.spending();
        match spending.may_run(now) {
            // Nobody waits for what takes long while there is an answer.
            true if self.took >= HEAVY && age < KEPT => Verdict::Refresh,
            true => Verdict::Expired,
            false if spending.has_failed || age >= KEPT => Verdict::Stale,
            false => Verdict::Fresh,
        }
    }

    fn is_outdated(&self, arrivals: &DataVersions) -> bool {
        let Self { counts_people, seen, .. } = *self;
        self.reach.has_news(arrivals, Since { project: self.question.key.project, counts_people, seen })
    }

    /// What it costs to keep.
    pub(crate) fn bytes(&self) -> u64 {
        (self.result.len() + self.question.body.len() + self.meta.len() + self.as_of.as_ref().map_or(0, String::len)) as u64 + OVERHEAD
    }
}
