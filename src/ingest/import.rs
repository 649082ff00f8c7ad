//! `POST /v1/import`: history, line by line. What is no event is kept as a dead letter, never refused.

use base64::Engine;
use serde::Serialize;

use super::decode::{self, Decoded};
use super::publish::{self, ImportRecord};
use super::{IngestLimits, Request};
use crate::event::letter::{DEAD_LINE_MARK, DeadLine, Letter, LetterId, Place};
use crate::event::mask;
use crate::http::respond::ApiError;
use crate::outcome::DeadReason;

/// A record of letters takes no more once it is this large, bytes.
const FULL: usize = 256 << 10;
/// Most lines in one request.
pub(super) const MAX_LINES: usize = 10_000;

/// Why events of a request were refused: how many for one reason, and the first of them.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    code: &'static str,
    count: u32,
    /// Which line of the request, counted from 0.
    index: usize,
    message: String,
}

/// The letters of one request.
pub(super) struct Letters<'s> {
    request: Request<'s>,
    source_name: &'s str,
    records: Vec<publish::Letters>,
    /// As many as there are defects at most.
    refused: Vec<Refused>,
}

/// What one letter says.
struct Told<'l> {
    reason: DeadReason,
    message: &'l str,
    line: u64,
    original: &'l [u8],
    id: LetterId,
}

impl<'s> Letters<'s> {
    pub(super) fn new(request: Request<'s>, source_name: &'s str) -> Self {
        Self { request, source_name, records: Vec::new(), refused: Vec::new() }
    }

    fn put(&mut self, told: &Told<'_>) {
        let Told { reason, message, line, original, id } = *told;
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
            id,
            place: Place::UNKNOWN,
        }
        .put(&mut record.bytes);
    }

    /// Number of letters.
    pub(super) fn count(&self) -> u32 {
        self.records.iter().map(|record| record.count).sum()
    }

    /// Why events were refused.
    pub(super) fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// An event that ingest refuses, kept without its address.
    fn refuse(&mut self, (index, original): (usize, &[u8]), rejected: &decode::Rejected) {
        let code = rejected.defect.as_str();
        let message = mask::masked_text(&format!("{code}: {}", rejected.message), |_| mask::ADDRESS.to_owned());
        let original = mask::without_address(original);
        let id = LetterId::of_event(&original);
        self.put(&Told { reason: DeadReason::EventInvalid, message: &message, line: 0, original: &original, id });
        match self.refused.iter_mut().find(|refused| refused.code == code) {
            Some(refused) => refused.count += 1,
            None => self.refused.push(Refused { code, count: 1, index, message }),
        }
    }

    pub(super) fn into_record(self, source: u64) -> ImportRecord {
        ImportRecord { source, letters: self.records }
    }
}

/// Takes a body apart: events are packed, everything else becomes a letter.
pub(super) fn lines(bytes: &[u8], letters: &mut Letters<'_>, limits: &IngestLimits) -> Result<Decoded, ApiError> {
    let mut events = Vec::with_capacity(bytes.len());
    let mut originals: Vec<(usize, &[u8])> = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).enumerate() {
        if line.starts_with(DEAD_LINE_MARK) {
            dead_line(line, letters)?;
        } else {
            events.extend_from_slice(line);
            events.push(b'\n');
            originals.push((index, line));
        }
    }
    let mut decoded = Decoded::new(letters.request.partitions);
    if !originals.is_empty() {
        let limits = IngestLimits { max_events: MAX_LINES, ..limits.clone() };
        decoded = decode::lines(&events, &letters.request, &limits)?;
    }
    for rejected in std::mem::take(&mut decoded.rejected) {
        letters.refuse(originals.get(rejected.index).copied().unwrap_or_default(), &rejected);
    }
    Ok(decoded)
}

/// A line that stands for one that is no event.
fn dead_line(line: &[u8], letters: &mut Letters<'_>) -> Result<(), ApiError> {
    let DeadLine { dead } = serde_json::from_slice(line)
        .map_err(|problem| ApiError::bad_request("invalid_json", format!("a `$dead` line cannot be read: {problem}")))?;
    let original = base64::engine::general_purpose::STANDARD.decode(dead.original_base64.as_bytes());
    let original = original.map_err(|problem| ApiError::bad_request("invalid_json", format!("`original_base64`: {problem}")))?;
    // The importer has masked what it took for an address, with a name for each; what is left of them goes here.
    let original = mask::masked(&original, |_| mask::ADDRESS.to_owned());
    let message = mask::masked_text(&dead.message, |_| mask::ADDRESS.to_owned());
    let id = if dead.id.is_empty() { LetterId::NONE } else { LetterId::of(&dead.id) };
    letters.put(&Told { reason: DeadReason::LineMalformed, message: &message, line: dead.line, original: &original, id });
    Ok(())
}
