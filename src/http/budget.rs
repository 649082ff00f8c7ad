//! How many bytes of bodies the process holds at a time.
//!
//! Promises: what all requests together hold never exceeds the limit; what does not fit is refused at once and may be sent again, never
//! waited for. Large bodies leave a quarter to small ones and imports leave half to everything else, so that neither locks out
//! clients that send an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::respond::ApiError;

/// A body up to this size may use all of the budget: a batch of a browser or of a small server.
const SMALL: usize = 256 << 10;
/// Seconds after which a refused request may be tried again.
const RETRY_AFTER: u32 = 1;

/// The kind of request a body belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Of a client that waits for its answer.
    #[default]
    Live,
    /// Of an import, which can wait.
    Import,
}

/// The budget of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// What one request holds of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    claim: Claim,
    held: usize,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0) }))
    }

    pub(super) fn share(&self, claim: Claim) -> Share {
        Share { budget: self.clone(), claim, held: 0 }
    }

    /// Largest body that an import may be sure to get in when nothing else is there; larger live ones fit too.
    pub(super) const fn largest(limit: usize) -> usize {
        limit / 2
    }
}

impl Share {
    /// Holds `bytes` in all from now on. Errors: the budget is used up.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        let Inner { limit, used } = &*self.budget.0;
        if bytes <= self.held {
            used.fetch_sub(self.held - bytes, Ordering::Relaxed);
            self.held = bytes;
            return Ok(());
        }
        let ceiling = match self.claim {
            Claim::Import => Budget::largest(*limit),
            Claim::Live if bytes > SMALL => limit / 4 * 3,
            Claim::Live => *limit,
        };
        let more = bytes - self.held;
        let take = |used: usize| used.checked_add(more).filter(|sum| *sum <= ceiling);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let message = "too many large requests at a time; nothing was accepted, try again";
            return Err(ApiError::unavailable("overloaded", message, RETRY_AFTER));
        }
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 << 20;

    fn used(budget: &Budget) -> usize {
        budget.0.used.load(Ordering::Relaxed)
    }

    #[test]
    fn large_bodies_and_imports_leave_room_for_an_event() {
        let budget = Budget::new(LIMIT);
        let mut shares = Vec::new();
        for claim in [Claim::Import, Claim::Live] {
            while {
                let mut share = budget.share(claim);
                let is_held = share.hold(1 << 20).is_ok();
                shares.push(share);
                is_held
            } {}
            let expected = if claim == Claim::Import { LIMIT / 2 } else { LIMIT / 4 * 3 };
            assert_eq!(used(&budget), expected, "{claim:?}");
        }
        let mut event = budget.share(Claim::Live);
        assert_eq!(event.hold(SMALL), Ok(()));
        let refused = budget.share(Claim::Import).hold(1).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(1)));
        drop((shares, event));
        assert_eq!(used(&budget), 0);
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_the_shares_and_within_the_limit(
            steps in prop::collection::vec((0..6_usize, 0..2 * LIMIT, any::<bool>()), 1..60),
        ) {
            let budget = Budget::new(LIMIT);
            let claims = [Claim::Live, Claim::Live, Claim::Import, Claim::Import, Claim::Live, Claim::Live];
            let mut shares = claims.map(|claim| budget.share(claim));
            let mut held = [0_usize; 6];
            for (which, bytes, drops) in steps {
                if drops {
                    shares[which] = budget.share(claims[which]);
                    held[which] = 0;
                } else if shares[which].hold(bytes).is_ok() {
                    held[which] = bytes;
                }
                prop_assert_eq!(used(&budget), held.iter().sum::<usize>());
                prop_assert!(used(&budget) <= LIMIT);
            }
        }
    }
}
