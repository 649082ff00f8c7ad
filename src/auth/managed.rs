//! Keys that are made, limited, rotated and revoked while instances run, beside those of the keys file.
//!
//! A key is kept as one document of its project, which holds hashes of its secrets and never a secret. Promises: an instance that cannot
//! read the documents goes on with those it read last, also after a restart (a copy of them is in the data directory); such a key
//! opens nothing once its project has no entry in the keys file, or a disabled one. May go wrong: a document that this version cannot read
//! opens nothing, nor does one that says what this version does not know: it may be a limit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AuthError, KeyKind, keys, origin};
use crate::event::ids::ProjectId;

/// The kind of document that a key is, as the store knows it.
pub const DOCUMENT: &str = "key";
/// The copy in the data directory.
const COPY: &str = "managed-keys.json";

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManagedKey {
    /// What people call it.
    pub name: String,
    /// What it opens.
    pub kind: KeyKind,
    /// Its secrets, the newest last.
    pub secrets: Vec<KeySecret>,
    /// Origins of the pages that may use it: `https://a.example`, `https://*.a.example`. None: any.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Whether a request without an origin, which is of no page, is refused where there are `origins`.
    #[serde(default)]
    pub requires_origin: bool,
    /// Paths that it may be used for; one that ends in `*` stands for all that begin so. None: all that its kind opens.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Events a second that one instance takes with it. None: as many as its project may send.
    #[serde(default)]
    pub rate: Option<u32>,
    /// When it was made, ms.
    pub created_ms: i64,
    /// From when on it opens nothing, ms.
    #[serde(default)]
    pub expires_ms: Option<i64>,
    /// When it was revoked, ms.
    #[serde(default)]
    pub revoked_ms: Option<i64>,
}

/// One secret of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeySecret {
    /// SHA-256 of the secret, hexadecimal.
    pub sha256: String,
    /// When it was made, ms.
    pub created_ms: i64,
    /// From when on it opens nothing, ms: another one has taken its place.
    #[serde(default)]
    pub ends_ms: Option<i64>,
}

impl KeySecret {
    /// What is kept of `secret`.
    pub fn of(secret: &str, created_ms: i64) -> Self {
        Self { sha256: hex::encode(keys::hash(secret)), created_ms, ends_ms: None }
    }

    /// Whether it opens anything at `now_ms`.
    pub fn is_valid(&self, now_ms: i64) -> bool {
        self.ends_ms.is_none_or(|ends_ms| now_ms < ends_ms)
    }
}

impl ManagedKey {
    /// A key as it is kept; none if this version does not know all that the document says.
    pub fn read(document: &str) -> Option<Self> {
        read_whole(document)
    }

    /// Refuses a request that the key is not for, by its path and the origin of its page.
    pub(super) fn admits(&self, path: &str, headers: &HeaderMap) -> Result<(), AuthError> {
        let is_of = |allowed: &String| allowed.strip_suffix('*').map_or(allowed == path, |begin| path.starts_with(begin));
        if !self.paths.is_empty() && !self.paths.iter().any(is_of) {
            return Err(AuthError::ForbiddenPath);
        }
        if origin::admits(&self.origins, self.requires_origin, headers) { Ok(()) } else { Err(AuthError::ForbiddenOrigin) }
    }
}

/// What lets somebody in, as it is kept; none if a later release says more of it than this one knows: it may be a limit.
pub fn read_whole<T: Serialize + DeserializeOwned>(document: &str) -> Option<T> {
    let written: Value = serde_json::from_str(document).ok()?;
    let read = T::deserialize(&written).ok()?;
    says_all(&serde_json::to_value(&read).ok()?, &written).then_some(read)
}

/// Whether what was `read` has all members of what was `written`, but for those that say nothing, as a later release writes of what does
/// without, and for those that say who wrote it (`$by`).
fn says_all(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            let is_beside = |name: &str, value: &Value| name.starts_with('$') || says_nothing(value);
            written.iter().all(|(name, value)| read.get(name).map_or_else(|| is_beside(name, value), |read| says_all(read, value)))
        }
        (Value::Array(read), Value::Array(written)) => read.iter().zip(written).all(|(read, written)| says_all(read, written)),
        _ => true,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A key of a project, found by one of its secrets.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) project: ProjectId,
    pub(super) id: Arc<str>,
    pub(super) key: Arc<ManagedKey>,
    /// From when on the secret opens nothing, ms.
    pub(super) ends_ms: Option<i64>,
}

/// A document: project, id, and JSON.
pub type Document = (u64, String, String);

/// All managed keys, by the hashes of their secrets.
#[derive(Debug, Default)]
pub(super) struct ManagedTable {
    found: HashMap<[u8; 32], Found>,
    documents: Vec<Document>,
    /// Grows with each change made through this instance: what was read before one must not undo it.
    pub(super) changes: u64,
}

impl ManagedTable {
    pub(super) fn of(documents: Vec<Document>, changes: u64) -> Self {
        let mut found = HashMap::new();
        for (project, id, body) in &documents {
            let Some(key) = ManagedKey::read(body) else {
                tracing::warn!(key = id, "a managed key cannot be read and opens nothing");
                continue;
            };
            let (key, id): (_, Arc<str>) = (Arc::new(key), id.as_str().into());
            for secret in &key.secrets {
                let mut hash = [0; 32];
                if hex::decode_to_slice(&secret.sha256, &mut hash).is_ok() {
                    let (id, key) = (Arc::clone(&id), Arc::clone(&key));
                    found.insert(hash, Found { project: ProjectId(*project), id, key, ends_ms: secret.ends_ms });
                }
            }
        }
        Self { found, documents, changes }
    }

    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<&Found> {
        self.found.get(hash)
    }

    pub(super) fn has(&self, documents: &[Document]) -> bool {
        self.documents == documents
    }

    /// The documents with that of a key put in, or taken out.
    pub(super) fn with(&self, project: ProjectId, id: &str, body: Option<String>) -> Vec<Document> {
        let others = self.documents.iter().filter(|(of, other, _)| (*of, other.as_str()) != (project.0, id));
        let mut documents: Vec<Document> = others.cloned().collect();
        documents.extend(body.map(|body| (project.0, id.to_owned(), body)));
        documents.sort();
        documents
    }

    /// Keeps a copy.
    pub(super) fn keep(&self, data_dir: &Path) {
        let (path, draft) = (copy(data_dir), data_dir.join("managed-keys.json.new"));
        let put = || -> std::io::Result<()> {
            std::fs::write(&draft, serde_json::to_string(&self.documents)?)?;
            std::fs::rename(&draft, &path)
        };
        if let Err(problem) = put() {
            tracing::warn!(%problem, path = %path.display(), "no copy of the managed keys: after a restart they are known once the store answers");
        }
    }

    /// The copy that was kept last; none if there is none, or none that can be read.
    pub(super) fn kept(data_dir: &Path) -> Self {
        let path = copy(data_dir);
        let Ok(text) = std::fs::read_to_string(&path) else { return Self::default() };
        let documents = serde_json::from_str(&text).unwrap_or_else(|problem| {
            tracing::warn!(%problem, path = %path.display(), "managed keys are known once the store answers");
            Vec::new()
        });
        Self::of(documents, 0)
    }
}

fn copy(data_dir: &Path) -> PathBuf {
    data_dir.join(COPY)
}

#[cfg(test)]
mod tests {
    use hyper::header;

    use super::*;

    fn key(origins: &[&str], paths: &[&str]) -> ManagedKey {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        ManagedKey {
            name: "web".to_owned(),
            kind: KeyKind::Write,
            secrets: Vec::new(),
            origins: owned(origins),
            requires_origin: false,
            paths: owned(paths),
            rate: None,
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    fn asks(key: &ManagedKey, path: &str, origins: &[&str]) -> Result<(), AuthError> {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        key.admits(path, &headers)
    }

    #[test]
    fn pages_of_the_origins_of_a_key_may_use_it_and_no_others() {
        let limited = key(&["https://good.com", "https://*.shop.example:8443"], &[]);
        for good in
            ["https://good.com", "https://GOOD.com", "https://good.com:443", "https://a.shop.example:8443", "https://a.b.shop.example:8443"]
        {
            assert_eq!(asks(&limited, "/v1/events", &[good]), Ok(()), "{good}");
        }
        let bad = [
            "null",
            "",
            "https://good.com.evil.com",
            "https://evilgood.com",
            "http://good.com",
            "https://good.com:444",
            "https://good.com/",
            "https://shop.example:8443",
            "https://.shop.example:8443",
            "https://evilshop.example:8443",
            "https://a.shop.example",
            "https://user@good.com",
            "https://good.com?x",
            "https://*.shop.example:8443",
            "good.com",
            "https://a.shop.example:8443#.shop.example:8443",
        ];
        for bad in bad {
            assert_eq!(asks(&limited, "/v1/events", &[bad]), Err(AuthError::ForbiddenOrigin), "{bad}");
        }
        assert_eq!(asks(&limited, "/v1/events", &["https://good.com", "https://evil.com"]), Err(AuthError::ForbiddenOrigin));
        assert_eq!(asks(&limited, "/v1/events", &[]), Ok(()), "a server has no origin");
        let pages_only = ManagedKey { requires_origin: true, ..limited };
        assert_eq!(asks(&pages_only, "/v1/events", &[]), Err(AuthError::ForbiddenOrigin));
        assert_eq!(asks(&key(&[], &[]), "/v1/events", &["null"]), Ok(()));
    }

    #[test]
    fn a_key_is_for_its_paths() {
        let limited = key(&[], &["/v1/events", "/i/v0/*"]);
        for (path, admitted) in
            [("/v1/events", true), ("/i/v0/e", true), ("/v1/events/x", false), ("/v1/event", false), ("/v1/import", false)]
        {
            assert_eq!(asks(&limited, path, &[]).is_ok(), admitted, "{path}");
        }
    }

    #[test]
    fn a_key_that_a_later_release_has_limited_opens_nothing_here_and_the_others_do() {
        let web = ManagedKey { secrets: vec![KeySecret::of("secret", 0)], ..key(&[], &[]) };
        let written = |change: &dyn Fn(&mut Value)| {
            let mut body = serde_json::to_value(&web).unwrap();
            change(&mut body);
            body.to_string()
        };
        let opens = |body: String| {
            let other = ManagedKey { secrets: vec![KeySecret::of("other", 0)], ..key(&[], &[]) };
            let other = (7, "k2".to_owned(), serde_json::to_string(&other).unwrap());
            let table = ManagedTable::of(vec![(7, "k1".to_owned(), body), other], 0);
            assert!(table.find(&keys::hash("other")).is_some());
            table.find(&keys::hash("secret")).is_some()
        };
        assert!(opens(written(&|_| {})) && opens(written(&|body| body["$by"] = "ada".into())));
        for nothing in [Value::Null, Value::Bool(false), serde_json::json!([]), serde_json::json!({}), "".into()] {
            assert!(opens(written(&|body| body["networks"] = nothing.clone())), "{nothing}");
        }
        assert!(!opens(written(&|body| body["networks"] = serde_json::json!(["10.0.0.0/8"]))));
        assert!(!opens(written(&|body| body["secrets"][0]["networks"] = serde_json::json!(["10.0.0.0/8"]))));
        assert!(!opens(written(&|body| body["kind"] = "ledger".into())));
    }

    #[test]
    fn what_is_kept_is_known_after_a_restart_and_a_broken_copy_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let web = ManagedKey { secrets: vec![KeySecret::of("secret", 0)], ..key(&[], &[]) };
        let body = serde_json::to_string(&web).unwrap();
        let table = ManagedTable::of(ManagedTable::default().with(ProjectId(7), "k1", Some(body)), 1);
        table.keep(dir.path());
        let kept = ManagedTable::kept(dir.path());
        assert_eq!(*kept.find(&keys::hash("secret")).unwrap().key, web);
        assert!(!std::fs::read_to_string(copy(dir.path())).unwrap().contains("\"secret\""), "hashes alone");
        std::fs::write(copy(dir.path()), "[[7,\"k1\"").unwrap();
        assert!(ManagedTable::kept(dir.path()).find(&keys::hash("secret")).is_none());
        assert!(ManagedTable::of(table.with(ProjectId(7), "k1", None), 2).find(&keys::hash("secret")).is_none());
    }
}
