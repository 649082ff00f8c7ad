//! OpenTelemetry's logs over HTTP (`POST /v1/logs`), as JSON and as protobuf: a record with an event name is an event.
//!
//! A record has no id: without `log.record.uid` its event is known by all that it holds, for exporters send again the same bytes.
//! Promises: records are read one by one, and no more of them than a request may have events; a body becomes no more than a few times
//! what it is. A record that is no event is refused by its place.

mod json;
mod record;
mod wire;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use self::record::{Equals, Record, Resource, own};
use super::{Delivery, Head, Protocol, Received, pulse};
use crate::http::respond::{ApiError, Body, json_response, retry_later, typed_response};
use crate::ingest::draft::Draft;
use crate::ingest::envelope;
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};

pub(super) struct OpenTelemetry;

impl Protocol for OpenTelemetry {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/logs"]
    }

    fn check(&self, head: &Head) -> Result<Delivery, ApiError> {
        match Encoding::of(head) {
            Ok(_) => Ok(Delivery::Live),
            Err(other) => {
                let message = format!("content-type `{other}` is neither JSON nor protobuf");
                Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
            }
        }
    }

    /// A Collector or a program, unless it is a page.
    fn is_of_server(&self, head: &Head) -> bool {
        !head.agent().starts_with("Mozilla/")
    }

    /// An export without records is one: exporters may try with it whether they are heard.
    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        intake.begin(None, None)?;
        // What is around a record and what of it is no event take some bytes, too.
        let max_size = intake.max_event_size().saturating_mul(2);
        let mut taker = Taker::new(intake);
        match Encoding::of(request.head) {
            Ok(Encoding::Protobuf) => wire::each(request.body, max_size, |record, resource| taker.take(record, resource)),
            _ => json::each(request.body, |record, resource| taker.take(record, resource)),
        }
    }

    /// 200 if anything was accepted; `partialSuccess` says how many were not, and why the first. Exporters send nothing of it again.
    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let first = verdicts.rejected.first();
        let why = first.map(|first| format!("log record {}: {}", first.index, first.message));
        if let (0, Some(first), Some(why)) = (verdicts.accepted, first, &why) {
            let error = ApiError::bad_request(first.defect.as_str(), why);
            return status(&error, head, json!({"accepted": 0, "rejected": pulse::rejected(verdicts)}));
        }
        let refused = verdicts.rejected.len() as u64;
        if matches!(Encoding::of(head), Ok(Encoding::Protobuf)) {
            return protobuf(StatusCode::OK, wire::partial_success(refused, why.as_deref().unwrap_or_default()));
        }
        let mut answer = json!({"accepted": verdicts.accepted, "rejected": pulse::rejected(verdicts)});
        if let Some(why) = why {
            answer["partialSuccess"] = json!({"rejectedLogRecords": refused.to_string(), "errorMessage": why});
        }
        json_response(StatusCode::OK, answer.to_string().into_bytes())
    }

    fn refuse(&self, error: ApiError, head: &Head) -> Response<Body> {
        status(&error, head, json!({}))
    }
}

/// A `google.rpc.Status`, in the encoding of the request; what else is to be said of it stands beside it where there is room.
fn status(error: &ApiError, head: &Head, mut answer: serde_json::Value) -> Response<Body> {
    let code = match error.status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        status if status.is_client_error() => 3,
        _ => 13,
    };
    let response = if matches!(Encoding::of(head), Ok(Encoding::Protobuf)) {
        protobuf(error.status, wire::status(code, &error.message))
    } else {
        answer["code"] = code.into();
        for (key, value) in [("message", error.message.as_str()), ("error", error.code), ("requestId", &head.request_id)] {
            answer[key] = value.into();
        }
        json_response(error.status, answer.to_string().into_bytes())
    };
    retry_later(response, error.retry_after)
}

fn protobuf(status: StatusCode, message: Vec<u8>) -> Response<Body> {
    typed_response(status, HeaderValue::from_static("application/x-protobuf"), message.into())
}

/// How an export is written, and its answer.
enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// Errors: a content-type that is neither.
    fn of(head: &Head) -> Result<Self, &str> {
        let text = head.headers.get(header::CONTENT_TYPE).map_or(Ok(""), |value| value.to_str().map_err(|_| "?"))?;
        let kind = text.split(';').next().unwrap_or_default().trim();
        let is = |known: &&str| kind.eq_ignore_ascii_case(known);
        if ["application/x-protobuf", "application/protobuf"].iter().any(is) {
            return Ok(Self::Protobuf);
        }
        // `text/plain` is what a page may send without asking first.
        if ["", "application/json", "text/plain"].iter().any(is) { Ok(Self::Json) } else { Err(kind) }
    }
}

struct Taker<'i, 'r> {
    intake: &'i mut Intake<'r>,
    count: usize,
    equals: Equals,
}

impl<'i, 'r> Taker<'i, 'r> {
    fn new(intake: &'i mut Intake<'r>) -> Self {
        Self { intake, count: 0, equals: Equals::new() }
    }

    /// Takes the next record of a resource, or the reason why it is none.
    fn take(&mut self, record: Result<Record, Rejection>, resource: &Resource) -> Result<(), Refusal> {
        let index = self.count;
        self.count += 1;
        self.intake.admit_count(self.count)?;
        match record.and_then(|record| own(record, resource, &mut self.equals)) {
            Ok(event) => envelope::alone(event.to_string().as_bytes(), index, read, self.intake),
            Err(rejection) => self.intake.reject(index, None, rejection),
        }
        Ok(())
    }
}

/// Reads an event of pulse's own dialect whose ids may be numbers.
fn read<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.has_numeric_ids = true;
    pulse::event(event, draft)
}

#[cfg(test)]
mod tests {
    use super::json::tests::{JSON, logs};
    use super::*;
    use crate::event::field::Field;
    use crate::ingest::tests::read::read as read_events;
    use crate::ingest::tests::{SHOP, decoded_as};

    fn take_json(text: &str, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let mut taker = Taker::new(intake);
        json::each(text.as_bytes(), |record, resource| taker.take(record, resource))
    }

    #[test]
    fn a_copy_has_the_same_id_and_another_event_another() {
        let of = |text: &str| read_events(|intake| take_json(text, intake)).remove(0);
        let (one, copy, other) = (of(JSON), of(JSON), of(&JSON.replace("12.5", "12.6")));
        assert_eq!(one.event_id, copy.event_id);
        assert_ne!(one.event_id, other.event_id);
        assert_eq!(one.text(Field::AppName), "shop");
    }

    /// What the SDK for Python 1.45.2 sends.
    const PYTHON: &str = "CvsCCsUBCiIKFnRlbGVtZXRyeS5zZGsubGFuZ3VhZ2USCAoGcHl0aG9uCiUKEnRlbGVtZXRyeS5zZGsubmFtZRIPCg1vcGVudGVsZW1ldHJ5CiEKFXRlbGVt\
        ZXRyeS5zZGsudmVyc2lvbhIICgYxLjQ1LjIKPQoTc2VydmljZS5pbnN0YW5jZS5pZBImCiQ3OGQ5YmU1Ni03MmI2LTQyNmYtODIzYi0xOTI4YWUxMGYzNjAK\
        FgoMc2VydmljZS5uYW1lEgYKBHNob3ASsAEKBgoEc2hvcBKlAQkAACeuD5cWGBAJGgRJTkZPKhUyEwoRCghjdXJyZW5jeRIFCgNFVVIyEAoHdXNlci5pZBIF\
        CgNhZGEyEgoFdG90YWwSCSEAAAAAAAApQDILCgVjb3VudBICGAMyCQoDdmlwEgIQATIUCgR0YWdzEgwqCgoDCgFhCgMKAWIyFwoIbmVnYXRpdmUSCxj7////\
        //////8BWQEAJ64PlxYYYgVvcmRlcg==";

    #[test]
    fn what_an_sdk_sends_is_an_event() {
        let body = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, PYTHON).unwrap();
        let mut events = read_events(|intake| {
            let mut taker = Taker::new(intake);
            wire::each(&body, 1_000, |record, resource| taker.take(record, resource))
        });
        let event = events.remove(0);
        assert_eq!((event.ids(), event.at_ms), (["order", "ada", ""].map(str::to_owned), 1_735_740_800_000));
        assert_eq!(event.text(Field::AppName), "shop");
        let properties = [
            "count=3",
            "currency=EUR",
            "negative=-5",
            "service.instance.id=78d9be56-72b6-426f-823b-1928ae10f360",
            "severity=INFO",
            "tags=[\"a\",\"b\"]",
            "total=12.5",
            "vip=true",
        ];
        assert_eq!(event.properties(), properties);
    }

    /// Of millions of records that take two bytes each no more is read than a request may have events.
    #[test]
    fn records_beyond_what_a_request_may_have_are_not_read() {
        let tiny = wire::tests::export(&vec![Vec::new(); 1_000_000]);
        let many = logs(&vec!["{}"; 1_000_000].join(","));
        for (is_protobuf, body) in [(true, tiny.as_slice()), (false, many.as_bytes())] {
            let mut seen = 0;
            let refused = decoded_as(
                SHOP,
                |_| {},
                |intake| {
                    let mut taker = Taker::new(intake);
                    let take = |record, resource: &Resource| {
                        seen += 1;
                        taker.take(record, resource)
                    };
                    if is_protobuf { wire::each(body, 1_000, take) } else { json::each(body, take) }
                },
            );
            assert!(matches!(refused, Err(Refusal::TooManyEvents(most)) if seen == most + 1), "{seen}");
        }
    }
}
