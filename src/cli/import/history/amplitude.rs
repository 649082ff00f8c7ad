//! Amplitude: the export API, a zip archive of compressed files with an event a line.
//!
//! Times name no zone and are of UTC. `user_properties` are all that was known of the user then. An event is known by its `uuid`,
//! unless its client gave it a UUID itself: that is the id of the same event where it was sent to pulse as well.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{Export, Record, Translation, no_event, properties, say, say_place, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::ingest::{Spoken, translate};

pub(super) struct Amplitude;

/// What is called in an export as it is sent.
const SAME: [&str; 14] = [
    "event_type",
    "user_id",
    "device_id",
    "session_id",
    "event_properties",
    "user_properties",
    "group_properties",
    "groups",
    "platform",
    "library",
    "price",
    "quantity",
    "revenue",
    "user_agent",
];

impl Export for Amplitude {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let is_web = record.text("platform") == Some("Web");
        let at = time_of(record.take("event_time").or_else(|| record.take("client_event_time")), times)?;
        let mut live = Map::from_iter([("time".to_owned(), at)]);
        let insert_id = record.take("$insert_id").or_else(|| record.take("insert_id"));
        let insert_id = insert_id.filter(|id| id.as_str().is_some_and(|id| Uuid::try_parse(id).is_ok()));
        let id = insert_id.or_else(|| record.take("uuid"));
        // Amplitude's own number for a user, where there is nothing else.
        if record.get("user_id").is_none() && record.get("device_id").is_none() {
            let number = record.take("amplitude_id");
            record.0.insert("device_id".to_owned(), number.unwrap_or_default());
        }
        let same = SAME.map(|name| (name, record.take(name).filter(|value| value != &json!({}))));
        let renamed = [
            ("insert_id", id),
            ("ip", record.take("ip_address")),
            ("app_version", record.take("version_name")),
            ("device_model", record.take("device_model").or_else(|| record.take("device_type")).filter(|_| !is_web)),
            ("device_manufacturer", record.take("device_manufacturer").or_else(|| record.take("device_brand"))),
        ];
        live.extend(same.into_iter().chain(renamed).filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let Translation { mut event, traits } = translate(Spoken::Amplitude, &live).map_err(no_event)?;
        let (os, version, family) = (record.take("os_name"), record.take("os_version"), record.take("device_family"));
        // Of a page Amplitude calls the browser its system, and the system its family of devices.
        let [name, number, system] = if is_web {
            [["browser", "name"], ["browser", "version"], ["os", "name"]]
        } else {
            [["os", "name"], ["os", "version"], ["", ""]]
        };
        for (place, value) in [(name, os), (number, version), (system, family)] {
            if place != ["", ""] {
                say(&mut event, place, value);
            }
        }
        language(&mut event, record.take("language"));
        say_place(&mut event, [record.take("country"), record.take("region"), record.take("city")]);
        Ok(Translation { event, traits })
    }

    fn has_events(&self, name: &str) -> bool {
        [".json", ".json.gz", ".jsonl", ".jsonl.gz"].iter().any(|ending| name.ends_with(ending))
    }
}

/// A language by its code is a locale; by its name in English it is none.
fn language(event: &mut Map<String, Json>, language: Option<Json>) {
    let Some(text) = language.as_ref().and_then(Json::as_str) else { return };
    let code = text.split(['-', '_']).next().unwrap_or_default();
    if (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase()) {
        say(event, ["", "locale"], Some(json!(text)));
    } else if let Some(kept) = properties(event) {
        kept.entry("language").or_insert_with(|| json!(text));
    }
}
