use serde_json::json;

use super::*;
use crate::alert::machine::tests::rule;

const SPAN: Span = Span { from_ms: 1_774_742_400_000, until_ms: 1_774_828_800_000 };

#[test]
fn every_report_is_asked_about_the_slots_and_read_by_slot() {
    let funnel = rule(json!({"report": "funnel", "interval": "day", "question": {"steps": [{"event": "a"}, {"event": "b"}]}}));
    let asked = funnel.question(SPAN);
    assert_eq!((&asked["view"], &asked["interval"], &asked["timezone"]), (&json!("trend"), &json!("day"), &json!("UTC")));
    let answer =
        json!({"buckets": ["2026-03-29T00:00:00Z"], "groups": [{"breakdown": null, "entered": [8], "converted": [2], "rate": [0.25]}]});
    let series = &funnel.observe(&answer).lines[""];
    assert_eq!((series.values[&SPAN.from_ms], series.counts[&SPAN.from_ms]), (0.25, 8.0));

    let retention = rule(json!({"report": "retention", "interval": "day", "at": 2, "question": {"return_event": "a"}}));
    let asked = retention.question(SPAN);
    assert_eq!((&asked["from"], &asked["to"]), (&json!("2026-03-27T00:00:00Z"), &json!("2026-03-28T00:00:00Z")));
    assert_eq!((&asked["period"], &asked["periods"]), (&json!("day"), &json!(3)));
    let answer = json!({"cohorts": [{"start": "2026-03-27T00:00:00Z", "breakdown": null, "size": 4, "values": [4, 2, 1]}]});
    assert_eq!(retention.observe(&answer).lines[""].values, [(SPAN.from_ms, 0.25)].into());

    let ledger = rule(json!({"report": "ledger", "interval": "hour", "question": {"outcome": "dead"}}));
    let answer = json!({"minutes": [{"minute": "2026-03-29T00:01:00Z", "dead": 1}, {"minute": "2026-03-29T00:59:00Z", "dead": 2}]});
    assert_eq!(ledger.observe(&answer).lines[""].values, [(SPAN.from_ms, 3.0)].into());
    assert!(ledger.check_question().is_ok());
    assert!(rule(json!({"report": "ledger", "question": {"outcome": "lost"}})).check_question().is_err());
}

#[test]
fn what_is_behind_a_number_is_asked_where_the_answer_does_not_say_it() {
    let ratio = json!({"min_count": 10, "question": {"series": [{"event": "a"}, {"event": "b"}], "formula": "A/B"}});
    let counted = rule(ratio).count_question(SPAN).unwrap();
    assert_eq!((&counted["series"], counted.get("formula")), (&json!([{"event": "b", "math": "total"}]), None));
    let average = json!({"min_count": 10, "question": {"series": [{"event": "a", "math": "avg", "property": "p"}]}});
    assert_eq!(rule(average).count_question(SPAN).unwrap()["series"], json!([{"event": "a", "math": "total"}]));
    assert_eq!(rule(json!({})).count_question(SPAN), None);
    // What is behind the number that is watched, not behind another of the chart.
    let series = json!([{"event": "a", "name": "one"}, {"event": "b", "math": "max", "property": "p"}]);
    let second = json!({"min_count": 10, "line": "b", "question": {"series": series}});
    assert_eq!(rule(second).count_question(SPAN).unwrap()["series"], json!([{"event": "b", "math": "total"}]));
    // Of a breakdown the same lines: those that are large in what is watched.
    let by_plan = |question: Value| {
        let mut question = question;
        question["breakdown"] = json!("properties.plan");
        let asked = rule(json!({"min_count": 10, "max_groups": 600, "question": question}));
        (asked.count_question(SPAN).unwrap(), asked.numbers_of_slot())
    };
    let average = json!({"event": "a", "math": "avg", "property": "p"});
    let (asked, numbers) = by_plan(json!({"series": [average]}));
    assert_eq!((&asked["series"], &asked["formula"]), (&json!([average, {"event": "a", "math": "total"}]), &json!("B")));
    assert_eq!((&asked["breakdown"], &asked["limit"], numbers), (&json!("properties.plan"), &json!(600), 1_204));
    let (asked, _) = by_plan(json!({"series": [{"event": "a"}, {"event": "b"}], "formula": "A/B"}));
    assert_eq!((&asked["series"], &asked["formula"]), (&json!([{"event": "a"}, {"event": "b", "math": "total"}]), &json!("B")));
    for (formula, counted) in [("B/A", json!({"event": "a", "math": "total"})), ("A/B", json!({"event": "b", "math": "total"}))] {
        let ratio = json!({"min_count": 10, "question": {"series": series, "formula": formula}});
        assert_eq!(rule(ratio).count_question(SPAN).unwrap()["series"], json!([counted]), "{formula}");
    }
}

#[test]
fn the_largest_lines_are_watched_and_the_rest_is_counted() {
    let rule = rule(json!({"max_groups": 2, "question": {"series": [{"event": "a"}], "breakdown": "country"}}));
    assert_eq!(rule.question(SPAN)["limit"], 2);
    let line = |name: &str, kind: &str, value: u32| json!({"name": "a", "breakdown": name, "kind": kind, "values": [value]});
    let series = [line("DE", "value", 3), line("FR", "value", 1), line("$none", "none", 2), line("$other", "other", 9)];
    let observed = rule.observe(&json!({"buckets": ["2026-03-29T00:00:00Z"], "series": series}));
    assert_eq!(observed.lines.keys().collect::<Vec<_>>(), ["\"$none\"", "\"DE\""]);
    assert_eq!((observed.left_out, observed.absent, observed.least), (1, Some(0.0), Some(2.0)));
}

#[test]
fn of_what_is_counted_there_is_none_where_the_answer_has_no_line() {
    let absent = |body: Value, kind: &str| {
        let line = json!({"name": "a", "breakdown": "DE", "kind": kind, "values": [1]});
        rule(body).observe(&json!({"buckets": ["2026-03-29T00:00:00Z"], "series": [line]})).absent
    };
    let of = |series: Value, formula: Option<&str>| json!({"question": {"series": series, "formula": formula, "breakdown": "country"}});
    let math = |math: &str| json!([{"event": "a", "math": math, "property": "p"}]);
    for counted in ["total", "unique_users", "unique:properties.x", "first_time_users", "dau", "wau", "mau", "sum"] {
        assert_eq!(absent(of(math(counted), None), "value"), Some(0.0), "{counted}");
    }
    for measured in ["avg", "min", "p90", "per_user"] {
        assert_eq!(absent(of(math(measured), None), "value"), None, "{measured}");
    }
    let both = json!([{"event": "a"}, {"event": "b"}]);
    for (formula, kind, value) in
        [("A+B", "value", Some(0.0)), ("A-B+2", "value", Some(2.0)), ("A/B", "value", None), ("A+B", "other", None)]
    {
        assert_eq!(absent(of(both.clone(), Some(formula)), kind), value, "{formula} {kind}");
    }
    let sessions = |series: Value| json!({"report": "sessions", "question": {"series": series, "breakdown": "session.country"}});
    for (series, value) in [(json!([{}]), Some(0.0)), (json!([{"math": "visitors"}]), Some(0.0)), (json!([{"math": "bounce_rate"}]), None)]
    {
        assert_eq!(absent(sessions(series.clone()), "value"), value, "{series}");
    }
}

#[test]
fn what_is_counted_is_itself_how_much_there_is() {
    let ledger = rule(json!({"report": "ledger", "interval": "hour", "min_count": 1, "question": {"outcome": "dead"}}));
    let observed = ledger.observe(&json!({"minutes": [{"minute": "2026-03-29T00:01:00Z", "dead": 3}]}));
    assert_eq!(observed.lines[""].counts, observed.lines[""].values);
    let dormant = rule(json!({"report": "lifecycle", "line": "dormant", "min_count": 1, "question": {}}));
    let line = json!({"name": "dormant", "breakdown": null, "values": [-3]});
    let observed = dormant.observe(&json!({"buckets": ["2026-03-29T00:00:00Z"], "series": [line]}));
    assert_eq!(observed.lines[""].counts.values().collect::<Vec<_>>(), [&3.0]);
}

#[test]
fn a_line_that_no_series_has_is_refused() {
    let series = json!([{"event": "a", "name": "one"}, {"event": "b"}, {}]);
    for (body, names) in [
        (json!({"question": {"series": series}}), ["one", "b", "any event"].as_slice()),
        (json!({"question": {"series": series, "formula": "A/B"}}), &["A/B"]),
        (json!({"report": "sessions", "question": {}}), &["sessions"]),
        (json!({"report": "sessions", "question": {"series": [{"math": "bounce_rate"}, {"name": "x"}]}}), &["bounce_rate", "x"]),
        (json!({"report": "lifecycle", "question": {}}), &["new", "dormant"]),
    ] {
        let checked = |line: &str| {
            let mut body = body.clone();
            body["line"] = json!(line);
            rule(body).check_question().map_err(|problem| problem.message)
        };
        assert!(checked("").is_ok() && names.iter().all(|name| checked(name).is_ok()), "{body}");
        assert!(checked("nope").unwrap_err().starts_with("line: `nope` is none of the series: "), "{body}");
    }
}

#[test]
fn notes_are_about_the_days_and_the_slots_of_the_rule() {
    let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let span = Span { from_ms: ms("2026-12-20T00:00:00Z"), until_ms: ms("2026-12-30T00:00:00Z") };
    let slots = |zone: &str, is_holiday: bool, at: &str, until: Option<&str>| {
        let rule = rule(json!({"reduce": "anomaly", "condition": null, "resolve": null, "interval": "hour", "timezone": zone}));
        let noted = Unusual { is_holiday, at_ms: ms(at), until_ms: until.map(ms) };
        let slots = rule.unusual(vec![noted, noted], span);
        (slots.first().map(|slot| instant(*slot)).unwrap_or_default(), slots.len())
    };
    let is = |first: &str, count: usize| (first.to_owned(), count);
    // A date alone is that date everywhere; a time is of the day that it is there.
    assert_eq!(slots("America/New_York", true, "2026-12-25T00:00:00Z", None), is("2026-12-25T05:00:00Z", 24));
    assert_eq!(slots("Europe/Berlin", true, "2026-12-24T23:30:00Z", None), is("2026-12-24T23:00:00Z", 24));
    assert_eq!(slots("Europe/Berlin", true, "2026-12-25T00:00:00Z", Some("2026-12-27T00:00:00Z")), is("2026-12-24T23:00:00Z", 48));
    assert_eq!(slots("Europe/Berlin", true, "2026-12-25T00:00:00Z", Some("2026-12-26T15:00:00Z")), is("2026-12-24T23:00:00Z", 48));
    assert_eq!(slots("UTC", false, "2026-12-25T10:20:00Z", None), is("2026-12-25T10:00:00Z", 1));
    assert_eq!(slots("UTC", false, "2026-12-25T10:20:00Z", Some("2026-12-25T12:00:00Z")), is("2026-12-25T10:00:00Z", 2));
    assert_eq!(slots("Asia/Kathmandu", false, "2026-12-25T10:20:00Z", None), is("2026-12-25T10:15:00Z", 1));
    assert_eq!(slots("UTC", false, "2027-01-25T10:20:00Z", None), is("", 0));
}

#[test]
fn how_much_is_behind_numbers_is_asked_alone_where_both_are_more_than_an_answer_has_room_for() {
    let behind = |slots: u32, groups: usize| {
        let question = json!({"series": [{"event": "order", "math": "avg", "property": "total"}], "breakdown": "plan"});
        let rule = rule(json!({"question": question, "reduce": {"sum": slots}, "min_count": 5, "max_groups": groups}));
        let asked = rule.count_question(Span { from_ms: 0, until_ms: 60_000 }).unwrap();
        (asked["series"].as_array().unwrap().len(), asked["formula"].clone(), rule.numbers_of_line())
    };
    assert_eq!(behind(1, 500), (2, json!("B"), 2));
    assert_eq!(behind(1_440, 500), (1, Value::Null, 1), "1,440 minutes of 502 lines, twice, are more than a million");
}
