use super::*;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn range(from: &str, until: &str, zone: &str) -> Range {
    Range::of(ms(from), ms(until), TimeZone::get(zone).unwrap()).unwrap()
}

fn starts(range: &Range, interval: Interval) -> Vec<String> {
    Buckets::of(range, interval).unwrap().starts().iter().map(|start| range.show(*start)).collect()
}

#[test]
fn the_day_on_which_clocks_go_forward_has_23_hours() {
    let range = range("2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z", "Europe/Berlin");

    assert_eq!(starts(&range, Interval::Day), ["2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"]);
    assert_eq!(Buckets::of(&range, Interval::Hour).unwrap().len(), 23 + 24);
}

#[test]
fn an_hour_that_the_clock_repeats_is_two_buckets() {
    let range = range("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", "Europe/Berlin");

    assert_eq!(starts(&range, Interval::Hour), ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]);
}

#[test]
fn a_day_without_a_midnight_begins_when_it_begins() {
    let range = range("2026-03-29T05:00:00Z", "2026-03-29T06:00:00Z", "Asia/Beirut");

    assert_eq!(starts(&range, Interval::Day), ["2026-03-29T01:00:00+03:00"]);
}

#[test]
fn weeks_begin_on_monday_and_months_on_the_first() {
    let range = range("2026-01-01T12:00:00Z", "2026-02-02T00:00:01Z", "UTC");

    let weeks = starts(&range, Interval::Week);
    assert_eq!((weeks.first().unwrap().as_str(), weeks.last().unwrap().as_str()), ("2025-12-29T00:00:00Z", "2026-02-02T00:00:00Z"));
    assert_eq!(starts(&range, Interval::Month), ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]);
}

#[test]
fn the_end_of_the_range_opens_no_bucket() {
    let range = range("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", "UTC");

    assert_eq!(Buckets::of(&range, Interval::Day).unwrap().len(), 2);
}

#[test]
fn the_sql_divides_once_for_every_run_of_equal_buckets() {
    let range = range("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", "Europe/Berlin");

    let index = Buckets::of(&range, Interval::Day).unwrap().index(Statement::default());

    let at = "toUnixTimestamp64Milli(timestamp)";
    let part = |first: usize| format!("{{p{first}:Int64}} + intDiv({at} - {{p{}:Int64}}, {{p{}:Int64}})", first + 1, first + 2);
    let expected = format!("multiIf({at} < {{p0:Int64}}, {}, {at} < {{p4:Int64}}, {}, {})", part(1), part(5), part(8));
    assert_eq!(index.text(), expected);
}

#[test]
fn a_bar_is_the_part_of_the_range_that_its_bucket_covers() {
    let range = range("2026-01-01T12:00:00Z", "2026-01-02T06:00:00Z", "UTC");
    let buckets = Buckets::of(&range, Interval::Day).unwrap();

    let first = buckets.part(&range, ms("2026-01-01T00:00:00Z")).unwrap();
    let last = buckets.part(&range, ms("2026-01-02T00:00:00Z")).unwrap();

    assert_eq!((first.from_ms, first.until_ms), (range.from_ms, ms("2026-01-02T00:00:00Z")));
    assert_eq!((last.from_ms, last.until_ms), (ms("2026-01-02T00:00:00Z"), range.until_ms));
    assert!(buckets.part(&range, ms("2026-01-03T00:00:00Z")).is_none());
}

#[test]
fn relative_days_follow_the_calendar_of_the_zone() {
    let now = ms("2026-03-29T12:00:00+02:00");
    let at = |text: &str, zone: &str| instant(text, now, &TimeZone::get(zone).unwrap()).unwrap();

    assert_eq!(at("now", "UTC"), now);
    assert_eq!(at("-1d", "UTC"), now - 24 * 3_600_000);
    assert_eq!(at("-1d", "Europe/Berlin"), now - 23 * 3_600_000);
    assert_eq!(at("-24h", "Europe/Berlin"), now - 24 * 3_600_000);
    assert_eq!(at("-1M", "UTC"), ms("2026-02-28T10:00:00Z"));
}

#[test]
fn what_is_no_time_is_refused() {
    for text in ["", "-", "-d", "-1", "-1x", "--1d", "-1.5d", "-99999999999d", "2026-01-01", "2026-01-01T00:00:00", "yesterday", "-7é"] {
        let refused = instant(text, 0, &TimeZone::UTC).unwrap_err();
        assert_eq!((refused.status, refused.code), (400, "invalid_range"), "{text}");
    }
}
