//! The keys file: one entry a project, written as a whole or not at all.
//!
//! Promises: a file that somebody made readable for others stays so, a new one is for its owner only; two processes that change it
//! at once both succeed, one after the other. May go wrong: two entries contradict each other, and then the file is refused.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::origin::normal_origin;
use super::{Grant, KeyKind};
use crate::event::ids::ProjectId;
use crate::secret::{PLACEHOLDER, Secret};

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
    /// Manages keys: as the read key. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub admin_key: String,
    /// Origins of the pages that may send with the write key: `https://a.example`, `https://*.a.example`. None: any. Servers have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Refuses the keys without forgetting them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The project is a demo's, which may be filled again and taken away whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub demo: bool,
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

/// What each key opens, by the hash of the key.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// What each key opens, by its hash.
    pub(super) grants: HashMap<[u8; 32], Grant>,
    /// The secrets that projects have for names of visitors.
    pub(super) secrets: HashMap<ProjectId, Secret>,
    pub(super) projects: HashMap<ProjectId, ProjectEntry>,
}

/// What the file says of a project, whatever the key.
#[derive(Debug)]
pub(super) struct ProjectEntry {
    pub(super) name: Arc<str>,
    /// Whether all its entries are.
    pub(super) is_disabled: bool,
}

/// Where the keys are.
pub fn path(config: &KeysConfig, data_dir: &Path) -> PathBuf {
    if config.file.is_empty() { data_dir.join("keys.json") } else { PathBuf::from(&config.file) }
}

/// Fresh keys for a project. An admin key is made only for those who ask for one.
pub fn new_entry(project: &str) -> KeyEntry {
    let [write_key, read_key, import_key] = [KeyKind::Write, KeyKind::Read, KeyKind::Import].map(new_secret);
    KeyEntry {
        project: project.to_owned(),
        write_key,
        read_key,
        import_key,
        admin_key: String::new(),
        origins: Vec::new(),
        disabled: false,
        demo: false,
    }
}

/// A fresh key, which says its kind.
pub fn new_secret(kind: KeyKind) -> String {
    let word = match kind {
        KeyKind::Write => "wk",
        KeyKind::Read => "rk",
        KeyKind::Import => "ik",
        KeyKind::Admin => "ak",
    };
    let bytes = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    format!("pulse_{word}_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes[..24]))
}

/// The entries of a keys file.
pub fn read(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|problem| fail(problem.to_string()))?;
    serde_json::from_str(&text).map_err(|problem| fail(problem.to_string()))
}

/// The same, refused where they contradict each other. Takes no lock, as the file is replaced whole: it may be on a volume that takes none.
pub fn read_checked(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let entries = read(path)?;
    table(path, &entries)?;
    Ok(entries)
}

/// What the keys in a file open.
pub(super) fn read_table(path: &Path) -> Result<Table, KeysError> {
    read(path).and_then(|entries| table(path, &entries))
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

/// Changes a keys file; if there is none, one is made that begins with the keys of `default`. Another process that changes it meanwhile
/// waits. Returns what is in it afterwards.
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

/// What the entries open; refused where they contradict each other.
fn table(path: &Path, entries: &[KeyEntry]) -> Result<Table, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let mut table = Table::default();
    let mut names: HashMap<ProjectId, Arc<str>> = HashMap::new();
    for entry in entries {
        let name: Arc<str> = entry.project.as_str().into();
        let project = ProjectId::of_name(&name);
        let known = names.entry(project).or_insert_with(|| Arc::clone(&name));
        if *known != name {
            return Err(fail(format!("projects {known} and {name} have the same id: one of them needs another name")));
        }
        let known = table.projects.entry(project).or_insert_with(|| ProjectEntry { name: Arc::clone(&name), is_disabled: true });
        known.is_disabled &= entry.disabled;
        let origin = |text: &String| {
            normal_origin(text).ok_or_else(|| fail(format!("project {name}: `{text}` is no origin such as https://shop.example")))
        };
        let origins: Arc<[String]> = entry.origins.iter().map(origin).collect::<Result<_, _>>()?;
        let keys = [
            (KeyKind::Write, &entry.write_key),
            (KeyKind::Read, &entry.read_key),
            (KeyKind::Import, &entry.import_key),
            (KeyKind::Admin, &entry.admin_key),
        ];
        for (kind, key) in keys {
            if key.is_empty() {
                continue;
            }
            if key.contains(PLACEHOLDER) {
                return Err(fail(format!(
                    "project {name}: a key says `{PLACEHOLDER}`, as an example does: `pulse keys create` makes real ones"
                )));
            }
            let hash = digest(key).ok_or_else(|| fail(format!("project {name}: a sha256 key needs 64 hexadecimal digits")))?;
            let (key, own) = (short_id(&hash), Arc::clone(&name));
            // Secret keys are for no page at all.
            let origins = if kind == KeyKind::Write { Arc::clone(&origins) } else { Arc::default() };
            let grant = Grant { project, name: own, kind, key, is_disabled: entry.disabled, ends_ms: None, origins, managed: None };
            if table.grants.insert(hash, grant).is_some() {
                return Err(fail(format!("project {name}: a key is used twice")));
            }
        }
    }
    table.secrets = secrets(entries);
    Ok(table)
}

/// The secrets of projects: of the first entry with a read key, whatever else is added, and however the key is written.
fn secrets(entries: &[KeyEntry]) -> HashMap<ProjectId, Secret> {
    let (with_read_key, others): (Vec<&KeyEntry>, Vec<&KeyEntry>) = entries.iter().partition(|entry| !entry.read_key.is_empty());
    let mut secrets = HashMap::new();
    for entry in with_read_key.into_iter().chain(others) {
        let key = [&entry.read_key, &entry.import_key, &entry.write_key].into_iter().find(|key| !key.is_empty());
        let digest = key.and_then(|key| digest(key)).map_or_else(String::new, hex::encode);
        let secret = || Secret::from(hex::encode(hash(&format!("visitors {digest}"))));
        secrets.entry(ProjectId::of_name(&entry.project)).or_insert_with(secret);
    }
    secrets
}

/// The hash of a key that is written as itself or as `sha256:` and its hash; `None` if that is none.
fn digest(key: &str) -> Option<[u8; 32]> {
    key.strip_prefix("sha256:").map_or_else(|| Some(hash(key)), sha256_of)
}

pub(super) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Tells a key from others without saying it: the beginning of its hash.
pub(super) fn short_id(hash: &[u8; 32]) -> u32 {
    hash.first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
}

fn sha256_of(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(hex, &mut hash).ok().map(|()| hash)
}
