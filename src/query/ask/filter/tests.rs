use std::sync::Arc;

use serde_json::json;

use super::*;

/// Noon of 2026-01-02.
const NOW_MS: i64 = 1_767_355_200_000;

fn parsed(filters: Value) -> Result<Vec<Filter>, QueryError> {
    let body = json!({"filters": filters, "timezone": "Europe/Berlin"});
    let fields = Fields::unchecked(&body).unwrap();
    parse_all(fields, &Context::of(&body, NOW_MS, Arc::new(cohorts())).unwrap())
}

fn cohorts() -> super::super::Cohorts {
    let germans = json!([country("DE"), {"did": {"event": "buy"}}]);
    [("germans".to_owned(), germans), ("broken".to_owned(), json!([{"field": "contry", "value": 1}]))].into()
}

fn refused(filters: Value) -> (&'static str, String) {
    let problem = parsed(filters.clone()).expect_err(&filters.to_string());
    (problem.code, problem.message)
}

/// Identity of the filters.
fn form(filters: Value) -> u128 {
    let mut form = CanonicalForm::of("", "");
    form.set("filters", &parsed(filters).unwrap());
    form.fingerprint()
}

fn country(value: &str) -> Value {
    json!({"field": "country", "value": value})
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(country("DE"), |inner, _| json!({"any": [inner, country("FR")]}))
}

#[test]
fn neither_order_nor_groups_of_one_make_another_question() {
    let (de, fr, it) = (country("DE"), country("FR"), country("IT"));
    assert_eq!(form(json!([{"any": [de, fr]}, it])), form(json!([it, {"any": [fr, de]}])));
    assert_eq!(form(json!([{"all": [{"any": [de]}]}])), form(json!([de])));
    let apart = [
        json!([{"any": [de, fr]}]),
        json!([{"all": [de, fr]}]),
        json!([{"any": [de, {"all": [fr, it]}]}]),
        json!([{"all": [de, {"any": [fr, it]}]}]),
        json!([{"did": {"event": "buy"}}]),
        json!([{"did": {"event": "buy"}, "not": true}]),
        json!([{"did": {"event": "buy", "times": {"gte": 2}}}]),
        json!([{"did": {"event": "buy", "times": {"gt": 2}}}]),
        json!([{"did": {"event": "buy", "from": "-7d"}}]),
        json!([{"did": {"event": "buy", "filters": [de]}}]),
    ];
    let mut forms: Vec<u128> = apart.iter().cloned().map(form).collect();
    forms.sort_unstable();
    forms.dedup();
    assert_eq!(forms.len(), apart.len());
    assert_eq!(form(json!([{"did": {"event": "buy", "times": {"gte": 1}}}])), form(json!([{"did": {"event": "buy"}, "not": false}])));
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let bad = json!({"field": "contry", "value": "DE"});
    for (filters, code, begins) in [
        (
            json!([country("DE"), {"any": [country("FR"), {"all": [country("IT"), bad]}]}]),
            "invalid_field",
            "filters[1].any[1].all[1]: unknown field `contry`",
        ),
        (json!([{"did": {"filters": [country("DE"), bad]}}]), "invalid_field", "filters[0].did.filters[1]: unknown field"),
        (json!([{"any": []}]), "invalid_filter", "filters[0]: `any` needs at least one filter"),
        (json!([{"any": country("DE")}]), "invalid_filter", "filters[0]: `any` must be an array"),
        (json!([{"any": [country("DE")], "field": "country"}]), "unknown_key", "filters[0]: unknown key `field`"),
        (json!([country("DE"), 7]), "invalid_request", "filters[1]: expected a JSON object"),
        (json!({"any": []}), "invalid_filter", "`filters` must be an array"),
        (
            json!([{"field": "country", "op": "exists", "value": "DE"}]),
            "invalid_value",
            "filters[0]: `exists` has no `value`; its contrary is `not_exists`",
        ),
        (json!([{"did": "buy"}]), "invalid_request", "filters[0].did: expected a JSON object"),
        (json!([{"did": {"event": 7}}]), "invalid_event", "filters[0].did: "),
        (json!([{"did": {"from": "soon"}}]), "invalid_range", "filters[0].did: "),
        (json!([{"did": {}, "not": "no"}]), "invalid_filter", "filters[0]: `not` must be true or false"),
        (json!([{"did": {"times": 2}}]), "invalid_times", "filters[0].did: `times` must be an object"),
        (json!([{"did": {"times": {}}}]), "invalid_times", "filters[0].did: `times` must be an object"),
        (json!([{"did": {"times": {"gte": -1}}}]), "invalid_times", "filters[0].did: `times.gte` must be a whole number from 0"),
        (json!([{"did": {"times": {"neq": 1}}}]), "invalid_times", "filters[0].did: unknown operator `neq` of `times`, did you mean `eq`?"),
        (
            json!([{"did": {"filters": [{"any": [{"did": {}}, country("DE")]}]}}]),
            "invalid_filter",
            "filters[0].did.filters[0].any[0]: `did` cannot be",
        ),
        (json!(vec![json!({"did": {}}); 11]), "filter_too_complex", "filters[10].did: at most 10"),
        (json!([nested(6)]), "filter_too_complex", "filters[0].any[0].any[0].any[0].any[0].any[0]: filters may be nested at most 5 deep"),
        (
            json!([{"any": vec![country("DE"); 60]}, {"all": vec![country("FR"); 41]}]),
            "filter_too_complex",
            "filters[1].all[40]: at most 100",
        ),
    ] {
        let (is, message) = refused(filters.clone());
        assert_eq!(is, code, "{filters}");
        assert!(message.starts_with(begins), "{filters}: {message}");
    }
    assert!(parsed(json!([nested(5)])).is_ok());
    assert!(parsed(json!([{"any": vec![country("DE"); 60]}, {"all": vec![country("FR"); 40]}])).is_ok());
}

#[test]
fn a_cohort_stands_for_its_filters() {
    let written = json!([{"all": [country("DE"), {"did": {"event": "buy"}}]}]);
    assert_eq!(form(json!([{"cohort": "germans"}])), form(written.clone()));
    assert_ne!(form(json!([{"cohort": "germans", "not": true}])), form(written));
    for (filters, code, begins) in [
        (json!([{"cohort": "french"}]), "unknown_cohort", "filters[0]: there is no cohort `french`"),
        (json!([{"cohort": 7}]), "invalid_cohort", "filters[0]: `cohort` must be a string"),
        (json!([{"cohort": "germans", "event": "buy"}]), "unknown_key", "filters[0]: unknown key `event`"),
        (json!([{"cohort": "broken"}]), "invalid_field", "filters[0].broken.filters[0]: unknown field"),
        (
            json!([{"did": {"filters": [{"cohort": "germans"}]}}]),
            "invalid_filter",
            "filters[0].did.filters[0].germans.filters[1]: `did` cannot",
        ),
    ] {
        let (is, message) = refused(filters.clone());
        assert_eq!(is, code, "{filters}");
        assert!(message.starts_with(begins), "{filters}: {message}");
    }
    assert!(check_cohort(&json!({"filters": [country("DE")]}), NOW_MS).is_ok());
    for (body, code) in [
        (json!({"filters": [{"cohort": "germans"}]}), "invalid_filter"),
        (json!({"filters": []}), "invalid_filter"),
        (json!({}), "invalid_filter"),
        (json!({"filter": []}), "unknown_key"),
        (json!([]), "invalid_request"),
    ] {
        assert_eq!(check_cohort(&body, NOW_MS).unwrap_err().code, code, "{body}");
    }
}

#[test]
fn a_number_of_times_that_none_meets_holds_of_those_without_any() {
    let hold_of_none = |times: Value| match parsed(json!([{"did": {"times": times}}])).unwrap().remove(0) {
        Filter::Did(did) => did.times.hold_of_none(),
        other => panic!("{other:?}"),
    };
    for (times, expected) in [
        (json!({"eq": 0}), true),
        (json!({"gte": 0}), true),
        (json!({"lte": 0}), true),
        (json!({"lt": 1}), true),
        (json!({"lt": 0}), false),
        (json!({"gt": 0}), false),
        (json!({"gte": 1, "lte": 5}), false),
        (json!({"gte": 0, "lt": 5}), true),
    ] {
        assert_eq!(hold_of_none(times.clone()), expected, "{times}");
    }
}

#[test]
fn a_time_in_which_somebody_did_something_is_read_in_the_zone_of_the_request() {
    let body = json!({"filters": [{"did": {"from": "2026-01-01", "to": "2026-01-02"}}], "timezone": "Europe/Berlin"});
    let context = Context::of(&body, NOW_MS, Arc::default()).unwrap();
    parse_all(Fields::unchecked(&body).unwrap(), &context).unwrap();
    let ranges = context.did_in();
    assert_eq!((ranges[0].from_ms, ranges[0].until_ms), (NOW_MS - 37 * 3_600_000, NOW_MS - 13 * 3_600_000));
}
