//! Tables are read twice: all of them as a whole before a row is sent, for what their columns hold and what they are written in, then row by
//! row.
//!
//! Promises: a property is of one kind in all tables that were seen before the first was opened; where it is not in others, that is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, WINDOWS_1252};
use indicatif::ProgressBar;

use super::csv::{Dialect, Evidences, MapConfig, NO_UTF_8, Rows, Table};
use super::input::{self, Text};
use super::lines::Lines;
use super::times::Times;

/// How tables are read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'r> {
    pub(super) map: &'r MapConfig,
    /// What separates cells, if it was said.
    pub(super) dialect: Option<Dialect>,
    /// What they are written in, if it was said.
    pub(super) encoding: Option<&'static Encoding>,
    pub(super) times: &'r Times,
    /// Moves by the bytes of rows that are sent.
    pub(super) progress: &'r ProgressBar,
}

/// What is known of tables before their rows are sent.
#[derive(Default)]
pub(super) struct Survey {
    tables: HashMap<PathBuf, Seen>,
    evidences: Evidences,
}

struct Seen {
    source: Source,
    encoding: Option<&'static Encoding>,
}

impl Survey {
    /// Looks at the table at `path`, unless that was done. Errors: header and map do not fit, a column looks like the time and none is, or it
    /// cannot be read.
    pub(super) fn see(&mut self, path: &Path, reading: Reading<'_>) -> Result<(), String> {
        if let Entry::Vacant(place) = self.tables.entry(path.to_owned()) {
            let (seen, evidences) = Seen::of(path, reading)?;
            place.insert(seen);
            self.evidences.merge(evidences);
        }
        Ok(())
    }

    /// The table at `path`, before its first row, and whether its encoding was guessed.
    pub(super) fn open(&mut self, path: &Path, reading: Reading<'_>) -> Result<(Rows, Table, bool), String> {
        self.see(path, reading)?;
        let seen = self.tables.get(path).ok_or("it is gone")?;
        let (rows, mut table) = seen.source.begin(seen.encoding, reading.progress, reading)?;
        table.take_kinds(&mut self.evidences);
        Ok((rows, table, reading.encoding.is_none() && seen.encoding.is_some()))
    }

    /// What is of several kinds in tables that were opened before others were seen.
    pub(super) fn mixed(&self) -> impl Iterator<Item = &str> {
        self.evidences.mixed()
    }
}

impl Seen {
    fn of(path: &Path, reading: Reading<'_>) -> Result<(Self, Evidences), String> {
        let source = Source::of(path).map_err(|problem| problem.to_string())?;
        let hidden = ProgressBar::hidden();
        let mut encoding = reading.encoding;
        let first = match source.begin(encoding, &hidden, reading) {
            Err(problem) if encoding.is_none() && problem == NO_UTF_8 => {
                encoding = Some(WINDOWS_1252);
                source.begin(encoding, &hidden, reading)
            }
            first => first,
        };
        let (mut rows, table) = first?;
        let (census, evidences) = table.survey(&mut rows)?;
        Ok((Self { source, encoding: encoding.or(census.encoding()) }, evidences))
    }
}

/// A file that can be read again.
enum Source {
    Path(PathBuf),
    /// What can be read once, such as standard input or what another program writes, kept in a file without a name.
    Spool(File),
}

impl Source {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::spool(io::stdin().lock());
        }
        match std::fs::metadata(path)?.is_file() {
            true => Ok(Self::Path(path.to_owned())),
            false => Self::spool(File::open(path)?),
        }
    }

    fn spool(mut from: impl io::Read) -> io::Result<Self> {
        let mut spool = tempfile::tempfile()?;
        io::copy(&mut from, &mut spool)?;
        Ok(Self::Spool(spool))
    }

    fn open(&self, encoding: Option<&'static Encoding>, progress: &ProgressBar) -> io::Result<Text> {
        match self {
            Self::Path(path) => input::open(path, encoding, progress),
            Self::Spool(spool) => {
                let mut again = spool.try_clone()?;
                again.rewind()?;
                input::text(progress.wrap_read(again), encoding)
            }
        }
    }

    fn begin(&self, encoding: Option<&'static Encoding>, progress: &ProgressBar, reading: Reading<'_>) -> Result<(Rows, Table), String> {
        let text = self.open(encoding, progress).map_err(|problem| problem.to_string())?;
        let mut rows = Rows::new(Lines::new(text));
        let table = Table::begin(&mut rows, reading.map, reading.dialect, reading.times.clone())?;
        Ok((rows, table))
    }
}
