//! The edge to the store: one statement in, its rows out.

use std::future::Future;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::error::QueryError;
use super::sql::Statement;

/// What the store answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Rows as `JSONCompactEachRow`.
    pub body: Bytes,
    /// Rows the statement read.
    pub read_rows: u64,
}

/// Runs statements as the guarded reader. Dropping the future must cancel the statement.
pub trait Run: Send + Sync + 'static {
    /// Runs one statement; the rows come as `JSONCompactEachRow`.
    fn run(&self, statement: Statement) -> impl Future<Output = Result<Answer, QueryError>> + Send;
}

/// Runs the statements of one request and adds up what they read.
pub(crate) struct StatementRunner<'a, R> {
    run: &'a R,
    now_ms: i64,
    rows_read: u64,
    is_sampled: bool,
}

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Row(Vec<Value>);

impl<'a, R: Run> StatementRunner<'a, R> {
    /// For a request made at `now_ms`.
    pub(crate) fn new(run: &'a R, now_ms: i64) -> Self {
        Self { run, now_ms, rows_read: 0, is_sampled: false }
    }

    /// When the request was made, milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Rows read so far.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// Notes that the answer is scaled up from a part of the events.
    pub(crate) fn mark_sampled(&mut self) {
        self.is_sampled = true;
    }

    /// Whether the answer is scaled up from a part of the events.
    pub(crate) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Runs `statement` and parses its rows.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, QueryError> {
        let mut rows = Vec::new();
        self.each(statement, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs `statement` and takes its rows one by one, so that they are never all parsed at once.
    pub(crate) async fn each(&mut self, statement: Statement, mut take: impl FnMut(Row)) -> Result<(), QueryError> {
        statement.check()?;
        let answer = self.run.run(statement).await?;
        self.rows_read += answer.read_rows;
        // Text columns are bytes to the store; a sequence that is not UTF-8 must not cost the whole answer.
        let text = String::from_utf8_lossy(&answer.body);
        for line in text.lines().filter(|line| !line.is_empty()) {
            take(serde_json::from_str(line).map(Row).map_err(|_| QueryError::internal("the answer of the store cannot be read"))?);
        }
        Ok(())
    }
}

impl Row {
    /// A row of these values.
    #[cfg(test)]
    pub(crate) fn of(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The value in `column`; null where there is none.
    pub(crate) fn value(&self, column: usize) -> &Value {
        self.0.get(column).unwrap_or(&Value::Null)
    }

    /// The text in `column`; empty where there is none.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.value(column).as_str().unwrap_or("")
    }

    /// The whole number in `column`, quoted or not; 0 where there is none.
    pub(crate) fn int(&self, column: usize) -> i64 {
        let value = self.value(column);
        value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
    }

    /// The unsigned number in `column`, quoted or not; 0 where there is none.
    pub(crate) fn uint(&self, column: usize) -> u64 {
        let value = self.value(column);
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
    }

    /// The number in `column`, if it is one and finite.
    pub(crate) fn float(&self, column: usize) -> Option<f64> {
        let value = self.value(column);
        value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number: &f64| number.is_finite())
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
