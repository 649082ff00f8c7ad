//! The largest values of a breakdown, which have lines of their own.
//!
//! Events are told by value which line they belong to, and rows of the answer carry the line's number, never the value, which may be
//! long. So long may they be that not even the statement can carry them all: beyond [`MOST_TEXT`] it carries their hashes. Those are
//! keyed by a secret of the process, so nobody can send a value that counts as another.
//! Two values of one meaning (objects in arrays whose keys are in another order) are one line.

use std::sync::OnceLock;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::query::field::Field;
use crate::query::number::Number;
use crate::query::request;
use crate::query::run::{Row, number as shown_number};
use crate::query::sql::Statement;

/// The line of all values that are not among the largest.
pub(super) const OTHER: i64 = -1;
/// Bytes of values that a statement carries as they are.
const MOST_TEXT: usize = 65_536;

/// The values, the largest first.
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
    /// Reads rows of key and hash.
    pub(super) fn read(rows: &[Row]) -> Self {
        let mut tops = Self::default();
        for row in rows {
            let (key, hash) = (row.text(0).to_owned(), row.uint(1));
            let json =
                key.strip_prefix('o').filter(|text| text.starts_with(['[', '{'])).and_then(|text| request::parse(text.as_bytes()).ok());
            let known = json.as_ref().and_then(|json| tops.find(json));
            let line = known.unwrap_or(tops.lines as i64);
            tops.lines += usize::from(known.is_none());
            tops.values.push(Top { key, hash, line, json });
        }
        tops
    }

    /// Lines with a value of their own.
    pub(super) fn len(&self) -> usize {
        self.lines
    }

    /// The line of a missing value.
    pub(super) fn none(&self) -> i64 {
        self.lines as i64
    }

    /// The line of an array or object, if it has one.
    pub(super) fn find(&self, json: &Value) -> Option<i64> {
        self.values.iter().find(|top| top.json.as_ref().is_some_and(|known| is_same(known, json))).map(|top| top.line)
    }

    /// Appends the line of an event.
    pub(super) fn line(&self, to: Statement, field: &Field) -> Statement {
        let lines = self.values.iter().map(|top| top.line).chain([self.none()]);
        let to = to.sql("transform(");
        let to = match self.values.iter().map(|top| top.key.len()).sum::<usize>() {
            ..=MOST_TEXT => field.key(to).sql(", ").strings(self.values.iter().map(|top| &*top.key).chain(["z"])),
            _ => {
                let to = hash(to, |to| field.key(to)).sql(", arrayConcat(").uints(self.values.iter().map(|top| top.hash));
                hash(to.sql(", ["), |to| to.sql("'z'")).sql("])")
            }
        };
        to.sql(", ").ints(lines).sql(", toInt64(-1))")
    }

    /// What `line` shows, and which kind of line that is.
    pub(super) fn shown(&self, line: i64) -> (Box<RawValue>, &'static str) {
        let word = |word: &str| serde_json::value::to_raw_value(word).unwrap_or_default();
        if line == OTHER {
            return (word("$other"), "other");
        }
        match self.values.iter().find(|top| top.line == line) {
            Some(top) => (shown(&top.key), "value"),
            None => (word("$none"), "none"),
        }
    }
}

/// Appends the hash of what `key` appends.
pub(super) fn hash(to: Statement, key: impl FnOnce(Statement) -> Statement) -> Statement {
    static SECRET: OnceLock<(u64, u64)> = OnceLock::new();
    let secret = SECRET.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair());
    key(to.sql("sipHash64Keyed((").uint(secret.0).sql(", ").uint(secret.1).sql("), ")).sql(")")
}

/// A value as it was sent.
fn shown(key: &str) -> Box<RawValue> {
    let text = |text: &str| serde_json::value::to_raw_value(text).unwrap_or_default();
    match key.split_at_checked(1) {
        Some(("n", float)) => serde_json::value::to_raw_value(&float.parse().map_or(Value::Null, shown_number)).unwrap_or_default(),
        Some(("o", json)) => RawValue::from_string(json.to_owned()).unwrap_or_default(),
        Some((_, rest)) => text(rest),
        None => text(key),
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
        let rows: Vec<Row> = [r#"o[{"a":1,"b":2}]"#, "sx", r#"o[{"b":2.0,"a":1}]"#, "otrue", "o[9007199254740993]"]
            .iter()
            .map(|key| Row::of(vec![json!(key), json!(1)]))
            .collect();

        let tops = Tops::read(&rows);

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
