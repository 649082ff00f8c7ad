//! The block that a partition is filling: rows, books, and the candidates for duplicates that only the table can tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::dedupe::{EventKey, Fingerprint, Verdict, earliest_receipt_ms};
use super::memory::Memory;
use super::row::{Belonging, Covered, RowOrigin, Rows};
use super::sessions::{Row, Sessions, Settled};
use super::ties::Ties;
use crate::clock;
use crate::event::field::Field;
use crate::event::ids::{LogEpoch, ProjectId};
use crate::event::packed::{EnrichedEvents, EventView, Fields};
use crate::event::record::{Enriched, Header, RawOrigin, Tallies, Tally};
use crate::event::session::{Campaign, Moment, SessionId, Visitor};
use crate::outcome::{Count, DeadReason};
use crate::store::books::PartitionKey;
use crate::store::data_version::{Arrived, Quarter};
use crate::store::tables::identities::TieState;

/// What tells payloads of one id apart: name and the time the client gave.
pub(super) fn fingerprint(event_type: &[u8], original_ms: i64) -> Fingerprint {
    xxh3_64_with_seed(event_type, original_ms as u64) as Fingerprint
}

/// What together names the campaign that an event carries.
const CAMPAIGN: [Field; 7] = [
    Field::CampaignSource,
    Field::CampaignMedium,
    Field::CampaignName,
    Field::CampaignTerm,
    Field::CampaignContent,
    Field::ClickIdKind,
    Field::ClickId,
];

/// Up to this size the memory of a block is always kept: a partition seldom exceeds it while loading keeps up.
const REUSED_ROWS: usize = 16_384;
/// Larger memory is freed after so many blocks in a row that needed half of it or less: partitions have their large blocks in turns.
const SMALL_BLOCKS: u32 = 10;

/// An event that may be a copy of one in the table.
pub(super) struct DuplicateCandidate {
    pub(super) key: EventKey,
    pub(super) fingerprint: Fingerprint,
    /// Earliest time at which a copy can have been received; see [`earliest_receipt_ms`].
    pub(super) earliest_ms: i64,
    source: u64,
    origin: RowOrigin,
    /// The event, followed by what process added to it.
    event: Vec<u8>,
}

#[cfg(test)]
impl DuplicateCandidate {
    /// One that can have been received since then.
    pub(super) fn since(earliest_ms: i64) -> Self {
        let key = EventKey { project: ProjectId(1), event_id: [0; 16], visitor: crate::event::ids::VisitorKey(1) };
        Self { key, fingerprint: 0, earliest_ms, source: 0, origin: RowOrigin { day: 0, offset: 0, index: 0 }, event: Vec::new() }
    }
}

/// Rows of whole records, all received on one day.
pub(super) struct Block {
    rows: Rows,
    /// For the next block, while this one is on its way.
    spare: Option<Rows>,
    /// Blocks in a row that were much smaller than the memory they had.
    small: u32,
    books: BTreeMap<u64, Tallies>,
    pub(super) candidates: Vec<DuplicateCandidate>,
    waits: Vec<(ProjectId, i64, u32)>,
    /// Of the events that have rows or may get some.
    bytes: usize,
    arrived: Arrived,
    pub(super) ties: Ties,
    open: Option<Open>,
}

struct Open {
    since: Instant,
    late: Duration,
    epoch: LogEpoch,
    partition: u16,
    day: u16,
    previous: i64,
    first_offset: i64,
    last_offset: i64,
    next_enriched: i64,
    /// Receipt of the last record.
    received_ms: i64,
}

/// A record of the enriched topic.
#[derive(Clone, Copy)]
pub(super) struct EnrichedRecord<'a> {
    pub(super) header: &'a Header,
    pub(super) origin: RawOrigin,
    pub(super) content: &'a Enriched,
    /// In the enriched topic.
    pub(super) offset: i64,
}

/// An event of a record, and what process added to it.
struct EnrichedEvent<'a> {
    event: EventView<'a>,
    enrichment: &'a [u8],
}

/// An event that is no copy.
#[derive(Clone, Copy)]
struct NewEvent<'a, 'e> {
    event: &'a EventView<'e>,
    fields: &'a Fields<'e>,
    project: ProjectId,
    origin: RowOrigin,
}

/// A block on its way, kept for retries.
pub(super) struct Sealed {
    pub(super) epoch: LogEpoch,
    pub(super) partition: u16,
    /// The raw offset before those covered.
    pub(super) previous: i64,
    /// Raw offsets covered.
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    /// Where the enriched topic is resumed once this is stored.
    pub(super) next_enriched: i64,
    pub(super) rows: Arc<Rows>,
    /// Receipt time and number of the events, for the latency.
    pub(super) waits: Vec<(ProjectId, i64, u32)>,
    /// How many events it has, by project and time; none at times of which only the sessions of stored events are others than before.
    pub(super) arrived: BTreeMap<(ProjectId, Quarter), u64>,
    /// What its events tie, by project.
    pub(super) tied: BTreeMap<ProjectId, Vec<TieState>>,
}

impl Sealed {
    pub(super) fn key(&self) -> PartitionKey {
        PartitionKey { epoch: self.epoch, partition: self.partition }
    }
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            rows: Rows::new(),
            spare: None,
            small: 0,
            books: BTreeMap::new(),
            candidates: Vec::new(),
            waits: Vec::new(),
            bytes: 0,
            arrived: Arrived::default(),
            ties: Ties::default(),
            open: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Rows it has or may get.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.candidates.len()
    }

    /// Bytes of the events of these rows, encoded.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When its first record was added, and how long that was after its receipt.
    pub(super) fn since(&self) -> Option<(Instant, Duration)> {
        self.open.as_ref().map(|open| (open.since, open.late))
    }

    /// Partition of its records.
    pub(super) fn key(&self) -> Option<PartitionKey> {
        self.open.as_ref().map(|open| PartitionKey { epoch: open.epoch, partition: open.partition })
    }

    /// Whether a record of that day may be added: one block goes into one partition of the table.
    pub(super) fn takes(&self, origin: &RawOrigin, day: u16) -> bool {
        self.open.as_ref().is_none_or(|open| open.day == day && open.epoch == origin.epoch)
    }

    /// Adds a whole record.
    pub(super) fn push(&mut self, record: EnrichedRecord<'_>, memory: &mut Memory) {
        let EnrichedRecord { header, origin, content, offset: enriched } = record;
        let open = self.open.get_or_insert_with(|| Open {
            since: Instant::now(),
            late: Duration::from_millis(u64::try_from(clock::now_ms().saturating_sub(header.received_ms)).unwrap_or(0)),
            epoch: origin.epoch,
            partition: origin.partition,
            day: header.day,
            previous: origin.previous,
            first_offset: origin.offset,
            last_offset: origin.offset,
            next_enriched: enriched + 1,
            received_ms: header.received_ms,
        });
        open.last_offset = origin.offset;
        open.next_enriched = enriched + 1;
        open.received_ms = header.received_ms;
        self.books.entry(header.source).or_default().merge(&header.tallies);
        if header.source == 0 && header.events > 0 {
            let received = header.tallies.0.iter().map(|tally| (tally.project, header.received_ms, tally.count(Count::Received)));
            self.waits.extend(received);
        }
        let mut taken = 0;
        for (event, enrichment) in EnrichedEvents::new(&content.events, &content.enrichments) {
            let index = u16::try_from(taken).unwrap_or(u16::MAX);
            let row_origin = RowOrigin { day: header.day, offset: origin.offset, index };
            self.push_event(EnrichedEvent { event, enrichment }, header, row_origin, memory);
            taken += 1;
        }
        if taken != header.events {
            let (partition, offset, events) = (origin.partition, origin.offset, header.events);
            tracing::error!(partition, offset, events, taken, "an enriched record does not hold as many events as it says");
        }
    }

    fn push_event(&mut self, enriched: EnrichedEvent<'_>, header: &Header, origin: RowOrigin, memory: &mut Memory) {
        let EnrichedEvent { event, enrichment } = enriched;
        let Some(project) = header.projects.get(usize::from(event.header.project)).copied() else {
            tracing::error!(
                offset = origin.offset,
                project = event.header.project,
                "an event names a project that its record does not have"
            );
            return self.count(header.source, ProjectId::BOOKS, event.header.received_ms, Count::Dead(DeadReason::RecordFailed));
        };
        // Process has read every field of it; what it could not read went to the dead topic.
        let fields = Fields::enriched(&event, enrichment).unwrap_or_default();
        let fingerprint = fingerprint(fields.get(Field::Type), event.header.original_ms);
        let bytes = event.encoded().len() + enrichment.len();
        match memory.dedupe.admit(project, &event.header, fingerprint) {
            Verdict::New => {
                self.bytes += bytes;
                self.store(NewEvent { event: &event, fields: &fields, project, origin }, &mut memory.sessions);
                self.count(header.source, project, event.header.received_ms, Count::Stored);
            }
            Verdict::Copy { conflict } => self.copy(header.source, project, event.header.received_ms, conflict),
            Verdict::Candidate => {
                self.bytes += bytes;
                self.candidates.push(DuplicateCandidate {
                    key: EventKey::of(project, &event.header),
                    fingerprint,
                    earliest_ms: earliest_receipt_ms(&event.header),
                    source: header.source,
                    origin,
                    event: [event.encoded(), enrichment].concat(),
                });
            }
        }
    }

    fn store(&mut self, new: NewEvent<'_, '_>, sessions: &mut Sessions) {
        let NewEvent { event, fields, project, origin } = new;
        let visitor = Visitor { project, key: event.header.visitor };
        let campaign = Campaign::of(CAMPAIGN.map(|field| fields.get(field)));
        let session = match fields.text(Field::ClientSession) {
            "" => sessions.assign(visitor, Moment { at_ms: event.header.at_ms, campaign }),
            name => Some(SessionId::of_client(visitor, name)),
        };
        self.arrived.add(project, event.header.at_ms);
        self.ties.note(project, &event.header, fields);
        self.rows.event(event, fields, Belonging { project, session, campaign }, origin);
    }

    fn copy(&mut self, source: u64, project: ProjectId, received_ms: i64, conflict: bool) {
        self.count(source, project, received_ms, Count::Duplicate);
        if conflict {
            self.count(source, project, received_ms, Count::Conflict);
        }
    }

    fn count(&mut self, source: u64, project: ProjectId, received_ms: i64, count: Count) {
        self.books.entry(source).or_default().add(project, received_ms, count, 1);
    }

    /// Stores the candidates that are new and counts the others as copies: `stored` answers what the table has under an id.
    pub(super) fn resolve_duplicates(&mut self, stored: impl Fn(&EventKey) -> Option<Fingerprint>, sessions: &mut Sessions) {
        for candidate in std::mem::take(&mut self.candidates) {
            let mut rest = candidate.event.as_slice();
            let Some(event) = EventView::take(&mut rest) else { continue };
            let received_ms = event.header.received_ms;
            match stored(&candidate.key) {
                Some(earlier) => self.copy(candidate.source, candidate.key.project, received_ms, earlier != candidate.fingerprint),
                None => {
                    let fields = Fields::enriched(&event, rest).unwrap_or_default();
                    self.store(
                        NewEvent { event: &event, fields: &fields, project: candidate.key.project, origin: candidate.origin },
                        sessions,
                    );
                    self.count(candidate.source, candidate.key.project, received_ms, Count::Stored);
                }
            }
        }
    }

    /// The rows of visitors whose sessions the table must tell. All candidates must have been resolved.
    pub(super) fn waiting_rows(&mut self, sessions: &Sessions) -> Vec<Row> {
        if !sessions.has_open() {
            return Vec::new();
        }
        self.rows.rename_sessions(sessions);
        self.rows.of_waiting(sessions)
    }

    /// Gives the rows their sessions, and says which stored events belong to others than before.
    pub(super) fn settle_sessions(&mut self, settled: Settled, sessions: &mut Sessions) {
        let Some(open) = &self.open else { return };
        let (received_ms, origin) = (open.received_ms, RowOrigin { day: open.day, offset: open.last_offset, index: 0 });
        for (row, session) in settled.rows {
            self.rows.set_session(row, session);
        }
        for revision in &settled.revisions {
            self.rows.revision(revision, received_ms, origin);
            self.arrived.touch(revision.visitor.project, revision.from_ms, revision.to_ms);
        }
        sessions.end_block(received_ms);
    }

    /// The books so far, by source.
    #[cfg(test)]
    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tallies> {
        self.books.values()
    }

    /// Closes the books and starts anew; `None` if it is empty. All candidates must have been resolved.
    pub(super) fn seal(&mut self) -> Option<Sealed> {
        debug_assert!(self.candidates.is_empty(), "candidates are resolved before the block is sealed");
        let open = self.open.take()?;
        let covered = Covered { day: open.day, previous: open.previous, last: open.last_offset };
        for (source, tallies) in &self.books {
            for tally in &tallies.0 {
                self.rows.books(tally, *source, covered);
            }
        }
        if self.books.values().all(|tallies| tallies.0.is_empty()) {
            // Nothing happened in these records, but the table must still show that they are done.
            let nothing = Tally { project: ProjectId::BOOKS, minute: u32::from(open.day) * 1_440, counts: Vec::new() };
            self.rows.books(&nothing, 0, covered);
        }
        let arrived = self.arrived.take();
        let mut tied: BTreeMap<ProjectId, Vec<TieState>> = BTreeMap::new();
        self.ties.take().iter().for_each(|tie| tied.entry(tie.project).or_default().push(tie.state()));
        self.rows.all_arrivals(&arrived, open.received_ms, RowOrigin { day: open.day, offset: open.last_offset, index: 0 });
        let sealed = Sealed {
            epoch: open.epoch,
            partition: open.partition,
            previous: open.previous,
            first_offset: open.first_offset,
            last_offset: open.last_offset,
            next_enriched: open.next_enriched,
            rows: Arc::new(std::mem::replace(&mut self.rows, self.spare.take().unwrap_or_else(Rows::new))),
            waits: std::mem::take(&mut self.waits),
            arrived,
            tied,
        };
        self.books.clear();
        self.bytes = 0;
        Some(sealed)
    }

    /// Takes back the memory of a block that has been stored. That of a burst is kept while it lasts, because new pages cost more than
    /// what is written into them; afterwards other partitions need the memory more.
    pub(super) fn reuse(&mut self, sealed: Sealed) {
        let Some(mut rows) = Arc::into_inner(sealed.rows) else { return };
        let enough = REUSED_ROWS.max(2 * rows.len());
        rows.clear();
        self.small = if rows.most() <= enough { 0 } else { self.small + 1 };
        self.spare = Some(rows).filter(|_| self.small < SMALL_BLOCKS);
    }
}
