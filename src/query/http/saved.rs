//! What is saved under a name, over HTTP: versions in `ETag`, conditions in `If-Match` and `If-None-Match`.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::QueryApi;
use crate::auth::{Grant, KeyKind};
use crate::clock;
use crate::event::ids::ProjectId;
use crate::http::body::{self, BodyLimits};
use crate::http::of_file::written_for;
use crate::http::respond::{ApiError, Body, json_response};
use crate::http::server::Call;
use crate::query::ask::fields;
use crate::query::boards::{self, BOARD, MAX_BOARD};
use crate::query::cohorts::MOST_BYTES;
use crate::query::links::{self, LINK, Link, MAX_LINK, OLDEST};
use crate::query::notes::{self, AskedNotes, MAX_NOTE, NOTE, Note};
use crate::query::saved::{Expected, Write, dry_run};
use crate::query::shares::SharedBoard;
use crate::query::{QueryError, Request};
use crate::store::tables::saved::{By, NameRange};

impl QueryApi {
    /// The names of all cohorts.
    pub(super) async fn cohorts(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        Ok(shown(StatusCode::OK, &self.queries.0.cohorts.list(grant.project).await?))
    }

    /// Shows, saves or deletes a cohort.
    pub(super) async fn cohort(&self, call: Call, name: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let (project, cohorts) = (grant.project, &self.queries.0.cohorts);
        if call.request.method() == Method::GET {
            let (version, cohort) = cohorts.get(project, name).await?;
            return Ok(versioned(version, &cohort));
        }
        let (is_trial, file, writer) = (is_trial(&call)?, written_for(call.request.headers())?, writer(&call, &grant));
        let (expected, body) = self.write(call, MOST_BYTES).await?;
        let body = body.map(|body| Ok::<_, ApiError>(fields::parse(&body)?.to_string())).transpose()?;
        let write = Write { name, body: body.as_deref(), expected, is_trial, by: By::of(file.as_deref()), writer: Some(&writer) };
        let version = cohorts.put(project, write, clock::now_ms()).await?;
        Ok(versioned(version, &json!({"name": name, "version": version})))
    }

    /// The titles of all boards.
    pub(super) async fn boards(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        let titles = self.queries.0.saved.titles(&BOARD, grant.project).await?;
        Ok(shown(StatusCode::OK, &json!({"boards": titles.iter().map(boards::listed).collect::<Vec<_>>()})))
    }

    /// Shows, saves or deletes a board.
    pub(super) async fn board(&self, call: Call, id: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let (project, saved) = (grant.project, &self.queries.0.saved);
        if call.request.method() == Method::GET {
            let board = saved.get(&BOARD, project, id).await?;
            return Ok(versioned(board.version, &boards::shown(&board)?));
        }
        let (is_trial, file, writer) = (is_trial(&call)?, written_for(call.request.headers())?, writer(&call, &grant));
        let (expected, body) = self.write(call, MAX_BOARD).await?;
        let (shares, shared) = (&self.queries.0.shares, SharedBoard { project, id });
        let body = match body {
            Some(body) => Some(self.check_board(project, &body, clock::now_ms()).await?),
            None => None,
        };
        let write = Write { name: id, body: body.as_deref(), expected, is_trial, by: By::of(file.as_deref()), writer: Some(&writer) };
        if is_trial {
            let version = saved.put(&BOARD, project, write).await?;
            return Ok(versioned(version, &json!({"id": id, "version": version})));
        }
        match (&body, saved.get(&BOARD, project, id).await) {
            // Also what a deletion that was cut off has left.
            (Some(_), Err(problem)) if problem.code == BOARD.unknown => shares.revoke_all(shared).await?,
            _ => {}
        }
        let version = saved.put(&BOARD, project, write).await?;
        if body.is_none() {
            shares.revoke_all(shared).await?;
        }
        Ok(versioned(version, &json!({"id": id, "version": version})))
    }

    /// The notes of a time.
    pub(super) async fn notes(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        let AskedNotes { after, until } = AskedNotes::parse(call.request.uri().query().unwrap_or_default(), clock::now_ms())?;
        let range = NameRange { after: &after, until: &until, limit: notes::PAGE as u64 + 1 };
        let mut found = self.queries.0.saved.between(&NOTE, grant.project, range).await?;
        let has_more = found.len() > notes::PAGE;
        found.truncate(notes::PAGE);
        let next = found.last().filter(|_| has_more).map(|note| &note.name);
        Ok(shown(StatusCode::OK, &json!({"notes": found.iter().map(notes::shown).collect::<Vec<_>>(), "next": next})))
    }

    /// Takes a note. An import key may write one, so that a script that deploys need not be able to read; a write key, which
    /// stands in every page, may not.
    pub(super) async fn note(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.caller(&call, KeyKind::Import)?;
        let (project, writer) = (grant.project, writer(&call, &grant));
        let body = body::read(call.request, BodyLimits { max_wire: MAX_NOTE, max_inflated: MAX_NOTE, ..self.body }).await?;
        let Note { id, body } = Note::parse(&fields::parse(&body)?, clock::now_ms())?;
        let saved = &self.queries.0.saved;
        if saved.get(&NOTE, project, &id).await.is_err() {
            let write = Write { writer: Some(&writer), ..Write::new(&id, Some(&body), Expected::Anything) };
            saved.put(&NOTE, project, write).await?;
        }
        Ok(shown(StatusCode::CREATED, &notes::shown(&saved.get(&NOTE, project, &id).await?)))
    }

    /// Keeps the address of a page under a short one.
    pub(super) async fn link(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let project = self.asker(&call)?.project;
        let body = body::read(call.request, BodyLimits { max_wire: MAX_LINK, max_inflated: MAX_LINK, ..self.body }).await?;
        let link = Link::parse(&fields::parse(&body)?)?;
        self.keep(project, &link).await?;
        Ok(shown(StatusCode::CREATED, &json!({"id": link.id, "address": link.address})))
    }

    /// Keeps a link; where there is no room the oldest go.
    async fn keep(&self, project: ProjectId, link: &Link) -> Result<(), QueryError> {
        let saved = &self.queries.0.saved;
        match saved.get(&LINK, project, &link.id).await {
            Err(problem) if problem.code == LINK.unknown => {}
            known => return known.map(drop),
        }
        let body = link.body(clock::now_ms());
        let write = Write::new(&link.id, Some(&body), Expected::Anything);
        match saved.put(&LINK, project, write).await {
            Err(problem) if problem.code == LINK.too_many => {}
            kept => return kept.map(drop),
        }
        saved.drop_oldest(&LINK, project, OLDEST).await?;
        saved.put(&LINK, project, write).await.map(drop)
    }

    /// Where a short link leads.
    pub(super) async fn linked(&self, call: &Call, id: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        Ok(shown(StatusCode::OK, &links::shown(&self.queries.0.saved.get(&LINK, grant.project, id).await?)))
    }

    /// Whether every tile of a board is a question of `project` that its report takes; the board as it is saved.
    async fn check_board(&self, project: ProjectId, board: &[u8], now_ms: i64) -> Result<String, QueryError> {
        let board = fields::parse(board)?;
        for (index, tile) in boards::tiles(&board)?.into_iter().enumerate() {
            let body = tile.question.to_string();
            let question = self.queries.question(project, Request::of(tile.report, body.as_bytes(), now_ms)).await;
            question.map_err(|problem| problem.of_a_part().within(&boards::place(index)))?;
        }
        Ok(board.to_string())
    }

    pub(super) async fn forget_note(&self, call: &Call, id: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        self.queries.0.saved.put(&NOTE, grant.project, Write::new(id, None, Expected::Anything)).await?;
        Ok(shown(StatusCode::OK, &json!({"id": id})))
    }

    /// What a write expects, and its body of at most `most` bytes; none of one that deletes.
    async fn write(&self, call: Call, most: usize) -> Result<(Expected, Option<Bytes>), ApiError> {
        let expected = expected(call.request.headers())?;
        if call.request.method() == Method::DELETE {
            return Ok((expected, None));
        }
        let limits = BodyLimits { max_wire: most, max_inflated: most, ..self.body };
        Ok((expected, Some(body::read(call.request, limits).await?)))
    }
}

/// Who writes: whom a trusted proxy names, else the key.
pub(super) fn writer(call: &Call, grant: &Grant) -> String {
    call.peer.user(call.request.headers()).unwrap_or_else(|| grant.signature())
}

fn shown(status: StatusCode, answer: &Value) -> Response<Body> {
    json_response(status, answer.to_string().into_bytes())
}

/// An answer about something of a version.
pub(super) fn versioned(version: u64, answer: &Value) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, answer.to_string().into_bytes());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Whether a write is only to be checked: `?dry_run=true`.
fn is_trial(call: &Call) -> Result<bool, QueryError> {
    dry_run(call.request.uri().query().unwrap_or_default())
}

/// What `If-Match` and `If-None-Match` expect.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
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
