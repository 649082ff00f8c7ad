//! A JSON text as a tape of nodes: parsed once, and every value borrowed from it.
//!
//! Owns the parser's memory, one set a thread. Promises: reading a value allocates nothing. May go wrong: a text does not parse, and
//! then there is no tape.

use std::cell::RefCell;
use std::io::Write as _;

use serde_json::Value as Json;
use simd_json::{Buffers, Node, StaticNode, Tape};
use xxhash_rust::xxh3::Xxh3;

use crate::event::time::{of_epoch, of_epoch_float};

/// What the parser needs and a thread keeps: parsing never waits, so no two requests use it at once.
#[derive(Default)]
struct Scratch {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
    text: Vec<u8>,
}

/// Beyond these sizes a thread frees the parser's memory: one huge body must not be paid for ever after.
const KEEP_TEXT: usize = 1 << 20;
const KEEP_NODES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Parses `bytes` and shows the value; `None` if they do not parse. `show` must not parse again.
pub(super) fn with_tape<T>(bytes: &[u8], show: impl FnOnce(Value<'_>) -> T) -> Option<T> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { buffers, tape, text } = scratch;
        // The parser unescapes in place and reads beyond the end: it gets a copy with room behind it.
        text.clear();
        text.extend_from_slice(bytes);
        text.resize(bytes.len() + simd_json::INPUT_PADDING, 0);
        let mut open: Tape<'_> = tape.take().map_or_else(|| Tape(Vec::new()), Tape::reset);
        let is_parsed = simd_json::fill_tape_padded(text, bytes.len(), buffers, &mut open).is_ok();
        let shown = is_parsed.then(|| show(Value::first(&open.0)));
        let nodes = open.0.capacity();
        *tape = Some(open.reset());
        if text.capacity() > KEEP_TEXT || nodes > KEEP_NODES {
            *scratch = Scratch::default();
        }
        shown
    })
}

/// A value on a tape.
#[derive(Clone, Copy)]
pub(super) struct Value<'t> {
    pub(super) nodes: &'t [Node<'t>],
    pub(super) at: usize,
}

impl<'t> Value<'t> {
    /// The first value of a tape.
    pub(super) fn first(nodes: &'t [Node<'t>]) -> Self {
        Self { nodes, at: 0 }
    }

    /// Its node; `None` on an empty tape.
    pub(super) fn node(self) -> Option<&'t Node<'t>> {
        self.nodes.get(self.at)
    }

    /// It by itself; null on an empty tape.
    pub(super) fn to_json(self) -> Json {
        match self.node() {
            Some(Node::String(text)) => Json::from(*text),
            Some(Node::Static(StaticNode::I64(number))) => Json::from(*number),
            Some(Node::Static(StaticNode::U64(number))) => Json::from(*number),
            Some(Node::Static(StaticNode::F64(number))) => Json::from(*number),
            Some(Node::Static(StaticNode::Bool(claim))) => Json::from(*claim),
            Some(Node::Object { .. }) => self.members().map(|(key, value)| (key.to_owned(), value.to_json())).collect(),
            Some(Node::Array { .. }) => self.elements().map(Self::to_json).collect(),
            Some(Node::Static(StaticNode::Null)) | None => Json::Null,
        }
    }

    /// The key before it, if it is a member of an object.
    pub(super) fn key(self) -> &'t str {
        let before = self.at.checked_sub(1).and_then(|at| self.nodes.get(at));
        if let Some(Node::String(key)) = before { key } else { "" }
    }

    pub(super) fn is_null(self) -> bool {
        matches!(self.node(), Some(Node::Static(StaticNode::Null)))
    }

    pub(super) fn is_object(self) -> bool {
        matches!(self.node(), Some(Node::Object { .. }))
    }

    /// Whether it is an object of at least one member.
    pub(super) fn has_members(self) -> bool {
        matches!(self.node(), Some(Node::Object { len: 1.., .. }))
    }

    /// Whether it is `[]`, which is how PHP writes an empty object.
    pub(super) fn is_empty_array(self) -> bool {
        matches!(self.node(), Some(Node::Array { len: 0, .. }))
    }

    /// The value itself, or nothing if it is `null`, which says the same.
    pub(super) fn given(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// The text of a string.
    pub(super) fn text(self) -> Option<&'t str> {
        if let Some(Node::String(text)) = self.node() { Some(text) } else { None }
    }

    /// `true` or `false`.
    pub(super) fn claim(self) -> Option<bool> {
        if let Some(Node::Static(StaticNode::Bool(claim))) = self.node() { Some(*claim) } else { None }
    }

    /// The member of an object that is called `key`, unless it is `null`.
    pub(super) fn member(self, key: &str) -> Option<Self> {
        self.members().find(|(own, _)| *own == key)?.1.given()
    }

    /// Shows the text of a string, or of a number as it is written.
    pub(super) fn with_text<T>(self, take: impl FnOnce(&str) -> T) -> Option<T> {
        match self.node()? {
            Node::String(text) => Some(take(text)),
            Node::Static(StaticNode::I64(number)) => with_digits(format_args!("{number}"), take),
            Node::Static(StaticNode::U64(number)) => with_digits(format_args!("{number}"), take),
            Node::Static(StaticNode::F64(number)) => with_digits(format_args!("{number:?}"), take),
            _ => None,
        }
    }

    /// A number, or text that is one.
    pub(super) fn number(self) -> Option<f64> {
        match self.node()? {
            Node::String(text) => text.trim().parse().ok(),
            Node::Static(StaticNode::I64(number)) => Some(*number as f64),
            Node::Static(StaticNode::U64(number)) => Some(*number as f64),
            Node::Static(StaticNode::F64(number)) => Some(*number),
            _ => None,
        }
    }

    /// A time in any form the contract knows: ISO 8601 as text, or a number since 1970.
    pub(super) fn time(self) -> Option<i64> {
        match self.node()? {
            Node::String(text) => crate::event::time::parse(text.trim().as_bytes()),
            Node::Static(StaticNode::I64(number)) => of_epoch(u64::try_from(*number).ok()?),
            Node::Static(StaticNode::U64(number)) => of_epoch(*number),
            Node::Static(StaticNode::F64(number)) => of_epoch_float(*number),
            _ => None,
        }
    }

    /// How many values and keys it is made of, itself among them.
    pub(super) fn nodes(self) -> usize {
        next(self.nodes, self.at) - self.at
    }

    /// Whether an object in it has more members than that.
    pub(super) fn has_object_beyond(self, most: usize) -> bool {
        let inside = self.nodes.get(self.at + 1..next(self.nodes, self.at)).unwrap_or_default();
        inside.iter().any(|node| matches!(node, Node::Object { len, .. } if *len > most))
    }

    /// About how many bytes it takes as text.
    pub(super) fn size(self) -> usize {
        let nodes = self.nodes.get(self.at..next(self.nodes, self.at)).unwrap_or_default();
        nodes.iter().map(|node| if let Node::String(text) = node { text.len() + 3 } else { 2 }).sum()
    }

    /// Keys and values of an object; none of anything else.
    pub(super) fn members(self) -> impl Iterator<Item = (&'t str, Self)> {
        let len = if let Some(Node::Object { len, .. }) = self.node() { *len } else { 0 };
        let mut at = self.at + 1;
        (0..len).map_while(move |_| {
            let Some(Node::String(key)) = self.nodes.get(at) else { return None };
            let value = Self { nodes: self.nodes, at: at + 1 };
            at = next(self.nodes, value.at);
            Some((*key, value))
        })
    }

    /// What it is, in 128 bits.
    pub(super) fn digest(self) -> u128 {
        let mut hasher = Xxh3::new();
        for node in self.nodes.get(self.at..next(self.nodes, self.at)).unwrap_or_default() {
            match node {
                Node::String(text) => hasher.update(text.as_bytes()),
                Node::Static(scalar) => {
                    let _ = with_digits(format_args!("{scalar:?}"), |digits| hasher.update(digits.as_bytes()));
                }
                Node::Object { len, .. } => hasher.update(&len.to_le_bytes()),
                Node::Array { len, .. } => hasher.update(&(!len).to_le_bytes()),
            }
            // Ends it: no two lists of words are the same text.
            hasher.update(&[0xff]);
        }
        hasher.digest128()
    }

    /// Number of values of an array; `None` of anything else.
    pub(super) fn array_len(self) -> Option<usize> {
        if let Some(Node::Array { len, .. }) = self.node() { Some(*len) } else { None }
    }

    /// Values of an array; none of anything else.
    pub(super) fn elements(self) -> impl Iterator<Item = Self> {
        let mut at = self.at + 1;
        (0..self.array_len().unwrap_or(0)).map(move |_| {
            let value = Self { nodes: self.nodes, at };
            at = next(self.nodes, at);
            value
        })
    }
}

/// The node after the value at `at`.
fn next(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes.get(at) {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + 1 + count,
        _ => at + 1,
    }
}

/// Writes a number on the stack; the longest float has some 330 characters, and no version or id.
pub(super) fn with_digits<T>(number: std::fmt::Arguments<'_>, take: impl FnOnce(&str) -> T) -> Option<T> {
    let mut digits = [0; 40];
    let mut rest = digits.as_mut_slice();
    rest.write_fmt(number).ok()?;
    let length = 40 - rest.len();
    std::str::from_utf8(digits.get(..length)?).ok().map(take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_body_leaves_nothing_behind_in_the_thread() {
        let numbers = format!("[{}]", vec!["1"; 1 << 20].join(","));
        assert_eq!(with_tape(numbers.as_bytes(), |list| list.array_len()), Some(Some(1 << 20)));
        SCRATCH.with_borrow(|scratch| assert_eq!((scratch.text.capacity(), scratch.tape.is_none()), (0, true)));
    }

    #[test]
    fn every_value_of_a_tape_is_found_under_its_key() {
        let text = br#"{"a":{"b":[1,{"c":null}],"d":"x"},"e":[],"f":2.5}"#;
        let found = with_tape(text, |root| {
            let mut keys = Vec::new();
            for (key, value) in root.members() {
                assert_eq!(key, value.key());
                keys.push(key.to_owned());
                keys.extend(value.members().map(|(key, _)| key.to_owned()));
                keys.extend(value.elements().map(|_| "element".to_owned()));
            }
            keys
        });
        assert_eq!(found.unwrap(), ["a", "b", "d", "e", "f"]);
    }
}
