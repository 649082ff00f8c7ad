//! A failure that repeats is logged when it begins and when it is over, not each time.

use std::time::{Duration, Instant};

/// After so long without a failure the next one is logged again, whether things went well in between or nothing was tried.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// A stretch of time in which something fails.
#[derive(Debug, Default)]
pub struct Outage {
    failures: u64,
    /// When it began, and when it was last noticed.
    span: Option<(Instant, Instant)>,
}

/// An outage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// How often it failed.
    pub failures: u64,
    /// From the first failure until now.
    pub lasted: Duration,
}

impl Outage {
    /// Notes a failure; whether it is the first one, which is to be logged.
    pub fn begins(&mut self) -> bool {
        self.begins_at(Instant::now())
    }

    /// Notes a success; the outage that it ends, which is to be logged.
    pub fn ends(&mut self) -> Option<Over> {
        // Called after every success: without reading the clock.
        self.span?;
        self.ends_at(Instant::now())
    }

    fn begins_at(&mut self, now: Instant) -> bool {
        let known = self.span.filter(|(_, last)| now.saturating_duration_since(*last) < FORGOTTEN_AFTER);
        self.failures = if known.is_some() { self.failures + 1 } else { 1 };
        self.span = Some((known.map_or(now, |(began, _)| began), now));
        known.is_none()
    }

    fn ends_at(&mut self, now: Instant) -> Option<Over> {
        let (began, _) = self.span.take()?;
        Some(Over { failures: std::mem::take(&mut self.failures), lasted: now.saturating_duration_since(began) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_said_when_it_begins_and_when_it_ends() {
        let (start, mut outage) = (Instant::now(), Outage::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outage.ends_at(start), None);
        let said: Vec<bool> = (0..100).map(|second| outage.begins_at(after(second))).collect();
        assert_eq!(said.iter().filter(|said| **said).count(), 1);
        assert!(said[0]);
        assert_eq!(outage.ends_at(after(100)), Some(Over { failures: 100, lasted: Duration::from_secs(100) }));
        assert_eq!(outage.ends_at(after(101)), None);
        assert!(outage.begins_at(after(102)));
    }

    #[test]
    fn one_that_was_not_noticed_for_long_is_said_again() {
        let (start, mut outage) = (Instant::now(), Outage::default());
        assert!(outage.begins_at(start));
        assert!(outage.begins_at(start + FORGOTTEN_AFTER));
        assert_eq!(outage.ends_at(start + FORGOTTEN_AFTER), Some(Over { failures: 1, lasted: Duration::ZERO }));
    }
}
