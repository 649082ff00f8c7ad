//! Pauses between attempts at something that fails for now.

use std::time::Duration;

/// Exponential backoff with full jitter: each pause is drawn evenly below a ceiling that doubles up to a limit, so that many who
/// failed together do not try again together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first pause is shorter than `first`, and none is longer than `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, ceiling: first }
    }

    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.longest);
        // Without a source of random numbers all wait for the longest time.
        let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        ceiling.mul_f64(share)
    }

    /// It works again: the next failure is the first one.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_success() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, longest);
        for ceiling in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            assert!(backoff.next_pause() <= Duration::from_millis(ceiling));
        }
        assert!((0..100).any(|_| backoff.next_pause() > longest / 2), "not all are short");
        backoff.reset();
        assert!(backoff.next_pause() <= first);
    }

    #[test]
    fn two_that_failed_together_do_not_try_again_together() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_ne!(backoff.next_pause(), backoff.next_pause());
    }
}
