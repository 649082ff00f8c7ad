//! Events that wait for the fold in a third of the room that they come in: in order, each by what it differs in from the one before it.

use crate::wire::{put_varint, take_array, take_varint};

/// Spreads keys that follow each other: its product with a key, by its highest bits.
pub(super) const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// When an event was and of which kind, as one number: in the order of time, and of equal times of one kind the same.
///
/// The time counts from the first moment that a question looks at; what it leaves of the 64 bits is for the number of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    from_ms: i64,
    kind_bits: u32,
}

/// Appends a value; grows by an eighth: more than half of what is held would lie idle otherwise.
pub(super) fn push<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 8).max(16));
    }
    values.push(value);
}

/// An event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Of its person, or of its session.
    pub(super) key: u64,
    /// As [`Clock`] says it.
    pub(super) moment: u64,
}

impl Clock {
    /// Of times from `from_ms` to `until_ms`, milliseconds since 1970.
    pub(super) fn of(from_ms: i64, until_ms: i64) -> Self {
        let span_ms = until_ms.saturating_sub(from_ms).max(1) as u64;
        Self { from_ms, kind_bits: span_ms.leading_zeros().clamp(1, 32) }
    }

    /// How many kinds can be told apart.
    pub(super) fn most_kinds(self) -> u64 {
        1 << self.kind_bits
    }

    /// The event of `key` at `at_ms` that is of that kind.
    pub(super) fn row(self, key: u64, at_ms: i64, kind: u64) -> Row {
        Row { key, moment: (at_ms.saturating_sub(self.from_ms).max(0) as u64) << self.kind_bits | kind }
    }

    /// When it was, milliseconds since 1970.
    pub(super) fn at_ms(self, row: &Row) -> i64 {
        (row.moment >> self.kind_bits) as i64 + self.from_ms
    }

    /// The number of its kind.
    pub(super) fn kind(self, row: &Row) -> u64 {
        row.moment & (self.most_kinds() - 1)
    }

    /// Whether two events are of one millisecond.
    pub(super) fn is_same_time(self, left: &Row, right: &Row) -> bool {
        left.moment >> self.kind_bits == right.moment >> self.kind_bits
    }
}

impl Row {
    /// The key, spread: no two keys are the same then either.
    pub(super) fn spread(&self) -> u64 {
        self.key.wrapping_mul(SPREAD)
    }

    /// Key and moment as one number: for a sort, that is no branch.
    pub(super) fn order(&self) -> u128 {
        (u128::from(self.spread()) << 64) | u128::from(self.moment)
    }
}

/// Runs of events, each run in order by itself.
///
/// Of each key of a run: the key, how many events it has, and of each the milliseconds since the one before and its kind.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    rows: usize,
}

impl Packed {
    /// Adds a run of events, which are in order.
    pub(super) fn add(&mut self, clock: Clock, rows: &[Row]) {
        let mut run = Vec::with_capacity(rows.len() * 6);
        for of_key in rows.chunk_by(|left, right| left.key == right.key) {
            run.extend_from_slice(&of_key.first().map_or(0, |row| row.key).to_le_bytes());
            put_varint(&mut run, of_key.len() as u64);
            let mut before = 0;
            for row in of_key {
                let time = row.moment >> clock.kind_bits;
                put_varint(&mut run, time - before);
                put_varint(&mut run, clock.kind(row));
                before = time;
            }
        }
        // No more than it needs: it stays until the fold.
        self.bytes.reserve_exact(run.len());
        self.bytes.extend_from_slice(&run);
        self.rows += rows.len();
    }

    /// Appends all events to `rows`, run by run.
    pub(super) fn unpack(self, clock: Clock, rows: &mut Vec<Row>) {
        let mut input = self.bytes.as_slice();
        while let (Some(key), Some(number)) = (take_array(&mut input).map(u64::from_le_bytes), take_varint(&mut input)) {
            let mut time = 0;
            for _ in 0..number {
                let (Some(since), Some(kind)) = (take_varint(&mut input), take_varint(&mut input)) else { return };
                time += since;
                rows.push(Row { key, moment: time << clock.kind_bits | kind });
            }
        }
    }

    /// How many events there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// What they take, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_tells_every_millisecond_of_its_span_and_every_kind() {
        for (from_ms, until_ms) in [(0, 1), (-5, 1_000), (1_767_312_000_000, 1_770_000_000_000), (-2_208_988_800_000, 4_102_444_800_000)] {
            let clock = Clock::of(from_ms, until_ms);
            assert!(clock.most_kinds() >= 1 << 20, "{clock:?}");
            for (at_ms, kind) in [(from_ms, 0), (until_ms - 1, clock.most_kinds() - 1)] {
                let row = clock.row(7, at_ms, kind);
                assert_eq!((row.key, clock.at_ms(&row), clock.kind(&row)), (7, at_ms, kind), "{clock:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn runs_come_back_as_they_were(
            runs in prop::collection::vec(prop::collection::vec((0_u64..4, 0_i64..2_000, 0_u64..3), 0..30), 0..5),
            is_far in any::<bool>(),
        ) {
            let clock = Clock::of(-1_000, 5_000_000_000);
            let place = |at_ms: i64| if is_far { at_ms * 2_000_000 } else { at_ms - 1_000 };
            let row = |(key, at_ms, kind): (u64, i64, u64)| clock.row(key.wrapping_sub(2), place(at_ms), kind);
            let mut runs: Vec<Vec<Row>> = runs.into_iter().map(|run| run.into_iter().map(row).collect()).collect();
            runs.iter_mut().for_each(|run| run.sort_by_key(Row::order));
            let mut packed = Packed::default();
            runs.iter().for_each(|run| packed.add(clock, run));
            let (number, mut unpacked) = (packed.rows(), Vec::new());
            packed.unpack(clock, &mut unpacked);
            prop_assert_eq!(number, unpacked.len());
            prop_assert_eq!(unpacked, runs.concat());
        }
    }
}
