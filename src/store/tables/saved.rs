//! `saved`: what people save under a name, by project and kind.
//!
//! Promise: a version of a name is written once, by whoever comes first ([`put`] says whether that was the caller), as long as fewer than
//! a thousand others are written between reading the version before and writing this one. All rows are in the first shard, whose replicas
//! stand in for each other. May go wrong: an insert whose answer is lost may have been done; reading again shows it.

use bytes::Bytes;

use super::{Rebuild, Rows, Table};
use crate::clickhouse::native::{self, Column, DictionaryColumn, FixedColumn, StringColumn};
use crate::clickhouse::{ClickHouse, ClickHouseError, Shard, Statement, Whole};
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

/// The last version of everything on a shelf, by name; what is deleted too.
pub async fn all(store: &ClickHouse, shelf: Shelf) -> Result<Vec<Saved>, ClickHouseError> {
    let to = Statement::of("SELECT name, version, body FROM ").table(&store.table(SAVED.name()));
    let to = to.sql(" FINAL WHERE project_id = ").uint(shelf.project.0).sql(" AND kind = ").string(shelf.kind).sql(" ORDER BY name");
    let rows: Vec<(String, Whole<u64>, String)> = rows(store, &to).await?;
    Ok(rows.into_iter().map(|(name, version, body)| Saved { name, version: version.0, body }).collect())
}

/// Writes a version that nobody has written yet; whether it is the caller's then.
pub async fn put(store: &ClickHouse, shelf: Shelf, saved: &Saved) -> Result<bool, ClickHouseError> {
    let writer = uuid::Uuid::new_v4().as_u128();
    let name = hex(saved.name.as_bytes());
    let token = format!("{:x}-{}-{name}-{}", shelf.project.0, shelf.kind, saved.version);
    let into = Statement::of("INSERT INTO ").table(&store.table(SAVED.name())).sql(COLUMNS);
    let into = into.sql(" SETTINGS insert_deduplicate = 1, insert_deduplication_token = ").quoted(&token);
    let block = encode(shelf, saved, writer);
    let mut ended = Ok(());
    for replica in replicas(store) {
        ended = replica.writer.insert(&into, [block.clone()], &format!("pulse-saved-{}", uuid::Uuid::new_v4())).await;
        if ended.is_ok() {
            break;
        }
    }
    ended?;
    let to = Statement::of("SELECT toString(writer) FROM ").table(&store.table(SAVED.name()));
    let to = to.sql(" WHERE project_id = ").uint(shelf.project.0).sql(" AND kind = ").string(shelf.kind);
    let to = to.sql(" AND name = ").string(&saved.name).sql(" AND version = ").uint(saved.version);
    let rows: Vec<(String,)> = rows(store, &to).await?;
    Ok(rows.iter().any(|(by,)| by.parse() == Ok(writer)))
}

fn replicas(store: &ClickHouse) -> impl Iterator<Item = &crate::clickhouse::Node> {
    store.shards.iter().take(1).flat_map(Shard::replicas)
}

/// Rows of the first shard, of whichever replica answers.
async fn rows<T: serde::de::DeserializeOwned>(store: &ClickHouse, statement: &Statement) -> Result<Vec<T>, ClickHouseError> {
    let mut answer = Ok(Vec::new());
    for replica in replicas(store) {
        answer = replica.writer.rows(statement).await;
        if answer.is_ok() {
            break;
        }
    }
    answer
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(shelf: Shelf, saved: &Saved, writer: u128) -> Bytes {
    let mut out = Vec::new();
    native::begin_block(&mut out, 6, 1);
    number("project_id", "UInt64", shelf.project.0.to_le_bytes(), &mut out);
    let mut kind = DictionaryColumn::default();
    kind.push(shelf.kind.as_bytes());
    DictionaryColumn::put(std::iter::once(&kind), "kind", &mut out);
    text("name", &saved.name, &mut out);
    number("version", "UInt64", saved.version.to_le_bytes(), &mut out);
    number("writer", "UInt128", writer.to_le_bytes(), &mut out);
    text("body", &saved.body, &mut out);
    out.into()
}

fn number<const W: usize>(name: &str, type_name: &'static str, value: [u8; W], out: &mut Vec<u8>) {
    let mut column = FixedColumn::new(type_name);
    column.push(value);
    FixedColumn::put(std::iter::once(&column), name, out);
}

fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    let mut column = StringColumn::default();
    column.push(value.as_bytes());
    StringColumn::put(std::iter::once(&column), name, out);
}
