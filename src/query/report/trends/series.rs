//! A series: which events, and what is counted of them.

use serde_json::Value;

use crate::query::ask::field::Field;
use crate::query::ask::fields::shortened;
use crate::query::ask::filter::Filter;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, Context, EventMatch, Expr, Fields};
use crate::query::error::{QueryError, nearest};
use crate::store::revisions::SESSION;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    events: EventMatch,
    math: Math,
    /// The number that the math works on, if it works on one.
    property: Option<Field>,
}

impl Canonical for Series {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { name, events, math: _, property } = self;
        to.field("name", name).field("events", events).field("math", self.math()).field("property", property);
    }
}

impl Series {
    /// Checks a series.
    pub(super) fn parse(value: &Value, context: &Context) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["event", "math", "property", "filters", "name"])?;
        let events = EventMatch::parse(fields, context)?;
        let word = fields.text("math", "invalid_math")?.unwrap_or("total");
        let Some((_, math)) = MATHS.iter().find(|(name, _)| *name == word) else {
            let hint = nearest(word, MATHS.iter().map(|(name, _)| *name));
            return Err(QueryError::invalid("invalid_math", format!("unknown math `{}`, did you mean `{hint}`?", shortened(word))));
        };
        let property = fields.text("property", "invalid_property")?.map(Field::measured).transpose()?;
        if property.is_none() && !math.counts() {
            return Err(QueryError::invalid("invalid_property", format!("math `{word}` needs a `property`")));
        }
        let name = fields.text("name", "invalid_series")?.or(events.event.as_deref()).unwrap_or("any event").to_owned();
        let property = property.filter(|_| !math.counts());
        Ok(Self { name, events, math: *math, property })
    }

    /// The series that a formula makes.
    pub(super) fn of_formula(text: &str) -> Self {
        let events = EventMatch { event: None, filters: Vec::new() };
        Self { name: text.to_owned(), events, math: Math::Formula, property: None }
    }

    /// The type of its events, if it is about one.
    pub(super) fn event(&self) -> Option<&str> {
        self.events.event.as_deref()
    }

    /// The conditions of its own.
    pub(super) fn filters(&self) -> &[Filter] {
        &self.events.filters
    }

    /// The word for what is counted.
    pub(super) fn math(&self) -> &'static str {
        MATHS.iter().find(|(_, math)| *math == self.math).map_or("formula", |(name, _)| *name)
    }

    /// Its number where there are no events.
    pub(super) fn of_nothing(&self) -> Option<f64> {
        (self.math.counts() || self.math == Math::Sum).then_some(0.0)
    }

    /// The aggregate of the math; null where it has no value.
    pub(super) fn aggregate(&self) -> Expr {
        match &self.property {
            Some(property) => Expr::call(self.math.function(), [property.number(), property.has_number()]),
            None => Expr::call(self.math.function(), self.math.argument().map(Expr::from)),
        }
    }

    /// The condition that an event has the number that the math works on, if it works on one.
    pub(super) fn is_measured(&self) -> Option<Expr> {
        self.property.as_ref().map(Field::has_number)
    }
}

impl Math {
    /// Whether it counts events and so needs no property.
    const fn counts(self) -> bool {
        matches!(self, Self::Total | Self::UniqueUsers | Self::UniqueSessions)
    }

    /// The aggregate function. One that works on a property takes its number, and whether there is one.
    const fn function(self) -> &'static str {
        match self {
            Self::Total | Self::Formula => "count",
            Self::UniqueUsers | Self::UniqueSessions => "uniqExact",
            Self::Sum => "sumIf",
            Self::Avg => "avgOrNullIf",
            Self::Min => "minOrNullIf",
            Self::Max => "maxOrNullIf",
            Self::P50 => "quantileExactInclusiveOrNullIf(0.5)",
            Self::P90 => "quantileExactInclusiveOrNullIf(0.9)",
            Self::P95 => "quantileExactInclusiveOrNullIf(0.95)",
            Self::P99 => "quantileExactInclusiveOrNullIf(0.99)",
        }
    }

    /// The column that is counted.
    const fn argument(self) -> Option<&'static str> {
        match self {
            Self::UniqueUsers => Some(PERSON),
            Self::UniqueSessions => Some(SESSION),
            _ => None,
        }
    }
}
