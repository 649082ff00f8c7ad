//! Times as files hold them: with a zone, or without one, which must then come from somewhere.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::malformed::Malformed;
use crate::event::time;

/// As access logs write it (`17/May/2015:10:05:03`), with or without a fraction.
const OF_LOGS: &str = "%d/%b/%Y:%H:%M:%S%.f";
/// What names UTC behind a time.
const ZONE_NAMES: [&str; 3] = ["UTC", "GMT", "Z"];

/// How a file's times are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// The zone of times that name none.
    pub(super) zone: Option<TimeZone>,
    /// How a table writes them (`strftime`), where nothing else is meant.
    pub(super) format: Option<String>,
}

/// The JSON of an event.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) line: Vec<u8>,
    /// Whether it says when it happened.
    pub(super) has_time: bool,
}

/// A time that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// An instant.
    At(Timestamp),
    /// A local time: an instant only together with a zone.
    Zoneless(DateTime),
}

impl Times {
    /// A time of a table or an event. Errors: it cannot be read, or neither it nor the caller names a zone.
    pub(super) fn of_cell(&self, text: &str) -> Result<Timestamp, Malformed> {
        match self.formatted(text)? {
            Some(read) => self.instant(read, text),
            None => {
                let read = of_text(text).ok_or_else(|| Malformed::new("timestamp_invalid", format!("time `{text}` cannot be read")))?;
                self.instant(read, text)
            }
        }
    }

    /// By the format that was given, if one was.
    fn formatted(&self, text: &str) -> Result<Option<Read>, Malformed> {
        let Some(format) = &self.format else { return Ok(None) };
        let failed = |problem: jiff::Error| Malformed::new("timestamp_invalid", format!("time `{text}` is not of `{format}`: {problem}"));
        let parsed = jiff::fmt::strtime::parse(format, text).map_err(failed)?;
        if let Ok(at) = parsed.to_timestamp() {
            return Ok(Some(Read::At(at)));
        }
        let local = parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0))).map_err(failed)?;
        Ok(Some(Read::Zoneless(local)))
    }

    fn instant(&self, read: Read, text: &str) -> Result<Timestamp, Malformed> {
        match (read, &self.zone) {
            (Read::At(at), _) => Ok(at),
            (Read::Zoneless(local), Some(zone)) => at(local, zone, text),
            (Read::Zoneless(_), None) => {
                Err(Malformed::new("time_without_zone", format!("time `{text}` names no zone; --timezone says which")))
            }
        }
    }

    /// A time of an access log, and whether it named no zone and was taken for one of UTC.
    pub(super) fn of_log(&self, read: Read, text: &str) -> Result<(Timestamp, bool), Malformed> {
        match (read, &self.zone) {
            (Read::At(at), _) => Ok((at, false)),
            (Read::Zoneless(local), Some(zone)) => Ok((at(local, zone, text)?, false)),
            // What servers in most data centres keep; the end of the import says so.
            (Read::Zoneless(local), None) => Ok((at(local, &TimeZone::UTC, text)?, true)),
        }
    }
}

fn at(local: DateTime, zone: &TimeZone, text: &str) -> Result<Timestamp, Malformed> {
    let instant = zone.to_ambiguous_zoned_datetime(local).compatible();
    instant.map(|zoned| zoned.timestamp()).map_err(|problem| Malformed::new("timestamp_invalid", format!("time `{text}`: {problem}")))
}

/// The zone called `name`: of the IANA database (`Europe/Berlin`), or an offset (`+02:00`).
pub(super) fn zone_named(name: &str) -> Result<TimeZone, String> {
    if let Ok(zone) = TimeZone::get(name) {
        return Ok(zone);
    }
    let offset = format!("1970-01-02T00:00:00{name}");
    match time::parse(offset.as_bytes()) {
        Some(at_ms) => {
            let seconds = (86_400_000 - at_ms) / 1_000;
            let offset = i32::try_from(seconds).ok().and_then(|seconds| jiff::tz::Offset::from_seconds(seconds).ok());
            offset.map(jiff::tz::Offset::to_time_zone).ok_or_else(|| format!("`{name}` is no offset of a time zone"))
        }
        None => Err(format!("`{name}` is no time zone; such as Europe/Berlin, UTC or +02:00")),
    }
}

/// A time in a bracket of an access log: the server's own form, ISO 8601, or seconds since 1970.
pub(super) fn in_bracket(text: &str) -> Option<Read> {
    if let Some((local, zone)) = text.rsplit_once(' ')
        && let Ok(local) = DateTime::strptime(OF_LOGS, local)
    {
        return Some(Read::At(zoned(local, zone)?));
    }
    if let Ok(local) = DateTime::strptime(OF_LOGS, text) {
        return Some(Read::Zoneless(local));
    }
    of_text(text)
}

/// ISO 8601 and its relatives as databases write them, or a number since 1970.
pub(super) fn of_text(text: &str) -> Option<Read> {
    let text = text.trim();
    if let Some(at_ms) = time::parse(text.as_bytes()) {
        return Timestamp::from_millisecond(at_ms).ok().map(Read::At);
    }
    // Signs and digits of a date before anything else: the parser below knows durations and more.
    if !text.as_bytes().get(..10).is_some_and(|date| date.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'/'))) {
        return None;
    }
    let text = text.replace('/', "-");
    if let Some((local, zone)) = text.rsplit_once(' ')
        && let Some(local) = civil(local)
        && let Some(at) = zoned(local, zone)
    {
        return Some(Read::At(at));
    }
    civil(&text).map(Read::Zoneless)
}

/// `2024-03-30 09:30:00.5`, `2024-03-30T09:30`, `2024-03-30`.
fn civil(text: &str) -> Option<DateTime> {
    if text.len() == 10 {
        return text.parse::<Date>().ok().map(|date| date.at(0, 0, 0, 0));
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b' ' | b'T' | b't'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// `local` at an offset, or in UTC by name.
fn zoned(local: DateTime, zone: &str) -> Option<Timestamp> {
    let seconds = match zone {
        name if ZONE_NAMES.contains(&name) => 0,
        offset => {
            let offset = format!("1970-01-02T00:00:00{offset}");
            (86_400_000 - time::parse(offset.as_bytes())?) / 1_000
        }
    };
    let offset = jiff::tz::Offset::from_seconds(i32::try_from(seconds).ok()?).ok()?;
    offset.to_timestamp(local).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(zone: Option<&str>, format: Option<&str>) -> Times {
        Times { zone: zone.map(|name| zone_named(name).unwrap()), format: format.map(str::to_owned) }
    }

    #[test]
    fn a_time_with_a_zone_is_read_whatever_the_zone_of_the_file() {
        for text in [
            "2024-03-30T09:30:00Z",
            "2024-03-30 09:30:00 UTC",
            "2024-03-30 09:30:00 +0000",
            "2024-03-30 10:30:00 +01:00",
            "2024-03-30T09:30:00+00:00",
            "2024/03/30 09:30:00 GMT",
            "1711791000",
            "1711791000000",
        ] {
            for zone in [None, Some("Asia/Kolkata")] {
                assert_eq!(times(zone, None).of_cell(text).unwrap().to_string(), "2024-03-30T09:30:00Z", "{text}");
            }
        }
    }

    #[test]
    fn a_time_without_a_zone_needs_one() {
        for (text, at) in [
            ("2024-03-30 09:30:00", "2024-03-30T08:30:00Z"),
            ("2024-03-30 09:30:00.123000", "2024-03-30T08:30:00.123Z"),
            ("2024-03-30T09:30:00", "2024-03-30T08:30:00Z"),
            ("2024-03-30 09:30", "2024-03-30T08:30:00Z"),
            ("2024-03-30", "2024-03-29T23:00:00Z"),
            // Once a year a time comes twice, and once not at all.
            ("2024-10-27 02:30:00", "2024-10-27T00:30:00Z"),
            ("2024-03-31 02:30:00", "2024-03-31T01:30:00Z"),
        ] {
            assert_eq!(times(None, None).of_cell(text).unwrap_err().reason, "time_without_zone", "{text}");
            assert_eq!(times(Some("Europe/Berlin"), None).of_cell(text).unwrap().to_string(), at, "{text}");
        }
        assert_eq!(times(Some("+05:30"), None).of_cell("2024-03-30 09:30").unwrap().to_string(), "2024-03-30T04:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused_and_a_format_can_be_named() {
        for text in [
            "",
            "soon",
            "30/03/2024 09:30",
            "03/30/2024",
            "2024-13-01 00:00:00",
            "2024-02-30",
            "2024-03-30 25:00:00",
            "P1D",
            "2024-03-30 09:30:00 Mars",
        ] {
            assert_eq!(times(Some("UTC"), None).of_cell(text).unwrap_err().reason, "timestamp_invalid", "{text}");
        }
        let of = |format, text| times(Some("UTC"), Some(format)).of_cell(text).unwrap().to_string();
        assert_eq!(of("%d/%m/%Y %H:%M", "30/03/2024 09:30"), "2024-03-30T09:30:00Z");
        assert_eq!(of("%m/%d/%Y", "03/30/2024"), "2024-03-30T00:00:00Z");
        assert_eq!(of("%d.%m.%Y %H:%M:%S %z", "30.03.2024 09:30:00 +0200"), "2024-03-30T07:30:00Z");
        assert!(times(Some("UTC"), Some("%d/%m/%Y")).of_cell("03-30").is_err());
        assert!(times(None, Some("%d/%m/%Y")).of_cell("30/03/2024").is_err());
    }

    #[test]
    fn brackets_of_access_logs_hold_several_forms() {
        let of = |text| in_bracket(text).map(|read| times(None, None).of_log(read, text).unwrap());
        let at = |text: &str| Some((text.parse::<Timestamp>().unwrap(), false));
        assert_eq!(of("10/Oct/2024:13:55:36 +0200"), at("2024-10-10T11:55:36Z"));
        assert_eq!(of("10/Oct/2024:13:55:36.123456 +0000"), at("2024-10-10T13:55:36.123456Z"));
        assert_eq!(of("2024-10-10T13:55:36+00:00"), at("2024-10-10T13:55:36Z"));
        assert_eq!(of("1728568536.123"), at("2024-10-10T13:55:36.123Z"));
        assert_eq!(
            of("10/Oct/2024:13:55:36").map(|(at, is_assumed)| (at.to_string(), is_assumed)),
            Some(("2024-10-10T13:55:36Z".to_owned(), true))
        );
        for none in ["", "x", "32/Oct/2024:13:55:36 +0000", "10/Oct/2024:13:55:36 UTCX", "811", "exampleSDID@32473 iut=\"3\""] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn zones_have_names_or_offsets() {
        assert!(zone_named("Europe/Berlin").is_ok() && zone_named("UTC").is_ok() && zone_named("-03:00").is_ok());
        for name in ["Mars/Olympus", "", "+", "tomorrow"] {
            assert!(zone_named(name).is_err(), "{name}");
        }
    }
}
