//! What loading, and whoever looks at the newest events, asks of a table that has been there for a while.

use serde_json::{Value, json};

use crate::harness::Pulse;

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
    let at = format!("fromUnixTimestamp64Milli(toUnixTimestamp64Milli(now64(3)) - toInt64(({ROWS} - number) * 200), 'UTC') AS at");
    let rows = format!("FROM (SELECT number, {at} FROM numbers({ROWS}))");
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, {columns}) SELECT {project}, concat('past_', toString(number % {TYPES})), at, \
         cityHash64(number % 100000), generateUUIDv4(), toDate(at), at, at, 1, 65000, number {rows}"
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_are_shown_without_reading_the_others() {
    let pulse = Pulse::start().await;
    pulse.http.capture(&json!({"eventId": "order-1001", "type": "order", "anonymousId": "ada"})).await;
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
    for (id, stored) in [("order-1001", 1), ("order-1002", 0)] {
        let (_, trace) = pulse.http.get(&format!("/v1/trace/{id}")).await;
        assert_eq!(trace["stored"].as_array().unwrap().len(), stored, "{trace}");
        let read = trace["rows_read"].as_u64().unwrap();
        println!("{read} rows read to trace {id}, of {} in the table", 2 * ROWS);
        assert!(read < ROWS / 20, "to trace {id} {read} rows were read of a table of {}", 2 * ROWS);
    }
    // Of what is rare all is read, once and little more.
    let (_, answer) = pulse.http.query("events", &json!({"event": "order"})).await;
    assert_eq!(answer["result"]["events"].as_array().unwrap().len(), 1);
}
