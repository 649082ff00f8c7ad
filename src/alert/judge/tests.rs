mod told;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::alert::machine::{self, tests::rule};
use crate::alert::observe::Span;

const MINUTE: i64 = 60_000;

fn never(_: &str, _: &Line) -> Quiet {
    Quiet::default()
}

fn occasion(slots: &[i64]) -> Occasion<'_> {
    Occasion { slots, is_late: false, quiet: &never }
}

/// Numbers of one line in minutes from 0 on.
fn observed(values: &[Option<f64>]) -> Observed {
    let values = (0..).zip(values).filter_map(|(at, value)| Some((at * MINUTE, (*value)?))).collect();
    Observed { lines: [(String::new(), Series { values, ..Series::default() })].into(), ..Observed::default() }
}

fn reduced_by_hand(reduce: Reduce, values: &[Option<f64>], at: usize) -> Option<f64> {
    let last = |slots: u32| values[(at + 1).saturating_sub(slots as usize)..=at].iter().flatten().copied().collect::<Vec<f64>>();
    let non_empty = |values: Vec<f64>| Some(values).filter(|values| !values.is_empty());
    match reduce {
        Reduce::Sum(slots) => non_empty(last(slots)).map(|values| values.iter().sum()),
        Reduce::Average(slots) => non_empty(last(slots)).map(|values| values.iter().sum::<f64>() / values.len() as f64),
        Reduce::Least(slots) => non_empty(last(slots)).map(|values| values.into_iter().fold(f64::MAX, f64::min)),
        Reduce::Most(slots) => non_empty(last(slots)).map(|values| values.into_iter().fold(f64::MIN, f64::max)),
        Reduce::Change(_) => {
            let (now, before) = (values[at]?, (*values.get(at.checked_sub(1)?)?)?);
            (before != 0.0).then(|| (now - before) / before)
        }
        Reduce::Last | Reduce::Anomaly => values[at],
    }
}

fn reduce() -> impl Strategy<Value = Reduce> {
    use crate::alert::rule::Against;
    prop_oneof![
        Just(Reduce::Last),
        (1_u32..5).prop_map(Reduce::Sum),
        (1_u32..5).prop_map(Reduce::Average),
        (1_u32..5).prop_map(Reduce::Least),
        (1_u32..5).prop_map(Reduce::Most),
        Just(Reduce::Change(Against::Previous)),
    ]
}

#[test]
fn the_end_is_told_of_the_alert_that_was_told_also_if_it_came_while_nobody_was_told() {
    let rule = rule(json!({"condition": {"above": 10}}));
    let mut state = RuleState::default();
    let mut step = |minute: i64, value: f64, is_muted: bool| {
        let quiet = move |_: &str, _: &Line| Quiet { is_muted, is_acked: false };
        let mut values = vec![None; minute as usize];
        values.push(Some(value));
        let slots = [minute * MINUTE];
        let judged = judge(&rule, &mut state, &observed(&values), &Occasion { slots: &slots, is_late: false, quiet: &quiet });
        judged.told.first().map(|told| (told.telling, judged.episode, told.since))
    };
    assert_eq!(step(1, 20.0, false), Some((Telling::Fired, MINUTE, MINUTE)));
    assert_eq!((step(2, 1.0, true), step(3, 1.0, true)), (None, None));
    // Another alert, of which nobody is told anything either.
    assert_eq!((step(4, 20.0, true), step(5, 1.0, true)), (None, None));
    assert_eq!(step(6, 1.0, false), Some((Telling::Resolved, MINUTE, MINUTE)));
}

#[test]
fn a_line_that_is_not_among_the_largest_is_judged_where_that_says_enough() {
    let verdict = |condition: serde_json::Value, least| {
        let rule = rule(json!({"condition": condition, "resolve": null}));
        let observed = Observed { absent: Some(0.0), least, ..Observed::default() };
        see(&rule, &BTreeSet::new(), None, At { slot: 0, window: &[0], observed: &observed }).verdict
    };
    // With 3 events or none it has not fallen to nothing, as far as anybody knows.
    assert_eq!(verdict(json!({"below": 2.5}), Some(3.0)), Verdict::Unjudged);
    assert_eq!(verdict(json!({"below": 2.5}), Some(1.0)), Verdict::Wrong);
    assert_eq!(verdict(json!({"above": 10.0}), Some(3.0)), Verdict::Right);
    assert_eq!(verdict(json!({"above": 10.0}), Some(30.0)), Verdict::Unjudged);
    assert_eq!(verdict(json!({"below": 2.5}), None), Verdict::Wrong);
    // With 7 events all is well, with none or with 50 it is not.
    assert_eq!(verdict(json!({"outside": [5, 10]}), Some(50.0)), Verdict::Unjudged);
    assert_eq!(verdict(json!({"outside": [5, 10]}), Some(4.0)), Verdict::Wrong);
}

#[test]
fn slots_that_are_judged_again_with_other_lines_as_the_largest_stay_as_they_were() {
    let rule = rule(json!({"condition": {"above": 2}, "resolve": null, "max_groups": 1}));
    let mut state = RuleState::default();
    let of = |name: &str, slot: i64, value: f64, least: f64| {
        let series = Series { values: [(slot, value)].into(), ..Series::default() };
        Observed { lines: [(name.to_owned(), series)].into(), absent: Some(0.0), least: Some(least), ..Observed::default() }
    };
    let mut recent = judge(&rule, &mut state, &of("a", 0, 3.0, 3.0), &occasion(&[0])).seen;
    recent.extend(judge(&rule, &mut state, &of("b", MINUTE, 10.0, 10.0), &occasion(&[MINUTE])).seen);
    let seen = recent.clone();
    // Of both minutes `b` alone is among the largest.
    assert!(revise(&rule, &state, &mut recent, &of("b", MINUTE, 10.0, 10.0)).is_empty());
    assert_eq!(recent[&0]["a"], seen[&0]["a"]);
    let revised = revise(&rule, &state, &mut recent, &of("b", MINUTE, 1.0, 1.0));
    assert_eq!(revised.iter().map(|revision| (revision.slot, revision.line.as_str())).collect::<Vec<_>>(), [(MINUTE, "b")]);
}

#[test]
fn late_events_make_wrong_what_had_too_few_before() {
    let rule = rule(json!({"condition": {"above": 2}, "min_count": 5, "resolve": null}));
    let mut state = RuleState::default();
    let of = |count: f64| {
        let series = Series { values: [(0, 3.0)].into(), counts: [(0, count)].into() };
        Observed { lines: [(String::new(), series)].into(), ..Observed::default() }
    };
    let mut recent = judge(&rule, &mut state, &of(4.0), &occasion(&[0])).seen;
    assert_eq!(recent[&0][""].verdict, Verdict::Unjudged);
    let revised = revise(&rule, &state, &mut recent, &of(9.0));
    assert_eq!(
        revised.iter().map(|revision| (revision.was.verdict, revision.is.verdict)).collect::<Vec<_>>(),
        [(Verdict::Unjudged, Verdict::Wrong)]
    );
    assert!(revise(&rule, &state, &mut recent, &of(9.0)).is_empty());
}

proptest! {
    #[test]
    fn numbers_are_made_of_slots_as_by_hand(
        values in proptest::collection::vec(proptest::option::weighted(0.8, (0_u8..20).prop_map(f64::from)), 1..30),
        reduce in reduce(),
    ) {
        let rule = rule(json!({"reduce": reduce}));
        let (mut state, observed) = (RuleState::default(), observed(&values));
        for at in 0..values.len() {
            let slot = at as i64 * MINUTE;
            let judged = judge(&rule, &mut state, &observed, &occasion(&[slot]));
            prop_assert_eq!(judged.seen[&slot][""].value, reduced_by_hand(reduce, &values, at), "{:?} at {}", reduce, at);
        }
    }

    /// In however many goes, and with a new owner between any two: the states and the history are the same.
    #[test]
    fn slots_that_are_caught_up_come_to_the_same_states(
        values in proptest::collection::vec(proptest::option::weighted(0.9, (0_u8..20).prop_map(f64::from)), 1..40),
        goes in proptest::collection::vec(1_usize..8, 40),
    ) {
        let rule = rule(json!({"for": 2, "keep_firing_for": 1}));
        let observed = observed(&values);
        let slots: Vec<i64> = (0..values.len() as i64).map(|at| at * MINUTE).collect();
        let (mut one, mut entries) = (RuleState::default(), Vec::new());
        for slot in &slots {
            entries.extend(judge(&rule, &mut one, &observed, &occasion(&[*slot])).entries);
        }
        let (mut other, mut caught_up, mut rest) = (RuleState::default(), Vec::new(), &slots[..]);
        for go in goes {
            let (now, later) = rest.split_at(go.min(rest.len()));
            rest = later;
            if now.is_empty() {
                break;
            }
            // What is written is all that the next owner has.
            let lines = other.lines.iter().map(|(name, line)| (name.clone(), serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()));
            let lines = lines.collect();
            other = RuleState { lines, ..serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap() };
            caught_up.extend(judge(&rule, &mut other, &observed, &occasion(now)).entries);
        }
        prop_assert_eq!(entries, caught_up);
        let phases = |state: &RuleState| state.lines.values().map(|line| (line.phase, line.since, line.episode, line.streak)).collect::<Vec<_>>();
        prop_assert_eq!((phases(&one), one.cursor, one.episode), (phases(&other), other.cursor, other.episode));
    }

    /// Judged again with the same numbers nothing changes; with others what changes is what would have been judged otherwise.
    #[test]
    fn late_events_revise_what_they_change_and_nothing_else(
        values in proptest::collection::vec((0_u8..20).prop_map(|value| Some(f64::from(value))), 1..30),
        late in proptest::collection::vec((0_usize..30, 1_u8..9), 0..4),
    ) {
        let rule = rule(json!({}));
        let slots: Vec<i64> = (0..values.len() as i64).map(|at| at * MINUTE).collect();
        let mut state = RuleState::default();
        let mut recent = judge(&rule, &mut state, &observed(&values), &occasion(&slots)).seen;
        prop_assert!(revise(&rule, &state, &mut recent, &observed(&values)).is_empty());
        let mut more = values.clone();
        for (at, number) in late {
            if let Some(Some(value)) = more.get_mut(at) {
                *value += f64::from(number);
            }
        }
        let revised: Vec<i64> = revise(&rule, &state, &mut recent, &observed(&more)).iter().map(|revision| revision.slot).collect();
        let side = |value: &Option<f64>| rule.side(value.unwrap());
        let expected: Vec<i64> = slots.iter().zip(values.iter().zip(&more)).filter(|(_, (a, b))| side(a) != side(b)).map(|(slot, _)| *slot).collect();
        prop_assert_eq!(revised, expected);
        prop_assert!(revise(&rule, &state, &mut recent, &observed(&more)).is_empty(), "each is said once");
    }
}

#[test]
fn slots_of_an_outage_are_told_once_and_what_is_over_is_summed_up() {
    let rule = rule(json!({"condition": {"above": 2}, "resolve": null}));
    let told = |values: &[f64]| {
        let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
        let slots: Vec<i64> = (0..values.len() as i64).map(|at| at * MINUTE).collect();
        let mut state = RuleState::default();
        let judged = judge(&rule, &mut state, &observed(&values), &Occasion { is_late: true, ..occasion(&slots) });
        (judged.told.iter().map(|told| told.telling).collect::<Vec<_>>(), judged.is_over_already)
    };
    assert_eq!(told(&[3.0, 1.0, 3.0]), (vec![Telling::Fired], false));
    assert_eq!(told(&[3.0, 1.0, 1.0]), (vec![], true));
    assert_eq!(told(&[1.0, 1.0]), (vec![], false));
}

#[test]
fn a_number_of_too_few_is_not_judged() {
    let rule = rule(json!({"min_count": 5, "condition": {"below": 0.5}, "resolve": null}));
    let series = |value: f64, count: f64| Series { values: [(0, value)].into(), counts: [(0, count)].into() };
    let verdict = |series: Series| {
        let observed = Observed { lines: [(String::new(), series)].into(), ..Observed::default() };
        judge(&rule, &mut RuleState::default(), &observed, &occasion(&[0])).seen[&0][""].verdict
    };
    assert_eq!((verdict(series(0.1, 4.0)), verdict(series(0.1, 5.0))), (Verdict::Unjudged, Verdict::Wrong));
}

#[test]
fn how_much_must_be_behind_a_number_is_of_all_that_it_is_made_of() {
    // Five minutes with their values and how much is behind each.
    let verdict = |reduce: serde_json::Value, values: [f64; 5], counts: [f64; 5]| {
        let rule = rule(json!({"min_count": 3, "condition": {"above": 10}, "resolve": null, "reduce": reduce}));
        let of = |numbers: [f64; 5]| (0..).zip(numbers).map(|(at, number)| (at * MINUTE, number)).collect();
        let series = Series { values: of(values), counts: of(counts) };
        let observed = Observed { lines: [(String::new(), series)].into(), ..Observed::default() };
        judge(&rule, &mut RuleState::default(), &observed, &occasion(&[4 * MINUTE])).seen[&(4 * MINUTE)][""].clone()
    };
    let last_is_empty = [9.0, 9.0, 0.0, 0.0, 0.0];
    let sum = verdict(json!({"sum": 5}), last_is_empty, last_is_empty);
    assert_eq!((sum.value, sum.verdict), (Some(18.0), Verdict::Wrong), "eighteen are behind the sum");
    assert_eq!(verdict(json!({"sum": 5}), [20.0; 5], [0.5; 5]).verdict, Verdict::Unjudged, "two and a half are not");
    assert_eq!(verdict(json!({"average": 5}), [11.0; 5], last_is_empty).verdict, Verdict::Wrong);
    // The least and the most are none of a handful.
    let least = verdict(json!({"least": 5}), [0.0, 12.0, 13.0, 0.0, 0.0], [1.0, 3.0, 3.0, 0.0, 0.0]);
    assert_eq!((least.value, least.verdict), (Some(12.0), Verdict::Wrong));
    let most = verdict(json!({"most": 5}), [99.0, 2.0, 1.0, 1.0, 1.0], [1.0, 3.0, 3.0, 3.0, 3.0]);
    assert_eq!((most.value, most.verdict), (Some(2.0), Verdict::Right));
    assert_eq!(verdict(json!({"most": 5}), [99.0; 5], [1.0; 5]).verdict, Verdict::Unjudged);
    // What a change divides by needs enough, too.
    let change = json!({"change": "previous"});
    assert_eq!(verdict(change.clone(), [1.0; 5], [3.0, 3.0, 3.0, 2.0, 3.0]).verdict, Verdict::Unjudged);
    assert_eq!(verdict(change, [1.0; 5], [0.0, 0.0, 0.0, 3.0, 3.0]).verdict, Verdict::Right);
}

#[test]
fn a_line_that_vanishes_has_nothing_where_things_are_counted() {
    let rule = rule(json!({"condition": {"below": 1}, "resolve": null, "question": {"series": [{"event": "a"}], "breakdown": "country"}}));
    let chart = |values: [serde_json::Value; 2]| {
        let series = values.map(|value| json!({"name": "a", "breakdown": value, "kind": "value", "values": [3, 3]}));
        rule.observe(&json!({"buckets": ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"], "series": series}))
    };
    let mut state = RuleState::default();
    judge(&rule, &mut state, &chart([json!("DE"), json!("FR")]), &occasion(&[0]));
    let judged = judge(&rule, &mut state, &chart([json!("DE"), json!("DE")]), &occasion(&[MINUTE]));
    let told: Vec<&str> = judged.told.iter().map(|told| told.line.as_str()).collect();
    assert_eq!(told, ["\"FR\""]);
}

#[test]
fn ten_thousand_lines_are_one_notice() {
    let rule = rule(json!({}));
    let lines = (0..10_000).map(|number| (format!("\"{number}\""), Series { values: [(0, 11.0)].into(), ..Series::default() }));
    let observed = Observed { lines: lines.collect(), ..Observed::default() };
    let mut state = RuleState::default();
    let judged = judge(&rule, &mut state, &observed, &occasion(&[0]));
    let about = crate::alert::notice::About { project: 1, project_name: "shop", id: "many", rule: &rule, base: "" };
    let notice = about.of_judged(&state, &judged, 0).unwrap();
    assert_eq!((notice.lines.len(), notice.unnamed, notice.firing), (100, 9_900, 10_000));
    assert!(serde_json::to_string(&notice).unwrap().len() < 100_000 && notice.body().len() < 10_000);
}

#[test]
fn the_day_before_is_the_same_time_of_the_clock() {
    let rule = rule(
        json!({"interval": "hour", "timezone": "Europe/Berlin", "reduce": {"change": "day"}, "condition": {"below": -0.5}, "resolve": null}),
    );
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let (slot, before) = (at("2026-03-29T10:00:00Z"), at("2026-03-28T11:00:00Z"));
    let series = Series { values: [(slot, 10.0), (before, 40.0), (at("2026-03-28T10:00:00Z"), 10.0)].into(), ..Series::default() };
    let observed = Observed { lines: [(String::new(), series)].into(), ..Observed::default() };
    let judged = judge(&rule, &mut RuleState::default(), &observed, &occasion(&[slot]));
    assert_eq!((judged.seen[&slot][""].value, judged.seen[&slot][""].verdict), (Some(-0.75), Verdict::Wrong));
    assert_eq!(rule.question(Span { from_ms: before, until_ms: slot })["from"], "2026-03-28T11:00:00Z");
}

#[test]
fn lines_that_are_too_many_are_forgotten_with_their_rows_and_those_of_the_answer_are_not() {
    let rule = rule(json!({"condition": {"above": 10}}));
    let mut state = RuleState::default();
    // Each minute other campaigns: none of them is ever an alert but one.
    let mut stored: BTreeSet<String> = BTreeSet::new();
    for minute in 0..30 {
        let number = |campaign: i64| if (minute, campaign) == (0, 0) { 20.0 } else { 1.0 };
        let line = |campaign| Series { values: [(minute * MINUTE, number(campaign))].into(), ..Series::default() };
        let lines: BTreeMap<String, Series> =
            (0..100).map(|campaign| (format!("{:03}-{campaign:03}", 29 - minute), line(campaign))).collect();
        let observed = Observed { lines, ..Observed::default() };
        let judged = judge(&rule, &mut state, &observed, &occasion(&[minute * MINUTE]));
        // As the owner writes them: what is not known any more gets a row that is empty.
        for name in &judged.changed {
            if state.lines.contains_key(name) {
                stored.insert(name.clone())
            } else {
                stored.remove(name)
            };
        }
        assert!(observed.lines.keys().all(|name| state.lines.contains_key(name)), "what is answered is known");
    }
    assert_eq!(state.lines.len(), MOST_LINES);
    assert!(state.lines.contains_key("029-000"), "an alert is not forgotten");
    assert!(stored.iter().eq(state.lines.keys()), "nothing else comes back at a restart");
}

const DAY: i64 = 1_440 * MINUTE;

/// A rule by the day with a line for each value, which is an alert as soon as nothing of it is there.
fn missing() -> Rule {
    rule(
        json!({"interval": "day", "condition": {"below": 1}, "resolve": null, "question": {"series": [{"event": "a"}], "breakdown": "country"}}),
    )
}

/// An answer about one slot in which these values are.
fn answered<'a>(slot: i64, names: impl IntoIterator<Item = &'a str>) -> Observed {
    let series = || Series { values: [(slot, 3.0)].into(), ..Series::default() };
    let lines = names.into_iter().map(|name| (name.to_owned(), series())).collect();
    Observed { lines, absent: Some(0.0), ..Observed::default() }
}

/// An answer about one day, of a rule without a breakdown, with which all is well.
fn observed_on(day: i64) -> Observed {
    answered(day * DAY, [""])
}

/// Takes note of what channels are told, and of the rows that are written.
#[derive(Default)]
struct Follower {
    firing: BTreeSet<String>,
    stored: BTreeSet<String>,
}

impl Follower {
    fn follow(&mut self, state: &RuleState, judged: &Judged) {
        for told in &judged.told {
            let is_new = match told.telling {
                Telling::Fired => self.firing.insert(told.line.clone()),
                Telling::Resolved => self.firing.remove(&told.line),
                other => panic!("{other:?}"),
            };
            assert!(is_new, "told twice: {told:?}");
        }
        // As the owner writes them: what is not known any more gets a row that is empty.
        for name in &judged.changed {
            if state.lines.contains_key(name) {
                self.stored.insert(name.clone())
            } else {
                self.stored.remove(name)
            };
        }
        assert!(self.stored.iter().eq(state.lines.keys()), "nothing else comes back at a restart");
    }
}

proptest! {
    /// By hand: a value that was there is an alert from the first day without it to the seventh, unless it is back; channels know that whenever
    /// they are told something, however long they were told nothing.
    #[test]
    fn an_alert_of_a_value_that_vanishes_ends_as_by_hand(
        // Changes are far apart, so that nothing flaps.
        runs in proptest::collection::vec(proptest::collection::vec(5_usize..14, 1..6), 1..4),
        muted in proptest::collection::vec(any::<bool>(), 70),
    ) {
        let rule = missing();
        let days: Vec<Vec<bool>> = runs.iter().map(|runs| {
            runs.iter().enumerate().flat_map(|(at, days)| std::iter::repeat_n(at % 2 == 0, *days)).collect()
        }).collect();
        let names: Vec<String> = (0..days.len()).map(|number| format!("\"{number}\"")).collect();
        let (mut state, mut known) = (RuleState::default(), Follower::default());
        for (at, is_muted) in muted.iter().enumerate() {
            let slot = (at as i64 + 1) * DAY;
            let there = |line: usize, at: usize| days[line].get(at).copied().unwrap_or(false);
            let observed = answered(slot, (0..names.len()).filter(|line| there(*line, at)).map(|line| names[line].as_str()));
            let quiet = move |_: &str, _: &Line| Quiet { is_muted: *is_muted, is_acked: false };
            let judged = judge(&rule, &mut state, &observed, &Occasion { slots: &[slot], is_late: false, quiet: &quiet });
            known.follow(&state, &judged);
            let days_without = |line: usize| (0..=at).rev().take_while(|at| !there(line, *at)).count();
            let by_hand: BTreeSet<String> =
                (0..names.len()).filter(|line| (1..=7).contains(&days_without(*line))).map(|line| names[line].clone()).collect();
            let alerts: BTreeSet<String> = state.lines.iter().filter(|(_, line)| line.is_alert()).map(|(name, _)| name.clone()).collect();
            prop_assert_eq!(&alerts, &by_hand, "on day {}", at);
            if !is_muted {
                prop_assert_eq!(&known.firing, &by_hand, "told on day {}", at);
            }
        }
    }
}

#[test]
fn an_alert_of_a_value_that_has_vanished_says_why_it_ends_and_one_without_a_breakdown_does_not_end() {
    let rule = missing();
    let (mut state, mut known, mut ends) = (RuleState::default(), Follower::default(), Vec::new());
    for day in 1..30 {
        let slot = day * DAY;
        let observed = answered(slot, if day == 1 { vec!["\"DE\"", "\"FR\"", ""] } else { vec!["\"DE\""] });
        let judged = judge(&rule, &mut state, &observed, &occasion(&[slot]));
        known.follow(&state, &judged);
        let is_end = |told: &&Told| told.telling == Telling::Resolved;
        ends.extend(judged.told.iter().filter(is_end).map(|told| (day, told.line.clone(), told.reason.clone())));
        let entries: Vec<Change> = judged.entries.iter().filter(|entry| entry.line == "\"FR\"").map(|entry| entry.change).collect();
        assert_eq!(entries.contains(&Change::Vanished), day == 9, "{entries:?} on day {day}");
    }
    assert_eq!(ends, [(9, "\"FR\"".to_owned(), Vanished::ForLong.reason().to_owned())]);
    assert_eq!(known.firing, BTreeSet::from([String::new()]));
    assert_eq!(state.lines.keys().collect::<Vec<_>>(), ["", "\"DE\""]);
}

#[test]
fn a_line_of_which_nothing_changes_is_written_each_week() {
    let rule = rule(json!({"interval": "day"}));
    let mut state = RuleState::default();
    let written: Vec<i64> =
        (10..40).filter(|day| !judge(&rule, &mut state, &observed_on(*day), &occasion(&[day * DAY])).changed.is_empty()).collect();
    assert_eq!(written, [10, 17, 24, 31, 38]);
}

#[test]
fn values_that_come_once_and_vanish_are_no_more_alerts_than_are_remembered_and_end_none_of_what_was_watched_for_long() {
    let rule = rule(json!({"condition": {"below": 1}, "resolve": null}));
    let (mut state, mut known) = (RuleState::default(), Follower::default());
    for minute in 1..60 {
        let slot = minute * MINUTE;
        // Each minute a hundred others; two that were there from the beginning are gone with the twentieth.
        let mut names: Vec<String> = (0..100).map(|number| format!("\"{minute:02}-{number:03}\"")).collect();
        if minute < 20 {
            names.extend(["\"DE\"".to_owned(), "\"FR\"".to_owned()]);
        }
        let judged = judge(&rule, &mut state, &answered(slot, names.iter().map(String::as_str)), &occasion(&[slot]));
        known.follow(&state, &judged);
        assert!(state.lines.len() <= MOST_LINES + 102, "{} lines", state.lines.len());
        let alerts = state.lines.iter().filter(|(_, line)| line.is_alert()).map(|(name, _)| name);
        assert!(known.firing.iter().eq(alerts), "in minute {minute}");
    }
    assert_eq!(known.firing.len(), MOST_LINES);
    assert!(["\"DE\"", "\"FR\""].iter().all(|name| known.firing.contains(*name)));
}

#[test]
fn a_line_that_only_remembers_how_often_it_changed_ends_without_a_word() {
    let mut line = Line { judged: 10, changes: vec![9], ..Line::default() };
    assert!(!line.is_idle());
    assert_eq!(line.vanish(Vanished::ForLong, DAY), None, "nothing was on");
    line.phase = machine::Phase::Pending;
    assert_eq!(line.vanish(Vanished::ForLong, DAY), Some(Change::Vanished));
}
