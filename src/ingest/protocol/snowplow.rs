//! Snowplow's trackers: `POST …/tp2` with events whose values are all text, and `GET /i` with one in the address.
//!
//! The key is the application's id (`aid`). A page view becomes `page`, a structured event its action, a self-describing event the name of
//! its schema with its data as properties. Trackers for apps say visitor, session, device and application in entities, whose members are then no
//! properties. Somebody whom a tracker does not name, as it is told to, is known by address and agent for a day. An answer other than 200 is 400 where a tracker would keep the events and send them before
//! all later ones for ever (413), else what makes it try again.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::pixel::Pixel;
use super::{Head, Protocol, Received, pulse};
use crate::http::respond::{ApiError, Body};
use crate::ingest::draft::Draft;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::json_bounds;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

pub(super) struct Snowplow;

/// The id of all visitors of an app that is told to name none.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

const ENVELOPE: Envelope = Envelope { key_of: Some(application), ..Envelope::of("data", read) };

impl Protocol for Snowplow {
    fn paths(&self) -> &'static [&'static str] {
        &["/com.snowplowanalytics.snowplow/tp2"]
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    fn has_cookies(&self) -> bool {
        true
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(request.body, &ENVELOPE, own, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"ok": true}))
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        let is_poison = error.status == StatusCode::PAYLOAD_TOO_LARGE;
        let status = if is_poison { StatusCode::BAD_REQUEST } else { error.status };
        ApiError { status, ..error }.into_response(&head.request_id)
    }
}

/// The image that trackers ask for, whose address is the event.
pub(super) struct Image;

impl Protocol for Image {
    fn paths(&self) -> &'static [&'static str] {
        &["/i"]
    }

    fn methods(&self) -> &'static [Method] {
        Pixel.methods()
    }

    /// In the event that the address is.
    fn has_key_in_body(&self) -> bool {
        true
    }

    fn has_cookies(&self) -> bool {
        true
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(&in_address(request.head.query()), &ENVELOPE, own, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        Pixel.answer(head, verdicts)
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        Pixel.refuse(error, head)
    }
}

fn application(event: Value<'_>) -> Option<&str> {
    event.member("aid")?.text()
}

/// The event of an address, as one that is posted; nothing of no parameters.
fn in_address(query: &str) -> Vec<u8> {
    let event: Map<String, Json> =
        url::form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into())).collect();
    if event.is_empty() { Vec::new() } else { Json::Object(event).to_string().into_bytes() }
}

/// Reads what [`own`] wrote: a server's visitors are not at its address.
fn read<'t>(both: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.has_numeric_ids = true;
    draft.is_of_server |= both.member("platform").and_then(Value::text) == Some("srv");
    draft.is_named_by_address = !draft.is_of_server;
    pulse::event(both.member("event").unwrap_or(both), draft)
}

/// An event in pulse's own dialect, and beside it the platform that it is of.
fn own(event: &Map<String, Json>) -> Json {
    let of = |key: &str| event.get(key).cloned().unwrap_or(Json::Null);
    let (name, mut properties) = what(event);
    for (key, name) in [("pp_mix", "min_x"), ("pp_max", "max_x"), ("pp_miy", "min_y"), ("pp_may", "max_y")] {
        number(event, key, name, &mut properties);
    }
    // What cannot be read is kept as it came.
    let contexts = described(event, "co", "cx").or_else(|| event.get("co").or_else(|| event.get("cx")).cloned());
    let mut entities = Entities(contexts);
    let named = first([of("duid"), of("nuid"), of("tnuid")]);
    let visitor = if named.is_null() { entities.take("client_session", "userId") } else { named };
    let session = if of("sid").is_null() { entities.take("client_session", "sessionId") } else { of("sid") };
    let context = entities.context();
    properties.extend(entities.0.map(|contexts| ("contexts".to_owned(), contexts)));
    let side = |key: &str, nth: usize| of(key).as_str().and_then(|size| size.split('x').nth(nth)).map_or(Json::Null, Json::from);
    let mut own = json!({
        "eventId": of("eid"), "type": name, "userId": of("uid"), "anonymousId": if visitor == NOBODY { Json::Null } else { visitor }, "sessionId": session,
        "timestamp": first([of("ttm"), of("dtm")]), "sentAt": of("stm"), "properties": properties,
        "context": {
            "ip": of("ip"), "locale": of("lang"), "timezone": of("tz"), "userAgent": of("ua"),
            "page": {"url": of("url"), "title": of("page"), "referrer": of("refr")},
            "screen": {"width": side("res", 0), "height": side("res", 1)},
        },
    });
    if let Some(all) = own["context"].as_object_mut() {
        all.extend(context);
    }
    json!({"platform": of("p"), "event": own})
}

/// What stands around an event: a list of descriptions, each of one thing.
struct Entities(Option<Json>);

impl Entities {
    /// Takes a text or a number out of one of Snowplow's own entities, which goes with its last member.
    fn take(&mut self, entity: &str, member: &str) -> Json {
        let is_named = |of: &Json| of.get("schema").and_then(Json::as_str).is_some_and(|schema| is_of_snowplow(schema, entity));
        let list = self.0.as_mut().and_then(|contexts| contexts.get_mut("data")).and_then(Json::as_array_mut);
        let Some(list) = list else { return Json::Null };
        let Some(at) = list.iter().position(is_named) else { return Json::Null };
        let Some(said) = list.get_mut(at).and_then(|of| of.get_mut("data")).and_then(Json::as_object_mut) else { return Json::Null };
        if !said.get(member).is_some_and(|value| value.is_string() || value.is_number()) {
            return Json::Null;
        }
        let value = said.remove(member).unwrap_or(Json::Null);
        if said.is_empty() {
            list.remove(at);
        }
        if list.is_empty() {
            self.0 = None;
        }
        value
    }

    /// Device, system and application, as far as they are said.
    fn context(&mut self) -> Map<String, Json> {
        let mut context = Map::new();
        for (entity, member, [group, key]) in [
            ("mobile_context", "osType", ["os", "name"]),
            ("mobile_context", "osVersion", ["os", "version"]),
            ("mobile_context", "deviceManufacturer", ["device", "manufacturer"]),
            ("mobile_context", "deviceModel", ["device", "model"]),
            ("application", "version", ["app", "version"]),
            ("application", "build", ["app", "build"]),
        ] {
            let value = self.take(entity, member);
            if value.is_null() {
                continue;
            }
            if member == "osType" {
                // The platform is the kind of device, too.
                put(&mut context, ["device", "type"], value.clone());
            }
            let is_tablet = member == "deviceModel" && value.as_str().is_some_and(|model| model.starts_with("iPad"));
            if is_tablet {
                put(&mut context, ["device", "type"], "tablet".into());
            }
            put(&mut context, [group, key], if member == "osType" { system(value) } else { value });
        }
        context
    }
}

fn put(context: &mut Map<String, Json>, [group, key]: [&str; 2], value: Json) {
    if let Some(group) = context.entry(group).or_insert_with(|| json!({})).as_object_mut() {
        group.insert(key.to_owned(), value);
    }
}

/// Whether it is Snowplow's own schema of this name, `iglu:vendor/name/format/version`, and not another's.
fn is_of_snowplow(schema: &str, name: &str) -> bool {
    let mut parts = schema.split('/');
    let vendor = parts.next().unwrap_or_default();
    vendor.starts_with("iglu:com.snowplowanalytics.") && parts.next() == Some(name)
}

/// A system in the word of agents.
fn system(said: Json) -> Json {
    match said.as_str().unwrap_or_default() {
        "ios" => "iOS".into(),
        "android" => "Android".into(),
        "tvos" => "tvOS".into(),
        "watchos" => "watchOS".into(),
        "macos" | "osx" => "Mac OS X".into(),
        _ => said,
    }
}

fn first<const N: usize>(values: [Json; N]) -> Json {
    values.into_iter().find(|value| !value.is_null()).unwrap_or(Json::Null)
}

/// The name of an event and its properties.
fn what(event: &Map<String, Json>) -> (Json, Map<String, Json>) {
    let mut properties = Map::new();
    let kind = event.get("e").and_then(Json::as_str).unwrap_or_default();
    let name = match kind {
        "pv" => Json::from("page"),
        "pp" => Json::from("page_ping"),
        "se" => {
            for (key, name) in [("se_ca", "category"), ("se_la", "label"), ("se_pr", "property")] {
                if let Some(value) = event.get(key) {
                    properties.insert(name.to_owned(), value.clone());
                }
            }
            number(event, "se_va", "value", &mut properties);
            event.get("se_ac").cloned().unwrap_or(Json::Null)
        }
        "ue" => return self_described(event),
        "tr" => Json::from("transaction"),
        "ti" => Json::from("transaction_item"),
        _ => event.get("e").cloned().unwrap_or(Json::Null),
    };
    if let ("tr" | "ti", prefix) = (kind, format!("{kind}_")) {
        properties.extend(event.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, value)| (key.clone(), value.clone())));
        for sum in ["tr_tt", "tr_tx", "tr_sh", "ti_pr", "ti_qu"] {
            number(event, sum, sum, &mut properties);
        }
    }
    (name, properties)
}

fn number(event: &Map<String, Json>, key: &str, name: &str, properties: &mut Map<String, Json>) {
    let Some(value) = event.get(key) else { return };
    let number = value.as_str().and_then(|text| text.parse::<f64>().ok()).map(Json::from);
    properties.insert(name.to_owned(), number.unwrap_or_else(|| value.clone()));
}

/// A self-describing event: `{schema, data: {schema, data}}`. One that cannot be read has no name.
fn self_described(event: &Map<String, Json>) -> (Json, Map<String, Json>) {
    let Some(outer) = described(event, "ue_pr", "ue_px") else { return (Json::Null, Map::new()) };
    let inner = outer.get("data");
    // `iglu:vendor/name/format/version`
    let schema = inner.and_then(|inner| inner.get("schema")).and_then(Json::as_str);
    let name = schema.and_then(|schema| schema.split('/').nth(1)).map_or(Json::Null, Json::from);
    let properties = match inner.and_then(|inner| inner.get("data")) {
        Some(Json::Object(properties)) => properties.clone(),
        None | Some(Json::Null) => Map::new(),
        Some(other) => Map::from_iter([("data".to_owned(), other.clone())]),
    };
    (name, properties)
}

/// JSON in a text, bare in one member or in base64 in another.
fn described(event: &Map<String, Json>, bare: &str, encoded: &str) -> Option<Json> {
    if let Some(text) = event.get(bare).and_then(Json::as_str) {
        return json_bounds::is_bounded(text.as_bytes()).then(|| serde_json::from_str(text).ok()).flatten();
    }
    let text = event.get(encoded)?.as_str()?.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    json_bounds::is_bounded(&bytes).then(|| serde_json::from_slice(&bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{Read, country_of, key_of, read as read_events};
    use crate::ingest::tests::{SHOP, decoded_as};

    fn one(event: &str) -> Read {
        let body = format!(r#"{{"schema":"iglu:x","data":[{event}]}}"#);
        let mut events = read_events(|intake| envelope::translated(body.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(events.len(), 1, "{event}");
        events.remove(0)
    }

    #[test]
    fn a_page_view_is_a_page() {
        let event = one(
            r#"{"e":"pv","eid":"7a4dc254-f6a7-4cdd-b227-b7cfd9479a27","aid":"k","duid":"d","sid":"s","uid":"ada","dtm":"1789999990000","url":"https://a.example/",
            "page":"A","res":"1280x720","lang":"de-DE","co":"{\"schema\":\"x\",\"data\":[]}","p":"web"}"#,
        );
        assert_eq!(event.ids(), ["page", "ada", "d"]);
        assert_eq!(event.at_ms, 1_789_999_990_000);
        let fields = [Field::PageUrl, Field::PageTitle, Field::Locale, Field::ClientSession].map(|field| event.text(field));
        assert_eq!(fields, ["https://a.example/", "A", "de-DE", "s"]);
        assert_eq!(event.properties(), ["contexts.data=[]", "contexts.schema=x"]);
        assert_eq!(one(r#"{"e":"pv","duid":"d","uid":7,"url":"https://a.example/"}"#).ids(), ["page", "7", "d"]);
    }

    #[test]
    fn a_self_describing_event_is_called_as_its_schema() {
        let data = r#"{"schema":"iglu:u","data":{"schema":"iglu:com.example/order/jsonschema/1-0-0","data":{"total":12.5}}}"#;
        let bare = one(&format!(r#"{{"e":"ue","uid":"ada","ue_pr":{}}}"#, Json::from(data)));
        let encoded = one(&format!(r#"{{"e":"ue","uid":"ada","ue_px":"{}"}}"#, URL_SAFE_NO_PAD.encode(data)));
        for event in [bare, encoded] {
            assert_eq!((event.ids(), event.properties()), (["order", "ada", ""].map(str::to_owned), vec!["total=12.5".to_owned()]));
        }
        let structured = one(r#"{"e":"se","uid":"ada","se_ca":"shop","se_ac":"buy","se_va":"2.50"}"#);
        assert_eq!(
            (structured.ids()[0].as_str(), structured.properties()),
            ("buy", vec!["category=shop".to_owned(), "value=2.5".to_owned()])
        );
    }

    #[test]
    fn who_is_not_named_is_known_by_the_address_unless_a_server_sends_it() {
        let anonymous = one(r#"{"e":"pv","p":"web","url":"https://a.example/"}"#);
        assert_eq!((anonymous.ids()[0].as_str(), anonymous.ids()[1].as_str(), anonymous.ids()[2].len()), ("page", "", 32));
        assert_eq!(anonymous.properties(), Vec::<String>::new());
        let country = |event: &str| country_of(|intake| envelope::translated(event.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(country(r#"{"e":"pv","p":"web","uid":"ada"}"#), "DE");
        assert_eq!(country(r#"{"e":"pv","p":"srv","uid":"ada"}"#), "");
        assert_eq!(country(r#"{"e":"pv","p":"srv","uid":"ada","ip":"203.0.113.7"}"#), "DE");
        let nobody = decoded_as(SHOP, |_| {}, |intake| envelope::translated(br#"{"e":"pv","p":"srv"}"#, &ENVELOPE, own, intake)).unwrap();
        assert_eq!(nobody.verdicts.rejected.iter().map(|event| event.defect.as_str()).collect::<Vec<_>>(), ["user_required"]);
    }

    #[test]
    fn apps_say_who_and_on_what_in_entities() {
        let of = |visitor: &str, more: &str| {
            let entities = json!({"schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", "data": [
                {"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2", "data": {"userId": visitor, "sessionId": "s-1"}},
                {"schema": "iglu:com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
                    "data": {"osType": "ios", "osVersion": "17.5", "deviceManufacturer": "Apple", "deviceModel": "iPhone15,2", "carrier": "c"}},
                {"schema": "iglu:com.snowplowanalytics.mobile/application/jsonschema/1-0-0", "data": {"version": "2.1", "build": "210"}},
                {"schema": "iglu:com.example/application/jsonschema/1-0-0", "data": {"version": "9"}},
            ]});
            one(&format!(r#"{{"e":"pv","p":"mob"{more},"co":{}}}"#, Json::from(entities.to_string())))
        };
        let phone = of("phone-1", "");
        assert_eq!(phone.ids(), ["page", "", "phone-1"]);
        let fields = [
            Field::ClientSession,
            Field::Os,
            Field::OsVersion,
            Field::DeviceType,
            Field::DeviceManufacturer,
            Field::DeviceModel,
            Field::AppVersion,
            Field::AppBuild,
        ];
        assert_eq!(fields.map(|field| phone.text(field)), ["s-1", "iOS", "17.5", "mobile", "Apple", "iPhone15,2", "2.1", "210"]);
        let kept = phone.properties().join(" ");
        assert!(kept.contains("carrier") && kept.contains("com.example/application"), "{kept}");
        assert!(!kept.contains("phone-1") && !kept.contains("client_session") && !kept.contains("iPhone"), "{kept}");
        // What the event itself says comes first.
        let named = of("phone-1", r#","duid":"d","sid":"s-0""#);
        assert_eq!((named.ids()[2].as_str(), named.text(Field::ClientSession).as_str()), ("d", "s-0"));
        // That of all who are not to be named.
        let nobody = of(NOBODY, "");
        assert_eq!((nobody.ids()[1].as_str(), nobody.ids()[2].len()), ("", 32));
    }

    #[test]
    fn of_entities_of_which_all_is_read_nothing_stays() {
        let session = r#"{"schema":"iglu:x","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2","data":{"userId":"p"}}]}"#;
        let event = one(&format!(r#"{{"e":"pv","p":"mob","co":{}}}"#, Json::from(session)));
        assert_eq!((event.ids()[2].as_str(), event.properties()), ("p", Vec::new()));
        for odd in ["5", "[]", r#"{"data":5}"#, r#"{"data":[5,{"schema":7,"data":{}}]}"#] {
            assert_eq!(one(&format!(r#"{{"e":"pv","duid":"d","co":{}}}"#, Json::from(odd))).ids()[2], "d", "{odd}");
        }
    }

    #[test]
    fn what_is_read_is_warned_of_by_nobody() {
        let page = br#"{"e":"pv","p":"web","uid":"ada","url":"https://a.example/"}"#;
        let decoded = decoded_as(SHOP, |_| {}, |intake| envelope::translated(page, &ENVELOPE, own, intake)).unwrap();
        assert_eq!((decoded.verdicts.accepted, decoded.verdicts.warnings.list().count()), (1, 0));
    }

    #[test]
    fn an_address_is_an_event() {
        let address = in_address("e=se&uid=ada&aid=k&se_ca=shop&se_ac=buy+it&se_va=2.50&stm=1789999990000&dtm=1789999990000");
        let event = read_events(|intake| envelope::translated(&address, &ENVELOPE, own, intake)).remove(0);
        assert_eq!(
            (event.ids(), event.properties()),
            (["buy it", "ada", ""].map(str::to_owned), vec!["category=shop".to_owned(), "value=2.5".to_owned()])
        );
        assert_eq!(in_address(""), b"");
    }

    #[test]
    fn the_key_is_the_application() {
        let of = |events: &str| key_of(|intake| envelope::translated(format!("[{events}]").as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(of(r#"{"e":"pv","aid":"k"},{"e":"pv"}"#), Ok(Some("k".to_owned())));
        assert_eq!(of(r#"{"e":"pv","aid":"k"},{"e":"pv","aid":"l"}"#), Err(Refusal::SeveralKeys));
    }
}
