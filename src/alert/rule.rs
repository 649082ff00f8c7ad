//! A rule: a question, what is made of its numbers, and when that is an alert.
//!
//! [`RuleBody`] is how it is written, in files and over HTTP; [`Rule`] is its checked form. Promise: an error names the field and the value.

mod body;
mod hours;

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

pub use self::body::RuleBody;
pub(crate) use self::body::{Against, Condition, NoData, Reduce, Severity};
use self::hours::Hours;
use crate::query::Interval;

/// The least `missed_after`: data is never there the moment that a slot is over.
pub(crate) const LEAST_MISSED: Duration = Duration::from_secs(1);
/// Most of each list of a rule, and the longest text in one.
const MOST_LABELS: usize = 32;
const MOST_TEXT: usize = 2_000;
/// Whose a rule is whose file does not say it.
pub(crate) const DEFAULT_PROJECT: &str = "default";
/// Most lines of a breakdown that are watched.
pub(crate) const MOST_GROUPS: usize = 1_000;
/// Most slots of one look back; so many buckets a question may have at least.
const MOST_SLOTS: u32 = 1_440;
/// The last period of a cohort that may be watched.
const MOST_PERIODS: u32 = 100;
/// Days that an anomaly is judged by: six weeks, for each hour of the last day too.
const BASELINE_DAYS: i64 = 6 * 7 + 1;

/// A rule as it is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedRule {
    pub(crate) project: String,
    pub(crate) rule: RuleBody,
    /// When; 0 where that is not known.
    #[serde(default)]
    pub(crate) saved_ms: i64,
}

/// A checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was written, with its defaults.
    pub body: RuleBody,
    pub(crate) interval: Interval,
    pub(crate) zone: TimeZone,
    pub(crate) condition: Condition,
    /// When its numbers are told, if it is a report.
    pub(crate) report_at: Option<Time>,
    /// Slots in a row that must be wrong.
    pub(crate) for_slots: u32,
    hours: Option<Hours>,
    /// How long after the end of a slot its number may still change without an event being late, milliseconds.
    open_ms: i64,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RuleError {
    /// The field.
    pub field: &'static str,
    /// What is wrong there.
    pub problem: String,
}

/// What a number is to a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Wrong.
    Wrong,
    /// No longer wrong, but not right yet.
    Between,
    /// Right.
    Right,
}

/// The reports that can be watched.
pub(crate) const REPORTS: [&str; 8] = ["trends", "sessions", "lifecycle", "funnel", "retention", "ledger", "lag", BOARD];
/// All tiles of a board, whose numbers are told at a time of day.
pub(crate) const BOARD: &str = "board";
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Keys of a question that a rule says itself, and those whose numbers depend on from when on it is asked.
const OWN_KEYS: [&str; 9] = ["as_of", "from", "to", "timezone", "interval", "compare", "view", "cumulative", "moving_average"];

impl RuleBody {
    /// Reads a rule as it is written.
    ///
    /// # Errors
    /// The field and what is wrong there.
    pub(crate) fn read(written: serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        serde_path_to_error::deserialize(serde_json::Value::Object(written)).map_err(|problem| match problem.path().to_string() {
            path if path == "." => problem.into_inner().to_string(),
            path => format!("{path}: {}", problem.into_inner()),
        })
    }

    /// Checks what can be checked without asking.
    ///
    /// # Errors
    /// The field and the value that makes no sense.
    pub fn check(self) -> Result<Rule, RuleError> {
        let wrong = |field, problem: String| Err(RuleError { field, problem });
        let Some(interval) = Interval::of_name(&self.interval) else {
            return wrong("interval", format!("`{}` is not minute, hour, day, week or month", short(&self.interval)));
        };
        let zone = zone_of("timezone", &self.timezone)?;
        if !REPORTS.contains(&self.report.as_str()) {
            return wrong("report", format!("`{}` is none of {}", short(&self.report), REPORTS.join(", ")));
        }
        if let Some(key) = OWN_KEYS.iter().find(|key| self.question.contains_key(**key)) {
            return wrong("question", format!("`{key}` follows from the rule: its slots, `reduce` and `condition`"));
        }
        if self.report == "lag" && interval != Interval::Minute {
            return wrong("interval", "the lag is watched by the minute".to_owned());
        }
        // What those who are back did is no part of how many there were.
        if self.report == "retention" && self.question.get("value").is_some_and(|value| !value.is_null() && value != "users") {
            return wrong("question", "`value`: who is back is watched, not what they did".to_owned());
        }
        if self.report == "sessions" && self.question.get("list").is_some_and(|list| list == true) {
            return wrong("question", "`list`: sessions one by one are no number to watch".to_owned());
        }
        self.check_sizes()?;
        let report_at = self.checked_report(interval)?;
        if self.report == BOARD && report_at.is_none() {
            return wrong("report_at", "a board has no number to watch: it is told at a time of day, such as `09:00`".to_owned());
        }
        let condition = self.checked_condition()?;
        self.check_reduce(interval)?;
        let open_ms = if report_at.is_some() { 0 } else { self.open_ms(interval)? };
        let hours = self.active.as_ref().map(|active| active.check(&zone)).transpose()?;
        let for_slots = self.for_slots.unwrap_or(if self.reduce == Reduce::Anomaly { 2 } else { 1 });
        if !(1..=MOST_SLOTS).contains(&for_slots) {
            return wrong("for", format!("{for_slots} is not from 1 to {MOST_SLOTS} slots"));
        }
        Ok(Rule { interval, zone, condition, report_at, for_slots, hours, open_ms, body: self })
    }

    /// Somebody who enters a funnel at the end of a slot has its window to convert, and a rolling period of a cohort ends later for each.
    fn open_ms(&self, interval: Interval) -> Result<i64, RuleError> {
        let wrong = |problem: String| Err(RuleError { field: "question", problem });
        let text = |key: &str| self.question.get(key).and_then(serde_json::Value::as_str);
        match self.report.as_str() {
            "funnel" => crate::query::funnel_window_of(text("window")).or_else(|problem| wrong(problem.message)),
            "retention" if text("mode") == Some("on_or_after") => wrong("mode: `on_or_after` is never over: watch `on`".to_owned()),
            "retention" if self.question.get("rolling").is_some_and(|rolling| rolling == true) => Ok(match interval {
                Interval::Minute => 60_000,
                Interval::Hour => 3_600_000,
                Interval::Day => 25 * 3_600_000,
                Interval::Week => (7 * 24 + 1) * 3_600_000,
                Interval::Month => (31 * 24 + 1) * 3_600_000,
            }),
            _ => Ok(0),
        }
    }

    fn checked_condition(&self) -> Result<Condition, RuleError> {
        let wrong = |field, problem: String| Err(RuleError { field, problem });
        let condition = match (self.condition, self.reduce) {
            (Some(condition), _) => condition,
            (None, _) if self.report_at.is_some() => Condition::Outside([f64::MIN, f64::MAX]),
            (None, Reduce::Anomaly) => Condition::Outside([-3.0, 3.0]),
            (None, _) => return wrong("condition", "it is missing: {\"above\": n}, {\"below\": n} or {\"outside\": [n, m]}".to_owned()),
        };
        let numbers = match condition {
            Condition::Above(limit) | Condition::Below(limit) => [limit, limit],
            Condition::Outside(limits) => limits,
        };
        if numbers.iter().any(|number| !number.is_finite()) || numbers[0] > numbers[1] {
            return wrong("condition", format!("{numbers:?} are no limits"));
        }
        let Some(resolve) = self.resolve else { return Ok(condition) };
        let fits = match condition {
            Condition::Above(limit) => resolve <= limit,
            Condition::Below(limit) => resolve >= limit,
            Condition::Outside([low, high]) => (0.0..=(high - low) / 2.0).contains(&resolve),
        };
        if resolve.is_finite() && fits {
            Ok(condition)
        } else {
            wrong("resolve", format!("{resolve} is on the wrong side of the condition"))
        }
    }

    fn checked_report(&self, interval: Interval) -> Result<Option<Time>, RuleError> {
        let Some(text) = &self.report_at else { return Ok(None) };
        let wrong = |problem: String| Err(RuleError { field: "report_at", problem });
        let Some(at) = time_of_day(text) else { return wrong(format!("`{}` is no time of day", short(text))) };
        if self.condition.is_some() || self.reduce != Reduce::Last {
            return wrong("a report has neither `condition` nor `reduce`".to_owned());
        }
        if matches!(interval, Interval::Minute | Interval::Hour) || matches!(self.report.as_str(), "lag" | "ledger") {
            return wrong("a report is about days, weeks or months of a report that has them".to_owned());
        }
        Ok(Some(at))
    }

    fn check_reduce(&self, interval: Interval) -> Result<(), RuleError> {
        let wrong = |problem: &str| Err(RuleError { field: "reduce", problem: problem.to_owned() });
        match self.reduce {
            Reduce::Last => Ok(()),
            _ if self.report == "lag" => wrong("of `lag` only the last number is known: it must be `last`"),
            Reduce::Sum(slots) | Reduce::Average(slots) | Reduce::Least(slots) | Reduce::Most(slots) => {
                let is_some = (1..=MOST_SLOTS).contains(&slots);
                if is_some { Ok(()) } else { wrong(&format!("{slots} is not from 1 to {MOST_SLOTS} slots")) }
            }
            Reduce::Anomaly if interval != Interval::Hour => wrong("an anomaly is judged by the hour: `interval` must be `hour`"),
            Reduce::Change(Against::Day) if !matches!(interval, Interval::Minute | Interval::Hour) => {
                wrong("`change` against `day` is of minutes or hours; `previous` is the day before of days")
            }
            Reduce::Change(Against::Week) if matches!(interval, Interval::Week | Interval::Month) => {
                wrong("`change` against `week` is of minutes, hours or days")
            }
            Reduce::Change(_) | Reduce::Anomaly => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<(), RuleError> {
        let wrong = |field, problem: String| Err(RuleError { field, problem });
        let is_text = |text: &str| text.len() <= MOST_TEXT && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
        let texts = [("name", &self.name), ("runbook", &self.runbook)];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| !is_text(text)) {
            return wrong(field, format!("at most {MOST_TEXT} bytes without control characters"));
        }
        for (field, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            // As Prometheus has them: Alertmanager refuses others.
            let is_word = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let is_key =
                |key: &str| (1..=100).contains(&key.len()) && is_word(key) && !key.starts_with(|first: char| first.is_ascii_digit());
            if map.len() > MOST_LABELS || map.iter().any(|(key, value)| !is_key(key) || !is_text(value)) {
                return wrong(field, format!("at most {MOST_LABELS}, named in letters, digits and _, of at most {MOST_TEXT} bytes"));
            }
        }
        if self.channels.len() > MOST_LABELS || !self.channels.iter().all(|id| is_id(id)) {
            return wrong("channels", format!("at most {MOST_LABELS} ids of channels"));
        }
        if !(1..=MOST_GROUPS).contains(&self.max_groups) {
            return wrong("max_groups", format!("{} is not from 1 to {MOST_GROUPS}", self.max_groups));
        }
        if !self.min_count.is_finite() || self.min_count < 0.0 {
            return wrong("min_count", format!("{} is no number of events", self.min_count));
        }
        if self.min_count > 0.0 && self.report == "lag" {
            return wrong("min_count", "there is nothing to count behind `lag`".to_owned());
        }
        if self.line.len() > MOST_TEXT {
            return wrong("line", format!("`{}…` has {} bytes: at most {MOST_TEXT}", short(&self.line), self.line.len()));
        }
        if !(1..=MOST_PERIODS).contains(&self.at) {
            return wrong("at", format!("{} is no period from 1 to {MOST_PERIODS}", self.at));
        }
        let spans = [("keep_firing_for", self.keep_firing_for, MOST_SLOTS), ("remind_every", self.remind_every, 100 * MOST_SLOTS)];
        if let Some((field, slots, most)) = spans.into_iter().find(|(_, slots, most)| slots > most) {
            return wrong(field, format!("{slots} slots are more than {most}"));
        }
        if self.missed_after < LEAST_MISSED {
            return wrong("missed_after", format!("{:?} is shorter than {LEAST_MISSED:?}", self.missed_after));
        }
        let day = Duration::from_secs(86_400);
        let spans = [("evaluation_delay", self.evaluation_delay, day), ("missed_after", self.missed_after, 7 * day)];
        let spans = spans.into_iter().chain([("revise_for", self.revise_for, 7 * day)]);
        for (field, span, longest) in spans {
            if span > longest {
                return wrong(field, format!("{span:?} is longer than {longest:?}"));
            }
        }
        Ok(())
    }
}

impl Rule {
    /// The start of the newest slot that ends at `at_ms` or before.
    pub(crate) fn closed_slot(&self, at_ms: i64) -> Option<i64> {
        let open = self.interval.start_ms(at_ms, &self.zone)?;
        self.interval.start_ms(open - 1, &self.zone)
    }

    /// The start of the slot after the one that starts at `slot`: its end.
    pub(crate) fn next_slot(&self, slot: i64) -> Option<i64> {
        self.interval.next_ms(slot, &self.zone)
    }

    /// When a slot may be judged at the earliest: all events received before then must be known.
    pub(crate) fn ripe_ms(&self, slot: i64) -> Option<i64> {
        let end = self.next_slot(slot)?;
        let delayed = end + self.delay_ms();
        let Some(at) = self.report_at else { return Some(delayed) };
        let day = Timestamp::from_millisecond(end).ok()?.to_zoned_datetime(self.zone.clone()).date();
        let told = day.to_datetime(at).to_zoned_datetime(self.zone.clone()).ok()?;
        Some(delayed.max(told.timestamp().as_millisecond()))
    }

    /// The start of the newest slot that could be judged at `at_ms`.
    pub(crate) fn ripe_slot(&self, at_ms: i64) -> Option<i64> {
        let closed = self.closed_slot(at_ms - self.delay_ms())?;
        if self.ripe_ms(closed)? <= at_ms { Some(closed) } else { self.interval.start_ms(closed - 1, &self.zone) }
    }

    /// How long after the end of a slot its number is over, milliseconds.
    pub(crate) fn open_ms(&self) -> i64 {
        self.open_ms
    }

    /// How many numbers a verdict is made of.
    pub(crate) fn look_back_slots(&self) -> usize {
        match self.body.reduce {
            Reduce::Sum(slots) | Reduce::Average(slots) | Reduce::Least(slots) | Reduce::Most(slots) => slots as usize,
            Reduce::Last => 1,
            Reduce::Change(_) => 2,
            Reduce::Anomaly => 24 * BASELINE_DAYS as usize,
        }
    }

    /// How long after its end a slot is judged: it waits for those who send late, and for what is not over yet.
    pub(crate) fn delay_ms(&self) -> i64 {
        self.open_ms + millis(self.body.evaluation_delay)
    }

    /// The slots whose numbers are put together for the verdict on `slot`, the newest first.
    pub(crate) fn window(&self, slot: i64) -> Vec<i64> {
        let slots = match self.body.reduce {
            Reduce::Sum(slots) | Reduce::Average(slots) | Reduce::Least(slots) | Reduce::Most(slots) => slots,
            Reduce::Last | Reduce::Change(_) | Reduce::Anomaly => 1,
        };
        std::iter::successors(Some(slot), |slot| self.interval.start_ms(slot - 1, &self.zone)).take(slots as usize).collect()
    }

    /// The first slot whose number the verdict on `slot` needs.
    pub(crate) fn look_back(&self, slot: i64) -> Option<i64> {
        let back = |slots: u32| (1..slots).try_fold(slot, |slot, _| self.interval.start_ms(slot - 1, &self.zone));
        match self.body.reduce {
            Reduce::Last if self.report_at.is_some() => self.compared(slot, Against::Previous),
            Reduce::Last => Some(slot),
            Reduce::Sum(slots) | Reduce::Average(slots) | Reduce::Least(slots) | Reduce::Most(slots) => back(slots),
            Reduce::Change(against) => self.compared(slot, against),
            Reduce::Anomaly => self.days_before(slot, BASELINE_DAYS),
        }
    }

    /// How many slots lie from the first that the verdict on `slot` needs to it, both of them counted.
    pub(crate) fn slots_back(&self, slot: i64) -> usize {
        let back_ms = slot - self.look_back(slot).unwrap_or(slot);
        usize::try_from(back_ms / self.length_ms(slot)).unwrap_or_default() + 1
    }

    /// How long a slot is.
    pub(crate) fn length_ms(&self, slot: i64) -> i64 {
        self.next_slot(slot).map_or(60_000, |next| next - slot).max(60_000)
    }

    /// The slot that `slot` is compared with.
    pub(crate) fn compared(&self, slot: i64, against: Against) -> Option<i64> {
        match against {
            Against::Previous => self.interval.start_ms(slot - 1, &self.zone),
            Against::Day => self.days_before(slot, 1),
            Against::Week => self.days_before(slot, 7),
        }
    }

    /// The slot of the same local time so many days before.
    fn days_before(&self, slot: i64, days: i64) -> Option<i64> {
        let at = Timestamp::from_millisecond(slot).ok()?.to_zoned_datetime(self.zone.clone());
        let before = at.checked_sub(days.days()).ok()?.timestamp().as_millisecond();
        self.interval.start_ms(before, &self.zone)
    }

    /// Whether channels may be told at a time.
    pub(crate) fn is_active(&self, at_ms: i64) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.hold(at_ms))
    }

    /// What a number is.
    pub(crate) fn side(&self, value: f64) -> Side {
        let resolve = self.body.resolve;
        let (is_wrong, is_right) = match self.condition {
            Condition::Above(limit) => (value > limit, value <= resolve.unwrap_or(limit)),
            Condition::Below(limit) => (value < limit, value >= resolve.unwrap_or(limit)),
            Condition::Outside([low, high]) => {
                let inside = resolve.unwrap_or(0.0);
                (value < low || value > high, (low + inside..=high - inside).contains(&value))
            }
        };
        match (is_wrong, is_right) {
            (true, _) => Side::Wrong,
            (false, true) => Side::Right,
            (false, false) => Side::Between,
        }
    }

    /// What every number between two is, if that is one thing: of what must not be outside, the right ones lie between two kinds of wrong.
    pub(crate) fn side_between(&self, one: f64, other: f64) -> Option<Side> {
        let side = self.side(one);
        let is_beyond_middle = match self.condition {
            Condition::Outside([low, high]) if side != Side::Right => {
                let middle = f64::midpoint(low, high);
                (one < middle) != (other < middle)
            }
            _ => false,
        };
        (side == self.side(other) && !is_beyond_middle).then_some(side)
    }

    /// Changes with what is asked: states of another question mean nothing.
    pub(crate) fn fingerprint(&self) -> u64 {
        let RuleBody { report, question, line, at, timezone, interval, reduce, .. } = &self.body;
        let asked = serde_json::json!([report, question, line, at, timezone, interval, reduce]);
        xxhash_rust::xxh3::xxh3_64(asked.to_string().as_bytes()) | 1
    }

    /// What people call it.
    pub(crate) fn name<'a>(&'a self, id: &'a str) -> &'a str {
        if self.body.name.is_empty() { id } else { &self.body.name }
    }
}

/// Whether a text can name a rule or a channel: it stands in paths, where `.` and `..` mean something else.
pub(crate) fn is_id(id: &str) -> bool {
    !matches!(id, "." | "..")
        && (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A time such as `09:00`: with a date it would be one of that day alone.
fn time_of_day(text: &str) -> Option<Time> {
    let is_time = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    text.parse().ok().filter(|_| is_time)
}

pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn zone_of(field: &'static str, name: &str) -> Result<TimeZone, RuleError> {
    TimeZone::get(name).map_err(|_| RuleError { field, problem: format!("`{}` is no IANA time zone", short(name)) })
}

#[cfg(test)]
mod tests;
