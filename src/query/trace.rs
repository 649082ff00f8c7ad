//! What became of an event: where it is stored and as what, or why it is dead.
//!
//! A copy is no row: it is counted in the ledger, and the trace of its id shows the one that was stored, of which it is a copy. An id names an
//! event of a visitor, so several visitors may have one each. What is neither stored nor dead has not arrived, or is on its way:
//! `data_through` says up to when everything that was received has ended.
//! Cost: the index of ids is asked, then one row is read for each event that is shown, in the part that has it; a dead letter is found by its
//! key. At most [`MOST`] of each are shown. May go wrong: a letter whose bytes hold no id cannot be found by one.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::ask::fields::shortened;
use super::ask::range::show_ms;
use super::ask::selection::Traffic;
use super::error::QueryError;
use super::reader::{StatementRunner, to_json};
use super::report::Report as _;
use super::report::dead_letters;
use super::report::events::{EventPlace, Events};
use super::{Inner, Queries};
use crate::clickhouse::ClickHouse;
use crate::event::dead_letter::DeadLetterId;
use crate::event::ids::{PersonKey, ProjectId, VisitorKey, event_id_of};
use crate::store::tables::events::{self, EventQuery, StoredEvent};

/// Most events of an id that are shown, and most letters.
const MOST: u64 = 10;

/// Which event is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedTrace<'a> {
    /// What its client calls it.
    pub(super) event_id: &'a str,
    /// The parameters: `visitor`, what its `anonymousId` is, or its `userId` if it has no other.
    pub(super) query: &'a str,
}

impl Queries {
    /// What became of an event, at `now_ms`.
    ///
    /// # Errors
    /// 400 `invalid_event_id`, `invalid_parameter`; 503 where there is no store.
    pub(super) async fn trace(&self, project: ProjectId, asked: AskedTrace<'_>, now_ms: i64) -> Result<Vec<u8>, QueryError> {
        let refused = || format!("`{}` can be no id of an event", shortened(asked.event_id));
        let id = event_id_of(asked.event_id).ok_or_else(|| QueryError::invalid("invalid_event_id", refused()))?;
        let visitor = visitor(project, asked.query)?;
        let Inner { reader, data_through, people, store, .. } = &*self.0;
        let store = store.as_ref().ok_or_else(|| QueryError::unavailable("store_unavailable", "no events are stored here"))?;
        let mut runner = reader.begin(project, now_ms).await?;
        runner.look_at(Traffic::All);
        let through_ms = runner.within_deadline(data_through.at(reader, now_ms)).await?;
        if let Some(people) = people {
            let map = runner.within_deadline(people.map(project)).await??;
            runner.set_people(map);
        }
        let query = EventQuery { project, id, visitor, limit: MOST };
        let stored = Trace { store, query }.stored(&mut runner).await?;
        let dead = dead_letters::of_id(DeadLetterId::of(asked.event_id.trim()), MOST, &mut runner).await?;
        let status = match (stored.is_empty(), dead.is_empty()) {
            (false, _) => "stored",
            (true, false) => "dead",
            (true, true) => "unknown",
        };
        to_json(&Answer {
            event_id: asked.event_id,
            id: uuid::Uuid::from_bytes(id).to_string(),
            status,
            stored,
            dead,
            data_through: through_ms.map(show_ms),
            rows_read: runner.rows_read(),
        })
    }
}

/// The visitor under `visitor`.
fn visitor(project: ProjectId, query: &str) -> Result<Option<VisitorKey>, QueryError> {
    let mut visitor = None;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if key != "visitor" {
            let message = format!("unknown parameter `{}`: visitor is known", shortened(&key));
            return Err(QueryError::invalid("invalid_parameter", message));
        }
        visitor = Some(VisitorKey::of(project, &value));
    }
    Ok(visitor)
}

/// Where it is looked, and for what.
struct Trace<'a> {
    store: &'a ClickHouse,
    query: EventQuery,
}

impl Trace<'_> {
    async fn stored(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<ShownStored>, QueryError> {
        let found = runner.within_deadline(events::of_id(self.store, self.query)).await?;
        let found = found.map_err(|problem| QueryError::of_store(problem.class()))?;
        runner.add_rows_read(found.rows_read);
        let mut stored = Vec::new();
        for event in found.events.into_iter().take(MOST as usize) {
            stored.push(self.shown(&event, runner).await?);
        }
        Ok(stored)
    }

    /// A stored event as it is now, with what is said of its session and its person.
    async fn shown(&self, event: &StoredEvent, runner: &mut StatementRunner<'_>) -> Result<ShownStored, QueryError> {
        let StoredEvent { shard, visitor, event_type, at_ms, received_ms, day, user_id, anonymous_id, log } = event;
        let place = EventPlace { id: self.query.id, visitor: *visitor, event_type, at_ms: *at_ms, day: *day };
        let page = Events::at(place)?.answer(runner).await?;
        let page: Page = serde_json::from_slice(&page).map_err(|_| QueryError::internal("the event cannot be read"))?;
        let id = if user_id.is_empty() { anonymous_id } else { user_id };
        let person = runner.people().person(PersonKey::of(self.query.project, id), *at_ms);
        Ok(ShownStored {
            event: page.events.into_iter().next(),
            person: format!("{:016x}", person.0),
            visitor: format!("{:016x}", visitor.0),
            received_at: show_ms(*received_ms),
            shard: shard + 1,
            log: json!({"epoch": format!("{:016x}", log.epoch), "partition": log.partition, "offset": log.offset}),
        })
    }
}

#[derive(serde::Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    event_id: &'a str,
    /// As the table has it.
    id: String,
    status: &'static str,
    stored: Vec<ShownStored>,
    dead: Vec<Value>,
    #[serde(rename = "data_through")]
    data_through: Option<String>,
    #[serde(rename = "rows_read")]
    rows_read: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStored {
    /// None if it was erased meanwhile.
    event: Option<Box<RawValue>>,
    person: String,
    visitor: String,
    received_at: String,
    /// Counted from 1.
    shard: usize,
    log: Value,
}
