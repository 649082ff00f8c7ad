//! When blocks are flushed: those of all partitions of an instance at the same moments, because parts cost more than rows.
//!
//! Promises: a block waits for more rows until [`FlushSchedule::due_at`] at most. A block whose rows are late already waits longer, by
//! a fraction of the delay at most, because fewer and larger blocks catch up soonest. The blocks that fill at one time hold about
//! as much together as one insert takes, in rows and in bytes, however many partitions they come from: memory grows neither with
//! partitions nor with the size of events.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::BlockLimits;

/// A late row waits for one part in so many of its delay.
const DELAY_PARTS: u32 = 10;
/// And for so many times the greatest age of a block at most.
const MOST_AGES: u32 = 10;

/// The flushes of one instance. Shared by its partitions.
#[derive(Debug)]
pub(super) struct FlushSchedule {
    /// Blocks are due at whole multiples of their greatest age from here.
    ticks_from: Instant,
    max_age: Duration,
    max_rows: usize,
    max_bytes: usize,
    /// Weight of all partitions' rows since the last flush.
    gathered: AtomicUsize,
    flushes: AtomicU64,
}

impl FlushSchedule {
    pub(super) fn new(limits: &BlockLimits) -> Self {
        let BlockLimits { max_age, max_rows, max_bytes, .. } = *limits;
        Self { ticks_from: Instant::now(), max_age, max_rows, max_bytes, gathered: AtomicUsize::new(0), flushes: AtomicU64::new(0) }
    }

    /// When to flush a block at the latest: its first row was read at `since`, `late` after it was received.
    pub(super) fn due_at(&self, since: Instant, late: Duration) -> Instant {
        let Some(ages) = late.as_nanos().checked_div((self.max_age * DELAY_PARTS).as_nanos()) else { return since };
        let age = self.max_age * u32::try_from(ages).unwrap_or(u32::MAX).clamp(1, MOST_AGES);
        let passed = since.duration_since(self.ticks_from).as_nanos() / age.as_nanos();
        self.ticks_from + age * u32::try_from(passed + 1).unwrap_or(u32::MAX)
    }

    /// How much of a flush that many rows and bytes are, in rows: large events count as several.
    pub(super) fn weight(&self, rows: usize, bytes: usize) -> usize {
        rows.max(bytes.saturating_mul(self.max_rows) / self.max_bytes.max(1))
    }

    /// Counts rows of any partition by their weight; `max_rows` make a flush.
    pub(super) fn gather(&self, weight: usize) {
        if self.gathered.fetch_add(weight, Ordering::Relaxed) + weight >= self.max_rows {
            self.gathered.store(0, Ordering::Relaxed);
            self.flushes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of flushes so far: a block is full once it is higher than when the block began.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(max_age: Duration) -> FlushSchedule {
        FlushSchedule::new(&BlockLimits {
            max_rows: 10,
            max_bytes: 1_000,
            max_age,
            memory: crate::load::LoadConfig::default().check(&Default::default()).unwrap().memory,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_are_due_at_common_ticks_and_none_waits_longer_than_one() {
        let schedule = schedule(Duration::from_millis(200));
        let start = Instant::now();
        let due_ms = |(since_ms, late)| schedule.due_at(start + Duration::from_millis(since_ms), late).duration_since(start).as_millis();
        assert_eq!([0, 1, 199, 200, 399].map(|since_ms| due_ms((since_ms, Duration::ZERO))), [200, 200, 200, 400, 400]);
        let late = [0, 1_999, 3_999, 4_000, 19_999, 20_000, u64::MAX].map(|late_ms| due_ms((399, Duration::from_millis(late_ms))));
        assert_eq!(late, [400, 400, 400, 400, 1_800, 2_000, 2_000]);
        let at_once = self::schedule(Duration::ZERO);
        assert_eq!(at_once.due_at(start, Duration::ZERO), start);
    }

    #[test]
    fn rows_of_all_partitions_make_a_flush() {
        let schedule = schedule(Duration::ZERO);
        let flushes: Vec<u64> = [4, 5, 1, 9, 30, 3]
            .into_iter()
            .map(|rows| {
                schedule.gather(rows);
                schedule.flushes()
            })
            .collect();
        assert_eq!(flushes, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn large_events_make_a_flush_before_there_are_many() {
        let schedule = schedule(Duration::ZERO);
        let weights = [(1, 99), (1, 100), (1, 500), (9, 99), (3, usize::MAX)].map(|(rows, bytes)| schedule.weight(rows, bytes));
        assert_eq!(weights[..4], [1, 1, 5, 9]);
        assert!(weights[4] >= 10);
        schedule.gather(schedule.weight(1, 1_000));
        assert_eq!(schedule.flushes(), 1);
    }
}
