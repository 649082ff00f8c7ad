//! How a table is written: what separates its cells, and how quotes are meant.

use std::borrow::Cow;

/// A cell and whether it stood in quotes: what does is text, whatever it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell<'r> {
    pub(super) text: Cow<'r, [u8]>,
    pub(super) is_quoted: bool,
}

/// What separates cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Dialect {
    pub(super) delimiter: u8,
}

/// What becomes of a row as its lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is whole.
    Closed,
    /// A cell in quotes goes on in the next line.
    Open,
    /// Something stands behind a closing quote that is neither a delimiter nor the end.
    Broken,
}

/// How a quote inside quotes is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// Doubled (RFC 4180).
    Doubled,
    /// Behind a backslash, as MySQL and others do.
    Escaped,
}

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

impl Dialect {
    /// The delimiter called `name`.
    pub(in super::super) fn named(name: &str) -> Result<Self, String> {
        let delimiter = match name {
            "comma" => b',',
            "semicolon" => b';',
            "tab" | "\\t" => b'\t',
            "pipe" => b'|',
            "space" => b' ',
            other => match other.as_bytes() {
                [one] if !matches!(one, b'"' | b'\n' | b'\r' | b'\\') && !one.is_ascii_alphanumeric() => *one,
                _ => return Err(format!("`{name}` is no delimiter: one character, or comma, semicolon, tab, pipe")),
            },
        };
        Ok(Self { delimiter })
    }

    /// The first line of a file that says nothing but which delimiter follows, as Excel writes it.
    pub(super) fn declared(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"sep=").or_else(|| line.strip_prefix(b"SEP="))?;
        match rest {
            [delimiter] => Some(Self { delimiter: *delimiter }),
            _ => None,
        }
    }

    /// What separates the names of `header`: of the usual delimiters the one that brings out most names that are `known`, then most
    /// names.
    pub(super) fn of_header(header: &[u8], known: impl Fn(&str) -> bool) -> Self {
        let score = |delimiter: u8| {
            let cells = Self { delimiter }.cells(header, Quoting::Doubled).unwrap_or_default();
            let is_known = |cell: &&Cell<'_>| std::str::from_utf8(&cell.text).is_ok_and(|name| known(name.trim()));
            (cells.iter().filter(is_known).count(), cells.len())
        };
        let mut best = (Self { delimiter: b',' }, score(b','));
        for delimiter in DELIMITERS {
            if score(delimiter) > best.1 {
                best = (Self { delimiter }, score(delimiter));
            }
        }
        best.0
    }

    /// Whether a row is whole that consists of `row` so far.
    pub(super) fn state(self, row: &[u8], quoting: Quoting) -> State {
        self.scan(row, quoting, |_| {})
    }

    /// The cells of a row; `None` if it is not whole.
    pub(super) fn cells(self, row: &[u8], quoting: Quoting) -> Option<Vec<Cell<'_>>> {
        let mut cells = Vec::new();
        let state = self.scan(row, quoting, |raw| cells.push(cell(raw, quoting)));
        (state == State::Closed).then_some(cells)
    }

    /// Walks over a row; `each` sees every cell as written, quotes and all.
    fn scan<'r>(self, row: &'r [u8], quoting: Quoting, mut each: impl FnMut(&'r [u8])) -> State {
        let mut at = 0;
        loop {
            let rest = row.get(at..).unwrap_or_default();
            let length = match rest.strip_prefix(b"\"") {
                None => rest.iter().position(|byte| *byte == self.delimiter).unwrap_or(rest.len()),
                Some(inner) => match closing(inner, quoting) {
                    None => return State::Open,
                    Some(end) => end + 2,
                },
            };
            each(rest.get(..length).unwrap_or_default());
            match rest.get(length) {
                None => return State::Closed,
                Some(byte) if *byte == self.delimiter => at += length + 1,
                Some(_) => return State::Broken,
            }
        }
    }
}

/// Where the quote stands that ends a cell.
fn closing(inner: &[u8], quoting: Quoting) -> Option<usize> {
    let mut at = 0;
    loop {
        match (inner.get(at)?, quoting) {
            (b'\\', Quoting::Escaped) => at += 2,
            (b'"', _) if inner.get(at + 1) == Some(&b'"') => at += 2,
            (b'"', _) => return Some(at),
            _ => at += 1,
        }
    }
}

fn cell(raw: &[u8], quoting: Quoting) -> Cell<'_> {
    let Some(inner) = raw.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")) else {
        return Cell { text: Cow::Borrowed(raw), is_quoted: false };
    };
    let is_plain = !inner.contains(&b'"') && (quoting == Quoting::Doubled || !inner.contains(&b'\\'));
    let text = if is_plain { Cow::Borrowed(inner) } else { Cow::Owned(unquoted(inner, quoting)) };
    Cell { text, is_quoted: true }
}

fn unquoted(mut inner: &[u8], quoting: Quoting) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    while let Some((byte, rest)) = inner.split_first() {
        let (byte, rest) = match (byte, rest, quoting) {
            (b'"', [b'"', rest @ ..], _) => (b'"', rest),
            (b'\\', [escaped, rest @ ..], Quoting::Escaped) => (of_escape(*escaped), rest),
            _ => (*byte, rest),
        };
        out.push(byte);
        inner = rest;
    }
    out
}

fn of_escape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}
