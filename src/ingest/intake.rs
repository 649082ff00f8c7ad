//! Takes the events of one request: each is read by its dialect, checked by the contract and packed, or refused.

use std::net::IpAddr;

use super::IngestLimits;
use super::contract::{self, MAX_ID, RequestFacts, Rules};
use super::daily_visitor::lasting_name;
use super::dead_letters::DeadLetters;
use super::draft::{Draft, Fact, ReadEvent};
use super::refusal::Refusal;
use super::tape::Value;
use super::verdict::{Decoded, Rejected, Rejection};
use crate::event::ids::ProjectId;
use crate::outcome::Defect;

/// An event of so many values and keys is read, however small events must be.
const MIN_NODES: usize = 4 << 10;

/// Room that a partition gets with its first event: its part of what the body has, but at least one event's and no more than this. Packed
/// events are a little shorter than their text, and beyond it buffers grow by doubling.
const MOST_ROOM: usize = 64 << 10;
const LEAST_ROOM: usize = 1 << 10;

/// Whose events a request has.
#[derive(Clone, Copy)]
pub(super) enum Sender<'r> {
    /// The head of the request has shown a key.
    Known(ProjectId),
    /// The key is in the body; this looks it up.
    InBody(&'r Authorize<'r>),
}

/// Finds the project of a key, if it may send events now.
pub(super) type Authorize<'r> = dyn Fn(Option<&str>) -> Result<ProjectId, Refusal> + 'r;

/// The events of one request.
pub(super) struct Intake<'r> {
    sender: Sender<'r>,
    request: RequestFacts<'r>,
    limits: &'r IngestLimits,
    decoded: Decoded,
    /// The context of the event at hand.
    facts: Vec<Fact>,
    max_events: usize,
    /// For how many bytes a partition gets room with its first event.
    room: usize,
}

impl<'r> Intake<'r> {
    pub(super) fn new(sender: Sender<'r>, request: RequestFacts<'r>, limits: &'r IngestLimits) -> Self {
        let (decoded, max_events) = (Decoded::new(request.partitions), limits.max_events);
        Self { sender, request, limits, decoded, facts: Vec::new(), max_events, room: 0 }
    }

    /// The same for the events of a body of so many bytes.
    pub(super) fn of_body(self, bytes: usize) -> Self {
        let of_partition = bytes / usize::from(self.request.partitions).max(1);
        let room = of_partition.max(bytes.min(LEAST_ROOM)).min(MOST_ROOM);
        Self { room, ..self }
    }

    /// The same for a dialect whose clients may send so many events in a request.
    pub(super) fn of_at_least(self, most: usize) -> Self {
        Self { max_events: self.max_events.max(most), ..self }
    }

    pub(super) fn received_ms(&self) -> i64 {
        self.request.received_ms
    }

    /// Most events of a request.
    pub(super) fn max_events(&self) -> usize {
        self.max_events
    }

    /// Most bytes of an event.
    pub(super) fn max_event_size(&self) -> usize {
        self.limits.max_event_size
    }

    /// Most values and keys of an event: one that is kept takes two bytes at the least.
    fn max_nodes(&self) -> usize {
        (self.max_event_size() / 2).max(MIN_NODES)
    }

    /// Refuses a request of more events than allowed.
    pub(super) fn admit_count(&self, events: usize) -> Result<(), Refusal> {
        if events > self.max_events() { Err(Refusal::TooManyEvents(self.max_events())) } else { Ok(()) }
    }

    /// The project that the events are of. Errors: the body has shown no key.
    pub(super) fn project(&self) -> Result<ProjectId, Refusal> {
        match self.sender {
            Sender::Known(project) => Ok(project),
            Sender::InBody(authorize) => authorize(None),
        }
    }

    /// What the envelope says of all events, before the first of them: when they were sent, by the client's clock, and the key.
    pub(super) fn begin(&mut self, sent_ms: Option<i64>, key: Option<&str>) -> Result<(), Refusal> {
        self.request.sent_ms = sent_ms;
        if let Sender::InBody(authorize) = self.sender {
            self.sender = Sender::Known(authorize(key)?);
        }
        Ok(())
    }

    /// Takes the event at `index` of the request.
    pub(super) fn event(&mut self, index: usize, event: Value<'_>, read: ReadEvent) {
        self.event_within(index, event, None, read);
    }

    /// Takes the event at `index` of the request, with what is said around it on the same tape.
    pub(super) fn event_within<'t>(&mut self, index: usize, event: Value<'t>, around: Option<Value<'t>>, read: ReadEvent) {
        let Sender::Known(project) = self.sender else { return debug_assert!(false, "events come after `begin`") };
        let (nodes, most) = (event.nodes(), self.max_nodes());
        if nodes > most {
            // Not even read: what a dialect does with each of them costs more than to count them.
            let message = format!("the event has {nodes} values and keys, more than {most}");
            let is_wide = event.has_object_beyond(self.limits.max_properties);
            let (defect, field) = if is_wide { (Defect::TooManyProperties, "properties") } else { (Defect::EventTooLarge, "") };
            return self.reject(index, None, Rejection::new(defect, field, message));
        }
        let Self { request, limits, decoded: Decoded { partitions, verdicts, .. }, facts, room, .. } = self;
        verdicts.warnings.begin(index);
        let mut draft = Draft::new(event, facts, &mut verdicts.warnings);
        (draft.around, draft.is_of_server) = (around, request.is_of_server);
        let rules = Rules { project, request, limits, room: *room };
        let packed = read(event, &mut draft).and_then(|()| contract::pack(&mut draft, rules, partitions));
        let (event_id, also) = (draft.event_id.and_then(Value::text), draft.also);
        match packed {
            Ok(has_id) => {
                verdicts.accepted += 1;
                if !has_id {
                    verdicts.without_id.push(index);
                }
                if let Some(read) = also {
                    self.event_within(index, event, around, read);
                }
            }
            Err(rejection) => {
                verdicts.warnings.retract();
                self.reject(index, event_id, rejection);
            }
        }
    }

    /// How many events have a verdict: the index of what comes behind them.
    pub(super) fn count(&self) -> usize {
        let verdicts = &self.decoded.verdicts;
        usize::try_from(verdicts.accepted).unwrap_or(usize::MAX).saturating_add(verdicts.rejected.len())
    }

    /// Refuses the event at `index`.
    pub(super) fn reject(&mut self, index: usize, event_id: Option<&str>, rejection: Rejection) {
        let event_id = event_id.filter(|id| id.len() <= MAX_ID).map(str::to_owned);
        let Rejection { defect, field, message } = rejection;
        self.decoded.verdicts.rejected.push(Rejected { index, event_id, defect, field, message });
    }

    /// Whether an event was refused since the last time that some were made dead letters.
    pub(super) fn has_rejected(&self) -> bool {
        !self.decoded.verdicts.rejected.is_empty()
    }

    /// The name that somebody has by an address, whenever events of it are imported; `None` without a secret.
    pub(super) fn lasting_name(&self, address: IpAddr) -> Option<String> {
        let secret = self.request.secrets?.secret_of(self.project().ok()?)?;
        Some(lasting_name(&secret, address))
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

    /// The events. Errors: no key was shown.
    pub(super) fn finish(self) -> Result<Decoded, Refusal> {
        self.project()?;
        Ok(self.decoded)
    }
}

#[cfg(test)]
mod tests {
    use crate::ingest::draft::Draft;
    use crate::ingest::tape::{Value, with_tape};
    use crate::ingest::tests::{SHOP, decoded_as};
    use crate::ingest::verdict::Rejection;
    use crate::outcome::Defect;

    fn unread<'t>(_: Value<'t>, _: &mut Draft<'t, '_>) -> Result<(), Rejection> {
        panic!("it is read");
    }

    #[test]
    fn an_event_of_too_many_values_is_refused_before_it_is_read() {
        let body = format!("{{\"a\":1{}}}", ",\"a\":1".repeat(20_000));
        let decoded = decoded_as(
            SHOP,
            |_| {},
            |intake| {
                with_tape(body.as_bytes(), |event| intake.event(0, event, unread)).unwrap();
                Ok(())
            },
        );
        let rejected = decoded.unwrap().verdicts.rejected;
        let said = rejected.iter().map(|event| (event.defect, event.message.as_str())).collect::<Vec<_>>();
        assert_eq!(said, [(Defect::EventTooLarge, "the event has 40003 values and keys, more than 32768")]);
    }
}
