//! The lines of a breakdown of people, and what the reports about people are asked for.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::filters::{self, Filter};
use super::paths::{self, Paths};
use super::retention::{self, Retention};
use super::trends::{shown, top};
use super::{Event, Key, Range};
use crate::report::{Asker, Case};

/// Options of the reports about people, beside those of all reports.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// day, week or month.
    pub(crate) period: &'static str,
    /// The events asked for.
    pub(crate) events: [Asked; 2],
    pub(crate) retention: Retention,
    pub(crate) paths: Paths,
}

/// Which events are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    kind: Option<&'static str>,
    filters: Vec<Filter>,
}

pub(crate) fn options() -> impl Strategy<Value = Options> {
    let period = prop::sample::select(vec!["day", "week", "month"]);
    let kind = prop::sample::select(vec![None, None, Some("view"), Some("buy")]);
    let asked = || (kind.clone(), prop_oneof![2 => Just(0), 1 => 1_usize..23]);
    let asked =
        || asked().prop_map(|(kind, number)| Asked { kind, filters: (number > 0).then_some(Filter::Tests(number)).into_iter().collect() });
    (period, asked(), asked(), retention::options(), paths::options()).prop_map(|(period, first, second, retention, paths)| Options {
        period,
        events: [first, second],
        retention,
        paths,
    })
}

impl Asked {
    /// As a request has it.
    pub(crate) fn request(&self) -> Value {
        json!({"event": self.kind, "filters": filters::request(&self.filters)})
    }

    /// Whether an event is meant; what the whole request filters is another question.
    pub(crate) fn is(&self, event: &Event, case: &Case) -> bool {
        self.kind.is_none_or(|kind| event.kind == kind) && filters::pass(&self.filters, event, case)
    }

    /// The events of a case that are meant and pass its filters.
    pub(crate) fn of<'c>(&self, case: &'c Case) -> Vec<&'c Event> {
        case.events.iter().filter(|event| case.passes(event) && self.is(event, case)).collect()
    }
}

/// A line of a breakdown.
pub(crate) struct Line {
    pub(crate) shown: Value,
    pub(crate) kind: Value,
    /// Whether it is there even where nothing is in it.
    pub(crate) is_own: bool,
    keys: Keys,
}

enum Keys {
    All,
    Only(Key),
    None(Key),
    AllBut(Vec<Key>),
}

impl Line {
    /// Whether an event is in it.
    pub(crate) fn has(&self, event: &Event, case: &Case) -> bool {
        let key = event.key(case.breakdown);
        match &self.keys {
            Keys::All => true,
            Keys::Only(own) | Keys::None(own) => key == *own,
            Keys::AllBut(others) => !others.contains(&key),
        }
    }

    /// What names it in a bar.
    pub(crate) fn name(&self, of: &mut Value) {
        if !self.kind.is_null() {
            of["breakdown_value"] = self.shown.clone();
            of["breakdown_kind"] = self.kind.clone();
        }
    }
}

/// The lines by how many persons have their value in events of the case's range, largest first, then `$other` and `$none`.
pub(crate) fn lines(case: &Case, events: &[&Event]) -> Vec<Line> {
    lines_in(case.range, case, events)
}

/// The same by events of `range`.
pub(crate) fn lines_in(range: Range, case: &Case, events: &[&Event]) -> Vec<Line> {
    let (breakdown, none) = (case.breakdown, case.breakdown.none());
    if breakdown.fields.is_empty() {
        return vec![Line { shown: Value::Null, kind: Value::Null, is_own: true, keys: Keys::All }];
    }
    let tops = top(events, range, ("unique_users", breakdown), case.limit);
    let own = |key: &Key| {
        let (shown, kind) = shown(key, breakdown);
        Line { shown, kind, is_own: true, keys: Keys::Only(key.clone()) }
    };
    let mut lines: Vec<Line> = tops.iter().map(own).collect();
    let same = |value: &str| if breakdown.is_list { json!(vec![value; breakdown.fields.len()]) } else { json!(value) };
    let others = tops.into_iter().chain([none.clone()]).collect();
    lines.push(Line { shown: same("$other"), kind: same("other"), is_own: false, keys: Keys::AllBut(others) });
    lines.push(Line { shown: same("$none"), kind: same("none"), is_own: false, keys: Keys::None(none) });
    lines
}

/// What all reports about people are asked for.
pub(crate) fn request(case: &Case, event: &Asked) -> Value {
    let mut request = case.request();
    let object = request.as_object_mut().unwrap();
    ["formula", "series", "interval"].iter().for_each(|key| drop(object.remove(*key)));
    let asked = event.request();
    object.insert("event".to_owned(), asked["event"].clone());
    let filters = case.filters_request().as_array().unwrap().iter().chain(asked["filters"].as_array().unwrap()).cloned().collect();
    object.insert("filters".to_owned(), filters);
    request
}

/// As many people are behind a bar as it says.
pub(crate) fn check_bar(asker: Asker<'_>, of: &Value, is_compared: bool, people: usize) -> Result<(), TestCaseError> {
    let users = asker.ask("users", &json!({"of": of, "compare": is_compared, "limit": 1_000}));
    prop_assert_eq!(&users["total"], &json!(people), "{}", of);
    prop_assert_eq!(users["users"].as_array().unwrap().len(), people, "{}", of);
    Ok(())
}

/// Whether a time is in a range.
pub(crate) fn is_in(range: Range, at_ms: i64) -> bool {
    (range.from..range.until).contains(&at_ms)
}
