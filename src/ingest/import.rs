//! `POST /v1/import`: history, line by line. What is no event is kept as a dead letter, never refused.

use base64::Engine;
use serde::Deserialize;

use super::decode::{self, Decoded};
use super::publish::{self, ImportRecord};
use super::{IngestLimits, Request};
use crate::event::letter::{Letter, Place};
use crate::http::respond::ApiError;
use crate::outcome::DeadReason;

/// A record of letters takes no more once it is this large, bytes.
const FULL: usize = 256 << 10;
/// Most lines in one request.
pub(super) const MAX_LINES: usize = 10_000;

/// A line that the importer could not make an event of.
#[derive(Deserialize)]
struct DeadLine {
    #[serde(rename = "$dead")]
    dead: Dead,
}

#[derive(Deserialize)]
struct Dead {
    message: String,
    #[serde(default)]
    line: u64,
    original_base64: String,
}

/// The letters of one request.
pub(super) struct Letters<'s> {
    request: Request<'s>,
    source_name: &'s str,
    records: Vec<publish::Letters>,
}

impl<'s> Letters<'s> {
    pub(super) fn new(request: Request<'s>, source_name: &'s str) -> Self {
        Self { request, source_name, records: Vec::new() }
    }

    fn put(&mut self, reason: DeadReason, message: &str, (line, original): (u64, &[u8])) {
        if self.records.last().is_none_or(|record| record.bytes.len() >= FULL) {
            self.records.push(publish::Letters::default());
        }
        let Some(record) = self.records.last_mut() else { return };
        record.count += 1;
        Letter {
            project: self.request.project,
            received_ms: self.request.received_ms,
            reason,
            message,
            source: self.source_name,
            line,
            original,
            place: Place::UNKNOWN,
        }
        .put(&mut record.bytes);
    }

    /// Number of letters.
    pub(super) fn count(&self) -> u32 {
        self.records.iter().map(|record| record.count).sum()
    }

    pub(super) fn into_record(self, source: u64) -> ImportRecord {
        ImportRecord { source, letters: self.records }
    }
}

/// Takes a body apart: events are packed, everything else becomes a letter.
pub(super) fn lines(bytes: &[u8], letters: &mut Letters<'_>, limits: &IngestLimits) -> Result<Decoded, ApiError> {
    let mut events = Vec::with_capacity(bytes.len());
    let mut originals: Vec<&[u8]> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        if line.starts_with(b"{\"$dead\"") {
            let dead: DeadLine = serde_json::from_slice(line)
                .map_err(|problem| ApiError::bad_request("invalid_json", format!("a `$dead` line cannot be read: {problem}")))?;
            let original = base64::engine::general_purpose::STANDARD.decode(&dead.dead.original_base64);
            let original = original.map_err(|problem| ApiError::bad_request("invalid_json", format!("`original_base64`: {problem}")))?;
            letters.put(DeadReason::LineMalformed, &dead.dead.message, (dead.dead.line, &original));
        } else {
            events.extend_from_slice(line);
            events.push(b'\n');
            originals.push(line);
        }
    }
    let mut decoded = Decoded::new(letters.request.partitions);
    if !originals.is_empty() {
        let limits = IngestLimits { max_events: MAX_LINES, ..limits.clone() };
        decoded = decode::lines(&events, &letters.request, &limits)?;
    }
    for rejected in std::mem::take(&mut decoded.rejected) {
        let message = format!("{}: {}", rejected.defect.as_str(), rejected.message);
        letters.put(DeadReason::EventInvalid, &message, (0, originals.get(rejected.index).copied().unwrap_or_default()));
    }
    Ok(decoded)
}
