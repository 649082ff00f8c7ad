//! Records of an export: a JSON object a line, elements of an array, or rows of a table, recognised by how the file begins.
//!
//! Promises: a line or a row that is broken costs itself. A JSON document that is broken may cost what comes after.

use std::io::{self, BufRead};

use serde_json::Value as Json;

use super::{Attached, Export, Record};
use crate::cli::import::csv::{Rows, Sheet};
use crate::cli::import::input::Text;
use crate::cli::import::lines::{Lines, MAX_LINE};
use crate::cli::import::malformed::{Malformed, whole};

/// How an answer of an API begins whose events are a list in it; no event does.
const DOCUMENTS: [&[u8]; 4] = [b"\"next\"", b"\"previous\"", b"\"count\"", b"\"results\""];

/// The records of one file.
pub(in super::super) enum Records {
    Lines(Lines),
    Elements(Elements),
    Table { rows: Rows, sheet: Sheet, row: Vec<u8> },
}

/// A record as it stands in the file, and what it holds.
pub(in super::super) struct Raw<'r> {
    pub(in super::super) number: u64,
    pub(in super::super) bytes: &'r [u8],
    pub(in super::super) record: Result<Record, Malformed>,
}

impl Records {
    /// Looks at how `text` begins. Errors: it is a table without the columns of `export`.
    pub(in super::super) fn open(text: Text, export: &dyn Export) -> Result<Self, String> {
        Self::of(text, export.columns(), |names| export.refuse(names))
    }

    /// The same of a table of what belongs to records.
    pub(in super::super) fn attached(text: Text, tables: &dyn Attached) -> Result<Self, String> {
        Self::of(text, &[tables.column()], |_| None)
    }

    fn of(mut text: Text, columns: &[&str], refuse: impl Fn(&[String]) -> Option<&'static str>) -> Result<Self, String> {
        let head = text.fill_buf().map_err(|problem| problem.to_string())?;
        let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
        let first = head.strip_prefix(b"{").map(<[u8]>::trim_ascii_start).unwrap_or_default();
        let is_document = DOCUMENTS.iter().any(|name| first.starts_with(name));
        match head.first() {
            Some(b'[') => Ok(Self::Elements(Elements::new(text))),
            Some(b'{') if is_document => Ok(Self::Elements(Elements::new(text))),
            Some(b'{') | None => Ok(Self::Lines(Lines::new(text))),
            Some(_) => table(text, columns, refuse),
        }
    }

    /// The next record.
    pub(in super::super) fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
        match self {
            Self::Lines(lines) => {
                let Some(line) = lines.next()? else { return Ok(None) };
                Ok(Some(Raw { number: line.number, bytes: line.bytes, record: whole(line.is_cut).and_then(|()| object(line.bytes)) }))
            }
            Self::Elements(elements) => {
                let Some((number, is_cut)) = elements.next()? else { return Ok(None) };
                let bytes = elements.value.as_slice();
                Ok(Some(Raw { number, bytes, record: whole(is_cut).and_then(|()| object(bytes)) }))
            }
            Self::Table { rows, sheet, row } => {
                let Some(next) = sheet.next(rows)? else { return Ok(None) };
                let record = whole(next.is_cut).and_then(|()| sheet.object(&next)).map(Record);
                *row = next.bytes;
                Ok(Some(Raw { number: next.number, bytes: row, record }))
            }
        }
    }
}

fn object(text: &[u8]) -> Result<Record, Malformed> {
    std::str::from_utf8(text).map_err(Malformed::not_utf_8)?;
    match serde_json::from_slice(text) {
        Ok(Json::Object(members)) => Ok(Record(members)),
        Ok(_) => Err(Malformed::new("invalid_json", "not a JSON object")),
        Err(problem) => Err(Malformed::new("invalid_json", format!("not a JSON object: {problem}"))),
    }
}

fn table(text: Text, columns: &[&str], refuse: impl Fn(&[String]) -> Option<&'static str>) -> Result<Records, String> {
    let mut rows = Rows::new(Lines::new(text));
    let sheet = Sheet::begin(&mut rows, |name| columns.contains(&name))?;
    if let Some(problem) = refuse(sheet.names()) {
        return Err(problem.to_owned());
    }
    if columns.is_empty() {
        return Err("does not begin with a JSON object, as this export does".to_owned());
    }
    match columns.iter().find(|column| !sheet.names().iter().any(|name| name == *column)) {
        Some(missing) => Err(format!("is neither JSON nor a table of this export: there is no column `{missing}`")),
        None => Ok(Records::Table { rows, sheet, row: Vec::new() }),
    }
}

/// The elements of the lists of a JSON document, or of several.
pub(in super::super) struct Elements {
    input: Text,
    value: Vec<u8>,
    /// The line at hand, counted from 1.
    line: u64,
    /// Whether it is in a list.
    is_inside: bool,
}

impl Elements {
    fn new(input: Text) -> Self {
        Self { input, value: Vec::new(), line: 1, is_inside: false }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(available) => return Ok(available.first().copied()),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    fn skip(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.input.consume(1);
    }

    /// Goes to the start of the next list; `false` if there is none.
    fn enter(&mut self) -> io::Result<bool> {
        let (mut is_text, mut is_escaped) = (false, false);
        while let Some(byte) = self.peek()? {
            self.skip(byte);
            match byte {
                b'[' if !is_text => return Ok(true),
                b'"' if !is_escaped => is_text = !is_text,
                _ => {}
            }
            is_escaped = is_text && byte == b'\\' && !is_escaped;
        }
        Ok(false)
    }

    /// Goes to the start of the next element; `false` if there is none.
    fn seek(&mut self) -> io::Result<bool> {
        loop {
            if !self.is_inside {
                self.is_inside = self.enter()?;
            }
            match self.peek()? {
                None => return Ok(false),
                Some(b']') => {
                    self.skip(b']');
                    self.is_inside = false;
                }
                Some(byte) if byte == b',' || byte.is_ascii_whitespace() => self.skip(byte),
                Some(_) => return Ok(true),
            }
        }
    }

    /// Reads an element into `value`: the line on which it begins, and whether there was more than is kept.
    fn next(&mut self) -> io::Result<Option<(u64, bool)>> {
        if !self.seek()? {
            return Ok(None);
        }
        self.value.clear();
        let (line, mut is_cut, mut scan) = (self.line, false, Scan::default());
        while let Some(byte) = self.peek()? {
            let step = scan.step(byte);
            if step == Step::Before {
                break;
            }
            if self.value.len() < MAX_LINE {
                self.value.push(byte);
            } else {
                is_cut = true;
            }
            self.skip(byte);
            if step == Step::Last {
                break;
            }
        }
        Ok(Some((line, is_cut)))
    }
}

/// Where a value ends.
#[derive(Default)]
struct Scan {
    depth: u64,
    is_text: bool,
    is_escaped: bool,
}

#[derive(PartialEq, Eq)]
enum Step {
    /// The byte is one of the value's.
    Inside,
    /// It is the last one.
    Last,
    /// The value ended before it.
    Before,
}

impl Scan {
    fn step(&mut self, byte: u8) -> Step {
        if self.is_text {
            let is_end = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.is_text = !is_end;
            return if is_end && self.depth == 0 { Step::Last } else { Step::Inside };
        }
        match byte {
            b'"' => self.is_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return if self.depth == 0 { Step::Last } else { Step::Inside };
            }
            b',' | b']' if self.depth == 0 => return Step::Before,
            _ => {}
        }
        Step::Inside
    }
}
