//! The states of one line of a rule, as a pure machine.
//!
//! `ok → pending → firing → recovering → ok`, and `no_data` beside them. A verdict on each slot, in order, moves it. Beside the state stands
//! what channels have been told: they are told whenever that differs, unless they must not be told now. So nothing is told twice, and
//! what was kept back is told later if it still holds, that it flaps too. A line whose value is in no answer for [`ABSENT_MS`] is over, whatever it was.

use serde::{Deserialize, Serialize};

use super::rule::{NoData, Rule};

/// Changes within [`FLAP_SPAN`] times `for` slots that make a line flap.
const FLAP_CHANGES: usize = 5;
const FLAP_SPAN: u64 = 10;
/// How long a value may be in no answer before its line is over, and for how many slots at least.
const ABSENT_MS: i64 = 7 * 86_400_000;
const ABSENT_SLOTS: i64 = 4;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The condition holds.
    Wrong,
    /// It does not, but the number is not behind the threshold of `resolve` yet.
    Between,
    /// All is well.
    Right,
    /// There is no number.
    NoData,
    /// There are too few events behind the number, or too little history.
    Unjudged,
}

/// The state of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// All is well.
    #[default]
    Ok,
    /// Wrong, but not for long enough.
    Pending,
    /// Wrong.
    Firing,
    /// Right again, but not for long enough.
    Recovering,
    /// Without numbers for long enough.
    NoData,
}

/// What people are told of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// That all is well.
    #[default]
    Ok,
    /// That it fires.
    Firing,
    /// That it has no numbers.
    NoData,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) phase: Phase,
    /// The slot in which the phase began.
    pub(crate) since: i64,
    /// The slot in which the alert began; 0 while there is none.
    #[serde(default)]
    pub(crate) episode: i64,
    /// Slots in a row that the phase has lasted, as `for` and `keep_firing_for` count.
    pub(crate) streak: u32,
    pub(crate) told: Told,
    /// The slot in which the alert began that was told last.
    #[serde(default)]
    pub(crate) told_since: i64,
    /// With which of the alerts of its rule that began: the slot with which it was first told, 0 for that with which the episode began.
    #[serde(default)]
    pub(crate) incident: i64,
    /// When that was told, counted in slots.
    #[serde(default)]
    pub(crate) told_at: u64,
    /// How many slots were judged, and at which of them the alert began or ended last.
    pub(crate) judged: u64,
    #[serde(default)]
    pub(crate) changes: Vec<u64>,
    #[serde(default)]
    pub(crate) is_flapping: bool,
    /// Whether that is what channels were told last.
    #[serde(default)]
    pub(crate) is_told_flapping: bool,
    /// The last number.
    #[serde(default)]
    pub(crate) value: Option<f64>,
    /// The slot with which its row was written last.
    #[serde(default)]
    pub(crate) written: i64,
    /// The first slot in which its value is in no answer; 0 if it is in one. Begins anew each slot while the line is idle.
    #[serde(default)]
    pub(crate) absent_since: i64,
    /// Why it is over, where that is because its value is in no answer. Such a line is kept only until channels are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vanished: Option<Vanished>,
}

/// Why a line is over whose value is in no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Vanished {
    /// It is in none for four slots, and a week.
    ForLong,
    /// Too many others are remembered.
    AmongMany,
}

impl Vanished {
    /// What is said of it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::ForLong => "in no answer for four slots, and a week: not watched until it is back",
            Self::AmongMany => "in no answer, and too many values are remembered: not watched until it is back",
        }
    }
}

/// What happened to a line in a slot; goes into the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Pending,
    /// It was wrong for too short.
    Calmed,
    Fired,
    Recovering,
    /// It was right for too short.
    Relapsed,
    Resolved,
    NoData,
    FlappingBegan,
    FlappingEnded,
    /// Its value is in no answer any more.
    Vanished,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Telling {
    Fired,
    NoData,
    Resolved,
    Flapping,
    Reminder,
}

/// Whether channels may be told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet {
    /// Silenced, or outside of the hours.
    pub(crate) is_muted: bool,
    /// Somebody knows: no reminders.
    pub(crate) is_acked: bool,
}

impl Line {
    /// Takes the verdict on the next slot; what changed by it.
    pub(crate) fn judge(&mut self, rule: &Rule, verdict: Verdict, slot: i64) -> Vec<Change> {
        let (was_alert, was) = (self.is_alert(), self.phase);
        self.judged += 1;
        let mut changes: Vec<Change> = self.moved(rule, verdict, slot).into_iter().collect();
        if (was, self.phase) == (Phase::NoData, Phase::Pending) {
            // That there are no numbers is over; what there is now must be wrong for as long as any other.
            changes.insert(0, Change::Resolved);
        }
        if was_alert != self.is_alert() {
            self.episode = if was_alert { 0 } else { slot };
            self.changes.push(self.judged);
        }
        let span = FLAP_SPAN * u64::from(rule.for_slots);
        let judged = self.judged;
        self.changes.retain(|at| at + span > judged);
        if !self.is_flapping && self.changes.len() >= FLAP_CHANGES {
            self.is_flapping = true;
            changes.push(Change::FlappingBegan);
        } else if self.is_flapping && self.changes.is_empty() {
            self.is_flapping = false;
            changes.push(Change::FlappingEnded);
        }
        changes
    }

    /// Whether it is an alert.
    pub(crate) const fn is_alert(&self) -> bool {
        matches!(self.phase, Phase::Firing | Phase::Recovering | Phase::NoData)
    }

    /// Whether channels were told that it flaps, and nothing since: to them it goes on, also while it is right.
    pub(crate) const fn is_told_to_flap(&self) -> bool {
        self.is_flapping && self.is_told_flapping
    }

    /// The slot in which what people know of it began: of what they were told to flap not each time that it is wrong.
    pub(crate) const fn began(&self) -> i64 {
        if self.is_told_to_flap() { self.told_since } else { self.episode }
    }

    /// Whether there is nothing to remember of it but that it exists.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Ok && self.told == Told::Ok && !self.is_flapping && self.changes.is_empty()
    }

    /// Takes note of whether its value is in the answer about a slot, before that is judged. What changes by it.
    pub(crate) fn note_answer(&mut self, rule: &Rule, is_answered: bool, slot: i64) -> Option<Change> {
        if is_answered {
            (self.absent_since, self.vanished) = (0, None);
            return None;
        }
        if self.vanished.is_some() {
            return None;
        }
        // What there is nothing to remember of is not written each time, so what is known of it may be old.
        if self.absent_since == 0 || self.is_idle() {
            self.absent_since = slot;
        }
        let length_ms = rule.next_slot(slot).map_or(0, |next| next - slot);
        let is_long = slot - self.absent_since >= ABSENT_MS.max(ABSENT_SLOTS * length_ms);
        if is_long { self.vanish(Vanished::ForLong, slot) } else { None }
    }

    /// Ends it, whatever it was. What changes by it: nothing where only its past was remembered.
    pub(crate) fn vanish(&mut self, why: Vanished, slot: i64) -> Option<Change> {
        let was_on = self.phase != Phase::Ok || self.told != Told::Ok || self.is_flapping;
        (self.phase, self.since, self.streak, self.episode) = (Phase::Ok, slot, 1, 0);
        (self.absent_since, self.is_flapping, self.vanished) = (0, false, Some(why));
        self.changes.clear();
        was_on.then_some(Change::Vanished)
    }

    fn moved(&mut self, rule: &Rule, verdict: Verdict, slot: i64) -> Option<Change> {
        let verdict = match (verdict, rule.body.no_data) {
            (Verdict::NoData, NoData::Keep) | (Verdict::Unjudged, _) => return None,
            (Verdict::NoData, NoData::Ok) => Verdict::Right,
            (verdict, _) => verdict,
        };
        match verdict {
            Verdict::NoData => self.without_data(rule, slot),
            Verdict::Wrong => self.wrong(rule, slot),
            Verdict::Between => self.between(slot),
            Verdict::Right | Verdict::Unjudged => self.right(rule, slot),
        }
    }

    fn wrong(&mut self, rule: &Rule, slot: i64) -> Option<Change> {
        let is_long_enough = self.phase == Phase::Pending && self.streak + 1 >= rule.for_slots;
        match self.phase {
            Phase::Firing => None,
            Phase::Recovering => self.enter(Phase::Firing, slot, Change::Relapsed),
            Phase::Ok | Phase::NoData if rule.for_slots > 1 => self.enter(Phase::Pending, slot, Change::Pending),
            Phase::Pending if !is_long_enough => {
                self.streak += 1;
                None
            }
            Phase::Ok | Phase::Pending | Phase::NoData => self.enter(Phase::Firing, slot, Change::Fired),
        }
    }

    fn without_data(&mut self, rule: &Rule, slot: i64) -> Option<Change> {
        match self.phase {
            Phase::NoData | Phase::Firing | Phase::Recovering => None,
            Phase::Ok if rule.for_slots > 1 => self.enter(Phase::Pending, slot, Change::Pending),
            Phase::Ok => self.enter(Phase::NoData, slot, Change::NoData),
            Phase::Pending => {
                self.streak += 1;
                if self.streak < rule.for_slots { None } else { self.enter(Phase::NoData, slot, Change::NoData) }
            }
        }
    }

    fn between(&mut self, slot: i64) -> Option<Change> {
        match self.phase {
            Phase::Ok | Phase::Firing => None,
            Phase::Pending => self.enter(Phase::Ok, slot, Change::Calmed),
            Phase::Recovering => self.enter(Phase::Firing, slot, Change::Relapsed),
            Phase::NoData => self.enter(Phase::Ok, slot, Change::Resolved),
        }
    }

    fn right(&mut self, rule: &Rule, slot: i64) -> Option<Change> {
        match self.phase {
            Phase::Ok => None,
            Phase::Pending => self.enter(Phase::Ok, slot, Change::Calmed),
            Phase::NoData => self.enter(Phase::Ok, slot, Change::Resolved),
            Phase::Firing if rule.body.keep_firing_for > 0 => self.enter(Phase::Recovering, slot, Change::Recovering),
            Phase::Firing => self.enter(Phase::Ok, slot, Change::Resolved),
            Phase::Recovering => {
                self.streak += 1;
                if self.streak <= rule.body.keep_firing_for { None } else { self.enter(Phase::Ok, slot, Change::Resolved) }
            }
        }
    }

    fn enter(&mut self, phase: Phase, slot: i64, change: Change) -> Option<Change> {
        (self.phase, self.since, self.streak) = (phase, slot, 1);
        Some(change)
    }

    /// What channels are to be told now. They are taken to be told.
    pub(crate) fn tell(&mut self, rule: &Rule, quiet: Quiet) -> Option<Telling> {
        if quiet.is_muted {
            return None;
        }
        let was_told_flapping = std::mem::replace(&mut self.is_told_flapping, self.is_flapping);
        if self.is_flapping {
            if was_told_flapping {
                return None;
            }
            // Receivers take it for an alert, so they are to be told of its end too.
            self.told_of(if self.told == Told::Ok { Told::Firing } else { self.told });
            return Some(Telling::Flapping);
        }
        let desired = match self.phase {
            Phase::Ok | Phase::Pending => Told::Ok,
            Phase::Firing | Phase::Recovering => Told::Firing,
            Phase::NoData => Told::NoData,
        };
        let reminds = rule.body.remind_every > 0 && self.told_at + u64::from(rule.body.remind_every) <= self.judged;
        // Who knows that it flaps does not know that it is steady, whatever it is now.
        if desired == self.told && !was_told_flapping {
            let is_due = desired != Told::Ok && reminds && !quiet.is_acked;
            self.told_at = if is_due { self.judged } else { self.told_at };
            return is_due.then_some(Telling::Reminder);
        }
        self.told_of(desired);
        Some(match desired {
            Told::Ok => Telling::Resolved,
            Told::Firing => Telling::Fired,
            Told::NoData => Telling::NoData,
        })
    }

    fn told_of(&mut self, now: Told) {
        if self.told == Told::Ok {
            self.told_since = if self.episode == 0 { self.since } else { self.episode };
        }
        (self.told, self.told_at) = (now, self.judged);
    }
}

#[cfg(test)]
pub(in crate::alert) mod tests;
