//! Which slots are due, what is asked about them, and what comes of the answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::due::{Missed, due_slots, first_piece};
use super::told::keep_told_as;
use super::{Owned, Owner, Work};
use crate::alert::ask::{self, Asked, Unanswered};
use crate::alert::catalogue::{KnownRule, RuleKey};
use crate::alert::judge::{self, Judged, Occasion, Revision, RuleState, Seen};
use crate::alert::notice::{About, Kind, Notice};
use crate::alert::observe::{Observed, Source, Span};
use crate::alert::outbox::Outbox;
use crate::alert::rule::millis;
use crate::lifecycle;
use crate::metrics::{self, Counter, Gauge};
use crate::store::tables::alert_states::{AlertRow, kind};

/// Failures in a row after which channels are told.
pub(super) const FAILURES_TOLD: u32 = 3;
/// Pause after a failure, once for each in a row up to [`MOST_PAUSES`].
const PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSES: u32 = 12;
/// Pause where the table is not far enough yet.
const NOT_YET: Duration = Duration::from_secs(1);
/// A verdict that comes this much later than it could is late.
const LATE_MS: i64 = 60_000;
/// How long a slot may wait for its events before it is said that nothing is judged, milliseconds.
const STANDS_STILL_MS: i64 = 600_000;
/// How long a rule whose data is there may wait for others, and what is said of it then.
const QUEUED: Duration = Duration::from_secs(60);
const OTHERS_FIRST: &str = "other rules are asked about first";

/// A question that is being asked.
pub(super) type Evaluation = BoxFuture<'static, Evaluated>;

/// How far a rule is.
pub(super) struct Evaluated {
    key: RuleKey,
    stage: Stage,
}

enum Stage {
    /// It was asked about slots.
    Answered(Slots, Result<Observed, Unanswered>),
    /// They were judged; how the rule stands then.
    Judged(Slots, Box<(RuleState, Judged)>),
    /// Slots were judged again: what is seen in them now, and what is another verdict.
    Revised(Result<(Seen, Vec<Revision>), Unanswered>),
}

/// Slots that are judged in one go.
#[derive(Default)]
struct Slots {
    slots: Vec<i64>,
    /// Those before them that are not judged any more.
    missed: Option<Missed>,
}

/// What is to be done then.
pub(super) enum Next {
    Nothing,
    Write(Box<Work>),
    Judge(Evaluation),
}

impl From<Option<Work>> for Next {
    fn from(work: Option<Work>) -> Self {
        work.map_or(Self::Nothing, |work| Self::Write(Box::new(work)))
    }
}

impl Evaluated {
    /// Of slots that were judged again.
    pub(super) const fn of_revised(key: RuleKey, revised: Result<(Seen, Vec<Revision>), Unanswered>) -> Self {
        Self { key, stage: Stage::Revised(revised) }
    }

    /// Whose rule it is about.
    pub(super) fn project(&self) -> u64 {
        self.key.project
    }
}

/// What is said when a rule can be judged again.
pub(super) struct Again {
    pub(super) notice: Option<Notice>,
    /// For its history.
    pub(super) row: Option<AlertRow>,
}

impl Owner {
    /// Looks which rules are due.
    pub(super) async fn look(&mut self) {
        let now_ms = (self.parts.now_ms)();
        self.note_leap(now_ms);
        self.follow_clock(now_ms);
        let mut oldest_ms = now_ms;
        let mut keys: Vec<(i64, RuleKey)> = Vec::new();
        let mut overdue = Vec::new();
        for (key, owned) in &self.rules {
            let ripe = owned.ripe_ms(now_ms);
            oldest_ms = oldest_ms.min(ripe.unwrap_or(now_ms));
            // Also one that is asked about or has to pause now.
            if let Some(ripe) = ripe.filter(|ripe| now_ms - owned.waits_since(*ripe) >= STANDS_STILL_MS) {
                overdue.push((ripe, key.clone()));
            }
            if let Some(ripe) = ripe.filter(|ripe| *ripe <= now_ms && !owned.is_busy && owned.not_before <= Instant::now()) {
                keys.push((ripe, key.clone()));
            }
        }
        Gauge::AlertsOldestSlot.set((now_ms - oldest_ms) as f64 / 1_000.0);
        // Without anything due nothing is asked of the store.
        let asks = !(keys.is_empty() && overdue.is_empty());
        self.through = if asks { self.parts.judging.data_through(now_ms).await } else { None };
        self.stands_still = overdue.iter().any(|(ripe, key)| !self.is_there(key, *ripe));
        keys.iter().for_each(|(ripe, key)| self.note_waiting(key, *ripe, now_ms));
        self.queue = self.turns.order(keys);
        self.tell_kept_back(now_ms);
        self.tell_delays(now_ms);
    }

    /// Whether the events that a slot of a rule needs are in the table, as far as was promised when it was last looked.
    fn is_there(&self, key: &RuleKey, ripe: i64) -> bool {
        let is_lag = self.rules.get(key).is_some_and(|owned| owned.known.rule.source() == Source::Lag);
        self.through.is_some_and(|through| is_lag || through >= ripe)
    }

    /// Takes note that a rule waits, for its data or for others that are asked about before it.
    fn note_waiting(&mut self, key: &RuleKey, ripe: i64, now_ms: i64) {
        if self.is_delayed(key, ripe) {
            return;
        }
        let Some(owned) = self.rules.get_mut(key) else { return };
        // Of one that fails that was told.
        if owned.queued.get_or_insert_with(Instant::now).elapsed() >= QUEUED && owned.state.health.failures < FAILURES_TOLD {
            owned.held_up.get_or_insert_with(|| OTHERS_FIRST.to_owned());
            let work = self.delay(key, ripe, now_ms);
            work.into_iter().for_each(|work| self.gather(work));
        }
    }

    /// How many questions of a project may run: not all, so that one that is slow leaves room for others.
    pub(super) fn most_of_project(&self) -> usize {
        let most = self.parts.config.max_running;
        let project = |of: Option<(&RuleKey, &Owned)>| of.map(|(key, _)| key.project);
        let is_alone = project(self.rules.first_key_value()) == project(self.rules.last_key_value());
        if is_alone { most } else { most.saturating_sub(1).max(1) }
    }

    /// Begins to ask about rules that are due, at most so many. What was promised of the data a moment ago is still true.
    pub(super) fn begin_due(&mut self, most: usize) -> Vec<Evaluation> {
        let (now_ms, through, most_of_project) = ((self.parts.now_ms)(), self.through, self.most_of_project());
        let mut begun = Vec::new();
        while begun.len() < most
            && let Some(next) = self.queue.iter().position(|(_, key)| self.turns.running(key.project) < most_of_project)
            && let Some((ripe, key)) = self.queue.remove(next)
        {
            let is_busy = self.rules.get(&key).is_none_or(|owned| owned.is_busy);
            if !is_busy
                && !self.is_delayed(&key, ripe)
                && let Some(evaluation) = self.begin(&key, through, now_ms)
            {
                self.turns.begin(key.project);
                begun.push(evaluation);
            }
        }
        let left = most.saturating_sub(begun.len());
        begun.extend(self.begin_revisions(left, now_ms));
        begun
    }

    /// Whether events that a rule needs are still on their way.
    fn is_delayed(&mut self, key: &RuleKey, ripe: i64) -> bool {
        let (now_ms, is_there) = ((self.parts.now_ms)(), self.is_there(key, ripe));
        let Some(owned) = self.rules.get_mut(key) else { return true };
        if is_there {
            return false;
        }
        (owned.held_up, owned.queued) = (None, None);
        if let Some(work) = self.delay(key, ripe, now_ms) {
            self.gather(work);
        }
        true
    }

    /// Takes note that a rule waits, once it has done so for longer than a verdict may take; it is busy then until that is written.
    fn delay(&mut self, key: &RuleKey, ripe: i64, now_ms: i64) -> Option<Work> {
        let owned = self.rules.get_mut(key)?;
        let known = Arc::clone(&owned.known);
        // The slot that a new rule would be judged for goes with the clock: it waits since it is known.
        let since = owned.waits_since(ripe);
        if owned.state.health.delayed_since != 0 || now_ms - since < LATE_MS.min(millis(known.rule.body.missed_after)) {
            return None;
        }
        let mut state = owned.state.clone();
        owned.is_busy = true;
        // From when on it is seen: an owner that was not there has seen nothing, and a promise of a moment ago may be too old.
        state.health.delayed_since = now_ms;
        let slot = state.cursor.and_then(|cursor| known.rule.next_slot(cursor)).or_else(|| known.rule.closed_slot(ripe)).unwrap_or(ripe);
        let mut work = self.work(&known, state, &Judged::default(), Vec::new());
        work.rows.push(row(key, kind::HISTORY, slot, now_ms).with("delayed".to_owned(), json!({"event": "delayed"}).to_string()));
        Some(work)
    }

    /// Asks about the slots of a rule that are due.
    fn begin(&mut self, key: &RuleKey, through: Option<i64>, now_ms: i64) -> Option<Evaluation> {
        let owned = self.rules.get_mut(key)?;
        let rule = &owned.known.rule;
        let complete_ms = if rule.source() == Source::Lag { now_ms } else { through?.min(now_ms) };
        let (slots, missed) = due_slots(rule, owned.state.cursor, complete_ms);
        let slots = first_piece(rule, slots, owned.state.lines.len());
        let (first, last) = (*slots.first()?, *slots.last()?);
        let span = Span { from_ms: rule.look_back(first)?, until_ms: rule.next_slot(last)? };
        // What was answered about them by a clock that was ahead is kept as if it were complete.
        let is_anew = owned.state.judged_to.is_some_and(|judged_to| first <= judged_to);
        let asked = Asked { span, ripe_ms: rule.ripe_ms(last)?.min(complete_ms), now_ms, is_anew };
        (owned.is_busy, owned.queued) = (true, None);
        let (key, known, queries) = (key.clone(), Arc::clone(&owned.known), self.parts.judging.clone());
        let failed = Evaluated { key: key.clone(), stage: Stage::Answered(Slots::default(), Err(Unanswered::of_bug())) };
        let slots = Slots { slots, missed };
        let asking = async move { Evaluated { key, stage: Stage::Answered(slots, ask::observe(&queries, &known, asked).await) } };
        Some(apart(asking, failed))
    }

    /// What comes of an answer, or of verdicts.
    pub(super) fn evaluated(&mut self, evaluated: Evaluated) -> Next {
        let Evaluated { key, stage } = evaluated;
        let now_ms = (self.parts.now_ms)();
        let Some(owned) = self.rules.get_mut(&key) else { return Next::Nothing };
        let known = Arc::clone(&owned.known);
        match stage {
            Stage::Answered(_, Err(problem)) => {
                problem.outcome().count();
                self.unanswered(&key, &problem, now_ms).into()
            }
            Stage::Revised(Err(problem)) => {
                problem.outcome().count();
                // Not now: the next time all of it is looked at.
                (owned.is_busy, owned.arrived) = (false, None);
                Next::Nothing
            }
            Stage::Answered(slots, Ok(observed)) => {
                (owned.held_up, owned.refusals) = (None, 0);
                metrics::Evaluation::Judged.count();
                let state = owned.state.clone();
                let Some(last) = slots.slots.last().copied() else { return Next::Nothing };
                if known.rule.report_at.is_some() {
                    return Some(self.reported(&known, state, &observed, last)).into();
                }
                Next::Judge(self.judging(known, state, slots, observed))
            }
            Stage::Judged(slots, judged) => {
                let (state, judged) = *judged;
                self.judged(&known, state, &slots, &judged).into()
            }
            Stage::Revised(Ok((recent, revisions))) => {
                (owned.held_up, owned.refusals) = (None, 0);
                metrics::Evaluation::Revised.count();
                self.revised(&key, &recent, &revisions).into()
            }
        }
    }

    /// Judges slots on a thread of its own: it may take seconds.
    fn judging(&self, known: Arc<KnownRule>, mut state: RuleState, slots: Slots, observed: Observed) -> Evaluation {
        let (key, now_ms) = (known.key.clone(), (self.parts.now_ms)());
        let last_ripe = slots.slots.last().and_then(|last| known.rule.ripe_ms(*last));
        let is_late = slots.slots.len() > 1 || last_ripe.is_some_and(|ripe| now_ms > ripe + LATE_MS);
        let quiet = self.quiet(&known, &state, now_ms);
        let failed = || Stage::Answered(Slots::default(), Err(Unanswered::of_bug()));
        let failed_key = key.clone();
        let judging = async move {
            let judging = tokio::task::spawn_blocking(move || {
                let occasion = Occasion { slots: &slots.slots, is_late, quiet: &quiet };
                let judged = judge::judge(&known.rule, &mut state, &observed, &occasion);
                Stage::Judged(slots, Box::new((state, judged)))
            });
            Evaluated { key, stage: judging.await.unwrap_or_else(|_| failed()) }
        };
        apart(judging, Evaluated { key: failed_key, stage: failed() })
    }

    /// What comes of verdicts.
    fn judged(&self, known: &KnownRule, mut state: RuleState, slots: &Slots, judged: &Judged) -> Option<Work> {
        let (now_ms, last) = ((self.parts.now_ms)(), *slots.slots.last()?);
        Counter::AlertSlots.add(slots.slots.len() as u64);
        state.ripe_ms = known.rule.ripe_ms(last).unwrap_or_default();
        keep_told_as(&mut state, known);
        let mut notices: Vec<Notice> = self.about(known).of_judged(&state, judged, now_ms).into_iter().collect();
        let again = self.judging_again(known, &mut state, last);
        notices.extend(again.notice);
        notices.extend(self.revision(known, &mut state, &[]));
        let mut work = self.work(known, state, judged, notices);
        work.rows.extend(again.row);
        if let Some(missed) = slots.missed {
            let body = json!({"event": "missed", "slots": missed.slots}).to_string();
            work.rows.push(row(&known.key, kind::HISTORY, missed.first, now_ms).with("missed".to_owned(), body));
        }
        Some(work)
    }

    /// Tells the numbers of a slot: of the last one, if several were missed.
    fn reported(&self, known: &KnownRule, mut state: RuleState, observed: &Observed, slot: i64) -> Work {
        let now_ms = (self.parts.now_ms)();
        (state.cursor, state.ripe_ms) = (Some(slot), known.rule.ripe_ms(slot).unwrap_or_default());
        let again = self.judging_again(known, &mut state, slot);
        let mut notices: Vec<Notice> = again.notice.into_iter().collect();
        if !self.is_muted(known, now_ms) {
            notices.push(self.about(known).report(observed, slot, now_ms));
        }
        let mut work = self.work(known, state, &Judged::default(), notices);
        work.rows.extend(again.row);
        work
    }

    /// What is said when a rule can be judged again; its health is good then. That it waited, others tell for all rules at once.
    pub(super) fn judging_again(&self, known: &KnownRule, state: &mut RuleState, slot: i64) -> Again {
        let now_ms = (self.parts.now_ms)();
        let health = std::mem::take(&mut state.health);
        let waited = json!({"event": "judging", "waited_s": (now_ms - health.delayed_since) / 1_000}).to_string();
        let waited = (health.delayed_since != 0).then(|| row(&known.key, kind::HISTORY, slot, now_ms).with("judging".to_owned(), waited));
        if health.told_failed_at == 0 {
            return Again { notice: None, row: waited };
        }
        if self.is_muted(known, now_ms) {
            // Channels are told of the end once they may be.
            state.health.told_failed_at = health.told_failed_at;
            return Again { notice: None, row: waited };
        }
        let mut notice = self.about(known).notice(Kind::Judging, slot, now_ms);
        notice.episode = health.told_failed_at;
        Again { notice: Some(notice), row: waited }
    }

    fn unanswered(&mut self, key: &RuleKey, problem: &Unanswered, now_ms: i64) -> Option<Work> {
        let owned = self.rules.get_mut(key)?;
        owned.is_busy = false;
        let problem = match problem {
            Unanswered::Failed(problem) if !problem.is_overload() => problem,
            // No fault of the rule: it waits, as for data.
            Unanswered::Failed(problem) => {
                owned.refusals += 1;
                owned.held_up = Some(problem.message.clone());
                let asked_for = Duration::from_secs(problem.retry_after.unwrap_or_default().into());
                owned.not_before = Instant::now() + asked_for.max(PAUSE * owned.refusals.min(MOST_PAUSES));
                let ripe = owned.ripe_ms(now_ms)?;
                return self.delay(key, ripe, now_ms);
            }
            Unanswered::NotYet => {
                owned.not_before = Instant::now() + NOT_YET;
                let ripe = owned.ripe_ms(now_ms)?;
                return self.delay(key, ripe, now_ms);
            }
        };
        tracing::debug!(rule = %key.id, %problem, "a rule cannot be judged");
        let (known, mut state) = (Arc::clone(&owned.known), owned.state.clone());
        state.health.failures += 1;
        if state.health.failures >= FAILURES_TOLD {
            // It waits no more, and that it fails is told; once or twice it may fail and still be judged next.
            state.health.delayed_since = 0;
        }
        owned.not_before = Instant::now() + PAUSE * state.health.failures.min(MOST_PAUSES);
        let mut notices = Vec::new();
        if state.health.failures >= FAILURES_TOLD && state.health.told_failed_at == 0 && !self.is_muted(&known, now_ms) {
            let slot = state.cursor.and_then(|cursor| known.rule.next_slot(cursor)).unwrap_or(now_ms);
            state.health.told_failed_at = slot;
            keep_told_as(&mut state, &known);
            let mut notice = self.about(&known).notice(Kind::Failed, slot, now_ms);
            notice.text = format!("this cannot be judged: {problem}");
            notices.push(notice);
        }
        if let Some(owned) = self.rules.get_mut(key) {
            owned.is_busy = true;
        }
        Some(self.work(&known, state, &Judged::default(), notices))
    }

    pub(super) fn about<'a>(&'a self, known: &'a KnownRule) -> About<'a> {
        let (project, project_name) = (known.key.project, known.project_name.as_str());
        About { project, project_name, id: &known.key.id, rule: &known.rule, base: &self.parts.config.external_url }
    }

    /// The rows of a rule whose state has changed.
    pub(super) fn work(&self, known: &KnownRule, state: RuleState, judged: &Judged, notices: Vec<Notice>) -> Work {
        let now_ms = (self.parts.now_ms)();
        let cursor = state.cursor.unwrap_or_default();
        let of = |kind, slot| row(&known.key, kind, slot, now_ms);
        let mut rows = vec![of(kind::RULE, 0).with(String::new(), serde_json::to_string(&state).unwrap_or_default())];
        for name in &judged.changed {
            let body = state.lines.get(name).map(|line| serde_json::to_string(line).unwrap_or_default());
            rows.push(of(kind::LINE, 0).with(name.clone(), body.unwrap_or_default()));
        }
        for (slot, seen) in &judged.seen {
            rows.push(of(kind::SLOT, *slot).with(String::new(), serde_json::to_string(seen).unwrap_or_default()));
        }
        for (number, entry) in judged.entries.iter().enumerate() {
            let mut body = json!({"event": "change"});
            if let (Some(body), Ok(serde_json::Value::Object(entry))) = (body.as_object_mut(), serde_json::to_value(entry)) {
                body.extend(entry);
            }
            rows.push(of(kind::HISTORY, entry.slot).with(format!("change:{number:06}"), body.to_string()));
        }
        let channels = self.listening(known);
        let began = state.since;
        let notices: Vec<Notice> = notices.into_iter().map(|notice| Notice { began, ..notice }).collect();
        for notice in &notices {
            let said = json!({"event": "told", "kind": notice.kind, "title": notice.title(), "lines": notice.lines.len() + notice.unnamed});
            rows.push(of(kind::HISTORY, cursor).with(format!("told:{}", notice.kind.as_str()), said.to_string()));
            rows.extend(Outbox::rows(notice, &channels, now_ms));
        }
        let notices = notices.into_iter().map(|notice| (notice, channels.clone())).collect();
        Work { rows, state: Some((known.key.clone(), state)), notices }
    }
}

/// Does something beside the owner, which waits for others meanwhile: what is not polled may hold what they wait for. It ends with the owner;
/// where it panics, `failed` is what came of it.
pub(super) fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static, failed: T) -> BoxFuture<'static, T> {
    let working = AbortOnDropHandle::new(lifecycle::spawn_apart(work));
    async move { working.await.unwrap_or(failed) }.boxed()
}

impl Owned {
    /// When the next slot may be judged; the newest one for a rule that is new.
    pub(super) fn ripe_ms(&self, now_ms: i64) -> Option<i64> {
        let rule = &self.known.rule;
        let next = match self.state.cursor {
            Some(cursor) => rule.next_slot(cursor)?,
            None => rule.closed_slot(now_ms - rule.delay_ms())?,
        };
        rule.ripe_ms(next)
    }

    /// Since when the next slot waits that may be judged from `ripe` on: of a rule that was never judged, since it is known.
    fn waits_since(&self, ripe: i64) -> i64 {
        self.state.cursor.map_or(self.since_ms, |_| ripe)
    }
}

/// A row without its content.
pub(super) fn row(key: &RuleKey, kind: &'static str, slot: i64, at: i64) -> AlertRow {
    AlertRow { kind, project: key.project, rule: key.id.clone(), entry: String::new(), slot, at, body: String::new() }
}

impl AlertRow {
    /// With its content.
    pub(super) fn with(self, entry: String, body: String) -> Self {
        Self { entry, body, ..self }
    }
}
