//! Tables: a header row, then one event a row.
//!
//! Owns the map from columns to fields of an event. A column called like a field is that field, others become properties
//! unless the map says otherwise. An empty cell says nothing. Delimiter and quoting are recognised ([`dialect`]); a row that makes no
//! sense costs itself ([`rows`]); a column is text, number or truth as a whole ([`kinds`]), which takes a first look at all of it. Rows of a
//! table without a time are of the time of the import, unless one of its columns looks like their time ([`time_look`]).

mod dialect;
mod kinds;
mod rows;
mod sheet;
mod time_look;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

pub(super) use self::dialect::Dialect;
use self::kinds::{Evidence, Kind};
pub(super) use self::rows::{Row, Rows};
pub(super) use self::sheet::Sheet;
use self::time_look::TimeLook;
use super::input::Census;
use super::malformed::Malformed;
use super::times::{Timed, Times, zone_named};

/// Fields at the top of an event.
const FIELDS: [&str; 6] = ["eventId", "type", "timestamp", "userId", "anonymousId", "sessionId"];
/// What is wrong with a table whose header cannot be read.
pub(super) const NO_UTF_8: &str = "the header is not UTF-8";
/// The default of `timestamp` that means the time of the import.
const NOW: &str = "now";
const PROPERTIES: &str = "properties.";
const CONTEXT: &str = "context.";

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
    /// Columns whose cells are numbers wherever they can be read as such.
    numbers: Vec<String>,
    /// What becomes of columns that are no field.
    unmapped: Unmapped,
    /// What separates cells.
    delimiter: Option<String>,
    /// What stands before the decimals of numbers: a point, or a comma.
    decimal: Option<char>,
    /// Zone of times that name none.
    timezone: Option<String>,
    /// How times are written (`strftime`).
    time_format: Option<String>,
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
        if let Some(decimal) = map.decimal.filter(|decimal| !matches!(decimal, '.' | ',')) {
            return Err(format!("decimal: `{decimal}` is neither a point nor a comma"));
        }
        map.dialect()?;
        map.times(Times::default())?;
        Ok(map)
    }

    /// With the column that holds the events' ids.
    pub(super) fn with_ids_of(mut self, column: &str) -> Result<Self, String> {
        match self.columns.insert("eventId".to_owned(), column.to_owned()) {
            Some(other) if other != column => Err(format!("the map says that `{other}` holds the ids, --id-column that `{column}` does")),
            _ => Ok(self),
        }
    }

    /// What separates cells, if the map says so.
    pub(super) fn dialect(&self) -> Result<Option<Dialect>, String> {
        self.delimiter.as_deref().map(Dialect::named).transpose().map_err(|problem| format!("delimiter: {problem}"))
    }

    /// How times are read: as the map says where the command line does not.
    pub(super) fn times(&self, given: Times) -> Result<Times, String> {
        let zone = self.timezone.as_deref().map(zone_named).transpose().map_err(|problem| format!("timezone: {problem}"))?;
        Ok(Times { zone: given.zone.or(zone), format: self.time_format.clone() })
    }

    fn decimal(&self) -> char {
        self.decimal.unwrap_or('.')
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

    /// The field that a column called so is.
    fn of_column(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        let field = FIELDS.iter().find(|field| plain(field) == plain(name));
        field.map(|field| Self::Top((*field).to_owned())).or_else(|| Self::named(name))
    }

    fn name(&self) -> String {
        match self {
            Self::Top(name) | Self::Property(name) => name.clone(),
            Self::Context(path) => path.join("."),
        }
    }

    fn is_top(&self, field: &str) -> bool {
        matches!(self, Self::Top(name) if name == field)
    }

    /// Whether numbers are numbers here.
    fn takes_numbers(&self) -> bool {
        match self {
            Self::Top(_) => false,
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
    kind: Kind,
    /// Its cells are a time.
    is_time: bool,
    /// Its kind follows from its cells.
    is_open: bool,
}

/// What the cells of columns allow, by what the columns are.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidences {
    found: HashMap<Field, Evidence>,
    /// The kinds that tables were given.
    given: HashMap<Field, Kind>,
    /// What was given several.
    mixed: BTreeSet<String>,
}

impl Evidences {
    /// Takes in what was found of another table.
    pub(super) fn merge(&mut self, other: Self) {
        for (field, evidence) in other.found {
            self.found.entry(field).and_modify(|known| known.merge(evidence)).or_insert(evidence);
        }
    }

    /// The kind of a column of which something is known.
    fn give(&mut self, field: &Field) -> Option<Kind> {
        let kind = self.found.get(field).filter(|evidence| evidence.has_any())?.kind();
        let before = self.given.insert(field.clone(), kind);
        if before.is_some_and(|before| before != kind) {
            self.mixed.insert(field.name());
        }
        Some(kind)
    }

    /// The names of what tables were given several kinds of.
    pub(super) fn mixed(&self) -> impl Iterator<Item = &str> {
        self.mixed.iter().map(String::as_str)
    }
}

/// The rows of one file, once its header is known.
#[derive(Debug)]
pub(super) struct Table {
    dialect: Dialect,
    /// By position; `None`: ignored.
    columns: Vec<Option<Column>>,
    defaults: Vec<(Field, String)>,
    times: Times,
    decimal: char,
    /// By position, before a cell was seen; none where the table has a time.
    looks: Vec<TimeLook>,
    /// The header as it stands: tables that were put one behind the other have it again.
    header: Vec<u8>,
}

impl Table {
    /// The table that begins in `rows`: takes what comes before its first row. Errors: header and map do not fit, or no row can be an
    /// event.
    pub(super) fn begin(rows: &mut Rows, map: &MapConfig, dialect: Option<Dialect>, times: Times) -> Result<Self, String> {
        let failed = |problem: io::Error| problem.to_string();
        let mut first = rows.line().map_err(failed)?.ok_or("there is no header row")?;
        let declared = Dialect::declared(&first.bytes);
        if declared.is_some() {
            first = rows.line().map_err(failed)?.ok_or("there is no header row")?;
        }
        let is_known = |name: &str| Field::of_column(name).is_some() || map.columns.values().any(|column| column == name);
        let named = dialect.or(map.dialect()?).or(declared);
        let dialect = named.unwrap_or_else(|| Dialect::of_header(&first.bytes, is_known));
        rows.give_back(first);
        let header = rows.next(dialect, 0).map_err(failed)?.ok_or("there is no header row")?;
        Self::new(&header, dialect, map.times(times)?, map)
    }

    fn new(header: &Row, dialect: Dialect, times: Times, map: &MapConfig) -> Result<Self, String> {
        let cells =
            header.quoting.and_then(|quoting| dialect.cells(&header.bytes, quoting)).ok_or("a quote of the header is not closed")?;
        let names: Vec<&str> = cells
            .iter()
            .map(|name| std::str::from_utf8(&name.text).map(str::trim))
            .collect::<Result<_, _>>()
            .map_err(|_| NO_UTF_8.to_owned())?;
        let mut given = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !name.is_empty() && !given.insert(**name)) {
            return Err(format!("column `{twice}` is in the header twice"));
        }
        if let Some(missing) = map.columns.values().chain(&map.strings).chain(&map.numbers).find(|column| !given.contains(column.as_str()))
        {
            return Err(format!("column `{missing}` of the map is not in the header ({})", listed(&names)));
        }
        let columns = columns(&names, map)?;
        let defaults: Vec<(Field, String)> =
            map.defaults.iter().filter_map(|(field, value)| Some((Field::named(field)?, value.clone()))).collect();
        let mut table = Self { dialect, columns, defaults, times, decimal: map.decimal(), looks: Vec::new(), header: header.bytes.clone() };
        table.check(&names)?;
        if !table.has("timestamp") {
            table.looks = names.iter().map(|name| TimeLook::of_column(name)).collect();
        }
        table.defaults.retain(|(field, value)| !field.is_top("timestamp") || value != NOW);
        Ok(table)
    }

    /// Whether a column or a default is this field.
    fn has(&self, field: &str) -> bool {
        let columns = self.columns.iter().flatten().map(|column| &column.field);
        columns.chain(self.defaults.iter().map(|(field, _)| field)).any(|known| known.is_top(field))
    }

    /// Without a type or a visitor no row is an event: better said once than of every row.
    fn check(&self, names: &[&str]) -> Result<(), String> {
        let missing = match () {
            () if !self.has("type") => "`type`",
            () if !self.has("anonymousId") && !self.has("userId") => "`anonymousId` or `userId`",
            () => return Ok(()),
        };
        let delimiter = char::from(self.dialect.delimiter).escape_default();
        Err(format!("no column is {missing}, and the map names none; the columns, separated by `{delimiter}`, are {}", listed(names)))
    }

    /// Number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The next row that says something: neither the header once more nor empty cells alone, as spreadsheets write behind the last row.
    pub(super) fn next(&self, rows: &mut Rows) -> io::Result<Option<Row>> {
        loop {
            match rows.next(self.dialect, self.width())? {
                Some(row) if row.bytes == self.header || self.is_empty(&row) => {}
                found => return Ok(found),
            }
        }
    }

    fn is_empty(&self, row: &Row) -> bool {
        row.bytes.iter().all(|byte| *byte == self.dialect.delimiter || byte.is_ascii_whitespace())
    }

    /// Looks at all rows, for what their columns hold and what they are written in. Where a file breaks off is told when its rows
    /// are read. Errors: no column is the time, but one looks like it.
    pub(super) fn survey(&self, rows: &mut Rows) -> Result<(Census, Evidences), String> {
        let mut evidence = vec![Evidence::default(); self.width()];
        let mut looks = self.looks.clone();
        let mut census = Census::default();
        while let Ok(Some(row)) = self.next(rows) {
            census.see(&row.bytes);
            let cells = row.quoting.and_then(|quoting| self.dialect.cells(&row.bytes, quoting));
            // What is no row says nothing of columns either.
            let Some(cells) = cells.filter(|cells| cells.len() == self.width()) else { continue };
            cells.iter().zip(&mut evidence).for_each(|(cell, evidence)| evidence.see(cell, self.decimal));
            cells.iter().zip(&mut looks).for_each(|(cell, look)| look.see(cell));
        }
        if let Some(time) = looks.iter().find(|look| look.is_time()) {
            return Err(time.refusal());
        }
        let open = self.columns.iter().zip(evidence).filter_map(|(column, evidence)| Some((column.as_ref()?, evidence)));
        let found = open.filter(|(column, _)| column.is_open).map(|(column, evidence)| (column.field.clone(), evidence));
        Ok((census, Evidences { found: found.collect(), ..Evidences::default() }))
    }

    /// Gives columns the kinds that were found of them, in this table and others.
    pub(super) fn take_kinds(&mut self, evidences: &mut Evidences) {
        for column in self.columns.iter_mut().flatten().filter(|column| column.is_open) {
            column.kind = evidences.give(&column.field).unwrap_or(column.kind);
        }
    }

    /// One row as an event; `id` is used if no cell gives one.
    pub(super) fn event(&self, row: &Row, id: Uuid) -> Result<Timed, Malformed> {
        let cells = row.quoting.and_then(|quoting| self.dialect.cells(&row.bytes, quoting));
        let cells = cells.ok_or_else(|| Malformed::new("quote_open", "a quote is not closed, or something stands behind it"))?;
        if cells.len() != self.width() {
            return Err(Malformed::new("cells", format!("{} cells where the header has {}", cells.len(), self.width())));
        }
        let mut event = Map::new();
        for (cell, column) in cells.iter().zip(&self.columns) {
            let Some(column) = column else { continue };
            if !kinds::is_nothing(cell) {
                let text = std::str::from_utf8(&cell.text)
                    .map_err(|_| Malformed::new("encoding", "not UTF-8, as other rows are; --encoding names another one"))?;
                column.field.put(&mut event, self.value(text, column)?);
            }
        }
        for (field, value) in &self.defaults {
            field.put(&mut event, Value::String(value.clone()));
        }
        event.entry("eventId").or_insert_with(|| Value::String(id.to_string()));
        let line = serde_json::to_vec(&event).map_err(|problem| Malformed::new("unwritable", problem.to_string()))?;
        Ok(Timed { line, has_time: event.contains_key("timestamp") })
    }

    fn value(&self, text: &str, column: &Column) -> Result<Value, Malformed> {
        match column.is_time {
            true => Ok(Value::String(self.times.of_cell(text)?.to_string())),
            false => Ok(column.kind.value(text, self.decimal)),
        }
    }
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let list: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    format!("{}{}", list.join(", "), if names.len() > SHOWN { ", …" } else { "" })
}

/// Where each column goes.
fn columns(names: &[&str], map: &MapConfig) -> Result<Vec<Option<Column>>, String> {
    let mapped: HashMap<&str, &str> = map.columns.iter().map(|(field, column)| (column.as_str(), field.as_str())).collect();
    let columns = names.iter().map(|name| {
        let field = match mapped.get(name) {
            Some(field) => Field::named(field),
            // A field that the map takes from elsewhere is not given twice.
            None => match Field::of_column(name) {
                Some(Field::Top(field)) if map.columns.contains_key(&field) => None,
                Some(_) if map.columns.contains_key(*name) => None,
                Some(field) => Some(field),
                None if name.is_empty() || map.unmapped == Unmapped::Ignore => None,
                None => Some(Field::Property((*name).to_owned())),
            },
        };
        let is_listed = |list: &[String]| list.iter().any(|listed| listed == name);
        field.map(|field| {
            let is_number = is_listed(&map.numbers);
            let is_open = field.takes_numbers() && !is_number && !is_listed(&map.strings);
            Column { kind: if is_number { Kind::Number } else { Kind::Text }, is_time: field.is_top("timestamp"), is_open, field }
        })
    });
    let columns: Vec<Option<Column>> = columns.collect();
    let mut fields = HashSet::new();
    match columns.iter().flatten().find(|column| !fields.insert(&column.field)) {
        Some(twice) => Err(format!("two columns are the field `{}`", twice.field.name())),
        None => Ok(columns),
    }
}

#[cfg(test)]
mod tests;
