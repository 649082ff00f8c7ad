//! Channels: how people are told. One file each, one line of [`CHANNELS`].
//!
//! A channel is named by its id and may be that of one project or of all. Promises: secrets are read from the environment or from files
//! and are shown nowhere; whatever a notice says, a channel sends valid content of bounded size.

mod alertmanager;
mod email;
mod pagerduty;
mod slack;
mod template;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;

pub(in crate::alert) use alertmanager::LASTS_MS;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::notice::Notice;
use super::rule::Rule;
use super::target::{Outgoing, Sent, Target, Trust};
use crate::event::ids::ProjectId;
use crate::secret::Secret;

/// The least time between two heartbeats of a channel that is saved over HTTP, seconds: a project may have a thousand of these.
const LEAST_HEARTBEAT_S: u64 = 30;
/// What the text of a secret begins with that is in a file.
const OF_FILE: &str = "file:";

/// How one kind of receiver is told.
pub(crate) trait Channel: Send + Sync {
    /// Tells it, once.
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent>;

    /// Whether it must be told again and again while an alert goes on.
    fn wants_repeats(&self) -> bool {
        false
    }

    /// Whether it can be told numbers that are no alert.
    fn takes_reports(&self) -> bool {
        true
    }
}

/// A notice on its way to a channel.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: Uuid,
    pub(crate) notice: Notice,
    /// When it is sent, seconds since 1970.
    pub(crate) now_s: i64,
}

/// Makes a channel of what is written about it.
type Open = fn(&Settings<'_>) -> Result<Box<dyn Channel>, String>;

/// Every kind, by the word that a file says.
const CHANNELS: [(&str, Open); 6] = [
    ("webhook", webhook::open),
    ("slack", slack::open),
    ("pagerduty", pagerduty::open),
    ("alertmanager", alertmanager::open),
    ("email", email::open),
    ("template", template::open),
];

/// A channel as it was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedChannel {
    pub(crate) version: u64,
    /// Without its address: who knows that may write there.
    pub(crate) settings: Map<String, Value>,
    /// Of all of it.
    pub(crate) digest: String,
    /// The file for which it was written, if it was for one.
    pub(crate) file: Option<String>,
}

impl SavedChannel {
    pub(crate) fn new(version: u64, written: &Map<String, Value>) -> Self {
        let mut settings = written.clone();
        settings.remove("url");
        Self { version, settings, digest: digest(written), file: None }
    }
}

/// SHA-256 in hexadecimal of what is written about a channel, by which others tell whether theirs is the same.
pub(crate) fn digest(written: &Map<String, Value>) -> String {
    // Keys are in their order.
    let text = serde_json::to_string(written).unwrap_or_default();
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// What is written about a channel.
pub(crate) struct Settings<'a> {
    keys: &'a Map<String, Value>,
    trust: &'a Trust,
}

/// A channel with what it is called.
#[derive(Clone)]
pub(crate) struct NamedChannel {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    /// Whose it is; everybody's without one.
    pub(crate) project: Option<ProjectId>,
    /// The file of the instance that says it: it is changed there.
    pub(crate) file: Option<String>,
    /// How often it is told that pulse is alive, in seconds; 0 for never.
    pub(crate) heartbeat_s: u64,
    /// Changes with what is written about it, with its secrets, and each time it is written ([`Self::written_as`]).
    pub(crate) fingerprint: u64,
    /// How often it has taken a test after it was switched off.
    pub(crate) switched_on: u64,
    /// How it was saved, if it was.
    pub(crate) saved: Option<SavedChannel>,
    pub(crate) channel: Arc<dyn Channel>,
}

impl NamedChannel {
    /// Reads a channel.
    ///
    /// # Errors
    /// The key that is wrong.
    pub(crate) fn open(id: &str, written: &Map<String, Value>, trust: &Trust) -> Result<Self, String> {
        let settings = Settings { keys: written, trust };
        let word = settings.text("kind")?;
        let known = || CHANNELS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = CHANNELS.iter().find(|(name, _)| *name == word);
        let (kind, open) = found.ok_or_else(|| format!("kind: `{}` is none of {}", super::rule::short(&word), known()))?;
        let project = settings.optional("project")?.map(|name| ProjectId::of_name(&name));
        let heartbeat_s = match settings.heartbeat_s()? {
            // As it was saved before such were refused.
            seconds @ 1.. if *trust != Trust::Operator => seconds.max(LEAST_HEARTBEAT_S),
            seconds => seconds,
        };
        let mut known = serde_json::to_string(written).unwrap_or_default();
        if *trust == Trust::Operator {
            // A secret that was exchanged makes another channel of it.
            let secrets = written.iter().filter_map(|(key, text)| read_secret(key, text.as_str()?).ok());
            secrets.for_each(|secret| known.push_str(secret.reveal()));
        }
        let fingerprint = xxhash_rust::xxh3::xxh3_64(known.as_bytes());
        Ok(Self {
            id: id.to_owned(),
            kind,
            project,
            file: None,
            heartbeat_s,
            fingerprint,
            switched_on: 0,
            saved: None,
            channel: Arc::from(open(&settings)?),
        })
    }

    /// With what differs each time it is written, whatever it says: one that is written anew is another one.
    pub(crate) fn written_as(self, mark: &[u8]) -> Self {
        Self { fingerprint: xxhash_rust::xxh3::xxh3_64_with_seed(mark, self.fingerprint), ..self }
    }

    /// What tells it from what it was: one that is written anew, or switched on again, is another one, of which nothing is held against it.
    pub(crate) fn identity(&self) -> u64 {
        match self.switched_on {
            0 => self.fingerprint,
            times => xxhash_rust::xxh3::xxh3_64_with_seed(&times.to_le_bytes(), self.fingerprint),
        }
    }

    /// Checks what is refused where a channel is saved, and was not always.
    ///
    /// # Errors
    /// The key that is wrong.
    pub(crate) fn check_saved(written: &Map<String, Value>) -> Result<(), String> {
        match (Settings { keys: written, trust: &Trust::Operator }).heartbeat_s()? {
            1..LEAST_HEARTBEAT_S => Err(format!("heartbeat: it is shorter than {LEAST_HEARTBEAT_S} seconds")),
            _ => Ok(()),
        }
    }

    /// Checks that it can be told what a rule tells.
    ///
    /// # Errors
    /// That it takes no reports.
    pub(crate) fn check_told(&self, rule: &Rule) -> Result<(), String> {
        match &rule.body.report_at {
            Some(at) if !self.channel.takes_reports() => {
                let (id, kind, at) = (&self.id, self.kind, super::rule::short(at));
                Err(format!("channels: `{id}` is of the kind `{kind}`, which takes alerts alone: no report of `report_at` `{at}`"))
            }
            _ => Ok(()),
        }
    }

    /// What names it among all.
    pub(crate) fn key(&self) -> (u64, String) {
        (self.project.map_or(0, |project| project.0), self.id.clone())
    }

    /// Whether the rules of a project may use it.
    pub(crate) fn is_of(&self, project: ProjectId) -> bool {
        self.project.is_none_or(|own| own == project)
    }
}

impl Settings<'_> {
    /// Refuses keys that the kind does not know.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        let common = ["kind", "project", "heartbeat"];
        let unknown = self.keys.keys().find(|key| !known.contains(&key.as_str()) && !common.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| Err(format!("unknown key `{}`: expected {}", super::rule::short(key), known.join(", "))))
    }

    fn text(&self, key: &str) -> Result<String, String> {
        self.optional(key)?.ok_or_else(|| format!("{key}: it is missing"))
    }

    fn optional(&self, key: &str) -> Result<Option<String>, String> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("{key}: it must be text")),
        }
    }

    fn list(&self, key: &str) -> Result<Vec<String>, String> {
        match self.keys.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => list
                .iter()
                .map(|text| text.as_str().map(str::to_owned).ok_or_else(|| format!("{key}: it must be a list of texts")))
                .collect(),
            Some(_) => Err(format!("{key}: it must be a list of texts")),
        }
    }

    /// Seconds from one heartbeat to the next; 0 for none.
    fn heartbeat_s(&self) -> Result<u64, String> {
        let Some(text) = self.optional("heartbeat")? else { return Ok(0) };
        let span = text.parse::<humantime_serde::re::humantime::Duration>().map_err(|_| "heartbeat: not a duration".to_owned())?;
        match span.as_secs() {
            0 if !span.is_zero() => Err(format!("heartbeat: `{}` is shorter than a second", super::rule::short(&text))),
            seconds => Ok(seconds),
        }
    }

    /// A secret, from where its text says: `env:NAME` or `file:PATH`.
    fn secret(&self, key: &str) -> Result<Option<Secret>, String> {
        let Some(text) = self.optional(key)? else { return Ok(None) };
        if *self.trust != Trust::Operator {
            return Err(format!("{key}: only a file of this instance may name a secret"));
        }
        read_secret(key, &text).map(Some)
    }

    /// An address, which may be a secret itself.
    fn target(&self, key: &str) -> Result<Target, String> {
        let text = self.text(key)?;
        let is_secret = text.starts_with("env:") || text.starts_with(OF_FILE);
        let text = if is_secret { self.secret(key)?.unwrap_or_default().reveal().to_owned() } else { text };
        Target::new(&text, self.trust.clone()).map_err(|problem| format!("{key}: {problem}"))
    }
}

/// The files that hold secrets of a channel of a file.
pub(crate) fn secret_files(written: &Map<String, Value>) -> impl Iterator<Item = PathBuf> {
    written.values().filter_map(|text| text.as_str()?.strip_prefix(OF_FILE).map(PathBuf::from))
}

/// The text that `env:NAME` or `file:PATH` stands for.
///
/// # Errors
/// `key` and what is missing.
#[allow(clippy::disallowed_methods, reason = "the file that is read names the variable")]
pub(crate) fn read_secret(key: &str, text: &str) -> Result<Secret, String> {
    if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name).map_err(|_| format!("{key}: the environment has no `{name}`"))?;
        return Ok(Secret::from(value));
    }
    let Some(path) = text.strip_prefix(OF_FILE) else {
        return Err(format!("{key}: a secret is written as env:NAME or file:PATH"));
    };
    let value = std::fs::read_to_string(path).map_err(|problem| format!("{key}: {path}: {}", problem.kind()))?;
    Ok(Secret::from(value.trim().to_owned()))
}

/// Cuts a text to so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most.saturating_sub(1)) {
        Some((at, _)) if text.chars().count() > most => format!("{}…", text.get(..at).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

/// What becomes of a report to a receiver of alerts alone: one of a file, or whose channel was of another kind when its rule was saved.
fn no_report() -> Sent {
    Sent::Never("such a channel takes alerts alone, no reports".to_owned())
}

/// What becomes of what is neither the beginning of an alert nor its end, to a receiver that knows nothing else.
fn no_word() -> Sent {
    Sent::Skipped("such a channel is told when alerts begin, go on and end: it has no word for anything else".to_owned())
}

/// Sends JSON.
async fn post_json(target: &Target, value: &Value) -> Sent {
    target.post(Outgoing::json(value)).await
}

#[cfg(test)]
mod tests;
