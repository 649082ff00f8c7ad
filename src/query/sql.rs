//! SQL whose text cannot contain input: text comes from `&'static str` parts, values are server-side parameters.

use std::fmt::Write as _;

use crate::event::ids::ProjectId;

/// A statement under construction, then ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    text: String,
    values: Vec<String>,
}

/// Whose events, and which of them: `from_ms` included, `until_ms` excluded, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) project: ProjectId,
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
}

impl Statement {
    /// The SQL with placeholders `{p0:Type}`; no FORMAT clause.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters by name, escaped as ClickHouse reads them (as a field of TabSeparated).
    pub fn params(&self) -> impl Iterator<Item = (String, &str)> {
        self.values.iter().enumerate().map(|(index, value)| (format!("p{index}"), value.as_str()))
    }

    pub(crate) fn sql(mut self, part: &'static str) -> Self {
        self.text.push_str(part);
        self
    }

    fn bind(mut self, ty: &'static str, value: String) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{{p{}:{ty}}}", self.values.len());
        self.values.push(value);
        self
    }

    /// A whole number, bound.
    pub(crate) fn int(self, value: i64) -> Self {
        self.bind("Int64", value.to_string())
    }

    /// An unsigned number, bound.
    pub(crate) fn uint(self, value: u64) -> Self {
        self.bind("UInt64", value.to_string())
    }

    /// The day of an instant in UTC, bound; at most the last one that a day can be.
    fn day(self, at_ms: i64) -> Self {
        let days = at_ms.div_euclid(86_400_000).clamp(0, i64::from(u16::MAX));
        self.sql("toDate(").bind("UInt16", days.to_string()).sql(")")
    }

    /// A number, bound. Not NaN and finite: it came from JSON.
    pub(crate) fn float(self, value: f64) -> Self {
        self.bind("Float64", format!("{value:e}"))
    }

    /// A text, bound.
    pub(crate) fn string(self, value: &str) -> Self {
        let mut escaped = String::with_capacity(value.len() + 2);
        escape(value, &mut escaped);
        self.bind("String", escaped)
    }

    /// Texts, bound as one array.
    pub(crate) fn strings<'v>(self, values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut literal = String::from("[");
        for value in values {
            if literal.len() > 1 {
                literal.push(',');
            }
            literal.push('\'');
            escape(value, &mut literal);
            literal.push('\'');
        }
        literal.push(']');
        self.bind("Array(String)", literal)
    }

    /// Numbers, bound as one array.
    pub(crate) fn floats(self, values: impl IntoIterator<Item = f64>) -> Self {
        let literals: Vec<String> = values.into_iter().map(|value| format!("{value:e}")).collect();
        self.bind("Array(Float64)", format!("[{}]", literals.join(",")))
    }

    /// `FROM` the event table `WHERE`, limited to one project and one time range. Every query of events starts here.
    pub(crate) fn scope(self, scope: &Scope) -> Self {
        self.sql(" FROM events WHERE project_id = ")
            .uint(scope.project.0)
            .sql(" AND timestamp >= fromUnixTimestamp64Milli(")
            .int(scope.from_ms)
            .sql(") AND timestamp < fromUnixTimestamp64Milli(")
            .int(scope.until_ms)
            // The table is sorted by day, which ClickHouse does not deduce from the time.
            .sql(") AND toDate(timestamp) >= ")
            .day(scope.from_ms)
            .sql(" AND toDate(timestamp) <= ")
            .day(scope.until_ms - 1)
    }
}

/// Appends `text` with the escapes that a parameter needs, inside quotes or not.
fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '\'' => into.push_str("\\'"),
            '\t' => into.push_str("\\t"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\0' => into.push_str("\\0"),
            other => into.push(other),
        }
    }
}
