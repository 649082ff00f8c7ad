//! Breakdowns: the largest values have lines of their own, `$other` stands for all beyond them and `$none` for events without a value.
//!
//! An event is assigned to its line by value, and rows of the answer carry the line's number, never the value, which may be long. A
//! statement carries the values themselves up to [`MOST_TEXT`] bytes, and beyond that their hashes. Those are keyed by a secret of the
//! process, so no client can send a value that counts as another. Two values of one meaning (objects in arrays whose keys are in
//! another order) are one line.

use std::sync::OnceLock;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::canonical::{Canonical, CanonicalForm};
use super::expr::Expr;
use super::field::{Field, Kind};
use super::fields::{self, Fields};
use super::number::Number;
use crate::query::error::QueryError;
use crate::query::reader::{Row, number as shown_number};

/// The line of all values that are not among the largest.
pub(crate) const OTHER: i64 = -1;
/// Bytes of values that a statement carries as they are.
const MOST_TEXT: usize = 65_536;

/// `breakdown` and `limit` of a request.
#[derive(Clone, Debug)]
pub(crate) struct Breakdown {
    /// The field; none means one line of all events.
    pub(crate) field: Option<Field>,
    /// Most values with a line of their own.
    pub(crate) limit: u64,
}

impl Breakdown {
    /// Reads `breakdown` and `limit`.
    ///
    /// # Errors
    /// 400 `invalid_breakdown`, `invalid_limit`, and as [`Field::parse`].
    pub(crate) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        let field = fields.text("breakdown", "invalid_breakdown")?.map(Field::parse).transpose()?;
        Ok(Self { field, limit: fields.limit("limit", 25, 1_000)? })
    }

    /// Most lines of an answer, `$other` and `$none` included.
    pub(crate) fn most_lines(&self) -> u64 {
        if self.field.is_some() { self.limit + 2 } else { 1 }
    }

    /// Ranks the values: the columns `key`, `hash` and, by `measure`, `size`.
    pub(crate) fn ranking(field: &Field, measure: Expr) -> super::Select {
        super::Select::default().named(field.key(), " AS key").named(hash("key".into()), " AS hash").named(measure, " AS size")
    }

    /// What follows a ranking's selection: the largest values, the largest first. Missing ones have no rank.
    pub(crate) fn largest(&self) -> Expr {
        Expr::from(" GROUP BY key ORDER BY size DESC NULLS LAST, key LIMIT ").then(Expr::uint(self.limit))
    }

    /// The condition of a ranking that there is a value.
    pub(crate) fn is_ranked() -> Expr {
        Expr::from("key != ").then(Kind::Missing.key())
    }
}

impl Canonical for Breakdown {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { field, limit } = self;
        to.field("field", field).field("limit", limit);
    }
}

/// The values with lines of their own, the largest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tops {
    values: Vec<Top>,
    /// Lines with a value of their own.
    lines: usize,
}

#[derive(Clone, Debug)]
struct Top {
    key: String,
    hash: u64,
    line: i64,
    /// As JSON, if it is an array or an object.
    json: Option<Value>,
}

impl Tops {
    /// Reads the rows of a ranking.
    pub(crate) fn read(rows: &[Row]) -> Self {
        let mut tops = Self::default();
        for row in rows {
            let [key, hash] = row.columns();
            let (key, hash) = (key.text().to_owned(), hash.uint());
            let json = Kind::split(&key).filter(|(kind, text)| *kind == Kind::Json && text.starts_with(['[', '{']));
            let json = json.and_then(|(_, text)| fields::parse(text.as_bytes()).ok());
            let known = json.as_ref().and_then(|json| tops.find(json));
            let line = known.unwrap_or(tops.lines as i64);
            tops.lines += usize::from(known.is_none());
            tops.values.push(Top { key, hash, line, json });
        }
        tops
    }

    /// Lines with a value of their own.
    pub(crate) fn len(&self) -> usize {
        self.lines
    }

    /// The line of a missing value.
    pub(crate) fn none(&self) -> i64 {
        self.lines as i64
    }

    /// The line of an array or object, if it has one.
    fn find(&self, json: &Value) -> Option<i64> {
        self.values.iter().find(|top| top.json.as_ref().is_some_and(|known| is_same(known, json))).map(|top| top.line)
    }

    /// The line of an event.
    pub(crate) fn line(&self, field: &Field) -> Expr {
        let lines = Expr::ints(self.values.iter().map(|top| top.line).chain([self.none()]));
        let (value, values) = match self.values.iter().map(|top| top.key.len()).sum::<usize>() {
            ..=MOST_TEXT => (field.key(), Expr::texts(self.values.iter().map(|top| &*top.key).chain([Kind::Missing.letter()]))),
            _ => {
                let none = Expr::from("[").then(hash(Kind::Missing.key())).then("]");
                (hash(field.key()), Expr::call("arrayConcat", [Expr::uints(self.values.iter().map(|top| top.hash)), none]))
            }
        };
        Expr::call("transform", [value, values, lines, "toInt64(-1)".into()])
    }

    /// What `line` shows, and which kind of line that is.
    pub(crate) fn shown(&self, line: i64) -> (Box<RawValue>, &'static str) {
        if line == OTHER {
            return (raw("$other"), "other");
        }
        match self.values.iter().find(|top| top.line == line) {
            Some(top) => (shown(&top.key), "value"),
            None => (raw("$none"), "none"),
        }
    }
}

/// `breakdown_value` and `breakdown_kind` of a bar: which line of a breakdown it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineOf {
    Text(String),
    Number(Number),
    Bool(bool),
    /// An array or object, as JSON text with its keys in order.
    Json(String),
    None,
    Other,
}

impl LineOf {
    /// The keys that [`Self::parse`] reads.
    pub(crate) const KEYS: [&'static str; 2] = ["breakdown_value", "breakdown_kind"];

    /// Reads `breakdown_value` and `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of`.
    pub(crate) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        let invalid = |message: &str| QueryError::invalid("invalid_of", message);
        let value = fields.value("breakdown_value");
        match (fields.text("breakdown_kind", "invalid_of")?, value) {
            (Some("none"), _) => Ok(Self::None),
            (Some("other"), _) => Ok(Self::Other),
            (None, Some(Value::String(word))) if word == "$none" => Ok(Self::None),
            (None, Some(Value::String(word))) if word == "$other" => Ok(Self::Other),
            (None | Some("value"), Some(value)) => Ok(Self::of(value)),
            (None | Some("value"), None) => Err(invalid("a bar of a chart with a `breakdown` needs its `breakdown_value`")),
            (Some(_), _) => Err(invalid("`breakdown_kind` is value, none or other")),
        }
    }

    fn of(value: &Value) -> Self {
        if let Some(number) = Number::of(value) {
            return Self::Number(number);
        }
        match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Bool(claim) => Self::Bool(*claim),
            other => Self::Json(other.to_string()),
        }
    }

    /// Whether the largest values decide which events are in the line.
    pub(crate) fn needs_tops(&self) -> bool {
        matches!(self, Self::Other | Self::Json(_))
    }

    /// The condition that an event is in the line of a breakdown by `field`; `tops` are its largest values, where they are needed.
    pub(crate) fn condition(&self, field: &Field, tops: &Tops) -> Expr {
        let is = |key: Expr| field.key().infix(" = ", key);
        match self {
            Self::None => field.is_missing().grouped(),
            Self::Other => tops.line(field).infix(" = ", Expr::int(OTHER)),
            Self::Text(text) => is(Kind::Text.tag(Expr::text(text))),
            Self::Number(Number { exact: Some(exact), .. }) => is(Kind::Json.tag(Expr::text(exact.to_string()))),
            Self::Number(number) => is(Kind::Number.tag(Expr::call("toString", [Expr::float(number.float)]))),
            Self::Bool(true) => is("'otrue'".into()),
            Self::Bool(false) => is("'ofalse'".into()),
            Self::Json(json) => match fields::parse(json.as_bytes()).ok().and_then(|json| tops.find(&json)) {
                Some(line) => tops.line(field).infix(" = ", Expr::int(line)),
                None => is(Kind::Json.tag(Expr::text(json))),
            },
        }
    }
}

impl Canonical for LineOf {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Text(text) => to.field("text", text),
            Self::Number(number) => to.field("number", number),
            Self::Bool(claim) => to.field("bool", claim),
            Self::Json(json) => to.field("json", json),
            Self::None => to.field("none", &true),
            Self::Other => to.field("other", &true),
        };
    }
}

/// The hash of a key.
fn hash(key: Expr) -> Expr {
    static SECRET: OnceLock<(u64, u64)> = OnceLock::new();
    let (first, second) = *SECRET.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair());
    let secret = Expr::list(", ", [Expr::uint(first), Expr::uint(second)]).grouped();
    Expr::call("sipHash64Keyed", [secret, key])
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).unwrap_or_default()
}

/// A value as it was sent.
fn shown(key: &str) -> Box<RawValue> {
    match Kind::split(key) {
        Some((Kind::Number, float)) => to_raw_value(&float.parse().map_or(Value::Null, shown_number)).unwrap_or_default(),
        Some((Kind::Json, json)) => RawValue::from_string(json.to_owned()).unwrap_or_default(),
        Some((Kind::Text | Kind::Missing, text)) => raw(text),
        None => raw(key),
    }
}

/// Whether two values of JSON mean the same: in whatever order their keys are, and however their numbers are written.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| is_same(value, other)))
        }
        (left, right) => match (Number::of(left), Number::of(right)) {
            (Some(left), Some(right)) => left == right,
            _ => left == right,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_one_meaning_are_one_line() {
        let keys = [r#"o[{"a":1,"b":2}]"#, "sx", r#"o[{"b":2.0,"a":1}]"#, "otrue", "o[9007199254740993]"];

        let tops = Tops::read(&keys.map(|key| Row::of(vec![json!(key), json!(1)])));

        let lines: Vec<i64> = tops.values.iter().map(|top| top.line).collect();
        assert_eq!((lines, tops.len(), tops.none()), (vec![0, 1, 0, 2, 3], 4, 4));
        assert_eq!(tops.find(&json!([{"b": 2, "a": 1.0}])), Some(0));
        assert_eq!(tops.find(&json!([9_007_199_254_740_993_i64])), Some(3));
        assert_eq!(tops.find(&json!([9_007_199_254_740_992_i64])), None);
        assert_eq!(tops.shown(3).0.get(), "[9007199254740993]");
        assert_eq!((tops.shown(4).1, tops.shown(OTHER).1), ("none", "other"));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// The text of a value with the keys of its objects turned round.
    fn turned(value: &Value) -> String {
        match value {
            Value::Array(values) => format!("[{}]", values.iter().map(turned).collect::<Vec<_>>().join(",")),
            Value::Object(map) => {
                let members: Vec<String> = map.iter().rev().map(|(key, value)| format!("{}:{}", json!(key), turned(value))).collect();
                format!("{{{}}}", members.join(","))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn a_line_is_found_with_its_keys_in_any_order(value in json_value()) {
            let stored = json!([value]);
            let tops = Tops::read(&[Row::of(vec![json!(format!("o{}", turned(&stored))), json!(1)])]);
            prop_assert_eq!(tops.find(&stored), Some(0));
            prop_assert_eq!(serde_json::from_str::<Value>(tops.shown(0).0.get()).unwrap(), stored);
        }
    }
}
