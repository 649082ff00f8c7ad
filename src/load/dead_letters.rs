//! The dead topic into the `dead_letters` table, at least once: see [`crate::store::tables::dead_letters`]. The topic has one partition
//! and one reader, so the order of letters about the same line is never in doubt.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clickhouse::ClickHouse;
use crate::event::dead_letter::{DeadLetter, DeadLetterRecord};
use crate::log::{LogError, PartitionReader, Record};
use crate::outage::{Outage, Over};
use crate::store::tables::dead_letters;

const READ_BYTES: usize = 1 << 20;
/// Bytes of letters after which a block is sent: they are much smaller in the log.
const BLOCK_BYTES: usize = 8 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Loads letters until asked to stop.
pub(super) async fn run<R: PartitionReader>(store: ClickHouse, mut reader: R, stop: CancellationToken) -> Result<(), LogError> {
    let revoked = reader.revoked();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let (mut log_outage, mut store_outage) = (Outage::default(), Outage::default());
    loop {
        let records = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = revoked.cancelled() => return Ok(()),
            records = reader.next(READ_BYTES) => records,
        };
        let records = match records {
            Ok(records) => records,
            Err(ended @ (LogError::Corrupt(_) | LogError::Closed)) => return Err(ended),
            Err(problem) => {
                if log_outage.begins() {
                    tracing::warn!(%problem, "dead letters cannot be read: waiting");
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.next_pause()) => {}
                }
                let start = reader.bounds().await.map_or(0, |held| held.start);
                reader.seek(reader.committed().unwrap_or(start).max(start));
                continue;
            }
        };
        if let Some(Over { failures, lasted }) = log_outage.ends() {
            tracing::info!(failures, ?lasted, "dead letters are read again");
        }
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (read, next_offset) = next_letters(&mut records);
            let letters: Vec<DeadLetter<'_>> = read.iter().flat_map(DeadLetterRecord::letters).collect();
            while let Err(problem) = dead_letters::insert(&store, &letters).await {
                if store_outage.begins() {
                    tracing::error!(%problem, "dead letters not stored: waiting");
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.next_pause()) => {}
                }
            }
            backoff.reset();
            if let Some(Over { failures, lasted }) = store_outage.ends() {
                tracing::info!(failures, ?lasted, "dead letters are stored again");
            }
            reader.commit(next_offset).await?;
        }
    }
}

/// The letters of some records, and where reading goes on behind them.
fn next_letters(records: &mut impl Iterator<Item = Record>) -> (Vec<DeadLetterRecord>, i64) {
    let (mut read, mut size, mut next_offset) = (Vec::new(), 0, 0);
    for record in records {
        next_offset = record.offset + 1;
        match DeadLetterRecord::decode(&record.payload) {
            Ok(letters) => {
                size += letters.size();
                read.push(letters);
            }
            Err(problem) => tracing::error!(offset = record.offset, %problem, "a record of the dead topic is unreadable"),
        }
        if size >= BLOCK_BYTES {
            break;
        }
    }
    (read, next_offset)
}
