//! What became of the events of a request.

use serde::Serialize;

use super::warning::Warnings;
use crate::outcome::Defect;

/// Events packed by partition, and a verdict on each event of the request.
#[derive(Debug)]
pub(super) struct Decoded {
    /// By partition: packed events.
    pub(super) partitions: Vec<Packed>,
    pub(super) verdicts: Verdicts,
    /// Dead letters by record.
    pub(super) letters: Vec<LetterBatch>,
}

/// Packed events of one partition.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) events: u32,
}

/// What the answer to a request is made of.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Number of events packed.
    pub(super) accepted: u32,
    /// Events that were refused.
    pub(super) rejected: Vec<Rejected>,
    /// Indices of events that the server had to give an id.
    pub(super) without_id: Vec<usize>,
    /// What of the packed events was dropped, cut or passed over.
    pub(super) warnings: Warnings,
    /// Number of lines of an import that were kept as dead letters.
    pub(super) dead: u32,
    /// Why events of an import were refused.
    pub(super) reasons: Vec<Reason>,
}

/// Why events of a request were refused: how many for one reason, and the first of them.
#[derive(Debug, Serialize)]
pub(super) struct Reason {
    pub(super) code: &'static str,
    pub(super) count: u32,
    /// Which line of the request, counted from 0.
    pub(super) index: usize,
    pub(super) message: String,
}

/// Letters that fit one record.
#[derive(Debug, Default)]
pub(super) struct LetterBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
}

/// One event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Position in the request.
    pub(super) index: usize,
    /// Its id, as far as it could be read.
    pub(super) event_id: Option<String>,
    pub(super) defect: Defect,
    /// Which field.
    pub(super) field: String,
    /// For people: field and value.
    pub(super) message: String,
}

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rejection {
    pub(super) defect: Defect,
    pub(super) field: String,
    pub(super) message: String,
}

impl Rejection {
    pub(super) fn new(defect: Defect, field: &str, message: impl Into<String>) -> Self {
        Self { defect, field: field.to_owned(), message: message.into() }
    }
}

impl Decoded {
    pub(super) fn new(partitions: u16) -> Self {
        Self { partitions: (0..partitions).map(|_| Packed::default()).collect(), verdicts: Verdicts::default(), letters: Vec::new() }
    }
}
