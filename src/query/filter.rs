//! Conditions on events: `{"field","op","value"}`.
//!
//! Values match by kind: a text matches texts, a number numbers, a boolean or null only itself. `neq` and `not_in` also
//! hold where the field is missing. `contains` is case-sensitive and knows no wildcards; `regex` is RE2, found anywhere.

use serde_json::Value;

use super::error::{QueryError, nearest};
use super::event_id;
use super::field::Field;
use super::request::{Fields, shortened};
use super::sql::Statement;

/// Most conditions of one request.
const MAX_FILTERS: usize = 100;
/// Most values of one list; a literal of this size still parses in milliseconds.
const MAX_VALUES: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    OneOf { values: Vec<Value>, negated: bool },
    Contains(String),
    Regex(String),
    Compares(Comparison, f64),
    Exists { negated: bool },
}

/// One checked condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    field: Field,
    test: Test,
}

const OPS: [&str; 12] = ["eq", "neq", "in", "not_in", "contains", "gt", "gte", "lt", "lte", "exists", "not_exists", "regex"];

/// Checks the conditions under `filters`.
pub(crate) fn parse_all(fields: Fields<'_>) -> Result<Vec<Filter>, QueryError> {
    let list = fields.list("filters", "invalid_filter")?;
    if list.len() > MAX_FILTERS {
        return Err(QueryError::invalid("filter_too_complex", format!("at most {MAX_FILTERS} filters are allowed")));
    }
    list.iter().map(Filter::parse).collect()
}

/// Appends ` AND (...)` for every condition.
pub(crate) fn and_all(to: Statement, filters: &[Filter]) -> Statement {
    filters.iter().fold(to, |to, filter| filter.append(to.sql(" AND (")).sql(")"))
}

impl Filter {
    fn parse(value: &Value) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["field", "op", "value"])?;
        let name =
            fields.text("field", "invalid_field")?.ok_or_else(|| QueryError::invalid("invalid_field", "a filter needs a `field`"))?;
        let field = Field::parse(name)?;
        let by_id = event_id::filter(name, value);
        let value = by_id.as_ref().unwrap_or(value);
        let op = fields.text("op", "invalid_operator")?.unwrap_or("eq");
        let test = Test::parse(op, value.get("value").unwrap_or(&Value::Null))?;
        let filter = Self { field, test };
        filter.check_kinds(name)?;
        Ok(filter)
    }

    /// A column has one kind, so a value of another kind is a mistake and not a mere miss.
    fn check_kinds(&self, name: &str) -> Result<(), QueryError> {
        let fits = match (&self.field, &self.test) {
            (Field::Property(_), _) | (_, Test::Exists { .. }) => true,
            (Field::Text(_), Test::OneOf { values, .. }) => values.iter().all(Value::is_string),
            (Field::Text(_), test) => !matches!(test, Test::Compares(..)),
            (Field::Number(_), Test::OneOf { values, .. }) => values.iter().all(Value::is_number),
            (Field::Number(_), test) => matches!(test, Test::Compares(..)),
        };
        if fits { Ok(()) } else { Err(QueryError::invalid("invalid_value", format!("operator or value does not fit the field `{name}`"))) }
    }

    fn append(&self, to: Statement) -> Statement {
        match &self.test {
            Test::OneOf { values, negated } => {
                let to = if *negated { to.sql("NOT (") } else { to.sql("(") };
                one_of(to, &self.field, values).sql(")")
            }
            Test::Contains(part) => text_test(to, &self.field, "position(", part).sql(" > 0"),
            Test::Regex(pattern) => text_test(to, &self.field, "match(", pattern),
            Test::Compares(comparison, bound) => {
                let to = self.field.has_number(to).sql(" AND ");
                self.field.number(to).sql(comparison.sql()).float(*bound)
            }
            Test::Exists { negated } => {
                let to = self.field.key(to);
                if *negated { to.sql(" = 'z'") } else { to.sql(" != 'z'") }
            }
        }
    }
}

impl Comparison {
    const fn sql(self) -> &'static str {
        match self {
            Self::Greater => " > ",
            Self::GreaterOrEqual => " >= ",
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
        }
    }
}

impl Test {
    fn parse(op: &str, value: &Value) -> Result<Self, QueryError> {
        let compares = |comparison| match value.as_f64() {
            Some(bound) => Ok(Self::Compares(comparison, bound)),
            None => Err(QueryError::invalid("invalid_value", format!("`{op}` needs a number"))),
        };
        let text = || match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(QueryError::invalid("invalid_value", format!("`{op}` needs a string"))),
        };
        match op {
            "eq" => Ok(Self::OneOf { values: vec![scalar(value)?], negated: false }),
            "neq" => Ok(Self::OneOf { values: vec![scalar(value)?], negated: true }),
            "in" => Ok(Self::OneOf { values: list(value)?, negated: false }),
            "not_in" => Ok(Self::OneOf { values: list(value)?, negated: true }),
            "contains" => Ok(Self::Contains(text()?)),
            "regex" => Ok(Self::Regex(text()?)),
            "gt" => compares(Comparison::Greater),
            "gte" => compares(Comparison::GreaterOrEqual),
            "lt" => compares(Comparison::Less),
            "lte" => compares(Comparison::LessOrEqual),
            "exists" => Ok(Self::Exists { negated: false }),
            "not_exists" => Ok(Self::Exists { negated: true }),
            other => {
                let hint = nearest(other, OPS);
                Err(QueryError::invalid("invalid_operator", format!("unknown operator `{}`, did you mean `{hint}`?", shortened(other))))
            }
        }
    }
}

fn scalar(value: &Value) -> Result<Value, QueryError> {
    match value {
        Value::Array(_) | Value::Object(_) => Err(QueryError::invalid("invalid_value", "a value is a string, number, boolean or null")),
        scalar => Ok(scalar.clone()),
    }
}

fn list(value: &Value) -> Result<Vec<Value>, QueryError> {
    let Value::Array(values) = value else {
        return Err(QueryError::invalid("invalid_value", "`in` and `not_in` need an array"));
    };
    if values.len() > MAX_VALUES {
        return Err(QueryError::invalid("too_many_values", format!("at most {MAX_VALUES} values are allowed")));
    }
    values.iter().map(scalar).collect()
}

fn one_of(to: Statement, field: &Field, values: &[Value]) -> Statement {
    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    let mut to = to.sql("0");
    if !texts.is_empty() {
        to = match field {
            Field::Text(sql) => to.sql(" OR ").sql(sql).sql(" IN "),
            Field::Number(_) => to.sql(" OR '' IN "),
            Field::Property(name) => {
                to = to.sql(" OR ");
                // A missing key reads as an empty text, so only a search for that one has to ask for the key.
                if texts.contains(&"") {
                    to = to.sql("mapContains(strings, ").string(name).sql(") AND ");
                }
                to.sql("strings[").string(name).sql("] IN ")
            }
        }
        .strings(texts);
    }
    if !numbers.is_empty() {
        to = field.has_number(to.sql(" OR "));
        to = field.number(to.sql(" AND ")).sql(" IN ").floats(numbers);
    }
    if let Field::Property(name) = field {
        let others: Vec<String> = values.iter().filter(|value| value.is_boolean() || value.is_null()).map(Value::to_string).collect();
        if !others.is_empty() {
            to = to.sql(" OR others[").string(name).sql("] IN ").strings(others.iter().map(String::as_str));
        }
    }
    to
}

fn text_test(to: Statement, field: &Field, function: &'static str, argument: &str) -> Statement {
    match field {
        Field::Text(sql) | Field::Number(sql) => to.sql(function).sql(sql),
        Field::Property(name) => {
            to.sql("mapContains(strings, ").string(name).sql(") AND ").sql(function).sql("strings[").string(name).sql("]")
        }
    }
    .sql(", ")
    .string(argument)
    .sql(")")
}
