//! Rows of an answer, and numbers as answers show them.

use serde::Serialize;
use serde_json::Value;

use crate::query::error::QueryError;

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Row(pub(super) Vec<Value>);

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'r>(&'r Value);

impl Row {
    /// A row of these values.
    #[cfg(test)]
    pub(crate) fn of(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// Its first `N` columns, to be named where they are read; null where there is none.
    pub(crate) fn columns<const N: usize>(&self) -> [Cell<'_>; N] {
        std::array::from_fn(|column| self.cell(column))
    }

    /// The value in `column`; null where there is none.
    pub(crate) fn cell(&self, column: usize) -> Cell<'_> {
        Cell(self.0.get(column).unwrap_or(&Value::Null))
    }
}

impl<'r> Cell<'r> {
    /// As JSON.
    pub(crate) fn json(self) -> &'r Value {
        self.0
    }

    /// The text; empty where there is none.
    pub(crate) fn text(self) -> &'r str {
        self.0.as_str().unwrap_or("")
    }

    /// The values of an array; none where there is no array.
    pub(crate) fn items(self) -> impl Iterator<Item = Cell<'r>> {
        self.0.as_array().into_iter().flatten().map(Cell)
    }

    /// The whole number, quoted or not; 0 where there is none.
    pub(crate) fn int(self) -> i64 {
        self.0.as_i64().or_else(|| self.0.as_str()?.parse().ok()).unwrap_or(0)
    }

    /// The unsigned number, quoted or not; 0 where there is none.
    pub(crate) fn uint(self) -> u64 {
        self.0.as_u64().or_else(|| self.0.as_str()?.parse().ok()).unwrap_or(0)
    }

    /// The number, if it is one and finite.
    pub(crate) fn float(self) -> Option<f64> {
        self.0.as_f64().or_else(|| self.0.as_str()?.parse().ok()).filter(|number: &f64| number.is_finite())
    }
}

/// A number as JSON: whole numbers of up to 64 bits with all their digits and without a fraction, null for what JSON cannot say.
pub(crate) fn number(value: f64) -> Value {
    // Below this every whole f64 is an i64.
    const WHOLE: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() == 0.0 && value.abs() < WHOLE { Value::from(value as i64) } else { Value::from(value) }
}

/// A result as JSON text.
pub(crate) fn to_json(result: &impl Serialize) -> Result<Vec<u8>, QueryError> {
    serde_json::to_vec(result).map_err(|_| QueryError::internal("the answer cannot be written"))
}
