//! The events of a funnel as they come from the store: whose, when, which steps, and no more than the question needs.
//!
//! Events are kept in parts by their keys, 16 bytes each and 8 for each column beside. What does not fit while they come is let go part by
//! part, the last ones first; the parts that are left are whole, and the others are read again once these are folded.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use crate::clickhouse::Block;
use crate::query::ask::Expr;
use crate::query::reader::{Held, OutOfMemory};

/// Into how many parts events are split: each is put in order by itself, and gone once it is folded.
pub(super) const PARTS: usize = 256;
/// Some of them that follow each other.
pub(super) type Parts = Range<usize>;
/// Spreads keys that follow each other over the parts: its product with a key, by its highest bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// The part of the key of a statement, as [`Rows::take`] computes it.
const PART: &str = "bitShiftRight(key * 11400714819323198485, 56)";
const _: () = assert!(SPREAD == 11_400_714_819_323_198_485 && PARTS == 1 << (u64::BITS - 56), "`PART` says both");
/// Bits of the number of a mask in [`Row::moment`]; above it there are 44 bits of milliseconds, since [`SINCE_MS`].
const MASK_BITS: u32 = 20;
/// 1 January 1900, before which no time is kept, milliseconds since 1970.
const SINCE_MS: i64 = -2_208_988_800_000;

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

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Of its person, or of its session.
    pub(super) key: u64,
    /// Its time, and the number of its bits among [`Masks`].
    moment: u64,
}

/// Events with the same keys, among others; the columns hold what [`Columns`] names, in the order of the events.
#[derive(Debug, Default)]
pub(super) struct Part {
    rows: Vec<Row>,
    held: Vec<u64>,
    groups: Vec<u64>,
    persons: Vec<u64>,
    /// Where they stand in their partitions: offset and number in the record.
    offsets: Vec<i64>,
    /// Which [`Partitions`] those are.
    partitions: Vec<u32>,
}

/// The partitions of logs that events are of: identity of the log, and number.
#[derive(Debug, Default)]
struct Partitions(HashMap<(u64, u16), u32, foldhash::fast::RandomState>);

/// The different bits that events have, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Masks {
    masks: Vec<u32>,
    numbers: HashMap<u32, u64, foldhash::fast::RandomState>,
    /// That of the event before, which most have again.
    last: (u32, u64),
}

/// The events of a question whose keys are of certain parts.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    /// Those of all parts up to the last one that is kept; before `first` they are empty.
    parts: Vec<Part>,
    first: usize,
    masks: Masks,
    partitions: Partitions,
    held: Held,
    full: Option<Full>,
}

/// Why not even the first part is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Memory(OutOfMemory),
    /// More than 2^[`MASK_BITS`] different bits.
    Masks,
}

/// Events as they are folded.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) parts: Vec<Part>,
    pub(super) masks: Masks,
    /// What the parts hold in all.
    pub(super) held: Held,
}

/// The condition that the event of a statement, whose key is its column `key`, is of these parts.
pub(super) fn is_of(parts: &Parts) -> Expr {
    let number = |part: usize| Expr::uint(part as u64);
    let from = Expr::from(PART).infix(" >= ", number(parts.start));
    from.then(" AND ").then(Expr::from(PART).infix(" < ", number(parts.end)))
}

impl Rows {
    /// None yet, of these parts; `held` is what they hold.
    pub(super) fn new(columns: Columns, parts: Parts, held: Held) -> Self {
        Self {
            columns,
            parts: (0..parts.end).map(|_| Part::default()).collect(),
            first: parts.start,
            masks: Masks::default(),
            partitions: Partitions::default(),
            held,
            full: None,
        }
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
        for number in self.parts.iter_mut().flat_map(|part| &mut part.partitions) {
            *number = ranks.get(*number as usize).copied().unwrap_or(*number);
        }
        Taken { parts: self.parts, masks: self.masks, held: self.held }
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
            let of_part = (key.wrapping_mul(SPREAD) >> (u64::BITS - PARTS.ilog2())) as usize;
            // Parts that were let go are read again later.
            let Some(part) = self.parts.get_mut(of_part) else { continue };
            let mask = self.masks.number(u32::from_le_bytes(*bits));
            if mask >> MASK_BITS != 0 {
                self.full = Some(Full::Masks);
                return ControlFlow::Break(());
            }
            push(&mut part.rows, Row::of(key, i64::from_le_bytes(*at_ms), mask));
            for (column, values) in [(held, &mut part.held), (group, &mut part.groups), (person, &mut part.persons)] {
                if column.is_some() {
                    push(values, number(column, at));
                }
            }
            if let Some(place) = place {
                let of = (number(Some(place), at), numbers.get(at).map_or(0, |number| u16::from_le_bytes(*number)));
                push(&mut part.partitions, self.partitions.number(of));
                push(&mut part.offsets, number(Some(place + 2), at) as i64);
            }
        }
        self.hold()
    }

    /// Counts what is held, and lets go of parts until it may be.
    fn hold(&mut self) -> ControlFlow<()> {
        loop {
            let bytes = self.parts.iter().map(Part::bytes).sum::<usize>() + self.masks.bytes();
            // The rest is for what comes of them.
            let held = if bytes > self.held.limit() / 3 * 2 { Err(OutOfMemory::Question) } else { self.held.set(bytes) };
            let Err(why) = held else { return ControlFlow::Continue(()) };
            let kept = self.parts.len() - self.first;
            if kept <= 1 {
                self.full = Some(Full::Memory(why));
                return ControlFlow::Break(());
            }
            // Few at a time, for those that are let go are moved once more.
            self.parts.truncate(self.parts.len() - kept.div_ceil(16));
        }
    }
}

/// Grows by an eighth: more than half of what is held would lie idle otherwise.
fn push<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 8).max(16));
    }
    values.push(value);
}

impl Row {
    /// Of an event at `at_ms` with the bits of that number.
    fn of(key: u64, at_ms: i64, mask: u64) -> Self {
        Self { key, moment: (at_ms.saturating_sub(SINCE_MS) as u64) << MASK_BITS | mask }
    }

    /// When it was, milliseconds since 1970.
    pub(super) fn at_ms(self) -> i64 {
        (self.moment >> MASK_BITS) as i64 + SINCE_MS
    }

    /// Key and moment as one number: for a sort, that is no branch.
    fn order(&self) -> u128 {
        (u128::from(self.key) << 64) | u128::from(self.moment)
    }
}

impl Masks {
    /// The number of bits, which is theirs from now on.
    fn number(&mut self, mask: u32) -> u64 {
        if self.last.0 == mask && !self.masks.is_empty() {
            return self.last.1;
        }
        let next = self.masks.len() as u64;
        let number = *self.numbers.entry(mask).or_insert(next);
        if number == next {
            self.masks.push(mask);
        }
        self.last = (mask, number);
        number
    }

    fn bytes(&self) -> usize {
        self.masks.capacity() * size_of::<u32>() + self.numbers.capacity() * size_of::<(u32, u64)>()
    }

    /// The bits of an event.
    pub(super) fn of(&self, row: Row) -> u32 {
        self.masks.get((row.moment & ((1 << MASK_BITS) - 1)) as usize).copied().unwrap_or(0)
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

impl Part {
    fn bytes(&self) -> usize {
        let columns = [&self.held, &self.groups, &self.persons].map(Vec::capacity).iter().sum::<usize>() + self.offsets.capacity();
        self.rows.capacity() * size_of::<Row>() + columns * size_of::<u64>() + self.partitions.capacity() * size_of::<u32>()
    }

    /// What putting the events in order takes beside them, bytes.
    pub(super) fn order_bytes(&self) -> usize {
        if self.has_columns() { self.rows.len() * size_of::<Numbered>() } else { 0 }
    }

    fn has_columns(&self) -> bool {
        let columns = [&self.held, &self.groups, &self.persons];
        columns.iter().any(|column| !column.is_empty()) || !self.offsets.is_empty()
    }

    /// The number of the values that a chain holds, of the event of that number.
    pub(super) fn held(&self, event: usize) -> u64 {
        self.held.get(event).copied().unwrap_or(0)
    }

    /// The number of the value of the breakdown.
    pub(super) fn group(&self, event: usize) -> u64 {
        self.groups.get(event).copied().unwrap_or(0)
    }

    /// Whose an event is.
    pub(super) fn person(&self, event: usize) -> u64 {
        let key = || self.rows.get(event).map_or(0, |row| row.key);
        self.persons.get(event).copied().unwrap_or_else(key)
    }

    /// Puts the events in order; returns where those of each key are.
    pub(super) fn by_key(&mut self) -> Vec<Range<usize>> {
        if self.has_columns() {
            self.sort_with_columns()
        } else {
            self.rows.sort_unstable_by_key(Row::order)
        }
        let mut end = 0;
        let range = |rows: &[Row]| {
            let begin = end;
            end += rows.len();
            begin..end
        };
        self.rows.chunk_by(|left, right| left.key == right.key).map(range).collect()
    }

    fn sort_with_columns(&mut self) {
        let mut order: Vec<Numbered> = (0..).zip(&self.rows).map(|(number, row)| Numbered { row: *row, number }).collect();
        let is_same_moment = |left: &Numbered, right: &Numbered| left.row.key == right.row.key && left.row.at_ms() == right.row.at_ms();
        order.sort_unstable_by_key(|numbered| numbered.row.order());
        if !self.offsets.is_empty() {
            // As in `IN_ORDER` of the schema.
            let (partitions, offsets) = (&self.partitions, &self.offsets);
            let place = |of: &Numbered| (partitions.get(of.number as usize), offsets.get(of.number as usize));
            order.chunk_by_mut(is_same_moment).for_each(|of_moment| of_moment.sort_unstable_by_key(place));
        }
        // Places are needed for the order alone.
        (self.offsets, self.partitions) = Default::default();
        for column in [&mut self.held, &mut self.groups, &mut self.persons].into_iter().filter(|column| !column.is_empty()) {
            *column = order.iter().map(|of| column.get(of.number as usize).copied().unwrap_or(0)).collect();
        }
        for (row, of) in self.rows.iter_mut().zip(order) {
            *row = of.row;
        }
    }

    /// Some of the events.
    pub(super) fn rows(&self, range: Range<usize>) -> &[Row] {
        self.rows.get(range).unwrap_or_default()
    }
}

/// An event, and its number among those of its part as they came.
#[derive(Clone, Copy)]
struct Numbered {
    row: Row,
    number: u32,
}
