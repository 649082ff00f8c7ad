//! The wire side of a request: JSON objects whose every key is known, read field by field with errors that name the field.

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

/// The body as JSON.
///
/// # Errors
/// 400 `invalid_json`, `too_many_values`.
pub(crate) fn parse(body: &[u8]) -> Result<Value, QueryError> {
    check_size(body)?;
    serde_json::from_slice(body).map_err(|fault| {
        QueryError::invalid("invalid_json", format!("the body is not valid JSON (line {}, column {})", fault.line(), fault.column()))
    })
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
            _ => Err(QueryError::invalid("invalid_limit", format!("`{key}` must be a whole number from 1 to {max}"))),
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
    fn a_body_of_nothing_but_short_values_is_refused_and_the_longest_list_is_not() {
        for (body, values) in [("[1", ",1"), ("[{}", ",{}"), ("{\"a\":1", ",\"a\":1"), ("[[", ",[")] {
            let refused = parse(format!("{body}{}", values.repeat(MAX_NODES)).as_bytes()).unwrap_err();
            assert_eq!(refused.code, "too_many_values", "{body}");
        }
        let longest = serde_json::json!({"filters": vec![serde_json::json!({"value": vec!["a, b"; 10_000]}); 5]});
        assert_eq!(parse(longest.to_string().as_bytes()).unwrap(), longest);
    }
}
