//! Plausible's `/api/event`: a page or a goal a request. The key is the domain. A visitor is known by address and agent for a day.

use hyper::Response;
use serde_json::{Map, Value as Json, json};

use super::umami::nameless;
use super::{Head, Protocol, Received, pulse};
use crate::http::respond::Body;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::json_bounds;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::Verdicts;

pub(super) struct Plausible;

const ENVELOPE: Envelope = Envelope { key_of: Some(domain), ..Envelope::bare(nameless) };

impl Protocol for Plausible {
    fn paths(&self) -> &'static [&'static str] {
        &["/api/event"]
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    /// A server that speaks for visitors names theirs.
    fn has_agent_of_visitor(&self, _head: &Head) -> bool {
        true
    }

    /// Its tracker sends JSON as text, so that no browser asks first.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(request.body, &ENVELOPE, own, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"ok": true}))
    }
}

fn domain(event: Value<'_>) -> Option<&str> {
    event.member("domain").or_else(|| event.member("d"))?.text()
}

/// An event in pulse's own dialect. The tracker shortens all names.
fn own(event: &Map<String, Json>) -> Json {
    let of = |[long, short]: [&str; 2]| event.get(long).or_else(|| event.get(short)).cloned().unwrap_or(Json::Null);
    let name = match of(["name", "n"]) {
        Json::String(name) if name == "pageview" => Json::from("page"),
        name => name,
    };
    let mut properties = properties(of(["props", "p"]));
    for (key, name) in [("revenue", "revenue"), ("$", "revenue"), ("e", "engagement_ms"), ("sd", "scroll_depth")] {
        if let Some(value) = event.get(key).filter(|value| !value.is_null()) {
            properties.entry(name).or_insert_with(|| value.clone());
        }
    }
    json!({
        "type": name, "properties": properties,
        "context": {"page": {"url": of(["url", "u"]), "referrer": of(["referrer", "r"])}, "screen": {"width": event.get("screen_width").or_else(|| event.get("w"))}},
    })
}

/// Properties, which older trackers send as a text of JSON.
fn properties(given: Json) -> Map<String, Json> {
    match given {
        Json::Object(properties) => properties,
        Json::String(text) => {
            let read = json_bounds::is_bounded(text.as_bytes()).then(|| serde_json::from_str(&text).ok()).flatten();
            read.unwrap_or_else(|| Map::from_iter([("props".to_owned(), Json::String(text))]))
        }
        Json::Null => Map::new(),
        other => Map::from_iter([("props".to_owned(), other)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{key_of, read};

    #[test]
    fn pages_and_goals_are_events_of_whoever_has_the_address() {
        for body in [
            r#"{"n":"pageview","u":"https://a.example/x","d":"k","r":null,"p":{"plan":"pro"}}"#,
            r#"{"name":"pageview","url":"https://a.example/x","domain":"k","props":"{\"plan\":\"pro\"}"}"#,
        ] {
            let events = read(|intake| envelope::translated(body.as_bytes(), &ENVELOPE, own, intake));
            assert_eq!((events[0].ids()[0].as_str(), events[0].ids()[2].len()), ("page", 32));
            assert_eq!(
                (events[0].text(Field::PageUrl).as_str(), events[0].properties()),
                ("https://a.example/x", vec!["plan=pro".to_owned()])
            );
            assert_eq!(key_of(|intake| envelope::translated(body.as_bytes(), &ENVELOPE, own, intake)), Ok(Some("k".to_owned())));
        }
    }
}
