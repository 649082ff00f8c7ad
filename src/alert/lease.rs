//! Who owns the alerts: one instance at a time, as far as possible.
//!
//! The lease is a row that is saved by version: of two who take it at once one wins. It needs nothing but the store that the alerts need
//! anyway. It saves work and guards nothing: what guards is the fence ([`crate::store::tables::alert_states`]), so clocks that disagree
//! cost a change of owner and no more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::millis;
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::event::ids::ProjectId;
use crate::store::tables::saved::{self, Saved, Shelf};

/// How long a lease lasts, and how often it is renewed.
const KEPT: Duration = Duration::from_secs(15);
pub(crate) const RENEW: Duration = Duration::from_secs(4);
const SHELF: Shelf = Shelf { project: ProjectId::BOOKS, kind: "alert_owner" };
const NAME: &str = "owner";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Held {
    holder: String,
    until_ms: i64,
}

/// The lease, as one instance knows it.
pub(crate) struct Lease {
    store: ClickHouse,
    holder: String,
}

impl Lease {
    pub(crate) fn new(store: ClickHouse) -> Self {
        Self { store, holder: uuid::Uuid::new_v4().to_string() }
    }

    /// Takes or renews it; whether it is ours then.
    pub(crate) async fn take(&self, now_ms: i64) -> Result<bool, ClickHouseError> {
        let last = saved::all(&self.store, SHELF).await?.into_iter().find(|saved| saved.name == NAME);
        let held: Held = last.as_ref().and_then(|saved| serde_json::from_str(&saved.body).ok()).unwrap_or_default();
        // One that is said to last longer than it can was taken by a clock that was ahead.
        let lasts = held.until_ms > now_ms && held.until_ms <= now_ms + 2 * millis(KEPT);
        if held.holder != self.holder && lasts {
            return Ok(false);
        }
        self.write(last.map_or(0, |saved| saved.version), now_ms + millis(KEPT)).await
    }

    /// Gives it back, if it is ours.
    pub(crate) async fn release(&self) -> Result<(), ClickHouseError> {
        let last = saved::all(&self.store, SHELF).await?.into_iter().find(|saved| saved.name == NAME);
        let is_ours = |saved: &Saved| serde_json::from_str(&saved.body).is_ok_and(|held: Held| held.holder == self.holder);
        match last.filter(is_ours) {
            Some(saved) => self.write(saved.version, 0).await.map(drop),
            None => Ok(()),
        }
    }

    async fn write(&self, version: u64, until_ms: i64) -> Result<bool, ClickHouseError> {
        let body = serde_json::to_string(&Held { holder: self.holder.clone(), until_ms }).unwrap_or_default();
        saved::put(&self.store, SHELF, &Saved { name: NAME.to_owned(), version: version + 1, body }).await
    }
}
