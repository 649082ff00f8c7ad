//! When blocks are sent: those of all partitions of an instance together, for parts cost more than rows.
//!
//! Promises: no row waits longer for company than [`Timetable::due_at`] says, and the blocks that fill at one time hold about
//! as many rows together as one insert takes, however many partitions they come from: memory does not grow with partitions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::BlockLimits;

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

    /// When a block is to be sent at the latest whose first row came at `since`.
    pub(super) fn due_at(&self, since: Instant) -> Instant {
        let Some(passed) = since.duration_since(self.ticks_from).as_nanos().checked_div(self.max_age.as_nanos()) else {
            return since;
        };
        self.ticks_from + self.max_age * u32::try_from(passed + 1).unwrap_or(u32::MAX)
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
        let due_ms = |since_ms| timetable.due_at(start + Duration::from_millis(since_ms)).duration_since(start).as_millis();
        assert_eq!([0, 1, 199, 200, 399].map(due_ms), [200, 200, 200, 400, 400]);
        let at_once = self::timetable(Duration::ZERO);
        assert_eq!(at_once.due_at(start), start);
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
