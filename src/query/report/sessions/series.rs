//! A series: what is counted of sessions.

use serde_json::Value;

use crate::query::ask::fields::shortened;
use crate::query::ask::{Canonical, CanonicalForm, Expr, Fields};
use crate::query::error::{QueryError, nearest};

/// Most series of a chart.
const MAX_SERIES: usize = 26;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Math {
    Sessions,
    Visitors,
    BounceRate,
    AvgDuration,
    MedianDuration,
    PagesPerSession,
    EventsPerSession,
}

/// Each with its aggregate over sessions.
const MATHS: [(&str, Math, &str); 7] = [
    ("sessions", Math::Sessions, "count()"),
    ("visitors", Math::Visitors, "uniqExact(of_session_person_key)"),
    ("bounce_rate", Math::BounceRate, "avgOrNull(of_session_is_bounce)"),
    ("avg_duration_ms", Math::AvgDuration, "avgOrNull(of_session_duration_ms)"),
    ("median_duration_ms", Math::MedianDuration, "quantileExactInclusiveOrNull(0.5)(of_session_duration_ms)"),
    ("pages_per_session", Math::PagesPerSession, "avgOrNull(of_session_pages)"),
    ("events_per_session", Math::EventsPerSession, "avgOrNull(of_session_events)"),
];

/// A checked series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    name: Option<String>,
    math: Math,
}

impl Canonical for Series {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { name: _, math: _ } = self;
        to.field("name", self.name()).field("math", self.math());
    }
}

impl Series {
    /// Reads `series`; without any it is that of the number of sessions.
    pub(super) fn parse_all(fields: Fields<'_>) -> Result<Vec<Self>, QueryError> {
        let list = fields.list("series", "invalid_series")?;
        if list.len() > MAX_SERIES {
            return Err(QueryError::invalid("invalid_series", format!("`series` must have at most {MAX_SERIES} entries")));
        }
        if list.is_empty() {
            return Ok(vec![Self { name: None, math: Math::Sessions }]);
        }
        let read = |(index, value)| Self::parse(value).map_err(|problem| problem.within(&format!("series[{index}]")));
        list.iter().enumerate().map(read).collect()
    }

    fn parse(value: &Value) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["math", "name"])?;
        let word = fields.text("math", "invalid_math")?.unwrap_or("sessions");
        let Some((_, math, _)) = MATHS.iter().find(|(name, ..)| *name == word) else {
            let hint = nearest(word, MATHS.iter().map(|(name, ..)| *name));
            return Err(QueryError::invalid("invalid_math", format!("unknown math `{}`, did you mean `{hint}`?", shortened(word))));
        };
        Ok(Self { name: fields.text("name", "invalid_series")?.map(str::to_owned), math: *math })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.math())
    }

    /// The word for what is counted.
    pub(super) fn math(&self) -> &'static str {
        self.entry().0
    }

    /// Its number where there are no sessions.
    pub(super) fn of_nothing(&self) -> Option<f64> {
        matches!(self.math, Math::Sessions | Math::Visitors).then_some(0.0)
    }

    /// Its aggregate over sessions.
    pub(super) fn aggregate(&self) -> Expr {
        self.entry().1.into()
    }

    fn entry(&self) -> (&'static str, &'static str) {
        MATHS.iter().find(|(_, math, _)| *math == self.math).map_or(("", "NULL"), |(name, _, aggregate)| (name, aggregate))
    }
}
