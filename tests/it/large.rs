//! What loading asks of a table that has been there for a while.

use serde_json::{Value, json};

use crate::harness::Pulse;

/// Enough for a scan to stand out from everything that is read anyway.
const ROWS: u64 = 2_000_000;

/// Rows of the last days, up to now, of a log that is gone, each with books beside it as a busy log has them; nobody has the fence of
/// their partition.
fn fill(pulse: &Pulse) {
    let columns =
        "type, timestamp, visitor_id, event_id, received_day, received_at, original_timestamp, log_epoch, log_partition, log_offset";
    let at = format!("fromUnixTimestamp64Milli(toUnixTimestamp64Milli(now64(3)) - toInt64(({ROWS} - number) * 200), 'UTC') AS at");
    let rows = format!("FROM (SELECT number, {at} FROM numbers({ROWS}))");
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, {columns}) SELECT 999, concat('past_', toString(number % 8)), at, \
         cityHash64(number % 100000), generateUUIDv4(), toDate(at), at, at, 1, 65000, number {rows}"
    ));
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, {columns}) SELECT 0, '$books', toStartOfMinute(at), \
         999, toUUID('00000000-0000-0000-0000-000000000000'), toDate(at), toStartOfMinute(at), at, 1, 65000, number {rows}"
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
    fill(&pulse);
    pulse.end().await;
    pulse.restart().await;

    // What is late, and what comes again, is looked up; each request is a block of its own.
    for _ in 0..10 {
        pulse.http.capture(&events(0..50, today - 3)).await;
        let books = pulse.http.settled().await;
        assert_eq!(books["stored"].as_u64(), Some(50), "{books}");
    }
    pulse.http.capture(&events(50..100, today - 3)).await;
    let books = pulse.http.settled().await;
    assert_eq!((books["stored"].as_u64(), books["duplicate"].as_u64()), (Some(100), Some(500)), "{books}");

    let metrics = pulse.http.text("/metrics").await;
    let of_loader = metrics.lines().find_map(|line| line.strip_prefix("pulse_load_rows_read_total ")).unwrap_or_default();
    println!("{of_loader} rows read by the loader, of {} in the table", 2 * ROWS);
    let of_loader: f64 = of_loader.parse().unwrap();
    assert!(of_loader < ROWS as f64 / 10.0, "the loader has read {of_loader} rows of a table of {}", 2 * ROWS);
}
