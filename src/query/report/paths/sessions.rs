//! Sessions as paths, as statements.

use super::shown::{ENDED, Nodes};
use super::{Anchor, Paths};
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Expr, Scope, Select, Selection};
use crate::store::revisions::SESSION;
use crate::store::schema::IN_ORDER_OF_VISITOR;

/// The names of a step's number of a node, one a step.
const STEPS: [&str; 10] = ["step_1", "step_2", "step_3", "step_4", "step_5", "step_6", "step_7", "step_8", "step_9", "step_10"];

impl Paths {
    /// One row a session that takes a path: `session`, `person` (of its first event), and `path`, the hashes of its nodes from step 1 on: texts
    /// take the server more than twice as long.
    pub(super) fn sessions(&self, scope: Scope) -> Expr {
        let events = Selection::of(scope.around());
        let (from_ms, until_ms) = scope.bounds_ms();
        let is_looked_at = scope.passes(&self.filters);
        let all = |value: Expr| Expr::call("groupArrayIf", [value, is_looked_at.clone()]);
        let (nodes, places) = (all(Nodes::hash(self.node.key())), all(IN_ORDER_OF_VISITOR.into()));
        let nodes = Expr::call("arraySort", ["(node, place) -> place".into(), nodes, places]);
        let columns = Select::default()
            .named(SESSION, " AS session")
            .named(Expr::call("argMin", [PERSON.into(), IN_ORDER_OF_VISITOR.into()]), " AS person")
            .named("toUnixTimestamp64Milli(min(timestamp))", " AS began_at")
            .named(nodes, " AS nodes");
        let sessions = columns.from(events).then(" GROUP BY session HAVING began_at >= ").then(Expr::int(from_ms));
        let sessions = sessions.then(" AND began_at < ").then(Expr::int(until_ms));
        let path = Expr::from("SELECT session, person, ").then(self.path()).then(" AS path FROM ").then(sessions.enclosed());
        path.then(" WHERE notEmpty(path)")
    }

    /// The path of `nodes`; empty where there is none.
    fn path(&self) -> Expr {
        let is_backwards = self.anchor.as_ref().is_some_and(|anchor| anchor.is_end);
        let nodes: Expr = if is_backwards { "arrayReverse(nodes)".into() } else { "nodes".into() };
        let nodes = if self.is_collapsed { Expr::call("arrayCompact", [nodes]) } else { nodes };
        let steps = || Expr::uint(self.steps as u64);
        match &self.anchor {
            None => Expr::call("arraySlice", [nodes, "1".into(), steps()]),
            Some(Anchor { node, .. }) => {
                let first = Expr::call("indexOf", [nodes.clone(), Nodes::hash(node.key())]);
                let path = Expr::call("arraySlice", [nodes, first.clone(), steps()]);
                Expr::call("if", [first.then(" = 0"), "emptyArrayUInt64()".into(), path])
            }
        }
    }

    /// Of each step the nodes of most sessions: step, key, hash of the key, in order.
    pub(super) fn ranking(&self, scope: Scope) -> Expr {
        let nodes =
            Expr::from("SELECT arrayJoin(arrayZip(arrayEnumerate(path), path)) AS node FROM ").then(self.sessions(scope).enclosed());
        let counted = Expr::from("SELECT node.1 AS step, node.2 AS hash, count() AS size FROM ").then(nodes.enclosed());
        let counted = counted.then(" GROUP BY step, hash").enclosed();
        let key = self.node.key();
        let keys = Select::default().named(Nodes::hash(key.clone()), " AS hash").named(Expr::call("any", [key]), " AS key");
        let keys = keys.from(Selection::of(scope.around()).and(scope.passes(&self.filters))).then(" GROUP BY hash").enclosed();
        let ranked = Expr::from("SELECT step, key, hash FROM ").then(counted).then(" AS counted INNER JOIN ").then(keys);
        let ranked = ranked.then(" AS keys USING (hash) ORDER BY step, size DESC, key LIMIT ");
        ranked.then(Expr::uint(self.limit)).then(" BY step")
    }

    /// One row a session: `person`, `session` and the number of its node in each step.
    pub(super) fn numbered(&self, scope: Scope, nodes: &Nodes) -> Expr {
        let columns = (0..self.steps).zip(STEPS).fold(Expr::from("SELECT session, person"), |columns, (step, name)| {
            let number = nodes.number(step, Expr::from("path[").then(Expr::uint(step as u64 + 1)).then("]"));
            let is_there = Expr::from("length(path) > ").then(Expr::uint(step as u64));
            let number = Expr::call("if", [is_there, number, Expr::call("toInt64", [Expr::int(ENDED)])]);
            columns.then(", ").then(number).then(" AS ").then(name)
        });
        columns.then(" FROM ").then(self.sessions(scope).enclosed())
    }

    /// How many sessions go from one node to the next: step, number of the node, number of the next one, sessions.
    pub(super) fn moves(&self, scope: Scope, nodes: &Nodes) -> Expr {
        let ended = || Expr::call("toInt64", [Expr::int(ENDED)]);
        let moves = (0..self.steps).map(|step| {
            let next = STEPS.get(step + 1).filter(|_| step + 1 < self.steps).map_or_else(ended, |name| (*name).into());
            let this = STEPS.get(step).copied().unwrap_or_default();
            Expr::from("(").then(Expr::int(step as i64)).then(", ").then(this).then(", ").then(next).then(")")
        });
        let moves = Expr::from("[").then(Expr::list(", ", moves)).then("]");
        let each = Expr::from("SELECT arrayJoin(").then(moves).then(") AS move FROM ").then(self.numbered(scope, nodes).enclosed());
        let counted = Expr::from("SELECT move.1 AS step, move.2 AS this, move.3 AS next, count() FROM ").then(each.enclosed());
        counted.then(" WHERE this != ").then(ended()).then(" GROUP BY step, this, next ORDER BY step, this, next")
    }

    /// The name of the column of a step in [`Self::numbered`].
    pub(super) fn column(step: usize) -> &'static str {
        STEPS.get(step).copied().unwrap_or_default()
    }
}
