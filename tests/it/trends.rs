//! The reports on the real engine, against a model that knows no SQL: trends, the people behind their bars, events, properties.

mod large;
mod model;

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseSettings, migrate};
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, StoreReader};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::model::{BIG, Event, HALF_HOUR_MS, Line, Range};
use crate::harness::clickhouse::Cluster;

/// Sunday, 29 March 2026, when clocks change in Berlin (at 01:00 UTC) and Beirut (at midnight, so the day begins at 01:00).
const CLOCK_CHANGE_MS: i64 = 1_774_742_400_000;
/// When the questions are asked, in the midst of the ranges.
const NOW_MS: i64 = CLOCK_CHANGE_MS;

/// An engine with the schema, and the reports over it.
struct Store {
    store: ClickHouse,
    queries: Queries,
    // Held for their ends: processes and files.
    _runs_on: Box<dyn std::any::Any>,
}

impl Store {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = ClickHouseConfig::default().check().unwrap();
        let executable = PathBuf::from(env!("CARGO_BIN_EXE_pulse"));
        let engine = Engine::start(&EngineConfig::default(), base, folder.path(), executable).await.unwrap();
        let settings = engine.settings().clone();
        Self::on(Box::new((engine, folder)), &settings).await
    }

    /// Two servers, each with a part of everybody's events.
    async fn start_cluster() -> Self {
        let cluster = Cluster::start(2).await;
        let settings = cluster.config().check().unwrap();
        Self::on(Box::new(cluster), &settings).await
    }

    async fn on(runs_on: Box<dyn std::any::Any>, settings: &ClickHouseSettings) -> Self {
        let store = ClickHouse::new(settings);
        migrate::run(&store).await.unwrap();
        // No case fails because the machine is slow.
        let limits = QueryConfig { max_time: Duration::from_secs(600), ..QueryConfig::default() }.check().unwrap();
        let queries = Queries::new(StoreReader::new(&store), limits, LoadedBy::ThisProcess(store.arrivals.clone()));
        Self { store, queries, _runs_on: runs_on }
    }

    async fn insert(&self, project: u64, events: &[Event]) {
        let insert = "INSERT INTO pulse.events SETTINGS async_insert = 0 FORMAT JSONEachRow";
        let shards = &self.store.shards;
        for (number, shard) in shards.iter().enumerate() {
            let own = events.iter().enumerate().filter(|(index, _)| index % shards.len() == number);
            let rows: Vec<String> = own.map(|(index, event)| event.row(project, index).to_string()).collect();
            shard.first().writer.execute(&format!("{insert} {}", rows.join("\n"))).await.unwrap();
        }
    }

    async fn ask(&self, project: u64, report: &str, request: &Value) -> Value {
        let body = serde_json::to_vec(request).unwrap();
        let answer = self.queries.answer(ProjectId(project), report, &body, NOW_MS).await;
        let answer = answer.unwrap_or_else(|problem| panic!("{report} {request}: {problem}"));
        serde_json::from_slice::<Value>(&answer).unwrap()["result"].take()
    }
}

/// Everything one case asks.
#[derive(Clone, Debug)]
struct Case {
    events: Vec<Event>,
    range: Range,
    zone: &'static str,
    interval: &'static str,
    maths: Vec<&'static str>,
    formula: bool,
    breakdown: Option<&'static str>,
    limit: usize,
    filter: usize,
    compare: Value,
}

fn amount() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![Just(None), (-2_i64..6).prop_map(Some), (-2_i64..6).prop_map(Some), Just(Some(BIG)), Just(Some(BIG - 1))]
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
    (prop::sample::select(vec!["view", "buy"]), at, 0_u64..6, 0_u64..4)
        .prop_flat_map(move |head| {
            let tail = (prop::sample::select(plans.clone()), amount(), prop::sample::select(vec!["", "DE", "FR", "IT"]));
            (Just(head), tail)
        })
        .prop_map(|((kind, at_ms, person, session), (plan, amount, country))| Event { kind, at_ms, person, session, plan, amount, country })
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
    prop::sample::select(vec![json!("previous"), json!("previous"), explicit])
}

fn case() -> impl Strategy<Value = Case> {
    let maths = prop::sample::select(model::MATHS.to_vec());
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Beirut", "Australia/Lord_Howe"]);
    let where_and_when = zones.prop_flat_map(|zone| (Just(zone), range(zone)));
    let happened = where_and_when.prop_flat_map(|(zone, range)| (Just(zone), Just(range), prop::collection::vec(event(range), 0..60)));
    let what = (prop::collection::vec(maths, 1..3), any::<bool>(), prop::sample::select(model::INTERVALS.to_vec()), compare());
    let split = (prop::sample::select(model::BREAKDOWNS.to_vec()), 1_usize..4, 0..model::FILTERS);
    (happened, what, split).prop_map(|((zone, range, events), (maths, formula, interval, compare), (breakdown, limit, filter))| Case {
        events,
        range,
        zone,
        interval,
        formula: formula && maths.len() == 2,
        maths,
        breakdown,
        limit,
        filter,
        compare,
    })
}

impl Case {
    fn request(&self) -> Value {
        let show = |at_ms| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let series: Vec<Value> = self
            .maths
            .iter()
            .enumerate()
            .map(|(index, math)| json!({"event": if index == 0 { None } else { Some("buy") }, "math": math, "property": "amount"}))
            .collect();
        let mut request = json!({
            "from": show(self.range.from), "to": show(self.range.until), "timezone": self.zone, "interval": self.interval,
            "series": series, "filters": model::filter_request(self.filter), "limit": self.limit, "compare": self.compare,
        });
        if self.formula {
            request["formula"] = json!("A/B");
        }
        if let Some(breakdown) = self.breakdown {
            request["breakdown"] = json!(breakdown);
        }
        request
    }

    /// The events that one series is about.
    fn series(&self, index: usize) -> Vec<&Event> {
        let of_type = |event: &&Event| index == 0 || event.kind == "buy";
        self.events.iter().filter(of_type).filter(|event| model::passes(self.filter, event)).collect()
    }

    /// Series after series, the lines of the chart of `range`.
    fn expected(&self, range: Range) -> Vec<Line> {
        let edges = model::edges(range, self.interval, self.zone);
        let tops: Vec<Vec<String>> = (0..self.maths.len())
            .map(|index| {
                let leader = if self.formula { 0 } else { index };
                model::top(&self.series(leader), self.range, (self.maths[leader], self.breakdown), self.limit)
            })
            .collect();
        let charts: Vec<Vec<Line>> = (0..self.maths.len())
            .map(|index| model::lines(&self.series(index), (range, &edges), (self.maths[index], self.breakdown), &tops[index]))
            .collect();
        if !self.formula {
            return charts.concat();
        }
        let nothing = [0, 1].map(|index| model::nothing(self.maths[index]));
        model::quotients(&charts[0], &charts[1], (&tops[0], nothing))
    }

    fn compared(&self) -> Range {
        model::compared(self.range, &self.compare, self.zone)
    }
}

fn check_chart(case: &Case, chart: &Value, range: Range) -> Result<(), TestCaseError> {
    let starts: Vec<i64> = chart["buckets"].as_array().unwrap().iter().map(|start| instant(start.as_str().unwrap())).collect();
    let edges = model::edges(range, case.interval, case.zone);
    prop_assert_eq!(&starts, &edges[..edges.len() - 1]);
    let is_partial = |edges: &[i64]| edges[0] < range.from || edges[1] > range.until || edges[1] > NOW_MS;
    prop_assert_eq!(&chart["partial"], &edges.windows(2).map(is_partial).collect::<Value>());
    let lines: Vec<Line> = chart["series"].as_array().unwrap().iter().map(Line::read).collect();
    let expected = case.expected(range);
    prop_assert!(model::agree(&lines, &expected), "answered {lines:#?}\nexpected {expected:#?}");
    Ok(())
}

fn instant(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Checks many cases on one server, and some on a cluster.
fn check(check: impl Fn(&Store, u64, Case) -> Result<(), TestCaseError>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    check_on(&runtime, (runtime.block_on(Store::start()), 64), &check);
    check_on(&runtime, (runtime.block_on(Store::start_cluster()), 16), &check);
}

fn check_on(runtime: &Runtime, (store, cases): (Store, u32), check: impl Fn(&Store, u64, Case) -> Result<(), TestCaseError>) {
    let project = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&case(), |case| {
        // Every case has a project of its own, so no case sees another's events unless tenants are mixed up.
        project.set(project.get() + 1);
        runtime.block_on(store.insert(project.get(), &case.events));
        check(&store, project.get(), case)
    });
    if let Err(problem) = result {
        panic!("{problem}");
    }
}

#[test]
fn trends_agree_with_the_model() {
    check(|store, project, case| {
        let answer = tokio::runtime::Handle::current().block_on(store.ask(project, "trends", &case.request()));
        check_chart(&case, &answer, case.range)?;
        check_chart(&case, &answer["compare"], case.compared())
    });
}

#[test]
fn the_people_behind_a_bar_are_as_many_as_the_bar_says_and_each_is_on_one_page() {
    check(|store, project, mut case| {
        case.maths = vec!["unique_users"];
        case.formula = false;
        let request = case.request();
        let handle = tokio::runtime::Handle::current();
        let chart = handle.block_on(store.ask(project, "trends", &request));
        check_people(store, project, (&request, &chart, false))?;
        check_people(store, project, (&request, &chart["compare"], true))
    });
}

/// Every total, and two bars of every line.
fn check_people(store: &Store, project: u64, (request, chart, is_compared): (&Value, &Value, bool)) -> Result<(), TestCaseError> {
    for line in chart["series"].as_array().unwrap() {
        let values = line["values"].as_array().unwrap();
        let bars = chart["buckets"].as_array().unwrap().iter().zip(values).filter(|(_, value)| **value != json!(0)).take(2);
        for (bucket, value) in std::iter::once((&Value::Null, &line["total"])).chain(bars) {
            let mut of = request.clone();
            of["report"] = json!("trends");
            of["bucket"] = bucket.clone();
            if line["kind"] != Value::Null {
                of["breakdown_value"] = line["breakdown"].clone();
                of["breakdown_kind"] = line["kind"].clone();
            }
            let asked = json!({"of": of, "compare": is_compared});
            let (users, total) = tokio::runtime::Handle::current().block_on(all_users(store, project, &asked));
            let distinct: std::collections::BTreeSet<&String> = users.iter().collect();
            prop_assert_eq!((&json!(users.len()), &total), (value, value), "{}", asked);
            prop_assert_eq!(distinct.len(), users.len());
        }
    }
    Ok(())
}

#[test]
fn properties_are_counted_by_name_kind_and_value() {
    check(|store, project, case| {
        let from = jiff::Timestamp::from_millisecond(case.range.from).unwrap().to_string();
        let until = jiff::Timestamp::from_millisecond(case.range.until).unwrap().to_string();
        let request = json!({"from": from, "to": until, "event": "buy", "filters": model::filter_request(case.filter), "values": 2});
        let answer = tokio::runtime::Handle::current().block_on(store.ask(project, "properties", &request));
        let inside = |event: &&Event| (case.range.from..case.range.until).contains(&event.at_ms);
        let events: Vec<&Event> = case.series(1).into_iter().filter(inside).collect();
        prop_assert_eq!(&answer["properties"], &model::properties(&events, 2));
        Ok(())
    });
}

#[test]
fn events_come_newest_first_and_each_on_one_page() {
    check(|store, project, case| {
        let filters = model::filter_request(case.filter);
        let (mut found, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let request = json!({"filters": filters, "limit": 3, "cursor": cursor});
            let page = tokio::runtime::Handle::current().block_on(store.ask(project, "events", &request));
            let read = |event: &Value| (instant(event["timestamp"].as_str().unwrap()), event["eventId"].as_str().unwrap().to_owned());
            found.extend(page["events"].as_array().unwrap().iter().map(read));
            cursor = page["next"].clone();
            if cursor.is_null() {
                break;
            }
        }
        let inserted = case.events.iter().enumerate().filter(|(_, event)| model::passes(case.filter, event));
        let mut expected: Vec<(i64, String)> = inserted.map(|(index, event)| (event.at_ms, model::id(index))).collect();
        expected.sort_by(|left, right| right.cmp(left));
        prop_assert_eq!(found, expected);
        Ok(())
    });
}

/// Everyone behind a bar, page by page, and the total of the last page.
async fn all_users(store: &Store, project: u64, asked: &Value) -> (Vec<String>, Value) {
    let mut users = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut request = asked.clone();
        request["limit"] = json!(2);
        request["cursor"] = cursor;
        let page = store.ask(project, "users", &request).await;
        users.extend(page["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
        if cursor.is_null() {
            return (users, page["total"].clone());
        }
    }
}
