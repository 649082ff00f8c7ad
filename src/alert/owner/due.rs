//! The slots of a rule that are due.

use crate::alert::judge::MOST_AT_ONCE;
use crate::alert::rule::Rule;

/// Slots that are too many to be judged in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) first: i64,
    pub(super) slots: usize,
}

/// The slots after `cursor` that can be judged with data up to `complete_ms`, in order: the newest [`MOST_AT_ONCE`], and those that are not
/// judged any more.
pub(super) fn due_slots(rule: &Rule, cursor: Option<i64>, complete_ms: i64) -> (Vec<i64>, Option<Missed>) {
    let newest = rule.closed_slot(complete_ms - rule.delay_ms());
    let mut missed: Option<Missed> = None;
    let mut slot = match cursor {
        Some(cursor) => rule.next_slot(cursor),
        None => newest,
    };
    let mut slots = std::collections::VecDeque::new();
    while let (Some(at), Some(newest)) = (slot, newest) {
        if at > newest {
            break;
        }
        slots.push_back(at);
        if slots.len() > MOST_AT_ONCE
            && let Some(first) = slots.pop_front()
        {
            missed.get_or_insert(Missed { first, slots: 0 }).slots += 1;
        }
        slot = rule.next_slot(at);
    }
    (slots.into(), missed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::machine::tests::rule;

    #[test]
    fn slots_that_are_too_many_are_counted_and_not_forgotten() {
        let rule = rule(json!({"interval": "minute", "evaluation_delay": "0s"}));
        let minute = |number: i64| number * 60_000;
        assert_eq!(due_slots(&rule, None, minute(10)), (vec![minute(9)], None), "a new rule begins with the newest");
        assert_eq!(due_slots(&rule, Some(minute(7)), minute(10)), (vec![minute(8), minute(9)], None));
        let (slots, missed) = due_slots(&rule, Some(minute(-1)), minute(2_000));
        assert_eq!((slots.len(), slots.first()), (MOST_AT_ONCE, Some(&minute(500))));
        assert_eq!(missed, Some(Missed { first: 0, slots: 500 }));
    }
}
