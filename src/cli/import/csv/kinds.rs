//! Of what kind the cells of a column are: one column is of one kind, so all of it must be seen first.
//!
//! A number is what can be given back as it was written: `02134`, `1.10` beside `1.9`, a telephone number or an id of twenty digits is
//! text, and so is the whole column that holds it. Amounts with a fixed number of decimals (`12.50`, `3.00`) are numbers.

use serde_json::{Number, Value};

use super::dialect::Cell;

/// Digits that a 64-bit float holds whatever they are.
const EXACT_DIGITS: usize = 15;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
}

/// What the cells of a column seen so far allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    has_any: bool,
    may_be_number: bool,
    may_be_boolean: bool,
    /// Whether some number ends in a zero behind the point.
    has_trailing_zero: bool,
    /// Digits behind the point, while all numbers have the same.
    decimals: Option<usize>,
    has_fixed_decimals: bool,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            has_any: false,
            may_be_number: true,
            may_be_boolean: true,
            has_trailing_zero: false,
            decimals: None,
            has_fixed_decimals: true,
        }
    }
}

impl Evidence {
    /// Takes a cell in; an empty one says nothing.
    pub(super) fn see(&mut self, cell: &Cell<'_>, decimal: char) {
        if is_nothing(cell) {
            return;
        }
        self.has_any = true;
        let text = std::str::from_utf8(&cell.text).ok().filter(|_| !cell.is_quoted);
        self.may_be_boolean &= text.and_then(boolean).is_some();
        let Some(text) = text.filter(|text| number(text, decimal).is_some()) else {
            self.may_be_number = false;
            return;
        };
        let decimals = text.rsplit_once(decimal).map_or(0, |(_, digits)| digits.len());
        self.has_trailing_zero |= decimals > 0 && text.ends_with('0');
        self.has_fixed_decimals &= *self.decimals.get_or_insert(decimals) == decimals;
    }

    /// Takes in what was seen of the column elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        let Self { has_any, may_be_number, may_be_boolean, has_trailing_zero, decimals, has_fixed_decimals } = other;
        self.has_any |= has_any;
        self.may_be_number &= may_be_number;
        self.may_be_boolean &= may_be_boolean;
        self.has_trailing_zero |= has_trailing_zero;
        self.has_fixed_decimals &= has_fixed_decimals && (self.decimals.is_none() || decimals.is_none() || self.decimals == decimals);
        self.decimals = self.decimals.or(decimals);
    }

    /// Whether any cell said something.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }

    /// The kind of the column.
    pub(super) fn kind(self) -> Kind {
        let is_exact = !self.has_trailing_zero || self.has_fixed_decimals;
        match self {
            Self { has_any: false, .. } => Kind::Text,
            Self { may_be_number: true, .. } if is_exact => Kind::Number,
            Self { may_be_boolean: true, .. } => Kind::Boolean,
            _ => Kind::Text,
        }
    }
}

impl Kind {
    /// A cell as a value of this kind.
    pub(super) fn value(self, text: &str, decimal: char) -> Value {
        let value = match self {
            Self::Text => None,
            Self::Number => number(text, decimal),
            Self::Boolean => boolean(text).map(Value::Bool),
        };
        value.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

/// Whether a cell says nothing: empty, or what databases and their tools write in place of nothing.
pub(super) fn is_nothing(cell: &Cell<'_>) -> bool {
    cell.text.is_empty() || !cell.is_quoted && matches!(cell.text.as_ref(), b"\\N" | b"NULL")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "TRUE" | "True" => Some(true),
        "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `text` as a number, if a 64-bit float holds it to the digit.
pub(super) fn number(text: &str, decimal: char) -> Option<Value> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    // JSON's own grammar: no leading zero or plus, no blanks. A zero has no sign.
    let is_bare =
        text.ends_with(|last: char| last.is_ascii_digit()) && text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    if digits > EXACT_DIGITS || !is_bare || text == "-0" {
        return None;
    }
    let parsed: Number = match decimal {
        '.' => serde_json::from_str(text).ok()?,
        _ if text.contains('.') => return None,
        decimal => serde_json::from_str(&text.replacen(decimal, ".", 1)).ok()?,
    };
    Some(Value::Number(parsed))
}
