//! All events of a project by receipt, the oldest first, to be taken elsewhere.
//!
//! **The promise**: who goes on from `next` is given every event of the range once, however many come meanwhile, and after a break of any
//! length. So a page ends where an event received earlier could still come: what was acknowledged before `data_through` is in the table, and
//! what was received before it and is not acknowledged yet comes to the log within `query.export_delay`.
//! An event is given as it is known when it is given: a session that is revised later, or a person, is not given again.
//! Events of bots are given too.
//!
//! Cost: a page looks in the columns of its order how far it reaches ([`LOOKS`]), then reads its rows in the time in which they happened.
//! May go wrong: it is not known up to when the table is complete (503).

use serde_json::json;

use super::events::{EVENT_ID, MAX_PAGE, Order, RECEIVED_AT, VISITOR_ID, Written, listed};
use super::{Ask, Report, Route};
use crate::query::ask::page::{self, Page};
use crate::query::ask::range::show_ms;
use crate::query::ask::selection::Traffic;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Fields, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner, to_json};

const ORDER: Order = Order { of_table: "received_at, event_id, visitor_id", of_rows: "received, event_id, visitor_id" };
/// How much of what was received is looked through for the events of a page, milliseconds; all of it where that is too little.
const LOOKS: [i64; 4] = [1_000, 60_000, 3_600_000, 86_400_000];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// Of receipt.
    range: Range,
    page: Page<Cursor>,
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
}

impl Canonical for Cursor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { received_ms, id, visitor } = self;
        to.field("received", received_ms).field("id", id).field("visitor", visitor);
    }
}

impl Canonical for Export {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, page } = self;
        to.field("range", range).field("page", page);
    }
}

impl Report for Export {
    const NAME: &'static str = "export";
    const ROUTE: Route = Route::Get("/v1/export");
    const IS_KEPT: bool = false;
    const NEEDS_DATA_THROUGH: bool = true;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "limit", "cursor"])?;
        Ok(Self { range: Range::parse_open(fields, ask.now_ms)?, page: Page::of_parameters(fields, MAX_PAGE)? })
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
        runner.look_at(Traffic::All);
        let unknown = || QueryError::unavailable("data_through_unknown", "it is not known up to when the events are complete: ask again");
        let through_ms = runner.settled_through_ms().ok_or_else(unknown)?;
        let until_ms = self.range.until_ms.min(through_ms);
        let mut written = Written::default();
        let until_ms = self.reached(until_ms, runner).await?;
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

fn time(at_ms: i64) -> Expr {
    Expr::call("fromUnixTimestamp64Milli", [Expr::int(at_ms)])
}

impl Export {
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
}
