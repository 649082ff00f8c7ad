//! A part of a question's events: all events of the keys in it, in order once they are folded.

use std::ops::Range;

use super::kinds::{Kind, Kinds, LastKind};
use super::packed::{Clock, Packed, Row, push};

/// Into how many buckets the events of a part are put before each is sorted by itself: of millions of events a bucket has some hundred then.
const BUCKETS: usize = 2_048;
/// Larger parts are of few who have very many events: they are sorted where they are, for there may be no room beside them.
const LARGE: usize = 1 << 20;
/// Parts are told apart by so many bits of a spread key, its highest ones; buckets by those that follow.
const BITS_OF_PART: u32 = 8;

/// Events with the same keys, among others. What is read beside key, time and kind stands in columns, in the order of the events.
///
/// What each event that comes touches stands first, in one line of a processor's cache: hundreds of parts are written to by turns.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Part {
    rows: Vec<Row>,
    last: LastKind,
    /// Those that are no longer among `rows`; none where there are columns.
    packed: Packed,
    kinds: Kinds,
    persons: Vec<u64>,
    /// Where they stand in their partitions: offset and number in the record.
    offsets: Vec<i64>,
    /// Which partitions those are.
    partitions: Vec<u32>,
}

/// Where an event stands in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogPosition {
    pub(super) partition: u32,
    pub(super) offset: i64,
}

/// An event, and its number among those of its part as they came.
#[derive(Clone, Copy)]
struct Numbered {
    row: Row,
    number: u32,
}

/// Rows in order: by the first bits of their keys at once, and then those of each bucket, which are few.
fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    if rows.len() < 2 * BUCKETS || rows.len() > LARGE {
        rows.sort_unstable_by_key(Row::order);
        return rows;
    }
    let bucket = |row: &Row| (row.spread() >> (u64::BITS - BITS_OF_PART - BUCKETS.ilog2())) as usize % BUCKETS;
    let mut next = [0_usize; BUCKETS];
    for row in &rows {
        next.get_mut(bucket(row)).into_iter().for_each(|number| *number += 1);
    }
    let mut end = 0;
    for number in &mut next {
        (*number, end) = (end, end + *number);
    }
    let mut sorted = vec![Row::default(); rows.len()];
    for row in rows {
        let Some(next) = next.get_mut(bucket(&row)) else { continue };
        sorted.get_mut(*next).into_iter().for_each(|place| *place = row);
        *next += 1;
    }
    // Now each says where its bucket ends.
    let mut begin = 0;
    for end in next {
        sorted.get_mut(begin..end).into_iter().for_each(|of_bucket| of_bucket.sort_unstable_by_key(Row::order));
        begin = end;
    }
    sorted
}

impl Part {
    /// The number of a kind among those of the part.
    pub(super) fn number(&mut self, kind: Kind) -> u64 {
        if self.last.kind != kind {
            self.last = LastKind { kind, number: self.kinds.number(kind) };
        }
        self.last.number
    }

    /// Adds an event.
    pub(super) fn push(&mut self, row: Row) {
        push(&mut self.rows, row);
    }

    /// Says whose the event is that was added last.
    pub(super) fn push_person(&mut self, person: u64) {
        push(&mut self.persons, person);
    }

    /// Says where the event stands that was added last.
    pub(super) fn push_place(&mut self, place: LogPosition) {
        push(&mut self.partitions, place.partition);
        push(&mut self.offsets, place.offset);
    }

    /// Numbers partitions anew: each by what stands at its number.
    pub(super) fn renumber_partitions(&mut self, numbers: &[u32]) {
        for number in &mut self.partitions {
            *number = numbers.get(*number as usize).copied().unwrap_or(*number);
        }
    }

    /// What it takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        let columns =
            (self.persons.capacity() + self.offsets.capacity()) * size_of::<u64>() + self.partitions.capacity() * size_of::<u32>();
        self.rows.capacity() * size_of::<Row>() + self.packed.bytes() + self.kinds.bytes() + columns
    }

    /// What of that [`Self::pack`] makes less, bytes.
    pub(super) fn loose_bytes(&self) -> usize {
        if self.has_columns() { 0 } else { self.rows.capacity() * size_of::<Row>() }
    }

    /// Puts the events in order that are not packed yet, and packs them. There must be no columns.
    pub(super) fn pack(&mut self, clock: Clock) {
        self.packed.add(clock, &in_order(std::mem::take(&mut self.rows)));
    }

    /// What putting the events in order takes beside them, bytes.
    pub(super) fn order_bytes(&self) -> usize {
        if self.has_columns() {
            return self.rows.len() * size_of::<Numbered>();
        }
        let all = self.packed.rows() + self.rows.len();
        (self.packed.rows() + if all > LARGE { 0 } else { all }) * size_of::<Row>()
    }

    fn has_columns(&self) -> bool {
        !self.persons.is_empty() || !self.offsets.is_empty()
    }

    /// The kind of the event of that number.
    pub(super) fn kind(&self, clock: Clock, event: usize) -> Kind {
        self.kinds.of(self.rows.get(event).map_or(0, |row| clock.kind(row)))
    }

    /// When the event of that number was, milliseconds since 1970.
    pub(super) fn at_ms(&self, clock: Clock, event: usize) -> i64 {
        self.rows.get(event).map_or(0, |row| clock.at_ms(row))
    }

    /// Whose an event is.
    pub(super) fn person(&self, event: usize) -> u64 {
        let key = || self.rows.get(event).map_or(0, |row| row.key);
        self.persons.get(event).copied().unwrap_or_else(key)
    }

    /// The key of an event.
    pub(super) fn key(&self, event: usize) -> u64 {
        self.rows.get(event).map_or(0, |row| row.key)
    }

    /// Puts the events in order, of which there will be no more; returns where those of each key are.
    pub(super) fn by_key(&mut self, clock: Clock) -> Vec<Range<usize>> {
        self.kinds.close();
        if self.has_columns() {
            self.sort_with_columns(clock);
        } else if self.packed.rows() == 0 {
            self.rows = in_order(std::mem::take(&mut self.rows));
        } else {
            let packed = std::mem::take(&mut self.packed);
            self.rows.reserve_exact(packed.rows());
            packed.unpack(clock, &mut self.rows);
            match self.rows.len() > LARGE {
                true => self.rows.sort_unstable_by_key(Row::order),
                // Finds runs that are in order, and merges them.
                false => self.rows.sort_by_key(Row::order),
            }
        }
        let mut end = 0;
        let range = |rows: &[Row]| {
            let begin = end;
            end += rows.len();
            begin..end
        };
        self.rows.chunk_by(|left, right| left.key == right.key).map(range).collect()
    }

    fn sort_with_columns(&mut self, clock: Clock) {
        let mut order: Vec<Numbered> = (0..).zip(&self.rows).map(|(number, row)| Numbered { row: *row, number }).collect();
        let is_same_moment = |left: &Numbered, right: &Numbered| left.row.key == right.row.key && clock.is_same_time(&left.row, &right.row);
        order.sort_unstable_by_key(|numbered| numbered.row.order());
        if !self.offsets.is_empty() {
            // As in `IN_ORDER` of the schema.
            let (partitions, offsets) = (&self.partitions, &self.offsets);
            let place = |of: &Numbered| (partitions.get(of.number as usize), offsets.get(of.number as usize));
            order.chunk_by_mut(is_same_moment).for_each(|of_moment| of_moment.sort_unstable_by_key(place));
        }
        // Places are needed for the order alone.
        (self.offsets, self.partitions) = Default::default();
        if !self.persons.is_empty() {
            self.persons = order.iter().map(|of| self.persons.get(of.number as usize).copied().unwrap_or(0)).collect();
        }
        for (row, of) in self.rows.iter_mut().zip(order) {
            *row = of.row;
        }
    }

    /// Whether two of these events, which are in order, are of one millisecond and not the same in all that was read of them: then
    /// their places in the log tell which is the first.
    pub(super) fn is_tied(&self, clock: Clock, events: Range<usize>) -> bool {
        // Of some of one millisecond that are not all alike, two that follow each other are not.
        let are_alike = |one: usize| self.rows.get(one) == self.rows.get(one + 1) && self.person(one) == self.person(one + 1);
        let is_same_time = |pair: &[Row]| pair.first().zip(pair.last()).is_some_and(|(one, next)| clock.is_same_time(one, next));
        events.clone().zip(self.rows(events).windows(2)).any(|(one, pair)| is_same_time(pair) && !are_alike(one))
    }

    /// Some of the events.
    pub(super) fn rows(&self, range: Range<usize>) -> &[Row] {
        self.rows.get(range).unwrap_or_default()
    }
}
