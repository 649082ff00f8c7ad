//! The owner of the alerts: judges what is due, writes what comes of it, delivers notices.
//!
//! Promises: a verdict, the states that it changes and its notices are one insert; nothing is delivered before it is written; nothing in
//! memory matters, since everything is read back when somebody else takes over. What cannot be written now is written later, the same
//! rows again; meanwhile its rule waits. There is one insert at a time, of all that was gathered; deliveries go on meanwhile.
//! May go wrong: the store is away: then nothing is judged, and all is caught up in order. Another instance has taken the alerts: then
//! nothing of this one is written any more ([`Ended::Lost`]).

mod clock;
mod delays;
mod due;
mod evaluate;
mod owned;
mod quiet;
mod revise;
mod routine;
mod told;
mod turns;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::clock::ClockReading;
use self::delays::{Listener, ToldDelay};
use self::evaluate::{Evaluated, Evaluation, Next, apart, row};
use self::owned::Owned;
use self::turns::Turns;
use super::Parts;
use super::catalogue::{Catalogue, CatalogueSource, KnownRule, Origin, RuleKey};
use super::channel::Delivery;
use super::judge::RuleState;
use super::notice::Notice;
use super::observe::Observed;
use super::outbox::{Ended as Delivered, MOST_WAITING, Outbox};
use super::repeats::{Repeat, Repeats};
use super::target::Sent;
use crate::clickhouse::{ClickHouseError, ErrorClass};
use crate::event::ids::ProjectId;
use crate::failpoint;
use crate::metrics::{self, Gauge};
use crate::store::tables::alert_states::{self, AlertRow, Stored, Writer, kind};

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(500);
/// How long rows wait for others.
const GATHER: Duration = Duration::from_millis(200);
/// How long who is asked to stop waits to hear what became of notices that are on their way, and then for its being written.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often rules and channels are read.
const READ: Duration = Duration::from_secs(3);
/// Why a rule ends of which nothing is known any more.
const GONE: &str = "the rule was deleted or switched off";

/// Why an owner is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was asked to.
    Stopped,
    /// Another one has taken the alerts, or a server has forgotten who has them.
    Lost,
}

/// What came of a rule, to be written.
struct Work {
    rows: Vec<AlertRow>,
    /// The state that the rule has then.
    state: Option<(RuleKey, RuleState)>,
    notices: Vec<(Notice, Vec<String>)>,
}

/// The owner.
pub(super) struct Owner {
    parts: Arc<Parts>,
    writer: Writer,
    catalogue: Catalogue,
    read: Option<Instant>,
    rules: BTreeMap<RuleKey, Owned>,
    outbox: Outbox,
    /// What is told again and again.
    again: Repeats,
    /// Channels that know that rules wait, with what they were told.
    delays: BTreeMap<Listener, ToldDelay>,
    /// States of rules that were read and whose rules are not known yet.
    restored: HashMap<RuleKey, RuleState>,
    unwritten: Vec<Work>,
    /// What is being written.
    in_writing: Vec<Work>,
    /// Rules that are due, with the time since when, and up to when the data is complete.
    queue: VecDeque<(i64, RuleKey)>,
    turns: Turns,
    through: Option<i64>,
    gathered: Option<Instant>,
    heartbeats: HashMap<(u64, String), Instant>,
    /// When the store last answered.
    healthy: Instant,
    /// Whether events have been on their way for so long that nothing is judged.
    stands_still: bool,
    /// What the clock said last.
    clock: Option<ClockReading>,
}

/// The rows that leave nothing of lines that are too many to be remembered.
fn forgotten(key: &RuleKey, state: &mut RuleState, now_ms: i64) -> Vec<AlertRow> {
    let names = state.forget(&Observed::default()).into_iter();
    names.map(|name| row(key, kind::LINE, 0, now_ms).with(name, String::new())).collect()
}

/// Says which channels of a rule are not there: nobody is told through them.
fn warn_of_missing(catalogue: &Catalogue, known: &KnownRule) {
    for channel in catalogue.missing_channels(known) {
        tracing::warn!(rule = %known.key.id, channel, "there is no such channel");
    }
}

/// An insert that goes on; none where it broke off.
type Writing = BoxFuture<'static, Option<Result<(), ClickHouseError>>>;

/// Waits until then; without a time for ever.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What was to be delivered.
#[derive(Clone)]
enum Subject {
    /// A notice of the outbox, by its number.
    Notice(u64),
    /// What is not recorded.
    Repeat(Repeat),
}

/// A delivery that ended.
struct Tried {
    subject: Subject,
    channel: String,
    delivery: Delivery,
    sent: Sent,
}

impl Owner {
    /// Takes the alerts and reads how they stand.
    pub(super) async fn take(parts: Arc<Parts>) -> Result<Self, ClickHouseError> {
        let generation = uuid::Uuid::new_v4().as_u128() as u64 | 1;
        let highest = alert_states::take(&parts.store, generation).await?;
        let writer = Writer { generation, version: highest + 1 };
        let mut owner = Self {
            parts,
            writer,
            catalogue: Catalogue::default(),
            read: None,
            rules: BTreeMap::new(),
            outbox: Outbox::default(),
            again: Repeats::default(),
            delays: BTreeMap::new(),
            restored: HashMap::new(),
            unwritten: Vec::new(),
            in_writing: Vec::new(),
            queue: VecDeque::new(),
            turns: Turns::default(),
            through: None,
            gathered: None,
            heartbeats: HashMap::new(),
            healthy: Instant::now(),
            stands_still: false,
            clock: None,
        };
        owner.restore().await?;
        owner.read_catalogue().await?;
        Ok(owner)
    }

    async fn restore(&mut self) -> Result<(), ClickHouseError> {
        let rows = alert_states::states(&self.parts.store).await?;
        for row in &rows {
            self.restore_row(row);
        }
        let now_ms = (self.parts.now_ms)();
        let forgotten: Vec<AlertRow> = self.restored.iter_mut().flat_map(|(key, state)| forgotten(key, state, now_ms)).collect();
        if !forgotten.is_empty() {
            self.gather(Work { rows: forgotten, state: None, notices: Vec::new() });
        }
        Ok(())
    }

    fn restore_row(&mut self, row: &Stored) {
        let key = RuleKey { project: row.project, id: row.rule.clone() };
        match row.kind.as_str() {
            kind::RULE => {
                let Ok(state) = serde_json::from_str::<RuleState>(&row.body) else { return };
                let lines = std::mem::take(&mut self.restored.entry(key.clone()).or_default().lines);
                self.restored.insert(key, RuleState { lines, ..state });
            }
            kind::LINE => {
                let Ok(line) = serde_json::from_str(&row.body) else { return };
                self.restored.entry(key).or_default().lines.insert(row.entry.clone(), line);
            }
            kind::DELAYED => {
                let Ok(delay) = serde_json::from_str(&row.body) else { return };
                self.delays.insert((row.project, row.entry.clone()), delay);
            }
            _ => self.outbox.restore(row),
        }
    }

    /// Owns the alerts until it is asked to stop or they are lost.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let mut evaluations: FuturesUnordered<Evaluation> = FuturesUnordered::new();
        let mut deliveries = FuturesUnordered::new();
        // One or none.
        let mut writing: FuturesUnordered<Writing> = FuturesUnordered::new();
        let mut looks_for_notices = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.end(deliveries, writing).await;
                    return Ended::Stopped;
                }
                _ = tick.tick() => {
                    if self.read.is_none_or(|read| read.elapsed() >= READ) && let Err(problem) = self.read_catalogue().await {
                        tracing::debug!(%problem, "rules and channels cannot be read");
                    }
                    self.look().await;
                    looks_for_notices = true;
                    deliveries.extend(self.begin_deliveries());
                }
                Some(evaluated) = evaluations.next() => evaluations.extend(self.take_in(evaluated)),
                Some(tried) = deliveries.next() => {
                    self.delivered(tried);
                    // What ended together is written together, and the next ones need not wait for that.
                    while let Some(Some(tried)) = deliveries.next().now_or_never() {
                        self.delivered(tried);
                    }
                    deliveries.extend(self.begin_deliveries());
                }
                Some(ended) = writing.next() => {
                    match ended {
                        Some(Ok(())) => self.written(),
                        Some(Err(problem)) if problem.class() == ErrorClass::Fenced => return Ended::Lost,
                        Some(Err(problem)) => self.write_later(&problem),
                        None => self.write_later(&"writing broke off"),
                    }
                    deliveries.extend(self.begin_deliveries());
                }
                () = due(self.gathered.map(|since| since + GATHER)), if writing.is_empty() => {}
            }
            let free = self.parts.config.max_running.saturating_sub(evaluations.len());
            evaluations.extend(self.begin_due(free));
            let nothing_else = evaluations.is_empty() && deliveries.is_empty();
            if writing.is_empty() && std::mem::take(&mut looks_for_notices) {
                self.read_notices().await;
                deliveries.extend(self.begin_deliveries());
            }
            if writing.is_empty()
                && self.gathered.is_some_and(|since| since <= Instant::now() && (since.elapsed() >= GATHER || nothing_else))
            {
                writing.push(self.write());
            }
        }
    }

    /// Reads notices that found no room, once there is some. Not while something is written: its notices would be told now, and again once
    /// that is known. Nor those of which a row is still to be written: they may have ended.
    async fn read_notices(&mut self) {
        let Some(project) = self.outbox.wants_more() else { return };
        match alert_states::notices(&self.parts.store, project, MOST_WAITING as u64).await {
            Ok(rows) => {
                let to_write = self.unwritten.iter().flat_map(|work| &work.rows).filter(|row| row.kind == kind::OUTBOX);
                self.outbox.more(project, &rows, &to_write.map(|row| row.entry.as_str()).collect());
            }
            Err(problem) => tracing::debug!(%problem, "notices that wait cannot be read"),
        }
    }

    /// Reads which rules and channels there are.
    async fn read_catalogue(&mut self) -> Result<(), ClickHouseError> {
        self.read = Some(Instant::now());
        let files = self.parts.files.now();
        let from = CatalogueSource { files: &files, store: &self.parts.store, trust: &self.parts.trust };
        self.catalogue = Catalogue::read(from, None, &self.catalogue).await?;
        self.healthy = Instant::now();
        self.follow_rules();
        Ok(())
    }

    /// Begins with rules that are new or changed, and ends with those that are gone.
    fn follow_rules(&mut self) {
        let known: Vec<Arc<KnownRule>> = self.catalogue.rules.values().filter(|known| !known.rule.body.disabled).cloned().collect();
        for known in known {
            self.follow_rule(known);
        }
        let is_gone = |key: &RuleKey| self.catalogue.rules.get(key).is_none_or(|known| known.rule.body.disabled);
        let gone: Vec<RuleKey> =
            self.rules.iter().filter(|(key, owned)| is_gone(key) && !owned.is_busy).map(|(key, _)| key.clone()).collect();
        for key in gone {
            if let Some(owned) = self.rules.remove(&key) {
                self.close(&key, &owned, GONE);
            }
        }
        self.close_forgotten();
    }

    /// Ends with rules that went while nobody owned the alerts.
    fn close_forgotten(&mut self) {
        let now_ms = (self.parts.now_ms)();
        for (key, state) in std::mem::take(&mut self.restored) {
            let switched_off = self.catalogue.rules.get(&key).cloned();
            let told_as = || state.told_as.clone().and_then(|told| KnownRule::of(&key, told, Origin::UNSAVED)).map(Arc::new);
            match switched_off.or_else(told_as) {
                Some(known) => self.close(&key, &Owned::new(known, state, now_ms), GONE),
                None => self.forget(&key, &state),
            }
        }
    }

    fn follow_rule(&mut self, known: Arc<KnownRule>) {
        let now_ms = (self.parts.now_ms)();
        let (key, asked) = (known.key.clone(), known.rule.fingerprint());
        let state = self.restored.remove(&key).unwrap_or_else(|| RuleState::begun(now_ms));
        let is_as_it_was = self.rules.get(&key).is_some_and(|owned| Arc::ptr_eq(&owned.known, &known));
        let owned = self.rules.entry(key.clone()).or_insert_with(|| Owned::new(Arc::clone(&known), state, now_ms));
        if owned.is_busy {
            return;
        }
        if !is_as_it_was {
            warn_of_missing(&self.catalogue, &known);
        }
        let was = std::mem::replace(&mut owned.state.asked, asked);
        if was != 0 && was != asked {
            let state = std::mem::replace(&mut owned.state, RuleState { asked, ..RuleState::begun(now_ms) });
            let ended = Owned::new(std::mem::replace(&mut owned.known, known), state, owned.since_ms);
            owned.since_ms = now_ms;
            let told = ended.state.cursor;
            self.close(&key, &ended, "the rule asks something else now");
            self.begin_reports(&key, told);
        } else {
            owned.known = known;
            self.begin_reports(&key, None);
            self.change_channels(&key);
        }
    }

    fn gather(&mut self, work: Work) {
        self.unwritten.push(work);
        self.gathered.get_or_insert_with(Instant::now);
    }

    /// Begins to write what was gathered, as one insert. Nothing else may be in writing.
    fn write(&mut self) -> Writing {
        self.gathered = None;
        self.in_writing = std::mem::take(&mut self.unwritten);
        let rows: Vec<AlertRow> = self.in_writing.iter().flat_map(|work| work.rows.iter().cloned()).collect();
        let (store, writer) = (self.parts.store.clone(), self.writer);
        let insert = async move { Some(if rows.is_empty() { Ok(()) } else { alert_states::insert(&store, writer, &rows).await }) };
        apart(insert, None)
    }

    /// Writes what became of the notices that are on their way: else the next owner would tell them once more.
    async fn end(&mut self, mut deliveries: FuturesUnordered<BoxFuture<'static, Tried>>, mut writing: FuturesUnordered<Writing>) {
        let told_by = Instant::now() + LAST_WORDS;
        while let Ok(Some(tried)) = tokio::time::timeout_at(told_by, deliveries.next()).await {
            self.delivered(tried);
        }
        let written = async {
            match writing.next().await {
                Some(Some(Ok(()))) => self.written(),
                Some(Some(Err(problem))) if problem.class() == ErrorClass::Fenced => return,
                Some(Some(Err(problem))) => self.write_later(&problem),
                Some(None) => self.write_later(&"writing broke off"),
                None => {}
            }
            if !self.unwritten.is_empty() {
                let _ = self.write().await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, written).await;
    }

    /// Keeps what could not be written, before what came since: the same rows are written again.
    fn write_later(&mut self, problem: &dyn std::fmt::Display) {
        tracing::warn!(%problem, "alerts cannot be written yet");
        let since = std::mem::take(&mut self.unwritten);
        self.unwritten = std::mem::take(&mut self.in_writing);
        self.unwritten.extend(since);
        self.gathered = Some(Instant::now() + TICK);
    }

    /// Lets what was written count.
    fn written(&mut self) {
        let written = std::mem::take(&mut self.in_writing);
        self.writer.version += written.iter().map(|work| work.rows.len() as u64).sum::<u64>();
        if written.iter().any(|work| !work.notices.is_empty()) {
            failpoint::point("alert.written");
        }
        let now_ms = (self.parts.now_ms)();
        for work in written {
            for (notice, channels) in &work.notices {
                self.again.forget(notice.project, &notice.rule);
                self.outbox.add(notice, channels, now_ms);
            }
            let Some((key, state)) = work.state else { continue };
            if let Some(owned) = self.rules.get_mut(&key) {
                (owned.state, owned.is_busy) = (state, false);
            }
        }
    }

    /// Takes note of a delivery that ended.
    fn delivered(&mut self, tried: Tried) {
        let Tried { subject, channel, delivery, sent } = tried;
        let kind = delivery.notice.kind.as_str();
        let number = match subject {
            Subject::Notice(number) => number,
            Subject::Repeat(repeat) => {
                // The next one follows soon: it is not kept, but it is counted.
                let told = self.again.end(&repeat, sent.is_taken(), Instant::now()).unwrap_or_default();
                let (project, id) = repeat.channel();
                let named = self.catalogue.channel(ProjectId(project), id);
                let off = named.and_then(|named| self.outbox.heed(&sent, named, told, (self.parts.now_ms)()));
                off.into_iter().for_each(|row| self.gather(Work { rows: vec![row], state: None, notices: Vec::new() }));
                let outcome = Delivered::of(&sent).as_str();
                if !sent.is_taken() {
                    tracing::debug!(%channel, kind, outcome, "what is told again and again was not delivered");
                }
                return metrics::Delivered { kind, channel: &channel, outcome }.count();
            }
        };
        failpoint::point("alert.answered");
        let (rows, ended) = self.outbox.end(number, sent, &self.catalogue, (self.parts.now_ms)());
        metrics::Delivered { kind, channel: &channel, outcome: ended.as_str() }.count();
        if !rows.is_empty() {
            self.gather(Work { rows, state: None, notices: Vec::new() });
        }
    }

    /// Takes in how far a rule is; what is to be done next about it, if there is something.
    fn take_in(&mut self, evaluated: Evaluated) -> Option<Evaluation> {
        let project = evaluated.project();
        match self.evaluated(evaluated) {
            Next::Judge(judging) => return Some(judging),
            Next::Write(work) => self.gather(*work),
            Next::Nothing => {}
        }
        self.turns.end(project);
        Gauge::AlertsWaiting.set(self.outbox.len() as f64);
        None
    }
}
