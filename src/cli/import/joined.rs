//! The tables of an export whose rows belong to its records: read before the records, which take with them what is said of them.
//!
//! Promises: a file is one of them by how it begins, a file of an archive by its name; a row that says nothing costs itself and is counted,
//! and so is one of a record that never comes.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use encoding_rs::Encoding;
use indicatif::ProgressBar;

use super::format::Format;
use super::history::{Archive, Attached, Export, Raw, Record, Records, Rows, export_of, is_attached};
use super::input::{self, Text};
use super::malformed::Malformed;

/// Everything that stands in such tables.
pub(super) struct Joined {
    tables: &'static dyn Attached,
    rows: Rows,
    /// The files that are such tables and nothing else.
    files: HashSet<PathBuf>,
    /// Rows that say nothing, and what is wrong with the first.
    broken: u64,
    example: String,
}

impl Joined {
    /// Reads these tables of all `files`; `None` if the format has none, or if there is nothing else. Errors: the file, and what is wrong with it.
    pub(super) fn read(files: &[PathBuf], format: Format, encoding: Option<&'static Encoding>) -> Result<Option<Self>, String> {
        let Some(tables) = export_of(format).and_then(Export::attached) else { return Ok(None) };
        let rows = Rows::new().map_err(|problem| format!("a temporary file: {problem}"))?;
        let mut joined = Self { tables, rows, files: HashSet::new(), broken: 0, example: String::new() };
        for path in files.iter().filter(|path| path.as_os_str() != "-") {
            joined.take(path, encoding).map_err(|problem| format!("{}: {problem}", path.display()))?;
        }
        Ok(Some(joined).filter(|joined| joined.files.len() < files.len()))
    }

    fn take(&mut self, path: &Path, encoding: Option<&'static Encoding>) -> Result<(), String> {
        let failed = |problem: io::Error| problem.to_string();
        if let Some(mut archive) = Archive::open(path).map_err(failed)? {
            for index in 0..archive.len() {
                let Some(name) = archive.name(index).filter(|name| self.tables.is_one(name)) else { continue };
                let text = archive.text(index, encoding).map_err(|problem| format!("{name}: {problem}"))?;
                self.rows_of(&name, text).map_err(|problem| format!("{name}: {problem}"))?;
            }
            return Ok(());
        }
        // A pipe can be read once only, and has the records.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Ok(());
        }
        let mut text = input::open(path, encoding, &ProgressBar::hidden()).map_err(failed)?;
        if is_attached(text.fill_buf().map_err(failed)?, self.tables) {
            self.rows_of(&path.display().to_string(), text)?;
            self.files.insert(path.to_owned());
        }
        Ok(())
    }

    fn rows_of(&mut self, name: &str, text: Text) -> Result<(), String> {
        let mut records = Records::attached(text, self.tables)?;
        while let Some(Raw { number, record, .. }) = records.next().map_err(|problem| problem.to_string())? {
            match record.and_then(|record| self.tables.row(record)) {
                Ok(row) => self.rows.add(&row).map_err(|problem| problem.to_string())?,
                Err(Malformed { message, .. }) => {
                    if self.broken == 0 {
                        self.example = format!("{name}:{number}: {message}");
                    }
                    self.broken += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether a file has been read and has no records.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
    }

    /// Puts into a record what belongs to it.
    pub(super) fn join(&mut self, record: &mut Record) -> io::Result<()> {
        self.rows.join(self.tables, record)
    }

    /// What the user should know, in words.
    pub(super) fn notes(&self) -> Vec<String> {
        let names = self.tables.tables().iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let mut notes = Vec::new();
        if self.rows.is_empty() && self.broken == 0 {
            notes.push(format!(
                "no rows of {names} were given: what stands there is not imported, and an event that is stored takes nothing more"
            ));
        }
        if self.broken > 0 {
            notes.push(format!("{} rows of {names} could not be read and were left out, the first: {}", self.broken, self.example));
        }
        let left = self.rows.left();
        if left > 0 {
            notes.push(format!("{left} rows of {names} belong to nothing that was read"));
        }
        notes
    }
}
