//! Filters: which events a question is about.
//!
//! A filter is a test of a field (`{"field","op","value"}`), what a person did ([`Did`]), a saved cohort by its name, or a group of filters
//! of which one (`any`) or each (`all`) must hold. `"not": true` beside `cohort` asks for all others. Filters beside each other in a list
//! must all hold. Groups nest up to [`MAX_DEPTH`] deep, and a list has at most [`MAX_CONDITIONS`] conditions, however they are grouped. An
//! error names the path of the filter that is wrong, such as `filters[2].any[0]`. Neither the order in a group nor a group of one makes
//! another question.

mod did;
mod field_test;
pub(crate) mod of_event;

use serde_json::{Value, json};

pub(crate) use self::did::Did;
use self::field_test::FieldTest;
use super::canonical::{Canonical, CanonicalForm};
use super::context::Context;
use super::expr::Expr;
use super::fields::{Fields, shortened};
use crate::query::error::QueryError;

/// Deepest nesting of groups; the parser calls itself once a level.
const MAX_DEPTH: usize = 5;
/// Most conditions of one list of filters, those in its groups included.
const MAX_CONDITIONS: usize = 100;

/// A checked filter.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// What a field of the event must be.
    Field(FieldTest),
    /// What the person of the event must have done.
    Did(Box<Did>),
    /// Each of these holds.
    All(Vec<Self>),
    /// One of these holds.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
}

/// Whether something in a request is called `cohort`, as a filter may be.
pub(crate) fn names_cohort(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.contains_key("cohort") || object.values().any(names_cohort),
        Value::Array(values) => values.iter().any(names_cohort),
        _ => false,
    }
}

/// Checks the filters under `filters`.
///
/// # Errors
/// 400 `invalid_filter`, `filter_too_complex`, and what is wrong with one of them, which the message names by its path.
pub(crate) fn parse_all(fields: Fields<'_>, context: &Context) -> Result<Vec<Filter>, QueryError> {
    let mut parser = Parser { context, conditions: 0, depth: 0, in_did: false, in_cohort: false, path: String::new() };
    parser.list(fields, "filters").map_err(|problem| problem.within(&parser.path))
}

/// Checks the definition of a cohort: `{"filters":[…]}`.
///
/// # Errors
/// As [`parse_all`], and 400 `invalid_filter` where there is no filter, or one names a cohort.
pub(crate) fn check_cohort(body: &Value, now_ms: i64) -> Result<(), QueryError> {
    let (fields, context) = (Fields::open(body, &["filters"])?, Context::new(now_ms));
    let mut parser = Parser { context: &context, conditions: 0, depth: 0, in_did: false, in_cohort: true, path: String::new() };
    match parser.list(fields, "filters") {
        Ok(filters) if filters.is_empty() => Err(QueryError::invalid("invalid_filter", "a cohort needs at least one filter")),
        Ok(_) => Ok(()),
        Err(problem) => Err(problem.within(&parser.path)),
    }
}

/// Reads filters from the outside in.
struct Parser<'a> {
    context: &'a Context,
    /// Read so far.
    conditions: usize,
    /// Groups around what is read.
    depth: usize,
    /// Whether the filters of a [`Did`] are read.
    in_did: bool,
    /// Whether those of a cohort are.
    in_cohort: bool,
    /// Where that is; after an error where the error is.
    path: String,
}

impl Parser<'_> {
    /// The filters under `key`.
    fn list(&mut self, fields: Fields<'_>, key: &str) -> Result<Vec<Filter>, QueryError> {
        let outer = self.path.len();
        let mut filters = Vec::new();
        for (index, value) in fields.list(key, "invalid_filter")?.iter().enumerate() {
            self.enter(&format!("{key}[{index}]"));
            filters.push(self.filter(value)?);
            self.path.truncate(outer);
        }
        Ok(filters)
    }

    fn enter(&mut self, part: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(part);
    }

    fn filter(&mut self, value: &Value) -> Result<Filter, QueryError> {
        match ["any", "all", "cohort", "did"].into_iter().find(|key| value.get(key).is_some()) {
            Some("any") => self.group(value, "any", Filter::Any),
            Some("all") => self.group(value, "all", Filter::All),
            Some("cohort") => self.cohort(value),
            Some(_) => {
                self.count()?;
                Ok(Filter::Did(Box::new(self.did(value)?)))
            }
            None => {
                self.count()?;
                Ok(Filter::Field(FieldTest::parse(value)?))
            }
        }
    }

    fn group(&mut self, value: &Value, key: &'static str, make: fn(Vec<Filter>) -> Filter) -> Result<Filter, QueryError> {
        let fields = Fields::open(value, &[key])?;
        if self.depth == MAX_DEPTH {
            return Err(too_complex(format!("filters may be nested at most {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let mut filters = self.list(fields, key)?;
        self.depth -= 1;
        match filters.len() {
            0 => Err(QueryError::invalid("invalid_filter", format!("`{key}` needs at least one filter"))),
            1 => Ok(filters.remove(0)),
            _ => Ok(make(filters)),
        }
    }

    /// The filters of a saved cohort, as if they stood here.
    fn cohort(&mut self, value: &Value) -> Result<Filter, QueryError> {
        let fields = Fields::open(value, &["cohort", "not"])?;
        if self.in_cohort {
            return Err(QueryError::invalid("invalid_filter", "a cohort cannot name another cohort"));
        }
        let name = fields.text("cohort", "invalid_cohort")?.unwrap_or_default();
        let Some(filters) = self.context.cohorts.get(name) else {
            return Err(QueryError::invalid("unknown_cohort", format!("there is no cohort `{}`", shortened(name))));
        };
        let negated = fields.flag("not", "invalid_filter")?;
        let definition = json!({"filters": filters});
        let outer = self.path.len();
        self.enter(name);
        self.in_cohort = true;
        let filters = Filter::All(self.list(Fields::open(&definition, &["filters"])?, "filters")?);
        self.in_cohort = false;
        self.path.truncate(outer);
        Ok(if negated { Filter::Not(Box::new(filters)) } else { filters })
    }

    fn count(&mut self) -> Result<(), QueryError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(too_complex(format!("at most {MAX_CONDITIONS} filters are allowed, those in groups included")));
        }
        Ok(())
    }
}

fn too_complex(message: String) -> QueryError {
    QueryError::invalid("filter_too_complex", message)
}

impl Filter {
    /// Whether it is about the session of an event alone.
    pub(crate) fn is_of_session(&self) -> bool {
        match self {
            Self::Field(test) => test.is_of_session(),
            Self::All(filters) | Self::Any(filters) => filters.iter().all(Self::is_of_session),
            _ => false,
        }
    }

    /// The condition on an event. What is asked of other events of its person is for `did` to say.
    pub(crate) fn condition(&self, did: &dyn Fn(&Did) -> Expr) -> Expr {
        let each = |filters: &[Self]| filters.iter().map(|filter| filter.condition(did).grouped()).collect::<Vec<_>>();
        match self {
            Self::Field(test) => test.condition(),
            Self::Did(what) => did(what),
            Self::All(filters) => Expr::all(each(filters)),
            Self::Any(filters) => Expr::any(each(filters)),
            Self::Not(filter) => filter.condition(did).negated(),
        }
    }
}

impl Canonical for Filter {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Field(test) => to.field("test", test),
            Self::Did(did) => to.field("did", did.as_ref()),
            Self::All(filters) => to.set("all", filters),
            Self::Any(filters) => to.set("any", filters),
            Self::Not(filter) => to.field("not", filter.as_ref()),
        };
    }
}

#[cfg(test)]
mod tests;
