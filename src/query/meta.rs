//! The answer on the wire: `{"result":…,"meta":{…}}`. The result is copied as it was computed, never encoded again.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cache::{Served, Source};

/// Dashboards ask again after this, at least ...
const REFRESH_MS: u64 = 8_000;
/// ... and up to this much later.
const SPREAD_MS: u64 = 4_000;
/// What `meta` takes.
const META_BYTES: usize = 320;

/// Writes the answer to a question asked at `now_ms` that took `took`.
pub(super) fn write(served: &Served, now_ms: i64, took: Duration) -> Vec<u8> {
    let entry = &served.entry;
    let mut out = Vec::with_capacity(entry.result.len() + META_BYTES);
    out.extend_from_slice(br#"{"result":"#);
    out.extend_from_slice(&entry.result);
    let is_cached = served.source != Source::Store || entry.is_shared;
    let age_ms = if is_cached { (now_ms - entry.computed_ms).max(0) } else { 0 };
    let stale = if served.source == Source::Stale { r#""stale":true,"# } else { "" };
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        r#","meta":{{{},"cached":{is_cached},"age_ms":{age_ms},{stale}"query_ms":{},"refresh_after_ms":{}}}}}"#,
        entry.meta,
        took.as_millis(),
        refresh_after_ms()
    );
    out
}

/// When to ask again, spread evenly so that dashboards do not ask in step.
fn refresh_after_ms() -> u64 {
    static ANSWERS: AtomicU64 = AtomicU64::new(0);
    // Multiples of the golden ratio, of which each falls into the largest gap that the earlier ones have left.
    let point = ANSWERS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    REFRESH_MS + ((point * SPREAD_MS) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_that_ask_together_are_told_to_come_back_apart() {
        let mut told: Vec<u64> = (0..100).map(|_| refresh_after_ms()).collect();
        told.sort_unstable();
        assert!(told.iter().all(|ms| (REFRESH_MS..REFRESH_MS + SPREAD_MS).contains(ms)));
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] <= SPREAD_MS / 10), "{told:?}");
    }
}
