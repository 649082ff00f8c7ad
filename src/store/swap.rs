//! Rebuilt tables in the place of the events table and what is made of it, in steps that can be cut anywhere and run again.
//!
//! How far a server is stands in the comment of a table: it goes with the table through the exchange, in one step with it, and is
//! each server's own also where tables are replicated. The rebuilt tables are marked on every server before the first exchange.
//! Promises: a server is exchanged once, however often this runs; no insert passes on a server before all servers are exchanged
//! and every generation of before has lost its fence, so what a loader knows of the old table never lets it into the new one.
//! May go wrong: a server is away; the others wait with it, loading is shut on those that are exchanged, and the next run goes
//! on from there. Not made for two runs at once.

mod copy;

pub use copy::{CopyError, Kept, Revised};

use super::fence::Fence;
use super::tables::{self, EVENTS, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Identifier, Node, Statement, TableName};
use crate::failpoint;

/// Begins the comment of a rebuilt table until it has taken its place; the name of the rebuild follows.
const READY: &str = "pulse: to be the events table, whose rows go to ";
/// Comment of a table that was replaced.
const REPLACED: &str = "pulse: replaced by a rebuilt table";

/// A table and its comment.
type Comment = (String, String);

async fn comments(store: &ClickHouse, node: &Node) -> Result<Vec<Comment>, ClickHouseError> {
    let to = Statement::of("SELECT name, comment FROM system.tables WHERE startsWith(comment, 'pulse: ') AND database = ");
    node.migrator.rows(&to.string(&store.database)).await
}

fn is_marked(comments: &[Comment], table: &Identifier) -> bool {
    comments.iter().any(|(name, comment)| **name == **table && comment.starts_with(READY))
}

/// The name of a rebuild whose swap was begun: some server has exchanged a table. Errors: a server does not answer.
pub async fn begun(store: &ClickHouse) -> Result<Option<Identifier>, ClickHouseError> {
    let mut found = None;
    for node in store.nodes() {
        let comments = comments(store, node).await?;
        let exchanged = comments.iter().filter(|(name, _)| tables::find(name).is_some());
        let name = exchanged.filter_map(|(_, comment)| Identifier::parse(comment.strip_prefix(READY)?.to_owned())).next();
        found = found.or(name);
    }
    Ok(found)
}

/// Whether the table has the rows that another one replaced: not one to be filled or swapped again.
pub async fn is_replaced(store: &ClickHouse, name: &Identifier) -> Result<bool, ClickHouseError> {
    for node in store.nodes() {
        if comments(store, node).await?.iter().any(|(table, comment)| **table == **name && comment == REPLACED) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Marks the tables of the rebuild `name` on every server as those to come.
pub async fn mark(store: &ClickHouse, name: &Identifier) -> Result<(), ClickHouseError> {
    let ready = format!("{READY}{name}");
    let marks: Vec<Statement> = tables::swapped(name).map(|(_, beside)| comment(&store.table(beside), &ready)).collect();
    on_all(store, &marks).await
}

/// Exchanges the tables of the rebuild `name` wherever that is not done, and lets loaders in again. Afterwards the old rows of events
/// are in `name`.
pub async fn exchange(store: &ClickHouse, name: &Identifier) -> Result<(), ClickHouseError> {
    for node in store.nodes() {
        let comments = comments(store, node).await?;
        for (table, beside) in tables::swapped(name) {
            // The rebuilt table still asks its own fence, so no live insert passes here from now on.
            if is_marked(&comments, &beside) {
                let to = Statement::of("EXCHANGE TABLES ").table(&store.table(beside)).sql(" AND ");
                execute(node, &to.table(&store.table(table.name()))).await?;
            }
        }
    }
    open(store, name).await
}

/// Lets loaders into the events table again once every server has exchanged its own; does nothing before. Returns whether it did.
pub async fn reopen(store: &ClickHouse, name: &Identifier) -> Result<bool, ClickHouseError> {
    for node in store.nodes() {
        let comments = comments(store, node).await?;
        if tables::swapped(name).any(|(_, beside)| is_marked(&comments, &beside)) {
            return Ok(false);
        }
    }
    open(store, name).await?;
    Ok(true)
}

/// Takes the fence from all who know the old table, on every server, and only then puts it before the new one.
async fn open(store: &ClickHouse, name: &Identifier) -> Result<(), ClickHouseError> {
    let live = Fence::of(&store.database, &EVENTS.name());
    for node in store.nodes() {
        live.shut(node).await?;
        failpoint::point("swap.executed");
    }
    let aside = Fence::of(&store.database, name);
    let is_fenced = |(table, _): &(&Table, Identifier)| table.is_fenced;
    for (table, beside) in tables::swapped(name).filter(is_fenced) {
        on_all(store, &[live.put_before(&store.table(table.name())), aside.put_before(&store.table(beside))]).await?;
    }
    Ok(())
}

/// Ends a swap whose rows are complete.
pub async fn close(store: &ClickHouse, name: &Identifier) -> Result<(), ClickHouseError> {
    let old = tables::swapped(name).map(|(_, beside)| comment(&store.table(beside), REPLACED));
    let new = tables::swapped(name).map(|(table, _)| comment(&store.table(table.name()), ""));
    on_all(store, &old.chain(new).collect::<Vec<_>>()).await
}

fn comment(table: &TableName, text: &str) -> Statement {
    Statement::of("ALTER TABLE ").table(table).sql(" MODIFY COMMENT ").quoted(text)
}

/// Runs each statement on all servers before the next one.
async fn on_all(store: &ClickHouse, statements: &[Statement]) -> Result<(), ClickHouseError> {
    for statement in statements {
        for node in store.nodes() {
            execute(node, statement).await?;
        }
    }
    Ok(())
}

async fn execute(node: &Node, statement: &Statement) -> Result<(), ClickHouseError> {
    node.migrator.execute(statement).await?;
    failpoint::point("swap.executed");
    Ok(())
}

#[cfg(test)]
mod tests;
