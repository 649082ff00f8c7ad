//! `events`: the one truth about what is stored, with the books of each block. Its columns are [`crate::store::schema`]'s.

use super::{Rebuild, Rows, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Statement};
use crate::store::books::PartitionKey;

/// The table.
pub const EVENTS: Table = Table { name: "events", rows: Rows::Sharded, rebuild: Rebuild::Swap(""), is_fenced: true };

/// Begins to delete what a partition has above a raw offset.
pub async fn delete_above(store: &ClickHouse, key: PartitionKey, offset: i64) -> Result<(), ClickHouseError> {
    let to = Statement::of("ALTER TABLE ").table(&store.table(EVENTS.name())).sql(" DELETE WHERE log_epoch = ").digits(key.epoch.0);
    let to = to.sql(" AND log_partition = ").digits(key.partition).sql(" AND log_offset > ").digits(offset);
    store.migrator.execute(&to).await
}

/// The deletions by [`delete_above`] that are not done, in this or an earlier life of the server: why each failed last, if it did.
pub async fn running_deletions(store: &ClickHouse) -> Result<Vec<Option<String>>, ClickHouseError> {
    let to = Statement::of("SELECT latest_fail_reason FROM system.mutations WHERE NOT is_done AND position(command, 'log_offset >') > 0 ");
    let to = to.sql("AND database = ").string(&store.database).sql(" AND table = ").string(EVENTS.name);
    let running: Vec<(String,)> = store.migrator.rows(&to).await?;
    Ok(running.into_iter().map(|(reason,)| Some(reason).filter(|reason| !reason.is_empty())).collect())
}
