//! PostHog's capture API, which its SDKs speak: events in a batch, alone or as `data` of a form, and the settings that they ask for.
//!
//! The `distinct_id` is a user, unless the SDK says that nobody was identified; `$device_id` then is the visitor. `$identify`, `$set`,
//! `$create_alias`, `$groupidentify`, `$pageview` and `$screen` become `identify`, `alias`, `group`, `page` and `screen`; any other name
//! loses its `$`. A group is nobody: servers send its name in place of a user's. The answer is 200 or 503 and nothing like them: the SDK for browsers drops events at 429, others send again what
//! was stored at any other 2xx.

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value as Json, json};

use super::flat::{self, Source};
use super::{Batch, Head, LARGEST_BATCH, Protocol, Received, data, pulse};
use crate::event::field::Field;
use crate::event::ids::event_id_of;
use crate::http::respond::{ApiError, Body, json_response, typed_response};
use crate::ingest::draft::{Draft, FactKind, Scope};
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::Defect;

pub(super) struct PostHog;

/// The id of all visitors of a page that keeps nothing of them.
const COOKIELESS: &str = "$posthog_cookieless";

/// What a page is called, in a page view: anywhere else it is a property of one's own.
const TITLE: &str = "title";

const ENVELOPE: Envelope =
    Envelope { sent_at: Some("sent_at"), keys: &["api_key", "token"], key_of: Some(key), ..Envelope::of("batch", event) };

impl Protocol for PostHog {
    fn paths(&self) -> &'static [&'static str] {
        &[
            "/batch",
            "/batch/",
            "/e",
            "/e/",
            "/capture",
            "/capture/",
            "/i/v0/e",
            "/i/v0/e/",
            "/flags",
            "/flags/",
            "/decide",
            "/decide/",
            "/array/{key}/config",
            "/array/{key}/config.js",
        ]
    }

    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::POST, Method::GET];
        METHODS
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    fn finds_gzip(&self) -> bool {
        true
    }

    fn settings(&self, head: &Head) -> Option<Response<Body>> {
        let path = head.uri.path();
        if path.starts_with("/array/") {
            return Some(if path.ends_with(".js") { script() } else { json_response(StatusCode::OK, settings().to_string().into()) });
        }
        let asks = path.starts_with("/flags") || path.starts_with("/decide");
        asks.then(|| json_response(StatusCode::OK, flags().to_string().into()))
    }

    /// Those of some years ago do, though there are none.
    fn has_cookies(&self) -> bool {
        true
    }

    fn batch_of_clients(&self) -> Batch {
        LARGEST_BATCH
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::json(&data::json(request.body, request.head.query())?, &ENVELOPE, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"status": 1}))
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        let is_limit = error.status == StatusCode::TOO_MANY_REQUESTS;
        let status = if is_limit { StatusCode::SERVICE_UNAVAILABLE } else { error.status };
        ApiError { status, ..error }.into_response(&head.request_id)
    }
}

/// What bodies may be: PostHog's names of gzip, `gzip-js` that of its SDK for browsers, which packs in base64, seven times as long, where it is missing.
const COMPRESSION: [&str; 3] = ["gzip", "gzip-js", "base64"];

/// What the SDK for browsers asks before it starts: nothing of it is here but the taking of events.
fn settings() -> Json {
    json!({
        "supportedCompression": COMPRESSION, "hasFeatureFlags": false, "sessionRecording": false, "surveys": false,
        "heatmaps": false, "capturePerformance": false, "autocaptureExceptions": false, "captureDeadClicks": false, "siteApps": [],
        "toolbarParams": {}, "isAuthenticated": false, "elementsChainAsString": true, "defaultIdentifiedOnly": true,
    })
}

/// The same as a script that a page runs. It names no key: the SDK then asks for [`settings`] as JSON.
fn script() -> Response<Body> {
    typed_response(StatusCode::OK, HeaderValue::from_static("text/javascript; charset=utf-8"), Bytes::from_static(b"/* none */\n"))
}

/// No flags are on.
fn flags() -> Json {
    json!({"flags": {}, "featureFlags": {}, "featureFlagPayloads": {}, "errorsWhileComputingFlags": false, "supportedCompression": COMPRESSION})
}

/// The key that an event holds.
fn key(event: Value<'_>) -> Option<&str> {
    event.member("properties")?.member("token")?.text()
}

/// What is read of the properties.
#[derive(Default)]
struct Known<'t> {
    distinct_id: Option<Value<'t>>,
    device_id: Option<Value<'t>>,
    anonymous_id: Option<Value<'t>>,
    alias: Option<Value<'t>>,
    set: Option<Value<'t>>,
    set_once: Option<Value<'t>>,
    session_id: Option<Value<'t>>,
    is_identified: Option<Value<'t>>,
    has_profile: Option<Value<'t>>,
    is_server: Option<Value<'t>>,
    /// Whether the address of the peer is not the visitor's, as SDKs for servers say.
    has_no_place: Option<Value<'t>>,
    agent: Option<Value<'t>>,
    /// Whether the page keeps nothing of its visitors, so that they have no ids.
    is_cookieless: Option<Value<'t>>,
    /// What older SDKs say in place of `uuid`.
    insert_id: Option<Value<'t>>,
    title: Option<Value<'t>>,
}

impl<'t> Known<'t> {
    fn of(properties: Option<Value<'t>>) -> Self {
        let mut known = Self::default();
        for (key, value) in properties.into_iter().flat_map(Value::members) {
            if let Some(slot) = known.slot(key) {
                *slot = value.given();
            }
        }
        known
    }

    fn slot(&mut self, key: &str) -> Option<&mut Option<Value<'t>>> {
        Some(match key {
            "distinct_id" => &mut self.distinct_id,
            "$device_id" => &mut self.device_id,
            "$anon_distinct_id" => &mut self.anonymous_id,
            "alias" => &mut self.alias,
            "$set" => &mut self.set,
            "$set_once" => &mut self.set_once,
            "$session_id" => &mut self.session_id,
            "$is_identified" => &mut self.is_identified,
            "$process_person_profile" => &mut self.has_profile,
            "$is_server" => &mut self.is_server,
            "$geoip_disable" => &mut self.has_no_place,
            "$raw_user_agent" => &mut self.agent,
            "$cookieless_mode" => &mut self.is_cookieless,
            "$insert_id" => &mut self.insert_id,
            TITLE => &mut self.title,
            _ => return None,
        })
    }
}

/// Properties that have been read, or that the SDK sends for itself.
fn is_own(key: &str) -> bool {
    const OWN: [&str; 25] = [
        "distinct_id",
        "$set",
        "$device_id",
        "$anon_distinct_id",
        "$user_id",
        "$session_id",
        "$is_identified",
        "$process_person_profile",
        "$insert_id",
        "$cookieless_mode",
        "$cookieless_extra",
        "$time",
        "$config_defaults",
        "$lib_custom_api_host",
        "$lib_rate_limit_remaining_tokens",
        "$recording_status",
        "$initialization_time",
        "$configured_session_timeout_ms",
        "$last_posthog_reset",
        "$sdk_dist_channel",
        "$geoip_disable",
        "$timezone_offset",
        "$is_server",
        "$lib",
        "$lib_version",
    ];
    OWN.contains(&key) || key.starts_with("$sdk_debug") || key.starts_with("$session_entry_") || flat::is_noted(key)
}

/// The same of a page, whose events hold the key.
fn is_own_of_page(key: &str) -> bool {
    key == "token" || is_own(key)
}

/// The same of a page view, which says what the page is called.
fn is_own_of_view(key: &str) -> bool {
    key == TITLE || is_own_of_page(key)
}

/// The same of one that a server sends.
fn is_own_of_servers_view(key: &str) -> bool {
    key == TITLE || is_own(key)
}

/// The same of an alias, which is read.
fn is_own_of_alias(key: &str) -> bool {
    key == "alias" || is_own(key)
}

/// The same of one of a page.
fn is_own_of_pages_alias(key: &str) -> bool {
    key == "alias" || is_own_of_page(key)
}

/// What stands beside the properties of an event.
#[derive(Default)]
struct Beside<'t> {
    distinct_id: Option<Value<'t>>,
    set: Option<Value<'t>>,
    set_once: Option<Value<'t>>,
}

/// Reads an event.
pub(super) fn event<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    let beside = members(event, draft)?;
    let known = Known::of(draft.properties);
    who(&beside, &known, draft);
    let source = match says(known.is_server, true) {
        true => Source::Server,
        false if known.agent.is_some() => Source::Page,
        false => Source::App,
    };
    draft.leaves_out = if source == Source::Server { is_own } else { is_own_of_page };
    draft.is_of_server |= says(known.has_no_place, true);
    draft.session_id = known.session_id;
    if let Some(properties) = draft.properties {
        flat::note(properties, source, draft);
    }
    let name = draft.name.and_then(Value::text);
    draft.called = name.map(flat::name);
    flat::note_insert_id(draft);
    draft.is_of_group = name == Some(flat::GROUP);
    if let (Some("$pageview"), Some(title)) = (name, known.title) {
        draft.leaves_out = if source == Source::Server { is_own_of_servers_view } else { is_own_of_view };
        draft.note(FactKind::Of(Field::PageTitle), title, Scope::Event);
    }
    let (set, set_once) = (beside.set.or(known.set), beside.set_once.or(known.set_once));
    match name {
        Some("$identify" | "$set" | "$set_once") => {
            draft.properties = set;
            draft.leaves_out = |_| false;
            draft.note_property("$set_once", set_once);
        }
        Some("$create_alias" | "$merge_dangerously") => {
            draft.previous_id = known.alias;
            draft.leaves_out = if source == Source::Server { is_own_of_alias } else { is_own_of_pages_alias };
        }
        _ => {
            // What is said of the user in passing is an `identify` of its own.
            draft.also = set.filter(|set| set.members().next().is_some()).map(|_| traits as _);
            draft.note_property("$set_once", beside.set_once);
        }
    }
    Ok(())
}

/// Reads what an event says of its user in passing.
fn traits<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    let beside = members(event, draft)?;
    let known = Known::of(draft.properties);
    who(&beside, &known, draft);
    draft.called = Some("identify");
    draft.is_of_server |= says(known.has_no_place, true);
    draft.session_id = known.session_id;
    // As of the event itself: a proxy that sends for its visitors says where they are.
    draft.address = draft.properties.and_then(|said| said.member("$ip"));
    if let Some(agent) = known.agent.filter(|_| draft.is_named_by_address) {
        // A part of the name.
        draft.note(FactKind::Of(Field::UserAgent), agent, Scope::Event);
    }
    draft.properties = beside.set.or(known.set);
    draft.is_other = true;
    Ok(())
}

/// Reads the members of an event.
fn members<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<Beside<'t>, Rejection> {
    if !event.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    let mut beside = Beside::default();
    draft.has_numeric_ids = true;
    for (key, value) in event.members() {
        let value = value.given();
        match key {
            "event" => draft.name = value,
            "uuid" => draft.event_id = value.or(draft.event_id),
            // The SDK for Ruby calls it so.
            "messageId" => draft.event_id = draft.event_id.or(value),
            "timestamp" => draft.timestamp = value,
            "offset" => draft.age = value,
            "sent_at" => draft.sent_at = value,
            "properties" => draft.properties = value,
            "distinct_id" | "$distinct_id" => beside.distinct_id = value,
            "$set" => beside.set = value,
            "$set_once" => beside.set_once = value,
            _ => {}
        }
    }
    Ok(beside)
}

/// Who it was: a user, unless the SDK says that it knows of none. An alias is of users. Of a page that keeps nothing of its visitors it is who
/// has the address today. And by what a copy is known.
fn who<'t>(beside: &Beside<'t>, known: &Known<'t>, draft: &mut Draft<'t, '_>) {
    let is_id = |id: &Value<'t>| id.text().is_some_and(|id| event_id_of(id).is_some());
    let somebody = |id: Option<Value<'t>>| id.filter(|id| id.text() != Some(COOKIELESS));
    let named = beside.distinct_id.or(known.distinct_id);
    if let (None, Some(own)) = (draft.event_id, known.insert_id.filter(is_id)) {
        flat::known_by(own, named, draft);
    }
    let id = somebody(named);
    draft.is_named_by_address = says(known.is_cookieless, true) || named.is_some() && id.is_none();
    let is_alias = draft.name.and_then(Value::text) == Some("$create_alias");
    let is_anonymous = says(known.is_identified, false) || known.is_identified.is_none() && says(known.has_profile, false);
    if is_anonymous && !is_alias {
        draft.anonymous_id = id;
    } else {
        draft.user_id = id;
        draft.anonymous_id = somebody(known.anonymous_id).or(somebody(known.device_id));
    }
}

fn says(claim: Option<Value<'_>>, expected: bool) -> bool {
    claim.and_then(Value::claim) == Some(expected)
}

#[cfg(test)]
mod tests;
