//! The slots of a rule that are due.

use crate::alert::judge::MOST_AT_ONCE;
use crate::alert::observe::{MOST_CELLS, Span};
use crate::alert::rule::Rule;

/// Most verdicts that are made in one go, and most numbers that are looked at for them: a second or two of work.
const MOST_VERDICTS: usize = 200_000;
const MOST_NUMBERS: usize = 20_000_000;

/// Slots that are too many to be judged in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) first: i64,
    pub(super) slots: usize,
}

/// The slots after `cursor` that can be judged with data up to `complete_ms`, in order: the newest [`MOST_AT_ONCE`], and those that are not
/// judged any more.
pub(super) fn due_slots(rule: &Rule, cursor: Option<i64>, complete_ms: i64) -> (Vec<i64>, Option<Missed>) {
    // A report is due at its time of the day, not as soon as its numbers are there.
    let newest = rule.ripe_slot(complete_ms);
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

/// The first of `slots`, as many as one question and one go of judging have room for, with `lines` that are known. The others are due again
/// as soon as these are judged.
pub(super) fn first_piece(rule: &Rule, mut slots: Vec<i64>, lines: usize) -> Vec<i64> {
    if rule.report_at.is_some() {
        // Of several that were missed the last one is told.
        return slots.split_off(slots.len().saturating_sub(1));
    }
    let most = slots.first().map_or(0, |first| most_slots(rule, *first, lines));
    slots.truncate(most);
    slots
}

/// The newest part of a span that one question and one go of judging have room for.
pub(super) fn last_piece(rule: &Rule, span: Span, lines: usize) -> Span {
    let most = most_slots(rule, span.from_ms, lines) as i64;
    let from_ms = span.until_ms.saturating_sub(most.saturating_mul(rule.length_ms(span.from_ms)));
    let from_ms = rule.interval.start_ms(from_ms, &rule.zone).and_then(|start| rule.next_slot(start));
    Span { from_ms: from_ms.map_or(span.from_ms, |from_ms| from_ms.clamp(span.from_ms, span.until_ms)), ..span }
}

/// How many slots from `first` on are judged in one go; at least one.
fn most_slots(rule: &Rule, first: i64, lines: usize) -> usize {
    // A verdict may look back on slots that are not judged themselves.
    let of_answer = (MOST_CELLS / rule.numbers_of_slot()).saturating_sub(rule.slots_back(first));
    let lines = lines.max(rule.most_lines());
    let of_verdicts = MOST_VERDICTS / lines;
    let of_numbers = MOST_NUMBERS / lines.saturating_mul(rule.look_back_slots());
    of_answer.min(of_verdicts).min(of_numbers).max(1)
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

    #[test]
    fn a_report_that_was_due_while_pulse_was_away_is_the_one_that_is_told_and_none_before_its_time() {
        let daily = rule(json!({"condition": null, "resolve": null, "report_at": "09:00", "interval": "day", "evaluation_delay": "0s"}));
        let (day, hour) = (|number: i64| number * 86_400_000, |number: i64| number * 3_600_000);
        let told = |cursor: i64, complete_ms: i64| first_piece(&daily, due_slots(&daily, Some(cursor), complete_ms).0, 1);
        // Away from 8:00 to 2:00: that of the day before yesterday was due, that of yesterday is not yet.
        assert_eq!(told(day(9), day(12) + hour(2)), [day(10)]);
        assert!(told(day(10), day(12) + hour(9) - 1).is_empty());
        assert_eq!(told(day(10), day(12) + hour(9)), [day(11)]);
        assert_eq!(told(day(2), day(12) + hour(2)), [day(10)], "of several the last that was due");
    }

    #[test]
    fn what_an_outage_has_left_is_asked_in_pieces_that_fit_and_none_is_left_out() {
        let minutes: Vec<i64> = (0..MOST_AT_ONCE as i64).map(|number| number * 60_000).collect();
        let wide = json!({"series": [{}, {"event": "x"}], "formula": "A/B", "breakdown": "properties.x"});
        for (written, lines) in [
            (json!({"question": wide, "max_groups": 1_000}), 1_002),
            (json!({"question": {"series": [{}], "breakdown": "country"}, "max_groups": 300, "reduce": {"sum": 1_440}}), 302),
            (json!({"question": {"series": [{}], "breakdown": "country"}, "max_groups": 90, "reduce": {"change": "week"}}), 92),
            (json!({}), 1),
        ] {
            let rule = rule(written);
            let (mut left, mut pieces) = (minutes.clone(), 0);
            while let Some(first) = left.first().copied() {
                let piece = first_piece(&rule, left.clone(), lines);
                let asked = (piece.last().unwrap() + 60_000 - rule.look_back(first).unwrap()) / 60_000;
                assert!(asked as usize * rule.numbers_of_slot() <= 1_000_000, "a question takes no more numbers");
                assert!(piece.len() * lines * rule.look_back_slots() <= MOST_NUMBERS);
                assert_eq!(left.drain(..piece.len()).collect::<Vec<_>>(), piece);
                pieces += 1;
            }
            assert_eq!(pieces == 1, lines == 1, "{pieces} pieces of {lines} lines");
        }
        let told = rule(json!({"condition": null, "resolve": null, "report_at": "09:00", "interval": "day"}));
        let days: Vec<i64> = (0..900).map(|number| number * 86_400_000).collect();
        assert_eq!(first_piece(&told, days.clone(), 2_000), days[899..]);
    }

    #[test]
    fn what_is_judged_again_is_the_newest_part_that_fits() {
        let span = Span { from_ms: 0, until_ms: 10_080 * 60_000 };
        let wide = rule(json!({"question": {"series": [{}], "breakdown": "country"}, "max_groups": 998}));
        let piece = last_piece(&wide, span, 500);
        assert_eq!((piece.until_ms, (piece.until_ms - piece.from_ms) / 60_000), (span.until_ms, 199));
        assert_eq!(last_piece(&rule(json!({})), span, 1), span);
    }
}
