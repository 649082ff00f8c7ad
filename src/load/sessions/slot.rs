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
    /// Seconds before the start in which nothing is.
    pub(super) free_before: u16,
    /// Seconds after the last event in which nothing is.
    pub(super) free_after: u16,
    /// Of the revisions that hold for its events the highest version, 0 if there is none; [`UNKNOWN`] of a session that the table had.
    pub(super) version: u8,
    pub(super) doubt: Doubt,
}

/// Which revisions hold for a session must be looked up.
pub(super) const UNKNOWN: u8 = u8::MAX;

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
        self.start_ms().saturating_sub(1_000 * i64::from(self.free_before))
    }

    /// Nothing is between the last event and this.
    pub(super) fn free_until(&self) -> i64 {
        match self.free_after {
            FOREVER => i64::MAX,
            seconds => self.last_ms().saturating_add(1_000 * i64::from(seconds)),
        }
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

/// Seconds between two times that are certainly free.
pub(super) fn seconds(from_ms: i64, to_ms: i64) -> u16 {
    let whole = to_ms.saturating_sub(from_ms).max(0) / 1_000;
    u16::try_from(whole).unwrap_or(FOREVER).min(FOREVER - 1)
}
