//! How many events a second each project may send.
//!
//! A bucket for each project: it fills with the rate up to one second's worth, and a request is taken while anything is in it, however
//! many events it has; what it takes too much is paid back before the next one is taken. Promises: a bucket is charged in the same step
//! that looks at it, so requests that come at once do not all pass, and a project never owes more than what one request takes; what the log
//! refuses is given back. Instances that share a Redis put what they take on one debt several times a second and go by what it says, so
//! the rate is that of all together, give or take what comes between two exchanges. Without Redis, or while it is away, each instance
//! counts for itself, and what time has paid off meanwhile is on no debt afterwards. Bounded: one bucket for each project that has a key.

pub(super) mod single;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::ids::ProjectId;
use crate::redis::Redis;

/// Between two exchanges with the other instances.
const EXCHANGE: Duration = Duration::from_millis(200);
/// A project that has asked for nothing for as long, and owes nothing, is not exchanged.
const QUIET: Duration = Duration::from_secs(2);
/// Instances that take one request too many each at the same time: what all of them owe together is never more. A clock of Redis that
/// jumps must not lock a project out.
const MOST_AT_ONCE: u64 = 16;

/// The buckets of all projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct RateLimit {
    /// What is limited; names the debts that instances share.
    name: &'static str,
    /// Events a second.
    rate: f64,
    /// Longest time in which what is owed is paid.
    longest: Duration,
    buckets: Arc<Mutex<HashMap<ProjectId, Bucket>>>,
}

struct Bucket {
    /// Events that may be taken at `at`; below 0: taken too much.
    level: f64,
    at: Instant,
    /// Taken here, not yet added to the shared debt, and not paid off either; below 0: added and then given back.
    unshared: i64,
    asked_at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: f64, now: Instant) {
        self.level = (self.level + rate * now.duration_since(self.at).as_secs_f64()).min(rate);
        self.at = now;
    }

    /// Lets nothing be told to the others that is paid off by `now`: what counts here is all that is owed.
    fn pay_off(&mut self, rate: f64, now: Instant) {
        self.refill(rate, now);
        self.unshared = self.unshared.min((rate - self.level).ceil() as i64);
    }
}

/// Debts that instances share: they grow by what each takes and are paid off by time.
pub(super) trait Debts: Send + Sync + 'static {
    /// Adds time to a debt of at most `longest`; returns what is owed now, or `None` if the store does not answer.
    fn owe(&self, debt: String, micros: i64, longest: Duration) -> impl Future<Output = Option<Duration>> + Send;
}

impl Debts for Redis {
    async fn owe(&self, debt: String, micros: i64, longest: Duration) -> Option<Duration> {
        self.owe(&debt, micros, longest).await
    }
}

impl RateLimit {
    /// `None` if there is no limit. `largest`: most events of one request.
    pub(super) fn new(name: &'static str, events_per_second: u64, largest: usize) -> Option<Self> {
        let owed = MOST_AT_ONCE.saturating_mul(largest as u64).checked_div(events_per_second)?;
        let rate = events_per_second as f64;
        Some(Self { name, rate, longest: Duration::from_secs(owed.saturating_add(1)), buckets: Arc::default() })
    }

    /// The limit, events.
    pub(super) fn per_second(&self) -> f64 {
        self.rate
    }

    /// Whether a request is worth reading; else in how many seconds it is, at least 1.
    pub(super) fn admits(&self, project: ProjectId) -> Result<(), u32> {
        self.look(project, |_| {})
    }

    /// Takes the events of a request; if nothing is left, nothing is taken and the error says in how many seconds there is.
    pub(super) fn charge(&self, project: ProjectId, events: u32) -> Result<(), u32> {
        self.look(project, |bucket| {
            bucket.level -= f64::from(events);
            bucket.unshared += i64::from(events);
        })
    }

    /// Gives back what was taken for a request that was refused after all.
    pub(super) fn give_back(&self, project: ProjectId, events: u32) {
        if let Some(bucket) = self.buckets().get_mut(&project) {
            bucket.level = (bucket.level + f64::from(events)).min(self.rate);
            bucket.unshared -= i64::from(events);
        }
    }

    fn look(&self, project: ProjectId, take: impl FnOnce(&mut Bucket)) -> Result<(), u32> {
        let now = Instant::now();
        let mut buckets = self.buckets();
        let bucket = buckets.entry(project).or_insert(Bucket { level: self.rate, at: now, unshared: 0, asked_at: now });
        bucket.refill(self.rate, now);
        bucket.asked_at = now;
        if bucket.level <= 0.0 {
            return Err((-bucket.level / self.rate).ceil().max(1.0) as u32);
        }
        take(bucket);
        Ok(())
    }

    /// Adds what was taken here to the shared debts, and reads what all instances took.
    async fn exchange_once(&self, debts: &impl Debts) {
        for (project, shared) in self.active() {
            let micros = (shared as f64 * 1e6 / self.rate).round() as i64;
            let owed = debts.owe(format!("{}:{:x}", self.name, project.0), micros, self.longest).await;
            let mut buckets = self.buckets();
            let Some(bucket) = buckets.get_mut(&project) else { continue };
            let Some(owed) = owed else {
                bucket.pay_off(self.rate, Instant::now());
                continue;
            };
            bucket.unshared -= shared;
            bucket.at = Instant::now();
            bucket.level = self.rate * (1.0 - owed.as_secs_f64()) - bucket.unshared as f64;
        }
    }

    /// What each project has taken since the last exchange, of the projects that send at present or owe something.
    fn active(&self) -> Vec<(ProjectId, i64)> {
        let now = Instant::now();
        let mut buckets = self.buckets();
        buckets.values_mut().for_each(|bucket| bucket.refill(self.rate, now));
        let is_active = |bucket: &Bucket| bucket.unshared != 0 || bucket.level < self.rate || now.duration_since(bucket.asked_at) <= QUIET;
        buckets.iter().filter(|(_, bucket)| is_active(bucket)).map(|(project, bucket)| (*project, bucket.unshared)).collect()
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<ProjectId, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exchanges with the other instances until asked to stop.
pub(super) async fn exchange(limits: Vec<RateLimit>, debts: impl Debts, stop: CancellationToken) -> Result<(), Infallible> {
    while stop.run_until_cancelled(tokio::time::sleep(EXCHANGE)).await.is_some() {
        for limit in &limits {
            limit.exchange_once(&debts).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
