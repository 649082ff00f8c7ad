//! The events of a funnel as they come from the store: whose, when, which steps, and no more than the question needs.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use crate::clickhouse::Block;
use crate::query::reader::{Held, OutOfMemory};

/// Events are kept apart by their keys: each part is put in order by itself, and gone once it is folded.
const PARTS: usize = 256;

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
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Of its person, or of its session.
    pub(super) key: u64,
    pub(super) at_ms: i64,
    pub(super) bits: u32,
    /// Its number in its part, from 0, in the order in which they came: where its columns are.
    number: u32,
}

/// Events with the same keys, among others; the columns hold what [`Columns`] names, in the order in which they came.
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

/// The events of a question.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    parts: Vec<Part>,
    partitions: Partitions,
    held: Held,
    /// More came than may be held.
    full: Option<OutOfMemory>,
}

impl Rows {
    /// None yet; `held` is what they hold.
    pub(super) fn new(columns: Columns, held: Held) -> Self {
        Self { columns, parts: (0..PARTS).map(|_| Part::default()).collect(), partitions: Partitions::default(), held, full: None }
    }

    /// Whether more came than may be held, and why: these are not all.
    pub(super) fn full(&self) -> Option<OutOfMemory> {
        self.full
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.rows.len() as u64).sum()
    }

    /// The events, part by part, and what they hold in all.
    pub(super) fn into_parts(mut self) -> (Vec<Part>, Held) {
        // From here on partitions are numbered as they are ordered.
        let ranks = self.partitions.ranks();
        for number in self.parts.iter_mut().flat_map(|part| &mut part.partitions) {
            *number = ranks.get(*number as usize).copied().unwrap_or(*number);
        }
        (self.parts, self.held)
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
            // Keys that follow each other are spread by their highest bits then.
            let Some(part) = self.parts.get_mut((key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize) else { continue };
            let row = Row { key, at_ms: i64::from_le_bytes(*at_ms), bits: u32::from_le_bytes(*bits), number: part.rows.len() as u32 };
            push(&mut part.rows, row);
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
        let bytes = self.parts.iter().map(Part::bytes).sum();
        // The rest is for what comes of them.
        let held = if bytes > self.held.limit() / 3 * 2 { Err(OutOfMemory::Question) } else { self.held.set(bytes) };
        self.full = held.err();
        if self.full.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Grows by a quarter: half of what is held would lie idle otherwise.
fn push<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 4).max(16));
    }
    values.push(value);
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

    /// The number of the values that a chain holds.
    pub(super) fn held(&self, row: Row) -> u64 {
        self.held.get(row.number as usize).copied().unwrap_or(0)
    }

    /// The number of the value of the breakdown.
    pub(super) fn group(&self, row: Row) -> u64 {
        self.groups.get(row.number as usize).copied().unwrap_or(0)
    }

    /// Whose an event is.
    pub(super) fn person(&self, row: Row) -> u64 {
        self.persons.get(row.number as usize).copied().unwrap_or(row.key)
    }

    /// Puts the events in order; returns where those of each key are.
    pub(super) fn by_key(&mut self) -> Vec<Range<usize>> {
        // Keys and times as one number: for the sort, that is no branch.
        let of = |row: &Row| (u128::from(row.key) << 64) | u128::from(row.at_ms as u64 ^ (1 << 63));
        self.rows.sort_unstable_by_key(of);
        if !self.offsets.is_empty() {
            // As in `IN_ORDER` of the schema.
            let (partitions, offsets) = (&self.partitions, &self.offsets);
            let place = |row: &Row| (partitions.get(row.number as usize), offsets.get(row.number as usize));
            self.rows.chunk_by_mut(|left, right| of(left) == of(right)).for_each(|of_moment| of_moment.sort_unstable_by_key(place));
        }
        let mut end = 0;
        let range = |rows: &[Row]| {
            let begin = end;
            end += rows.len();
            begin..end
        };
        self.rows.chunk_by(|left, right| left.key == right.key).map(range).collect()
    }

    /// Some of the events.
    pub(super) fn rows(&self, range: Range<usize>) -> &[Row] {
        self.rows.get(range).unwrap_or_default()
    }
}
