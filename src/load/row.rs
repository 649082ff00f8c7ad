//! Events and books as rows of the `events` table, collected by column.

use super::home::Place;
use crate::clickhouse::native::{self, Column, DictionaryColumn, FixedColumn, MapColumn, StringColumn};
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::event::packed::{Entry, EventView, Fields};
use crate::event::record::Tally;

/// The `type` of bookkeeping rows; no event can have it, `$` is reserved.
pub const BOOKS_TYPE: &str = "$books";

/// Columns with few distinct values, by the field that fills them.
const DICTIONARIES: [(Field, &str); 26] = [
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

const TIME: &str = "DateTime64(3, 'UTC')";
/// Fixed-width columns, `client_session_id`, three maps, and the four that are the same or nearly so in all rows.
const OTHER_COLUMNS: usize = 14 + 1 + 3 + 4;

/// Room for an encoded row, bytes: most need less.
const ROW_LEN: usize = 640;

/// Rows on their way into one block. Cleared and used again.
#[derive(Debug)]
pub(super) struct Rows {
    rows: usize,
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

    /// Adds an event of `project` that stands in raw record `offset`, received on `day`.
    pub(super) fn event(&mut self, event: &EventView<'_>, fields: &Fields<'_>, project: ProjectId, (day, offset): (u16, i64)) {
        let fixed = &event.fixed;
        self.rows += 1;
        self.project_id.push(project.0.to_le_bytes());
        self.timestamp.push(fixed.at_ms.to_le_bytes());
        self.person_id.push(fixed.person.0.to_le_bytes());
        self.visitor_id.push(fixed.visitor.0.to_le_bytes());
        self.event_id.push(native::uuid_bytes(fixed.event_id));
        self.received_day.push(day.to_le_bytes());
        self.received_at.push(fixed.received_ms.to_le_bytes());
        self.original_timestamp.push(fixed.original_ms.to_le_bytes());
        self.sent_at.push(fixed.sent_ms.to_le_bytes());
        self.session_id.push(native::uuid_bytes(fields.get(Field::Session).try_into().unwrap_or_default()));
        self.flags.push(fixed.flags.to_le_bytes());
        self.screen_width.push(fields.get(Field::ScreenWidth).try_into().unwrap_or_default());
        self.screen_height.push(fields.get(Field::ScreenHeight).try_into().unwrap_or_default());
        self.screen_density.push(fields.get(Field::ScreenDensity).try_into().unwrap_or_default());
        self.log_offset.push(offset.to_le_bytes());
        self.client_session_id.push(named_session(fields));
        for ((field, _), column) in STRINGS.iter().zip(&mut self.texts) {
            column.push(fields.get(*field));
        }
        for ((field, _), column) in DICTIONARIES.iter().zip(&mut self.dictionaries) {
            column.push(fields.get(*field));
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

    /// Adds a bookkeeping row: what happened in one minute to the events of one project and source.
    pub(super) fn books(&mut self, tally: &Tally, source: u64, (day, offset): (u16, i64)) {
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
        self.flags.push([0; 4]);
        self.screen_width.push([0; 2]);
        self.screen_height.push([0; 2]);
        self.screen_density.push([0; 4]);
        self.log_offset.push(offset.to_le_bytes());
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

/// Rows of one partition, with what is the same in all of them.
pub(super) trait Part {
    fn rows(&self) -> &Rows;
    fn place(&self) -> Place;
    /// The generation that holds the partition's fence.
    fn generation(&self) -> u64;
}

/// One block with the rows of all parts, in the order of [`column_names`].
pub(super) fn encode<P: Part>(parts: &[P]) -> Vec<u8> {
    let rows = parts.iter().map(|part| part.rows().rows).sum();
    let mut out = Vec::with_capacity(rows * ROW_LEN);
    native::begin_block(&mut out, OTHER_COLUMNS + STRINGS.len() + DICTIONARIES.len(), rows);
    let out = &mut out;
    put(parts, |rows| &rows.project_id, "project_id", out);
    put(parts, |rows| &rows.timestamp, "timestamp", out);
    put(parts, |rows| &rows.person_id, "person_id", out);
    put(parts, |rows| &rows.visitor_id, "visitor_id", out);
    put(parts, |rows| &rows.event_id, "event_id", out);
    put(parts, |rows| &rows.received_day, "received_day", out);
    put(parts, |rows| &rows.received_at, "received_at", out);
    put(parts, |rows| &rows.original_timestamp, "original_timestamp", out);
    put(parts, |rows| &rows.sent_at, "sent_at", out);
    put(parts, |rows| &rows.session_id, "session_id", out);
    put(parts, |rows| &rows.flags, "flags", out);
    put(parts, |rows| &rows.screen_width, "screen_width", out);
    put(parts, |rows| &rows.screen_height, "screen_height", out);
    put(parts, |rows| &rows.screen_density, "screen_density", out);
    put(parts, |rows| &rows.client_session_id, "client_session_id", out);
    for (at, (_, name)) in STRINGS.iter().enumerate() {
        put(parts, |rows| &rows.texts[at], name, out);
    }
    for (at, (_, name)) in DICTIONARIES.iter().enumerate() {
        put(parts, |rows| &rows.dictionaries[at], name, out);
    }
    put(parts, |rows| &rows.strings, "strings", out);
    put(parts, |rows| &rows.numbers, "numbers", out);
    put(parts, |rows| &rows.others, "others", out);
    put(parts, |rows| &rows.log_offset, "log_offset", out);
    put_runs(parts, |part| part.place().epoch.0.to_le_bytes(), ("log_epoch", "UInt64"), out);
    put_runs(parts, |part| part.place().partition.to_le_bytes(), ("log_partition", "UInt16"), out);
    put_runs(parts, |part| part.generation().to_le_bytes(), ("fence", "UInt64"), out);
    std::mem::take(out)
}

fn put<P: Part, C: Column + 'static>(parts: &[P], column: impl Fn(&Rows) -> &C + Copy, name: &str, out: &mut Vec<u8>) {
    C::put(parts.iter().map(move |part| column(part.rows())), name, out);
}

fn put_runs<P: Part, const W: usize>(parts: &[P], value: impl Fn(&P) -> [u8; W], column: (&str, &str), out: &mut Vec<u8>) {
    native::put_runs(parts.iter().map(|part| (value(part), part.rows().rows)), column, out);
}

/// The client's name of the session, unless the session's UUID says the same.
fn named_session<'a>(fields: &Fields<'a>) -> &'a [u8] {
    let name = fields.get(Field::ClientSession);
    let is_canonical =
        name.len() == 36 && uuid::Uuid::try_parse_ascii(name).is_ok_and(|uuid| uuid.as_bytes() == fields.get(Field::Session));
    if is_canonical && !name.iter().any(u8::is_ascii_uppercase) { &[] } else { name }
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
