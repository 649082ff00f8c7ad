//! Umami: rows of `website_event`, as its export or its database gives them, as a table or as JSON.
//!
//! `session_id` is the visitor, who has another one each month, and `visit_id` the session. Times are of UTC. The properties of an event are
//! in a table of their own, `event_data`, a row each, and what was said of a visitor is in `session_data`.

use serde_json::{Map, Value as Json, json};

use super::attached::Row;
use super::words::as_live;
use super::{Attached, CAMPAIGN, Export, Record, Translation, properties, say, say_columns, say_place, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;

pub(super) struct Umami;

impl Export for Umami {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let mut event = Map::new();
        event.insert("timestamp".to_owned(), time_of(record.take("created_at"), times)?);
        event.insert("type".to_owned(), name(&mut record));
        for (name, column) in [("eventId", "event_id"), ("anonymousId", "session_id"), ("sessionId", "visit_id"), ("userId", "distinct_id")]
        {
            event.extend(record.take(column).map(|value| (name.to_owned(), value)));
        }
        page(&mut record, &mut event);
        let columns =
            [("browser", ["browser", "name"]), ("os", ["os", "name"]), ("device", ["device", "type"]), ("language", ["", "locale"])];
        say_columns(&mut event, &mut record, &columns);
        say_columns(&mut event, &mut record, &CAMPAIGN);
        let screen = record.take("screen");
        let side = |nth: usize| screen.as_ref()?.as_str()?.split('x').nth(nth)?.trim().parse::<u16>().ok().map(Json::from);
        say(&mut event, ["screen", "width"], side(0));
        say(&mut event, ["screen", "height"], side(1));
        let region = record.take("region").or_else(|| record.take("subdivision1"));
        say_place(&mut event, [record.take("country"), region, record.take("city")]);
        as_live(&mut event);
        let said = record.take_object(EVENTS)?;
        let kept = ["tag", "revenue", "currency"].into_iter().filter_map(|name| Some((name.to_owned(), record.take(name)?)));
        if let Some(properties) = properties(&mut event) {
            properties.extend(kept);
            properties.extend(said);
        }
        let traits = traits(&mut record, &event)?;
        Ok(Translation { event, traits })
    }

    fn columns(&self) -> &'static [&'static str] {
        &["event_id", "session_id", "created_at", "url_path"]
    }

    fn refuse(&self, columns: &[String]) -> Option<&'static str> {
        let is_data = ["data_key", "string_value"].iter().all(|name| columns.iter().any(|column| column == name));
        is_data.then_some("these are the data of events or sessions, not events: import the rows of `website_event` with them")
    }

    fn attached(&self) -> Option<&'static dyn Attached> {
        Some(&Tables)
    }

    fn has_events(&self, name: &str) -> bool {
        name.contains("website_event") || name.contains("website-event")
    }
}

/// What was said of the visitor of an event, if anything was.
fn traits(record: &mut Record, event: &Map<String, Json>) -> Result<Option<Map<String, Json>>, Malformed> {
    let said = record.take_object(SESSIONS)?;
    if said.is_empty() {
        return Ok(None);
    }
    let ids = ["anonymousId", "userId"].into_iter().filter_map(|name| Some((name.to_owned(), event.get(name)?.clone())));
    let mut identify: Map<String, Json> = ids.collect();
    identify.insert("type".to_owned(), "identify".into());
    identify.insert("properties".to_owned(), Json::Object(said));
    Ok(Some(identify))
}

const EVENTS: &str = "event_data";
const SESSIONS: &str = "session_data";

/// The tables of properties.
pub(super) struct Tables;

impl Attached for Tables {
    fn column(&self) -> &'static str {
        "data_key"
    }

    fn is_one(&self, name: &str) -> bool {
        [EVENTS, SESSIONS, "event-data", "session-data"].iter().any(|table| name.contains(table))
    }

    /// Rows of events name the visitor too, in exports of the cloud.
    fn row(&self, mut row: Record) -> Result<Row, Malformed> {
        let none = |message| Malformed::new("no_event", message);
        let text = |value: Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let event = row.take("website_event_id").or_else(|| row.take("event_id"));
        let session = row.take("session_id");
        let of_session = || session.map(|id| (SESSIONS, id));
        let (table, of) =
            event.map(|id| (EVENTS, id)).or_else(of_session).ok_or_else(|| none("neither an event nor a session is named"))?;
        let name = row.take("data_key").map(text).ok_or_else(|| none("`data_key` is empty"))?;
        Ok(Row { table, of: text(of), name, value: value(&mut row) })
    }

    fn tables(&self) -> &'static [(&'static str, &'static str)] {
        &[(EVENTS, "event_id"), (SESSIONS, "session_id")]
    }
}

/// What a row says: 2 is a number, 3 true or false, 5 an array; anything else, dates too, is the text that it is.
fn value(row: &mut Record) -> Json {
    let kind = row.take("data_type").map(|kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
    let said = row.take("string_value");
    let number = row.take("number_value");
    let text = said.as_ref().and_then(Json::as_str).unwrap_or_default();
    let read = match kind.as_deref() {
        Some("2") => number.as_ref().and_then(whole).or_else(|| whole(&Json::from(text))),
        Some("3") => text.parse::<bool>().ok().map(Json::from),
        Some("5") => serde_json::from_str(text).ok().filter(Json::is_array),
        _ => None,
    };
    read.or(said).or(number).or_else(|| row.take("date_value")).unwrap_or_default()
}

/// A number, which may be a text of one: `5.0000` is 5.
fn whole(number: &Json) -> Option<Json> {
    let value = number.as_f64().or_else(|| number.as_str()?.trim().parse().ok()).filter(|value| value.is_finite())?;
    let is_whole = value.fract() == 0.0 && value.abs() < 9e15;
    Some(if is_whole { Json::from(value as i64) } else { Json::from(value) })
}

/// What an event is called: 1 is a page, 2 an event with a name of its own.
fn name(record: &mut Record) -> Json {
    let kind = record.take("event_type").map(|kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
    match (record.take("event_name"), kind.as_deref()) {
        (Some(name), _) => name,
        (None, Some("3")) => json!("link"),
        (None, Some("4")) => json!("pixel"),
        (None, Some("2")) => json!("event"),
        (None, _) => json!("page"),
    }
}

/// The page: an address where the host is known, else its parts.
fn page(record: &mut Record, event: &mut Map<String, Json>) {
    let mut text = |name: &str| record.take(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let [host, path, query] = ["hostname", "url_path", "url_query"].map(&mut text);
    let query = if query.is_empty() || query.starts_with('?') { query } else { format!("?{query}") };
    if host.is_empty() {
        say(event, ["page", "path"], Some(json!(path)));
        say(event, ["page", "search"], Some(json!(query)));
    } else {
        say(event, ["page", "url"], Some(json!(format!("https://{host}{path}{query}"))));
    }
    say(event, ["page", "title"], Some(json!(text("page_title"))));
    let [host, path, query] = ["referrer_domain", "referrer_path", "referrer_query"].map(&mut text);
    let query = if query.is_empty() || query.starts_with('?') { query } else { format!("?{query}") };
    if !host.is_empty() {
        say(event, ["page", "referrer"], Some(json!(format!("https://{host}{path}{query}"))));
    }
}
