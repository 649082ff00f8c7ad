//! `POST /mcp`: the questions of the API as tools of the Model Context Protocol, for agents. Read-only, off by default (`query.mcp`).
//!
//! One message of JSON-RPC a request, answered as JSON; no session, no stream: whatever is asked, each request stands for itself, so any
//! instance answers. Clients of the revision without a handshake say their revision in each request ([`VERSION`]) and are told more; those of
//! the ones before begin with `initialize`. What a tool takes is the schema of its request in the description of the API ([`openapi`]).
//! Promises: the project follows from the read key, which is asked for as everywhere; a tool that fails says why in its result, for the
//! agent to mend its question.
//! May go wrong: answers are long; a tool gives those of its report whole.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::openapi;
use crate::auth::{Grant, KeyKind, Keys};
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_pieces, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::query::{self, Get, Queries, QueryError};

/// Where it is.
pub(super) const PATH: &str = "/mcp";
/// The revision without a handshake.
const STATELESS: &str = "2026-07-28";
/// Those before it, which differ in nothing that is done here, the newest first.
const WITH_HANDSHAKE: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// Where a request of the stateless revision says which one it is of.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Where a client of either kind says the same to those who read no bodies.
const VERSION_HEADER: &str = "mcp-protocol-version";
/// How long what there is to ask may be kept, milliseconds: it changes with a release.
const KEPT_MS: u64 = 600_000;
const MAX_BODY: usize = 1 << 20;
const INSTRUCTIONS: &str = "Product analytics of one project. Find names with list_events and list_fields first. Times are RFC 3339, dates or \
    relative (-7d, -29d/d, now). Answers carry `meta`: `data_through` says up to when they are complete.";

/// The tools, each with how it is asked.
static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(tools);

/// How the question of a tool is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// As the body of a report.
    Report(&'static str),
    /// As the parameters of a report that is read.
    Parameters(&'static str),
    /// As the name of a report and its body, for the statements.
    Explain,
}

struct Tool {
    name: String,
    description: String,
    input: Value,
    asks: Asks,
}

/// The path, for the holders of keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct McpApi {
    queries: Queries,
    keys: Keys,
    body: BodyLimits,
}

/// What a message is refused with: a number of JSON-RPC, and why.
#[derive(Debug, PartialEq, Eq)]
struct Fault(i64, String);

/// A message that can be answered.
#[derive(Debug)]
struct Message {
    /// None: it is only told.
    id: Option<Value>,
    method: String,
    params: Value,
    is_stateless: bool,
}

const INVALID_REQUEST: i64 = -32_600;
const NO_METHOD: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
const PARSE_ERROR: i64 = -32_700;
const UNSUPPORTED_VERSION: i64 = -32_022;

impl McpApi {
    pub(super) fn new(queries: Queries, keys: Keys, body_timeout: Duration) -> Self {
        let body = BodyLimits { max_wire: MAX_BODY, max_inflated: MAX_BODY, timeout: body_timeout, claim: Claim::Live, finds_gzip: false };
        Self { queries, keys, body }
    }

    /// Answers a request if its path is this one.
    pub(super) async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        if call.request.uri().path() != PATH {
            return Err(call);
        }
        let id = call.request_id.clone();
        if call.request.method() != Method::POST {
            return Ok(method_not_allowed("POST", &id));
        }
        Ok(self.respond(call).await.unwrap_or_else(|error| error.into_response(&id)))
    }

    async fn respond(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.caller(&call, KeyKind::Read)?;
        let version = call.request.headers().get(VERSION_HEADER).cloned();
        let version = version.as_ref().map(|version| version.to_str().unwrap_or_default());
        let bytes = body::read(call.request, self.body).await?;
        let message = match Message::read(&bytes, version) {
            Ok(message) => message,
            Err((fault, id)) => return Ok(json_response(StatusCode::BAD_REQUEST, fault.shown(&id).to_string().into_bytes())),
        };
        let Some(id) = &message.id else { return Ok(json_response(StatusCode::ACCEPTED, Vec::new())) };
        let answer = match self.result(&grant, &message).await {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": message.told(result)}),
            Err(fault) => fault.shown(id),
        };
        Ok(json_pieces(StatusCode::OK, [self.queries.count(answer.to_string())?]))
    }

    async fn result(&self, grant: &Grant, message: &Message) -> Result<Value, Fault> {
        let Message { method, params, .. } = message;
        match method.as_str() {
            "initialize" => Ok(welcome(params)),
            "server/discover" => Ok(discovered()),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({"tools": TOOLS.iter().map(Tool::shown).collect::<Vec<_>>()})),
            "tools/call" => {
                let name = params["name"].as_str().unwrap_or_default();
                let unknown = || Fault(INVALID_PARAMS, format!("there is no tool `{}`", short(name)));
                let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or_else(unknown)?;
                Ok(called(self.ask(grant, tool.asks, &params["arguments"]).await))
            }
            other => Err(Fault(NO_METHOD, format!("there is no method `{}`", short(other)))),
        }
    }

    async fn ask(&self, grant: &Grant, asks: Asks, arguments: &Value) -> Result<Bytes, QueryError> {
        let now_ms = clock::now_ms();
        let arguments = if arguments.is_null() { json!({}) } else { arguments.clone() };
        match asks {
            Asks::Report(report) => {
                let answer = self.queries.answer(grant.project, report, arguments.to_string().as_bytes(), now_ms).await?;
                Ok(answer.to_json().into())
            }
            Asks::Parameters(report) => {
                let query = parameters(&arguments);
                self.queries.get(Get { project: grant.project, project_name: &grant.name, report, query: &query }, now_ms).await
            }
            Asks::Explain => {
                let report = arguments["report"].as_str().unwrap_or_default();
                let body = arguments["question"].to_string();
                self.queries.explain(grant.project, report, body.as_bytes(), now_ms).await
            }
        }
    }
}

impl Fault {
    fn shown(&self, id: &Value) -> Value {
        let mut error = json!({"code": self.0, "message": self.1});
        if self.0 == UNSUPPORTED_VERSION {
            error["data"] = json!({"supported": revisions()});
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }
}

impl Message {
    /// One message: an object of JSON-RPC 2.0, of a revision that is known where it, or its header, says which.
    fn read(bytes: &[u8], header: Option<&str>) -> Result<Self, (Fault, Value)> {
        query::check_size(bytes).map_err(|refused| (Fault(INVALID_REQUEST, refused.message), Value::Null))?;
        let read: Value = serde_json::from_slice(bytes).map_err(|problem| (Fault(PARSE_ERROR, problem.to_string()), Value::Null))?;
        let Value::Object(mut message) = read else {
            return Err((Fault(INVALID_REQUEST, "a request is one object".to_owned()), Value::Null));
        };
        let id = message.remove("id");
        let refused = |code, why: String| (Fault(code, why), id.clone().unwrap_or_default());
        if message.get("jsonrpc").is_none_or(|version| version != "2.0") {
            return Err(refused(INVALID_REQUEST, "`jsonrpc` must be \"2.0\"".to_owned()));
        }
        let params = message.remove("params").unwrap_or_default();
        let version = params["_meta"][VERSION].as_str();
        if let Some(unknown) = version.into_iter().chain(header).find(|version| !revisions().contains(version)) {
            return Err(refused(UNSUPPORTED_VERSION, format!("the revision `{}` is not known", short(unknown))));
        }
        if version.is_some() && header.is_some_and(|header| Some(header) != version) {
            return Err(refused(INVALID_REQUEST, format!("the header `{VERSION_HEADER}` names another revision than `_meta`")));
        }
        let is_stateless = version == Some(STATELESS);
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { id, method, params, is_stateless })
    }

    /// A result with what the revision of the request wants said beside it.
    fn told(&self, mut result: Value) -> Value {
        let is_kept = matches!(self.method.as_str(), "tools/list" | "server/discover");
        if self.is_stateless || self.method == "server/discover" {
            result["resultType"] = json!("complete");
            if is_kept {
                result["ttlMs"] = json!(KEPT_MS);
                result["cacheScope"] = json!("private");
            }
        }
        result
    }
}

/// All revisions that are spoken.
fn revisions() -> Vec<&'static str> {
    std::iter::once(STATELESS).chain(WITH_HANDSHAKE).collect()
}

impl Tool {
    fn shown(&self) -> Value {
        let annotations = json!({"readOnlyHint": true, "openWorldHint": false});
        json!({"name": self.name, "description": self.description, "inputSchema": self.input, "annotations": annotations})
    }
}

fn welcome(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let revision = WITH_HANDSHAKE.into_iter().find(|revision| *revision == asked).unwrap_or(WITH_HANDSHAKE[0]);
    json!({"protocolVersion": revision, "capabilities": {"tools": {}}, "serverInfo": server(), "instructions": INSTRUCTIONS})
}

fn discovered() -> Value {
    json!({
        "supportedVersions": revisions(), "capabilities": {"tools": {}}, "instructions": INSTRUCTIONS,
        "_meta": {"io.modelcontextprotocol/serverInfo": server()},
    })
}

fn server() -> Value {
    json!({"name": "pulse", "version": env!("CARGO_PKG_VERSION")})
}

/// What came of a tool.
fn called(answer: Result<Bytes, QueryError>) -> Value {
    let (text, is_error) = match answer {
        Ok(answer) => (String::from_utf8_lossy(&answer).into_owned(), false),
        Err(problem) => (format!("{}: {}", problem.code, problem.said()), true),
    };
    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Arguments as the parameters of an address.
fn parameters(arguments: &Value) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in arguments.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        query.append_pair(key, value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str());
    }
    query.finish()
}

fn tools() -> Vec<Tool> {
    let of_report = |report: &'static str| {
        let operation = &openapi::document()["paths"][format!("/v1/query/{report}")]["post"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let description = match report {
            "users" => "The people behind a bar of a report: `of` is the request of the report, with what names the bar".to_owned(),
            _ => format!("The report `{report}`"),
        };
        Tool { name: report.replace('-', "_"), description, input: whole(schema), asks: Asks::Report(report) }
    };
    let read = |name: &str, path: &str, report| {
        let operation = &openapi::document()["paths"][path]["get"];
        let description = operation["summary"].as_str().unwrap_or_default().to_owned();
        Tool { name: name.to_owned(), description, input: of_parameters(&operation["parameters"]), asks: Asks::Parameters(report) }
    };
    let names = [
        read("list_events", "/v1/catalogue/events", "catalogue-events"),
        read("list_fields", "/v1/catalogue/fields", "catalogue-fields"),
        read("list_values", "/v1/catalogue/values", "catalogue-values"),
        read("ledger", "/v1/ledger", "ledger"),
    ];
    // What is chosen from has its own tools above.
    let reports = query::questions().filter(|report| !report.starts_with("catalogue-"));
    names.into_iter().chain([explain()]).chain(reports.map(of_report)).collect()
}

fn explain() -> Tool {
    let operation = &openapi::document()["paths"]["/v1/query/{report}/explain"]["post"];
    let question = &operation["requestBody"]["content"]["application/json"]["schema"];
    let input = json!({
        "type": "object", "required": ["report", "question"], "additionalProperties": false,
        "properties": {"report": {"enum": query::questions().collect::<Vec<_>>()}, "question": question},
    });
    let description = operation["summary"].as_str().unwrap_or_default().to_owned();
    Tool { name: "explain".to_owned(), description, input, asks: Asks::Explain }
}

/// The parameters of a path as the members of an object.
fn of_parameters(parameters: &Value) -> Value {
    let mut object = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let mut required = Vec::new();
    for parameter in parameters.as_array().into_iter().flatten() {
        let named = parameter["$ref"].as_str().and_then(|reference| openapi::document().pointer(reference.trim_start_matches('#')));
        let parameter = named.unwrap_or(parameter);
        let (Some(name), "query") = (parameter["name"].as_str(), parameter["in"].as_str().unwrap_or_default()) else { continue };
        let mut schema = parameter["schema"].clone();
        if let (Some(schema), Some(text)) = (schema.as_object_mut(), parameter.get("description")) {
            schema.insert("description".to_owned(), text.clone());
        }
        object["properties"][name] = schema;
        required.extend((parameter["required"] == true).then(|| Value::from(name)));
    }
    if !required.is_empty() {
        object["required"] = Value::from(required);
    }
    whole(&object)
}

/// A schema with all that it names inside it: a tool stands for itself.
fn whole(schema: &Value) -> Value {
    let (mut open, mut found) = (BTreeSet::new(), BTreeSet::new());
    let mut whole = moved(schema, &mut open);
    let mut definitions = Map::new();
    while let Some(name) = open.pop_first() {
        if found.insert(name.clone()) {
            let named = &openapi::document()["components"]["schemas"][&name];
            definitions.insert(name, moved(named, &mut open));
        }
    }
    // The schema of a tool is an object, not a reference to one.
    if let Some(name) = whole["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        whole = definitions.get(name).cloned().unwrap_or_default();
    }
    if let (Some(whole), false) = (whole.as_object_mut(), definitions.is_empty()) {
        whole.entry("type").or_insert_with(|| "object".into());
        whole.insert("$defs".to_owned(), Value::Object(definitions));
    }
    whole
}

/// A copy whose references lead into `$defs`; `open` takes what they name.
fn moved(value: &Value, open: &mut BTreeSet<String>) -> Value {
    match value {
        Value::Object(members) => {
            let mut copy = Map::new();
            for (key, value) in members {
                let name = value.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")).filter(|_| key == "$ref");
                let member = name.map_or_else(|| moved(value, open), |name| Value::from(format!("#/$defs/{name}")));
                open.extend(name.map(str::to_owned));
                copy.insert(key.clone(), member);
            }
            Value::Object(copy)
        }
        Value::Array(values) => Value::Array(values.iter().map(|value| moved(value, open)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_name_a_description_and_a_schema_that_stands_for_itself() {
        let names: BTreeSet<&str> = TOOLS.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names.len(), TOOLS.len());
        for name in ["list_events", "list_fields", "trends", "funnel", "retention", "users", "ledger"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        for tool in TOOLS.iter() {
            assert!(tool.description.len() > 5, "{}", tool.name);
            assert_eq!(tool.input["type"], "object", "{}", tool.name);
            assert!(!tool.input.to_string().contains("#/components"), "{}", tool.name);
            jsonschema::validator_for(&tool.input).unwrap_or_else(|problem| panic!("{}: {problem}", tool.name));
        }
    }

    fn refused(bytes: &[u8], header: Option<&str>) -> i64 {
        Message::read(bytes, header).unwrap_err().0.0
    }

    #[test]
    fn what_is_no_message_is_refused_by_number() {
        assert_eq!(refused(b"{", None), PARSE_ERROR);
        for wrong in ["[]", "7", "{}", r#"{"jsonrpc": "1.0"}"#] {
            assert_eq!(refused(wrong.as_bytes(), None), INVALID_REQUEST, "{wrong}");
        }
        assert_eq!(parameters(&json!({"event": "a&b", "limit": 3, "search": null})), "event=a%26b&limit=3");
    }

    #[test]
    fn a_revision_that_is_known_is_taken_and_answered_as_it_wants() {
        let of =
            |version: &str| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {VERSION: version}}}).to_string();
        assert_eq!(refused(of("2031-01-01").as_bytes(), None), UNSUPPORTED_VERSION);
        assert_eq!(refused(of(STATELESS).as_bytes(), Some("1999")), UNSUPPORTED_VERSION);
        assert_eq!(refused(of(STATELESS).as_bytes(), Some("2025-11-25")), INVALID_REQUEST);
        let told = Message::read(of(STATELESS).as_bytes(), Some(STATELESS)).unwrap().told(json!({}));
        assert_eq!(told, json!({"resultType": "complete", "ttlMs": KEPT_MS, "cacheScope": "private"}));
        let before = br#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#;
        assert_eq!(Message::read(before, Some("2025-06-18")).unwrap().told(json!({})), json!({}));
        assert_eq!(welcome(&json!({"protocolVersion": "2025-06-18"}))["protocolVersion"], "2025-06-18");
        for other in ["1999", STATELESS] {
            assert_eq!(welcome(&json!({"protocolVersion": other}))["protocolVersion"], WITH_HANDSHAKE[0]);
        }
    }
}
