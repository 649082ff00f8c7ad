//! One event as a dialect reads it, before anything of it is checked.
//!
//! Borrows everything from the tape. A dialect says which value stands for what; whether the value will do is for the contract to say.

use simd_json::Node;

use super::tape::Value;
use super::verdict::Rejection;
use super::warning::{UNKNOWN_FIELD, Warnings};
use crate::event::field::Field;

/// Reads an event of a dialect. Errors: it is none.
pub(super) type ReadEvent = for<'t> fn(Value<'t>, &mut Draft<'t, '_>) -> Result<(), Rejection>;

/// The values of one event; what is not given, or `null`, is `None`.
pub(super) struct Draft<'t, 'd> {
    pub(super) event_id: Option<Value<'t>>,
    /// The id, where what the client calls the event is only a part of what it is known by.
    pub(super) made_id: Option<[u8; 16]>,
    /// The name of the event.
    pub(super) name: Option<Value<'t>>,
    /// What the dialect calls the event, where the client's own name for it will not do.
    pub(super) called: Option<&'t str>,
    pub(super) user_id: Option<Value<'t>>,
    pub(super) anonymous_id: Option<Value<'t>>,
    /// Another id of the user, which an alias ties to `user_id`.
    pub(super) previous_id: Option<Value<'t>>,
    /// What ids of persons and visitors may begin with and is no part of them.
    pub(super) id_prefix: &'static str,
    pub(super) session_id: Option<Value<'t>>,
    pub(super) timestamp: Option<Value<'t>>,
    /// How long ago it happened, milliseconds, where there is no `timestamp`.
    pub(super) age: Option<Value<'t>>,
    /// When the client sent this event; without it, that of the envelope counts.
    pub(super) sent_at: Option<Value<'t>>,
    /// What the batch says of each of its events: their context, where they say none.
    pub(super) around: Option<Value<'t>>,
    /// The client's address, where a server sends for the client.
    pub(super) address: Option<Value<'t>>,
    /// Whether the address of the peer is not the client's: a server's, which says so, in the head of its request or in the event.
    pub(super) is_of_server: bool,
    pub(super) properties: Option<Value<'t>>,
    /// What is said of the user; the properties where there are no others.
    pub(super) traits: Option<Value<'t>>,
    /// Which members of `properties` are none: the dialect has read them, or their client speaks of itself.
    pub(super) leaves_out: fn(&str) -> bool,
    /// Reads another event out of the same value: what it says of the user, beside what happened.
    pub(super) also: Option<ReadEvent>,
    /// Whether it says what a group is (a company, a team), whose id then stands in place of a person's.
    pub(super) is_of_group: bool,
    /// Whether it is that other event, whose id is one of its own.
    pub(super) is_other: bool,
    /// Whether somebody without an id is known by address and agent for a day; in an import by the address, for ever.
    pub(super) is_named_by_address: bool,
    /// The id where there is none, if a copy of the event is to have the same.
    pub(super) fallback_id: Option<[u8; 16]>,
    /// Whether ids may be numbers, as some clients send them.
    pub(super) has_numeric_ids: bool,
    nodes: &'t [Node<'t>],
    facts: &'d mut Vec<Fact>,
    pub(super) warnings: &'d mut Warnings,
}

/// Something that the client says of the circumstances of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    /// Where its value stands on the tape, behind its key.
    at: usize,
    pub(super) scope: Scope,
    pub(super) kind: FactKind,
}

/// What a value of the context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FactKind {
    /// The value of a field.
    Of(Field),
    /// Of a name that the dialect does not know.
    Unknown,
    /// Of a kind that it does not have.
    Unreadable,
    /// A property of this name that does not stand among the others.
    Property(&'static str),
}

/// In what a value stands: names it in warnings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Event,
    Context,
    /// In an object of the context that stands here on the tape.
    Group(usize),
}

impl<'t, 'd> Draft<'t, 'd> {
    /// An empty draft of `event`, or of what else stands on its tape.
    pub(super) fn new(event: Value<'t>, facts: &'d mut Vec<Fact>, warnings: &'d mut Warnings) -> Self {
        facts.clear();
        Self {
            event_id: None,
            made_id: None,
            name: None,
            called: None,
            user_id: None,
            anonymous_id: None,
            previous_id: None,
            id_prefix: "",
            session_id: None,
            timestamp: None,
            age: None,
            sent_at: None,
            around: None,
            address: None,
            is_of_server: false,
            properties: None,
            traits: None,
            leaves_out: |_| false,
            also: None,
            is_of_group: false,
            is_other: false,
            is_named_by_address: false,
            fallback_id: None,
            has_numeric_ids: false,
            nodes: event.nodes,
            facts,
            warnings,
        }
    }

    /// Passes over a member of the event that the dialect does not know.
    pub(super) fn pass_over(&mut self, key: &str) {
        self.warnings.add(UNKNOWN_FIELD, &[key]);
    }

    /// Notes a value of the context; the contract looks at them in this order.
    #[inline]
    pub(super) fn note(&mut self, kind: FactKind, value: Value<'t>, scope: Scope) {
        self.facts.push(Fact { at: value.at, scope, kind });
    }

    /// Notes a property that does not stand among the others, if it is given.
    pub(super) fn note_property(&mut self, name: &'static str, value: Option<Value<'t>>) {
        if let Some(value) = value {
            self.note(FactKind::Property(name), value, Scope::Event);
        }
    }

    /// What was noted, in order, and where to warn about it.
    pub(super) fn facts(&mut self) -> (impl Iterator<Item = (Fact, Value<'t>)>, &mut Warnings) {
        let nodes = self.nodes;
        (self.facts.iter().map(move |fact| (*fact, Value { nodes, at: fact.at })), self.warnings)
    }
}

impl Scope {
    /// The name of a value as warnings write it, in parts.
    pub(super) fn name<'t>(self, value: Value<'t>) -> [&'t str; 4] {
        match self {
            Self::Event => [value.key(), "", "", ""],
            Self::Context => ["context.", value.key(), "", ""],
            Self::Group(at) => ["context.", Value { nodes: value.nodes, at }.key(), ".", value.key()],
        }
    }
}
