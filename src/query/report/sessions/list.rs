//! Single sessions, newest first.

use serde_json::{Map, Value, json};

use crate::query::ask::page::{self, Page};
use crate::query::ask::session_columns::{self, KEY, START, Shape};
use crate::query::ask::sessions::SessionSelection;
use crate::query::ask::{Canonical, CanonicalForm, Expr, Fields, Select};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner, to_json};

/// Most sessions of a page.
const MAX_PAGE: u64 = 1_000;

/// Whether a request asks for the list.
///
/// # Errors
/// 400 `invalid_list`.
pub(super) fn is_asked_for(body: &Value) -> Result<bool, QueryError> {
    match body.get("list") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_list)) => Ok(*is_list),
        Some(_) => Err(QueryError::invalid("invalid_list", "`list` must be true or false")),
    }
}

/// A page of sessions.
#[derive(Clone, Debug)]
pub(super) struct List {
    page: Page<Cursor>,
}

/// The last session of a page: when it began, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    start_ms: i64,
    key: String,
}

impl page::Cursor for Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (start_ms, key) = text.split_once('.')?;
        Some(Self { start_ms: start_ms.parse().ok()?, key: uuid::Uuid::try_parse(key).ok()?.to_string() })
    }
}

impl Canonical for Cursor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { start_ms, key } = self;
        to.field("start", start_ms).field("key", key);
    }
}

impl Canonical for List {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { page } = self;
        to.field("page", page);
    }
}

impl Cursor {
    /// The condition that a session comes after it in the list.
    fn precedes(&self) -> Expr {
        let (start, key) = (Expr::int(self.start_ms), Expr::call("toUUID", [Expr::text(&self.key)]));
        let same_start = Expr::all([Expr::from(START).infix(" = ", start.clone()), Expr::from(KEY).infix(" < ", key)]);
        Expr::any([Expr::from(START).infix(" < ", start), same_start]).grouped()
    }
}

impl List {
    pub(super) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        Ok(Self { page: Page::parse(fields, MAX_PAGE)? })
    }

    /// The page as JSON.
    pub(super) async fn answer(&self, runner: &mut StatementRunner<'_>, sessions: SessionSelection) -> Result<Vec<u8>, QueryError> {
        let mut rows = runner.rows(self.statement(sessions).into()).await?;
        let next = self.page.cut(&mut rows).map(|last| format!("{}.{}", last.cell(1).int(), last.cell(0).text()));
        to_json(&json!({"sessions": rows.iter().map(session).collect::<Vec<_>>(), "next": next}))
    }

    /// Key and start, then what is shown.
    fn statement(&self, sessions: SessionSelection) -> Expr {
        let sessions = match &self.page.after {
            Some(cursor) => sessions.and(cursor.precedes()),
            None => sessions,
        };
        let columns = Select::default().column(KEY).column(START);
        let columns = session_columns::shown().fold(columns, |columns, (_, sql, _)| columns.column(sql));
        let newest = " ORDER BY of_session_start DESC, of_session_key DESC LIMIT ";
        sessions.select(columns).then(newest).then(Expr::uint(self.page.rows()))
    }
}

/// A session as the wire shows it.
fn session(row: &Row) -> Value {
    let value = |at: usize, shape: Shape| match shape {
        Shape::Text => Some(row.cell(at).text()).filter(|text| !text.is_empty()).map_or(Value::Null, Value::from),
        Shape::Number => Value::from(row.cell(at).int()),
        Shape::Time => Value::from(crate::query::ask::range::show_ms(row.cell(at).int())),
        Shape::Claim => Value::from(row.cell(at).uint() == 1),
    };
    let members = session_columns::shown().enumerate().map(|(at, (name, _, shape))| (name.to_owned(), value(2 + at, shape)));
    Value::Object(members.collect::<Map<_, _>>())
}
