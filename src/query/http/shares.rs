//! Shares over HTTP: links are made and revoked with a read key; who has one needs nothing else, and gets nothing else.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::saved::writer;
use super::{Params, QueryApi};
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::respond::{ApiError, Body, json_pieces, json_response, streamed};
use crate::http::server::Call;
use crate::query::Request;
use crate::query::ask::{Fields, fields};
use crate::query::batch::{self, Line};
use crate::query::boards::{self, BOARD, Tile};
use crate::query::error::QueryError;
use crate::query::report::REPORTS;
use crate::query::shares::{AT_ONCE_OF_SHARE, MAX_SHARE, Made, Share, SharedBoard, ShownBy};

impl QueryApi {
    /// The links of a board, or a new one.
    pub(super) async fn shares(&self, call: Call, board: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(&call)?;
        let (project, writer) = (grant.project, writer(&call, &grant));
        let of = SharedBoard { project, id: board };
        self.queries.0.saved.get(&BOARD, project, board).await?;
        if call.request.method() == Method::GET {
            return Ok(json_response(StatusCode::OK, self.queries.0.shares.list(of).await?.to_string().into_bytes()));
        }
        let body = body::read(call.request, BodyLimits { max_wire: MAX_SHARE, max_inflated: MAX_SHARE, ..self.body }).await?;
        let share = Share::parse(&fields::parse(&body)?, of, clock::now_ms())?.made_by(writer);
        let Made { token, mut listed } = self.queries.0.shares.create(&share).await?;
        listed["token"] = Value::from(token);
        Ok(json_response(StatusCode::CREATED, listed.to_string().into_bytes()))
    }

    /// Revokes a link.
    pub(super) async fn revoke_share(&self, call: &Call, id: &str) -> Result<Response<Body>, ApiError> {
        let grant = self.asker(call)?;
        self.queries.0.shares.revoke(grant.project, id).await?;
        Ok(json_response(StatusCode::OK, json!({"id": id}).to_string().into_bytes()))
    }

    /// The board that a link opens.
    pub(super) async fn shared(&self, token: &str) -> Result<Response<Body>, ApiError> {
        let share = self.opened(token).await?;
        let board = self.board_of(&share).await?;
        let shown = share.shown(&board, ShownBy { token, timezone: self.queries.settings(share.project()).timezone() });
        Ok(uncached(json_response(StatusCode::OK, shown.to_string().into_bytes())))
    }

    /// The answers of all tiles, a line each: `index` is the number of the tile.
    pub(super) async fn shared_tiles(&self, call: &Call, token: &str) -> Result<Response<Body>, ApiError> {
        let share = self.opened(token).await?;
        let board = self.board_of(&share).await?;
        let query = call.request.uri().query().unwrap_or_default();
        let asked = |tile: &Value| {
            let tile = tile_of(tile);
            Ok((tile.report.to_owned(), share.question(tile, query)?.to_string()))
        };
        let tiles = board["tiles"].as_array().into_iter().flatten().enumerate();
        let lines = tiles.map(|(index, tile)| Line { index, id: Value::Null, asked: asked(tile) }).collect();
        let (queries, project, token, now_ms) = (self.queries.clone(), share.project(), token.to_owned(), clock::now_ms());
        let answers = batch::lines(lines, AT_ONCE_OF_SHARE, move |asked: (String, String)| {
            let (queries, token, (report, request)) = (queries.clone(), token.clone(), asked);
            async move {
                let _turn = queries.0.shares.turn(&token).await?;
                queries.reply(project, of_guest(&report, &request, now_ms), None).await
            }
        });
        Ok(uncached(streamed(HeaderValue::from_static("application/x-ndjson"), answers)))
    }

    /// The answer of a tile, and who is behind one of its bars.
    pub(super) async fn shared_tile(&self, call: Call, params: &Params) -> Result<Response<Body>, ApiError> {
        let share = self.opened(params.first()).await?;
        let query = call.request.uri().query().unwrap_or_default().to_owned();
        let bar = match *call.request.method() {
            Method::POST if !share.people => {
                return Err(QueryError::forbidden("people_not_shared", "the link does not show who is behind a bar").into());
            }
            Method::POST => Some(body::read(call.request, BodyLimits { max_wire: MAX_SHARE, max_inflated: MAX_SHARE, ..self.body }).await?),
            _ => None,
        };
        // Not before all of the request is here: it may be slow.
        let _turn = self.queries.0.shares.turn(params.first()).await?;
        let board = self.board_of(&share).await?;
        let tile = tile(&board, params.second())?;
        let question = share.question(tile, &query)?;
        let (report, request) = match bar {
            Some(bar) => ("users", behind(tile.report, question, &fields::parse(&bar)?)?),
            None => (tile.report, question),
        };
        let request = request.to_string();
        let answer = self.queries.reply(share.project(), of_guest(report, &request, clock::now_ms()), None).await?;
        Ok(uncached(json_pieces(StatusCode::OK, answer.pieces("", ""))))
    }

    /// The origins whose pages may hold what the screen shows at `path` in a frame: those that the link named there names.
    pub async fn frames(&self, path: &str) -> Vec<String> {
        let Some(id) = path.strip_prefix("/embed/") else { return Vec::new() };
        let found = self.queries.0.shares.frames(id, clock::now_ms()).await;
        found.filter(|(project, _)| self.keys.opens_project(*project)).map(|(_, origins)| origins).unwrap_or_default()
    }

    /// What a link opens: nothing once its project has no keys, which nobody can revoke it with.
    async fn opened(&self, token: &str) -> Result<Share, QueryError> {
        let share = self.queries.0.shares.open(token, clock::now_ms()).await?;
        if self.keys.opens_project(share.project()) { Ok(share) } else { Err(Share::unknown()) }
    }

    /// The board of a link as it is now.
    async fn board_of(&self, share: &Share) -> Result<Value, ApiError> {
        let board = self.queries.0.saved.get(&BOARD, share.project(), &share.board).await;
        // Without its board a link opens nothing, and does not say which board that was.
        let board = board.map_err(|problem| if problem.code == BOARD.unknown { Share::unknown() } else { problem })?;
        Ok(boards::shown(&board)?)
    }
}

/// What somebody with the link asks.
fn of_guest<'r>(report: &'r str, request: &'r str, now_ms: i64) -> Request<'r> {
    Request { is_guest: true, ..Request::of(report, request.as_bytes(), now_ms) }
}

/// The tile of that number, counted from 0.
fn tile<'b>(board: &'b Value, number: &str) -> Result<Tile<'b>, QueryError> {
    let found = number.parse::<usize>().ok().and_then(|number| board["tiles"].get(number));
    found.map(tile_of).ok_or_else(|| QueryError::not_found("unknown_tile", "the board has no tile of that number, counted from 0"))
}

/// A tile as a saved board has it.
fn tile_of(saved: &Value) -> Tile<'_> {
    Tile { report: saved["report"].as_str().unwrap_or_default(), question: &saved["question"] }
}

/// The request for the people behind a bar of a tile: what names the bar may be said, and nothing else of the question.
fn behind(report: &str, question: Value, body: &Value) -> Result<Value, QueryError> {
    let fields = Fields::open(body, &["bar", "compare", "limit", "cursor"])?;
    let keys = REPORTS.iter().find(|kind| kind.name == report).map_or(&[][..], |kind| kind.bar_keys);
    let bar = fields.value("bar").cloned().unwrap_or_else(|| json!({}));
    Fields::open(&bar, keys).map_err(|problem| problem.within("bar"))?;
    let mut of = question;
    if let (Some(of), Value::Object(bar)) = (of.as_object_mut(), bar) {
        of.extend(bar);
        of.insert("report".to_owned(), Value::from(report));
    }
    let value = |key: &str| fields.value(key).cloned().unwrap_or_default();
    Ok(json!({"of": of, "compare": value("compare"), "limit": value("limit"), "cursor": value("cursor")}))
}

/// Kept by nobody on the way: the link may be revoked.
fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}
