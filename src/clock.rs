//! The wall clock, in one place so that time can be passed in everywhere else.

use std::time::{SystemTime, UNIX_EPOCH};

/// 1 January 2025, milliseconds since 1970.
const SET_MS: i64 = 1_735_689_600_000;

/// Whether anybody has ever set a clock that says `now_ms`. By one that was not, what is received would be past its time as it comes.
pub fn is_set(now_ms: i64) -> bool {
    now_ms >= SET_MS
}

/// Milliseconds since 1970 UTC; 0 on a clock set before that.
#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
