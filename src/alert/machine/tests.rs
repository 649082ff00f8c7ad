use proptest::prelude::*;

use super::*;
use crate::alert::rule::RuleBody;

pub(in crate::alert) fn rule(more: serde_json::Value) -> Rule {
    let mut body = serde_json::json!({
        "report": "trends", "question": {"series": [{"event": "a"}]}, "interval": "minute", "condition": {"above": 10}, "resolve": 5,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<RuleBody>(body).unwrap().check().unwrap()
}

/// Whether a line is an alert after each verdict, said as plainly as possible: by looking at all verdicts anew each time. Without gaps and
/// missing numbers.
fn is_alert_by_hand(verdicts: &[Verdict], for_slots: usize, keep: usize) -> bool {
    let mut is_alert = false;
    let mut streak = 0;
    for verdict in verdicts {
        let counts = match verdict {
            Verdict::Unjudged => continue,
            Verdict::Wrong if !is_alert => true,
            Verdict::Right if is_alert => true,
            _ => false,
        };
        streak = if counts { streak + 1 } else { 0 };
        if streak >= if is_alert { keep + 1 } else { for_slots } {
            is_alert = !is_alert;
            streak = 0;
        }
    }
    is_alert
}

fn verdicts() -> impl Strategy<Value = Vec<Verdict>> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Wrong),
        4 => Just(Verdict::Right),
        1 => Just(Verdict::Between),
        1 => Just(Verdict::Unjudged)
    ];
    proptest::collection::vec(verdict, 1..60)
}

proptest! {
    #[test]
    fn a_line_is_an_alert_when_counting_by_hand_says_so(verdicts in verdicts(), for_slots in 1_u32..4, keep in 0_u32..4) {
        let rule = rule(serde_json::json!({"for": for_slots, "keep_firing_for": keep}));
        let mut line = Line::default();
        for (at, verdict) in verdicts.iter().enumerate() {
            line.judge(&rule, *verdict, at as i64);
            let by_hand = is_alert_by_hand(&verdicts[..=at], for_slots as usize, keep as usize);
            prop_assert_eq!(line.is_alert(), by_hand, "{:?} after {:?}", line, &verdicts[..=at]);
        }
    }

    #[test]
    fn what_channels_know_alternates_and_ends_as_it_is(verdicts in verdicts(), muted in proptest::collection::vec(any::<bool>(), 60)) {
        let rule = rule(serde_json::json!({}));
        let mut line = Line::default();
        let (mut known, mut is_known_to_flap) = (Told::Ok, false);
        for (at, verdict) in verdicts.iter().enumerate() {
            line.judge(&rule, *verdict, at as i64);
            let quiet = Quiet { is_muted: muted[at], is_acked: false };
            match line.tell(&rule, quiet) {
                Some(Telling::Fired) => {
                    prop_assert!(!muted[at] && (known == Told::Ok || is_known_to_flap) && line.phase == Phase::Firing);
                    (known, is_known_to_flap) = (Told::Firing, false);
                }
                Some(Telling::Resolved) => {
                    prop_assert!(!muted[at] && known == Told::Firing && !line.is_alert());
                    (known, is_known_to_flap) = (Told::Ok, false);
                }
                Some(Telling::Flapping) => {
                    prop_assert!(!muted[at] && line.is_flapping && !is_known_to_flap);
                    (known, is_known_to_flap) = (Told::Firing, true);
                }
                other => prop_assert!(other.is_none()),
            }
            if !muted[at] {
                prop_assert_eq!(is_known_to_flap, line.is_flapping);
                prop_assert!(line.is_flapping || (known == Told::Firing) == line.is_alert());
            }
        }
    }

    #[test]
    fn a_line_survives_being_written_and_read_at_any_moment(verdicts in verdicts()) {
        let rule = rule(serde_json::json!({"for": 2, "keep_firing_for": 1}));
        let (mut line, mut restored) = (Line::default(), Line::default());
        for (at, verdict) in verdicts.iter().enumerate() {
            restored = serde_json::from_str(&serde_json::to_string(&restored).unwrap()).unwrap();
            prop_assert_eq!(line.judge(&rule, *verdict, at as i64), restored.judge(&rule, *verdict, at as i64));
        }
        prop_assert_eq!(line, restored);
    }
}

#[test]
fn a_series_that_flaps_is_told_once_until_it_is_steady() {
    let rule = rule(serde_json::json!({}));
    let mut line = Line::default();
    let mut told = Vec::new();
    for at in 0..40_i64 {
        let verdict = if at < 20 && at % 2 == 0 { Verdict::Wrong } else { Verdict::Right };
        line.judge(&rule, verdict, at);
        told.extend(line.tell(&rule, Quiet::default()));
    }
    use Telling::{Fired, Flapping, Resolved};
    assert_eq!(told, [Fired, Resolved, Fired, Resolved, Flapping, Resolved]);
    assert!(!line.is_flapping && line.told == Told::Ok);
}

/// What is told of a line, with when, of verdicts and whether channels may be told.
fn told_of(rule: &Rule, slots: impl IntoIterator<Item = (Verdict, bool)>) -> Vec<(usize, Telling)> {
    let mut line = Line::default();
    let tell = |(at, (verdict, is_muted)): (usize, (Verdict, bool))| {
        line.judge(rule, verdict, at as i64);
        // As the next owner reads it.
        line = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
        Some((at, line.tell(rule, Quiet { is_muted, is_acked: false })?))
    };
    slots.into_iter().enumerate().filter_map(tell).collect()
}

#[test]
fn a_series_that_flaps_and_is_then_wrong_for_good_is_told_to_be_wrong() {
    use Telling::{Fired, Flapping, Resolved};
    let wrong = |at: u32| if at >= 6 || at.is_multiple_of(2) { Verdict::Wrong } else { Verdict::Right };
    let told = told_of(&rule(serde_json::json!({})), (0..30).map(|at| (wrong(at), false)));
    let kinds: Vec<Telling> = told.iter().map(|(_, telling)| *telling).collect();
    assert_eq!(kinds, [Fired, Resolved, Fired, Resolved, Flapping, Fired], "{told:?}");
}

#[test]
fn that_a_series_flaps_is_told_once_channels_may_be_told_and_not_again() {
    use Telling::{Flapping, Resolved};
    let verdict = |at: u32| if at < 20 && at.is_multiple_of(2) { Verdict::Wrong } else { Verdict::Right };
    let slots = |muted: std::ops::Range<u32>| (0..40).map(move |at| (verdict(at), muted.contains(&at)));
    let told = told_of(&rule(serde_json::json!({})), slots(0..10));
    assert_eq!(told, [(10, Flapping), (29, Resolved)]);
    // Who was told before a silence that it flaps is not told so again after it.
    let told = told_of(&rule(serde_json::json!({})), slots(6..10));
    assert_eq!(told.iter().filter(|(_, telling)| *telling == Flapping).count(), 1, "{told:?}");
    let told = told_of(&rule(serde_json::json!({})), slots(0..35));
    assert!(told.is_empty(), "it is over: {told:?}");
}

#[test]
fn numbers_that_are_back_and_wrong_must_be_so_for_as_long_as_others() {
    let rule = rule(serde_json::json!({"no_data": "alert", "for": 3}));
    let (mut line, mut happened) = (Line::default(), Vec::new());
    use Verdict::{NoData, Wrong};
    for (at, verdict) in [NoData, NoData, NoData, Wrong, Wrong, Wrong].into_iter().enumerate() {
        let changes = line.judge(&rule, verdict, at as i64);
        happened.extend(changes.into_iter().map(|change| (at, change)));
    }
    let expected = [(0, Change::Pending), (2, Change::NoData), (3, Change::Resolved), (3, Change::Pending), (5, Change::Fired)];
    assert_eq!((happened.as_slice(), line.phase), (&expected[..], Phase::Firing));
}

#[test]
fn a_missing_number_is_what_the_rule_says() {
    let after = |no_data: &str, verdicts: &[Verdict]| {
        let rule = rule(serde_json::json!({"no_data": no_data}));
        let mut line = Line::default();
        verdicts.iter().for_each(|verdict| drop(line.judge(&rule, *verdict, 0)));
        line.phase
    };
    use Verdict::{NoData, Right, Wrong};
    assert_eq!(after("keep", &[Wrong, NoData]), Phase::Firing);
    assert_eq!(after("ok", &[Wrong, NoData]), Phase::Ok);
    assert_eq!(after("alert", &[NoData]), Phase::NoData);
    assert_eq!(after("alert", &[NoData, Right]), Phase::Ok);
    assert_eq!(after("alert", &[NoData, Wrong]), Phase::Firing);
}

#[test]
fn nobody_is_reminded_who_has_acknowledged() {
    let rule = rule(serde_json::json!({"remind_every": 3}));
    let told = |is_acked: bool| {
        let mut line = Line::default();
        let tell = |at| {
            line.judge(&rule, Verdict::Wrong, at);
            line.tell(&rule, Quiet { is_muted: false, is_acked })
        };
        (0..7).filter_map(tell).collect::<Vec<_>>()
    };
    assert_eq!(told(false), [Telling::Fired, Telling::Reminder, Telling::Reminder]);
    assert_eq!(told(true), [Telling::Fired]);
}
