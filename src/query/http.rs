//! The routes of the role: what is asked over HTTP, by whom, and what an error looks like there.
//!
//! Owns the paths, the limits of a body and the one translation of [`QueryError`] into an answer. Promises: the project comes from
//! the key, never from input.

use std::convert::Infallible;
use std::time::Duration;

use hyper::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::error::{ErrorClass, QueryError};
use super::reader::{StoreReader, missing_limits};
use super::report::{REPORTS, ReportKind, Route};
use super::{Get, Queries};
use crate::auth::{KeyKind, Keys};
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::metrics::Counter;

/// Where reports are asked for by name.
const QUESTIONS: &str = "/v1/query/";
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
}

impl Asked {
    fn of(path: &str) -> Option<Self> {
        if path.starts_with(QUESTIONS) {
            return Some(Self::Question);
        }
        REPORTS.iter().find(|report| matches!(report.route, Route::Get(own) if own == path)).map(Self::Get)
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Question => "POST",
            Self::Get(_) => "GET",
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
        if call.request.method().as_str() != asked.method() {
            return Ok(method_not_allowed(asked.method(), &id));
        }
        let answer = match asked {
            Asked::Question => self.question(call).await,
            Asked::Get(report) => self.get(report, &call).await,
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

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match error.class {
            ErrorClass::Invalid => StatusCode::BAD_REQUEST,
            ErrorClass::NotFound => StatusCode::NOT_FOUND,
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
