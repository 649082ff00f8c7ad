//! Mixpanel: the raw export API, an event a line.
//!
//! `time` counts seconds (milliseconds with `time_in_ms`). In projects made before 2023 it shows the clocks of the project as if they
//! were of UTC: `--timezone` says which. Mixpanel knows an event by name, time, user and `$insert_id`, not by the last alone.

use serde_json::{Map, Value as Json, json};

use uuid::Uuid;

use super::{Export, Record, Translation, as_local, millis, no_event, promote, promote_place};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::event::ids::{IdParts, is_random};
use crate::ingest::{Spoken, translate};

pub(super) struct Mixpanel;

/// What names of visitors begin with.
const DEVICE: &str = "$device:";
/// What Mixpanel says of itself.
const OWN: [&str; 6] =
    ["$import", "mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms", "$distinct_id_before_identity", "$source"];
/// What the browser's agent would have said.
const PLACES: [(&str, [&str; 2]); 5] = [
    ("$browser", ["browser", "name"]),
    ("$browser_version", ["browser", "version"]),
    ("$os", ["os", "name"]),
    ("$os_version", ["os", "version"]),
    ("$device", ["device", "model"]),
];

impl Export for Mixpanel {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let name = record.take("event").ok_or_else(|| no_event("the record names no `event`".to_owned()))?;
        let mut said = Record(record.take_object("properties")?);
        let at = said.get("time").ok_or_else(|| Malformed::new("no_time", "the record says no `time`"))?;
        let invalid = || Malformed::new("timestamp_invalid", format!("`time` is {at}, no number of seconds or milliseconds since 1970"));
        let at_ms = millis(at).ok_or_else(invalid)?;
        let at = match &times.zone {
            Some(zone) => as_local(at_ms, zone).ok_or_else(invalid)?.as_millisecond(),
            None => at_ms,
        };
        let own = said.get("$insert_id").cloned();
        let made = own.as_ref().filter(|own| !own.as_str().is_some_and(is_random)).map(|own| {
            // As the live dialect makes it, unless users were merged since: an export names them by the id that was kept.
            let mut parts = IdParts::default();
            add(&name, &mut parts);
            parts.second(Some(at.div_euclid(1_000)));
            add(said.get("distinct_id").unwrap_or(&Json::Null), &mut parts);
            add(own, &mut parts);
            json!(Uuid::from_bytes(parts.id()).to_string())
        });
        who(&mut said);
        let name = if name == "$merge" { merge(&mut said) } else { name };
        let Record(mut said) = said;
        let place = said.clone();
        said.retain(|name, _| !OWN.contains(&name.as_str()) && name != "$insert_id");
        said.extend(made.as_ref().or(own.as_ref()).map(|id| ("$insert_id".to_owned(), id.clone())));
        said.insert("time".to_owned(), json!(at));
        let live = Map::from_iter([("event".to_owned(), name), ("properties".to_owned(), Json::Object(said))]);
        let Translation { mut event, traits } = translate(Spoken::Mixpanel, &live).map_err(no_event)?;
        let is_of_users = matches!(event.get("type").and_then(Json::as_str), Some("identify" | "alias" | "group"));
        if let (Some(own), Some(_), false) = (own, made, is_of_users)
            && let Some(properties) = event.entry("properties").or_insert_with(|| json!({})).as_object_mut()
        {
            properties.insert("$insert_id".to_owned(), own);
        }
        promote(&mut event, &place, &PLACES);
        promote_place(&mut event, &place, ["mp_country_code", "$region", "$city"]);
        Ok(Translation { event, traits })
    }

    fn receipt(&self, record: &Record) -> Option<[i64; 2]> {
        let said = record.get("properties")?;
        // What a server imported may have happened at any time before.
        if said.get("$import").is_some_and(|is_import| is_import == &json!(true)) {
            return None;
        }
        Some([millis(said.get("time")?)?, millis(said.get("$mp_api_timestamp_ms").or_else(|| said.get("mp_processing_time_ms"))?)?])
    }
}

fn add(value: &Json, parts: &mut IdParts) {
    match value {
        Json::String(text) => parts.text(text),
        other => parts.json(&other.to_string()),
    }
}

/// Who it was: a `distinct_id` that is a device's names nobody, and one that was given up for another is the visitor's.
fn who(said: &mut Record) {
    let id = said.text("distinct_id").unwrap_or_default();
    let device = id.strip_prefix(DEVICE).map(str::to_owned);
    let is_of_device =
        said.get("$user_id").is_none() && said.get("distinct_id").is_some() && said.get("distinct_id") == said.get("$device_id");
    if let Some(device) = &device {
        said.0.entry("$device_id").or_insert_with(|| json!(device));
    }
    if device.is_some() || is_of_device {
        said.0.remove("distinct_id");
    }
    let before = said.text("$distinct_id_before_identity").map(|before| before.strip_prefix(DEVICE).unwrap_or(before).to_owned());
    if let Some(before) = before.filter(|before| said.get("$device_id").is_none() && said.text("distinct_id") != Some(before)) {
        said.0.insert("$device_id".to_owned(), json!(before));
    }
}

/// Two users who are one: an alias.
fn merge(said: &mut Record) -> Json {
    let ids: Vec<Json> = said.take("$distinct_ids").and_then(|ids| ids.as_array().cloned()).unwrap_or_default();
    if let [one, other, ..] = ids.as_slice() {
        said.0.insert("distinct_id".to_owned(), one.clone());
        said.0.insert("alias".to_owned(), other.clone());
    }
    json!("$create_alias")
}
