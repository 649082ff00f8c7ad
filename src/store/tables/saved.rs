//! `saved`: what people save under a name, by project and kind.
//!
//! Promise: a version of a name is written once, by the first caller ([`put`] says whether that was the caller), as long as fewer than a
//! thousand others are written between reading the version before and writing this one. All rows are in the first shard, whose replicas
//! stand in for each other. What a file says ([`By`]) is written for files alone. May go wrong: an insert whose answer is lost may have
//! been done; reading again shows it.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::first_shard::{self, replicas, rows};
use super::{Rebuild, Rows, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Statement, Whole, native};
use crate::event::ids::ProjectId;

/// The table.
pub const SAVED: Table = Table { name: "saved", rows: Rows::Sharded, rebuild: Rebuild::Keep, is_fenced: false };

/// The columns of a block, in order.
const COLUMNS: &str = " (project_id, kind, name, version, writer, body)";

/// What kind of thing is saved, of which project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The project.
    pub project: ProjectId,
    /// The kind: one word.
    pub kind: &'static str,
}

/// The version of something saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// Counted from 1, also over deletions.
    pub version: u64,
    /// JSON; empty if it is deleted.
    pub body: String,
}

impl Saved {
    /// The file that it is of, if it is of one.
    pub fn file(&self) -> Option<String> {
        self.said_under(FILE)
    }

    /// Who wrote this version, if that is known.
    pub fn writer(&self) -> Option<String> {
        self.said_under(WRITER)
    }

    fn said_under(&self, key: &str) -> Option<String> {
        // Not in all of them: they are not read for it.
        let content: Option<Map<String, Value>> = self.body.contains(key).then(|| serde_json::from_str(&self.body).ok()).flatten();
        content?.get(key)?.as_str().map(str::to_owned)
    }
}

/// Where content says which file it is of: no setting is called so.
pub const FILE: &str = "$file";
/// Where it says who wrote it.
const WRITER: &str = "$by";

/// `body`, a JSON object or nothing, with who wrote it.
pub fn signed(body: String, writer: &str) -> String {
    let Ok(Value::Object(mut content)) = serde_json::from_str(&body) else { return body };
    content.insert(WRITER.to_owned(), writer.into());
    Value::Object(content).to_string()
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// Somebody: not what is of a file.
    Somebody,
    /// A file that is applied, or, if this is empty, somebody who says that it is of none from now on.
    File(&'a str),
}

impl By<'_> {
    /// Who writes, where a request says for which file.
    pub fn of(file: Option<&str>) -> By<'_> {
        file.map_or(By::Somebody, By::File)
    }

    /// What is to be saved of `body`, a JSON object or nothing, in the place of `live`.
    ///
    /// # Errors
    /// The file that `live` is of.
    pub fn content(self, body: &str, live: Option<&Saved>) -> Result<String, String> {
        match (self, live.and_then(Saved::file)) {
            (By::Somebody, Some(file)) => Err(file),
            (By::File(file), _) if !file.is_empty() && !body.is_empty() => {
                let Ok(Value::Object(mut content)) = serde_json::from_str(body) else { return Ok(body.to_owned()) };
                content.insert(FILE.to_owned(), file.into());
                Ok(Value::Object(content).to_string())
            }
            _ => Ok(body.to_owned()),
        }
    }
}

/// The last version of everything on a shelf, by name; what is deleted too.
pub async fn all(store: &ClickHouse, shelf: Shelf) -> Result<Vec<Saved>, ClickHouseError> {
    let to = on(store, Statement::of("SELECT name, version, body"), shelf).sql(" ORDER BY name");
    let rows: Vec<(String, Whole<u64>, String)> = rows(store, &to).await?;
    Ok(rows.into_iter().map(|(name, version, body)| Saved { name, version: version.0, body }).collect())
}

/// The last version of one thing; what is deleted too.
pub async fn one(store: &ClickHouse, shelf: Shelf, name: &str) -> Result<Option<Saved>, ClickHouseError> {
    let to = on(store, Statement::of("SELECT name, version, body"), shelf).sql(" AND name = ").string(name);
    let rows: Vec<(String, Whole<u64>, String)> = rows(store, &to).await?;
    Ok(rows.into_iter().next().map(|(name, version, body)| Saved { name, version: version.0, body }))
}

/// Something on a shelf, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// What its content calls `title`; empty without one.
    pub title: String,
    /// The file that it is of; empty without one.
    pub file: String,
    /// Who wrote this version; empty where that is not known.
    pub writer: String,
}

/// What there is on a shelf, by name.
pub async fn titles(store: &ClickHouse, shelf: Shelf) -> Result<Vec<Title>, ClickHouseError> {
    let said = "SELECT name, version, JSONExtractString(body, 'title'), JSONExtractString(body, '$file'), JSONExtractString(body, '$by')";
    let to = on(store, Statement::of(said), shelf).sql(" AND body != '' ORDER BY name");
    let rows: Vec<(String, Whole<u64>, String, String, String)> = rows(store, &to).await?;
    Ok(rows.into_iter().map(|(name, version, title, file, writer)| Title { name, version: version.0, title, file, writer }).collect())
}

/// Names from `after`, which is none of them, to `until`, which is none of them either.
#[derive(Clone, Copy, Debug)]
pub struct NameRange<'a> {
    /// Excluded.
    pub after: &'a str,
    /// Excluded.
    pub until: &'a str,
    /// Most things.
    pub limit: u64,
}

/// What there is on a shelf under some names, in their order.
pub async fn between(store: &ClickHouse, shelf: Shelf, range: NameRange<'_>) -> Result<Vec<Saved>, ClickHouseError> {
    let to = on(store, Statement::of("SELECT name, version, body"), shelf);
    let to = to.sql(" AND name > ").string(range.after).sql(" AND name < ").string(range.until);
    let to = to.sql(" AND body != '' ORDER BY name LIMIT ").uint(range.limit);
    let rows: Vec<(String, Whole<u64>, String)> = rows(store, &to).await?;
    Ok(rows.into_iter().map(|(name, version, body)| Saved { name, version: version.0, body }).collect())
}

/// How much is on a shelf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldThings {
    /// Things that are not deleted.
    pub live: u64,
    /// Names that there ever were.
    pub names: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

/// Counts what is on a shelf.
pub async fn held(store: &ClickHouse, shelf: Shelf) -> Result<HeldThings, ClickHouseError> {
    let to = on(store, Statement::of("SELECT countIf(body != ''), count(), sum(length(body))"), shelf);
    let rows: Vec<(Whole<u64>, Whole<u64>, Whole<u64>)> = rows(store, &to).await?;
    let held = rows.first().map(|(live, names, bytes)| HeldThings { live: live.0, names: names.0, bytes: bytes.0 });
    Ok(held.unwrap_or_default())
}

/// `FROM` the last versions on a shelf.
fn on(store: &ClickHouse, to: Statement, shelf: Shelf) -> Statement {
    let to = to.sql(" FROM ").table(&store.table(SAVED.name())).sql(" FINAL WHERE project_id = ").uint(shelf.project.0);
    to.sql(" AND kind = ").string(shelf.kind)
}

/// The last version of everything of these kinds, of one project and of what is everybody's (project 0), or of all; without what is deleted.
pub async fn all_of_kinds<'k>(
    store: &ClickHouse,
    kinds: impl IntoIterator<Item = &'k str>,
    project: Option<ProjectId>,
) -> Result<Vec<(String, ProjectId, Saved)>, ClickHouseError> {
    type Row = (String, Whole<u64>, String, Whole<u64>, String);
    let to = Statement::of("SELECT kind, project_id, name, version, body FROM ").table(&store.table(SAVED.name()));
    let to = to.sql(" FINAL WHERE kind IN ").strings(kinds);
    let to = match project {
        Some(project) => to.sql(" AND project_id IN (0, ").uint(project.0).sql(")"),
        None => to,
    };
    let to = to.sql(" AND body != '' ORDER BY project_id, name");
    let rows: Vec<Row> = rows(store, &to).await?;
    let saved = |name, version: Whole<u64>, body| Saved { name, version: version.0, body };
    Ok(rows.into_iter().map(|(kind, project, name, version, body)| (kind, ProjectId(project.0), saved(name, version, body))).collect())
}

/// Writes a version that nobody has written yet; whether it is the caller's then.
pub async fn put(store: &ClickHouse, shelf: Shelf, saved: &Saved) -> Result<bool, ClickHouseError> {
    let writer = uuid::Uuid::new_v4().as_u128();
    let name = hex(saved.name.as_bytes());
    let token = format!("{:x}-{}-{name}-{}", shelf.project.0, shelf.kind, saved.version);
    let into = Statement::of("INSERT INTO ").table(&store.table(SAVED.name())).sql(COLUMNS);
    let into = into.sql(" SETTINGS insert_deduplicate = 1, insert_deduplication_token = ").quoted(&token);
    first_shard::insert(store, &into, &encode(shelf, saved, writer), "pulse-saved-").await?;
    let to = Statement::of("SELECT toString(writer) FROM ").table(&store.table(SAVED.name()));
    let to = to.sql(" WHERE project_id = ").uint(shelf.project.0).sql(" AND kind = ").string(shelf.kind);
    let to = to.sql(" AND name = ").string(&saved.name).sql(" AND version = ").uint(saved.version);
    let rows: Vec<(String,)> = rows(store, &to).await?;
    Ok(rows.iter().any(|(by,)| by.parse() == Ok(writer)))
}

/// Takes away the `count` things of a shelf that are oldest by the `at` of their contents, names and all. Of a thousand that were written last
/// none may be among them: their names could not be written again.
pub async fn drop_oldest(store: &ClickHouse, shelf: Shelf, count: u64) -> Result<(), ClickHouseError> {
    let to = on(store, Statement::of("SELECT name"), shelf).sql(" ORDER BY JSONExtractUInt(body, 'at'), name LIMIT ").uint(count);
    let oldest: Vec<(String,)> = rows(store, &to).await?;
    if oldest.is_empty() {
        return Ok(());
    }
    let to = Statement::of("ALTER TABLE ").table(&store.table(SAVED.name())).sql(" DELETE WHERE project_id = ").digits(shelf.project.0);
    let to = to.sql(" AND kind = ").quoted(shelf.kind).sql(" AND name IN (''");
    let to = oldest.iter().fold(to, |to, (name,)| to.sql(", ").quoted(name));
    // Who is told that it is done finds it done.
    let to = to.sql(") SETTINGS mutations_sync = 1");
    let mut ended = Ok(());
    for replica in replicas(store) {
        ended = replica.migrator.execute(&to).await;
        if ended.is_ok() {
            break;
        }
    }
    ended
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(shelf: Shelf, saved: &Saved, writer: u128) -> Bytes {
    let mut out = Vec::new();
    native::begin_block(&mut out, 6, 1);
    let number = |out: &mut Vec<u8>, name: &str, number: u64| native::put_values([number.to_le_bytes()].into_iter(), name, "UInt64", out);
    let text = |out: &mut Vec<u8>, name: &str, text: &str| native::put_strings([text.as_bytes()].into_iter(), name, out);
    number(&mut out, "project_id", shelf.project.0);
    native::put_dictionary([shelf.kind.as_bytes()].into_iter(), "kind", &mut out);
    text(&mut out, "name", &saved.name);
    number(&mut out, "version", saved.version);
    native::put_values([writer.to_le_bytes()].into_iter(), "writer", "UInt128", &mut out);
    text(&mut out, "body", &saved.body);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_a_file_is_written_for_files_alone() {
        let saved = |body: String| Saved { name: "a".to_owned(), version: 1, body };
        let own = saved(By::Somebody.content(r#"{"title":"a"}"#, None).unwrap());
        assert_eq!((own.body.as_str(), own.file()), (r#"{"title":"a"}"#, None));
        let of_file = saved(By::File("b.toml").content(r#"{"title":"b"}"#, Some(&own)).unwrap());
        assert_eq!(of_file.file().as_deref(), Some("b.toml"));
        for body in ["{}", ""] {
            assert_eq!(By::Somebody.content(body, Some(&of_file)), Err("b.toml".to_owned()));
        }
        assert_eq!(By::File("c.toml").content("", Some(&of_file)), Ok(String::new()));
        assert_eq!(saved(By::File("c.toml").content("{}", Some(&of_file)).unwrap()).file().as_deref(), Some("c.toml"));
        assert_eq!(saved(By::File("").content("{}", Some(&of_file)).unwrap()).file(), None);
    }
}
