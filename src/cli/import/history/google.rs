//! Google Analytics 4: rows of `events_*` in BigQuery, exported as JSON lines.
//!
//! `event_timestamp` counts microseconds of UTC. Parameters are lists of a key and a value of one type each; whole numbers may be texts.
//! No event has an id: the row as it stands gives it one.

use serde_json::{Map, Value as Json, json};

use super::words::as_live;
use super::{Export, Record, Translation, no_event, properties, say, say_columns, say_place, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::ingest::translate_google;
use crate::process::enrich::campaign::says_nothing;

pub(super) struct BigQuery;

/// Columns that are kept as properties, as they are.
const KEPT: [&str; 4] = ["platform", "stream_id", "event_value_in_usd", "items"];

impl Export for BigQuery {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let name = record.take("event_name").ok_or_else(|| no_event("the record has no `event_name`".to_owned()))?;
        let at = time_of(record.take("event_timestamp"), times)?;
        let mut said = parameters("event_params", &mut record)?;
        rename(
            &mut said,
            &[
                ("ga_session_id", "session_id"),
                ("source", "campaign_source"),
                ("medium", "campaign_medium"),
                ("term", "campaign_term"),
                ("content", "campaign_content"),
            ],
        );
        let source = Record(record.take_object("collected_traffic_source")?);
        for (of, name) in [
            ("manual_source", "campaign_source"),
            ("manual_medium", "campaign_medium"),
            ("manual_campaign_name", "campaign"),
            ("manual_term", "campaign_term"),
            ("manual_content", "campaign_content"),
            ("gclid", "gclid"),
        ] {
            said.extend(source.get(of).map(|value| (name.to_owned(), value.clone())));
        }
        said.retain(|name, value| !name.starts_with("campaign") || !value.as_str().is_some_and(says_nothing));
        said.extend(KEPT.into_iter().filter_map(|name| Some((name.to_owned(), without_nulls(record.take(name)?)?))));
        // Whole: which of its members are counts is told by their names.
        if let Some(Json::Object(order)) = without_nulls(Json::Object(record.take_object("ecommerce")?)) {
            said.extend(order);
        }
        let device = Record(record.take_object("device")?);
        said.extend(device.get("language").map(|language| ("language".to_owned(), language.clone())));
        let of_user: Map<String, Json> =
            parameters("user_properties", &mut record)?.into_iter().map(|(name, value)| (name, json!({"value": value}))).collect();
        let client = [
            ("client_id", record.take("user_pseudo_id")),
            ("user_id", record.take("user_id")),
            ("user_properties", Some(Json::Object(of_user))),
        ];
        let client: Map<String, Json> = client.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let live =
            Map::from_iter([("name".to_owned(), name), ("params".to_owned(), Json::Object(said)), ("timestamp_micros".to_owned(), at)]);
        let Translation { mut event, traits } = translate_google(&client, &live);
        event.retain(|_, value| super::is_given(value));
        circumstances(&mut event, device, &mut record)?;
        if let Some(kept) = properties(&mut event) {
            kept.retain(|_, value| super::is_given(value));
        }
        Ok(Translation { event, traits })
    }
}

/// What the device, the application and the place are.
fn circumstances(event: &mut Map<String, Json>, mut device: Record, record: &mut Record) -> Result<(), Malformed> {
    tidy(event);
    let mut web = Record(device.take_object("web_info")?);
    say(event, ["browser", "name"], web.take("browser"));
    say(event, ["browser", "version"], web.take("browser_version"));
    say(event, ["page", "host"], web.take("hostname"));
    let app = Record(record.take_object("app_info")?);
    say(event, ["app", "name"], app.get("id").cloned());
    say(event, ["app", "version"], app.get("version").cloned());
    // Of a browser on a desk it says which browser it is.
    if device.text("category") == Some("desktop") {
        ["mobile_brand_name", "mobile_model_name"].iter().for_each(|name| drop(device.0.remove(*name)));
    }
    let columns = [
        ("browser", ["browser", "name"]),
        ("browser_version", ["browser", "version"]),
        ("operating_system", ["os", "name"]),
        ("operating_system_version", ["os", "version"]),
        ("category", ["device", "type"]),
        ("mobile_model_name", ["device", "model"]),
        ("mobile_brand_name", ["device", "manufacturer"]),
    ];
    say_columns(event, &mut device, &columns);
    as_live(event);
    let mut geo = Record(record.take_object("geo")?);
    say_place(event, ["country", "region", "city"].map(|name| geo.take(name)));
    Ok(())
}

/// Leaves out of the context what is not said.
fn tidy(event: &mut Map<String, Json>) {
    let Some(context) = event.get_mut("context").and_then(Json::as_object_mut) else { return };
    for group in context.values_mut().filter_map(Json::as_object_mut) {
        group.retain(|_, value| super::is_given(value));
    }
    context.retain(|_, value| super::is_given(value) && value != &json!({}));
}

fn rename(said: &mut Map<String, Json>, names: &[(&str, &str)]) {
    for (from, to) in names {
        if let Some(value) = said.remove(*from) {
            said.entry(*to).or_insert(value);
        }
    }
}

/// Parameters by name: of each the one value that is given. Errors: they are no list.
fn parameters(name: &str, record: &mut Record) -> Result<Map<String, Json>, Malformed> {
    let none = || Malformed::new("invalid_json", format!("`{name}` is not a list of keys and values"));
    let list: Vec<Json> = match record.take(name) {
        None => Vec::new(),
        Some(Json::Array(list)) => list,
        Some(Json::String(text)) => serde_json::from_str(&text).map_err(|_| none())?,
        Some(_) => return Err(none()),
    };
    let one = |parameter: &Json| {
        let typed = parameter.get("value")?;
        let given = |name: &str| typed.get(name).filter(|value| !value.is_null());
        let number = |value: &Json| value.as_str().and_then(|text| text.parse::<i64>().ok()).map_or_else(|| value.clone(), Json::from);
        let float = |value: &Json| value.as_str().and_then(|text| text.parse::<f64>().ok()).map_or_else(|| value.clone(), Json::from);
        let value = given("string_value").cloned().or_else(|| given("int_value").map(number));
        let value = value.or_else(|| given("double_value").or_else(|| given("float_value")).map(float))?;
        Some((parameter.get("key")?.as_str()?.to_owned(), value))
    };
    Ok(list.iter().filter_map(one).collect())
}

/// A value without what is not said in it; `None` if nothing is.
fn without_nulls(value: Json) -> Option<Json> {
    match value {
        Json::Null => None,
        Json::Object(members) => {
            let is_count = |name: &str| name.ends_with("quantity") || name == "unique_items";
            let whole = |name: &str, value: &Json| value.as_str().filter(|_| is_count(name))?.parse::<i64>().ok().map(Json::from);
            let told = members.into_iter().filter_map(|(name, value)| {
                let value = whole(&name, &value).or_else(|| without_nulls(value))?;
                Some((name, value))
            });
            let members: Map<String, Json> = told.collect();
            (!members.is_empty()).then_some(Json::Object(members))
        }
        Json::Array(list) => {
            let list: Vec<Json> = list.into_iter().filter_map(without_nulls).collect();
            (!list.is_empty()).then_some(Json::Array(list))
        }
        value => super::is_given(&value).then_some(value),
    }
}
