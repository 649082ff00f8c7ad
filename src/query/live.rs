//! Live: what comes in, second by second, as server-sent events straight from the tail of the log.
//!
//! One follower reads the enriched topic for all who watch, and only while somebody does. What it reads of projects that are watched it
//! counts by second ([`second`]), shows some events of, and keeps the last messages, with which one who was cut off goes on
//! ([`stream`]). It is read before copies are told apart: a copy counts here and in no report.
//! Promises: a slow reader misses messages, is told how many, and holds up nobody; what is held is bounded by projects and by messages,
//! not by readers or traffic; a stop ends all streams.
//! Costs: decoding every event while anybody watches; a reader a pointer to each message. May go wrong: the log deletes what was not read in
//! time; then `missed` says how many records that were.

mod second;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::second::Second;
pub(super) use self::stream::{Wanted, Watch, messages};
use super::error::QueryError;
use crate::clock;
use crate::event::ids::ProjectId;
use crate::event::packed::{EnrichedEvents, Fields};
use crate::event::record::{self, Enriched};
use crate::log::{Followed, Log, LogError, Record, Topic, TopicFollower};

/// Counters come this often.
const SECOND: Duration = Duration::from_secs(1);
/// Messages of a project that are kept for readers who are slow or were cut off.
const KEPT: usize = 1_024;
/// Most readers of an instance.
const MOST_READERS: usize = 5_000;
/// A project that nobody watches is forgotten after so many seconds: one who was cut off comes back within moments.
const IDLE: u32 = 60;
/// Before a log that does not answer is followed again.
const PAUSE: Duration = Duration::from_secs(1);

/// A message to the readers of a project.
#[derive(Clone, Debug)]
struct Message {
    number: u64,
    /// The type of the event that it shows; none for counters.
    event_type: Option<Arc<str>>,
    /// As it is sent.
    text: Bytes,
}

/// What is told of the projects that are watched. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live(Arc<Shared>);

struct Shared {
    /// Tells messages of this process from those of another.
    instance: u64,
    projects: Mutex<HashMap<ProjectId, Project>>,
    /// Somebody has begun to watch.
    watched: Notify,
}

/// A project that is watched.
struct Project {
    second: Second,
    sender: broadcast::Sender<Message>,
    kept: VecDeque<Message>,
    next: u64,
    /// Seconds without a reader.
    idle: u32,
}

impl Project {
    fn new() -> Self {
        Self { second: Second::default(), sender: broadcast::Sender::new(KEPT), kept: VecDeque::new(), next: 1, idle: 0 }
    }

    fn send(&mut self, instance: u64, kind: &str, event_type: Option<Arc<str>>, data: &str) {
        let number = self.next;
        self.next += 1;
        let text = Bytes::from(format!("id: {instance:x}-{number}\nevent: {kind}\ndata: {data}\n\n"));
        let message = Message { number, event_type, text };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(message.clone());
        // Without readers it is kept alone.
        let _ = self.sender.send(message);
    }
}

impl Live {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { instance: uuid::Uuid::new_v4().as_u64_pair().0, projects: Mutex::default(), watched: Notify::new() }))
    }

    fn projects(&self) -> MutexGuard<'_, HashMap<ProjectId, Project>> {
        self.0.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch `project`, behind the message that a reader has seen last if that is known and still kept.
    ///
    /// # Errors
    /// 503 `too_many_watch`.
    pub(super) fn watch(&self, project: ProjectId, last_id: Option<&str>) -> Result<Watch, QueryError> {
        let mut projects = self.projects();
        let of_project = projects.get(&project).map_or(0, |project| project.sender.receiver_count());
        let of_all = projects.values().map(|project| project.sender.receiver_count()).sum::<usize>();
        // One project leaves half of the places to the others.
        if of_all >= MOST_READERS || of_project >= MOST_READERS / 2 {
            return Err(QueryError::unavailable("too_many_watch", "too many watch this instance"));
        }
        let watched = projects.entry(project).or_insert_with(Project::new);
        let last = last_id.and_then(|id| {
            let (instance, number) = id.split_once('-')?;
            (u64::from_str_radix(instance, 16).ok()? == self.0.instance).then(|| number.parse::<u64>().ok())?
        });
        let first = watched.kept.front().map_or(watched.next, |message| message.number);
        let missed = last.map_or(0, |last| first.saturating_sub(last.saturating_add(1)));
        let kept = watched.kept.iter().filter(|message| last.is_some_and(|last| message.number > last)).cloned().collect();
        let watch = Watch { is_resumed: last.is_some(), missed, kept, receiver: watched.sender.subscribe() };
        drop(projects);
        self.0.watched.notify_one();
        Ok(watch)
    }

    /// Follows `log` while somebody watches, until asked to stop; then all streams end.
    pub(super) async fn follow<L: Log>(self, log: L, stop: CancellationToken) -> Result<(), Infallible> {
        let following = async {
            loop {
                if !self.projects().is_empty() {
                    if let Err(problem) = self.follow_once(&log).await {
                        tracing::warn!(%problem, "the tail of the log cannot be followed");
                        tokio::time::sleep(PAUSE).await;
                    }
                } else {
                    self.0.watched.notified().await;
                }
            }
        };
        stop.run_until_cancelled(following).await;
        self.projects().clear();
        Ok(())
    }

    /// Until nobody watches.
    async fn follow_once<L: Log>(&self, log: &L) -> Result<(), LogError> {
        let mut follower = log.follow(Topic::Enriched).await?;
        let mut content = Enriched::default();
        let mut seconds = interval_at(Instant::now() + SECOND, SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = seconds.tick() => {
                    if !self.end_second() {
                        return Ok(());
                    }
                }
                followed = follower.next() => match followed? {
                    Followed::Records { records, .. } => records.iter().for_each(|record| self.count(record, &mut content)),
                    Followed::Overtaken { lost, .. } => self.overtaken(lost.end - lost.start),
                }
            }
        }
    }

    /// Sends the counters of the second; `false` if nobody watches any more.
    fn end_second(&self) -> bool {
        let now_ms = clock::now_ms();
        let mut projects = self.projects();
        for project in projects.values_mut() {
            project.idle = if project.sender.receiver_count() > 0 { 0 } else { project.idle + 1 };
            let counters = project.second.end(now_ms);
            project.send(self.0.instance, "counters", None, &counters);
        }
        projects.retain(|_, project| project.idle < IDLE);
        !projects.is_empty()
    }

    fn count(&self, record: &Record, content: &mut Enriched) {
        let Ok(header) = record::header(&record.payload) else { return };
        let mut projects = self.projects();
        // History that is imported is not live.
        if header.source != 0 || !header.tallies.0.iter().any(|tally| projects.contains_key(&tally.project)) {
            return;
        }
        for tally in &header.tallies.0 {
            if let Some(project) = projects.get_mut(&tally.project) {
                project.second.ended(tally);
            }
        }
        let Ok(header) = record::decode_enriched(&record.payload, content) else { return };
        for (event, enrichment) in EnrichedEvents::new(&content.events, &content.enrichments) {
            let of = header.projects.get(usize::from(event.header.project));
            let Some(project) = of.and_then(|project| projects.get_mut(project)) else { continue };
            let Some(fields) = Fields::enriched(&event, enrichment) else { continue };
            if let Some((event_type, shown)) = project.second.event(&event.header, &fields) {
                project.send(self.0.instance, "event", Some(event_type), &shown);
            }
        }
    }

    fn overtaken(&self, records: i64) {
        for project in self.projects().values_mut() {
            project.send(self.0.instance, "missed", None, &format!("{{\"records\":{records}}}"));
        }
    }
}
