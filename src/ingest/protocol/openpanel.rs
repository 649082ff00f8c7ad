//! OpenPanel's `/track`, below an address of its own (`apiUrl` is `…/openpanel`), for Mixpanel's clients call the same path: a call a
//! request. The key is the client's id. A visitor without a profile is known by address and agent for a day, of a server by the address that it
//! says (`__ip`). A profile that stands in an event (`__identify`) is an `identify` of its own.

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

const ENVELOPE: Envelope = Envelope::bare(call);

/// How requests of servers begin to name who sends them: what the SDKs for Python, Go, PHP and Ruby send with. That for Rust names nobody,
/// as no device's does.
const OF_SERVERS: [&str; 4] = ["python-requests/", "Go-http-client/", "GuzzleHttp/", "Faraday v"];

impl Protocol for OpenPanel {
    fn paths(&self) -> &'static [&'static str] {
        &["/openpanel/track"]
    }

    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        let id = head.headers.get("openpanel-client-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        id.map_or_else(|| credential::in_headers(&head.headers), |id| Ok(Some(id.to_owned())))
    }

    fn is_of_server(&self, head: &Head) -> bool {
        let agent = head.agent();
        pulse::is_of_server(head) || agent.is_empty() || OF_SERVERS.iter().any(|server| agent.starts_with(server))
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

/// Reads what [`own`] wrote. A group that is described is nobody, and has its own id.
fn call<'t>(both: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    nameless(both.member("event").unwrap_or(both), draft)?;
    draft.is_of_group = both.member("isGroup").and_then(Value::claim) == Some(true);
    draft.also = both.member("identify").and_then(Value::given).map(|_| identify as _);
    Ok(())
}

/// Reads what a call says of its profile in passing.
fn identify<'t>(both: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    nameless(both.member("identify").unwrap_or(both), draft)
}

/// A call in pulse's own dialect, and beside it what it says of its profile in passing.
fn own(call: &Map<String, Json>) -> Json {
    let kind = call.get("type").and_then(Json::as_str).unwrap_or_default();
    let none = Map::new();
    let payload = call.get("payload").and_then(Json::as_object).unwrap_or(&none);
    let mut said = Said::of(payload);
    let profile = match said.take("__identify") {
        Json::Object(profile) => profile,
        _ => Map::new(),
    };
    // Of the profile alone nothing is said.
    let identify = profile.keys().any(|key| key != "profileId").then(|| {
        let mut passing = Said::of(&profile);
        (passing.device, passing.timestamp, passing.address) = (said.device.clone(), said.timestamp.clone(), said.address.clone());
        passing.event("identify", &profile)
    });
    let (mut event, mut identify) = (said.event(kind, payload), identify.unwrap_or(Json::Null));
    // Either may name the profile for both.
    let named = |own: &Json| own.get("userId").filter(|user| !user.is_null()).cloned();
    let user = named(&event).or_else(|| profile.get("profileId").cloned()).unwrap_or(Json::Null);
    for own in [&mut event, &mut identify] {
        if let Some(own) = own.get_mut("userId").filter(|user| user.is_null()) {
            *own = user.clone();
        }
    }
    json!({"isGroup": kind == "group", "event": event, "identify": identify})
}

/// The properties of a call, and what of them is none.
struct Said {
    properties: Map<String, Json>,
    page: Json,
    device: Json,
    timestamp: Json,
    address: Json,
}

impl Said {
    fn of(payload: &Map<String, Json>) -> Self {
        let properties = match payload.get("properties").cloned().unwrap_or(Json::Null) {
            Json::Object(properties) => properties,
            Json::Null => Map::new(),
            other => Map::from_iter([("properties".to_owned(), other)]),
        };
        let mut said = Self { properties, page: Json::Null, device: Json::Null, timestamp: Json::Null, address: Json::Null };
        said.page = json!({"url": said.take("__path"), "title": said.take("__title"), "referrer": said.take("__referrer")});
        (said.device, said.timestamp, said.address) = (said.take("__deviceId"), said.take("__timestamp"), said.take("__ip"));
        said
    }

    fn take(&mut self, key: &str) -> Json {
        self.properties.remove(key).unwrap_or(Json::Null)
    }

    /// The event of a call of this kind.
    fn event(self, kind: &str, payload: &Map<String, Json>) -> Json {
        let Self { mut properties, page, device, timestamp, address } = self;
        let of = |key: &str| payload.get(key).cloned().unwrap_or(Json::Null);
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
        let is_read = |key: &str| ["profileId", "properties"].contains(&key) || key == "name" && kind == "track";
        for (key, value) in payload.iter().filter(|(key, _)| !is_read(key)) {
            let key = if kind == "group" && key == "id" { "groupId" } else { key.as_str() };
            properties.entry(key).or_insert_with(|| value.clone());
        }
        json!({
            "type": name, "userId": of(if kind == "group" { "id" } else { "profileId" }), "anonymousId": device, "timestamp": timestamp,
            "properties": properties, "context": {"ip": address, "page": page},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{Read, country_of, read};
    use crate::ingest::tests::{SHOP, decoded_as};
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
    fn only_what_says_what_a_group_is_is_nobody() {
        let group = one(r#"{"type":"group","payload":{"id":"g","type":"company","name":"Tea Ltd"}}"#);
        assert_eq!((group.ids(), group.text(Field::Bot).as_str()), (["group", "g", ""].map(str::to_owned), "group"));
        for of_somebody in [r#"{"type":"track","payload":{"name":"group"}}"#, r#"{"type":"assign_group","payload":{"groupIds":["g"]}}"#] {
            let event = one(of_somebody);
            assert_eq!(
                (event.ids()[0].as_str(), event.ids()[2].len(), event.text(Field::Bot).as_str()),
                ("group", 32, ""),
                "{of_somebody}"
            );
        }
    }

    #[test]
    fn an_address_that_a_server_says_is_the_visitors_and_kept_nowhere() {
        let order = r#"{"type":"track","payload":{"name":"order","properties":{"__ip":"203.0.113.7"}}}"#;
        assert_eq!(one(order).properties(), Vec::<String>::new());
        let country = |call: &str| country_of(|intake| envelope::translated(call.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(country(order), "DE");
        assert_eq!(country(&order.replace("203.0.113.7", "192.0.2.1")), "", "not that of the peer");
        let of_server = |call: &str| {
            let take = |intake: &mut Intake<'_>| envelope::translated(call.as_bytes(), &ENVELOPE, own, intake);
            let verdicts = decoded_as(SHOP, |request| request.is_of_server = true, take).unwrap().verdicts;
            (verdicts.accepted, verdicts.rejected.iter().map(|event| event.defect).collect::<Vec<_>>())
        };
        assert_eq!(of_server(order), (1, vec![]));
        let nobody = r#"{"type":"track","payload":{"name":"order"}}"#;
        assert_eq!(of_server(nobody), (0, vec![Defect::UserRequired]), "not all of them as one visitor");
        assert_eq!(of_server(r#"{"type":"group","payload":{"id":"g","type":"company","name":"Tea Ltd"}}"#), (1, vec![]));
    }

    #[test]
    fn a_profile_in_an_event_is_an_identify_of_its_own() {
        let both = r#"{"type":"track","payload":{"name":"order","properties":{"total":1,"__ip":"203.0.113.7",
            "__identify":{"profileId":"ada","email":"a@b.example","properties":{"plan":"pro"}}}}}"#;
        let events = read(|intake| envelope::translated(both.as_bytes(), &ENVELOPE, own, intake));
        let said = events.iter().map(|event| (event.ids(), event.properties())).collect::<Vec<_>>();
        let expected = [("order", vec!["total=1"]), ("identify", vec!["email=a@b.example", "plan=pro"])];
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(said, expected.map(|(name, properties)| ([name, "ada", ""].map(str::to_owned), owned(properties))));
        let beside = both.replace(r#""profileId":"ada","#, "").replace(r#""name":"order","#, r#""name":"order","profileId":"ada","#);
        let events = read(|intake| envelope::translated(beside.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(events.iter().map(|event| event.ids()[1].clone()).collect::<Vec<_>>(), ["ada", "ada"]);
        let alone = one(r#"{"type":"track","payload":{"name":"order","profileId":"bob","properties":{"__identify":{"profileId":"ada"}}}}"#);
        assert_eq!((alone.ids(), alone.properties()), (["order", "bob", ""].map(str::to_owned), vec![]));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for call in [r#"{"type":"replay","payload":{"payload":"x"}}"#, r#"{"type":"track","payload":5}"#, "{}"] {
            let decoded = decoded_as(SHOP, |_| {}, |intake| envelope::translated(call.as_bytes(), &ENVELOPE, own, intake));
            let verdicts = decoded.unwrap().verdicts;
            assert_eq!((verdicts.accepted, verdicts.rejected[0].defect), (0, Defect::EventNameRequired), "{call}");
        }
    }
}
