//! Single events, newest first, in pages that stay put while new events arrive.
//!
//! A page ends at its limit or at [`PAGE_BYTES`], whichever comes first, and `next` leads on: however large events are, a page is
//! not.
//!
//! Cost: of events that are frequent enough to fill the page within a day a few thousand rows, however large the table is, for it is
//! looked first how far back the page reaches ([`LOOKS`]); of rarer ones the columns of the conditions in the whole range.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::{Ask, Report};
use crate::event::ids::VisitorKey;
use crate::query::ask::page::{self, Page};
use crate::query::ask::range::show_ms;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner, number, to_json};
use crate::store::revisions::SESSION_NAME;
use crate::store::schema::{SHOWN, Shown};

/// Bytes of a page, but for the event that reaches them.
const PAGE_BYTES: usize = 8 << 20;

/// Most events of a page.
pub(super) const MAX_PAGE: u64 = 10_000;
/// Where events for a page are looked for first: these times before its newest one, milliseconds.
const LOOKS: [i64; 3] = [60_000, 3_600_000, 86_400_000];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    range: Range,
    events: EventMatch,
    page: Page<Cursor>,
    /// What they must be beside, if anything.
    only: Option<Expr>,
    /// Where they are found, if that is known.
    found_at: Option<Expr>,
}

/// Where a single event is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventPlace<'a> {
    pub(crate) id: [u8; 16],
    pub(crate) visitor: VisitorKey,
    pub(crate) event_type: &'a str,
    pub(crate) at_ms: i64,
    /// Day of receipt of its block, since 1970.
    pub(crate) day: u16,
}

/// The last event of a page; the order is that of [`IN_ORDER`], then id and visitor, all falling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    at_ms: i64,
    epoch: u64,
    partition: u64,
    offset: i64,
    index: u64,
    id: String,
    visitor: u64,
}

/// The columns of a row, by name; the texts of [`SHOWN`] follow, then `size`, `before` and `found`.
const COLUMNS: [(&str, &str); 18] = [
    ("at", "toUnixTimestamp64Milli(timestamp) AS at"),
    ("event_id", "event_id"),
    ("visitor_id", "visitor_id"),
    ("type", "type"),
    ("received_at", "toUnixTimestamp64Milli(received_at) AS received"),
    ("user_id", "user_id"),
    ("anonymous_id", "anonymous_id"),
    ("session_id", SESSION_NAME),
    ("strings", "strings"),
    ("numbers", "numbers"),
    ("others", "others"),
    ("screen_width", "screen_width"),
    ("screen_height", "screen_height"),
    ("screen_density", "screen_density"),
    ("log_epoch", "log_epoch"),
    ("log_partition", "log_partition"),
    ("log_offset", "log_offset"),
    ("log_index", "log_index"),
];
pub(super) const AT: usize = column("at");
pub(super) const EVENT_ID: usize = column("event_id");
pub(super) const VISITOR_ID: usize = column("visitor_id");
const TYPE: usize = column("type");
pub(super) const RECEIVED_AT: usize = column("received_at");
const USER_ID: usize = column("user_id");
const ANONYMOUS_ID: usize = column("anonymous_id");
const SESSION_ID: usize = column("session_id");
const STRINGS: usize = column("strings");
const NUMBERS: usize = column("numbers");
const OTHERS: usize = column("others");
const SCREEN_WIDTH: usize = column("screen_width");
const SCREEN_HEIGHT: usize = column("screen_height");
const SCREEN_DENSITY: usize = column("screen_density");
const LOG_EPOCH: usize = column("log_epoch");
const LOG_PARTITION: usize = column("log_partition");
const LOG_OFFSET: usize = column("log_offset");
const LOG_INDEX: usize = column("log_index");
const FIRST_CONTEXT: usize = COLUMNS.len();
const FOUND: usize = FIRST_CONTEXT + SHOWN.len() + 2;

/// The place of a column in a row; a name that is not there does not compile.
const fn column(name: &str) -> usize {
    let mut place = 0;
    while !is_same(COLUMNS[place].0.as_bytes(), name.as_bytes()) {
        place += 1;
    }
    place
}

const fn is_same(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// About what an event takes: its texts, and what else there is at least.
const SIZE: &str = "256 + byteSize(user_id, anonymous_id, strings, numbers, others, page_url, page_path, page_title, page_search, \
    referrer, click_id) AS size";

/// The order of a list, and which sessions it names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// By columns of the table.
    pub(super) of_table: &'static str,
    /// The same by the names of [`COLUMNS`].
    pub(super) of_rows: &'static str,
    /// The session of an event, as a text, where that is not the one that reports know.
    pub(super) session: Option<&'static str>,
}

const NEWEST_FIRST: Order = Order {
    of_table: "timestamp DESC, log_epoch DESC, log_partition DESC, log_offset DESC, log_index DESC, event_id DESC, visitor_id DESC",
    of_rows: "at DESC, log_epoch DESC, log_partition DESC, log_offset DESC, log_index DESC, event_id DESC, visitor_id DESC",
    session: None,
};

impl page::Cursor for Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let cursor = Self {
            at_ms: parts.next()?.parse().ok()?,
            epoch: parts.next()?.parse().ok()?,
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
            id: uuid::Uuid::try_parse(parts.next()?).ok()?.to_string(),
            visitor: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }
}

impl Cursor {
    /// The condition that an event comes after it in the list.
    fn precedes(&self) -> Expr {
        let Self { at_ms, epoch, partition, offset, index, id, visitor } = self;
        let at_ms = Expr::int(*at_ms);
        // The first condition is one that the sort order of the table answers.
        let is_not_newer = Expr::from("timestamp <= ").then(Expr::call("fromUnixTimestamp64Milli", [at_ms.clone()]));
        let place = [Expr::uint(*epoch), Expr::uint(*partition), Expr::int(*offset), Expr::uint(*index)];
        let rest = [Expr::call("toUUID", [Expr::text(id)]), Expr::uint(*visitor)];
        let own = Expr::call("tuple", ["log_epoch", "log_partition", "log_offset", "log_index", "event_id", "visitor_id"].map(Expr::from));
        let comes_later = own.then(" < ").then(Expr::call("tuple", place.into_iter().chain(rest)));
        let comes_after = [Expr::from("at < ").then(at_ms), comes_later];
        Expr::all([is_not_newer, Expr::any(comes_after).grouped()])
    }
}

impl Canonical for Cursor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { at_ms, epoch, partition, offset, index, id, visitor } = self;
        to.field("at", at_ms).field("epoch", epoch).field("partition", partition).field("offset", offset).field("index", index);
        to.field("id", id).field("visitor", visitor);
    }
}

impl Canonical for Events {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, events, page, only: _, found_at: _ } = self;
        to.field("range", range).field("events", events).field("page", page);
    }
}

impl Report for Events {
    const NAME: &'static str = "events";
    const CHEAPER: &'static str = "a shorter range, or one `event`";
    /// A person who looks for the newest event wants to see it arrive.
    const IS_KEPT: bool = false;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "event", "filters", "limit", "cursor"])?;
        let range = Range::parse_open(fields, ask.now_ms)?;
        let events = EventMatch::parse(fields, ask.context)?;
        Ok(Self { range, events, page: Page::parse(fields, MAX_PAGE)?, only: None, found_at: None })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    /// None: a page costs the same however many events there are, and counting does not.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let mut written = Written::default();
        let statement = match self.reached(runner).await? {
            Some(range) => self.statement(runner.scope(&range)),
            None => self.statement(runner.scope(&self.range)),
        };
        let place = |row: &Row| {
            let [epoch, partition, index, visitor] =
                [LOG_EPOCH, LOG_PARTITION, LOG_INDEX, VISITOR_ID].map(|column| row.cell(column).uint());
            let [at_ms, offset] = [AT, LOG_OFFSET].map(|column| row.cell(column).int());
            format!("{at_ms}.{epoch}.{partition}.{offset}.{index}.{}.{visitor}", row.cell(EVENT_ID).text())
        };
        runner.each(statement.into(), |row| written.add(&row, place)).await?;
        let next = to_json(&written.last.as_ref().filter(|_| written.is_followed()))?;
        Ok([&b"{\"events\":["[..], &written.json, b"],\"next\":", &next, b"}"].concat())
    }
}

impl Events {
    /// Of these events those that meet `condition`, which are found at `found_at` if that is known; such a list is not kept.
    pub(crate) fn of(self, condition: Expr, found_at: Option<Expr>) -> Self {
        Self { only: Some(condition), found_at, ..self }
    }

    /// The range that they are of.
    pub(crate) fn range(&self) -> &Range {
        &self.range
    }

    /// The time of the last event of the page before, and how many events behind it the page takes, if it takes any of the range.
    pub(crate) fn newest(&self) -> (Option<i64>, Option<u64>) {
        let takes_any = self.events.event.is_none() && self.events.filters.is_empty();
        (self.page.after.as_ref().map(|after| after.at_ms), takes_any.then(|| self.page.rows()))
    }

    /// The event at a place: one row, in the parts of one day.
    pub(crate) fn at(place: EventPlace<'_>) -> Result<Self, QueryError> {
        let EventPlace { id, visitor, event_type, at_ms, day } = place;
        let range = Range::of(at_ms, at_ms.saturating_add(1), TimeZone::UTC)?;
        let events = EventMatch { event: Some(event_type.to_owned()), filters: Vec::new() };
        let id = Expr::call("toUUID", [Expr::text(uuid::Uuid::from_bytes(id).to_string())]);
        let of_day = Expr::from("received_day = toDate(").then(Expr::uint(day.into())).then(")");
        let is_it = Expr::all([of_day, Expr::from("event_id = ").then(id), Expr::from("visitor_id = ").then(Expr::uint(visitor.0))]);
        Ok(Self { range, events, page: Page { limit: 1, after: None }, only: Some(is_it), found_at: None })
    }

    /// The end of the range that has more events than the page shows, if a short one has: then they are all of the page.
    async fn reached(&self, runner: &mut StatementRunner<'_>) -> Result<Option<Range>, QueryError> {
        if self.found_at.is_some() {
            return Ok(None);
        }
        let newest_ms = self.page.after.as_ref().map_or(runner.now_ms(), |after| after.at_ms).min(self.range.until_ms);
        for look_ms in LOOKS {
            let from_ms = newest_ms.saturating_sub(look_ms);
            if from_ms <= self.range.from_ms || from_ms >= self.range.until_ms {
                return Ok(None);
            }
            let range = Range::of(from_ms, self.range.until_ms, self.range.zone.clone())?;
            let events = Select::default().column(COLUMNS[AT].1).from(self.selection(runner.scope(&range))).then(" LIMIT ");
            let found = Expr::from("SELECT count() FROM ").then(events.then(Expr::uint(self.page.rows())).enclosed());
            let found = runner.rows(found.into()).await?.first().map_or(0, |row| row.cell(0).uint());
            if found >= self.page.rows() {
                return Ok(Some(range));
            }
        }
        Ok(None)
    }

    fn selection(&self, scope: Scope) -> Selection {
        let events = self.events.select(scope);
        let events = self.found_at.iter().chain(&self.only).cloned().fold(events, Selection::and);
        match &self.page.after {
            Some(cursor) => events.and(cursor.precedes()),
            None => events,
        }
    }

    fn statement(&self, scope: Scope) -> Expr {
        listed(self.selection(scope), NEWEST_FIRST, self.page.rows(), self.page.limit)
    }
}

/// The first `limit` events of a selection in an order, in rows as [`Written`] takes them, but no more than a page may hold; of `rows`, as many or
/// more, each tells how many there are.
pub(super) fn listed(events: Selection, order: Order, rows: u64, limit: u64) -> Expr {
    let columns = COLUMNS.map(|(name, sql)| order.session.filter(|_| name == "session_id").unwrap_or(sql)).into_iter();
    let columns = columns.map(Expr::from).chain(SHOWN.iter().map(|column| Expr::from(column.name)));
    let columns = columns.fold(Select::default(), Select::column).column(SIZE);
    // Behind the columns: the bytes of all events before it, and how many events were found.
    Expr::from("SELECT * FROM (SELECT *, sum(size) OVER (ORDER BY ")
        .then(order.of_rows)
        .then(" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before, count() OVER () AS found FROM (")
        .then(columns.from(events))
        .then(" ORDER BY ")
        .then(order.of_table)
        .then(" LIMIT ")
        .then(Expr::uint(rows))
        .then(")) WHERE before < ")
        .then(Expr::uint(PAGE_BYTES as u64))
        .then(" ORDER BY ")
        .then(order.of_rows)
        .then(" LIMIT ")
        .then(Expr::uint(limit))
}

/// A page as it is written, event by event.
#[derive(Default)]
pub(super) struct Written {
    /// The events, with commas between them.
    pub(super) json: Vec<u8>,
    pub(super) events: u64,
    /// Events there are, those of this page included; at most one more than its limit.
    found: u64,
    /// The place of the last one.
    pub(super) last: Option<String>,
}

impl Written {
    /// Whether there are events behind those of the page.
    pub(super) fn is_followed(&self) -> bool {
        self.found > self.events
    }

    /// Adds an event, of which `place` is where it is in the list, unless the page is full.
    pub(super) fn add(&mut self, row: &Row, place: impl Fn(&Row) -> String) {
        if self.json.len() >= PAGE_BYTES {
            return;
        }
        let before = self.json.len();
        if self.events > 0 {
            self.json.push(b',');
        }
        if serde_json::to_writer(&mut self.json, &Event::of(row)).is_err() {
            // Not possible: it is made of texts and numbers.
            self.json.truncate(before);
            return;
        }
        self.events += 1;
        self.found = row.cell(FOUND).uint();
        self.last = Some(place(row));
    }
}

/// An event as the wire shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'r> {
    event_id: &'r str,
    r#type: &'r str,
    timestamp: String,
    received_at: String,
    user_id: Option<&'r str>,
    anonymous_id: Option<&'r str>,
    session_id: Option<&'r str>,
    context: Map<String, Value>,
    properties: BTreeMap<&'r str, Box<RawValue>>,
}

impl<'r> Event<'r> {
    fn of(row: &'r Row) -> Self {
        let known = |column| Some(row.cell(column).text()).filter(|text| !text.is_empty());
        Self {
            event_id: row.cell(EVENT_ID).text(),
            r#type: row.cell(TYPE).text(),
            timestamp: show_ms(row.cell(AT).int()),
            received_at: show_ms(row.cell(RECEIVED_AT).int()),
            user_id: known(USER_ID),
            anonymous_id: known(ANONYMOUS_ID),
            session_id: known(SESSION_ID),
            context: context(row),
            properties: properties(row),
        }
    }
}

fn properties(row: &Row) -> BTreeMap<&str, Box<RawValue>> {
    let mut properties = BTreeMap::new();
    for (column, read) in [(STRINGS, to_raw as fn(&Value) -> Box<RawValue>), (NUMBERS, read_number), (OTHERS, read_json)] {
        if let Value::Object(map) = row.cell(column).json() {
            properties.extend(map.iter().map(|(name, value)| (&**name, read(value))));
        }
    }
    properties
}

fn to_raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}

fn read_number(value: &Value) -> Box<RawValue> {
    to_raw(&value.as_f64().map_or(Value::Null, number))
}

/// JSON text as it is, so that numbers keep all their digits.
fn read_json(value: &Value) -> Box<RawValue> {
    value.as_str().and_then(|text| RawValue::from_string(text.to_owned()).ok()).unwrap_or_default()
}

fn context(row: &Row) -> Map<String, Value> {
    let mut context = Map::new();
    for (index, Shown { group, name }) in SHOWN.iter().filter_map(|column| column.shown).enumerate() {
        let text = row.cell(FIRST_CONTEXT + index).text();
        if text.is_empty() {
            continue;
        }
        if group.is_empty() {
            context.insert(name.to_owned(), Value::from(text));
        } else if let Value::Object(object) = context.entry(group).or_insert_with(|| json!({})) {
            object.insert(name.to_owned(), Value::from(text));
        }
    }
    let (width, height) = (row.cell(SCREEN_WIDTH).int(), row.cell(SCREEN_HEIGHT).int());
    if width != 0 || height != 0 {
        let mut screen = json!({"width": width, "height": height});
        if let (Some(density), Value::Object(object)) = (row.cell(SCREEN_DENSITY).float().filter(|density| *density != 0.0), &mut screen) {
            object.insert("density".to_owned(), number(density));
        }
        context.insert("screen".to_owned(), screen);
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_a_row_is_read_from_the_table() {
        let unread = COLUMNS.iter().filter(|(_, sql)| sql.is_empty());
        assert_eq!(unread.map(|(name, _)| *name).collect::<Vec<_>>(), [""; 0]);
    }
}
