//! Keys: who may send events for a project, and who may ask about it.
//!
//! Write keys are public and only send; read keys are secret and only ask. The project follows from the key, never from
//! input. The file is read again within seconds of a change, so a fleet that mounts one file agrees soon.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

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
    /// Asks questions: the key, or `sha256:` and its hash in hexadecimal.
    pub read_key: String,
    /// Refuses both keys without forgetting them.
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
    table: Arc<RwLock<Arc<Table>>>,
}

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

impl Keys {
    /// Reads the file; makes it first if it is the data directory's own and there is none.
    pub fn open(config: &KeysConfig, data_dir: &Path) -> Result<Self, KeysError> {
        let path = path(config, data_dir);
        if config.file.is_empty() && !path.exists() {
            write(&path, &[new_entry("default")])?;
        }
        let table = Arc::new(RwLock::new(Arc::new(read(&path).and_then(|entries| table(&path, &entries))?)));
        Ok(Self { path, table })
    }

    /// Reads the file again whenever it changes, until asked to stop. One that cannot be read leaves the keys as they are.
    pub async fn watch(self, stop: CancellationToken) -> Result<(), KeysError> {
        let mut seen = modified(&self.path);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
            let now = modified(&self.path);
            if now == seen {
                continue;
            }
            match read(&self.path).and_then(|entries| table(&self.path, &entries)) {
                Ok(fresh) => {
                    tracing::info!(keys = fresh.len(), "keys read again");
                    if let Ok(mut table) = self.table.write() {
                        *table = Arc::new(fresh);
                    }
                    seen = now;
                }
                Err(problem) => tracing::error!(%problem, "keys stay as they were"),
            }
        }
    }

    /// The grant of the key in a request's headers, if it is of the `wanted` kind.
    pub fn authorize(&self, headers: &HeaderMap, wanted: KeyKind) -> Result<Grant, ApiError> {
        let missing = || match wanted {
            KeyKind::Write => ApiError::new(StatusCode::UNAUTHORIZED, "missing_write_key", "no write key given"),
            KeyKind::Read => ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "no read key given"),
        };
        let key = key_of(headers)?.ok_or_else(missing)?;
        let grant = self.grant(&key).ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "the key is not known"))?;
        if grant.is_disabled {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "key_disabled", "the key is disabled"));
        }
        if grant.kind != wanted {
            let message = match wanted {
                KeyKind::Write => "a read key cannot send events",
                KeyKind::Read => "a write key cannot ask questions",
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

    /// Name of a project, if it has keys.
    pub fn project_name(&self, project: ProjectId) -> Option<Arc<str>> {
        let table = self.table.read().ok().map(|table| Arc::clone(&table))?;
        table.values().find(|grant| grant.project == project).map(|grant| Arc::clone(&grant.name))
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
    KeyEntry { project: project.to_owned(), write_key: key("wk"), read_key: key("rk"), disabled: false }
}

/// The entries of a keys file.
pub fn read(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|problem| fail(problem.to_string()))?;
    serde_json::from_str(&text).map_err(|problem| fail(problem.to_string()))
}

/// Replaces a keys file, for its owner only; never half.
pub fn write(path: &Path, entries: &[KeyEntry]) -> Result<(), KeysError> {
    let draft = path.with_extension("json.new");
    let put = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(serde_json::to_string_pretty(entries)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    put().map_err(|problem| KeysError { path: path.to_owned(), problem: problem.to_string() })
}

fn table(path: &Path, entries: &[KeyEntry]) -> Result<Table, KeysError> {
    let fail = |problem: String| KeysError { path: path.to_owned(), problem };
    let mut table = Table::new();
    for entry in entries {
        let name: Arc<str> = entry.project.as_str().into();
        let project = ProjectId::of_name(&name);
        for (kind, key) in [(KeyKind::Write, &entry.write_key), (KeyKind::Read, &entry.read_key)] {
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

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
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
mod tests {
    use super::*;

    fn keys_of(entries: &[KeyEntry]) -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("keys.json"), entries).unwrap();
        let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
        (dir, keys)
    }

    fn bearer(key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        headers
    }

    #[test]
    fn a_key_opens_what_it_is_for_and_nothing_else() {
        let entry = new_entry("shop");
        let (_dir, keys) = keys_of(std::slice::from_ref(&entry));
        let grant = keys.authorize(&bearer(&entry.write_key), KeyKind::Write).unwrap();
        assert_eq!(grant.project, ProjectId::of_name("shop"));
        assert_eq!(keys.authorize(&bearer(&entry.write_key), KeyKind::Read).unwrap_err().code, "wrong_key_kind");
        assert_eq!(keys.authorize(&bearer("pulse_wk_x"), KeyKind::Write).unwrap_err().code, "invalid_key");
        assert_eq!(keys.authorize(&HeaderMap::new(), KeyKind::Write).unwrap_err().code, "missing_write_key");
    }

    #[test]
    fn a_read_key_may_be_given_as_its_hash() {
        let hex: String = hash("secret").iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = KeyEntry { read_key: format!("sha256:{hex}"), ..new_entry("shop") };
        let (_dir, keys) = keys_of(&[entry]);
        assert_eq!(keys.authorize(&bearer("secret"), KeyKind::Read).unwrap().kind, KeyKind::Read);
    }

    #[test]
    fn basic_and_the_header_of_its_own_are_read_too() {
        let entry = new_entry("shop");
        let (_dir, keys) = keys_of(std::slice::from_ref(&entry));
        let mut headers = HeaderMap::new();
        headers.insert("x-write-key", entry.write_key.parse().unwrap());
        assert!(keys.authorize(&headers, KeyKind::Write).is_ok());
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:", entry.write_key));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Basic {basic}").parse().unwrap());
        assert!(keys.authorize(&headers, KeyKind::Write).is_ok());
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Keys::open(&KeysConfig::default(), dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join("keys.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
