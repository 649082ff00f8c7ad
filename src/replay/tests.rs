use proptest::prelude::*;

use super::*;

/// Blocks that follow on each other from raw offset 0 on, by their number of records.
fn blocks() -> impl Strategy<Value = Vec<Covering>> {
    prop::collection::vec(1_i64..30, 0..12).prop_map(|sizes| {
        let mut previous = -1;
        let block = |size| {
            let block = Covering { previous, last: previous + size };
            previous = block.last;
            block
        };
        sizes.into_iter().map(block).collect()
    })
}

proptest! {
    /// Wherever retention has cut and whatever was asked for: no block is copied in part, what is copied reaches to the first record that is
    /// replayed, and as little as possible is copied.
    #[test]
    fn a_swap_begins_where_a_block_does_that_the_log_has_whole(
        blocks in blocks(),
        first in 0_i64..200,
        more in 0_i64..50,
        asked in 0_i64..200,
    ) {
        let loaded = blocks.last().map_or(-1, |block| block.last);
        let held = first.min(loaded + 1)..loaded + 1 + more;
        let asked = asked.clamp(held.start, held.end);
        let before = blocks.iter().map(|block| block.last).filter(|last| *last < asked).max();
        let cut = blocks.iter().copied().find(|block| block.last >= held.start);
        let start = first_of_swap(held.clone(), before, cut);
        prop_assert!((held.start..=held.end).contains(&start));
        let ends = start == 0 || start == held.start && held.start > loaded || blocks.iter().any(|block| block.last + 1 == start);
        prop_assert!(ends, "{} is inside a block", start);
        let is_cut = cut.is_some_and(|block| block.previous + 1 < held.start);
        prop_assert!(start <= asked || is_cut, "more is kept than was asked for");
        prop_assert!(!is_cut || cut.is_some_and(|block| start > block.last), "a block is kept in part");
    }
}

#[test]
fn a_block_of_which_the_log_has_lost_a_part_is_kept_whole() {
    let block = Some(Covering { previous: 89, last: 110 });
    assert_eq!(first_of_swap(100..150, Some(89), block), 111);
    assert_eq!(first_of_swap(90..150, Some(89), block), 90);
    // A table that was begun behind the first record, and one without anything.
    assert_eq!(first_of_swap(90..150, None, block), 90);
    assert_eq!(first_of_swap(95..150, None, block), 111);
    assert_eq!(first_of_swap(95..150, None, None), 95);
}
