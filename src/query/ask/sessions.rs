//! Sessions of a range as the rows of a statement: those that begin in it, whole, and meet conditions.

use super::expr::Expr;
use super::filter::Filter;
use super::selection::{Scope, Select, Selection};
use super::session_columns::{KEY, PERSON_KEY, START};
use crate::store::revisions::SESSION;

/// Sessions that begin in a scope and meet all conditions.
#[derive(Clone, Debug)]
pub(crate) struct SessionSelection {
    scope: Scope,
    /// On columns of sessions.
    conditions: Vec<Expr>,
    /// On events: of one of its events all must hold.
    filters: Vec<Filter>,
}

impl SessionSelection {
    /// All sessions that begin in `scope`.
    pub(crate) fn of(scope: Scope) -> Self {
        let (from_ms, until_ms) = scope.bounds_ms();
        let begins = [Expr::from(START).infix(" >= ", Expr::int(from_ms)), Expr::from(START).infix(" < ", Expr::int(until_ms))];
        Self { scope, conditions: begins.to_vec(), filters: Vec::new() }
    }

    /// Of these sessions those that meet a condition on their columns.
    pub(crate) fn and(mut self, condition: impl Into<Expr>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Of these sessions those that have an event that passes all filters.
    pub(crate) fn filters(mut self, filters: &[Filter]) -> Self {
        let (of_session, of_event) = filters.iter().cloned().partition::<Vec<_>, _>(Filter::is_of_session);
        // What people did is not asked of a session alone.
        self.conditions.extend(of_session.iter().map(|filter| filter.condition(&|_| "0".into()).grouped()));
        self.filters.extend(of_event);
        self
    }

    /// The condition that a session, which `session` is the key of, has an event that passes the filters; none without any.
    fn has_event(&self, session: &'static str) -> Option<Expr> {
        let events = Selection::of(self.scope.around()).filters(&self.filters);
        let sessions = Select::default().column(SESSION).from(events);
        (!self.filters.is_empty()).then(|| Expr::from(session).then(" GLOBAL IN ").then(sessions.enclosed()))
    }

    /// `columns` of these sessions. What follows (`GROUP BY` and so on) is appended.
    pub(crate) fn select(self, columns: Select) -> Expr {
        let columns = columns.into_expr();
        let has_event = self.has_event(KEY);
        let conditions = Expr::all(self.conditions.into_iter().chain(has_event));
        let wanted = columns.clone().then(conditions.clone());
        let traits = self.scope.traits(&wanted, PERSON_KEY);
        let wanted = if traits.is_some() { wanted.then(PERSON_KEY) } else { wanted };
        let sessions = self.scope.around().sessions(&wanted);
        let from = columns.then(" FROM ").then(sessions.enclosed()).then(" AS sessions").then(traits.unwrap_or_default());
        from.then(" WHERE ").then(conditions)
    }

    /// The events of these sessions.
    pub(crate) fn events(self) -> Selection {
        let has_event = self.has_event(SESSION);
        let events = Selection::of(self.scope.around());
        self.conditions.into_iter().chain(has_event).fold(events, Selection::and)
    }
}
