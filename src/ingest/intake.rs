//! Takes the events of one request: each is read by its dialect, checked by the contract and packed, or refused.

use std::net::IpAddr;

use super::contract::{self, MAX_ID, Rules};
use super::dead_letters::DeadLetters;
use super::draft::{Draft, Fact, ReadEvent};
use super::refusal::Refusal;
use super::tape::Value;
use super::verdict::{Decoded, Rejected, Rejection};
use super::{IngestLimits, geo};
use crate::event::ids::ProjectId;

/// What the events of one request have in common.
#[derive(Clone, Copy)]
pub(super) struct RequestFacts<'r> {
    pub(super) project: ProjectId,
    pub(super) partitions: u16,
    pub(super) received_ms: i64,
    /// When the client sent the request, if its envelope says so.
    pub(super) sent_ms: Option<i64>,
    /// The id of an event that has none, where it must be the same each time; else the event gets a fresh one, of which
    /// there is no copy.
    pub(super) fallback_id: Option<[u8; 16]>,
    /// Flags of every event in it.
    pub(super) flags: u32,
    /// The browser's agent, where the client does not name one; empty otherwise.
    pub(super) user_agent: &'r str,
    pub(super) client: IpAddr,
    pub(super) geo: &'r geo::RequestGeo<'r>,
    pub(super) is_import: bool,
}

/// The events of one request.
pub(super) struct Intake<'r> {
    request: RequestFacts<'r>,
    limits: &'r IngestLimits,
    decoded: Decoded,
    /// The context of the event at hand.
    facts: Vec<Fact>,
}

impl<'r> Intake<'r> {
    pub(super) fn new(request: RequestFacts<'r>, limits: &'r IngestLimits) -> Self {
        Self { request, limits, decoded: Decoded::new(request.partitions), facts: Vec::new() }
    }

    pub(super) fn request(&self) -> &RequestFacts<'r> {
        &self.request
    }

    /// Most events of a request.
    pub(super) fn max_events(&self) -> usize {
        self.limits.max_events
    }

    /// Refuses a request of more events than allowed.
    pub(super) fn admit_count(&self, events: usize) -> Result<(), Refusal> {
        if events > self.max_events() { Err(Refusal::TooManyEvents(self.max_events())) } else { Ok(()) }
    }

    /// From now on events were sent at this time, by the client's clock.
    pub(super) fn sent_at(&mut self, sent_ms: Option<i64>) {
        self.request.sent_ms = sent_ms;
    }

    /// Takes the event at `index` of the request.
    pub(super) fn event(&mut self, index: usize, event: Value<'_>, read: ReadEvent) {
        let Self { request, limits, decoded: Decoded { partitions, verdicts, .. }, facts } = self;
        verdicts.warnings.begin(index);
        let mut draft = Draft::new(event, facts, &mut verdicts.warnings);
        let packed = read(event, &mut draft).and_then(|()| contract::pack(&mut draft, Rules { request, limits }, partitions));
        let event_id = draft.event_id.and_then(Value::text);
        match packed {
            Ok(has_id) => {
                verdicts.accepted += 1;
                if !has_id {
                    verdicts.without_id.push(index);
                }
            }
            Err(rejection) => {
                verdicts.warnings.retract();
                self.reject(index, event_id, rejection);
            }
        }
    }

    /// Refuses the event at `index`.
    pub(super) fn reject(&mut self, index: usize, event_id: Option<&str>, rejection: Rejection) {
        let event_id = event_id.filter(|id| id.len() <= MAX_ID).map(str::to_owned);
        let Rejection { defect, field, message } = rejection;
        self.decoded.verdicts.rejected.push(Rejected { index, event_id, defect, field, message });
    }

    /// Makes dead letters of the events refused since the last time: all of them were in `line`, at `index` of the request.
    pub(super) fn bury_rejected(&mut self, index: usize, line: &[u8], letters: &mut DeadLetters<'_>) {
        for rejected in self.decoded.verdicts.rejected.drain(..) {
            letters.refuse(index, line, &rejected);
        }
    }

    /// Keeps letters for the log.
    pub(super) fn keep(&mut self, letters: DeadLetters<'_>) {
        let verdicts = &mut self.decoded.verdicts;
        verdicts.dead = letters.count();
        (self.decoded.letters, verdicts.reasons) = letters.into_parts();
    }

    pub(super) fn finish(self) -> Decoded {
        self.decoded
    }
}
