//! Segment: what its S3 destination keeps, compressed files with a call a line. RudderStack's are the same.
//!
//! `timestamp` was corrected for the client's clock when Segment received the call: `sentAt` must not correct it again.

use super::{Export, Record, Translation, no_event, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;
use crate::ingest::{Spoken, translate};

pub(super) struct Segment;

impl Export for Segment {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        let at = ["timestamp", "originalTimestamp", "receivedAt"].into_iter().find_map(|name| record.take(name));
        record.0.insert("timestamp".to_owned(), time_of(at, times)?);
        ["originalTimestamp", "receivedAt", "sentAt", "writeKey"].iter().for_each(|name| drop(record.0.remove(*name)));
        translate(Spoken::Segment, &record.0).map_err(no_event)
    }
}
