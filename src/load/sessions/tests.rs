use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::ids::{ProjectId, VisitorKey};
use crate::event::session::Days;
use crate::project::ProjectsConfig;

/// In Beirut that day began at one o'clock, 22:00 UTC.
const MIDNIGHT_MS: i64 = 1_774_735_200_000;
/// The time that tests count from: a midnight is 700 s later.
const BASE_MS: i64 = MIDNIGHT_MS - 700_000;
const ZONE: &str = "Asia/Beirut";

fn rules(cuts_at_midnight: bool, cuts_at_campaign: bool) -> SessionRules {
    let days = cuts_at_midnight.then(|| Days::of_zone(ZONE).unwrap());
    SessionRules { idle_gap_ms: 100_000, longest_ms: 350_000, days, cuts_at_campaign }
}

fn sessions(rules: &SessionRules, max_visitors: usize, horizon_ms: i64) -> Sessions {
    Sessions::new(ProjectsConfig::default().check(rules.clone()).unwrap(), max_visitors, horizon_ms)
}

/// A partition that remembers nobody, of a table that has events of everyone.
fn sessions_of_nobody(rules: &SessionRules) -> Sessions {
    sessions(rules, 4, BASE_MS + 10_000_000)
}

fn visitor(number: u64) -> Visitor {
    Visitor { project: ProjectId(1 + number % 2), key: VisitorKey(number / 2) }
}

/// Where the sessions of the moments begin, by the plain definition: sort, cut.
fn model(rules: &SessionRules, moments: &[Moment]) -> BTreeMap<i64, i64> {
    let zone = jiff::tz::TimeZone::get(ZONE).unwrap();
    let date = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone()).date();
    let mut campaigns: BTreeMap<i64, u32> = BTreeMap::new();
    for Moment { at_ms, campaign } in moments {
        let of_moment = campaigns.entry(*at_ms).or_default();
        *of_moment = campaign.0.max(*of_moment);
    }
    let mut starts = BTreeMap::new();
    let mut session: Option<(i64, i64, u32)> = None;
    for (at_ms, carried) in campaigns {
        let (start_ms, campaign) = match session {
            Some((start_ms, last_ms, campaign))
                if at_ms - last_ms <= rules.idle_gap_ms
                    && at_ms - start_ms <= rules.longest_ms
                    && (rules.days.is_none() || date(last_ms) == date(at_ms))
                    && (!rules.cuts_at_campaign || carried == 0 || carried == campaign) =>
            {
                (start_ms, campaign)
            }
            _ => (at_ms, carried),
        };
        session = Some((start_ms, at_ms, campaign));
        starts.insert(at_ms, start_ms);
    }
    starts
}

/// What the table would have.
struct Table {
    rules: SessionRules,
    rows: Vec<(Visitor, Visit)>,
    revisions: Vec<Revision>,
    questions: usize,
}

impl Table {
    fn new(rules: SessionRules) -> Self {
        Self { rules, rows: Vec::new(), revisions: Vec::new(), questions: 0 }
    }

    fn ask(&mut self, questions: &[Question]) -> Pasts {
        self.questions += questions.len();
        let past = |question: &Question| {
            let of_span = |at_ms: i64| question.from_ms <= at_ms && at_ms <= question.to_ms;
            let visits = self.rows.iter().filter(|(visitor, visit)| *visitor == question.visitor && of_span(visit.moment.at_ms));
            let holds = |revision: &&Revision| {
                revision.visitor == question.visitor && revision.from_ms <= question.to_ms && revision.to_ms >= question.from_ms
            };
            let revisions = self.revisions.iter().filter(holds).copied().collect();
            (question.visitor, Past { visits: visits.map(|(_, visit)| *visit).collect(), revisions })
        };
        questions.iter().map(past).collect()
    }

    fn session(&self, visitor: Visitor, visit: &Visit) -> SessionId {
        let holds = |revision: &&Revision| {
            revision.visitor == visitor && revision.from_ms <= visit.moment.at_ms && visit.moment.at_ms <= revision.to_ms
        };
        self.revisions.iter().filter(holds).max_by_key(|revision| revision.version).map_or(visit.session, |revision| revision.session)
    }

    fn recalled(&self, since_ms: i64) -> Sessions {
        let mut sessions = sessions(&self.rules, 4, since_ms);
        let mut last: BTreeMap<Visitor, Visit> = BTreeMap::new();
        for (visitor, visit) in self.rows.iter().filter(|(_, visit)| visit.moment.at_ms > since_ms) {
            let known = last.entry(*visitor).or_insert(*visit);
            if visit.moment.at_ms >= known.moment.at_ms {
                *known = *visit;
            }
        }
        for (visitor, visit) in last {
            let is_revised = self.revisions.iter().any(|revision| revision.visitor == visitor && revision.to_ms > since_ms);
            sessions.recall(visitor, visit.moment.at_ms, Some(visit.session).filter(|_| !is_revised));
        }
        sessions
    }

    /// Loads a block as the loader does.
    fn load(&mut self, sessions: &mut Sessions, events: &[(Visitor, Moment)], received_ms: i64) {
        let first = self.rows.len();
        for (visitor, moment) in events {
            let session = sessions.assign(*visitor, *moment).unwrap_or(SessionId([0; 16]));
            self.rows.push((*visitor, Visit { moment: *moment, session }));
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
            .map(|(row, (visitor, visit))| Row { visitor: *visitor, moment: visit.moment, row })
            .collect();
        let mut settled = sessions.begin_settling();
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

    /// Cuts all events anew, in spans of time one after the other.
    fn recut(&mut self) {
        let visitors: std::collections::BTreeSet<Visitor> = self.rows.iter().map(|(visitor, _)| *visitor).collect();
        for span in 0..6 {
            let anew = Anew { from_ms: BASE_MS + 300_000 * span, until_ms: BASE_MS + 300_000 * (span + 1) };
            let mut questions: Vec<Question> = visitors.iter().map(|visitor| recut_question(&self.rules, *visitor, anew)).collect();
            while !questions.is_empty() {
                let pasts = self.ask(&questions);
                let mut further = Vec::new();
                for question in &questions {
                    match recut(&self.rules, question, &pasts[&question.visitor]) {
                        Recut::Needs(question) => further.push(question),
                        Recut::Done(revisions) => self.revisions.extend(revisions),
                    }
                }
                questions = further;
            }
        }
    }

    fn check(&self) {
        let mut moments: BTreeMap<Visitor, Vec<Moment>> = BTreeMap::new();
        for (visitor, visit) in &self.rows {
            moments.entry(*visitor).or_default().push(visit.moment);
        }
        let starts: BTreeMap<Visitor, BTreeMap<i64, i64>> =
            moments.iter().map(|(visitor, moments)| (*visitor, model(&self.rules, moments))).collect();
        for (visitor, visit) in &self.rows {
            let at_ms = visit.moment.at_ms;
            let expected = SessionId::beginning_at(*visitor, starts[visitor][&at_ms]);
            assert_eq!(self.session(*visitor, visit), expected, "{visitor:?} at {at_ms} of {:?}: {:?}", moments[visitor], starts[visitor]);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A block of events: visitor, time, campaign.
    Block(Vec<(u64, Moment)>),
    /// Everything remembered is gone; what is recalled begins at that time.
    Restart(i64),
}

fn moment(at_ms: i64, campaign: u32) -> Moment {
    Moment { at_ms: BASE_MS + at_ms, campaign: Campaign(campaign) }
}

/// Events within `seconds`, many of them of the same moment; most carry no campaign.
fn event(visitors: u64, seconds: i64) -> impl Strategy<Value = (u64, Moment)> {
    let campaign = prop_oneof![4 => Just(0), 2 => 1_u32..3];
    (0..visitors, 0..seconds, campaign).prop_map(|(number, at, campaign)| (number, moment(at * 1_000 + at % 7, campaign)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(event(5, 1_500), 1..12).prop_map(Step::Block),
        1 => (0_i64..1_500_000).prop_map(|since_ms| Step::Restart(BASE_MS + since_ms)),
    ]
}

fn any_rules() -> impl Strategy<Value = SessionRules> {
    (any::<bool>(), any::<bool>()).prop_map(|(cuts_at_midnight, cuts_at_campaign)| rules(cuts_at_midnight, cuts_at_campaign))
}

fn of_visitors(events: &[(u64, Moment)]) -> Vec<(Visitor, Moment)> {
    events.iter().map(|(number, moment)| (visitor(*number), *moment)).collect()
}

/// Of seven items the order of that number, of 5,040.
fn order<T: Copy>(items: &[T; 7], number: usize) -> Vec<T> {
    let (mut left, mut number) = (items.to_vec(), number);
    (1..=items.len()).rev().map(|choices| (left.remove(number % choices), number /= choices).0).collect()
}

/// Two visitors at the edges of gap, longest time, midnight and campaign: each event in a block of its own, or two in one.
#[test]
fn every_order_of_a_few_events_makes_the_sessions_of_the_sorted_ones() {
    let at = |number: u64, at_s: i64, campaign: u32| (visitor(number), moment(at_s * 1_000, campaign));
    let edges = [at(0, 600, 0), at(0, 700, 1), at(0, 799, 2), at(0, 899, 0), at(0, 950, 1), at(0, 1_051, 0), at(2, 700, 1)];
    for (cuts_at_midnight, cuts_at_campaign) in [(false, false), (false, true), (true, false), (true, true)] {
        let rules = rules(cuts_at_midnight, cuts_at_campaign);
        for number in 0..5_040 {
            let mut table = Table::new(rules.clone());
            let mut sessions = sessions(&rules, 4, BASE_MS - 500_000);
            for (received_ms, events) in (BASE_MS..).zip(order(&edges, number).chunks(1 + number % 2)) {
                table.load(&mut sessions, events, received_ms);
            }
            table.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_those_of_the_sorted_events_whatever_the_order(
        rules in any_rules(),
        steps in proptest::collection::vec(step(), 1..14),
        horizon_ms in BASE_MS - 500_000..BASE_MS,
    ) {
        let mut table = Table::new(rules.clone());
        let mut sessions = sessions(&rules, 4, horizon_ms);
        let mut received_ms = BASE_MS;
        for step in &steps {
            match step {
                Step::Block(events) => {
                    received_ms += 40_000;
                    table.load(&mut sessions, &of_visitors(events), received_ms);
                }
                Step::Restart(since_ms) => sessions = table.recalled(*since_ms),
            }
            table.check();
        }
    }

    #[test]
    fn few_visitors_whose_sessions_move_again_and_again_end_with_those_of_the_sorted_events(
        rules in any_rules(),
        blocks in proptest::collection::vec(proptest::collection::vec(event(2, 900), 1..4), 1..40),
    ) {
        let mut table = Table::new(rules.clone());
        let mut sessions = sessions(&rules, 1_000, BASE_MS - 500_000);
        for (number, events) in (0..).zip(&blocks) {
            table.load(&mut sessions, &of_visitors(events), BASE_MS + number);
            table.check();
        }
    }

    #[test]
    fn sessions_far_apart_end_with_those_of_the_sorted_events(
        rules in any_rules(),
        blocks in proptest::collection::vec(proptest::collection::vec((0_u64..2, prop::sample::select(vec![0, 40, 90, 300, 301, 380, 900]), 0_i64..100, 0_u32..3), 1..5), 1..30),
    ) {
        let mut table = Table::new(rules.clone());
        let mut sessions = sessions(&rules, 100, BASE_MS - 500_000);
        for (number, events) in (0..).zip(&blocks) {
            let events: Vec<_> =
                events.iter().map(|(number, minute, second, campaign)| (visitor(*number), moment((minute * 60 + second) * 1_000, *campaign))).collect();
            table.load(&mut sessions, &events, BASE_MS + number);
            table.check();
        }
    }

    #[test]
    fn what_was_cut_by_other_rules_is_cut_anew_and_the_second_time_nothing_is_left_to_say(
        before in any_rules(),
        now in any_rules(),
        gap_ms in prop_oneof![Just(50_000_i64), Just(100_000), Just(200_000)],
        blocks in proptest::collection::vec(proptest::collection::vec(event(5, 1_500), 1..12), 1..12),
    ) {
        let now = SessionRules { idle_gap_ms: gap_ms, longest_ms: 2 * gap_ms, ..now };
        let mut table = Table::new(before.clone());
        let mut sessions = sessions(&before, 4, BASE_MS - 500_000);
        for (number, events) in (0..).zip(&blocks) {
            table.load(&mut sessions, &of_visitors(events), BASE_MS + 40_000 * number);
        }
        table.rules = now;
        table.recut();
        table.check();
        let said = table.revisions.len();
        table.recut();
        prop_assert_eq!(table.revisions.len(), said);
        // What comes late goes on with what was said.
        let mut sessions = sessions_of_nobody(&table.rules);
        for (number, events) in (100..).zip(&blocks) {
            let later: Vec<_> = of_visitors(events).into_iter().map(|(visitor, at)| (visitor, Moment { at_ms: at.at_ms + 20_001, ..at })).collect();
            table.load(&mut sessions, &later, BASE_MS + 40_000 * number);
            table.check();
        }
    }

    #[test]
    fn campaigns_of_one_moment_are_one_whichever_comes_last(
        blocks in proptest::collection::vec(proptest::collection::vec((0_i64..6, 0_u32..4), 1..3), 1..20),
    ) {
        let rules = rules(false, true);
        let mut table = Table::new(rules.clone());
        let mut sessions = sessions(&rules, 1_000, BASE_MS - 500_000);
        for (number, events) in (0..).zip(&blocks) {
            let events: Vec<_> = events.iter().map(|(at, campaign)| (visitor(0), moment(at * 60_000, *campaign))).collect();
            table.load(&mut sessions, &events, BASE_MS + number);
            table.check();
        }
    }

    #[test]
    fn events_in_order_ask_the_table_nothing(rules in any_rules(), gaps in proptest::collection::vec((0_u64..5, 1_i64..300_000, 0_u32..3), 1..60)) {
        let mut table = Table::new(rules.clone());
        let mut sessions = sessions(&rules, 1_000, BASE_MS - 1_000_000);
        let mut now_ms = 0;
        for (number, gap_ms, campaign) in gaps {
            now_ms += 1 + gap_ms / 5;
            table.load(&mut sessions, &[(visitor(number), moment(now_ms, campaign))], BASE_MS + now_ms);
        }
        table.check();
        prop_assert_eq!(table.questions, 0);
        prop_assert!(table.revisions.is_empty());
    }
}

/// Of its latest session, too, events come.
#[test]
fn what_was_done_offline_asks_the_table_nothing_however_long_ago_it_was() {
    let mut table = Table::new(rules(true, true));
    let mut sessions = sessions(&table.rules, 1_000, NOBODY_MS);
    for block in 0..20 {
        let offline = [0, 1, 2, 3].map(|at| moment((4 * block + at) * 20_000 - 30 * 86_400_000, 0));
        let online = moment(block * 20_000, 0);
        let events: Vec<_> = std::iter::once(online).chain(offline).map(|moment| (visitor(0), moment)).collect();
        table.load(&mut sessions, &events, BASE_MS + block);
        table.check();
    }
    assert_eq!(table.questions, 0);
}

/// A phone tells first what it did last, block by block.
#[test]
fn a_session_that_is_told_backwards_asks_the_table_nothing() {
    let mut table = Table::new(rules(true, true));
    let mut sessions = sessions(&table.rules, 1_000, BASE_MS - 1_000_000);
    for at in (0..4).rev() {
        let events = [80_000 * at + 30_000, 80_000 * at].map(|at_ms| (visitor(0), moment(at_ms, u32::from(at == 0))));
        table.load(&mut sessions, &events, BASE_MS + at);
        table.check();
    }
    assert_eq!((table.questions, table.revisions.len()), (0, 3));
}

#[test]
fn a_visitor_takes_at_most_a_hundred_bytes() {
    let mut sessions = sessions(&rules(true, true), 2_000_000, 0);
    for number in 0..1_000_000 {
        sessions.assign(visitor(number), Moment { at_ms: 1_000_000, campaign: Campaign(7) });
    }
    let bytes = sessions.recent.allocation_size() / sessions.recent.len();
    println!("{bytes} bytes a visitor, of {} with an open session", sessions.recent.len());
    assert!(bytes <= 100);
}
