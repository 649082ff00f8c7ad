//! What is in a block, read from the bytes that a server gets.

use super::*;
use crate::load::group_insert::PendingBlock;
use crate::load::row;

/// The rows of a block, read from its bytes: project and event id are among the first columns, and so is the visitor.
pub(super) fn rows_of(sealed: &Sealed) -> Vec<Row> {
    let parts = [PendingBlock { key: sealed.key(), generation: 1, rows: Arc::clone(&sealed.rows) }];
    let block: Vec<u8> = row::encode(&parts).flatten().collect();
    let mut rest = block.as_slice();
    let varint = |rest: &mut &[u8]| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let (_, rows) = (varint(&mut rest), varint(&mut rest));
    let mut column = |name: &str, width: usize| {
        for part in [Some(name), None] {
            let length = varint(&mut rest);
            let (text, after) = rest.split_at(length);
            assert!(part.is_none_or(|part| part.as_bytes() == text), "another column than {name}");
            rest = after;
        }
        let (values, after) = rest.split_at(rows * width);
        rest = after;
        values.chunks_exact(width).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let projects = column("project_id", 8);
    column("timestamp", 8);
    column("person_id", 8);
    let visitors = column("visitor_id", 8);
    let ids = column("event_id", 16);
    let sessions: Vec<SessionId> = sealed.rows.sessions().collect();
    let key = |row: usize| {
        let mut event_id: [u8; 16] = ids[row].clone().try_into().unwrap();
        event_id[..8].reverse();
        event_id[8..].reverse();
        let number = |bytes: &Vec<u8>| u64::from_le_bytes(bytes.clone().try_into().unwrap());
        EventKey { project: ProjectId(number(&projects[row])), event_id, visitor: VisitorKey(number(&visitors[row])) }
    };
    (0..rows).map(|row| (sealed.last_offset, (projects[row] != [0; 8]).then(|| key(row)), sessions[row])).collect()
}
