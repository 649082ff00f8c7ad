//! What is alike of the events of a funnel, by numbers: most events of a part are of few kinds, and a number takes less room than what it
//! stands for.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::packed::push;

/// What is told of an event but for whose it is and when it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// A bit for each step and each exclusion that it fits.
    pub(super) bits: u32,
    /// The number of the values that a chain holds.
    pub(super) held: u64,
    /// The number of the value of the breakdown; 0 where there is none.
    pub(super) group: u64,
}

/// The different kinds of some events, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kinds: Vec<Kind>,
    /// By their kinds.
    numbers: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

/// The kind of the event before, which most have again, and its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastKind {
    pub(super) kind: Kind,
    pub(super) number: u64,
}

impl Default for LastKind {
    fn default() -> Self {
        // No event is of it: there are not so many steps and exclusions.
        Self { kind: Kind { bits: u32::MAX, ..Kind::default() }, number: 0 }
    }
}

impl Kinds {
    /// The number of a kind, which is its own from now on.
    // Few events come here, and what most do has to be short: apart from this a third less.
    #[inline(never)]
    pub(super) fn number(&mut self, kind: Kind) -> u64 {
        let Self { kinds, numbers, hasher } = self;
        let of = |number: &u32| kinds.get(*number as usize);
        let hash = hasher.hash_one(kind);
        if let Some(number) = numbers.find(hash, |number| of(number) == Some(&kind)) {
            return u64::from(*number);
        }
        // There are no more of them than a clock tells apart.
        let next = kinds.len() as u32;
        numbers.insert_unique(hash, next, |number| of(number).map_or(0, |kind| hasher.hash_one(kind)));
        push(kinds, kind);
        u64::from(next)
    }

    /// Gives back what new numbers need.
    pub(super) fn close(&mut self) {
        self.numbers = HashTable::new();
    }

    /// The kind of that number.
    pub(super) fn of(&self, number: u64) -> Kind {
        self.kinds.get(number as usize).copied().unwrap_or_default()
    }

    /// What they take, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.kinds.capacity() * size_of::<Kind>() + self.numbers.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_number_and_little_room_however_many_there_are() {
        const KINDS: u64 = 100_000;
        let mut kinds = Kinds::default();
        let kind = |group: u64| Kind { bits: 1 + group as u32 % 3, held: group / 2, group };
        let numbers: Vec<u64> = (0..KINDS).map(|group| kinds.number(kind(group))).collect();
        assert!(numbers.iter().zip(0..).all(|(number, group)| *number == group && kinds.number(kind(group)) == group));
        assert!((0..KINDS).all(|group| kinds.of(group) == kind(group)));
        assert!(kinds.bytes() < 45 * KINDS as usize, "{} bytes", kinds.bytes());
        kinds.close();
        assert!(kinds.bytes() < 30 * KINDS as usize && kinds.of(7) == kind(7), "{} bytes", kinds.bytes());
    }
}
