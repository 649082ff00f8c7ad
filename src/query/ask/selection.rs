//! Which events a statement reads: a scope, which none can do without, and conditions.

use super::as_of::UP_TO;
use super::canonical::{Canonical, CanonicalForm};
use super::context::Context;
use super::expr::Expr;
use super::fields::Fields;
use super::filter::{self, Did, Filter};
use super::range::{LATEST_MS, Range};
use super::session_columns;
use super::traits;
use crate::event::ids::ProjectId;
use crate::event::session::{LONGEST_SESSION_MS, SessionRules};
use crate::query::error::QueryError;
use crate::query::sql::Statement;
use crate::store::revisions::{FROM, IS_REVISION, PROJECT, REVISED, SESSION, UNTIL, VERSION};
use crate::store::schema;

/// Whose events, and of which time: `from_ms` included, `until_ms` excluded, milliseconds since 1970. Made by the question alone, so
/// no report chooses its project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    project: ProjectId,
    from_ms: i64,
    until_ms: i64,
    /// No session of the project is longer, milliseconds.
    longest_session_ms: i64,
    traffic: Traffic,
}

/// Whose events are looked at. What a bot is, [`schema::IS_OF_BOT`] says for all reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Those of people.
    People,
    /// Those of people and of bots.
    All,
    /// Those of bots.
    Bots,
}

/// The person of an event: a mark in whose place the runner puts who the ids of its project are.
pub(crate) const PERSON: &str = "{person}";

impl Scope {
    /// The events of `project` in `range`.
    pub(in crate::query) fn new(project: ProjectId, range: &Range) -> Self {
        let longest_session_ms = SessionRules::default().longest_ms;
        Self { project, from_ms: range.from_ms, until_ms: range.until_ms, longest_session_ms, traffic: Traffic::People }
    }

    /// The same of a project whose sessions are at most as long as this, milliseconds.
    pub(in crate::query) fn with_longest_session(self, longest_session_ms: i64) -> Self {
        Self { longest_session_ms, ..self }
    }

    /// Of the same project and time the events of `traffic`.
    pub(in crate::query) fn with_traffic(self, traffic: Traffic) -> Self {
        Self { traffic, ..self }
    }

    /// The condition that an event is of one of these types, of any if none is given, and passes all filters.
    pub(crate) fn matches(self, types: &[String], filters: &[Filter]) -> Expr {
        let is_of_type = (!types.is_empty()).then(|| Expr::from("type IN ").then(Expr::texts(types)));
        let filters = filters.iter().map(|filter| filter.condition(&|did| self.did(did)).grouped());
        let conditions: Vec<Expr> = is_of_type.into_iter().chain(filters).collect();
        if conditions.is_empty() { "1".into() } else { Expr::all(conditions) }
    }

    /// Whose events they are.
    pub(crate) fn traffic(self) -> Traffic {
        self.traffic
    }

    /// The first moment, and the one behind the last, milliseconds since 1970.
    pub(crate) fn bounds_ms(self) -> (i64, i64) {
        (self.from_ms, self.until_ms)
    }

    /// The same with all events of the sessions that have one there.
    pub(crate) fn around(self) -> Self {
        let more_ms = self.longest_session_ms;
        Self {
            from_ms: self.from_ms.saturating_sub(more_ms).max(0),
            until_ms: self.until_ms.saturating_add(more_ms).min(LATEST_MS),
            ..self
        }
    }

    /// The condition that an event passes all filters.
    pub(crate) fn passes(self, filters: &[Filter]) -> Expr {
        let conditions = filters.iter().map(|filter| filter.condition(&|did| self.did(did)).grouped());
        Expr::all(std::iter::once("1".into()).chain(conditions))
    }

    /// The sessions of all events, with their key and the columns that `wanted` names.
    pub(super) fn sessions(self, wanted: &Expr) -> Expr {
        Selection::of(self).joined(session_columns::select(wanted, self.project, PERSON), [self.revisions()]).then(session_columns::GROUPED)
    }

    /// Joins the traits that `wanted` names to rows of people, of whom `person` is the person; none if it names none.
    pub(super) fn traits(self, wanted: &Expr, person: &'static str) -> Option<Expr> {
        traits::join(wanted, self.project, [person, PERSON])
    }

    /// Joins the session of each event, with the columns of it that `wanted` names.
    fn of_session(self, wanted: &Expr) -> Expr {
        let sessions = self.around().sessions(wanted).enclosed();
        Expr::from(" GLOBAL ANY LEFT JOIN ").then(sessions).then(" AS of_session ON of_session_key = ").then(SESSION)
    }

    /// `WHERE`, limited to the scope.
    fn condition(self) -> Expr {
        Expr::from(" WHERE project_id = ")
            .then(Expr::uint(self.project.0))
            .then(" AND timestamp >= fromUnixTimestamp64Milli(")
            .then(Expr::int(self.from_ms))
            .then(") AND timestamp < fromUnixTimestamp64Milli(")
            .then(Expr::int(self.until_ms))
            .then(match self.traffic {
                Traffic::People => Expr::from(") AND ").then(schema::IS_OF_PERSON),
                Traffic::All => ")".into(),
                Traffic::Bots => Expr::from(") AND ").then(schema::IS_OF_BOT),
            })
            .then(UP_TO)
    }

    /// Joins what later events say of the sessions of earlier ones, visitor by visitor, the newest first.
    fn revisions(self) -> Expr {
        let time = |ms| Expr::call("fromUnixTimestamp64Milli", [Expr::int(ms)]);
        let span =
            Expr::call("groupArray", [Expr::from("(").then(FROM).then(", ").then(UNTIL).then(", session_id, ").then(VERSION).then(")")]);
        let revised = Expr::call("arrayReverseSort", [Expr::from("span -> span.4"), span]).then(" AS ").then(REVISED);
        Expr::from(" GLOBAL ANY LEFT JOIN (SELECT visitor_id, ")
            .then(revised)
            .then(" FROM events WHERE ")
            .then(IS_REVISION)
            .then(Expr::from(" AND ").then(PROJECT).then(" = ").then(Expr::uint(self.project.0)))
            .then(Expr::from(" AND ").then(FROM).then(" >= ").then(time(self.from_ms.saturating_sub(LONGEST_SESSION_MS))))
            .then(Expr::from(" AND ").then(FROM).then(" < ").then(time(self.until_ms)))
            .then(Expr::from(" AND ").then(UNTIL).then(" >= ").then(time(self.from_ms)))
            .then(UP_TO)
            .then(" GROUP BY visitor_id) AS revisions USING (visitor_id)")
    }

    /// The condition that the person of an event did something, or did not.
    fn did(self, did: &Did) -> Expr {
        // A condition that also holds of those who have no such event, who are in no table, is asked for by its contrary.
        let by_contrary = did.times.hold_of_none();
        let times = if by_contrary { did.times.condition().negated() } else { did.times.condition() };
        // Of a bot is asked what it is of a person.
        let traffic = if self.traffic == Traffic::All { Traffic::All } else { Traffic::People };
        let scope = Self { from_ms: did.range.from_ms, until_ms: did.range.until_ms, traffic, ..self };
        let events = Selection::of(scope).event(did.event.as_deref()).filters(&did.filters);
        let persons = Select::default().column(PERSON).from(events).then(" GROUP BY ").then(PERSON).then(" HAVING ").then(times);
        let is_in = if did.negated == by_contrary { " GLOBAL IN " } else { " GLOBAL NOT IN " };
        Expr::from(PERSON).infix(is_in, persons.enclosed())
    }
}

/// The events of a scope that meet all conditions.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    scope: Scope,
    /// Each behind ` AND `.
    conditions: Expr,
}

impl Selection {
    /// All events of `scope`.
    pub(crate) fn of(scope: Scope) -> Self {
        Self { scope, conditions: Expr::default() }
    }

    /// The events of bots, in the project of `scope`, that are in one of `sets`.
    fn of_bots(scope: Scope, sets: &[EventSet<'_>]) -> Self {
        let bots = Self::of(scope).and(EventSet::any(sets, scope));
        match EventSet::types(sets).filter(|types| types.len() > 1) {
            // Said once more: by the choice alone the server reads the times of all before it leaves out those who are no bots.
            Some(types) => bots.and(Expr::from("type IN ").then(Expr::texts(types))),
            None => bots,
        }
    }

    /// The numbers of events of bots, in the project of `scope`, that are in one of the sets of each question, and pass what `filters` they
    /// have in common.
    pub(crate) fn numbers_of_bots(scope: Scope, questions: &[Vec<EventSet<'_>>], filters: &[Filter]) -> Expr {
        let sets = questions.concat();
        let from_ms = sets.iter().map(|set| set.range.from_ms).min().unwrap_or(scope.from_ms);
        let until_ms = sets.iter().map(|set| set.range.until_ms).max().unwrap_or(scope.until_ms);
        let scope = Scope { from_ms, until_ms, traffic: Traffic::Bots, ..scope };
        let numbers = match questions {
            [_] => Select::default().column("count()"),
            _ => questions
                .iter()
                .fold(Select::default(), |numbers, sets| numbers.column(Expr::call("countIf", [EventSet::any(sets, scope)]))),
        };
        numbers.from(Self::of_bots(scope, &sets).filters(filters))
    }

    /// Of these events those that meet `condition`.
    pub(crate) fn and(self, condition: impl Into<Expr>) -> Self {
        Self { conditions: self.conditions.then(" AND ").then(condition), ..self }
    }

    /// Of these events those of one type, if one is given.
    pub(crate) fn event(self, event: Option<&str>) -> Self {
        match event {
            Some(event) => self.and(Expr::from("type = ").then(Expr::text(event))),
            None => self,
        }
    }

    /// Of these events those that pass all filters.
    pub(crate) fn filters(self, filters: &[Filter]) -> Self {
        let scope = self.scope;
        filters.iter().fold(self, |selection, filter| selection.and(filter.condition(&|did| scope.did(did)).grouped()))
    }

    /// These events behind `columns`: ` FROM events … WHERE …`, joined with what columns and conditions name of sessions and persons.
    pub(crate) fn behind(self, columns: Expr) -> Expr {
        let scope = self.scope;
        let wanted = columns.clone().then(self.conditions.clone());
        let sessions = wanted.mentions(session_columns::PREFIX).then(|| scope.of_session(&wanted));
        let revisions = (sessions.is_some() || wanted.mentions(REVISED)).then(|| scope.revisions());
        let traits = scope.traits(&wanted, PERSON);
        self.joined(columns, [revisions, sessions, traits].into_iter().flatten())
    }

    fn joined(self, columns: Expr, joins: impl IntoIterator<Item = Expr>) -> Expr {
        let Self { scope, conditions } = self;
        let from = joins.into_iter().fold(columns.then(" FROM events"), Expr::then);
        from.then(scope.condition()).then(conditions)
    }
}

/// Events that a question is about: of a range, of one type if one is given, that pass all the filters.
#[derive(Clone, Debug)]
pub(crate) struct EventSet<'a> {
    pub(crate) range: &'a Range,
    pub(crate) event: Option<&'a str>,
    /// Those of the request, and of a part of it.
    pub(crate) filters: Vec<&'a [Filter]>,
}

impl<'a> EventSet<'a> {
    /// The types that the events of some sets are of, each once; none if they can be of any.
    fn types(sets: &[Self]) -> Option<Vec<&'a str>> {
        let mut types = Vec::new();
        for set in sets {
            let event = set.event?;
            if !types.contains(&event) {
                types.push(event);
            }
        }
        Some(types)
    }

    /// The condition that an event of `scope` is in one of `sets`.
    fn any(sets: &[Self], scope: Scope) -> Expr {
        let mut conditions: Vec<Expr> = Vec::new();
        for set in sets {
            let condition = set.condition(scope).grouped();
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        Expr::any(conditions).grouped()
    }

    /// The condition that an event of `scope` is in it.
    fn condition(&self, scope: Scope) -> Expr {
        let time = |operator, ms| Expr::from(operator).then(Expr::call("fromUnixTimestamp64Milli", [Expr::int(ms)]));
        let from = (self.range.from_ms > scope.from_ms).then(|| time("timestamp >= ", self.range.from_ms));
        let until = (self.range.until_ms < scope.until_ms).then(|| time("timestamp < ", self.range.until_ms));
        let event = self.event.map(|event| Expr::from("type = ").then(Expr::text(event)));
        let filters = self.filters.iter().copied().flatten().map(|filter| filter.condition(&|did| scope.did(did)).grouped());
        Expr::all(std::iter::once("1".into()).chain(from).chain(until).chain(event).chain(filters))
    }
}

/// `event` and `filters` of a request: which events it is about.
#[derive(Clone, Debug)]
pub(crate) struct EventMatch {
    /// The type; none means any.
    pub(crate) event: Option<String>,
    pub(crate) filters: Vec<Filter>,
}

impl EventMatch {
    /// Reads `event` and `filters`.
    ///
    /// # Errors
    /// 400 `invalid_event`, and as [`filter::parse_all`].
    pub(crate) fn parse(fields: Fields<'_>, context: &Context) -> Result<Self, QueryError> {
        let event = fields.text("event", "invalid_event")?.map(str::to_owned);
        Ok(Self { event, filters: filter::parse_all(fields, context)? })
    }

    /// The events of `range` that it is about.
    pub(crate) fn set<'a>(&'a self, range: &'a Range) -> EventSet<'a> {
        EventSet { range, event: self.event.as_deref(), filters: vec![&self.filters] }
    }

    /// The events of `scope` that it is about.
    pub(crate) fn select(&self, scope: Scope) -> Selection {
        Selection::of(scope).event(self.event.as_deref()).filters(&self.filters)
    }
}

impl Canonical for EventMatch {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { event, filters } = self;
        to.field("event", event).set("filters", filters);
    }
}

/// `SELECT` of columns, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Select(Expr);

impl Select {
    /// Adds a column.
    pub(crate) fn column(self, column: impl Into<Expr>) -> Self {
        let begin = if self.0 == Expr::default() { "SELECT " } else { ", " };
        Self(self.0.then(begin).then(column))
    }

    /// Adds a column with a name, which ` AS …` gives.
    pub(crate) fn named(self, column: impl Into<Expr>, name: &'static str) -> Self {
        self.column(column.into().then(name))
    }

    /// `SELECT` of the columns.
    pub(crate) fn into_expr(self) -> Expr {
        self.0
    }

    /// These columns of a selection. What follows (`GROUP BY` and so on) is appended.
    pub(crate) fn from(self, selection: Selection) -> Expr {
        selection.behind(self.0)
    }
}

impl From<Expr> for Statement {
    fn from(expr: Expr) -> Self {
        expr.append(Self::default())
    }
}
