//! What people save under a name, whatever it is: versions, conditions, bounds.
//!
//! Promises: of those who write a version at once one wins, and a write whose condition is not met changes nothing. A name that was deleted
//! goes on with its versions. Bounds: what there is of a kind in a project, and how many names ever; reading one costs one row.
//! May go wrong: the store is away (503).

use super::ask::fields;
use super::error::QueryError;
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::event::ids::ProjectId;
use crate::store::tables::saved::{self, By, NameRange, Saved, Shelf, Title};

/// Longest name.
const MOST_NAME: usize = 64;
/// How often a write without a condition is tried again when others write at the same moment.
const TRIES: usize = 5;

/// A kind of thing that is saved.
#[derive(Debug)]
pub(super) struct Kind {
    /// One word.
    pub(super) word: &'static str,
    /// Codes of what is refused: a name or content that is none, one that there is not, too many.
    pub(super) invalid: &'static str,
    pub(super) unknown: &'static str,
    pub(super) too_many: &'static str,
    /// Most of them in a project, and most names that there ever were.
    pub(super) most: u64,
    pub(super) most_names: u64,
}

/// What must be so for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Anything.
    Anything,
    /// There is one of this version.
    Version(u64),
    /// There is one.
    Some,
    /// There is none.
    None,
}

impl Expected {
    /// Whether it is so where there is `version`.
    fn is_met(self, version: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Version(expected) => version == Some(expected),
            Self::Some => version.is_some(),
            Self::None => version.is_none(),
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) name: &'a str,
    /// The content, checked; none deletes it.
    pub(super) body: Option<&'a str>,
    pub(super) expected: Expected,
    /// Whether it is only checked.
    pub(super) is_trial: bool,
    pub(super) by: By<'a>,
    /// Who is written beside it, if somebody is.
    pub(super) writer: Option<&'a str>,
}

impl<'a> Write<'a> {
    /// One that is not only checked.
    pub(super) const fn new(name: &'a str, body: Option<&'a str>, expected: Expected) -> Self {
        Self { name, body, expected, is_trial: false, by: By::Somebody, writer: None }
    }
}

/// All that is saved, of all kinds and projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct SavedThings(Option<ClickHouse>);

impl SavedThings {
    pub(super) fn new(store: Option<ClickHouse>) -> Self {
        Self(store)
    }

    /// Everything on a shelf, what is deleted too.
    pub(super) async fn all(&self, kind: &Kind, project: ProjectId) -> Result<Vec<Saved>, QueryError> {
        answered(saved::all(self.store()?, kind.shelf(project)).await)
    }

    /// Names, versions and titles of what there is.
    pub(super) async fn titles(&self, kind: &Kind, project: ProjectId) -> Result<Vec<Title>, QueryError> {
        answered(saved::titles(self.store()?, kind.shelf(project)).await)
    }

    /// What there is with a name of `range`, in the order of names.
    pub(super) async fn between(&self, kind: &Kind, project: ProjectId, range: NameRange<'_>) -> Result<Vec<Saved>, QueryError> {
        answered(saved::between(self.store()?, kind.shelf(project), range).await)
    }

    /// The one of that name.
    ///
    /// # Errors
    /// 404 with the code of the kind.
    pub(super) async fn get(&self, kind: &Kind, project: ProjectId, name: &str) -> Result<Saved, QueryError> {
        let found = answered(saved::one(self.store()?, kind.shelf(project), name).await)?;
        found.filter(|saved| !saved.body.is_empty()).ok_or_else(|| kind.unknown(name))
    }

    /// Saves one, or deletes it; its version then. On trial nothing is written.
    ///
    /// # Errors
    /// 400 for a name that is none and where there are too many, 404 where there is nothing to delete, 412 `version_mismatch`, `owned_by_file`.
    pub(super) async fn put(&self, kind: &Kind, project: ProjectId, write: Write<'_>) -> Result<u64, QueryError> {
        let Write { name, body, expected, is_trial, by, writer } = write;
        kind.check_name(name)?;
        let (store, shelf) = (self.store()?, kind.shelf(project));
        for _ in 0..TRIES {
            let last = answered(saved::one(store, shelf, name).await)?;
            let live = last.as_ref().filter(|saved| !saved.body.is_empty());
            if !expected.is_met(live.map(|saved| saved.version)) {
                return Err(kind.changed(live));
            }
            if body.is_none() && live.is_none() {
                return Err(kind.unknown(name));
            }
            if live.is_none() {
                let held = answered(saved::held(store, shelf).await)?;
                if held.live >= kind.most || last.is_none() && held.names >= kind.most_names {
                    return Err(kind.too_many());
                }
            }
            let body = by.content(body.unwrap_or_default(), live).map_err(|file| of_file(&file))?;
            let body = match writer {
                Some(writer) => saved::signed(body, writer),
                None => body,
            };
            let version = last.map_or(0, |saved| saved.version) + 1;
            let saved = Saved { name: name.to_owned(), version, body };
            if is_trial || answered(saved::put(store, shelf, &saved).await)? {
                return Ok(version);
            }
        }
        Err(QueryError::unavailable("overloaded", "others write the same at the same moment"))
    }

    /// Takes away the `count` oldest; their contents say when they were written.
    pub(super) async fn drop_oldest(&self, kind: &Kind, project: ProjectId, count: u64) -> Result<(), QueryError> {
        answered(saved::drop_oldest(self.store()?, kind.shelf(project), count).await)
    }

    /// Writes one whose name nobody else can want, without a look at the others.
    pub(super) async fn append(&self, kind: &Kind, project: ProjectId, saved: &Saved) -> Result<(), QueryError> {
        answered(saved::put(self.store()?, kind.shelf(project), saved).await).map(drop)
    }

    fn store(&self) -> Result<&ClickHouse, QueryError> {
        self.0.as_ref().ok_or_else(|| QueryError::unavailable("store_unavailable", "nothing can be saved here"))
    }
}

/// Whether the query of a write says that it is only to be checked: `dry_run=true`.
///
/// # Errors
/// 400 `invalid_parameter`.
pub(crate) fn dry_run(query: &str) -> Result<bool, QueryError> {
    fields::check_once(query, None)?;
    let mut is_trial = false;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        is_trial = match (&*key, &*value) {
            ("dry_run", "true") => true,
            ("dry_run", "false") => false,
            ("dry_run", _) => {
                let message = format!("`dry_run` is `{}`: it is true or false", fields::shortened(&value));
                return Err(QueryError::invalid("invalid_parameter", message));
            }
            _ => {
                let message = format!("unknown parameter `{}`: dry_run is known", fields::shortened(&key));
                return Err(QueryError::invalid("invalid_parameter", message));
            }
        };
    }
    Ok(is_trial)
}

/// What a file says is not changed elsewhere.
pub(crate) fn of_file(file: &str) -> QueryError {
    QueryError::conflict("owned_by_file", format!("the file `{}` says it: change it there", fields::shortened(file)))
}

fn answered<T>(answer: Result<T, ClickHouseError>) -> Result<T, QueryError> {
    answer.map_err(|problem| QueryError::of_store(problem.class()))
}

impl Kind {
    fn shelf(&self, project: ProjectId) -> Shelf {
        Shelf { project, kind: self.word }
    }

    /// Letters, digits, `.`, `_` and `-`: a name stands in paths.
    fn check_name(&self, name: &str) -> Result<(), QueryError> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // Programs that shorten addresses take these for the path above.
        let is_relative = matches!(name, "." | "..");
        if (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(is_part) && !is_relative {
            return Ok(());
        }
        let (word, name) = (self.word, fields::shortened(name));
        let message = format!("the name of a {word} has 1 to {MOST_NAME} letters, digits, `.`, `_` and `-`, and is not `{name}`");
        Err(QueryError::invalid(self.invalid, message))
    }

    pub(super) fn unknown(&self, name: &str) -> QueryError {
        QueryError::not_found(self.unknown, format!("there is no {} `{}`", self.word, fields::shortened(name)))
    }

    pub(super) fn changed(&self, live: Option<&Saved>) -> QueryError {
        let is = live.map_or_else(|| "it does not exist".to_owned(), |saved| format!("its version is {}", saved.version));
        QueryError::conflict("version_mismatch", format!("the {} is not what the request expects: {is}", self.word))
    }

    fn too_many(&self) -> QueryError {
        let Self { word, most, most_names, .. } = self;
        QueryError::invalid(self.too_many, format!("a project has at most {most} of what is called {word}, and {most_names} names ever"))
    }
}
