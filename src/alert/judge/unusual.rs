//! How unusual the number of a line is in an hour.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{At, Behind, Expectation, Sighting, verdict};
use crate::alert::anomaly::{self, Hours, Mark, Score, Scored, TUNING};
use crate::alert::machine::Verdict;
use crate::alert::rule::Rule;

/// What a line is in the hour `at`. A ratio of counts is judged by what is behind it ([`Rule::is_ratio`]).
pub(super) fn unusual(alarmed: &BTreeSet<i64>, behind: Behind<'_>, at: At<'_>, number: impl Fn(i64) -> Option<f64>) -> Sighting {
    let (At { slot, observed, .. }, rule) = (at, behind.rule);
    let is_ratio = rule.is_ratio();
    let without = |verdict, reason: &str| Sighting { value: None, verdict, reason: reason.to_owned(), expected: None };
    if is_ratio && number(slot).is_none() {
        return without(Verdict::NoData, "");
    }
    // What is counted, and of how much: an hour with nothing below the line has no ratio, and is an hour all the same.
    let counted = |hour: i64| match is_ratio {
        true => Some((number(hour).unwrap_or_default() * behind.of(hour), behind.of(hour))),
        false => number(hour).map(|value| (value, value)),
    };
    let (mut values, mut whole, mut of_week, mut marks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let Some(first) = rule.look_back(slot) else { return without(Verdict::Unjudged, "learning") };
    let mut next = Some(first);
    while let Some(hour) = next.filter(|hour| *hour <= slot) {
        // History begins with the first event.
        if let Some((value, of)) = counted(hour).filter(|(_, of)| *of > 0.0 || !values.is_empty()) {
            values.push(value);
            whole.push(of);
            of_week.push(hour_of_week(rule, hour));
            marks.push(match () {
                () if observed.unusual.contains(&hour) => Mark::Noted,
                () if alarmed.contains(&hour) => Mark::Alarmed,
                () => Mark::Usual,
            });
        }
        next = rule.next_slot(hour);
    }
    let whole = if is_ratio { whole.as_slice() } else { &[] };
    let Scored::Known(score) = anomaly::score(Hours { values: &values, whole, of_week: &of_week, marks: &marks, tuning: TUNING }) else {
        return without(Verdict::Unjudged, "learning");
    };
    let Score { sigmas, value, expected, deviation, width: hours } = score;
    let shown = |number: f64| if is_ratio { format!("{number:.3}") } else { format!("{number:.0}") };
    let together = if hours > 1 { format!(" in {hours} hours") } else { String::new() };
    let [is, should_be, give_or_take] = [value, expected, deviation].map(shown);
    let reason = format!("{is}{together}, expected {should_be} ± {give_or_take} for {}", weekday(rule, slot));
    let expected = Some(Expectation { hours, value, expected, deviation });
    Sighting { value: Some(sigmas), verdict: verdict(rule, sigmas), reason, expected }
}

fn hour_of_week(rule: &Rule, slot: i64) -> u8 {
    let at = Timestamp::from_millisecond(slot).unwrap_or_default().to_zoned_datetime(rule.zone.clone());
    at.weekday().to_monday_zero_offset() as u8 * 24 + at.hour() as u8
}

fn weekday(rule: &Rule, slot: i64) -> String {
    let at = Timestamp::from_millisecond(slot).unwrap_or_default().to_zoned_datetime(rule.zone.clone());
    at.strftime("%A %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::judge::see;
    use crate::alert::machine::tests::rule;
    use crate::alert::observe::{Observed, Series};

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_conversion_that_stops_is_unusual_and_nights_without_anybody_are_no_gap() {
        let steps = json!([{"event": "checkout"}, {"event": "order"}]);
        let rule = rule(json!({
            "report": "funnel", "interval": "hour", "question": {"steps": steps}, "reduce": "anomaly", "condition": null, "resolve": null,
        }));
        let hours = 43 * 24 + 1;
        let seen = |stopped: i64| {
            let mut series = Series::default();
            // Nobody is there at night.
            for hour in (0..hours).filter(|hour| hour % 24 >= 6) {
                series.counts.insert(hour * HOUR, 40.0);
                series.values.insert(hour * HOUR, if hour >= hours - stopped { 0.0 } else { 0.3 });
            }
            let observed = Observed { lines: [(String::new(), series)].into(), ..Observed::default() };
            let at = |hour: i64| {
                let (slot, line) = (hour * HOUR, observed.lines.get(""));
                see(&rule, &BTreeSet::new(), line, At { slot, window: &[slot], observed: &observed })
            };
            (at(hours - 1), at(hours - 2))
        };
        let (night, evening) = seen(0);
        assert_eq!((night.verdict, evening.verdict), (Verdict::NoData, Verdict::Right), "{evening:?}");
        let (_, evening) = seen(4);
        assert_eq!(evening.verdict, Verdict::Wrong, "{evening:?}");
        assert!(evening.reason.starts_with("0.000 in 3 hours, expected 0.267"), "{}", evening.reason);
        let expected = evening.expected.unwrap();
        assert!(evening.value.unwrap() < -3.0 && (expected.value, expected.hours) == (0.0, 3), "{expected:?}");
    }
}
