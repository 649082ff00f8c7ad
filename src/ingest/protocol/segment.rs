//! Segment's HTTP API, which its SDKs and RudderStack's speak: `POST /v1/batch`, and one path for each kind of call.
//!
//! `track` becomes an event of the call's own name; any other call one that is called as its kind (`page`, `screen`, `identify`, `group`,
//! `alias`), with its `traits` as properties where it has no others. The answer is 200 once anything was accepted, because no SDK
//! corrects an event and sends it again; what was refused is in it. The SDKs for browsers ask for their settings first.

use hyper::header;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value as Json, json};

use super::{Batch, Head, LARGEST_BATCH, Protocol, Received, pulse};
use crate::auth::{AuthError, credential};
use crate::event::field::Field;
use crate::http::respond::{Body, json_response};
use crate::ingest::draft::{Draft, FactKind, ReadEvent, Scope};
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::Defect;

pub(super) struct Segment;

/// A call by itself holds its key, too. The SDK for Go says once around a batch what is true of all its calls.
pub(super) const ENVELOPE: Envelope =
    Envelope { sent_at: Some("sentAt"), context: Some("context"), keys: &["writeKey"], ..Envelope::of("batch", call) };

/// What SDKs for servers call themselves: the address of their requests is no visitor's.
const OF_SERVERS: [&str; 11] = [
    "@segment/analytics-node",
    "@rudderstack/rudder-sdk-node",
    "analytics-node",
    "analytics-python",
    "rudder-analytics-python",
    "analytics-go",
    "analytics-ruby",
    "analytics-php",
    "rudder-analytics-php",
    "analytics-java",
    "Analytics.NET",
];

/// Where RudderStack's SDK for browsers sends what is left when a page is.
const BEACON: &str = "/beacon/v1/batch";

/// Kinds of calls that are named by their path where they do not say it themselves.
const KINDS: [&str; 5] = ["page", "screen", "identify", "group", "alias"];

impl Protocol for Segment {
    fn paths(&self) -> &'static [&'static str] {
        &[
            "/v1/batch",
            "/v1/b",
            "/v1/track",
            "/v1/t",
            "/v1/page",
            "/v1/p",
            "/v1/screen",
            "/v1/s",
            "/v1/identify",
            "/v1/i",
            "/v1/group",
            "/v1/g",
            "/v1/alias",
            "/v1/a",
            // Of the SDK for Java; that for Ruby asks for the path without the slash, which is `Import`'s.
            "/v1/import/",
            BEACON,
        ]
    }

    /// In the headers; of a beacon, which has none of its own, in the address.
    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        let in_address = || credential::in_query(head.query(), "writeKey").filter(|_| head.uri.path() == BEACON);
        Ok(credential::in_headers(&head.headers)?.or_else(in_address))
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    fn batch_of_clients(&self) -> Batch {
        LARGEST_BATCH
    }

    /// Always JSON, whatever its content-type says: RudderStack's SDK for Node.js calls it a form, a beacon calls it text.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let envelope = Envelope { read: reader(request.head.uri.path()), ..ENVELOPE };
        envelope::json(request.body, &envelope, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"success": true}))
    }
}

/// What the SDKs for browsers ask before they send.
pub(super) struct Settings;

impl Protocol for Settings {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/projects/{key}/settings", "/sourceConfig", "/sourceConfig/"]
    }

    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::GET];
        METHODS
    }

    fn settings(&self, head: &Head) -> Option<Response<Body>> {
        let path = head.uri.path();
        let settings = match path.strip_prefix("/v1/projects/") {
            Some(rest) => segments(rest.trim_end_matches("/settings"), head),
            None => rudderstacks(&credential::in_query(head.query(), "writeKey").unwrap_or_default()),
        };
        Some(json_response(StatusCode::OK, settings.to_string().into_bytes()))
    }

    fn events(&self, _request: &Received<'_>, _intake: &mut Intake<'_>) -> Result<(), Refusal> {
        Err(Refusal::NoEvent)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        Segment.answer(head, verdicts)
    }
}

/// What Segment's SDK asks: nothing is sent elsewhere, and events go to where the settings are from.
fn segments(key: &str, head: &Head) -> Json {
    let text = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_forwarded = head.headers.get("x-forwarded-proto").is_some_and(|protocol| protocol == "https");
    // A secure page may only send to a secure address, whatever proxies say of themselves and whether they are trusted.
    let is_secure = head.is_https || is_forwarded || text(header::ORIGIN).starts_with("https:");
    json!({
        "integrations": {"Segment.io": {
            "apiKey": key, "apiHost": format!("{}/v1", text(header::HOST)), "protocol": if is_secure { "https" } else { "http" },
            "unbundledIntegrations": [], "addBundledMetadata": true, "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
        }},
        "plan": {"track": {"__default": {"enabled": true, "integrations": {}}}},
        "edgeFunction": {}, "analyticsNextEnabled": true, "middlewareSettings": {}, "enabledMiddleware": {},
        "metrics": {"sampleRate": 0}, "legacyVideoPluginsEnabled": false, "remotePlugins": [],
    })
}

/// What RudderStack's SDK asks: a source that is on and sends to nowhere else.
fn rudderstacks(key: &str) -> Json {
    json!({
        "source": {
            "id": "pulse", "name": "pulse", "writeKey": key, "enabled": true, "workspaceId": "pulse", "destinations": [], "connections": [],
            "config": {"statsCollection": {"errors": {"enabled": false}, "metrics": {"enabled": false}}}, "dataplanes": {},
        },
        "updatedAt": "2026-01-01T00:00:00.000Z",
    })
}

/// How the calls of a path are read.
pub(super) fn reader(path: &str) -> ReadEvent {
    match path.rsplit('/').next().unwrap_or_default() {
        "page" | "p" => named::<0>,
        "screen" | "s" => named::<1>,
        "identify" | "i" => named::<2>,
        "group" | "g" => named::<3>,
        "alias" | "a" => named::<4>,
        _ => call,
    }
}

/// Reads a call of a kind of [`KINDS`].
fn named<'t, const KIND: usize>(value: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    let kind = KINDS.get(KIND).copied().unwrap_or_default();
    call_of(kind, value, draft)?;
    if draft.name.is_none() {
        draft.called = Some(kind);
    }
    Ok(())
}

/// Reads a call.
pub(super) fn call<'t>(call: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    call_of("track", call, draft)
}

/// Reads a call of this kind, if it does not say another.
fn call_of<'t>(kind_of_path: &str, call: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    if !call.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    let (mut kind, mut name, mut original, mut context) = (None, None, None, None);
    // Integers in most frameworks.
    draft.has_numeric_ids = true;
    for (key, value) in call.members() {
        let value = value.given();
        match key {
            "type" => kind = value,
            "event" => name = value,
            "messageId" => draft.event_id = value,
            "userId" => draft.user_id = value,
            "anonymousId" => draft.anonymous_id = value,
            "previousId" => draft.previous_id = value,
            "timestamp" => draft.timestamp = value,
            "originalTimestamp" => original = value,
            "sentAt" => draft.sent_at = value,
            "properties" => draft.properties = value,
            "traits" => draft.traits = value,
            "groupId" => draft.note_property("groupId", value),
            "name" => draft.note_property("name", value),
            "category" => draft.note_property("category", value),
            "context" => context = value,
            _ => {}
        }
    }
    let context = context.or(draft.around);
    if let Some(context) = context {
        pulse::context(context, is_of_sdk, draft);
        draft.session_id = context.member("sessionId");
        let library = context.member("library").and_then(|library| library.member("name")).and_then(Value::text);
        draft.is_of_server |= library.is_some_and(|library| OF_SERVERS.contains(&library));
    }
    let in_context = |key: &str| context.and_then(|context| context.member(key));
    // A call to `/v1/track` need not say that it is one.
    draft.name = if kind.and_then(Value::text).is_none_or(|kind| kind == "track") { name } else { kind };
    draft.timestamp = draft.timestamp.or(original);
    match kind.and_then(Value::text).unwrap_or(kind_of_path) {
        // RudderStack's SDKs say there what is known of the user; it is said anew only by the calls that are for it.
        "identify" => {
            let own = draft.traits.filter(|traits| traits.members().next().is_some());
            draft.traits = own.or(in_context("traits"));
        }
        "page" => page_of_properties(in_context("page"), draft),
        _ => {}
    }
    Ok(())
}

/// Whether a group of the context is of the SDK: RudderStack's calls itself the application.
fn is_of_sdk(name: &str, group: Value<'_>) -> bool {
    name == "app" && group.member("namespace").and_then(Value::text).is_some_and(|namespace| namespace.starts_with("com.rudderlabs."))
}

/// Of a `page` the properties say which: servers have no other place for it, and browsers say it in both.
fn page_of_properties<'t>(page: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    // Found once: a hostile event has a hundred thousand of each.
    let said = OF_PAGE.map(|key| (key, page.and_then(|page| page.member(key)).is_some()));
    for (key, value) in draft.properties.into_iter().flat_map(Value::members) {
        if let Some(field) = field_of_page(key).filter(|_| !value.is_null() && !said.contains(&(key, true))) {
            draft.note(FactKind::Of(field), value, Scope::Event);
        }
    }
    draft.leaves_out = |key| field_of_page(key).is_some();
}

/// Properties of a `page` that say which.
const OF_PAGE: [&str; 5] = ["url", "path", "title", "referrer", "search"];

fn field_of_page(property: &str) -> Option<Field> {
    OF_PAGE.contains(&property).then(|| pulse::field("page", property)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::packed::{EventView, Fields};
    use crate::ingest::tests::read::{country_of, events_of, read};
    use crate::ingest::tests::{SHOP, decoded_as};

    /// Name, time and number of entries of the one call of a body.
    fn stored(path: &str, body: &str) -> (String, i64, usize) {
        let envelope = Envelope { read: reader(path), ..ENVELOPE };
        let decoded = decoded_as(SHOP, |_| {}, |intake| envelope::json(body.as_bytes(), &envelope, intake)).unwrap();
        assert_eq!(decoded.verdicts.rejected, [], "{body}");
        let bytes = decoded.partitions.iter().find(|packed| packed.events == 1).unwrap().bytes.clone();
        let view = EventView::take(&mut bytes.as_slice()).unwrap();
        (Fields::of(&view).unwrap().text(Field::Type).to_owned(), view.header.at_ms, view.entries().count())
    }

    #[test]
    fn a_call_is_named_by_its_event_its_kind_or_its_path() {
        let name = |path: &str, body: &str| stored(path, body).0;
        assert_eq!(name("/v1/batch", r#"{"type":"track","event":"Order","userId":"a"}"#), "Order");
        assert_eq!(name("/v1/track", r#"{"event":"Order","userId":"a"}"#), "Order");
        assert_eq!(name("/v1/batch", r#"{"type":"screen","name":"Home","userId":"a"}"#), "screen");
        assert_eq!(name("/v1/i", r#"{"userId":"a","traits":{}}"#), "identify");
        assert_eq!(name("/v1/alias", r#"{"userId":"a","previousId":"b"}"#), "alias");
    }

    #[test]
    fn a_user_of_a_group_is_the_user_and_the_group_nobody() {
        let body = r#"{"type":"group","groupId":"x","userId":"ada","anonymousId":"d","traits":{"seats":5}}"#;
        let event = read(|intake| envelope::json(body.as_bytes(), &ENVELOPE, intake)).remove(0);
        assert_eq!((event.ids(), event.text(Field::Bot)), (["group", "ada", "d"].map(str::to_owned), String::new()));
        assert_eq!(event.properties(), ["groupId=x", "seats=5"]);
    }

    #[test]
    fn traits_beside_properties_are_properties_too() {
        for (traits, kept) in [
            (r#""traits":{"plan":"pro"},"properties":{}"#, vec!["plan=pro"]),
            (r#""context":{"traits":{"plan":"pro"}},"properties":{},"traits":{}"#, vec!["plan=pro"]),
            (
                r#""traits":{"plan":"pro","k":2,"of":{"a":3}},"properties":{"k":1,"of":{"b":4}}"#,
                vec!["k=1", "of.a=3", "of.b=4", "plan=pro"],
            ),
        ] {
            let body = format!(r#"{{"type":"identify","userId":"ada",{traits}}}"#);
            let event = read(|intake| envelope::json(body.as_bytes(), &ENVELOPE, intake)).remove(0);
            assert_eq!(event.properties(), kept, "{body}");
        }
    }

    #[test]
    fn what_is_said_around_a_batch_is_said_of_each_call_that_says_nothing() {
        let own = r#"{"event":"b","userId":"a","context":{"locale":"de"}}"#;
        let around = r#""context":{"app":{"name":"shop"},"locale":"en","library":{"name":"analytics-go"}}"#;
        let told = |last: &str| {
            let body = format!(r#"{{"batch":[{{"event":"a","userId":"a"}},{own}{last}],{around}}}"#);
            let decoded = decoded_as(SHOP, |request| request.partitions = 1, |intake| envelope::json(body.as_bytes(), &ENVELOPE, intake));
            let events = events_of(&decoded.unwrap().partitions[0].bytes);
            events.iter().map(|event| [Field::AppName, Field::Locale].map(|field| event.text(field))).collect::<Vec<_>>()
        };
        let expected = [["shop", "en"], ["", "de"]].map(|told| told.map(str::to_owned));
        assert_eq!(told(""), expected);
        // Also where the batch has to be taken apart.
        assert_eq!(told(r#",{"event":"\ud800","userId":"a"}"#), expected);
        let large = format!(r#"{{"batch":[{own}],"context":{{"app":{{"name":"{}"}}}}}}"#, "x".repeat(20_000));
        let refused = decoded_as(SHOP, |_| {}, |intake| envelope::json(large.as_bytes(), &ENVELOPE, intake)).unwrap_err();
        assert_eq!((refused.code(), refused.to_string().contains("`context`")), ("invalid_body", true));
    }

    #[test]
    fn what_is_said_around_a_batch_is_no_more_than_could_have_been_sent_with_each_call() {
        let of = |calls: usize| {
            let calls = vec![r#"{"event":"a","userId":"a"}"#; calls].join(",");
            let body = format!(r#"{{"batch":[{calls}],"context":{{"app":{{"name":"{}"}}}}}}"#, "x".repeat(12_000));
            decoded_as(SHOP, |_| {}, |intake| envelope::json(body.as_bytes(), &ENVELOPE, intake)).map(|decoded| decoded.verdicts.accepted)
        };
        assert_eq!((of(500), of(1_000).map_err(|refused| refused.code())), (Ok(500), Err("invalid_body")));
    }

    #[test]
    fn what_cannot_be_read_around_a_batch_cannot_be_read_in_the_calls_that_say_nothing_themselves() {
        let own = r#"{"event":"c","userId":"a","context":{"locale":"de"}}"#;
        let calls = format!(r#"{{"event":"a","userId":"a"}},{{"event":"b","userId":"a"}},{own}"#);
        let body = format!(r#"{{"batch":[{calls}],"context":{{"app":{{"name":"\ud800"}}}}}}"#);
        let decoded = decoded_as(SHOP, |_| {}, |intake| envelope::json(body.as_bytes(), &ENVELOPE, intake)).unwrap();
        assert_eq!(decoded.verdicts.accepted, 1);
        let rejected = decoded.verdicts.rejected.iter().map(|event| (event.index, event.defect.as_str(), event.field.as_str()));
        assert_eq!(rejected.collect::<Vec<_>>(), [(0, "invalid_unicode", "context"), (1, "invalid_unicode", "context")]);
    }

    #[test]
    fn the_address_of_a_server_is_no_visitors() {
        let country = |library: &str, more: &str| {
            let body = format!(r#"{{"event":"Order","userId":"a","context":{{"library":{{"name":"{library}"}}{more}}}}}"#);
            country_of(|intake| envelope::json(body.as_bytes(), &ENVELOPE, intake))
        };
        for server in ["@segment/analytics-node", "analytics-python", "analytics-go"] {
            assert_eq!(country(server, ""), "", "{server}");
        }
        assert_eq!(country("analytics.js", ""), "DE");
        // An event that names its visitor's address is of there.
        assert_eq!(country("analytics-go", r#","ip":"203.0.113.7""#), "DE");
    }

    #[test]
    fn a_page_is_where_its_properties_say() {
        let properties =
            r#"{"url":"https://a.example/x?utm_source=n","path":"/x","title":"X","referrer":"https://b.example/","plan":"pro"}"#;
        for (path, body) in [
            ("/v1/page", format!(r#"{{"userId":7,"properties":{properties}}}"#)),
            ("/v1/batch", format!(r#"{{"type":"page","userId":7,"properties":{properties},"context":{{"page":{{"title":"X"}}}}}}"#)),
        ] {
            let envelope = Envelope { read: reader(path), ..ENVELOPE };
            let event = read(|intake| envelope::json(body.as_bytes(), &envelope, intake)).remove(0);
            assert_eq!((event.ids(), event.properties()), (["page", "7", ""].map(str::to_owned), vec!["plan=pro".to_owned()]));
            let page = [Field::PageUrl, Field::PagePath, Field::PageTitle, Field::Referrer].map(|field| event.text(field).to_owned());
            assert_eq!(page, ["https://a.example/x?utm_source=n", "/x", "X", "https://b.example/"]);
        }
        // Of anything else they are its own.
        let body = r#"{"event":"Shared","userId":"a","properties":{"url":"https://c.example/"}}"#;
        let event = read(|intake| envelope::json(body.as_bytes(), &Envelope { read: reader("/v1/track"), ..ENVELOPE }, intake)).remove(0);
        assert_eq!((event.text(Field::PageUrl), event.properties()), (String::new(), vec!["url=https://c.example/".to_owned()]));
    }

    #[test]
    fn what_rudderstack_calls_otherwise_is_read_too() {
        let body = r#"{"type":"identify","userId":"a","traits":{"team":"blue","size":5},"originalTimestamp":"2026-09-21T14:13:10.000Z","anonymousId":null}"#;
        let (name, at_ms, entries) = stored("/v1/batch", body);
        assert_eq!((name.as_str(), at_ms, entries), ("identify", 1_789_999_990_000, 4));
    }

    #[test]
    fn the_sdk_is_no_application() {
        let app = |namespace: &str| {
            let body = format!(
                r#"{{"event":"Order","userId":"a","context":{{"app":{{"name":"N","namespace":"{namespace}","version":"3"}},"locale":"de"}}}}"#
            );
            let event = read(|intake| envelope::json(body.as_bytes(), &ENVELOPE, intake)).remove(0);
            [Field::AppName, Field::AppVersion, Field::Locale].map(|field| event.text(field))
        };
        assert_eq!(app("com.rudderlabs.javascript"), ["", "", "de"]);
        assert_eq!(app("com.example.shop"), ["N", "3", "de"]);
    }
}
