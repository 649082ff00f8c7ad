//! Who an event belongs to, by a plain loop over all that ties two ids.

use std::collections::BTreeSet;

use proptest::prelude::*;
use pulse::clickhouse::ClickHouse;
use pulse::event::ids::{PersonKey, ProjectId};
use pulse::store::tables::IDENTITIES;
use pulse::store::tables::identities::{self, Pair, Ruling, Tie, TieKind};

use super::{Event, Traits};

/// What ties ids besides the events, and what was undone by hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ties {
    aliases: Vec<(u64, u64)>,
    undone: Vec<Pair>,
}

/// The key of an id: over the whole range of the type, the highest bit included.
pub(crate) fn key(id: u64) -> u64 {
    id.wrapping_mul(0x2AAA_AAAA_AAAA_AAAB)
}

/// When an alias was said.
const ALIASED_MS: i64 = 7;

/// An id as it is sent.
pub(crate) fn name(id: u64) -> String {
    format!("id {id}")
}

/// Device and user of an event: users are 0 to 5, devices 5 to 8.
pub(crate) fn ids() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
    let (device, user) = (5_u64..9, 0_u64..6);
    prop_oneof![
        3 => user.clone().prop_map(|user| (None, Some(user))),
        3 => device.clone().prop_map(|device| (Some(device), None)),
        2 => (device, user).prop_map(|(device, user)| (Some(device), Some(user))),
    ]
}

pub(crate) fn ties() -> impl Strategy<Value = Ties> {
    let alias = (0_u64..9, 0_u64..6).prop_filter("one id", |(from, to)| from != to);
    let undone = prop_oneof![
        (5_u64..9, 0_u64..6).prop_map(|(from, to)| pair(TieKind::Device, from, to)),
        (0_u64..6, 0_u64..6).prop_map(|(from, to)| pair(TieKind::Alias, from, to)),
    ];
    (prop::collection::vec(alias, 0..2), prop::collection::vec(undone, 0..4)).prop_map(|(aliases, undone)| Ties { aliases, undone })
}

fn pair(kind: TieKind, from: u64, to: u64) -> Pair {
    Pair { kind, from: PersonKey(key(from)), to: PersonKey(key(to)) }
}

/// The events, each with its person.
pub(crate) fn resolved(mut events: Vec<Event>, ties: &Ties) -> Vec<Event> {
    let persons: Vec<u64> = events.iter().map(|event| person(&events, ties, event)).collect();
    events.iter_mut().zip(persons).for_each(|(event, person)| event.person = person);
    let names: Vec<String> = events.iter().map(|event| called(&events, ties, event.person)).collect();
    events.iter_mut().zip(names).for_each(|(event, called)| event.called = called);
    let known: Vec<Traits> = events.iter().map(|event| traits(&events, event.person)).collect();
    events.iter_mut().zip(known).for_each(|(event, traits)| event.traits = traits);
    events
}

/// What is known of a person: of each trait the last that was said, by time and then by place.
fn traits(events: &[Event], person: u64) -> Traits {
    let mut said: Vec<&Event> = events.iter().filter(|event| event.kind == "identify" && event.person == person).collect();
    said.sort_by_key(|event| event.at_ms);
    let mut traits = Traits::default();
    for event in said {
        traits.plan = event.plan.clone().filter(|plan| !plan.is_null()).or(traits.plan);
        traits.amount = event.amount.or(traits.amount);
    }
    traits
}

/// What ties ids, without what is undone.
struct Made {
    /// Two users.
    aliases: Vec<(u64, u64)>,
    /// Time, device and user, in order.
    logins: Vec<(i64, u64, u64)>,
}

impl Made {
    fn of(events: &[Event], ties: &Ties) -> Self {
        let is_made = |kind, from: u64, to: u64| !ties.undone.contains(&pair(kind, from, to));
        let told = events.iter().filter_map(|event| Some((event.at_ms, event.device?, event.user?)));
        let told: Vec<_> = told.filter(|(_, device, user)| device != user && is_made(TieKind::Device, *device, *user)).collect();
        let aliases: Vec<_> = ties.aliases.iter().copied().filter(|(from, to)| is_made(TieKind::Alias, *from, *to)).collect();
        let is_user = |id: u64| told.iter().any(|(_, _, user)| *user == id) || aliases.iter().any(|(_, to)| *to == id);
        // An id that came beside a user, and is none, is a device, also where it signs up.
        let is_device = |id: u64| told.iter().any(|(_, device, _)| *device == id) && !is_user(id);
        let (sign_ups, aliases): (Vec<_>, Vec<_>) = aliases.iter().copied().partition(|(from, _)| is_device(*from));
        let mut logins: Vec<_> = sign_ups.into_iter().map(|(device, user)| (ALIASED_MS, device, user)).collect();
        // No event says which of them was first.
        logins.sort_by_key(|(_, _, user)| key(*user));
        logins.extend(told);
        // Those of one moment in the order of the list.
        logins.sort_by_key(|(at_ms, _, _)| *at_ms);
        Self { aliases, logins }
    }

    fn is_user(&self, id: u64) -> bool {
        self.logins.iter().any(|(_, _, user)| *user == id) || self.aliases.iter().any(|(from, to)| *from == id || *to == id)
    }

    /// All that aliases make one with a user.
    fn aliased(&self, user: u64) -> BTreeSet<u64> {
        let mut together = BTreeSet::from([user]);
        for _ in 0..9 {
            for (from, to) in &self.aliases {
                if together.contains(from) || together.contains(to) {
                    together.extend([from, to]);
                }
            }
        }
        together
    }
}

/// What a person is called: by a user that was not given up for another, if there is one; of several by the last in the alphabet.
fn called(events: &[Event], ties: &Ties, person: u64) -> String {
    let made = Made::of(events, ties);
    let is_former = |id: u64| made.aliases.iter().any(|(from, _)| *from == id);
    let users = made.aliased(person).into_iter().filter(|user| made.is_user(*user));
    users.map(|user| (!is_former(user), name(user))).max().map_or_else(|| name(person), |(_, name)| name)
}

fn person(events: &[Event], ties: &Ties, event: &Event) -> u64 {
    let made = Made::of(events, ties);
    // Which one stands for all of them is for nobody to see but the order of a list.
    let one_of_aliased = |user: u64| made.aliased(user).into_iter().min_by_key(|user| key(*user)).unwrap();
    // Ids are one set: what comes as a user in one event may be a device in another.
    let id = event.user.or(event.device).unwrap();
    if made.is_user(id) {
        return one_of_aliased(id);
    }
    let mut of_device = made.logins.iter().filter(|(_, device, _)| *device == id).peekable();
    let first = of_device.peek().copied();
    let in_force = of_device.take_while(|(at_ms, _, _)| *at_ms <= event.at_ms).last().or(first);
    in_force.map_or(id, |(_, _, user)| one_of_aliased(*user))
}

/// Writes what is tied, as the loader does, and what was ruled, as the API does: more than once, and anywhere.
pub(crate) async fn insert(store: &ClickHouse, project: u64, events: &[Event], ties: &Ties) {
    let tie = |pair: Pair, from: u64, to: u64, event, ruling| Tie {
        project: ProjectId(project),
        pair,
        from_id: name(from),
        to_id: name(to),
        event,
        ruling,
        known_ms: None,
    };
    let mut rows = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if let (Some(device), Some(user)) = (event.device, event.user)
            && device != user
        {
            let made = Some((event.at_ms, [index as u8; 16]));
            rows.push(tie(pair(TieKind::Device, device, user), device, user, made, Ruling::default()));
        }
    }
    rows.extend(
        ties.aliases
            .iter()
            .map(|(from, to)| tie(pair(TieKind::Alias, *from, *to), *from, *to, Some((ALIASED_MS, [7; 16])), Ruling::default())),
    );
    let ruling = Ruling::after(Ruling::default(), 5_000, true);
    rows.extend(ties.undone.iter().map(|undone| Tie { from_id: String::new(), to_id: String::new(), ..tie(*undone, 0, 0, None, ruling) }));
    for (number, shard) in store.shards.iter().enumerate() {
        let own: Vec<Tie> =
            rows.iter().enumerate().filter(|(at, _)| at % store.shards.len() == number).map(|(_, tie)| tie.clone()).collect();
        if !own.is_empty() {
            identities::insert(&shard.first().writer, &store.table(IDENTITIES.name()), &own).await.unwrap();
        }
    }
}
