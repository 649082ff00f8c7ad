//! Umami's `/api/send`: a page or an event a request. The key is the website's id. A visitor whom nobody names is known by address and
//! agent for a day.
//!
//! Trackers escape titles and addresses, as Umami's server takes for granted of all clients. They may send the whole answer back as a header
//! with the next event, and send nothing more if that cannot be one: answers are ASCII.

use hyper::Response;
use serde_json::{Map, Value as Json, json};

use super::{Head, Protocol, Received, pulse};
use crate::http::respond::{ApiError, Body, json_response, retry_later};
use crate::ingest::draft::Draft;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

pub(super) struct Umami;

const ENVELOPE: Envelope = Envelope { key_of: Some(website), ..Envelope::bare(nameless) };

impl Protocol for Umami {
    fn paths(&self) -> &'static [&'static str] {
        &["/api/send"]
    }

    fn has_key_in_body(&self) -> bool {
        true
    }

    /// A server that speaks for visitors names theirs.
    fn has_agent_of_visitor(&self, _head: &Head) -> bool {
        true
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        envelope::translated(request.body, &ENVELOPE, own, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let (status, answer) = pulse::outcome_with(head, verdicts, json!({"ok": true}));
        json_response(status, ascii(&answer.to_string()))
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        retry_later(json_response(error.status, ascii(&error.to_json(&head.request_id))), error.retry_after)
    }
}

/// JSON without a letter beyond ASCII.
fn ascii(json: &str) -> Vec<u8> {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text.into_bytes()
}

/// What a payload says of any event.
const PAYLOAD: [&str; 14] =
    ["website", "hostname", "url", "title", "referrer", "screen", "language", "name", "data", "tag", "id", "timestamp", "ip", "userAgent"];

fn website(event: Value<'_>) -> Option<&str> {
    event.member("payload")?.member("website")?.text()
}

/// Reads an event of pulse's own dialect that may name nobody.
pub(super) fn nameless<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.is_named_by_address = true;
    draft.has_numeric_ids = true;
    pulse::event(event, draft)
}

/// An event in pulse's own dialect.
fn own(event: &Map<String, Json>) -> Json {
    let of = |key: &str| event.get("payload").and_then(|payload| payload.get(key)).cloned().unwrap_or(Json::Null);
    let kind = event.get("type").and_then(Json::as_str).filter(|kind| *kind != "event");
    let name = match (kind, of("name")) {
        (Some("identify"), _) => Json::from("identify"),
        (None, Json::Null) => Json::from("page"),
        // What a tracker measures beside what happens: `performance`, `error`.
        (Some(kind), Json::Null) => Json::from(kind),
        (_, name) => name,
    };
    let mut properties = match of("data") {
        Json::Object(data) => data,
        Json::Null => Map::new(),
        other => Map::from_iter([("data".to_owned(), other)]),
    };
    if kind.is_some() {
        let members = event.get("payload").and_then(Json::as_object).into_iter().flatten();
        properties.extend(members.filter(|(key, _)| !PAYLOAD.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())));
    }
    if let tag @ Json::String(_) = of("tag") {
        properties.entry("tag").or_insert(tag);
    }
    let (screen, hostname) = (of("screen"), of("hostname"));
    let unescaped = |key: &str, kept: &str| match of(key) {
        Json::String(text) => unescape(&text, kept).unwrap_or(text).into(),
        other => other,
    };
    let (title, address, referrer) = (unescaped("title", ""), unescaped("url", RESERVED), unescaped("referrer", RESERVED));
    let side = |nth: usize| screen.as_str().and_then(|size| size.split('x').nth(nth)).map_or(Json::Null, Json::from);
    json!({
        "type": name, "userId": of("id"), "timestamp": of("timestamp"), "properties": properties,
        "context": {
            "ip": of("ip"), "locale": of("language"), "userAgent": of("userAgent"),
            "page": {"url": url(&address, hostname.as_str()), "title": title, "referrer": referrer, "host": hostname},
            "screen": {"width": side(0), "height": side(1)},
        },
    })
}

/// What stays escaped in an address: it would mean something else.
const RESERVED: &str = ";/?:@&=+$,#";

/// A text without its escapes, but for those of `kept`; `None` if it is not escaped as a whole.
fn unescape(text: &str, kept: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        let mut escaped = [0; 1];
        hex::decode_to_slice(digits, &mut escaped).ok()?;
        let [escaped] = escaped;
        if kept.as_bytes().contains(&escaped) {
            bytes.push(b'%');
        } else {
            bytes.push(escaped);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The address of a page: trackers before the third version send a path.
fn url(url: &Json, hostname: Option<&str>) -> Json {
    match (url.as_str(), hostname) {
        (Some(path), Some(hostname)) if path.starts_with('/') => format!("https://{hostname}{path}").into(),
        _ => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::{Read, key_of, read};

    fn one(event: &str) -> Read {
        let mut events = read(|intake| envelope::translated(event.as_bytes(), &ENVELOPE, own, intake));
        assert_eq!(events.len(), 1, "{event}");
        events.remove(0)
    }

    #[test]
    fn what_has_no_name_is_a_page_of_whoever_has_the_address() {
        let page = r#"{"type":"event","payload":{"website":"k","hostname":"a.example","url":"/x?utm_source=n","title":"A","screen":"1280x720","language":"de-DE"}}"#;
        let event = one(page);
        assert_eq!([&event.ids()[0], &event.ids()[1]], ["page", ""]);
        assert_eq!((event.ids()[2].len(), event.ids()), (32, one(page).ids()));
        assert_eq!([Field::PageUrl, Field::PageTitle].map(|field| event.text(field)), ["https://a.example/x?utm_source=n", "A"]);
        assert_eq!(key_of(|intake| envelope::translated(page.as_bytes(), &ENVELOPE, own, intake)), Ok(Some("k".to_owned())));
    }

    #[test]
    fn titles_and_addresses_are_what_they_were_before_the_tracker_escaped_them() {
        let page = |title: &str, url: &str| {
            let event = one(&format!(
                r#"{{"type":"event","payload":{{"website":"k","id":"ada","hostname":"a.example","title":"{title}","url":"{url}"}}}}"#
            ));
            [Field::PageTitle, Field::PageUrl].map(|field| event.text(field))
        };
        assert_eq!(
            page("B%C3%BCcher%20%26%20more", "/b%C3%BCcher?q=a%2520b"),
            ["B\u{fc}cher & more", "https://a.example/b\u{fc}cher?q=a%20b"]
        );
        assert_eq!(page("100%", "/50%/x%ZZ"), ["100%", "https://a.example/50%/x%ZZ"]);
        assert_eq!(page("%FF", "/a%2Fb?c=%26"), ["%FF", "https://a.example/a%2Fb?c=%26"]);
    }

    #[test]
    fn answers_may_be_sent_back_as_a_header() {
        let answer = ascii(&json!({"message": "`type` `$\u{fc}\u{1f389}\n`"}).to_string());
        assert_eq!(String::from_utf8(answer).unwrap(), r#"{"message":"`type` `$\u00fc\ud83c\udf89\n`"}"#);
    }

    #[test]
    fn what_the_tracker_measures_is_no_page() {
        let event = one(
            r#"{"type":"performance","payload":{"website":"k","id":"ada","url":"https://a.example/","userAgent":"x","lcp":1200,"cls":0.1}}"#,
        );
        assert_eq!(event.ids(), ["performance", "ada", ""]);
        assert_eq!(event.properties(), ["cls=0.1", "lcp=1200"]);
        let named = one(r#"{"type":"event","payload":{"website":"k","id":"ada","name":"order","lcp":1}}"#);
        assert_eq!((named.ids()[0].as_str(), named.properties()), ("order", Vec::new()));
    }

    #[test]
    fn a_distinct_id_is_a_user() {
        let event =
            one(r#"{"type":"event","payload":{"website":"k","id":"ada","name":"order","url":"https://a.example/","data":{"total":1}}}"#);
        assert_eq!((event.ids(), event.properties()), (["order", "ada", ""].map(str::to_owned), vec!["total=1".to_owned()]));
        let identify = one(r#"{"type":"identify","payload":{"website":"k","id":"ada","data":{"team":"blue"}}}"#);
        assert_eq!((identify.ids(), identify.properties()), (["identify", "ada", ""].map(str::to_owned), vec!["team=blue".to_owned()]));
    }
}
