//! Umami's `/api/send`: a page or an event a request. The key is the website's id. A visitor whom nobody names is known by address and
//! agent for a day.

use hyper::Response;
use serde_json::{Map, Value as Json, json};

use super::{Head, Protocol, Received, pulse};
use crate::http::respond::Body;
use crate::ingest::draft::Draft;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

pub(super) struct Umami;

const ENVELOPE: Envelope = Envelope { key_of: Some(website), ..Envelope::of("", nameless) };

impl Protocol for Umami {
    fn paths(&self) -> &'static [&'static str] {
        &["/api/send"]
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(request.body, &ENVELOPE, own, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"ok": true}))
    }
}

/// What a payload says of any event.
const PAYLOAD: [&str; 14] =
    ["website", "hostname", "url", "title", "referrer", "screen", "language", "name", "data", "tag", "id", "timestamp", "ip", "userAgent"];

fn website(event: Value<'_>) -> Option<&str> {
    event.member("payload")?.member("website")?.text()
}

/// Reads an event of pulse's own dialect that may name nobody.
pub(super) fn nameless<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.is_named_by_address = true;
    draft.has_numeric_ids = true;
    pulse::event(event, draft)
}

/// An event in pulse's own dialect.
fn own(event: &Map<String, Json>) -> Json {
    let of = |key: &str| event.get("payload").and_then(|payload| payload.get(key)).cloned().unwrap_or(Json::Null);
    let kind = event.get("type").and_then(Json::as_str).filter(|kind| *kind != "event");
    let name = match (kind, of("name")) {
        (Some("identify"), _) => Json::from("identify"),
        (None, Json::Null) => Json::from("page"),
        // What a tracker measures beside what happens: `performance`, `error`.
        (Some(kind), Json::Null) => Json::from(kind),
        (_, name) => name,
    };
    let mut properties = match of("data") {
        Json::Object(data) => data,
        Json::Null => Map::new(),
        other => Map::from_iter([("data".to_owned(), other)]),
    };
    if kind.is_some() {
        let members = event.get("payload").and_then(Json::as_object).into_iter().flatten();
        properties.extend(members.filter(|(key, _)| !PAYLOAD.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())));
    }
    if let tag @ Json::String(_) = of("tag") {
        properties.entry("tag").or_insert(tag);
    }
    let (screen, hostname) = (of("screen"), of("hostname"));
    let side = |nth: usize| screen.as_str().and_then(|size| size.split('x').nth(nth)).map_or(Json::Null, Json::from);
    json!({
        "type": name, "userId": of("id"), "timestamp": of("timestamp"), "properties": properties,
        "context": {
            "ip": of("ip"), "locale": of("language"), "userAgent": of("userAgent"),
            "page": {"url": url(&of("url"), hostname.as_str()), "title": of("title"), "referrer": of("referrer"), "host": hostname},
            "screen": {"width": side(0), "height": side(1)},
        },
    })
}

/// The address of a page: trackers before the third version send a path.
fn url(url: &Json, hostname: Option<&str>) -> Json {
    match (url.as_str(), hostname) {
        (Some(path), Some(hostname)) if path.starts_with('/') => format!("https://{hostname}{path}").into(),
        _ => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{Read, key_of, read};

    fn one(event: &str) -> Read {
        let mut events = read(|intake| envelope::translated(event.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(events.len(), 1, "{event}");
        events.remove(0)
    }

    #[test]
    fn what_has_no_name_is_a_page_of_whoever_has_the_address() {
        let page = r#"{"type":"event","payload":{"website":"k","hostname":"a.example","url":"/x?utm_source=n","title":"A","screen":"1280x720","language":"de-DE"}}"#;
        let event = one(page);
        assert_eq!([&event.ids()[0], &event.ids()[1]], ["page", ""]);
        assert_eq!((event.ids()[2].len(), event.ids()), (32, one(page).ids()));
        assert_eq!([Field::PageUrl, Field::PageTitle].map(|field| event.text(field)), ["https://a.example/x?utm_source=n", "A"]);
        assert_eq!(key_of(|intake| envelope::translated(page.as_bytes(), &ENVELOPE, own, intake)), Ok(Some("k".to_owned())));
    }

    #[test]
    fn what_the_tracker_measures_is_no_page() {
        let event = one(
            r#"{"type":"performance","payload":{"website":"k","id":"ada","url":"https://a.example/","userAgent":"x","lcp":1200,"cls":0.1}}"#,
        );
        assert_eq!(event.ids(), ["performance", "ada", ""]);
        assert_eq!(event.properties(), ["cls=0.1", "lcp=1200"]);
        let named = one(r#"{"type":"event","payload":{"website":"k","id":"ada","name":"order","lcp":1}}"#);
        assert_eq!((named.ids()[0].as_str(), named.properties()), ("order", Vec::new()));
    }

    #[test]
    fn a_distinct_id_is_a_user() {
        let event =
            one(r#"{"type":"event","payload":{"website":"k","id":"ada","name":"order","url":"https://a.example/","data":{"total":1}}}"#);
        assert_eq!((event.ids(), event.properties()), (["order", "ada", ""].map(str::to_owned), vec!["total=1".to_owned()]));
        let identify = one(r#"{"type":"identify","payload":{"website":"k","id":"ada","data":{"team":"blue"}}}"#);
        assert_eq!((identify.ids(), identify.properties()), (["identify", "ada", ""].map(str::to_owned), vec!["team=blue".to_owned()]));
    }
}
