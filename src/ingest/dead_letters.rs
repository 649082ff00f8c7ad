//! Dead letters of an import: lines that are no event, kept with the reason and without addresses.
//!
//! Promises: a letter fits a record of the log whatever its line holds.

use super::verdict::{LetterBatch, Reason, Rejected};
use crate::event::dead_letter::{DeadLetter, DeadLetterId, LogPosition};
use crate::event::ids::ProjectId;
use crate::event::mask;
use crate::event::text::clip;
use crate::outcome::DeadReason;

/// A record of letters takes no more once it is this large, bytes.
pub(super) const FULL: usize = 256 << 10;
/// Of what is larger only the beginning is kept in its letter, bytes: as much as `pulse import` keeps of a line.
pub(super) const MAX_ORIGINAL: usize = 1 << 20;
/// Longest message of a letter, bytes: a request of many short lines must not become a hundred times as large.
pub(super) const MAX_MESSAGE: usize = 300;
/// Longest run of bytes of which an address may be a part.
const LONGEST_RUN: usize = 128;

/// The letters of one request.
pub(super) struct DeadLetters<'s> {
    project: ProjectId,
    received_ms: i64,
    /// The name of the file or server that the lines are from.
    source: &'s str,
    batches: Vec<LetterBatch>,
    /// As many as there are defects at most.
    reasons: Vec<Reason>,
}

/// A line that is no event, as it goes into a letter.
pub(super) struct DeadEntry<'l> {
    pub(super) reason: DeadReason,
    pub(super) message: &'l str,
    /// Its number in the file; 0 if unknown.
    pub(super) line: u64,
    pub(super) original: &'l [u8],
    pub(super) id: DeadLetterId,
}

impl<'s> DeadLetters<'s> {
    pub(super) fn new(project: ProjectId, received_ms: i64, source: &'s str) -> Self {
        Self { project, received_ms, source, batches: Vec::new(), reasons: Vec::new() }
    }

    pub(super) fn put(&mut self, entry: &DeadEntry<'_>) {
        let DeadEntry { reason, message, line, original, id } = *entry;
        // Masks may be longer than what they stand for.
        let (original, message) = (original.get(..MAX_ORIGINAL).unwrap_or(original), clip(message, MAX_MESSAGE));
        if self.batches.last().is_none_or(|batch| batch.bytes.len() >= FULL) {
            self.batches.push(LetterBatch::default());
        }
        let Some(batch) = self.batches.last_mut() else { return };
        batch.count += 1;
        let (project, received_ms, source, position) = (self.project, self.received_ms, self.source, LogPosition::UNKNOWN);
        DeadLetter { project, received_ms, reason, message, source, line, original, id, position }.put(&mut batch.bytes);
    }

    /// Number of letters.
    pub(super) fn count(&self) -> u32 {
        self.batches.iter().map(|batch| batch.count).sum()
    }

    /// An event that the contract refuses, kept without its address. `index` counts the lines of the request.
    pub(super) fn refuse(&mut self, index: usize, original: &[u8], rejected: &Rejected) {
        let code = rejected.defect.as_str();
        let message = mask::masked_text(&format!("{code}: {}", rejected.message), |_| mask::ADDRESS.to_owned());
        let original = mask::without_address(beginning(original));
        let id = DeadLetterId::of_event(&original);
        self.put(&DeadEntry { reason: DeadReason::EventInvalid, message: &message, line: 0, original: &original, id });
        match self.reasons.iter_mut().find(|reason| reason.code == code) {
            Some(reason) => reason.count += 1,
            None => self.reasons.push(Reason { code, count: 1, index, message }),
        }
    }

    /// Letters by record, and why events were refused.
    pub(super) fn into_parts(self) -> (Vec<LetterBatch>, Vec<Reason>) {
        (self.batches, self.reasons)
    }
}

/// As much of a line as a letter keeps. What may be an address is not cut in the middle: half of one would not be known as one.
pub(super) fn beginning(original: &[u8]) -> &[u8] {
    let Some(kept) = original.get(..MAX_ORIGINAL).filter(|kept| kept.len() < original.len()) else { return original };
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let run = kept.iter().rev().take_while(|byte| is_of_address(byte)).take(LONGEST_RUN).count();
    // A longer one is no address.
    let end = if run < LONGEST_RUN { kept.len() - run } else { kept.len() };
    kept.get(..end).unwrap_or(kept)
}
