//! What happens to a record between the raw and the enriched topic. Pure CPU: no I/O, no clock.
//!
//! Promises: whatever a record holds, it costs at most itself. What cannot be read, is of no project, fails or does not fit the
//! log becomes a dead letter; what was received is what goes on and what ended here; and what comes out fits the log.

mod books;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::books::Books;
use super::enrich::agent::{AgentCache, AgentParser};
use super::enrich::campaign::{self, Campaign};
use super::enrich::channel::channel;
use super::enrich::referrer;
use super::sessionize::{SessionId, Sessionizer, Visitor};
use crate::event::dead_letter::{self, DeadLetter, DeadLetterId, LogPosition};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::packed::{Enrichment, EventView, Fields};
use crate::event::record::{self, Header, RawOrigin, RecordError, Tallies, day_of};
use crate::lifecycle::panic_message;
use crate::outcome::{Count, DeadReason};

/// The times that the table can hold, milliseconds since 1970: of the years 1900 to 2299.
const TIMES: std::ops::Range<i64> = -2_208_988_800_000..10_413_792_000_000;

/// Most projects and minutes in the books of one record: the loader adds each to those of its block, one by one. Ingest puts no more
/// projects into a record.
const MAX_TALLIES: usize = 1 << 16;

/// What became of one raw record.
pub(super) struct Applied {
    /// The enriched record.
    pub(super) enriched: Vec<u8>,
    /// Records of the dead topic.
    pub(super) dead: Vec<Vec<u8>>,
    /// Letters in them.
    pub(super) letters: u64,
    /// What pulse itself got wrong, if it did.
    pub(super) fault: Option<String>,
}

/// Why a record is put aside as a whole.
struct Refused {
    reason: DeadReason,
    message: String,
}

impl From<RecordError> for Refused {
    fn from(problem: RecordError) -> Self {
        Self { reason: DeadReason::RecordUndecodable, message: problem.to_string() }
    }
}

/// Everything one partition remembers, and its buffers.
pub(super) struct Pipeline {
    pub(super) sessions: Sessionizer,
    agents: AgentCache,
    /// Largest record that the log takes, bytes.
    max_record: usize,
    raw_body: Vec<u8>,
    enrichments: Vec<u8>,
    /// The session of each event; `None` for one that is dropped.
    assigned: Vec<Option<SessionId>>,
    /// How far the log has come, by receipt: the day of what cannot be read.
    received_ms: i64,
}

impl Pipeline {
    pub(super) fn new(sessions: Sessionizer, agents: Arc<AgentParser>, max_record: usize) -> Self {
        Self {
            sessions,
            agents: AgentCache::new(agents),
            max_record,
            raw_body: Vec::new(),
            enrichments: Vec::new(),
            assigned: Vec::new(),
            received_ms: 0,
        }
    }

    /// Tells what time it is, for records that do not say so themselves.
    pub(super) fn starts_at(&mut self, now_ms: i64) {
        self.received_ms = now_ms;
    }

    /// Takes a raw record to its enriched form, and what of it ends here to letters.
    pub(super) fn apply(&mut self, origin: RawOrigin, payload: &[u8]) -> Applied {
        let mut raw_body = std::mem::take(&mut self.raw_body);
        // Buffers are cleared before each use and sessions are changed event by event, so a panic leaves nothing half done; worked
        // through again, the record fails again at the same place.
        let applied = catch_unwind(AssertUnwindSafe(|| self.try_apply(origin, payload, &mut raw_body)));
        self.raw_body = raw_body;
        let (refused, fault) = match applied {
            Ok(Ok(applied)) => return applied,
            Ok(Err(refused)) => (refused, None),
            Err(panic) => {
                let message = format!("processing panicked: {}", panic_message(&*panic));
                (Refused { reason: DeadReason::RecordFailed, message: message.clone() }, Some(message))
            }
        };
        Applied { fault, ..self.put_aside(origin, payload, &refused) }
    }

    fn try_apply(&mut self, origin: RawOrigin, payload: &[u8], raw_body: &mut Vec<u8>) -> Result<Applied, Refused> {
        let mut header = record::decode(payload, raw_body)?;
        check(&header, raw_body.len())?;
        self.received_ms = header.received_ms;
        self.sessions.advance(header.received_ms);
        let Taken { books, letters, events } = self.take(&header, raw_body);
        header.day = day_of(header.received_ms);
        header.events = events;
        header.letters = 0;
        header.tallies = books.into_tallies();
        header.origin = Some(origin);
        if header.tallies.0.len() > MAX_TALLIES {
            return Err(RecordError("more projects and minutes than a record may have").into());
        }
        let enriched = self.encode(&header, payload)?;
        let count = letters.len() as u64;
        let placed = (0..).zip(letters).map(|(index, letter)| DeadLetter { position: position(origin, index), ..letter });
        Ok(Applied { enriched, dead: dead_letter::pack(placed, self.max_record), letters: count, fault: None })
    }

    /// Enriches the events of a record, and finds its letters.
    fn take<'b>(&mut self, header: &Header, mut rest: &'b [u8]) -> Taken<'b> {
        self.enrichments.clear();
        self.assigned.clear();
        let mut taken = Taken { books: Books::default(), letters: Vec::new(), events: 0 };
        taken.books.take_over(&header.tallies, header.received_ms);
        let mut unread = header.events.saturating_add(header.letters);
        for _ in 0..header.events {
            let Some(event) = EventView::take(&mut rest) else { break };
            unread -= 1;
            let session = self.take_event(header, &event, &mut taken);
            if session.is_none() {
                Enrichment::begin(&mut self.enrichments).mark_dropped();
            }
            self.assigned.push(session);
        }
        // Where the end of an event cannot be found, letters have no beginning either.
        while unread > 0 && unread <= header.letters {
            let before = rest;
            let Some(letter) = DeadLetter::take(&mut rest) else {
                rest = before;
                break;
            };
            unread -= 1;
            taken.put(letter, header);
        }
        if unread > 0 {
            taken.put_rest(unread, rest, header);
        }
        taken
    }

    /// Enriches an event, or puts it aside; returns its session.
    fn take_event<'b>(&mut self, header: &Header, event: &EventView<'b>, taken: &mut Taken<'b>) -> Option<SessionId> {
        #[cfg(test)]
        tests::fail_for(event.header.visitor);
        let project = header.projects.get(usize::from(event.header.project)).copied().filter(|project| *project != ProjectId::BOOKS);
        let problem = match (Fields::of(event), project) {
            (None, _) => "fields unreadable",
            (_, None) => "project unknown",
            _ if !TIMES.contains(&event.header.at_ms) => "time out of range",
            _ if day_of(event.header.received_ms) != day_of(header.received_ms) => "received on another day than its record",
            (Some(fields), Some(project)) => {
                taken.books.received(project, event.header.received_ms, None, 1);
                taken.events += 1;
                return Some(self.enrich(event, &fields, project));
            }
        };
        let letter = DeadLetter {
            project: project.unwrap_or(ProjectId::BOOKS),
            received_ms: event.header.received_ms,
            reason: DeadReason::EventUndecodable,
            message: problem,
            source: "",
            line: 0,
            original: event.encoded(),
            id: DeadLetterId::NONE,
            position: LogPosition::UNKNOWN,
        };
        taken.put(letter, header);
        None
    }

    fn enrich(&mut self, event: &EventView<'_>, fields: &Fields<'_>, project: ProjectId) -> SessionId {
        let visitor = Visitor { project, key: event.header.visitor };
        let session = match fields.text(Field::ClientSession) {
            "" => self.sessions.assign(visitor, event.header.at_ms),
            name => SessionId::of_client(visitor, name),
        };
        let mut out = Enrichment::begin(&mut self.enrichments);
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
        session
    }

    /// The enriched record. Where it does not fit the log, its events leave with their sessions alone.
    fn encode(&self, header: &Header, payload: &[u8]) -> Result<Vec<u8>, Refused> {
        let enriched = record::enrich(header, payload, &self.enrichments)?;
        if enriched.len() <= self.max_record {
            return Ok(enriched);
        }
        let mut sessions = Vec::with_capacity(24 * self.assigned.len());
        for session in &self.assigned {
            let mut out = Enrichment::begin(&mut sessions);
            match session {
                Some(session) => {
                    out.field(Field::Session, &session.0);
                    out.finish();
                }
                None => out.mark_dropped(),
            }
        }
        let enriched = record::enrich(header, payload, &sessions)?;
        match enriched.len() <= self.max_record {
            true => Ok(enriched),
            false => {
                let message = format!("{} bytes once enriched, and the log takes {}", enriched.len(), self.max_record);
                Err(Refused { reason: DeadReason::RecordTooLarge, message })
            }
        }
    }

    /// A record that ends here as a whole, in one letter.
    fn put_aside(&self, origin: RawOrigin, payload: &[u8], refused: &Refused) -> Applied {
        let Refused { reason, message } = refused;
        let known = record::header(payload).ok().filter(|_| *reason != DeadReason::RecordUndecodable);
        let project = known.as_ref().map_or(ProjectId::BOOKS, only_project);
        let (source, tallies) = known.map_or((0, Tallies::default()), |header| (header.source, dead(&header.tallies, *reason)));
        let enriched = self.bare(origin, source, tallies);
        let enriched = enriched.filter(|enriched| enriched.len() <= self.max_record).or_else(|| {
            // Nothing can be said of it: received and dead, of nobody's project.
            let mut tallies = Tallies::default();
            tallies.add(ProjectId::BOOKS, self.received_ms, Count::Received, 1);
            tallies.add(ProjectId::BOOKS, self.received_ms, Count::Dead(*reason), 1);
            self.bare(origin, 0, tallies)
        });
        let letter = DeadLetter {
            project,
            received_ms: self.received_ms,
            reason: *reason,
            message,
            source: "",
            line: 0,
            original: payload,
            id: DeadLetterId::NONE,
            position: position(origin, 0),
        };
        Applied { enriched: enriched.unwrap_or_default(), dead: dead_letter::pack([letter], self.max_record), letters: 1, fault: None }
    }

    /// An enriched record without events; `None` if there are no books for it.
    fn bare(&self, origin: RawOrigin, source: u64, tallies: Tallies) -> Option<Vec<u8>> {
        if tallies.0.is_empty() || tallies.0.len() > MAX_TALLIES {
            return None;
        }
        let received_ms = self.received_ms;
        let (day, projects) = (day_of(received_ms), Vec::new());
        let header = Header { source, day, events: 0, received_ms, projects, tallies, letters: 0, origin: Some(origin) };
        Some(record::encode(&header, &[]))
    }
}

/// Whether a record can be what its header says.
fn check(header: &Header, body: usize) -> Result<(), RecordError> {
    if !TIMES.contains(&header.received_ms) {
        return Err(RecordError("received out of the range of time"));
    }
    // Each takes many more than one: what is damaged further on is found there.
    if header.events as usize + header.letters as usize > body {
        return Err(RecordError("more events and letters than bytes"));
    }
    Ok(())
}

/// Whose a record is that can only be shown as a whole: nobody's if it is of several projects, who must not see each other's events.
fn only_project(header: &Header) -> ProjectId {
    match header.projects.as_slice() {
        [only] => *only,
        _ => ProjectId::BOOKS,
    }
}

fn position(origin: RawOrigin, index: u32) -> LogPosition {
    LogPosition { epoch: origin.epoch, partition: origin.partition, offset: origin.offset, index }
}

/// The books of a record all of whose events end for `reason`.
fn dead(raw: &Tallies, reason: DeadReason) -> Tallies {
    let mut tallies = Tallies::default();
    for tally in raw.0.iter().take(MAX_TALLIES) {
        let number = tally.count(Count::Received);
        if number > 0 {
            let counts = vec![(Count::Received, number), (Count::Dead(reason), number)];
            tallies.0.push(record::Tally { project: tally.project, minute: tally.minute, counts });
        }
    }
    tallies
}

/// Adds where the visitor came from: campaign, click id, referrer, channel.
fn acquire(fields: &Fields<'_>, out: &mut Enrichment<'_>) {
    let url = fields.text(Field::PageUrl);
    let campaign = campaign_of(fields);
    for (field, text) in campaign.found() {
        out.field(field, text.as_bytes());
    }
    let referrer = referrer::of(fields.text(Field::Referrer), url);
    out.field(Field::ReferrerDomain, referrer.domain.as_bytes());
    let is_page = [Field::PageUrl, Field::PagePath, Field::PageSearch].iter().any(|field| !fields.get(*field).is_empty());
    if is_page || !referrer.domain.is_empty() || !campaign.is_empty() {
        out.field(Field::Channel, channel(&campaign, &referrer).as_bytes());
    }
}

/// The campaign, from whichever of the page's address, query and path has a query.
fn campaign_of<'a>(fields: &Fields<'a>) -> Campaign<'a> {
    let given = Campaign::given(fields);
    let (url, search) = (fields.text(Field::PageUrl), fields.text(Field::PageSearch));
    if url.contains('?') {
        campaign::of(given, url)
    } else if !search.is_empty() {
        campaign::of_query(given, search)
    } else {
        campaign::of(given, fields.text(Field::PagePath))
    }
}

/// What was found in a record.
struct Taken<'b> {
    books: Books,
    letters: Vec<DeadLetter<'b>>,
    events: u32,
}

impl<'b> Taken<'b> {
    fn put(&mut self, mut letter: DeadLetter<'b>, header: &Header) {
        if day_of(letter.received_ms) != day_of(header.received_ms) {
            letter.received_ms = header.received_ms;
        }
        self.books.received(letter.project, letter.received_ms, Some(Count::Dead(letter.reason)), 1);
        self.letters.push(letter);
    }

    /// The rest of a record in which not even the ends of events or letters can be found: one letter holds it, and each of the
    /// `missing` that it should have held is counted.
    fn put_rest(&mut self, missing: u32, rest: &'b [u8], header: &Header) {
        let letter = DeadLetter {
            project: only_project(header),
            received_ms: header.received_ms,
            reason: DeadReason::EventUndecodable,
            message: dead_letter::REST_UNREADABLE,
            source: "",
            line: 0,
            original: rest,
            id: DeadLetterId::NONE,
            position: LogPosition::UNKNOWN,
        };
        let dead = Some(Count::Dead(letter.reason));
        self.books.received(letter.project, letter.received_ms, dead, missing - 1);
        self.put(letter, header);
    }
}

#[cfg(test)]
mod tests;
