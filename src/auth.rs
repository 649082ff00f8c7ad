//! Who may send events for a project, and who may ask about it.
//!
//! Owns the keys ([`keys`]: their file, [`watcher`]: its changes, [`managed`]: those that are made while instances run), the pages that may
//! use one ([`origin`]), and how a request shows one ([`credential`], [`cookie`]). Write keys are public and only send; read keys are
//! secret and ask; import keys are secret and bring history, which read keys may do too; admin keys are secret and manage the keys of their
//! project. Promises: the project follows from the key, never from input; an unknown key takes as long to refuse as a nearly right one.

pub mod cookie;
pub mod credential;
pub mod keys;
pub mod managed;
mod misuse;
pub mod origin;
mod watcher;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use self::keys::{KeysConfig, KeysError, Table};
use self::managed::{Document, Found, ManagedKey, ManagedTable};
use self::misuse::Misuse;
use self::watcher::FileWatcher;
use crate::clock;
use crate::event::ids::ProjectId;
use crate::http::respond::ApiError;
use crate::secret::Secret;

/// What a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Sending events.
    Write,
    /// Asking questions.
    Read,
    /// Bringing history.
    Import,
    /// Managing keys.
    Admin,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Import, Self::Admin];

    /// Whether a key of this kind opens what a key of the `wanted` kind is for.
    fn opens(self, wanted: Self) -> bool {
        // Who may read all of a project's events learns nothing by bringing some; a write key stands in every page.
        self == wanted || self == Self::Read && wanted == Self::Import
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Import => "import",
            Self::Admin => "admin",
        }
    }

    /// Which keys do what a key of this kind is for.
    fn who(self) -> &'static str {
        match self {
            Self::Write => "only a write key sends events",
            Self::Read => "only a read key asks questions",
            Self::Import => "only an import key or a read key imports",
            Self::Admin => "only an admin key manages keys",
        }
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
    /// Tells the key from others of its kind: the beginning of its hash.
    pub key: u32,
    is_disabled: bool,
    /// From when on it opens nothing, ms.
    ends_ms: Option<i64>,
    /// Origins of the pages that may use a key of the keys file; none: any.
    origins: Arc<[String]>,
    /// What else is said of a key that is not of the keys file.
    managed: Option<ManagedGrant>,
}

#[derive(Clone, Debug, PartialEq)]
struct ManagedGrant {
    id: Arc<str>,
    key: Arc<ManagedKey>,
}

impl Eq for ManagedGrant {}

impl Grant {
    /// Refuses a request that the key is not for, by its path and the origin of its page.
    ///
    /// # Errors
    /// [`AuthError::ForbiddenPath`], [`AuthError::ForbiddenOrigin`].
    pub fn admits(&self, path: &str, headers: &HeaderMap) -> Result<(), AuthError> {
        match &self.managed {
            Some(managed) => managed.key.admits(path, headers),
            None if origin::admits(&self.origins, false, headers) => Ok(()),
            None => Err(AuthError::ForbiddenOrigin),
        }
    }

    /// Events a second that an instance takes with this key, if the key has a limit of its own.
    pub fn rate(&self) -> Option<u32> {
        self.managed.as_ref()?.key.rate
    }

    /// Whose rate it is: all secrets of a key share one.
    pub fn rate_key(&self) -> u32 {
        self.managed.as_ref().map_or(self.key, |managed| xxh3_64(managed.id.as_bytes()) as u32)
    }

    /// How the key is shown: its kind, and what tells it from others.
    pub fn shown(&self) -> String {
        format!("{} {:08x}", self.kind.as_str(), self.key)
    }

    /// What people call the key: its name, or that it is one of the keys file.
    pub fn key_name(&self) -> &str {
        self.managed.as_ref().map_or("keys file", |managed| &managed.key.name)
    }

    /// Who did something with the key, where nobody says who they are: its name, or, where it has none, as it is shown.
    pub fn signature(&self) -> String {
        self.managed.as_ref().map_or_else(|| self.shown(), |managed| managed.key.name.clone())
    }

    /// The id of a key that is not of the keys file.
    pub fn key_id(&self) -> Option<&str> {
        self.managed.as_ref().map(|managed| &*managed.id)
    }
}

/// Why a key opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request shows no key.
    #[error("no {} key given", .0.as_str())]
    Missing(KeyKind),
    /// The request shows a key in a way that cannot be read.
    #[error("the authorization header cannot be read")]
    Unreadable,
    /// The request shows several keys.
    #[error("more than one authorization header")]
    Several,
    /// No project has this key.
    #[error("the key is not known")]
    Unknown,
    /// The keys of the project are disabled, or the key is revoked or over.
    #[error("the key is disabled")]
    Disabled,
    /// The page that sends the request is of no origin that the key is for.
    #[error("the key is not for pages of this origin")]
    ForbiddenOrigin,
    /// The key is not for this path.
    #[error("the key is not for this path")]
    ForbiddenPath,
    /// The request shows a cookie and comes from a page of another origin, or does not say where it comes from.
    #[error("a cookie counts only for pages of this origin: send the key as `Authorization: Bearer`")]
    CrossOrigin,
    /// The request says for which project it is, and the key is of another one.
    #[error("the key is of another project than `x-pulse-project` says")]
    OtherProject,
    /// The key is for something else.
    #[error("{}", .0.who())]
    WrongKind(KeyKind),
}

impl AuthError {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing(KeyKind::Write) => "missing_write_key",
            Self::Missing(KeyKind::Read | KeyKind::Admin) => "unauthorized",
            Self::Missing(KeyKind::Import) => "missing_import_key",
            Self::Unreadable | Self::Several | Self::Unknown => "invalid_key",
            Self::Disabled => "key_disabled",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::ForbiddenPath => "forbidden_path",
            Self::CrossOrigin => "cross_origin",
            Self::OtherProject => "other_project",
            Self::WrongKind(_) => "wrong_key_kind",
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let status = match error {
            AuthError::Missing(_) | AuthError::Unreadable | AuthError::Unknown => StatusCode::UNAUTHORIZED,
            AuthError::Several => StatusCode::BAD_REQUEST,
            AuthError::OtherProject => StatusCode::PRECONDITION_FAILED,
            AuthError::Disabled
            | AuthError::CrossOrigin
            | AuthError::ForbiddenOrigin
            | AuthError::ForbiddenPath
            | AuthError::WrongKind(_) => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

/// How often the keys file is looked at.
const POLL: Duration = Duration::from_secs(2);

/// The keys in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    file: FileWatcher,
    table: Arc<RwLock<Arc<Table>>>,
    managed: Arc<RwLock<Arc<ManagedTable>>>,
    managed_change: Arc<Mutex<()>>,
    misuse: Arc<Misuse>,
    /// Where a copy of the managed keys is kept.
    data_dir: PathBuf,
}

impl Keys {
    /// Reads the file; makes it first if it is the data directory's own and there is none.
    pub fn open(config: &KeysConfig, data_dir: &Path) -> Result<Self, KeysError> {
        let path = keys::path(config, data_dir);
        if config.file.is_empty() && !path.exists() {
            keys::change(&path, |_| Ok::<_, KeysError>(()))?;
        }
        let file = FileWatcher::new(path.clone());
        let (table, managed) = (keys::read_table(&path)?, ManagedTable::kept(data_dir));
        let (table, managed) = (Arc::new(RwLock::new(Arc::new(table))), Arc::new(RwLock::new(Arc::new(managed))));
        Ok(Self { file, table, managed, managed_change: Arc::default(), misuse: Arc::default(), data_dir: data_dir.to_owned() })
    }

    /// Reads the file again whenever it changes, until asked to stop. One that cannot be read leaves the keys as they are.
    pub async fn watch(mut self, stop: CancellationToken) -> Result<(), KeysError> {
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            self.reload();
        }
        Ok(())
    }

    fn reload(&mut self) {
        if let Some(fresh) = self.file.changed(keys::read_table) {
            tracing::info!(keys = fresh.grants.len(), "keys read again");
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
    }

    /// The grant of the key in a request's headers, if it is of the `wanted` kind.
    pub fn authorize(&self, headers: &HeaderMap, wanted: KeyKind) -> Result<Grant, AuthError> {
        self.grant(credential::in_headers(headers)?.as_deref(), wanted)
    }

    /// The grant of a key, if it is of the `wanted` kind.
    pub fn grant(&self, key: Option<&str>, wanted: KeyKind) -> Result<Grant, AuthError> {
        let grant = self.find(key.ok_or(AuthError::Missing(wanted))?).ok_or(AuthError::Unknown)?;
        if grant.is_disabled || grant.ends_ms.is_some_and(|ends_ms| ends_ms <= clock::now_ms()) {
            return Err(AuthError::Disabled);
        }
        if !grant.kind.opens(wanted) {
            self.misuse.note(&grant, wanted);
            return Err(AuthError::WrongKind(wanted));
        }
        Ok(grant)
    }

    /// Whether a request shows in its headers a key that opens what one of the `wanted` kind is for. Says nothing of one that does not.
    pub fn shows(&self, headers: &HeaderMap, wanted: KeyKind) -> bool {
        let key = credential::in_headers(headers).ok().flatten();
        key.and_then(|key| self.find(&key)).is_some_and(|grant| grant.kind.opens(wanted))
    }

    /// Whether any key is of this project.
    pub fn has_project(&self, project: ProjectId) -> bool {
        self.table().grants.values().any(|grant| grant.project == project)
    }

    /// Whether this project is in the keys file and not disabled.
    pub fn opens_project(&self, project: ProjectId) -> bool {
        self.table().projects.get(&project).is_some_and(|entry| !entry.is_disabled)
    }

    /// A secret of a project that lasts as long as its first read key: names made with it tell nobody else what they are made of.
    pub fn secret_of(&self, project: ProjectId) -> Option<Secret> {
        self.table().secrets.get(&project).cloned()
    }

    fn find(&self, key: &str) -> Option<Grant> {
        // Looked up by hash: how long it takes says nothing about how much of a key was right.
        let hash = keys::hash(key);
        let table = self.table();
        if let Some(grant) = table.grants.get(&hash) {
            return Some(grant.clone());
        }
        let managed = self.managed_table();
        let Found { project, id, key, ends_ms } = managed.find(&hash)?;
        let project_entry = table.projects.get(project)?;
        let ends_ms = [*ends_ms, key.expires_ms].into_iter().flatten().min();
        Some(Grant {
            project: *project,
            name: Arc::clone(&project_entry.name),
            kind: key.kind,
            key: keys::short_id(&hash),
            is_disabled: project_entry.is_disabled || key.revoked_ms.is_some(),
            ends_ms,
            origins: Arc::default(),
            managed: Some(ManagedGrant { id: Arc::clone(id), key: Arc::clone(key) }),
        })
    }

    /// How many changes of managed keys were made through this instance.
    pub fn managed_changes(&self) -> u64 {
        self.managed_table().changes
    }

    /// Takes what was read of all managed keys, unless one was changed through this instance since the number of changes was `changes`.
    pub fn replace_managed(&self, documents: Vec<Document>, changes: u64) {
        let _alone = self.change_managed();
        let known = self.managed_table();
        if known.changes == changes && !known.has(&documents) {
            tracing::info!(keys = documents.len(), "managed keys read again");
            self.set_managed(ManagedTable::of(documents, changes));
        }
    }

    /// Takes the document of a managed key that was just changed through this instance; none if it was deleted.
    pub fn put_managed(&self, project: ProjectId, id: &str, body: Option<String>) {
        let _alone = self.change_managed();
        let known = self.managed_table();
        self.set_managed(ManagedTable::of(known.with(project, id, body), known.changes + 1));
    }

    /// Held from reading them to setting them: of two changes at once none is lost.
    fn change_managed(&self) -> MutexGuard<'_, ()> {
        self.managed_change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn managed_table(&self) -> Arc<ManagedTable> {
        Arc::clone(&self.managed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_managed(&self, table: ManagedTable) {
        table.keep(&self.data_dir);
        *self.managed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

#[cfg(test)]
mod tests;
