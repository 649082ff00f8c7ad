use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::event::ids::PersonKey;

const OURS: ProjectId = ProjectId(1);

fn event(id: u8, visitor: u64, at_ms: i64, received_ms: i64) -> Fixed {
    Fixed {
        event_id: [id; 16],
        visitor: VisitorKey(visitor),
        person: PersonKey(visitor),
        at_ms,
        original_ms: at_ms,
        sent_ms: 0,
        received_ms,
        flags: 0,
        project: 0,
    }
}

#[test]
fn a_copy_in_the_same_block_or_the_one_on_its_way_is_a_copy() {
    let mut dedupe = Dedupe::new(1 << 16, i64::MIN);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 10), 5), Verdict::New);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 11), 5), Verdict::Copy { conflict: false });
    dedupe.begin_insert();
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 12), 6), Verdict::Copy { conflict: true });
}

#[test]
fn the_same_id_under_another_visitor_is_another_event() {
    let mut dedupe = Dedupe::new(1 << 16, i64::MIN);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 10), 5), Verdict::New);
    assert_eq!(dedupe.admit(OURS, &event(1, 2, 10, 10), 5), Verdict::New);
}

#[test]
fn the_same_id_and_visitor_in_another_project_is_another_event() {
    let mut dedupe = Dedupe::new(1 << 16, i64::MIN);
    assert_eq!(dedupe.admit(ProjectId(2), &event(1, 1, 10, 10), 5), Verdict::New);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 10), 5), Verdict::New);
    dedupe.begin_insert();
    assert_eq!(dedupe.admit(ProjectId(3), &event(1, 1, 10, 10), 5), Verdict::New);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 10), 5), Verdict::Copy { conflict: false });
}

#[test]
fn once_stored_a_copy_is_a_suspect_for_the_table_to_judge() {
    let mut dedupe = Dedupe::new(1 << 16, i64::MIN);
    dedupe.admit(OURS, &event(1, 1, 10, 10), 5);
    dedupe.begin_insert();
    dedupe.end_insert();
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 12), 5), Verdict::Suspect);
}

#[test]
fn an_event_from_before_the_reach_is_a_suspect() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 999, 2_000), 5), Verdict::Suspect);
    assert_eq!(dedupe.admit(OURS, &event(2, 1, 1_000, 2_000), 5), Verdict::New);
}

#[test]
fn a_time_in_the_future_proves_nothing() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 2_001, 2_000), 5), Verdict::Suspect);
}

proptest! {
    /// Whatever the order of events, inserts and rotations, a key seen before is never called new.
    #[test]
    fn no_copy_is_ever_called_new(steps in prop::collection::vec((0_u8..40, 0_u64..3, 0_i64..200, any::<bool>()), 1..2_000)) {
        // 64 bytes a generation hold 42 events: the filters turn over many times.
        let mut dedupe = Dedupe::new(128, i64::MIN);
        let mut seen = HashSet::new();
        let mut first_received = std::collections::HashMap::new();
        for (now, (id, visitor, age, flush)) in steps.into_iter().enumerate() {
            let received = 1_000 + now as i64;
            // A resent event happened before its first copy was received.
            let first = *first_received.entry((id, visitor)).or_insert(received);
            let fixed = event(id, visitor, (received - age).min(first), received);
            let known = !seen.insert((id, visitor));
            let verdict = dedupe.admit(OURS, &fixed, 0);
            if known { prop_assert_ne!(verdict, Verdict::New); }
            if flush {
                dedupe.begin_insert();
                dedupe.end_insert();
            }
        }
    }
}

#[test]
fn few_new_events_are_suspects() {
    let mut dedupe = Dedupe::new(1 << 20, i64::MIN);
    let mut suspects = 0;
    for number in 0..300_000_u64 {
        let mut fixed = event(0, number, 10, 10);
        fixed.event_id[..8].copy_from_slice(&number.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        suspects += usize::from(dedupe.admit(OURS, &fixed, 0) == Verdict::Suspect);
    }
    assert!(suspects < 6_000, "{suspects} of 300,000 new events were suspects");
}

#[test]
fn a_time_that_the_server_gave_proves_nothing() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    let mut fixed = event(1, 1, 2_000, 2_000);
    fixed.flags = flag::SERVER_TIME;
    assert_eq!(dedupe.admit(OURS, &fixed, 5), Verdict::Suspect);
}
