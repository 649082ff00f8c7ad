//! Tables: a header row, then one event a row (RFC 4180).
//!
//! Owns the map from columns to fields of an event. A column called like a field is that field, others become properties
//! unless the map says otherwise. An empty cell says nothing. Numbers are recognised in properties and in the screen's
//! measures, but only those that a 64-bit float holds to the digit: a long number or one with leading zeros is a name, not
//! an amount.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use ::csv::{ByteRecord, ReaderBuilder};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Malformed;

/// Fields at the top of an event.
const FIELDS: [&str; 6] = ["eventId", "type", "timestamp", "userId", "anonymousId", "sessionId"];
const PROPERTIES: &str = "properties.";
const CONTEXT: &str = "context.";
/// Digits that a 64-bit float holds whatever they are.
const EXACT_DIGITS: usize = 15;

/// A map file (TOML), as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MapConfig {
    /// Field of the event to name of the column.
    columns: BTreeMap<String, String>,
    /// Field of the event to what it is where no cell says it.
    defaults: BTreeMap<String, String>,
    /// Columns whose cells stay text.
    strings: Vec<String>,
    /// What becomes of columns that are no field.
    unmapped: Unmapped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unmapped {
    #[default]
    Properties,
    Ignore,
}

impl MapConfig {
    /// Reads a map file. Errors name the file and the key.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|problem| format!("{place}: {problem}"))?;
        Self::parse(&text).map_err(|problem| format!("{place}: {problem}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let map: Self = toml::from_str(text).map_err(|problem| problem.to_string().trim().to_owned())?;
        for (section, field) in
            map.columns.keys().map(|field| ("columns", field)).chain(map.defaults.keys().map(|field| ("defaults", field)))
        {
            Field::named(field).ok_or_else(|| {
                let fields = FIELDS.join(", ");
                format!("{section}: `{field}` is neither one of {fields} nor begins with `{PROPERTIES}` or `{CONTEXT}`")
            })?;
        }
        Ok(map)
    }
}

/// Where in an event a cell goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Field {
    Top(String),
    Property(String),
    /// The names on the way down.
    Context(Vec<String>),
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        if FIELDS.contains(&name) {
            return Some(Self::Top(name.to_owned()));
        }
        if let Some(property) = name.strip_prefix(PROPERTIES) {
            return (!property.is_empty()).then(|| Self::Property(property.to_owned()));
        }
        let path: Vec<String> = name.strip_prefix(CONTEXT)?.split('.').map(str::to_owned).collect();
        (!path.iter().any(String::is_empty)).then_some(Self::Context(path))
    }

    /// Whether numbers are numbers here.
    fn takes_numbers(&self) -> bool {
        match self {
            Self::Top(name) => name == "timestamp",
            Self::Property(_) => true,
            Self::Context(path) => path.first().is_some_and(|first| first == "screen"),
        }
    }

    /// Puts a value in its place; a default gives way to what is there.
    fn put(&self, event: &mut Map<String, Value>, value: Value) {
        let (first, path): (&str, &[String]) = match self {
            Self::Top(name) => {
                event.entry(name.as_str()).or_insert(value);
                return;
            }
            Self::Property(name) => ("properties", std::slice::from_ref(name)),
            Self::Context(path) => ("context", path),
        };
        let Some((last, sections)) = path.split_last() else { return };
        let mut target = event.entry(first).or_insert_with(|| Value::Object(Map::new()));
        for section in sections {
            let Value::Object(inner) = target else { return };
            target = inner.entry(section.as_str()).or_insert_with(|| Value::Object(Map::new()));
        }
        if let Value::Object(inner) = target {
            inner.entry(last.as_str()).or_insert(value);
        }
    }
}

/// What becomes of the cells of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    field: Field,
    is_text: bool,
}

/// The rows of one file, once its header is known.
#[derive(Debug)]
pub(super) struct Table {
    /// By position; `None`: ignored.
    columns: Vec<Option<Column>>,
    defaults: Vec<(Field, String)>,
}

impl Table {
    /// A table with this header row. Errors: the header and the map do not fit.
    pub(super) fn new(header: &[u8], map: &MapConfig) -> Result<Self, String> {
        let header = record(header)?;
        let names: Vec<&str> = header
            .iter()
            .map(|name| std::str::from_utf8(name).map(str::trim))
            .collect::<Result<_, _>>()
            .map_err(|_| "the header is not UTF-8".to_owned())?;
        let mut given = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !name.is_empty() && !given.insert(**name)) {
            return Err(format!("column `{twice}` is in the header twice"));
        }
        if let Some(missing) = map.columns.values().chain(&map.strings).find(|column| !given.contains(column.as_str())) {
            return Err(format!("column `{missing}` of the map is not in the header"));
        }
        let mapped: HashMap<&str, &str> = map.columns.iter().map(|(field, column)| (column.as_str(), field.as_str())).collect();
        let columns = names.iter().map(|name| {
            let field = match mapped.get(name) {
                Some(field) => Field::named(field),
                // A field that the map takes from elsewhere is not given twice.
                None if Field::named(name).is_some() => Field::named(name).filter(|_| !map.columns.contains_key(*name)),
                None if name.is_empty() || map.unmapped == Unmapped::Ignore => None,
                None => Some(Field::Property((*name).to_owned())),
            };
            field.map(|field| Column { is_text: !field.takes_numbers() || map.strings.iter().any(|text| text == name), field })
        });
        let columns: Vec<Option<Column>> = columns.collect();
        let mut fields = HashSet::new();
        if let Some(twice) = columns.iter().flatten().find(|column| !fields.insert(&column.field)) {
            return Err(format!("two columns are the field {:?}", twice.field));
        }
        let defaults = map.defaults.iter().filter_map(|(field, value)| Some((Field::named(field)?, value.clone()))).collect();
        Ok(Self { columns, defaults })
    }

    /// One row as the JSON of an event; `id` is used if no cell gives one.
    pub(super) fn event(&self, row: &[u8], id: Uuid) -> Result<Vec<u8>, Malformed> {
        let row = record(row)?;
        if row.len() != self.columns.len() {
            return Err(format!("{} cells where the header has {}", row.len(), self.columns.len()).into());
        }
        let mut event = Map::new();
        for (cell, column) in row.iter().zip(&self.columns) {
            let Some(column) = column else { continue };
            let cell = String::from_utf8_lossy(cell);
            if !cell.is_empty() {
                let value = if column.is_text { None } else { number(&cell) };
                column.field.put(&mut event, value.unwrap_or_else(|| Value::String(cell.into_owned())));
            }
        }
        for (field, value) in &self.defaults {
            field.put(&mut event, Value::String(value.clone()));
        }
        event.entry("eventId").or_insert_with(|| Value::String(id.to_string()));
        serde_json::to_vec(&event).map_err(|problem| problem.to_string().into())
    }
}

/// The cells of one row.
fn record(row: &[u8]) -> Result<ByteRecord, String> {
    let mut quotes = Quotes::default();
    if quotes.continues(row) {
        return Err("a quote is not closed".to_owned());
    }
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(row.len().clamp(1, 8 << 10)).from_reader(row);
    let mut record = ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(true) => Ok(record),
        Ok(false) => Err("an empty row".to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

/// `text` as a number, if writing the number gives the same amount back whoever reads it.
fn number(text: &str) -> Option<Value> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits > EXACT_DIGITS || !text.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    // JSON's own grammar: no leading zero or plus, no blanks.
    if text.starts_with(char::is_whitespace) {
        return None;
    }
    serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number)
}

/// Knows whether a row goes on in the next line: a cell in quotes may hold ends of line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quotes {
    place: Cell,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cell {
    #[default]
    Start,
    Plain,
    Quoted,
    /// After a quote inside quotes: the cell's end, or half of a doubled quote.
    MaybeClosed,
}

impl Quotes {
    /// Takes the next line in, and says whether the row goes on after it.
    pub(super) fn continues(&mut self, line: &[u8]) -> bool {
        for byte in line {
            self.place = match (self.place, byte) {
                (Cell::Start, b'"') | (Cell::MaybeClosed, b'"') => Cell::Quoted,
                (Cell::Quoted, b'"') => Cell::MaybeClosed,
                (Cell::Quoted, _) => Cell::Quoted,
                (_, b',') => Cell::Start,
                _ => Cell::Plain,
            };
        }
        self.place == Cell::Quoted
    }
}

#[cfg(test)]
mod tests;
