//! The views that statements of others read: see `POST /v1/query/sql`.
//!
//! A view is read with the rights of its owner, who may read the events, by a user who may read nothing but the views. Which project it
//! shows, it takes from the id of the statement ([`statement_id`]), which pulse gives and no statement changes; a statement without such
//! an id sees nothing. The condition stands in PREWHERE, which the server keeps apart from the conditions that come from outside: with
//! WHERE it would ask those of rows of other projects too, and an error that one of them raises would tell what is in there.

use crate::clickhouse::{ClickHouse, ClickHouseError, Identifier, SqlAccess, Statement, TableName};
use crate::event::ids::ProjectId;
use crate::store::schema::COLUMNS;
use crate::store::tables;

/// The view of the events.
pub const EVENTS: &str = "events";

/// What ids of statements begin with; the project follows.
const ID: &str = "pulse-sql-";
/// The project of the statement that runs; null for one of another id.
const PROJECT: &str = "if(startsWith(initialQueryID(), 'pulse-sql-'), toUInt64OrNull(splitByChar('-', initialQueryID())[3]), NULL)";
/// Columns that say something of the store and not of an event, or nothing that could be read without pulse.
const INTERNAL: [&str; 10] = [
    "project_id",
    "person_id",
    "flags",
    "campaign_hash",
    "log_offset",
    "log_index",
    "log_epoch",
    "log_partition",
    "generation",
    "event_hash",
];

/// The columns of the view, in its order.
pub fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|column| column.name).filter(|name| !INTERNAL.contains(name))
}

/// A new id for a statement that reads the rows of `project`.
pub fn statement_id(project: ProjectId) -> String {
    format!("{ID}{}-{}", project.0, uuid::Uuid::new_v4().simple())
}

/// Makes the views as this release has them, if anybody may read them.
///
/// # Errors
/// The migrator may not, or the owner is not there.
pub async fn create(store: &ClickHouse) -> Result<(), ClickHouseError> {
    let Some(access) = &store.sql else { return Ok(()) };
    for statement in statements(access, &store.table(tables::EVENTS.name())) {
        store.migrator.execute(&statement).await?;
    }
    Ok(())
}

fn statements(access: &SqlAccess, events: &TableName) -> [Statement; 2] {
    let view = TableName::new(&access.database, Identifier::known(EVENTS));
    let to = Statement::of("CREATE OR REPLACE VIEW ")
        .table(&view)
        .sql(" DEFINER = ")
        .name(&access.owner)
        .sql(" SQL SECURITY DEFINER AS SELECT ");
    let to = columns().enumerate().fold(to, |to, (at, name)| to.sql(if at > 0 { ", " } else { "" }).sql(name));
    let to = to.sql(" FROM ").table(events).sql(" PREWHERE project_id = ").sql(PROJECT);
    [Statement::of("CREATE DATABASE IF NOT EXISTS ").name(&access.database), to]
}
