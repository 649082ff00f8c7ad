//! Holes in the table of the embedded engine: rows that are gone below rows that are there.
//!
//! Looked for when the engine was not ended by pulse: parts that a power cut or a bad disk has damaged are set aside as it starts, and the
//! highest raw offset says nothing of what is missing below it. Every block's books say how far it reaches back, so a missing one
//! shows. Where the log still has its records, everything behind the hole is deleted: then the table is merely behind, and load fills it
//! again. Runs before anything loads. May go wrong: the log does not hold the records any more; that is said, and nothing is deleted.

use std::time::Duration;

use tokio::time::Instant;

use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::event::record;
use crate::log::{Log, LogError, ReadRequest, Topic};
use crate::store::books::{self, HeldByLog, PartitionKey};
use crate::store::tables::{self, Rebuild, events};

/// Between two looks whether rows are deleted.
const POLL: Duration = Duration::from_millis(50);
/// How long deleting may fail: a disk may be full for a while.
const FAILING_LIMIT: Duration = Duration::from_secs(60);
/// Deleting rewrites parts, and may be cut itself: what is found then is looked at again, a few times.
const MOST_ROUNDS: usize = 5;

/// Why it is not known whether the table is whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum HoleError {
    #[error("looking for holes in the table: {0}")]
    Store(#[from] ClickHouseError),
    #[error("looking for holes in the table: {0}")]
    Log(#[from] LogError),
    #[error("deleting what lies above a hole in the table: {0}")]
    Stuck(String),
    #[error("making projections anew: {0}")]
    Projections(ClickHouseError),
    #[error("more than {0} parts are damaged")]
    TooMany(usize),
}

/// Makes a table with holes one that is behind, in each partition from its first hole on.
pub(super) async fn reopen<L: Log>(log: &L, store: &ClickHouse) -> Result<(), HoleError> {
    // An earlier deletion that was cut short goes on by itself.
    until_deleted(store).await?;
    for partition in 0..log.partitions(Topic::Enriched) {
        for _ in 0..MOST_ROUNDS {
            let Some(held) = held(log, partition).await? else { break };
            let Some(last) = books::last_before_hole(store, held).await? else { break };
            tracing::error!(
                partition,
                last,
                "rows are missing behind this raw offset: those above are deleted and all are loaded again from the log"
            );
            delete_above(store, held.key, last).await?;
        }
    }
    Ok(())
}

/// Detaches the part that an error is about, if it is still there: the engine may have found nothing wrong with its files. Of a projection
/// nothing is lost: it is taken away, to be made anew from its part. Returns whether something was taken away.
pub(super) async fn set_aside(store: &ClickHouse, message: &str) -> Result<bool, HoleError> {
    let Some(Damaged { part, projection }) = damaged(message) else { return Ok(false) };
    if let Some(projection) = projection {
        let cleared = tables::clear_projection(store, part, projection).await?;
        for table in &cleared {
            tracing::error!(%table, part, projection, "a damaged projection is taken away, to be made anew");
        }
        return Ok(!cleared.is_empty());
    }
    let detached = tables::detach_damaged(store, part).await?;
    for table in detached.iter().map(|table| &**table) {
        match tables::find(table) {
            Some(known) if matches!(known.rebuild, Rebuild::Swap(_)) => tracing::error!(table, part, "a damaged part is set aside"),
            Some(_) => tracing::error!(table, part, "a damaged part is set aside, in `detached`: nothing makes its rows again"),
            // Of those that `pulse replay --to-table` makes nobody loads what is missing.
            None => tracing::error!(table, part, "a damaged part is set aside: make this table anew"),
        }
    }
    Ok(!detached.is_empty())
}

/// What cannot be read.
#[derive(Debug, PartialEq, Eq)]
struct Damaged<'m> {
    part: &'m str,
    /// The projection of the part, if the rest of it is not meant.
    projection: Option<&'m str>,
}

/// What an error's text names: `... (while reading from part /…/store/abc/abc…/20260101_5_5_0/ ...`, or `…/20260101_5_5_0/ids.proj/`; of
/// an index, `Empty marks file '/…/store/abc/abc…/20260101_5_5_0/skp_idx_receipts.cmrk3': ...`; of a mutation that fails, where nothing
/// else is named, `... execution of mutation 'mutation_7.txt' with part '20260101_5_5_0' ...`.
fn damaged(message: &str) -> Option<Damaged<'_>> {
    let folder = match message.split_once("while reading from part ") {
        Some((_, reading)) => reading.split(|c: char| c.is_whitespace() || c == ')' || c == ',').next(),
        None => message.split_once("marks file '").and_then(|(_, file)| Some(file.split('\'').next()?.rsplit_once('/')?.0)),
    };
    let Some(path) = folder else {
        // Other mutations fail for other reasons, for want of room for example.
        if !ClickHouseError::is_of_damage(message) {
            return None;
        }
        let part = message.split_once("with part '")?.1.split('\'').next()?;
        return is_name(part).then_some(Damaged { part, projection: None });
    };
    let mut names = path.trim_end_matches(['/', ':']).rsplit('/');
    let last = names.next()?;
    let (part, projection) = match last.strip_suffix(".proj") {
        Some(projection) => (names.next()?, Some(projection)),
        None => (last, None),
    };
    (is_name(part) && projection.is_none_or(is_name)).then_some(Damaged { part, projection })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What the enriched topic holds of a partition.
async fn held<L: Log>(log: &L, partition: u16) -> Result<Option<HeldByLog>, LogError> {
    let bounds = log.bounds(Topic::Enriched, partition).await?;
    if bounds.is_empty() {
        return Ok(None);
    }
    let records = log.read(ReadRequest::new(Topic::Enriched, partition, bounds.start, 1)).await?;
    let header = records.first().and_then(|record| record::header(&record.payload).ok());
    Ok(header.and_then(|header| {
        let origin = header.origin.filter(|origin| origin.epoch == log.epoch())?;
        let key = PartitionKey { epoch: origin.epoch, partition };
        Some(HeldByLog { key, previous: origin.previous, day: header.day })
    }))
}

async fn delete_above(store: &ClickHouse, key: PartitionKey, last: i64) -> Result<(), HoleError> {
    events::delete_above(store, key, last).await?;
    until_deleted(store).await
}

/// Waits until what [`delete_above`] has begun, now or in an earlier life, is done. Errors: it fails again and again.
async fn until_deleted(store: &ClickHouse) -> Result<(), HoleError> {
    let mut failing_since = None;
    loop {
        let running = events::running_deletions(store).await?;
        if running.is_empty() {
            return Ok(());
        }
        match running.into_iter().flatten().next() {
            Some(reason) if failing_since.get_or_insert_with(Instant::now).elapsed() > FAILING_LIMIT => {
                return Err(HoleError::Stuck(reason));
            }
            Some(_) => {}
            None => failing_since = None,
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damaged_part_is_named_in_the_error() {
        let said = "Empty marks file '/d/20261128_18_18_0/data.cmrk4': 0, must be: 4656: (while reading from part \
                    /data/store/94d/94dbb173-d384/20261128_18_18_0/ in table pulse.events (94dbb173), from mark 0)";
        assert_eq!(damaged(said), Some(Damaged { part: "20261128_18_18_0", projection: None }));
        let of_projection = said.replace("_0/ in table", "_0/ids.proj/ in table");
        assert_eq!(damaged(&of_projection), Some(Damaged { part: "20261128_18_18_0", projection: Some("ids") }));
        let of_mutation = "Exception happened during execution of mutation 'mutation_7.txt' with part '20261128_18_18_0_7' reason: 'Code: 40. \
                           DB::Exception: Checksum doesn't match'";
        assert_eq!(damaged(of_mutation), Some(Damaged { part: "20261128_18_18_0_7", projection: None }));
        let of_index = "Empty marks file '/data/store/94d/94dbb173-d384/20261128_18_18_0/skp_idx_receipts.cmrk3': 0, must be: 24";
        assert_eq!(damaged(of_index), Some(Damaged { part: "20261128_18_18_0", projection: None }));
        for odd in [
            "marks file 'data.cmrk4': 0",
            "execution of mutation 'mutation_7.txt' with part '20261128_18_18_0_7' reason: 'Code: 243. DB::Exception: Cannot reserve 1.00 MiB'",
            "with part 'a/b'",
            "",
            "while reading from part ",
            "while reading from part /a/it's/ in",
            "while reading from part ids.proj",
            "Code: 246",
        ] {
            assert_eq!(damaged(odd), None, "{odd}");
        }
    }
}
