//! Which rules and channels there are: those of files, and those that people save.
//!
//! What a file says cannot be changed over HTTP. Promise: a file that cannot be read any more changes nothing: what it said last holds, and
//! a warning says so. May go wrong: what somebody saved names an address that may not be used any more; that channel is left out.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::channel::{self, NamedChannel, SavedChannel};
use super::judge::RuleState;
use super::rule::{DEFAULT_PROJECT, LEAST_MISSED, Rule, RuleBody, SavedRule, is_id};
use super::target::Trust;
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::clock;
use crate::event::ids::ProjectId;
use crate::secret::without_line;
use crate::store::tables::saved::{self, FILE, Saved};

/// What rules, channels and mutes are saved as.
pub(crate) const RULES: &str = "alert";
pub(crate) const CHANNELS: &str = "channel";
pub(crate) const MUTES: &str = "alert_mute";
/// What says that a channel took a test after it was switched off; of one of all projects under the project that none has.
pub(crate) const SWITCHED_ON: &str = "channel_on";
/// Largest file.
const MOST_BYTES: u64 = 4 << 20;
/// How long files that could not be read and have not changed are not read again.
const UNREAD_FOR: Duration = Duration::from_secs(10);

/// Whose rule, and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RuleKey {
    pub(crate) project: u64,
    pub(crate) id: String,
}

/// A rule with where it is from.
#[derive(Clone, Debug)]
pub(crate) struct KnownRule {
    pub(crate) key: RuleKey,
    /// The name of its project, as far as it is known.
    pub(crate) project_name: String,
    pub(crate) rule: Rule,
    /// The version that was saved, or the file.
    pub(crate) origin: Origin,
}

/// Where something is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File(PathBuf),
    Saved {
        version: u64,
        /// The file for which it was written, if it was for one.
        file: Option<String>,
        /// When; 0 where that is not known.
        at_ms: i64,
    },
}

impl Origin {
    /// Of a rule that is not saved.
    pub(crate) const UNSAVED: Self = Self::Saved { version: 0, file: None, at_ms: 0 };
}

/// Who has seen an alert, and until when nobody is to be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mute {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ack: Option<Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silence: Option<Note>,
}

/// What somebody said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    pub(crate) by: String,
    pub(crate) note: String,
    pub(crate) at: i64,
    pub(crate) until: i64,
    /// The episode that was acknowledged.
    pub(crate) episode: i64,
    /// The last slot that was judged then; 0 in what earlier releases wrote.
    pub(crate) through: i64,
    /// Since when the rule had the state that was acknowledged, as [`RuleState::since`] says; 0 in what earlier releases wrote.
    pub(crate) began: i64,
}

impl Note {
    /// Whether it is about the alert that goes on, or the one that channels know of. A rule that began anew within a slot has another one of the
    /// same episode.
    pub(crate) fn is_of(&self, state: &RuleState) -> bool {
        let is_on = self.episode != 0 && [state.episode, state.told_episode].contains(&self.episode);
        is_on && (self.began == 0 || self.began == state.since)
    }

    /// Whether who acknowledges has seen a line that became an alert in a slot. Of the episode they have seen what there was then; those
    /// who said so of an earlier release all of it.
    pub(crate) fn covers(&self, began: i64) -> bool {
        self.through == 0 || began <= self.through
    }
}

/// What files say.
#[derive(Clone, Default)]
pub(crate) struct Files {
    pub(crate) rules: BTreeMap<RuleKey, Arc<KnownRule>>,
    pub(crate) channels: Vec<NamedChannel>,
    /// Files that hold secrets of channels.
    secrets: Vec<PathBuf>,
    /// Name, change and size of each file.
    stamps: Vec<Stamp>,
}

/// What files say, for all who ask: as it could be read last.
pub(crate) struct KnownFiles {
    folder: String,
    known: Mutex<ReadFiles>,
}

struct ReadFiles {
    files: Arc<Files>,
    /// Why they cannot be read any more; empty if they can.
    problem: String,
    /// How they stood when they could not be, and when that was: as long as they stand so they are read again once in a while, because
    /// what is wrong may be beside them (a secret that is not there yet, a right that is lacking).
    unread: Option<(Vec<Stamp>, Instant)>,
}

impl KnownFiles {
    /// Reads all `*.toml` of a folder, and of nothing if it is empty.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub(crate) fn open(folder: &str) -> Result<Self, String> {
        Ok(Self { folder: folder.to_owned(), known: Mutex::new(ReadFiles::of(Files::read(folder)?)) })
    }

    /// What they say now, or said last where one of them cannot be read: then a warning names it once.
    pub(crate) fn now(&self) -> Arc<Files> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = known.files.stamps_in(&self.folder);
        let stand_so = |(unread, at): &(Vec<Stamp>, Instant)| at.elapsed() < UNREAD_FOR && stamps.as_ref() == Ok(unread);
        if !known.unread.as_ref().is_some_and(stand_so) {
            match known.files.read_again(&self.folder) {
                Ok(None) => (known.problem, known.unread) = (String::new(), None),
                Ok(Some(files)) => *known = ReadFiles::of(files),
                Err(problem) => {
                    if problem != known.problem {
                        tracing::warn!(%problem, "the files of alerts are used as they were");
                    }
                    (known.problem, known.unread) = (problem, stamps.ok().map(|stamps| (stamps, Instant::now())));
                }
            }
        }
        Arc::clone(&known.files)
    }
}

impl ReadFiles {
    fn of(files: Files) -> Self {
        Self { files: Arc::new(files), problem: String::new(), unread: None }
    }
}

/// What a file is called.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Name, change and size of a file.
type Stamp = (PathBuf, Option<SystemTime>, u64);

/// All rules and channels.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    pub(crate) rules: BTreeMap<RuleKey, Arc<KnownRule>>,
    pub(crate) channels: Vec<NamedChannel>,
    pub(crate) mutes: BTreeMap<RuleKey, Mute>,
}

impl Files {
    /// Reads all `*.toml` of a folder, and of nothing if it is empty.
    ///
    /// # Errors
    /// The file and what is wrong in it.
    pub(crate) fn read(folder: &str) -> Result<Self, String> {
        let mut files = Self::default();
        if folder.is_empty() {
            return Ok(files);
        }
        // Before they are read: what changes meanwhile is read again.
        let listed = stamps(listed(folder)?);
        for (path, ..) in &listed {
            files.add(path).map_err(|problem| format!("{}: {problem}", path.display()))?;
        }
        files.stamps = [listed, stamps(files.secrets.clone())].concat();
        Ok(files)
    }

    /// Reads them again if one of them has changed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_again(&self, folder: &str) -> Result<Option<Self>, String> {
        let has_changed = !folder.is_empty() && self.stamps_in(folder)? != self.stamps;
        if has_changed { Self::read(folder).map(Some) } else { Ok(None) }
    }

    /// How they and the secrets that they name stand now.
    fn stamps_in(&self, folder: &str) -> Result<Vec<Stamp>, String> {
        Ok([stamps(listed(folder)?), stamps(self.secrets.clone())].concat())
    }

    fn add(&mut self, path: &Path) -> Result<(), String> {
        let size = std::fs::metadata(path).map_err(|problem| problem.to_string())?.len();
        if size > MOST_BYTES {
            return Err(format!("{size} bytes are more than {MOST_BYTES}"));
        }
        let text = std::fs::read_to_string(path).map_err(|problem| problem.to_string())?;
        let table: toml::Table = text.parse().map_err(|problem: toml::de::Error| without_line(&text, &problem))?;
        let Ok(Value::Object(file)) = serde_json::to_value(table) else { return Err("it cannot be read".to_owned()) };
        for (section, entries) in file {
            let Value::Object(entries) = entries else { return Err(format!("`{section}` is no section")) };
            for (id, written) in entries {
                let place = format!("{section}.{id}");
                let (true, Value::Object(written)) = (is_id(&id), written) else { return Err(format!("`{place}` is no section")) };
                match section.as_str() {
                    "alerts" => self.add_rule(path, id, written).map_err(|problem| format!("{place}.{problem}"))?,
                    "channels" => self
                        .add_channel(&WrittenFile { path, text: &text }, &id, &written)
                        .map_err(|problem| format!("{place}.{problem}"))?,
                    _ => return Err(format!("unknown section `{section}`: expected alerts or channels")),
                }
            }
        }
        Ok(())
    }

    fn add_rule(&mut self, path: &Path, id: String, mut written: Map<String, Value>) -> Result<(), String> {
        let project_name = match written.remove("project") {
            None => DEFAULT_PROJECT.to_owned(),
            Some(Value::String(name)) => name,
            Some(_) => return Err("project: it must be text".to_owned()),
        };
        let body = RuleBody::read(written)?;
        let rule = body.check().map_err(|problem| problem.to_string())?;
        rule.check_asked(clock::now_ms()).map_err(|problem| problem.message)?;
        let key = RuleKey { project: ProjectId::of_name(&project_name).0, id };
        let known = KnownRule { key: key.clone(), project_name, rule, origin: Origin::File(path.to_owned()) };
        match self.rules.insert(key, Arc::new(known)) {
            Some(_) => Err("it is there twice".to_owned()),
            None => Ok(()),
        }
    }

    /// The channels of a rule that no file says: they must be saved.
    pub(crate) fn missing_channels(&self, known: &KnownRule) -> Vec<String> {
        let project = ProjectId(known.key.project);
        let is_said = |id: &&String| self.channels.iter().any(|channel| channel.id == **id && channel.is_of(project));
        known.rule.body.channels.iter().filter(|id| !is_said(id)).cloned().collect()
    }

    fn add_channel(&mut self, file: &WrittenFile<'_>, id: &str, written: &Map<String, Value>) -> Result<(), String> {
        self.secrets.extend(channel::secret_files(written));
        let opened = NamedChannel::open(id, written, &Trust::Operator)?.written_as(file.text.as_bytes());
        let channel = NamedChannel { file: Some(name_of(file.path)), ..opened };
        if self.channels.iter().any(|known| known.id == channel.id && known.project == channel.project) {
            return Err("it is there twice".to_owned());
        }
        self.channels.push(channel);
        Ok(())
    }
}

/// A file with what it says.
struct WrittenFile<'a> {
    path: &'a Path,
    text: &'a str,
}

/// The `*.toml` of a folder.
fn listed(folder: &str) -> Result<Vec<PathBuf>, String> {
    let listed = std::fs::read_dir(folder).map_err(|problem| format!("alerts.files: `{folder}`: {problem}"))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort_unstable();
    Ok(paths)
}

/// Files with what changes when they do.
fn stamps(paths: Vec<PathBuf>) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, changed, metadata.map_or(0, |metadata| metadata.len()))
    };
    paths.into_iter().map(stamp).collect()
}

/// Where rules and channels are written.
#[derive(Clone, Copy)]
pub(crate) struct CatalogueSource<'a> {
    pub(crate) files: &'a Files,
    pub(crate) store: &'a ClickHouse,
    /// How far those are trusted who save channels over HTTP.
    pub(crate) trust: &'a Trust,
}

impl Catalogue {
    /// What files say and what is saved, of one project or of all. What is known already in the same version is not read again.
    pub(crate) async fn read(from: CatalogueSource<'_>, project: Option<ProjectId>, known: &Self) -> Result<Self, ClickHouseError> {
        let CatalogueSource { files, store, trust } = from;
        let saved = saved::all_of_kinds(store, [RULES, CHANNELS, MUTES, SWITCHED_ON], project).await?;
        Ok(Self::of(files, &saved, trust, known))
    }

    fn of(files: &Files, all: &[(String, ProjectId, Saved)], trust: &Trust, known: &Self) -> Self {
        let mut catalogue = Self { rules: files.rules.clone(), channels: files.channels.clone(), mutes: BTreeMap::new() };
        let channels = known.channels.iter().filter_map(|channel| Some(((channel.project?, channel.id.as_str()), channel)));
        let channels: HashMap<(ProjectId, &str), &NamedChannel> = channels.filter(|(_, channel)| channel.saved.is_some()).collect();
        let mut switched_on = HashMap::new();
        for (kind, project, saved) in all {
            let key = || RuleKey { project: project.0, id: saved.name.clone() };
            match kind.as_str() {
                RULES => catalogue.add_rule(key(), saved, known),
                CHANNELS => catalogue.add_channel(*project, saved, trust, channels.get(&(*project, saved.name.as_str())).copied()),
                SWITCHED_ON => drop(switched_on.insert((project.0, saved.name.clone()), saved.version)),
                _ => drop(catalogue.mutes.insert(key(), serde_json::from_str(&saved.body).unwrap_or_default())),
            }
        }
        for channel in &mut catalogue.channels {
            channel.switched_on = switched_on.get(&channel.key()).copied().unwrap_or_default();
        }
        catalogue
    }

    fn add_rule(&mut self, key: RuleKey, saved: &Saved, known: &Self) {
        let kept = known
            .rules
            .get(&key)
            .filter(|known| matches!(known.origin, Origin::Saved { version, .. } if version == saved.version))
            .cloned();
        if let Some(known) = kept.or_else(|| known_rule(&key, saved).map(Arc::new)) {
            // What a file says comes first.
            self.rules.entry(key).or_insert(known);
        } else if is_news(RULES, ProjectId(key.project), saved) {
            // As another release wrote it.
            let problem = match serde_json::from_str::<SavedRule>(&saved.body) {
                Ok(written) => written.rule.check().err().map(|problem| problem.to_string()).unwrap_or_default(),
                Err(problem) => problem.to_string(),
            };
            tracing::warn!(alert = %saved.name, project = key.project, problem, "a saved alert is left out");
        }
    }

    fn add_channel(&mut self, project: ProjectId, saved: &Saved, trust: &Trust, known: Option<&NamedChannel>) {
        // What a file says comes first, of one project or of all: rules of files are told through it.
        if let Some(file) = self.file_of_channel(project, &saved.name) {
            if is_news(CHANNELS, project, saved) {
                tracing::warn!(channel = %saved.name, project = project.0, file, "a saved channel is passed over: a file says it");
            }
            return;
        }
        if let Some(known) = known.filter(|known| known.saved.as_ref().is_some_and(|known| known.version == saved.version)) {
            return self.channels.push(known.clone());
        }
        let mut written: Map<String, Value> = serde_json::from_str(&saved.body).unwrap_or_default();
        let file = written.remove(FILE).and_then(|file| file.as_str().map(str::to_owned));
        match NamedChannel::open(&saved.name, &written, trust) {
            Ok(channel) => {
                let as_saved = Some(SavedChannel { file, ..SavedChannel::new(saved.version, &written) });
                let channel = channel.written_as(&saved.version.to_le_bytes());
                self.channels.push(NamedChannel { project: Some(project), saved: as_saved, ..channel });
            }
            Err(problem) if is_news(CHANNELS, project, saved) => {
                tracing::warn!(channel = %saved.name, %problem, "a saved channel is left out")
            }
            Err(_) => {}
        }
    }

    /// The file that says a rule.
    pub(crate) fn file_of_rule(&self, key: &RuleKey) -> Option<String> {
        match &self.rules.get(key)?.origin {
            Origin::File(path) => Some(name_of(path)),
            Origin::Saved { .. } => None,
        }
    }

    /// The file that says the channel of this id for a project.
    pub(crate) fn file_of_channel(&self, project: ProjectId, id: &str) -> Option<&str> {
        self.channel(project, id)?.file.as_deref()
    }

    /// The channels of a rule that are not there: nobody is told through them.
    pub(crate) fn missing_channels<'r>(&self, known: &'r KnownRule) -> Vec<&'r str> {
        let is_missing = |id: &&str| self.channel(ProjectId(known.key.project), id).is_none();
        known.rule.body.channels.iter().map(String::as_str).filter(is_missing).collect()
    }

    /// The channel of this id for a project: its own before one of all. Both are of files, or neither is.
    pub(crate) fn channel(&self, project: ProjectId, id: &str) -> Option<&NamedChannel> {
        let mut found = self.channels.iter().filter(|channel| channel.id == id && channel.is_of(project));
        let first = found.next()?;
        if first.project.is_some() { Some(first) } else { found.find(|channel| channel.project.is_some()).or(Some(first)) }
    }
}

/// Whether nobody was told yet that this version of an alert or a channel is left out: they are read every few seconds.
fn is_news(kind: &'static str, project: ProjectId, saved: &Saved) -> bool {
    static TOLD: Mutex<BTreeMap<(&str, u64, String), u64>> = Mutex::new(BTreeMap::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.insert((kind, project.0, saved.name.clone()), saved.version) != Some(saved.version)
}

/// A rule that was saved; none if it is deleted or of another release.
pub(crate) fn known_rule(key: &RuleKey, saved: &Saved) -> Option<KnownRule> {
    let written: SavedRule = serde_json::from_str(&saved.body).ok()?;
    let origin = Origin::Saved { version: saved.version, file: saved.file(), at_ms: written.saved_ms };
    KnownRule::of(key, written, origin)
}

impl KnownRule {
    /// What was written, if it is of this release.
    pub(crate) fn of(key: &RuleKey, written: SavedRule, origin: Origin) -> Option<Self> {
        // As it was saved before less was refused.
        let missed_after = written.rule.missed_after.max(LEAST_MISSED);
        let rule = RuleBody { missed_after, ..written.rule }.check().ok()?;
        Some(Self { key: key.clone(), project_name: written.project, rule, origin })
    }

    /// As channels are told of it.
    pub(crate) fn as_told(&self) -> SavedRule {
        SavedRule { project: self.project_name.clone(), rule: self.rule.body.clone(), saved_ms: 0 }
    }

    /// When it was saved, of one that is saved and says so.
    pub(crate) fn saved_ms(&self) -> Option<i64> {
        match self.origin {
            Origin::Saved { at_ms, .. } => Some(at_ms).filter(|at_ms| *at_ms > 0),
            Origin::File(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
