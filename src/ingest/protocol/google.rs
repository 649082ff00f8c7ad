//! The Measurement Protocol of Google Analytics 4: `POST /mp/collect?api_secret=KEY` with events of one client.
//!
//! `user_properties` become an `identify` of its own where there is a user; its index is the one behind the events, none of which it is of.
//! Events have no ids: nothing is sent twice.

use hyper::Response;
use serde_json::{Map, Value as Json, json};

use super::umami::nameless;
use super::{Head, Protocol, Received, pulse};
use crate::auth::{AuthError, credential};
use crate::http::respond::Body;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::verdict::Verdicts;

pub(super) struct MeasurementProtocol;

impl Protocol for MeasurementProtocol {
    fn paths(&self) -> &'static [&'static str] {
        &["/mp/collect"]
    }

    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        match credential::in_query(head.query(), "api_secret") {
            Some(key) => Ok(Some(key)),
            None => credential::in_headers(&head.headers),
        }
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        take(request.body, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"ok": true}))
    }
}

/// Takes the events of a client, and what is said of its user.
fn take(body: &[u8], intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let envelope = Envelope::of("events", nameless);
    let client = envelope::around(body, &envelope)?;
    envelope::translated(body, &envelope, |event| own(&client, event), intake)?;
    if let Some(identify) = identify(&client) {
        envelope::alone(identify.to_string().as_bytes(), intake.count(), nameless, intake);
    }
    Ok(())
}

/// An event of a client in pulse's own dialect.
pub(super) fn own(client: &Map<String, Json>, event: &Map<String, Json>) -> Json {
    let of = |key: &str| client.get(key).cloned().unwrap_or(Json::Null);
    let mut params = event.get("params").cloned().unwrap_or_else(|| json!({}));
    let mut take = |key: &str| params.as_object_mut().and_then(|params| params.remove(key)).unwrap_or(Json::Null);
    let (session, url, title) = (take("session_id"), take("page_location"), take("page_title"));
    let (referrer, language) = (take("page_referrer"), take("language"));
    let campaign = json!({
        "source": take("campaign_source"), "medium": take("campaign_medium"), "name": take("campaign"), "term": take("campaign_term"),
        "content": take("campaign_content"),
    });
    let at = event.get("timestamp_micros").cloned().unwrap_or_else(|| of("timestamp_micros"));
    let name = match event.get("name").and_then(Json::as_str) {
        Some("page_view") => Some(Json::from("page")),
        Some("screen_view") => Some(Json::from("screen")),
        _ => event.get("name").cloned(),
    };
    json!({
        "type": name, "userId": of("user_id"), "anonymousId": first(of("client_id"), of("app_instance_id")), "sessionId": session,
        "timestamp": at, "properties": params,
        "context": {
            "ip": of("ip_override"), "locale": language, "page": {"url": url, "title": title, "referrer": referrer}, "campaign": campaign,
            "userAgent": of("user_agent"),
        },
    })
}

fn first(one: Json, other: Json) -> Json {
    if one.is_null() { other } else { one }
}

/// What is said of the user, `{"name": {"value": …}}`, if there is one.
pub(super) fn identify(client: &Map<String, Json>) -> Option<Json> {
    let user = client.get("user_id").filter(|user| !user.is_null())?;
    let said = client.get("user_properties")?.as_object()?;
    let traits: Map<String, Json> = said.iter().filter_map(|(name, said)| Some((name.clone(), said.get("value")?.clone()))).collect();
    let of = |key: &str| client.get(key);
    (!traits.is_empty()).then(|| {
        json!({
            "type": "identify", "userId": user, "anonymousId": of("client_id"), "timestamp": of("timestamp_micros"), "properties": traits,
            "context": {"ip": of("ip_override"), "userAgent": of("user_agent")},
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::{SHOP, decoded_as};
    use crate::outcome::Defect;

    #[test]
    fn events_are_of_the_client_around_them() {
        let body = r#"{"client_id":"c","user_id":"ada","timestamp_micros":"1789999990000000","user_properties":{"team":{"value":"blue"}},
            "events":[{"name":"page_view","params":{"page_location":"https://a.example/","session_id":"7","total":2}},5]}"#;
        let client = envelope::around(body.as_bytes(), &Envelope::of("events", nameless)).unwrap();
        let mut events = crate::ingest::tests::read::read(|intake| {
            envelope::translated(
                body.replace(",5]", "]").as_bytes(),
                &Envelope::of("events", nameless),
                |event| own(&client, event),
                intake,
            )
        });
        let event = events.remove(0);
        assert_eq!((event.ids(), event.at_ms), (["page", "ada", "c"].map(str::to_owned), 1_789_999_990_000));
        assert_eq!((event.text(Field::PageUrl).as_str(), event.properties()), ("https://a.example/", vec!["total=2".to_owned()]));
        let said = identify(&client).unwrap();
        assert_eq!(
            (&said["properties"], &said["timestamp"]),
            (&json!({"team": "blue"}), &json!("1789999990000000")),
            "not what is said later"
        );
        let refused = decoded_as(
            SHOP,
            |_| {},
            |intake| envelope::translated(body.as_bytes(), &Envelope::of("events", nameless), |event| own(&client, event), intake),
        );
        let verdicts = refused.unwrap().verdicts;
        assert_eq!((verdicts.accepted, verdicts.rejected.len(), verdicts.rejected[0].index), (1, 1, 1));
    }

    #[test]
    fn what_is_refused_of_the_user_is_no_event_of_the_request() {
        let said: Map<String, Json> = (0..300).map(|number| (format!("k{number}"), json!({"value": number}))).collect();
        let body = json!({"client_id": "c", "user_id": "ada", "user_properties": said, "events": [{"name": "a"}, {"name": "b"}]});
        let verdicts = decoded_as(SHOP, |_| {}, |intake| take(body.to_string().as_bytes(), intake)).unwrap().verdicts;
        let rejected = verdicts.rejected.iter().map(|rejected| (rejected.index, rejected.defect)).collect::<Vec<_>>();
        assert_eq!((verdicts.accepted, rejected), (2, vec![(2, Defect::TooManyProperties)]));
        let body =
            json!({"client_id": "c", "user_id": "ada", "user_properties": {"team": {"value": "blue"}}, "events": [{"name": "a"}, {}]});
        let verdicts = decoded_as(SHOP, |_| {}, |intake| take(body.to_string().as_bytes(), intake)).unwrap().verdicts;
        assert_eq!((verdicts.accepted, verdicts.rejected.len(), verdicts.without_id), (2, 1, vec![0, 2]));
    }

    #[test]
    fn views_of_pages_and_screens_have_the_names_of_all_dialects() {
        let name = |name: &str| own(&Map::new(), &Map::from_iter([("name".to_owned(), Json::from(name))]))["type"].clone();
        assert_eq!(["page_view", "screen_view", "view_item"].map(name), ["page", "screen", "view_item"]);
    }

    #[test]
    fn what_is_said_of_all_events_is_no_larger_than_an_event_may_be() {
        let body = |agent: usize| json!({"client_id": "c", "user_agent": "x".repeat(agent), "events": [{"name": "a"}]}).to_string();
        let around = |agent: usize| envelope::around(body(agent).as_bytes(), &Envelope::of("events", nameless));
        assert!(around(16_000).is_ok());
        let refused = around(20_000).unwrap_err();
        assert_eq!((refused.code(), refused.to_string().contains("`user_agent`")), ("invalid_body", true));
        let members = |number: usize| (0..number).map(|number| format!("\"k{number}\":0,")).collect::<String>();
        let around = |number: usize| {
            let body = format!("{{{}\"client_id\":\"c\",\"events\":[]}}", members(number));
            envelope::around(body.as_bytes(), &Envelope::of("events", nameless)).map(|around| around.len())
        };
        assert_eq!(around(998).unwrap(), 999);
        let refused = around(999).unwrap_err();
        assert_eq!((refused.code(), refused.to_string().contains("more than 1000 members")), ("too_many_values", true));
    }
}
