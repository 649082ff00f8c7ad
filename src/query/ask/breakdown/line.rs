//! The line of a breakdown that a bar names, and its values.

use serde_json::Value;

use super::meaning::Meaning;
use super::{Breakdown, KeyPart, OTHER, Tops, is_each};
use crate::query::ask::canonical::{Canonical, CanonicalForm};
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::expr::Expr;
use crate::query::ask::field::{Field, Kind};
use crate::query::ask::fields::Fields;
use crate::query::ask::number::Number;
use crate::query::error::QueryError;

/// `breakdown_value` and `breakdown_kind` of a bar: which line of a breakdown it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineOf {
    /// The value of each field, not all of them missing.
    Values(Vec<ValueOf>),
    None,
    Other,
}

/// A value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueOf {
    Text(String),
    Number(Number),
    Bool(bool),
    /// An array or object, as JSON text with its keys in order.
    Json(String),
    Missing,
    Other,
}

fn invalid_of(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_of", message)
}

impl LineOf {
    /// The keys that [`Self::parse`] reads.
    pub(crate) const KEYS: [&'static str; 2] = ["breakdown_value", "breakdown_kind"];

    /// Reads `breakdown_value` and `breakdown_kind` of a breakdown by `by`: of a list both are arrays, or one kind is that of all.
    ///
    /// # Errors
    /// 400 `invalid_of`.
    pub(crate) fn parse(fields: Fields<'_>, by: &Dimensions) -> Result<Self, QueryError> {
        let (value, kind) = (fields.value("breakdown_value"), fields.value("breakdown_kind"));
        let parts = by.fields.len();
        let part = |of: Option<&'_ Value>, index: usize, name: &str| match of {
            Some(Value::Array(values)) if by.is_list && values.len() == parts => Ok(values.get(index).cloned()),
            Some(_) if by.is_list && name == "breakdown_value" => {
                Err(invalid_of(format!("`{name}` must be an array of {parts}, one for each field of the `breakdown`")))
            }
            other => Ok(other.cloned()),
        };
        let values = (0..parts).map(|index| ValueOf::parse(part(value, index, "breakdown_value")?, part(kind, index, "breakdown_kind")?));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let are_all = |value: &ValueOf| values.iter().all(|other| other == value);
        match values.contains(&ValueOf::Other) {
            _ if are_all(&ValueOf::Missing) => Ok(Self::None),
            true if are_all(&ValueOf::Other) => Ok(Self::Other),
            true => Err(invalid_of("a line is `$other` in all its values or in none")),
            false => Ok(Self::Values(values)),
        }
    }

    /// Reads the line of a bar of a chart with `breakdown`; none if it has none.
    ///
    /// # Errors
    /// As [`Self::parse`], and 400 `invalid_of` for a value where there is no breakdown.
    pub(crate) fn of_bar(fields: Fields<'_>, breakdown: &Breakdown) -> Result<Option<Self>, QueryError> {
        let is_named = Self::KEYS.iter().any(|key| fields.value(key).is_some());
        match &breakdown.by {
            Some(by) => Self::parse(fields, by).map(Some),
            None if is_named => Err(invalid_of("the chart has no `breakdown`, so no `breakdown_value`")),
            None => Ok(None),
        }
    }

    /// Its number among those of `tops`; none if it has no line of its own there.
    pub(crate) fn number(&self, tops: &Tops) -> Option<i64> {
        match self {
            Self::None => Some(tops.none()),
            Self::Other => Some(OTHER),
            Self::Values(values) => tops.find(|parts| is_each(parts, values, ValueOf::is)),
        }
    }

    /// Whether the largest values decide which events are in the line.
    pub(crate) fn needs_tops(&self) -> bool {
        match self {
            Self::Other => true,
            Self::Values(values) => values.iter().any(|value| matches!(value, ValueOf::Json(_))),
            Self::None => false,
        }
    }

    /// The condition that an event is in the line of a breakdown by `by`; `tops` are its largest values, where they are needed.
    pub(crate) fn condition(&self, by: &Dimensions, tops: &Tops) -> Expr {
        let known = |values: &[ValueOf]| tops.find(|parts| is_each(parts, values, ValueOf::is)).filter(|_| self.needs_tops());
        match self {
            Self::None => by.is_missing().grouped(),
            Self::Other => tops.line(by).infix(" = ", Expr::int(OTHER)),
            Self::Values(values) => match known(values) {
                Some(line) => tops.line(by).infix(" = ", Expr::int(line)),
                None => Expr::all(values.iter().zip(&by.fields).map(|(value, field)| value.condition(field))),
            },
        }
    }
}

impl ValueOf {
    /// The value that a request names.
    pub(crate) fn named(value: &Value) -> Self {
        if value == "$none" { Self::Missing } else { Self::of(value.clone()) }
    }

    /// The value of a kind, if one is given.
    ///
    /// # Errors
    /// 400 `invalid_of`.
    pub(crate) fn parse(value: Option<Value>, kind: Option<Value>) -> Result<Self, QueryError> {
        match (kind.as_ref().map(|kind| kind.as_str().unwrap_or_default()), value) {
            (Some("none"), _) => Ok(Self::Missing),
            (Some("other"), _) => Ok(Self::Other),
            (None, Some(Value::String(word))) if word == "$none" => Ok(Self::Missing),
            (None, Some(Value::String(word))) if word == "$other" => Ok(Self::Other),
            (None | Some("value"), Some(value)) => Ok(Self::of(value)),
            (None | Some("value"), None) => Err(invalid_of("a bar of a chart with a `breakdown` needs its `breakdown_value`")),
            (Some(_), _) => Err(invalid_of("`breakdown_kind` is value, none or other")),
        }
    }

    pub(super) fn of(value: Value) -> Self {
        if let Some(number) = Number::of(&value) {
            return Self::Number(number);
        }
        match value {
            Value::String(text) => Self::Text(text),
            Value::Bool(claim) => Self::Bool(claim),
            other => Self::Json(other.to_string()),
        }
    }

    /// Whether it is the value of a key.
    pub(super) fn is(&self, part: &KeyPart) -> bool {
        match (self, Kind::split(&part.key)) {
            (Self::Text(text), Some((Kind::Text, own))) => text == own,
            (Self::Number(Number { exact: Some(exact), .. }), Some((Kind::Json, own))) => exact.to_string() == own,
            (Self::Number(Number { exact: None, float }), Some((Kind::Number, own))) => own.parse() == Ok(*float),
            (Self::Bool(claim), Some((Kind::Json, own))) => claim.to_string() == own,
            (Self::Json(json), Some((Kind::Json, _))) => part.meaning.is_some_and(|meaning| Meaning::of_json(json) == Some(meaning)),
            (Self::Missing, Some((Kind::Missing, _))) => true,
            _ => false,
        }
    }

    /// Its key; that of no value for all others together.
    pub(crate) fn key(&self) -> Expr {
        match self {
            Self::Text(text) => Kind::Text.tag(Expr::text(text)),
            Self::Number(Number { exact: Some(exact), .. }) => Kind::Json.tag(Expr::text(exact.to_string())),
            Self::Number(number) => Kind::Number.tag(Expr::call("toString", [Expr::float(number.float)])),
            Self::Bool(true) => "'otrue'".into(),
            Self::Bool(false) => "'ofalse'".into(),
            Self::Json(json) => Kind::Json.tag(Expr::text(json)),
            Self::Missing => Kind::Missing.key(),
            Self::Other => "''".into(),
        }
    }

    /// The condition that it is the value of `field`.
    fn condition(&self, field: &Field) -> Expr {
        match self {
            Self::Missing => field.is_missing().grouped(),
            // No line is `$other` in one of its values alone.
            Self::Other => "0".into(),
            value => field.key().infix(" = ", value.key()),
        }
    }
}

impl Canonical for LineOf {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Values(values) => to.field("values", values),
            Self::None => to.field("none", &true),
            Self::Other => to.field("other", &true),
        };
    }
}

impl Canonical for ValueOf {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Text(text) => to.field("text", text),
            Self::Number(number) => to.field("number", number),
            Self::Bool(claim) => to.field("bool", claim),
            Self::Json(json) => to.field("json", json),
            Self::Missing => to.field("missing", &true),
            Self::Other => to.field("other", &true),
        };
    }
}
