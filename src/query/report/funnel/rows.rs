//! The events of a funnel as they come from the store: whose, when, which steps, and no more than the question needs.
//!
//! Events are kept in parts by their keys, 16 bytes each, 8 for a person and 12 for a place beside. What does not fit while they come is packed where
//! there are no columns, to about a third; where that is not enough parts are let go, the last ones first: the parts that are left are
//! whole, and the others are read again once these are folded.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use super::kinds::Kind;
use super::packed::{Clock, SPREAD};
use super::part::{LogPosition, Part};
use crate::clickhouse::Block;
use crate::query::ask::Expr;
use crate::query::reader::{Held, OutOfMemory};

/// Into how many parts events are split: each is put in order by itself, and gone once it is folded.
pub(super) const PARTS: usize = 256;
/// Some of them that follow each other.
pub(super) type Parts = Range<usize>;
/// The part of the key of a statement, as [`Rows::take`] computes it.
const PART: &str = "bitShiftRight(key * 11400714819323198485, 56)";
const _: () = assert!(SPREAD == 11_400_714_819_323_198_485 && PARTS == 1 << (u64::BITS - 56), "`PART` says both");

/// What is read of each event beside key, time and bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// A number for the values of the fields that a chain holds.
    pub(super) held: bool,
    /// A number for the value of the breakdown.
    pub(super) group: bool,
    /// Whose it is, where the key is a session's.
    pub(super) person: bool,
    /// Where it stands among those of its millisecond.
    pub(super) place: bool,
}

/// The partitions of logs that events are of: identity of the log, and number.
#[derive(Debug, Default)]
struct Partitions(HashMap<(u64, u16), u32, foldhash::fast::RandomState>);

/// The events of a question whose keys are of certain parts.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    /// Those of all parts up to the last one that is kept; before `first` they are empty.
    parts: Vec<Part>,
    first: usize,
    clock: Clock,
    partitions: Partitions,
    held: Held,
    /// Bytes that it may hold: the rest is for what comes of them.
    most: usize,
    full: Option<Full>,
}

/// Why not even the first part is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Memory(OutOfMemory),
    /// More different kinds of events than can be told apart.
    Kinds,
}

/// What events are to one of several questions that read them together.
#[derive(Debug)]
pub(super) struct BitsOfTypes {
    /// The bits of an event by the number of its type; one without any is none of the question's.
    pub(super) bits: Vec<u32>,
}

/// Events as they are folded.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) parts: Vec<Part>,
    pub(super) columns: Columns,
    pub(super) clock: Clock,
    /// What the parts hold in all.
    pub(super) held: Held,
}

/// The condition that the event of a statement, whose key is its column `key`, is of these parts.
pub(super) fn is_of(parts: &Parts) -> Expr {
    let number = |part: usize| Expr::uint(part as u64);
    let from = Expr::from(PART).infix(" >= ", number(parts.start));
    from.then(" AND ").then(Expr::from(PART).infix(" < ", number(parts.end)))
}

/// The part that the events of a key are in.
fn part_of(key: u64) -> usize {
    (key.wrapping_mul(SPREAD) >> (u64::BITS - PARTS.ilog2())) as usize
}

impl Rows {
    /// None yet, of these parts and of times that `clock` tells; `held` is what they hold.
    pub(super) fn new(columns: Columns, clock: Clock, parts: Parts, held: Held) -> Self {
        Self {
            columns,
            parts: (0..parts.end).map(|_| Part::default()).collect(),
            first: parts.start,
            clock,
            partitions: Partitions::default(),
            most: held.limit() / 3 * 2,
            held,
            full: None,
        }
    }

    /// The same, of so many that hold together what one may.
    pub(super) fn among(self, number: usize) -> Self {
        Self { most: self.most / number.max(1), ..self }
    }

    /// Up to which part all that came is held; none at all if that is not so of the first one.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn until(&self) -> Result<usize, Full> {
        self.full.map_or(Ok(self.parts.len()), Err)
    }

    /// The events, part by part.
    pub(super) fn taken(mut self) -> Taken {
        // From here on partitions are numbered as they are ordered.
        let ranks = self.partitions.ranks();
        self.parts.iter_mut().for_each(|part| part.renumber_partitions(&ranks));
        Taken { parts: self.parts, columns: self.columns, clock: self.clock, held: self.held }
    }

    /// Takes the events of a block: key, time and bits, then what [`Columns`] names, in its order.
    pub(super) fn take(&mut self, block: &Block<'_>) -> ControlFlow<()> {
        let Columns { held, group, person, place } = self.columns;
        let mut next = 3;
        let mut column = |is_there: bool, columns: usize| {
            let index = next;
            next += if is_there { columns } else { 0 };
            is_there.then_some(index)
        };
        let number = |column: Option<usize>, row: usize| {
            let value = column.and_then(|column| block.column::<8>(column).get(row));
            value.map_or(0, |value| u64::from_le_bytes(*value))
        };
        let (held, group, person, place) = (column(held, 1), column(group, 1), column(person, 1), column(place, 3));
        let numbers = place.map_or(&[][..], |place| block.column::<2>(place + 1));
        let (keys, times, bits) = (block.column::<8>(0), block.column::<8>(1), block.column::<4>(2));
        for (at, ((key, at_ms), bits)) in keys.iter().zip(times).zip(bits).enumerate() {
            let key = u64::from_le_bytes(*key);
            // Parts that were let go are read again later.
            let Some(part) = self.parts.get_mut(part_of(key)) else { continue };
            let kind = part.number(Kind { bits: u32::from_le_bytes(*bits), held: number(held, at), group: number(group, at) });
            if kind >= self.clock.most_kinds() {
                self.full = Some(Full::Kinds);
                return ControlFlow::Break(());
            }
            part.push(self.clock.row(key, i64::from_le_bytes(*at_ms), kind));
            if person.is_some() {
                part.push_person(number(person, at));
            }
            if let Some(place) = place {
                let of = (number(Some(place), at), numbers.get(at).map_or(0, |number| u16::from_le_bytes(*number)));
                part.push_place(LogPosition { partition: self.partitions.number(of), offset: number(Some(place + 2), at) as i64 });
            }
        }
        self.hold()
    }

    /// Takes of a block that is read for several questions those events that are this one's: key, time, and the number of the type.
    pub(super) fn take_shared(&mut self, block: &Block<'_>, of_types: &BitsOfTypes) -> ControlFlow<()> {
        let (keys, times, types) = (block.column::<8>(0), block.column::<8>(1), block.column::<2>(2));
        for ((key, at_ms), of_type) in keys.iter().zip(times).zip(types) {
            let bits = of_types.bits.get(usize::from(u16::from_le_bytes(*of_type))).copied().unwrap_or(0);
            let (key, at_ms) = (u64::from_le_bytes(*key), i64::from_le_bytes(*at_ms));
            if bits == 0 {
                continue;
            }
            let Some(part) = self.parts.get_mut(part_of(key)) else { continue };
            // There are no more kinds than types.
            let kind = part.number(Kind { bits, ..Kind::default() });
            part.push(self.clock.row(key, at_ms, kind));
        }
        self.hold()
    }

    /// Counts what is held, and packs it or lets go of parts until it may be.
    fn hold(&mut self) -> ControlFlow<()> {
        loop {
            let bytes = self.parts.iter().map(Part::bytes).sum::<usize>();
            let held = if bytes > self.most { Err(OutOfMemory::Question) } else { self.held.set(bytes) };
            let Err(why) = held else { return ControlFlow::Continue(()) };
            if self.pack(bytes) {
                continue;
            }
            let kept = self.parts.len() - self.first;
            if kept <= 1 {
                self.full = Some(Full::Memory(why));
                return ControlFlow::Break(());
            }
            // Few at a time, for those that are let go are moved once more.
            self.parts.truncate(self.parts.len() - kept.div_ceil(16));
        }
    }

    /// Packs the part that has most to pack. Returns whether it did: where little of what is held, of so many bytes, can be packed, each
    /// part has too few events to become much less.
    fn pack(&mut self, bytes: usize) -> bool {
        let loose: usize = self.parts.iter().map(Part::loose_bytes).sum();
        let most = self.parts.iter_mut().max_by_key(|part| part.loose_bytes()).filter(|_| loose > bytes / 4);
        most.map(|part| part.pack(self.clock)).is_some()
    }
}

impl Partitions {
    /// The number of a partition.
    fn number(&mut self, of: (u64, u16)) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(of).or_insert(next)
    }

    /// The place of each number in the order of partitions.
    fn ranks(&self) -> Vec<u32> {
        let ordered: BTreeMap<&(u64, u16), &u32> = self.0.iter().collect();
        let mut ranks = vec![0; ordered.len()];
        for (rank, number) in (0..).zip(ordered.into_values()) {
            if let Some(of_number) = ranks.get_mut(*number as usize) {
                *of_number = rank;
            }
        }
        ranks
    }
}

#[cfg(test)]
mod tests;
