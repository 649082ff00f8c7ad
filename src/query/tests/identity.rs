//! Which requests ask one question, and what its answer depends on.

use std::collections::BTreeMap;

use super::*;
use crate::query::ask::Common;

#[test]
fn one_question_spelled_in_many_ways_is_one_question_also_a_moment_later() {
    let plain = json!({"from": "-7d", "series": [{"event": "view"}]});
    let spelled = [
        json!({"to": "now", "from": "-7d", "series": [{"math": "total", "event": "view", "name": null}]}),
        json!({"from": "-168h", "interval": "day", "limit": 25, "timezone": "UTC", "filters": [], "series": [{"event": "view"}]}),
        json!({"from": "-1w", "compare": null, "breakdown": null, "series": [{"name": "view", "event": "view"}]}),
    ];
    for request in spelled {
        assert_eq!(question("trends", &request, NOW_MS + 12_345), question("trends", &plain, NOW_MS), "{request}");
    }
    let by = |field: &str| question("users", &json!({"filters": [{"field": field, "value": "ada"}]}), NOW_MS);
    assert_eq!(by("userId"), by("user_id"));
    let compared = trends(json!({"compare": "previous"}));
    assert_eq!(question("trends", &compared, NOW_MS), question("trends", &compared, NOW_MS + 1));
    let rounded = trends(json!({"from": "-7d/d", "to": "now/d"}));
    let dates = trends(json!({"from": "2025-12-26", "to": "2026-01-02"}));
    assert_eq!(question("trends", &rounded, NOW_MS + 1), question("trends", &dates, NOW_MS));
    assert_ne!(question("trends", &rounded, NOW_MS + 86_400_000), question("trends", &rounded, NOW_MS), "another day");
}

#[test]
fn different_questions_are_different() {
    let requests = [
        trends(json!({})),
        trends(json!({"from": "2025-12-26T12:00:00Z"})),
        trends(json!({"to": "2026-01-02T12:00:00Z"})),
        trends(json!({"from": "-25h"})),
        trends(json!({"from": "-30h"})),
        trends(json!({"timezone": "Europe/Berlin"})),
        trends(json!({"interval": "hour"})),
        trends(json!({"limit": 24})),
        trends(json!({"compare": "previous"})),
        trends(json!({"compare": "year"})),
        trends(json!({"compare": "weekdays"})),
        trends(json!({"from": "-7d/d"})),
        trends(json!({"filters": [{"field": "properties.a", "value": null}]})),
        trends(json!({"filters": [{"field": "properties.a", "value": 9_007_199_254_740_993_u64}]})),
        trends(json!({"compare": {"from": "-14d", "to": "-7d"}})),
        trends(json!({"breakdown": "country"})),
        trends(json!({"breakdown": ["country"]})),
        trends(json!({"breakdown": ["country", "os"]})),
        trends(json!({"breakdown": ["os", "country"]})),
        trends(json!({"breakdown": "properties.country"})),
        trends(json!({"breakdown": "person.country"})),
        trends(json!({"filters": [{"field": "properties.a", "value": 1}]})),
        trends(json!({"filters": [{"field": "properties.a", "value": "1"}]})),
        trends(json!({"filters": [{"field": "properties.a", "op": "neq", "value": "1"}]})),
        trends(json!({"include_bots": true})),
        trends(json!({"cumulative": true})),
        trends(json!({"moving_average": 2})),
        trends(json!({"moving_average": 3})),
        trends(json!({"series": [{"event": "view", "math": "unique:os"}]})),
        trends(json!({"series": [{"event": "view", "math": "unique:country"}]})),
        trends(json!({"series": [{"event": "view", "math": "dau"}]})),
        trends(json!({"series": [{"event": "view", "math": "first_time_users"}]})),
        trends(json!({"formula": "A"})),
        trends(json!({"formula": "A+0"})),
        trends(json!({"series": [{"event": "view", "name": "seen"}]})),
        trends(json!({"series": [{"event": "view", "math": "unique_users"}]})),
        trends(json!({"series": [{"event": "view"}, {"event": "view"}]})),
    ];
    let mut seen: Vec<u128> = requests.iter().map(|request| question("trends", request, NOW_MS)).collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all);
    assert_ne!(question("users", &json!({}), NOW_MS), question("events", &json!({}), NOW_MS));
    let bars = [json!({}), json!({"bucket": "2025-12-27"}), json!({"series_index": 0, "breakdown_value": "a", "breakdown": "country"})];
    let mut bars: Vec<u128> = bars
        .into_iter()
        .flat_map(|bar| {
            let mut compared = of(bar);
            compared["of"]["compare"] = json!("previous");
            let main = compared.clone();
            compared["compare"] = json!(true);
            if compared["of"].get("bucket").is_some() {
                compared["of"]["bucket"] = json!("2025-12-20");
            }
            [main, compared]
        })
        .map(|request| question("users", &request, NOW_MS))
        .collect();
    bars.sort_unstable();
    bars.dedup();
    assert_eq!(bars.len(), 6);
}

#[test]
fn what_an_answer_depends_on_reaches_all_times_to_come_only_if_it_follows_now() {
    let reach = |request: Value| format!("{:?}", parsed("trends", &trends(request), NOW_MS).reach(NOW_MS, 2 * 86_400_000));
    assert_eq!(
        reach(json!({})),
        "Reach { spans: [1963056..=4294967295], counted: Some([1963056..=1963726]), is_closed: false, looks_back: false }",
        "of its last quarter what comes within a minute is not late"
    );
    assert_eq!(
        reach(json!({"compare": "previous"})),
        "Reach { spans: [1962384..=4294967295], counted: Some([1962384..=1963726]), is_closed: false, looks_back: false }"
    );
    let closed = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    assert_eq!(
        reach(closed.clone()),
        "Reach { spans: [1963584..=1963679], counted: Some([1963584..=1963679]), is_closed: true, looks_back: false }"
    );
    let mut by_session = closed.clone();
    by_session["breakdown"] = json!("session.channel");
    assert_eq!(
        reach(by_session),
        "Reach { spans: [1963392..=1963871], counted: Some([1963584..=1963679]), is_closed: false, looks_back: false }",
        "sessions of that day begin before it and end behind it"
    );
    let mut by_number = closed.clone();
    by_number["series"] = json!([{"math": "unique:session.pages"}]);
    assert!(reach(by_number).starts_with("Reach { spans: [1963392..=1963871]"), "its numbers too");
    let mut paths = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    let of_paths = format!("{:?}", parsed("paths", &paths, NOW_MS).reach(NOW_MS, 2 * 86_400_000));
    assert!(of_paths.starts_with("Reach { spans: [1963392..=1963871]"), "{of_paths}: whole sessions are looked at");
    paths["report"] = json!("paths");
    (paths["step"], paths["name"]) = (json!(1), json!("view"));
    let of_its_bars = format!("{:?}", parsed("users", &json!({"of": paths}), NOW_MS).reach(NOW_MS, 2 * 86_400_000));
    assert!(of_its_bars.starts_with("Reach { spans: [1963392..=1963871]"), "{of_its_bars}");
    let mut who_did = closed.clone();
    who_did["filters"] =
        json!([{"any": [{"did": {"event": "buy", "from": "2025-12-20", "to": "2025-12-21"}}, {"field": "os", "value": "x"}]}]);
    assert_eq!(
        reach(who_did),
        "Reach { spans: [1962432..=1962527, 1963584..=1963679], counted: Some([1963584..=1963679]), is_closed: true, looks_back: false }",
        "what people did before decides too"
    );
    let counted = |math: &str| {
        let mut chart = closed.clone();
        chart["series"] = json!([{"math": math}]);
        reach(chart)
    };
    assert_eq!(
        counted("wau"),
        "Reach { spans: [1963008..=1963679], counted: Some([1963008..=1963679]), is_closed: true, looks_back: false }"
    );
    assert_eq!(
        counted("first_time_users"),
        "Reach { spans: [0..=1963679], counted: Some([0..=1963679]), is_closed: true, looks_back: false }"
    );
    let everything = "Reach { spans: [0..=11535839], counted: Some([1963584..=1963679]), is_closed: false, looks_back: false }";
    let mut by_trait = trends(closed);
    by_trait["breakdown"] = json!(["country", "person.plan"]);
    assert_eq!(reach(by_trait.clone()), everything, "what was said of people at any time");
    by_trait["breakdown"] = json!("country");
    by_trait["series"] = json!([{"math": "unique:person.plan"}]);
    assert_eq!(reach(by_trait.clone()), everything);
    by_trait["series"] = json!([{"math": "total"}]);
    by_trait["filters"] = json!([{"cohort": "paying"}]);
    let paying = BTreeMap::from([("paying".to_owned(), json!([{"field": "person.plan", "value": "pro"}]))]);
    let asked = Request::of("trends", b"", NOW_MS);
    let by_cohort = Question::parse(asked, by_trait, Arc::new(paying)).unwrap();
    assert_eq!(format!("{:?}", by_cohort.reach(NOW_MS, 0)), everything);
    let to_come = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"});
    assert_eq!(
        reach(to_come),
        "Reach { spans: [1963584..=1963775], counted: Some([1963584..=1963726]), is_closed: false, looks_back: false }",
        "of what is to come nothing can be late"
    );
}

#[test]
fn another_release_asks_another_question() {
    let plan = parsed("trends", &trends(json!({})), NOW_MS).plan;
    let of = |release| plan.fingerprint(release, &Common { refresh: false, traffic: Traffic::People, as_of: None });
    assert_eq!(of("1.2.3"), of("1.2.3"));
    assert_ne!(of("1.2.3"), of("1.2.4"));
}

/// Two questions of one fingerprint get one answer: whatever is asked of the store must be the same for both.
#[test]
fn bars_of_other_events_are_other_questions() {
    let ranges = [json!({"from": "-3d"}), json!({"from": "2025-12-28", "to": "2026-01-02"})];
    let compares = ["previous", "weekdays", "year"].map(|word| json!(word));
    let own = json!({"from": "2025-12-26", "to": "2025-12-31"});
    let mut known: BTreeMap<u128, (String, Value)> = BTreeMap::new();
    for (range, compare) in ranges.iter().flat_map(|range| compares.iter().chain([&own]).map(move |compare| (range, compare))) {
        for math in ["unique_users", "dau", "wau", "mau", "first_time_users"] {
            for (cumulative, bucket, compared) in (0..12).map(|of| (of % 2 == 1, of / 4, of / 2 % 2 == 1)) {
                let mut request = of(json!({"compare": compare, "cumulative": cumulative, "series": [{"math": math}]}));
                request["of"].as_object_mut().unwrap().extend(range.as_object().unwrap().clone());
                if bucket > 0 {
                    request["of"]["bucket"] = json!(format!("2025-12-{}", 28 + bucket));
                }
                request["compare"] = json!(compared);
                let Ok(asked) = statements("users", &request) else { continue };
                // Each statement has an id of its own.
                let asked: Vec<_> = asked.iter().map(|statement| (statement.text(), statement.params().collect::<Vec<_>>())).collect();
                let asked = format!("{asked:?}");
                let (first, other) = known.entry(question("users", &request, NOW_MS)).or_insert((asked.clone(), request.clone()));
                assert_eq!(*first, asked, "{other} and {request}");
            }
        }
    }
    assert!(known.len() > 100, "{}", known.len());
}
