//! Intervals and the buckets that they cut a range into.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};

use super::canonical::{Canonical, CanonicalForm};
use super::expr::Expr;
use super::fields::{Fields, shortened};
use super::range::{Range, invalid};
use crate::query::error::QueryError;

/// Most buckets of one answer.
const MAX_BUCKETS: usize = 20_000;
/// Most runs of equal buckets that are told apart one after the other; beyond it every event is searched for among all starts.
const MAX_RUNS: usize = 16;

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

impl Canonical for Interval {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.word(self.name());
    }
}

impl Interval {
    /// Its word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The interval of this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month].into_iter().find(|interval| interval.name() == name)
    }

    /// The start of the bucket that holds a time; `None` beyond the years that there are.
    pub(crate) fn start_ms(self, at_ms: i64, zone: &TimeZone) -> Option<i64> {
        let at = Timestamp::from_millisecond(at_ms).ok()?.to_zoned_datetime(zone.clone());
        Some(self.start(&at).ok()?.timestamp().as_millisecond())
    }

    /// The start of the bucket after the one that starts at `start_ms`.
    pub(crate) fn next_ms(self, start_ms: i64, zone: &TimeZone) -> Option<i64> {
        let start = Timestamp::from_millisecond(start_ms).ok()?.to_zoned_datetime(zone.clone());
        Some(self.next(&start).ok()?.timestamp().as_millisecond())
    }

    /// The interval under `interval`, day by default.
    pub(crate) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        fields.text("interval", "invalid_interval")?.map_or(Ok(Self::Day), Self::named)
    }

    /// The interval that a request names.
    ///
    /// # Errors
    /// 400 `invalid_interval`.
    pub(crate) fn named(name: &str) -> Result<Self, QueryError> {
        let message = || format!("unknown interval `{}`: expected minute, hour, day, week or month", shortened(name));
        Self::of_name(name).ok_or_else(|| QueryError::invalid("invalid_interval", message()))
    }

    /// The period under `key`: day by default, week or month.
    ///
    /// # Errors
    /// 400 `invalid_interval`.
    pub(crate) fn parse_period(fields: Fields<'_>, key: &str) -> Result<Self, QueryError> {
        match fields.text(key, "invalid_interval")? {
            None | Some("day") => Ok(Self::Day),
            Some("week") => Ok(Self::Week),
            Some("month") => Ok(Self::Month),
            Some(other) => {
                let message = format!("unknown `{key}` `{}`: expected day, week or month", shortened(other));
                Err(QueryError::invalid("invalid_interval", message))
            }
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
    pub(super) fn start(self, at: &ZonedDateTime) -> Result<ZonedDateTime, jiff::Error> {
        match self {
            Self::Minute | Self::Hour => self.clock_start(at),
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
            Self::Minute | Self::Hour => self.clock_next(start),
            Self::Day => start.date().tomorrow()?.to_zoned_datetime(zone),
            Self::Week => start.date().checked_add(1.weeks())?.to_zoned_datetime(zone),
            Self::Month => start.date().checked_add(1.months())?.to_zoned_datetime(zone),
        }
    }

    /// The last full hour or minute of the wall clock that is not after `at`. Where a clock is moved by less than an hour, the hour
    /// in which that happens is longer or shorter, and all others are full ones.
    fn clock_start(self, at: &ZonedDateTime) -> Result<ZonedDateTime, jiff::Error> {
        let zone = at.time_zone();
        let mut at_ms = at.timestamp().as_millisecond();
        loop {
            let start = self.floor(at_ms, zone)?;
            let moved = zone.preceding(Timestamp::from_millisecond(at_ms + 1)?).next().map(|change| change.timestamp().as_millisecond());
            match moved.filter(|moved| *moved > start) {
                Some(moved) => at_ms = moved - 1,
                None => return Ok(Timestamp::from_millisecond(start)?.to_zoned_datetime(zone.clone())),
            }
        }
    }

    /// The first full hour or minute of the wall clock after `start`.
    fn clock_next(self, start: &ZonedDateTime) -> Result<ZonedDateTime, jiff::Error> {
        let zone = start.time_zone();
        let mut after = start.timestamp();
        let mut edge = after.as_millisecond() + self.shortest_ms();
        while let Some(moved) = zone.following(after).next().map(|change| change.timestamp()).filter(|at| at.as_millisecond() <= edge) {
            let moved_ms = moved.as_millisecond();
            let floor = self.floor(moved_ms, zone)?;
            edge = if floor == moved_ms { moved_ms } else { floor + self.shortest_ms() };
            after = moved;
        }
        Ok(Timestamp::from_millisecond(edge)?.to_zoned_datetime(zone.clone()))
    }

    /// `at_ms` rounded down by the offset in force then.
    fn floor(self, at_ms: i64, zone: &TimeZone) -> Result<i64, jiff::Error> {
        let shift = i64::from(zone.to_offset(Timestamp::from_millisecond(at_ms)?).seconds()) * 1_000;
        let local = at_ms + shift;
        Ok(local - local.rem_euclid(self.shortest_ms()) - shift)
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

    /// These buckets with as many more `before` and `after` them.
    pub(crate) fn extended(mut self, range: &Range, interval: Interval, [before, after]: [usize; 2]) -> Result<Self, QueryError> {
        let beyond = |_| invalid("the range leaves the calendar");
        let zoned = |at_ms: i64| Ok(Timestamp::from_millisecond(at_ms).map_err(beyond)?.to_zoned_datetime(range.zone.clone()));
        for _ in 0..before {
            let first = self.edges.first().copied().unwrap_or(range.from_ms);
            let start = interval.start(&zoned(first - 1)?).map_err(beyond)?;
            self.edges.insert(0, start.timestamp().as_millisecond());
        }
        for _ in 0..after {
            let last = self.edges.last().copied().unwrap_or(range.until_ms);
            self.edges.push(interval.next(&zoned(last)?).map_err(beyond)?.timestamp().as_millisecond());
        }
        Ok(self)
    }

    pub(crate) fn len(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    /// Every start, then the end of the last one.
    pub(crate) fn edges(&self) -> &[i64] {
        &self.edges
    }

    /// The starts.
    pub(crate) fn starts(&self) -> &[i64] {
        self.edges.split_last().map_or(&[], |(_, starts)| starts)
    }

    /// The end of the first of them, or of `range` if that is earlier.
    pub(crate) fn first_end(&self, range: &Range) -> i64 {
        self.edges.get(1).map_or(range.until_ms, |end| range.until_ms.min(*end))
    }

    /// The part of `range` that the bucket starting at `start` covers, if there is such a bucket.
    pub(crate) fn part(&self, range: &Range, start: i64) -> Option<Range> {
        let &[_, end] = self.edges.windows(2).find(|edges| edges.first() == Some(&start))? else { return None };
        let (from_ms, until_ms) = (range.from_ms.max(start), range.until_ms.min(end));
        Range::of(from_ms, until_ms, range.zone.clone()).ok()
    }

    /// Of every bucket whether it lies only partly in `range` or is not over at `now_ms`.
    pub(crate) fn partial(&self, range: &Range, now_ms: i64) -> Vec<bool> {
        let until_ms = range.until_ms.min(now_ms);
        self.edges.windows(2).map(|edges| matches!(edges, [start, end] if *start < range.from_ms || *end > until_ms)).collect()
    }

    /// The start of the bucket that holds `timestamp`. Buckets of one width are one division; where the width changes (clocks,
    /// months) another one begins. Where it changes often the starts are searched.
    pub(crate) fn start(&self) -> Expr {
        self.start_of("toUnixTimestamp64Milli(timestamp)")
    }

    /// The same of `at`, milliseconds since 1970.
    pub(crate) fn start_of(&self, at: &'static str) -> Expr {
        let runs = self.runs();
        if runs.len() > MAX_RUNS {
            return Expr::call("roundDown", [at.into(), Expr::ints(self.starts().iter().copied())]);
        }
        let divided = |&(start, width): &(i64, i64)| {
            let distance = Expr::from(at).infix(" - ", Expr::int(start));
            let whole = Expr::call("intDiv", [distance, Expr::int(width)]).infix(" * ", Expr::int(width));
            Expr::int(start).infix(" + ", whole)
        };
        let ends = runs.iter().skip(1).map(|(end, _)| Expr::from(at).infix(" < ", Expr::int(*end)));
        let mut cases: Vec<Expr> = ends.zip(&runs).flat_map(|(is_before, run)| [is_before, divided(run)]).collect();
        if cases.is_empty() {
            // multiIf wants a condition even where there is nothing to choose.
            cases = vec!["0".into(), "toInt64(0)".into()];
        }
        Expr::call("multiIf", cases.into_iter().chain(runs.last().map(divided)))
    }

    /// The number of the bucket that holds `at`, milliseconds since 1970, from 0; of a time in none of them any number.
    pub(crate) fn number_of(&self, at: &'static str) -> Expr {
        let runs = self.runs();
        if runs.len() > MAX_RUNS {
            let numbers = Expr::ints((0..self.len()).map(|number| number as i64));
            return Expr::call("transform", [self.start_of(at), Expr::ints(self.starts().iter().copied()), numbers, "toInt64(-1)".into()]);
        }
        let numbered = |&(start, width): &(i64, i64)| {
            let before = self.edges.partition_point(|edge| *edge < start) as i64;
            let distance = Expr::from(at).infix(" - ", Expr::int(start));
            Expr::int(before).infix(" + ", Expr::call("intDiv", [distance, Expr::int(width)]))
        };
        let ends = runs.iter().skip(1).map(|(end, _)| Expr::from(at).infix(" < ", Expr::int(*end)));
        let mut cases: Vec<Expr> = ends.zip(&runs).flat_map(|(is_before, run)| [is_before, numbered(run)]).collect();
        if cases.is_empty() {
            cases = vec!["0".into(), "toInt64(0)".into()];
        }
        Expr::call("multiIf", cases.into_iter().chain(runs.last().map(numbered)))
    }

    /// Runs of equal buckets: the start of the first, their width.
    fn runs(&self) -> Vec<(i64, i64)> {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for pair in self.edges.windows(2) {
            let &[start, end] = pair else { continue };
            if runs.last().is_none_or(|(_, width)| *width != end - start) {
                runs.push((start, end - start));
            }
        }
        runs
    }

    /// The index of the bucket that starts at `start`.
    pub(crate) fn index(&self, start: i64) -> Option<usize> {
        self.starts().binary_search(&start).ok()
    }
}
