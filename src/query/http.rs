//! The routes of the role: what is asked over HTTP, by whom, and what an error looks like there.
//!
//! Owns the paths, the limits of a body and the one translation of [`QueryError`] into an answer. Promises: the project comes from
//! the key, never from input.

use std::convert::Infallible;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cohorts::{Expected, MOST_BYTES, Write};
use super::error::{ErrorClass, QueryError};
use super::reader::{StoreReader, missing_limits};
use super::report::{REPORTS, ReportKind, Route};
use super::{AskedPerson, Get, Queries};
use crate::auth::{KeyKind, Keys};
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::metrics::Counter;

/// Where reports are asked for by name.
const QUESTIONS: &str = "/v1/query/";
/// Where cohorts are saved.
const COHORTS: &str = "/v1/cohorts";
/// Where single people are asked for.
const PEOPLE: &str = "/v1/people/";
/// Where it is ruled that two ids belong to one person, or not.
const MERGE: &str = "/v1/identities/merge";
const UNMERGE: &str = "/v1/identities/unmerge";
/// Largest body of a question.
const MAX_QUESTION: usize = 1 << 20;
/// The pause before a server that did not name the limits of its reader is asked again.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

/// What a path of the role asks for.
#[derive(Clone, Copy)]
enum Asked {
    /// A report by its name, which may not exist.
    Question,
    /// A report with a path of its own.
    Get(&'static ReportKind),
    /// The saved cohorts.
    Cohorts,
    /// One person.
    Person,
    /// That two ids belong to one person, or not.
    Ruling,
}

impl Asked {
    fn of(path: &str) -> Option<Self> {
        if path.starts_with(QUESTIONS) {
            return Some(Self::Question);
        }
        if path == COHORTS || path.strip_prefix(COHORTS).is_some_and(|rest| rest.starts_with('/')) {
            return Some(Self::Cohorts);
        }
        if path.starts_with(PEOPLE) {
            return Some(Self::Person);
        }
        if path == MERGE || path == UNMERGE {
            return Some(Self::Ruling);
        }
        REPORTS.iter().find(|report| matches!(report.route, Route::Get(own) if own == path)).map(Self::Get)
    }

    /// The methods that it takes.
    const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Question | Self::Ruling => &["POST"],
            Self::Get(_) | Self::Person => &["GET"],
            Self::Cohorts => &["GET", "PUT", "DELETE"],
        }
    }
}

/// The role over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct QueryApi {
    queries: Queries,
    keys: Keys,
    body: BodyLimits,
}

impl QueryApi {
    /// Answers through `queries` to the holders of `keys`. `body_timeout` is the listener's.
    pub fn new(queries: Queries, keys: Keys, body_timeout: Duration) -> Self {
        let body = BodyLimits { max_wire: MAX_QUESTION, max_inflated: MAX_QUESTION, timeout: body_timeout, claim: Claim::Live };
        Self { queries, keys, body }
    }

    /// Refreshes the most asked answers in the background, until asked to stop.
    pub fn keep_fresh(&self, stop: CancellationToken) -> impl Future<Output = Result<(), Infallible>> + Send + use<> {
        self.queries.clone().keep_fresh(clock::now_ms, stop)
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let Some(asked) = Asked::of(call.request.uri().path()) else { return Err(call) };
        let id = call.request_id.clone();
        if !asked.methods().contains(&call.request.method().as_str()) {
            return Ok(method_not_allowed(&asked.methods().join(", "), &id));
        }
        let answer = match asked {
            Asked::Question => self.question(call).await,
            Asked::Get(report) => self.get(report, &call).await,
            Asked::Person => self.person(&call).await,
            Asked::Ruling => self.rule(call).await,
            Asked::Cohorts => return Ok(self.cohorts(call).await.unwrap_or_else(|error| error.into_response(&id))),
        };
        Ok(match answer {
            Ok(json) => json_response(StatusCode::OK, json),
            Err(error) => error.into_response(&id),
        })
    }

    async fn get(&self, report: &ReportKind, call: &Call) -> Result<Vec<u8>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let query = call.request.uri().query().unwrap_or_default();
        let asked = Get { project: grant.project, project_name: &grant.name, report: report.name, query };
        Ok(self.queries.get(asked, clock::now_ms()).await?)
    }

    async fn question(&self, call: Call) -> Result<Vec<u8>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let report = call.request.uri().path().trim_start_matches(QUESTIONS).to_owned();
        let bytes = body::read(call.request, self.body).await?;
        let answer = self.queries.answer(grant.project, &report, &bytes, clock::now_ms()).await;
        let counter = if answer.is_ok() { Counter::QueriesAnswered } else { Counter::QueriesRefused };
        counter.add(1);
        Ok(answer?)
    }
}

impl QueryApi {
    /// What is known of a person, or their events.
    async fn person(&self, call: &Call) -> Result<Vec<u8>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let uri = call.request.uri();
        let parts: Vec<&str> = uri.path().trim_start_matches(PEOPLE).split('/').collect();
        let id = decoded(parts.first().copied().unwrap_or_default());
        let asked = match parts.as_slice() {
            [_] => AskedPerson::Show { id: &id },
            [_, "events"] => AskedPerson::Events { id: &id, query: uri.query().unwrap_or_default() },
            _ => return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "a person has `events` and nothing else")),
        };
        Ok(self.queries.person(grant.project, asked, clock::now_ms()).await?)
    }

    async fn rule(&self, call: Call) -> Result<Vec<u8>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let is_merge = call.request.uri().path() == MERGE;
        let body = body::read(call.request, self.body).await?;
        let asked = if is_merge { AskedPerson::Merge(&body) } else { AskedPerson::Unmerge(&body) };
        Ok(self.queries.person(grant.project, asked, clock::now_ms()).await?)
    }

    /// Shows, saves or deletes a cohort, or shows the names of all.
    async fn cohorts(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.authorize(call.request.headers(), KeyKind::Read)?;
        let (project, cohorts) = (grant.project, &self.queries.0.cohorts);
        let method = call.request.method().clone();
        let path = call.request.uri().path().to_owned();
        let Some(name) = path.strip_prefix(COHORTS).and_then(|rest| rest.strip_prefix('/')) else {
            return match method {
                Method::GET => Ok(json_response(StatusCode::OK, cohorts.list(project).await?.to_string().into_bytes())),
                _ => Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "only GET works here: a cohort has a name")),
            };
        };
        if method == Method::GET {
            let (version, cohort) = cohorts.get(project, name).await?;
            return Ok(versioned(version, &cohort));
        }
        let expected = expected(call.request.headers())?;
        let body = match method {
            Method::PUT => {
                let limits = BodyLimits { max_wire: MOST_BYTES, max_inflated: MOST_BYTES, ..self.body };
                Some(body::read(call.request, limits).await?)
            }
            _ => None,
        };
        let version = cohorts.put(project, Write { name, body: body.as_deref(), expected }, clock::now_ms()).await?;
        Ok(versioned(version, &json!({"name": name, "version": version})))
    }
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    // As the value of a form, in which only these mean something else.
    let form = format!("id={}", part.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, id)| id.into_owned()).unwrap_or_default()
}

/// An answer about something of a version.
fn versioned(version: u64, answer: &Value) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, answer.to_string().into_bytes());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What `If-Match` and `If-None-Match` expect.
fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
    let invalid = |name: &str| ApiError::bad_request("invalid_condition", format!("`{name}` must be `*` or the version, such as \"3\""));
    let text = |name: header::HeaderName| headers.get(&name).map(|value| value.to_str().map_err(|_| invalid(name.as_str()))).transpose();
    match (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Anything),
        (Some("*"), None) => Ok(Expected::Some),
        (Some(tag), None) => tag.trim_matches('"').parse().map(Expected::Version).map_err(|_| invalid("If-Match")),
        (None, Some("*")) => Ok(Expected::None),
        _ => Err(invalid("If-None-Match")),
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match error.class {
            ErrorClass::Invalid => StatusCode::BAD_REQUEST,
            ErrorClass::NotFound => StatusCode::NOT_FOUND,
            ErrorClass::Conflict => StatusCode::PRECONDITION_FAILED,
            ErrorClass::TooExpensive => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorClass::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorClass::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, code: error.code, message: error.message, retry_after: error.retry_after }
    }
}

/// Warns if nothing limits the questions on a server of one's own, once that server answers; until asked to stop.
pub async fn warn_of_missing_limits(store: StoreReader, stop: CancellationToken) -> Result<(), Infallible> {
    let checking = async {
        loop {
            match missing_limits(&store).await {
                Ok(missing) if missing.is_empty() => return,
                Ok(missing) => {
                    let missing = missing.join(", ");
                    return tracing::warn!(%missing, "nothing limits the questions: give clickhouse.reader_user a profile with these");
                }
                Err(problem) => tracing::debug!(%problem, "the limits of the reader are not known yet"),
            }
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    };
    stop.run_until_cancelled(checking).await;
    stop.cancelled().await;
    Ok(())
}
