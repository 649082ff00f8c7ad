//! What channels are told of lines: later, of what flaps, and as which incident.

use super::*;
use crate::alert::notice::{About, Kind};

#[test]
fn what_was_kept_back_of_a_day_is_told_once_channels_may_be_told_and_is_not_told_again_with_the_next_day() {
    let rule = rule(json!({"interval": "day", "condition": {"above": 10}, "resolve": null, "remind_every": 2}));
    let mut state = RuleState::default();
    // Days are judged at night, when nobody may be told.
    let mut day = |number: i64, value: f64| {
        let slot = number * DAY;
        let series = Series { values: [(slot, value)].into(), ..Series::default() };
        let observed = Observed { lines: [(String::new(), series)].into(), ..Observed::default() };
        let quiet = |_: &str, _: &Line| Quiet { is_muted: true, is_acked: false };
        let judged = judge(&rule, &mut state, &observed, &Occasion { slots: &[slot], is_late: false, quiet: &quiet });
        assert!(judged.told.is_empty(), "{judged:?}");
        // As the owner reads it who is there in the morning.
        let lines = std::mem::take(&mut state.lines);
        state = RuleState { lines, ..serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap() };
        let was_kept_back = state.is_kept_back;
        let told = |judged: Judged| judged.told.iter().map(|told| (told.telling, judged.episode / DAY)).collect::<Vec<_>>();
        let morning = told(tell_kept_back(&rule, &mut state, &never));
        assert!(!state.is_kept_back && told(tell_kept_back(&rule, &mut state, &never)).is_empty(), "it is told once");
        assert_eq!(was_kept_back, !morning.is_empty());
        morning
    };
    assert!(day(1, 1.0).is_empty());
    assert_eq!(day(2, 20.0), [(Telling::Fired, 2)]);
    assert!(day(3, 20.0).is_empty());
    assert_eq!(day(4, 20.0), [(Telling::Reminder, 2)]);
    assert_eq!(day(5, 1.0), [(Telling::Resolved, 2)]);
    assert!(day(6, 1.0).is_empty());
}

#[test]
fn what_flaps_is_no_more_over_for_receivers_than_it_is() {
    let rule = rule(json!({"condition": {"above": 2}, "resolve": null}));
    let about = About { project: 1, project_name: "shop", id: "two", rule: &rule, base: "" };
    let mut state = RuleState::default();
    // "A" flaps, "B" fires once; then "A" is wrong for good.
    let a = |at: i64| if at >= 6 || at % 2 == 0 { 3.0 } else { 1.0 };
    let mut told = Vec::new();
    for at in 0..25 {
        let slot = (at + 1) * MINUTE;
        let series = |value: f64| Series { values: [(slot, value)].into(), ..Series::default() };
        let lines = [("\"A\"", a(at)), ("\"B\"", if at == 4 { 3.0 } else { 1.0 })];
        let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), series(value))).collect();
        let judged = judge(&rule, &mut state, &Observed { lines, ..Observed::default() }, &occasion(&[slot]));
        told.extend(about.of_judged(&state, &judged, 0).map(|notice| (at, notice.kind, notice.is_firing(), notice.episode != 0)));
    }
    // That "B" is over is told, and that something goes on: nobody's incident ends.
    let expected = [(4, Kind::Firing, true), (5, Kind::Resolved, true), (16, Kind::Firing, true)]
        .map(|(at, kind, is_firing)| (at, kind, is_firing, true));
    assert_eq!(told[4..], expected, "{told:?}");
}

#[test]
fn that_something_flaps_which_is_right_when_channels_may_be_told_has_a_name_by_which_it_ends() {
    let rule = rule(json!({"condition": {"above": 2}, "resolve": null}));
    let (mut state, mut episodes) = (RuleState::default(), Vec::new());
    for at in 1..40 {
        let quiet = move |_: &str, _: &Line| Quiet { is_muted: at < 13, is_acked: false };
        let mut values = vec![None; at as usize];
        values.push(Some(if at < 11 && at % 2 == 0 { 3.0 } else { 1.0 }));
        let slots = [at * MINUTE];
        let judged = judge(&rule, &mut state, &observed(&values), &Occasion { slots: &slots, is_late: false, quiet: &quiet });
        episodes.extend(judged.told.iter().map(|told| (told.telling, judged.episode)));
    }
    let kinds: Vec<Telling> = episodes.iter().map(|(telling, _)| *telling).collect();
    assert_eq!(kinds, [Telling::Flapping, Telling::Resolved]);
    assert!(episodes[0].1 != 0 && episodes[0].1 == episodes[1].1, "{episodes:?}");
}

#[test]
fn lines_that_fire_later_are_incidents_of_their_own_up_to_some_number_and_all_of_them_end() {
    let rule = rule(json!({"condition": {"above": 2}, "resolve": null}));
    let about = About { project: 1, project_name: "shop", id: "many", rule: &rule, base: "" };
    let (mut state, mut open, mut most) = (RuleState::default(), BTreeMap::new(), 0_usize);
    // Each minute one more fires; with the last minute all are over.
    for minute in 1..=20 {
        let slot = minute * MINUTE;
        let value = |line: i64| if line <= minute && minute < 20 { 3.0 } else { 1.0 };
        let series = |line: i64| Series { values: [(slot, value(line))].into(), ..Series::default() };
        let lines = (1..=20).map(|line| (format!("\"{line:02}\""), series(line))).collect();
        let judged = judge(&rule, &mut state, &Observed { lines, ..Observed::default() }, &occasion(&[slot]));
        let notice = about.of_judged(&state, &judged, 0).unwrap();
        for incident in &notice.incidents {
            open.insert(notice.incident_key(incident), incident.firing);
        }
        open.retain(|_, firing| *firing > 0);
        most = most.max(open.len());
        assert_eq!(open.values().sum::<usize>(), notice.firing, "in minute {minute}");
        assert_eq!(open.contains_key(&notice.episode_key()), minute < 20);
    }
    assert_eq!((open.len(), most), (0, 10));
}
