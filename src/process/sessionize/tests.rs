use proptest::prelude::*;

use super::*;

const ADA: Visitor = visitor(1);
const BOB: Visitor = visitor(2);

const fn visitor(key: u64) -> Visitor {
    Visitor { project: ProjectId(1), key: VisitorKey(key) }
}

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

const HOUR: i64 = 3_600_000;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

/// A visitor a minute for some hours from `from_ms` on; returns how many are remembered at the end.
fn visitors_of(sessions: &mut Sessionizer, from_ms: i64, hours: i64) -> usize {
    for minute in 0..hours * 60 {
        let at_ms = from_ms + minute * 60_000;
        sessions.advance(at_ms);
        sessions.assign(visitor((at_ms / 60_000) as u64 + 10), at_ms);
    }
    sessions.visitors()
}

#[test]
fn one_receipt_far_ahead_stops_no_forgetting_and_forgets_nobody() {
    let start = 1_790_000_000_000;
    let mut sessions = Sessionizer::new(HOUR, 1_000_000);
    let usual = visitors_of(&mut sessions, start, 5);
    assert!(usual <= 121, "two gaps of visitors: {usual}");
    let first = sessions.assign(ADA, start + 5 * HOUR);
    for round in 0..5 {
        sessions.advance(start + YEARS + round);
        sessions.advance(start + 5 * HOUR + round);
    }
    assert_eq!(sessions.assign(ADA, start + 5 * HOUR + 1), first, "her session goes on");
    assert!(visitors_of(&mut sessions, start + 5 * HOUR, 5) <= 121);
}

#[test]
fn a_clock_that_stays_ahead_is_believed_and_set_back_when_it_was_wrong_after_all() {
    let start = 1_790_000_000_000;
    let mut sessions = Sessionizer::new(HOUR, 1_000_000);
    visitors_of(&mut sessions, start, 5);
    assert!(visitors_of(&mut sessions, start + YEARS, 5) <= 121, "ten years later");
    assert!(visitors_of(&mut sessions, start + 5 * HOUR, 5) <= 121, "and back");
    assert!(visitors_of(&mut sessions, start + 100 * HOUR, 5) <= 121, "after a quiet weekend");
}

#[test]
fn a_flood_of_visitors_stays_within_the_bound() {
    let mut sessions = Sessionizer::new(1_000, 10);
    for key in 0..1_000 {
        sessions.advance(5_000);
        sessions.assign(visitor(key), 5_000);
    }
    assert!(sessions.visitors() <= 20);
}

#[test]
fn what_a_client_calls_a_session_names_one_of_its_visitor() {
    for name in ["s-1", "1717171717", "0190f7a4-0000-7000-8000-000000000001", ""] {
        assert_eq!(SessionId::of_client(ADA, name), SessionId::of_client(ADA, name));
        assert_ne!(SessionId::of_client(ADA, name), SessionId::of_client(BOB, name));
        assert_ne!(SessionId::of_client(ADA, name), SessionId::of_client(Visitor { project: ProjectId(2), ..ADA }, name));
    }
    assert_ne!(SessionId::of_client(ADA, "s-1"), SessionId::of_client(ADA, "s-2"));
}

#[test]
fn a_visitor_of_another_project_with_the_same_key_has_sessions_of_its_own() {
    let theirs = Visitor { project: ProjectId(2), ..ADA };
    let (mut alone, mut together) = (Sessionizer::new(1_000, 100), Sessionizer::new(1_000, 100));
    // Theirs would bridge the gaps between ours.
    for at in [5_000, 6_800, 8_600] {
        assert_ne!(together.assign(theirs, at - 900), together.assign(ADA, at));
        assert_eq!(together.assign(ADA, at), alone.assign(ADA, at));
    }
    assert_eq!(together.visitors(), 2);
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
        for (index, (key, at)) in events.iter().enumerate() {
            if index == cut { whole.save(&mut saved); }
            whole.advance(*at);
            expected.push(whole.assign(visitor(*key), *at));
        }
        if cut == events.len() { whole.save(&mut saved); }

        let mut restored = Sessionizer::new(1_000, 4);
        restored.restore(&saved).unwrap();
        for ((key, at), session) in events.iter().zip(&expected).skip(cut) {
            restored.advance(*at);
            prop_assert_eq!(restored.assign(visitor(*key), *at), *session);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Sessionizer::new(1_000, 10).restore(&bytes);
    }
}
