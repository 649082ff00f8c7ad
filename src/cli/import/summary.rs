//! The summary of an import: how lines ended, why some could not be read, and what to look at.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::compare::{self, Compared};
use crate::cli::printable::printable;

/// How the lines of this run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Books {
    pub(super) received: u64,
    pub(in crate::cli) stored: u64,
    pub(in crate::cli) duplicate: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
    pub(super) dead: u64,
    pub(in crate::cli) waiting: u64,
}

impl Books {
    /// Whether `sent` lines all have their outcome.
    pub(super) fn are_settled(&self, sent: u64) -> bool {
        let settled = self.stored + self.duplicate + self.filtered + self.dead;
        self.waiting == 0 && self.received >= sent && self.received == settled
    }
}

/// Lines shown for each reason.
const EXAMPLES: usize = 3;
/// Longest message shown, characters.
const MESSAGE: usize = 200;

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Example {
    #[serde(serialize_with = "as_text")]
    pub(super) file: Arc<str>,
    pub(super) line: u64,
    /// Addresses masked.
    pub(super) message: String,
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Why lines could not be read, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Reasons(BTreeMap<String, Reason>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reason {
    lines: u64,
    examples: Vec<Example>,
}

impl Reasons {
    /// `lines` for one reason, with the first of them.
    pub(super) fn add(&mut self, reason: &str, lines: u64, example: Example) {
        let known = self.0.entry(reason.to_owned()).or_default();
        known.lines += lines;
        if known.examples.len() < EXAMPLES {
            known.examples.push(Example { message: example.message.chars().take(MESSAGE).collect(), ..example });
        }
    }

    /// Takes in what is known of other lines.
    pub(super) fn merge(&mut self, other: Self) {
        for (reason, Reason { lines, examples }) in other.0 {
            let known = self.0.entry(reason).or_default();
            known.lines += lines;
            let room = EXAMPLES.saturating_sub(known.examples.len());
            known.examples.extend(examples.into_iter().take(room));
        }
    }

    /// Number of lines.
    pub(in crate::cli) fn lines(&self) -> u64 {
        self.0.values().map(|reason| reason.lines).sum()
    }

    fn to_list(&self) -> Vec<ReasonTold<'_>> {
        let mut list: Vec<_> =
            self.0.iter().map(|(reason, told)| ReasonTold { reason, lines: told.lines, examples: &told.examples }).collect();
        list.sort_by_key(|told| std::cmp::Reverse(told.lines));
        list
    }
}

#[derive(Debug, Serialize)]
struct ReasonTold<'r> {
    reason: &'r str,
    lines: u64,
    examples: &'r [Example],
}

/// Why an import that could read its files has stored nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum NothingStored {
    /// None of so many lines could be read.
    #[error("nothing was stored: {0} of {0} lines could not be read, for the reasons above")]
    Unreadable(u64),
    /// Most likely something went wrong with the files before.
    #[error("nothing was stored: there is not a single line in what was given")]
    Empty,
}

/// How an import ended.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'r> {
    read: u64,
    stored: u64,
    duplicate: u64,
    filtered: u64,
    rejected: u64,
    dead: u64,
    reasons: Vec<ReasonTold<'r>>,
    #[serde(skip_serializing_if = "has_none")]
    notes: &'r [String],
    #[serde(skip_serializing_if = "has_none")]
    compared: &'r [Compared],
}

fn has_none<T>(list: &&[T]) -> bool {
    list.is_empty()
}

impl<'r> Summary<'r> {
    /// Of `read` lines, of which those in `reasons` could not be read. Each line has one outcome here, however often its batch was sent.
    pub(super) fn of(read: u64, books: &Books, reasons: &'r Reasons, notes: &'r [String]) -> Self {
        let dead = reasons.lines();
        let left = read.saturating_sub(dead);
        let stored = books.stored.min(left);
        let filtered = books.filtered.min(left - stored);
        let duplicate = left - stored - filtered;
        Self { read, stored, duplicate, filtered, rejected: books.rejected, dead, reasons: reasons.to_list(), notes, compared: &[] }
    }

    /// With what the files and the project have of each type and day.
    pub(super) fn with(self, compared: &'r [Compared]) -> Self {
        Self { compared, ..self }
    }

    /// Prints it: numbers on standard output, everything for people on standard error. Errors: nothing was stored, and something
    /// should have been.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let Self { read, stored, duplicate, filtered, rejected, dead, .. } = self;
        // Standard error may be closed.
        let _ = self.tell(&mut std::io::stderr().lock());
        match as_json {
            true => println!("{}", serde_json::to_string(self)?),
            false => {
                println!(
                    "read       {read}\nstored     {stored}\nduplicate  {duplicate}\nfiltered   {filtered}\nrejected   {rejected}\ndead       {dead}"
                );
                if !self.compared.is_empty() {
                    compare::print(self.compared, &mut std::io::stdout().lock())?;
                }
            }
        }
        match *read {
            0 => Err(NothingStored::Empty.into()),
            read if read == *dead => Err(NothingStored::Unreadable(read).into()),
            _ => Ok(()),
        }
    }

    fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.dead > 0 {
            writeln!(out, "{} of {} lines could not be read; `pulse dead` shows what was kept of them", self.dead, self.read)?;
        }
        for ReasonTold { reason, lines, examples } in &self.reasons {
            writeln!(out, "  {}: {lines}", printable(reason))?;
            for Example { file, line, message } in *examples {
                writeln!(out, "    {}:{line}: {}", printable(file), printable(message))?;
            }
        }
        for note in self.notes {
            writeln!(out, "note: {}", printable(note))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example(line: u64) -> Example {
        Example { file: "access.log".into(), line, message: format!("line {line}") }
    }

    #[test]
    fn every_line_is_in_one_count_also_where_a_batch_was_sent_twice() {
        let mut reasons = Reasons::default();
        reasons.add("no_time", 2, example(3));
        let books = Books { received: 16, stored: 5, duplicate: 8, filtered: 1, dead: 4, ..Books::default() };
        let summary = Summary::of(10, &books, &reasons, &[]);
        let Summary { read, stored, duplicate, filtered, dead, .. } = summary;
        assert_eq!((read, stored, duplicate, filtered, dead), (10, 5, 2, 1, 2));
        assert!(summary.print(true).is_ok());
    }

    #[test]
    fn an_import_that_stores_nothing_fails_also_where_there_is_nothing() {
        let mut reasons = Reasons::default();
        reasons.add("no_time", 3, example(1));
        let summary = Summary::of(3, &Books { received: 3, dead: 3, ..Books::default() }, &reasons, &[]);
        assert_eq!(summary.print(true).unwrap_err().downcast::<NothingStored>().unwrap(), NothingStored::Unreadable(3));
        let reasons = Reasons::default();
        let nothing = Summary::of(0, &Books::default(), &reasons, &[]);
        assert_eq!(nothing.print(true).unwrap_err().downcast::<NothingStored>().unwrap(), NothingStored::Empty);
        // Imported again, all of it is there already.
        assert!(Summary::of(3, &Books { received: 3, duplicate: 3, ..Books::default() }, &Reasons::default(), &[]).print(true).is_ok());
    }

    #[test]
    fn nothing_of_a_line_commands_the_terminal() {
        let mut reasons = Reasons::default();
        reasons.add(
            "no_time",
            1,
            Example { file: "a\u{1b}.log".into(), line: 1, message: "time `\u{1b}]0;x\u{7}` cannot be read".to_owned() },
        );
        let notes = ["a\u{9b}1m.csv was passed over".to_owned()];
        let mut told = Vec::new();
        Summary::of(1, &Books::default(), &reasons, &notes).tell(&mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(told.chars().all(|letter| letter == '\n' || !letter.is_control()), "{told:?}");
        assert!(told.contains(r"a\u{1b}.log:1: time `\u{1b}]0;x\u{7}` cannot be read") && told.contains(r"note: a\u{9b}1m.csv"), "{told}");
    }

    #[test]
    fn reasons_are_told_with_their_first_lines_the_most_frequent_first() {
        let mut reasons = Reasons::default();
        (1..=2).for_each(|line| reasons.add("no_time", 1, example(line)));
        let mut more = Reasons::default();
        (3..=9).for_each(|line| more.add("no_address", 1, example(line)));
        reasons.merge(more);
        let notes = ["a note".to_owned()];
        let summary = Summary::of(9, &Books::default(), &reasons, &notes);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["reasons"][0], json!({"reason": "no_address", "lines": 7, "examples": [example(3), example(4), example(5)]}));
        assert_eq!((json["reasons"][1]["lines"].as_u64(), json["notes"][0].as_str()), (Some(2), Some("a note")));
    }
}
