//! Who may send events for a project, and who may ask about it.
//!
//! Owns the keys ([`keys`]: their file, [`watcher`]: its changes) and how a request shows one ([`credential`], [`cookie`]). Write keys are public
//! and only send; read keys are secret and ask; import keys are secret and bring history, which read keys may do too. Promises: the
//! project follows from the key, never from input; an unknown key takes as long to refuse as a nearly right one.

pub mod cookie;
pub mod credential;
pub mod keys;
mod watcher;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio_util::sync::CancellationToken;

use self::keys::{KeysConfig, KeysError, Table};
use self::watcher::FileWatcher;
use crate::event::ids::ProjectId;
use crate::http::respond::ApiError;
use crate::secret::Secret;

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

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Import => "import",
        }
    }

    /// Which keys do what a key of this kind is for.
    fn who(self) -> &'static str {
        match self {
            Self::Write => "only a write key sends events",
            Self::Read => "only a read key asks questions",
            Self::Import => "only an import key or a read key imports",
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
    /// The keys of the project are disabled.
    #[error("the key is disabled")]
    Disabled,
    /// The request shows a cookie and comes from a page of another origin, or does not say where it comes from.
    #[error("a cookie counts only for pages of this origin: send the key as `Authorization: Bearer`")]
    CrossOrigin,
    /// The key is for something else.
    #[error("{}", .0.who())]
    WrongKind(KeyKind),
}

impl AuthError {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing(KeyKind::Write) => "missing_write_key",
            Self::Missing(KeyKind::Read) => "unauthorized",
            Self::Missing(KeyKind::Import) => "missing_import_key",
            Self::Unreadable | Self::Several | Self::Unknown => "invalid_key",
            Self::Disabled => "key_disabled",
            Self::CrossOrigin => "cross_origin",
            Self::WrongKind(_) => "wrong_key_kind",
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let status = match error {
            AuthError::Missing(_) | AuthError::Unreadable | AuthError::Unknown => StatusCode::UNAUTHORIZED,
            AuthError::Several => StatusCode::BAD_REQUEST,
            AuthError::Disabled | AuthError::CrossOrigin | AuthError::WrongKind(_) => StatusCode::FORBIDDEN,
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
}

impl Keys {
    /// Reads the file; makes it first if it is the data directory's own and there is none.
    pub fn open(config: &KeysConfig, data_dir: &Path) -> Result<Self, KeysError> {
        let path = keys::path(config, data_dir);
        if config.file.is_empty() && !path.exists() {
            keys::change(&path, |_| Ok::<_, KeysError>(()))?;
        }
        let file = FileWatcher::new(path.clone());
        Ok(Self { file, table: Arc::new(RwLock::new(Arc::new(keys::read_table(&path)?))) })
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
        if grant.is_disabled {
            return Err(AuthError::Disabled);
        }
        if !grant.kind.opens(wanted) {
            return Err(AuthError::WrongKind(wanted));
        }
        Ok(grant)
    }

    /// Whether any key is of this project.
    pub fn has_project(&self, project: ProjectId) -> bool {
        self.table.read().is_ok_and(|table| table.grants.values().any(|grant| grant.project == project))
    }

    /// A secret of a project that lasts as long as its read key: names made with it tell nobody else what they are made of.
    pub fn secret_of(&self, project: ProjectId) -> Option<Secret> {
        self.table.read().ok()?.secrets.get(&project).cloned()
    }

    fn find(&self, key: &str) -> Option<Grant> {
        // Looked up by hash: how long it takes says nothing about how much of a key was right.
        let table = self.table.read().ok().map(|table| Arc::clone(&table))?;
        table.grants.get(&keys::hash(key)).cloned()
    }
}

#[cfg(test)]
mod tests;
