//! What the tests of the role share: a request, and a log in memory.

mod allocations;
pub(super) mod fake_log;

use super::geo::RequestGeo;
use super::{Geo, IngestConfig, IngestLimits, Request};
use crate::event::ids::ProjectId;

/// When the requests of the tests are received.
pub(super) const NOW: i64 = 1_790_000_000_000;

pub(super) fn limits() -> IngestLimits {
    IngestConfig::default().check().unwrap()
}

/// A request from nowhere in particular, for four partitions.
pub(super) fn with_request<T>(run: impl FnOnce(&Request<'_>) -> T) -> T {
    let geo = Geo::default();
    let geo = RequestGeo::new(&geo);
    run(&Request {
        project: ProjectId(1),
        partitions: 4,
        received_ms: NOW,
        sent_ms: None,
        fallback_id: None,
        flags: 0,
        user_agent: "",
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        geo: &geo,
        is_import: false,
    })
}
