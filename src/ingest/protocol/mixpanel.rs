//! Mixpanel's `/track`, `/import`, `/engage` and `/groups`: JSON, or `data` of a form or of the address, bare or in base64.
//!
//! The key is the `token` of each event. A `distinct_id` that begins with `$device:` is a visitor, any other a user. What `/engage` sets
//! becomes an `identify`, what `/groups` sets a `group`, which is nobody's. A profile has no id: a copy is known by all that it says. Of an
//! event Mixpanel knows a copy by name, second, user and `$insert_id`, not by the last alone: one order has several.

use hyper::header::CONTENT_TYPE;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::flat::{self, Source};
use super::{Batch, Head, LARGEST_BATCH, Protocol, Received, data, pulse};
use crate::auth::credential;
use crate::event::ids::event_id_of_digest;
use crate::http::respond::{ApiError, Body, json_response, retry_later};
use crate::ingest::draft::Draft;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::Defect;

pub(super) struct Mixpanel;

const EVENTS: Envelope = Envelope { key_of: Some(token), ..Envelope::bare(event) };
const PROFILES: Envelope = Envelope { keys: &["$token"], key_of: Some(token), ..Envelope::bare(profile) };
/// What names of visitors begin with.
const DEVICE: &str = "$device:";

impl Protocol for Mixpanel {
    fn paths(&self) -> &'static [&'static str] {
        &["/track", "/track/", "/import", "/import/", "/engage", "/engage/", "/groups", "/groups/"]
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

    /// Those of some years ago do, though there are none.
    fn has_cookies(&self) -> bool {
        true
    }

    fn batch_of_clients(&self) -> Batch {
        LARGEST_BATCH
    }

    /// The importers send lines, too.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let is_profile = ["/engage", "/groups"].iter().any(|path| request.head.uri.path().starts_with(path));
        let is_of_server = match data::parameter(request.body, request.head.query(), "ip") {
            Some(b"0") => true,
            // What is imported is where it says, if it does not ask for more.
            None => request.head.uri.path().starts_with("/import"),
            Some(_) => false,
        };
        let envelope = match (is_profile, is_of_server) {
            (true, false) => PROFILES,
            (true, true) => Envelope { read: of_server::<true>, ..PROFILES },
            (false, false) => EVENTS,
            (false, true) => Envelope { read: of_server::<false>, ..EVENTS },
        };
        // One who says so and sends an array means that.
        match pulse::is_lines(&request.head.headers) && request.body.trim_ascii_start().starts_with(b"{") {
            true => envelope::lines(request.body, &envelope, intake),
            false => envelope::json(&data::json(request.body, request.head.query())?, &envelope, intake),
        }
    }

    /// `1` to those who did not ask for more.
    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let is_import = head.uri.path().starts_with("/import");
        let asks = |name: &str| credential::in_query(head.query(), name).is_some_and(|value| value != "0");
        let is_good = verdicts.rejected.is_empty();
        if is_import && !is_good && asks("strict") {
            return refused_in_part(head, verdicts);
        }
        // The SDK for Python asks in the body, and takes any JSON.
        if !is_import && is_good && head.query().contains("verbose=0") {
            return json_response(StatusCode::OK, b"1".to_vec());
        }
        if is_import || asks("verbose") || !is_good {
            let is_form = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form"));
            // What was taken is not to be sent again for what was refused beside it.
            let is_taken = is_good || verdicts.accepted > 0;
            let status = match is_import && !is_form {
                // Those who import a form ask as those who track do.
                false => json!(u8::from(is_taken)),
                true => json!(if is_taken { "OK" } else { "Bad Request" }),
            };
            let more = json!({"code": 200, "status": status, "error": null, "num_records_imported": verdicts.accepted});
            return pulse::answer_with(head, verdicts, more);
        }
        json_response(StatusCode::OK, br#"{"status":1,"error":null}"#.to_vec())
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        let ApiError { status, code, message, retry_after } = error;
        let answer =
            json!({"status": 0, "code": code, "error": message, "message": message, "detail": message, "requestId": head.request_id});
        retry_later(json_response(status, answer.to_string().into()), retry_after)
    }
}

/// What an importer that is strict is told of what was refused; the rest was taken, and is not sent again.
fn refused_in_part(head: &Head, verdicts: &Verdicts) -> Response<Body> {
    let failed = verdicts.rejected.iter();
    let failed = failed.map(|of| json!({"index": of.index, "insert_id": of.event_id, "field": of.field, "message": of.message}));
    let answer = json!({
        "code": 400, "status": "Bad Request", "error": "some data points in the request failed validation",
        "num_records_imported": verdicts.accepted, "failed_records": failed.collect::<Vec<_>>(),
        "accepted": verdicts.accepted, "rejected": pulse::rejected(verdicts), "requestId": head.request_id,
    });
    json_response(StatusCode::BAD_REQUEST, answer.to_string().into())
}

/// Reads an event, or a profile, of a server: where the request is from says nothing of its visitor.
fn of_server<'t, const IS_PROFILE: bool>(value: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.is_of_server = true;
    if IS_PROFILE { profile(value, draft) } else { event(value, draft) }
}

/// The key that an event or a profile holds.
fn token(event: Value<'_>) -> Option<&str> {
    event.member("properties").and_then(|properties| properties.member("token")).or_else(|| event.member("$token"))?.text()
}

/// Reads an event.
pub(super) fn event<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    if !event.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    draft.name = event.member("event");
    draft.properties = event.member("properties");
    let (mut id, mut previous, mut library, mut merged, mut device, mut url) = (None, None, None, None, None, None);
    draft.has_numeric_ids = true;
    for (key, value) in draft.properties.into_iter().flat_map(Value::members) {
        let value = value.given();
        match key {
            "distinct_id" => id = value,
            "$user_id" | "$identified_id" => draft.user_id = value,
            "$device_id" => device = value,
            // The same with a prefix, where the device is named too.
            "$anon_distinct_id" | "$anon_id" => draft.anonymous_id = value,
            "alias" => previous = value,
            "time" => draft.timestamp = value,
            "$insert_id" => draft.event_id = value,
            "mp_lib" => library = value,
            "ip" => of_address(value, draft),
            "$distinct_ids" => merged = value,
            "$current_url" => url = value,
            _ => {}
        }
    }
    draft.anonymous_id = device.or(draft.anonymous_id);
    draft.id_prefix = DEVICE;
    if let Some(own) = draft.event_id {
        flat::known_by(own, id, draft);
    }
    who(id, draft);
    let name = draft.name.and_then(Value::text);
    draft.called = name.map(flat::name);
    flat::note_insert_id(draft);
    if name == Some("$create_alias") {
        draft.previous_id = previous;
    }
    if let (Some("$merge"), Some(merged)) = (name, merged) {
        let mut ids = merged.elements();
        (draft.user_id, draft.previous_id) = (ids.next(), ids.next());
        draft.called = Some("alias");
        draft.fallback_id = Some(event_id_of_digest(event.digest()));
    }
    draft.leaves_out = match name {
        Some("$create_alias") => is_own_of_alias,
        Some("$mp_web_page_view") if url.is_some() => is_own_of_view,
        _ => is_own,
    };
    if let Some(properties) = draft.properties {
        let is_page = library.and_then(Value::text) == Some("web");
        flat::note(properties, if is_page { Source::Page } else { Source::App }, draft);
    }
    Ok(())
}

/// Properties that have been read.
fn is_own(key: &str) -> bool {
    const OWN: [&str; 15] = [
        "ip",
        "$distinct_ids",
        "token",
        "distinct_id",
        "$user_id",
        "$identified_id",
        "$device_id",
        "$anon_distinct_id",
        "$anon_id",
        "time",
        "$insert_id",
        "mp_sent_by_lib_version",
        "$device",
        "mp_lib",
        "$lib_version",
    ];
    OWN.contains(&key) || flat::is_noted(key)
}

/// The same of a page view that says its whole address: it says that in parts, too.
fn is_own_of_view(key: &str) -> bool {
    matches!(key, "current_domain" | "current_url_path" | "current_url_protocol" | "current_url_search") || is_own(key)
}

/// The same of an alias, which is read.
fn is_own_of_alias(key: &str) -> bool {
    key == "alias" || is_own(key)
}

/// The visitor's address; `0` is that of nobody, since that of a server is not its visitor's.
fn of_address<'t>(value: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    let is_none = value.is_some_and(|value| value.text() == Some("0") || value.number() == Some(0.0));
    draft.is_of_server |= is_none;
    draft.address = value.filter(|value| !is_none && value.text().is_some()).or(draft.address);
}

/// Who a `distinct_id` is, where nothing more is said.
fn who<'t>(id: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    let is_device = id.and_then(Value::text).is_some_and(|id| id.starts_with(DEVICE));
    if is_device {
        draft.anonymous_id = draft.anonymous_id.or(id);
    } else {
        draft.user_id = draft.user_id.or(id);
    }
}

/// Reads what is said of a user or a group.
fn profile<'t>(profile: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    if !profile.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the profile is not a JSON object"));
    }
    let mut id = None;
    draft.called = Some("identify");
    draft.has_numeric_ids = true;
    draft.id_prefix = DEVICE;
    // The SDK for browsers says of each user what the user's last device was.
    draft.leaves_out = flat::is_of_device;
    draft.fallback_id = Some(event_id_of_digest(profile.digest()));
    for (key, value) in profile.members() {
        let value = value.given();
        match key {
            "$distinct_id" => id = value,
            "$user_id" => draft.user_id = value,
            "$device_id" => draft.anonymous_id = value,
            "$time" => draft.timestamp = value,
            "$ip" => of_address(value, draft),
            "$set" => draft.properties = value,
            "$group_key" => {
                draft.called = Some("group");
                draft.is_of_group = true;
                draft.note_property("$group_key", value);
            }
            "$group_id" => {
                id = id.or(value);
                draft.note_property("groupId", value);
            }
            _ => operation(key, value, draft),
        }
    }
    who(id, draft);
    Ok(())
}

/// Keeps what else is to be done to a profile under its name.
fn operation<'t>(key: &str, value: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    const OPERATIONS: [&str; 6] = ["$set_once", "$add", "$append", "$union", "$unset", "$remove"];
    match OPERATIONS.iter().find(|operation| **operation == key) {
        Some(operation) => draft.note_property(operation, value),
        None if matches!(key, "$token" | "$delete" | "$ignore_time" | "$ignore_alias") => {}
        None => draft.pass_over(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::{Field, flag};
    use crate::ingest::tests::read::{Read, key_of, read};

    fn one(envelope: &Envelope, event: &str) -> Read {
        let mut events = read(|intake| envelope::json(event.as_bytes(), envelope, intake));
        assert_eq!(events.len(), 1, "{event}");
        events.remove(0)
    }

    #[test]
    fn a_distinct_id_is_a_user_or_a_device() {
        let ids = |properties: &str| {
            one(&EVENTS, &format!(r#"{{"event":"order","properties":{{"token":"k","$insert_id":"i",{properties}}}}}"#)).ids()
        };
        assert_eq!(ids(r#""distinct_id":7"#), ["order", "7", ""]);
        assert_eq!(ids(r#""distinct_id":"$device:d","$device_id":"d""#), ["order", "", "d"]);
        assert_eq!(ids(r#""distinct_id":"ada","$device_id":"d","$user_id":"ada""#), ["order", "ada", "d"]);
        assert_eq!(ids(r#""distinct_id":"ada","$device_id":"d","$anon_distinct_id":"$device:d""#), ["order", "ada", "d"]);
    }

    #[test]
    fn a_device_has_one_name() {
        let ids = |properties: &str| one(&EVENTS, &format!(r#"{{"event":"order","properties":{{"token":"k",{properties}}}}}"#)).ids();
        let device = ["order", "", "d"];
        assert_eq!(ids(r#""distinct_id":"$device:d""#), device);
        assert_eq!(ids(r#""distinct_id":"$device:d","$device_id":"d""#), device);
        assert_eq!(ids(r#""distinct_id":"ada","$anon_distinct_id":"$device:d""#), ["order", "ada", "d"]);
        let alias = one(&EVENTS, r#"{"event":"$create_alias","properties":{"token":"k","distinct_id":"ada","alias":"$device:d"}}"#);
        assert_eq!(alias.properties(), ["previousId=d"]);
        let merge = one(&EVENTS, r#"{"event":"$merge","properties":{"token":"k","$distinct_ids":["ada","$device:d"]}}"#);
        assert_eq!(merge.properties(), ["previousId=d"]);
    }

    #[test]
    fn lines_are_events_each_with_its_key() {
        let line = |user: &str, key: &str| format!(r#"{{"event":"order","properties":{{"distinct_id":"{user}","token":"{key}"}}}}"#);
        let both = format!("{}\n\n{}\n", line("ada", "k"), line("bob", "k"));
        let read = read(|intake| envelope::lines(both.as_bytes(), &EVENTS, intake));
        assert_eq!(read.iter().map(|event| event.ids()[1].clone()).collect::<Vec<_>>(), ["ada", "bob"]);
        assert_eq!(key_of(|intake| envelope::lines(both.as_bytes(), &EVENTS, intake)), Ok(Some("k".to_owned())));
        let other = format!("{}\n{}", line("ada", "k"), line("bob", "l"));
        assert_eq!(key_of(|intake| envelope::lines(other.as_bytes(), &EVENTS, intake)), Err(Refusal::SeveralKeys));
    }

    #[test]
    fn a_property_called_alias_is_one() {
        let event = one(&EVENTS, r#"{"event":"domain","properties":{"token":"k","distinct_id":"ada","alias":"a.example"}}"#);
        assert_eq!(event.properties(), ["alias=a.example"]);
    }

    #[test]
    fn two_events_of_one_order_are_two() {
        let of = |event: &str, user: &str, time: &str, insert_id: &str| {
            let event = format!(
                r#"{{"event":"{event}","properties":{{"token":"k","distinct_id":"{user}","time":{time},"$insert_id":{insert_id}}}}}"#
            );
            let event = one(&EVENTS, &event);
            assert_eq!(event.flags & flag::SERVER_ID, 0);
            event.event_id
        };
        let order = of("order", "ada", "1789999990.123", "\"1042\"");
        assert_eq!(order, of("order", "ada", "1789999990", "\"1042\""), "a copy, by the second");
        for other in [
            of("refund", "ada", "1789999990", "\"1042\""),
            of("order", "bob", "1789999990", "\"1042\""),
            of("order", "ada", "1789999991", "\"1042\""),
            of("order", "ada", "1789999990", "\"1043\""),
            of("order", "ada", "1789999990", "1042"),
        ] {
            assert_ne!(order, other);
        }
        let said =
            |name: &str, id: &str| one(&EVENTS, &format!(r#"{{"event":"{name}","properties":{{"distinct_id":"ada","$insert_id":{id}}}}}"#));
        assert_eq!(said("order", "\"1042\"").properties(), ["$insert_id=1042"], "by which it is found");
        assert_eq!(said("$identify", "\"1042\"").properties(), Vec::<String>::new(), "it is no trait");
        let random = "\"0195f1a0-0000-7000-8000-000000000001\"";
        assert_eq!(said("order", random).properties(), Vec::<String>::new());
        assert_eq!(of("order", "ada", "1789999990", random), of("refund", "bob", "1789999991", random));
    }

    #[test]
    fn what_a_page_says_of_itself_is_no_property() {
        let event = one(
            &EVENTS,
            r#"[{"event":"$mp_web_page_view","properties":{"token":"k","distinct_id":"ada","time":1789999990.123,"$insert_id":"i","mp_lib":"web",
            "$os":"Mac OS X","$browser":"Chrome","$current_url":"https://a.example/","$referrer":"$direct","current_page_title":"A","plan":"pro",
            "$lib_version":"2.50.0","current_domain":"a.example","current_url_path":"/","current_url_protocol":"https:","current_url_search":""}}]"#,
        );
        assert_eq!(event.ids(), ["page", "ada", ""]);
        assert_eq!(event.at_ms, 1_789_999_990_123);
        assert_eq!(event.properties(), ["$insert_id=i", "plan=pro"]);
        assert_eq!([Field::PageUrl, Field::PageTitle, Field::Os].map(|field| event.text(field)), ["https://a.example/", "A", ""]);
    }

    #[test]
    fn profiles_and_aliases_are_those_of_reports() {
        let set = r#"{"$token":"k","$distinct_id":"ada","$set":{"team":"blue","$browser":"Chrome","$os":"Linux","$email":"a@b.example"},"$add":{"n":1},"$ip":"0"}"#;
        let profile = one(&PROFILES, set);
        assert_eq!((profile.ids(), one(&PROFILES, set).event_id), (["identify", "ada", ""].map(str::to_owned), profile.event_id));
        assert_eq!(profile.properties(), ["$add.n=1", "$email=a@b.example", "team=blue"]);
        assert_ne!(one(&PROFILES, &set.replace("blue", "red")).event_id, profile.event_id);
        let alias =
            one(&EVENTS, r#"{"event":"$create_alias","properties":{"token":"k","distinct_id":"ada","alias":"d","$insert_id":"i"}}"#);
        assert_eq!((alias.ids(), alias.properties()), (["alias", "ada", ""].map(str::to_owned), vec!["previousId=d".to_owned()]));
    }

    #[test]
    fn a_group_is_nobody() {
        let group = one(&PROFILES, r#"[{"$token":"k","$group_key":"team","$group_id":"x","$set":{"seats":5}}]"#);
        assert_eq!((group.ids(), group.text(Field::Bot)), (["group", "x", ""].map(str::to_owned), "group".to_owned()));
        assert_eq!(group.properties(), ["$group_key=team", "groupId=x", "seats=5"]);
        assert_eq!(one(&PROFILES, r#"{"$token":"k","$distinct_id":"ada","$set":{"seats":5}}"#).text(Field::Bot), "");
    }

    #[test]
    fn two_ids_are_merged() {
        let merge = one(&EVENTS, r#"{"event":"$merge","properties":{"token":"k","$distinct_ids":["ada","d"]}}"#);
        assert_eq!((merge.ids(), merge.properties()), (["alias", "ada", ""].map(str::to_owned), vec!["previousId=d".to_owned()]));
    }

    #[test]
    fn an_address_is_kept_nowhere() {
        let event = one(&EVENTS, r#"{"event":"order","properties":{"token":"k","distinct_id":"ada","ip":"136.24.0.114"}}"#);
        assert_eq!(event.properties(), Vec::<String>::new());
    }

    #[test]
    fn the_key_is_in_each_event() {
        let of = |body: &str| key_of(|intake| envelope::json(body.as_bytes(), &PROFILES, intake));
        assert_eq!(of(r#"[{"$token":"k","$distinct_id":"a"}]"#), Ok(Some("k".to_owned())));
        assert_eq!(of(r#"[{"$token":"k","$distinct_id":"a"},{"$token":"l","$distinct_id":"a"}]"#), Err(Refusal::SeveralKeys));
    }
}
