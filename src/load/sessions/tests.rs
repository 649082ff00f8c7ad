use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::ids::{ProjectId, VisitorKey};

const RULES: SessionRules = SessionRules { idle_gap_ms: 100_000, longest_ms: 350_000 };

fn visitor(number: u64) -> Visitor {
    Visitor { project: ProjectId(1 + number % 2), key: VisitorKey(number / 2) }
}

/// The plain definition: sort, cut.
fn model(times: &mut [i64]) -> BTreeMap<i64, i64> {
    times.sort_unstable();
    let mut starts = BTreeMap::new();
    let mut session: Option<(i64, i64)> = None;
    for at_ms in times {
        let start_ms = match session {
            Some((start_ms, last_ms)) if *at_ms - last_ms <= RULES.idle_gap_ms && *at_ms - start_ms <= RULES.longest_ms => start_ms,
            _ => *at_ms,
        };
        session = Some((start_ms, *at_ms));
        starts.insert(*at_ms, start_ms);
    }
    starts
}

/// What the table would have.
#[derive(Default)]
struct Table {
    rows: Vec<(Visitor, Visit)>,
    revisions: Vec<Revision>,
    questions: usize,
}

impl Table {
    fn ask(&mut self, questions: &[Question]) -> Pasts {
        self.questions += questions.len();
        let past = |question: &Question| {
            let of_span = |at_ms: i64| question.from_ms <= at_ms && at_ms <= question.to_ms;
            let visits = self.rows.iter().filter(|(visitor, visit)| *visitor == question.visitor && of_span(visit.at_ms));
            let holds = |revision: &&Revision| {
                revision.visitor == question.visitor && revision.from_ms <= question.to_ms && revision.to_ms >= question.from_ms
            };
            let revisions = self.revisions.iter().filter(holds).copied().collect();
            (question.visitor, Past { visits: visits.map(|(_, visit)| *visit).collect(), revisions })
        };
        questions.iter().map(past).collect()
    }

    fn session(&self, visitor: Visitor, visit: &Visit) -> SessionId {
        let holds = |revision: &&Revision| revision.visitor == visitor && revision.from_ms <= visit.at_ms && visit.at_ms <= revision.to_ms;
        self.revisions.iter().filter(holds).max_by_key(|revision| revision.version).map_or(visit.session, |revision| revision.session)
    }

    fn recalled(&self, since_ms: i64) -> Sessions {
        let mut sessions = Sessions::new(RULES, 4, since_ms);
        let mut last: BTreeMap<Visitor, Visit> = BTreeMap::new();
        for (visitor, visit) in self.rows.iter().filter(|(_, visit)| visit.at_ms > since_ms) {
            let known = last.entry(*visitor).or_insert(*visit);
            if visit.at_ms >= known.at_ms {
                *known = *visit;
            }
        }
        for (visitor, visit) in last {
            let is_revised = self.revisions.iter().any(|revision| revision.visitor == visitor && revision.to_ms > since_ms);
            sessions.recall(visitor, visit.at_ms, Some(visit.session).filter(|_| !is_revised));
        }
        sessions
    }

    /// Loads a block as the loader does.
    fn load(&mut self, sessions: &mut Sessions, events: &[(Visitor, i64)], received_ms: i64) {
        let first = self.rows.len();
        for (visitor, at_ms) in events {
            let session = sessions.assign(*visitor, *at_ms).unwrap_or(SessionId([0; 16]));
            self.rows.push((*visitor, Visit { at_ms: *at_ms, session }));
        }
        let block = self.rows.split_off(first);
        let mut block: Vec<(Visitor, Visit)> = block
            .into_iter()
            .map(|(visitor, visit)| (visitor, Visit { session: sessions.renamed(visit.session).unwrap_or(visit.session), ..visit }))
            .collect();
        let rows: Vec<Row> = block
            .iter()
            .enumerate()
            .filter(|(_, (visitor, _))| sessions.is_waiting(*visitor))
            .map(|(row, (visitor, visit))| Row { visitor: *visitor, at_ms: visit.at_ms, row })
            .collect();
        let mut settled = Settled { revisions: sessions.moved(), ..Settled::default() };
        let mut questions = sessions.questions(&rows);
        while !questions.is_empty() {
            let pasts = self.ask(&questions);
            questions = sessions.settle(&rows, &questions, &pasts, &mut settled);
        }
        for (row, session) in settled.rows {
            block[row].1.session = session;
        }
        self.rows.append(&mut block);
        self.revisions.append(&mut settled.revisions);
        sessions.end_block(received_ms);
    }

    fn check(&self) {
        let mut times: BTreeMap<Visitor, Vec<i64>> = BTreeMap::new();
        for (visitor, visit) in &self.rows {
            times.entry(*visitor).or_default().push(visit.at_ms);
        }
        let starts: BTreeMap<Visitor, BTreeMap<i64, i64>> =
            times.into_iter().map(|(visitor, mut times)| (visitor, model(&mut times))).collect();
        for (visitor, visit) in &self.rows {
            let expected = SessionId::beginning_at(*visitor, starts[visitor][&visit.at_ms]);
            assert_eq!(self.session(*visitor, visit), expected, "{visitor:?} at {} of {:?}", visit.at_ms, starts[visitor]);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A block of events: visitor, time in units of 10 s and some ms.
    Block(Vec<(u64, i64)>),
    /// Everything remembered is gone; what is recalled begins at that time.
    Restart(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let event = (0_u64..5, 0_i64..1_500).prop_map(|(number, at)| (number, at * 1_000 + at % 7));
    prop_oneof![
        8 => proptest::collection::vec(event, 1..12).prop_map(Step::Block),
        1 => (0_i64..1_500_000).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_those_of_the_sorted_events_whatever_the_order(steps in proptest::collection::vec(step(), 1..14), horizon_ms in -500_000_i64..0) {
        let mut table = Table::default();
        let mut sessions = Sessions::new(RULES, 4, horizon_ms);
        let mut received_ms = 0;
        for step in &steps {
            match step {
                Step::Block(events) => {
                    let events: Vec<(Visitor, i64)> = events.iter().map(|(number, at_ms)| (visitor(*number), *at_ms)).collect();
                    received_ms += 40_000;
                    table.load(&mut sessions, &events, received_ms);
                }
                Step::Restart(since_ms) => sessions = table.recalled(*since_ms),
            }
            table.check();
        }
    }

    #[test]
    fn few_visitors_whose_sessions_move_again_and_again_end_with_those_of_the_sorted_events(
        blocks in proptest::collection::vec(proptest::collection::vec((0_u64..2, 0_i64..900), 1..4), 1..40),
    ) {
        let mut table = Table::default();
        let mut sessions = Sessions::new(RULES, 1_000, -500_000);
        for (number, events) in (0..).zip(&blocks) {
            let events: Vec<(Visitor, i64)> = events.iter().map(|(number, at)| (visitor(*number), at * 1_000)).collect();
            table.load(&mut sessions, &events, number);
            table.check();
        }
    }

    #[test]
    fn events_in_order_ask_the_table_nothing(gaps in proptest::collection::vec((0_u64..5, 0_i64..300_000), 1..60)) {
        let mut table = Table::default();
        let mut sessions = Sessions::new(RULES, 1_000, -1_000_000);
        let mut now_ms = 0;
        for (number, gap_ms) in gaps {
            now_ms += gap_ms / 5;
            table.load(&mut sessions, &[(visitor(number), now_ms)], now_ms);
        }
        table.check();
        prop_assert_eq!(table.questions, 0);
        prop_assert!(table.revisions.is_empty());
    }
}

/// A phone tells first what it did last, block by block.
#[test]
fn a_session_that_is_told_backwards_asks_the_table_nothing() {
    let mut table = Table::default();
    let mut sessions = Sessions::new(RULES, 1_000, -1_000_000);
    for at in (0..4).rev() {
        table.load(&mut sessions, &[(visitor(0), at * 80_000 + 30_000), (visitor(0), at * 80_000)], at);
        table.check();
    }
    assert_eq!((table.questions, table.revisions.len()), (0, 3));
}

#[test]
fn a_visitor_takes_at_most_a_hundred_bytes() {
    let mut sessions = Sessions::new(RULES, 2_000_000, 0);
    for number in 0..1_000_000 {
        sessions.assign(visitor(number), 1_000_000);
    }
    assert!(sessions.recent.allocation_size() / sessions.recent.len() <= 100);
}
