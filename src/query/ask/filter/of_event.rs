//! Filters told of an event alone, as it stands in the log, with the same result as in the store.
//!
//! What an event does not say by itself cannot be asked: its session, the traits of its person, what that person did.

use std::cmp::Ordering;

use regex::Regex;

use super::Filter;
use super::field_test::{Comparison, FieldTest, Scalar, Test, compiled};
use crate::event::field::Field as EventField;
use crate::event::packed::{Entry, EventHeader, Fields};
use crate::query::ask::field::Field;
use crate::query::ask::number::Number;
use crate::query::error::QueryError;
use crate::store::schema::{COLUMNS, Source};

/// Most tests: each event is put to all of them.
const MOST_TESTS: usize = 20;

/// Filters that must all hold.
#[derive(Debug, Default)]
pub(crate) struct EventFilters(Vec<Node>);

#[derive(Debug)]
enum Node {
    Test(Operand, Check),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// Where an event has a value.
#[derive(Debug)]
enum Operand {
    Id,
    Text(EventField),
    Number(EventField),
    Property(String),
}

#[derive(Debug)]
enum Check {
    OneOf { values: Vec<Scalar>, negated: bool },
    Contains(String),
    Regex(Box<Regex>),
    Compares(Comparison, Number),
    Exists { negated: bool },
}

/// A value of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held<'a> {
    Missing,
    /// Of a column; empty where it is missing.
    Column(&'a str),
    Text(&'a str),
    Number(f64),
    Json(&'a str),
}

impl EventFilters {
    /// Those filters.
    ///
    /// # Errors
    /// 400 `invalid_filter` where an event alone does not tell, `filter_too_complex`, `invalid_regex`.
    pub(crate) fn of(filters: &[Filter]) -> Result<Self, QueryError> {
        let filters = Self(filters.iter().map(node).collect::<Result<_, _>>()?);
        if filters.0.iter().map(Node::tests).sum::<usize>() > MOST_TESTS {
            return Err(QueryError::invalid(
                "filter_too_complex",
                format!("of events as they come at most {MOST_TESTS} filters are allowed"),
            ));
        }
        Ok(filters)
    }

    /// Whether an event passes.
    pub(crate) fn hold(&self, header: &EventHeader, fields: &Fields<'_>) -> bool {
        self.0.iter().all(|node| node.holds(header, fields))
    }
}

fn node(filter: &Filter) -> Result<Node, QueryError> {
    let each = |filters: &[Filter]| filters.iter().map(node).collect::<Result<Vec<_>, _>>();
    match filter {
        Filter::Field(FieldTest { field, test }) => Ok(Node::Test(operand(field).ok_or_else(untold)?, check(test)?)),
        Filter::All(filters) => Ok(Node::All(each(filters)?)),
        Filter::Any(filters) => Ok(Node::Any(each(filters)?)),
        Filter::Did(_) | Filter::Not(_) => Err(untold()),
    }
}

fn untold() -> QueryError {
    let message = "an event that comes does not tell by itself: only its own columns and `properties.` can be asked";
    QueryError::invalid("invalid_filter", message)
}

fn operand(field: &Field) -> Option<Operand> {
    match field {
        Field::Property(name) => Some(Operand::Property(name.clone())),
        Field::Text(sql) | Field::Number(sql) => {
            let column = COLUMNS.iter().find(|column| column.queried.is_some_and(|queried| queried.sql == *sql))?;
            match column.source {
                Source::Text(field) => Some(Operand::Text(field)),
                Source::Number(field) => Some(Operand::Number(field)),
                Source::EventId => Some(Operand::Id),
                _ => None,
            }
        }
        Field::Measure(_) | Field::Claim(_) | Field::Trait(_) => None,
    }
}

fn check(test: &Test) -> Result<Check, QueryError> {
    Ok(match test {
        Test::OneOf { values, negated } => Check::OneOf { values: values.clone(), negated: *negated },
        Test::Contains(part) => Check::Contains(part.clone()),
        Test::Compares(comparison, bound) => Check::Compares(*comparison, *bound),
        Test::Exists { negated } => Check::Exists { negated: *negated },
        Test::Regex(pattern) => {
            let refused = || {
                QueryError::invalid("invalid_regex", "the regular expression cannot be compiled, or takes too much for events as they come")
            };
            Check::Regex(Box::new(compiled(pattern).ok_or_else(refused)?))
        }
    })
}

impl Node {
    fn tests(&self) -> usize {
        match self {
            Self::Test(..) => 1,
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::tests).sum(),
        }
    }

    fn holds(&self, header: &EventHeader, fields: &Fields<'_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(header, fields)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(header, fields)),
            Self::Test(Operand::Id, check) => check.holds(Held::Column(&uuid::Uuid::from_bytes(header.event_id).to_string())),
            Self::Test(Operand::Text(field), check) => check.holds(Held::Column(fields.text(*field))),
            Self::Test(Operand::Number(field), check) => check.holds(number(fields.get(*field))),
            Self::Test(Operand::Property(name), check) => check.holds(property(fields, name)),
        }
    }
}

/// A whole number, little endian; 0 is none.
fn number(bytes: &[u8]) -> Held<'static> {
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    if number == 0 { Held::Missing } else { Held::Number(number as f64) }
}

fn property<'a>(fields: &Fields<'a>, name: &str) -> Held<'a> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
    let held = fields.properties().find_map(|entry| match entry {
        Entry::String(key, value) if key == name.as_bytes() => Some(Held::Text(text(value))),
        Entry::Number(key, value) if key == name.as_bytes() => Some(Held::Number(value)),
        Entry::Other(key, value) if key == name.as_bytes() => Some(Held::Json(text(value))),
        _ => None,
    });
    held.unwrap_or(Held::Missing)
}

impl Check {
    fn holds(&self, held: Held<'_>) -> bool {
        let held = if held == Held::Column("") { Held::Missing } else { held };
        let is_missing = held == Held::Missing;
        let text = match held {
            Held::Column(text) | Held::Text(text) => Some(text),
            _ => None,
        };
        match self {
            Self::OneOf { values, negated } => values.iter().any(|value| is_one(value, held, is_missing)) != *negated,
            Self::Contains(part) => text.is_some_and(|text| text.contains(part)),
            Self::Regex(regex) => text.is_some_and(|text| regex.is_match(text)),
            Self::Compares(comparison, bound) => compares(*comparison, bound, held),
            Self::Exists { negated } => is_missing == *negated,
        }
    }
}

fn is_one(value: &Scalar, held: Held<'_>, is_missing: bool) -> bool {
    match (value, held) {
        (Scalar::Missing, _) => is_missing,
        (Scalar::Text(text), Held::Column(held) | Held::Text(held)) => text == held,
        (Scalar::Number(number), Held::Number(held)) => number.exact.is_none() && number.float == held,
        (Scalar::Number(number), Held::Json(held)) => number.exact.is_some_and(|exact| held == exact.to_string()),
        (Scalar::Bool(claim), Held::Json(held)) => held == if *claim { "true" } else { "false" },
        _ => false,
    }
}

fn compares(comparison: Comparison, bound: &Number, held: Held<'_>) -> bool {
    let as_float = |held: f64| comparison.beside(bound.beside_float()).holds(held.partial_cmp(&bound.float));
    match held {
        Held::Number(held) => as_float(held),
        Held::Json(held) => match (held.parse::<i128>(), bound.floor()) {
            (Ok(digits), Some(floor)) => {
                let whole = comparison.beside(if bound.is_whole() { Ordering::Equal } else { Ordering::Greater });
                whole.holds(Some(digits.cmp(&floor)))
            }
            _ => held.parse().is_ok_and(as_float),
        },
        Held::Missing | Held::Column(_) | Held::Text(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::ids::{PersonKey, VisitorKey};
    use crate::event::packed::{EventView, EventWriter};
    use crate::query::ask::filter::parse_all;
    use crate::query::ask::{Context, Fields as Asked};

    fn filters(filters: Value) -> Result<EventFilters, QueryError> {
        let body = json!({"filters": filters});
        EventFilters::of(&parse_all(Asked::open(&body, &["filters"])?, &Context::new(1_767_355_200_000))?)
    }

    /// Whether an event of a shop passes.
    fn passes(asked: Value) -> bool {
        let mut bytes = Vec::new();
        let mut writer = EventWriter::begin(&mut bytes);
        writer.field(EventField::Type, b"order");
        writer.field(EventField::Country, b"DE");
        writer.field(EventField::ScreenWidth, &1280_u16.to_le_bytes());
        writer.string(b"plan", "pro\nü".as_bytes());
        writer.string(b"note", b"");
        writer.number(b"price", -0.0);
        writer.number(b"seats", 2.5);
        writer.other(b"number", b"9007199254740993");
        writer.other(b"is_new", b"true");
        writer.other(b"list", b"[1]");
        let (visitor, person) = (VisitorKey(1), PersonKey(1));
        writer.finish(&EventHeader { event_id: [1; 16], visitor, person, ..EventHeader::default() });
        let view = EventView::take(&mut bytes.as_slice()).unwrap();
        filters(asked).unwrap().hold(&view.header, &Fields::of(&view).unwrap())
    }

    #[test]
    fn an_event_passes_as_it_would_in_the_store() {
        let test = |field: &str, op: &str, value: Value| json!([{"field": field, "op": op, "value": value}]);
        let id = uuid::Uuid::from_bytes([1; 16]).to_string();
        for (field, op, value) in [
            ("type", "eq", json!("order")),
            ("event", "in", json!(["a", "order"])),
            ("country", "neq", json!("FR")),
            ("country", "exists", Value::Null),
            ("os", "eq", Value::Null),
            ("os", "neq", json!("")),
            ("os", "not_exists", Value::Null),
            ("os", "neq", json!("x")),
            ("eventId", "eq", json!(id)),
            ("screen_width", "gt", json!(1279.5)),
            ("screen_width", "in", json!([1280])),
            ("screen_height", "not_exists", Value::Null),
            ("screen_height", "neq", json!(0)),
            ("properties.plan", "contains", json!("ro")),
            ("properties.plan", "regex", json!("^p.*ü$")),
            ("properties.plan", "neq", json!(7)),
            ("properties.note", "eq", json!("")),
            ("properties.note", "exists", Value::Null),
            ("properties.nothing", "neq", json!("")),
            ("properties.nothing", "in", json!([null, 1])),
            ("properties.price", "eq", json!(0)),
            ("properties.price", "lte", json!(0)),
            ("properties.seats", "gt", json!(2)),
            ("properties.number", "eq", json!(9_007_199_254_740_993_i64)),
            ("properties.number", "gt", json!(9_007_199_254_740_992_i64)),
            ("properties.number", "lt", json!(1e300)),
            ("properties.is_new", "eq", json!(true)),
        ] {
            assert!(passes(test(field, op, value.clone())), "{field} {op} {value}");
        }
        for (field, op, value) in [
            ("type", "eq", json!("Order")),
            ("country", "contains", json!("d")),
            ("os", "contains", json!("x")),
            ("os", "contains", json!("")),
            ("os", "eq", json!("")),
            ("os", "regex", json!(".*")),
            ("screen_height", "lt", json!(1)),
            ("properties.plan", "regex", json!("^ü")),
            ("properties.plan", "gt", json!(0)),
            ("properties.note", "eq", Value::Null),
            ("properties.nothing", "eq", json!("")),
            ("properties.number", "eq", json!(9_007_199_254_740_992_i64)),
            ("properties.number", "gte", json!(9_007_199_254_740_994_i64)),
            ("properties.is_new", "gt", json!(0)),
            ("properties.is_new", "neq", json!(true)),
            ("properties.list", "gte", json!(1)),
            ("properties.list", "contains", json!("1")),
        ] {
            assert!(!passes(test(field, op, value.clone())), "{field} {op} {value}");
        }
        let (yes, no) = (json!({"field": "country", "value": "DE"}), json!({"field": "country", "value": "FR"}));
        assert!(passes(json!([{"any": [no, {"all": [yes, yes]}]}])) && passes(json!([])));
        assert!(!passes(json!([yes, no])) && !passes(json!([{"all": [yes, no]}])));
    }

    #[test]
    fn what_an_event_alone_does_not_tell_is_refused() {
        for (asked, code) in [
            (json!([{"field": "session.pages", "value": 1}]), "invalid_filter"),
            (json!([{"field": "sessionId", "value": "x"}]), "invalid_filter"),
            (json!([{"field": "language", "value": "de"}]), "invalid_filter"),
            (json!([{"field": "person.plan", "value": "pro"}]), "invalid_filter"),
            (json!([{"any": [{"field": "country", "value": "DE"}, {"did": {"event": "buy", "from": "-7d"}}]}]), "invalid_filter"),
            (json!([{"cohort": "paying"}]), "unknown_cohort"),
            (json!([{"field": "properties.a", "op": "regex", "value": "(a{900}){900}"}]), "invalid_regex"),
            (Value::from(vec![json!({"field": "country", "value": "DE"}); 21]), "filter_too_complex"),
        ] {
            assert_eq!(filters(asked.clone()).unwrap_err().code, code, "{asked}");
        }
    }
}
