//! Columns that look like the time of their rows, in tables of which no column is said to be it.
//!
//! Years of orders would otherwise be of today, each of them under a property that says so: such a table is refused, by the name of the
//! column. May go wrong: a column that is a time of something else (a birthday) is taken for it; a map that says `now` ends that.

use super::dialect::Cell;
use super::kinds::is_nothing;
use crate::cli::import::times;

/// Words in the names of columns that hold times.
const WORDS: [&str; 8] = ["time", "timestamp", "datetime", "date", "ts", "datum", "zeit", "fecha"];
/// Last words of such names.
const LAST_WORDS: [&str; 5] = ["at", "when", "created", "occurred", "happened"];
/// Numbers below are amounts or durations; above are `20240330` and seconds since 1970.
const LEAST_TIME: f64 = 1e7;

/// What the name and the cells of a column say of it.
#[derive(Clone, Debug)]
pub(super) struct TimeLook {
    name: String,
    is_called_so: bool,
    has_any: bool,
    /// Every cell is a written time, such as `2024-03-30 09:30`.
    is_written: bool,
    /// Every cell may be a time in some form.
    may_be: bool,
}

impl TimeLook {
    /// Of the column called so, before any of its cells was seen.
    pub(super) fn of_column(name: &str) -> Self {
        let words = words(name);
        let is_word = |list: &[&str], word: &String| list.contains(&word.as_str());
        let is_called_so = words.iter().any(|word| is_word(&WORDS, word)) || words.last().is_some_and(|word| is_word(&LAST_WORDS, word));
        Self { name: name.to_owned(), is_called_so, has_any: false, is_written: true, may_be: true }
    }

    /// Takes a cell in; an empty one says nothing.
    pub(super) fn see(&mut self, cell: &Cell<'_>) {
        if is_nothing(cell) {
            return;
        }
        self.has_any = true;
        let text = std::str::from_utf8(&cell.text).map(str::trim).unwrap_or_default();
        let number = text.parse::<f64>().ok();
        self.is_written = self.is_written && number.is_none() && times::of_text(text).is_some();
        self.may_be &= number.map_or_else(|| text.bytes().any(|byte| byte.is_ascii_digit()), |number| number >= LEAST_TIME);
    }

    /// Whether it looks like a time.
    pub(super) fn is_time(&self) -> bool {
        self.has_any && (self.is_written || self.is_called_so && self.may_be)
    }

    /// Why its table is refused, and what to do.
    pub(super) fn refusal(&self) -> String {
        let Self { name, .. } = self;
        format!(
            "no column is `timestamp`, but `{name}` looks like a time: a map says that it is (`timestamp = \"{name}\"` among its columns), or that \
             rows are of the time of the import (`timestamp = \"now\"` among its defaults)"
        )
    }
}

/// The words of a name, in small letters: `created_at`, `orderDate`, `Event Time`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || letter.is_uppercase() && was_small {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        was_small = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}
