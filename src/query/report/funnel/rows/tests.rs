//! What comes of a block of the store, whatever room there is.

use proptest::prelude::*;

use super::*;
use crate::clickhouse::BlockReader;
use crate::query::report::funnel::packed::Row;
use crate::wire::{put_bytes, put_varint};

const CLOCK_MS: Range<i64> = 0..1_000_000;

/// Key, time, bits and the number of the value of the breakdown.
type Seen = (u64, i64, u32, u64);

fn block(rows: &[Seen]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, 4);
    put_varint(&mut out, rows.len() as u64);
    let mut column = |type_name: &str, values: Vec<u8>| {
        put_bytes(&mut out, b"column");
        put_bytes(&mut out, type_name.as_bytes());
        out.extend(values);
    };
    column("UInt64", rows.iter().flat_map(|row| row.0.to_le_bytes()).collect());
    column("Int64", rows.iter().flat_map(|row| row.1.to_le_bytes()).collect());
    column("UInt32", rows.iter().flat_map(|row| row.2.to_le_bytes()).collect());
    column("UInt64", rows.iter().flat_map(|row| row.3.to_le_bytes()).collect());
    out
}

/// The events of each key in order, of so many events a block and so many bytes for them; and how many parts of them were held.
fn taken(events: &[Seen], of_block: usize, bytes: u64) -> (Vec<Seen>, usize) {
    let columns = Columns { held: false, group: true, person: false, place: false };
    let clock = Clock::of(CLOCK_MS.start, CLOCK_MS.end);
    let mut rows = Rows::new(columns, clock, 0..PARTS, Held::of_limit(bytes));
    for events in events.chunks(of_block) {
        BlockReader::default().read(&block(events), |block| assert!(rows.take(block).is_continue())).unwrap();
    }
    let until = rows.until().unwrap();
    let mut seen = Vec::new();
    for mut part in rows.taken().parts {
        for number in part.by_key(clock).into_iter().flatten() {
            let kind = part.kind(clock, number);
            seen.push((part.key(number), part.at_ms(clock, number), kind.bits, kind.group));
        }
    }
    (seen, until)
}

/// By part, key and time; those of one time in any order.
fn sorted(mut events: Vec<Seen>) -> Vec<Seen> {
    events.sort_unstable_by_key(|event| (event.0.wrapping_mul(SPREAD) >> 56, *event));
    events
}

fn are_in_order(events: &[Seen]) -> bool {
    events.chunk_by(|left, right| left.0 == right.0).all(|of_key| of_key.is_sorted_by_key(|event| event.1))
}

fn event(number: u64, keys: u64) -> Seen {
    let random = number.wrapping_mul(0xD129_0427_5297_D3A5).rotate_left(29).wrapping_mul(SPREAD);
    ((random >> 40) % keys, (random % 1_000_000) as i64, 1 << (random >> 60 & 3), random >> 50 & 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// From room for all to room for a part of them.
    #[test]
    fn events_come_in_order_and_whole_whatever_room_there_is(keys in 1_u64..3_000, bytes in 600_000_u64..3_000_000, seed in any::<u32>()) {
        let events: Vec<Seen> = (0..40_000).map(|number| event(number + u64::from(seed), keys)).collect();
        let (seen, until) = taken(&events, 1_000, bytes);
        let own = |event: &Seen| ((event.0.wrapping_mul(SPREAD) >> 56) as usize) < until;
        prop_assert!(are_in_order(&seen));
        prop_assert_eq!(sorted(seen), sorted(events.into_iter().filter(own).collect()));
    }
}

#[test]
fn what_does_not_fit_is_packed_before_parts_are_let_go_of() {
    let events: Vec<Seen> = (0..200_000).map(|number| event(number, 5_000)).collect();
    let loose = (events.len() * size_of::<Row>()) as u64;
    // Two thirds of it are for events: they fit as they are, packed, and not even so.
    for (bytes, is_whole) in [(3 * loose, true), (loose, true), (loose / 10, false)] {
        let (seen, until) = taken(&events, 5_000, bytes);
        assert_eq!((until == PARTS, seen.len() == events.len()), (is_whole, is_whole), "{bytes} bytes: {until} parts");
    }
}
