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
        let mut known = Told::Ok;
        for (at, verdict) in verdicts.iter().enumerate() {
            let changes = line.judge(&rule, *verdict, at as i64);
            let quiet = Quiet { is_muted: muted[at], is_acked: false };
            match line.tell(&rule, &changes, quiet) {
                Some(Telling::Fired) => {
                    prop_assert!(!muted[at] && known == Told::Ok && line.phase == Phase::Firing);
                    known = Told::Firing;
                }
                Some(Telling::Resolved) => {
                    prop_assert!(!muted[at] && known == Told::Firing && !line.is_alert());
                    known = Told::Ok;
                }
                Some(Telling::Flapping) => {
                    prop_assert!(line.is_flapping);
                    known = Told::Firing;
                }
                other => prop_assert!(other.is_none()),
            }
            if !muted[at] && !line.is_flapping {
                prop_assert_eq!(known == Told::Firing, line.is_alert());
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
        let changes = line.judge(&rule, verdict, at);
        told.extend(line.tell(&rule, &changes, Quiet::default()));
    }
    use Telling::{Fired, Flapping, Resolved};
    assert_eq!(told, [Fired, Resolved, Fired, Resolved, Flapping, Resolved]);
    assert!(!line.is_flapping && line.told == Told::Ok);
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
            let changes = line.judge(&rule, Verdict::Wrong, at);
            line.tell(&rule, &changes, Quiet { is_muted: false, is_acked })
        };
        (0..7).filter_map(tell).collect::<Vec<_>>()
    };
    assert_eq!(told(false), [Telling::Fired, Telling::Reminder, Telling::Reminder]);
    assert_eq!(told(true), [Telling::Fired]);
}
