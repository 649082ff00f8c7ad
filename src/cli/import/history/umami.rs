//! Umami: rows of `website_event`, as its export or its database gives them, as a table or as JSON.
//!
//! `session_id` is the visitor, who has another one each month, and `visit_id` the session. Times are of UTC. What belongs to an event in
//! `event_data` is in another table, and none of its rows is an event.

use serde_json::{Map, Value as Json, json};

use super::{CAMPAIGN, Export, Record, Translation, properties, say, say_columns, say_place, time_of};
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
        let kept = ["tag", "revenue", "currency"].into_iter().filter_map(|name| Some((name.to_owned(), record.take(name)?)));
        if let Some(properties) = properties(&mut event) {
            properties.extend(kept);
        }
        Ok(Translation { event, traits: None })
    }

    fn columns(&self) -> &'static [&'static str] {
        &["event_id", "session_id", "created_at", "url_path"]
    }

    fn refuse(&self, columns: &[String]) -> Option<&'static str> {
        let is_data = ["data_key", "string_value"].iter().all(|name| columns.iter().any(|column| column == name));
        is_data.then_some("these are the data of events or sessions, not events: import the rows of `website_event`")
    }

    fn has_events(&self, name: &str) -> bool {
        name.contains("website_event") || name.contains("website-event")
    }
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
