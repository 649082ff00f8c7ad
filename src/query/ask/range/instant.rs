//! Instants as requests write them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit, ZonedDateTime};

use super::invalid;
use crate::query::ask::fields::shortened;
use crate::query::ask::interval::Interval;
use crate::query::error::QueryError;

/// Beyond this every unit leaves the calendar or the range of a span.
const MAX_COUNT: i64 = 1_000_000_000;

/// An instant that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Whether it moves with the clock all the time; one that is rounded stays for as long as what it is rounded to.
    pub(crate) follows_now: bool,
    /// What it is the beginning of, as it is written.
    pub(crate) begins: Option<Unit>,
}

/// Reads RFC 3339 with an offset, a date (its beginning in `zone`), or `now` and `-7d` (s, m, h, d, w, M, y; days and longer by the
/// calendar of `zone`), which `/d` and so on rounds down to the calendar of `zone`.
pub(crate) fn read(text: &str, now_ms: i64, zone: &TimeZone) -> Result<Instant, QueryError> {
    if text != "now" && !text.starts_with("now/") && !text.starts_with('-') {
        let begins = is_date(text).then_some(Unit::Day);
        return Ok(Instant { at_ms: absolute(text, zone)?, follows_now: false, begins });
    }
    let (back, unit) = match text.split_once('/') {
        Some((back, unit)) => (back, Some(unit)),
        None => (text, None),
    };
    let unreadable = |_| unreadable(text);
    let now = Timestamp::from_millisecond(now_ms).map_err(unreadable)?.to_zoned_datetime(zone.clone());
    let at = match back.strip_prefix('-') {
        Some(back) => now.checked_sub(span(back).ok_or_else(|| self::unreadable(text))?).map_err(unreadable)?,
        None => now,
    };
    let begins = unit.map(|unit| unit_of(unit).ok_or_else(|| self::unreadable(text))).transpose()?;
    let at = match begins {
        Some(unit) => rounded(&at, unit).ok_or_else(|| self::unreadable(text))?,
        None => at,
    };
    Ok(Instant { at_ms: at.timestamp().as_millisecond(), follows_now: begins.is_none(), begins })
}

fn unreadable(text: &str) -> QueryError {
    invalid(format!("`{}` is neither RFC 3339 with an offset nor a date nor relative (`now`, `-7d`, `-7d/d`)", shortened(text)))
}

fn is_date(text: &str) -> bool {
    text.len() == "2026-01-31".len()
}

fn absolute(text: &str, zone: &TimeZone) -> Result<i64, QueryError> {
    let unreadable = |_| unreadable(text);
    if is_date(text) {
        let date: Date = text.parse().map_err(unreadable)?;
        return Ok(date.to_zoned_datetime(zone.clone()).map_err(unreadable)?.timestamp().as_millisecond());
    }
    Ok(text.parse::<Timestamp>().map_err(unreadable)?.as_millisecond())
}

/// `7d` as a span.
fn span(text: &str) -> Option<Span> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: i64 = digits.parse().ok().filter(|count| *count <= MAX_COUNT)?;
    let span = Span::new();
    match unit {
        's' => span.try_seconds(count),
        'm' => span.try_minutes(count),
        'h' => span.try_hours(count),
        'd' => span.try_days(count),
        'w' => span.try_weeks(count),
        'M' => span.try_months(count),
        'y' => span.try_years(count),
        _ => return None,
    }
    .ok()
}

/// The unit behind a slash.
fn unit_of(text: &str) -> Option<Unit> {
    Some(match text {
        "s" => Unit::Second,
        "m" => Unit::Minute,
        "h" => Unit::Hour,
        "d" => Unit::Day,
        "w" => Unit::Week,
        "M" => Unit::Month,
        "y" => Unit::Year,
        _ => return None,
    })
}

/// The beginning of the second, minute, hour, day, week, month or year that holds `at`.
fn rounded(at: &ZonedDateTime, unit: Unit) -> Option<ZonedDateTime> {
    let interval = match unit {
        Unit::Second => {
            let at_ms = at.timestamp().as_millisecond();
            let start = Timestamp::from_millisecond(at_ms - at_ms.rem_euclid(1_000)).ok()?;
            return Some(start.to_zoned_datetime(at.time_zone().clone()));
        }
        Unit::Minute => Interval::Minute,
        Unit::Hour => Interval::Hour,
        Unit::Day => Interval::Day,
        Unit::Week => Interval::Week,
        Unit::Month => Interval::Month,
        Unit::Year => return at.date().first_of_year().to_zoned_datetime(at.time_zone().clone()).ok(),
        _ => return None,
    };
    interval.start(at).ok()
}
