//! A series: which events, and what is counted of them.

use serde_json::Value;

use crate::query::error::{QueryError, nearest};
use crate::query::field::Field;
use crate::query::filter::{self, Filter};
use crate::query::request::{Fields, shortened};
use crate::query::sql::Statement;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Math {
    Total,
    UniqueUsers,
    UniqueSessions,
    Sum,
    Avg,
    Min,
    Max,
    P50,
    P90,
    P95,
    P99,
    /// Of a series that is computed from others.
    Formula,
}

const MATHS: [(&str, Math); 11] = [
    ("total", Math::Total),
    ("unique_users", Math::UniqueUsers),
    ("unique_sessions", Math::UniqueSessions),
    ("sum", Math::Sum),
    ("avg", Math::Avg),
    ("min", Math::Min),
    ("max", Math::Max),
    ("p50", Math::P50),
    ("p90", Math::P90),
    ("p95", Math::P95),
    ("p99", Math::P99),
];

/// A checked series.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Series {
    pub(super) name: String,
    pub(super) event: Option<String>,
    math: Math,
    property: Option<Field>,
    pub(super) filters: Vec<Filter>,
}

impl Series {
    pub(super) fn parse(value: &Value) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["event", "math", "property", "filters", "name"])?;
        let event = fields.text("event", "invalid_event")?.map(str::to_owned);
        let word = fields.text("math", "invalid_math")?.unwrap_or("total");
        let Some((_, math)) = MATHS.iter().find(|(name, _)| *name == word) else {
            let hint = nearest(word, MATHS.iter().map(|(name, _)| *name));
            return Err(QueryError::invalid("invalid_math", format!("unknown math `{}`, did you mean `{hint}`?", shortened(word))));
        };
        let property = fields.text("property", "invalid_property")?.map(Field::measured).transpose()?;
        if property.is_none() && !math.counts() {
            return Err(QueryError::invalid("invalid_property", format!("math `{word}` needs a `property`")));
        }
        let name = fields.text("name", "invalid_series")?.or(event.as_deref()).unwrap_or("any event").to_owned();
        let property = property.filter(|_| !math.counts());
        Ok(Self { name, event, math: *math, property, filters: filter::parse_all(fields)? })
    }

    /// The series that a formula makes.
    pub(super) fn of_formula(text: &str) -> Self {
        Self { name: text.to_owned(), event: None, math: Math::Formula, property: None, filters: Vec::new() }
    }

    /// The word for what is counted.
    pub(super) fn math(&self) -> &'static str {
        MATHS.iter().find(|(_, math)| *math == self.math).map_or("formula", |(name, _)| *name)
    }

    /// Its number where there are no events.
    pub(super) fn of_nothing(&self) -> Option<f64> {
        (self.math.counts() || self.math == Math::Sum).then_some(0.0)
    }

    /// Appends the aggregate of the math; null where it has no value.
    pub(super) fn aggregate(&self, to: Statement) -> Statement {
        let Some(property) = &self.property else { return to.sql(self.math.sql()) };
        let to = property.number(to.sql(self.math.sql())).sql(", ");
        property.has_number(to).sql(")")
    }

    /// Appends the condition that an event has the number that the math works on, if it works on one.
    pub(super) fn and_measured(&self, to: Statement) -> Statement {
        match &self.property {
            Some(property) => property.has_number(to.sql(" AND ")),
            None => to,
        }
    }
}

impl Math {
    /// Whether it counts events and so needs no property.
    const fn counts(self) -> bool {
        matches!(self, Self::Total | Self::UniqueUsers | Self::UniqueSessions)
    }

    /// The aggregate, or its beginning where it takes a property.
    const fn sql(self) -> &'static str {
        match self {
            Self::Total | Self::Formula => "count()",
            Self::UniqueUsers => "uniqExact(person_id)",
            Self::UniqueSessions => "uniqExact(session_id)",
            Self::Sum => "sumIf(",
            Self::Avg => "avgOrNullIf(",
            Self::Min => "minOrNullIf(",
            Self::Max => "maxOrNullIf(",
            Self::P50 => "quantileExactInclusiveOrNullIf(0.5)(",
            Self::P90 => "quantileExactInclusiveOrNullIf(0.9)(",
            Self::P95 => "quantileExactInclusiveOrNullIf(0.95)(",
            Self::P99 => "quantileExactInclusiveOrNullIf(0.99)(",
        }
    }
}
