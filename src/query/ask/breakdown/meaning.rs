//! What arrays and objects mean, however they are written.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use serde_json::Value;

use crate::query::ask::fields;
use crate::query::ask::number::Number;

/// What stands for all values of JSON that mean the same, in whatever order their keys are and however their numbers are written. A hash
/// instead of the value, which takes many times the room of its text; under keys of the process, so that no client can make two meanings one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning([u64; 2]);

impl Meaning {
    /// Of an array or object that is written as JSON; none of anything else.
    pub(super) fn of_json(json: &str) -> Option<Self> {
        let value = json.starts_with(['[', '{']).then(|| fields::parse(json.as_bytes()).ok()).flatten();
        value.map(|value| Self::of(&value))
    }

    fn of(value: &Value) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self([0, 1].map(|key| KEYS.each_ref()[key].hash_one(Canon(value))))
    }
}

/// A value of JSON that is hashed by what it means.
struct Canon<'a>(&'a Value);

impl Hash for Canon<'_> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        match self.0 {
            Value::Null => to.write_u8(0),
            Value::Bool(claim) => (1_u8, claim).hash(to),
            Value::String(text) => (2_u8, text).hash(to),
            Value::Number(_) => {
                let number = Number::of(self.0).map(|Number { float, exact }| (float.to_bits(), exact));
                (3_u8, number).hash(to);
            }
            Value::Array(values) => {
                (4_u8, values.len()).hash(to);
                values.iter().for_each(|value| Canon(value).hash(to));
            }
            Value::Object(members) => {
                (5_u8, members.len()).hash(to);
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                members.into_iter().for_each(|(key, value)| (key, Canon(value)).hash(to));
            }
        }
    }
}
