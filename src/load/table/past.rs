//! What the table has of the past: the ids that are recalled when a partition is taken, and those that are looked up.
//!
//! Promises: what is read is bounded, however large the table is. Recalled are the receipts of the last minutes, of whose number the
//! books tell first. Looked up is in the index of ids (the projection `ids`), in the days only on which a copy can have been received.

use std::collections::HashMap;

use xxhash_rust::xxh32::xxh32;

use super::super::block::{Suspect, fingerprint};
use super::super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::super::home::PartitionKey;
use super::{Held, TableError};
use crate::clickhouse::{Arrivals, Client, Day, Statement, native};
use crate::clock;
use crate::event::ids::{ProjectId, VisitorKey};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Events recalled when a partition is taken: more would make the start slow, fewer make more look-ups.
const RECALLED_EVENTS: u64 = 1_000_000;
/// How far back they are looked for: within it a client's clock may be ahead, and its events are still known from their copies.
const RECALLED_MS: i64 = 60 * MINUTE_MS;
/// Of one of them: id, project, visitor.
const RECALLED_BYTES: usize = 32;
/// Ids asked for in one statement: the server takes form fields of up to 128 KiB, and an id takes 39 bytes.
const IDS_PER_STATEMENT: usize = 2_500;
/// Days back from the newest one: ids that go as far back as each other are asked for together, for each id costs a look into each part.
const SPANS: [Day; 4] = [1, 7, 30, Day::MAX];

/// The table as one partition of the log reads it.
pub(super) struct Past<'a> {
    /// Who has the rows.
    pub(super) server: &'a Client,
    /// The table, with the database.
    pub(super) events: &'a str,
    pub(super) place: PartitionKey,
    /// Partitions of the log.
    pub(super) partitions: u16,
}

impl Past<'_> {
    /// A memory of the last minutes within `bytes`. `held` is what the server has.
    pub(super) async fn recall(&self, held: &[Held], bytes: usize) -> Result<Dedupe, TableError> {
        let ours = held.iter().filter(|held| held.place == self.place).map(|held| held.newest_ms).max();
        // Of a partition that has begun elsewhere (before there were more of them, or in another log) the visitors may have events.
        let Some(newest_ms) = ours.or_else(|| held.iter().map(|held| held.newest_ms).max()) else {
            return Ok(Dedupe::new(bytes, i64::MIN));
        };
        let limit = Dedupe::capacity(bytes).min(RECALLED_EVENTS);
        // A clock that is far ahead must not make everyone else's events the distant past.
        let until_ms = newest_ms.min(clock::now_ms());
        let minutes = self.minutes(until_ms - RECALLED_MS, ours.is_some()).await?;
        let since_ms = since(&minutes, limit, until_ms);
        let mut dedupe = Dedupe::new(bytes, since_ms);
        let sql = format!(
            "SELECT event_id, project_id, visitor_id FROM {} WHERE project_id != 0 AND received_day >= toDate({{day:UInt16}}) \
             AND received_at >= fromUnixTimestamp64Milli({{since:Int64}}) \
             AND bitShiftRight(bitShiftRight(visitor_id, 32) * {{partitions:UInt64}}, 32) = {{partition:UInt64}}",
            self.events
        );
        let statement = Statement::of(sql)
            .bind("day", first_day(since_ms))
            .bind("since", since_ms)
            .bind("partitions", self.partitions)
            .bind("partition", self.place.partition);
        let remember = |row: &[u8; RECALLED_BYTES]| dedupe.recall(recalled(row), newest_ms);
        self.server.each(&statement, remember).await?;
        Ok(dedupe)
    }

    /// How many events the books say were stored, by the minute of receipt, newest first. Of all partitions if this one has none.
    async fn minutes(&self, since_ms: i64, only_ours: bool) -> Result<Vec<(i64, u64)>, TableError> {
        let ours = if only_ours { "AND log_partition = {partition:UInt16}" } else { "" };
        let sql = format!(
            "SELECT toString(toUnixTimestamp64Milli(received_at)) AS minute, toString(toUInt64(sum(numbers['stored']))) FROM {} \
             WHERE project_id = 0 AND received_day >= toDate({{day:UInt16}}) AND timestamp >= fromUnixTimestamp64Milli({{since:Int64}}) {ours} \
             GROUP BY received_at ORDER BY received_at DESC",
            self.events
        );
        let statement = Statement::of(sql).bind("day", first_day(since_ms)).bind("since", since_ms).bind("partition", self.place.partition);
        let rows: Vec<(String, String)> = self.server.rows(&statement).await?;
        Ok(rows.iter().filter_map(|(minute, events)| Some((minute.parse().ok()?, events.parse().ok()?))).collect())
    }

    /// Which of the suspects the table has.
    pub(super) async fn find(&self, suspects: &[Suspect]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        let mut found = HashMap::new();
        for (day, together) in by_span(suspects) {
            for chunk in together.chunks(IDS_PER_STATEMENT) {
                self.find_since(day, chunk, &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn find_since(&self, day: Day, suspects: &[&Suspect], found: &mut HashMap<EventKey, Fingerprint>) -> Result<(), TableError> {
        // The index is asked by hash; the id decides. The limits are for tables at hand, which are smaller than what the index saves.
        let sql = format!(
            "SELECT toString(project_id), toString(event_id), toString(visitor_id), type, \
             toString(toUnixTimestamp64Milli(original_timestamp)) FROM {} \
             WHERE received_day >= toDate({{day:UInt16}}) AND project_id != 0 \
             AND event_hash IN {{hashes:Array(UInt32)}} AND event_id IN {{ids:Array(UUID)}} \
             SETTINGS min_table_rows_to_use_projection_index = 0, max_projection_rows_to_use_projection_index = 1000000000000",
            self.events
        );
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let statement = Statement::of(sql)
            .bind("day", day)
            .bind("hashes", list(suspects.iter().map(|suspect| hash(suspect.key.event_id).to_string()).collect()))
            .bind("ids", list(suspects.iter().map(|suspect| format!("'{}'", uuid::Uuid::from_bytes(suspect.key.event_id))).collect()));
        let rows: Vec<(String, uuid::Uuid, String, String, String)> = self.server.rows(&statement).await?;
        for (project, id, visitor, event_type, original) in rows {
            let project = ProjectId(project.parse().unwrap_or(0));
            let key = EventKey { project, event_id: id.into_bytes(), visitor: VisitorKey(visitor.parse().unwrap_or(0)) };
            found.insert(key, fingerprint(event_type.as_bytes(), original.parse().unwrap_or(0)));
        }
        Ok(())
    }
}

/// Since when to recall: as far back as there are no more than `limit` events, going by `minutes`, and not before the first of them.
fn since(minutes: &[(i64, u64)], limit: u64, until_ms: i64) -> i64 {
    let (mut events, mut since_ms) = (0, until_ms);
    for (minute_ms, more) in minutes {
        if events + more > limit {
            // As many of this minute as there is room for, if they came evenly.
            let end_ms = (minute_ms + MINUTE_MS).min(until_ms);
            let part_ms = (limit - events) as i64 * (end_ms - minute_ms).max(0) / *more as i64;
            return since_ms.min(end_ms - part_ms);
        }
        events += more;
        since_ms = since_ms.min(*minute_ms);
    }
    until_ms - RECALLED_MS
}

/// The first day on which an event can be in the table that was received at `since_ms` or later. A block is of the day of its first
/// receipt, and a client's clock may be ahead: a day of room for both.
fn first_day(since_ms: i64) -> Day {
    Arrivals::day(since_ms.saturating_sub(DAY_MS))
}

/// The suspects that go back about as far as each other, and how far that is.
fn by_span(suspects: &[Suspect]) -> Vec<(Day, Vec<&Suspect>)> {
    let first = |suspect: &Suspect| first_day(suspect.own_ms);
    let newest = suspects.iter().map(first).max().unwrap_or_default();
    let mut spans: Vec<(Day, Vec<&Suspect>)> = SPANS.iter().map(|_| (newest, Vec::new())).collect();
    for suspect in suspects {
        let day = first(suspect);
        let at = SPANS.iter().position(|span| newest - day <= *span).unwrap_or_default();
        if let Some((earliest, together)) = spans.get_mut(at) {
            *earliest = day.min(*earliest);
            together.push(suspect);
        }
    }
    spans.retain(|(_, together)| !together.is_empty());
    spans
}

/// What the table's `event_hash` is of an id.
fn hash(event_id: [u8; 16]) -> u32 {
    xxh32(&native::uuid_bytes(event_id), 0)
}

fn recalled(row: &[u8; RECALLED_BYTES]) -> EventKey {
    let (id, rest) = row.split_at(16);
    let (project, visitor) = rest.split_at(8);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let event_id = native::uuid_bytes(id.try_into().unwrap_or_default());
    EventKey { project: ProjectId(number(project)), event_id, visitor: VisitorKey(number(visitor)) }
}

#[cfg(test)]
mod tests;
