//! Amplitude's HTTP API V2. `$identify` and `$groupidentify` become `identify` and `group`; other names lose their `$`, and what an
//! event says of its user in passing is an `identify` of its own.
//!
//! Its SDKs read the answer's `code`, a number. They send a whole batch again unless the answer names those events that were refused;
//! so it does where a copy of the others is known by its id, and else says 200, with the refused ones beside it.

use std::collections::BTreeMap;

use hyper::{Response, StatusCode};
use serde_json::{Value as Json, json};

use super::flat::{self, Source};
use super::{Batch, Head, LARGEST_BATCH, Protocol, Received, pulse};
use crate::event::field::Field;
use crate::http::respond::{ApiError, Body, json_response, retry_later};
use crate::ingest::draft::{Draft, FactKind, Scope};
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::Defect;

pub(super) struct Amplitude;

const ENVELOPE: Envelope = Envelope { sent_at: Some("client_upload_time"), keys: &["api_key"], ..Envelope::of("events", event) };

impl Protocol for Amplitude {
    fn paths(&self) -> &'static [&'static str] {
        &["/2/httpapi", "/2/httpapi/"]
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    fn finds_gzip(&self) -> bool {
        true
    }

    fn batch_of_clients(&self) -> Batch {
        LARGEST_BATCH
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::json(request.body, &ENVELOPE, intake)
    }

    fn answer(&self, _head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let rejected = pulse::rejected(verdicts);
        let is_safe_to_repeat = verdicts.without_id.is_empty();
        if rejected.is_empty() || verdicts.accepted > 0 && !is_safe_to_repeat {
            let answer = json!({"code": 200, "events_ingested": verdicts.accepted, "rejected": rejected});
            return json_response(StatusCode::OK, answer.to_string().into());
        }
        let mut by_field: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for event in &verdicts.rejected {
            by_field.entry(event.field.as_str()).or_default().push(event.index);
        }
        let message = verdicts.rejected.first().map_or("", |first| &first.message);
        let answer = json!({
            "code": 400, "error": message, "message": message, "detail": message, "events_with_invalid_fields": by_field,
            "events_with_missing_fields": {}, "silenced_events": [], "rejected": rejected,
        });
        json_response(StatusCode::BAD_REQUEST, answer.to_string().into())
    }

    /// What is refused for ever says that a field is missing: the SDKs then let go of it.
    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        let ApiError { status, code, message, retry_after } = error;
        let text = if code.ends_with("key") { format!("Invalid API key: {message}") } else { message };
        let mut answer = json!({"code": status.as_u16(), "error": text, "message": text, "detail": code, "requestId": head.request_id});
        if status.is_client_error()
            && !matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        {
            answer["missing_field"] = Json::from(code);
        }
        retry_later(json_response(status, answer.to_string().into()), retry_after)
    }
}

/// Reads an event.
pub(super) fn event<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    let said = members(event, draft, true)?;
    if let Some(properties) = draft.properties {
        flat::note(properties, Source::Page, draft);
        draft.leaves_out = |key| key != "$ip" && flat::is_noted(key);
        if properties.member(flat::AMPLITUDE_LOCATION).is_some() {
            // Of a page: where its visitor is from stands there under plain names.
            if let Some(referrer) = properties.member("referrer").filter(|referrer| !referrer.is_null()) {
                draft.note(FactKind::Of(Field::Referrer), referrer, Scope::Event);
            }
            draft.leaves_out = |key| matches!(key, "referrer" | "referring_domain") || key != "$ip" && flat::is_noted(key);
        }
    }
    draft.note_property("groups", said.groups);
    match draft.name.and_then(Value::text) {
        Some("$identify") => operations(said.of_user, draft),
        Some(flat::GROUP) => {
            draft.is_of_group = true;
            operations(said.of_group, draft);
        }
        _ => draft.also = said.of_user.filter(|traits| traits.members().next().is_some()).map(|_| traits as _),
    }
    draft.called = draft.name.and_then(Value::text).map(flat::name);
    Ok(())
}

/// Reads what an event says of its user in passing.
fn traits<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    let said = members(event, draft, false)?;
    operations(said.of_user, draft);
    draft.called = Some("identify");
    draft.is_other = true;
    Ok(())
}

/// Of properties of a user or a group those that are set are what is said; other operations are kept under their names.
fn operations<'t>(properties: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    let set = properties.and_then(|properties| properties.member("$set"));
    draft.properties = set.or(properties);
    draft.leaves_out = |_| false;
    if set.is_some() {
        for name in ["$setOnce", "$add", "$append", "$prepend", "$unset", "$preInsert", "$postInsert", "$remove"] {
            draft.note_property(name, properties.and_then(|properties| properties.member(name)));
        }
    }
}

/// What an event says besides what happened.
#[derive(Default)]
struct Said<'t> {
    of_user: Option<Value<'t>>,
    of_group: Option<Value<'t>>,
    groups: Option<Value<'t>>,
}

/// Reads the members of an event, with the circumstances or without.
fn members<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>, is_whole: bool) -> Result<Said<'t>, Rejection> {
    if !event.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    let mut said = Said::default();
    let is_page = is_whole && is_of_page(event);
    draft.has_numeric_ids = true;
    draft.is_of_server = true;
    for (key, value) in event.members() {
        let Some(value) = value.given() else { continue };
        match key {
            "event_type" => draft.name = Some(value),
            "insert_id" => draft.event_id = Some(value),
            "user_id" => draft.user_id = Some(value),
            "device_id" => draft.anonymous_id = Some(value),
            // What is outside of any session is in number -1.
            "session_id" => draft.session_id = Some(value).filter(|id| id.number() != Some(-1.0)),
            "time" => draft.timestamp = Some(value),
            "event_properties" => draft.properties = Some(value),
            "user_properties" => said.of_user = Some(value),
            "group_properties" => said.of_group = Some(value),
            "groups" => said.groups = Some(value),
            // The SDKs of pages and apps ask for the peer's address.
            "ip" if value.text() == Some("$remote") => draft.is_of_server = false,
            "ip" => draft.address = Some(value),
            // Of a page the SDK calls the browser its system, and the system its device; the agent says both as for all clients.
            "os_name" | "os_version" | "device_model" if is_page => {}
            _ if is_whole => circumstance(key, value, draft),
            _ => {}
        }
    }
    Ok(said)
}

/// Whether a page sends it: a server that speaks of one knows what it says.
fn is_of_page(event: Value<'_>) -> bool {
    let text = |key: &str| event.member(key).and_then(Value::text);
    let has_agent = || text("ip") == Some("$remote") || text("user_agent").is_some();
    text("platform") == Some("Web") && (has_agent() || text("library").is_some_and(|library| library.starts_with("amplitude-ts/")))
}

fn circumstance<'t>(key: &str, value: Value<'t>, draft: &mut Draft<'t, '_>) {
    let field = match key {
        "app_version" | "version_name" => Field::AppVersion,
        "os_name" => Field::Os,
        "os_version" => Field::OsVersion,
        "device_model" => Field::DeviceModel,
        "device_manufacturer" | "device_brand" => Field::DeviceManufacturer,
        "language" => Field::Locale,
        "user_agent" => Field::UserAgent,
        "price" => return draft.note_property("price", Some(value)),
        "quantity" => return draft.note_property("quantity", Some(value)),
        "revenue" => return draft.note_property("revenue", Some(value)),
        "productId" => return draft.note_property("productId", Some(value)),
        "revenueType" => return draft.note_property("revenueType", Some(value)),
        "platform" => return draft.note_property("platform", Some(value)),
        // What the SDK says of itself.
        "library" => return,
        _ => return draft.pass_over(key),
    };
    draft.note(FactKind::Of(field), value, Scope::Event);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::read::{Read, read};

    fn stored(events: &str) -> Vec<Read> {
        read(|intake| envelope::json(format!(r#"{{"api_key":"k","events":[{events}]}}"#).as_bytes(), &ENVELOPE, intake))
    }

    #[test]
    fn an_event_is_its_users_and_its_devices() {
        let events = stored(
            r#"{"event_type":"order","user_id":"ada","device_id":"d","insert_id":"i","time":1789999990000,"session_id":-1,"os_name":"iOS",
            "ip":"$remote","event_properties":{"total":12.5,"[Amplitude] Page URL":"https://a.example/"},"groups":{"team":"x"},"revenue":3}"#,
        );
        assert_eq!((events.len(), events[0].at_ms), (1, 1_789_999_990_000));
        assert_eq!(events[0].ids(), ["order", "ada", "d"]);
        assert_eq!(events[0].properties(), ["groups.team=x", "revenue=3", "total=12.5"]);
        let fields = [Field::Os, Field::PageUrl, Field::ClientSession].map(|field| events[0].text(field));
        assert_eq!(fields, ["iOS", "https://a.example/", ""]);
    }

    #[test]
    fn a_browser_is_no_system() {
        let of = |more: &str| {
            let event = format!(
                r#"{{"event_type":"order","user_id":"ada","insert_id":"i","os_name":"Chrome","os_version":"120","device_model":"Windows",
                "device_manufacturer":"Dell","platform":"Web"{more}}}"#
            );
            [Field::Os, Field::OsVersion, Field::DeviceModel, Field::DeviceManufacturer].map(|field| stored(&event)[0].text(field))
        };
        for page in [r#","ip":"$remote""#, r#","user_agent":"Mozilla/5.0""#, r#","library":"amplitude-ts/1.13.0""#] {
            assert_eq!(of(page), ["", "", "", "Dell"], "{page}");
        }
        assert_eq!(of(""), ["Chrome", "120", "Windows", "Dell"], "what a server says is what it means");
    }

    #[test]
    fn what_is_set_of_a_user_are_traits() {
        let events = stored(
            r#"{"event_type":"$identify","user_id":"ada","insert_id":"i","user_properties":{"$set":{"team":"blue"},"$add":{"n":1}}},
            {"event_type":"order","user_id":"ada","insert_id":"j","user_properties":{"plan":"pro"}},
            {"event_type":"$groupidentify","user_id":"ada","insert_id":"k","groups":{"team":"x"},"group_properties":{"$set":{"seats":5}}}"#,
        );
        let names: Vec<String> = events.iter().map(|event| event.ids()[0].clone()).collect();
        assert_eq!(names, ["identify", "order", "identify", "group"]);
        assert_eq!(events[0].properties(), ["$add.n=1", "team=blue"]);
        assert_eq!(events[2].properties(), ["plan=pro"]);
        assert_eq!(events[3].properties(), ["groups.team=x", "seats=5"]);
        assert_eq!([0, 1, 2, 3].map(|nth: usize| events[nth].text(Field::Bot)), ["", "", "", "group"], "a group is nobody");
    }
}
