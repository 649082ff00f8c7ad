//! Answers on the wire, `{"result":…,"meta":{…}}`, and how much of them there may be at a time.
//!
//! Promises: a result that many ask for is there once, however slowly they take it; those that are kept and those that clients have not taken
//! yet take no more than a limit together, and large ones leave a quarter of it to small ones. A result beyond it is refused and may be asked
//! for again.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::cache::{Served, Source};
use super::error::QueryError;
use crate::byte_budget::ByteBudget;

/// Dashboards ask again after this, at least ...
const REFRESH_MS: u64 = 8_000;
/// ... and up to this much later.
const SPREAD_MS: u64 = 4_000;
/// What `meta` takes.
const META_BYTES: usize = 320;

/// What all results take. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ResultBudget(Arc<ByteBudget>);

/// A result that is counted until the last of those who hold it lets go.
struct Counted {
    result: Bytes,
    budget: ResultBudget,
}

impl ResultBudget {
    /// Of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(ByteBudget::new(usize::try_from(bytes).unwrap_or(usize::MAX))))
    }

    /// The same result, counted as long as anybody holds it.
    ///
    /// # Errors
    /// 503: as many wait to be taken as there may be.
    pub(super) fn count(&self, result: impl Into<Bytes>) -> Result<Bytes, QueryError> {
        let result = result.into();
        if !self.0.take_within(result.len(), self.0.ceiling(result.len())) {
            return Err(QueryError::too_many_answers());
        }
        Ok(Bytes::from_owner(Counted { result, budget: self.clone() }))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.result
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.0.give_back(self.result.len());
    }
}

/// An answer: a result, which others may hold too, and what is said of it to this asker.
#[derive(Clone, Debug)]
pub struct Reply {
    result: Bytes,
    /// A JSON object.
    meta: Vec<u8>,
    /// The same for equal results.
    pub(super) tag: u64,
}

/// How something was asked.
pub(super) struct Asked {
    /// Milliseconds since 1970.
    pub(super) now_ms: i64,
    pub(super) took: Duration,
    /// By a link.
    pub(super) is_guest: bool,
}

impl Reply {
    /// The answer to a question.
    pub(super) fn new(served: &Served, asked: Asked) -> Self {
        let Asked { now_ms, took, is_guest } = asked;
        let entry = &served.entry;
        let as_of = entry.as_of.as_ref().filter(|_| !is_guest).map_or_else(|| "null".to_owned(), |as_of| format!("\"{as_of}\""));
        let is_cached = served.source != Source::Store || entry.is_shared;
        let age_ms = if is_cached { (now_ms - entry.computed_ms).max(0) } else { 0 };
        let stale = if served.source == Source::Stale { r#""stale":true,"# } else { "" };
        let mut meta = Vec::with_capacity(META_BYTES);
        // Writing to a Vec cannot fail.
        let _ = write!(
            meta,
            r#"{{{},"as_of":{as_of},"cached":{is_cached},"age_ms":{age_ms},{stale}"query_ms":{},"refresh_after_ms":{}}}"#,
            entry.meta,
            took.as_millis(),
            refresh_after_ms()
        );
        Self { result: entry.result.clone(), meta, tag: entry.tag }
    }

    /// The result, as JSON.
    pub fn result(&self) -> &[u8] {
        &self.result
    }

    /// What is said of it, as JSON.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// The answer as an object whose first members are `before`, which ends with a comma if it is not empty, and `after` behind it.
    pub(super) fn pieces(self, before: &str, after: &str) -> [Bytes; 3] {
        let Self { result, meta, .. } = self;
        let head = format!("{{{before}\"result\":");
        [head.into(), result, [br#","meta":"#, &meta[..], b"}", after.as_bytes()].concat().into()]
    }

    /// The answer as one text.
    pub fn to_json(&self) -> Vec<u8> {
        self.clone().pieces("", "").concat()
    }
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

    #[test]
    fn a_result_is_counted_once_until_the_last_who_holds_it_lets_go_and_large_ones_leave_room_for_small_ones() {
        let budget = ResultBudget::new(4 << 20);
        let large = budget.count(vec![b'a'; 2 << 20]).unwrap();
        let askers: Vec<Reply> = (0..1_000).map(|_| Reply { result: large.clone(), meta: b"{}".to_vec(), tag: 0 }).collect();
        assert_eq!(budget.0.held(), 2 << 20);
        assert_eq!(budget.count(vec![b'b'; (1 << 20) + 1]).unwrap_err().code, "too_many_answers");
        let small: Vec<Bytes> = (0..8).map(|_| budget.count(vec![b'c'; 256 << 10]).unwrap()).collect();
        assert_eq!(budget.count(&b"d"[..]).unwrap_err().code, "too_many_answers");
        drop((small, large));
        let mut waiting: Vec<[Bytes; 3]> = askers.into_iter().map(|answer| answer.pieces("", "")).collect();
        let last = waiting.pop();
        drop(waiting);
        assert_eq!(budget.0.held(), 2 << 20);
        drop(last);
        assert_eq!(budget.0.held(), 0);
    }

    #[test]
    fn an_answer_is_an_object_with_what_stands_before_it() {
        let answer = Reply { result: Bytes::from_static(b"[1]"), meta: br#"{"age_ms":0}"#.to_vec(), tag: 0 };
        assert_eq!(answer.to_json(), br#"{"result":[1],"meta":{"age_ms":0}}"#);
        assert_eq!(answer.pieces("\"index\":3,", "\n").concat(), b"{\"index\":3,\"result\":[1],\"meta\":{\"age_ms\":0}}\n");
    }
}
