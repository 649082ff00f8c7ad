//! What the tests of the role share: a request, and a log in memory.

mod allocations;
pub(super) mod fake_log;
mod faults;
mod fuzz;
mod golden;
pub(super) mod read;

use super::contract::RequestFacts;
use super::envelope::{self, Envelope};
use super::geo::RequestGeo;
use super::intake::{Intake, Sender};
use super::protocol::pulse::{self, ENVELOPE};
use super::refusal::Refusal;
use super::verdict::Decoded;
use super::{Geo, IngestConfig, IngestLimits};
use crate::event::ids::ProjectId;

/// Whose the requests of the tests are.
pub(super) const SHOP: ProjectId = ProjectId(1);
/// When the requests of the tests are received.
pub(super) const NOW: i64 = 1_790_000_000_000;

pub(super) fn limits() -> IngestLimits {
    IngestConfig::default().check().unwrap()
}

/// Requests as SDKs send them, recorded by `tests/sdk/record.cjs`, by the names of their files.
pub(super) fn recorded() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/requests");
    let mut files: Vec<std::path::PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())).collect()
}

/// What a request from nowhere in particular becomes in four partitions.
pub(super) fn decoded_as(
    project: ProjectId,
    change: impl FnOnce(&mut RequestFacts<'_>),
    read: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>,
) -> Result<Decoded, Refusal> {
    decoded_of(Sender::Known(project), change, read)
}

/// What the events of a request from nowhere in particular have in common.
pub(super) fn facts<'r>(geo: &'r RequestGeo<'r>) -> RequestFacts<'r> {
    RequestFacts {
        partitions: 4,
        received_ms: NOW,
        sent_ms: None,
        fallback_id: None,
        flags: 0,
        user_agent: "",
        cookies: "",
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        is_of_server: false,
        geo,
        is_import: false,
        secrets: None,
    }
}

/// As [`decoded_as`], for a sender who is known or whose key is in the body.
pub(super) fn decoded_of(
    sender: Sender<'_>,
    change: impl FnOnce(&mut RequestFacts<'_>),
    read: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>,
) -> Result<Decoded, Refusal> {
    let (geo, limits) = (Geo::default(), limits());
    let geo = RequestGeo::new(&geo);
    let mut request = facts(&geo);
    change(&mut request);
    let mut intake = Intake::new(sender, request, &limits);
    read(&mut intake)?;
    intake.finish()
}

/// A body of pulse's own dialect.
pub(super) fn body(bytes: &[u8]) -> Result<Decoded, Refusal> {
    const PULSE: &Envelope = &ENVELOPE;
    decoded_as(SHOP, |_| {}, |intake| envelope::json(bytes, PULSE, intake))
}

/// The same, line by line.
pub(super) fn lines(bytes: &[u8]) -> Result<Decoded, Refusal> {
    lines_of(SHOP, bytes)
}

/// The same for another project.
pub(super) fn lines_of(project: ProjectId, bytes: &[u8]) -> Result<Decoded, Refusal> {
    decoded_as(project, |_| {}, |intake| envelope::lines(bytes, &pulse::ENVELOPE, intake))
}

/// What a body is packed into: the number of events of each partition, and their bytes.
fn packed(bytes: &[u8], is_lines: bool) -> Vec<(u32, Vec<u8>)> {
    let decoded = if is_lines { lines(bytes) } else { body(bytes) };
    decoded.map_or_else(|_| Vec::new(), |decoded| decoded.partitions.into_iter().map(|packed| (packed.events, packed.bytes)).collect())
}
