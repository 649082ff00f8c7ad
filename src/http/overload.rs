//! After how many seconds a client may try again that was refused for want of room.
//!
//! Promises: a second at first; more the longer the want lasts, and not the same for all, so that those who were refused together do not come
//! back together. A client whose rate is exceeded is told exactly when it may send again instead: that is its own doing, and to wait longer
//! would take from it what it may send.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest advice is a second more: what was kept by a client is not much older then.
const LONGEST: u64 = 15;
/// How long nobody must be refused for it to be over: everybody who was told the longest time has come back.
const QUIET: Duration = Duration::from_secs(2 * LONGEST);
/// A second more for so many of them.
const GROWTH: u64 = 4;

/// Since when there is no room, and when it was last missed.
#[derive(Debug, Default)]
pub struct Overload(Mutex<Option<[Instant; 2]>>);

impl Overload {
    /// Notes that somebody is refused, and says after how many seconds to try again, at least 1.
    pub fn retry_after(&self) -> u32 {
        let now = Instant::now();
        let mut spell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = spell.filter(|[_, last]| now.saturating_duration_since(*last) <= QUIET).map_or(now, |[began, _]| began);
        *spell = Some([began, now]);
        let spread = (now.saturating_duration_since(began).as_secs() / GROWTH).min(LONGEST) as u32;
        // Without a source of random numbers all wait for the longest time.
        1 + getrandom::u32().map_or(spread, |random| random % (spread + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_longer_the_longer_that_lasts_and_not_as_long_as_others() {
        let overload = Overload::default();
        let most = |seconds: u64| {
            let overload = &overload;
            async move {
                for _ in 0..seconds {
                    tokio::time::advance(Duration::from_secs(1)).await;
                    overload.retry_after();
                }
                let told: Vec<u32> = (0..1_000).map(|_| overload.retry_after()).collect();
                assert_eq!(told.iter().min(), Some(&1));
                told.into_iter().max().unwrap()
            }
        };
        assert_eq!(most(0).await, 1);
        assert_eq!(most(GROWTH * 3).await, 4);
        assert_eq!(most(200).await, 1 + LONGEST as u32);
        // Who was told the longest time comes back, and it is not over.
        tokio::time::advance(Duration::from_secs(1 + LONGEST)).await;
        assert_eq!(most(0).await, 1 + LONGEST as u32);
        tokio::time::advance(QUIET + Duration::from_secs(1)).await;
        assert_eq!(most(0).await, 1);
    }
}
