//! All events of a project by receipt, the oldest first, to be taken elsewhere.
//!
//! **The promise**: who goes on from `next` is given every event of the range once, however many come meanwhile, and after a break of any
//! length. So a page ends where an event received earlier could still come: what was acknowledged before `data_through` is in the table, and
//! what was received before it and is not acknowledged yet comes to the log within `query.export_delay`.
//! An event is given as it is known when it is given: a person that is revised later is not given again. Lines and JSON name the sessions that
//! clients have named alone: those of pulse follow from the events, and would stand still where they are imported.
//! Events of bots are given too.
//!
//! A page is JSON, or a file: the same events as lines of JSON, or the columns that `POST /v1/query/sql` shows of them as CSV, Parquet or Arrow.
//!
//! Cost: a page looks in the columns of its order how far it reaches ([`LOOKS`]), then reads its rows in the time in which they happened; a file
//! of columns reads all of them once before, to see how many events have room.
//! May go wrong: it is not known up to when the table is complete (503).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::events::{EVENT_ID, MAX_PAGE, Order, RECEIVED_AT, VISITOR_ID, Written, listed};
use super::{Ask, Report, Route};
use crate::query::ask::page::{self, Page};
use crate::query::ask::range::show_ms;
use crate::query::ask::selection::Traffic;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Fields, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::output::Output;
use crate::query::reader::{Row, StatementRunner, to_json};
use crate::store::sql_views;

const ORDER: Order =
    Order { of_table: "received_at, event_id, visitor_id", of_rows: "received, event_id, visitor_id", session: Some("client_session_id") };
/// How much of what was received is looked through for the events of a page, milliseconds; all of it where that is too little.
const LOOKS: [i64; 4] = [1_000, 60_000, 3_600_000, 86_400_000];

/// Most events of a file of columns, and bytes of it, but for the event that reaches them: an answer of the store has 32 MiB.
const MAX_FILE: u64 = 100_000;
const FILE_BYTES: u64 = 24 << 20;
/// Bytes of CSV for a byte of a column, at most: a number of eight bytes has 24 digits, a quote is written twice.
const CSV_BYTES: u64 = 3;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageFormat {
    Json,
    Lines,
    Columns(Output),
}

const LINES: &str = "application/x-ndjson";
/// The types that a page may have.
pub(crate) const CONTENT_TYPES: [&str; 5] =
    [Output::Json.content_type(), LINES, Output::Csv.content_type(), Output::Parquet.content_type(), Output::Arrow.content_type()];

impl PageFormat {
    fn parse(name: Option<&str>) -> Result<Self, QueryError> {
        match name {
            None => Ok(Self::Json),
            Some("ndjson") => Ok(Self::Lines),
            Some(name) => Ok(match Output::named(name, &["ndjson"])? {
                Output::Json => Self::Json,
                output => Self::Columns(output),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Lines => "ndjson",
            Self::Columns(output) => output.of_server(),
        }
    }

    fn most(self) -> u64 {
        match self {
            Self::Json | Self::Lines => MAX_PAGE,
            Self::Columns(_) => MAX_FILE,
        }
    }
}

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// Of receipt.
    range: Range,
    page: Page<Cursor>,
    format: PageFormat,
}

/// A page as a file.
#[derive(Debug)]
pub(crate) struct ExportFile {
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) events: u64,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
    /// Whether nothing is left of what was received before `through`.
    pub(crate) is_complete: bool,
    pub(crate) through: String,
}

/// A page of JSON, as far as lines are made of it.
#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    next: Option<String>,
    complete: bool,
    through: String,
}

/// The last event of a page: receipt, id and visitor, all rising.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    received_ms: i64,
    id: String,
    visitor: u64,
}

impl page::Cursor for Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let received_ms = parts.next()?.parse().ok()?;
        let id = uuid::Uuid::try_parse(parts.next()?).ok()?.to_string();
        Some(Self { received_ms, id, visitor: parts.next()?.parse().ok()? })
    }
}

impl Cursor {
    /// The place of an event.
    fn of(row: &Row) -> String {
        format!("{}.{}.{}", row.cell(RECEIVED_AT).int(), row.cell(EVENT_ID).text(), row.cell(VISITOR_ID).uint())
    }

    fn shown(&self) -> String {
        format!("{}.{}.{}", self.received_ms, self.id, self.visitor)
    }

    /// The condition that an event comes after it.
    fn precedes(&self) -> Expr {
        let id = Expr::call("toUUID", [Expr::text(&self.id)]);
        let same_id = Expr::all([Expr::from("event_id = ").then(id.clone()), Expr::from("visitor_id > ").then(Expr::uint(self.visitor))]);
        let later = Expr::from("received_at > ").then(time(self.received_ms));
        Expr::any([later, Expr::from("event_id > ").then(id), same_id.grouped()]).grouped()
    }

    /// The condition that an event is it or comes before it.
    fn reaches(&self) -> Expr {
        let id = Expr::call("toUUID", [Expr::text(&self.id)]);
        let same_id = Expr::all([Expr::from("event_id = ").then(id.clone()), Expr::from("visitor_id <= ").then(Expr::uint(self.visitor))]);
        let earlier = Expr::from("received_at < ").then(time(self.received_ms));
        let comes_before = Expr::any([earlier, Expr::from("event_id < ").then(id), same_id.grouped()]).grouped();
        Expr::all([Expr::from("received_at <= ").then(time(self.received_ms)), comes_before]).grouped()
    }
}

impl Canonical for Cursor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { received_ms, id, visitor } = self;
        to.field("received", received_ms).field("id", id).field("visitor", visitor);
    }
}

impl Canonical for Export {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, page, format } = self;
        to.field("range", range).field("page", page).field("format", format.name());
    }
}

impl Report for Export {
    const NAME: &'static str = "export";
    const ROUTE: Route = Route::Get("/v1/export");
    const IS_KEPT: bool = false;
    const NEEDS_DATA_THROUGH: bool = true;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "limit", "cursor", "format"])?;
        let format = PageFormat::parse(fields.text("format", "invalid_format")?)?;
        Ok(Self { range: Range::parse_open(fields, ask.now_ms)?, page: Page::of_parameters(fields, format.most())?, format })
    }

    /// None: it is about receipt, and never kept.
    fn ranges(&self) -> Vec<&Range> {
        Vec::new()
    }

    /// None: it counts nothing.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let through_ms = through_ms(runner)?;
        let mut written = Written::default();
        let until_ms = self.reached(self.range.until_ms.min(through_ms), runner).await?;
        if let Some(happened) = self.happened(until_ms, runner).await? {
            let events = self.selection(runner.scope(&happened), until_ms);
            runner.each(listed(events, ORDER, self.page.rows(), self.page.limit).into(), |row| written.add(&row, Cursor::of)).await?;
        }
        let next = written.last.clone().or_else(|| self.page.after.as_ref().map(Cursor::shown));
        let rest = json!({"next": next, "complete": !written.is_followed(), "through": show_ms(through_ms)});
        let rest = to_json(&rest)?;
        Ok([&b"{\"events\":["[..], &written.json, b"],", rest.get(1..).unwrap_or_default()].concat())
    }
}

/// Before when everything received is in the table, for events of all.
fn through_ms(runner: &mut StatementRunner<'_>) -> Result<i64, QueryError> {
    runner.look_at(Traffic::All);
    let unknown = || QueryError::unavailable("data_through_unknown", "it is not known up to when the events are complete: ask again");
    runner.settled_through_ms().ok_or_else(unknown)
}

fn time(at_ms: i64) -> Expr {
    Expr::call("fromUnixTimestamp64Milli", [Expr::int(at_ms)])
}

impl Export {
    /// Whether its page is a file.
    pub(crate) fn is_file(&self) -> bool {
        self.format != PageFormat::Json
    }

    /// The page as a file.
    ///
    /// # Errors
    /// As those of the page.
    pub(crate) async fn file(&self, runner: &mut StatementRunner<'_>) -> Result<ExportFile, QueryError> {
        let PageFormat::Columns(output) = self.format else {
            return lines(&self.answer(runner).await?);
        };
        let through_ms = through_ms(runner)?;
        let until_ms = self.reached(self.range.until_ms.min(through_ms), runner).await?;
        let columns = sql_views::columns().map(Expr::from).fold(Select::default(), Select::column);
        let (last, [number, found], statement) = match self.happened(until_ms, runner).await? {
            Some(happened) => {
                let events = self.selection(runner.scope(&happened), until_ms);
                let bytes = if output == Output::Csv { FILE_BYTES / CSV_BYTES } else { FILE_BYTES };
                let (last, [number, found]) = self.last(events.clone(), bytes, runner).await?;
                let events = columns.from(events.and(last.reaches())).then(" ORDER BY ").then(ORDER.of_table);
                (Some(last.shown()), [number, found], events)
            }
            // A file all the same, which says what columns there are.
            None => (None, [0; 2], columns.from(self.selection(runner.scope(&Range::everything()), until_ms)).then(" LIMIT 0")),
        };
        let body = output.safe(runner.file(statement.into(), output.of_server()).await?);
        let next = last.or_else(|| self.page.after.as_ref().map(Cursor::shown));
        let (is_complete, through) = (found <= number, show_ms(through_ms));
        Ok(ExportFile { content_type: output.content_type(), body, events: number, next, is_complete, through })
    }

    /// The last of `events` that a file of so many bytes takes, its number, and how many there are, at most one more than the page has. There
    /// must be some.
    async fn last(&self, events: Selection, bytes: u64, runner: &mut StatementRunner<'_>) -> Result<(Cursor, [u64; 2]), QueryError> {
        let keys = ["toUnixTimestamp64Milli(received_at) AS received", "event_id", "visitor_id"].map(Expr::from);
        // All that is written counts: who sends events chooses in which columns they are long.
        let size = Expr::call("byteSize", sql_views::columns().map(Expr::from)).then(" AS size");
        let keys = keys.into_iter().chain([size]).fold(Select::default(), Select::column).from(events);
        let keys = keys.then(" ORDER BY ").then(ORDER.of_table).then(" LIMIT ").then(Expr::uint(self.page.rows()));
        let last = Expr::from("SELECT received, event_id, visitor_id, number, found FROM (SELECT received, event_id, visitor_id, row_number() OVER (ORDER BY ")
            .then(ORDER.of_rows)
            .then(") AS number, sum(size) OVER (ORDER BY ")
            .then(ORDER.of_rows)
            .then(" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before, count() OVER () AS found FROM (")
            .then(keys)
            .then(")) WHERE before < ")
            .then(Expr::uint(bytes))
            .then(" AND number <= ")
            .then(Expr::uint(self.page.limit))
            .then(" ORDER BY number DESC LIMIT 1");
        let last = runner.rows(last.into()).await?;
        let row = last.first().ok_or_else(|| QueryError::internal("events of an export were gone as they were to be written"))?;
        let [received, id, visitor, number, found] = row.columns();
        let cursor = Cursor { received_ms: received.int(), id: id.text().to_owned(), visitor: visitor.uint() };
        Ok((cursor, [number, found].map(|cell| cell.uint())))
    }

    /// Its events that were received before `until_ms`.
    fn selection(&self, scope: Scope, until_ms: i64) -> Selection {
        let after = self.page.after.as_ref();
        let from_ms = after.map_or(self.range.from_ms, |after| after.received_ms.max(self.range.from_ms));
        let events = Selection::of(scope).and(Expr::from("received_at >= ").then(time(from_ms)));
        let events = events.and(Expr::from("received_at < ").then(time(until_ms)));
        match after {
            Some(cursor) => events.and(cursor.precedes()),
            None => events,
        }
    }

    /// The end of the shortest look, at most `until_ms`, that has more events than the page shows.
    async fn reached(&self, until_ms: i64, runner: &mut StatementRunner<'_>) -> Result<i64, QueryError> {
        let from_ms = match &self.page.after {
            Some(after) => after.received_ms,
            None => self.first(until_ms, runner).await?,
        };
        for end_ms in LOOKS.map(|look_ms| from_ms.saturating_add(look_ms)) {
            if end_ms >= until_ms {
                break;
            }
            let events = self.selection(runner.scope(&Range::everything()), end_ms);
            let events = Select::default().column("event_id").from(events).then(" LIMIT ").then(Expr::uint(self.page.rows()));
            let found = runner.rows(Expr::from("SELECT count() FROM ").then(events.enclosed()).into()).await?;
            if found.first().map_or(0, |row| row.cell(0).uint()) >= self.page.rows() {
                return Ok(end_ms);
            }
        }
        Ok(until_ms)
    }

    /// When the first of all events was received.
    async fn first(&self, until_ms: i64, runner: &mut StatementRunner<'_>) -> Result<i64, QueryError> {
        let events = self.selection(runner.scope(&Range::everything()), until_ms);
        let first = Select::default().column("toUnixTimestamp64Milli(min(received_at))").from(events);
        Ok(runner.rows(first.into()).await?.first().map_or(0, |row| row.cell(0).int()))
    }

    /// The time in which the events of the page happened; none without any.
    async fn happened(&self, until_ms: i64, runner: &mut StatementRunner<'_>) -> Result<Option<Range>, QueryError> {
        let events = self.selection(runner.scope(&Range::everything()), until_ms);
        let events = Select::default().column("timestamp").from(events).then(" ORDER BY ").then(ORDER.of_table);
        let events = events.then(" LIMIT ").then(Expr::uint(self.page.rows())).enclosed();
        let bounds = "SELECT toUnixTimestamp64Milli(min(timestamp)), toUnixTimestamp64Milli(max(timestamp)), count() FROM ";
        let bounds = runner.rows(Expr::from(bounds).then(events).into()).await?;
        let [first_ms, last_ms, events] = bounds.first().map_or([0; 3], |row| row.columns::<3>().map(|cell| cell.int()));
        if events == 0 {
            return Ok(None);
        }
        Ok(Some(Range::of(first_ms, last_ms.saturating_add(1), jiff::tz::TimeZone::UTC)?))
    }
}

/// A page of JSON as a file of its events, a line each.
fn lines(page: &[u8]) -> Result<ExportFile, QueryError> {
    let unreadable = |_| QueryError::internal("a page of an export cannot be read");
    let Listed { events, next, complete, through } = serde_json::from_slice(page).map_err(unreadable)?;
    let body: String = events.iter().flat_map(|event| [event.get(), "\n"]).collect();
    Ok(ExportFile { content_type: LINES, body: body.into(), events: events.len() as u64, next, is_complete: complete, through })
}

#[cfg(test)]
mod tests {
    use super::page::Cursor as _;
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_shown() {
        let shown = "1767225600000.00000000-0000-4000-8000-000000000001.18446744073709551615";
        assert_eq!(Cursor::parse(shown).unwrap().shown(), shown);
        for no in ["", "1", "1.2.3", "x.00000000-0000-4000-8000-000000000001.1", "1.00000000-0000-4000-8000-000000000001.-1"] {
            assert_eq!(Cursor::parse(no), None, "{no}");
        }
    }

    #[test]
    fn a_page_of_json_becomes_lines() {
        let page = br#"{"events":[{"a":1},{"b":"\n"}],"next":"1","complete":false,"through":"2026-01-01T00:00:00Z"}"#;
        let file = lines(page).unwrap();
        assert_eq!((&file.body[..], file.next.as_deref(), file.is_complete), (&b"{\"a\":1}\n{\"b\":\"\\n\"}\n"[..], Some("1"), false));
        assert_eq!(&lines(br#"{"events":[],"next":null,"complete":true,"through":""}"#).unwrap().body[..], b"");
    }

    #[test]
    fn a_page_is_of_a_known_format() {
        assert_eq!(PageFormat::parse(Some("parquet")).unwrap(), PageFormat::Columns(Output::Parquet));
        assert_eq!([PageFormat::parse(None).unwrap(), PageFormat::parse(Some("json")).unwrap()], [PageFormat::Json; 2]);
        assert_eq!(PageFormat::parse(Some("xml")).unwrap_err().code, "invalid_format");
    }
}
