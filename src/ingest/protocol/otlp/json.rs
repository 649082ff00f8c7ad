//! The JSON encoding: 64-bit numbers are text in it, bytes of ids hexadecimal, and a value has the word for its type around it.
//!
//! What stands around records is taken apart and never held as a whole, so that neither many records nor much in one of them costs
//! more than a record does. Promises: a byte that is no UTF-8, a nest too deep or a value of a wrong type costs the record that holds it.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use super::record::{Record, Resource, checked};
use crate::event::text::clip;
use crate::ingest::refusal::Refusal;
use crate::ingest::sanitize::sanitize;
use crate::ingest::verdict::Rejection;
use crate::ingest::{envelope, json_bounds, unreadable};
use crate::outcome::Defect;

/// Longest part of a value that is shown when it is refused.
const SHOWN: usize = 60;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an export of logs")]
struct Export<'a> {
    #[serde(borrow)]
    resource_logs: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "the logs of a resource")]
struct ResourceLogs<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    scope_logs: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "the logs of a scope")]
struct ScopeLogs<'a> {
    #[serde(borrow)]
    log_records: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "a resource")]
struct Attributes {
    attributes: Option<Vec<KeyValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a log record")]
struct LogRecord {
    event_name: Option<String>,
    time_unix_nano: Json,
    observed_time_unix_nano: Json,
    severity_text: Option<String>,
    body: Json,
    attributes: Option<Vec<KeyValue>>,
    trace_id: Option<String>,
    span_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "a key and a value")]
struct KeyValue {
    key: String,
    value: Json,
}

/// Takes each record of a body to `take`, with its resource.
pub(super) fn each(body: &[u8], mut take: impl FnMut(Result<Record, Rejection>, &Resource) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let body = envelope::strip_bom(body);
    if body.trim_ascii().is_empty() {
        return Err(Refusal::Empty);
    }
    if !json_bounds::is_shallow(body) {
        return Err(Refusal::TooDeep(json_bounds::MAX_DEPTH));
    }
    let sanitized = sanitize(body);
    let text = sanitized.as_ref();
    // As it came: it is this record that a byte which is none costs.
    let original = |part: &RawValue| {
        let start = (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        body.get(start..start + part.get().len()).unwrap_or_default()
    };
    let export: Export<'_> = around(text)?;
    elements(export.resource_logs, &mut |logs| {
        let logs: ResourceLogs<'_> = around(logs.get())?;
        let resource = logs.resource.map_or(Ok(Map::new()), |resource| resource_of(original(resource)));
        elements(logs.scope_logs, &mut |scope| {
            let scope: ScopeLogs<'_> = around(scope.get())?;
            elements(scope.log_records, &mut |record| take(record_of(original(record)), &resource))
        })
    })
}

/// Reads what stands around records.
fn around<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|problem| not_json(&problem))
}

fn not_json(problem: &serde_json::Error) -> Refusal {
    Refusal::NotJson(clip(&problem.to_string(), 200).to_owned())
}

/// Shows each element of an array to `show`, until it refuses one.
fn elements<'a>(list: Option<&'a RawValue>, show: &mut dyn FnMut(&'a RawValue) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let Some(list) = list else { return Ok(()) };
    envelope::each_element(list.get(), show, |problem| not_json(&problem))
}

fn resource_of(text: &[u8]) -> Resource {
    let Attributes { attributes: list } = bounded(text)?;
    checked(attributes(list)?)
}

fn record_of(text: &[u8]) -> Result<Record, Rejection> {
    let record: LogRecord = bounded(text)?;
    let odd_body = |why: String| Rejection::new(Defect::InvalidJson, "body", format!("`body`: {why}"));
    Ok(Record {
        event_name: record.event_name.unwrap_or_default(),
        time_ns: nanoseconds("timeUnixNano", &record.time_unix_nano)?,
        observed_ns: nanoseconds("observedTimeUnixNano", &record.observed_time_unix_nano)?,
        severity: record.severity_text.unwrap_or_default(),
        body: any_value(record.body).map_err(odd_body)?,
        attributes: attributes(record.attributes)?,
        trace_id: record.trace_id.unwrap_or_default(),
        span_id: record.span_id.unwrap_or_default(),
    })
}

/// Reads a text that may be neither JSON nor small.
fn bounded<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, Rejection> {
    if !json_bounds::is_bounded(text) {
        let message = format!("the log record or its resource has more than {} values", json_bounds::MAX_NODES);
        return Err(Rejection::new(Defect::EventTooLarge, "", message));
    }
    serde_json::from_slice(text).map_err(|problem| {
        let (defect, message) = match problem.is_data() {
            true => (Defect::InvalidJson, problem.to_string()),
            false => unreadable::why(text),
        };
        Rejection::new(defect, "", clip(&message, 200))
    })
}

fn nanoseconds(field: &str, number: &Json) -> Result<u64, Rejection> {
    let read = match number {
        Json::Null => Some(0),
        Json::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    };
    let invalid = || {
        let message = format!("`{field}` `{}` is no number of nanoseconds", shown(number));
        Rejection::new(Defect::TimestampInvalid, field, message)
    };
    read.ok_or_else(invalid)
}

fn attributes(list: Option<Vec<KeyValue>>) -> Result<Map<String, Json>, Rejection> {
    let of = |KeyValue { key, value }: KeyValue| match any_value(value) {
        Ok(value) => Ok((key, value)),
        Err(why) => {
            let key = clip(&key, SHOWN);
            Err(Rejection::new(Defect::InvalidJson, key, format!("attribute `{key}`: {why}")))
        }
    };
    list.unwrap_or_default().into_iter().map(of).collect()
}

/// A value without the word for its type around it. Errors: why it is none.
fn any_value(value: Json) -> Result<Json, String> {
    let members = match value {
        Json::Null => return Ok(Json::Null),
        Json::Object(members) if members.len() < 2 => members,
        other => return Err(format!("`{}` is not one value with its type around it, such as {{\"stringValue\": \"…\"}}", shown(&other))),
    };
    let Some((kind, value)) = members.into_iter().next() else { return Ok(Json::Null) };
    let unfit = |value: &Json| format!("`{}` is no `{}`", shown(value), clip(&kind, SHOWN));
    match (kind.as_str(), value) {
        (_, Json::Null) => Ok(Json::Null),
        ("stringValue" | "bytesValue", value @ Json::String(_))
        | ("boolValue", value @ Json::Bool(_))
        | ("intValue" | "doubleValue", value @ Json::Number(_)) => Ok(value),
        ("intValue", Json::String(digits)) => digits.parse::<i64>().map(Json::from).map_err(|_| unfit(&digits.into())),
        // What is no finite number (`NaN`) is none.
        ("doubleValue", Json::String(digits)) => digits.parse::<f64>().map(Json::from).map_err(|_| unfit(&digits.into())),
        ("arrayValue", value) => values(value, &unfit)?.into_iter().map(any_value).collect(),
        ("kvlistValue", value) => {
            let of = |member: Json| {
                let KeyValue { key, value } =
                    serde_json::from_value(member).map_err(|problem| clip(&problem.to_string(), 200).to_owned())?;
                Ok((key, any_value(value)?))
            };
            values(value, &unfit)?.into_iter().map(of).collect::<Result<Map<_, _>, _>>().map(Json::Object)
        }
        (_, value) => Err(unfit(&value)),
    }
}

/// The elements of a list.
fn values(list: Json, unfit: &dyn Fn(&Json) -> String) -> Result<Vec<Json>, String> {
    let Json::Object(mut members) = list else { return Err(unfit(&list)) };
    match members.remove("values") {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(values)) => Ok(values),
        Some(other) => Err(unfit(&other)),
    }
}

/// The beginning of a value, for people.
fn shown(value: &Json) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    clip(&text, SHOWN).to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::record::{Equals, own};
    use super::*;

    pub(in super::super) const JSON: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},
        {"key":"telemetry.sdk.name","value":{"stringValue":"opentelemetry"}}]},"scopeLogs":[{"scope":{"name":"a"},"logRecords":[
        {"timeUnixNano":"1735740800000000000","eventName":"order","severityText":"INFO","traceId":"0af7","body":{"stringValue":"done"},"attributes":[
        {"key":"user.id","value":{"stringValue":"ada"}},{"key":"total","value":{"doubleValue":12.5}},{"key":"count","value":{"intValue":"3"}},
        {"key":"url.full","value":{"stringValue":"https://a.example/x"}},
        {"key":"tags","value":{"arrayValue":{"values":[{"stringValue":"a"},{"boolValue":true}]}}}]}]}]}]}"#;

    pub(in super::super) fn logs(records: &str) -> String {
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
    }

    fn taken(body: &[u8]) -> Vec<Result<Json, String>> {
        let mut events = Vec::new();
        each(body, |record, resource| {
            events.push(record.and_then(|record| own(record, resource, &mut Equals::new())).map_err(|rejection| rejection.message));
            Ok(())
        })
        .unwrap();
        events
    }

    #[test]
    fn a_record_with_an_event_name_is_an_event() {
        let expected = json!({
            "type": "order", "userId": "ada", "timestamp": 1_735_740_800_000_u64,
            "context": {"page": {"url": "https://a.example/x"}, "os": {}, "device": {}, "app": {"name": "shop"}},
            "properties": {"total": 12.5, "count": 3, "tags": ["a", true], "body": "done", "severity": "INFO", "traceId": "0af7"},
        });
        let mut event = taken(JSON.as_bytes()).remove(0).unwrap();
        let id = event.as_object_mut().unwrap().remove("eventId").unwrap();
        assert!(id.as_str().unwrap().starts_with("otlp-"));
        assert_eq!(event, expected);
    }

    #[test]
    fn records_without_a_name_are_refused_and_the_others_taken() {
        let old =
            r#"{"attributes":[{"key":"event.name","value":{"stringValue":"click"}},{"key":"session.id","value":{"stringValue":"s"}}]}"#;
        let events = taken(logs(&format!(r#"{{"body":{{"stringValue":"x"}}}},{old},{{"eventName":5}}"#)).as_bytes());
        let click = events[1].as_ref().unwrap();
        assert_eq!((click["type"].as_str(), click["anonymousId"].as_str()), (Some("click"), Some("s")));
        assert!(events[0].as_ref().unwrap_err().contains("neither an event name"), "{events:?}");
        assert!(events[2].as_ref().unwrap_err().contains("invalid type"), "{events:?}");
    }

    #[test]
    fn what_is_odd_costs_its_record() {
        let attribute = |value: &str| format!(r#"{{"eventName":"a","attributes":[{{"key":"k","value":{value}}}]}}"#);
        let deep = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(50_000), "]}}".repeat(50_000));
        let wide = format!(r#"{{"arrayValue":{{"values":[{{}}{}]}}}}"#, ",{}".repeat(300_000));
        let odd = [
            attribute("5"),
            attribute(r#"{"stringValue":5}"#),
            attribute(r#"{"intValue":"x"}"#),
            attribute(r#"{"anyValue":5}"#),
            attribute(r#"{"arrayValue":[]}"#),
            attribute(r#"{"kvlistValue":{"values":[5]}}"#),
            attribute(&deep),
            attribute(&wide),
            attribute(r#"{"stringValue":"\ud800"}"#),
            r#"{"timeUnixNano":"yesterday"}"#.to_owned(),
            "5".to_owned(),
        ];
        let mut body = logs(&format!(r#"{},{{"eventName":"good"}}"#, odd.join(","))).into_bytes();
        let events = taken(&body);
        assert_eq!(events.len(), odd.len() + 1);
        for (event, odd) in events.iter().zip(&odd) {
            let why = event.as_ref().expect_err(clip(odd, 100));
            assert!(why.len() < 400, "{why}");
        }
        assert!(events[odd.len()].is_ok());
        let at = body.windows(9).position(|text| text == b"yesterday").unwrap();
        body[at] = 0xff;
        assert!(taken(&body)[odd.len()].is_ok());
    }

    #[test]
    fn what_is_empty_is_no_value_and_what_is_unknown_is_passed_over() {
        let record = r#"{"eventName":"a","traceId":null,"later":[[]],"attributes":[{"key":"k","value":{}},{"key":"n","value":{"doubleValue":"NaN"}},{"key":"o","value":{"kvlistValue":{"values":[{"key":"x","value":{"intValue":1}}]}}}]}"#;
        let event = taken(logs(record).as_bytes()).remove(0).unwrap();
        assert_eq!(event["properties"], json!({"k": null, "n": null, "o": {"x": 1}}));
        for empty in ["{}", r#"{"resourceLogs":null}"#, r#"{"resourceLogs":[{},{"scopeLogs":[]}]}"#] {
            assert_eq!(taken(empty.as_bytes()), []);
        }
    }

    #[test]
    fn what_holds_no_records_is_refused_as_a_whole() {
        let nest = "[".repeat((1 << 20) + 1);
        for bad in ["", " ", "5", "{", r#"{"resourceLogs":5}"#, r#"{"resourceLogs":[5]}"#, &nest] {
            assert!(each(bad.as_bytes(), |_, _| Ok(())).is_err(), "{}", clip(bad, 40));
        }
    }

    #[test]
    fn a_resource_that_is_too_much_costs_its_records() {
        let of = |length: usize| {
            let value = "x".repeat(length);
            format!(
                r#"{{"resource":{{"attributes":[{{"key":"k","value":{{"stringValue":"{value}"}}}}]}},"scopeLogs":[{{"logRecords":[{{"eventName":"a"}}]}}]}}"#
            )
        };
        let events = taken(format!(r#"{{"resourceLogs":[{},{}]}}"#, of(20_000), of(2_000)).as_bytes());
        assert!(events[0].as_ref().unwrap_err().contains("more than"), "{events:?}");
        assert!(events[1].is_ok());
    }
}
