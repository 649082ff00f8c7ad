//! The nodes of each step, and rows of sessions folded into what the wire shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::query::ask::Expr;
use crate::query::ask::breakdown::{OTHER, Shown, Tops, ValueOf, hash};
use crate::query::ask::dimensions::Dimensions;
use crate::query::reader::Row;

/// The number of a step that a session does not take.
pub(super) const ENDED: i64 = -2;

/// The nodes that are shown by name, step by step.
pub(super) struct Nodes(Vec<Tops>);

impl Nodes {
    /// Reads rows of a ranking: step, key, hash.
    pub(super) fn read(rows: &[Row], steps: usize, node: &Dimensions) -> Self {
        let of_step = |step: usize| {
            let own = rows.iter().filter(|row| row.cell(0).uint() == step as u64 + 1);
            Tops::read_keys(own.map(|row| (row.cell(1), row.cell(2).uint())), node)
        };
        Self((0..steps).map(of_step).collect())
    }

    /// The hash by which statements know a key.
    pub(super) fn hash(key: Expr) -> Expr {
        hash(key)
    }

    /// The number of the node in a step whose key has the hash `of`.
    pub(super) fn number(&self, step: usize, of: Expr) -> Expr {
        self.0.get(step).map_or_else(|| Expr::call("toInt64", [Expr::int(OTHER)]), |tops| tops.line_of_hash(of))
    }

    /// The number of a node in a step; none where it is not shown by name.
    pub(super) fn number_of(&self, step: usize, node: &ValueOf) -> Option<i64> {
        if *node == ValueOf::Other { Some(OTHER) } else { self.0.get(step)?.line_of_value(node) }
    }

    /// How a node is shown.
    fn shown(&self, step: usize, number: i64) -> Option<Shown> {
        self.0.get(step).map(|tops| tops.shown(number))
    }

    /// Where a node stands among those of its step.
    fn place(&self, step: usize, number: i64) -> (i64, bool) {
        self.0.get(step).map_or((number, true), |tops| tops.place(number))
    }
}

/// Numbers of sessions, by step (from 0) and numbers of nodes.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    nodes: BTreeMap<(usize, i64), u64>,
    links: BTreeMap<(usize, i64, i64), u64>,
    dropoffs: BTreeMap<(usize, i64), u64>,
}

/// As the wire shows it.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    nodes: Vec<Node>,
    links: Vec<Link>,
    dropoffs: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    step: usize,
    name: Box<RawValue>,
    kind: Box<RawValue>,
    sessions: u64,
}

#[derive(Debug, Serialize)]
struct Link {
    /// That of `from`.
    step: usize,
    from: Box<RawValue>,
    from_kind: Box<RawValue>,
    to: Box<RawValue>,
    to_kind: Box<RawValue>,
    sessions: u64,
}

impl Numbers {
    /// Takes a row: step, number of the node, number of the next one, sessions.
    pub(super) fn add(&mut self, row: &Row) {
        let [step, node, next, sessions] = row.columns();
        let (step, node, next, sessions) = (step.uint() as usize, node.int(), next.int(), sessions.uint());
        *self.nodes.entry((step, node)).or_default() += sessions;
        if next == ENDED {
            *self.dropoffs.entry((step, node)).or_default() += sessions;
        } else {
            *self.links.entry((step, node, next)).or_default() += sessions;
        }
    }

    /// As the wire shows it.
    pub(super) fn chart(&self, nodes: &Nodes) -> Chart {
        Chart { nodes: nodes_of(&self.nodes, nodes), links: self.links_of(nodes), dropoffs: nodes_of(&self.dropoffs, nodes) }
    }

    fn links_of(&self, nodes: &Nodes) -> Vec<Link> {
        let mut ordered: Vec<_> = self.links.iter().collect();
        ordered.sort_by_key(|((step, from, to), _)| (*step, nodes.place(*step, *from), nodes.place(*step + 1, *to)));
        let shown = ordered.into_iter().filter_map(|((step, from, to), sessions)| {
            let (from, to) = (nodes.shown(*step, *from)?, nodes.shown(*step + 1, *to)?);
            let Shown { value: from, kind: from_kind } = from;
            Some(Link { step: step + 1, from, from_kind, to: to.value, to_kind: to.kind, sessions: *sessions })
        });
        shown.collect()
    }
}

fn nodes_of(numbers: &BTreeMap<(usize, i64), u64>, nodes: &Nodes) -> Vec<Node> {
    let mut ordered: Vec<_> = numbers.iter().collect();
    ordered.sort_by_key(|((step, number), _)| (*step, nodes.place(*step, *number)));
    let shown = ordered.into_iter().filter_map(|((step, number), sessions)| {
        let Shown { value: name, kind } = nodes.shown(*step, *number)?;
        Some(Node { step: step + 1, name, kind, sessions: *sessions })
    });
    shown.collect()
}
