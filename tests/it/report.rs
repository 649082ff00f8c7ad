//! The reports on the real engine, against models that know no SQL. Every report that is registered must have one.

mod large;
mod sample;
mod store;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::store::Store;
use crate::model::filters::{self, Filter};
use crate::model::lines::{self, Options};
use crate::model::people::{self, Ties};
use crate::model::{self, BIG, Event, HALF_HOUR_MS, MODELS, OfSession, Range, Traits};

/// Sunday, 29 March 2026, when clocks change in Berlin (at 01:00 UTC) and Beirut (at midnight, so the day begins at 01:00).
const CLOCK_CHANGE_MS: i64 = 1_774_742_400_000;
/// When the questions are asked, in the midst of the ranges.
pub(crate) const NOW_MS: i64 = CLOCK_CHANGE_MS;

/// Asks the reports about the events of one project.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    store: &'a Store,
    project: u64,
    /// What each request says of what was there.
    as_of: Option<&'a str>,
}

impl Asker<'_> {
    /// The answer of a report, `meta` included.
    pub(crate) fn answer(&self, report: &str, request: &Value) -> Value {
        let request = self.as_it_was(request);
        tokio::runtime::Handle::current().block_on(self.store.answer(self.project, report, &request))
    }

    /// The result of a report.
    pub(crate) fn ask(&self, report: &str, request: &Value) -> Value {
        self.answer(report, request)["result"].take()
    }

    /// The request, looking back; of a bar's people the chart says so.
    fn as_it_was(&self, request: &Value) -> Value {
        let mut request = request.clone();
        if let Some(as_of) = self.as_of {
            let asked = if request["of"].is_object() { &mut request["of"] } else { &mut request };
            asked["as_of"] = json!(as_of);
        }
        request
    }

    /// The result of a report that is asked for with parameters in the address.
    pub(crate) fn get(&self, report: &str, query: &str) -> Value {
        tokio::runtime::Handle::current().block_on(self.store.get(self.project, report, query))
    }
}

/// Events, and what is asked about them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) events: Vec<Event>,
    pub(crate) ties: Ties,
    pub(crate) range: Range,
    pub(crate) zone: &'static str,
    pub(crate) interval: &'static str,
    pub(crate) maths: Vec<&'static str>,
    pub(crate) formula: bool,
    pub(crate) cumulative: bool,
    pub(crate) moving_average: Option<usize>,
    pub(crate) breakdown: model::Breakdown,
    pub(crate) limit: usize,
    pub(crate) filters: Vec<Filter>,
    pub(crate) include_bots: bool,
    pub(crate) compare: Value,
    pub(crate) options: Options,
    pub(crate) funnel: model::funnel::Asked,
}

fn amount() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![Just(None), (-2_i64..6).prop_map(Some), (-2_i64..6).prop_map(Some), Just(Some(BIG)), Just(Some(BIG - 1))]
}

/// Beside large amounts the small ones are multiples of what a float has as its last place there: a sum is then the same in whatever order
/// a server adds, and which of two sums is the larger is no matter of rounding.
fn with_exact_sums(mut events: Vec<Event>) -> Vec<Event> {
    let is_large = |amount: i64| amount >= BIG - 1;
    if events.iter().filter_map(|event| event.amount).any(is_large) {
        events.iter_mut().filter_map(|event| event.amount.as_mut()).filter(|amount| !is_large(**amount)).for_each(|amount| *amount *= 128);
    }
    events
}

fn event(range: Range) -> impl Strategy<Value = Event> {
    let plans = vec![
        None,
        Some(json!("pro")),
        Some(json!("it's \\ \"x\"\n\tü{p0:String}")),
        Some(json!("")),
        Some(json!(true)),
        Some(json!([1, "a"])),
        Some(model::plan_with_an_object()),
        Some(json!(7)),
        Some(json!(0.3)),
        Some(json!(0)),
        Some(json!(-0.0)),
        Some(json!(BIG)),
        Some(json!(null)),
        Some(json!("$none")),
        Some(json!("$other")),
    ];
    let edges = prop::sample::select(vec![range.from, range.until, 2 * range.from - range.until]);
    let year_before = (0..range.until - range.from).prop_map(move |after| range.from - 365 * 86_400_000 + after);
    let edges = prop_oneof![3 => edges, 1 => year_before];
    let near = prop_oneof![(-480_i64..480).prop_map(|half_hours| CLOCK_CHANGE_MS + half_hours * HALF_HOUR_MS), edges];
    // Times on and beside the edges of buckets and ranges.
    let at = (near, -1_i64..=1).prop_map(|(edge, beside)| edge + beside);
    (prop::sample::select(vec!["view", "buy", "page_view", "identify"]), at, people::ids(), 0_u64..4)
        .prop_flat_map(move |head| {
            let bots = prop::sample::select(vec!["", "", "", "", "agent_crawler", "monitor"]);
            let tail = (prop::sample::select(plans.clone()), amount(), prop::sample::select(vec!["", "DE", "FR", "IT"]), bots);
            (Just(head), tail)
        })
        .prop_map(|((kind, at_ms, (device, user), session), (plan, amount, country, bot))| Event {
            kind,
            at_ms,
            device,
            user,
            person: 0,
            called: String::new(),
            traits: Traits::default(),
            session,
            plan,
            amount,
            country,
            bot,
            of_session: OfSession::default(),
        })
}

/// Any range, or one of whole days or months in `zone`.
fn range(zone: &'static str) -> impl Strategy<Value = Range> {
    let any = (-240_i64..240, 1_i64..400).prop_map(|(from, length)| {
        let from = CLOCK_CHANGE_MS + from * HALF_HOUR_MS;
        Range { from, until: from + length * HALF_HOUR_MS }
    });
    let of_dates = move |from: jiff::civil::Date, span: jiff::Span| {
        let ms =
            |date: jiff::civil::Date| date.to_zoned_datetime(jiff::tz::TimeZone::get(zone).unwrap()).unwrap().timestamp().as_millisecond();
        Range { from: ms(from), until: ms(from.checked_add(span).unwrap()) }
    };
    let days = (20_i8..32, 1_i64..15).prop_map(move |(day, days)| of_dates(jiff::civil::date(2026, 3, day), jiff::Span::new().days(days)));
    let months =
        (2_i8..4, 1_i64..3).prop_map(move |(month, months)| of_dates(jiff::civil::date(2026, month, 1), jiff::Span::new().months(months)));
    prop_oneof![3 => any, 2 => days, 1 => months]
}

fn compare() -> impl Strategy<Value = Value> {
    let explicit = json!({"from": "2026-03-21T00:30:00Z", "to": "2026-03-30T10:00:00Z"});
    prop::sample::select(vec![json!("previous"), json!("previous"), json!("weekdays"), json!("year"), explicit])
}

/// The same events within two hours about the beginning of the range, where each visitor has one session: else most have a single event.
fn of_few_sessions(events: Vec<Event>, range: Range) -> Vec<Event> {
    let near = |event: Event| Event { at_ms: range.from - 600_000 + event.at_ms.rem_euclid(7_200_000), session: 0, ..event };
    events.into_iter().map(near).collect()
}

fn case() -> impl Strategy<Value = Case> {
    let maths = prop::sample::select(model::MATHS.to_vec());
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Beirut", "Australia/Lord_Howe"]);
    let where_and_when = zones.prop_flat_map(|zone| (Just(zone), range(zone)));
    let happened = where_and_when
        .prop_flat_map(|(zone, range)| (Just(zone), Just(range), prop::collection::vec(event(range), 0..60), filters::filters(range)));
    let what = (prop::collection::vec(maths, 1..3), any::<bool>(), prop::sample::select(model::INTERVALS.to_vec()), compare());
    let happened = (happened, people::ties());
    let shape = (prop::bool::weighted(0.3), prop::option::weighted(0.2, 1_usize..5), prop::bool::weighted(0.3));
    let split = (prop::sample::select(model::BREAKDOWNS.to_vec()), 1_usize..4, prop::bool::weighted(0.3));
    let how = (shape, lines::options(), model::funnel::asked());
    (happened, what, split, how).prop_map(
        |(
            ((zone, range, events, filters), ties),
            (maths, formula, interval, compare),
            (breakdown, limit, include_bots),
            (shape, options, funnel),
        )| Case {
            events: {
                let events = if shape.2 { of_few_sessions(events, range) } else { events };
                model::with_sessions(people::resolved(with_exact_sums(events), &ties), include_bots)
            },
            ties,
            range,
            zone,
            // Of more than some hours they would be the most that is asked.
            interval: if interval == "minute" && range.until - range.from > 43_200_000 { "hour" } else { interval },
            formula: formula && maths.len() == 2,
            cumulative: shape.0 && !maths.iter().any(|math| ["dau", "wau", "mau"].contains(math)),
            moving_average: shape.1,
            maths,
            breakdown,
            limit,
            filters,
            include_bots,
            compare,
            options,
            funnel,
        },
    )
}

impl Case {
    /// The filters as they are asked for.
    pub(crate) fn filters_request(&self) -> Value {
        filters::request(&self.filters)
    }

    /// Whether an event is one of those that are looked at.
    pub(crate) fn is_seen(&self, event: &Event) -> bool {
        event.bot.is_empty() || self.include_bots
    }

    /// Whether an event is looked at and passes the filters.
    pub(crate) fn passes(&self, event: &Event) -> bool {
        self.is_seen(event) && filters::pass(&self.filters, event, self)
    }

    /// How many events that are not looked at would pass the filters and are `inside`.
    pub(crate) fn excluded(&self, inside: impl Fn(&Event) -> bool) -> usize {
        let is_left_out = |event: &&Event| !self.is_seen(event) && filters::pass(&self.filters, event, self) && inside(event);
        self.events.iter().filter(is_left_out).count()
    }

    /// The chart that is asked for.
    pub(crate) fn request(&self) -> Value {
        let show = |at_ms| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let series: Vec<Value> = self
            .maths
            .iter()
            .enumerate()
            .map(|(index, math)| json!({"event": if index == 0 { None } else { Some("buy") }, "math": math, "property": "amount"}))
            .collect();
        let mut request = json!({
            "from": show(self.range.from), "to": show(self.range.until), "timezone": self.zone, "interval": self.interval,
            "series": series, "filters": self.filters_request(), "limit": self.limit, "compare": self.compare,
            "include_bots": self.include_bots,
        });
        if self.formula {
            request["formula"] = json!("A/B");
        }
        request["breakdown"] = self.breakdown.request();
        request
    }

    /// The same with what trends make of the numbers.
    pub(crate) fn shaped_request(&self) -> Value {
        let mut request = self.request();
        request["cumulative"] = json!(self.cumulative);
        request["moving_average"] = json!(self.moving_average);
        request
    }
}

/// A time of an answer, milliseconds since 1970.
pub(crate) fn instant(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[test]
fn every_report_has_a_model() {
    let modelled: Vec<&str> = MODELS.iter().map(|(report, _)| *report).collect();
    let missing: Vec<&str> = pulse::query::reports().filter(|report| !modelled.contains(report)).collect();
    assert!(missing.is_empty(), "add `tests/it/model/NAME.rs` and its line in `MODELS` for {missing:?}");
}

/// Many cases on one server, and some on a cluster.
fn agree_with_their_models([on_one, on_cluster]: [u32; 2], models: impl Fn(&str) -> bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    check_on(&runtime, &runtime.block_on(Store::start()), on_one, &models);
    check_on(&runtime, &runtime.block_on(Store::start_cluster()), on_cluster, &models);
}

/// Reports of what single persons did, one event after the other.
const OF_PEOPLE: [&str; 4] = ["lifecycle", "stickiness", "retention", "paths"];

#[test]
fn every_report_agrees_with_its_model() {
    agree_with_their_models([24, 8], |report| !OF_PEOPLE.contains(&report) && report != "funnel");
}

#[test]
fn the_reports_of_people_agree_with_their_models() {
    agree_with_their_models([16, 6], |report| OF_PEOPLE.contains(&report) && report != "paths");
}

#[test]
fn paths_agree_with_their_model() {
    agree_with_their_models([16, 6], |report| report == "paths");
}

#[test]
fn the_funnel_agrees_with_its_model() {
    agree_with_their_models([24, 8], |report| report == "funnel");
}

/// Reports that hold sets of what counts once: for their numbers, or to find the largest values of a breakdown.
const OF_SETS: [&str; 3] = ["trends", "lifecycle", "stickiness"];

/// Where a set of persons, sessions or values is more than a question may hold, they are grouped.
#[test]
fn what_is_grouped_for_want_of_memory_agrees_with_the_models() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let store = runtime.block_on(Store::without_sets());
    // Groups have room for 64 buckets.
    let longer = |interval| if ["minute", "hour"].contains(&interval) { "day" } else { interval };
    let cases = case().prop_map(move |case| Case { interval: longer(case.interval), ..case });
    holds(&runtime, &store, 24, &cases, |asker, case| {
        let mut models = MODELS.iter().filter(|(report, _)| OF_SETS.contains(report));
        models.try_for_each(|(report, check)| check(asker, case).map_err(|problem| TestCaseError::fail(format!("{report}: {problem}"))))
    });
}

/// What holds between reports whatever their models say.
#[test]
fn the_reports_agree_with_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let store = runtime.block_on(Store::start());
    let cases = case().prop_map(model::reconciliation::with_own_sessions);
    holds(&runtime, &store, 12, &cases, model::reconciliation::check);
}

/// Reports that are asked for by an address alone, which say what is there now.
const OF_NOW: [&str; 4] = ["export", "ledger", "dead-letters", "catalogue-events"];

/// What arrives between a chart and the click on one of its bars changes neither the chart as it was nor the people behind it.
#[test]
fn what_was_there_is_what_every_report_sees_whatever_arrives() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let store = runtime.block_on(Store::start());
    let project = std::cell::Cell::new(1_000_000);
    let later = (-120_i64..240).prop_map(|half_hours| CLOCK_CHANGE_MS + half_hours * HALF_HOUR_MS);
    let later = later.prop_flat_map(|from| prop::collection::vec(event(Range { from, until: from + 86_400_000 }), 1..40));
    let result = runner(5).run(&(case(), later), |(case, later)| {
        project.set(project.get() + 1);
        let as_of = runtime.block_on(store.insert_in_turn(project.get(), &case, &later));
        let asker = Asker { store: &store, project: project.get(), as_of: Some(&as_of) };
        MODELS
            .iter()
            .filter(|(report, _)| !OF_NOW.contains(report))
            .try_for_each(|(report, check)| check(asker, &case).map_err(|problem| TestCaseError::fail(format!("{report}: {problem}"))))
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{case:#?}\n{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn check_on(runtime: &Runtime, store: &Store, cases: u32, models: &dyn Fn(&str) -> bool) {
    holds(runtime, store, cases, &case(), |asker, case| {
        MODELS.iter().filter(|(report, _)| models(report)).try_for_each(|(report, check)| {
            check(asker, case).map_err(|problem| match problem {
                TestCaseError::Fail(reason) => TestCaseError::fail(format!("{report}: {reason}")),
                rejected => rejected,
            })
        })
    });
}

/// For so many cases times `PULSE_TEST_CASES`.
#[allow(clippy::disallowed_methods, reason = "the configuration of the tests")]
fn runner(cases: u32) -> TestRunner {
    let cases = cases * std::env::var("PULSE_TEST_CASES").map_or(1, |times| times.parse().unwrap());
    // A case that fails asks hundreds of questions again for each that is smaller: without an end the run has none either.
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_time: 120_000, ..Config::default() })
}

/// Whether whoever runs the tests has asked for many cases, and has the time to look at all of each.
#[allow(clippy::disallowed_methods, reason = "the configuration of the tests")]
pub(crate) fn is_of_many_cases() -> bool {
    std::env::var("PULSE_TEST_CASES").is_ok()
}

/// Checks random cases: as many as are named, times `PULSE_TEST_CASES`, which follow from `PROPTEST_RNG_SEED` where it is set.
fn holds(
    runtime: &Runtime,
    store: &Store,
    cases: u32,
    strategy: &impl Strategy<Value = Case>,
    check: impl Fn(Asker<'_>, &Case) -> Result<(), TestCaseError>,
) {
    let project = std::cell::Cell::new(0);
    let result = runner(cases).run(strategy, |case| {
        // Every case has a project of its own, so no case sees another's events unless tenants are mixed up.
        project.set(project.get() + 1);
        runtime.block_on(store.insert(project.get(), &case.events, &case.ties));
        check(Asker { store, project: project.get(), as_of: None }, &case)
    });
    match result {
        Ok(()) => {}
        // The reason last: a case is hundreds of lines, and of a long log the end is what is seen.
        Err(TestError::Fail(reason, case)) => panic!("{case:#?}\n{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
