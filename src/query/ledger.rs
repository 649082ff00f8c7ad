//! The ledger: how every event ended, as the books in the table and the log together say.
//!
//! Books and watermarks come from one statement, so from one state of the table (with several shards, of each: a log partition
//! is in one of them); the log is then asked for what lies above
//! those very watermarks. That is why `received = stored + duplicate + filtered + dead + waiting` holds at any instant: an
//! event is on exactly one side of a watermark.

pub mod pending;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::pending::{Backlog, PendingEvents, PendingTally};
use super::error::QueryError;
use super::time::LATEST_MS;
use crate::clickhouse::{ClickHouse, ClickHouseError, Statement};
use crate::event::ids::{LogEpoch, ProjectId};

/// How far the table is in one partition of the raw topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Identity of the log.
    pub epoch: LogEpoch,
    /// Raw partition.
    pub partition: u16,
    /// Highest raw offset in the table.
    pub offset: i64,
}

/// What of the ledger is asked for.
#[derive(Clone, Copy, Debug)]
pub struct LedgerScope {
    /// Whose ledger: a read key sees its own project.
    pub project: ProjectId,
    /// First minute of receipt, milliseconds since 1970.
    pub from_ms: i64,
    /// End of the range, not included.
    pub to_ms: i64,
    /// Only this import run.
    pub source: Option<u64>,
    /// For the age of what waits.
    pub now_ms: i64,
}

impl LedgerScope {
    fn takes(&self, tally: &PendingTally) -> bool {
        tally.project == self.project
            && (self.from_ms..self.to_ms).contains(&tally.minute_ms)
            && self.source.is_none_or(|source| source == tally.source)
    }
}

/// Most minutes shown: a day. Totals are over the whole range all the same.
const MAX_MINUTES: usize = 1_440;

/// The sums of one project, minute or range.
#[derive(Clone, Debug, Default)]
struct Sums {
    by_name: BTreeMap<String, u64>,
    waiting: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        for (name, number) in &other.by_name {
            *self.by_name.entry(name.clone()).or_default() += number;
        }
        self.waiting += other.waiting;
    }

    fn of(&self, outcome: &str) -> u64 {
        let is_of = |name: &str| name == outcome || name.strip_prefix(outcome).is_some_and(|rest| rest.starts_with(':'));
        self.by_name.iter().filter(|(name, _)| is_of(name)).map(|(_, number)| number).sum()
    }

    /// Letters about lines that had one already: what the books call dead is a duplicate.
    fn count_copies(&mut self, reason: &str, copies: u64) {
        // A letter may be stored a moment before the block that counts it.
        let Some(dead) = self.by_name.get_mut(&format!("dead:{reason}")) else { return };
        let copies = copies.min(*dead);
        *dead -= copies;
        *self.by_name.entry("duplicate".to_owned()).or_default() += copies;
    }

    fn reasons(&self, outcome: &str) -> Map<String, Value> {
        let prefix = format!("{outcome}:");
        self.by_name.iter().filter_map(|(name, number)| Some((name.strip_prefix(&prefix)?.to_owned(), (*number).into()))).collect()
    }

    fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("received".to_owned(), (self.of("received") + self.waiting).into());
        for outcome in ["stored", "duplicate", "filtered", "rejected", "dead"] {
            json.insert(outcome.to_owned(), self.of(outcome).into());
        }
        json.insert("waiting".to_owned(), self.waiting.into());
        json
    }
}

/// Answers the ledger of a project, called `name`. `latency` is what the loader measures of its events.
pub async fn ledger(
    store: &ClickHouse,
    pending: &dyn PendingEvents,
    scope: LedgerScope,
    (name, latency): (Arc<str>, Value),
) -> Result<Vec<u8>, QueryError> {
    let (mut minutes, watermarks) = books(store, &scope).await?;
    let unreadable = |_| QueryError::unavailable("log_unavailable", "the log cannot be read now");
    let Backlog { tallies, lags } = pending.above(&watermarks).await.map_err(unreadable)?;
    for tally in tallies.iter().filter(|tally| scope.takes(tally)) {
        let sums = minutes.entry(tally.minute_ms).or_default();
        sums.waiting += tally.events;
        *sums.by_name.entry("rejected".to_owned()).or_default() += tally.rejected;
    }
    for (minute_ms, reason, copies) in copies(store, &scope).await {
        if let Some(sums) = minutes.get_mut(&minute_ms) {
            sums.count_copies(&reason, copies);
        }
    }
    let mut total = Sums::default();
    minutes.values().for_each(|sums| total.add(sums));
    let mut total_json = total.to_json();
    total_json.insert("conflict".to_owned(), total.of("conflict").into());
    for outcome in ["filtered", "rejected", "dead"] {
        total_json.insert(format!("{outcome}_by_reason"), Value::Object(total.reasons(outcome)));
    }
    let mut project = Map::from_iter([("project".to_owned(), Value::from(&*name))]);
    project.extend(total.to_json());
    let skipped = minutes.len().saturating_sub(MAX_MINUTES);
    let minutes: Vec<Value> = minutes.iter().skip(skipped).map(|(at_ms, sums)| minute_json(*at_ms, sums)).collect();
    let lag = lag_json(&tallies, lags.iter().any(|lag| lag.is_estimated), &scope);
    let answer = json!({
        "total": total_json, "projects": [project], "minutes": minutes, "lag": lag, "latency_ms": latency,
    });
    Ok(answer.to_string().into_bytes())
}

/// Letters about lines that had one already, by minute of receipt and reason. Of one import run they are what they are: dead. While
/// the letters cannot be read so are all: the books stand without them.
async fn copies(store: &ClickHouse, scope: &LedgerScope) -> Vec<(i64, String, u64)> {
    if scope.source.is_some() {
        return Vec::new();
    }
    let sql = "SELECT toString(intDiv(toUnixTimestamp64Milli(received_at), 60000) * 60000), reason, toString(count()) \
         FROM dead_letters FINAL WHERE project_id = {project:UInt64} AND is_copy = 1 \
         AND toStartOfMinute(received_at) >= fromUnixTimestamp64Milli({from:Int64}) \
         AND toStartOfMinute(received_at) < fromUnixTimestamp64Milli({to:Int64}) GROUP BY ALL";
    let statement = Statement::of(sql)
        .bind("project", scope.project.0)
        .bind("from", scope.from_ms.clamp(0, LATEST_MS))
        .bind("to", scope.to_ms.clamp(0, LATEST_MS));
    let rows: Result<Vec<(String, String, String)>, _> = store.reader.rows(&statement).await;
    let rows = rows.unwrap_or_else(|problem| {
        tracing::debug!(%problem, "ledger without copies of letters");
        Vec::new()
    });
    rows.into_iter().filter_map(|(minute, reason, copies)| Some((minute.parse().ok()?, reason, copies.parse().ok()?))).collect()
}

fn minute_json(at_ms: i64, sums: &Sums) -> Value {
    let at = jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_string()).unwrap_or_default();
    let mut json = Map::from_iter([("minute".to_owned(), Value::from(at))]);
    json.extend(sums.to_json());
    Value::Object(json)
}

/// How far the project is behind: nobody sees what others send.
fn lag_json(tallies: &[PendingTally], is_estimated: bool, scope: &LedgerScope) -> Value {
    let own = || tallies.iter().filter(|tally| tally.project == scope.project && tally.events > 0);
    let oldest = own().map(|tally| tally.received_ms).filter(|received_ms| *received_ms > 0).min();
    json!({
        "events": own().map(|tally| tally.events).sum::<u64>(),
        "estimated": is_estimated,
        "oldest_ms": oldest.map_or(0, |oldest| (scope.now_ms - oldest).max(0)),
    })
}

type Books = (BTreeMap<i64, Sums>, Vec<Watermark>);

/// The books of a project by minute, and every partition's watermark, from one statement.
async fn books(store: &ClickHouse, scope: &LedgerScope) -> Result<Books, QueryError> {
    let sql = "SELECT toUnixTimestamp64Milli(timestamp), toString(log_epoch), log_partition, max(log_offset), \
         sumMapIf(numbers, visitor_id = {project:UInt64} AND ({source:UInt64} = 0 OR person_id = {source:UInt64}) \
         AND timestamp >= fromUnixTimestamp64Milli({from:Int64}) AND timestamp < fromUnixTimestamp64Milli({to:Int64})), \
         grouping(log_epoch) FROM events WHERE project_id = 0 AND type = '$books' \
         GROUP BY GROUPING SETS ((timestamp), (log_epoch, log_partition))";
    let statement = Statement::of(sql)
        .bind("project", scope.project.0)
        .bind("source", scope.source.unwrap_or(0))
        // A shard reads a later time back as another one, and then its columns have other names than those asked for.
        .bind("from", scope.from_ms.clamp(0, LATEST_MS))
        .bind("to", scope.to_ms.clamp(0, LATEST_MS));
    type Row = (Value, String, u16, Value, BTreeMap<String, f64>, u8);
    let rows: Vec<Row> = store.reader.rows(&statement).await.map_err(|problem| refused(&problem))?;
    let mut minutes: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut watermarks = Vec::new();
    for (minute, epoch, partition, offset, numbers, is_minute) in rows {
        if is_minute == 0 {
            let epoch = LogEpoch(epoch.parse().unwrap_or(0));
            watermarks.push(Watermark { epoch, partition, offset: whole(&offset) });
        } else if !numbers.is_empty() {
            let sums = minutes.entry(whole(&minute)).or_default();
            for (name, number) in numbers {
                *sums.by_name.entry(name).or_default() += number as u64;
            }
        }
    }
    Ok((minutes, watermarks))
}

/// A whole number as ClickHouse writes it: 64-bit ones may be quoted.
fn whole(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn refused(problem: &ClickHouseError) -> QueryError {
    tracing::warn!(%problem, "ledger");
    match problem {
        ClickHouseError::Server { code, .. } => QueryError::of_clickhouse(*code),
        _ => QueryError::unavailable("store_unavailable", "the ledger cannot be read now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_sees_its_own_lag_and_nobody_elses() {
        let tally = |project, received_ms, events| PendingTally {
            project: ProjectId(project),
            minute_ms: 0,
            received_ms,
            source: 0,
            events,
            rejected: 0,
        };
        let scope = LedgerScope { project: ProjectId(1), from_ms: 0, to_ms: 1, source: None, now_ms: 10_000 };
        let tallies = [tally(2, 1_000, 500), tally(1, 7_000, 3), tally(1, 0, 2), tally(1, 5_000, 0)];
        assert_eq!(lag_json(&tallies, false, &scope), json!({"events": 5, "estimated": false, "oldest_ms": 3_000}));
        assert_eq!(lag_json(&tallies[..1], false, &scope), json!({"events": 0, "estimated": false, "oldest_ms": 0}));
    }

    #[test]
    fn outcomes_add_up_over_their_reasons() {
        let mut sums = Sums::default();
        for (name, number) in [("received", 10), ("stored", 6), ("dead:line_malformed", 1), ("dead:event_invalid", 2), ("duplicate", 1)] {
            sums.by_name.insert(name.to_owned(), number);
        }
        sums.waiting = 4;
        sums.count_copies("line_malformed", 0);
        let json = Value::Object(sums.to_json());
        assert_eq!(json, json!({"received": 14, "stored": 6, "duplicate": 1, "filtered": 0, "rejected": 0, "dead": 3, "waiting": 4}));
        assert_eq!(Value::Object(sums.reasons("dead")), json!({"line_malformed": 1, "event_invalid": 2}));
    }

    #[test]
    fn a_letter_that_came_again_is_a_duplicate_and_the_sum_stays() {
        let mut sums = Sums::default();
        sums.by_name.extend([("received".to_owned(), 5), ("dead:line_malformed".to_owned(), 3), ("duplicate".to_owned(), 2)]);
        sums.count_copies("line_malformed", 2);
        assert_eq!((sums.of("dead"), sums.of("duplicate"), sums.of("received")), (1, 4, 5));
        // One that is stored before the block that counts it, and one of a reason that the minute has not.
        sums.count_copies("line_malformed", 2);
        sums.count_copies("event_invalid", 1);
        assert_eq!((sums.of("dead"), sums.of("duplicate")), (0, 5));
    }
}
