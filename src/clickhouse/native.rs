//! Columns and blocks in ClickHouse's Native format, the form that costs its server least.
//!
//! Owns the layout and nothing else; what goes into which column is the loader's. Source: the `Native` format and the
//! `SerializationLowCardinality` / `SerializationArray` of the server, revision 0 (as over HTTP without
//! `client_protocol_version`). Columns are cleared and used again, so a warm loader allocates nothing a block.

use std::ops::Range;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Starts a block of `columns` columns with `rows` rows each.
pub fn begin_block(out: &mut Vec<u8>, columns: usize, rows: usize) {
    put_varint(out, columns as u64);
    put_varint(out, rows as u64);
}

fn begin_column(out: &mut Vec<u8>, name: &str, type_name: &str) {
    put_string(out, name.as_bytes());
    put_string(out, type_name.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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

    /// Writes the column.
    pub fn put(&self, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, self.type_name);
        out.extend_from_slice(&self.values);
    }

    /// Forgets the values, not the memory.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}

/// The bytes of a UUID in the order in which the server keeps its two halves.
pub fn uuid_bytes(uuid: [u8; 16]) -> [u8; 16] {
    let mut bytes = uuid;
    bytes[..8].reverse();
    bytes[8..].reverse();
    bytes
}

/// Writes a column in which every row holds the same value.
pub fn put_constant<const W: usize>(name: &str, type_name: &str, value: [u8; W], rows: usize, out: &mut Vec<u8>) {
    begin_column(out, name, type_name);
    out.reserve(rows * W);
    for _ in 0..rows {
        out.extend_from_slice(&value);
    }
}

/// A column of strings.
#[derive(Debug, Default)]
pub struct StringColumn {
    values: Vec<u8>,
}

impl StringColumn {
    /// Adds a value.
    pub fn push(&mut self, bytes: &[u8]) {
        put_string(&mut self.values, bytes);
    }

    /// Writes the column.
    pub fn put(&self, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, "String");
        out.extend_from_slice(&self.values);
    }

    /// Forgets the values, not the memory.
    pub fn clear(&mut self) {
        self.values.clear();
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

    /// Writes the column.
    pub fn put(&self, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, "LowCardinality(String)");
        out.extend_from_slice(&DICTIONARY_VERSION.to_le_bytes());
        if self.rows.is_empty() {
            return;
        }
        let (width, code) = match self.spans.len() {
            0..=0x100 => (1, 0_u64),
            0x101..=0x1_0000 => (2, 1),
            _ => (4, 2),
        };
        out.extend_from_slice(&(code | HAS_ADDITIONAL_KEYS | NEEDS_UPDATE).to_le_bytes());
        out.extend_from_slice(&(self.spans.len() as u64).to_le_bytes());
        for index in 0..self.spans.len() as u32 {
            put_string(out, self.value(index));
        }
        out.extend_from_slice(&(self.rows.len() as u64).to_le_bytes());
        match width {
            1 => out.extend(self.rows.iter().map(|row| *row as u8)),
            2 => out.extend(self.rows.iter().flat_map(|row| (*row as u16).to_le_bytes())),
            _ => out.extend(self.rows.iter().flat_map(|row| row.to_le_bytes())),
        }
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
        put_string(&mut self.keys, key);
        put_string(&mut self.values, value);
        self.ends.entries += 1;
    }

    /// Adds an entry to the open row of a map of numbers.
    pub fn number(&mut self, key: &[u8], value: f64) {
        put_string(&mut self.keys, key);
        self.values.extend_from_slice(&value.to_le_bytes());
        self.ends.entries += 1;
    }

    /// Ends the open row.
    pub fn end_row(&mut self) {
        self.ends.end_row();
    }

    /// Writes the column.
    pub fn put(&self, name: &str, out: &mut Vec<u8>) {
        begin_column(out, name, self.type_name);
        out.extend_from_slice(&self.ends.bytes);
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.values);
    }

    /// Forgets the rows, not the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.keys.clear();
        self.values.clear();
    }
}
