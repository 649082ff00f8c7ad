//! What the owner does beside judging: deliveries, what must be said again and again, and rules that end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::evaluate::{apart, row};
use super::told::without;
use super::{Owned, Owner, Subject, Tried, Work};
use crate::alert::catalogue::RuleKey;
use crate::alert::channel::{Channel, Delivery, NamedChannel};
use crate::alert::judge::{Judged, RuleState};
use crate::alert::machine::{Line, Told};
use crate::alert::notice::{Kind, NamedLine, Notice};
use crate::alert::outbox::{Begun, Outbox};
use crate::alert::repeats::{BegunRepeat, Repeat, Wanted};
use crate::alert::target::Sent;
use crate::event::ids::ProjectId;
use crate::store::tables::alert_states::{AlertRow, kind};

/// Without an answer of the store for longer, alerts are not judged.
const HEALTHY: Duration = Duration::from_secs(30);

impl Owner {
    /// Begins the deliveries that are due.
    pub(super) fn begin_deliveries(&mut self) -> Vec<BoxFuture<'static, Tried>> {
        let now_ms = (self.parts.now_ms)();
        let begun = self.outbox.begin(&self.catalogue, now_ms).into_iter();
        let begun = begun.map(|begun| {
            let Begun { number, id, channel, delivery } = begun;
            tell(channel, Tried { subject: Subject::Notice(number), channel: id, delivery, sent: broken_off() })
        });
        let mut begun: Vec<BoxFuture<'static, Tried>> = begun.collect();
        let wanted = [self.repeats(now_ms), self.heartbeats(now_ms)];
        wanted.into_iter().flatten().for_each(|wanted| self.again.want(wanted));
        begun.extend(self.begin_again(now_ms));
        begun
    }

    /// Begins what is told again and again, as far as there is room for it.
    fn begin_again(&mut self, now_ms: i64) -> Vec<BoxFuture<'static, Tried>> {
        let (now, outbox) = (Instant::now(), &self.outbox);
        let may_be_told = |channel: &NamedChannel| !outbox.is_paused(channel, now) && !outbox.is_switched_off(channel);
        let begun = self.again.begin(&self.catalogue, may_be_told, now).into_iter();
        let tell_again = |BegunRepeat { repeat, channel, delivery }: BegunRepeat| {
            let delivery = Delivery { now_s: now_ms / 1_000, ..delivery };
            let id = repeat.channel().1.to_owned();
            tell(channel, Tried { subject: Subject::Repeat(repeat), channel: id, delivery, sent: broken_off() })
        };
        begun.map(tell_again).collect()
    }

    /// Tells receivers that forget what goes on.
    fn repeats(&mut self, now_ms: i64) -> Vec<Wanted> {
        let pause = self.parts.config.repeat_every;
        let mut due: Vec<(RuleKey, Notice)> = Vec::new();
        let keys: Vec<RuleKey> = self.rules.keys().cloned().collect();
        for key in keys {
            let is_due = |owned: &&Owned| owned.repeated.elapsed() >= pause;
            let Some(notice) = self.rules.get(&key).filter(is_due).and_then(|owned| self.going_on(owned, now_ms)) else { continue };
            if let Some(owned) = self.rules.get_mut(&key) {
                owned.repeated = Instant::now();
            }
            due.push((key, notice));
        }
        let now = Instant::now();
        let outbox = &self.outbox;
        let may_be_told = |channel: &&NamedChannel| {
            channel.channel.wants_repeats() && !outbox.is_paused(channel, now) && !outbox.is_switched_off(channel)
        };
        let mut begun = Vec::new();
        for (key, notice) in due {
            let Some(owned) = self.rules.get(&key) else { continue };
            for id in self.listening(&owned.known) {
                let channel = self.catalogue.channel(ProjectId(key.project), &id).filter(may_be_told);
                begun.extend(channel.map(|channel| unrecorded(channel, notice.clone(), now_ms)));
            }
        }
        for ((project, id), delay) in &mut self.delays {
            let channel = self.catalogue.channel(ProjectId(*project), id).filter(may_be_told);
            if let Some(channel) = channel.filter(|_| delay.repeated.is_none_or(|last| last.elapsed() >= pause)) {
                delay.repeated = Some(Instant::now());
                begun.push(unrecorded(channel, delay.notice.clone(), now_ms));
            }
        }
        begun
    }

    /// What channels know of a rule, as if it went on.
    fn told_of(&self, owned: &Owned, now_ms: i64) -> Notice {
        let state = &owned.state;
        let mut notice = self.about(&owned.known).notice(Kind::Reminder, state.cursor.unwrap_or(now_ms), now_ms);
        notice.episode = if state.told_episode == 0 { state.episode } else { state.told_episode };
        let told = || state.lines.iter().filter(|(_, line)| line.told != Told::Ok);
        notice.incidents = state.incidents(told().map(|(_, line)| line.incident));
        notice.lines = told()
            .map(|(name, line)| NamedLine {
                name: name.clone(),
                is_firing: true,
                since: if line.told_since == 0 { line.since } else { line.told_since },
                value: line.value,
                reason: String::new(),
            })
            .collect();
        notice.firing = notice.lines.len();
        notice
    }

    /// The lines of which was told that they fire and which do. One that is over and cannot be told so is not said to go on.
    fn going_on(&self, owned: &Owned, now_ms: i64) -> Option<Notice> {
        let mut notice = self.told_of(owned, now_ms);
        let goes_on = |line: &Line| line.is_alert() || (line.is_flapping && line.is_told_flapping);
        notice.lines.retain(|named| owned.state.lines.get(&named.name).is_some_and(goes_on));
        notice.firing = notice.lines.len();
        (notice.firing > 0).then_some(notice)
    }

    /// Tells those who want to hear it that alerts are judged.
    fn heartbeats(&mut self, now_ms: i64) -> Vec<Wanted> {
        let mut begun = Vec::new();
        if self.healthy.elapsed() > HEALTHY || self.stands_still {
            // Nothing can be judged: silence says so.
            self.again.forget_heartbeats();
            return begun;
        }
        let now = Instant::now();
        let wanted = self.catalogue.channels.iter().filter(|channel| channel.heartbeat_s > 0 && !self.outbox.is_paused(channel, now));
        for channel in wanted {
            let pause = Duration::from_secs(channel.heartbeat_s);
            if self.heartbeats.get(&channel.key()).is_none_or(|last| last.elapsed() >= pause) {
                self.heartbeats.insert(channel.key(), Instant::now());
                begun.push(unrecorded(channel, Notice::about_pulse(Kind::Heartbeat, now_ms), now_ms));
            }
        }
        begun
    }

    /// Ends with a rule: who was told of an alert, or that the rule cannot be judged, is told that it is over, and nothing is left of its state.
    pub(super) fn close(&mut self, key: &RuleKey, owned: &Owned, why: &str) {
        let now_ms = (self.parts.now_ms)();
        let ends = Addressed { notices: self.ends(owned, why), channels: owned.told_channels().to_vec() };
        let mut work = Work { rows: without_state(key, &owned.state, now_ms), state: None, notices: Vec::new() };
        ends.add_to(&mut work, now_ms);
        self.gather(work);
    }

    /// Writes behind which slot the reports of a rule begin, as soon as it is known: the last one that was due when it was saved. The first
    /// one is told then, no matter who owns the alerts when it is due. `told`: the last one that was told before the rule asked something else.
    pub(super) fn begin_reports(&mut self, key: &RuleKey, told: Option<i64>) {
        let now_ms = (self.parts.now_ms)();
        let is_to_begin = |owned: &&mut Owned| owned.known.rule.report_at.is_some() && owned.state.cursor.is_none();
        let Some(owned) = self.rules.get_mut(key).filter(is_to_begin) else { return };
        let known = Arc::clone(&owned.known);
        let told_ms = told.map_or(Some(0), |told| known.rule.ripe_ms(told));
        // What asks something else without being saved, as of another release, does not tell again what was told.
        let saved_ms = known.saved_ms().filter(|saved_ms| told_ms.is_some_and(|told_ms| *saved_ms >= told_ms));
        let Some(cursor) = known.rule.ripe_slot(saved_ms.unwrap_or(now_ms).min(now_ms)) else { return };
        (owned.state.cursor, owned.is_busy) = (Some(cursor), true);
        let state = owned.state.clone();
        let work = self.work(&known, state, &Judged::default(), Vec::new());
        self.gather(work);
    }

    /// Where a rule names other channels than it has told: those that it names no longer hear that it is over for them, and the new ones
    /// what goes on, once they may be told.
    pub(super) fn change_channels(&mut self, key: &RuleKey) {
        let now_ms = (self.parts.now_ms)();
        let Some(owned) = self.rules.get(key) else { return };
        let (told, named) = (owned.told_channels(), &owned.known.rule.body.channels);
        let left = without(told, named);
        let joined = if self.is_muted(&owned.known, now_ms) { Vec::new() } else { without(named, told) };
        if left.is_empty() && joined.is_empty() {
            return;
        }
        let (known, mut state) = (Arc::clone(&owned.known), owned.state.clone());
        let mut told_as = known.as_told();
        // Those that wait to be told are not told yet.
        told_as.rule.channels.retain(|id| told.contains(id) || joined.contains(id));
        state.told_as = Some(told_as);
        let ends = Addressed { notices: self.ends(owned, "the rule tells other channels now"), channels: left };
        let goes_on = Addressed { notices: self.still_told(owned), channels: joined };
        let mut work = self.work(&known, state, &Judged::default(), Vec::new());
        ends.add_to(&mut work, now_ms);
        goes_on.add_to(&mut work, now_ms);
        if let Some(owned) = self.rules.get_mut(key) {
            owned.is_busy = true;
        }
        self.gather(work);
    }

    /// What is said to those who were told something of a rule that is over for them.
    fn ends(&self, owned: &Owned, why: &str) -> Vec<Notice> {
        let now_ms = (self.parts.now_ms)();
        let failed = self.failure(owned, Kind::Judging, now_ms);
        let is_told = owned.state.lines.values().any(|line| line.told != Told::Ok);
        is_told.then(|| self.told_of(owned, now_ms)).into_iter().chain(failed).map(|notice| notice.of_end(why).cut()).collect()
    }

    /// What of a rule was told and goes on.
    fn still_told(&self, owned: &Owned) -> Vec<Notice> {
        let now_ms = (self.parts.now_ms)();
        let failed = self.failure(owned, Kind::Failed, now_ms).map(|notice| Notice { text: "this cannot be judged".to_owned(), ..notice });
        // A channel that the rule named before, within the same slot, may have been told the same.
        let anew = |notice: Notice| Notice { began: now_ms, ..notice }.cut();
        self.going_on(owned, now_ms).into_iter().chain(failed).map(anew).collect()
    }

    /// That it cannot be judged, where that was told.
    fn failure(&self, owned: &Owned, kind: Kind, now_ms: i64) -> Option<Notice> {
        let failed_at = owned.state.health.told_failed_at;
        // It began with the slot that failed, and ends with the last one.
        let slot = if kind == Kind::Judging { owned.state.cursor.unwrap_or(now_ms).max(failed_at) } else { failed_at };
        (failed_at != 0).then(|| Notice { episode: failed_at, ..self.about(&owned.known).notice(kind, slot, now_ms) })
    }

    /// Leaves nothing of the state of a rule of which nobody was told.
    pub(super) fn forget(&mut self, key: &RuleKey, state: &RuleState) {
        let rows = without_state(key, state, (self.parts.now_ms)());
        self.gather(Work { rows, state: None, notices: Vec::new() });
    }
}

/// Notices, and who is told them.
struct Addressed {
    notices: Vec<Notice>,
    channels: Vec<String>,
}

impl Addressed {
    fn add_to(self, work: &mut Work, now_ms: i64) {
        let Self { notices, channels } = self;
        work.rows.extend(notices.iter().flat_map(|notice| Outbox::rows(notice, &channels, now_ms)));
        work.notices.extend(notices.into_iter().map(|notice| (notice, channels.clone())));
    }
}

/// Rows that leave nothing of a state.
fn without_state(key: &RuleKey, state: &RuleState, now_ms: i64) -> Vec<AlertRow> {
    let mut rows = vec![row(key, kind::RULE, 0, now_ms)];
    rows.extend(state.lines.keys().map(|name| row(key, kind::LINE, 0, now_ms).with(name.clone(), String::new())));
    rows
}

/// What a channel is to be told again and again.
fn unrecorded(to: &NamedChannel, notice: Notice, now_ms: i64) -> Wanted {
    let delivery = Delivery { id: uuid::Uuid::new_v4(), notice, now_s: now_ms / 1_000 };
    Wanted { repeat: Repeat::of(to, &delivery), delivery }
}

/// Tells a channel; `failed` is what comes of it where that panics.
fn tell(channel: Arc<dyn Channel>, failed: Tried) -> BoxFuture<'static, Tried> {
    let (subject, id, delivery) = (failed.subject.clone(), failed.channel.clone(), failed.delivery.clone());
    let telling = async move {
        let sent = channel.tell(&delivery).await;
        Tried { subject, channel: id, delivery, sent }
    };
    apart(telling, failed)
}

fn broken_off() -> Sent {
    Sent::Later { why: "telling failed".to_owned(), pause: None }
}
