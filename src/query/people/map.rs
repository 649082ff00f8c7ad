//! Who is who in a project: from ties to persons. Pure.
//!
//! * Users whom aliases tie are one person, through any number of aliases: the one with the smallest key stands for all. An alias of a device
//!   (an id that came beside a user, and never as one) is what a sign-up says on it, and ties it as a login does: several sign up on one.
//! * A device (an `anonymousId`) with one user is that user's, also before the login. An id that is known as a user, by any tie, is
//!   nobody's device: only aliases tie users.
//! * A device with several users is shared: an event without a user belongs to the user in force at its time, the one of the last tie at
//!   or before it, and before all ties to the first one. Users tied in one millisecond came in the order of the log.
//! * A device with more than [`MOST_USERS`] users stands for nobody and is tied to none; so are devices beyond [`MOST_SHARED`] and those
//!   whose turns there is no room for at all. Of one that changes hands more than [`MOST_TURNS`] times the last of them count; before those it
//!   stands for nobody.
//!
//! Promise: the map follows from the set of ties and of tie points, not from the order in which they are given. It is applied by the server
//! as it reads, so no event is written again: [`PersonMap::fill`] makes the expression, which is the bare column where nothing is tied.
//! Cost: 22 bytes of a statement for each id whose person is another, however often the statement asks for persons, and one look into a
//! hash table for each row.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::clickhouse::{Packed, Statement};
use crate::event::ids::PersonKey;
use crate::store::tables::identities::{Pair, TieKind, TieState};

/// A device with more users is none.
pub(crate) const MOST_USERS: usize = 1_000;
/// Shared devices of a project.
pub(crate) const MOST_SHARED: usize = 10_000;
/// Changes of the user of a shared device, and of those of all together: what a statement can carry.
pub(crate) const MOST_TURNS: usize = 700;
pub(crate) const MOST_TURNS_OF_ALL: usize = 200_000;

/// The person of an event where no device is shared.
const OF_NONE_SHARED: &str = "transform(person_id, tied_ids, tied_persons, person_id)";
/// The same where devices are: one stands among the ids with its number, until the time decides. The number may be the key of a person,
/// too: then there are no turns, which are the text of an array.
const OF_SHARED: &str = "if(transform(person_id, tied_ids, tied_persons, person_id) < shared_count, \
    if(transform(person_id, shared_devices, shared_times, '[]') = '[]', transform(person_id, tied_ids, tied_persons, person_id), \
    CAST(transform(person_id, shared_devices, shared_users, '[]'), 'Array(UInt64)')[greatest(1, arrayCount(\
    turn -> turn <= toUnixTimestamp64Milli(timestamp), \
    CAST(transform(person_id, shared_devices, shared_times, '[]'), 'Array(Int64)')))]), \
    transform(person_id, tied_ids, tied_persons, person_id))";

/// What is left out of who is who because there is more than can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut(u8);

impl LeftOut {
    /// Ties beyond those that are read of a project.
    pub(crate) const TIES: Self = Self(1);
    /// A device with more than [`MOST_USERS`].
    pub(crate) const USERS: Self = Self(2);
    /// Devices beyond [`MOST_SHARED`].
    pub(crate) const DEVICES: Self = Self(4);
    /// Turns of a device beyond [`MOST_TURNS`], or of all beyond [`MOST_TURNS_OF_ALL`].
    pub(crate) const TURNS: Self = Self(8);

    /// Each in words, as an answer says it.
    const WORDS: [(Self, &'static str); 4] = [
        (Self::TIES, "the project has more than 1,000,000 ties of ids: those beyond are not looked at"),
        (Self::USERS, "a device has more than 1,000 users: it is nobody's"),
        (Self::DEVICES, "more than 10,000 devices have several users: those beyond are nobody's"),
        (
            Self::TURNS,
            "a device changed hands too often (700 times, or 200,000 times all devices together): only its last turns are looked at",
        ),
    ];

    /// As one byte, and back.
    pub(crate) fn code(self) -> u8 {
        self.0
    }

    pub(crate) fn of_code(code: u8) -> Self {
        Self(code)
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is to be said of it.
    pub(crate) fn warnings(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(what, _)| self.0 & what.0 != 0).map(|(_, words)| words)
    }
}

/// From when on a device is whose: time in milliseconds and user, in order.
pub(crate) type Turns = Vec<(i64, u64)>;

/// The users of devices and the aliases of users, before it is known when a shared device was whose.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// The representative of each user who is not their own.
    users: HashMap<u64, u64>,
    /// The one user of each device that has one.
    devices: Vec<(u64, u64)>,
    /// The users of devices that have several.
    shared: BTreeMap<u64, BTreeSet<u64>>,
    left_out: LeftOut,
}

/// The person of every id that is not its own person.
#[derive(Debug, Default)]
pub(crate) struct PersonMap {
    /// Ids and their persons, sorted.
    persons: Vec<(u64, u64)>,
    /// Shared devices, sorted, and when they are whose.
    shared: Vec<(u64, Turns)>,
    encoded: Encoded,
    fingerprint: u64,
    left_out: LeftOut,
}

/// The map as statements carry it.
#[derive(Debug, Default)]
struct Encoded {
    ids: Packed,
    persons: Packed,
    devices: Packed,
    times: Vec<String>,
    users: Vec<String>,
}

impl Ties {
    /// Of all ties that are not undone.
    pub(crate) fn of(states: &[TieState]) -> Self {
        let pairs = || states.iter().filter(|state| !state.ruling.is_undone()).map(|state| state.pair);
        let devices: HashSet<u64> = pairs().filter(|pair| pair.kind == TieKind::Device).map(|pair| pair.from.0).collect();
        let users: HashSet<u64> = pairs().map(|pair| pair.to.0).collect();
        let is_of_device = |pair: &Pair| devices.contains(&pair.from.0) && !users.contains(&pair.from.0);
        let made = || pairs().map(|pair| if is_of_device(&pair) { Pair { kind: TieKind::Device, ..pair } } else { pair });
        let aliases = made().filter(|pair| pair.kind == TieKind::Alias);
        let users = representatives(aliases.map(|Pair { from, to, .. }| (from.0, to.0)));
        let known: HashSet<u64> = made().flat_map(known_as_users).collect();
        let mut ties = Self { users, ..Self::default() };
        let mut devices: Vec<(u64, u64)> = made()
            .filter(|pair| pair.kind == TieKind::Device && !known.contains(&pair.from.0))
            .map(|Pair { from, to, .. }| (from.0, to.0))
            .collect();
        devices.sort_unstable();
        devices.dedup();
        for of_device in devices.chunk_by(|left, right| left.0 == right.0) {
            match of_device {
                [tie] => ties.devices.push(*tie),
                [(device, _), ..] if of_device.len() <= MOST_USERS && ties.shared.len() < MOST_SHARED => {
                    ties.shared.insert(*device, of_device.iter().map(|(_, user)| *user).collect());
                }
                more => ties.left_out = ties.left_out.with(if more.len() > MOST_USERS { LeftOut::USERS } else { LeftOut::DEVICES }),
            }
        }
        ties
    }

    /// The same where not all ties were looked at.
    pub(crate) fn without_some(self, is_so: bool) -> Self {
        let more = if is_so { LeftOut::TIES } else { LeftOut::default() };
        Self { left_out: self.left_out.with(more), ..self }
    }

    /// The shared devices with all their users.
    pub(crate) fn shared(&self) -> impl ExactSizeIterator<Item = (u64, &BTreeSet<u64>)> {
        self.shared.iter().map(|(device, users)| (*device, users))
    }

    fn representative(&self, user: u64) -> u64 {
        self.users.get(&user).copied().unwrap_or(user)
    }

    /// The map, once it is known when the shared devices changed hands.
    pub(crate) fn with_turns(&self, turns: &HashMap<u64, Turns>) -> PersonMap {
        let mut persons: Vec<(u64, u64)> = self.users.iter().map(|(user, person)| (*user, *person)).collect();
        persons.extend(self.devices.iter().map(|(device, user)| (*device, self.representative(*user))));
        let (mut shared, mut left, mut left_out) = (Vec::new(), MOST_TURNS_OF_ALL, self.left_out);
        for device in self.shared.keys() {
            let turns = turns.get(device).map_or(&[][..], Vec::as_slice);
            let turns = taking_turns(turns.iter().map(|(at_ms, user)| (*at_ms, self.representative(*user))));
            match turns.as_slice() {
                [] => {}
                [(_, person)] => persons.push((*device, *person)),
                more => {
                    let kept = last(more, *device, MOST_TURNS.min(left));
                    left_out = if kept.len() < more.len() { left_out.with(LeftOut::TURNS) } else { left_out };
                    left -= kept.len();
                    if !kept.is_empty() {
                        shared.push((*device, kept));
                    }
                }
            }
        }
        persons.sort_unstable();
        PersonMap { left_out, ..PersonMap::new(persons, shared) }
    }
}

/// The ids that a tie says are users.
fn known_as_users(pair: Pair) -> impl Iterator<Item = u64> {
    let previous = (pair.kind == TieKind::Alias).then_some(pair.from.0);
    previous.into_iter().chain([pair.to.0])
}

/// When somebody else takes over, of points in order: only those points matter, and of several at one time the last; of all the first,
/// too, whom the device belongs to before.
pub(crate) fn taking_turns(points: impl IntoIterator<Item = (i64, u64)>) -> Turns {
    let mut turns = Turns::new();
    for point in points {
        if turns.len() > 1 && turns.last().is_some_and(|(at_ms, _)| *at_ms == point.0) {
            turns.pop();
        }
        if turns.last().is_none_or(|(_, user)| *user != point.1) {
            turns.push(point);
        }
    }
    turns
}

/// As many turns as there is room for: the last ones, and before them the device is its own.
fn last(turns: &[(i64, u64)], device: u64, room: usize) -> Turns {
    match turns.len().checked_sub(room) {
        None | Some(0) => turns.to_vec(),
        Some(_) if room < 2 => Turns::new(),
        Some(more) => std::iter::once((i64::MIN, device)).chain(turns.iter().skip(more + 1).copied()).collect(),
    }
}

/// The smallest of all that are tied, for each that is not the smallest.
fn representatives(ties: impl Iterator<Item = (u64, u64)>) -> HashMap<u64, u64> {
    let mut above: HashMap<u64, u64> = HashMap::new();
    for (one, other) in ties {
        let (one, other) = (top(&mut above, one), top(&mut above, other));
        if one != other {
            above.insert(one.max(other), one.min(other));
        }
    }
    let users: Vec<u64> = above.keys().copied().collect();
    users.into_iter().map(|user| (user, top(&mut above, user))).collect()
}

/// The top of a tree; the way there is shorter afterwards.
fn top(above: &mut HashMap<u64, u64>, user: u64) -> u64 {
    let mut top = user;
    while let Some(next) = above.get(&top) {
        top = *next;
    }
    let mut below = user;
    while below != top {
        let next = above.insert(below, top);
        below = next.unwrap_or(top);
    }
    top
}

impl PersonMap {
    fn new(persons: Vec<(u64, u64)>, shared: Vec<(u64, Turns)>) -> Self {
        // Sorted, a shared device stands among the ids; its person is its number until the time decides.
        let numbers = shared.iter().zip(0..).map(|((device, _), number)| (*device, number));
        let mut ids: Vec<(u64, u64)> = persons.iter().copied().chain(numbers).collect();
        ids.sort_unstable();
        let list = |numbers: Vec<String>| format!("[{}]", numbers.join(","));
        let encoded = Encoded {
            ids: Packed::of(ids.iter().map(|(id, _)| *id)),
            persons: Packed::of(ids.iter().map(|(_, person)| *person)),
            devices: Packed::of(shared.iter().map(|(device, _)| *device)),
            times: shared.iter().map(|(_, turns)| list(turns.iter().map(|(at_ms, _)| at_ms.to_string()).collect())).collect(),
            users: shared.iter().map(|(_, turns)| list(turns.iter().map(|(_, user)| user.to_string()).collect())).collect(),
        };
        let bytes: Vec<u8> = persons.iter().flat_map(|(id, person)| [*id, *person]).flat_map(u64::to_le_bytes).collect();
        let fingerprint =
            if persons.is_empty() && shared.is_empty() { 0 } else { xxh3_64(&[&*bytes, format!("{shared:?}").as_bytes()].concat()) };
        Self { persons, shared, encoded, fingerprint, left_out: LeftOut::default() }
    }

    /// What is not in it because there is more than can be looked at.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The same for equal maps, whichever instance has made them.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let turns: usize = self.shared.iter().map(|(_, turns)| 16 * turns.len()).sum();
        let texts: usize = self.encoded.times.iter().chain(&self.encoded.users).map(String::len).sum();
        16 * self.persons.len() + turns + texts + self.encoded.ids.bytes() + self.encoded.persons.bytes()
    }

    /// Whether any id is another's.
    pub(crate) fn has_ties(&self) -> bool {
        !self.persons.is_empty() || !self.shared.is_empty()
    }

    /// The person of an id that stands in an event of `at_ms`.
    pub(crate) fn person(&self, id: PersonKey, at_ms: i64) -> PersonKey {
        if let Ok(at) = self.persons.binary_search_by_key(&id.0, |(id, _)| *id) {
            return PersonKey(self.persons[at].1);
        }
        match self.shared.binary_search_by_key(&id.0, |(device, _)| *device) {
            Ok(at) => {
                let turns = &self.shared[at].1;
                let before = turns.partition_point(|(turn_ms, _)| *turn_ms <= at_ms);
                turns.get(before.saturating_sub(1)).map_or(id, |(_, user)| PersonKey(*user))
            }
            Err(_) => id,
        }
    }

    /// All ids whose events may belong to `person`, itself first.
    pub(crate) fn ids(&self, person: PersonKey) -> Vec<PersonKey> {
        let own = self.persons.iter().filter(|(_, of)| *of == person.0).map(|(id, _)| *id);
        let shared = self.shared.iter().filter(|(_, turns)| turns.iter().any(|(_, user)| *user == person.0)).map(|(device, _)| *device);
        std::iter::once(person.0).chain(own).chain(shared).map(PersonKey).collect()
    }

    /// The statement with the person of an event at each `mark`. What all of them need stands once at its head.
    pub(crate) fn fill(&self, statement: Statement, mark: &'static str) -> Statement {
        if !self.has_ties() || !statement.text().contains(mark) {
            return statement.filled(mark, |to| to.sql("person_id"));
        }
        let person = if self.shared.is_empty() { OF_NONE_SHARED } else { OF_SHARED };
        statement.filled(mark, |to| to.sql(person)).headed(|to| self.head(to))
    }

    /// The lists that [`OF_NONE_SHARED`] and [`OF_SHARED`] look ids up in.
    fn head(&self, to: Statement) -> Statement {
        let to = to.sql("WITH ").packed(&self.encoded.ids).sql(" AS tied_ids, ").packed(&self.encoded.persons).sql(" AS tied_persons");
        if self.shared.is_empty() {
            return to.sql(" ");
        }
        let lists = |to: Statement, lists: &[String]| to.sql(", (SELECT ").strings(lists.iter().map(String::as_str)).sql(")");
        let to = to.sql(", ").packed(&self.encoded.devices).sql(" AS shared_devices");
        let to = lists(to, &self.encoded.times).sql(" AS shared_times");
        let to = lists(to, &self.encoded.users).sql(" AS shared_users, ").uint(self.shared.len() as u64);
        to.sql(" AS shared_count ")
    }
}

#[cfg(test)]
mod tests;
