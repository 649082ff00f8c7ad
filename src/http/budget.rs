//! How many bytes of bodies the process holds at a time.
//!
//! Promises: what all requests together hold never exceeds the limit; what does not fit is refused at once and may be sent again, never
//! waited for. Large bodies leave a quarter to small ones; imports, and clients that have shown no key, leave half to everything else, and
//! one such client leaves half of that to the others, so that none of them locks out a client that sends an event.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection_limit::client;
use super::overload::Overload;
use super::respond::ApiError;
use crate::byte_budget::ByteBudget;

/// The kind of request a body belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Of a client that waits for its answer.
    #[default]
    Live,
    /// Of an import, which can wait.
    Import,
    /// Of a client at this address that has shown no key yet: its key stands in the body.
    Unauthorized(IpAddr),
}

/// The budget of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: ByteBudget,
    /// What clients hold that have shown no key, by client.
    unauthorized: Mutex<HashMap<IpAddr, usize>>,
    overload: Overload,
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
        Self(Arc::new(Inner { bytes: ByteBudget::new(limit), unauthorized: Mutex::default(), overload: Overload::default() }))
    }

    /// After how many seconds a client may try again that is refused for want of room, here or for want of connections.
    pub(super) fn retry_after(&self) -> u32 {
        self.0.overload.retry_after()
    }

    pub(super) fn share(&self, claim: Claim) -> Share {
        Share { budget: self.clone(), claim, held: 0 }
    }

    /// Most bytes of one body, on the wire and inflated, that can ever be held together; more would be refused each time.
    pub(super) fn largest_of(&self, claim: Claim) -> usize {
        match claim {
            Claim::Unauthorized(_) => self.largest_of_client() / 2,
            Claim::Live | Claim::Import => usize::MAX,
        }
    }

    /// Most bytes of a large body, on the wire and inflated, that get in when nothing else is there.
    pub(super) fn largest_large(&self) -> usize {
        self.0.bytes.limit() / 8 * 3
    }

    /// What one client may hold that has shown no key.
    fn largest_of_client(&self) -> usize {
        self.0.bytes.limit() / 4
    }

    /// Largest body that an import may be sure to get in when nothing else is there; larger live ones fit too.
    pub(super) const fn largest(limit: usize) -> usize {
        limit / 2
    }
}

impl Share {
    /// Holds `bytes` in all from now on. Errors: the budget is used up.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        let all = &self.budget.0.bytes;
        if bytes <= self.held {
            self.release(self.held - bytes);
            return Ok(());
        }
        let ceiling = match self.claim {
            Claim::Import | Claim::Unauthorized(_) => Budget::largest(all.limit()),
            Claim::Live => all.ceiling(bytes),
        };
        let more = bytes - self.held;
        let is_held = self.hold_of_client(more) && {
            let is_within = all.take_within(more, ceiling);
            if !is_within {
                self.release_of_client(more);
            }
            is_within
        };
        if !is_held {
            let message = "too many large requests at a time; nothing was accepted, try again";
            return Err(ApiError::unavailable("overloaded", message, self.budget.retry_after()));
        }
        self.held = bytes;
        Ok(())
    }
}

impl Share {
    fn release(&mut self, bytes: usize) {
        self.budget.0.bytes.give_back(bytes);
        self.held -= bytes;
        self.release_of_client(bytes);
    }

    /// Holds bytes for a client that has shown no key; `false` if it has its share. Others have no share of their own.
    fn hold_of_client(&self, bytes: usize) -> bool {
        let Claim::Unauthorized(address) = self.claim else { return true };
        let mut clients = self.clients();
        let sum = clients.get(&client(address)).copied().unwrap_or(0).saturating_add(bytes);
        let is_within = sum <= self.budget.largest_of_client();
        if is_within {
            clients.insert(client(address), sum);
        }
        is_within
    }

    fn release_of_client(&self, bytes: usize) {
        let Claim::Unauthorized(address) = self.claim else { return };
        let mut clients = self.clients();
        if let Some(held) = clients.get_mut(&client(address)) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                clients.remove(&client(address));
            }
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.budget.0.unauthorized.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release(self.held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 << 20;

    fn used(budget: &Budget) -> usize {
        budget.0.bytes.held()
    }

    #[test]
    fn clients_that_have_shown_no_key_have_a_part_of_the_budget_and_each_of_them_a_part_of_it() {
        let budget = Budget::new(LIMIT);
        let claim = |last: u8| Claim::Unauthorized([192, 0, 2, last].into());
        let hold = |last: u8| {
            let mut share = budget.share(claim(last));
            share.hold(LIMIT / 4).map(|()| share)
        };
        let mut first = hold(1).unwrap();
        assert_eq!(hold(1).unwrap_err().status.as_u16(), 503, "its own share");
        let second = hold(2).unwrap();
        assert!(hold(3).is_err(), "the share of all of them");
        first.hold(1).unwrap();
        assert!(hold(1).is_err());
        drop((first, second));
        assert!(hold(1).is_ok() && budget.0.unauthorized.lock().unwrap().is_empty());
        assert_eq!(used(&budget), 0);
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
        assert_eq!(event.hold(256 << 10), Ok(()));
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
