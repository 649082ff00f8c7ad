//! PostHog: batch exports and pages of the events API as JSON, tables of its screen.
//!
//! Times were corrected when PostHog received the events. What it set of a person by itself (`$browser`, `utm_source`, …) is none of
//! their traits: it repeats the event. A `distinct_id` that is the device's names nobody.

use serde_json::{Map, Value as Json, json};

use super::{Export, Record, Translation, no_event, promote, promote_place, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::ingest::{Spoken, translate};

pub(super) struct PostHog;

/// Click ids and campaigns that PostHog makes traits of, besides all that begins with `$`.
const CAMPAIGN: [&str; 22] = [
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
    "gclid",
    "gad_source",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "msclkid",
    "twclid",
    "li_fat_id",
    "mc_cid",
    "igshid",
    "ttclid",
    "rdt_cid",
    "epik",
    "qclid",
    "sccid",
];

/// What the browser's agent would have said.
const PLACES: [(&str, [&str; 2]); 3] =
    [("$browser", ["browser", "name"]), ("$browser_version", ["browser", "version"]), ("$device_type", ["device", "type"])];

impl Export for PostHog {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let mut said = record.take_object("properties")?;
        // Columns of a table may be properties.
        for (name, value) in std::mem::take(&mut record.0) {
            match name.strip_prefix("properties.") {
                Some(property) if super::is_given(&value) => drop(said.insert(property.to_owned(), value)),
                Some(_) => {}
                None => drop(record.0.insert(name, value)),
            }
        }
        let name = record.take("event").ok_or_else(|| no_event("the record names no `event`".to_owned()))?;
        let id = record.take("distinct_id").or_else(|| said.get("distinct_id").cloned());
        for set in ["$set", "$set_once"] {
            if let Some(set) = said.get_mut(set).and_then(Json::as_object_mut) {
                set.retain(|name, _| !name.starts_with('$') && !CAMPAIGN.contains(&name.as_str()));
            }
        }
        said.retain(|name, value| !matches!(name.as_str(), "$set" | "$set_once") || value != &json!({}));
        let is_device = id.is_some() && id.as_ref() == said.get("$device_id") && name != "$create_alias";
        if is_device && said.get("$is_identified") != Some(&json!(true)) {
            said.insert("$is_identified".to_owned(), json!(false));
        }
        let place = said.clone();
        let mut live = Map::new();
        let at = time_of(record.take("timestamp"), times)?;
        let chain = record.take("elements_chain");
        if let Some(chain) = chain {
            said.entry("$elements_chain").or_insert(chain);
        }
        for (key, value) in [
            ("event", Some(name)),
            ("distinct_id", id),
            ("uuid", record.take("uuid").or_else(|| record.take("id"))),
            ("timestamp", Some(at)),
        ] {
            live.extend(value.map(|value| (key.to_owned(), value)));
        }
        live.insert("properties".to_owned(), Json::Object(said));
        let Translation { mut event, traits } = translate(Spoken::PostHog, &live).map_err(no_event)?;
        promote(&mut event, &place, &PLACES);
        promote_place(&mut event, &place, ["$geoip_country_code", "$geoip_subdivision_1_name", "$geoip_city_name"]);
        Ok(Translation { event, traits })
    }

    fn columns(&self) -> &'static [&'static str] {
        &["event", "distinct_id", "timestamp"]
    }
}
