use super::*;
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::error::ErrorClass;
use crate::query::sql::Statement;

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

    let start = Statement::from(Buckets::of(&range, Interval::Day).unwrap().start());

    let at = "toUnixTimestamp64Milli(timestamp)";
    let part = |start: usize, width: usize| {
        format!("{{p{start}:Int64}} + intDiv({at} - {{p{start}:Int64}}, {{p{width}:Int64}}) * {{p{width}:Int64}}")
    };
    let expected = format!("multiIf({at} < {{p0:Int64}}, {}, {at} < {{p3:Int64}}, {}, {})", part(1, 2), part(0, 4), part(3, 2));
    assert_eq!(start.text(), expected);
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
    for text in [
        "",
        "-",
        "-d",
        "-1",
        "-1x",
        "--1d",
        "-1.5d",
        "-99999999999d",
        "2026-1-1",
        "2026-02-30",
        "2026-01-01T00:00:00",
        "yesterday",
        "-7é",
        "now/",
        "now/x",
        "now/dd",
        "-7d/D",
        "/d",
        "2026-01-01/d",
    ] {
        let refused = instant(text, 0, &TimeZone::UTC).unwrap_err();
        assert_eq!((refused.class, refused.code), (ErrorClass::Invalid, "invalid_range"), "{text}");
    }
}

#[test]
fn a_date_is_its_beginning_in_the_zone_of_the_request() {
    let at = |text: &str, zone: &str| instant(text, 0, &TimeZone::get(zone).unwrap()).unwrap();

    assert_eq!(at("2026-03-29", "UTC"), ms("2026-03-29T00:00:00Z"));
    assert_eq!(at("2026-03-29", "Europe/Berlin"), ms("2026-03-29T00:00:00+01:00"));
    assert_eq!(at("2026-03-29", "Asia/Beirut"), ms("2026-03-29T01:00:00+03:00"), "it has no midnight");
}

#[test]
fn what_is_relative_is_rounded_down_in_the_zone_of_the_request() {
    // Sunday, half past midnight in Berlin, still Saturday in UTC.
    let now = ms("2026-11-01T00:30:45.678+01:00");
    let at = |text: &str, zone: &str| {
        let zone = TimeZone::get(zone).unwrap();
        let read = instant::read(text, now, &zone).unwrap();
        assert!(!read.follows_now, "{text}");
        read.at_ms
    };
    for (text, berlin, utc) in [
        ("now/s", "2026-11-01T00:30:45+01:00", "2026-10-31T23:30:45Z"),
        ("now/m", "2026-11-01T00:30:00+01:00", "2026-10-31T23:30:00Z"),
        ("now/h", "2026-11-01T00:00:00+01:00", "2026-10-31T23:00:00Z"),
        ("now/d", "2026-11-01T00:00:00+01:00", "2026-10-31T00:00:00Z"),
        ("-7d/d", "2026-10-25T00:00:00+02:00", "2026-10-24T00:00:00Z"),
        ("now/w", "2026-10-26T00:00:00+01:00", "2026-10-26T00:00:00Z"),
        ("now/M", "2026-11-01T00:00:00+01:00", "2026-10-01T00:00:00Z"),
        ("-1M/M", "2026-10-01T00:00:00+02:00", "2026-09-01T00:00:00Z"),
        ("-1y/y", "2025-01-01T00:00:00+01:00", "2025-01-01T00:00:00Z"),
    ] {
        assert_eq!((at(text, "Europe/Berlin"), at(text, "UTC")), (ms(berlin), ms(utc)), "{text}");
    }
}

#[test]
fn hours_are_full_ones_on_both_sides_of_a_clock_that_is_moved_by_less() {
    let hours = |from: &str, until: &str, zone: &str| starts(&range(from, until, zone), Interval::Hour);

    assert_eq!(
        hours("2026-04-05T00:10:00+11:00", "2026-04-05T03:30:00+10:30", "Australia/Lord_Howe"),
        ["2026-04-05T00:00:00+11:00", "2026-04-05T01:00:00+11:00", "2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"]
    );
    assert_eq!(
        hours("2026-10-04T01:00:00+10:30", "2026-10-04T04:00:00+11:00", "Australia/Lord_Howe"),
        ["2026-10-04T01:00:00+10:30", "2026-10-04T03:00:00+11:00"]
    );
    assert_eq!(
        hours("2026-10-04T02:45:00+11:00", "2026-10-04T03:10:00+11:00", "Australia/Lord_Howe"),
        ["2026-10-04T01:00:00+10:30", "2026-10-04T03:00:00+11:00"],
        "a range that begins within the longer hour"
    );
    assert_eq!(
        hours("2016-05-01T02:00:00-04:30", "2016-05-01T05:00:00-04:00", "America/Caracas"),
        ["2016-05-01T02:00:00-04:30", "2016-05-01T03:00:00-04:00", "2016-05-01T04:00:00-04:00"]
    );
    let minutes = range("2026-04-05T01:58:00+11:00", "2026-04-05T01:32:00+10:30", "Australia/Lord_Howe");
    assert_eq!(Buckets::of(&minutes, Interval::Minute).unwrap().len(), 4);
}

#[test]
fn calendar_ranges_move_by_the_calendar() {
    let previous = |from: &str, until: &str, zone: &str| {
        let previous = range(from, until, zone).previous().unwrap();
        (previous.show(previous.from_ms), previous.show(previous.until_ms))
    };
    for (from, until, zone, before) in [
        ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", "UTC", "2026-02-01T00:00:00Z"),
        ("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "UTC", "2024-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z", "UTC", "2025-10-01T00:00:00Z"),
        ("2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "Europe/Berlin", "2026-02-01T00:00:00+01:00"),
        ("2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "Europe/Berlin", "2026-03-16T00:00:00+01:00"),
        // The last seven days to now.
        ("2026-03-27T15:20:00+01:00", "2026-04-03T15:20:00+02:00", "Europe/Berlin", "2026-03-20T15:20:00+01:00"),
        // The day after the one that has no midnight.
        ("2026-03-30T00:00:00+03:00", "2026-03-31T00:00:00+03:00", "Asia/Beirut", "2026-03-29T01:00:00+03:00"),
        // Hours are as long as they are.
        ("2026-03-29T01:00:00+01:00", "2026-03-29T05:00:00+02:00", "Europe/Berlin", "2026-03-28T22:00:00+01:00"),
    ] {
        let expected = range(before, from, zone);
        assert_eq!(previous(from, until, zone), (before.to_owned(), expected.show(expected.until_ms)), "{from} {until}");
    }
}

#[test]
fn what_begins_with_the_calendar_and_ends_within_it_moves_by_what_has_begun() {
    // A Friday, a quarter past three in Berlin.
    let now_ms = ms("2026-04-03T13:15:00Z");
    let previous = |from: &str, until: &str| {
        let asked = serde_json::json!({"from": from, "to": until, "timezone": "Europe/Berlin"});
        let range = Range::parse(Fields::open(&asked, &["from", "to", "timezone"]).unwrap(), now_ms).unwrap();
        let previous = range.previous().unwrap();
        assert!(previous.until_ms <= range.from_ms, "{from} {until}");
        [previous.show(previous.from_ms), previous.show(previous.until_ms)]
    };
    for (from, until, expected) in [
        ("-6d/d", "now", ["2026-03-21T00:00:00+01:00", "2026-03-27T15:15:00+01:00"]),
        ("now/d", "now", ["2026-04-02T00:00:00+02:00", "2026-04-02T15:15:00+02:00"]),
        ("2026-03-28", "now", ["2026-03-21T00:00:00+01:00", "2026-03-27T15:15:00+01:00"]),
        ("-1w/w", "now", ["2026-03-09T00:00:00+01:00", "2026-03-20T15:15:00+01:00"]),
        ("-1w/w", "now/d", ["2026-03-09T00:00:00+01:00", "2026-03-20T00:00:00+01:00"]),
        ("-2M/M", "now", ["2025-11-01T00:00:00+01:00", "2026-01-03T15:15:00+01:00"]),
        ("now/y", "now", ["2025-01-01T00:00:00+01:00", "2025-04-03T15:15:00+02:00"]),
        ("-2h/h", "now", ["2026-04-03T10:00:00+02:00", "2026-04-03T12:15:00+02:00"]),
        // What ends with the calendar is as it was, and so is what does not begin with it.
        ("-7d/d", "now/d", ["2026-03-20T00:00:00+01:00", "2026-03-27T00:00:00+01:00"]),
        ("-1M/M", "now/M", ["2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00"]),
        ("-7d", "now", ["2026-03-20T15:15:00+01:00", "2026-03-27T15:15:00+01:00"]),
        ("2026-03-28T00:00:00+01:00", "now", ["2026-03-21T09:45:00+01:00", "2026-03-28T00:00:00+01:00"]),
    ] {
        assert_eq!(previous(from, until), expected, "{from} {until}");
    }
}

#[test]
fn the_same_weekdays_lie_before_a_range_by_as_few_weeks_as_it_takes() {
    let before = |from: &str, until: &str, zone: &str| {
        let before = range(from, until, zone).weekdays_before().unwrap();
        [before.show(before.from_ms), before.show(before.until_ms)]
    };
    let cases = [
        ("2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z", "UTC", ["2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"]),
        ("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z", "UTC", ["2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"]),
        ("2026-03-02T00:00:00Z", "2026-03-09T00:00:01Z", "UTC", ["2026-02-16T00:00:00Z", "2026-02-23T00:00:01Z"]),
        ("2026-03-01T00:00:00Z", "2026-03-31T00:00:00Z", "UTC", ["2026-01-25T00:00:00Z", "2026-02-24T00:00:00Z"]),
        ("2026-03-10T14:00:00Z", "2026-03-10T15:30:00Z", "UTC", ["2026-03-03T14:00:00Z", "2026-03-03T15:30:00Z"]),
        (
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
            "Europe/Berlin",
            ["2026-03-22T00:00:00+01:00", "2026-03-23T00:00:00+01:00"],
        ),
    ];
    for (from, until, zone, expected) in cases {
        assert_eq!(before(from, until, zone), expected, "{from} {until}");
    }
}

#[test]
fn the_year_before_has_the_same_dates() {
    let before = |from: &str, until: &str, zone: &str| {
        let before = range(from, until, zone).year_before().unwrap();
        [before.show(before.from_ms), before.show(before.until_ms)]
    };
    let cases = [
        ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", "UTC", ["2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z"]),
        ("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "UTC", ["2023-02-01T00:00:00Z", "2023-03-01T00:00:00Z"]),
        ("2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z", "UTC", ["2023-02-28T00:00:00Z", "2023-03-01T00:00:00Z"]),
        ("2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z", "UTC", ["2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"]),
        ("2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z", "UTC", ["2023-02-28T00:00:00Z", "2023-03-01T00:00:00Z"]),
        ("2024-02-28T18:00:00Z", "2024-02-29T12:00:00Z", "UTC", ["2023-02-28T18:00:00Z", "2023-03-01T12:00:00Z"]),
        (
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
            "Europe/Berlin",
            ["2025-03-29T00:00:00+01:00", "2025-03-30T00:00:00+01:00"],
        ),
    ];
    for (from, until, zone, expected) in cases {
        assert_eq!(before(from, until, zone), expected, "{from} {until}");
    }
}

#[test]
fn a_bucket_is_partial_that_the_range_cuts_or_that_is_not_over() {
    let range = range("2026-01-01T12:00:00Z", "2026-01-05T00:00:00Z", "UTC");
    let partial = |now: &str| Buckets::of(&range, Interval::Day).unwrap().partial(&range, ms(now));

    assert_eq!(partial("2026-02-01T00:00:00Z"), [true, false, false, false]);
    assert_eq!(partial("2026-01-04T00:00:00Z"), [true, false, false, true]);
    assert_eq!(partial("2026-01-02T23:59:59Z"), [true, true, true, true]);
}

#[test]
fn where_buckets_change_their_width_often_the_starts_are_searched_in_one_value() {
    let range = range("1990-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "UTC");

    let start = Statement::from(Buckets::of(&range, Interval::Month).unwrap().start());

    assert_eq!(start.text(), "roundDown(toUnixTimestamp64Milli(timestamp), {p0:Array(Int64)})");
    assert_eq!(start.params().next().unwrap().1.split(',').count(), 36 * 12);
}
