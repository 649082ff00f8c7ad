//! `POST /v1/import`: history, line by line. What is no event is kept as a dead letter, never refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use serde::Serialize;

use super::decode::{self, Decoded};
use super::properties::clip;
use super::publish::{self, ImportRecord};
use super::{IngestLimits, Request};
use crate::event::dead_letter::{DEAD_LINE_MARK, DeadLetter, DeadLetterId, DeadLine, LogPosition};
use crate::event::ids::ProjectId;
use crate::event::mask;
use crate::http::respond::ApiError;
use crate::outcome::DeadReason;

/// A record of letters takes no more once it is this large, bytes.
const FULL: usize = 256 << 10;
/// Largest body, on the wire and inflated, bytes: the batches of `pulse import` and the longest line behind one.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Most lines in one request.
pub(super) const MAX_LINES: usize = 10_000;
/// Of what is larger only the beginning is kept in its letter, bytes: as much as `pulse import` keeps of a line. A letter fits a record
/// of the log whatever it holds.
pub(super) const MAX_ORIGINAL: usize = 1 << 20;
/// Longest message of a letter, bytes: a request of many short lines must not become a hundred times as large.
const MAX_MESSAGE: usize = 300;
/// Longest run of bytes of which an address may be a part.
const LONGEST_RUN: usize = 128;
/// Longest name of where lines come from, bytes.
const MAX_SOURCE: usize = 255;

/// The runs of the last hour. Each has books of its own in every block, which are kept as long as the events and read by every ledger:
/// one that is made up for each request would cost more than its events.
#[derive(Default)]
pub(super) struct Runs {
    by_project: Mutex<HashMap<ProjectId, (i64, HashSet<u64>)>>,
}

/// Most runs of a project that begin or go on in an hour.
const MAX_RUNS: usize = 1_000;
const HOUR_MS: i64 = 3_600_000;

impl Runs {
    /// Refuses a run that is one too many in the hour of `now_ms`.
    pub(super) fn admit(&self, project: ProjectId, run: u64, now_ms: i64) -> Result<(), ApiError> {
        let hour = now_ms.div_euclid(HOUR_MS);
        let mut by_project = self.by_project.lock().unwrap_or_else(PoisonError::into_inner);
        let (of_hour, runs) = by_project.entry(project).or_default();
        if *of_hour != hour {
            (*of_hour, *runs) = (hour, HashSet::new());
        }
        if runs.len() < MAX_RUNS || runs.contains(&run) {
            runs.insert(run);
            return Ok(());
        }
        let seconds = ((hour + 1) * HOUR_MS - now_ms) / 1_000 + 1;
        let message = format!("more than {MAX_RUNS} runs in an hour; give the batches of an import the same `run`");
        let retry_after = Some(u32::try_from(seconds).unwrap_or(1));
        Err(ApiError { retry_after, ..ApiError::new(hyper::StatusCode::TOO_MANY_REQUESTS, "too_many_runs", message) })
    }
}

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
    id: DeadLetterId,
}

impl<'s> Letters<'s> {
    pub(super) fn new(request: Request<'s>, source_name: &'s str) -> Self {
        Self { request, source_name, records: Vec::new(), refused: Vec::new() }
    }

    fn put(&mut self, told: &Told<'_>) {
        let Told { reason, message, line, original, id } = *told;
        // Masks may be longer than what they stand for.
        let (original, message) = (original.get(..MAX_ORIGINAL).unwrap_or(original), clip(message, MAX_MESSAGE));
        if self.records.last().is_none_or(|record| record.bytes.len() >= FULL) {
            self.records.push(publish::Letters::default());
        }
        let Some(record) = self.records.last_mut() else { return };
        record.count += 1;
        DeadLetter {
            project: self.request.project,
            received_ms: self.request.received_ms,
            reason,
            message,
            source: self.source_name,
            line,
            original,
            id,
            position: LogPosition::UNKNOWN,
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
        let original = mask::without_address(beginning(original));
        let id = DeadLetterId::of_event(&original);
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
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut decoded = Decoded::new(letters.request.partitions);
    let request = letters.request;
    for (index, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).enumerate() {
        if index >= MAX_LINES {
            return Err(decode::too_many(MAX_LINES));
        }
        if line.starts_with(DEAD_LINE_MARK) {
            dead_line(line, letters)?;
            continue;
        }
        decode::alone(line, index, &request, limits, &mut decoded);
        for rejected in decoded.rejected.drain(..) {
            letters.refuse((index, line), &rejected);
        }
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
    let original = mask::masked(beginning(&original), |_| mask::ADDRESS.to_owned());
    let message = mask::masked_text(&dead.message, |_| mask::ADDRESS.to_owned());
    let id = if dead.id.is_empty() { DeadLetterId::NONE } else { DeadLetterId::of(&dead.id) };
    letters.put(&Told { reason: DeadReason::LineMalformed, message: &message, line: dead.line, original: &original, id });
    Ok(())
}

/// As much of a line as a letter keeps. What may be an address is not cut in the middle: half of one would not be known as one.
fn beginning(original: &[u8]) -> &[u8] {
    let Some(kept) = original.get(..MAX_ORIGINAL).filter(|kept| kept.len() < original.len()) else { return original };
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let run = kept.iter().rev().take_while(|byte| is_of_address(byte)).take(LONGEST_RUN).count();
    // A longer one is no address.
    let end = if run < LONGEST_RUN { kept.len() - run } else { kept.len() };
    kept.get(..end).unwrap_or(kept)
}
/// `run` and `source` of an import's address.
pub(super) fn query(query: &str) -> Result<(u64, String), ApiError> {
    let find = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let (run, source) = (find("run").unwrap_or_default(), find("source").unwrap_or_default());
    if source.len() > MAX_SOURCE {
        return Err(ApiError::bad_request("invalid_source", format!("`source` has {} bytes, more than {MAX_SOURCE}", source.len())));
    }
    match run.parse() {
        Ok(run) if run > 0 => Ok((run, source)),
        _ => Err(ApiError::bad_request("invalid_run", format!("`run` is `{}`, not a positive number", clip(&run, 60)))),
    }
}

#[cfg(test)]
mod tests;
