//! A rule as it is written, in files and over HTTP. What is not said has a default.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    /// What people call it; its id if it is empty.
    #[serde(default)]
    pub name: String,
    /// The report that is asked: trends, sessions, lifecycle, funnel, retention, ledger or lag; or `board`, with `report_at`.
    pub report: String,
    /// The request, without `from`, `to`, `timezone` and `interval`.
    #[serde(default)]
    pub question: Map<String, Value>,
    /// The series of the answer that is watched, by its name; the first one if it is empty.
    #[serde(default)]
    pub line: String,
    /// Of retention: the period in which persons are back.
    #[serde(default = "one")]
    pub at: u32,
    /// IANA zone of the slots.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Width of a slot: minute, hour, day, week or month.
    #[serde(default = "hour")]
    pub interval: String,
    /// What is made of the numbers.
    #[serde(default)]
    pub reduce: Reduce,
    /// When that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Local time, such as `09:00`, at which the numbers of the slot are told, and how they differ from those of the slot before: a report, which
    /// has no condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_at: Option<String>,
    /// The threshold behind which it is right again; with `outside` how far inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<f64>,
    /// Slots in a row that must be wrong.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_slots: Option<u32>,
    /// Slots in a row, beside the first, that must be right again.
    #[serde(default)]
    pub keep_firing_for: u32,
    /// Slots with fewer events, entries or sessions behind the number are not judged.
    #[serde(default)]
    pub min_count: f64,
    /// Most lines of a breakdown that are watched.
    #[serde(default = "hundred")]
    pub max_groups: usize,
    /// What a slot without a number means.
    #[serde(default)]
    pub no_data: NoData,
    /// `critical`, `warning` or `info`.
    #[serde(default)]
    pub severity: Severity,
    /// Handed on to receivers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The same, for people.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Where it is written what to do.
    #[serde(default)]
    pub runbook: String,
    /// Ids of the channels that are told.
    #[serde(default)]
    pub channels: Vec<String>,
    /// When channels may be told; always without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// How long after its end a slot is judged at the earliest, for clients that send late. What pulse itself takes from an event to the table
    /// needs no delay here: a slot is judged once all that was received until then is in the table, however long that takes.
    #[serde(default = "one_minute", with = "humantime_serde")]
    pub evaluation_delay: Duration,
    /// How long after that it is said that a slot cannot be judged.
    #[serde(default = "ten_minutes", with = "humantime_serde")]
    pub missed_after: Duration,
    /// How long a slot is judged again when events come late.
    #[serde(default = "one_day", with = "humantime_serde")]
    pub revise_for: Duration,
    /// Whether channels are told when a verdict has changed by that.
    #[serde(default)]
    pub notify_revisions: bool,
    /// Slots after which channels are reminded of an alert that nobody has acknowledged; 0 for never.
    #[serde(default)]
    pub remind_every: u32,
    /// Whether it is switched off.
    #[serde(default)]
    pub disabled: bool,
}

/// What is made of the numbers of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The number of the slot.
    #[default]
    Last,
    /// The sum of so many slots.
    Sum(u32),
    /// The mean of so many.
    Average(u32),
    /// The least of so many.
    Least(u32),
    /// The most of so many.
    Most(u32),
    /// By which part it differs from an earlier slot: -0.5 is half.
    Change(Against),
    /// By how many standard deviations it differs from what is expected.
    Anomaly,
}

/// Which earlier slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The one before.
    Previous,
    /// The same time of the day before.
    Day,
    /// The same time of the same weekday.
    Week,
}

/// When a number is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// When it is larger.
    Above(f64),
    /// When it is smaller.
    Below(f64),
    /// When it is outside of both.
    Outside([f64; 2]),
}

/// What a slot without a number means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// Nothing: all stays as it is.
    #[default]
    Keep,
    /// That all is well.
    Ok,
    /// An alert of its own.
    Alert,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody is to be woken.
    Critical,
    /// Somebody is to look.
    #[default]
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// Its word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// When channels may be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// `mon` to `sun`; every day if there are none.
    #[serde(default)]
    pub days: Vec<String>,
    /// Local time, such as `09:00`; a time after `to` means over midnight.
    pub from: String,
    /// Excluded.
    pub to: String,
    /// IANA zone; that of the rule if it is empty.
    #[serde(default)]
    pub timezone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn hour() -> String {
    "hour".to_owned()
}

const fn hundred() -> usize {
    100
}

const fn one() -> u32 {
    1
}

const fn one_minute() -> Duration {
    Duration::from_secs(60)
}

const fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

const fn one_day() -> Duration {
    Duration::from_secs(86_400)
}
