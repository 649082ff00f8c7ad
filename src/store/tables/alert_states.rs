//! `alert_states`: what is known of alerts.
//!
//! Promises: all rows of one [`insert`] are there or none; those of an owner that is no longer the owner are refused
//! ([`crate::clickhouse::ErrorClass::Fenced`]). All rows are in the first shard. Each server has its own fence, in memory: one that
//! restarts refuses everything until the alerts are taken again ([`take`]).
//! May go wrong: an insert whose answer is lost may have been done; the rows of one that is repeated replace those of the first.

use std::time::Duration;

use bytes::Bytes;

use super::first_shard::{self, replicas, rows};
use super::{Rebuild, Rows, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Node, Statement, Whole, native};
use crate::store::fence::Fence;
use crate::store::tables::EVENTS;

/// The table.
pub const ALERT_STATES: Table = Table { name: "alert_states", rows: Rows::Sharded, rebuild: Rebuild::Keep, is_fenced: true };

/// The entry of the fence that is the owner's; the migration says it too.
const FENCE_ENTRY: u16 = u16::MAX;
/// The columns of a block, in order.
const COLUMNS: &str = " (kind, project_id, rule, entry, slot, version, generation, at, body)";
const QUERY_ID: &str = "pulse-alerts-";
/// How often running inserts of an earlier owner are looked for, and how long their end is waited for at a time: less than a lease lasts,
/// which nobody renews meanwhile.
const POLL: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Most rows of what is read for people.
const MOST_SHOWN: u64 = 1_000;
/// Most bytes of them, of each kind: those of a thousand lines in some thirty slots.
const MOST_BYTES_SHOWN: u64 = 2 << 20;
/// Most lines of what is read for people.
const MOST_LINES_SHOWN: u64 = 20_000;
/// Rows of lines are deleted 90 days after they were written (the migration says it): what is nearly as old is not read, since what has taken its
/// place may be deleted before it.
const NOT_EXPIRED: &str = " AND (kind != 'line' OR at > now() - INTERVAL 89 DAY)";
/// Most slots that are judged again at a time.
const MOST_REVISED: u64 = 1_500;

/// Kinds of rows.
pub mod kind {
    /// The state of a rule.
    pub const RULE: &str = "rule";
    /// The state of a line.
    pub const LINE: &str = "line";
    /// A notice that is to be delivered; empty once it was.
    pub const OUTBOX: &str = "outbox";
    /// A channel that does not want any more.
    pub const GONE: &str = "gone";
    /// What a channel was told about rules that wait for their data; empty once they wait no more.
    pub const DELAYED: &str = "delayed";
    /// What was seen in a slot.
    pub const SLOT: &str = "slot";
    /// What happened.
    pub const HISTORY: &str = "history";
}

/// What entries of the history begin with that say how the delivery of a notice stands.
pub const DELIVERY: &str = "notice:";
/// The channel has the notice: nobody need look after it.
pub const DELIVERED: &str = "delivered";
/// The channel has no word for the notice: neither need anybody look after that.
pub const SKIPPED: &str = "skipped";

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// One of [`kind`].
    pub kind: &'static str,
    /// Whose rule.
    pub project: u64,
    /// Its id.
    pub rule: String,
    /// What of it, by kind.
    pub entry: String,
    /// The slot, milliseconds since 1970.
    pub slot: i64,
    /// When it was written, milliseconds since 1970.
    pub at: i64,
    /// JSON.
    pub body: String,
}

/// A row that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// As in [`AlertRow`].
    pub kind: String,
    /// As in [`AlertRow`].
    pub project: u64,
    /// As in [`AlertRow`].
    pub rule: String,
    /// As in [`AlertRow`].
    pub entry: String,
    /// As in [`AlertRow`].
    pub slot: i64,
    /// As in [`AlertRow`].
    pub at: i64,
    /// As in [`AlertRow`].
    pub body: String,
    /// No other row has it, and those that were written later have a higher one.
    pub version: u64,
}

/// Who writes, and the version of the first row; those of later inserts must be higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The generation that took the alerts.
    pub generation: u64,
    /// The version.
    pub version: u64,
}

/// Takes the alerts from their owner: afterwards nothing of another generation can be written. Returns the highest version there is. An
/// insert of an earlier owner that does not end is an error; the alerts may be taken again.
pub async fn take(store: &ClickHouse, generation: u64) -> Result<u64, ClickHouseError> {
    let fence = Fence::of(&store.database, &EVENTS.name());
    for replica in replicas(store) {
        fence.take(&replica.writer, FENCE_ENTRY, generation).await?;
    }
    let none_runs = || async {
        for replica in replicas(store) {
            if has_others(replica, generation).await? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    seen_to_end(none_runs).await?;
    if store.fleet.as_ref().is_some_and(|fleet| fleet.replica_path.is_some()) {
        for replica in replicas(store) {
            let sync = Statement::of("SYSTEM SYNC REPLICA ").table(&store.table(ALERT_STATES.name())).sql(" LIGHTWEIGHT");
            replica.writer.execute(&sync).await?;
        }
    }
    let highest = Statement::of("SELECT max(version) FROM ").table(&store.table(ALERT_STATES.name()));
    let rows: Vec<(Whole<u64>,)> = rows(store, &highest).await?;
    Ok(rows.first().map_or(0, |(version,)| version.0))
}

/// Waits until none of them runs, which `none_runs` looks for. The fence is taken, so that none of them begins meanwhile that stores anything.
async fn seen_to_end<L>(none_runs: impl Fn() -> L) -> Result<(), ClickHouseError>
where
    L: Future<Output = Result<bool, ClickHouseError>>,
{
    let waiting = async {
        while !none_runs().await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(LONGEST_WAIT, waiting).await.unwrap_or_else(|_| {
        tracing::debug!("an insert of an earlier owner of the alerts has not ended yet, or the store does not say so");
        Err(ClickHouseError::TimedOut(LONGEST_WAIT))
    })
}

/// Whether an insert of another generation is running.
async fn has_others(replica: &Node, generation: u64) -> Result<bool, ClickHouseError> {
    let to = Statement::of("SELECT count() FROM system.processes WHERE startsWith(query_id, ").string(QUERY_ID);
    let to = to.sql(") AND NOT startsWith(query_id, ").string(&format!("{QUERY_ID}{generation:016x}-")).sql(")");
    let rows: Vec<(Whole<u64>,)> = replica.writer.rows(&to).await?;
    Ok(rows.iter().any(|(running,)| running.0 > 0))
}

/// Writes rows, all or none.
pub async fn insert(store: &ClickHouse, writer: Writer, rows: &[AlertRow]) -> Result<(), ClickHouseError> {
    let into = Statement::of("INSERT INTO ").table(&store.table(ALERT_STATES.name())).sql(COLUMNS);
    first_shard::insert(store, &into, &encode(writer, rows), &format!("{QUERY_ID}{:016x}-", writer.generation)).await
}

/// The last state of all rules and lines, and the notices that are to be delivered, the oldest first.
pub async fn states(store: &ClickHouse) -> Result<Vec<Stored>, ClickHouseError> {
    let kinds = [kind::RULE, kind::LINE, kind::OUTBOX, kind::GONE, kind::DELAYED];
    let to = select(store).sql(" FINAL WHERE kind IN ").strings(kinds).sql(" AND body != ''").sql(NOT_EXPIRED).sql(" ORDER BY version");
    read(store, &to).await
}

/// The oldest notices of a project that are to be delivered, the oldest first.
pub async fn notices(store: &ClickHouse, project: u64, limit: u64) -> Result<Vec<Stored>, ClickHouseError> {
    let to = select(store).sql(" FINAL WHERE kind = ").string(kind::OUTBOX).sql(" AND project_id = ").uint(project);
    read(store, &to.sql(" AND body != '' ORDER BY version LIMIT ").uint(limit)).await
}

/// The state of one project's rules, or of one of them. Of lines there may be more than are read: those with something to say come first.
pub async fn states_of(store: &ClickHouse, project: u64, rule: Option<&str>) -> Result<Vec<Stored>, ClickHouseError> {
    let of = |kind| {
        let to = select(store).sql(" FINAL WHERE kind = ").string(kind).sql(" AND project_id = ").uint(project);
        let to = match rule {
            Some(rule) => to.sql(" AND rule = ").string(rule),
            None => to,
        };
        to.sql(" AND body != ''").sql(NOT_EXPIRED)
    };
    let mut states = read(store, &of(kind::RULE)).await?;
    let lines = of(kind::LINE).sql(" ORDER BY JSONExtractString(body, 'phase') = 'ok' AND NOT JSONExtractBool(body, 'is_flapping') LIMIT ");
    states.extend(read(store, &lines.uint(MOST_LINES_SHOWN)).await?);
    Ok(states)
}

/// The channels of a project, and those of all, that do not want any more.
pub async fn gone(store: &ClickHouse, project: u64) -> Result<Vec<Stored>, ClickHouseError> {
    let to = select(store).sql(" FINAL WHERE kind = ").string(kind::GONE).sql(" AND project_id IN (0, ").uint(project);
    read(store, &to.sql(") LIMIT 2000")).await
}

/// How the notices of a project stand, channel by channel.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Channels with notices that are to be delivered, and how many.
    pub waiting: Vec<(String, u64)>,
    /// Of each channel the newest one of the last week that was not delivered, not to all, or not yet.
    pub failed: Vec<Stored>,
}

/// How the notices of a project stand.
pub async fn deliveries(store: &ClickHouse, project: u64) -> Result<Deliveries, ClickHouseError> {
    let to = Statement::of("SELECT JSONExtractString(body, 'channel') AS channel, count() FROM ").table(&store.table(ALERT_STATES.name()));
    let to = to.sql(" FINAL WHERE kind = ").string(kind::OUTBOX).sql(" AND project_id = ").uint(project);
    let to = to.sql(" AND body != '' GROUP BY channel LIMIT 2000");
    let waiting = rows::<(String, Whole<u64>)>(store, &to);
    // What is filtered before rows replace each other is the same of all that do, or older of those that are replaced.
    let to = select(store).sql(" FINAL PREWHERE kind = ").string(kind::HISTORY).sql(" AND project_id = ").uint(project);
    let to = to.sql(" AND startsWith(entry, ").string(DELIVERY).sql(") AND at > now() - INTERVAL 7 DAY WHERE");
    let to = to.sql(" JSONExtractString(body, 'outcome') NOT IN ").strings([DELIVERED, SKIPPED]).sql(" ORDER BY at DESC, version DESC");
    let to = to.sql(" LIMIT 1 BY JSONExtractString(body, 'channel') LIMIT 2000");
    let (waiting, failed) = tokio::try_join!(waiting, read(store, &to))?;
    Ok(Deliveries { waiting: waiting.into_iter().map(|(channel, number)| (channel, number.0)).collect(), failed })
}

/// Slots of a rule.
#[derive(Clone, Copy, Debug)]
pub struct JudgedSlots<'a> {
    /// Whose rule.
    pub project: u64,
    /// Its id.
    pub rule: &'a str,
    /// The first slot, milliseconds since 1970.
    pub from_ms: i64,
    /// Slots before this.
    pub until_ms: i64,
}

/// What was seen in slots of a rule: in the newest of them.
pub async fn slots(store: &ClickHouse, of: JudgedSlots<'_>) -> Result<Vec<Stored>, ClickHouseError> {
    let to = select(store).sql(" FINAL WHERE kind = ").string(kind::SLOT).sql(" AND project_id = ").uint(of.project);
    let to = to.sql(" AND rule = ").string(of.rule).sql(" AND slot >= fromUnixTimestamp64Milli(").int(of.from_ms);
    let to = to.sql(") AND slot < fromUnixTimestamp64Milli(").int(of.until_ms).sql(") ORDER BY slot DESC LIMIT ");
    read(store, &to.uint(MOST_REVISED)).await
}

/// The newest rows of one kind about a rule, from before `before`, newest first: as many as are wanted, and have few enough bytes.
pub async fn newest(store: &ClickHouse, of: Newest<'_>) -> Result<Page, ClickHouseError> {
    let limit = of.limit.min(MOST_SHOWN);
    // How long they are is known before any of them is read.
    let lengths = Statement::of("SELECT length(body) FROM ").table(&store.table(ALERT_STATES.name()));
    let lengths: Vec<(Whole<u64>,)> = rows(store, &of.ordered(lengths, limit)).await?;
    let fitting = fitting(lengths.iter().map(|(length,)| length.0));
    let read = read(store, &of.ordered(select(store), fitting)).await?;
    Ok(Page { is_cut: fitting == limit || fitting < lengths.len() as u64, rows: read })
}

/// How many of these have at most [`MOST_BYTES_SHOWN`] together: at least one.
fn fitting(lengths: impl Iterator<Item = u64>) -> u64 {
    let mut bytes = 0_u64;
    let fits = |(at, length): &(u64, u64)| {
        bytes = bytes.saturating_add(*length);
        *at == 0 || bytes <= MOST_BYTES_SHOWN
    };
    (0..).zip(lengths).take_while(fits).count() as u64
}

/// Rows, and whether there may be more behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Stored>,
    /// Whether there may be more.
    pub is_cut: bool,
}

/// A place among the rows of a rule: a slot may have more of them than are read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Rows of slots before this, milliseconds since 1970,
    pub slot: i64,
    /// and those of it with a lower version.
    pub version: u64,
}

/// Which rows.
#[derive(Clone, Copy, Debug)]
pub struct Newest<'a> {
    /// One of [`kind`].
    pub kind: &'static str,
    /// Whose rule.
    pub project: u64,
    /// Its id.
    pub rule: &'a str,
    /// Those before this.
    pub before: Before,
    /// How many.
    pub limit: u64,
}

impl Newest<'_> {
    /// What is selected `to` be read, of these rows in their order.
    fn ordered(self, to: Statement, limit: u64) -> Statement {
        let Self { kind, project, rule, before, .. } = self;
        let to = to.sql(" FINAL WHERE kind = ").string(kind).sql(" AND project_id = ").uint(project);
        let to = to.sql(" AND rule = ").string(rule).sql(" AND slot <= fromUnixTimestamp64Milli(").int(before.slot);
        let to = to.sql(") AND (slot < fromUnixTimestamp64Milli(").int(before.slot).sql(") OR version < ").uint(before.version);
        to.sql(") ORDER BY slot DESC, version DESC LIMIT ").uint(limit)
    }
}

fn select(store: &ClickHouse) -> Statement {
    let to = Statement::of("SELECT kind, project_id, rule, entry, toUnixTimestamp64Milli(slot) AS slot_ms, ");
    to.sql("toUnixTimestamp64Milli(at) AS at_ms, body, version FROM ").table(&store.table(ALERT_STATES.name()))
}

async fn read(store: &ClickHouse, to: &Statement) -> Result<Vec<Stored>, ClickHouseError> {
    type Row = (String, Whole<u64>, String, String, Whole<i64>, Whole<i64>, String, Whole<u64>);
    let read: Vec<Row> = rows(store, to).await?;
    let stored = read.into_iter().map(|(kind, project, rule, entry, slot, at, body, version)| Stored {
        kind,
        project: project.0,
        rule,
        entry,
        slot: slot.0,
        at: at.0,
        body,
        version: version.0,
    });
    Ok(stored.collect())
}

fn encode(writer: Writer, rows: &[AlertRow]) -> Bytes {
    let mut out = Vec::new();
    native::begin_block(&mut out, 9, rows.len());
    native::put_dictionary(rows.iter().map(|row| row.kind.as_bytes()), "kind", &mut out);
    native::put_values(rows.iter().map(|row| row.project.to_le_bytes()), "project_id", "UInt64", &mut out);
    native::put_strings(rows.iter().map(|row| row.rule.as_bytes()), "rule", &mut out);
    native::put_strings(rows.iter().map(|row| row.entry.as_bytes()), "entry", &mut out);
    native::put_values(rows.iter().map(|row| row.slot.to_le_bytes()), "slot", "DateTime64(3, 'UTC')", &mut out);
    native::put_values((0..).zip(rows).map(|(at, _)| (writer.version + at).to_le_bytes()), "version", "UInt64", &mut out);
    native::put_values(rows.iter().map(|_| writer.generation.to_le_bytes()), "generation", "UInt64", &mut out);
    native::put_values(rows.iter().map(|row| row.at.to_le_bytes()), "at", "DateTime64(3, 'UTC')", &mut out);
    native::put_strings(rows.iter().map(|row| row.body.as_bytes()), "body", &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_for_people_is_bounded_by_its_bytes_and_never_nothing() {
        assert_eq!(fitting([65_000; 1_000].into_iter()), 32);
        assert_eq!(fitting([100; 1_000].into_iter()), 1_000);
        assert_eq!(fitting([5 << 20, 1].into_iter()), 1);
        assert_eq!(fitting(std::iter::empty()), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_insert_that_never_ends_is_not_waited_for_without_an_end() {
        let began = tokio::time::Instant::now();
        let hanging = tokio::time::timeout(4 * LONGEST_WAIT, seen_to_end(|| async { Ok(false) })).await;
        assert!(matches!(hanging, Ok(Err(ClickHouseError::TimedOut(LONGEST_WAIT)))), "{hanging:?}");
        assert_eq!(began.elapsed(), LONGEST_WAIT);
        let ends = began + LONGEST_WAIT + 3 * POLL;
        seen_to_end(|| async { Ok(tokio::time::Instant::now() >= ends) }).await.unwrap();
        assert_eq!(tokio::time::Instant::now(), ends);
    }
}
