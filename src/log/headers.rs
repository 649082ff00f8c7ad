//! Headers of raw records, without their bodies.

use super::{Log, LogError, ReadRequest, Record, Topic};
use crate::event::record::{self, HEADER_PREFIX, Header};

/// The header of the raw record at an offset; `None` if there is none, or it is not ours.
pub async fn header_at<L: Log>(log: &L, partition: u16, offset: i64) -> Result<Option<Header>, LogError> {
    let records = log.read(ReadRequest::new(Topic::Raw, partition, offset, 1).prefix(HEADER_PREFIX)).await?;
    match records.first() {
        Some(record) => header_of(log, partition, record).await,
        None => Ok(None),
    }
}

/// The header of a raw record of which the first [`HEADER_PREFIX`] bytes were read; `None` if it is not ours. Rarely it is longer than
/// they are, with many projects in one record: then the whole record is read.
pub async fn header_of<L: Log>(log: &L, partition: u16, record: &Record) -> Result<Option<Header>, LogError> {
    match record::header(&record.payload) {
        Err(_) if record.payload.len() >= HEADER_PREFIX => {
            let whole = log.read(ReadRequest::new(Topic::Raw, partition, record.offset, 1)).await?;
            Ok(whole.first().and_then(|record| record::header(&record.payload).ok()))
        }
        header => Ok(header.ok()),
    }
}
