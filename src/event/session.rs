//! What a session is: a run of events of one visitor, cut by the rules.
//!
//! The sessions of a visitor follow from the set of its events and from nothing else: sorted by time, an event goes on with the session
//! of the one before it, or begins one. The id of a session follows from the visitor and the time of its first event, so the same session
//! always has the same id. A session that the client names is that of its own events, and of no others.
//!
//! Events of one millisecond have no order, so they are always in one session; where several of them carry a campaign, the largest
//! [`Campaign`] is that of the moment.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use super::ids::{ProjectId, VisitorKey};

/// A visitor whose sessions are told apart from others'. The project is compared, although it is in the key's hash too: a client of one
/// project can make up a visitor whose hash is that of another project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Visitor {
    /// The project.
    pub project: ProjectId,
    /// The visitor in it.
    pub key: VisitorKey,
}

impl Visitor {
    fn to_bytes(self) -> [u8; 16] {
        let both = (u128::from(self.project.0) << 64) | u128::from(self.key.0);
        both.to_le_bytes()
    }
}

/// The session of an event, as the table keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The session that a visitor's client calls `name`: a UUID (version 8) made from both. Names are often unique within a visitor only:
    /// a second of the clock, a count.
    pub fn of_client(visitor: Visitor, name: &str) -> Self {
        let hash = xxh3_128_with_seed(name.as_bytes(), xxh3_64(&visitor.to_bytes()));
        Self(Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid().into_bytes())
    }

    /// The session of a visitor whose first event is of `start_ms`: a UUID (version 7) of that time.
    pub fn beginning_at(visitor: Visitor, start_ms: i64) -> Self {
        // What a UUID cannot say of a time before 1970 the rest of it still tells apart.
        let [random @ .., _, _, _, _, _, _] = xxh3_128_with_seed(&visitor.to_bytes(), start_ms as u64).to_le_bytes();
        Self(Builder::from_unix_timestamp_millis(start_ms as u64 & MOST_MS, &random).into_uuid().into_bytes())
    }

    /// When its first event was, milliseconds since 1970; `None` for a session that a client named.
    pub fn start_ms(self) -> Option<i64> {
        let id = Uuid::from_bytes(self.0);
        if id.get_version_num() != 7 {
            return None;
        }
        let millis = (id.as_u128() >> 80) as u64;
        // 48 bits with a sign: events may be older than 1970.
        Some(((millis << 16) as i64) >> 16)
    }
}

/// The bits of a time that a UUID (version 7) has.
const MOST_MS: u64 = (1 << 48) - 1;

/// No session lasts longer, and no idle gap, milliseconds.
pub const LONGEST_SESSION_MS: i64 = 30 * 86_400_000;

/// The campaign that an event carries, as a hash of what names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Campaign(pub u32);

impl Campaign {
    /// That of most events.
    pub const NONE: Self = Self(0);

    /// The campaign that these texts name together; none if all are empty.
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> Self {
        let named = texts.into_iter().enumerate().filter(|(_, text)| !text.is_empty());
        let hash = named.fold(None, |hash, (place, text)| Some(xxh3_64_with_seed(text, hash.unwrap_or(0) ^ (place as u64 + 1))));
        hash.map_or(Self::NONE, |hash| Self((hash as u32).max(1)))
    }
}

/// What decides in which session an event is: when it was, in milliseconds since 1970, and its campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at_ms: i64,
    /// Of the events of that time.
    pub campaign: Campaign,
}

/// A session as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first event.
    pub start_ms: i64,
    /// Its last event.
    pub last_ms: i64,
    /// That of its first event. Events after it carry this one or none.
    pub campaign: Campaign,
}

/// What cuts a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// A visitor who does nothing for longer than this begins a new session, milliseconds.
    pub idle_gap_ms: i64,
    /// An event later than this after a session's first begins a new one, milliseconds.
    pub longest_ms: i64,
    /// The first event of a day begins a new one.
    pub days: Option<Days>,
    /// An event that carries a campaign begins a new one, unless the session has that campaign. One that carries none goes on.
    pub cuts_at_campaign: bool,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { idle_gap_ms: 30 * 60_000, longest_ms: 86_400_000, days: None, cuts_at_campaign: false }
    }
}

impl SessionRules {
    /// Sessions cut by these times alone. `section` is where they are configured.
    ///
    /// # Errors
    /// Which of `session_gap` and `longest_session` is out of bounds.
    pub fn of_times(section: &str, session_gap: Duration, longest_session: Duration) -> Result<Self, String> {
        let most = Duration::from_millis(LONGEST_SESSION_MS as u64);
        if session_gap.as_millis() == 0 || session_gap > most {
            return Err(format!("{section}.session_gap: {session_gap:?} is outside 1ms..={most:?}"));
        }
        if longest_session < session_gap || longest_session > most {
            return Err(format!("{section}.longest_session: {longest_session:?} is outside {session_gap:?}..={most:?}"));
        }
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(LONGEST_SESSION_MS);
        Ok(Self { idle_gap_ms: ms(session_gap), longest_ms: ms(longest_session), ..Self::default() })
    }

    /// Whether a moment at or after the last one of a session, with nothing between them, goes on with it.
    pub fn continues(&self, session: &Span, moment: Moment) -> bool {
        moment.at_ms == session.last_ms || self.fits(session, moment.at_ms) && self.goes_with(session.campaign, moment.campaign)
    }

    /// Whether a session may end as late as `at_ms`, whatever is carried then.
    pub fn fits(&self, session: &Span, at_ms: i64) -> bool {
        at_ms.saturating_sub(session.last_ms) <= self.idle_gap_ms
            && at_ms.saturating_sub(session.start_ms) <= self.longest_ms
            && !self.days.as_ref().is_some_and(|days| days.begins_between(session.last_ms, at_ms))
    }

    /// Whether an event of `campaign` may be in a session whose first event is of `first`.
    pub fn goes_with(&self, first: Campaign, campaign: Campaign) -> bool {
        !self.cuts_at_campaign || campaign == Campaign::NONE || campaign == first
    }

    /// What of an event's campaign matters.
    pub fn seen(&self, campaign: Campaign) -> Campaign {
        if self.cuts_at_campaign { campaign } else { Campaign::NONE }
    }
}

/// The days of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days(TimeZone);

impl Days {
    /// Those of the zone with this IANA name.
    pub fn of_zone(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Whether a day begins after `after_ms` and at `until_ms` or before. A day begins with its first moment on the clocks there, once,
    /// also where they are set back over midnight.
    pub fn begins_between(&self, after_ms: i64, until_ms: i64) -> bool {
        after_ms < until_ms && self.next(after_ms).is_ok_and(|next_ms| next_ms <= until_ms)
    }

    /// When the first day after `at_ms` begins.
    fn next(&self, at_ms: i64) -> Result<i64, jiff::Error> {
        let mut date = Timestamp::from_millisecond(at_ms)?.to_zoned_datetime(self.0.clone()).date();
        loop {
            date = date.tomorrow()?;
            let start_ms = date.to_zoned_datetime(self.0.clone())?.timestamp().as_millisecond();
            if start_ms > at_ms {
                return Ok(start_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_session_began_also_before_1970() {
        let visitor = Visitor { project: ProjectId(1), key: VisitorKey(2) };
        for start_ms in [0, 1, -1, 1_790_000_000_123, -2_208_988_800_000, 10_413_791_999_999] {
            assert_eq!(SessionId::beginning_at(visitor, start_ms).start_ms(), Some(start_ms));
        }
        assert_eq!(SessionId::of_client(visitor, "7").start_ms(), None);
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn days_begin_when_the_clocks_there_say_so() {
        let begins = |zone: &str, after: &str, until: &str| Days::of_zone(zone).unwrap().begins_between(ms(after), ms(until));
        // Midnight in Berlin is 23:00 UTC in winter and 22:00 in summer, which begins on the 29th of March.
        assert!(begins("Europe/Berlin", "2026-03-28T22:59:59.999Z", "2026-03-28T23:00:00Z"));
        assert!(!begins("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59.999Z"));
        assert!(begins("Europe/Berlin", "2026-03-29T21:59:59.999Z", "2026-03-29T22:00:00Z"));
        // In Beirut that day began at one o'clock, and in Havana midnight came twice on the 1st of November.
        assert!(!begins("Asia/Beirut", "2026-03-28T22:00:00Z", "2026-03-29T20:59:59.999Z"));
        assert!(begins("America/Havana", "2026-11-01T03:59:59Z", "2026-11-01T04:00:00Z"));
        assert!(!begins("America/Havana", "2026-11-01T04:00:00Z", "2026-11-02T04:59:59Z"));
        // In St. John's clocks were set back over midnight: the new day had begun a minute before.
        assert!(begins("America/St_Johns", "2006-10-29T02:29:59Z", "2006-10-29T02:30:00Z"));
        assert!(!begins("America/St_Johns", "2006-10-29T02:30:00Z", "2006-10-30T03:29:59Z"));
        assert!(!begins("UTC", "2026-03-28T00:00:00Z", "2026-03-28T00:00:00Z"));
    }

    #[test]
    fn what_names_a_campaign_decides_which_one_it_is() {
        let of = |texts: [&str; 3]| Campaign::of(texts.iter().map(|text| text.as_bytes()));
        assert_eq!(of(["", "", ""]), Campaign::NONE);
        assert_eq!(of(["a", "", "b"]), of(["a", "", "b"]));
        for other in [["a", "b", ""], ["", "a", "b"], ["ab", "", ""], ["a", "", ""]] {
            assert_ne!(of(["a", "", "b"]), of(other));
        }
    }
}
