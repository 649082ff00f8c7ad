//! `POST /v1/query/sql`: a statement that somebody wrote, over the views of one project.
//!
//! Promises: a statement reads the views alone, and of them the rows of the project of the question. That is no matter of its text: it runs
//! as a user with no other right, and the views ([`crate::store::sql_views`]) ask the id of the statement for the project, which no part
//! of a statement changes. What rights do not cover, `text` refuses. The limits are those of the user's profile, its turn and deadline those
//! of every other question. An answer is whole or an error, and an error names no host and nothing of the server.

mod text;

use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::ask::fields::{self, Fields};
use super::ask::range::show_ms;
use super::error::QueryError;
use super::output::{OUTPUTS, Output};
use super::reader::Reader;
use super::{Queries, counted};
use crate::clickhouse::{ClickHouseError, ErrorClass, RawStatement, SqlAccess};
use crate::event::ids::ProjectId;
use crate::metrics::Counter;
use crate::store::sql_views;

impl Queries {
    /// Answers a statement that somebody wrote.
    ///
    /// # Errors
    /// 404 `sql_off`; as [`RawQuestion::parse`] and [`RawQuestion::answer`] describe.
    pub(super) async fn raw_sql(&self, project: ProjectId, request: RawRequest<'_>, now_ms: i64) -> Result<RawAnswer, QueryError> {
        counted(self.raw_answer(project, request, now_ms).await)
    }

    async fn raw_answer(&self, project: ProjectId, request: RawRequest<'_>, now_ms: i64) -> Result<RawAnswer, QueryError> {
        let access = self.0.store.as_ref().and_then(|store| store.sql.as_ref()).filter(|_| self.0.answers_sql);
        let off = || QueryError::not_found("sql_off", "this instance answers no SQL: query.sql is false");
        let access = access.ok_or_else(off)?;
        RawQuestion::parse(request)?.answer(access, &self.0.reader, Asked { project, now_ms }).await
    }
}

/// A request as it comes.
#[derive(Clone, Copy)]
pub(super) struct RawRequest<'a> {
    pub(super) body: &'a [u8],
    /// How much the client wants an answer of a type; 0: it does not take it.
    pub(super) weight: &'a (dyn Fn(&str) -> u16 + Sync),
}

/// A checked request.
#[derive(Debug)]
pub(super) struct RawQuestion {
    sql: String,
    output: Output,
}

/// An answer as it goes out.
#[derive(Debug)]
pub(super) struct RawAnswer {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl RawQuestion {
    /// Reads `sql` and `format`; without a format it is the one that the client wants most, of several the first one here.
    ///
    /// # Errors
    /// 400 `invalid_sql` or `invalid_format`, 403 `sql_not_allowed`, 406 `not_acceptable`.
    pub(super) fn parse(RawRequest { body, weight }: RawRequest<'_>) -> Result<Self, QueryError> {
        let body = fields::parse(body)?;
        let fields = Fields::open(&body, &["sql", "format"])?;
        let sql = fields.text("sql", "invalid_sql")?.ok_or_else(|| QueryError::invalid("invalid_sql", "`sql` is missing"))?;
        let format = fields.text("format", "invalid_format")?;
        let wanted = |output: Output| weight(output.content_type());
        let output = match format {
            Some(format) => Output::named(format, &[])?,
            // Of equal ones the last is taken.
            None => OUTPUTS.iter().rev().map(|(_, output)| *output).max_by_key(|output| wanted(*output)).unwrap_or(Output::Json),
        };
        if wanted(output) == 0 {
            let message = format!("`format` is `{}`, of a type that `Accept` does not name", output.name());
            return Err(QueryError::not_acceptable(message));
        }
        Ok(Self { sql: text::checked(sql)?, output })
    }

    /// Asks it for `project`.
    ///
    /// # Errors
    /// Those of every question; 400 `invalid_sql` or `unknown_table`, 403 `sql_not_allowed`; 503 while the store is mended.
    pub(super) async fn answer(&self, access: &SqlAccess, reader: &Reader, asked: Asked) -> Result<RawAnswer, QueryError> {
        let began = Instant::now();
        let runner = reader.begin(asked.project, asked.now_ms).await?;
        if access.is_being_mended() {
            return Err(QueryError::of_store(ErrorClass::Damaged));
        }
        let ask = async |text: &str, format: Output| {
            let id = sql_views::statement_id(asked.project);
            let statement = RawStatement { text, id: &id, format: format.of_server() };
            Counter::Statements.add(1);
            let answer = runner.within_deadline(access.client.ask(&statement)).await?;
            let answer = answer.map_err(|problem| refused(&problem, &access.database))?;
            Counter::StatementRowsRead.add(answer.read_rows);
            Ok::<_, QueryError>(answer)
        };
        // An answer in JSON says its types itself, and Parquet has no states.
        if matches!(self.output, Output::Csv | Output::Arrow) {
            let described = ask(&format!("DESCRIBE ({})", self.sql), Output::Json).await?;
            refuse_states(described_types(&described.body)?)?;
        }
        let answer = ask(&self.sql, self.output).await?;
        let body = match self.output {
            Output::Json => {
                let rest = json!({"computed_at": show_ms(asked.now_ms), "rows_read": answer.read_rows, "query_ms": began.elapsed().as_millis() as u64});
                written(&answer.body, rest)?
            }
            output => output.safe(answer.body),
        };
        Ok(RawAnswer { content_type: self.output.content_type(), body })
    }
}

/// Who asks, and when (milliseconds since 1970).
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) project: ProjectId,
    pub(super) now_ms: i64,
}

/// An answer in JSON, as the server writes it.
#[derive(Deserialize)]
struct Compact<'a> {
    meta: Vec<serde_json::Value>,
    #[serde(borrow)]
    data: &'a RawValue,
    rows: u64,
}

impl<'a> Compact<'a> {
    fn read(text: &'a str) -> Result<Self, QueryError> {
        serde_json::from_str(text).map_err(|_| unreadable())
    }
}

fn unreadable() -> QueryError {
    QueryError::internal("the answer of the store cannot be read")
}

/// The types of the columns that `DESCRIBE` names: of each its name comes first, then its type.
fn described_types(body: &[u8]) -> Result<Vec<String>, QueryError> {
    let text = String::from_utf8_lossy(body);
    let columns: Vec<Vec<serde_json::Value>> = serde_json::from_str(Compact::read(&text)?.data.get()).map_err(|_| unreadable())?;
    Ok(columns.iter().filter_map(|column| column.get(1)?.as_str().map(str::to_owned)).collect())
}

/// Refuses states of aggregates however a statement came by them: in Arrow they are addresses of the server's memory.
fn refuse_states(types: impl IntoIterator<Item: AsRef<str>>) -> Result<(), QueryError> {
    match types.into_iter().any(|of_column| of_column.as_ref().contains("AggregateFunction")) {
        true => Err(QueryError::forbidden("sql_not_allowed", "states of aggregates are not for statements of questions")),
        false => Ok(()),
    }
}

/// The same as other questions are answered.
fn written(body: &[u8], mut meta: serde_json::Value) -> Result<Bytes, QueryError> {
    let text = String::from_utf8_lossy(body);
    let compact = Compact::read(&text)?;
    refuse_states(compact.meta.iter().filter_map(|column| column["type"].as_str()))?;
    meta["rows"] = compact.rows.into();
    let columns = serde_json::Value::from(compact.meta);
    Ok(format!(r#"{{"result":{{"columns":{columns},"rows":{}}},"meta":{meta}}}"#, compact.data.get()).into())
}

/// Errors of the server whose words are of the statement alone, by the codes of its `ErrorCodes.cpp`: of its syntax, its names and types, and
/// its values. What is not among them is told by its code alone.
const SPOKEN: [i32; 40] = [
    1, 6, 10, 27, 36, 38, 41, 42, 43, 44, 46, 47, 48, 50, 51, 53, 62, 63, 69, 70, 72, 117, 128, 130, 131, 153, 167, 179, 184, 190, 207,
    215, 258, 306, 349, 352, 386, 395, 403, 407,
];
/// Those of rights, of functions and settings too.
const RIGHTS: [i32; 7] = [164, 291, 344, 358, 446, 452, 497];
/// Those of tables, databases and clusters that are not there.
const NO_TABLE: [i32; 3] = [60, 81, 701];
/// Longest part of what the server says, bytes.
const MAX_SPOKEN: usize = 400;
/// What the server says of itself: of a view, its user or another server.
const OF_SERVER: [&str; 5] = ["Received from", "DEFINER", "initialQueryID", "project_id =", "system."];

/// What an error of the server is to the one who wrote the statement.
fn refused(problem: &ClickHouseError, database: &str) -> QueryError {
    let class = problem.class();
    let ClickHouseError::Server { code, message } = problem else { return QueryError::of_store(class) };
    if RIGHTS.contains(code) {
        tracing::debug!(%problem, "a statement without the right for it");
        return QueryError::forbidden("sql_not_allowed", "the statement reads or does what it has no right to");
    }
    if NO_TABLE.contains(code) {
        let message = format!("a table of the statement is not there: there is `{}`", sql_views::EVENTS);
        return QueryError::invalid("unknown_table", message);
    }
    match class {
        ErrorClass::Missing | ErrorClass::Misconfigured | ErrorClass::Other => QueryError::invalid(
            "invalid_sql",
            spoken(*code, message, database).unwrap_or_else(|| format!("the store refused the statement (code {code})")),
        ),
        _ => {
            tracing::debug!(%problem, "a statement was not answered");
            QueryError::of_store(class)
        }
    }
}

/// What the server says of a statement, without what it says of itself.
fn spoken(code: i32, message: &str, database: &str) -> Option<String> {
    let (_, said) = message.split_once("Exception: ")?;
    let said = said.rsplit_once(" (version ").map_or(said, |(said, _)| said);
    let said = said.split(" Maybe you meant").next()?.trim();
    if !SPOKEN.contains(&code) || OF_SERVER.iter().any(|words| said.contains(words)) {
        return None;
    }
    let said = said.replace(&format!("{database}."), "");
    let end = said.floor_char_boundary(MAX_SPOKEN);
    Some(format!("{} (code {code})", &said[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, message: &str) -> String {
        refused(&ClickHouseError::Server { code, message: message.to_owned() }, "views").to_string()
    }

    #[test]
    fn what_the_server_says_of_a_statement_is_told_and_what_it_says_of_itself_is_not() {
        let unknown = "Code: 47. DB::Exception: Unknown expression identifier `a` in scope SELECT a FROM views.events. Maybe you meant: ['b']. \
            (UNKNOWN_IDENTIFIER) (version 26.7.2.1)";
        assert_eq!(said(47, unknown), "invalid_sql: Unknown expression identifier `a` in scope SELECT a FROM events. (code 47)");
        for (code, message) in [
            (497, "Code: 497. DB::Exception: secret: Not enough privileges. (ACCESS_DENIED)"),
            (60, "Code: 60. DB::Exception: Unknown table. Maybe you meant secret.events?. (UNKNOWN_TABLE)"),
            (107, "Code: 107. DB::ErrnoException: Cannot open file /secret. (FILE_DOESNT_EXIST)"),
            (47, "Code: 47. DB::Exception: Received from secret:9000. Unknown."),
            (241, "Code: 241. DB::Exception: secret"),
            (159, "Code: 159. DB::Exception: secret"),
        ] {
            assert!(!said(code, message).contains("secret"), "{code}");
        }
    }

    #[test]
    fn a_request_names_its_statement_and_a_known_format() {
        let parse = |body: &str, weight: fn(&str) -> u16| RawQuestion::parse(RawRequest { body: body.as_bytes(), weight: &weight });
        let parsed = parse(r#"{"sql": "SELECT 1", "format": "arrow"}"#, |_| 1).unwrap();
        assert_eq!((parsed.sql.as_str(), parsed.output), ("SELECT 1", Output::Arrow));
        assert_eq!(parse(r#"{"sql": "SELECT 1"}"#, |_| 1).unwrap().output, Output::Json);
        assert_eq!(parse(r#"{"sql": "SELECT 1"}"#, |of| 1 + u16::from(of.starts_with("text/csv"))).unwrap().output, Output::Csv);
        let csv_alone = |of: &str| u16::from(of.starts_with("text/csv"));
        assert_eq!(parse(r#"{"sql": "SELECT 1"}"#, csv_alone).unwrap().output, Output::Csv);
        let other = parse(r#"{"sql": "SELECT 1", "format": "json"}"#, csv_alone);
        assert_eq!(other.unwrap_err().code, "not_acceptable");
        for (body, code) in [
            (r#"{}"#, "invalid_sql"),
            (r#"{"sql": 1}"#, "invalid_sql"),
            (r#"{"sql": "SELECT 1", "format": "xml"}"#, "invalid_format"),
            (r#"{"sql": "SELECT 1", "settings": {}}"#, "unknown_key"),
            (r#"{"sql": "DROP TABLE events"}"#, "sql_not_allowed"),
        ] {
            assert_eq!(parse(body, |_| 1).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn an_answer_of_the_server_becomes_one_of_a_question() {
        let body = br#"{"meta": [{"name": "a", "type": "UInt8"}], "data": [[1], [2]], "rows": 2, "statistics": {"elapsed": 1}}"#;
        let written: serde_json::Value = serde_json::from_slice(&written(body, json!({"rows_read": 7})).unwrap()).unwrap();
        let expected = json!({
            "result": {"columns": [{"name": "a", "type": "UInt8"}], "rows": [[1], [2]]},
            "meta": {"rows": 2, "rows_read": 7},
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn no_answer_has_states_of_aggregates_in_whatever_type() {
        for (of_column, is_refused) in
            [("UInt8", false), ("Array(AggregateFunction(sum, UInt64))", true), ("SimpleAggregateFunction(max, UInt8)", true)]
        {
            let body = json!({"meta": [{"name": "AggregateFunction", "type": of_column}], "data": [], "rows": 0}).to_string();
            assert_eq!(written(body.as_bytes(), json!({})).is_err(), is_refused, "{of_column}");
            let body = json!({"meta": [], "data": [["AggregateFunction", of_column, ""]], "rows": 1}).to_string();
            assert_eq!(refuse_states(described_types(body.as_bytes()).unwrap()).is_err(), is_refused, "{of_column}");
        }
    }

    #[test]
    fn however_deep_values_are_nested_they_are_passed_on() {
        let nested = format!("[{}1{}]", "[".repeat(300), "]".repeat(300));
        let body = format!(r#"{{"meta": [{{"name": "a", "type": "x"}}], "data": [{nested}], "rows": 1}}"#);
        let written = written(body.as_bytes(), json!({})).unwrap();
        assert!(String::from_utf8_lossy(&written).contains(&nested));
    }
}
