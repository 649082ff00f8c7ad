//! One person: what is known of them, their events, and the rulings about which ids are theirs.
//!
//! Promises: a ruling that was answered holds: for the next question here, and elsewhere within a second. An undone tie stays undone, whatever
//! events come, until it is merged again; nothing is written of ties that are already as asked. Lists are bounded: of a person with
//! more than [`MOST_IDS`] ids or [`MOST_TIES`] ties, that many are shown; all of their events are counted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::People;
use super::times::{Times, Wanted};
use crate::event::ids::{PersonKey, ProjectId, stands_for_nobody};
use crate::query::ask::field::Kind;
use crate::query::ask::fields::shortened;
use crate::query::ask::range::show_ms;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Expr, Fields, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, number, to_json};
use crate::query::report::events::Events;
use crate::store::schema::IN_ORDER;
use crate::store::tables::identities::{self, Pair, Ruling, Tie, TieKind};

/// Ids of one person that are looked at.
const MOST_IDS: usize = 1_000;
/// Ties of one person that are shown, and that one ruling undoes.
const MOST_TIES: usize = 10_000;
/// Traits that are shown.
const MOST_TRAITS: u64 = 1_000;
/// Longest id, as events have it.
const MAX_ID: usize = 200;

/// Someone as events name them: a person, and all ids that may stand in their events.
#[derive(Clone, Debug)]
pub(crate) struct Somebody {
    person: PersonKey,
    /// At most [`MOST_IDS`] of them, the one asked for among them.
    ids: Vec<PersonKey>,
    total: usize,
    /// The ties of these ids; at most [`MOST_TIES`].
    ties: Vec<Tie>,
}

impl Somebody {
    /// The one called `id`, without ties; of a device that several use, the one who used it last.
    fn of(id: &str, runner: &StatementRunner<'_>) -> Self {
        let asked = PersonKey::of(runner.project(), id);
        let person = runner.people().person(asked, runner.now_ms());
        let mut ids = runner.people().ids(person);
        let total = ids.len();
        if let Some(at) = ids.iter().skip(MOST_IDS).position(|id| *id == asked) {
            ids.swap(0, MOST_IDS + at);
        }
        ids.truncate(MOST_IDS);
        Self { person, ids, total, ties: Vec::new() }
    }

    /// All visitors whose events may be theirs; none if they are too many.
    fn visitors(&self) -> Option<Vec<u64>> {
        if self.ids.len() < self.total || self.ties.len() >= MOST_TIES {
            return None;
        }
        // A tie that was undone has had events, too.
        let devices = self.ties.iter().filter(|tie| self.ids.contains(&tie.pair.to)).map(|tie| tie.pair.from.0);
        let visitors: BTreeSet<u64> = self.ids.iter().map(|id| id.0).chain(devices).collect();
        Some(visitors.into_iter().collect())
    }

    /// The condition that an event is of a time at which they have one; none where that says nothing.
    async fn times(&self, runner: &mut StatementRunner<'_>, wanted: &Wanted<'_>) -> Result<Option<Expr>, QueryError> {
        let Some(visitors) = self.visitors() else { return Ok(None) };
        let times = Times::read(runner, &visitors, self.condition(), wanted).await?;
        Ok(times.map(|times| times.condition()))
    }

    /// Of these events, of which `range` and page are known, theirs.
    pub(crate) async fn events(&self, events: Events, runner: &mut StatementRunner<'_>) -> Result<Events, QueryError> {
        let (until_ms, enough) = events.newest();
        let times = self.times(runner, &Wanted { range: events.range(), until_ms, enough }).await?;
        Ok(events.of(self.condition(), times))
    }

    /// The condition that an event is theirs.
    fn condition(&self) -> Expr {
        let is_theirs = Expr::from(PERSON).infix(" = ", Expr::uint(self.person.0));
        if self.ids.len() < self.total {
            return is_theirs;
        }
        // Looked at first, for it is cheaper than who everybody is.
        let ids = Expr::from("person_id IN ").then(Expr::uints(self.ids.iter().map(|id| id.0)));
        Expr::all([ids, is_theirs])
    }
}

impl People {
    /// The one called `id`.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn somebody(&self, id: &str, runner: &StatementRunner<'_>) -> Result<Somebody, QueryError> {
        let somebody = Somebody::of(id, runner);
        let ties = self.ties(runner.project(), &somebody.ids).await?;
        Ok(Somebody { ties, ..somebody })
    }

    /// What is known of the one called `id`.
    ///
    /// # Errors
    /// 404 `unknown_person` where nothing is.
    pub(crate) async fn show(&self, id: &str, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let somebody = self.somebody(id, runner).await?;
        let (ties, everything) = (&somebody.ties, Range::everything());
        let times = somebody.times(runner, &Wanted { range: &everything, until_ms: None, enough: None }).await?;
        let events = || {
            let events = Selection::of(runner.scope(&everything));
            let events = times.iter().cloned().fold(events, Selection::and);
            events.and(somebody.condition())
        };
        let seen = Select::default()
            .column("count()")
            .column("toUnixTimestamp64Milli(min(timestamp))")
            .column("toUnixTimestamp64Milli(max(timestamp))")
            .column("countIf(bot != '')")
            .from(events());
        let traits = traits(events());
        let seen = runner.rows(seen.into()).await?;
        let [count, first, last, bots] = seen.first().map_or([0; 4], |row| row.columns::<4>().map(|cell| cell.int()));
        if count == 0 && ties.is_empty() {
            return Err(QueryError::not_found("unknown_person", format!("nothing is known of `{}`", shortened(id))));
        }
        let mut shown = Map::new();
        for row in runner.rows(traits.into()).await? {
            shown.insert(row.cell(0).text().to_owned(), value(row.cell(1).text()));
        }
        let at = |at_ms| if count > 0 { Value::from(show_ms(at_ms)) } else { Value::Null };
        to_json(&json!({
            "person": format!("{:016x}", somebody.person.0), "ids": names(id, &somebody), "ids_total": somebody.total, "traits": shown,
            "ties": ties.iter().map(shown_tie).collect::<Vec<_>>(), "events": count, "bots": bots, "first_seen": at(first), "last_seen": at(last),
        }))
    }

    async fn ties(&self, project: ProjectId, ids: &[PersonKey]) -> Result<Vec<Tie>, QueryError> {
        let ties = identities::of_keys(&self.store.reader, project, ids, MOST_TIES).await;
        ties.map_err(|problem| QueryError::of_store(problem.class()))
    }

    /// Makes a tie (`anonymousId` or `previousId`, and `userId`) at `now_ms`. Answers what changed.
    ///
    /// # Errors
    /// 400 `invalid_id`, and as [`Fields::open`].
    pub(crate) async fn merge(&self, project: ProjectId, body: &Value, now_ms: i64) -> Result<Vec<u8>, QueryError> {
        let Asked { device, previous, user } = Asked::read(body)?;
        let (Some(user), Some((kind, from))) = (user, one_of(device, previous)) else {
            return Err(invalid("a tie is of a `userId` and either an `anonymousId` or a `previousId`".to_owned()));
        };
        if from == user {
            return Err(invalid(format!("both ids are `{}`", shortened(user))));
        }
        let pair = Pair { kind, from: PersonKey::of(project, from), to: PersonKey::of(project, user) };
        let ties = self.ties(project, &[pair.from]).await?;
        let names_user = |tie: &&Tie| tie.pair.to == pair.from || tie.pair.kind == TieKind::Alias && tie.pair.from == pair.from;
        // What is tied as a device is one, also where that is undone and an alias stands.
        let is_device = ties.iter().any(|tie| tie.pair.kind == TieKind::Device && tie.pair.from == pair.from);
        if kind == TieKind::Device && !is_device && ties.iter().filter(names_user).any(|tie| !tie.ruling.is_undone()) {
            return Err(invalid(format!("`anonymousId` `{}` is a user: it is tied to another as `previousId`", shortened(from))));
        }
        let known = ties.into_iter().find(|tie| tie.pair == pair);
        if known.as_ref().is_some_and(|tie| !tie.ruling.is_undone()) {
            return changed(&[]);
        }
        let before = known.as_ref().map(|tie| tie.ruling).unwrap_or_default();
        let (event, known_ms) = known.map_or((None, None), |tie| (tie.event, tie.known_ms));
        let ruling = Ruling::after(before, now_ms, false);
        self.rule(project, vec![Tie { project, pair, from_id: from.to_owned(), to_id: user.to_owned(), event, ruling, known_ms }]).await
    }

    /// Undoes the ties of a `userId`, an `anonymousId` or a `previousId`, or the one of two, at `now_ms`. Answers what changed.
    ///
    /// # Errors
    /// 400 `invalid_id`, 404 `unknown_tie`, and as [`Fields::open`].
    pub(crate) async fn unmerge(&self, project: ProjectId, body: &Value, now_ms: i64) -> Result<Vec<u8>, QueryError> {
        let Asked { device, previous, user } = Asked::read(body)?;
        let from = one_of(device, previous).map(|(kind, id)| (kind, PersonKey::of(project, id)));
        let user = user.map(|id| PersonKey::of(project, id));
        let Some(looked_up) = from.map(|(_, id)| id).or(user) else {
            return Err(invalid("an `anonymousId`, a `previousId` or a `userId` is needed".to_owned()));
        };
        let is_meant = |tie: &Tie| {
            let is_alias_of = |user| tie.pair.kind == TieKind::Alias && from.is_none() && tie.pair.from == user;
            from.is_none_or(|from| (tie.pair.kind, tie.pair.from) == from)
                && user.is_none_or(|user| tie.pair.to == user || is_alias_of(user))
        };
        let meant: Vec<Tie> = self.ties(project, &[looked_up]).await?.into_iter().filter(is_meant).collect();
        if meant.is_empty() {
            return Err(QueryError::not_found("unknown_tie", "no event and no merge has tied these ids"));
        }
        let made = meant.into_iter().filter(|tie| !tie.ruling.is_undone());
        let undone = made.map(|tie| Tie { ruling: Ruling::after(tie.ruling, now_ms, true), ..tie });
        self.rule(project, undone.collect()).await
    }

    async fn rule(&self, project: ProjectId, ties: Vec<Tie>) -> Result<Vec<u8>, QueryError> {
        if !ties.is_empty() {
            let ruled = identities::rule(&self.store, &ties).await;
            // Also after an error: it may have been stored.
            self.arrivals.note_ruling(project);
            ruled.map_err(|problem| QueryError::of_store(problem.class()))?;
        }
        changed(&ties)
    }
}

/// The ids of a request about ties.
struct Asked<'a> {
    device: Option<&'a str>,
    previous: Option<&'a str>,
    user: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(body: &'a Value) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["anonymousId", "previousId", "userId"])?;
        let id = |key: &'static str| {
            let id = fields.text(key, "invalid_id")?.map(str::trim);
            match id.filter(|id| id.len() > MAX_ID || stands_for_nobody(id)) {
                Some(nobody) => Err(invalid(format!("`{key}` `{}` stands for nobody: 1 to {MAX_ID} bytes are an id", shortened(nobody)))),
                None => Ok(id),
            }
        };
        let asked = Self { device: id("anonymousId")?, previous: id("previousId")?, user: id("userId")? };
        if asked.device.is_some() && asked.previous.is_some() {
            return Err(invalid("`anonymousId` and `previousId` are not asked for together".to_owned()));
        }
        Ok(asked)
    }
}

fn one_of<'a>(device: Option<&'a str>, previous: Option<&'a str>) -> Option<(TieKind, &'a str)> {
    device.map(|id| (TieKind::Device, id)).or(previous.map(|id| (TieKind::Alias, id)))
}

fn invalid(message: String) -> QueryError {
    QueryError::invalid("invalid_id", message)
}

fn changed(ties: &[Tie]) -> Result<Vec<u8>, QueryError> {
    to_json(&json!({"changed": ties.iter().map(shown_tie).collect::<Vec<_>>()}))
}

/// A tie: its ids, the event that made it first or when it was made by hand, and what was ruled of it last.
fn shown_tie(tie: &Tie) -> Value {
    let from = if tie.pair.kind == TieKind::Device { "anonymousId" } else { "previousId" };
    let event = tie.event.map(|(at_ms, id)| json!({"eventId": uuid::Uuid::from_bytes(id).to_string(), "timestamp": show_ms(at_ms)}));
    let ruled = |is_undone| tie.ruling.at_ms().filter(|_| tie.ruling.is_undone() == is_undone);
    // What no event has made was made by hand. Where that is undone the ruling says so alone, and when it was written first is left.
    let merged = ruled(false).or(tie.known_ms.filter(|_| tie.event.is_none()));
    json!({from: tie.from_id, "userId": tie.to_id, "event": event, "merged_at": merged.map(show_ms), "undone_at": ruled(true).map(show_ms)})
}

/// The ids of somebody whose texts are known, and what they are.
fn names(asked: &str, somebody: &Somebody) -> Vec<Value> {
    let mut known: BTreeMap<PersonKey, (&str, &str)> = BTreeMap::new();
    for tie in &somebody.ties {
        let from = if tie.pair.kind == TieKind::Device { "anonymous" } else { "user" };
        known.entry(tie.pair.from).or_insert((&tie.from_id, from));
        known.insert(tie.pair.to, (&tie.to_id, "user"));
    }
    let own = somebody.ids.iter().filter_map(|id| known.get(id));
    let listed: Vec<Value> = own.map(|(id, kind)| json!({"id": id, "kind": kind})).collect();
    if listed.is_empty() { vec![json!({"id": asked, "kind": Value::Null})] } else { listed }
}

/// The traits of the one whose events they are: of each the last that identify set, by time and place in the log.
fn traits(events: Selection) -> Expr {
    let text = Kind::Text.tag("toString(v)".into());
    let traits = Expr::from("arrayConcat(arrayMap((k, v) -> (toString(k), ")
        .then(text)
        .then("), mapKeys(strings), mapValues(strings)), arrayMap((k, v) -> (toString(k), ")
        .then(Kind::Number.tag("toString(v + 0)".into()))
        .then("), mapKeys(numbers), mapValues(numbers)), arrayMap((k, v) -> (toString(k), ")
        .then(Kind::Json.tag("v".into()))
        .then("), mapKeys(others), mapValues(others)))");
    let listed = Select::default()
        .named(IN_ORDER, " AS place")
        .named(Expr::call("arrayJoin", [traits]), " AS trait")
        .from(events.event(Some("identify")));
    let last = Expr::from("SELECT trait.1, argMax(trait.2, place) FROM (").then(listed).then(") GROUP BY trait.1 ORDER BY trait.1 LIMIT ");
    last.then(Expr::uint(MOST_TRAITS))
}

/// A value as it was sent.
fn value(key: &str) -> Value {
    match Kind::split(key) {
        Some((Kind::Number, float)) => float.parse().map_or(Value::Null, number),
        Some((Kind::Json, json)) => serde_json::from_str(json).unwrap_or(Value::Null),
        Some((Kind::Text | Kind::Missing, text)) => Value::from(text),
        None => Value::Null,
    }
}
