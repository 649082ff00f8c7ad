//! What people save over HTTP: rules, channels, and what they say of alerts. By version, as cohorts are.

use serde_json::{Map, Value};

use super::catalogue::{CHANNELS, MUTES, Mute, RULES, RuleKey, SWITCHED_ON};
use super::channel::NamedChannel;
use super::rule::is_id;
use crate::clickhouse::ClickHouse;
use crate::event::ids::ProjectId;
use crate::query::{QueryError, of_file, with_keys_once};
use crate::store::tables::saved::{self, By, HeldThings, Saved, Shelf};

/// Most rules and channels of a project, and most names that it ever had.
const MOST: u64 = 1_000;
const MOST_NAMES: u64 = 10_000;
/// Most bytes of the rules, or of the channels, of a project: all of them are read every few seconds.
const MOST_BYTES: u64 = 2 << 20;
/// The same of what is said of alerts: there is room for two notes of the most text on each rule, so that nobody is kept from saying that they are
/// at it.
const MOST_BYTES_SAID: u64 = 8 << 20;
/// How often a write without a condition is tried again when others write at the same moment.
const TRIES: usize = 5;

/// What must be so for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    /// There is one.
    Something,
    /// There is one of this version.
    Version(u64),
    /// There is none.
    Nothing,
}

/// What is to be written.
pub(crate) struct Write<'a> {
    pub(crate) kind: &'static str,
    pub(crate) project: ProjectId,
    pub(crate) id: &'a str,
    /// JSON; empty deletes it.
    pub(crate) body: &'a str,
    pub(crate) expected: Expected,
    /// Whether it is only checked.
    pub(crate) is_trial: bool,
    pub(crate) by: By<'a>,
}

/// The last version of something; none if it is not there.
pub(crate) async fn find(store: &ClickHouse, shelf: Shelf, id: &str) -> Result<Option<Saved>, QueryError> {
    saved::one(store, shelf, id).await.map_err(|problem| QueryError::of_store(problem.class()))
}

/// Writes the next version; which one that is. On trial nothing is written.
pub(crate) async fn put(store: &ClickHouse, write: Write<'_>) -> Result<u64, QueryError> {
    let Write { kind, project, id, body, expected, is_trial, by } = write;
    if !is_id(id) {
        return Err(QueryError::invalid("invalid_id", "an id has 1 to 64 letters, digits, `.`, `_` and `-`"));
    }
    let shelf = Shelf { project, kind };
    for _ in 0..TRIES {
        let last = find(store, shelf, id).await?;
        let live = last.as_ref().filter(|saved| !saved.body.is_empty());
        let is_met = match expected {
            Expected::Anything => true,
            Expected::Something => live.is_some(),
            Expected::Version(version) => live.map(|saved| saved.version) == Some(version),
            Expected::Nothing => live.is_none(),
        };
        if !is_met {
            let is = live.map_or_else(|| "it does not exist".to_owned(), |saved| format!("its version is {}", saved.version));
            return Err(QueryError::conflict("version_mismatch", format!("`{id}` is not what the request expects: {is}")));
        }
        if body.is_empty() && live.is_none() {
            return Err(unknown(kind, id));
        }
        if !body.is_empty() {
            let held = saved::held(store, shelf).await.map_err(|problem| QueryError::of_store(problem.class()))?;
            check_room(kind, held, last.as_ref(), body)?;
        }
        let body = by.content(body, live).map_err(|file| of_file(&file))?;
        let saved = Saved { name: id.to_owned(), version: last.map_or(0, |saved| saved.version) + 1, body };
        if is_trial || saved::put(store, shelf, &saved).await.map_err(|problem| QueryError::of_store(problem.class()))? {
            return Ok(saved.version);
        }
    }
    Err(QueryError::unavailable("overloaded", "others write the same at the same moment"))
}

/// Checks that a project has room for `body` in the place of `last`. What becomes smaller always fits.
///
/// # Errors
/// 400 `too_many`.
fn check_room(kind: &str, held: HeldThings, last: Option<&Saved>, body: &str) -> Result<(), QueryError> {
    let was = last.map_or(0, |saved| saved.body.len());
    let more = body.len().saturating_sub(was) as u64;
    if was == 0 && (held.live >= MOST || (last.is_none() && held.names >= MOST_NAMES)) {
        return Err(QueryError::invalid("too_many", format!("a project has at most {MOST} of these, and {MOST_NAMES} names ever")));
    }
    let most = if kind == MUTES { MOST_BYTES_SAID } else { MOST_BYTES };
    if more > 0 && held.bytes + more > most {
        let message = format!("a project has at most {most} bytes of these, and has {}: delete or shorten some", held.bytes);
        return Err(QueryError::invalid("too_many", message));
    }
    Ok(())
}

/// Says that a channel takes notices again. It is not written in a file or by those who saved it, so it is kept beside the channel.
pub(crate) async fn switch_on(store: &ClickHouse, channel: &NamedChannel) -> Result<(), QueryError> {
    let (project, id) = channel.key();
    let write = Write {
        kind: SWITCHED_ON,
        project: ProjectId(project),
        id: &id,
        body: "{}",
        expected: Expected::Anything,
        is_trial: false,
        by: By::Somebody,
    };
    put(store, write).await.map(drop)
}

/// Changes what is said of a rule.
pub(crate) async fn mute(store: &ClickHouse, key: &RuleKey, change: impl Fn(&mut Mute)) -> Result<Mute, QueryError> {
    let (project, shelf) = (ProjectId(key.project), Shelf { project: ProjectId(key.project), kind: MUTES });
    for _ in 0..TRIES {
        let last = find(store, shelf, &key.id).await?;
        let live = last.filter(|saved| !saved.body.is_empty());
        let mut mute: Mute = live.as_ref().and_then(|saved| serde_json::from_str(&saved.body).ok()).unwrap_or_default();
        change(&mut mute);
        let expected = live.map_or(Expected::Nothing, |saved| Expected::Version(saved.version));
        let body = serde_json::to_string(&mute).unwrap_or_default();
        match put(store, Write { kind: MUTES, project, id: &key.id, body: &body, expected, is_trial: false, by: By::Somebody }).await {
            Err(problem) if problem.code == "version_mismatch" => {}
            Err(problem) => return Err(problem),
            Ok(_) => return Ok(mute),
        }
    }
    Err(QueryError::unavailable("overloaded", "others write the same at the same moment"))
}

/// Forgets what is said of a rule that is not there: who makes one of its name anew does not know that it was silent.
pub(crate) async fn unmute_new(store: &ClickHouse, key: &RuleKey) -> Result<(), QueryError> {
    let project = ProjectId(key.project);
    let is_live = |saved: &Option<Saved>| saved.as_ref().is_some_and(|saved| !saved.body.is_empty());
    if is_live(&find(store, Shelf { project, kind: RULES }, &key.id).await?) {
        return Ok(());
    }
    let mute = find(store, Shelf { project, kind: MUTES }, &key.id).await?;
    if is_live(&mute) {
        let expected = Expected::Anything;
        put(store, Write { kind: MUTES, project, id: &key.id, body: "", expected, is_trial: false, by: By::Somebody }).await?;
    }
    Ok(())
}

pub(crate) fn unknown(kind: &'static str, id: &str) -> QueryError {
    let (code, what) = match kind {
        RULES => ("unknown_alert", "alert"),
        CHANNELS => ("unknown_channel", "channel"),
        _ => ("not_found", "such thing"),
    };
    QueryError::not_found(code, format!("there is no {what} `{}`", super::rule::short(id)))
}

/// An object, as it was sent.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, QueryError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    with_keys_once(body)
        .and_then(serde_json::from_value)
        .map_err(|problem| QueryError::invalid("invalid_body", format!("the body must be a JSON object: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_so_many_and_so_large_ones_and_what_becomes_smaller_fits() {
        let saved = |body: &str| Saved { name: "a".to_owned(), version: 1, body: body.to_owned() };
        let held = |live, names, bytes| HeldThings { live, names, bytes };
        let large = "x".repeat(64 << 10);
        let fits = |held, last: Option<&Saved>, body: &str| check_room(RULES, held, last, body).is_ok();
        assert!(fits(held(31, 31, 31 << 16), None, &large) && !fits(held(32, 32, 32 << 16), None, &large), "two mebibytes");
        assert!(!fits(held(33, 33, 33 << 16), Some(&saved("{}")), &large), "a change is no way round");
        assert!(
            fits(held(33, 33, 33 << 16), Some(&saved(&large)), &large[1..]) && fits(held(33, 33, 33 << 16), Some(&saved(&large)), &large)
        );
        assert!(!fits(held(MOST, MOST, 0), None, "{}") && fits(held(MOST, MOST, 0), Some(&saved("{}")), "{}"));
        let said = serde_json::json!({"by": "x".repeat(2_000), "note": "x".repeat(2_000), "at": 1, "until": 1, "episode": 1});
        let mute = serde_json::json!({"ack": said, "silence": said}).to_string();
        let of_others = (MOST - 1) * mute.len() as u64;
        assert!(check_room(MUTES, held(MOST - 1, MOST, of_others), None, &mute).is_ok(), "each rule may be acknowledged");
        assert!(!fits(held(0, MOST_NAMES, 0), None, "{}") && fits(held(0, MOST_NAMES, 0), Some(&saved("")), "{}"), "an old name");
    }
}
