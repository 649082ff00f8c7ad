//! A log record, and the event that it is.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::ingest::verdict::Rejection;
use crate::outcome::Defect;

/// A record, whatever it came as. Times are nanoseconds since 1970, 0 if not known.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    pub(super) event_name: String,
    pub(super) time_ns: u64,
    pub(super) observed_ns: u64,
    pub(super) severity: String,
    pub(super) body: Json,
    pub(super) attributes: Map<String, Json>,
    pub(super) trace_id: String,
    pub(super) span_id: String,
}

/// The attributes of what a record is of, or why they cannot be its own.
pub(super) type Resource = Result<Map<String, Json>, Rejection>;

/// Largest resource, as JSON: each of its records becomes an event that has all of it.
const MAX_RESOURCE: usize = 16 << 10;

/// What attributes are, of records and resources, as the semantic conventions name them: the place in an event. Of two for one place
/// the first is in it, the other is a property.
const PLACES: [(&str, &str, &str); 22] = [
    ("log.record.uid", "", "eventId"),
    ("user.id", "", "userId"),
    ("enduser.id", "", "userId"),
    ("app.installation.id", "", "anonymousId"),
    ("device.id", "", "anonymousId"),
    ("session.id", "", "sessionId"),
    ("url.full", "/context/page", "url"),
    ("url.path", "/context/page", "path"),
    ("url.query", "/context/page", "search"),
    ("url.domain", "/context/page", "host"),
    ("http.request.header.referer", "/context/page", "referrer"),
    ("user_agent.original", "/context", "userAgent"),
    ("browser.language", "/context", "locale"),
    ("client.address", "/context", "ip"),
    ("os.name", "/context/os", "name"),
    ("os.version", "/context/os", "version"),
    ("device.model.name", "/context/device", "model"),
    ("device.model.identifier", "/context/device", "model"),
    ("device.manufacturer", "/context/device", "manufacturer"),
    ("service.name", "/context/app", "name"),
    ("service.version", "/context/app", "version"),
    ("app.build_id", "/context/app", "build"),
];

/// A resource that is not too large.
pub(super) fn checked(attributes: Map<String, Json>) -> Resource {
    let attributes = Json::Object(attributes);
    let size = attributes.to_string().len();
    match attributes {
        Json::Object(attributes) if size <= MAX_RESOURCE => Ok(attributes),
        _ => {
            let message = format!("the attributes of the resource have {size} bytes, more than {MAX_RESOURCE}");
            Err(Rejection::new(Defect::EventTooLarge, "resource", message))
        }
    }
}

/// How many equal records an export had before.
pub(super) type Equals = HashMap<u128, u32>;

/// Whether an attribute of a resource says something of it: not what the SDK is, nor that nobody has given it a name.
fn is_said(key: &str, value: &Json) -> bool {
    let is_unnamed = key == "service.name" && value.as_str().is_some_and(|name| name.starts_with("unknown_service"));
    !key.starts_with("telemetry.") && !is_unnamed
}

/// An event in pulse's own dialect.
pub(super) fn own(record: Record, resource: &Resource, equals: &mut Equals) -> Result<Json, Rejection> {
    let Record { event_name, time_ns, observed_ns, severity, body, mut attributes, trace_id, span_id } = record;
    // What was called so before records had a name of their own.
    let name = attributes.remove("event.name");
    let name = if event_name.is_empty() { name.unwrap_or(Json::Null) } else { event_name.into() };
    if name.is_null() {
        let message = "the log record has neither an event name nor the attribute `event.name`";
        return Err(Rejection::new(Defect::EventNameRequired, "eventName", message));
    }
    // The record knows better than what it is of.
    for (key, value) in resource.as_ref().map_err(Clone::clone)?.iter().filter(|(key, value)| is_said(key, value)) {
        attributes.entry(key.as_str()).or_insert_with(|| value.clone());
    }
    let mut event = json!({"type": name, "context": {"page": {}, "os": {}, "device": {}, "app": {}}});
    for (attribute, parent, member) in PLACES {
        if let Some(Json::Object(parent)) = event.pointer_mut(parent)
            && !parent.contains_key(member)
            && let Some(value) = attributes.remove(attribute)
        {
            parent.insert(member.to_owned(), value);
        }
    }
    // Somebody whom nobody names is known by the session.
    if event.get("userId").is_none()
        && event.get("anonymousId").is_none()
        && let Some(session) = event.get("sessionId").cloned()
    {
        event["anonymousId"] = session;
    }
    let at_ns = if time_ns > 0 { time_ns } else { observed_ns };
    if at_ns > 0 {
        event["timestamp"] = (at_ns / 1_000_000).into();
    }
    match body {
        Json::Null => {}
        Json::Object(members) => attributes.extend(members),
        other => drop(attributes.insert("body".to_owned(), other)),
    }
    for (name, text) in [("severity", severity), ("traceId", trace_id), ("spanId", span_id)] {
        if !text.is_empty() {
            attributes.insert(name.to_owned(), text.into());
        }
    }
    event["properties"] = Json::Object(attributes);
    if event.get("eventId").is_none() && at_ns > 0 {
        // By the nanosecond, where the clock has it. Some have milliseconds only, in which a program may do the same many times: equal
        // records are counted, in an order that is the same when their export is sent again.
        let hash = xxh3_128_with_seed(event.to_string().as_bytes(), time_ns ^ observed_ns.rotate_left(32));
        let before = equals.entry(hash).or_default();
        event["eventId"] = match before {
            0 => format!("otlp-{hash:032x}"),
            _ => format!("otlp-{hash:032x}-{before}"),
        }
        .into();
        *before += 1;
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_records_of_an_export_are_several_and_the_same_when_it_is_sent_again() {
        let export = || {
            let mut equals = Equals::new();
            let record = |n: u64| Record { event_name: "a".to_owned(), time_ns: 7_000_000 + n / 3, ..Record::default() };
            let ids = (0..6).map(|n| own(record(n), &Ok(Map::new()), &mut equals).unwrap()["eventId"].to_string());
            ids.collect::<Vec<_>>()
        };
        let ids = export();
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 6, "{ids:?}");
        assert_eq!(export(), ids);
    }

    #[test]
    fn of_two_for_one_place_the_other_is_a_property() {
        let attributes = json!({"user.id": "ada", "enduser.id": 7, "device.id": "d", "app.installation.id": "i"});
        let Json::Object(attributes) = attributes else { panic!("no object") };
        let event =
            own(Record { event_name: "a".to_owned(), attributes, ..Record::default() }, &Ok(Map::new()), &mut Equals::new()).unwrap();
        assert_eq!((event["userId"].as_str(), event["anonymousId"].as_str()), (Some("ada"), Some("i")));
        assert_eq!((&event["properties"], event.get("eventId")), (&json!({"enduser.id": 7, "device.id": "d"}), None));
    }
}
