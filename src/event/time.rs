//! Times as clients write them, and what they mean by the server's clock.
//!
//! The text is read by hand because clients write more than RFC 3339 allows: no seconds, a comma before fractions, numbers in four
//! units. The calendar is that of `time`; a property test compares with `jiff`.

use std::ops::Range;

use time::{Date, Month, Time, UtcDateTime};

use crate::outcome::Defect;

const DAY_MS: i64 = 86_400_000;
/// A client clock may be this far ahead before its times are not believed at all.
pub(crate) const MAX_FUTURE_MS: i64 = 30 * DAY_MS;
/// And this far before the time of receipt stands in.
pub(crate) const CLAMP_FUTURE_MS: i64 = DAY_MS;

/// Numbers that are read in each unit: 1973 to 2286, and milliseconds from 26 April 1970 on, for they are the unit that clients
/// are told to use. What lies between (`20260131`, `20260131093000`) is a date that looks like a number.
const SECONDS: Range<u64> = 100_000_000..10_000_000_000;
const MILLIS: Range<u64> = 10_000_000_000..10_000_000_000_000;
const MICROS: Range<u64> = 100_000_000_000_000..10_000_000_000_000_000;
const NANOS: Range<u64> = 100_000_000_000_000_000..10_000_000_000_000_000_000;

/// Reads an ISO 8601 time with its offset (`2026-01-31T09:30:00.25+01:00`, `Z`; the `T` may be a space) or a number since 1970
/// in digits ([`of_epoch`]; `1602611311`, `1602611311.25`). Returns milliseconds since 1970; digits below a millisecond are cut.
/// Years 1970-9999.
pub fn parse(text: &[u8]) -> Option<i64> {
    if text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+')) {
        return epoch_text(std::str::from_utf8(text).ok()?);
    }
    let century = i32::from(two_digits(text.get(..2)?)?);
    let year = 100 * century + i32::from(two_digits(text.get(2..4)?)?);
    let (month, day) = (two_digits(text.get(5..7)?)?, two_digits(text.get(8..10)?)?);
    let (hour, minute) = (two_digits(text.get(11..13)?)?, two_digits(text.get(14..16)?)?);
    let separators = [*text.get(4)?, *text.get(7)?, *text.get(13)?];
    if separators != *b"--:" || !matches!(text.get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let mut rest = text.get(16..)?;
    let mut second = 0;
    let mut millis = 0;
    if let Some(after) = rest.strip_prefix(b":") {
        second = two_digits(after.get(..2)?)?;
        rest = after.get(2..)?;
        if let [b'.' | b',', after @ ..] = rest {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            millis = (0..3).fold(0, |sum, at| sum * 10 + after.get(at).filter(|_| at < digits).map_or(0, |byte| u16::from(byte - b'0')));
            rest = after.get(digits..)?;
        }
    }
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok().filter(|date| date.year() >= 1970)?;
    let local = UtcDateTime::new(date, Time::from_hms_milli(hour, minute, second, millis).ok()?);
    Some(local.unix_timestamp() * 1_000 + i64::from(millis) - offset_ms(rest)?)
}

/// Reads a number since 1970 of unknown unit: it makes sense in at most one of seconds, milliseconds, microseconds and
/// nanoseconds. Returns milliseconds since 1970; `None` for a number that makes sense in none, such as 0.
pub fn of_epoch(number: u64) -> Option<i64> {
    let ms = if SECONDS.contains(&number) {
        number * 1_000
    } else if MILLIS.contains(&number) {
        number
    } else if MICROS.contains(&number) {
        number / 1_000
    } else if NANOS.contains(&number) {
        number / 1_000_000
    } else {
        return None;
    };
    i64::try_from(ms).ok()
}

/// [`of_epoch`] of a number with a fraction, as many languages count seconds.
pub fn of_epoch_float(number: f64) -> Option<i64> {
    if !(SECONDS.start as f64..NANOS.end as f64).contains(&number) {
        return None;
    }
    if number >= SECONDS.end as f64 {
        return of_epoch(number as u64);
    }
    // A float holds these seconds to two microseconds: cut at a millisecond without rounding first, it might lose one more.
    let hundredths = (number * 1e5).round() as u64;
    i64::try_from(hundredths / 100).ok()
}

fn epoch_text(text: &str) -> Option<i64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if is_digits(whole) && is_digits(fraction) {
        let number = whole.parse().ok()?;
        let millis = fraction.bytes().chain(*b"00").take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        return of_epoch(number).map(|ms| if number < SECONDS.end { ms + millis } else { ms });
    }
    // `1.602611311E9`, as spreadsheets write it.
    let is_number = text.len() <= 40 && text.starts_with(|first: char| first.is_ascii_digit());
    of_epoch_float(is_number.then_some(text)?.parse().ok()?)
}

fn two_digits(text: &[u8]) -> Option<u8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(10 * (tens - b'0') + ones - b'0'),
        _ => None,
    }
}

fn offset_ms(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [_, _] => (two_digits(rest)?, 0),
        [a, b, b':', minutes @ ..] | [a, b, minutes @ ..] => (two_digits(&[*a, *b])?, two_digits(minutes)?),
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some(sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

/// What a client said about when something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// When it happened, by the client's clock.
    pub at_ms: Option<i64>,
    /// When it was sent, by the client's clock.
    pub sent_ms: Option<i64>,
}

/// What a client's time is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the event was received, by the server's clock.
    pub received_ms: i64,
    /// Earlier times are refused.
    pub earliest_ms: i64,
    /// A difference of the clocks up to this is taken for time on the way: correcting it would turn the order of events around.
    pub min_skew_ms: i64,
}

/// When something happened, as far as the server can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The client's time lay over a day in the future: the time of receipt stands in.
    pub is_clamped: bool,
    /// `sentAt` makes no sense beside the time: nothing was corrected by it.
    pub is_sent_ignored: bool,
}

/// Corrects a client's time for its clock: what it says now (`sentAt`) against the time of receipt. Times before the earliest and
/// over 30 days ahead are refused.
pub fn correct(stated: Stated, clock: Clock) -> Result<Corrected, Defect> {
    let received_ms = clock.received_ms;
    let Some(stated_ms) = stated.at_ms else {
        return Ok(Corrected { at_ms: received_ms, is_clamped: false, is_sent_ignored: false });
    };
    let by_sent = stated.sent_ms.map(|sent_ms| by_sent(stated_ms, sent_ms, clock));
    let at_ms = by_sent.flatten().unwrap_or(stated_ms);
    if at_ms > received_ms.saturating_add(MAX_FUTURE_MS) || at_ms < clock.earliest_ms {
        return Err(Defect::TimestampOutOfRange);
    }
    let is_clamped = at_ms > received_ms.saturating_add(CLAMP_FUTURE_MS);
    Ok(Corrected { at_ms: if is_clamped { received_ms } else { at_ms }, is_clamped, is_sent_ignored: by_sent == Some(None) })
}

/// The time by the server's clock of what happened at `stated_ms` and was sent at `sent_ms`. `None` for a `sentAt` that makes no sense:
/// nothing is sent before it happened, nor so long after it that it is too old to be taken.
fn by_sent(stated_ms: i64, sent_ms: i64, clock: Clock) -> Option<i64> {
    let skew_ms = clock.received_ms.saturating_sub(sent_ms);
    if skew_ms.saturating_abs() <= clock.min_skew_ms {
        return Some(stated_ms);
    }
    let at_ms = stated_ms.saturating_add(skew_ms);
    let is_before = stated_ms > sent_ms.saturating_add(clock.min_skew_ms);
    (!is_before && at_ms >= clock.earliest_ms).then_some(at_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    #[test]
    fn the_table_of_formats() {
        let good: [(&str, i64); 16] = [
            ("1970-01-01T00:00:00Z", 0),
            ("2015-05-17T10:05:03.250+02:00", 1_431_849_903_250),
            ("2015-05-17 08:05:03Z", 1_431_849_903_000),
            ("2015-05-17T08:05Z", 1_431_849_900_000),
            ("2015-05-17T08:05:03.1Z", 1_431_849_903_100),
            ("2015-05-17T08:05:03.123456789Z", 1_431_849_903_123),
            ("2015-05-17T22:05:03+1400", 1_431_849_903_000),
            ("2015-05-17T03:05:03-05", 1_431_849_903_000),
            ("1431849903000", 1_431_849_903_000),
            ("1431849903", 1_431_849_903_000),
            ("1431849903.25", 1_431_849_903_250),
            ("1431849903.1239", 1_431_849_903_123),
            ("1.431849903E9", 1_431_849_903_000),
            ("1431849903000000", 1_431_849_903_000),
            ("1431849903000000000", 1_431_849_903_000),
            ("1431849903000.9", 1_431_849_903_000),
        ];
        for (text, expected) in good {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
        let bad = [
            "",
            "now",
            "2015-05-17",
            "2015-05-17T08:05:03",
            "2015-05-17T24:00:00Z",
            "2015-05-17T08:05:60Z",
            "2015-02-29T00:00:00Z",
            "2015-13-01T00:00:00Z",
            "-1",
            "1e3",
            "2015-05-17T08:05:03.Z",
            "2015-05-17T08:05:03+19:00",
            "1969-12-31T23:59:59Z",
            "99999999999999999999999",
            "0",
            "1.",
            ".5",
            "20260131",
            "20260131093000",
            "+1602611311",
            "1602611311+1",
            "1e400",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    const MINUTE: i64 = 60_000;
    const CLOCK: Clock = Clock { received_ms: NOW, earliest_ms: NOW - 1_000 * DAY_MS, min_skew_ms: 5 * MINUTE };

    fn corrected(at_ms: i64, sent_ms: i64) -> Corrected {
        correct(Stated { at_ms: Some(at_ms), sent_ms: Some(sent_ms) }, CLOCK).unwrap()
    }

    #[test]
    fn a_clock_that_is_wrong_by_a_constant_is_corrected() {
        for skew in [-2_000 * DAY_MS, -60 * MINUTE, -5 * MINUTE - 1, 5 * MINUTE + 1, 60 * MINUTE, 2_000 * DAY_MS] {
            let expected = Corrected { at_ms: NOW - 5_000, is_clamped: false, is_sent_ignored: false };
            assert_eq!(corrected(NOW + skew - 5_000, NOW + skew), expected, "{skew}");
        }
    }

    #[test]
    fn time_on_the_way_turns_no_order_around() {
        for skew in [-5 * MINUTE, -1, 0, 1, 5 * MINUTE] {
            assert_eq!(corrected(NOW - 5_000, NOW + skew).at_ms, NOW - 5_000, "{skew}");
        }
    }

    #[test]
    fn a_time_of_sending_that_makes_no_sense_corrects_nothing() {
        for sent_ms in [0, NOW - 60 * MINUTE, NOW + 2_000 * DAY_MS, i64::MIN, i64::MAX] {
            let expected = Corrected { at_ms: NOW - 5_000, is_clamped: false, is_sent_ignored: true };
            assert_eq!(corrected(NOW - 5_000, sent_ms), expected, "{sent_ms}");
        }
    }

    #[test]
    fn the_future_is_kept_clamped_or_refused() {
        let at = |hours: i64| correct(Stated { at_ms: Some(NOW + hours * 3_600_000), sent_ms: None }, CLOCK);
        let kept = |at_ms, is_clamped| Ok(Corrected { at_ms, is_clamped, is_sent_ignored: false });
        assert_eq!(at(23), kept(NOW + 23 * 3_600_000, false));
        assert_eq!(at(25), kept(NOW, true));
        assert_eq!(at(24 * 30), kept(NOW, true));
        assert_eq!(at(24 * 30 + 1), Err(Defect::TimestampOutOfRange));
    }

    #[test]
    fn what_is_older_than_allowed_is_refused() {
        let at = |at_ms: i64| correct(Stated { at_ms: Some(at_ms), sent_ms: None }, CLOCK).map(|corrected| corrected.at_ms);
        assert_eq!(at(CLOCK.earliest_ms), Ok(CLOCK.earliest_ms));
        assert_eq!(at(CLOCK.earliest_ms - 1), Err(Defect::TimestampOutOfRange));
    }

    proptest! {
        /// Seconds since 1973 and milliseconds since May 1970.
        #[test]
        fn a_number_is_read_in_the_one_unit_in_which_it_makes_sense(at_ms in 100_000_000_000_u64..9_999_999_999_000, rest in 0_u64..1_000_000) {
            let (seconds, millis) = (at_ms / 1_000, at_ms as i64);
            prop_assert_eq!(of_epoch(seconds), Some(millis - millis % 1_000));
            prop_assert_eq!(of_epoch(at_ms), Some(millis));
            prop_assert_eq!(of_epoch(at_ms * 1_000 + rest % 1_000), Some(millis));
            prop_assert_eq!(of_epoch(at_ms * 1_000_000 + rest), Some(millis));
            prop_assert_eq!(of_epoch_float(at_ms as f64 / 1_000.0), Some(millis));
            prop_assert_eq!(of_epoch_float(at_ms as f64), Some(millis));
            let fraction = format!("{:03}{rest:06}", millis % 1_000);
            for text in [format!("{seconds}.{fraction}"), format!("{at_ms}.5"), (at_ms * 1_000).to_string(), (at_ms * 1_000_000).to_string()] {
                prop_assert_eq!(parse(text.as_bytes()), Some(millis), "{}", text);
            }
        }

        #[test]
        fn whatever_a_number_is_read_as_lies_between_1970_and_2286(number: u64, float: f64) {
            for ms in [of_epoch(number), of_epoch_float(float), of_epoch_float(number as f64)].into_iter().flatten() {
                prop_assert!((10_000_000_000..10_000_000_000_000).contains(&ms));
            }
        }

        #[test]
        fn times_are_read_as_jiff_reads_them(at_ms in 0_i64..253_402_000_000_000, offset_minutes in -840_i32..=840, digits in 0_usize..=6) {
            let offset = jiff::tz::Offset::from_seconds(offset_minutes * 60).unwrap();
            let zoned = jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(offset.to_time_zone());
            prop_assume!(zoned.year() >= 1970 && zoned.year() <= 9999);
            let sign = if offset_minutes < 0 { '-' } else { '+' };
            let zone = format!("{sign}{:02}:{:02}", offset_minutes.abs() / 60, offset_minutes.abs() % 60);
            let fraction: String = format!("{:03}000", at_ms.rem_euclid(1_000)).chars().take(digits).collect();
            let kept = fraction.chars().take(3).chain("000".chars()).take(3).collect::<String>().parse::<i64>().unwrap();
            let text = format!("{}{}{fraction}{zone}", zoned.strftime("%Y-%m-%dT%H:%M:%S"), if digits > 0 { "." } else { "" });
            prop_assert_eq!(parse(text.as_bytes()), Some(at_ms - at_ms.rem_euclid(1_000) + kept), "{}", text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn absurd_clocks_never_overflow(at: i64, sent: i64, received in 0_i64..4_000_000_000_000) {
            let clock = Clock { received_ms: received, ..CLOCK };
            if let Ok(corrected) = correct(Stated { at_ms: Some(at), sent_ms: Some(sent) }, clock) {
                prop_assert!((clock.earliest_ms..=received + CLAMP_FUTURE_MS).contains(&corrected.at_ms));
            }
        }
    }
}
