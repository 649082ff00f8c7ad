//! The tables of pulse, one file each. Creation, changes, rebuilds, damage and the names that are taken all walk [`TABLES`].

pub mod alert_states;
pub mod dead_letters;
pub mod events;
pub mod fence;
mod first_shard;
pub mod identities;
pub mod saved;

pub use alert_states::ALERT_STATES;
pub use dead_letters::DEAD_LETTERS;
pub use events::EVENTS;
pub use fence::FENCE;
pub use identities::IDENTITIES;
pub use saved::SAVED;

use std::time::Duration;

use tokio::time::Instant;

use crate::clickhouse::{ClickHouse, ClickHouseError, ErrorClass, Format, Identifier, Statement, Whole};

/// Between two looks whether it is made.
const POLL: Duration = Duration::from_millis(50);
/// Longest time that making the projection of a day's parts may take.
const REBUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A table of pulse.
#[derive(Debug)]
pub struct Table {
    /// Its name, on every server.
    pub name: &'static str,
    /// Where its rows are.
    pub rows: Rows,
    /// What `pulse replay --to-table` does with it.
    pub rebuild: Rebuild,
    /// Whether each insert is checked against the fence: of its log partition, or of what else has one owner.
    pub is_fenced: bool,
}

/// Where the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// On the disks of one shard each. Queries read a Distributed table of the same name.
    Sharded,
    /// In the memory of each server: they are that server's own.
    Local,
}

/// What a replay into a table beside the events table does with a table. The ending is that of the table beside, behind the name that
/// was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Nothing: its rows are not made of the events again.
    Keep,
    /// It gets another one beside it, which a swap puts in its place.
    Swap(&'static str),
    /// It gets another one beside it, which stays there.
    Beside(&'static str),
}

/// Every table, in the order in which they are made.
pub const TABLES: [&Table; 6] = [&FENCE, &EVENTS, &DEAD_LETTERS, &IDENTITIES, &SAVED, &ALERT_STATES];

/// Where the migrations are noted.
pub const NOTES: Identifier = Identifier::known("schema_migrations");

impl Table {
    /// Its name for statements.
    pub const fn name(&self) -> Identifier {
        Identifier::known(self.name)
    }
}

/// The table called `name`.
pub fn find(name: &str) -> Option<&'static Table> {
    TABLES.into_iter().find(|table| table.name == name)
}

/// The tables that a swap exchanges for those beside them, with the names of the latter.
pub fn swapped(name: &Identifier) -> impl Iterator<Item = (&'static Table, Identifier)> {
    let is_swapped = |table: &&'static Table| matches!(table.rebuild, Rebuild::Swap(_));
    TABLES.into_iter().filter(is_swapped).filter_map(|table| Some((table, beside(table, name)?)))
}

/// What a table is called beside the events table, for a rebuild into `name`; `None` if it is kept.
pub fn beside(table: &Table, name: &Identifier) -> Option<Identifier> {
    match table.rebuild {
        Rebuild::Keep => None,
        Rebuild::Swap(ending) | Rebuild::Beside(ending) => Some(name.with(ending)),
    }
}

/// A name for a table beside the events table, with the tables that come with it. Errors: it needs quotes, or is taken.
pub fn new_name(name: &str) -> Result<Identifier, String> {
    let refused = || format!("--to-table {name:?}: a new name of letters, digits and _ is needed");
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 100;
    let name = Identifier::parse(name.to_owned()).filter(|_| is_word).ok_or_else(refused)?;
    let is_taken = |made: &Identifier| find(made).is_some() || *made == NOTES;
    let makes_taken = TABLES.into_iter().filter_map(|table| beside(table, &name)).any(|made| is_taken(&made));
    if makes_taken { Err(refused()) } else { Ok(name) }
}

/// A projection that parts of a day lack.
#[derive(Debug)]
pub struct LackingProjection {
    /// The table, which may be one beside those of [`TABLES`].
    pub table: Identifier,
    /// The projection.
    pub projection: Identifier,
    /// The id of the day's partition.
    pub partition: String,
    /// How many parts lack it.
    pub parts: u64,
}

/// The projections that parts with rows lack or that are broken, without which the server reads as if such parts had no rows: what it syncs of a
/// part are not its projections, so a power cut may empty them, and parts with broken ones are merged into one without any.
pub async fn lacking_projections(store: &ClickHouse) -> Result<Vec<LackingProjection>, ClickHouseError> {
    let to = Statement::of(
        "SELECT table, projections.name AS projection, partition_id, count() FROM system.parts AS parts \
         JOIN system.projections AS projections USING (database, table) \
         WHERE active AND parts.rows > 0 AND (table, parts.name, projection) NOT IN \
         (SELECT table, parent_name, name FROM system.projection_parts WHERE active AND NOT is_broken AND database = ",
    );
    let to = to.string(&store.database).sql(") AND database = ").string(&store.database);
    let to = to.sql(" GROUP BY table, projection, partition_id ORDER BY table, projection, partition_id");
    let rows: Vec<(String, String, String, Whole<u64>)> = store.migrator.rows(&to).await?;
    // Also of a table beside the events table, which may take its place.
    let lacking = rows.into_iter().filter_map(|(table, projection, partition, parts)| {
        let (table, projection) = Identifier::parse(table).zip(Identifier::parse(projection))?;
        Some(LackingProjection { table, projection, partition, parts: parts.0 })
    });
    Ok(lacking.collect())
}

/// Makes a projection anew that parts lack. Errors: also what one of these parts cannot be read for; then nothing of it goes on.
pub async fn materialize(store: &ClickHouse, lacking: &LackingProjection) -> Result<(), ClickHouseError> {
    alter_projection(store, "MATERIALIZE PROJECTION", lacking).await
}

/// Does something with the projection of a day. What was begun before and not waited for is waited for: the server goes on with it, and
/// another one would queue behind it. What fails is ended: the server would try it again for ever, beside what is begun next.
async fn alter_projection(store: &ClickHouse, verb: &'static str, of: &LackingProjection) -> Result<(), ClickHouseError> {
    let LackingProjection { table, projection, partition, .. } = of;
    until_altered(store, verb, of).await?;
    let to = Statement::of("ALTER TABLE ").table(&store.table(table.clone())).sql(" ").sql(verb).sql(" ").name(projection);
    let to = to.sql(" IN PARTITION ID ").quoted(partition).sql(" SETTINGS mutations_sync = 2");
    let altered = store.migrator.with_timeout(REBUILD_LIMIT).execute(&to).await;
    if altered.is_err() {
        let failed = Statement::of("KILL MUTATION WHERE NOT is_done AND latest_fail_reason != '' AND command LIKE ");
        let failed = failed.quoted(&format!("%{verb}%")).sql(" AND database = ").quoted(&store.database);
        let failed = failed.sql(" AND table = ").quoted(table);
        if let Err(problem) = store.migrator.execute(&failed).await {
            tracing::debug!(%problem, "what has failed is tried again by the server");
        }
    }
    altered
}

async fn until_altered(store: &ClickHouse, verb: &'static str, of: &LackingProjection) -> Result<(), ClickHouseError> {
    let LackingProjection { table, projection, partition, .. } = of;
    let to = Statement::of("SELECT mutation_id FROM system.mutations WHERE NOT is_done AND latest_fail_reason = '' AND position(command, ");
    let to = to.string(verb).sql(") > 0 AND position(command, ").string(projection);
    let to = to.sql(") > 0 AND position(command, ").string(partition).sql(") > 0 AND database = ").string(&store.database);
    let to = to.sql(" AND table = ").string(table);
    let begun = Instant::now();
    loop {
        let running: Vec<(String,)> = store.migrator.rows(&to).await?;
        if running.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > REBUILD_LIMIT {
            return Err(ClickHouseError::TimedOut(REBUILD_LIMIT));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes a projection away from the day of the part called `part`, in each table that has one of that name: it is a copy of rows that are there,
/// and [`materialize`] makes it anew. Returns those tables.
pub async fn clear_projection(store: &ClickHouse, part: &str, projection: &str) -> Result<Vec<Identifier>, ClickHouseError> {
    let Some(projection) = Identifier::parse(projection.to_owned()) else { return Ok(Vec::new()) };
    let to = Statement::of("SELECT table, partition_id FROM system.projection_parts WHERE active AND database = ").string(&store.database);
    let to = to.sql(" AND name = ").string(&projection).sql(" AND parent_name = ").string(part);
    let found: Vec<(String, String)> = store.migrator.rows(&to).await?;
    let mut cleared = Vec::new();
    for (table, partition) in found {
        let Some(table) = Identifier::parse(table) else { continue };
        let of = LackingProjection { table: table.clone(), projection: projection.clone(), partition, parts: 0 };
        alter_projection(store, "CLEAR PROJECTION", &of).await?;
        cleared.push(table);
    }
    Ok(cleared)
}

/// Takes the part called `part` out of each table that has it and cannot read it, those beside [`TABLES`] too. Returns those tables.
pub async fn detach_damaged(store: &ClickHouse, part: &str) -> Result<Vec<Identifier>, ClickHouseError> {
    let to = Statement::of("SELECT table FROM system.parts WHERE active AND database = ").string(&store.database);
    // Without what it says of migrations these would be applied again.
    let to = to.sql(" AND table != ").string(&NOTES).sql(" AND name = ").string(part);
    let found: Vec<(String,)> = store.migrator.rows(&to).await?;
    let mut detached = Vec::new();
    for table in found.into_iter().filter_map(|(table,)| Identifier::parse(table)) {
        // By its name alone it may be a part of another table, which is whole.
        if is_damaged(store, &table, part).await {
            let to = Statement::of("ALTER TABLE ").table(&store.table(table.clone())).sql(" DETACH PART ").quoted(part);
            store.migrator.execute(&to).await?;
            detached.push(table);
        }
    }
    Ok(detached)
}

/// Reads all of a part, however large it is.
async fn is_damaged(store: &ClickHouse, table: &Identifier, part: &str) -> bool {
    let to = Statement::of("SELECT count() FROM ").table(&store.table(table.clone())).sql(" WHERE _part = ").string(part);
    let read = store.migrator.with_timeout(REBUILD_LIMIT).query(&to.sql(" AND NOT ignore(*)"), Format::Json).await;
    read.is_err_and(|problem| problem.class() == ErrorClass::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_table_has_or_that_its_companions_would_have_is_refused() {
        for taken in ["events", "fence", "dead_letters", "identities", "schema_migrations", "", "1st", "a-b", "_x", "a'b"] {
            assert!(new_name(taken).is_err(), "{taken}");
        }
        assert_eq!(&*new_name("again").unwrap(), "again");
    }

    #[test]
    fn beside_the_events_table_there_are_those_that_are_made_of_events() {
        let made: Vec<String> =
            TABLES.into_iter().filter_map(|table| beside(table, &Identifier::known("again"))).map(|name| name.to_string()).collect();
        assert_eq!(made, ["again_fence", "again"]);
    }
}
