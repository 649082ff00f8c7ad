//! What the tests of the role share: a request, and a log in memory.

mod allocations;
pub(super) mod fake_log;
mod golden;

use super::geo::RequestGeo;
use super::{Geo, IngestConfig, IngestLimits, Request, decode};
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

/// What a body is packed into: the number of events of each partition, and their bytes.
fn packed(body: &[u8], is_lines: bool) -> Vec<(u32, Vec<u8>)> {
    let decode = if is_lines { decode::lines } else { decode::body };
    let decoded = with_request(|request| decode(body, request, &limits()));
    decoded.map_or_else(|_| Vec::new(), |decoded| decoded.partitions.into_iter().map(|packed| (packed.events, packed.bytes)).collect())
}
