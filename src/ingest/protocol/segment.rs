//! Segment's HTTP API, which its SDKs and RudderStack's speak: `POST /v1/batch`, and one path for each kind of call.
//!
//! `track` becomes an event of the call's own name; any other call one that is called as its kind (`page`, `screen`, `identify`, `group`,
//! `alias`), with its `traits` as properties where it has no others. The answer is 200 once anything was accepted, because no SDK
//! corrects an event and sends it again; what was refused is in it.

use hyper::{Method, Response, StatusCode};
use serde_json::json;
use simd_json::Node;

use super::{Protocol, Received, pulse};
use crate::http::respond::{Body, json_response};
use crate::ingest::draft::{Draft, ReadEvent};
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::Defect;

pub(super) struct Segment;

/// A call by itself holds its key, too.
const ENVELOPE: Envelope = Envelope { batch: "batch", sent_at: "sentAt", key: Some("writeKey"), read: call };

/// Kinds of calls that are named by their path where they do not say it themselves.
const KINDS: [&[Node<'static>]; 5] =
    [&[Node::String("page")], &[Node::String("screen")], &[Node::String("identify")], &[Node::String("group")], &[Node::String("alias")]];

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
        ]
    }

    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::POST];
        METHODS
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    /// Always JSON, whatever its content-type says: RudderStack's SDK for Node.js calls it a form, a beacon calls it text.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let envelope = Envelope { read: reader(request.head.uri.path()), ..ENVELOPE };
        envelope::json(request.body, &envelope, intake)
    }

    fn answer(&self, verdicts: &Verdicts, request_id: &str) -> Response<Body> {
        if verdicts.accepted == 0 {
            return pulse::Pulse.answer(verdicts, request_id);
        }
        let answer = json!({"success": true, "accepted": verdicts.accepted, "rejected": pulse::rejected(verdicts)});
        json_response(StatusCode::OK, answer.to_string().into_bytes())
    }
}

/// How the calls of a path are read.
fn reader(path: &str) -> ReadEvent {
    match path.trim_start_matches("/v1/") {
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
    call(value, draft)?;
    draft.name = draft.name.or_else(|| KINDS.get(KIND).map(|name| Value::first(name)));
    Ok(())
}

/// Reads a call.
fn call<'t>(call: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    if !call.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    let (mut kind, mut name, mut original) = (None, None, None);
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
            "context" => {
                if let Some(context) = value {
                    pulse::context(context, draft);
                }
            }
            _ => {}
        }
    }
    // A call to `/v1/track` need not say that it is one.
    draft.name = if kind.and_then(Value::text).is_none_or(|kind| kind == "track") { name } else { kind };
    draft.timestamp = draft.timestamp.or(original);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::event::packed::{EventView, Fields};
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
    fn what_rudderstack_calls_otherwise_is_read_too() {
        let body = r#"{"type":"identify","userId":"a","traits":{"team":"blue","size":5},"originalTimestamp":"2026-09-21T14:13:10.000Z","anonymousId":null}"#;
        let (name, at_ms, entries) = stored("/v1/batch", body);
        assert_eq!((name.as_str(), at_ms, entries), ("identify", 1_789_999_990_000, 4));
    }
}
