//! Requests of the reports about people: what is refused, and that each option makes another question.

use super::*;

const OF_PEOPLE: [&str; 4] = ["lifecycle", "stickiness", "retention", "paths"];

fn with(more: &Value) -> Value {
    let mut request = json!({"from": "2025-12-22", "to": "2025-12-29"});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn bar(report: &str, more: &Value) -> Value {
    let mut of = with(more);
    of["report"] = json!(report);
    json!({"of": of})
}

#[test]
fn what_a_report_of_people_cannot_mean_is_refused_by_name() {
    for report in OF_PEOPLE {
        assert_eq!(refused(report, &json!({})), "invalid_range");
        assert_eq!(refused(report, &with(&json!({"evnt": "view"}))), "unknown_key");
    }
    for (report, more, code) in [
        ("lifecycle", json!({"interval": "hour"}), "invalid_interval"),
        ("lifecycle", json!({"from": "2020-01-01"}), "too_many_buckets"),
        ("lifecycle", json!({"compare": "before"}), "invalid_compare"),
        ("stickiness", json!({"cumulative": 1}), "invalid_cumulative"),
        ("stickiness", json!({"interval": "year"}), "invalid_interval"),
        ("retention", json!({"periods": 0}), "invalid_limit"),
        ("retention", json!({"periods": 61}), "invalid_limit"),
        // Of ten thousand cohorts.
        ("retention", json!({"from": "1995-01-01", "period": "day"}), "too_many_buckets"),
        ("retention", json!({"period": "hour"}), "invalid_interval"),
        ("retention", json!({"mode": "after"}), "invalid_retention"),
        ("retention", json!({"type": "first"}), "invalid_retention"),
        ("retention", json!({"rolling": "yes"}), "invalid_rolling"),
        ("retention", json!({"value": "sum"}), "invalid_value"),
        ("retention", json!({"value": {"sum": ""}}), "invalid_property"),
        ("retention", json!({"cohort_event": "signup"}), "invalid_request"),
        ("paths", json!({"steps": 1}), "invalid_steps"),
        ("paths", json!({"steps": 11}), "invalid_steps"),
        ("paths", json!({"limit": 101}), "invalid_limit"),
        ("paths", json!({"start": "a", "end": "b"}), "invalid_paths"),
        ("paths", json!({"node": "page"}), "invalid_field"),
        ("paths", json!({"collapse": "no"}), "invalid_collapse"),
    ] {
        assert_eq!(refused(report, &with(&more)), code, "{report} {more}");
    }
}

#[test]
fn a_bar_that_no_report_of_people_has_is_refused() {
    for (report, more) in [
        ("lifecycle", json!({"status": "old", "bucket": "2025-12-23"})),
        ("lifecycle", json!({"status": "new"})),
        ("lifecycle", json!({"status": "new", "bucket": "2025-12-21"})),
        ("lifecycle", json!({"status": "new", "bucket": "2025-12-23", "breakdown_value": "x"})),
        ("stickiness", json!({"times": 0})),
        ("stickiness", json!({"times": 8})),
        ("stickiness", json!({"times": 1, "at_least": 1})),
        ("retention", json!({})),
        ("retention", json!({"cohort_start": "2025-12-29"})),
        ("retention", json!({"cohort_start": "2025-12-23", "index": 8})),
        ("retention", json!({"cohort_start": "2025-12-23", "returned": false})),
        ("retention", json!({"cohort_start": "2025-12-28", "periods": 60, "index": 20})),
        ("paths", json!({"name": "view"})),
        ("paths", json!({"step": 6, "name": "view"})),
        ("paths", json!({"step": 1})),
        ("paths", json!({"step": 5, "name": "view", "next": "buy"})),
        ("paths", json!({"step": 1, "name": "view", "next": "buy", "dropped": true})),
    ] {
        assert_eq!(refused("users", &bar(report, &more)), "invalid_of", "{report} {more}");
    }
}

#[test]
fn every_option_of_a_report_of_people_makes_another_question() {
    let options = json!({
        "lifecycle": [{}, {"interval": "week"}, {"event": "view"}, {"breakdown": "os"}, {"limit": 3}, {"compare": "previous"}],
        "stickiness": [{}, {"interval": "week"}, {"event": "view"}, {"breakdown": "os"}, {"cumulative": true}, {"compare": "year"}],
        "retention": [{}, {"period": "week"}, {"periods": 9}, {"type": "recurring"}, {"mode": "on_or_after"}, {"rolling": true},
            {"cohort_event": {"event": "a"}}, {"return_event": {"event": "a"}}, {"breakdown": "os"}, {"value": {"sum": "a"}}, {"value": {"sum": "b"}}],
        "paths": [{}, {"node": "os"}, {"start": "a"}, {"end": "a"}, {"start": 1}, {"steps": 4}, {"limit": 9}, {"collapse": false}],
    });
    for report in OF_PEOPLE {
        let fingerprint = |more: &Value| question(report, &with(more), NOW_MS);
        let mut known: Vec<u128> = options[report].as_array().unwrap().iter().map(fingerprint).collect();
        let all = known.len();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), all, "{report}");
    }
}
