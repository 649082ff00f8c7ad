//! What happens to a record between the raw and the enriched topic. Pure CPU: no I/O, no clock.
//!
//! [`Pipeline::stages`] is the list of its stages, [`Pipeline::enrich`] that of an event's. Promises: whatever a record holds, it costs at
//! most itself. What cannot be read, is of no project, fails or does not fit the log becomes a dead letter; what was received is what goes
//! on and what ended here; and what comes out fits the log. The user agents of events do not go on: what they say does. The dead letter of
//! an event holds its agent, with which it may be tried again.

mod books;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::books::Books;
use super::enrich::agent::{AgentCache, AgentParser};
use super::enrich::campaign::{self, Campaign};
use super::enrich::channel::channel;
use super::enrich::referrer;
use crate::event::dead_letter::{self, DeadLetter, DeadLetterId, LogPosition};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::packed::{self, Enrichment, Fields, RawEvent, RawEvents};
use crate::event::record::{self, Header, Raw, RawOrigin, RecordError, Tallies, day_of};
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
    agents: AgentCache,
    /// Largest record that the log takes, bytes.
    max_record: usize,
    raw: Raw,
    enrichments: Vec<u8>,
    /// Whether each event goes on.
    kept: Vec<bool>,
    /// How far the log has come, by receipt: the day of what cannot be read.
    received_ms: i64,
}

impl Pipeline {
    pub(super) fn new(agents: Arc<AgentParser>, max_record: usize) -> Self {
        Self { agents: AgentCache::new(agents), max_record, raw: Raw::default(), enrichments: Vec::new(), kept: Vec::new(), received_ms: 0 }
    }

    /// Sets the time of receipt of records that cannot be read.
    pub(super) fn starts_at(&mut self, now_ms: i64) {
        self.received_ms = now_ms;
    }

    /// Takes a raw record to its enriched form, and what of it ends here to dead letters.
    pub(super) fn apply(&mut self, origin: RawOrigin, payload: &[u8]) -> Applied {
        let mut raw = std::mem::take(&mut self.raw);
        // Buffers are cleared before each use, so a panic leaves nothing half done; processed again, the record fails at the same place.
        let applied = catch_unwind(AssertUnwindSafe(|| self.stages(origin, payload, &mut raw)));
        self.raw = raw;
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

    /// The stages of a record, in order.
    fn stages(&mut self, origin: RawOrigin, payload: &[u8], raw: &mut Raw) -> Result<Applied, Refused> {
        let header = record::decode_raw(payload, raw)?;
        check(&header, raw.body.len())?;
        self.received_ms = header.received_ms;
        let Taken { books, mut letters, events, parted } = self.enrich_events(&header, raw);
        let whole: Vec<Vec<u8>> = parted.iter().map(Parted::whole).collect();
        for (parted, whole) in parted.iter().zip(&whole) {
            if let Some(letter) = letters.get_mut(parted.letter) {
                letter.original = whole;
            }
        }
        let header = enriched_header(header, events, books.into_tallies(), origin)?;
        let enriched = self.encode(&header, payload)?;
        let count = letters.len() as u64;
        let dead = self.pack(letters, origin);
        Ok(Applied { enriched, dead, letters: count, fault: None })
    }

    /// Enriches the events of a record, and finds its letters.
    fn enrich_events<'b>(&mut self, header: &Header, raw: &'b Raw) -> Taken<'b> {
        let mut unread_events = RawEvents::new(&raw.body, &raw.agents);
        self.enrichments.clear();
        self.kept.clear();
        let mut taken = Taken { books: Books::default(), letters: Vec::new(), events: 0, parted: Vec::new() };
        taken.books.take_over(&header.tallies, header.received_ms);
        let mut unread = header.events.saturating_add(header.letters);
        for _ in 0..header.events {
            let Some(event) = unread_events.next() else { break };
            unread -= 1;
            let is_kept = self.take_event(header, &event, &mut taken);
            if !is_kept {
                Enrichment::begin(&mut self.enrichments).mark_dropped();
            }
            self.kept.push(is_kept);
        }
        let mut rest = unread_events.rest;
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

    /// Enriches an event, or puts it aside; returns whether it goes on.
    fn take_event<'b>(&mut self, header: &Header, raw: &RawEvent<'b>, taken: &mut Taken<'b>) -> bool {
        let event = &raw.view;
        #[cfg(test)]
        tests::fail_for(event.header.visitor);
        let project = header.projects.get(usize::from(event.header.project)).copied().filter(|project| *project != ProjectId::BOOKS);
        let problem = match (raw.fields(), project) {
            (None, _) => "fields unreadable",
            (_, None) => "project unknown",
            _ if !TIMES.contains(&event.header.at_ms) => "time out of range",
            _ if day_of(event.header.received_ms) != day_of(header.received_ms) => "received on another day than its record",
            (Some(fields), Some(project)) => {
                taken.books.received(project, event.header.received_ms, None, 1);
                taken.events += 1;
                self.enrich(&fields);
                return true;
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
        if !raw.agent.is_empty() {
            taken.parted.push(Parted { letter: taken.letters.len(), event: *raw });
        }
        taken.put(letter, header);
        false
    }

    /// The stages of an event, in order.
    fn enrich(&mut self, fields: &Fields<'_>) {
        let mut out = Enrichment::begin(&mut self.enrichments);
        add_agent(&mut self.agents, fields, &mut out);
        add_acquisition(fields, &mut out);
        out.finish();
    }

    /// The enriched record. Where it does not fit the log, its events leave as they came.
    fn encode(&self, header: &Header, payload: &[u8]) -> Result<Vec<u8>, Refused> {
        let enriched = record::enrich(header, payload, &self.enrichments)?;
        if enriched.len() <= self.max_record {
            return Ok(enriched);
        }
        let mut bare = Vec::with_capacity(2 * self.kept.len());
        for is_kept in &self.kept {
            let out = Enrichment::begin(&mut bare);
            if *is_kept { out.finish() } else { out.mark_dropped() }
        }
        let enriched = record::enrich(header, payload, &bare)?;
        if enriched.len() > self.max_record {
            let message = format!("{} bytes once enriched, and the log takes {}", enriched.len(), self.max_record);
            return Err(Refused { reason: DeadReason::RecordTooLarge, message });
        }
        Ok(enriched)
    }

    /// The records of the dead topic that hold the letters of a raw record.
    fn pack(&self, letters: Vec<DeadLetter<'_>>, origin: RawOrigin) -> Vec<Vec<u8>> {
        let placed = (0..).zip(letters).map(|(index, letter)| DeadLetter { position: position(origin, index), ..letter });
        dead_letter::pack(placed, self.max_record)
    }

    /// A record that ends here as a whole, in one letter.
    fn put_aside(&self, origin: RawOrigin, payload: &[u8], refused: &Refused) -> Applied {
        let Refused { reason, message } = refused;
        let known = record::header(payload).ok().filter(|_| *reason != DeadReason::RecordUndecodable);
        let project = known.as_ref().map_or(ProjectId::BOOKS, only_project);
        let (source, tallies) = known.map_or((0, Tallies::default()), |header| (header.source, dead(&header.tallies, *reason)));
        let enriched = self.bare(origin, source, tallies);
        let enriched = enriched.filter(|enriched| enriched.len() <= self.max_record).or_else(|| {
            // Nothing else is known of it: received and dead, of no project.
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

/// The header of the enriched record: the raw one with the events that go on and the books of all.
fn enriched_header(raw: Header, events: u32, tallies: Tallies, origin: RawOrigin) -> Result<Header, RecordError> {
    if tallies.0.len() > MAX_TALLIES {
        return Err(RecordError("more projects and minutes than a record may have"));
    }
    Ok(Header { day: day_of(raw.received_ms), events, letters: 0, tallies, origin: Some(origin), ..raw })
}

/// The project that may see a record as a whole: none if it is of several, which must not see each other's events.
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

/// Adds browser, system, device and bot, from the user agent. What the client says about its own device is kept: it is more precise.
fn add_agent(agents: &mut AgentCache, fields: &Fields<'_>, out: &mut Enrichment<'_>) {
    let agent_text = fields.text(Field::UserAgent);
    if agent_text.is_empty() {
        return;
    }
    for (field, text) in agents.parse(agent_text).fields() {
        if fields.get(field).is_empty() {
            out.field(field, text.as_bytes());
        }
    }
}

/// Adds where the visitor came from: campaign, click id, referrer, channel.
fn add_acquisition(fields: &Fields<'_>, out: &mut Enrichment<'_>) {
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
    parted: Vec<Parted<'b>>,
}

/// An event that ended as a letter, and whose agent stands apart from it.
struct Parted<'b> {
    /// The place of its letter among all.
    letter: usize,
    event: RawEvent<'b>,
}

impl Parted<'_> {
    fn whole(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        packed::put_as(&self.event, &self.event.view.header, &mut whole);
        whole
    }
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
