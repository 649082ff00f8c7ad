//! The routes of the role: what is asked over HTTP, by whom, and what an error looks like there.
//!
//! Owns the paths, the limits of a body and the one translation of [`QueryError`] into an answer. Promises: the project comes from
//! the key, never from input. A body is read as JSON, whatever it says that it is.

mod accept;
mod keys;
mod saved;
mod session;
mod shares;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use matchit::Router;
use tokio_util::sync::CancellationToken;

use super::ask::fields;
use super::batch::Batch;
use super::error::{ErrorClass, QueryError};
use super::live::{Live, Wanted, messages};
use super::output::{self, FILE_COMPLETE, FILE_EVENTS, FILE_NEXT, FILE_THROUGH, Output};
use super::raw_sql::{RawAnswer, RawRequest};
use super::reader::{StoreReader, missing_limits};
use super::report::export::{self, Export, ExportFile};
use super::report::{REPORTS, Report, ReportKind};
use super::trace::AskedTrace;
use super::{AskedPerson, Get, Queries};
use crate::auth::{Grant, KeyKind, Keys};
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::{ApiError, Body, json_pieces, json_response, method_not_allowed, streamed, typed_response};
use crate::http::server::Call;
use crate::log::Log;

/// Largest body of a question.
const MAX_QUESTION: usize = 1 << 20;
/// The pause before a server that did not name the limits of its reader is asked again.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

/// What a path of the role asks for.
#[derive(Clone, Copy)]
enum Asked {
    /// A report by its name, which may not exist.
    Question,
    /// By which statements one is answered.
    Explain,
    /// Several of them.
    Batch,
    /// A statement that somebody wrote.
    RawSql,
    /// What comes in.
    Live,
    /// A report with a path of its own.
    Get(&'static ReportKind),
    /// The names of the saved cohorts.
    Cohorts,
    /// One of them.
    Cohort,
    /// The titles of the boards, or one board.
    Boards,
    Board,
    /// The links of a board, or one link.
    Shares,
    Share,
    /// What a link opens: the board, all its tiles, one of them, and who is behind one of its bars.
    Shared,
    SharedTiles,
    SharedTile,
    /// The notes of a time, or one note.
    Notes,
    Note,
    /// A new short link, or where one leads.
    Links,
    Link,
    /// The managed keys, one of them, and another secret for it.
    Keys,
    Key,
    RotateKey,
    /// What was changed of keys.
    Audit,
    /// One person.
    Person,
    /// The events of one.
    EventsOfPerson,
    /// That two ids belong to one person.
    Merge,
    /// That they do not.
    Unmerge,
    /// What became of an event.
    Trace,
    /// Who asks, and the cookie that says so.
    Session,
}

impl Asked {
    /// Of which types the answer may be.
    fn types(self) -> &'static [&'static str] {
        match self {
            Self::Batch | Self::SharedTiles => &["application/x-ndjson", "application/json"],
            Self::Live => &["text/event-stream"],
            Self::RawSql => &output::CONTENT_TYPES,
            Self::Get(report) if report.name == Export::NAME => &export::CONTENT_TYPES,
            _ => &["application/json"],
        }
    }
}

/// A path as `matchit` reads it, and the methods that it takes.
struct Path {
    path: &'static str,
    methods: &'static [&'static str],
    asked: Asked,
}

impl Path {
    const fn new(path: &'static str, methods: &'static [&'static str], asked: Asked) -> Self {
        Self { path, methods, asked }
    }
}

/// What stands in the place of the names of a path.
struct Params(Vec<String>);

impl Params {
    fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    fn second(&self) -> &str {
        self.0.get(1).map_or("", String::as_str)
    }
}

/// The paths of the role, beside those of reports that have their own.
const PATHS: &[Path] = &[
    Path::new("/v1/session", &["GET", "POST", "DELETE"], Asked::Session),
    Path::new("/v1/query", &["POST"], Asked::Batch),
    Path::new("/v1/query/sql", &["POST"], Asked::RawSql),
    Path::new("/v1/query/{report}", &["POST"], Asked::Question),
    Path::new("/v1/query/{report}/explain", &["POST"], Asked::Explain),
    Path::new("/v1/live", &["GET"], Asked::Live),
    Path::new("/v1/cohorts", &["GET"], Asked::Cohorts),
    Path::new("/v1/cohorts/{name}", &["GET", "PUT", "DELETE"], Asked::Cohort),
    Path::new("/v1/boards", &["GET"], Asked::Boards),
    Path::new("/v1/boards/{id}", &["GET", "PUT", "DELETE"], Asked::Board),
    Path::new("/v1/boards/{id}/shares", &["GET", "POST"], Asked::Shares),
    Path::new("/v1/shares/{id}", &["DELETE"], Asked::Share),
    Path::new("/v1/shared/{token}", &["GET"], Asked::Shared),
    Path::new("/v1/shared/{token}/tiles", &["GET"], Asked::SharedTiles),
    Path::new("/v1/shared/{token}/tiles/{number}", &["GET"], Asked::SharedTile),
    Path::new("/v1/shared/{token}/tiles/{number}/people", &["POST"], Asked::SharedTile),
    Path::new("/v1/notes", &["GET", "POST"], Asked::Notes),
    Path::new("/v1/notes/{id}", &["DELETE"], Asked::Note),
    Path::new("/v1/links", &["POST"], Asked::Links),
    Path::new("/v1/links/{id}", &["GET"], Asked::Link),
    Path::new("/v1/keys", &["GET", "POST"], Asked::Keys),
    Path::new("/v1/keys/{id}", &["GET", "PUT", "DELETE"], Asked::Key),
    Path::new("/v1/keys/{id}/rotate", &["POST"], Asked::RotateKey),
    Path::new("/v1/audit", &["GET"], Asked::Audit),
    Path::new("/v1/trace/{eventId}", &["GET"], Asked::Trace),
    Path::new("/v1/people/{id}", &["GET"], Asked::Person),
    Path::new("/v1/people/{id}/events", &["GET"], Asked::EventsOfPerson),
    Path::new("/v1/identities/merge", &["POST"], Asked::Merge),
    Path::new("/v1/identities/unmerge", &["POST"], Asked::Unmerge),
];

/// All paths of the role.
fn paths() -> impl Iterator<Item = Path> {
    let own = REPORTS.iter().filter_map(|report| Some(Path::new(report.route.path()?, &["GET"], Asked::Get(report))));
    PATHS.iter().map(|&Path { path, methods, asked }| Path { path, methods, asked }).chain(own)
}

/// The paths of the role with the methods that each takes.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    paths().map(|Path { path, methods, .. }| (path, methods))
}

/// The role over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct QueryApi {
    queries: Queries,
    keys: Keys,
    body: BodyLimits,
    live: Live,
    router: Arc<Router<Path>>,
}

impl QueryApi {
    /// Answers through `queries` to the holders of `keys`. `body_timeout` is the listener's.
    pub fn new(queries: Queries, keys: Keys, body_timeout: Duration) -> Self {
        let body =
            BodyLimits { max_wire: MAX_QUESTION, max_inflated: MAX_QUESTION, timeout: body_timeout, claim: Claim::Live, finds_gzip: false };
        let mut router = Router::new();
        for path in paths() {
            if let Err(problem) = router.insert(path.path, path) {
                unreachable!("{problem}");
            }
        }
        Self { queries, keys, body, live: Live::new(), router: Arc::new(router) }
    }

    /// Refreshes the most asked answers in the background, until asked to stop.
    pub fn keep_fresh(&self, stop: CancellationToken) -> impl Future<Output = Result<(), Infallible>> + Send + use<> {
        self.queries.clone().keep_fresh(clock::now_ms, stop)
    }

    /// Follows the tail of `log` while somebody watches it live, until asked to stop.
    pub fn follow<L: Log>(&self, log: L, stop: CancellationToken) -> impl Future<Output = Result<(), Infallible>> + Send + use<L> {
        self.live.clone().follow(log, stop)
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let Ok(found) = self.router.at(call.request.uri().path()) else { return Err(call) };
        let params = Params(found.params.iter().map(|(_, value)| value.to_owned()).collect());
        let name = params.first();
        let Path { methods, asked, .. } = *found.value;
        let id = call.request_id.clone();
        if !methods.contains(&call.request.method().as_str()) {
            return Ok(method_not_allowed(&methods.join(", "), &id));
        }
        if let Err(refused) = accept::check(call.request.headers(), asked.types()) {
            return Ok(refused.into_response(&id));
        }
        let may_repeat = matches!(asked, Asked::Live).then_some("type");
        if let Err(refused) = fields::check_once(call.request.uri().query().unwrap_or_default(), may_repeat) {
            return Ok(ApiError::from(refused).into_response(&id));
        }
        let answer = match asked {
            Asked::Question => self.question(call, name).await,
            Asked::Explain => self.explain(call, name).await,
            Asked::Get(report) => self.get(report, &call).await,
            Asked::Person | Asked::EventsOfPerson => self.person(&call, name, asked).await,
            Asked::Merge | Asked::Unmerge => self.rule(call, asked).await,
            Asked::Batch => self.batch(call).await,
            Asked::RawSql => self.raw_sql(call).await,
            Asked::Live => self.live(&call),
            Asked::Cohorts => self.cohorts(&call).await,
            Asked::Cohort => self.cohort(call, name).await,
            Asked::Boards => self.boards(&call).await,
            Asked::Board => self.board(call, name).await,
            Asked::Notes if call.request.method() == Method::POST => self.note(call).await,
            Asked::Notes => self.notes(&call).await,
            Asked::Note => self.forget_note(&call, name).await,
            Asked::Shares => self.shares(call, name).await,
            Asked::Share => self.revoke_share(&call, name).await,
            Asked::Shared => self.shared(name).await,
            Asked::SharedTiles => self.shared_tiles(&call, name).await,
            Asked::SharedTile => self.shared_tile(call, &params).await,
            Asked::Links => self.link(call).await,
            Asked::Link => self.linked(&call, name).await,
            Asked::Keys => self.managed_keys(call).await,
            Asked::Key => self.managed_key(call, name).await,
            Asked::RotateKey => self.rotate_key(call, name).await,
            Asked::Audit => self.audit(&call).await,
            Asked::Trace => self.trace(&call, name).await,
            Asked::Session => self.session(&call),
        };
        Ok(answer.unwrap_or_else(|error| error.into_response(&id)))
    }

    /// Who asks questions.
    fn asker(&self, call: &Call) -> Result<Grant, ApiError> {
        Ok(self.keys.caller(call, KeyKind::Read)?)
    }

    async fn get(&self, report: &ReportKind, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        let query = call.request.uri().query().unwrap_or_default();
        let asked = Get { project: grant.project, project_name: &grant.name, report: report.name, query };
        if report.name == Export::NAME
            && let Some(file) = self.queries.export_file(asked, clock::now_ms()).await?
        {
            accept::check(call.request.headers(), &[file.content_type])?;
            return Ok(with_place(file));
        }
        accept::check(call.request.headers(), &[Output::Json.content_type()])?;
        Ok(json_pieces(StatusCode::OK, [self.queries.get(asked, clock::now_ms()).await?]))
    }

    async fn question(&self, call: Call, report: &str) -> Result<Response<Body>, ApiError> {
        let known = call.request.headers().get(header::IF_NONE_MATCH).cloned();
        let grant = self.asker(&call)?;
        let bytes = body::read(call.request, self.body).await?;
        let answer = self.queries.answer(grant.project, report, &bytes, clock::now_ms()).await?;
        // Weak: what `meta` says of the answer is another each time.
        let tag = format!("W/\"{:016x}\"", answer.tag);
        let is_known = known.and_then(|known| Some(known.to_str().ok()?.split(',').any(|known| known.trim() == tag))).unwrap_or(false);
        let mut response = if is_known {
            let mut unchanged = json_response(StatusCode::NOT_MODIFIED, Vec::new());
            unchanged.headers_mut().remove(header::CONTENT_TYPE);
            unchanged
        } else {
            json_pieces(StatusCode::OK, answer.pieces("", ""))
        };
        response.headers_mut().extend(HeaderValue::try_from(tag).ok().map(|tag| (header::ETAG, tag)));
        Ok(response)
    }
}

/// A page of an export that is a file: what a page of JSON says beside its events stands in headers.
fn with_place(file: ExportFile) -> Response<Body> {
    let ExportFile { content_type, body, events, next, is_complete, through } = file;
    let mut response = typed_response(StatusCode::OK, HeaderValue::from_static(content_type), body);
    let (events, is_complete) = (events.to_string(), is_complete.to_string());
    let said = [(FILE_EVENTS, Some(events)), (FILE_NEXT, next), (FILE_COMPLETE, Some(is_complete)), (FILE_THROUGH, Some(through))];
    let said = said.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::try_from(value?).ok()?)));
    response.headers_mut().extend(said);
    response
}

impl QueryApi {
    async fn explain(&self, call: Call, report: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let body = body::read(call.request, self.body).await?;
        Ok(json_pieces(StatusCode::OK, [self.queries.explain(grant.project, report, &body, clock::now_ms()).await?]))
    }

    /// Answers several questions, a line each.
    async fn batch(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let shows_progress = prefers_progress(call.request.headers());
        let batch = Batch::parse(&body::read(call.request, self.body).await?)?.showing_progress(shows_progress);
        let answers = batch.answers(self.queries.clone(), grant.project, clock::now_ms());
        Ok(streamed(HeaderValue::from_static("application/x-ndjson"), answers))
    }

    /// Answers a statement that somebody wrote, in the format that it asks for.
    async fn raw_sql(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let headers = call.request.headers().clone();
        let body = body::read(call.request, self.body).await?;
        let weight = |content_type: &str| accept::weight(&headers, content_type);
        let request = RawRequest { body: &body, weight: &weight };
        let RawAnswer { content_type, body } = self.queries.raw_sql(grant.project, request, clock::now_ms()).await?;
        Ok(typed_response(StatusCode::OK, HeaderValue::from_static(content_type), self.queries.count(body)?))
    }

    /// What comes in, as server-sent events.
    fn live(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let headers = call.request.headers();
        let (grant, is_admitted) = self.keys.lasting_caller(call, KeyKind::Read)?;
        let wanted = Wanted::parse(call.request.uri().query().unwrap_or_default())?;
        let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let watch = self.live.watch(grant.project, &wanted, last_id)?;
        let mut response = streamed(HeaderValue::from_static("text/event-stream"), messages(watch, wanted, is_admitted));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// What is known of a person, or their events.
    async fn person(&self, call: &Call, id: &str, asked: Asked) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        let (id, query) = (decoded(id), call.request.uri().query().unwrap_or_default());
        let asked = match asked {
            Asked::EventsOfPerson => AskedPerson::Events { id: &id, query },
            _ => AskedPerson::Show { id: &id, query },
        };
        Ok(json_pieces(StatusCode::OK, [self.queries.person(grant.project, asked, clock::now_ms()).await?]))
    }

    /// What became of an event.
    async fn trace(&self, call: &Call, event_id: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        let event_id = decoded(event_id);
        let asked = AskedTrace { event_id: &event_id, query: call.request.uri().query().unwrap_or_default() };
        Ok(json_response(StatusCode::OK, self.queries.trace(grant.project, asked, clock::now_ms()).await?))
    }

    async fn rule(&self, call: Call, asked: Asked) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let body = body::read(call.request, self.body).await?;
        let asked = if matches!(asked, Asked::Merge) { AskedPerson::Merge(&body) } else { AskedPerson::Unmerge(&body) };
        Ok(json_pieces(StatusCode::OK, [self.queries.person(grant.project, asked, clock::now_ms()).await?]))
    }
}

/// Whether who asks wants to know how far questions are that take long: `Prefer: progress` (RFC 7240), which other releases pass over.
fn prefers_progress(headers: &HeaderMap) -> bool {
    let named = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|preference| preference.trim().eq_ignore_ascii_case("progress"))
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    // As the value of a form, in which only these mean something else.
    let form = format!("id={}", part.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, id)| id.into_owned()).unwrap_or_default()
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match error.class {
            ErrorClass::Invalid => StatusCode::BAD_REQUEST,
            ErrorClass::NotFound => StatusCode::NOT_FOUND,
            ErrorClass::Forbidden => StatusCode::FORBIDDEN,
            ErrorClass::Conflict => StatusCode::PRECONDITION_FAILED,
            ErrorClass::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            ErrorClass::TooExpensive => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorClass::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorClass::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, code: error.code, message: error.said(), retry_after: error.retry_after }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_preferred_by_that_name_alone_among_others() {
        for (prefer, is_preferred) in [
            (&["progress"][..], true),
            (&["respond-async, Progress"], true),
            (&["wait=10", "progress"], true),
            (&["progress=no, progressive"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in prefer {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            assert_eq!(prefers_progress(&headers), is_preferred, "{prefer:?}");
        }
    }
}
