//! Conditions on events: `{"field","op","value"}`.
//!
//! Values match by kind: a text matches texts, a number numbers, a boolean itself; null matches what is missing. `neq` and `not_in`
//! of anything else also hold where the field is missing. Whole numbers of up to 64 bits
//! compare exactly, all others as floats. `contains` is case-sensitive and knows no wildcards; `regex` is RE2, found anywhere.

use std::cmp::Ordering;

use serde_json::Value;

use super::error::{QueryError, nearest};
use super::event_id;
use super::field::Field;
use super::number::Number;
use super::request::{Fields, shortened};
use super::sql::Statement;

/// Most conditions of one request.
const MAX_FILTERS: usize = 100;
/// Most values of one list.
const MAX_VALUES: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    OneOf { values: Vec<Scalar>, negated: bool },
    Contains(String),
    Regex(String),
    Compares(Comparison, Number),
    Exists { negated: bool },
}

/// A value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scalar {
    Text(String),
    Number(Number),
    Bool(bool),
    Missing,
}

/// One checked condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
        let test = Test::parse(op, value.get("value"))?;
        let filter = Self { field, test };
        filter.check_kinds(name)?;
        Ok(filter)
    }

    /// A column has one kind, so a value of another kind is a mistake and not a mere miss.
    fn check_kinds(&self, name: &str) -> Result<(), QueryError> {
        let fits = match (&self.field, &self.test) {
            (Field::Property(_), _) | (_, Test::Exists { .. }) => true,
            (Field::Text(_), Test::OneOf { values, .. }) => values.iter().all(|value| matches!(value, Scalar::Text(_) | Scalar::Missing)),
            (Field::Text(_), test) => !matches!(test, Test::Compares(..)),
            (Field::Number(_), Test::OneOf { values, .. }) => {
                values.iter().all(|value| matches!(value, Scalar::Number(_) | Scalar::Missing))
            }
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
            Test::Regex(pattern) => {
                // Tried whatever there is to match, so that one that cannot be compiled is always refused.
                let to = to.sql("match('', ").string(pattern).sql(") IN (0, 1) AND ");
                text_test(to, &self.field, "match(", pattern)
            }
            Test::Compares(comparison, bound) => compares(to, &self.field, (*comparison, bound)),
            Test::Exists { negated } => self.field.is_missing(to.sql(if *negated { "(" } else { "NOT (" })).sql(")"),
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

    /// What holds of a number beside `near` if this holds of it beside a bound, where no number of its kind lies between the two;
    /// `bound` is how the bound stands to `near`.
    const fn beside(self, bound: Ordering) -> Self {
        match (self, bound) {
            (Self::Greater | Self::GreaterOrEqual, Ordering::Greater) => Self::Greater,
            (Self::Less | Self::LessOrEqual, Ordering::Greater) => Self::LessOrEqual,
            (Self::Greater | Self::GreaterOrEqual, Ordering::Less) => Self::GreaterOrEqual,
            (Self::Less | Self::LessOrEqual, Ordering::Less) => Self::Less,
            (same, Ordering::Equal) => same,
        }
    }
}

impl Test {
    fn parse(op: &str, value: Option<&Value>) -> Result<Self, QueryError> {
        let invalid = |what: &str| QueryError::invalid("invalid_value", format!("`{op}` needs {what}"));
        let given = || value.ok_or_else(|| invalid("a `value`"));
        let one = || Ok::<_, QueryError>(vec![scalar(given()?)?]);
        let compares = |comparison| {
            let bound = Number::of(given()?).ok_or_else(|| invalid("a number"))?;
            Ok(Self::Compares(comparison, bound))
        };
        let text = || given()?.as_str().map(str::to_owned).ok_or_else(|| invalid("a string"));
        match op {
            "eq" => Ok(Self::OneOf { values: one()?, negated: false }),
            "neq" => Ok(Self::OneOf { values: one()?, negated: true }),
            "in" => Ok(Self::OneOf { values: list(given()?)?, negated: false }),
            "not_in" => Ok(Self::OneOf { values: list(given()?)?, negated: true }),
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

fn scalar(value: &Value) -> Result<Scalar, QueryError> {
    if let Some(number) = Number::of(value) {
        return Ok(Scalar::Number(number));
    }
    match value {
        Value::Null => Ok(Scalar::Missing),
        Value::Bool(claim) => Ok(Scalar::Bool(*claim)),
        Value::String(text) => Ok(Scalar::Text(text.clone())),
        _ => Err(QueryError::invalid("invalid_value", "a value is a string, number, boolean or null")),
    }
}

fn list(value: &Value) -> Result<Vec<Scalar>, QueryError> {
    let Value::Array(values) = value else {
        return Err(QueryError::invalid("invalid_value", "`in` and `not_in` need an array"));
    };
    if values.len() > MAX_VALUES {
        return Err(QueryError::invalid("too_many_values", format!("at most {MAX_VALUES} values are allowed")));
    }
    values.iter().map(scalar).collect()
}

fn one_of(to: Statement, field: &Field, values: &[Scalar]) -> Statement {
    let to = one_of_texts(to.sql("0"), field, values);
    let to = one_of_numbers(to, field, values);
    let to = one_of_json(to, field, values);
    match values.contains(&Scalar::Missing) {
        true => field.is_missing(to.sql(" OR (")).sql(")"),
        false => to,
    }
}

fn one_of_texts(mut to: Statement, field: &Field, values: &[Scalar]) -> Statement {
    let texts: Vec<&str> = values.iter().filter_map(|value| if let Scalar::Text(text) = value { Some(&**text) } else { None }).collect();
    if texts.is_empty() {
        return to;
    }
    to = match field {
        Field::Text(sql) => to.sql(" OR ").sql(sql).sql(" IN "),
        Field::Number(_) => return to,
        Field::Property(name) => {
            to = to.sql(" OR ");
            // A missing key reads as an empty text, so only a search for that one has to ask for the key.
            if texts.contains(&"") {
                to = to.sql("mapContains(strings, ").string(name).sql(") AND ");
            }
            to.sql("strings[").string(name).sql("] IN ")
        }
    };
    to.strings(texts)
}

fn one_of_numbers(to: Statement, field: &Field, values: &[Scalar]) -> Statement {
    let floats: Vec<f64> = numbers(values).filter(|number| number.exact.is_none()).map(|number| number.float).collect();
    match field {
        _ if floats.is_empty() => to,
        Field::Text(_) => to,
        Field::Number(sql) => to.sql(" OR ").sql(sql).sql(" != 0 AND ").sql(sql).sql(" IN ").floats(floats),
        Field::Property(name) => {
            // Adding zero makes one of the two.
            let to = to.sql(" OR mapContains(numbers, ").string(name).sql(") AND numbers[").string(name);
            to.sql("] + 0 IN ").floats(floats)
        }
    }
}

/// What is kept as JSON text: booleans, and numbers that a float cannot hold.
fn one_of_json(to: Statement, field: &Field, values: &[Scalar]) -> Statement {
    let Field::Property(name) = field else { return to };
    let claims = values.iter().filter_map(|value| match value {
        Scalar::Bool(true) => Some("true"),
        Scalar::Bool(false) => Some("false"),
        _ => None,
    });
    let exact = numbers(values).filter_map(|number| number.exact).map(|exact| exact.to_string());
    let json: Vec<String> = claims.map(str::to_owned).chain(exact).collect();
    if json.is_empty() { to } else { to.sql(" OR others[").string(name).sql("] IN ").strings(json.iter().map(String::as_str)) }
}

fn numbers(values: &[Scalar]) -> impl Iterator<Item = &Number> {
    values.iter().filter_map(|value| if let Scalar::Number(number) = value { Some(number) } else { None })
}

/// Floats are compared as floats, and whole numbers that a float cannot hold as such.
fn compares(to: Statement, field: &Field, (comparison, bound): (Comparison, &Number)) -> Statement {
    let float = |to: Statement| to.sql(comparison.beside(bound.beside_float()).sql()).float(bound.float);
    let Field::Property(name) = field else {
        let to = field.has_number(to).sql(" AND ");
        return float(field.number(to));
    };
    let to = to.sql("mapContains(numbers, ").string(name).sql(") AND numbers[").string(name).sql("]");
    let to = float(to).sql(" OR others[").string(name).sql("] != '' AND ");
    let near = |to: Statement| float(to.sql("ifNull(toFloat64OrNull(others[").string(name).sql("])")).sql(", 0)");
    let Some(floor) = bound.floor() else { return near(to) };
    let whole = comparison.beside(if bound.is_whole() { Ordering::Equal } else { Ordering::Greater });
    let to = to.sql("ifNull(toInt128OrNull(others[").string(name).sql("])").sql(whole.sql()).int128(floor);
    near(to.sql(", ")).sql(")")
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
