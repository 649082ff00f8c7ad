//! The description of all that is asked and sent over HTTP: `GET /openapi.json`, OpenAPI 3.1.
//!
//! What is written by hand stands beside, a file a subject. What the code knows is added from it: a path for each report, whose request and
//! result are the schemas of its name, and the paths that SDKs of other products use. Promise: it has every path with its
//! methods, and no other; the tests hold what is sent and answered to its schemas.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{ingest, query};

/// The hand-written pieces; the first one has what is not of one subject.
const PIECES: [&str; 9] = [
    include_str!("openapi/base.json"),
    include_str!("openapi/events.json"),
    include_str!("openapi/questions.json"),
    include_str!("openapi/people.json"),
    include_str!("openapi/saved.json"),
    include_str!("openapi/shares.json"),
    include_str!("openapi/alerts.json"),
    include_str!("openapi/keys.json"),
    include_str!("openapi/operations.json"),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = Value::Null;
    for piece in PIECES {
        merge(&mut document, serde_json::from_str(piece).unwrap_or_default());
    }
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        paths.extend(query::questions().map(|report| (format!("/v1/query/{report}"), question(report))));
        add_dialects(paths);
    }
    document
});
static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(DOCUMENT.to_string()));

/// The description.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// The same as text.
pub(super) fn text() -> Bytes {
    TEXT.clone()
}

/// Adds the members of `piece`, those of objects that both have among each other.
fn merge(document: &mut Value, piece: Value) {
    match (document, piece) {
        (Value::Object(document), Value::Object(piece)) => {
            piece.into_iter().for_each(|(key, value)| merge(document.entry(key).or_insert(Value::Null), value));
        }
        (document, piece) => *document = piece,
    }
}

/// The path of a report.
fn question(report: &str) -> Value {
    let name: String = report.split('-').map(capitalized).collect();
    let of_name = |part: &str| json!({"$ref": format!("#/components/schemas/{name}{part}")});
    let answer = json!({
        "type": "object", "required": ["result", "meta"], "additionalProperties": false,
        "properties": {"result": of_name("Result"), "meta": {"$ref": "#/components/schemas/Meta"}},
    });
    json!({"post": {
        "operationId": format!("ask{name}"), "tags": ["questions"], "summary": format!("The report `{report}`"),
        "security": [{"key": []}, {"cookie": []}],
        "parameters": [{"$ref": "#/components/parameters/IfNoneMatch"}],
        "requestBody": {"required": true, "content": {"application/json": {"schema": of_name("Request")}}},
        "responses": {
            "200": {"description": "The answer, with its tag in `ETag`", "content": {"application/json": {"schema": answer}}},
            "304": {"description": "The result is that of the tag in `If-None-Match`"},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }})
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The paths of dialects that are not described by hand.
fn add_dialects(paths: &mut Map<String, Value>) {
    let own: Vec<String> = paths.keys().cloned().collect();
    for (path, method) in ingest::routes() {
        let path = path.replace("{*", "{");
        let method = method.as_str().to_ascii_lowercase();
        let operation = compatible(&path, &method);
        if !own.contains(&path)
            && let Some(item) = paths.entry(path).or_insert_with(|| json!({})).as_object_mut()
        {
            item.insert(method, operation);
        }
    }
}

fn compatible(path: &str, method: &str) -> Value {
    let parameters = path.split(['{', '}']).skip(1).step_by(2);
    let parameters = parameters.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    json!({
        "operationId": format!("{method} {path}"), "tags": ["compatible"], "summary": "As the SDKs that know this path send it",
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": {"default": {"description": "What those SDKs expect"}},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::alert;

    /// All values under `$ref`.
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let of_reports = |path: &str| -> Vec<String> {
            if path == "/v1/query/{report}" {
                query::questions().map(|report| format!("/v1/query/{report}")).collect()
            } else {
                vec![path.to_owned()]
            }
        };
        let asked = query::http::routes().chain(alert::http::PATHS.iter().copied()).flat_map(|(path, methods)| {
            of_reports(path).into_iter().flat_map(|path| methods.iter().map(move |method| (path.clone(), method.to_ascii_lowercase())))
        });
        let sent = ingest::routes().map(|(path, method)| (path.replace("{*", "{"), method.as_str().to_ascii_lowercase()));
        let own = super::super::routes::OWN_PATHS.iter().map(|path| ((*path).to_owned(), "get".to_owned()));
        let redrive = [super::super::redrive::PATH, super::super::mcp::PATH].map(|path| (path.to_owned(), "post".to_owned()));
        let routes: BTreeSet<(String, String)> = asked.chain(sent).chain(own).chain(redrive).collect();
        let paths = document()["paths"].as_object().unwrap();
        let methods = |item: &Value| item.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect::<Vec<_>>();
        let described: BTreeSet<(String, String)> =
            paths.iter().flat_map(|(path, item)| methods(item).into_iter().map(move |method| (path.clone(), method))).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn the_pieces_can_be_read_and_what_they_name_is_there() {
        for piece in PIECES {
            serde_json::from_str::<Value>(piece).unwrap();
        }
        let mut found = BTreeSet::new();
        references(document(), &mut found);
        assert!(found.len() > 40, "{found:?}");
        for reference in found {
            assert!(document().pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        let ids = document()["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let ids: Vec<&str> = ids.filter_map(|operation| operation.get("operationId")?.as_str()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an operation has a name of its own");
    }
}
