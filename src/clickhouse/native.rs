//! Columns and blocks in ClickHouse's Native format, the form that costs its server least.
//!
//! Owns the layout and nothing else; what goes into which column is the loader's. Source: the `Native` format and the
//! `SerializationLowCardinality` / `SerializationArray` of the server, revision 0 (as over HTTP without
//! `client_protocol_version`). Columns are cleared and used again, so a warm loader allocates nothing for a row. Rows that
//! were collected apart are written as one block: several in one insert cost the server half as much again.

use std::ops::Range;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::wire;

/// Starts a block of `columns` columns with `rows` rows each.
pub fn begin_block(out: &mut Vec<u8>, columns: usize, rows: usize) {
    wire::put_varint(out, columns as u64);
    wire::put_varint(out, rows as u64);
}

fn begin_column(out: &mut Vec<u8>, name: &str, type_name: &str) {
    wire::put_bytes(out, name.as_bytes());
    wire::put_bytes(out, type_name.as_bytes());
}

/// A column in parts, each with rows of its own.
pub trait Column {
    /// Writes one column with the rows of all parts, in order.
    fn put<'c>(parts: impl Iterator<Item = &'c Self> + Clone, name: &str, out: &mut Vec<u8>)
    where
        Self: 'c;
}

/// A column of values of one fixed width: numbers, times, UUIDs.
#[derive(Debug)]
pub struct FixedColumn<const W: usize> {
    type_name: &'static str,
    values: Vec<u8>,
}

impl<const W: usize> FixedColumn<W> {
    /// An empty column of a type whose values are `W` bytes, little endian.
    pub fn new(type_name: &'static str) -> Self {
        Self { type_name, values: Vec::new() }
    }

    /// Adds a value.
    pub fn push(&mut self, bytes: [u8; W]) {
        self.values.extend_from_slice(&bytes);
    }

    /// The values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = [u8; W]> {
        self.values.chunks_exact(W).map(|bytes| bytes.try_into().unwrap_or([0; W]))
    }

    /// Replaces the value of a row, if there is such a row.
    pub fn set(&mut self, row: usize, bytes: [u8; W]) {
        if let Some(value) = self.values.get_mut(row * W..(row + 1) * W) {
            value.copy_from_slice(&bytes);
        }
    }

    /// Forgets the values, not the memory.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}

impl<const W: usize> Column for FixedColumn<W> {
    fn put<'c>(parts: impl Iterator<Item = &'c Self> + Clone, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, parts.clone().next().map_or("", |part| part.type_name));
        parts.for_each(|part| out.extend_from_slice(&part.values));
    }
}

/// The bytes of a UUID in the order in which the server keeps its two halves.
pub fn uuid_bytes(uuid: [u8; 16]) -> [u8; 16] {
    let mut bytes = uuid;
    bytes[..8].reverse();
    bytes[8..].reverse();
    bytes
}

/// Writes a column in which as many rows hold each value as stand beside it.
pub fn put_runs<const W: usize>(runs: impl Iterator<Item = ([u8; W], usize)>, name: &str, type_name: &str, out: &mut Vec<u8>) {
    begin_column(out, name, type_name);
    for (value, rows) in runs {
        out.reserve(rows * W);
        for _ in 0..rows {
            out.extend_from_slice(&value);
        }
    }
}

/// Writes a column of values of one fixed width.
pub fn put_values<const W: usize>(values: impl Iterator<Item = [u8; W]>, name: &str, type_name: &str, out: &mut Vec<u8>) {
    put_runs(values.map(|value| (value, 1)), name, type_name, out);
}

/// Writes a `LowCardinality(String)` column.
pub fn put_dictionary<'v>(values: impl Iterator<Item = &'v [u8]>, name: &str, out: &mut Vec<u8>) {
    let mut column = DictionaryColumn::default();
    values.for_each(|value| column.push(value));
    DictionaryColumn::put(std::iter::once(&column), name, out);
}

/// Writes a column of strings.
pub fn put_strings<'v>(values: impl Iterator<Item = &'v [u8]>, name: &str, out: &mut Vec<u8>) {
    begin_column(out, name, "String");
    values.for_each(|value| wire::put_bytes(out, value));
}

/// A column of strings.
#[derive(Debug, Default)]
pub struct StringColumn {
    values: Vec<u8>,
}

impl StringColumn {
    /// Adds a value.
    pub fn push(&mut self, bytes: &[u8]) {
        wire::put_bytes(&mut self.values, bytes);
    }

    /// Forgets the values, not the memory.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}

impl Column for StringColumn {
    fn put<'c>(parts: impl Iterator<Item = &'c Self> + Clone, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, "String");
        parts.for_each(|part| out.extend_from_slice(&part.values));
    }
}

/// A `LowCardinality(String)` column: every distinct value once, and an index a row.
#[derive(Debug)]
pub struct DictionaryColumn {
    hasher: RandomState,
    table: HashTable<u32>,
    /// Where in `text` each distinct value stands; the first is the empty string, as the server wants it.
    spans: Vec<Range<u32>>,
    text: Vec<u8>,
    rows: Vec<u32>,
    /// The value before: runs of equal values need no look-up.
    last: u32,
}

impl Default for DictionaryColumn {
    fn default() -> Self {
        let empty = 0..0;
        Self { hasher: RandomState::default(), table: HashTable::new(), spans: vec![empty], text: Vec::new(), rows: Vec::new(), last: 0 }
    }
}

impl DictionaryColumn {
    /// Adds a value.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.rows.push(0);
            return;
        }
        if self.value(self.last) != bytes {
            self.last = self.index_of(bytes);
        }
        self.rows.push(self.last);
    }

    fn value(&self, index: u32) -> &[u8] {
        value(&self.spans, &self.text, index)
    }

    fn index_of(&mut self, bytes: &[u8]) -> u32 {
        let Self { hasher, table, spans, text, .. } = self;
        let hash = hasher.hash_one(bytes);
        if let Some(index) = table.find(hash, |index| value(spans, text, *index) == bytes) {
            return *index;
        }
        let index = spans.len() as u32;
        let start = text.len() as u32;
        text.extend_from_slice(bytes);
        spans.push(start..text.len() as u32);
        table.insert_unique(hash, index, |index| hasher.hash_one(value(spans, text, *index)));
        index
    }

    /// Takes the values of another one in as well; returns the place of each here, by its place there.
    fn unite(&mut self, other: &Self) -> Vec<u32> {
        let place = |index| if index == 0 { 0 } else { self.index_of(other.value(index)) };
        (0..other.spans.len() as u32).map(place).collect()
    }

    /// Forgets rows and values, not the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.spans.truncate(1);
        self.text.clear();
        self.rows.clear();
        self.last = 0;
    }
}

impl Column for DictionaryColumn {
    fn put<'c>(parts: impl Iterator<Item = &'c Self> + Clone, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, "LowCardinality(String)");
        out.extend_from_slice(&DICTIONARY_VERSION.to_le_bytes());
        let rows: usize = parts.clone().map(|part| part.rows.len()).sum();
        if rows == 0 {
            return;
        }
        let mut all = Self::default();
        let places: Vec<Vec<u32>> = parts.clone().map(|part| all.unite(part)).collect();
        let code = match all.spans.len() {
            0..=0x100 => 0_u64,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        out.extend_from_slice(&(code | HAS_ADDITIONAL_KEYS | NEEDS_UPDATE).to_le_bytes());
        out.extend_from_slice(&(all.spans.len() as u64).to_le_bytes());
        for index in 0..all.spans.len() as u32 {
            wire::put_bytes(out, all.value(index));
        }
        out.extend_from_slice(&(rows as u64).to_le_bytes());
        for (part, places) in parts.zip(&places) {
            let rows = part.rows.iter().map(|row| places.get(*row as usize).copied().unwrap_or(0));
            match code {
                0 => out.extend(rows.map(|row| row as u8)),
                1 => out.extend(rows.flat_map(|row| (row as u16).to_le_bytes())),
                _ => out.extend(rows.flat_map(u32::to_le_bytes)),
            }
        }
    }
}

fn value<'t>(spans: &[Range<u32>], text: &'t [u8], index: u32) -> &'t [u8] {
    spans.get(index as usize).and_then(|span| text.get(span.start as usize..span.end as usize)).unwrap_or_default()
}

/// Version of the dictionary's serialization: shared dictionaries with additional keys.
const DICTIONARY_VERSION: u64 = 1;
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;
const NEEDS_UPDATE: u64 = 1 << 10;

/// The ends of the rows of a map column, counted in entries.
#[derive(Debug, Default)]
struct Ends {
    bytes: Vec<u8>,
    entries: u64,
}

impl Ends {
    fn end_row(&mut self) {
        self.bytes.extend_from_slice(&self.entries.to_le_bytes());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
    }
}

/// A `Map(String, V)` column, V being `String` or `Float64`.
#[derive(Debug)]
pub struct MapColumn {
    type_name: &'static str,
    ends: Ends,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl MapColumn {
    /// An empty map of strings.
    pub fn strings() -> Self {
        Self::new("Map(String, String)")
    }

    /// An empty map of 64-bit floats.
    pub fn numbers() -> Self {
        Self::new("Map(String, Float64)")
    }

    fn new(type_name: &'static str) -> Self {
        Self { type_name, ends: Ends::default(), keys: Vec::new(), values: Vec::new() }
    }

    /// Adds an entry to the open row of a map of strings.
    pub fn string(&mut self, key: &[u8], value: &[u8]) {
        wire::put_bytes(&mut self.keys, key);
        wire::put_bytes(&mut self.values, value);
        self.ends.entries += 1;
    }

    /// Adds an entry to the open row of a map of numbers.
    pub fn number(&mut self, key: &[u8], value: f64) {
        wire::put_bytes(&mut self.keys, key);
        self.values.extend_from_slice(&value.to_le_bytes());
        self.ends.entries += 1;
    }

    /// Ends the open row.
    pub fn end_row(&mut self) {
        self.ends.end_row();
    }

    /// Forgets the rows, not the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.keys.clear();
        self.values.clear();
    }
}

impl Column for MapColumn {
    fn put<'c>(parts: impl Iterator<Item = &'c Self> + Clone, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, parts.clone().next().map_or("", |part| part.type_name));
        let mut before = 0;
        for part in parts.clone() {
            let (ends, _) = part.ends.bytes.as_chunks();
            out.extend(ends.iter().flat_map(|end| (before + u64::from_le_bytes(*end)).to_le_bytes()));
            before += part.ends.entries;
        }
        parts.clone().for_each(|part| out.extend_from_slice(&part.keys));
        parts.for_each(|part| out.extend_from_slice(&part.values));
    }
}
