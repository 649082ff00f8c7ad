//! What the answer says about events that were accepted: what of them was dropped, cut or passed over, so that nothing is lost
//! without a word. Counted by kind and field, and bounded: a request has a thousand events, and any of them a thousand such fields.

use crate::event::text::clip;

/// Most pairs of code and field in one answer.
const MAX_WARNINGS: usize = 50;
/// Longest field name in an answer, bytes.
const MAX_FIELD: usize = 200;

/// The `code` of a warning that stands for all beyond [`MAX_WARNINGS`].
pub(super) const MORE: &str = "more_warnings";
/// An id that stands for nobody: left out where no program means it, since the other one is somebody's, else kept as it was sent.
pub(super) const ID_ILLEGAL: &str = "user_id_illegal";
/// A field that the contract does not know: passed over.
pub(super) const UNKNOWN_FIELD: &str = "unknown_field";
/// A value of a kind or a form that its field does not have: it stands for nothing.
pub(super) const VALUE_UNREADABLE: &str = "value_unreadable";
/// A text longer than allowed: cut.
pub(super) const VALUE_TRUNCATED: &str = "value_truncated";
/// A text that held NUL: without it.
pub(super) const CHARACTER_REMOVED: &str = "character_removed";
/// A time over a day in the future: the time of receipt stands in.
pub(super) const TIMESTAMP_CLAMPED: &str = "timestamp_clamped";
/// A `sentAt` that makes no sense beside its `timestamp`: nothing was corrected by it.
pub(super) const SENT_AT_IGNORED: &str = "sent_at_ignored";

/// One kind of warning about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    pub(super) code: &'static str,
    pub(super) field: String,
    /// How many values it is about.
    pub(super) count: u32,
    /// The first event that it is about: its position in the request.
    pub(super) index: usize,
}

/// The warnings of one request.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    kinds: Vec<Warning>,
    /// A hash of each kind, so that texts are compared only where hashes are equal.
    hashes: Vec<u64>,
    more: u32,
    /// The event at hand, and the warnings about it, to be taken back if it is refused.
    index: usize,
    open: Vec<usize>,
}

impl Warnings {
    /// From now on warnings are about the event at `index`.
    pub(super) fn begin(&mut self, index: usize) {
        self.index = index;
        self.open.clear();
    }

    /// Adds one about the field whose name is made of `parts`.
    pub(super) fn add(&mut self, code: &'static str, parts: &[&str]) {
        let hash = hash(code, parts);
        let is_known = |at: &usize| self.kinds.get(*at).is_some_and(|warning| warning.code == code && is_joined(&warning.field, parts));
        let known = (0..).zip(&self.hashes).filter(|(_, own)| **own == hash).map(|(at, _)| at).find(is_known);
        match known {
            Some(at) => self.count(at),
            None if self.kinds.len() < MAX_WARNINGS => {
                let field = clip(&parts.concat(), MAX_FIELD).to_owned();
                self.kinds.push(Warning { code, field, count: 0, index: self.index });
                self.hashes.push(hash);
                self.count(self.kinds.len() - 1);
            }
            None => self.more += 1,
        }
    }

    fn count(&mut self, at: usize) {
        if let Some(warning) = self.kinds.get_mut(at) {
            if warning.count == 0 {
                warning.index = self.index;
            }
            warning.count += 1;
            self.open.push(at);
        }
    }

    /// The event at hand is refused: there is nothing to say but why.
    pub(super) fn retract(&mut self) {
        for at in self.open.drain(..) {
            if let Some(warning) = self.kinds.get_mut(at) {
                warning.count -= 1;
            }
        }
    }

    /// All of them; what is beyond the bound last.
    pub(super) fn list(&self) -> impl Iterator<Item = Warning> {
        let more = Warning { code: MORE, field: String::new(), count: self.more, index: 0 };
        self.kinds.iter().cloned().chain([more]).filter(|warning| warning.count > 0)
    }
}

/// FNV-1a of a code and of the parts one after the other: of names of some letters it is done before Xxh3 has begun.
fn hash(code: &str, parts: &[&str]) -> u64 {
    let bytes = std::iter::once(&code).chain(parts).flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether `text` is the parts one after the other.
fn is_joined(text: &str, parts: &[&str]) -> bool {
    let rest = parts.iter().try_fold(text, |rest, part| rest.strip_prefix(part));
    rest.is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_noted_of_a_refused_event_is_taken_back() {
        let mut warnings = Warnings::default();
        warnings.begin(0);
        warnings.add(UNKNOWN_FIELD, &["a"]);
        warnings.retract();
        warnings.begin(3);
        warnings.add(UNKNOWN_FIELD, &["a"]);
        warnings.add(UNKNOWN_FIELD, &["context.", "b"]);
        warnings.begin(4);
        warnings.add(UNKNOWN_FIELD, &["context.b"]);
        let warning = |field: &str, count| Warning { code: UNKNOWN_FIELD, field: field.to_owned(), count, index: 3 };
        assert_eq!(warnings.list().collect::<Vec<_>>(), [warning("a", 1), warning("context.b", 2)]);
    }

    proptest! {
        #[test]
        fn every_notice_is_counted_within_a_bound(fields in prop::collection::vec("[a-z]{1,2}", 0..300)) {
            let mut warnings = Warnings::default();
            fields.iter().for_each(|field| warnings.add(UNKNOWN_FIELD, &["context.", field]));
            let listed: Vec<Warning> = warnings.list().collect();
            prop_assert!(listed.len() <= MAX_WARNINGS + 1);
            prop_assert_eq!(listed.iter().map(|warning| warning.count as usize).sum::<usize>(), fields.len());
        }
    }
}
