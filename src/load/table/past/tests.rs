use proptest::prelude::*;

use super::*;

/// Candidates that can have been received since these times.
fn candidates(own: &[i64]) -> Vec<DuplicateCandidate> {
    own.iter().map(|earliest_ms| DuplicateCandidate::since(*earliest_ms)).collect()
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
    let back = Back { until_ms, span_ms: RECALLED_MS };
    // Half of the newest minute has passed.
    assert_eq!(since(&minutes, 250, back), until_ms - 15_000);
    assert_eq!(since(&minutes, 500, back), 100 * MINUTE_MS);
    assert_eq!(since(&minutes, 1_000, back), 99 * MINUTE_MS + 30_000);
    // Nothing was received between.
    assert_eq!(since(&minutes, 1_500, back), 71 * MINUTE_MS);
    assert_eq!(since(&minutes, 2_500, back), until_ms - RECALLED_MS);
    assert_eq!(since(&[], 1, back), until_ms - RECALLED_MS);
}

proptest! {
    /// Each candidate is looked for on every day on which a copy of it can have been received, and asked for once.
    #[test]
    fn no_day_is_left_out(own in prop::collection::vec(prop_oneof![9 => 0_i64..200 * DAY_MS, 1 => Just(i64::MIN)], 0..60)) {
        let candidates = candidates(&own);
        let spans = by_span(&candidates, |candidate| first_day(candidate.earliest_ms));
        let asked: usize = spans.iter().map(|(_, together)| together.len()).sum();
        prop_assert_eq!(asked, candidates.len());
        prop_assert!(spans.len() <= SPANS.len());
        for (day, together) in spans {
            for candidate in together {
                // A clock that is a day ahead.
                prop_assert!(day <= DataVersions::day(candidate.earliest_ms.saturating_sub(DAY_MS)));
            }
        }
    }
}
