//! What happens to a record between the raw and the enriched topic. Pure CPU: no I/O, no clock.

use std::sync::Arc;

use super::enrich::agent::{AgentCache, AgentParser};
use super::enrich::campaign::{self, Campaign};
use super::enrich::channel::channel;
use super::enrich::referrer;
use super::sessionize::{SessionId, Sessionizer, Visitor};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::letter::{self, Letter, LetterId, Place};
use crate::event::packed::{Addition, EventView, Fields};
use crate::event::record::{self, Header, RawOrigin, Tallies, day_of};
use crate::outcome::{Count, DeadReason};

/// What became of one raw record.
pub(super) struct Applied {
    /// The enriched record.
    pub(super) enriched: Vec<u8>,
    /// Dead letters, encoded.
    pub(super) letters: Vec<Vec<u8>>,
}

/// Everything one partition remembers, and its buffers.
pub(super) struct Pipeline {
    pub(super) sessions: Sessionizer,
    agents: AgentCache,
    raw_body: Vec<u8>,
    additions: Vec<u8>,
    /// How far the log has come, by receipt: the day of what cannot be read.
    received_ms: i64,
}

impl Pipeline {
    pub(super) fn new(session_gap_ms: i64, max_visitors: usize, agents: Arc<AgentParser>) -> Self {
        Self {
            sessions: Sessionizer::new(session_gap_ms, max_visitors),
            agents: AgentCache::new(agents),
            raw_body: Vec::new(),
            additions: Vec::new(),
            received_ms: 0,
        }
    }

    /// Tells what time it is, for records that do not say so themselves.
    pub(super) fn starts_at(&mut self, now_ms: i64) {
        self.received_ms = now_ms;
    }

    /// Takes a raw record to its enriched form. What cannot be read becomes a dead letter; it never stops the rest.
    pub(super) fn apply(&mut self, origin: RawOrigin, payload: &[u8]) -> Applied {
        let mut raw_body = std::mem::take(&mut self.raw_body);
        let applied = match record::decode(payload, &mut raw_body) {
            Ok(header) => self.apply_events(origin, header, (payload, &raw_body)),
            Err(problem) => undecodable(origin, payload, (&problem.to_string(), self.received_ms)),
        };
        self.raw_body = raw_body;
        applied
    }

    fn apply_events(&mut self, origin: RawOrigin, mut header: Header, (payload, mut raw): (&[u8], &[u8])) -> Applied {
        self.received_ms = header.received_ms;
        self.sessions.advance(header.received_ms);
        self.additions.clear();
        let mut enriched = 0;
        let mut unread = header.events.saturating_add(header.letters);
        let mut letters = Letters { origin, header: &mut header, encoded: Vec::new() };
        for _ in 0..letters.header.events {
            let Some(event) = EventView::take(&mut raw) else { break };
            unread -= 1;
            let Some(fields) = Fields::of(&event) else {
                letters.damaged(&event);
                Addition::begin(&mut self.additions).leave_out();
                continue;
            };
            let project = letters.header.projects.get(usize::from(event.fixed.project)).copied();
            self.enrich(&event, &fields, project.unwrap_or(ProjectId::BOOKS));
            enriched += 1;
        }
        // Where the end of an event cannot be found, letters have no beginning either.
        while unread > 0 && unread <= letters.header.letters {
            let before = raw;
            let Some(letter) = Letter::take(&mut raw) else {
                raw = before;
                break;
            };
            unread -= 1;
            letters.put(letter);
        }
        if unread > 0 {
            letters.unreadable(unread, raw);
        }
        let letters = letters.encoded;
        header.events = enriched;
        header.letters = 0;
        header.origin = Some(origin);
        // Its body has just been inflated, so the record is whole.
        let enriched = record::enrich(&header, payload, &self.additions).unwrap_or_else(|_| record::encode(&header, &[]));
        Applied { enriched, letters }
    }

    fn enrich(&mut self, event: &EventView<'_>, fields: &Fields<'_>, project: ProjectId) {
        let visitor = Visitor { project, key: event.fixed.visitor };
        let session = match fields.text(Field::ClientSession) {
            "" => self.sessions.assign(visitor, event.fixed.at_ms),
            name => SessionId::of_client(visitor, name),
        };
        let mut out = Addition::begin(&mut self.additions);
        out.field(Field::Session, &session.0);
        let agent_text = fields.text(Field::UserAgent);
        if !agent_text.is_empty() {
            let agent = self.agents.parse(agent_text);
            // What the client says about its own device is kept: it knows better than its agent string.
            for (field, text) in agent.fields() {
                if fields.get(field).is_empty() {
                    out.field(field, text.as_bytes());
                }
            }
        }
        acquire(fields, &mut out);
        out.finish();
    }
}

/// Adds where the visitor came from: campaign, click id, referrer, channel.
fn acquire(fields: &Fields<'_>, out: &mut Addition<'_>) {
    let url = fields.text(Field::PageUrl);
    let given = Campaign::given(fields);
    let campaign = campaign::of(given, url);
    for (field, text) in campaign.found() {
        out.field(field, text.as_bytes());
    }
    let referrer = referrer::of(fields.text(Field::Referrer), url);
    out.field(Field::ReferrerDomain, referrer.domain.as_bytes());
    if !url.is_empty() || !referrer.domain.is_empty() || !campaign.is_empty() {
        out.field(Field::Channel, channel(&campaign, &referrer).as_bytes());
    }
}

/// The dead letters of one record.
struct Letters<'h> {
    origin: RawOrigin,
    header: &'h mut Header,
    encoded: Vec<Vec<u8>>,
}

impl Letters<'_> {
    fn put(&mut self, mut letter: Letter<'_>) {
        let index = self.encoded.len() as u32;
        letter.place = Place { epoch: self.origin.epoch, partition: self.origin.partition, offset: self.origin.offset, index };
        self.header.tallies.add(letter.project, letter.received_ms, Count::Dead(letter.reason), 1);
        let mut bytes = Vec::new();
        letter.put(&mut bytes);
        self.encoded.push(bytes);
    }

    /// An event whose end is known but whose fields are not.
    fn damaged(&mut self, event: &EventView<'_>) {
        let project = self.header.projects.get(usize::from(event.fixed.project)).copied().unwrap_or(ProjectId::BOOKS);
        self.put(Letter {
            project,
            received_ms: event.fixed.received_ms,
            reason: DeadReason::EventUndecodable,
            message: "fields unreadable",
            source: "",
            line: 0,
            original: event.encoded(),
            id: LetterId::NONE,
            place: Place::UNKNOWN,
        });
    }

    /// The rest of a record in which not even the ends of events or letters can be found: one letter holds it, and each of the
    /// `missing` that it should have held is counted.
    fn unreadable(&mut self, missing: u32, rest: &[u8]) {
        let project = self.header.projects.first().copied().unwrap_or(ProjectId::BOOKS);
        let received_ms = self.header.received_ms;
        self.put(Letter {
            project,
            received_ms,
            reason: DeadReason::EventUndecodable,
            message: letter::REST_UNREADABLE,
            source: "",
            line: 0,
            original: rest,
            id: LetterId::NONE,
            place: Place::UNKNOWN,
        });
        self.header.tallies.add(project, received_ms, Count::Dead(DeadReason::EventUndecodable), missing - 1);
    }
}

/// A record of which nothing can be read: received and dead, of nobody's project.
fn undecodable(origin: RawOrigin, payload: &[u8], (problem, received_ms): (&str, i64)) -> Applied {
    let mut tallies = Tallies::default();
    tallies.add(ProjectId::BOOKS, received_ms, Count::Received, 1);
    let day = day_of(received_ms);
    let mut header = Header { source: 0, day, events: 0, received_ms, projects: Vec::new(), tallies, letters: 0, origin: Some(origin) };
    let mut letters = Letters { origin, header: &mut header, encoded: Vec::new() };
    letters.put(Letter {
        project: ProjectId::BOOKS,
        received_ms,
        reason: DeadReason::RecordUndecodable,
        message: problem,
        source: "",
        line: 0,
        original: payload,
        id: LetterId::NONE,
        place: Place::UNKNOWN,
    });
    let letters = letters.encoded;
    Applied { enriched: record::encode(&header, &[]), letters }
}

#[cfg(test)]
mod tests;
