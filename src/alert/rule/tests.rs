use serde_json::json;

use super::*;
use crate::alert::machine::tests::rule;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn slots_are_those_of_the_zone_also_where_clocks_are_moved() {
    let hourly = rule(json!({"interval": "hour", "timezone": "Asia/Kathmandu"}));
    assert_eq!(hourly.closed_slot(at("2026-03-01T10:20:00Z")), Some(at("2026-03-01T09:15:00Z")), "+05:45");
    let daily = rule(json!({"interval": "day", "timezone": "Europe/Berlin"}));
    let short = at("2026-03-28T23:00:00Z");
    assert_eq!(daily.next_slot(short).unwrap() - short, 23 * 3_600_000);
    let long = at("2026-10-24T22:00:00Z");
    assert_eq!(daily.next_slot(long).unwrap() - long, 25 * 3_600_000);
    // The same weekday is not 168 hours ago in the week of the change.
    let weekly = rule(json!({"interval": "hour", "timezone": "Europe/Berlin", "reduce": {"change": "week"}}));
    assert_eq!(weekly.look_back(at("2026-03-30T10:00:00Z")), Some(at("2026-03-23T11:00:00Z")));
}

#[test]
fn a_report_is_told_at_its_time_of_the_zone_also_on_days_of_23_and_25_hours() {
    let daily = rule(json!({"interval": "day", "timezone": "Europe/Berlin", "report_at": "09:00", "condition": null, "resolve": null}));
    assert_eq!(daily.ripe_ms(at("2026-03-27T23:00:00Z")), Some(at("2026-03-29T07:00:00Z")), "the morning after clocks went ahead");
    assert_eq!(daily.ripe_ms(at("2026-10-23T22:00:00Z")), Some(at("2026-10-25T08:00:00Z")), "the morning after they went back");
    // A time that the night leaves out is the one after it.
    let night = rule(json!({"interval": "day", "timezone": "Europe/Berlin", "report_at": "02:30", "condition": null, "resolve": null}));
    assert_eq!(night.ripe_ms(at("2026-03-27T23:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
}

#[test]
fn what_was_due_is_told_apart_from_what_is_due_later_in_the_day() {
    let daily = rule(json!({
        "interval": "day", "timezone": "Europe/Berlin", "report_at": "09:00", "evaluation_delay": "10m", "condition": null, "resolve": null,
    }));
    let [first, second] = ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z"].map(at);
    for (saved, begins_behind) in [("06:59:59", first - 86_400_000), ("07:00:00", first), ("21:59:59", first), ("22:05:00", first)] {
        assert_eq!(daily.ripe_slot(at(&format!("2026-03-29T{saved}Z"))), Some(begins_behind), "{saved}");
    }
    assert_eq!(daily.ripe_slot(at("2026-03-30T07:00:00Z")), Some(second));
    let minutes = rule(json!({"interval": "minute", "evaluation_delay": "0s"}));
    assert_eq!(minutes.ripe_slot(600_000), Some(540_000));
}

#[test]
fn hours_in_which_channels_may_be_told_go_over_midnight() {
    let active = |active: serde_json::Value, when: &str| rule(json!({"active": active, "timezone": "Europe/Berlin"})).is_active(at(when));
    let office = json!({"days": ["mon", "fri"], "from": "09:00", "to": "17:30"});
    assert!(active(office.clone(), "2026-01-02T08:00:00Z") && !active(office.clone(), "2026-01-02T16:30:00Z"));
    assert!(!active(office, "2026-01-03T12:00:00Z"), "a Saturday");
    let night = json!({"days": ["fri"], "from": "22:00", "to": "06:00"});
    assert!(active(night.clone(), "2026-01-03T04:59:00Z"), "the night of Friday");
    assert!(!active(night.clone(), "2026-01-02T04:59:00Z") && !active(night, "2026-01-03T05:00:00Z"));
}

#[test]
fn a_report_of_some_days_may_come_late_on_each_of_them() {
    // As the screen writes it, of nine in the morning.
    let active = json!({"days": ["fri"], "from": "09:00", "to": "08:59", "timezone": "Europe/Berlin"});
    let report = rule(json!({"interval": "day", "report_at": "09:00", "active": active, "condition": null, "resolve": null}));
    let friday = at("2026-01-02T08:00:00Z");
    let minute_ms = 60_000;
    assert!(report.is_active(friday) && report.is_active(friday + (24 * 60 - 2) * minute_ms));
    assert!(!report.is_active(friday - 1) && !report.is_active(friday + 24 * 60 * minute_ms));
}

#[test]
fn a_report_that_is_never_told_in_its_hours_is_refused_with_both_times() {
    let checked = |interval: &str, at: &str, active: serde_json::Value| {
        let report = json!({"interval": interval, "report_at": at, "active": active, "condition": null, "resolve": null});
        rule(report).check_hours().map_err(|problem| problem.to_string())
    };
    let office = |more: serde_json::Value| {
        let mut hours = json!({"from": "10:00", "to": "18:00"});
        hours.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hours
    };
    let problem = checked("day", "09:00", office(json!({}))).unwrap_err();
    assert!(problem.starts_with("active: from `10:00` to `18:00`") && problem.contains("`report_at` `09:00`"), "{problem}");
    assert_eq!(checked("day", "10:00", office(json!({}))), Ok(()));
    assert!(checked("day", "18:00", office(json!({}))).is_err(), "the end is excluded");
    for weekday in DAYS {
        assert_eq!(checked("day", "12:00", office(json!({"days": [weekday]}))), Ok(()), "{weekday}");
        assert_eq!(checked("month", "12:00", office(json!({"days": [weekday]}))), Ok(()), "a month that begins on {weekday}");
        let weekly = checked("week", "12:00", office(json!({"days": [weekday]})));
        assert_eq!(weekly.is_ok(), weekday == "mon", "{weekday}: weeks are over on Monday");
    }
    assert!(checked("week", "12:00", office(json!({"days": ["tue"]}))).unwrap_err().contains(" on tue never"));
    // Nine in UTC is ten in Berlin, in summer eleven.
    assert_eq!(checked("day", "09:00", office(json!({"timezone": "Europe/Berlin"}))), Ok(()));
    assert_eq!(checked("day", "08:30", office(json!({"timezone": "Europe/Berlin"}))), Ok(()), "in summer");
    assert!(checked("day", "07:30", office(json!({"timezone": "Europe/Berlin"}))).is_err());
    assert_eq!(rule(json!({"active": {"from": "10:00", "to": "18:00"}})).check_hours(), Ok(()), "no report");
}

#[test]
fn a_number_is_right_again_behind_the_threshold_of_resolve() {
    let sides = |rule: &Rule, values: [f64; 3]| values.map(|value| rule.side(value));
    assert_eq!(sides(&rule(json!({})), [11.0, 10.0, 5.0]), [Side::Wrong, Side::Between, Side::Right]);
    let below = rule(json!({"condition": {"below": 1}, "resolve": 2}));
    assert_eq!(sides(&below, [0.5, 1.0, 2.0]), [Side::Wrong, Side::Between, Side::Right]);
    let outside = rule(json!({"condition": {"outside": [-3, 3]}, "resolve": 1}));
    assert_eq!(sides(&outside, [-3.1, 2.5, 2.0]), [Side::Wrong, Side::Between, Side::Right]);
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    let refused = |more: serde_json::Value| {
        let mut body = serde_json::to_value(&rule(json!({})).body).unwrap();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<RuleBody>(body).unwrap().check().unwrap_err().field
    };
    assert_eq!(refused(json!({"condition": {"outside": [3, 1]}})), "condition");
    assert_eq!(refused(json!({"resolve": 11})), "resolve");
    assert_eq!(refused(json!({"reduce": "anomaly"})), "reduce");
    assert_eq!(refused(json!({"reduce": {"sum": 0}})), "reduce");
    assert_eq!(refused(json!({"labels": {"a b": "c"}})), "labels");
    assert_eq!(refused(json!({"max_groups": 0})), "max_groups");
    assert_eq!(refused(json!({"active": {"from": "9", "to": "10:00"}})), "active");
    assert_eq!(refused(json!({"evaluation_delay": "2days"})), "evaluation_delay");
    assert_eq!(refused(json!({"line": "x".repeat(2_001)})), "line");
    assert_eq!(refused(json!({"at": 101})), "at");
    assert_eq!(refused(json!({"keep_firing_for": 1_441})), "keep_firing_for");
    assert_eq!(refused(json!({"remind_every": 144_001})), "remind_every");
    let report = json!({"condition": null, "resolve": null, "interval": "day", "report_at": "2026-01-01T09:00"});
    assert_eq!(refused(report), "report_at", "a date would be ignored");
    let lag = |more: serde_json::Value| {
        let mut lag = json!({"report": "lag", "question": {}, "interval": "minute"});
        lag.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(lag)
    };
    assert_eq!(lag(json!({"reduce": {"sum": 5}})), "reduce", "the lag of before is not known");
    assert_eq!(lag(json!({"min_count": 1})), "min_count");
    assert_eq!(refused(json!({"report": "retention", "question": {"value": {"sum": "properties.price"}}})), "question");
    rule(json!({"report": "retention", "interval": "day", "question": {"value": "users"}}));
    assert_eq!(refused(json!({"report": "sessions", "question": {"list": true}})), "question");
    rule(json!({"report": "sessions", "question": {"list": false}}));
}

#[test]
fn an_error_says_the_value() {
    let refused = |more: serde_json::Value| {
        let mut body = serde_json::to_value(&rule(json!({})).body).unwrap();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<RuleBody>(body).unwrap().check().unwrap_err().to_string()
    };
    for (more, value) in [
        (json!({"keep_firing_for": 1_441}), "1441"),
        (json!({"remind_every": 144_001}), "144001"),
        (json!({"at": 0}), "0 "),
        (json!({"reduce": {"sum": 1_500}}), "1500"),
        (json!({"report_at": "late"}), "`late`"),
    ] {
        assert!(refused(more.clone()).contains(value), "{more}: {}", refused(more.clone()));
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_field() {
    let read = |body: serde_json::Value| RuleBody::read(body.as_object().unwrap().clone()).map(drop).unwrap_err();
    assert!(read(json!({"report": "trends", "condition": {"above": "x"}})).starts_with("condition"));
    assert!(read(json!({"report": "trends", "severity": "x"})).starts_with("severity: unknown variant `x`"));
    assert!(read(json!({"report": "trends", "for": -1})).starts_with("for: "));
}
