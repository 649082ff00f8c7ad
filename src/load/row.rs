//! Events and books as rows of the `events` table, collected by column.

use bytes::Bytes;

use super::home::PartitionKey;
use crate::clickhouse::native::{self, Column, DictionaryColumn, FixedColumn, MapColumn, StringColumn};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::packed::{Entry, EventView, Fields};
use crate::event::page::Page;
use crate::event::record::Tally;

/// The `type` of bookkeeping rows; no event can have it, `$` is reserved.
pub const BOOKS_TYPE: &str = "$books";

/// Columns with few distinct values, by the field that fills them.
const DICTIONARIES: [(Field, &str); 27] = [
    (Field::Type, "type"),
    (Field::Country, "country"),
    (Field::Region, "region"),
    (Field::City, "city"),
    (Field::Network, "network"),
    (Field::Browser, "browser"),
    (Field::BrowserVersion, "browser_version"),
    (Field::Os, "os"),
    (Field::OsVersion, "os_version"),
    (Field::DeviceType, "device_type"),
    (Field::DeviceModel, "device_model"),
    (Field::DeviceManufacturer, "device_manufacturer"),
    (Field::Bot, "bot"),
    (Field::AppName, "app_name"),
    (Field::AppVersion, "app_version"),
    (Field::AppBuild, "app_build"),
    (Field::Locale, "locale"),
    (Field::Timezone, "timezone"),
    (Field::ReferrerDomain, "referrer_domain"),
    (Field::Channel, "channel"),
    (Field::CampaignSource, "campaign_source"),
    (Field::CampaignMedium, "campaign_medium"),
    (Field::CampaignName, "campaign_name"),
    (Field::CampaignTerm, "campaign_term"),
    (Field::CampaignContent, "campaign_content"),
    (Field::ClickIdKind, "click_id_kind"),
    (Field::PageHost, "page_host"),
];

/// Columns of free text.
const STRINGS: [(Field, &str); 8] = [
    (Field::UserId, "user_id"),
    (Field::AnonymousId, "anonymous_id"),
    (Field::PageUrl, "page_url"),
    (Field::PagePath, "page_path"),
    (Field::PageTitle, "page_title"),
    (Field::PageSearch, "page_search"),
    (Field::Referrer, "referrer"),
    (Field::ClickId, "click_id"),
];

/// Longest value of a column of free text, bytes: addresses come as long as they were, because everything in them is to be read.
const MAX_TEXT: usize = 2_048;

const TIME: &str = "DateTime64(3, 'UTC')";

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

/// Rows on their way into one block. Cleared and used again.
#[derive(Debug)]
pub(super) struct Rows {
    rows: usize,
    /// As many as were there at once, before the last [`Self::clear`].
    most: usize,
    project_id: FixedColumn<8>,
    timestamp: FixedColumn<8>,
    person_id: FixedColumn<8>,
    visitor_id: FixedColumn<8>,
    event_id: FixedColumn<16>,
    received_day: FixedColumn<2>,
    received_at: FixedColumn<8>,
    original_timestamp: FixedColumn<8>,
    sent_at: FixedColumn<8>,
    session_id: FixedColumn<16>,
    flags: FixedColumn<4>,
    screen_width: FixedColumn<2>,
    screen_height: FixedColumn<2>,
    screen_density: FixedColumn<4>,
    log_offset: FixedColumn<8>,
    client_session_id: StringColumn,
    texts: [StringColumn; STRINGS.len()],
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
            project_id: FixedColumn::new("UInt64"),
            timestamp: FixedColumn::new(TIME),
            person_id: FixedColumn::new("UInt64"),
            visitor_id: FixedColumn::new("UInt64"),
            event_id: FixedColumn::new("UUID"),
            received_day: FixedColumn::new("Date"),
            received_at: FixedColumn::new(TIME),
            original_timestamp: FixedColumn::new(TIME),
            sent_at: FixedColumn::new(TIME),
            session_id: FixedColumn::new("UUID"),
            flags: FixedColumn::new("UInt32"),
            screen_width: FixedColumn::new("UInt16"),
            screen_height: FixedColumn::new("UInt16"),
            screen_density: FixedColumn::new("Float32"),
            log_offset: FixedColumn::new("Int64"),
            client_session_id: StringColumn::default(),
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

    /// Adds an event of `project` that stands in raw record `offset`, received on `day`.
    pub(super) fn event(&mut self, event: &EventView<'_>, fields: &Fields<'_>, project: ProjectId, (day, offset): (u16, i64)) {
        let header = &event.header;
        self.rows += 1;
        self.project_id.push(project.0.to_le_bytes());
        self.timestamp.push(header.at_ms.to_le_bytes());
        self.person_id.push(header.person.0.to_le_bytes());
        self.visitor_id.push(header.visitor.0.to_le_bytes());
        self.event_id.push(native::uuid_bytes(header.event_id));
        self.received_day.push(day.to_le_bytes());
        self.received_at.push(header.received_ms.to_le_bytes());
        self.original_timestamp.push(header.original_ms.to_le_bytes());
        self.sent_at.push(header.sent_ms.to_le_bytes());
        self.session_id.push(native::uuid_bytes(fields.get(Field::Session).try_into().unwrap_or_default()));
        self.flags.push(header.flags.to_le_bytes());
        self.screen_width.push(fields.get(Field::ScreenWidth).try_into().unwrap_or_default());
        self.screen_height.push(fields.get(Field::ScreenHeight).try_into().unwrap_or_default());
        self.screen_density.push(fields.get(Field::ScreenDensity).try_into().unwrap_or_default());
        self.log_offset.push(offset.to_le_bytes());
        self.client_session_id.push(fields.get(Field::ClientSession));
        let page = page_of(fields);
        for ((field, _), column) in STRINGS.iter().zip(&mut self.texts) {
            column.push(clip(match (field, fields.get(*field)) {
                (Field::PagePath, b"") => page.path.as_bytes(),
                (Field::PageSearch, b"") => page.search.as_bytes(),
                (_, text) => text,
            }));
        }
        for ((field, _), column) in DICTIONARIES.iter().zip(&mut self.dictionaries) {
            match (field, fields.get(*field)) {
                (Field::PageHost, b"") => small_letters(page.host.as_bytes(), |host| column.push(host)),
                (Field::PageHost, host) => small_letters(host, |host| column.push(host)),
                (_, text) => column.push(text),
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

    /// Adds a bookkeeping row: what happened in one minute to the events of one project and source, in a block of raw records.
    pub(super) fn books(&mut self, tally: &Tally, source: u64, covered: Covered) {
        let Covered { day, previous, last } = covered;
        let minute_ms = i64::from(tally.minute) * 60_000;
        self.rows += 1;
        self.project_id.push(ProjectId::BOOKS.0.to_le_bytes());
        self.timestamp.push(minute_ms.to_le_bytes());
        self.person_id.push(source.to_le_bytes());
        self.visitor_id.push(tally.project.0.to_le_bytes());
        self.event_id.push([0; 16]);
        self.received_day.push(day.to_le_bytes());
        self.received_at.push(minute_ms.to_le_bytes());
        self.original_timestamp.push([0; 8]);
        self.sent_at.push([0; 8]);
        self.session_id.push([0; 16]);
        // How far the block reaches back from its last offset: a row that is missing shows between its neighbours.
        self.flags.push(u32::try_from(last - previous).unwrap_or(0).to_le_bytes());
        self.screen_width.push([0; 2]);
        self.screen_height.push([0; 2]);
        self.screen_density.push([0; 4]);
        self.log_offset.push(last.to_le_bytes());
        self.client_session_id.push(&[]);
        self.texts.iter_mut().for_each(|column| column.push(&[]));
        for ((field, _), column) in DICTIONARIES.iter().zip(&mut self.dictionaries) {
            column.push(if *field == Field::Type { BOOKS_TYPE.as_bytes() } else { &[] });
        }
        for (count, number) in &tally.counts {
            self.numbers.number(count.name().as_bytes(), f64::from(*number));
        }
        self.end_maps();
    }

    /// Forgets the rows, not the memory.
    pub(super) fn clear(&mut self) {
        self.most = self.most.max(self.rows);
        self.rows = 0;
        for column in [
            &mut self.project_id,
            &mut self.timestamp,
            &mut self.person_id,
            &mut self.visitor_id,
            &mut self.received_at,
            &mut self.original_timestamp,
            &mut self.sent_at,
            &mut self.log_offset,
        ] {
            column.clear();
        }
        self.event_id.clear();
        self.session_id.clear();
        self.received_day.clear();
        self.screen_width.clear();
        self.screen_height.clear();
        self.flags.clear();
        self.screen_density.clear();
        self.client_session_id.clear();
        self.texts.iter_mut().for_each(StringColumn::clear);
        self.dictionaries.iter_mut().for_each(DictionaryColumn::clear);
        self.strings.clear();
        self.numbers.clear();
        self.others.clear();
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
    fn place(&self) -> PartitionKey;
    /// The generation that holds the partition's fence.
    fn generation(&self) -> u64;
}

/// Bytes of a block that are sent at a time: the memory of one piece is there for the next, and a whole block or a large column would
/// be new pages each time, which the kernel clears first.
const PIECE: usize = 1 << 18;

/// Writes one column with the rows of all parts.
type Put<P> = Box<dyn Fn(&[P], &mut Vec<u8>) + Send + Sync>;

fn each<P: Part, C: Column + 'static>(name: &'static str, column: impl Fn(&Rows) -> &C + Copy + Send + Sync + 'static) -> Put<P> {
    Box::new(move |parts, out| C::put(parts.iter().map(move |part| column(part.rows())), name, out))
}

fn runs<P: Part, const W: usize>(name: &'static str, type_name: &'static str, value: fn(&P) -> [u8; W]) -> Put<P> {
    Box::new(move |parts, out| native::put_runs(parts.iter().map(|part| (value(part), part.rows().rows)), (name, type_name), out))
}

/// All columns, in the order of [`column_names`].
fn columns<P: Part>() -> Vec<Put<P>> {
    let mut columns: Vec<Put<P>> = vec![
        each("project_id", |rows| &rows.project_id),
        each("timestamp", |rows| &rows.timestamp),
        each("person_id", |rows| &rows.person_id),
        each("visitor_id", |rows| &rows.visitor_id),
        each("event_id", |rows| &rows.event_id),
        each("received_day", |rows| &rows.received_day),
        each("received_at", |rows| &rows.received_at),
        each("original_timestamp", |rows| &rows.original_timestamp),
        each("sent_at", |rows| &rows.sent_at),
        each("session_id", |rows| &rows.session_id),
        each("flags", |rows| &rows.flags),
        each("screen_width", |rows| &rows.screen_width),
        each("screen_height", |rows| &rows.screen_height),
        each("screen_density", |rows| &rows.screen_density),
        each("client_session_id", |rows| &rows.client_session_id),
    ];
    for (at, (_, name)) in STRINGS.iter().enumerate() {
        columns.push(each(name, move |rows| &rows.texts[at]));
    }
    for (at, (_, name)) in DICTIONARIES.iter().enumerate() {
        columns.push(each(name, move |rows| &rows.dictionaries[at]));
    }
    columns.extend([
        each("strings", |rows| &rows.strings),
        each("numbers", |rows| &rows.numbers),
        each("others", |rows| &rows.others),
        each("log_offset", |rows| &rows.log_offset),
        runs("log_epoch", "UInt64", |part: &P| part.place().epoch.0.to_le_bytes()),
        runs("log_partition", "UInt16", |part: &P| part.place().partition.to_le_bytes()),
        runs("fence", "UInt64", |part: &P| part.generation().to_le_bytes()),
    ]);
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

/// The columns of a block, for the INSERT statement. The order is that of [`encode`].
pub(super) fn column_names() -> String {
    let fixed = [
        "project_id",
        "timestamp",
        "person_id",
        "visitor_id",
        "event_id",
        "received_day",
        "received_at",
        "original_timestamp",
        "sent_at",
        "session_id",
        "flags",
        "screen_width",
        "screen_height",
        "screen_density",
        "client_session_id",
    ];
    let texts = STRINGS.iter().map(|(_, name)| *name);
    let dictionaries = DICTIONARIES.iter().map(|(_, name)| *name);
    let rest = ["strings", "numbers", "others", "log_offset", "log_epoch", "log_partition", "fence"];
    let names: Vec<&str> = fixed.into_iter().chain(texts).chain(dictionaries).chain(rest).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
