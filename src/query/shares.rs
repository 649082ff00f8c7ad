//! Shares: a board for everybody who has a link.
//!
//! A link holds a token of 256 bits; what is saved is its hash, so what is saved opens nothing. It opens one board: its tiles, and the answer of
//! each, as the board is now. Filters of the share are added to those of each tile; times can be changed only where the share says so, and
//! what names people (lists of users, events and sessions, breakdowns by who they are) is answered only where it says so.
//! A page of others may hold the board in a frame where the share names its origin (`embed`), and no other page may.
//! Promises: a share that is revoked or has expired opens nothing, here at once and elsewhere within [`KEPT`]; who guesses tokens costs one
//! read of all shares in [`KEPT`], and learns nothing. What runs for links is at most [`AT_ONCE`] questions at a time.
//! May go wrong: the store is away: then what was read last is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::ask::Fields;
use super::ask::fields::shortened;
use super::ask::filter::{check_cohort, names_cohort};
use super::ask::range::{instant_in_utc, show_ms};
use super::boards::Tile;
use super::error::QueryError;
use super::saved::{Expected, Kind, SavedThings, Write};
use crate::auth::managed::read_whole;
use crate::auth::origin::normal_origin;
use crate::event::ids::ProjectId;
use crate::store::tables::saved::Saved;

/// What a link opens, under its project and the hash of its token.
const SHARE: Kind = Kind {
    word: "share",
    invalid: "invalid_share",
    unknown: "unknown_share",
    too_many: "too_many_shares",
    // Of all projects together; [`MOST`] is of each.
    most: 100_000,
    most_names: 500_000,
};
/// A share is found without knowing whose it is, so all are on one shelf, which is no project's.
const SHELF: ProjectId = ProjectId::BOOKS;
/// Most links of a project, and most that it ever had.
const MOST: usize = 100;
const MOST_EVER: usize = 1_000;
/// Most origins of a link, and the longest one.
const MOST_ORIGINS: usize = 10;
const MAX_ORIGIN: usize = 300;
/// Largest request, bytes.
pub(super) const MAX_SHARE: usize = 16 << 10;
/// A share that names no end ends after this, milliseconds; none lasts longer than the second.
const DEFAULT_MS: i64 = 30 * 86_400_000;
const LONGEST_MS: i64 = 3 * 366 * 86_400_000;
/// How long what was read is used.
const KEPT: Duration = Duration::from_secs(2);
/// Questions that run for links at a time and for one of them, and how long one waits for its turn.
const AT_ONCE: usize = 4;
pub(super) const AT_ONCE_OF_SHARE: usize = 2;
const WAIT: Duration = Duration::from_secs(5);
/// Fields whose values are people, or what single ones did.
const OF_PEOPLE: [&str; 12] = [
    "eventId",
    "event_id",
    "userId",
    "user_id",
    "anonymousId",
    "anonymous_id",
    "sessionId",
    "session_id",
    "session.id",
    "session.visitor",
    "session.person",
    // Of an `alias`: another id of the person.
    "properties.previousId",
];

/// Reports whose numbers stand by an interval, and those of them whose intervals are days, weeks or months.
const BY_INTERVAL: [&str; 4] = ["trends", "sessions", "lifecycle", "stickiness"];
const BY_PERIOD: [&str; 2] = ["lifecycle", "stickiness"];
/// Keys of questions whose values are values that events have.
const BY_VALUE: [&str; 3] = ["filters", "did", "search"];

/// Whether a tile stands by an interval that is chosen for a whole board: else it is asked without.
fn stands_by(tile: Tile<'_>, question: &Map<String, Value>, interval: &str) -> bool {
    let is_list = question.get("list").is_some_and(|list| *list == Value::Bool(true));
    let has_one = question.get("interval").is_some_and(|own| !own.is_null()) || BY_INTERVAL.contains(&tile.report);
    let takes_it = !BY_PERIOD.contains(&tile.report) || ["day", "week", "month"].contains(&interval);
    has_one && takes_it && !is_list
}

/// What a link opens, as it is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Share {
    project: u64,
    pub(super) board: String,
    /// Added to the filters of every tile.
    filters: Vec<Value>,
    /// Whether the one who looks may choose other times.
    pub(super) dates: bool,
    /// Whether what names people is answered.
    pub(super) people: bool,
    /// Origins whose pages may hold the board in a frame.
    #[serde(default)]
    embed: Vec<String>,
    created_ms: i64,
    expires_ms: i64,
    /// Who made it, which is written beside it, if that is known.
    #[serde(skip)]
    by: Option<String>,
}

/// Which board is shared.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedBoard<'a> {
    pub(super) project: ProjectId,
    pub(super) id: &'a str,
}

impl Share {
    /// Reads `{"expires_at", "filters", "dates", "people", "embed"}`, sent at `now_ms`.
    ///
    /// # Errors
    /// 400 `invalid_share`, `unknown_key`, and what is wrong with a filter.
    pub(super) fn parse(body: &Value, board: SharedBoard<'_>, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["expires_at", "filters", "dates", "people", "embed"])?;
        let filters = fields.list("filters", SHARE.invalid)?.to_vec();
        if filters.iter().any(names_cohort) {
            return Err(QueryError::invalid(
                SHARE.invalid,
                "`filters`: those of a link name no cohort, which may change: write out what it says",
            ));
        }
        if !filters.is_empty() {
            check_cohort(&json!({"filters": filters}), now_ms)?;
        }
        let expires_ms = match fields.text("expires_at", SHARE.invalid)? {
            None => now_ms + DEFAULT_MS,
            Some(text) => {
                let until = instant_in_utc(text, now_ms).filter(|at_ms| (now_ms + 1..=now_ms + LONGEST_MS).contains(at_ms));
                let message = || format!("`expires_at` is `{}`: it must be a time of the next three years", shortened(text));
                until.ok_or_else(|| QueryError::invalid(SHARE.invalid, message()))?
            }
        };
        Ok(Self {
            project: board.project.0,
            board: board.id.to_owned(),
            filters,
            dates: fields.flag("dates", SHARE.invalid)?,
            people: fields.flag("people", SHARE.invalid)?,
            embed: origins(fields)?,
            created_ms: now_ms,
            expires_ms,
            by: None,
        })
    }

    /// The same, made by somebody.
    pub(super) fn made_by(self, by: String) -> Self {
        Self { by: Some(by), ..self }
    }

    /// There is no such link, or no longer.
    pub(super) fn unknown() -> QueryError {
        QueryError::not_found(SHARE.unknown, "this link opens nothing, or no longer")
    }

    pub(super) fn project(&self) -> ProjectId {
        ProjectId(self.project)
    }

    /// As those see it who may revoke it.
    fn listed(&self, id: &str) -> Value {
        json!({
            "id": id, "board": self.board, "filters": self.filters, "dates": self.dates, "people": self.people,
            "embed": self.embed, "created_at": show_ms(self.created_ms), "expires_at": show_ms(self.expires_ms), "by": self.by,
        })
    }

    /// The board as one who has the link sees it. Filters stay out of sight, wherever in a question they stand: they may name a customer. So does
    /// the address of the page on which a tile was made, for they stand there too.
    pub(super) fn shown(&self, board: &Value, of: ShownBy<'_>) -> Value {
        let tile = |tile: &Value| {
            let mut tile = tile.clone();
            if let Some(tile) = tile.as_object_mut() {
                tile.remove("view");
            }
            tile.get_mut("question").into_iter().for_each(hide_filters);
            tile
        };
        let tiles: Vec<Value> = board["tiles"].as_array().into_iter().flatten().map(tile).collect();
        json!({
            "id": hash(of.token), "title": board["title"], "description": board["description"], "tiles": tiles, "timezone": of.timezone,
            "dates": self.dates, "people": self.people, "expires_at": show_ms(self.expires_ms),
        })
    }

    /// The request of a tile, with the filters of the share and the times that `query` chooses.
    ///
    /// # Errors
    /// 403 `people_not_shared`, `dates_not_shared`; 400 for another parameter.
    pub(super) fn question(&self, tile: Tile<'_>, query: &str) -> Result<Value, QueryError> {
        if !self.people && names_people(tile) {
            return Err(QueryError::forbidden("people_not_shared", "this tile names people, whom the link does not show"));
        }
        let mut question = tile.question.as_object().cloned().unwrap_or_default();
        question.remove("refresh");
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !["from", "to", "timezone", "interval"].contains(&&*key) {
                let message = format!("unknown parameter `{}`: from, to, timezone and interval are known", shortened(&key));
                return Err(QueryError::invalid("invalid_parameter", message));
            }
            if !self.dates {
                return Err(QueryError::forbidden("dates_not_shared", "the times of this board cannot be changed by its link"));
            }
            if key == "interval" && !stands_by(tile, &question, &value) {
                continue;
            }
            question.insert(key.into_owned(), Value::from(value));
        }
        self.lock(&mut question);
        Ok(Value::Object(question))
    }

    /// Adds the filters of the share; the people behind a bar are those of the bar's own request.
    fn lock(&self, question: &mut Map<String, Value>) {
        let question = match question.get_mut("of") {
            Some(Value::Object(of)) => of,
            _ => question,
        };
        if self.filters.is_empty() {
            return;
        }
        match question.entry("filters").or_insert(Value::Null) {
            Value::Array(own) => own.extend(self.filters.iter().cloned()),
            // What else stands there its report refuses, but for null, which is no filter.
            none @ Value::Null => *none = Value::from(self.filters.clone()),
            _ => {}
        }
    }
}

/// Through which link a board is shown, and in which zone its times are read.
#[derive(Clone, Copy)]
pub(super) struct ShownBy<'a> {
    pub(super) token: &'a str,
    pub(super) timezone: &'a str,
}

/// The origins whose pages may hold a board in a frame, each in its one form: they stand in a header.
fn origins(fields: Fields<'_>) -> Result<Vec<String>, QueryError> {
    let written = fields.list("embed", SHARE.invalid)?;
    if written.len() > MOST_ORIGINS {
        return Err(QueryError::invalid(SHARE.invalid, format!("`embed` has {} origins: at most {MOST_ORIGINS}", written.len())));
    }
    let origin = |index: usize, written: &Value| {
        let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
        normal_origin(&text).filter(|origin| origin.len() <= MAX_ORIGIN).ok_or_else(|| {
            let message = format!("`embed[{index}]` is `{}`: it must be an origin, such as https://shop.example", shortened(&text));
            QueryError::invalid(SHARE.invalid, message)
        })
    };
    written.iter().enumerate().map(|(index, written)| origin(index, written)).collect()
}

/// Whether the answer of a tile names people.
fn names_people(tile: Tile<'_>) -> bool {
    let lists_them = match tile.report {
        "users" | "events" => true,
        "properties" => shows_traits(tile.question),
        "catalogue-values" => is_property(tile.question.get("field")) && shows_traits(tile.question),
        _ => tile.question.get("list") == Some(&Value::Bool(true)),
    };
    lists_them || mentions_people(tile.question)
}

fn is_property(field: Option<&Value>) -> bool {
    field.and_then(Value::as_str).is_some_and(|field| field.starts_with("properties."))
}

/// Whether the properties of what is asked for are, or may be, what is said of single people.
fn shows_traits(question: &Value) -> bool {
    let is_of_people = |name: &Value| matches!(name.as_str(), None | Some("identify" | "alias"));
    match question.get("event") {
        Some(Value::Array(names)) => names.iter().any(is_of_people),
        Some(name) => is_of_people(name),
        None => true,
    }
}

/// Takes out of a question by what it chooses events, persons or values, at any depth.
fn hide_filters(question: &mut Value) {
    match question {
        Value::Array(values) => values.iter_mut().for_each(hide_filters),
        Value::Object(members) => {
            members.retain(|key, _| !BY_VALUE.contains(&key.as_str()));
            members.values_mut().for_each(hide_filters);
        }
        _ => {}
    }
}

/// Whether something in a question, but for its filters, is called as a field of people.
fn mentions_people(value: &Value) -> bool {
    match value {
        Value::String(text) => OF_PEOPLE.contains(&text.as_str()) || text.starts_with("person."),
        Value::Array(values) => values.iter().any(mentions_people),
        Value::Object(members) => members.iter().any(|(key, value)| key != "filters" && mentions_people(value)),
        _ => false,
    }
}

/// What was read of all shares, by the hash of the token.
struct Known {
    at: Instant,
    shares: HashMap<String, KnownShare>,
}

struct KnownShare {
    project: ProjectId,
    /// Its board, whatever else a later release says of it; none if it is revoked.
    board: Option<String>,
    /// None if it is revoked, or a later release says more of it than is known here: it may be a limit.
    share: Option<Share>,
}

impl Known {
    fn of_saved(saved: Vec<Saved>) -> Self {
        let read = |saved: Saved| {
            let (project, id) = saved.name.split_once('-')?;
            let project = ProjectId(u64::from_str_radix(project, 16).ok()?);
            let share = read_whole(&saved.body).map(|share| Share { by: saved.writer(), ..share });
            let board = serde_json::from_str::<Value>(&saved.body).ok().and_then(|body| body["board"].as_str().map(str::to_owned));
            Some((id.to_owned(), KnownShare { project, board, share }))
        };
        Self { at: Instant::now(), shares: saved.into_iter().filter_map(read).collect() }
    }

    /// Those of a project.
    fn of(&self, project: ProjectId) -> impl Iterator<Item = (&str, Option<&Share>)> {
        let own = self.shares.iter().filter(move |(_, known)| known.project == project);
        own.map(|(id, known)| (id.as_str(), known.share.as_ref()))
    }
}

/// The shares of all projects.
pub(super) struct Shares {
    saved: SavedThings,
    known: Mutex<Option<Arc<Known>>>,
    running: Semaphore,
    /// By the hash of the token.
    turns: std::sync::Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The right to ask a question for a link.
pub(super) struct Turn<'a> {
    _of_share: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

/// A new share, with its token, which is shown this once.
pub(super) struct Made {
    pub(super) token: String,
    pub(super) listed: Value,
}

impl Shares {
    pub(super) fn new(saved: SavedThings) -> Self {
        Self { saved, known: Mutex::default(), running: Semaphore::new(AT_ONCE), turns: std::sync::Mutex::default() }
    }

    /// What a token opens at `now_ms`.
    ///
    /// # Errors
    /// 404 `unknown_share`, whatever is the matter with it.
    pub(super) async fn open(&self, token: &str, now_ms: i64) -> Result<Share, QueryError> {
        let known = self.known(KEPT).await?;
        let found = known.shares.get(&hash(token)).and_then(|known| known.share.clone());
        found.filter(|share| now_ms < share.expires_ms).ok_or_else(Share::unknown)
    }

    /// The origins whose pages may hold the board of the link of that id in a frame at `now_ms`, and whose board it is; none if there is no
    /// such link, or no longer.
    pub(super) async fn frames(&self, id: &str, now_ms: i64) -> Option<(ProjectId, Vec<String>)> {
        let known = self.known(KEPT).await.ok()?;
        let share = known.shares.get(id)?.share.as_ref().filter(|share| now_ms < share.expires_ms)?;
        Some((share.project(), share.embed.clone()))
    }

    /// The right to ask a question for the link of a token: no link takes the turns of all.
    ///
    /// # Errors
    /// 429 `too_many_queries`.
    pub(super) async fn turn(&self, token: &str) -> Result<Turn<'_>, QueryError> {
        let own = {
            let mut turns = self.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Those that nobody waits for are as new ones.
            turns.retain(|_, own| Arc::strong_count(own) > 1);
            Arc::clone(turns.entry(hash(token)).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_OF_SHARE))))
        };
        let turn = async { Some(Turn { _of_share: own.acquire_owned().await.ok()?, _of_all: self.running.acquire().await.ok()? }) };
        tokio::time::timeout(WAIT, turn).await.ok().flatten().ok_or_else(QueryError::too_many)
    }

    /// The links of a board.
    pub(super) async fn list(&self, board: SharedBoard<'_>) -> Result<Value, QueryError> {
        let known = self.known(Duration::ZERO).await?;
        let own = known.of(board.project).filter_map(|(id, share)| Some((id, share.filter(|share| share.board == board.id)?)));
        let mut listed: Vec<(i64, Value)> = own.map(|(id, share)| (share.created_ms, share.listed(id))).collect();
        listed.sort_by_key(|(created_ms, _)| *created_ms);
        Ok(json!({"shares": listed.into_iter().map(|(_, share)| share).collect::<Vec<_>>()}))
    }

    /// Makes a link.
    ///
    /// # Errors
    /// 400 `too_many_shares`.
    pub(super) async fn create(&self, share: &Share) -> Result<Made, QueryError> {
        let known = self.known(Duration::ZERO).await?;
        let (live, ever) =
            known.of(share.project()).fold((0, 0), |(live, ever), (_, share)| (live + usize::from(share.is_some()), ever + 1));
        if live >= MOST || ever >= MOST_EVER {
            let message = format!("a project has at most {MOST} links, and {MOST_EVER} ever");
            return Err(QueryError::invalid(SHARE.too_many, message));
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| QueryError::internal("there is no randomness"))?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let id = hash(&token);
        let body = serde_json::to_string(share).map_err(|_| QueryError::internal("the share cannot be written"))?;
        let name = name(share.project(), &id);
        let write = Write { writer: share.by.as_deref(), ..Write::new(&name, Some(&body), Expected::None) };
        self.saved.put(&SHARE, SHELF, write).await?;
        *self.known.lock().await = None;
        Ok(Made { token, listed: share.listed(&id) })
    }

    /// Ends a link of `project`.
    ///
    /// # Errors
    /// 404 `unknown_share`.
    pub(super) async fn revoke(&self, project: ProjectId, id: &str) -> Result<(), QueryError> {
        let name = name(project, id);
        self.saved.put(&SHARE, SHELF, Write::new(&name, None, Expected::Anything)).await?;
        *self.known.lock().await = None;
        Ok(())
    }

    /// Ends the links of a board that is not there any more: one that is made anew under its name is another.
    pub(super) async fn revoke_all(&self, board: SharedBoard<'_>) -> Result<(), QueryError> {
        let known = self.known(Duration::ZERO).await?;
        let is_of_board = |known: &KnownShare| known.project == board.project && known.board.as_deref() == Some(board.id);
        for (id, _) in known.shares.iter().filter(|(_, known)| is_of_board(known)) {
            match self.revoke(board.project, id).await {
                Err(problem) if problem.code == SHARE.unknown => {}
                revoked => revoked?,
            }
        }
        Ok(())
    }

    /// What is saved, read no longer ago than `within`.
    async fn known(&self, within: Duration) -> Result<Arc<Known>, QueryError> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < within) {
            return Ok(Arc::clone(known));
        }
        match (self.saved.all(&SHARE, SHELF).await, known.as_ref()) {
            (Ok(saved), _) => Ok(Arc::clone(known.insert(Arc::new(Known::of_saved(saved))))),
            (Err(_), Some(known)) if !within.is_zero() => Ok(Arc::clone(known)),
            (Err(problem), _) => Err(problem),
        }
    }
}

fn name(project: ProjectId, id: &str) -> String {
    format!("{:016x}-{id}", project.0)
}

fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests;
