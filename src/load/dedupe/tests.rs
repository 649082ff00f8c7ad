use proptest::prelude::*;

use super::*;
use crate::event::ids::PersonKey;
use crate::event::time::{Clock, Stated, correct};

const OURS: ProjectId = ProjectId(1);

fn event(id: u8, visitor: u64, at_ms: i64, received_ms: i64) -> EventHeader {
    EventHeader {
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
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 10, 12), 5), Verdict::Candidate);
}

#[test]
fn an_event_from_before_the_reach_is_a_suspect() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 999, 2_000), 5), Verdict::Candidate);
    assert_eq!(dedupe.admit(OURS, &event(2, 1, 1_499, 2_000), 5), Verdict::Candidate);
    assert_eq!(dedupe.admit(OURS, &event(3, 1, 1_500, 2_000), 5), Verdict::New);
}

#[test]
fn a_copy_from_a_clock_that_was_ahead_when_the_first_was_received_before_the_reach_is_a_suspect() {
    let (minute, clock_ahead) = (60_000, 4 * 60_000);
    // Received at the minute 0, restarted at the minute 62 with an hour recalled, resent at 70 out of a queue.
    let mut dedupe = Dedupe::new(1 << 16, 2 * minute);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, clock_ahead, 70 * minute), 5), Verdict::Candidate);
    // What is received as it happens costs no look-up, also from such a clock once its time has come.
    assert_eq!(dedupe.admit(OURS, &event(2, 1, 70 * minute, 70 * minute + 20), 5), Verdict::New);
}

#[test]
fn a_filter_that_has_everything_makes_no_suspects_of_events_without_a_time() {
    let mut dedupe = Dedupe::new(1 << 16, i64::MIN);
    let header = EventHeader { flags: flag::SERVER_TIME, ..event(1, 1, 10, 10) };
    assert_eq!(dedupe.admit(OURS, &header, 5), Verdict::New);
}

#[test]
fn a_time_in_the_future_proves_nothing() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    assert_eq!(dedupe.admit(OURS, &event(1, 1, 2_001, 2_000), 5), Verdict::Candidate);
}

/// What a client sent once: what makes it the same, when it was received, and how far ahead the client's clock was.
#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u16,
    visitor: u64,
    own_ms: i64,
    received_ms: i64,
    ahead_ms: i64,
}

impl Sent {
    /// As it is received at `received_ms`; it happened before its first copy was received, by a right clock.
    fn received(self, received_ms: i64) -> EventHeader {
        let mut header = event(0, self.visitor, self.own_ms, received_ms.max(self.own_ms - self.ahead_ms));
        header.event_id[..2].copy_from_slice(&self.id.to_be_bytes());
        header
    }
}

/// Events in the order of the log, received by servers whose clocks are up to 300 ms apart, some long after they happened, some from clients whose
/// clocks are ahead.
fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let mostly_little = || prop_oneof![4 => 0_i64..20, 1 => 0_i64..2_000];
    let step = (0_u64..3, 0_i64..300, mostly_little(), mostly_little());
    prop::collection::vec(step, 1..400).prop_map(|steps| {
        let sent = |(number, (visitor, clock, age, ahead_ms)): (usize, (u64, i64, i64, i64))| {
            let received_ms = 10_000 + number as i64 + clock;
            Sent { id: number as u16, visitor, own_ms: received_ms - age + ahead_ms, received_ms, ahead_ms }
        };
        steps.into_iter().enumerate().map(sent).collect()
    })
}

/// Whether what is promised holds for a copy that is received now.
fn knows(dedupe: &Dedupe, copy: Sent, header: &EventHeader) -> bool {
    dedupe.reach_ms == i64::MIN || 2 * copy.ahead_ms <= (header.received_ms - dedupe.reach_ms).max(0)
}

proptest! {
    /// Of events with copies at any distance, some of them stored by another owner and recalled in whatever order: none is called
    /// new a second time, however often the filters turn over, unless its clock was ahead by more than half of what they reach back.
    #[test]
    fn no_copy_is_ever_called_new(
        sent in sent(),
        stored in 0_usize..300,
        since_ms in 9_000_i64..11_000,
        order in any::<u64>(),
        copies in prop::collection::vec((0_usize..400, any::<bool>()), 0..800),
    ) {
        let stored = stored.min(sent.len());
        let newest_ms = sent[..stored].iter().map(|sent| sent.received_ms).max().unwrap_or(i64::MIN);
        // 64 bytes a generation hold 42 events.
        let mut dedupe = Dedupe::new(128, since_ms);
        let mut recalled: Vec<&Sent> = sent[..stored].iter().filter(|sent| sent.received_ms >= since_ms).collect();
        recalled.sort_by_key(|sent| xxh3_64_with_seed(&sent.id.to_le_bytes(), order));
        recalled.iter().for_each(|sent| dedupe.recall(EventKey::of(OURS, &sent.received(sent.received_ms)), newest_ms));
        let mut copies = copies.into_iter();
        for taken in stored..sent.len() {
            dedupe.admit(OURS, &sent[taken].received(sent[taken].received_ms), 0);
            for (number, ends) in copies.by_ref().take(2) {
                // As far back as one likes.
                let copy = sent[number % (taken + 1)];
                let header = copy.received(sent[taken].received_ms);
                let is_known = knows(&dedupe, copy, &header);
                let verdict = dedupe.admit(OURS, &header, 0);
                prop_assert!(!is_known || verdict != Verdict::New, "event {} of {taken}, {stored} of them stored before", copy.id);
                if ends {
                    dedupe.begin_insert();
                    dedupe.end_insert();
                }
            }
            dedupe.begin_insert();
            dedupe.end_insert();
        }
        for copy in &sent {
            let header = copy.received(20_000);
            let is_known = knows(&dedupe, *copy, &header);
            let verdict = dedupe.admit(OURS, &header, 0);
            prop_assert!(!is_known || verdict != Verdict::New, "event {} of all, {stored} of them stored before", copy.id);
        }
    }
}

#[test]
fn few_new_events_are_suspects() {
    let mut dedupe = Dedupe::new(1 << 20, i64::MIN);
    let mut candidates = 0;
    for number in 0..300_000_u64 {
        let mut header = event(0, number, 10, 10);
        header.event_id[..8].copy_from_slice(&number.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        candidates += usize::from(dedupe.admit(OURS, &header, 0) == Verdict::Candidate);
    }
    assert!(candidates < 6_000, "{candidates} of 300,000 new events were candidates");
}

#[test]
fn a_time_that_the_server_gave_proves_nothing() {
    let mut dedupe = Dedupe::new(1 << 16, 1_000);
    let mut header = event(1, 1, 2_000, 2_000);
    header.flags = flag::SERVER_TIME;
    assert_eq!(dedupe.admit(OURS, &header, 5), Verdict::Candidate);
}

#[test]
fn an_event_of_the_future_or_without_a_time_is_not_looked_for_on_all_days() {
    let now = 1_000 * DAY_MS;
    let ahead = |ahead_ms, flags| EventHeader { flags, ..event(1, 1, now + ahead_ms, now) };
    assert_eq!(earliest_receipt_ms(&ahead(-5, 0)), now - 5);
    assert_eq!(earliest_receipt_ms(&ahead(10_000, 0)), now + 10_000 - 30 * DAY_MS);
    assert_eq!(earliest_receipt_ms(&ahead(0, flag::SERVER_TIME)), now - 30 * DAY_MS);
}

proptest! {
    /// Whatever a client says, of which both copies are taken: the first one was received when it is looked for, unless its clock was ahead by
    /// more than a day and its time has come since.
    #[test]
    fn a_first_copy_was_received_when_it_is_looked_for(ahead_ms in -40 * DAY_MS..40 * DAY_MS, later_ms in 0..100 * DAY_MS) {
        let first_ms = 1_000 * DAY_MS;
        let stated = Stated { at_ms: Some(first_ms + ahead_ms), sent_ms: None };
        let taken = |received_ms| correct(stated, Clock { received_ms, earliest_ms: 0, min_skew_ms: 300_000 });
        if let (Ok(_), Ok(corrected)) = (taken(first_ms), taken(first_ms + later_ms)) {
            let flags = if corrected.is_clamped { flag::CLAMPED } else { 0 };
            let copy = event(1, 1, corrected.at_ms, first_ms + later_ms);
            let earliest_ms = earliest_receipt_ms(&EventHeader { original_ms: first_ms + ahead_ms, flags, ..copy });
            prop_assert!(earliest_ms - DAY_MS <= first_ms || (ahead_ms > DAY_MS && later_ms >= ahead_ms));
        }
    }
}
