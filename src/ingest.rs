//! From HTTP to the raw topic.
//!
//! Owns the dialects in which clients send ([`protocol`]), the event contract ([`contract`]), places ([`geo`]) and the packing of
//! requests into records ([`publish`]); [`accept`] has the steps of a request. Promises: 200 only once everything accepted is durable; every event of a request has a verdict, and every
//! refused one is in the books; nothing of an address is kept but its place. May go wrong: the log refuses, and then so do
//! we, with 503 and Retry-After.

mod accept;
mod contract;
mod daily_visitor;
mod dead_letters;
mod draft;
mod envelope;
mod geo;
mod import_runs;
mod intake;
mod json_bounds;
mod properties;
mod protocol;
mod publish;
mod rate;
mod redrive;
mod refusal;
mod sanitize;
pub mod sdk;
mod tape;
mod unreadable;
mod verdict;
mod warning;
mod whole_request;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::project::Projects;

pub(crate) use accept::checked_clock;
pub use accept::{Ingest, IngestParts};
pub use geo::{Geo, GeoConfig};
pub use protocol::translate::{Spoken, Translation, translate, translate_google};
pub use redrive::Redrive;
pub use whole_request::{DecodeResult, WholeRequest};

/// `[ingest]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Largest body on the wire, bytes.
    #[serde(with = "crate::byte_size")]
    pub max_body: usize,
    /// Largest body once inflated, bytes.
    #[serde(with = "crate::byte_size")]
    pub max_inflated: usize,
    /// Most events in a request.
    pub max_events: usize,
    /// Largest event, bytes as packed.
    #[serde(with = "crate::byte_size")]
    pub max_event_size: usize,
    /// Most properties of an event, nested ones counted one by one.
    pub max_properties: usize,
    /// Deepest nesting of properties.
    pub max_depth: usize,
    /// Longest property key, bytes.
    pub max_key: usize,
    /// Longest property value, bytes; longer ones are cut and the event flagged.
    #[serde(with = "crate::byte_size")]
    pub max_value: usize,
    /// Events a second that a project may send, by all instances together where they share a Redis; 0: as many as it likes.
    pub max_rate: u64,
    /// Events, and requests that are refused, a second of one address, or of one network of IPv6, at one instance; 0: no limit.
    pub max_rate_per_client: u32,
    /// Lines a second that a project may import, in the same way.
    pub max_import_rate: u64,
    /// Oldest event accepted; imports take any time since 1970.
    #[serde(with = "humantime_serde")]
    pub max_event_age: Duration,
    /// A client's clock is corrected by `sentAt` where it differs by more: less is time on the way.
    #[serde(with = "humantime_serde")]
    pub min_clock_skew: Duration,
    /// Longest time an event waits for others to share a record with.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Bytes after which a record is sealed without waiting.
    #[serde(with = "crate::byte_size")]
    pub seal_size: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_body: 2 << 20,
            max_inflated: 8 << 20,
            max_events: 1_000,
            max_event_size: 64 << 10,
            max_properties: 256,
            max_depth: 8,
            max_key: 128,
            max_value: 8 << 10,
            max_rate: 0,
            max_rate_per_client: 0,
            max_import_rate: 0,
            max_event_age: Duration::from_secs(3 * 365 * 86_400),
            min_clock_skew: Duration::from_secs(300),
            linger: Duration::from_millis(5),
            seal_size: 256 << 10,
        }
    }
}

/// The checked form of [`IngestConfig`].
#[derive(Clone, Debug)]
pub struct IngestLimits {
    pub(crate) max_body: usize,
    pub(crate) max_inflated: usize,
    pub(crate) max_events: usize,
    pub(crate) max_event_size: usize,
    pub(crate) max_properties: usize,
    pub(crate) max_depth: usize,
    pub(crate) max_key: usize,
    pub(crate) max_value: usize,
    pub(crate) max_rate: u64,
    pub(crate) max_rate_per_client: u32,
    pub(crate) max_import_rate: u64,
    pub(crate) max_event_age_ms: i64,
    pub(crate) min_clock_skew_ms: i64,
    pub(crate) linger: Duration,
    pub(crate) seal_size: usize,
    pub(crate) projects: Projects,
}

impl IngestLimits {
    /// With what is set for single projects.
    pub fn for_projects(self, projects: Projects) -> Self {
        Self { projects, ..self }
    }
}

impl IngestConfig {
    /// The only way to make [`IngestLimits`].
    pub fn check(&self) -> Result<IngestLimits, String> {
        let positive = [
            ("max_body", self.max_body),
            ("max_inflated", self.max_inflated),
            ("max_events", self.max_events),
            ("max_event_size", self.max_event_size),
            ("max_properties", self.max_properties),
            ("max_depth", self.max_depth),
            ("max_key", self.max_key),
            ("max_value", self.max_value),
            ("seal_size", self.seal_size),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("ingest.{key}: 0 would accept nothing"));
        }
        // Who sends events is answered after that.
        if self.linger > Duration::from_secs(10) {
            return Err(format!("ingest.linger: {:?} is above 10s", self.linger));
        }
        if self.seal_size > 4 << 20 {
            return Err(format!("ingest.seal_size: {} is above 4 MiB", self.seal_size));
        }
        // Deeper than the JSON parser goes is never reached.
        if self.max_depth > 100 {
            return Err(format!("ingest.max_depth: {} is above 100", self.max_depth));
        }
        Ok(IngestLimits {
            max_body: self.max_body,
            max_inflated: self.max_inflated,
            max_events: self.max_events,
            max_event_size: self.max_event_size,
            max_properties: self.max_properties,
            max_depth: self.max_depth,
            max_key: self.max_key,
            max_value: self.max_value,
            max_rate: self.max_rate,
            max_rate_per_client: self.max_rate_per_client,
            max_import_rate: self.max_import_rate,
            max_event_age_ms: i64::try_from(self.max_event_age.as_millis()).unwrap_or(i64::MAX),
            min_clock_skew_ms: i64::try_from(self.min_clock_skew.as_millis()).unwrap_or(i64::MAX),
            linger: self.linger,
            seal_size: self.seal_size,
            projects: Projects::default(),
        })
    }
}

/// A record grows on its way: every event gets what its agent, its address and its campaign say, each of them text that it brought,
/// and the shortest event twice its size in what all get.
const GROWTH: usize = 8;

impl IngestLimits {
    /// What one request may hold, on the wire and inflated, bytes.
    pub fn largest_body(&self) -> usize {
        self.max_body.saturating_add(self.max_inflated).max(2 * import_runs::MAX_BODY)
    }

    /// What the log must take in one piece so that every record that ingest makes of events or letters fits, and whatever becomes of
    /// it later, too. Bytes.
    pub fn largest_record(&self) -> usize {
        let events = self.seal_size.saturating_add(self.seal_size.max(self.max_event_size));
        events.saturating_mul(GROWTH).max(2 * dead_letters::MAX_ORIGINAL)
    }
}

/// The paths of all dialects, as `matchit` reads them, with each method.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static hyper::Method)> {
    let of_dialect = |dialect: &&'static dyn protocol::Protocol| {
        let methods = dialect.methods();
        dialect.paths().iter().flat_map(move |path| methods.iter().map(move |method| (*path, method)))
    };
    protocol::PROTOCOLS.iter().flat_map(of_dialect)
}

#[cfg(test)]
mod tests;
