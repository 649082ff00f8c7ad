//! The latest session of a visitor as a partition remembers it, and what of a new event follows from that alone.

use crate::event::session::{Campaign, Moment, SessionRules, Span};

/// A time in six bytes: a visitor's slot is small because there are a million.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortTime([u8; 6]);

impl ShortTime {
    pub(super) fn of(at_ms: i64) -> Self {
        let [a, b, c, d, e, f, _, _] = at_ms.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    pub(super) fn ms(self) -> i64 {
        let [a, b, c, d, e, f] = self.0;
        i64::from_le_bytes([0, 0, a, b, c, d, e, f]) >> 16
    }
}

/// The latest session of a visitor, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) start: ShortTime,
    /// That of its first event.
    pub(super) campaign: Campaign,
    /// From the start to the last event.
    pub(super) length_ms: u32,
    /// The block in which it began.
    pub(super) born: u32,
    /// Minutes before the start in which nothing is.
    pub(super) free_before: u16,
    /// Minutes after the last event in which nothing is.
    pub(super) free_after: u16,
    /// Of the revisions that hold for its events the highest version, 0 if there is none; [`UNKNOWN`] of a session that the table had.
    pub(super) version: u8,
    pub(super) doubt: Doubt,
}

/// Which revisions hold for a session must be looked up.
pub(super) const UNKNOWN: u8 = u8::MAX;

const MINUTE_MS: i64 = 60_000;
/// Nothing is after it, however long.
pub(super) const FOREVER: u16 = u16::MAX;

/// What of a slot must be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    /// Only the last event is known: what is not an idle gap after it.
    Start,
    /// Everything: events of this visitor wait for the end of the block.
    All,
}

/// What is known of an event's session from a slot.
pub(super) enum Placed {
    /// It goes on with the slot's session.
    Same,
    /// It comes first in the slot's session.
    Earlier,
    /// It begins one, with nothing near it.
    Alone,
    /// It begins one, and is the visitor's latest.
    Latest,
    /// The table must be asked.
    Unsure,
}

impl Slot {
    /// A session of one event.
    pub(super) fn of(moment: Moment) -> Self {
        let Moment { at_ms, campaign } = moment;
        let (start, doubt) = (ShortTime::of(at_ms), Doubt::None);
        Self { start, campaign, length_ms: 0, born: 0, free_before: 0, free_after: FOREVER, version: 0, doubt }
    }

    pub(super) fn start_ms(&self) -> i64 {
        self.start.ms()
    }

    pub(super) fn last_ms(&self) -> i64 {
        self.start_ms().saturating_add(i64::from(self.length_ms))
    }

    pub(super) fn span(&self) -> Span {
        Span { start_ms: self.start_ms(), last_ms: self.last_ms(), campaign: self.campaign }
    }

    /// Nothing is between this and the start.
    pub(super) fn free_from(&self) -> i64 {
        self.start_ms().saturating_sub(MINUTE_MS * i64::from(self.free_before))
    }

    /// Nothing is between the last event and this.
    pub(super) fn free_until(&self) -> i64 {
        match self.free_after {
            FOREVER => i64::MAX,
            minutes => self.last_ms().saturating_add(MINUTE_MS * i64::from(minutes)),
        }
    }

    /// An event at `at_ms` is the session's, and its last one so far.
    pub(super) fn extend(&mut self, at_ms: i64) {
        let more_ms = u32::try_from(at_ms.saturating_sub(self.start_ms())).unwrap_or(u32::MAX);
        if more_ms > self.length_ms {
            if self.free_after != FOREVER {
                self.free_after = minutes(at_ms, self.free_until());
            }
            self.length_ms = more_ms;
        }
    }

    /// The session begins with `moment`.
    pub(super) fn begin_earlier(&mut self, moment: Moment) {
        self.free_before = minutes(self.free_from(), moment.at_ms);
        self.length_ms += u32::try_from(self.start_ms() - moment.at_ms).unwrap_or(0);
        (self.start, self.campaign) = (ShortTime::of(moment.at_ms), moment.campaign);
    }

    /// A session of one event after this one.
    pub(super) fn followed_by(&self, moment: Moment, block: u32) -> Self {
        let free_after = if self.free_after == FOREVER { FOREVER } else { minutes(moment.at_ms, self.free_until()) };
        Self { born: block, free_before: minutes(self.last_ms(), moment.at_ms), free_after, ..Self::of(moment) }
    }

    /// A session of one event before this one, with nothing between them.
    pub(super) fn preceded_by(&mut self, moment: Moment, block: u32) -> Self {
        let (free_before, free_after) = (minutes(self.free_from(), moment.at_ms), minutes(moment.at_ms, self.start_ms()));
        self.free_before = free_after;
        Self { born: block, free_before, free_after, ..Self::of(moment) }
    }

    /// Something before the start ends at `last_ms`.
    pub(super) fn free_since(&mut self, last_ms: i64) {
        self.free_before = self.free_before.min(minutes(last_ms, self.start_ms()));
    }

    /// Something after the last event begins at `start_ms`.
    pub(super) fn free_up_to(&mut self, start_ms: i64) {
        self.free_after = self.free_after.min(minutes(self.last_ms(), start_ms));
    }

    pub(super) fn place(&self, moment: Moment, rules: &SessionRules, block: u32) -> Placed {
        let (session, at_ms) = (self.span(), moment.at_ms);
        let is_after = at_ms > session.last_ms;
        let touches = |a: i64, b: i64| b.saturating_sub(a) <= rules.idle_gap_ms;
        match self.doubt {
            Doubt::All => return Placed::Unsure,
            Doubt::Start if !is_after || touches(session.last_ms, at_ms) => return Placed::Unsure,
            _ => {}
        }
        if is_after {
            if at_ms >= self.free_until() || touches(at_ms, self.free_until()) {
                return Placed::Unsure;
            }
            return if rules.continues(&session, moment) { Placed::Same } else { Placed::Latest };
        }
        // Between two events of one session the same revisions hold as for both: a new one among them needs no look, unless its
        // campaign cuts there.
        if at_ms >= session.start_ms {
            return if rules.goes_with(session.campaign, moment.campaign) { Placed::Same } else { Placed::Unsure };
        }
        if touches(self.free_from(), at_ms) {
            return Placed::Unsure;
        }
        if !touches(at_ms, session.start_ms) {
            return Placed::Alone;
        }
        // Of the campaign of its first event are all of a session that carry one: it begins earlier only if that stays so.
        let earlier = Span { start_ms: at_ms, last_ms: at_ms, campaign: moment.campaign };
        let is_joined = rules.continues(&earlier, Moment { at_ms: session.start_ms, campaign: session.campaign });
        let is_short = session.last_ms.saturating_sub(at_ms) <= rules.longest_ms;
        let is_known = self.born == block || self.version + 1 < UNKNOWN;
        if is_joined && is_short && is_known { Placed::Earlier } else { Placed::Unsure }
    }
}

/// Whole minutes between two times.
pub(super) fn minutes(from_ms: i64, to_ms: i64) -> u16 {
    let whole = to_ms.saturating_sub(from_ms).max(0) / MINUTE_MS;
    u16::try_from(whole).unwrap_or(FOREVER).min(FOREVER - 1)
}
