//! The fields of a breakdown: one, or a list of up to three, whose lines are combinations of values.
//!
//! A list of one is the same breakdown as the field alone; what a line shows is an array then.

use serde_json::Value;

use super::canonical::{Canonical, CanonicalForm};
use super::expr::Expr;
use super::field::{Field, Kind};
use crate::query::error::QueryError;

/// Most fields of a breakdown.
const MOST: usize = 3;

/// The fields of a breakdown, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Dimensions {
    pub(crate) fields: Vec<Field>,
    /// Whether they were given as a list.
    pub(crate) is_list: bool,
}

impl Dimensions {
    /// Reads `breakdown`.
    ///
    /// # Errors
    /// 400 `invalid_breakdown`, and as [`Field::parse`].
    pub(crate) fn parse(breakdown: &Value) -> Result<Self, QueryError> {
        Self::parse_with(breakdown, Field::parse)
    }

    /// The same where a column of sessions may be named without `session.`.
    pub(crate) fn parse_of_sessions(breakdown: &Value) -> Result<Self, QueryError> {
        Self::parse_with(breakdown, Field::parse_of_sessions)
    }

    fn parse_with(breakdown: &Value, parse: fn(&str) -> Result<Field, QueryError>) -> Result<Self, QueryError> {
        let invalid = || QueryError::invalid("invalid_breakdown", format!("`breakdown` is a field or a list of 1 to {MOST} fields"));
        let field = |name: &Value| parse(name.as_str().ok_or_else(invalid)?);
        match breakdown {
            Value::Array(names) if (1..=MOST).contains(&names.len()) => {
                let of = |(index, name)| field(name).map_err(|problem| problem.within(&format!("breakdown[{index}]")));
                Ok(Self { fields: names.iter().enumerate().map(of).collect::<Result<_, _>>()?, is_list: true })
            }
            name => Ok(Self { fields: vec![field(name)?], is_list: false }),
        }
    }

    /// Reads the list under `key` of up to `most` fields.
    ///
    /// # Errors
    /// 400 `invalid_field`, and as [`Field::parse`].
    pub(crate) fn parse_up_to(most: usize, key: &str, names: &[Value]) -> Result<Self, QueryError> {
        let invalid = || QueryError::invalid("invalid_field", format!("`{key}` is a list of 1 to {most} fields"));
        if names.is_empty() || names.len() > most {
            return Err(invalid());
        }
        let field = |name: &Value| Field::parse(name.as_str().ok_or_else(invalid)?);
        let of = |(index, name)| field(name).map_err(|problem| problem.within(&format!("{key}[{index}]")));
        Ok(Self { fields: names.iter().enumerate().map(of).collect::<Result<_, _>>()?, is_list: true })
    }

    /// The values as a key: that of the only field, or the array of those of all.
    pub(crate) fn key(&self) -> Expr {
        match self.fields.as_slice() {
            [field] => field.key(),
            fields => keys(fields.iter().map(Field::key)),
        }
    }

    /// The key where all of them are missing.
    pub(crate) fn none(&self) -> Expr {
        match self.fields.len() {
            1 => Kind::Missing.key(),
            fields => keys(std::iter::repeat_n(Kind::Missing.key(), fields)),
        }
    }

    /// The condition that all of them are missing.
    pub(crate) fn is_missing(&self) -> Expr {
        Expr::all(self.fields.iter().map(|field| field.is_missing().grouped()))
    }
}

fn keys(keys: impl Iterator<Item = Expr>) -> Expr {
    Expr::from("CAST([").then(Expr::list(", ", keys)).then("], 'Array(String)')")
}

impl Canonical for Dimensions {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { fields, is_list } = self;
        to.field("fields", fields).field("is_list", is_list);
    }
}
