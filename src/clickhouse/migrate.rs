//! Migrations: forward only, one runner.
//!
//! Every statement can be repeated without harm, and a file is noted as applied only after its last one: a runner killed
//! anywhere is simply run again, and two at once do the same work twice to the same effect. That, and not a lock that plain
//! ClickHouse cannot give, is what makes it safe; a file that changed after it was applied is refused.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{ClickHouse, ClickHouseError, Statement};

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

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A statement failed.
    #[error("migration {file}: {source}")]
    Statement {
        /// The file.
        file: &'static str,
        /// What ClickHouse said.
        source: ClickHouseError,
    },
    /// A file differs from what was applied under its name.
    #[error("migration {0} was applied with another content: migrations are never edited, add a new one")]
    Changed(&'static str),
    /// The database has migrations this release does not know.
    #[error("the database has migration {0}, which this release does not know: it was written by a newer pulse")]
    Newer(String),
}

/// State of one migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The file.
    pub name: String,
    /// Whether it is applied.
    pub applied: bool,
}

/// Brings the schema up to date and returns the names of what was applied now.
pub async fn run(store: &ClickHouse) -> Result<Vec<&'static str>, MigrateError> {
    let fail = |file| move |source| MigrateError::Statement { file, source };
    let database = &store.database;
    let setup = [
        format!("CREATE DATABASE IF NOT EXISTS {database}"),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.schema_migrations (name String, checksum UInt64, applied_at DateTime DEFAULT now()) \
             ENGINE = ReplacingMergeTree ORDER BY name"
        ),
    ];
    for statement in setup {
        store.migrator.execute(&statement).await.map_err(fail("schema_migrations"))?;
    }
    let applied = applied(store).await.map_err(fail("schema_migrations"))?;
    if let Some((newer, _)) = applied.iter().find(|(name, _)| MIGRATIONS.iter().all(|migration| migration.name != name)) {
        return Err(MigrateError::Newer(newer.clone()));
    }
    let mut done = Vec::new();
    for migration in MIGRATIONS {
        let checksum = xxh3_64(migration.text.as_bytes());
        match applied.iter().find(|(name, _)| name == migration.name) {
            Some((_, noted)) if *noted == checksum => continue,
            Some(_) => return Err(MigrateError::Changed(migration.name)),
            None => {}
        }
        for statement in statements(migration.text, database) {
            store.migrator.execute(&statement).await.map_err(fail(migration.name))?;
        }
        let note = format!("INSERT INTO {database}.schema_migrations (name, checksum) VALUES ('{}', {checksum})", migration.name);
        store.migrator.execute(&note).await.map_err(fail(migration.name))?;
        done.push(migration.name);
    }
    Ok(done)
}

/// Which migrations are applied. A database that is not there has none.
pub async fn status(store: &ClickHouse) -> Result<Vec<Status>, ClickHouseError> {
    let applied = match applied(store).await {
        // UNKNOWN_TABLE, UNKNOWN_DATABASE: nothing was ever applied.
        Err(ClickHouseError::Server { code: 60 | 81, .. }) => Vec::new(),
        other => other?,
    };
    Ok(MIGRATIONS
        .iter()
        .map(|migration| Status { name: migration.name.to_owned(), applied: applied.iter().any(|(name, _)| name == migration.name) })
        .collect())
}

async fn applied(store: &ClickHouse) -> Result<Vec<(String, u64)>, ClickHouseError> {
    let sql = format!("SELECT name, toString(checksum) FROM {}.schema_migrations FINAL ORDER BY name", store.database);
    let rows: Vec<(String, String)> = store.migrator.rows(&Statement::of(sql)).await?;
    Ok(rows.into_iter().map(|(name, checksum)| (name, checksum.parse().unwrap_or(0))).collect())
}

/// Makes the table `name` like the events table, with a fence of its own. Does nothing where they are.
pub async fn create_beside(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    let fence = include_str!("../../migrations/0001_fence.sql").replace("${database}.fence", &format!("${{database}}.{name}_fence"));
    let events = include_str!("../../migrations/0002_events.sql")
        .replace("${database}.fence", &format!("${{database}}.{name}_fence"))
        .replace("${database}.events", &format!("${{database}}.{name}"));
    for statement in [fence, events].iter().flat_map(|text| statements(text, &store.database)) {
        store.migrator.execute(&statement).await?;
    }
    Ok(())
}

/// Puts the table `name` in the place of the events table and the other way round, both as they are. Afterwards the old rows
/// are in `name`. Whoever loads meanwhile is refused, and looks at the new table before it goes on.
pub async fn swap(store: &ClickHouse, name: &str, partitions: u16) -> Result<(), ClickHouseError> {
    let database = &store.database;
    let guard = |table: &str, fence: &str| {
        // One statement: there is no moment without a constraint.
        format!(
            "ALTER TABLE {database}.{table} DROP CONSTRAINT IF EXISTS fenced, \
             ADD CONSTRAINT fenced CHECK fence = joinGet('{database}.{fence}', 'generation', log_partition)"
        )
    };
    let shut: Vec<String> = (0..partitions).map(|partition| format!("({partition}, 0)")).collect();
    let sql = [
        // The new table still asks its own fence, so no live insert passes until the last but one statement.
        format!("EXCHANGE TABLES {database}.{name} AND {database}.events"),
        // Generations taken before this know the old table only: none of them is 0.
        format!("INSERT INTO {database}.fence VALUES {}", shut.join(", ")),
        guard("events", "fence"),
        guard(name, &format!("{name}_fence")),
    ];
    for statement in sql {
        store.migrator.execute(&statement).await?;
    }
    Ok(())
}

/// The statements of a file, with the placeholders filled in. A statement ends with `;` at the end of a line.
fn statements(text: &str, database: &str) -> Vec<String> {
    let filled =
        text.replace("${database}", database).replace("${MergeTree}", "MergeTree").replace("${ReplacingMergeTree}", "ReplacingMergeTree");
    filled.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_the_list_agree() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, MIGRATIONS.iter().map(|migration| migration.name).collect::<Vec<_>>());
    }

    #[test]
    fn no_placeholder_is_left_over() {
        for migration in MIGRATIONS {
            for statement in statements(migration.text, "pulse") {
                assert!(!statement.contains("${"), "{statement}");
                assert!(statement.contains("IF NOT EXISTS"), "not repeatable: {statement}");
            }
        }
    }
}
