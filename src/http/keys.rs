//! Keys: who may send events for a project, and who may ask about it.
//!
//! Write keys are public and only send; read keys are secret and ask; import keys are secret and bring history, which read keys may do
//! too. The project follows from the key, never from input. The file is read again within seconds of a change, so a fleet that mounts
//! one file agrees soon. May go wrong: a file that cannot be read leaves the keys as they are, and is told once.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::respond::ApiError;
use crate::event::ids::ProjectId;

/// `[keys]` as written in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// Path of the keys file, for a fleet that mounts one. Empty: `keys.json` in the data directory.
    pub file: String,
}

/// One project's keys, as in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Name of the project.
    pub project: String,
    /// Sends events.
    pub write_key: String,
    /// Asks questions, and imports: the key, or `sha256:` and its hash in hexadecimal.
    pub read_key: String,
    /// Imports history: as the read key. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub import_key: String,
    /// Refuses the keys without forgetting them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// What a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Sending events.
    Write,
    /// Asking questions.
    Read,
    /// Bringing history.
    Import,
}

impl KeyKind {
    /// Whether a key of this kind opens what a key of the `wanted` kind is for.
    fn opens(self, wanted: Self) -> bool {
        // Who may read all of a project's events learns nothing by bringing some; a write key stands in every page.
        self == wanted || self == Self::Read && wanted == Self::Import
    }
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: Arc<str>,
    /// What the key opens.
    pub kind: KeyKind,
    is_disabled: bool,
}

/// Why the keys file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("keys file {path}: {problem}")]
pub struct KeysError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
}

type Table = HashMap<[u8; 32], Grant>;

/// The keys in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    /// Of the file as it was last read.
    seen: Option<Stamp>,
    /// Why it cannot be read since, as told.
    told: Option<String>,
    table: Arc<RwLock<Arc<Table>>>,
}

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

impl Keys {
    /// Reads the file; makes it first if it is the data directory's own and there is none.
    pub fn open(config: &KeysConfig, data_dir: &Path) -> Result<Self, KeysError> {
        let path = path(config, data_dir);
        if config.file.is_empty() && !path.exists() {
            change(&path, |_| Ok::<_, KeysError>(()))?;
        }
        let seen = Stamp::of(&path);
        let table = Arc::new(RwLock::new(Arc::new(read(&path).and_then(|entries| table(&path, &entries))?)));
        Ok(Self { path, seen, told: None, table })
    }

    /// Reads the file again whenever it changes, until asked to stop. One that cannot be read leaves the keys as they are.
    pub async fn watch(mut self, stop: CancellationToken) -> Result<(), KeysError> {
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            self.look_again();
        }
        Ok(())
    }

    fn look_again(&mut self) {
        let now = Stamp::of(&self.path);
        if now == self.seen {
            return;
        }
        match read(&self.path).and_then(|entries| table(&self.path, &entries)) {
            Ok(fresh) => {
                tracing::info!(keys = fresh.len(), "keys read again");
                *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                // As it was before the file was read: what changed meanwhile is another change.
                (self.seen, self.told) = (now, None);
            }
            // Tried again at every look, for the cause may pass without a change of the file, but told once.
            Err(problem) if self.told.as_ref() != Some(&problem.problem) => {
                tracing::error!(%problem, "keys stay as they were");
                self.told = Some(problem.problem);
            }
            Err(_) => {}
        }
    }

    /// The grant of the key in a request's headers, if it is of the `wanted` kind.
    pub fn authorize(&self, headers: &HeaderMap, wanted: KeyKind) -> Result<Grant, ApiError> {
        let missing = || match wanted {
            KeyKind::Write => ApiError::new(StatusCode::UNAUTHORIZED, "missing_write_key", "no write key given"),
            KeyKind::Read => ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "no read key given"),
            KeyKind::Import => ApiError::new(StatusCode::UNAUTHORIZED, "missing_import_key", "no import key given"),
        };
        let key = key_of(headers)?.ok_or_else(missing)?;
        let grant = self.grant(&key).ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "the key is not known"))?;
        if grant.is_disabled {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "key_disabled", "the key is disabled"));
        }
        if !grant.kind.opens(wanted) {
            let message = match wanted {
                KeyKind::Write => "only a write key sends events",
                KeyKind::Read => "only a read key asks questions",
                KeyKind::Import => "only an import key or a read key imports",
            };
            return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_key_kind", message));
        }
        Ok(grant)
    }

    fn grant(&self, key: &str) -> Option<Grant> {
        // Looked up by hash: how long it takes says nothing about how much of a key was right.
        let table = self.table.read().ok().map(|table| Arc::clone(&table))?;
        table.get(&hash(key)).cloned()
    }
}

/// Where the keys are.
pub fn path(config: &KeysConfig, data_dir: &Path) -> PathBuf {
    if config.file.is_empty() { data_dir.join("keys.json") } else { PathBuf::from(&config.file) }
}

/// Fresh keys for a project.
pub fn new_entry(project: &str) -> KeyEntry {
    let key = |kind: &str| {
        let bytes = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        format!("pulse_{kind}_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes[..24]))
    };
    KeyEntry { project: project.to_owned(), write_key: key("wk"), read_key: key("rk"), import_key: key("ik"), disabled: false }
}

/// The entries of a keys file.
pub fn read(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|problem| fail(problem.to_string()))?;
    serde_json::from_str(&text).map_err(|problem| fail(problem.to_string()))
}

/// Replaces a keys file; never half. One that was there keeps its owner and who may read it; a new one is for its owner only.
pub fn write(path: &Path, entries: &[KeyEntry]) -> Result<(), KeysError> {
    // A link stays one: what it points to is replaced.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = target.with_extension("json.new");
    let put = || -> std::io::Result<()> {
        let before = std::fs::metadata(&target).ok();
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        if let Some(before) = before {
            let is_ours = file.metadata().is_ok_and(|ours| (ours.uid(), ours.gid()) == (before.uid(), before.gid()));
            if !is_ours {
                std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o7777))?;
        }
        file.write_all(serde_json::to_string_pretty(entries)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &target)
    };
    put().map_err(|problem| {
        // Better no draft than one that somebody takes for the keys.
        drop(std::fs::remove_file(&draft));
        KeysError { path: path.to_owned(), problem: problem.to_string() }
    })
}

/// Changes a keys file, making it first if there is none; whoever else changes it meanwhile waits. Returns what is in it afterwards.
pub fn change<E: From<KeysError>>(path: &Path, change: impl FnOnce(&mut Vec<KeyEntry>) -> Result<(), E>) -> Result<Vec<KeyEntry>, E> {
    let fail = |problem: std::io::Error| KeysError { path: path.to_owned(), problem: problem.to_string() };
    let lock = path.with_extension("json.lock");
    let lock = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock).map_err(fail)?;
    lock.lock().map_err(fail)?;
    let is_new = !path.exists();
    let mut entries = if is_new { vec![new_entry("default")] } else { read(path)? };
    let before = entries.clone();
    change(&mut entries)?;
    table(path, &entries)?;
    if is_new || entries != before {
        write(path, &entries)?;
    }
    Ok(entries)
}

fn table(path: &Path, entries: &[KeyEntry]) -> Result<Table, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let mut table = Table::new();
    let mut names: HashMap<ProjectId, Arc<str>> = HashMap::new();
    for entry in entries {
        let name: Arc<str> = entry.project.as_str().into();
        let project = ProjectId::of_name(&name);
        let known = names.entry(project).or_insert_with(|| Arc::clone(&name));
        if *known != name {
            return Err(fail(format!("projects {known} and {name} have the same id: one of them needs another name")));
        }
        for (kind, key) in [(KeyKind::Write, &entry.write_key), (KeyKind::Read, &entry.read_key), (KeyKind::Import, &entry.import_key)] {
            if key.is_empty() {
                continue;
            }
            let hash = match key.strip_prefix("sha256:") {
                Some(hex) => from_hex(hex).ok_or_else(|| fail(format!("project {name}: a sha256 key needs 64 hexadecimal digits")))?,
                None => hash(key),
            };
            let grant = Grant { project, name: Arc::clone(&name), kind, is_disabled: entry.disabled };
            if table.insert(hash, grant).is_some() {
                return Err(fail(format!("project {name}: a key is used twice")));
            }
        }
    }
    Ok(table)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// What tells one state of a file from another. A copy may keep the time of its original, and a mounted file is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    file: (u64, u64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size: meta.size(),
            file: (meta.dev(), meta.ino()),
        })
    }
}

/// The key in a request: `Authorization: Bearer`, the user name of `Basic`, or `X-Write-Key`.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let malformed = || ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "the authorization header cannot be read");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let key = headers.get("x-write-key").and_then(|value| value.to_str().ok()).map(str::trim);
        return Ok(key.filter(|key| !key.is_empty()).map(str::to_owned));
    };
    if values.next().is_some() {
        return Err(ApiError::bad_request("invalid_key", "more than one authorization header"));
    }
    let (scheme, rest) = value.to_str().map_err(|_| malformed())?.trim().split_once(' ').ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let user = text.split(':').next().unwrap_or_default();
    if user.is_empty() { Err(malformed()) } else { Ok(Some(user.to_owned())) }
}

#[cfg(test)]
mod tests;
