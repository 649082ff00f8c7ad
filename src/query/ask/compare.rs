//! What a chart is compared with: `compare` of a request.

use jiff::Unit;
use serde_json::Value;

use super::canonical::{Canonical, CanonicalForm};
use super::fields::Fields;
use super::range::Range;
use crate::query::error::QueryError;

/// What the chart is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    with: With,
    /// What with.
    pub(crate) range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    /// What the range begins with decides how far back that is.
    Previous(Option<Unit>),
    Weekdays,
    Year,
    Range,
}

impl Canonical for Compared {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { with, range } = self;
        to.word(match with {
            With::Previous(None) => "previous",
            With::Previous(Some(Unit::Year)) => "previous years",
            With::Previous(Some(Unit::Month)) => "previous months",
            With::Previous(Some(Unit::Week)) => "previous weeks",
            With::Previous(Some(Unit::Day)) => "previous days",
            With::Previous(Some(Unit::Hour)) => "previous hours",
            With::Previous(Some(_)) => "previous minutes",
            With::Weekdays => "weekdays",
            With::Year => "year",
            With::Range => "range",
        });
        to.field("", range);
    }
}

impl Compared {
    /// Reads `compare` of a chart of `range`.
    pub(crate) fn parse(value: &Value, range: &Range, now_ms: i64) -> Result<Self, QueryError> {
        match value {
            Value::String(word) if word == "previous" => Ok(Self { with: With::Previous(range.begins()), range: range.previous()? }),
            Value::String(word) if word == "weekdays" => Ok(Self { with: With::Weekdays, range: range.weekdays_before()? }),
            Value::String(word) if word == "year" => Ok(Self { with: With::Year, range: range.year_before()? }),
            Value::Object(_) => {
                let other = Fields::open(value, &["from", "to"]).and_then(|other| Range::parse_in(other, now_ms, range.zone.clone()));
                Ok(Self { with: With::Range, range: other.map_err(|problem| problem.within("compare"))? })
            }
            _ => Err(QueryError::invalid("invalid_compare", "`compare` is \"previous\", \"weekdays\", \"year\" or {\"from\",\"to\"}")),
        }
    }
}
