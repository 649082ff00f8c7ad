//! Time ranges, and what they are compared with. Calendar arithmetic happens here and in `interval` alone, so SQL needs no time zones and
//! cannot disagree.

mod instant;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Unit, ZonedDateTime};

use self::instant::Instant;
use super::canonical::{Canonical, CanonicalForm};
use super::fields::{Fields, shortened};
use crate::query::error::QueryError;

/// 2299-01-01, up to where the table can hold times.
pub(crate) const LATEST_MS: i64 = 10_382_256_000_000;

/// A checked range: `from_ms` included, `until_ms` excluded.
///
/// Its canonical form is that of the question, not of the answer: two ranges that are alike there mean the same at any time.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
    pub(crate) zone: TimeZone,
    asked: [Bound; 2],
    /// What it begins with, as it is written: a day, a week. Only [`Range::previous`] asks.
    begins: Option<Unit>,
}

/// A bound as it was asked for, so that the same question is known again a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// This instant.
    At(i64),
    /// This long before now.
    Ago(i64),
    /// It follows from a range that moves.
    Follows,
}

impl Canonical for Range {
    fn canonical(&self, to: &mut CanonicalForm) {
        // The instants follow from the bounds.
        let Self { from_ms: _, until_ms: _, zone, asked: [from, until], begins: _ } = self;
        to.field("from", from).field("until", until).field("zone", &zone.iana_name());
    }
}

impl Canonical for Bound {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::At(at_ms) => to.field("at", at_ms),
            Self::Ago(ms) => to.field("ago", ms),
            Self::Follows => to.field("follows", &true),
        };
    }
}

pub(super) fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_range", message)
}

/// The time zone under `timezone`, UTC by default.
pub(crate) fn zone(fields: Fields<'_>) -> Result<TimeZone, QueryError> {
    let Some(name) = fields.text("timezone", "invalid_timezone")? else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| QueryError::invalid("invalid_timezone", format!("unknown IANA time zone `{}`", shortened(name))))
}

/// As [`instant::read`], in milliseconds since 1970.
pub(crate) fn instant(text: &str, now_ms: i64, zone: &TimeZone) -> Result<i64, QueryError> {
    Ok(instant::read(text, now_ms, zone)?.at_ms)
}

/// Refuses a time that ends before it begins, where an empty one is a question.
///
/// # Errors
/// 400 `invalid_range`.
pub(crate) fn check_order(from_ms: i64, to_ms: i64) -> Result<(), QueryError> {
    if from_ms > to_ms { Err(invalid("`from` is after `to`")) } else { Ok(()) }
}

/// As [`instant`], in UTC; `None` if it cannot be read.
pub(crate) fn instant_in_utc(text: &str, now_ms: i64) -> Option<i64> {
    instant(text, now_ms, &TimeZone::UTC).ok()
}

impl Range {
    /// The range under `from`, `to` and `timezone`. An absent `to` is `now`, an absent `from` is an error.
    pub(crate) fn parse(fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        Self::parse_in(fields, now_ms, zone(fields)?)
    }

    /// The range under `from` and `to`, read in `zone`.
    pub(crate) fn parse_in(fields: Fields<'_>, now_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        let from = fields.text("from", "invalid_range")?.ok_or_else(|| invalid("`from` is missing"))?;
        Self::read(from, fields.text("to", "invalid_range")?, now_ms, zone)
    }

    /// As [`Range::parse`], but an absent `from` is `since`.
    pub(crate) fn parse_since(fields: Fields<'_>, now_ms: i64, since: &str) -> Result<Self, QueryError> {
        let from = fields.text("from", "invalid_range")?.unwrap_or(since);
        Self::read(from, fields.text("to", "invalid_range")?, now_ms, zone(fields)?)
    }

    fn read(from: &str, until: Option<&str>, now_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        let bound = |key, text| instant::read(text, now_ms, &zone).map_err(|problem| problem.within(key));
        let bounds = [bound("from", from)?, bound("to", until.unwrap_or("now"))?];
        Self::between(bounds, now_ms, zone)
    }

    /// As [`Range::parse`], but an absent bound is none at all: lists show everything unless told otherwise.
    pub(crate) fn parse_open(fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        Self::parse_open_in(fields, now_ms, zone(fields)?)
    }

    /// As [`Range::parse_open`], read in `zone`.
    pub(crate) fn parse_open_in(fields: Fields<'_>, now_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        let bound = |key: &str, open_ms: i64| match fields.text(key, "invalid_range")? {
            Some(text) => instant::read(text, now_ms, &zone).map_err(|problem| problem.within(key)),
            None => Ok(Instant { at_ms: open_ms, follows_now: false, begins: None }),
        };
        let bounds = [bound("from", 0)?, bound("to", LATEST_MS)?];
        Self::between(bounds, now_ms, zone)
    }

    fn between([from, until]: [Instant; 2], now_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        let mut range = Self::of(from.at_ms, until.at_ms, zone)?;
        for (bound, instant) in range.asked.iter_mut().zip([from, until]) {
            if instant.follows_now {
                *bound = Bound::Ago(now_ms - instant.at_ms);
            }
        }
        range.begins = from.begins;
        Ok(range)
    }

    /// Whether its bounds stay where they are.
    pub(crate) fn stays(&self) -> bool {
        self.asked.iter().all(|bound| matches!(bound, Bound::At(_)))
    }

    /// Whether its end moves with the clock.
    pub(crate) fn follows_now(&self) -> bool {
        !matches!(self.asked, [_, Bound::At(_)])
    }

    /// All there is.
    pub(crate) fn everything() -> Self {
        Self { from_ms: 0, until_ms: LATEST_MS, zone: TimeZone::UTC, asked: [Bound::At(0), Bound::At(LATEST_MS)], begins: None }
    }

    /// Everything before its end.
    pub(crate) fn with_all_before(&self) -> Self {
        let [_, until] = self.asked;
        Self { from_ms: 0, asked: [Bound::At(0), until], ..self.clone() }
    }

    /// A range of two instants.
    pub(crate) fn of(from_ms: i64, until_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        if from_ms < 0 || until_ms > LATEST_MS {
            return Err(invalid("the range must lie between the years 1970 and 2299"));
        }
        if from_ms >= until_ms {
            return Err(invalid("`from` must be before `to`"));
        }
        Ok(Self { from_ms, until_ms, zone, asked: [Bound::At(from_ms), Bound::At(until_ms)], begins: None })
    }

    /// This range and `ms` before and behind it, where there is a calendar.
    pub(crate) fn around(&self, ms: i64) -> Option<Self> {
        let (from_ms, until_ms) = (self.from_ms.saturating_sub(ms).max(0), self.until_ms.saturating_add(ms).min(LATEST_MS));
        Self::of(from_ms, until_ms, self.zone.clone()).ok()
    }

    /// This range and `ms` behind it, as far as there is a calendar: the same question, asked later, has it too.
    pub(crate) fn and_later(&self, ms: i64) -> Self {
        let until_ms = self.until_ms.saturating_add(ms).min(LATEST_MS);
        let [from, until] = self.asked;
        let until = match until {
            Bound::At(_) => Bound::At(until_ms),
            Bound::Ago(ago) => Bound::Ago(ago - ms),
            Bound::Follows => Bound::Follows,
        };
        Self { until_ms, zone: self.zone.clone(), asked: [from, until], ..*self }
    }

    /// What ends when this does and begins at `from_ms`.
    pub(crate) fn beginning_at(&self, from_ms: i64) -> Self {
        let [from, until] = self.asked;
        let from = match until {
            _ if from_ms == self.from_ms => from,
            Bound::At(_) => Bound::At(from_ms),
            Bound::Ago(_) | Bound::Follows => Bound::Follows,
        };
        Self { from_ms, asked: [from, until], ..self.clone() }
    }

    /// The same time of the day so many days before `at_ms`, by the calendar; not before 1970.
    pub(crate) fn days_before(&self, at_ms: i64, days: i64) -> Result<i64, QueryError> {
        Ok(earlier(&self.zoned(at_ms)?, jiff::Span::new().days(days)).map_err(beyond)?.max(0))
    }

    /// The end of the day in which it ends.
    pub(crate) fn end_of_day(&self) -> Result<i64, QueryError> {
        let last = self.zoned(self.until_ms - 1)?.date();
        last.tomorrow().and_then(|day| beginning(day, &self.zone)).map_err(beyond)
    }

    /// What it begins with, as it is written, such as the day of `-6d/d`.
    pub(crate) fn begins(&self) -> Option<Unit> {
        self.begins
    }

    /// The range before this one. One that begins with the calendar, as it is written, and ends within it (`-6d/d` to `now`) is moved by as many
    /// whole days (weeks, months) as it has begun, so that each stands beside a whole one and the last beside the same part of one. Else it is the
    /// range just before: as many months if it is made of whole months, as many days if it is made of days (of any hour, such as the last seven to
    /// now), else as long.
    pub(crate) fn previous(&self) -> Result<Self, QueryError> {
        let (from, until) = (self.zoned(self.from_ms)?, self.zoned(self.until_ms)?);
        if let Some(unit) = self.begins
            && let Some(back) = begun(&from, &until, unit)
        {
            return self.moved(earlier(&from, back).map_err(beyond)?, earlier(&until, back).map_err(beyond)?);
        }
        let start = match (months(&from, &until), days(&from, &until)) {
            (Some(months), _) => earlier(&from, jiff::Span::new().months(months)),
            (None, Some(days)) => earlier(&from, jiff::Span::new().days(days)),
            (None, None) => Ok(self.from_ms - (self.until_ms - self.from_ms)),
        };
        self.moved(start.map_err(beyond)?, self.from_ms)
    }

    /// The same weekdays before it: as few whole weeks back as it takes to end before it begins.
    pub(crate) fn weekdays_before(&self) -> Result<Self, QueryError> {
        let (from, until) = (self.zoned(self.from_ms)?, self.zoned(self.until_ms)?);
        let days = i64::from(from.date().until(until.date()).map_err(beyond)?.get_days());
        let before = |at: &ZonedDateTime, weeks: i64| earlier(at, jiff::Span::new().days(7 * weeks)).map_err(beyond);
        let fewest = (days / 7).max(1);
        let weeks = if before(&until, fewest)? <= self.from_ms { fewest } else { fewest + 1 };
        let (start, end) = (before(&from, weeks)?, before(&until, weeks)?);
        // Where the clock jumps over what it lies in, it is as long.
        self.moved(start, if end > start { end } else { start + (self.until_ms - self.from_ms) })
    }

    /// The same dates a year before.
    pub(crate) fn year_before(&self) -> Result<Self, QueryError> {
        let (from, until) = (self.zoned(self.from_ms)?, self.zoned(self.until_ms)?);
        let start = earlier(&from, 1.year()).map_err(beyond)?;
        let end = match is_start_of_day(&until) {
            // Where there is no such date the last day counts, the one before the end: the 28th of February.
            true if until.date().day() == 29 && until.date().month() == 2 => {
                until.date().yesterday().and_then(|last| beginning(last.checked_sub(1.year())?.tomorrow()?, &self.zone))
            }
            true => until.date().checked_sub(1.year()).and_then(|end| beginning(end, &self.zone)),
            false => earlier(&until, 1.year()),
        };
        let end = end.map_err(beyond)?;
        self.moved(start, if end > start { end } else { start + (self.until_ms - self.from_ms) })
    }

    fn moved(&self, from_ms: i64, until_ms: i64) -> Result<Self, QueryError> {
        let mut moved = Self::of(from_ms, until_ms, self.zone.clone())?;
        if !self.stays() {
            moved.asked = [Bound::Follows; 2];
        }
        Ok(moved)
    }

    fn zoned(&self, at_ms: i64) -> Result<ZonedDateTime, QueryError> {
        Ok(Timestamp::from_millisecond(at_ms).map_err(beyond)?.to_zoned_datetime(self.zone.clone()))
    }

    /// An instant as RFC 3339 in the zone of the request.
    pub(crate) fn show(&self, at_ms: i64) -> String {
        let Ok(at) = Timestamp::from_millisecond(at_ms) else { return String::new() };
        if self.zone == TimeZone::UTC {
            return at.to_string();
        }
        let zoned = at.to_zoned_datetime(self.zone.clone());
        at.display_with_offset(zoned.offset()).to_string()
    }
}

fn beyond(_: jiff::Error) -> QueryError {
    invalid("the range leaves the calendar")
}

fn is_start_of_day(at: &ZonedDateTime) -> bool {
    at.start_of_day().is_ok_and(|start| start == *at)
}

/// How many of `unit` have begun from `from` on where `until` lies within one; `None` where it is the beginning of one.
fn begun(from: &ZonedDateTime, until: &ZonedDateTime, unit: Unit) -> Option<jiff::Span> {
    let whole = from.until((unit, until)).ok()?;
    let count = match unit {
        Unit::Year => i64::from(whole.get_years()),
        Unit::Month => i64::from(whole.get_months()),
        Unit::Week => i64::from(whole.get_weeks()),
        Unit::Day => i64::from(whole.get_days()),
        Unit::Hour => i64::from(whole.get_hours()),
        Unit::Minute => whole.get_minutes(),
        _ => return None,
    };
    let of = |count: i64| {
        let span = jiff::Span::new();
        match unit {
            Unit::Year => span.try_years(count),
            Unit::Month => span.try_months(count),
            Unit::Week => span.try_weeks(count),
            Unit::Day => span.try_days(count),
            Unit::Hour => span.try_hours(count),
            _ => span.try_minutes(count),
        }
        .ok()
    };
    let is_whole = from.checked_add(of(count)?).ok()? == *until;
    if is_whole { None } else { of(count + 1) }
}

/// How many whole months lie between, if both are the beginning of one.
fn months(from: &ZonedDateTime, until: &ZonedDateTime) -> Option<i64> {
    let is_start = |at: &ZonedDateTime| at.day() == 1 && is_start_of_day(at);
    let number = |at: &ZonedDateTime| i64::from(at.year()) * 12 + i64::from(at.month());
    (is_start(from) && is_start(until)).then(|| number(until) - number(from))
}

/// How many whole days lie between, if both are the same time of a day.
fn days(from: &ZonedDateTime, until: &ZonedDateTime) -> Option<i64> {
    let is_same_time = from.time() == until.time() || (is_start_of_day(from) && is_start_of_day(until));
    let days = from.date().until(until.date()).ok()?.get_days();
    (is_same_time && days > 0).then_some(i64::from(days))
}

/// The same time of an earlier date; the beginning of a day stays one.
fn earlier(at: &ZonedDateTime, span: jiff::Span) -> Result<i64, jiff::Error> {
    if is_start_of_day(at) {
        return beginning(at.date().checked_sub(span)?, at.time_zone());
    }
    Ok(at.checked_sub(span)?.timestamp().as_millisecond())
}

fn beginning(date: Date, zone: &TimeZone) -> Result<i64, jiff::Error> {
    Ok(date.to_zoned_datetime(zone.clone())?.timestamp().as_millisecond())
}

/// An instant as RFC 3339 with milliseconds and `Z`.
pub(crate) fn show_ms(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests;
