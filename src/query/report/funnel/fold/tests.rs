//! The fold against the definitions: every chain there is, one after the other.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

/// Whether no excluded event lies strictly between the steps of a chain.
fn is_clean(funnel: &Funnel, events: &[Event], chain: &[Link]) -> bool {
    funnel.exclusions.iter().enumerate().all(|(number, between)| {
        let at = |step: usize| chain.iter().find(|link| link.step == step).map(|link| events[link.event].at_ms);
        let (Some(from), Some(to)) = (at(between.from), at(between.to)) else { return true };
        let is_inside = |event: &Event| event.excluded & (1 << number) != 0 && from.min(to) < event.at_ms && event.at_ms < from.max(to);
        !events.iter().any(is_inside)
    })
}

/// All chains of one step after the other.
fn ordered_chains(funnel: &Funnel, events: &[Event]) -> Vec<Vec<Link>> {
    let mut chains: Vec<Vec<Link>> = Vec::new();
    let mut open: Vec<Vec<Link>> = (0..events.len())
        .filter(|event| events[*event].steps & 1 != 0 && funnel.entries.contains(&events[*event].at_ms))
        .map(|event| vec![Link { step: 0, event }])
        .collect();
    while let Some(chain) = open.pop() {
        let (first, last) = (events[chain[0].event], *chain.last().unwrap());
        for step in last.step + 1..funnel.steps {
            for (number, event) in events.iter().enumerate() {
                let fits = event.steps & (1 << step) != 0 && event.held == first.held;
                let is_later = event.at_ms >= events[last.event].at_ms && chain.iter().all(|link| link.event != number);
                let is_next = funnel.order != Order::Strict || number == last.event + 1;
                if fits && is_later && is_next && event.at_ms - first.at_ms <= funnel.window_ms {
                    let longer: Vec<Link> = chain.iter().copied().chain([Link { step, event: number }]).collect();
                    open.extend(is_clean(funnel, events, &longer).then_some(longer));
                }
            }
            if funnel.optional & (1 << step) == 0 {
                break;
            }
        }
        chains.push(chain);
    }
    chains
}

/// All chains of steps as they come.
fn unordered_chains(funnel: &Funnel, events: &[Event]) -> Vec<Vec<Link>> {
    let mut chains: Vec<Vec<Link>> = vec![Vec::new()];
    for step in 0..funnel.steps {
        for chain in chains.clone() {
            for (number, event) in events.iter().enumerate() {
                let is_other = chain.iter().all(|link| link.event != number && events[link.event].held == event.held);
                if event.steps & (1 << step) != 0 && is_other {
                    chains.push(chain.iter().copied().chain([Link { step, event: number }]).collect());
                }
            }
        }
    }
    let is_chain = |chain: &Vec<Link>| {
        let times: Vec<i64> = chain.iter().map(|link| events[link.event].at_ms).collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return false };
        funnel.entries.contains(first) && last - first <= funnel.window_ms && is_clean(funnel, events, chain)
    };
    chains.retain(is_chain);
    chains.iter_mut().for_each(|chain| chain.sort_by_key(|link| link.event));
    chains
}

fn expected(funnel: &Funnel, events: &[Event]) -> Option<Journey> {
    let (chains, depth): (_, fn(&Vec<Link>) -> usize) = match funnel.order {
        Order::Unordered => (unordered_chains(funnel, events), Vec::len),
        _ => (ordered_chains(funnel, events), |chain| chain.last().unwrap().step + 1),
    };
    let reached = chains.iter().fold(0, |reached, chain| reached | 1 << (depth(chain) - 1));
    let deepest = chains.iter().map(depth).max()?;
    let by_step = |chain: &Vec<Link>| -> Vec<usize> {
        let at = |step| chain.iter().find(|link| link.step == step).map_or(usize::MAX, |link| link.event);
        std::iter::once(chain[0].event).chain((0..funnel.steps).map(at)).collect()
    };
    let shown = chains.iter().filter(|chain| depth(chain) == deepest).min_by_key(|chain| by_step(chain))?.clone();
    Some(Journey { reached, shown })
}

/// The attempts, by the letter of their definition.
fn expected_attempts(funnel: &Funnel, events: &[Event]) -> Vec<Journey> {
    let mut attempts: Vec<(Journey, bool)> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        for (exclusion, between) in funnel.exclusions.iter().enumerate() {
            if event.excluded & (1 << exclusion) != 0 {
                for (attempt, is_over) in &mut attempts {
                    let at = attempt.shown.last().unwrap().step;
                    *is_over |= (between.from..between.to).contains(&at);
                }
            }
        }
        let follows = |at: usize, step: usize| at < step && (at + 1..step).all(|between| funnel.optional & (1 << between) != 0);
        let fits = |step: usize| event.steps & (1 << step) != 0;
        let mut ways: Vec<(usize, usize)> = (0..funnel.steps).flat_map(|at| (0..funnel.steps).map(move |step| (at, step))).collect();
        ways.retain(|(at, step)| follows(*at, *step) && fits(*step));
        ways.sort_by_key(|(at, step)| (std::cmp::Reverse(*at), *step));
        let oldest = ways.iter().find_map(|(at, step)| {
            let stands = |(attempt, is_over): &(Journey, bool)| {
                let first = events[attempt.shown[0].event];
                let is_at = attempt.shown.last().unwrap().step == *at;
                !is_over && is_at && first.held == event.held && event.at_ms - first.at_ms <= funnel.window_ms
            };
            Some((attempts.iter().position(stands)?, *step))
        });
        if let Some((attempt, step)) = oldest {
            attempts[attempt].0.shown.push(Link { step, event: number });
            attempts[attempt].0.reached |= 1 << step;
        } else if fits(0) && funnel.entries.contains(&event.at_ms) {
            attempts.push((Journey { reached: 1, shown: vec![Link { step: 0, event: number }] }, false));
        }
    }
    attempts.into_iter().map(|(attempt, _)| attempt).collect()
}

fn funnel() -> impl Strategy<Value = Funnel> {
    let orders = prop::sample::select(vec![Order::Ordered, Order::Ordered, Order::Strict, Order::Unordered]);
    let shape = (2_usize..6, any::<u32>(), any::<u32>(), orders, 0_i64..6, -1_i64..4, 1_i64..8);
    let shape = shape.prop_flat_map(|shape| {
        let between = (0..shape.0 - 1, 1..shape.0).prop_filter("in order", |(from, to)| from < to);
        (Just(shape), prop_oneof![Just(Vec::new()).boxed(), prop::collection::vec(between, 0..4).boxed()])
    });
    shape.prop_map(|((steps, some, others, order, window_ms, from, length), between)| Funnel {
        steps,
        // Each step may be left out in a quarter of the cases.
        optional: some & others & ((1 << steps) - 2),
        order,
        window_ms,
        exclusions: between.into_iter().map(|(from, to)| Between { from, to }).collect(),
        entries: from..from + length,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let steps = prop_oneof![4 => (0_u32..5).prop_map(|step| 1 << step), 2 => 0_u32..32, 1 => Just(0)];
    let excluded = prop_oneof![3 => Just(0), 1 => 0_u32..8];
    let event = (0_i64..8, steps, excluded, prop_oneof![4 => Just(0), 1 => Just(1_u64)]);
    let event = event.prop_map(|(at_ms, steps, excluded, held)| Event { at_ms, steps, excluded, held });
    // Few different times: ties everywhere. Or none at all, as nearly always in life.
    let spread = prop::sample::select(vec![0_i64, 1, 2, 8]);
    (prop::collection::vec(event, 0..8), spread).prop_map(|(mut events, spread)| {
        for (number, event) in (0_i64..).zip(&mut events) {
            event.at_ms = if spread == 0 { number } else { event.at_ms / spread * spread };
        }
        events.sort_by_key(|event| event.at_ms);
        events
    })
}

/// Events beyond the steps of a funnel fit none of them.
fn cut(funnel: &Funnel, events: Vec<Event>) -> Vec<Event> {
    let own = (1 << funnel.steps) - 1;
    events.into_iter().map(|event| Event { steps: event.steps & own, ..event }).collect()
}

fn check(funnel: &Funnel, events: &[Event]) -> Result<(), TestCaseError> {
    let expected = expected(funnel, events);
    prop_assert_eq!(funnel.searched(events, &mut whole()), Ok(expected.clone()));
    prop_assert_eq!(funnel.journey(events, &mut whole()), Ok(expected));
    prop_assert_eq!(funnel.attempts(events, &mut whole()), Ok(expected_attempts(funnel, events)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journey_is_what_trying_all_chains_finds(funnel in funnel(), events in events()) {
        let events = cut(&funnel, events);
        check(&funnel, &events)?;
    }
}

fn plain(steps: usize, order: Order) -> Funnel {
    Funnel { steps, optional: 0, order, window_ms: i64::MAX / 4, exclusions: Vec::new(), entries: 0..i64::MAX }
}

fn whole() -> Budget {
    Budget::of(Held::of_limit(256 << 20), Arc::default())
}

/// One client with events of one id without end takes no more memory of a question than one may hold, and no more time than its asker waits.
#[test]
fn a_history_holds_no_more_than_a_question_may_and_ends_when_nobody_waits() {
    let any: Vec<Event> = (0..100_000).map(|at| event(at, (1 << 20) - 1)).collect();
    let searched = Funnel { exclusions: vec![Between { from: 0, to: 1 }], ..plain(20, Order::Ordered) };
    let mut budget = Budget::of(Held::of_limit(16 << 20), Arc::default());
    assert_eq!(searched.journey(&any, &mut budget), Err(TooMuchWork));
    assert_eq!((budget.full(), budget.held.bytes()), (None, 0), "alone it is more than a question may hold");
    // Of one step right after the other each beginning lets go of what it knew.
    let strict = Funnel { optional: 0b0111_1111_1111_1111_1110, ..plain(20, Order::Strict) };
    assert!(strict.journey(&any, &mut Budget::of(Held::of_limit(8 << 20), Arc::default())).unwrap().is_some());
    for funnel in [&searched, &strict] {
        let mut abandoned = Budget::of(Held::of_limit(1 << 30), Arc::new(AtomicBool::new(true)));
        assert_eq!(funnel.journey(&any, &mut abandoned), Err(TooMuchWork));
        assert!(MOST_WORK - abandoned.work < 2 * LOOKS, "{:?}", funnel.order);
    }
    let mut budget = Budget::of(Held::of_limit(4 << 20), Arc::default());
    assert_eq!(plain(2, Order::Ordered).attempts(&any, &mut budget), Err(TooMuchWork));
    assert_eq!((budget.full(), budget.held.bytes()), (None, 0));
    let beside = Held::of_limit(64 << 20);
    let mut others = beside.another();
    others.set((64 << 20) - HELD_AT_ONCE).unwrap();
    let mut budget = Budget::of(beside, Arc::default());
    assert_eq!(searched.journey(&any, &mut budget), Err(TooMuchWork));
    assert_eq!(budget.full(), Some(OutOfMemory::Question), "another pass may hold less beside it");
}

fn event(at_ms: i64, steps: u32) -> Event {
    Event { at_ms, steps, excluded: 0, held: 0 }
}

#[test]
fn a_long_history_is_folded_whatever_it_looks_like() {
    let number = 50_000_i64;
    for (order, steps) in [(Order::Ordered, 20), (Order::Strict, 20), (Order::Unordered, 5)] {
        let funnel = plain(steps, order);
        let all: Vec<Event> = (0..number).map(|at| event(at, 1 << (at % 20) & ((1 << steps) - 1))).collect();
        let at_once: Vec<Event> = (0..number).map(|_| event(7, 1)).collect();
        let journey = funnel.journey(&all, &mut whole()).unwrap().unwrap();
        assert_eq!(journey.reached.count_ones() as usize, steps, "{order:?}");
        assert_eq!(funnel.journey(&at_once, &mut whole()).unwrap().unwrap().reached, 1, "{order:?}");
    }
    let crowd: Vec<Event> = (0..number).map(|at| event(at / 1_000, 0b11_1111)).collect();
    assert_eq!(plain(6, Order::Ordered).journey(&crowd, &mut whole()).unwrap().unwrap().reached, 0b11_1111);
    assert_eq!(plain(6, Order::Ordered).attempts(&crowd, &mut whole()).unwrap().len(), number as usize / 6 + 1);
}

#[test]
fn a_question_that_takes_too_much_work_is_refused() {
    let exclusions = (0..10).map(|from| Between { from, to: from + 1 }).collect();
    let funnel = Funnel { exclusions, ..plain(12, Order::Unordered) };
    let events: Vec<Event> = (0..400).map(|at| Event { excluded: 0b11_1111_1111, ..event(at, 0b111_1111_1111) }).collect();
    assert_eq!(funnel.journey(&events, &mut Budget { work: 1_000_000, ..whole() }), Err(TooMuchWork));
}
