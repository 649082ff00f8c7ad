//! What tables share whose rows are all in the first shard, because one writer decides about them.

use crate::clickhouse::{ClickHouse, ClickHouseError, Node, Shard, Statement};

/// The replicas of the first shard.
pub(super) fn replicas(store: &ClickHouse) -> impl Iterator<Item = &Node> {
    store.shards.iter().take(1).flat_map(Shard::replicas)
}

/// Rows of the first shard, of the first replica that answers.
pub(super) async fn rows<T: serde::de::DeserializeOwned>(store: &ClickHouse, statement: &Statement) -> Result<Vec<T>, ClickHouseError> {
    let mut answer = Ok(Vec::new());
    for replica in replicas(store) {
        answer = replica.writer.rows(statement).await;
        if answer.is_ok() {
            break;
        }
    }
    answer
}
