//! What a person did: `{"did":{"event","filters","from","to","times":{"gte":2}}}`, or with `"not":true` beside it did not.
//!
//! It holds of every event of a person who has so many such events, whenever the event itself happened. Without `times` one is enough;
//! `times` may also hold of none, as `{"eq":0}` and `{"lt":3}` do, and then holds of those who have no such event. Without `from` or
//! `to` the time is open at that end. Bots are left out of it where the question leaves them out.

use serde_json::Value;

use super::{Filter, Parser};
use crate::query::ask::canonical::{Canonical, CanonicalForm};
use crate::query::ask::expr::Expr;
use crate::query::ask::fields::{Fields, shortened};
use crate::query::ask::range::Range;
use crate::query::error::{QueryError, nearest};

/// Most events that can be asked for; larger numbers are no counts.
const MOST: u64 = 1 << 53;

/// A checked condition on what a person did.
#[derive(Clone, Debug)]
pub(crate) struct Did {
    /// The type of the events; none means any.
    pub(crate) event: Option<String>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) range: Range,
    pub(crate) times: Times,
    /// Whether it is a condition that the person did not.
    pub(crate) negated: bool,
}

/// How often: all of these hold of the number of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Times(Vec<Bound>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    operator: Operator,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

const OPERATORS: [(&str, Operator); 5] = [
    ("eq", Operator::Equal),
    ("gt", Operator::Greater),
    ("gte", Operator::GreaterOrEqual),
    ("lt", Operator::Less),
    ("lte", Operator::LessOrEqual),
];

impl Parser<'_> {
    /// Reads `did` and `not`.
    pub(super) fn did(&mut self, value: &Value) -> Result<Did, QueryError> {
        let outer = Fields::open(value, &["did", "not"])?;
        let negated = outer.flag("not", "invalid_filter")?;
        if self.in_did {
            return Err(QueryError::invalid("invalid_filter", "`did` cannot be inside another `did`: put both into one list"));
        }
        let within = self.path.len();
        self.enter("did");
        let what = Fields::open(outer.value("did").unwrap_or(&Value::Null), &["event", "filters", "from", "to", "times"])?;
        let event = what.text("event", "invalid_event")?.map(str::to_owned);
        let range = Range::parse_open_in(what, self.context.now_ms, self.context.zone.clone())?;
        self.context.note_did(range.clone())?;
        let times = Times::parse(what.value("times"))?;
        self.in_did = true;
        let filters = self.list(what, "filters")?;
        self.in_did = false;
        self.path.truncate(within);
        Ok(Did { event, filters, range, times, negated })
    }
}

impl Times {
    fn parse(times: Option<&Value>) -> Result<Self, QueryError> {
        let Some(times) = times else { return Ok(Self(vec![Bound { operator: Operator::GreaterOrEqual, count: 1 }])) };
        let invalid = |message: String| QueryError::invalid("invalid_times", message);
        let object = times.as_object().filter(|object| !object.is_empty());
        let object = object.ok_or_else(|| invalid("`times` must be an object such as {\"gte\":2}".to_owned()))?;
        let mut bounds = Vec::new();
        for (word, count) in object {
            let Some((_, operator)) = OPERATORS.iter().find(|(known, _)| known == word) else {
                let hint = nearest(word, OPERATORS.iter().map(|(known, _)| *known));
                return Err(invalid(format!("unknown operator `{}` of `times`, did you mean `{hint}`?", shortened(word))));
            };
            let count = count.as_u64().filter(|count| *count <= MOST);
            let count = count.ok_or_else(|| invalid(format!("`times.{word}` must be a whole number from 0 to {MOST}")))?;
            bounds.push(Bound { operator: *operator, count });
        }
        Ok(Self(bounds))
    }

    /// Whether it holds of somebody who has no such event.
    pub(crate) fn hold_of_none(&self) -> bool {
        self.0.iter().all(|Bound { operator, count }| match operator {
            Operator::Equal | Operator::GreaterOrEqual => *count == 0,
            Operator::Greater => false,
            Operator::Less => *count > 0,
            Operator::LessOrEqual => true,
        })
    }

    /// The condition on the number of events that there are.
    pub(crate) fn condition(&self) -> Expr {
        Expr::all(self.0.iter().map(|bound| Expr::from("count()").infix(bound.operator.sql(), Expr::uint(bound.count))))
    }
}

impl Operator {
    const fn sql(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::Greater => " > ",
            Self::GreaterOrEqual => " >= ",
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
        }
    }
}

impl Canonical for Did {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { event, filters, range, times: Times(times), negated } = self;
        to.field("event", event).set("filters", filters).field("range", range).set("times", times).field("negated", negated);
    }
}

impl Canonical for Bound {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { operator, count } = self;
        to.word(operator.sql());
        to.field("", count);
    }
}
