//! Answers kept and given again to the same question.
//!
//! **The same question** has the same project and the same checked plan, however it was spelled: key order, defaults, aliases of a
//! field. A bound that moves with the clock counts as its distance from now, so `-7d` and `-168h` are the same, now and a minute
//! later; such an answer lags by at most [`KEPT`], the shortest bucket.
//!
//! **Freshness.** An answer is outdated once events of its project and of its times have become readable since it was begun, which
//! [`DataVersions`] knows to the block, or, of an answer that counts people, once other ids belong to one person. So:
//! * of what was there before (`as_of`) nothing arrives, and persons are who they were: only a ruling on them by hand outdates it.
//! * nothing arrived: the answer is kept for [`KEPT`], of a closed range for [`KEPT_CLOSED`] (late events are arrivals like all
//!   others; the hour bounds changes that no arrival announces, such as expiry). After that it still answers for another [`KEPT`]
//!   while one refresh runs.
//! * something arrived: the answer is computed anew at once, so a client that has seen an event stored sees it counted. To bound the
//!   cost of a question however many clients ask it, it may keep `query.max_cores_per_question` busy over [`KEPT`]: who asks more than that
//!   gets the last answer, for twenty times as long as it took (by default), and never for longer than [`KEPT`]; marked `stale` if
//!   computing a newer one has failed.
//! * an answer of now that another instance computed is never kept for longer than [`KEPT`], whatever its range.
//! * a heavy question ([`HEAVY`]) is refreshed in the background: nobody waits for it while there is an answer.
//! * `"refresh": true` in the request computes anew in any case.
//!
//! **Single flight.** Equal questions that come at once share one execution, as long as nothing arrived since it began: all get its
//! answer or its error; an error is not kept. The execution lives in its waiters: it goes on when the first of them leaves and is
//! cancelled when the last does. A question that may not share it starts a second one, never a third.
//!
//! **Overload**: where computing fails because the store is away or too busy, the last answer is given whatever its age, marked
//! `stale`. May go wrong: memory; it is bounded by bytes, the least asked answers are evicted first.

mod entry;
mod flight;
mod redis;
mod shared;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync};
use tokio::time::Instant;

pub(crate) use self::entry::{Computed, Entry, Question};
use self::entry::{Spent, Started, Verdict};
use self::flight::{Flight, Flights, Slot};
pub(crate) use self::shared::SharedSlot;
pub use self::shared::{SharedCache, SharedValue};
use super::ask::Range;
use super::error::QueryError;
use crate::event::ids::ProjectId;
use crate::lifecycle::spawn_short;
use crate::metrics::Counter;
use crate::store::data_version::{DataVersions, QUARTER_MS, Quarter, Span, Version};

/// How long an answer is kept while nothing arrives.
const KEPT: Duration = Duration::from_secs(60);
/// The same for a range that lies in the past and stays there.
const KEPT_CLOSED: Duration = Duration::from_secs(3600);
/// What arrives so soon after its quarter of an hour is not late: that is how long clients and the log take.
const ON_TIME_MS: i64 = 60_000;
/// From here on a question is heavy.
const HEAVY: Duration = Duration::from_secs(3);
/// Shares of the memory, each with a lock. An answer larger than a share is not kept.
const SHARDS: usize = 4;

/// Identity of a question: the project, and a hash of the canonical form of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) project: ProjectId,
    pub(crate) plan: u128,
}

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// What decides it; in order, and none overlaps another.
    spans: Vec<Span>,
    /// The whole quarters of an hour of the question's own ranges that were over when it was asked: what arrives for them is late. In
    /// order, and none overlaps another; none if there is no such quarter.
    counted: Option<Vec<Span>>,
    is_closed: bool,
    /// It is of what was there before: nothing that arrives decides it.
    looks_back: bool,
}

impl Reach {
    /// The times of a question's `own` ranges, and of `others` that decide its answer too; one that follows now reaches all times to come.
    pub(crate) fn of(own: &[&Range], others: &[Range], now_ms: i64) -> Self {
        let last = |range: &Range| if range.follows_now() { Quarter::MAX } else { DataVersions::quarter(range.until_ms - 1) };
        let span = |range: &Range| DataVersions::quarter(range.from_ms)..=last(range);
        let ranges = || own.iter().copied().chain(others);
        let is_closed = ranges().all(|range| range.stays() && range.until_ms <= now_ms);
        let counted = merged(own.iter().filter_map(|range| whole_quarters(range.from_ms, range.until_ms.min(now_ms - ON_TIME_MS))));
        let counted = Some(counted).filter(|spans| !spans.is_empty());
        Self { spans: merged(ranges().map(span)), counted, is_closed, looks_back: false }
    }

    /// Of what was there before: nothing that arrives decides it.
    pub(crate) fn looking_back() -> Self {
        Self { spans: Vec::new(), counted: None, is_closed: true, looks_back: true }
    }

    /// Whether it is of what was there before.
    pub(crate) fn looks_back(&self) -> bool {
        self.looks_back
    }

    /// Whether what decides it may have changed since `seen`; `counts_people` if who is who does, too.
    fn has_news(&self, arrivals: &DataVersions, of: Since) -> bool {
        let Since { project, counts_people, seen } = of;
        if self.looks_back() {
            return counts_people && arrivals.people_before_since(project, seen);
        }
        counts_people && arrivals.people_since(project, seen) || arrivals.any_since(project, &self.spans, seen)
    }
}

/// Whose answer, and since when.
#[derive(Clone, Copy, Debug)]
struct Since {
    project: ProjectId,
    counts_people: bool,
    seen: Version,
}

/// The quarters of an hour that lie between two instants as a whole.
fn whole_quarters(from_ms: i64, until_ms: i64) -> Option<Span> {
    let (first, end) = (DataVersions::quarter(from_ms + QUARTER_MS - 1), DataVersions::quarter(until_ms));
    (first < end).then(|| first..=end - 1)
}

/// Spans in order, those that touch put together.
fn merged(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable_by_key(|span| *span.start());
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if *span.start() <= last.end().saturating_add(1) => *last = *last.start()..=*last.end().max(span.end()),
            _ => merged.push(span),
        }
    }
    merged
}

/// A question put to the cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheRequest<'a> {
    pub(crate) key: Key,
    pub(crate) reach: Reach,
    pub(crate) report: &'a str,
    pub(crate) body: &'a [u8],
    /// Compute it whatever is kept.
    pub(crate) refresh: bool,
    /// Keep the answer.
    pub(crate) keep: bool,
}

/// An answer, and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) entry: Arc<Entry>,
    pub(crate) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Computed for this question or others that waited with it.
    Store,
    /// Kept, and as fresh as promised.
    Cache,
    /// Kept, and outdated: the store is away or too busy, or computing a new answer has failed.
    Stale,
}

/// The answers kept and the executions under way. Shared.
pub(crate) struct Cache {
    entries: sync::Cache<Key, Arc<Entry>, ByBytes>,
    flights: Flights,
    arrivals: Arc<DataVersions>,
    cores_per_question: f64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Entry>> for ByBytes {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.bytes()
    }
}

impl Cache {
    /// Keeps up to `bytes` of answers; 0 keeps none. One question keeps that many cores busy at most.
    pub(crate) fn new(bytes: u64, cores_per_question: f64, arrivals: Arc<DataVersions>) -> Self {
        // Guessed from an answer of some kilobytes; wrong guesses cost a rehash.
        let items = usize::try_from(bytes / 8_192).unwrap_or(usize::MAX).clamp(64, 65_536);
        let mut options = OptionsBuilder::new();
        let options = options.shards(SHARDS).estimated_items_capacity(items).weight_capacity(bytes).build();
        let options = options.unwrap_or_else(|_| unreachable!("all that is needed is given"));
        let entries = sync::Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), sync::DefaultLifecycle::default());
        Self { entries, flights: Flights::default(), arrivals, cores_per_question }
    }

    /// Answers `request`, from the kept answer or by `compute`.
    ///
    /// # Errors
    /// As `compute` ends, for all who waited for it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the computation, unless others wait for it.
    pub(crate) async fn answer<F>(self: &Arc<Self>, request: CacheRequest<'_>, compute: impl FnOnce() -> F) -> Result<Served, QueryError>
    where
        F: Future<Output = Result<Computed, QueryError>> + Send + 'static,
    {
        let kept = self.entries.get(&request.key);
        if let Some(entry) = kept.as_ref().filter(|_| !request.refresh) {
            entry.question.asks.fetch_add(1, Ordering::Relaxed);
            match entry.verdict(&self.arrivals, Instant::now()) {
                Verdict::Expired => {}
                Verdict::Stale => return Ok(stale(Arc::clone(entry))),
                verdict => {
                    if verdict == Verdict::Refresh {
                        self.refresh(request, compute);
                    }
                    Counter::CacheHits.add(1);
                    return Ok(Served { entry: Arc::clone(entry), source: Source::Cache });
                }
            }
        }
        match self.join(request, kept.as_ref(), compute).await {
            Ok(entry) => Ok(Served { entry, source: Source::Store }),
            Err(problem) => match kept.filter(|_| problem.is_overload()) {
                Some(entry) => Ok(stale(entry)),
                None => Err(problem),
            },
        }
    }

    /// Computes in the background, unless it is being computed already.
    fn refresh<F>(self: &Arc<Self>, request: CacheRequest<'_>, compute: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Computed, QueryError>> + Send + 'static,
    {
        if self.flights.is_running(&request.key) {
            return;
        }
        let kept = self.entries.peek(&request.key);
        let flight = self.join(request, kept.as_ref(), compute);
        spawn_short(async move {
            if let Err(problem) = flight.await {
                tracing::debug!(%problem, "background refresh");
            }
        });
    }

    /// The execution that may answer `request`: one under way, or a new one.
    fn join<F>(self: &Arc<Self>, request: CacheRequest<'_>, kept: Option<&Arc<Entry>>, compute: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Result<Computed, QueryError>> + Send + 'static,
    {
        let (key, reach) = (request.key, request.reach.clone());
        // It is not known yet whether the one under way depends on who is who.
        let is_overtaken = |seen| reach.has_news(&self.arrivals, Since { project: key.project, counts_people: true, seen });
        self.flights.join(key, self.arrivals.now(), is_overtaken, |slot| {
            let question =
                kept.map_or_else(|| Arc::new(Question::new(&request, self.cores_per_question)), |entry| Arc::clone(&entry.question));
            question.begin(Instant::now());
            Counter::CacheMisses.add(1);
            let arrived = self.arrived(key.project, &request.reach, slot.seen());
            let late = kept.and_then(|entry| self.late(entry));
            let (reach, keep) = (request.reach, request.keep);
            let execution = Execution { cache: Arc::clone(self), question, reach, keep, slot, arrived, late };
            execution.run(compute()).boxed().shared()
        })
    }

    /// How many events that a question counts as late were noted so far; none if some whose number is not known arrived since `seen`.
    fn arrived(&self, project: ProjectId, reach: &Reach, seen: Version) -> Option<u64> {
        self.arrivals.events(project, reach.counted.as_ref()?, seen)
    }

    /// How many events arrived since the answer before was begun for what was over by then.
    fn late(&self, before: &Entry) -> Option<u64> {
        // None of them may have been forgotten meanwhile.
        self.arrived(before.question.key.project, &before.reach, before.seen)?.checked_sub(before.arrived?)
    }

    /// Of the questions asked most since the last call those whose answers expire `within` that time, the most asked first.
    pub(crate) fn popular(&self, within: Duration, limit: usize) -> Vec<Arc<Question>> {
        let now = Instant::now();
        let mut popular: Vec<(u32, Arc<Question>)> = Vec::new();
        for (_, entry) in self.entries.iter() {
            let asks = entry.question.asks.swap(0, Ordering::Relaxed);
            if asks >= POPULAR && entry.verdict(&self.arrivals, now + within) != Verdict::Fresh {
                popular.push((asks, Arc::clone(&entry.question)));
            }
        }
        popular.sort_by_key(|(asks, _)| std::cmp::Reverse(*asks));
        popular.into_iter().take(limit).map(|(_, question)| question).collect()
    }
}

fn stale(entry: Arc<Entry>) -> Served {
    Counter::CacheStale.add(1);
    Served { entry, source: Source::Stale }
}

/// A question asked this often between two sweeps is refreshed in the background.
const POPULAR: u32 = 3;

/// One computation on its way.
struct Execution {
    cache: Arc<Cache>,
    question: Arc<Question>,
    reach: Reach,
    keep: bool,
    /// Its slot among those under way; freed when it ends, however it ends.
    slot: Slot,
    arrived: Option<u64>,
    late: Option<u64>,
}

impl Execution {
    async fn run(self, computing: impl Future<Output = Result<Computed, QueryError>>) -> Result<Arc<Entry>, QueryError> {
        let Self { cache, question, reach, keep, slot, arrived, late } = self;
        let began = Instant::now();
        let metered = Metered { question: &question, began, has_ended: false };
        let computed = computing.await;
        metered.end(&computed);
        let started = Started { at: began, seen: slot.seen(), arrived, late };
        let entry = Arc::new(Entry::new(computed?, started, Arc::clone(&question), reach));
        if keep {
            cache.entries.insert(question.key, Arc::clone(&entry));
        }
        Ok(entry)
    }
}

/// A computation whose cost is counted, also if all who wait for it leave.
struct Metered<'a> {
    question: &'a Question,
    began: Instant,
    has_ended: bool,
}

impl Metered<'_> {
    fn end(mut self, computed: &Result<Computed, QueryError>) {
        let (took, saved) = match computed {
            Ok(computed) => (computed.took, computed.saved),
            // It was refused before it began.
            Err(problem) if problem.has_cost_nothing() => Default::default(),
            Err(_) => (self.began.elapsed(), Duration::ZERO),
        };
        self.question.spend(Instant::now(), Spent { took, saved, has_failed: computed.is_err() });
        self.has_ended = true;
    }
}

impl Drop for Metered<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.question.spend(Instant::now(), Spent { took: self.began.elapsed(), saved: Duration::ZERO, has_failed: false });
        }
    }
}

#[cfg(test)]
mod tests;
