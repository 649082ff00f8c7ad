//! Slots that are judged again, because events for them came late.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::due::last_piece;
use super::evaluate::{Evaluated, Evaluation, apart, row};
use super::{Owned, Owner, Work};
use crate::alert::Parts;
use crate::alert::ask::{self, Asked, Unanswered};
use crate::alert::catalogue::{KnownRule, RuleKey};
use crate::alert::judge::{self, Judged, Revision, RuleState, Seen, Untold};
use crate::alert::notice::{Kind, Notice};
use crate::alert::observe::{Observed, Source, Span};
use crate::alert::rule::millis;
use crate::event::ids::ProjectId;
use crate::query::{Queries, QueryError};
use crate::store::data_version::{DataVersions, QUARTER_MS, Version};
use crate::store::tables::alert_states::{self, JudgedSlots, kind};

impl Owner {
    /// Asks again about slots that late events have touched.
    pub(super) fn begin_revisions(&mut self, most: usize, now_ms: i64) -> Vec<Evaluation> {
        let (pause, most_of_project) = (self.parts.config.revise_every, self.most_of_project());
        let mut begun = Vec::new();
        if most == 0 {
            return begun;
        }
        let is_due = |owned: &Owned| !owned.is_busy && owned.revised.elapsed() >= pause && owned.known.rule.source() == Source::Report;
        let due = self.rules.iter().filter(|(_, owned)| is_due(owned)).map(|(key, owned)| (owned.revised, key.clone())).collect();
        for (_, key) in self.turns.order(due) {
            let Some(owned) = self.rules.get_mut(&key) else { continue };
            if begun.len() >= most || self.turns.running(key.project) >= most_of_project {
                continue;
            }
            let (seen, arrived) = (owned.arrived, self.parts.judging.arrivals());
            (owned.revised, owned.arrived) = (Instant::now(), Some(arrived));
            let touched = owned.touched(seen, &self.parts.judging);
            owned.left_for_later =
                owned.revisable().and_then(|slots| owned.known.rule.events_of(slots)).map(|of| DataVersions::quarter(of.until_ms));
            let Some(span) = touched.filter(|span| span.from_ms < span.until_ms) else { continue };
            let span = last_piece(&owned.known.rule, span, owned.state.lines.len());
            owned.is_busy = true;
            let (known, parts) = (Arc::clone(&owned.known), Arc::clone(&self.parts));
            let failed = Evaluated::of_revised(key.clone(), Err(Unanswered::of_bug()));
            // An answer of before the late events does not do, however young it is.
            let asked = Asked { span, ripe_ms: span.until_ms, now_ms, is_anew: true };
            // All of its state that verdicts of the past depend on.
            let state = RuleState { alarmed: owned.state.alarmed.clone(), ..RuleState::default() };
            self.turns.begin(key.project);
            begun.push(apart(revision(parts, known, state, asked), failed));
        }
        begun
    }

    /// What is written of slots that were judged again.
    pub(super) fn revised(&mut self, key: &RuleKey, recent: &Seen, revisions: &[Revision]) -> Option<Work> {
        let owned = self.rules.get(key)?;
        let (known, mut state) = (Arc::clone(&owned.known), owned.state.clone());
        let now_ms = (self.parts.now_ms)();
        let mut rows = Vec::new();
        let slots: BTreeSet<i64> = revisions.iter().map(|revision| revision.slot).collect();
        for slot in &slots {
            let body = serde_json::to_string(recent.get(slot)?).unwrap_or_default();
            rows.push(row(&known.key, kind::SLOT, *slot, now_ms).with(String::new(), body));
        }
        for revision in revisions {
            let body = json!({"event": "revision", "line": revision.line, "was": revision.was, "is": revision.is});
            let entry = format!("revision:{now_ms}:{}", revision.line);
            rows.push(row(&known.key, kind::HISTORY, revision.slot, now_ms).with(entry, body.to_string()));
        }
        let told = self.revision(&known, &mut state, revisions);
        if told.is_none() && state == self.rules.get(key)?.state {
            return Some(Work { rows, state: Some((key.clone(), state)), notices: Vec::new() });
        }
        let mut work = self.work(&known, state, &Judged::default(), told.into_iter().collect());
        work.rows.extend(rows);
        Some(work)
    }

    /// What is told of verdicts that late events have changed, those of before included of which channels could not be told.
    pub(super) fn revision(&self, known: &KnownRule, state: &mut RuleState, revisions: &[Revision]) -> Option<Notice> {
        let earlier = state.untold_revisions.take().filter(|_| known.rule.body.notify_revisions);
        let now = revisions.first().filter(|_| known.rule.body.notify_revisions);
        let slot = earlier.map(|untold| untold.slot).into_iter().chain(now.map(|first| first.slot)).min()?;
        let number = earlier.map_or(0, |untold| untold.number) + revisions.len();
        let now_ms = (self.parts.now_ms)();
        if self.is_muted(known, now_ms) {
            state.untold_revisions = Some(Untold { slot, number });
            return None;
        }
        let mut notice = self.about(known).notice(Kind::Revision, slot, now_ms);
        notice.text = format!("events that came late have changed {number} verdicts");
        Some(notice)
    }
}

/// Asks about slots that were judged, reads what was seen then, and judges them again.
async fn revision(parts: Arc<Parts>, known: Arc<KnownRule>, state: RuleState, asked: Asked) -> Evaluated {
    let key = known.key.clone();
    let Span { from_ms, until_ms } = asked.span;
    let read = match alert_states::slots(&parts.store, JudgedSlots { project: key.project, rule: &key.id, from_ms, until_ms }).await {
        Ok(read) => read,
        // Without them nothing would be another verdict, and what came late would be looked at no more.
        Err(problem) => return Evaluated::of_revised(key, Err(Unanswered::Failed(QueryError::of_store(problem.class())))),
    };
    let mut recent: Seen = read.iter().filter_map(|row| Some((row.slot, serde_json::from_str(&row.body).ok()?))).collect();
    let observed = match recent.keys().next().and_then(|first| known.rule.look_back(*first)) {
        Some(from_ms) => ask::observe(&parts.judging, &known, Asked { span: Span { from_ms, until_ms }, ..asked }).await,
        None => Ok(Observed::default()),
    };
    let revised = match observed {
        Ok(observed) => {
            let judging = tokio::task::spawn_blocking(move || {
                let revisions = judge::revise(&known.rule, &state, &mut recent, &observed);
                (recent, revisions)
            });
            judging.await.map_err(|_| Unanswered::of_bug())
        }
        Err(problem) => Err(problem),
    };
    Evaluated::of_revised(key, revised)
}

impl Owned {
    /// The slots that late events may change.
    fn revisable(&self) -> Option<Span> {
        let rule = &self.known.rule;
        let until_ms = rule.next_slot(self.state.cursor?)?;
        Some(Span { from_ms: until_ms - millis(rule.body.revise_for), until_ms })
    }

    /// Those of them that late events may have touched since `seen`. Quarters of an hour are told apart, and the one that is going on is left for
    /// later: events arrive there all the time.
    fn touched(&self, seen: Option<Version>, queries: &Queries) -> Option<Span> {
        let rule = &self.known.rule;
        let slots = self.revisable()?;
        let Some(seen) = seen else { return Some(slots) };
        let events = rule.events_of(slots)?;
        let (first, end) = (DataVersions::quarter(events.from_ms), DataVersions::quarter(events.until_ms));
        // What is revised for less than a quarter of an hour lies in the one that is going on.
        if first >= end {
            return None;
        }
        let arrived = queries.arrived_since(ProjectId(self.known.key.project), first..=end.checked_sub(1)?, seen);
        // What arrived in a quarter while it was going on was passed over, and is not told again.
        let passed_over = self.left_for_later.filter(|left| *left < end).map(|left| left.max(first)..=end - 1);
        let quarters: Vec<_> = [arrived, passed_over].into_iter().flatten().collect();
        let (from, until) = (quarters.iter().map(|of| *of.start()).min()?, quarters.iter().map(|of| *of.end() + 1).max()?);
        let [from_ms, until_ms] = [from, until].map(|quarter| i64::from(quarter) * QUARTER_MS);
        let touched = rule.touched_by(Span { from_ms, until_ms })?;
        let first_ms = rule.interval.start_ms(slots.from_ms, &rule.zone)?;
        Some(Span { from_ms: touched.from_ms.max(first_ms), until_ms: touched.until_ms.min(slots.until_ms) })
    }
}
