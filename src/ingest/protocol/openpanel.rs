//! OpenPanel's `/track`, below an address of its own (`apiUrl` is `…/openpanel`), for Mixpanel's clients call the same path: a call a
//! request. The key is the client's id. A visitor without a profile is known by address and agent for a day.

use hyper::{Response, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::umami::nameless;
use super::{Head, Protocol, Received, pulse};
use crate::auth::{AuthError, credential};
use crate::http::respond::{Body, json_response};
use crate::ingest::draft::Draft;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

pub(super) struct OpenPanel;

const ENVELOPE: Envelope = Envelope::of("", call);

impl Protocol for OpenPanel {
    fn paths(&self) -> &'static [&'static str] {
        &["/openpanel/track"]
    }

    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        let id = head.headers.get("openpanel-client-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        id.map_or_else(|| credential::in_headers(&head.headers), |id| Ok(Some(id.to_owned())))
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(request.body, &ENVELOPE, own, intake)
    }

    /// 200 whatever becomes of the event: its SDK sends what is refused three times more, and corrects nothing.
    fn answer(&self, _head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let answer = json!({"ok": verdicts.rejected.is_empty(), "accepted": verdicts.accepted, "rejected": pulse::rejected(verdicts)});
        json_response(StatusCode::OK, answer.to_string().into_bytes())
    }
}

/// Reads a call that is written in pulse's own dialect. A group that is described is of nobody.
fn call<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    nameless(event, draft)?;
    draft.is_of_group = draft.user_id.is_none() && draft.name.and_then(Value::text) == Some("group");
    Ok(())
}

/// A call in pulse's own dialect.
fn own(call: &Map<String, Json>) -> Json {
    let kind = call.get("type").and_then(Json::as_str).unwrap_or_default();
    let none = Map::new();
    let payload = call.get("payload").and_then(Json::as_object).unwrap_or(&none);
    let of = |key: &str| payload.get(key).cloned().unwrap_or(Json::Null);
    let mut properties = match of("properties") {
        Json::Object(properties) => properties,
        Json::Null => Map::new(),
        other => Map::from_iter([("properties".to_owned(), other)]),
    };
    let mut take = |key: &str| properties.remove(key).unwrap_or(Json::Null);
    let page = json!({"url": take("__path"), "title": take("__title"), "referrer": take("__referrer")});
    let (device, timestamp, address) = (take("__deviceId"), take("__timestamp"), take("__ip"));
    if let Some(revenue) = properties.remove("__revenue") {
        properties.entry("revenue").or_insert(revenue);
    }
    let name = match kind {
        "track" => match of("name") {
            Json::String(name) if name == "screen_view" => Json::from("page"),
            name => name,
        },
        "assign_group" => Json::from("group"),
        // Recordings of pages are no events.
        "" | "replay" => Json::Null,
        kind => Json::from(kind),
    };
    // What stands beside them: names of a person or a group, what a counter is raised by.
    let beside =
        payload.iter().filter(|(key, _)| !["name", "profileId", "properties"].contains(&key.as_str()) || *key == "name" && kind != "track");
    for (key, value) in beside {
        let key = if kind == "group" && key == "id" { "groupId" } else { key.as_str() };
        properties.entry(key).or_insert_with(|| value.clone());
    }
    json!({
        "type": name, "userId": of("profileId"), "anonymousId": device, "timestamp": timestamp, "properties": properties,
        "context": {"ip": address, "page": page},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{Read, read};
    use crate::outcome::Defect;

    fn one(call: &str) -> Read {
        let mut events = read(|intake| envelope::translated(call.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(events.len(), 1, "{call}");
        events.remove(0)
    }

    #[test]
    fn events_are_of_their_profile_or_of_who_has_the_address() {
        let event = one(r#"{"type":"track","payload":{"name":"order","profileId":"ada","groups":["g"],"properties":{"total":12.5}}}"#);
        assert_eq!(event.ids(), ["order", "ada", ""]);
        assert_eq!(event.properties(), [r#"groups=["g"]"#, "total=12.5"]);
        let page = r#"{"type":"track","payload":{"name":"screen_view","properties":{
            "__path":"https://a.example/x?utm_source=n","__title":"A","__referrer":"https://b.example/","__deviceId":null}}}"#;
        let event = one(page);
        assert_eq!([&event.ids()[0], &event.ids()[1]], ["page", ""]);
        assert_eq!((event.ids()[2].len(), event.ids()), (32, one(page).ids()));
        let fields = [Field::PageUrl, Field::PageTitle, Field::Referrer].map(|field| event.text(field));
        assert_eq!(fields, ["https://a.example/x?utm_source=n", "A", "https://b.example/"]);
        assert_eq!(event.properties(), Vec::<String>::new());
        let revenue = one(r#"{"type":"track","payload":{"name":"revenue","properties":{"__deviceId":"d","__revenue":5}}}"#);
        assert_eq!((revenue.ids(), revenue.properties()), (["revenue", "", "d"].map(str::to_owned), vec!["revenue=5".to_owned()]));
    }

    #[test]
    fn other_calls_are_events_of_their_names() {
        let identify = one(r#"{"type":"identify","payload":{"profileId":"ada","email":"a@b.example","properties":{"plan":"pro"}}}"#);
        assert_eq!(identify.ids(), ["identify", "ada", ""]);
        assert_eq!(identify.properties(), ["email=a@b.example", "plan=pro"]);
        let raised = one(r#"{"type":"increment","payload":{"profileId":"ada","property":"visits","value":2}}"#);
        assert_eq!(
            (raised.ids()[0].as_str(), raised.properties()),
            ("increment", vec!["property=visits".to_owned(), "value=2".to_owned()])
        );
        let group = one(r#"{"type":"group","payload":{"id":"g","type":"company","name":"Tea Ltd","properties":{"seats":5}}}"#);
        assert_eq!(group.properties(), ["groupId=g", "name=Tea Ltd", "seats=5", "type=company"]);
        assert_eq!((group.ids()[0].as_str(), group.text(Field::Bot).as_str()), ("group", "group"));
        let joined = one(r#"{"type":"assign_group","payload":{"profileId":"ada","groupIds":["g"]}}"#);
        assert_eq!((joined.ids(), joined.text(Field::Bot).as_str()), (["group", "ada", ""].map(str::to_owned), ""));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for call in [r#"{"type":"replay","payload":{"payload":"x"}}"#, r#"{"type":"track","payload":5}"#, "{}"] {
            let decoded = crate::ingest::tests::decoded_as(
                crate::ingest::tests::SHOP,
                |_| {},
                |intake| envelope::translated(call.as_bytes(), &ENVELOPE, own, intake),
            );
            let verdicts = decoded.unwrap().verdicts;
            assert_eq!((verdicts.accepted, verdicts.rejected[0].defect), (0, Defect::EventNameRequired), "{call}");
        }
    }
}
