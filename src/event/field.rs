//! The named fields of an event, besides those of [`super::packed::EventHeader`].

use strum::{EnumCount, VariantArray};

/// A field. The number is its tag in the log: never reuse or renumber one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumCount, VariantArray)]
#[repr(u8)]
pub enum Field {
    /// Event name, 1-200 bytes.
    Type = 1,
    /// Known user, as sent.
    UserId = 2,
    /// Anonymous visitor, as sent.
    AnonymousId = 3,
    /// Session as the client named it.
    ClientSession = 4,
    /// Session as process once told it. Not written any more, and not read.
    Session = 5,
    /// Raw user agent. Only in the raw topic.
    UserAgent = 6,
    /// ISO country code, from the address.
    Country = 7,
    /// Region, from the address.
    Region = 8,
    /// City, from the address.
    City = 9,
    /// Network operator, from the address.
    Network = 10,
    /// Browser family.
    Browser = 11,
    /// Browser version.
    BrowserVersion = 12,
    /// Operating system.
    Os = 13,
    /// Version of the operating system.
    OsVersion = 14,
    /// `desktop`, `mobile`, `tablet`, ...
    DeviceType = 15,
    /// Device model.
    DeviceModel = 16,
    /// Device manufacturer.
    DeviceManufacturer = 17,
    /// Why this is taken for a bot; absent for people.
    Bot = 18,
    /// Name of the application.
    AppName = 19,
    /// Version of the application.
    AppVersion = 20,
    /// Build of the application.
    AppBuild = 21,
    /// Locale, as sent.
    Locale = 22,
    /// Time zone, as sent.
    Timezone = 23,
    /// Page address.
    PageUrl = 24,
    /// Path of the page.
    PagePath = 25,
    /// Title of the page.
    PageTitle = 26,
    /// Query string of the page.
    PageSearch = 27,
    /// Referring address.
    Referrer = 28,
    /// Host of the referrer. Set by process.
    ReferrerDomain = 29,
    /// Acquisition channel. Set by process.
    Channel = 30,
    /// Campaign source.
    CampaignSource = 31,
    /// Campaign medium.
    CampaignMedium = 32,
    /// Campaign name.
    CampaignName = 33,
    /// Campaign term.
    CampaignTerm = 34,
    /// Campaign content.
    CampaignContent = 35,
    /// Which advertising network's click id the page address carries. Set by process.
    ClickIdKind = 36,
    /// The click id. Set by process.
    ClickId = 37,
    /// Screen width in pixels: two bytes, little endian.
    ScreenWidth = 38,
    /// Screen height in pixels: two bytes, little endian.
    ScreenHeight = 39,
    /// Pixels per point: four bytes, an f32, little endian.
    ScreenDensity = 40,
    /// Host of the page.
    PageHost = 41,
}

impl Field {
    /// One more than the highest tag: the size of a table indexed by tag. Tags begin at 1 and have no holes.
    pub const SLOTS: usize = Self::COUNT + 1;
}

/// Facts about an event that are one bit each (`events.flags`).
pub mod flag {
    /// The client's time lay in the future and was replaced by the time of receipt.
    pub const CLAMPED: u32 = 1;
    /// The client gave no `eventId`; the server did.
    pub const SERVER_ID: u32 = 2;
    /// A property value was cut to the longest one allowed.
    pub const TRUNCATED: u32 = 4;
    /// The client asked not to be tracked (`DNT`, `Sec-GPC`): no place is resolved for it.
    pub const PRIVACY: u32 = 8;
    /// The client gave no `timestamp`; the time of receipt stands in.
    pub const SERVER_TIME: u32 = 16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_a_slot_of_its_own() {
        let tags: Vec<usize> = Field::VARIANTS.iter().map(|field| *field as usize).collect();
        assert_eq!(tags, (1..Field::SLOTS).collect::<Vec<_>>());
    }
}
