//! Single events, newest first, in pages that stay put while new events arrive.
//!
//! A page ends at its limit or at [`PAGE_BYTES`], whichever comes first, and `next` leads on: however large events are, a page is
//! not.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::error::QueryError;
use super::filter::{self, Filter};
use super::request::{self, Fields};
use super::run::{Row, Run, StatementRunner, number, to_json};
use super::sql::Statement;
use super::time::{Range, show_ms};
use crate::event::ids::ProjectId;

/// Bytes of a page, but for the event that reaches them.
const PAGE_BYTES: usize = 8 << 20;

/// A checked request.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Plan {
    project: ProjectId,
    pub(crate) range: Range,
    event: Option<String>,
    filters: Vec<Filter>,
    limit: u64,
    after: Option<Cursor>,
}

/// Place of `found` in a row.
const COLUMN_FOUND: usize = 14 + CONTEXT.len() + 2;

/// The last event of a page; the order is time, id, visitor, all falling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cursor {
    at_ms: i64,
    id: String,
    visitor: u64,
}

const COLUMNS: &str = "SELECT toUnixTimestamp64Milli(timestamp) AS at, event_id, visitor_id, type, \
    toUnixTimestamp64Milli(received_at), user_id, anonymous_id, multiIf(client_session_id != '', client_session_id, session_id = toUUID('00000000-0000-0000-0000-000000000000'), '', toString(session_id)), \
    strings, numbers, others, screen_width, screen_height, screen_density";

/// About what an event takes: its texts, and what else there is at least.
const SIZE: &str = ", 256 + byteSize(user_id, anonymous_id, strings, numbers, others, page_url, page_path, page_title, page_search, \
    referrer, click_id) AS size";
/// Behind the columns: the bytes of all events before it, and how many events were found.
const RUNNING: &str = "SELECT * FROM (SELECT *, sum(size) OVER (ORDER BY at DESC, event_id DESC, visitor_id DESC \
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before, count() OVER () AS found FROM (";

/// Where each text column goes in the context; they follow [`COLUMNS`] in this order.
const CONTEXT: [(&str, &str, &str); 32] = [
    (", app_name", "app", "name"),
    (", app_version", "app", "version"),
    (", app_build", "app", "build"),
    (", browser", "browser", "name"),
    (", browser_version", "browser", "version"),
    (", os", "os", "name"),
    (", os_version", "os", "version"),
    (", device_type", "device", "type"),
    (", device_model", "device", "model"),
    (", device_manufacturer", "device", "manufacturer"),
    (", page_url", "page", "url"),
    (", page_host", "page", "host"),
    (", page_path", "page", "path"),
    (", page_title", "page", "title"),
    (", page_search", "page", "search"),
    (", referrer", "page", "referrer"),
    (", campaign_source", "campaign", "source"),
    (", campaign_medium", "campaign", "medium"),
    (", campaign_name", "campaign", "name"),
    (", campaign_term", "campaign", "term"),
    (", campaign_content", "campaign", "content"),
    (", country", "geo", "country"),
    (", region", "geo", "region"),
    (", city", "geo", "city"),
    (", network", "geo", "network"),
    (", referrer_domain", "referrer", "domain"),
    (", channel", "referrer", "channel"),
    (", click_id_kind", "click", "kind"),
    (", click_id", "click", "id"),
    (", locale", "", "locale"),
    (", timezone", "", "timezone"),
    (", bot", "", "bot"),
];

impl Plan {
    /// Checks a request.
    pub(crate) fn parse(project: ProjectId, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["from", "to", "timezone", "event", "filters", "limit", "cursor"])?;
        let range = Range::parse_open(fields, now_ms)?;
        Ok(Self {
            project,
            range,
            event: fields.text("event", "invalid_event")?.map(str::to_owned),
            filters: filter::parse_all(fields)?,
            limit: fields.limit("limit", 100, 10_000)?,
            after: fields.text("cursor", "invalid_cursor")?.map(Cursor::parse).transpose()?,
        })
    }

    fn statement(&self) -> Statement {
        let to = Statement::default().sql(RUNNING).sql(COLUMNS);
        let to = CONTEXT.iter().fold(to, |to, (column, _, _)| to.sql(column)).sql(SIZE);
        let to = to.scope(&self.range.scope(self.project));
        let to = match &self.event {
            Some(event) => to.sql(" AND type = ").string(event),
            None => to,
        };
        let mut to = filter::and_all(to, &self.filters);
        if let Some(Cursor { at_ms, id, visitor }) = &self.after {
            to = to.sql(" AND timestamp <= fromUnixTimestamp64Milli(").int(*at_ms).sql(") AND (at < ").int(*at_ms);
            to = to.sql(" OR event_id < toUUID(").string(id).sql(") OR (event_id = toUUID(").string(id);
            to = to.sql(") AND visitor_id < ").uint(*visitor).sql("))");
        }
        let to = to.sql(" ORDER BY timestamp DESC, event_id DESC, visitor_id DESC LIMIT ").uint(self.limit + 1);
        let to = to.sql(")) WHERE before < ").uint(PAGE_BYTES as u64).sql(" ORDER BY at DESC, event_id DESC, visitor_id DESC LIMIT ");
        to.uint(self.limit)
    }
}

/// Events as they are written, one by one.
#[derive(Default)]
struct Page {
    json: Vec<u8>,
    events: u64,
    /// Events there are, those of this page included; at most one more than its limit.
    found: u64,
    next: Option<String>,
}

impl Page {
    fn add(&mut self, row: &Row) {
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
        self.found = row.uint(COLUMN_FOUND);
        self.next = Some(format!("{}.{}.{}", row.int(0), row.text(1), row.uint(2)));
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, runner: &mut StatementRunner<'_, R>) -> Result<Vec<u8>, QueryError> {
    let mut page = Page::default();
    runner.each(plan.statement(), |row| page.add(&row)).await?;
    let next = to_json(&page.next.filter(|_| page.found > page.events))?;
    Ok([&b"{\"events\":["[..], &page.json, b"],\"next\":", &next, b"}"].concat())
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, QueryError> {
        let read = || {
            let mut parts = text.splitn(3, '.');
            let at_ms = parts.next()?.parse().ok()?;
            let id = uuid::Uuid::try_parse(parts.next()?).ok()?.to_string();
            Some(Self { at_ms, id, visitor: parts.next()?.parse().ok()? })
        };
        let shown = request::shortened(text);
        read().ok_or_else(|| QueryError::invalid("invalid_cursor", format!("`{shown}` is not a cursor of an earlier answer")))
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
        let known = |column| Some(row.text(column)).filter(|text| !text.is_empty());
        Self {
            event_id: row.text(1),
            r#type: row.text(3),
            timestamp: show_ms(row.int(0)),
            received_at: show_ms(row.int(4)),
            user_id: known(5),
            anonymous_id: known(6),
            session_id: known(7),
            context: context(row),
            properties: properties(row),
        }
    }
}

fn properties(row: &Row) -> BTreeMap<&str, Box<RawValue>> {
    let mut properties = BTreeMap::new();
    for (column, read) in [(8, to_raw as fn(&Value) -> Box<RawValue>), (9, read_number), (10, read_json)] {
        if let Value::Object(map) = row.value(column) {
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
    for (index, (_, group, name)) in CONTEXT.iter().enumerate() {
        let text = row.text(14 + index);
        if text.is_empty() {
            continue;
        }
        if group.is_empty() {
            context.insert((*name).to_owned(), Value::from(text));
        } else if let Value::Object(object) = context.entry(*group).or_insert_with(|| json!({})) {
            object.insert((*name).to_owned(), Value::from(text));
        }
    }
    let (width, height) = (row.int(11), row.int(12));
    if width != 0 || height != 0 {
        let mut screen = json!({"width": width, "height": height});
        if let (Some(density), Value::Object(object)) = (row.float(13).filter(|density| *density != 0.0), &mut screen) {
            object.insert("density".to_owned(), number(density));
        }
        context.insert("screen".to_owned(), screen);
    }
    context
}
