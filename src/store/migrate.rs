//! Migrations: forward only, one runner.
//!
//! Every statement can be repeated without harm, and a file is noted as applied only after its last one: a runner killed
//! anywhere is simply run again, and two at once do the same work twice to the same effect. That, and not a lock that plain
//! ClickHouse cannot give, is what makes it safe; a file that changed after it was applied is refused. Where a table is gone, the
//! notes of what made and changed it are withdrawn before it is made anew, so that a run which is cut in between does not take the
//! changes for done.
//!
//! In a cluster every node is brought up to date by itself and keeps its own notes, so a node that was away is made good by the
//! next run, whatever the others have. When all have their own tables, each gets the Distributed tables that queries read. The
//! servers' own `ON CLUSTER` queue promises less: it forgets, and fails halfway without saying where. A node that does not answer
//! keeps nobody from the others: it is named in what is returned, and the caller decides whether that is a failure.

mod files;

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use self::files::{MIGRATIONS, Migration, Placeholders, to_apply};
use super::sql_views;
use super::swap;
use super::tables::{NOTES, Rows, TABLES, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, ErrorClass, Fleet, Format, Identifier, Node, Statement, TableName, Whole};
use crate::failpoint;

/// How long a node may take to say that it is there.
const PRESENCE_LIMIT: Duration = Duration::from_secs(4);

/// Checksum of a note that is withdrawn.
const WITHDRAWN: u64 = 0;
/// Under this name a node notes the Distributed tables it has.
const DISTRIBUTED: &str = "distributed tables";

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A statement failed.
    #[error("migration {place}: {source}")]
    Statement {
        /// The file, and the node if there are several.
        place: String,
        /// What ClickHouse said.
        source: ClickHouseError,
    },
    /// A file differs from what was applied under its name.
    #[error("migration {0} was applied with another content: migrations are never edited, add a new one")]
    Changed(String),
    /// The database has migrations this release does not know.
    #[error("the database has migration {0}, which this release does not know: it was written by a newer pulse")]
    Newer(String),
}

/// State of one migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The file.
    pub name: String,
    /// Whether it is applied, on every node that answered.
    pub applied: bool,
    /// Nodes of a cluster where it is not.
    pub behind: Vec<String>,
}

/// What is so on the nodes that answered, and what kept the others from it.
#[derive(Debug)]
pub struct OfNodes<T> {
    /// What was done or found.
    pub found: T,
    /// For each node that did not answer, where that was noticed.
    pub away: Vec<MigrateError>,
}

impl MigrateError {
    /// Whether the server did not answer at all.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if !source.is_answer())
    }
}

/// Brings the schema up to date on every node and returns the names of what was applied now, wherever that was. Errors: a
/// statement failed, or no node answered.
pub async fn run(store: &ClickHouse) -> Result<OfNodes<Vec<&'static str>>, MigrateError> {
    let (there, away) = presence(store).await;
    let mut of = OfNodes { found: Vec::new(), away };
    let mut present = Vec::new();
    for runner in there {
        match runner.run(&mut of.found).await {
            Err(problem) if problem.is_away() => of.away.push(problem),
            ended => present.push(ended.map(|()| runner)?),
        }
    }
    // Only now: a Distributed table shows what all nodes have.
    if let Some(fleet) = &store.fleet {
        for runner in &present {
            runner.distribute(fleet, &mut of.found).await?;
        }
    }
    if !present.is_empty() {
        sql_views::create(store).await.map_err(|source| MigrateError::Statement { place: "views for SQL".to_owned(), source })?;
    }
    if of.away.is_empty() {
        reopen(store).await.map_err(|source| MigrateError::Statement { place: "swap".to_owned(), source })?;
    }
    some_answered(of, present.len())
}

/// Lets loaders in again where a swap was cut behind its last exchange.
async fn reopen(store: &ClickHouse) -> Result<(), ClickHouseError> {
    let Some(name) = swap::begun(store).await? else { return Ok(()) };
    let advice = "run `pulse replay --to-table … --swap` with this table again";
    if swap::reopen(store, &name).await? {
        tracing::warn!(table = %name, "a swap was cut: rows that were stored during it may be missing; {advice}");
    } else {
        tracing::error!(table = %name, "a swap was cut before every server had exchanged its tables: nothing loads; {advice}");
    }
    Ok(())
}

/// The nodes that answer, all asked at once, and what kept the others from it: a host that is dead without a word is not waited for as
/// long as a statement may take.
async fn presence(store: &ClickHouse) -> (Vec<Runner<'_>>, Vec<MigrateError>) {
    let ask = |node| async move {
        let (runner, statement) = (Runner { store, node }, Statement::of("SELECT 1"));
        let asked = async {
            failpoint::point("migrate.asked");
            node.migrator.query(&statement, Format::Json).await
        };
        match tokio::time::timeout(PRESENCE_LIMIT, asked).await {
            Err(_) => Err(runner.refused("presence", ClickHouseError::TimedOut(PRESENCE_LIMIT))),
            Ok(Err(problem)) if !problem.is_answer() => Err(runner.refused("presence", problem)),
            Ok(_) => Ok(runner),
        }
    };
    let (mut there, mut away) = (Vec::new(), Vec::new());
    for answer in join_all(store.nodes().map(ask)).await {
        match answer {
            Ok(runner) => there.push(runner),
            Err(problem) => away.push(problem),
        }
    }
    (there, away)
}

fn some_answered<T>(mut of: OfNodes<T>, present: usize) -> Result<OfNodes<T>, MigrateError> {
    match of.away.pop() {
        Some(problem) if present == 0 => Err(problem),
        last => {
            of.away.extend(last);
            Ok(of)
        }
    }
}

/// Which migrations are applied. A database that is not there has none. Errors: no node answered, or one refused.
pub async fn status(store: &ClickHouse) -> Result<OfNodes<Vec<Status>>, MigrateError> {
    let mut names: Vec<(&'static str, Option<u64>)> = MIGRATIONS.iter().map(|migration| (migration.name, None)).collect();
    names.extend(store.fleet.iter().map(|fleet| (DISTRIBUTED, Some(checksum_of(&distributed(fleet, store))))));
    let statuses = names.iter().map(|(name, _)| Status { name: (*name).to_owned(), applied: true, behind: Vec::new() }).collect();
    let (there, away) = presence(store).await;
    let mut of = OfNodes::<Vec<Status>> { found: statuses, away };
    let mut present = 0;
    for runner in there {
        let (node, noted) = (runner.node, runner.noted().await);
        let noted = match noted {
            // Nothing was ever applied.
            Err(MigrateError::Statement { source, .. }) if source.class() == ErrorClass::Missing => Vec::new(),
            Err(problem) if problem.is_away() => {
                of.away.push(problem);
                continue;
            }
            other => other?,
        };
        present += 1;
        for ((name, expected), status) in names.iter().zip(&mut of.found) {
            let is_there = noted.iter().any(|(known, sum)| known == name && expected.is_none_or(|expected| expected == *sum));
            status.applied &= is_there;
            status.behind.extend((!is_there && !node.name.is_empty()).then(|| node.name.clone()));
        }
    }
    some_answered(of, present)
}

/// Brings one node up to date.
struct Runner<'a> {
    store: &'a ClickHouse,
    node: &'a Node,
}

/// What a node has noted: names and checksums.
type Notes = Vec<(String, u64)>;

impl Runner<'_> {
    async fn run(&self, done: &mut Vec<&'static str>) -> Result<(), MigrateError> {
        let database = &self.store.database;
        self.execute(&NOTES, &Statement::of("CREATE DATABASE IF NOT EXISTS ").name(database)).await?;
        let notes = Statement::of("CREATE TABLE IF NOT EXISTS ").table(&self.notes_table());
        let notes =
            notes.sql(" (name String, checksum UInt64, applied_at DateTime DEFAULT now()) ENGINE = ReplacingMergeTree ORDER BY name");
        self.execute(&NOTES, &notes).await?;
        let (notes, tables) = (self.notes().await?, self.tables().await?);
        let noted = standing(&notes, &tables, self.store);
        let is_known = |name: &str| name == DISTRIBUTED || MIGRATIONS.iter().any(|migration| migration.name == name);
        if let Some((newer, _)) = noted.iter().find(|(name, _)| !is_known(name)) {
            return Err(MigrateError::Newer(self.place(newer)));
        }
        if let Some(changed) = MIGRATIONS.iter().find(|migration| is_changed(migration, &noted)) {
            return Err(MigrateError::Changed(self.place(changed.name)));
        }
        let applied: Vec<&str> = noted.iter().map(|(name, _)| name.as_str()).collect();
        let open = to_apply(MIGRATIONS, &applied);
        self.withdraw(open.iter().map(|migration| migration.name).filter(|name| notes.iter().any(|(noted, _)| noted == name))).await?;
        for migration in open {
            let statements = migration.statements(&placeholders(self.store)).into_iter().map(Statement::raw).collect::<Vec<_>>();
            self.apply(migration.name, &statements, migration.checksum()).await?;
            note(done, migration.name);
        }
        Ok(())
    }

    /// Makes the Distributed tables, anew if any of the tables below them or the cluster's name has changed.
    async fn distribute(&self, fleet: &Fleet, done: &mut Vec<&'static str>) -> Result<(), MigrateError> {
        let statements = distributed(fleet, self.store);
        let checksum = checksum_of(&statements);
        if self.noted().await?.iter().any(|(name, noted)| name == DISTRIBUTED && *noted == checksum) {
            return Ok(());
        }
        self.apply(DISTRIBUTED, &statements, checksum).await?;
        note(done, DISTRIBUTED);
        Ok(())
    }

    /// Runs the statements, then notes that they have run.
    async fn apply(&self, name: &str, statements: &[Statement], checksum: u64) -> Result<(), MigrateError> {
        for statement in statements {
            self.execute(name, statement).await?;
            failpoint::point("migrate.executed");
        }
        self.execute(name, &self.note([(name, checksum)])).await
    }

    /// Takes notes back, all in one statement.
    async fn withdraw(&self, names: impl Iterator<Item = &'static str>) -> Result<(), MigrateError> {
        let names: Vec<(&str, u64)> = names.map(|name| (name, WITHDRAWN)).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.execute(&NOTES, &self.note(names)).await?;
        failpoint::point("migrate.executed");
        Ok(())
    }

    fn note<'n>(&self, notes: impl IntoIterator<Item = (&'n str, u64)>) -> Statement {
        let to = Statement::of("INSERT INTO ").table(&self.notes_table()).sql(" (name, checksum) VALUES ");
        notes.into_iter().enumerate().fold(to, |to, (at, (name, checksum))| {
            to.sql(if at > 0 { ", (" } else { "(" }).quoted(name).sql(", ").digits(checksum).sql(")")
        })
    }

    async fn execute(&self, name: &str, statement: &Statement) -> Result<(), MigrateError> {
        self.node.migrator.execute(statement).await.map_err(|source| self.refused(name, source))
    }

    fn notes_table(&self) -> TableName {
        self.store.table(NOTES)
    }

    async fn notes(&self) -> Result<Notes, MigrateError> {
        let to = Statement::of("SELECT name, checksum FROM ").table(&self.notes_table()).sql(" FINAL ORDER BY name");
        let notes: Vec<(String, Whole<u64>)> = self.rows(&to).await?;
        Ok(notes.into_iter().map(|(name, checksum)| (name, checksum.0)).collect())
    }

    /// The tables that the node has, with their databases.
    async fn tables(&self) -> Result<Vec<String>, MigrateError> {
        let to = Statement::of("SELECT concat(database, '.', name) FROM system.tables WHERE database IN ");
        let tables: Vec<(String,)> = self.rows(&to.strings([&*self.store.database, &*Fleet::read_database(&self.store.database)])).await?;
        Ok(tables.into_iter().map(|(table,)| table).collect())
    }

    /// What the node has noted and still has.
    async fn noted(&self) -> Result<Notes, MigrateError> {
        Ok(standing(&self.notes().await?, &self.tables().await?, self.store))
    }

    async fn rows<T: serde::de::DeserializeOwned>(&self, statement: &Statement) -> Result<Vec<T>, MigrateError> {
        self.node.migrator.rows(statement).await.map_err(|source| self.refused(&NOTES, source))
    }

    fn refused(&self, name: &str, source: ClickHouseError) -> MigrateError {
        MigrateError::Statement { place: self.place(name), source }
    }

    /// Where something is, for people.
    fn place(&self, name: &str) -> String {
        if self.node.name.is_empty() { name.to_owned() } else { format!("{name} on {}", self.node.name) }
    }
}

/// The notes that count: not withdrawn, and with all tables that were made or changed.
fn standing(notes: &[(String, u64)], tables: &[String], store: &ClickHouse) -> Notes {
    let is_there = |table: &TableName| tables.contains(&table.to_string());
    let stands = |(name, checksum): &&(String, u64)| *checksum != WITHDRAWN && tables_of(name, store).iter().all(is_there);
    notes.iter().filter(stands).cloned().collect()
}

/// Whether a migration was applied with another content.
fn is_changed(migration: &Migration, noted: &[(String, u64)]) -> bool {
    noted.iter().any(|(name, checksum)| name == migration.name && *checksum != migration.checksum())
}

fn note(done: &mut Vec<&'static str>, name: &'static str) {
    if !done.contains(&name) {
        done.push(name);
    }
}

fn placeholders(store: &ClickHouse) -> Placeholders<'_> {
    Placeholders { database: &store.database, replica_path: store.fleet.as_ref().and_then(|fleet| fleet.replica_path.as_deref()) }
}

/// Makes the tables of a rebuild `name` on every node: everything that migrations did to those of which they take the place, changes
/// included. Does nothing where they are.
pub async fn create_beside(store: &ClickHouse, name: &Identifier) -> Result<(), ClickHouseError> {
    let with = placeholders(store);
    let statements: Vec<Statement> =
        files::beside(MIGRATIONS, name).iter().map(|statement| Statement::raw(files::filled(statement, &with))).collect();
    for node in store.nodes() {
        for statement in &statements {
            node.migrator.execute(statement).await?;
        }
    }
    Ok(())
}

fn sharded() -> impl Iterator<Item = &'static Table> {
    TABLES.into_iter().filter(|table| table.rows == Rows::Sharded)
}

/// The tables that what is noted under `name` has made or changed.
fn tables_of(name: &str, store: &ClickHouse) -> Vec<TableName> {
    if name == DISTRIBUTED {
        let all = Fleet::read_database(&store.database);
        return sharded().map(|table| TableName::new(&all, table.name())).collect();
    }
    let targets = MIGRATIONS.iter().filter(|migration| migration.name == name).flat_map(Migration::targets);
    targets.map(|table| store.table(Identifier::known(table))).collect()
}

/// The tables of the whole cluster, under the names that each node's own tables have.
fn distributed(fleet: &Fleet, store: &ClickHouse) -> Vec<Statement> {
    let all = Fleet::read_database(&store.database);
    let table = |table: &Table| {
        let to = Statement::of("CREATE OR REPLACE TABLE ").table(&TableName::new(&all, table.name())).sql(" AS ");
        let to = to.table(&store.table(table.name())).sql(" ENGINE = Distributed(").quoted(&fleet.cluster);
        to.sql(", ").quoted(&store.database).sql(", ").quoted(table.name).sql(")")
    };
    std::iter::once(Statement::of("CREATE DATABASE IF NOT EXISTS ").name(&all)).chain(sharded().map(table)).collect()
}

/// Of the statements and of every file: their columns are those of the tables below.
fn checksum_of(statements: &[Statement]) -> u64 {
    let texts = statements.iter().map(Statement::text).chain(MIGRATIONS.iter().map(|migration| migration.text));
    xxh3_64(texts.collect::<Vec<_>>().join("\n").as_bytes())
}

#[cfg(test)]
mod tests;
