//! The events of a funnel as they come from the store: whose, when, which steps, and no more than the question needs.

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

impl Columns {
    const fn any(self) -> bool {
        self.held || self.group || self.person || self.place
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Of its person, or of its session.
    pub(super) key: u64,
    pub(super) at_ms: i64,
    pub(super) bits: u32,
    /// Where the rest of it is.
    more: u32,
}

/// The rest of an event; 0 what is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct More {
    place: Place,
    pub(super) held: u64,
    pub(super) group: u64,
    person: u64,
}

/// Where an event stands among those of its millisecond: as in [`crate::store::schema::IN_ORDER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: u64,
    partition: u16,
    /// Offset and number in the record.
    at: i64,
}

/// Events with the same keys, among others.
#[derive(Debug, Default)]
pub(super) struct Part {
    rows: Vec<Row>,
    more: Vec<More>,
}

/// The events of a question.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    parts: Vec<Part>,
    held: Held,
    /// More came than may be held.
    full: Option<OutOfMemory>,
}

impl Rows {
    /// None yet; `held` is what they hold.
    pub(super) fn new(columns: Columns, held: Held) -> Self {
        Self { columns, parts: (0..PARTS).map(|_| Part::default()).collect(), held, full: None }
    }

    /// Whether more came than may be held, and why: these are not all.
    pub(super) fn full(&self) -> Option<OutOfMemory> {
        self.full
    }

    /// The events, part by part, and what they hold in all.
    pub(super) fn into_parts(self) -> (Vec<Part>, Held) {
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
        let partitions = place.map_or(&[][..], |place| block.column::<2>(place + 1));
        let (keys, times, bits) = (block.column::<8>(0), block.column::<8>(1), block.column::<4>(2));
        let rows = keys.iter().zip(times).zip(bits).map(|((key, at_ms), bits)| Row {
            key: u64::from_le_bytes(*key),
            at_ms: i64::from_le_bytes(*at_ms),
            bits: u32::from_le_bytes(*bits),
            more: 0,
        });
        if self.columns.any() {
            for (at, row) in rows.enumerate() {
                let place = Place {
                    epoch: number(place, at),
                    partition: partitions.get(at).map_or(0, |partition| u16::from_le_bytes(*partition)),
                    at: number(place.map(|place| place + 2), at) as i64,
                };
                self.add(row, Some(More { place, held: number(held, at), group: number(group, at), person: number(person, at) }));
            }
        } else {
            rows.for_each(|row| self.add(row, None));
        }
        let bytes = self.parts.iter().map(Part::bytes).sum();
        // The rest is for what comes of them.
        let held = if bytes > self.held.limit() / 3 * 2 { Err(OutOfMemory::Question) } else { self.held.set(bytes) };
        self.full = held.err();
        if self.full.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn add(&mut self, row: Row, more: Option<More>) {
        // Keys that follow each other are spread by their highest bits then.
        let part = row.key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        let Some(part) = self.parts.get_mut(part as usize) else { return };
        part.rows.push(Row { more: part.more.len() as u32, ..row });
        part.more.extend(more);
    }
}

impl Part {
    fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.more.capacity() * size_of::<More>()
    }

    /// The rest of an event.
    pub(super) fn more(&self, row: Row) -> More {
        self.more.get(row.more as usize).copied().unwrap_or_default()
    }

    /// Whose an event is.
    pub(super) fn person(&self, row: Row, columns: Columns) -> u64 {
        if columns.person { self.more(row).person } else { row.key }
    }

    /// Puts the events in order; returns where those of each key are.
    pub(super) fn by_key(&mut self) -> Vec<Range<usize>> {
        // Keys and times as one number: for the sort, that is no branch.
        let of = |row: &Row| (u128::from(row.key) << 64) | u128::from(row.at_ms as u64 ^ (1 << 63));
        self.rows.sort_unstable_by_key(of);
        if !self.more.is_empty() {
            let more = &self.more;
            let place = |row: &Row| more.get(row.more as usize).map(|more| more.place);
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
