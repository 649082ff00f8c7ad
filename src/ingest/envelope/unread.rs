//! The parts of a body as texts, unread: what is taken apart costs no more than its own bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Envelope;
use crate::ingest::refusal::Refusal;

/// Most members of an object whose dialect says in them what is true of each of its events.
pub(super) const MAX_MEMBERS: usize = 1_000;

/// The members of an envelope, their values unread.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) batches: Vec<&'a RawValue>,
    pub(super) sent_at: Option<&'a RawValue>,
    pub(super) key: Option<&'a RawValue>,
    pub(super) context: Option<&'a RawValue>,
}

/// One whose keys cannot be read is an event that cannot be read.
pub(super) fn members<'a>(text: &'a str, envelope: &Envelope) -> Members<'a> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    MembersOf(envelope).deserialize(&mut deserializer).unwrap_or_default()
}

struct MembersOf<'e>(&'e Envelope);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members<'de>, A::Error> {
        let mut found = Members::default();
        while let Some((key, value)) = members.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            let (Self(envelope), key) = (&self, key.as_ref());
            // Two batches are as wrong as many.
            if envelope.batch == Some(key) && found.batches.len() < 2 {
                found.batches.push(value);
            } else if envelope.sent_at == Some(key) {
                found.sent_at = Some(value);
            } else if envelope.keys.contains(&key) {
                found.key = Some(value);
            } else if envelope.context == Some(key) {
                found.context = Some(value);
            }
        }
        Ok(found)
    }
}

/// The events of an array that does not parse as a whole.
pub(super) fn elements(text: &str, max: usize, refuse: impl FnOnce(serde_json::Error) -> Refusal) -> Result<Vec<&RawValue>, Refusal> {
    let mut values = Vec::new();
    let mut keep = |value| {
        values.push(value);
        if values.len() > max { Err(Refusal::TooManyEvents(max)) } else { Ok(()) }
    };
    each_element(text, &mut keep, refuse)?;
    if values.is_empty() { Err(Refusal::EmptyBatch) } else { Ok(values) }
}

/// Shows each element of an array to `show`, until it refuses one.
///
/// # Errors
/// What `show` says, and what `refuse` says of a text that is no array.
pub(in crate::ingest) fn each_element<'a>(
    text: &'a str,
    show: &mut dyn FnMut(&'a RawValue) -> Result<(), Refusal>,
    refuse: impl FnOnce(serde_json::Error) -> Refusal,
) -> Result<(), Refusal> {
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Elements { show, refused: &mut refused }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (refused, read) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(problem)) => Err(refuse(problem)),
        (None, Ok(())) => Ok(()),
    }
}

struct Elements<'s, 'a> {
    show: &'s mut dyn FnMut(&'a RawValue) -> Result<(), Refusal>,
    refused: &'s mut Option<Refusal>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            if let Err(refusal) = (self.show)(element) {
                *self.refused = Some(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// The members of an object, at most one more than [`MAX_MEMBERS`]: of millions more would be made than the body is.
pub(super) struct Around<'e>(pub(super) BTreeMap<String, &'e RawValue>);

impl<'e> Deserialize<'e> for Around<'e> {
    fn deserialize<D: Deserializer<'e>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(AroundVisitor)
    }
}

struct AroundVisitor;

impl<'e> Visitor<'e> for AroundVisitor {
    type Value = Around<'e>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'e>>(self, mut from: A) -> Result<Around<'e>, A::Error> {
        let mut members = BTreeMap::new();
        while members.len() <= MAX_MEMBERS
            && let Some((key, value)) = from.next_entry()?
        {
            members.insert(key, value);
        }
        while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Around(members))
    }
}
