//! A rebuilt table in the place of the events table, in steps that can be cut anywhere and run again.
//!
//! How far a server is stands in the comment of a table: it goes with the table through the exchange, in one step with it, and is
//! each server's own also where tables are replicated. The rebuilt table is marked on every server before the first exchange.
//! Promises: a server is exchanged once, however often this runs; no insert passes on a server before all servers are exchanged
//! and every generation of before has lost its fence, so what a loader knows of the old table never lets it into the new one.
//! May go wrong: a server is away; the others wait with it, loading is shut on those that are exchanged, and the next run goes
//! on from there. Not made for two runs at once.

use super::{ClickHouse, ClickHouseError, Node, Statement};
use crate::failpoint;

/// Begins the comment of a rebuilt table until it has taken its place; the name that the old rows get follows.
const READY: &str = "pulse: to be the events table, whose rows go to ";
/// Comment of a table that was replaced.
const REPLACED: &str = "pulse: replaced by a rebuilt table";

/// A table and its comment.
type Comment = (String, String);

async fn comments(store: &ClickHouse, node: &Node) -> Result<Vec<Comment>, ClickHouseError> {
    let sql = format!("SELECT name, comment FROM system.tables WHERE database = '{}' AND startsWith(comment, 'pulse: ')", store.database);
    node.migrator.rows(&Statement::of(sql)).await
}

fn is_marked(comments: &[Comment], table: &str) -> bool {
    comments.iter().any(|(name, comment)| name == table && comment.starts_with(READY))
}

/// The name of a swap that was begun: some server has exchanged its tables. Errors: a server does not answer.
pub async fn begun(store: &ClickHouse) -> Result<Option<String>, ClickHouseError> {
    let mut found = None;
    for node in store.nodes() {
        let comments = comments(store, node).await?;
        let exchanged = comments.iter().find(|(name, _)| name == "events").and_then(|(_, comment)| comment.strip_prefix(READY));
        found = found.or(exchanged.map(str::to_owned));
    }
    Ok(found)
}

/// Whether the table has the rows that another one replaced: not one to be filled or swapped again.
pub async fn is_replaced(store: &ClickHouse, name: &str) -> Result<bool, ClickHouseError> {
    for node in store.nodes() {
        if comments(store, node).await?.iter().any(|(table, comment)| table == name && comment == REPLACED) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Marks the table `name` on every server as the one to come.
pub async fn mark(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    on_all(store, &[comment(store, name, &format!("{READY}{name}"))]).await
}

/// Exchanges the table `name` and the events table wherever that is not done, and lets loaders in again. Afterwards the old rows
/// are in `name`.
pub async fn exchange(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    let database = &store.database;
    for node in store.nodes() {
        // The rebuilt table still asks its own fence, so no live insert passes here from now on.
        if is_marked(&comments(store, node).await?, name) {
            execute(node, &format!("EXCHANGE TABLES {database}.{name} AND {database}.events")).await?;
        }
    }
    open(store, name).await
}

/// Lets loaders into the events table again once every server has exchanged its own; does nothing before. Returns whether it did.
pub async fn reopen(store: &ClickHouse, name: &str) -> Result<bool, ClickHouseError> {
    for node in store.nodes() {
        if is_marked(&comments(store, node).await?, name) {
            return Ok(false);
        }
    }
    open(store, name).await?;
    Ok(true)
}

/// Takes the fence from all who know the old table, on every server, and only then puts it before the new one.
async fn open(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    let database = &store.database;
    for node in store.nodes() {
        let taken = Statement::of(format!("SELECT log_partition FROM {database}.fence WHERE generation != 0"));
        let taken: Vec<(u16,)> = node.migrator.rows(&taken).await?;
        let shut: Vec<String> = taken.iter().map(|(partition,)| format!("({partition}, 0)")).collect();
        if !shut.is_empty() {
            // No generation that a loader takes is 0.
            execute(node, &format!("INSERT INTO {database}.fence VALUES {}", shut.join(", "))).await?;
        }
    }
    on_all(store, &[guard(store, "events", "fence"), guard(store, name, &format!("{name}_fence"))]).await
}

/// Ends a swap whose rows are complete.
pub async fn close(store: &ClickHouse, name: &str) -> Result<(), ClickHouseError> {
    on_all(store, &[comment(store, name, REPLACED)]).await?;
    on_all(store, &[comment(store, "events", "")]).await
}

/// In one statement: there is no moment without a constraint.
fn guard(store: &ClickHouse, table: &str, fence: &str) -> String {
    let database = &store.database;
    format!(
        "ALTER TABLE {database}.{table} DROP CONSTRAINT IF EXISTS fenced, \
         ADD CONSTRAINT fenced CHECK fence = joinGet('{database}.{fence}', 'generation', log_partition)"
    )
}

fn comment(store: &ClickHouse, table: &str, text: &str) -> String {
    format!("ALTER TABLE {}.{table} MODIFY COMMENT '{text}'", store.database)
}

/// Runs each statement on all servers before the next one.
async fn on_all(store: &ClickHouse, statements: &[String]) -> Result<(), ClickHouseError> {
    for statement in statements {
        for node in store.nodes() {
            execute(node, statement).await?;
        }
    }
    Ok(())
}

async fn execute(node: &Node, statement: &str) -> Result<(), ClickHouseError> {
    node.migrator.execute(statement).await?;
    failpoint::point("swap.executed");
    Ok(())
}
