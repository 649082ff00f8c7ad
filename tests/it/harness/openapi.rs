//! Holds what is sent and answered to the description that the instance gives of itself.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use hyper::{Method, StatusCode};
use jsonschema::Validator;
use matchit::Router;
use pulse::app::openapi;
use serde_json::{Value, json};

/// The paths of the description.
static PATHS: LazyLock<Router<String>> = LazyLock::new(|| {
    let mut paths = Router::new();
    for path in openapi::document()["paths"].as_object().unwrap().keys() {
        paths.insert(path.as_str(), path.clone()).unwrap();
    }
    paths
});
/// By what they check.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// A request and its answer.
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a Method,
    /// Without parameters.
    pub(crate) path: &'a str,
    /// JSON, or null for anything else.
    pub(crate) sent: &'a Value,
    pub(crate) status: StatusCode,
    /// JSON, or null for anything else.
    pub(crate) answer: &'a Value,
}

/// Checks an exchange, if there is such a path: a request that was taken, and every answer.
pub(crate) fn check(exchange: &Exchange<'_>) {
    let &Exchange { method, path, sent, status, answer } = exchange;
    let Ok(found) = PATHS.at(path) else { return };
    let template = found.value;
    let operation = &openapi::document()["paths"][template][method.as_str().to_ascii_lowercase()];
    if operation.is_null() {
        assert!(
            [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NO_CONTENT].contains(&status),
            "{method} {template} is not described: {status}"
        );
        return;
    }
    if status.is_success() && !sent.is_null() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        hold(&format!("{method} {template} request"), schema, sent);
    }
    let responses = &operation["responses"];
    let response = responses.get(status.as_str()).unwrap_or(&responses["default"]);
    let response = match response["$ref"].as_str() {
        Some(reference) => openapi::document().pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    };
    if !answer.is_null() {
        hold(&format!("{method} {template} {status}"), &response["content"]["application/json"]["schema"], answer);
    }
}

fn hold(what: &str, schema: &Value, value: &Value) {
    if schema.is_null() {
        return;
    }
    let known = VALIDATORS.lock().unwrap().get(what).cloned();
    let validator = known.unwrap_or_else(|| {
        let whole = json!({"allOf": [schema], "components": openapi::document()["components"]});
        let made = Arc::new(jsonschema::draft202012::new(&whole).unwrap_or_else(|problem| panic!("{what}: {problem}")));
        VALIDATORS.lock().unwrap().insert(what.to_owned(), Arc::clone(&made));
        made
    });
    let problems: Vec<String> = validator.iter_errors(value).map(|problem| format!("{}: {problem}", problem.instance_path())).collect();
    assert!(problems.is_empty(), "{what} is not as described:\n{}\n{value}", problems.join("\n"));
}
