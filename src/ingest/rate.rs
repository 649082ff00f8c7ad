//! How many events a second each project may send.
//!
//! A bucket for each project: it fills with the rate up to one second's worth, and a request is taken while anything is in it,
//! however large the request is; what it takes too much is paid back before the next one is taken. Instances that share a Redis
//! tell each other several times a second what they took, so the rate is that of all together, give or take what comes between two
//! exchanges. Without Redis, or while it is away, each instance counts for itself. Bounded: one bucket for each project that has a key.

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
/// A project that sent nothing for as long starts afresh: what others took meanwhile is long paid.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// How long Redis keeps a count that nobody adds to.
const KEPT: Duration = Duration::from_secs(60);

/// The buckets of all projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct RateLimit {
    /// Events a second.
    rate: f64,
    buckets: Arc<Mutex<HashMap<ProjectId, Bucket>>>,
}

struct Bucket {
    /// Events that may be taken at `at`; below 0: taken too much.
    level: f64,
    at: Instant,
    /// Taken and not yet told to the others.
    untold: u64,
    used_at: Instant,
    /// The count of all instances at the last exchange.
    total: Option<u64>,
}

impl Bucket {
    fn full(rate: f64, now: Instant) -> Self {
        Self { level: rate, at: now, untold: 0, used_at: now, total: None }
    }

    fn refill(&mut self, rate: f64, now: Instant) {
        self.level = (self.level + rate * now.duration_since(self.at).as_secs_f64()).min(rate);
        self.at = now;
    }

    /// All instances together have now taken `total`, `told` of them this one since the last exchange.
    fn exchanged(&mut self, rate: f64, (total, told): (u64, u64)) {
        // Less than before: Redis came back empty.
        let others = self.total.and_then(|before| total.checked_sub(before)).map_or(0, |both| both.saturating_sub(told));
        self.total = Some(total);
        // However much the others took, nobody waits for longer than their share of a few seconds.
        self.level = (self.level - others as f64).max(self.level.min(-rate));
    }
}

impl RateLimit {
    /// `None` if there is no limit.
    pub(super) fn new(events_per_second: u64) -> Option<Self> {
        (events_per_second > 0).then(|| Self { rate: events_per_second as f64, buckets: Arc::default() })
    }

    /// Whether a request may be taken; else in how many seconds, at least 1.
    pub(super) fn admits(&self, project: ProjectId) -> Result<(), u32> {
        let now = Instant::now();
        let mut buckets = self.buckets();
        let bucket = buckets.entry(project).or_insert_with(|| Bucket::full(self.rate, now));
        bucket.refill(self.rate, now);
        if bucket.level > 0.0 { Ok(()) } else { Err((-bucket.level / self.rate).ceil().max(1.0) as u32) }
    }

    /// Takes the events of a request that was admitted.
    pub(super) fn take(&self, project: ProjectId, events: u32) {
        let now = Instant::now();
        if let Some(bucket) = self.buckets().get_mut(&project) {
            bucket.level -= f64::from(events);
            bucket.untold += u64::from(events);
            if now.duration_since(bucket.used_at) > FORGOTTEN {
                bucket.total = None;
            }
            bucket.used_at = now;
        }
    }

    /// Exchanges counts with the other instances until asked to stop.
    pub(super) async fn exchange(self, redis: Redis, stop: CancellationToken) -> Result<(), Infallible> {
        while stop.run_until_cancelled(tokio::time::sleep(EXCHANGE)).await.is_some() {
            for (project, told) in self.untold() {
                let total = redis.add(&format!("rate:{:x}", project.0), told, KEPT).await;
                if let (Some(total), Some(bucket)) = (total, self.buckets().get_mut(&project)) {
                    bucket.untold -= told.min(bucket.untold);
                    bucket.exchanged(self.rate, (total, told));
                }
            }
        }
        Ok(())
    }

    /// What is to be told, of the projects that send at present.
    fn untold(&self) -> Vec<(ProjectId, u64)> {
        let now = Instant::now();
        let is_used = |bucket: &Bucket| now.duration_since(bucket.used_at) <= FORGOTTEN;
        self.buckets().iter().filter(|(_, bucket)| is_used(bucket)).map(|(project, bucket)| (*project, bucket.untold)).collect()
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<ProjectId, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProjectId = ProjectId(1);

    #[tokio::test(start_paused = true)]
    async fn a_project_gets_its_rate_and_no_other_suffers() {
        let limit = RateLimit::new(100).unwrap();
        let mut taken = 0;
        for _ in 0..1_000 {
            if limit.admits(ONE).is_ok() {
                limit.take(ONE, 7);
                taken += 7;
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        // Ten seconds, and the second's worth that was there at the beginning.
        assert!((1_090..=1_107).contains(&taken), "{taken}");
        assert_eq!(limit.admits(ProjectId(2)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_larger_than_the_rate_is_taken_and_paid_back() {
        let limit = RateLimit::new(100).unwrap();
        assert_eq!(limit.admits(ONE), Ok(()));
        limit.take(ONE, 450);
        assert_eq!(limit.admits(ONE), Err(4));
        tokio::time::advance(Duration::from_millis(3_600)).await;
        assert_eq!(limit.admits(ONE), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_take_counts_and_a_count_that_was_lost_does_not() {
        let limit = RateLimit::new(100).unwrap();
        assert_eq!(limit.admits(ONE), Ok(()));
        limit.take(ONE, 10);
        let level = |limit: &RateLimit| limit.buckets()[&ONE].level;
        let exchanged = |total| limit.buckets().get_mut(&ONE).unwrap().exchanged(100.0, (total, 10));
        exchanged(1_000);
        assert_eq!(level(&limit), 90.0, "what was counted before is not ours to pay");
        exchanged(1_060);
        assert_eq!(level(&limit), 40.0, "50 were of others");
        exchanged(20);
        assert_eq!(level(&limit), 40.0, "Redis came back empty");
        exchanged(1_000_000);
        assert_eq!(level(&limit), -100.0, "nobody waits for long");
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(RateLimit::new(0).is_none());
    }
}
