//! `GET /v1/pixel.gif`: one event in the address of an image, for e-mails and pages without scripts.
//!
//! The parameters are the fields of an event, flattened with dots (`type`, `anonymousId`, `context.page.url`, `properties.plan`), and
//! `key`, a write key. Every value is text. The answer is always the image, so that nobody sees a broken one: of a refused event its
//! status and the header `x-pulse-error` say why.

use std::borrow::Cow;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use simd_json::Node;
use url::form_urlencoded;

use super::{Head, Protocol, Received, pulse};
use crate::auth::{AuthError, credential};
use crate::event::field::Field;
use crate::http::respond::{ApiError, Body, typed_response};
use crate::ingest::draft::{Draft, FactKind, Scope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

/// One transparent pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
/// What parameters of properties begin with.
const PROPERTY: &str = "properties.";
const CONTEXT: &str = "context.";
const ERROR_HEADER: &str = "x-pulse-error";

pub(super) struct Pixel;

impl Protocol for Pixel {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/pixel.gif"]
    }

    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::GET];
        METHODS
    }

    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        match credential::in_query(head.query(), "key") {
            Some(key) => Ok(Some(key)),
            None => credential::in_headers(&head.headers),
        }
    }

    /// Mail programs, and what fetches in their place.
    fn has_agent_of_visitor(&self, _head: &Head) -> bool {
        true
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(request.head.query().as_bytes()).collect();
        intake.event(0, Value::first(&tape(&parameters)), event);
        Ok(())
    }

    fn answer(&self, _head: &Head, verdicts: &Verdicts) -> Response<Body> {
        match verdicts.rejected.first() {
            Some(rejected) => image(StatusCode::BAD_REQUEST, rejected.defect.as_str()),
            None => image(StatusCode::OK, ""),
        }
    }

    fn refuse(&self, error: ApiError, _head: &Head) -> Response<Body> {
        let mut response = image(error.status, error.code);
        if let Some(seconds) = error.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The image, never kept by a cache: each time it is shown is an event.
fn image(status: StatusCode, error: &'static str) -> Response<Body> {
    let mut response = typed_response(status, HeaderValue::from_static("image/gif"), GIF.into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !error.is_empty() {
        response.headers_mut().insert(ERROR_HEADER, HeaderValue::from_static(error));
    }
    response
}

/// Parameters as a tape: an object of all, with the properties as an object in it.
fn tape<'p>(parameters: &'p [(Cow<'_, str>, Cow<'_, str>)]) -> Vec<Node<'p>> {
    let object = |len: usize| Node::Object { len, count: 2 * len };
    let (properties, others): (Vec<_>, Vec<_>) = parameters
        .iter()
        .map(|(key, value)| (key.as_ref(), value.as_ref()))
        // No value is the same as none: templates leave parameters empty.
        .filter(|(key, value)| *key != "key" && !value.is_empty())
        .partition(|(key, _)| key.starts_with(PROPERTY));
    let pairs = |pairs: Vec<(&'p str, &'p str)>| pairs.into_iter().flat_map(|(key, value)| [Node::String(key), Node::String(value)]);
    let members = others.len() + 1;
    let count = 2 * members + 2 * properties.len();
    let mut nodes = vec![Node::Object { len: members, count }];
    nodes.extend(pairs(others));
    nodes.extend([Node::String("properties"), object(properties.len())]);
    nodes.extend(pairs(properties.into_iter().map(|(key, value)| (key.get(PROPERTY.len()..).unwrap_or(key), value)).collect()));
    nodes
}

/// Reads an event.
fn event<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    for (key, value) in event.members() {
        match key {
            "eventId" => draft.event_id = Some(value),
            "type" => draft.name = Some(value),
            "userId" => draft.user_id = Some(value),
            "anonymousId" => draft.anonymous_id = Some(value),
            "sessionId" => draft.session_id = Some(value),
            "timestamp" => draft.timestamp = Some(value),
            "sentAt" => draft.sent_at = Some(value),
            "properties" => draft.properties = Some(value),
            _ => match field(key) {
                Some(field) => draft.note(FactKind::Of(field), value, Scope::Event),
                None => draft.pass_over(key),
            },
        }
    }
    Ok(())
}

/// The field that a parameter of the context is.
fn field(parameter: &str) -> Option<Field> {
    match parameter.strip_prefix(CONTEXT)?.split_once('.') {
        Some((group, key)) => pulse::field(group, key),
        None => pulse::field("", parameter.strip_prefix(CONTEXT)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::packed::{EventView, Fields};
    use crate::ingest::tests::{SHOP, decoded_as};

    fn decoded(query: &str) -> crate::ingest::verdict::Decoded {
        let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        decoded_as(
            SHOP,
            |_| {},
            |intake| {
                intake.event(0, Value::first(&tape(&parameters)), event);
                Ok(())
            },
        )
        .unwrap()
    }

    #[test]
    fn parameters_are_the_fields_of_an_event() {
        let query = "key=k&type=open&properties.plan=pro&userId=ada&context.page.url=https%3A%2F%2Fa.example%2F&context.locale=de\
                     &properties.a.b=1&sessionId=&utm=x";
        let decoded = decoded(query);
        assert_eq!((decoded.verdicts.accepted, decoded.verdicts.without_id.as_slice()), (1, [0].as_slice()));
        let warned: Vec<String> = decoded.verdicts.warnings.list().map(|warning| warning.field).collect();
        assert_eq!(warned, ["utm"]);
        let bytes = decoded.partitions.iter().find(|packed| packed.events == 1).unwrap().bytes.clone();
        let view = EventView::take(&mut bytes.as_slice()).unwrap();
        let fields = Fields::of(&view).unwrap();
        let found = [Field::Type, Field::UserId, Field::PageUrl, Field::Locale].map(|field| fields.text(field).to_owned());
        assert_eq!(found, ["open", "ada", "https://a.example/", "de"]);
        assert_eq!(view.entries().count(), 4 + 2);
    }

    #[test]
    fn an_event_that_the_contract_refuses_is_refused() {
        let refused = |query: &str| decoded(query).verdicts.rejected.first().map(|event| event.defect.as_str());
        assert_eq!(refused("type=open"), Some("user_required"));
        assert_eq!(refused("userId=ada"), Some("event_name_required"));
        assert_eq!(refused("type=open&userId=ada&timestamp=now"), Some("timestamp_invalid"));
    }
}
