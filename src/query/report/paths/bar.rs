//! A node, a link or a drop-off, as the events of its sessions: those of the person whom a session counts for.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Paths;
use super::shown::{ENDED, Nodes};
use crate::query::ask::breakdown::ValueOf;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Range, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};
use crate::store::revisions::SESSION;

/// Keys that name a bar.
pub(super) const KEYS: [&str; 6] = ["step", "name", "kind", "next", "next_kind", "dropped"];

/// A bar.
pub(super) struct PathBar {
    paths: Paths,
    /// From 0.
    step: usize,
    node: ValueOf,
    next: Next,
}

/// What comes after the node.
#[derive(Clone, Debug)]
enum Next {
    Anything,
    Nothing,
    Node(ValueOf),
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_of", message)
}

impl PathBar {
    /// Reads `step` (from 1), `name` and `kind` of a node, and `dropped` (true for its drop-off), or `next` and `next_kind` for the link to
    /// that one.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(paths: Paths, bar: Bar<'_>) -> Result<Self, QueryError> {
        let fields = bar.fields;
        if bar.is_compared {
            return Err(invalid("paths are not compared"));
        }
        let steps = paths.steps;
        let step = fields
            .value("step")
            .and_then(Value::as_u64)
            .and_then(|step| usize::try_from(step).ok())
            .filter(|step| (1..=steps).contains(step));
        let step = step.ok_or_else(|| invalid(format!("`step` must be a whole number from 1 to {steps}")))? - 1;
        let node = |name: &str, kind: &str| match fields.value(name) {
            Some(value) => ValueOf::parse(Some(value.clone()), fields.value(kind).cloned()),
            None => Err(invalid(format!("`{name}` is missing: a node of the step"))),
        };
        let is_dropped = fields.flag("dropped", "invalid_of")?;
        match (fields.value("next"), is_dropped) {
            (Some(_), true) => Err(invalid("a bar is a link with `next`, or a drop-off, not both")),
            (Some(_), false) if step + 1 == steps => Err(invalid("no link begins at the last step")),
            (Some(_), false) => Ok(Self { node: node("name", "kind")?, next: Next::Node(node("next", "next_kind")?), step, paths }),
            (None, _) => {
                Ok(Self { node: node("name", "kind")?, next: if is_dropped { Next::Nothing } else { Next::Anything }, step, paths })
            }
        }
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let nodes = self.paths.nodes(runner).await?;
        let scope = runner.scope(&self.paths.range);
        let is_taken = self.is_taken(&nodes).unwrap_or_else(|| "0".into());
        let sessions =
            Expr::from("SELECT session, person FROM ").then(self.paths.numbered(scope, &nodes).enclosed()).then(" WHERE ").then(is_taken);
        let is_in = Expr::from("(").then(SESSION).then(", ").then(PERSON).then(") GLOBAL IN ").then(sessions.enclosed());
        Ok(Selection::of(scope.around()).and(is_in))
    }

    /// The condition on the numbers of a session's steps; none where a node of it is not shown.
    fn is_taken(&self, nodes: &Nodes) -> Option<Expr> {
        let is = |step: usize, number: i64| Expr::from(Paths::column(step)).then(" = ").then(Expr::int(number));
        let is_node = is(self.step, nodes.number_of(self.step, &self.node)?);
        let is_last = self.step + 1 == self.paths.steps;
        Some(match &self.next {
            Next::Nothing if !is_last => Expr::all([is_node, is(self.step + 1, ENDED)]),
            Next::Anything | Next::Nothing => is_node,
            Next::Node(next) => Expr::all([is_node, is(self.step + 1, nodes.number_of(self.step + 1, next)?)]),
        })
    }
}

impl Canonical for Next {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Anything => to.word("anything"),
            Self::Nothing => to.word("nothing"),
            Self::Node(node) => drop(to.field("node", node)),
        }
    }
}

impl Canonical for PathBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { paths, step, node, next } = self;
        to.field(Paths::NAME, paths).field("step", step).field("node", node).field("next", next);
    }
}

impl People for PathBar {
    fn ranges(&self) -> Vec<&Range> {
        vec![&self.paths.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![EventSet { range: &self.paths.range, event: None, filters: vec![&self.paths.filters] }]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        async { Ok(Actors::OfEvents(self.selection(runner).await?)) }.boxed()
    }
}
