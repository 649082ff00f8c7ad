//! `properties`: any JSON object within limits, flattened.
//!
//! Strings and numbers keep their kind; booleans, arrays and numbers that no 64-bit float holds are kept as JSON text; nested objects
//! become keys with dots; `null` is the same as missing. A string longer than allowed is cut at a character and the event flagged. A
//! property that cannot be kept costs itself and is noted; what is beyond the limits costs the event.

use simd_json::{Node, StaticNode};
use xxhash_rust::xxh3::xxh3_64;

use super::IngestLimits;
use super::tape::{Value, with_digits};
use super::verdict::Rejection;
use super::warning::{CHARACTER_REMOVED, VALUE_TRUNCATED, VALUE_UNREADABLE, Warnings};
use crate::event::packed::EventWriter;
use crate::event::text::{clip, has_nul};
use crate::outcome::Defect;

/// Up to here a 64-bit float holds every integer.
const EXACT: u64 = 1 << 53;

/// Packs the properties of one event.
pub(super) struct Properties<'l, 'w, 'b> {
    limits: &'l IngestLimits,
    writer: &'w mut EventWriter<'b>,
    warnings: &'w mut Warnings,
    /// Hashes of the keys so far: 64 bits tell a few hundred keys apart.
    seen: Seen,
    key: String,
    is_truncated: bool,
}

/// Hashes on the stack for the usual few, on the heap beyond.
struct Seen {
    few: [u64; 32],
    len: usize,
    more: Vec<u64>,
    /// A bit for what hashes end with: most that are new have one of their own, and are not looked for.
    ends: u64,
}

impl Seen {
    fn has(&self, hash: u64) -> bool {
        let few = self.few.get(..self.len.min(32)).unwrap_or_default();
        self.ends & Self::end(hash) != 0 && (few.contains(&hash) || self.more.contains(&hash))
    }

    fn end(hash: u64) -> u64 {
        1 << (hash % u64::from(u64::BITS))
    }

    /// Remembers a hash; `false` if it was there.
    fn insert(&mut self, hash: u64) -> bool {
        if self.has(hash) {
            return false;
        }
        match self.few.get_mut(self.len) {
            Some(place) => *place = hash,
            None => self.more.push(hash),
        }
        self.ends |= Self::end(hash);
        self.len += 1;
        true
    }
}

impl<'l, 'w, 'b> Properties<'l, 'w, 'b> {
    pub(super) fn new(limits: &'l IngestLimits, writer: &'w mut EventWriter<'b>, warnings: &'w mut Warnings) -> Self {
        let seen = Seen { few: [0; 32], len: 0, more: Vec::new(), ends: 0 };
        Self { limits, writer, warnings, seen, key: String::new(), is_truncated: false }
    }

    /// Whether a value was cut.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Packs an object but for the members that are left out; an empty array is PHP's empty object.
    pub(super) fn object(&mut self, value: Value<'_>, leaves_out: fn(&str) -> bool) -> Result<(), Rejection> {
        if value.is_object() {
            let kept = value.members().filter(|(key, _)| !leaves_out(key));
            return kept.into_iter().try_for_each(|(key, value)| self.member_at(key, value, 1));
        }
        if value.is_empty_array() {
            return Ok(());
        }
        Err(Rejection::new(Defect::PropertiesInvalid, "properties", "`properties` is not an object"))
    }

    /// Packs the members of `traits` that stand beside an object and that it does not name.
    pub(super) fn also(&mut self, traits: Value<'_>, leaves_out: fn(&str) -> bool) -> Result<(), Rejection> {
        if !traits.is_object() && !traits.is_null() && !traits.is_empty_array() {
            self.warnings.add(VALUE_UNREADABLE, &["traits"]);
        }
        for (key, value) in traits.members().filter(|(key, _)| !leaves_out(key)) {
            if self.seen.has(xxh3_64(key.as_bytes())) {
                self.warnings.add(Defect::DuplicateKey.as_str(), &["traits.", key]);
            } else {
                self.member_at(key, value, 1)?;
            }
        }
        Ok(())
    }

    /// Packs one more property, unless the object had one of this name.
    pub(super) fn member(&mut self, key: &str, value: Value<'_>) -> Result<(), Rejection> {
        if self.seen.has(xxh3_64(key.as_bytes())) { Ok(()) } else { self.member_at(key, value, 1) }
    }

    fn members(&mut self, object: Value<'_>, depth: usize) -> Result<(), Rejection> {
        if depth > self.limits.max_depth {
            return Err(too_deep(self.limits));
        }
        object.members().try_for_each(|(key, value)| self.member_at(key, value, depth))
    }

    fn member_at(&mut self, key: &str, value: Value<'_>, depth: usize) -> Result<(), Rejection> {
        if value.is_null() {
            return Ok(());
        }
        let prefix = self.key.len();
        let has_members = value.has_members();
        if prefix == 0 && !has_members {
            return if self.takes_key(key, key) { self.value(key, value, depth) } else { Ok(()) };
        }
        if has_members {
            if self.enter(key) {
                self.members(value, depth + 1)?;
            }
        } else if self.enter(key) {
            let full = std::mem::take(&mut self.key);
            self.value(&full, value, depth)?;
            self.key = full;
        }
        self.key.truncate(prefix);
        Ok(())
    }

    /// Goes down one level; `false` if it has a key that cannot be kept. Each level's key is checked by itself: a flattened key may be
    /// as long as its levels together.
    fn enter(&mut self, key: &str) -> bool {
        if !self.key.is_empty() {
            self.key.push('.');
        }
        self.key.push_str(key);
        let full = std::mem::take(&mut self.key);
        let is_taken = self.takes_key(key, &full);
        self.key = full;
        is_taken
    }

    /// Whether a property may be called `key`; if not, that is noted under its flattened name.
    fn takes_key(&mut self, key: &str, full: &str) -> bool {
        let defect = if key.is_empty() || key.len() > self.limits.max_key {
            Defect::PropertyKeyInvalid
        } else if has_nul(key) {
            Defect::InvalidCharacter
        } else {
            return true;
        };
        self.warnings.add(defect.as_str(), &["properties.", full]);
        false
    }

    /// Packs a value that is no object with members. Inlined by order: every property comes here, and most of them are short.
    #[inline(always)]
    fn value(&mut self, key: &str, value: Value<'_>, depth: usize) -> Result<(), Rejection> {
        if !self.seen.insert(xxh3_64(key.as_bytes())) {
            // Nothing says which of them is meant: the first one stays.
            self.warnings.add(Defect::DuplicateKey.as_str(), &["properties.", key]);
            return Ok(());
        }
        if self.seen.len > self.limits.max_properties {
            let message = format!("more than {} properties", self.limits.max_properties);
            return Err(Rejection::new(Defect::TooManyProperties, "properties", message));
        }
        let Some(node) = value.node() else { return Ok(()) };
        match node {
            Node::String(text) => self.string(key, text),
            Node::Static(StaticNode::Bool(true)) => self.writer.other(key.as_bytes(), b"true"),
            Node::Static(StaticNode::Bool(false)) => self.writer.other(key.as_bytes(), b"false"),
            Node::Static(StaticNode::Null) => {}
            Node::Static(StaticNode::I64(number)) if number.unsigned_abs() <= EXACT => self.writer.number(key.as_bytes(), *number as f64),
            Node::Static(StaticNode::U64(number)) if *number <= EXACT => self.writer.number(key.as_bytes(), *number as f64),
            Node::Static(StaticNode::I64(number)) => self.integer(key, i128::from(*number)),
            Node::Static(StaticNode::U64(number)) => self.integer(key, i128::from(*number)),
            Node::Static(StaticNode::F64(number)) if number.is_finite() => self.writer.number(key.as_bytes(), *number),
            Node::Static(_) => {
                let field = format!("properties.{key}");
                return Err(Rejection::new(Defect::NumberOutOfRange, &field, format!("property `{key}` is no 64-bit float")));
            }
            Node::Array { .. } | Node::Object { .. } => self.json(key, value, depth)?,
        }
        Ok(())
    }

    /// An integer that a 64-bit float holds is a number, any other JSON text: an id above 2^53 is not its neighbour.
    fn integer(&mut self, key: &str, number: i128) {
        let float = number as f64;
        if float as i128 == number {
            self.writer.number(key.as_bytes(), float);
        } else {
            // 64 bits have twenty digits: they fit.
            let _ = with_digits(format_args!("{number}"), |digits| self.writer.other(key.as_bytes(), digits.as_bytes()));
        }
    }

    fn string(&mut self, key: &str, text: &str) {
        let cut = clip(text, self.limits.max_value);
        if cut.len() < text.len() {
            self.is_truncated = true;
            self.warnings.add(VALUE_TRUNCATED, &["properties.", key]);
        }
        if has_nul(cut) {
            self.warnings.add(CHARACTER_REMOVED, &["properties.", key]);
            self.writer.string(key.as_bytes(), cut.replace('\0', "").as_bytes());
        } else {
            self.writer.string(key.as_bytes(), cut.as_bytes());
        }
    }

    fn json(&mut self, key: &str, value: Value<'_>, depth: usize) -> Result<(), Rejection> {
        let mut json = Vec::new();
        self.put_json(value, &mut json, depth + 1)?;
        if json.len() > self.limits.max_event_size {
            return Err(Rejection::new(Defect::EventTooLarge, &format!("properties.{key}"), "the array is larger than an event may be"));
        }
        self.writer.other(key.as_bytes(), &json);
        Ok(())
    }

    /// Writes a value as JSON text.
    fn put_json(&self, value: Value<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Rejection> {
        if depth > self.limits.max_depth + 1 {
            return Err(too_deep(self.limits));
        }
        match value.node() {
            Some(Node::Array { .. }) => {
                out.push(b'[');
                for (index, element) in value.elements().enumerate() {
                    separate(index, out);
                    self.put_json(element, out, depth + 1)?;
                }
                out.push(b']');
            }
            Some(Node::Object { .. }) => {
                out.push(b'{');
                for (index, (key, member)) in value.members().enumerate() {
                    separate(index, out);
                    put_text(out, key)?;
                    out.push(b':');
                    self.put_json(member, out, depth + 1)?;
                }
                out.push(b'}');
            }
            Some(Node::String(text)) => put_text(out, text)?,
            Some(Node::Static(StaticNode::F64(number))) if !number.is_finite() => {
                return Err(Rejection::new(Defect::NumberOutOfRange, "properties", "a number is no 64-bit float"));
            }
            Some(Node::Static(scalar)) => put_scalar(out, scalar),
            None => {}
        }
        Ok(())
    }
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Rejection> {
    serde_json::to_writer(out, text).map_err(|problem| Rejection::new(Defect::InvalidUnicode, "properties", problem.to_string()))
}

/// Floats as JSON writes them, shortest form: `1e300` is not three hundred digits, `2.0` stays a float.
fn put_scalar(out: &mut Vec<u8>, value: &StaticNode) {
    // Writing to memory does not fail.
    drop(match value {
        StaticNode::F64(number) => serde_json::to_writer(out, number),
        StaticNode::I64(number) => serde_json::to_writer(out, number),
        StaticNode::U64(number) => serde_json::to_writer(out, number),
        StaticNode::Bool(claim) => serde_json::to_writer(out, claim),
        StaticNode::Null => serde_json::to_writer(out, &()),
    });
}

fn too_deep(limits: &IngestLimits) -> Rejection {
    Rejection::new(Defect::NestingTooDeep, "properties", format!("nested deeper than {}", limits.max_depth))
}
