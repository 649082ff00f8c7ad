//! Which slots events decide, where that is not the one in which they lie alone.

use super::Span;
use crate::alert::rule::Rule;

impl Rule {
    /// The time whose events decide the numbers of slots: a funnel waits for its steps, and those who come back began some periods before.
    pub(crate) fn events_of(&self, slots: Span) -> Option<Span> {
        let from_ms = match self.periods_before() {
            0 => slots.from_ms,
            periods => {
                let first = self.interval.start_ms(slots.from_ms, &self.zone)?;
                (0..periods).try_fold(first, |slot, _| self.interval.start_ms(slot - 1, &self.zone))?
            }
        };
        Some(Span { from_ms, until_ms: slots.until_ms + self.open_ms() })
    }

    /// The slots whose verdicts events of a time decide.
    pub(crate) fn touched_by(&self, events: Span) -> Option<Span> {
        let from_ms = self.interval.start_ms(events.from_ms - self.open_ms(), &self.zone)?;
        let last = self.interval.start_ms(events.until_ms - 1, &self.zone)?;
        let until_ms = (0..=self.periods_before()).try_fold(last, |slot, _| self.next_slot(slot))?;
        // A number may be made of several slots: those after it are touched too.
        let reach_ms = from_ms - self.look_back(from_ms)?;
        Some(Span { from_ms, until_ms: until_ms.saturating_add(reach_ms) })
    }

    /// How many slots before a slot its cohort lies.
    fn periods_before(&self) -> u64 {
        if self.body.report == "retention" { self.period() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::machine::tests::rule;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn span(from_ms: i64, until_ms: i64) -> Span {
        Span { from_ms, until_ms }
    }

    #[test]
    fn a_step_of_a_funnel_decides_the_slots_in_which_it_may_have_been_entered() {
        let steps = json!([{"event": "a"}, {"event": "b"}]);
        let funnel = rule(json!({"report": "funnel", "interval": "hour", "question": {"steps": steps, "window": "1h"}}));
        assert_eq!(funnel.touched_by(span(13 * HOUR, 13 * HOUR + HOUR / 4)), Some(span(12 * HOUR, 14 * HOUR)));
        assert_eq!(funnel.events_of(span(12 * HOUR, 14 * HOUR)), Some(span(12 * HOUR, 15 * HOUR)));
        let trend = rule(json!({"interval": "hour", "reduce": {"sum": 3}}));
        assert_eq!(trend.touched_by(span(13 * HOUR, 13 * HOUR + HOUR / 4)), Some(span(13 * HOUR, 16 * HOUR)));
        assert_eq!(trend.events_of(span(12 * HOUR, 14 * HOUR)), Some(span(12 * HOUR, 14 * HOUR)));
    }

    #[test]
    fn who_began_late_decides_how_many_are_back_in_a_later_period() {
        let retention = rule(json!({"report": "retention", "interval": "day", "at": 2, "question": {"return_event": "a"}}));
        let noon = 10 * DAY + 12 * HOUR;
        assert_eq!(retention.touched_by(span(noon, noon + HOUR / 4)), Some(span(10 * DAY, 13 * DAY)));
        assert_eq!(retention.events_of(span(12 * DAY, 13 * DAY)), Some(span(10 * DAY, 13 * DAY)));
    }
}
