use proptest::prelude::*;

use super::*;

/// Candidates that happened at these times.
fn candidates(own: &[i64]) -> Vec<DuplicateCandidate> {
    own.iter().map(|own_ms| DuplicateCandidate::of_time(*own_ms)).collect()
}

#[test]
fn the_hash_of_an_id_is_that_of_the_table() {
    // SELECT xxHash32(toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0'))
    assert_eq!(event_hash(uuid::uuid!("61f0c404-5cb3-11e7-907b-a6006ad3dba0").into_bytes()), 1_805_818_376);
}

#[test]
fn minutes_are_recalled_as_far_back_as_there_is_room_for() {
    let until_ms = 100 * MINUTE_MS + 30_000;
    let minute = |number: i64, events| Minute { at_ms: number * MINUTE_MS, events };
    let minutes = [minute(100, 500), minute(99, 1_000), minute(70, 1_000)];
    // Half of the newest minute has passed.
    assert_eq!(since(&minutes, 250, until_ms), until_ms - 15_000);
    assert_eq!(since(&minutes, 500, until_ms), 100 * MINUTE_MS);
    assert_eq!(since(&minutes, 1_000, until_ms), 99 * MINUTE_MS + 30_000);
    // Nothing was received between.
    assert_eq!(since(&minutes, 1_500, until_ms), 71 * MINUTE_MS);
    assert_eq!(since(&minutes, 2_500, until_ms), until_ms - RECALLED_MS);
    assert_eq!(since(&[], 1, until_ms), until_ms - RECALLED_MS);
}

proptest! {
    /// Each candidate is looked for on every day on which a copy of it can have been received, and asked for once.
    #[test]
    fn no_day_is_left_out(own in prop::collection::vec(prop_oneof![9 => 0_i64..200 * DAY_MS, 1 => Just(i64::MIN)], 0..60)) {
        let candidates = candidates(&own);
        let spans = by_span(&candidates);
        let asked: usize = spans.iter().map(|(_, together)| together.len()).sum();
        prop_assert_eq!(asked, candidates.len());
        prop_assert!(spans.len() <= SPANS.len());
        for (day, together) in spans {
            for candidate in together {
                // A clock that is a day ahead.
                prop_assert!(day <= DataVersions::day(candidate.own_ms.saturating_sub(DAY_MS)));
            }
        }
    }
}
