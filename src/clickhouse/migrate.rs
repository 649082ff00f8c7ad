//! Migrations: forward only, one runner.
//!
//! Every statement can be repeated without harm, and a file is noted as applied only after its last one: a runner killed
//! anywhere is simply run again, and two at once do the same work twice to the same effect. That, and not a lock that plain
//! ClickHouse cannot give, is what makes it safe; a file that changed after it was applied is refused.
//!
//! In a cluster every node is brought up to date by itself and keeps its own notes, so a node that was away is made good by the
//! next run, whatever the others have. When all have their own tables, each gets the Distributed tables that queries read. The
//! servers' own `ON CLUSTER` queue promises less: it forgets, and fails halfway without saying where. A node that does not answer
//! keeps nobody from the others: it is named in what is returned, and the caller decides whether that is a failure.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{ClickHouse, ClickHouseError, Fleet, Format, Node, Statement, swap};
use crate::failpoint;

/// One file of `migrations/`.
struct Migration {
    name: &'static str,
    text: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_fence.sql", text: include_str!("../../migrations/0001_fence.sql") },
    Migration { name: "0002_events.sql", text: include_str!("../../migrations/0002_events.sql") },
    Migration { name: "0003_dead_letters.sql", text: include_str!("../../migrations/0003_dead_letters.sql") },
];

/// How long a node may take to say that it is there.
const PRESENCE_LIMIT: Duration = Duration::from_secs(4);

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
        matches!(self, Self::Statement { source, .. } if !matches!(source, ClickHouseError::Server { .. }))
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
    if of.away.is_empty() {
        reopen(store).await.map_err(|source| MigrateError::Statement { place: "swap".to_owned(), source })?;
    }
    some_answered(of, present.len())
}

/// Lets loaders in again where a swap was cut behind its last exchange.
async fn reopen(store: &ClickHouse) -> Result<(), ClickHouseError> {
    let Some(name) = swap::begun(store).await? else { return Ok(()) };
    let advice = "run `pulse replay --to-table … --swap` with this table again";
    match swap::reopen(store, &name).await? {
        true => tracing::warn!(table = name, "a swap was cut: rows that were stored during it may be missing; {advice}"),
        false => tracing::error!(table = name, "a swap was cut before every server had exchanged its tables: nothing loads; {advice}"),
    }
    Ok(())
}

/// The nodes that answer, all asked at once, and what kept the others from it: a host that is dead without a word is not waited for as
/// long as a statement may take.
async fn presence(store: &ClickHouse) -> (Vec<Runner<'_>>, Vec<MigrateError>) {
    let ask = |node| async move {
        let (runner, statement) = (Runner { store, node }, Statement::of("SELECT 1"));
        let asked = node.migrator.query(&statement, Format::Json);
        match tokio::time::timeout(PRESENCE_LIMIT, asked).await {
            Err(_) => Err(runner.refused("presence", ClickHouseError::TimedOut(PRESENCE_LIMIT))),
            Ok(Err(problem)) if !matches!(problem, ClickHouseError::Server { .. }) => Err(runner.refused("presence", problem)),
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
    names.extend(store.fleet.iter().map(|fleet| (DISTRIBUTED, Some(checksum_of(&distributed(fleet, &store.database))))));
    let statuses = names.iter().map(|(name, _)| Status { name: (*name).to_owned(), applied: true, behind: Vec::new() }).collect();
    let (there, away) = presence(store).await;
    let mut of = OfNodes::<Vec<Status>> { found: statuses, away };
    let mut present = 0;
    for runner in there {
        let (node, noted) = (runner.node, runner.noted().await);
        let noted = match noted {
            // UNKNOWN_TABLE, UNKNOWN_DATABASE: nothing was ever applied.
            Err(MigrateError::Statement { source: ClickHouseError::Server { code: 60 | 81, .. }, .. }) => Vec::new(),
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

impl Runner<'_> {
    async fn run(&self, done: &mut Vec<&'static str>) -> Result<(), MigrateError> {
        let database = &self.store.database;
        self.execute("schema_migrations", &format!("CREATE DATABASE IF NOT EXISTS {database}")).await?;
        let notes = format!(
            "CREATE TABLE IF NOT EXISTS {database}.schema_migrations (name String, checksum UInt64, applied_at DateTime DEFAULT now()) \
             ENGINE = ReplacingMergeTree ORDER BY name"
        );
        self.execute("schema_migrations", &notes).await?;
        let noted = self.noted().await?;
        let is_known = |name: &str| name == DISTRIBUTED || MIGRATIONS.iter().any(|migration| migration.name == name);
        if let Some((newer, _)) = noted.iter().find(|(name, _)| !is_known(name)) {
            return Err(MigrateError::Newer(self.place(newer)));
        }
        if let Some(changed) = MIGRATIONS.iter().find(|migration| is_changed(migration, &noted)) {
            return Err(MigrateError::Changed(self.place(changed.name)));
        }
        let replica_path = self.store.fleet.as_ref().and_then(|fleet| fleet.replica_path.as_deref());
        for migration in to_apply(MIGRATIONS, &noted) {
            self.apply(migration.name, &statements(migration.text, database, replica_path), migration.checksum()).await?;
            note(done, migration.name);
        }
        Ok(())
    }

    /// Makes the Distributed tables, anew if any of the tables below them or the cluster's name has changed.
    async fn distribute(&self, fleet: &Fleet, done: &mut Vec<&'static str>) -> Result<(), MigrateError> {
        let statements = distributed(fleet, &self.store.database);
        let checksum = checksum_of(&statements);
        if self.noted().await?.iter().any(|(name, noted)| name == DISTRIBUTED && *noted == checksum) {
            return Ok(());
        }
        self.apply(DISTRIBUTED, &statements, checksum).await?;
        note(done, DISTRIBUTED);
        Ok(())
    }

    /// Runs the statements, then notes that they have run.
    async fn apply(&self, name: &str, statements: &[String], checksum: u64) -> Result<(), MigrateError> {
        for statement in statements {
            self.execute(name, statement).await?;
            failpoint::point("migrate.executed");
        }
        let database = &self.store.database;
        self.execute(name, &format!("INSERT INTO {database}.schema_migrations (name, checksum) VALUES ('{name}', {checksum})")).await
    }

    async fn execute(&self, name: &str, statement: &str) -> Result<(), MigrateError> {
        self.node.migrator.execute(statement).await.map_err(|source| self.refused(name, source))
    }

    /// What the node has noted and still has: names and checksums. A note whose tables are gone counts for nothing.
    async fn noted(&self) -> Result<Vec<(String, u64)>, MigrateError> {
        let database = &self.store.database;
        let notes = format!("SELECT name, toString(checksum) FROM {database}.schema_migrations FINAL ORDER BY name");
        let notes: Vec<(String, String)> = self.rows(notes).await?;
        let all = Fleet::read_database(database);
        let tables = format!("SELECT concat(database, '.', name) FROM system.tables WHERE database IN ('{database}', '{all}')");
        let tables: Vec<(String,)> = self.rows(tables).await?;
        let is_there = |table: &String| tables.iter().any(|(known,)| known == table);
        let noted = notes.into_iter().filter(|(name, _)| tables_of(name, database).iter().all(is_there));
        Ok(noted.map(|(name, checksum)| (name, checksum.parse().unwrap_or(0))).collect())
    }

    async fn rows<T: serde::de::DeserializeOwned>(&self, sql: String) -> Result<Vec<T>, MigrateError> {
        self.node.migrator.rows(&Statement::of(sql)).await.map_err(|source| self.refused("schema_migrations", source))
    }

    fn refused(&self, name: &str, source: ClickHouseError) -> MigrateError {
        MigrateError::Statement { place: self.place(name), source }
    }

    /// Where something is, for people.
    fn place(&self, name: &str) -> String {
        if self.node.name.is_empty() { name.to_owned() } else { format!("{name} on {}", self.node.name) }
    }
}

impl Migration {
    fn checksum(&self) -> u64 {
        xxh3_64(self.text.as_bytes())
    }

    /// The tables that it makes or changes.
    fn targets(&self) -> impl Iterator<Item = &'static str> {
        self.text.split(";\n").filter_map(target)
    }
}

/// Whether a migration was applied with another content.
fn is_changed(migration: &Migration, noted: &[(String, u64)]) -> bool {
    noted.iter().any(|(name, checksum)| name == migration.name && *checksum != migration.checksum())
}

/// The migrations to be applied, given those noted whose tables are there: those that are not, and all that changed a table since
/// which is made anew.
fn to_apply<'m>(migrations: &'m [Migration], noted: &[(String, u64)]) -> Vec<&'m Migration> {
    let mut remade: Vec<&str> = Vec::new();
    let mut open = Vec::new();
    for migration in migrations {
        let is_noted = noted.iter().any(|(name, _)| name == migration.name);
        if is_noted && !migration.targets().any(|table| remade.contains(&table)) {
            continue;
        }
        remade.extend(created(migration).filter_map(name_of));
        open.push(migration);
    }
    open
}

fn note(done: &mut Vec<&'static str>, name: &'static str) {
    if !done.contains(&name) {
        done.push(name);
    }
}

/// Makes the table `name` like the events table on every node, with a fence of its own: everything that migrations did to the two,
/// changes included. Does nothing where they are.
pub async fn create_beside(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    let replica_path = store.fleet.as_ref().and_then(|fleet| fleet.replica_path.as_deref());
    let texts = MIGRATIONS.iter().map(|migration| migration.text);
    let sql: Vec<String> =
        texts.flat_map(|text| beside(text, name)).flat_map(|text| statements(&text, &store.database, replica_path)).collect();
    for node in store.nodes() {
        for statement in &sql {
            node.migrator.execute(statement).await?;
        }
    }
    Ok(())
}

/// The statements of a file that make or change the events table or its fence, for the table `name` and the fence `name_fence`.
fn beside(text: &str, name: &str) -> Vec<String> {
    let concerns = |statement: &&str| target(statement).is_some_and(|table| matches!(table, "events" | "fence"));
    let renamed = |statement: &str| {
        let events = with_name(statement, "${database}.events", &format!("${{database}}.{name}"));
        with_name(&events, "${database}.fence", &format!("${{database}}.{name}_fence"))
    };
    text.split(";\n").filter(concerns).map(renamed).collect()
}

/// Replaces a table's name, but not the beginning of a longer one.
fn with_name(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let mut renamed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let goes_on = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        renamed.push_str(if goes_on { from } else { to });
        renamed.push_str(part);
    }
    renamed
}

/// The table that a statement of a file makes or changes.
fn target(statement: &str) -> Option<&str> {
    let start = statement.lines().find(|line| !line.starts_with("--") && !line.trim().is_empty())?;
    let named = ["CREATE TABLE IF NOT EXISTS ${database}.", "ALTER TABLE ${database}."].iter().find_map(|verb| start.strip_prefix(verb))?;
    named.split([' ', '\n', '(']).next()
}

/// The statements of a file, with the placeholders filled in. A statement ends with `;` at the end of a line.
fn statements(text: &str, database: &str, replica_path: Option<&str>) -> Vec<String> {
    let filled = with_engines(&text.replace("${database}", database), replica_path);
    filled.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// Fills in engines: `${ReplacingMergeTree}` is itself, or the replicated engine of that name with its path in front of whatever
/// arguments follow.
fn with_engines(text: &str, replica_path: Option<&str>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, (engine, after))) = rest.split_once("${").and_then(|(before, at)| Some((before, at.split_once('}')?))) {
        filled.push_str(before);
        rest = after;
        let Some(path) = replica_path else {
            filled.push_str(engine);
            continue;
        };
        filled.push_str(&format!("Replicated{engine}('{path}', '{{replica}}'"));
        match rest.strip_prefix('(') {
            Some(arguments) => {
                filled.push_str(", ");
                rest = arguments;
            }
            None => filled.push(')'),
        }
    }
    filled.push_str(rest);
    filled
}

/// The statements of a file that make a table, each from the table's name on.
fn created(migration: &Migration) -> impl Iterator<Item = &'static str> + use<> {
    migration.text.split("CREATE TABLE IF NOT EXISTS ${database}.").skip(1).filter_map(|table| table.split(";\n").next())
}

fn name_of(created: &'static str) -> Option<&'static str> {
    created.split([' ', '\n', '(']).next()
}

/// The tables that have rows of events in every shard: those whose engine is filled in.
fn sharded_tables() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().flat_map(created).filter(|table| table.contains("ENGINE = ${")).filter_map(name_of)
}

/// The tables that what is noted under `name` has made, with their databases.
fn tables_of(name: &str, database: &str) -> Vec<String> {
    if name == DISTRIBUTED {
        return sharded_tables().map(|table| format!("{}.{table}", Fleet::read_database(database))).collect();
    }
    let files = MIGRATIONS.iter().filter(|migration| migration.name == name);
    files.flat_map(created).filter_map(name_of).map(|table| format!("{database}.{table}")).collect()
}

/// The tables of the whole cluster, under the names that each node's own tables have.
fn distributed(fleet: &Fleet, database: &str) -> Vec<String> {
    let (all, cluster) = (Fleet::read_database(database), &fleet.cluster);
    let table = |name| {
        format!("CREATE OR REPLACE TABLE {all}.{name} AS {database}.{name} ENGINE = Distributed('{cluster}', '{database}', '{name}')")
    };
    std::iter::once(format!("CREATE DATABASE IF NOT EXISTS {all}")).chain(sharded_tables().map(table)).collect()
}

/// Of the statements and of every file: their columns are those of the tables below.
fn checksum_of(statements: &[String]) -> u64 {
    let texts = statements.iter().map(String::as_str).chain(MIGRATIONS.iter().map(|migration| migration.text));
    xxh3_64(texts.collect::<Vec<_>>().join("\n").as_bytes())
}

#[cfg(test)]
mod tests;
