use proptest::prelude::*;

use super::*;

const ADA: VisitorKey = VisitorKey(1);
const BOB: VisitorKey = VisitorKey(2);

#[test]
fn late_event_does_not_shorten_the_session() {
    let mut sessions = Sessionizer::new(1_000, 100);
    let first = sessions.assign(ADA, 5_000);
    assert_eq!(sessions.assign(ADA, 4_500), first);
    assert_eq!(sessions.assign(ADA, 6_000), first);
}

#[test]
fn a_gap_longer_than_the_idle_gap_opens_a_new_session() {
    let mut sessions = Sessionizer::new(1_000, 100);
    let first = sessions.assign(ADA, 5_000);
    assert_eq!(sessions.assign(ADA, 6_000), first);
    assert_ne!(sessions.assign(ADA, 7_001), first);
}

#[test]
fn an_event_too_late_for_the_open_session_leaves_it_open() {
    let mut sessions = Sessionizer::new(1_000, 100);
    let open = sessions.assign(ADA, 5_000);
    assert_ne!(sessions.assign(ADA, 100), open);
    assert_eq!(sessions.assign(ADA, 5_500), open);
}

#[test]
fn visitors_unseen_for_two_gaps_of_the_log_are_forgotten() {
    let mut sessions = Sessionizer::new(1_000, 100);
    sessions.assign(ADA, 5_000);
    sessions.advance(6_500);
    sessions.assign(BOB, 6_500);
    assert_eq!(sessions.visitors(), 2);
    sessions.advance(8_000);
    assert_eq!(sessions.visitors(), 1);
}

#[test]
fn a_flood_of_visitors_stays_within_the_bound() {
    let mut sessions = Sessionizer::new(1_000, 10);
    for visitor in 0..1_000 {
        sessions.advance(5_000);
        sessions.assign(VisitorKey(visitor), 5_000);
    }
    assert!(sessions.visitors() <= 20);
}

#[test]
fn a_uuid_of_the_client_is_kept_and_a_name_is_always_mapped_to_the_same_session() {
    let uuid = Uuid::from_u128(0x1234);
    assert_eq!(SessionId::of_client(ProjectId(1), &uuid.to_string()).0, uuid.into_bytes());
    assert_eq!(SessionId::of_client(ProjectId(1), "s-1"), SessionId::of_client(ProjectId(1), "s-1"));
    assert_ne!(SessionId::of_client(ProjectId(1), "s-1"), SessionId::of_client(ProjectId(2), "s-1"));
}

/// In order of time, a session is a run of events with no gap above the limit: the definition, computed the slow way.
fn sessions_in_order(times: &[i64], gap: i64) -> usize {
    1 + times.windows(2).filter(|pair| pair[1] - pair[0] > gap).count()
}

proptest! {
    #[test]
    fn ordered_events_fall_into_the_sessions_of_the_definition(mut times in prop::collection::vec(0_i64..50_000, 1..60)) {
        times.sort_unstable();
        let mut sessions = Sessionizer::new(1_000, 100);
        let mut seen: Vec<_> = times.iter().map(|at| sessions.assign(ADA, *at)).collect();
        seen.dedup();
        prop_assert_eq!(seen.len(), sessions_in_order(&times, 1_000));
    }

    #[test]
    fn a_restored_sessionizer_goes_on_as_the_first_would_have(
        events in prop::collection::vec((0_u64..6, 0_i64..20_000), 1..80),
        cut in 0_usize..80,
    ) {
        let cut = cut.min(events.len());
        let mut whole = Sessionizer::new(1_000, 4);
        let mut saved = Vec::new();
        let mut expected = Vec::new();
        for (index, (visitor, at)) in events.iter().enumerate() {
            if index == cut { whole.save(&mut saved); }
            whole.advance(*at);
            expected.push(whole.assign(VisitorKey(*visitor), *at));
        }
        if cut == events.len() { whole.save(&mut saved); }

        let mut restored = Sessionizer::new(1_000, 4);
        restored.restore(&saved).unwrap();
        for ((visitor, at), session) in events.iter().zip(&expected).skip(cut) {
            restored.advance(*at);
            prop_assert_eq!(restored.assign(VisitorKey(*visitor), *at), *session);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Sessionizer::new(1_000, 10).restore(&bytes);
    }
}
