//! What channels are told of the lines of a rule: once for all that were judged in one go, and later of what was kept back then.
//!
//! Promise: after either of them channels know how each line stands, unless they may not be told of it now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Judged, Occasion, RuleState, Told};
use crate::alert::machine::{self, Change, Line, Quiet};
use crate::alert::rule::Rule;

/// Most incidents of a rule that go on at a time; what comes then is a part of the last one.
const MOST_INCIDENTS: usize = 10;

/// Lines of a rule whose alert began together: people who are called are called about each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Incident {
    /// As [`Line::incident`] says.
    pub(crate) since: i64,
    /// How many of its lines fire now.
    pub(crate) firing: usize,
}

/// What decides what is told.
pub(super) struct Tellings<'a> {
    pub(super) occasion: &'a Occasion<'a>,
    pub(super) changes: &'a BTreeMap<String, Vec<Change>>,
}

/// Tells what channels could not be told when it was judged and what still holds: nothing is judged. Of what came of it since the last slot
/// nothing is known, so a rule of which a slot is due is better judged.
pub(crate) fn tell_kept_back(rule: &Rule, state: &mut RuleState, quiet: &dyn Fn(&str, &Line) -> Quiet) -> Judged {
    let mut judged = Judged { episode: state.episode, ..Judged::default() };
    let occasion = Occasion { slots: &[], is_late: false, quiet };
    tell(rule, state, &mut judged, &Tellings { occasion: &occasion, changes: &BTreeMap::new() });
    state.note_written(&mut judged);
    judged
}

/// Lets channels be told, where they may be.
pub(super) fn tell(rule: &Rule, state: &mut RuleState, judged: &mut Judged, tellings: &Tellings<'_>) {
    let last = tellings.occasion.slots.last().and_then(|slot| judged.seen.get(slot));
    let incident = state.next_incident();
    state.is_kept_back = false;
    for (name, line) in &mut state.lines {
        let quiet = (tellings.occasion.quiet)(name, line);
        let before = line.clone();
        let changes = tellings.changes.get(name).map(Vec::as_slice).unwrap_or_default();
        state.is_kept_back |= quiet.is_muted && before.clone().tell(rule, Quiet { is_muted: false, ..quiet }).is_some();
        if let Some(telling) = line.tell(rule, quiet) {
            if before.told == machine::Told::Ok {
                line.incident = incident;
            }
            let seen = last.and_then(|seen| seen.get(name)).map(|sighting| sighting.reason.clone());
            let reason = seen.or_else(|| Some(line.vanished?.reason().to_owned())).unwrap_or_default();
            judged.told.push(Told {
                line: name.clone(),
                telling,
                since: line.told_since,
                incident: line.incident,
                value: line.value,
                reason,
            });
        } else if !quiet.is_muted && !line.is_flapping && changes.contains(&Change::Resolved) {
            judged.is_over_already |= changes.contains(&Change::Fired) || changes.contains(&Change::NoData);
        }
        if *line != before {
            judged.changed.insert(name.clone());
        }
    }
    let is_told = state.lines.values().any(|line| line.told != machine::Told::Ok);
    if is_told && state.told_episode == 0 {
        // What flaps may be told while it is right: then no alert goes on that it could be a part of.
        let since = state.lines.values().filter(|line| line.told != machine::Told::Ok).map(|line| line.told_since).min();
        state.told_episode = if judged.episode == 0 { since.unwrap_or_default() } else { judged.episode };
    }
    if state.told_episode != 0 {
        judged.episode = state.told_episode;
    }
    if !is_told {
        (state.told_episode, state.told_as) = (0, None);
    }
}

impl RuleState {
    /// What lines begin of which nothing was told yet. Those that come while others go on begin an incident of their own: who is at those
    /// others does not know of them.
    fn next_incident(&self) -> i64 {
        let told = self.lines.values().filter(|line| line.told != machine::Told::Ok);
        let known: BTreeSet<i64> = told.map(|line| line.incident).collect();
        match known.last() {
            None => 0,
            Some(last) if known.len() >= MOST_INCIDENTS => *last,
            Some(_) => self.cursor.unwrap_or_default(),
        }
    }

    /// How these incidents stand, as channels know it.
    pub(crate) fn incidents(&self, of: impl IntoIterator<Item = i64>) -> Vec<Incident> {
        let mut firing: BTreeMap<i64, usize> = of.into_iter().map(|since| (since, 0)).collect();
        for line in self.lines.values().filter(|line| line.told != machine::Told::Ok) {
            if let Some(firing) = firing.get_mut(&line.incident) {
                *firing += 1;
            }
        }
        firing.into_iter().map(|(since, firing)| Incident { since, firing }).collect()
    }
}
