//! The fence of a log partition: which generation of its owner may insert its rows.
//!
//! A constraint of the event table compares each block's generation with the fence as the block is written, so an insert of an
//! earlier owner is refused whole, however late it arrives ([`crate::clickhouse::ErrorClass::Fenced`]). Each server has its own
//! fence, in memory: one that restarts knows no generation and refuses every block until its partition is taken again. Promises:
//! after [`Fence::take`] and [`Fence::is_free_of_others`] on every replica of a shard nothing of another generation is stored there.

use super::books::PartitionKey;
use super::tables::{self, EVENTS, FENCE};
use crate::clickhouse::{ClickHouseError, Client, Identifier, Node, Statement, TableName, Whole};

/// What no owner has: a fence that was not taken, and one that is shut.
pub const NO_GENERATION: u64 = 0;
/// Begins the ids of all inserts behind fences.
const QUERY_ID: &str = "pulse-load-";

/// The fence of one table.
#[derive(Clone, Debug)]
pub struct Fence(TableName);

impl Fence {
    /// The fence of the events table, or of one beside it.
    pub fn of(database: &Identifier, table: &Identifier) -> Self {
        let beside = || tables::beside(&FENCE, table).unwrap_or(FENCE.name());
        Self(TableName::new(database, if **table == *EVENTS.name { FENCE.name() } else { beside() }))
    }

    /// Gives a partition to the owner with `generation`, on one server.
    pub async fn take(&self, server: &Client, partition: u16, generation: u64) -> Result<(), ClickHouseError> {
        server.execute(&self.entries(&[(partition, generation)])).await
    }

    fn entries(&self, entries: &[(u16, u64)]) -> Statement {
        let to = Statement::of("INSERT INTO ").table(&self.0).sql(" VALUES ");
        entries.iter().enumerate().fold(to, |to, (at, (partition, generation))| {
            to.sql(if at > 0 { ", (" } else { "(" }).digits(*partition).sql(", ").digits(*generation).sql(")")
        })
    }

    /// Whether a server knows an owner of the partition.
    pub async fn is_taken(&self, server: &Client, partition: u16) -> Result<bool, ClickHouseError> {
        Ok(self.owner(server, partition).await? != NO_GENERATION)
    }

    /// The generation that has the partition, as one server knows; [`NO_GENERATION`] if it knows none.
    pub async fn owner(&self, server: &Client, partition: u16) -> Result<u64, ClickHouseError> {
        let to = Statement::of("SELECT ").sql("joinGet(").quoted(&self.0.to_string()).sql(", 'generation', ").uint16(partition).sql(")");
        let rows: Vec<(Whole<u64>,)> = server.rows(&to).await?;
        Ok(rows.first().map_or(NO_GENERATION, |(generation,)| generation.0))
    }

    /// Whether no insert of another generation of this partition is running. The fence refuses those that write their block after it
    /// was taken; one that passed its check before must be seen to end.
    pub async fn is_free_of_others(&self, server: &Client, key: PartitionKey, generation: u64) -> Result<bool, ClickHouseError> {
        let to = Statement::of("SELECT count() FROM system.processes WHERE startsWith(query_id, ").string(&format!("{}/", self.query_id()));
        let to = to.sql(") AND position(query_id, ").string(&block_prefix(key));
        let to = to.sql(") > 0 AND position(query_id, ").string(&block_name(key, generation)).sql(") = 0");
        let rows: Vec<(Whole<u64>,)> = server.rows(&to).await?;
        Ok(rows.iter().all(|(running,)| running.0 == 0))
    }

    /// Takes every partition from its owner, on one server: nothing passes until the partition is taken again.
    pub async fn shut(&self, node: &Node) -> Result<(), ClickHouseError> {
        let taken = Statement::of("SELECT log_partition FROM ").table(&self.0);
        let taken: Vec<(u16,)> = node.migrator.rows(&taken.sql(" WHERE generation != ").digits(NO_GENERATION)).await?;
        let shut: Vec<(u16, u64)> = taken.iter().map(|(partition,)| (*partition, NO_GENERATION)).collect();
        if shut.is_empty() { Ok(()) } else { node.migrator.execute(&self.entries(&shut)).await }
    }

    /// Puts this fence in front of a table, in one statement: there is no moment without a constraint.
    pub fn put_before(&self, table: &TableName) -> Statement {
        let to = Statement::of("ALTER TABLE ").table(table).sql(" DROP CONSTRAINT IF EXISTS fenced, ");
        to.sql("ADD CONSTRAINT fenced CHECK generation = joinGet(").quoted(&self.0.to_string()).sql(", 'generation', log_partition)")
    }

    /// The id of an insert of several blocks, by which [`Self::is_free_of_others`] finds it while it runs. `nonce` makes it unique.
    pub fn query_id_of(&self, blocks: impl IntoIterator<Item = (PartitionKey, u64)>, nonce: u64) -> String {
        let names: String = blocks.into_iter().map(|(key, generation)| block_name(key, generation)).collect();
        format!("{}{names}{nonce:016x}", self.query_id())
    }

    fn query_id(&self) -> String {
        format!("{QUERY_ID}{}", self.0)
    }
}

/// Whether inserts behind any fence have been running on a server for longer than `seconds`.
pub async fn has_inserts_older_than(node: &Node, seconds: f64) -> Result<bool, ClickHouseError> {
    let to = Statement::of("SELECT count() FROM system.processes WHERE startsWith(query_id, ").string(QUERY_ID);
    let rows: Vec<(Whole<u64>,)> = node.writer.rows(&to.sql(") AND elapsed > ").float(seconds)).await?;
    Ok(rows.iter().any(|(running,)| running.0 > 0))
}

/// Lets rows of any generation into a table that nobody loads.
pub fn removed_from(table: &TableName) -> Statement {
    Statement::of("ALTER TABLE ").table(table).sql(" DROP CONSTRAINT IF EXISTS fenced")
}

/// Names a block in the id of its insert.
fn block_name(key: PartitionKey, generation: u64) -> String {
    format!("{}{generation:016x}/", block_prefix(key))
}

/// Begins the names of all blocks of a partition.
fn block_prefix(key: PartitionKey) -> String {
    format!("/{:016x}-{}:", key.epoch.0, key.partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::LogEpoch;

    #[test]
    fn the_events_table_has_the_fence_and_one_beside_it_has_its_own() {
        let database = Identifier::known("pulse");
        assert_eq!(Fence::of(&database, &EVENTS.name()).0.to_string(), "pulse.fence");
        assert_eq!(Fence::of(&database, &Identifier::known("again")).0.to_string(), "pulse.again_fence");
    }

    #[test]
    fn a_block_is_found_by_the_id_of_the_insert_that_it_is_part_of() {
        let fence = Fence::of(&Identifier::known("pulse"), &EVENTS.name());
        let key = |partition| PartitionKey { epoch: LogEpoch(7), partition };
        let id = fence.query_id_of([(key(1), 3), (key(11), 4)], 9);
        assert!(id.starts_with(&format!("{}/", fence.query_id())));
        assert!(id.contains(&block_name(key(1), 3)) && id.contains(&block_name(key(11), 4)) && !id.contains(&block_prefix(key(2))));
    }

    #[test]
    fn the_statements_hold_names_and_numbers_alone() {
        let fence = Fence::of(&Identifier::known("pulse"), &EVENTS.name());
        assert_eq!(fence.entries(&[(1, 2), (3, 4)]).text(), "INSERT INTO pulse.fence VALUES (1, 2), (3, 4)");
        insta::assert_snapshot!(
            fence.put_before(&TableName::new(&Identifier::known("pulse"), EVENTS.name())).text(),
            @"ALTER TABLE pulse.events DROP CONSTRAINT IF EXISTS fenced, ADD CONSTRAINT fenced CHECK generation = joinGet('pulse.fence', 'generation', log_partition)"
        );
    }
}
