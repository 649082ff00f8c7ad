//! Single events, newest first, in pages that stay put while new events arrive.

use serde_json::{Map, Value, json};

use super::error::QueryError;
use super::filter::{self, Filter};
use super::request::{self, Fields};
use super::run::{Row, Run, Session, number};
use super::sql::Statement;
use super::time::{Range, show_ms};
use crate::event::ids::ProjectId;

/// A checked request.
#[derive(Debug)]
pub(crate) struct Plan {
    project: ProjectId,
    pub(crate) range: Range,
    event: Option<String>,
    filters: Vec<Filter>,
    limit: u64,
    after: Option<Cursor>,
}

/// The last event of a page; the order is time, id, visitor, all falling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    at_ms: i64,
    id: String,
    visitor: u64,
}

const COLUMNS: &str = "SELECT toUnixTimestamp64Milli(timestamp) AS at, event_id, visitor_id, type, \
    toUnixTimestamp64Milli(received_at), user_id, anonymous_id, multiIf(client_session_id != '', client_session_id, session_id = toUUID('00000000-0000-0000-0000-000000000000'), '', toString(session_id)), \
    strings, numbers, others, screen_width, screen_height, screen_density";

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
        let to = CONTEXT.iter().fold(Statement::default().sql(COLUMNS), |to, (column, _, _)| to.sql(column));
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
        to.sql(" ORDER BY timestamp DESC, event_id DESC, visitor_id DESC LIMIT ").uint(self.limit + 1)
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, session: &mut Session<'_, R>) -> Result<Value, QueryError> {
    let mut rows = session.rows(plan.statement()).await?;
    let limit = usize::try_from(plan.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| format!("{}.{}.{}", row.int(0), row.text(1), row.uint(2)));
    Ok(json!({"events": rows.iter().map(event).collect::<Vec<_>>(), "next": next}))
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

fn event(row: &Row) -> Value {
    let known = |column| Some(row.text(column)).filter(|text| !text.is_empty());
    json!({
        "eventId": row.text(1),
        "type": row.text(3),
        "timestamp": show_ms(row.int(0)),
        "receivedAt": show_ms(row.int(4)),
        "userId": known(5),
        "anonymousId": known(6),
        "sessionId": known(7),
        "context": context(row),
        "properties": properties(row),
    })
}

fn properties(row: &Row) -> Map<String, Value> {
    let mut properties = Map::new();
    for (column, read) in [(8, Value::clone as fn(&Value) -> Value), (9, read_number), (10, read_json)] {
        if let Value::Object(map) = row.value(column) {
            properties.extend(map.iter().map(|(name, value)| (name.clone(), read(value))));
        }
    }
    properties
}

fn read_number(value: &Value) -> Value {
    value.as_f64().map_or(Value::Null, number)
}

fn read_json(value: &Value) -> Value {
    value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
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
