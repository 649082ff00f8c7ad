//! What loading, and whoever looks at the newest events, asks of a table that has been there for a while.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{PATIENCE, POLL, Pulse};

/// A statement that nobody waits for ends within this time: ten times what it may take where nothing else runs.
const ENDED: Duration = Duration::from_secs(20);

/// Enough for a scan to stand out from everything that is read anyway.
const ROWS: u64 = 2_000_000;
/// Of how many types they are.
const TYPES: u64 = 8;
/// How many rows the server reads at least where it reads any.
const GRANULE: u64 = 8192;

/// Rows of the last days, up to now, of a log that is gone, each with books beside it as a busy log has them; nobody has the fence of
/// their partition.
fn fill(pulse: &Pulse, project: &str) {
    let columns =
        "type, timestamp, visitor_id, event_id, received_day, received_at, original_timestamp, log_epoch, log_partition, log_offset";
    let more = "person_id, page_url, country, strings, numbers";
    let at = format!("fromUnixTimestamp64Milli(toUnixTimestamp64Milli(now64(3)) - toInt64(({ROWS} - number) * 200), 'UTC') AS at");
    let rows = format!("FROM (SELECT number, {at} FROM numbers({ROWS}))");
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, {columns}, {more}) SELECT {project}, concat('past_', toString(number % {TYPES})), at, \
         cityHash64(number % 100000), generateUUIDv4(), toDate(at), at, at, 1, 65000, number, \
         cityHash64(number % 100000), repeat('x', 60), ['DE', 'FR', ''][1 + number % 3], map('plan', toString(number % 5)), \
         map('price', number % 50) {rows}"
    ));
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, {columns}) SELECT 0, '$books', toStartOfMinute(at), \
         {project}, toUUID('00000000-0000-0000-0000-000000000000'), toDate(at), toStartOfMinute(at), at, 1, 65000, number {rows}"
    ));
}

fn events(numbers: std::ops::Range<i64>, day: i64) -> Value {
    let at_ms = |number: i64| 1_000 * (day * 86_400 + number);
    let event = |number: i64| json!({"eventId": format!("5bd16e10-7d9c-4d0e-9f3a-{number:012}"), "type": "order", "anonymousId": "ada", "timestamp": at_ms(number)});
    json!(numbers.map(event).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loading_reads_as_little_of_a_large_table_as_of_a_small_one() {
    // Behind a start, the loader must know how far the table is and what was received last.
    let mut pulse = Pulse::start().await;
    let today: i64 = pulse.sql("SELECT toUInt16(today())").parse().unwrap();
    pulse.http.capture(&events(0..50, today - 3)).await;
    pulse.http.settled().await;
    fill(&pulse, "999");
    pulse.end().await;
    pulse.restart().await;

    // What is late, and what comes again, is looked up; each request is a block of its own.
    let mut at_start = 0;
    for block in 0..10 {
        pulse.http.capture(&events(0..50, today - 3)).await;
        let books = pulse.http.settled().await;
        assert_eq!(books["stored"].as_u64(), Some(50), "{books}");
        if block == 0 {
            at_start = read_by_loader(&pulse).await;
        }
    }
    pulse.http.capture(&events(50..100, today - 3)).await;
    let books = pulse.http.settled().await;
    assert_eq!((books["stored"].as_u64(), books["duplicate"].as_u64()), (Some(100), Some(500)), "{books}");

    let later = read_by_loader(&pulse).await - at_start;
    println!("{at_start} rows read by the loader until the first block was in, {later} afterwards, of {} in the table", 2 * ROWS);
    // Twice what was received last, of each type and of the books: one granule or two, as the hour has it, and one more behind midnight.
    assert!(at_start < 2 * 3 * (TYPES + 1) * GRANULE, "the loader has read {at_start} rows at its start");
    assert!(later < 10 * GRANULE, "the loader has read {later} rows for ten blocks");
}

async fn read_by_loader(pulse: &Pulse) -> u64 {
    let metrics = pulse.http.text("/metrics").await;
    metrics.lines().find_map(|line| line.strip_prefix("pulse_load_rows_read_total ")).unwrap().parse().unwrap()
}

/// What a question may read: so many times the rows of the range, or of all times, of so many of the types.
struct Reads {
    passes: u64,
    of: Span,
    types: u64,
}

#[derive(Clone, Copy)]
enum Span {
    /// The last day, 86,400 seconds of five events.
    Day,
    Ever,
}

impl Reads {
    fn most(&self) -> u64 {
        let rows = match self.of {
            Span::Day => 432_000,
            Span::Ever => ROWS,
        };
        // At both ends of each type a granule, in the parts of the days that the range touches.
        let ends = self.types * 2 * 6 * GRANULE;
        self.passes * (rows * self.types / TYPES + ends)
    }
}

/// Each question, and what it may read. What bots did is counted beside it, in a pass of its own.
fn questions() -> Vec<(&'static str, Value, Reads)> {
    use Span::{Day, Ever};
    let reads = |passes: u64, of: Span, types: u64| Reads { passes, of, types };
    let with = |more: Value| {
        let mut request = json!({"from": "-1d", "refresh": true});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let one = "past_1";
    let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string();
    let series = |math: &str| with(json!({"series": [{"event": one, "math": math, "property": "price"}]}));
    let steps = json!([{"event": "past_1"}, {"event": "past_2"}]);
    let of = |more: Value| {
        let mut of = json!({"from": "-1d"});
        of.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"of": of, "refresh": true})
    };
    vec![
        ("trends", series("total"), reads(2, Day, 1)),
        ("trends", series("unique_users"), reads(2, Day, 1)),
        ("trends", series("p90"), reads(2, Day, 1)),
        ("trends", with(json!({"series": [{}]})), reads(2, Day, TYPES)),
        ("trends", with(json!({"series": [{"event": one}], "breakdown": "country"})), reads(3, Day, 1)),
        (
            "trends",
            with(
                json!({"series": [{"event": one}], "breakdown": "properties.plan", "filters": [{"field": "properties.price", "op": "gt", "value": 10}]}),
            ),
            reads(3, Day, 1),
        ),
        ("trends", series("first_time_users"), reads(2, Ever, 1)),
        ("funnel", with(json!({"steps": steps, "window": "1h"})), reads(3, Day, 2)),
        (
            "retention",
            with(json!({"period": "day", "periods": 2, "cohort_event": {"event": one}, "return_event": {"event": one}})),
            reads(4, Ever, 1),
        ),
        ("lifecycle", with(json!({"event": one, "interval": "day"})), reads(2, Ever, 1)),
        ("stickiness", with(json!({"event": one})), reads(2, Day, 1)),
        ("paths", with(json!({"steps": 3})), reads(3, Ever, TYPES)),
        ("sessions", with(json!({"series": [{"math": "sessions"}]})), reads(3, Ever, TYPES)),
        ("users", of(json!({"report": "trends", "series": [{"event": one}]})), reads(3, Day, 1)),
        ("users", of(json!({"report": "funnel", "steps": steps, "window": "1h", "step": 2})), reads(4, Day, 2)),
        ("users", of(json!({"report": "lifecycle", "event": one, "interval": "day", "status": "new", "bucket": today})), reads(4, Ever, 1)),
        // Each of three maps for itself.
        ("properties", with(json!({"event": one})), reads(7, Day, 1)),
        ("properties", with(json!({"event": one, "sample": true})), reads(8, Day, 1)),
        ("catalogue-events", with(json!({})), reads(1, Day, TYPES)),
        ("catalogue-values", with(json!({"field": "country"})), reads(1, Day, TYPES)),
        ("events", with(json!({"limit": 100})), reads(1, Day, TYPES)),
        ("events", with(json!({"event": one, "limit": 100})), reads(1, Day, 1)),
    ]
}

async fn every_question_reads_what_it_needs(pulse: &Pulse) {
    for (report, request, reads) in questions() {
        let (status, answer) = pulse.http.query(report, &request).await;
        assert_eq!(status, StatusCode::OK, "{report} {request}: {answer}");
        let read = answer["meta"]["rows_read"].as_u64().unwrap();
        println!("{report} {request}: {read} rows read, at most {}", reads.most());
        assert!(read <= reads.most(), "{report} {request} has read {read} rows, at most {} are needed", reads.most());
    }
}

async fn one_person_is_found_without_reading_the_others(pulse: &Pulse) {
    let mut read = Vec::new();
    for path in ["/v1/people/ada", "/v1/people/ada/events?limit=3", "/v1/people/ada/events?event=order", "/v1/people/nobody/events"] {
        let before = pulse.http.counter("pulse_statement_rows_read_total").await;
        let (status, answer) = pulse.http.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        read.push((path, pulse.http.counter("pulse_statement_rows_read_total").await - before));
        match path.split('/').nth(3) {
            Some("ada") if answer.get("ids").is_some() => {
                assert_eq!((&answer["events"], &answer["traits"]), (&json!(6), &json!({"plan": "pro"})), "{answer}")
            }
            Some("ada") => assert_eq!(answer["events"].as_array().unwrap().len(), if path.ends_with('3') { 3 } else { 5 }, "{answer}"),
            _ => assert_eq!(answer["events"], json!([])),
        }
    }
    println!("{read:?} rows read for one person, of {} in the table", 2 * ROWS);
    assert!(read.iter().all(|(_, read)| *read < ROWS / 4), "{read:?}");
}

/// Statements of questions that run now.
fn running(pulse: &Pulse) -> u64 {
    let (user, password) = pulse.engine_login("pulse_writer");
    let ask = "SELECT count() FROM system.processes WHERE user = 'pulse_reader' AND query LIKE '%xyz%'";
    pulse.ask_engine("/", &["--fail-with-body", "-H", &user, "-H", &password, "-d", ask]).unwrap().parse().unwrap()
}

async fn until_running(pulse: &Pulse, statements: u64, within: Duration) {
    let counted = async {
        while running(pulse) != statements {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(within, counted).await.unwrap_or_else(|_| panic!("{statements} statements: not within {within:?}"));
}

/// Waits until no statement runs, from when the last has left who waited for it.
async fn until_ended(pulse: &Pulse) {
    let left = Instant::now();
    until_running(pulse, 0, ENDED).await;
    println!("a statement that nobody waits for any more has ended after {:?}", left.elapsed());
}

/// A question that takes the engine a while: of each event it is asked a hundred times whether a long text matches.
fn slow(number: usize) -> Value {
    let regex = |test: usize| json!({"field": "page_url", "op": "regex", "value": format!("x(xx?x?){{5,9}}xyz{number}{test}$")});
    json!({"filters": [{"any": (0..90).map(regex).collect::<Vec<_>>()}], "series": [{}], "from": "-10d"})
}

async fn a_statement_ends_with_the_last_who_wait_for_it(pulse: &Pulse) {
    let http = &pulse.http;
    let mut asked = JoinSet::new();
    let mut ask = |path: &str, body: Value| {
        let (http, request) = (http.clone(), http.request(Method::POST, path, &http.read_key, body.to_string()));
        asked.spawn(async move { http.send(request).await })
    };
    let (one, other) = (ask("/v1/query/trends", slow(1)), ask("/v1/query/trends", slow(1)));
    until_running(pulse, 1, PATIENCE).await;
    one.abort();
    while !one.is_finished() {
        tokio::time::sleep(POLL).await;
    }
    // Who stays gets the answer that both have waited for; one execution of it goes on.
    assert!(!other.is_finished());
    assert_eq!(running(pulse), 1);
    other.abort();
    until_ended(pulse).await;
    for (path, body) in [
        ("/v1/query", json!({"queries": [{"report": "trends", "from": "-10d", "series": [{}], "filters": slow(2)["filters"]}]})),
        ("/v1/query/funnel", json!({"from": "-10d", "steps": [{"event": "past_1"}, {"event": "past_2"}], "filters": slow(3)["filters"]})),
    ] {
        let left = ask(path, body);
        until_running(pulse, 1, PATIENCE).await;
        left.abort();
        until_ended(pulse).await;
    }
}

/// Several at once, so that each of them takes seconds.
async fn who_waits_for_a_question_is_told_how_many_rows_it_has_read(pulse: &Pulse) {
    let question =
        |number: usize| json!({"id": number, "report": "trends", "from": "-10d", "series": [{}], "filters": slow(number)["filters"]});
    let asked = json!({"queries": (4..8).map(question).collect::<Vec<_>>()}).to_string();
    let mut request = pulse.http.request(Method::POST, "/v1/query", &pulse.http.read_key, asked);
    request.headers_mut().insert("prefer", HeaderValue::from_static("progress"));
    let mut body = pulse.http.client.request(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let first = first.split(|byte| *byte == b'\n').next().unwrap();
    let line: Value = serde_json::from_slice(first).unwrap();
    let read = line["progress"]["rows_read"].as_u64().unwrap_or_else(|| panic!("{line}"));
    assert!((1..=3 * ROWS).contains(&read), "{line}");
    assert_eq!(line["id"].as_u64().unwrap(), line["index"].as_u64().unwrap() + 4, "{line}");
    drop(body);
    until_ended(pulse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_read_what_they_need_of_a_large_table_and_no_more() {
    let pulse = Pulse::start().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let order = |number: i64| json!({"eventId": format!("order-{}", 1001 + number), "type": "order", "anonymousId": "ada", "timestamp": now_ms - number * 40_000_000});
    let mut of_ada: Vec<Value> = (0..5).map(order).collect();
    of_ada.push(
        json!({"eventId": "identify-1", "type": "identify", "anonymousId": "ada", "userId": "ada@shop.example", "traits": {"plan": "pro"}}),
    );
    pulse.http.capture(&json!(of_ada)).await;
    pulse.http.settled().await;
    fill(&pulse, &pulse.sql("SELECT any(project_id) FROM pulse.events WHERE project_id != 0"));
    let mut cursor = Value::Null;
    for page in 0..3 {
        let (_, answer) = pulse.http.query("events", &json!({"limit": 100, "cursor": cursor})).await;
        let read = answer["meta"]["rows_read"].as_u64().unwrap();
        assert!(read < ROWS / 4, "page {page} has read {read} rows of a table of {}", 2 * ROWS);
        assert_eq!(answer["result"]["events"].as_array().unwrap().len(), 100);
        cursor = answer["result"]["next"].clone();
    }
    // One event is found by its id, and that there is none is known as soon.
    for (id, stored) in [("order-1001", 1), ("order-1009", 0)] {
        let (_, trace) = pulse.http.get(&format!("/v1/trace/{id}")).await;
        assert_eq!(trace["stored"].as_array().unwrap().len(), stored, "{trace}");
        let read = trace["rows_read"].as_u64().unwrap();
        println!("{read} rows read to trace {id}, of {} in the table", 2 * ROWS);
        assert!(read < ROWS / 20, "to trace {id} {read} rows were read of a table of {}", 2 * ROWS);
    }
    // Of what is rare all is read, once and little more.
    let (_, answer) = pulse.http.query("events", &json!({"event": "order"})).await;
    assert_eq!(answer["result"]["events"].as_array().unwrap().len(), 5);
    one_person_is_found_without_reading_the_others(&pulse).await;
    every_question_reads_what_it_needs(&pulse).await;
    a_statement_ends_with_the_last_who_wait_for_it(&pulse).await;
    who_waits_for_a_question_is_told_how_many_rows_it_has_read(&pulse).await;
}
