//! What the table has of the past: the ids that are recalled when a partition is taken, and those that are looked up.
//!
//! Promises: what is read is bounded, however large the table is. Recalled are the receipts of the last minutes, of whose number the
//! books tell first. Looked up is in the index of ids (the projection `ids`), in the days only on which a copy can have been received.

use std::collections::HashMap;

use super::super::block::{DuplicateCandidate, fingerprint};
use super::super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::super::error::TableError;
use crate::clickhouse::{Client, Statement, TableName, Whole, native};
use crate::clock;
use crate::event::ids::{ProjectId, VisitorKey};
use crate::store::books::{self, Held, IS_EVENT, Minute, PartitionKey, Since};
use crate::store::data_version::{DataVersions, Day};
use crate::store::tables::events::event_hash;

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
/// Days back from the newest one: what goes as far back as each other is asked for together, for each id costs a look into each part.
const SPANS: [Day; 4] = [1, 7, 30, Day::MAX];

/// The table as one partition of the log reads it.
pub(super) struct Past<'a> {
    /// The server that has the rows.
    pub(super) server: &'a Client,
    /// The table.
    pub(super) events: &'a TableName,
    pub(super) key: PartitionKey,
    /// Partitions of the log.
    pub(super) partitions: u16,
}

impl Past<'_> {
    /// A memory of the last minutes within `bytes`. `held` is what the server has.
    pub(super) async fn recall(&self, held: &[Held], bytes: usize) -> Result<Dedupe, TableError> {
        let ours = held.iter().filter(|held| held.key == self.key).map(|held| held.newest_ms).max();
        // Of a partition that has begun elsewhere (before there were more of them, or in another log) the visitors may have events.
        let Some(newest_ms) = ours.or_else(|| held.iter().map(|held| held.newest_ms).max()) else {
            return Ok(Dedupe::new(bytes, i64::MIN));
        };
        let limit = Dedupe::capacity(bytes).min(RECALLED_EVENTS);
        // A clock that is far ahead must not make everyone else's events the distant past.
        let until_ms = newest_ms.min(clock::now_ms());
        let minutes = self.minutes(until_ms - RECALLED_MS, ours.is_some()).await?;
        let since_ms = since(&minutes, limit, Back { until_ms, span_ms: RECALLED_MS });
        let mut dedupe = Dedupe::new(bytes, since_ms);
        let to = Statement::of("SELECT event_id, project_id, visitor_id FROM ").table(self.events).sql(" WHERE ").sql(IS_EVENT);
        let to = to.sql(" AND received_day >= toDate(").uint16(first_day(since_ms));
        let to = to.sql(") AND received_at >= fromUnixTimestamp64Milli(").int(since_ms);
        let to = to.sql(") AND bitShiftRight(bitShiftRight(visitor_id, 32) * ").uint(self.partitions.into());
        let statement = to.sql(", 32) = ").uint(self.key.partition.into());
        let remember = |row: &[u8; RECALLED_BYTES]| dedupe.recall(recalled(row), newest_ms);
        self.server.each(&statement, remember).await?;
        Ok(dedupe)
    }

    /// How many events were stored, by the minute of receipt, newest first. Of all partitions if this one has none.
    pub(super) async fn minutes(&self, since_ms: i64, only_ours: bool) -> Result<Vec<Minute>, TableError> {
        let since = Since { at_ms: since_ms, first_day: first_day(since_ms) };
        Ok(books::minutes(self.server, self.events, since, only_ours.then_some(self.key.partition)).await?)
    }

    /// Which of the candidates the table has.
    pub(super) async fn find(&self, candidates: &[DuplicateCandidate]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        let mut found = HashMap::new();
        for (day, together) in by_span(candidates, |candidate| first_day(candidate.earliest_ms)) {
            for chunk in together.chunks(IDS_PER_STATEMENT) {
                self.find_since(day, chunk, &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn find_since(
        &self,
        day: Day,
        candidates: &[&DuplicateCandidate],
        found: &mut HashMap<EventKey, Fingerprint>,
    ) -> Result<(), TableError> {
        // The index is asked by hash; the id decides. The limits are for tables at hand, which are smaller than what the index saves.
        let to = Statement::of("SELECT project_id, event_id, visitor_id, type, toUnixTimestamp64Milli(original_timestamp) FROM ");
        let to = to.table(self.events).sql(" WHERE received_day >= toDate(").uint16(day).sql(") AND ").sql(IS_EVENT);
        let to = to.sql(" AND event_hash IN ").uints32(candidates.iter().map(|candidate| event_hash(candidate.key.event_id)));
        let to = to.sql(" AND event_id IN ").uuids(candidates.iter().map(|candidate| candidate.key.event_id));
        let statement =
            to.sql(" SETTINGS min_table_rows_to_use_projection_index = 0, max_projection_rows_to_use_projection_index = 1000000000000");
        let rows: Vec<Found> = self.server.rows(&statement).await?;
        for (project, id, visitor, event_type, original) in rows {
            let key = EventKey { project: ProjectId(project.0), event_id: id.into_bytes(), visitor: VisitorKey(visitor.0) };
            found.insert(key, fingerprint(event_type.as_bytes(), original.0));
        }
        Ok(())
    }
}

/// An event that the table has: project, id, visitor, type and the client's time.
type Found = (Whole<u64>, uuid::Uuid, Whole<u64>, String, Whole<i64>);

/// A time of receipt, and how far back from there to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Back {
    pub(super) until_ms: i64,
    pub(super) span_ms: i64,
}

/// Since when to recall: as far back as there are no more than `limit` events, going by `minutes`, and not before the first of them.
pub(super) fn since(minutes: &[Minute], limit: u64, back: Back) -> i64 {
    let Back { until_ms, span_ms } = back;
    let (mut events, mut since_ms) = (0, until_ms);
    for Minute { at_ms: minute_ms, events: more } in minutes {
        if events + more > limit {
            // As many of this minute as there is room for, if they came evenly.
            let end_ms = (minute_ms + MINUTE_MS).min(until_ms);
            let part_ms = (limit - events) as i64 * (end_ms - minute_ms).max(0) / *more as i64;
            return since_ms.min(end_ms - part_ms);
        }
        events += more;
        since_ms = since_ms.min(*minute_ms);
    }
    until_ms - span_ms
}

/// The first day on which an event can be in the table that was received at `since_ms` or later. A block is of the day of its first
/// receipt, and a client's clock may be ahead: a day of room for both.
fn first_day(since_ms: i64) -> Day {
    DataVersions::day(since_ms.saturating_sub(DAY_MS))
}

/// What goes back about as far as each other, and how far that is, by the first day of each.
pub(super) fn by_span<T>(asked: &[T], first: impl Fn(&T) -> Day) -> Vec<(Day, Vec<&T>)> {
    let newest = asked.iter().map(&first).max().unwrap_or_default();
    let mut spans: Vec<(Day, Vec<&T>)> = SPANS.iter().map(|_| (newest, Vec::new())).collect();
    for one in asked {
        let day = first(one);
        let at = SPANS.iter().position(|span| newest - day <= *span).unwrap_or_default();
        if let Some((earliest, together)) = spans.get_mut(at) {
            *earliest = day.min(*earliest);
            together.push(one);
        }
    }
    spans.retain(|(_, together)| !together.is_empty());
    spans
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
