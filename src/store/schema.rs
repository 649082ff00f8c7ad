//! The columns of the event table, each declared once.
//!
//! [`COLUMNS`] drives the INSERT list and the encoder of rows (`load`), the fields that filters, breakdowns and maths can name and the
//! context of a shown event (`query`); a test compares it with the migrations. So a column is one line here and a migration. What
//! may go wrong is found by tests: a line without its migration, or a migration without its line.

use super::revisions::SESSION_NAME;
use crate::event::field::Field;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: ColumnType,
    /// Where its values come from.
    pub source: Source,
    /// What questions know of it; `None` if they cannot name it.
    pub queried: Option<Queried>,
    /// Where the context of a shown event has its text.
    pub shown: Option<Shown>,
}

/// How filters, breakdowns and maths name a column, besides its own name.
#[derive(Clone, Copy, Debug)]
pub struct Queried {
    /// Its value in SQL.
    pub sql: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
}

/// A place in the context of a shown event.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Object; empty for the context itself.
    pub group: &'static str,
    /// Member of it.
    pub name: &'static str,
}

/// A type of ClickHouse, as far as columns have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Unsigned, 64 bits.
    UInt64,
    /// Signed, 64 bits.
    Int64,
    /// Unsigned, 32 bits.
    UInt32,
    /// Unsigned, 16 bits.
    UInt16,
    /// Float of 32 bits.
    Float32,
    /// Days since 1970.
    Date,
    /// Milliseconds since 1970.
    Time,
    /// 16 bytes.
    Uuid,
    /// Free text; empty where it is missing.
    Text,
    /// Text of few distinct values; empty where it is missing.
    Dictionary,
    /// Texts by name.
    Texts,
    /// Numbers by name.
    Numbers,
}

/// How values of a column are collected before they are sent: by bytes of a value, as texts, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Storage {
    /// Two bytes.
    Fixed2,
    /// Four bytes.
    Fixed4,
    /// Eight bytes.
    Fixed8,
    /// Sixteen bytes.
    Fixed16,
    /// Texts.
    Text,
    /// Each distinct text once.
    Dictionary,
    /// Entries of a map.
    Map,
    /// One value for all rows of a partition in a block.
    Block,
    /// The server makes it.
    Server,
}

/// Where the value of a row comes from. What a row of the books has there instead is said where that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The project; [`crate::event::ids::ProjectId::BOOKS`] in the books.
    Project,
    /// When it happened; the minute in the books.
    HappenedAt,
    /// The person; the import run in the books ([`super::books::SOURCE`]).
    Person,
    /// The visitor; the project in the books ([`super::books::PROJECT`]).
    Visitor,
    /// The event's id.
    EventId,
    /// Day of receipt of its record.
    ReceivedDay,
    /// Receipt; the minute in the books.
    ReceivedAt,
    /// When it happened by the client's clock.
    OriginalTime,
    /// When the client sent it.
    SentAt,
    /// Bits of the event; how many raw offsets the block covers in the books ([`super::books::REACH`]).
    Flags,
    /// Raw offset of its record; of the block's last record in the books.
    LogOffset,
    /// The place among the events of its record.
    LogIndex,
    /// The session, as [`crate::event::session`] defines it; what a revision says ([`super::revisions`]).
    Session,
    /// What the event carries of campaigns, as a number ([`crate::event::session::Campaign`]).
    Campaign,
    /// A number of the event, little endian.
    Number(Field),
    /// A text of the event; its type in the books is [`super::books::BOOKS_TYPE`].
    Text(Field),
    /// The properties that are texts.
    TextProperties,
    /// The properties that are numbers; the tallies in the books.
    NumberProperties,
    /// All other properties, as JSON.
    OtherProperties,
    /// Identity of the log.
    LogEpoch,
    /// Partition of the log.
    LogPartition,
    /// The generation that holds the partition's fence.
    Generation,
    /// Computed by the server.
    Server,
}

impl ColumnType {
    /// The type as ClickHouse writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UInt64 => "UInt64",
            Self::Int64 => "Int64",
            Self::UInt32 => "UInt32",
            Self::UInt16 => "UInt16",
            Self::Float32 => "Float32",
            Self::Date => "Date",
            Self::Time => "DateTime64(3, 'UTC')",
            Self::Uuid => "UUID",
            Self::Text => "String",
            Self::Dictionary => "LowCardinality(String)",
            Self::Texts => "Map(String, String)",
            Self::Numbers => "Map(String, Float64)",
        }
    }
}

impl Column {
    /// How its values are collected.
    pub const fn storage(&self) -> Storage {
        match self.source {
            Source::LogEpoch | Source::LogPartition | Source::Generation => return Storage::Block,
            Source::Server => return Storage::Server,
            _ => {}
        }
        match self.ty {
            ColumnType::UInt64 | ColumnType::Int64 | ColumnType::Time => Storage::Fixed8,
            ColumnType::UInt32 | ColumnType::Float32 => Storage::Fixed4,
            ColumnType::UInt16 | ColumnType::Date => Storage::Fixed2,
            ColumnType::Uuid => Storage::Fixed16,
            ColumnType::Text => Storage::Text,
            ColumnType::Dictionary => Storage::Dictionary,
            ColumnType::Texts | ColumnType::Numbers => Storage::Map,
        }
    }

    /// Whether a block has it.
    pub fn is_inserted(&self) -> bool {
        self.storage() != Storage::Server
    }

    /// The names by which questions know it.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.queried.into_iter().flat_map(|queried| std::iter::once(self.name).chain(queried.aliases.iter().copied()))
    }

    /// Questions know it by its name.
    const fn queried(self) -> Self {
        self.queried_as(self.name, &[])
    }

    /// Questions know it by its name and `aliases`; its value is `sql`.
    const fn queried_as(self, sql: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { queried: Some(Queried { sql, aliases }), ..self }
    }

    /// Shown in the context of an event as `group.name`.
    const fn shown(self, group: &'static str, name: &'static str) -> Self {
        Self { shown: Some(Shown { group, name }), ..self }
    }
}

const fn column(name: &'static str, ty: ColumnType, source: Source) -> Column {
    Column { name, ty, source, queried: None, shown: None }
}

const fn text(name: &'static str, field: Field) -> Column {
    column(name, ColumnType::Text, Source::Text(field))
}

const fn dictionary(name: &'static str, field: Field) -> Column {
    column(name, ColumnType::Dictionary, Source::Text(field))
}

/// The condition that no reason was found why no person made an event. Measured: as cheap as a bit of a number.
pub const IS_OF_PERSON: &str = "bot = ''";
/// The contrary.
pub const IS_OF_BOT: &str = "bot != ''";

/// Every column of the event table, in the order in which they are sent.
pub const COLUMNS: &[Column] = &[
    column("project_id", ColumnType::UInt64, Source::Project),
    column("timestamp", ColumnType::Time, Source::HappenedAt),
    column("person_id", ColumnType::UInt64, Source::Person),
    column("visitor_id", ColumnType::UInt64, Source::Visitor),
    column("event_id", ColumnType::Uuid, Source::EventId).queried_as("toString(event_id)", &["eventId"]),
    dictionary("type", Field::Type).queried_as("type", &["event"]),
    column("received_day", ColumnType::Date, Source::ReceivedDay),
    column("received_at", ColumnType::Time, Source::ReceivedAt),
    column("original_timestamp", ColumnType::Time, Source::OriginalTime),
    column("sent_at", ColumnType::Time, Source::SentAt),
    text("user_id", Field::UserId).queried_as("user_id", &["userId"]),
    text("anonymous_id", Field::AnonymousId).queried_as("anonymous_id", &["anonymousId"]),
    column("session_id", ColumnType::Uuid, Source::Session).queried_as(SESSION_NAME, &["sessionId"]),
    text("client_session_id", Field::ClientSession),
    column("flags", ColumnType::UInt32, Source::Flags),
    dictionary("country", Field::Country).queried().shown("geo", "country"),
    dictionary("region", Field::Region).queried().shown("geo", "region"),
    dictionary("city", Field::City).queried().shown("geo", "city"),
    dictionary("network", Field::Network).queried().shown("geo", "network"),
    dictionary("browser", Field::Browser).queried().shown("browser", "name"),
    dictionary("browser_version", Field::BrowserVersion).queried().shown("browser", "version"),
    dictionary("os", Field::Os).queried().shown("os", "name"),
    dictionary("os_version", Field::OsVersion).queried().shown("os", "version"),
    dictionary("device_type", Field::DeviceType).queried().shown("device", "type"),
    dictionary("device_model", Field::DeviceModel).queried().shown("device", "model"),
    dictionary("device_manufacturer", Field::DeviceManufacturer).queried().shown("device", "manufacturer"),
    dictionary("bot", Field::Bot).queried().shown("", "bot"),
    dictionary("app_name", Field::AppName).queried().shown("app", "name"),
    dictionary("app_version", Field::AppVersion).queried().shown("app", "version"),
    dictionary("app_build", Field::AppBuild).queried().shown("app", "build"),
    dictionary("locale", Field::Locale).queried().shown("", "locale"),
    dictionary("timezone", Field::Timezone).queried().shown("", "timezone"),
    column("screen_width", ColumnType::UInt16, Source::Number(Field::ScreenWidth)).queried(),
    column("screen_height", ColumnType::UInt16, Source::Number(Field::ScreenHeight)).queried(),
    column("screen_density", ColumnType::Float32, Source::Number(Field::ScreenDensity)),
    text("page_url", Field::PageUrl).queried().shown("page", "url"),
    dictionary("page_host", Field::PageHost).queried().shown("page", "host"),
    text("page_path", Field::PagePath).queried().shown("page", "path"),
    text("page_title", Field::PageTitle).queried().shown("page", "title"),
    text("page_search", Field::PageSearch).queried().shown("page", "search"),
    text("referrer", Field::Referrer).queried_as("referrer", &["page_referrer"]).shown("page", "referrer"),
    dictionary("referrer_domain", Field::ReferrerDomain).queried().shown("referrer", "domain"),
    dictionary("channel", Field::Channel).queried().shown("referrer", "channel"),
    dictionary("campaign_source", Field::CampaignSource).queried().shown("campaign", "source"),
    dictionary("campaign_medium", Field::CampaignMedium).queried().shown("campaign", "medium"),
    dictionary("campaign_name", Field::CampaignName).queried().shown("campaign", "name"),
    dictionary("campaign_term", Field::CampaignTerm).queried().shown("campaign", "term"),
    dictionary("campaign_content", Field::CampaignContent).queried().shown("campaign", "content"),
    dictionary("click_id_kind", Field::ClickIdKind).queried().shown("click", "kind"),
    text("click_id", Field::ClickId).shown("click", "id"),
    column("campaign_hash", ColumnType::UInt32, Source::Campaign),
    column("strings", ColumnType::Texts, Source::TextProperties),
    column("numbers", ColumnType::Numbers, Source::NumberProperties),
    column("others", ColumnType::Texts, Source::OtherProperties),
    column("log_offset", ColumnType::Int64, Source::LogOffset),
    column("log_index", ColumnType::UInt16, Source::LogIndex),
    column("log_epoch", ColumnType::UInt64, Source::LogEpoch),
    column("log_partition", ColumnType::UInt16, Source::LogPartition),
    column("generation", ColumnType::UInt64, Source::Generation),
    column("event_hash", ColumnType::UInt32, Source::Server),
    column("language", ColumnType::Dictionary, Source::Server).queried(),
];

/// What puts events in order: time, then place in the log. One number, which an aggregate compares three to four times as fast as a tuple; a
/// record has less than 65,536 events and a partition less than 2^47 records. Rows from before `log_index` that share moment and record come in any
/// order.
pub const IN_ORDER: &str = "(bitShiftLeft(toInt256(toUnixTimestamp64Milli(timestamp)), 144) + bitShiftLeft(toInt256(log_epoch), 80) \
    + bitShiftLeft(toInt256(log_partition), 64) + (log_offset * 65536 + log_index))";
/// The same of the events of one visitor, which are in one partition.
pub const IN_ORDER_OF_VISITOR: &str = "(bitShiftLeft(toInt128(toUnixTimestamp64Milli(timestamp)), 64) + (log_offset * 65536 + log_index))";

/// The columns in the context of a shown event.
pub const SHOWN: [Column; count_shown()] = select_shown();

/// How many columns are collected in one way.
pub const fn count(storage: Storage) -> usize {
    let (mut at, mut found) = (0, 0);
    while at < COLUMNS.len() {
        found += (COLUMNS[at].storage() as u8 == storage as u8) as usize;
        at += 1;
    }
    found
}

/// The columns that are collected in one way, in order; `N` is what [`count`] says.
pub const fn select<const N: usize>(storage: Storage) -> [Column; N] {
    let (mut selected, mut at, mut found) = ([COLUMNS[0]; N], 0, 0);
    while at < COLUMNS.len() {
        if COLUMNS[at].storage() as u8 == storage as u8 {
            selected[found] = COLUMNS[at];
            found += 1;
        }
        at += 1;
    }
    selected
}

const fn count_shown() -> usize {
    let (mut at, mut found) = (0, 0);
    while at < COLUMNS.len() {
        found += COLUMNS[at].shown.is_some() as usize;
        at += 1;
    }
    found
}

const fn select_shown<const N: usize>() -> [Column; N] {
    let (mut selected, mut at, mut found) = ([COLUMNS[0]; N], 0, 0);
    while at < COLUMNS.len() {
        if COLUMNS[at].shown.is_some() {
            selected[found] = COLUMNS[at];
            found += 1;
        }
        at += 1;
    }
    selected
}

/// The column that questions know as `name`.
pub fn queried(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.names().any(|known| known == name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_columns_have_a_name_a_field_or_a_place_in_common() {
        let mut names = HashSet::new();
        assert!(COLUMNS.iter().all(|column| names.insert(column.name)), "a name is there twice");
        let mut fields = HashSet::new();
        assert!(COLUMNS.iter().flat_map(Column::names).all(|name| fields.insert(name)), "a name in questions is there twice");
        let mut places = HashSet::new();
        assert!(SHOWN.iter().filter_map(|column| column.shown).all(|shown| places.insert((shown.group, shown.name))));
    }

    #[test]
    fn values_fit_their_columns() {
        for column in COLUMNS {
            let fits = match column.source {
                Source::Text(_) => matches!(column.ty, ColumnType::Text | ColumnType::Dictionary),
                Source::Session | Source::EventId => column.ty == ColumnType::Uuid,
                Source::Number(_) => matches!(column.storage(), Storage::Fixed2 | Storage::Fixed4 | Storage::Fixed8),
                _ => true,
            };
            assert!(fits, "{}", column.name);
        }
    }

    #[test]
    fn what_is_shown_is_text() {
        assert!(SHOWN.iter().all(|column| matches!(column.ty, ColumnType::Text | ColumnType::Dictionary)));
    }
}
