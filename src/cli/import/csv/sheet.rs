//! Rows by the names of their columns, each cell the text that it is.

use std::io;

use serde_json::{Map, Value};

use super::dialect::Dialect;
use super::rows::{Row, Rows};
use crate::cli::import::malformed::Malformed;

/// A table of which nothing is known but its header.
#[derive(Debug)]
pub(in super::super) struct Sheet {
    dialect: Dialect,
    names: Vec<String>,
}

impl Sheet {
    /// The table that begins in `rows`; names that are `known` tell what separates cells. Errors: it has no header that can be read.
    pub(in super::super) fn begin(rows: &mut Rows, known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let failed = |problem: io::Error| problem.to_string();
        let first = rows.line().map_err(failed)?.ok_or("there is no header row")?;
        let dialect = Dialect::of_header(&first.bytes, known);
        rows.give_back(first);
        let header = rows.next(dialect, 0).map_err(failed)?.ok_or("there is no header row")?;
        let cells =
            header.quoting.and_then(|quoting| dialect.cells(&header.bytes, quoting)).ok_or("a quote of the header is not closed")?;
        let name = |text: &[u8]| std::str::from_utf8(text).map(|name| name.trim().to_owned());
        let names = cells.iter().map(|cell| name(&cell.text)).collect::<Result<_, _>>().map_err(|_| super::NO_UTF_8.to_owned())?;
        Ok(Self { dialect, names })
    }

    /// The names of its columns.
    pub(in super::super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The next row.
    pub(in super::super) fn next(&self, rows: &mut Rows) -> io::Result<Option<Row>> {
        rows.next(self.dialect, self.names.len())
    }

    /// A row by the names of its columns, without cells that are empty.
    pub(in super::super) fn object(&self, row: &Row) -> Result<Map<String, Value>, Malformed> {
        let cells = row.quoting.and_then(|quoting| self.dialect.cells(&row.bytes, quoting));
        let cells = cells.ok_or_else(|| Malformed::new("quote_open", "a quote is not closed, or something stands behind it"))?;
        if cells.len() != self.names.len() {
            return Err(Malformed::new("cells", format!("{} cells where the header has {}", cells.len(), self.names.len())));
        }
        let mut object = Map::new();
        for (cell, name) in cells.iter().zip(&self.names).filter(|(cell, _)| !super::kinds::is_nothing(cell)) {
            let text = std::str::from_utf8(&cell.text)
                .map_err(|_| Malformed::new("encoding", "not UTF-8, as other rows are; --encoding names another one"))?;
            object.insert(name.clone(), text.into());
        }
        Ok(object)
    }
}
