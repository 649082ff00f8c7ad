//! Rows of one table that belong to the records of another: what Umami keeps of its events and sessions in `event_data` and `session_data`.
//!
//! Promises: of all that is held, memory has an index alone, some 40 bytes for each record that rows belong to; the rows lie in a file without a
//! name. Of several rows that say the same of a record the last one counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use serde_json::{Map, Value as Json};
use xxhash_rust::xxh3::xxh3_64;

use super::Record;
use crate::cli::import::malformed::Malformed;

/// Tables whose rows belong to the records of an export.
pub(in super::super) trait Attached: Sync {
    /// A column that each of them has, and the records have not.
    fn column(&self) -> &'static str;

    /// Whether a file of an archive is one, by its name.
    fn is_one(&self, name: &str) -> bool;

    /// What a row says. Errors: nothing, or it does not say of which record.
    fn row(&self, row: Record) -> Result<Row, Malformed>;

    /// The tables by name, each with the column of a record that a row names.
    fn tables(&self) -> &'static [(&'static str, &'static str)];
}

/// What a row says of which record.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Row {
    /// The table: one of [`Attached::tables`].
    pub(super) table: &'static str,
    /// The id of the record.
    pub(super) of: String,
    pub(super) name: String,
    pub(super) value: Json,
}

/// Whether a file is such a table, by how it begins: a header that has the column, or an object that has the member.
pub(in super::super) fn is_attached(head: &[u8], tables: &dyn Attached) -> bool {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let is_table = !matches!(head.first(), Some(b'{' | b'['));
    let end = memchr::memchr2(b'\n', b'\r', head).filter(|_| is_table).unwrap_or(head.len());
    let column = if is_table { tables.column().to_owned() } else { format!("\"{}\"", tables.column()) };
    memchr::memmem::find(head.get(..end).unwrap_or_default(), column.as_bytes()).is_some()
}

/// The rows of all tables that were given.
pub(in super::super) struct Rows {
    rows: BufWriter<File>,
    end: u64,
    of_records: HashMap<u64, Of, foldhash::fast::RandomState>,
}

/// The rows of a record.
struct Of {
    /// Where the last one begins. It names the one before.
    last: u64,
    rows: u64,
    is_asked_for: bool,
}

/// In front of a row: where the one before begins, counted from 1, and its own length.
const HEAD: usize = 12;

impl Rows {
    /// None yet. Errors: no file can be made for them.
    pub(in super::super) fn new() -> io::Result<Self> {
        Ok(Self { rows: BufWriter::new(tempfile::tempfile()?), end: 0, of_records: HashMap::default() })
    }

    /// Whether there are none.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.of_records.is_empty()
    }

    /// Takes a row in.
    pub(in super::super) fn add(&mut self, row: &Row) -> io::Result<()> {
        let text = serde_json::to_vec(&(row.table, &row.of, &row.name, &row.value))?;
        let of = self.of_records.entry(key(row.table, &row.of)).or_insert(Of { last: 0, rows: 0, is_asked_for: false });
        let before = if of.rows == 0 { 0 } else { of.last + 1 };
        self.rows.write_all(&before.to_le_bytes())?;
        self.rows.write_all(&u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes())?;
        self.rows.write_all(&text)?;
        (of.last, of.rows) = (self.end, of.rows + 1);
        self.end += (HEAD + text.len()) as u64;
        Ok(())
    }

    /// Puts into a record, under the name of each table, what the rows say that belong to it.
    pub(in super::super) fn join(&mut self, tables: &dyn Attached, record: &mut Record) -> io::Result<()> {
        for (table, column) in tables.tables() {
            let Some(id) = record.text(column).map(str::to_owned) else { continue };
            let said = self.said(table, &id)?;
            if !said.is_empty() {
                record.0.insert((*table).to_owned(), Json::Object(said));
            }
        }
        Ok(())
    }

    fn said(&mut self, table: &str, id: &str) -> io::Result<Map<String, Json>> {
        let mut said = Map::new();
        let Some(of) = self.of_records.get_mut(&key(table, id)) else { return Ok(said) };
        of.is_asked_for = true;
        self.rows.flush()?;
        let (file, mut next) = (self.rows.get_ref(), Some(of.last));
        while let Some(at) = next {
            let (mut before, mut length) = ([0; 8], [0; 4]);
            file.read_exact_at(&mut before, at)?;
            file.read_exact_at(&mut length, at + 8)?;
            let mut text = vec![0; u32::from_le_bytes(length) as usize];
            file.read_exact_at(&mut text, at + HEAD as u64)?;
            let (of_table, of, name, value): (String, String, String, Json) = serde_json::from_slice(&text)?;
            if of_table == table && of.eq_ignore_ascii_case(id) {
                said.entry(name).or_insert(value);
            }
            next = u64::from_le_bytes(before).checked_sub(1);
        }
        Ok(said)
    }

    /// Rows of records that never came.
    pub(in super::super) fn left(&self) -> u64 {
        self.of_records.values().filter(|of| !of.is_asked_for).map(|of| of.rows).sum()
    }
}

fn key(table: &str, id: &str) -> u64 {
    xxh3_64(format!("{table} {}", id.to_ascii_lowercase()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::history::umami::Tables;

    fn row(table: &'static str, of: &str, name: &str, value: impl Into<Json>) -> Row {
        Row { table, of: of.to_owned(), name: name.to_owned(), value: value.into() }
    }

    fn joined(rows: &mut Rows, event: &str, session: &str) -> Json {
        let ids = [("event_id", event), ("session_id", session)].map(|(name, id)| (name.to_owned(), id.into()));
        let mut record = Record(ids.into_iter().collect());
        rows.join(&Tables, &mut record).unwrap();
        Json::Object(record.0)
    }

    #[test]
    fn rows_are_found_by_the_record_that_they_name() {
        let mut rows = Rows::new().unwrap();
        assert!(rows.is_empty());
        let of = |nth: usize| format!("E-{nth}");
        for nth in 0..1_000 {
            rows.add(&row("event_data", &of(nth % 300), &format!("p{}", nth / 300), nth)).unwrap();
        }
        rows.add(&row("session_data", "s", "plan", "free")).unwrap();
        rows.add(&row("session_data", "s", "plan", "pro")).unwrap();
        assert_eq!(joined(&mut rows, "e-7", "s")["event_data"], serde_json::json!({"p0": 7, "p1": 307, "p2": 607, "p3": 907}));
        assert_eq!(joined(&mut rows, "e-120", "s")["session_data"], serde_json::json!({"plan": "pro"}));
        assert_eq!(joined(&mut rows, "s", "e-7"), serde_json::json!({"event_id": "s", "session_id": "e-7"}), "tables apart");
        assert_eq!(rows.left(), 1_000 - 4 - 3);
        // A row may still come.
        rows.add(&row("event_data", "e-7", "late", true)).unwrap();
        assert_eq!(joined(&mut rows, "e-7", "")["event_data"]["late"], true);
    }

    #[test]
    fn tables_are_known_by_how_they_begin() {
        let is_one = |head: &str| is_attached(head.as_bytes(), &Tables);
        assert!(is_one("\u{feff}website_id,session_id,\"data_key\",string_value\n1,2,3,4\n"));
        assert!(is_one("[{\"website_event_id\":\"1\",\"data_key\":\"a\"}]"));
        assert!(!is_one("event_id,session_id,url_query\n1,2,data_key\n"));
        assert!(!is_one("{\"event_id\":\"1\",\"url_query\":\"data_key=1\"}"));
        assert!(!is_one(""));
    }
}
