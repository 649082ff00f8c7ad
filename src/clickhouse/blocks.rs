//! Blocks of an answer in Native format whose columns all have values of a fixed width: the fastest way to take many rows.
//!
//! Values stand as the server has them: little endian, an UUID as its two halves. May go wrong: a column of another kind, or an answer
//! that is none; both are errors.

use super::ClickHouseError;
use crate::wire::{take_bytes, take_varint};

/// Most columns, and most rows of one block: more is no answer of a server.
const MOST_COLUMNS: u64 = 64;
const MOST_ROWS: u64 = 1 << 24;

/// Puts the blocks of an answer together from its pieces.
#[derive(Debug, Default)]
pub struct BlockReader {
    /// What has come of the next block.
    rest: Vec<u8>,
}

/// Rows, column by column.
#[derive(Debug)]
pub struct Block<'b> {
    /// How many.
    pub rows: usize,
    columns: Vec<&'b [u8]>,
}

impl<'b> Block<'b> {
    /// The values of a column of `N` bytes each; none if it is not there or of another width.
    pub fn column<const N: usize>(&self, index: usize) -> &'b [[u8; N]] {
        let bytes = self.columns.get(index).copied().unwrap_or_default();
        if bytes.len() == self.rows * N { bytes.as_chunks().0 } else { &[] }
    }
}

impl BlockReader {
    /// Takes the next piece of the answer, and hands on each block that is whole.
    ///
    /// # Errors
    /// This is no answer in Native format, or has columns of other types.
    pub fn read(&mut self, piece: &[u8], mut take: impl FnMut(&Block<'_>)) -> Result<(), ClickHouseError> {
        self.rest.extend_from_slice(piece);
        let mut left = self.rest.as_slice();
        while let Some((block, rest)) = parse(left)? {
            take(&block);
            left = rest;
        }
        let taken = self.rest.len() - left.len();
        self.rest.drain(..taken);
        Ok(())
    }

    /// Whether nothing is left of a block that never ended.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

fn unreadable(what: &str) -> ClickHouseError {
    ClickHouseError::Network(format!("unreadable answer: {what}"))
}

/// The first block, and what follows it; none if it is not whole.
fn parse(input: &[u8]) -> Result<Option<(Block<'_>, &[u8])>, ClickHouseError> {
    let mut input = input;
    let (Some(columns), Some(rows)) = (take_varint(&mut input), take_varint(&mut input)) else { return Ok(None) };
    if columns > MOST_COLUMNS || rows > MOST_ROWS {
        return Err(unreadable("a block of too many columns or rows"));
    }
    let mut block = Block { rows: rows as usize, columns: Vec::with_capacity(columns as usize) };
    for _ in 0..columns {
        let (Some(_), Some(type_name)) = (take_bytes(&mut input), take_bytes(&mut input)) else { return Ok(None) };
        let width = width(type_name).ok_or_else(|| unreadable("a column of no fixed width"))?;
        let Some((values, rest)) = input.split_at_checked(width * block.rows) else { return Ok(None) };
        block.columns.push(values);
        input = rest;
    }
    Ok(Some((block, input)))
}

fn width(type_name: &[u8]) -> Option<usize> {
    match type_name {
        b"UInt8" | b"Int8" | b"Bool" => Some(1),
        b"UInt16" | b"Int16" => Some(2),
        b"UInt32" | b"Int32" => Some(4),
        b"UInt64" | b"Int64" => Some(8),
        b"UUID" | b"UInt128" => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_bytes, put_varint};

    fn block(rows: &[(u64, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, 2);
        put_varint(&mut out, rows.len() as u64);
        put_bytes(&mut out, b"person");
        put_bytes(&mut out, b"UInt64");
        rows.iter().for_each(|(person, _)| out.extend(person.to_le_bytes()));
        put_bytes(&mut out, b"mask");
        put_bytes(&mut out, b"UInt32");
        rows.iter().for_each(|(_, mask)| out.extend(mask.to_le_bytes()));
        out
    }

    #[test]
    fn blocks_are_read_whatever_pieces_they_come_in() {
        let rows = [vec![(1, 2), (u64::MAX, 3)], vec![], vec![(4, 5)]];
        let answer: Vec<u8> = rows.iter().flat_map(|rows| block(rows)).collect();
        for size in [1, 7, answer.len()] {
            let (mut reader, mut read) = (BlockReader::default(), Vec::new());
            for piece in answer.chunks(size) {
                let take = |block: &Block<'_>| {
                    let both = block.column::<8>(0).iter().zip(block.column::<4>(1));
                    read.extend(both.map(|(person, mask)| (u64::from_le_bytes(*person), u32::from_le_bytes(*mask))));
                };
                reader.read(piece, take).unwrap();
            }
            assert!(reader.is_whole());
            assert_eq!(read, rows.concat());
        }
    }

    #[test]
    fn what_is_no_block_is_refused_and_a_part_of_one_is_no_whole() {
        let mut reader = BlockReader::default();
        assert!(reader.read(b"[\"string\"]\n", |_| ()).is_err());
        let mut reader = BlockReader::default();
        reader.read(&block(&[(1, 2)])[..20], |_| ()).unwrap();
        assert!(!reader.is_whole());
    }
}
