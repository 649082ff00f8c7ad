//! What tables share whose rows are all in the first shard, because one writer decides about them.

use bytes::Bytes;

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

/// Inserts a block into the first shard, by the first replica that takes it. The id of each attempt begins with `id`.
pub(super) async fn insert(store: &ClickHouse, into: &Statement, block: &Bytes, id: &str) -> Result<(), ClickHouseError> {
    let mut ended = Ok(());
    for replica in replicas(store) {
        let query_id = format!("{id}{}", uuid::Uuid::new_v4());
        ended = replica.writer.insert(into, [block.clone()], &query_id).await;
        if ended.is_ok() {
            break;
        }
    }
    ended
}
