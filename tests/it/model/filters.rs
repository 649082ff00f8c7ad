//! Filters: tests of fields, what a person did, and groups of both, decided event by event.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BIG, Event, Range};
use crate::report::Case;

/// Tests of fields there are; number 0 is none.
const TESTS: usize = 29;
/// Conditions of `did` that a request may have.
const MAX_DIDS: usize = 10;
const OPERATORS: [&str; 5] = ["eq", "gt", "gte", "lt", "lte"];

/// A filter of a request.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// Tests of fields by number, all of which must hold.
    Tests(usize),
    Any(Vec<Self>),
    All(Vec<Self>),
    Did(Did),
}

/// What a person must have done, or not.
#[derive(Clone, Debug)]
pub(crate) struct Did {
    event: Option<&'static str>,
    tests: usize,
    range: Option<Range>,
    times: Option<(&'static str, usize)>,
    negated: bool,
}

/// Filters of a request; `near` is where its events are.
pub(crate) fn filters(near: Range) -> impl Strategy<Value = Vec<Filter>> {
    let tests = (1..TESTS).prop_map(Filter::Tests);
    let half = (near.until - near.from) / 2;
    let range = prop::option::of(prop::sample::select(vec![
        near,
        Range { from: near.from, until: near.from + half },
        Range { from: near.from - half, until: near.until },
    ]));
    let times = prop::option::of((prop::sample::select(OPERATORS.to_vec()), 0_usize..4));
    let did = (prop::option::of(prop::sample::select(vec!["view", "buy"])), 0..TESTS, range, times, any::<bool>());
    let did = did.prop_map(|(event, tests, range, times, negated)| Filter::Did(Did { event, tests, range, times, negated }));
    let tree = prop_oneof![3 => tests, 1 => did].prop_recursive(4, 8, 3, |inner| {
        let some = prop::collection::vec(inner, 1..4);
        prop_oneof![some.clone().prop_map(Filter::Any), some.prop_map(Filter::All)]
    });
    let trees = prop::collection::vec(tree, 1..3).prop_filter("no more than a request may have", |trees| dids(trees) <= MAX_DIDS);
    prop_oneof![1 => Just(Vec::new()), 4 => (1..TESTS).prop_map(|number| vec![Filter::Tests(number)]), 5 => trees]
}

fn dids(filters: &[Filter]) -> usize {
    filters
        .iter()
        .map(|filter| match filter {
            Filter::Tests(_) => 0,
            Filter::Did(_) => 1,
            Filter::Any(filters) | Filter::All(filters) => dids(filters),
        })
        .sum()
}

/// As `filters` of a request.
pub(crate) fn request(filters: &[Filter]) -> Value {
    filters.iter().flat_map(Filter::requests).collect()
}

/// Whether an event passes all filters.
pub(crate) fn pass(filters: &[Filter], event: &Event, case: &Case) -> bool {
    filters.iter().all(|filter| filter.passes(event, case))
}

impl Filter {
    /// What stands for it in a list of filters that must all hold.
    fn requests(&self) -> Vec<Value> {
        match self {
            Self::Tests(number) => tests(*number),
            Self::Any(filters) => vec![json!({"any": filters.iter().map(Self::one).collect::<Vec<_>>()})],
            Self::All(filters) => vec![json!({"all": request(filters)})],
            Self::Did(did) => vec![did.request()],
        }
    }

    fn one(&self) -> Value {
        let mut requests = self.requests();
        if requests.len() == 1 { requests.remove(0) } else { json!({"all": requests}) }
    }

    fn passes(&self, event: &Event, case: &Case) -> bool {
        match self {
            Self::Tests(number) => holds(*number, event),
            Self::Any(filters) => filters.iter().any(|filter| filter.passes(event, case)),
            Self::All(filters) => pass(filters, event, case),
            Self::Did(did) => did.holds(event, case),
        }
    }
}

impl Did {
    fn request(&self) -> Value {
        let show = |at_ms| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let mut did = json!({"event": self.event, "filters": tests(self.tests)});
        if let Some(range) = self.range {
            did["from"] = json!(show(range.from));
            did["to"] = json!(show(range.until));
        }
        if let Some((operator, count)) = self.times {
            did["times"] = json!({operator: count});
        }
        json!({"did": did, "not": self.negated})
    }

    fn holds(&self, event: &Event, case: &Case) -> bool {
        let is_meant = |other: &&Event| {
            case.is_seen(other)
                && other.person == event.person
                && self.event.is_none_or(|kind| other.kind == kind)
                && self.range.is_none_or(|range| (range.from..range.until).contains(&other.at_ms))
                && holds(self.tests, other)
        };
        let count = case.events.iter().filter(is_meant).count();
        let is_met = match self.times {
            None => count >= 1,
            Some(("eq", times)) => count == times,
            Some(("gt", times)) => count > times,
            Some(("gte", times)) => count >= times,
            Some(("lt", times)) => count < times,
            Some((_, times)) => count <= times,
        };
        is_met != self.negated
    }
}

/// Tests of fields, by number.
fn tests(number: usize) -> Vec<Value> {
    let tests = match number {
        1 => json!([{"field": "country", "op": "eq", "value": "DE"}]),
        2 => json!([{"field": "properties.plan", "op": "neq", "value": "pro"}]),
        3 => json!([{"field": "properties.amount", "op": "gt", "value": 1}]),
        4 => json!([{"field": "properties.plan", "op": "exists"}]),
        5 => json!([{"field": "properties.plan", "op": "in", "value": ["", "it's \\ \"x\"\n\tü{p0:String}", 7, true]}]),
        6 => json!([{"field": "properties.plan", "op": "contains", "value": "\\ \"x"}]),
        8 => json!([{"field": "properties.plan", "op": "not_exists"}]),
        9 => json!([{"field": "properties.plan", "op": "neq", "value": null}]),
        10 => json!([{"field": "properties.amount", "op": "in", "value": [BIG, 2, 3.5]}]),
        11 => json!([{"field": "properties.amount", "op": "gt", "value": BIG - 1}]),
        12 => json!([{"field": "properties.amount", "op": "lt", "value": BIG}]),
        13 => json!([{"field": "properties.amount", "op": "lte", "value": BIG}, {"field": "properties.amount", "op": "gte", "value": 1.5}]),
        14 => json!([{"field": "properties.plan", "op": "eq", "value": BIG - 2}]),
        15 => json!([{"field": "properties.plan", "op": "in", "value": [0, "$none", null, BIG]}]),
        16 => json!([{"field": "session.pages", "op": "gte", "value": 1}]),
        17 => json!([{"field": "session.is_bounce", "op": "eq", "value": true}]),
        18 => {
            json!([{"field": "session.duration", "op": "lt", "value": 1_800_000.5}, {"field": "session.bounce", "op": "neq", "value": true}])
        }
        19 => json!([{"field": "session.entry_page", "op": "eq", "value": "/a"}]),
        20 => json!([{"field": "session.country", "op": "neq", "value": "DE"}, {"field": "session.events", "op": "in", "value": [1, 3]}]),
        21 => json!([{"field": "session.entry_page", "op": "not_exists"}, {"field": "session.start", "op": "gt", "value": 0}]),
        22 => json!([{"field": "session.exit_page", "op": "contains", "value": "b"}, {"field": "country", "op": "exists"}]),
        23 => json!([{"field": "person.plan", "op": "in", "value": ["", "pro", 7, 0.3, true, BIG]}]),
        24 => json!([{"field": "person.plan", "op": "not_exists"}]),
        25 => json!([{"field": "person.amount", "op": "gt", "value": 1}, {"field": "properties.plan", "op": "exists"}]),
        26 => json!([{"field": "person.plan", "op": "contains", "value": "o"}]),
        27 => {
            json!([{"field": "person.plan", "op": "not_in", "value": ["pro", 0, null]}, {"field": "session.pages", "op": "lt", "value": 3}])
        }
        28 => json!([{"field": "person.amount", "op": "neq", "value": BIG}]),
        7 => json!([{"field": "country", "op": "regex", "value": "^[DF]"}, {"field": "properties.amount", "op": "lte", "value": 3}]),
        _ => json!([]),
    };
    tests.as_array().unwrap().clone()
}

/// Whether an event passes the tests of that number.
fn holds(number: usize, event: &Event) -> bool {
    let text = event.plan.as_ref().and_then(Value::as_str);
    match number {
        1 => event.country == "DE",
        2 => text != Some("pro"),
        3 => event.amount.is_some_and(|amount| amount > 1),
        4 | 9 => event.plan.as_ref().is_some_and(|plan| !plan.is_null()),
        8 => event.plan.as_ref().is_none_or(Value::is_null),
        10 => event.amount.is_some_and(|amount| [BIG, 2].contains(&amount)),
        11 => event.amount == Some(BIG),
        12 => event.amount.is_some_and(|amount| amount < BIG),
        13 => event.amount.is_some_and(|amount| amount >= 2),
        14 => false,
        15 => event
            .plan
            .as_ref()
            .is_none_or(|plan| plan.is_null() || *plan == json!(BIG) || *plan == json!("$none") || plan.as_f64() == Some(0.0)),
        5 => event.plan.as_ref().is_some_and(|plan| {
            let texts = ["", "it's \\ \"x\"\n\tü{p0:String}"];
            text.is_some_and(|text| texts.contains(&text)) || *plan == json!(7) || *plan == json!(true)
        }),
        6 => text.is_some_and(|text| text.contains("\\ \"x")),
        16 => event.of_session.pages >= 1,
        17 => event.of_session.is_bounce(),
        18 => event.of_session.duration_ms <= 1_800_000 && !event.of_session.is_bounce(),
        19 => event.of_session.entry_page == "/a",
        20 => event.of_session.country != "DE" && [1, 3].contains(&event.of_session.events),
        21 => event.of_session.entry_page.is_empty(),
        23 => {
            let values = [json!(""), json!("pro"), json!(7), json!(0.3), json!(true), json!(BIG)];
            event.traits.plan.as_ref().is_some_and(|plan| values.contains(plan))
        }
        24 => event.traits.plan.is_none(),
        25 => event.traits.amount.is_some_and(|amount| amount > 1) && event.plan.as_ref().is_some_and(|plan| !plan.is_null()),
        26 => event.traits.plan.as_ref().and_then(Value::as_str).is_some_and(|plan| plan.contains('o')),
        27 => {
            let is_other = |plan: &Value| *plan != json!("pro") && plan.as_f64() != Some(0.0);
            event.traits.plan.as_ref().is_some_and(is_other) && event.of_session.pages < 3
        }
        28 => event.traits.amount != Some(BIG),
        22 => event.of_session.exit_page == "/b" && !event.country.is_empty(),
        7 => ["DE", "FR"].contains(&event.country) && event.amount.is_some_and(|amount| amount <= 3),
        _ => true,
    }
}
