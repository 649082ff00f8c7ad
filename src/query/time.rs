//! Time ranges and buckets. Calendar arithmetic happens here alone, so SQL needs no time zones and cannot disagree.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};

use super::error::QueryError;
use super::request::{Fields, shortened};
use super::sql::{Scope, Statement};
use crate::event::ids::ProjectId;

/// Most buckets of one answer.
const MAX_BUCKETS: usize = 20_000;
/// 2299-01-01, up to where the table can hold times.
pub(super) const LATEST_MS: i64 = 10_382_256_000_000;

/// A checked range: `from_ms` included, `until_ms` excluded.
#[derive(Clone)]
pub(crate) struct Range {
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
    pub(crate) zone: TimeZone,
    asked: [Bound; 2],
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

/// The question, not the answer: two ranges that read alike here mean the same at any time.
impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Range").field(&self.asked).field(&self.zone.iana_name()).finish()
    }
}

/// The width of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interval {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// The buckets of a range, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// Every start, then the end of the last one.
    edges: Vec<i64>,
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_range", message)
}

/// The time zone under `timezone`, UTC by default.
pub(crate) fn zone(fields: Fields<'_>) -> Result<TimeZone, QueryError> {
    let Some(name) = fields.text("timezone", "invalid_timezone")? else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| QueryError::invalid("invalid_timezone", format!("unknown IANA time zone `{}`", shortened(name))))
}

/// Reads `now`, `-7d` (s, m, h, d, w, M, y; days and longer by the calendar of `zone`) or RFC 3339 with an offset.
pub(crate) fn instant(text: &str, now_ms: i64, zone: &TimeZone) -> Result<i64, QueryError> {
    let unreadable = || invalid(format!("`{}` is neither RFC 3339 with an offset nor relative (`now`, `-7d`)", shortened(text)));
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(relative) = text.strip_prefix('-') {
        let unit = relative.chars().last().ok_or_else(unreadable)?;
        let digits = relative.strip_suffix(unit).unwrap_or("");
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unreadable());
        }
        let count: i64 = digits.parse().map_err(|_| unreadable())?;
        // Beyond this every unit leaves the calendar or the range of a span.
        let count = if count <= 1_000_000_000 { count } else { return Err(unreadable()) };
        let span = jiff::Span::new();
        let span = match unit {
            's' => span.try_seconds(count),
            'm' => span.try_minutes(count),
            'h' => span.try_hours(count),
            'd' => span.try_days(count),
            'w' => span.try_weeks(count),
            'M' => span.try_months(count),
            'y' => span.try_years(count),
            _ => return Err(unreadable()),
        }
        .map_err(|_| unreadable())?;
        let now = Timestamp::from_millisecond(now_ms).map_err(|_| unreadable())?.to_zoned_datetime(zone.clone());
        return Ok(now.checked_sub(span).map_err(|_| unreadable())?.timestamp().as_millisecond());
    }
    text.parse::<Timestamp>().map(Timestamp::as_millisecond).map_err(|_| unreadable())
}

impl Range {
    /// The range under `from`, `to` and `timezone`. An absent `to` is `now`, an absent `from` is an error.
    pub(crate) fn parse(fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        Self::parse_since(fields, now_ms, None)
    }

    /// As [`Range::parse`], but an absent `from` is `since`.
    pub(crate) fn parse_since(fields: Fields<'_>, now_ms: i64, since: Option<&str>) -> Result<Self, QueryError> {
        let zone = zone(fields)?;
        let from = fields.text("from", "invalid_range")?.or(since).ok_or_else(|| invalid("`from` is missing"))?;
        let until = fields.text("to", "invalid_range")?.unwrap_or("now");
        let range = Self::of(instant(from, now_ms, &zone)?, instant(until, now_ms, &zone)?, zone)?;
        Ok(range.remembering([Some(from), Some(until)], now_ms))
    }

    /// As [`Range::parse`], but an absent bound is none at all: lists show everything unless told otherwise.
    pub(crate) fn parse_open(fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        let zone = zone(fields)?;
        let (from, until) = (fields.text("from", "invalid_range")?, fields.text("to", "invalid_range")?);
        let bound = |text: Option<&str>| text.map(|text| instant(text, now_ms, &zone)).transpose();
        let (from_ms, until_ms) = (bound(from)?.unwrap_or(0), bound(until)?.unwrap_or(LATEST_MS));
        Ok(Self::of(from_ms, until_ms, zone)?.remembering([from, until], now_ms))
    }

    /// Remembers which bounds move with the clock.
    fn remembering(mut self, texts: [Option<&str>; 2], now_ms: i64) -> Self {
        for ((bound, text), at_ms) in self.asked.iter_mut().zip(texts).zip([self.from_ms, self.until_ms]) {
            if text.is_some_and(|text| text == "now" || text.starts_with('-')) {
                *bound = Bound::Ago(now_ms - at_ms);
            }
        }
        self
    }

    /// Whether its bounds stay where they are.
    pub(crate) fn stays(&self) -> bool {
        self.asked.iter().all(|bound| matches!(bound, Bound::At(_)))
    }

    /// Whether its end moves with the clock.
    pub(crate) fn follows_now(&self) -> bool {
        !matches!(self.asked, [_, Bound::At(_)])
    }

    /// As the scope of a statement.
    pub(crate) fn scope(&self, project: ProjectId) -> Scope {
        Scope { project, from_ms: self.from_ms, until_ms: self.until_ms }
    }

    /// A range of two instants.
    pub(crate) fn of(from_ms: i64, until_ms: i64, zone: TimeZone) -> Result<Self, QueryError> {
        if from_ms < 0 || until_ms > LATEST_MS {
            return Err(invalid("the range must lie between the years 1970 and 2299"));
        }
        if from_ms >= until_ms {
            return Err(invalid("`from` must be before `to`"));
        }
        Ok(Self { from_ms, until_ms, zone, asked: [Bound::At(from_ms), Bound::At(until_ms)] })
    }

    /// The range of the same length just before this one.
    pub(crate) fn previous(&self) -> Result<Self, QueryError> {
        let mut previous = Self::of(self.from_ms - (self.until_ms - self.from_ms), self.from_ms, self.zone.clone())?;
        if !self.stays() {
            previous.asked = [Bound::Follows; 2];
        }
        Ok(previous)
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

/// An instant as RFC 3339 with milliseconds and `Z`.
pub(crate) fn show_ms(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

impl Interval {
    /// The interval under `interval`, day by default.
    pub(crate) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        match fields.text("interval", "invalid_interval")? {
            Some("minute") => Ok(Self::Minute),
            Some("hour") => Ok(Self::Hour),
            None | Some("day") => Ok(Self::Day),
            Some("week") => Ok(Self::Week),
            Some("month") => Ok(Self::Month),
            Some(other) => Err(QueryError::invalid(
                "invalid_interval",
                format!("unknown interval `{}`: expected minute, hour, day, week or month", shortened(other)),
            )),
        }
    }

    /// No bucket is shorter than this, in milliseconds.
    const fn shortest_ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 20 * 3_600_000,
            Self::Week => 6 * 86_400_000,
            Self::Month => 27 * 86_400_000,
        }
    }

    /// The start of the bucket that holds `at`.
    fn start(self, at: &ZonedDateTime) -> Result<ZonedDateTime, jiff::Error> {
        match self {
            Self::Minute | Self::Hour => {
                // Counted from the start of the offset in force, so that an hour repeated by the clock is two buckets.
                let width = self.shortest_ms();
                let shift = i64::from(at.offset().seconds()) * 1_000;
                let local = at.timestamp().as_millisecond() + shift;
                let start = local - local.rem_euclid(width) - shift;
                Ok(Timestamp::from_millisecond(start)?.to_zoned_datetime(at.time_zone().clone()))
            }
            Self::Day => at.start_of_day(),
            Self::Week => {
                let back = at.weekday().since(Weekday::Monday);
                at.date().checked_sub(i64::from(back).days())?.to_zoned_datetime(at.time_zone().clone())
            }
            Self::Month => at.date().first_of_month().to_zoned_datetime(at.time_zone().clone()),
        }
    }

    /// The start of the bucket after the one that starts at `start`.
    fn next(self, start: &ZonedDateTime) -> Result<ZonedDateTime, jiff::Error> {
        let zone = start.time_zone().clone();
        match self {
            Self::Minute => start.checked_add(1.minutes()),
            Self::Hour => start.checked_add(1.hours()),
            Self::Day => start.date().tomorrow()?.to_zoned_datetime(zone),
            Self::Week => start.date().checked_add(1.weeks())?.to_zoned_datetime(zone),
            Self::Month => start.date().checked_add(1.months())?.to_zoned_datetime(zone),
        }
    }
}

impl Buckets {
    /// The buckets of `range`: the first holds `from`, even if it starts before it.
    ///
    /// # Errors
    /// 400 `too_many_buckets`.
    pub(crate) fn of(range: &Range, interval: Interval) -> Result<Self, QueryError> {
        let too_many =
            || QueryError::invalid("too_many_buckets", format!("the range has more than {MAX_BUCKETS} buckets of this interval"));
        let most = (range.until_ms - range.from_ms) / interval.shortest_ms();
        if most > MAX_BUCKETS as i64 {
            return Err(too_many());
        }
        let beyond = |_| invalid("the range leaves the calendar");
        let from = Timestamp::from_millisecond(range.from_ms).map_err(beyond)?.to_zoned_datetime(range.zone.clone());
        let mut start = interval.start(&from).map_err(beyond)?;
        let mut edges = vec![start.timestamp().as_millisecond()];
        loop {
            start = interval.next(&start).map_err(beyond)?;
            let edge = start.timestamp().as_millisecond();
            edges.push(edge);
            if edge >= range.until_ms {
                return Ok(Self { edges });
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    /// The starts.
    pub(crate) fn starts(&self) -> &[i64] {
        self.edges.split_last().map_or(&[], |(_, starts)| starts)
    }

    /// The part of `range` that the bucket starting at `start` covers, if there is such a bucket.
    pub(crate) fn part(&self, range: &Range, start: i64) -> Option<Range> {
        let &[_, end] = self.edges.windows(2).find(|edges| edges.first() == Some(&start))? else { return None };
        let (from_ms, until_ms) = (range.from_ms.max(start), range.until_ms.min(end));
        Some(Range { from_ms, until_ms, zone: range.zone.clone(), asked: [Bound::At(from_ms), Bound::At(until_ms)] })
    }

    /// Appends the index of the bucket that holds `timestamp`. Buckets of one width are one division; where the width
    /// changes (clocks, months) another one begins.
    pub(crate) fn index(&self, to: Statement) -> Statement {
        let runs = self.runs();
        let mut to = to.sql("multiIf(");
        for (position, &(first, start, width)) in runs.iter().enumerate() {
            if let Some((_, end, _)) = runs.get(position + 1) {
                to = to.sql("toUnixTimestamp64Milli(timestamp) < ").int(*end).sql(", ");
            } else if position == 0 {
                // multiIf wants a condition even where there is nothing to choose.
                to = to.sql("0, toInt64(0), ");
            }
            to = to.int(first).sql(" + intDiv(toUnixTimestamp64Milli(timestamp) - ").int(start).sql(", ").int(width);
            to = to.sql(if position + 1 == runs.len() { "))" } else { "), " });
        }
        to
    }

    /// Runs of equal buckets: index of the first, its start, their width.
    fn runs(&self) -> Vec<(i64, i64, i64)> {
        let mut runs: Vec<(i64, i64, i64)> = Vec::new();
        for (index, pair) in self.edges.windows(2).enumerate() {
            let &[start, end] = pair else { continue };
            if runs.last().is_none_or(|(_, _, width)| *width != end - start) {
                runs.push((index as i64, start, end - start));
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests;
