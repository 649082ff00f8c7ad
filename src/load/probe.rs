//! What the loader makes of enriched records, without a table: for tests of the whole path.

use super::block::{Block, EnrichedRecord, Sealed};
use super::memory::Memory;
use super::row::{self, Part, Rows};
use super::sessions::Pasts;
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
    let memory = super::LoadConfig::default().check(&Default::default()).expect("the defaults are fine").memory;
    let (mut block, mut memory, mut content) = (Block::new(), memory.nothing(i64::MIN), Enriched::default());
    let (mut books, mut rows) = (Tallies::default(), 0);
    let mut end = |block: &mut Block, Memory { sessions, .. }: &mut Memory| {
        block.resolve_duplicates(|_| None, sessions);
        let waiting = block.waiting_rows(sessions);
        let mut settled = sessions.begin_settling();
        let mut questions = sessions.questions(&waiting);
        while !questions.is_empty() {
            questions = sessions.settle(&waiting, &questions, &Pasts::default(), &mut settled);
        }
        block.settle_sessions(settled, sessions);
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
            end(&mut block, &mut memory);
        }
        let header = record::decode_enriched(payload, &mut content).expect("process makes these records");
        block.push(EnrichedRecord { header: &header, origin, content: &content, offset: next }, &mut memory);
    }
    end(&mut block, &mut memory);
    (books, rows)
}
