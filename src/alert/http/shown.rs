//! Rules and channels as answers show them.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::alert::catalogue::{Catalogue, KnownRule, Origin, name_of};
use crate::alert::channel::NamedChannel;
use crate::alert::judge::RuleState;
use crate::alert::machine::{Line, Phase};
use crate::alert::observe::instant;
use crate::store::tables::alert_states::{Deliveries, Stored, kind};

/// How the notices of a project stand, by channel.
pub(super) struct ShownDeliveries {
    waiting: HashMap<String, u64>,
    failed: HashMap<String, Value>,
}

impl ShownDeliveries {
    pub(super) fn of(Deliveries { waiting, failed }: Deliveries) -> Self {
        let shown = |row: &Stored| {
            let said: Value = serde_json::from_str(&row.body).ok()?;
            let failed = json!({
                "at": instant(row.at), "rule": row.rule, "kind": said["kind"], "outcome": said["outcome"], "why": said["why"],
                "attempts": said["attempts"], "webhook_id": said["webhook_id"],
            });
            Some((said["channel"].as_str()?.to_owned(), failed))
        };
        Self { waiting: waiting.into_iter().collect(), failed: failed.iter().filter_map(shown).collect() }
    }
}

/// Whether a channel is one of those whose receivers do not want any more.
pub(super) fn is_switched_off(channel: &NamedChannel, gone: &[Stored]) -> bool {
    gone.iter().any(|row| (row.project, row.entry.clone()) == channel.key() && row.body == channel.identity().to_string())
}

/// A channel; `gone` are those whose receivers do not want any more.
pub(super) fn shown_channel(channel: &NamedChannel, gone: &[Stored], deliveries: &ShownDeliveries) -> Value {
    let of = if channel.project.is_none() { "all" } else { "project" };
    let waiting = deliveries.waiting.get(&channel.id).copied().unwrap_or_default();
    let mut shown = json!({
        "id": channel.id, "kind": channel.kind, "of": of, "of_file": channel.file.is_some(), "heartbeat_s": channel.heartbeat_s,
        "switched_off": is_switched_off(channel, gone), "waiting": waiting,
    });
    if let Some(failed) = deliveries.failed.get(&channel.id) {
        shown["failed"] = failed.clone();
    }
    if let Some(file) = &channel.file {
        shown["file"] = file.clone().into();
    }
    if let Some(saved) = &channel.saved {
        shown["version"] = saved.version.into();
        shown["settings"] = Value::Object(saved.settings.clone());
        shown["digest"] = saved.digest.clone().into();
        shown["file"] = saved.file.clone().into();
    }
    shown
}

/// The alert that people can be at: the one that goes on, or while channels know that a line flaps the one that they know of.
pub(super) fn ongoing(state: &RuleState, lines: &[Line]) -> i64 {
    let flaps = state.told_episode != 0 && lines.iter().any(Line::is_told_to_flap);
    if flaps { state.told_episode } else { state.episode }
}

/// A rule as lists show it.
pub(super) fn shown(known: &KnownRule, states: &[Stored], catalogue: &Catalogue) -> Value {
    let mine = |row: &&Stored| row.rule == known.key.id;
    let state = states.iter().filter(mine).find(|row| row.kind == kind::RULE);
    let state: Option<RuleState> = state.and_then(|row| serde_json::from_str(&row.body).ok());
    let lines = states.iter().filter(mine).filter(|row| row.kind == kind::LINE);
    let lines: Vec<Line> = lines.filter_map(|row| serde_json::from_str(&row.body).ok()).collect();
    let has = |phases: &[Phase]| lines.iter().any(|line| phases.contains(&line.phase));
    let health = state.as_ref().map(|state| state.health.clone()).unwrap_or_default();
    let status = match () {
        () if known.rule.body.disabled => "disabled",
        () if health.delayed_since != 0 => "delayed",
        () if health.failures > 0 => "error",
        () if has(&[Phase::Firing]) => "firing",
        () if has(&[Phase::Recovering]) => "recovering",
        () if has(&[Phase::NoData]) => "no_data",
        () if has(&[Phase::Pending]) => "pending",
        () if state.as_ref().is_some_and(|state| state.cursor.is_some()) => "ok",
        () => "new",
    };
    let mute = catalogue.mutes.get(&known.key).cloned().unwrap_or_default();
    let episode = state.as_ref().map_or(0, |state| ongoing(state, &lines));
    let ack = mute.ack.filter(|ack| state.as_ref().is_some_and(|state| ack.is_of(state)));
    let alerts = || lines.iter().filter(|line| line.is_alert());
    let has_seen = |line: &&Line| ack.as_ref().is_some_and(|ack| ack.covers(line.began()));
    let (version, file) = match &known.origin {
        Origin::Saved { version, file, .. } => (Some(*version), file.clone()),
        Origin::File(path) => (None, Some(name_of(path))),
    };
    json!({
        "id": known.key.id, "name": known.rule.name(&known.key.id), "version": version, "file": file, "state": status,
        "severity": known.rule.body.severity, "judged_through": state.and_then(|state| state.cursor).and_then(|slot| known.rule.next_slot(slot)).map(instant),
        "episode": (episode != 0).then(|| instant(episode)), "firing": alerts().count(),
        "unacknowledged": alerts().filter(|line| !has_seen(line)).count(), "flapping": lines.iter().any(|line| line.is_flapping),
        "ack": ack, "silence": mute.silence, "missing_channels": catalogue.missing_channels(known), "rule": known.rule.body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::catalogue::Note;

    #[test]
    fn what_channels_know_to_flap_can_be_acknowledged_while_it_is_right_and_stays_so() {
        let flaps =
            |phase, episode| Line { phase, episode, told_since: 60_000, is_flapping: true, is_told_flapping: true, ..Line::default() };
        let right = RuleState { cursor: Some(120_000), told_episode: 60_000, ..RuleState::default() };
        let episode = ongoing(&right, &[flaps(Phase::Ok, 0)]);
        let ack = Note { episode, through: 120_000, ..Note::default() };
        assert_eq!((episode, ack.is_of(&right)), (60_000, true));
        let wrong = RuleState { cursor: Some(180_000), episode: 180_000, ..right.clone() };
        let line = flaps(Phase::Firing, 180_000);
        assert!(ack.is_of(&wrong) && ack.covers(line.began()));
        let steady = Line { is_flapping: false, is_told_flapping: false, ..line };
        assert!(!ack.covers(steady.began()), "that it fires steadily they did not know");
        assert_eq!((ongoing(&wrong, &[steady]), ongoing(&right, &[Line::default()])), (180_000, 0));
        assert!(!ack.is_of(&RuleState { told_episode: 0, ..wrong }));
    }
}
