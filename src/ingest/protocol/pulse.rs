//! `POST /v1/events`: pulse's own dialect, as JSON or newline-delimited JSON.

use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};
use serde_json::{Value as Json, json};

use super::{Delivery, Head, Protocol, Received, flat};
use crate::auth::{AuthError, credential};
use crate::event::field::Field;
use crate::http::respond::{ApiError, Body, json_response};
use crate::ingest::draft::{Draft, FactKind, Scope};
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejected, Rejection, Verdicts};
use crate::ingest::warning::Warning;
use crate::outcome::Defect;

pub(in crate::ingest) struct Pulse;

pub(in crate::ingest) const ENVELOPE: Envelope = Envelope { sent_at: Some("sentAt"), ..Envelope::of("batch", event) };

/// How requests of servers begin to name who sends them: our SDK for Python, and what runs the one for JavaScript outside of pages. A page
/// cannot have such an agent; what else is no browser's may be an application's, whose address is its visitor's.
const SERVERS: [&str; 5] = ["pulse-python/", "node", "undici", "Bun/", "Deno/"];

impl Protocol for Pulse {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/events"]
    }

    /// In the headers, or else in the address: a page may send to another origin without asking first only if it sets no header.
    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        Ok(credential::in_headers(&head.headers)?.or_else(|| credential::in_query(head.query(), "key")))
    }

    /// For the same reason.
    fn finds_gzip(&self) -> bool {
        true
    }

    fn check(&self, head: &Head) -> Result<Delivery, ApiError> {
        layout(&head.headers).map(|_| Delivery::Live)
    }

    fn is_of_server(&self, head: &Head) -> bool {
        is_of_server(head)
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        match layout(&request.head.headers) {
            Ok(Layout::Lines) => envelope::lines(request.body, &ENVELOPE, intake),
            _ => envelope::json(request.body, &ENVELOPE, intake),
        }
    }

    /// 200 if anything was accepted, else 400 with the first event's defect as the request's own.
    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let (status, answer) = outcome(head, verdicts);
        json_response(status, answer.to_string().into_bytes())
    }
}

/// Whether a request is of our SDK for servers, or of another one that runs where ours does.
pub(super) fn is_of_server(head: &Head) -> bool {
    SERVERS.iter().any(|server| head.agent().starts_with(server))
}

/// Status and body of the answer.
fn outcome(head: &Head, verdicts: &Verdicts) -> (StatusCode, Json) {
    let mut answer = json!({"accepted": verdicts.accepted, "rejected": rejected(verdicts)});
    let warnings = warnings(verdicts);
    if !warnings.is_empty() {
        answer["warnings"] = Json::Array(warnings);
    }
    if verdicts.accepted > 0 {
        return (StatusCode::OK, answer);
    }
    // Some clients read the one, some the other.
    for (key, of_event) in [("code", "code"), ("message", "message"), ("error", "code"), ("detail", "message")] {
        answer[key] = answer["rejected"].get(0).map_or(Json::Null, |first| first[of_event].clone());
    }
    answer["requestId"] = head.request_id.as_str().into();
    (StatusCode::BAD_REQUEST, answer)
}

/// The answer to clients that read nothing but a status, as [`outcome_with`] has it.
pub(super) fn answer_with(head: &Head, verdicts: &Verdicts, answer: Json) -> Response<Body> {
    let (status, answer) = outcome_with(head, verdicts, answer);
    json_response(status, answer.to_string().into_bytes())
}

/// Status and body for clients that read nothing but a status: 200 if anything was accepted, for none of them corrects an event and sends
/// it again; what was refused is beside `answer`.
pub(super) fn outcome_with(head: &Head, verdicts: &Verdicts, mut answer: Json) -> (StatusCode, Json) {
    if verdicts.accepted == 0 && !verdicts.rejected.is_empty() {
        return outcome(head, verdicts);
    }
    answer["accepted"] = verdicts.accepted.into();
    answer["rejected"] = Json::Array(rejected(verdicts));
    (StatusCode::OK, answer)
}

/// What the answer says of each refused event.
pub(super) fn rejected(verdicts: &Verdicts) -> Vec<Json> {
    let of_event = |Rejected { index, event_id, defect, field, message }: &Rejected| json!({"index": index, "eventId": event_id, "code": defect.as_str(), "field": field, "message": message});
    verdicts.rejected.iter().map(of_event).collect()
}

fn warnings(verdicts: &Verdicts) -> Vec<Json> {
    let without_id = verdicts.without_id.iter().map(|index| json!({"index": index, "code": "event_id_missing"}));
    let listed = verdicts.warnings.list();
    let listed = listed.map(|Warning { code, field, count, index }| json!({"index": index, "code": code, "field": field, "count": count}));
    without_id.chain(listed).collect()
}

/// How a body is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Json,
    Lines,
}

/// Whether a body is lines, as its content-type says.
pub(super) fn is_lines(headers: &HeaderMap) -> bool {
    layout(headers).is_ok_and(|layout| layout == Layout::Lines)
}

fn layout(headers: &HeaderMap) -> Result<Layout, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Layout::Json) };
    let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let unsupported = |message: String| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let charset = parameters.split(';').filter_map(|parameter| parameter.trim().strip_prefix("charset=")).next();
    if let Some(charset) = charset.map(|charset| charset.trim_matches('"'))
        && !["utf-8", "utf8", "us-ascii"].contains(&charset)
    {
        return Err(unsupported(format!("charset `{charset}` is not utf-8")));
    }
    match kind.trim() {
        // `text/plain` is what a page may send without asking first (`sendBeacon`).
        "" | "application/json" | "text/plain" => Ok(Layout::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonlines" | "application/x-jsonlines" => Ok(Layout::Lines),
        // What curl sends with any data by default: the body decides.
        "application/x-www-form-urlencoded" => Ok(Layout::Json),
        other => Err(unsupported(format!("content-type `{other}` is neither JSON nor NDJSON"))),
    }
}

/// Reads an event.
pub(in crate::ingest) fn event<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    if !event.is_object() {
        return Err(Rejection::new(Defect::EventNotObject, "", "the event is not a JSON object"));
    }
    let (mut seen, mut twice, mut context_value) = (0_u16, None, None);
    for (key, value) in event.members() {
        let Some((bit, slot)) = slot(draft, &mut context_value, key) else {
            // Clients of other versions send them.
            draft.pass_over(key);
            continue;
        };
        // Of an event that is refused the first id that can be read is told.
        let is_first = seen & bit == 0;
        if is_first || key == "eventId" && slot.and_then(Value::text).is_none() {
            *slot = value.given();
        }
        if !is_first && twice.is_none() {
            twice = Some(key);
        }
        seen |= bit;
    }
    if let Some(key) = twice {
        return Err(Rejection::new(Defect::DuplicateKey, key, format!("`{key}` is given twice")));
    }
    if let Some(value) = context_value {
        context(value, |_, _| false, draft);
    }
    Ok(())
}

/// The place of a known key, and its bit among them.
fn slot<'s, 't>(draft: &'s mut Draft<'t, '_>, context: &'s mut Option<Value<'t>>, key: &str) -> Option<(u16, &'s mut Option<Value<'t>>)> {
    Some(match key {
        "eventId" => (1 << 0, &mut draft.event_id),
        "type" => (1 << 1, &mut draft.name),
        "userId" => (1 << 2, &mut draft.user_id),
        "anonymousId" => (1 << 3, &mut draft.anonymous_id),
        "sessionId" => (1 << 4, &mut draft.session_id),
        "timestamp" => (1 << 5, &mut draft.timestamp),
        "sentAt" => (1 << 6, &mut draft.sent_at),
        "context" => (1 << 7, context),
        "properties" => (1 << 8, &mut draft.properties),
        "previousId" => (1 << 9, &mut draft.previous_id),
        "traits" => (1 << 10, &mut draft.traits),
        _ => return None,
    })
}

/// Reads `context`: what clients collect by themselves, but for the groups that are left out.
pub(super) fn context<'t>(context: Value<'t>, leaves_out: fn(&str, Value<'_>) -> bool, draft: &mut Draft<'t, '_>) {
    if !context.is_object() && !context.is_empty_array() {
        draft.note(FactKind::Unreadable, context, Scope::Event);
    }
    for (key, value) in context.members().filter(|(_, value)| !value.is_null()) {
        let kind = match key {
            "ip" => {
                draft.address = Some(value);
                continue;
            }
            "app" | "browser" | "device" | "os" | "page" | "campaign" | "screen" | "geo" => {
                if leaves_out(key, value) {
                    continue;
                }
                if value.is_object() {
                    group(key, value, draft);
                    continue;
                }
                if value.is_empty_array() {
                    continue;
                }
                FactKind::Unreadable
            }
            _ => field("", key).map_or(FactKind::Unknown, FactKind::Of),
        };
        draft.note(kind, value, Scope::Context);
    }
}

fn group<'t>(name: &str, group: Value<'t>, draft: &mut Draft<'t, '_>) {
    for (key, value) in group.members().filter(|(_, value)| !value.is_null() && value.text() != Some(flat::DIRECT)) {
        let kind = field(name, key).map_or(FactKind::Unknown, FactKind::Of);
        draft.note(kind, value, Scope::Group(group.at));
    }
}

/// Makes [`field`] and [`place`], each the other way round of the other, so that no field can be known to one of them alone.
macro_rules! context_fields {
    ($(($group:literal, $name:literal) = $field:ident,)+) => {
        /// The field that a member of the context is, in a group or (`""`) in none.
        pub(super) fn field(group: &str, key: &str) -> Option<Field> {
            Some(match (group, key) {
                $(($group, $name) => Field::$field,)+
                _ => return None,
            })
        }

        /// Where a field stands in the context: its group, or `""`, and its name in it.
        pub(super) fn place(field: Field) -> Option<(&'static str, &'static str)> {
            Some(match field {
                $(Field::$field => ($group, $name),)+
                _ => return None,
            })
        }
    };
}

context_fields! {
    ("", "locale") = Locale,
    ("", "timezone") = Timezone,
    ("", "userAgent") = UserAgent,
    ("app", "name") = AppName,
    ("app", "version") = AppVersion,
    ("app", "build") = AppBuild,
    ("browser", "name") = Browser,
    ("browser", "version") = BrowserVersion,
    ("device", "type") = DeviceType,
    ("device", "model") = DeviceModel,
    ("device", "manufacturer") = DeviceManufacturer,
    ("os", "name") = Os,
    ("os", "version") = OsVersion,
    ("page", "url") = PageUrl,
    ("page", "host") = PageHost,
    ("page", "path") = PagePath,
    ("page", "title") = PageTitle,
    ("page", "search") = PageSearch,
    ("page", "referrer") = Referrer,
    ("campaign", "source") = CampaignSource,
    ("campaign", "medium") = CampaignMedium,
    ("campaign", "name") = CampaignName,
    ("campaign", "term") = CampaignTerm,
    ("campaign", "content") = CampaignContent,
    ("screen", "width") = ScreenWidth,
    ("screen", "height") = ScreenHeight,
    ("screen", "density") = ScreenDensity,
    ("geo", "country") = Country,
    ("geo", "region") = Region,
    ("geo", "city") = City,
    ("geo", "network") = Network,
    ("", "bot") = Bot,
}
