//! `as_of`: what was there when a question was answered, so that other questions, asked later, see the same events.
//!
//! **The promise**: two questions that say the same `as_of` see the same events, the same people and the same now, whatever arrives between
//! them: a chart, and the people behind each of its bars. What an answer says in `meta.as_of` names, of each partition of the log, how far
//! the table was when the question was asked: at least as far as `data_through` says, so at most the events of the last moment, which its
//! own answer may have seen already, are not among them.
//! It is made of numbers alone and nothing is kept for it, so any instance answers it at any time. Who makes one up sees fewer of
//! their own events.
//! May go wrong: events that expired or were erased meanwhile are gone; ids that were merged or told apart by hand are what they are now.

use std::fmt::{self, Display, Formatter};

use super::canonical::{Canonical, CanonicalForm};
use super::range::LATEST_MS;
use crate::query::sql::Statement;
use crate::store::places::Places;

/// The condition that an event was there then: a mark in whose place the runner puts it, if a question looks back.
pub(crate) const UP_TO: &str = "{up_to}";
/// The same of a tie of ids, which the rows of a group are of.
pub(crate) const TIED_BY_THEN: &str = "{tied_by_then}";
/// The first part of its text.
const FORM: &str = "1";
/// For what is not known.
const UNKNOWN: &str = "-";

/// What was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AsOf {
    /// When it was asked, milliseconds since 1970: what is said relative to now is relative to this.
    pub(crate) now_ms: i64,
    /// Up to when all events are there, milliseconds since 1970; none if that is not known.
    pub(crate) through_ms: Option<i64>,
    /// When it was looked who is who, milliseconds since 1970.
    pub(crate) people_ms: i64,
    /// The events that are there.
    pub(crate) places: Places,
}

impl AsOf {
    /// Fills the marks in a statement: with conditions if it looks back.
    pub(crate) fn fill(of: Option<&Self>, statement: Statement) -> Statement {
        let statement = statement.filled(UP_TO, |to| of.iter().fold(to, |to, of| of.places.condition(to)));
        statement.filled(TIED_BY_THEN, |to| of.iter().fold(to, |to, of| of.condition_of_ties(to)))
    }

    fn condition_of_ties(&self, to: Statement) -> Statement {
        to.sql(" AND min(known_at) <= fromUnixTimestamp64Milli(").int(self.people_ms).sql(")")
    }

    /// Reads what [`Display`] has written; `None` if that is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '.');
        let mut next = || parts.next();
        let time = |text: &str| text.parse::<i64>().ok().filter(|at_ms| (0..=LATEST_MS).contains(at_ms));
        if next()? != FORM {
            return None;
        }
        let now_ms = time(next()?)?;
        let through_ms = match next()? {
            UNKNOWN => None,
            text => Some(time(text)?),
        };
        Some(Self { now_ms, through_ms, people_ms: time(next()?)?, places: Places::parse(next()?)? })
    }
}

impl Display for AsOf {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let Self { now_ms, through_ms, people_ms, places } = self;
        let through = through_ms.map_or_else(|| UNKNOWN.to_owned(), |at_ms| at_ms.to_string());
        write!(to, "{FORM}.{now_ms}.{through}.{people_ms}.{places}")
    }
}

impl Canonical for AsOf {
    fn canonical(&self, to: &mut CanonicalForm) {
        self.to_string().canonical(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_back_sees_what_was_there_and_nothing_else_is_changed() {
        let statement = || Statement::of("SELECT 1 WHERE 1").sql(UP_TO).sql(" HAVING 1").sql(TIED_BY_THEN);
        assert_eq!(AsOf::fill(None, statement()).text(), "SELECT 1 WHERE 1 HAVING 1");
        let as_of = AsOf { now_ms: 9, through_ms: None, people_ms: 7, places: Places::default() };
        let filled = AsOf::fill(Some(&as_of), statement());
        assert!(filled.text().starts_with("SELECT 1 WHERE 1 AND (0) HAVING 1 AND min(known_at) <= "), "{}", filled.text());
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        let places = Places::parse("9_0-17_3-5.a_0-1").unwrap();
        let as_of = AsOf { now_ms: 1_767_355_200_000, through_ms: Some(1_767_355_199_000), people_ms: 7, places };
        assert_eq!(as_of.to_string(), "1.1767355200000.1767355199000.7.9_0-17_3-5.a_0-1");
        for as_of in [AsOf { through_ms: None, places: Places::default(), ..as_of.clone() }, as_of] {
            assert_eq!(AsOf::parse(&as_of.to_string()), Some(as_of));
        }
        for no in ["", "1", "2.1.1.1.", "1.1.1.1", "1.-1.1.1.", "1.1.x.1.", "1.1.1.99999999999999999.", "1.1.1.1.9_0", "1.1.1.1.9_0-1 "] {
            assert_eq!(AsOf::parse(no), None, "{no}");
        }
    }
}
