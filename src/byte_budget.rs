//! A number of bytes that may be held at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A batch of a browser or of a small server, an answer with some hundred lines.
const FEW: usize = 256 << 10;

/// So many bytes, of which some are held. What is taken must be given back.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    held: AtomicUsize,
}

impl ByteBudget {
    /// Of `limit` bytes, none of them held.
    pub const fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// How many there are in all.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, if no more than `most` are held then; returns whether it did.
    pub fn take_within(&self, bytes: usize, most: usize) -> bool {
        let taken = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most.min(self.limit));
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// How much may be held with `bytes` more: all where they are few, three quarters where they are many, so that many leave room for few.
    pub const fn ceiling(&self, bytes: usize) -> usize {
        if bytes > FEW { self.limit / 4 * 3 } else { self.limit }
    }

    /// Takes `bytes`, if there are so many; returns whether it did.
    pub fn take(&self, bytes: usize) -> bool {
        self.take_within(bytes, self.limit)
    }

    /// Gives back some of what was taken.
    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is() {
        let budget = ByteBudget::new(10);
        assert!(budget.take(4) && !budget.take_within(3, 6) && budget.take_within(2, 6) && !budget.take(5) && budget.take(4));
        assert!(!budget.take_within(1, usize::MAX) && !budget.take(usize::MAX));
        budget.give_back(10);
        assert_eq!((budget.held(), budget.limit()), (0, 10));
    }
}
