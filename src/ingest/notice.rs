//! What the answer says about events that were accepted: what of them was dropped, cut or passed over, so that nothing is lost
//! without a word. Counted by kind and field, and bounded: a request has a thousand events, and any of them a thousand such fields.

use super::event::clip;

/// Most kinds and fields told apart in one answer.
const MAX_NOTICES: usize = 50;
/// Longest field name in an answer, bytes.
const MAX_FIELD: usize = 200;

/// The `code` of a notice that stands for all beyond [`MAX_NOTICES`].
pub(super) const MORE: &str = "more_warnings";
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

/// One kind of notice about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) code: &'static str,
    pub(super) field: String,
    /// How many values it is about.
    pub(super) count: u32,
    /// The first event that it is about: its position in the request.
    pub(super) index: usize,
}

/// The notices of one request.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: Vec<Notice>,
    more: u32,
    /// The event at hand, and the notices about it, to be taken back if it is refused.
    index: usize,
    open: Vec<usize>,
}

impl Notices {
    /// From now on notices are about the event at `index`.
    pub(super) fn begin(&mut self, index: usize) {
        self.index = index;
        self.open.clear();
    }

    /// Notes one about the field whose name is made of `parts`.
    pub(super) fn note(&mut self, code: &'static str, parts: &[&str]) {
        let known = self.told.iter().position(|notice| notice.code == code && is_joined(&notice.field, parts));
        match known {
            Some(at) => self.count(at),
            None if self.told.len() < MAX_NOTICES => {
                let field = clip(&parts.concat(), MAX_FIELD).to_owned();
                self.told.push(Notice { code, field, count: 0, index: self.index });
                self.count(self.told.len() - 1);
            }
            None => self.more += 1,
        }
    }

    fn count(&mut self, at: usize) {
        if let Some(notice) = self.told.get_mut(at) {
            if notice.count == 0 {
                notice.index = self.index;
            }
            notice.count += 1;
            self.open.push(at);
        }
    }

    /// The event at hand is refused: there is nothing to say but why.
    pub(super) fn take_back(&mut self) {
        for at in self.open.drain(..) {
            if let Some(notice) = self.told.get_mut(at) {
                notice.count -= 1;
            }
        }
    }

    /// All of them; what is beyond the bound last.
    pub(super) fn told(&self) -> impl Iterator<Item = Notice> {
        let more = Notice { code: MORE, field: String::new(), count: self.more, index: 0 };
        self.told.iter().cloned().chain([more]).filter(|notice| notice.count > 0)
    }
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
        let mut notices = Notices::default();
        notices.begin(0);
        notices.note(UNKNOWN_FIELD, &["a"]);
        notices.take_back();
        notices.begin(3);
        notices.note(UNKNOWN_FIELD, &["a"]);
        notices.note(UNKNOWN_FIELD, &["context.", "b"]);
        notices.begin(4);
        notices.note(UNKNOWN_FIELD, &["context.b"]);
        let notice = |field: &str, count| Notice { code: UNKNOWN_FIELD, field: field.to_owned(), count, index: 3 };
        assert_eq!(notices.told().collect::<Vec<_>>(), [notice("a", 1), notice("context.b", 2)]);
    }

    proptest! {
        #[test]
        fn every_notice_is_counted_within_a_bound(fields in prop::collection::vec("[a-z]{1,2}", 0..300)) {
            let mut notices = Notices::default();
            fields.iter().for_each(|field| notices.note(UNKNOWN_FIELD, &["context.", field]));
            let told: Vec<Notice> = notices.told().collect();
            prop_assert!(told.len() <= MAX_NOTICES + 1);
            prop_assert_eq!(told.iter().map(|notice| notice.count as usize).sum::<usize>(), fields.len());
        }
    }
}
