//! When channels may be told: days, and hours of them.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::body::Active;
use super::{DAYS, Rule, RuleError, short, time_of_day, zone_of};

/// From when on it is tried whether a report may be told, and how many of it: in winter and in summer, on each weekday that its slots end with.
const TRIED_FROM_MS: [i64; 2] = [1_704_067_200_000, 1_719_792_000_000];
const TRIED_SLOTS: usize = 14;

/// When channels may be told, as it was read.
#[derive(Clone, Debug)]
pub(super) struct Hours {
    days: Vec<usize>,
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Active {
    pub(super) fn check(&self, zone: &TimeZone) -> Result<Hours, RuleError> {
        let wrong = |text: &str| RuleError { field: "active", problem: format!("`{}` cannot be read", short(text)) };
        let time = |text: &String| time_of_day(text).ok_or_else(|| wrong(text));
        let days = self.days.iter().map(|day| DAYS.iter().position(|known| known == day).ok_or_else(|| wrong(day)));
        let zone = if self.timezone.is_empty() { zone.clone() } else { zone_of("active", &self.timezone)? };
        let (from, to) = (time(&self.from)?, time(&self.to)?);
        if from == to {
            let problem =
                format!("from `{}` to `{}` is no time: leave `active` out where it is always", short(&self.from), short(&self.to));
            return Err(RuleError { field: "active", problem });
        }
        Ok(Hours { days: days.collect::<Result<_, _>>()?, from, to, zone })
    }
}

impl Hours {
    pub(super) fn hold(&self, at_ms: i64) -> bool {
        let Ok(at) = Timestamp::from_millisecond(at_ms) else { return true };
        let at = at.to_zoned_datetime(self.zone.clone());
        let is_over_midnight = self.from > self.to;
        let is_within =
            if is_over_midnight { at.time() >= self.from || at.time() < self.to } else { (self.from..self.to).contains(&at.time()) };
        // The night belongs to the day on which it began.
        let began_yesterday = is_over_midnight && at.time() < self.to;
        let day = at.weekday().to_monday_zero_offset() as usize;
        let day = if began_yesterday { (day + 6) % 7 } else { day };
        is_within && (self.days.is_empty() || self.days.contains(&day))
    }
}

impl Rule {
    /// Checks that a report is told at all: outside of its hours it is left out. Only where it is written: one that was saved before this was
    /// refused stays there to be changed.
    ///
    /// # Errors
    /// `active`, with both times.
    pub(crate) fn check_hours(&self) -> Result<(), RuleError> {
        let (Some(at), Some(Active { days, from, to, .. })) = (&self.body.report_at, &self.body.active) else { return Ok(()) };
        let is_told = |slot: i64| self.ripe_ms(slot).is_none_or(|ripe_ms| self.is_active(ripe_ms));
        let slots_from = |first| std::iter::successors(self.interval.start_ms(first, &self.zone), |slot| self.next_slot(*slot));
        if TRIED_FROM_MS.into_iter().any(|first| slots_from(first).take(TRIED_SLOTS).any(is_told)) {
            return Ok(());
        }
        let days = if days.is_empty() { String::new() } else { format!(" on {}", days.join(", ")) };
        let (at, from, to) = (short(at), short(from), short(to));
        let problem = format!("from `{from}` to `{to}`{days} never holds when `report_at` `{at}` comes: it would be told to nobody");
        Err(RuleError { field: "active", problem })
    }
}
