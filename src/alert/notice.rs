//! A notice: what channels are told about a rule at a moment, in one for all its lines.
//!
//! Promise: its id follows from what it is about, so that it is the same over all attempts, restarts and owners.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::judge::{Incident, Judged, RuleState, Told};
use super::machine::{self, Telling};
use super::observe::{Observed, Series, Source};
use super::rule::{Against, Condition, DEFAULT_PROJECT, Rule, RuleBody, Severity};

/// Most lines that a notice names.
const MOST_NAMED: usize = 100;
/// Most lines of a tile of a board that are told.
const MOST_OF_TILE: usize = 10;
/// Most lines in a text, but of a report, which has all.
const MOST_IN_TEXT: usize = 20;
/// What names that rules cannot be judged, beside what they are about.
pub(crate) const CANNOT_JUDGE: &str = "cannot_judge";
/// Ids of notices are made within this.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c1d_3f0e_52a4_4b6a_9d8e_1c36_0b5a_77e1);

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Firing,
    Resolved,
    NoData,
    Flapping,
    Reminder,
    /// It fired and was over before it could be judged.
    Summary,
    /// Rules cannot be judged because what they need is not there yet.
    Delayed,
    /// They are judged again.
    Judging,
    /// A rule cannot be judged because asking fails.
    Failed,
    /// Late events have changed a verdict.
    Revision,
    /// Somebody tries a channel.
    Test,
    /// The numbers of a report.
    Report,
    /// Pulse is alive.
    Heartbeat,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::NoData => "no_data",
            Self::Flapping => "flapping",
            Self::Reminder => "reminder",
            Self::Summary => "summary",
            Self::Delayed => "delayed",
            Self::Judging => "judging",
            Self::Failed => "failed",
            Self::Revision => "revision",
            Self::Test => "test",
            Self::Report => "report",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// A line in a notice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedLine {
    /// The value of the breakdown; empty without one.
    pub(crate) name: String,
    pub(crate) is_firing: bool,
    pub(crate) since: i64,
    pub(crate) value: Option<f64>,
    pub(crate) reason: String,
}

/// A notice. Kept as JSON until it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) project: u64,
    /// What it is called.
    #[serde(default)]
    pub(crate) project_name: String,
    pub(crate) rule: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The slot that it is about, its start and end.
    pub(crate) slot: i64,
    pub(crate) until: i64,
    /// The slot in which the alert began.
    pub(crate) episode: i64,
    /// What the rule asks, as [`Rule::fingerprint`] says: one that is changed within a slot tells another thing of it.
    #[serde(default)]
    pub(crate) asked: u64,
    /// Since when the rule has the state by which this is told, or the channel is one of the rule's: what comes later in the same slot under
    /// the same name is another notice. 0 where that is not known.
    #[serde(default)]
    pub(crate) began: i64,
    pub(crate) at: i64,
    pub(crate) timezone: String,
    pub(crate) severity: Severity,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    pub(crate) runbook: String,
    /// What the rule says, in words.
    pub(crate) condition: String,
    pub(crate) lines: Vec<NamedLine>,
    /// Lines that are not named.
    pub(crate) unnamed: usize,
    /// How many lines fire now.
    pub(crate) firing: usize,
    /// What the lines are parts of; none where it is about no lines, and in what earlier releases wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) incidents: Vec<Incident>,
    pub(crate) is_late: bool,
    /// Whether it says that the rule itself ended, or what it asked, or that it tells others: the slot may have been told of before.
    #[serde(default)]
    pub(crate) is_of_end: bool,
    /// What there is to say beside the lines.
    pub(crate) text: String,
    /// Where to look.
    pub(crate) url: String,
}

/// Which rule, and where it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) project: u64,
    pub(crate) project_name: &'a str,
    pub(crate) id: &'a str,
    pub(crate) rule: &'a Rule,
    /// The address of pulse; empty if it is not known.
    pub(crate) base: &'a str,
}

impl About<'_> {
    /// A notice about a slot, without lines.
    pub(crate) fn notice(self, kind: Kind, slot: i64, now_ms: i64) -> Notice {
        let RuleBody { timezone, severity, labels, annotations, runbook, .. } = self.rule.body.clone();
        Notice {
            project: self.project,
            project_name: self.project_name.to_owned(),
            rule: self.id.to_owned(),
            name: self.rule.name(self.id).to_owned(),
            kind,
            slot,
            until: self.rule.next_slot(slot).unwrap_or(slot),
            episode: slot,
            asked: self.rule.fingerprint(),
            began: 0,
            at: now_ms,
            url: self.url(slot),
            timezone,
            severity,
            labels,
            annotations,
            runbook,
            condition: in_words(self.rule),
            lines: Vec::new(),
            unnamed: 0,
            firing: 0,
            incidents: Vec::new(),
            is_late: false,
            is_of_end: false,
            text: String::new(),
        }
    }

    /// What is to be told of slots that were judged now, or before and kept back; nothing most of the time.
    pub(crate) fn of_judged(self, state: &RuleState, judged: &Judged, now_ms: i64) -> Option<Notice> {
        let slot = state.cursor?;
        if judged.told.is_empty() && !judged.is_over_already {
            return None;
        }
        let kind = if judged.told.is_empty() { Kind::Summary } else { kind_of(&judged.told) };
        let mut notice = self.notice(kind, slot, now_ms);
        notice.episode = judged.episode;
        notice.is_late = judged.entries.iter().any(|entry| entry.is_late);
        // As channels know it: what flaps goes on until they are told that it is steady.
        notice.firing = state.lines.values().filter(|line| line.told != machine::Told::Ok).count();
        notice.incidents = state.incidents(judged.told.iter().map(|told| told.incident));
        let is_firing = |told: &Told| told.telling != Telling::Resolved;
        let named = judged.told.iter().map(|told| NamedLine {
            name: told.line.clone(),
            is_firing: is_firing(told),
            since: told.since,
            value: told.value,
            reason: told.reason.clone(),
        });
        notice.lines = named.collect();
        // What fires is named first.
        notice.lines.sort_by_key(|line| !line.is_firing);
        notice = notice.cut();
        if notice.is_late {
            let slots = judged.seen.len();
            let changes = judged.entries.iter().filter(|entry| entry.change == machine::Change::Fired).count();
            notice.text = format!("judged late: {slots} slots at once, in which it fired {changes} times");
        }
        Some(notice)
    }

    /// The numbers of a slot, and how they differ from those of the slot before.
    pub(crate) fn report(self, observed: &Observed, slot: i64, now_ms: i64) -> Notice {
        let mut notice = self.notice(Kind::Report, slot, now_ms);
        let before = self.rule.compared(slot, Against::Previous);
        let line = |name: String, value, reason| NamedLine { name, is_firing: false, since: slot, value, reason };
        let named = |name: &String, series: &Series| {
            let value = series.values.get(&slot).copied();
            let was = before.and_then(|before| series.values.get(&before).copied());
            line(name.clone(), value, difference(value, was))
        };
        notice.lines = observed.lines.iter().map(|(name, series)| named(name, series)).collect();
        notice = notice.cut();
        // Each tile is in it, with its largest lines.
        let share = (MOST_NAMED / observed.tiles.len().max(1)).clamp(1, MOST_OF_TILE);
        for tile in &observed.tiles {
            let mut lines: Vec<NamedLine> = tile.lines.iter().map(|(name, series)| named(name, series)).collect();
            lines.sort_by(|left, right| right.value.unwrap_or(f64::MIN).total_cmp(&left.value.unwrap_or(f64::MIN)));
            let is_one = lines.len() == 1;
            notice.unnamed += lines.len().saturating_sub(share);
            lines.truncate(share);
            let of_tile = |name: &str| if is_one || name.is_empty() { tile.title.clone() } else { format!("{}: {name}", tile.title) };
            lines.iter_mut().for_each(|line| line.name = of_tile(&line.name));
            if lines.is_empty() {
                let why = if tile.problem.is_empty() { "as before".to_owned() } else { format!("cannot be told: {}", tile.problem) };
                lines.push(line(tile.title.clone(), None, why));
            }
            notice.lines.extend(lines);
        }
        notice.condition = String::new();
        notice
    }

    fn url(self, slot: i64) -> String {
        if self.base.is_empty() {
            return String::new();
        }
        let base = self.base.trim_end_matches('/');
        if self.rule.source() == Source::Board {
            return format!("{base}/boards/{}", self.rule.board());
        }
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("slot", &super::observe::instant(slot))
            .append_pair("timezone", &self.rule.body.timezone)
            .finish();
        format!("{base}/alerts/{}?{query}", self.id)
    }
}

/// What a notice of several lines is: an alert if one of them is.
fn kind_of(told: &[Told]) -> Kind {
    let is = |telling: Telling| told.iter().any(|told| told.telling == telling);
    if is(Telling::Fired) {
        Kind::Firing
    } else if is(Telling::NoData) {
        Kind::NoData
    } else if is(Telling::Flapping) {
        Kind::Flapping
    } else if is(Telling::Reminder) {
        Kind::Reminder
    } else {
        Kind::Resolved
    }
}

impl Notice {
    /// A notice about no rule.
    pub(crate) fn about_pulse(kind: Kind, now_ms: i64) -> Self {
        Self {
            project: 0,
            project_name: String::new(),
            rule: "pulse".to_owned(),
            name: "pulse".to_owned(),
            kind,
            slot: now_ms,
            until: now_ms,
            episode: now_ms,
            asked: 0,
            began: 0,
            at: now_ms,
            timezone: "UTC".to_owned(),
            severity: Severity::Info,
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            runbook: String::new(),
            condition: String::new(),
            lines: Vec::new(),
            unnamed: 0,
            firing: 0,
            incidents: Vec::new(),
            is_late: false,
            is_of_end: false,
            text: if kind == Kind::Test { "This is a test: nothing is wrong.".to_owned() } else { "Alerts are judged.".to_owned() },
            url: String::new(),
        }
    }

    /// Its id on a channel.
    pub(crate) fn id(&self, channel: &str) -> Uuid {
        let Self { project, rule, asked, began, episode, slot, kind, .. } = self;
        // Late events may change a slot more than once, and a rule may end in one in which some of its lines did.
        let time = if *kind == Kind::Revision || self.is_of_end { self.at } else { 0 };
        let kind = kind.as_str();
        let began = if *began == 0 { String::new() } else { format!("{began}/") };
        Uuid::new_v5(&NAMESPACE, format!("{project:x}/{rule}/{asked:x}/{began}{episode}/{slot}/{time}/{kind}/{channel}").as_bytes())
    }

    /// The same as what says that all of it is over, because the rule ended.
    pub(crate) fn of_end(mut self, why: &str) -> Self {
        if !self.kind.is_of_rule() {
            self.kind = Kind::Resolved;
        }
        (self.firing, self.is_of_end) = (0, true);
        why.clone_into(&mut self.text);
        self.lines.iter_mut().for_each(|line| line.is_firing = false);
        self.incidents.iter_mut().for_each(|incident| incident.firing = 0);
        self
    }

    /// The same with as many lines named as receivers take.
    pub(crate) fn cut(mut self) -> Self {
        self.unnamed += self.lines.len().saturating_sub(MOST_NAMED);
        self.lines.truncate(MOST_NAMED);
        self
    }

    /// What names the alert from its beginning to its end.
    pub(crate) fn episode_key(&self) -> Uuid {
        let about = if self.kind.is_of_rule() { CANNOT_JUDGE } else { "" };
        Uuid::new_v5(&NAMESPACE, format!("{:x}/{}/{}/{about}", self.project, self.rule, self.episode).as_bytes())
    }

    /// What names one of its incidents, from its beginning to its end. That with which the alert began has the name of the alert.
    pub(crate) fn incident_key(&self, incident: &Incident) -> Uuid {
        let Self { project, rule, episode, .. } = self;
        match incident.since {
            0 => self.episode_key(),
            since => Uuid::new_v5(&NAMESPACE, format!("{project:x}/{rule}/{episode}/incident/{since}").as_bytes()),
        }
    }

    /// Whether receivers shall take it for an alert that goes on.
    pub(crate) fn is_firing(&self) -> bool {
        match self.kind {
            Kind::Delayed | Kind::Failed => true,
            Kind::Judging | Kind::Summary | Kind::Report | Kind::Revision | Kind::Test | Kind::Heartbeat => false,
            _ => self.firing > 0,
        }
    }

    /// One line that says it.
    pub(crate) fn title(&self) -> String {
        let name = match self.project_name.as_str() {
            "" | DEFAULT_PROJECT => self.name.clone(),
            project => format!("{} ({project})", self.name),
        };
        match self.kind {
            Kind::Firing if self.firing > 1 => format!("[firing: {}] {name}", self.firing),
            Kind::Delayed => format!("[cannot judge] {name}"),
            // Nothing of it is judged: nobody is told of it any more.
            Kind::Judging if self.is_of_end => format!("[told no more] {name}"),
            Kind::Judging => format!("[judging again] {name}"),
            Kind::NoData => format!("[no data] {name}"),
            kind => format!("[{}] {name}", kind.as_str()),
        }
    }

    /// All of it, as text.
    pub(crate) fn body(&self) -> String {
        self.body_of(&self.lines, self.unnamed)
    }

    /// The same, of these lines and so many more.
    pub(crate) fn body_of(&self, named: &[NamedLine], unnamed: usize) -> String {
        let mut lines = vec![self.condition.clone()];
        let most = if self.kind == Kind::Report { MOST_NAMED } else { MOST_IN_TEXT };
        lines.extend(named.iter().take(most).map(|line| self.line_text(line)));
        let more = unnamed + named.len().saturating_sub(most);
        lines.extend((more > 0).then(|| format!("and {more} more")));
        lines.extend(Some(self.text.clone()).filter(|text| !text.is_empty()));
        lines.push(format!("{} to {}", self.local(self.slot), self.local(self.until)));
        lines.extend(["summary", "description"].iter().filter_map(|key| self.annotations.get(*key).cloned()));
        lines.extend(Some(format!("runbook: {}", self.runbook)).filter(|_| !self.runbook.is_empty()));
        lines.extend(Some(self.url.clone()).filter(|url| !url.is_empty()));
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    /// What a line says.
    pub(crate) fn line_text(&self, line: &NamedLine) -> String {
        if self.kind == Kind::Report {
            let value = line.value.map_or_else(|| "nothing".to_owned(), shown);
            return format!("{}: {value} ({})", line.name, line.reason);
        }
        let state = if line.is_firing { "firing" } else { "resolved" };
        let value = line.value.map(|value| format!(": {}", shown(value))).unwrap_or_default();
        let reason = if line.reason.is_empty() { String::new() } else { format!(" ({})", line.reason) };
        let name = if line.name.is_empty() { String::new() } else { format!("{} ", line.name) };
        format!("{name}{state}{value}{reason} since {}", self.local(line.since))
    }

    /// A time in the zone of the rule.
    pub(crate) fn local(&self, at_ms: i64) -> String {
        let zone = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_millisecond(at_ms).unwrap_or_default().to_zoned_datetime(zone);
        at.strftime("%Y-%m-%d %H:%M %:z").to_string()
    }
}

impl Kind {
    /// Whether it is about whether rules can be judged.
    pub(crate) const fn is_of_rule(self) -> bool {
        matches!(self, Self::Delayed | Self::Judging | Self::Failed)
    }
}

/// How a number differs from an earlier one, in words: from nothing there is no percentage.
fn difference(now: Option<f64>, before: Option<f64>) -> String {
    match (now, before) {
        (Some(now), Some(before)) if before != 0.0 => format!("{:+.1} %, before {}", (now - before) / before.abs() * 100.0, shown(before)),
        (Some(now), _) if now != 0.0 => "new".to_owned(),
        (None, Some(before)) => format!("before {}", shown(before)),
        _ => "as before".to_owned(),
    }
}

/// A number for people.
pub(crate) fn shown(value: f64) -> String {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    if value != 0.0 && rounded == 0.0 { format!("{value:e}") } else { format!("{rounded}") }
}

fn in_words(rule: &Rule) -> String {
    let what = &rule.body.report;
    let reduce = serde_json::to_value(rule.body.reduce).unwrap_or_default();
    let reduce = reduce.as_str().map_or_else(|| reduce.to_string(), str::to_owned);
    let condition = match rule.condition {
        Condition::Above(limit) => format!("above {}", shown(limit)),
        Condition::Below(limit) => format!("below {}", shown(limit)),
        Condition::Outside([low, high]) => format!("outside {} to {}", shown(low), shown(high)),
    };
    format!("{what} by {}, {reduce}: {condition} for {}", rule.body.interval, rule.for_slots)
}

#[cfg(test)]
mod tests;
