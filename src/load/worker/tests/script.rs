//! What is sent: events with copies, and the log that process makes of them.

use super::*;
use crate::event::field::Field;
use crate::event::packed::{Enrichment, EventHeader, EventWriter};
use crate::event::record::{Tallies, day_of};
use crate::outcome::Count;

/// When an event happened.
pub(super) fn at_ms(key: &EventKey) -> i64 {
    NOON_MS + i64::from_be_bytes(key.event_id[..8].try_into().unwrap())
}

/// What an event ties: a device that several use is among them.
pub(super) fn pair(key: &EventKey) -> Pair {
    let number = u64::from_be_bytes(key.event_id[..8].try_into().unwrap());
    Pair { kind: TieKind::Device, from: PersonKey(key.visitor.0), to: PersonKey(100 + number % 3) }
}

fn event_key(number: u64) -> EventKey {
    let mut event_id = [0; 16];
    event_id[..8].copy_from_slice(&number.to_be_bytes());
    EventKey { project: ProjectId(1), event_id, visitor: VisitorKey(number % 5) }
}

/// An enriched topic: events with copies at any distance, stretches that process published twice because it crashed, and records
/// that it published behind others that failed and came later.
pub(super) fn script(dice: &mut Dice) -> (Vec<Record>, HashSet<EventKey>) {
    let (mut payloads, mut keys, mut known) = (Vec::new(), HashSet::new(), 0);
    for offset in 0..RAW_RECORDS {
        let received_ms = NOON_MS + offset * 40 * 60_000;
        let (mut body, mut enrichments, mut tallies, events) = (Vec::new(), Vec::new(), Tallies::default(), dice.below(6) as u32);
        for _ in 0..events {
            let number = if known > 0 && dice.is(30) { dice.below(known) } else { known };
            known = known.max(number + 1);
            let key = event_key(number);
            keys.insert(key);
            // Happened as the first copy did, whenever this one came.
            let at_ms = NOON_MS + number as i64;
            let fixed = EventHeader {
                event_id: key.event_id,
                visitor: key.visitor,
                person: pair(&key).to,
                at_ms,
                original_ms: at_ms,
                sent_ms: 0,
                received_ms,
                flags: 0,
                project: 0,
            };
            let mut writer = EventWriter::begin(&mut body);
            writer.field(Field::AnonymousId, format!("visitor {}", key.visitor.0).as_bytes());
            writer.field(Field::UserId, format!("user {}", fixed.person.0).as_bytes());
            writer.finish(&fixed);
            Enrichment::begin(&mut enrichments).finish();
            tallies.add(ProjectId(1), received_ms, Count::Received, 1);
        }
        let origin = RawOrigin { epoch: EPOCH, partition: 0, offset, previous: offset - 1 };
        let header = Header {
            source: 0,
            day: day_of(received_ms),
            events,
            received_ms,
            projects: vec![ProjectId(1)],
            tallies,
            letters: 0,
            origin: Some(origin),
        };
        payloads.push(record::enrich(&header, &record::encode(&header, &body), &enrichments).unwrap());
    }
    let (mut log, mut next) = (Vec::new(), 0);
    while let Some(payload) = payloads.get(next) {
        let ahead = if dice.is(10) { 1 + dice.below(20) as usize } else { 0 };
        for early in payloads.iter().skip(next + ahead).take(ahead.min(3)) {
            log.push(Record { offset: log.len() as i64, payload: early.clone().into() });
        }
        log.push(Record { offset: log.len() as i64, payload: payload.clone().into() });
        next = if dice.is(5) { next.saturating_sub(dice.below(8) as usize) } else { next + 1 };
    }
    (log, keys)
}
