//! When blocks are sent: those of all partitions of an instance together, for parts cost more than rows.
//!
//! Promises: no row waits longer for company than [`Timetable::due_at`] says; one that is late already waits longer, by a part of
//! its lateness at most, because fewer and larger blocks are what catches up soonest; and the blocks that fill at one time hold about
//! as many rows together as one insert takes, however many partitions they come from: memory does not grow with partitions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::BlockLimits;

/// A late row may wait for this part of its lateness.
const LATE_PART: u32 = 10;
/// And for this many times the greatest age of a block at most.
const LATE_AGES: u32 = 10;

/// The departures of one instance. Shared by its partitions.
#[derive(Debug)]
pub(super) struct Timetable {
    /// Blocks are due at whole multiples of their greatest age from here.
    ticks_from: Instant,
    max_age: Duration,
    max_rows: usize,
    /// Rows that gathered since the last departure.
    gathered: AtomicUsize,
    departures: AtomicU64,
}

impl Timetable {
    pub(super) fn new(limits: &BlockLimits) -> Self {
        let BlockLimits { max_age, max_rows, .. } = *limits;
        Self { ticks_from: Instant::now(), max_age, max_rows, gathered: AtomicUsize::new(0), departures: AtomicU64::new(0) }
    }

    /// When a block is to be sent at the latest whose first row came at `since`, so long after its receipt.
    pub(super) fn due_at(&self, since: Instant, late: Duration) -> Instant {
        let Some(ages) = late.as_nanos().checked_div((self.max_age * LATE_PART).as_nanos()) else { return since };
        let age = self.max_age * u32::try_from(ages).unwrap_or(u32::MAX).clamp(1, LATE_AGES);
        let passed = since.duration_since(self.ticks_from).as_nanos() / age.as_nanos();
        self.ticks_from + age * u32::try_from(passed + 1).unwrap_or(u32::MAX)
    }

    /// Notes rows of any partition; together with those before they may be enough for a departure.
    pub(super) fn gather(&self, rows: usize) {
        if self.gathered.fetch_add(rows, Ordering::Relaxed) + rows >= self.max_rows {
            self.gathered.store(0, Ordering::Relaxed);
            self.departures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Departures so far: a block is due once there is one more than when it began.
    pub(super) fn departures(&self) -> u64 {
        self.departures.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(max_age: Duration) -> Timetable {
        Timetable::new(&BlockLimits { max_rows: 10, max_age, dedupe_memory: 0 })
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_are_due_at_common_ticks_and_none_waits_longer_than_one() {
        let timetable = timetable(Duration::from_millis(200));
        let start = Instant::now();
        let due_ms = |(since_ms, late)| timetable.due_at(start + Duration::from_millis(since_ms), late).duration_since(start).as_millis();
        assert_eq!([0, 1, 199, 200, 399].map(|since_ms| due_ms((since_ms, Duration::ZERO))), [200, 200, 200, 400, 400]);
        let late = [0, 1_999, 3_999, 4_000, 19_999, 20_000, u64::MAX].map(|late_ms| due_ms((399, Duration::from_millis(late_ms))));
        assert_eq!(late, [400, 400, 400, 400, 1_800, 2_000, 2_000]);
        let at_once = self::timetable(Duration::ZERO);
        assert_eq!(at_once.due_at(start, Duration::ZERO), start);
    }

    #[test]
    fn rows_of_all_partitions_make_a_departure() {
        let timetable = timetable(Duration::ZERO);
        let departures: Vec<u64> = [4, 5, 1, 9, 30, 3]
            .into_iter()
            .map(|rows| {
                timetable.gather(rows);
                timetable.departures()
            })
            .collect();
        assert_eq!(departures, [0, 0, 1, 1, 2, 2]);
    }
}
