//! From numbers to verdicts, states and what is to be told: everything about a rule that needs no I/O and no clock.
//!
//! Promises: slots are judged once each, in order; the same function judges live and in a back-test. Slots that are judged in one go, after an
//! outage, tell channels once, of how it stands at the end. Late events change verdicts of the past ([`revise`]), never states.
//! Bounds: [`MOST_LINES`] lines of a rule beside those that are answered, whatever values come and go.

mod tell;
mod unusual;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use self::tell::{Incident, tell_kept_back};
use self::tell::{Tellings, tell};
use self::unusual::unusual;
use super::machine::{Change, Line, Quiet, Telling, Vanished, Verdict};
use super::observe::{Observed, Series};
use super::rule::{Reduce, Rule, SavedRule, Side};

/// Most slots that are judged in one go: what is older was missed for good.
pub(crate) const MOST_AT_ONCE: usize = 1_500;
/// Most hours that are kept out of the baseline: six weeks and a day.
const MOST_ALARMED: usize = 1_032;
/// Rows of lines are deleted when they are old: those that hold are written anew before that, after so much time.
const WRITTEN_ANEW_MS: i64 = 7 * 86_400_000;
/// Most lines that are remembered beside those that are answered.
const MOST_LINES: usize = 2_000;

/// All that is known of a rule. Rebuilt from its last rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleState {
    /// When it began: a rule that was switched off, or asked something else, begins anew. 0 in what earlier releases wrote.
    #[serde(default)]
    pub(crate) since: i64,
    /// The start of the last slot that was judged.
    pub(crate) cursor: Option<i64>,
    /// When that was ripe, by the delay of the rule then: the clock said so much at least. 0 in what earlier releases wrote.
    #[serde(default)]
    pub(crate) ripe_ms: i64,
    /// The last slot that was judged before the clock was found to be behind that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) judged_to: Option<i64>,
    /// What was asked, as [`Rule::fingerprint`] says; 0 before anything was.
    #[serde(default)]
    pub(crate) asked: u64,
    /// The slot in which the first of its lines became an alert; 0 while there is none.
    #[serde(default)]
    pub(crate) episode: i64,
    /// The one that channels know of and have not been told the end of; 0 if there is none. It may be over: they could not be told.
    #[serde(default)]
    pub(crate) told_episode: i64,
    /// The rule as they were told of it, by which they can be told of the end when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told_as: Option<SavedRule>,
    /// Whether channels could not be told of something when it was last judged.
    #[serde(default)]
    pub(crate) is_kept_back: bool,
    /// Slots that were wrong: no baseline for what comes.
    #[serde(default)]
    pub(crate) alarmed: BTreeSet<i64>,
    #[serde(default)]
    pub(crate) health: Health,
    /// Verdicts that late events have changed while channels could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) untold_revisions: Option<Untold>,
    /// Its lines; each has a row of its own.
    #[serde(skip)]
    pub(crate) lines: BTreeMap<String, Line>,
}

/// Whether it can be judged at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Health {
    /// Failures in a row.
    pub(crate) failures: u32,
    /// The slot of which channels know that it cannot be judged because asking fails; 0 if they know of none.
    pub(crate) told_failed_at: i64,
    /// Since when data is missing; 0 if it is not.
    pub(crate) delayed_since: i64,
}

/// Changed verdicts: the first slot, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Untold {
    pub(crate) slot: i64,
    pub(crate) number: usize,
}

/// What a line was in a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub(crate) value: Option<f64>,
    pub(crate) verdict: Verdict,
    /// Why, where a number alone does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// What an anomaly is judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<Expectation>,
}

impl Sighting {
    /// Of a line that is over because its value is in no answer.
    fn of_vanished(why: Vanished) -> Self {
        Self { value: None, verdict: Verdict::Unjudged, reason: why.reason().to_owned(), expected: None }
    }
}

/// What there was of something in the last hours, and what was to be expected of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Expectation {
    pub(crate) hours: usize,
    pub(crate) value: f64,
    pub(crate) expected: f64,
    /// One standard deviation.
    pub(crate) deviation: f64,
}

/// What was seen, by slot and line.
pub(crate) type Seen = BTreeMap<i64, BTreeMap<String, Sighting>>;

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) slot: i64,
    pub(crate) line: String,
    pub(crate) change: Change,
    pub(crate) value: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// Whether it was judged much later than it could have been.
    #[serde(default)]
    pub(crate) is_late: bool,
}

/// A verdict that late events have changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) slot: i64,
    pub(crate) line: String,
    pub(crate) was: Sighting,
    pub(crate) is: Sighting,
}

/// What channels are to be told of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) line: String,
    pub(crate) telling: Telling,
    /// The slot in which the alert began.
    pub(crate) since: i64,
    /// As [`Line::incident`] says.
    pub(crate) incident: i64,
    pub(crate) value: Option<f64>,
    pub(crate) reason: String,
}

/// What came of judging slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// What was seen, by slot and line.
    pub(crate) seen: Seen,
    pub(crate) entries: Vec<Entry>,
    /// Lines whose state changed, and those that are forgotten.
    pub(crate) changed: BTreeSet<String>,
    pub(crate) told: Vec<Told>,
    /// The episode that this is about: the one that channels know of, else the one that is going on or has just ended.
    pub(crate) episode: i64,
    /// Changes that channels were not told, because all was over when it could be judged.
    pub(crate) is_over_already: bool,
}

/// When and how slots are judged.
pub(crate) struct Occasion<'a> {
    /// The slots, in order.
    pub(crate) slots: &'a [i64],
    pub(crate) is_late: bool,
    /// Whether channels may be told of a line.
    pub(crate) quiet: &'a dyn Fn(&str, &Line) -> Quiet,
}

/// Judges slots in order.
pub(crate) fn judge(rule: &Rule, state: &mut RuleState, observed: &Observed, occasion: &Occasion<'_>) -> Judged {
    let mut judged = Judged { episode: state.episode, ..Judged::default() };
    let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    let entry = |slot: i64, line: &str, change: Change, sighting: &Sighting| {
        let (value, reason) = (sighting.value, sighting.reason.clone());
        Entry { slot, line: line.to_owned(), change, value, reason, is_late: occasion.is_late }
    };
    for slot in occasion.slots {
        let answered = answered(rule, observed, *slot);
        let names: BTreeSet<String> = answered.iter().copied().chain(state.lines.keys()).cloned().collect();
        // The same for all lines.
        let window = rule.window(*slot);
        for name in names {
            let is_new = !state.lines.contains_key(&name);
            let line = state.lines.entry(name.clone()).or_default();
            let was_idle = line.is_idle();
            // A rule without a breakdown has one line, which is there whatever is answered.
            let vanished = line.note_answer(rule, name.is_empty() || answered.contains(&name), *slot);
            let sighting = match line.vanished {
                Some(why) => Sighting::of_vanished(why),
                None => see(rule, &state.alarmed, observed.lines.get(&name), At { slot: *slot, window: &window, observed }),
            };
            line.value = sighting.value;
            for change in vanished.into_iter().chain(line.judge(rule, sighting.verdict, *slot)) {
                judged.entries.push(entry(*slot, &name, change, &sighting));
                changes.entry(name.clone()).or_default().push(change);
            }
            if is_new || !was_idle || !line.is_idle() {
                judged.changed.insert(name.clone());
            }
            if rule.body.reduce == Reduce::Anomaly && sighting.verdict == Verdict::Wrong {
                state.alarmed.insert(*slot);
            }
            judged.seen.entry(*slot).or_default().insert(name, sighting);
        }
        for name in state.surplus(&answered) {
            let Some(line) = state.lines.get_mut(&name) else { continue };
            let sighting = Sighting::of_vanished(Vanished::AmongMany);
            judged.entries.extend(line.vanish(Vanished::AmongMany, *slot).map(|change| entry(*slot, &name, change, &sighting)));
            judged.changed.insert(name.clone());
            judged.seen.entry(*slot).or_default().insert(name, sighting);
        }
        state.follow(*slot, &mut judged);
    }
    tell(rule, state, &mut judged, &Tellings { occasion, changes: &changes });
    judged.changed.extend(state.forget(observed));
    state.note_written(&mut judged);
    judged
}

/// The lines that an answer about a slot alone would have: `observed` may be about many.
fn answered<'o>(rule: &Rule, observed: &'o Observed, slot: i64) -> BTreeSet<&'o String> {
    let since = rule.look_back(slot).unwrap_or(slot);
    let has_value = |series: &Series| series.values.range(since..=slot).any(|(_, value)| Some(*value) != observed.absent);
    let lines = observed.lines.iter().filter(|(name, series)| name.is_empty() || has_value(series));
    lines.map(|(name, _)| name).collect()
}

/// A slot, and what was answered beside its line.
#[derive(Clone, Copy)]
struct At<'a> {
    slot: i64,
    /// As [`Rule::window`] says.
    window: &'a [i64],
    observed: &'a Observed,
}

/// What a line is in a slot.
fn see(rule: &Rule, alarmed: &BTreeSet<i64>, series: Option<&Series>, at: At<'_>) -> Sighting {
    let At { slot, window, observed } = at;
    if let (None, Some(least)) = (series, observed.least) {
        return beyond(rule, observed.absent, least);
    }
    let nothing = Series::default();
    let series = series.unwrap_or(&nothing);
    let behind = Behind { rule, series, slot, window };
    let number = |slot: i64| series.values.get(&slot).copied().or(observed.absent).filter(|_| behind.is_counted(slot));
    let sighting = |value: Option<f64>, verdict, reason: String| Sighting { value, verdict, reason, expected: None };
    let count = behind.count();
    if rule.body.min_count > 0.0 && count < rule.body.min_count {
        return sighting(number(slot), Verdict::Unjudged, format!("{count} is fewer than {}", rule.body.min_count));
    }
    let (value, reason) = match rule.body.reduce {
        Reduce::Last => (number(slot), String::new()),
        Reduce::Sum(_) => (folded(window, number).map(|values| values.iter().sum()), String::new()),
        Reduce::Average(_) => {
            let values = folded(window, number);
            (values.map(|values| values.iter().sum::<f64>() / values.len() as f64), String::new())
        }
        Reduce::Least(_) => (folded(window, number).and_then(|values| values.into_iter().reduce(f64::min)), String::new()),
        Reduce::Most(_) => (folded(window, number).and_then(|values| values.into_iter().reduce(f64::max)), String::new()),
        Reduce::Change(against) => {
            let before = rule.compared(slot, against).and_then(number);
            match (number(slot), before) {
                // From nothing to something is no part of anything.
                (Some(_), Some(0.0)) => return sighting(None, Verdict::Unjudged, "nothing was there before".to_owned()),
                (Some(now), Some(before)) => (Some((now - before) / before.abs()), format!("{now}, before {before}")),
                _ => (None, String::new()),
            }
        }
        Reduce::Anomaly => return unusual(alarmed, behind, at, number),
    };
    match value.filter(|value| value.is_finite()) {
        None => sighting(None, Verdict::NoData, String::new()),
        Some(value) => sighting(Some(value), verdict(rule, value), reason),
    }
}

/// How much is behind the number of a slot.
#[derive(Clone, Copy)]
struct Behind<'a> {
    rule: &'a Rule,
    series: &'a Series,
    slot: i64,
    window: &'a [i64],
}

impl Behind<'_> {
    fn of(self, slot: i64) -> f64 {
        self.series.counts.get(&slot).copied().unwrap_or_default()
    }

    /// What is put together counts together; what is one of several is that of the largest, and a change has two numbers that both need enough.
    fn count(self) -> f64 {
        match self.rule.body.reduce {
            Reduce::Last | Reduce::Anomaly => self.of(self.slot),
            Reduce::Sum(_) | Reduce::Average(_) => self.window.iter().map(|slot| self.of(*slot)).sum(),
            Reduce::Least(_) | Reduce::Most(_) => self.window.iter().map(|slot| self.of(*slot)).fold(0.0, f64::max),
            Reduce::Change(against) => self.of(self.slot).min(self.rule.compared(self.slot, against).map_or(0.0, |before| self.of(before))),
        }
    }

    /// Whether the number of a slot is one of those that are looked at: the least of several is none of a handful.
    fn is_counted(self, slot: i64) -> bool {
        !matches!(self.rule.body.reduce, Reduce::Least(_) | Reduce::Most(_)) || self.of(slot) >= self.rule.body.min_count
    }
}

/// What a line is that is not among the largest: what it would be whether it had nothing or as much as the smallest of those, if that is one
/// thing.
fn beyond(rule: &Rule, absent: Option<f64>, least: f64) -> Sighting {
    let is_count = absent.is_some() && !matches!(rule.body.reduce, Reduce::Change(_) | Reduce::Anomaly);
    let same = rule.side_between(0.0, least).filter(|_| is_count).map(verdict_of);
    Sighting { value: None, verdict: same.unwrap_or(Verdict::Unjudged), reason: "not among the largest".to_owned(), expected: None }
}

fn verdict(rule: &Rule, value: f64) -> Verdict {
    verdict_of(rule.side(value))
}

const fn verdict_of(side: Side) -> Verdict {
    match side {
        Side::Wrong => Verdict::Wrong,
        Side::Between => Verdict::Between,
        Side::Right => Verdict::Right,
    }
}

/// The numbers of the slots that have one; none if not even one has.
fn folded(slots: &[i64], number: impl Fn(i64) -> Option<f64>) -> Option<Vec<f64>> {
    let values: Vec<f64> = slots.iter().filter_map(|slot| number(*slot)).collect();
    (!values.is_empty()).then_some(values)
}

impl RuleState {
    /// That of a rule of which nothing is known yet.
    pub(crate) fn begun(now_ms: i64) -> Self {
        Self { since: now_ms, ..Self::default() }
    }

    /// Follows when alerts of the rule begin and end.
    fn follow(&mut self, slot: i64, judged: &mut Judged) {
        self.cursor = Some(slot);
        let is_alert = self.lines.values().any(Line::is_alert);
        match (is_alert, self.episode) {
            (true, 0) => self.episode = slot,
            (false, _) => self.episode = 0,
            (true, _) => {}
        }
        if self.episode != 0 {
            judged.episode = self.episode;
        }
    }

    /// Takes note of which lines are to be written, and has those written too that were not for long.
    fn note_written(&mut self, judged: &mut Judged) {
        let Some(slot) = self.cursor else { return };
        for (name, line) in &mut self.lines {
            if slot - line.written >= WRITTEN_ANEW_MS {
                judged.changed.insert(name.clone());
            }
            if judged.changed.contains(name) {
                line.written = slot;
            }
        }
    }

    /// The lines that are to end, since too many have something to be remembered of: of those that are not answered the ones that were judged
    /// the fewest times, so that values that come once do not end what has been watched for long.
    fn surplus(&self, answered: &BTreeSet<&String>) -> Vec<String> {
        let is_answered = |name: &String| name.is_empty() || answered.contains(name);
        let absent = || self.lines.iter().filter(|(name, line)| !is_answered(name) && !line.is_idle() && line.vanished.is_none());
        let surplus = absent().count().saturating_sub(MOST_LINES);
        if surplus == 0 {
            return Vec::new();
        }
        let mut absent: Vec<(u64, &String)> = absent().map(|(name, line)| (line.judged, name)).collect();
        absent.sort_unstable();
        absent.into_iter().take(surplus).map(|(_, name)| name.clone()).collect()
    }

    /// Drops what is too much, and what has vanished and nobody is to be told of; which lines that were: their rows are to go too. Those that are
    /// still answered stay, and they are fewer.
    pub(crate) fn forget(&mut self, observed: &Observed) -> Vec<String> {
        while self.alarmed.len() > MOST_ALARMED {
            self.alarmed.pop_first();
        }
        let is_over = |line: &Line| line.vanished.is_some() && line.is_idle();
        let mut dropped: Vec<String> = self.lines.iter().filter(|(_, line)| is_over(line)).map(|(name, _)| name.clone()).collect();
        let excess = (self.lines.len() - dropped.len()).saturating_sub(MOST_LINES);
        let is_old = |name: &String, line: &Line| line.is_idle() && !is_over(line) && !observed.lines.contains_key(name);
        dropped.extend(self.lines.iter().filter(|(name, line)| is_old(name, line)).map(|(name, _)| name.clone()).take(excess));
        dropped.iter().for_each(|name| drop(self.lines.remove(name)));
        dropped
    }
}

/// Judges slots again that were judged before; what is another verdict now. `recent` is what was seen then, and is what is seen now. Lines
/// beyond an answer that has the largest only stay as they were: those of many slots are others than those of one.
pub(crate) fn revise(rule: &Rule, state: &RuleState, recent: &mut Seen, observed: &Observed) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for (slot, lines) in recent {
        let window = rule.window(*slot);
        let names: BTreeSet<String> = lines.keys().chain(observed.lines.keys()).cloned().collect();
        let is_answered = |name: &String| observed.least.is_none() || observed.lines.contains_key(name);
        for name in names.into_iter().filter(is_answered) {
            let is = see(rule, &state.alarmed, observed.lines.get(&name), At { slot: *slot, window: &window, observed });
            let nothing = Sighting { value: observed.absent, verdict: Verdict::Unjudged, reason: String::new(), expected: None };
            let was = lines.insert(name.clone(), is.clone());
            // It had too few events. Of a line that was not seen, or is not in every answer, nobody knows how it stood.
            let is_news = was.is_some() && observed.least.is_none() && is.verdict == Verdict::Wrong;
            let was = was.unwrap_or(nothing);
            if was.verdict != is.verdict && (was.verdict != Verdict::Unjudged || is_news) {
                revisions.push(Revision { slot: *slot, line: name, was, is });
            }
        }
    }
    revisions
}

#[cfg(test)]
mod tests;
