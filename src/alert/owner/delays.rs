//! Rules that cannot be judged because what they need is not there: a channel is told once about all rules of a project, and once when they
//! are judged again.
//!
//! A loader that stands still holds up every rule, and a notice for each would be a storm. What a channel was told is a row of its own, so
//! that the next owner goes on from there. Silences and active hours hold here too: a rule that is muted is a reason to tell nobody, and
//! what channels could not be told is told once they can be, if it still holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::evaluate::{FAILURES_TOLD, row};
use super::{Owned, Owner, Work};
use crate::alert::catalogue::RuleKey;
use crate::alert::notice::{Kind, Notice};
use crate::alert::outbox::Outbox;
use crate::alert::rule::millis;
use crate::store::tables::alert_states::{AlertRow, kind};

/// What stands for the rules of a project in notices about all of them. No rule can be called this.
const RULES: &str = "pulse:rules";
/// Most rules that a notice names.
const MOST_NAMED: usize = 20;

/// Whose rules, and the channel that is told.
pub(super) type Listener = (u64, String);

/// What a channel was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ToldDelay {
    pub(super) notice: Notice,
    /// Ids of the rules that it was about.
    rules: Vec<String>,
    /// When receivers that forget were told last.
    #[serde(skip)]
    pub(super) repeated: Option<Instant>,
}

/// How the rules stand that tell a channel.
#[derive(Default)]
struct Standing<'a> {
    /// Whether any of them waits.
    is_waiting: bool,
    /// Those that wait and are not muted.
    waiting: Vec<&'a Owned>,
    /// Whether one of these has waited for so long that it is to be told.
    is_due: bool,
    /// Whether one of all may tell now.
    is_open: bool,
}

/// What became of rules that waited, how many each.
#[derive(Clone, Copy, Debug, Default)]
struct Became {
    judged: usize,
    /// They cannot be judged for another reason, of which is told rule by rule.
    failing: usize,
    /// They are gone, or tell others.
    gone: usize,
}

impl Became {
    fn in_words(self) -> String {
        let Self { judged, failing, gone } = self;
        if failing + gone == 0 {
            return "what was missing is there: these are judged again".to_owned();
        }
        let of = [(judged, "judged again"), (failing, "not judged because asking fails"), (gone, "gone, or tell this channel no more")];
        let of: Vec<String> = of.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        format!("none of these waits any more: {}", of.join(", "))
    }
}

impl Owner {
    /// Tells channels that rules wait, and that they do no more.
    pub(super) fn tell_delays(&mut self, now_ms: i64) {
        let waits = |owned: &Owned| owned.state.health.delayed_since != 0;
        if self.delays.is_empty() && !self.rules.values().any(waits) {
            return;
        }
        let standing = self.standing(now_ms);
        let mut told: Vec<(Listener, ToldDelay)> = Vec::new();
        for (listener, standing) in standing.iter().filter(|(listener, standing)| standing.is_due && !self.delays.contains_key(*listener)) {
            told.push((listener.clone(), self.delayed(listener.0, standing, now_ms)));
        }
        let is_over = |listener: &Listener| standing.get(listener).is_none_or(|standing| !standing.is_waiting && standing.is_open);
        let over: Vec<Listener> = self.delays.keys().filter(|listener| is_over(listener)).cloned().collect();
        for (listener, delay) in told {
            let body = serde_json::to_string(&delay).unwrap_or_default();
            self.tell_listener(&listener, &delay, body, now_ms);
            self.delays.insert(listener, delay);
        }
        for listener in over {
            let Some(mut delay) = self.delays.remove(&listener) else { continue };
            let became = self.became(&listener, &delay);
            (delay.notice.kind, delay.notice.until, delay.notice.at) = (Kind::Judging, now_ms, now_ms);
            (delay.notice.text, delay.notice.is_of_end) = (became.in_words(), became.judged == 0);
            self.tell_listener(&listener, &delay, String::new(), now_ms);
        }
    }

    /// What became of the rules that a channel was told of.
    fn became(&self, (project, channel): &Listener, delay: &ToldDelay) -> Became {
        let mut became = Became::default();
        for id in &delay.rules {
            let owned = self.rules.get(&RuleKey { project: *project, id: id.clone() });
            match owned.filter(|owned| owned.known.rule.body.channels.contains(channel)) {
                None => became.gone += 1,
                Some(owned) if owned.state.health.failures >= FAILURES_TOLD => became.failing += 1,
                Some(_) => became.judged += 1,
            }
        }
        became
    }

    fn standing(&self, now_ms: i64) -> BTreeMap<Listener, Standing<'_>> {
        let mut all: BTreeMap<Listener, Standing<'_>> = BTreeMap::new();
        for (key, owned) in &self.rules {
            let (since, is_muted) = (owned.state.health.delayed_since, self.is_muted(&owned.known, now_ms));
            for channel in &owned.known.rule.body.channels {
                let standing = all.entry((key.project, channel.clone())).or_default();
                standing.is_open |= !is_muted;
                standing.is_waiting |= since != 0;
                if since != 0 && !is_muted {
                    standing.is_due |= now_ms - since >= millis(owned.known.rule.body.missed_after);
                    standing.waiting.push(owned);
                }
            }
        }
        all
    }

    /// A notice about rules that wait.
    fn delayed(&self, project: u64, standing: &Standing<'_>, now_ms: i64) -> ToldDelay {
        let mut notice = Notice::about_pulse(Kind::Delayed, now_ms);
        (notice.project, notice.rule) = (project, RULES.to_owned());
        let names: Vec<&str> = standing.waiting.iter().map(|owned| owned.known.rule.name(&owned.known.key.id)).collect();
        notice.name = if let [name] = names.as_slice() { (*name).to_owned() } else { format!("{} rules", names.len()) };
        let since = standing.waiting.iter().map(|owned| owned.state.health.delayed_since).min().unwrap_or(now_ms);
        // One that was told that rules wait no more may be told again of the same wait.
        (notice.slot, notice.episode, notice.began) = (since, since, now_ms);
        let behind = (now_ms - self.through.unwrap_or(since)).max(0) / 60_000;
        let held_up = standing.waiting.iter().find_map(|owned| owned.held_up.clone());
        let why = held_up.unwrap_or_else(|| format!("events are on their way: the data is {behind} min behind"));
        let named = names.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notice.text = format!("{why}, so these cannot be judged: {named}{more}");
        let bodies = || standing.waiting.iter().map(|owned| &owned.known.rule.body);
        if let Some(first) = standing.waiting.first() {
            notice.project_name.clone_from(&first.known.project_name);
            notice.timezone.clone_from(&first.known.rule.body.timezone);
            // What all of them say, receivers may go by.
            notice.labels = first.known.rule.body.labels.clone();
            notice.labels.retain(|key, value| bodies().all(|body| body.labels.get(key) == Some(value)));
        }
        notice.severity = bodies().map(|body| body.severity).min_by_key(|severity| *severity as u8).unwrap_or(notice.severity);
        let base = self.parts.config.external_url.trim_end_matches('/');
        notice.url = if base.is_empty() { String::new() } else { format!("{base}/alerts") };
        ToldDelay {
            notice,
            rules: standing.waiting.iter().map(|owned| owned.known.key.id.clone()).collect(),
            repeated: Some(Instant::now()),
        }
    }

    /// Lets a channel be told, and each rule of it remember that.
    fn tell_listener(&mut self, (project, channel): &Listener, delay: &ToldDelay, body: String, now_ms: i64) {
        let (notice, channels) = (&delay.notice, vec![channel.clone()]);
        let told =
            AlertRow { kind: kind::DELAYED, project: *project, rule: String::new(), entry: channel.clone(), slot: 0, at: now_ms, body };
        let mut rows = vec![told];
        let said = json!({"event": "told", "kind": notice.kind, "title": notice.title(), "lines": 0}).to_string();
        let entry = format!("told:{}", notice.kind.as_str());
        for id in &delay.rules {
            let key = RuleKey { project: *project, id: id.clone() };
            rows.push(row(&key, kind::HISTORY, notice.slot, now_ms).with(entry.clone(), said.clone()));
        }
        rows.extend(Outbox::rows(notice, &channels, now_ms));
        self.gather(Work { rows, state: None, notices: vec![(notice.clone(), channels)] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rules_that_are_gone_or_fail_it_is_not_said_that_they_are_judged() {
        let words = |judged, failing, gone| Became { judged, failing, gone }.in_words();
        assert_eq!(words(3, 0, 0), "what was missing is there: these are judged again");
        assert_eq!(words(0, 0, 1), "none of these waits any more: 1 gone, or tell this channel no more");
        assert_eq!(words(2, 1, 0), "none of these waits any more: 2 judged again, 1 not judged because asking fails");
    }
}
