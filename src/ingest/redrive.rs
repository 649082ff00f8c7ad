//! Dead letters tried again, with the code and the limits of today.
//!
//! What can be read now is appended to the raw topic as an import would append it, and takes the path of every event. Promises:
//! the same letter gives the same events with the same ids and times, so one that is tried twice is stored once; what still
//! cannot be read leaves no trace, for its letter is there already. A line that never was an event of ours
//! ([`DeadReason::LineMalformed`]) is left alone: only the importer knows its layout and the ids of its neighbours, and importing
//! the file again counts nothing twice.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::contract::RequestFacts;
use super::geo::RequestGeo;
use super::intake::{Intake, Sender};
use super::protocol::pulse;
use super::publish::{Contribution, ImportRecord, Publisher, Receipt};
use super::verdict::Packed;
use super::{Geo, IngestLimits, envelope};
use crate::clock;
use crate::event::dead_letter::DeadLetter;
use crate::event::field::flag;
use crate::event::ids::ProjectId;
use crate::event::packed::{self, EventHeader, EventView, RawEvent, RawEvents};
use crate::event::record::{self, Raw};
use crate::log::{Log, LogError};
use crate::outcome::DeadReason;

/// Packed bytes that are published before more letters are tried: memory is bounded, and a record is never small for want of
/// company.
const FULL: usize = 8 << 20;

/// Tries letters and publishes what they give.
pub struct Redrive<L: Log> {
    publisher: Publisher<L>,
    limits: IngestLimits,
    geo: Geo,
    batch: Batch,
}

/// Events that wait to be published. All are received again at one moment.
struct Batch {
    received_ms: i64,
    partitions: u16,
    projects: BTreeMap<ProjectId, Vec<Packed>>,
    bytes: usize,
}

impl Batch {
    fn new(partitions: u16) -> Self {
        Self { received_ms: clock::now_ms(), partitions, projects: BTreeMap::new(), bytes: 0 }
    }

    /// Takes an event up as one received now. When it happened stays as the letter's own receipt said.
    fn put(&mut self, event: &RawEvent<'_>, project: ProjectId) -> u32 {
        let header = event.view.header;
        let partitions = self.partitions;
        let packed = self.projects.entry(project).or_insert_with(|| (0..partitions).map(|_| Packed::default()).collect());
        let Some(target) = packed.get_mut(usize::from(header.visitor.partition(partitions))) else { return 0 };
        // An id that the server gave is as fixed as any now that it stands in a letter: there may be a copy.
        let flags = header.flags & !flag::SERVER_ID;
        let header = EventHeader { received_ms: self.received_ms, project: 0, flags, ..header };
        packed::put_as(event, &header, &mut target.bytes);
        target.events += 1;
        self.bytes += event.view.encoded().len() + event.agent.len();
        1
    }

    /// Takes up the events of `bytes` that can be read and whose project is known, up to the first without an end.
    fn put_all(&mut self, bytes: &[u8], project_of: impl Fn(&EventView<'_>) -> Option<ProjectId>) -> u32 {
        let mut events = 0;
        for event in RawEvents::new(bytes, &[]) {
            if let Some(project) = project_of(&event.view).filter(|_| event.fields().is_some()) {
                events += self.put(&event, project);
            }
        }
        events
    }
}

impl<L: Log> Redrive<L> {
    /// Into the raw topic of `log`.
    pub fn new(log: L, limits: IngestLimits, geo: Geo) -> Self {
        let publisher = Publisher::new(log, &limits);
        let batch = Batch::new(publisher.partitions());
        Self { publisher, limits, geo, batch }
    }

    /// Tries a letter. Returns the number of events it gave, which wait for [`Self::publish`].
    pub fn attempt(&mut self, letter: &DeadLetter<'_>) -> u32 {
        match letter.reason {
            // Only the importer knows the layout of the one, and only its release what the other holds.
            DeadReason::LineMalformed | DeadReason::OfLaterRelease => 0,
            DeadReason::EventInvalid => self.line(letter, letter.position.event_id(0)),
            DeadReason::RecordUndecodable | DeadReason::RecordFailed | DeadReason::RecordTooLarge => self.record(letter),
            DeadReason::EventUndecodable => self.events(letter),
        }
    }

    /// Whether what waits should be published before more is tried.
    pub fn is_full(&self) -> bool {
        self.batch.bytes >= FULL
    }

    /// Appends what waits; returns once it is durable. After an error some of it may be in the log all the same: tried again,
    /// it is found there as a copy.
    pub async fn publish(&mut self) -> Result<(), LogError> {
        let Batch { received_ms, projects, .. } = self.take();
        for (project, partitions) in projects {
            let contribution = Contribution { receipt: Receipt { project, received_ms }, partitions };
            self.publisher.publish_import(contribution, ImportRecord { source: 0, letters: Vec::new() }).await?;
        }
        Ok(())
    }

    /// Forgets what waits.
    pub fn forget(&mut self) {
        self.take();
    }

    fn take(&mut self) -> Batch {
        let next = Batch::new(self.publisher.partitions());
        std::mem::replace(&mut self.batch, next)
    }

    /// A line of an import: decoded as it was then, as of its own time of receipt. `fallback_id` is the event's if it has none.
    fn line(&mut self, letter: &DeadLetter<'_>, fallback_id: [u8; 16]) -> u32 {
        let geo = RequestGeo::new(&self.geo);
        let request = RequestFacts {
            partitions: self.batch.partitions,
            received_ms: letter.received_ms,
            sent_ms: None,
            fallback_id: Some(fallback_id),
            flags: 0,
            user_agent: "",
            cookies: "",
            // Never looked at: an import's own address says nothing about its events.
            client: Ipv4Addr::UNSPECIFIED.into(),
            is_of_server: false,
            geo: &geo,
            is_import: true,
            secrets: None,
        };
        let mut intake = Intake::new(Sender::Known(letter.project), request, &self.limits);
        envelope::alone(letter.original, 0, pulse::event, &mut intake);
        let mut events = 0;
        let Ok(decoded) = intake.finish() else { return 0 };
        for packed in &decoded.partitions {
            events += self.batch.put_all(&packed.bytes, |_| Some(letter.project));
        }
        events
    }

    /// A record of which nothing could be read: its events, and the letters behind them as if they were letters by themselves.
    fn record(&mut self, letter: &DeadLetter<'_>) -> u32 {
        let mut raw = Raw::default();
        let Ok(header) = record::decode_raw(letter.original, &mut raw) else { return 0 };
        let mut unread = RawEvents::new(&raw.body, &raw.agents);
        let mut events = 0;
        for _ in 0..header.events {
            let Some(event) = unread.next() else { return events };
            if let Some(project) = header.projects.get(usize::from(event.view.header.project))
                && event.fields().is_some()
            {
                events += self.batch.put(&event, *project);
            }
        }
        let mut rest = unread.rest;
        for nth in 0..header.letters {
            let Some(inner) = DeadLetter::take(&mut rest) else { break };
            if inner.reason == DeadReason::EventInvalid {
                events += self.line(&inner, letter.position.event_id(nth));
            }
        }
        events
    }

    /// One event of a record, or all from one on. Of those only the ones of the project that the letter knows.
    fn events(&mut self, letter: &DeadLetter<'_>) -> u32 {
        let is_rest = letter.is_rest();
        // A letter without a project gives no events.
        let project = Some(letter.project).filter(|project| *project != ProjectId::BOOKS);
        self.batch.put_all(letter.original, |event| project.filter(|_| !is_rest || event.header.project == 0))
    }
}

#[cfg(test)]
mod tests;
