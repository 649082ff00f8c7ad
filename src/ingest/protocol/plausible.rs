//! Plausible's `/api/event`: a page or a goal a request. The key is the domain. A visitor is known by address and agent for a day.

use hyper::Response;
use serde_json::{Map, Value as Json, json};
use url::Url;

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
    let (revenue, currency) = money(of(["revenue", "$"]));
    let given = |key: &str| event.get(key).cloned().unwrap_or(Json::Null);
    for (name, value) in [("revenue", revenue), ("currency", currency), ("engagement_ms", given("e")), ("scroll_depth", given("sd"))] {
        if !value.is_null() {
            properties.entry(name).or_insert(value);
        }
    }
    let url = of(["url", "u"]);
    let path = if is_set(&of(["hashMode", "h"])) { path_of_hash(&url) } else { Json::Null };
    json!({
        "type": name, "properties": properties,
        "context": {"page": {"url": url, "path": path, "referrer": of(["referrer", "r"])}, "screen": {"width": event.get("screen_width").or_else(|| event.get("w"))}},
    })
}

/// Amount and currency of `{amount, currency}`, which older trackers send as a text of JSON; the amount may be a text as well.
fn money(given: Json) -> (Json, Json) {
    let read = given.as_str().filter(|text| json_bounds::is_bounded(text.as_bytes())).and_then(|text| serde_json::from_str(text).ok());
    let mut said = match read.filter(Json::is_object).unwrap_or(given) {
        Json::Object(said) => said,
        other => return (other, Json::Null),
    };
    let amount = said.remove("amount").unwrap_or(Json::Null);
    let number = amount.as_str().and_then(|text| text.trim().parse::<f64>().ok()).filter(|amount| amount.is_finite()).map(Json::from);
    (number.unwrap_or(amount), said.remove("currency").unwrap_or(Json::Null))
}

/// Whether a page says that what stands behind `#` is a part of its path.
fn is_set(hash: &Json) -> bool {
    hash.as_bool().unwrap_or(false) || hash.as_f64() == Some(1.0)
}

/// The path of an address with what stands behind `#`, as Plausible counts such pages.
fn path_of_hash(url: &Json) -> Json {
    let Some(url) = url.as_str().and_then(|url| Url::parse(url).ok()) else { return Json::Null };
    url.fragment().map_or(Json::Null, |hash| format!("{}#{hash}", url.path()).into())
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

    #[test]
    fn revenue_is_a_number_beside_its_currency_as_it_is_imported() {
        for revenue in [
            r#""$":{"amount":12.5,"currency":"EUR"}"#,
            r#""revenue":{"amount":"12.50","currency":"EUR"}"#,
            r#""$":"{\"amount\":12.5,\"currency\":\"EUR\"}""#,
        ] {
            let body = format!(r#"{{"n":"order","u":"https://a.example/","d":"k",{revenue}}}"#);
            let event = read(|intake| envelope::translated(body.as_bytes(), &ENVELOPE, own, intake)).remove(0);
            assert_eq!(event.properties(), ["currency=EUR", "revenue=12.5"], "{revenue}");
        }
        assert_eq!(money(json!(5)), (json!(5), Json::Null));
    }

    #[test]
    fn a_page_behind_a_hash_is_one_where_the_tracker_says_so() {
        let path = |hash: &str| {
            let body = format!(r#"{{"n":"pageview","u":"https://a.example/?a=b#/app/x","d":"k"{hash}}}"#);
            read(|intake| envelope::translated(body.as_bytes(), &ENVELOPE, own, intake)).remove(0).text(Field::PagePath)
        };
        assert_eq!([path(r#","h":1"#), path(r#","hashMode":true"#)], ["/#/app/x"; 2]);
        assert_ne!(path(r#","h":0"#), "/#/app/x");
    }
}
