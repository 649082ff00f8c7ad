//! The columns of sessions: what is said of a session, which is one row made of its events.
//!
//! A session is computed when it is asked for, from the sessions that its events have now ([`SESSION`]): nothing of it is stored, so an event that
//! comes late changes it as if it had come in time. What is asked of the events of a range is right at its edges: the events around it
//! are read too, as far as the project's longest session goes. A session that the client named may be longer; of it only the events
//! that are read count. The first event is the first by time, then by place in the log, then by id.
//!
//! Cost: a statement that names a column of sessions reads the events of its range and of a longest session (a day, unless configured)
//! before and behind it once more, those columns only that are named, and holds a row for each session: 16 bytes and its values.
//! By the bench of questions sessions of thirty days by channel take 0.63 s over 5 million events, eight times a scan of type, person and
//! time. May go wrong: there are more sessions than the memory of a statement holds; then it is refused as too expensive. With the default
//! 1 GiB that is so of 50 million events of thirty days, where a week is answered.

use serde_json::Value;

use super::expr::Expr;
use super::fields::shortened;
use super::people_names::{OWN_ID, names_of_persons};
use crate::event::ids::ProjectId;
use crate::query::error::{QueryError, nearest};
use crate::store::revisions::{SESSION, SESSION_NAME};
use crate::store::schema::IN_ORDER_OF_VISITOR;

/// Types of events that are views of a page: of Segment's `page` call, of what analytics libraries call them, and of names in use.
const PAGE_TYPES: [&str; 8] = ["page", "page_view", "pageview", "$pageview", "page_viewed", "Page Viewed", "Viewed Page", "Page View"];

/// The condition that an event is a view of a page.
fn is_page() -> Expr {
    Expr::from("type").infix(" IN ", Expr::texts(PAGE_TYPES))
}

/// A session of one page is a bounce if it was shorter, milliseconds.
const BOUNCE_MS: i64 = 10_000;

/// Begins the names of the columns below in SQL, and no others: a statement that has it in its text needs the sessions.
pub(super) const PREFIX: &str = "of_session_";
/// The session itself.
pub(crate) const KEY: &str = "of_session_key";
/// The person of its first event.
pub(crate) const PERSON_KEY: &str = "of_session_person_key";
/// When it began and ended, milliseconds since 1970.
pub(crate) const START: &str = "of_session_start";
const END: &str = "of_session_end";
/// Its length in milliseconds, its events, and those that are views of a page.
const DURATION: &str = "of_session_duration_ms";
const EVENTS: &str = "of_session_events";
const PAGES: &str = "of_session_pages";
/// Whether it is a bounce.
const IS_BOUNCE: &str = "of_session_is_bounce";

/// What kind of value a column of sessions has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A text; empty is missing.
    Text,
    /// A number, which is always there.
    Number,
    /// A number of milliseconds since 1970.
    Time,
    /// A claim, which is always there.
    Claim,
}

/// What makes a column of the events of a session.
#[derive(Clone, Copy, Debug)]
enum Made {
    /// Its first event's value.
    First(&'static str),
    /// The person of its first event, and what that one is called.
    FirstPerson,
    NameOfPerson,
    /// The value of its first view of a page, or of its last.
    FirstPage(&'static str),
    LastPage(&'static str),
    /// What is the same in all of its events.
    Any(&'static str),
    /// How many views of pages it has.
    Pages,
    /// Whether it has a single event, or one view of a page and is short.
    IsBounce,
    /// An aggregate.
    By(&'static str),
}

/// A column of sessions.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// Behind `session.` in questions, and shorter.
    names: &'static [&'static str],
    /// In SQL.
    sql: &'static str,
    shape: Shape,
    made: Made,
}

const fn column(names: &'static [&'static str], sql: &'static str, shape: Shape, made: Made) -> Column {
    Column { names, sql, shape, made }
}

/// A column with the text that the first event has in the column of that name.
const fn first(names: &'static [&'static str; 1], sql: &'static str) -> Column {
    column(names, sql, Shape::Text, Made::First(names[0]))
}

/// Every column of sessions but [`KEY`].
const COLUMNS: [Column; 23] = [
    column(&["id"], "of_session_id", Shape::Text, Made::Any(SESSION_NAME)),
    column(&["visitor"], "of_session_visitor", Shape::Text, Made::First("if(anonymous_id != '', anonymous_id, user_id)")),
    column(&["person"], "of_session_person", Shape::Text, Made::NameOfPerson),
    column(&[], PERSON_KEY, Shape::Number, Made::FirstPerson),
    column(&["start"], START, Shape::Time, Made::By("toUnixTimestamp64Milli(min(timestamp))")),
    column(&["end"], END, Shape::Time, Made::By("toUnixTimestamp64Milli(max(timestamp))")),
    column(&["duration_ms", "duration"], DURATION, Shape::Number, Made::By(DURATION_OF)),
    column(&["events"], EVENTS, Shape::Number, Made::By("toInt64(count())")),
    column(&["pages"], PAGES, Shape::Number, Made::Pages),
    column(&["entry_page"], "of_session_entry_page", Shape::Text, Made::FirstPage("page_path")),
    column(&["exit_page"], "of_session_exit_page", Shape::Text, Made::LastPage("page_path")),
    column(&["is_bounce", "bounce"], IS_BOUNCE, Shape::Claim, Made::IsBounce),
    first(&["channel"], "of_session_channel"),
    first(&["campaign_source"], "of_session_campaign_source"),
    first(&["campaign_medium"], "of_session_campaign_medium"),
    first(&["campaign_name"], "of_session_campaign_name"),
    first(&["campaign_term"], "of_session_campaign_term"),
    first(&["campaign_content"], "of_session_campaign_content"),
    first(&["referrer_domain"], "of_session_referrer_domain"),
    first(&["country"], "of_session_country"),
    first(&["device_type"], "of_session_device_type"),
    first(&["browser"], "of_session_browser"),
    first(&["os"], "of_session_os"),
];

const DURATION_OF: &str = "toUnixTimestamp64Milli(max(timestamp)) - toUnixTimestamp64Milli(min(timestamp))";

impl Column {
    /// Its value, of the events of one session.
    fn value(self, project: ProjectId, person: &'static str) -> Expr {
        let of = |function, value, more: Expr| Expr::call(function, [Expr::from(value), Expr::from(IN_ORDER_OF_VISITOR).then(more)]);
        match self.made {
            Made::First(value) => of("argMin", value, Expr::default()),
            Made::FirstPerson => of("argMin", person, Expr::default()),
            Made::NameOfPerson => {
                let names =
                    Expr::from("SELECT groupArray((key, name)) FROM ").then(names_of_persons(project, person).enclosed()).enclosed();
                let keys = Expr::call("tupleElement", [names.then(" AS person_names"), "1".into()]);
                let own = of("argMin", OWN_ID, Expr::default());
                Expr::call("transform", [of("argMin", person, Expr::default()), keys, "tupleElement(person_names, 2)".into(), own])
            }
            Made::FirstPage(value) => of("argMinIf", value, Expr::from(", ").then(is_page())),
            Made::LastPage(value) => of("argMaxIf", value, Expr::from(", ").then(is_page())),
            Made::Any(value) => Expr::call("any", [value.into()]),
            Made::Pages => Expr::call("toInt64", [Expr::call("countIf", [is_page()])]),
            Made::IsBounce => {
                let is_short = Expr::from(DURATION_OF).infix(" < ", Expr::int(BOUNCE_MS));
                let is_one_page = Expr::call("countIf", [is_page()]).then(" = 1");
                Expr::any(["count() = 1".into(), Expr::all([is_one_page, is_short])])
            }
            Made::By(aggregate) => aggregate.into(),
        }
    }
}

/// `SELECT` of a session's key and of the columns that `wanted` names, of events of which `person` is the person.
pub(super) fn select(wanted: &Expr, project: ProjectId, person: &'static str) -> Expr {
    let start = Expr::from("SELECT ").then(SESSION).then(" AS ").then(KEY);
    let wanted = COLUMNS.iter().filter(|column| wanted.mentions(column.sql));
    wanted.fold(start, |columns, column| columns.then(", ").then(column.value(project, person)).then(" AS ").then(column.sql))
}

/// What follows on the events of [`select`].
pub(super) const GROUPED: &str = " GROUP BY of_session_key";

/// The columns of a session that is shown, in order: name, SQL, shape.
pub(crate) fn shown() -> impl Iterator<Item = (&'static str, &'static str, Shape)> {
    COLUMNS.iter().filter_map(|column| Some((*column.names.first()?, column.sql, column.shape)))
}

/// What questions call `session.NAME`, and its shape.
///
/// # Errors
/// 400 `invalid_field`, naming the nearest.
pub(super) fn named(name: &str) -> Result<(&'static str, Shape), QueryError> {
    let known = || COLUMNS.iter().flat_map(|column| column.names.iter().map(move |name| (*name, column)));
    match known().find(|(known, _)| *known == name) {
        Some((_, column)) => Ok((column.sql, column.shape)),
        None => {
            let (hint, name) = (nearest(name, known().map(|(known, _)| known)), shortened(name));
            Err(QueryError::invalid("invalid_field", format!("unknown field `session.{name}`, did you mean `session.{hint}`?")))
        }
    }
}

/// The field that a text of a request names, if it names one: as a math it stands behind `unique:`.
pub(super) fn named_field(text: &str) -> &str {
    text.strip_prefix("unique:").unwrap_or(text)
}

/// Whether a request asks for columns of sessions: then events around its ranges matter too.
pub(crate) fn are_named_in(request: &Value) -> bool {
    match request {
        Value::String(text) => named_field(text).starts_with("session."),
        Value::Array(values) => values.iter().any(are_named_in),
        Value::Object(members) => members.values().any(are_named_in),
        _ => false,
    }
}

/// The columns that can be named, each with its kind.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let kind = |shape| match shape {
        Shape::Text => "string",
        Shape::Number => "number",
        Shape::Time => "time",
        Shape::Claim => "boolean",
    };
    COLUMNS.iter().filter_map(move |column| Some((*column.names.first()?, kind(column.shape))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_prefix_and_names_of_their_own() {
        let mut names: Vec<&str> = COLUMNS.iter().flat_map(|column| column.names.iter().copied()).collect();
        let (all, mut sql) = (names.len(), COLUMNS.map(|column| column.sql).to_vec());
        names.sort_unstable();
        names.dedup();
        sql.sort_unstable();
        sql.dedup();
        assert_eq!((names.len(), sql.len()), (all, COLUMNS.len()));
        assert!(sql.iter().all(|sql| sql.starts_with(PREFIX)) && KEY.starts_with(PREFIX));
    }

    #[test]
    fn only_what_is_wanted_is_read() {
        let wanted = select(&Expr::from("of_session_pages > 1 AND of_session_os = ''"), ProjectId(7), "person_id");
        assert!(wanted.mentions("countIf") && wanted.mentions("of_session_os"));
        assert!(!wanted.mentions("page_path") && !wanted.mentions("of_session_channel"));
    }
}
