//! The test of a field: `{"field","op","value"}`.
//!
//! Values match by kind: a text matches texts, a number numbers, a boolean itself; null matches what is missing. `neq` and `not_in`
//! of anything else also hold where the field is missing. Whole numbers of up to 64 bits
//! compare exactly, all others as floats. `contains` is case-sensitive and knows no wildcards; `regex` is RE2, found anywhere.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::query::ask::canonical::{Canonical, CanonicalForm};
use crate::query::ask::event_id;
use crate::query::ask::expr::Expr;
use crate::query::ask::field::Field;
use crate::query::ask::fields::{Fields, shortened};
use crate::query::ask::number::Number;
use crate::query::error::{QueryError, nearest};

/// Most values of one list.
const MAX_VALUES: usize = 10_000;
/// What a regular expression may take here, and its automaton as it grows, bytes.
const REGEX_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    OneOf { values: Vec<Scalar>, negated: bool },
    Contains(String),
    Regex(String),
    Compares(Comparison, Number),
    Exists { negated: bool },
}

/// A value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Text(String),
    Number(Number),
    Bool(bool),
    Missing,
}

/// A checked test of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldTest {
    pub(super) field: Field,
    pub(super) test: Test,
}

const OPS: [&str; 12] = ["eq", "neq", "in", "not_in", "contains", "gt", "gte", "lt", "lte", "exists", "not_exists", "regex"];

impl FieldTest {
    /// Checks a test.
    pub(super) fn parse(value: &Value) -> Result<Self, QueryError> {
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

    /// Whether it tests the session of an event.
    pub(super) fn is_of_session(&self) -> bool {
        self.field.is_of_session()
    }

    /// A column has one kind, so a value of another kind is a mistake and not a mere miss.
    fn check_kinds(&self, name: &str) -> Result<(), QueryError> {
        let fits = match (&self.field, &self.test) {
            (Field::Property(_) | Field::Trait(_), _) | (_, Test::Exists { .. }) => true,
            (Field::Text(_), Test::OneOf { values, .. }) => values.iter().all(|value| matches!(value, Scalar::Text(_) | Scalar::Missing)),
            (Field::Text(_), test) => !matches!(test, Test::Compares(..)),
            (Field::Claim(_), Test::OneOf { values, .. }) => values.iter().all(|value| matches!(value, Scalar::Bool(_) | Scalar::Missing)),
            (Field::Claim(_), _) => false,
            (Field::Number(_) | Field::Measure(_), Test::OneOf { values, .. }) => {
                values.iter().all(|value| matches!(value, Scalar::Number(_) | Scalar::Missing))
            }
            (Field::Number(_) | Field::Measure(_), test) => matches!(test, Test::Compares(..)),
        };
        if fits { Ok(()) } else { Err(QueryError::invalid("invalid_value", format!("operator or value does not fit the field `{name}`"))) }
    }

    /// The condition on an event.
    pub(super) fn condition(&self) -> Expr {
        let field = &self.field;
        match &self.test {
            Test::OneOf { values, negated: false } => one_of(field, values).grouped(),
            Test::OneOf { values, negated: true } => one_of(field, values).negated(),
            Test::Contains(part) => text_test(field, "position", part, || part.is_empty()).then(" > 0"),
            Test::Regex(pattern) => {
                // Tried whatever there is to match, so that a pattern that cannot be compiled is always refused.
                let compiles = Expr::call("match", ["''".into(), Expr::text(pattern)]).then(" IN (0, 1)");
                let holds_of_nothing = || compiled(pattern).is_none_or(|regex| regex.is_match(""));
                Expr::all([compiles, text_test(field, "match", pattern, holds_of_nothing)])
            }
            Test::Compares(comparison, bound) => compares(field, *comparison, bound),
            Test::Exists { negated: false } => field.is_missing().negated(),
            Test::Exists { negated: true } => field.is_missing().grouped(),
        }
    }
}

impl Canonical for FieldTest {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { field, test } = self;
        to.field("field", field).field("test", test);
    }
}

impl Canonical for Test {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::OneOf { values, negated } => to.field("one_of", values).field("negated", negated),
            Self::Contains(part) => to.field("contains", part),
            Self::Regex(pattern) => to.field("regex", pattern),
            Self::Compares(comparison, bound) => to.field("compares", comparison.sql()).field("bound", bound),
            Self::Exists { negated } => to.field("exists", &!negated),
        };
    }
}

impl Canonical for Scalar {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Text(text) => to.field("text", text),
            Self::Number(number) => to.field("number", number),
            Self::Bool(claim) => to.field("bool", claim),
            Self::Missing => to.field("missing", &true),
        };
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

    /// Whether it holds of a number that stands so to the bound; of one that is none it does not.
    pub(super) fn holds(self, number: Option<Ordering>) -> bool {
        match self {
            Self::Greater => number == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(number, Some(Ordering::Greater | Ordering::Equal)),
            Self::Less => number == Some(Ordering::Less),
            Self::LessOrEqual => matches!(number, Some(Ordering::Less | Ordering::Equal)),
        }
    }

    /// What holds of a number beside `near` if this holds of it beside a bound, where no number of its kind lies between the two;
    /// `bound` is how the bound stands to `near`.
    pub(super) const fn beside(self, bound: Ordering) -> Self {
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
            "regex" => Ok(Self::Regex(expression(text()?)?)),
            "gt" => compares(Comparison::Greater),
            "gte" => compares(Comparison::GreaterOrEqual),
            "lt" => compares(Comparison::Less),
            "lte" => compares(Comparison::LessOrEqual),
            "exists" | "not_exists" if value.is_some_and(|value| !matches!(value, Value::Null | Value::Bool(true))) => {
                let contrary = if op == "exists" { "not_exists" } else { "exists" };
                Err(QueryError::invalid("invalid_value", format!("`{op}` has no `value`; its contrary is `{contrary}`")))
            }
            "exists" => Ok(Self::Exists { negated: false }),
            "not_exists" => Ok(Self::Exists { negated: true }),
            other => {
                let hint = nearest(other, OPS);
                Err(QueryError::invalid("invalid_operator", format!("unknown operator `{}`, did you mean `{hint}`?", shortened(other))))
            }
        }
    }
}

/// A regular expression that can be one. Only its syntax is looked at, which costs no more than reading it; the server's is that of RE2, which
/// knows `\Q` and `\C` beside what is checked here.
fn expression(pattern: String) -> Result<String, QueryError> {
    let is_known = !pattern.contains("\\Q") && !pattern.contains("\\C");
    let pattern = if is_known { with_literal_braces(&pattern) } else { pattern };
    match regex_syntax::ast::parse::Parser::new().parse(&pattern) {
        Err(problem) if is_known => {
            let message = format!("the regular expression `{}` cannot be compiled: {}", shortened(&pattern), problem.kind());
            Err(QueryError::invalid("invalid_regex", message))
        }
        _ => Ok(pattern),
    }
}

/// The same with those braces escaped that repeat nothing: for RE2 those of `/user/{id}` are letters like others.
fn with_literal_braces(pattern: &str) -> String {
    let (mut escaped, mut rest) = (String::with_capacity(pattern.len()), pattern);
    while let Some(at) = rest.find(['\\', '{']) {
        let (before, from) = rest.split_at(at);
        let length = match from.as_bytes() {
            // The name of a class, or the number of a letter.
            [b'\\', b'p' | b'P' | b'x', b'{', ..] => from.find('}').map_or(from.len(), |end| end + 1),
            [b'\\', ..] => 1 + from.chars().nth(1).map_or(0, char::len_utf8),
            _ => 1,
        };
        let (taken, behind) = from.split_at(length);
        escaped.push_str(before);
        escaped.push_str(if taken == "{" && !repeats(from) { "\\{" } else { taken });
        rest = behind;
    }
    escaped.push_str(rest);
    escaped
}

/// Whether it begins with `{2}`, `{2,}` or `{2,3}`.
fn repeats(pattern: &str) -> bool {
    let Some((times, _)) = pattern.strip_prefix('{').and_then(|behind| behind.split_once('}')) else { return false };
    let (least, most) = times.split_once(',').unwrap_or((times, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
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

fn one_of(field: &Field, values: &[Scalar]) -> Expr {
    let missing = values.contains(&Scalar::Missing).then(|| field.is_missing().grouped());
    let found = [one_of_texts(field, values), one_of_numbers(field, values), one_of_json(field, values), missing];
    Expr::any(std::iter::once("0".into()).chain(found.into_iter().flatten()))
}

fn one_of_texts(field: &Field, values: &[Scalar]) -> Option<Expr> {
    let texts: Vec<&str> = values.iter().filter_map(|value| if let Scalar::Text(text) = value { Some(&**text) } else { None }).collect();
    if texts.is_empty() {
        return None;
    }
    let is_in = |value: Expr| value.infix(" IN ", Expr::texts(texts.iter().copied()));
    match field {
        // What is missing reads as an empty text, and no column has another one.
        Field::Text(_) if texts.iter().all(|text| text.is_empty()) => None,
        Field::Text(sql) => {
            let texts = texts.into_iter().filter(|text| !text.is_empty());
            Some(Expr::from(*sql).infix(" IN ", Expr::texts(texts)))
        }
        Field::Number(_) | Field::Measure(_) | Field::Claim(_) => None,
        Field::Property(_) | Field::Trait(_) => field.values().map(|values| match texts.contains(&"") {
            // What is missing reads as an empty text, so only a search for that one has to ask whether there is any.
            true => Expr::all([values.has_text(), is_in(values.text())]),
            false => is_in(values.text()),
        }),
    }
}

fn one_of_numbers(field: &Field, values: &[Scalar]) -> Option<Expr> {
    let floats: Vec<f64> = numbers(values).filter(|number| number.exact.is_none()).map(|number| number.float).collect();
    if floats.is_empty() {
        return None;
    }
    let is_in = |value: Expr| value.infix(" IN ", Expr::floats(floats.clone()));
    match field {
        Field::Text(_) | Field::Claim(_) => None,
        Field::Number(sql) | Field::Measure(sql) => Some(Expr::all([field.has_number(), is_in((*sql).into())])),
        // Adding zero makes one of the two.
        Field::Property(_) | Field::Trait(_) => {
            field.values().map(|values| Expr::all([values.has_number(), is_in(values.number().then(" + 0"))]))
        }
    }
}

/// What is kept as JSON text: booleans, and numbers that a float cannot hold.
fn one_of_json(field: &Field, values: &[Scalar]) -> Option<Expr> {
    if let Field::Claim(sql) = field {
        return one_of_claims(sql, values);
    }
    let held = field.values()?;
    let claims = values.iter().filter_map(|value| match value {
        Scalar::Bool(true) => Some("true"),
        Scalar::Bool(false) => Some("false"),
        _ => None,
    });
    let exact = numbers(values).filter_map(|number| number.exact).map(|exact| exact.to_string());
    let json: Vec<String> = claims.map(str::to_owned).chain(exact).collect();
    (!json.is_empty()).then(|| held.json().infix(" IN ", Expr::texts(json)))
}

fn one_of_claims(sql: &'static str, values: &[Scalar]) -> Option<Expr> {
    let has = |claim| values.contains(&Scalar::Bool(claim));
    match (has(true), has(false)) {
        (true, true) => Some("1".into()),
        (true, false) => Some(sql.into()),
        (false, true) => Some(Expr::from(sql).negated()),
        (false, false) => None,
    }
}

fn numbers(values: &[Scalar]) -> impl Iterator<Item = &Number> {
    values.iter().filter_map(|value| if let Scalar::Number(number) = value { Some(number) } else { None })
}

/// Floats are compared as floats, and whole numbers that a float cannot hold as such.
fn compares(field: &Field, comparison: Comparison, bound: &Number) -> Expr {
    let as_float = |value: Expr| value.infix(comparison.beside(bound.beside_float()).sql(), Expr::float(bound.float));
    let Some(values) = field.values() else {
        // Servers of a cluster simplify the comparison of a whole number with a fraction each in another way, and then miss the column
        // of an aggregate that has it as its condition.
        return Expr::all([field.has_number(), as_float(Expr::call("toFloat64", [field.number()]))]);
    };
    let held = Expr::all([values.has_number(), as_float(values.number())]);
    let json = values.json();
    let near = Expr::call("ifNull", [as_float(Expr::call("toFloat64OrNull", [json.clone()])), "0".into()]);
    let exact = match bound.floor() {
        None => near,
        Some(floor) => {
            let whole = comparison.beside(if bound.is_whole() { Ordering::Equal } else { Ordering::Greater });
            let digits = Expr::call("toInt128OrNull", [json.clone()]);
            Expr::call("ifNull", [digits.infix(whole.sql(), Expr::int128(floor)), near])
        }
    };
    Expr::any([held, Expr::all([json.then(" != ''"), exact])])
}

/// An expression as the server reads it; none if it takes too much.
pub(super) fn compiled(pattern: &str) -> Option<Regex> {
    let mut builder = RegexBuilder::new(pattern);
    builder.dot_matches_new_line(true).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build().ok()
}

/// `function` of a text and `argument`; `holds_of_nothing` if it may hold of an empty text.
fn text_test(field: &Field, function: &'static str, argument: &str, holds_of_nothing: impl FnOnce() -> bool) -> Expr {
    let test = |value: Expr| Expr::call(function, [value, Expr::text(argument)]);
    match field {
        // What is missing reads as one.
        Field::Text(sql) if holds_of_nothing() => Expr::all([field.is_missing().negated(), test((*sql).into())]),
        Field::Text(sql) | Field::Number(sql) | Field::Measure(sql) | Field::Claim(sql) => test((*sql).into()),
        Field::Property(_) | Field::Trait(_) => {
            field.values().map_or("0".into(), |values| Expr::all([values.has_text(), test(values.text())]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_that_repeat_nothing_are_letters_as_for_the_server() {
        for (pattern, expected) in [
            ("^/user/{id}$", r"^/user/\{id}$"),
            ("a{2}b{2,}c{2,3}", "a{2}b{2,}c{2,3}"),
            ("a{,3}", r"a\{,3}"),
            ("{", r"\{"),
            (r"\{x}", r"\{x}"),
            (r"\\{x}", r"\\\{x}"),
            (r"\p{Greek}\x{10FFFF}\d{3}", r"\p{Greek}\x{10FFFF}\d{3}"),
            ("[{}]ü{é}", r"[\{}]ü\{é}"),
            (r"\Q{\E", r"\Q{\E"),
            (r"\", r"\"),
        ] {
            assert_eq!(expression(pattern.to_owned()).unwrap_or_else(|_| pattern.to_owned()), expected, "{pattern}");
        }
        assert!(expression("a{2,1}".to_owned()).is_err() && expression("(".to_owned()).is_err());
    }
}
