//! A series: which events, and what is counted of them.
//!
//! | math | is, of the events of a bucket |
//! |---|---|
//! | `total` | how many there are |
//! | `unique_users`, `unique_sessions`, `unique:<field>` | how many different persons, sessions, values of a field (missing ones are none) |
//! | `per_user` | events for each person |
//! | `dau`, `wau`, `mau` | the persons of the 1, 7 or 30 days, by the calendar of the zone, that end with the bucket or, if that is earlier, with the day in which the range ends. Days before the range count; the total is that of the last bucket |
//! | `first_time_users` | the persons whose first event ever that passes all filters is there. By time, then by place in the log |
//! | `sum`, `avg`, `min`, `max`, `p50` … `p99` | of a number |

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
    /// Of a field.
    Unique,
    PerUser,
    Dau,
    Wau,
    Mau,
    FirstTimeUsers,
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

const MATHS: [(&str, Math); 16] = [
    ("total", Math::Total),
    ("unique_users", Math::UniqueUsers),
    ("unique_sessions", Math::UniqueSessions),
    ("per_user", Math::PerUser),
    ("dau", Math::Dau),
    ("wau", Math::Wau),
    ("mau", Math::Mau),
    ("first_time_users", Math::FirstTimeUsers),
    ("sum", Math::Sum),
    ("avg", Math::Avg),
    ("min", Math::Min),
    ("max", Math::Max),
    ("p50", Math::P50),
    ("p90", Math::P90),
    ("p95", Math::P95),
    ("p99", Math::P99),
];

/// Begins the math that counts the values of the field behind it.
const UNIQUE: &str = "unique:";
const QUANTILE: &str = "quantileExactInclusiveOrNullIf";
/// The same from how often each value comes. It holds little where few values come often, and several times as much where none comes twice.
const QUANTILE_BY_VALUE: &str = "quantileExactWeightedInterpolatedOrNullIf";
/// The states that an aggregate is merged from.
const STATES: [(&str, &str); 2] = [(" AS state", "state"), (" AS other_state", "other_state")];

/// A checked series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    events: EventMatch,
    math: Math,
    /// What the math works on, if it works on one field.
    field: Option<Field>,
    /// The word for what is counted.
    word: String,
    /// Whether it is counted so that less is held at once: a percentile is [`QUANTILE_BY_VALUE`], and what is counted once is grouped,
    /// which the server puts aside on its disk.
    is_sparing: bool,
}

/// What of an event counts once, however many events have it.
pub(super) struct Unit {
    pub(super) key: Expr,
    /// The condition that an event has it.
    pub(super) is_there: Expr,
}

/// An aggregate function of SQL.
struct Aggregate {
    function: &'static str,
    parameters: &'static str,
    arguments: Vec<Expr>,
}

impl Aggregate {
    fn value(self) -> Expr {
        self.ending("")
    }

    /// What it has come to, to be merged.
    fn state(self) -> Expr {
        self.ending("State")
    }

    /// The value of all states so far.
    fn merged(self, state: &'static str) -> Expr {
        Self { arguments: vec![state.into()], ..self }.ending("Merge").then(" OVER so_far")
    }

    fn ending(self, combinator: &'static str) -> Expr {
        Expr::from(self.function).then(combinator).then(Expr::call(self.parameters, self.arguments))
    }
}

impl Canonical for Series {
    fn canonical(&self, to: &mut CanonicalForm) {
        // How it is counted changes no number.
        let Self { name, events, math: _, field, word, is_sparing: _ } = self;
        to.field("name", name).field("events", events).field("math", &**word).field("property", field);
    }
}

impl Series {
    /// Checks a series.
    pub(super) fn parse(value: &Value, context: &Context) -> Result<Self, QueryError> {
        let fields = Fields::open(value, &["event", "math", "property", "filters", "name"])?;
        let events = EventMatch::parse(fields, context)?;
        let word = fields.text("math", "invalid_math")?.unwrap_or("total");
        let property = fields.text("property", "invalid_property")?.map(Field::measured).transpose()?;
        let (math, field) = match word.strip_prefix(UNIQUE) {
            Some(field) => (Math::Unique, Some(Field::parse(field)?)),
            None => {
                let math = Math::called(word)?;
                (math, property.filter(|_| !math.counts()))
            }
        };
        if field.is_none() && !math.counts() {
            return Err(QueryError::invalid("invalid_property", format!("math `{word}` needs a `property`")));
        }
        let name = fields.text("name", "invalid_series")?.or(events.event.as_deref()).unwrap_or("any event").to_owned();
        Ok(Self { name, events, math, field, word: word.to_owned(), is_sparing: false })
    }

    /// The series that a formula makes.
    pub(super) fn of_formula(text: &str) -> Self {
        let events = EventMatch { event: None, filters: Vec::new() };
        Self { name: text.to_owned(), events, math: Math::Formula, field: None, word: "formula".to_owned(), is_sparing: false }
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
    pub(super) fn math(&self) -> &str {
        &self.word
    }

    /// How many days before the end of a bucket count for it, if that is how it is counted.
    pub(super) fn trailing_days(&self) -> Option<i64> {
        match self.math {
            Math::Dau => Some(1),
            Math::Wau => Some(7),
            Math::Mau => Some(30),
            _ => None,
        }
    }

    /// Whether persons count where they come first.
    pub(super) fn counts_first_times(&self) -> bool {
        self.math == Math::FirstTimeUsers
    }

    /// Its number where there are no events.
    pub(super) fn of_nothing(&self) -> Option<f64> {
        let is_number = self.math != Math::PerUser && self.math.counts() || matches!(self.math, Math::Sum | Math::Unique);
        is_number.then_some(0.0)
    }

    /// Whether it counts events.
    pub(super) fn is_total(&self) -> bool {
        self.math == Math::Total
    }

    /// The same where what it is made of is more than a question may hold at once; none if that would be no less.
    pub(super) fn sparing(&self) -> Option<Self> {
        (self.math.function().0 == QUANTILE || self.unit().is_some()).then(|| Self { is_sparing: true, ..self.clone() })
    }

    /// Whether its units are grouped.
    pub(super) fn is_grouped(&self) -> bool {
        self.is_sparing && self.unit().is_some()
    }

    /// What it counts once; none if it counts no such thing.
    pub(super) fn unit(&self) -> Option<Unit> {
        let key = match (&self.field, self.math) {
            (Some(field), Math::Unique) => return Some(Unit { key: field.key(), is_there: field.is_missing().negated() }),
            (_, Math::UniqueUsers | Math::Dau | Math::Wau | Math::Mau | Math::PerUser) => PERSON,
            (_, Math::UniqueSessions) => SESSION,
            _ => return None,
        };
        Some(Unit { key: key.into(), is_there: "1".into() })
    }

    /// Events and persons, of whose numbers it is the ratio; none if it is no such ratio.
    pub(super) fn ratio_of(&self) -> Option<[Self; 2]> {
        (self.math == Math::PerUser).then(|| [Math::Total, Math::UniqueUsers].map(|math| Self { math, ..self.clone() }))
    }

    /// The aggregate of the math; null where it has no value.
    pub(super) fn aggregate(&self) -> Expr {
        ratio(self.aggregates().into_iter().map(Aggregate::value))
    }

    /// The states of the aggregate, and what those of all buckets so far make together.
    pub(super) fn states(&self) -> (Vec<Expr>, Expr) {
        let named = self.aggregates().into_iter().zip(STATES).map(|(aggregate, (name, _))| aggregate.state().then(name));
        let merged = self.aggregates().into_iter().zip(STATES).map(|(aggregate, (_, state))| aggregate.merged(state));
        (named.collect(), ratio(merged))
    }

    /// One, or two whose ratio it is.
    fn aggregates(&self) -> Vec<Aggregate> {
        let (function, parameters) = self.math.function();
        let of = |arguments| Aggregate { function, parameters, arguments };
        let persons = || Aggregate { function: "uniqExact", parameters: "", arguments: vec![PERSON.into()] };
        match (&self.field, self.math) {
            (Some(field), Math::Unique) => vec![of(vec![field.key(), field.is_missing().negated()])],
            (Some(number), _) if self.is_sparing => {
                let arguments = vec![number.number(), "1".into(), number.has_number()];
                vec![Aggregate { function: QUANTILE_BY_VALUE, parameters, arguments }]
            }
            (Some(number), _) => vec![of(vec![number.number(), number.has_number()])],
            (None, Math::PerUser) => vec![of(Vec::new()), persons()],
            (None, math) => vec![of(math.argument().map(Expr::from).into_iter().collect())],
        }
    }

    /// The condition that an event has what the math works on, if it works on a field.
    pub(super) fn is_measured(&self) -> Option<Expr> {
        let field = self.field.as_ref()?;
        Some(if self.math == Math::Unique { field.is_missing().negated() } else { field.has_number() })
    }
}

fn ratio(parts: impl Iterator<Item = Expr>) -> Expr {
    Expr::list(" / ", parts)
}

impl Math {
    fn called(word: &str) -> Result<Self, QueryError> {
        match MATHS.iter().find(|(name, _)| *name == word) {
            Some((_, math)) => Ok(*math),
            None => {
                let hint = nearest(word, MATHS.iter().map(|(name, _)| *name).chain([UNIQUE]));
                Err(QueryError::invalid("invalid_math", format!("unknown math `{}`, did you mean `{hint}`?", shortened(word))))
            }
        }
    }

    /// Whether it counts events and so needs no property.
    const fn counts(self) -> bool {
        use Math::{Dau, FirstTimeUsers, Mau, PerUser, Total, UniqueSessions, UniqueUsers, Wau};
        matches!(self, Total | UniqueUsers | UniqueSessions | PerUser | Dau | Wau | Mau | FirstTimeUsers)
    }

    /// The aggregate function and its parameters. One that works on a field takes its value, and whether there is one.
    const fn function(self) -> (&'static str, &'static str) {
        match self {
            Self::Total | Self::PerUser | Self::Formula => ("count", ""),
            Self::UniqueUsers | Self::UniqueSessions | Self::Dau | Self::Wau | Self::Mau | Self::FirstTimeUsers => ("uniqExact", ""),
            Self::Unique => ("uniqExactIf", ""),
            Self::Sum => ("sumIf", ""),
            Self::Avg => ("avgOrNullIf", ""),
            Self::Min => ("minOrNullIf", ""),
            Self::Max => ("maxOrNullIf", ""),
            Self::P50 => (QUANTILE, "(0.5)"),
            Self::P90 => (QUANTILE, "(0.9)"),
            Self::P95 => (QUANTILE, "(0.95)"),
            Self::P99 => (QUANTILE, "(0.99)"),
        }
    }

    /// The column that is counted.
    const fn argument(self) -> Option<&'static str> {
        match self {
            Self::UniqueUsers | Self::Dau | Self::Wau | Self::Mau | Self::FirstTimeUsers => Some(PERSON),
            Self::UniqueSessions => Some(SESSION),
            _ => None,
        }
    }
}
