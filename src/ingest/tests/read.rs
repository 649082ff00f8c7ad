//! What tests of dialects read back of the events that a dialect read.

use std::cell::RefCell;

use super::{SHOP, decoded_as, decoded_of, facts, limits};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::packed::{Entry, EventView, Fields};
use crate::ingest::Geo;
use crate::ingest::contract::RequestFacts;
use crate::ingest::geo::RequestGeo;
use crate::ingest::intake::{Intake, Sender};
use crate::ingest::refusal::Refusal;

/// One event as it was packed.
#[derive(Debug)]
pub(in crate::ingest) struct Read {
    pub(in crate::ingest) event_id: [u8; 16],
    pub(in crate::ingest) at_ms: i64,
    pub(in crate::ingest) flags: u32,
    bytes: Vec<u8>,
}

/// The events that are read, in their order, none of them refused.
pub(in crate::ingest) fn read(events: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>) -> Vec<Read> {
    let decoded = decoded_as(SHOP, |request| request.partitions = 1, events).unwrap();
    assert_eq!(decoded.verdicts.rejected, []);
    events_of(&decoded.partitions[0].bytes)
}

/// The country of the one event that is read, of a request from 203.0.113.7, which is in Germany.
pub(in crate::ingest) fn country_of(events: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>) -> String {
    let (geo, client) = (Geo::default(), std::net::Ipv4Addr::new(203, 0, 113, 7).into());
    let geo = RequestGeo::knowing(&geo, client, "DE");
    let limits = limits();
    let request = RequestFacts { partitions: 1, client, ..facts(&geo) };
    let mut intake = Intake::new(Sender::Known(SHOP), request, &limits);
    events(&mut intake).unwrap();
    let decoded = intake.finish().unwrap();
    assert_eq!((decoded.verdicts.rejected.as_slice(), decoded.verdicts.accepted), ([].as_slice(), 1));
    events_of(&decoded.partitions[0].bytes)[0].text(Field::Country)
}

/// The events that were packed one behind the other.
pub(in crate::ingest) fn events_of(bytes: &[u8]) -> Vec<Read> {
    let (mut rest, mut read) = (bytes, Vec::new());
    while !rest.is_empty() {
        let before = rest;
        let view = EventView::take(&mut rest).unwrap();
        let bytes = before[..before.len() - rest.len()].to_vec();
        read.push(Read { event_id: view.header.event_id, at_ms: view.header.at_ms, flags: view.header.flags, bytes });
    }
    read
}

/// The key that the events show.
pub(in crate::ingest) fn key_of(events: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>) -> Result<Option<String>, Refusal> {
    let shown = RefCell::new(None);
    let authorize = |key: Option<&str>| {
        shown.replace(key.map(str::to_owned));
        Ok::<ProjectId, Refusal>(SHOP)
    };
    decoded_of(Sender::InBody(&authorize), |_| {}, events)?;
    Ok(shown.into_inner())
}

impl Read {
    pub(in crate::ingest) fn text(&self, field: Field) -> String {
        let view = EventView::take(&mut self.bytes.as_slice()).unwrap();
        Fields::of(&view).unwrap().text(field).to_owned()
    }

    /// Name, user and visitor.
    pub(in crate::ingest) fn ids(&self) -> [String; 3] {
        [Field::Type, Field::UserId, Field::AnonymousId].map(|field| self.text(field))
    }

    /// The properties by name, as `name=value`.
    pub(in crate::ingest) fn properties(&self) -> Vec<String> {
        let view = EventView::take(&mut self.bytes.as_slice()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut properties: Vec<String> = Fields::of(&view)
            .unwrap()
            .properties()
            .filter_map(|entry| match entry {
                Entry::String(key, value) | Entry::Other(key, value) => Some(format!("{}={}", text(key), text(value))),
                Entry::Number(key, value) => Some(format!("{}={value}", text(key))),
                Entry::Field(..) | Entry::Damaged => None,
            })
            .collect();
        properties.sort();
        properties
    }
}
