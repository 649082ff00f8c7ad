//! Notices that are to be delivered.
//!
//! A notice is written together with what it is about, and stays until a channel has taken it, does not want any more, or a day has
//! passed. Promises: each is delivered at least once, under one id over all attempts; those of one rule to one channel in their order; a
//! slow or broken channel delays no other, and no project that of others; a receiver that says when to come back is told nothing before that,
//! or for an hour where it says longer.
//! Bounds: [`MOST_RUNNING`] deliveries at a time, [`MOST_PER_PROJECT`] of them of one project and [`MOST_PER_CHANNEL`] to one of its channels;
//! [`MOST_WAITING`] notices of a project here. What comes beyond waits in the store and is read from there once there is room
//! ([`Outbox::wants_more`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::catalogue::Catalogue;
use super::channel::{Channel, Delivery, NamedChannel};
use super::notice::Notice;
use super::target::Sent;
use crate::event::ids::ProjectId;
use crate::store::tables::alert_states::{AlertRow, DELIVERED, DELIVERY, SKIPPED, Stored, kind};

const MOST_RUNNING: usize = 64;
const MOST_PER_PROJECT: usize = 12;
const MOST_PER_CHANNEL: usize = 8;
/// How long a notice is tried.
const PATIENCE_MS: i64 = 24 * 3_600_000;
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Most notices of a project that wait here.
pub(crate) const MOST_WAITING: usize = 1_000;
/// Most of all projects, but for a few of each.
const MOST_OF_ALL: usize = 10_000;
const FEW: usize = 20;

/// All notices that wait.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// What waits, by id, and how much of it is of each project.
    ids: HashSet<Uuid>,
    of_projects: HashMap<u64, usize>,
    /// Projects of which more wait in the store. What is new of them waits there too, behind the others.
    left: BTreeSet<u64>,
    /// Channels that do not want any more, with their [`NamedChannel::identity`] then.
    gone: HashMap<(u64, String), u64>,
    /// Channels that have said when to come back, with their [`NamedChannel::identity`] then, as [`NamedChannel::key`] names them: one of a
    /// file is told of all projects.
    paused: HashMap<(u64, String), (u64, Instant)>,
}

struct Waiting {
    id: Uuid,
    channel: String,
    notice: Notice,
    first_ms: i64,
    attempts: u32,
    due: Instant,
    is_running: bool,
    /// The identity of the channel that was told last.
    told: u64,
}

/// A notice as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    channel: String,
    first_ms: i64,
    notice: Notice,
}

/// A delivery that is to be begun.
pub(crate) struct Begun {
    pub(crate) number: u64,
    /// The id of the channel.
    pub(crate) id: String,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) delivery: Delivery,
}

/// How a delivery ended, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Delivered,
    /// Some of those who were to have it do not take it.
    Partly,
    /// The receiver has no word for it.
    Skipped,
    /// It is tried again.
    Retried,
    /// It was tried for a day.
    GivenUp,
    /// The receiver does not take it.
    Refused,
    /// The receiver does not want any more.
    Gone,
}

impl Ended {
    /// Its word, in metrics and in the history.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => DELIVERED,
            Self::Partly => "partly_delivered",
            Self::Skipped => SKIPPED,
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }

    /// How one ended that is not tried again.
    pub(crate) const fn of(sent: &Sent) -> Self {
        match sent {
            Sent::Done => Self::Delivered,
            Sent::Partly(_) => Self::Partly,
            Sent::Skipped(_) => Self::Skipped,
            Sent::Later { .. } => Self::GivenUp,
            Sent::Never(_) => Self::Refused,
            Sent::Gone => Self::Gone,
        }
    }
}

impl Outbox {
    /// Takes over a row that was read.
    pub(crate) fn restore(&mut self, row: &Stored) {
        if row.kind == kind::GONE {
            let identity = row.body.parse().unwrap_or_default();
            self.gone.insert((row.project, row.entry.clone()), identity);
        }
        let (Ok(kept), Ok(id)) = (serde_json::from_str::<Kept>(&row.body), row.entry.parse()) else { return };
        self.wait(id, kept);
    }

    /// The rows that make a notice wait for each of its channels.
    pub(crate) fn rows(notice: &Notice, channels: &[String], now_ms: i64) -> Vec<AlertRow> {
        let row = |channel: &String| {
            let kept = Kept { channel: channel.clone(), first_ms: now_ms, notice: notice.clone() };
            AlertRow {
                kind: kind::OUTBOX,
                project: notice.project,
                rule: notice.rule.clone(),
                entry: notice.id(channel).to_string(),
                slot: notice.slot,
                at: now_ms,
                body: serde_json::to_string(&kept).unwrap_or_default(),
            }
        };
        channels.iter().map(row).collect()
    }

    /// Lets a notice wait whose rows are written.
    pub(crate) fn add(&mut self, notice: &Notice, channels: &[String], now_ms: i64) {
        for channel in channels {
            self.wait(notice.id(channel), Kept { channel: channel.clone(), first_ms: now_ms, notice: notice.clone() });
        }
    }

    fn wait(&mut self, id: Uuid, kept: Kept) {
        let project = kept.notice.project;
        if self.ids.contains(&id) || self.left.contains(&project) {
            return;
        }
        if !self.has_room(project) {
            tracing::warn!(project, "more notices wait than can at a time: these wait for the others");
            self.left.insert(project);
            return;
        }
        let Kept { channel, first_ms, notice } = kept;
        let waiting = Waiting { id, channel, notice, first_ms, attempts: 0, due: Instant::now(), is_running: false, told: 0 };
        self.waiting.insert(self.next, waiting);
        self.next += 1;
        self.ids.insert(id);
        *self.of_projects.entry(project).or_default() += 1;
    }

    fn has_room(&self, project: u64) -> bool {
        let of_project = self.of_projects.get(&project).copied().unwrap_or_default();
        of_project < FEW || of_project < MOST_WAITING && self.waiting.len() < MOST_OF_ALL
    }

    /// A project of which more wait in the store, once much of what is here has ended.
    pub(crate) fn wants_more(&self) -> Option<u64> {
        let has_ended = |project: &u64| self.of_projects.get(project).is_none_or(|waiting| *waiting <= MOST_WAITING / 2);
        self.left.iter().copied().find(|project| self.has_room(*project) && has_ended(project))
    }

    /// Takes over the oldest [`MOST_WAITING`] notices of a project that wait in the store, the oldest first, those that wait here too. Those
    /// `to_write` are left out.
    pub(crate) fn more(&mut self, project: u64, rows: &[Stored], to_write: &HashSet<&str>) {
        self.left.remove(&project);
        rows.iter().filter(|row| !to_write.contains(row.entry.as_str())).for_each(|row| self.restore(row));
        if rows.len() >= MOST_WAITING {
            self.left.insert(project);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.ids.remove(&waiting.id);
        let project = waiting.notice.project;
        let of_project = self.of_projects.get(&project).copied().unwrap_or_default();
        if of_project > 1 {
            self.of_projects.insert(project, of_project - 1)
        } else {
            self.of_projects.remove(&project)
        };
        Some(waiting)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What is to be begun now. Of each rule and channel the oldest only.
    pub(crate) fn begin(&mut self, catalogue: &Catalogue, now_ms: i64) -> Vec<Begun> {
        let mut begun = Vec::new();
        for number in self.next_numbers(catalogue) {
            let Some(waiting) = self.waiting.get_mut(&number) else { continue };
            let found = catalogue.channel(ProjectId(waiting.notice.project), &waiting.channel);
            let open = found.filter(|channel| !is_gone(&self.gone, channel));
            let channel = open.map_or_else(|| Arc::new(Missing) as Arc<dyn Channel>, |channel| Arc::clone(&channel.channel));
            (waiting.is_running, waiting.told) = (true, found.map_or(0, NamedChannel::identity));
            let delivery = Delivery { id: waiting.id, notice: waiting.notice.clone(), now_s: now_ms / 1_000 };
            begun.push(Begun { number, id: waiting.channel.clone(), channel, delivery });
        }
        begun
    }

    /// The numbers of those that may run beside those that do. Looked for whenever one has ended, so nothing is copied here.
    fn next_numbers(&self, catalogue: &Catalogue) -> Vec<u64> {
        let mut of_channels: HashMap<(u64, &str), usize> = HashMap::new();
        let mut of_projects: HashMap<u64, usize> = HashMap::new();
        for waiting in self.waiting.values().filter(|waiting| waiting.is_running) {
            *of_channels.entry(waiting.channel_key()).or_default() += 1;
            *of_projects.entry(waiting.notice.project).or_default() += 1;
        }
        let mut in_all: usize = of_projects.values().sum();
        let mut numbers = Vec::new();
        let mut earlier: HashSet<(u64, &str, &str)> = HashSet::new();
        let now = Instant::now();
        let mut paused: HashMap<(u64, &str), bool> = HashMap::new();
        for (number, waiting) in &self.waiting {
            if in_all >= MOST_RUNNING {
                break;
            }
            let project = waiting.notice.project;
            let of_channel = of_channels.entry(waiting.channel_key()).or_default();
            let of_project = of_projects.entry(project).or_default();
            // Where there is no room any more, the order of what comes there does not matter either.
            if *of_channel >= MOST_PER_CHANNEL || *of_project >= MOST_PER_PROJECT {
                continue;
            }
            let channel = || catalogue.channel(ProjectId(project), &waiting.channel);
            let is_paused = || channel().is_some_and(|channel| self.is_paused(channel, now));
            if *paused.entry(waiting.channel_key()).or_insert_with(is_paused) {
                continue;
            }
            let is_first = earlier.insert((project, &waiting.notice.rule, &waiting.channel));
            if !is_first || waiting.is_running || waiting.due > now {
                continue;
            }
            *of_channel += 1;
            *of_project += 1;
            in_all += 1;
            numbers.push(*number);
        }
        numbers
    }

    /// Whether a channel is to be told nothing yet. One that was written anew since is another one.
    pub(crate) fn is_paused(&self, channel: &NamedChannel, now: Instant) -> bool {
        let said = self.paused.get(&channel.key());
        said.is_some_and(|(identity, until)| *identity == channel.identity() && *until > now)
    }

    /// Whether a channel does not want any more. One that was written anew or switched on since is another one.
    pub(crate) fn is_switched_off(&self, channel: &NamedChannel) -> bool {
        is_gone(&self.gone, channel)
    }

    /// Takes note of how a delivery ended; the rows that say it, and how it ended.
    pub(crate) fn end(&mut self, number: u64, sent: Sent, catalogue: &Catalogue, now_ms: i64) -> (Vec<AlertRow>, Ended) {
        let Some(waiting) = self.waiting.get(&number) else { return (Vec::new(), Ended::Delivered) };
        let channel = catalogue.channel(ProjectId(waiting.notice.project), &waiting.channel);
        let told = waiting.told;
        let off = channel.and_then(|channel| self.heed(&sent, channel, told, now_ms));
        let Some(waiting) = self.waiting.get_mut(&number) else { return (Vec::new(), Ended::Delivered) };
        waiting.is_running = false;
        waiting.attempts += 1;
        let ended = Ended::of(&sent);
        let why = match sent {
            Sent::Later { why, pause } if now_ms - waiting.first_ms < PATIENCE_MS => {
                tracing::debug!(channel = %waiting.channel, rule = %waiting.notice.rule, %why, "a notice is tried again");
                waiting.due = Instant::now() + pause.unwrap_or_default().max(pause_after(waiting.attempts));
                // So that it shows which one waits for whom, and why; seldom, since its end replaces it.
                let is_said = waiting.attempts.is_power_of_two();
                let said = is_said.then(|| waiting.history(Ended::Retried, &why, now_ms));
                return (said.into_iter().collect(), Ended::Retried);
            }
            Sent::Done => String::new(),
            Sent::Later { why, .. } | Sent::Never(why) | Sent::Partly(why) | Sent::Skipped(why) => why,
            Sent::Gone => "the receiver answers 410: the channel is switched off until it takes a test or is written anew".to_owned(),
        };
        let Some(waiting) = self.remove(number) else { return (Vec::new(), Ended::Delivered) };
        let (channel, rule, outcome) = (&waiting.channel, &waiting.notice.rule, ended.as_str());
        match ended {
            Ended::Delivered | Ended::Skipped | Ended::Retried => {}
            Ended::Partly => tracing::warn!(%channel, %rule, outcome, %why, "a notice was not delivered to all"),
            Ended::GivenUp | Ended::Refused | Ended::Gone => tracing::error!(%channel, %rule, outcome, %why, "a notice was not delivered"),
        }
        let mut rows = waiting.ended(ended, &why, now_ms);
        rows.extend(off);
        (rows, ended)
    }

    /// Goes by what a receiver says of all that it may be told: to leave it alone for some time, or for good. The row that says the latter.
    /// `told`: the identity of the channel that it answers to, which may be another one by now.
    pub(crate) fn heed(&mut self, sent: &Sent, channel: &NamedChannel, told: u64, now_ms: i64) -> Option<AlertRow> {
        match sent {
            _ if channel.identity() != told => None,
            Sent::Later { pause: Some(pause), .. } => {
                let now = Instant::now();
                self.paused.retain(|_, (_, until)| *until > now);
                self.paused.insert(channel.key(), (channel.identity(), now + *pause));
                None
            }
            Sent::Gone => Some(self.switched_off(channel, now_ms)),
            _ => None,
        }
    }

    fn switched_off(&mut self, channel: &NamedChannel, now_ms: i64) -> AlertRow {
        let (project, entry) = channel.key();
        self.gone.insert((project, entry.clone()), channel.identity());
        AlertRow { kind: kind::GONE, project, rule: String::new(), entry, slot: 0, at: now_ms, body: channel.identity().to_string() }
    }
}

impl Waiting {
    /// Its channel: each project has names of its own.
    fn channel_key(&self) -> (u64, &str) {
        (self.notice.project, &self.channel)
    }

    fn row(&self, entry: String, now_ms: i64) -> AlertRow {
        let notice = &self.notice;
        AlertRow {
            kind: kind::OUTBOX,
            project: notice.project,
            rule: notice.rule.clone(),
            entry,
            slot: notice.slot,
            at: now_ms,
            body: String::new(),
        }
    }

    /// How it stands, for the history.
    fn history(&self, outcome: Ended, why: &str, now_ms: i64) -> AlertRow {
        let said = json!({
            "event": "notice", "kind": self.notice.kind, "channel": self.channel, "outcome": outcome.as_str(), "why": why,
            "attempts": self.attempts, "webhook_id": self.id,
        });
        AlertRow { kind: kind::HISTORY, body: said.to_string(), ..self.row(format!("{DELIVERY}{}", self.id), now_ms) }
    }

    /// The rows that end it.
    fn ended(&self, outcome: Ended, why: &str, now_ms: i64) -> Vec<AlertRow> {
        vec![self.row(self.id.to_string(), now_ms), self.history(outcome, why, now_ms)]
    }
}

fn is_gone(gone: &HashMap<(u64, String), u64>, channel: &NamedChannel) -> bool {
    gone.get(&channel.key()) == Some(&channel.identity())
}

/// Doubles, with a part that differs from one to the next, so that what failed together does not come back together.
fn pause_after(attempts: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(12)).min(LONGEST_PAUSE);
    let random = uuid::Uuid::new_v4().as_u128() % 1_000;
    whole.mul_f64(0.75 + random as f64 / 2_000.0)
}

/// Stands for a channel that is not there.
struct Missing;

impl Channel for Missing {
    fn tell<'a>(&'a self, _: &'a Delivery) -> futures_util::future::BoxFuture<'a, Sent> {
        Box::pin(std::future::ready(Sent::Never("there is no such channel, or it was switched off".to_owned())))
    }
}

#[cfg(test)]
mod tests;
