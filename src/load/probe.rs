//! What the loader makes of enriched records, without a table: for tests of the whole path.

use super::block::{Block, Sealed};
use super::dedupe::Dedupe;
use super::row::{self, Part, Rows};
use crate::event::record::{self, Enriched, Tallies};
use crate::store::books::PartitionKey;

impl Part for Sealed {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn key(&self) -> PartitionKey {
        Self::key(self)
    }

    fn generation(&self) -> u64 {
        1
    }
}

/// Puts records into blocks as a worker does, an empty table behind it, and encodes them. Returns the books, and the rows of events
/// and books.
pub(crate) fn load(records: &[Vec<u8>]) -> (Tallies, usize) {
    let (mut block, mut dedupe, mut content) = (Block::new(), Dedupe::new(1 << 20, i64::MIN), Enriched::default());
    let (mut books, mut rows) = (Tallies::default(), 0);
    let mut end = |block: &mut Block| {
        block.resolve_duplicates(|_| None);
        block.tallies().for_each(|tallies| books.merge(tallies));
        if let Some(sealed) = block.seal() {
            rows += sealed.rows.len();
            assert!(row::encode(&[sealed]).map(|piece| piece.len()).sum::<usize>() > 0);
        }
    };
    for (next, payload) in (0..).zip(records) {
        let header = record::header(payload).expect("process makes these records");
        let origin = header.origin.expect("with their origin");
        if !block.takes(&origin, header.day) {
            end(&mut block);
        }
        let header = record::decode_enriched(payload, &mut content).expect("process makes these records");
        block.push(&header, origin, (&content, next), &mut dedupe);
    }
    end(&mut block);
    (books, rows)
}
