use proptest::prelude::*;

use super::*;
use crate::outcome::{DeadReason, Defect};

fn header_of(events: u32, origin: Option<RawOrigin>) -> Header {
    let mut tallies = Tallies::default();
    tallies.add(ProjectId(5), 120_000, Count::Received, events);
    tallies.add(ProjectId(5), 120_000, Count::Rejected(Defect::EventIdInvalid), 2);
    tallies.add(ProjectId(9), 180_000, Count::Dead(DeadReason::LineMalformed), 1);
    Header {
        source: 77,
        day: 20_000,
        events,
        received_ms: 1_700_000_000_000,
        projects: vec![ProjectId(5), ProjectId(9)],
        tallies,
        letters: 1,
        origin,
    }
}

proptest! {
    #[test]
    fn records_read_back_equal(body in prop::collection::vec(any::<u8>(), 0..5_000), events in 0_u32..1_000, enriched: bool) {
        let origin = enriched.then_some(RawOrigin { epoch: LogEpoch(3), partition: 1, offset: 42, previous: 40 });
        let written = header_of(events, origin);
        let bytes = encode(&written, &body);
        let mut read_body = vec![1, 2, 3];
        prop_assert_eq!(decode(&bytes, &mut read_body).unwrap(), written.clone());
        prop_assert_eq!(read_body, body);
        prop_assert_eq!(header(&bytes[..bytes.len().min(HEADER_PREFIX)]).unwrap(), written);
    }

    #[test]
    fn enriched_records_hold_the_body_as_it_was_and_what_is_added(
        body in prop::collection::vec(any::<u8>(), 0..5_000), enrichments in prop::collection::vec(any::<u8>(), 0..1_000), cut in 1_usize..100,
    ) {
        let raw = encode(&header_of(3, None), &body);
        let written = header_of(2, Some(RawOrigin { epoch: LogEpoch(3), partition: 1, offset: 42, previous: 40 }));
        let bytes = enrich(&written, &raw, &enrichments).unwrap();
        let mut read = Enriched { events: vec![1, 2, 3], enrichments: vec![4] };
        prop_assert_eq!(decode_enriched(&bytes, &mut read).unwrap(), written.clone());
        prop_assert_eq!((&read.events, &read.enrichments), (&body, &enrichments));
        prop_assert_eq!(header(&bytes[..bytes.len().min(HEADER_PREFIX)]).unwrap(), written);
        let short = &bytes[..bytes.len() - cut.min(bytes.len())];
        prop_assert!(body.is_empty() && enrichments.is_empty() || decode_enriched(short, &mut read).is_err());
    }

    #[test]
    fn arbitrary_and_cut_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
        let mut body = Vec::new();
        let _ = decode(&bytes, &mut body);
        let good = encode(&header_of(1, None), b"body");
        if cut < good.len() {
            prop_assert!(decode(&good[..cut], &mut body).is_err());
        }
    }
}

#[test]
fn a_record_of_another_version_says_so() {
    let mut bytes = encode(&header_of(1, None), b"body");
    bytes[2] = 9;
    assert_eq!(header(&bytes), Err(RecordError("record version is not known to this release")));
}

#[test]
fn tallies_of_the_same_project_and_minute_add_up() {
    let mut tallies = Tallies::default();
    tallies.add(ProjectId(1), 59_999, Count::Received, 2);
    tallies.add(ProjectId(1), 60_000, Count::Received, 1);
    tallies.add(ProjectId(1), 1, Count::Received, 3);
    let mut other = tallies.clone();
    other.merge(&tallies);
    assert_eq!(tallies.at(ProjectId(1), 0).count(Count::Received), 5);
    assert_eq!(other.at(ProjectId(1), 0).count(Count::Received), 10);
    assert_eq!(other.at(ProjectId(1), 1).count(Count::Received), 2);
}

#[test]
fn counts_that_only_a_later_release_knows_are_read_and_passed_on_as_they_are() {
    let counts: Vec<(Count, u32)> = (0..=u8::MAX).map(|code| (Count::of_code(code), u32::from(code) + 1)).collect();
    assert!(counts.iter().any(|(count, _)| matches!(count, Count::Unknown(_))));
    let mut header = header_of(3, None);
    header.tallies.0 = vec![Tally { project: ProjectId(7), minute: 12, counts }];
    let raw = encode(&header, b"body");
    let mut body = Vec::new();
    assert_eq!(decode(&raw, &mut body).unwrap(), header);
    let enriched = enrich(&header, &raw, b"more").unwrap();
    let mut content = Enriched::default();
    assert_eq!(decode_enriched(&enriched, &mut content).unwrap(), header, "by load as by process");
}
