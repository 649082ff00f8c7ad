//! Funnels: every chain there is, one after the other; and the people behind every bar.

mod shown;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use self::shown::{Group, expected, groups, lines};
use super::filters::{self, Filter};
use super::{Breakdown, Event, Key, Range};
use crate::report::{Asker, Case, NOW_MS};

const KINDS: [&str; 3] = ["view", "buy", "page_view"];
const WINDOWS: [(&str, i64); 6] =
    [("30s", 30_000), ("30m", 1_800_000), ("2h", 7_200_000), ("1d", 86_400_000), ("2w", 14 * 86_400_000), ("366d", 366 * 86_400_000)];

/// Events that are one of some types, any without one, and pass the tests of a number.
#[derive(Clone, Debug)]
pub(crate) struct Fits {
    kinds: Vec<&'static str>,
    tests: usize,
}

/// What is asked of a funnel.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    steps: Vec<(Fits, bool)>,
    exclusions: Vec<(Fits, usize, usize)>,
    window: usize,
    order: &'static str,
    count: &'static str,
    hold: &'static [&'static str],
    attribution: String,
    bins: usize,
    complete: bool,
    filtered: bool,
}

fn fits() -> impl Strategy<Value = Fits> {
    let kinds = prop_oneof![
        6 => prop::sample::select(KINDS.to_vec()).prop_map(|kind| vec![kind]),
        1 => Just(vec!["view", "buy"]),
        1 => Just(Vec::new()),
    ];
    (kinds, prop_oneof![4 => Just(0_usize), 1 => 1_usize..23]).prop_map(|(kinds, tests)| Fits { kinds, tests })
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let steps = prop::collection::vec((fits(), prop::bool::weighted(0.2)), 2..5);
    let exclusions = prop_oneof![2 => Just(Vec::new()).boxed(), 1 => prop::collection::vec((fits(), 0_usize..3, 1_usize..4), 1..3).boxed()];
    let orders = prop::sample::select(vec!["ordered", "ordered", "strict", "unordered"]);
    let counts = prop::sample::select(vec!["users", "users", "sessions", "totals"]);
    let holds: Vec<&'static [&'static str]> = vec![&[], &[], &[], &["country"], &["properties.plan", "country"]];
    let attribution = prop::sample::select(vec!["first", "first", "last", "step:1", "step:2"]);
    let how = (0..WINDOWS.len(), orders, counts, prop::sample::select(holds), attribution, 1_usize..6);
    (steps, exclusions, how, prop::bool::weighted(0.3), any::<bool>()).prop_map(|(mut steps, exclusions, how, complete, filtered)| {
        let (window, order, count, hold, attribution, bins) = how;
        steps[0].1 = false;
        let last = steps.len() - 1;
        let inside = |(fits, from, to): (Fits, usize, usize)| (fits, from.min(last - 1), to.max(from.min(last - 1) + 1).min(last));
        let order = if count == "totals" { "ordered" } else { order };
        Asked {
            exclusions: exclusions.into_iter().map(inside).collect(),
            attribution: attribution.to_owned(),
            steps,
            window,
            order,
            count,
            hold,
            bins,
            complete,
            filtered,
        }
    })
}

impl Fits {
    fn request(&self) -> Value {
        let event = match self.kinds.as_slice() {
            [] => Value::Null,
            [kind] => json!(kind),
            kinds => json!(kinds),
        };
        json!({"event": event, "filters": filters::request(&[Filter::Tests(self.tests)])})
    }

    fn holds(&self, event: &Event, case: &Case) -> bool {
        let is_of_kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        is_of_kind && filters::pass(&[Filter::Tests(self.tests)], event, case)
    }
}

/// A chain: for each of its steps the number of an event.
type Chain = Vec<(usize, usize)>;

/// One who is counted: a person, a session or an attempt.
#[derive(Debug)]
struct Counted {
    person: u64,
    bars: BTreeSet<usize>,
    /// The chain that is shown; the times of its steps, and what it counts for.
    shown: Vec<(usize, i64)>,
    key: Key,
}

/// A funnel over the events of a case.
struct Model<'a> {
    case: &'a Case,
    asked: &'a Asked,
    range: Range,
}

impl Model<'_> {
    fn window_ms(&self) -> i64 {
        WINDOWS[self.asked.window].1
    }

    fn enters(&self, event: &Event) -> bool {
        let is_complete = !self.asked.complete || event.at_ms + self.window_ms() <= NOW_MS;
        (self.range.from..self.range.until).contains(&event.at_ms) && is_complete
    }

    fn fits(&self, event: &Event, step: usize) -> bool {
        self.asked.steps[step].0.holds(event, self.case) && self.held(event).is_some()
    }

    /// The values that a chain holds; none where one is missing.
    fn held(&self, event: &Event) -> Option<Key> {
        let held = event.key(Breakdown { fields: self.asked.hold, is_list: true });
        (!held.contains(&"z".to_owned())).then_some(held)
    }

    fn is_next(&self, before: usize, step: usize) -> bool {
        before < step && (before + 1..step).all(|between| self.asked.steps[between].1)
    }

    fn is_clean(&self, events: &[&Event], chain: &Chain) -> bool {
        self.asked.exclusions.iter().all(|(fits, from, to)| {
            let at = |step: usize| chain.iter().find(|(own, _)| *own == step).map(|(_, event)| events[*event].at_ms);
            let (Some(from), Some(to)) = (at(*from), at(*to)) else { return true };
            let is_inside = |event: &&&Event| from.min(to) < event.at_ms && event.at_ms < from.max(to);
            !events.iter().filter(is_inside).any(|event| fits.holds(event, self.case))
        })
    }

    /// Whether one more event makes a longer chain.
    fn goes_on(&self, events: &[&Event], chain: &Chain, (step, number): (usize, usize)) -> bool {
        let is_other = chain.iter().all(|(_, event)| *event != number);
        let (times, at_ms) =
            (|chain: &Chain| chain.iter().map(|(_, event)| events[*event].at_ms).collect::<Vec<_>>(), events[number].at_ms);
        let holds_same = chain.first().is_none_or(|(_, first)| self.held(events[*first]) == self.held(events[number]));
        if !is_other || !holds_same || !self.fits(events[number], step) {
            return false;
        }
        let Some((last_step, last)) = chain.last().copied() else { return step == 0 && self.enters(events[number]) };
        let is_inside = at_ms - times(chain)[0] <= self.window_ms() && at_ms >= events[last].at_ms;
        let is_next = self.is_next(last_step, step) && (self.asked.order != "strict" || number == last + 1);
        is_inside && is_next
    }

    fn chains(&self, events: &[&Event]) -> Vec<Chain> {
        let (steps, mut chains, mut open) = (self.asked.steps.len(), Vec::new(), vec![Chain::new()]);
        if self.asked.order == "unordered" {
            return self.unordered(events);
        }
        while let Some(chain) = open.pop() {
            for step in 0..steps {
                for number in 0..events.len() {
                    if self.goes_on(events, &chain, (step, number)) {
                        let longer: Chain = chain.iter().copied().chain([(step, number)]).collect();
                        open.extend(self.is_clean(events, &longer).then_some(longer));
                    }
                }
            }
            chains.push(chain);
        }
        chains.retain(|chain| !chain.is_empty());
        chains
    }

    fn unordered(&self, events: &[&Event]) -> Vec<Chain> {
        let mut chains: Vec<Chain> = vec![Chain::new()];
        for step in 0..self.asked.steps.len() {
            for chain in chains.clone() {
                for number in 0..events.len() {
                    let is_other =
                        chain.iter().all(|(_, event)| *event != number && self.held(events[*event]) == self.held(events[number]));
                    let is_near = chain.iter().all(|(_, event)| (events[*event].at_ms - events[number].at_ms).abs() <= self.window_ms());
                    if is_other && is_near && self.fits(events[number], step) {
                        chains.push(chain.iter().copied().chain([(step, number)]).collect());
                    }
                }
            }
        }
        chains.retain(|chain| {
            let first = chain.iter().map(|(_, event)| *event).min();
            first.is_some_and(|first| self.enters(events[first])) && self.is_clean(events, chain)
        });
        chains.iter_mut().for_each(|chain| chain.sort_by_key(|(_, event)| *event));
        chains
    }

    /// The bars that count somebody with these events, and the chain that is shown.
    fn journey(&self, events: &[&Event]) -> Option<(BTreeSet<usize>, Chain)> {
        let chains = self.chains(events);
        let depth = |chain: &Chain| if self.asked.order == "unordered" { chain.len() - 1 } else { chain.last().unwrap().0 };
        let deepest = chains.iter().map(depth).max()?;
        let mut bars: BTreeSet<usize> = chains.iter().map(depth).collect();
        if self.asked.order == "unordered" {
            bars.extend(0..=deepest);
        }
        let by_step = |chain: &&Chain| {
            let at = |step| chain.iter().find(|(own, _)| *own == step).map_or(usize::MAX, |(_, event)| *event);
            let start = chain[0].1;
            std::iter::once(start).chain((0..self.asked.steps.len()).map(at)).collect::<Vec<_>>()
        };
        let shown = chains.iter().filter(|chain| depth(chain) == deepest).min_by_key(by_step)?.clone();
        Some((bars, shown))
    }

    /// The attempts of somebody with these events.
    fn attempts(&self, events: &[&Event]) -> Vec<Chain> {
        let mut attempts: Vec<(Chain, bool)> = Vec::new();
        for (number, event) in events.iter().enumerate() {
            for (fits, from, to) in &self.asked.exclusions {
                let ends = |chain: &Chain| fits.holds(event, self.case) && (*from..*to).contains(&chain.last().unwrap().0);
                attempts.iter_mut().for_each(|(chain, is_over)| *is_over |= ends(chain));
            }
            let steps = self.asked.steps.len();
            let mut ways: Vec<(usize, usize)> = (0..steps).flat_map(|at| (0..steps).map(move |step| (at, step))).collect();
            ways.retain(|(at, step)| self.is_next(*at, *step) && self.fits(event, *step));
            ways.sort_by_key(|(at, step)| (std::cmp::Reverse(*at), *step));
            let moves = ways.iter().find_map(|(at, step)| {
                let stands = |(chain, is_over): &(Chain, bool)| {
                    let first = events[chain[0].1];
                    let is_inside = event.at_ms - first.at_ms <= self.window_ms();
                    !is_over && chain.last().unwrap().0 == *at && is_inside && self.held(first) == self.held(event)
                };
                Some((attempts.iter().position(stands)?, *step))
            });
            match moves {
                Some((attempt, step)) => attempts[attempt].0.push((step, number)),
                None if self.fits(event, 0) && self.enters(event) => attempts.push((vec![(0, number)], false)),
                None => {}
            }
        }
        attempts.into_iter().map(|(chain, _)| chain).collect()
    }

    /// All who are counted.
    fn counted(&self) -> Vec<Counted> {
        let passes = |event: &&Event| if self.asked.filtered { self.case.passes(event) } else { self.case.is_seen(event) };
        let mut events: Vec<&Event> = self.case.events.iter().filter(passes).filter(|event| event.at_ms <= NOW_MS).collect();
        // Those of one millisecond as they were stored.
        events.sort_by_key(|event| event.at_ms);
        let mut whose: BTreeMap<(u64, u64, i64), Vec<&Event>> = BTreeMap::new();
        for event in events {
            let key = if self.asked.count == "sessions" { event.session_key() } else { (event.person, 0, 0) };
            whose.entry(key).or_default().push(event);
        }
        let mut counted = Vec::new();
        for events in whose.values() {
            let journeys = match self.asked.count {
                "totals" => self.attempts(events).into_iter().map(|chain| (chain.iter().map(|(step, _)| *step).collect(), chain)).collect(),
                _ => self.journey(events).into_iter().collect::<Vec<_>>(),
            };
            counted.extend(journeys.into_iter().map(|(bars, chain)| self.one(events, bars, &chain)));
        }
        counted
    }

    fn one(&self, events: &[&Event], bars: BTreeSet<usize>, chain: &Chain) -> Counted {
        let attributed = match self.asked.attribution.as_str() {
            "first" => chain.first(),
            "last" => chain.last(),
            step => chain.iter().find(|(own, _)| format!("step:{}", own + 1) == step),
        };
        let key = attributed.map_or_else(|| self.case.breakdown.none(), |(_, event)| events[*event].key(self.case.breakdown));
        let shown = chain.iter().map(|(step, event)| (*step, events[*event].at_ms)).collect();
        Counted { person: events[chain[0].1].person, bars, shown, key }
    }
}

fn request(case: &Case, asked: &Asked, view: &str) -> Value {
    let mut request = case.request();
    for key in ["series", "formula"] {
        request.as_object_mut().unwrap().remove(key);
    }
    let with = |fits: &Fits, more: Value| {
        let mut one = fits.request();
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let steps: Vec<Value> = asked.steps.iter().map(|(fits, optional)| with(fits, json!({"optional": optional}))).collect();
    let exclusions: Vec<Value> =
        asked.exclusions.iter().map(|(fits, from, to)| with(fits, json!({"from_step": from + 1, "to_step": to + 1}))).collect();
    let own = json!({
        "steps": steps, "exclusions": exclusions, "window": WINDOWS[asked.window].0, "order": asked.order, "count": asked.count,
        "hold": asked.hold, "attribution": asked.attribution, "bins": asked.bins, "complete_windows_only": asked.complete, "view": view,
    });
    request.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    if !asked.filtered {
        request["filters"] = json!([]);
    }
    request
}

/// Compares all views of the funnel of a case, and the people behind its bars.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let asked = &case.funnel;
    let compared = super::trends::compared(case.range, &case.compare, case.zone);
    let counted = [case.range, compared].map(|range| Model { case, asked, range }.counted());
    let lines = lines(&counted[0], case);
    for view in ["steps", "time_to_convert", "trend"] {
        let request = request(case, asked, view);
        let answer = asker.ask("funnel", &request);
        for (shown, (counted, range)) in [&answer, &answer["compare"]].into_iter().zip(counted.iter().zip([case.range, compared])) {
            let groups = groups(counted, &lines, case);
            let expected: Vec<Value> = groups.iter().map(|group| expected(group, (case, asked, range), view)).collect();
            let answered = shown["groups"].as_array().unwrap();
            prop_assert!(agree(&json!(answered), &json!(expected)), "{request}\nanswered {answered:#?}\nexpected {expected:#?}");
        }
        if view == "steps" {
            let of_chart = [(&answer, false), (&answer["compare"], true)].into_iter().zip(&counted);
            for ((shown, is_compared), counted) in of_chart {
                check_people(asker, (&request, is_compared), shown, &groups(counted, &lines, case))?;
            }
        } else if view == "trend" {
            check_buckets(asker, &request, &answer)?;
        }
    }
    Ok(())
}

/// Every bar of every line has the people that it should, and as many as it says where it counts people.
fn check_people(
    asker: Asker<'_>,
    (request, is_compared): (&Value, bool),
    shown: &Value,
    groups: &[Group<'_>],
) -> Result<(), TestCaseError> {
    // One line of each funnel, any of them.
    let chosen = groups.iter().map(|group| group.counted.len()).sum::<usize>() % groups.len().max(1);
    for (line, group) in shown["groups"].as_array().unwrap().iter().zip(groups).skip(chosen).take(1) {
        for step in 0..line["steps"].as_array().unwrap().len() {
            for converted in [true, false].into_iter().take(if step == 0 { 1 } else { 2 }) {
                let who = |bar: usize| -> BTreeSet<u64> {
                    group.counted.iter().filter(|one| one.bars.contains(&bar)).map(|one| one.person).collect()
                };
                let expected = if converted { who(step) } else { &who(step - 1) - &who(step) };
                let of = bar_of(request, line, json!({"step": step + 1, "converted": converted}));
                let answer = asker.ask("users", &json!({"of": of, "compare": is_compared, "limit": 1_000}));
                prop_assert_eq!(&answer["total"], &json!(expected.len()), "{} {}", of, is_compared);
                prop_assert_eq!(answer["users"].as_array().unwrap().len(), expected.len(), "{}", of);
                if request["count"] == "users" {
                    let bar = &line["steps"][step][if converted { "count" } else { "dropped" }];
                    prop_assert_eq!(bar, &answer["total"], "{}", of);
                }
            }
        }
    }
    Ok(())
}

/// The people behind the first bars of a trend are as many as it says.
fn check_buckets(asker: Asker<'_>, request: &Value, shown: &Value) -> Result<(), TestCaseError> {
    if request["count"] != "users" {
        return Ok(());
    }
    for line in shown["groups"].as_array().unwrap().iter().take(2) {
        let last = request["steps"].as_array().unwrap().len();
        for (key, step) in [("entered", 1), ("converted", last)] {
            let numbers = line[key].as_array().unwrap().iter().enumerate().filter(|(_, number)| **number != json!(0));
            for (bucket, number) in numbers.take(2) {
                let of = bar_of(request, line, json!({"step": step, "bucket": shown["buckets"][bucket]}));
                prop_assert_eq!(&asker.ask("users", &json!({"of": of}))["total"], number, "{}", of);
            }
        }
    }
    Ok(())
}

/// The request of a bar.
fn bar_of(request: &Value, line: &Value, bar: Value) -> Value {
    let mut of = request.clone();
    of.as_object_mut().unwrap().extend(bar.as_object().unwrap().clone());
    of["report"] = json!("funnel");
    if !line["kind"].is_null() {
        of["breakdown_value"] = line["breakdown"].clone();
        of["breakdown_kind"] = line["kind"].clone();
    }
    of
}

/// Whether two answers are the same up to rounding.
fn agree(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| agree(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| agree(left, right)))
        }
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= 1e-9 * left.abs().max(1.0)
        }
        (left, right) => left == right,
    }
}
