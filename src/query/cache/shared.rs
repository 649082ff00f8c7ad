//! Answers shared between instances, where there is somewhere to share them.
//!
//! The key of an answer is its question and the state of the project's recent books, so every answer found was made from the same data;
//! only what the books show late (`freshness`, imports above all) can differ. So no answer is given for longer than [`KEPT`] after it was
//! asked for, by the instance that shared it or by one that found it, whatever their clocks say: how old it is the shared level itself
//! knows. Of an answer that looks back what was ruled of its persons stands in the key, and an instance that finds it keeps it as its own.
//! Losing the shared level costs speed alone: it answers in time or not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::Computed;
use crate::lifecycle::spawn_short;
use crate::query::people::map::LeftOut;

/// How long an answer is shared: as long as one up to now is kept.
const KEPT: Duration = Duration::from_secs(60);
/// What cannot be shared for so long is not worth it.
const WORTHWHILE: Duration = Duration::from_secs(1);
/// Larger answers are cheaper to compute than to move within the time a reader waits.
const LARGEST: usize = 1 << 20;
/// The first byte of a shared answer, the version of its encoding. An answer of another version is not read.
const FORM: u8 = 6;
/// A time that is not known.
const UNKNOWN: i64 = i64::MIN;
/// A number that was not counted.
const NOT_COUNTED: u64 = u64::MAX;
const HEAD: usize = 1 + 8 + 8 + 8 + 8 + 1 + 1 + 1 + 4;

/// A value that instances share.
#[derive(Clone, Debug)]
pub struct SharedValue {
    /// The value.
    pub value: Bytes,
    /// How much longer it is kept, by the clock of the cache.
    pub left: Duration,
}

/// A cache that instances share. Never fails: a value that cannot be read in time is treated as absent.
pub trait SharedCache: Send + Sync + 'static {
    /// The value of `key`.
    fn find(&self, key: String) -> BoxFuture<'_, Option<SharedValue>>;

    /// Keeps `value` for `kept`.
    fn put(&self, key: String, value: Bytes, kept: Duration) -> BoxFuture<'_, ()>;
}

/// The slot of one answer in the shared cache.
pub(crate) struct SharedSlot {
    pub(crate) cache: Arc<dyn SharedCache>,
    pub(crate) key: String,
    /// Compute the answer whatever is there.
    pub(crate) refresh: bool,
}

impl SharedSlot {
    /// The answer that another instance has put there.
    pub(crate) async fn find(slot: Option<&Self>, now_ms: i64) -> Option<Computed> {
        let slot = slot.filter(|slot| !slot.refresh)?;
        let SharedValue { value, left } = slot.cache.find(slot.key.clone()).await?;
        decode(value, KEPT.saturating_sub(left), now_ms)
    }

    /// Puts an answer there, in the background.
    pub(crate) fn put(self, computed: &Computed) {
        // From when it was asked for.
        let kept = KEPT.saturating_sub(computed.took);
        if computed.result.len() <= LARGEST && kept >= WORTHWHILE {
            let value = encode(computed);
            spawn_short(async move { self.cache.put(self.key, value, kept).await });
        }
    }
}

fn encode(computed: &Computed) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + computed.result.len());
    out.put_u8(FORM);
    out.put_i64(computed.computed_ms);
    out.put_i64(computed.data_through_ms.unwrap_or(UNKNOWN));
    out.put_u64(computed.rows_read);
    out.put_u64(computed.excluded_bots.unwrap_or(NOT_COUNTED));
    out.put_u8(u8::from(computed.is_sampled));
    out.put_u8(u8::from(computed.counts_people));
    out.put_u8(computed.left_out.code());
    let as_of = computed.as_of.as_deref().unwrap_or_default();
    out.put_u32(u32::try_from(as_of.len()).unwrap_or(0));
    out.put_slice(as_of.as_bytes());
    out.put_slice(&computed.result);
    out.freeze()
}

/// Reads an answer that is `at_least` so old.
fn decode(mut value: Bytes, at_least: Duration, now_ms: i64) -> Option<Computed> {
    if value.len() <= HEAD || value.get_u8() != FORM {
        return None;
    }
    let (computed_ms, data_through_ms) = (value.get_i64(), value.get_i64());
    let (rows_read, excluded_bots) = (value.get_u64(), Some(value.get_u64()).filter(|events| *events != NOT_COUNTED));
    // By the clocks of two instances, of which one may be ahead.
    let shared_for = Duration::from_millis(u64::try_from(now_ms.saturating_sub(computed_ms)).unwrap_or(0)).max(at_least);
    if shared_for >= KEPT {
        return None;
    }
    let data_through_ms = Some(data_through_ms).filter(|at_ms| *at_ms != UNKNOWN);
    let shared_for = Some(shared_for);
    let (is_sampled, counts_people, left_out) = (value.get_u8() != 0, value.get_u8() != 0, LeftOut::of_code(value.get_u8()));
    let length = usize::try_from(value.get_u32()).ok().filter(|length| *length <= value.len())?;
    let as_of = String::from_utf8(value.split_to(length).to_vec()).ok().filter(|as_of| !as_of.is_empty());
    Some(Computed {
        result: value,
        computed_ms,
        data_through_ms,
        as_of,
        rows_read,
        is_sampled,
        excluded_bots,
        counts_people,
        left_out,
        shared_for,
        took: Duration::ZERO,
        saved: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_way_and_what_is_none_is_not_read() {
        let computed = Computed {
            result: Bytes::from_static(b"{}"),
            computed_ms: 5,
            data_through_ms: Some(4),
            as_of: Some("1.5".to_owned()),
            rows_read: 3,
            is_sampled: true,
            excluded_bots: Some(2),
            counts_people: true,
            left_out: LeftOut::TIES,
            shared_for: None,
            took: Duration::ZERO,
            saved: Duration::ZERO,
        };
        let decode = |value: Bytes, now_ms: i64| decode(value, Duration::ZERO, now_ms);
        let read = decode(encode(&computed), 12).unwrap();
        assert!(read.counts_people && read.left_out == LeftOut::TIES);
        assert_eq!(read.as_of.as_deref(), Some("1.5"));
        assert_eq!(
            (read.result, read.computed_ms, read.data_through_ms, read.rows_read, read.is_sampled),
            (computed.result.clone(), 5, Some(4), 3, true)
        );
        assert_eq!(read.excluded_bots, Some(2));
        assert_eq!(read.shared_for, Some(Duration::from_millis(7)));
        let unknown = Computed { data_through_ms: None, as_of: None, excluded_bots: None, ..computed };
        assert_eq!(decode(encode(&unknown), 12).unwrap().excluded_bots, None);
        assert_eq!(decode(encode(&unknown), 12).unwrap().data_through_ms, None);
        assert_eq!(decode(encode(&unknown), 12).unwrap().as_of, None);
        let kept_ms = i64::try_from(KEPT.as_millis()).unwrap();
        assert!(decode(encode(&unknown), 5 + kept_ms - 1).is_some());
        assert!(decode(encode(&unknown), 5 + kept_ms).is_none(), "it is too old");
        for garbage in [&b""[..], b"\x01", b"\x05aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[6; 60]] {
            assert!(decode(Bytes::copy_from_slice(garbage), 12).is_none());
        }
        for (at_least, now_ms, expected_ms) in [(20, 12, 20), (20, -90_000, 20), (3, 12, 7)] {
            let read = super::decode(encode(&unknown), Duration::from_millis(at_least), now_ms).unwrap();
            assert_eq!(read.shared_for, Some(Duration::from_millis(expected_ms)), "the clock of who computed it may be ahead");
        }
        assert!(super::decode(encode(&unknown), KEPT, 5).is_none());
    }
}
