//! Secret keys that are used where a public one is meant: a page or a program gives a secret away.
//!
//! Promises: the log says so once in a while of each key, by what tells the key from others and never by the key; what others send does
//! not flood it, because only keys that exist are looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Grant, KeyKind};

/// Between two words about one key.
const PAUSE: Duration = Duration::from_secs(600);

/// When each key was last told of, by the beginning of its hash.
#[derive(Debug, Default)]
pub(super) struct Misuse(Mutex<HashMap<u32, Instant>>);

impl Misuse {
    /// Notes that a key was used for what keys of the kind `wanted` are for.
    pub(super) fn note(&self, grant: &Grant, wanted: KeyKind) {
        if wanted == KeyKind::Write && grant.kind != KeyKind::Write && self.is_due(grant.key) {
            tracing::warn!(
                project = &*grant.name,
                kind = grant.kind.as_str(),
                key = %format_args!("{:08x}", grant.key),
                id = grant.key_id(),
                "a secret key is used to send events: it stands where others may read it, so give it another secret"
            );
        }
    }

    fn is_due(&self, key: u32) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.get(&key).is_none_or(|last| now.duration_since(*last) >= PAUSE);
        if is_due {
            // Keys come and go: those of a while ago need not be remembered.
            told.retain(|_, last| now.duration_since(*last) < PAUSE);
            told.insert(key, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_of_once_in_a_while() {
        let misuse = Misuse::default();
        assert!(misuse.is_due(7) && misuse.is_due(8));
        assert!((0..100).all(|_| !misuse.is_due(7)));
        assert_eq!(misuse.0.lock().unwrap().len(), 2);
    }
}
