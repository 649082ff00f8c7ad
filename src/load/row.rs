//! Events and books as rows of the event table, collected by column as [`schema`] declares them.
//!
//! Columns are collected in groups of one storage, so that each group is a tight loop over constants and a warm loader allocates
//! nothing for a row.

mod beside;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::beside::{Arrivals, BooksValues, RevisionValues};
use super::sessions::{Revision, Row, Sessions};
use crate::clickhouse::Statement;
use crate::clickhouse::native::{self, DictionaryColumn, FixedColumn, MapColumn, StringColumn};
use crate::clock;
use crate::event::field::Field;
use crate::event::ids::{ProjectId, VisitorKey};
use crate::event::packed::{Entry, EventView, Fields};
use crate::event::page::Page;
use crate::event::record::Tally;
use crate::event::session::{Campaign, Moment, SessionId, Visitor};
use crate::store::books::{ARRIVALS_TYPE, BOOKS_TYPE, PartitionKey};
use crate::store::data_version::Quarter;
use crate::store::revisions::REVISION_TYPE;
use crate::store::schema::{self, COLUMNS, Column, Source, Storage};

const FIXED_2: [Column; schema::count(Storage::Fixed2)] = schema::select(Storage::Fixed2);
const FIXED_4: [Column; schema::count(Storage::Fixed4)] = schema::select(Storage::Fixed4);
const FIXED_8: [Column; schema::count(Storage::Fixed8)] = schema::select(Storage::Fixed8);
const FIXED_16: [Column; schema::count(Storage::Fixed16)] = schema::select(Storage::Fixed16);
const TEXTS: [Column; schema::count(Storage::Text)] = schema::select(Storage::Text);
const DICTIONARIES: [Column; schema::count(Storage::Dictionary)] = schema::select(Storage::Dictionary);

/// Longest value of a column of free text, bytes: addresses come as long as they were, because everything in them is to be read.
const MAX_TEXT: usize = 2_048;

/// The raw records of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered {
    /// Of receipt, days since 1970.
    pub(super) day: u16,
    /// The raw offset before the first.
    pub(super) previous: i64,
    /// The last raw offset.
    pub(super) last: i64,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowOrigin {
    /// Of receipt of its record, days since 1970.
    pub(super) day: u16,
    /// Of its raw record.
    pub(super) offset: i64,
    /// Among the events of its record.
    pub(super) index: u16,
}

/// Whose an event is, and what it was led by. Without a session the row waits for one: [`Rows::set_session`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Belonging {
    pub(super) project: ProjectId,
    pub(super) session: Option<SessionId>,
    pub(super) campaign: Campaign,
}

/// Rows on their way into one block. Cleared and used again.
#[derive(Debug)]
pub(super) struct Rows {
    rows: usize,
    /// As many as were there at once, before the last [`Self::clear`].
    most: usize,
    fixed_2: [FixedColumn<2>; FIXED_2.len()],
    fixed_4: [FixedColumn<4>; FIXED_4.len()],
    fixed_8: [FixedColumn<8>; FIXED_8.len()],
    fixed_16: [FixedColumn<16>; FIXED_16.len()],
    texts: [StringColumn; TEXTS.len()],
    dictionaries: [DictionaryColumn; DICTIONARIES.len()],
    strings: MapColumn,
    numbers: MapColumn,
    others: MapColumn,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            most: 0,
            fixed_2: fixed(&FIXED_2),
            fixed_4: fixed(&FIXED_4),
            fixed_8: fixed(&FIXED_8),
            fixed_16: fixed(&FIXED_16),
            texts: Default::default(),
            dictionaries: std::array::from_fn(|_| DictionaryColumn::default()),
            strings: MapColumn::strings(),
            numbers: MapColumn::numbers(),
            others: MapColumn::strings(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// For how many rows there is memory, at least.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Adds an event.
    pub(super) fn event(&mut self, event: &EventView<'_>, fields: &Fields<'_>, belonging: Belonging, origin: RowOrigin) {
        self.rows += 1;
        let event = EventValues { event, fields, belonging, origin };
        push_all(&FIXED_2, &mut self.fixed_2, |source| event.two(source));
        push_all(&FIXED_4, &mut self.fixed_4, |source| event.four(source));
        push_all(&FIXED_8, &mut self.fixed_8, |source| event.eight(source));
        push_all(&FIXED_16, &mut self.fixed_16, |source| event.sixteen(source));
        let page = page_of(fields);
        for (Column { source, .. }, values) in TEXTS.iter().zip(&mut self.texts) {
            let Source::Text(field) = source else { continue };
            values.push(clip(match (field, fields.get(*field)) {
                (Field::PagePath, b"") => page.path.as_bytes(),
                (Field::PageSearch, b"") => page.search.as_bytes(),
                (_, text) => text,
            }));
        }
        for (Column { source, .. }, values) in DICTIONARIES.iter().zip(&mut self.dictionaries) {
            let Source::Text(field) = source else { continue };
            match (field, fields.get(*field)) {
                (Field::PageHost, b"") => small_letters(page.host.as_bytes(), |host| values.push(host)),
                (Field::PageHost, host) => small_letters(host, |host| values.push(host)),
                (_, text) => values.push(text),
            }
        }
        self.properties(fields);
    }

    fn properties(&mut self, fields: &Fields<'_>) {
        for entry in fields.properties() {
            match entry {
                Entry::String(key, value) => self.strings.string(key, value),
                Entry::Number(key, value) => self.numbers.number(key, value),
                Entry::Other(key, json) => self.others.string(key, json),
                Entry::Field(..) | Entry::Damaged => {}
            }
        }
        self.end_maps();
    }

    fn end_maps(&mut self) {
        self.strings.end_row();
        self.numbers.end_row();
        self.others.end_row();
    }

    /// Adds a row of the books: what happened in one minute to the events of one project and source, in a block of raw records.
    pub(super) fn books(&mut self, tally: &Tally, source: u64, covered: Covered) {
        self.rows += 1;
        let books = BooksValues { tally, import: source, covered };
        push_all(&FIXED_2, &mut self.fixed_2, |source| books.two(source));
        push_all(&FIXED_4, &mut self.fixed_4, |source| books.four(source));
        push_all(&FIXED_8, &mut self.fixed_8, |source| books.eight(source));
        push_all(&FIXED_16, &mut self.fixed_16, |_| [0; 16]);
        self.no_texts_but_the_type(BOOKS_TYPE);
        for (count, number) in &tally.counts {
            self.numbers.number(count.name().as_bytes(), f64::from(*number));
        }
        self.end_maps();
    }

    /// Adds rows that say of which times the events of the block are, received by `received_ms`.
    pub(super) fn all_arrivals(&mut self, arrived: &BTreeMap<(ProjectId, Quarter), u64>, received_ms: i64, origin: RowOrigin) {
        let at_ms = clock::now_ms();
        let all: Vec<(ProjectId, Quarter, u64)> =
            arrived.iter().map(|((project, quarter), events)| (*project, *quarter, *events)).collect();
        for events in all.chunk_by(|left, right| left.0 == right.0) {
            let Some((project, ..)) = events.first() else { continue };
            self.arrivals(&Arrivals { project: *project, events, at_ms, received_ms, origin });
        }
    }

    fn arrivals(&mut self, arrivals: &Arrivals<'_>) {
        self.rows += 1;
        push_all(&FIXED_2, &mut self.fixed_2, |source| arrivals.two(source));
        push_all(&FIXED_4, &mut self.fixed_4, |_| [0; 4]);
        push_all(&FIXED_8, &mut self.fixed_8, |source| arrivals.eight(source));
        push_all(&FIXED_16, &mut self.fixed_16, |source| arrivals.sixteen(source));
        self.no_texts_but_the_type(ARRIVALS_TYPE);
        for (_, quarter, events) in arrivals.events {
            self.numbers.number(quarter.to_string().as_bytes(), *events as f64);
        }
        self.end_maps();
    }

    fn no_texts_but_the_type(&mut self, event_type: &str) {
        self.texts.iter_mut().for_each(|values| values.push(&[]));
        for (Column { source, .. }, values) in DICTIONARIES.iter().zip(&mut self.dictionaries) {
            values.push(if *source == Source::Text(Field::Type) { event_type.as_bytes() } else { &[] });
        }
    }

    /// Adds a row that says to which session stored events belong, received at `received_ms`.
    pub(super) fn revision(&mut self, revision: &Revision, received_ms: i64, origin: RowOrigin) {
        self.rows += 1;
        let values = RevisionValues { revision, received_ms, origin };
        push_all(&FIXED_2, &mut self.fixed_2, |source| values.two(source));
        push_all(&FIXED_4, &mut self.fixed_4, |source| values.four(source));
        push_all(&FIXED_8, &mut self.fixed_8, |source| values.eight(source));
        push_all(&FIXED_16, &mut self.fixed_16, |source| values.sixteen(source));
        self.no_texts_but_the_type(REVISION_TYPE);
        self.end_maps();
    }

    /// The rows of visitors whose events wait, but those in a session that the client named.
    pub(super) fn of_waiting(&self, sessions: &Sessions) -> Vec<Row> {
        let column = |source| self.fixed_8.get(place(&FIXED_8, source)).into_iter().flat_map(FixedColumn::values);
        let visitors = column(Source::Project)
            .zip(column(Source::Visitor))
            .map(|(project, key)| Visitor { project: ProjectId(u64::from_le_bytes(project)), key: VisitorKey(u64::from_le_bytes(key)) });
        let times = column(Source::HappenedAt).map(i64::from_le_bytes);
        let campaigns = self.fixed_4.get(place(&FIXED_4, Source::Campaign)).into_iter().flat_map(FixedColumn::values);
        let moments = times.zip(campaigns).map(|(at_ms, hash)| Moment { at_ms, campaign: Campaign(u32::from_le_bytes(hash)) });
        let mut rows = Vec::new();
        for (row, ((visitor, moment), session)) in visitors.zip(moments).zip(self.sessions()).enumerate() {
            if sessions.is_waiting(visitor) && (session == NO_SESSION || session.start_ms().is_some()) {
                rows.push(Row { visitor, moment, row });
            }
        }
        rows
    }

    /// The session of each row.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let ids = self.fixed_16.get(place(&FIXED_16, Source::Session)).into_iter().flat_map(FixedColumn::values);
        ids.map(|id| SessionId(native::uuid_bytes(id)))
    }

    /// Gives those rows their new session whose session began earlier than was known.
    pub(super) fn rename_sessions(&mut self, sessions: &Sessions) {
        let rows = self.sessions().enumerate();
        let renamed: Vec<(usize, SessionId)> = rows.filter_map(|(row, session)| Some((row, sessions.renamed(session)?))).collect();
        renamed.into_iter().for_each(|(row, session)| self.set_session(row, session));
    }

    /// Gives a row its session.
    pub(super) fn set_session(&mut self, row: usize, session: SessionId) {
        if let Some(column) = self.fixed_16.get_mut(place(&FIXED_16, Source::Session)) {
            column.set(row, native::uuid_bytes(session.0));
        }
    }

    /// Forgets the rows, not the memory.
    pub(super) fn clear(&mut self) {
        self.most = self.most.max(self.rows);
        self.rows = 0;
        self.fixed_2.iter_mut().for_each(FixedColumn::clear);
        self.fixed_4.iter_mut().for_each(FixedColumn::clear);
        self.fixed_8.iter_mut().for_each(FixedColumn::clear);
        self.fixed_16.iter_mut().for_each(FixedColumn::clear);
        self.texts.iter_mut().for_each(StringColumn::clear);
        self.dictionaries.iter_mut().for_each(DictionaryColumn::clear);
        self.strings.clear();
        self.numbers.clear();
        self.others.clear();
    }
}

/// What stands in a row that waits for its session.
const NO_SESSION: SessionId = SessionId([0; 16]);

/// Which of `columns` has the values of `source`.
fn place<const N: usize>(columns: &[Column; N], source: Source) -> usize {
    columns.iter().position(|column| column.source == source).unwrap_or(N)
}

fn fixed<const W: usize, const N: usize>(columns: &[Column; N]) -> [FixedColumn<W>; N] {
    std::array::from_fn(|at| FixedColumn::new(columns[at].ty.name()))
}

fn push_all<const W: usize, const N: usize>(
    columns: &'static [Column; N],
    values: &mut [FixedColumn<W>; N],
    value: impl Fn(Source) -> [u8; W],
) {
    for (column, values) in columns.iter().zip(values) {
        values.push(value(column.source));
    }
}

/// The values of fixed width that an event has; zero where there is none.
struct EventValues<'a, 'e> {
    event: &'a EventView<'e>,
    fields: &'a Fields<'e>,
    belonging: Belonging,
    origin: RowOrigin,
}

impl EventValues<'_, '_> {
    fn number<const W: usize>(&self, source: Source) -> [u8; W] {
        let Source::Number(field) = source else { return [0; W] };
        self.fields.get(field).try_into().unwrap_or([0; W])
    }

    fn two(&self, source: Source) -> [u8; 2] {
        match source {
            Source::ReceivedDay => self.origin.day.to_le_bytes(),
            Source::LogIndex => self.origin.index.to_le_bytes(),
            other => self.number(other),
        }
    }

    fn four(&self, source: Source) -> [u8; 4] {
        match source {
            Source::Flags => self.event.header.flags.to_le_bytes(),
            Source::Campaign => self.belonging.campaign.0.to_le_bytes(),
            other => self.number(other),
        }
    }

    fn eight(&self, source: Source) -> [u8; 8] {
        let fixed = &self.event.header;
        match source {
            Source::Project => self.belonging.project.0.to_le_bytes(),
            Source::HappenedAt => fixed.at_ms.to_le_bytes(),
            Source::Person => fixed.person.0.to_le_bytes(),
            Source::Visitor => fixed.visitor.0.to_le_bytes(),
            Source::ReceivedAt => fixed.received_ms.to_le_bytes(),
            Source::OriginalTime => fixed.original_ms.to_le_bytes(),
            Source::SentAt => fixed.sent_ms.to_le_bytes(),
            Source::LogOffset => self.origin.offset.to_le_bytes(),
            other => self.number(other),
        }
    }

    fn sixteen(&self, source: Source) -> [u8; 16] {
        match source {
            Source::EventId => native::uuid_bytes(self.event.header.event_id),
            Source::Session => native::uuid_bytes(self.belonging.session.unwrap_or(NO_SESSION).0),
            _ => [0; 16],
        }
    }
}

/// What the page's address says, where the client has not said all of it.
fn page_of<'a>(fields: &Fields<'a>) -> Page<'a> {
    let is_missing = |field| fields.get(field).is_empty();
    let is_told = !is_missing(Field::PageHost) && !is_missing(Field::PagePath) && !is_missing(Field::PageSearch);
    if is_told || is_missing(Field::PageUrl) { Page::default() } else { Page::of(fields.text(Field::PageUrl)) }
}

/// The longest prefix that a column of free text takes and that ends between characters.
fn clip(text: &[u8]) -> &[u8] {
    if text.len() <= MAX_TEXT {
        return text;
    }
    let is_boundary = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xC0 != 0x80);
    let end = (0..=MAX_TEXT).rev().find(is_boundary).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn small_letters(text: &[u8], take: impl FnOnce(&[u8])) {
    let mut small = [0; 512];
    match small.get_mut(..text.len()) {
        Some(small) if text.iter().any(u8::is_ascii_uppercase) => {
            small.copy_from_slice(text);
            small.make_ascii_lowercase();
            take(small);
        }
        _ => take(text),
    }
}

/// Rows of one partition, with what is the same in all of them.
pub(super) trait Part: Sync + 'static {
    fn rows(&self) -> &Rows;
    fn key(&self) -> PartitionKey;
    /// The generation that holds the partition's fence.
    fn generation(&self) -> u64;
}

/// Bytes of a block that are sent at a time: the memory of one piece is there for the next, and a whole block or a large column would
/// be new pages each time, which the kernel clears first.
const PIECE: usize = 1 << 18;

/// Writes one column with the rows of all parts.
type Put<P> = Box<dyn Fn(&[P], &mut Vec<u8>) + Send + Sync>;

fn each<P: Part, C: native::Column + 'static>(
    name: &'static str,
    values: impl Fn(&Rows) -> &C + Copy + Send + Sync + 'static,
) -> Option<Put<P>> {
    Some(Box::new(move |parts, out| C::put(parts.iter().map(move |part| values(part.rows())), name, out)))
}

fn runs<P: Part, const W: usize>(column: &'static Column, value: fn(&P) -> [u8; W]) -> Option<Put<P>> {
    let (name, type_name) = (column.name, column.ty.name());
    Some(Box::new(move |parts, out| native::put_runs(parts.iter().map(|part| (value(part), part.rows().rows)), name, type_name, out)))
}

/// What writes a column that is the `at`th of its storage; `None` if it is not sent.
fn put_of<P: Part>(column: &'static Column, at: usize) -> Option<Put<P>> {
    let name = column.name;
    match column.storage() {
        Storage::Fixed2 => each(name, move |rows| &rows.fixed_2[at]),
        Storage::Fixed4 => each(name, move |rows| &rows.fixed_4[at]),
        Storage::Fixed8 => each(name, move |rows| &rows.fixed_8[at]),
        Storage::Fixed16 => each(name, move |rows| &rows.fixed_16[at]),
        Storage::Text => each(name, move |rows| &rows.texts[at]),
        Storage::Dictionary => each(name, move |rows| &rows.dictionaries[at]),
        Storage::Map | Storage::Block | Storage::Server => match column.source {
            Source::TextProperties => each(name, |rows| &rows.strings),
            Source::NumberProperties => each(name, |rows| &rows.numbers),
            Source::OtherProperties => each(name, |rows| &rows.others),
            Source::LogEpoch => runs(column, |part: &P| part.key().epoch.0.to_le_bytes()),
            Source::LogPartition => runs(column, |part: &P| part.key().partition.to_le_bytes()),
            Source::Generation => runs(column, |part: &P| part.generation().to_le_bytes()),
            _ => None,
        },
    }
}

/// All columns, in the order of [`with_columns`].
fn columns<P: Part>() -> Vec<Put<P>> {
    let mut columns = Vec::with_capacity(COLUMNS.len());
    for (index, column) in COLUMNS.iter().enumerate() {
        let before = COLUMNS.iter().take(index).filter(|before| before.storage() == column.storage());
        columns.extend(put_of(column, before.count()));
    }
    columns
}

/// One block with the rows of all parts, piece by piece: columns are encoded as they are asked for, one after the other.
pub(super) fn encode<P: Part>(parts: &[P]) -> impl Iterator<Item = Bytes> + Send {
    let (mut columns, mut out, mut sent) = (columns::<P>().into_iter(), Vec::with_capacity(2 * PIECE), 0);
    native::begin_block(&mut out, columns.len(), parts.iter().map(|part| part.rows().rows).sum());
    std::iter::from_fn(move || {
        while out.len() - sent < PIECE {
            let Some(put) = columns.next() else { break };
            out.drain(..sent);
            sent = 0;
            put(parts, &mut out);
        }
        let piece = out.get(sent..out.len().min(sent + PIECE)).filter(|piece| !piece.is_empty())?;
        sent += piece.len();
        Some(Bytes::copy_from_slice(piece))
    })
}

/// Appends the columns of a block to `INSERT INTO` a table. The order is that of [`encode`].
pub(super) fn with_columns(into: Statement) -> Statement {
    let names = COLUMNS.iter().filter(|column| column.is_inserted()).map(|column| column.name);
    names.enumerate().fold(into, |into, (at, name)| into.sql(if at == 0 { " (" } else { ", " }).sql(name)).sql(")")
}

#[cfg(test)]
mod tests;
