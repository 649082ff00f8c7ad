//! The wire side of a request: JSON objects whose every key is known, read field by field with errors that name the field.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::query::error::{QueryError, nearest};

/// A JSON object of a request, all of whose keys are known.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
}

/// Refuses a body of which far more would be made than it is itself.
///
/// # Errors
/// 400 `too_many_values`.
pub(crate) fn check_size(body: &[u8]) -> Result<(), QueryError> {
    // What stands in a text counts too: nobody writes texts of nothing else.
    let nodes = body.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    if nodes > MAX_NODES {
        return Err(QueryError::invalid("too_many_values", format!("the body has more than {MAX_NODES} values and keys")));
    }
    Ok(())
}

/// Most values and keys of a body. Each takes some 32 bytes once it is read, however short it is.
const MAX_NODES: usize = 128 << 10;

/// The body as JSON. A key that an object has twice is refused: which of both is meant nobody knows.
///
/// # Errors
/// 400 `invalid_json`, `too_many_values`.
pub(crate) fn parse(body: &[u8]) -> Result<Value, QueryError> {
    check_size(body)?;
    with_keys_once(body).map_err(|fault| {
        let message = match fault.is_data() {
            true => fault.to_string(),
            false => format!("the body is not valid JSON (line {}, column {})", fault.line(), fault.column()),
        };
        QueryError::invalid("invalid_json", message)
    })
}

/// Any JSON whose objects have each key once.
pub(crate) fn with_keys_once(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(body).map(|Once(value)| value)
}

/// Such JSON.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Self)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{}` is given twice", shortened(&key))));
            }
            let Once(value) = members.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// Refuses an address that gives a parameter twice, but for one that `may_repeat`.
///
/// # Errors
/// 400 `invalid_parameter`.
pub(crate) fn check_once(query: &str, may_repeat: Option<&str>) -> Result<(), QueryError> {
    let mut seen = HashSet::new();
    let mut names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    match names.find(|name| may_repeat != Some(&**name) && !seen.insert(name.clone())) {
        None => Ok(()),
        Some(twice) => Err(QueryError::invalid("invalid_parameter", format!("`{}` is given twice", shortened(&twice)))),
    }
}

impl<'a> Fields<'a> {
    /// `value` as an object that has no key outside `known`.
    ///
    /// # Errors
    /// 400 `invalid_request` (no object) or `unknown_key`.
    pub(crate) fn open(value: &'a Value, known: &[&'static str]) -> Result<Self, QueryError> {
        let Value::Object(object) = value else {
            return Err(QueryError::invalid("invalid_request", "expected a JSON object"));
        };
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { object }),
            Some(key) => {
                let hint = nearest(key, known.iter().copied());
                Err(QueryError::invalid("unknown_key", format!("unknown key `{}`, did you mean `{hint}`?", shortened(key))))
            }
        }
    }

    /// `value` as an object, whatever its keys are; what it is the report says.
    pub(crate) fn unchecked(value: &'a Value) -> Option<Self> {
        value.as_object().map(|object| Self { object })
    }

    /// The value under `key`; JSON null counts as absent.
    pub(crate) fn value(self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The text under `key`, if any.
    pub(crate) fn text(self, key: &str, code: &'static str) -> Result<Option<&'a str>, QueryError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(QueryError::invalid(code, format!("`{key}` must be a string"))),
        }
    }

    /// The boolean under `key`; false where absent.
    pub(crate) fn flag(self, key: &str, code: &'static str) -> Result<bool, QueryError> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(QueryError::invalid(code, format!("`{key}` must be true or false"))),
        }
    }

    /// The list under `key`; empty where absent.
    pub(crate) fn list(self, key: &str, code: &'static str) -> Result<&'a [Value], QueryError> {
        match self.value(key) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(QueryError::invalid(code, format!("`{key}` must be an array"))),
        }
    }

    /// The limit under `key`: a whole number from 1 to `max`, else `default`.
    ///
    /// # Errors
    /// 400 `invalid_limit`; nothing is clamped, so an answer is never silently shorter than asked.
    pub(crate) fn limit(self, key: &str, default: u64, max: u64) -> Result<u64, QueryError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        match value.as_u64() {
            Some(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => {
                let given = shortened(&value.to_string());
                Err(QueryError::invalid("invalid_limit", format!("`{key}` is `{given}`: it must be a whole number from 1 to {max}")))
            }
        }
    }
}

/// At most 64 characters of what a client sent, for messages.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_twice_is_refused_by_its_name() {
        for (body, key) in [
            (r#"{"sql": "SELECT 1", "sql": "SELECT 2"}"#, Some("sql")),
            (r#"{"a": [{"from": 1, "to": 2, "from": 1}]}"#, Some("from")),
            (r#"{"a": {"a": [1, -2, 1.5, 18446744073709551615, "\u00e4", null, true, {}]}, "b": []}"#, None),
        ] {
            match (parse(body.as_bytes()), key) {
                (Ok(read), None) => assert_eq!(read, serde_json::from_str::<Value>(body).unwrap()),
                (Err(refused), Some(key)) => {
                    assert!(
                        refused.code == "invalid_json" && refused.to_string().contains(&format!("`{key}` is given twice")),
                        "{refused}"
                    );
                }
                (found, _) => panic!("{body}: {found:?}"),
            }
        }
        assert!(parse(b"{\"a\": 1").unwrap_err().to_string().contains("is not valid JSON (line 1"));
        assert!(check_once("limit=1&cursor=x&limit=2", None).unwrap_err().to_string().contains("`limit` is given twice"));
        assert!(check_once("type=a&type=b&events=true", Some("type")).is_ok());
        assert!(check_once("type=a&type=b", None).is_err());
        assert!(check_once("l%69mit=1&limit=1", None).is_err());
    }

    #[test]
    fn a_limit_that_is_refused_is_told() {
        let body = serde_json::json!({"limit": 5_000});
        let refused = Fields::open(&body, &["limit"]).unwrap().limit("limit", 10, 1_000).unwrap_err();
        assert_eq!(refused.to_string(), "invalid_limit: `limit` is `5000`: it must be a whole number from 1 to 1000");
    }

    #[test]
    fn a_body_of_nothing_but_short_values_is_refused_and_the_longest_list_is_not() {
        for (body, values) in [("[1", ",1"), ("[{}", ",{}"), ("{\"a\":1", ",\"a\":1"), ("[[", ",[")] {
            let refused = parse(format!("{body}{}", values.repeat(MAX_NODES)).as_bytes()).unwrap_err();
            assert_eq!(refused.code, "too_many_values", "{body}");
        }
        let longest = serde_json::json!({"filters": vec![serde_json::json!({"value": vec!["a, b"; 10_000]}); 5]});
        assert_eq!(parse(longest.to_string().as_bytes()).unwrap(), longest);
    }
}
