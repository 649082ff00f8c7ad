//! The files of `migrations/`, and the statements that they are made of.

use xxhash_rust::xxh3::xxh3_64;

use crate::clickhouse::Identifier;
use crate::store::tables::{self, TABLES};

/// One file of `migrations/`.
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// Every migration, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_fence.sql", text: include_str!("../../../migrations/0001_fence.sql") },
    Migration { name: "0002_events.sql", text: include_str!("../../../migrations/0002_events.sql") },
    Migration { name: "0003_dead_letters.sql", text: include_str!("../../../migrations/0003_dead_letters.sql") },
    Migration { name: "0004_language.sql", text: include_str!("../../../migrations/0004_language.sql") },
    Migration { name: "0005_identities.sql", text: include_str!("../../../migrations/0005_identities.sql") },
    Migration { name: "0006_saved.sql", text: include_str!("../../../migrations/0006_saved.sql") },
    Migration { name: "0007_alert_states.sql", text: include_str!("../../../migrations/0007_alert_states.sql") },
    Migration { name: "0008_log_index.sql", text: include_str!("../../../migrations/0008_log_index.sql") },
    Migration { name: "0009_lines_of_alerts.sql", text: include_str!("../../../migrations/0009_lines_of_alerts.sql") },
    Migration { name: "0010_ties_known_at.sql", text: include_str!("../../../migrations/0010_ties_known_at.sql") },
];

const CREATE: &str = "CREATE TABLE IF NOT EXISTS ${database}.";
const ALTER: &str = "ALTER TABLE ${database}.";

/// What the placeholders of a file stand for on one server.
pub(super) struct Placeholders<'a> {
    pub(super) database: &'a Identifier,
    /// Path of a replicated table in Keeper; `None` if tables are not replicated.
    pub(super) replica_path: Option<&'a str>,
}

impl Migration {
    pub(super) fn checksum(&self) -> u64 {
        xxh3_64(self.text.as_bytes())
    }

    /// The tables that it makes or changes.
    pub(super) fn targets(&self) -> impl Iterator<Item = &'static str> {
        parts(self.text).filter_map(target)
    }

    /// The tables that it makes.
    pub(super) fn created(&self) -> impl Iterator<Item = &'static str> {
        parts(self.text).filter(|statement| first_line(statement).is_some_and(|line| line.starts_with(CREATE))).filter_map(target)
    }

    /// Its statements for a server.
    pub(super) fn statements(&self, with: &Placeholders<'_>) -> Vec<String> {
        parts(self.text).map(|statement| filled(statement, with)).collect()
    }
}

/// The migrations to be applied, given the names of those applied whose tables are there: those that are not, and all that changed a
/// table since which is made anew.
pub(super) fn to_apply<'m>(migrations: &'m [Migration], applied: &[&str]) -> Vec<&'m Migration> {
    let mut remade: Vec<&str> = Vec::new();
    let mut open = Vec::new();
    for migration in migrations {
        if applied.contains(&migration.name) && !migration.targets().any(|table| remade.contains(&table)) {
            continue;
        }
        remade.extend(migration.created());
        open.push(migration);
    }
    open
}

/// The statements of all `migrations` that make or change a table which a rebuild makes again, for the tables beside it under `name`.
pub(super) fn beside(migrations: &[Migration], name: &Identifier) -> Vec<String> {
    let made: Vec<(&str, Identifier)> = TABLES.into_iter().filter_map(|table| Some((table.name, tables::beside(table, name)?))).collect();
    let concerns = |statement: &&str| target(statement).is_some_and(|target| made.iter().any(|(table, _)| *table == target));
    let renamed = |statement: &str| {
        made.iter().fold(statement.to_owned(), |statement, (table, beside)| {
            with_name(&statement, &format!("${{database}}.{table}"), &format!("${{database}}.{beside}"))
        })
    };
    migrations.iter().flat_map(|migration| parts(migration.text)).filter(concerns).map(renamed).collect()
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

/// The statements of a file. A statement ends with `;` at the end of a line.
fn parts(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(";\n").map(str::trim).filter(|statement| first_line(statement).is_some())
}

/// The line of a statement with which it begins, behind its comments.
fn first_line(statement: &str) -> Option<&str> {
    statement.lines().find(|line| !line.starts_with("--") && !line.trim().is_empty())
}

/// The table that a statement makes or changes.
fn target(statement: &str) -> Option<&str> {
    let line = first_line(statement)?;
    let named = [CREATE, ALTER].iter().find_map(|verb| line.strip_prefix(verb))?;
    named.split([' ', '\n', '(']).next()
}

/// A statement with its placeholders filled in: `${database}`, and engines, of which `${ReplacingMergeTree}` is itself, or the
/// replicated engine of that name with its path in front of the arguments that follow.
pub(super) fn filled(statement: &str, with: &Placeholders<'_>) -> String {
    let text = statement.replace("${database}", with.database);
    let mut filled = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, (engine, after))) = rest.split_once("${").and_then(|(before, at)| Some((before, at.split_once('}')?))) {
        filled.push_str(before);
        rest = after;
        let Some(path) = with.replica_path else {
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

#[cfg(test)]
mod tests;
