//! History that other products export: one file a product, each of which turns a record into an event in pulse's own form.
//!
//! Owns what is the same for all: records ([`records`]), what belongs to them ([`attached`]), archives ([`archive`]), ids, times, and what
//! is said of users in passing, which is said once until it changes. Names are those of the live dialects ([`crate::ingest::translate`]).
//! Promises: a record becomes an event or is refused by itself; the same record has the same id each time.

mod amplitude;
mod archive;
mod attached;
mod countries;
mod google;
mod mixpanel;
mod plausible;
mod posthog;
mod records;
mod segment;
mod umami;
mod users;
mod words;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

pub(super) use self::archive::Archive;
pub(super) use self::attached::{Attached, Rows, is_attached};
pub(super) use self::records::{Raw, Records};
pub(super) use self::users::Users;
use super::format::Format;
use super::malformed::Malformed;
use super::times::{Times, of_text};
use crate::event::dead_letter::DEAD_LINE_MARK;
use crate::event::ids::{event_id_of, other_event_id};
use crate::event::time;
use crate::ingest::Translation;

/// A product that exports its events.
pub(super) trait Export: Sync {
    /// One record as an event. Its `eventId` may be missing, or be none: the record's place in the file then gives it one.
    fn event(&self, record: Record, times: &Times) -> Result<Translation, Malformed>;

    /// The columns that a table must have; none where nothing but JSON is exported.
    fn columns(&self) -> &'static [&'static str] {
        &[]
    }

    /// Why a table of these columns has no events, where that is worth saying.
    fn refuse(&self, _columns: &[String]) -> Option<&'static str> {
        None
    }

    /// Whether a file of an archive has events, by its name.
    fn has_events(&self, _name: &str) -> bool {
        true
    }

    /// The tables whose rows belong to its records, and are read before them; none where a record is whole.
    fn attached(&self) -> Option<&'static dyn Attached> {
        None
    }

    /// When a record says that it happened and was received, milliseconds since 1970, where both should be about the same.
    fn receipt(&self, _record: &Record) -> Option<[i64; 2]> {
        None
    }
}

/// The product whose export a format is; `None` for formats of pulse's own.
pub(super) fn export_of(format: Format) -> Option<&'static dyn Export> {
    Some(match format {
        Format::Posthog => &posthog::PostHog,
        Format::Mixpanel => &mixpanel::Mixpanel,
        Format::Amplitude => &amplitude::Amplitude,
        Format::Segment => &segment::Segment,
        Format::Umami => &umami::Umami,
        Format::Plausible => &plausible::Plausible,
        Format::Ga4 => &google::BigQuery,
        Format::Ndjson | Format::Csv | Format::Combined => return None,
    })
}

/// One record of an export. `null` and an empty text say nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(pub(super) Map<String, Json>);

impl Record {
    /// Takes a member out.
    fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name).filter(is_given)
    }

    /// A member that stays.
    fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| is_given(value))
    }

    /// The text of a member that stays.
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Takes out an object, which may be a text of JSON, as tables have it. Errors: it is something else.
    fn take_object(&mut self, name: &str) -> Result<Map<String, Json>, Malformed> {
        let none = || Malformed::new("invalid_json", format!("`{name}` is not a JSON object"));
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Json::Object(members)) => Ok(members),
            Some(Json::String(text)) => serde_json::from_str(&text).map_err(|_| none()),
            Some(_) => Err(none()),
        }
    }
}

fn is_given(value: &Json) -> bool {
    !value.is_null() && value.as_str().is_none_or(|text| !text.is_empty())
}

/// Says `value` of the circumstances of an event, unless that is said already.
fn say(event: &mut Map<String, Json>, [group, key]: [&str; 2], value: Option<Json>) {
    let Some(value) = value.filter(is_given) else { return };
    let context = event.entry("context").or_insert_with(|| json!({})).as_object_mut();
    let target = match group {
        "" => context,
        group => context.and_then(|context| context.entry(group).or_insert_with(|| json!({})).as_object_mut()),
    };
    if let Some(target) = target {
        target.entry(key).or_insert(value);
    }
}

/// Where products keep what campaigns say of themselves.
const CAMPAIGN: [(&str, [&str; 2]); 5] = [
    ("utm_source", ["campaign", "source"]),
    ("utm_medium", ["campaign", "medium"]),
    ("utm_campaign", ["campaign", "name"]),
    ("utm_term", ["campaign", "term"]),
    ("utm_content", ["campaign", "content"]),
];

/// Says of each column of `record`, in its place, what it holds.
fn say_columns(event: &mut Map<String, Json>, record: &mut Record, columns: &[(&str, [&str; 2])]) {
    for (column, place) in columns {
        say(event, *place, record.take(column));
    }
}

/// Whether the circumstances name the browser's agent, which says more than what was made of it.
fn has_agent(event: &Map<String, Json>) -> bool {
    event.get("context").and_then(|context| context.get("userAgent")).is_some_and(is_given)
}

/// The properties of an event.
fn properties(event: &mut Map<String, Json>) -> Option<&mut Map<String, Json>> {
    event.entry("properties").or_insert_with(|| json!({})).as_object_mut()
}

/// Moves what is a property `from` a record to where it belongs: what an event's browser and device are, unless its agent says it.
fn promote(event: &mut Map<String, Json>, from: &Map<String, Json>, places: &[(&str, [&str; 2])]) {
    let has_agent = has_agent(event);
    for (name, place) in places {
        properties(event).and_then(|properties| properties.remove(*name));
        let value = from.get(*name).filter(|_| !has_agent).cloned();
        let is_kind = *place == ["device", "type"];
        say(event, *place, value.map(|value| value.as_str().filter(|_| is_kind).map_or(value.clone(), |kind| kind.to_lowercase().into())));
    }
}

/// The same of the place, which no agent says.
fn promote_place(event: &mut Map<String, Json>, from: &Map<String, Json>, names: [&str; 3]) {
    if let Some(properties) = properties(event) {
        names.iter().for_each(|name| drop(properties.remove(*name)));
    }
    say_place(event, names.map(|name| from.get(name).cloned()));
}

/// Where an event happened, as products say it: the country by its code or by its name.
fn say_place(event: &mut Map<String, Json>, [country, region, city]: [Option<Json>; 3]) {
    let code = country.as_ref().and_then(Json::as_str).and_then(countries::code);
    say(event, ["geo", "country"], code.map(Json::from));
    for (key, value) in [("region", region), ("city", city)] {
        say(event, ["geo", key], value.filter(|value| value.as_str() != Some("(not set)")));
    }
}

/// A time of a product that means UTC where it names no zone, unless the caller knows better. Errors: there is none, or none that can
/// be read: it did not happen now.
fn time_of(value: Option<Json>, times: &Times) -> Result<Json, Malformed> {
    let value = value.filter(is_given).ok_or_else(|| Malformed::new("no_time", "the record says no time"))?;
    let Json::String(text) = &value else { return Ok(value) };
    let times = Times { zone: Some(times.zone.clone().unwrap_or(TimeZone::UTC)), format: None };
    Ok(times.of_cell(text)?.to_string().into())
}

/// Milliseconds since 1970 of a time that is a number, or a text of one.
pub(super) fn millis(value: &Json) -> Option<i64> {
    match value {
        Json::Number(number) => number.as_u64().map_or_else(|| time::of_epoch_float(number.as_f64()?), time::of_epoch),
        Json::String(text) => match of_text(text)? {
            super::times::Read::At(at) => Some(at.as_millisecond()),
            super::times::Read::Zoneless(_) => None,
        },
        _ => None,
    }
}

/// The instant at which the clocks of `zone` show what a clock of UTC shows at `at_ms`.
fn as_local(at_ms: i64, zone: &TimeZone) -> Option<Timestamp> {
    let local = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(at_ms).ok()?);
    Some(zone.to_ambiguous_zoned_datetime(local).compatible().ok()?.timestamp())
}

/// The events of a record, the first of which is what happened: `id` where it has none of its own.
pub(super) fn lines(translation: Translation, id: Uuid, users: &mut Users) -> Result<Vec<Vec<u8>>, Malformed> {
    let Translation { mut event, traits } = translation;
    let own = event.get("eventId").and_then(Json::as_str).and_then(event_id_of);
    let id = own.unwrap_or_else(|| id.into_bytes());
    let at = event.get("timestamp").filter(|at| is_given(at)).cloned();
    let at = at.ok_or_else(|| Malformed::new("no_time", "the record says no time"))?;
    if own.is_none() {
        event.insert("eventId".to_owned(), Uuid::from_bytes(id).to_string().into());
    }
    let place = event.get("context").and_then(|context| context.get("geo")).cloned();
    let mut lines = vec![line(event)];
    if let Some(mut traits) = traits.filter(|traits| traits.get("properties").is_some_and(|said| said != &json!({})) && users.learn(traits))
    {
        traits.insert("eventId".to_owned(), Uuid::from_bytes(other_event_id(id)).to_string().into());
        traits.insert("timestamp".to_owned(), at);
        // Said where it happened, and not where the address is today.
        say(&mut traits, ["", "geo"], place);
        lines.push(line(traits));
    }
    Ok(lines)
}

fn line(event: Map<String, Json>) -> Vec<u8> {
    let line = Json::Object(event).to_string();
    // A member of that name means something else at the start of a line.
    if line.as_bytes().starts_with(DEAD_LINE_MARK) { format!(" {line}") } else { line }.into_bytes()
}

/// What a dialect says is wrong.
fn no_event(message: String) -> Malformed {
    Malformed::new("no_event", message)
}

#[cfg(test)]
mod tests;
