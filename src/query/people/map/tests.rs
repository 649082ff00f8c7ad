//! The map against the plain definition: who is who, tie by tie and event by event.

use proptest::prelude::*;

use super::*;
use crate::store::tables::identities::Ruling;

/// A tie as it was made.
#[derive(Clone, Copy, Debug)]
struct Made {
    pair: Pair,
    at_ms: i64,
    is_undone: bool,
}

fn made() -> impl Strategy<Value = Made> {
    // Few ids: devices 0 to 4 and users 3 to 9, so that some are both.
    let device = (0_u64..5, 3_u64..10).prop_map(|(from, to)| (TieKind::Device, from, to));
    let alias = (2_u64..10, 3_u64..10).prop_map(|(from, to)| (TieKind::Alias, from, to));
    let pair = prop_oneof![4 => device, 1 => alias].prop_filter("one id", |(_, from, to)| from != to);
    (pair, 0_i64..6, prop::bool::weighted(0.15)).prop_map(|((kind, from, to), at_ms, is_undone)| Made {
        pair: Pair { kind, from: PersonKey(from), to: PersonKey(to) },
        at_ms,
        is_undone,
    })
}

/// The ties that hold: a pair is undone if any of its ties says so, and an alias of a device ties that device.
fn held(made: &[Made]) -> Vec<Made> {
    let is_undone = |pair: Pair| made.iter().any(|tie| tie.pair == pair && tie.is_undone);
    let held: Vec<Made> = made.iter().copied().filter(|tie| !is_undone(tie.pair)).collect();
    let is_device = |id| held.iter().any(|tie| tie.pair.kind == TieKind::Device && tie.pair.from == id);
    let is_user = |id| held.iter().any(|tie| tie.pair.to == id);
    let as_taken = |tie: &Made| match is_device(tie.pair.from) && !is_user(tie.pair.from) {
        true => Made { pair: Pair { kind: TieKind::Device, ..tie.pair }, ..*tie },
        false => *tie,
    };
    held.iter().map(as_taken).collect()
}

/// The plain definition. `made` are all ties of all events.
fn expected(made: &[Made], id: u64, at_ms: i64) -> u64 {
    let ties = held(made);
    let of = |kind| ties.iter().filter(move |tie| tie.pair.kind == kind).map(|tie| (tie.at_ms, tie.pair.from.0, tie.pair.to.0));
    let is_user =
        |id: u64| of(TieKind::Device).any(|(_, _, to)| to == id) || of(TieKind::Alias).any(|(_, from, to)| from == id || to == id);
    let person = |user: u64| {
        let mut together = BTreeSet::from([user]);
        for _ in 0..20 {
            for (_, from, to) in of(TieKind::Alias) {
                if together.contains(&from) || together.contains(&to) {
                    together.extend([from, to]);
                }
            }
        }
        *together.first().unwrap()
    };
    if is_user(id) {
        return person(id);
    }
    let mut points: Vec<(i64, u64)> = of(TieKind::Device).filter(|(_, from, _)| *from == id).map(|(at_ms, _, to)| (at_ms, to)).collect();
    points.sort_unstable();
    let in_force = points.iter().rev().find(|(tied_ms, _)| *tied_ms <= at_ms).or(points.first());
    in_force.map_or(id, |(_, user)| person(*user))
}

/// The states of the table in the order in which they were made, and the turns that it tells of shared devices.
fn map_of(made: &[Made]) -> PersonMap {
    let mut states: Vec<TieState> = Vec::new();
    for tie in made {
        let at = states.iter().position(|state| state.pair == tie.pair).unwrap_or_else(|| {
            let (first_ms, ruling) = (Some(tie.at_ms), Ruling::default());
            states.push(TieState { pair: tie.pair, first_ms, ruling, written_ms: 0, known_ms: 0 });
            states.len() - 1
        });
        let state = &mut states[at];
        state.first_ms = state.first_ms.min(Some(tie.at_ms));
        if tie.is_undone {
            state.ruling = Ruling::after(Ruling::default(), 1, true);
        }
    }
    let mut points: HashMap<u64, BTreeSet<(i64, u64)>> = HashMap::new();
    for tie in held(made).iter().filter(|tie| tie.pair.kind == TieKind::Device) {
        points.entry(tie.pair.from.0).or_default().insert((tie.at_ms, tie.pair.to.0));
    }
    let turns = points.into_iter().map(|(device, points)| (device, taking_turns(points))).collect();
    Ties::of(&states).with_turns(&turns)
}

/// Of six items the order of that number, of 720.
fn order<T: Copy>(items: &[T; 6], number: usize) -> Vec<T> {
    let (mut left, mut number) = (items.to_vec(), number);
    (1..=items.len()).rev().map(|choices| (left.remove(number % choices), number /= choices).0).collect()
}

/// A device that two users share and another one, of three users of whom an alias makes two one; a login is undone.
#[test]
fn every_order_of_a_few_ties_makes_the_same_people() {
    let tie = |kind, from, to, at_ms, is_undone| Made { pair: Pair { kind, from: PersonKey(from), to: PersonKey(to) }, at_ms, is_undone };
    let ties = [
        tie(TieKind::Device, 0, 5, 1, false),
        tie(TieKind::Device, 0, 6, 3, false),
        tie(TieKind::Device, 0, 5, 4, false),
        tie(TieKind::Device, 1, 7, 2, false),
        tie(TieKind::Device, 1, 6, 2, true),
        tie(TieKind::Alias, 7, 6, 5, false),
    ];
    let fingerprint = map_of(&ties).fingerprint();
    for number in 0..720 {
        let made = order(&ties, number);
        let map = map_of(&made);
        assert_eq!(map.fingerprint(), fingerprint, "{made:?}");
        for (id, at_ms) in (0..8).flat_map(|id| (0..6).map(move |at_ms| (id, at_ms))) {
            assert_eq!(map.person(PersonKey(id), at_ms).0, expected(&ties, id, at_ms), "{id} at {at_ms} of {made:?}");
        }
    }
    // In the order of time: who has the shared device, the one whom the alias names, and the device of which the login was undone.
    let map = map_of(&ties);
    assert_eq!([0, 1, 2, 3, 4].map(|at_ms| map.person(PersonKey(0), at_ms).0), [5, 5, 5, 6, 5]);
    assert_eq!([7, 1].map(|id| map.person(PersonKey(id), 0).0), [6, 6]);
}

proptest! {
    #[test]
    fn everybody_is_who_the_ties_say_in_any_order(made in prop::collection::vec(made(), 0..14), seed: u64) {
        let map = map_of(&made);
        let mut shuffled = made.clone();
        shuffled.sort_by_key(|tie| (tie.at_ms as u64 ^ seed).wrapping_mul(tie.pair.from.0 + 3));
        let again = map_of(&[shuffled.clone(), shuffled].concat());
        prop_assert_eq!(map.fingerprint(), again.fingerprint());
        for id in 0..10 {
            for at_ms in -1..7 {
                let person = map.person(PersonKey(id), at_ms).0;
                prop_assert_eq!(person, expected(&made, id, at_ms), "{} at {}", id, at_ms);
                prop_assert!(map.ids(PersonKey(person)).contains(&PersonKey(id)), "{} of {}", id, person);
            }
        }
    }
}

#[test]
fn nothing_tied_costs_nothing() {
    assert_eq!(map_of(&[]).fill(Statement::of("SELECT {person}"), "{person}").text(), "SELECT person_id");
}

#[test]
fn a_statement_carries_the_ties_once_however_often_it_asks_for_persons() {
    let persons: Vec<(u64, u64)> = (0..100_000).map(|id| (id, id / 2)).collect();
    let turns = (0..700).map(|turn| (turn, 1 << 60 | turn as u64)).collect();
    for map in [PersonMap::new(persons.clone(), Vec::new()), PersonMap::new(persons, vec![(1 << 50, turns)])] {
        let asking = |times: usize| (0..times).fold(Statement::of("SELECT 1"), |to, _| to.sql(", {person}"));
        let [once, often] = [1, 200].map(|times| map.fill(asking(times), "{person}"));
        assert!(often.text().starts_with("WITH (SELECT finalizeAggregation") && often.fits());
        assert_eq!(once.params().collect::<Vec<_>>(), often.params().collect::<Vec<_>>());
        assert_eq!(map.fill(asking(0), "{person}").text(), "SELECT 1");
    }
}

#[test]
fn of_a_device_that_changes_hands_too_often_the_last_turns_count() {
    let turns: Turns = (0..1_000).map(|turn| (turn, 10 + turn as u64 % 2)).collect();
    let kept = last(&turns, 1, MOST_TURNS);
    assert_eq!(kept.len(), MOST_TURNS);
    let map = PersonMap::new(Vec::new(), vec![(1, kept)]);
    for at_ms in 301..1_000 {
        assert_eq!(map.person(PersonKey(1), at_ms), PersonKey(10 + at_ms as u64 % 2));
    }
    assert_eq!(map.person(PersonKey(1), 300), PersonKey(1));
    assert_eq!((last(&turns[..700], 1, MOST_TURNS).len(), last(&turns, 1, 1).len()), (700, 0));
}

#[test]
fn a_device_of_more_users_than_it_can_have_stands_for_nobody() {
    let tie = |user| Made { pair: Pair { kind: TieKind::Device, from: PersonKey(1), to: PersonKey(user) }, at_ms: 0, is_undone: false };
    let of = |users: usize| map_of(&(0..users as u64).map(|user| tie(10 + user)).collect::<Vec<_>>());
    assert_eq!(of(MOST_USERS).person(PersonKey(1), 0), PersonKey(9 + MOST_USERS as u64));
    assert_eq!(of(MOST_USERS).person(PersonKey(1), -1), PersonKey(10));
    assert_eq!(of(MOST_USERS + 1).person(PersonKey(1), 0), PersonKey(1));
    assert_eq!((of(MOST_USERS).left_out(), of(MOST_USERS + 1).left_out()), (LeftOut::default(), LeftOut::USERS));
}

#[test]
fn what_is_left_out_is_said_once_for_each_reason() {
    let all = [LeftOut::TIES, LeftOut::USERS, LeftOut::DEVICES, LeftOut::TURNS].into_iter().fold(LeftOut::default(), LeftOut::with);
    assert_eq!((all.warnings().count(), LeftOut::default().warnings().count()), (4, 0));
    assert_eq!(LeftOut::of_code(all.code()), all);
    assert!(LeftOut::TURNS.warnings().next().unwrap().contains("changed hands"));
    let of_many = Ties::of(&[]).without_some(true).with_turns(&HashMap::new());
    assert_eq!(of_many.left_out(), LeftOut::TIES);
}
