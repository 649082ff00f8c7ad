//! Which ids the events of a partition tie to each other.
//!
//! An event with an `anonymousId` and a `userId` ties them; so does an `alias` its `previousId` and its `userId`. Of every tie a row
//! is written before the block that holds its event ([`crate::store::tables::identities`]). Promise: no event of a stored block ties
//! what the table does not have; a tie is written again where it was forgotten, which changes nothing, and for an event that came late, which
//! made it earlier.
//! Costs: a look into a set for an event with both ids, and nothing for others. The set is bounded: when it is full it begins anew, so
//! a client that makes up ids costs a row for each pair and no memory. It holds hashes under a key of the process, so nobody can choose ids
//! that pass for known ones.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::event::field::Field;
use crate::event::ids::{PersonKey, ProjectId, stands_for_nobody};
use crate::event::packed::{Entry, EventHeader, Fields};
use crate::store::tables::identities::{Pair, Ruling, Tie, TieKind};

/// Pairs remembered: two megabytes.
const MOST_KNOWN: usize = 200_000;
/// The events that tie two ids of one user, and the property that has the first.
const ALIAS: &[u8] = b"alias";
const PREVIOUS_ID: &[u8] = b"previousId";

/// The ties of one partition.
#[derive(Debug, Default)]
pub(super) struct Ties {
    /// Pairs with the earliest time of an event that ties them.
    known: HashMap<u64, i64>,
    hasher: RandomState,
    new: Vec<Tie>,
}

/// Two ids with their keys.
struct Tied<'a> {
    pair: Pair,
    from_id: &'a str,
    to_id: &'a str,
}

impl Ties {
    /// Notes what an event ties that is to be stored.
    pub(super) fn note(&mut self, project: ProjectId, event: &EventHeader, fields: &Fields<'_>) {
        if event.person.0 != event.visitor.0 {
            let pair = Pair { kind: TieKind::Device, from: PersonKey(event.visitor.0), to: event.person };
            let tied = Tied { pair, from_id: fields.text(Field::AnonymousId), to_id: fields.text(Field::UserId) };
            self.tie(project, event, &tied);
        }
        if fields.get(Field::Type) == ALIAS {
            let to_id = fields.text(Field::UserId);
            for from_id in previous_ids(fields) {
                let pair = Pair { kind: TieKind::Alias, from: PersonKey::of(project, from_id), to: PersonKey::of(project, to_id) };
                self.tie(project, event, &Tied { pair, from_id, to_id });
            }
        }
    }

    fn tie(&mut self, project: ProjectId, event: &EventHeader, tied: &Tied<'_>) {
        let Tied { pair, from_id, to_id } = *tied;
        let hash = self.hasher.hash_one((project, pair));
        let is_known = self.known.get(&hash).is_some_and(|at_ms| *at_ms <= event.at_ms);
        if is_known || pair.from == pair.to || stands_for_nobody(from_id) || stands_for_nobody(to_id) {
            return;
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(hash, event.at_ms);
        self.new.push(Tie {
            project,
            pair,
            from_id: from_id.to_owned(),
            to_id: to_id.to_owned(),
            event: Some((event.at_ms, event.event_id)),
            ruling: Ruling::default(),
            known_ms: None,
        });
    }

    /// What is to be written before the block is.
    pub(super) fn open(&self) -> &[Tie] {
        &self.new
    }

    /// The ties that were written, and begins those of the next block.
    pub(super) fn take(&mut self) -> Vec<Tie> {
        std::mem::take(&mut self.new)
    }
}

/// The ids that an alias names besides its user.
fn previous_ids<'a>(fields: &Fields<'a>) -> impl Iterator<Item = &'a str> {
    fields.properties().filter_map(|entry| match entry {
        Entry::String(PREVIOUS_ID, id) => std::str::from_utf8(id).ok().map(str::trim),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::VisitorKey;
    use crate::event::packed::{EventView, EventWriter};

    const SHOP: ProjectId = ProjectId(7);

    /// Notes an event of these ids, and of an alias where there is a previous one.
    fn note(ties: &mut Ties, [anonymous, user, previous]: [&str; 3], at_ms: i64) {
        let mut bytes = Vec::new();
        let mut writer = EventWriter::begin(&mut bytes);
        writer.field(Field::Type, if previous.is_empty() { b"view" } else { b"alias" });
        writer.field(Field::AnonymousId, anonymous.as_bytes());
        writer.field(Field::UserId, user.as_bytes());
        if !previous.is_empty() {
            writer.string(b"previousId", previous.as_bytes());
        }
        let key = |id: &str, other: &str| VisitorKey::of(SHOP, if id.is_empty() { other } else { id });
        writer.finish(&EventHeader {
            event_id: [1; 16],
            visitor: key(anonymous, user),
            person: PersonKey(key(user, anonymous).0),
            at_ms,
            ..EventHeader::default()
        });
        let view = EventView::take(&mut bytes.as_slice()).unwrap();
        ties.note(SHOP, &view.header, &Fields::of(&view).unwrap());
    }

    fn made(ties: &mut Ties) -> Vec<(TieKind, String, String)> {
        ties.take().into_iter().map(|tie| (tie.pair.kind, tie.from_id, tie.to_id)).collect()
    }

    #[test]
    fn a_pair_of_ids_is_noted_once_and_nobody_is_tied() {
        let mut ties = Ties::default();
        for ids in [["a", "ada", ""], ["a", "ada", ""], ["a", "", ""], ["", "ada", ""], ["a", "bob", ""], ["x", "x", ""]] {
            note(&mut ties, ids, 5);
        }
        for ids in [["guest", "ada", ""], ["b", "undefined", ""], ["b", "0", ""], ["", "ada", "null"], ["", "ada", "ada"]] {
            note(&mut ties, ids, 5);
        }
        let device = |user: &str| (TieKind::Device, "a".to_owned(), user.to_owned());
        assert_eq!(made(&mut ties), [device("ada"), device("bob")]);
        note(&mut ties, ["a", "ada", ""], 6);
        assert_eq!(made(&mut ties), []);
    }

    #[test]
    fn an_alias_ties_its_previous_id() {
        let mut ties = Ties::default();
        note(&mut ties, ["", "ada@new.example", " ada "], 5);
        assert_eq!(made(&mut ties), [(TieKind::Alias, "ada".to_owned(), "ada@new.example".to_owned())]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ties = Ties::default();
        for number in 0..MOST_KNOWN + 10 {
            note(&mut ties, ["a", &format!("user {number}"), ""], 5);
        }
        assert_eq!((ties.take().len(), ties.known.len()), (MOST_KNOWN + 10, 10));
    }
}
