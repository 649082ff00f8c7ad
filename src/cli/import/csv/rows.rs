//! Rows out of lines: a cell in quotes may hold ends of line, and a quote that is never closed must not swallow what follows.

use std::collections::VecDeque;
use std::io;

use super::super::lines::{Line, Lines, MAX_LINE};
use super::dialect::{Dialect, Quoting, State};

/// Most lines of one row. A longer one is a quote that was never closed.
const MAX_LINES: usize = 1_000;

/// A row as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Row {
    /// Number of its first line.
    pub(in super::super) number: u64,
    pub(in super::super) bytes: Vec<u8>,
    /// Whether there was more than is kept.
    pub(in super::super) is_cut: bool,
    /// How its quotes are meant; `None` if that makes no sense.
    pub(super) quoting: Option<Quoting>,
    /// What the line ends with.
    end: Vec<u8>,
}

/// Reads rows.
pub(in super::super) struct Rows {
    lines: Lines,
    /// Read ahead and given back.
    ahead: VecDeque<Row>,
}

impl Rows {
    pub(in super::super) fn new(lines: Lines) -> Self {
        Self { lines, ahead: VecDeque::new() }
    }

    /// The next line, blank or not.
    fn any_line(&mut self) -> io::Result<Option<Row>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        let own =
            |Line { number, bytes, is_cut, end }: Line<'_>| Row { number, bytes: bytes.to_vec(), is_cut, quoting: None, end: end.to_vec() };
        Ok(self.lines.next_any()?.map(own))
    }

    /// The next line that is not blank.
    pub(super) fn line(&mut self) -> io::Result<Option<Row>> {
        loop {
            match self.any_line()? {
                Some(line) if line.bytes.trim_ascii().is_empty() => {}
                found => return Ok(found),
            }
        }
    }

    /// Gives a line back.
    pub(super) fn give_back(&mut self, line: Row) {
        self.ahead.push_front(line);
    }

    /// The next row of a table of `width` columns. One whose quoting makes no sense is its first line alone, without a quoting; the
    /// lines that were looked at for its end are rows of their own.
    pub(in super::super) fn next(&mut self, dialect: Dialect, width: usize) -> io::Result<Option<Row>> {
        let Some(first) = self.line()? else { return Ok(None) };
        if first.is_cut {
            return Ok(Some(first));
        }
        for quoting in [Quoting::Doubled, Quoting::Escaped] {
            if quoting == Quoting::Escaped && !first.bytes.contains(&b'\\') {
                break;
            }
            if let Some(row) = self.whole(&first, dialect, quoting, width)? {
                return Ok(Some(row));
            }
        }
        Ok(Some(first))
    }

    /// The row that begins with `first`; `None`, and nothing is read, if there is no end to it.
    fn whole(&mut self, first: &Row, dialect: Dialect, quoting: Quoting, width: usize) -> io::Result<Option<Row>> {
        let mut row = Row { quoting: Some(quoting), ..first.clone() };
        let mut more: Vec<Row> = Vec::new();
        let mut state = dialect.state(&row.bytes, quoting);
        while state == State::Open && more.len() < MAX_LINES && row.bytes.len() <= MAX_LINE {
            let Some(line) = self.any_line()? else { break };
            row.bytes.extend_from_slice(&more.last().unwrap_or(first).end);
            row.bytes.extend_from_slice(&line.bytes);
            let is_cut = line.is_cut;
            more.push(line);
            state = if is_cut { State::Broken } else { dialect.state(&row.bytes, quoting) };
        }
        if state == State::Closed && !swallows(&more, dialect, quoting, width) {
            return Ok(Some(row));
        }
        more.into_iter().rev().for_each(|line| self.ahead.push_front(line));
        Ok(None)
    }
}

/// Whether the lines between the first and the last of a row are all rows by themselves: then a quote was left open, and another one
/// further down closed it by chance.
fn swallows(more: &[Row], dialect: Dialect, quoting: Quoting, width: usize) -> bool {
    let Some((_, between)) = more.split_last() else { return false };
    let is_row = |line: &Row| dialect.cells(&line.bytes, quoting).is_some_and(|cells| cells.len() == width);
    // Of two columns a text may well be made, line by line.
    let few = if width > 2 { 1 } else { 3 };
    width > 1 && between.len() >= few && between.iter().all(is_row)
}
